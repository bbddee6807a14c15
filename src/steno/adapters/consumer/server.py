"""A gRPC server of both consumer contracts, for tests, demonstrations and small deployments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import msgspec
from grpc_health.v1 import health, health_pb2  # type: ignore[import-untyped]  # no types

from steno._proto import steno_v1_pb2, transcript_v1_pb2
from steno.adapters.consumer.lines import INDEX_SIZE, Line, LinesFile, LineStore
from steno.adapters.grpc_serving import bind, check_listening, is_authorised, make_server
from steno.core.secret import Secret
from steno.errors import StorageError

STREAM_SERVICE: Final = "steno.v1.RecordStream"
UNARY_SERVICE: Final = "transcript.v1.TranscriptStream"
KEY_HEADER: Final = "steno-key"

MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
BATCHES_IN_FLIGHT: Final = 8  # of one stream, read and not yet acknowledged
MAX_CALLS: Final = 1000  # at once, on one connection
STOP_GRACE_S: Final = 5.0

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_encode: Final = msgspec.json.Encoder().encode

# A generated servicer's context; its type parameters say nothing that is used here.
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings:
    """How the consumer listens and where it writes.

    Attributes:
        listen: ``host:port`` or ``unix:/path``; port 0 takes a free one.
        out: File of JSON lines; None is standard output.
        cert_file, key_file: PEM certificate chain and key: the server speaks TLS.
        client_ca_file: Clients must show a certificate signed by one of these.
        plaintext: Listen beyond this machine without TLS, on explicit wish.
        token: Bearer token every call must carry; empty asks for none.
        delay_ms: Fault switch: wait this long before each acknowledgement.
        fail_every: Fault switch: answer UNAVAILABLE to each Nth record, storing nothing.
        reject_every: Fault switch: refuse each Nth record for good.
        index_size: Identities remembered to recognise repeats.
    """

    listen: str = "127.0.0.1:50051"
    out: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None
    plaintext: bool = False
    token: Secret = field(default_factory=lambda: Secret(""))
    delay_ms: float = 0.0
    fail_every: int = 0
    reject_every: int = 0
    index_size: int = INDEX_SIZE

    def __post_init__(self) -> None:
        check_listening(self)


class Summary(msgspec.Struct, frozen=True):
    """Totals of one run, in records. ``failed`` and ``rejected`` come from the fault switches.

    ``without_key`` counts stored sentences whose sender gave no key: repeats among them cannot
    be recognised.
    """

    received: int
    stored: int
    repeated: int
    rejected: int
    failed: int
    without_key: int
    streams: int
    unary_calls: int
    damaged_lines: int


class WireRecord(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A line of the file: a record as it came, whichever service brought it."""

    kind: str
    conversation: str
    lane: str
    key: str
    revision: int
    at: str
    payload: msgspec.Raw
    id: str = ""
    source: str = ""
    utterance: str = ""
    seq: int = 0
    prev_seq: int = 0
    origin: str = ""


class TranscriptPayload(msgspec.Struct, frozen=True, gc=False):
    """Payload of a sentence that came through the document's service."""

    participant: str
    text: str
    language: str
    confidence: float
    completed_us: int


class Consumer:
    """Serves until told to stop; ``run`` is the whole life."""

    def __init__(self, settings: ConsumerSettings) -> None:
        self._settings = settings
        self._file = LinesFile(settings.out, index_size=settings.index_size)
        self._store = LineStore(self._file, index_size=settings.index_size)
        self._health = health.aio.HealthServicer()
        self._readers: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._received = self._rejected = self._failed = 0
        self._streams = self._unary_calls = 0

    @property
    def summary(self) -> Summary:
        """Totals so far."""
        return Summary(
            received=self._received,
            stored=self._store.stored,
            repeated=self._store.repeated,
            rejected=self._rejected,
            failed=self._failed,
            without_key=self._store.without_key,
            streams=self._streams,
            unary_calls=self._unary_calls,
            damaged_lines=self._file.damaged_lines,
        )

    async def run(self, stop: asyncio.Event, *, on_listening: Callable[[str], None]) -> Summary:
        """Serve until ``stop``: then accept nothing more, acknowledge what is stored, return.

        Args:
            on_listening: Called once with the address, its port filled in.

        Raises:
            ConfigError: The address or a certificate cannot be used, or the file is taken.
            StorageError: The file cannot be opened.
        """
        await self._store.open()
        try:
            server = self._server()
            address = bind(server, self._settings, refusal="the consumer cannot listen there")
            async with asyncio.TaskGroup() as group:
                group.create_task(self._store.run())
                for service in (UNARY_SERVICE, STREAM_SERVICE):
                    await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
                await server.start()
                on_listening(address)
                try:
                    await stop.wait()
                finally:
                    self._stopping = True
                    await self._health.enter_graceful_shutdown()
                    for reader in self._readers:
                        reader.cancel()
                    await server.stop(STOP_GRACE_S)
                    self._store.end()
        finally:
            self._store.close()
        return self.summary

    def _server(self) -> grpc.aio.Server:
        push = grpc.unary_unary_rpc_method_handler(
            self._push,
            request_deserializer=transcript_v1_pb2.TranscriptMessage.FromString,
            response_serializer=transcript_v1_pb2.AckResponse.SerializeToString,
        )
        deliver = grpc.stream_stream_rpc_method_handler(
            self._deliver,
            request_deserializer=steno_v1_pb2.RecordBatch.FromString,
            response_serializer=steno_v1_pb2.BatchAck.SerializeToString,
        )
        return make_server(
            {
                UNARY_SERVICE: {"PushTranscript": push},
                STREAM_SERVICE: {"Deliver": deliver},
            },
            self._health,
            max_message_bytes=MAX_MESSAGE_BYTES,
            max_streams=MAX_CALLS,
        )

    # --- transcript.v1 -----------------------------------------------------------------------

    async def _push(
        self, message: transcript_v1_pb2.TranscriptMessage, context: Context
    ) -> transcript_v1_pb2.AckResponse:
        metadata = dict(context.invocation_metadata() or ())
        await self._admit(metadata, context)
        self._unary_calls += 1
        self._received += 1
        if self._hits(self._settings.fail_every):
            self._failed += 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "fail-every")
        if self._hits(self._settings.reject_every):
            self._rejected += 1
            return transcript_v1_pb2.AckResponse(success=False, message="reject-every")
        line = _line_of_transcript(message, str(metadata.get(KEY_HEADER, "")))
        failure = await (await self._store.submit([line]))
        if failure is not None:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, failure.error_class)
        await self._delay()
        return transcript_v1_pb2.AckResponse(success=True, message="stored")

    # --- steno.v1 ----------------------------------------------------------------------------

    async def _deliver(self, _: object, context: Context) -> None:
        """Read and acknowledge side by side, so that one fsync can cover several batches."""
        await self._admit(dict(context.invocation_metadata() or ()), context)
        self._streams += 1
        stream = _Stream()
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(context, stream))
            self._readers.add(reader)
            if self._stopping:
                reader.cancel()
            try:
                await self._acknowledge(context, stream)
            finally:
                reader.cancel()
                self._readers.discard(reader)
        if stream.code is not grpc.StatusCode.OK:
            await context.abort(stream.code, stream.detail)

    async def _read(self, context: Context, stream: _Stream) -> None:
        expected = 1
        try:
            while True:
                await stream.room.acquire()
                batch = await context.read()
                if not isinstance(batch, steno_v1_pb2.RecordBatch):
                    return
                if batch.batch != expected:
                    stream.fail(grpc.StatusCode.INVALID_ARGUMENT, "batch numbers have a hole")
                    return
                expected += 1
                taken = await self._take(batch)
                if taken is None:
                    stream.fail(grpc.StatusCode.UNAVAILABLE, "fail-every")
                    return
                stream.taken.put_nowait(taken)
        finally:
            # Also when stopping cancels us: what was read is still acknowledged.
            stream.taken.put_nowait(None)

    async def _acknowledge(self, context: Context, stream: _Stream) -> None:
        while (taken := await stream.taken.get()) is not None:
            failure = await taken.stored
            if failure is not None:
                stream.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, failure.error_class)
                return
            await self._delay()
            await context.write(
                steno_v1_pb2.BatchAck(acked_through=taken.number, rejections=taken.rejections)
            )
            stream.room.release()

    async def _take(self, batch: steno_v1_pb2.RecordBatch) -> _Taken | None:
        lines: list[Line] = []
        rejections: list[steno_v1_pb2.Rejection] = []
        for index, record in enumerate(batch.records):
            self._received += 1
            if self._hits(self._settings.fail_every):
                self._failed += 1
                return None
            if self._hits(self._settings.reject_every):
                self._rejected += 1
                reason = "reject-every"
            else:
                line = _line_of_record(record)
                if line is not None:
                    lines.append(line)
                    continue
                self._rejected += 1
                reason = "payload"
            rejections.append(steno_v1_pb2.Rejection(batch=batch.batch, index=index, reason=reason))
        return _Taken(batch.batch, await self._store.submit(lines), rejections)

    # --- both --------------------------------------------------------------------------------

    async def _admit(self, metadata: dict[str, Any], context: Context) -> None:
        if not is_authorised(metadata, self._settings.token):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "token")

    def _hits(self, every: int) -> bool:
        return every > 0 and self._received % every == 0

    async def _delay(self) -> None:
        if self._settings.delay_ms > 0:
            await asyncio.sleep(self._settings.delay_ms / 1000)


class _Taken(msgspec.Struct, frozen=True, gc=False):
    """A batch that was read; ``stored`` resolves once it is durable, or cannot be."""

    number: int
    stored: asyncio.Future[StorageError | None]
    rejections: Sequence[steno_v1_pb2.Rejection]


class _Stream:
    """State of one stream: batches read and not yet acknowledged, and how it is to end."""

    def __init__(self) -> None:
        self.room = asyncio.Semaphore(BATCHES_IN_FLIGHT)  # bounds ``taken``
        self.taken: asyncio.Queue[_Taken | None] = asyncio.Queue()
        self.code = grpc.StatusCode.OK
        self.detail = ""

    def fail(self, code: grpc.StatusCode, detail: str) -> None:
        """Remember the first failure; the stream ends with it after the last good ack."""
        if self.code is grpc.StatusCode.OK:
            self.code, self.detail = code, detail


def _line_of_record(record: steno_v1_pb2.Record) -> Line | None:
    """Return the line of a record; None when its payload is not JSON."""
    payload = record.payload
    try:
        # Also proves that it is JSON: a bad payload would tear the file's line apart.
        payload = msgspec.json.format(payload, indent=-1)
    except msgspec.MsgspecError:
        return None
    data = _encode(
        WireRecord(
            kind=record.kind,
            conversation=record.conversation_id,
            lane=record.lane,
            key=record.key,
            revision=record.revision,
            at=_rfc3339(record.at_us),
            payload=msgspec.Raw(payload),
            id=record.id,
            source=record.source,
            utterance=record.utterance,
            seq=record.seq,
            prev_seq=record.prev_seq,
            origin=record.origin,
        )
    )
    return Line(record.key, record.revision, data + b"\n")


def _line_of_transcript(message: transcript_v1_pb2.TranscriptMessage, header: str) -> Line:
    """Return the line of a sentence; ``header`` is ``key.revision.seq`` where the sender has it."""
    key, revision, seq = _key_of(header)
    payload = TranscriptPayload(
        participant=message.participant_id,
        text=message.sanitized_text,
        language=message.language,
        confidence=message.confidence,
        completed_us=message.timestamp,
    )
    data = _encode(
        WireRecord(
            kind="sentence",
            conversation=message.conversation_id,
            lane=message.participant_id,
            key=key,
            revision=revision,
            at=_rfc3339(message.timestamp),
            payload=msgspec.Raw(_encode(payload)),
            seq=seq,
        )
    )
    return Line(key, revision, data + b"\n")


def _key_of(header: str) -> tuple[str, int, int]:
    key, _, numbers = header.partition(".")
    revision, _, seq = numbers.partition(".")
    if len(key) > 128 or not revision.isdecimal() or not (seq or "0").isdecimal():
        return "", 0, 0
    if len(revision) > 9 or len(seq) > 18:
        return "", 0, 0
    return key, int(revision), int(seq or "0")


def _rfc3339(at_us: int) -> str:
    try:
        at = _EPOCH + timedelta(microseconds=at_us)
    except OverflowError:  # a peer's nonsense must not cost the record
        return ""
    return at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
