"""A consumer that is away, slow, or failing: everything arrives in order, memory is bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from faults.gateway_oracle import Witness
from faults.gateway_rig import Rig, load, rig, until


async def away(one: Rig, down_s: float) -> int:
    """Take the consumer away, let it be slow, bring it back; give the growth of memory, kB."""
    await one.heard(50)
    before_kb = one.gateway.rss_kb()
    one.consumer.kill()
    began = await one.gateway.metric("steno_records_stored_total")
    await asyncio.sleep(down_s)  # what is tested is this long an absence
    assert await one.gateway.metric("steno_records_stored_total") > began
    ready, _ = await one.gateway.ready()
    assert ready, "a consumer that is away is no reason to stop listening"
    one.consumer.slow(20)
    one.consumer.start()
    await one.heard(50, limit_s=30)
    assert await one.consumer.stop() == 0
    one.consumer.slow(0)
    one.consumer.start()
    await one.heard(50, limit_s=30)
    return one.gateway.rss_kb() - before_kb


async def survived(folder: Path, *, down_s: float, rate: float) -> None:
    async with rig(folder, load(rate=rate)) as one:
        witness = Witness(one.sim.world)
        grown_kb = await away(one, down_s)
        await one.drained()
        verdict = one.verdict(witness)
    verdict.kept()
    assert not verdict.in_gap
    assert verdict.sent > 0.8 * rate * down_s
    assert grown_kb < 60_000


@pytest.mark.timeout(80)
async def test_a_consumer_away_then_slow_then_back(tmp_path: Path) -> None:
    """5 seconds away."""
    await survived(tmp_path, down_s=5, rate=400)


@pytest.mark.soak
@pytest.mark.timeout(400)
async def test_a_consumer_away_for_a_minute(tmp_path: Path) -> None:
    """The full time: 60 seconds, at a load that fills what is kept in memory."""
    await survived(tmp_path, down_s=60, rate=1000)


@pytest.mark.timeout(60)
async def test_a_restart_delivers_what_waited_for_the_consumer(tmp_path: Path) -> None:
    """Gateway and consumer both away: the store alone carries the records over."""
    async with rig(tmp_path, load()) as one:
        witness = Witness(one.sim.world)
        await one.heard(30)
        one.consumer.kill()
        stored = await one.gateway.metric("steno_records_stored_total")
        while await one.gateway.metric("steno_records_stored_total") < stored + 100:
            await asyncio.sleep(0.1)
        one.gateway.kill()
        one.gateway.start()
        await one.gateway.connected()
        one.consumer.start()
        await until(lambda: one.consumer.lines() > 130, "what waited")
        await one.drained()
        one.verdict(witness).kept()


@pytest.mark.timeout(60)
async def test_a_failing_consumer_gets_everything_once(tmp_path: Path) -> None:
    """Each 40th record is answered UNAVAILABLE: tried again, in order, never twice."""
    async with rig(tmp_path, load(), start=False) as one:
        witness = Witness(one.sim.world)
        one.consumer.command += ["--fail-every", "40"]
        one.consumer.start()
        one.gateway.start()
        await one.gateway.connected()
        await one.heard(200, limit_s=30)
        assert await one.gateway.metric("steno_delivery_unavailable_total") > 0
        await one.drained()
        verdict = one.verdict(witness)
    verdict.kept()
    assert not verdict.in_gap
