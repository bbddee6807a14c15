"""Platform calls: statuses and aiohttp's exceptions become our errors, and only some repeat."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import client_exceptions
from aiohttp.client_reqrep import ConnectionKey

from conformance.scripted_http import (
    FixedToken,
    Noted,
    Reply,
    ScriptedServer,
    hangs,
    says,
    scripted,
)
from steno.adapters.platform_http import (
    HttpClient,
    HttpModelSwitcher,
    NoModelSwitch,
    NotificationsApi,
    PlatformHttp,
    RecordingJobsApi,
    RegionalSwitcher,
    map_aiohttp_error,
    trusted_tls,
)
from steno.core.hosts import Host
from steno.errors import (
    AuthError,
    ConfigError,
    ConnectFailed,
    LocalProtocolError,
    ObjectMissing,
    PeerUnavailable,
    ProtocolError,
    RateLimited,
    RemoteProtocolError,
    StenoError,
    TimedOut,
    TransportError,
)
from steno.ports.jobs import TranscriptionRequest
from steno.wire.http import HttpRequest, RateBudget

TOKEN = "planted-token"
CHANNEL = {
    "id": "ch-1",
    "connectUri": "wss://streaming.example.com/channels/ch-1",
    "expires": "2026-11-21T10:00:00.000Z",
}


@asynccontextmanager
async def platform(
    *script: Reply, tokens: FixedToken | None = None, telemetry: Noted | None = None
) -> AsyncIterator[tuple[PlatformHttp, ScriptedServer]]:
    """Give a client of a scripted platform."""
    async with scripted(*script) as server, HttpClient() as http:
        yield (
            PlatformHttp(
                server.host,
                tokens or FixedToken(TOKEN),
                exchange=http,
                telemetry=telemetry or Noted(),
                retry_first_s=0.01,
                draw=lambda: 0.0,
            ),
            server,
        )


async def test_calls_carry_the_token_and_json() -> None:
    """Bearer, Accept, and a content type when there is a body."""
    async with platform(says(200, {"a": 1})) as (http, server):
        answer = await http.request("POST", "/x", action="test", body=b"{}", query={"q": "a b"})
    assert json.loads(answer.body) == {"a": 1}
    assert server.seen[0].bearer == TOKEN
    assert server.seen[0].query == {"q": "a b"}
    assert server.seen[0].headers["Content-Type"] == "application/json"


async def test_unauthorised_call_is_repeated_with_another_token() -> None:
    """401: the token is reported as refused, and the call made once more."""
    tokens = FixedToken("old", "new")
    async with platform(says(401), says(200), tokens=tokens) as (http, server):
        await http.request("POST", "/x", action="test")
    assert [one.bearer for one in server.seen] == ["old", "new"]
    assert tokens.refused == ["old"]


async def test_second_refusal_is_final() -> None:
    """No third try with the same client."""
    async with platform(says(401)) as (http, server):
        with pytest.raises(AuthError):
            await http.request("GET", "/x", action="test")
        assert len(server.seen) == 2


STATUSES: list[tuple[int, type[StenoError]]] = [
    (301, RemoteProtocolError),
    (302, RemoteProtocolError),
    (304, RemoteProtocolError),
    (400, ProtocolError),
    (401, AuthError),
    (403, AuthError),
    (404, ObjectMissing),
    (405, ProtocolError),
    (408, PeerUnavailable),
    (409, ProtocolError),
    (410, ObjectMissing),
    (413, ProtocolError),
    (415, ProtocolError),
    (422, ProtocolError),
    (429, RateLimited),
    (451, ProtocolError),
    (500, PeerUnavailable),
    (501, PeerUnavailable),
    (502, PeerUnavailable),
    (503, PeerUnavailable),
    (504, PeerUnavailable),
    (599, PeerUnavailable),
]


@pytest.mark.parametrize(("status", "error"), STATUSES)
async def test_every_status_has_its_error(status: int, error: type[StenoError]) -> None:
    """The error's fields tell status, code and correlation, and nothing of the peer's text."""
    body = {
        "code": "some.code",
        "message": "planted peer text +4930123456",
        "contextId": "11111111-2222-3333-4444-555555555555",
    }
    async with platform(says(status, body)) as (http, _):
        with pytest.raises(error) as caught:
            await http.request("POST", "/x", action="do a thing", patience_s=0)
    assert caught.value.fields["status"] == status
    assert caught.value.fields["action"] == "do a thing"
    if status != 304:  # has no body
        assert caught.value.fields["code"] == "some.code"
        assert caught.value.fields["correlation"] == body["contextId"]
    assert "planted" not in str(caught.value)
    assert "planted" not in repr(caught.value.args)


@pytest.mark.parametrize(
    "body", [b"", b"<html>planted</html>", b'{"code": 5}', b'{"code":"planted text here"}', b"[]"]
)
async def test_error_bodies_of_proxies_are_survived(body: bytes) -> None:
    """A body that is not the platform's gives no code, and no second error."""
    async with platform(says(403, body)) as (http, _):
        with pytest.raises(AuthError) as caught:
            await http.request("GET", "/x", action="test")
    assert "planted" not in str(caught.value)


async def test_missing_permissions_are_named() -> None:
    """403: the permissions in the platform's answer are the fix."""
    body = {
        "code": "missing.permissions",
        "messageParams": {"permissions": "[conversation:transcription:view]"},
    }
    async with platform(says(403, body)) as (http, _):
        with pytest.raises(AuthError, match="conversation:transcription:view"):
            await http.request("GET", "/x", action="test")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
async def test_repeatable_calls_are_repeated(method: str) -> None:
    """5xx passes for methods that change nothing twice."""
    async with platform(says(503), says(502), says(200)) as (http, server):
        await http.request(method, "/x", action="test")
        assert len(server.seen) == 3


async def test_post_is_not_repeated_on_5xx() -> None:
    """The first one may have worked."""
    async with platform(says(503), says(200)) as (http, server):
        with pytest.raises(PeerUnavailable):
            await http.request("POST", "/x", action="test")
        assert len(server.seen) == 1


async def test_rate_limit_is_waited_out() -> None:
    """429 repeats any method, after the time the platform asks for."""
    noted = Noted()
    async with platform(says(429, Retry_After="0.2"), says(200), telemetry=noted) as (http, server):
        started = asyncio.get_running_loop().time()
        await http.request("POST", "/x", action="test")
        assert asyncio.get_running_loop().time() - started >= 0.2
        assert len(server.seen) == 2
    assert noted.events() == ["platform.call_retried"]


async def test_rate_limit_beyond_the_patience_is_told() -> None:
    """The wait asked for is in the error, bounded; without ``Retry-After`` the window's reset."""
    async with platform(says(429, Retry_After="1000000000")) as (http, _):
        with pytest.raises(RateLimited) as caught:
            await http.request("GET", "/x", action="test")
    assert caught.value.retry_after_s == 300.0
    limits = {
        "inin_ratelimit_count": "301",
        "inin_ratelimit_allowed": "300",
        "inin_ratelimit_reset": "42",
    }
    async with platform(says(429, **limits)) as (http, _):
        with pytest.raises(RateLimited) as caught:
            await http.request("GET", "/x", action="test")
        assert http.rate == RateBudget(301, 300, 42.0)
        assert http.rate.left == 0
    assert caught.value.retry_after_s == 42.0


async def test_redirects_are_not_followed() -> None:
    """The token goes to the host it was made for and to no other."""
    async with platform(says(307, Location="http://127.0.0.1:1/")) as (http, server):
        with pytest.raises(RemoteProtocolError):
            await http.request("GET", "/x", action="test")
        assert len(server.seen) == 1


async def test_endless_answer_is_cut() -> None:
    """Memory is bounded, for a compressed body too."""
    async with platform(says(200, b"x" * 5000)) as (http, _):
        with pytest.raises(RemoteProtocolError, match="too long"):
            await http.request("GET", "/x", action="test", max_bytes=4000)


async def test_compressed_bomb_is_cut_while_it_grows() -> None:
    """64 MB in 64 kB: the limit holds for what comes out, before it is all there."""
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    async with platform(says(200, bomb, Content_Encoding="gzip")) as (http, _):
        tracemalloc.start()
        try:
            with pytest.raises(RemoteProtocolError, match="too long"):
                await http.request("GET", "/x", action="test")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 24 * 1024 * 1024


async def test_silent_platform_times_out() -> None:
    """Each try has its limit."""
    async with platform(hangs()) as (http, _):
        with pytest.raises(TimedOut):
            await http.request("GET", "/x", action="test", limit_s=0.05, patience_s=0)


async def test_cancelling_is_not_swallowed() -> None:
    """A cancelled caller is cancelled."""
    async with platform(hangs()) as (http, server):
        task = asyncio.create_task(http.request("GET", "/x", action="test"))
        await server.asked()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_broken_connections_are_typed() -> None:
    """Nobody there, an answer cut short, and something that is no HTTP."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(replies.pop(0))
        writer.close()
        await writer.wait_closed()

    replies = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"SSH-2.0-server\r\n\r\n",
        b"",
    ]
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    request = HttpRequest("POST", f"http://127.0.0.1:{port}/?access_token=planted")
    async with HttpClient() as http:
        for error in (TransportError, RemoteProtocolError, TransportError):
            with pytest.raises(error) as caught:
                await http.send(request, limit_s=5)
            assert "planted" not in str(caught.value)
            assert caught.value.__cause__ is None
        server.close()
        await server.wait_closed()
        with pytest.raises(ConnectFailed):
            await http.send(request, limit_s=5)
        with pytest.raises(LocalProtocolError):
            await http.send(HttpRequest("GET", "http://"), limit_s=5)


async def test_untrusted_certificates_are_refused(tmp_path: Path) -> None:
    """A certificate nobody vouches for is refused; with its authority named, it is taken."""
    from conformance.certificates import self_signed

    pem, key = self_signed(tmp_path)
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(pem, key)
    server_tls.set_alpn_protocols(["http/1.1"])
    async with scripted(says(200), tls=server_tls) as server:
        request = HttpRequest("GET", f"{server.host.http_base}/")
        async with HttpClient() as http:
            with pytest.raises(ConnectFailed, match="certificate"):
                await http.send(request, limit_s=5)
        async with HttpClient(ca_file=pem) as http:
            assert (await http.send(request, limit_s=5)).status == 200


def test_unusable_ca_file_is_a_config_error(tmp_path: Path) -> None:
    """No file, or one without certificates."""
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("empty.pem", "absent.pem"):
        with pytest.raises(ConfigError):
            trusted_tls(tmp_path / name)


def every_aiohttp_error() -> list[Exception]:
    """Make one of each exception aiohttp's client can raise."""
    key = ConnectionKey("h", 1, False, True, None, None, None)
    info: Any = SimpleNamespace(real_url="http://h/?access_token=planted")
    made: list[Exception] = []
    for name in client_exceptions.__all__:
        cls = getattr(client_exceptions, name)
        if not issubclass(cls, Exception) or issubclass(cls, Warning):
            continue
        if name == "WSMessageTypeError":  # of sockets, which are not spoken here
            continue
        if issubclass(cls, client_exceptions.ClientConnectorCertificateError):
            made.append(cls(key, ValueError("planted")))
        elif issubclass(cls, client_exceptions.ClientConnectorError):
            made.append(cls(key, OSError(1, "planted")))
        elif issubclass(cls, client_exceptions.ServerFingerprintMismatch):
            made.append(cls(b"a", b"b", "planted", 1))
        elif issubclass(cls, client_exceptions.ClientResponseError):
            made.append(cls(info, ()))
        elif issubclass(cls, client_exceptions.InvalidURL):
            made.append(cls("http://planted"))
        else:
            made.append(cls("planted"))
    return [*made, aiohttp.TooManyRedirects(info, ()), OSError("planted"), TimeoutError()]


@pytest.mark.parametrize("error", every_aiohttp_error(), ids=lambda e: type(e).__name__)
def test_every_exception_of_the_library_is_mapped(error: Exception) -> None:
    """None gets through, and none of their texts, which quote addresses."""
    mapped = map_aiohttp_error(error)
    assert mapped is not None
    assert "planted" not in str(mapped)
    local = isinstance(error, aiohttp.InvalidURL)
    assert isinstance(mapped, LocalProtocolError) == local


def test_exceptions_of_others_are_not_ours_to_map() -> None:
    """A bug stays a bug."""
    assert map_aiohttp_error(KeyError("x")) is None


# --- language model --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204])
async def test_switch_is_the_call_of_the_document(status: int) -> None:
    """PUT with language code and automatic detection off; 200 and 204 are success."""
    async with platform(says(status)) as (http, server):
        assert await HttpModelSwitcher(http).switch("c:1", "es-ES")
    seen = server.seen[0]
    assert (seen.method, seen.path) == ("PUT", "/api/v2/conversations/c:1/transcription/config")
    assert json.loads(seen.body) == {"languageCode": "es-ES", "autoDetect": False}


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, RateLimited), (403, AuthError), (500, PeerUnavailable), (202, RemoteProtocolError)],
)
async def test_failed_switch_is_left_to_the_caller(status: int, error: type[StenoError]) -> None:
    """One try a call, and the error says whether to come back."""
    async with platform(says(status)) as (http, server):
        with pytest.raises(error) as caught:
            await HttpModelSwitcher(http).switch("c", "es-ES")
        assert len(server.seen) == 1
    if status == 403:
        assert "conversation:transcript:write" in str(caught.value)


async def test_switch_goes_to_the_backup_region_while_the_primary_is_down() -> None:
    """A region that cannot serve is passed over; one that limits our rate is not evaded."""
    async with (
        platform(says(503), says(429)) as (http, first),
        platform(says(204)) as (other, second),
    ):
        both = RegionalSwitcher([HttpModelSwitcher(http), HttpModelSwitcher(other)])
        assert await both.switch("c", "es-ES")
        assert (len(first.seen), len(second.seen)) == (1, 1)
        with pytest.raises(RateLimited):
            await both.switch("c", "es-ES")
        assert len(second.seen) == 1


async def test_switch_of_what_is_no_id_is_our_bug() -> None:
    """Nothing is sent."""
    async with platform(says(200)) as (http, server):
        with pytest.raises(LocalProtocolError):
            await HttpModelSwitcher(http).switch("../x", "es-ES")
        assert not server.seen


async def test_real_platform_has_no_switch() -> None:
    """It answers False at once."""
    assert not await NoModelSwitch().switch("c", "es-ES")


# --- notification channels -------------------------------------------------------------------


async def test_channel_is_made_and_its_address_not_shown() -> None:
    """The answer's expiry becomes microseconds; the address is in no repr."""
    async with platform(says(200, CHANNEL)) as (http, server):
        channel = await NotificationsApi(http).create_channel()
    assert server.seen[0].method == "POST"
    assert channel.connect_uri == CHANNEL["connectUri"]
    assert channel.expires_at_us == 1_795_255_200_000_000
    assert "ch-1" not in repr(channel)


@pytest.mark.parametrize(("replace", "method"), [(False, "POST"), (True, "PUT")])
async def test_subscribing_tells_what_became_of_each_topic(replace: bool, method: str) -> None:
    """Refused topics come back with the permissions that are missing."""
    entities = [
        {"id": "v2.a", "state": "Permitted"},
        {
            "id": "v2.b",
            "state": "Rejected",
            "rejectionReason": "missing permissions, +4930123456",
            "missingPermissions": ["conversation:transcription:view", "planted <text>"],
        },
    ]
    async with platform(says(200, {"entities": entities})) as (http, server):
        states = await NotificationsApi(http).subscribe("ch-1", ["v2.a", "v2.b"], replace=replace)
    seen = server.seen[0]
    assert (seen.method, seen.query) == (method, {"ignoreErrors": "true"})
    assert seen.path == "/api/v2/notifications/channels/ch-1/subscriptions"
    assert json.loads(seen.body) == [{"id": "v2.a"}, {"id": "v2.b"}]
    assert [state.permitted for state in states] == [True, False]
    assert states[1].reason == ""
    assert states[1].missing_permissions == ("conversation:transcription:view",)


async def test_topics_beyond_the_platforms_limits_are_not_sent() -> None:
    """1000 topics, 200 characters each."""
    async with platform(says(200, {"entities": []})) as (http, server):
        api = NotificationsApi(http)
        for topics in ([f"v2.{n}" for n in range(1001)], ["v2." + "x" * 198], ["v2 x"]):
            with pytest.raises(LocalProtocolError):
                await api.subscribe("ch-1", topics)
        assert not server.seen


@pytest.mark.parametrize(("status", "alive"), [(200, True), (404, False), (410, False)])
async def test_channel_is_looked_for(status: int, alive: bool) -> None:
    """HEAD: 200 is alive, 404 gone."""
    async with platform(says(status)) as (http, server):
        assert await NotificationsApi(http).channel_alive("ch-1") == alive
    assert server.seen[0].method == "HEAD"


async def test_removing_subscriptions_of_a_lost_channel_is_done() -> None:
    """Gone is gone."""
    async with platform(says(404)) as (http, server):
        await NotificationsApi(http).delete_subscriptions("ch-1")
    assert server.seen[0].method == "DELETE"


async def test_conversation_is_read_or_missing() -> None:
    """The body as it is, None for 404."""
    async with platform(says(200, {"id": "c"}), says(404)) as (http, server):
        api = NotificationsApi(http)
        assert await api.conversation("c") == b'{"id": "c"}'
        assert await api.conversation("c") is None
        with pytest.raises(LocalProtocolError):
            await api.conversation("a/b")
    assert server.seen[0].path == "/api/v2/conversations/c"


async def test_topics_on_offer_are_listed_with_their_permissions() -> None:
    """The permissions are asked for."""
    body = {"entities": [{"id": "v2.x", "requiresPermissions": ["a:b:view"]}, {"id": "v2.y"}]}
    async with platform(says(200, body)) as (http, server):
        topics = await NotificationsApi(http).available_topics()
    assert server.seen[0].query == {"expand": "requiresPermissions"}
    assert [(t.id, t.requires_permissions) for t in topics] == [
        ("v2.x", ("a:b:view",)),
        ("v2.y", ()),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {},
        CHANNEL | {"connectUri": "https://a.example/x"},
        CHANNEL | {"connectUri": "ws://a.example/x"},
        CHANNEL | {"connectUri": "wss://user@a.example/x"},
        CHANNEL | {"connectUri": "wss:///x"},
        CHANNEL | {"id": "../x"},
        CHANNEL | {"id": 5},
        [],
    ],
)
async def test_strange_channels_are_refused(body: object) -> None:
    """No address we would not dial, nothing of it in the error."""
    async with platform(says(200, body)) as (http, _):
        with pytest.raises(RemoteProtocolError) as caught:
            await NotificationsApi(http).create_channel()
    assert "a.example" not in str(caught.value)


@pytest.mark.parametrize("expires", [None, "soon", "0001-01-01T00:00:00+23:00"])
async def test_channel_without_a_known_end_is_taken(expires: str | None) -> None:
    """The 24-hour rule of the caller holds then."""
    async with platform(says(200, CHANNEL | {"expires": expires})) as (http, _):
        assert (await NotificationsApi(http).create_channel()).expires_at_us == 0


def test_plain_host_addresses_are_made_from_the_host() -> None:
    """The address of a call begins with the host's base."""
    tokens, telemetry = FixedToken(TOKEN), Noted()
    http = PlatformHttp(Host("a.example"), tokens, exchange=HttpClient(), telemetry=telemetry)
    assert http.host.http_base == "https://a.example"
    assert http.rate is None


async def test_a_job_is_submitted_once_with_its_key_and_told_the_services_wish() -> None:
    """One try a call; a refusal carries the time after which to come back."""
    request = TranscriptionRequest("5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01")
    refused = says(503, Retry_After="7")
    async with platform(refused, says(202, {"id": "t-1", "status": "queued"})) as (http, server):
        api = RecordingJobsApi(http)
        with pytest.raises(PeerUnavailable) as caught:
            await api.submit(request, key="key-1", limit_s=5.0)
        assert caught.value.fields["retry_after_s"] == 7
        assert len(server.seen) == 1
        answer = await api.submit(request, key="key-1", limit_s=5.0)
        assert answer.id == "t-1"
        assert [one.headers["Idempotency-Key"] for one in server.seen] == ["key-1", "key-1"]
        assert [one.bearer for one in server.seen] == [TOKEN, TOKEN]


async def test_a_submission_ends_within_its_limit() -> None:
    """A later one could arrive after the job was looked for."""
    request = TranscriptionRequest("5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01")
    async with platform(hangs(5.0)) as (http, _):
        with pytest.raises(TimedOut):
            await RecordingJobsApi(http).submit(request, key="key-1", limit_s=0.2)


class Sunk:
    """Takes a body, and notes its beginnings."""

    def __init__(self) -> None:
        self.begun = 0
        self.data = b""

    async def begin(self) -> None:
        self.begun += 1
        self.data = b""

    async def take(self, piece: bytes) -> None:
        self.data += piece


async def test_a_long_body_goes_where_it_is_wanted() -> None:
    """That of a refusal does not; what comes with a repeated try begins anew."""
    body = b"x" * 300_000
    async with platform(says(401, {"code": "no"}), says(503), says(200, body)) as (http, _):
        sink = Sunk()
        answer = await http.request("GET", "/x", action="test", into=sink, max_bytes=400_000)
    assert (answer.status, answer.body) == (200, b"")
    assert (sink.begun, sink.data) == (1, body)


async def test_a_long_body_is_bounded_too() -> None:
    """And so is that of a refusal, by the usual measure."""
    async with platform(says(200, b"x" * 300_000)) as (http, _):
        with pytest.raises(RemoteProtocolError):
            await http.request("GET", "/x", action="test", into=Sunk(), max_bytes=200_000)


async def test_what_a_sink_raises_ends_the_call() -> None:
    """As it is."""

    class Full(Sunk):
        async def take(self, piece: bytes) -> None:
            raise ProtocolError("full")

    async with platform(says(200, b"x")) as (http, server):
        with pytest.raises(ProtocolError, match="full"):
            await http.request("GET", "/x", action="test", into=Full())
        assert len(server.seen) == 1
