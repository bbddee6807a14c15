"""The real platform's recordings: batch downloads, recordings of conversations, and their store.

=========================================================  ==================================
``POST /api/v2/recording/batchrequests``                   1 to 100 items; ``{id, selfUri}``
``GET /api/v2/recording/batchrequests/{jobId}``            how far it is; only for the client
                                                           that asked (others 403)
``GET /api/v2/conversations/{id}/recordings``              list; 202 while transcoding
``GET /api/v2/conversations/{id}/recordings/{recording}``  one of them, the same way
``GET /recording-store/…``                                 presigned addresses of WAV files
=========================================================  ==================================

The permission is ``recording:recording:view``. Known are the conversations of the scenario, each
with one recording, and those of the recordings that ``--jobs recordings=N`` makes; ``GET
/_sim/recordings`` tells both ids. A batch download is in the recording's own codec, one result
for each file; an item that fails has ``errorMsg``. Recordings of conversations are made in the
format asked for: ``WAV`` or ``WAV_ULAW``, or ``NONE`` for none. The other formats, among them the
platform's default, are not made here and answered 400. The list waits ``maxWaitMs`` (5000) for what
is being transcoded. Addresses need no token and really end: see ``url_ttl_s``.

A request that is refused by the store, and an address that was never handed out, are XML.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from aiohttp import web

from steno_sim.answers import ApiRefusal, json_answer, require_permission, require_token
from steno_sim.recordings.batch import MAX_ITEMS, Batch, BatchBook, Item, Result, status_of
from steno_sim.recordings.catalogue import Catalogue, Recording
from steno_sim.recordings.service import invalid
from steno_sim.recordings.settings import Encoding, MediaSettings
from steno_sim.recordings.store import CONTENT_TYPE, Store
from steno_sim.region import Region
from steno_sim.world import World

PERMISSION = "recording:recording:view"
BATCHES_PATH = "/api/v2/recording/batchrequests"
_RECORDINGS = "/api/v2/conversations/{id}/recordings"
_FORMATS: dict[str, Encoding | None] = {"WAV": "pcm", "WAV_ULAW": "ulaw", "NONE": None}
_MAX_WAIT_MS = 60_000


class _Submission(msgspec.Struct):
    batchDownloadRequestList: list[Item]  # noqa: N815 - the wire's own name


class Platform:
    """Recordings of one region.

    Args:
        region: Whose tokens and faults hold.
        world: Whose conversations have recordings.
        settings: Delays and shares.
        catalogue: The recordings there are.
    """

    def __init__(
        self, region: Region, world: World, settings: MediaSettings, catalogue: Catalogue
    ) -> None:
        self.store = Store(region, settings, catalogue)
        self.batches = BatchBook(settings, catalogue)
        self._region = region
        self._world = world
        self._settings = settings
        self._catalogue = catalogue
        self._ready: dict[tuple[str, str], float] = {}

    def routes(self) -> list[web.RouteDef]:
        """Give the routes of the platform's recordings."""
        return [
            web.post(BATCHES_PATH, self._submit),
            web.get(BATCHES_PATH + "/{job}", self._look),
            web.get(_RECORDINGS, self._list),
            web.get(_RECORDINGS + "/{recording}", self._one),
            *self.store.routes(),
        ]

    def stats(self) -> dict[str, object]:
        """Give the counts."""
        return {"batches": self.batches.submitted, "downloads": self.store.downloads}

    # --- batch downloads --------------------------------------------------------------

    async def _submit(self, request: web.Request) -> web.Response:
        token = require_token(request, self._region)
        require_permission(token, PERMISSION)
        if request.content_type != "application/json":
            raise ApiRefusal(415, "unsupported.media.type", "The body must be application/json")
        try:
            body = msgspec.json.decode(await request.read(), type=_Submission)
        except (ValueError, msgspec.MsgspecError):
            raise invalid("batchDownloadRequestList", "a list of items is needed") from None
        items = body.batchDownloadRequestList
        if not 1 <= len(items) <= MAX_ITEMS:
            raise invalid("batchDownloadRequestList", f"1 to {MAX_ITEMS} items are taken")
        for item in items:
            self._know(item.conversationId)
        batch = self.batches.submit(items, client=token.client.id, now=_now())
        return json_answer({"id": batch.id, "selfUri": f"{BATCHES_PATH}/{batch.id}"})

    async def _look(self, request: web.Request) -> web.Response:
        token = require_token(request, self._region)
        require_permission(token, PERMISSION)
        batch = self.batches.get(request.match_info["job"])
        if batch is None:
            raise ApiRefusal(404, "not.found", "The batch request was not found")
        if batch.client != token.client.id:
            raise ApiRefusal(403, "not.authorized", "Somebody else made this request")
        ready, told = status_of(batch, _now())
        base = f"{request.scheme}://{request.host}"
        told["results"] = [self._result(base, batch, n, r) for n, r in enumerate(ready)]
        return json_answer(told | {"selfUri": f"{BATCHES_PATH}/{batch.id}"})

    def _result(self, base: str, batch: Batch, number: int, result: Result) -> dict[str, str]:
        told = {"conversationId": result.conversation, "recordingId": result.recording_id}
        if result.recording is None or result.file is None:
            return told | {"errorMsg": result.error}
        # An address is made once and ends, however often it is asked for.
        issued = batch.issued.setdefault(number, time.time())
        url = self.store.address(base, result.file, result.recording.encoding, issued=issued)
        return told | {"resultUrl": url, "contentType": CONTENT_TYPE}

    # --- recordings of conversations --------------------------------------------------

    async def _list(self, request: web.Request) -> web.Response:
        found = self._of(request)
        encoding = _format(request)
        if await self._transcoding(found, encoding, wait_ms=_wait_ms(request)):
            return self._later(found, as_list=True)
        return json_answer([self._told(request, r, encoding) for r in found])

    async def _one(self, request: web.Request) -> web.Response:
        found = [r for r in self._of(request) if r.id == request.match_info["recording"]]
        if not found:
            raise ApiRefusal(404, "not.found", "The recording was not found")
        encoding = _format(request)
        # This call knows no maxWaitMs: it answers at once.
        if await self._transcoding(found, encoding, wait_ms=0):
            return self._later(found, as_list=False)
        return json_answer(self._told(request, found[0], encoding))

    def _of(self, request: web.Request) -> list[Recording]:
        token = require_token(request, self._region)
        require_permission(token, PERMISSION)
        conversation = request.match_info["id"]
        self._know(conversation)
        found = self._catalogue.of_conversation(conversation)
        if not found:
            raise ApiRefusal(404, "conversation.not.found", "The conversation was not found")
        return found

    def _know(self, conversation: str) -> None:
        if conversation in self._world.by_id:
            self._catalogue.adopt(conversation)

    async def _transcoding(
        self, found: list[Recording], encoding: Encoding | None, *, wait_ms: int
    ) -> bool:
        """Begin what is asked for the first time, wait as asked, and tell whether it lasts."""
        if encoding is None or not self._settings.transcode_s:
            return False
        lasts = self._settings.transcode_s / self._settings.clock
        ready = max(self._ready.setdefault((r.id, encoding), _now() + lasts) for r in found)
        wait_s = wait_ms / 1000 / self._settings.clock
        await asyncio.sleep(max(0.0, min(wait_s, ready - _now())))
        return ready > _now()

    def _later(self, found: list[Recording], *, as_list: bool) -> web.Response:
        if self._settings.transcode_body == "empty":
            return web.Response(status=202)
        millis = round(self._settings.transcode_s * 1000)
        told = [
            {"id": r.id, "conversationId": r.conversation, "estimatedTranscodeTimeMs": millis}
            for r in found
        ]
        return json_answer(told if as_list else told[0], status=202)

    def _told(
        self, request: web.Request, recording: Recording, encoding: Encoding | None
    ) -> dict[str, Any]:
        told = recording.facts()
        if encoding is None or recording.archived:
            return told
        base = f"{request.scheme}://{request.host}"
        return told | {
            "mediaUris": {
                str(n): {"mediaUri": self.store.address(base, file, encoding), "waveformData": []}
                for n, file in enumerate(recording.files())
            }
        }


def _wait_ms(request: web.Request) -> int:
    text = request.query.get("maxWaitMs", "5000")
    if not (text.isascii() and text.isdigit()) or int(text) > _MAX_WAIT_MS:
        raise invalid("maxWaitMs", f"0 to {_MAX_WAIT_MS} is taken")
    return int(text)


def _format(request: web.Request) -> Encoding | None:
    """Give the codec asked for, None for no media at all.

    Raises:
        ApiRefusal: 400 for a format that is not made here.
    """
    wanted = request.query.get("mediaFormats") or request.query.get("formatId") or "WEBM"
    for name in wanted.split(","):
        if name.strip().upper() in _FORMATS:
            return _FORMATS[name.strip().upper()]
    raise invalid("formatId", "WAV, WAV_ULAW and NONE are made here")


def _now() -> float:
    return asyncio.get_running_loop().time()
