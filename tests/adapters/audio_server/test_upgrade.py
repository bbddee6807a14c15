"""Upgrades over the wire: refusals, deadlines, hostile clients, proxies."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
import pytest

from conformance.audio_rig import Taker, head, raw, serving
from steno.adapters.audio_server import ServerSettings
from steno.ports.audio_server import Accept, Refuse, UpgradeRequest

PROXIED = ServerSettings(listen="127.0.0.1:0", behind_proxy=("127.0.0.1", "10.0.0.0/8"))


async def test_the_router_sees_the_request_as_it_was() -> None:
    """Target with its query, headers in order, the peer's address."""
    async with serving() as rig, raw(rig, upgraded=False) as client:
        client.send(head("X-API-KEY: k", "x-a: 1", "X-A: 2", target="/media-api?a=%20b"))
        assert (await client.answer())[0] == 101
        (request,) = rig.requests
        assert (request.target, request.path) == ("/media-api?a=%20b", "/media-api")
        assert request.headers[-3:] == (("x-api-key", "k"), ("x-a", "1"), ("x-a", "2"))
        assert (request.peer, request.secure) == ("127.0.0.1", False)


async def test_a_refusal_is_json_with_the_routers_status_and_headers() -> None:
    """401 names the scheme, unless the router did."""
    answers = {
        "/a": Refuse(401, "bad_token"),
        "/b": Refuse(401, "bad_key", headers=(("WWW-Authenticate", "Signature"),)),
        "/c": Refuse(403, "scope"),
    }
    expected = {"/a": (401, "Bearer"), "/b": (401, "Signature"), "/c": (403, None)}
    async with serving(decide=lambda r: answers[r.path]) as rig, aiohttp.ClientSession() as http:
        for path, (status, scheme) in expected.items():
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(rig.url(path))
            assert refused.value.status == status
            assert refused.value.headers is not None
            assert refused.value.headers.get("WWW-Authenticate") == scheme
        async with http.get(rig.url("/a", scheme="http"), headers=ws_headers()) as answer:
            assert await answer.json() == {"error": "bad_token"}
            assert answer.headers["Connection"] == "close"


def ws_headers() -> dict[str, str]:
    lines = head().decode().split("\r\n")[2:-2]
    return dict(line.split(": ", 1) for line in lines)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/media-api", 426),
        ("POST", "/media-api", 400),
        ("DELETE", "/media-api", 405),
        ("GET", "/elsewhere", 404),
        ("GET", "/media-api/", 404),
        ("GET", "/", 404),
    ],
)
async def test_plain_http_gets_a_plain_answer(method: str, path: str, status: int) -> None:
    """A browser or a scanner learns nothing but that; the router is not asked."""
    async with serving(paths=("/media-api",)) as rig, aiohttp.ClientSession() as http:
        body = b"x" * 100_000 if method == "POST" else None
        async with http.request(method, rig.url(path, scheme="http"), data=body) as answer:
            assert answer.status == status
            assert set(await answer.json()) == {"error"}
        assert rig.requests == []


async def test_a_slow_head_is_dropped() -> None:
    """One byte now and then does not keep a place."""
    async with serving(handshake_s=0.1) as rig, raw(rig, upgraded=False) as client:
        with contextlib.suppress(ConnectionError):
            for byte in head():
                client.send(bytes([byte]))
                await client.writer.drain()
                await asyncio.sleep(0.02)
                if client.reader.at_eof():
                    break
        assert await client.ended()
        assert rig.requests == []


async def test_a_silent_connection_is_dropped() -> None:
    """Nor does saying nothing."""
    async with serving(handshake_s=0.03) as rig, raw(rig, upgraded=False) as client:
        assert await client.ended()


async def test_a_head_without_end_is_refused() -> None:
    """16 kB are enough for anybody."""
    async with serving() as rig, raw(rig, upgraded=False) as client:
        client.send(b"GET / HTTP/1.1\r\nX: ", b"x" * 100_000)
        assert (await client.answer())[0] == 431


async def test_tls_on_a_plain_port_is_dropped() -> None:
    """A client hello gets no words it could not read."""
    async with serving() as rig, raw(rig, upgraded=False) as client:
        client.send(b"\x16\x03\x01\x02\x00\x01")
        assert await client.reader.read() == b""


async def test_what_is_not_accepted_yet_is_capped() -> None:
    """Silent connections cannot take all descriptors, and the oldest makes room for a caller."""
    async with (
        serving(max_upgrading=2) as rig,
        raw(rig, upgraded=False) as one,
        raw(rig, upgraded=False) as two,
    ):
        for client in (one, two):
            client.send(b"GET")
        async with raw(rig):
            assert await one.ended()


async def test_a_decision_has_a_deadline() -> None:
    """A token check that hangs becomes 503, not a caller that hangs."""

    async def never(request: UpgradeRequest) -> Accept:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(decide=never, decision_s=0.03) as rig, raw(rig, upgraded=False) as client:
        client.send(head())
        status, headers, body = await client.answer()
        assert (status, body) == (503, b'{"error":"decision_timeout"}')
        assert "retry-after" in headers


async def test_an_awaited_decision_opens_the_connection() -> None:
    """What was sent meanwhile is read afterwards."""
    taker = Taker()

    async def decide(request: UpgradeRequest) -> Accept:
        await asyncio.sleep(0.01)
        return Accept(taker, subprotocol="media-api")

    async with (
        serving(decide=decide) as rig,
        aiohttp.ClientSession() as http,
        http.ws_connect(rig.url(), protocols=["media-api"]) as client,
    ):
        assert client.protocol == "media-api"
        await client.send_str("hello")
        await taker.until(lambda: bool(taker.log))


async def test_a_refusals_delay_counts_from_the_request() -> None:
    """How long the decision took cannot be measured from outside."""

    async def decide(request: UpgradeRequest) -> Refuse:
        await asyncio.sleep(0.04 if "slow" in request.path else 0.0)
        return Refuse(401, "no", delay_s=0.08)

    async with serving(decide=decide) as rig:

        async def took_s(path: str) -> float:
            async with raw(rig, upgraded=False) as client:
                begun = asyncio.get_running_loop().time()
                client.send(head(target=path))
                assert (await client.answer())[0] == 401
                return asyncio.get_running_loop().time() - begun

        assert await took_s("/fast") >= 0.075
        # A busy machine only ever adds: the quickest of several tells.
        slow_s = [await took_s("/slow") for _ in range(5)]
        assert 0.075 <= min(slow_s) < 0.115


async def test_many_refusals_are_one_line_in_the_log() -> None:
    """All are counted; the log is not the attacker's."""
    async with serving(decide=lambda r: Refuse(401, "bad_token")) as rig:
        for _ in range(5):
            async with raw(rig, upgraded=False) as client:
                client.send(head("Authorization: Bearer very-secret", target="/a?token=secret"))
                await client.answer()
        logged = rig.telemetry.named("media.upgrade_refused")
        assert logged == [{"status": 401, "cause": "bad_token", "count": 1}]
        assert rig.telemetry.totals["media_refused"] == 5
        assert "secret" not in str(rig.telemetry.events) + repr(rig.requests)


@pytest.mark.parametrize(
    ("headers", "peer", "secure"),
    [
        ((), "127.0.0.1", False),
        (("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"), "192.0.2.1", True),
        (("X-Forwarded-For: 1.1.1.1, 192.0.2.1",), "192.0.2.1", False),
        (("X-Forwarded-For: 192.0.2.1, 10.0.0.9",), "192.0.2.1", False),
        (("X-Forwarded-For: 192.0.2.1:4711, [10::1]:80",), "10::1", False),
        (("X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 10.0.0.9"), "192.0.2.1", False),
        (("X-Forwarded-For: 192.0.2.1, nonsense",), "127.0.0.1", False),
        (("X-Forwarded-For: ::ffff:192.0.2.1",), "192.0.2.1", False),
        (("X-Forwarded-Proto: https, http",), "127.0.0.1", False),
    ],
)
async def test_a_trusted_proxy_names_the_caller(
    headers: tuple[str, ...], peer: str, secure: bool
) -> None:
    """From the right, past trusted proxies; further left the caller may have invented it."""
    async with serving(PROXIED) as rig, raw(rig, upgraded=False) as client:
        await client.upgrade(*headers)
        assert (rig.requests[0].peer, rig.requests[0].secure) == (peer, secure)


async def test_nobody_else_names_anybody() -> None:
    """Without trusted proxies the headers mean nothing."""
    async with serving() as rig, raw(rig, upgraded=False) as client:
        await client.upgrade("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https")
        assert (rig.requests[0].peer, rig.requests[0].secure) == ("127.0.0.1", False)
