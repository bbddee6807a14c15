"""The transcript stream and its side calls, seen by an independent WebSocket client."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from conformance.sim_peers import Peer, marks_of, peer, receive, until_quiet
from steno_sim.faults import Fault, Form
from steno_sim.oauth import Client, TokenService
from steno_sim.region import RegionSettings
from steno_sim.scenario import Call, Load, Scenario, Turn
from steno_sim.server import Simulator
from steno_sim.world import World

CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
KEYS = [
    "event",
    "conversationId",
    "participantId",
    "transcript",
    "confidence",
    "isFinal",
    "language",
    "timestamp",
]


def talk(count: int = 1, *, id_: str = CALL, say: str = "Good morning to you all.") -> Scenario:
    """One conversation of so many equal turns."""
    return Scenario(
        title="Talk",
        conversations=[Call(id=id_, turns=[Turn(who="customer", say=say)] * count)],
    )


def flood(count: int = 40, conversations: int = 2, rate: float = 0.0) -> Scenario:
    return Scenario(load=Load(conversations=conversations, fragments=count, rate=rate))


async def refusal(client: Peer, **options: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as caught:
        async with client.stream(**options):
            pass
    response = caught.value.response
    return response.status_code, json.loads(response.body or b"{}")


async def closed(ws: ClientConnection) -> int | None:
    """Give the close code with which a socket ends; None when the connection just broke."""
    async with asyncio.timeout(5):
        try:
            while True:
                await ws.recv()
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd is not None else None


async def test_messages_have_the_documented_shape() -> None:
    """Keys, order and types are the document's; the last fragment is the whole text."""
    async with (
        Simulator(talk(), speed=0, wait_for_sockets=1) as sim,
        peer(sim) as client,
        client.stream() as ws,
    ):
        assert ws.subprotocol == "v2"
        await sim.finished()
        messages = await until_quiet(ws)
    assert all(list(m) == KEYS for m in messages)
    last = messages[-1]
    assert last["event"] == "TRANSCRIPT_UPDATE"
    assert last["conversationId"] == CALL
    assert last["transcript"] == "Good morning to you all."
    assert last["isFinal"] is True
    assert 0 < last["confidence"] <= 1
    assert last["language"] == "en-US"
    assert datetime.fromisoformat(last["timestamp"]).microsecond != 0
    stamps = [m["timestamp"] for m in messages]
    assert stamps == sorted(set(stamps))


async def test_the_upgrade_is_refused_without_token_scope_or_subprotocol() -> None:
    """401, 403 and 400 come before the upgrade."""
    clients = [Client(), Client(id="poor", secret="x", scopes=["conversation:transcript:write"])]
    tokens = TokenService(clients, expires_in_s=3600)
    async with Simulator("quiet", tokens=tokens) as sim, peer(sim) as client:
        assert (await refusal(client, token="wrong"))[0] == 401
        status, body = await refusal(client, subprotocols=None)
        assert (status, body["status"]) == (400, 400)
        poor = await client.sign_in("poor", "x")
        status, body = await refusal(client, token=poor)
        assert (status, body["code"]) == (403, "missing.permissions")
        tokens.revoke_all()
        assert (await refusal(client))[0] == 401
        assert sim.stats()["regions"]["primary"]["refused_upgrades"] == 4


async def test_the_tutorial_token_call_is_answered() -> None:
    """POST with the grant in the query and Basic credentials, and the same as form."""
    async with Simulator("quiet") as sim, peer(sim, signed_in=False) as client:
        basic = {"Authorization": "Basic c3Rlbm8tZGVtbzpzdGVuby1kZW1vLXNlY3JldA=="}
        path = "/api/v2/oauth/token?grant_type=client_credentials"
        answer = await client.call("POST", path, headers=basic)
        assert answer.status == 200
        assert set(answer.json) >= {"access_token", "expires_in", "token_type"}
        wrong = await client.call("POST", path, headers={"Authorization": "Basic eDp5"})
        assert (wrong.status, wrong.json["error"]) == (401, "invalid_client")
        form = {
            "grant_type": "client_credentials",
            "client_id": "steno-demo",
            "client_secret": "steno-demo-secret",
        }
        assert (await client.call("POST", "/oauth/token", data=form)).status == 200
        stats = sim.stats()["regions"]["primary"]
        assert (stats["tokens_issued"], stats["tokens_refused"]) == (2, 1)


async def test_what_nobody_hears_is_missed() -> None:
    """No replay: the truth says what reached nobody, whole or in part."""
    async with Simulator(talk(2), speed=0) as sim:
        await sim.finished()
        stats = sim.stats()
        truth = sim.truth()
    assert stats["missed"] == stats["due"] == stats["fragments"] > 0
    assert [u.delivered for u in truth.conversations[0].utterances] == ["none", "none"]
    assert truth.sentences("none")[(CALL, truth.conversations[0].utterances[0].participant)]


async def test_held_speech_waits_for_a_listener() -> None:
    """With hold nothing is missed, however late the listener comes."""
    async with Simulator(flood(10), hold=True) as sim, peer(sim) as client:
        await asyncio.sleep(0.1)
        assert sim.stats()["due"] == 0
        async with client.stream() as ws:
            messages = await receive(ws, 20)
        await sim.wait_for(lambda: sim.stats()["finished"])
        assert len(set(marks_of(messages))) == 20
        assert sim.stats()["missed"] == 0


async def test_a_socket_gets_the_conversations_it_asked_for() -> None:
    """ConversationId filters; sockets without it share the rest, each on one socket."""
    scenario = flood(20, 4)
    async with Simulator(scenario, speed=0, wait_for_sockets=3) as sim, peer(sim) as client:
        asked = sim.world.script.plans[2].id
        async with client.stream(asked) as named, client.stream() as one, client.stream() as two:
            await sim.finished()
            got = [await until_quiet(ws) for ws in (named, one, two)]
    assert {m["conversationId"] for m in got[0]} == {asked}
    assert sum(map(len, got)) == 80
    ids = [{m["conversationId"] for m in g} for g in got]
    assert len(ids[1]) + len(ids[2]) == 3
    assert not ids[1] & ids[2]


async def test_pings_are_answered() -> None:
    """A ping's pong comes at once; a slow one when told to."""
    async with Simulator("quiet") as sim, peer(sim) as client, client.stream() as ws:
        await asyncio.wait_for(await ws.ping(), 2)
        sim.inject(kind="slow_pong", delay_s=0.3)
        waiter = await ws.ping()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiter), 0.1)
        await asyncio.wait_for(waiter, 2)
        assert sim.stats()["regions"]["primary"]["pings"] == 2


async def test_the_config_put_is_checked_recorded_and_reflected() -> None:
    """Bearer and scope, a body of the documented shape, 204; fragments take the language."""
    scenario = Scenario(
        reflect_config=True,
        conversations=[Call(id=CALL, turns=[Turn(who="agent", say="Guten Tag.")])],
    )
    clients = [Client(), Client(id="reader", secret="x", scopes=["conversation:transcript:read"])]
    path = f"/api/v2/conversations/{CALL}/transcription/config"
    body = {"languageCode": "de-DE", "autoDetect": False}
    async with (
        Simulator(scenario, speed=0, clients=clients, wait_for_sockets=1) as sim,
        peer(sim) as client,
    ):
        assert (await client.call("PUT", path, json=body, headers={})).status == 401
        assert (await client.call("PUT", path, json=body)).status == 204
        bad = await client.call("PUT", path, json={"autoDetect": 1})
        assert (bad.status, bad.json["code"]) == (400, "bad.request")
        assert (await client.call("PUT", path, data="x")).status == 415
        other = path.replace(CALL, "nobody")
        assert (await client.call("PUT", other, json=body)).json["code"] == "conversation.not.found"
        async with client.stream() as ws:
            await sim.finished()
            assert {m["language"] for m in await until_quiet(ws)} == {"de-DE"}
        await client.sign_in("reader", "x")
        assert (await client.call("PUT", path, json=body)).status == 403
        assert [c.languageCode for c in sim.region.configs] == ["de-DE"]


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 4401])
async def test_a_drop_closes_with_its_code(code: int) -> None:
    """The peer sees the close code that the fault names."""
    async with Simulator("quiet") as sim, peer(sim) as client, client.stream() as ws:
        sim.inject(kind="drop", code=code)
        assert await closed(ws) == code
        await sim.wait_for(lambda: not sim.region.sockets())


@pytest.mark.parametrize("reset", [False, True])
async def test_what_was_sent_before_a_drop_has_arrived(reset: bool) -> None:
    """Delivered means received, also when the connection is reset in mid-flood."""
    scenario = flood(300)
    async with Simulator(scenario, speed=0, wait_for_sockets=1) as sim, peer(sim) as client:
        sim.inject(kind="drop", after=100, reset=reset)
        async with client.stream() as ws:
            messages = await until_quiet(ws, quiet_s=2.0)
            with pytest.raises(ConnectionClosedError):
                await ws.recv()
        await sim.finished()
        stats = sim.stats()
    assert len(messages) == stats["delivered"] == 100
    assert stats["missed"] == 500


async def test_after_a_drop_the_next_socket_goes_on() -> None:
    """What falls due while away is missed, and nothing else."""
    async with Simulator(flood(100, rate=1000), wait_for_sockets=1) as sim, peer(sim) as client:
        sim.inject(kind="drop", after=50, code=1012)
        async with client.stream() as ws:
            first = await until_quiet(ws, quiet_s=1.0)
        async with client.stream() as ws:
            await sim.finished()
            second = await until_quiet(ws)
        stats = sim.stats(conversations=True)
    got = marks_of(first) + marks_of(second)
    assert len(set(got)) == len(got) == stats["delivered"]
    assert stats["delivered"] + stats["missed"] == 200
    assert sum(c["missed"] for c in stats["by_conversation"]) == stats["missed"] > 0


async def test_a_half_open_socket_says_nothing_at_all() -> None:
    """No frame, no pong, no close answer; when healed, it goes on."""
    scenario = flood(400, rate=2000)
    async with Simulator(scenario, wait_for_sockets=1) as sim, peer(sim) as client:
        async with client.stream() as ws:
            sim.inject(kind="silence", after=20, for_s=0.2)
            await sim.wait_for(lambda: bool(sim.region.faults.fired.get("silence")))
            waiter = await ws.ping()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(waiter), 0.1)
            await sim.finished()
            got = await until_quiet(ws)
        stats = sim.stats()
        assert stats["missed"] > 0
        assert len(got) == stats["delivered"] == 800 - stats["missed"]


async def test_a_half_open_socket_does_not_answer_a_close() -> None:
    """The peer's close handshake runs into its own limit."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        async with client.stream(close_timeout=0.2) as ws:
            sim.inject(kind="silence")
        assert ws.close_code == 1006
        await sim.wait_for(lambda: not sim.region.sockets())


async def test_upgrades_are_refused_so_many_times() -> None:
    """A refusal has a status and a number of uses, and spares other paths."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        sim.inject(kind="refuse", status=503, times=2)
        assert (await client.call("GET", "/api/v2/organizations/me")).status == 200
        assert [(await refusal(client))[0] for _ in range(2)] == [503, 503]
        async with client.stream():
            pass


async def test_answers_take_the_place_of_real_ones() -> None:
    """429 with Retry-After, 5xx, and bodies that are no JSON, by path and method."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        sim.inject(kind="answer", path="/oauth/*", status=429, retry_after_s=2, times=1)
        answer = await client.call("POST", "/oauth/token", data={})
        assert answer.headers["Retry-After"] == "2"
        assert (answer.status, answer.json["code"]) == (429, "too.many.requests")
        assert (await client.call("POST", "/oauth/token", data={})).status == 400
        sim.inject(kind="answer", path="/api/*", method="GET", status=502, body="<html>", times=1)
        answer = await client.call("GET", "/api/v2/organizations/me")
        assert (answer.status, answer.raw) == (502, b"<html>")
        sim.inject(kind="delay", path="*/me", delay_s=0.2)
        loop = asyncio.get_running_loop()
        since = loop.time()
        await client.call("GET", "/api/v2/organizations/me")
        assert loop.time() - since >= 0.2


async def test_tokens_that_end_close_the_stream_where_told_so() -> None:
    """With a close code set, a socket outlives its token by nothing."""
    settings = RegionSettings(token_end_code=4401)
    async with (
        Simulator("quiet", settings=settings) as sim,
        peer(sim) as client,
        client.stream() as ws,
    ):
        sim.inject(kind="expire_tokens")
        assert await closed(ws) == 4401
        assert (await refusal(client))[0] == 401


async def test_a_region_goes_down_and_comes_up_on_the_same_port() -> None:
    """Down: sockets reset, connections refused. Up: as before."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        port = sim.port
        async with client.stream() as ws:
            sim.inject(kind="region_down")
            assert await closed(ws) is None
        await sim.wait_for(lambda: sim._site is None)
        with pytest.raises(OSError, match=r"Connect|Multiple|refused"):
            async with client.stream():
                pass
        sim.inject(kind="region_up")
        await sim.wait_for(lambda: sim.region.up)
        assert sim.port == port
        async with client.stream():
            pass


async def test_a_region_that_accepts_and_hangs_up() -> None:
    """The other way to be down: connections are accepted and closed at once; it heals."""
    async with Simulator("quiet") as sim, peer(sim) as client:
        sim.inject(kind="region_down", mode="accept", for_s=0.4)
        await sim.wait_for(lambda: sim._hangup is not None)
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        assert await asyncio.wait_for(reader.read(), 2) == b""
        writer.close()
        await writer.wait_closed()
        await sim.wait_for(lambda: sim.region.up)
        await client.sign_in()


FORMS: tuple[Form, ...] = (
    "invalid_json",
    "truncated",
    "wrong_types",
    "missing_fields",
    "binary",
    "unknown_event",
    "array",
    "huge",
    "invalid_utf8",
)


@pytest.mark.parametrize("form", FORMS)
async def test_malformed_frames_come_beside_the_good_ones(form: Form) -> None:
    """A malformed frame is extra: the truth stays what it was."""
    async with (
        Simulator(flood(5), speed=0, wait_for_sockets=2) as sim,
        peer(sim) as client,
        client.stream(max_size=None) as ws,
    ):
        sim.inject(kind="malformed", form=form)
        async with asyncio.timeout(5):
            if form == "invalid_utf8":
                with pytest.raises(ConnectionClosedError):
                    await ws.recv()
                return
            odd = await ws.recv()
        assert isinstance(odd, bytes) == (form == "binary")
        if form in ("invalid_json", "truncated"):
            with pytest.raises(ValueError):
                json.loads(odd)
        assert (len(odd) > 1 << 20) == (form == "huge")
        async with client.stream():
            await sim.finished()
        assert sim.stats()["missed"] == 0


async def test_duplicates_and_swaps_on_demand() -> None:
    """The next fragments come twice, the next partial after its successor; none is lost."""
    async with (
        Simulator(flood(40, 1), speed=0, wait_for_sockets=1) as sim,
        peer(sim) as client,
    ):
        sim.inject(kind="duplicate", times=3)
        sim.inject(kind="reorder", times=2)
        async with client.stream() as ws:
            await sim.finished()
            got = marks_of(await until_quiet(ws))
    assert len(got) == 43
    assert set(got) == {f"c0f{n}" for n in range(40)}
    assert got[:2] == ["c0f1", "c0f0"]


async def test_two_regions_hear_one_world() -> None:
    """Primary down: what follows is heard by whoever connects to the backup."""
    async with (
        World(flood(200, rate=1000), wait_for_sockets=1) as world,
        Simulator(world=world, name="primary") as primary,
        Simulator(world=world, name="backup", tokens=primary.tokens) as backup,
        peer(primary) as client,
    ):
        other = Peer(backup, client.session)
        other.token = client.token  # the primary's token is good here: shared service
        primary.inject(kind="region_down", after=100)
        async with client.stream() as ws:
            first = marks_of(await until_quiet(ws, quiet_s=1.0))
        async with other.stream() as ws:
            await world.finished()
            second = marks_of(await until_quiet(ws))
        stats = world.stats()
    assert len(first) == 100
    assert second
    assert not set(first) & set(second)
    assert len(first) + len(second) == stats["delivered"]
    assert stats["regions"]["backup"]["sent"] == len(second)


async def test_a_token_of_another_region_is_not_valid() -> None:
    """Regions have OAuth services of their own unless they share one."""
    async with (
        World("quiet") as world,
        Simulator(world=world, name="primary") as primary,
        Simulator(world=world, name="backup") as backup,
        peer(primary) as client,
    ):
        assert (await refusal(Peer(backup, client.session), token=client.token))[0] == 401


async def test_a_healthy_socket_takes_over_from_a_half_open_one() -> None:
    """Make before break: once the second socket is there, nothing more is missed."""
    async with Simulator(flood(100, 1, rate=500), wait_for_sockets=1) as sim, peer(sim) as client:
        async with client.stream() as one:
            sim.inject(kind="silence", after=10)
            await sim.wait_for(lambda: sim.stats()["missed"] > 5)
            async with client.stream() as two:
                await sim.wait_for(lambda: len(sim.region.streams) == 2)
                missed = sim.stats()["missed"]
                await sim.finished()
                got = marks_of(await until_quiet(two))
            assert len(await until_quiet(one)) == 10
        assert sim.stats()["missed"] <= missed + 1
        assert len(got) + 10 == sim.stats()["delivered"]


async def test_a_scenario_brings_its_faults() -> None:
    """Faults of the file happen when its playback comes to them."""
    scenario = Scenario(
        load=Load(conversations=1, fragments=50, rate=0),
        faults=[Fault(kind="drop", after=5, code=1011)],
    )
    async with Simulator(scenario, speed=0, wait_for_sockets=1) as sim, peer(sim) as client:
        async with client.stream() as ws:
            assert len(await until_quiet(ws, quiet_s=1)) == 5
            assert ws.close_code == 1011
        assert sim.stats()["regions"]["primary"]["faults_fired"] == {"drop": 1}
