"""Building ``recordings``: the list of jobs, the way to the service, records and audit log."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import msgspec

from steno import __version__
from steno.adapters.audit_log import AuditLog, AuditPlaces
from steno.adapters.job_store import SqliteJobStore
from steno.adapters.state_dir import StateDir
from steno.app.audit_entries import EntriesOf, actor
from steno.app.engines import engine_of, needs_conversations
from steno.app.gateway import Delivery, open_delivery
from steno.app.job_webhooks import drain_webhooks, job_webhooks, receiver_rules
from steno.app.platform import Platform, demand_token, hosts_of, open_platform, utc_us
from steno.app.redactor import make_redactor
from steno.config import Config, OAuthShape
from steno.errors import ConfigError, StorageError
from steno.observability import LogTelemetry
from steno.ports.jobs import Job, JobState, JobStore
from steno.recordings.calls import WriteFile
from steno.recordings.ending import Identity
from steno.recordings.ends import Ends
from steno.recordings.job import Doubt, JobMachine, Policy, plan
from steno.recordings.pace import Pace
from steno.recordings.requests import BadLine, GoodLine, Line, RequestRules
from steno.recordings.service import RecordingsService, ServiceSettings, Surroundings, Tally
from steno.recordings.turns import Turn
from steno.recordings.webhooks import DESTINATION
from steno.wire.oauth import Feature
from steno.wire.webhooks import RETRY_SCHEDULE_S

Again = Literal["failed", "all"]

_ADDED_AT_ONCE = 2000
_TARGETS = 16
"""Places of transcripts that are held open; those of earlier runs are few."""

_MAX_RUNS = 1000
_SUBMIT_SHARE = 8 / 9  # of settle_s: 40 s of 45


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """What one run is told beside the settings.

    Attributes:
        out: Path or address of the transcripts, ``{recording}`` in it stands for the id; ``-``
            for standard output; empty for none. Jobs keep it, and ``redact``, until they have
            ended: what this run leaves, a later one writes where it was asked for.
        again: Which of the jobs that have ended before are done once more.
        engine: Of new jobs; one that this run has (``transcribe.engine``).
        on_line: Told of every line that is no job.
        on_changed: Told of every end, with the number of jobs there are.
        webhook_schedule_s: Delay before each attempt to call a webhook, seconds.
    """

    batch: str = ""
    out: str = ""
    redact: bool = True
    again: Again | None = None
    engine: str = "service"
    reference: str | None = None
    on_line: Callable[[Line], None] = lambda line: None
    on_changed: Callable[[Tally, int], None] = lambda tally, total: None
    webhook_schedule_s: Sequence[float] = RETRY_SCHEDULE_S


@dataclass(slots=True)
class Added:
    """What became of the input.

    Attributes:
        new: Jobs that were not known.
        known: Jobs that were, by the state they were in.
        paused: Of those, how many are paused.
        bad: Lines that are no request.
        webhooks: Requests that name a webhook.
    """

    new: int = 0
    known: dict[str, int] = field(default_factory=dict)
    paused: int = 0
    bad: int = 0
    webhooks: int = 0
    ids: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run did; ``rates`` compares with a reference where there was one.

    Attributes:
        webhooks_waiting: Webhooks that the next run, or ``steno outbox deliver``, will send.
    """

    added: Added
    tally: Tally
    left: int
    calls: int
    seconds: float
    drained: bool
    webhooks_waiting: int = 0
    rates: object | None = None


def rules_of(config: Config) -> RequestRules:
    """Return what requests may ask for."""
    receivers = receiver_rules(config)
    return RequestRules(
        languages=config.transcribe.languages,
        allow=receivers.networks,
        hosts=receivers.hosts,
        conversations=needs_conversations(config),
    )


def machine_of(config: Config) -> JobMachine:
    """Build the machine of the settings."""
    wanted = config.transcribe
    return JobMachine(
        Policy(
            poll_first_s=wanted.poll_first_s,
            poll_cap_s=wanted.poll_max_s,
            max_retries=wanted.retries,
            retry_first_s=wanted.retry_first_s,
            retry_cap_s=wanted.retry_max_s,
            total_s=wanted.deadline_s,
            settle_s=wanted.settle_s,
            doubt=Doubt(wanted.doubt),
            unlookable=Doubt(wanted.unlookable),
        )
    )


async def transcribe(
    config: Config,
    lines: Iterable[Line],
    *,
    stop: asyncio.Event,
    telemetry: LogTelemetry,
    options: TranscribeOptions,
) -> Outcome:
    """Add the requests to the list of jobs and carry out every job that is not ended.

    Jobs that an earlier run left are carried out too.

    Raises:
        ConfigError, AuthError: It can never work as it is set up.
        StorageError: A store, a file or the audit log failed.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with AsyncExitStack() as stack:
        state = StateDir(config.state_dir)
        state.prepare()
        stack.enter_context(state)
        platform = await _platform(config, stack, state, telemetry)
        await demand_token(platform, stop)
        store = await asyncio.to_thread(SqliteJobStore.open, state.jobs)
        stack.push_async_callback(store.close)
        places = AuditPlaces.of(state.root, config.transcribe.audit_log)
        audit = await stack.enter_async_context(AuditLog(places, telemetry=telemetry))
        group = hosts_of(config).api.authority
        identity = Identity(group, actor(), __version__)
        ends = Ends(store, audit, EntriesOf(places.log), identity, telemetry)
        webhooks = job_webhooks(
            config, state, store, ends, telemetry, schedule_s=options.webhook_schedule_s
        )
        # No capability by name: without a destination, records stay in the store.
        delivery = await open_delivery(
            config, state, stack, telemetry=telemetry, features=(), extras=(webhooks,)
        )
        ends.bind(delivery.store)
        pace = Pace(config.transcribe.per_minute, clock=time.monotonic)
        # Before any job is stored: those of an engine that cannot be had would be in the way of
        # every later run.
        api_of = await engine_of(
            config, platform, state, stack, telemetry=telemetry, turn=pace.turn
        )
        added = await add_jobs(store, lines, host_group=group, options=options)
        before = await store.counts()
        waiting = before.total - before.ended
        comparison = _Comparison(options.reference, added.ids)
        service = RecordingsService(
            store,
            api_of,
            machine_of(config),
            Surroundings(
                records=delivery.store,
                ends=ends,
                telemetry=telemetry,
                identity=identity,
                redactor=make_redactor(config),
                utc_us=steady_utc(),
                draw=random.random,
                write=writer_of(options.out, asked=added.ids),
                compare=comparison.take if options.reference is not None else None,
                changed=lambda tally: options.on_changed(tally, max(waiting, tally.ended)),
            ),
            service_settings(config),
            pace=pace,
        )
        renewing = [asyncio.create_task(each.run(), name="tokens") for each in platform.managers]
        try:
            tally = await service.run(stop)
        finally:
            for task in renewing:
                task.cancel()
            await asyncio.gather(*renewing, return_exceptions=True)
        drained, left = await _drain(delivery, 0.0 if stop.is_set() else config.delivery.drain_s)
        counts = await store.counts()
        return Outcome(
            added,
            tally,
            counts.total - counts.ended,
            service.calls,
            loop.time() - started,
            drained,
            left,
            comparison.rates,
        )


def steady_utc() -> Callable[[], int]:
    """Return a clock that shows UTC microseconds and does not jump when the wall clock is set.

    Jobs are due at times on it: an hour back would hold all of them up for an hour, a day forward
    would take their deadlines for passed. The next start goes by the wall clock again.
    """
    begun_us, begun = utc_us(), time.monotonic()
    return lambda: begun_us + int((time.monotonic() - begun) * 1_000_000)


async def _drain(delivery: Delivery, limit_s: float) -> tuple[bool, int]:
    """Deliver for a while; tell whether everything was, and how many webhooks wait."""
    others = [relay.drain(limit_s) for relay in delivery.relays if relay.name != DESTINATION]
    left, *done = await asyncio.gather(drain_webhooks(delivery, limit_s), *others)
    return all(done) and not left, left


def service_settings(config: Config) -> ServiceSettings:
    """Return how jobs are carried out."""
    wanted = config.transcribe
    return ServiceSettings(
        concurrency=wanted.concurrency,
        per_minute=wanted.per_minute,
        submit_limit_s=wanted.settle_s * _SUBMIT_SHARE,
        preflight=wanted.preflight,
        strict_words=wanted.strict_words,
    )


async def _platform(
    config: Config, stack: AsyncExitStack, state: StateDir, telemetry: LogTelemetry
) -> Platform:
    return await open_platform(
        config,
        stack,
        tokens_dir=state.tokens,
        telemetry=telemetry,
        features=(Feature.TRANSCRIBE,),
        shape=OAuthShape.FORM,
    )


# --- input -----------------------------------------------------------------------------------


async def add_jobs(
    store: JobStore, lines: Iterable[Line], *, host_group: str, options: TranscribeOptions
) -> Added:
    """Store a job for each request; what is known stays, see ``JobStore.add``."""
    added = Added()
    jobs: list[Job] = []
    for line in lines:
        if not isinstance(line, GoodLine):
            added.bad += isinstance(line, BadLine)
            options.on_line(line)
            continue
        if line.warnings:
            options.on_line(line)
        added.webhooks += bool(line.request.webhook)
        jobs.append(
            plan(
                line.request,
                host_group=host_group,
                now_us=utc_us(),
                batch=options.batch,
                engine=options.engine,
                out=_kept_out(options.out),
                redact=options.redact,
            )
        )
        if len(jobs) == _ADDED_AT_ONCE:
            await _add(store, jobs, host_group, options, added)
            jobs.clear()
    await _add(store, jobs, host_group, options, added)
    return added


async def _add(
    store: JobStore, jobs: list[Job], host_group: str, options: TranscribeOptions, added: Added
) -> None:
    for job, new in zip(jobs, await store.add(jobs), strict=True):
        if new:
            added.new += 1
            added.ids.add(job.id)
            continue
        found = await store.get(job.id)
        run = 0
        while found is not None and _is_wanted_again(found, options.again) and run < _MAX_RUNS:
            run += 1
            job = plan(
                job.request,
                host_group=host_group,
                now_us=utc_us(),
                batch=options.batch,
                engine=options.engine,
                run=run,
                out=_kept_out(options.out),
                redact=options.redact,
            )
            if (await store.add([job]))[0]:
                added.new += 1
                found = None
            else:
                found = await store.get(job.id)
        added.ids.add(job.id)
        if found is not None:
            added.known[found.state.value] = added.known.get(found.state.value, 0) + 1
            added.paused += bool(found.paused_us)


def _is_wanted_again(job: Job, again: Again | None) -> bool:
    if again is None or not job.has_ended:
        return False
    return again == "all" or job.state is not JobState.COMPLETED


# --- output ----------------------------------------------------------------------------------


def require_out(out: str) -> None:
    """Find out before the work that transcripts cannot be written there.

    Raises:
        ConfigError: It names no target, or its folder is not there or not ours to write in.
    """
    from steno.adapters.exports.targets import require_target

    if out:
        require_target(_template(out))


def is_per_recording(out: str) -> bool:
    """Tell whether every recording gets a file of its own."""
    return "{recording}" in out


def writer_of(out: str, *, asked: Collection[str]) -> WriteFile:
    """Return what writes transcripts: each where it was asked for, by this run or an earlier one.

    A job that no place was named for is written to this run's, ``out``, if it was asked for by
    this run too, or every recording has a file of its own there. So nobody's transcript replaces
    that of another.

    Args:
        asked: Ids of the jobs that this run was asked for.
    """
    from steno.adapters.exports.targets import ReaderGone, target_of

    targets = lru_cache(maxsize=_TARGETS)(lambda place: target_of(_template(place), None))

    def write(job: Job, pieces: Callable[[], Iterator[bytes]]) -> None:
        is_ours = job.id in asked or is_per_recording(out)
        place = job.out or (out if is_ours else "")
        if not place:
            return
        try:
            targets(place).write(job.request.recording_id, pieces())
        except ReaderGone:
            raise StorageError("nobody reads standard output any more") from None
        except (ConfigError, StorageError) as error:
            if job.id in asked:
                raise
            raise StorageError(
                "the transcript of an earlier run's job cannot be written where it was to go",
                fix="`steno jobs show` tells the place: make its folder, ask for the recording "
                "with another --out, or cancel the job.",
                job_id=job.id,
                cause=error.error_class,
            ) from error

    return write


def _kept_out(out: str) -> str:
    """Return a place as a later run understands it, wherever it is started; none for a pipe."""
    if out == "-":
        return ""
    return out if not out or "://" in out else os.path.abspath(out)


def _template(out: str) -> str:
    return out.replace("{recording}", "{conversation}")


class _Comparison:
    """True error rates of the one transcript that there is a reference for.

    Jobs that an earlier run left end in this run too: they are not ``asked`` for.
    """

    def __init__(self, reference: str | None, asked: Collection[str]) -> None:
        self._reference = reference
        self._asked = asked
        self.rates: object | None = None

    def take(self, job: Job, turns: Sequence[Turn]) -> None:
        from steno.adapters.error_rates import error_rates

        if self._reference is not None and job.id in self._asked:
            said = " ".join(turn.text for turn in turns)
            self.rates = msgspec.to_builtins(error_rates(self._reference, said))
