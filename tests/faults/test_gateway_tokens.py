"""Tokens that end while they are in use: replaced, and never written anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.gateway_oracle import Witness
from faults.gateway_rig import load, rig, until
from steno_sim.oauth import TokenService
from steno_sim.region import RegionSettings

TOKEN_ENDED = 4401
LIFE_S = 11.0
"""Above the ten seconds after which a connection counts as a good one."""


@pytest.mark.timeout(60)
async def test_a_token_that_expires_mid_stream_is_replaced(tmp_path: Path) -> None:
    """The platform closes the socket with its token's life: the next has a fresh one at once."""
    async with rig(
        tmp_path,
        load(),
        tokens=TokenService(expires_in_s=LIFE_S),
        region=RegionSettings(token_end_code=TOKEN_ENDED),
    ) as one:
        witness = Witness(one.sim.world)
        await until(lambda: one.sim.region.upgrades == 2, "the renewal", limit_s=LIFE_S + 5)
        await one.heard(50)
        pages = [(await one.gateway.page("/metrics"))[1], (await one.gateway.page("/readyz"))[1]]
        assert one.gateway.events("live.disconnected")[0]["close_code"] == TOKEN_ENDED
        assert not one.gateway.events("live.refused"), "a token's end wakes nobody"
        await one.drained()
        verdict = one.verdict(witness, pages=pages)
        stats = one.sim.region.stats()
    verdict.kept()
    assert stats["refused_upgrades"] == 0, "no token beyond its life was shown"
    assert stats["tokens_issued"] >= 2
    assert len(verdict.in_gap) < 20


@pytest.mark.timeout(60)
async def test_a_reconnect_never_shows_an_old_token(tmp_path: Path) -> None:
    """A life of 2 s, and drops at any moment of it: every upgrade is accepted."""
    async with rig(
        tmp_path,
        load(),
        tokens=TokenService(expires_in_s=2),
        settings={"STENO_LIVE_BACKOFF_MAX_S": "0.3"},
    ) as one:
        witness = Witness(one.sim.world)
        for count in range(2, 8):
            await one.heard(40)
            one.sim.inject(kind="drop", code=1012)
            await until(lambda count=count: one.sim.region.upgrades == count, "the reconnect")  # type: ignore[misc]
        await one.heard(20)
        await one.drained()
        verdict = one.verdict(witness)
        stats = one.sim.region.stats()
    verdict.kept()
    assert stats["refused_upgrades"] == 0
    assert stats["tokens_issued"] >= 3


@pytest.mark.timeout(60)
async def test_a_revoked_token_is_replaced_at_the_reconnect(tmp_path: Path) -> None:
    """401 at the upgrade: another token, once, and the stream goes on."""
    async with rig(tmp_path, load()) as one:
        witness = Witness(one.sim.world)
        await one.heard(30)
        one.sim.inject(kind="revoke_tokens")
        one.sim.inject(kind="drop", code=1012)
        await until(lambda: one.sim.region.upgrades == 2, "the reconnect", limit_s=10)
        await one.heard(30)
        assert await one.gateway.metric("steno_reconnects_total") == 1
        assert not one.gateway.events("live.refused")
        await one.drained()
        verdict = one.verdict(witness)
        stats = one.sim.region.stats()
    verdict.kept()
    assert stats["refused_upgrades"] == 1
    assert stats["tokens_issued"] == 2


@pytest.mark.timeout(60)
async def test_a_restart_takes_the_token_from_the_cache(tmp_path: Path) -> None:
    """A crash loop does not become a loop of token requests; the cache shows no token."""
    async with rig(tmp_path, load()) as one:
        witness = Witness(one.sim.world)
        for _ in range(3):
            await one.heard(10)
            one.gateway.kill()
            one.gateway.start()
            await one.gateway.connected()
        await one.drained()
        verdict = one.verdict(witness)
        assert one.sim.region.stats()["tokens_issued"] == 1
    verdict.kept()
