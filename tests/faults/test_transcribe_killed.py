"""Killing ``steno transcribe``: nothing is submitted twice, nothing lost, everything told once."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path

import pytest

from faults.transcribe_oracle import torn
from faults.transcribe_planted import PLACES
from faults.transcribe_rig import STENO, TROUBLE, Rig, rig

PLANTED = str(Path(__file__).with_name("transcribe_planted.py"))
DEAF = {**TROUBLE, "keys": False, "failed": 0.0}
"""Trouble at a service that neither heeds nor lists keys: a second submission is a job.

None of its jobs fails: one in doubt is not taken for a failed job that only looks like it, which
may be of last week, and is submitted anew.
"""

QUICK = 40.0


def planted(bug: str, place: str) -> tuple[str, ...]:
    """Give the command with a bug, and the place where it is killed."""
    return (sys.executable, PLANTED, bug, place, "transcribe")


@pytest.mark.timeout(300)
async def test_nothing_is_doubled_or_lost_over_random_kills(tmp_path: Path) -> None:
    """Four kills at any moment, at a service that makes a job of every submission."""
    async with rig(tmp_path, 150, trouble=DEAF, hooks=True) as one:
        await one.killed_at_random(4, random.Random(4), span_s=1.5)
        assert await one.done() == 1  # some recordings fail
        (await one.verdict()).kept()
        assert one.kills == 4
        assert await one.audit_is_sound()


@pytest.mark.timeout(300)
async def test_a_kill_at_every_place_doubles_and_loses_nothing(tmp_path: Path) -> None:
    """One batch, killed at each place in turn: before and after everything that is stored."""
    async with rig(tmp_path, 60, clock=QUICK, trouble={"keys": False}, hooks=True) as one:
        await _killed_at_places(one, [f"{place}:2" for place in PLACES])


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_a_kill_at_every_place_many_times_over(tmp_path: Path) -> None:
    """The full count: ten kills at each place, amid trouble."""
    settings = {"STENO_TRANSCRIBE_SETTLE_S": "6"}
    async with rig(tmp_path, 1500, clock=QUICK, trouble=DEAF, hooks=True, settings=settings) as one:
        places = [f"{place}:{1 + count * 2}" for count in range(10) for place in PLACES]
        await _killed_at_places(one, places)


async def _killed_at_places(one: Rig, places: list[str]) -> None:
    rest = one.product.command[len(STENO) + 1 :]
    for place in places:
        one.product.command = [*planted("-", place), *rest]
        await one.done()
        assert one.product.child.returncode == -signal.SIGKILL, place
        assert not await _torn(one), place
    one.product.command = [*planted("-", "-"), *rest]
    assert await one.done() in (0, 1)
    (await one.verdict()).kept()
    assert await one.audit_is_sound()


async def _torn(one: Rig) -> list[str]:
    """Look for torn files beside the simulator: a service that stands still breaks its promises."""
    return await asyncio.to_thread(torn, one.jobs, one.asked, one.product.transcripts)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("bug", "place", "seen"),
    [
        ("-", "submit.after", set()),
        ("late-intent", "submit.after", {"twice", "keys_twice"}),
        ("resubmit", "submit.after", {"twice", "keys_twice"}),
        ("audit-twice", "audit.after", {"audit"}),
        ("audit-lost", "audit.before", {"audit"}),
        ("late-file", "end.after", {"files"}),
        ("torn-file", "file.middle", {"torn"}),
        ("no-hook", "hook.after", {"webhooks"}),
        ("forged", "hook.after", {"webhooks"}),
        ("other-key", "record.after", {"records"}),
        ("no-redaction", "settle.after", {"leaks"}),
    ],
)
async def test_the_harness_catches_a_planted_bug(
    tmp_path: Path, bug: str, place: str, seen: set[str]
) -> None:
    """Each breaks one promise, and is found out by one kill; an honest product is not."""
    broken = await _found_out(tmp_path, bug, place)
    assert seen <= broken
    assert seen or not broken


async def _found_out(folder: Path, bug: str, place: str) -> set[str]:
    command = planted(bug, f"{place}:3")
    async with rig(
        folder, 8, clock=QUICK, trouble={"keys": False}, command=command, hooks=True
    ) as one:
        await one.done()
        assert one.product.child.returncode == -signal.SIGKILL
        found = {"torn"} if await _torn(one) else set()
        one.product.command[: len(command)] = planted(bug, "-")
        await one.done()
        return found | set((await one.verdict()).broken)
