"""Files of every codec are decoded in blocks; what is not whole or not read is told by its code."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile  # type: ignore[import-untyped]  # it has none
from hypothesis import given, settings
from hypothesis import strategies as st

from steno.adapters.audio_files import open_audio
from steno.adapters.audio_files.wholeness import is_broken_off
from steno.core.audio import Encoding, Samples, decode
from steno.errors import StorageError, UnsupportedAudio


def noise(frames: int, channels: int = 1) -> Samples:
    random = np.random.default_rng(7)
    found: Samples = (random.standard_normal((frames, channels)) * 3000).astype(np.int16)
    return found


def written(
    frames: Samples, rate_hz: int = 8000, *, subtype: str = "PCM_16", kind: str = "WAV"
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, frames / 32768, rate_hz, subtype=subtype, format=kind)
    return file.getvalue()


def decoded(path: Path, rate_hz: int = 8000) -> list[Samples]:
    with open_audio(path, rate_hz=rate_hz) as file:
        blocks = []
        while (block := file.read()) is not None:
            blocks.append(block)
            assert len({len(channel) for channel in block}) == 1
        assert file.read() is None
    return [np.concatenate(channel) for channel in zip(*blocks, strict=True)]


@pytest.mark.parametrize(
    ("subtype", "error"),
    [
        ("PCM_16", 0),
        ("PCM_24", 0),
        ("PCM_32", 0),
        ("FLOAT", 0),
        ("PCM_U8", 256),
        ("ULAW", 520),
        ("ALAW", 520),
    ],
)
def test_samples_come_back_as_exactly_as_the_codec_has_them(
    tmp_path: Path, subtype: str, error: int
) -> None:
    """Every channel by itself, over the bounds of blocks."""
    frames = noise(100_001, 2)
    path = tmp_path / "a"
    path.write_bytes(written(frames, subtype=subtype))
    channels = decoded(path)
    assert [len(one) for one in channels] == [100_001] * 2
    for number, channel in enumerate(channels):
        assert np.abs(channel.astype(int) - frames[:, number]).max() <= error


@pytest.mark.parametrize(("subtype", "law"), [("ULAW", Encoding.PCMU), ("ALAW", Encoding.PCMA)])
def test_the_laws_are_those_of_our_own_tables(tmp_path: Path, subtype: str, law: Encoding) -> None:
    """For each of the 256 codes."""
    codes, path = bytes(range(256)), tmp_path / "a"
    path.write_bytes(written(noise(256), subtype=subtype)[:-256] + codes)
    (channel,) = decoded(path)
    assert channel.tolist() == decode(codes, law).tolist()


@pytest.mark.parametrize(
    ("kind", "subtype", "rate_hz"),
    [("OGG", "OPUS", 48000), ("OGG", "VORBIS", 16000), ("WAV", "PCM_16", 44100)],
)
def test_other_rates_are_resampled_and_keep_their_length(
    tmp_path: Path, kind: str, subtype: str, rate_hz: int
) -> None:
    """A tone is the same tone at the rate asked for."""
    time_s = np.arange(7 * rate_hz) / rate_hz
    tone = (8000 * np.sin(2 * np.pi * 700 * time_s)).astype(np.int16).reshape(-1, 1)
    path = tmp_path / "a"
    path.write_bytes(written(tone, rate_hz, kind=kind, subtype=subtype))
    (channel,) = decoded(path, 16000)
    assert abs(len(channel) - 7 * 16000) <= 2
    spectrum = np.abs(np.fft.rfft(channel[16000:-16000].astype(float)))
    assert spectrum.argmax() / 5 == pytest.approx(700, abs=1)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "audio.empty"),
        (written(noise(0)), "audio.empty"),
        (b"\0" * 5000, "audio.codec_unknown"),
        (b"<?xml version='1.0'?><Error/>", "audio.codec_unknown"),
        (written(noise(3000))[:-1], "audio.truncated"),
        (written(noise(3000))[:40], "audio.truncated"),
        (written(noise(48000), 48000, kind="OGG", subtype="OPUS")[:-1], "audio.truncated"),
        (written(noise(10), 1000), "audio.form_unknown"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, data: bytes, code: str) -> None:
    """By a code, and by no text of the file's or the library's."""
    path = tmp_path / "secret-name"
    path.write_bytes(data)
    with pytest.raises(UnsupportedAudio) as caught:
        decoded(path)
    assert caught.value.fields["code"] == code
    assert "secret-name" not in str(caught.value)


def test_a_codec_nobody_reads_is_told(tmp_path: Path) -> None:
    """G.729 in a WAV file, say."""
    data = bytearray(written(noise(3000)))
    data[20:22] = struct.pack("<H", 0x83)
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(UnsupportedAudio) as caught:
        decoded(tmp_path / "a")
    assert caught.value.fields["code"] == "audio.codec_unknown"


def test_a_file_that_is_not_there_is_a_fault_of_storage(tmp_path: Path) -> None:
    """Not of the audio."""
    with pytest.raises(StorageError):
        open_audio(tmp_path / "none", rate_hz=8000)


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 0.999), odd=st.booleans())
def test_a_wav_cut_anywhere_is_broken_off(share: float, odd: bool) -> None:
    """Wherever it was cut, and whatever stands behind the sound when it was not."""
    whole = written(noise(301 if odd else 300), subtype="PCM_U8")
    assert not is_broken_off(io.BytesIO(whole))
    assert not is_broken_off(io.BytesIO(whole + b"LIST\x04\0\0\0abcd"))
    cut = whole[: max(12, int(len(whole) * share) - 1)]
    assert is_broken_off(io.BytesIO(cut))


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(1, 4000))
def test_an_ogg_cut_inside_of_a_page_is_broken_off(cut: int) -> None:
    """At the end of a page nobody can tell."""
    whole = OPUS
    assert not is_broken_off(io.BytesIO(whole))
    left = whole[:-cut]
    assert is_broken_off(io.BytesIO(left)) == (whole[-cut : -cut + 4 or None] != b"OggS")


OPUS = written(noise(96000), 48000, kind="OGG", subtype="OPUS")


@pytest.mark.parametrize("told", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_whose_length_was_not_known_is_taken_as_it_is(tmp_path: Path, told: int) -> None:
    """As programs write it that record into a pipe."""
    data = bytearray(written(noise(3000)))
    data[40:44] = struct.pack("<I", told)
    (tmp_path / "a").write_bytes(data)
    assert len(decoded(tmp_path / "a")[0]) == 3000
