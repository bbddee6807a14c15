"""What every sink must do, whatever it hands records to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import pytest

from steno.core.records import (
    GapCause,
    GapPayload,
    JobPayload,
    Kind,
    Origin,
    Record,
    SegmentPayload,
    SentencePayload,
    record_key,
)
from steno.errors import SinkUnavailable
from steno.ports import Ack, Add, FieldValue, Sink

AT_US = 1_705_314_600_123_456  # 2024-01-15T10:30:00.123456Z
CANARY = "canary-4155550142"


def sentence(
    conversation: str, number: int, *, text: str = f"that is {CANARY}", revision: int = 0
) -> Record:
    """Return a stored sentence; ``number`` is its place in the conversation."""
    payload = SentencePayload(
        participant="agent-1",
        text=text,
        language="en-GB",
        confidence=0.75,
        started_us=AT_US - 3_000_000,
        ended_us=AT_US - 1_000_000,
        completed_us=AT_US + number,
        role="agent",
        entities={"PHONE": 1},
    )
    return _record(Kind.SENTENCE, conversation, number, msgspec.json.encode(payload), revision)


def segment(
    conversation: str,
    number: int,
    *,
    text: str = f"that is {CANARY}",
    revision: int = 0,
    confidence: float = 0.9,
) -> Record:
    """Return a stored segment; it begins as many seconds into the conversation as its number."""
    payload = SegmentPayload(
        speaker=f"speaker_{number % 2}",
        text=text,
        started_us=number * 1_000_000,
        ended_us=number * 1_000_000 + 900_000,
        confidence=confidence,
        at_us=AT_US + number,
    )
    return _record(Kind.SEGMENT, conversation, number, msgspec.json.encode(payload), revision)


def gap(conversation: str, number: int) -> Record:
    """Return a stored gap."""
    payload = GapPayload(
        source="transcript-stream", cause=GapCause.DISCONNECT, from_us=1, opened_at_us=AT_US
    )
    return _record(Kind.GAP, conversation, number, msgspec.json.encode(payload), 0)


def job(
    conversation: str,
    number: int,
    *,
    webhook: bool = True,
    transcript_id: str | None = None,
    status: str = "completed",
) -> Record:
    """Return the stored end of a transcription job; ``conversation`` is its recording."""
    is_done = status == "completed"
    turn: dict[str, str | float | None] = {
        "speaker_id": "speaker_1",
        "text": f"that is {CANARY}",
        "start_time": "2024-01-15T10:30:00.500Z",
        "end_time": "2024-01-15T10:30:02.250Z",
        "avg_confidence": 0.875,
    }
    payload = JobPayload(
        job=f"job-{conversation}-{number}",
        recording_id=conversation,
        transcript_id=f"transcript-{number}" if transcript_id is None else transcript_id,
        status=status,
        metrics={"latency_seconds": 12.5, "word_error_rate": 0.125, "total_words": 3}
        if is_done
        else {},
        speakers=[turn] if is_done else [],
        processed_at="2024-01-15T10:31:00Z",
        language="en-GB",
        error="" if is_done else "TimedOut",
        webhook=webhook,
    )
    return _record(Kind.JOB, conversation, number, msgspec.json.encode(payload), 0)


def _record(kind: Kind, conversation: str, number: int, payload: bytes, revision: int) -> Record:
    utterance = f"utterance-{number}"
    key = record_key("host", conversation, "agent-1", f"{kind}{utterance}")
    return Record(
        id=f"0190e3a4-7b1c-7def-8123-{key[:12]}",
        kind=kind,
        source="transcript-stream",
        conversation=conversation,
        lane="agent-1",
        utterance=utterance,
        revision=revision,
        key=key,
        seq=number,
        prev_seq=number - 1,
        origin=Origin.LIVE,
        at_us=AT_US,
        payload=payload,
    )


class Recorder:
    """A telemetry port that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, FieldValue]]] = []
        self.counts: dict[str, float] = {}

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.told]

    def info(self, event: str, **fields: FieldValue) -> None:
        self.told.append((event, fields))

    warning = error = info

    def counter(self, name: str, **labels: str) -> Add:
        def add(value: float) -> None:
            self.counts[name] = self.counts.get(name, 0) + value

        return add

    def histogram(self, name: str, **labels: str) -> Add:
        return self.counter(name, **labels)

    def gauge(self, name: str, **labels: str) -> Add:
        return self.counter(name, **labels)


class Peer(Protocol):
    """The consumer at the other end of the sink under test."""

    async def received(self) -> list[str]:
        """Return the keys that reached it, in order, repeats included."""

    def fail_once(self) -> None:
        """Let the next delivery fail as unavailable."""


class SinkRules:
    """Inherit it, and give a ``pair`` fixture: the sink and its peer."""

    async def test_every_record_has_its_outcome_in_place(self, pair: tuple[Sink, Peer]) -> None:
        """One outcome for each record, in the same order, and what is acked has arrived."""
        sink, peer = pair
        records = run_of("alpha", 1, sink)
        assert await sink.deliver(records) == [Ack()] * len(records)
        assert await peer.received() == keys(records)

    async def test_order_within_a_conversation(self, pair: tuple[Sink, Peer]) -> None:
        """Deliveries one after the other arrive in that order."""
        sink, peer = pair
        first, second = run_of("alpha", 1, sink), run_of("alpha", 100, sink)
        await sink.deliver(first)
        await sink.deliver(second)
        assert await peer.received() == keys(first + second)

    async def test_conversations_side_by_side(self, pair: tuple[Sink, Peer]) -> None:
        """Parallel deliveries of different conversations keep the order of each."""
        sink, peer = pair
        runs = [run_of(f"conversation-{i}", 1, sink) for i in range(sink.shape.max_in_flight)]
        answers = await asyncio.gather(*[sink.deliver(run) for run in runs])
        assert all(answer == [Ack()] * len(run) for answer, run in zip(answers, runs, strict=True))
        received = await peer.received()
        for run in runs:
            mine = set(keys(run))
            assert [key for key in received if key in mine] == keys(run)

    async def test_failure_then_retry_gives_each_once(self, pair: tuple[Sink, Peer]) -> None:
        """A delivery that failed is repeated as it was; after dedup each record is there once."""
        sink, peer = pair
        records = run_of("alpha", 1, sink)
        await sink.deliver(run_of("beta", 1, sink))
        peer.fail_once()
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver(records)
        assert CANARY not in str(caught.value)
        assert await retried(sink, records) == [Ack()] * len(records)
        received = await peer.received()
        assert list(dict.fromkeys(key for key in received if key in keys(records))) == keys(records)

    async def test_a_repeat_is_harmless(self, pair: tuple[Sink, Peer]) -> None:
        """The same delivery again (its answer was lost) is acknowledged again."""
        sink, peer = pair
        records = run_of("alpha", 1, sink)
        assert await sink.deliver(records) == await sink.deliver(records)
        assert list(dict.fromkeys(await peer.received())) == keys(records)

    async def test_closed_sink_takes_nothing(self, pair: tuple[Sink, Peer]) -> None:
        """After ``close`` deliveries are refused as unavailable; closing twice is fine."""
        sink, peer = pair
        await sink.deliver(run_of("alpha", 1, sink))
        await sink.close()
        await sink.close()
        with pytest.raises(SinkUnavailable):
            await sink.deliver(run_of("beta", 1, sink))
        assert len(await peer.received()) == len(run_of("alpha", 1, sink))


def run_of(conversation: str, start: int, sink: Sink) -> list[Record]:
    """Return as many records of a conversation as one delivery may hold, five at most.

    Sentences, or segments or ends of jobs for a sink that takes nothing else.
    """
    make: Callable[[str, int], Record] = job
    if Kind.SENTENCE in sink.kinds:
        make = sentence
    elif Kind.SEGMENT in sink.kinds:
        make = segment
    return [make(conversation, start + i) for i in range(min(5, sink.shape.max_records))]


def keys(records: Sequence[Record]) -> list[str]:
    """Return the idempotency keys."""
    return [record.key for record in records]


async def retried(sink: Sink, records: Sequence[Record]) -> list[object]:
    """Deliver as the relay does: again, until something is known of them."""
    async with asyncio.timeout(10):
        while True:
            try:
                return list(await sink.deliver(records))
            except SinkUnavailable:
                await asyncio.sleep(0.02)
