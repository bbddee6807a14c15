"""The webhook sink against a real, sometimes hostile, HTTP server."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from conformance.sink_rules import CANARY, Peer, Recorder, SinkRules, gap, keys, sentence
from steno.adapters.sinks.webhook import WebhookSettings, WebhookSink
from steno.adapters.ssrf import EgressRules
from steno.core.secret import Secret
from steno.errors import ConfigError, SinkUnavailable
from steno.ports import Ack, Reject, Retry, Sink

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Serve one handler for every path."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


def sink_to(
    url: str, *, max_records: int = 1, telemetry: Recorder | None = None, deadline_s: float = 10
) -> WebhookSink:
    settings = WebhookSettings(
        url=url,
        secret=Secret(SECRET),
        rules=EgressRules(["127.0.0.1"]),
        max_records=max_records,
        deadline_s=deadline_s,
    )
    return WebhookSink(settings, telemetry=telemetry or Recorder())


class Receiver:
    """Verifies with the public library, keeps keys, fails as told."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.ids: list[str] = []
        self.script: list[int] = []

    async def __call__(self, request: web.Request) -> web.Response:
        body = await request.read()
        found = Webhook(SECRET).verify(body, dict(request.headers))
        if self.script:
            return web.Response(status=self.script.pop(0), text=CANARY)
        self.ids.append(request.headers["webhook-id"])
        records = found.get("records", [found])
        self.keys.extend(record["key"] for record in records)
        return web.Response(status=204)

    async def received(self) -> list[str]:
        return self.keys

    def fail_once(self) -> None:
        self.script.append(503)


class TestSingleConformance(SinkRules):
    """The rules, one record a request."""

    @pytest.fixture
    async def pair(self) -> AsyncIterator[tuple[Sink, Peer]]:
        """Give a sink and its receiver."""
        receiver = Receiver()
        async with serving(receiver.__call__) as url:
            sink = sink_to(url)
            yield sink, receiver
            await sink.close()


class TestBatchConformance(SinkRules):
    """The rules, several records a request."""

    @pytest.fixture
    async def pair(self) -> AsyncIterator[tuple[Sink, Peer]]:
        """Give a sink and its receiver."""
        receiver = Receiver()
        async with serving(receiver.__call__) as url:
            sink = sink_to(url, max_records=10)
            yield sink, receiver
            await sink.close()


async def test_the_message_id_is_the_record_s() -> None:
    """The same id with every attempt, so that a receiver can drop repeats by it."""
    receiver = Receiver()
    record = sentence("alpha", 1)
    async with serving(receiver.__call__) as url:
        sink = sink_to(url)
        await sink.deliver([record])
        await sink.deliver([record])
        await sink.close()
    assert receiver.ids == [record.id, record.id]


def answering(status: int, **headers: str) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=CANARY, headers=headers)

    return answer


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_success(status: int) -> None:
    """Any 2xx is an acknowledgement."""
    async with serving(answering(status)) as url:
        sink = sink_to(url)
        assert await sink.deliver([sentence("alpha", 1)]) == [Ack()]
        await sink.close()


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
async def test_refusals(status: int) -> None:
    """What blames the message is a dead letter."""
    async with serving(answering(status)) as url:
        sink = sink_to(url)
        assert await sink.deliver([sentence("alpha", 1)]) == [Reject("ConsumerRefused")]
        await sink.close()


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (401, "AuthError"),
        (403, "AuthError"),
        (404, "EndpointMissing"),
        (408, "TimedOut"),
        (429, "RateLimited"),
        (500, "PeerUnavailable"),
        (503, "PeerUnavailable"),
        (304, "RedirectRefused"),
        (418, "UnexpectedStatus"),
    ],
)
async def test_unavailable(status: int, cause: str) -> None:
    """What blames the endpoint, or us, loses no record; nothing of the answer is repeated."""
    async with serving(answering(status)) as url:
        sink = sink_to(url)
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver([sentence("alpha", 1)])
        assert caught.value.fields["cause"] == cause
        assert CANARY not in str(caught.value)
        assert url not in str(caught.value)
        await sink.close()


async def test_retry_after_in_both_forms() -> None:
    """Seconds and dates are obeyed, absurd waits are bounded."""
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    for value, low, high in (("7", 7, 7), (later, 60, 90), ("999999999", 1, 86_400)):
        async with serving(answering(429, **{"Retry-After": value})) as url:
            sink = sink_to(url)
            with pytest.raises(SinkUnavailable) as caught:
                await sink.deliver([sentence("alpha", 1)])
            wait_s = caught.value.fields["retry_after_s"]
            assert isinstance(wait_s, float)
            assert low <= wait_s <= high
            await sink.close()


async def test_redirects_are_not_followed() -> None:
    """A redirect, even to the same host, is not a way in."""
    paths: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with serving(redirect) as url:
        sink = sink_to(url)
        with pytest.raises(SinkUnavailable):
            await sink.deliver([sentence("alpha", 1)])
        await sink.close()
    assert paths == ["/hook"]


async def test_gone_disables_the_endpoint() -> None:
    """After a 410 nothing is sent any more, and an operator is told once."""
    calls = 0

    async def gone(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.Response(status=410)

    telemetry = Recorder()
    async with serving(gone) as url:
        sink = sink_to(url, telemetry=telemetry)
        for _ in range(3):
            with pytest.raises(SinkUnavailable) as caught:
                await sink.deliver([sentence("alpha", 1)])
            assert caught.value.fields["cause"] == "EndpointGone"
        assert sink.disabled_reason == "EndpointGone"
        await sink.close()
    assert calls == 1
    assert telemetry.events == ["sink.endpoint_disabled"]


async def test_endless_answers_are_cut_off() -> None:
    """Of an answer 64 kB are read; its status counts, the rest does not."""
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        try:
            for _ in range(100_000):
                await response.write(b"x" * 65_536)
                sent += 65_536
        except ConnectionError:
            pass
        return response

    async with serving(flood) as url:
        sink = sink_to(url)
        assert await sink.deliver([sentence("alpha", 1)]) == [Ack()]
        await sink.close()
    assert sent < 100_000_000


async def test_a_slow_answer_has_a_deadline() -> None:
    """Headers that come byte by byte end with the deadline."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while not writer.is_closing():
                writer.write(b"X-A: b\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        sink = sink_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", deadline_s=0.3)
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver([sentence("alpha", 1)])
        assert caught.value.fields["cause"] == "TimedOut"
        await sink.close()
        await asyncio.sleep(0.1)  # the drip notices that nobody listens


async def test_garbage_is_a_protocol_error() -> None:
    """An answer that is not HTTP is unavailable, and not quoted."""

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CANARY.encode() + b"\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with server:
        sink = sink_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver([sentence("alpha", 1)])
        assert CANARY not in str(caught.value)
        assert caught.value.__cause__ is None
        await sink.close()


async def test_batch_with_a_culprit_is_taken_apart() -> None:
    """When a batch is refused, its records go one by one and only the culprit is a dead letter."""
    poison = sentence("alpha", 2)
    taken: list[str] = []

    async def picky(request: web.Request) -> web.Response:
        found = [record["key"] for record in json.loads(await request.read())["records"]]
        if poison.key in found:
            return web.Response(status=422)
        taken.extend(found)
        return web.Response(status=200)

    records = [sentence("alpha", 1), poison, sentence("alpha", 3), gap("alpha", 4)]
    async with serving(picky) as url:
        sink = sink_to(url, max_records=10)
        assert await sink.deliver(records) == [Ack(), Reject("ConsumerRefused"), Ack(), Ack()]
        await sink.close()
    assert taken == keys([records[0], records[2], records[3]])


async def test_what_was_accepted_stays_accepted() -> None:
    """When the endpoint fails in the middle, the rest waits and the first is not sent again."""
    calls = 0

    async def fail_third(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.Response(status={1: 422, 2: 200}.get(calls, 503))

    async with serving(fail_third) as url:
        sink = sink_to(url, max_records=10)
        waiting = Retry("PeerUnavailable")
        records = [sentence("alpha", number) for number in (1, 2, 3)]
        assert await sink.deliver(records) == [Ack(), waiting, waiting]
        await sink.close()


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where records go is a setting; a variable does not redirect them."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1/")
    receiver = Receiver()
    async with serving(receiver.__call__) as url:
        sink = sink_to(url)
        assert await sink.deliver([sentence("alpha", 1)]) == [Ack()]
        await sink.close()


async def test_private_names_are_refused_at_connect_time() -> None:
    """A name that passes when configured and resolves to loopback gets no connection."""
    settings = WebhookSettings(
        url="https://public.example/", secret=Secret(SECRET), rules=EgressRules()
    )
    receiver = Receiver()
    async with serving(receiver.__call__) as url:
        sink = WebhookSink(settings, telemetry=Recorder())
        sink._url = sink._url.with_host("localhost").with_scheme("http")
        sink._url = sink._url.with_port(int(url.rpartition(":")[2].partition("/")[0]))
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver([sentence("alpha", 1)])
        assert caught.value.fields["cause"] == "AddressForbidden"
        await sink.close()
    assert receiver.keys == []


async def test_a_certificate_nobody_signed_is_refused() -> None:
    """TLS is verified; there is no switch for it."""
    from conformance.sink_certificates import Authority

    authority = Authority()
    paths = authority.server("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths.certificate, paths.key)
    app = web.Application()
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    sink = sink_to(f"https://127.0.0.1:{runner.addresses[0][1]}/")
    with pytest.raises(SinkUnavailable) as caught:
        await sink.deliver([sentence("alpha", 1)])
    assert caught.value.fields["cause"] == "TlsFailed"
    await sink.close()
    await runner.cleanup()
    authority.close()


@pytest.mark.parametrize("url", ["http://good.example/", "https://10.0.0.1/", "nonsense"])
def test_bad_settings_are_refused_when_made(url: str) -> None:
    """URL and secret are checked before anything is sent."""
    with pytest.raises(ConfigError):
        sink_to(url)
    with pytest.raises(ConfigError):
        WebhookSink(
            WebhookSettings(url="https://good.example/", secret=Secret(""), rules=EgressRules()),
            telemetry=Recorder(),
        )
