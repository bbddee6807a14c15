"""Limits of the service are kept, counted where it counts them; so are the waits it asks for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from faults.gateway_rig import until
from faults.transcribe_rig import Rig, rig


async def refused(one: Rig) -> int:
    """Give how many requests were answered 429."""
    requests = await one.requests()
    return sum(count for name, count in requests.items() if name.endswith(" 429"))


@pytest.mark.timeout(300)
async def test_the_announced_limit_is_never_exceeded(tmp_path: Path) -> None:
    """``inin-ratelimit-*`` is heeded: no request of a batch comes when the window is used up."""
    async with rig(tmp_path, 40, rate_limit=60, rate_window_s=2.0) as one:
        assert await one.done() == 0
        (await one.verdict()).kept()
        assert await refused(one) == 0
        requests = sum((await one.requests()).values())
    assert requests > 90  # over more than one window


@pytest.mark.timeout(300)
async def test_our_own_limit_holds_in_every_stretch_of_time(tmp_path: Path) -> None:
    """300 a minute are 5 a second: no two seconds have more than 10, and one as they begin."""
    settings = {"STENO_TRANSCRIBE_PER_MINUTE": "300"}
    quick = {"queued_s": (0, 0), "processing_s": (0, 0)}
    async with rig(tmp_path, 10, settings=settings, trouble=quick, rate_window_s=2.0) as one:
        assert await one.done() == 0
        (await one.verdict()).kept()
        stats = await one.job_stats()
    # The clock of another process: what was sent late by a moment meets what was sent in time.
    assert 8 <= stats["peak_in_window"] <= 14


@pytest.mark.timeout(300)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_wait_that_is_asked_for_is_kept(tmp_path: Path, status: int) -> None:
    """429 holds every job, 503 the one that was told; none comes before its time."""
    quick = {"queued_s": (0, 0), "processing_s": (0, 0)}
    async with rig(tmp_path, 1, trouble=quick) as one:
        assert one.sim is not None
        sim = one.sim
        sim.inject(
            kind="answer", path="/api/v2/recordings/*", status=status, retry_after_s=2, times=1
        )
        one.product.start()
        await until(lambda: sim.region.faults.fired.get("answer"), "the refusal")
        told = asyncio.get_running_loop().time()
        await until(lambda: sim.jobs.book.submissions, "the next call")
        # ``told`` may be late on a busy machine; unasked, the wait would be 0.1 s.
        assert asyncio.get_running_loop().time() - told > 1.5
        assert await one.done() == 0
        (await one.verdict()).kept()


@pytest.mark.timeout(300)
async def test_bursts_of_refusals_are_answered_with_patience(tmp_path: Path) -> None:
    """429 five at a time, half of them without Retry-After: no job uses up its retries."""
    trouble = {"burst_every": 30, "burst_size": 5, "burst_wait_s": 1.0, "keys": False}
    async with rig(tmp_path, 40, trouble=trouble) as one:
        assert await one.done() == 0
        (await one.verdict()).kept()
        assert await refused(one) >= 15
