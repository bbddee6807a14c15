"""Gaps of live delivery, forced and repaired: in the end everything was delivered, once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from faults.repair_rig import FAMILIES, Family, Repairing, repairing


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


@pytest.mark.timeout(60)
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
