"""Doctor on the media side: each check says what it found, and the secrets stay out of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from conformance.certificates import self_signed
from conformance.scripted_http import Reply, says, scripted
from steno.adapters.doctor import (
    Area,
    Finding,
    GrpcPeer,
    Verdict,
    check_audiohook_keys,
    check_bearer,
    check_certificate,
    check_engine,
    check_listen,
    check_recordings,
    check_speech,
)
from steno.adapters.platform_http import HttpClient
from steno.core.secret import Secret

NOW = datetime.now(UTC)
TOKEN = "planted-token-0123456789"
JWKS = {"keys": [{"kty": "RSA", "kid": "1", "n": "x", "e": "AQAB"}]}


def verdicts(findings: list[Finding]) -> list[Verdict]:
    return [finding.verdict for finding in findings]


# --- the server's side -----------------------------------------------------------------------


def test_a_free_address_is_fine_and_one_in_use_is_a_warning() -> None:
    """In use may well mean that `steno media` runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (finding,) = check_listen(address, has_tls=False, behind_proxy=False)
        assert finding.verdict is Verdict.WARN
    (finding,) = check_listen(address, has_tls=False, behind_proxy=False)
    assert finding.verdict is Verdict.OK


def test_an_address_that_is_not_ours_fails() -> None:
    """TEST-NET-1 belongs to no machine."""
    finding = check_listen("192.0.2.1:0", has_tls=True, behind_proxy=False)[0]
    assert finding.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("has_tls", "behind_proxy", "count"), [(True, False, 1), (False, True, 1), (False, False, 2)]
)
def test_beyond_loopback_somebody_must_do_tls(
    has_tls: bool, behind_proxy: bool, count: int
) -> None:
    """We, or a proxy that is named."""
    findings = check_listen("0.0.0.0:0", has_tls=has_tls, behind_proxy=behind_proxy)
    assert len(findings) == count
    assert (findings[-1].verdict is Verdict.FAIL) == (count == 2)


def test_a_certificate_is_judged_by_its_dates(tmp_path: Path) -> None:
    """Not yet, soon over, over; and that it signs itself is told."""
    pem, key = self_signed(tmp_path)  # from yesterday until tomorrow
    key.chmod(0o600)
    soon = check_certificate(pem, key, now=NOW)
    assert verdicts(soon) == [Verdict.WARN, Verdict.WARN]
    assert "self-signed" in soon[1].fix
    for days in (-2, 2):
        finding = check_certificate(pem, key, now=NOW + timedelta(days=days))[0]
        assert finding.verdict is Verdict.FAIL
        assert finding.area is Area.CONFIG


def test_certificate_and_key_must_belong_together(tmp_path: Path) -> None:
    """A key of another certificate, no PEM at all, no file."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    pem, key = self_signed(tmp_path / "a")
    _, stranger = self_signed(tmp_path / "b")
    no_pem = tmp_path / "text"
    no_pem.write_text("planted")
    for certificate, one, words in (
        (pem, stranger, "do not belong together"),
        (pem, no_pem, "no PEM"),
        (no_pem, key, "no PEM"),
        (tmp_path / "absent", key, "cannot be read"),
    ):
        (finding,) = check_certificate(certificate, one, now=NOW)
        assert finding.verdict is Verdict.FAIL
        assert words in finding.what
        assert "planted" not in repr(finding)


def test_a_key_that_others_can_read_fails(tmp_path: Path) -> None:
    """And the cure is told."""
    pem, key = self_signed(tmp_path)
    key.chmod(0o644)
    assert check_certificate(pem, key, now=NOW)[-1].fix.startswith("Run chmod 600")


def test_recordings_need_a_private_folder(tmp_path: Path) -> None:
    """Not there, open to others, fine; nothing is left behind."""
    folder = tmp_path / "calls"
    assert check_recordings(folder).verdict is Verdict.FAIL
    folder.mkdir(mode=0o755)
    assert check_recordings(folder).verdict is Verdict.WARN
    folder.chmod(0o700)
    assert check_recordings(folder).verdict is Verdict.OK
    assert list(folder.iterdir()) == []


# --- who may connect -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "verdict", "words"),
    [
        ({}, Verdict.WARN, "refused"),
        ({"planted": b""}, Verdict.WARN, "unsigned"),
        ({"planted": b"short"}, Verdict.WARN, "5 bytes"),
        ({"planted key": bytes(32)}, Verdict.FAIL, "character"),
        ({"planted==": bytes(32)}, Verdict.OK, "32 bytes"),
    ],
)
def test_audiohook_keys_are_judged_and_not_shown(
    keys: dict[str, bytes], verdict: Verdict, words: str
) -> None:
    """A key is told by its number."""
    (finding,) = check_audiohook_keys(keys)
    assert finding.verdict is verdict
    assert words in finding.what
    assert "planted" not in repr(finding)


async def test_bearer_tokens_are_counted_and_not_shown() -> None:
    """None, long ones, a short one."""
    async with HttpClient() as http:
        found = [
            (await check_bearer(Secret(text), jwks_url="", check_url="", http=http))[0]
            for text in ("", f"{TOKEN}, {TOKEN}", f"{TOKEN} short")
        ]
    assert verdicts(found) == [Verdict.WARN, Verdict.OK, Verdict.WARN]
    assert "planted" not in repr(found)


@pytest.mark.parametrize(
    ("reply", "verdict", "area"),
    [
        (says(200, JWKS), Verdict.OK, Area.CONFIG),
        (says(200, {"keys": []}), Verdict.FAIL, Area.CONFIG),
        (says(200, b"<html>planted"), Verdict.FAIL, Area.CONFIG),
        (says(404), Verdict.FAIL, Area.REACH),
    ],
)
async def test_the_jwks_is_fetched(reply: Reply, verdict: Verdict, area: Area) -> None:
    """A JWKS without keys verifies nobody."""
    async with scripted(reply) as server, HttpClient() as http:
        url = f"{server.host.http_base}/jwks"
        (finding,) = await check_bearer(Secret(""), jwks_url=url, check_url="", http=http)
    assert finding.verdict is verdict
    assert finding.area is area
    assert "planted" not in repr(finding)


# --- recognition -----------------------------------------------------------------------------


async def test_the_speech_service_is_reached_or_not() -> None:
    """A service without health service is fine when it answers at all."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    there = await check_speech(GrpcPeer("speech", f"127.0.0.1:{port}"))
    await server.stop(None)
    gone = await check_speech(GrpcPeer("speech", f"127.0.0.1:{port}"), limit_s=2)
    assert verdicts([there, gone]) == [Verdict.OK, Verdict.FAIL]
    assert "speech.address" in gone.fix


def test_an_engine_needs_its_library_and_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra to install is named; a model by name is fetched once, which is told."""

    def judged(name: str, model: str = "", *, named: bool = False) -> Finding:
        return check_engine("speech.engine", name, model, may_be_named=named)

    assert judged("pocketsphinx").verdict is Verdict.OK
    assert judged("vosk", str(tmp_path)).verdict is Verdict.OK
    assert judged("vosk", str(tmp_path / "absent")).verdict is Verdict.FAIL
    assert judged("vosk", "small").verdict is Verdict.FAIL
    assert judged("whisper", "small", named=True).verdict is Verdict.WARN
    assert judged("whisper", "models/a/small", named=True).verdict is Verdict.FAIL
    monkeypatch.setattr("steno.adapters.doctor.media.find_spec", lambda name: None)
    finding = judged("sherpa")
    assert finding.verdict is Verdict.FAIL
    assert "steno[sherpa]" in finding.fix


# --- the command -----------------------------------------------------------------------------


def doctor(tmp_path: Path, **env: str) -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit code and its report."""
    done = subprocess.run(
        [sys.executable, "-m", "steno.cli", "doctor", "--json"],
        env={
            "PATH": os.defpath,
            "HOME": str(tmp_path),
            "STENO_STATE_DIR": str(tmp_path / "state"),
            **env,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def test_media_alone_is_examined_without_a_platform(tmp_path: Path) -> None:
    """With the media capability alone nothing is said about hosts and OAuth."""
    code, report = doctor(
        tmp_path,
        STENO_FEATURES="media",
        STENO_MEDIA_LISTEN="127.0.0.1:0",
        STENO_MEDIA_BEARER_TOKENS=TOKEN,
        STENO_SPEECH_ENGINE="pocketsphinx",
    )
    checks = {one["check"]: one["verdict"] for one in report["checks"]}
    assert code == 0
    assert checks["media settings"] == "ok"
    assert checks["speech.engine pocketsphinx"] == "ok"
    assert checks["AudioHook keys"] == "warn"
    assert not any("token from" in name or "way to" in name for name in checks)
    assert TOKEN not in json.dumps(report)


def test_what_media_would_not_start_without_is_a_failure(tmp_path: Path) -> None:
    """Exit code 2: configuration."""
    code, report = doctor(tmp_path, STENO_FEATURES="media", STENO_MEDIA_LISTEN="127.0.0.1:0")
    failed = [one["what"] for one in report["checks"] if one["verdict"] == "fail"]
    assert code == 2
    assert any("speech.address" in what for what in failed)
    assert any("media.audiohook_keys" in what for what in failed)
