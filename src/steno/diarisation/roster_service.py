"""Fetches rosters beside the feed, and puts right at the end who spoke.

Live speech never waits for a call made here: ``RosterAttribution`` says which rosters are wanted,
workers fetch them within a share of the platform's rate, and what cannot be had in time is
attributed by channel. When a conversation (or one of its communications) is over, its roster is
fetched once more, with every transfer in it, and stored segments that turn out to be somebody
else's are given out once more as their next revision.

The second pass is deterministic: done again it finds nothing to change. It is not remembered on
disk, so a conversation whose end falls between its last words and a kill keeps what was known
while it ran.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

import msgspec

from steno.core.records import Draft
from steno.core.timing import Backoff
from steno.diarisation.cast import Cast
from steno.diarisation.reattribution import OpenTimeline, Rereading
from steno.diarisation.roster import RosterAttribution
from steno.errors import (
    AuthError,
    IntegrityError,
    ObjectMissing,
    RateLimited,
    RemoteProtocolError,
    StenoError,
    StorageError,
    TimedOut,
    TransportError,
)
from steno.feeds.bookkeeping import LOGGED_PER_MINUTE, LogBudget
from steno.ports import Telemetry
from steno.wire.participants import Roster, decode_roster

__all__ = ["ConversationApi", "RosterService", "RosterServiceSettings"]

MAX_TRIES = 3
LIMITED_S = 10.0
"""Where the platform limits our rate and does not say for how long."""

Emit = Callable[[list[Draft]], Awaitable[None] | None]


class ConversationApi(Protocol):
    """The REST call that is needed."""

    async def conversation(self, conversation_id: str, *, patience_s: float) -> bytes | None:
        """Return a conversation as the platform describes it; None if it has none.

        Args:
            patience_s: Time within which a further try may start; 0: one try.

        Raises:
            AuthError, TransportError, ProtocolError: It could not be had.
        """


class RosterServiceSettings(msgspec.Struct, frozen=True):
    """Limits; times in seconds.

    Attributes:
        per_minute: Calls in any minute at most; the platform allows a token 300, for all it does.
        concurrency: Calls under way at most.
        call_limit_s: Time for one call.
        final_delay_s: From a conversation's end to its last roster: words on their way are
            stored by then, and the platform has written down who left when.
        final_patience_s: For how long after the end that roster is tried for.
        retry_s: Before a conversation that is not there is asked for again.
        refused_s: How long nothing is tried after the platform refused our permissions.
        outage_first_s, outage_cap_s: Waits between tries while the platform is away.
        max_ended: Conversations that wait for their last roster; beyond it the oldest goes.
        batch: Stored segments read at a time.
    """

    per_minute: int = 60
    concurrency: int = 4
    call_limit_s: float = 15.0
    final_delay_s: float = 10.0
    final_patience_s: float = 900.0
    retry_s: float = 5.0
    refused_s: float = 300.0
    outage_first_s: float = 1.0
    outage_cap_s: float = 30.0
    max_ended: int = 10_000
    batch: int = 200


class _Ended(msgspec.Struct):
    """A conversation that is over and waits for its last roster."""

    due: float = 0.0
    until: float = 0.0
    tries: int = 0
    asked: int = 0
    working: bool = False


class _Job(msgspec.Struct, frozen=True):
    conversation: str
    final: bool


class _Pace:
    """Calls in any minute stay below a number, a few of them at once."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._burst = max(1.0, per_minute // 6)
        self._rate = max(per_minute - self._burst, 1.0) / 60.0  # calls a second
        self._left = self._burst
        self._at = now

    def wait_s(self, now: float) -> float:
        """Return the seconds until a call may start."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (1.0 - self._left) / self._rate)

    def take(self) -> None:
        """Count a call."""
        self._left -= 1.0


class RosterService:
    """Brings ``attribution`` the rosters it wants, and the segments' new revisions to ``emit``.

    Args:
        attribution: Says what is wanted.
        api: Reads conversations.
        timeline: Opens a reader of the stored segments; called, and read, in a thread.
        emit: Takes drafts whose revision is one above what is stored; called on the loop.
        clock: Monotonic seconds.
        utc_us: UTC microseconds.
        draw: A number in [0, 1), for the jitter.
    """

    def __init__(
        self,
        attribution: RosterAttribution,
        api: ConversationApi,
        *,
        timeline: OpenTimeline,
        emit: Emit,
        telemetry: Telemetry,
        clock: Callable[[], float],
        utc_us: Callable[[], int],
        draw: Callable[[], float],
        settings: RosterServiceSettings | None = None,
    ) -> None:
        self._attribution = attribution
        self._api = api
        self._timeline = timeline
        self._emit = emit
        self._telemetry = telemetry
        self._clock = clock
        self._utc_us = utc_us
        self._draw = draw
        self._settings = settings or RosterServiceSettings()
        self._ended: dict[str, _Ended] = {}
        self._wake = asyncio.Event()
        attribution.on_wanted = self._wake.set
        self._pace = _Pace(self._settings.per_minute, clock())
        self._held_until = 0.0
        self._turn = 0
        self._backoff = Backoff(self._settings.outage_first_s, self._settings.outage_cap_s)
        self._trouble = ""
        self._limits = 0  # refusals for the rate, one after another
        self._budget = LogBudget(LOGGED_PER_MINUTE)
        self.fetched = self.reattributed = 0
        self._count_reattributed = telemetry.counter("steno_segments_reattributed_total")

    @property
    def ending(self) -> int:
        """Conversations that wait for their last roster."""
        return len(self._ended)

    # --- what the feed tells -----------------------------------------------------------------

    def seen(self, roster: Roster) -> None:
        """Take in participants that a topic told of."""
        self._attribution.seen(roster, now=self._clock(), utc_us=self._utc_us())

    def ended(self, conversation: str) -> None:
        """Take note that a conversation, or one of its communications, is over."""
        now, settings = self._clock(), self._settings
        before = self._ended.pop(conversation, None) or _Ended()
        before.due, before.until = now + settings.final_delay_s, now + settings.final_patience_s
        before.asked += 1
        before.tries = 0
        while len(self._ended) >= settings.max_ended:
            del self._ended[next(iter(self._ended))]
        self._ended[conversation] = before
        self._wake.set()

    # --- life --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Fetch what is wanted, until cancelled."""
        jobs: asyncio.Queue[_Job] = asyncio.Queue(1)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._settings.concurrency):
                    group.create_task(self._work(jobs))
                while True:
                    await jobs.put(await self._next())
        finally:
            for one in self._ended.values():
                one.working = False

    async def finish(self, *, timeout_s: float) -> bool:
        """Do what is left, when ``run`` is over and before the last commit.

        Conversations that are over get their last roster at once; so do those that go on and in
        which somebody spoke after their roster was made.

        Returns:
            Whether it was done in time; what was not keeps what was known while it ran.
        """
        left = iter(dict.fromkeys([*self._ended, *self._attribution.behind()]))
        try:
            async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
                for _ in range(self._settings.concurrency):
                    group.create_task(self._finish(left))
        except TimeoutError:
            return False
        return True

    async def _finish(self, left: Iterator[str]) -> None:
        for conversation in left:
            job = _Job(conversation, final=True)
            if self._clock() >= self._held_until:
                await asyncio.sleep(self._pace.wait_s(self._clock()))
                self._pace.take()
                await self._guarded(job, self._do)
            if conversation in self._ended:
                await self._guarded(job, self._do_without)

    async def _work(self, jobs: asyncio.Queue[_Job]) -> None:
        while True:
            await self._guarded(await jobs.get(), self._do)

    async def _next(self) -> _Job:
        """Return the next roster to fetch, when it may be fetched."""
        while True:
            now = self._clock()
            wait_s: float | None = self._pace.wait_s(now)
            if not wait_s:
                if (job := self._pick(now)) is not None:
                    self._pace.take()
                    return job
                due = self._next_due()
                wait_s = None if due is None else max(0.0, due - now)
            self._wake.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _pick(self, now: float) -> _Job | None:
        """Return what to fetch now: live speech waits, so it comes first two times in three."""
        if now < self._held_until:
            return None
        self._turn += 1
        order = (self._live, self._over) if self._turn % 3 else (self._over, self._live)
        return order[0](now) or order[1](now)

    def _live(self, now: float) -> _Job | None:
        wanted = self._attribution.to_fetch(now, limit=1)
        return _Job(wanted[0], final=False) if wanted else None

    def _over(self, now: float) -> _Job | None:
        due = ((one.due, name) for name, one in self._ended.items() if not one.working)
        at, name = min(due, default=(0.0, ""))
        if not name or at > now:
            return None
        self._ended[name].working = True
        return _Job(name, final=True)

    def _next_due(self) -> float | None:
        ends = [one.due for one in self._ended.values() if not one.working]
        wanted = self._attribution.next_fetch()
        due = min(ends if wanted is None else [*ends, wanted], default=None)
        return None if due is None else max(due, self._held_until)

    # --- one roster --------------------------------------------------------------------------

    async def _guarded(self, job: _Job, do: Callable[[_Job], Awaitable[bool]]) -> None:
        """Do a job; whatever becomes of it, the others go on."""
        ended = self._ended.get(job.conversation) if job.final else None
        asked = ended.asked if ended is not None else 0
        retry_s = self._settings.retry_s
        try:
            done = await do(job)
        except Exception as error:  # noqa: BLE001 - a bug met by one roster must not end the rest
            self._telemetry.error(
                "diarisation.roster_failed",
                conversation=job.conversation,
                error=type(error).__name__,
            )
            self._attribution.failed(job.conversation, now=self._clock(), retry_after_s=retry_s)
            done = self._later(job, retry_s)
        finally:
            if ended is not None:
                ended.working = False
            self._wake.set()  # it may be due again, or later
        if done and ended is not None and ended.asked == asked:
            self._ended.pop(job.conversation, None)

    async def _do(self, job: _Job) -> bool:
        """Fetch and take a roster; True when nothing is left to do."""
        asked_us = self._utc_us()
        try:
            roster = await self._fetch(job.conversation)
        except StenoError as error:
            return self._failed(job, error) and await self._do_without(job)
        self._succeeded()
        self._attribution.take(
            job.conversation, roster, now=self._clock(), utc_us=asked_us, final=job.final
        )
        return await self._do_without(job)

    async def _do_without(self, job: _Job) -> bool:
        """Put right what can be with the roster at hand, when the conversation is over."""
        cast = self._attribution.cast(job.conversation)
        if job.final and cast is not None:
            await self._put_right(job.conversation, cast)
        return True

    async def _fetch(self, conversation: str) -> Roster:
        try:
            async with asyncio.timeout(self._settings.call_limit_s):
                body = await self._api.conversation(conversation, patience_s=0.0)
        except TimeoutError:
            raise TimedOut(action="read a conversation") from None
        if body is None:
            raise ObjectMissing("the platform does not know this conversation")
        roster = decode_roster(body)
        if roster.conversation != conversation:
            raise RemoteProtocolError("the platform answered with another conversation")
        return roster

    def _succeeded(self) -> None:
        self.fetched += 1
        self._telemetry.counter("steno_rosters_total", result="taken")(1)
        self._backoff.reset()
        self._limits = 0
        if self._trouble:
            self._trouble = ""
            self._telemetry.info("diarisation.rosters_available")

    def _failed(self, job: _Job, error: StenoError) -> bool:
        """Decide when to try again; True when it is given up."""
        now = self._clock()
        retry_s: float | None = self._settings.retry_s
        if isinstance(error, RateLimited):
            result, retry_s = "limited", error.retry_after_s or LIMITED_S
            self._hold(now + retry_s)
            self._limits += 1
            if self._limits > 1:  # once is the platform's everyday
                self._warn("diarisation.rosters_unavailable", error)
        elif isinstance(error, AuthError):
            result, retry_s = "refused", self._settings.refused_s
            self._hold(now + retry_s)
            self._warn("diarisation.rosters_refused", error)
        elif isinstance(error, TransportError):
            result, retry_s = "unavailable", self._backoff.next_delay(self._draw())
            self._hold(now + retry_s)
            self._warn("diarisation.rosters_unavailable", error)
        elif isinstance(error, ObjectMissing):
            result = "missing"  # perhaps not yet there
        else:
            result, retry_s = "unusable", None
            if self._budget.take(now) is not None:
                self._telemetry.warning(
                    "diarisation.roster_unusable",
                    conversation=job.conversation,
                    error_class=error.error_class,
                )
        self._telemetry.counter("steno_rosters_total", result=result)(1)
        if not job.final:
            self._attribution.failed(job.conversation, now=now, retry_after_s=retry_s)
            return True
        whole = result in ("limited", "refused", "unavailable")  # says nothing of this one
        return self._later(job, retry_s, counts=not whole)

    def _later(self, job: _Job, retry_s: float | None, *, counts: bool = True) -> bool:
        """Put a last roster off; True when it is given up."""
        ended = self._ended.get(job.conversation) if job.final else None
        if ended is None:
            return True
        now = self._clock()
        ended.tries += counts
        if retry_s is None or ended.tries >= MAX_TRIES or now + retry_s > ended.until:
            return True
        ended.due = now + retry_s
        return False

    def _hold(self, until: float) -> None:
        self._held_until = max(self._held_until, until)
        self._attribution.hold(until)

    def _warn(self, event: str, error: StenoError) -> None:
        """Log trouble once, until it is over or of another kind."""
        if self._trouble != event:
            self._trouble = event
            status = error.fields.get("status")
            self._telemetry.warning(event, error_class=error.error_class, status=status)

    # --- stored segments ---------------------------------------------------------------------

    async def _put_right(self, conversation: str, cast: Cast) -> None:
        """Give out the next revision of each stored segment that somebody else spoke."""
        changed = 0
        reading = Rereading(self._timeline, conversation, cast, self._settings.batch)
        try:
            while (drafts := await asyncio.to_thread(reading.next)) is not None:
                changed += len(drafts)
                if drafts and (waiting := self._emit(drafts)) is not None:
                    await waiting
        except (StorageError, IntegrityError) as error:
            self._telemetry.warning(
                "diarisation.segments_unreadable",
                conversation=conversation,
                error_class=error.error_class,
            )
        finally:
            await asyncio.to_thread(reading.close)
        if changed:
            self.reattributed += changed
            self._count_reattributed(changed)
            self._telemetry.info(
                "diarisation.reattributed", conversation=conversation, records=changed
            )
