"""The job service's memory: jobs, what becomes of them, and the count of all that was accepted.

Pure: ``now`` is monotonic seconds. A job goes queued -> processing -> its end, by the clock
alone; nobody has to poll for it. What becomes of it follows from the recording.
"""

from __future__ import annotations

import heapq
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from steno_sim.recordings.settings import JobSettings
from steno_sim.recordings.talk import draw, recording_id

Fate = Literal["completed", "failed", "never", "no_result", "bad_words", "silent"]
Status = Literal["queued", "processing", "completed", "failed"]
MAX_JOBS = 1_000_000
MAX_DOUBLED = 20
_FATES: tuple[Fate, ...] = ("failed", "never", "no_result", "bad_words", "silent")


class Full(Exception):
    """More jobs than are kept."""


class KeyReused(Exception):
    """The idempotency key came with another body before."""


class Asked(msgspec.Struct, frozen=True):
    """What a submission asks for."""

    recording_id: str
    language: str = "en-US"
    format: str = "text"
    speaker_diarization: bool = True
    word_confidence: bool = True
    timestamps: bool = True
    webhook: str = ""


class Job(msgspec.Struct, frozen=True):
    """One accepted job; times are monotonic seconds, ``accepted_at`` counts from 1."""

    id: str
    asked: Asked
    key: str
    client: str
    number: int
    accepted_s: float
    begins_s: float
    ends_s: float
    fate: Fate

    def status(self, now: float) -> Status:
        """Tell how far it is."""
        if now < self.begins_s:
            return "queued"
        if now < self.ends_s or self.fate == "never":
            return "processing"
        return "failed" if self.fate == "failed" else "completed"


class JobBook:
    """Jobs of one service, at most ``MAX_JOBS``.

    Attributes:
        submissions: Jobs accepted for each recording: more than one is a double submission.
        keyed: Submissions that came with each idempotency key, whether or not keys are honoured.
        repeated: Submissions that an idempotency key led to the job there was.
        peak_open: Most jobs that were neither completed nor failed at one time.
    """

    def __init__(self, settings: JobSettings) -> None:
        self.settings = settings
        self.submissions: Counter[str] = Counter()
        self.keyed: Counter[str] = Counter()
        self.repeated = 0
        self.peak_open = 0
        self._jobs: dict[str, Job] = {}
        self._by_recording: dict[str, list[Job]] = {}
        self._by_key: dict[tuple[str, str], Job] = {}
        self._ends: list[float] = []
        self._never = 0
        self._known: frozenset[str] | None = None

    # --- recordings -------------------------------------------------------------------

    def recordings(self) -> Iterator[str]:
        """Give the ids of the recordings there are."""
        for number in range(self.settings.recordings):
            yield recording_id(self.settings.seed, number)

    def refusal(self, recording: str) -> int:
        """Give the status with which a recording is refused: 404, 403, or 0 for none."""
        settings = self.settings
        if settings.only_known:
            if self._known is None:
                self._known = frozenset(self.recordings())
            if recording not in self._known:
                return 404
        if settings.missing or settings.forbidden:
            at = draw(settings.seed, recording, "refusal").random()
            if at < settings.missing:
                return 404
            if at < settings.missing + settings.forbidden:
                return 403
        return 0

    def fate(self, recording: str) -> Fate:
        """Tell what becomes of the jobs of a recording."""
        at = draw(self.settings.seed, recording, "fate").random()
        for name in _FATES:
            at -= getattr(self.settings, name)
            if at < 0:
                return name
        return "completed"

    def words(self, recording: str) -> int:
        """Tell how many words a recording has."""
        if self.fate(recording) == "silent":
            return 0
        return draw(self.settings.seed, recording, "words").randint(*self.settings.words)

    # --- jobs -------------------------------------------------------------------------

    def submit(self, asked: Asked, *, now: float, client: str = "", key: str = "") -> Job:
        """Accept a job, or give the one that the client's key stands for already.

        Raises:
            Full: ``MAX_JOBS`` are kept.
            KeyReused: The key was used for another request.
        """
        settings = self.settings
        if key:
            self.keyed[key] += 1
        key = key if settings.keys else ""
        before = self._by_key.get((client, key)) if key else None
        if before is not None:
            if before.asked != asked:
                raise KeyReused
            self.repeated += 1
            return before
        if len(self._jobs) >= MAX_JOBS:
            raise Full
        number = self.submissions[asked.recording_id] + 1
        job = self._made(asked, key, client, number, now)
        self.submissions[asked.recording_id] = number
        self._jobs[job.id] = job
        self._by_recording.setdefault(asked.recording_id, []).append(job)
        if key:
            self._by_key[client, key] = job
        self._count_open(job, now)
        return job

    def _made(self, asked: Asked, key: str, client: str, number: int, now: float) -> Job:
        settings = self.settings
        dice = draw(settings.seed, asked.recording_id, f"delays/{number}")
        begins = now + dice.uniform(*settings.queued_s) / settings.clock
        ends = begins + dice.uniform(*settings.processing_s) / settings.clock
        job_id = str(uuid.UUID(int=dice.getrandbits(128), version=4))
        fate = self.fate(asked.recording_id)
        return Job(job_id, asked, key, client, number, now, begins, ends, fate)

    def _count_open(self, job: Job, now: float) -> None:
        if job.fate == "never":
            self._never += 1
        else:
            heapq.heappush(self._ends, job.ends_s)
        self.peak_open = max(self.peak_open, self.open(now))

    def open(self, now: float) -> int:
        """Count the jobs that have not come to an end."""
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        return len(self._ends) + self._never

    def get(self, job_id: str) -> Job | None:
        """Give a job, or None."""
        return self._jobs.get(job_id)

    def of_recording(self, recording: str, *, now: float) -> list[Job]:
        """Give the jobs of a recording that the list shows by now, oldest first."""
        lag = self.settings.listing_lag_s / self.settings.clock
        found = self._by_recording.get(recording, [])
        return [job for job in found if job.accepted_s + lag <= now]

    def jobs(self) -> Iterable[Job]:
        """Give every job, oldest first."""
        return self._jobs.values()

    def stats(self, now: float) -> dict[str, object]:
        """Give the counts; ``doubled`` names up to ``MAX_DOUBLED`` recordings."""
        statuses = Counter(job.status(now) for job in self._jobs.values())
        doubled = [name for name, count in self.submissions.items() if count > 1]
        return {
            "accepted": len(self._jobs),
            "repeated": self.repeated,
            "recordings": len(self.submissions),
            "doubled": len(doubled),
            "doubled_recordings": doubled[:MAX_DOUBLED],
            "doubled_keys": sum(count > 1 for count in self.keyed.values()),
            "statuses": dict(sorted(statuses.items())),
            "open": self.open(now),
            "peak_open": self.peak_open,
        }
