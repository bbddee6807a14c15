"""The Notifications API: REST calls, sockets, and the events of the transcription topic."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from conformance.sim_peers import peer, receive, until_quiet
from steno_sim.channels import Limits
from steno_sim.oauth import Client, TokenService
from steno_sim.region import RegionSettings
from steno_sim.scenario import Call, Scenario, Turn
from steno_sim.server import Simulator
from steno_sim.wire import transcription_topic

CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
QUEUE = "c0ffee00-51b3-4b0e-8a44-0f6e2b7c9d01"
AGENT = "a9e47000-51b3-4b0e-8a44-0f6e2b7c9d01"
TOPIC = transcription_topic(CALL)
CHANNELS = "/api/v2/notifications/channels"
HEARTBEAT = {"topicName": "channel.metadata", "eventBody": {"message": "WebSocket Heartbeat"}}
PONG = {"topicName": "channel.metadata", "eventBody": {"message": "pong"}}


def talk(**options: Any) -> Scenario:
    turns = [
        Turn(who="agent", say=["Good morning.", "How can I help you today?"]),
        Turn(who="customer", say="Call me on {phone:415-555-0142} tomorrow.", leg=2),
    ]
    call = Call(id=CALL, turns=turns, queue=QUEUE, agent=AGENT)
    return Scenario(title="Talk", conversations=[call], **options)


async def close_code(ws: ClientConnection) -> int | None:
    async with asyncio.timeout(5):
        try:
            while True:
                await ws.recv()
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd is not None else None


async def say(ws: ClientConnection, message: dict[str, Any]) -> Any:
    await ws.send(json.dumps(message))
    return (await receive(ws, 1))[0]


async def test_a_channel_is_made_found_and_listed() -> None:
    """POST gives connectUri, id and expiry; HEAD and GET find it."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        channel = await client.channel()
        assert set(channel) == {"connectUri", "id", "expires"}
        assert channel["connectUri"] == f"ws://{sim.host}/channels/{channel['id']}"
        life = datetime.fromisoformat(channel["expires"]) - datetime.now(UTC)
        assert 86_300 < life.total_seconds() <= 86_400
        assert (await client.call("HEAD", f"{CHANNELS}/{channel['id']}")).status == 200
        assert (await client.call("HEAD", f"{CHANNELS}/nothing")).status == 404
        await client.sign_in()
        listed = await client.call("GET", f"{CHANNELS}?includechannels=token")
        assert listed.json["entities"] == []
        listed = await client.call("GET", f"{CHANNELS}?includechannels=oauthclient")
        assert [c["id"] for c in listed.json["entities"]] == [channel["id"]]


async def test_errors_have_the_platforms_body_and_headers() -> None:
    """message, code, status and contextId; a correlation id on every answer."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        path = f"{CHANNELS}/nothing/subscriptions"
        answer = await client.call("GET", path)
        assert answer.status == answer.json["status"] == 404
        assert answer.json["code"] == "not.found"
        assert answer.json["contextId"] == answer.headers["ININ-Correlation-Id"]
        missing = await client.call("GET", path, headers={})
        assert (missing.status, missing.json["code"]) == (401, "authentication.required")
        wrong = await client.call("GET", path, headers={"Authorization": "Bearer x"})
        assert (wrong.status, wrong.json["code"]) == (401, "bad.credentials")
        assert (await client.call("GET", "/api/v2/nonsense")).json["code"] == "not.found"


async def test_the_rate_limit_is_told_and_enforced() -> None:
    """inin-ratelimit headers on each call, 429 with Retry-After above the limit."""
    settings = RegionSettings(rate_limit=2, rate_window_s=1.0)
    async with Simulator("quiet", settings=settings) as sim, peer(sim) as client:
        first = await client.call("GET", "/api/v2/organizations/me")
        assert first.headers["inin-ratelimit-count"] == "1"
        assert first.headers["inin-ratelimit-allowed"] == "2"
        assert int(first.headers["inin-ratelimit-reset"]) == 1
        await client.call("GET", "/api/v2/organizations/me")
        third = await client.call("GET", "/api/v2/organizations/me")
        assert (third.status, third.json["code"]) == (429, "too.many.requests")
        assert int(third.headers["Retry-After"]) >= 1


async def test_subscriptions_over_rest() -> None:
    """Add, list, replace, remove; bad bodies and bad topics are refused."""
    other = transcription_topic("other")
    async with Simulator("quiet") as sim, peer(sim) as client:
        channel = await client.channel(TOPIC)
        path = f"{CHANNELS}/{channel['id']}/subscriptions"

        async def topics() -> list[str]:
            return [t["id"] for t in (await client.call("GET", path)).json["entities"]]

        assert await topics() == [TOPIC]
        added = await client.call("POST", path, json=[{"id": other}])
        assert added.json["entities"] == [{"id": other, "state": "Permitted"}]
        assert await topics() == [TOPIC, other]
        await client.call("PUT", path, json=[{"id": other}])
        assert await topics() == [other]
        bad = await client.call("POST", path, json=[{"id": "v2.bad"}])
        assert (bad.status, bad.json["code"]) == (400, "notification.invalid.topic")
        ignored = await client.call("POST", f"{path}?ignoreErrors=true", json=[{"id": "v2.bad"}])
        assert ignored.json["entities"][0]["state"] == "Rejected"
        assert (await client.call("POST", path, json={"id": TOPIC})).status == 400
        assert (await client.call("DELETE", path)).status == 200
        assert await topics() == []


async def test_more_than_1000_topics_are_refused() -> None:
    """The 1001st topic of a channel gets 400."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        channel = await client.channel(*[transcription_topic(f"c{n}") for n in range(1000)])
        path = f"{CHANNELS}/{channel['id']}/subscriptions"
        assert (await client.call("POST", path, json=[{"id": TOPIC}])).status == 400


async def test_available_topics_expand_as_asked() -> None:
    """Ids always, other facts where asked for."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        path = "/api/v2/notifications/availabletopics"
        plain = (await client.call("GET", path)).json["entities"]
        assert {"id": "v2.conversations.{id}.transcription"} in plain
        full = await client.call("GET", f"{path}?expand=requiresPermissions,description")
        facts = {t["id"]: t for t in full.json["entities"]}
        found = facts["v2.conversations.{id}.transcription"]
        assert found["requiresPermissions"] == ["conversation:transcription:view"]
        assert found["description"]


async def test_permissions_are_the_clients() -> None:
    """Without the permission: 403, or Rejected with its name; other calls refuse too."""
    clients = [Client(permissions=[])]
    async with Simulator("quiet", clients=clients) as sim, peer(sim) as client:
        channel = await client.channel()
        path = f"{CHANNELS}/{channel['id']}/subscriptions"
        refused = await client.call("POST", path, json=[{"id": TOPIC}])
        assert (refused.status, refused.json["code"]) == (403, "missing.permissions")
        ignored = await client.call("POST", f"{path}?ignoreErrors=true", json=[{"id": TOPIC}])
        entity = ignored.json["entities"][0]
        assert entity["missingPermissions"] == ["conversation:transcription:view"]
        settings = await client.call("GET", "/api/v2/routing/settings/transcription")
        assert settings.json["code"] == "missing.permissions"


async def test_events_of_a_conversation() -> None:
    """Sessions and utterances of both legs come in the schema of the topic."""
    async with (
        Simulator(talk(), speed=0, wait_for_sockets=1) as sim,
        peer(sim) as client,
    ):
        channel = await client.channel(TOPIC)
        async with client.listen(channel) as ws:
            await sim.finished()
            events = await until_quiet(ws)
        truth = sim.truth().conversations[0]
        plan = sim.world.script.plans[0]
    assert {e["topicName"] for e in events} == {TOPIC}
    assert all(e["version"] == "2" and e["metadata"]["CorrelationId"] for e in events)
    bodies = [e["eventBody"] for e in events]
    assert all(b["conversationId"] == CALL for b in bodies)
    assert all(isinstance(b["sessionStartTimeMs"], int) for b in bodies)
    legs = [b["communicationId"] for b in bodies]
    assert sorted(set(legs)) == sorted(plan.communications)
    statuses = [b["status"]["status"] for b in bodies if "transcripts" not in b]
    assert statuses == ["SESSION_ONGOING", "SESSION_ENDED"] * 2
    said = [t for b in bodies for t in b.get("transcripts", [])]
    finals = [t for t in said if t["isFinal"]]
    assert [t["utteranceId"] for t in finals] == [u.id for u in truth.utterances]
    assert len(said) > len(finals)
    assert [t["channel"] for t in finals] == ["INTERNAL", "EXTERNAL"]
    check_alternative(finals[1]["alternatives"][0])
    assert [u.topic for u in truth.utterances] == ["whole", "whole"]
    assert [u.stream for u in truth.utterances] == ["none", "none"]


def check_alternative(best: dict[str, Any]) -> None:
    """Displayed and spoken form, and words whose times fill the utterance."""
    assert best["decoratedTranscript"] == "Call me on 415-555-0142 tomorrow."
    digits = "four one five five five five zero one four two"
    assert best["transcript"] == f"call me on {digits} tomorrow"
    words = best["words"]
    assert " ".join(w["word"] for w in words) == best["transcript"]
    assert words[0]["offsetMs"] == best["offsetMs"]
    assert sum(w["durationMs"] for w in words) == best["durationMs"]
    assert len(best["decoratedWords"]) == 5


async def test_topics_can_carry_finals_only() -> None:
    """As published captures show it: no partials when the scenario says so."""
    scenario = talk(partials_on_topic=False)
    async with (
        Simulator(scenario, speed=0, wait_for_sockets=1) as sim,
        peer(sim) as client,
        client.listen(await client.channel(TOPIC)) as ws,
    ):
        await sim.finished()
        events = await until_quiet(ws)
    said = [t for e in events for t in e["eventBody"].get("transcripts", [])]
    assert [t["isFinal"] for t in said] == [True, True]
    assert all(u.delivered == "whole" for u in sim.truth().conversations[0].utterances)


async def test_queues_and_users_announce_conversations() -> None:
    """Start, answer and end come on queue and user topics, with participants and legs."""
    topics = [
        f"v2.routing.queues.{QUEUE}.conversations.calls",
        f"v2.users.{AGENT}.conversations",
    ]
    async with Simulator(talk(), speed=0, wait_for_sockets=1) as sim, peer(sim) as client:
        assert (await client.call("GET", f"/api/v2/conversations/{CALL}")).status == 404
        async with client.listen(await client.channel(*topics)) as ws:
            await sim.finished()
            events = await until_quiet(ws)
        rest = await client.call("GET", f"/api/v2/conversations/{CALL}")
        plan = sim.world.script.plans[0]
    for topic in topics:
        bodies = [e["eventBody"] for e in events if e["topicName"] == topic]
        assert [len(b["participants"]) for b in bodies] == [2, 3, 3, 3]
        assert {b["id"] for b in bodies} == {CALL}
        customer = bodies[0]["participants"][0]
        assert customer["purpose"] == "customer"
        assert [c["id"] for c in customer["calls"]] == plan.communications[:1]
        calls = bodies[2]["participants"][0]["calls"]
        assert [c["id"] for c in calls] == plan.communications
        assert [c["state"] for c in calls] == ["disconnected", "connected"]
        assert bodies[1]["participants"][2]["userId"] == AGENT
        assert all("endTime" in p for p in bodies[3]["participants"])
    assert rest.json["id"] == CALL
    assert rest.json["endTime"]


async def test_ping_and_heartbeat() -> None:
    """JSON ping gets JSON pong; heartbeats come by themselves."""
    settings = RegionSettings(heartbeat_s=0.2)
    async with (
        Simulator("quiet", settings=settings) as sim,
        peer(sim) as client,
        client.listen(await client.channel()) as ws,
    ):
        assert await say(ws, {"message": "ping"}) == PONG
        assert await receive(ws, 2, limit_s=2) == [HEARTBEAT, HEARTBEAT]


async def test_subscribing_over_the_socket() -> None:
    """Subscribe and unsubscribe are answered with result, status and the correlation id."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        channel = await client.channel()
        async with client.listen(channel) as ws:
            asked = {"message": "subscribe", "topics": [TOPIC], "correlationId": "x1"}
            assert await say(ws, asked) == {
                "result": "200",
                "status": "subscribed",
                "correlationId": "x1",
            }
            bad = await say(ws, {"message": "subscribe", "topics": ["v2.bad"]})
            assert bad["result"] == "400"
            path = f"{CHANNELS}/{channel['id']}/subscriptions"
            found = (await client.call("GET", path)).json["entities"]
            assert [t["id"] for t in found] == [TOPIC]
            gone = await say(ws, {"message": "unsubscribe", "topics": [TOPIC]})
            assert gone["status"] == "unsubscribed"
            assert (await client.call("GET", path)).json["entities"] == []
            await ws.send("nonsense")
            assert (await receive(ws, 1))[0]["result"] == "400"
            sim.tokens.revoke_all()
            assert (await say(ws, asked))["result"] == "404"


async def test_a_second_socket_ends_the_first() -> None:
    """One WebSocket a channel."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        channel = await client.channel()
        async with client.listen(channel) as one, client.listen(channel) as two:
            assert await close_code(one) == 1000
            assert await say(two, {"message": "ping"}) == PONG


async def test_an_unknown_channel_is_refused_at_the_upgrade() -> None:
    """404 before the upgrade."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        with pytest.raises(InvalidStatus) as caught:
            async with client.listen({"connectUri": f"{sim.ws_url}/channels/nothing"}):
                pass
        assert caught.value.response.status_code == 404


async def test_a_channel_ends_with_its_life() -> None:
    """After its (shortened) 24 hours the socket is closed and HEAD says 404."""
    settings = RegionSettings(limits=Limits(life_s=0.5))
    async with Simulator("quiet", settings=settings) as sim, peer(sim) as client:
        channel = await client.channel()
        async with client.listen(channel) as ws:
            assert await close_code(ws) == 1001
        assert (await client.call("HEAD", f"{CHANNELS}/{channel['id']}")).status == 404


async def test_the_21st_channel_evicts_the_oldest_idle_one() -> None:
    """A channel with a live socket stays, however old."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        live = await client.channel()
        async with client.listen(live):
            idle = await client.channel()
            for _ in range(19):
                await client.channel()
            assert (await client.call("HEAD", f"{CHANNELS}/{live['id']}")).status == 200
            assert (await client.call("HEAD", f"{CHANNELS}/{idle['id']}")).status == 404
        assert sim.stats()["regions"]["primary"]["channels_evicted"] == 1


async def test_the_closing_notice_comes_before_the_close() -> None:
    """v2.system.socket_closing, then 1001; the same connectUri is good afterwards."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        channel = await client.channel(TOPIC)
        async with client.listen(channel) as ws:
            sim.inject(kind="socket_closing", delay_s=0.2)
            notice = (await receive(ws, 1))[0]
            assert notice["topicName"] == "v2.system.socket_closing"
            assert await close_code(ws) == 1001
        async with client.listen(channel) as ws:
            assert await say(ws, {"message": "ping"}) == PONG


@pytest.mark.parametrize("kind", ["idle_close", "channel_expired"])
async def test_sockets_closed_on_demand(kind: str) -> None:
    """Both close with 1001; an expired channel is gone besides."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        channel = await client.channel()
        async with client.listen(channel) as ws:
            sim.inject(kind=kind)
            assert await close_code(ws) == 1001
        alive = (await client.call("HEAD", f"{CHANNELS}/{channel['id']}")).status
        assert alive == (200 if kind == "idle_close" else 404)


async def test_a_silent_peer_is_closed_as_idle() -> None:
    """A socket that says nothing for the idle time gets 1001."""
    settings = RegionSettings(idle_close_s=0.3)
    async with (
        Simulator("quiet", settings=settings) as sim,
        peer(sim) as client,
        client.listen(await client.channel()) as ws,
    ):
        assert await close_code(ws) == 1001


async def test_delivery_stops_when_the_token_ends_and_resumes_with_a_new_one() -> None:
    """The token behind a channel matters; subscribing with a fresh one binds it anew."""
    async with (
        Simulator(talk(), speed=0, wait_for_sockets=2, hold=False) as sim,
        peer(sim) as client,
    ):
        one, two = await client.channel(TOPIC), await client.channel(TOPIC)
        sim.tokens.revoke_all()
        await client.sign_in()
        path = f"{CHANNELS}/{two['id']}/subscriptions"
        assert (await client.call("PUT", path, json=[{"id": TOPIC}])).status == 200
        async with client.listen(one) as deaf, client.listen(two) as hears:
            await sim.finished()
            assert await until_quiet(hears)
            assert await until_quiet(deaf) == []


async def test_both_channels_of_a_rollover_hear_everything() -> None:
    """Overlapping channels each get every event: duplicates for the client to drop."""
    async with Simulator(talk(), speed=0, wait_for_sockets=2) as sim, peer(sim) as client:
        old, new = await client.channel(TOPIC), await client.channel(TOPIC)
        async with client.listen(old) as one, client.listen(new) as two:
            await sim.finished()
            first, second = await until_quiet(one), await until_quiet(two)
    assert [e["eventBody"] for e in first] == [e["eventBody"] for e in second]


async def test_both_families_hear_the_same_words() -> None:
    """The stream's finals and the topic's finals are the same texts."""
    async with Simulator("demo", speed=0, wait_for_sockets=2) as sim, peer(sim) as client:
        topics = [transcription_topic(p.id) for p in sim.world.script.plans]
        channel = await client.channel(*topics)
        async with client.stream() as stream, client.listen(channel) as events:
            await sim.finished()
            heard, told = await until_quiet(stream), await until_quiet(events)
    truth = sim.truth()
    texts = {u.text for c in truth.conversations for u in c.utterances}
    finals = {
        t["alternatives"][0]["decoratedTranscript"]
        for e in told
        for t in e["eventBody"].get("transcripts", [])
        if t["isFinal"]
    }
    assert finals == texts
    increments = {u.text for c in truth.conversations for u in c.utterances if u.mode != "growing"}
    assert {m["transcript"] for m in heard if m["isFinal"]} >= texts - increments
    assert all(u.stream == u.topic == "whole" for c in truth.conversations for u in c.utterances)
    assert "{" not in json.dumps([*texts])


async def test_organisation_and_settings() -> None:
    """Enough of the organisation for a health check of credentials."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        me = await client.call("GET", "/api/v2/organizations/me")
        assert uuid.UUID(me.json["id"])
        settings = await client.call("GET", "/api/v2/routing/settings/transcription")
        assert settings.json["transcription"] == "EnabledGlobally"


async def test_tokens_expire_by_themselves() -> None:
    """Past expires_in every call answers 401."""
    tokens = TokenService(expires_in_s=0.3)
    async with Simulator("quiet", tokens=tokens) as sim, peer(sim) as client:
        me = "/api/v2/organizations/me"
        assert (await client.call("GET", me)).status == 200

        async with asyncio.timeout(3):
            for _ in range(100):
                if (await client.call("GET", me)).status == 401:
                    return
                await asyncio.sleep(0.05)
    pytest.fail("the token never expired")
