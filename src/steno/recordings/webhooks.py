"""Webhooks of jobs between the outbox, which sends them, and the audit log, which tells of them.

``JobLanes`` stands between a relay and its store: every job waits for its own webhook only, what
waits is small, and attempts are counted over restarts. ``WebhookDesk`` hands outcomes on: the
first to whoever ended the job and waits for it, all others to a callback.

What survives a restart: the outbox holds each webhook that is not settled, with its attempts and
the time of the next. An outcome is told before the webhook is settled, so one that was not
written down when the process ended is told again by the next attempt. Waiting is in memory: after
a restart nobody waits, and first outcomes too go to the callback. So it writes the entry of the
job where there is none yet, and it may be told twice of the same attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from steno.core.records import Kind, Record
from steno.delivery.ids import position_of
from steno.delivery.outbox import RetryPolicy
from steno.delivery.relay import RelaySettings, RelayStore
from steno.errors import LocalProtocolError, SinkUnavailable, StenoError
from steno.ports import (
    BatchShape,
    DeliveryState,
    Outcome,
    Pending,
    Retry,
    Settlement,
    Sink,
    Unwanted,
)
from steno.wire.webhooks import RETRY_SCHEDULE_S, WebhookOutcome

DESTINATION: Final = "job-webhooks"
"""Name of the destination in the outbox."""

SKIPPED: Final = "skipped"
"""Status of a job whose request named no webhook."""

NOT_ATTEMPTED: Final = "failed: NotAttempted"
"""Status of a job whose first attempt did not end within the wait; a later entry tells."""

RELAY_SETTINGS: Final = RelaySettings(
    # Those that wait hours for their next attempt stay in memory, without their payloads: more
    # than this many of them would keep new ones in the store.
    memory_records=100_000,
    page_records=100,
    # The sink's own limits (turn, address, request, telling) end before the lease does.
    lease_s=45.0,
    # The delay of the schedule comes with each outcome and is the longer one. These spread what
    # finds a receiver busy with other jobs.
    retry=RetryPolicy(
        first_s=1.0,
        cap_s=60.0,
        max_attempts=len(RETRY_SCHEDULE_S),
        max_after_s=float(max(RETRY_SCHEDULE_S)),
    ),
)
"""For the relay of job webhooks."""

_WITH_WEBHOOK: Final = b'"webhook":true}'
"""How the payload of a job with a webhook ends: its last field, left out where there is none."""

MAX_COUNTED: Final = 2 * RELAY_SETTINGS.memory_records


class JobLanes:
    """The store as the relay of webhooks sees it: ``RelayStore``.

    A relay keeps the order of a conversation, here a recording. Two jobs of one recording have
    receivers of their own, so each record is given a lane of its own; ids stay as they are. And
    a relay holds what waits in memory: payloads stay in the store and are loaded to be sent.

    Args:
        destination: Name of the sink.
        capacity: Records whose attempts are held; more than a relay has in memory. Beyond it
            the oldest count is forgotten: its delays start over, its attempts do not.
    """

    def __init__(self, destination: str, *, capacity: int = MAX_COUNTED) -> None:
        self._destination = destination
        self._capacity = capacity
        self._attempts: dict[str, int] = {}
        self._plain: set[str] = set()
        self._store: RelayStore | None = None

    def bind(self, store: RelayStore) -> None:
        """Take the store, which is opened when its sinks are there already."""
        self._store = store

    def attempts(self, record_id: str) -> int:
        """Return the failed attempts of a record so far."""
        return self._attempts.get(record_id, 0)

    def laned(self, records: Sequence[Record]) -> list[Record]:
        """Return committed records as the relay is to be offered them."""
        return [self._laned(record) for record in records]

    def is_plain(self, record_id: str) -> bool:
        """Tell whether a record of the lanes is of a job without a webhook."""
        return record_id in self._plain

    async def load(self, record_id: str) -> Record | None:
        """Return a record with its payload; None when it is settled or erased.

        Raises:
            StorageError: Reading failed.
        """
        after = position_of(record_id) - 1
        found = await self._bound.pending(self._destination, limit=1, after=after)
        return found[0].record if found and found[0].record.id == record_id else None

    def settle(self, settlements: Sequence[Settlement]) -> asyncio.Future[None]:
        """Queue outcomes, see ``RecordStore.settle``, and count."""
        for settlement in settlements:
            self._plain.discard(settlement.record_id)
            tried = settlement.attempts if settlement.state is DeliveryState.RETRY else 0
            self._count(settlement.record_id, tried)
        return self._bound.settle(settlements)

    async def pending(self, destination: str, *, limit: int, after: int = 0) -> list[Pending]:
        """Return unsettled records, see ``RecordStore.pending``, as the relay is to have them."""
        found = await self._bound.pending(destination, limit=limit, after=after)
        for one in found:
            self._count(one.record.id, one.attempts)
        return [msgspec.structs.replace(one, record=self._laned(one.record)) for one in found]

    @property
    def _bound(self) -> RelayStore:
        if self._store is None:
            raise LocalProtocolError("the webhooks' store is not bound")
        return self._store

    def _laned(self, record: Record) -> Record:
        if record.kind is not Kind.JOB:
            return record
        if not record.payload.endswith(_WITH_WEBHOOK):
            self._plain.add(record.id)
        lane = f"{record.conversation}:{record.id}"
        return msgspec.structs.replace(record, conversation=lane, payload=b"")

    def _count(self, record_id: str, attempts: int) -> None:
        self._attempts.pop(record_id, None)
        if not attempts:
            return
        self._attempts[record_id] = attempts
        if len(self._attempts) > self._capacity:
            del self._attempts[next(iter(self._attempts))]


class HeldBack:
    """The sink of webhooks, each sent when it is its turn (``Ends.turn``).

    One that has to wait long goes back to the outbox for a moment; that costs it no attempt.

    Args:
        sink: Calls webhooks.
        turn: Waits until the webhook of a job may be sent; False: not now.
        is_plain: Tells of a record that there is no webhook to call.
    """

    def __init__(
        self,
        sink: Sink,
        turn: Callable[[str], Awaitable[bool]],
        is_plain: Callable[[str], bool] = lambda record_id: False,
    ) -> None:
        self._sink = sink
        self._turn = turn
        self._is_plain = is_plain

    @property
    def name(self) -> str:
        """Destination name."""
        return self._sink.name

    @property
    def kinds(self) -> frozenset[Kind]:
        """Ends of jobs."""
        return self._sink.kinds

    @property
    def shape(self) -> BatchShape:
        """As of the sink."""
        return self._sink.shape

    async def deliver(self, records: Sequence[Record]) -> list[Outcome]:
        """Hand records on; see ``ports.Sink``.

        Raises:
            SinkUnavailable: Of the sink, or the list of jobs cannot be read.
        """
        if all(self._is_plain(record.id) for record in records):
            return [Unwanted()] * len(records)
        try:
            turns = [await self._turn(record.utterance) for record in records]
        except StenoError as error:
            raise SinkUnavailable(cause=error.error_class) from error
        if not all(turns):
            return [Retry("RateLimited")] * len(records)  # of ``outbox.PATIENT``
        return await self._sink.deliver(records)

    async def close(self) -> None:
        """Close the sink."""
        await self._sink.close()


class Expectation:
    """One job's first outcome, awaited by whoever ended the job."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[WebhookOutcome] = loop.create_future()
        self.closed: asyncio.Future[bool] = loop.create_future()
        self._is_read = False

    async def first(self, timeout_s: float) -> WebhookOutcome | None:
        """Return the first outcome, or None when it takes longer (``status_of`` knows both).

        With None the outcome goes to the desk's callback once it is there.
        """
        try:
            async with asyncio.timeout(timeout_s):
                outcome = await asyncio.shield(self.answered)
        except TimeoutError:
            return None
        self._is_read = True
        return outcome

    def close(self, *, is_done: bool) -> None:
        """Let the desk go on; the outcome counts as told if it was read and all went well."""
        if not self.closed.done():
            self.closed.set_result(is_done and self._is_read)


class WebhookDesk:
    """Hands outcomes of webhooks to who waits for them.

    Args:
        on_later: Takes every outcome that nobody waits for. What it raises of ours is raised
            by ``told``: the outcome comes again.
    """

    def __init__(self, on_later: Callable[[WebhookOutcome], Awaitable[None]]) -> None:
        self._on_later = on_later
        self._expected: dict[str, Expectation] = {}

    @contextmanager
    def expecting(self, job_id: str) -> Iterator[Expectation]:
        """Wait for a job's first outcome; to be entered before its record is committed.

        Inside, the record is committed, the outcome awaited and written down. Its webhook is
        settled after the block only, so keep it short.

        Raises:
            LocalProtocolError: Somebody waits for this job already.
        """
        if job_id in self._expected:
            raise LocalProtocolError("a job's webhook is waited for twice")
        expectation = self._expected[job_id] = Expectation()
        is_done = False
        try:
            yield expectation
            is_done = True
        finally:
            del self._expected[job_id]
            expectation.close(is_done=is_done)

    def expects(self, job_id: str) -> bool:
        """Tell whether somebody waits for the outcome of a job's webhook."""
        return job_id in self._expected

    async def told(self, outcome: WebhookOutcome) -> None:
        """Take an outcome; on return somebody has written it down.

        Raises:
            StenoError: It could not be.
        """
        expectation = self._expected.get(outcome.job_id)
        if expectation is not None:
            if not expectation.answered.done():
                expectation.answered.set_result(outcome)
            is_taken = await asyncio.shield(expectation.closed)
            if is_taken and expectation.answered.result() == outcome:
                return
        await self._on_later(outcome)


def status_of(outcome: WebhookOutcome | None) -> str:
    """Return the audit log's ``webhook_status`` for what ``Expectation.first`` gave."""
    return NOT_ATTEMPTED if outcome is None else outcome.webhook_status
