"""Bearer tokens: static, signed, checked by a call; and the origins that may bring them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from conformance.stream_server import MemoryTelemetry
from steno.adapters.bearer import BearerVerifier, make_verifier, origin_allowed
from steno.adapters.bearer.check import MAX_ASKING, CheckCall
from steno.adapters.bearer.fetching import Fetcher
from steno.adapters.bearer.keys import KeySet, parse_keys
from steno.adapters.bearer.verifier import StaticTokens
from steno.core.secret import Secret
from steno.errors import ConfigError, PeerUnavailable, RemoteProtocolError
from steno.ports.audio_server import TokenVerdict

SCOPE = "media:websocket:read"
GOOD = TokenVerdict()

RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def jwk(key: Any, kid: str, **fields: str) -> dict[str, str]:
    maker = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**maker.to_jwk(key.public_key(), as_dict=True), "kid": kid, **fields}


KEYS = [jwk(RSA, "r", alg="RS256"), jwk(RSA, "p", alg="PS256"), jwk(EC, "e")]


def token(
    key: Any = RSA, algorithm: str = "RS256", kid: str | None = "r", **changes: object
) -> str:
    claims = {"exp": time.time() + 60, "iss": "issuer", "aud": "us", "scope": f"a {SCOPE}"}
    merged = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode(merged, key, algorithm, headers={} if kid is None else {"kid": kid})


class Issuer:
    """A real server with a key set and a check call."""

    def __init__(self) -> None:
        self.keys: object = {"keys": KEYS}
        self.status = 200
        self.fetches = 0
        self.asked: list[str] = []
        self.answers: dict[str, web.Response] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.base = ""

    async def jwks(self, request: web.Request) -> web.Response:
        self.fetches += 1
        await self.gate.wait()
        return web.json_response(self.keys, status=self.status)

    async def check(self, request: web.Request) -> web.Response:
        sent = request.headers["Authorization"]
        self.asked.append(sent)
        await self.gate.wait()
        body: dict[str, object] = {}
        status = 200 if sent.endswith("good") else 401
        if sent.endswith("scoped"):
            body = {"authorizedScope": [SCOPE]}
            status = 200
        elif sent.endswith("otherwise"):
            body, status = {"scope": "other media:websocket:readonly"}, 200
        elif sent.endswith("forbidden"):
            status = 403
        elif sent.endswith("broken"):
            status = 500
        elif sent.endswith("moved"):
            raise web.HTTPFound("/check-elsewhere")
        elif sent.endswith("long"):
            return web.Response(body=b"x" * 200_000)
        return web.json_response(body, status=status)

    async def elsewhere(self, request: web.Request) -> web.Response:
        raise AssertionError("a redirect was followed with a token in hand")


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    served = Issuer()
    app = web.Application()
    app.router.add_get("/jwks", served.jwks)
    app.router.add_get("/check", served.check)
    app.router.add_get("/check-elsewhere", served.elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield served
    finally:
        served.gate.set()
        await runner.cleanup()


NO_SECRET = Secret("")


@dataclass
class Options:
    bearer_tokens: Secret = NO_SECRET
    bearer_jwks_url: str = ""
    bearer_issuer: str = ""
    bearer_audience: str = ""
    bearer_scope: str = SCOPE
    bearer_check_url: str = ""


@contextlib.asynccontextmanager
async def verifying(
    issuer: Issuer, *, signed: bool = False, check: bool = False, **fields: Any
) -> AsyncIterator[tuple[BearerVerifier, MemoryTelemetry]]:
    telemetry = MemoryTelemetry()
    options = Options(
        bearer_jwks_url=f"{issuer.base}/jwks" if signed else "",
        bearer_check_url=f"{issuer.base}/check" if check else "",
        **fields,
    )
    async with AsyncExitStack() as stack:
        verifier = await make_verifier(options, stack, telemetry)
        assert verifier is not None
        yield verifier, telemetry


async def verdict(verifier: BearerVerifier, text: str) -> TokenVerdict:
    found = verifier.verify(f"Bearer {text}")
    return found if isinstance(found, TokenVerdict) else await found


# --- static ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer one", 0),
        ("bearer two", 0),
        ("Bearer  three", 0),
        ("Bearer One", 401),
        ("Bearer on", 401),
        ("Bearer one two", 401),
        ("Bearer one,two", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("one", 401),
        ("Basic one", 401),
        ("Bearer one\n", 401),
        ("Bearer é", 401),
        ("", 401),
        ("Bearer " + "x" * 10_000, 401),
    ],
)
def test_static_tokens_are_compared_whole_and_at_once(header: str, status: int) -> None:
    """Several are good at a time; the decision needs no await."""
    verifier = BearerVerifier(static=StaticTokens(Secret("one, two three")))
    found = verifier.verify(header)
    assert isinstance(found, TokenVerdict)
    assert found.status == status


@given(header=st.text(max_size=40))
def test_with_nothing_configured_nothing_is_good(header: str) -> None:
    """Not even an empty token; and no header makes it raise."""
    for verifier in (BearerVerifier(), BearerVerifier(static=StaticTokens(Secret(" , ")))):
        found = verifier.verify(header)
        assert isinstance(found, TokenVerdict)
        assert found.status == 401


async def test_no_verifier_is_made_where_nothing_is_configured() -> None:
    """The JSON form is not served at all then."""
    async with AsyncExitStack() as stack:
        assert await make_verifier(Options(), stack, MemoryTelemetry()) is None


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1/x", "ftp://h/", "https://u:p@h/", "https:///x", "nonsense", "http://["],
)
async def test_trust_is_not_fetched_in_plain_text(url: str) -> None:
    """https, or this machine; the setting is named and the address not quoted."""
    for name in ("bearer_jwks_url", "bearer_check_url"):
        options = Options()
        setattr(options, name, url)
        async with AsyncExitStack() as stack:
            with pytest.raises(ConfigError) as wrong:
                await make_verifier(options, stack, MemoryTelemetry())
        assert wrong.value.setting == f"media.{name}"
        assert url not in str(wrong.value)


# --- signed ----------------------------------------------------------------------------------


async def test_a_signed_token_is_verified_and_the_second_one_without_awaiting(
    issuer: Issuer,
) -> None:
    """Keys are fetched for the first token only."""
    async with verifying(issuer, signed=True) as (verifier, telemetry):
        assert await verdict(verifier, token()) == GOOD
        for good in (
            token(RSA, "PS256", "p"),
            token(EC, "ES256", "e"),
            token(scope=None, scp=[SCOPE]),
        ):
            assert verifier.verify(f"Bearer {good}") == GOOD
        assert issuer.fetches == 1
        assert telemetry.named("media.token_keys_read") == [{"count": 3}]


async def test_a_token_must_say_what_is_asked_of_it(issuer: Issuer) -> None:
    """Expiry always, issuer and audience when set; a missing scope is 403."""
    async with verifying(issuer, signed=True, bearer_issuer="issuer", bearer_audience="us") as (
        verifier,
        _,
    ):
        assert await verdict(verifier, token()) == GOOD
        wanted = {
            token(exp=time.time() - 60): (401, "token_expired"),
            token(exp=None): (401, "token_refused"),
            token(exp="soon"): (401, "token_refused"),
            token(nbf=time.time() + 60): (401, "token_refused"),
            token(iss="other"): (401, "token_refused"),
            token(iss=None): (401, "token_refused"),
            token(aud="them"): (401, "token_refused"),
            token(aud=None): (401, "token_refused"),
            token(scope="media:websocket"): (403, "scope_missing"),
            token(scope="media:websocket:readonly"): (403, "scope_missing"),
            token(scope=None): (403, "scope_missing"),
            token(scope=["a", SCOPE]): (0, ""),
            token(aud=["them", "us"]): (0, ""),
        }
        for text, (status, reason) in wanted.items():
            assert await verdict(verifier, text) == TokenVerdict(status, reason)
    async with verifying(issuer, signed=True, bearer_scope="") as (verifier, _):
        assert await verdict(verifier, token(iss=None, aud="any", scope=None)) == GOOD


def unsigned(header: dict[str, object], secret: bytes | None = None) -> str:
    """Return a token put together by hand, which no library would make."""

    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    text = part(header) + b"." + part({"exp": time.time() + 60, "scope": SCOPE})
    mark = hmac.new(secret, text, hashlib.sha256).digest() if secret else b""
    return (text + b"." + base64.urlsafe_b64encode(mark).rstrip(b"=")).decode()


async def test_the_key_decides_the_algorithm(issuer: Issuer) -> None:
    """No algorithm confusion: none, HMAC with the public key, another family, another's key."""
    public = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    forged = [
        unsigned({"alg": "none", "kid": "r"}),
        unsigned({"alg": "None", "kid": "r"}),
        unsigned({"alg": "HS256", "kid": "r"}, public),
        unsigned({"alg": "RS256", "kid": "r"}, public),
        unsigned({"alg": "RS256", "kid": ["r"]}),
        unsigned({"alg": 5, "kid": "r"}),
        unsigned({"kid": "r"}),
        unsigned({"alg": "RS256", "kid": "r", "jwk": KEYS[0]}),
        unsigned({"alg": "RS256", "kid": "r", "crit": ["x"], "x": 1}),
        token(RSA, "PS256", "r"),
        token(RSA, "RS512", "r"),
        token(RSA, "RS256", "e"),
        token(OTHER, "RS256", "r"),
        token(EC, "ES256", "r"),
        token(RSA, "RS256", None),
        token()[:-4] + "AAAA",
        "eyJ.eyJ.x",
        "eyJhbGciOiJSUzI1NiJ9..",
    ]
    async with verifying(issuer, signed=True) as (verifier, _):
        for text in forged:
            assert await verdict(verifier, text) == TokenVerdict(401, "token_refused")
        assert await verdict(verifier, token()) == GOOD


async def test_a_token_without_key_id_is_good_with_the_only_key(issuer: Issuer) -> None:
    """Issuers with one key need not name it."""
    issuer.keys = {"keys": [jwk(RSA, "r")]}
    async with verifying(issuer, signed=True) as (verifier, _):
        assert await verdict(verifier, token(kid=None)) == GOOD


async def test_the_keys_are_fetched_once_for_many_and_seldom_for_unknown_ids(
    issuer: Issuer,
) -> None:
    """Callers cannot make us call; a new key is found when half a minute has passed."""
    now = [0.0]
    async with Fetcher() as fetcher:
        keys = KeySet(f"{issuer.base}/jwks", fetcher, MemoryTelemetry(), clock=lambda: now[0])
        issuer.gate.clear()
        waiting = [asyncio.ensure_future(keys.find("r")) for _ in range(20)]
        while not issuer.fetches:
            await asyncio.sleep(0.005)
        issuer.gate.set()
        assert all(await asyncio.gather(*waiting))
        for name in "xyz":
            assert await keys.find(name) is None
        assert issuer.fetches == 1
        issuer.keys = {"keys": [jwk(OTHER, "new")]}
        now[0] = 29.0
        assert await keys.find("new") is None
        now[0] = 30.0
        assert await keys.find("new") is not None
        assert keys.fresh("r") is None, "withdrawn"
        assert issuer.fetches == 2
        now[0] = 30.0 + 3601.0
        assert keys.fresh("new") is None, "too old not to look again"


async def test_an_issuer_that_is_down_is_503_until_it_has_answered_once(issuer: Issuer) -> None:
    """Then its keys outlive its outages."""
    now = [0.0]
    telemetry = MemoryTelemetry()
    async with Fetcher() as fetcher:
        keys = KeySet(f"{issuer.base}/jwks", fetcher, telemetry, clock=lambda: now[0])
        issuer.status = 500
        for _ in range(3):
            with pytest.raises(PeerUnavailable):
                await keys.find("r")
        assert issuer.fetches == 1
        assert telemetry.named("media.token_keys_missing") == [{"error_class": "PeerUnavailable"}]
        issuer.status, now[0] = 200, 2.0
        assert await keys.find("r") is not None
        issuer.status, now[0] = 500, 5000.0
        assert await keys.find("r") is not None
        assert issuer.fetches == 3
    async with verifying(issuer, signed=True) as (verifier, _):
        assert await verdict(verifier, token()) == TokenVerdict(503, "verification_unavailable")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"keys": 5}'])
def test_what_is_no_key_set_is_an_error(body: bytes) -> None:
    """The keys at hand are kept then."""
    with pytest.raises(RemoteProtocolError):
        parse_keys(body)


def test_unusable_keys_are_left_out() -> None:
    """Weak, symmetric, for encryption, malformed, or named twice; the good one stays."""
    weak = rsa.generate_private_key(65537, 1024)
    p384 = ec.generate_private_key(ec.SECP384R1())
    bad: list[object] = [
        jwk(weak, "weak"),
        jwk(p384, "p384"),
        jwk(p384, "p384-as-256", alg="ES256"),
        jwk(RSA, "enc", use="enc"),
        {**jwk(RSA, "sign"), "key_ops": ["sign"]},
        jwk(RSA, "rs512", alg="RS512"),
        jwk(RSA, "hs", alg="HS256"),
        jwk(RSA, "wrong-family", alg="ES256"),
        {"kty": "oct", "kid": "oct", "k": "c2VjcmV0", "alg": "HS256"},
        {"kty": "RSA", "kid": "empty"},
        {"kty": "RSA", "kid": "odd", "n": "!", "e": "AQAB"},
        {"kid": "no kty"},
        {"kty": 5},
        "text",
        None,
        jwk(RSA, "twice"),
        jwk(OTHER, "twice"),
    ]
    found = parse_keys(json.dumps({"keys": [*bad, *KEYS]}).encode())
    assert {kid: key.algorithm for kid, key in found.items()} == {
        "r": "RS256",
        "p": "PS256",
        "e": "ES256",
    }


# --- checked by a call -----------------------------------------------------------------------


async def test_a_call_decides_about_other_tokens(issuer: Issuer) -> None:
    """200, 401, 403; whatever else is no verdict, and a redirect is not followed."""
    async with verifying(issuer, check=True) as (verifier, telemetry):
        wanted = {
            "good": (0, ""),
            "scoped": (0, ""),
            "otherwise": (403, "scope_missing"),
            "bad": (401, "token_refused"),
            "forbidden": (403, "token_refused"),
            "broken": (503, "verification_unavailable"),
            "moved": (503, "verification_unavailable"),
            "long": (503, "verification_unavailable"),
        }
        for text, (status, reason) in wanted.items():
            assert await verdict(verifier, text) == TokenVerdict(status, reason)
        assert issuer.asked == [f"Bearer {text}" for text in wanted]
        assert telemetry.named("media.token_check_failed") == [{"error_class": None, "status": 500}]
    async with verifying(issuer, check=True, bearer_scope="") as (verifier, _):
        assert await verdict(verifier, "otherwise") == GOOD


async def test_answers_are_kept_and_bad_ones_shorter(issuer: Issuer) -> None:
    """A minute for a good token, five seconds for a bad one; a failure hardly at all."""
    now = [0.0]
    async with Fetcher() as fetcher:
        check = CheckCall(f"{issuer.base}/check", fetcher, MemoryTelemetry(), clock=lambda: now[0])

        async def ask(text: str) -> int:
            before = len(issuer.asked)
            found = check.verify(text)
            if not isinstance(found, TokenVerdict):
                await found
            return len(issuer.asked) - before

        for text, keep_s in (("good", 60.0), ("bad", 5.0), ("broken", 1.0)):
            begun = now[0]
            assert await ask(text) == 1
            now[0] = begun + keep_s - 0.1
            assert await ask(text) == 0
            now[0] = begun + keep_s
            assert await ask(text) == 1


async def test_one_token_is_asked_about_once_however_many_bring_it(issuer: Issuer) -> None:
    """Two hundred calls of one dialler at once are one question; a cancelled one is taken over."""
    async with verifying(issuer, check=True) as (verifier, _):
        issuer.gate.clear()
        first = asyncio.ensure_future(verdict(verifier, "good"))
        while not issuer.asked:
            await asyncio.sleep(0.005)
        others = [asyncio.ensure_future(verdict(verifier, "good")) for _ in range(20)]
        await asyncio.sleep(0)
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        issuer.gate.set()
        assert set(await asyncio.gather(*others)) == {GOOD}
        assert len(issuer.asked) == 2


async def test_invented_tokens_do_not_become_a_flood(issuer: Issuer) -> None:
    """So many questions at once and no more: 503 for the rest."""
    async with verifying(issuer, check=True) as (verifier, _):
        issuer.gate.clear()
        asking = [asyncio.ensure_future(verdict(verifier, f"t{n}")) for n in range(MAX_ASKING)]
        await asyncio.sleep(0.01)
        assert (await verdict(verifier, "one-more")).status == 503
        issuer.gate.set()
        assert {found.status for found in await asyncio.gather(*asking)} == {401}


async def test_an_unreachable_check_is_503() -> None:
    """Nobody is let in because the lock is broken."""
    telemetry = MemoryTelemetry()
    async with AsyncExitStack() as stack:
        options = Options(bearer_check_url="http://127.0.0.1:1/check")
        verifier = await make_verifier(options, stack, telemetry)
        assert verifier is not None
        assert (await verdict(verifier, "secret-token")).status == 503
    assert telemetry.named("media.token_check_failed") == [
        {"error_class": "ConnectFailed", "status": None}
    ]
    assert "secret-token" not in str(telemetry.events)


async def test_each_token_is_decided_by_one_of_them(issuer: Issuer) -> None:
    """A JWT its issuer does not vouch for is not tried elsewhere."""
    secret = Secret("static-one")
    async with verifying(issuer, signed=True, check=True, bearer_tokens=secret) as (verifier, _):
        assert verifier.verify("Bearer static-one") == GOOD
        assert (await verdict(verifier, token(OTHER))).status == 401
        assert issuer.asked == []
        assert await verdict(verifier, "good") == GOOD
        assert issuer.asked == ["Bearer good"]


# --- origins ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://apps.mypurecloud.com", True),
        ("https://a.b.mypurecloud.com", True),
        ("HTTPS://Apps.MyPureCloud.com", True),
        ("https://apps.mypurecloud.com:443", True),
        ("https://mypurecloud.com", False),
        ("https://evilmypurecloud.com", False),
        ("https://apps.mypurecloud.com.evil.example", False),
        ("https://apps.mypurecloud.com@evil.example", False),
        ("https://evil.example/.mypurecloud.com", False),
        ("https://evil.example#.mypurecloud.com", False),
        ("http://apps.mypurecloud.com", False),
        ("https://apps.mypurecloud.com:8443", False),
        ("https://desk.example", True),
        ("https://www.desk.example", False),
        ("https://desk.example:8443", False),
        ("https://dev.example:8443", True),
        ("https://dev.example", False),
        ("null", False),
        ("", False),
        ("https://", False),
        ("https://.mypurecloud.com", False),
        ("https://desk.example.", False),
        ("https://desk.example https://evil.example", False),
    ],
)
def test_an_origin_is_held_against_the_list(origin: str, allowed: bool) -> None:
    """Whole names, https, and the port meant."""
    permits = origin_allowed(["*.mypurecloud.com", "desk.example", "https://dev.example:8443"])
    assert permits(origin) is allowed


@pytest.mark.parametrize(
    "pattern", ["", "*", "*.com", "a*.b.c", "http://a.b", "a b", "a.b/c", "*.*.c.d"]
)
def test_a_pattern_that_permits_more_than_it_seems_is_refused(pattern: str) -> None:
    """A mistake in the list is found at the start."""
    with pytest.raises(ConfigError) as wrong:
        origin_allowed([pattern])
    assert wrong.value.setting == "media.origins"


@given(origin=st.text(max_size=60))
def test_any_origin_is_judged(origin: str) -> None:
    """No header raises, and none gets in by being odd."""
    assert not origin_allowed(["desk.example"])(origin) or "desk.example" in origin.lower()
