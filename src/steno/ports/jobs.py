"""Transcription jobs as values, and the durable list of them.

``TranscriptionRequest`` and ``Job`` stand here because the wire, the machine and the store all
speak of them and none may know another. ``recordings.requests`` checks a request before it gets
into one, ``recordings.job`` alone decides how a job moves, a ``JobStore`` keeps what was decided.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

# --- values ----------------------------------------------------------------------------------


class TranscriptionRequest(msgspec.Struct, frozen=True, gc=False):
    """What one transcription is asked for with; the defaults are the document's.

    Attributes:
        recording_id: UUID, lower case.
        conversation_id: UUID of the conversation it is of; empty where the engine needs none.
        webhook: Where the service is to call; empty for none. It may hold a secret in its query:
            it belongs into the request and nowhere else, and ``repr`` leaves it out.
    """

    recording_id: str
    language: str = "en-US"
    format: str = "text"
    speaker_diarization: bool = True
    word_confidence: bool = True
    timestamps: bool = True
    webhook: str = ""
    conversation_id: str = ""

    def __repr__(self) -> str:
        return f"TranscriptionRequest(recording_id={self.recording_id!r})"


class JobState(StrEnum):
    """Where a job stands (``recordings.job`` holds the legal moves)."""

    PLANNED = "planned"
    SUBMITTING = "submitting"
    IN_DOUBT = "in_doubt"
    SUBMITTED = "submitted"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})
"""States that nothing leads out of."""


class Job(msgspec.Struct, frozen=True, gc=False):
    """One job at one moment. All times are UTC microseconds, 0 where there is none.

    Attributes:
        id: UUIDv5 of host group, engine and request: its name, and the key that makes a repeated
            submission recognisable to the service.
        version: Counts the moves. A store takes a job only if it holds the version before.
        batch: Id of the batch it came with; empty for none.
        engine: Who transcribes: a fixed word.
        transcript_id: The service's id of the job; empty before the service told it.
        service_status: ``queued``, ``processing``, or the service's own word for something else.
        attempts: Calls that failed since the last one that succeeded.
        submissions: Submissions begun.
        polls: Answers to polls.
        next_due_us: When there is something to do for it.
        started_us: First submission begun; the total deadline counts from here.
        submitted_us: The service was first known to have it.
        deadline_us: When it fails for lack of time; 0 before it was started.
        paused_us: Since when it is paused; 0 when it is not.
        reason: Why it failed, or what its last call failed with: a fixed word of ours.
        code: The service's own word for that, where it is one dotted word.
        out: Path or address that its transcript is written to, ``{recording}`` standing for the
            id; empty where the run that completes it decides.
        redact: Personal data is removed from what is written and sent.
    """

    id: str
    request: TranscriptionRequest
    created_us: int
    batch: str = ""
    engine: str = "service"
    state: JobState = JobState.PLANNED
    version: int = 0
    transcript_id: str = ""
    service_status: str = ""
    attempts: int = 0
    submissions: int = 0
    polls: int = 0
    next_due_us: int = 0
    started_us: int = 0
    submitted_us: int = 0
    ended_us: int = 0
    deadline_us: int = 0
    paused_us: int = 0
    reason: str = ""
    code: str = ""
    out: str = ""
    redact: bool = True

    @property
    def has_ended(self) -> bool:
        """Nothing more will happen to it."""
        return self.state in ENDED

    @property
    def is_active(self) -> bool:
        """It has not ended and is not paused."""
        return not self.paused_us and self.state not in ENDED


class WishKind(StrEnum):
    """What an operator wants of a job."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


class Wish(msgspec.Struct, frozen=True, gc=False):
    """A wish left beside the owner of the jobs, who grants it.

    ``number`` grows with every wish; a job has at most one, the newest.
    """

    number: int
    job_id: str
    kind: WishKind


class JobFilter(msgspec.Struct, frozen=True, gc=False):
    """Which jobs to list; what is empty or None does not restrict."""

    batch: str = ""
    states: tuple[JobState, ...] = ()
    recording_id: str = ""
    paused: bool | None = None


class ListedJob(msgspec.Struct, frozen=True, gc=False):
    """A job and its place in the list, from which the next page goes on."""

    position: int
    job: Job


class EndedJob(msgspec.Struct, frozen=True, gc=False):
    """An ended job and the facts stored with its end; empty where there were none."""

    job: Job
    facts: bytes = b""


class JobCounts(msgspec.Struct, frozen=True, gc=False):
    """Jobs in each state (absent for none), and how many of them are paused."""

    states: dict[JobState, int]
    paused: int = 0

    @property
    def total(self) -> int:
        """All jobs."""
        return sum(self.states.values())

    @property
    def ended(self) -> int:
        """Jobs to which nothing more will happen."""
        return sum(count for state, count in self.states.items() if state in ENDED)


# --- the store -------------------------------------------------------------------------------


class JobStore(Protocol):
    """The durable list of jobs. One owner writes; others read, and leave wishes.

    Every method may raise ``StorageError``; then nothing of the call was stored.
    """

    async def add(self, jobs: Sequence[Job]) -> list[bool]:
        """Store new jobs; True for each that was new, False for an id already known.

        One that is known stays as it is, but while it has not ended it takes the newer ``redact``
        and, where there is one, ``out``: they say how its transcript is wanted, not which.

        A long list is stored in several transactions, in order: after an error, a beginning of it
        may be there. To add it again is harmless.
        """

    async def move(self, job: Job, *, granted: int = 0, facts: bytes = b"") -> bool:
        """Replace the version before ``job``'s by it, durably; False if that is not what is held.

        Args:
            granted: Number of the wish that this move fulfils: it is gone with it, and a newer
                one is not.
            facts: What has to be told of the job's end, stored together with it.
        """

    async def settle(self, job_id: str) -> None:
        """Note that everybody was told of a job's end: it is no longer ``unsettled``."""

    async def unsettled(self, *, limit: int) -> list[EndedJob]:
        """Return ended jobs that are not settled, in the order in which they were added."""

    async def get(self, job_id: str) -> Job | None:
        """Return a job as it is held now."""

    async def due(self, now_us: int, *, limit: int, excluding: Collection[str] = ()) -> list[Job]:
        """Return active jobs with something to do: begun ones, then those only planned.

        Of each the longest due first. So a long list does not keep what was begun waiting until
        its deadline.

        Args:
            excluding: Ids of jobs in hand.
        """

    async def next_due_us(self, *, excluding: Collection[str] = ()) -> int | None:
        """Return when the next active job is due; None where there is none."""

    async def wishes(self, *, limit: int) -> list[Wish]:
        """Return wishes not yet granted, oldest first."""

    async def dismiss(self, numbers: Sequence[int]) -> None:
        """Forget wishes that change nothing."""

    async def wish(self, kind: WishKind, *, job_id: str = "", batch: str = "") -> int:
        """Leave a wish for one job, or for every job of a batch that has not ended.

        Returns:
            The number of jobs it is for; 0 where there is none such, or all have ended.
        """

    async def counts(self, *, batch: str = "") -> JobCounts:
        """Return how many jobs, of a batch or of all, are in each state."""

    async def page(
        self, wanted: JobFilter | None = None, *, limit: int = 100, after: int = 0
    ) -> list[ListedJob]:
        """Return jobs in the order in which they were added, behind position ``after``."""

    async def owners(self, transcript_ids: Sequence[str]) -> dict[str, str]:
        """Return the job that each of the service's ids belongs to, as far as any does."""

    async def clamp(self, latest_us: int) -> int:
        """Bring forward every due time later than ``latest_us``; return how many there were.

        For a start after the clock was set back: no job may sleep until the old time comes.
        """
