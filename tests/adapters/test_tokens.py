"""Tokens: one request for many callers and processes, renewed early, refused ones forgotten."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from conformance.scripted_http import (
    FixedToken,
    Noted,
    Reply,
    ScriptedServer,
    grants,
    hangs,
    says,
    scripted,
    waits_for,
)
from steno.adapters.platform_http import HttpClient
from steno.adapters.secrets import load_signer
from steno.adapters.tokens import (
    Clock,
    FallbackTokens,
    TokenCache,
    TokenManager,
    TokenTiming,
    shared_cache,
)
from steno.core.hosts import Host, parse_host
from steno.core.secret import Secret
from steno.errors import (
    AuthError,
    ConnectFailed,
    PeerUnavailable,
    RateLimited,
    TimedOut,
    TransportError,
)
from steno.wire.oauth import (
    Feature,
    JwtConfig,
    Proof,
    ReadyProof,
    ScopeReport,
    SecretProof,
    Shape,
    SignedProof,
)
from steno_sim.oauth import Client, TokenService
from steno_sim.server import Simulator

SECRET = "planted-client-secret"
QUICK = TokenTiming(retry_first_s=0.01, retry_cap_s=0.02, patience_s=0.5, early_patience_s=0.2)


class Hands:
    """Clocks moved by the test."""

    def __init__(self) -> None:
        self.uptime = 1000.0
        self.unix = 1_800_000_000.0
        self.clock = Clock(lambda: self.uptime, lambda: self.unix)

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.uptime += seconds
        self.unix += seconds


@pytest.fixture
def hands() -> Hands:
    """Give clocks that stand still until they are moved."""
    return Hands()


@asynccontextmanager
async def manager(
    server: ScriptedServer,
    hands: Hands,
    *,
    telemetry: Noted | None = None,
    timing: TokenTiming = QUICK,
    features: tuple[Feature, ...] = (),
    cache: TokenCache | None = None,
) -> AsyncIterator[TokenManager]:
    """Make a manager against a scripted server, without jitter."""
    async with HttpClient() as http:
        yield TokenManager(
            server.host,
            Shape.QUERY,
            "client",
            SecretProof(Secret(SECRET)),
            exchange=http,
            telemetry=telemetry or Noted(),
            timing=timing,
            features=features,
            cache=cache,
            clock=hands.clock,
            draw=lambda: 0.0,
        )


def cache_in(folder: Path, hands: Hands, *, secret: str = SECRET) -> TokenCache:
    """Make the cache of one client."""
    return TokenCache(
        folder / "tokens",
        identity="host client",
        secret=Secret(secret),
        telemetry=Noted(),
        clock=hands.clock,
    )


async def test_fresh_token_is_given_without_asking_again(hands: Hands) -> None:
    """While a token is fresh there is one request, whoever asks."""
    async with scripted(grants("one"), grants("two")) as server, manager(server, hands) as tokens:
        assert await tokens.token() == "one"
        hands.move(3299)
        assert await tokens.token() == "one"
        assert len(server.seen) == 1


async def test_token_is_never_kept_into_its_margin(hands: Hands) -> None:
    """Five minutes before its end the next one is fetched."""
    async with scripted(grants("one"), grants("two")) as server, manager(server, hands) as tokens:
        await tokens.token()
        hands.move(3300)
        assert await tokens.token() == "two"


async def test_short_life_has_a_short_margin(hands: Hands) -> None:
    """A token of a minute serves for 48 s, rather than being renewed at every call."""
    async with (
        scripted(grants("one", 60), grants("two", 60)) as server,
        manager(server, hands) as tokens,
    ):
        await tokens.token()
        hands.move(47)
        assert await tokens.token() == "one"
        hands.move(2)
        assert await tokens.token() == "two"


async def test_many_callers_share_one_request(hands: Hands) -> None:
    """A hundred callers at once cost one request."""
    gate = asyncio.Event()
    async with (
        scripted(waits_for(gate, grants("one"))) as server,
        manager(server, hands) as tokens,
        asyncio.TaskGroup() as group,
    ):
        calls = [group.create_task(tokens.token()) for _ in range(100)]
        await server.asked()
        gate.set()
        assert {await call for call in calls} == {"one"}
        assert len(server.seen) == 1


async def test_many_callers_share_one_failure(hands: Hands) -> None:
    """A refusal reaches all who waited for it; they do not ask one after the other."""
    gate = asyncio.Event()
    refusal = says(401, {"error": "invalid_client"})
    async with (
        scripted(waits_for(gate, refusal)) as server,
        manager(server, hands) as tokens,
    ):
        calls = asyncio.gather(*(tokens.token() for _ in range(50)), return_exceptions=True)
        await server.asked()
        gate.set()
        assert all(isinstance(outcome, AuthError) for outcome in await calls)
        assert len(server.seen) == 1


async def test_cancelled_caller_leaves_the_fetch_to_the_next(hands: Hands) -> None:
    """The one who fetches may be cancelled: another takes over, and nobody is cancelled with it."""
    async with (
        scripted(hangs(), grants("two")) as server,
        manager(server, hands) as tokens,
    ):
        first = asyncio.create_task(tokens.token())
        await server.asked()
        second = asyncio.create_task(tokens.token())
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await second == "two"


async def test_refused_token_is_not_given_again(hands: Hands) -> None:
    """After a 401 all callers get another token, by one request."""
    async with scripted(grants("one"), grants("two")) as server, manager(server, hands) as tokens:
        old = await tokens.token()
        new = await asyncio.gather(*(tokens.token(refused=old) for _ in range(20)))
        assert set(new) == {"two"}
        assert len(server.seen) == 2


async def test_late_refusal_of_an_older_token_changes_nothing(hands: Hands) -> None:
    """Who was refused with a token that was replaced meanwhile just gets the new one."""
    async with scripted(grants("one"), grants("two")) as server, manager(server, hands) as tokens:
        old = await tokens.token()
        await tokens.token(refused=old)
        assert await tokens.token(refused=old) == "two"
        assert len(server.seen) == 2


async def test_same_token_after_a_refusal_is_an_auth_error(hands: Hands) -> None:
    """When OAuth gives back what the API refuses, asking in a loop would not help."""
    async with scripted(grants("one")) as server, manager(server, hands) as tokens:
        old = await tokens.token()
        with pytest.raises(AuthError, match="just given"):
            await tokens.token(refused=old)
        with pytest.raises(AuthError):
            await tokens.token()
        assert len(server.seen) == 2
        hands.move(61)  # it may have been a mistake of the platform: one more chance a minute
        assert await tokens.token() == "one"


@pytest.mark.parametrize(
    ("status", "code", "names"),
    [
        (401, "invalid_client", "client id"),
        (400, "invalid_client", "client id"),
        (400, "invalid_scope", "conversation:transcript:read"),
        (403, "forbidden", "conversation:transcript:read"),
    ],
)
async def test_refusal_fails_at_once_and_names_the_fix(
    hands: Hands, status: int, code: str, names: str
) -> None:
    """400, 401 and 403 are not retried; the error says what to grant or to check."""
    refusal = says(status, {"error": code, "description": "secret peer text"})
    async with (
        scripted(refusal) as server,
        manager(server, hands, features=(Feature.LIVE,)) as tokens,
    ):
        with pytest.raises(AuthError) as caught:
            await tokens.token()
        assert len(server.seen) == 1
    assert names in str(caught.value)
    assert "secret peer text" not in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_refusal_is_not_repeated_for_a_minute(hands: Hands) -> None:
    """Bad credentials do not hammer the token endpoint."""
    async with (
        scripted(says(401, {"error": "invalid_client"}), grants("one")) as server,
        manager(server, hands) as tokens,
    ):
        for _ in range(3):
            with pytest.raises(AuthError):
                await tokens.token()
        assert len(server.seen) == 1
        hands.move(61)
        assert await tokens.token() == "one"


async def test_passing_failures_are_retried(hands: Hands) -> None:
    """429, 5xx and a page that is no JSON may pass: tried again within the patience."""
    noted = Noted()
    async with (
        scripted(
            says(429, Retry_After="0"),
            says(503),
            says(200, b"<html>starting</html>"),
            grants("one"),
        ) as server,
        manager(server, hands, telemetry=noted) as tokens,
    ):
        assert await tokens.token() == "one"
        assert len(server.seen) == 4
    assert noted.events().count("token.retried") == 3


@pytest.mark.parametrize(
    ("status", "error"), [(429, RateLimited), (500, PeerUnavailable), (503, PeerUnavailable)]
)
async def test_retries_end_with_the_patience(
    hands: Hands, status: int, error: type[TransportError]
) -> None:
    """What does not pass in time is a typed, retryable error."""
    async with scripted(says(status)) as server, manager(server, hands) as tokens:
        with pytest.raises(error) as caught:
            await tokens.token()
        assert len(server.seen) > 3
    assert caught.value.retryable


async def test_retry_after_beyond_the_patience_ends_at_once(hands: Hands) -> None:
    """A server that asks for an hour gets no second request before."""
    async with (
        scripted(says(429, Retry_After="3600")) as server,
        manager(server, hands) as tokens,
    ):
        with pytest.raises(RateLimited) as caught:
            await tokens.token()
        assert len(server.seen) == 1
    assert caught.value.retry_after_s == 300.0


async def test_missing_endpoint_is_not_retried(hands: Hands) -> None:
    """A 404 or a redirect says that the address is wrong, which waiting does not mend."""
    for reply in (says(404), says(302, Location="https://elsewhere.example/")):
        async with scripted(reply) as server, manager(server, hands) as tokens:
            with pytest.raises(PeerUnavailable, match="OAuth shape"):
                await tokens.token()
            assert len(server.seen) == 1


async def test_silent_endpoint_ends_in_time(hands: Hands) -> None:
    """Each request has its limit."""
    timing = TokenTiming(request_limit_s=0.05, patience_s=0.05, retry_first_s=0.04, retry_cap_s=1)
    async with scripted(hangs()) as server, manager(server, hands, timing=timing) as tokens:
        with pytest.raises(TimedOut):
            await tokens.token()


async def test_failed_early_renewal_leaves_the_old_token_serving(hands: Hands) -> None:
    """The old token serves, the next try comes after a minute, and the end is the end."""
    noted = Noted()
    async with (
        scripted(grants("one"), says(503)) as server,
        manager(server, hands, telemetry=noted) as tokens,
    ):
        await tokens.token()
        hands.move(3310)
        assert await tokens.token() == "one"
        asked = len(server.seen)
        hands.move(59)
        assert await tokens.token() == "one"
        assert len(server.seen) == asked
        hands.move(2)
        server.script[:] = [grants("two")]
        assert await tokens.token() == "two"
        hands.move(3600)
        server.script[:] = [says(503)]
        with pytest.raises(PeerUnavailable):
            await tokens.token()
    assert "token.renewal_failed" in noted.events("warning")
    assert "token.renewal_failed" in noted.events("error")


async def test_silent_oauth_does_not_hold_up_who_has_a_token(hands: Hands) -> None:
    """While the old token serves, a caller waits for the early patience and no longer, be it
    for its own renewal or for one in the background.
    """
    timing = TokenTiming(
        request_limit_s=5.0, patience_s=5.0, early_patience_s=0.1, early_retry_s=60.0
    )
    async with (
        scripted(grants("one"), hangs()) as server,
        manager(server, hands, timing=timing) as tokens,
    ):
        await tokens.token()
        hands.move(3310)
        async with asyncio.timeout(2):
            assert await tokens.token() == "one"
        hands.move(61)
        background = asyncio.create_task(tokens.run())
        await server.asked(len(server.seen) + 1)
        async with asyncio.timeout(2):
            assert await tokens.token() == "one"
        background.cancel()
        with pytest.raises(asyncio.CancelledError):
            await background


async def test_token_refused_during_its_renewal_is_not_given(hands: Hands) -> None:
    """The renewal fails, and meanwhile the platform has refused the old token: it is gone."""
    gate = asyncio.Event()
    async with (
        scripted(grants("one"), waits_for(gate, says(503))) as server,
        manager(server, hands) as tokens,
    ):
        await tokens.token()
        hands.move(3310)
        first = asyncio.create_task(tokens.token())
        await server.asked(2)
        second = asyncio.create_task(tokens.token(refused="one"))
        await asyncio.sleep(0)
        gate.set()
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
    assert all(isinstance(outcome, PeerUnavailable) for outcome in outcomes)


async def test_background_renewal_spares_the_callers(hands: Hands) -> None:
    """``run`` fetches at the start and again when it is time, without anybody asking."""
    timing = TokenTiming(retry_first_s=0.01, retry_cap_s=0.02, early_retry_s=0.01, margin_s=3599.9)
    real = Clock()
    async with (
        scripted(grants("one", 1), grants("two")) as server,
        HttpClient() as http,
        asyncio.timeout(10),
    ):
        tokens = TokenManager(
            server.host,
            Shape.QUERY,
            "client",
            SecretProof(Secret(SECRET)),
            exchange=http,
            telemetry=Noted(),
            timing=timing,
            clock=real,
        )
        task = asyncio.create_task(tokens.run())
        await server.asked(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_background_renewal_outlives_refusals(hands: Hands) -> None:
    """``run`` goes on after a refusal: a role may be granted meanwhile."""
    timing = TokenTiming(retry_first_s=0.01, retry_cap_s=0.02, early_retry_s=0.02)
    async with (
        scripted(says(403), says(403), grants("one")) as server,
        HttpClient() as http,
        asyncio.timeout(10),
    ):
        tokens = TokenManager(
            server.host,
            Shape.QUERY,
            "client",
            SecretProof(Secret(SECRET)),
            exchange=http,
            telemetry=Noted(),
            timing=timing,
        )
        task = asyncio.create_task(tokens.run())
        await server.asked(3)
        assert await tokens.token() == "one"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_missing_scope_is_an_error_before_anything_is_connected(hands: Hands) -> None:
    """A token without a needed scope is refused with the scope's name."""
    async with (
        scripted(grants("one", scope="recordings:download")) as server,
        manager(server, hands, features=(Feature.LIVE,)) as tokens,
    ):
        with pytest.raises(AuthError, match="conversation:transcript:read"):
            await tokens.token()


async def test_missing_write_scope_and_excess_are_warnings(hands: Hands) -> None:
    """Without the write scope the switch is off, with one warning; more than needed warns too."""
    noted = Noted()
    reply = grants("one", scope="conversation:transcript:read recordings:download")
    async with (
        scripted(reply) as server,
        manager(
            server, hands, telemetry=noted, features=(Feature.LIVE, Feature.LIVE_SWITCH)
        ) as tokens,
    ):
        await tokens.token()
        hands.move(3400)
        await tokens.token()
        assert tokens.report == ScopeReport(
            degraded=("conversation:transcript:write",), excess=("recordings:download",)
        )
    assert noted.events("warning") == ["token.scopes_missing", "token.scopes_excess"]


async def test_answer_without_scopes_is_accepted(hands: Hands) -> None:
    """Where nothing is told nothing is wrong."""
    async with (
        scripted(grants("one")) as server,
        manager(server, hands, features=tuple(Feature)) as tokens,
    ):
        assert await tokens.token() == "one"
        assert tokens.report == ScopeReport()


async def test_logs_tell_expiry_and_scopes_and_never_the_token(hands: Hands) -> None:
    """Token and secret are in no log line and no repr."""
    noted = Noted()
    async with (
        scripted(grants("planted-token", scope="conversation:transcript:read")) as server,
        manager(server, hands, telemetry=noted) as tokens,
    ):
        await tokens.token()
        shown = noted.text() + repr(tokens) + repr(vars(tokens))
    assert "planted-token" not in shown
    assert SECRET not in shown
    assert noted.lines[-1][2]["expires_in_s"] == 3600
    assert noted.lines[-1][2]["scopes"] == "conversation:transcript:read"


# --- against the simulator -------------------------------------------------------------------


def rsa_pair() -> tuple[str, str]:
    """Make a key; return its private and public halves as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


@pytest.mark.parametrize("shape", list(Shape))
@pytest.mark.parametrize("signed", [False, True])
async def test_every_shape_logs_in(shape: Shape, signed: bool) -> None:
    """Query, form and Basic, by secret and by signed assertion, and a wrong proof is refused."""
    private, public = rsa_pair() if signed else ("", "")
    service = TokenService([Client(id="client", secret=SECRET, public_key=public)])
    good: Proof = SecretProof(Secret(SECRET))
    bad: Proof = SecretProof(Secret("wrong"))
    if signed:
        config = JwtConfig()
        good = SignedProof(load_signer(Secret(private), "RS256", setting="x"), Secret("k"), config)
        other, _ = rsa_pair()
        bad = SignedProof(load_signer(Secret(other), "RS256", setting="x"), Secret("k"), config)
    async with Simulator(play=False, tokens=service) as sim, HttpClient() as http:
        host = parse_host(sim.host, setting="x")
        tokens, refused = (
            TokenManager(
                host, shape, "client", proof, exchange=http, telemetry=Noted(), timing=QUICK
            )
            for proof in (good, bad)
        )
        assert await tokens.token()
        assert tokens.scopes is not None
        assert "conversation:transcript:read" in tokens.scopes
        with pytest.raises(AuthError):
            await refused.token()


def test_cache_differs_by_host_client_and_scopes(tmp_path: Path) -> None:
    """Whatever changes what a token is good for, changes the file."""
    here, there = Host("a.example"), Host("b.example")
    proof = ReadyProof(Secret("x"))
    paths = {
        shared_cache(
            tmp_path, host, Shape.FORM, client, proof, scopes=scopes, telemetry=Noted()
        ).path
        for host in (here, there)
        for client in ("one", "two")
        for scopes in ((), ("a:b",))
    }
    assert len(paths) == 8


# --- between processes -----------------------------------------------------------------------


async def test_second_process_reads_the_first_ones_token(hands: Hands, tmp_path: Path) -> None:
    """Two managers with one state directory ask once."""
    async with (
        scripted(grants("one"), grants("two")) as server,
        manager(server, hands, cache=cache_in(tmp_path, hands)) as first,
        manager(server, hands, cache=cache_in(tmp_path, hands)) as second,
    ):
        assert await first.token() == await second.token() == "one"
        assert len(server.seen) == 1
        assert await second.token(refused="one") == "two"
        assert await first.token(refused="one") == "two"
        assert len(server.seen) == 2


async def test_own_token_in_the_file_is_no_renewal(hands: Hands, tmp_path: Path) -> None:
    """Past its moment of renewal a process asks OAuth, even though the file is not past its."""
    async with scripted(grants("one"), grants("two")) as server, HttpClient() as http:
        tokens = TokenManager(
            server.host,
            Shape.QUERY,
            "client",
            SecretProof(Secret(SECRET)),
            exchange=http,
            telemetry=Noted(),
            cache=cache_in(tmp_path, hands),
            clock=hands.clock,
            draw=lambda: 0.9,  # renewal comes 54 s before the margin begins
        )
        assert await tokens.token() == "one"
        hands.move(3250)
        assert await tokens.token() == "two"


async def test_cached_token_without_a_needed_scope_is_replaced(
    hands: Hands, tmp_path: Path
) -> None:
    """The scope may have been granted since: OAuth is asked before anybody is refused."""
    few, all_of_them = "recordings:download", "conversation:transcript:read"
    async with (
        scripted(grants("one", scope=few), grants("two", scope=all_of_them)) as server,
        manager(server, hands, cache=cache_in(tmp_path, hands)) as other,
        manager(server, hands, cache=cache_in(tmp_path, hands), features=(Feature.LIVE,)) as tokens,
    ):
        assert await other.token() == "one"
        assert await tokens.token() == "two"


async def test_cache_file_is_private_and_sealed(hands: Hands, tmp_path: Path) -> None:
    """0600 in a folder of 0700, and the token cannot be read in it."""
    cache = cache_in(tmp_path, hands)
    async with (
        scripted(grants("planted-token")) as server,
        manager(server, hands, cache=cache) as tokens,
    ):
        await tokens.token()
    assert cache.path.stat().st_mode & 0o777 == 0o600
    assert cache.path.parent.stat().st_mode & 0o777 == 0o700
    assert b"planted" not in cache.path.read_bytes()
    assert "client" not in cache.path.name
    assert cache_in(tmp_path, hands, secret="another").read() is None
    assert cache_in(tmp_path, hands).read() is not None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
async def test_open_cache_file_is_not_trusted(hands: Hands, tmp_path: Path, mode: int) -> None:
    """A file others could read or write is passed over, and replaced."""
    cache = cache_in(tmp_path, hands)
    async with scripted(grants("one"), grants("two")) as server:
        async with manager(server, hands, cache=cache) as tokens:
            await tokens.token()
        cache.path.chmod(mode)
        async with manager(server, hands, cache=cache_in(tmp_path, hands)) as tokens:
            assert await tokens.token() == "two"
    assert cache.path.stat().st_mode & 0o777 == 0o600


async def test_link_in_place_of_the_cache_file_is_not_followed(
    hands: Hands, tmp_path: Path
) -> None:
    """Nobody can make us read or overwrite another file."""
    cache = cache_in(tmp_path, hands)
    cache.path.parent.mkdir(mode=0o700)
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    cache.path.symlink_to(victim)
    async with scripted(grants("one")) as server, manager(server, hands, cache=cache) as tokens:
        assert await tokens.token() == "one"
    assert victim.read_text() == "untouched"
    assert not cache.path.is_symlink()


@pytest.mark.parametrize("cut", [0, 3, 20, 40, -1])
async def test_damaged_cache_file_is_passed_over(hands: Hands, tmp_path: Path, cut: int) -> None:
    """A torn file costs one request and no error."""
    cache = cache_in(tmp_path, hands)
    async with scripted(grants("one"), grants("two")) as server:
        async with manager(server, hands, cache=cache) as tokens:
            await tokens.token()
        cache.path.write_bytes(cache.path.read_bytes()[:cut])
        async with manager(server, hands, cache=cache_in(tmp_path, hands)) as tokens:
            assert await tokens.token() == "two"


async def test_wall_clock_jumps_do_not_touch_a_token(hands: Hands, tmp_path: Path) -> None:
    """An hour forward or back on the wall clock makes nothing valid or invalid."""
    async with scripted(grants("one"), grants("two")) as server:
        async with manager(server, hands, cache=cache_in(tmp_path, hands)) as tokens:
            await tokens.token()
            hands.unix += 7200
            assert await tokens.token() == "one"
        async with manager(server, hands, cache=cache_in(tmp_path, hands)) as other:
            assert await other.token() == "one"
        hands.unix -= 14_400
        hands.uptime += 3301
        async with manager(server, hands, cache=cache_in(tmp_path, hands)) as other:
            assert await other.token() == "two"


async def test_token_from_the_future_is_not_used_after_a_restart(
    hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart only the wall clock dates the file; set back, it dates nothing."""
    kept_boot = "steno.adapters.tokens.cache._boot_id"
    async with (
        scripted(grants("one")) as server,
        manager(server, hands, cache=cache_in(tmp_path, hands)) as tokens,
    ):
        await tokens.token()
    monkeypatch.setattr(kept_boot, lambda: "another boot")
    hands.uptime = 5.0
    hands.unix += 600
    kept = cache_in(tmp_path, hands).read()
    assert kept is not None
    assert kept.issued_at == pytest.approx(5.0 - 600)
    hands.unix -= 601
    assert cache_in(tmp_path, hands).read() is None


async def test_unusable_folder_costs_the_cache_only(hands: Hands, tmp_path: Path) -> None:
    """A state directory that cannot be written is one warning, and tokens still come."""
    (tmp_path / "tokens").write_text("not a folder")
    noted = Noted()
    cache = TokenCache(
        tmp_path / "tokens",
        identity="x",
        secret=Secret(SECRET),
        telemetry=noted,
        clock=hands.clock,
    )
    async with scripted(grants("one")) as server, manager(server, hands, cache=cache) as tokens:
        assert await tokens.token() == "one"
    assert noted.events("warning") == ["token.cache_unusable"]


async def test_folder_others_can_write_is_not_used(hands: Hands, tmp_path: Path) -> None:
    """Others could put their own file there."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens").chmod(0o777)
    cache = cache_in(tmp_path, hands)
    async with scripted(grants("one")) as server, manager(server, hands, cache=cache) as tokens:
        assert await tokens.token() == "one"
    assert not list((tmp_path / "tokens").glob("*.lock"))


CHILD = """
import asyncio, json, sys
from pathlib import Path
from conformance.scripted_http import Noted
from steno.adapters.platform_http import HttpClient
from steno.adapters.tokens import TokenCache, TokenManager
from steno.core.hosts import Host
from steno.core.secret import Secret
from steno.wire.oauth import SecretProof, Shape

async def main(port, folder):
    noted, secret = Noted(), Secret("shared")
    cache = TokenCache(Path(folder), identity="one", secret=secret, telemetry=noted)
    async with HttpClient() as http:
        tokens = TokenManager(
            Host("127.0.0.1", port, secure=False), Shape.QUERY, "client", SecretProof(secret),
            exchange=http, telemetry=noted, cache=cache)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        got = await asyncio.gather(*(tokens.token() for _ in range(10)))
        print(json.dumps(sorted(set(got))), flush=True)

asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
"""


async def test_two_processes_at_once_make_one_request(tmp_path: Path) -> None:
    """Started together, twenty callers in two processes cost the endpoint one request."""
    path = os.pathsep.join(str(Path(__file__).parents[2] / name) for name in ("src", "tests"))

    gate = asyncio.Event()
    async with scripted(waits_for(gate, grants("one")), grants("two")) as server:
        children = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                CHILD,
                str(server.host.port),
                str(tmp_path / "tokens"),
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for _ in range(2)
        ]
        async with asyncio.timeout(30):
            for child in children:
                assert child.stdout is not None
                assert await child.stdout.readline() == b"ready\n"
            for child in children:
                assert child.stdin is not None
                child.stdin.write(b"go\n")
                await child.stdin.drain()
            await server.asked()
            gate.set()
            outputs = [(await child.communicate())[0] for child in children]
        assert [json.loads(output) for output in outputs] == [["one"], ["one"]]
        assert len(server.seen) == 1


# --- backup region ---------------------------------------------------------------------------


async def test_backup_asks_its_own_oauth(hands: Hands) -> None:
    """While the backup's OAuth answers, its tokens are used."""
    async with scripted(grants("backup")) as server, manager(server, hands) as backup:
        tokens = FallbackTokens(backup, FixedToken("primary"), telemetry=Noted())
        assert await tokens.token() == "backup"


@pytest.mark.parametrize("reply", [says(503), says(401), hangs()])
async def test_backup_without_oauth_reuses_the_primarys_token(hands: Hands, reply: Reply) -> None:
    """When it refuses, fails or is silent, the primary's token is given within the patience."""
    noted = Noted()
    async with scripted(reply) as server, manager(server, hands) as backup:
        tokens = FallbackTokens(backup, FixedToken("primary"), telemetry=noted, patience_s=0.2)
        started = asyncio.get_running_loop().time()
        assert await tokens.token() == "primary"
        assert await tokens.token() == "primary"
        assert asyncio.get_running_loop().time() - started < 2
    assert noted.events("warning") == ["token.primary_reused"]


async def test_refusal_reaches_both_sources(hands: Hands) -> None:
    """Whichever gave the token, it is not given again."""
    async with scripted(says(503)) as server, manager(server, hands) as backup:
        primary = FixedToken("old", "new")
        tokens = FallbackTokens(backup, primary, telemetry=Noted(), patience_s=0.2)
        assert await tokens.token() == "old"
        assert await tokens.token(refused="old") == "new"


async def test_unreachable_host_is_a_failed_connection(hands: Hands) -> None:
    """Nobody listens: a typed error within the patience."""
    async with scripted(grants()) as server:
        host = server.host
    gone = ScriptedServer(host=host)
    async with manager(gone, hands) as tokens:
        with pytest.raises(ConnectFailed):
            await tokens.token()
