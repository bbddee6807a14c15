"""Answers that are not what they should be: told of the job they concern, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.transcribe_rig import Rig, rig
from steno.adapters.job_store import JobReader
from steno.ports.jobs import JobState

CANARY = "Canary of a caller"
POISON = {
    "nothing": " ",
    "words": f"hello, {CANARY}",
    "page": f"<html><body>{CANARY}</body></html>",
    "null": "null",
    "array": f'["{CANARY}"]',
    "types": f'{{"id": 7, "status": ["{CANARY}"]}}',
    "status": f'{{"id": "a", "status": "{CANARY}"}}',
    "cut": f'{{"id": "a", "status": "completed", "result": {{"words": [{{"text": "{CANARY}',
    "result": f'{{"id": "a", "status": "completed", "result": "{CANARY}"}}',
    "list": f'{{"id": "a", "status": "completed", "result": {{"words": "{CANARY}"}}}}',
    "deep": "[" * 20_000,
    "number": '{"id": "a", "status": NaN}',
    "control": f'{{"id": "a\\u0000{CANARY}/../b", "status": "completed"}}',
}
QUICK = {"queued_s": (0, 0), "processing_s": (0, 0), "keys": False}


def ends(one: Rig) -> dict[str, str]:
    """Give how each job ended: its state, or why it failed."""
    with JobReader(one.product.state / "jobs.db") as reader:
        jobs = [each.job for each in reader.page(limit=1000)]
    return {job.request.recording_id: job.reason or job.state.value for job in jobs}


def quoted(one: Rig) -> bool:
    """Tell whether anything that was written quotes what the peer said."""
    said = one.product.log.read_bytes() + one.product.out.read_bytes()
    said += b"".join(each.read_bytes() for each in one.product.state.glob("*") if each.is_file())
    return CANARY.encode() in said


@pytest.mark.timeout(300)
async def test_poisoned_answers_to_submissions_double_nothing(tmp_path: Path) -> None:
    """The job may be there: it is looked for, and found or sent again."""
    async with rig(tmp_path, len(POISON) + 3, trouble=QUICK) as one:
        assert one.sim is not None
        for body in POISON.values():
            one.sim.inject(
                kind="answer", status=200, method="POST", times=1, body=body,
                path="/api/v2/recordings/transcripts",
            )  # fmt: skip
        await one.done()
        assert not one.sim.region.faults.waiting()
        verdict = await one.verdict()
        assert not verdict.twice
        assert not verdict.keys_twice
        # Whatever has an id is believed: such a job is asked for by it, and is not there.
        odd = {name for name, end in ends(one).items() if end != JobState.COMPLETED}
        assert len(odd) <= 4
        assert {ends(one)[name] for name in odd} <= {"job_missing", "result_missing"}
        assert len(verdict.files) <= len(odd)
        assert not quoted(one)


@pytest.mark.timeout(300)
async def test_poisoned_answers_to_polls_cost_at_most_the_job_they_tell_of(tmp_path: Path) -> None:
    """What cannot be read is asked for again; what says that it is over is believed."""
    async with rig(tmp_path, len(POISON) + 3, trouble=QUICK) as one:
        assert one.sim is not None
        for body in POISON.values():
            one.sim.inject(
                kind="answer", status=200, method="GET", times=1, body=body,
                path="/api/v2/recordings/transcripts/*",
            )  # fmt: skip
        await one.done()
        assert not one.sim.region.faults.waiting()
        failed = [end for end in ends(one).values() if end != JobState.COMPLETED]
        assert len(ends(one)) == len(POISON) + 3
        assert set(failed) <= {"result_missing", "result_unreadable", "bad_answer"}
        assert len(failed) <= 3
        verdict = await one.verdict()
        assert len(verdict.files) == len(verdict.other_end) == len(failed)
        assert not verdict.twice
        assert not quoted(one)


@pytest.mark.timeout(300)
async def test_a_service_that_talks_nonsense_for_good_fails_its_jobs_and_ends(
    tmp_path: Path,
) -> None:
    """After the retries, with the reason."""
    async with rig(tmp_path, 3, trouble=QUICK) as one:
        assert one.sim is not None
        one.sim.inject(
            kind="answer", status=200, method="GET", body=POISON["page"], for_s=60,
            path="/api/v2/recordings/transcripts/*",
        )  # fmt: skip
        assert await one.done() == 1
        assert set(ends(one).values()) == {"bad_answer"}
        assert not quoted(one)


@pytest.mark.timeout(300)
async def test_long_results_are_right_to_the_last_word_in_bounded_memory(tmp_path: Path) -> None:
    """An hour of 20,000 words, and 5 MB of JSON."""
    for words in (20_000, 38_000):
        folder = tmp_path / str(words)
        folder.mkdir()
        async with rig(folder, 1, trouble={**QUICK, "words": (words, words)}) as one:
            assert await one.done() == 0
            (await one.verdict()).kept()
            assert one.product.summary()["total_words"] == words
            print(words, one.product.peak_kb)  # noqa: T201  # the figure, shown by -s
            assert one.product.peak_kb < 200_000
