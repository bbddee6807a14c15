"""When a webhook may be sent, and which outcomes are entered: over restarts, and once each."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from conformance.scripted_http import Noted
from steno.adapters.audit_log import AuditLog, AuditPlaces
from steno.adapters.job_store import SqliteJobStore
from steno.app.audit_entries import EntriesOf, attempts_entered
from steno.core.audit_chain import EntryLine, decode_line
from steno.errors import LocalProtocolError, StorageError
from steno.ports.jobs import EndedJob, Job, JobState, TranscriptionRequest
from steno.recordings.ending import Identity
from steno.recordings.ends import Ends
from steno.recordings.job import plan
from steno.wire.webhooks import WebhookOutcome

IDENTITY = Identity("example.com", "tester", "1.0")


class World:
    """A store of jobs and an audit log on disk; ``ends`` is one process."""

    def __init__(self, folder: Path, store: SqliteJobStore, audit: AuditLog) -> None:
        self.store = store
        self.log = AuditPlaces.of(folder).log
        self.noted = Noted()
        self.audit = audit
        self.ends = self.again()

    def again(self) -> Ends:
        """Start another process, as far as ends go."""
        return Ends(
            *(self.store, self.audit, EntriesOf(self.log), IDENTITY, self.noted),
            first_s=0.05,
            turn_s=0.05,
        )

    async def job(self, state: JobState = JobState.SUBMITTED) -> Job:
        request = TranscriptionRequest(str(uuid.uuid4()), webhook="https://hooks.example.com/x")
        planned = plan(request, host_group="h", now_us=1_700_000_000_000_000)
        await self.store.add([planned])
        ended_us = planned.created_us + 5_000_000 if state is not JobState.SUBMITTED else 0
        job = msgspec.structs.replace(
            planned, version=1, state=state, transcript_id="t-1", ended_us=ended_us
        )
        assert await self.store.move(job)
        return job

    def told(self) -> list[tuple[str, int, str]]:
        lines = map(decode_line, self.log.read_bytes().splitlines())
        return [
            (line.event, line.webhook_attempt, line.webhook_status)
            for line in lines
            if isinstance(line, EntryLine)
        ]


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    async with AuditLog(AuditPlaces.of(folder), telemetry=Noted()) as audit:
        store = SqliteJobStore.open(folder / "jobs.db")
        try:
            yield World(folder, store, audit)
        finally:
            await store.close()


def outcome(
    job: Job, attempt: int = 2, failure: str = "", *, is_final: bool | None = None
) -> WebhookOutcome:
    return WebhookOutcome(
        record_id=f"record-of-{job.id}",
        job_id=job.id,
        recording_id=job.request.recording_id,
        transcript_id=job.transcript_id,
        status="completed",
        metrics={"latency_seconds": 5.0, "word_error_rate": None, "total_words": 0},
        error="",
        attempt=attempt,
        failure=failure,
        is_final=not failure if is_final is None else is_final,
    )


# --- when one may be sent ----------------------------------------------------------------------


async def test_nothing_is_sent_before_it_is_known_what_is_owed(tmp_path: Path) -> None:
    """An earlier process may owe the entry of any job."""
    async with world(tmp_path) as here:
        job = await here.job(JobState.COMPLETED)
        assert not await here.ends.turn(job.id)
        here.ends.hold([])
        assert await here.ends.turn(job.id)


async def test_a_job_that_has_not_ended_is_held_back(tmp_path: Path) -> None:
    """Its record came before a kill, its end did not."""
    async with world(tmp_path) as here:
        here.ends.hold([])
        job = await here.job()
        assert not await here.ends.turn(job.id)
        assert await here.ends.turn("a job that nobody knows")


async def test_an_end_without_entry_is_held_back_until_somebody_waits(tmp_path: Path) -> None:
    """Or until the entry is there; whoever is held back goes on at once."""
    async with world(tmp_path) as here:
        here.ends = Ends(
            *(here.store, here.audit, EntriesOf(here.log), IDENTITY, here.noted), turn_s=5.0
        )
        first, second = [await here.job(JobState.COMPLETED) for _ in range(2)]
        here.ends.hold([first.id, second.id])
        turns = [asyncio.create_task(here.ends.turn(job.id)) for job in (first, second)]
        await asyncio.sleep(0.02)
        assert not any(turn.done() for turn in turns)
        with here.ends.expecting(first.id):
            assert await asyncio.wait_for(turns[0], 1.0)
        assert not turns[1].done()
        here.ends.forgive(second.id)
        assert await asyncio.wait_for(turns[1], 1.0)


async def test_an_end_needs_the_outbox(tmp_path: Path) -> None:
    """An end without results is recorded by whoever settles it."""
    async with world(tmp_path) as here:
        job = await here.job(JobState.CANCELLED)
        with pytest.raises(LocalProtocolError):
            await here.ends.settle(EndedJob(job))


async def test_an_end_is_entered_without_its_webhook_after_a_while(tmp_path: Path) -> None:
    """The outcome is a further entry then."""
    async with world(tmp_path) as here:
        job = await here.job(JobState.COMPLETED)
        assert [end.job.id for end in await here.ends.earlier()] == [job.id]
        await here.ends.settle_all([EndedJob(job)])
        await here.ends.desk.told(outcome(job, 1))
        assert await here.ends.earlier() == []
    assert here.told() == [
        ("job_ended", 0, "failed: NotAttempted"),
        ("webhook_settled", 1, "delivered"),
    ]


# --- what is entered later ---------------------------------------------------------------------


async def test_each_outcome_is_entered_once(tmp_path: Path) -> None:
    """However often it is told, in this process and in the next."""
    async with world(tmp_path) as here:
        job = await here.job(JobState.COMPLETED)
        for ends in (here.ends, here.ends, here.again()):
            ends.hold([])
            for told in (outcome(job, 2, "TimedOut"), outcome(job, 3)):
                await asyncio.gather(ends.desk.told(told), ends.desk.told(told))
    assert here.told() == [
        ("webhook_attempted", 2, "failed: TimedOut"),
        ("webhook_settled", 3, "delivered"),
    ]


async def test_an_attempt_that_came_out_otherwise_is_entered(tmp_path: Path) -> None:
    """As after a dead letter was redriven, which counts from one again."""
    async with world(tmp_path) as here:
        job = await here.job(JobState.COMPLETED)
        await here.ends.desk.told(outcome(job, 1, "AccessRefused", is_final=True))
        await here.again().desk.told(outcome(job, 1))
    assert [status for *_, status in here.told()] == ["failed: AccessRefused", "delivered"]


async def test_an_outcome_of_an_end_that_is_owed_has_to_come_again(tmp_path: Path) -> None:
    """The entry of the end comes first."""
    async with world(tmp_path) as here:
        job = await here.job(JobState.COMPLETED)
        here.ends.hold([job.id])
        with pytest.raises(StorageError):
            await here.ends.desk.told(outcome(job))
        here.ends.forgive(job.id)
        await here.ends.desk.told(outcome(job))
    assert len(here.told()) == 1


async def test_an_entry_that_failed_is_tried_when_it_is_told_again(tmp_path: Path) -> None:
    """The log may take it then."""
    async with world(tmp_path) as here:
        job = await here.job(JobState.COMPLETED)
        places = AuditPlaces.of(tmp_path, tmp_path / "other.jsonl")
        other = AuditLog(places, telemetry=Noted())
        ends = Ends(here.store, other, EntriesOf(places.log), IDENTITY, here.noted)
        with pytest.raises(StorageError):
            await ends.desk.told(outcome(job))
        async with other:
            await ends.desk.told(outcome(job))
    assert len(attempts_entered(places.log)) == 1


async def test_a_job_that_is_gone_is_told_to_telemetry(tmp_path: Path) -> None:
    """There is nothing an entry could say of its request; the webhook is settled all the same."""
    async with world(tmp_path) as here:
        await here.ends.desk.told(outcome(plan(TranscriptionRequest(""), host_group="", now_us=1)))
        assert here.told() == []
    assert here.noted.events() == ["recordings.webhook_of_no_job"]


async def test_only_the_newest_attempts_are_read_back(tmp_path: Path) -> None:
    """A log of any size takes a bounded memory; a log that is not there has none."""
    assert attempts_entered(tmp_path / "none.jsonl") == {}
    async with world(tmp_path) as here:
        job = await here.job(JobState.COMPLETED)
        await here.ends.desk.told(outcome(job))
    assert len(attempts_entered(here.log)) == 1
    assert attempts_entered(here.log, limit=0) == {}
