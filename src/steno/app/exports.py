"""Exports of stored segments: asked for, at the end, or while they come in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from steno.config import Config
from steno.core.records import Kind
from steno.diarisation.exports import (
    FollowForm,
    Format,
    columns,
    follow_form,
    format_of,
    text_form,
)
from steno.diarisation.views import SegmentView, turns, views
from steno.errors import ObjectMissing, StenoError
from steno.ports import Sink, Telemetry, Timeline

if TYPE_CHECKING:
    from steno.adapters.exports import ExportReport, Form

FOLLOWED = "export.followed"
"""Destination of the export that is appended to; no setting can name one so. It is the same for
every file: a store knows a limited number of destinations in its life, and what one file did not
get before the end of a run would else wait, and be kept, for a run that follows it again."""

END_S = 5.0
"""How long an export may take to notice that it is to end."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is exported, how and where to.

    Attributes:
        out: A file, ``-``, or an object store's address; may hold ``{conversation}``.
        pause_s: Segments of one speaker with no longer pause become one turn; None: none do.
        conversations: Only these; empty for all.
        since_us: Only conversations with a segment stored at or after it, UTC microseconds.
    """

    out: str
    format: Format
    min_confidence: float
    pause_s: float | None = None
    conversations: tuple[str, ...] = ()
    since_us: int = 0


def form_of(out: str, given: str | None) -> Format:
    """Return the format: as given, else by the ending of ``out``, else the document's JSON."""
    return Format(given) if given is not None else format_of(out) or Format.JSON


def request_of(config: Config) -> ExportRequest:
    """Return the export that the settings describe."""
    wanted = config.diarisation
    return ExportRequest(
        out=wanted.out,
        format=form_of(wanted.out, wanted.format),
        min_confidence=wanted.min_confidence,
        conversations=wanted.conversations,
    )


def is_appended(request: ExportRequest) -> bool:
    """Tell whether a following export is appended to rather than replaced."""
    return _follow_form(request) is not None


def _follow_form(request: ExportRequest) -> FollowForm | None:
    if request.pause_s is not None or "://" in request.out:
        return None
    return follow_form(request.format, min_confidence=request.min_confidence)


def following_sink(config: Config) -> Sink | None:
    """Build the sink that appends to the configured export; None where there is none.

    Raises:
        ConfigError: The path cannot hold the format.
    """
    request = request_of(config)
    form = _follow_form(request)
    if not (config.diarisation.follow and request.out) or form is None:
        return None
    from steno.adapters.sinks.segments import SegmentLinesSink

    return SegmentLinesSink(
        request.out,
        form=form,
        name=FOLLOWED,
        one_conversation=len(request.conversations) == 1,
    )


def require_export(config: Config, request: ExportRequest) -> None:
    """Find out before the collecting that its export could not be written.

    Raises:
        ConfigError: It could not.
    """
    from steno.adapters.exports import require_target

    appended = config.diarisation.follow and is_appended(request)
    require_target(request.out, replaced=not appended)


def export_stored(
    database: Path,
    request: ExportRequest,
    *,
    progress: Callable[[int], None] | None = None,
    stop: Event | None = None,
) -> ExportReport:
    """Export what is stored; blocks on the disk. Nothing is written where nothing fits.

    Args:
        database: The store; it may have a running owner.
        progress: Told the number of segments so far.
        stop: Ends the export early; nothing is written then.

    Raises:
        ConfigError: The target or format cannot work.
        StorageError: Reading or writing failed.
    """
    from steno.adapters.exports import ExportReport, export, require_target
    from steno.adapters.store_sqlite.timeline import TimelineReader

    require_target(request.out)
    try:
        reader = TimelineReader(database)
    except ObjectMissing:
        return ExportReport()
    with reader:
        return export(
            _conversations(reader, request),
            _form(request.format),
            request.out,
            progress=progress,
            stop=stop,
        )


async def export_once(database: Path, request: ExportRequest, telemetry: Telemetry) -> None:
    """Export beside the collecting, and log how that went.

    When it is cancelled it returns once nothing is written any more: the export at the end
    writes the same file.
    """
    began = time.monotonic()
    ended = Event()
    writing = asyncio.ensure_future(asyncio.to_thread(export_stored, database, request, stop=ended))
    # When we are cancelled, nobody asks what came of it.
    writing.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    try:
        report = await asyncio.shield(writing)
    except asyncio.CancelledError:
        ended.set()
        await asyncio.wait([writing], timeout=END_S)
        raise
    except Exception as error:  # noqa: BLE001 - an export must not end the collecting
        name = error.error_class if isinstance(error, StenoError) else type(error).__name__
        telemetry.warning("diarisation.export_failed", error_class=name)
        return
    telemetry.info(
        "diarisation.exported",
        count=report.segments,
        conversations=report.conversations,
        duration_s=round(time.monotonic() - began, 3),
    )


def any_met(database: Path, request: ExportRequest) -> bool:
    """Tell whether an export would hold anything; blocks on the disk.

    Raises:
        StorageError: Reading failed.
    """
    from steno.adapters.store_sqlite.timeline import TimelineReader

    try:
        reader = TimelineReader(database)
    except ObjectMissing:
        return False
    with reader:
        found = _conversations(reader, request)
        return any(next(segments, None) is not None for _, segments in found)


def left_to_append(database: Path) -> int:
    """Return how many stored segments the followed export has not got; blocks on the disk.

    Raises:
        StorageError: Reading failed.
    """
    from steno.adapters.store_sqlite import OutboxReader

    with OutboxReader(database) as reader:
        found = reader.counts().get(FOLLOWED)
    return found.pending + found.retry if found is not None else 0


def _form(wanted: Format) -> Form[SegmentView]:
    form = text_form(wanted)
    if form is not None:
        return form
    from steno.adapters.exports.parquet import ParquetForm

    return ParquetForm(columns)


def _conversations(
    reader: Timeline, request: ExportRequest
) -> Iterator[tuple[str, Iterator[SegmentView]]]:
    for conversation in chosen(reader, request.conversations, request.since_us):
        found = views(
            reader.read(conversation, Kind.SEGMENT), min_confidence=request.min_confidence
        )
        if request.pause_s is not None:
            found = turns(found, request.pause_s)
        yield conversation, found


def chosen(reader: Timeline, conversations: tuple[str, ...], since_us: int) -> Iterator[str]:
    """Yield the names of the conversations that are asked for and have segments."""
    for wanted in dict.fromkeys(conversations) if conversations else (None,):
        for entry in reader.conversations(Kind.SEGMENT, since_us=since_us, conversation=wanted):
            yield entry.conversation
