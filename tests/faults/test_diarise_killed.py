"""Killing the collector under load: what was stored is there, once, and clean."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import pytest

from faults.diarise_rig import Collecting, SegmentVerdict, collecting
from faults.gateway_rig import load

PLANTED = str(Path(__file__).with_name("diarise_planted.py"))


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
            # On a busy machine it may not have run for a while, and have read nothing: what was
            # written meanwhile is no loss of its own. When it has answered, it has run.
            await one.collector.page("/healthz")
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


@pytest.mark.timeout(300)
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


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("bug", "seen"),
    [
        pytest.param("none", set(), marks=pytest.mark.soak),
        ("no-journal", {"unexplained"}),
        pytest.param("late-journal", {"twice"}, marks=pytest.mark.soak),
        pytest.param("plain-journal", {"leaks"}, marks=pytest.mark.soak),
        ("no-redaction", {"leaks", "damaged"}),
        pytest.param("other-speaker", {"damaged"}, marks=pytest.mark.soak),
    ],
)
async def test_the_harness_catches_a_planted_bug(tmp_path: Path, bug: str, seen: set[str]) -> None:
    """A collector that breaks one promise is found out by two kills, an honest one is not."""
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
    command = (sys.executable, PLANTED, bug, "diarise")
    # A segment waits longer than what a kill may cost without a word.
    settings = {"STENO_DIARISATION_SETTLE_S": "1.5"}
    async with collecting(
        folder, load(conversations=4, rate=100, final_every=2), command=command, settings=settings
    ) as one:
        for _ in range(2):
            if not one.collector.running:
                one.collector.start()
                await one.collector.connected()
            await one.heard(15)
            one.collector.kill()
        return set((await one.stopped()).broken)
