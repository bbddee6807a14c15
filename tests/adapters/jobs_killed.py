"""Runs a batch of jobs against a service in a file, until it ends or is killed on the way.

Usage: jobs_killed.py DIRECTORY PLACE:N   (places: commit.before, commit.after, send.before,
send.after; the N-th time it comes there it kills itself)

The service ignores idempotency keys: every submission is a job of its own, written to the file
``accepted``. One step is done at a time, so that it is known which commit is whose. Time is a
number that is put forward to the next due job.
"""

# ruff: noqa: T201  # its standard output is what it has to say

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from pathlib import Path

import msgspec

from steno.adapters.job_store import SqliteJobStore
from steno.ports.jobs import Job, TranscriptionRequest
from steno.recordings.job import JobMachine, Keep, Look, Poll, Submit, Wait, plan
from steno.wire.recording_jobs import FoundJob, JobAnswer, JobStatus

WORDS = msgspec.Raw(b"[]")
JOBS = 12


class Killer:
    def __init__(self, place: str) -> None:
        self._place, _, count = place.partition(":")
        self._left = int(count)

    def __call__(self, place: str) -> None:
        self._left -= place == self._place
        if self._left == 0 and place == self._place:
            os.kill(os.getpid(), signal.SIGKILL)


class Service:
    def __init__(self, file: Path) -> None:
        self._file = file

    def accepted(self) -> list[str]:
        return self._file.read_text().split() if self._file.exists() else []

    def submit(self, recording: str) -> str:
        with self._file.open("a") as file:
            file.write(f"{recording}\n")
        return f"t-{len(self.accepted())}"

    def look(self, recording: str) -> list[FoundJob]:
        return [
            FoundJob(f"t-{number}", JobStatus.PROCESSING, "", each, "en-US", "text")
            for number, each in enumerate(self.accepted(), 1)
            if each == recording
        ]


class Runner:
    def __init__(self, store: SqliteJobStore, service: Service, kill: Killer) -> None:
        self._store = store
        self._service = service
        self._kill = kill
        self._machine = JobMachine()
        self.now_us = 1_800_000_000_000_000

    async def step(self, job: Job) -> None:
        step = self._machine.next_step(job, self.now_us)
        match step:
            case Submit(intent=intent):
                assert await self._store.move(intent)
                self._kill("send.before")
                found = self._service.submit(intent.request.recording_id)
                self._kill("send.after")
                answer = JobAnswer(found, JobStatus.QUEUED, "queued")
                after = self._machine.accepted(intent, answer, self.now_us, 0.5)
            case Look():
                listed = self._service.look(job.request.recording_id)
                owned = await self._store.owners([each.id for each in listed])
                after = self._machine.looked(job, listed, owned, self.now_us)
            case Poll():
                answer = JobAnswer(job.transcript_id, JobStatus.COMPLETED, "completed", "", WORDS)
                after = self._machine.polled(job, answer, self.now_us, 0.5)
            case Keep(job=after):
                pass
            case Wait():
                return
        assert await self._store.move(after)

    async def run(self) -> None:
        while (due_us := await self._store.next_due_us()) is not None:
            self.now_us = max(self.now_us, due_us)
            for job in await self._store.due(self.now_us, limit=1):
                await self.step(job)


async def main(folder: Path, place: str) -> None:
    kill = Killer(place)
    store = SqliteJobStore.open(folder / "jobs.db", crash=kill)
    runner = Runner(store, Service(folder / "accepted"), kill)
    await store.add(
        [
            plan(
                TranscriptionRequest(str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))),
                host_group="h",
                now_us=runner.now_us,
            )
            for number in range(JOBS)
        ]
    )
    await runner.run()
    print("ended", (await store.counts()).ended)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
