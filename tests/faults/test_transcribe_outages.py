"""What passes, passes without a trace: tokens that end, a platform that goes away, a clock."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from faults.gateway_rig import until
from faults.transcribe_oracle import entries_of
from faults.transcribe_rig import STENO, Rig, Transcribe, rig
from steno.adapters.job_store import JobReader
from steno.adapters.state_dir import StateDir
from steno.ports.jobs import JobState

PLANTED = str(Path(__file__).with_name("transcribe_planted.py"))
QUICK = 40.0


async def half_done(one: Rig) -> None:
    """Wait until half of the batch was submitted."""
    one.product.start()
    await one.accepted(len(one.asked) // 2)


def states(one: Rig) -> set[JobState]:
    """Give the states that jobs are in."""
    with JobReader(one.product.state / "jobs.db") as reader:
        return {each.job.state for each in reader.page(limit=1000)}


@pytest.mark.timeout(300)
async def test_tokens_that_end_in_mid_batch_cost_no_job(tmp_path: Path) -> None:
    """Expired, then revoked: each time a fresh one is fetched, and nothing is submitted twice."""
    async with rig(tmp_path, 60, clock=QUICK, trouble={"keys": False}) as one:
        assert one.sim is not None
        await half_done(one)
        one.sim.inject(kind="expire_tokens")
        await one.accepted(45)
        one.sim.inject(kind="revoke_tokens")
        assert await one.done() == 0
        (await one.verdict()).kept()
        requests = await one.requests()
    assert requests["POST /oauth/token 200"] == 3
    assert any(name.endswith(" 401") for name in requests)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", ["/oauth/token", "/api/v2/recordings/*"])
async def test_credentials_refused_for_good_end_it_with_three(tmp_path: Path, path: str) -> None:
    """By the token's endpoint or by the service: no job fails by it, and all go on later."""
    async with rig(tmp_path, 40, clock=QUICK, trouble={"keys": False}) as one:
        assert one.sim is not None
        await half_done(one)
        one.sim.inject(kind="answer", path=path, status=401, for_s=60)
        if path == "/oauth/token":
            one.sim.inject(kind="expire_tokens")
        assert await one.done() == 3
        assert JobState.FAILED not in states(one)
        one.sim.region.clear_faults()
        assert await one.done() == 0
        (await one.verdict()).kept()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["stop", "accept"])
async def test_a_platform_that_is_away_for_a_minute_costs_no_job(tmp_path: Path, mode: str) -> None:
    """Nobody listens, or everybody is hung up on: the usual patience lasts."""
    async with rig(tmp_path, 60, clock=20.0, trouble={"keys": False}) as one:
        assert one.sim is not None
        await half_done(one)
        # With this clock, 2 s are 40: within five retries from 2 s to 30 s.
        one.sim.inject(kind="region_down", mode=mode, for_s=2.0)
        await asyncio.sleep(2.5)
        assert await one.done() == 0
        (await one.verdict()).kept()
        assert await one.audit_is_sound()


@pytest.mark.timeout(300)
async def test_longer_outages_are_waited_out_where_that_is_set(tmp_path: Path) -> None:
    """Five seconds, where the usual retries would be used up within four, with more of them."""
    settings = {"STENO_TRANSCRIBE_RETRIES": "40", "STENO_TRANSCRIBE_RETRY_MAX_S": "0.5"}
    async with rig(tmp_path, 40, settings=settings, trouble={"keys": False}) as one:
        assert one.sim is not None
        await half_done(one)
        one.sim.inject(kind="region_down", for_s=5.0)
        await asyncio.sleep(4.3)  # later on a busy machine, and still in the outage
        assert one.product.running
        assert await one.done() == 0
        (await one.verdict()).kept()


@pytest.mark.timeout(300)
async def test_a_clock_that_is_set_back_or_forward_holds_nothing_up(tmp_path: Path) -> None:
    """An hour back and a day forward, in mid-batch: no job waits for it or fails by it."""
    await asyncio.gather(*(_jumped(tmp_path, jump) for jump in ("back", "forward")))


async def _jumped(folder: Path, jump: str) -> None:
    folder = folder / jump
    folder.mkdir()
    command = (sys.executable, PLANTED, f"clock-{jump}", "-", "transcribe")
    async with rig(folder, 20, clock=QUICK, command=command) as one:
        assert await one.done() == 0
        assert (folder / "jumped").exists()
        (await one.verdict()).kept()


@pytest.mark.timeout(300)
async def test_a_stop_in_mid_batch_is_prompt_and_the_rest_is_done_later(tmp_path: Path) -> None:
    """SIGTERM: exit code 130 within seconds; the same call goes on where it was."""
    async with rig(tmp_path, 60, clock=QUICK, trouble={"keys": False}) as one:
        await half_done(one)
        one.product.signal(signal.SIGTERM)
        assert await one.product.finished(limit_s=20) == 130
        assert JobState.SUBMITTED in states(one)
        assert await one.done() == 0
        (await one.verdict()).kept()
        assert await one.audit_is_sound()


@pytest.mark.timeout(300)
async def test_a_second_owner_of_the_state_is_refused(tmp_path: Path) -> None:
    """It says so at once, and the first goes on."""
    endless = {"processing_s": (100_000, 100_000), "keys": False}
    async with rig(tmp_path, 20, trouble=endless) as one:
        await half_done(one)
        (tmp_path / "second").mkdir()
        rest = one.product.command[len(STENO) + 1 :]
        second = Transcribe(tmp_path / "second", one.url, state=one.product.state)
        second.command = [*STENO, "transcribe", *rest]
        second.start()
        try:
            await until(lambda: not second.running, "the end of the second", limit_s=60)
        finally:
            second.end()
        assert second.child.returncode not in (0, 130)
        assert "another" in second.said()
        await one.accepted(20)
        one.product.signal(signal.SIGTERM)
        assert await one.product.finished() == 130
        assert states(one) == {JobState.SUBMITTED}
        assert not (await one.verdict()).twice


@pytest.mark.timeout(300)
async def test_wishes_outlive_kills(tmp_path: Path) -> None:
    """Paused jobs stay so over a kill; cancelled ones have one end, told once; the rest is done."""
    settings = {"STENO_STATE_DIR": str(tmp_path / "state")}
    slow = {"processing_s": (60, 60), "keys": False}
    async with rig(
        tmp_path, 30, trouble=slow, settings=settings, options=("--batch", "night")
    ) as one:
        one.product.start()
        await one.accepted(20)
        assert await wished(one, "pause", "--batch", "night") == 30
        await until(lambda: paused(one) == 30, "every job to be paused")
        one.product.kill()
        first = one.asked[0].recording
        with JobReader(one.product.state / "jobs.db") as reader:
            jobs = [each.job for each in reader.page(limit=1000)]
        (job,) = (each.id for each in jobs if each.request.recording_id == first)
        assert await wished(one, "resume", "--batch", "night") == 30
        assert await wished(one, "cancel", job) == 1
        assert await one.done() == 1  # one is cancelled
        verdict = await one.verdict()
        ended = entries_of(StateDir(one.product.state).audit_log)
        assert [e["status"] for e in ended if e["recording_id"] == first] == ["cancelled"]
        assert verdict.ends == {"completed": 29, "cancelled": 1}
        assert [name.split()[0] for name in verdict.other_end] == [first]
        assert not verdict.twice
        assert len(verdict.audit) == len(verdict.records) == len(verdict.files) == 1


def paused(one: Rig) -> int:
    """Give how many jobs are paused."""
    with JobReader(one.product.state / "jobs.db") as reader:
        return reader.counts().paused


async def wished(one: Rig, *arguments: str) -> int:
    """Run ``steno jobs``; give for how many jobs the wish was left."""
    done = await asyncio.create_subprocess_exec(
        *STENO,
        *("jobs", *arguments, "--json"),
        env=one.product.env,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await done.communicate()
    count: int = json.loads(out)["jobs"]
    return count
