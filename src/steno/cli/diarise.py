"""``steno diarise``: collect speaker segments, and export, report and score what was collected."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from steno.cli.common import (
    ConfigOption,
    ExitCode,
    JsonOption,
    LogLevelOption,
    Output,
    Progress,
    StateDirOption,
    load_settings,
    make_telemetry,
    run_async,
)
from steno.cli.diarise_report import instant_us, report
from steno.cli.diarise_score import score

if TYPE_CHECKING:
    import asyncio

    from steno.app.exports import ExportRequest
    from steno.config import Config

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

CAUSES = {
    "no_speaker_labels": "no segment names a speaker: the transcription provider does not tell "
    "speakers apart, or diarisation is off for this language",
    "no_participants": "no segment can be given to a speaker: the transcription tells no channel, "
    "or the platform no participant on it; the client may lack the permission to see them",
    "no_finals": "only partial segments came, none became final",
}
"""Likely causes of a conversation of which nothing is in the result, and what they mean."""

Format = Literal["json", "jsonl", "csv", "parquet", "rttm", "srt", "vtt"]

OutOption = Annotated[
    str | None,
    typer.Option(
        help="File, - (standard output), or s3://, gs://, az://, file:///. {conversation} in it "
        "makes one export of each conversation. [default: -]",
        metavar="WHERE",
        show_default=False,
    ),
]
FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format", help="By the ending of --out when not given, else json.", show_default=False
    ),
]
ConfidenceOption = Annotated[
    float | None,
    typer.Option(
        help="Leave out segments below this confidence (0.85 unless set).",
        min=0.0,
        max=1.0,
        show_default=False,
    ),
]
TurnsOption = Annotated[
    float | None,
    typer.Option(
        "--turns",
        help="Merge segments of one speaker whose pause is at most so many seconds.",
        metavar="PAUSE_S",
        min=0.0,
        show_default=False,
    ),
]
ConversationOption = Annotated[
    list[str] | None,
    typer.Option(help="Only this conversation; repeat for more.", metavar="ID"),
]


@app.callback()
def diarise(
    context: typer.Context,
    source: Annotated[
        Literal["event-socket", "notifications"] | None,
        typer.Option(help="Where conversation events come from.", show_default=False),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Platform host: name, https://name, or ws://host:port on loopback.",
            show_default=False,
        ),
    ] = None,
    backup_host: Annotated[
        str | None, typer.Option(help="Host of the backup region.", show_default=False)
    ] = None,
    conversation: ConversationOption = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(help="Notifications: collect the calls of this queue.", metavar="ID"),
    ] = None,
    user: Annotated[
        list[str] | None,
        typer.Option(help="Notifications: collect the calls of this user.", metavar="ID"),
    ] = None,
    events: Annotated[
        list[str] | None,
        typer.Option(
            help="Recorded events (JSON lines, may be gzipped) in place of a live source; - is "
            "standard input. Repeat for more.",
            metavar="FILE",
        ),
    ] = None,
    out: OutOption = None,
    output_format: FormatOption = None,
    min_confidence: ConfidenceOption = None,
    turns: TurnsOption = None,
    follow: Annotated[
        bool | None,
        typer.Option(
            "--follow/--no-follow",
            help="Export while running: jsonl, csv and vtt are appended to, the others replaced "
            "whole at an interval.",
            show_default=False,
        ),
    ] = None,
    interval_s: Annotated[
        float | None,
        typer.Option(help="--follow: seconds between replacements.", show_default=False),
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(
            help="File to append the segments to that do not enter the result, with the reason.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(
            help="File to append the segments to as records, as they come (JSON lines).",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    grpc: Annotated[
        str | None,
        typer.Option(
            help="gRPC consumer to deliver segments to, as they come.",
            metavar="HOST:PORT",
            show_default=False,
        ),
    ] = None,
    health: Annotated[
        str | None,
        typer.Option(
            help="Address of health and metrics; empty for none.",
            metavar="HOST:PORT",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Collect speaker segments until SIGTERM or Ctrl-C, then export them.

    Example: GENESYS_ENV=api.mypurecloud.com GENESYS_CLIENT_ID=… GENESYS_CLIENT_SECRET=…
    steno diarise --out segments.json

    Segments are kept in the state directory: a run can stop and go on, and `steno diarise export`
    and `report` work beside it. SIGUSR1 exports in between. Exits 5 when no segment meets the
    threshold. With --json the totals follow on standard output (when the export goes elsewhere).
    """
    if context.invoked_subcommand is not None:
        return
    settings = load_settings(
        config,
        state_dir=state_dir,
        log_level=log_level,
        overrides={
            "diarisation.source": source,
            "platform.host": host,
            "platform.backup_host": backup_host,
            "diarisation.conversations": tuple(conversation) if conversation else None,
            "diarisation.queues": tuple(queue) if queue else None,
            "diarisation.users": tuple(user) if user else None,
            "diarisation.out": out,
            "diarisation.format": output_format,
            "diarisation.min_confidence": min_confidence,
            "diarisation.follow": follow,
            "diarisation.interval_s": interval_s,
            "observability.listen": health,
            "delivery.destinations": _destinations(grpc, records, audit),
        },
    )
    raise typer.Exit(_collect(settings, Output(json=json), tuple(events or ()), turns))


@app.command("export")
def export(
    out: OutOption = None,
    output_format: FormatOption = None,
    min_confidence: ConfidenceOption = None,
    turns: TurnsOption = None,
    conversation: ConversationOption = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Only conversations with a segment stored since (RFC 3339, or a date).",
            metavar="TIME",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Export what has been collected, also beside a running `steno diarise`.

    Exits 5 when no segment meets the threshold.

    Example: steno diarise export --format vtt --out 'calls/{conversation}.vtt'
    """
    from steno.app.exports import ExportRequest, form_of

    overrides: dict[str, object] = {"diarisation.min_confidence": min_confidence}
    settings = load_settings(config, state_dir=state_dir, log_level=log_level, overrides=overrides)
    where = out or settings.diarisation.out or "-"
    request = ExportRequest(
        out=where,
        format=form_of(where, output_format or (None if out else settings.diarisation.format)),
        min_confidence=settings.diarisation.min_confidence,
        pause_s=turns,
        conversations=tuple(conversation or ()),
        since_us=instant_us(since),
    )
    raise typer.Exit(run_async(lambda stop: _export(settings, Output(json=json), request, stop)))


app.command("report")(report)
app.command("score")(score)


def _destinations(
    grpc: str | None, records: Path | None, audit: Path | None
) -> tuple[dict[str, object], ...] | None:
    from steno.cli.live import destinations_of_options

    found = list(destinations_of_options(grpc, records) or ())
    if audit is not None:
        found.append(
            {"type": "jsonl", "name": "audit", "path": str(audit), "kinds": ["segment_audit"]}
        )
    return tuple(found) or None


def _collect(settings: Config, out: Output, events: tuple[str, ...], pause_s: float | None) -> int:
    """Collect until the end, then export; return the exit code."""
    from dataclasses import replace

    from msgspec import structs

    from steno.app.exports import is_appended, request_of
    from steno.config import require_diarisation
    from steno.errors import ConfigError

    if not events:
        require_diarisation(settings)
    where = settings.diarisation.out or "-"
    settings = structs.replace(
        settings, diarisation=structs.replace(settings.diarisation, out=where)
    )
    request = replace(request_of(settings), pause_s=pause_s)
    follows = settings.diarisation.follow
    if follows and pause_s is not None:
        raise ConfigError("turns are merged when all is known", setting="--follow", fix="Not both.")
    if follows and where == "-" and not is_appended(request):
        raise ConfigError(
            "this format cannot be followed on standard output",
            setting="--follow",
            fix="Name a file with --out, or take --format jsonl.",
        )
    return run_async(lambda stop: _run(settings, out, request, events, stop))


async def _run(
    settings: Config,
    out: Output,
    request: ExportRequest,
    events: tuple[str, ...],
    stop: asyncio.Event,
) -> int:
    import asyncio
    import signal

    from steno.app import run_gateway
    from steno.app.capability import RunOptions
    from steno.app.exports import is_appended

    export_now = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, export_now.set)
    progress = Progress("read", unit="MB", scale=1e-6)
    totals = await run_gateway(
        settings,
        stop=stop,
        telemetry=make_telemetry(settings),
        features=("diarisation",),
        options=RunOptions(
            events=events,
            on_progress=progress.show if events else None,
            export=request,
            export_now=export_now,
        ),
    )
    progress.end()
    details = totals.pop("diarisation")
    for cause in details["causes"]:
        out.note(f"conversation {cause['conversation']}: {CAUSES[cause['reason']]}")
    if settings.diarisation.follow and is_appended(request):
        exported: dict[str, object] = {"segments": totals["segments"]}
        code = ExitCode.DONE if totals["segments"] else ExitCode.NOTHING_FOUND
    else:
        exported, code = await _written(settings, out, request, stop)
    if code is ExitCode.NOTHING_FOUND:
        out.note(_nothing(settings, details["audited"]))
    if out.json and request.out != "-":
        out.result({**totals, **details, "export": exported})
    return code


async def _export(
    settings: Config, out: Output, request: ExportRequest, stop: asyncio.Event
) -> int:
    exported, code = await _written(settings, out, request, stop)
    if code is ExitCode.NOTHING_FOUND:
        out.note(_nothing(settings, {}))
    if out.json and request.out != "-":
        out.result(exported)
    return code


async def _written(
    settings: Config, out: Output, request: ExportRequest, stop: asyncio.Event
) -> tuple[dict[str, object], ExitCode]:
    """Export in a thread, so that a signal can end it; return the report and the exit code."""
    import asyncio
    import threading

    import msgspec

    from steno.adapters.state_dir import StateDir
    from steno.app.exports import export_stored

    progress = Progress("exported", unit="segments")
    ended = threading.Event()
    interrupted = stop.is_set()  # the signal that ended the collecting is not this work's
    waiter = asyncio.create_task(stop.wait(), name="stop")
    if not interrupted:
        waiter.add_done_callback(lambda done: None if done.cancelled() else ended.set())
    try:
        report = await asyncio.to_thread(
            export_stored,
            StateDir(settings.state_dir).database,
            request,
            progress=lambda segments: progress.show(segments, 0),
            stop=ended,
        )
    finally:
        waiter.cancel()
        progress.end()
    facts = msgspec.to_builtins(report)
    if ended.is_set():
        return facts, ExitCode.INTERRUPTED
    if not report.segments and not report.cut_short:
        return facts, ExitCode.NOTHING_FOUND
    if request.out != "-":
        out.note(
            f"{report.segments} segments of {report.conversations} conversations exported"
            f" ({request.format})"
        )
    return facts, ExitCode.DONE


def _nothing(settings: Config, audited: dict[str, int]) -> str:
    left = ", ".join(f"{reason} {count}" for reason, count in sorted(audited.items()))
    threshold = settings.diarisation.min_confidence
    return f"no segment met the confidence threshold {threshold:g}" + (
        f"; not in the result: {left}" if left else ""
    )
