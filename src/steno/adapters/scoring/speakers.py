"""The diarisation error rate: time that is missed, invented, or given to the wrong speaker.

MeetEval's own DER starts a Perl script that it fetches from the network, so the sum is made
here; the best mapping of speakers, which is the hard part, is SciPy's.

Source: NIST, Rich Transcription 2009 evaluation plan, 6.1 (definition, collar, mapping).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from steno.adapters.scoring.pieces import Piece

_MICRO: Final = 1_000_000
_REFERENCE, _HYPOTHESIS, _COLLAR = 0, 1, 2


class SpeakerErrors(msgspec.Struct, frozen=True, gc=False):
    """Seconds of speech of the reference, and of what is wrong about it.

    ``der = (missed_s + false_alarm_s + confusion_s) / scored_s``

    Attributes:
        scored_s: Sum over the reference's speakers of the time each speaks, where it is scored.
        missed_s: Of that, what the hypothesis gives to nobody.
        false_alarm_s: What the hypothesis has beyond the number of speakers in the reference.
        confusion_s: What the hypothesis gives to another speaker, under the mapping of its
            speakers to the reference's, one to one, that leaves the least of it.
        der: None when nothing is scored.
    """

    scored_s: float
    missed_s: float
    false_alarm_s: float
    confusion_s: float
    der: float | None


class SpeakerSums(msgspec.Struct, frozen=True, gc=False):
    """The same in microseconds; sums of conversations are exact."""

    scored_us: int = 0
    missed_us: int = 0
    false_alarm_us: int = 0
    confusion_us: int = 0

    def plus(self, other: SpeakerSums) -> SpeakerSums:
        """Return the sums of both."""
        return SpeakerSums(
            self.scored_us + other.scored_us,
            self.missed_us + other.missed_us,
            self.false_alarm_us + other.false_alarm_us,
            self.confusion_us + other.confusion_us,
        )

    def errors(self) -> SpeakerErrors:
        """Return them in seconds, with their rate."""
        wrong_us = self.missed_us + self.false_alarm_us + self.confusion_us
        return SpeakerErrors(
            self.scored_us / _MICRO,
            self.missed_us / _MICRO,
            self.false_alarm_us / _MICRO,
            self.confusion_us / _MICRO,
            wrong_us / self.scored_us if self.scored_us else None,
        )


def speaker_sums(
    reference: Sequence[Piece],
    hypothesis: Sequence[Piece],
    *,
    collar_us: int,
    score_overlap: bool,
) -> SpeakerSums:
    """Compare the pieces of one conversation.

    Scored is the whole time from the first start to the last end of both, so speech invented
    outside the reference counts as well. Left out is what lies within the collar on either side
    of a start or an end in the reference and, unless ``score_overlap``, the time in which two
    or more speakers of the reference speak. Pieces without times or length say nothing.
    """
    steps = sorted(_steps(reference, hypothesis, collar_us))
    active: tuple[Counter[str], Counter[str], Counter[str]] = (Counter(), Counter(), Counter())
    shared: Counter[tuple[str, str]] = Counter()
    scored = missed = invented = paired = 0
    for (at_us, change, side, who), (next_us, *_) in pairwise([*steps, (0, 0, 0, "")]):
        _count(active[side], who, change)
        length_us = next_us - at_us
        heard, claimed, collars = active
        if length_us <= 0 or collars or (len(heard) > 1 and not score_overlap):
            continue
        scored += length_us * len(heard)
        missed += length_us * max(0, len(heard) - len(claimed))
        invented += length_us * max(0, len(claimed) - len(heard))
        paired += length_us * min(len(heard), len(claimed))
        for one in heard:
            for other in claimed:
                shared[one, other] += length_us
    return SpeakerSums(scored, missed, invented, paired - _best(shared))


_Step = tuple[int, int, int, str]
"""When, +1 or -1, which side, who."""


def _steps(
    reference: Iterable[Piece], hypothesis: Iterable[Piece], collar_us: int
) -> Iterable[_Step]:
    for side, pieces in ((_REFERENCE, reference), (_HYPOTHESIS, hypothesis)):
        for piece in pieces:
            if piece.start_us is None or piece.end_us is None or piece.end_us <= piece.start_us:
                continue
            yield piece.start_us, 1, side, piece.speaker
            yield piece.end_us, -1, side, piece.speaker
            if side == _REFERENCE and collar_us:
                for at_us in (piece.start_us, piece.end_us):
                    yield at_us - collar_us, 1, _COLLAR, ""
                    yield at_us + collar_us, -1, _COLLAR, ""


def _count(active: Counter[str], who: str, change: int) -> None:
    active[who] += change
    if not active[who]:
        del active[who]


def _best(shared: Counter[tuple[str, str]]) -> int:
    """Return the most time that a mapping of speakers, one to one, can have in common."""
    if not shared:
        return 0
    import numpy as np
    from scipy.optimize import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
        linear_sum_assignment,
    )

    heard = {who: row for row, who in enumerate(sorted({one for one, _ in shared}))}
    claimed = {who: column for column, who in enumerate(sorted({one for _, one in shared}))}
    common = np.zeros((len(heard), len(claimed)), dtype=np.int64)
    for (one, other), length_us in shared.items():
        common[heard[one], claimed[other]] = length_us
    rows, columns = linear_sum_assignment(common, maximize=True)
    return int(common[rows, columns].sum())
