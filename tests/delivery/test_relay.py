"""The relay between a store and a sink."""

# what is waited for has no event of its own

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.fuzz_examples import examples
from delivery.relay_world import FAST, World
from steno.core.records import Kind, Record
from steno.errors import SinkUnavailable
from steno.ports import Ack, BatchShape, DeliveryState, Outcome, Reject, Retry, Unwanted

ONE = BatchShape(1, True, 4)


def numbered(conversation: str, count: int, first: int = 0) -> list[tuple[str, str]]:
    return [(conversation, str(n)) for n in range(first, first + count)]


def acks(records: Sequence[Record]) -> list[Outcome]:
    return [Ack() for _ in records]


async def test_what_is_offered_arrives_in_order_and_is_settled() -> None:
    """Each conversation in order, everything acknowledged, without reading the store again."""
    async with World().running() as world:
        assert await world.relay.drain(5)
        reads = world.store.reads
        for n in range(50):
            world.commit(("a", str(n)), ("b", str(n)))
        assert await world.relay.drain(5)
        for conversation in "ab":
            assert world.sink.told(conversation) == [str(n) for n in range(50)]
        assert world.store.records == {}
        assert world.store.reads == reads
        assert world.telemetry.totals["delivery_acked"] == 100
        assert world.telemetry.totals["delivery_source_to_acked"] == 100
        assert world.relay.outstanding == 0


async def test_what_was_stored_before_the_start_is_delivered_first() -> None:
    """After a restart the store's records come first, then the new ones of the conversation."""
    world = World()
    world.store.commit(*numbered("a", 1200))
    async with world.running():
        world.commit(*numbered("a", 5, first=1200))
        assert await world.relay.drain(10)
        assert world.sink.told("a") == [str(n) for n in range(1205)]


async def test_nothing_is_missed_between_reading_and_offers() -> None:
    """A record committed while the last page is being read is delivered once."""
    world = World()
    world.store.commit(*numbered("a", 3))
    left = [2]

    def commit_meanwhile() -> None:
        if left[0]:
            left[0] -= 1
            world.commit(("a", f"meanwhile-{left[0]}"))

    world.store.before_read = commit_meanwhile
    async with world.running():
        assert await world.relay.drain(5)
        world.commit(("a", "after"))
        assert await world.relay.drain(5)
    told = world.sink.told("a")
    assert told[:4] == ["0", "1", "2", "meanwhile-1"]
    assert told[-1] == "after"
    assert len(told) == len(set(told)) == 4 + (2 - left[0])


async def test_a_slow_conversation_does_not_hold_up_others() -> None:
    """While one delivery hangs the other conversations go on."""
    release = asyncio.Event()

    async def script(records: Sequence[Record]) -> list[Outcome]:
        if records[0].conversation == "slow":
            await release.wait()
        return acks(records)

    async with World(script, shape=ONE).running() as world:
        await world.relay.drain(5)
        world.commit(*numbered("slow", 3))
        world.commit(*numbered("quick", 100))
        while len(world.sink.told("quick")) < 100:
            await asyncio.sleep(0)
        assert world.sink.told("slow") == []
        release.set()
        assert await world.relay.drain(5)
        assert world.sink.told("slow") == ["0", "1", "2"]


async def test_order_holds_under_retries() -> None:
    """A record that is to be tried again holds back its conversation, and only that."""
    draw = random.Random(7)

    async def script(records: Sequence[Record]) -> list[Outcome]:
        await asyncio.sleep(0)
        outcomes: list[Outcome] = []
        blocked: set[str] = set()
        for record in records:
            if record.conversation in blocked or draw.random() < 0.1:
                blocked.add(record.conversation)
                outcomes.append(Retry("TimedOut"))
            else:
                outcomes.append(Ack())
        return outcomes

    patient = msgspec.structs.replace(
        FAST, retry=msgspec.structs.replace(FAST.retry, max_attempts=50)
    )
    async with World(script, settings=patient).running() as world:
        for n in range(60):
            world.commit(*((c, str(n)) for c in "abcdef"))
        assert await world.relay.drain(15)
        for conversation in "abcdef":
            assert world.sink.told(conversation) == [str(n) for n in range(60)]
        assert world.telemetry.totals["delivery_retried"] > 5


async def test_a_poison_record_is_a_dead_letter_and_its_conversation_goes_on() -> None:
    """After the bounded tries, alone in its batches, it is given up with its reason."""

    async def script(records: Sequence[Record]) -> list[Outcome]:
        await asyncio.sleep(0)
        return [Retry("TimedOut") if r.utterance == "2" else Ack() for r in records]

    async with World(script).running() as world:
        await world.relay.drain(5)
        records = world.commit(*numbered("a", 5))
        assert await world.relay.drain(5)
        assert world.sink.told("a") == ["0", "1", "3", "4"]
        assert world.store.states[records[2].id] is DeliveryState.DEAD
        tries = [call for call in world.sink.calls if any(r.utterance == "2" for r in call)]
        assert len(tries) == FAST.retry.max_attempts
        assert [len(call) for call in tries[1:]] == [1, 1, 1]
        told = [f for name, f in world.telemetry.events if name == "delivery.dead_lettered"]
        assert [(f["reason"], f["attempts"]) for f in told] == [("attempts_exhausted:TimedOut", 4)]


async def test_refused_and_unwanted_records_are_settled_at_once() -> None:
    """A refusal is a dead letter, a kind the peer cannot carry is unwanted; neither blocks."""

    async def script(records: Sequence[Record]) -> list[Outcome]:
        await asyncio.sleep(0)
        by_utterance: dict[str, Outcome] = {"0": Reject("SinkRejected"), "1": Unwanted()}
        return [by_utterance.get(r.utterance, Ack()) for r in records]

    async with World(script).running() as world:
        records = world.commit(*numbered("a", 3))
        assert await world.relay.drain(5)
        assert [world.store.states[r.id] for r in records] == [
            DeliveryState.DEAD,
            DeliveryState.UNWANTED,
            DeliveryState.ACKED,
        ]


async def test_other_kinds_are_never_handed_over() -> None:
    """The sink sees only the kinds it carries."""
    async with World(kinds=frozenset({Kind.SENTENCE})).running() as world:
        await world.relay.drain(5)
        world.relay.offer(world.store.commit(("a", "gap"), kind=Kind.GAP))
        world.store.records.clear()  # as in the store, where it is not pending here
        world.commit(("a", "sentence"))
        assert await world.relay.drain(5)
        assert world.sink.told("a") == ["sentence"]


async def test_an_outage_counts_no_attempt_and_nothing_is_lost() -> None:
    """However long the destination is away, records wait; few calls are made meanwhile."""
    down = [True]

    async def script(records: Sequence[Record]) -> list[Outcome]:
        await asyncio.sleep(0)
        if down[0]:
            raise SinkUnavailable
        return acks(records)

    async with World(script, shape=ONE).running() as world:
        world.commit(*((f"c{n}", str(m)) for m in range(3) for n in range(30)))
        while "delivery.paused" not in world.telemetry.names():
            await asyncio.sleep(0.001)
        calls = len(world.sink.calls)
        async with asyncio.timeout(5):
            while len(world.sink.calls) < calls + 3:
                await asyncio.sleep(0.001)
        assert world.sink.most_running <= ONE.max_in_flight
        probing = Counter(tuple(r.id for r in call) for call in world.sink.calls[calls:])
        assert probing.total() < 10, "the circuit breaker lets single probes through"
        assert world.telemetry.totals["delivery_dead"] == 0
        down[0] = False
        assert await world.relay.drain(10)
        assert len(world.sink.acked) == 90
        assert all(world.sink.told(f"c{n}") == ["0", "1", "2"] for n in range(30))
        assert world.telemetry.totals["delivery_retried"] == 0
        assert "delivery.resumed" in world.telemetry.names()


async def test_a_record_that_brings_the_consumer_down_is_found_out() -> None:
    """Unavailable for one record only, while others pass: that record counts its attempts."""

    async def script(records: Sequence[Record]) -> list[Outcome]:
        if any(r.utterance == "poison" for r in records):
            await asyncio.sleep(0.01)
            raise SinkUnavailable
        await asyncio.sleep(0)
        return acks(records)

    async with World(script, shape=ONE).running() as world:
        await world.relay.drain(5)
        (poison, *_) = world.commit(("a", "poison"), ("a", "next"))
        n = 0
        async with asyncio.timeout(10):
            while world.store.states.get(poison.id) is not DeliveryState.DEAD:
                world.commit(("b", str(n)))
                n += 1
                await asyncio.sleep(0.001)
        assert await world.relay.drain(5)
        assert world.sink.told("a") == ["next"]
        assert world.sink.told("b") == [str(m) for m in range(n)]


@pytest.mark.parametrize("cause", ["AuthError", "RateLimited"])
@pytest.mark.parametrize("raises", [False, True])
async def test_refused_credentials_and_load_cost_no_attempt_even_if_others_pass(
    cause: str, *, raises: bool
) -> None:
    """What is said of us or of the consumer is no fault of the record: it waits, never dies."""
    refused = [True]

    async def script(records: Sequence[Record]) -> list[Outcome]:
        await asyncio.sleep(0)
        if records[0].conversation == "a" and refused[0]:
            await asyncio.sleep(0.002)  # so that others get through meanwhile
            if raises:
                raise SinkUnavailable(cause=cause)
            return [Retry(cause) for _ in records]
        return acks(records)

    def tries(world: World) -> int:
        return sum(call[0].conversation == "a" for call in world.sink.calls)

    async with World(script, shape=ONE).running() as world:
        await world.relay.drain(5)
        world.commit(*numbered("a", 2))
        n = 0
        async with asyncio.timeout(10):
            while tries(world) < 3 * FAST.retry.max_attempts:
                world.commit(("b", str(n)))
                n += 1
                await asyncio.sleep(0.001)
        assert world.telemetry.totals["delivery_dead"] == 0
        refused[0] = False
        assert await world.relay.drain(5)
        assert world.sink.told("a") == ["0", "1"]
        assert world.sink.told("b") == [str(m) for m in range(n)]


async def test_a_sink_with_a_bug_is_taken_for_unavailable() -> None:
    """An unexpected exception or a wrong number of outcomes ends nothing."""
    calls = [0]

    async def script(records: Sequence[Record]) -> list[Outcome]:
        await asyncio.sleep(0)
        calls[0] += 1
        if calls[0] == 1:
            raise KeyError("bug")
        return [] if calls[0] == 2 else acks(records)

    async with World(script).running() as world:
        world.commit(*numbered("a", 4))
        assert await world.relay.drain(5)
        assert world.sink.told("a") == ["0", "1", "2", "3"]


@pytest.mark.parametrize("swallows", [False, True])
async def test_an_answer_after_the_lease_is_ignored(*, swallows: bool) -> None:
    """A call beyond its lease is ended; what it still says changes nothing."""
    first = [True]

    async def script(records: Sequence[Record]) -> list[Outcome]:
        if first[0]:
            first[0] = False
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if not swallows:
                    raise
            return [Reject("late") for _ in records]
        return acks(records)

    short = msgspec.structs.replace(FAST, lease_s=0.05)
    async with World(script, settings=short).running() as world:
        records = world.commit(*numbered("a", 3))
        assert await world.relay.drain(5)
        assert world.sink.told("a") == ["0", "1", "2"]
        assert {world.store.states[r.id] for r in records} == {DeliveryState.ACKED}
        assert world.telemetry.totals["delivery_leases_lost"] > 0


async def test_a_slow_sink_does_not_fill_memory() -> None:
    """Beyond the bound the store remembers; everything still arrives, in order."""
    gate = asyncio.Event()

    async def script(records: Sequence[Record]) -> list[Outcome]:
        await gate.wait()
        return acks(records)

    small = msgspec.structs.replace(FAST, memory_records=50, page_records=20)
    async with World(script, settings=small).running() as world:
        await world.relay.drain(5)
        for n in range(400):
            world.commit(*((c, str(n)) for c in "abc"))
            await asyncio.sleep(0)
            held = sum(len(lane.items) for lane in world.relay._lanes.values())
            assert held <= 50
        assert world.relay.outstanding == 1200
        gate.set()
        async with asyncio.timeout(10):
            n = 400
            while not await world.relay.drain(0.01):
                world.commit(*((c, str(n)) for c in "abc"))
                n += 1
        for conversation in "abc":
            assert world.sink.told(conversation) == [str(m) for m in range(n)]


async def test_one_conversation_shapes_and_limits_are_kept() -> None:
    """A sink that takes one conversation at a time gets batches of one, within its sizes."""
    shape = BatchShape(7, True, 3)
    async with World(shape=shape).running() as world:
        await world.relay.drain(5)
        world.commit(*((f"c{n % 5}", str(n)) for n in range(200)))
        assert await world.relay.drain(5)
        for call in world.sink.calls:
            assert len({r.conversation for r in call}) == 1
            assert len(call) <= shape.max_records
        assert world.sink.most_running <= shape.max_in_flight


async def test_batches_hold_several_conversations() -> None:
    """Idle conversations share a batch: 100 conversations need few calls."""
    async with World(shape=BatchShape(100, False, 1)).running() as world:
        await world.relay.drain(5)
        world.commit(*((f"c{n}", "0") for n in range(100)))
        assert await world.relay.drain(5)
        assert len(world.sink.calls) <= 2


async def test_outcomes_that_could_not_be_stored_are_stored_later() -> None:
    """A failing store delays outcomes; nothing is delivered again meanwhile."""
    world = World()
    async with world.running():
        await world.relay.drain(5)
        world.store.fail_settles = 1
        world.commit(*numbered("a", 3))
        assert await world.relay.drain(10)
        assert world.store.records == {}
        assert world.sink.told("a") == ["0", "1", "2"]


async def test_a_redriven_record_is_found_after_the_change_is_told() -> None:
    """``changed`` makes the relay look into the store again."""
    async with World().running() as world:
        world.commit(*numbered("a", 3))
        assert await world.relay.drain(5)
        world.store.commit(("a", "redriven"))  # not offered: somebody else made it pending
        world.relay.changed()
        assert await world.relay.drain(5)
        assert world.sink.told("a")[-1] == "redriven"
        assert len(world.sink.acked) == 4


async def test_what_waits_in_memory_is_forgotten_with_an_erasure() -> None:
    """Records erased from the store are not delivered from memory."""
    gate = asyncio.Event()

    async def script(records: Sequence[Record]) -> list[Outcome]:
        await gate.wait()
        return acks(records)

    async with World(script, shape=ONE).running() as world:
        await world.relay.drain(5)
        world.commit(*numbered("a", 10))
        await asyncio.sleep(0)
        world.store.records.clear()
        world.relay.changed()
        await asyncio.sleep(0.01)
        gate.set()
        assert await world.relay.drain(5)
        assert len(world.sink.acked) <= 1  # the one that was under way


async def test_stopping_lets_what_is_under_way_end() -> None:
    """A stop waits for the call in flight, settles it, and leaves the rest pending."""
    started = asyncio.Event()

    async def script(records: Sequence[Record]) -> list[Outcome]:
        started.set()
        await asyncio.sleep(0.02)
        return acks(records)

    world = World(script, shape=BatchShape(1, True, 1))
    async with world.running():
        await world.relay.drain(5)
        world.commit(*numbered("a", 5))
        await started.wait()
    assert world.sink.told("a") == ["0"]
    assert len(world.store.records) == 4


@settings(max_examples=examples(40), deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), min_size=1, max_size=60),
    st.integers(1, 8),
    st.booleans(),
    st.integers(1, 4),
    st.integers(0, 2**32),
)
async def test_any_mixture_is_delivered_once_and_in_order(
    wanted: list[tuple[str, int]], size: int, one: bool, flights: int, seed: int
) -> None:
    """Whatever the shape and the faults: once each, in order per conversation."""
    draw = random.Random(seed)

    async def script(records: Sequence[Record]) -> list[Outcome]:
        await asyncio.sleep(0)
        if draw.random() < 0.1:
            raise SinkUnavailable
        outcomes: list[Outcome] = []
        blocked: set[str] = set()
        for record in records:
            if record.conversation in blocked or draw.random() < 0.1:
                blocked.add(record.conversation)
                outcomes.append(Retry("TimedOut"))
            else:
                outcomes.append(Ack())
        return outcomes

    eager = msgspec.structs.replace(
        FAST,
        memory_records=20,
        page_records=8,
        first_pause_s=0.0001,
        cap_pause_s=0.0002,
        retry=msgspec.structs.replace(FAST.retry, max_attempts=1000, first_s=0.0001, cap_s=0.0002),
    )
    world = World(script, shape=BatchShape(size, one, flights), settings=eager)
    expected: dict[str, list[str]] = {}
    async with world.running():
        for n, (conversation, wait) in enumerate(wanted):
            world.commit((conversation, str(n)))
            expected.setdefault(conversation, []).append(str(n))
            if wait == 0:
                await asyncio.sleep(0)
        assert await world.relay.drain(15)
    for conversation, utterances in expected.items():
        assert world.sink.told(conversation) == utterances
