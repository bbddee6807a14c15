"""Sound of calls: G.711 mu-law, 16-bit linear, WAV files, and frames as they go on the wire.

The simulator's own code, so that it can check another implementation from outside.

Source: ITU-T G.711 (mu-law: bias 132 on a 16-bit scale, eight segments of sixteen steps).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 8000
Format = Literal["PCMU", "L16"]
SAMPLE_BYTES: dict[Format, int] = {"PCMU": 1, "L16": 2}

_BIAS = 132
_CLIP = 32635
_WAVE_PCM, _WAVE_ULAW, _WAVE_EXTENSIBLE = 1, 7, 0xFFFE


class SoundError(ValueError):
    """A file is not a sound that calls can be made of; the message names the file."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Linear sound: int16, shape (channels, samples), at ``rate_hz``."""

    samples: NDArray[np.int16]
    rate_hz: int = RATE_HZ

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.samples.shape[0])

    @property
    def length(self) -> int:
        """Samples of each channel."""
        return int(self.samples.shape[1])

    def picked(self, channels: tuple[int, ...]) -> Sound:
        """Give those channels, in that order."""
        return Sound(self.samples[list(channels)], self.rate_hz)

    def after(self, sample: int) -> Sound:
        """Give what follows a position."""
        return Sound(self.samples[:, sample:], self.rate_hz)


def silence(duration_ms: int, *, channels: int = 2) -> Sound:
    """Give silence at 8 kHz."""
    return Sound(np.zeros((channels, duration_ms * RATE_HZ // 1000), dtype=np.int16))


def tone(duration_ms: int, *, hz: tuple[float, ...] = (440.0, 620.0), level: int = 6000) -> Sound:
    """Give one steady tone for each channel at 8 kHz: sound that says nothing."""
    at = np.arange(duration_ms * RATE_HZ // 1000) / RATE_HZ
    waves = [level * np.sin(2 * np.pi * pitch * at) for pitch in hz]
    return Sound(np.rint(np.stack(waves)).astype(np.int16))


def _decode_table() -> NDArray[np.int16]:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    size = (((code & 0x0F) << 3) + _BIAS << ((code >> 4) & 7)) - _BIAS
    return np.where(code & 0x80, -size, size).astype(np.int16)


ULAW_TO_LINEAR = _decode_table()


def ulaw_encode(samples: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Give the mu-law code of every sample; louder than 32635 is clipped."""
    wide = samples.astype(np.int32)
    sign = np.where(wide < 0, 0x80, 0)
    size = np.minimum(np.abs(wide), _CLIP) + _BIAS
    segment = np.floor(np.log2(size)).astype(np.int32) - 7
    step = (size >> (segment + 3)) & 0x0F
    codes: NDArray[np.uint8] = (~(sign | segment << 4 | step) & 0xFF).astype(np.uint8)
    return codes


def ulaw_decode(codes: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Give the linear value of every mu-law code."""
    return ULAW_TO_LINEAR[codes]


def encode(sound: Sound, form: Format) -> bytes:
    """Give the raw bytes as AudioHook sends them: channels interleaved sample by sample.

    L16 is little-endian, as the vendor's reference code reads it.
    """
    mixed = np.ascontiguousarray(sound.samples.T)
    return ulaw_encode(mixed).tobytes() if form == "PCMU" else mixed.astype("<i2").tobytes()


def read_wav(path: Path) -> Sound:
    """Read a WAV file: 16-bit linear or mu-law, 8 kHz, one or two channels.

    Raises:
        SoundError: Another kind of file, or broken.
        OSError: It cannot be read.
    """
    return parse_wav(path.read_bytes(), source=str(path))


def parse_wav(data: bytes, *, source: str = "WAV") -> Sound:
    """Give the sound in the bytes of a WAV file.

    Raises:
        SoundError: Another kind of file, or broken.
    """
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise SoundError(f"{source}: not a WAV file")
    kind = channels = rate = bits = 0
    body: bytes | None = None
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        chunk = data[at + 8 : at + 8 + size]
        if name == b"fmt " and len(chunk) >= 16:
            kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
            if kind == _WAVE_EXTENSIBLE and len(chunk) >= 26:
                kind = int.from_bytes(chunk[24:26], "little")
        elif name == b"data":
            body = chunk
        at += 8 + size + (size & 1)
    if body is None or channels not in (1, 2) or rate != RATE_HZ:
        raise SoundError(f"{source}: needs 8 kHz and one or two channels")
    if (kind, bits) == (_WAVE_ULAW, 8):
        flat = ulaw_decode(np.frombuffer(body, dtype=np.uint8))
    elif (kind, bits) == (_WAVE_PCM, 16):
        flat = np.frombuffer(body[: len(body) // 2 * 2], dtype="<i2").astype(np.int16)
    else:
        raise SoundError(f"{source}: needs mu-law or 16-bit linear samples")
    whole = len(flat) // channels * channels
    return Sound(np.ascontiguousarray(flat[:whole].reshape(-1, channels).T))


def ulaw_wav(sound: Sound) -> bytes:
    """Give the bytes of a mu-law WAV file (format 7, with the fact chunk it needs)."""
    body = encode(sound, "PCMU")
    head = struct.pack(
        "<HHIIHHH",
        _WAVE_ULAW, sound.channels, sound.rate_hz, sound.rate_hz * sound.channels,
        sound.channels, 8, 0,
    )  # fmt: skip
    chunks = (
        b"fmt " + struct.pack("<I", len(head)) + head
        + b"fact" + struct.pack("<II", 4, sound.length)
        + b"data" + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)
    )  # fmt: skip
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
