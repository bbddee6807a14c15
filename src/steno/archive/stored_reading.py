"""Reading a stored transcript for repair: bytes in, redacted segments with stable names out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from steno.archive.criteria import roles_of
from steno.archive.reconcile import Said
from steno.archive.redacted import SegmentRedaction
from steno.core.stored import (
    FieldsRead,
    Participant,
    ParticipantsRead,
    Segment,
    SegmentBatch,
    StoredPart,
    StoredShape,
    role_of,
)
from steno.core.transcript import Role
from steno.errors import IntegrityError
from steno.ports.archive import FoundTranscript

MAX_SEGMENTS: Final = 100_000
"""Of one conversation's transcripts: some days of speech."""


class Parser(Protocol):
    """``wire.stored_transcripts.TranscriptParser``."""

    def feed(self, data: bytes) -> list[StoredPart]:
        """Take bytes in."""

    def end(self) -> list[StoredPart]:
        """The file is over."""


class Taken(msgspec.Struct, frozen=True):
    """A segment as it would be delivered; ``name`` is the stable part of its key."""

    said: Said
    name: str
    confidence: float
    language: str


class Reading:
    """Reads one stored transcript, through redaction, into what can be compared. Blocking.

    Args:
        found: Where it was found.
        redaction: Of this transcript alone.
    """

    def __init__(self, found: FoundTranscript, parser: Parser, redaction: SegmentRedaction) -> None:
        self._found = found
        self._parser = parser
        self._redaction = redaction
        self._segments: list[Segment] = []
        self._people: tuple[Participant, ...] = ()
        self._fields: FieldsRead | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes in.

        Raises:
            RemoteProtocolError: They are no transcript.
            IntegrityError: It is too long to be held.
        """
        self._take(self._parser.feed(data))

    def finish(self, language: str) -> tuple[list[Taken], FieldsRead]:
        """Return the segments, and what else the file says.

        Args:
            language: Of what is said, where the file does not tell.

        Raises:
            RemoteProtocolError: The transcript is truncated.
        """
        while self._fields is None:
            self._take(self._parser.end())
        self._segments += self._redaction.flush()
        fields = self._fields
        roles = roles_of(self._redaction.participants(self._people))
        is_platform = fields.shape is StoredShape.PLATFORM
        leg = self._found.recording or self._found.communication
        lane = f"{self._found.communication or fields.communication}/" if is_platform else ""
        zero_us = fields.started_ms * 1000 if is_platform else 0
        languages = fields.languages
        taken: list[Taken] = []
        seen: Counter[tuple[str, int]] = Counter()
        for one in self._segments:
            role = roles.get(one.speaker_id, Role.UNKNOWN)
            if role is Role.UNKNOWN:
                role = role_of(one.speaker_id)
            begin_us, end_us = round(one.start_time * 1e6), round(one.end_time * 1e6)
            said = Said(
                f"{lane}{one.speaker_id}" if one.speaker_id else "",
                role.value,
                one.text,
                zero_us + begin_us,
                zero_us + max(begin_us, end_us),
            )
            place = (said.lane, begin_us // 1000)
            again = f".{seen[place]}" if seen[place] else ""
            seen[place] += 1
            taken.append(
                Taken(
                    said,
                    f"backfill.{leg}.{place[1]}{again}",
                    1.0 if one.confidence is None else one.confidence,
                    languages[0] if len(languages) == 1 else language,
                )
            )
        return taken, fields

    def _take(self, parts: Sequence[StoredPart]) -> None:
        for part in parts:
            match part:
                case SegmentBatch():
                    self._segments += self._redaction.push(part.segments)
                case ParticipantsRead():
                    self._people = part.participants
                case FieldsRead():
                    self._fields = part
        if len(self._segments) > MAX_SEGMENTS:
            raise IntegrityError("a stored transcript is too long to repair", limit=MAX_SEGMENTS)
