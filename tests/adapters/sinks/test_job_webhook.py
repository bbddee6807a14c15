"""The webhooks of jobs, against a real and often hostile HTTP server."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from conformance.scripted_http import (
    Noted,
    Reply,
    ScriptedServer,
    Seen,
    hangs,
    says,
    scripted,
    waits_for,
)
from conformance.sink_certificates import Authority
from conformance.sink_rules import CANARY, Peer, SinkRules, job
from steno.adapters.sinks import job_webhook
from steno.adapters.sinks.job_webhook import JobWebhookSettings, JobWebhookSink
from steno.adapters.sinks.receivers import ReceiverRules
from steno.core.records import Kind, Record
from steno.core.secret import Secret
from steno.errors import ConfigError, SinkUnavailable, StorageError
from steno.ports import Ack, Outcome, Reject, Retry, Sink, Unwanted
from steno.wire.webhooks import RETRY_SCHEDULE_S, WebhookOutcome

OLD, NEW = ("whsec_" + base64.b64encode(bytes(range(at, at + 32))).decode() for at in (0, 64))
MARK = "hook-canary-77"
LOOPBACK = ("127.0.0.1",)


class Bench:
    """A sink with its addresses, attempts and what it told."""

    def __init__(
        self, url: str = "", *, allow: tuple[str, ...] = LOOPBACK, secret: str = OLD, **more: Any
    ) -> None:
        # Any: settings and arguments of the sink, each test its own.
        self.url = url
        self.failed_attempts = 0
        self.told: list[WebhookOutcome] = []
        self.asked: list[str] = []
        self.noted = Noted()
        self.lookup_error: StorageError | None = None
        self.tell_error: StorageError | None = None
        self.stored: dict[str, Record] = {}
        resolver = more.pop("resolver", None)
        self.sink = JobWebhookSink(
            JobWebhookSettings(secret=Secret(secret), rules=ReceiverRules(allow), **more),
            addresses=self.address,
            attempts=lambda _: self.failed_attempts,
            load=self.load,
            tell=self.tell,
            telemetry=self.noted,
            resolver=resolver,
        )

    async def address(self, job_id: str) -> str:
        self.asked.append(job_id)
        if self.lookup_error is not None:
            error, self.lookup_error = self.lookup_error, None
            raise error
        return self.url

    async def load(self, record_id: str) -> Record | None:
        return self.stored.get(record_id)

    async def tell(self, outcome: WebhookOutcome) -> None:
        if self.tell_error is not None:
            error, self.tell_error = self.tell_error, None
            raise error
        self.told.append(outcome)

    async def outcome(self, record: Record | None = None) -> Outcome:
        """Deliver one record."""
        (outcome,) = await self.sink.deliver([record or job("alpha", 1)])
        return outcome

    @property
    def statuses(self) -> list[str]:
        return [one.webhook_status for one in self.told]


@asynccontextmanager
async def bench(url: str, **more: Any) -> AsyncIterator[Bench]:
    made = Bench(url, **more)
    try:
        yield made
    finally:
        await made.sink.close()


def url_of(server: ScriptedServer, path: str = "/hook", scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{server.host.port}{path}?token={MARK}"


# --- the conformance class ------------------------------------------------------------------


class Receiver:
    """The peer of the conformance class: verifies, and keeps what came."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.ids: list[str] = []

    def __call__(self, seen: Seen) -> web.Response:
        Webhook(OLD).verify(seen.body, dict(seen.headers))
        self.ids.append(seen.headers["webhook-id"])
        return web.Response(status=204)

    async def received(self) -> list[str]:
        return [_key_of(record_id) for record_id in self.ids]

    def fail_once(self) -> None:
        # A receiver's failure is never the destination's; that of the store of jobs is.
        self.bench.lookup_error = StorageError()


def _key_of(record_id: str) -> str:
    return next(
        record.key
        for conversation in ("alpha", "beta", *(f"conversation-{i}" for i in range(8)))
        for number in (1, 100)
        if (record := job(conversation, number)).id == record_id
    )


class TestConformance(SinkRules):
    """The rules of every sink."""

    @pytest.fixture
    async def pair(self) -> AsyncIterator[tuple[Sink, Peer]]:
        """Give a sink and its receiver."""
        made = Bench(max_in_flight=8)
        receiver = Receiver(made)
        async with scripted(receiver) as server:
            made.url = url_of(server)
            yield made.sink, receiver
            await made.sink.close()


# --- what is sent ---------------------------------------------------------------------------


async def test_the_body_is_the_document_s_and_nothing_else() -> None:
    """Five keys in the document's order, the header with the id, JSON as content type."""
    async with scripted(says(200)) as server, bench(url_of(server)) as made:
        assert await made.outcome() == Ack()
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.query) == ("POST", "/hook", {"token": MARK})
    body = json.loads(seen.body)
    assert list(body) == ["transcript_id", "status", "metrics", "speakers", "processed_at"]
    payload = json.loads(job("alpha", 1).payload)
    assert body == {key: payload[key] for key in body}
    assert seen.headers["Content-Type"] == "application/json"
    assert seen.headers["X-Transcript-Id"] == "transcript-1"
    assert made.asked == ["job-alpha-1"]


async def test_the_outcome_has_what_the_audit_log_wants() -> None:
    """Ids, status and metrics of the job, attempt and class; no word of the transcript."""
    async with scripted(says(200)) as server, bench(url_of(server)) as made:
        await made.outcome()
    (told,) = made.told
    assert told.webhook_status == "delivered"
    assert (told.job_id, told.recording_id, told.transcript_id, told.status) == (
        "job-alpha-1", "alpha", "transcript-1", "completed",
    )  # fmt: skip
    assert (told.attempt, told.is_final, told.failure) == (1, True, "")
    assert told.metrics == {"latency_seconds": 12.5, "word_error_rate": 0.125, "total_words": 3}
    assert CANARY not in repr(told)
    assert MARK not in repr(told)


@pytest.mark.parametrize("transcript_id", ["", "t-1\r\nX-Evil: 1", "t 1", "é"])
async def test_an_id_that_is_none_becomes_no_header(transcript_id: str) -> None:
    """A job that failed before it was submitted has no id, and no id can add a header."""
    record = job("alpha", 1, transcript_id=transcript_id, status="failed")
    async with scripted(says(200)) as server, bench(url_of(server)) as made:
        assert await made.outcome(record) == Ack()
    assert "X-Transcript-Id" not in server.seen[0].headers
    assert "X-Evil" not in server.seen[0].headers
    assert json.loads(server.seen[0].body)["transcript_id"] == transcript_id


async def test_signatures_hold_before_the_public_library() -> None:
    """Id, time and signature are accepted, and a changed body is not."""
    async with scripted(says(200)) as server, bench(url_of(server)) as made:
        await made.outcome()
    (seen,) = server.seen
    assert Webhook(OLD).verify(seen.body, dict(seen.headers))["status"] == "completed"
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(seen.body.replace(b"completed", b"cancelled"), dict(seen.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(seen.body, dict(seen.headers))


async def test_during_a_rotation_old_and_new_secret_verify() -> None:
    """Receivers change over when they like."""
    async with (
        scripted(says(200)) as server,
        bench(url_of(server), secret=f"{NEW} {OLD}") as made,
    ):
        await made.outcome()
    for secret in (OLD, NEW):
        assert Webhook(secret).verify(server.seen[0].body, dict(server.seen[0].headers))
    assert len(server.seen[0].headers["webhook-signature"].split(" ")) == 2


async def test_the_message_id_stays_and_the_time_moves() -> None:
    """Every attempt has the record's id; its time is its own, or it would be too old to hold."""
    times = iter((1_000.0, 2_000.0))
    async with scripted(says(503), says(200)) as server, bench(url_of(server)) as made:
        made.sink._clock = lambda: next(times)
        await made.outcome()
        made.failed_attempts = 1
        await made.outcome()
    assert [seen.headers["webhook-id"] for seen in server.seen] == [job("alpha", 1).id] * 2
    assert [seen.headers["webhook-timestamp"] for seen in server.seen] == ["1000", "2000"]
    assert made.statuses == ["failed: PeerUnavailable", "delivered"]


def test_without_a_secret_there_are_no_webhooks() -> None:
    """They are signed, always."""
    with pytest.raises(ConfigError):
        Bench("http://127.0.0.1/", secret="")


# --- whether it is sent ----------------------------------------------------------------------


async def test_a_job_without_a_webhook_costs_no_request() -> None:
    """Unwanted, with no address looked up and nothing told."""
    async with bench("http://127.0.0.1:1/") as made:
        assert await made.outcome(job("alpha", 1, webhook=False)) == Unwanted()
        assert made.sink.kinds == {Kind.JOB}
    assert (made.asked, made.told) == ([], [])


async def test_a_record_without_its_payload_is_loaded() -> None:
    """What waits is held without payload; what was erased meanwhile is not sent."""
    record = job("alpha", 1)
    bare = msgspec.structs.replace(record, payload=b"")
    async with scripted(says(200)) as server, bench(url_of(server)) as made:
        assert await made.outcome(bare) == Unwanted()
        made.stored[record.id] = record
        assert await made.outcome(bare) == Ack()
    assert len(server.seen) == 1


async def test_a_damaged_record_is_a_dead_letter() -> None:
    """What cannot be read is not sent."""
    broken = msgspec.structs.replace(job("alpha", 1), payload=b'{"job":')
    async with bench("http://127.0.0.1:1/") as made:
        assert await made.outcome(broken) == Reject("IntegrityError")


async def test_a_job_that_nobody_knows_is_a_dead_letter() -> None:
    """Without an address there is nothing to try again."""
    async with bench("") as made:
        assert await made.outcome() == Reject("AddressMissing")
    assert made.statuses == ["failed: AddressMissing"]
    assert made.told[0].is_final


async def test_addresses_that_cannot_be_read_hold_up_all() -> None:
    """The store of jobs is everybody's: nothing is known, no attempt is counted."""
    async with scripted(says(200)) as server, bench(url_of(server)) as made:
        made.lookup_error = StorageError()
        with pytest.raises(SinkUnavailable) as caught:
            await made.outcome()
        assert caught.value.fields["cause"] == "StorageError"
        assert await made.outcome() == Ack()
    assert made.statuses == ["delivered"]


async def test_what_could_not_be_told_is_told_again_and_not_sent_again() -> None:
    """The receiver does not pay for a full disk of ours."""
    async with scripted(says(200)) as server, bench(url_of(server)) as made:
        made.tell_error = StorageError()
        with pytest.raises(SinkUnavailable):
            await made.outcome()
        assert await made.outcome() == Ack()
        assert len(server.seen) == 1
        assert made.statuses == ["delivered"]
        await made.outcome()  # told: nothing is remembered of it
        assert len(server.seen) == 2


async def test_telling_has_a_limit() -> None:
    """Who does not take an outcome holds up no lease."""
    async with scripted(says(200)) as server, bench(url_of(server), tell_s=0.05) as made:
        made.sink._tell = lambda _: asyncio.sleep(30)
        with pytest.raises(SinkUnavailable) as caught:
            await made.outcome()
    assert caught.value.fields["cause"] == "TimedOut"


# --- answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_is_success(status: int) -> None:
    """And nothing else is."""
    async with scripted(says(status)) as server, bench(url_of(server)) as made:
        assert await made.outcome() == Ack()
    assert made.statuses == ["delivered"]


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (301, "RedirectRefused"),
        (304, "RedirectRefused"),
        (307, "RedirectRefused"),
        (400, "ReceiverRefused"),
        (401, "AccessRefused"),
        (403, "AccessRefused"),
        (404, "EndpointMissing"),
        (408, "TimedOut"),
        (418, "UnexpectedStatus"),
        (422, "ReceiverRefused"),
        (429, "ReceiverBusy"),
        (500, "PeerUnavailable"),
        (503, "PeerUnavailable"),
        (599, "PeerUnavailable"),
    ],
)
async def test_every_other_status_is_tried_again(status: int, failure: str) -> None:
    """With a class of ours, nothing of the answer in it, and the delay of the schedule."""
    answer = says(status, CANARY.encode(), Location=f"http://127.0.0.1:1/{MARK}")
    async with scripted(answer) as server, bench(url_of(server)) as made:
        assert await made.outcome() == Retry(failure, 5.0)
    assert made.statuses == [f"failed: {failure}"]
    assert not made.told[0].is_final
    assert len(server.seen) == 1


async def test_the_schedule_is_the_specification_s() -> None:
    """Immediately, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h; then no more."""
    delays: list[float | None] = []
    async with scripted(says(500)) as server, bench(url_of(server)) as made:
        for made.failed_attempts in range(8):
            outcome = await made.outcome()
            assert isinstance(outcome, Retry)
            delays.append(outcome.after_s)
    assert delays == [5, 300, 1800, 7200, 18_000, 36_000, 36_000, 0]
    assert [told.attempt for told in made.told] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [told.is_final for told in made.told] == [False] * 7 + [True]
    assert RETRY_SCHEDULE_S[0] == 0


async def test_retry_after_lengthens_a_delay_within_bounds() -> None:
    """Both forms; never shorter than the schedule, never longer than its longest delay."""
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    cases = (("7", 7, 7), ("1", 5, 5), (later, 80, 90), ("99999999", 36_000, 36_000), ("x", 5, 5))
    for value, low, high in cases:
        answer = says(429, None, Retry_After=value)
        async with scripted(answer) as server, bench(url_of(server)) as made:
            outcome = await made.outcome()
            assert isinstance(outcome, Retry)
            assert outcome.after_s is not None
            assert low <= outcome.after_s <= high


async def test_gone_is_final_for_the_address_alone() -> None:
    """After a 410 nothing is sent there, other addresses of the host are; told once."""

    def answer(seen: Seen) -> web.Response:
        return web.Response(status=410 if seen.path == "/gone" else 200)

    async with scripted(answer) as server, bench(url_of(server, "/gone")) as made:
        for number in (1, 2, 3):
            assert await made.outcome(job("alpha", number)) == Reject("EndpointGone")
        made.url = url_of(server, "/here")
        assert await made.outcome() == Ack()
    assert [seen.path for seen in server.seen] == ["/gone", "/here"]
    assert made.statuses == ["failed: EndpointGone"] * 3 + ["delivered"]
    assert made.noted.events("error") == ["sink.endpoint_disabled"]


async def test_gone_is_told_once_however_many_are_on_their_way() -> None:
    """Requests that were under way together say it together."""
    gate = asyncio.Event()
    async with scripted(waits_for(gate, says(410))) as server, bench(url_of(server)) as made:
        held = [asyncio.ensure_future(made.outcome(job("alpha", n))) for n in (1, 2, 3)]
        await server.asked(3)
        gate.set()
        assert await asyncio.gather(*held) == [Reject("EndpointGone")] * 3
    assert made.noted.events() == ["sink.endpoint_disabled"]


async def test_gone_is_heeded_by_those_who_waited_for_their_turn() -> None:
    """What became known meanwhile spares their requests."""
    gate = asyncio.Event()
    async with (
        scripted(waits_for(gate, says(410))) as server,
        bench(url_of(server), max_per_host=1, max_waiting=1) as made,
    ):
        held = [asyncio.ensure_future(made.outcome(job("alpha", n))) for n in (1, 2)]
        await server.asked(1)
        await asyncio.sleep(0.02)
        gate.set()
        assert await asyncio.gather(*held) == [Reject("EndpointGone")] * 2
    assert len(server.seen) == 1


async def test_gone_needs_no_turn_at_a_busy_host() -> None:
    """What is known to be gone neither waits nor comes back later."""

    async def answer(seen: Seen) -> web.Response:
        if seen.path == "/gone":
            return web.Response(status=410)
        await asyncio.sleep(30)
        return web.Response()

    async with (
        scripted(answer) as server,
        bench(url_of(server, "/gone"), max_per_host=1, max_waiting=0, deadline_s=0.3) as made,
    ):
        assert await made.outcome() == Reject("EndpointGone")
        made.url = url_of(server, "/busy")
        busy = asyncio.ensure_future(made.outcome(job("alpha", 2)))
        await server.asked(2)
        assert await made.outcome(job("alpha", 3)) == Retry("RateLimited")
        made.url = url_of(server, "/gone")
        assert await made.outcome(job("alpha", 4)) == Reject("EndpointGone")
        await busy


async def test_a_turn_is_given_back_after_every_outcome() -> None:
    """Success, failure and refusal alike: the next job finds the host free."""
    replies = (says(200), says(500), says(410), says(200))
    async with (
        scripted(*replies) as server,
        bench("", max_per_host=1, max_waiting=0) as made,
    ):
        for number in range(4):
            made.url = url_of(server, f"/{number}")
            assert await made.outcome(job("alpha", number)) != Retry("RateLimited")
    assert len(server.seen) == 4


async def test_nothing_overtakes_within_a_delivery() -> None:
    """Behind one that is tried again the others of the call are not sent."""
    async with scripted(says(503)) as server, bench(url_of(server)) as made:
        outcomes = await made.sink.deliver([job("alpha", 1), job("alpha", 2)])
    assert outcomes == [Retry("PeerUnavailable", 5.0)] * 2
    assert len(server.seen) == 1


async def test_redirects_are_not_followed() -> None:
    """Not even to the same host."""
    redirect = says(307, None, Location="/elsewhere")
    async with scripted(redirect, says(200)) as server, bench(url_of(server)) as made:
        assert isinstance(await made.outcome(), Retry)
    assert [seen.path for seen in server.seen] == ["/hook"]


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
async def test_a_redirect_leads_nowhere_else(status: int) -> None:
    """Neither to this machine nor to another of the operator's, whatever its kind."""
    async with scripted(says(200)) as inside:
        for place in (url_of(inside), f"//127.0.0.1:{inside.host.port}/secret"):
            redirect = says(status, None, Location=place)
            async with scripted(redirect) as server, bench(url_of(server)) as made:
                assert await made.outcome() == Retry("RedirectRefused", 5.0)
            assert len(server.seen) == 1
        assert inside.seen == []


async def test_of_a_gigabyte_64_kilobytes_are_read() -> None:
    """The status counts; the answer's end is not waited for."""
    sent = 0

    class _Flood(web.StreamResponse):
        async def prepare(self, request: web.BaseRequest) -> Any:  # Any: aiohttp's writer
            nonlocal sent
            writer = await super().prepare(request)
            with suppress(ConnectionError):
                for _ in range(16_384):
                    await self.write(b"x" * 65_536)
                    sent += 65_536
            return writer

    async with scripted(lambda _: _Flood()) as server, bench(url_of(server)) as made:
        assert await made.outcome() == Ack()
    assert sent < 64 << 20


Talk = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[str]:
    """Serve a raw socket: after the request's head, ``talk`` has the floor."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{MARK}"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _drip_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-A: b\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def _flood_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-A: b\r\n" * 1000)
        await writer.drain()


async def _one_header_without_end(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-A: ")
    while True:
        writer.write(b"a" * 8192)
        await writer.drain()


async def _reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _garbage(writer: asyncio.StreamWriter) -> None:
    writer.write(CANARY.encode() + b"\r\n\r\n")
    await writer.drain()


async def _continues(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("talk", "failure"),
    [
        (_drip_headers, "TimedOut"),
        (_flood_headers, "RemoteProtocolError"),
        (_one_header_without_end, "RemoteProtocolError"),
        (_continues, "TimedOut"),
        (_reset, "TransportError"),
        (_garbage, "RemoteProtocolError"),
    ],
)
async def test_broken_answers_end_in_time_and_quote_nothing(talk: Talk, failure: str) -> None:
    """Never-ending heads, resets and garbage cost one attempt each, within the limit."""
    async with asyncio.timeout(20), talking(talk) as url, bench(url, deadline_s=0.4) as made:
        assert await made.outcome() == Retry(failure, 5.0)
    assert made.statuses == [f"failed: {failure}"]


async def test_silence_ends_with_the_limit() -> None:
    """Ten seconds in service; less here."""
    async with scripted(hangs()) as server, bench(url_of(server), deadline_s=0.2) as made:
        assert await made.outcome() == Retry("TimedOut", 5.0)
    assert JobWebhookSettings(secret=Secret(OLD), rules=ReceiverRules()).deadline_s == 10.0


async def test_nobody_listening_is_tried_again() -> None:
    """A refused connection is the receiver's failure."""
    async with scripted(says(200)) as server:
        url = url_of(server)
    async with bench(url) as made:
        assert await made.outcome() == Retry("ConnectFailed", 5.0)


async def test_a_certificate_nobody_signed_is_refused() -> None:
    """TLS is verified; there is no switch for it."""
    authority = Authority()
    pair = authority.server("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    try:
        async with (
            scripted(says(200), tls=context) as server,
            bench(url_of(server, scheme="https")) as made,
        ):
            assert await made.outcome() == Retry("TlsFailed", 5.0)
        assert server.seen == []
    finally:
        authority.close()


async def test_tls_to_a_server_that_speaks_none_fails() -> None:
    """An https address is never called in the clear."""
    async with scripted(says(200)) as server, bench(url_of(server, scheme="https")) as made:
        outcome = await made.outcome()
        assert isinstance(outcome, Retry)
        assert outcome.reason in {"TlsFailed", "ConnectFailed"}
    assert server.seen == []


# --- one for all ----------------------------------------------------------------------------


async def test_a_slow_host_has_its_bound_and_others_go_on() -> None:
    """Beyond its calls and its waiting ones, a host's jobs come back later without an attempt."""
    async with scripted(hangs()) as slow, scripted(says(200)) as quick:
        urls = {f"job-slow-{n}": url_of(slow) for n in range(12)}
        urls["job-quick-1"] = url_of(quick)
        async with bench(
            "", max_per_host=2, max_waiting=3, slot_wait_s=0.1, deadline_s=1.5
        ) as made:

            async def address(job_id: str) -> str:
                return urls[job_id]

            made.sink._addresses = address
            held = [
                asyncio.ensure_future(made.outcome(job("slow", number))) for number in range(12)
            ]
            await slow.asked(2)
            assert await made.outcome(job("quick", 1)) == Ack()
            assert sum(not one.done() for one in held) >= 2  # those that are called
            outcomes = await asyncio.gather(*held)
        assert len(slow.seen) == 2
    assert outcomes.count(Retry("TimedOut", 5.0)) == 2
    assert outcomes.count(Retry("RateLimited")) == 10
    assert made.statuses.count("failed: TimedOut") == 2
    assert len(made.told) == 3


# --- where it may lead -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/", "http://2130706433:{port}/", "http://0x7f000001:{port}/",
        "http://0177.0.0.1:{port}/", "http://017700000001:{port}/", "http://127.1:{port}/",
        "http://localhost:{port}/", "http://LOCALHOST.:{port}/", "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/", "http://[::ffff:7f00:1]:{port}/",
        "http://[64:ff9b::7f00:1]:{port}/", "http://[2002:7f00:1::]:{port}/",
        "http://[::]:{port}/", "http://0.0.0.0:{port}/", "http://0:{port}/",
        "http://good.example@127.0.0.1:{port}/", "http://user:pw@good.example:{port}/",
        "http://good.example:{port}\\@127.0.0.1/", "http://10.0.0.1:{port}/",
        "http://100.64.0.1:{port}/", "http://169.254.169.254/latest/meta-data/",
        "http://224.0.0.1:{port}/", "http://[fe80::1%25lo]:{port}/", "http://[fc00::1]:{port}/",
        "http://[ff02::1]:{port}/", "http://１２７.０.０.１:{port}/", "http://good.example:99999/",
        "ftp://127.0.0.1:{port}/", "gopher://127.0.0.1:{port}/", "file:///etc/passwd", "nonsense",
        "http://127.0.0.1:{port}/\r\nX: y", "https:///path",
        # Further forms of this machine, each of which some resolver or router understands.
        "http://0X7F000001:{port}/", "http://0x7f.0.0.0x1:{port}/", "http://0177.1:{port}/",
        "http://127.0.0.1.:{port}/", "http://127.00.00.01:{port}/", "http://4294967297:{port}/",
        "http://0x17f000001:{port}/", "http://[::127.0.0.1]:{port}/", "http://[::1%25lo]:{port}/",
        "http://[0:0:0:0:0:ffff:7f00:0001]:{port}/", "http://[::ffff:0:7f00:1]:{port}/",
        "http://[64:ff9b:1::7f00:1]:{port}/", "http://[64:ff9b::127.0.0.1]:{port}/",
        "http://[2001:0:7f00:1::]:{port}/", "http://[2002:a00:1::1]:{port}/",
        "http://[fe80::5efe:7f00:1]:{port}/", "http://[fec0::1]:{port}/",
        "http://[::ffff:169.254.169.254]/latest/meta-data/", "http://2852039166/",
        "http://0xa9fea9fe/", "http://0251.0376.0251.0376/", "http://[fd00:ec2::254]/",
        "http://127.0.0.1\t:{port}/", "http:127.0.0.1:{port}/", "http:/127.0.0.1:{port}/",
        "http:///127.0.0.1:{port}/", "//127.0.0.1:{port}/", "http://①②⑦.⓪.⓪.①:{port}/",
        "http://127.0.0.1:{port}#@good.example/",
    ],
)  # fmt: skip
async def test_addresses_that_lead_inside_are_refused_for_good(url: str) -> None:
    """However they are written; not one connection is made, and the address is not repeated."""
    async with scripted(says(200)) as server:
        async with bench(url.format(port=server.host.port), allow=()) as made:
            assert await made.outcome() == Reject("AddressForbidden")
        assert server.seen == []
    assert made.statuses == ["failed: AddressForbidden"]
    assert made.noted.text() == "[]"


class Names:
    """A resolver whose answers are scripted; each lookup takes the next."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[Any]:
        # Any: the resolver's answers are dictionaries of aiohttp's.
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            {"hostname": host, "host": address, "port": port, "proto": 0, "flags": 4,
             "family": 10 if ":" in address else 2}
            for address in answer
        ]  # fmt: skip

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["10.0.0.1"],
        ["169.254.169.254"], ["100.64.0.1"], ["224.0.0.1"], ["64:ff9b::7f00:1"], ["2002:7f00:1::"],
        ["8.8.8.8", "::ffff:127.0.0.1"], ["64:ff9b:1::7f00:1"], ["2001:0:7f00:1::"], ["0.0.0.0"],
        ["::"], ["::7f00:1"], ["fe80::1"], ["fd00:ec2::254"], ["192.168.0.1"], ["172.16.0.1"],
    ],
)  # fmt: skip
async def test_names_that_lead_inside_get_no_connection(addresses: list[str]) -> None:
    """Every address of a name is checked; one that is forbidden forbids the name."""
    names = Names(addresses)
    async with scripted(says(200)) as server:
        url = f"http://public.example:{server.host.port}/"
        async with bench(url, allow=(), resolver=names) as made:
            assert await made.outcome() == Retry("AddressForbidden", 5.0)
        assert server.seen == []
    assert names.asked == ["public.example"]


async def test_rebinding_is_harmless() -> None:
    """A name is looked up once for a connection and checked each time it is looked up."""
    async with scripted(says(200, None, Connection="close")) as server:
        url = f"http://rebind.example:{server.host.port}/"
        names = Names(["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1"])
        async with bench(url, resolver=names) as made:
            assert await made.outcome(job("alpha", 1)) == Ack()
            assert len(names.asked) == 1
            assert await made.outcome(job("alpha", 2)) == Retry("AddressForbidden", 5.0)
            assert await made.outcome(job("alpha", 3)) == Ack()
        assert len(names.asked) == 3
        assert len(server.seen) == 2
        assert server.seen[0].headers["Host"] == f"rebind.example:{server.host.port}"


async def test_a_listed_name_may_lead_into_the_operator_s_networks() -> None:
    """And no further: link-local addresses need a network on the list."""
    async with scripted(says(200, None, Connection="close")) as server:
        names = Names(["127.0.0.1"], ["169.254.169.254"])
        url = f"http://hooks.corp.example:{server.host.port}/"
        async with bench(url, allow=("Hooks.corp.example",), resolver=names) as made:
            assert await made.outcome(job("alpha", 1)) == Ack()
            assert await made.outcome(job("alpha", 2)) == Retry("AddressForbidden", 5.0)
            made.url = f"http://other.corp.example:{server.host.port}/"
            names.answers = [["127.0.0.1"]]
            assert await made.outcome(job("alpha", 3)) == Retry("AddressForbidden", 5.0)
        assert len(server.seen) == 1


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would connect on our behalf, unchecked."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    async with scripted(says(200)) as server, bench(url_of(server)) as made:
        assert await made.outcome() == Ack()


# --- secrets --------------------------------------------------------------------------------


async def test_neither_address_nor_secret_nor_words_get_out() -> None:
    """Not by logs, outcomes, errors or representations, whatever the receiver does."""
    replies: tuple[Reply, ...] = (
        says(410, MARK.encode()), says(301, None, Location=f"/{MARK}"), says(500, CANARY.encode()),
    )  # fmt: skip
    seen: list[str] = []
    for reply in replies:
        async with scripted(reply) as server, bench(url_of(server)) as made:
            seen += [repr(await made.outcome()), repr(made.told), made.noted.text()]
            made.lookup_error = StorageError()
            with pytest.raises(SinkUnavailable) as caught:
                await made.outcome(job("beta", 2))
            seen += [repr(caught.value), str(caught.value), repr(caught.value.__cause__)]
            seen += [repr(made.sink), repr(made.sink._settings), repr(made.sink._gone)]
    everything = "\n".join(seen)
    for canary in (MARK, CANARY, OLD, OLD.removeprefix("whsec_"), "127.0.0.1", "/hook"):
        assert canary not in everything


def test_what_the_module_logs_names_no_address() -> None:
    """Every field of every event in the source is of a short list."""
    source = Path(job_webhook.__file__).read_text()
    calls = re.findall(r"_telemetry\.\w+\((.*?)\n\s*\)", source, re.DOTALL)
    fields = {name for call in calls for name in re.findall(r"(\w+)=", call)}
    assert fields == {"destination", "record_id", "status"}
