"""Stored transcripts in both shapes, asked by ``aiohttp``."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from conformance.sim_peers import Peer, peer
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.oauth import Client
from steno_sim.server import Simulator

CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
DOCUMENT = f"/api/v2/conversations/media/{CALL}/transcripts"
ANALYTICS = f"/api/v2/speechandtextanalytics/conversations/{CALL}"


def simulator(**archive: Any) -> Simulator:
    return Simulator("quiet", archive=ArchiveSettings(**archive))


async def document(client: Peer) -> Any:  # Any: JSON
    answer = await client.call("GET", DOCUMENT)
    assert answer.status == 200, answer.raw
    return answer.json


async def get(client: Peer, url: str, **headers: str) -> bytes:
    async with client.session.get(url, headers=headers) as response:
        assert response.status == 200
        return await response.read()


async def communications(client: Peer) -> list[str]:
    told = (await client.call("GET", f"/api/v2/conversations/{CALL}")).json
    calls = [p["calls"] for p in told["participants"] if p["purpose"] == "customer"]
    return [call["id"] for call in calls[0]]


async def test_a_small_document_is_inline_with_the_keys_of_the_tutorial() -> None:
    """Participants, and turns whose speakers they are; what is said is the truth told."""
    async with simulator(inline_bytes=1_000_000, unknown=0) as sim, peer(sim) as client:
        told = await document(client)
        truth = sim.archive.truth(CALL)[0]
    assert set(told) == {"self", "conversation", "status", "participants", "transcript"}
    assert (told["self"], told["conversation"], told["status"]) == (DOCUMENT, CALL, "completed")
    people = {p["id"]: p["role"] for p in told["participants"]}
    assert set(people.values()) == {"agent", "customer", "system"}
    assert len(told["transcript"]) == truth.count == len(truth.turns) > 10
    for turn, said in zip(told["transcript"], truth.turns, strict=True):
        assert set(turn) == {"start_time", "end_time", "text", "speaker_id", "confidence"}
        assert (turn["text"], people[turn["speaker_id"]]) == (said.text, said.role)
        assert turn["start_time"] * 1000 == pytest.approx(said.start_ms)
        assert turn["end_time"] * 1000 == pytest.approx(said.end_ms)


async def test_a_large_document_lies_behind_a_link() -> None:
    """``downloadUrl`` takes the place of ``transcript``; the file is the whole answer."""
    async with simulator(inline_bytes=0) as sim, peer(sim) as client:
        told = await document(client)
        whole = json.loads(await get(client, told["downloadUrl"]))
    assert "transcript" not in told
    assert whole["participants"] == told["participants"]
    assert (whole["conversation"], whole["status"]) == (CALL, "completed")
    assert whole["transcript"]


async def test_a_transcript_is_queued_then_in_work_then_there() -> None:
    """The clock of the service decides; until it is there the list is empty."""
    waits: dict[str, Any] = {"queued_s": (60, 60), "processing_s": (60, 60)}
    async with simulator(clock=600, **waits) as sim, peer(sim) as client:
        seen = [await document(client)]
        while seen[-1]["status"] != "completed":
            await asyncio.sleep(0.02)
            seen.append(await document(client))
    states = list(dict.fromkeys(one["status"] for one in seen))
    assert states == ["queued", "processing", "completed"]
    assert all(one["transcript"] == [] for one in seen[:-1])


@pytest.mark.parametrize(("fate", "status"), [("failed", "failed"), ("never", "processing")])
async def test_a_transcript_may_fail_or_never_come(fate: str, status: str) -> None:
    """The document's call tells the state; the platform's has nothing, 404."""
    async with simulator(**{fate: 1.0}) as sim, peer(sim) as client:
        told = await document(client)
        call = (await communications(client))[0]
        url = await client.call("GET", f"{ANALYTICS}/communications/{call}/transcripturl")
    assert (told["status"], told["transcript"]) == (status, [])
    assert (url.status, url.json["code"]) == (404, "not.found")


async def test_an_empty_transcript_is_completed_without_turns() -> None:
    """Told apart from one in work by its status."""
    async with simulator(empty=1.0) as sim, peer(sim) as client:
        told = await document(client)
    assert (told["status"], told["transcript"], len(told["participants"])) == ("completed", [], 3)


@pytest.mark.parametrize(
    ("form", "keys"),
    [
        ("no_status", {"self", "conversation", "participants", "transcript"}),
        ("camel", {"self", "conversation", "participants", "transcript", "status"}),
        ("nested", {"self", "conversation", "transcripts"}),
    ],
)
async def test_legacy_forms_are_objects_of_another_layout(form: str, keys: set[str]) -> None:
    """Each as the settings' table says."""
    async with simulator(legacy=1.0, legacy_form=form) as sim, peer(sim) as client:
        told = await document(client)
    assert set(told) == keys
    if form == "camel":
        assert {"startTime", "endTime", "speakerId"} < set(told["transcript"][0])


async def test_the_oldest_form_is_a_list_of_turns() -> None:
    """Nothing around them."""
    async with simulator(legacy=1.0, legacy_form="list") as sim, peer(sim) as client:
        told = await document(client)
    assert isinstance(told, list)
    assert {"start_time", "text"} < set(told[0])


async def test_unknown_and_forbidden_conversations_are_refused() -> None:
    """404 ``not.found``, 403 ``not.authorized``, and 404 for what is no id."""
    async with simulator(missing=1.0) as sim, peer(sim) as client:
        assert (await client.call("GET", DOCUMENT)).json["code"] == "not.found"
        # The conversation is there, and its calls; nobody transcribed it.
        call = (await communications(client))[0]
        url = await client.call("GET", f"{ANALYTICS}/communications/{call}/transcripturl")
        assert (url.status, url.json["code"]) == (404, "not.found")
    async with simulator(forbidden=1.0) as sim, peer(sim) as client:
        assert (await client.call("GET", DOCUMENT)).json["code"] == "not.authorized"
    async with simulator(only_known=True) as sim, peer(sim) as client:
        assert (await client.call("GET", DOCUMENT)).status == 404
        known = sim.archive.library.ids()[0]
        path = f"/api/v2/conversations/media/{known}/transcripts"
        assert (await client.call("GET", path)).status == 200
        for path in ("conversations/..%2fetc", "conversations/media/..%2fetc/transcripts"):
            assert (await client.call("GET", f"/api/v2/{path}")).status == 404


@pytest.mark.parametrize("scope", ["interaction:read", "media:read", "analytics:read"])
async def test_each_scope_is_needed_and_named(scope: str) -> None:
    """403 tells which is missing; 401 without a token."""
    scopes = [s for s in Client().scopes if s != scope]
    clients = [Client(id="a", secret="s", scopes=scopes)]
    async with Simulator("quiet", clients=clients) as sim, aiohttp.ClientSession() as session:
        client = Peer(sim, session)
        assert (await client.call("GET", DOCUMENT)).status == 401
        await client.sign_in("a", "s")
        answer = await client.call("GET", DOCUMENT)
    assert (answer.status, answer.json["code"]) == (403, "missing.permissions")
    assert scope in answer.json["message"]


async def test_throttling_comes_with_and_without_a_wait() -> None:
    """By turns; such answers have no effect."""
    async with simulator(throttled=1.0, throttle_s=7) as sim, peer(sim) as client:
        answers = [await client.call("GET", DOCUMENT) for _ in range(4)]
    assert {a.status for a in answers} == {429}
    assert [a.headers.get("Retry-After") for a in answers] == ["7", None, "7", None]


async def test_faults_strike_these_calls_like_others() -> None:
    """A 429 of the fault book, with what it says."""
    async with simulator() as sim, peer(sim) as client:
        sim.inject(kind="answer", path="*/transcripts", status=429, retry_after_s=3)
        first = await client.call("GET", DOCUMENT)
        second = await client.call("GET", DOCUMENT)
    assert (first.status, first.headers["Retry-After"], second.status) == (429, "3", 200)


async def test_each_call_of_the_customer_has_a_file_of_its_own() -> None:
    """Calls of others have none; a file tells its conversation and communication."""
    async with simulator(legs=(3, 3)) as sim, peer(sim) as client:
        told = (await client.call("GET", f"/api/v2/conversations/{CALL}")).json
        for person in told["participants"]:
            for call in person["calls"]:
                path = f"{ANALYTICS}/communications/{call['id']}/transcripturl"
                answer = await client.call("GET", path)
                if person["purpose"] != "customer":
                    assert answer.json["code"] == "not.found"
                    continue
                assert set(answer.json) == {"url"}
                whole = json.loads(await get(client, answer.json["url"]))
                assert (whole["conversationId"], whole["communicationId"]) == (CALL, call["id"])
        assert len(sim.archive.truth(CALL, "platform")) == 3


async def test_a_platform_file_has_words_times_and_several_languages() -> None:
    """Phrases as the truth tells them, offsets and moments that agree, and words in order."""
    async with simulator(runs=(2, 2)) as sim, peer(sim) as client:
        call = (await communications(client))[0]
        answer = await client.call("GET", f"{ANALYTICS}/communications/{call}/transcripturl")
        whole = json.loads(await get(client, answer.json["url"]))
        truth = sim.archive.truth(CALL, "platform")[0]
    assert len({t["language"] for t in whole["transcripts"]}) == 2
    phrases = [p for t in whole["transcripts"] for p in t["phrases"]]
    for phrase, said in zip(phrases, truth.turns, strict=True):
        assert (phrase["text"], phrase["decoratedText"]) == (said.spoken, said.text)
        assert phrase["offset"]["milliseconds"] == said.start_ms
        assert phrase["startTimeMs"] - whole["startTime"] == said.start_ms
        assert [w["word"] for w in phrase["words"]] == said.spoken.split()
        last = phrase["words"][-1]
        over = last["offset"]["milliseconds"] + last["duration"]["milliseconds"]
        assert over == said.end_ms
    assert whole["duration"]["milliseconds"] == max(t.end_ms for t in truth.turns)
    assert whole["transcripts"][0]["analytics"]["sentiment"]


async def test_recordings_of_a_call_have_a_link_each() -> None:
    """Either recording permission opens ``transcripturls``; ``transcripturl`` wants two."""
    clients = [
        Client(id="segments", secret="s", permissions=["recording:recordingSegment:view"]),
        Client(id="none", secret="s", permissions=[]),
    ]
    settings = ArchiveSettings(parts=(2, 2))
    async with (
        Simulator("quiet", clients=clients, archive=settings) as sim,
        aiohttp.ClientSession() as session,
    ):
        found = sim.archive.library.find(CALL)
        assert found is not None
        path = f"{ANALYTICS}/communications/{found.communications[0]}/transcripturl"
        client = Peer(sim, session)
        await client.sign_in("none", "s")
        assert (await client.call("GET", path + "s")).status == 403
        await client.sign_in("segments", "s")
        assert (await client.call("GET", path)).status == 403
        told = (await client.call("GET", path + "s")).json
        files = [json.loads(await get(client, each["url"])) for each in told["urls"]]
    assert told["conversation"]["id"] == CALL
    assert len({each["recording"]["id"] for each in told["urls"]}) == 2
    first, second = (file["transcripts"][0]["phrases"] for file in files)
    assert files[0]["startTime"] == files[1]["startTime"]
    assert first[-1]["startTimeMs"] < second[0]["startTimeMs"]


async def test_a_conversation_says_the_same_in_every_run_of_a_seed() -> None:
    """And something else with another seed."""
    said = []
    for seed in (1, 1, 2):
        async with simulator(seed=seed, inline_bytes=1_000_000) as sim, peer(sim) as client:
            said.append((await document(client))["transcript"])
    assert said[0] == said[1] != said[2]


async def test_planted_secrets_stand_in_the_text_and_are_told() -> None:
    """Everything that is to be redacted is known; without secrets there are none."""
    async with simulator(turns=(100, 100)) as sim:
        truth = sim.archive.truth(CALL)[0]
    planted = [(turn.text, s.text) for turn in truth.turns for s in turn.secrets]
    assert len(planted) > 5
    assert all(secret in text for text, secret in planted)
    async with simulator(turns=(100, 100), secrets=False) as sim:
        assert not any(turn.secrets for turn in sim.archive.truth(CALL)[0].turns)


async def test_control_lists_conversations_and_tells_what_is_stored() -> None:
    """For scorers in other processes, with the counts of calls."""
    async with simulator(conversations=3) as sim, peer(sim) as client:
        listed = (await client.call("GET", "/_sim/archive")).json
        told = (await client.call("GET", f"/_sim/stored?conversation={listed[0]['id']}")).json
        await document(client)
        stats = (await client.call("GET", "/_sim/stats")).json
        unknown = await client.call("GET", "/_sim/stored?conversation=nobody")
    assert len(listed) == 3
    assert told[0]["count"] == len(told[0]["turns"])
    assert stats["regions"]["primary"]["archive"]["requests"] == {"document": 1}
    assert unknown.status == 400
