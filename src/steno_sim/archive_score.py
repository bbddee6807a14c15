"""Holding an archived transcript, or a listing of its segments, against what the simulator stored.

Nothing of the product is used here. A payload is the document's JSON (``transcript`` with
``start_time end_time text speaker_id confidence``, and ``participants``); a listing is JSON lines,
each a segment, or an object with ``start_sample end_sample role`` and the ``segment``. What is
expected is the truth of ``GET /_sim/stored?conversation=ID`` or of ``Archive.truth``: every turn
that can be read, exactly once.

Texts are equal to the displayed or to the spoken form; where redaction was asked for, a mask
(``[PHONE]``) stands for as many words as the turn's secrets have, and one more, and no planted
secret may stand in any text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from steno_sim.archive.library import Truth
from steno_sim.archive.said import StoredTurn
from steno_sim.score import masks_match, plain
from steno_sim.speech import spoken

_DETAILS = 100
_TIME_S = 0.0006
_CONFIDENCE = 0.00006
_PURPOSES = {
    "agent": {"internal", "agent"},
    "customer": {"external", "customer"},
    "system": {"ivr", "system"},
    "unknown": {"", "unknown"},
}
_SPOKEN_IN = ("en", "es", "fr", "de")


class Segment(msgspec.Struct, frozen=True):
    """One segment of a payload or a listing."""

    start_time: float
    end_time: float
    text: str
    speaker_id: str = ""
    confidence: float | None = None


class _Participant(msgspec.Struct, frozen=True):
    id: str
    name: str = ""
    role: str = ""


class Payload(msgspec.Struct, frozen=True):
    """An archived transcript."""

    transcript: list[Segment]
    participants: list[_Participant]


class _Line(msgspec.Struct, frozen=True):
    start_sample: int
    end_sample: int
    segment: Segment
    role: str = ""


class ArchiveScore(msgspec.Struct):
    """How an archived transcript compares with what was stored; each segment counts once.

    Attributes:
        expected: Turns that can be read.
        right: Of those, archived as they should be.
        missing: Not archived.
        extra: Archived, and never said, or said once and archived again.
        wrong: Archived with another text, other times, speaker, role, confidence or samples.
        disordered: Segments that come before one that was stored before them.
        leaked: Planted secrets that stand in the texts, where redaction was asked for.
        wrong_participants: The list of participants is another one.
        details: What was wrong, by index, without any text.
    """

    expected: int = 0
    right: int = 0
    missing: int = 0
    extra: int = 0
    wrong: int = 0
    disordered: int = 0
    leaked: int = 0
    wrong_participants: bool = False
    details: list[str] = []

    @property
    def perfect(self) -> bool:
        """Nothing at all is wrong."""
        faults = self.missing + self.extra + self.wrong + self.disordered + self.leaked
        return faults == 0 and not self.wrong_participants

    def note(self, text: str) -> None:
        """Keep a detail, if there are not too many."""
        if len(self.details) < _DETAILS:
            self.details.append(text)


def score_payload(
    truths: Sequence[Truth],
    data: bytes,
    *,
    redacted: bool = False,
    only: Iterable[str] = (),
    min_confidence: float = 0.0,
) -> ArchiveScore:
    """Hold an archived payload against the files it was made from.

    Args:
        truths: Of the document, or of the platform's files in the order in which they were put
            together.
        data: The payload, JSON.
        redacted: Redaction was asked for.
        only, min_confidence: As of ``score_segments``.

    Raises:
        msgspec.MsgspecError: It is no such payload.
    """
    payload = msgspec.json.decode(data, type=Payload)
    found = score_segments(
        truths, payload.transcript, redacted=redacted, only=only, min_confidence=min_confidence
    )
    if truths and truths[0].shape == "document":
        told = [{"id": p.id, "name": p.name, "role": p.role} for p in payload.participants]
        if redacted:
            # Names may go too; who they are stays.
            told = [each | {"name": ""} for each in told]
            known = [each | {"name": ""} for each in truths[0].participants]
        else:
            known = truths[0].participants
        found.wrong_participants = told != known
    return found


def score_listing(
    truths: Sequence[Truth],
    lines: bytes,
    *,
    redacted: bool = False,
    rate: int = 48_000,
    only: Iterable[str] = (),
    min_confidence: float = 0.0,
) -> ArchiveScore:
    """Hold a listing, JSON lines, against the files it was made from.

    Args:
        truths: As of ``score_payload``.
        lines: The listing.
        redacted: Redaction was asked for.
        rate: Samples per second of its positions.
        only, min_confidence: As of ``score_segments``.

    Raises:
        msgspec.MsgspecError: A line is none of a listing.
    """
    read = msgspec.json.Decoder(_Line)
    listed = [read.decode(line) for line in lines.splitlines() if line.strip()]
    found = score_segments(
        truths,
        [line.segment for line in listed],
        redacted=redacted,
        roles=[line.role for line in listed],
        only=only,
        min_confidence=min_confidence,
    )
    for index, line in enumerate(listed):
        said, at = line.segment, (line.start_sample, line.end_sample)
        exact = (said.start_time * rate, said.end_time * rate)
        nearest = all(abs(a - max(0.0, b)) <= 0.5001 for a, b in zip(at, exact, strict=True))
        if at[0] < 0 or at[1] < at[0] or not nearest:
            found.wrong += 1
            found.note(f"line {index}: samples")
    return found


def score_segments(
    truths: Sequence[Truth],
    segments: Sequence[Segment],
    *,
    redacted: bool = False,
    roles: Sequence[str] = (),
    only: Iterable[str] = (),
    min_confidence: float = 0.0,
) -> ArchiveScore:
    """Hold segments against what was stored.

    Args:
        truths: As of ``score_payload``.
        segments: In their order.
        redacted: Redaction was asked for.
        roles: The role told of each; empty where none is.
        only: Roles that were asked for; all when empty.
        min_confidence: The least confidence that was asked for.
    """
    wanted = set(only)
    expected = [
        turn
        for truth in truths
        for turn in truth.turns
        if not turn.bad
        and (not wanted or turn.role in wanted)
        and (turn.confidence or 0.0) >= min_confidence
    ]
    score = ArchiveScore(expected=len(expected))
    places = _paired(expected, segments, redacted)
    last = -1
    for index, (segment, place) in enumerate(zip(segments, places, strict=True)):
        if place is None:
            score.extra += 1
            score.note(f"segment {index}: extra")
            continue
        if place < last:
            score.disordered += 1
            score.note(f"segment {index}: order")
        last = max(last, place)
        role = roles[index] if roles else None
        wrong = _differences(expected[place], segment, redacted, role)
        score.right += not wrong
        score.wrong += bool(wrong)
        if wrong:
            score.note(f"segment {index}, turn {expected[place].index}: {' '.join(wrong)}")
    met = {place for place in places if place is not None}
    score.missing = len(expected) - len(met)
    for place, turn in enumerate(expected):
        if place not in met:
            score.note(f"turn {turn.index}: missing")
    if redacted:
        score.leaked = _leaked(expected, segments, places)
    return score


def _paired(
    expected: Sequence[StoredTurn], segments: Sequence[Segment], redacted: bool
) -> list[int | None]:
    """Give for each segment the turn that it is: that of its times and text, else of either."""
    by_time: dict[tuple[int, int], list[int]] = {}
    for place, turn in enumerate(expected):
        by_time.setdefault((turn.start_ms, turn.end_ms), []).append(place)
    found: list[int | None] = []
    for segment in segments:
        key = (round(segment.start_time * 1000), round(segment.end_time * 1000))
        places = by_time.get(key, [])
        fitting = [p for p in places if _says(expected[p], segment.text, redacted)]
        candidates = fitting or places
        found.append(candidates[0] if candidates else None)
        if candidates:
            places.remove(candidates[0])
    left: dict[str, list[int]] = {}
    for place in sorted(p for places in by_time.values() for p in places):
        left.setdefault(plain(expected[place].text), []).append(place)
    for index, segment in enumerate(segments):
        if found[index] is None and left.get(plain(segment.text)):
            found[index] = left[plain(segment.text)].pop(0)
    return found


def _says(turn: StoredTurn, text: str, redacted: bool) -> bool:
    if text in (turn.text, turn.spoken):
        return True
    if not redacted:
        return False
    for said in (turn.text, turn.spoken):
        words = sum(len(plain(form).split()) for s in turn.secrets for form in _forms(s.text)[:1])
        longest = max((len(f.split()) for s in turn.secrets for f in _forms(s.text)), default=0)
        if masks_match(text, plain(said), max(words, longest * len(turn.secrets))):
            return True
    return False


def _differences(turn: StoredTurn, segment: Segment, redacted: bool, role: str | None) -> list[str]:
    wrong = []
    if not _says(turn, segment.text, redacted):
        wrong.append("text")
    if (
        abs(segment.start_time - turn.start_ms / 1000) > _TIME_S
        or abs(segment.end_time - turn.end_ms / 1000) > _TIME_S
    ):
        wrong.append("times")
    if segment.speaker_id not in {turn.speaker, *_PURPOSES[turn.role]}:
        wrong.append("speaker")
    if segment.confidence is None or turn.confidence is None:
        sure = segment.confidence is turn.confidence
    else:
        sure = abs(segment.confidence - turn.confidence) <= _CONFIDENCE
    if not sure:
        wrong.append("confidence")
    if role is not None and role != turn.role:
        wrong.append("role")
    return wrong


def _leaked(
    expected: Sequence[StoredTurn], segments: Sequence[Segment], places: Sequence[int | None]
) -> int:
    """Count the secrets that stand in the segment of their turn, or in one that is of none."""
    of_turn = {place: plain(s.text) for s, place in zip(segments, places, strict=True)}
    extra = " | ".join(plain(s.text) for s, p in zip(segments, places, strict=True) if p is None)
    return sum(
        any(form in of_turn.get(place, "") or form in extra for form in _forms(secret.text))
        for place, turn in enumerate(expected)
        for secret in turn.secrets
    )


def _forms(secret: str) -> list[str]:
    """Give how a secret may stand in a text: as displayed, and as spoken in our languages."""
    return [plain(secret), *dict.fromkeys(plain(spoken(secret, tag)) for tag in _SPOKEN_IN)]
