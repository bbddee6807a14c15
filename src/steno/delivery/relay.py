"""Lease, hand over, settle: one relay for each destination.

Records come straight from the commit (``offer``) into one lane per conversation, in memory and
bounded in all. When the bound is reached, and at the start, the relay reads from the store
instead: ``_read_to`` is the position up to which records are in the lanes, everything behind it
is fetched page by page while there is room, and offers are let go until that has caught up. So
neither a slow consumer nor a long outage fills memory, and no conversation is reordered.

A lane has at most one batch under way. Lanes that can send stand in ``_ready``; workers take a
batch from as many of them as the sink's shape allows, hand it over, settle it and take the next,
so a task is made for a burst and not for a batch. A lane waiting for its next try is in
``_later``. When the destination itself is unavailable everything waits for the circuit breaker,
and no record counts an attempt, unless others got through meanwhile: then it is the record (but
never where the consumer speaks of our credentials or of its load, see ``outbox.PATIENT``).

A lease ends after ``lease_s``: the records go back to their lanes, and what the sink still says
about them is ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count, islice, takewhile
from typing import Protocol

import msgspec

from steno.core.records import Record
from steno.core.timing import Backoff, CircuitBreaker, CircuitState
from steno.delivery.ids import position_of, position_us
from steno.delivery.outbox import RetryPolicy, decide, reason_of
from steno.errors import LeaseLost, SinkUnavailable, StenoError
from steno.ports import (
    Ack,
    DeliveryState,
    Outcome,
    Pending,
    Retry,
    Settlement,
    Sink,
    Telemetry,
)

_US = 1_000_000
_TICK_S = 1.0


class RelayStore(Protocol):
    """What the relay needs of ``ports.RecordStore``."""

    def settle(self, settlements: Sequence[Settlement]) -> asyncio.Future[None]:
        """Queue outcomes."""

    async def pending(self, destination: str, *, limit: int, after: int = 0) -> list[Pending]:
        """Return unsettled records, oldest first, behind position ``after``."""


class RelaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and times of a relay; seconds where not named otherwise.

    Attributes:
        memory_records: Most records held in memory; more stay in the store.
        page_records: Records read from the store at once.
        lease_s: How long a sink may take for a batch.
        settle_wait_s: How long outcomes are gathered before they go to the store.
        settle_records: Outcomes that end that wait.
        stop_s: How long what is under way may take to end when stopping.
        breaker_failures: Failures in a row after which the destination is left alone.
        first_pause_s, cap_pause_s: Shortest and longest pause for an unavailable destination.
        retry: How often and how far apart a record is tried.
    """

    memory_records: int = 10_000
    page_records: int = 500
    lease_s: float = 30.0
    settle_wait_s: float = 0.005
    settle_records: int = 1000
    stop_s: float = 5.0
    breaker_failures: int = 5
    first_pause_s: float = 0.1
    cap_pause_s: float = 15.0
    retry: RetryPolicy = RetryPolicy()


_IDLE, _READY, _LATER, _BUSY = "idle", "ready", "later", "busy"


class _Item(msgspec.Struct, gc=False):
    """A record on its way. ``since`` is when it came to the relay, monotonic seconds.

    ``waits`` counts how often it was put off without an attempt being counted.
    """

    record: Record
    attempts: int
    since: float
    waits: int = 0

    @property
    def is_tried(self) -> bool:
        """It has come back before."""
        return self.attempts > 0 or self.waits > 0


class _Lane:
    """The records of one conversation, in order.

    What is leased stays at the front of ``items`` until it is settled, so giving it back needs
    no moving. ``place`` is one of the four below.
    """

    __slots__ = ("conversation", "items", "place")

    def __init__(self, conversation: str) -> None:
        self.conversation = conversation
        self.items: deque[_Item] = deque()
        self.place = _IDLE


class _Batch:
    """Records leased together, with how many of each lane."""

    __slots__ = ("ends", "expired", "items", "lanes", "leased", "task")

    def __init__(self, leased: float, ends: float) -> None:
        self.lanes: list[tuple[_Lane, int]] = []
        self.items: list[_Item] = []
        self.leased = leased
        self.ends = ends
        self.expired = False
        self.task: asyncio.Task[None] | None = None


class _Meters:
    """Bound handles of the metrics of one destination."""

    __slots__ = (
        "acked", "committed_to_acked", "dead", "depth", "in_flight", "late", "oldest", "retried",
        "source_to_acked", "unavailable", "unwanted",
    )  # fmt: skip

    def __init__(self, telemetry: Telemetry, destination: str) -> None:
        labels = {"destination": destination}
        self.acked = telemetry.counter("delivery_acked", **labels)
        self.retried = telemetry.counter("delivery_retried", **labels)
        self.dead = telemetry.counter("delivery_dead", **labels)
        self.unwanted = telemetry.counter("delivery_unwanted", **labels)
        self.late = telemetry.counter("delivery_leases_lost", **labels)
        self.unavailable = telemetry.counter("delivery_unavailable", **labels)
        self.depth = telemetry.gauge("delivery_depth", **labels)
        self.in_flight = telemetry.gauge("delivery_in_flight", **labels)
        self.oldest = telemetry.gauge("delivery_oldest_age_seconds", **labels)
        self.committed_to_acked = telemetry.histogram("delivery_committed_to_acked", **labels)
        self.source_to_acked = telemetry.histogram("delivery_source_to_acked", **labels)


class Relay:
    """Delivers what a store holds for one destination until it is stopped.

    Args:
        store: Where outcomes go and what does not fit in memory comes from.
        sink: Hands the records over.
        telemetry: Logs and metrics.
        settings: Bounds and times.
        clock: Monotonic seconds, the same as stamps ``Record.received_s``.
        now_us: UTC microseconds.
        draw: Uniform random numbers in [0, 1).
        backlog: Records the store holds for the destination already, for the depth shown.
    """

    def __init__(
        self,
        store: RelayStore,
        sink: Sink,
        telemetry: Telemetry,
        settings: RelaySettings,
        *,
        clock: Callable[[], float],
        now_us: Callable[[], int],
        draw: Callable[[], float],
        backlog: int = 0,
    ) -> None:
        self._store = store
        self._sink = sink
        self._telemetry = telemetry
        self._settings = settings
        self._clock = clock
        self._now_us = now_us
        self._draw = draw
        self._name = sink.name
        self._kinds = sink.kinds
        self._meters = _Meters(telemetry, sink.name)
        self._lanes: dict[str, _Lane] = {}
        self._ready: deque[_Lane] = deque()
        self._later: list[tuple[float, int, _Lane]] = []
        self._order = count()
        self._outstanding = backlog
        self._holding = False
        self._paused_at = float("-inf")
        self._measured = float("-inf")
        self._worker_tasks: set[asyncio.Task[None]] = set()
        self._drained = asyncio.Event()
        self._held = 0
        self._batches: set[_Batch] = set()
        self._workers = 0
        self._behind = True
        self._read_to = 0
        self._meanwhile: list[Record] | None = None
        self._resyncs = False
        self._stopping = False
        self._breaker = CircuitBreaker(
            failures=settings.breaker_failures, open_s=settings.first_pause_s
        )
        self._backoff = Backoff(settings.first_pause_s, settings.cap_pause_s)
        self._paused_until = 0.0
        self._last_success = float("-inf")
        self._settlements: list[Settlement] = []
        self._unsettled: set[asyncio.Future[None]] = set()
        self._settle_timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None

    # --- what comes in ---------------------------------------------------------------------

    def offer(self, records: Sequence[Record]) -> None:
        """Take committed records; to be called with every transaction's, in commit order."""
        kinds = self._kinds
        wanted = [record for record in records if record.kind in kinds]
        self._outstanding += len(wanted)
        last = position_of(records[-1].id)
        if self._behind:
            self._remember(wanted)
            return
        room = self._settings.memory_records - self._held
        if len(wanted) > room:
            # From here on the store remembers for us.
            self._behind = True
            wanted = wanted[: max(0, room)]
            if wanted:
                self._read_to = position_of(wanted[-1].id)
        else:
            self._read_to = last
        now = self._clock()
        for record in wanted:
            self._append(_Item(record, 0, now), now)
        if self._ready:
            self._start_workers()

    def changed(self) -> None:
        """Take note that what is pending was changed by somebody else; it is read again."""
        self._resyncs = True
        self._wake.set()

    @property
    def name(self) -> str:
        """The destination's name."""
        return self._name

    @property
    def outstanding(self) -> int:
        """Records committed for this destination and not settled yet, here or in the store."""
        return self._outstanding

    def _append(self, item: _Item, not_before: float) -> None:
        conversation = item.record.conversation
        lane = self._lanes.get(conversation)
        if lane is None:
            lane = self._lanes[conversation] = _Lane(conversation)
        lane.items.append(item)
        self._held += 1
        if lane.place is _IDLE:
            self._place(lane, not_before)

    def _place(self, lane: _Lane, not_before: float) -> None:
        """Put a lane that has items and no batch under way where its next try belongs."""
        if not_before > self._clock():
            lane.place = _LATER
            heapq.heappush(self._later, (not_before, next(self._order), lane))
            self._wake.set()
        else:
            lane.place = _READY
            self._ready.append(lane)

    # --- the owner's face --------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver until ``stop``; on return nothing is under way and outcomes are stored.

        What could not be handed over stays pending in the store.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                while not self._stopping:
                    self._wake.clear()
                    await self._step()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._sleep_s()):
                            await self._wake.wait()
                await self._finish_batches()
        finally:
            self._tasks = None
            self._stopping = True
            await self._finish_settling()

    async def drain(self, timeout_s: float) -> bool:
        """Wait until every record is settled and stored so; False when time runs out first."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._is_drained():
                    self._drained.clear()
                    await self._drained.wait()
        except TimeoutError:
            return False
        return True

    def stop(self) -> None:
        """Take nothing new on; ``run`` returns once what is under way has ended."""
        self._stopping = True
        self._wake.set()

    def _is_drained(self) -> bool:
        return not (
            self._behind or self._resyncs or self._held or self._workers
            or self._settlements or self._unsettled
        )  # fmt: skip

    def _note_drained(self) -> None:
        if self._is_drained():
            self._drained.set()

    # --- the loop ------------------------------------------------------------------------------

    async def _step(self) -> None:
        now = self._clock()
        self._expire(now)
        if self._resyncs:
            await self._resync()
        if self._behind and self._held <= self._settings.memory_records // 2:
            await self._catch_up()
        while self._later and self._later[0][0] <= self._clock():
            _, _, lane = heapq.heappop(self._later)
            if lane.place is _LATER:
                lane.place = _READY
                self._ready.append(lane)
        self._start_workers()
        self._measure()
        self._note_drained()

    def _sleep_s(self) -> float:
        now = self._clock()
        until = now + _TICK_S
        if self._later:
            until = min(until, self._later[0][0])
        if self._ready:
            held_off_s = self._breaker.retry_in(now)
            gate = max(self._paused_until, now + held_off_s)
            if gate > now:
                until = min(until, gate)
        for batch in self._batches:
            if not batch.expired:
                until = min(until, batch.ends)
        return max(0.001, until - now)

    async def _catch_up(self) -> None:
        """Read one page from the store, unless it cannot be read now."""
        settings = self._settings
        limit = min(settings.page_records, settings.memory_records - self._held)
        try:
            self._meanwhile = []
            async with asyncio.timeout(settings.lease_s):
                page = await self._store.pending(self._name, limit=limit, after=self._read_to)
        except (StenoError, TimeoutError) as exc:
            self._telemetry.warning(
                "delivery.catch_up_failed", destination=self._name, error_class=reason_of(exc)
            )
            self._meanwhile = None
            return
        now, now_us = self._clock(), self._now_us()
        for found in page:
            position = position_of(found.record.id)
            age_s = max(0, now_us - position_us(position)) / _US
            wait_s = max(0, found.next_at_us - now_us) / _US if found.next_at_us else 0.0
            self._append(_Item(found.record, found.attempts, now - age_s), now + wait_s)
            self._read_to = position
        meanwhile, self._meanwhile = self._meanwhile, None
        if len(page) == limit or meanwhile is None:
            self._wake.set()  # there is more
            return
        # The page held all there was when the read began, so the offers since then complete it.
        for record in meanwhile:
            if (position := position_of(record.id)) > self._read_to:
                self._append(_Item(record, 0, now), now)
                self._read_to = position
        self._behind = False
        self._outstanding = self._held

    def _remember(self, wanted: list[Record]) -> None:
        """Keep what is offered while a page is being read, as far as a page would go."""
        if self._meanwhile is not None:
            self._meanwhile += wanted
            if len(self._meanwhile) > self._settings.page_records:
                self._meanwhile = None

    async def _resync(self) -> None:
        """Let go of what waits in memory and read it again: it may be erased, or redriven."""
        self._behind = True  # from now on offers are only remembered by the store
        await self._finish_batches()
        await self._finish_settling()
        self._resyncs = False
        self._lanes.clear()
        self._ready.clear()
        self._later.clear()
        self._held = 0
        self._read_to = 0

    async def _finish_batches(self) -> None:
        """Wait for what is under way, and end what takes too long."""
        self._holding = True
        try:
            under_way = set(self._worker_tasks)
            if under_way:
                _, left = await asyncio.wait(under_way, timeout=self._settings.stop_s)
                for task in left:
                    task.cancel()
                if left:
                    await asyncio.wait(left, timeout=self._settings.stop_s)
        finally:
            self._holding = False

    async def _finish_settling(self) -> None:
        self._flush()
        if self._unsettled:
            await asyncio.wait(set(self._unsettled), timeout=self._settings.stop_s)

    def _measure(self) -> None:
        now = self._clock()
        if now - self._measured < _TICK_S:
            return
        self._measured = now
        self._meters.depth(self._outstanding)
        self._meters.in_flight(len(self._batches))
        heads = [lane.items[0].record.id for lane in self._lanes.values() if lane.items]
        oldest_us = position_us(position_of(min(heads))) if heads else 0
        self._meters.oldest(max(0, self._now_us() - oldest_us) / _US if oldest_us else 0.0)

    # --- leasing -------------------------------------------------------------------------------

    def _start_workers(self) -> None:
        tasks = self._tasks
        if tasks is None:
            return
        while self._workers < self._sink.shape.max_in_flight:
            batch = self._take()
            if batch is None:
                return
            self._workers += 1
            task = tasks.create_task(self._work(batch))
            self._worker_tasks.add(task)
            task.add_done_callback(self._worker_tasks.discard)

    def _take(self) -> _Batch | None:
        """Lease the next batch, or None when nothing can be sent now."""
        if not self._ready or self._stopping or self._holding or self._resyncs:
            return None
        if len(self._settlements) >= self._settings.memory_records:
            return None  # the store takes no outcomes: do not pile them up
        now = self._clock()
        if now < self._paused_until or not self._breaker.allow(now):
            return None
        shape = self._sink.shape
        batch = _Batch(now, now + self._settings.lease_s)
        ready = self._ready
        while ready and (room := shape.max_records - len(batch.items)) > 0:
            lane = ready[0]
            alone = lane.items[0].is_tried
            if alone and batch.items:
                break
            ready.popleft()
            lane.place = _BUSY
            # What has failed before goes by itself: it must not take others down with it.
            taken = [lane.items[0]] if alone else _untried(lane.items, room)
            batch.lanes.append((lane, len(taken)))
            batch.items += taken
            if alone or shape.one_conversation:
                break
        self._batches.add(batch)
        return batch

    async def _work(self, batch: _Batch | None) -> None:
        try:
            while batch is not None:
                await self._deliver(batch)
                batch = self._take()
        finally:
            self._workers -= 1
            if self._ready or self._behind:
                self._wake.set()
            self._note_drained()

    async def _deliver(self, batch: _Batch) -> None:
        batch.task = asyncio.current_task()
        try:
            outcomes = await self._sink.deliver([item.record for item in batch.items])
        except asyncio.CancelledError:
            if not batch.expired or (batch.task is not None and batch.task.uncancel() > 0):
                if not batch.expired:
                    self._release(batch)
                raise
            return
        except SinkUnavailable as exc:
            self._failed(batch, _cause_of(exc), exc)
            return
        except Exception as exc:  # noqa: BLE001  # a sink's bug must not end its siblings
            self._failed(batch, reason_of(exc), exc)
            return
        finally:
            self._batches.discard(batch)
        if batch.expired:
            # The sink swallowed the cancellation and answered all the same: too late.
            if batch.task is not None and batch.task.cancelling():
                batch.task.uncancel()
            return
        if len(outcomes) != len(batch.items):
            self._failed(batch, "OutcomesMissing", None)
            return
        self._succeeded()
        self._settle(batch, outcomes)

    # --- settling ------------------------------------------------------------------------------

    def _succeeded(self) -> None:
        now = self._last_success = self._clock()
        if self._breaker.consecutive_failures:
            if self._breaker.state is not CircuitState.CLOSED:
                self._telemetry.info("delivery.resumed", destination=self._name)
            self._breaker.succeeded(now)
            self._backoff.reset()
            self._paused_until = 0.0
            self._wake.set()

    def _settle(self, batch: _Batch, outcomes: Sequence[Outcome]) -> None:
        now = self._clock()
        start = 0
        acked = 0
        for lane, size in batch.lanes:
            kept: list[_Item] = []
            not_before = 0.0
            for item, outcome in zip(
                batch.items[start : start + size], outcomes[start : start + size], strict=True
            ):
                lane.items.popleft()
                if type(outcome) is Ack:
                    acked += 1
                    self._acked(item, now)
                elif kept and isinstance(outcome, Retry):
                    kept.append(item)  # only held up by the one before: not an attempt
                else:
                    delay_s = self._settle_other(item, outcome)
                    if delay_s is not None:
                        not_before = now + delay_s
                        kept.append(item)
            start += size
            self._held -= size - len(kept)
            self._outstanding -= size - len(kept)
            lane.items.extendleft(reversed(kept))
            self._put_back(lane, not_before)
        if acked:
            self._meters.acked(acked)
        if self._behind and self._held <= self._settings.memory_records // 2:
            self._wake.set()

    def _acked(self, item: _Item, now: float) -> None:
        record = item.record
        self._note(Settlement(record.id, self._name, DeliveryState.ACKED, item.attempts))
        self._meters.committed_to_acked(now - item.since)
        if record.received_s:
            self._meters.source_to_acked(now - record.received_s)

    def _settle_other(self, item: _Item, outcome: Outcome) -> float | None:
        """Settle anything but an acknowledgement; return the delay if it is tried again."""
        now_us = self._now_us()
        settlement = decide(
            item.record.id,
            self._name,
            item.attempts,
            outcome,
            now_us,
            self._settings.retry,
            self._draw(),
            waits=item.waits,
        )
        self._note(settlement)
        if settlement.state is DeliveryState.RETRY:
            item.waits += settlement.attempts == item.attempts
            item.attempts = settlement.attempts
            self._meters.retried(1)
            return max(0, settlement.next_at_us - now_us) / _US
        if settlement.state is DeliveryState.DEAD:
            self._meters.dead(1)
            self._telemetry.error(
                "delivery.dead_lettered",
                destination=self._name,
                record_id=item.record.id,
                conversation=item.record.conversation,
                kind=str(item.record.kind),
                attempts=settlement.attempts,
                reason=settlement.reason,
            )
        else:
            self._meters.unwanted(1)
        return None

    def _put_back(self, lane: _Lane, not_before: float) -> None:
        if lane.items:
            self._place(lane, not_before)
            return
        lane.place = _IDLE
        if self._lanes.get(lane.conversation) is lane:
            del self._lanes[lane.conversation]

    def _release(self, batch: _Batch) -> None:
        """Give a batch back with nothing known of it."""
        for lane, _ in batch.lanes:
            self._put_back(lane, 0.0)

    # --- failures ------------------------------------------------------------------------------

    def _failed(self, batch: _Batch, reason: str, exc: Exception | None) -> None:
        """Blame the destination, or these records, for a batch of which nothing is known."""
        if batch.expired:
            return  # the lease ended first, and that has been seen to
        now = self._clock()
        self._meters.unavailable(1)
        wish_s = exc.fields.get("retry_after_s") if isinstance(exc, StenoError) else None
        after_s = float(wish_s) if isinstance(wish_s, int | float) else None
        if self._last_success > batch.leased:
            # Others got through since: it is these records, and the rest goes on.
            outcomes: list[Outcome] = [Retry(reason, after_s) for _ in batch.items]
            self._settle(batch, outcomes)
            return
        was = self._breaker.state
        self._breaker.failed(now)
        if batch.leased >= self._paused_at:
            # Of several that failed together only the first lengthens the pause.
            self._paused_at = now
            pause_s = self._backoff.next_delay(self._draw())
            if after_s is not None:
                pause_s = max(pause_s, min(after_s, self._settings.retry.max_after_s))
            self._paused_until = now + pause_s
        if was is CircuitState.CLOSED and self._breaker.state is CircuitState.OPEN:
            self._telemetry.warning("delivery.paused", destination=self._name, error_class=reason)
        self._release(batch)
        self._wake.set()

    def _expire(self, now: float) -> None:
        """End the leases that are over."""
        for batch in [b for b in self._batches if now >= b.ends and not b.expired]:
            self._meters.late(len(batch.items))
            self._failed(batch, LeaseLost.__name__, None)
            batch.expired = True
            if batch.task is not None:
                batch.task.cancel()

    # --- outcomes to the store -----------------------------------------------------------------

    def _note(self, settlement: Settlement) -> None:
        self._settlements.append(settlement)
        if len(self._settlements) >= self._settings.settle_records:
            self._flush()
        elif self._settle_timer is None:
            self._settle_timer = asyncio.get_running_loop().call_later(
                self._settings.settle_wait_s, self._flush
            )

    def _flush(self) -> None:
        if self._settle_timer is not None:
            self._settle_timer.cancel()
            self._settle_timer = None
        if not self._settlements:
            return
        some, self._settlements = self._settlements, []
        future = self._store.settle(some)
        self._unsettled.add(future)
        future.add_done_callback(partial(self._settled, some))

    def _settled(self, some: list[Settlement], future: asyncio.Future[None]) -> None:
        self._unsettled.discard(future)
        if future.cancelled() or future.exception() is None:
            self._note_drained()
            return
        self._telemetry.warning(
            "delivery.settling_failed",
            destination=self._name,
            count=len(some),
            error_class=reason_of(future.exception() or StenoError()),
        )
        # Kept, older ones first; not to be known means a repeat, never a loss.
        self._settlements = some + self._settlements
        if self._settle_timer is None and not self._stopping:
            self._settle_timer = future.get_loop().call_later(_TICK_S, self._flush)


def _cause_of(error: SinkUnavailable) -> str:
    """Return the class of error that the sink names as the cause."""
    cause = error.fields.get("cause")
    return cause if isinstance(cause, str) and cause else reason_of(error)


def _untried(items: deque[_Item], room: int) -> list[_Item]:
    """Return at most ``room`` items from the front, up to the first that has failed before."""
    if len(items) == 1:
        return [items[0]]
    return list(takewhile(lambda item: not item.is_tried, islice(items, room)))
