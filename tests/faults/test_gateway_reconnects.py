"""Lost, silent and slow connections: noticed, replaced, owned up to, and nothing heard is lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from faults.gateway_oracle import Witness, gaps_of, read_lines
from faults.gateway_rig import load, rig, until

SHORT_PINGS = {"STENO_LIVE_PING_INTERVAL_S": "0.4", "STENO_LIVE_PONG_TIMEOUT_S": "0.6"}
FROM_SECOND_ONE = {"STENO_LIVE_BACKOFF_FIRST_S": "1"}  # as it comes


@pytest.mark.timeout(90)
async def test_the_backup_takes_over_within_five_seconds_and_the_primary_gets_it_back(
    tmp_path: Path,
) -> None:
    """The primary dies in mid-sentence: the backup follows on, and later the primary again."""
    settings = {**FROM_SECOND_ONE, "STENO_LIVE_FAILBACK_AFTER_S": "1"}
    async with rig(tmp_path, load(), backup=True, settings=settings) as one:
        witness = Witness(one.sim.world)
        await one.heard(50)
        began = time.monotonic()
        one.sim.inject(kind="region_down")
        await until(lambda: one.backup.region.upgrades, "the backup to be used", limit_s=10)
        took_s = time.monotonic() - began
        await one.heard(50)
        one.sim.inject(kind="region_up")
        await until(lambda: one.sim.region.streams, "a probe of the primary", limit_s=40)
        await until(lambda: not one.backup.region.streams, "the return to it", limit_s=10)
        await one.heard(50)
        switches = one.gateway.events("live.failed_over")
        await one.drained()
        verdict = one.verdict(witness)
    verdict.kept()
    print(f"backup used after {took_s:.2f} s, {len(verdict.in_gap)} fragments in gaps")  # noqa: T201
    assert took_s < 5
    assert [event["host"] for event in switches] == [one.backup.host, one.sim.host]
    assert len(verdict.in_gap) < 20
    causes = {gap.cause for gap in gaps_of(read_lines(one.consumer.file))}
    assert causes & {"failover", "disconnect"}


@pytest.mark.timeout(60)
async def test_a_flapping_primary_does_not_make_us_thrash(tmp_path: Path) -> None:
    """Up for less than it must hold, down again: we stay at the backup."""
    settings = {"STENO_LIVE_FAILBACK_AFTER_S": "5"}
    async with rig(tmp_path, load(), backup=True, settings=settings) as one:
        witness = Witness(one.sim.world)
        one.sim.inject(kind="region_down")
        await until(lambda: one.backup.region.streams, "the backup to be used", limit_s=10)
        for _ in range(4):
            one.sim.inject(kind="region_up")
            await until(lambda: one.sim.region.up, "the primary")
            await one.heard(20)
            one.sim.inject(kind="region_down")
            await until(lambda: not one.sim.region.up, "its end")
            await one.heard(20)
        assert len(one.gateway.events("live.failed_over")) == 1
        assert one.backup.region.upgrades == 1
        await one.drained()
        one.verdict(witness).kept()


@pytest.mark.timeout(60)
async def test_a_half_open_socket_is_noticed(tmp_path: Path) -> None:
    """No frame, no pong, no close: found by the ping, and the interval is owned up to."""
    async with rig(tmp_path, load(), settings=SHORT_PINGS) as one:
        witness = Witness(one.sim.world)
        await one.heard(30)
        began, before = time.monotonic(), one.sim.region.upgrades
        one.sim.inject(kind="silence")
        await until(lambda: one.sim.region.upgrades > before, "another socket", limit_s=10)
        took_s = time.monotonic() - began
        await one.heard(50)
        await one.drained()
        verdict = one.verdict(witness)
    verdict.kept()
    assert not verdict.in_gap, "what reached us before the silence was heard"
    assert verdict.gaps
    assert took_s < 5
    assert one.gateway.events("live.disconnected", ever=True)


@pytest.mark.timeout(60)
async def test_a_slow_pong_means_failover(tmp_path: Path) -> None:
    """A pong beyond its limit: the other region is dialled at once."""
    async with rig(tmp_path, load(), backup=True, settings=SHORT_PINGS) as one:
        witness = Witness(one.sim.world)
        await one.heard(30)
        began = time.monotonic()
        one.sim.inject(kind="slow_pong", delay_s=5)
        await until(lambda: one.backup.region.upgrades, "the backup to be used", limit_s=10)
        took_s = time.monotonic() - began
        await one.heard(50)
        await one.drained()
        verdict = one.verdict(witness)
    verdict.kept()
    assert verdict.gaps
    assert took_s < 5
    assert len(verdict.in_gap) < 20


@pytest.mark.timeout(60)
async def test_any_close_we_did_not_ask_for_is_survived(tmp_path: Path) -> None:
    """Each close code, a FIN and a reset: connected again, a gap recorded, nothing heard lost."""
    settings = {"STENO_LIVE_BACKOFF_MAX_S": "0.3"}
    closes: list[dict[str, Any]] = [{"code": code} for code in (1000, 1001, 1011, 1012)]
    closes += [{}, {"reset": True}]
    async with rig(tmp_path, load(), settings=settings) as one:
        witness = Witness(one.sim.world)
        for close in closes:
            before = one.sim.region.upgrades
            await one.heard(20)
            one.sim.inject(kind="drop", **close)
            await until(
                lambda before=before: one.sim.region.upgrades > before,  # type: ignore[misc]
                f"another socket after {close}",
            )
        await one.heard(20)
        await one.drained()
        verdict = one.verdict(witness)
    verdict.kept()
    assert len(one.gateway.events("live.disconnected", ever=True)) >= len(closes)
    gaps = gaps_of(read_lines(one.consumer.file))
    whole_feed = [gap for gap in gaps if not gap.conversation]
    assert len(whole_feed) == len(closes)
    assert len(verdict.in_gap) < 20


@pytest.mark.timeout(60)
async def test_both_regions_down_is_waited_out(tmp_path: Path) -> None:
    """We never give up: the first region that comes back is followed, and the gap is closed."""
    async with rig(
        tmp_path, load(), backup=True, settings={"STENO_LIVE_BACKOFF_MAX_S": "0.5"}
    ) as one:
        witness = Witness(one.sim.world)
        await one.heard(20)
        one.sim.inject(kind="region_down", mode="accept")
        one.backup.inject(kind="region_down")
        await one.gateway.event("live.dial_failed", count=6)
        ready, said = await one.gateway.ready()
        assert not ready
        assert said["live"]["ok"] is False
        one.backup.inject(kind="region_up")
        await until(lambda: one.backup.region.streams, "the backup to be used")
        await one.heard(50)
        await one.drained()
        verdict = one.verdict(witness)
    verdict.kept()
    assert all(gap.to_us < 1 << 62 for gap in gaps_of(read_lines(one.consumer.file)))
