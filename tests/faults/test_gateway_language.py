"""A change of language: the model is switched, and trouble with that delays no sentence."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from faults.gateway_oracle import Witness, newest, read_lines
from faults.gateway_rig import Rig, load, rig, until
from steno_sim.region import RegionSettings

CALLS = 20
CONFIG = "*/transcription/config"


async def within(one: Rig, bound: str) -> tuple[float, float]:
    """Give how many sentences were acknowledged within a bound of the histogram, and in all."""
    return await one.gateway.within("steno_delivery_source_to_acked_seconds", bound)


@pytest.mark.timeout(40)
async def test_the_model_follows_the_language(tmp_path: Path) -> None:
    """Everybody speaks Spanish: one PUT for each conversation, and a record that says so."""
    async with rig(tmp_path, load(switch_every=1)) as one:
        witness = Witness(one.sim.world)
        await until(lambda: one.sim.region.config_count >= CALLS, "the switches")
        await one.heard(50)
        await one.drained()
        puts = list(one.sim.region.configs)
        verdict = one.verdict(witness)
    verdict.kept()
    assert len(puts) == CALLS
    assert {put.languageCode for put in puts} == {"es-ES"}
    assert not any(put.autoDetect for put in puts)
    told = [
        line for line in newest(read_lines(one.consumer.file)) if line.kind == "language_changed"
    ]
    assert sorted(line.conversation for line in told) == sorted(put.conversation for put in puts)
    assert all(line.payload["applied"] for line in told)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("status", [429, 500])
async def test_a_failing_switch_delays_nothing_and_is_tried_again(
    tmp_path: Path, status: int
) -> None:
    """Refused for a while: sentences flow meanwhile, and the switch is made in the end."""
    async with rig(tmp_path, load(switch_every=1), start=False) as one:
        witness = Witness(one.sim.world)
        one.sim.inject(
            kind="answer", path=CONFIG, method="PUT", status=status, times=1000, retry_after_s=1
        )
        one.consumer.start()
        one.gateway.start()
        await one.gateway.connected()
        await one.gateway.event("spine.language_switch_failed")
        assert one.sim.region.config_count == 0
        await one.heard(150)
        one.sim.region.clear_faults()
        await until(lambda: one.sim.region.config_count >= CALLS, "the switches", limit_s=40)
        inside, everything = await within(one, "2.5")
        await one.drained()
        verdict = one.verdict(witness)
    verdict.kept()
    assert not verdict.in_gap
    assert everything > 100
    assert inside == everything


@pytest.mark.timeout(60)
async def test_a_slow_switch_delays_nothing(tmp_path: Path) -> None:
    """Each PUT takes 3 s: no sentence waits for it."""
    region = RegionSettings(config_delay_s=3)
    async with rig(tmp_path, load(switch_every=1), region=region) as one:
        witness = Witness(one.sim.world)
        await until(lambda: one.sim.region.config_count >= 4, "a few switches")
        await one.heard(100)
        inside, everything = await within(one, "2.5")
        await one.drained()
        verdict = one.verdict(witness)
    verdict.kept()
    assert inside == everything
    await asyncio.sleep(0)
