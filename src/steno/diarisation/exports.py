"""Formats of an export: views in, pieces of bytes out, in flat memory.

What each format keeps:

- ``json``: the tutorial's shape: ``segments`` with its eight keys, then ``totalSegments``.
- ``jsonl``: one object a line, with everything known of a segment. The form without loss.
- ``csv``: the same columns (RFC 4180). A text that a spreadsheet would take for a formula gets
  a leading apostrophe, and a CR LF inside a text is written as LF.
- ``rttm``: who speaks when, without words; names percent-encoded (``core.subtitles``).
- ``srt``, ``vtt``: subtitles of one conversation.

Parquet is not text: ``adapters.exports.parquet`` writes it, with the columns of ``jsonl``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import msgspec

from steno.core.records import Record
from steno.core.subtitles import VTT_HEADER, rttm_line, srt_cue, vtt_cue
from steno.diarisation.views import SegmentView, payload_of, view_of, zero_of
from steno.errors import ConfigError

BATCH: Final = 512
"""Segments in one piece of bytes: some 100 KB."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = 1_000_000
_QUOTED: Final = re.compile('[",\r\n]')
_FORMULA: Final = frozenset("=+-@\t\r\n＝＋－＠")


class Format(StrEnum):
    """What an export is written as."""

    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    RTTM = "rttm"
    SRT = "srt"
    VTT = "vtt"


_ENDINGS: Final = frozenset(form.value for form in Format)


class DocumentSegment(msgspec.Struct, frozen=True, gc=False):
    """A segment in the tutorial's shape. ``timestamp``: receipt of the deciding event, UTC."""

    conversation_id: str
    speaker: str
    text: str
    start_seconds: float
    end_seconds: float
    confidence: float
    is_final: bool
    timestamp: datetime


class SegmentLine(DocumentSegment, frozen=True, gc=False):
    """A line of the JSON lines form: the tutorial's keys, then ours."""

    role: str
    language: str
    participant: str
    user_id: str
    name: str
    communication: str
    overlap: bool
    key: str
    revision: int


COLUMNS: Final = SegmentLine.__struct_fields__
"""Names of the columns of CSV and Parquet, in order."""


class TextForm(msgspec.Struct, frozen=True):
    """A format that is a run of bytes.

    Attributes:
        suffix: Ending of its files.
        holds_many: One file may hold several conversations.
        encode: From segments, in order, to the pieces of a file. It raises a ``ConfigError``
            when the file cannot hold them.
    """

    suffix: str
    holds_many: bool
    encode: Callable[[Iterable[SegmentView]], Iterator[bytes]]


def text_form(form: Format) -> TextForm | None:
    """Return how a format is written; None for Parquet, which is not text."""
    return _FORMS.get(form)


def format_of(target: str) -> Format | None:
    """Return the format that the ending of a path or address names, if any."""
    ending = target.rpartition("/")[2].rpartition(".")[2].lower()
    if ending == "ndjson":
        return Format.JSONL
    return Format(ending) if ending in _ENDINGS else None


def to_json(segments: Iterable[SegmentView]) -> Iterator[bytes]:
    """Yield the tutorial's document; the count comes after the list, as there."""
    encode = msgspec.json.Encoder().encode
    count = 0
    between = b'{"segments":[\n'
    for batch in _batches(segments):
        count += len(batch)
        yield between + b",\n".join([encode(_document(view)) for view in batch])
        between = b",\n"
    yield (b"" if count else between) + b'\n],"totalSegments":%d}\n' % count


def to_json_lines(segments: Iterable[SegmentView]) -> Iterator[bytes]:
    """Yield one object a line."""
    encode = msgspec.json.Encoder().encode_lines
    for batch in _batches(segments):
        yield encode([_line(view) for view in batch])


def to_csv(segments: Iterable[SegmentView]) -> Iterator[bytes]:
    """Yield a header and one row for each segment."""
    yield CSV_HEADER
    for batch in _batches(segments):
        yield _csv(batch)


def to_rttm(segments: Iterable[SegmentView]) -> Iterator[bytes]:
    """Yield RTTM lines, each with its conversation as the file's name."""
    for batch in _batches(segments):
        yield _encoded(
            [rttm_line(view.conversation, view.start_us, view.end_us, view.speaker)
             for view in batch]
        )  # fmt: skip


def to_srt(segments: Iterable[SegmentView]) -> Iterator[bytes]:
    """Yield the subtitles of one conversation.

    Raises:
        ConfigError: There are several.
    """
    number = 0
    for batch in _of_one(segments):
        yield _encoded(
            [srt_cue(number + place, view.start_us, view.end_us, view.speaker, view.text)
             for place, view in enumerate(batch, 1)]
        )  # fmt: skip
        number += len(batch)


def to_vtt(segments: Iterable[SegmentView]) -> Iterator[bytes]:
    """Yield the WebVTT cues of one conversation.

    Raises:
        ConfigError: There are several.
    """
    yield VTT_HEADER.encode()
    for batch in _of_one(segments):
        yield _encoded(
            [vtt_cue(view.start_us, view.end_us, view.speaker, view.text) for view in batch]
        )


def columns(segments: Sequence[SegmentView]) -> dict[str, list[Any]]:  # each of one type
    """Return segments as the columns of a table, by the names of ``COLUMNS``.

    ``timestamp`` is UTC microseconds; the other values have the types of ``SegmentLine``.
    """
    return {
        "conversation_id": [view.conversation for view in segments],
        "speaker": [view.speaker for view in segments],
        "text": [view.text for view in segments],
        "start_seconds": [view.start_us / _SECOND for view in segments],
        "end_seconds": [view.end_us / _SECOND for view in segments],
        "confidence": [view.confidence for view in segments],
        "is_final": [view.is_final for view in segments],
        "timestamp": [view.at_us for view in segments],
        "role": [view.role for view in segments],
        "language": [view.language for view in segments],
        "participant": [view.participant for view in segments],
        "user_id": [view.user_id for view in segments],
        "name": [view.name for view in segments],
        "communication": [view.communication for view in segments],
        "overlap": [view.overlap for view in segments],
        "key": [view.key for view in segments],
        "revision": [view.revision for view in segments],
    }


def rfc3339(at_us: int) -> str:
    """Return UTC microseconds as ``2024-01-15T10:30:00.123456Z``, always six digits."""
    seconds, rest = divmod(at_us, _SECOND)
    return f"{_second(seconds)}.{rest:06}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    """Return a second as text; those of one conversation come again and again."""
    return _at(seconds * _SECOND).replace(tzinfo=None).isoformat()


def _csv(batch: Sequence[SegmentView]) -> bytes:
    return _encoded([_row(view) for view in batch])


def _row(view: SegmentView) -> str:
    # The `csv` module looks at every character of every cell: it takes twice the time.
    return (
        f"{_cell(view.conversation)},{_cell(view.speaker)},{_cell(view.text)},"
        f"{view.start_us / _SECOND},{view.end_us / _SECOND},{view.confidence},"
        f"{'true' if view.is_final else 'false'},{rfc3339(view.at_us)},"
        f"{_cell(view.role)},{_cell(view.language)},{_cell(view.participant)},"
        f"{_cell(view.user_id)},{_cell(view.name)},{_cell(view.communication)},"
        f"{'true' if view.overlap else 'false'},{view.key},{view.revision}\r\n"
    )


def _cell(text: str) -> str:
    """Return a cell that no spreadsheet computes, and in which no row can seem to end."""
    if not text:
        return text
    if text[0] in _FORMULA:
        text = f"'{text}"
    if _QUOTED.search(text) is None:
        return text
    inside = text.replace("\r\n", "\n").replace('"', '""')
    return f'"{inside}"'


def _document(view: SegmentView) -> DocumentSegment:
    return DocumentSegment(
        view.conversation,
        view.speaker,
        view.text,
        view.start_us / _SECOND,
        view.end_us / _SECOND,
        view.confidence,
        view.is_final,
        _at(view.at_us),
    )


def _line(view: SegmentView) -> SegmentLine:
    return SegmentLine(
        view.conversation,
        view.speaker,
        view.text,
        view.start_us / _SECOND,
        view.end_us / _SECOND,
        view.confidence,
        view.is_final,
        _at(view.at_us),
        view.role,
        view.language,
        view.participant,
        view.user_id,
        view.name,
        view.communication,
        view.overlap,
        view.key,
        view.revision,
    )


def _at(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)


def _batches(segments: Iterable[SegmentView]) -> Iterator[list[SegmentView]]:
    source = iter(segments)
    while batch := list(islice(source, BATCH)):
        yield batch


def _of_one(segments: Iterable[SegmentView]) -> Iterator[list[SegmentView]]:
    conversation = None
    for batch in _batches(segments):
        conversation = conversation or batch[0].conversation
        if any(view.conversation != conversation for view in batch):
            raise ConfigError(
                "subtitles hold one conversation, and there are several",
                setting="out",
                fix="Put {conversation} into the path, or choose one conversation.",
            )
        yield batch


def _encoded(texts: list[str]) -> bytes:
    return "".join(texts).encode("utf-8", "replace")  # a lone surrogate has no UTF-8


CSV_HEADER: Final = (",".join(COLUMNS) + "\r\n").encode()

_FORMS: Final = {
    Format.JSON: TextForm("json", True, to_json),
    Format.JSONL: TextForm("jsonl", True, to_json_lines),
    Format.CSV: TextForm("csv", True, to_csv),
    Format.RTTM: TextForm("rttm", True, to_rttm),
    Format.SRT: TextForm("srt", False, to_srt),
    Format.VTT: TextForm("vtt", False, to_vtt),
}


# --- continuous export -----------------------------------------------------------------------


class FollowForm(msgspec.Struct, frozen=True):
    """How stored records are appended to a file, one by one.

    Attributes:
        suffix: Ending of its files.
        holds_many: One file may hold several conversations.
        header: What a file begins with.
        end: Bytes that end every piece, the header too, and occur nowhere else.
        piece: From a record to what is appended: None where its confidence is too low. Raises
            an ``IntegrityError`` for a damaged record.
        name: From a piece, read back, to what ``piece_name`` gives for its record; empty when
            it is not one of ours.
        said: Where a further revision is appended only when what is said differs: from a piece
            to speaker and text as written.
    """

    suffix: str
    holds_many: bool
    header: bytes
    end: bytes
    piece: Callable[[Record], bytes | None]
    name: Callable[[bytes], str]
    said: Callable[[bytes], bytes] | None = None


class _Named(msgspec.Struct):
    key: str
    revision: int


def piece_name(key: str, revision: int) -> str:
    """Return what tells a record from every other: its idempotency key in one text."""
    return f"{key}.{revision}"


def follow_form(form: Format, *, min_confidence: float) -> FollowForm | None:
    """Return how a format is appended to; None for those that are replaced whole.

    Times count from the start of the conversation that the record itself tells. What overlaps
    a segment is not known when it is written: ``overlap`` is false.
    """

    def view(record: Record) -> SegmentView | None:
        payload = payload_of(record)
        if payload.confidence < min_confidence:
            return None
        return view_of(record, payload, zero_us=zero_of(payload))

    def json_line(record: Record) -> bytes | None:
        seen = view(record)
        return next(to_json_lines((seen,))) if seen is not None else None

    def csv_row(record: Record) -> bytes | None:
        seen = view(record)
        return _csv([seen]) if seen is not None else None

    def cue(record: Record) -> bytes | None:
        seen = view(record)
        if seen is None:
            return None
        name = piece_name(record.key, record.revision)
        return _encoded(
            [vtt_cue(seen.start_us, seen.end_us, seen.speaker, seen.text, identifier=name)]
        )

    if form is Format.JSONL:
        return FollowForm("jsonl", True, b"", b"\n", json_line, _name_of_line)
    if form is Format.CSV:
        return FollowForm("csv", True, CSV_HEADER, b"\r\n", csv_row, _name_of_row)
    if form is Format.VTT:
        header = VTT_HEADER.encode()
        return FollowForm("vtt", False, header, b"\n\n", cue, _name_of_cue, _said_in_cue)
    return None


def _name_of_line(piece: bytes) -> str:
    try:
        named = msgspec.json.decode(piece, type=_Named)
    except (msgspec.MsgspecError, ValueError):
        return ""
    return piece_name(named.key, named.revision)


def _name_of_row(piece: bytes) -> str:
    # The last two cells are plain: a hash and a number.
    cells = piece.rsplit(b",", 2)
    if len(cells) != 3 or not cells[2].strip().isdigit():
        return ""
    return piece_name(cells[1].decode("ascii", "replace"), int(cells[2]))


def _name_of_cue(piece: bytes) -> str:
    return piece.split(b"\n", 1)[0].decode("ascii", "replace")


def _said_in_cue(piece: bytes) -> bytes:
    return piece.split(b"\n", 2)[-1]
