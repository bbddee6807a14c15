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
from steno.cli.diarise_export import (
    ConfidenceOption,
    ConversationOption,
    FormatOption,
    OutOption,
    TurnsOption,
    export,
    export_signal,
    nothing_met,
    written,
)
from steno.cli.diarise_report import report
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
CAUSES_TOLD = 20
"""Conversations whose cause gets a line; the report has them all."""


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


app.command("export")(export)
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
    from steno.app.capability import RunOptions
    from steno.app.exports import is_appended
    from steno.app.gateway import run_gateway

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
            export_now=export_signal(),
        ),
    )
    progress.end()
    cut_off = bool(events) and stop.is_set()
    details = totals.pop("diarisation")
    _tell_causes(out, details["causes"])
    follows = settings.diarisation.follow and is_appended(request)
    exported, code = await written(settings, out, request, stop, followed=follows)
    if code is ExitCode.NOTHING_FOUND:
        out.note(await nothing_met(settings, request, details["audited"]))
    if events and code in (ExitCode.DONE, ExitCode.NOTHING_FOUND):
        code = _told_of_input(out, details["recorded"], cut_off=cut_off) or code
    if out.json and request.out != "-":
        out.result({**totals, **details, "export": exported})
    return code


def _told_of_input(out: Output, read: dict[str, int], *, cut_off: bool) -> ExitCode | None:
    """Say what was not read of recorded events; return the exit code if that is a failure."""
    if read["malformed"]:
        out.note(f"{read['malformed']} of the recorded messages could not be read")
    if cut_off:
        out.note("interrupted: not all of the recorded events were read")
        return ExitCode.INTERRUPTED
    if read["damaged"]:
        out.note(f"{read['damaged']} of the inputs is damaged, or ends in the middle")
        return ExitCode.FAILED
    return None


def _tell_causes(out: Output, causes: list[dict[str, str]]) -> None:
    for cause in causes[:CAUSES_TOLD]:
        out.note(f"conversation {cause['conversation']}: {CAUSES[cause['reason']]}")
    if len(causes) > CAUSES_TOLD:
        out.note(f"and {len(causes) - CAUSES_TOLD} more conversations: see steno diarise report")
