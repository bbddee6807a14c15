"""Objects: created once, never replaced, whatever is lost on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import obstore
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from obstore import exceptions as failures

from conformance.sink_rules import CANARY, Peer, SinkRules, gap, keys, sentence
from steno.adapters.object_store import REASONS, reason_of
from steno.adapters.sinks.objects import ObjectsSettings, ObjectsSink, folder_of
from steno.errors import ConfigError, SinkUnavailable
from steno.ports import Ack, Reject, Sink


class FakeS3:
    """An S3 service with conditional puts, and the faults of one."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.script: list[str] = []
        self.puts = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        key = request.path.removeprefix("/bucket/")
        if request.method == "PUT":
            return await self._put(key, request)
        if key not in self.objects:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        body = self.objects[key]
        headers = {"ETag": _etag(body), "Last-Modified": "Mon, 15 Jan 2024 10:30:00 GMT"}
        return web.Response(body=body, headers=headers)

    async def _put(self, key: str, request: web.Request) -> web.StreamResponse:
        self.puts += 1
        body = await request.read()
        step = self.script.pop(0) if self.script else ""
        if step == "slow down":
            return web.Response(status=503, text=f"<Error><Code>SlowDown {CANARY}</Code></Error>")
        if step == "denied":
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        if request.headers.get("If-None-Match") == "*" and key in self.objects:
            return web.Response(status=412)
        self.objects[key] = body
        if step == "lost answer":
            assert request.transport is not None
            request.transport.close()
        return web.Response(headers={"ETag": _etag(body)})

    async def received(self) -> list[str]:
        return [
            json.loads(line)["key"] for body in self.objects.values() for line in body.splitlines()
        ]

    def fail_once(self) -> None:
        self.script += ["slow down"] * 4  # the library tries by itself, too


def _etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()}"'


@asynccontextmanager
async def s3(fake: FakeS3, **settings: Any) -> AsyncIterator[ObjectsSink]:
    """Serve a fake S3 and give a sink for it."""
    app = web.Application()

    async def handle(request: web.Request) -> web.StreamResponse:
        return await fake(request)

    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sink = ObjectsSink(
        ObjectsSettings(
            url="s3://bucket/calls",
            endpoint=f"http://127.0.0.1:{runner.addresses[0][1]}",
            region="eu-west-1",
            options={"skip_signature": True, **settings.pop("options", {})},
            **settings,
        )
    )
    try:
        yield sink
    finally:
        await sink.close()
        await runner.cleanup()


class TestS3Conformance(SinkRules):
    """The rules, against an S3 service over HTTP."""

    @pytest.fixture
    async def pair(self) -> AsyncIterator[tuple[Sink, Peer]]:
        """Give a sink and its service."""
        fake = FakeS3()
        async with s3(fake) as sink:
            yield sink, fake


async def test_answer_lost_after_the_put() -> None:
    """A put that succeeded without an answer is found and acknowledged; one object, same bytes."""
    fake = FakeS3()
    fake.script = ["lost answer"]
    records = [sentence("alpha", number) for number in (1, 2)]
    async with s3(fake) as sink:
        assert await sink.deliver(records) == [Ack(), Ack()]
    assert len(fake.objects) == 1
    assert await fake.received() == keys(records)


async def test_retry_with_more_records() -> None:
    """When the retry holds more than the first try stored, only the new ones are written."""
    fake = FakeS3()
    records = [sentence("alpha", number) for number in range(1, 6)]
    async with s3(fake) as sink:
        await sink.deliver(records[:2])
        assert await sink.deliver(records) == [Ack()] * 5
    assert await fake.received() == keys(records)
    assert len(fake.objects) == 2


async def test_other_content_is_never_replaced() -> None:
    """A foreign object under a record's key stays; that record is a dead letter, others go on."""
    fake = FakeS3()
    records = [sentence("alpha", number) for number in (1, 2)]
    async with s3(fake) as sink:
        await sink.deliver([records[0]])
        (key,) = fake.objects
        fake.objects[key] = b"something else"
        assert await sink.deliver(records) == [Reject("PreconditionFailed"), Ack()]
    assert fake.objects[key] == b"something else"
    assert len(fake.objects) == 2


async def test_refused_credentials_lose_nothing() -> None:
    """403 is about us: unavailable, with the reason, and the record waits."""
    fake = FakeS3()
    fake.script = ["denied"]
    async with s3(fake) as sink:
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver([sentence("alpha", 1)])
        assert caught.value.fields["cause"] == "AuthError"
        assert await sink.deliver([sentence("alpha", 1)]) == [Ack()]


def test_every_exception_of_the_library_has_a_class() -> None:
    """Nothing the library raises is left to chance."""
    known = {
        thing
        for thing in vars(failures).values()
        if isinstance(thing, type) and issubclass(thing, Exception)
    }
    assert known == set(REASONS)
    assert reason_of(OSError()) == "StorageError"


async def test_local_folder(tmp_path: Path) -> None:
    """A folder gets the documented layout, readable by its owner alone."""
    sink = ObjectsSink(ObjectsSettings(url=f"file://{tmp_path}/store"))
    records = [sentence("alpha", 1), sentence("alpha", 2), gap("alpha", 3)]
    assert await sink.deliver(records) == [Ack()] * 3
    assert await sink.deliver(records) == [Ack()] * 3
    await sink.close()
    spread = hashlib.sha256(b"alpha").hexdigest()[:8]
    first = tmp_path / f"store/sentence/2024/01/15/{spread}/{records[0].id}.jsonl"
    second = tmp_path / f"store/gap/2024/01/15/{spread}/{records[2].id}.jsonl"
    assert _files(tmp_path) == sorted([first, second])
    assert [json.loads(line)["seq"] for line in first.read_bytes().splitlines()] == [1, 2]
    assert first.stat().st_mode & 0o777 == 0o600
    assert first.parent.stat().st_mode & 0o777 == 0o700


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@given(
    conversation=st.text(max_size=40)
    | st.sampled_from(["../../etc/passwd", "a/b", "%2e%2e/", "\0"]),
    at_us=st.integers(0, 4_000_000_000_000_000),
)
def test_no_peer_s_text_is_in_a_key(conversation: str, at_us: int) -> None:
    """A key is made of words, digits and hashes, whatever a peer calls its conversation."""
    try:
        conversation.encode()
    except UnicodeEncodeError:
        return  # such a record is refused before it gets a key
    record = msgspec.structs.replace(
        sentence("x", 1), conversation=conversation, lane=conversation, at_us=at_us
    )
    parts = folder_of(record).split("/")
    assert len(parts) == 5
    assert parts[0] == "sentence"
    assert all(part.isascii() and part.isalnum() for part in parts)


@pytest.mark.parametrize(
    "record_id", ["../../evil", "a/b", "", ".", "..", "-x", "a" * 200, "a\nb", "ä", "a b"]
)
async def test_ids_that_could_leave_the_prefix_are_refused(tmp_path: Path, record_id: str) -> None:
    """A record whose id is not an id is a dead letter; nothing is written anywhere."""
    sink = ObjectsSink(ObjectsSettings(url=f"file://{tmp_path}/store"))
    record = msgspec.structs.replace(sentence("alpha", 1), id=record_id)
    assert await sink.deliver([record]) == [Reject("IntegrityError")]
    await sink.close()
    assert _files(tmp_path) == []


async def test_memory_store_and_odd_ids() -> None:
    """Ids with a colon are encoded, and the prefix of the URL is kept."""
    sink = ObjectsSink(ObjectsSettings(url="memory:///some/prefix"))
    record = msgspec.structs.replace(sentence("alpha", 1), id="a:b")
    assert await sink.deliver([record]) == [Ack()]
    found = [entry["path"] for page in obstore.list(sink._store) for entry in page]
    assert len(found) == 1
    assert found[0].startswith("some/prefix/sentence/2024/01/15/")
    assert found[0].endswith(".jsonl")
    assert ":" not in found[0]
    assert await sink.deliver([record]) == [Ack()]
    await sink.close()


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "http://bucket/", "ftp://x/", "s3://user:secret@bucket/", "s3://b/../x",
     "file:///tmp/../etc", "s3://bucket/?x=secret"],
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    """A configuration error without the URL in it."""
    with pytest.raises(ConfigError) as caught:
        ObjectsSink(ObjectsSettings(url=url))
    assert "secret" not in str(caught.value)
