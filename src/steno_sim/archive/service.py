"""Stored transcripts of one region, in the document's shape and in the platform's.

=================================================================  ============================
``GET /api/v2/conversations/media/{id}/transcripts``               the document's: scopes
                                                                   ``interaction:read``,
                                                                   ``media:read`` and
                                                                   ``analytics:read``
``GET /api/v2/speechandtextanalytics/conversations/{id}/communications/{id}/transcripturl``
                                                                   ``{"url"}``; permissions
                                                                   ``recording:recording:view``
                                                                   and ``speechAndText…:view``
``GET …/communications/{id}/transcripturls``                       one link for each recording;
                                                                   either recording permission
``GET /api/v2/speechandtextanalytics/conversations/{id}``          sentiment of a conversation
``GET /api/v2/conversations/{id}``                                 its participants and calls;
                                                                   only the customer's calls
                                                                   have transcripts
``GET /transcript-store/…``                                        presigned links
=================================================================  ============================

The document's answer has ``self conversation participants transcript status``; one that is too
large has ``downloadUrl`` in place of ``transcript``, and the file behind it is the whole answer.
While ``status`` is ``queued`` or ``processing``, ``transcript`` is empty. The platform's calls
answer 404 ``not.found`` until there is something.

Any UUID is a conversation that is long over, unless ``only_known``; what it says follows from the
seed and the id. A conversation that was played live has a transcript of exactly what was said,
``ready_s`` after its end: in the document's shape all of it, with times from its start as the
event socket tells them; in the platform's one file for each call, with the moments that the
notification topics told. Utterances that never became final are not in it.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import msgspec
from aiohttp import web

from steno_sim.answers import (
    ApiRefusal,
    LostAnswer,
    json_answer,
    require_permission,
    require_scope,
    require_token,
)
from steno_sim.archive.finding import Finding
from steno_sim.archive.library import File, Library, Shape, Stored, Truth
from steno_sim.archive.said import StoredTurn
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.archive.store import Store
from steno_sim.pieces import stable_id
from steno_sim.region import Region
from steno_sim.world import World

DOCUMENT_PATH = "/api/v2/conversations/media/{id}/transcripts"
SCOPES = ("interaction:read", "media:read", "analytics:read")
_ANALYTICS = "/api/v2/speechandtextanalytics/conversations/{id}"
_RECORDING, _SEGMENT = "recording:recording:view", "recording:recordingSegment:view"
_DATA = "speechAndTextAnalytics:data:view"
_PAGE = "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
_FORMS = ("no_status", "list", "camel", "nested")
_MAX_LEGACY = 5_000


class Archive:
    """Stored transcripts of one region.

    Args:
        region: Whose tokens, limits and faults hold.
        world: Whose conversations have transcripts of what was said.
        settings: Their behaviour.
    """

    def __init__(self, region: Region, world: World, settings: ArchiveSettings) -> None:
        self.settings = settings
        self.library = Library(world, settings)
        self.store = Store(region, settings, self.library)
        self.finding = Finding(region, world, settings, self.library)
        self.struck: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self._region = region
        self._dice = random.Random(f"archive/{settings.seed}")  # noqa: S311  # nothing secret

    def routes(self) -> list[web.RouteDef]:
        """Give the routes of stored transcripts."""
        call = _ANALYTICS + "/communications/{communication}"
        return [
            web.get(DOCUMENT_PATH, self._guard("document", self._document)),
            web.get(call + "/transcripturl", self._guard("transcripturl", self._url)),
            web.get(call + "/transcripturls", self._guard("transcripturls", self._urls)),
            web.get(_ANALYTICS, self._guard("metrics", self._metrics)),
            *self.finding.routes(self._guard),
            *self.store.routes(),
        ]

    def stats(self) -> dict[str, object]:
        """Give the counts: calls by kind, what went wrong on purpose, links and downloads."""
        return {
            "requests": dict(sorted(self.asked.items())),
            "struck": dict(sorted(self.struck.items())),
            "jobs": self.finding.jobs,
        } | self.store.stats()

    def listing(self) -> list[dict[str, Any]]:
        """Give the conversations that can be found, with what becomes of them."""
        found = [self.library.find(one) for one in self.library.ids()]
        return [_listed(one) for one in found if one is not None]

    def truth(self, conversation: str, shape: Shape = "document") -> list[Truth]:
        """Tell what the files of a conversation say: the document, or all of the platform's.

        Raises:
            KeyError: Nobody knows the conversation.
        """
        found = self.library.find(conversation)
        if found is None:
            raise KeyError(conversation)
        if shape == "document":
            return [self.library.truth(found, File(conversation, shape))]
        legs = range(len(found.communications))
        files = [File(conversation, shape, leg, n) for leg in legs for n in range(found.parts)]
        return [self.library.truth(found, file) for file in files]

    # --- trouble ----------------------------------------------------------------------

    def _guard(self, kind: str, handler: Any) -> Any:  # Any: aiohttp's handlers
        async def guarded(request: web.Request) -> web.StreamResponse:
            self.asked[kind] += 1
            settings, at = self.settings, self._dice.random()
            if at < settings.errors:
                self.struck["errors"] += 1
                return self._error()
            if at < settings.errors + settings.lost:
                self.struck["lost"] += 1
                raise LostAnswer
            if at < settings.errors + settings.lost + settings.throttled:
                self.struck["throttled"] += 1
                wait_s = settings.throttle_s if self.struck["throttled"] % 2 else 0.0
                raise ApiRefusal(429, message="Rate limit exceeded", retry_after_s=wait_s)
            answer: web.StreamResponse = await handler(request)
            return answer

        return guarded

    def _error(self) -> web.Response:
        status = self._dice.choice((500, 502, 503, 504))
        if status == 502:
            return web.Response(status=502, text=_PAGE, content_type="text/html")
        raise ApiRefusal(status)

    # --- the document's call ----------------------------------------------------------

    async def _document(self, request: web.Request) -> web.Response:
        token = require_token(request, self._region)
        for scope in SCOPES:
            require_scope(token, scope)
        found = self._found(request)
        state = self.library.state(found, _now())
        path = f"/api/v2/conversations/media/{found.id}/transcripts"
        told: dict[str, Any] = {"self": path, "conversation": found.id}
        if state != "completed":
            return json_answer(told | {"participants": [], "transcript": [], "status": state})
        file = File(found.id, "document")
        if found.fate == "legacy":
            return json_answer(self._legacy(request, found, file, told))
        made = self.library.make(found, file)
        if made.body.size <= self.settings.inline_bytes:
            body = b"".join(made.body.read())
            return web.Response(body=body, content_type="application/json", charset="utf-8")
        people = self.library.truth(found, file, most=0).participants
        link = self.store.link(_base(request), file)
        told = {"self": path, "downloadUrl": link, "conversation": found.id}
        return json_answer(told | {"participants": people, "status": state})

    def _legacy(
        self, request: web.Request, found: Stored, file: File, told: dict[str, Any]
    ) -> object:
        """Give an answer of older days; long transcripts end early in it."""
        form = self.settings.legacy_form
        if form == "mixed":
            form = _FORMS[int(stable_id("form", found.id)[:2], 16) % len(_FORMS)]  # type: ignore[assignment]  # one of them
        truth = self.library.truth(found, file)
        turns = truth.turns[:_MAX_LEGACY]
        if form == "camel":
            camel = [_camel(turn) for turn in turns]
            told |= {"participants": truth.participants, "transcript": camel}
            return told | {"status": "completed"}
        plain = [_plain(turn) for turn in turns]
        if form == "list":
            return plain
        inner = {"participants": truth.participants, "transcript": plain}
        return told | ({"transcripts": [inner]} if form == "nested" else inner)

    # --- the platform's calls ---------------------------------------------------------

    async def _url(self, request: web.Request) -> web.Response:
        token = require_token(request, self._region)
        require_permission(token, _RECORDING)
        require_permission(token, _DATA)
        found, leg = self._ready(request)
        file = File(found.id, "platform", leg, 0)
        return json_answer({"url": self.store.link(_base(request), file)})

    async def _urls(self, request: web.Request) -> web.Response:
        token = require_token(request, self._region)
        if _SEGMENT not in token.client.permissions:
            require_permission(token, _RECORDING)
        found, leg = self._ready(request)
        communication = request.match_info["communication"]
        urls = []
        for part in range(found.parts):
            recording = stable_id("recording", found.id, leg, part)
            own = f"/api/v2/conversations/{found.id}/recordings/{recording}"
            link = self.store.link(_base(request), File(found.id, "platform", leg, part))
            urls.append({"recording": {"id": recording, "selfUri": own}, "url": link})
        whole = {"id": found.id, "selfUri": f"/api/v2/conversations/{found.id}"}
        return json_answer({"conversation": whole, "communicationId": communication, "urls": urls})

    async def _metrics(self, request: web.Request) -> web.Response:
        token = require_token(request, self._region)
        require_permission(token, _RECORDING)
        require_permission(token, _DATA)
        found = self._found(request)
        if self.library.state(found, _now()) != "completed":
            raise ApiRefusal(404, "not.found", "The conversation has no analytics")
        dice = random.Random(f"sentiment/{found.id}")  # noqa: S311  # nothing secret
        whole = {"id": found.id, "selfUri": f"/api/v2/conversations/{found.id}"}
        return json_answer(
            {
                "conversation": whole,
                "sentimentScore": round(dice.uniform(-1, 1), 4),
                "sentimentTrend": round(dice.uniform(-1, 1), 4),
                "sentimentTrendClass": "NoChange",
                "empathyScores": [],
            }
        )

    def _ready(self, request: web.Request) -> tuple[Stored, int]:
        """Give a conversation with transcripts, and which of its calls is asked for."""
        found, communication = self._found(request), request.match_info["communication"]
        done = not found.chat and self.library.state(found, _now()) == "completed"
        if not done or communication not in found.communications:
            raise ApiRefusal(404, "not.found", "The transcript was not found")
        return found, found.communications.index(communication)

    def _found(self, request: web.Request) -> Stored:
        conversation = request.match_info["id"]
        found = self.library.find(conversation)
        if found is None or found.fate == "missing" or (found.plan and not found.begins_ms):
            raise ApiRefusal(404, "not.found", "The transcript was not found")
        if found.fate == "forbidden":
            raise ApiRefusal(403, "not.authorized", "The conversation is not yours to read")
        return found


def _listed(found: Stored) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(found)
    return {name: value for name, value in told.items() if name != "plan"}


def _plain(turn: StoredTurn) -> dict[str, Any]:
    return {
        "start_time": turn.start_ms / 1000,
        "end_time": turn.end_ms / 1000,
        "text": turn.text,
        "speaker_id": turn.speaker,
        "confidence": turn.confidence,
    }


def _camel(turn: StoredTurn) -> dict[str, Any]:
    return {
        "startTime": turn.start_ms / 1000,
        "endTime": turn.end_ms / 1000,
        "text": turn.text,
        "speakerId": turn.speaker,
        "confidence": turn.confidence,
    }


def _base(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"


def _now() -> float:
    return asyncio.get_running_loop().time()
