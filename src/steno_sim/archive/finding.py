"""Finding conversations: ``/api/v2/analytics/conversations/details``, jobs and queries.

==============================================  ===============================================
``POST …/details/jobs``                         202 ``{"jobId"}``; ``interval``, ``order``,
                                                ``limit`` and filters as below
``GET …/details/jobs/{jobId}``                  ``state``: QUEUED, PENDING, FULFILLED, FAILED,
                                                CANCELLED, EXPIRED
``GET …/details/jobs/{jobId}/results``          ``?cursor=&pageSize=``: ``conversations``,
                                                ``cursor`` until the end,
                                                ``dataAvailabilityDate``
``DELETE …/details/jobs/{jobId}``               cancels it, 204
``GET …/details/jobs/availability``             ``dataAvailabilityDate``
``POST …/details/query``                        the same at once: at most 31 days, pages of 100
==============================================  ===============================================

The permission is ``analytics:conversationDetail:view``. Found are conversations that begin in the
interval: those that ``--archive conversations=N`` makes up, and those that were played live. Of
filters, the dimensions ``mediaType`` (of sessions), ``conversationId`` and
``originatingDirection`` with ``matches`` are known; others are answered 400. Only the client that
asked may read a job.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import datetime
from typing import Any, Literal

import msgspec
from aiohttp import web

from steno_sim.answers import ApiRefusal, json_answer, require_permission, require_token
from steno_sim.archive.library import Library, Stored
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.oauth import Token
from steno_sim.pieces import stable_id
from steno_sim.recordings.service import invalid
from steno_sim.recordings.talk import draw
from steno_sim.region import Region
from steno_sim.wire import milli_stamp
from steno_sim.world import World

PERMISSION = "analytics:conversationDetail:view"
_PATH = "/api/v2/analytics/conversations/details"
_QUERY_DAYS, _QUERY_PAGE, _DEFAULT_PAGE = 31, 100, 25
_MAX_JOBS = 1000
_KNOWN = ("mediaType", "conversationId", "originatingDirection")


class _Predicate(msgspec.Struct):
    dimension: str = ""
    value: str | None = None
    operator: Literal["matches", "exists", "notExists"] = "matches"
    type: str = "dimension"


class _Clause(msgspec.Struct):
    type: Literal["and", "or"]
    predicates: list[_Predicate] = []


class _Filter(msgspec.Struct):
    type: Literal["and", "or"]
    predicates: list[_Predicate] = []
    clauses: list[_Clause] = []


class _Paging(msgspec.Struct, frozen=True):
    pageSize: int = _DEFAULT_PAGE  # noqa: N815 - the wire's own name
    pageNumber: int = 1  # noqa: N815 - the wire's own name


class _Asked(msgspec.Struct):
    interval: str
    order: Literal["asc", "desc", "unordered"] = "asc"
    orderBy: str = "conversationStart"  # noqa: N815 - the wire's own name
    limit: int = 0
    conversationFilters: list[_Filter] = []  # noqa: N815 - the wire's own name
    segmentFilters: list[_Filter] = []  # noqa: N815 - the wire's own name
    paging: _Paging = _Paging()


class _Job:
    __slots__ = ("cancelled", "client", "failed", "found", "id", "until_ms")

    def __init__(self, name: str, client: str, found: list[str], *, failed: bool) -> None:
        self.id = name
        self.client = client
        self.found = found
        self.failed = failed
        self.cancelled = False
        self.until_ms = time.time() * 1000


class Finding:
    """Analytics calls of one region.

    Args:
        region: Whose tokens hold.
        world: Whose conversations can be found once they began.
        settings: States and pages.
        library: The conversations there are.
    """

    def __init__(
        self, region: Region, world: World, settings: ArchiveSettings, library: Library
    ) -> None:
        self.jobs = 0
        self._region = region
        self._world = world
        self._settings = settings
        self._library = library
        self._kept: OrderedDict[str, _Job] = OrderedDict()

    def routes(self, guard: Any) -> list[web.RouteDef]:  # Any: aiohttp's handlers
        """Give the routes, each behind a guard that takes its kind and its handler."""
        job = _PATH + "/jobs/{job}"
        return [
            web.post(_PATH + "/jobs", guard("details job", self._submit)),
            web.get(_PATH + "/jobs/availability", guard("availability", self._availability)),
            web.get(job, guard("details job look", self._look)),
            web.delete(job, guard("details job cancel", self._cancel)),
            web.get(job + "/results", guard("details job results", self._results)),
            web.post(_PATH + "/query", guard("details query", self._query)),
        ]

    # --- jobs -------------------------------------------------------------------------

    async def _submit(self, request: web.Request) -> web.Response:
        token = self._token(request)
        asked = await _asked(request)
        from_ms, to_ms = _interval(asked.interval)
        found = self._find(asked, from_ms, min(to_ms, self._available_ms()))
        if asked.limit:
            found = found[: asked.limit]
        self.jobs += 1
        name = stable_id("details", self._region.name, self._settings.seed, self.jobs)
        failed = draw(self._settings.seed, name, "job").random() < self._settings.job_failed
        self._kept[name] = _Job(name, token.client.id, found, failed=failed)
        if len(self._kept) > _MAX_JOBS:
            self._kept.popitem(last=False)
        return json_answer({"jobId": name}, status=202)

    async def _look(self, request: web.Request) -> web.Response:
        job = self._job(request)
        state, settings = self._state(job), self._settings
        told = {"state": state, "submissionDate": _stamp(job.until_ms)}
        if state in ("FULFILLED", "EXPIRED", "FAILED"):
            work_s = (settings.job_queued_s + settings.job_pending_s) / settings.clock
            told["completionDate"] = _stamp(job.until_ms + work_s * 1000)
            told["expirationDate"] = _stamp(job.until_ms + settings.job_ttl_s * 1000)
        if state == "FAILED":
            told["errorMessage"] = "The query failed"
        return json_answer(told)

    async def _results(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if self._state(job) != "FULFILLED":
            raise ApiRefusal(400, "bad.request", "The job has no results")
        size = _number(request.query.get("pageSize", str(self._settings.page)), "pageSize")
        size = max(1, min(size, self._settings.page))
        begin = self._place(job, request.query.get("cursor", ""))
        told: dict[str, Any] = {
            "conversations": self._told(job.found[begin : begin + size]),
            "dataAvailabilityDate": _stamp(min(job.until_ms, self._available_ms())),
        }
        if begin + size < len(job.found):
            told["cursor"] = _cursor(job, begin + size)
        return json_answer(told)

    async def _cancel(self, request: web.Request) -> web.Response:
        self._job(request).cancelled = True
        return web.Response(status=204)

    async def _availability(self, request: web.Request) -> web.Response:
        self._token(request)
        return json_answer({"dataAvailabilityDate": _stamp(self._available_ms())})

    def _job(self, request: web.Request) -> _Job:
        token = self._token(request)
        job = self._kept.get(request.match_info["job"])
        if job is None:
            raise ApiRefusal(404, "not.found", "The job was not found")
        if job.client != token.client.id:
            raise ApiRefusal(403, "not.authorized", "Somebody else made this job")
        return job

    def _state(self, job: _Job) -> str:
        settings = self._settings
        age_s = time.time() - job.until_ms / 1000
        queued_s = settings.job_queued_s / settings.clock
        if job.cancelled:
            return "CANCELLED"
        if age_s < queued_s:
            return "QUEUED"
        if age_s < queued_s + settings.job_pending_s / settings.clock:
            return "PENDING"
        if job.failed:
            return "FAILED"
        return "FULFILLED" if age_s < settings.job_ttl_s else "EXPIRED"

    def _place(self, job: _Job, cursor: str) -> int:
        """Give where the page of a cursor begins."""
        if not cursor:
            return 0
        place, _, _ = cursor.partition(".")
        if not (place.isascii() and place.isdigit()) or cursor != _cursor(job, int(place)):
            raise invalid("cursor", "no page has this cursor")
        return int(place)

    def _available_ms(self) -> float:
        return (time.time() - self._settings.lag_s / self._settings.clock) * 1000

    # --- the query --------------------------------------------------------------------

    async def _query(self, request: web.Request) -> web.Response:
        self._token(request)
        asked = await _asked(request)
        from_ms, to_ms = _interval(asked.interval)
        if to_ms - from_ms > _QUERY_DAYS * 86_400_000:
            raise invalid("interval", f"at most {_QUERY_DAYS} days are taken")
        size, number = asked.paging.pageSize, asked.paging.pageNumber
        if not 1 <= size <= _QUERY_PAGE or number < 1:
            raise invalid("paging", f"pageSize is 1 to {_QUERY_PAGE}, pageNumber from 1")
        found = self._find(asked, from_ms, to_ms)
        page = found[(number - 1) * size : number * size]
        told: dict[str, Any] = {"totalHits": len(found)}
        if page:
            # The platform leaves the list out where there is nothing.
            told["conversations"] = self._told(page)
        return json_answer(told)

    # --- both -------------------------------------------------------------------------

    def _token(self, request: web.Request) -> Token:
        token = require_token(request, self._region)
        require_permission(token, PERMISSION)
        return token

    def _find(self, asked: _Asked, from_ms: float, to_ms: float) -> list[str]:
        """Give the conversations that begin in an interval and pass the filters, in order."""
        library, filters = self._library, [*asked.conversationFilters, *asked.segmentFilters]
        names = [*library.ids(), *self._world.by_id]
        known = [one for name in names if (one := library.find(name)) is not None]
        found = [
            one
            for one in known
            if one.begins_ms
            and from_ms <= one.begins_ms < to_ms
            and all(_passes(one, each) for each in filters)
        ]
        found.sort(key=lambda one: (one.begins_ms, one.id), reverse=asked.order == "desc")
        return [one.id for one in found]

    def _told(self, names: list[str]) -> list[dict[str, Any]]:
        told = [(name, self._library.entity(name)) for name in names]
        return [_details(name, entity) for name, entity in told if entity is not None]


def _passes(found: Stored, wanted: _Filter) -> bool:
    each = [_matches(found, p) for p in wanted.predicates]
    for clause in wanted.clauses:
        inner = [_matches(found, p) for p in clause.predicates]
        each.append(all(inner) if clause.type == "and" else any(inner))
    return all(each) if wanted.type == "and" else any(each)


def _matches(found: Stored, predicate: _Predicate) -> bool:
    if predicate.dimension not in _KNOWN or predicate.operator != "matches":
        raise invalid("predicates", "mediaType, conversationId and originatingDirection are known")
    value = {
        "mediaType": "chat" if found.chat else "voice",
        "conversationId": found.id,
        "originatingDirection": "inbound",
    }[predicate.dimension]
    return predicate.value == value


def _details(name: str, entity: dict[str, Any]) -> dict[str, Any]:
    """Give a conversation as the analytics calls tell it."""
    told = {
        "conversationId": name,
        "conversationStart": entity["startTime"],
        "originatingDirection": "inbound",
        "divisionIds": [],
        "participants": [_participant(person) for person in entity["participants"]],
    }
    if "endTime" in entity:
        told["conversationEnd"] = entity["endTime"]
    return told


def _participant(person: dict[str, Any]) -> dict[str, Any]:
    kind = "chat" if "chats" in person else "voice"
    told = {
        "participantId": person["id"],
        "participantName": person["name"],
        "purpose": person["purpose"],
        "sessions": [
            _session(call, kind, person) for call in person.get("calls") or person.get("chats", [])
        ],
    }
    if "userId" in person:
        told["userId"] = person["userId"]
    return told


def _session(call: dict[str, Any], kind: str, person: dict[str, Any]) -> dict[str, Any]:
    segment: dict[str, Any] = {
        "segmentStart": call["connectedTime"],
        "segmentType": "interact",
        "conference": False,
    }
    if "disconnectedTime" in call:
        segment["segmentEnd"] = call["disconnectedTime"]
        segment["disconnectType"] = call["disconnectType"]
    if "queueId" in person:
        segment["queueId"] = person["queueId"]
    told = {
        "sessionId": call["id"],
        "mediaType": kind,
        "direction": call["direction"],
        "recording": call["recording"],
        "segments": [segment],
    }
    if person["purpose"] == "customer" and kind == "voice":
        told |= {"ani": "tel:+15550100", "dnis": "tel:+15550199"}
    return told


async def _asked(request: web.Request) -> _Asked:
    if request.content_type != "application/json":
        raise ApiRefusal(415, "unsupported.media.type", "The body must be application/json")
    try:
        return msgspec.json.decode(await request.read(), type=_Asked)
    except msgspec.ValidationError:
        raise invalid("interval", "the query cannot be read") from None
    except msgspec.MsgspecError:
        raise ApiRefusal(400, "bad.request", "The body is not a JSON object") from None


def _interval(text: str) -> tuple[float, float]:
    """Give the ends of ``start/end`` in epoch ms."""
    start, _, end = text.partition("/")
    try:
        from_ms, to_ms = (_moment(part).timestamp() * 1000 for part in (start, end))
    except ValueError:
        raise ApiRefusal(400, "invalid.date", "interval is start/end", field="interval") from None
    if from_ms >= to_ms:
        raise ApiRefusal(400, "invalid.date", "interval ends before it starts", field="interval")
    return from_ms, to_ms


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError
    return found


def _number(text: str, field: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise invalid(field, "a number is needed")
    return int(text)


def _cursor(job: _Job, place: int) -> str:
    return f"{place}.{stable_id('cursor', job.id, place)}"


def _stamp(at_ms: float) -> str:
    return milli_stamp(round(at_ms * 1000))
