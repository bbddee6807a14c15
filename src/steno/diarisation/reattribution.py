"""Who spoke in stored segments, once everything of their conversation is known."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from itertools import islice

import msgspec

from steno.core.records import Draft, Kind, Record, SegmentPayload
from steno.diarisation.cast import Cast, prior, split_lane
from steno.errors import IntegrityError
from steno.ports import Timeline

OpenTimeline = Callable[[], AbstractContextManager[Timeline]]

_payload = msgspec.json.Decoder(SegmentPayload).decode


def reattributed(record: Record, cast: Cast) -> Draft | None:
    """Return a stored segment's next revision if somebody else spoke it than it says.

    Text, times and confidence stay as they are. A segment keeps a speaker: where the
    participants contradict the channel, the channel's word (``agent``, ``customer``) stands.

    Args:
        record: Of ``Kind.SEGMENT``, its lane ``communication/channel``.
        cast: The conversation's people after its final roster.

    Raises:
        IntegrityError: The record cannot be read.
    """
    try:
        segment = _payload(record.payload)
    except msgspec.MsgspecError:
        raise IntegrityError("a stored segment cannot be read", record_id=record.id) from None
    who = cast.who(record.lane, segment.started_us, segment.ended_us)
    if not who.speaker:
        who = prior(split_lane(record.lane)[1], who.zero_us)
    if not who.speaker:
        return None
    changed = msgspec.structs.replace(
        segment,
        speaker=who.speaker,
        role=str(who.role),
        participant=who.participant,
        user_id=who.user_id,
        name=who.name,
        zero_us=who.zero_us or segment.zero_us,
    )
    if changed == segment:
        return None
    return Draft(
        kind=Kind.SEGMENT,
        source=record.source,
        conversation=record.conversation,
        lane=record.lane,
        utterance=record.utterance,
        revision=record.revision + 1,
        key=record.key,
        origin=record.origin,
        at_us=record.at_us,
        payload=msgspec.json.encode(changed),
        place_us=segment.started_us,
    )


class Rereading:
    """Reads a conversation's segments a batch at a time, in whichever thread calls.

    A thread outlives the task that waited for it, so closing waits for a read under way.
    """

    def __init__(self, timeline: OpenTimeline, conversation: str, cast: Cast, batch: int) -> None:
        self._timeline = timeline
        self._conversation = conversation
        self._cast = cast
        self._batch = batch
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._records: Iterator[Record] | None = None
        self._closed = False

    def next(self) -> list[Draft] | None:
        """Return the next batch's changes; None at the end.

        Raises:
            StorageError, IntegrityError: The store cannot be read.
        """
        with self._lock:
            if self._closed:
                return None
            if self._records is None:
                reader = self._stack.enter_context(self._timeline())
                self._records = reader.read(self._conversation, Kind.SEGMENT)
            page = list(islice(self._records, self._batch))
        if not page:
            return None
        drafts = (reattributed(record, self._cast) for record in page)
        return [draft for draft in drafts if draft is not None]

    def close(self) -> None:
        """Let go of the reader."""
        with self._lock:
            self._closed = True
            self._records = None
            self._stack.close()
