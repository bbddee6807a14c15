"""``steno diarise export``, and the export with which collecting ends."""

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
    run_async,
)
from steno.cli.diarise_report import instant_us

if TYPE_CHECKING:
    import asyncio

    from steno.app.exports import ExportRequest
    from steno.config import Config

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


def export_signal() -> asyncio.Event:
    """Return what SIGUSR1 sets: an export is wanted in between. Called on the loop."""
    import asyncio
    import signal

    wanted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, wanted.set)
    return wanted


async def _export(
    settings: Config, out: Output, request: ExportRequest, stop: asyncio.Event
) -> int:
    exported, code = await written(settings, out, request, stop)
    if code is ExitCode.NOTHING_FOUND:
        out.note(await nothing_met(settings, request))
    if out.json and request.out != "-":
        out.result(exported)
    return code


async def written(
    settings: Config,
    out: Output,
    request: ExportRequest,
    stop: asyncio.Event,
    *,
    followed: bool = False,
) -> tuple[dict[str, object], ExitCode]:
    """Export in a thread, so that a signal can end it; return the report and the exit code.

    Args:
        followed: It was appended to while it came; whether all of it was is found out.
    """
    import asyncio
    import threading

    import msgspec

    from steno.app.exports import export_stored

    database = _database(settings)
    if followed:
        return await _followed(database, request, out)
    progress = Progress("exported", unit="segments")
    ended = threading.Event()
    interrupted = stop.is_set()  # the signal that ended the collecting is not this work's
    waiter = asyncio.create_task(stop.wait(), name="stop")
    if not interrupted:
        waiter.add_done_callback(lambda done: None if done.cancelled() else ended.set())
    try:
        report = await asyncio.to_thread(
            export_stored,
            database,
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


async def _followed(
    database: Path, request: ExportRequest, out: Output
) -> tuple[dict[str, object], ExitCode]:
    import asyncio

    from steno.app.exports import any_met, left_to_append

    left = await asyncio.to_thread(left_to_append, database)
    if left:
        out.note(
            f"{left} segments could not be appended; they are stored, for the next run that follows"
            " and for steno diarise export"
        )
        return {"followed": True, "left": left}, ExitCode.FAILED
    met = await asyncio.to_thread(any_met, database, request)
    return {"followed": True, "left": 0}, ExitCode.DONE if met else ExitCode.NOTHING_FOUND


async def nothing_met(
    settings: Config, request: ExportRequest, audited: dict[str, int] | None = None
) -> str:
    """Return, in words, why there is nothing to export.

    Args:
        audited: What this run has left out, by reason.
    """
    import asyncio
    from dataclasses import replace

    from steno.app.exports import any_met

    anything = replace(request, min_confidence=0.0)
    if not audited and not await asyncio.to_thread(any_met, _database(settings), anything):
        chosen = request.conversations or request.since_us
        return f"no segment {'that was asked for ' if chosen else ''}is stored in this state folder"
    left = ", ".join(f"{reason} {count}" for reason, count in sorted((audited or {}).items()))
    return f"no segment met the confidence threshold {request.min_confidence:g}" + (
        f"; not in the result: {left}" if left else ""
    )


def _database(settings: Config) -> Path:
    from steno.adapters.state_dir import StateDir

    return StateDir(settings.state_dir).database
