"""Killing the collector under load: what was stored is there, once, and clean."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from faults.diarise_rig import Collecting, SegmentVerdict, collecting
from faults.gateway_rig import load


async def kill(one: Collecting, kills: int, draw: random.Random) -> set[str]:
    """Kill it so many times; the keys that were handed over before each kill."""
    for _ in range(kills):
        if not one.collector.running:
            one.collector.start()
        if draw.random() < 0.15:
            await asyncio.sleep(draw.uniform(0.0, 0.8))
        else:
            await one.collector.connected()
            await asyncio.sleep(draw.uniform(0.0, 0.8))
        one.collector.kill()
    return one.collector.keys()


async def killed(folder: Path, kills: int) -> SegmentVerdict:
    """Kill it under load, let everything settle, and judge."""
    async with collecting(folder, load(conversations=6, rate=200, final_every=3)) as one:
        handed_over = await kill(one, kills, random.Random(kills))
        one.collector.start()
        await one.collector.connected()
        await one.heard(20)
        verdict = await one.stopped()
        lines = await one.collector.exported("jsonl", "--min-confidence", "0")
        print(  # noqa: T201  # the figures, shown by -s
            f"{kills} kills: {verdict.sent} finals sent, {verdict.found} exported, missing in "
            f"gaps {len(verdict.in_gap)}, before their commit {len(verdict.in_window)}"
        )
    exported = {line.split('"key":"')[1].split('"')[0] for line in lines.decode().splitlines()}
    assert handed_over <= exported, "what was stored stays"
    return verdict


@pytest.mark.timeout(100)
async def test_nothing_stored_is_lost_when_it_is_killed(tmp_path: Path) -> None:
    """Ten kills at any moment: each final is exported once, or a gap or the journal's 50 ms say."""
    verdict = await killed(tmp_path, 10)
    verdict.kept()
    assert verdict.sent > 100
    assert len(verdict.in_window) + len(verdict.in_gap) < 0.3 * verdict.sent


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_nothing_stored_is_lost_over_many_kills(tmp_path: Path) -> None:
    """The full count: 100."""
    verdict = await killed(tmp_path, 100)
    verdict.kept()
    assert verdict.sent > 1000
