"""Exports of stored segments: asked for, at the end, or while they come in."""

from __future__ import annotations

import hashlib
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
from steno.errors import ObjectMissing
from steno.ports import Sink, Timeline

if TYPE_CHECKING:
    from steno.adapters.exports import ExportReport, Form


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

    told = f"{request.out}\n{request.format}\n{request.min_confidence}"
    return SegmentLinesSink(
        request.out,
        form=form,
        # Another file is another destination: what one has is no promise for the other.
        name=f"export-{hashlib.sha256(told.encode()).hexdigest()[:8]}",
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
