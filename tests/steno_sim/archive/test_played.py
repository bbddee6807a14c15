"""Conversations that were played live have a transcript of exactly what was said."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from conformance.sim_peers import Peer, peer
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.scenario import Call, Load, Scenario, Turn
from steno_sim.server import Simulator
from steno_sim.wire import transcription_topic

CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
TURNS = [
    Turn(who="ivr", say="Please hold the line."),
    Turn(who="customer", say="My number is {phone:415-555-0142}, thanks."),
    Turn(who="agent", say="Hello, this is Anna. How can I help you?"),
    Turn(who="customer", say="I need two tickets for Friday."),
    Turn(who="agent", say="Hello, this is Ben.", agent="ben", leg=2),
    Turn(who="customer", say="The same as before, please.", leg=2),
]
SCENARIO = Scenario(conversations=[Call(id=CALL, agent="anna", turns=TURNS)])
READY = ArchiveSettings(ready_s=0)


async def finals(client: Peer, ws: Any, count: int) -> list[dict[str, Any]]:
    """Collect the bodies of so many finals from a channel's socket."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            body = json.loads(await ws.recv())["eventBody"]
            if any(t["isFinal"] for t in body.get("transcripts", [])):
                found.append(body)
    return found


async def files(client: Peer, conversation: str) -> list[dict[str, Any]]:
    """Download the files of all the customer's calls."""
    told = (await client.call("GET", f"/api/v2/conversations/{conversation}")).json
    customer = next(p for p in told["participants"] if p["purpose"] == "customer")
    found = []
    for call in customer["calls"]:
        path = f"/api/v2/speechandtextanalytics/conversations/{conversation}"
        answer = await client.call("GET", f"{path}/communications/{call['id']}/transcripturl")
        async with client.session.get(answer.json["url"]) as response:
            found.append(await response.json())
    return found


@pytest.mark.parametrize("speed", [100.0, 0.0])
async def test_the_platforms_files_equal_what_was_told_live(speed: float) -> None:
    """Texts, confidences and moments of every final, by call, whatever the speed."""
    async with (
        Simulator(SCENARIO, speed=speed, wait_for_sockets=1, archive=READY) as sim,
        peer(sim) as client,
    ):
        channel = await client.channel(transcription_topic(CALL))
        async with client.listen(channel) as ws:
            live = await finals(client, ws, len(TURNS))
            await sim.finished()
        stored = await files(client, CALL)
        truth = sim.archive.truth(CALL, "platform")
    assert len(stored) == 2
    for file in stored:
        mine = [b for b in live if b["communicationId"] == file["communicationId"]]
        phrases = file["transcripts"][0]["phrases"]
        assert len(phrases) == len(mine) > 1
        for body, phrase in zip(mine, phrases, strict=True):
            best = body["transcripts"][0]["alternatives"][0]
            assert file["startTime"] == body["sessionStartTimeMs"]
            assert phrase["decoratedText"] == best["decoratedTranscript"]
            assert phrase["text"] == best["transcript"]
            assert phrase["confidence"] == best["confidence"]
            assert phrase["offset"]["milliseconds"] == best["offsetMs"]
            assert phrase["duration"]["milliseconds"] == best["durationMs"]
    ids = {b["transcripts"][0]["utteranceId"] for b in live}
    assert {turn.id for each in truth for turn in each.turns} == ids


async def test_the_document_has_all_of_it_with_who_said_it() -> None:
    """Menu, customer and two agents, and the planted number among what was said."""
    settings = ArchiveSettings(ready_s=0, ids=True)
    async with Simulator(SCENARIO, speed=0, archive=settings) as sim, peer(sim) as client:
        await sim.finished()
        path = f"/api/v2/conversations/media/{CALL}/transcripts"
        told = (await client.call("GET", path)).json
        truth = sim.truth(CALL).conversations[0]
        stored = sim.archive.truth(CALL)[0]
    roles = {p["id"]: p["role"] for p in told["participants"]}
    assert sorted(roles.values()) == ["agent", "agent", "customer", "system"]
    turns = told["transcript"]
    assert [t["utteranceId"] for t in turns] == [u.id for u in truth.utterances]
    assert [t["speaker_id"] for t in turns] == [s.participant for s in truth.segments]
    assert [roles[t["speaker_id"]] for t in turns][:3] == ["system", "customer", "agent"]
    for turn, segment in zip(turns, truth.segments, strict=True):
        final = segment.versions[-1]
        assert turn["text"] == final.text
        assert turn["start_time"] == pytest.approx(final.start_s, abs=0.0006)
        assert turn["end_time"] == pytest.approx(final.end_s, abs=0.0006)
    assert [s.text for t in stored.turns for s in t.secrets] == ["415-555-0142"]
    assert stored.live


async def test_a_transcript_comes_some_time_after_the_end() -> None:
    """404 before the beginning, queued while it lasts, then in work until it is ready."""
    settings = ArchiveSettings(ready_s=0.3)
    path = f"/api/v2/conversations/media/{CALL}/transcripts"
    async with (
        Simulator(SCENARIO, speed=50, archive=settings, play=False) as sim,
        peer(sim) as client,
    ):
        assert (await client.call("GET", path)).status == 404
        sim.world.play()
        seen = []
        async with asyncio.timeout(5):
            while "completed" not in seen:
                answer = await client.call("GET", path)
                if answer.status == 200:
                    seen.append(answer.json["status"])
                await asyncio.sleep(0.02)
    assert list(dict.fromkeys(seen)) == ["queued", "processing", "completed"]


async def test_a_load_flat_out_is_stored_as_it_was_sent() -> None:
    """Moments are those at which finals were sent, heard or not; another run is another file."""
    load = Scenario(load=Load(conversations=2, fragments=40, rate=0))
    async with (
        Simulator(load, speed=0, archive=READY, wait_for_sockets=1) as sim,
        peer(sim) as client,
    ):
        plan = sim.world.script.plans[1]
        count = sum(1 for s in sim.world.script.segments(1) if s.versions)
        channel = await client.channel(transcription_topic(plan.id))
        async with client.listen(channel) as ws:
            live = await finals(client, ws, count)
            await sim.finished()
        [stored] = await files(client, plan.id)
        phrases = stored["transcripts"][0]["phrases"]
        best = [b["transcripts"][0]["alternatives"][0] for b in live]
        assert [p["decoratedText"] for p in phrases] == [b["decoratedTranscript"] for b in best]
        assert [p["offset"]["milliseconds"] for p in phrases] == [b["offsetMs"] for b in best]
        first = sim.archive.truth(plan.id, "platform")[0]
        sim.world.wait_for_sockets = 0
        await sim.world.restart()
        await sim.finished()
        again = sim.archive.truth(plan.id, "platform")[0]
    assert [t.text for t in again.turns] == [t.text for t in first.turns]
    assert again.turns[0].at_ms >= first.turns[-1].at_ms
