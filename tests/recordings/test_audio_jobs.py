"""Recordings at a recogniser: whole or not at all, and words that lie where the sound is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steno.core.audio import Samples
from steno.core.transcript import RawText
from steno.errors import EngineUnavailable, StenoError, UnsupportedAudio
from steno.ports.speech import (
    AudioChunk,
    AudioShed,
    Hypothesis,
    SpeechEvent,
    SpeechListener,
    SpeechStream,
    SpeechWord,
    StreamChanged,
    StreamSpec,
    StreamState,
)
from steno.recordings.audio_jobs import HearingSettings, SoundRuns, laid_out, words_of
from steno.recordings.words import Word

RATE_HZ = 8000
FRAME = 160

RUNS = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 400)), min_size=1, max_size=12).map(
    lambda steps: _placed(steps)
)
TEXTS = st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=20)


def _placed(steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    at, runs = 0, []
    for gap, length in steps:
        runs.append((at + gap + 1, at + gap + 1 + length))
        at += gap + 1 + length
    return runs


@settings(max_examples=50, deadline=None)
@given(texts=TEXTS, runs=RUNS)
def test_words_are_in_order_and_inside_of_the_sound(
    texts: list[str], runs: list[tuple[int, int]]
) -> None:
    """However many stretches there are; every word has its text."""
    words = laid_out(texts, runs, 0)
    assert [word.text for word in words] == texts
    for word in words:
        assert runs[0][0] <= word.start_samples <= word.end_samples <= runs[-1][1]
    for before, after in pairwise(words):
        assert before.end_samples <= after.start_samples


def test_as_many_words_as_stretches_have_one_each() -> None:
    """However long the words are."""
    words = laid_out(["a", "bbbbbbbb"], [(10, 30), (50, 55)], 0)
    assert [(w.start_samples, w.end_samples) for w in words] == [(10, 30), (50, 55)]


def test_words_share_the_sound_by_their_lengths() -> None:
    """A pause is nobody's, unless a word spans it."""
    words = laid_out(["aa", "b", "c"], [(0, 100), (200, 300)], 0)
    assert [(w.start_samples, w.end_samples) for w in words] == [(0, 100), (200, 250), (250, 300)]


def loud(frames: int) -> np.ndarray:
    return np.full(frames * FRAME, 5000, np.int16)


def quiet(frames: int) -> np.ndarray:
    return np.zeros(frames * FRAME, np.int16)


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 900), min_size=1, max_size=20))
def test_sound_is_found_however_the_audio_is_cut(sizes: list[int]) -> None:
    """In frames of 20 ms; short silences are bridged, longer ones are not."""
    audio = np.concatenate([quiet(5), loud(4), quiet(3), loud(2), quiet(4), loud(1), quiet(9)])
    runs, at, turn = SoundRuns(RATE_HZ), 0, 0
    while at < len(audio):
        size = sizes[turn % len(sizes)]
        runs.feed(audio[at : at + size])
        at, turn = at + size, turn + 1
    assert runs.within(0, len(audio)) == [(5 * FRAME, 14 * FRAME), (18 * FRAME, 19 * FRAME)]


def test_a_stretch_is_cut_to_what_is_asked_for_and_silence_is_all_of_it() -> None:
    """A text must lie somewhere."""
    runs = SoundRuns(RATE_HZ)
    runs.feed(np.concatenate([loud(10), quiet(10)]))
    assert runs.within(3 * FRAME, 8 * FRAME) == [(3 * FRAME, 8 * FRAME)]
    assert runs.within(15 * FRAME, 18 * FRAME) == [(15 * FRAME, 18 * FRAME)]


# --- the recogniser's side -------------------------------------------------------------------


class Sound:
    """A file of silence in one block, which takes a moment to read."""

    channels = 1
    rate_hz = RATE_HZ

    def __init__(self, *, slow: bool = False) -> None:
        self.blocks = 1
        self.reading = threading.Event()
        self.go_on = threading.Event()
        self.is_reading = False
        self.closed_while_reading: bool | None = None
        if not slow:
            self.go_on.set()

    def read(self) -> tuple[Samples, ...] | None:
        self.is_reading = True
        self.reading.set()
        self.go_on.wait(5)
        self.is_reading = False
        self.blocks -= 1
        return (np.zeros(RATE_HZ, np.int16),) if self.blocks >= 0 else None

    def close(self) -> None:
        self.closed_while_reading = self.is_reading


class Script:
    """A recogniser that tells what a test wants, at the first audio or at its end."""

    languages: tuple[str, ...] = ()

    def __init__(
        self, *, at_first: Sequence[SpeechEvent] = (), at_end: Sequence[SpeechEvent] = ()
    ) -> None:
        self.at_first, self.at_end = list(at_first), list(at_end)
        self.pressure = 0.0
        self.is_aborted = False

    def open(self, spec: StreamSpec, listener: SpeechListener) -> SpeechStream:
        assert (spec.format, spec.rate_hz) == ("L16", RATE_HZ)
        self.listener = listener
        return self

    def send(self, chunk: AudioChunk) -> None:
        while self.at_first:
            self.listener.on_speech(self.at_first.pop(0))

    def finish(self) -> None:
        for event in self.at_end:
            self.listener.on_speech(event)

    def abort(self) -> None:
        self.is_aborted = True

    async def close(self, timeout_s: float) -> None:
        pass


OVER = StreamChanged(StreamState.OVER)


async def heard(
    recogniser: Script, sound: Sound | None = None, *, stall_s: float = 300.0
) -> list[Word]:
    file = sound or Sound()
    return await words_of(
        [Path("a")],
        recogniser,
        lambda path: file,
        conversation="c",
        language="en-US",
        zero_us=1_000_000,
        settings=HearingSettings(speakers=("caller",), away_s=0.1, stall_s=stall_s),
    )


async def test_words_with_times_keep_them_and_partials_are_nothing() -> None:
    """Counted from the recording's start."""
    word = SpeechWord(RawText("yes"), 800, 1600, 0.7)
    final = Hypothesis(1, RawText("yes"), True, "u", words=(word,))
    partial = Hypothesis(-1, RawText("yet"), False, "u")
    words = await heard(Script(at_first=[partial], at_end=[final, OVER]))
    assert words == [Word("yes", 1_100_000, 1_200_000, "caller", 0.7)]


@pytest.mark.parametrize(
    ("script", "error", "code"),
    [
        (Script(at_first=[AudioShed(0, 9, 0, 0)]), EngineUnavailable, "speech.lost"),
        (
            Script(at_first=[StreamChanged(StreamState.OVER, "UnsupportedAudio")]),
            UnsupportedAudio,
            "audio.refused",
        ),
        (Script(at_first=[OVER]), EngineUnavailable, "speech.ended"),
        (
            Script(at_end=[StreamChanged(StreamState.OVER, "TimedOut")]),
            EngineUnavailable,
            "speech.ended",
        ),
        (
            Script(at_first=[StreamChanged(StreamState.AWAY, "TimedOut")]),
            EngineUnavailable,
            "speech.away",
        ),
        (Script(), EngineUnavailable, "speech.stalled"),
    ],
)
async def test_a_recording_that_was_not_heard_whole_has_no_words(
    script: Script, error: type[StenoError], code: str
) -> None:
    """A hole that nobody sees is worse than none."""
    with pytest.raises(error) as caught:
        await heard(script, stall_s=0.1 if code == "speech.stalled" else 300.0)
    assert caught.value.fields["code"] == code


async def test_nothing_more_is_read_while_much_waits() -> None:
    """Memory does not grow with the length of a recording."""
    script, sound = Script(at_end=[OVER]), Sound()
    sound.blocks = 3
    script.pressure = 0.6
    hearing = asyncio.create_task(heard(script, sound))
    async with asyncio.timeout(20):
        while sound.blocks > 2:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert sound.blocks == 2
    script.pressure = 0.1
    await hearing
    assert sound.blocks == -1


async def test_a_file_is_not_closed_under_the_thread_that_reads_it() -> None:
    """Whoever is cancelled waits for the block, and lets go of the stream."""
    script, sound = Script(), Sound(slow=True)
    hearing = asyncio.create_task(heard(script, sound))
    await asyncio.to_thread(sound.reading.wait, 5)
    hearing.cancel()
    await asyncio.sleep(0.05)
    assert not hearing.done()
    sound.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await hearing
    assert sound.closed_while_reading is False
    assert script.is_aborted
