"""Comparing an export of speaker segments with what the simulator said.

Nothing of the product is used here. The export is the document's JSON: ``totalSegments`` and
``segments`` with ``conversation_id, speaker, text, start_seconds, end_seconds, confidence,
is_final, timestamp``. What is expected follows from the truth of the run: every segment
whose final reached the collector, with a speaker and enough confidence, exactly once.

Texts are compared word by word; a mask (``[PHONE]``) stands for as many words as the
segment's secrets have, and one more. Each exported segment is matched with the expected one
that it fits best, so that one error counts once: a segment under a wrong name is a wrong
speaker, not one missing and one extra.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from steno_sim.ledger import SURE, Family, Truth
from steno_sim.score import masks_match, plain

_DETAILS = 100  # described errors of one score, at most
_TOLERANCE_S = {"event": 0.0015, "topic": 0.01, "stream": 0.0}
_CONFIDENCE = 0.0015


class Exported(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One segment of an export."""

    conversation_id: str
    speaker: str
    text: str
    start_seconds: float
    end_seconds: float
    confidence: float
    is_final: bool
    timestamp: str


class Export(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An export, in the document's shape."""

    totalSegments: int  # noqa: N815 - the document's own name
    segments: list[Exported]


class SegmentsScore(msgspec.Struct, frozen=True):
    """How an export compares with the truth; every error counts once.

    Attributes:
        expected: Segments that a perfect collector exports.
        right: Of those, exported with speaker, text, times and confidence as they should be.
        missing: Expected, and nothing in the export fits.
        extra: Exported, and not expected: never said, or one for the audit.
        repeated: Exported again.
        wrong_speaker, wrong_times, wrong_text, wrong_confidence: Exported otherwise right
            but for these; one segment may be wrong in two ways.
        disordered: Exported after one of its conversation that starts later.
        misshaped: Not final, a timestamp that is none, or a wrong ``totalSegments``.
        leaked: Planted secrets, or parts of one, that stand in their conversation's texts.
        details: What was wrong, by utterance id or position, without any text.
    """

    expected: int
    right: int = 0
    missing: int = 0
    extra: int = 0
    repeated: int = 0
    wrong_speaker: int = 0
    wrong_times: int = 0
    wrong_text: int = 0
    wrong_confidence: int = 0
    disordered: int = 0
    misshaped: int = 0
    leaked: int = 0
    details: list[str] = []

    @property
    def perfect(self) -> bool:
        """Everything expected is there as it should be, and nothing else."""
        return self.right == self.expected and not any(getattr(self, n) for n in _ERRORS)


_ERRORS = (
    "missing",
    "extra",
    "repeated",
    "wrong_speaker",
    "wrong_times",
    "wrong_text",
    "wrong_confidence",
    "disordered",
    "misshaped",
    "leaked",
)


class _Expected(msgspec.Struct, frozen=True):
    id: str
    speaker: str
    text: str
    start_s: float
    end_s: float
    confidence: float
    secret_words: int


def score_export(
    truth: Truth,
    export: bytes | str,
    *,
    family: Family = "event",
    min_confidence: float = SURE,
    tolerance_s: float | None = None,
) -> SegmentsScore:
    """Score an export file's content.

    Args:
        truth: The truth of the run, after its end.
        export: JSON text.
        family: Where the collector listened: event socket or notification topics.
        min_confidence: The export's threshold.
        tolerance_s: Times may be off by so much; a rounding's worth when not given.

    Raises:
        msgspec.ValidationError: The export has not the document's shape.
    """
    found = msgspec.json.decode(export, type=Export)
    score = score_segments(
        truth,
        found.segments,
        family=family,
        min_confidence=min_confidence,
        tolerance_s=tolerance_s,
    )
    if found.totalSegments == len(found.segments):
        return score
    wrong = [*score.details, "misshaped totalSegments"]
    return msgspec.structs.replace(score, misshaped=score.misshaped + 1, details=wrong)


def score_segments(
    truth: Truth,
    exported: Sequence[Exported],
    *,
    family: Family = "event",
    min_confidence: float = SURE,
    tolerance_s: float | None = None,
) -> SegmentsScore:
    """Score exported segments in their order; see ``score_export``."""
    tally = _Tally(_TOLERANCE_S[family] if tolerance_s is None else tolerance_s)
    wanted = expected(truth, family=family, min_confidence=min_confidence)
    by_conversation: dict[str, list[tuple[int, Exported]]] = {}
    for place, one in enumerate(exported):
        by_conversation.setdefault(one.conversation_id, []).append((place, one))
        tally.check_shape(place, one)
    for conversation in wanted.keys() | by_conversation.keys():
        found = by_conversation.get(conversation, [])
        tally.match(wanted.get(conversation, []), found)
        tally.check_order(found)
    tally.errors["leaked"] = _leaks(truth, exported)
    total = sum(map(len, wanted.values()))
    return SegmentsScore(total, tally.right, **tally.errors, details=tally.details)


def expected(
    truth: Truth, *, family: Family = "event", min_confidence: float = SURE
) -> dict[str, list[_Expected]]:
    """Give the segments that a perfect export holds, by conversation."""
    wanted: dict[str, list[_Expected]] = {}
    for conversation in truth.conversations:
        for segment in conversation.segments:
            final = segment.known(family)
            if final is None or segment.verdict(family) not in ("result", "unsure"):
                continue
            if final.confidence >= min_confidence:
                scale = _scale(truth, family)
                wanted.setdefault(conversation.id, []).append(
                    _Expected(
                        segment.id,
                        segment.label(family),
                        plain(final.text),
                        final.start_s * scale,
                        final.end_s * scale,
                        final.confidence,
                        sum(len(plain(s.text).split()) for s in segment.secrets),
                    )
                )
    return wanted


def audited(truth: Truth, *, family: Family = "event") -> dict[str, int]:
    """Give how many segments a perfect collector puts to its audit, by reason."""
    counts = {"low_confidence": 0, "no_speaker": 0, "never_final": 0}
    for conversation in truth.conversations:
        pairs = zip(conversation.segments, conversation.utterances, strict=True)
        for segment, utterance in pairs:
            verdict = segment.verdict(family)
            heard = utterance.topic if family == "topic" else utterance.event
            if verdict in counts and heard != "none":
                counts[verdict] += 1
    return counts


def _scale(truth: Truth, family: Family) -> float:
    """Give by how much the topics' times are shorter than those of the conversation."""
    if family != "topic":
        return 1.0
    return 1 / truth.speed if truth.speed else 0.001


class _Tally:
    """Counts errors while conversations are compared."""

    def __init__(self, tolerance_s: float) -> None:
        self.right = 0
        self.errors: dict[str, int] = dict.fromkeys(_ERRORS, 0)
        self.details: list[str] = []
        self._tolerance_s = tolerance_s

    def note(self, error: str, name: str) -> None:
        self.errors[error] += 1
        if len(self.details) < _DETAILS:
            self.details.append(f"{error} {name}")

    def check_shape(self, place: int, one: Exported) -> None:
        try:
            dated = datetime.fromisoformat(one.timestamp).tzinfo is not None
        except ValueError:
            dated = False
        if not (one.is_final and dated):
            self.note("misshaped", f"segment {place}")

    def check_order(self, found: Iterable[tuple[int, Exported]]) -> None:
        last = float("-inf")
        for place, one in found:
            if one.start_seconds < last - self._tolerance_s:
                self.note("disordered", f"segment {place}")
            last = max(last, one.start_seconds)

    def match(self, wanted: list[_Expected], found: list[tuple[int, Exported]]) -> None:
        """Pair what fits, the best first; what is left over is missing, repeated or extra."""
        pairs = sorted(
            (
                (self._wrong(w, f), abs(w.start_s - f.start_seconds), i, j)
                for i, w in enumerate(wanted)
                for j, (_, f) in enumerate(found)
                if self._may_be(w, f)
            ),
            key=lambda p: (len(p[0]), p[1]),
        )
        free, open_ = set(range(len(found))), set(range(len(wanted)))
        for wrong, _, i, j in pairs:
            if i in open_ and j in free:
                open_.discard(i)
                free.discard(j)
                self.right += not wrong
                for error in wrong:
                    self.note(error, wanted[i].id)
        for i in sorted(open_):
            self.note("missing", wanted[i].id)
        for j in sorted(free):
            place, one = found[j]
            again = any(not self._wrong(w, one) for w in wanted)
            self.note("repeated" if again else "extra", f"segment {place}")

    def _wrong(self, wanted: _Expected, found: Exported) -> list[str]:
        wrong = []
        if wanted.speaker != found.speaker:
            wrong.append("wrong_speaker")
        if not (
            self._near(wanted.start_s, found.start_seconds)
            and self._near(wanted.end_s, found.end_seconds)
        ):
            wrong.append("wrong_times")
        if not masks_match(found.text, wanted.text, wanted.secret_words):
            wrong.append("wrong_text")
        if abs(wanted.confidence - found.confidence) > _CONFIDENCE:
            wrong.append("wrong_confidence")
        return wrong

    def _may_be(self, wanted: _Expected, found: Exported) -> bool:
        """Tell whether the two have enough in common to be the same: text, or place."""
        if masks_match(found.text, wanted.text, wanted.secret_words):
            return True
        return wanted.speaker == found.speaker and self._near(wanted.start_s, found.start_seconds)

    def _near(self, one: float, two: float) -> bool:
        return abs(one - two) <= self._tolerance_s


def _leaks(truth: Truth, exported: Sequence[Exported]) -> int:
    """Count secrets, or parts of one, that stand in a text of their conversation."""
    texts: dict[str, str] = {}
    for one in exported:
        said = texts.get(one.conversation_id, "")
        texts[one.conversation_id] = f"{said} | {plain(one.text)}"
    return sum(
        f" {plain(secret.text)} " in f"{texts.get(conversation.id, '')} "
        for conversation in truth.conversations
        for segment in conversation.segments
        for secret in segment.secrets
    )
