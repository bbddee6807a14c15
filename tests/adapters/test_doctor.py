"""Doctor: each check tells what it found and how to mend it; the exit code says which kind."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conformance.certificates import self_signed
from conformance.scripted_http import FixedToken, Noted, Reply, Seen, says, scripted
from steno.adapters.doctor import (
    Area,
    Finding,
    GrpcPeer,
    Verdict,
    check_clock,
    check_event_socket,
    check_grpc,
    check_live_permissions,
    check_reach,
    check_settings,
    check_sqlite,
    check_state_dir,
    check_stream_upgrade,
    exit_code_of,
)
from steno.adapters.platform_http import HttpClient, NotificationsApi, PlatformHttp, trusted_tls
from steno.core.hosts import Host
from steno_sim.oauth import Client, TokenService
from steno_sim.server import Simulator

CHANNEL = says(
    200, {"id": "ch-1", "connectUri": "wss://s.example/channels/ch-1", "expires": "2026-01-01"}
)


@asynccontextmanager
async def api(*script: Reply) -> AsyncIterator[PlatformHttp]:
    """Give a client of a scripted platform."""
    async with scripted(*script) as server, HttpClient() as http:
        yield PlatformHttp(
            server.host,
            FixedToken("t"),
            exchange=http,
            telemetry=Noted(),
            retry_first_s=0.001,
            draw=lambda: 0.0,
        )


# --- this machine ----------------------------------------------------------------------------


def test_state_directory_is_looked_at_and_left_alone(tmp_path: Path) -> None:
    """A private, writable folder is fine; the probe leaves nothing behind."""
    folder = tmp_path / "state"
    assert next(f.verdict for f in check_state_dir(folder)) is Verdict.OK
    assert not folder.exists()
    folder.mkdir(mode=0o700)
    findings = check_state_dir(folder)
    assert findings[0].verdict is Verdict.OK
    assert "free" in findings[1].what
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_state_directory_open_to_others_fails(tmp_path: Path, mode: int) -> None:
    """The mode and the cure are told."""
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    finding = check_state_dir(folder)[0]
    assert finding.verdict is Verdict.FAIL
    assert "chmod 700" in finding.fix


def test_sqlite_in_use_is_new_enough() -> None:
    """It is apsw's own, not the system's."""
    assert check_sqlite().verdict is Verdict.OK


# --- way and clock ---------------------------------------------------------------------------


async def test_way_is_tried_step_by_step(tmp_path: Path) -> None:
    """Name, connection, certificate: the first that fails is told."""
    pem, key = self_signed(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem, key)
    ours = trusted_tls(None)
    async with scripted(says(200)) as plain, scripted(says(200), tls=tls) as secure:
        assert (await check_reach(plain.host, tls=ours)).verdict is Verdict.OK
        assert (await check_reach(secure.host, tls=trusted_tls(pem))).verdict is Verdict.OK
        untrusted = await check_reach(secure.host, tls=ours)
        not_tls = await check_reach(Host("127.0.0.1", plain.host.port), tls=ours)
        gone = plain.host
    refused = await check_reach(gone, tls=ours)
    nowhere = await check_reach(Host("nowhere.invalid"), tls=ours)
    assert "certificate" in untrusted.what
    assert "TLS" in not_tls.what
    assert "no connection" in refused.what
    assert "name" in nowhere.what
    assert {f.area for f in (untrusted, not_tls, refused, nowhere)} == {Area.REACH}


@pytest.mark.parametrize(
    ("ahead_s", "verdict"), [(0, Verdict.OK), (60, Verdict.WARN), (-60, Verdict.WARN),
                             (3600, Verdict.FAIL), (-3600, Verdict.FAIL)]
)  # fmt: skip
async def test_clock_is_compared_with_the_platforms(ahead_s: float, verdict: Verdict) -> None:
    """Minutes are a warning, more than five a failure: assertions and tokens would be refused."""
    async with scripted(says(404)) as server, HttpClient() as http:
        finding = await check_clock(
            server.host, http, now=lambda: datetime.now(UTC) + timedelta(seconds=ahead_s)
        )
    assert finding.verdict is verdict
    assert ("ahead" if ahead_s > 0 else "behind") in finding.what or not ahead_s


async def test_answer_without_a_date_says_nothing_of_the_clock() -> None:
    """A warning, no guess."""
    async with scripted(says(200, Date="yesterday")) as server, HttpClient() as http:
        finding = await check_clock(server.host, http, now=lambda: datetime.now(UTC))
    assert finding.verdict is Verdict.WARN


# --- rights ----------------------------------------------------------------------------------


async def test_missing_permission_is_found_by_trying() -> None:
    """The topic comes back refused, with the permission that is missing."""
    refused = {
        "id": "v2.x",
        "state": "Rejected",
        "missingPermissions": ["conversation:transcription:view"],
    }
    async with api(CHANNEL, says(200, {"entities": [refused]}), says(200)) as http:
        finding = await check_live_permissions(NotificationsApi(http))
    assert finding.verdict is Verdict.FAIL
    assert finding.area is Area.AUTH
    assert "conversation:transcription:view" in finding.fix


async def test_permitted_topic_is_fine_and_unsubscribed() -> None:
    """Nothing stays subscribed."""
    seen: list[str] = []

    def gone(one: Seen) -> Any:  # Any: as the replies are
        seen.append(one.method)
        return says(200)(one)

    allowed = says(200, {"entities": [{"id": "v2.x", "state": "Permitted"}]})
    async with api(CHANNEL, allowed, gone) as http:
        finding = await check_live_permissions(NotificationsApi(http))
    assert finding.verdict is Verdict.OK
    assert seen == ["DELETE"]


@pytest.mark.parametrize(
    ("reply", "verdict", "words"),
    [
        (says(200, {"transcription": "EnabledGlobally"}), Verdict.OK, "everywhere"),
        (says(200, {"transcription": "EnabledQueueFlow"}), Verdict.OK, "chosen"),
        (says(200, {"transcription": "Disabled"}), Verdict.FAIL, "off"),
        (says(200, {"transcription": "Sometimes"}), Verdict.WARN, "not understood"),
        (says(200, b"<html>"), Verdict.WARN, "not understood"),
        (says(403), Verdict.WARN, "may not be read"),
    ],
)
async def test_transcription_setting_is_told(reply: Reply, verdict: Verdict, words: str) -> None:
    """An organisation that does not transcribe explains an empty stream."""
    async with api(reply) as http:
        finding = await check_settings(http)
    assert finding.verdict is verdict
    assert words in finding.what


# --- stream and consumers --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "area"), [(401, Area.AUTH), (403, Area.AUTH), (404, Area.REACH), (503, Area.REACH)]
)
async def test_refused_upgrade_is_typed(status: int, area: Area) -> None:
    """401 and 403 are about rights, the rest about the way; the token is in no word of it."""
    async with scripted(says(status)) as server:
        finding = await check_stream_upgrade(server.host, "planted-token", tls=trusted_tls(None))
    assert finding.verdict is Verdict.FAIL
    assert finding.area is area
    assert "planted" not in repr(finding)


@pytest.mark.parametrize(
    ("status", "words"), [(401, "token"), (403, "websocket:connect"), (503, "proxy")]
)
async def test_a_refused_event_socket_names_what_to_grant(status: int, words: str) -> None:
    """The token goes in a header and is in no word of what is found."""
    async with scripted(says(status)) as server:
        finding = await check_event_socket(
            server.host, "planted-token", tls=trusted_tls(None), path="/api/v2/websocket"
        )
    assert finding.verdict is Verdict.FAIL
    assert words in finding.fix
    assert "planted" not in repr(finding)


async def test_consumer_that_is_not_there_fails() -> None:
    """Records wait in the store, which the fix says."""
    async with scripted(says(200)) as server:
        address = str(server.host)
    finding = await check_grpc(GrpcPeer("grpc", address), limit_s=2)
    assert finding.verdict is Verdict.FAIL
    assert finding.area is Area.CONSUMER


async def test_consumer_is_asked_for_its_health() -> None:
    """Serving, not serving, and no health service at all."""
    import grpc.aio
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

    bare = grpc.aio.server()
    bare_port = bare.add_insecure_port("127.0.0.1:0")
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await bare.start()
    await server.start()
    try:
        verdicts = []
        for status in ("SERVING", "NOT_SERVING"):
            await servicer.set("", getattr(health_pb2.HealthCheckResponse, status))
            verdicts.append((await check_grpc(GrpcPeer("c", f"127.0.0.1:{port}"))).verdict)
        none = await check_grpc(GrpcPeer("c", f"127.0.0.1:{bare_port}"))
    finally:
        await server.stop(None)
        await bare.stop(None)
    assert verdicts == [Verdict.OK, Verdict.WARN]
    assert none.verdict is Verdict.OK
    assert "no health service" in none.what


# --- all together ----------------------------------------------------------------------------


def test_exit_code_is_that_of_the_first_cause() -> None:
    """Configuration, then the way, then credentials, then the rest; warnings count for nothing."""

    def failing(*areas: Area) -> list[Finding]:
        return [Finding("x", Verdict.FAIL, "y", area=area) for area in areas]

    assert exit_code_of([Finding("x", Verdict.WARN, "y", area=Area.AUTH)]) == 0
    assert exit_code_of(failing(Area.MACHINE)) == 1
    assert exit_code_of(failing(Area.CONSUMER, Area.AUTH)) == 3
    assert exit_code_of(failing(Area.AUTH, Area.REACH)) == 4
    assert exit_code_of(failing(Area.REACH, Area.CONFIG)) == 2


async def doctor(tmp_path: Path, *arguments: str, **env: str) -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit code and its report."""
    source = str(Path(__file__).parents[2] / "src")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("STENO_", "GENESYS_"))}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "steno.cli",
        "doctor",
        "--json",
        *arguments,
        env={**kept, "PYTHONPATH": source, "STENO_STATE_DIR": str(tmp_path / "state"), **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await child.communicate()
    assert b"steno-demo-secret" not in out + err
    assert child.returncode is not None
    assert out, err.decode()
    return child.returncode, json.loads(out)


def credentials(secret: str = "steno-demo-secret") -> dict[str, str]:
    """Give the simulator's client by the tutorials' names."""
    return {"OAUTH_CLIENT_ID": "steno-demo", "OAUTH_CLIENT_SECRET": secret}


def named(report: dict[str, Any], start: str) -> dict[str, Any]:
    """Find a check by the beginning of its name."""
    found: dict[str, Any] = next(c for c in report["checks"] if c["check"].startswith(start))
    return found


async def test_doctor_passes_the_tutorial_family(tmp_path: Path) -> None:
    """Against the simulator, deep: everything but excess scopes is well."""
    async with Simulator(play=False) as sim:
        code, report = await doctor(tmp_path, "--deep", GENESYS_HOST=sim.host, **credentials())
    assert code == report["exit_code"] == 0
    assert report["ok"]
    assert named(report, "transcript stream")["verdict"] == "ok"
    assert "conversation:transcript:read" in named(report, "token")["what"]
    assert any("more than needed" in check["what"] for check in report["checks"])


async def test_doctor_tries_what_diarisation_needs(tmp_path: Path) -> None:
    """Its own scopes, and its own socket; nothing of live transcripts."""
    env = {"STENO_FEATURES": "diarisation", **credentials()}
    async with Simulator(play=False) as sim:
        code, report = await doctor(tmp_path, "--deep", GENESYS_HOST=sim.host, **env)
    assert code == 0, report
    assert named(report, "event socket")["verdict"] == "ok"
    assert not any(check["check"].startswith("transcript stream") for check in report["checks"])
    tokens = TokenService([Client(scopes=["conversation:transcript:read"])])
    async with Simulator(play=False, tokens=tokens) as sim:
        code, report = await doctor(tmp_path, GENESYS_HOST=sim.host, **env)
    assert code == 3
    assert "websocket:connect" in named(report, "token")["fix"]


async def test_doctor_passes_the_real_family(tmp_path: Path) -> None:
    """One loopback host stands for api, login and streaming."""
    env = {"STENO_LIVE_SOURCE": "notifications", "STENO_LIVE_QUEUES": "q1"}
    async with Simulator(play=False) as sim:
        code, report = await doctor(tmp_path, GENESYS_HOST=sim.host, **env, **credentials())
    assert code == 0, report
    assert named(report, "live transcription permission")["verdict"] == "ok"


async def test_doctor_names_missing_permissions(tmp_path: Path) -> None:
    """A client without the role ends with 3 and the permission's name."""
    env = {"STENO_LIVE_SOURCE": "notifications", "STENO_LIVE_QUEUES": "q1"}
    tokens = TokenService([Client(permissions=[])])
    async with Simulator(play=False, tokens=tokens) as sim:
        code, report = await doctor(tmp_path, GENESYS_HOST=sim.host, **env, **credentials())
    assert code == 3
    fix = named(report, "live transcription permission")["fix"]
    assert "conversation:transcription:view" in fix


async def test_doctor_names_missing_scopes(tmp_path: Path) -> None:
    """A client without the read scope ends with 3 and the scope's name."""
    tokens = TokenService([Client(scopes=["recordings:download"])])
    async with Simulator(play=False, tokens=tokens) as sim:
        code, report = await doctor(tmp_path, GENESYS_HOST=sim.host, **credentials())
    assert code == 3
    assert "conversation:transcript:read" in named(report, "token")["fix"]


async def test_doctor_ends_with_the_documented_codes(tmp_path: Path) -> None:
    """3 for a wrong secret, 4 for a platform that is not there, 2 for wrong settings."""
    async with Simulator(play=False) as sim:
        code, report = await doctor(tmp_path, GENESYS_HOST=sim.host, **credentials("wrong"))
        assert code == 3
        assert "client id" in named(report, "token")["fix"]
        host = sim.host
    assert (await doctor(tmp_path, GENESYS_HOST=host, **credentials()))[0] == 4
    code, report = await doctor(tmp_path, GENESYS_HOST="http://a.example")
    assert code == 2
    assert "platform.host" in named(report, "settings")["what"]
    assert (await doctor(tmp_path, GENESYS_HOST=host))[0] == 2
