"""Subtitles and RTTM: what a strict reader gets back."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conformance.subtitle_readers import read_rttm, read_srt, read_vtt
from steno.core.subtitles import (
    VTT_HEADER,
    rttm_line,
    rttm_name,
    rttm_name_read,
    srt_cue,
    vtt_cue,
)

TIMES = st.integers(0, 400 * 3600 * 1_000_000)
PLAIN = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1)
TRICKS = st.lists(
    st.sampled_from(["-->", "\n\n", "\r", "<b>", "</v>", "&amp;", "&", "a", " ", "\x85", "\0"])
).map("".join)
BLANKS = re.compile("[\\s\\x00-\\x1f\\x7f-\\x9f\u2028\u2029]+")


def without_blanks(text: str) -> str:
    return BLANKS.sub("", text)


@given(start=TIMES, length=st.integers(0, 10**9), speaker=PLAIN, text=PLAIN)
@example(start=0, length=0, speaker="a>b", text="-->")
@example(start=360_000_000_000, length=1, speaker="&lt;", text="x --> y <i>&amp;</i>")
def test_vtt_gives_back_speaker_text_and_times(
    start: int, length: int, speaker: str, text: str
) -> None:
    """A cue says exactly what it was given, to the nearest millisecond, one at the least."""
    [cue] = read_vtt((VTT_HEADER + vtt_cue(start, start + length, speaker, text)).encode())
    assert (cue.speaker, cue.text) == (speaker, text)
    assert abs(cue.start_ms * 1000 - start) <= 500
    assert cue.end_ms == max(cue.start_ms + 1, (start + length + 500) // 1000)


@given(speaker=st.text() | TRICKS, text=st.text() | TRICKS, other=st.text() | TRICKS)
def test_no_text_breaks_a_cue(speaker: str, text: str, other: str) -> None:
    """Whatever is said, every cue is one block of one line, and only blanks are changed."""
    pieces = [vtt_cue(0, 1, speaker, text), vtt_cue(2, 3, other, text, identifier="b.1")]
    cues = read_vtt((VTT_HEADER + "".join(pieces)).encode())
    assert [cue.identifier for cue in cues] == ["", "b.1"]
    for cue, said_by in zip(cues, (speaker, other), strict=True):
        assert without_blanks(cue.speaker) == without_blanks(said_by)
        if without_blanks(text):
            assert without_blanks(cue.text) == without_blanks(text)


@given(speaker=st.text() | TRICKS, text=st.text() | TRICKS)
def test_srt_holds_any_text(speaker: str, text: str) -> None:
    """A SubRip file with any text has its two cues, counted from one."""
    written = srt_cue(1, 0, 0, speaker, text) + srt_cue(2, 10, 5_000_000, "", text)
    cues = read_srt(written.encode())
    assert len(cues) == 2
    said = without_blanks(f"{speaker}: {text}" if speaker else text)
    if said:
        assert without_blanks(cues[0].text) == said


def test_srt_reads_as_players_expect() -> None:
    """Comma before the milliseconds, speaker before the text, hours beyond 99."""
    assert srt_cue(7, 1_500_000, 2_000_499, "speaker_0", "good\nmorning --> all") == (
        "7\n00:00:01,500 --> 00:00:02,000\nspeaker_0: good morning -- > all\n\n"
    )
    hundred = 100 * 3600 * 1_000_000
    assert "\n100:00:00,000 --> 100:00:00,001\n" in srt_cue(1, hundred, hundred, "", "x")


@given(name=st.text(), other=st.text())
def test_rttm_names_have_no_blanks_and_never_collide(name: str, other: str) -> None:
    """A name is one ASCII field, and reading it gives the same name, so two never meet."""
    field = rttm_name(name)
    assert field.isascii()
    assert field.split() == [field]
    assert rttm_name_read(field) == name
    assert (rttm_name(other) == field) == (other == name)


@pytest.mark.parametrize("name", ["<NA>", "%3CNA%3E", "a b", "a%20b", ";;", "speaker_0", ""])
def test_rttm_names_that_could_be_mistaken(name: str) -> None:
    """Names that look like an escape, a comment or a missing field survive, too."""
    [turn] = read_rttm(rttm_line("call", 0, 1_000_000, name).encode())
    assert turn.speaker == name


@given(start=TIMES, length=st.integers(0, 10**9), name=st.text(), speaker=st.text())
def test_rttm_line_gives_back_turn(start: int, length: int, name: str, speaker: str) -> None:
    """Ten fields, seconds without rounding, never a turn that takes no time."""
    [turn] = read_rttm(rttm_line(name, start, start + length, speaker).encode())
    assert turn.file == name
    assert round(turn.start_s * 1e6) == start
    assert round(turn.duration_s * 1e6) == max(length, 1000)


def test_rttm_is_the_usual_line() -> None:
    """Milliseconds are written with three digits, as everywhere."""
    assert rttm_line("call-1", 12_500_000, 14_000_000, "agent") == (
        "SPEAKER call-1 1 12.500 1.500 <NA> <NA> agent <NA> <NA>\n"
    )
    assert " 0.000001 " in rttm_line("call-1", 1, 5_000_000, "agent")
