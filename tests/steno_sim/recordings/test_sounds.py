"""WAV files of every codec hold the voice they are made of."""

from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pytest

from steno_sim.calls.audio import Sound, parse_wav
from steno_sim.calls.voices import spoken_call
from steno_sim.recordings.sounds import alaw_encode, media, wav


def alaw_decode(code: int) -> int:
    """Decode one A-law code as the recommendation's table is built: an implementation apart."""
    code ^= 0x55
    step, segment = code & 0x0F, (code >> 4) & 7
    size = (step << 4) + 8 if segment == 0 else ((step << 4) + 0x108) << (segment - 1)
    return size if code & 0x80 else -size


def test_alaw_is_within_half_a_step_and_keeps_order() -> None:
    """Error below a thirty-second of the value; louder stays louder."""
    samples = np.arange(-32768, 32768, 7, dtype=np.int16)
    decoded = np.array([alaw_decode(int(c)) for c in alaw_encode(samples)])
    error = np.abs(decoded - samples.astype(int))
    assert (error <= np.maximum(16, np.abs(samples.astype(int)) // 32 + 1)).all()
    assert (np.diff(decoded) >= 0).all()
    assert alaw_encode(np.array([0, -1], np.int16)).tolist() == [0xD5, 0x55]


def test_pcm_is_read_by_the_standard_library() -> None:
    """Two channels, 8 kHz, 16 bits."""
    data = media("tickets", "pcm", (1, 0), 1)
    sound = spoken_call("tickets").sound()
    with wave.open(io.BytesIO(data)) as file:
        assert file.getparams()[:4] == (2, 2, 8000, sound.length)
    assert np.array_equal(parse_wav(data).samples, sound.samples[[1, 0]])


def test_ulaw_is_near_the_voice_and_mixed_is_one_channel() -> None:
    """Read back by the simulator's own reader, twice as long when played twice."""
    sound = spoken_call("card").sound()
    one = parse_wav(media("card", "ulaw", (0,), 2))
    assert (one.channels, one.length) == (1, 2 * sound.length)
    near = np.abs(one.samples[0, : sound.length].astype(int) - sound.samples[0])
    assert near.max() < 1100
    mixed = parse_wav(media("card", "pcm", (), 1))
    assert np.array_equal(mixed.samples[0], sound.samples.sum(axis=0, dtype=np.int16))


@pytest.mark.parametrize(("encoding", "tag", "size"), [("pcm", 1, 2), ("alaw", 6, 1)])
def test_headers_tell_codec_and_lengths(encoding: str, tag: int, size: int) -> None:
    """Format tag, block size, and chunks that add up to the file."""
    data = wav(Sound(np.zeros((1, 5), np.int16)), encoding)  # type: ignore[arg-type]  # a codec
    assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    found, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", data, 20)
    assert (found, channels, rate, block, bits) == (tag, 1, 8000, size, 8 * size)
    at = data.index(b"data")
    assert struct.unpack_from("<I", data, at + 4)[0] == 5 * size
