"""Getting recordings and transcripts of the platform: its calls, and downloads by presigned link.

A presigned address is all it takes to hear a call. It goes into the request and nowhere else:
no log, no error, no file name has it, and no token goes with it, which a store would refuse.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urljoin

import aiohttp

from steno.adapters.ssrf import EgressRules, forbids
from steno.errors import (
    PeerUnavailable,
    ProtocolError,
    RemoteProtocolError,
    StenoError,
    StorageError,
    StorageFull,
    TimedOut,
    UnsupportedAudio,
)
from steno.wire.batch_download import (
    BATCHES_PATH,
    MAX_BODY_BYTES,
    BatchState,
    Link,
    RecordingMedia,
    batch_path,
    decode_batch,
    decode_order,
    decode_pending,
    decode_recording,
    decode_url,
    encode_order,
    recording_path,
    transcript_path,
)
from steno.wire.http import HttpAnswer, RateBudget

MAX_REDIRECTS: Final = 3
STALL_S: Final = 30.0
"""A download of which nothing comes for so long has failed."""

TOTAL_S: Final = 1800.0
_CLOSE_LIMIT_S: Final = 2.0
_MAX_CONNECTIONS: Final = 16
_LOOPBACK: Final = ("127.0.0.0/8", "::1")
_READ_BYTES: Final = 256 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_ENDED: Final = frozenset({403, 410})
_FIX_RECORDINGS: Final = "Give a role of the client recording:recording:view."
_FIX_TRANSCRIPTS: Final = (
    "Give a role of the client recording:recording:view and speechAndTextAnalytics:data:view."
)


class Http(Protocol):
    """REST calls with a token, retried and mapped to errors of ours."""

    @property
    def rate(self) -> RateBudget | None:
        """What the platform last said of our rate."""

    async def authorise(self) -> None:
        """Have a token in hand."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        action: str,
        query: dict[str, str] | None = None,
        body: bytes | None = None,
        accept: frozenset[int] = frozenset(),
        fix: str = "",
        limit_s: float | None = None,
        patience_s: float = 30.0,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> HttpAnswer:
        """Call the platform; return the answer if its status is 2xx or in ``accept``."""


class PlatformAudio:
    """The platform's calls for recordings and transcripts, one try each, with errors of ours.

    Every call may raise ``AuthError``, ``TransportError`` and ``ProtocolError``.

    Args:
        http: To the host.
        limit_s: Time of a call.
    """

    def __init__(self, http: Http, *, limit_s: float = 10.0) -> None:
        self._http = http
        self._limit_s = limit_s

    @property
    def rate(self) -> RateBudget | None:
        """What the platform last said of our rate."""
        return self._http.rate

    async def ready(self) -> None:
        """Have a token in hand."""
        await self._http.authorise()

    async def order(self, conversation_id: str, recording_id: str, *, limit_s: float) -> str:
        """Order the batch download of a recording; return the order's id.

        Raises:
            TimedOut: ``limit_s`` over all of it.
        """
        try:
            async with asyncio.timeout(limit_s):
                answer = await self._http.request(
                    "POST",
                    BATCHES_PATH,
                    action="order a batch download",
                    body=encode_order([(conversation_id, recording_id)]),
                    fix=_FIX_RECORDINGS,
                    limit_s=limit_s,
                    patience_s=0.0,
                    max_bytes=MAX_BODY_BYTES,
                )
        except TimeoutError:
            raise TimedOut(action="order a batch download") from None
        return decode_order(answer.body)

    async def batch(self, batch_id: str) -> BatchState:
        """Return how an order stands.

        Raises:
            ObjectMissing: The platform no longer knows it.
        """
        answer = await self._get(batch_path(batch_id), "look at a batch download")
        return decode_batch(answer.body)

    async def recording(
        self, conversation_id: str, recording_id: str, *, form: str
    ) -> RecordingMedia:
        """Return a recording, with links to its files unless ``form`` is ``NONE``.

        Raises:
            ObjectMissing: It is not there.
        """
        answer = await self._get(
            recording_path(conversation_id, recording_id), "look at a recording", formatId=form
        )
        if answer.status == 202:
            return decode_pending(answer.body, recording_id)
        return decode_recording(answer.body, recording_id)

    async def transcript(self, conversation_id: str, communication_id: str) -> Link | None:
        """Return where the transcript of a communication is; None where there is none (yet)."""
        answer = await self._http.request(
            "GET",
            transcript_path(conversation_id, communication_id),
            action="look for a transcript",
            accept=frozenset({404, 410}),
            fix=_FIX_TRANSCRIPTS,
            limit_s=self._limit_s,
            patience_s=0.0,
            max_bytes=MAX_BODY_BYTES,
        )
        return decode_url(answer.body) if answer.ok else None

    async def _get(self, path: str, action: str, **query: str) -> HttpAnswer:
        return await self._http.request(
            "GET",
            path,
            action=action,
            query=query or None,
            fix=_FIX_RECORDINGS,
            limit_s=self._limit_s,
            patience_s=0.0,
            max_bytes=MAX_BODY_BYTES,
        )


class Downloads:
    """Downloads by presigned link: into files, or into memory what is small.

    Links of plain http are followed only where the platform itself is spoken to by it, and a
    redirect never leads from https to http.

    Args:
        folder: Where files are kept while they are used; those that an earlier process left are
            removed. Made where it is missing, readable by us alone.
        max_bytes: Longest file.
        map_error: Returns the error of ours for one of aiohttp; None for others.
        tls: Verifies names and certificates.
        allow_http: Plain http is followed, and addresses of this machine are permitted: the
            platform itself is here.
        allow: Networks or addresses permitted beside public ones. A proxy connects by itself,
            unchecked.

    Raises:
        ConfigError: An entry of ``allow`` is not a network.
        StorageError: The folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        map_error: Callable[[Exception], StenoError | None],
        tls: ssl.SSLContext,
        proxy: str | None = None,
        allow_http: bool = False,
        allow: Iterable[str] = (),
    ) -> None:
        self._folder = folder
        self._rules = EgressRules([*allow, *(_LOOPBACK if allow_http else ())])
        self._max_bytes = max_bytes
        self._map_error = map_error
        self._tls = tls
        self._proxy = proxy
        self._allow_http = allow_http
        self._session: aiohttp.ClientSession | None = None
        self._count = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in folder.glob("*.audio"):
                left.unlink()
        except OSError as exc:
            raise _storage(exc) from None

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            try:
                async with asyncio.timeout(_CLOSE_LIMIT_S):
                    await session.close()
            except TimeoutError:
                pass

    async def fetch(self, link: Link) -> Path | None:
        """Download into a new file, which is the caller's to remove; None where the link ended.

        Raises:
            UnsupportedAudio: It is longer than ``max_bytes``.
            TransportError: The download failed, or broke off.
            ProtocolError: The store refused it, or led astray.
            StorageError: The file could not be written.
        """
        self._count += 1
        path = self._folder / f"{os.getpid()}-{self._count}.audio"
        done = False
        try:
            async with self._opened(link) as response:
                if response is None:
                    return None
                await self._write(response, path)
                done = True
        finally:
            if not done:
                path.unlink(missing_ok=True)
        return path

    async def read(self, link: Link, *, max_bytes: int) -> bytes | None:
        """Return what a link leads to; None where the link ended.

        Raises:
            RemoteProtocolError: It is longer than ``max_bytes``.
            TransportError, ProtocolError: As ``fetch``.
        """
        async with self._opened(link) as response:
            if response is None:
                return None
            body = bytearray()
            async for piece in response.content.iter_chunked(_READ_BYTES):
                body += piece
                if len(body) > max_bytes:
                    raise RemoteProtocolError("the download is too long", limit_bytes=max_bytes)
            return bytes(body)

    async def _write(self, response: aiohttp.ClientResponse, path: Path) -> None:
        size = 0
        if (response.content_length or 0) > self._max_bytes:
            raise self._too_long()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                async for piece in response.content.iter_chunked(_READ_BYTES):
                    size += len(piece)
                    if size > self._max_bytes:
                        raise self._too_long()
                    await asyncio.to_thread(file.write, piece)
        except OSError as exc:
            if isinstance(exc, aiohttp.ClientError | TimeoutError):
                raise  # of the network
            raise _storage(exc) from None

    def _too_long(self) -> UnsupportedAudio:
        return UnsupportedAudio(
            "the recording's file is too long",
            code="audio.too_long",
            limit_bytes=self._max_bytes,
            fix="Raise transcribe.audio_max_mb.",
        )

    @asynccontextmanager
    async def _opened(self, link: Link) -> AsyncIterator[aiohttp.ClientResponse | None]:
        """Yield the answer that has the file; None where the link ended."""
        try:
            async with asyncio.timeout(TOTAL_S):
                response = await self._followed(link.url)
                try:
                    yield None if response.status in _ENDED else response
                finally:
                    response.close()
        except StenoError:
            raise
        # aiohttp's texts quote addresses: none of them is kept.
        except Exception as error:
            if forbids(error):
                raise ProtocolError(
                    "a download leads into a private network",
                    fix="Where the store is inside your own network, set archive.link_allow.",
                ) from None
            mapped = self._map_error(error)
            if mapped is None:
                raise
            raise mapped from None

    async def _followed(self, url: str) -> aiohttp.ClientResponse:
        session = self._session or self._open()
        for _ in range(MAX_REDIRECTS + 1):
            if not url.startswith("https:") and not (self._allow_http and url.startswith("http:")):
                raise ProtocolError("a download's address is not https")
            response = await session.get(url, allow_redirects=False, proxy=self._proxy)
            if response.status == 200 or response.status in _ENDED:
                return response
            status, target = response.status, response.headers.get("Location", "")
            response.close()
            if status not in _REDIRECTS:
                raise _refusal(status)
            was_safe, url = url.startswith("https:"), _joined(url, target)
            if was_safe and not url.startswith("https:"):
                raise ProtocolError("a download was redirected to plain http")
        raise ProtocolError("a download was redirected too often", limit=MAX_REDIRECTS)

    def _open(self) -> aiohttp.ClientSession:
        connector = (
            self._rules.connector(limit=_MAX_CONNECTIONS, tls=self._tls)
            if self._proxy is None
            else aiohttp.TCPConnector(ssl=self._tls, limit=_MAX_CONNECTIONS)
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=STALL_S, sock_read=STALL_S),
            headers={"User-Agent": "steno"},
            trust_env=False,
        )
        return self._session


def _joined(url: str, target: str) -> str:
    try:
        return urljoin(url, target)
    except ValueError:
        raise ProtocolError("a download was redirected to what is no address") from None


def _refusal(status: int) -> StenoError:
    if status in (408, 429) or status >= 500:
        return PeerUnavailable("the store of downloads is unavailable", status=status)
    return ProtocolError("the store of downloads refused", status=status)


def _storage(error: OSError) -> StorageError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    kind = StorageFull if full else StorageError
    return kind("a downloaded file cannot be kept", cause=type(error).__name__)
