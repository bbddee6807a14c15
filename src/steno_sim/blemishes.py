"""Which segments of a conversation are blemished, and how: by chance from a seed, or as written.

Pure. A turn's own list wins over the scenario's shares; draws are made all the same, so that
writing a list for one turn does not move the others'.
"""

from __future__ import annotations

import random

import msgspec

from steno_sim.scenario import Diarisation, Turn

_FAINT = (0.2, 0.45)
_UNSURE = (0.55, 0.8)
_LESS_SURE = 0.03  # of the first of two finals
_SINGLE = ("no_speaker", "faint", "unsure", "never_final", "corrected", "late", "joined")


class Blemishes(msgspec.Struct, frozen=True):
    """What is wrong with one segment; ``confidence`` is 0 where it stays what it was."""

    kinds: list[str] = []
    confidence: float = 0.0

    def __contains__(self, kind: str) -> bool:
        return kind in self.kinds


def choose(turn: Turn, spec: Diarisation, rng: random.Random) -> Blemishes:
    """Give the blemishes of a turn."""
    drawn = [name for name in _SINGLE if rng.random() < getattr(spec, name)]
    kinds = list(drawn if turn.blemishes is None else turn.blemishes)
    if "faint" in kinds and "unsure" in kinds:
        kinds.remove("unsure")
    if "never_final" in kinds:
        # What never comes can neither come late nor twice.
        kinds = [k for k in kinds if k not in ("corrected", "late")]
    faint, unsure = rng.uniform(*_FAINT), rng.uniform(*_UNSURE)
    confidence = faint if "faint" in kinds else unsure if "unsure" in kinds else 0.0
    return Blemishes(kinds, round(confidence, 3))


def overlap_s(
    turn: Turn, before: Turn | None, spoken_s: float, spec: Diarisation, draw: float
) -> float:
    """Give by how much a turn begins before the end of the one before; 0 for not at all.

    Args:
        turn: A turn that does not say so itself.
        before: The one before.
        spoken_s: Length of the one before.
        spec: The scenario's shares.
        draw: A random number, 0..1.
    """
    if before is None or turn.after_s is not None or turn.who == before.who:
        return 0.0
    return min(1.0, spoken_s / 2) if draw < spec.overlaps else 0.0


def first_hearing(text: str, confidence: float) -> tuple[str, float]:
    """Give text and confidence of the first of two finals: a word less, and less sure."""
    words = text.split()
    shorter = " ".join(words[:-1]) if len(words) > 2 else text
    return shorter, round(max(0.01, confidence - _LESS_SURE), 3)
