"""The platform says no: what is missing is named once, with what its support asks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faults.diarise_rig import collecting
from faults.gateway_rig import load, until
from steno_sim.oauth import ALL_SCOPES, Client, TokenService

CONNECT = "websocket:connect"
READ = "conversation:transcript:read"


def without(*scopes: str, told: bool) -> TokenService:
    """Give an OAuth service whose client lacks scopes; the token answer may not tell."""
    client = Client(scopes=[scope for scope in ALL_SCOPES if scope not in scopes])
    return TokenService([client], answer_scopes=told)


@pytest.mark.timeout(30)
async def test_a_wrong_secret_ends_it_at_once(tmp_path: Path) -> None:
    """401 for the token: exit code 3, one line with status and code, and no socket is tried."""
    async with collecting(tmp_path, start=False, secret="wrong-secret") as one:
        one.collector.start()
        assert await one.collector.ended() == 3
        last = one.collector.said().splitlines()[-1]
        assert last.startswith("steno: ")
        assert "401" in last
        assert "invalid_client" in last
        assert one.sim.region.upgrades == one.sim.region.refused_upgrades == 0
        assert "wrong-secret" not in one.collector.said()
        assert not one.collector.export.exists()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("scope", [CONNECT, READ])
@pytest.mark.parametrize("jwt", [False, True])
async def test_a_scope_that_the_token_lacks_is_named_before_anything_is_tried(
    tmp_path: Path, scope: str, jwt: bool
) -> None:
    """Where the token's answer, or the token itself, tells its scopes, no upgrade is wasted."""
    tokens = without(scope, told=not jwt)
    tokens.jwt_tokens = jwt
    async with collecting(tmp_path, start=False, simulator={"tokens": tokens}) as one:
        one.collector.start()
        assert await one.collector.ended() == 3
        last = one.collector.said().splitlines()[-1]
        assert scope in last
        assert one.sim.region.upgrades == one.sim.region.refused_upgrades == 0
        assert not one.leaks()


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("scope", "action"), [(CONNECT, "upgrade"), (READ, "subscription")])
async def test_a_refusal_by_the_socket_says_what_is_missing(
    tmp_path: Path, scope: str, action: str
) -> None:
    """403 at the upgrade or the subscription: scope, status, code, correlation id; exit code 3."""
    simulator = {"tokens": without(scope, told=False)}
    async with collecting(tmp_path, start=False, simulator=simulator) as one:
        one.collector.start()
        assert await one.collector.ended() == 3
        refused = one.collector.events("live.refused")
        assert len(refused) == 1
        assert refused[0]["action"] == action
        assert refused[0]["status"] == 403
        assert refused[0]["code"] == "missing.permissions"
        last = one.collector.said().splitlines()[-1]
        for told in (scope, "403", "missing.permissions", refused[0]["correlation_id"]):
            assert told in last, last
        assert "You are missing" not in one.collector.said(), "the platform's words stay outside"
        assert not one.leaks()


@pytest.mark.timeout(30)
async def test_401_at_the_upgrade_for_good_ends_it(tmp_path: Path) -> None:
    """A second token is tried once; refused as well, it is exit code 3 with the facts."""
    async with collecting(tmp_path, start=False) as one:
        one.sim.inject(kind="refuse", status=401, times=100)
        one.collector.start()
        assert await one.collector.ended() == 3
        assert one.sim.region.refused_upgrades == 2
        assert one.sim.tokens.issued == 2
        last = one.collector.said().splitlines()[-1]
        assert "401" in last
        assert "refused the token" in last
        assert one.collector.events("live.refused")[0]["correlation_id"] in last
        assert not one.leaks()


@pytest.mark.timeout(30)
async def test_json_tells_a_refusal_to_machines(tmp_path: Path) -> None:
    """``--json``: the last line is an object with class, fields and exit code."""
    simulator = {"tokens": without(READ, told=False)}
    async with collecting(tmp_path, start=False, simulator=simulator, options=("--json",)) as one:
        one.collector.start()
        assert await one.collector.ended() == 3
        told = json.loads(one.collector.said().splitlines()[-1])
    assert told["exit_code"] == 3
    assert told["error"]["class"] == "AuthError"
    assert told["error"]["fields"]["scope"] == READ
    assert told["error"]["fields"]["status"] == 403
    assert told["error"]["fields"]["correlation_id"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("status", "code"), [(403, "missing.permissions"), (400, "bad.request")])
async def test_refused_after_it_was_up_is_waited_out(
    tmp_path: Path, status: int, code: str
) -> None:
    """No exit and no storm: logged with the facts, tried again slowly, what was heard is kept."""
    async with collecting(tmp_path, load(conversations=4, rate=60)) as one:
        await one.heard(10)
        one.sim.inject(kind="deny", status=status, times=100)
        one.sim.inject(kind="drop", code=1012)
        refused = await one.collector.event("live.refused")
        assert refused["level"] == "error"
        assert (refused["status"], refused["code"]) == (status, code)
        assert refused["correlation_id"]
        before = one.sim.region.upgrades
        await until(lambda: not one.sim.region.events, "the refused socket to be closed")
        with pytest.raises(TimeoutError):
            await one.sim.wait_for(lambda: one.sim.region.upgrades > before, limit_s=3)
        assert one.collector.running
        assert "diarisation" in (await one.collector.page("/readyz"))[1]
        verdict = await one.stopped()
    verdict.kept()
    assert verdict.found >= 5
