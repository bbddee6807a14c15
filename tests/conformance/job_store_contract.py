"""What every ``ports.jobs.JobStore`` must do; an adapter's test class inherits it."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AbstractAsyncContextManager

import msgspec

from steno.ports.jobs import (
    EndedJob,
    Job,
    JobFilter,
    JobState,
    JobStore,
    TranscriptionRequest,
    WishKind,
)

NOW_US = 1_800_000_000_000_000
FULL_JOB = Job(
    "0b9d7a44-2c5e-4f10-8e3b-6a1c9d5e7f22",
    TranscriptionRequest(
        "5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01", "de-DE", "vtt", False, False, False, "https://h/"
    ),
    1, "batch", "platform", JobState.SUBMITTED, 7, "transcript", "archiving", 2, 3, 4, 5, 6, 8, 9,
    10, 11, "reason", "code", "/out/{recording}.vtt", False,
)  # fmt: skip


def some_job(number: int = 0, *, batch: str = "", due_us: int = NOW_US) -> Job:
    name = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{batch}/{number}"))
    return Job(name, TranscriptionRequest(name), NOW_US, batch, next_due_us=due_us)


def after(job: Job, **changes: object) -> Job:
    return msgspec.structs.replace(job, version=job.version + 1, **changes)


class JobStoreContract:
    """Rules of the port. ``opened`` gives a fresh store each time it is entered."""

    def opened(self) -> AbstractAsyncContextManager[JobStore]:
        raise NotImplementedError

    async def test_every_field_comes_back(self) -> None:
        """As it was stored, whether added or moved to."""
        async with self.opened() as store:
            assert await store.add([FULL_JOB]) == [True]
            assert await store.get(FULL_JOB.id) == FULL_JOB
            other = some_job(1)
            await store.add([other])
            kept = {"id", "request", "created_us", "batch", "engine", "version", "out", "redact"}
            moved = after(
                other,
                **{
                    name: getattr(FULL_JOB, name)
                    for name in Job.__struct_fields__
                    if name not in kept
                },
            )
            assert await store.move(moved)
            assert await store.get(other.id) == moved
            assert await store.get("unknown") is None

    async def test_a_known_id_is_not_added_again(self) -> None:
        """It keeps what became of it."""
        async with self.opened() as store:
            job = some_job()
            await store.add([job])
            moved = after(job, state=JobState.COMPLETED)
            assert await store.move(moved)
            assert await store.add([job, some_job(1), some_job(1)]) == [False, True, False]
            assert await store.get(job.id) == moved

    async def test_a_known_job_takes_how_its_transcript_is_wanted_until_it_ends(self) -> None:
        """The newer word on redaction, and the newer place where one is named."""
        async with self.opened() as store:
            job = msgspec.structs.replace(some_job(), out="a", redact=False)
            await store.add([job])
            await store.add([msgspec.structs.replace(job, out="", redact=True)])
            held = msgspec.structs.replace(job, redact=True)
            assert await store.get(job.id) == held
            await store.add([msgspec.structs.replace(job, out="b")])
            held = msgspec.structs.replace(held, out="b", redact=False)
            assert await store.get(job.id) == held
            ended = after(held, state=JobState.COMPLETED, ended_us=1)
            assert await store.move(ended)
            await store.add([job])
            assert await store.get(job.id) == ended

    async def test_a_move_needs_the_version_before(self) -> None:
        """Of two moves from one version, one is taken."""
        async with self.opened() as store:
            job = some_job()
            await store.add([job])
            moves = [after(job, state=JobState.SUBMITTING), after(job, state=JobState.CANCELLED)]
            taken = await asyncio.gather(*map(store.move, moves))
            assert sorted(taken) == [False, True]
            assert await store.get(job.id) == moves[taken.index(True)]
            assert not await store.move(job)
            assert not await store.move(after(some_job(1)))

    async def test_what_is_due_comes_longest_due_first(self) -> None:
        """Not what is later, paused or ended, and not what is in hand."""
        async with self.opened() as store:
            jobs = [some_job(n, due_us=NOW_US - n) for n in range(6)]
            await store.add([*jobs, some_job(9, due_us=NOW_US + 5)])
            await store.move(after(jobs[5], paused_us=1))
            await store.move(after(jobs[4], state=JobState.FAILED))
            assert await store.due(NOW_US, limit=9) == [jobs[3], jobs[2], jobs[1], jobs[0]]
            held = {jobs[3].id, jobs[1].id}
            assert await store.due(NOW_US, limit=1, excluding=held) == [jobs[2]]
            assert await store.next_due_us() == NOW_US - 3
            everything = {job.id for job in jobs}
            assert await store.next_due_us(excluding=everything) == NOW_US + 5
            assert await store.due(NOW_US - 10, limit=9) == []

    async def test_what_was_begun_goes_before_what_is_planned(self) -> None:
        """However long the planned jobs are due."""
        async with self.opened() as store:
            planned = [some_job(n, due_us=NOW_US - 9) for n in range(3)]
            begun = after(some_job(7), state=JobState.SUBMITTED)
            await store.add([*planned, begun])
            due = await store.due(NOW_US, limit=2)
            assert due[0] == begun
            assert due[1] in planned
            assert len(await store.due(NOW_US, limit=9)) == 4

    async def test_an_end_is_unsettled_with_its_facts_until_it_is_settled(self) -> None:
        """Whoever must be told is told after a restart, too."""
        async with self.opened() as store:
            first, second = some_job(1), some_job(2)
            await store.add([first, second])
            assert await store.unsettled(limit=9) == []
            ends = [after(each, state=JobState.FAILED, ended_us=5) for each in (first, second)]
            assert await store.move(ends[0], facts=b"{}")
            assert await store.move(ends[1])
            assert not await store.move(ends[1], facts=b"later")
            assert await store.unsettled(limit=9) == [
                EndedJob(ends[0], b"{}"), EndedJob(ends[1], b"")
            ]  # fmt: skip
            assert len(await store.unsettled(limit=1)) == 1
            await store.settle(first.id)
            assert await store.unsettled(limit=9) == [EndedJob(ends[1], b"")]

    async def test_jobs_in_every_state_but_the_ends_become_due(self) -> None:
        """A submission in doubt must not be forgotten after a restart."""
        async with self.opened() as store:
            for number, state in enumerate(JobState):
                await store.add([after(some_job(number), state=state)])
            due = await store.due(NOW_US, limit=99)
            assert {job.state for job in due} == {
                JobState.PLANNED, JobState.SUBMITTING, JobState.IN_DOUBT, JobState.SUBMITTED
            }  # fmt: skip

    async def test_counts_by_state_of_a_batch_or_of_all(self) -> None:
        """With those that are paused."""
        async with self.opened() as store:
            first, second, third = (some_job(n, batch="a") for n in range(3))
            await store.add([first, second, third, some_job(0, batch="b")])
            await store.move(after(first, state=JobState.COMPLETED))
            await store.move(after(second, paused_us=5))
            counts = await store.counts(batch="a")
            assert counts.states == {JobState.COMPLETED: 1, JobState.PLANNED: 2}
            assert (counts.paused, counts.total, counts.ended) == (1, 3, 1)
            everything = await store.counts()
            assert (everything.total, everything.paused) == (4, 1)
            assert (await store.counts(batch="none")).total == 0

    async def test_pages_hold_every_job_once_in_the_order_added(self) -> None:
        """However small they are."""
        async with self.opened() as store:
            jobs = [some_job(n) for n in range(7)]
            await store.add(jobs)
            found: list[Job] = []
            position = 0
            while page := await store.page(limit=3, after=position):
                found += [each.job for each in page]
                position = page[-1].position
            assert found == jobs

    async def test_a_listing_is_restricted_by_each_filter(self) -> None:
        """And by all of them together."""
        async with self.opened() as store:
            jobs = [some_job(n, batch="ab"[n % 2]) for n in range(4)]
            await store.add(jobs)
            done, paused = after(jobs[0], state=JobState.FAILED), after(jobs[1], paused_us=5)
            await store.move(done)
            await store.move(paused)
            for wanted, expected in (
                (JobFilter(batch="a"), [done, jobs[2]]),
                (JobFilter(states=(JobState.FAILED,)), [done]),
                (JobFilter(states=(JobState.FAILED, JobState.PLANNED)), [done, paused, *jobs[2:]]),
                (JobFilter(recording_id=jobs[3].request.recording_id.upper()), [jobs[3]]),
                (JobFilter(paused=True), [paused]),
                (JobFilter(paused=False, batch="b"), [jobs[3]]),
            ):
                assert [each.job for each in await store.page(wanted)] == expected

    async def test_the_newest_wish_of_a_job_stands_until_it_is_granted(self) -> None:
        """And a wish left while an older one was being granted is not lost with it."""
        async with self.opened() as store:
            job = some_job()
            await store.add([job])
            assert await store.wish(WishKind.PAUSE, job_id=job.id) == 1
            (pause,) = await store.wishes(limit=9)
            assert (pause.kind, pause.job_id) == (WishKind.PAUSE, job.id)
            assert await store.wish(WishKind.CANCEL, job_id=job.id) == 1
            assert await store.move(after(job, paused_us=1), granted=pause.number)
            (cancel,) = await store.wishes(limit=9)
            assert cancel.kind is WishKind.CANCEL
            assert not await store.move(after(job), granted=cancel.number)  # an old version
            assert await store.wishes(limit=9) == [cancel]
            ended = after(after(job), state=JobState.CANCELLED)
            assert await store.move(ended, granted=cancel.number)
            assert await store.wishes(limit=9) == []

    async def test_wishes_are_for_jobs_that_have_not_ended(self) -> None:
        """One of them, or all of a batch, in the order added."""
        async with self.opened() as store:
            jobs = [some_job(n, batch="a") for n in range(3)]
            await store.add([*jobs, some_job(0, batch="b")])
            await store.move(after(jobs[1], state=JobState.COMPLETED))
            assert await store.wish(WishKind.PAUSE, batch="a") == 2
            assert await store.wish(WishKind.PAUSE, job_id=jobs[1].id) == 0
            assert await store.wish(WishKind.PAUSE, job_id="unknown") == 0
            wishes = await store.wishes(limit=9)
            assert [wish.job_id for wish in wishes] == [jobs[0].id, jobs[2].id]
            assert await store.wishes(limit=1) == wishes[:1]
            await store.dismiss([wishes[0].number])
            assert await store.wishes(limit=9) == wishes[1:]

    async def test_the_services_ids_lead_to_their_jobs(self) -> None:
        """Any number of them; unknown ones are left out."""
        async with self.opened() as store:
            job = some_job()
            await store.add([job])
            await store.move(after(job, transcript_id="t-1"))
            assert await store.owners([*map(str, range(1200)), "t-1"]) == {"t-1": job.id}

    async def test_due_times_are_brought_forward(self) -> None:
        """After the clock was set back, nothing sleeps for years."""
        async with self.opened() as store:
            await store.add([some_job(0), some_job(1, due_us=NOW_US + 10**15)])
            assert await store.clamp(NOW_US + 5) == 1
            assert len(await store.due(NOW_US + 5, limit=9)) == 2
