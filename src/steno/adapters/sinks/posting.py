"""One guarded HTTP POST: to checked addresses only, within a limit, hardly reading the answer.

Redirects are not followed, proxies of the environment are not used, cookies are not kept, and
neither the address nor the peer's words get into an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver
from yarl import URL

from steno import __version__
from steno.adapters.ssrf import EgressRules, forbids
from steno.core.timing import RETRY_AFTER_CAP_S, parse_retry_after
from steno.errors import SinkUnavailable

MAX_BODY_BYTES: Final = 64 * 1024  # of an answer; it is read only so the connection can be kept
MAX_FIELD_BYTES: Final = 8190  # of one line of an answer's head
MAX_HEADERS: Final = 128

_REASONS: Final = {
    401: "AuthError",
    403: "AuthError",
    404: "EndpointMissing",
    405: "EndpointMissing",
    407: "AuthError",
    408: "TimedOut",
    410: "EndpointGone",
    425: "PeerUnavailable",
    429: "RateLimited",
}


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What is taken from an answer: its status, and the wait it asks for (seconds, bounded)."""

    status: int
    retry_after_s: float | None = None

    @property
    def is_success(self) -> bool:
        """The message was taken."""
        return 200 <= self.status < 300


class Poster:
    """Posts JSON with connections that are kept.

    Args:
        rules: Which addresses may be connected to.
        max_in_flight: Most connections in use.
        deadline_s: Limit of a request, from resolving the name to the end of the answer.
        resolver: Finds addresses of names; what it finds is checked.
        max_wish_s: Longest wait an answer can ask for.
    """

    def __init__(
        self,
        rules: EgressRules,
        *,
        max_in_flight: int,
        deadline_s: float,
        resolver: AbstractResolver | None = None,
        max_wish_s: float = RETRY_AFTER_CAP_S,
    ) -> None:
        self._rules = rules
        self._limit = max_in_flight
        self._deadline_s = deadline_s
        self._resolver = resolver
        self._max_wish_s = max_wish_s
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send one request and return what was answered, whatever its status.

        Raises:
            SinkUnavailable: There was no answer; field ``cause`` is the class of the error.
        """
        try:
            # One limit around everything: name, connection, TLS, headers and answer.
            async with asyncio.timeout(self._deadline_s):
                return await self._exchange(url, headers, body)
        except TimeoutError:
            raise SinkUnavailable(cause="TimedOut") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Not chained: these texts quote the URL.
            raise SinkUnavailable(cause=_cause(error)) from None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _exchange(self, url: URL, headers: Mapping[str, str], body: bytes) -> Answer:
        async with self._client().post(
            url, data=body, headers=headers, allow_redirects=False
        ) as response:
            # A short answer is read so that the connection can be used again; a longer one is
            # not worth reading, and closing is the only way to stop the peer.
            if not await _is_short(response.content):
                response.close()
            wish_s = parse_retry_after(
                response.headers.get("Retry-After"), datetime.now(UTC), self._max_wish_s
            )
            return Answer(response.status, wish_s)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._rules.connector(limit=self._limit, resolver=self._resolver),
                headers={
                    "Content-Type": "application/json",
                    "User-Agent": f"steno/{__version__}",
                    "Accept-Encoding": "identity",  # no answer grows while it is unpacked
                },
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),  # ``post`` holds the deadline
                max_field_size=MAX_FIELD_BYTES,
                max_headers=MAX_HEADERS,
                read_bufsize=MAX_BODY_BYTES,
            )
        return self._session


def reason_of_status(status: int) -> str:
    """Return the class of error that a status other than success stands for."""
    if 300 <= status < 400:
        return "RedirectRefused"
    if status >= 500:
        return "PeerUnavailable"
    return _REASONS.get(status, "UnexpectedStatus")


async def _is_short(content: aiohttp.StreamReader) -> bool:
    left = MAX_BODY_BYTES
    while left > 0:
        block = await content.read(left)
        if not block:
            return True
        left -= len(block)
    return False


def _cause(error: Exception) -> str:
    if forbids(error):
        return "AddressForbidden"
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return "TlsFailed"
        case aiohttp.ClientConnectorError():
            return "ConnectFailed"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return "TransportError"
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError() | ValueError():
            return "RemoteProtocolError"
        case _:
            return "TransportError"
