"""The tutorial's job service over HTTP, asked by ``aiohttp``."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from conformance.sim_peers import Peer, peer
from steno_sim.oauth import Client
from steno_sim.recordings.settings import JobSettings
from steno_sim.region import RegionSettings
from steno_sim.server import Simulator

JOBS = "/api/v2/recordings/transcripts"
QUICK: dict[str, Any] = {"queued_s": (0, 0), "processing_s": (0, 0)}
BODY = {"language": "en-US", "format": "text"}


def simulator(**settings: Any) -> Simulator:
    return Simulator(
        "quiet",
        settings=RegionSettings(rate_limit=0),
        jobs=JobSettings(**(QUICK | settings)),
    )


async def submit(client: Peer, recording: str = "", **more: Any) -> dict[str, Any]:
    body = BODY | {"recordingId": recording or str(uuid4())} | more
    answer = await client.call("POST", JOBS, json=body)
    assert answer.status == 200, answer.raw
    found: dict[str, Any] = answer.json
    return found


async def look(client: Peer, job: str) -> dict[str, Any]:
    answer = await client.call("GET", f"{JOBS}/{job}")
    assert answer.status == 200
    found: dict[str, Any] = answer.json
    return found


async def test_a_job_goes_from_queued_to_its_words() -> None:
    """The life of a job as the tutorial tells it; the words are those of the truth."""
    settings = {"queued_s": (0.1, 0.1), "processing_s": (0.1, 0.1), "words": (60, 60)}
    async with simulator(**settings) as sim, peer(sim) as client:
        recording = next(sim.jobs.book.recordings())
        job = await submit(client, recording)
        seen = [job["status"]]
        while seen[-1] != "completed":
            told = await look(client, job["id"])
            seen += [told["status"]] if told["status"] != seen[-1] else []
            await asyncio.sleep(0.01)
        truth = sim.jobs.truth(recording)
        control = await client.call("GET", f"/_sim/transcript?recording={recording}")
    assert seen == ["queued", "processing", "completed"]
    words = told["result"]["words"]
    assert [w["text"] for w in words] == " ".join(t.text for t in truth.turns).split()
    assert len(words) == 60 == truth.words
    assert {w["speaker"] for w in words} == {"speaker_0", "speaker_1"}
    first, last = (datetime.fromisoformat(words[n]["startTimestamp"]) for n in (0, -1))
    assert first == datetime.fromisoformat(truth.turns[0].start)
    assert (last - first).total_seconds() > 10
    assert words[-1]["endTimestamp"] == truth.turns[-1].end
    assert sum(w["confidence"] for w in words) / 60 == pytest.approx(truth.confidence)
    assert control.json["turns"][0]["text"] == truth.turns[0].text


async def test_words_have_only_what_was_asked_for() -> None:
    """Without speakers, confidences and times there is nothing but text."""
    async with simulator() as sim, peer(sim) as client:
        job = await submit(client, speakerDiarization=False, wordConfidence=False, timestamps=False)
        words = (await look(client, job["id"]))["result"]["words"]
    assert {key for word in words for key in word} == {"text"}


@pytest.mark.parametrize("key", ["id", "transcriptId", "both"])
async def test_the_id_comes_under_the_name_that_was_set(key: str) -> None:
    """Both names are met; a client takes either."""
    async with simulator(id_key=key) as sim, peer(sim) as client:
        job = await submit(client)
    assert set(job) - {"status"} == ({"id", "transcriptId"} if key == "both" else {key})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recordingId", "not-a-uuid"),
        ("recordingId", 7),
        ("language", "xx-XX"),
        ("language", ["en-US"]),
        ("format", "doc"),
        ("speakerDiarization", "yes"),
        ("wordConfidence", 1),
        ("timestamps", None),
        ("webhook", ""),
        ("webhook", "ftp://example.com/"),
        ("webhook", "/hook"),
    ],
)
async def test_a_wrong_field_is_named_in_the_error_body(field: str, value: object) -> None:
    """400 with the platform's body; nothing is accepted."""
    async with simulator() as sim, peer(sim) as client:
        body = BODY | {"recordingId": str(uuid4()), field: value}
        answer = await client.call("POST", JOBS, json=body)
        assert sim.jobs.stats()["accepted"] == 0
    assert (answer.status, answer.json["code"]) == (400, "invalid.value")
    assert answer.json["details"] == [{"errorCode": "invalid.value", "fieldName": field}]


async def test_each_call_needs_its_scope() -> None:
    """A token that may only read cannot submit, and the reverse; none is 401."""
    scopes = {"r": "transcription:read", "w": "transcription:write", "d": "recordings:download"}
    clients = [Client(id=name, secret="s", scopes=[scope]) for name, scope in scopes.items()]
    recording = str(uuid4())
    calls = {
        "w": ("POST", JOBS),
        "r": ("GET", f"{JOBS}?recordingId={recording}"),
        "d": ("GET", f"/api/v2/recordings/{recording}"),
    }
    async with Simulator("quiet", clients=clients) as sim, aiohttp.ClientSession() as session:
        client = Peer(sim, session)
        for name in scopes:
            client.token = ""
            assert (await client.call("GET", calls["r"][1])).status == 401
            await client.sign_in(name, "s")
            for needed, (method, path) in calls.items():
                body = {"json": BODY | {"recordingId": recording}} if method == "POST" else {}
                status = (await client.call(method, path, **body)).status
                assert status == (200 if needed == name else 403), (name, needed)


async def test_a_key_gives_the_same_job_and_the_list_tells_it() -> None:
    """A job in doubt is found by its recording; another body under the key is 422."""
    async with simulator() as sim, peer(sim) as client:
        recording = str(uuid4())
        body = BODY | {"recordingId": recording}
        headers = {"Authorization": f"Bearer {client.token}", "Idempotency-Key": "k-1"}
        made = [await client.call("POST", JOBS, json=body, headers=headers) for _ in range(3)]
        other = await client.call("POST", JOBS, json=body | {"format": "srt"}, headers=headers)
        listed = await client.call("GET", f"{JOBS}?recordingId={recording.upper()}")
        stats = sim.jobs.stats()
    assert len({answer.json["id"] for answer in made}) == 1
    assert (other.status, other.json["code"]) == (422, "idempotency.key.reused")
    (entity,) = listed.json["entities"]
    assert (entity["id"], entity["idempotencyKey"]) == (made[0].json["id"], "k-1")
    assert (stats["accepted"], stats["repeated"], stats["doubled"]) == (1, 2, 0)


async def test_an_answer_that_was_dropped_left_a_job_and_a_lost_request_did_not() -> None:
    """The client hears nothing either way; only the list can tell it."""
    for share, jobs in ({"dropped": 1.0}, 1), ({"lost": 1.0}, 0):
        async with simulator(**share) as sim, peer(sim) as client:
            recording = str(uuid4())
            with pytest.raises(aiohttp.ClientConnectionError):
                await submit(client, recording)
            assert sim.jobs.book.submissions[recording] == jobs
            requests = sim.stats()["regions"]["primary"]["requests"]
            assert requests[f"POST {JOBS} lost"] == 1


async def test_one_answer_is_dropped_on_demand() -> None:
    """Faults strike the very next submission, and only that one."""
    async with simulator() as sim, peer(sim) as client:
        recording = str(uuid4())
        sim.inject(kind="lose_answer", path=JOBS, method="POST")
        with pytest.raises(aiohttp.ClientConnectionError):
            await submit(client, recording)
        sim.inject(kind="lose_request", path=JOBS, method="POST")
        with pytest.raises(aiohttp.ClientConnectionError):
            await submit(client, recording)
        assert sim.jobs.book.submissions[recording] == 1
        await submit(client, recording)
        stats = await client.call("GET", "/_sim/stats")
        doubled = await client.call("GET", "/_sim/jobs?doubled=1")
    assert stats.json["regions"]["primary"]["jobs"]["doubled"] == 1
    assert [one["recording"] for one in doubled.json] == [recording, recording]


async def test_jobs_fail_hang_lack_a_result_or_have_bad_words_by_share() -> None:
    """Every fate as a client meets it; bad words are told by the truth."""
    async with simulator(failed=1.0) as sim, peer(sim) as client:
        jobs = [await submit(client) for _ in range(12)]
        told = [await look(client, job["id"]) for job in jobs]
    assert {one["status"] for one in told} == {"failed"}
    assert {type(one["error"]) for one in told} == {str, dict}
    assert not any("result" in one for one in told)
    async with simulator(never=1.0) as sim, peer(sim) as client:
        assert (await look(client, (await submit(client))["id"]))["status"] == "processing"
    async with simulator(no_result=1.0) as sim, peer(sim) as client:
        jobs = [await submit(client) for _ in range(12)]
        told = [await look(client, job["id"]) for job in jobs]
    assert {one["status"] for one in told} == {"completed"}
    assert {one.get("result", "none") for one in told} == {None, "none"}
    async with simulator(silent=1.0) as sim, peer(sim) as client:
        assert (await look(client, (await submit(client))["id"]))["result"] == {"words": []}
    async with simulator(bad_words=1.0, words=(200, 200)) as sim, peer(sim) as client:
        recording = str(uuid4())
        words = (await look(client, (await submit(client, recording))["id"]))["result"]["words"]
        assert [n for n, w in enumerate(words) if not good(w)] == sim.jobs.truth(recording).bad
    assert len(words) == 200


def good(word: Any) -> bool:
    try:
        datetime.fromisoformat(word["startTimestamp"])
        return bool(word["text"]) and 0 <= word["confidence"] <= 1
    except (KeyError, TypeError, ValueError):
        return False


async def test_bursts_of_429_come_with_and_without_retry_after() -> None:
    """After three requests two are refused; the second burst names no wait."""
    async with simulator(burst_every=3, burst_size=2, burst_wait_s=4) as sim, peer(sim) as client:
        recording = f"/api/v2/recordings/{uuid4()}"
        answers = [await client.call("GET", recording) for _ in range(10)]
    assert [a.status for a in answers] == [200, 200, 200, 429, 429] * 2
    assert [a.headers.get("Retry-After") for a in answers if a.status == 429] == [
        "4",
        "4",
        None,
        None,
    ]
    assert answers[3].json["code"] == "too.many.requests"


async def test_errors_are_a_share_of_requests_and_some_are_pages() -> None:
    """500, 503 and 504 with the error body, 502 as a proxy writes it."""
    async with simulator(errors=1.0) as sim, peer(sim) as client:
        answers = [await client.call("GET", f"{JOBS}/x") for _ in range(40)]
    assert {a.status for a in answers} == {500, 502, 503, 504}
    assert {a.status for a in answers if "html" in a.headers["Content-Type"]} == {502}


async def test_requests_count_against_the_tokens_limit() -> None:
    """``inin-ratelimit-*`` on every answer, and 429 with a wait above the limit."""
    settings = RegionSettings(rate_limit=3)
    async with Simulator("quiet", settings=settings) as sim, peer(sim) as client:
        answers = [await client.call("GET", f"{JOBS}/x") for _ in range(4)]
    assert [a.status for a in answers] == [404, 404, 404, 429]
    assert [a.headers["inin-ratelimit-count"] for a in answers] == ["1", "2", "3", "4"]
    assert int(answers[3].headers["Retry-After"]) > 0


async def test_requests_that_meet_are_counted() -> None:
    """Answers that take time let the peak of concurrency be seen."""
    async with simulator(answer_s=(0.05, 0.05)) as sim, peer(sim) as client:
        calls = [client.call("GET", f"{JOBS}/x") for _ in range(7)]
        await asyncio.gather(*calls)
        assert sim.jobs.stats()["peak_requests"] == 7


async def test_recordings_are_told_before_they_are_transcribed() -> None:
    """Conversation, start and state; strangers are 404 where only known ones are served."""
    async with simulator(only_known=True, recordings=2) as sim, peer(sim) as client:
        known = list(sim.jobs.book.recordings())
        told = (await client.call("GET", f"/api/v2/recordings/{known[0]}")).json
        strangers = [str(uuid4()), "nonsense"]
        lost = [(await client.call("GET", f"/api/v2/recordings/{one}")) for one in strangers]
        body = BODY | {"recordingId": strangers[0]}
        refused = await client.call("POST", JOBS, json=body)
        starts = sim.jobs.truth(known[0]).starts
        listed = await client.call("GET", "/_sim/recordings")
    assert (told["id"], told["fileState"], told["startTime"]) == (known[0], "AVAILABLE", starts)
    assert [one.status for one in [*lost, refused]] == [404, 404, 404]
    assert [one["id"] for one in listed.json] == known
    assert listed.json[0]["conversation"] == told["conversationId"]


async def test_jobs_of_another_client_are_nobodys_business() -> None:
    """404 for its id, and nothing in the list."""
    clients = [Client(id="a", secret="s"), Client(id="b", secret="s")]
    async with Simulator("quiet", clients=clients) as sim, aiohttp.ClientSession() as session:
        client, recording = Peer(sim, session), str(uuid4())
        await client.sign_in("a", "s")
        job = await submit(client, recording)
        await client.sign_in("b", "s")
        assert (await client.call("GET", f"{JOBS}/{job['id']}")).status == 404
        listed = await client.call("GET", f"{JOBS}?recordingId={recording}")
    assert listed.json["entities"] == []


async def test_long_results_come_in_chunks_and_others_are_served_meanwhile() -> None:
    """Thirty thousand words have no length beforehand, and do not hold up a small question."""
    async with simulator(words=(30_000, 30_000)) as sim, peer(sim) as client:
        job = await submit(client)
        path = f"{JOBS}/{job['id']}"
        headers = {"Authorization": f"Bearer {client.token}"}
        async with client.session.get(sim.url + path, headers=headers) as response:
            assert "Content-Length" not in response.headers
            assert response.headers["ININ-Correlation-Id"]
            first = await response.content.readany()
            assert (await client.call("GET", f"{JOBS}/x")).status == 404
            whole = first + await response.read()
    assert len(json.loads(whole)["result"]["words"]) == 30_000
