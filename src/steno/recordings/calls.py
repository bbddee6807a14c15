"""What the service of jobs asks of whoever transcribes, of the disk and of a webhook.

Ports of ``recordings.service``; adapters and ``app`` fill them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from steno.core.audit_chain import AuditEntry
from steno.ports.jobs import Job, TranscriptionRequest
from steno.wire.http import RateBudget
from steno.wire.recording_jobs import FoundJob, JobAnswer, RecordingFacts


class JobApi(Protocol):
    """The calls of a service that transcribes. One try each: the machine decides when again.

    Every call may raise ``AuthError``, ``TransportError``, ``ObjectMissing``, ``ProtocolError``.
    """

    @property
    def rate(self) -> RateBudget | None:
        """What the service last said of our rate."""

    @property
    def room(self) -> int | None:
        """Submissions it takes now; None where it takes any number."""

    async def ready(self) -> None:
        """Have in hand what a call needs, so that a submission fails for no lack of it."""

    async def submit(self, request: TranscriptionRequest, *, key: str, limit_s: float) -> JobAnswer:
        """Submit a job under a key. After ``limit_s`` nothing of it is on its way any more."""

    async def poll(
        self, transcript_id: str, request: TranscriptionRequest
    ) -> tuple[JobAnswer, float | None]:
        """Return how a job of this request stands, with its words where it is completed.

        And when the service wants to be asked again, seconds; None where it does not say.
        """

    async def look(self, request: TranscriptionRequest) -> list[FoundJob]:
        """Return the jobs that the service has of a recording."""

    async def preflight(self, request: TranscriptionRequest) -> RecordingFacts:
        """Return what is known of a recording; ``ObjectMissing`` where it is not there."""


ApiOf = Callable[[str], JobApi]
"""Returns the engine of a name; ``ConfigError`` where this process has none of that name."""


class WebhookDesk(Protocol):
    """Knows what became of the webhook of a job."""

    async def first_outcome(self, job: Job) -> str:
        """Return ``delivered``, ``failed: <class>`` or ``skipped`` after the first attempt.

        Called once the job's record is committed and its end is stored; after a crash, again.
        """


class Auditor(Protocol):
    """The audit log."""

    async def append(self, entry: AuditEntry) -> int:
        """Write an entry; return its number once it is durable."""


WriteFile = Callable[[Job, Iterator[bytes]], None]
"""Writes a job's transcript whole or not at all. Blocks; ``StorageError`` and the like come out."""
