"""Services of every kind: each recording has its own way to end, and no doubt makes two jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.transcribe_rig import rig
from steno.adapters.job_store import JobReader

QUICK = 40.0
FATES = {
    "failed": 0.1, "never": 0.1, "no_result": 0.1, "bad_words": 0.1, "silent": 0.1,
    "missing": 0.1, "forbidden": 0.1,
}  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("id_key", ["transcriptId", "both"])
async def test_every_way_to_end_is_told_by_its_name(tmp_path: Path, id_key: str) -> None:
    """Failed, stuck until its deadline, without a result, silent, unreadable in part, refused."""
    settings = {"STENO_TRANSCRIBE_DEADLINE_S": "5"}
    trouble = {**FATES, "id_key": id_key}
    async with rig(tmp_path, 60, clock=QUICK, trouble=trouble, settings=settings) as one:
        assert await one.done() == 1
        verdict = await one.verdict()
        verdict.kept()
        assert verdict.ends["failed"] > 20
        told = {failure["reason"] for failure in one.product.summary()["failures"]}
    assert told == {
        *("service_failed", "deadline_passed", "result_missing", "recording_missing", "forbidden"),
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["fail", "resubmit"])
async def test_a_doubt_that_cannot_be_settled_makes_no_second_job(tmp_path: Path, way: str) -> None:
    """A service without a list: the job is given up, or sent again under the same key."""
    settings = {"STENO_TRANSCRIBE_UNLOOKABLE": way}
    trouble = {"dropped": 0.2, "listing": False}
    async with rig(tmp_path, 30, clock=QUICK, trouble=trouble, settings=settings) as one:
        await one.done()
        stats = await one.job_stats()
        with JobReader(one.product.state / "jobs.db") as reader:
            reasons = {each.job.reason for each in reader.page(limit=100)}
        verdict = await one.verdict()
    assert stats["struck"]["dropped"] > 0
    assert not verdict.twice
    if way == "fail":
        assert reasons == {"", "submission_in_doubt"}
        assert not verdict.keys_twice
    else:
        assert reasons == {""}
        assert stats["repeated"] > 0
        del verdict.keys_twice[:]  # that is what keys are for
        verdict.kept()
