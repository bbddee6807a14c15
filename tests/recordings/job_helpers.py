"""A job service in memory, and answers for tests of the machine."""

from __future__ import annotations

import msgspec

from steno.ports.jobs import Job, TranscriptionRequest
from steno.recordings.job import plan
from steno.wire.recording_jobs import FoundJob, JobAnswer, JobStatus

RECORDING = "5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01"
REQUEST = TranscriptionRequest(RECORDING)
NOW_US = 1_800_000_000_000_000
S = 1_000_000
WORDS = msgspec.Raw(b"[]")


def a_job(request: TranscriptionRequest = REQUEST, *, batch: str = "", now_us: int = NOW_US) -> Job:
    return plan(request, host_group="api.example.com", now_us=now_us, batch=batch)


def an_answer(
    status: JobStatus = JobStatus.QUEUED,
    transcript_id: str = "t-1",
    *,
    told: str = "",
    error: str = "",
    words: msgspec.Raw | None = None,
) -> JobAnswer:
    return JobAnswer(transcript_id, status, told or status.value, error, words)


class Service:
    """Accepts submissions and remembers them.

    Args:
        knows_keys: A repeated key gets the job it has got before.
    """

    def __init__(self, *, knows_keys: bool) -> None:
        self.knows_keys = knows_keys
        self.jobs: list[tuple[str, TranscriptionRequest]] = []

    def submit(self, key: str, request: TranscriptionRequest) -> JobAnswer:
        held = [number for number, (each, _) in enumerate(self.jobs) if each == key]
        if held and self.knows_keys:
            return an_answer(transcript_id=f"t-{held[0]}")
        self.jobs.append((key, request))
        return an_answer(transcript_id=f"t-{len(self.jobs) - 1}")

    def look(self, recording_id: str) -> list[FoundJob]:
        """List by recording, telling keys only if they are known."""
        return [
            FoundJob(
                f"t-{number}",
                JobStatus.PROCESSING,
                key if self.knows_keys else "",
                request.recording_id,
                request.language,
                request.format,
            )
            for number, (key, request) in enumerate(self.jobs)
            if request.recording_id == recording_id
        ]

    def accepted(self, key: str) -> int:
        return sum(each == key for each, _ in self.jobs)
