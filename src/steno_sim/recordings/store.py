"""The store behind presigned addresses: ``GET /recording-store/…``, as an object store answers.

An address holds its end and a signature over both. No token is needed, and one that comes is
refused (400, one way of authentication only); a changed address or one past its end is 403.
Errors are XML. ``Range`` is served for one range of bytes.
"""

from __future__ import annotations

import asyncio
import random
import re

from aiohttp import web

from steno_sim.presigned import DRIP_BYTES, Signer, not_satisfiable, ranged, store_error
from steno_sim.recordings.catalogue import Catalogue, File, Recording
from steno_sim.recordings.settings import Encoding, MediaSettings
from steno_sim.recordings.sounds import media
from steno_sim.region import Region

STORE_PATH = "/recording-store/"
CONTENT_TYPE = "audio/wav"
_NAME = re.compile(r"(?P<id>[0-9a-f-]{36})-(?P<file>[01])\.(?P<encoding>pcm|ulaw|alaw)\.wav")


class Store:
    """Signs addresses, and serves what they lead to.

    Args:
        region: Whose faults strike downloads.
        settings: Life of addresses, and shares of trouble.
        catalogue: The recordings there are.
    """

    def __init__(self, region: Region, settings: MediaSettings, catalogue: Catalogue) -> None:
        self.downloads = 0
        self.own: dict[str, bytes] = {}
        """Files of a test's own, by the name of the file that they stand for."""
        self._region = region
        self._settings = settings
        self._catalogue = catalogue
        self._signer = Signer(settings.url_ttl_s)
        self._dice = random.Random("downloads")  # noqa: S311  # nothing secret

    def routes(self) -> list[web.RouteDef]:
        """Give the routes of the store."""
        return [web.get(STORE_PATH + "{name}", self.serve, allow_head=False)]

    def address(
        self, base: str, file: File, encoding: Encoding, *, issued: float | None = None
    ) -> str:
        """Give the presigned address of a file; its life begins at ``issued`` (epoch seconds)."""
        path = f"{STORE_PATH}{file.name}.{encoding}.wav"
        return self._signer.address(base, path, issued=issued)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a download."""
        refusal = self._signer.refusal(request)
        if refusal is not None:
            return refusal
        found = self._found(request.match_info["name"])
        if found is None:
            return store_error(404, "NoSuchKey", "The specified key does not exist.")
        recording, file, encoding = found
        data = self.own.get(file.name)
        if data is None:
            data = media(recording.voice, encoding, file.channels, self._settings.repeats)
        status, headers, start, end = ranged(request.headers.get("Range", ""), len(data))
        if status == 416:
            return not_satisfiable(headers)
        self.downloads += 1
        return await self._sent(request, data[start:end], status, headers)

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
        for at in range(0, len(data), DRIP_BYTES):
            await answer.write(data[at : at + DRIP_BYTES])
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
