"""The gRPC sink against real servers on port 0."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from conformance.sink_grpc_peers import (
    OK,
    Context,
    PushLog,
    StreamLog,
    read,
    serving,
)
from conformance.sink_rules import CANARY, Peer, Recorder, SinkRules, gap, keys, retried, sentence
from steno._proto import steno_v1_pb2, transcript_v1_pb2
from steno.adapters.grpc_channel import GrpcSettings
from steno.adapters.grpc_status import POLICY, Blame, retry_after_s
from steno.adapters.sinks.grpc import GrpcSink, Mode
from steno.core.records import Kind, Record
from steno.errors import SinkUnavailable
from steno.ports import Ack, Reject, Retry, Sink, Unwanted


def _retry_in(duration: Duration) -> bytes:
    """Return a serialised google.rpc.Status that holds a RetryInfo."""
    delay = duration.SerializeToString()
    retry_info = b"\x0a" + bytes([len(delay)]) + delay
    detail = Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=retry_info)
    encoded = detail.SerializeToString()
    return b"\x08\x08\x12\x04busy\x1a" + bytes([len(encoded)]) + encoded


RETRY_IN_3_5_S = _retry_in(Duration(seconds=3, nanos=500_000_000))


def sink_to(target: str, **settings: object) -> GrpcSink:
    made = GrpcSettings(target=target, **settings)  # type: ignore[arg-type] # given by each test
    return GrpcSink(made, telemetry=Recorder())


class TestStreamConformance(SinkRules):
    """The rules, over ``steno.v1``."""

    @pytest.fixture
    async def pair(self) -> AsyncIterator[tuple[Sink, Peer]]:
        """Give a sink and a peer with both services."""
        log = StreamLog()

        class StreamPeer:
            async def received(self) -> list[str]:
                return [record.key for record in log.records]

            def fail_once(self) -> None:
                log.script.append(grpc.StatusCode.UNAVAILABLE)

        async with serving(stream=log, push=PushLog()) as target:
            sink = sink_to(target)
            yield sink, StreamPeer()
            await sink.close()


class TestUnaryConformance(SinkRules):
    """The rules, over the document's service."""

    @pytest.fixture
    async def pair(self) -> AsyncIterator[tuple[Sink, Peer]]:
        """Give a sink and a peer that knows the document's service only."""
        log = PushLog()

        class UnaryPeer:
            async def received(self) -> list[str]:
                return log.keys

            def fail_once(self) -> None:
                log.script.append(grpc.StatusCode.UNAVAILABLE)

        async with serving(push=log) as target:
            sink = sink_to(target)
            yield sink, UnaryPeer()
            await sink.close()


# --- which service ---------------------------------------------------------------------------


async def test_falls_back_to_the_document_and_remembers() -> None:
    """UNIMPLEMENTED on the stream sends the same records as unary calls; asked only once."""
    log = PushLog()
    async with serving(push=log) as target:
        sink = sink_to(target)
        assert sink.shape.max_records <= 16
        for number in (1, 2, 3):
            assert await sink.deliver([sentence("alpha", number)]) == [Ack()]
        assert sink.mode is Mode.UNARY
        assert sink._readers == set()
        assert sink.shape.one_conversation
        await sink.close()
    assert [message.timestamp for message in log.messages] == [
        1_705_314_600_123_456 + number for number in (1, 2, 3)
    ]


async def test_prefers_the_stream() -> None:
    """A peer with both services gets the stream, whose shape takes mixed conversations."""
    log = StreamLog()
    async with serving(stream=log, push=PushLog()) as target:
        sink = sink_to(target)
        await sink.deliver([sentence("alpha", 1)])
        assert sink.mode is Mode.STREAM
        assert not sink.shape.one_conversation
        mixed = [sentence("alpha", 2), sentence("beta", 1), gap("beta", 2)]
        assert await sink.deliver(mixed) == [Ack()] * 3
        assert log.streams == 1
        await sink.close()


async def test_asks_again_after_a_reconnect() -> None:
    """A peer that comes back with the stream is found, without a call having failed first."""
    first, second = PushLog(), StreamLog()
    async with serving(push=first) as target:
        sink = sink_to(target)
        await sink.deliver([sentence("alpha", 1)])
    async with serving(stream=second, listen=target):
        assert await retried(sink, [sentence("alpha", 2)]) == [Ack()]
        assert sink.mode is Mode.STREAM
        await sink.close()


async def test_unary_peer_leaves_other_kinds_unwanted() -> None:
    """The document has no place for a gap: kept, marked unwanted, and nothing is blocked."""
    log = PushLog()
    async with serving(push=log) as target:
        sink = sink_to(target)
        records = [sentence("alpha", 1), gap("alpha", 2), sentence("alpha", 3)]
        assert await sink.deliver(records) == [Ack(), Unwanted(), Ack()]
        assert len(log.messages) == 2
        await sink.close()


async def test_pinned_to_the_document_carries_sentences_only() -> None:
    """With the service pinned the sink says so in its kinds."""
    sink = sink_to("127.0.0.1:1", service="transcript.v1")
    assert sink.kinds == {Kind.SENTENCE}
    assert sink.mode is Mode.UNARY
    await sink.close()


async def test_pinned_to_the_stream_never_falls_back() -> None:
    """A peer without the pinned service is unavailable, not fed through another."""
    log = PushLog()
    async with serving(push=log) as target:
        sink = sink_to(target, service="steno.v1")
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver([sentence("alpha", 1)])
        assert caught.value.fields["cause"] == "NotOffered"
        await sink.close()
    assert log.messages == []


# --- what crosses the wire -------------------------------------------------------------------


async def test_unary_message_is_the_document_s() -> None:
    """Every field of the document's message is filled; key, revision and seq ride beside it."""
    log = PushLog()
    record = sentence("alpha", 7, revision=2)
    async with serving(push=log) as target:
        sink = sink_to(target)
        await sink.deliver([record])
        await sink.close()
    (message,), (headers,) = log.messages, log.headers
    assert len(message.ListFields()) == len(message.DESCRIPTOR.fields)
    assert (message.conversation_id, message.participant_id) == ("alpha", "agent-1")
    assert (message.sanitized_text, message.language) == (f"that is {CANARY}", "en-GB")
    assert message.confidence == 0.75
    assert headers["steno-key"] == f"{record.key}.2.7"


async def test_mixed_batch_keeps_order_in_unary_mode() -> None:
    """A batch of several conversations, shaped for a stream, still reaches a unary peer."""
    log = PushLog()
    records = [sentence(f"c{i % 5}", i) for i in range(1, 41)]
    async with serving(push=log) as target:
        sink = sink_to(target)
        assert await sink.deliver(records) == [Ack()] * 40
        await sink.close()
    for lane in range(5):
        mine = [m.timestamp for m in log.messages if m.conversation_id == f"c{lane}"]
        assert mine == sorted(mine)
        assert len(mine) == 8


# --- statuses --------------------------------------------------------------------------------


def test_every_status_has_a_policy() -> None:
    """No status of gRPC is left to chance."""
    assert set(POLICY) == set(grpc.StatusCode)


UNARY_CASES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


@pytest.mark.parametrize("code", UNARY_CASES, ids=lambda code: str(code.name))
async def test_status_of_a_unary_call(code: grpc.StatusCode) -> None:
    """Peer's and our own faults fail the call; the record's own are its outcome."""
    log = PushLog()
    log.script = [code]
    async with serving(push=log) as target:
        telemetry = Recorder()
        settings = GrpcSettings(target=target, service="transcript.v1")
        sink = GrpcSink(settings, telemetry=telemetry)
        blame, reason = POLICY[code]
        record = sentence("alpha", 1)
        match blame:
            case Blame.NOBODY:
                assert await sink.deliver([record]) == [Ack()]
            case Blame.RECORD:
                assert await sink.deliver([record]) == [Reject(reason)]
            case Blame.RECORD_NOW:
                assert await sink.deliver([record]) == [Retry(reason)]
            case Blame.PEER | Blame.CREDENTIALS:
                with pytest.raises(SinkUnavailable) as caught:
                    await sink.deliver([record])
                assert caught.value.fields["cause"] == reason
                assert CANARY not in str(caught.value)
        told = "sink.credentials_refused" in telemetry.events
        assert told == (blame is Blame.CREDENTIALS)
        assert CANARY not in str(telemetry.told)
        await sink.close()


async def test_refusal_of_one_leaves_the_others() -> None:
    """``success=false`` is a dead letter, and the records behind it go on."""
    log = PushLog()
    log.script = [None, False, None]
    async with serving(push=log) as target:
        sink = sink_to(target, service="transcript.v1")
        records = [sentence("alpha", number) for number in (1, 2, 3)]
        assert await sink.deliver(records) == [Ack(), Reject("ConsumerRefused"), Ack()]
        await sink.close()


async def test_nothing_overtakes_a_record_that_waits() -> None:
    """After a retry the rest of the conversation is not sent; what was acked stays acked."""
    log = PushLog()
    log.script = [None, grpc.StatusCode.UNAVAILABLE]
    async with serving(push=log) as target:
        sink = sink_to(target, service="transcript.v1")
        records = [sentence("alpha", number) for number in (1, 2, 3, 4)]
        waiting = Retry("PeerUnavailable")
        assert await sink.deliver(records) == [Ack(), waiting, waiting, waiting]
        assert log.keys == keys(records[:1])
        await sink.close()


@pytest.mark.parametrize(
    ("trailing", "wait_s"),
    [
        ((("retry-after", "7"),), 7.0),
        ((("grpc-retry-pushback-ms", "1500"),), 1.5),
        ((("retry-after", "soon"),), None),
        ((("grpc-status-details-bin", RETRY_IN_3_5_S),), 3.5),
        ((("grpc-status-details-bin", b"\x1a\xff\xff\xff\x7f"),), None),
    ],
)
async def test_the_wait_a_peer_asks_for(
    trailing: tuple[tuple[str, str | bytes], ...], wait_s: float | None
) -> None:
    """``retry-after``, push-back and RetryInfo become the error's ``retry_after_s``."""
    log = PushLog()
    log.script, log.trailing = [grpc.StatusCode.RESOURCE_EXHAUSTED], trailing
    async with serving(push=log) as target:
        sink = sink_to(target, service="transcript.v1")
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver([sentence("alpha", 1)])
        assert caught.value.fields["retry_after_s"] == wait_s
        await sink.close()


def test_any_details_are_read_or_ignored() -> None:
    """Status details cut at any length never raise."""
    for length in range(len(RETRY_IN_3_5_S)):
        wait_s = retry_after_s([("grpc-status-details-bin", RETRY_IN_3_5_S[:length])])
        assert wait_s is None or 0 <= wait_s <= 3.5


@given(details=st.binary(max_size=200))
def test_garbage_details_never_raise(details: bytes) -> None:
    """Status details are a peer's bytes; whatever they are, they ask for a bounded wait or none."""
    wait_s = retry_after_s([("grpc-status-details-bin", details)])
    assert wait_s is None or wait_s >= 0


async def test_a_call_has_a_deadline() -> None:
    """A consumer that hangs costs the deadline and no more."""

    async def hang(
        message: transcript_v1_pb2.TranscriptMessage, context: Context
    ) -> transcript_v1_pb2.AckResponse:
        await asyncio.sleep(60)
        return OK

    async with serving(push=hang) as target:
        sink = sink_to(target, service="transcript.v1", deadline_s=0.2)
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver([sentence("alpha", 1)])
        assert caught.value.fields["cause"] == "TimedOut"
        await sink.close()


async def test_slow_calls_make_small_batches() -> None:
    """While calls are slow a delivery holds one record, so that it ends within its lease."""
    waits_s = [0.6, 0.0]

    async def slow(
        message: transcript_v1_pb2.TranscriptMessage, context: Context
    ) -> transcript_v1_pb2.AckResponse:
        await asyncio.sleep(waits_s.pop(0))
        return OK

    async with serving(push=slow) as target:
        sink = sink_to(target, service="transcript.v1")
        usual = sink.shape.max_records
        await sink.deliver([sentence("alpha", 1)])
        assert (sink.shape.max_records, usual > 1) == (1, True)
        await sink.deliver([sentence("alpha", 2)])
        assert sink.shape.max_records == usual
        await sink.close()


async def test_nobody_listening_fails_at_once() -> None:
    """A refused connection is unavailable, well before the deadline."""
    async with serving(push=PushLog()) as target:
        pass
    sink = sink_to(target)
    async with asyncio.timeout(5):
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver([sentence("alpha", 1)])
    assert caught.value.fields["cause"] == "PeerUnavailable"
    await sink.close()


# --- the stream and its evil peers -----------------------------------------------------------


@pytest.mark.parametrize(
    "ack",
    [
        steno_v1_pb2.BatchAck(acked_through=2),
        steno_v1_pb2.BatchAck(rejections=[steno_v1_pb2.Rejection(batch=9, index=0)]),
        steno_v1_pb2.BatchAck(rejections=[steno_v1_pb2.Rejection(batch=1, index=5)]),
    ],
    ids=["beyond what was sent", "unknown batch", "unknown record"],
)
async def test_acks_of_what_was_not_sent(ack: steno_v1_pb2.BatchAck) -> None:
    """Such an ack ends the stream, is counted, and acknowledges nothing."""

    async def lie(context: Context) -> None:
        await read(context)
        await context.write(ack)
        await read(context)

    async with serving(stream=lie) as target:
        telemetry = Recorder()
        sink = GrpcSink(GrpcSettings(target=target), telemetry=telemetry)
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver([sentence("alpha", 1)])
        assert caught.value.fields["cause"] == "RemoteProtocolError"
        assert telemetry.counts == {"steno_sink_protocol_errors_total": 1}
        await sink.close()


async def test_answers_that_are_not_protobuf() -> None:
    """Garbage acknowledges nothing, in either service, and is counted."""

    async def babble(context: Context) -> None:
        await read(context)
        await context.write(b"\xff" * 9)
        await read(context)

    async def mumble(message: transcript_v1_pb2.TranscriptMessage, context: Context) -> bytes:
        return b"\xff" * 9

    for service in ("steno.v1", "transcript.v1"):
        async with serving(stream=babble, push=mumble) as target:
            telemetry = Recorder()
            settings = GrpcSettings(target=target, service=service)
            sink = GrpcSink(settings, telemetry=telemetry)
            with pytest.raises(SinkUnavailable) as caught:
                await sink.deliver([sentence("alpha", 1)])
            assert caught.value.fields["cause"] == "RemoteProtocolError"
            assert telemetry.counts == {"steno_sink_protocol_errors_total": 1}
            await sink.close()


async def test_ack_taken_back() -> None:
    """A cumulative ack that goes backwards ends the stream."""

    async def forget(context: Context) -> None:
        for through in (1, 0):
            await read(context)
            await context.write(steno_v1_pb2.BatchAck(acked_through=through))
        await read(context)

    async with serving(stream=forget) as target:
        sink = sink_to(target)
        assert await sink.deliver([sentence("alpha", 1)]) == [Ack()]
        with pytest.raises(SinkUnavailable):
            await sink.deliver([sentence("alpha", 2)])
        await sink.close()


async def test_consumer_that_never_acks_is_given_up() -> None:
    """The wait for an ack has a deadline; the stream is ended, and the next try has a new one."""
    streams = 0

    async def hang_once(context: Context) -> None:
        nonlocal streams
        streams += 1
        while (batch := await read(context)) is not None:
            if streams > 1:
                await context.write(steno_v1_pb2.BatchAck(acked_through=batch.batch))

    async with serving(stream=hang_once) as target:
        sink = sink_to(target, deadline_s=0.3)
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver([sentence("alpha", 1)])
        assert caught.value.fields["cause"] == "TimedOut"
        assert await sink.deliver([sentence("alpha", 1)]) == [Ack()]
        await sink.close()
    assert streams == 2


async def test_slow_but_moving_consumer_keeps_its_stream() -> None:
    """The deadline is for standing still: many batches may together take longer than it."""

    async def slow(context: Context) -> None:
        while (batch := await read(context)) is not None:
            await asyncio.sleep(0.2)
            await context.write(steno_v1_pb2.BatchAck(acked_through=batch.batch))

    async with serving(stream=slow) as target:
        sink = sink_to(target, deadline_s=0.5)
        deliveries = [sink.deliver([sentence(f"c{i}", 1)]) for i in range(4)]
        assert await asyncio.gather(*deliveries) == [[Ack()]] * 4
        await sink.close()


async def test_stream_that_closes_mid_batch() -> None:
    """All deliveries in flight fail, none is acknowledged, and none hangs."""

    async def close_early(context: Context) -> None:
        await read(context)

    async with serving(stream=close_early) as target:
        sink = sink_to(target)
        deliveries = [sink.deliver([sentence(f"c{i}", 1)]) for i in range(4)]
        answers = await asyncio.gather(*deliveries, return_exceptions=True)
        assert all(isinstance(answer, SinkUnavailable) for answer in answers), answers
        await sink.close()


async def test_cumulative_ack_settles_all_before_it() -> None:
    """One ack for the last of several batches acknowledges them all.

    The first batch is alone: until its ack it is not known that the peer offers the service.
    """

    async def lazy(context: Context) -> None:
        await read(context)
        await context.write(steno_v1_pb2.BatchAck(acked_through=1))
        for _ in range(4):
            await read(context)
        await context.write(steno_v1_pb2.BatchAck(acked_through=5))
        await read(context)

    async with serving(stream=lazy) as target:
        sink = sink_to(target)
        await sink.deliver([sentence("alpha", 1)])
        deliveries = [sink.deliver([sentence(f"c{i}", 1)]) for i in range(4)]
        assert await asyncio.gather(*deliveries) == [[Ack()]] * 4
        await sink.close()


async def test_verdicts_of_the_consumer() -> None:
    """Refused, later and unwanted reach the right records; the rest is acknowledged."""

    async def judge(context: Context) -> None:
        batch = await read(context)
        assert batch is not None
        verdicts = [
            steno_v1_pb2.Rejection(batch=1, index=1, reason=CANARY),
            steno_v1_pb2.Rejection(batch=1, index=2, verdict=steno_v1_pb2.VERDICT_UNWANTED),
            steno_v1_pb2.Rejection(
                batch=1, index=3, verdict=steno_v1_pb2.VERDICT_LATER, retry_after_ms=2500
            ),
        ]
        await context.write(steno_v1_pb2.BatchAck(rejections=verdicts[:1]))
        await context.write(steno_v1_pb2.BatchAck(acked_through=1, rejections=verdicts[1:]))
        await read(context)

    async with serving(stream=judge) as target:
        sink = sink_to(target)
        records = [sentence("alpha", number) for number in (1, 2, 3, 4)]
        assert await sink.deliver(records) == [
            Ack(),
            Reject("ConsumerRefused"),
            Unwanted(),
            Retry("ConsumerBusy", 2.5),
        ]
        await sink.close()


async def test_the_record_a_stream_stumbles_over_is_found() -> None:
    """A stream status blames a record without naming it: the innocent are delivered, it is not."""
    poison = sentence("beta", 3)
    stored: list[str] = []

    async def stumble(context: Context) -> None:
        while (batch := await read(context)) is not None:
            if any(record.key == poison.key for record in batch.records):
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
            stored.extend(record.key for record in batch.records)
            await context.write(steno_v1_pb2.BatchAck(acked_through=batch.batch))

    async with serving(stream=stumble) as target:
        sink = sink_to(target)
        records = [sentence("beta", 2), poison, sentence("beta", 4), sentence("gamma", 1)]
        assert await sink.deliver(records) == [Ack(), Reject("ConsumerRefused"), Ack(), Ack()]
        await sink.close()
    assert stored == keys([records[0], records[2], records[3]])


async def test_a_handler_that_raises_is_suspected_twice_before_the_record() -> None:
    """UNKNOWN may be a proxy's: once costs nothing, twice in a row costs the culprit an attempt."""
    poison = sentence("beta", 2)
    stored: list[str] = []

    async def stumble(context: Context) -> None:
        while (batch := await read(context)) is not None:
            if any(record.key == poison.key for record in batch.records):
                await context.abort(grpc.StatusCode.UNKNOWN, "no")
            stored.extend(record.key for record in batch.records)
            await context.write(steno_v1_pb2.BatchAck(acked_through=batch.batch))

    async with serving(stream=stumble) as target:
        sink = sink_to(target)
        records = [sentence("beta", 1), poison, sentence("beta", 3), sentence("gamma", 1)]
        with pytest.raises(SinkUnavailable):
            await sink.deliver(records)
        waiting = Retry("ConsumerFailed")
        assert await sink.deliver(records) == [Ack(), waiting, waiting, Ack()]
        await sink.close()
    assert stored == keys([records[0], records[3]])


async def test_large_deliveries_are_cut() -> None:
    """A delivery beyond a megabyte goes as several batches; a record beyond it is refused."""
    log = StreamLog()
    records = [sentence("alpha", number, text="a" * 300_000) for number in range(1, 8)]
    records.insert(3, sentence("alpha", 99, text="b" * 1_100_000))
    async with serving(stream=log) as target:
        sink = sink_to(target)
        outcomes = await sink.deliver(records)
        await sink.close()
    expected: list[object] = [Ack()] * 8
    expected[3] = Reject("MessageTooLarge")
    assert outcomes == expected
    assert len(log.batches) > 2
    assert [record.key for record in log.records] == keys(records[:3] + records[4:])


async def test_text_that_is_not_unicode_is_refused_alone() -> None:
    """A lone surrogate cannot be encoded: that record is a dead letter, its neighbours are not."""
    log = StreamLog()
    good, bad = sentence("alpha", 1), _with_lane(sentence("alpha", 2), "\ud800")
    async with serving(stream=log) as target:
        sink = sink_to(target)
        assert await sink.deliver([good, bad, sentence("beta", 1)]) == [
            Ack(),
            Reject("IntegrityError"),
            Ack(),
        ]
        await sink.close()


def _with_lane(record: Record, lane: str) -> Record:
    import msgspec

    return msgspec.structs.replace(record, lane=lane)


async def test_cancelled_delivery_harms_nobody() -> None:
    """A caller that goes away while it waits for its ack leaves the stream in order."""
    go = asyncio.Event()
    arrived = asyncio.Event()

    async def slow(context: Context) -> None:
        while (batch := await read(context)) is not None:
            arrived.set()
            await go.wait()
            await context.write(steno_v1_pb2.BatchAck(acked_through=batch.batch))

    async with serving(stream=slow) as target:
        sink = sink_to(target)
        first = asyncio.create_task(sink.deliver([sentence("alpha", 1)]))
        await arrived.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go.set()
        assert await sink.deliver([sentence("beta", 1)]) == [Ack()]
        await sink.close()


async def test_close_waits_for_what_is_in_flight() -> None:
    """``close`` lets a delivery end that the consumer is about to acknowledge."""
    go = asyncio.Event()
    arrived = asyncio.Event()

    async def slow(context: Context) -> None:
        while (batch := await read(context)) is not None:
            arrived.set()
            await go.wait()
            await context.write(steno_v1_pb2.BatchAck(acked_through=batch.batch))

    async with serving(stream=slow) as target:
        sink = sink_to(target)
        delivery = asyncio.create_task(sink.deliver([sentence("alpha", 1)]))
        await arrived.wait()
        closing = asyncio.create_task(sink.close())
        go.set()
        assert await delivery == [Ack()]
        await closing


# --- doctor ----------------------------------------------------------------------------------


async def test_probe_tells_what_is_there() -> None:
    """The probe names the service offered and sends no record."""
    stream, push = StreamLog(), PushLog()
    async with serving(stream=stream, push=push) as target:
        sink = sink_to(target)
        probe = await sink.probe()
        assert (probe.reachable, probe.serving, probe.service) == (True, None, "steno.v1")
        await sink.close()
    async with serving(push=push) as target:
        sink = sink_to(target)
        assert (await sink.probe()).service == "transcript.v1"
        await sink.close()
    assert (stream.records, push.messages) == ([], [])


async def test_probe_of_nothing() -> None:
    """A consumer that is not there is a finding, not an exception."""
    sink = sink_to("127.0.0.1:1")
    probe = await sink.probe()
    assert (probe.reachable, probe.error_class) == (False, "PeerUnavailable")
    await sink.close()
