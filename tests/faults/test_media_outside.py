"""`steno media` as it looks from outside: no rule of AudioHook is broken, no replay passes."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from uuid import uuid4

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from faults.media_rig import KEY, SECRET, Media
from steno.adapters.doctor import AudioHookTarget, check_audiohook
from steno.adapters.platform_http import trusted_tls


async def test_doctor_finds_nothing_against_our_own_server(tmp_path: Path) -> None:
    """Probe, a session under the probe's ids with audio and pings, and an unsigned upgrade."""
    media = Media(tmp_path, "", options=("--engine", "none")).start()
    try:
        await media.serving()
        url = f"ws://{media.address}/audiohook"
        target = AudioHookTarget(url, KEY, base64.b64decode(SECRET))
        findings = await check_audiohook(target, tls=trusted_tls(None))
        assert [one for one in findings if one.verdict != "ok"] == []
        assert any(one.check == "session: pong" for one in findings)
        assert await media.stop() == 0
        assert media.file.read_bytes() == b"" if media.file.exists() else True  # nothing stored
    finally:
        media.end()


async def test_an_upgrade_taken_before_a_kill_opens_nothing_after_it(tmp_path: Path) -> None:
    """The memory of nonces is gone with the process; what it took is refused all the same."""
    media = Media(tmp_path, "", options=("--engine", "none")).start()
    try:
        await media.serving()
        url = f"ws://{media.address}/audiohook"
        target = AudioHookTarget(url, KEY, base64.b64decode(SECRET))
        taken = target.headers(str(uuid4()), str(uuid4()))
        async with connect(url, additional_headers=taken, compression=None):
            pass
        await asyncio.sleep(1.0 - time.time() % 1.0)  # signatures tell whole seconds
        media.kill()
        media.start()
        await media.serving()
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, additional_headers=taken, compression=None)
        assert refused.value.response.status_code == 401
        fresh = target.headers(str(uuid4()), str(uuid4()))
        async with connect(url, additional_headers=fresh, compression=None):
            pass
    finally:
        media.end()
