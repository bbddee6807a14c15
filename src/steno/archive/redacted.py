"""Redaction of a stored transcript while it passes: memory does not grow with its length.

Segments pass ``steno.redaction.Carry`` in their order, each speaker a lane, so a number said over
several segments is found. A segment is held until what it ends in is settled; what comes out is in
the order in which it went in, and no segment comes out unseen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, cast

import msgspec

from steno.core.ids import is_uuid
from steno.core.stored import Participant, Segment
from steno.core.transcript import RawText, RedactedSentence, Sentence
from steno.errors import RedactionError
from steno.redaction import Carry, Redactor

WITHHELD: Final = cast("RawText", "[WITHHELD]")
"""Stands for the text of a segment whose redaction failed."""
MAX_SPEAKERS: Final = 10_000
"""Speakers told apart; those beyond are one lane, and of one label if theirs is personal data."""


class SegmentRedaction:
    """Redacts one transcript's segments.

    Args:
        language: BCP-47 tag of what is said; empty where nobody knows.

    Attributes:
        entities: Number of spans removed, by entity.
        withheld: Segments whose redaction failed.
    """

    def __init__(self, redactor: Redactor, *, language: str = "") -> None:
        self._redactor = redactor
        self._language = language
        # Not the time of speech: a pause must not let the second half of a number pass.
        self._carry = Carry(redactor)
        self._waiting: deque[tuple[int, Segment]] = deque()
        self._done: dict[int, RawText] = {}
        self._next = 0
        self._labels: dict[str, str] = {}
        self._lanes: set[str] = set()
        self.entities: dict[str, int] = {}
        self.withheld = 0

    def push(self, segments: Sequence[Segment]) -> list[Segment]:
        """Take segments in; return those that are certain by now, oldest first."""
        for segment in segments:
            number = self._next
            self._next += 1
            self._waiting.append((number, segment))
            lane = self._lane(segment.speaker_id)
            sentence = Sentence(
                "", lane, str(number), 0, segment.text, self._language, 1.0, 0, 0, 0
            )
            try:
                self._take(self._carry.push(sentence, now=0.0))
            except RedactionError:
                self._done[number] = WITHHELD
                self.withheld += 1
        return self._ready()

    def flush(self) -> list[Segment]:
        """Return the rest."""
        self._take(self._carry.flush(0.0))
        for number, _ in self._waiting:
            if number not in self._done:  # it never came back
                self._done[number] = WITHHELD
                self.withheld += 1
        return self._ready()

    def participants(self, participants: Sequence[Participant]) -> tuple[Participant, ...]:
        """Return participants with what is personal data in them masked."""
        return tuple(
            Participant(self._label(one.id), self._masked(one.name), self._masked(one.role))
            for one in participants
        )

    def _take(self, released: Sequence[RedactedSentence]) -> None:
        for one in released:
            self._done[int(one.sentence.utterance)] = RawText(one.text)
            for entity, number in one.entities.items():
                self.entities[entity] = self.entities.get(entity, 0) + number

    def _ready(self) -> list[Segment]:
        ready = []
        while self._waiting and self._waiting[0][0] in self._done:
            number, segment = self._waiting.popleft()
            text = self._done.pop(number)
            speaker = self._label(segment.speaker_id)
            if text != segment.text or speaker != segment.speaker_id:
                segment = msgspec.structs.replace(segment, text=text, speaker_id=speaker)
            ready.append(segment)
        return ready

    def _label(self, label: str) -> str:
        """Return an id as it may be shown: one that is personal data gets a number instead."""
        if not label or is_uuid(label):
            return label
        known = self._labels.get(label)
        if known is None:
            number = min(len(self._labels), MAX_SPEAKERS) + 1
            known = label if self._masked(label) == label else f"speaker-{number}"
            if number <= MAX_SPEAKERS:
                self._labels[label] = known
        return known

    def _lane(self, speaker: str) -> str:
        if speaker not in self._lanes and len(self._lanes) < MAX_SPEAKERS:
            self._lanes.add(speaker)
        return speaker if speaker in self._lanes else ""

    def _masked(self, text: str) -> str:
        if not text:
            return text
        try:
            found = self._redactor.redact(RawText(text), language=self._language)
        except RedactionError:
            return WITHHELD
        return found.text if found.entities else text
