"""`steno doctor audiohook` and `signature`: a server judged from outside, a request explained."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from steno.adapters.doctor import (
    AudioHookTarget,
    Finding,
    check_audiohook,
    exit_code_of,
    read_captured,
)
from steno.adapters.platform_http import trusted_tls
from steno.errors import ConfigError
from steno.ports.audio_server import UpgradeRequest
from steno.wire.audiohook.signature import Keyring, NonceCache, verify

KEY = "ZGVtby1hcGkta2V5LTAx"
SECRET_TEXT = "aW52ZW50ZWQtc2hhcmVkLXNlY3JldC1mb3ItdGVzdHM="
SECRET = base64.b64decode(SECRET_TEXT)

# Built by hand after the rules of the AudioHook protocol 2; shows port and query.
HEAD = """\
GET /audiohook/live?tenant=blue HTTP/1.1
Host: stt.example.org:8443
Audiohook-Organization-Id: 5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01
Audiohook-Session-Id: 0b9d7a44-2c5e-4f10-8e3b-6a1c9d5e7f22
Audiohook-Correlation-Id: c4e8f1a6-93b2-4d07-b5c8-1e2f3a4b5c6d
X-API-KEY: ZGVtby1hcGkta2V5LTAx
Signature-Input: sig1=("@request-target" "@authority" "audiohook-organization-id" \
"audiohook-session-id" "audiohook-correlation-id" "x-api-key");keyid="ZGVtby1hcGkta2V5LTAx";\
nonce="bm9uY2UtMDAwMS1hYmNkZWY";alg="hmac-sha256";created=1767225600;expires=1767225610
Signature: sig1=:4jF/SlndXmJXZjcIEFwylGM/QIAftQQnIDrWVMDLC30=:
"""

Answer = Callable[["Script", dict[str, Any]], None]


class Script:
    """One connection of a server that keeps the rules, but for what a test lets it break."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.out: list[str] = []
        self.seq = 0
        self.session = ""

    def say(self, kind: str, parameters: dict[str, Any], clientseq: int) -> None:
        self.seq += 1
        message = {
            "version": "2",
            "id": self.session,
            "type": kind,
            "seq": self.seq,
            "clientseq": clientseq,
            "parameters": parameters,
        }
        self.out.append(json.dumps(message))

    def hear(self, message: dict[str, Any]) -> None:
        seq, kind = message["seq"], message["type"]
        if kind == "open":
            self.session = message["id"]
            offers = message["parameters"]["media"]
            if self.broken == "disconnect":
                self.say("disconnect", {"reason": "unauthorized"}, seq)
                return
            media = [dict(offers[0], channels=["internal", "external"])]
            media = media if self.broken == "media" else offers[:1]
            self.say("opened", {"media": media, "supportedLanguages": ["en-US", "fr-FR"]}, seq)
        elif kind == "ping":
            self.say("pong", {}, seq - 1 if self.broken == "pong" else seq)
        elif kind == "close" and self.broken != "closed":
            self.say("closed", {}, seq)


@asynccontextmanager
async def server(broken: str = "", *, refuses: HTTPStatus | None = None) -> AsyncIterator[str]:
    """Give the address of a server; it lets in whoever signs with the secret."""
    keyring, nonces = Keyring({KEY: SECRET_TEXT}), NonceCache(60)

    async def talk(connection: ServerConnection) -> None:
        script = Script(broken)
        async for data in connection:
            if isinstance(data, str):
                script.hear(json.loads(data))
                for text in script.out:
                    await connection.send(text)
                script.out.clear()

    def admit(connection: ServerConnection, request: Request) -> Response | None:
        if refuses is not None:
            return Response(refuses, "no", Headers(), b"")
        headers = tuple((name.lower(), value) for name, value in request.headers.raw_items())
        upgrade = UpgradeRequest(request.path, request.path, headers, "", secure=False)
        created = dict(headers).get("signature-input", "created=0;").split("created=")[1]
        utc_s = float(created.split(";")[0])
        verdict = verify(upgrade, keyring, nonces, utc_s=utc_s, now=0.0)
        if verdict.accepted or broken == "lax":
            return None
        return Response(HTTPStatus.UNAUTHORIZED, "no", Headers(), b"")

    async with serve(talk, "127.0.0.1", 0, process_request=admit, compression=None) as serving:
        port = next(iter(serving.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/audiohook?x=1"


async def judged(url: str, secret: bytes = SECRET, key: str = KEY) -> list[Finding]:
    return await check_audiohook(AudioHookTarget(url, key, secret), tls=trusted_tls(None))


def failures(findings: list[Finding]) -> dict[str, str]:
    return {one.check: one.what for one in findings if one.verdict == "fail"}


# --- audiohook -------------------------------------------------------------------------------


async def test_a_server_that_keeps_the_rules_passes_every_step() -> None:
    """Probe, session with pongs, unsigned upgrade refused; times are told."""
    async with server() as url:
        findings = await judged(url)
    assert failures(findings) == {}
    told = {one.check: one.what for one in findings}
    assert told["probe: media"] == "PCMU, 8000 Hz, external and internal"
    assert told["probe: languages"] == "en-US fr-FR"
    assert "ms" in told["probe: opened"]
    assert told["session: pong"].count("ms") == 2
    assert "closed" in "".join(told)
    assert told["unsigned upgrade"] == "refused"
    assert exit_code_of(findings) == 0


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        ("media", "probe: rule (400)", "not offered"),
        ("pong", "session: rule (400)", "pong"),
        ("lax", "unsigned upgrade", "not refused"),
    ],
)
async def test_a_broken_rule_is_told_in_words(broken: str, check: str, words: str) -> None:
    """The check says where, the text what."""
    async with server(broken) as url:
        failed = failures(await judged(url))
    assert words in failed[check]


async def test_refused_credentials_are_a_matter_of_authentication() -> None:
    """By status or by `disconnect`: exit code 3; the key and the secret are in no finding."""
    async with server() as url:
        wrong = await judged(url, secret=b"another")
    async with server("disconnect") as url:
        asked = await judged(url)
    for findings in (wrong, asked):
        assert exit_code_of(findings) == 3
        assert KEY not in repr(findings)
        assert SECRET_TEXT not in repr(findings)
    assert "answered 401" in failures(wrong)["probe: upgrade"]


async def test_another_status_points_at_the_path() -> None:
    """Exit code 4."""
    async with server(refuses=HTTPStatus.NOT_FOUND) as url:
        findings = await judged(url)
    assert "answered 404" in failures(findings)["probe: upgrade"]
    assert exit_code_of(findings) == 4


async def test_nobody_there_is_told_before_anything_else() -> None:
    """One finding, exit code 4."""
    async with server() as url:
        pass
    findings = await judged(url)
    assert len(findings) == 1
    assert exit_code_of(findings) == 4


@pytest.mark.parametrize("url", ["http://a.example/x", "wss://", "wss://a:99999/x", "a.example"])
async def test_an_address_of_another_kind_is_a_usage_error(url: str) -> None:
    """Before anything is dialled."""
    with pytest.raises(ConfigError):
        await judged(url)


async def test_the_command_prints_each_step_and_its_exit_code(tmp_path: Path) -> None:
    """Secrets by file; nothing else on standard output under --json."""
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET_TEXT)
    async with server() as url:
        options = ("--api-key", KEY, "--secret-file", str(secret), "--json")
        done = await asyncio.to_thread(steno, "audiohook", url, *options)
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (0, True)
    assert any(one["check"] == "session: closed" for one in report["checks"])


# --- signature -------------------------------------------------------------------------------


def steno(*arguments: str, text: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run `steno doctor …` with an environment of its own."""
    return subprocess.run(
        [sys.executable, "-m", "steno.cli", "doctor", *arguments],
        input=text,
        env={"PATH": os.defpath, "HOME": "/nonexistent", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


KEYS = {"STENO_MEDIA_AUDIOHOOK_KEYS": json.dumps({KEY: SECRET_TEXT, "open": ""})}


def test_a_good_signature_exits_0() -> None:
    """The secret of the request's key is found in the settings."""
    done = steno("signature", text=HEAD, **KEYS)
    assert done.returncode == 0
    assert "The signature verifies." in done.stdout


@pytest.mark.parametrize(
    ("changed", "component", "words"),
    [
        ({"Host: stt.example.org:8443": "Host: backend:8080"}, "signature", "another"),
        (
            {"Host: stt": "X-Forwarded-Host: stt.example.org:8443\nHost: inner"},
            "@authority",
            "media.public_authority",
        ),
        (
            {"GET /audiohook/live": "GET /live", "Host": "X-Forwarded-Prefix: /audiohook\nHost"},
            "@request-target",
            "media.audiohook_public_path",
        ),
    ],
)
def test_a_proxys_change_is_named_by_its_component(
    changed: dict[str, str], component: str, words: str
) -> None:
    """Exit code 1, and the setting that mends it."""
    text = HEAD
    for old, new in changed.items():
        text = text.replace(old, new, 1)
    report = json.loads(steno("signature", "--json", text=text, **KEYS).stdout)
    failed = {one["check"]: one["text"] for one in report["explanation"]["findings"]
              if not one["ok"]}  # fmt: skip
    assert report["exit_code"] == 1
    if component != "signature":
        assert words in failed[component]
    else:
        assert component in failed


def test_the_address_can_be_named_by_hand() -> None:
    """Where the request shows no trace of the proxy."""
    text = HEAD.replace("stt.example.org:8443", "backend:8080")
    done = steno("signature", "--authority", "stt.example.org:8443", text=text, **KEYS)
    assert done.returncode == 1
    assert '- "@authority": backend:8080' in done.stdout
    assert '+ "@authority": stt.example.org:8443' in done.stdout
    env = {**KEYS, "STENO_MEDIA_PUBLIC_AUTHORITY": "stt.example.org:8443"}
    assert steno("signature", text=text, **env).returncode == 0


def test_a_secret_comes_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    """Nor is the API key."""
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET_TEXT + "\n")
    capture = tmp_path / "upgrade.txt"
    capture.write_text(HEAD.replace("tenant=blue", "tenant=red"))
    done = steno("signature", str(capture), "--secret-file", str(secret))
    assert done.returncode == 1
    assert KEY not in done.stdout + done.stderr
    assert SECRET_TEXT not in done.stdout + done.stderr
    secret.chmod(0o644)
    assert steno("signature", str(capture), "--secret-file", str(secret)).returncode == 2


def test_age_is_looked_at_when_the_time_is_told() -> None:
    """2026-01-01T00:00:00Z is when it was signed."""
    for time, code in (("2026-01-01T00:00:05Z", 0), ("2026-01-01T00:01:00Z", 1)):
        assert steno("signature", "--received", time, text=HEAD, **KEYS).returncode == code


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (HEAD.replace("X-API-KEY: Z", "X-API-KEY: Y"), 1, "not in media.audiohook_keys"),
        ("\n".join([*HEAD.splitlines()[:5], "X-API-KEY: open"]), 0, "let in"),
        (HEAD.replace("X-API-KEY: ZGVtby1hcGkta2V5LTAx", "X-API-KEY: open"), 1, "no secret"),
    ],
)
def test_a_key_without_a_secret_to_try_is_told(text: str, code: int, words: str) -> None:
    """Unknown, or one that may come unsigned."""
    done = steno("signature", text=text, **KEYS)
    assert (done.returncode, words in done.stdout) == (code, True)


def test_text_that_is_no_request_is_a_usage_error() -> None:
    """Exit code 2, and what was given is not quoted."""
    done = steno("signature", text="planted: x", **KEYS)
    assert done.returncode == 2
    assert "planted" not in done.stderr


# --- captured text ---------------------------------------------------------------------------

CURL = (
    "*   Trying 127.0.0.1:1...\n"
    + "".join(f"> {line}\n" for line in HEAD.splitlines())
    + ("> \n< HTTP/1.1 401 Unauthorized\n< Date: now\n")
)
TCPDUMP = "11:02:03.4 IP 10.0.0.1.5 > 10.0.0.2.80: Flags [P.]\nE..4.@.@....P..GET " + HEAD[4:]


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        HEAD.replace("\n", "\r\n") + "\r\nbody: of another kind",
        CURL,
        TCPDUMP,
        "".join(f"    {line}\n" for line in HEAD.splitlines()),
        HEAD.replace('("@request-target"', '("@request-target"\n ').replace("\n  ", "\n "),
        "an upgrade that failed:\n\n" + HEAD,
    ],
    ids=["raw", "crlf", "curl", "tcpdump", "indented", "folded", "remark"],
)
def test_a_request_is_read_from_what_tools_print(text: str) -> None:
    """Every form gives the same request."""
    assert read_captured(text.encode()) == read_captured(HEAD.encode())
    assert read_captured(text.encode()).target == "/audiohook/live?tenant=blue"


def test_a_line_that_is_no_header_is_refused() -> None:
    """A wrapped line would change the signature; it is not guessed at."""
    with pytest.raises(ConfigError):
        read_captured(HEAD.replace("Signature:", "Signature", 1).encode())


def test_the_rest_of_doctor_is_still_one_command() -> None:
    """`steno doctor` takes its options without a subcommand, and lists the two."""
    done = steno("--help")
    assert done.returncode == 0
    for word in ("--deep", "signature", "audiohook"):
        assert word in done.stdout
