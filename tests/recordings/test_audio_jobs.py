"""Where words lie that nobody gave times: on the sound, in order, inside of what was answered."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from steno.recordings.audio_jobs import SoundRuns, laid_out

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
