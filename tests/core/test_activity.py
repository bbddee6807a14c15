"""Endpointing from voice flags."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steno.core.activity import (
    ActivityEvent,
    ActivitySegments,
    EndCause,
    SpeechEnded,
    SpeechStarted,
)

RATE = 8000
FRAME = 160  # 20 ms
FLAGS = st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=12).map(
    lambda runs: b"".join(bytes([voice]) * count for voice, count in runs)
)


def segments(**options: int | float) -> ActivitySegments:
    """Return one that starts after 60 ms and ends after 100 ms, without pre-roll."""
    chosen: dict[str, int | float] = {"start_ms": 60, "end_ms": 100, "pre_roll_ms": 0}
    return ActivitySegments(FRAME, RATE, **(chosen | options))  # type: ignore[arg-type]  # by name


def test_speech_starts_with_its_first_voiced_frame_and_ends_with_its_last() -> None:
    """Three voiced frames start it, five silent ones end it, both with hindsight."""
    machine = segments()
    assert machine.feed(b"\0\0\1\1") == []
    assert machine.feed(b"\1") == [SpeechStarted(2 * FRAME)]
    assert machine.speaking
    assert machine.feed(b"\1\1\0\0\0\0") == []
    assert machine.feed(b"\0") == [SpeechEnded(7 * FRAME, EndCause.SILENCE)]
    assert not machine.speaking


def test_clicks_are_no_speech_and_pauses_no_end() -> None:
    """Voice shorter than the start limit, silence shorter than the end limit: nothing."""
    machine = segments()
    assert machine.feed(b"\1\1\0\1\1\0" * 10) == []
    assert machine.feed(b"\1\1\1") != []
    assert machine.feed(b"\0\0\0\0\1" * 10) == []


def test_segment_reaches_before_and_behind_the_voice() -> None:
    """Pre-roll and tail take in soft beginnings and ends."""
    machine = segments(pre_roll_ms=40)
    events = machine.feed(bytes(10) + b"\1" * 5 + bytes(5))
    assert events == [SpeechStarted(8 * FRAME), SpeechEnded(17 * FRAME, EndCause.SILENCE)]


def test_pre_roll_stops_at_the_segment_before() -> None:
    """Segments never overlap."""
    machine = segments(pre_roll_ms=2000)
    events = machine.feed(b"\1" * 5 + bytes(5) + b"\1" * 5)
    assert events == [
        SpeechStarted(0),
        SpeechEnded(10 * FRAME, EndCause.SILENCE),
        SpeechStarted(10 * FRAME),
    ]


def test_long_speech_is_cut_without_a_gap() -> None:
    """A segment of the greatest length ends where the next one starts."""
    machine = segments(max_s=1.0)
    events = machine.feed(b"\1" * 120)
    assert events == [
        SpeechStarted(0),
        SpeechEnded(8000, EndCause.LENGTH),
        SpeechStarted(8000),
        SpeechEnded(16000, EndCause.LENGTH),
        SpeechStarted(16000),
    ]
    assert machine.finish() == [SpeechEnded(120 * FRAME, EndCause.FINISHED)]
    assert machine.finish() == []


def test_cut_in_a_pause_starts_nothing() -> None:
    """Speech that is too long and pauses just then ends there: silence is no segment."""
    machine = segments(max_s=0.2, end_ms=1000)
    events = machine.feed(b"\1" * 8 + bytes(50))
    assert events == [SpeechStarted(0), SpeechEnded(8 * FRAME, EndCause.SILENCE)]


def test_gap_ends_speech_and_moves_the_clock() -> None:
    """Missing audio ends a segment, and no pre-roll reaches into what never came."""
    machine = segments(pre_roll_ms=200)
    machine.feed(b"\1" * 5)
    assert machine.skip(1000) == [SpeechEnded(5 * FRAME, EndCause.FINISHED)]
    assert machine.position == 5 * FRAME + 1000
    assert machine.feed(b"\1\1\1") == [SpeechStarted(5 * FRAME + 1000)]


def test_clock_may_start_anywhere() -> None:
    """Positions are those of the lane's stream clock."""
    machine = segments(at_samples=5000)
    assert machine.feed(b"\1\1\1") == [SpeechStarted(5000)]


@given(flags=FLAGS, cuts=st.lists(st.integers(1, 30), max_size=30), max_s=st.sampled_from([0.3, 9]))
def test_cutting_of_flags_decides_nothing(flags: bytes, cuts: list[int], max_s: float) -> None:
    """The same flags give the same segments, however they come."""
    whole, parts = segments(max_s=max_s), segments(max_s=max_s)
    expected = whole.feed(flags)
    found: list[ActivityEvent] = []
    rest = flags
    for size in [*cuts, len(rest)]:
        found += parts.feed(rest[:size])
        rest = rest[size:]
    assert found == expected
    assert parts.position == whole.position == len(flags) * FRAME


@given(
    flags=FLAGS,
    pre_roll_ms=st.integers(0, 400),
    end_ms=st.integers(0, 300),
    start_ms=st.integers(0, 100),
    max_s=st.floats(0.01, 2.0),
)
def test_segments_rise_and_hold_all_the_voice(
    flags: bytes, pre_roll_ms: int, end_ms: int, start_ms: int, max_s: float
) -> None:
    """Starts and ends take turns and rise; voice of the start length lies in some segment, and
    what lies in none is shorter than that.
    """
    machine = segments(pre_roll_ms=pre_roll_ms, end_ms=end_ms, start_ms=start_ms, max_s=max_s)
    events = machine.feed(flags) + machine.finish()
    assert [type(e) for e in events] == [SpeechStarted, SpeechEnded] * (len(events) // 2)
    places = [e.at_samples for e in events]
    assert places == sorted(places)
    assert not places or (places[0] >= 0 and places[-1] <= machine.position)
    spans = list(zip(places[::2], places[1::2], strict=True))
    covered = [
        sum(max(0, min(b, at + FRAME) - max(a, at)) for a, b in spans) == FRAME
        for at in range(0, len(flags) * FRAME, FRAME)
    ]
    outside = "".join(
        "v" if flag and not inside else " " for flag, inside in zip(flags, covered, strict=True)
    )
    needed = max(1, -(-start_ms // 20))
    assert all(len(run) < needed for run in outside.split())
