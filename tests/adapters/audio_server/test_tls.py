"""TLS: pausing and resuming loses nothing, certificates change while the server runs."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import warnings
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from conformance.audio_rig import Rig, Taker, raw, serving
from conformance.certificates import self_signed
from steno.adapters.audio_server import ServerSettings


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    cert, key = self_signed(tmp_path)
    return ServerSettings(listen="127.0.0.1:0", tls_cert=cert, tls_key=key, handshake_s=2.0)


def trusting(settings: ServerSettings) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(settings.tls_cert))


async def test_reading_is_paused_and_resumed_many_times_without_a_stall(
    settings: ServerSettings,
) -> None:
    """TLS keeps records the kernel knows nothing of: none may wait for the next to arrive.

    Each round sends bursts, larger and smaller than one read, and then waits for their echo with
    nothing more on its way; a transport that forgets what it had decrypted stalls here.
    """
    rounds, burst = 100, 40

    def take(taker: Taker) -> None:
        assert taker.socket is not None
        taker.socket.rest(0.02 if len(taker.batches) % 3 else 0.04)
        if taker.log[-1][1].startswith(b"ask"):
            taker.socket.send_text(b"%d" % len(taker.log))

    async with serving(settings) as rig:
        rig.prepare = lambda taker: setattr(taker, "on_take", take)

        async def call(number: int) -> None:
            size = (150, 700, 3000, 17000)[number]
            async with connect(
                rig.url(scheme="wss"), ssl=trusting(settings), compression=None
            ) as client:
                for done in range(1, rounds // 4 + 1):
                    for _ in range(burst):
                        await client.send("x" * size)
                    await client.send("ask")
                    async with asyncio.timeout(5):
                        assert await client.recv() == str(done * (burst + 1))

        async with asyncio.TaskGroup() as tasks:
            for number in range(4):
                tasks.create_task(call(number))
        assert all(request.secure for request in rig.requests)


async def test_ends_and_refusals_work_over_tls(settings: ServerSettings) -> None:
    """The close frame arrives, and so does an answer to what is no upgrade."""
    async with serving(settings) as rig:
        rig.max_message_bytes = 1000
        async with connect(
            rig.url(scheme="wss"), ssl=trusting(settings), compression=None
        ) as client:
            await client.send("x" * 100_000)
            await client.wait_closed()
            assert client.close_code == 1009
        assert (await rig.takers[0].closed()).code == 1009
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", rig.port, ssl=trusting(settings)
        )
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 426 ")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_new_certificate_is_used_and_a_broken_one_is_not(
    settings: ServerSettings, tmp_path: Path
) -> None:
    """Open connections go on; a chain whose key has not arrived is waited out."""
    (tmp_path / "new").mkdir()
    cert, key = self_signed(tmp_path / "new")
    assert settings.tls_cert is not None
    assert settings.tls_key is not None
    old = trusting(settings)
    async with (
        serving(settings) as rig,
        connect(rig.url(scheme="wss"), ssl=old) as client,
    ):
        shutil.copy(cert, settings.tls_cert)
        await until_logged(rig, "media.certificate_unusable")
        async with connect(rig.url(scheme="wss"), ssl=old):
            pass
        shutil.copy(key, settings.tls_key)
        await until_logged(rig, "media.certificate_replaced")
        async with connect(rig.url(scheme="wss"), ssl=trusting(settings)):
            pass
        with pytest.raises(ssl.SSLError):
            await connect(rig.url(scheme="wss"), ssl=old)
        await client.send("still here")
        await rig.takers[0].until(lambda: bool(rig.takers[0].log))


async def until_logged(rig: Rig, event: str) -> None:
    async with asyncio.timeout(5):
        while not rig.telemetry.named(event):
            await asyncio.sleep(0.01)


async def test_versions_before_1_2_are_refused(settings: ServerSettings) -> None:
    """Neither end may be talked down."""
    async with serving(settings) as rig:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore"):  # old versions are what this is about
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", rig.port, ssl=context)


async def test_a_tls_handshake_that_does_not_come_is_dropped(settings: ServerSettings) -> None:
    """Silence before TLS is no better than after it."""
    async with serving(settings, handshake_s=0.05) as rig, raw(rig, upgraded=False) as client:
        assert await client.ended()
        assert rig.requests == []
