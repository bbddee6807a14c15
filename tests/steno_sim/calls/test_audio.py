"""Sound: mu-law, WAV files, and the order of bytes on the wire."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np
import pytest

from steno_sim.calls.audio import (
    Sound,
    SoundError,
    encode,
    parse_wav,
    read_wav,
    tone,
    ulaw_decode,
    ulaw_encode,
    ulaw_wav,
)

STEREO = Sound(np.array([[0, 1000, -1000], [32000, -32000, 7]], dtype=np.int16))


def test_known_codes() -> None:
    """G.711: 0xFF and 0x7F are zero, 0x80 and 0x00 the loudest, 0xF0 is 120."""
    codes = np.array([0xFF, 0x7F, 0x80, 0x00, 0xF0, 0xEF], dtype=np.uint8)
    assert ulaw_decode(codes).tolist() == [0, 0, 32124, -32124, 120, 132]
    loud = np.array([0, 32767, -32768, 120, 132], dtype=np.int16)
    assert ulaw_encode(loud).tolist() == [0xFF, 0x80, 0x00, 0xF0, 0xEF]


def test_every_code_comes_back() -> None:
    """Decoding and encoding is the identity, negative zero excepted."""
    codes = np.arange(256, dtype=np.uint8)
    back = ulaw_encode(ulaw_decode(codes))
    assert np.flatnonzero(back != codes).tolist() == [0x7F]


def test_channels_are_interleaved() -> None:
    """Sample by sample in channel order; L16 is little-endian."""
    assert encode(STEREO, "L16") == struct.pack("<6h", 0, 32000, 1000, -32000, -1000, 7)
    codes = ulaw_encode(STEREO.samples)
    assert list(encode(STEREO, "PCMU")) == codes.T.reshape(-1).tolist()


@pytest.mark.parametrize("length_ms", [100, 101])
def test_a_mu_law_file_holds_what_was_written(length_ms: int) -> None:
    """Lengths, channels, and every code."""
    sound = tone(length_ms)
    back = parse_wav(ulaw_wav(sound))
    assert back.samples.shape == sound.samples.shape
    assert encode(back, "PCMU") == encode(sound, "PCMU")


def test_linear_files_are_read(tmp_path: Path) -> None:
    """As Python's own wave module writes them."""
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", ""))
        file.writeframes(encode(STEREO, "L16"))
    assert read_wav(path).samples.tolist() == STEREO.samples.tolist()


@pytest.mark.parametrize("change", ["not a wav", "rate", "cut"])
def test_other_files_are_refused(change: str) -> None:
    """With an error that names the file."""
    data = bytearray(ulaw_wav(STEREO))
    if change == "rate":
        data[24:28] = (16000).to_bytes(4, "little")
    bad = {"not a wav": b"hello, this is text", "rate": bytes(data), "cut": bytes(data[:30])}
    with pytest.raises(SoundError, match=r"some\.wav"):
        parse_wav(bad[change], source="some.wav")
