"""Starts that cannot work, starts that must wait, and ends in good order."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from faults.gateway_oracle import Witness
from faults.gateway_rig import Gateway, free_port, load, rig, until
from steno_sim.oauth import ALL_SCOPES, Client, TokenService
from steno_sim.server import Simulator

READ = "conversation:transcript:read"


def words(gateway: Gateway) -> list[str]:
    """Give what was said to people: the lines that are no log."""
    return [line for line in gateway.said().splitlines() if not line.startswith("{")]


@pytest.mark.timeout(120)
async def test_wrong_credentials_end_it_with_three(tmp_path: Path) -> None:
    """401 for the client: exit code 3, one line that says what to do, no secret in it."""
    async with Simulator(load()) as sim:
        gateway = Gateway(tmp_path, sim, settings={"OAUTH_CLIENT_SECRET": "not-the-secret"})
        gateway.start()
        try:
            assert await gateway.ended(limit_s=60) == 3
        finally:
            gateway.end()
        (line,) = words(gateway)
    assert line.startswith("steno: ")
    assert "OAUTH_CLIENT_SECRET" in line or "client" in line
    assert "not-the-secret" not in gateway.said()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("told", [True, False])
async def test_a_missing_scope_ends_it_with_three(tmp_path: Path, told: bool) -> None:
    """Whether the token's answer or the upgrade's 403 tells: the scope is named."""
    scopes = [scope for scope in ALL_SCOPES if scope != READ]
    tokens = TokenService([Client(scopes=scopes)], answer_scopes=told)
    async with Simulator(load(), tokens=tokens) as sim:
        gateway = Gateway(tmp_path, sim)
        gateway.start()
        try:
            assert await gateway.ended(limit_s=60) == 3
        finally:
            gateway.end()
        (line,) = words(gateway)
    assert READ in line


@pytest.mark.timeout(60)
async def test_an_unreachable_platform_is_waited_for(tmp_path: Path) -> None:
    """Nobody there at the start: it keeps trying, and delivers once the platform is up."""
    port = free_port()
    sim = Simulator(load(), port=port, hold=True, wait_for_sockets=1)
    gateway = Gateway(
        tmp_path,
        sim,
        settings={"STENO_LIVE_BACKOFF_MAX_S": "0.5"},
        options=("--out", str(tmp_path / "out.jsonl")),
    )
    gateway.start()
    try:
        await until(
            lambda: gateway.events("token.retried") or gateway.events("live.dial_failed"),
            "the first failure",
        )
        async with sim:
            await gateway.connected(limit_s=40)
            out = tmp_path / "out.jsonl"
            await until(lambda: out.exists() and out.stat().st_size > 5000, "sentences")
            assert await gateway.stop() == 0
    finally:
        gateway.end()


@pytest.mark.timeout(40)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_ends_with_nought(tmp_path: Path, number: signal.Signals) -> None:
    """Open sentences are given out and everything is delivered within 10 s; nothing is lost."""
    async with rig(tmp_path, load(), settings={"STENO_LIVE_WINDOW_S": "30"}) as one:
        witness = Witness(one.sim.world)
        await one.heard(50)
        began = time.monotonic()
        one.gateway.signal(number)
        assert await one.gateway.ended() == 0
        assert time.monotonic() - began < 5
        assert one.gateway.events("gateway.stopped")[0]["state"] == "drained"
        await one.sim.world.stop()
        verdict = one.verdict(witness)
    verdict.kept()
    assert not verdict.in_gap


@pytest.mark.timeout(60)
async def test_it_ends_in_time_when_nobody_answers(tmp_path: Path) -> None:
    """Platform silent, consumer away: still within 10 s with 0; the rest waits in the store."""
    async with rig(tmp_path, load()) as one:
        witness = Witness(one.sim.world)
        await one.heard(50)
        one.consumer.kill()
        await one.gateway.event("delivery.paused")
        one.sim.inject(kind="silence")
        began = time.monotonic()
        one.gateway.signal(signal.SIGTERM)
        assert await one.gateway.ended(limit_s=10) == 0
        took_s = time.monotonic() - began
        assert one.gateway.events("gateway.stopped")[0]["state"] == "rest_in_store"
        one.gateway.start()
        await one.gateway.connected()
        await one.drained()
        verdict = one.verdict(witness)
    verdict.kept()
    assert took_s < 10


@pytest.mark.timeout(40)
async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """While it drains: 130 without delay; what is stored is delivered by the next start."""
    async with rig(tmp_path, load()) as one:
        witness = Witness(one.sim.world)
        await one.heard(50)
        one.consumer.kill()
        await one.gateway.event("delivery.paused")
        one.gateway.signal(signal.SIGTERM)
        await until(lambda: not one.sim.region.streams, "it to stop listening")
        assert one.gateway.running
        began = time.monotonic()
        one.gateway.kills_us.append(time.time_ns() // 1000)
        one.gateway.signal(signal.SIGTERM)
        assert await one.gateway.ended() == 130
        assert time.monotonic() - began < 1
        one.gateway.start()
        await one.gateway.connected()
        await one.drained()
        one.verdict(witness).kept()


@pytest.mark.timeout(40)
async def test_a_signal_while_starting_ends_it_too(tmp_path: Path) -> None:
    """Before the platform was ever reached: 0, without waiting for it."""
    async with Simulator(load(), hold=True) as sim:
        sim.inject(kind="answer", path="*/oauth/token", status=503, times=100)
        gateway = Gateway(tmp_path, sim)
        gateway.start()
        try:
            await gateway.event("token.retried")  # it would go on so for half a minute
            assert await gateway.stop(limit_s=4) == 0
        finally:
            gateway.end()


@pytest.mark.timeout(30)
async def test_a_second_gateway_on_the_same_state_is_refused(tmp_path: Path) -> None:
    """Two owners of one store would deliver twice: the second ends, the first goes on."""
    async with rig(tmp_path, load()) as one:
        await one.heard(10)
        second = Gateway(tmp_path / "other", one.sim, state=one.gateway.state)
        second.log.parent.mkdir()
        second.start()
        try:
            assert await second.ended() == 1
        finally:
            second.end()
        assert len(words(second)) == 1
        await one.heard(10)
