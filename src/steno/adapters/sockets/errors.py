"""What went wrong on the way to a WebSocket, in errors of ours.

The library's exceptions quote addresses, headers and bodies, and the address of a stream holds
a token. So only their class, a status, a dotted error code and a checked correlation id come
through.
"""

from __future__ import annotations

import ssl
from datetime import datetime
from http import HTTPStatus

from websockets import exceptions as ws

from steno.core.ids import is_id
from steno.core.timing import parse_retry_after
from steno.errors import (
    AuthError,
    ConfigError,
    ConnectFailed,
    PeerUnavailable,
    RateLimited,
    RemoteProtocolError,
    StenoError,
    TimedOut,
)
from steno.wire.refusals import NOTHING_SAID, Refusal, read_refusal

_CORRELATION = ("inin-correlation-id", "x-correlation-id", "x-request-id")
_MAX_HEADERS = 128


def mapped(exc: BaseException, *, host: str) -> StenoError:
    """Return the error of ours for any exception of the library, asyncio, TLS or the system."""
    if isinstance(exc, StenoError):
        return exc
    if isinstance(exc, TimeoutError):
        return TimedOut("no open connection in time", host=host)
    if isinstance(exc, ssl.SSLCertVerificationError):
        return ConnectFailed(
            "the host's certificate is not trusted",
            fix="Set the CA file that signed it; checking is never turned off.",
            host=host,
            reason="certificate",
        )
    if isinstance(exc, ssl.SSLError):
        return ConnectFailed("TLS failed", host=host, reason="tls")
    if isinstance(exc, ws.InvalidURI):
        return ConfigError("not a WebSocket address", setting="host", host=host)
    if isinstance(exc, ws.InvalidProxy):
        return ConfigError("not a proxy address we can use", setting="proxy", host=host)
    if isinstance(exc, ws.ProxyError):
        return ConnectFailed("the proxy refused", host=host, reason=type(exc).__name__)
    if isinstance(exc, ws.InvalidStatus):
        return status_error(exc.response.status_code, {}, host=host, now_utc=None)
    if isinstance(exc, ws.InvalidMessage | EOFError):
        return ConnectFailed("no answer to the upgrade", host=host, reason=type(exc).__name__)
    if isinstance(exc, ws.ConnectionClosed):
        return ConnectFailed("the connection is over", host=host, reason=type(exc).__name__)
    if isinstance(exc, ws.WebSocketException):
        return RemoteProtocolError(
            "the answer to the upgrade is not WebSocket's", host=host, reason=type(exc).__name__
        )
    if isinstance(exc, OSError):
        # DNS, refused, unreachable, reset: the class tells, the text may name addresses.
        return ConnectFailed(host=host, reason=type(exc).__name__, errno=exc.errno)
    return ConnectFailed(host=host, reason=type(exc).__name__)


def refused(head: bytes, *, host: str, now_utc: datetime, body: bytes = b"") -> StenoError | None:
    """Return the error for an HTTP answer that is not 101; None for 101.

    Args:
        head: Status line and headers with their empty line.
        body: What came after it, as far as it is known.
        now_utc: For a ``Retry-After`` that is a date.
    """
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not _is_status(parts[1]):
        return RemoteProtocolError("the host does not speak HTTP", host=host)
    status = int(parts[1])
    if status == HTTPStatus.SWITCHING_PROTOCOLS:
        return None
    headers: dict[str, str] = {}
    for line in lines[1:_MAX_HEADERS]:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    return status_error(status, headers, host=host, now_utc=now_utc, told=read_refusal(body))


def expects_json(head: bytes) -> bool:
    """Tell whether the headers announce a body that may hold an error code."""
    lines = head.decode("latin-1").lower().split("\r\n")[1:_MAX_HEADERS]
    return any(line.startswith("content-type:") and "json" in line for line in lines)


def status_error(
    status: int,
    headers: dict[str, str],
    *,
    host: str,
    now_utc: datetime | None,
    told: Refusal = NOTHING_SAID,
) -> StenoError:
    """Return the error for an HTTP status other than 101; ``told`` is what its body says."""
    given = next((headers[name] for name in _CORRELATION if name in headers), "")
    correlation = given if is_id(given) else told.correlation_id or None
    code = told.code or None
    wait_s = None
    if now_utc is not None:
        wait_s = parse_retry_after(headers.get("retry-after"), now_utc)
    if status == HTTPStatus.UNAUTHORIZED:
        return AuthError(
            "the host refused the token",
            fix="Check client id, secret and region; a token of one region is refused elsewhere.",
            host=host,
            status=status,
            code=code,
            correlation_id=correlation,
        )
    if status == HTTPStatus.FORBIDDEN:
        return AuthError(
            "the token lacks a permission",
            fix="Grant the client the scope or role that reading live transcripts needs.",
            host=host,
            status=status,
            code=code,
            correlation_id=correlation,
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(
            retry_after_s=wait_s,
            host=host,
            status=status,
            code=code,
            correlation_id=correlation,
        )
    return PeerUnavailable(
        "the host did not upgrade the connection",
        host=host,
        status=status,
        retry_after_s=wait_s,
        code=code,
        correlation_id=correlation,
    )


def _is_status(text: str) -> bool:
    return len(text) == 3 and text.isascii() and text.isdigit()
