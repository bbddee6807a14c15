"""Conversations of a time range: pages, states, what is too new for jobs, each once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from conformance.fetch_rig import FetchRig, fetch_rig
from conformance.link_server import LinkServer, StoreScript, link_server
from steno.adapters.stored_transcripts import finder
from steno.errors import AuthError, PeerUnavailable, RemoteProtocolError, TimedOut

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = 3_600_000_000
FROM_US = int(BEGAN.timestamp()) * 1_000_000


def stamp(hours: float) -> str:
    return (
        (BEGAN + timedelta(hours=hours)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


@dataclass
class Analytics:
    """The analytics calls: conversations begin one an hour."""

    server: LinkServer
    hours: int
    available: float | None
    page: int = 100
    states: list[str] = field(default_factory=lambda: ["FULFILLED"])
    media: str = "voice"
    same_cursor: bool = False
    matches_all: bool = False
    paths: list[str] = field(default_factory=list)
    bodies: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server.answers = self.answer

    def listed(self, hour: int) -> dict[str, object]:
        return {
            "conversationId": f"c-{hour}",
            "conversationStart": stamp(hour),
            "participants": [{"sessions": [{"mediaType": self.media, "segments": [{}]}]}],
            "divisionIds": ["d"],
        }

    def between(self, body: dict[str, object]) -> list[int]:
        start, end = str(body["interval"]).split("/")
        return [n for n in range(-5, self.hours) if self.matches_all or start <= stamp(n) < end]

    def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/api/v2/analytics/conversations/details/")
        self.paths.append(f"{request.method} {path}")
        if path == "jobs/availability":
            if self.available is None:
                return web.Response(status=404)
            return web.json_response({"dataAvailabilityDate": stamp(self.available)})
        if request.method == "DELETE":
            return web.Response(status=204)
        if path in ("jobs", "query"):
            self.bodies.append(json.loads(self.server.body))
        if path == "query":
            return self.queried()
        if path == "jobs":
            return web.json_response({"jobId": f"j-{len(self.bodies) - 1}"}, status=202)
        if path.endswith("/results"):
            return self.results(request, int(path.split("/")[1].removeprefix("j-")))
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return web.json_response({"state": state})

    def queried(self) -> web.Response:
        paging = self.bodies[-1]["paging"]
        assert isinstance(paging, dict)
        size = min(paging["pageSize"], self.page)
        at = (paging["pageNumber"] - 1) * size
        found = self.between(self.bodies[-1])[at : at + size]
        if not found:
            return web.json_response({})  # the platform leaves the list out
        return web.json_response({"conversations": [self.listed(n) for n in found]})

    def results(self, request: web.Request, job: int) -> web.Response:
        found = self.between(self.bodies[job])
        at = int(request.query.get("cursor", "0"))
        told: dict[str, object] = {
            "conversations": [self.listed(n) for n in found[at : at + self.page]]
        }
        if at + self.page < len(found):
            told["cursor"] = "1" if self.same_cursor else str(at + self.page)
        return web.json_response(told)


async def run(rig: FetchRig, hours: float, *, began_us: int = FROM_US) -> list[str]:
    return [one async for one in rig.finder.conversations(began_us, began_us + int(hours * HOUR))]


def ids(first: int, end: int) -> list[str]:
    return [f"c-{n}" for n in range(first, end)]


async def test_history_comes_from_a_job_page_by_page() -> None:
    """The job is deleted behind it; voice is asked for."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        analytics = Analytics(server, 48, 1000.0, page=7)
        assert await run(rig, 24) == ids(0, 24)
    assert analytics.paths == [
        "GET jobs/availability",
        "POST jobs",
        "GET jobs/j-0",
        *["GET jobs/j-0/results"] * 4,
        "DELETE jobs/j-0",
    ]
    asked = analytics.bodies[0]
    assert asked["interval"] == "2026-03-01T00:00:00.000Z/2026-03-02T00:00:00.000Z"
    assert asked["segmentFilters"] == [
        {
            "type": "and",
            "predicates": [
                {
                    "type": "dimension",
                    "dimension": "mediaType",
                    "operator": "matches",
                    "value": "voice",
                }
            ],
        }
    ]


@pytest.mark.parametrize("page", [100, 7])
async def test_what_is_too_new_for_jobs_comes_from_the_query(page: int) -> None:
    """With an overlap, each once; pages may be smaller than was asked for."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        analytics = Analytics(server, 300, 12.0, page=page)
        assert await run(rig, 40) == ids(0, 40)
        assert analytics.bodies[1]["interval"] == (
            "2026-03-01T10:00:00.000Z/2026-03-02T10:00:00.000Z"
        )


@pytest.mark.parametrize("available", [None, -3.0])
async def test_where_jobs_know_nothing_the_query_does_it_all(available: float | None) -> None:
    """No job is started."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        analytics = Analytics(server, 300, available)
        assert await run(rig, 30) == ids(0, 30)
        assert "POST jobs" not in analytics.paths


async def test_a_range_without_end_is_cut_into_jobs() -> None:
    """None is longer than a month."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        analytics = Analytics(server, 24 * 70, 100_000.0)
        assert await run(rig, 24 * 70) == ids(0, 24 * 70)
        assert analytics.paths.count("POST jobs") == 3


async def test_only_conversations_that_began_in_the_range_with_voice_count() -> None:
    """Intervals of the platform match what went on in them; filters of some are not kept."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        analytics = Analytics(server, 48, 1000.0)
        analytics.matches_all = True
        assert await run(rig, 24) == ids(0, 24)
        analytics.media = "chat"
        assert await run(rig, 24) == []


async def test_jobs_are_waited_for_and_tried_again() -> None:
    """Every word but the ends is one of work in hand."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        words = ["QUEUED", "PENDING", "STRANGE", "FAILED", "CANCELLED", "PENDING", "FULFILLED"]
        analytics = Analytics(server, 48, 1000.0, states=words)
        assert await run(rig, 3) == ids(0, 3)
        assert analytics.paths.count("POST jobs") == 3
        assert analytics.paths.count("DELETE jobs/j-0") == 1


@pytest.mark.parametrize("word", ["FAILED", "EXPIRED", "CANCELLED"])
async def test_jobs_that_come_to_nothing_end_it(word: str) -> None:
    """After three of them."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        analytics = Analytics(server, 48, 1000.0, states=[word])
        with pytest.raises(PeerUnavailable):
            await run(rig, 3)
        assert analytics.paths.count("POST jobs") == 3


async def test_a_job_that_takes_for_ever_is_given_up_and_deleted() -> None:
    """Within its limit."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        analytics = Analytics(server, 48, 1000.0, states=["PENDING"])
        rig.finder._job_limit_s = 0.1
        with pytest.raises(TimedOut):
            await run(rig, 3)
        assert analytics.paths[-1] == "DELETE jobs/j-0"


async def test_a_cursor_that_does_not_move_ends_it() -> None:
    """It would go round for ever."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        Analytics(server, 48, 1000.0, page=2, same_cursor=True)
        with pytest.raises(RemoteProtocolError):
            await run(rig, 24)


async def test_whoever_stops_early_leaves_no_job_behind() -> None:
    """The platform keeps few of them."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        analytics = Analytics(server, 48, 1000.0, page=2)
        found = rig.finder.conversations(FROM_US, FROM_US + 24 * HOUR)
        async for one in found:
            assert one == "c-0"
            break
        await found.aclose()
        assert analytics.paths[-1] == "DELETE jobs/j-0"


async def test_refusal_names_the_permission() -> None:
    """Of the real platform, and the scope of the tutorials."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        server.answers = lambda _: web.Response(status=403)
        with pytest.raises(AuthError) as caught:
            await run(rig, 3)
        assert "analytics:conversationDetail:view" in str(caught.value)
        assert "analytics:read" in str(caught.value)


def test_ids_are_remembered_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest of them; UUIDs and others."""
    monkeypatch.setattr(finder, "MAX_REMEMBERED", 3)
    seen = finder._Seen()
    uuid = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
    assert seen.is_new(uuid)
    assert not seen.is_new(uuid.upper())
    assert [seen.is_new(one) for one in ("a", "b", "a", "c", "d")] == [
        True,
        True,
        False,
        True,
        True,
    ]
    assert seen.is_new(uuid)
    assert not seen.is_new("d")
    assert seen.is_new("a")
