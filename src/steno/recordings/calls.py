"""What the service of jobs asks of whoever transcribes, of the disk and of a webhook.

Ports of ``recordings.service``; adapters and ``app`` fill them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol

from steno.core.audit_chain import AuditEntry
from steno.core.records import Record
from steno.ports import Commit
from steno.ports.jobs import EndedJob, Job, TranscriptionRequest
from steno.recordings.ending import AttemptKey
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


class Records(Protocol):
    """The outbox."""

    def submit(self, commit: Commit) -> asyncio.Future[list[Record]]:
        """Queue a commit; the future is done when it is durable."""


class Auditor(Protocol):
    """The audit log."""

    async def append(self, entry: AuditEntry) -> int:
        """Write an entry; return its number once it is durable."""


class WrittenEntries(Protocol):
    """The audit log as earlier processes left it.

    Both calls may raise ``StorageError``.
    """

    async def ends(self, ends: Sequence[EndedJob]) -> Collection[str]:
        """Return the ids of ended jobs that have the entry of their end already."""

    async def attempts(self) -> Mapping[AttemptKey, str]:
        """Return the attempts to call webhooks that were entered, with the latest time of each."""


WriteFile = Callable[[Job, Callable[[], Iterator[bytes]]], None]
"""Writes a job's transcript whole or not at all, where one is wanted: only then are its pieces
asked for. Blocks; ``StorageError`` and the like come out, and what making the pieces raises."""
