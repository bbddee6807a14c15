"""What the media capability makes of the settings and of its past."""

from __future__ import annotations

import base64
import time
from uuid import uuid4

import pytest

from steno.app.media import media_settings
from steno.config import load
from steno.ports.audio_server import UpgradeRequest
from steno.wire.audiohook import Keyring, NonceCache, Upgrade, sign, verify

KEY, SECRET = "an-api-key", b"a client secret of 32 bytes, so."


def upgrade(created: int) -> UpgradeRequest:
    """Give an upgrade signed at this time."""
    organization, session, correlation = (str(uuid4()) for _ in range(3))
    about = Upgrade("/audiohook", "stt.example.org", organization, session, correlation, KEY)
    signature = sign(about, SECRET, nonce=uuid4().hex, created=created, expires=created + 10)
    ids = zip(
        ("organization", "session", "correlation"),
        (organization, session, correlation),
        strict=True,
    )
    headers = [(f"audiohook-{name}-id", value) for name, value in ids]
    named = (("host", "stt.example.org"), ("x-api-key", KEY), *headers, *signature)
    return UpgradeRequest("/audiohook", "/audiohook", named, "192.0.2.7", secure=True)


@pytest.mark.parametrize("had_earlier", [True, False])
def test_what_was_signed_before_a_restart_is_refused(had_earlier: bool) -> None:
    """The process before may have taken it, and its memory of nonces is gone; the skew of clocks
    is no excuse. Where there was none before, nothing is lost to caution.
    """
    rules = media_settings(load(None, {}, {}), "h", had_earlier=had_earlier).signature
    keyring = Keyring({KEY: base64.b64encode(SECRET).decode()})
    nonces = NonceCache(rules.keep_nonces_s)
    now = int(time.time())
    reasons = [
        verify(upgrade(created), keyring, nonces, utc_s=now + 1, now=0.0, rules=rules).reason
        for created in (now - 2, now + 1)
    ]
    assert reasons == ["before-start" if had_earlier else "signed", "signed"]
