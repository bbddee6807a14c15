"""A store in memory, a scripted sink and a telemetry that counts: the relay's surroundings."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from steno.core.records import Kind, Origin, Record
from steno.delivery.ids import position_of, record_id
from steno.delivery.outbox import RetryPolicy
from steno.delivery.relay import Relay, RelaySettings
from steno.ports import (
    Ack,
    Add,
    BatchShape,
    DeliveryState,
    FieldValue,
    Outcome,
    Pending,
    Settlement,
)

NAME = "there"
FAST = RelaySettings(
    settle_wait_s=0.0,
    lease_s=5.0,
    stop_s=1.0,
    first_pause_s=0.005,
    cap_pause_s=0.02,
    retry=RetryPolicy(first_s=0.001, cap_s=0.005, max_attempts=4),
)


class Counting:
    """``ports.Telemetry`` that keeps totals and the events told."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.events: list[tuple[str, dict[str, FieldValue]]] = []

    def info(self, event: str, **fields: FieldValue) -> None:
        self.events.append((event, fields))

    warning = error = info

    def _handle(self, name: str) -> Add:
        def add(value: float) -> None:
            self.totals[name] += int(value) if value >= 1 else 1

        return add

    def counter(self, name: str, **labels: str) -> Add:
        return self._handle(name)

    histogram = counter

    def gauge(self, name: str, **labels: str) -> Add:
        return lambda value: None

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


class MemoryStore:
    """Holds committed records in order and what each became."""

    def __init__(self) -> None:
        self.records: dict[int, Pending] = {}
        self.states: dict[str, DeliveryState] = {}
        self.reads = 0
        self.fail_settles = 0
        self.before_read: Callable[[], None] | None = None
        self._positions = itertools.count(1 << 50)

    def commit(self, *wanted: tuple[str, str], kind: Kind = Kind.SENTENCE) -> list[Record]:
        made = []
        for conversation, utterance in wanted:
            position = next(self._positions)
            record = Record(
                record_id(position, 0), kind, "feed", conversation, "lane", utterance, 0,
                f"{conversation}/{utterance}", position, position - 1, Origin.LIVE, 1,
                b"{}", time.monotonic(),
            )  # fmt: skip
            self.records[position] = Pending(record)
            made.append(record)
        return made

    def settle(self, settlements: Sequence[Settlement]) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.fail_settles:
            self.fail_settles -= 1
            future.set_exception(OSError("no room"))
            return future
        for settlement in settlements:
            position = position_of(settlement.record_id)
            self.states[settlement.record_id] = settlement.state
            held = self.records.pop(position, None)
            if held is not None and settlement.state is DeliveryState.RETRY:
                self.records[position] = Pending(
                    held.record, settlement.attempts, settlement.next_at_us
                )
        future.set_result(None)
        return future

    async def pending(self, destination: str, *, limit: int, after: int = 0) -> list[Pending]:
        assert destination == NAME
        self.reads += 1
        found = [self.records[p] for p in sorted(self.records) if p > after][:limit]
        await asyncio.sleep(0)
        if self.before_read is not None:
            self.before_read()
        return found


Script = Callable[[Sequence[Record]], Awaitable[list[Outcome]]]


class ScriptedSink:
    """``ports.Sink`` whose answers the test gives; remembers what arrived, in order."""

    def __init__(self, shape: BatchShape, kinds: frozenset[Kind], script: Script | None) -> None:
        self.name = NAME
        self.kinds = kinds
        self.shape = shape
        self.script = script
        self.calls: list[list[Record]] = []
        self.acked: list[Record] = []
        self.running: Counter[str] = Counter()
        self.most_running = 0

    async def deliver(self, records: Sequence[Record]) -> list[Outcome]:
        self.calls.append(list(records))
        conversations = {r.conversation for r in records}
        for conversation in conversations:
            self.running[conversation] += 1
            assert self.running[conversation] == 1, "two batches of a conversation at once"
        self.most_running = max(self.most_running, self.running.total())
        try:
            if self.script is None:
                await asyncio.sleep(0)
                outcomes: list[Outcome] = [Ack() for _ in records]
            else:
                outcomes = await self.script(records)
        finally:
            self.running.subtract(conversations)
        self.acked += [r for r, o in zip(records, outcomes, strict=False) if type(o) is Ack]
        return outcomes

    async def close(self) -> None:
        pass

    def told(self, conversation: str) -> list[str]:
        return [r.utterance for r in self.acked if r.conversation == conversation]


class World:
    """A running relay with its store and sink."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        shape: BatchShape | None = None,
        settings: RelaySettings = FAST,
        kinds: frozenset[Kind] = frozenset(Kind),
    ) -> None:
        self.store = MemoryStore()
        self.telemetry = Counting()
        self.sink = ScriptedSink(shape or BatchShape(10, False, 4), kinds, script)
        self.relay = Relay(
            self.store,
            self.sink,
            self.telemetry,
            settings,
            clock=time.monotonic,
            now_us=lambda: time.time_ns() // 1000,
            draw=lambda: 0.5,
        )

    def commit(self, *wanted: tuple[str, str], kind: Kind = Kind.SENTENCE) -> list[Record]:
        records = self.store.commit(*wanted, kind=kind)
        self.relay.offer(records)
        return records

    @asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.relay.run())
            yield self
            self.relay.stop()
            await task
