"""The tutorial's audio socket: JSON envelopes with base64 audio, one connection for a call.

    {"conversationId":…, "participantId":…, "audio":"<base64>", "format":"PCMU",
     "sampleRate":8000, "sequenceNumber":42, "timestamp":"2024-01-15T10:30:00.020Z"}

``MediaJsonSession`` turns the text messages of one connection into ``AudioRun`` values: the audio
of consecutive good frames of one participant, with what is missing before it. A conversation and
participant is a *lane*; a connection usually has one, and may have eight. What cannot be used is
``Skipped`` and counted; no input ends a call. A whole batch of messages costs about 0.8 µs a
frame, because a frame that is like the one before it is compared and nothing else.

A lane lives in epochs. Within one, format, rate and numbering stay, and ``last_sequence`` rises;
a new epoch wants a new speech stream. What begins one is in ``AudioRun.began``. A peer that begins
them faster than one a second, after ``EPOCH_BURST``, is not listened to until it is steady.

States of the connection:

    open --close asked--> closing --closed--> closed
    open --closed--> closed

Audio is taken in while closing: the peer may have sent it before it read our close. After
``closed``, ``hold`` gives out what a new connection of the same conversations needs to go on.

An object that says the same key twice counts with its last value, as it does in the tutorial's
own server; telling them apart would cost half as much again.

Sources: the tutorial's Media API document; RFC 8259 (JSON); RFC 4648, 4 (base64 with padding);
RFC 6455, 7.4 (close codes); IANA WebSocket registry (1013).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import msgspec

from steno.core.audio import MAX_RATE_HZ, MIN_RATE_HZ, SAMPLE_BYTES, Encoding, encoding_of
from steno.core.ids import is_id
from steno.core.sequence import MAX_SEQUENCE, Hole, SequenceTracker, Verdict
from steno.errors import LocalProtocolError

SUBPROTOCOL = "media-api"
PING_INTERVAL_S = 20.0
IDLE_S = 60.0

MAX_FRAME_S = 1
"""Frames of 20 to 50 ms are expected; longer ones are taken up to this."""
USUAL_FRAME_MS = (20, 50)
MAX_LANES = 8
MAX_SKIPPED_KEPT = 16
MAX_FORMAT_CHARS = 64
EPOCH_BURST = 16
MAX_RESUMED_GAP_S = 3600.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MIN_EPOCH_MS = 10**11  # smaller numbers may be seconds, or a stream's own clock
_MAX_EPOCH_MS = 253_402_300_800_000  # year 10000


class State(StrEnum):
    """Life of a connection."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


_MOVES = {
    State.OPEN: frozenset({State.CLOSING, State.CLOSED}),
    State.CLOSING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset[State](),
}


class CloseReason(StrEnum):
    """Why we close; the word is sent as the close frame's reason."""

    IDLE = "idle"
    """Nothing usable came for ``idle_s``."""
    SHUTDOWN = "shutdown"
    BUSY = "busy"
    """Overload: come back later."""
    FAILED = "failed"
    """A bug of ours met this connection."""


CLOSE_CODES = {
    CloseReason.IDLE: 1001,
    CloseReason.SHUTDOWN: 1001,
    CloseReason.BUSY: 1013,
    CloseReason.FAILED: 1011,
}
_EXPECTED_CODES = frozenset({1000, 1001})


class Ending(StrEnum):
    """What the end of a connection means for its conversations."""

    OVER = "over"
    """Flush the results: nobody comes back."""
    LOST = "lost"
    """Keep ``hold()`` for a while: the caller may come back."""


class SkipReason(StrEnum):
    """Why a message was not used. Fixed words, never anything of the message."""

    JSON = "invalid-json"
    SHAPE = "shape"
    BASE64 = "base64"
    FORMAT = "format"
    RATE = "rate"
    SEQUENCE = "sequence"
    ID = "id"
    EMPTY = "empty"
    OVERSIZED = "oversized"
    ODD = "odd-length"
    LANES = "too-many-lanes"
    UNSTEADY = "unsteady"
    BINARY = "binary"
    DEEP = "deep-nesting"


class Began(StrEnum):
    """Why a run does not simply continue the one before it."""

    CONTINUED = ""
    FIRST = "first"
    """First audio of the lane: an epoch begins."""
    FORMAT = "format"
    """Another format or rate: an epoch begins."""
    NUMBERING = "numbering"
    """The frame numbers began anew: an epoch begins."""
    RESUMED = "resumed"
    """Over a new connection, within the same epoch."""


class AudioRun(msgspec.Struct, frozen=True, gc=False):
    """Audio of one lane without a hole in it.

    Attributes:
        lane: Index of the lane in this session, 0 to ``MAX_LANES`` - 1.
        conversation, participant: Whose audio it is.
        format: As the peer spells it, to be passed on unchanged.
        encoding, rate_hz: How to read it.
        epoch: Counts the lane's epochs from 0.
        began: Whether and why an epoch begins with this run.
        audio: Encoded samples of one channel.
        frames: How many messages it came in.
        first_sequence, last_sequence: Numbers of the first and last of them.
        start_samples: Position of the first sample on the lane's stream clock.
        missing: Frames that never came, directly before this run.
        gap_samples: How much time is missing before this run; counted in ``start_samples``.
        time_text: The first frame's own time, as JSON; ``at_us`` reads it.
        received_us: When the batch was read, UTC microseconds.
    """

    lane: int
    conversation: str
    participant: str
    format: str
    encoding: Encoding
    rate_hz: int
    epoch: int
    began: Began
    audio: bytes
    frames: int
    first_sequence: int
    last_sequence: int
    start_samples: int
    missing: tuple[Hole, ...]
    gap_samples: int
    time_text: bytes
    received_us: int

    @property
    def at_us(self) -> int | None:
        """The first frame's own time in UTC microseconds; None when it cannot be read."""
        return instant_us(self.time_text)

    def __repr__(self) -> str:
        return f"AudioRun(lane={self.lane}, frames={self.frames}, bytes={len(self.audio)})"


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """A message that was not used. It is held for its hash alone and never shown."""

    reason: SkipReason
    size_bytes: int
    message: bytes

    @property
    def sha256(self) -> str:
        """Hash of the message, to tell equal ones apart from others in a log."""
        return hashlib.sha256(self.message).hexdigest()

    def __repr__(self) -> str:
        return f"Skipped(reason={self.reason.value!r}, size_bytes={self.size_bytes})"


class Ping(msgspec.Struct, frozen=True, gc=False):
    """Send a WebSocket ping: the peer's proxies see traffic, and its answer is ours."""

    payload: bytes


class Close(msgspec.Struct, frozen=True, gc=False):
    """Send a close frame."""

    code: int
    reason: str


class Counters(msgspec.Struct, gc=False):
    """Totals of a connection.

    Attributes:
        frames, audio_bytes: Used.
        skipped: Not used, by reason.
        missing_frames, repeated_frames, late_frames: As the numbers say.
        unusual_frames: Used, though shorter than 20 or longer than 50 ms.
        epochs: Begun.
    """

    frames: int = 0
    audio_bytes: int = 0
    skipped: dict[SkipReason, int] = {}
    missing_frames: int = 0
    repeated_frames: int = 0
    late_frames: int = 0
    unusual_frames: int = 0
    epochs: int = 0

    @property
    def skipped_total(self) -> int:
        """Messages not used."""
        return sum(self.skipped.values())


# --- messages --------------------------------------------------------------------------------


class _Envelope(msgspec.Struct, gc=False, rename="camel"):
    conversation_id: str
    participant_id: str
    audio: bytes
    format: str
    sample_rate: Annotated[int, msgspec.Meta(ge=MIN_RATE_HZ, le=MAX_RATE_HZ)]
    # The lower bound matters: -1 stands for "none expected" below.
    sequence_number: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQUENCE)]
    timestamp: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Envelope).decode
_time = msgspec.json.Decoder(str | int | float | None).decode

_REASON_BY_FIELD = {
    "`$.audio`": SkipReason.BASE64,
    "`$.format`": SkipReason.FORMAT,
    "`$.sampleRate`": SkipReason.RATE,
    "`$.sequenceNumber`": SkipReason.SEQUENCE,
    "`$.conversationId`": SkipReason.ID,
    "`$.participantId`": SkipReason.ID,
}


def instant_us(text: bytes) -> int | None:
    """Return the time a JSON value tells, UTC microseconds; None when it tells none.

    Read are RFC 3339 text with an offset, and numbers that can only be epoch milliseconds.
    """
    try:
        value = _time(text)
        if isinstance(value, str):
            at_us = (datetime.fromisoformat(value) - _EPOCH) // _MICROSECOND
            return at_us if at_us >= 0 else None
        if isinstance(value, int | float) and _MIN_EPOCH_MS <= value < _MAX_EPOCH_MS:
            return int(value * 1000)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    except (ValueError, TypeError, OverflowError):  # no date, or one without an offset
        return None
    return None


# --- lanes -----------------------------------------------------------------------------------


class _Lane:
    """One participant's audio. ``frames`` are taken and not yet made into a run."""

    __slots__ = (
        "began",
        "conversation",
        "credit",
        "credit_at",
        "encoding",
        "epoch",
        "format",
        "frame_samples",
        "frames",
        "gap_samples",
        "holes",
        "index",
        "last_at",
        "participant",
        "position",
        "rate_hz",
        "resumed",
        "sample_bytes",
        "size",
        "tracker",
        "unusual",
    )

    def __init__(self, index: int, conversation: str, participant: str, now: float) -> None:
        self.index = index
        self.conversation = conversation
        self.participant = participant
        self.format = ""
        self.encoding = Encoding.PCMU
        self.rate_hz = 0
        self.sample_bytes = 1
        self.size = 0
        self.frame_samples = 0
        self.unusual = False
        self.epoch = -1
        self.tracker = SequenceTracker()
        self.position = 0
        self.frames: list[_Envelope] = []
        self.holes: tuple[Hole, ...] = ()
        self.gap_samples = 0
        self.began = Began.FIRST
        self.resumed = False
        self.credit = float(EPOCH_BURST)
        self.credit_at = now
        self.last_at = now

    def set_format(self, envelope: _Envelope, encoding: Encoding) -> None:
        """Read audio another way from now on; the clock goes on in the new rate's samples."""
        if self.rate_hz:
            self.position = self.position * envelope.sample_rate // self.rate_hz
        self.format = envelope.format
        self.encoding = encoding
        self.rate_hz = envelope.sample_rate
        self.sample_bytes = SAMPLE_BYTES[encoding]
        self.size = 0

    def set_size(self, size: int) -> None:
        """Take note of the frames' length."""
        self.size = size
        self.frame_samples = size // self.sample_bytes
        self.unusual = self.is_unusual(size)

    def is_unusual(self, size: int) -> bool:
        """Tell whether a frame of this length is shorter or longer than they are said to be."""
        shortest_ms, longest_ms = USUAL_FRAME_MS
        milliseconds = size // self.sample_bytes * 1000 / self.rate_hz
        return not shortest_ms <= milliseconds <= longest_ms

    def affords_epoch(self, now: float) -> bool:
        """Spend what a new epoch costs, if there is credit left."""
        self.credit = min(EPOCH_BURST, self.credit + max(0.0, now - self.credit_at))
        self.credit_at = now
        if self.credit < 1:
            return False
        self.credit -= 1
        return True

    def begin_epoch(self, began: Began) -> None:
        """Count an epoch; its first run says why."""
        self.epoch += 1
        self.began = Began.FIRST if self.epoch == 0 else began

    def add_gap(self, samples: int) -> None:
        """Let the clock jump over audio that never came."""
        self.gap_samples += samples
        self.position += samples

    def adopt(self, index: int) -> None:
        """Go on in another connection."""
        self.index = index
        self.resumed = True
        if self.epoch >= 0:
            self.began = Began.RESUMED
        self.tracker.reconnected()


class HoldState:
    """What a participant's audio needs to go on over a new connection.

    Attributes:
        conversation, participant: Whose it is.
        held_at: Monotonic seconds.
    """

    __slots__ = ("conversation", "held_at", "lane", "participant")

    def __init__(self, lane: _Lane, held_at: float) -> None:
        self.conversation = lane.conversation
        self.participant = lane.participant
        self.held_at = held_at
        self.lane = lane

    @property
    def last_sequence(self) -> int:
        """Number of the newest frame; -1 when there is none."""
        return self.lane.tracker.last


def _none(conversation: str, participant: str) -> HoldState | None:
    """Nothing is held."""
    return None


# --- the machine -----------------------------------------------------------------------------


class MediaJsonSession:
    """One connection of the JSON form.

    Args:
        now: Monotonic seconds at which the connection was accepted.
        resume: Called once for each participant of a conversation that is heard of; gives out
            what a connection before this one held of it, and forgets it.
        ping_interval_s: A ping is sent this often.
        idle_s: Without usable audio for so long, the connection is closed.
    """

    def __init__(
        self,
        now: float,
        *,
        resume: Callable[[str, str], HoldState | None] = _none,
        ping_interval_s: float = PING_INTERVAL_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._resume = resume
        self._interval_s = ping_interval_s
        self._idle_s = idle_s
        self._ping_at = now + ping_interval_s
        self._audio_at = now
        self._pings = 0
        self._asked: CloseReason | None = None
        self._to_send: list[Ping | Close] = []
        self._skipped: list[Skipped] = []
        self._lanes: dict[tuple[str, str], _Lane] = {}
        # Never in ``_lanes``: no message is like its last frame.
        self._lane = _Lane(-1, "", "", now)
        self.state = State.OPEN
        self.counters = Counters()

    # --- audio ---

    def receive_texts(
        self, messages: Sequence[bytes], *, now: float, now_us: int
    ) -> list[AudioRun]:
        """Take in text messages that arrived together; raises for none of them.

        Args:
            messages: Payloads in order, UTF-8 not yet checked. The server bounds their size.
            now: Monotonic seconds at which they were read.
            now_us: The same moment in UTC microseconds.

        Returns:
            Runs in order within each lane.

        Raises:
            LocalProtocolError: The connection is closed.
        """
        if self.state is State.CLOSED:
            raise LocalProtocolError("audio for a closed connection")
        try:
            envelopes = [_decode(message) for message in messages]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            envelopes, messages = self._decode_each(messages)
        runs: list[AudioRun] = []
        lane = self._lane
        tracker = lane.tracker
        expected = tracker.expected if tracker.settled else -1
        for place, one in enumerate(envelopes):
            if (
                one.sequence_number == expected
                and one.participant_id == lane.participant
                and one.conversation_id == lane.conversation
                and one.format == lane.format
                and one.sample_rate == lane.rate_hz
                and len(one.audio) == lane.size
            ):
                expected += 1
                lane.frames.append(one)
                continue
            if expected > tracker.expected:
                tracker.advance(expected - tracker.expected)
            found = self._take(one, runs, now, now_us)
            if isinstance(found, _Lane):
                self._lane = lane = found
                tracker = lane.tracker
            elif found is not None:
                self._skip(found, messages[place])
            expected = tracker.expected if tracker.settled else -1
        if expected > tracker.expected:
            tracker.advance(expected - tracker.expected)
        for lane in self._lanes.values():
            if lane.frames:
                lane.last_at = self._audio_at = now
                runs.append(self._run(lane, now_us))
        return runs

    def _decode_each(self, messages: Sequence[bytes]) -> tuple[list[_Envelope], list[bytes]]:
        """Decode what can be decoded; the rest is skipped."""
        envelopes: list[_Envelope] = []
        kept: list[bytes] = []
        for message in messages:
            try:
                envelopes.append(_decode(message))
            except msgspec.ValidationError as exc:
                self._skip(_reason_of(exc), message)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._skip(SkipReason.JSON, message)
            except RecursionError:
                self._skip(SkipReason.DEEP, message)
            else:
                kept.append(message)
        return envelopes, kept

    def _take(
        self, one: _Envelope, runs: list[AudioRun], now: float, now_us: int
    ) -> _Lane | SkipReason | None:
        """Judge a frame that is not like the one before it.

        Returns:
            Its lane, a reason not to use it, or None for a frame that came before.
        """
        key = (one.conversation_id, one.participant_id)
        lane = self._lanes.get(key)
        encoding: Encoding | None
        if lane is not None and one.format == lane.format and one.sample_rate == lane.rate_hz:
            encoding = lane.encoding
        else:
            encoding = _encoding(one.format)
            if encoding is None:
                return SkipReason.FORMAT
        size = len(one.audio)
        if (fault := _size_fault(size, encoding, one.sample_rate)) is not None:
            return fault
        if lane is None:
            found = self._find(key, now)
            if isinstance(found, SkipReason):
                return found
            lane = found
        if one.format != lane.format or one.sample_rate != lane.rate_hz:
            if lane.epoch >= 0 and not lane.affords_epoch(now):
                return SkipReason.UNSTEADY
            self._flush(lane, runs, now_us)
            self._count_elapsed(lane, now)
            lane.set_format(one, encoding)
            lane.tracker.restart()
            self._begin_epoch(lane, Began.FORMAT)
            lane.tracker.receive(one.sequence_number)
        elif not self._number(lane, one.sequence_number, runs, now, now_us):
            return None if lane.tracker.settled else SkipReason.UNSTEADY
        if size != lane.size:
            if lane.is_unusual(size) is not lane.unusual:
                self._flush(lane, runs, now_us)
            lane.set_size(size)
        lane.resumed = False
        lane.frames.append(one)
        return lane

    def _number(
        self, lane: _Lane, number: int, runs: list[AudioRun], now: float, now_us: int
    ) -> bool:
        """Tell whether the frame's number lets it in, and note what is missing before it."""
        tracker = lane.tracker
        verdict = tracker.receive(number)
        if verdict is Verdict.AFTER_HOLE:
            self._flush(lane, runs, now_us)
            lane.holes = (*lane.holes, tracker.hole)
            lane.add_gap(tracker.hole.count * lane.frame_samples)
            self.counters.missing_frames += tracker.hole.count
        elif verdict is Verdict.RESTARTED:
            if not lane.affords_epoch(now):
                tracker.restart()
                return False
            self._flush(lane, runs, now_us)
            self._count_elapsed(lane, now)
            self._begin_epoch(lane, Began.NUMBERING)
        elif verdict is Verdict.REPEATED:
            self.counters.repeated_frames += 1
        elif verdict is Verdict.LATE:
            self.counters.late_frames += 1
        return verdict.taken

    def _count_elapsed(self, lane: _Lane, now: float) -> None:
        """After a reconnect with numbers that say nothing, the time away is what is missing."""
        if lane.resumed:
            away_s = min(max(now - lane.last_at, 0.0), MAX_RESUMED_GAP_S)
            lane.add_gap(int(away_s * lane.rate_hz))

    def _begin_epoch(self, lane: _Lane, began: Began) -> None:
        lane.begin_epoch(began)
        self.counters.epochs += 1

    def _find(self, key: tuple[str, str], now: float) -> _Lane | SkipReason:
        """Return the lane of a participant that this connection has not heard yet."""
        conversation, participant = key
        if not is_id(conversation) or not is_id(participant):
            return SkipReason.ID
        if len(self._lanes) >= MAX_LANES:
            return SkipReason.LANES
        held = self._resume(conversation, participant)
        if held is None:
            lane = _Lane(len(self._lanes), conversation, participant, now)
        else:
            lane = held.lane
            lane.adopt(len(self._lanes))
        self._lanes[key] = lane
        return lane

    def _flush(self, lane: _Lane, runs: list[AudioRun], now_us: int) -> None:
        if lane.frames:
            runs.append(self._run(lane, now_us))

    def _run(self, lane: _Lane, now_us: int) -> AudioRun:
        """Make a run of the lane's frames."""
        frames, lane.frames = lane.frames, []
        first = frames[0]
        audio = b"".join([one.audio for one in frames])
        counters = self.counters
        counters.frames += len(frames)
        counters.audio_bytes += len(audio)
        if lane.unusual:
            counters.unusual_frames += len(frames)
        run = AudioRun(
            lane.index,
            lane.conversation,
            lane.participant,
            lane.format,
            lane.encoding,
            lane.rate_hz,
            lane.epoch,
            lane.began,
            audio,
            len(frames),
            first.sequence_number,
            frames[-1].sequence_number,
            lane.position,
            lane.holes,
            lane.gap_samples,
            bytes(first.timestamp),
            now_us,
        )
        lane.position += len(audio) // lane.sample_bytes
        lane.began = Began.CONTINUED
        lane.holes = ()
        lane.gap_samples = 0
        return run

    def receive_binary(self, message: bytes) -> None:
        """Take note of a binary message: this form has none."""
        self._skip(SkipReason.BINARY, message)

    def _skip(self, reason: SkipReason, message: bytes) -> None:
        skipped = self.counters.skipped
        skipped[reason] = skipped.get(reason, 0) + 1
        if len(self._skipped) < MAX_SKIPPED_KEPT:
            self._skipped.append(Skipped(reason, len(message), message))

    def skipped(self) -> list[Skipped]:
        """Return the messages not used since the last call, at most ``MAX_SKIPPED_KEPT`` of
        them; ``counters`` counts them all.
        """
        kept, self._skipped = self._skipped, []
        return kept

    # --- time and end ---

    def next_deadline(self) -> float | None:
        """Return when ``on_deadline`` wants to be called; it moves on as audio arrives."""
        if self.state is not State.OPEN:
            return None
        return min(self._ping_at, self._audio_at + self._idle_s)

    def on_deadline(self, now: float) -> None:
        """Ping, or close a connection that has been idle too long."""
        if self.state is not State.OPEN:
            return
        if now >= self._audio_at + self._idle_s:
            self.close(CloseReason.IDLE)
        elif now >= self._ping_at:
            self._pings += 1
            self._ping_at = now + self._interval_s
            self._to_send.append(Ping(b"steno-%d" % self._pings))

    def close(self, reason: CloseReason) -> None:
        """Ask for the end of the connection; does nothing when it was asked before."""
        if self.state is not State.OPEN:
            return
        self._move(State.CLOSING)
        self._asked = reason
        self._to_send.append(Close(CLOSE_CODES[reason], reason.value))

    def receive_closed(self, code: int) -> Ending:
        """Take note of the end of the connection and tell what it means.

        A peer that closes with 1000 or 1001 is done, as the tutorial's own server reads it; so
        is one that we shut down for. Everything else may come back.

        Args:
            code: The peer's close code, 1006 when there was none.
        """
        if self.state is not State.CLOSED:
            self._move(State.CLOSED)
        if self._asked is not None:
            return Ending.OVER if self._asked is CloseReason.SHUTDOWN else Ending.LOST
        return Ending.OVER if code in _EXPECTED_CODES else Ending.LOST

    def hold(self, now: float) -> list[HoldState]:
        """Give out the state of each participant, for a new connection; nothing stays here.

        Raises:
            LocalProtocolError: The connection is not closed.
        """
        if self.state is not State.CLOSED:
            raise LocalProtocolError("a connection that is not closed holds its own state")
        lanes, self._lanes = self._lanes, {}
        return [HoldState(lane, now) for lane in lanes.values()]

    def to_send(self) -> list[Ping | Close]:
        """Return what is to be sent, oldest first."""
        wanted, self._to_send = self._to_send, []
        return wanted

    def _move(self, state: State) -> None:
        if state not in _MOVES[self.state]:
            raise LocalProtocolError("illegal move", state=self.state.value)
        self.state = state


# --- judging ---------------------------------------------------------------------------------


def _encoding(spelling: str) -> Encoding | None:
    """Return what a spelling means; it goes on to the speech service, so it must be harmless."""
    if len(spelling) > MAX_FORMAT_CHARS or not spelling.isprintable():
        return None
    return encoding_of(spelling)


def _size_fault(size: int, encoding: Encoding, rate_hz: int) -> SkipReason | None:
    sample_bytes = SAMPLE_BYTES[encoding]
    if not size:
        return SkipReason.EMPTY
    if size > rate_hz * sample_bytes * MAX_FRAME_S:
        return SkipReason.OVERSIZED
    return SkipReason.ODD if size % sample_bytes else None


def _reason_of(exc: msgspec.ValidationError) -> SkipReason:
    """Name what is wrong. The library's message may quote the input, so it is only compared."""
    message = str(exc)
    place = message[message.rfind("`$") :]
    return _REASON_BY_FIELD.get(place, SkipReason.SHAPE)
