"""Peaks for a waveform."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.audio import Samples
from steno.core.waveform import Peaks

SOUND = st.lists(st.integers(-32768, 32767), max_size=300).map(lambda v: np.array(v, np.int16))


def expected(sound: Samples, size: int) -> list[list[int]]:
    """Return the peaks, bucket by bucket."""
    buckets = [sound[at : at + size].tolist() for at in range(0, len(sound), size)]
    return [[min(bucket), max(bucket)] for bucket in buckets]


@given(sound=SOUND, size=st.integers(1, 50), cuts=st.lists(st.integers(0, 60), max_size=20))
def test_peaks_do_not_depend_on_how_audio_is_cut(
    sound: Samples, size: int, cuts: list[int]
) -> None:
    """Each bucket has its least and greatest sample, whatever the portions were."""
    peaks = Peaks(size)
    at = 0
    for length in [*cuts, len(sound)]:
        peaks.feed(sound[at : at + length])
        at += length
    assert peaks.buckets.tolist() == expected(sound, size)
    assert peaks.samples == len(sound)


@given(
    sounds=st.lists(SOUND, max_size=8), size=st.integers(1, 20), limit=st.sampled_from([2, 4, 16])
)
def test_memory_stays_bounded_and_no_peak_is_lost(
    sounds: list[Samples], size: int, limit: int
) -> None:
    """Above the limit buckets are joined in pairs: fewer, wider, and right all the same."""
    peaks = Peaks(size, max_buckets=limit)
    for sound in sounds:
        peaks.feed(sound)
        assert len(peaks.buckets) <= limit
    whole = np.concatenate([np.zeros(0, np.int16), *sounds])
    assert peaks.buckets.tolist() == expected(whole, peaks.bucket_samples)


@given(
    before=st.integers(0, 40),
    silence=st.integers(0, 500),
    after=st.integers(0, 40),
    size=st.integers(1, 20),
)
def test_silence_counts_as_zeros(before: int, silence: int, after: int, size: int) -> None:
    """Silence that nobody made gives the peaks of silence that was."""
    loud = np.full(before, 500, np.int16), np.full(after, -500, np.int16)
    told, made = Peaks(size, max_buckets=16), Peaks(size, max_buckets=16)
    told.feed(loud[0])
    told.feed_silence(silence)
    told.feed(loud[1])
    made.feed(np.concatenate((loud[0], np.zeros(silence, np.int16), loud[1])))
    assert told.buckets.tolist() == made.buckets.tolist()
    assert told.bucket_samples == made.bucket_samples


def test_cut_forgets_what_came_after() -> None:
    """Audio that is taken back takes its peaks with it."""
    peaks = Peaks(10)
    peaks.feed(np.full(20, 5, np.int16))
    peaks.feed(np.full(20, 9000, np.int16))
    peaks.cut(20)
    assert (peaks.samples, peaks.buckets.tolist()) == (20, [[5, 5], [5, 5]])
    peaks.feed(np.full(5, 7, np.int16))
    assert peaks.buckets.tolist() == [[5, 5], [5, 5], [7, 7]]
    peaks.cut(100)
    assert peaks.samples == 25
    peaks.cut(23)
    assert peaks.buckets.tolist() == [[5, 5], [5, 5], [0, 0]]


@pytest.mark.parametrize(("size", "limit"), [(0, 4), (1, 0), (1, 3)])
def test_impossible_buckets_are_refused(size: int, limit: int) -> None:
    """A bucket has samples, and pairs need an even number of buckets."""
    with pytest.raises(ValueError):
        Peaks(size, max_buckets=limit)
