"""The real platform's recordings, batch downloads and their store, asked by ``aiohttp``."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from conformance.sim_peers import Answer, Peer, peer
from steno_sim.calls.audio import parse_wav
from steno_sim.oauth import Client
from steno_sim.recordings.settings import JobSettings, MediaSettings
from steno_sim.scenario import Call, Scenario, Turn
from steno_sim.server import Simulator

BATCHES = "/api/v2/recording/batchrequests"
CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
READY: dict[str, Any] = {"item_s": (0, 0)}


def simulator(recordings: int = 10, **media: Any) -> Simulator:
    return Simulator(
        "quiet", jobs=JobSettings(recordings=recordings), media=MediaSettings(**(READY | media))
    )


async def ask(client: Peer, items: list[dict[str, str]]) -> str:
    answer = await client.call("POST", BATCHES, json={"batchDownloadRequestList": items})
    assert answer.status == 200, answer.raw
    assert answer.json["selfUri"] == f"{BATCHES}/{answer.json['id']}"
    found: str = answer.json["id"]
    return found


async def look(client: Peer, job: str) -> dict[str, Any]:
    answer = await client.call("GET", f"{BATCHES}/{job}")
    assert answer.status == 200, answer.raw
    found: dict[str, Any] = answer.json
    return found


async def fetch(client: Peer, url: str, **headers: str) -> Answer:
    async with client.session.get(url, headers=headers) as response:
        return Answer(response.status, response.headers, await response.read())


async def presigned(client: Peer, sim: Simulator) -> str:
    one = sim.catalogue.recordings()[0]
    told = await look(client, await ask(client, [{"conversationId": one.conversation}]))
    found: str = told["results"][0]["resultUrl"]
    return found


async def test_a_batch_grows_and_each_file_is_a_sound() -> None:
    """Results come one by one; two files of a dual recording are two results."""
    async with simulator(item_s=(0.05, 0.05), layouts=("dual",)) as sim, peer(sim) as client:
        conversations = list(dict.fromkeys(r.conversation for r in sim.catalogue.recordings()))
        job = await ask(client, [{"conversationId": one} for one in conversations])
        seen = [await look(client, job)]
        while seen[-1]["status"] != "Completed":
            await asyncio.sleep(0.02)
            seen.append(await look(client, job))
        assert seen[0]["status"] == "InProgress"
        assert seen[0]["expectedResultCount"] == len(conversations) == 8
        last = seen[-1]
        assert last["resultCount"] == last["expectedResultCount"] == len(last["results"]) == 20
        expected = [one["expectedResultCount"] for one in seen]
        assert expected == sorted(expected)
        assert len(set(expected)) > 2
        for result in last["results"][:3]:
            got = await fetch(client, result["resultUrl"])
            assert (got.status, result["contentType"]) == (200, "audio/wav")
            assert got.headers["Content-Type"] == "audio/wav"


async def test_items_that_fail_have_a_message_and_the_others_an_address() -> None:
    """An unknown conversation spoils nothing; ``recordingId`` picks one of two."""
    async with simulator() as sim, peer(sim) as client:
        *_, first, second = sim.catalogue.recordings()
        assert first.conversation == second.conversation
        items = [
            {"conversationId": CALL},
            {"conversationId": second.conversation, "recordingId": second.id},
        ]
        told = await look(client, await ask(client, items))
    assert (told["errorCount"], told["status"]) == (1, "Completed")
    assert told["results"][0]["errorMsg"]
    assert "resultUrl" not in told["results"][0]
    assert {r["recordingId"] for r in told["results"][1:]} == {second.id}


async def test_a_status_may_be_missing_and_items_may_fail_by_share() -> None:
    """The platform was seen to do so; the counts still tell the end."""
    async with simulator(missing_status=1.0, item_errors=1.0) as sim, peer(sim) as client:
        one = sim.catalogue.recordings()[0]
        told = await look(client, await ask(client, [{"conversationId": one.conversation}]))
    assert "status" not in told
    assert told["resultCount"] == told["expectedResultCount"] == told["errorCount"] == 1


@pytest.mark.parametrize("count", [0, 101])
async def test_a_batch_has_one_to_a_hundred_items(count: int) -> None:
    """Otherwise 400, naming the list."""
    async with simulator() as sim, peer(sim) as client:
        items = [{"conversationId": CALL}] * count
        answer = await client.call("POST", BATCHES, json={"batchDownloadRequestList": items})
    assert answer.status == 400
    assert answer.json["details"][0]["fieldName"] == "batchDownloadRequestList"


async def test_only_who_asked_may_look() -> None:
    """403 for another client, 404 for what nobody asked, 403 without the permission."""
    clients = [
        Client(id="a", secret="s"),
        Client(id="b", secret="s"),
        Client(id="c", secret="s", permissions=[]),
    ]
    async with Simulator("quiet", clients=clients) as sim, aiohttp.ClientSession() as session:
        client = Peer(sim, session)
        await client.sign_in("a", "s")
        job = await ask(client, [{"conversationId": CALL}])
        assert (await client.call("GET", f"{BATCHES}/nothing")).status == 404
        for other in "bc":
            await client.sign_in(other, "s")
            assert (await client.call("GET", f"{BATCHES}/{job}")).status == 403


async def test_the_store_refuses_tokens_changed_addresses_and_late_comers() -> None:
    """400, 403 and 403, as an object store does, in XML; an address ends although asked again."""
    async with simulator(url_ttl_s=0.4) as sim, peer(sim) as client:
        one = sim.catalogue.recordings()[0]
        job = await ask(client, [{"conversationId": one.conversation}])
        url = (await look(client, job))["results"][0]["resultUrl"]
        assert (await fetch(client, url)).status == 200
        with_token = await fetch(client, url, Authorization=f"Bearer {client.token}")
        changed = await fetch(client, url.replace("Expires=0.4", "Expires=9999"))
        await asyncio.sleep(0.45)
        assert (await look(client, job))["results"][0]["resultUrl"] == url
        late = await fetch(client, url)
    assert (with_token.status, changed.status, late.status) == (400, 403, 403)
    assert b"SignatureDoesNotMatch" in changed.raw
    assert b"expired" in late.raw
    assert "ININ-Correlation-Id" not in late.headers


async def test_the_store_serves_ranges() -> None:
    """From, to, the last so many; 416 beyond the end."""
    async with simulator() as sim, peer(sim) as client:
        url = await presigned(client, sim)
        whole = (await fetch(client, url)).raw
        size = len(whole)
        for text, part in (
            ("bytes=0-3", whole[:4]),
            ("bytes=100-", whole[100:]),
            ("bytes=-10", whole[-10:]),
            (f"bytes=4-{size * 2}", whole[4:]),
        ):
            got = await fetch(client, url, Range=text)
            assert (got.status, got.raw) == (206, part), text
        assert got.headers["Content-Range"] == f"bytes 4-{size - 1}/{size}"
        beyond = await fetch(client, url, Range=f"bytes={size}-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")


async def test_downloads_break_off_or_drip_on_demand() -> None:
    """Half a file with the length of a whole one; the next download is whole again."""
    async with simulator(encodings=("ulaw",), layouts=("mono",)) as sim, peer(sim) as client:
        url = await presigned(client, sim)
        sim.inject(kind="truncate", path="/recording-store/*")
        with pytest.raises(aiohttp.ClientPayloadError):
            await fetch(client, url)
        whole = await fetch(client, url)
        sim.inject(kind="drip", path="/recording-store/*", delay_s=0.02)
        began = asyncio.get_running_loop().time()
        assert (await fetch(client, url)).raw == whole.raw
        took = asyncio.get_running_loop().time() - began
    assert took >= 0.02 * (len(whole.raw) // 16_384)
    assert whole.raw[20:22] == b"\x07\x00"


async def test_recordings_of_a_conversation_are_transcoded_first() -> None:
    """202 at first, then one address a file, in the codec that was asked for."""
    async with simulator(transcode_s=0.1, layouts=("dual",)) as sim, peer(sim) as client:
        one = sim.catalogue.recordings()[0]
        path = f"/api/v2/conversations/{one.conversation}/recordings"
        none = await client.call("GET", f"{path}?formatId=NONE")
        early = await client.call("GET", f"{path}?formatId=WAV&maxWaitMs=0")
        ready = await client.call("GET", f"{path}?formatId=WAV")
        ulaw = f"{path}/{one.id}?formatId=WAV_ULAW"
        later = await client.call("GET", ulaw)
        await asyncio.sleep(0.1)
        single = await client.call("GET", ulaw)
        default = await client.call("GET", path)
        keys = ready.json[0]["mediaUris"]
        sounds = [parse_wav((await fetch(client, keys[k]["mediaUri"])).raw) for k in "01"]
        coded = await fetch(client, single.json["mediaUris"]["1"]["mediaUri"])
    assert "mediaUris" not in none.json[0]
    assert (early.status, early.json[0]["estimatedTranscodeTimeMs"]) == (202, 100)
    assert (later.status, later.json["id"]) == (202, one.id)
    assert (ready.status, single.status, default.status) == (200, 200, 400)
    assert [s.channels for s in sounds] == [1, 1]
    voice = (1, 0) if one.swapped else (0, 1)
    assert one.truth()["files"] == [[("external", "internal")[n]] for n in voice]
    assert coded.raw[20:22] == b"\x07\x00"


async def test_a_202_may_be_empty_and_archived_recordings_have_no_media() -> None:
    """Both are documented, and clients trip over them."""
    async with simulator(transcode_s=9, transcode_body="empty", archived=1.0) as sim:
        one = sim.catalogue.recordings()[0]
        path = f"/api/v2/conversations/{one.conversation}/recordings"
        async with peer(sim) as client:
            early = await client.call("GET", f"{path}?formatId=WAV&maxWaitMs=0")
            facts = await client.call("GET", f"{path}/{one.id}?formatId=NONE")
    assert (early.status, early.raw) == (202, b"")
    assert facts.json["fileState"] == "ARCHIVED"


async def test_conversations_of_the_scenario_have_a_recording() -> None:
    """What was heard live can be downloaded; unknown conversations are 404."""
    turns = [Turn(who="customer", say="I need two tickets.")]
    scenario = Scenario(conversations=[Call(id=CALL, turns=turns)])
    async with Simulator(scenario, play=False) as sim, peer(sim) as client:
        path = "/api/v2/conversations/{}/recordings?formatId=WAV"
        found = await client.call("GET", path.format(CALL))
        strange = await client.call("GET", path.format("0" * 8 + CALL[8:]))
    assert [one["conversationId"] for one in found.json] == [CALL]
    assert strange.status == 404
