"""The event socket, seen by an independent WebSocket client."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from conformance.sim_peers import SEGMENTS, Peer, peer, receive, until_quiet
from steno_sim.faults import Fault, Form
from steno_sim.oauth import ALL_SCOPES, Client, TokenService
from steno_sim.region import RegionSettings
from steno_sim.scenario import Call, Diarisation, Load, Scenario, Style, Turn
from steno_sim.server import Simulator
from steno_sim.wire import EventForm

CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
PATH = "/api/v2/websocket"


def talk(**options: Any) -> Scenario:
    turns = [
        Turn(who="agent", say="Good morning, how can I help you today?"),
        Turn(who="customer", say="My parcel has not come."),
    ]
    return Scenario(conversations=[Call(id=CALL, turns=turns)], **options)


def flood(count: int = 40, conversations: int = 2, rate: float = 0.0) -> Scenario:
    return Scenario(load=Load(conversations=conversations, fragments=count, rate=rate))


async def refusal(client: Peer, **options: Any) -> InvalidStatus:
    with pytest.raises(InvalidStatus) as caught:
        async with client.events(**options):
            pass
    return caught.value


def said(messages: list[Any]) -> list[dict[str, Any]]:
    """Give the transcripts of events, each with its conversation."""
    bodies = [m.get("data", m) for m in messages]
    return [t | {"in": b["conversationId"]} for b in bodies for t in b["transcripts"]]


async def close_code(ws: ClientConnection) -> int | None:
    async with asyncio.timeout(5):
        try:
            while True:
                await ws.recv()
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd is not None else None


async def test_events_have_the_documented_shape() -> None:
    """Wrapped, with the document's keys; times from the start of the conversation."""
    async with (
        Simulator(talk(lead_in_s=1.0), speed=0, wait_for_sockets=1) as sim,
        peer(sim) as client,
        client.events() as ws,
    ):
        await sim.finished()
        messages = await until_quiet(ws)
    assert {m["type"] for m in messages} == {SEGMENTS}
    assert all(list(m["data"]) == ["eventType", "conversationId", "transcripts"] for m in messages)
    assert {m["data"]["eventType"] for m in messages} == {SEGMENTS}
    found = said(messages)
    assert all(
        list(t) == ["speaker", "text", "start", "end", "confidence", "isFinal", "in"] for t in found
    )
    finals = [t for t in found if t["isFinal"]]
    assert [t["speaker"] for t in finals] == ["speaker_0", "speaker_1"]
    assert [t["text"] for t in finals] == [u.text for u in sim.truth().conversations[0].utterances]
    start, words = 1.0 + 0.6 + 0.002, 8
    assert (finals[0]["start"], finals[0]["end"]) == (
        start,
        pytest.approx(start + words / 2.6, abs=0.001),
    )
    assert finals[1]["start"] >= finals[0]["end"]


async def test_partials_grow_into_their_final() -> None:
    """Each partial says more than the one before, from the same start, and the final all."""
    async with (
        Simulator(talk(style=Style(piece_words=(1, 2))), speed=0, wait_for_sockets=1) as sim,
        peer(sim) as client,
        client.events() as ws,
    ):
        await sim.finished()
        found = [t for t in said(await until_quiet(ws)) if t["speaker"] == "speaker_0"]
    assert len(found) > 3
    assert [t["isFinal"] for t in found] == [False] * (len(found) - 1) + [True]
    assert len({t["start"] for t in found}) == 1
    for one, two in itertools.pairwise(found):
        assert two["text"].startswith(one["text"])
        assert two["end"] > one["end"]


async def test_bounds_of_partials_wander_and_finals_are_right() -> None:
    """Partial bounds are off by up to wander_s; those of finals never are."""
    scenario = talk(diarisation=Diarisation(wander_s=0.2), style=Style(piece_words=(1, 1)))
    async with (
        Simulator(scenario, speed=0, wait_for_sockets=1) as sim,
        peer(sim) as client,
        client.events() as ws,
    ):
        await sim.finished()
        found = said(await until_quiet(ws))
        truth = sim.truth().conversations[0].segments
    for segment in truth:
        mine = [t for t in found if t["speaker"] == segment.speaker]
        assert (mine[-1]["start"], mine[-1]["end"]) == (segment.start_s, segment.end_s)
        offs = {round(t["start"] - segment.start_s, 3) for t in mine[:-1]}
        assert len(offs) > 1
        assert all(abs(off) <= 0.2 for off in offs)


async def test_the_upgrade_needs_a_live_token_in_the_header_with_the_scope() -> None:
    """401 and 403 with the platform's error body and correlation id."""
    poor = [s for s in ALL_SCOPES if s != "websocket:connect"]
    tokens = TokenService([Client(), Client(id="poor", secret="x", scopes=poor)])
    async with Simulator("quiet", tokens=tokens) as sim, peer(sim) as client:
        for token, code in (("", "authentication.required"), ("wrong", "bad.credentials")):
            response = (await refusal(client, token=token)).response
            body = json.loads(response.body or b"")
            assert (response.status_code, body["status"], body["code"]) == (401, 401, code)
            assert body["contextId"] == response.headers["ININ-Correlation-Id"]
        query = await client.call("GET", f"{PATH}?access_token={client.token}", headers={})
        assert query.status == 401
        response = (await refusal(client, token=await client.sign_in("poor", "x"))).response
        assert response.status_code == 403
        assert json.loads(response.body or b"")["code"] == "missing.permissions"
        await client.sign_in()
        tokens.revoke_all()
        assert (await refusal(client)).response.status_code == 401


async def test_too_many_upgrades_get_429() -> None:
    """By the region's limit and by a fault, each with Retry-After."""
    settings = RegionSettings(event_upgrades=2, rate_window_s=30.0)
    async with Simulator("quiet", settings=settings) as sim, peer(sim) as client:
        sim.inject(kind="refuse", status=429, retry_after_s=7)
        response = (await refusal(client)).response
        assert (response.status_code, response.headers["Retry-After"]) == (429, "7")
        for _ in range(2):
            async with client.events():
                pass
        response = (await refusal(client)).response
        assert response.status_code == 429
        assert 1 <= int(response.headers["Retry-After"]) <= 30
        assert sim.stats()["regions"]["primary"]["refused_upgrades"] == 2


async def ask(ws: ClientConnection, message: Any) -> Any:
    await ws.send(message if isinstance(message, str) else json.dumps(message))
    return (await receive(ws, 1))[0]


async def test_subscriptions_are_answered() -> None:
    """Subscribed, or an error with status, code, message and contextId; never a close."""
    scopes = [s for s in ALL_SCOPES if s != "conversation:transcript:read"]
    clients = [Client(), Client(id="deaf", secret="x", scopes=scopes)]
    asked = {"type": "subscribe", "events": [SEGMENTS]}
    async with Simulator("quiet", clients=clients) as sim, peer(sim) as client:
        async with client.events(subscribe=False) as ws:
            assert (await ask(ws, asked | {"events": ["other"]}))["status"] == 400
            assert (await ask(ws, "nonsense"))["code"] == "bad.request"
            assert (await ask(ws, {"type": "dance"}))["status"] == 400
            assert await ask(ws, {"type": "ping"}) == {"type": "pong"}
            both = asked | {"events": [SEGMENTS, "other"]}
            assert await ask(ws, both) == {"type": "subscribed", "events": [SEGMENTS]}
            sim.inject(kind="deny", times=1)
            denied = await ask(ws, asked)
            assert denied["type"] == "error"
            assert (denied["status"], denied["code"]) == (403, "missing.permissions")
            assert denied["message"]
            assert denied["contextId"]
            sim.inject(kind="deny", status=429)
            assert (await ask(ws, asked))["code"] == "too.many.requests"
            sim.tokens.revoke_all()
            assert (await ask(ws, asked))["status"] == 401
        await client.sign_in("deaf", "x")
        async with client.events(subscribe=False) as ws:
            assert (await ask(ws, asked))["status"] == 403


async def test_events_need_a_subscription_unless_the_region_is_set_so() -> None:
    """Who did not subscribe hears nothing; play waits for a subscription, not a socket."""
    async with (
        Simulator(talk(), speed=0, wait_for_sockets=1) as sim,
        peer(sim) as client,
        client.events(subscribe=False) as deaf,
    ):
        assert await until_quiet(deaf, quiet_s=0.1) == []
        assert not sim.stats()["begun"]
        async with client.events() as ws:
            await sim.finished()
            assert await until_quiet(ws)
        assert await until_quiet(deaf, quiet_s=0.1) == []
    settings = RegionSettings(events_unasked=True)
    async with (
        Simulator(talk(), speed=0, wait_for_sockets=1, settings=settings) as sim,
        peer(sim) as client,
        client.events(subscribe=False) as ws,
    ):
        await sim.finished()
        assert await until_quiet(ws)


async def test_unsubscribing_stops_events() -> None:
    """The socket stays, the events do not."""
    async with (
        Simulator("demo", speed=50, wait_for_sockets=1) as sim,
        peer(sim) as client,
        client.events() as ws,
    ):
        await receive(ws, 3)
        await ws.send(json.dumps({"type": "unsubscribe", "events": [SEGMENTS]}))
        answers = await until_quiet(ws)
        assert answers[-1] == {"type": "unsubscribed", "events": [SEGMENTS]}
        assert sim.stats()["missed"]


@pytest.mark.parametrize("form", ["wrapped", "bare", "mixed"])
async def test_events_are_wrapped_or_bare(form: EventForm) -> None:
    """By the region's setting; the words are the same."""
    settings = RegionSettings(event_form=form)
    async with (
        Simulator(flood(20, 1), speed=0, wait_for_sockets=1, settings=settings) as sim,
        peer(sim) as client,
        client.events() as ws,
    ):
        await sim.finished()
        messages = await until_quiet(ws)
    wrapped = sum("data" in m for m in messages)
    assert wrapped == {"wrapped": 20, "bare": 0, "mixed": 10}[form]
    assert len(said(messages)) == 20


async def test_every_socket_gets_what_it_asked_for() -> None:
    """Every subscribed socket gets every event; conversationId limits them."""
    async with Simulator(flood(20, 3), speed=0, wait_for_sockets=3) as sim, peer(sim) as client:
        asked = sim.world.script.plans[1].id
        async with client.events() as one, client.events() as two, client.events(asked) as few:
            await sim.finished()
            got = [said(await until_quiet(ws)) for ws in (one, two, few)]
    assert got[0] == got[1]
    assert len(got[0]) == 60
    assert got[2] == [t for t in got[0] if t["in"] == asked]


async def test_a_token_that_ended_does_not_close_the_socket_unless_told_so() -> None:
    """Renewal is for the next connection; a region may be strict all the same."""
    tokens = TokenService(expires_in_s=0.2)
    async with (
        Simulator("quiet", tokens=tokens) as sim,
        peer(sim) as client,
        client.events() as ws,
    ):
        await asyncio.sleep(0.4)
        assert (await refusal(client)).response.status_code == 401
        await asyncio.wait_for(await ws.ping(), 2)
        assert await ask(ws, {"type": "ping"}) == {"type": "pong"}
    settings = RegionSettings(token_end_code=4401)
    async with (
        Simulator("quiet", settings=settings) as sim,
        peer(sim) as client,
        client.events() as ws,
    ):
        sim.tokens.revoke_all()
        assert await close_code(ws) == 4401


async def test_the_ledger_counts_events() -> None:
    """Due, delivered and missed, by fragment and by segment, across a reconnection."""
    async with Simulator(flood(100, rate=1000), wait_for_sockets=1) as sim, peer(sim) as client:
        sim.inject(kind="drop", after=50, code=1012, target="event")
        async with client.events() as ws:
            first = said(await until_quiet(ws, quiet_s=1.0))
            assert ws.close_code == 1012
        await sim.wait_for(lambda: sim.stats()["missed"] >= 40)
        async with client.events() as ws:
            await sim.finished()
            second = said(await until_quiet(ws))
        stats, truth = sim.stats(), sim.truth()
    assert len(first) == 50
    assert len(first) + len(second) == stats["delivered"]
    assert stats["delivered"] + stats["missed"] == 200
    finals = {(t["in"], t["start"]) for t in first + second if t["isFinal"]}
    told = {(c.id, s.start_s) for c in truth.conversations for s in c.segments if s.known("event")}
    assert finals == told
    assert {u.event for c in truth.conversations for u in c.utterances} >= {"whole", "none"}


async def test_duplicates_and_swaps_on_demand() -> None:
    """The next events come twice, the next partial after its successor; none is lost."""
    async with Simulator(flood(40, 1), speed=0, wait_for_sockets=1) as sim, peer(sim) as client:
        sim.inject(kind="duplicate", times=3)
        sim.inject(kind="reorder", times=2)
        async with client.events() as ws:
            await sim.finished()
            texts = [t["text"] for t in said(await until_quiet(ws))]
    assert (len(texts), len(set(texts))) == (43, 40)
    assert texts[0].startswith(texts[1])


async def test_silence_swallows_events_and_heals() -> None:
    """Half-open: what falls due is missed."""
    async with Simulator(flood(400, rate=2000), wait_for_sockets=1) as sim, peer(sim) as client:
        async with client.events() as ws:
            sim.inject(kind="silence", after=20, for_s=0.1, target="event")
            await sim.finished()
            got = said(await until_quiet(ws))
        stats = sim.stats()
    assert stats["missed"] > 0
    assert len(got) == stats["delivered"] == 800 - stats["missed"]


async def test_a_region_that_goes_down_takes_the_socket_with_it() -> None:
    """Reset; up again, a new socket is served."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        async with client.events() as ws:
            sim.inject(kind="region_down", for_s=0.2)
            assert await close_code(ws) is None
        await sim.wait_for(lambda: sim.region.up and sim._site is not None)
        async with client.events():
            pass


FORMS: tuple[Form, ...] = (
    "invalid_json",
    "truncated",
    "wrong_types",
    "missing_fields",
    "binary",
    "unknown_event",
    "array",
    "huge",
    "bad_times",
)


@pytest.mark.parametrize("form", FORMS)
async def test_malformed_frames_come_beside_the_good_ones(form: Form) -> None:
    """Extra frames, none of which is a good event; the truth stays what it was."""
    async with (
        Simulator("quiet") as sim,
        peer(sim) as client,
        client.events(max_size=None) as ws,
    ):
        sim.inject(kind="malformed", form=form, target="event")
        async with asyncio.timeout(5):
            odd = await ws.recv()
    assert isinstance(odd, bytes) == (form == "binary")
    assert (len(odd) > 1 << 20) == (form == "huge")
    if form in ("invalid_json", "truncated"):
        with pytest.raises(ValueError):
            json.loads(odd)
    if form == "bad_times":
        found = said([json.loads(odd)])[0]
        assert found["end"] < found["start"]
    assert sim.stats()["fragments"] == 0


async def test_speech_waits_for_a_listener_where_told_to() -> None:
    """With hold nothing is missed, however late the subscription comes."""
    async with Simulator(flood(10), hold=True) as sim, peer(sim) as client:
        async with client.events(subscribe=False):
            await asyncio.sleep(0.1)
            assert sim.stats()["due"] == 0
        async with client.events() as ws:
            assert len(said(await receive(ws, 20))) == 20


def test_denials_have_a_status_of_their_own() -> None:
    """A refusal's status is 403 for subscriptions and 503 for upgrades, unless given."""
    assert Fault(kind="deny").refusal == 403
    assert Fault(kind="refuse").refusal == 503
    assert Fault(kind="deny", status=401).refusal == 401
