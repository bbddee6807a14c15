"""The webhook named by a transcription request: one signed POST for a job that has ended.

The body is the tutorial's document (``transcript_id status metrics speakers processed_at``), the
record's id is the message id of every attempt. Addresses are looked up by the job's id when they
are needed: they are in no record, log, metric or error.

A failure is the receiver's alone: it is answered with ``Retry`` and the specification's delay,
so the destination as a whole never pauses for it. ``SinkUnavailable`` is raised only for what
concerns every job: the addresses cannot be read, or outcomes cannot be told.

The outcome of an attempt is told before the record is settled. A crash between the two sends the
record again, with the same message id, and tells again; nothing that happened goes untold.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import msgspec
from aiohttp.abc import AbstractResolver
from yarl import URL

from steno.adapters.sinks.posting import Answer, Poster, reason_of_status
from steno.adapters.sinks.receivers import (
    GoneEndpoints,
    HostSlots,
    Receiver,
    ReceiverRules,
    SharedLookups,
)
from steno.core.ids import is_id
from steno.core.records import Kind, Record
from steno.core.secret import Secret
from steno.errors import ConfigError, SinkUnavailable, StenoError
from steno.ports import Ack, BatchShape, Outcome, Reject, Retry, Telemetry, Unwanted
from steno.wire.webhooks import RETRY_SCHEDULE_S, WebhookOutcome, signed_headers, signing_keys

TRANSCRIPT_HEADER: Final = "X-Transcript-Id"
LOOKUP_S: Final = 5.0
MAX_WISH_S: Final = float(RETRY_SCHEDULE_S[-1])
"""Longest wait that a receiver's Retry-After is granted."""

MAX_UNTOLD: Final = 10_000

# AuthError and RateLimited would cost no attempt (``outbox.PATIENT``) and be tried for ever.
_REASONS: Final = {
    **dict.fromkeys((400, 409, 413, 415, 422), "ReceiverRefused"),
    **dict.fromkeys((401, 403, 407), "AccessRefused"),
    429: "ReceiverBusy",
}

_ACK: Final = Ack()
_NOT_NOW: Final = Retry("RateLimited")
"""No turn at a busy host: our own limit, so it costs no attempt (``outbox.PATIENT``)."""

_T = TypeVar("_T")

Addresses = Callable[[str], Awaitable[str]]
"""Gives the address a job's request named, by the job's id; empty where none is known."""

Load = Callable[[str], Awaitable[Record | None]]
"""Gives a record with its payload, by its id; None where it is no longer to be sent."""

Tell = Callable[[WebhookOutcome], Awaitable[None]]
"""Takes an outcome; when it returns, the outcome is written down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWebhookSettings:
    """How webhooks are called.

    Attributes:
        secret: ``whsec_…``, several separated by spaces during a rotation.
        rules: Which receivers may be called.
        deadline_s: Limit of a request, from resolving the name to the end of the answer.
        tell_s: Limit of telling an outcome.
        max_in_flight: Requests at once.
        max_per_host: Requests to one host at once.
        max_waiting: Requests that may wait for a turn at one host, ``slot_wait_s`` at most.
        schedule_s: Delay before each attempt, seconds; as many as there are attempts.
    """

    secret: Secret
    rules: ReceiverRules
    deadline_s: float = 10.0
    tell_s: float = 10.0
    max_in_flight: int = 256
    max_per_host: int = 8
    max_waiting: int = 24
    slot_wait_s: float = 2.0
    schedule_s: tuple[float, ...] = RETRY_SCHEDULE_S


class _Job(msgspec.Struct, frozen=True, gc=False):
    """What is read of ``JobPayload``; the turns stay the bytes they are."""

    job: str
    recording_id: str
    transcript_id: str
    status: str
    metrics: dict[str, float | int | None]
    speakers: msgspec.Raw
    processed_at: str
    error: str = ""
    webhook: bool = False


class _Body(msgspec.Struct, frozen=True, gc=False):
    """The document's body, keys in its order."""

    transcript_id: str
    status: str
    metrics: dict[str, float | int | None]
    speakers: msgspec.Raw
    processed_at: str


class _Attempt(NamedTuple):
    told: WebhookOutcome
    verdict: Outcome


_DECODE: Final = msgspec.json.Decoder(_Job).decode


class JobWebhookSink:
    """Calls the webhooks of transcription jobs.

    Args:
        addresses: Looks addresses up.
        attempts: Gives the failed attempts of a record so far, by its id, over restarts.
        load: Loads a record that comes without its payload.
        tell: Takes the outcome of each attempt.
        resolver: Finds the addresses of names, which are then checked; the system's if None.

    Raises:
        ConfigError: The secret is not acceptable.
    """

    def __init__(
        self,
        settings: JobWebhookSettings,
        *,
        addresses: Addresses,
        attempts: Callable[[str], int],
        load: Load,
        tell: Tell,
        telemetry: Telemetry,
        name: str = "job-webhooks",
        clock: Callable[[], float] = time.time,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._settings = settings
        self._keys = signing_keys(settings.secret)
        self._addresses = addresses
        self._attempts = attempts
        self._load = load
        self._tell = tell
        self._telemetry = telemetry
        self._name = name
        self._clock = clock
        self._resolver = SharedLookups(resolver)
        self._public = self._poster(is_listed=False)
        self._listed = self._poster(is_listed=True)
        self._slots = HostSlots(settings.max_per_host, settings.max_waiting, settings.slot_wait_s)
        self._gone = GoneEndpoints()
        self._untold: dict[str, _Attempt] = {}
        self._closed = False

    @property
    def name(self) -> str:
        """Destination name."""
        return self._name

    @property
    def kinds(self) -> frozenset[Kind]:
        """Ends of jobs."""
        return frozenset({Kind.JOB})

    @property
    def shape(self) -> BatchShape:
        """One record a request, many requests side by side."""
        return BatchShape(1, True, self._settings.max_in_flight)

    async def deliver(self, records: Sequence[Record]) -> list[Outcome]:
        """Call the webhook of each record's job; see ``ports.Sink``.

        Raises:
            SinkUnavailable: Addresses cannot be read, or an outcome cannot be told.
        """
        if self._closed:
            raise SinkUnavailable(cause="SinkClosed")
        outcomes: list[Outcome] = []
        for record in records:
            outcomes.append(await self._deliver(record))
            if isinstance(outcomes[-1], Retry):
                # Nothing overtakes.
                outcomes += [outcomes[-1]] * (len(records) - len(outcomes))
                break
        return outcomes

    async def close(self) -> None:
        """Close the connections."""
        self._closed = True
        await self._public.close()
        await self._listed.close()
        await self._resolver.close()

    async def _deliver(self, record: Record) -> Outcome:
        # What was sent and could not be told is told again, and not sent again.
        attempt = self._untold.get(record.id)
        if attempt is None:
            loaded = record if record.payload else await _asked(self._load(record.id))
            if loaded is None:
                return Unwanted()  # erased, or settled by hand
            try:
                job = _DECODE(loaded.payload)
            except (msgspec.DecodeError, ValueError):
                return Reject("IntegrityError")
            if not job.webhook:
                return Unwanted()
            attempt = await self._try(record, job)
        if attempt is None:
            return _NOT_NOW
        await self._say(attempt)
        return attempt.verdict

    async def _say(self, attempt: _Attempt) -> None:
        record_id = attempt.told.record_id
        self._untold[record_id] = attempt
        if len(self._untold) > MAX_UNTOLD:  # the oldest would be sent once more
            del self._untold[next(iter(self._untold))]
        try:
            async with asyncio.timeout(self._settings.tell_s):
                await self._tell(attempt.told)
        except TimeoutError:
            raise SinkUnavailable(cause="TimedOut") from None
        except StenoError as error:
            raise SinkUnavailable(cause=error.error_class) from error
        self._untold.pop(record_id, None)

    # --- one attempt ------------------------------------------------------------------------

    async def _try(self, record: Record, job: _Job) -> _Attempt | None:
        """Make one attempt; None when the host has no turn for it."""
        number = self._attempts(record.id) + 1
        address = await _asked(self._addresses(job.job))
        if not address:
            return _refused(record, job, number, "AddressMissing")
        try:
            receiver = self._settings.rules.check(address)
        except ConfigError:
            return _refused(record, job, number, "AddressForbidden")
        if receiver.url in self._gone:
            return _refused(record, job, number, "EndpointGone")
        if not await self._slots.enter(receiver.host):
            return None
        try:
            if receiver.url in self._gone:  # meanwhile
                return _refused(record, job, number, "EndpointGone")
            return await self._post(record, job, number, receiver)
        finally:
            self._slots.leave(receiver.host)

    async def _post(self, record: Record, job: _Job, number: int, receiver: Receiver) -> _Attempt:
        body = _body(job)
        headers = signed_headers(self._keys, record.id, int(self._clock()), body)
        if is_id(job.transcript_id):  # a job that failed early has none
            headers[TRANSCRIPT_HEADER] = job.transcript_id
        poster = self._listed if receiver.is_listed else self._public
        try:
            answer = await poster.post(receiver.url, headers, body)
        except SinkUnavailable as error:
            return self._failed(record, job, number, str(error.fields["cause"]), None)
        return self._judge(record, job, number, receiver.url, answer)

    def _judge(self, record: Record, job: _Job, number: int, url: URL, answer: Answer) -> _Attempt:
        if answer.is_success:
            return _Attempt(_outcome(record, job, number, "", is_final=True), _ACK)
        if answer.status == 410:
            if self._gone.add(url):
                self._telemetry.error(
                    "sink.endpoint_disabled",
                    destination=self._name,
                    record_id=record.id,
                    status=answer.status,
                )
            return _refused(record, job, number, "EndpointGone")
        reason = _reason(answer.status)
        return self._failed(record, job, number, reason, answer.retry_after_s)

    def _failed(
        self, record: Record, job: _Job, number: int, failure: str, wish_s: float | None
    ) -> _Attempt:
        """Return a failure with the delay that follows; after the last the relay gives up."""
        schedule_s = self._settings.schedule_s
        is_final = number >= len(schedule_s)
        delay_s = 0.0 if is_final else max(schedule_s[number], wish_s or 0.0)
        told = _outcome(record, job, number, failure, is_final=is_final)
        return _Attempt(told, Retry(failure, delay_s))

    def _poster(self, *, is_listed: bool) -> Poster:
        settings = self._settings
        return Poster(
            settings.rules.listed if is_listed else settings.rules.public,
            max_in_flight=settings.max_in_flight,
            deadline_s=settings.deadline_s,
            resolver=self._resolver,
            max_wish_s=MAX_WISH_S,
        )


async def _asked(answer: Awaitable[_T]) -> _T:
    """Wait for one of our stores.

    Raises:
        SinkUnavailable: It failed, or is too slow.
    """
    try:
        async with asyncio.timeout(LOOKUP_S):
            return await answer
    except TimeoutError:
        raise SinkUnavailable(cause="TimedOut") from None
    except StenoError as error:
        raise SinkUnavailable(cause=error.error_class) from error


def _body(job: _Job) -> bytes:
    return msgspec.json.encode(
        _Body(job.transcript_id, job.status, job.metrics, job.speakers, job.processed_at)
    )


def _reason(status: int) -> str:
    return _REASONS.get(status) or reason_of_status(status)


def _refused(record: Record, job: _Job, number: int, failure: str) -> _Attempt:
    """Return the end of a webhook that no later attempt would help."""
    return _Attempt(_outcome(record, job, number, failure, is_final=True), Reject(failure))


def _outcome(
    record: Record, job: _Job, number: int, failure: str, *, is_final: bool
) -> WebhookOutcome:
    return WebhookOutcome(
        record_id=record.id,
        job_id=job.job,
        recording_id=job.recording_id,
        transcript_id=job.transcript_id,
        status=job.status,
        metrics=job.metrics,
        error=job.error,
        attempt=number,
        failure=failure,
        is_final=is_final,
    )
