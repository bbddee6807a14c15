"""Downloads by presigned link: without a token, within limits, and told to nobody."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from steno.adapters.platform_audio import MAX_REDIRECTS, Downloads
from steno.adapters.platform_http import map_aiohttp_error
from steno.errors import (
    PeerUnavailable,
    ProtocolError,
    RemoteProtocolError,
    StenoError,
    StorageError,
    TransportError,
    UnsupportedAudio,
)
from steno.wire.batch_download import Link

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def store(
    folder: Path,
    handler: Handler,
    *,
    allow_http: bool = True,
    max_bytes: int = 1000,
    allow: tuple[str, ...] = (),
) -> AsyncIterator[tuple[Downloads, str]]:
    downloads = Downloads(
        folder,
        max_bytes=max_bytes,
        map_error=map_aiohttp_error,
        tls=ssl.create_default_context(),
        allow_http=allow_http,
        allow=allow,
    )
    app = web.Application()
    app.router.add_get("/{rest:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield downloads, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await downloads.close()
        await runner.cleanup()


def says(status: int, data: bytes = b"", **headers: str) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        del request
        return web.Response(status=status, body=data, headers=headers)

    return answer


async def test_a_file_is_kept_for_us_alone_and_named_by_a_number(tmp_path: Path) -> None:
    """Files that an earlier process left are removed."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / "1-1.audio").write_bytes(b"old")
    async with store(folder, says(200, b"sound")) as (downloads, base):
        assert not list(folder.iterdir())
        path = await downloads.fetch(Link(f"{base}/planted?Signature=planted"))
        assert path is not None
        assert path.read_bytes() == b"sound"
        assert path.stat().st_mode & 0o777 == 0o600
        assert "planted" not in path.name


async def test_no_token_goes_with_a_link(tmp_path: Path) -> None:
    """A store would refuse it, and it is none of its business."""
    seen: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(body=b"x")

    async with store(tmp_path, answer) as (downloads, base):
        await downloads.read(Link(f"{base}/a"), max_bytes=10)
    assert not {"Authorization", "Cookie"} & seen[0].keys()


@pytest.mark.parametrize("status", [403, 410])
async def test_a_link_that_ended_is_no_error(tmp_path: Path, status: int) -> None:
    """Whoever asked for it asks for another."""
    async with store(tmp_path, says(status, b"<Error/>")) as (downloads, base):
        assert await downloads.fetch(Link(f"{base}/a")) is None
        assert await downloads.read(Link(f"{base}/a"), max_bytes=10) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, PeerUnavailable), (503, PeerUnavailable), (429, PeerUnavailable), (400, ProtocolError),
     (404, ProtocolError), (204, ProtocolError)],
)  # fmt: skip
async def test_a_refusal_is_an_error_of_ours(
    tmp_path: Path, status: int, error: type[StenoError]
) -> None:
    """Retryable where the store may do better; nothing of the address is in it."""
    async with store(tmp_path, says(status)) as (downloads, base):
        with pytest.raises(error) as caught:
            await downloads.fetch(Link(f"{base}/planted"))
        assert caught.value.retryable == (error is PeerUnavailable)
        assert "planted" not in str(caught.value)
        assert base not in str(caught.value)


async def test_redirects_are_followed_so_far_and_no_further(tmp_path: Path) -> None:
    """Relative ones too."""

    async def answer(request: web.Request) -> web.Response:
        left = int(request.query["left"])
        if not left:
            return web.Response(body=b"there")
        return web.Response(status=307, headers={"Location": f"/next?left={left - 1}"})

    async with store(tmp_path, answer) as (downloads, base):
        link = Link(f"{base}/a?left={MAX_REDIRECTS}")
        assert await downloads.read(link, max_bytes=10) == b"there"
        with pytest.raises(ProtocolError, match="too often"):
            await downloads.read(Link(f"{base}/a?left={MAX_REDIRECTS + 1}"), max_bytes=10)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/", "", "http://["])
async def test_a_redirect_leads_to_no_other_scheme(tmp_path: Path, target: str) -> None:
    """Nor for ever to itself."""
    async with store(tmp_path, says(302, Location=target)) as (downloads, base):
        with pytest.raises(ProtocolError):
            await downloads.read(Link(f"{base}/a"), max_bytes=10)


async def test_plain_http_is_refused_where_the_platform_has_tls(tmp_path: Path) -> None:
    """Whoever listens would have the call."""
    async with store(tmp_path, says(200), allow_http=False) as (downloads, base):
        with pytest.raises(ProtocolError, match="not https"):
            await downloads.fetch(Link(f"{base}/a"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_a_link_into_a_private_network_gets_no_connection(tmp_path: Path, host: str) -> None:
    """By address or by name; an address that is allow-listed is connected to."""
    async with store(tmp_path / "d", says(200), allow_http=False) as (downloads, base):
        port = base.rpartition(":")[2]
        with pytest.raises(ProtocolError, match="private network"):
            await downloads.fetch(Link(f"https://{host}:{port}/a"))
    allow = ("127.0.0.0/8", "::1", "::ffff:127.0.0.0/104")
    async with store(tmp_path / "d", says(200), allow_http=False, allow=allow) as (downloads, base):
        port = base.rpartition(":")[2]
        with pytest.raises(TransportError):  # it speaks no TLS
            await downloads.fetch(Link(f"https://{host}:{port}/a"))


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_file_beyond_the_limit_is_not_kept(tmp_path: Path, is_told: bool) -> None:
    """Whether its length was told or comes to light."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if is_told:
            return web.Response(body=bytes(1001))
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(11):
            await response.write(bytes(100))
        return response

    async with store(tmp_path, answer) as (downloads, base):
        with pytest.raises(UnsupportedAudio) as caught:
            await downloads.fetch(Link(f"{base}/a"))
        assert caught.value.fields["code"] == "audio.too_long"
        with pytest.raises(RemoteProtocolError):
            await downloads.read(Link(f"{base}/a"), max_bytes=1000)
    assert not list(tmp_path.iterdir())


async def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    """It can be tried again."""

    async def answer(request: web.Request) -> Any:
        response = web.StreamResponse()
        response.content_length = 500
        await response.prepare(request)
        await response.write(bytes(100))
        assert request.transport is not None
        request.transport.close()
        return response

    async with store(tmp_path, answer) as (downloads, base):
        with pytest.raises(TransportError):
            await downloads.fetch(Link(f"{base}/a"))
    assert not list(tmp_path.iterdir())


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """Before anything is downloaded."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        async with store(tmp_path / "file" / "folder", says(200)):
            pass
