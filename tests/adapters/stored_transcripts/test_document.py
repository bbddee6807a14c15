"""The document's shape: inline or linked, in work, empty, legacy, failed, refused."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from conformance.fetch_rig import QUICK, all_of, fetch_rig, fetched
from conformance.link_server import PLANTED, LinkServer, StoreScript, link_server, transcript
from conformance.scripted_http import FixedToken
from steno.adapters.stored_transcripts.spool import MEMORY_BYTES
from steno.core.stored import StoredShape
from steno.errors import (
    AuthError,
    LocalProtocolError,
    ObjectMissing,
    PeerUnavailable,
    ProtocolError,
    RateLimited,
    RemoteProtocolError,
    StenoError,
)
from steno.ports.archive import FoundTranscript, Nothing, NoTranscript

DATA = transcript(200)
TURN = {"start_time": 0, "end_time": 1, "text": "hi", "speaker_id": "p", "confidence": 1}

Answers = Callable[[web.Request], web.StreamResponse]


def told(*bodies: object, status: int = 200) -> Answers:
    """Answer with these, one after the other; the last one repeats."""
    left = list(bodies)

    def answer(_: web.Request) -> web.StreamResponse:
        body = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(body, web.StreamResponse):
            return body
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=data, content_type="application/json")

    return answer


def linked(server: LinkServer, **more: object) -> Answers:
    """Answer with a fresh link each time."""

    def answer(_: web.Request) -> web.StreamResponse:
        body = {"self": "x", "downloadUrl": server.link(), "conversation": "c-1"}
        return web.json_response(body | {"status": "completed"} | more)

    return answer


async def test_an_inline_transcript_is_given_as_it_came() -> None:
    """One call: the body of the answer is the transcript."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        server.answers = told(DATA)
        found = await rig.document.find("c-1")
        assert found == [FoundTranscript("c-1", shape=StoredShape.DOCUMENT)]
        assert await fetched(rig.document, found[0]) == DATA
        assert len(server.asked) == 1
        assert server.asked[0].path == "/api/v2/conversations/media/c-1/transcripts"
        assert server.asked[0].headers["Authorization"] == "Bearer planted-token"
        assert await fetched(rig.document, found[0]) == DATA
        assert len(server.asked) == 2


async def test_a_long_inline_transcript_waits_in_a_file_without_a_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only its owner can read it, and nothing of it is in the folder."""
    data = transcript(12_000)
    assert len(data) > MEMORY_BYTES
    modes: list[int] = []
    pread = os.pread

    def noted(fd: int, size: int, at: int) -> bytes:
        modes.append(os.fstat(fd).st_mode & 0o777)
        assert os.fstat(fd).st_nlink == 0
        return pread(fd, size, at)

    monkeypatch.setattr(os, "pread", noted)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        server.answers = told(data)
        found = await rig.document.find("c-1")
        assert not isinstance(found, NoTranscript)
        assert list(tmp_path.iterdir()) == []
        assert await fetched(rig.document, found[0]) == data
    assert set(modes) == {0o600}


async def test_a_link_is_followed_with_one_call_and_asked_for_again_later() -> None:
    """The link of ``find`` is used while it is fresh, once."""
    async with link_server(StoreScript(DATA)) as server, fetch_rig(server.host) as rig:
        server.answers = linked(server)
        assert await all_of(rig.document, "c-1") == [DATA]
        assert len(server.asked) == 1
        assert await fetched(rig.document, FoundTranscript("c-1")) == DATA
        assert len(server.asked) == 2
        assert all("Authorization" not in seen for seen in server.stored)


async def test_a_link_that_ends_is_asked_for_again_at_the_platform() -> None:
    """In the middle, several times."""
    script = StoreScript(DATA, etag='"t"', link_bytes=len(DATA) // 3)
    async with link_server(script) as server, fetch_rig(server.host) as rig:
        server.answers = linked(server)
        assert await all_of(rig.document, "c-1") == [DATA]
        assert server.sent == len(DATA)
        assert len(server.asked) == server.links == 4


async def test_work_is_waited_for() -> None:
    """Queued, then in work, then a word we do not know, then there."""
    states: list[object] = [
        {"status": word, "transcript": []} for word in ("queued", "PROCESSING", "stitching")
    ]
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        server.answers = told(*states, DATA)
        assert await all_of(rig.document, "c-1") == [DATA]
        assert len(server.asked) == 4


EMPTY: dict[str, object] = {"transcript": [], "participants": []}


@pytest.mark.parametrize(
    ("body", "reason", "most_calls"),
    [
        ({"status": "processing", "transcript": []}, Nothing.IN_WORK, 25),
        ({"status": "processing", "transcript": [TURN]}, Nothing.IN_WORK, 25),
        ({"status": "completed", **EMPTY}, Nothing.EMPTY, 1),
        ({"status": "completed"}, Nothing.EMPTY, 1),
        (EMPTY, Nothing.EMPTY, 7),
        ({"status": "failed", **EMPTY}, Nothing.FAILED, 1),
        ({"status": "Error", "transcript": [TURN]}, Nothing.FAILED, 1),
        ([TURN], Nothing.LEGACY, 1),
        ({"status": "completed", "transcript": [{"startTime": 1}]}, Nothing.LEGACY, 1),
        ({"transcripts": [{"transcript": [TURN]}], "conversation": "c-1"}, Nothing.LEGACY, 1),
        ({"conversation": "c-1"}, Nothing.LEGACY, 1),
    ],
)
async def test_a_conversation_without_a_transcript_says_why(
    body: object, reason: Nothing, most_calls: int
) -> None:
    """Empty without a status may still be in work: it is asked for a few times more."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        server.answers = told(body)
        assert await rig.document.find("c-1") == NoTranscript("c-1", reason)
        assert 1 <= len(server.asked) <= most_calls
        assert (len(server.asked) > 1) is (most_calls > 1)


async def test_an_answer_without_status_that_has_turns_is_done() -> None:
    """Answers of older days have none."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        server.answers = told({"transcript": [TURN]})
        assert len(await all_of(rig.document, "c-1")) == 1


async def test_unknown_conversations_are_missing_at_once() -> None:
    """404, and an answer without content."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        for answer in (web.Response(status=404), web.Response(status=204)):
            server.answers = told(answer)
            assert await rig.document.find("c-1") == NoTranscript("c-1", Nothing.MISSING)
        assert len(server.asked) == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_refusal_names_the_scopes(status: int) -> None:
    """A 401 only after another token was refused, too."""
    tokens = FixedToken("planted-1", "planted-2")
    async with link_server(StoreScript()) as server, fetch_rig(server.host, tokens) as rig:
        server.answers = told({}, status=status)
        with pytest.raises(AuthError) as caught:
            await rig.document.find("c-1")
        for scope in ("interaction:read", "media:read", "analytics:read"):
            assert scope in str(caught.value)
        assert len(server.asked) == (2 if status == 401 else 1)


@pytest.mark.parametrize("code", ["not.authorized", "missing.permissions"])
async def test_one_conversation_that_is_closed_to_us_is_no_reason_to_stop(code: str) -> None:
    """By the platform's own code, or after others were let out."""
    refused = web.json_response({"code": code, "status": 403}, status=403)
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        bodies: list[object] = [refused] if code == "not.authorized" else [DATA, refused]
        server.answers = told(*bodies)
        if len(bodies) > 1:
            await rig.document.find("c-0")
        with pytest.raises(ProtocolError) as caught:
            await rig.document.find("c-1")
        assert caught.value.fields["code"] == code
        assert not caught.value.retryable


async def test_a_token_that_is_revoked_between_calls_is_replaced() -> None:
    """Also where the call is for a fresh link in the middle of a download."""
    script = StoreScript(DATA, etag='"t"', link_bytes=len(DATA) // 2 + 1)
    tokens = FixedToken("planted-1", "planted-2")
    async with link_server(script) as server, fetch_rig(server.host, tokens) as rig:
        give = linked(server)

        def answers(request: web.Request) -> web.StreamResponse:
            is_old = request.headers["Authorization"].endswith("-1")
            return web.Response(status=401) if is_old and server.links else give(request)

        server.answers = answers
        assert await all_of(rig.document, "c-1") == [DATA]
    assert tokens.refused == ["planted-1"]


async def test_limits_are_waited_out_as_long_as_the_platform_asks() -> None:
    """``Retry-After`` counts; without it waits double; nobody calls meanwhile."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        limited = web.Response(status=429, headers={"Retry-After": "0.3"})
        server.answers = told(limited, DATA)
        began = asyncio.get_running_loop().time()
        assert await all_of(rig.document, "c-1") == [DATA]
        assert asyncio.get_running_loop().time() - began >= 0.3
        assert rig.telemetry.events() == ["platform.call_retried"]


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimited), (503, PeerUnavailable)])
async def test_patience_has_an_end(status: int, kind: type[StenoError]) -> None:
    """Over all tries of a call."""
    async with (
        link_server(StoreScript()) as server,
        fetch_rig(server.host, patience_s=0.2, retry_first_s=0.02) as rig,
    ):
        server.answers = told({}, status=status)
        with pytest.raises(kind):
            await rig.document.find("c-1")
        assert len(server.asked) > 1


async def test_calls_keep_to_their_rate() -> None:
    """Side by side as one after the other."""
    async with (
        link_server(StoreScript()) as server,
        fetch_rig(server.host, per_minute=60 / 0.05) as rig,
    ):
        server.answers = told({"status": "failed"})
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(rig.document.find(f"c-{n}") for n in range(7)))
        assert asyncio.get_running_loop().time() - began >= 6 * 0.05 - 0.01


async def test_a_window_that_is_used_up_holds_everybody() -> None:
    """The platform tells its count with each answer."""
    names = ("count", "allowed", "reset")
    headers = {f"inin-ratelimit-{n}": v for n, v in zip(names, ("300", "300", "1"), strict=True)}
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        server.answers = told(
            web.json_response({"status": "failed"}, headers=headers), {"status": "failed"}
        )
        began = asyncio.get_running_loop().time()
        await rig.document.find("c-1")
        await rig.document.find("c-2")
        assert asyncio.get_running_loop().time() - began >= 0.95
        assert rig.telemetry.events() == ["archive.rate_held"]


async def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    """What came of it is void."""
    data = transcript(20_000)

    class Broken(web.Response):
        async def write_eof(self, data: bytes = b"") -> None:
            assert self._req is not None
            assert self._req.transport is not None
            self._req.transport.close()

    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        server.answers = told(Broken(body=data), data)
        assert await all_of(rig.document, "c-1") == [data]


@pytest.mark.parametrize("body", [b"<html>", b'{"transcript": [{"start', b"\xff\xfe{}", b"7"])
async def test_an_answer_that_is_none_is_the_platforms_fault(body: bytes) -> None:
    """Nothing of it is quoted."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        server.answers = told(body)
        with pytest.raises(RemoteProtocolError) as caught:
            await rig.document.find("c-1")
        assert "html" not in repr(caught.value)


@pytest.mark.parametrize("text", ["../x", "", "a b", "a/b", "x" * 200])
async def test_what_is_no_id_is_not_asked_for(text: str) -> None:
    """It would bend the address."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        with pytest.raises(LocalProtocolError):
            await rig.document.find(text)
        assert not server.asked


async def test_a_link_that_is_gone_when_it_is_wanted_is_missing() -> None:
    """The transcript was withdrawn meanwhile."""
    script = StoreScript(DATA, etag='"t"', link_bytes=100)
    async with link_server(script) as server, fetch_rig(server.host) as rig:
        link = {"downloadUrl": server.link(), "status": "completed"}
        server.answers = told(link, {"status": "completed", **EMPTY})
        with pytest.raises(ObjectMissing) as caught:
            await all_of(rig.document, "c-1")
        assert PLANTED not in repr(caught.value)


async def test_bodies_that_nobody_wants_are_let_go() -> None:
    """Some stay at hand, the oldest are asked for again."""
    async with link_server(StoreScript()) as server, fetch_rig(server.host) as rig:
        server.answers = told(DATA)
        found = [await rig.document.find(f"c-{n}") for n in range(70)]
        assert len(server.asked) == 70
        assert not isinstance(found[0], NoTranscript)
        assert await fetched(rig.document, found[0][0]) == DATA
        assert len(server.asked) == 71
    assert QUICK.renewals == 5
