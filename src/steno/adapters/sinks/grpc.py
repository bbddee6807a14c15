"""The gRPC sink: ``steno.v1`` where the consumer offers it, else the document's service.

Which of the two a consumer offers is found out with the first records themselves: they go out
on a ``steno.v1`` stream, and a peer that does not know it answers UNIMPLEMENTED before it has
stored anything, whereupon the same records go through ``PushTranscript``. The finding holds for
one connection; whenever the channel is found unconnected, the question is open again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import groupby
from typing import Final

import grpc
import msgspec
from google.protobuf.message import DecodeError

from steno._proto import transcript_v1_pb2
from steno.adapters.grpc_channel import (
    GrpcSettings,
    call_metadata,
    files_stamp,
    open_channel,
)
from steno.adapters.grpc_status import CLOSED, PROTOCOL_BROKEN, Blame, Verdict, judge
from steno.adapters.sinks.encoding import to_transcript
from steno.adapters.sinks.grpc_stream import ACK, UNWANTED, StreamEnded, StreamSession
from steno.core.records import Kind, Record
from steno.errors import IntegrityError
from steno.ports import Ack, BatchShape, Outcome, Reject, Retry, Telemetry

DELIVER: Final = "/steno.v1.RecordStream/Deliver"
PUSH: Final = "/transcript.v1.TranscriptStream/PushTranscript"
HEALTH: Final = "/grpc.health.v1.Health/Check"
KEY_HEADER: Final = "steno-key"
ALL_KINDS: Final = frozenset(Kind)

OpenStream = grpc.aio.StreamStreamMultiCallable[bytes, bytes]
Push = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]

CLOSE_LIMIT_S: Final = 5.0
MAX_BATCH_BYTES: Final = 1024 * 1024
MAX_CULPRITS: Final = 3  # of one batch looked for in one delivery
SUSPECT_AFTER: Final = 2
LANES_AT_ONCE: Final = 16


class Mode(StrEnum):
    """What the connected peer offers."""

    UNKNOWN = "unknown"
    STREAM = "steno.v1"
    UNARY = "transcript.v1"


# While it is not known yet, a batch must suit both.
SHAPES: Final = {
    Mode.UNKNOWN: BatchShape(8, True, 8),
    Mode.STREAM: BatchShape(512, False, 4),
    Mode.UNARY: BatchShape(8, True, 64),
}
# Records of a batch go one after the other: with a slow consumer a batch would outlast its
# lease, and what was acknowledged would be sent again.
SLOW_UNARY: Final = BatchShape(1, True, 64)
SLOW_CALL_S: Final = 0.5


class Probe(msgspec.Struct, frozen=True):
    """What ``probe`` found; ``error_class`` is empty when the consumer answered.

    ``serving`` is None where the consumer has no health service.
    """

    reachable: bool
    serving: bool | None
    service: str
    latency_ms: float
    error_class: str = ""


class GrpcSink:
    """Hands records to a gRPC consumer.

    Args:
        kinds: What the destination wants. The document's service carries sentences only: while
            the peer offers nothing else, other kinds come back ``Unwanted``.
    """

    def __init__(
        self,
        settings: GrpcSettings,
        *,
        telemetry: Telemetry,
        name: str = "grpc",
        kinds: frozenset[Kind] = ALL_KINDS,
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._name = name
        self._is_unary_only = settings.service == "transcript.v1"
        self._kinds = kinds & {Kind.SENTENCE} if self._is_unary_only else kinds
        self._mode = Mode.UNARY if self._is_unary_only else Mode.UNKNOWN
        self._told_mode = Mode.UNKNOWN
        self._told_auth = False
        self._is_refused = False  # our credentials, since the token was last read
        self._is_slow = False  # the last unary call took longer than SLOW_CALL_S
        self._protocol_errors = telemetry.counter(
            "steno_sink_protocol_errors_total", destination=name
        )
        self._channel: grpc.aio.Channel | None = None
        self._stamp: tuple[tuple[int, int], ...] = ()
        self._session: StreamSession | None = None
        self._stumbles = 0  # streams in a row that a record may have ended
        # The port has no ``run`` in which a TaskGroup could live, so the sink owns the readers
        # of its streams itself: each ends with its stream, and ``close`` awaits them.
        self._readers: set[asyncio.Task[None]] = set()
        self._retired: list[grpc.aio.Channel] = []
        self._delivering = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def name(self) -> str:
        """Destination name."""
        return self._name

    @property
    def kinds(self) -> frozenset[Kind]:
        """Kinds it was made for."""
        return self._kinds

    @property
    def shape(self) -> BatchShape:
        """Large mixed batches on a stream; a few of one conversation for unary calls."""
        if self._is_slow and self._mode is Mode.UNARY:
            return SLOW_UNARY
        return SHAPES[self._mode]

    @property
    def mode(self) -> Mode:
        """What the peer is known to offer."""
        return self._mode

    async def deliver(self, records: Sequence[Record]) -> list[Outcome]:
        """Hand over records in order; see ``ports.Sink``.

        A ``Retry`` inside a conversation is followed by ``Retry`` for the rest of it: nothing
        overtakes.

        Raises:
            SinkUnavailable: Nothing is known of any of them. Fields ``cause`` (an error class),
                ``retry_after_s``, ``code``.
            ConfigError: A certificate or token file cannot be read.
        """
        if self._closed:
            raise CLOSED.as_error()
        self._delivering += 1
        self._idle.clear()
        try:
            self._connect()
            if self._retired and self._delivering == 1:
                await self._close_retired()
            if self._mode is not Mode.UNARY:
                outcomes = await self._stream(records)
                if outcomes is not None:
                    return outcomes
            return await self._push_all(records)
        finally:
            self._delivering -= 1
            if not self._delivering:
                self._idle.set()

    # --- connection --------------------------------------------------------------------------

    def _connect(self) -> None:
        """See that there is a channel; forget what the peer offered when it is not connected."""
        channel = self._channel
        if channel is not None:
            is_connected = channel.get_state() is _READY
            if is_connected and not self._is_refused:
                return
            if not is_connected and not self._is_unary_only:
                self._mode = Mode.UNKNOWN
            self._is_refused = False
            if self._stamp == files_stamp(self._settings):
                return
            # A replaced certificate or token takes effect with the next connection, or when the
            # peer has refused us. Calls of the old channel may still be running.
            self._retired.append(channel)
            self._session = None
        self._stamp = files_stamp(self._settings)
        self._channel = channel = open_channel(self._settings)
        self._metadata = call_metadata(self._settings)
        self._open_stream: OpenStream = channel.stream_stream(DELIVER)
        self._push: Push = channel.unary_unary(PUSH)

    def _found(self, mode: Mode) -> None:
        self._mode = mode
        self._told_auth = False
        if mode is not self._told_mode:
            self._told_mode = mode
            self._telemetry.info("sink.mode_found", destination=self._name, state=mode.value)

    def _report(self, verdict: Verdict) -> None:
        """Log once what an operator must act on."""
        if verdict.reason == "RemoteProtocolError":
            self._protocol_errors(1)
            self._telemetry.warning("sink.protocol_broken", destination=self._name)
        if verdict.blame is not Blame.CREDENTIALS:
            return
        self._is_refused = True
        if not self._told_auth:
            self._told_auth = True
            self._telemetry.error(
                "sink.credentials_refused",
                destination=self._name,
                error_class=verdict.reason,
                cause=verdict.code.lower(),
            )

    # --- steno.v1 ----------------------------------------------------------------------------

    def _new_session(self) -> StreamSession:
        session = StreamSession(
            self._open_stream(metadata=self._metadata),
            ack_timeout_s=self._settings.deadline_s,
            max_batch_bytes=min(MAX_BATCH_BYTES, self._settings.max_message_bytes // 2),
        )
        reader = asyncio.get_running_loop().create_task(session.run(), name="grpc-sink-acks")
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        return session

    async def _stream(self, records: Sequence[Record]) -> list[Outcome] | None:
        """Deliver over the shared stream; None when the peer has no such service."""
        session = self._session
        if session is None or session.is_over:
            session = self._session = self._new_session()
        try:
            outcomes = await session.deliver(records)
        except StreamEnded as end:
            return await self._after_stream(end, session, records)
        self._stumbles = 0
        if self._mode is not Mode.STREAM:
            self._found(Mode.STREAM)
        return outcomes

    async def _after_stream(
        self, end: StreamEnded, session: StreamSession, records: Sequence[Record]
    ) -> list[Outcome] | None:
        verdict = end.verdict
        is_unknown_there = verdict.code == "UNIMPLEMENTED" and not end.any_acked
        if is_unknown_there and self._settings.service == "auto":
            # Concurrent deliveries on the same stream come by here too.
            if self._session is session:
                self._session = None
                self._found(Mode.UNARY)
            return None
        if self._session is session:
            self._session = None
            self._mode = Mode.UNKNOWN
            self._stumbles = self._stumbles + 1 if verdict.blame is Blame.RECORD_NOW else 0
            self._report(verdict)
        # Proxies and broken connections end streams with INTERNAL and the like: only when it
        # happens twice without anything delivered in between is a record suspected.
        is_suspect = verdict.blame is Blame.RECORD_NOW and self._stumbles >= SUSPECT_AFTER
        if verdict.blame in (Blame.RECORD, Blame.NOBODY) or is_suspect:
            return await self._each_alone(records)
        raise verdict.as_error() from None

    async def _each_alone(self, records: Sequence[Record]) -> list[Outcome]:
        """Find out which record the consumer stumbles over, on streams of their own.

        The stream's status blamed a record without naming it. One by one, the innocent are
        delivered and the culprits get the verdict; after a few the rest waits.
        """
        outcomes: list[Outcome] = []
        held: dict[str, Retry] = {}
        culprits = 0
        session = self._new_session()
        try:
            for record in records:
                waiting = held.get(record.conversation)
                if waiting is None and culprits >= MAX_CULPRITS:
                    waiting = Retry("ConsumerFailed")
                if waiting is not None:
                    outcomes.append(waiting)
                    continue
                try:
                    outcomes.extend(await session.deliver([record]))
                except StreamEnded as end:
                    blames_peer = end.verdict.blame in (Blame.PEER, Blame.CREDENTIALS)
                    culprits += MAX_CULPRITS if blames_peer else 1
                    outcome = _outcome_of(end.verdict)
                    outcomes.append(outcome)
                    if isinstance(outcome, Retry):
                        held[record.conversation] = outcome
                    session = self._new_session()
        finally:
            await _close_session(session)
        return outcomes

    # --- transcript.v1 -----------------------------------------------------------------------

    async def _push_all(self, records: Sequence[Record]) -> list[Outcome]:
        first = records[0].conversation
        if all(record.conversation == first for record in records):
            outcomes, verdict = await self._push_in_order(records)
        else:
            outcomes, verdict = await self._push_by_conversation(records)
        if verdict is not None and all(isinstance(outcome, Retry) for outcome in outcomes):
            raise verdict.as_error()
        return outcomes

    async def _push_by_conversation(
        self, records: Sequence[Record]
    ) -> tuple[list[Outcome], Verdict | None]:
        """Push a mixed batch, which a stream's shape allowed before the peer changed."""
        places = sorted(range(len(records)), key=lambda place: records[place].conversation)
        lanes = [
            list(lane) for _, lane in groupby(places, key=lambda place: records[place].conversation)
        ]
        outcomes: list[Outcome] = [UNWANTED] * len(records)
        verdicts: list[Verdict] = []
        room = asyncio.Semaphore(LANES_AT_ONCE)

        async def push(lane: list[int]) -> None:
            async with room:
                got, verdict = await self._push_in_order([records[place] for place in lane])
            for place, outcome in zip(lane, got, strict=True):
                outcomes[place] = outcome
            if verdict is not None:
                verdicts.append(verdict)

        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(push(lane))
        return outcomes, verdicts[0] if verdicts else None

    async def _push_in_order(
        self, records: Sequence[Record]
    ) -> tuple[list[Outcome], Verdict | None]:
        """Push one after the other; stops at the first that has to wait.

        The verdict is set when the peer or our credentials were the reason.
        """
        outcomes: list[Outcome] = []
        for record in records:
            if record.kind is not Kind.SENTENCE:
                outcomes.append(UNWANTED)
                continue
            outcome = await self._push_one(record)
            if isinstance(outcome, Verdict):
                self._report(outcome)
                waiting = _outcome_of(outcome)
                outcomes.append(waiting)
                if isinstance(waiting, Retry):
                    outcomes.extend([waiting] * (len(records) - len(outcomes)))
                    blames_record = outcome.blame is Blame.RECORD_NOW
                    return outcomes, None if blames_record else outcome
                continue
            outcomes.append(outcome)
        return outcomes, None

    async def _push_one(self, record: Record) -> Outcome | Verdict:
        try:
            message = to_transcript(record)
        except IntegrityError:
            return Reject("IntegrityError")
        if len(message) > self._settings.max_message_bytes:
            return Reject("MessageTooLarge")
        key = f"{record.key}.{record.revision}.{record.seq}"
        started = time.monotonic()
        try:
            answer = await self._push(
                message,
                # gRPC's own deadline; a timer of asyncio beside it would cost 5 µs a call.
                timeout=self._settings.deadline_s,
                metadata=((KEY_HEADER, key), *self._metadata),
            )
            reply = transcript_v1_pb2.AckResponse.FromString(answer)
        except grpc.aio.AioRpcError as error:
            return judge(error)
        except DecodeError:
            return PROTOCOL_BROKEN
        finally:
            self._is_slow = time.monotonic() - started > SLOW_CALL_S
        if reply.success:
            return ACK
        return Reject("ConsumerRefused")

    # --- the rest ----------------------------------------------------------------------------

    async def probe(self) -> Probe:
        """Ask the consumer how it is, on a connection of its own; sends no record.

        Raises:
            ConfigError: A certificate or token file cannot be read.
        """
        started = time.perf_counter()
        limit_s = self._settings.deadline_s
        channel = open_channel(self._settings)
        metadata = call_metadata(self._settings)
        try:
            serving = await _health(channel, metadata, limit_s)
            latency_ms = (time.perf_counter() - started) * 1000
            service = await _offered(channel, metadata, limit_s)
        except grpc.aio.AioRpcError as error:
            latency_ms = (time.perf_counter() - started) * 1000
            return Probe(False, None, "", latency_ms, judge(error).reason)
        finally:
            await channel.close()
        return Probe(True, serving, service, latency_ms)

    async def close(self) -> None:
        """Let what is in flight end, for a few seconds, then let go of the connection."""
        self._closed = True
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await self._idle.wait()
        except TimeoutError:
            self._telemetry.warning("sink.close_timed_out", destination=self._name)
        if self._session is not None:
            await _close_session(self._session)
        for reader in tuple(self._readers):
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        if self._channel is not None:
            self._retired.append(self._channel)
            self._channel = None
        await self._close_retired()

    async def _close_retired(self) -> None:
        while self._retired:
            await self._retired.pop().close()


_READY: Final = grpc.ChannelConnectivity.READY


def _outcome_of(verdict: Verdict) -> Ack | Retry | Reject:
    match verdict.blame:
        case Blame.NOBODY:
            return ACK
        case Blame.RECORD:
            return Reject(verdict.reason)
        case Blame.PEER | Blame.CREDENTIALS | Blame.RECORD_NOW:
            return Retry(verdict.reason, verdict.retry_after_s)


async def _close_session(session: StreamSession) -> None:
    try:
        async with asyncio.timeout(1.0):
            await session.close()
    except (TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass  # it is over, or is ended below
    session.abort(CLOSED)


async def _health(
    channel: grpc.aio.Channel, metadata: Iterable[tuple[str, str]], limit_s: float
) -> bool | None:
    # Imported here: only ``doctor`` asks. The package has neither stubs nor a py.typed mark.
    from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]  # no types

    check = channel.unary_unary(
        HEALTH,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    try:
        reply = await check(
            health_pb2.HealthCheckRequest(), timeout=limit_s, metadata=tuple(metadata)
        )
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND):
            return None
        raise
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


async def _offered(
    channel: grpc.aio.Channel, metadata: Iterable[tuple[str, str]], limit_s: float
) -> str:
    """Return the service offered, found by a stream without a single batch."""
    stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(DELIVER)
    call = stream(timeout=limit_s, metadata=tuple(metadata))
    try:
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return Mode.UNARY.value
        raise
    return Mode.STREAM.value
