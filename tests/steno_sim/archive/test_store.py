"""The store of transcripts: links that end, ranges, and downloads that go wrong."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import zlib
from typing import Any

import aiohttp
import pytest

from conformance.sim_peers import Answer, Peer, peer
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.server import Simulator

CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
BIG: dict[str, Any] = {"inline_bytes": 0, "size": "400KB"}


def simulator(**archive: Any) -> Simulator:
    return Simulator("quiet", archive=ArchiveSettings(**(BIG | archive)))


async def link(client: Peer) -> str:
    answer = await client.call("GET", f"/api/v2/conversations/media/{CALL}/transcripts")
    found: str = answer.json["downloadUrl"]
    return found


async def fetch(client: Peer, url: str, **headers: str) -> Answer:
    options = {"Accept-Encoding": "identity"} | headers
    async with client.session.get(url, headers=options, allow_redirects=False) as response:
        return Answer(response.status, response.headers, await response.read())


async def collect(client: Peer, url: str, into: bytearray) -> None:
    async with client.session.get(url) as response:
        async for piece in response.content.iter_any():
            into += piece


async def test_a_file_is_whole_with_length_tag_and_checksum() -> None:
    """The length is right, and the checksum is that of the bytes."""
    async with simulator() as sim, peer(sim) as client:
        got = await fetch(client, await link(client))
        stats = sim.archive.stats()
    assert got.status == 200
    assert int(got.headers["Content-Length"]) == len(got.raw) >= 400_000
    digest = base64.b64encode(hashlib.sha256(got.raw).digest()).decode()
    assert got.headers["x-amz-checksum-sha256"] == digest
    assert json.loads(got.raw)["conversation"] == CALL
    assert (stats["links"], stats["downloads"], stats["bytes"]) == (1, 1, len(got.raw))


async def test_ranges_are_pieces_of_the_same_file() -> None:
    """First bytes, last bytes, the middle; behind the end is 416."""
    async with simulator() as sim, peer(sim) as client:
        url = await link(client)
        whole = (await fetch(client, url)).raw
        size = len(whole)
        wanted = {
            "bytes=0-9": slice(0, 10),
            "bytes=-7": slice(-7, None),
            "bytes=1000-": slice(1000, None),
            "bytes=131071-262144": slice(131071, 262145),
        }
        for text, part in wanted.items():
            got = await fetch(client, url, Range=text)
            assert (got.status, got.raw) == (206, whole[part])
            assert got.headers["Content-Range"].endswith(f"/{size}")
        assert (await fetch(client, url, Range=f"bytes={size}-")).status == 416


async def test_if_range_with_another_tag_gives_the_whole_file() -> None:
    """And ``If-Match`` with another is 412."""
    async with simulator() as sim, peer(sim) as client:
        url = await link(client)
        tag = (await fetch(client, url)).headers["ETag"]
        same = await fetch(client, url, **{"Range": "bytes=5-", "If-Range": tag})
        other = await fetch(client, url, **{"Range": "bytes=5-", "If-Range": '"x"'})
        refused = await fetch(client, url, **{"If-Match": '"x"'})
    assert (same.status, other.status, refused.status) == (206, 200, 412)
    assert same.raw == other.raw[5:]


async def test_a_store_without_ranges_sends_everything() -> None:
    """Nor does it say that it knew them; a tag is left out too where that is asked."""
    async with simulator(range=False, etag=False) as sim, peer(sim) as client:
        got = await fetch(client, await link(client), Range="bytes=5-")
    assert got.status == 200
    assert "Accept-Ranges" not in got.headers
    assert "ETag" not in got.headers


@pytest.mark.parametrize("status", [403, 410])
async def test_a_link_ends_for_ranges_too(status: int) -> None:
    """A fresh link leads to the same file."""
    async with simulator(url_ttl_s=0.8, expired_status=status) as sim, peer(sim) as client:
        url = await link(client)
        first = await fetch(client, url)
        await asyncio.sleep(0.85)
        ended = await fetch(client, url, Range="bytes=9-")
        again = await fetch(client, await link(client))
    assert ended.status == status
    assert b"Request has expired" in ended.raw
    assert again.headers["ETag"] == first.headers["ETag"]


async def test_a_link_that_ends_under_way_cuts_the_download() -> None:
    """Only with ``expiry=cut``; what came is the beginning of the file."""
    async with simulator(url_ttl_s=0.4, expiry="cut", rate=4e5) as sim, peer(sim) as client:
        url = await link(client)
        received = bytearray()
        with pytest.raises(aiohttp.ClientPayloadError):
            await collect(client, url, received)
        stats = sim.archive.stats()
    assert 0 < len(received) < 390_000
    assert stats["answers"] == {"200": 1, "cut by expiry": 1}
    async with simulator(url_ttl_s=0.4, rate=8e5) as sim, peer(sim) as client:
        assert len((await fetch(client, await link(client))).raw) >= 400_000


async def test_a_token_or_a_changed_link_is_refused() -> None:
    """400 for the token, 403 for any change."""
    async with simulator() as sim, peer(sim) as client:
        url = await link(client)
        token = await fetch(client, url, Authorization=f"Bearer {client.token}")
        changed = await fetch(client, url.replace("document", "platform"))
        longer = await fetch(client, url.replace("Expires=600", "Expires=900"))
    assert (token.status, changed.status, longer.status) == (400, 403, 403)


async def test_redirects_lead_to_the_file_and_end_with_the_link() -> None:
    """So many answers 302, by turns with a host and without."""
    async with simulator(redirects=2) as sim, peer(sim) as client:
        url = await link(client)
        first = await fetch(client, url)
        second = await fetch(client, first.headers["Location"])
        assert (first.status, second.status) == (302, 302)
        assert second.headers["Location"].startswith("/")
        last = await fetch(client, sim.url + second.headers["Location"])
        assert last.status == 200
        async with client.session.get(url) as response:
            assert await response.read() == last.raw


async def test_compressed_answers_have_a_tag_of_their_own() -> None:
    """For who accepts gzip; ranges are of the file itself."""
    async with simulator(gzip=True) as sim, peer(sim) as client:
        url = await link(client)
        plain = await fetch(client, url)
        part = await fetch(client, url, **{"Accept-Encoding": "gzip", "Range": "bytes=3-"})
        async with aiohttp.ClientSession(auto_decompress=False) as raw:
            async with raw.get(url, headers={"Accept-Encoding": "gzip"}) as response:
                packed = await response.read()
            assert response.headers["Content-Encoding"] == "gzip"
            assert response.headers["ETag"] != plain.headers["ETag"]
    assert zlib.decompress(packed, 31) == plain.raw
    assert (part.status, part.raw) == (206, plain.raw[3:])


@pytest.mark.parametrize("length", ["none", "short"])
async def test_a_length_may_be_missing_or_too_short(length: str) -> None:
    """Chunked, or a byte is missing at the end."""
    async with simulator(length=length, checksum=False) as sim, peer(sim) as client:
        got = await fetch(client, await link(client))
        size = sim.archive.truth(CALL)[0].size
    missing = 1 if length == "short" else 0
    assert len(got.raw) == size - missing
    assert ("Content-Length" in got.headers) == (length == "short")


@pytest.mark.parametrize("trouble", ["long", "cut", "fault"])
async def test_a_download_may_break_off(trouble: str) -> None:
    """The client sees that bytes are missing."""
    known: dict[str, dict[str, Any]] = {"long": {"length": "long"}, "cut": {"cut": 1.0}}
    options = known.get(trouble, {})
    async with simulator(**options) as sim, peer(sim) as client:
        url = await link(client)
        if trouble == "fault":
            sim.inject(kind="truncate", path="/transcript-store/*")
        with pytest.raises(aiohttp.ClientPayloadError):
            await fetch(client, url)
        if trouble == "fault":
            assert (await fetch(client, url)).status == 200


async def test_a_download_may_end_early_as_if_it_were_whole() -> None:
    """Without a length, so that only the JSON tells."""
    async with simulator(truncated=1.0) as sim, peer(sim) as client:
        got = await fetch(client, await link(client))
        size = sim.archive.truth(CALL)[0].size
    assert got.status == 200
    assert len(got.raw) == size // 2
    with pytest.raises(ValueError, match=r".+"):
        json.loads(got.raw)


async def test_a_store_may_be_unavailable_or_slow() -> None:
    """503 in XML; a drip takes its time between pieces."""
    async with simulator(unavailable=1.0) as sim, peer(sim) as client:
        got = await fetch(client, await link(client))
        assert got.status == 503
        assert b"SlowDown" in got.raw
    async with simulator(slow=1.0, drip_s=0.005) as sim, peer(sim) as client:
        begun = asyncio.get_running_loop().time()
        await fetch(client, await link(client))
        assert asyncio.get_running_loop().time() - begun > 0.1


async def test_a_file_may_be_another_one_behind_a_fresh_link() -> None:
    """Its tag tells; ``If-Range`` with the old one gives all of the new one."""
    async with simulator(changing=True) as sim, peer(sim) as client:
        first = await fetch(client, await link(client))
        fresh = await link(client)
        headers = {"Range": "bytes=9-", "If-Range": first.headers["ETag"]}
        second = await fetch(client, fresh, **headers)
    assert second.status == 200
    assert second.headers["ETag"] != first.headers["ETag"]
    assert json.loads(second.raw) != json.loads(first.raw)


async def test_a_client_that_leaves_harms_nobody() -> None:
    """The next download is whole."""
    async with simulator(rate=1e6) as sim, peer(sim) as client:
        url = await link(client)
        async with client.session.get(url) as response:
            await response.content.read(10)
            response.close()
        assert (await fetch(client, url, Range="bytes=0-9")).status == 206


@pytest.mark.parametrize("fate", ["truncated_file", "bad"])
async def test_files_may_be_damaged_themselves(fate: str) -> None:
    """A file that ends in the middle, with the right length; or turns that nobody can read."""
    async with simulator(**{fate: 1.0}) as sim, peer(sim) as client:
        got = await fetch(client, await link(client))
        truth = sim.archive.truth(CALL)[0]
    assert len(got.raw) == truth.size
    if fate == "truncated_file":
        with pytest.raises(ValueError, match=r".+"):
            json.loads(got.raw)
    else:
        turns = json.loads(got.raw)["transcript"]
        for turn, said in zip(turns, truth.turns, strict=True):
            readable = isinstance(turn, dict) and turn.get("text") == said.text
            assert readable == (not said.bad)
        assert 0.04 < sum(t.bad for t in truth.turns) / truth.count < 0.06
