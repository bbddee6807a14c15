"""Killing the gateway and its consumer under load: nothing stored is lost, nothing repeated."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from faults.gateway_oracle import Verdict, Witness
from faults.gateway_rig import GATEWAY, Rig, load, rig, until
from steno.adapters.store_sqlite.crash import STEPS, VARIABLE

PLANTED = str(Path(__file__).with_name("gateway_planted.py"))


async def kill_gateway(one: Rig, kills: int, draw: random.Random) -> None:
    """Kill it so many times: mostly while it follows, now and then while it starts."""
    for _ in range(kills):
        if not one.gateway.running:
            one.gateway.start()
        if draw.random() < 0.15:
            await asyncio.sleep(draw.uniform(0.0, 0.8))
        else:
            await one.gateway.connected()
            await asyncio.sleep(draw.uniform(0.0, 0.5))
            # On a busy machine it may not have run for a while, and have read nothing: what was
            # written meanwhile is no loss of its own. When it has answered, it has run.
            await one.gateway.page("/healthz")
        one.gateway.kill()


async def kill_consumer(one: Rig, kills: int, draw: random.Random) -> None:
    """Kill the consumer so many times, once it has taken something."""
    for _ in range(kills):
        await one.heard(draw.randint(1, 60))
        one.consumer.kill()
        await asyncio.sleep(draw.uniform(0.0, 0.2))
        one.consumer.start()


async def killed(folder: Path, victim: str, kills: int, command: tuple[str, ...]) -> Verdict:
    """Kill one of the two under load, let everything settle, and judge."""
    async with rig(folder, load(), command=command) as one:
        witness = Witness(one.sim.world)
        act = kill_gateway if victim == "gateway" else kill_consumer
        await act(one, kills, random.Random(kills))
        await one.drained()
        verdict = one.verdict(witness)
        print(  # noqa: T201  # the figures, shown by -s
            f"{kills} kills of the {victim}: {verdict.sent} fragments sent, {verdict.stored} "
            f"records stored, missing in gaps {len(verdict.in_gap)}, "
            f"before their commit {len(verdict.in_window)}"
        )
        return verdict


@pytest.mark.timeout(300)
async def test_nothing_is_lost_when_the_gateway_is_killed(tmp_path: Path) -> None:
    """20 kills at any moment: what is stored arrives once, what is not lies in a gap record."""
    verdict = await killed(tmp_path, "gateway", 20, GATEWAY)
    verdict.kept()
    assert verdict.sent > 500
    # A kill costs what was on its way, no more.
    assert len(verdict.in_window) + len(verdict.in_gap) < 0.2 * verdict.sent


@pytest.mark.timeout(300)
async def test_nothing_is_lost_when_the_consumer_is_killed(tmp_path: Path) -> None:
    """20 kills of the consumer: every fragment arrives, once and in order."""
    verdict = await killed(tmp_path, "consumer", 20, GATEWAY)
    verdict.kept()
    assert not verdict.in_gap
    assert not verdict.in_window


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", ["gateway", "consumer"])
async def test_nothing_is_lost_over_many_kills(tmp_path: Path, victim: str) -> None:
    """The full count: 200."""
    verdict = await killed(tmp_path, victim, 200, GATEWAY)
    verdict.kept()
    assert verdict.sent > 5000


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("bug", "seen"),
    [
        ("none", set()),
        ("early-ack", {"undelivered"}),
        ("no-journal", {"unexplained"}),
        ("late-journal", {"twice"}),
        ("plain-journal", {"leaks"}),
        ("no-redaction", {"leaks", "damaged"}),
    ],
)
async def test_the_harness_catches_a_planted_bug(tmp_path: Path, bug: str, seen: set[str]) -> None:
    """A gateway that breaks one promise is found out by a few kills, an honest one is not."""
    broken: set[str] = set()
    for attempt in range(3):  # what a kill finds open is a matter of luck
        folder = tmp_path / str(attempt)
        folder.mkdir()
        broken = await _found_out(folder, bug)
        if seen <= broken:
            break
    assert seen <= broken
    assert seen or not broken


async def _found_out(folder: Path, bug: str) -> set[str]:
    command = (sys.executable, PLANTED, bug, "live")
    # Slow enough that open windows are older than what a kill may cost.
    async with rig(folder, load(rate=120), command=command) as one:
        witness = Witness(one.sim.world)
        for _ in range(3):
            if not one.gateway.running:
                one.gateway.start()
                await one.gateway.connected()
            await one.heard(40)
            one.gateway.kill()
        await one.drained()
        return set(one.verdict(witness).broken)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_at_a_named_commit_point_loses_nothing(tmp_path: Path, step: str) -> None:
    """Right before or behind the commit of records, or of what the consumer acknowledged."""
    async with rig(tmp_path, load(), start=False) as one:
        witness = Witness(one.sim.world)
        one.consumer.start()
        for count in (5, 40):
            one.gateway.env[VARIABLE] = f"{step}:{count}"
            one.gateway.start()
            await until(lambda: not one.gateway.running, f"the end at {step}")
            assert one.gateway.child.returncode == -signal.SIGKILL
            one.gateway.kills_us.append(time.time_ns() // 1000)
        del one.gateway.env[VARIABLE]
        one.gateway.start()
        await one.gateway.connected()
        await one.heard(20)
        await one.drained()
        one.verdict(witness).kept()
