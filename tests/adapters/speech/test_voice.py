"""Voice activity: frames however audio is cut, silence for next to nothing, clear refusals."""

from __future__ import annotations

import sys
import wave
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.speech import onnx_graphs
from steno.adapters.speech.voice import (
    QUIET_PEAK,
    SileroModel,
    SileroVoiceActivity,
    VoiceKind,
    WebrtcVoiceActivity,
    bundled_silero,
    make_voice_activity,
    resampled,
)
from steno.errors import EngineUnavailable, UnsupportedAudio
from steno.ports.speech import Samples, VoiceActivity

RATE_HZ = 8_000
SPEECH_WAV = Path(__file__).parent / "data" / "good_morning_8k.wav"
"""Made by eSpeak NG: "Good morning, how can I help you?"."""


def spoken(rate_hz: int = RATE_HZ) -> Samples:
    """A second and a half of speech."""
    with wave.open(str(SPEECH_WAV), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    if rate_hz == RATE_HZ:
        return samples
    return resampled(samples, RATE_HZ, rate_hz, len(samples) * rate_hz // RATE_HZ)


def noise(peak: int, count: int, *, seed: int = 0) -> Samples:
    """Steady noise no louder than ``peak``."""
    rng = np.random.default_rng(seed)
    return rng.integers(-peak, peak + 1, count).astype(np.int16)


@pytest.fixture(scope="session")
def silero() -> SileroModel:
    """The model that comes with faster-whisper."""
    return SileroModel.load()


def cut(voice: VoiceActivity, samples: Samples, sizes: list[int]) -> bytes:
    """Feed in pieces of these sizes, again and again."""
    flags, at, i = b"", 0, 0
    while at < len(samples):
        flags += voice.feed(samples[at : at + sizes[i % len(sizes)]])
        at += sizes[i % len(sizes)]
        i += 1
    return flags


@given(sizes=st.lists(st.integers(1, 2_000), min_size=1, max_size=20))
def test_one_flag_for_each_whole_frame_however_audio_is_cut(sizes: list[int]) -> None:
    """Flags count frames, not calls, and cutting changes few of them."""
    speech = spoken()
    whole = WebrtcVoiceActivity(RATE_HZ).feed(speech)
    voice = WebrtcVoiceActivity(RATE_HZ)
    flags = cut(voice, speech, sizes)
    assert len(flags) == len(whole) == len(speech) // voice.frame_samples
    # Quiet pieces are passed over, and with them the detector's habit of letting speech ring on.
    assert sum(a != b for a, b in zip(flags, whole, strict=True)) <= 0.12 * len(whole)


@pytest.mark.parametrize("kind", ["webrtc", "silero"])
@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 24_000, 44_100, 48_000])
def test_speech_is_told_from_silence_at_every_rate(
    kind: VoiceKind, rate_hz: int, silero: SileroModel
) -> None:
    """Most of what is spoken is speech, nothing of the silence before is."""
    voice = make_voice_activity(kind, rate_hz, silero)
    before = voice.feed(np.zeros(rate_hz // 2, np.int16))
    flags = cut(voice, spoken(rate_hz), [rate_hz // 5])
    assert not any(before)
    assert flags.count(1) > 0.7 * len(flags)
    assert set(flags) <= {0, 1}


@pytest.mark.parametrize("kind", ["webrtc", "silero"])
def test_steady_noise_is_not_speech(kind: VoiceKind, silero: SileroModel) -> None:
    """Noise of a line is refused once the detector has heard a little of it."""
    flags = make_voice_activity(kind, RATE_HZ, silero).feed(noise(1_000, 2 * RATE_HZ))
    assert not any(flags[len(flags) // 4 :])


@pytest.mark.parametrize("kind", ["webrtc", "silero"])
def test_what_stays_under_the_floor_is_never_speech(kind: VoiceKind, silero: SileroModel) -> None:
    """Speech scaled down to less than the floor counts as silence, in whatever pieces."""
    speech = spoken()
    faint = (speech * (QUIET_PEAK - 1.0) / np.abs(speech).max()).astype(np.int16)
    assert not any(cut(make_voice_activity(kind, RATE_HZ, silero), faint, [1_600, 7, 333]))


def test_a_loud_rest_before_silence_is_still_asked_about() -> None:
    """The start of a frame that came with the call before counts, though the rest is quiet."""
    voice = WebrtcVoiceActivity(RATE_HZ)
    speech = spoken()[2_400:]
    assert 1 in voice.feed(speech[:2_390])  # leaves 230 samples of speech
    assert voice.feed(np.zeros(10, np.int16)) == b"\x01"


def test_negative_swings_count_as_loud() -> None:
    """The floor holds for both directions: audio that only swings below zero is not silence."""
    dipping = -np.abs(spoken())
    assert 1 in WebrtcVoiceActivity(RATE_HZ).feed(dipping)


def test_nothing_in_nothing_out(silero: SileroModel) -> None:
    """An empty piece of audio yields no flag."""
    for kind in ("webrtc", "silero"):
        assert make_voice_activity(kind, RATE_HZ, silero).feed(np.zeros(0, np.int16)) == b""


@pytest.mark.parametrize("rate_hz", [0, 4_000, 7_999, 192_001])
def test_rates_beyond_reason_are_refused(rate_hz: int) -> None:
    """Below telephone quality there is nothing to tell by."""
    with pytest.raises(UnsupportedAudio, match=f"rate_hz={rate_hz}"):
        make_voice_activity("webrtc", rate_hz)


# --- silero ----------------------------------------------------------------------------------


def test_cutting_changes_little_for_silero(silero: SileroModel) -> None:
    """State and context are carried from call to call."""
    speech = spoken()
    whole = SileroVoiceActivity(silero, RATE_HZ).feed(speech)
    flags = cut(SileroVoiceActivity(silero, RATE_HZ), speech, [1_600, 77, 400])
    assert len(flags) == len(whole)
    assert sum(a != b for a, b in zip(flags, whole, strict=True)) <= 0.05 * len(whole)


def test_lanes_sharing_a_model_do_not_hear_one_another(silero: SileroModel) -> None:
    """The model has no memory; each lane keeps its own."""
    speech = spoken()
    alone = cut(SileroVoiceActivity(silero, RATE_HZ), speech, [1_600])
    one, two = SileroVoiceActivity(silero, RATE_HZ), SileroVoiceActivity(silero, RATE_HZ)
    flags = b""
    for at in range(0, len(speech), 1_600):
        flags += one.feed(speech[at : at + 1_600])
        two.feed(noise(8_000, 1_600, seed=at))
    assert flags == alone


def model_of(graph: bytes, tmp_path: Path) -> SileroModel:
    path = tmp_path / "silero.onnx"
    path.write_bytes(graph)
    return SileroModel.load(path)


def pulse_at(index: int, windows: int, window: int) -> Samples:
    samples = np.full(windows * window, QUIET_PEAK + 1, np.int16)
    samples[index] = 30_000
    return samples


@pytest.mark.parametrize(("rate_hz", "window"), [(8_000, 256), (16_000, 512)])
def test_v5_windows_are_preceded_by_the_end_of_the_one_before(
    rate_hz: int, window: int, tmp_path: Path
) -> None:
    """A loud last sample is in its own window and in the context of the next, also across calls."""
    model = model_of(onnx_graphs.v5(), tmp_path)
    voice = SileroVoiceActivity(model, rate_hz)
    assert voice.frame_samples == window
    assert list(voice.feed(pulse_at(2 * window - 1, 4, window))) == [0, 1, 1, 0]
    assert list(voice.feed(pulse_at(4 * window - 1, 4, window))) == [0, 0, 0, 1]
    assert list(voice.feed(pulse_at(3 * window, 4, window))) == [1, 0, 0, 1]


def test_v4_windows_stand_alone(tmp_path: Path) -> None:
    """The fourth generation takes bare windows."""
    voice = SileroVoiceActivity(model_of(onnx_graphs.v4(), tmp_path), RATE_HZ)
    assert list(voice.feed(pulse_at(2 * 256 - 1, 4, 256))) == [0, 1, 0, 0]


def test_state_goes_on_from_call_to_call_and_ends_with_silence(tmp_path: Path) -> None:
    """What the network remembers is carried over; after a quiet stretch it starts afresh."""
    voice = SileroVoiceActivity(model_of(onnx_graphs.v5(sticky=True), tmp_path), RATE_HZ)
    assert list(voice.feed(pulse_at(0, 2, 256))) == [1, 1]
    assert list(voice.feed(np.full(512, QUIET_PEAK + 1, np.int16))) == [1, 1]
    assert list(voice.feed(np.zeros(512, np.int16))) == [0, 0]
    assert list(voice.feed(np.full(512, QUIET_PEAK + 1, np.int16))) == [0, 0]


def test_speech_stays_speech_until_it_is_clearly_over(tmp_path: Path) -> None:
    """0.4 begins nothing, and ends nothing either."""
    voice = SileroVoiceActivity(model_of(onnx_graphs.v4(), tmp_path), RATE_HZ)
    peaks = (0.4, 0.6, 0.4, 0.3, 0.4)
    samples = np.concatenate([np.full(256, int(peak * 32768), np.int16) for peak in peaks])
    assert list(voice.feed(samples)) == [0, 1, 1, 0, 0]


@pytest.mark.parametrize("kind", ["inputs", "state"])
def test_another_graph_is_refused_when_it_is_loaded(
    kind: Literal["inputs", "state"], tmp_path: Path
) -> None:
    """Not in the middle of a call."""
    with pytest.raises(EngineUnavailable, match="silero"):
        model_of(onnx_graphs.other(kind), tmp_path)


def test_a_broken_file_is_refused_without_its_path(tmp_path: Path) -> None:
    """The library's words quote the path, ours do not."""
    with pytest.raises(EngineUnavailable, match="cannot be read") as caught:
        model_of(b"not a model", tmp_path)
    assert str(tmp_path) not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """With what to do about it."""
    with pytest.raises(EngineUnavailable, match=r"missing.*media\.silero_model"):
        SileroModel.load(tmp_path / "nowhere.onnx")


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime comes with an extra."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineUnavailable, match=r"onnxruntime.*whisper"):
        SileroModel.load()


def test_silero_without_a_model_is_refused() -> None:
    """The factory loads nothing by itself: it is called for every lane."""
    with pytest.raises(EngineUnavailable, match="no model"):
        make_voice_activity("silero", RATE_HZ)


def test_the_model_inside_faster_whisper_is_found_without_importing_it() -> None:
    """Its import takes half a second."""
    before = "faster_whisper" in sys.modules
    path = bundled_silero()
    assert path is not None
    assert path.is_file()
    assert ("faster_whisper" in sys.modules) == before
