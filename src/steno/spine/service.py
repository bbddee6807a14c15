"""The spine at work: what was said in, commits out, on one event loop.

One commit is under way at a time. What arrives meanwhile forms the next one, so a slow disk
makes commits larger, not more frequent, and nothing is written out of order. When a commit
fails its drafts go first into the next attempt; when too much waits, ``accept`` says so and
the feeds stop reading until there is room.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from steno.core.language import SwitchWanted
from steno.core.records import Draft, GapCause, Record
from steno.core.timing import Backoff
from steno.core.transcript import Fragment
from steno.errors import AuthError, IntegrityError, RateLimited, StenoError, StorageError
from steno.ports import (
    Commit,
    ConversationEnded,
    FeedDown,
    FeedEvent,
    FeedUp,
    LanguageHeard,
    LiveFeed,
    Missing,
    ModelSwitcher,
    Quarantined,
    RecordStore,
    Sealer,
    Telemetry,
)
from steno.spine.gaps import GAPS
from steno.spine.machine import Machine

SWITCH_WORKERS = 4
SWITCH_QUEUE = 1000
SWITCH_RETRY_S = 5.0
TICK_S = 5.0


class SpineSettings(msgspec.Struct, frozen=True):
    """How the service works; times in seconds.

    Attributes:
        commit_s: Shortest time between two commits that hold records.
        journal_s: Shortest time before a commit that only journals open windows.
        high_water: Drafts waiting at which the feeds are asked to stop reading.
        journal: Name of this service's part of the journal; two in one store must differ.
        finished: What the pipeline finishes, in the plural: names the counter and the total.
    """

    commit_s: float = 0.01
    journal_s: float = 0.05
    high_water: int = 1000
    journal: str = ""
    batch: int = 256
    finished: Literal["sentences", "segments"] = "sentences"


class SpineService:
    """Owns the pipeline: takes events from feeds, commits, switches languages."""

    def __init__(
        self,
        pipeline: Machine,
        *,
        store: RecordStore,
        sealer: Sealer,
        switcher: ModelSwitcher | None,
        telemetry: Telemetry,
        settings: SpineSettings,
        clock: Callable[[], float],
        utc_us: Callable[[], int],
        draw: Callable[[], float],
    ) -> None:
        self._pipeline = pipeline
        self._store = store
        self._sealer = sealer
        self._switcher = switcher
        self._telemetry = telemetry
        self._settings = settings
        self._prefix = f"{settings.journal}/" if settings.journal else ""
        self._clock = clock
        self._utc_us = utc_us
        self._draw = draw
        self._loop = asyncio.get_running_loop()
        self._flush_timer: asyncio.TimerHandle | None = None
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._deadline_at: float | None = None
        self._in_flight = False
        self._started = self._stored = 0  # commits begun and done
        self._waiters: list[asyncio.Future[None]] = []
        self._flushed_at = 0.0
        self._backoff = Backoff(first_s=0.2, cap_s=5.0)
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._switches: asyncio.Queue[tuple[str, SwitchWanted]] = asyncio.Queue(SWITCH_QUEUE)
        self._stopping = asyncio.Event()
        self._write_scope_missing = False
        self._fragments = 0
        self._count_fragments = telemetry.counter("steno_fragments_total")
        self._count_finished = (
            telemetry.counter("steno_sentences_total")
            if settings.finished == "sentences"
            else telemetry.counter("steno_segments_total")
        )
        self._count_stored = telemetry.counter("steno_records_stored_total")
        self._count_quarantined = telemetry.counter("steno_quarantined_total")
        self._count_withheld = telemetry.counter("steno_redaction_withheld_total")
        self._stored_latency = telemetry.histogram("steno_source_to_stored_seconds")
        self._windows = telemetry.gauge("steno_open_windows")
        self._conversations = telemetry.gauge("steno_conversations")
        self._depth = telemetry.gauge("steno_commit_waiting_records")
        self._told = {"finished": 0, "fragments": 0, "withheld": 0}
        self._told_entities: dict[str, int] = {}
        store.on_committed(self._on_committed)

    # -- FeedTarget -----------------------------------------------------------------------

    def accept(self, event: FeedEvent) -> bool:
        """Take in what a feed has read; False asks it to await ``ready``."""
        now = self._clock()
        pipeline = self._pipeline
        had_drafts = bool(pipeline.drafts)
        if type(event) is Fragment:
            self._fragments += 1
            try:
                pipeline.fragment(event, now=now, now_us=event.at_us)
            except Exception as error:  # noqa: BLE001 - a bug met by one call must not cut off all
                pipeline.failed(event, type(error).__name__)
                self._telemetry.error(
                    "spine.fragment_failed",
                    conversation=event.conversation,
                    error=type(error).__name__,
                )
        else:
            self._other(event, now)
        # A sentence waits less long than a window's journal entry.
        first_draft = not had_drafts and bool(pipeline.drafts)
        if not self._in_flight and (self._flush_timer is None or first_draft):
            self._arm()
        deadline = pipeline.next_deadline()
        if deadline is not None and (self._deadline_at is None or deadline < self._deadline_at):
            self._arm_deadline(deadline)
        if len(pipeline.drafts) >= self._settings.batch:
            if not self._in_flight:
                self._flush()
            elif len(pipeline.drafts) >= self._settings.high_water:
                self._room.clear()
                return False
        if pipeline.switches:
            self._enqueue_switches()
        return True

    async def ready(self) -> None:
        """Return when there is room for more."""
        await self._room.wait()

    def changed(self) -> None:
        """Take note that the machine got something to write that no event brought."""
        if not self._in_flight:
            self._arm()

    async def committed(self) -> None:
        """Return when everything finished so far is stored."""
        wanted = self._started + bool(self._pipeline.drafts)
        while self._stored < wanted:
            if not self._in_flight and self._flush_timer is None:
                self._flush()
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def _other(self, event: FeedEvent, now: float) -> None:
        if isinstance(event, Quarantined):
            self._count_quarantined(1)
            self._pipeline.quarantined(event, now=now)
        elif isinstance(event, FeedUp):
            self._pipeline.feed_up(event)
        elif isinstance(event, FeedDown):
            self._pipeline.feed_down(event)
        elif isinstance(event, ConversationEnded):
            self._pipeline.ended(event, now=now)
        elif isinstance(event, Missing):
            self._pipeline.missing(event)
        elif isinstance(event, LanguageHeard):
            self._pipeline.language_heard(event)

    # -- committing -----------------------------------------------------------------------

    def _arm(self) -> None:
        """Commit as soon as the last commit is ``commit_s`` ago (for a journal entry alone,
        ``journal_s``): at once when little happens, in company when much does.
        """
        pipeline = self._pipeline
        if not pipeline.dirty:
            return
        wait = self._settings.commit_s if pipeline.drafts else self._settings.journal_s
        delay = self._flushed_at + wait - self._clock()
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        self._flush_timer = self._loop.call_later(max(0.0, delay), self._flush)

    def _flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if self._in_flight or not self._pipeline.dirty:
            return
        self._flushed_at = self._clock()
        drafts, plain = self._pipeline.take(self._flushed_at)
        if not drafts and not plain:
            self._idle.set()
            self._arm()  # what has just changed is journalled a little later
            return
        seal, prefix = self._sealer.seal, self._prefix
        windows = {
            (key := prefix + name): None if snapshot is None else seal(snapshot, context=key)
            for name, snapshot in plain.items()
        }
        self._in_flight = True
        self._started += 1
        self._idle.clear()
        future = self._store.submit(Commit(drafts, windows))
        future.add_done_callback(lambda done: self._committed(done, drafts, plain))

    def _committed(
        self,
        done: asyncio.Future[list[Record]],
        drafts: list[Draft],
        plain: dict[str, bytes | None],
    ) -> None:
        self._in_flight = False
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or error is not None:
            self._pipeline.put_back(drafts, plain)
            self._started -= 1
            delay = self._backoff.next_delay(self._draw())
            self._telemetry.error(
                "spine.commit_failed",
                error_class=type(error).__name__ if error else "Cancelled",
                records=len(drafts),
                retry_s=round(delay, 3),
            )
            if not self._stopping.is_set() or isinstance(error, StorageError):
                self._flush_timer = self._loop.call_later(delay, self._flush)
            return
        self._backoff.reset()
        self._stored += 1
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if not self._room.is_set() and len(self._pipeline.drafts) < self._settings.high_water:
            self._room.set()
        if len(self._pipeline.drafts) >= self._settings.batch:
            self._flush()
        elif self._pipeline.dirty:
            self._arm()
        if not self._in_flight and not self._pipeline.dirty:
            self._idle.set()

    def _on_committed(self, records: list[Record]) -> None:
        now = self._clock()
        observe = self._stored_latency
        self._count_stored(len(records))
        for record in records:
            if record.received_s:
                observe(now - record.received_s)

    # -- deadlines ------------------------------------------------------------------------

    def _arm_deadline(self, deadline: float) -> None:
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        self._deadline_at = deadline
        delay = max(0.0, deadline - self._clock())
        self._deadline_timer = self._loop.call_later(delay, self._on_deadline)

    def _on_deadline(self) -> None:
        self._deadline_at, self._deadline_timer = None, None
        self._pipeline.on_deadline(self._clock())
        if not self._in_flight:
            self._arm()
        deadline = self._pipeline.next_deadline()
        if deadline is not None:
            self._arm_deadline(deadline)

    # -- language -------------------------------------------------------------------------

    def _enqueue_switches(self) -> None:
        switches, self._pipeline.switches = self._pipeline.switches, []
        for conversation, wanted in switches:
            try:
                self._switches.put_nowait((conversation, wanted))
            except asyncio.QueueFull:
                self._pipeline.switch_failed(
                    conversation, now=self._clock(), retry_after_s=SWITCH_RETRY_S
                )

    async def _switch_worker(self) -> None:
        while True:
            conversation, wanted = await self._switches.get()
            await self._switch(conversation, wanted)
            if not self._in_flight:
                self._arm()

    async def _switch(self, conversation: str, wanted: SwitchWanted) -> None:
        retry_s = SWITCH_RETRY_S
        try:
            applied = False
            if self._switcher is not None and not self._write_scope_missing:
                applied = await self._switcher.switch(conversation, wanted.language)
        except AuthError as error:
            if not self._write_scope_missing:
                self._write_scope_missing = True
                self._telemetry.warning(
                    "spine.language_switch_refused", error_class=error.error_class
                )
            applied = False
        except StenoError as error:
            if isinstance(error, RateLimited) and error.retry_after_s is not None:
                retry_s = error.retry_after_s
            self._telemetry.warning(
                "spine.language_switch_failed",
                conversation=conversation,
                error_class=error.error_class,
                retry_s=retry_s,
            )
            self._pipeline.switch_failed(conversation, now=self._clock(), retry_after_s=retry_s)
            return
        self._telemetry.counter("steno_language_switches_total")(1)
        self._telemetry.info(
            "spine.language_changed",
            conversation=conversation,
            language=wanted.language,
            applied=applied,
        )
        self._pipeline.switch_made(
            conversation, wanted, applied=applied, now=self._clock(), now_us=self._utc_us()
        )

    # -- life -----------------------------------------------------------------------------

    async def restore(self, *, down_since_us: int | None, damaged: Sequence[str] = ()) -> list[str]:
        """Go on with the journalled windows, and open a gap for the time we were not there.

        Args:
            down_since_us: When an earlier process was last alive; None at the first start.
            damaged: Conversations of which a damaged store has lost records.

        Returns:
            Conversations whose journal could not be read; their open words are lost.
        """
        now, now_us = self._clock(), self._utc_us()
        lost: list[str] = []
        restored: list[str] = []
        for key, sealed in (await self._store.windows()).items():
            owner, _, conversation = key.rpartition("/")
            if owner != self._settings.journal:
                continue
            try:
                snapshot = self._sealer.open(sealed, context=key)
                self._pipeline.restore(conversation, snapshot, now=now, now_us=now_us)
            except (IntegrityError, StenoError):
                lost.append(conversation)
                continue
            if conversation != GAPS:
                restored.append(conversation)
        if down_since_us is not None:
            concerned = dict.fromkeys([*restored, *lost, *damaged])
            self._pipeline.open_gap(
                "", GapCause.PROCESS_DOWN, down_since_us, now_us, ["", *concerned]
            )
        deadline = self._pipeline.next_deadline()
        if deadline is not None:
            self._arm_deadline(deadline)
        self._arm()
        if restored or lost:
            self._telemetry.info("spine.windows_restored", count=len(restored), lost=len(lost))
        return lost

    async def run(self, feeds: Sequence[LiveFeed]) -> None:
        """Follow the feeds until they end by themselves or ``stop`` is called.

        Raises:
            AuthError, ConfigError: A feed can never work.
        """
        try:
            async with asyncio.TaskGroup() as group:
                workers = [group.create_task(self._switch_worker()) for _ in range(SWITCH_WORKERS)]
                workers.append(group.create_task(self._tick()))
                try:
                    async with asyncio.TaskGroup() as running:
                        for feed in feeds:
                            running.create_task(feed.run(self))
                finally:
                    for worker in workers:
                        worker.cancel()
        except* StenoError as errors:
            raise errors.exceptions[0] from None
        finally:
            self._stopping.set()

    async def finish(self, *, timeout_s: float) -> bool:
        """Give out open windows and commit everything; False when time was up before that."""
        self._stopping.set()
        self._pipeline.flush(self._clock())
        if not self._in_flight:
            self._flush()
        deadline = self._clock() + timeout_s
        while (self._in_flight or self._pipeline.dirty) and self._clock() < deadline:
            if not self._in_flight and self._flush_timer is None:
                self._flush()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self._idle.wait()
                    await asyncio.sleep(0.01)  # idle, but a young window is still to be journalled
        finished = not self._in_flight and not self._pipeline.dirty
        for timer in (self._flush_timer, self._deadline_timer):
            if timer is not None:
                timer.cancel()
        self._report()
        return finished

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._report()
            self._pipeline.evict(self._clock())

    def _report(self) -> None:
        pipeline, told = self._pipeline, self._told
        self._windows(pipeline.open_windows)
        self._conversations(pipeline.conversations)
        self._depth(len(pipeline.drafts))
        for name, total, add in (
            ("finished", pipeline.finished, self._count_finished),
            ("fragments", self._fragments, self._count_fragments),
            ("withheld", pipeline.withheld, self._count_withheld),
        ):
            add(total - told[name])
            told[name] = total
        for entity, total in pipeline.entities.items():
            self._telemetry.counter("steno_redactions_total", entity=entity)(
                total - self._told_entities.get(entity, 0)
            )
            self._told_entities[entity] = total

    @property
    def counts(self) -> dict[str, int]:
        """Totals since the start, for closing lines and summaries."""
        return {
            "fragments": self._fragments,
            self._settings.finished: self._pipeline.finished,
            "redactions": sum(self._pipeline.entities.values()),
            "withheld": self._pipeline.withheld,
        }
