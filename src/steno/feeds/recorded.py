"""Recorded events as a live feed: read, decoded one by one, handed on as fast as they are taken.

Each message is decoded by its own shape, so one input may hold several:

    {"topicName":…,"eventBody":{…}}                        a notification
    {"received":"2024-01-15T10:30:00Z","message":{…}}      any of them, and when it was received
    anything else                                          an event of the event socket

One thread reads the next batch while the loop works on this one. The loop is given back every
few milliseconds, so commits and destinations go on meanwhile; there is no task and no queue for
a message. What cannot be read becomes ``Quarantined`` and is counted. The first of those are
named by their line, and never by what they say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import msgspec

from steno.core.transcript import Fragment
from steno.feeds.bookkeeping import Timing, wait_for_room
from steno.ports import ConversationEnded, FeedTarget, FeedUp, Quarantined, Telemetry
from steno.ports.recorded import Batch, EventReader, Unreadable
from steno.wire import event_socket, notifications
from steno.wire.participants import Roster
from steno.wire.transcript_stream import quarantined

SOURCE = "recorded"

SLICE_S = 0.004
"""The loop is given back so often."""
STRIDE = 32
"""Messages between two looks at the clock."""
PROGRESS_S = 0.5
NOTED = 20
"""Unreadable messages that get a log line each; the rest is counted in the closing line."""
DAMAGE = frozenset({"damaged", "truncated", "unfinished"})
"""Causes that concern an input as a whole: it is broken, or it ends in the middle."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TOPIC, _RECEIVED = b'"topicName"', b'"received"'

_Decoded = Sequence[event_socket.Decoded | notifications.Message]


class Shape(StrEnum):
    """What recorded messages are, whether or not they are wrapped with their receipt."""

    AUTO = "auto"
    EVENT_SOCKET = "event-socket"
    NOTIFICATIONS = "notifications"


class RecordedSettings(msgspec.Struct, frozen=True):
    """What is read, and its limits.

    Attributes:
        shape: ``AUTO`` looks at each message.
        conversations: Handed on; empty hands on all.
        events: Event socket: event types taken.
        max_message_bytes: Longer messages are quarantined.
        remembered: Notifications: utterances remembered, to drop their repeats.
    """

    shape: Shape = Shape.AUTO
    conversations: tuple[str, ...] = ()
    events: tuple[str, ...] = event_socket.EVENTS
    max_message_bytes: int = event_socket.MAX_MESSAGE_BYTES
    remembered: int = notifications.MAX_REMEMBERED


@dataclass(slots=True)
class Progress:
    """How far it is; the feed has one and goes on counting in it.

    Attributes:
        done_bytes, total_bytes: As stored (packed); the total is None where a pipe is read.
        messages: Looked at, blank lines aside.
        fragments: Pieces of speech handed on.
        ignored: Messages that are none of our business, repeats, and pieces of other conversations.
        malformed: Messages, or stretches of the input, that could not be read.
        damaged_files: Inputs that are broken or end in the middle.
    """

    total_bytes: int | None = None
    done_bytes: int = 0
    messages: int = 0
    fragments: int = 0
    ignored: int = 0
    malformed: int = 0
    damaged_files: int = 0


class _Head(msgspec.Struct, gc=False):
    """The keys by which shapes are told apart."""

    topic_name: msgspec.Raw | msgspec.UnsetType = msgspec.field(
        default=msgspec.UNSET, name="topicName"
    )
    received: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    message: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_head = msgspec.json.Decoder(_Head).decode
_instant = msgspec.json.Decoder(Annotated[datetime, msgspec.Meta(tz=True)]).decode


def _instant_us(text: msgspec.Raw) -> int | None:
    """Return an RFC 3339 time in UTC microseconds; None for anything else."""
    try:
        instant_us = (_instant(text) - _EPOCH) // _MICROSECOND
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError):
        return None
    return instant_us if instant_us >= 0 else None


def _seen(reading: asyncio.Future[Batch | None]) -> None:
    """Take note of an error, so that one nobody waits for any more is no stray one."""
    if not reading.cancelled():
        reading.exception()


class RecordedFeed:
    """A ``LiveFeed`` that ends with its input. It is run once.

    Args:
        reader: Where the messages are.
        timing: Clocks.
        telemetry: Logs and metrics.
        settings: Limits.
        on_progress: Called on the loop now and then, and at the end.
        on_roster: Told of the participants that recorded queue and user topics name.
    """

    def __init__(
        self,
        reader: EventReader,
        *,
        timing: Timing,
        telemetry: Telemetry,
        settings: RecordedSettings | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_roster: Callable[[Roster], None] | None = None,
    ) -> None:
        given = settings or RecordedSettings()
        self.progress = Progress(reader.total_bytes)
        self._reader = reader
        self._timing = timing
        self._telemetry = telemetry
        self._shape = given.shape
        self._only = frozenset(given.conversations) or None
        self._on_progress = on_progress
        self._on_roster = on_roster
        self._socket = event_socket.Decoder(given.events, max_bytes=given.max_message_bytes)
        self._notifications = notifications.Decoder(
            max_bytes=given.max_message_bytes,
            remembered=given.remembered,
            rosters=on_roster is not None,
        )
        self._closing = asyncio.Event()
        self._noted = 0
        self._told_messages = self._told_ignored = 0
        self._count = telemetry.counter("steno_feed_messages_total", source=SOURCE)
        self._count_ignored = telemetry.counter("steno_feed_ignored_total", source=SOURCE)

    async def run(self, target: FeedTarget) -> None:
        """Hand on everything there is; return at the end, or after ``close``.

        Raises:
            ConfigError: The input is of a kind that is not read.
            StorageError: Reading failed; what came before it has been handed on.
        """
        now = self._timing.now
        started_s = told_s = now()
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="recorded")
        try:
            target.accept(FeedUp(SOURCE, SOURCE, self._timing.utc_us()))
            reading = loop.run_in_executor(thread, self._reader.read)
            reading.add_done_callback(_seen)
            while (batch := await reading) is not None and not self._closing.is_set():
                reading = loop.run_in_executor(thread, self._reader.read)
                reading.add_done_callback(_seen)
                await self._hand_on(batch, target)
                self.progress.done_bytes = batch.done_bytes
                if now() - told_s >= PROGRESS_S:
                    told_s = now()
                    self._tell()
        finally:
            self._closing.set()
            self._reader.close()  # a read under way returns, so the thread ends
            thread.shutdown(wait=False, cancel_futures=True)
            self._tell()
            self._telemetry.info(
                "recorded.read",
                messages=self.progress.messages,
                count=self.progress.fragments,
                malformed=self.progress.malformed,
                damaged=self.progress.damaged_files,
                size_bytes=self.progress.done_bytes,
                duration_s=round(now() - started_s, 3),
            )

    async def close(self) -> None:
        """Let ``run`` return; what has been read and not handed on is dropped."""
        self._closing.set()
        self._reader.close()

    # -- the way of a batch ---------------------------------------------------------------

    async def _hand_on(self, batch: Batch, target: FeedTarget) -> None:
        clock = self._timing.now
        until_s = clock() + SLICE_S
        at, total = 0, len(batch.messages)
        while at < total and not self._closing.is_set():
            at = self._stride(batch, at, target)
            if at < 0:  # the target is full
                at = ~at
                await wait_for_room(target, self._closing)
                until_s = clock() + SLICE_S
            elif clock() >= until_s:
                await asyncio.sleep(0)
                until_s = clock() + SLICE_S
        for one in batch.unreadable:
            if not target.accept(self._unreadable(one, batch)):
                await wait_for_room(target, self._closing)

    def _stride(self, batch: Batch, at: int, target: FeedTarget) -> int:
        """Hand on some messages from ``at`` on; return the next, inverted when there is no room.

        This is the hot path: a plain event costs its decoding and one call of ``accept``.
        """
        accept, decode = target.accept, self._socket.decode
        now, utc_us = self._timing.now(), self._timing.utc_us()
        may_be_plain, only = self._shape is not Shape.NOTIFICATIONS, self._only
        fragments, begin, room = 0, at, True
        for data in batch.messages[at : at + STRIDE]:
            if may_be_plain and _TOPIC not in data and _RECEIVED not in data:
                found: _Decoded = decode(data, now=now, utc_us=utc_us)
            else:
                found = self._decode(data, now, utc_us)
            for event in found:
                if type(event) is Fragment:
                    if only is not None and event.conversation not in only:
                        self.progress.ignored += 1
                        continue
                    fragments += 1
                    room &= accept(event)
                else:
                    room &= self._other(event, batch, at, target)
            at += 1
            if not room:
                break
        self.progress.fragments += fragments
        self.progress.messages += at - begin
        return at if room else ~at

    def _decode(self, data: bytes, now: float, utc_us: int) -> _Decoded:
        """Decode a notification, or what may be wrapped with its receipt."""
        topic = _TOPIC in data
        try:
            head = _head(data)
            topic = head.topic_name is not msgspec.UNSET
            if head.message is not msgspec.UNSET and head.received is not msgspec.UNSET:
                received_us = _instant_us(head.received)
                if received_us is None:
                    return [quarantined(data, "received", utc_us, source=SOURCE)]
                data, utc_us = bytes(head.message), received_us
                topic = _head(data).topic_name is not msgspec.UNSET
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # no object, or none at all: the decoder finds the cause
        if self._shape is Shape.NOTIFICATIONS or (topic and self._shape is Shape.AUTO):
            return self._notifications.decode(data, now=now, utc_us=utc_us)
        return self._socket.decode(data, now=now, utc_us=utc_us)

    def _other(
        self,
        event: event_socket.Decoded | notifications.Message,
        batch: Batch,
        at: int,
        target: FeedTarget,
    ) -> bool:
        """Take what is no speech; return whether the target has room."""
        if isinstance(event, Quarantined):
            data = batch.messages[at]
            if not data or data.isspace():
                self.progress.messages -= 1
                return True
            self._note(event.cause, batch, batch.place(at)[0])
            return target.accept(event)
        if isinstance(event, ConversationEnded):
            if self._only is None or event.conversation in self._only:
                return target.accept(event)
            return True
        if self._on_roster is not None and isinstance(event, notifications.Discovered):
            if event.roster is not None:
                self._on_roster(event.roster)
            return True
        self.progress.ignored += 1
        return True

    def _unreadable(self, one: Unreadable, batch: Batch) -> Quarantined:
        if one.cause in DAMAGE:
            self.progress.damaged_files += 1
        self._note(one.cause, batch, one.line)
        return Quarantined(SOURCE, one.sha256, one.size_bytes, one.cause, self._timing.utc_us())

    def _note(self, cause: str, batch: Batch, line: int) -> None:
        self.progress.malformed += 1
        if self._noted < NOTED:
            self._noted += 1
            self._telemetry.warning(
                "recorded.message_unreadable", file=batch.file, line=line or None, cause=cause
            )

    def _tell(self) -> None:
        progress = self.progress
        self._count(progress.messages - self._told_messages)
        self._count_ignored(progress.ignored - self._told_ignored)
        self._told_messages, self._told_ignored = progress.messages, progress.ignored
        if self._on_progress is not None:
            self._on_progress(progress)
