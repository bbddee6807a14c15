"""Reading tone words out of audio that comes in pieces of any size.

A piece may end anywhere, in the middle of a word too. What was heard is returned, and its pieces
are acknowledged, only where a piece ends in the silence between two sentences: whoever resumes
behind an acknowledged piece then loses no word and hears none twice.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from tones import ALPHABET, HIGH_HZ, LOW_HZ, RATE_HZ, Samples

BLOCK_SAMPLES = 40
LOUD = 500.0
"""Mean size of a block's samples from which on it is no silence."""

WORD_ENDS_BLOCKS = 12
"""60 ms of silence: longer than between two characters, shorter than between two words."""

SENTENCE_ENDS_BLOCKS = 50
"""250 ms: longer than between two words, and so short that a piece of up to 250 ms has its end in
the half second between two sentences."""

WINDOW_SAMPLES = 160
PURITY = 0.7
"""Share of the energy that the two tones must hold: noise and voices are no characters."""

LONGEST_SAMPLES = RATE_HZ // 2
"""A sound longer than this is no character; only so much of it is kept."""

_angle = 2j * np.pi * np.outer(np.array(LOW_HZ + HIGH_HZ), np.arange(WINDOW_SAMPLES)) / RATE_HZ
_TURNS = np.exp(-_angle)


class Heard(NamedTuple):
    """Words in order (perhaps none), and the last piece that they and silence account for."""

    text: str
    sequence: int


class Ear:
    """Listens to one voice."""

    def __init__(self) -> None:
        self._rest: Samples = np.zeros(0, dtype=np.int16)  # less than a block
        self._sound: list[Samples] = []  # blocks of the sound going on
        self._quiet_blocks = SENTENCE_ENDS_BLOCKS
        self._word = ""
        self._words: list[str] = []
        self._sequence = -1

    def hear(self, samples: Samples, sequence: int) -> Heard | None:
        """Take the next piece; return what was said once it ends between two sentences."""
        self._sequence = sequence
        samples = np.concatenate((self._rest, samples))
        whole = len(samples) // BLOCK_SAMPLES * BLOCK_SAMPLES
        self._rest = samples[whole:]
        blocks = samples[:whole].reshape(-1, BLOCK_SAMPLES)
        loud = np.abs(blocks.astype(np.int32)).mean(axis=1) > LOUD
        for block, is_loud in zip(blocks, loud.tolist(), strict=True):
            if is_loud:
                self._sound.append(block)
                self._quiet_blocks = 0
                del self._sound[: -LONGEST_SAMPLES // BLOCK_SAMPLES]
            else:
                self._silence()
        return None if self._quiet_blocks < SENTENCE_ENDS_BLOCKS else self._told()

    def finish(self) -> Heard:
        """Return the rest: no audio follows."""
        for _ in range(WORD_ENDS_BLOCKS):
            self._silence()
        return self._told()

    def _silence(self) -> None:
        if self._sound:
            self._word += character(np.concatenate(self._sound))
            self._sound = []
        self._quiet_blocks += 1
        if self._quiet_blocks == WORD_ENDS_BLOCKS and self._word:
            self._words.append(self._word)
            self._word = ""

    def _told(self) -> Heard:
        text = " ".join(self._words)
        self._words = []
        return Heard(text, self._sequence)


def character(sound: Samples) -> str:
    """Return the character that a sound is; nothing when it is none."""
    if not WINDOW_SAMPLES <= len(sound) < LONGEST_SAMPLES:
        return ""
    begin = (len(sound) - WINDOW_SAMPLES) // 2
    window = sound[begin : begin + WINDOW_SAMPLES].astype(np.float64)
    power = np.abs(_TURNS @ window) ** 2
    low, high = int(power[: len(LOW_HZ)].argmax()), int(power[len(LOW_HZ) :].argmax())
    both = power[low] + power[len(LOW_HZ) + high]
    if 2 * both < PURITY * WINDOW_SAMPLES * float(window @ window):
        return ""
    index = low * len(HIGH_HZ) + high
    return ALPHABET[index] if index < len(ALPHABET) else ""
