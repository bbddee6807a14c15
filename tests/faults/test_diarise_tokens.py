"""Tokens that end while segments are collected: renewed early, used when they are needed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from faults.diarise_rig import collecting
from faults.gateway_rig import load, until
from steno_sim.oauth import TokenService

LIFE_S = 4.0


@pytest.mark.timeout(60)
async def test_a_token_is_renewed_early_and_the_socket_stays(tmp_path: Path) -> None:
    """Renewed before its end, again and again; the next reconnect uses it and is not refused."""
    async with collecting(
        tmp_path,
        load(conversations=4, rate=60),
        simulator={"tokens": TokenService(expires_in_s=LIFE_S)},
    ) as one:
        loop = asyncio.get_running_loop()
        for issued in (2, 3):
            due = loop.time() + LIFE_S
            await until(lambda issued=issued: one.sim.tokens.issued >= issued, "a renewal")  # type: ignore[misc]
            assert loop.time() < due, "renewed before its end"
        assert one.sim.region.upgrades == 1, "the socket was not dropped"
        one.sim.inject(kind="drop", code=1012)
        await one.collector.connected(count=2)
        await one.heard(10)
        verdict = await one.stopped()
        assert one.sim.region.upgrades == 2
        assert one.sim.region.refused_upgrades == 0
    verdict.kept()
    gaps = {(gap.from_us, gap.to_us) for gap in one.collector.gaps()}
    assert len(gaps) == 1, "one interval, for the socket that we dropped"


@pytest.mark.timeout(60)
async def test_a_revoked_token_is_replaced_at_the_reconnect(tmp_path: Path) -> None:
    """401 at the upgrade: another token, once and at once; only the gap's interval is missing."""
    async with collecting(tmp_path, load(conversations=4, rate=60)) as one:
        await one.heard(10)
        one.sim.inject(kind="revoke_tokens")
        await one.heard(10)
        assert one.sim.region.upgrades == 1, "a revoked token leaves an open socket alone"
        one.sim.inject(kind="drop", code=1012)
        await one.collector.connected(count=2)
        await one.heard(10)
        assert not one.collector.events("live.refused")
        verdict = await one.stopped()
        assert one.sim.region.refused_upgrades == 1
        assert one.sim.tokens.issued == 2
    verdict.kept()
