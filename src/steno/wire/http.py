"""HTTP as the platform speaks it: requests and answers as values, and what an answer means.

``HttpExchange`` is what carries a request out; the rest is pure. A peer's ``message`` never
gets into an error of ours: it may quote what was sent. Codes, ids and permission names do,
after a check of their form.

Source: Genesys Cloud, error body and rate limits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

import msgspec

from steno.core.timing import RETRY_AFTER_CAP_S, parse_retry_after
from steno.errors import (
    AuthError,
    ObjectMissing,
    PeerUnavailable,
    ProtocolError,
    RateLimited,
    RemoteProtocolError,
    StenoError,
)

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Longest body taken in as a whole. Long downloads are streamed elsewhere."""

KEPT_HEADERS = frozenset(
    {
        "content-type",
        "date",
        "inin-correlation-id",
        "inin-ratelimit-allowed",
        "inin-ratelimit-count",
        "inin-ratelimit-reset",
        "location",
        "retry-after",
    }
)
"""Headers an answer keeps, in lower case. Cookies and the rest are dropped unread."""

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_CORRELATION = re.compile(r"[A-Za-z0-9-]{1,64}")
_PERMISSION = re.compile(r"\b[A-Za-z][A-Za-z0-9]*:[A-Za-z][A-Za-z0-9]*:[A-Za-z*][A-Za-z0-9]*\b")
_MAX_ERROR_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. Address, headers and body are kept out of ``repr``: each may hold a secret."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One answer: status, the kept headers in lower case, and the whole body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def ok(self) -> bool:
        """The status is 200 to 299."""
        return 200 <= self.status < 300


class HttpExchange(Protocol):
    """Carries one request out and brings the answer back, whatever its status."""

    async def send(
        self, request: HttpRequest, *, limit_s: float, max_bytes: int = MAX_ANSWER_BYTES
    ) -> HttpAnswer:
        """Send once; no retries, no redirects followed, no cookies.

        Args:
            request: What to send.
            limit_s: Time for everything, from the name look-up to the last byte.
            max_bytes: Longest body taken.

        Raises:
            ConnectFailed: No connection, or no trusted one.
            TimedOut: Not done within ``limit_s``.
            TransportError: The connection broke.
            RemoteProtocolError: The answer is no HTTP, or longer than ``max_bytes``.
            LocalProtocolError: The address is no address.
        """


class AnswerSink(Protocol):
    """Takes in a body too long to be held."""

    async def begin(self) -> None:
        """A successful answer begins; one that broke off before is void."""

    async def take(self, piece: bytes) -> None:
        """The next piece of it; what this raises ends the call."""


@runtime_checkable
class StreamingExchange(HttpExchange, Protocol):
    """An exchange that can give a long body away as it comes."""

    async def stream(
        self, request: HttpRequest, into: AnswerSink, *, limit_s: float, max_bytes: int
    ) -> HttpAnswer:
        """As ``send``, but the body of a 2xx answer goes into the sink and is empty here."""


class RateBudget(msgspec.Struct, frozen=True, gc=False):
    """What the platform last said of our rate: requests counted and allowed in the window."""

    count: int
    allowed: int
    reset_s: float

    @property
    def left(self) -> int:
        """Requests left in the window, never below 0."""
        return max(0, self.allowed - self.count)


class _ErrorBody(msgspec.Struct, rename="camel"):
    code: str | None = None
    error: str | None = None
    context_id: str | None = None
    message_params: dict[str, object] | None = None


_error_decoder = msgspec.json.Decoder(_ErrorBody)


class PeerError(msgspec.Struct, frozen=True, gc=False):
    """What an error body tells, as far as it is safe to repeat.

    Attributes:
        code: Dotted machine code (``missing.permissions``) or OAuth error (``invalid_client``);
            empty where there is none, or where it has not the form of one.
        correlation: The platform's id of the call, for its support.
        permissions: Permissions named as missing.
    """

    code: str = ""
    correlation: str = ""
    permissions: tuple[str, ...] = ()


def read_error(answer: HttpAnswer) -> PeerError:
    """Read an error answer as far as it can be read. A proxy's page of HTML gives no code."""
    correlation = _checked(_CORRELATION, answer.headers.get("inin-correlation-id"))
    if len(answer.body) > _MAX_ERROR_BYTES:
        return PeerError(correlation=correlation)
    try:
        body = _error_decoder.decode(answer.body)
    except msgspec.MsgspecError:
        return PeerError(correlation=correlation)
    named = str((body.message_params or {}).get("permissions", ""))[:2000]
    return PeerError(
        code=_checked(_CODE, body.code) or _checked(_CODE, body.error),
        correlation=correlation or _checked(_CORRELATION, body.context_id),
        permissions=tuple(dict.fromkeys(_PERMISSION.findall(named)))[:10],
    )


def rate_budget(headers: Mapping[str, str]) -> RateBudget | None:
    """Return the rate the answer speaks of; None where it does not, or not in numbers."""
    values = [headers.get(f"inin-ratelimit-{name}", "") for name in ("count", "allowed", "reset")]
    if not all(value.isascii() and value.isdigit() and len(value) < 10 for value in values):
        return None
    count, allowed, reset_s = (int(value) for value in values)
    return RateBudget(count, allowed, float(reset_s))


def asked_to_wait(
    answer: HttpAnswer, now_utc: datetime, *, cap_s: float = RETRY_AFTER_CAP_S
) -> float | None:
    """Return the seconds the peer asks us to stay away: ``Retry-After``, or on 429 the time
    until its rate window resets; None when it does not say.
    """
    wait_s = parse_retry_after(answer.headers.get("retry-after"), now_utc, cap_s)
    if wait_s is None and answer.status == 429:
        budget = rate_budget(answer.headers)
        wait_s = min(budget.reset_s, cap_s) if budget is not None else None
    return wait_s


def error_of(answer: HttpAnswer, now_utc: datetime, *, action: str, fix: str = "") -> StenoError:
    """Return the error of ours for an answer that is not the hoped-for one.

    Args:
        answer: The answer.
        now_utc: Aware wall-clock time, for a ``Retry-After`` date.
        action: What we were doing, in fixed words.
        fix: For 401 and 403: what the reader can do, beside the permissions the body names.

    Returns:
        ``AuthError`` (401, 403), ``ObjectMissing`` (404, 410), ``RateLimited`` (429),
        ``PeerUnavailable`` (408, 5xx), ``RemoteProtocolError`` (anything below 400) or
        ``ProtocolError`` (any other refusal).
    """
    told = read_error(answer)
    error = _bare_error(answer, now_utc, told, fix)
    error.fields |= {
        "action": action,
        "status": answer.status,
        "code": told.code or None,
        "correlation": told.correlation or None,
    }
    return error


def _bare_error(answer: HttpAnswer, now_utc: datetime, told: PeerError, fix: str) -> StenoError:
    match answer.status:
        case 401:
            return AuthError("the platform refused the access token", fix=fix)
        case 403:
            wanted = ", ".join(told.permissions)
            return AuthError(
                "the client may not do this",
                fix=f"Give a role of the client: {wanted}" if wanted else fix,
            )
        case 404 | 410:
            return ObjectMissing("the platform knows nothing of this")
        case 429:
            return RateLimited(retry_after_s=asked_to_wait(answer, now_utc))
        case status if status == 408 or status >= 500:
            return PeerUnavailable()
        case status if status < 400:
            return RemoteProtocolError("the platform's answer was not the expected one")
        case _:
            return ProtocolError("the platform refused the request")


def _checked(pattern: re.Pattern[str], text: str | None) -> str:
    return text if text is not None and pattern.fullmatch(text) else ""
