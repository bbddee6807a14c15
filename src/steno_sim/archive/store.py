"""The store of transcripts behind presigned links: ``GET /transcript-store/…``.

A link leads to one file, made while it is read. No token is needed, and one that comes is
refused (400, one way of authentication only); a changed link is 403, one past its end 403 or 410
(``expired_status``), also when a download goes on by ``Range``; ``expiry=cut`` ends downloads
under way as well. Errors are XML. ``Range`` is served for one range of bytes, ``If-Range`` and
``If-Match`` are compared with the ``ETag``; a compressed answer has an ``ETag`` of its own. The
faults ``truncate`` and ``drip`` strike downloads here as those of recordings.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import re
import time
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterator

import msgspec
from aiohttp import web

from steno_sim.archive.bodies import Body
from steno_sim.archive.library import File, Library, Shape
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.presigned import (
    DRIP_BYTES,
    Signer,
    end_of,
    issued_at,
    not_satisfiable,
    ranged,
    store_error,
)
from steno_sim.region import Region

STORE_PATH = "/transcript-store/"
_CHECKED_BYTES = 16_000_000
_KEPT = 256
_MAX_LINKS = 100_000
_NAME = re.compile(r"(document|platform)-(\d+)-(\d+)-(\d)\.json")


class Store:
    """Signs links, and serves what they lead to.

    Args:
        region: Whose faults strike downloads.
        settings: Life of links, and shares of trouble.
        library: The files there are.
    """

    def __init__(self, region: Region, settings: ArchiveSettings, library: Library) -> None:
        self.issued = 0
        self.bytes = 0
        self.answers: Counter[str] = Counter()
        self._region = region
        self._settings = settings
        self._library = library
        self._signer = Signer(settings.url_ttl_s, expired_status=settings.expired_status)
        self._dice = random.Random("transcripts")  # noqa: S311  # nothing secret
        self._by_link: OrderedDict[str, int] = OrderedDict()
        self._checksums: OrderedDict[File, str] = OrderedDict()

    def routes(self) -> list[web.RouteDef]:
        """Give the routes of the store."""
        path = STORE_PATH + "{hop}/{conversation}/{name}"
        return [web.get(path, self.serve, allow_head=False)]

    def link(self, base: str, file: File) -> str:
        """Give a presigned link to a file; its life begins now."""
        self.issued += 1
        if self._settings.changing:
            file = msgspec.structs.replace(file, version=self.issued % 2)
        return self._signer.address(base, _path(file, 0))

    def stats(self) -> dict[str, object]:
        """Give the counts: links, bytes, answers by kind, and downloads of a link."""
        each = self._by_link.values()
        return {
            "links": self.issued,
            "links_used": len(each),
            "downloads": sum(each),
            "most_downloads_of_a_link": max(each, default=0),
            "bytes": self.bytes,
            "answers": dict(sorted(self.answers.items())),
        }

    # --- answering --------------------------------------------------------------------

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a download."""
        answer = await self._answer(request)
        self.answers[str(answer.status)] += 1
        return answer

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        refusal = self._signer.refusal(request)
        if refusal is not None:
            return refusal
        file, hop = _file(request), int(request.match_info["hop"])
        found = self._library.find(file.conversation) if file else None
        if file is None or found is None:
            return store_error(404, "NoSuchKey", "The specified key does not exist.")
        if hop < self._settings.redirects:
            return self._elsewhere(request, file, hop + 1)
        trouble, drip_s = self._trouble(request)
        if trouble == "unavailable":
            return store_error(503, "SlowDown", "Please reduce your request rate.")
        body = self._library.make(found, file).body
        return await self._sent(request, file, body, trouble, drip_s)

    def _elsewhere(self, request: web.Request, file: File, hop: int) -> web.Response:
        # By turns with and without the host, as both are met.
        base = f"{request.scheme}://{request.host}" if hop % 2 else ""
        there = self._signer.address(base, _path(file, hop), issued=issued_at(request))
        return web.Response(status=302, headers={"Location": there})

    async def _sent(
        self, request: web.Request, file: File, body: Body, trouble: str, drip_s: float
    ) -> web.StreamResponse:
        settings = self._settings
        tag = _tag(file, body)
        status, headers, start, end = self._range(request, body.size, tag)
        if "If-Match" in request.headers and request.headers["If-Match"] not in (tag, "*"):
            return store_error(412, "PreconditionFailed", "The file is another one.")
        if status == 416:
            return not_satisfiable(headers)
        halved = trouble in ("truncate", "truncated")
        zipped = status == 200 and not halved and settings.gzip and _takes_gzip(request)
        if settings.etag:
            headers["ETag"] = f'{tag[:-1]}-gzip"' if zipped else tag
        if settings.checksum and status == 200 and not zipped and body.size <= _CHECKED_BYTES:
            headers["x-amz-checksum-sha256"] = self._checksum(file, body)
        self._count(request)
        answer = web.StreamResponse(status=status, headers=headers)
        answer.content_type = "application/json"
        pieces = body.read(start, end)
        if zipped:
            answer.headers["Content-Encoding"] = "gzip"
            pieces = _zipped(pieces)
        elif settings.length != "none" and trouble != "truncated":
            answer.content_length = end - start + _LENGTHS[settings.length]
        whole = (end - start) // 2 if halved else end - start
        await answer.prepare(request)
        try:
            over = await self._stream(request, answer, pieces, whole, drip_s)
            if not over or trouble == "truncate" or settings.length == "long":
                _hang_up(request)
            else:
                await answer.write_eof()
        except ConnectionError:
            self.answers["left by the client"] += 1
        return answer

    async def _stream(
        self,
        request: web.Request,
        answer: web.StreamResponse,
        pieces: Iterator[bytes],
        whole: int,
        drip_s: float,
    ) -> bool:
        """Write so many bytes, as fast as the settings allow; False when the link ended."""
        settings = self._settings
        begun, sent = asyncio.get_running_loop().time(), 0
        ends = end_of(request) if settings.expiry == "cut" else float("inf")
        for piece in _drips(pieces) if drip_s or settings.rate else pieces:
            if time.time() >= ends:
                self.answers["cut by expiry"] += 1
                return False
            data = piece[: whole - sent]
            await answer.write(data)
            sent += len(data)
            self.bytes += len(data)
            if sent >= whole:
                break
            wait_s = drip_s
            if settings.rate:
                wait_s += begun + sent / settings.rate - asyncio.get_running_loop().time()
            # Others wait too while a gigabyte is made.
            await asyncio.sleep(max(0.0, wait_s))
        return True

    def _range(
        self, request: web.Request, size: int, tag: str
    ) -> tuple[int, dict[str, str], int, int]:
        if not self._settings.range:
            return 200, {}, 0, size
        wanted = request.headers.get("Range", "")
        if request.headers.get("If-Range", tag) != tag:
            wanted = ""
        return ranged(wanted, size)

    def _trouble(self, request: web.Request) -> tuple[str, float]:
        """Give what befalls this download, and the time between drips."""
        settings, book = self._settings, self._region.faults
        now = asyncio.get_running_loop().time()
        if book.take("truncate", request.method, request.path, now=now) is not None:
            return "truncate", 0.0
        fault = book.take("drip", request.method, request.path, now=now)
        if fault is not None:
            return "drip", fault.delay_s
        at = self._dice.random()
        for trouble in ("unavailable", "truncated", "cut", "slow"):
            at -= getattr(settings, trouble)
            if at < 0:
                name = {"cut": "truncate", "slow": "drip"}.get(trouble, trouble)
                return name, settings.drip_s if trouble == "slow" else 0.0
        return "", 0.0

    def _checksum(self, file: File, body: Body) -> str:
        kept = self._checksums.get(file)
        if kept is None:
            digest = hashlib.sha256()
            for piece in body.read():
                digest.update(piece)
            kept = self._checksums[file] = base64.b64encode(digest.digest()).decode()
            if len(self._checksums) > _KEPT:
                self._checksums.popitem(last=False)
        return kept

    def _count(self, request: web.Request) -> None:
        link = request.query["X-Amz-Signature"]
        self._by_link[link] = self._by_link.get(link, 0) + 1
        if len(self._by_link) > _MAX_LINKS:
            self._by_link.popitem(last=False)


_LENGTHS = {"right": 0, "none": 0, "long": 1, "short": -1}


def _path(file: File, hop: int) -> str:
    name = f"{file.shape}-{file.leg}-{file.part}-{file.version}"
    return f"{STORE_PATH}{hop}/{file.conversation}/{name}.json"


def _file(request: web.Request) -> File | None:
    match = _NAME.fullmatch(request.match_info["name"])
    if match is None:
        return None
    shape: Shape = "document" if match[1] == "document" else "platform"
    leg, part, version = map(int, match.groups()[1:])
    return File(request.match_info["conversation"], shape, leg, part, version)


def _tag(file: File, body: Body) -> str:
    """Give the entity tag of a file: another one when the run is another."""
    first = b"".join(body.read(0, min(body.size, 65_536)))
    key = f"{file.conversation}/{file.shape}/{file.leg}/{file.part}/{body.size}/"
    return f'"{hashlib.sha256(key.encode() + first).hexdigest()[:32]}"'


def _takes_gzip(request: web.Request) -> bool:
    return "gzip" in request.headers.get("Accept-Encoding", "").lower()


def _zipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    for piece in pieces:
        packed = packer.compress(piece)
        if packed:
            yield packed
    yield packer.flush()


def _drips(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        for at in range(0, len(piece), DRIP_BYTES):
            yield piece[at : at + DRIP_BYTES]


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()
