"""Tone words: audio that a program can read exactly, made from text.

Each character is a chord of two tones, 40 ms long, followed by 20 ms of silence; between words
there are 120 ms, after the end of a sentence half a second. That is about the speed of speech,
and it survives mu-law. ``hearing.py`` is the way back.

    python tones.py "please call me back." call.wav     # mono, mu-law, 8 kHz
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

RATE_HZ = 8000
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789.,?!'-@:"
LOW_HZ = (700, 800, 900, 1000, 1100, 1200)
HIGH_HZ = (1500, 1650, 1800, 1950, 2100, 2250, 2400, 2550)
"""All of them multiples of 50 Hz: over 20 ms they do not disturb one another."""

TONE_SAMPLES = 320
SYMBOL_GAP_SAMPLES = 160
WORD_GAP_SAMPLES = 960
SENTENCE_GAP_SAMPLES = 4000
AMPLITUDE = 6000.0

Samples = npt.NDArray[np.int16]


def chord(symbol: str) -> tuple[int, int]:
    """Return the two frequencies of a character of the alphabet, Hz."""
    low, high = divmod(ALPHABET.index(symbol), len(HIGH_HZ))
    return LOW_HZ[low], HIGH_HZ[high]


def spoken(text: str) -> Samples:
    """Return the samples of a text; it begins and ends with half a second of silence.

    Raises:
        ValueError: A character is not in the alphabet.
    """
    time_s = np.arange(TONE_SAMPLES) / RATE_HZ
    pieces = [np.zeros(SENTENCE_GAP_SAMPLES)]
    for word in text.lower().split():
        for symbol in word:
            low, high = chord(symbol)
            wave = np.sin(2 * np.pi * low * time_s) + np.sin(2 * np.pi * high * time_s)
            pieces += [AMPLITUDE * wave, np.zeros(SYMBOL_GAP_SAMPLES)]
        ends = word[-1] in ".?!"
        pause = SENTENCE_GAP_SAMPLES if ends else WORD_GAP_SAMPLES
        pieces.append(np.zeros(pause - SYMBOL_GAP_SAMPLES))
    pieces.append(np.zeros(SENTENCE_GAP_SAMPLES))
    return np.concatenate(pieces).astype(np.int16)


def mu_law(samples: Samples) -> bytes:
    """Encode linear samples as G.711 mu-law, a byte each."""
    linear = samples.astype(np.int32)
    sign = np.where(linear < 0, 0x80, 0)
    magnitude = np.minimum(np.abs(linear), 32635) + 132
    exponent = np.maximum(np.log2(magnitude).astype(np.int32) - 7, 0)
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    return bytes((~(sign | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8))


def interleaved(*channels: Samples) -> Samples:
    """Return several channels sample by sample; shorter ones are filled with silence."""
    both = np.zeros((max(map(len, channels)), len(channels)), dtype=np.int16)
    for index, samples in enumerate(channels):
        both[: len(samples), index] = samples
    return both.reshape(-1)


def wav(audio: bytes, *, channels: int = 1) -> bytes:
    """Return a WAV file of mu-law audio (format 7)."""
    fmt = struct.pack("<HHIIHHH", 7, channels, RATE_HZ, RATE_HZ * channels, channels, 8, 0)
    fact = struct.pack("<I", len(audio) // channels)
    body = b"".join(
        name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2)
        for name, part in ((b"fmt ", fmt), (b"fact", fact), (b"data", audio))
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(wav(mu_law(spoken(sys.argv[1]))))
