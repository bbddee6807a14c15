"""Tells everybody of the end of a job: outbox, webhook, audit log, and last the store of jobs.

An end is *owed* from when it is stored until its entry is in the audit log. The rule that makes
entries and webhooks agree over every kill: **a webhook is sent only while somebody waits for its
outcome, or after the entry of its end was written.** So:

- The first outcome finds whoever settles the end, and is in the entry (``Expectation``).
- A kill before the entry: the webhook is not settled either. At the next start the end is owed,
  is waited for again, and the webhook is sent (again, with the same id); there is one entry.
- A kill between a job's record and its end: the webhook is held back until the job has ended once
  more, as its record is the same.
- A kill after the entry: the webhook is sent again, and told again; the attempt is found in the
  log and not entered twice.

Later outcomes are further entries: ``webhook_attempted``, or ``webhook_settled`` for the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from steno.core.audit_chain import timestamp
from steno.errors import LocalProtocolError, StorageError
from steno.ports import Commit, Telemetry
from steno.ports.jobs import EndedJob, Job, JobState, JobStore
from steno.recordings.calls import Auditor, Records, WrittenEntries
from steno.recordings.ending import (
    AttemptKey,
    Identity,
    attempt_entry,
    attempt_key,
    audit_entry,
    draft_of,
    read_facts,
)
from steno.recordings.webhooks import SKIPPED, Expectation, WebhookDesk, status_of
from steno.wire.webhooks import WebhookOutcome

FIRST_S: Final = 20.0
"""How long an entry waits for the first attempt: its limit is 10 s, and it may wait its turn."""

TURN_S: Final = 8.0
"""How long a webhook is held back before its record goes back to the outbox for a moment."""

MAX_OWED: Final = 10_000
MAX_TOLD: Final = 10_000
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Recorded:
    """An end whose record is committed and whose webhook is waited for until ``stack`` closes."""

    expectation: Expectation
    stack: ExitStack


class Ends:
    """Settles the ends of jobs, and enters what becomes of their webhooks later.

    Args:
        store: The list of jobs.
        auditor: Takes entries.
        written: Reads what earlier processes entered.
        first_s: How long an entry waits for the first attempt of its webhook.
        side_by_side: Ends of earlier processes that are settled at once.
        turn_s: How long a webhook is held back here.
    """

    def __init__(
        self,
        store: JobStore,
        auditor: Auditor,
        written: WrittenEntries,
        identity: Identity,
        telemetry: Telemetry,
        *,
        first_s: float = FIRST_S,
        side_by_side: int = 256,
        turn_s: float = TURN_S,
    ) -> None:
        self.desk = WebhookDesk(self._told_later)
        """Takes the outcomes of webhooks."""
        self._store = store
        self._auditor = auditor
        self._written = written
        self._identity = identity
        self._telemetry = telemetry
        self._first_s = first_s
        self._side_by_side = side_by_side
        self._turn_s = turn_s
        self._records: Records | None = None
        self._owed: set[str] = set()
        self._is_known = asyncio.Event()  # what earlier processes owe
        self._news: dict[str, asyncio.Event] = {}
        self._telling: dict[tuple[str, int, str], asyncio.Task[None]] = {}
        self._before: asyncio.Task[Mapping[AttemptKey, str]] | None = None

    def bind(self, records: Records) -> None:
        """Take the outbox, which is opened when its destinations are there already."""
        self._records = records

    # --- ends ------------------------------------------------------------------------------------

    @contextmanager
    def expecting(self, job_id: str) -> Iterator[Expectation]:
        """Wait for a job's webhook; to be entered before the job's record is committed.

        Raises:
            LocalProtocolError: Somebody waits for it already.
        """
        with self.desk.expecting(job_id) as expectation:
            self._tell_news(job_id)
            yield expectation

    def owe(self, job_id: str) -> None:
        """Note that an end is about to be stored, and its entry to be written."""
        self._owed.add(job_id)

    def forgive(self, job_id: str) -> None:
        """Note that an end was not stored after all."""
        self._owed.discard(job_id)
        self._tell_news(job_id)

    async def settle(self, end: EndedJob, recorded: Recorded | None = None) -> None:
        """Tell everybody of an end that is stored, then note that they were told.

        Args:
            recorded: Whose record is committed already.

        Raises:
            StorageError: A store or the audit log failed; the next start settles it.
        """
        job = end.job
        with ExitStack() as stack:
            if recorded is not None:
                expectation = recorded.expectation
                stack.enter_context(recorded.stack)
            else:
                expectation = stack.enter_context(self.expecting(job.id))
                if job.state is not JobState.COMPLETED:  # of one that is, it comes before the end
                    await self._outbox.submit(Commit((draft_of(job, None, self._identity),)))
            status, attempt = SKIPPED, 0
            if job.request.webhook:
                outcome = await expectation.first(self._first_s)
                status = status_of(outcome)
                attempt = outcome.attempt if outcome is not None else 0
            metrics = read_facts(job, end.facts)
            await self._auditor.append(audit_entry(job, metrics, status, self._identity, attempt))
            self.forgive(job.id)
        await self._store.settle(job.id)

    async def earlier(self) -> list[EndedJob]:
        """Return the ends that earlier processes owe; to be asked before any job ends here.

        Raises:
            StorageError: The list of jobs, or the audit log, cannot be read.
        """
        ends = await self._store.unsettled(limit=MAX_OWED)
        told = await self._written.ends(ends) if ends else ()
        for end in ends:
            if end.job.id in told:
                await self._store.settle(end.job.id)
        owed = [end for end in ends if end.job.id not in told]
        self.hold(end.job.id for end in owed)
        return owed

    async def settle_all(self, ends: Sequence[EndedJob]) -> None:
        """Settle ends that earlier processes owe.

        Raises:
            StorageError: As ``settle``.
        """
        limit = asyncio.Semaphore(self._side_by_side)

        async def settle(end: EndedJob) -> None:
            async with limit:
                await self.settle(end)

        await asyncio.gather(*map(settle, ends))

    def hold(self, job_ids: Iterable[str]) -> None:
        """Take note of what earlier processes owe; until then no webhook is sent."""
        self._owed.update(job_ids)
        self._is_known.set()

    @property
    def _outbox(self) -> Records:
        if self._records is None:
            raise LocalProtocolError("the records' store is not bound")
        return self._records

    # --- webhooks --------------------------------------------------------------------------------

    async def turn(self, job_id: str) -> bool:
        """Wait until a job's webhook may be sent; False if that takes too long for now.

        Raises:
            StorageError: The list of jobs cannot be read.
        """
        news = self._news.setdefault(job_id, asyncio.Event())
        try:
            async with asyncio.timeout(self._turn_s):
                await self._is_known.wait()
                while True:
                    news.clear()
                    if await self._may_be_sent(job_id):
                        return True
                    await news.wait()
        except TimeoutError:
            return False
        finally:
            if self._news.get(job_id) is news:
                del self._news[job_id]

    async def _may_be_sent(self, job_id: str) -> bool:
        if self.desk.expects(job_id):
            return True
        if job_id in self._owed:
            return False
        job = await self._store.get(job_id)
        return job_id not in self._owed and (job is None or job.has_ended)

    def _tell_news(self, job_id: str) -> None:
        if (news := self._news.get(job_id)) is not None:
            news.set()

    async def _told_later(self, outcome: WebhookOutcome) -> None:
        """Enter an outcome that nobody waits for; once, however often it is told.

        Raises:
            StorageError: It cannot be entered now.
        """
        if outcome.job_id in self._owed:
            raise StorageError("the end of a job is not in the audit log yet")
        key = (outcome.record_id, outcome.attempt, outcome.failure)
        task = self._telling.get(key)
        if task is None:
            # A task of its own: whoever tells gives up after a while, and tells again.
            task = asyncio.create_task(self._enter(outcome), name="webhook-entry")
            self._telling[key] = task
            task.add_done_callback(lambda done: self._entered(key, done))
        await asyncio.shield(task)

    def _entered(self, key: tuple[str, int, str], task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._telling.pop(key, None)
        while len(self._telling) > MAX_TOLD:
            del self._telling[next(iter(self._telling))]

    async def _enter(self, outcome: WebhookOutcome) -> None:
        job = await self._store.get(outcome.job_id)
        if job is None:
            self._telemetry.warning(
                "recordings.webhook_of_no_job",
                record_id=outcome.record_id,
                state=outcome.webhook_status,
            )
            return
        before = await self._entered_before()
        entry = attempt_entry(job, outcome, self._identity)
        at = before.get(attempt_key(entry))
        if at is not None and (entry.transcript_id or at >= _told_at(job)):
            return  # without a transcript, it may be of an earlier run of the same request
        await self._auditor.append(entry)

    async def _entered_before(self) -> Mapping[AttemptKey, str]:
        if self._before is None or (self._before.done() and self._before.exception() is not None):
            self._before = asyncio.create_task(self._written.attempts(), name="audit-attempts")
        return await asyncio.shield(self._before)


def _told_at(job: Job) -> str:
    return timestamp(datetime.fromtimestamp(max(1, job.ended_us) / _US, tz=UTC))
