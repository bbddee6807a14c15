"""One client's access token at one host: fetched once for many callers, renewed early.

The life of a token::

    given ───────────── fresh ─────────────┤ renewed here ├── margin ──┤ ended
                                           └ jittered      └ still serves when renewal fails

- Fresh: handed out at once.
- Past the moment of renewal: the next caller, or ``run`` in the background, fetches another.
  All who come meanwhile wait for that one request; when it fails they get the old token while
  it lives, and the next try comes after a minute.
- Refused (a 401): forgotten, and not given again.

Between processes the same holds by ``TokenCache``: who has the lock asks, the others read.
"""

from __future__ import annotations

import asyncio
import hmac
import random
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from steno.adapters.tokens.cache import Clock, Kept, TokenCache
from steno.core.hosts import Host
from steno.core.timing import Backoff, Deadline, Retries, early_margin, refresh_at
from steno.errors import (
    AuthError,
    PeerUnavailable,
    RateLimited,
    RemoteProtocolError,
    StenoError,
    TransportError,
)
from steno.ports import Telemetry
from steno.wire.http import HttpAnswer, HttpExchange, asked_to_wait, read_error
from steno.wire.oauth import (
    PERMISSIONS,
    Feature,
    Grant,
    Proof,
    ScopeReport,
    Shape,
    check_scopes,
    decode_grant,
    token_request,
    wanted_scopes,
)

MAX_ANSWER_BYTES: Final = 64 * 1024
_LOOK_S: Final = 30.0
"""Longest sleep of ``run``: the uptime clock goes on while the machine sleeps, timers do not."""


class TokenTiming(msgspec.Struct, frozen=True):
    """Limits of fetching, in seconds.

    Attributes:
        request_limit_s: One request.
        patience_s: All tries, when there is no token that serves.
        early_patience_s: All tries, while the old token still serves and a caller waits.
        retry_first_s: Shortest wait between tries.
        retry_cap_s: Longest wait between tries that the server did not ask for.
        early_retry_s: After a failed early renewal or a refusal: no try for so long.
        margin_s: A token counts as used up so long before its end (or 20 % of a short life).
    """

    request_limit_s: float = 10.0
    patience_s: float = 30.0
    early_patience_s: float = 10.0
    retry_first_s: float = 1.0
    retry_cap_s: float = 8.0
    early_retry_s: float = 60.0
    margin_s: float = 300.0


class _Held(msgspec.Struct, frozen=True):
    token: str
    refresh_at: float
    ends_at: float
    scopes: frozenset[str] | None

    def __repr__(self) -> str:
        return "_Held(…)"  # a token in it


class TokenManager:
    """Implements ``ports.TokenSource`` for one client at one host.

    Args:
        host: Where the token endpoint is: the API host, or ``login.`` of a region.
        shape: How it is asked.
        client_id: The OAuth client.
        proof: Its secret, key or assertion.
        exchange: Carries the requests; not closed here.
        telemetry: Logs expiry and scopes, never a token.
        features: What is enabled: a token that lacks a scope they need is refused, one with
            more than they need is warned of. Empty for the real platform, which has roles.
        scopes: Asked for.
        cache: Shares the token between processes; None keeps it in memory.
        timing: The limits.
        clock: The clocks tokens live by.
        draw: A number in [0, 1) for the jitter.
    """

    def __init__(
        self,
        host: Host,
        shape: Shape,
        client_id: str,
        proof: Proof,
        *,
        exchange: HttpExchange,
        telemetry: Telemetry,
        features: Iterable[Feature] = (),
        scopes: Iterable[str] = (),
        cache: TokenCache | None = None,
        timing: TokenTiming | None = None,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._host = host
        self._shape = shape
        self._client_id = client_id
        self._proof = proof
        self._exchange = exchange
        self._telemetry = telemetry
        self._features = frozenset(features)
        self._scopes = tuple(scopes)
        self._cache = cache
        self._timing = timing or TokenTiming()
        self._clock = clock or Clock()
        self._draw = draw
        self._held: _Held | None = None
        self._refused = ""
        self._flight: asyncio.Future[StenoError | None] | None = None
        self._failure: StenoError | None = None
        self._rest_until = float("-inf")
        self._told = ScopeReport()

    @property
    def scopes(self) -> frozenset[str] | None:
        """Scopes of the token held; None without one, or where the answer did not tell."""
        return self._held.scopes if self._held is not None else None

    @property
    def report(self) -> ScopeReport:
        """How the scopes of the token held compare with what is enabled."""
        return check_scopes(self.scopes, self._features) if self._features else ScopeReport()

    @property
    def expires_in_s(self) -> float:
        """Seconds the token held has left; 0 without one."""
        if self._held is None:
            return 0.0
        return max(0.0, self._held.ends_at - self._clock.uptime())

    async def token(self, *, refused: str = "") -> str:
        """Return a token; see ``ports.TokenSource``.

        A token past its moment of renewal is returned only when no other could be had.
        """
        self._forget(refused)
        while True:
            now = self._clock.uptime()
            held = self._held
            if held is not None and now < held.refresh_at:
                return held.token
            serving = held.token if held is not None and now < held.ends_at else None
            if now < self._rest_until:
                if serving is not None:
                    return serving
                if isinstance(self._failure, AuthError):
                    raise self._failure.with_traceback(None)
            patience_s = self._timing.patience_s
            if serving is not None:
                patience_s = self._timing.early_patience_s
            failure = await self._renewed(patience_s, followed=serving is not None)
            if failure is not None:
                if serving is None or not self._lives(serving):
                    raise failure.with_traceback(None)
                return serving

    async def run(self) -> None:
        """Renew early in the background until cancelled, so that no caller has to wait.

        A failure is logged and tried again after a minute, a refusal too: a role or a scope may
        be granted meanwhile. Never returns by itself.
        """
        while True:
            now = self._clock.uptime()
            due = self._held.refresh_at if self._held is not None else now
            due = max(due, self._rest_until)
            if now < due:
                await asyncio.sleep(min(due - now, _LOOK_S))
                continue
            failure = await self._renewed(self._timing.patience_s)
            if failure is not None:
                # Without a token to go on with, a transport failure gives no rest by itself.
                self._rest_until = self._clock.uptime() + self._timing.early_retry_s

    # --- one flight for many callers ----------------------------------------------------------

    async def _renewed(self, patience_s: float, *, followed: bool = False) -> StenoError | None:
        """Fetch another token, or wait for the fetch that is under way; return its failure.

        None also means that the one who fetched was cancelled: look again. With ``followed``
        the wait for somebody else's fetch is bounded by ``patience_s``.
        """
        if self._flight is not None:
            limit_s = patience_s if followed else None
            done, _ = await asyncio.wait({self._flight}, timeout=limit_s)
            return done.pop().result() if done else TransportError("the renewal takes long")
        flight = self._flight = asyncio.get_running_loop().create_future()
        failure: StenoError | None = None
        try:
            self._held = await self._obtained(patience_s)
            self._rest_until = float("-inf")
        except (AuthError, TransportError) as error:
            failure = error
            self._note(error)
        finally:
            self._flight = None
            flight.set_result(failure)
        return failure

    def _note(self, failure: StenoError) -> None:
        """Decide when to try again, and tell: an error when there is nothing to go on with."""
        now = self._clock.uptime()
        self._failure = failure
        serves = self._held is not None and now < self._held.ends_at
        if serves or isinstance(failure, AuthError):
            self._rest_until = now + self._timing.early_retry_s
        # Nothing to go on with wakes somebody; an early renewal that failed can be read tomorrow.
        tell = self._telemetry.warning if serves else self._telemetry.error
        tell(
            "token.renewal_failed",
            host=self._host.name,
            error=failure.error_class,
            retry_s=max(0.0, self._rest_until - now),
        )

    def _forget(self, refused: str) -> None:
        if not refused:
            return
        if self._held is not None and _same(self._held.token, refused):
            self._held = None
            self._refused = refused
            self._telemetry.info("token.refused", host=self._host.name)

    def _lives(self, token: str) -> bool:
        """Tell whether a token still is the one held: it may have been refused meanwhile."""
        held = self._held
        return held is not None and _same(held.token, token) and self._clock.uptime() < held.ends_at

    # --- one fetch for many processes ---------------------------------------------------------

    async def _obtained(self, patience_s: float) -> _Held:
        deadline = Deadline.after(asyncio.get_running_loop().time(), patience_s)
        if self._cache is None:
            return self._adopted(await self._fetched(deadline, patience_s))
        async with self._cache.locked(patience_s):
            kept = self._cache.read()
            if kept is not None and self._is_usable(kept):
                return self._adopted(kept)
            # Whoever waited for a stopped process in vain still gets one try.
            kept = await self._fetched(deadline, patience_s)
            held = self._adopted(kept)
            self._cache.write(kept)
            return held

    def _is_usable(self, kept: Kept) -> bool:
        """Tell whether a token another process has fetched helps us here."""
        grant = kept.grant
        ends_at = kept.issued_at + grant.expires_in_s
        margin_s = early_margin(grant.expires_in_s, margin_s=self._timing.margin_s)
        if self._clock.uptime() >= ends_at - margin_s:
            return False
        if self._held is not None and _same(self._held.token, grant.token):
            return False  # ours, and past its moment of renewal
        if self._refused and _same(self._refused, grant.token):
            return False
        return not check_scopes(grant.scopes, self._features).missing

    def _adopted(self, kept: Kept) -> _Held:
        """Check a token and say when it is to be renewed.

        Raises:
            AuthError: It lacks a scope, or it is the one that was refused.
        """
        grant = kept.grant
        if self._refused and _same(self._refused, grant.token):
            self._refused = ""  # a later try may take it: the refusal may have been a mistake
            raise AuthError(
                "the platform refuses a token that its OAuth has just given",
                fix="Check that token and API host belong to the same region",
                host=self._host.name,
            )
        self._check(grant)
        self._refused = ""
        moment = refresh_at(
            grant.expires_in_s, kept.issued_at, self._draw(), margin_s=self._timing.margin_s
        )
        return _Held(grant.token, moment, kept.issued_at + grant.expires_in_s, grant.scopes)

    def _check(self, grant: Grant) -> None:
        if not self._features:
            return
        report = check_scopes(grant.scopes, self._features)
        if report.missing:
            missing = " ".join(report.missing)
            raise AuthError(
                "the token lacks scopes that the enabled features need",
                fix=f"Grant the OAuth client: {missing}",
                host=self._host.name,
                missing=missing,
            )
        if report == self._told:
            return
        self._told = report
        if report.degraded:
            self._telemetry.warning("token.scopes_missing", scopes=" ".join(report.degraded))
        if report.excess:
            self._telemetry.warning("token.scopes_excess", scopes=" ".join(report.excess))

    # --- requests -----------------------------------------------------------------------------

    async def _fetched(self, deadline: Deadline, patience_s: float) -> Kept:
        timing = self._timing
        limit_s = min(timing.request_limit_s, patience_s)
        now = asyncio.get_running_loop().time
        retries = Retries(Backoff(timing.retry_first_s, timing.retry_cap_s), deadline)
        attempts = 0
        while True:
            attempts += 1
            # Counted from before the request: what the answer takes to arrive is life lost.
            issued_at = self._clock.uptime()
            result = await self._asked(limit_s)
            if isinstance(result, Grant):
                self._tell(result, attempts)
                return Kept(result, issued_at)
            delay_s = None
            if result.may_pass:
                delay_s = retries.next_delay(now(), self._draw(), retry_after_s=result.wait_s)
            if delay_s is None:
                raise result.failure
            self._telemetry.info(
                "token.retried",
                host=self._host.name,
                attempts=attempts,
                error=result.failure.error_class,
                wait_s=round(delay_s, 3),
            )
            await asyncio.sleep(delay_s)

    async def _asked(self, limit_s: float) -> Grant | _Failed:
        request = token_request(
            self._host,
            self._shape,
            self._client_id,
            self._proof,
            scopes=self._scopes,
            now_unix_s=int(self._clock.unix()),
            assertion_id=secrets.token_urlsafe(24),
        )
        try:
            answer = await self._exchange.send(request, limit_s=limit_s, max_bytes=MAX_ANSWER_BYTES)
            if answer.status == 200:
                return decode_grant(answer.body)
        except TransportError as error:
            error.fields["host"] = self._host.name
            return _Failed(error, may_pass=True)
        except RemoteProtocolError as error:
            # A proxy's page, or a service that is half started: it may pass.
            strange = PeerUnavailable(
                "the token endpoint's answer cannot be used",
                fix=_ENDPOINT_FIX,
                host=self._host.name,
                reason=error.fields.get("reason"),
            )
            return _Failed(strange, may_pass=True)
        return self._refusal(answer)

    def _refusal(self, answer: HttpAnswer) -> _Failed:
        told = read_error(answer)
        wait_s = asked_to_wait(answer, datetime.now(UTC))
        failure: StenoError
        match answer.status:
            case 400 | 401 | 403:
                failure = AuthError(
                    _refusal_summary(answer.status, told.code), fix=self._fix(answer)
                )
                may_pass = False
            case 429:
                failure, may_pass = RateLimited(retry_after_s=wait_s), True
            case status if status in (408, 425) or status >= 500:
                failure, may_pass = PeerUnavailable("the token endpoint is unavailable"), True
            case _:
                failure = PeerUnavailable("no token endpoint is there", fix=_ENDPOINT_FIX)
                may_pass = False
        failure.fields |= {
            "host": self._host.name,
            "status": answer.status,
            "code": told.code or None,
            "correlation": told.correlation or None,
        }
        return _Failed(failure, may_pass=may_pass, wait_s=wait_s)

    def _fix(self, answer: HttpAnswer) -> str:
        if answer.status == 403 or read_error(answer).code in _RIGHTS_CODES:
            scopes = " ".join(self._scopes or wanted_scopes(self._features))
            return f"Grant the OAuth client: {scopes}" if scopes else _ROLE_FIX
        return _CREDENTIALS_FIX

    def _tell(self, grant: Grant, attempts: int) -> None:
        self._telemetry.info(
            "token.obtained",
            host=self._host.name,
            expires_in_s=grant.expires_in_s,
            scopes=None if grant.scopes is None else " ".join(sorted(grant.scopes)),
            attempts=attempts,
        )


class _Failed(NamedTuple):
    """A try that gave no token; ``may_pass`` when another may, ``wait_s`` as the server asks."""

    failure: StenoError
    may_pass: bool
    wait_s: float | None = None


_RIGHTS_CODES: Final = frozenset(
    {"invalid_scope", "unauthorized_client", "missing.permissions", "missing.any.permissions"}
)
_CREDENTIALS_FIX: Final = (
    "Check client id and secret (or key), that the client is of the client credentials kind, "
    "and that the host is that of its region"
)
_ROLE_FIX: Final = "Give the OAuth client a role with: " + ", ".join(
    " or ".join(sorted(any_of)) for any_of in PERMISSIONS[Feature.LIVE]
)
_ENDPOINT_FIX: Final = "Check the host and the OAuth shape"


def _refusal_summary(status: int, code: str) -> str:
    if code == "invalid_client" or status == 401:
        return "the OAuth client id, secret or key is refused"
    if status == 403 or code in _RIGHTS_CODES:
        return "the OAuth client lacks rights"
    return "the token request is refused"


def _same(one: str, other: str) -> bool:
    # Constant time, as everywhere secrets are compared.
    return hmac.compare_digest(one.encode(), other.encode())
