"""Downloads through links that end, break, lie, lead astray: each byte once, or a clear error."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import logging
import socket
import ssl
import traceback
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from conformance.certificates import self_signed
from conformance.link_server import (
    PLANTED,
    LinkServer,
    StoreScript,
    link_server,
    packed,
    transcript,
)
from conformance.scripted_http import Noted, hangs, says, scripted
from steno.adapters.platform_http import trusted_tls
from steno.adapters.stored_transcripts import FetchLimits, LinkStore
from steno.adapters.stored_transcripts.download import Downloads
from steno.core.hosts import Host
from steno.core.secret import Secret
from steno.errors import (
    ConnectFailed,
    IntegrityError,
    ObjectMissing,
    PeerUnavailable,
    ProtocolError,
    RemoteProtocolError,
    StenoError,
    TimedOut,
    TransportError,
)

LIMITS = FetchLimits(renewals=3, retry_first_s=0.01, retry_most_s=0.02)
DATA = transcript(6000)
TAG = '"a-tag"'


class Fetch:
    """One download, and what came of it."""

    def __init__(self, server: LinkServer, store: LinkStore, telemetry: Noted) -> None:
        self.server = server
        self.telemetry = telemetry
        self.progress: list[tuple[int, int | None]] = []
        self.sizes: list[int] = []
        self._downloads = Downloads(store, limits=LIMITS, telemetry=telemetry, draw=lambda: 0.0)

    async def run(self) -> bytes:
        async def fresh() -> Secret:
            return Secret(self.server.link())

        out = []
        async for block in self._downloads.blocks(
            "c-1", await fresh(), fresh, lambda at, of: self.progress.append((at, of))
        ):
            out.append(block)
            self.sizes.append(len(block))
        return b"".join(out)


@asynccontextmanager
async def fetching(
    script: StoreScript, *, platform: Host | None = None, stall_s: float = 5.0
) -> AsyncIterator[Fetch]:
    async with link_server(script) as server:
        async with LinkStore(platform or server.host, stall_s=stall_s) as store:
            fetch = Fetch(server, store, Noted())
            yield fetch
        assert PLANTED not in fetch.telemetry.text()


def chain_of(error: BaseException | None) -> str:
    """Return everything a crash report could print of an error and what hangs on it."""
    if error is None:
        return ""
    words = [repr(error), str(error), repr(error.__dict__), repr(error.args)]
    return "\n".join([*words, chain_of(error.__cause__), chain_of(error.__context__)])


async def refusal(fetch: Fetch) -> StenoError:
    with pytest.raises(StenoError) as caught:
        await fetch.run()
    assert "planted" not in chain_of(caught.value)
    assert "/file/" not in chain_of(caught.value)
    return caught.value


async def test_a_file_comes_as_it_is_and_nothing_of_ours_goes_to_the_store() -> None:
    """No token, no cookie, no referrer; the query arrives as it was signed, letter by letter."""
    async with fetching(StoreScript(DATA, etag=TAG, headers={"Set-Cookie": "a=b"})) as fetch:
        assert await fetch.run() == DATA
        assert await fetch.run() == DATA
    for seen in fetch.server.stored:
        assert not {"Authorization", "Cookie", "Referer"} & set(seen)
        assert seen["path_qs"].endswith(f"?X-Amz-Expires=600&a=%2F%20b&{PLANTED}")
    assert fetch.progress[-1] == (len(DATA), len(DATA))
    assert max(fetch.sizes) <= 1 << 20


@pytest.mark.parametrize("status", [400, 401, 403, 410])
async def test_a_link_that_ends_in_the_middle_is_replaced_and_the_download_goes_on(
    status: int,
) -> None:
    """Ten times over with three renewals allowed: each brought data. No byte is sent twice."""
    part = len(DATA) // 11 + 1
    script = StoreScript(DATA, etag=TAG, link_bytes=part, ended_status=status)
    async with fetching(script) as fetch:
        assert await fetch.run() == DATA
    assert fetch.server.links == 11
    assert fetch.server.sent == len(DATA)
    assert [at for at, _ in fetch.progress] == sorted(at for at, _ in fetch.progress)
    assert fetch.telemetry.events().count("archive.link_renewed") == 10


async def test_a_broken_connection_goes_on_with_the_same_link() -> None:
    """A new link is asked for only where the old one is refused."""
    script = StoreScript(DATA, etag=TAG, cut_bytes=len(DATA) // 4 + 1)
    async with fetching(script) as fetch:
        assert await fetch.run() == DATA
    assert fetch.server.links == 1
    assert fetch.server.sent == len(DATA)
    ranges = [seen.get("Range") for seen in fetch.server.stored]
    assert ranges[0] is None
    assert all(ranges[1:])
    assert {seen.get("If-Range") for seen in fetch.server.stored[1:]} == {TAG}


@pytest.mark.parametrize("etag", ["", TAG, 'W/"weak"'])
async def test_a_store_without_ranges_begins_again_and_nothing_is_given_twice(etag: str) -> None:
    """What was given is left out, after it was found to be the same."""
    sizes = iter([200_000, 400_000, 10_000_000])
    script = StoreScript(DATA, etag=etag, knows_range=False)
    async with fetching(script) as fetch:
        make = fetch.server.link

        def link() -> str:
            script.link_bytes = next(sizes)
            return make()

        fetch.server.link = link  # type: ignore[method-assign]  # each link lives longer
        assert await fetch.run() == DATA
    assert fetch.server.sent == 200_000 + 400_000 + len(DATA)


async def test_without_a_validator_no_range_is_asked_for() -> None:
    """A part of another file could come unseen."""
    script = StoreScript(DATA, link_bytes=len(DATA) // 2)
    async with fetching(script) as fetch:
        script.link_bytes = None
        fetch.server.left[1] = len(DATA) // 2
        assert await fetch.run() == DATA
    assert not any("Range" in seen for seen in fetch.server.stored)


@pytest.mark.parametrize("etag", ["", TAG])
@pytest.mark.parametrize("knows_range", [True, False])
async def test_a_file_that_changes_under_way_is_refused(etag: str, knows_range: bool) -> None:
    """Of the same length, and with the same tag or none: the content tells."""
    other = DATA.replace(b"concert", b"theatre")
    script = StoreScript(
        lambda n: DATA if n == 1 else other,
        etag=etag,
        knows_range=knows_range,
        cut_bytes=len(DATA) // 2,
        headers={"Content-MD5": base64.b64encode(hashlib.md5(DATA).digest()).decode()},
    )
    async with fetching(script) as fetch:
        assert isinstance(await refusal(fetch), IntegrityError)


@pytest.mark.parametrize("change", ["tag", "length"])
async def test_a_file_with_another_tag_or_length_is_another_file(change: str) -> None:
    """It is not even read."""
    script = StoreScript(DATA, etag=TAG, cut_bytes=len(DATA) // 2)

    def data(n: int) -> bytes:
        if n > 1 and change == "tag":
            script.etag = '"another"'
        return DATA + (b" " if n > 1 and change == "length" else b"")

    script.data = data
    async with fetching(script) as fetch:
        assert isinstance(await refusal(fetch), IntegrityError)
        assert fetch.server.sent <= len(DATA) // 2 + (1 << 20)


@pytest.mark.parametrize("coding", ["gzip", "", "aws-chunked"])
@pytest.mark.parametrize("knows_range", [True, False])
async def test_packed_files_are_unpacked_across_renewals(coding: str, knows_range: bool) -> None:
    """By header or by their first bytes; the state of unpacking goes on with the range."""
    data = packed(DATA)
    script = StoreScript(data, etag=TAG, coding=coding, knows_range=knows_range)
    async with fetching(script) as fetch:
        fetch.server.left[1] = len(data) // 2
        assert await fetch.run() == DATA
    assert fetch.server.links == 2
    again = 0 if knows_range else len(data) // 2
    assert fetch.server.sent == len(data) + again
    assert fetch.progress[-1] == (len(data), len(data))


async def test_a_packed_file_is_packed_once_more_for_the_way() -> None:
    """A ``.gz`` file behind a header that says gzip."""
    async with fetching(StoreScript(packed(packed(DATA)), coding="gzip")) as fetch:
        assert await fetch.run() == DATA


async def test_packing_that_is_unknown_is_refused() -> None:
    """Nothing is guessed."""
    async with fetching(StoreScript(DATA, coding="br")) as fetch:
        assert isinstance(await refusal(fetch), RemoteProtocolError)


async def test_a_packed_file_that_ends_in_the_middle_is_damaged() -> None:
    """Even where the store says that it is whole."""
    async with fetching(StoreScript(packed(DATA)[:-9], coding="gzip", chunked=True)) as fetch:
        assert isinstance(await refusal(fetch), IntegrityError)


async def test_refusal_for_good_is_bounded_and_clear() -> None:
    """The first link and three fresh ones, then an error that is never tried again."""
    async with fetching(StoreScript(DATA, refused_from=0)) as fetch:
        error = await refusal(fetch)
    assert type(error) is ProtocolError
    assert not error.retryable
    assert error.fields["status"] == 403
    assert fetch.server.links == 1 + LIMITS.renewals
    assert "clock" in str(error)


async def test_refusal_after_some_data_is_bounded_too() -> None:
    """The count begins anew with data, and ends all the same."""
    script = StoreScript(DATA, etag=TAG, link_bytes=100_000, refused_from=3)
    async with fetching(script) as fetch:
        error = await refusal(fetch)
    assert type(error) is ProtocolError
    assert error.fields["received"] == 200_000
    assert fetch.server.links == 2 + LIMITS.renewals


async def test_a_busy_store_is_asked_again() -> None:
    """By the same link."""
    async with fetching(StoreScript(DATA, first=[503, 429, 500])) as fetch:
        assert await fetch.run() == DATA
    assert fetch.server.links == 1
    async with fetching(StoreScript(DATA, first=[503] * 10)) as fetch:
        assert isinstance(await refusal(fetch), PeerUnavailable)
    assert len(fetch.server.stored) == 1 + LIMITS.renewals


@pytest.mark.parametrize(("status", "kind"), [(404, ObjectMissing), (405, ProtocolError)])
async def test_what_no_try_can_help_ends_it(status: int, kind: type[StenoError]) -> None:
    """Once."""
    async with fetching(StoreScript(DATA, first=[status] * 5)) as fetch:
        assert isinstance(await refusal(fetch), kind)
    assert len(fetch.server.stored) == 1


async def test_redirects_are_followed_within_limits() -> None:
    """Five; links and ranges go along, and a sixth is one too many."""

    def hops(most: int) -> StoreScript:
        def target(request: web.Request) -> str | None:
            done = int(request.query.get("hop", "0"))
            return f"{request.path}?hop={done + 1}&{PLANTED}" if done < most else None

        return StoreScript(DATA, etag=TAG, redirect=target, cut_bytes=len(DATA) // 2 + 1)

    async with fetching(hops(5)) as fetch:
        assert await fetch.run() == DATA
    assert fetch.server.sent == len(DATA)
    async with fetching(hops(6)) as fetch:
        assert isinstance(await refusal(fetch), RemoteProtocolError)
    assert len(fetch.server.stored) == 6


@pytest.mark.parametrize(
    "target",
    [
        "http://192.168.1.7/file/planted",
        "https://10.0.0.1/file/planted",
        "http://169.254.169.254/latest/planted",
        "http://2130706433/file/planted",
        "http://example.com/file/planted",
        "ftp://example.com/file/planted",
        "https://user:planted@example.com/file/",
        "https://[::ffff:10.0.0.1]/file/planted",
        "gopher:/file/planted",
        "http://localhost.evil.example/file/planted",
        "https://exa mple.com/file/planted",
    ],
)
async def test_links_lead_nowhere_private(target: str) -> None:
    """Neither at first nor by a redirect; the address is in no error."""
    async with fetching(StoreScript(DATA, redirect=lambda _: target)) as fetch:
        assert isinstance(await refusal(fetch), RemoteProtocolError)
        fetch.server.link = lambda: target  # type: ignore[method-assign]  # the platform's own
        assert isinstance(await refusal(fetch), RemoteProtocolError)


async def test_this_machine_is_private_where_the_platform_is_elsewhere() -> None:
    """Only a simulator on loopback may send us to loopback, unless it is allow-listed."""
    async with fetching(StoreScript(DATA), platform=Host("api.mypurecloud.com")) as fetch:
        error = await refusal(fetch)
        assert isinstance(error, RemoteProtocolError)
        assert "archive.link_allow" in str(error)
        assert not fetch.server.stored
    async with link_server(StoreScript(DATA)) as server:
        elsewhere = Host("api.mypurecloud.com")
        async with LinkStore(elsewhere, allow=("127.0.0.1",), stall_s=5.0) as store:
            assert await Fetch(server, store, Noted()).run() == DATA


class Inwards(AbstractResolver):
    """A name server that knows our network only, as one that rebinds names does."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Give a private address for any name."""
        return [
            ResolveResult(
                hostname=host,
                host="10.1.2.3",
                port=port,
                family=socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def test_a_name_that_leads_into_our_network_is_not_connected_to() -> None:
    """It is found where the connection is made."""
    async with LinkStore(Host("api.mypurecloud.com"), resolver=Inwards()) as store:
        with pytest.raises(RemoteProtocolError, match="private network") as caught:
            await store.open(Secret(f"https://store.example/file?{PLANTED}"), {})
    assert "planted" not in chain_of(caught.value)


async def test_a_store_that_never_answers_is_left() -> None:
    """The head of an answer has a time of its own."""
    async with scripted(hangs()) as server:
        link = Secret(f"{server.host.http_base}/file?{PLANTED}")
        async with LinkStore(server.host, head_limit_s=0.1) as store:
            with pytest.raises(TimedOut):
                await store.open(link, {})


@pytest.mark.parametrize("off", [1, 1000])
async def test_a_length_that_is_too_long_is_found(off: int) -> None:
    """The store itself says by 416 that there is no more."""
    async with fetching(StoreScript(DATA, etag=TAG, length_off=off)) as fetch:
        assert isinstance(await refusal(fetch), IntegrityError)
    async with fetching(StoreScript(DATA, length_off=off)) as fetch:
        assert isinstance(await refusal(fetch), TransportError)
    assert len(fetch.server.stored) == 2 + LIMITS.renewals


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


SUMS = [
    {"Content-MD5": _b64(hashlib.md5(DATA).digest())},
    {"x-amz-checksum-sha256": _b64(hashlib.sha256(DATA).digest())},
    {"x-amz-checksum-sha1": _b64(hashlib.sha1(DATA).digest())},
    {"x-amz-checksum-crc32": _b64(zlib.crc32(DATA).to_bytes(4, "big"))},
    {"x-goog-hash": f"crc32c=AAAAAA==,md5={_b64(hashlib.md5(DATA).digest())}"},
    {"ETag": f'"{hashlib.md5(DATA).hexdigest()}"', "x-amz-request-id": "1"},
]


@pytest.mark.parametrize("headers", SUMS, ids=lambda headers: next(iter(headers)))
async def test_check_sums_that_are_told_are_held_against_the_file(headers: dict[str, str]) -> None:
    """Also where the download was continued; a file with one letter changed is refused."""
    script = StoreScript(DATA, etag=headers.get("ETag", TAG), headers=headers)
    async with fetching(script) as fetch:
        fetch.server.left[1] = len(DATA) // 2
        assert await fetch.run() == DATA
    script = StoreScript(DATA[:-20] + b"x" + DATA[-19:], etag=script.etag, headers=headers)
    async with fetching(script) as fetch:
        assert isinstance(await refusal(fetch), IntegrityError)


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": f'"{hashlib.md5(b"other").hexdigest()}"'},
        {
            "ETag": f'"{hashlib.md5(b"other").hexdigest()}"',
            "x-amz-request-id": "1",
            "x-amz-server-side-encryption": "aws:kms",
        },
        {"ETag": f'"{hashlib.md5(b"other").hexdigest()}-3"', "x-amz-request-id": "1"},
        {"x-amz-checksum-sha256": "AAAA-3"},
    ],
)
async def test_what_is_no_sum_of_the_whole_is_not_taken_for_one(headers: dict[str, str]) -> None:
    """Tags of other stores, of objects encrypted by a key service, of parts."""
    script = StoreScript(DATA, etag=headers.get("ETag", TAG), headers=headers)
    async with fetching(script) as fetch:
        assert await fetch.run() == DATA


async def test_a_store_that_stands_still_is_left() -> None:
    """A read has an end; what came before it counts, unless it is next to nothing."""
    script = StoreScript(DATA, etag=TAG, pause_s=30.0, piece_bytes=100)
    async with fetching(script, stall_s=0.2) as fetch:
        assert isinstance(await refusal(fetch), TimedOut)
    assert len(fetch.server.stored) == 1 + LIMITS.renewals
    script = StoreScript(DATA, etag=TAG, pause_s=30.0, piece_bytes=len(DATA) // 6)
    async with fetching(script, stall_s=0.1) as fetch:
        assert await fetch.run() == DATA
    assert len(fetch.server.stored) > 1 + LIMITS.renewals


async def test_drips_are_standing_still() -> None:
    """A byte now and then resets nothing: the tries end."""
    script = StoreScript(DATA, etag=TAG, pause_s=0.03, piece_bytes=1)
    async with fetching(script, stall_s=0.15) as fetch:
        async with asyncio.timeout(10):
            assert isinstance(await refusal(fetch), TimedOut)
    assert len(fetch.server.stored) == 1 + LIMITS.renewals


async def test_a_reader_who_takes_his_time_holds_the_store_back_and_is_no_stall() -> None:
    """Memory is bounded by the reader; his pauses are not the store's."""
    data = DATA * 10
    async with fetching(StoreScript(data, etag=TAG), stall_s=0.6) as fetch:
        total = 0

        async def fresh() -> Secret:
            return Secret(fetch.server.link())

        async for block in fetch._downloads.blocks("c-1", await fresh(), fresh, None):
            if total == 0:
                await asyncio.sleep(0.9)
                assert fetch.server.sent < len(data)
            total += len(block)
        assert total == len(data)
        assert len(fetch.server.stored) == 1


async def test_nobody_home_is_a_transport_error() -> None:
    """After the tries, and without the address."""
    async with fetching(StoreScript(DATA)) as fetch:
        dead = f"http://127.0.0.1:1/file/1?{PLANTED}"
        fetch.server.link = lambda: dead  # type: ignore[method-assign]  # nobody listens there
        assert isinstance(await refusal(fetch), TransportError)


@pytest.mark.parametrize(
    "script",
    [
        StoreScript(DATA, refused_from=0),
        StoreScript(DATA, length_off=5),
        StoreScript(DATA, redirect=lambda request: str(request.url)),
        StoreScript(DATA, redirect=lambda _: f"http://[::1/{PLANTED}"),
        StoreScript(DATA, headers={"X-Long": "y" * 40_000}),
        StoreScript(DATA, first=[503] * 9),
    ],
    ids=["refused", "too-long", "circle", "no-address", "long-header", "busy"],
)
async def test_no_link_is_in_any_log_or_error(
    script: StoreScript, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither ours nor a library's, down to the level of debugging."""
    caplog.set_level(logging.DEBUG)
    async with fetching(script) as fetch:
        fetch.server.left[1] = len(DATA) // 2
        error = await refusal(fetch)
        trace = "".join(traceback.format_exception(error))
    assert "planted" not in trace
    assert "planted" not in caplog.text
    assert "planted" not in "".join(capfd.readouterr())


async def test_a_proxy_is_used_where_one_is_set() -> None:
    """What stands in the link is checked all the same."""
    async with link_server(StoreScript(DATA, etag=TAG)) as server:
        proxy = server.host.http_base
        async with LinkStore(server.host, proxy=proxy, stall_s=5.0) as store:
            fetch = Fetch(server, store, Noted())
            link = f"http://127.0.0.1:1/file/1?{PLANTED}"
            server.link = lambda: link  # type: ignore[method-assign]  # nobody but the proxy
            assert await fetch.run() == DATA
            link = f"https://10.0.0.1/file/1?{PLANTED}"
            assert isinstance(await refusal(fetch), RemoteProtocolError)
        assert len(server.stored) == 1


async def test_a_store_whose_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    """And taken where its authority is trusted."""
    pem, key = self_signed(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem, key)
    async with scripted(says(200, DATA), tls=tls) as server:
        link = Secret(f"https://127.0.0.1:{server.host.port}/file?{PLANTED}")
        async with LinkStore(server.host) as store:
            with pytest.raises(ConnectFailed, match="certificate") as caught:
                await store.open(link, {})
            assert "planted" not in chain_of(caught.value)
        async with LinkStore(server.host, tls=trusted_tls(pem)) as store:
            answer = await store.open(link, {})
            assert answer.status == 200
            answer.close()


async def test_a_reader_who_leaves_closes_the_connection() -> None:
    """At once."""
    async with fetching(StoreScript(DATA * 20, etag=TAG)) as fetch:

        async def fresh() -> Secret:
            return Secret(fetch.server.link())

        blocks = fetch._downloads.blocks("c-1", await fresh(), fresh, None)
        async for _ in blocks:
            break
        await blocks.aclose()
        assert fetch.server.sent < len(DATA) * 20


@pytest.mark.soak
async def test_two_hundred_megabytes_through_ten_ends_of_links() -> None:
    """Content by hash, nothing sent twice."""
    data = transcript(1_300_000)
    script = StoreScript(data, etag=TAG, link_bytes=len(data) // 11 + 1)
    async with fetching(script) as fetch:
        digest = hashlib.sha256()

        async def fresh() -> Secret:
            return Secret(fetch.server.link())

        async for block in fetch._downloads.blocks("c-1", await fresh(), fresh, None):
            digest.update(block)
    assert digest.digest() == hashlib.sha256(data).digest()
    assert len(data) > 200_000_000
    assert fetch.server.links == 11
    assert fetch.server.sent == len(data)


def test_the_packing_of_the_tests_is_right() -> None:
    """They would prove nothing else."""
    assert gzip.decompress(packed(DATA)) == DATA
