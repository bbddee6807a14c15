"""Turns for calls: an even distance, holds for everybody, no crowd behind a hold."""

from __future__ import annotations

import asyncio
import time

import pytest

from steno.recordings.pace import LONGEST_HOLD_S, Pace
from steno.wire.http import RateBudget


async def turns_of(pace: Pace, count: int) -> list[float]:
    times: list[float] = []

    async def call() -> None:
        await pace.turn()
        times.append(time.monotonic())

    await asyncio.gather(*(call() for _ in range(count)))
    return sorted(times)


async def test_turns_keep_their_distance_however_many_ask() -> None:
    """The first comes at once."""
    pace = Pace(3000.0, clock=time.monotonic)
    began = time.monotonic()
    times = await turns_of(pace, 10)
    assert times[0] - began < 0.1
    assert times[-1] - times[0] >= 9 * 0.02 - 0.005
    assert pace.calls == 10


async def test_a_hold_holds_those_who_wait_and_spreads_them_behind_it() -> None:
    """They must not come back together."""
    pace = Pace(3000.0, clock=time.monotonic)
    began = time.monotonic()
    waiting = asyncio.create_task(turns_of(pace, 6))
    await asyncio.sleep(0.03)
    pace.hold(0.3)
    times = await waiting
    late = [at for at in times if at - began > 0.1]
    assert len(late) >= 3
    assert late[0] - began >= 0.3
    assert late[-1] - late[0] >= (len(late) - 1) * 0.02 - 0.005


@pytest.mark.parametrize(
    ("budget", "in_flight", "held"),
    [
        (RateBudget(10, 300, 30.0), 20, False),
        (RateBudget(280, 300, 30.0), 20, True),
        (RateBudget(300, 300, 30.0), 0, True),
        (RateBudget(300, 300, 0.0), 0, False),
        (None, 20, False),
    ],
)
def test_calls_in_flight_count_against_the_window(
    budget: RateBudget | None, in_flight: int, held: bool
) -> None:
    """They may have been counted or not: the service is believed to the worse side."""
    pace = Pace(240.0, clock=lambda: 0.0)
    assert pace.learn(budget, in_flight) is held
    assert pace.held_s == (30.0 if held else 0.0)


def test_the_same_news_holds_once_and_no_hold_is_endless() -> None:
    """An answer is looked at once; a wish has a bound; a shorter hold changes nothing."""
    pace = Pace(240.0, clock=lambda: 0.0)
    budget = RateBudget(300, 300, 5.0)
    assert pace.learn(budget, 0)
    assert not pace.learn(budget, 0)
    pace.hold(1e9)
    assert pace.held_s == LONGEST_HOLD_S
    pace.hold(1.0)
    assert pace.held_s == LONGEST_HOLD_S
