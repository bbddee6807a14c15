"""`steno media` as it looks from outside: no rule of AudioHook is broken."""

from __future__ import annotations

import base64
from pathlib import Path

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
