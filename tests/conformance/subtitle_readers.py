"""Readers of subtitles and RTTM, strict, written from the formats' texts and not from ours."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote


class Cue(NamedTuple):
    """A subtitle; times in milliseconds."""

    identifier: str
    start_ms: int
    end_ms: int
    speaker: str
    text: str


class Turn(NamedTuple):
    """A SPEAKER line; times in seconds."""

    file: str
    start_s: float
    duration_s: float
    speaker: str


_VTT_TIMES = re.compile(
    r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})"
)
_SRT_TIMES = re.compile(_VTT_TIMES.pattern.replace(r"\.", ","))
_ESCAPES = {"amp": "&", "lt": "<", "gt": ">", "nbsp": "\u00a0", "lrm": "\u200e", "rlm": "\u200f"}


def read_vtt(data: bytes) -> list[Cue]:
    """Read a WebVTT file of cues with one line each. ``ValueError`` for anything else."""
    text = data.decode()
    if "\0" in text or "\r" in text:
        raise ValueError("a character that a reader would replace")
    head, *blocks = text.split("\n\n")
    if head != "WEBVTT" or not text.endswith("\n\n") or blocks.pop() != "":
        raise ValueError("header or end")
    cues = []
    for block in blocks:
        lines = block.split("\n")
        identifier = lines.pop(0) if "-->" not in lines[0] else ""
        times, payload = lines  # exactly
        start_ms, end_ms = _times(_VTT_TIMES, times)
        if "-->" in payload or not payload:
            raise ValueError("payload")
        cues.append(Cue(identifier, start_ms, end_ms, *_voice(payload)))
    if [cue.start_ms for cue in cues] != sorted(cue.start_ms for cue in cues):
        raise ValueError("order")
    return cues


def _voice(payload: str) -> tuple[str, str]:
    """Return the voice's annotation and the text of a payload."""
    found = re.fullmatch(r"<v ([^>]+)>(.*)</v>", payload)
    if found is None:
        return "", _unescaped(payload)
    # A reader collapses blanks in an annotation.
    return " ".join(re.split("[ \t\f]+", _unescaped(found[1]))).strip(), _unescaped(found[2])


def _unescaped(text: str) -> str:
    if "<" in text or ">" in text:
        raise ValueError("a tag")
    return re.sub("&([^;]*);?", lambda found: _ESCAPES[found[1]], text)


def read_srt(data: bytes) -> list[Cue]:
    """Read a SubRip file; the speaker is not told apart from the text."""
    text = data.decode()
    *blocks, rest = text.split("\n\n")
    if rest:
        raise ValueError("end")
    cues = []
    for number, block in enumerate(blocks, 1):
        counter, times, payload = block.split("\n")
        if counter != str(number) or "-->" in payload or not payload:
            raise ValueError("cue")
        cues.append(Cue(counter, *_times(_SRT_TIMES, times), "", payload))
    return cues


def _times(form: re.Pattern[str], line: str) -> tuple[int, int]:
    found = form.fullmatch(line)
    if found is None:
        raise ValueError("times")
    numbers = [int(part) for part in found.groups()]
    start_ms, end_ms = (
        ((h * 60 + m) * 60 + s) * 1000 + ms for h, m, s, ms in (numbers[:4], numbers[4:])
    )
    if end_ms <= start_ms:
        raise ValueError("a cue ends before it begins")
    return start_ms, end_ms


def read_rttm(data: bytes) -> list[Turn]:
    """Read RTTM lines of ten fields."""
    turns = []
    for line in data.decode("ascii").splitlines():
        kind, file, channel, start, duration, na1, na2, speaker, na3, na4 = line.split(" ")
        if (kind, channel) != ("SPEAKER", "1") or {na1, na2, na3, na4} != {"<NA>"}:
            raise ValueError("fields")
        if float(duration) <= 0 or float(start) < 0:
            raise ValueError("times")
        turns.append(Turn(_name(file), float(start), float(duration), _name(speaker)))
    return turns


def _name(field: str) -> str:
    return "" if field == "<NA>" else unquote(field)
