"""GETs through presigned links: checked addresses, bounded redirects, nothing sent along.

No token, no cookie and no ``Referer`` goes to a store. A link leads to public addresses over
https; this machine is permitted where the platform itself is on it (the simulator), other
addresses where they are allow-listed. No error holds the link or an exception of the HTTP
library, whose texts quote addresses.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from steno import __version__
from steno.adapters.ssrf import EgressRules, forbids
from steno.core.hosts import Host, is_loopback
from steno.core.secret import Secret
from steno.core.timing import parse_retry_after
from steno.errors import (
    ConfigError,
    ConnectFailed,
    RemoteProtocolError,
    StenoError,
    TimedOut,
    TransportError,
)
from steno.wire.ranged_download import Meaning, meaning_of
from steno.wire.transcript_links import MAX_LINK_CHARS

T = TypeVar("T")

MAX_REDIRECTS: Final = 5
HEAD_LIMIT_S: Final = 30.0
STALL_S: Final = 30.0
SLOWEST_BYTES_S: Final = 1024
"""Slower than this over ``STALL_S`` is standing still."""
BLOCK_BYTES: Final = 1 << 18
_LOOPBACK: Final = ("127.0.0.0/8", "::1")
_MAX_FIELD_BYTES: Final = 32 << 10
_MAX_HEADERS: Final = 128
_CLOSE_LIMIT_S: Final = 2.0
_GATHER_S: Final = 0.25  # longest time that a slow store's data are held to make a block


class LinkStore:
    """Opens links, with connections that are kept.

    Args:
        platform: Where the links come from.
        allow: Networks or addresses permitted beside public ones.
        tls: Whose certificates are trusted; the system's authorities if None.
        proxy: Address of an HTTP proxy. It resolves names itself, so only addresses that stand
            in a link are checked then.
        head_limit_s: Time from the name look-up to the answer's head, redirects included.
        stall_s: Longest time without data.
        resolver: Finds addresses of names, which are then checked; the system's if None.

    Raises:
        ConfigError: An entry of ``allow`` is not a network.
    """

    def __init__(
        self,
        platform: Host,
        *,
        allow: Iterable[str] = (),
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
        head_limit_s: float = HEAD_LIMIT_S,
        stall_s: float = STALL_S,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._rules = EgressRules([*allow, *(_LOOPBACK if platform.is_loopback else ())])
        self._tls = tls
        self._proxy = proxy
        self._head_limit_s = head_limit_s
        self._stall_s = stall_s
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    @property
    def trickle_bytes(self) -> int:
        """So little in the longest time without data is as good as none."""
        return int(SLOWEST_BYTES_S * self._stall_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. A later ``open`` makes new ones."""
        session, self._session = self._session, None
        if session is not None:
            try:
                async with asyncio.timeout(_CLOSE_LIMIT_S):
                    await session.close()
            except TimeoutError:
                pass  # a store that does not finish its TLS goodbye must not hold the end up

    async def open(self, link: Secret, headers: Mapping[str, str]) -> StoreAnswer:
        """Ask for what a link leads to, redirects followed; close what is returned.

        Raises:
            RemoteProtocolError: The link or a redirect leads where it may not, or in circles.
            ConnectFailed, TimedOut, TransportError: No answer came.
        """
        return StoreAnswer(await _quiet(self._followed(link, headers)), self._stall_s)

    async def _followed(self, link: Secret, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        async with asyncio.timeout(self._head_limit_s):
            address = link.reveal()
            was_tls = False
            for _ in range(MAX_REDIRECTS + 1):
                url = self._checked(address)
                if was_tls and url.scheme != "https":
                    raise RemoteProtocolError("the store redirects from https to http")
                was_tls = url.scheme == "https" and not is_loopback(url.host or "")
                response = await self._client().get(
                    url, headers=headers, allow_redirects=False, proxy=self._proxy
                )
                if meaning_of(response.status) is not Meaning.REDIRECT:
                    return response
                response.close()
                address = urljoin(address, response.headers.get("Location", ""))
            raise RemoteProtocolError("the store redirects too often", limit=MAX_REDIRECTS)

    def _checked(self, address: str) -> URL:
        """Return a permitted address with every character as the store has signed it."""
        fault = ""
        try:
            checked = self._rules.check_url(address, setting="link", max_chars=MAX_LINK_CHARS)
        except ConfigError as error:
            fault = error.summary.replace("the URL", "a download link")
        else:
            if checked.scheme != "https" and not is_loopback(checked.host or ""):
                fault = "a download link must be https"
        if fault:
            raise RemoteProtocolError(
                fault, fix="Where the store is inside your own network, set archive.link_allow."
            )
        exact = URL(address.partition("#")[0], encoded=True)
        if (exact.scheme, exact.host, exact.port) != (checked.scheme, checked.host, checked.port):
            raise RemoteProtocolError("a download link can be read in two ways")
        return exact

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = (
                self._rules.connector(resolver=self._resolver, tls=self._tls)
                if self._proxy is None
                else aiohttp.TCPConnector(ssl=self._tls or True)
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={"User-Agent": f"steno/{__version__}", "Accept": "*/*"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                max_field_size=_MAX_FIELD_BYTES,
                max_headers=_MAX_HEADERS,
                read_bufsize=BLOCK_BYTES,
            )
        return self._session


class StoreAnswer:
    """An answer whose body has not been read.

    Attributes:
        status: HTTP status.
        headers: Names in lower case; of several with one name the first.
    """

    def __init__(self, response: aiohttp.ClientResponse, stall_s: float) -> None:
        self._response = response
        self._stall_s = stall_s
        self._waited_s = 0.0
        self._came = 0
        self._failure: StenoError | None = None
        self.status = response.status
        self.headers: dict[str, str] = {}
        for name, value in response.headers.items():
            self.headers.setdefault(name.lower(), value)

    @property
    def retry_after_s(self) -> float | None:
        """How long the store asks us to stay away."""
        return parse_retry_after(self.headers.get("retry-after"), datetime.now(UTC))

    async def read(self) -> bytes:
        """Return some hundred KB of the body as they are stored; empty at its end.

        What came before a connection broke is returned first.

        Raises:
            TimedOut: Nothing came for too long, or next to nothing.
            TransportError: The connection broke, or the body ended too early.
        """
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return await _quiet(self._read())

    async def _read(self) -> bytes:
        pieces: list[bytes] = []
        size = 0
        now = asyncio.get_running_loop().time
        content = self._response.content
        began = now()
        try:
            async with asyncio.timeout(self._stall_s):
                while size < BLOCK_BYTES and now() - began < _GATHER_S:
                    piece = await content.readany()
                    if not piece:
                        break
                    pieces.append(piece)
                    size += len(piece)
        except (aiohttp.ClientError, OSError) as error:
            if not pieces:
                raise
            self._failure = _mapped(error)
        self._watch(size, now() - began)
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    def _watch(self, size: int, waited_s: float) -> None:
        """Take a trickle for standing still. What the caller does between reads does not count."""
        self._waited_s += waited_s
        self._came += size
        if size and self._waited_s > self._stall_s:
            if self._came < SLOWEST_BYTES_S * self._waited_s:
                self._failure = TimedOut("the store sends next to nothing")
            self._waited_s, self._came = 0.0, 0

    def close(self) -> None:
        """Let go of it; a connection whose body was read to its end is kept."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


async def _quiet(work: Awaitable[T]) -> T:
    """Await, and let no exception out that may hold a link.

    The error of ours is raised where none of the library's is being handled: else it would hang
    on ``__context__``, which crash reports print.
    """
    failure: StenoError
    try:
        return await work
    except StenoError as error:
        failure = error
        failure.__context__ = None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        failure = _mapped(error)
    failure.__traceback__ = None
    raise failure


def _mapped(error: Exception) -> StenoError:
    if forbids(error):
        return RemoteProtocolError(
            "a download link leads into a private network",
            fix="Where the store is inside your own network, set archive.link_allow.",
        )
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return ConnectFailed("the store's certificate is not trusted")
        case aiohttp.ConnectionTimeoutError() | TimeoutError():
            return TimedOut("the store did not answer in time")
        case aiohttp.ClientConnectorError() | aiohttp.ClientHttpProxyError():
            return ConnectFailed("could not connect to the store")
        case aiohttp.ClientPayloadError():
            return TransportError("the download ended too early")
        case aiohttp.ClientConnectionError() | OSError():
            return TransportError("the connection to the store broke")
        case _:
            return RemoteProtocolError("the store does not speak HTTP as it should")
