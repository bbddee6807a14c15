"""One pass over a stored transcript: bytes in; payload, listing and summary out.

    bytes → parser → [redaction] → [filter] → payload · summing · observers
                                  └→ listing

Everything is done with a batch of segments before the next is read, so memory does not grow with
the transcript. Only where roles decide what is written and participants come behind the segments,
these wait in a spool file and go through the rest of the way at the end.

The payload is ``{"transcript":[…],"participants":[…]}``, the document's keys, participants always
behind, whatever the order in the source. Segments stand in it as they stood in the file, unknown
fields included, unless redaction or a filter changes what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

import msgspec
import numpy as np

from steno.archive.align import Seconds
from steno.archive.criteria import Criteria, roles_of
from steno.archive.listing import Listing
from steno.archive.redacted import SegmentRedaction
from steno.archive.summary import MAX_SPEAKERS, Summing
from steno.core.stored import (
    BadElement,
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
from steno.errors import RemoteProtocolError

MAX_TOLD: Final = 100
"""Bad segments told one by one; the rest is counted."""

_encode = msgspec.json.Encoder().encode
_decode_segments = msgspec.json.Decoder(list[Segment]).decode


class Parser(Protocol):
    """``wire.stored_transcripts.TranscriptParser``."""

    @property
    def shape(self) -> StoredShape:
        """The file's shape as far as it is known."""

    @property
    def conversation(self) -> str:
        """The conversation's id as far as it is known."""

    def feed(self, data: bytes) -> list[StoredPart]:
        """Take bytes in."""

    def end(self) -> list[StoredPart]:
        """The file is over."""


class Spool(Protocol):
    """A private file that is gone when it is closed."""

    def write(self, data: bytes, /) -> object:
        """Append."""

    def seek(self, offset: int, /) -> object:
        """Go to a place."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield lines."""

    def close(self) -> None:
        """Delete it."""


class Observer(Protocol):
    """Sees every segment that is kept, e.g. to draw it or to write it in another form."""

    def add(
        self, segments: Sequence[Segment], starts: Seconds, ends: Seconds, roles: Mapping[str, Role]
    ) -> None:
        """Take a batch. ``roles`` may be empty until ``finish``."""

    def finish(self, roles: Mapping[str, Role]) -> None:
        """No more comes; the roles are final."""


class PassageSettings(msgspec.Struct, frozen=True):
    """How a transcript is passed.

    Attributes:
        strict: A segment that cannot be read fails the transcript.
        keep_truncated: What was complete before the end of a truncated file is kept.
        kept: Criteria of what payload and summary hold; None for everything.
        roles_early: Observers must have roles with each batch.
    """

    strict: bool = False
    keep_truncated: bool = False
    kept: Criteria | None = None
    roles_early: bool = False


class Passed(msgspec.Struct, frozen=True):
    """What a pass came to, beside what it wrote.

    Attributes:
        bad: The first bad segments; ``fields.bad`` counts all.
        truncated_at: Byte at which a truncated file was given up, when that is accepted.
    """

    fields: FieldsRead
    participants: tuple[Participant, ...]
    roles: Mapping[str, Role]
    summing: Summing
    bad: tuple[BadElement, ...]
    truncated_at: int | None = None


class Passage:
    """Passes one transcript. Feed it, then ``finish``; it blocks for its outputs only.

    Args:
        parser: Fresh.
        payload: Takes the archive's payload; None for none.
        as_it_came: The payload is the source's bytes, unaltered.
        listing: None for none.
        spool: Opens a private temporary file.
    """

    def __init__(
        self,
        parser: Parser,
        *,
        conversation: str = "",
        payload: Callable[[bytes], object] | None = None,
        as_it_came: bool = False,
        listing: Listing | None = None,
        redaction: SegmentRedaction | None = None,
        observers: Sequence[Observer] = (),
        spool: Callable[[], Spool],
        settings: PassageSettings | None = None,
    ) -> None:
        self._parser = parser
        self._conversation = conversation
        self._payload = payload if not as_it_came else None
        self._copy = payload if as_it_came else None
        self._listing = listing
        self._redaction = redaction
        self._observers = observers
        self._open_spool = spool
        self._settings = settings or PassageSettings()
        self._kept = self._settings.kept
        # Who needs to know roles with the segments, and not only at the end.
        self._kept_waits = self._kept is not None and bool(self._kept.roles)
        self._list_waits = listing is not None
        self._observers_wait = self._settings.roles_early and bool(observers)
        self._summing = Summing()
        self._participants: tuple[Participant, ...] = ()
        self._has_participants = False
        self._roles: Mapping[str, Role] = {}
        self._fields: FieldsRead | None = None
        self._bad: list[BadElement] = []
        self._bad_count = 0
        self._good_count = 0
        self._bytes = 0
        self._broken_at: int | None = None
        self._is_first = True
        self._spool: Spool | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes in, in any portions.

        Raises:
            RemoteProtocolError: They are no transcript; field ``offset`` says where.
        """
        self._bytes += len(data)
        if self._copy is not None:
            self._copy(data)
        if self._broken_at is not None:
            return
        try:
            parts = self._parser.feed(data)
        except RemoteProtocolError as error:
            self._break(error)
        else:
            self._take(parts)

    def finish(self) -> Passed:
        """Write what is left.

        Raises:
            RemoteProtocolError: The transcript is truncated, or no transcript.
        """
        while self._broken_at is None and self._fields is None:
            try:
                parts = self._parser.end()  # what was complete, before its error
            except RemoteProtocolError as error:
                self._break(error)
            else:
                self._take(parts)
        fields = self._fields or self._fields_so_far()
        if self._redaction is not None:
            self._pass(self._redaction.flush(), None)
        shown = (
            self._redaction.participants(self._participants)
            if self._redaction
            else self._participants
        )
        self._roles = roles_of(shown)
        self._replay()
        for observer in self._observers:
            observer.finish(self._roles)
        if self._payload is not None:
            opening = b'{"transcript":[' if self._is_first else b""
            self._payload(opening + b'],"participants":' + _encode(shown) + b"}")
        return Passed(fields, shown, self._roles, self._summing, tuple(self._bad), self._broken_at)

    def close(self) -> None:
        """Delete the spool, if there is one; harmless at any time."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _break(self, error: RemoteProtocolError) -> None:
        """Keep what was complete before a fault, if told so.

        Raises:
            RemoteProtocolError: Not told so.
        """
        if not self._settings.keep_truncated or self._copy is not None:
            raise error
        offset = error.fields.get("offset", self._bytes)
        self._broken_at = offset if isinstance(offset, int) else self._bytes

    def _fields_so_far(self) -> FieldsRead:
        return FieldsRead(
            self._parser.shape,
            conversation=self._parser.conversation,
            segments=self._good_count,
            bad=self._bad_count,
        )

    # --- parts -------------------------------------------------------------------------------

    def _take(self, parts: Sequence[StoredPart]) -> None:
        for part in parts:
            match part:
                case SegmentBatch():
                    self._take_batch(part)
                case ParticipantsRead():
                    self._participants = part.participants
                    self._has_participants = True
                    self._roles = roles_of(
                        self._redaction.participants(part.participants)
                        if self._redaction
                        else part.participants
                    )
                case FieldsRead():
                    self._fields = part

    def _take_batch(self, batch: SegmentBatch) -> None:
        if batch.bad:
            if self._settings.strict:
                worst = batch.bad[0]
                raise RemoteProtocolError(
                    "a segment cannot be read",
                    index=worst.index,
                    offset=worst.offset,
                    field=worst.field,
                )
            self._bad += batch.bad[: MAX_TOLD - len(self._bad)]
            self._bad_count += len(batch.bad)
        self._good_count += len(batch.segments)
        if self._redaction is None:
            self._pass(batch.segments, batch.raw)
        else:
            self._pass(self._redaction.push(batch.segments), None)

    @property
    def _knows_roles(self) -> bool:
        return self._has_participants or self._parser.shape is StoredShape.PLATFORM

    def _pass(self, segments: Sequence[Segment], raw: bytes | None) -> None:
        if not segments:
            return
        if self._spool is None and not self._knows_roles and self._anybody_waits:
            self._spool = self._open_spool()
        if self._spool is not None:
            if not self._kept_waits:
                segments, raw = self._filtered(segments, raw)
            self._spool.write(_encode(segments) + b"\n")
            if not self._kept_waits:
                starts, ends = self._keep(segments, raw)
                if not self._observers_wait:
                    self._observe(segments, starts, ends)
            return
        self._adopt_purposes(segments)
        segments, raw = self._filtered(segments, raw)
        starts, ends = self._keep(segments, raw)
        self._observe(segments, starts, ends)
        self._list(segments, starts, ends)

    @property
    def _anybody_waits(self) -> bool:
        return self._kept_waits or self._list_waits or self._observers_wait

    def _replay(self) -> None:
        """Take what waited the rest of the way, now that roles are known."""
        if self._spool is None:
            return
        self._spool.seek(0)
        for line in self._spool:
            segments: Sequence[Segment] = _decode_segments(line)
            if self._kept_waits:
                segments, _ = self._filtered(segments, None)
                starts, ends = self._keep(segments, None)
            else:
                starts, ends = _times(segments)
            if self._kept_waits or self._observers_wait:
                self._observe(segments, starts, ends)
            self._list(segments, starts, ends)
        self.close()

    def _adopt_purposes(self, segments: Sequence[Segment]) -> None:
        """Take speakers of the platform's files by their purposes, which name their roles."""
        if self._parser.shape is not StoredShape.PLATFORM or self._has_participants:
            return
        new = {segment.speaker_id for segment in segments} - self._roles.keys()
        if new and len(self._roles) < MAX_SPEAKERS:  # of any further one nobody asks
            self._roles = {**self._roles, **{speaker: role_of(speaker) for speaker in new}}

    # --- what becomes of segments ------------------------------------------------------------

    def _filtered(
        self, segments: Sequence[Segment], raw: bytes | None
    ) -> tuple[Sequence[Segment], bytes | None]:
        kept = self._kept
        if kept is None:
            return segments, raw
        if not kept.takes(self._conversation):
            return [], None
        roles = self._roles
        chosen = [
            segment
            for segment in segments
            if kept.meets(segment, roles.get(segment.speaker_id, Role.UNKNOWN))
        ]
        return chosen, raw if len(chosen) == len(segments) else None

    def _keep(self, segments: Sequence[Segment], raw: bytes | None) -> tuple[Seconds, Seconds]:
        if segments and self._payload is not None:
            if self._is_first:
                self._is_first = False
                self._payload(b'{"transcript":[')
            else:
                self._payload(b",")
            self._payload(_encode(segments)[1:-1] if raw is None else raw)
        return self._summing.add(segments)

    def _observe(self, segments: Sequence[Segment], starts: Seconds, ends: Seconds) -> None:
        if segments:
            for observer in self._observers:
                observer.add(segments, starts, ends, self._roles)

    def _list(self, segments: Sequence[Segment], starts: Seconds, ends: Seconds) -> None:
        if segments and self._listing is not None:
            self._listing.add(segments, starts, ends, self._roles)


def _times(segments: Sequence[Segment]) -> tuple[Seconds, Seconds]:
    return (
        np.array([segment.start_time for segment in segments], np.float64),
        np.array([segment.end_time for segment in segments], np.float64),
    )
