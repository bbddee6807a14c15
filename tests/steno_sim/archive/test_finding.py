"""Finding conversations: details jobs and queries, asked by ``aiohttp``."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from conformance.sim_peers import Answer, Peer, peer
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.oauth import Client
from steno_sim.scenario import Call, Scenario, Turn
from steno_sim.server import Simulator

DETAILS = "/api/v2/analytics/conversations/details"
ALL = "2026-01-01T00:00:00Z/2026-03-01T00:00:00Z"
CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
VOICE = {
    "type": "and",
    "predicates": [{"type": "dimension", "dimension": "mediaType", "value": "voice"}],
}


def simulator(**archive: Any) -> Simulator:
    return Simulator("quiet", archive=ArchiveSettings(**archive))


async def submit(client: Peer, interval: str = ALL, **body: Any) -> str:
    answer = await client.call("POST", f"{DETAILS}/jobs", json={"interval": interval} | body)
    assert answer.status == 202, answer.raw
    found: str = answer.json["jobId"]
    return found


async def look(client: Peer, job: str) -> dict[str, Any]:
    found: dict[str, Any] = (await client.call("GET", f"{DETAILS}/jobs/{job}")).json
    return found


async def pages(client: Peer, job: str, size: int) -> list[list[str]]:
    found, cursor = [], ""
    while True:
        options = {"pageSize": str(size)} | ({"cursor": cursor} if cursor else {})
        answer = await client.call("GET", f"{DETAILS}/jobs/{job}/results", params=options)
        assert answer.status == 200, answer.raw
        assert answer.json["dataAvailabilityDate"]
        found.append([c["conversationId"] for c in answer.json["conversations"]])
        cursor = answer.json.get("cursor", "")
        if not cursor:
            return found


async def test_a_job_finds_every_conversation_of_its_interval_in_pages() -> None:
    """Without a cursor on the last; each once, in the order of their beginning."""
    async with simulator(conversations=25) as sim, peer(sim) as client:
        job = await submit(client, segmentFilters=[VOICE])
        assert (await look(client, job))["state"] == "FULFILLED"
        found = await pages(client, job, 10)
        assert [len(page) for page in found] == [10, 10, 5]
        assert [one for page in found for one in page] == sim.archive.library.ids()
        half = await submit(client, "2026-01-05T00:00:00Z/2026-01-20T00:00:00+00:00", order="desc")
        [page] = await pages(client, half, 100)
    assert page == sim.archive.library.ids()[:13][::-1]


async def test_what_is_found_leads_to_the_transcripts() -> None:
    """The customer's sessions are the communications with a file."""
    async with simulator(conversations=3, legs=(2, 2)) as sim, peer(sim) as client:
        job = await submit(client)
        answer = await client.call("GET", f"{DETAILS}/jobs/{job}/results")
        for told in answer.json["conversations"]:
            customer = next(p for p in told["participants"] if p["purpose"] == "customer")
            calls = [s["sessionId"] for s in customer["sessions"]]
            found = sim.archive.library.find(told["conversationId"])
            assert found is not None
            assert calls == found.communications
            assert {s["mediaType"] for s in customer["sessions"]} == {"voice"}


async def test_a_job_waits_works_and_expires() -> None:
    """QUEUED, PENDING, FULFILLED, EXPIRED; results only in between; 204 cancels."""
    times = {"job_queued_s": 30, "job_pending_s": 30, "clock": 600, "job_ttl_s": 0.3}
    async with simulator(**times) as sim, peer(sim) as client:
        job = await submit(client)
        early = await client.call("GET", f"{DETAILS}/jobs/{job}/results")
        states = []
        async with asyncio.timeout(5):
            while "EXPIRED" not in states:
                states.append((await look(client, job))["state"])
                await asyncio.sleep(0.01)
        other = await submit(client)
        assert (await client.call("DELETE", f"{DETAILS}/jobs/{other}")).status == 204
        assert (await look(client, other))["state"] == "CANCELLED"
    assert early.status == 400
    assert list(dict.fromkeys(states)) == ["QUEUED", "PENDING", "FULFILLED", "EXPIRED"]


async def test_a_job_may_fail() -> None:
    """With a message."""
    async with simulator(job_failed=1.0) as sim, peer(sim) as client:
        told = await look(client, await submit(client))
    assert (told["state"], bool(told["errorMessage"])) == ("FAILED", True)


async def test_jobs_know_less_than_queries() -> None:
    """What began since the date of availability is found by the query alone."""
    turns = [Turn(who="customer", say="Hello.")]
    scenario = Scenario(conversations=[Call(id=CALL, turns=turns)])
    settings = ArchiveSettings(conversations=0, lag_s=3600)
    async with Simulator(scenario, speed=0, archive=settings) as sim, peer(sim) as client:
        await sim.finished()
        date = (await client.call("GET", f"{DETAILS}/jobs/availability")).json
        day = date["dataAvailabilityDate"][:10]
        interval = f"{day}T00:00:00Z/{int(day[:4]) + 1}-01-05T00:00:00Z"
        assert await pages(client, await submit(client, interval), 10) == [[]]
        week = f"{day}T00:00:00.000Z/{_days_later(day)}"
        body = {"interval": week, "segmentFilters": [VOICE]}
        answer = await client.call("POST", f"{DETAILS}/query", json=body)
    assert answer.json["totalHits"] == 1
    assert answer.json["conversations"][0]["conversationId"] == CALL


def _days_later(day: str) -> str:
    from datetime import date, timedelta

    return f"{date.fromisoformat(day) + timedelta(days=3)}T00:00:00.000Z"


async def test_a_query_has_pages_by_number_and_no_list_when_there_is_nothing() -> None:
    """25 unless told otherwise, at most 100 and 31 days."""
    interval = "2026-01-05T00:00:00Z/2026-02-04T00:00:00Z"

    async with simulator(conversations=60) as sim, peer(sim) as client:

        async def ask(**body: Any) -> Answer:
            json = {"interval": interval} | body
            return await client.call("POST", f"{DETAILS}/query", json=json)

        first = (await ask()).json
        third = (await ask(paging={"pageSize": 25, "pageNumber": 3})).json
        behind = (await ask(paging={"pageSize": 25, "pageNumber": 4})).json
        assert (await ask(paging={"pageSize": 101, "pageNumber": 1})).status == 400
        assert (await ask(interval=ALL)).status == 400
    assert (len(first["conversations"]), first["totalHits"]) == (25, 60)
    assert len(third["conversations"]) == 10
    assert behind == {"totalHits": 60}


async def test_chats_are_left_out_by_a_filter_on_calls() -> None:
    """Without it they are found, with sessions of another medium."""
    async with simulator(conversations=40, chats=0.5) as sim, peer(sim) as client:
        voice = await pages(client, await submit(client, segmentFilters=[VOICE]), 100)
        everything = await pages(client, await submit(client), 100)
    assert 5 < len(voice[0]) < 35
    assert len(everything[0]) == 40


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid.value"),
        ({"interval": "yesterday"}, "invalid.date"),
        ({"interval": "2026-02-01T00:00:00Z/2026-01-01T00:00:00Z"}, "invalid.date"),
        (
            {
                "interval": ALL,
                "segmentFilters": [
                    {"type": "and", "predicates": [{"dimension": "wrapUpCode", "value": "x"}]}
                ],
            },
            "invalid.value",
        ),
    ],
)
async def test_a_query_that_cannot_be_meant_is_refused(body: dict[str, Any], code: str) -> None:
    """400 with the field's name."""
    async with simulator(conversations=1) as sim, peer(sim) as client:
        answer = await client.call("POST", f"{DETAILS}/jobs", json=body)
    assert (answer.status, answer.json["code"]) == (400, code)


async def test_jobs_belong_to_who_asked_and_need_the_permission() -> None:
    """403 for others and without it; 404 for none; 400 for a cursor of nowhere."""
    clients = [
        Client(id="a", secret="s"),
        Client(id="b", secret="s"),
        Client(id="c", secret="s", permissions=[]),
    ]
    async with Simulator("quiet", clients=clients) as sim, aiohttp.ClientSession() as session:
        client = Peer(sim, session)
        await client.sign_in("a", "s")
        job = await submit(client)
        bad = await client.call("GET", f"{DETAILS}/jobs/{job}/results?cursor=1.x")
        assert bad.status == 400
        assert (await client.call("GET", f"{DETAILS}/jobs/{CALL}")).status == 404
        for other in ("b", "c"):
            await client.sign_in(other, "s")
            assert (await client.call("GET", f"{DETAILS}/jobs/{job}")).status == 403
