"""Copies, swaps and repeats on the wire: the same text once."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.gateway_oracle import Witness
from faults.gateway_rig import load, rig, until


@pytest.mark.timeout(60)
async def test_copies_and_swaps_change_nothing(tmp_path: Path) -> None:
    """Fragments sent twice, and partials that overtake each other: each word arrives once."""
    async with rig(tmp_path, load()) as one:
        witness = Witness(one.sim.world)
        for _ in range(5):
            one.sim.inject(kind="duplicate", times=100)
            one.sim.inject(kind="reorder", times=30)
            await one.heard(60)
        fired = one.sim.region.stats()["faults_fired"]
        await one.drained()
        verdict = one.verdict(witness)
    assert fired["duplicate"] >= 300
    assert fired["reorder"] >= 60
    verdict.kept()
    assert not verdict.in_gap


@pytest.mark.timeout(60)
async def test_copies_across_a_kill_change_nothing(tmp_path: Path) -> None:
    """Everything is sent twice, and the process dies in between: still once."""
    async with rig(tmp_path, load()) as one:
        witness = Witness(one.sim.world)
        one.sim.inject(kind="duplicate", times=100_000)
        for _ in range(4):
            await one.heard(30)
            one.gateway.kill()
            one.gateway.start()
            await one.gateway.connected()
        await one.heard(30)
        await one.drained()
        one.verdict(witness).kept()


@pytest.mark.timeout(60)
async def test_two_sockets_share_the_conversations(tmp_path: Path) -> None:
    """One of several sockets dies: its conversations have a gap, the others have none."""
    async with rig(tmp_path, load(), settings={"STENO_LIVE_SOCKETS": "3"}) as one:
        witness = Witness(one.sim.world)
        await until(lambda: len(one.sim.region.streams) == 3, "three sockets")
        for upgrades in (4, 5, 6):
            await one.heard(40)
            one.sim.inject(kind="drop", times=1, reset=True)
            await until(
                lambda upgrades=upgrades: one.sim.region.upgrades == upgrades,  # type: ignore[misc]
                "another socket",
            )
        await one.heard(40)
        await one.drained()
        verdict = one.verdict(witness)
    verdict.kept()
    assert len(verdict.in_gap) < 20
