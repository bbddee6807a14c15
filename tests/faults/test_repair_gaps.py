"""Gaps of live delivery, forced and repaired: in the end everything was delivered, once."""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

import pytest

from faults.gateway_rig import until
from faults.repair_rig import FAMILIES, Family, Repairing, calls, repairing


async def torn(one: Repairing) -> None:
    """Kill live delivery, and drop its sockets, in the middle of conversations."""
    await one.heard(8)
    one.live.kill()
    await asyncio.sleep(0.4)
    await one.follow()
    await one.heard(4)
    one.sim.inject(kind="drop", code=1012)
    await one.heard(4)
    await one.ended()
    await asyncio.sleep(1.3)  # open windows close
    assert await one.live.stop() == 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", FAMILIES)
async def test_gaps_are_repaired_to_the_last_word(tmp_path: Path, family: Family) -> None:
    """A kill and a dropped socket; a repair; a second one, which changes nothing."""
    async with repairing(tmp_path, family) as one:
        await torn(one)
        before = one.told()
        code, totals, _ = await one.repair()
        assert code == 0, (one.log.read_text()[-2000:], totals)
        restored = one.restored()
        restored.kept()
        assert restored.gaps
        assert restored.filled == totals["filled"] > 5
        assert totals["missing"] == 0
        assert totals["ratio"] == 1.0
        delivered = one.told()
        assert delivered[: len(before)] == before
        print(  # noqa: T201  # the figures, shown by -s
            f"{family}: {restored.gaps} gaps, {totals['expected']} segments, "
            f"{totals['delivered_live']} live, {totals['filled']} filled in, "
            f"ratio {totals['ratio']}"
        )
        code, totals, _ = await one.repair()
        assert (code, totals["filled"]) == (0, 0)
        code, totals, _ = await one.repair(*(plan.id for plan in one.script.plans))
        assert (code, totals["filled"]) == (0, 0), "nor one that looks at all of it again"
        assert one.told() == delivered


@pytest.mark.timeout(300)
async def test_a_repair_killed_at_any_commit_doubles_nothing(tmp_path: Path) -> None:
    """Killed before and after each of its commits, and run again to its end."""
    async with repairing(tmp_path, "tutorial") as one:
        await torn(one)
        for step in ("commit.before:1", "commit.after:1", "settle.after:1", "commit.after:2"):
            code, _, _ = await one.repair(crash_at=step)
            assert code in (0, -signal.SIGKILL)
        code, totals, _ = await one.repair()
        assert code == 0, one.log.read_text()[-2000:]
        assert totals["missing"] == 0
        one.restored().kept()


@pytest.mark.timeout(300)
async def test_a_kill_is_repaired_before_anybody_follows_again(tmp_path: Path) -> None:
    """Its gap is not stored yet; the next who follows stores it, from the kill on."""
    async with repairing(tmp_path, "tutorial") as one:
        await one.heard(8)
        one.live.kill()
        await one.ended()
        await asyncio.sleep(0.2)
        code, totals, _ = await one.repair()
        assert code == 0, one.log.read_text()[-2000:]
        assert totals["filled"] > 0
        one.restored().kept()
        await one.follow()
        assert await one.live.stop() == 0
        gap = next(g for g in one.told() if g.kind == "gap" and not g.conversation)
        assert gap.payload["from_us"] < one.live.kills_us[0]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", FAMILIES)
async def test_live_delivery_repairs_itself(tmp_path: Path, family: Family) -> None:
    """With ``archive.repair``, beside what is heard, once the conversations are over."""
    settings = {"STENO_ARCHIVE_REPAIR": "true", "STENO_ARCHIVE_REPAIR_AFTER_S": "0.4"}
    async with repairing(tmp_path, family, settings=settings) as one:
        await one.heard(8)
        one.live.kill()
        await asyncio.sleep(0.4)
        await one.follow()
        await one.ended()
        count = len(one.script.plans)

        def whole() -> bool:
            told = one.told()
            done = {t.conversation for t in told if t.kind == "reconciled"}
            return len(done) == count and not one.restored().uneven

        await until(whole, "the reconciliation of every conversation", limit_s=40)
        assert await one.live.metric("steno_reconciled_ratio") == 1.0
        filled = await one.live.metric("steno_reconciled_segments_total", outcome="backfilled")
        pages = [(await one.live.page("/metrics"))[1]]
        assert await one.live.stop() == 0
        restored = one.restored(pages=pages)
        restored.kept()
        assert filled == restored.filled > 0


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", FAMILIES)
async def test_many_gaps_are_repaired_to_the_last_word(tmp_path: Path, family: Family) -> None:
    """The full count: kills and dropped sockets, fifteen of them, over longer conversations."""
    draw = random.Random(7)
    scenario = calls(conversations=12, fragments=900, rate=120.0)
    async with repairing(tmp_path, family, scenario) as one:
        for number in range(15):
            await one.heard_for(6.0, draw.randint(10, 60))
            if one.is_over():
                break
            # Killed, a call under way is heard by its queue again only with its next event.
            if number % 3 == 0 if family == "tutorial" else number == 14:
                one.live.kill()
                await asyncio.sleep(draw.uniform(0.0, 2.0))
                await one.follow()
            else:
                one.sim.inject(kind="drop", code=1012)
        await until(one.is_over, "the conversations' end", limit_s=200)
        await asyncio.sleep(1.3)
        assert await one.live.stop() == 0
        live = one.restored().heard_live
        code, totals, _ = await one.repair()
        assert code == 0, (one.log.read_text()[-2000:], totals)
        restored = one.restored()
        restored.kept()
        said = 12 * 900
        print(  # noqa: T201  # the figures, shown by -s
            f"{family}: {restored.gaps} gaps, {said} fragments said, {said - live} not heard live; "
            f"{totals['expected']} segments: {totals['delivered_live']} live, {totals['filled']} "
            f"filled in, ratio {totals['ratio']}"
        )
