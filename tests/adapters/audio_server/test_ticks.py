"""The reading rhythm: rests, places, batches, and hooks behind the reads."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from conformance.audio_rig import Taker, close_frame, frame, raw, serving
from steno.adapters.audio_server.connection import Connection
from steno.adapters.audio_server.ticks import MAX_PERIOD_TICKS, Ticks


class Clock:
    """The part of a loop that ``Ticks`` uses, with a time of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, object]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: object) -> Clock:
        self.timers.append((when, callback))
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def run_until(self, end: float) -> None:
        while self.timers and self.timers[0][0] <= end:
            when, callback = self.timers.pop(0)
            self.now = max(self.now, when)
            callback()  # type: ignore[operator]
        self.now = end


class Sleeper:
    """A socket that rests again whenever it is woken."""

    def __init__(self, ticks: Ticks, clock: Clock, seconds: float) -> None:
        self.place = ticks.place()
        self.woken: list[float] = []
        self._ticks, self._clock, self._seconds = ticks, clock, seconds
        ticks.rest(self, seconds)

    def wake(self) -> None:
        self.woken.append(self._clock.now - 100.0)
        self._ticks.rest(self, self._seconds)


def wheel() -> tuple[Ticks, Clock]:
    clock = Clock()
    return Ticks(clock, 0.02, lambda error: None), clock  # type: ignore[arg-type]


def test_a_socket_keeps_its_rhythm() -> None:
    """Woken every 200 ms, neither drifting nor losing its place."""
    ticks, clock = wheel()
    sleeper = Sleeper(ticks, clock, 0.2)
    clock.run_until(110.0)
    steps = {round(b - a, 6) for a, b in zip(sleeper.woken, sleeper.woken[1:], strict=False)}
    assert steps == {0.2}
    assert sleeper.woken[0] <= 0.2 + 1e-9


def test_sockets_are_spread_evenly_over_the_ticks() -> None:
    """A thousand sockets at 200 ms: a hundred a tick."""
    ticks, clock = wheel()
    sleepers = [Sleeper(ticks, clock, 0.2) for _ in range(1000)]
    clock.run_until(101.0)
    load = Counter(round(at, 6) for sleeper in sleepers for at in sleeper.woken)
    assert set(load.values()) == {100}
    assert len(load) == 50


@given(
    periods=st.lists(st.floats(0.0, 5.0), min_size=1, max_size=10),
    stalls=st.lists(st.floats(0.0, 4.0), max_size=5),
)
def test_everything_that_rests_is_woken_in_time(periods: list[float], stalls: list[float]) -> None:
    """Whatever the periods, and however late the loop comes."""
    ticks, clock = wheel()
    sleepers = [Sleeper(ticks, clock, period) for period in periods]
    for stall in stalls:
        if clock.timers:
            when, callback = clock.timers.pop(0)
            clock.now = max(clock.now, when) + stall
            callback()  # type: ignore[operator]
    begun = clock.now
    clock.run_until(begun + MAX_PERIOD_TICKS * 0.02 + 0.05)
    assert all(sleeper.woken and sleeper.woken[-1] > begun - 100.0 for sleeper in sleepers)


def test_nothing_runs_while_nothing_rests() -> None:
    """An idle server has no timer; a rest after a long silence is in step again."""
    ticks, clock = wheel()

    class Once:
        place = 3
        woken = 0.0

        def wake(self) -> None:
            self.woken = clock.now

    once = Once()
    ticks.rest(once, 0.2)
    clock.run_until(101.0)
    assert clock.timers == []
    clock.now = 205.013
    ticks.rest(once, 0.2)
    clock.run_until(206.0)
    assert 205.02 <= once.woken <= 205.22
    assert clock.timers == []


# --- with sockets ----------------------------------------------------------------------------


async def test_what_arrives_during_a_rest_is_one_batch() -> None:
    """The kernel gathers; one call brings all of it."""
    async with serving() as rig:
        rig.prepare = lambda taker: setattr(
            taker, "on_take", lambda t: t.socket.rest(0.1 if len(t.log) == 1 else 0.0)
        )
        async with raw(rig) as client:
            taker = rig.takers[0]
            client.send(frame(b"0"))
            await taker.until(lambda: bool(taker.log))
            for n in range(1, 5):
                client.send(frame(b"%d" % n))
                await client.writer.drain()
            await taker.until(lambda: len(taker.log) == 5)
            assert taker.texts == [b"0", b"1", b"2", b"3", b"4"]
            assert taker.batches == [1, 4]


async def test_an_end_during_a_rest_is_noticed_and_a_close_ends_the_rest() -> None:
    """Resting hides nothing for good."""
    async with serving() as rig:
        rig.prepare = lambda taker: setattr(taker, "on_take", lambda t: t.socket.rest(0.1))
        async with raw(rig) as client:
            client.send(frame(b"x"))
            await rig.takers[0].until(lambda: bool(rig.takers[0].log))
            client.send(close_frame(1000))
            assert (await rig.takers[0].closed()).code == 1000
        rig.prepare = lambda taker: setattr(taker, "on_take", close_resting)
        async with raw(rig) as client:
            client.send(frame(b"x"))
            assert await client.close_code() == 1001
            begun = asyncio.get_running_loop().time()
            client.send(close_frame(1001))
            assert (await rig.takers[1].closed()).asked
            assert asyncio.get_running_loop().time() - begun < 1.0


def close_resting(taker: Taker) -> None:
    assert taker.socket is not None
    taker.socket.rest(2.0)
    taker.socket.close(1001)


async def test_a_flood_does_not_rest() -> None:
    """Where more waits, resting would only hold it up."""
    count, payload = 4000, b"x" * 500
    async with serving() as rig:
        rig.prepare = lambda taker: setattr(taker, "on_take", lambda t: t.socket.rest(1.0))
        async with raw(rig) as client:
            client.send(frame(payload) * count)
            taker = rig.takers[0]
            begun = asyncio.get_running_loop().time()
            await taker.until(lambda: len(taker.log) == count)
            # A rest for each full read would have taken many seconds.
            assert asyncio.get_running_loop().time() - begun < 1.0 + 1.5


async def test_hooks_run_once_after_the_reads_of_a_tick() -> None:
    """What all sockets of a tick brought can be passed on together."""
    seen: list[str] = []
    async with serving() as rig:
        rig.server.every_tick(lambda: seen.append("hook"))

        def take(taker: Taker) -> None:
            seen.append("read")
            if taker.socket is not None:
                taker.socket.rest(0.02)  # every tick, so that all share one

        rig.prepare = lambda taker: setattr(taker, "on_take", take)
        async with raw(rig) as one, raw(rig) as two, raw(rig) as three:
            clients = (one, two, three)
            for client in clients:
                client.send(frame(b"first"))
            for taker in rig.takers:
                await taker.until(lambda taker=taker: len(taker.log) == 1)  # type: ignore[misc]
            for _ in range(3):
                at = len(seen)
                for client in clients:
                    client.send(frame(b"next"))
                while seen[at:].count("read") < 3 or seen[-1] != "hook":
                    await asyncio.sleep(0.005)
                last_read = len(seen) - 1 - seen[::-1].index("read")
                # The last reads' tick has its hook right behind them, with no timer between.
                assert seen[last_read + 1] == "hook"
            await asyncio.sleep(0.06)
            quiet = len(seen)
            await asyncio.sleep(0.06)
            assert len(seen) == quiet, "hooks while nothing arrives"


async def test_one_ticks_reads_all_stand_before_its_hook() -> None:
    """Sockets woken in one tick are read in one round of the loop, then the hook runs."""
    rounds: list[list[int]] = [[]]

    def take(taker: Taker) -> None:
        rounds[-1].append(id(taker))
        if isinstance(taker.socket, Connection):
            taker.socket.place = 0  # the same for all
            taker.socket.rest(0.06)

    async with serving() as rig:
        rig.server.every_tick(lambda: rounds.append([]))
        rig.prepare = lambda taker: setattr(taker, "on_take", take)
        async with raw(rig) as one, raw(rig) as two, raw(rig) as three:
            for _ in range(40):
                for client in (one, two, three):
                    client.send(frame(b"x"))
                await asyncio.sleep(0.01)
            read = [taken for taken in rounds if taken]
            assert len(read) >= 4
            assert {len(taken) for taken in read[2:]} == {3}
            assert {len(set(taken)) for taken in read[2:]} == {3}


async def test_a_hooks_exception_does_not_stop_the_others() -> None:
    """It is logged by its class; the next hook and the next tick come."""
    called: list[int] = []
    async with serving() as rig:
        rig.server.every_tick(lambda: 1 // 0)  # type: ignore[arg-type]
        rig.server.every_tick(lambda: called.append(1))
        async with raw(rig) as client:
            for count in (1, 2):
                client.send(frame(b"x"))
                async with asyncio.timeout(5):
                    while len(called) < count:
                        await asyncio.sleep(0.005)
        assert {"error": "ZeroDivisionError"} in rig.telemetry.named("media.handler_failed")


async def test_a_socket_that_raises_stops_nobody_elses_rhythm() -> None:
    """The others of its tick are read, and those of later ones."""
    errors: list[Exception] = []
    ticks = Ticks(asyncio.get_running_loop(), 0.005, errors.append)

    class Waking:
        place = 0

        def __init__(self, error: Exception | None = None) -> None:
            self.error = error
            self.woken = asyncio.Event()

        def wake(self) -> None:
            if self.error is not None:
                raise self.error
            self.woken.set()

    bad, good, later = Waking(RuntimeError()), Waking(), Waking()
    ticks.rest(bad, 0.005)
    ticks.rest(good, 0.005)
    async with asyncio.timeout(2):
        await good.woken.wait()
        ticks.rest(later, 0.005)
        await later.woken.wait()
    assert errors == [bad.error]
    ticks.stop()
