"""References and exports as documents: RTTM, STM, SegLST, and our JSON and JSON lines.

What is wrong with a file is told with the number of the line or segment, without its content.

Sources: RTTM and STM as in NIST's Rich Transcription evaluation plan 2009, appendices; SegLST as
in MeetEval's documentation (a list of segments with ``session_id``, ``speaker``, ``words`` and
optional ``start_time``, ``end_time``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import isfinite
from pathlib import Path
from typing import Final

import msgspec

from steno.adapters.scoring.pieces import Document, Piece
from steno.core.subtitles import rttm_name_read
from steno.errors import ConfigError

MAX_BYTES: Final = 1 << 30
"""A file is read whole; a larger one is refused."""

_MAX_S: Final = 1e9
_Found = tuple[str, Piece]


class _Entry(msgspec.Struct, frozen=True, gc=False):
    """A segment in our form or in that of SegLST; one of each pair of names is there."""

    conversation_id: str | int | None = None
    session_id: str | int | None = None
    speaker: str | int | None = None
    text: str | None = None
    words: str | list[str] | None = None
    start_seconds: float | str | None = None
    end_seconds: float | str | None = None
    start_time: float | str | None = None
    end_time: float | str | None = None
    is_final: bool = True


class _Export(msgspec.Struct, frozen=True):
    """The tutorial's export."""

    segments: list[_Entry]


_decode_whole = msgspec.json.Decoder(list[_Entry] | _Export, strict=False).decode
_decode_line = msgspec.json.Decoder(_Entry, strict=False).decode


def read_document(path: Path, *, setting: str) -> Document:
    """Return the pieces of a file; its form is told by its ending.

    Args:
        setting: Option or argument that named the file, for the error.

    Raises:
        ConfigError: It cannot be read, is of no form we know, or something in it is wrong.
    """
    forms: dict[str, Callable[[bytes], Iterator[_Found]]] = {
        ".rttm": _rttm,
        ".stm": _stm,
        ".json": _json,
        ".jsonl": _lines_of_json,
        ".ndjson": _lines_of_json,
    }
    form = forms.get(path.suffix.lower())
    if form is None:
        raise ConfigError(
            "the form of the file is not known",
            setting=setting,
            fix=f"Its name must end in one of {', '.join(forms)}.",
        )
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError("the file is too large to be scored", setting=setting)
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigError(
            "the file cannot be read", setting=setting, error=type(exc).__name__
        ) from exc
    try:
        return _document(form(data))
    except _Wrong as exc:
        raise ConfigError(
            f"the {path.suffix[1:].upper()} file is wrong at {exc.place}: {exc.problem}",
            setting=setting,
        ) from None


class _Wrong(Exception):
    """Something in a file is wrong; the words are ours."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem)
        self.place = place
        self.problem = problem


def _document(found: Iterable[_Found]) -> Document:
    pieces: dict[str, list[Piece]] = {}
    has_times = has_words = True
    for conversation, piece in found:
        pieces.setdefault(conversation, []).append(piece)
        has_times = has_times and piece.start_us is not None
        has_words = has_words and piece.text is not None
    return Document(pieces, has_times, has_words)


def _rttm(data: bytes) -> Iterator[_Found]:
    """SPEAKER lines; other types of line say nothing about who speaks."""
    for place, line in _lines(data):
        fields = line.split()
        if fields[0] != "SPEAKER":
            continue
        if len(fields) < 8:
            raise _Wrong(place, "too few fields")
        start_us = _us(fields[3], place)
        bounds = _ordered(start_us, start_us + _us(fields[4], place), place)
        yield rttm_name_read(fields[1]), Piece(rttm_name_read(fields[7]), *bounds, None)


def _stm(data: bytes) -> Iterator[_Found]:
    for place, line in _lines(data):
        fields = line.split(maxsplit=5)
        if len(fields) < 5:
            raise _Wrong(place, "too few fields")
        text = fields[5] if len(fields) > 5 else ""
        if text.startswith("<") and ">" in text:  # a label such as <o,f0,male>
            text = text.partition(">")[2]
        if text.strip().lower() == "ignore_time_segment_in_scoring":
            continue
        start_us, end_us = _us(fields[3], place), _us(fields[4], place)
        yield fields[0], Piece(fields[2], *_ordered(start_us, end_us, place), text)


def _json(data: bytes) -> Iterator[_Found]:
    try:
        whole = _decode_whole(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _Wrong("its beginning", "neither segments of ours nor SegLST") from None
    entries = whole.segments if isinstance(whole, _Export) else whole
    for number, entry in enumerate(entries, 1):
        yield from _piece(entry, f"segment {number}")


def _lines_of_json(data: bytes) -> Iterator[_Found]:
    for place, line in _lines(data, comments=False):
        try:
            entry = _decode_line(line)
        except (msgspec.DecodeError, RecursionError):
            raise _Wrong(place, "neither a segment of ours nor of SegLST") from None
        yield from _piece(entry, place)


def _piece(entry: _Entry, place: str) -> Iterator[_Found]:
    name = entry.session_id if entry.conversation_id is None else entry.conversation_id
    if name is None:
        raise _Wrong(place, "neither conversation_id nor session_id")
    words = entry.text if entry.text is not None else entry.words
    if isinstance(words, list):
        words = " ".join(words)
    start = entry.start_time if entry.start_seconds is None else entry.start_seconds
    end = entry.end_time if entry.end_seconds is None else entry.end_seconds
    bounds: tuple[int | None, int | None] = (None, None)
    if start is not None and end is not None:
        bounds = _ordered(_us(start, place), _us(end, place), place)
    if entry.is_final:
        speaker = "" if entry.speaker is None else str(entry.speaker)
        yield str(name), Piece(speaker, *bounds, words)


def _lines(data: bytes, *, comments: bool = True) -> Iterator[tuple[str, str]]:
    """Lines that hold something, each with its place."""
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            line = raw.decode().strip()
        except UnicodeDecodeError:
            raise _Wrong(f"line {number}", "not UTF-8") from None
        if line and not (comments and line.startswith((";", "#"))):
            yield f"line {number}", line


def _us(value: float | str, place: str) -> int:
    try:
        seconds = float(value)
    except ValueError:
        seconds = float("nan")
    if not isfinite(seconds) or abs(seconds) > _MAX_S:
        raise _Wrong(place, "a time is no number of seconds")
    return round(seconds * 1_000_000)


def _ordered(start_us: int, end_us: int, place: str) -> tuple[int, int]:
    if end_us < start_us:
        raise _Wrong(place, "it ends before it starts")
    return start_us, end_us
