"""The store behind presigned addresses: ``GET /recording-store/…``, as an object store answers.

An address holds its end and a signature over both. No token is needed, and one that comes is
refused (400, one way of authentication only); a changed address or one past its end is 403.
Errors are XML. ``Range`` is served for one range of bytes.
"""

from __future__ import annotations

import asyncio
import hmac
import random
import re
import secrets
import time
from datetime import UTC, datetime
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from aiohttp import web

from steno_sim.recordings.catalogue import Catalogue, File, Recording
from steno_sim.recordings.settings import Encoding, MediaSettings
from steno_sim.recordings.sounds import media
from steno_sim.region import Region

STORE_PATH = "/recording-store/"
CONTENT_TYPE = "audio/wav"
_DRIP_BYTES = 16_384
_NAME = re.compile(r"(?P<id>[0-9a-f-]{36})-(?P<file>[01])\.(?P<encoding>pcm|ulaw|alaw)\.wav")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Store:
    """Signs addresses, and serves what they lead to.

    Args:
        region: Whose faults strike downloads.
        settings: Life of addresses, and shares of trouble.
        catalogue: The recordings there are.
    """

    def __init__(self, region: Region, settings: MediaSettings, catalogue: Catalogue) -> None:
        self.downloads = 0
        self._region = region
        self._settings = settings
        self._catalogue = catalogue
        self._key = secrets.token_bytes(32)
        self._dice = random.Random("downloads")  # noqa: S311  # nothing secret

    def routes(self) -> list[web.RouteDef]:
        """Give the routes of the store."""
        return [web.get(STORE_PATH + "{name}", self.serve, allow_head=False)]

    def address(
        self, base: str, file: File, encoding: Encoding, *, issued: float | None = None
    ) -> str:
        """Give the presigned address of a file; its life begins at ``issued`` (epoch seconds)."""
        path = f"{STORE_PATH}{file.name}.{encoding}.wav"
        at = time.time() if issued is None else issued
        date = f"{at:.3f}"
        life = f"{self._settings.url_ttl_s:g}"
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Date": datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ"),
            "X-Amz-Expires": life,
            "X-Sim-Issued": date,
            "X-Amz-Signature": self._sign(path, date, life),
        }
        return f"{base}{path}?{urlencode(query)}"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a download."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        found = self._found(request.match_info["name"])
        if found is None:
            return _error(404, "NoSuchKey", "The specified key does not exist.")
        recording, file, encoding = found
        data = media(recording.voice, encoding, file.channels, self._settings.repeats)
        status, headers, start, end = _ranged(request.headers.get("Range", ""), len(data))
        if status == 416:
            answer = _error(416, "InvalidRange", "The requested range is not satisfiable")
            answer.headers.update(headers)
            return answer
        self.downloads += 1
        return await self._sent(request, data[start:end], status, headers)

    def _refusal(self, request: web.Request) -> web.Response | None:
        if "Authorization" in request.headers:
            return _error(400, "InvalidArgument", "Only one auth mechanism allowed")
        query = request.query
        date, life = query.get("X-Sim-Issued", ""), query.get("X-Amz-Expires", "")
        signature = query.get("X-Amz-Signature", "")
        expected = self._sign(request.path, date, life)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            return _error(403, "SignatureDoesNotMatch", "The signature does not match.")
        if time.time() >= float(date) + float(life):
            return _error(403, "AccessDenied", "Request has expired")
        return None

    def _found(self, name: str) -> tuple[Recording, File, Encoding] | None:
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        recording = self._catalogue.any_recording(match["id"])
        files, number = recording.files(), int(match["file"])
        kinds: dict[str, Encoding] = {"pcm": "pcm", "ulaw": "ulaw", "alaw": "alaw"}
        if number >= len(files):
            return None
        return recording, files[number], kinds[match["encoding"]]

    async def _sent(
        self, request: web.Request, data: bytes, status: int, headers: dict[str, str]
    ) -> web.StreamResponse:
        trouble, drip_s = self._trouble(request)
        if not trouble:
            return web.Response(
                body=data, status=status, headers=headers, content_type=CONTENT_TYPE
            )
        answer = web.StreamResponse(status=status, headers=headers)
        answer.content_type = CONTENT_TYPE
        answer.content_length = len(data)
        await answer.prepare(request)
        if trouble == "truncate":
            await answer.write(data[: len(data) // 2])
            if request.transport is not None:
                request.transport.close()
            return answer
        for at in range(0, len(data), _DRIP_BYTES):
            await answer.write(data[at : at + _DRIP_BYTES])
            await asyncio.sleep(drip_s)
        await answer.write_eof()
        return answer

    def _trouble(self, request: web.Request) -> tuple[str, float]:
        """Give what befalls this download, and the time between drips."""
        settings, book = self._settings, self._region.faults
        now = asyncio.get_running_loop().time()
        if book.take("truncate", request.method, request.path, now=now) is not None:
            return "truncate", 0.0
        fault = book.take("drip", request.method, request.path, now=now)
        if fault is not None:
            return "drip", fault.delay_s
        at = self._dice.random() if settings.truncated + settings.slow else 1.0
        if at < settings.truncated:
            return "truncate", 0.0
        return ("drip", settings.drip_s) if at < settings.truncated + settings.slow else ("", 0.0)

    def _sign(self, path: str, date: str, life: str) -> str:
        return hmac.digest(self._key, f"{path}\n{date}\n{life}".encode(), "sha256").hex()


def _ranged(text: str, size: int) -> tuple[int, dict[str, str], int, int]:
    """Give status, headers and bounds for a ``Range`` header; one that is none is ignored."""
    headers = {"Accept-Ranges": "bytes"}
    match = _RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return 200, headers, 0, size
    if match[1]:
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
    else:
        start, end = max(0, size - int(match[2])), size
    if start >= end:
        return 416, headers | {"Content-Range": f"bytes */{size}"}, 0, 0
    return 206, headers | {"Content-Range": f"bytes {start}-{end - 1}/{size}"}, start, end


def _error(status: int, code: str, message: str) -> web.Response:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    )
    return web.Response(status=status, text=text, content_type="application/xml")
