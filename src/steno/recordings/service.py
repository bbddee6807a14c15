"""Carries transcription jobs out: asks the machine for the next step, does it, stores what follows.

Order, so that a kill at any point costs nothing and doubles nothing:

- A submission: the intent is stored, then sent, then its outcome is stored (``recordings.job``).
- A completed job: its file, then its record, then its end together with its facts. A kill between
  means that the words are asked for again; the file is replaced, the record is known already.
- Any other end: first the end, then the record.
- Then the end is *settled* (``recordings.ends``): the webhook's first attempt, the audit log's
  entry, and last a note in the store of jobs. Ends without that note are settled at the next
  start; those that a kill left between entry and note are found in the audit log and only noted.
  So an end has one entry, as long as the log can be read.

A job is in one pair of hands at a time: wishes wait until its call is over.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import assert_never

import msgspec

from steno.core.quality import Metrics
from steno.errors import AuthError, ConfigError, RateLimited, RemoteProtocolError, StenoError
from steno.ports import Commit, Telemetry
from steno.ports.jobs import EndedJob, Job, JobState, JobStore, Wish, WishKind
from steno.recordings.calls import ApiOf, Records, WriteFile
from steno.recordings.ending import (
    Identity,
    Results,
    draft_of,
    error_class,
    facts_of,
    read_facts,
    refused_facts,
    results_of,
)
from steno.recordings.ends import Ends, Recorded
from steno.recordings.job import JobMachine, Keep, Look, Poll, Submit, Wait, failure_of
from steno.recordings.outputs import Transcript, encoded
from steno.recordings.pace import Pace
from steno.recordings.turns import Turn
from steno.redaction import Redactor
from steno.wire.recording_jobs import JobAnswer, JobStatus

_US = 1_000_000
_LEAST_SHARE = 8
"""A submission is not begun with less than this part of its time left."""
_LONGEST_WAIT_S = 400.0
_FULL_S = 0.1
_WISHES_AT_ONCE = 1000


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How jobs are carried out.

    Attributes:
        concurrency: Calls side by side.
        per_minute: Calls begun in a minute, of all jobs together.
        submit_limit_s: Longest submission. The machine's ``settle_s`` must be longer.
        preflight: Ask for the recording before a job is submitted.
        strict_words: A word that cannot be read fails the job.
        wish_s: How often wishes are looked for.
        stop_s: How long calls in flight may take after a stop.
        settling: Ends that are settled side by side; beyond it nothing new is begun.
    """

    concurrency: int = 20
    per_minute: float = 240.0
    submit_limit_s: float = 40.0
    preflight: bool = False
    strict_words: bool = False
    wish_s: float = 0.5
    stop_s: float = 5.0
    settling: int = 256


@dataclass(slots=True)
class Tally:
    """Ends of this run. Sums of latencies and estimates are over those that have one."""

    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    latency_s: float = 0.0
    latencies: int = 0
    estimate: float = 0.0
    estimates: int = 0
    words: int = 0
    paused: int = 0

    @property
    def ended(self) -> int:
        """Jobs that ended."""
        return sum(self.states.values())

    def add(self, job: Job, metrics: Metrics) -> None:
        """Count an end."""
        self.states[job.state.value] += 1
        if job.state is JobState.FAILED:
            self.reasons[job.reason] += 1
        if job.state is not JobState.COMPLETED:
            return
        self.words += metrics.total_words
        if metrics.latency_seconds is not None:
            self.latency_s += metrics.latency_seconds
            self.latencies += 1
        if metrics.word_error_rate is not None:
            self.estimate += metrics.word_error_rate
            self.estimates += 1


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the service works with, beside the store and the calls.

    Attributes:
        redactor: Removes personal data, but of jobs that were asked for without.
        write: Writes the transcript's file, where one is wanted.
        compare: Given the turns as they came, for a comparison with a reference; blocks.
        ends: Settles ends.
    """

    records: Records
    ends: Ends
    telemetry: Telemetry
    identity: Identity
    redactor: Redactor
    utc_us: Callable[[], int]
    draw: Callable[[], float]
    clock: Callable[[], float] = time.monotonic
    write: WriteFile = lambda job, pieces: None
    compare: Callable[[Job, Sequence[Turn]], None] | None = None
    changed: Callable[[Tally], None] = lambda tally: None


class RecordingsService:
    """Carries out every active job of the store until none is left, or a stop is asked for.

    Args:
        store: The list of jobs; this is its one owner.
        api_of: Returns the calls of the engine that transcribes a job.
        machine: Decides every move.
        around: Everything else.
        pace: Turns for calls, where others call beside this.
    """

    def __init__(
        self,
        store: JobStore,
        api_of: ApiOf,
        machine: JobMachine,
        around: Surroundings,
        settings: ServiceSettings | None = None,
        *,
        pace: Pace | None = None,
    ) -> None:
        self._store = store
        self._api_of = api_of
        self._machine = machine
        self._around = around
        self._settings = settings or ServiceSettings()
        if self._settings.submit_limit_s >= machine.policy.settle_s:
            raise ConfigError("a submission must be over before it is looked for", setting="settle")
        self._pace = pace or Pace(self._settings.per_minute, clock=around.clock)
        self._tally = Tally()
        self._in_hand: dict[str, asyncio.Task[None]] = {}
        self._beginning: dict[str, str] = {}  # planned jobs in hand, of engines with little room
        self._is_full = False  # a planned job waits for room
        self._settling: set[asyncio.Task[None]] = set()
        self._paused_here: set[str] = set()
        self._started_at: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._fatal: StenoError | None = None
        self._working = asyncio.Lock()  # one transcript at a time: it is all processor
        self._wanted: set[str] = set()  # in hand, with a wish that waits
        self._waiting = 0
        self._wished_at = float("-inf")

    @property
    def tally(self) -> Tally:
        """Ends so far."""
        return self._tally

    @property
    def calls(self) -> int:
        """Calls begun so far."""
        return self._pace.calls

    async def run(self, stop: asyncio.Event) -> Tally:
        """Carry jobs out until no job is active, or ``stop`` is set.

        It waits for jobs that are paused while it runs, not for those that were before.

        Raises:
            AuthError: The credentials are refused: no job can go on. None has failed by it.
            StorageError: A store, a file or the audit log failed.
        """
        await self._store.clamp(self._now() + int(_LONGEST_WAIT_S * _US))
        stopping = asyncio.create_task(stop.wait(), name="stop")
        stopping.add_done_callback(lambda _: self._wake.set())
        try:
            if owed := await self._around.ends.earlier():
                self._settle(self._around.ends.settle_all(owed))
            await self._loop(stop)
        finally:
            stopping.cancel()
            await self._wind_down(hurried=stop.is_set() or self._fatal is not None)
        if self._fatal is not None:
            raise self._fatal
        return self._tally

    # --- what is begun when ------------------------------------------------------------------

    async def _loop(self, stop: asyncio.Event) -> None:
        while not stop.is_set() and self._fatal is None:
            self._wake.clear()
            due = self._around.clock() - self._wished_at >= self._settings.wish_s
            if due or not self._wanted <= self._in_hand.keys():
                self._wished_at = self._around.clock()
                await self._grant_wishes()
            begun = await self._begin()
            if not begun and not self._in_hand and not self._settling and await self._is_done():
                return
            await self._pause(await self._wait_s())

    async def _begin(self) -> bool:
        """Take due jobs in hand, as many as may be; tell whether there were any."""
        free = self._settings.concurrency - len(self._in_hand)
        # Whoever waits for a turn cannot be paused or cancelled: no more than a second's worth.
        free = min(free, max(2, int(self._settings.per_minute / 60)) - self._waiting)
        self._is_full = False
        if free <= 0 or len(self._settling) >= self._settings.settling:
            return False
        jobs = await self._store.due(self._now(), limit=free, excluding=self._in_hand.keys())
        jobs = [job for job in jobs if self._is_taken(job)]
        for job in jobs:
            task = asyncio.create_task(self._carry(job), name="job")
            self._in_hand[job.id] = task
            task.add_done_callback(lambda done, key=job.id: self._put_down(key, done))  # type: ignore[misc]
        return bool(jobs)

    def _is_taken(self, job: Job) -> bool:
        """Tell whether the engine has room for a job; one that was begun always has its place."""
        if job.state is not JobState.PLANNED:
            return True
        room = self._api_of(job.engine).room
        if room is None:
            return True
        if sum(each == job.engine for each in self._beginning.values()) >= room:
            self._is_full = True
            return False
        self._beginning[job.id] = job.engine
        return True

    def _put_down(self, job_id: str, task: asyncio.Task[None]) -> None:
        self._in_hand.pop(job_id, None)
        self._beginning.pop(job_id, None)
        self._note(task)

    def _note(self, task: asyncio.Task[None]) -> None:
        """Keep the first error that ends everything."""
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, StenoError):
                error = StenoError("a bug of ours met a job", cause=type(error).__name__)
            self._fatal = self._fatal or error
        self._wake.set()

    async def _is_done(self) -> bool:
        return await self._store.next_due_us() is None and not self._paused_here

    async def _wait_s(self) -> float:
        longest_s = self._settings.wish_s
        if self._is_full:
            return min(longest_s, _FULL_S)  # what is due is planned jobs: polls come between
        if self._waiting or len(self._in_hand) >= self._settings.concurrency:
            return longest_s
        if len(self._settling) >= self._settings.settling:
            return longest_s
        due_us = await self._store.next_due_us(excluding=self._in_hand.keys())
        if due_us is None:
            return longest_s
        return min(longest_s, max(0.0, (due_us - self._now()) / _US))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _wind_down(self, *, hurried: bool) -> None:
        """Let what is in flight end; a submission that is cut off is in doubt, and no more."""
        limit_s = self._settings.stop_s if hurried else None
        while tasks := {*self._in_hand.values(), *self._settling}:
            _, late = await asyncio.wait(tasks, timeout=limit_s)
            if late:
                for task in late:
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)
            await asyncio.sleep(0)  # their callbacks

    # --- wishes ------------------------------------------------------------------------------

    async def _grant_wishes(self) -> None:
        vain: list[int] = []
        self._wanted.clear()
        for wish in await self._store.wishes(limit=_WISHES_AT_ONCE):
            if len(self._settling) >= self._settings.settling:
                break  # the rest stays there
            if wish.job_id in self._in_hand:
                self._wanted.add(wish.job_id)  # when its call is over
                continue
            job = await self._store.get(wish.job_id)
            wanted = job if job is None else self._machine.granted(job, wish, self._now())
            if job is None or wanted is None or wanted is job:
                vain.append(wish.number)
            else:
                await self._grant(wish, wanted)
        if vain:
            await self._store.dismiss(vain)

    async def _grant(self, wish: Wish, job: Job) -> None:
        if job.has_ended:
            await self._ended(job, granted=wish.number)
        else:
            await self._store.move(job, granted=wish.number)
        if wish.kind is WishKind.PAUSE:
            self._paused_here.add(job.id)
        else:
            self._paused_here.discard(job.id)
        self._tally.paused = len(self._paused_here)

    # --- one job -----------------------------------------------------------------------------

    async def _carry(self, job: Job) -> None:
        while True:
            step = self._machine.next_step(job, self._now())
            match step:
                case Keep():
                    job = step.job
                    if job.has_ended:
                        await self._ended(job)
                        return
                    if not await self._store.move(job):
                        return
                case Submit():
                    await self._submit(job)
                    return
                case Look():
                    await self._look(job)
                    return
                case Poll():
                    await self._poll(job)
                    return
                case Wait():
                    return
                case _:
                    assert_never(step)

    async def _submit(self, job: Job) -> None:
        api = self._api_of(job.engine)
        await self._turn()
        try:
            await api.ready()
            if self._settings.preflight and not job.submissions:
                facts = await api.preflight(job.request)
                self._started_at[job.id] = facts.started_us
                await self._turn()
        except StenoError as error:
            await self._failed(job, error)
            return
        step = self._machine.next_step(job, self._now())  # the turn may have taken its time
        if not isinstance(step, Submit) or not await self._store.move(step.intent):
            return
        intent = step.intent
        longest_s = self._settings.submit_limit_s
        slack_s = (self._machine.policy.settle_s - longest_s) / 2
        limit_s = min(longest_s, (intent.next_due_us - self._now()) / _US - slack_s)
        if limit_s < longest_s / _LEAST_SHARE:
            return  # the store took so long that it could arrive too late: in doubt, looked for
        try:
            answer = await api.submit(intent.request, key=intent.id, limit_s=limit_s)
        except StenoError as error:
            await self._failed(intent, error)
            return
        self._learn(job)
        await self._keep(self._machine.accepted(intent, answer, self._now(), self._around.draw()))

    async def _look(self, job: Job) -> None:
        await self._turn()
        try:
            found = await self._api_of(job.engine).look(job.request)
        except StenoError as error:
            await self._failed(job, error)
            return
        self._learn(job)
        owners = await self._store.owners([each.id for each in found])
        owned = {name for name, owner in owners.items() if owner != job.id}
        await self._keep(self._machine.looked(job, found, owned, self._now()))

    async def _poll(self, job: Job) -> None:
        await self._turn()
        try:
            answer, wait_s = await self._api_of(job.engine).poll(job.transcript_id, job.request)
        except StenoError as error:
            await self._failed(job, error)
            return
        self._learn(job)
        after = self._machine.polled(
            job, answer, self._now(), self._around.draw(), retry_after_s=wait_s
        )
        if after.state is JobState.COMPLETED:
            await self._completed(job, after, answer)
        else:
            await self._keep(after)

    async def _keep(self, job: Job) -> None:
        if job.has_ended:
            await self._ended(job)
        else:
            await self._store.move(job)

    async def _failed(self, job: Job, error: StenoError) -> None:
        self._learn(job)
        failure = failure_of(error)
        if isinstance(error, RateLimited):
            wait_s = error.retry_after_s or self._machine.policy.retry_first_s
            self._pace.hold(wait_s)
            self._around.telemetry.warning("recordings.rate_held", wait_s=wait_s)
        if isinstance(error, AuthError) and failure.status != 403:
            # It concerns every job, and none may fail by it. A submission was surely not taken.
            self._fatal = self._fatal or error
            self._wake.set()
            if job.state is JobState.SUBMITTING:
                job = msgspec.structs.replace(job, attempts=0)
                failure = msgspec.structs.replace(failure, is_retryable=True, may_be_taken=False)
                await self._keep(self._machine.call_failed(job, failure, self._now(), 0.0))
            return
        draw = self._around.draw()
        await self._keep(self._machine.call_failed(job, failure, self._now(), draw))

    def _learn(self, job: Job) -> None:
        if self._pace.learn(self._api_of(job.engine).rate, len(self._in_hand)):
            self._around.telemetry.warning("recordings.rate_held", wait_s=self._pace.held_s)

    async def _turn(self) -> None:
        self._waiting += 1
        try:
            await self._pace.turn()
        finally:
            self._waiting -= 1
            self._wake.set()

    def _now(self) -> int:
        return self._around.utc_us()

    # --- ends --------------------------------------------------------------------------------

    async def _completed(self, before: Job, job: Job, answer: JobAnswer) -> None:
        """Store the results of a job, then its end."""
        assert answer.status is JobStatus.COMPLETED
        assert answer.words is not None  # or the machine had failed it
        words = memoryview(answer.words).tobytes()
        if answer.started_us:
            self._started_at[job.id] = answer.started_us
        try:
            async with self._working:
                results = await asyncio.to_thread(self._work, job, words)
        except RemoteProtocolError as error:
            refused = self._machine.refuse_result(before, self._now())
            await self._stored(refused, refused_facts(refused, error))
            return
        if results.unreadable or results.withheld:
            self._around.telemetry.warning(
                "recordings.words_left_out", count=results.unreadable, lost=results.withheld
            )
        transcript = results.transcript
        draft = draft_of(job, transcript, self._around.identity)
        with ExitStack() as stack:
            expectation = stack.enter_context(self._around.ends.expecting(job.id))
            await self._around.records.submit(Commit((draft,)))
            facts = facts_of(
                job,
                transcript,
                unreadable=results.unreadable,
                unreadable_words=results.unreadable_words,
            )
            await self._stored(job, facts, recorded=Recorded(expectation, stack))

    def _work(self, job: Job, words: bytes) -> Results:
        started_at_us = self._started_at.pop(job.id, 0) or None
        results = results_of(
            job,
            words,
            redactor=self._around.redactor if job.redact else None,
            strict=self._settings.strict_words,
            started_at_us=started_at_us,
        )
        if self._around.compare is not None:
            self._around.compare(job, results.said)
        self._around.write(job, lambda: _pieces(results.transcript, job.request.format))
        return results

    async def _ended(self, job: Job, *, granted: int = 0) -> None:
        """Store an end without results."""
        await self._stored(job, facts_of(job, None), granted=granted)

    async def _stored(
        self, job: Job, facts: bytes, *, recorded: Recorded | None = None, granted: int = 0
    ) -> None:
        ends = self._around.ends
        ends.owe(job.id)
        if not await self._store.move(job, granted=granted, facts=facts):
            ends.forgive(job.id)
            return
        if recorded is not None:  # who settles goes on waiting for the webhook
            recorded = Recorded(recorded.expectation, recorded.stack.pop_all())
        self._started_at.pop(job.id, None)
        metrics = read_facts(job, facts)
        self._tally.add(job, metrics)
        self._around.changed(self._tally)
        self._around.telemetry.info(
            "recordings.job_ended",
            state=job.state.value,
            reason=error_class(job),
            code=job.code,
            duration_s=metrics.latency_seconds or 0.0,
            attempts=job.submissions,
        )
        self._settle(ends.settle(EndedJob(job, facts), recorded))

    def _settle(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="settle")
        self._settling.add(task)
        task.add_done_callback(self._settled)

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._settling.discard(task)
        self._note(task)


def _pieces(transcript: Transcript, form: str) -> Iterator[bytes]:
    try:
        return encoded(transcript, form, words=form == "json")
    except ConfigError:  # subtitles without times
        raise RemoteProtocolError("the result has no times") from None
