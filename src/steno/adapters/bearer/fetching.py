"""The few requests a verifier makes: one GET, small answers, no redirects, no cookies."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp

from steno.core.hosts import is_loopback
from steno.errors import ConfigError, ConnectFailed, RemoteProtocolError, TimedOut, TransportError
from steno.wire.http import MAX_ANSWER_BYTES, HttpAnswer, HttpRequest

LIMIT_S: Final = 5.0
MAX_BYTES: Final = 64 * 1024
_CLOSE_S: Final = 2.0
_READ_BYTES: Final = 16 * 1024
_CONNECTIONS: Final = 16


class Fetcher:
    """Carries requests out (``wire.http.HttpExchange``); environment and netrc are not read."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            headers={"User-Agent": "steno"},
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await session.close()
            except TimeoutError:
                pass  # a goodbye over TLS that is not answered

    async def send(
        self, request: HttpRequest, *, limit_s: float, max_bytes: int = MAX_ANSWER_BYTES
    ) -> HttpAnswer:
        """See ``HttpExchange.send``."""
        try:
            async with asyncio.timeout(limit_s):
                return await self._exchange(request, max_bytes)
        # aiohttp's words quote the address, and headers could be next to it: none is kept.
        except TimeoutError:
            raise TimedOut from None
        except aiohttp.ClientConnectorError:
            raise ConnectFailed from None
        except aiohttp.ClientResponseError:
            raise RemoteProtocolError("the peer does not speak HTTP as it should") from None
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise TransportError(error=type(exc).__name__) from None

    async def _exchange(self, request: HttpRequest, max_bytes: int) -> HttpAnswer:
        if self._session is None:
            raise TransportError("the client is closed")
        async with self._session.request(
            request.method, request.url, headers=request.headers, allow_redirects=False
        ) as response:
            body = bytearray()
            async for piece in response.content.iter_chunked(_READ_BYTES):
                body += piece
                if len(body) > max_bytes:
                    raise RemoteProtocolError("the answer is too long", limit_bytes=max_bytes)
            return HttpAnswer(response.status, {}, bytes(body))


def checked_url(url: str, *, setting: str) -> str:
    """Return an address that tokens or trust may be put in; empty stays empty.

    Raises:
        ConfigError: It is neither https nor http on this machine, or carries credentials.
    """
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not host or not safe or "@" in parts.netloc:
        raise ConfigError(
            "the address is not https",
            setting=setting,
            fix="Give an https address without credentials; plain http on this machine only.",
        )
    return url
