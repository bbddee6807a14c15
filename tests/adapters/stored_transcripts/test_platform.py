"""The real platform's shape: legs, the customer's first; not ready yet; permissions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from aiohttp import web

from conformance.fetch_rig import QUICK, FetchRig, all_of, fetch_rig, fetched
from conformance.link_server import LinkServer, StoreScript, link_server, transcript
from steno.core.stored import StoredShape
from steno.errors import AuthError, LocalProtocolError, ObjectMissing, RemoteProtocolError
from steno.ports.archive import FoundTranscript, Nothing, NoTranscript

DATA = transcript(200)
CALL = "/api/v2/conversations/c-1"
DETAILS = "/api/v2/analytics/conversations/c-1/details"
BASE = "/api/v2/speechandtextanalytics/conversations/c-1/communications/"
OLD = "2026-01-05T10:00:00.000Z"


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def conversation(*legs: tuple[str, str], ended: str | None = OLD) -> dict[str, object]:
    """Describe a conversation: purpose and communication id of each leg."""
    people = [
        {"id": f"p-{n}", "purpose": purpose, "calls": [{"id": leg, "state": "disconnected"}]}
        for n, (purpose, leg) in enumerate(legs)
    ]
    if ended is None:
        people[0]["calls"] = [{"id": legs[0][1], "state": "connected"}]
    return {"id": "c-1", "startTime": OLD, "endTime": ended, "participants": people}


class Platform:
    """Answers the platform's calls: what ``ready`` names has a transcript."""

    def __init__(self, server: LinkServer, told: object, *ready: str) -> None:
        self.server = server
        self.told = told
        self.ready = set(ready)
        self.paths: list[str] = []
        self.refused: dict[str, web.Response] = {}
        self.after: dict[int, Callable[[], None]] = {}
        server.answers = self.answer

    def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.paths.append(path.removeprefix(BASE))
        if (change := self.after.get(len(self.paths))) is not None:
            change()
        if path in self.refused:
            return self.refused[path]
        if path == CALL and self.told is not None:
            return web.json_response(self.told)
        leg, _, kind = path.removeprefix(BASE).partition("/")
        if not path.startswith(BASE) or leg not in self.ready:
            return web.json_response({"code": "not.found", "status": 404}, status=404)
        if kind == "transcripturl":
            return web.json_response({"url": self.server.link()})
        urls = [{"recording": {"id": f"r-{n}"}, "url": self.server.link()} for n in (1, 2)]
        return web.json_response({"communicationId": leg, "urls": urls})


LEGS = (("agent", "a-1"), ("customer", "k-1"), ("acd", "q-1"), ("external", "k-2"))


async def test_the_customers_legs_are_asked_and_no_others() -> None:
    """Several legs have several transcripts."""
    async with link_server(StoreScript(DATA)) as server, fetch_rig(server.host) as rig:
        platform = Platform(server, conversation(*LEGS), "k-1", "k-2", "a-1")
        found = await rig.platform.find("c-1")
        assert found == [
            FoundTranscript("c-1", "k-1", shape=StoredShape.PLATFORM),
            FoundTranscript("c-1", "k-2", shape=StoredShape.PLATFORM),
        ]
        assert [await fetched(rig.platform, one) for one in found] == [DATA, DATA]
    assert platform.paths == [CALL, "k-1/transcripturl", "k-2/transcripturl"]
    assert all("Authorization" not in seen for seen in server.stored)


async def test_other_legs_are_asked_where_no_customer_has_one() -> None:
    """In their order."""
    async with link_server(StoreScript(DATA)) as server, fetch_rig(server.host) as rig:
        platform = Platform(server, conversation(*LEGS), "a-1")
        found = await rig.platform.find("c-1")
        assert not isinstance(found, NoTranscript)
        assert [one.communication for one in found] == ["a-1"]
    asked = [path.partition("/")[0] for path in platform.paths[1:]]
    assert asked == ["k-1", "k-2", "a-1", "q-1"]


async def test_transcripts_by_recording_come_one_for_each() -> None:
    """Each with a link of its own, which is found again when it has ended."""
    script = StoreScript(DATA, etag='"t"', link_bytes=len(DATA) // 2 + 1)
    async with link_server(script) as server, fetch_rig(server.host) as rig:
        platform = Platform(server, conversation(*LEGS), "k-1")
        found = await rig.by_recording.find("c-1")
        assert not isinstance(found, NoTranscript)
        assert [(one.communication, one.recording) for one in found] == [
            ("k-1", "r-1"),
            ("k-1", "r-2"),
        ]
        assert [await fetched(rig.by_recording, one) for one in found] == [DATA, DATA]
        assert server.sent == 2 * len(DATA)
    assert platform.paths.count("k-1/transcripturls") == 3


async def test_a_conversation_that_ended_long_ago_is_not_waited_for() -> None:
    """Its transcript would be there."""
    async with link_server(StoreScript(DATA)) as server, fetch_rig(server.host) as rig:
        platform = Platform(server, conversation(*LEGS))
        assert await rig.platform.find("c-1") == NoTranscript("c-1", Nothing.MISSING)
        assert platform.paths.count(CALL) == 1


@pytest.mark.parametrize("ended", [None, "now"])
async def test_one_that_has_just_ended_or_goes_on_is_waited_for(ended: str | None) -> None:
    """A transcript comes a minute or two after the end."""
    ended = ago(5.0) if ended else None
    async with link_server(StoreScript(DATA)) as server, fetch_rig(server.host) as rig:
        platform = Platform(server, conversation(("customer", "k-1"), ended=ended))
        platform.after[6] = lambda: platform.ready.add("k-1")
        assert await all_of(rig.platform, "c-1") == [DATA]
        assert platform.paths.count(CALL) == 3


@pytest.mark.parametrize(("ended", "why"), [(None, Nothing.IN_WORK), ("now", Nothing.MISSING)])
async def test_waiting_has_an_end(ended: str | None, why: Nothing) -> None:
    """One that goes on is in work, one that is over has none."""
    ended = ago(5.0) if ended else None
    async with link_server(StoreScript(DATA)) as server, fetch_rig(server.host) as rig:
        platform = Platform(server, conversation(("customer", "k-1"), ended=ended))
        assert await rig.platform.find("c-1") == NoTranscript("c-1", why)
        # At most as often as the limit has waits, however long each call takes.
        assert 1 < platform.paths.count(CALL) <= 1 + QUICK.poll_limit_s / QUICK.poll_s


async def test_a_setting_makes_it_wait_for_old_ones_too() -> None:
    """``missing_s``."""
    limits = msgspec.structs.replace(QUICK, missing_s=0.3)
    async with (
        link_server(StoreScript(DATA)) as server,
        fetch_rig(server.host, limits=limits) as rig,
    ):
        platform = Platform(server, conversation(("customer", "k-1")))
        platform.after[4] = lambda: platform.ready.add("k-1")
        assert await all_of(rig.platform, "c-1") == [DATA]


async def test_the_second_leg_of_one_just_ended_is_waited_for() -> None:
    """And if it never comes, the first is what there is."""
    async with link_server(StoreScript(DATA)) as server, fetch_rig(server.host) as rig:
        told = conversation(("customer", "k-1"), ("customer", "k-2"), ended=ago(5.0))
        platform = Platform(server, told, "k-1")
        platform.after[5] = lambda: platform.ready.add("k-2")
        assert len(await all_of(rig.platform, "c-1")) == 2
        platform = Platform(server, told, "k-1")
        assert len(await all_of(rig.platform, "c-1")) == 1


async def test_analytics_is_asked_for_conversations_that_are_gone() -> None:
    """Sessions with voice are the legs."""
    sessions = [
        {"purpose": "agent", "sessions": [{"sessionId": "a-1", "mediaType": "voice"}]},
        {
            "purpose": "customer",
            "sessions": [
                {"sessionId": "k-0", "mediaType": "chat"},
                {"sessionId": "k-1", "mediaType": "voice"},
            ],
        },
    ]
    details = {"conversationId": "c-1", "conversationEnd": OLD, "participants": sessions}
    for gone in (web.Response(status=404), web.Response(status=403)):
        async with link_server(StoreScript(DATA)) as server, fetch_rig(server.host) as rig:
            platform = Platform(server, None, "k-1")
            platform.refused = {CALL: gone, DETAILS: web.json_response(details)}
            assert await all_of(rig.platform, "c-1") == [DATA]
            assert platform.paths == [CALL, DETAILS, "k-1/transcripturl"]


async def test_a_conversation_that_nobody_knows_is_missing() -> None:
    """Neither call does."""
    async with link_server(StoreScript(DATA)) as server, fetch_rig(server.host) as rig:
        platform = Platform(server, None)
        assert await rig.platform.find("c-1") == NoTranscript("c-1", Nothing.MISSING)
        assert platform.paths == [CALL, DETAILS]


def forbidden(permissions: str = "") -> web.Response:
    told = {"code": "missing.permissions", "messageParams": {"permissions": permissions}}
    return web.json_response(told, status=403)


async def refusal(rig: FetchRig, *, by_recording: bool = False) -> str:
    with pytest.raises(AuthError) as caught:
        await (rig.by_recording if by_recording else rig.platform).find("c-1")
    return str(caught.value)


async def test_refusals_name_the_permissions() -> None:
    """Those that the platform names, else those that the call takes."""
    async with link_server(StoreScript(DATA)) as server, fetch_rig(server.host) as rig:
        platform = Platform(server, conversation(*LEGS))
        platform.refused = {f"{BASE}k-1/transcripturl": forbidden()}
        told = await refusal(rig)
        assert "recording:recording:view" in told
        assert "speechAndTextAnalytics:data:view" in told
        platform.refused = {f"{BASE}k-1/transcripturl": forbidden("[a:b:view]")}
        assert "a:b:view" in await refusal(rig)
        platform.refused = {f"{BASE}k-1/transcripturls": forbidden()}
        assert "recording:recordingSegment:view" in await refusal(rig, by_recording=True)
    async with link_server(StoreScript(DATA)) as server, fetch_rig(server.host) as rig:
        platform = Platform(server, None)
        platform.refused = {CALL: forbidden(), DETAILS: forbidden()}
        told = await refusal(rig)
        assert "conversation:communication:view" in told
        assert "analytics:conversationDetail:view" in told


async def test_a_transcript_that_is_withdrawn_is_missing_when_it_is_wanted() -> None:
    """``download`` asks for a link of its own where none is at hand."""
    async with link_server(StoreScript(DATA)) as server, fetch_rig(server.host) as rig:
        platform = Platform(server, conversation(*LEGS), "k-1")
        found = FoundTranscript("c-1", "k-1", shape=StoredShape.PLATFORM)
        assert await fetched(rig.platform, found) == DATA
        platform.ready.clear()
        with pytest.raises(ObjectMissing):
            await fetched(rig.platform, found)


@pytest.mark.parametrize("body", [{}, {"url": 7}, {"url": ""}, {"url": "x" * 20_000}, []])
async def test_an_answer_without_a_link_is_the_platforms_fault(body: object) -> None:
    """Nothing of it is quoted."""
    async with link_server(StoreScript(DATA)) as server, fetch_rig(server.host) as rig:
        platform = Platform(server, conversation(*LEGS))
        platform.refused = {f"{BASE}k-1/transcripturl": web.json_response(body)}
        with pytest.raises(RemoteProtocolError):
            await rig.platform.find("c-1")


async def test_what_is_no_id_is_not_asked_for() -> None:
    """It would bend the address."""
    async with link_server(StoreScript(DATA)) as server, fetch_rig(server.host) as rig:
        with pytest.raises(LocalProtocolError):
            await rig.platform.find("../x")
        assert not server.asked


async def test_one_that_is_cancelled_leaves_nothing_behind() -> None:
    """In the middle of a wait."""
    async with link_server(StoreScript(DATA)) as server, fetch_rig(server.host) as rig:
        Platform(server, conversation(("customer", "k-1"), ended=None))
        finding = asyncio.create_task(_find(rig))
        await asyncio.sleep(0.05)
        finding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await finding


async def _find(rig: FetchRig) -> None:
    await rig.platform.find("c-1")
