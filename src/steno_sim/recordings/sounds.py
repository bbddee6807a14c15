"""WAV files of recordings, made from the packaged voices: three codecs, one or two channels.

Source: ITU-T G.711 (A-law: thirteen segments on a 13-bit scale, even bits inverted);
RIFF WAVE (format tags 1, 6 and 7; those of G.711 with a ``fact`` chunk).
"""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from steno_sim.calls.audio import Sound, ulaw_encode
from steno_sim.calls.voices import spoken_call
from steno_sim.recordings.settings import Encoding

_TAGS: dict[Encoding, int] = {"pcm": 1, "alaw": 6, "ulaw": 7}
_BYTES: dict[Encoding, int] = {"pcm": 2, "alaw": 1, "ulaw": 1}


def alaw_encode(samples: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Give the A-law code of every sample."""
    wide = samples.astype(np.int32) >> 3
    sign = np.where(wide >= 0, 0x80, 0)
    size = np.where(wide >= 0, wide, -wide - 1)
    # Segments 0 and 1 have the same step; each one above has twice the step of the one below.
    segment = np.maximum(np.floor(np.log2(np.maximum(size, 1))).astype(np.int32) - 4, 0)
    step = (size >> np.maximum(segment, 1)) & 0x0F
    codes: NDArray[np.uint8] = ((sign | segment << 4 | step) ^ 0x55).astype(np.uint8)
    return codes


def wav(sound: Sound, encoding: Encoding) -> bytes:
    """Give the bytes of a WAV file."""
    mixed = np.ascontiguousarray(sound.samples.T)
    if encoding == "pcm":
        body = mixed.astype("<i2").tobytes()
    else:
        body = (alaw_encode if encoding == "alaw" else ulaw_encode)(mixed).tobytes()
    block = _BYTES[encoding] * sound.channels
    head = struct.pack(
        "<HHIIHH",
        _TAGS[encoding], sound.channels, sound.rate_hz, sound.rate_hz * block, block,
        8 * _BYTES[encoding],
    )  # fmt: skip
    fact = b""
    if encoding != "pcm":
        head += b"\0\0"
        fact = b"fact" + struct.pack("<II", 4, sound.length)
    chunks = b"fmt " + struct.pack("<I", len(head)) + head + fact
    chunks += b"data" + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@lru_cache(maxsize=32)
def media(voice: str, encoding: Encoding, channels: tuple[int, ...], repeats: int) -> bytes:
    """Give the file of a voice: those channels of it, or all mixed into one for none named."""
    sound = spoken_call(voice).sound()
    if channels:
        sound = sound.picked(channels)
    else:
        both = sound.samples.astype(np.int32).sum(axis=0, keepdims=True)
        sound = Sound(np.clip(both, -32768, 32767).astype(np.int16), sound.rate_hz)
    if repeats > 1:
        sound = Sound(np.tile(sound.samples, (1, repeats)), sound.rate_hz)
    return wav(sound, encoding)
