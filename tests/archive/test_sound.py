"""What is kept of a conversation's audio."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.archive.sound import MAX_OUTSIDE, QUIETEST_DB, Fit, Sound

RATE = 8000


def tone(seconds: float, level: float) -> np.ndarray:
    """Return a square wave: its level is its mean square."""
    samples = np.full(round(seconds * RATE), round(level * 32768), np.int16)
    samples[1::2] *= -1
    return samples


def measured(*parts: np.ndarray, **more: int) -> Sound:
    """Measure one channel, a block at a time."""
    sound = Sound(RATE, **more)
    for part in parts:
        sound.feed([part])
    return sound


def test_a_segment_has_the_level_of_its_own_time() -> None:
    """Half scale is -6 dBFS; silence is the quietest; outside the audio there is none."""
    sound = measured(tone(1.0, 0.5), np.zeros(RATE, np.int16), tone(1.0, 0.25))
    levels = sound.energies(
        np.array([0.0, 1.0, 2.0, 3.5, 0.0]), np.array([1.0, 2.0, 3.0, 4.0, 2.0])
    )
    assert levels[0] == pytest.approx(-6.0, abs=0.1)
    assert levels[1] == QUIETEST_DB
    assert levels[2] == pytest.approx(-12.0, abs=0.1)
    assert levels[3] is None
    assert levels[4] == pytest.approx(-9.0, abs=0.1)  # half of the time, half of the power


@given(cuts=st.lists(st.integers(1, 23_999), max_size=8), limit=st.sampled_from([16, 64, 1 << 20]))
def test_levels_do_not_depend_on_how_audio_comes_in(cuts: list[int], limit: int) -> None:
    """Nor, beyond what a stretch blurs, on how many stretches are kept."""
    whole = np.concatenate((tone(1.0, 0.5), tone(1.0, 0.1), tone(1.0, 0.9)))
    sound = measured(*np.split(whole, sorted(cuts)), max_stretches=limit)
    assert sound.seconds == 3.0
    (level,) = sound.energies(np.array([0.0]), np.array([3.0]))
    assert level is not None
    power = (0.25 + 0.01 + 0.81) / 3
    assert level == pytest.approx(10 * math.log10(power), abs=0.1)


def test_channels_count_as_their_mean() -> None:
    """One that speaks beside one that is silent is 3 dB below."""
    sound = Sound(RATE)
    sound.feed([tone(1.0, 0.5), np.zeros(RATE, np.int16)])
    (level,) = sound.energies(np.array([0.0]), np.array([1.0]))
    assert level == pytest.approx(-9.0, abs=0.1)


def test_segments_outside_the_audio_are_told_by_their_places() -> None:
    """Behind its end, or before its beginning; rounding is no fault."""
    fit = Fit(10.0)
    fit.take(np.array([0.0, 9.0, 9.5]), np.array([1.0, 10.01, 10.5]))
    fit.take(np.array([-1.0, 20.0]), np.array([1.0, 21.0]))
    assert fit.outside.count == 3
    assert fit.outside.first == (2, 3, 4)


def test_of_very_many_segments_outside_the_audio_the_first_are_told() -> None:
    """The rest is counted."""
    fit = Fit(1.0)
    for _ in range(3):
        fit.take(np.full(60, 5.0), np.full(60, 6.0))
    assert fit.outside.count == 180
    assert fit.outside.first == tuple(range(MAX_OUTSIDE))


def test_peaks_are_written_as_players_read_them() -> None:
    """As many pairs as the length says; the greatest is that of the audio."""
    sound = measured(tone(1.0, 0.5), tone(1.0, 0.25))
    body = json.loads(sound.peaks_json())
    assert body["version"] == 2
    assert body["length"] * 2 == len(body["data"])
    assert body["length"] * body["samples_per_pixel"] == 2 * RATE
    assert max(body["data"]) == 16384
    assert min(body["data"]) == -16384


def test_columns_of_a_picture_are_those_of_its_time() -> None:
    """What lies behind the audio is silent."""
    sound = measured(tone(1.0, 0.5))
    columns = sound.columns(4, 2.0)
    assert columns[0, 1] == columns[1, 1] == pytest.approx(0.5, abs=0.01)
    assert (columns[2:] == 0).all()
