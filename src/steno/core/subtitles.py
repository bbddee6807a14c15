"""Speech as lines of SRT, WebVTT and RTTM: small pure functions on one piece of speech.

Times are microseconds from the start of the recording or conversation, not negative. What a
format cannot say is changed as little as possible and never lost from sight: a line break
becomes a blank, a piece without duration gets one millisecond.

Source: WebVTT (W3C), 4 and 6.4; SubRip as players read it; RTTM as in NIST's Rich
Transcription Spring 2009 evaluation plan, appendix A.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

VTT_HEADER: Final = "WEBVTT\n\n"

_MS: Final = 1000
_SECOND: Final = 1_000_000
# Controls, and what some readers take for the end of a line: a cue has one line of text.
_BREAKS: Final = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029]+")
_NOBODY: Final = "<NA>"
_NO_TEXT: Final = "…"
_RTTM_SAFE: Final = "!$'()*+,:@="


def srt_cue(number: int, start_us: int, end_us: int, speaker: str, text: str) -> str:
    """Return one SubRip subtitle with the blank line that ends it.

    SubRip has no escapes: ``-->`` in a text becomes ``-- >``. The speaker, if any, is written
    before the text as ``speaker: text``.

    Args:
        number: Counter of the file, from 1.
    """
    start_ms, end_ms = _bounds_ms(start_us, end_us)
    said = _one_line(f"{speaker}: {text}" if speaker else text).replace("-->", "-- >")
    return f"{number}\n{_clock(start_ms, ',')} --> {_clock(end_ms, ',')}\n{said or _NO_TEXT}\n\n"


def vtt_cue(start_us: int, end_us: int, speaker: str, text: str, *, identifier: str = "") -> str:
    """Return one WebVTT cue with the blank line that ends it; the file begins ``VTT_HEADER``.

    Args:
        speaker: Goes into a voice tag; without one there is no tag.
        identifier: Optional name of the cue: no line break and no ``-->`` in it.
    """
    start_ms, end_ms = _bounds_ms(start_us, end_us)
    said = _vtt_text(text)
    voice = _vtt_text(speaker)
    if voice:
        said = f"<v {voice}>{said}</v>"
    head = f"{identifier}\n" if identifier else ""
    return f"{head}{_clock(start_ms, '.')} --> {_clock(end_ms, '.')}\n{said or _NO_TEXT}\n\n"


def rttm_line(name: str, start_us: int, end_us: int, speaker: str) -> str:
    """Return one RTTM line with its line break.

    Args:
        name: Of the recording or conversation; it and the speaker are written by ``rttm_name``.
    """
    duration_us = max(end_us - start_us, _MS)  # scorers refuse a turn that takes no time
    return (
        f"SPEAKER {rttm_name(name)} 1 {_seconds(start_us)} {_seconds(duration_us)}"
        f" <NA> <NA> {rttm_name(speaker)} <NA> <NA>\n"
    )


def rttm_name(name: str) -> str:
    """Return a name without blanks, in ASCII; different names stay different.

    Letters, digits and ``-._~!$'()*+,:@=`` stay, every other byte of the UTF-8 form is
    percent-encoded; no name at all is ``<NA>``. ``rttm_name_read`` gives the name back.
    """
    return quote(name, safe=_RTTM_SAFE) if name else _NOBODY


def rttm_name_read(field: str) -> str:
    """Return the name that ``rttm_name`` wrote."""
    return "" if field == _NOBODY else unquote(field)


def _bounds_ms(start_us: int, end_us: int) -> tuple[int, int]:
    """Return the nearest milliseconds; a cue has to end after it begins."""
    start_ms = (start_us + 500) // _MS
    return start_ms, max((end_us + 500) // _MS, start_ms + 1)


def _clock(at_ms: int, point: str) -> str:
    seconds, ms = divmod(at_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{ms:03}"


def _seconds(us: int) -> str:
    """Return seconds exactly, with three digits, or with six where three would round."""
    whole, rest = divmod(us, _SECOND)
    return f"{whole}.{rest:06}" if rest % _MS else f"{whole}.{rest // _MS:03}"


def _one_line(text: str) -> str:
    if text.isprintable():  # a fast way past the pattern: none of its characters is
        return text.strip(" ")
    return _BREAKS.sub(" ", text).strip(" ")


def _vtt_text(text: str) -> str:
    line = _one_line(text)
    if "&" in line:
        line = line.replace("&", "&amp;")
    return line.replace("<", "&lt;").replace(">", "&gt;")
