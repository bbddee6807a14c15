"""Streaming resampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.adapters.resampling import StreamResampler
from steno.core.audio import Samples
from steno.errors import UnsupportedAudio

RANDOM = np.random.default_rng(7)
NOISE = RANDOM.integers(-20_000, 20_000, 8000).astype(np.int16)


def tone(hz: int, rate_hz: int, seconds: float = 1.0, level: int = 10_000) -> Samples:
    at = np.arange(int(rate_hz * seconds)) / rate_hz
    sound: Samples = np.rint(level * np.sin(2 * np.pi * hz * at)).astype(np.int16)
    return sound


def resampled(sound: Samples, cuts: list[int], in_hz: int = 8000, out_hz: int = 16000) -> Samples:
    resampler = StreamResampler(in_hz, out_hz)
    parts = []
    at = 0
    for size in [*cuts, len(sound)]:
        parts.append(resampler.feed(sound[at : at + size]))
        at += size
    return np.concatenate([*parts, resampler.flush()])


@given(cuts=st.lists(st.sampled_from([0, 1, 7, 160, 161, 800, 1600]), max_size=60))
def test_portions_change_nothing(cuts: list[int]) -> None:
    """However audio is cut, empty portions among it, every sample out is the same."""
    assert resampled(NOISE, cuts).tolist() == resampled(NOISE, []).tolist()


@pytest.mark.parametrize(
    ("in_hz", "out_hz"), [(8000, 16000), (16000, 8000), (48000, 16000), (44100, 16000)]
)
@pytest.mark.parametrize("samples", [0, 1, 159, 8000])
def test_nothing_is_lost(in_hz: int, out_hz: int, samples: int) -> None:
    """As much time comes out as went in, the end included."""
    made = resampled(NOISE[:samples], [160] * 60, in_hz, out_hz)
    assert abs(len(made) - StreamResampler(in_hz, out_hz).length(samples)) <= 1


def test_tone_stays_what_it_was() -> None:
    """A tone at 8 kHz is the same tone at 16 kHz, at the same place and level."""
    made = resampled(tone(440, 8000), [160] * 50).astype(np.int32)
    wanted = tone(440, 16000).astype(np.int32)
    assert len(made) == len(wanted)
    middle = slice(1000, -1000)
    assert np.abs(made[middle] - wanted[middle]).max() <= 5


def test_full_scale_is_held() -> None:
    """What the filter lifts over full scale does not wrap around."""
    square = np.where(np.arange(8000) // 20 % 2, 32767, -32768).astype(np.int16)
    made = resampled(square, [])
    middle = made[400:-400].astype(np.int32)
    assert middle.max() == 32767
    signs = np.sign(middle[np.abs(middle) > 20_000])
    assert (np.abs(np.diff(signs)) > 0).sum() <= 400


def test_stream_can_be_used_again_after_its_end() -> None:
    """After ``flush`` the next audio is resampled as by a new one: nothing crosses a gap."""
    resampler = StreamResampler(8000, 16000)
    first = np.concatenate([resampler.feed(NOISE), resampler.flush()])
    second = np.concatenate([resampler.feed(NOISE), resampler.flush()])
    assert first.tolist() == second.tolist()


def test_same_rate_costs_nothing() -> None:
    """Samples that have the wanted rate are handed through as they are."""
    resampler = StreamResampler(8000, 8000)
    assert resampler.feed(NOISE) is NOISE
    assert len(resampler.flush()) == 0


def test_read_only_audio_is_taken() -> None:
    """Decoded L16 is a view of the message and cannot be written to."""
    frozen = np.frombuffer(NOISE.tobytes(), np.int16)
    assert len(StreamResampler(8000, 16000).feed(frozen)) > 0


def test_rate_of_nothing_is_refused() -> None:
    """There is no audio of 0 Hz."""
    with pytest.raises(UnsupportedAudio):
        StreamResampler(0, 16000)
