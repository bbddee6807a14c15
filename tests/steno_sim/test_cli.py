"""The command ``steno-sim`` and its control over HTTP, as another process uses them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from conformance.certificates import self_signed
from conformance.sim_peers import Peer, marks_of, peer, until_quiet
from steno_sim.faults import Fault, load_faults
from steno_sim.pieces import named_id
from steno_sim.scenario import Load, Scenario
from steno_sim.server import Simulator


class Command:
    """A running ``steno-sim``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.hosts: list[str] = []

    async def listening(self, count: int) -> None:
        assert self.process.stderr is not None
        async with asyncio.timeout(20):
            while len(self.hosts) < count:
                line = (await self.process.stderr.readline()).decode()
                assert line, "the command ended"
                found = re.search(r"listens on (\S+)", line)
                if found:
                    self.hosts.append(found[1])

    async def end(self) -> tuple[int, str]:
        async with asyncio.timeout(20):
            out, _ = await self.process.communicate()
        return self.process.returncode or 0, out.decode()


@asynccontextmanager
async def command(*options: str, regions: int = 1) -> AsyncIterator[Command]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "steno_sim.cli",
        "--listen",
        "127.0.0.1:0",
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    found = Command(process)
    try:
        if regions:
            await found.listening(regions)
        yield found
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_it_serves_until_sigterm_and_prints_its_counts() -> None:
    """Two regions, one summary line of JSON on stdout, exit code 0."""
    options = ("--backup-listen", "127.0.0.1:0", "--json", "--scenario", "quiet")
    async with command(*options, regions=2) as running:
        async with aiohttp.ClientSession() as session:
            for host in running.hosts:
                async with session.get(f"http://{host}/_sim/stats") as answer:
                    assert set((await answer.json())["regions"]) == {"primary", "backup"}
        running.process.send_signal(signal.SIGTERM)
        code, out = await running.end()
    assert code == 0
    assert json.loads(out)["fragments"] == 0


async def test_it_ends_with_the_scenario_when_told_so() -> None:
    """--exit-at-end, with the load's figures from the command line."""
    options = ("--scenario", "load", "--conversations", "3", "--fragments", "5", "--rate", "0",
               "--speed", "0", "--exit-at-end", "--json")  # fmt: skip
    async with command(*options) as running:
        code, out = await running.end()
    stats = json.loads(out)
    assert code == 0
    assert (stats["fragments"], stats["due"], stats["missed"]) == (15, 15, 15)
    assert len(stats["by_conversation"]) == 3


async def test_the_queues_of_a_scenario_are_told_by_id() -> None:
    """Whoever follows the notifications of a queue needs the id that its name stands for."""
    async with command("--scenario", "demo", "--wait-for-sockets", "1") as running:
        assert running.process.stderr is not None
        line = (await running.process.stderr.readline()).decode()
        running.process.send_signal(signal.SIGTERM)
        await running.end()
    assert f"support {named_id('queue', 'support')}" in line


async def test_it_ends_on_request() -> None:
    """POST /_sim/end ends the process."""
    async with command("--scenario", "quiet") as running:
        async with aiohttp.ClientSession() as session:
            url = f"http://{running.hosts[0]}/_sim/end"
            async with session.post(url) as answer:
                assert answer.status == 200
        assert (await running.end())[0] == 0


async def test_faults_strike_in_the_process_too() -> None:
    """Under the command's own event loop: a reset, a region down for a while, a drop."""
    options = ("--scenario", "load", "--fragments", "100", "--rate", "0", "--wait-for-sockets", "1")
    async with command(*options) as running, aiohttp.ClientSession() as session:
        client = Peer(Remote(running.hosts[0]), session)
        await client.sign_in()
        await call(client, "POST", "/_sim/faults", {"kind": "drop", "after": 7, "reset": True})
        async with client.stream() as ws:
            assert len(await until_quiet(ws, quiet_s=2)) == 7
        await call(client, "POST", "/_sim/finished?limit_s=20")
        stats = await call(client, "GET", "/_sim/stats")
        assert (stats["delivered"], stats["missed"]) == (7, 4993)
        async with client.stream() as ws:
            await call(client, "POST", "/_sim/faults", {"kind": "region_down", "for_s": 0.3})
            assert await until_quiet(ws, quiet_s=5) == []
        for _ in range(200):
            if await reached(client):
                return
            await asyncio.sleep(0.05)
    pytest.fail("the region never came up")


class Remote:
    """Addresses of a simulator in another process."""

    def __init__(self, host: str) -> None:
        self.url: str = f"http://{host}"
        self.ws_url = f"ws://{host}"


async def reached(client: Peer) -> bool:
    try:
        async with client.stream():
            return True
    except OSError:
        return False


@pytest.mark.parametrize(
    "options",
    [
        ("--scenario", "nonesuch"),
        ("--listen", "nowhere"),
        ("--client", "no-colon"),
        ("--fragments", "5"),
        ("--faults", "/nonexistent.json"),
        ("--tls-key", "key.pem"),
        ("--listen", "192.0.2.1:1"),
    ],
)
async def test_wrong_options_end_with_2(options: tuple[str, str]) -> None:
    """Usage errors say what is wrong, without a traceback."""
    async with command(*options, regions=0) as running:
        out, err = await running.process.communicate()
    assert running.process.returncode == 2
    assert b"Traceback" not in err
    assert b"steno-sim:" in err
    assert out == b""


def test_fault_files_are_read_strictly(tmp_path: Path) -> None:
    """JSON and TOML lists; unknown keys are errors."""
    (tmp_path / "a.json").write_text('{"faults": [{"kind": "drop", "code": 1012}]}')
    (tmp_path / "b.toml").write_text('[[faults]]\nkind = "silence"\nfor_s = 2.0')
    assert load_faults(tmp_path / "a.json") == [Fault(kind="drop", code=1012)]
    assert load_faults(tmp_path / "b.toml") == [Fault(kind="silence", for_s=2.0)]
    (tmp_path / "c.json").write_text('{"faults": [{"kind": "drop", "colour": 1}]}')
    with pytest.raises(ValueError, match="colour"):
        load_faults(tmp_path / "c.json")


async def call(client: Peer, method: str, path: str, body: Any = None) -> Any:
    """Call a control path; give its JSON."""
    answer = await client.call(method, path, json=body)
    assert answer.status == 200, answer.raw
    return answer.json


async def test_control_over_http() -> None:
    """Faults, truth, a new start, and the wait for its end."""
    scenario = Scenario(load=Load(conversations=2, fragments=8, rate=0))
    async with (
        Simulator(scenario, speed=0, play=False) as sim,
        peer(sim) as client,
        client.stream() as ws,
    ):
        assert await call(client, "POST", "/_sim/faults", {"kind": "duplicate", "times": 2}) == {
            "added": 1
        }
        await call(client, "POST", "/_sim/play")
        assert (await call(client, "POST", "/_sim/finished?limit_s=5"))["finished"]
        assert len(await until_quiet(ws)) == 18
        truth = await call(client, "GET", "/_sim/truth")
        first = truth["conversations"][0]
        assert {u["delivered"] for u in first["utterances"]} == {"whole"}
        one = await call(client, "GET", f"/_sim/truth?conversation={first['id']}")
        assert one["conversations"] == [first]
        inline = {"load": {"conversations": 1, "fragments": 3, "rate": 0}}
        started = await call(client, "POST", "/_sim/start", {"scenario": inline, "seed": 7})
        assert started == {"conversations": 1}
        await call(client, "POST", "/_sim/finished")
        assert marks_of(await until_quiet(ws)) == ["c0f0", "c0f1", "c0f2"]
        stats = await call(client, "GET", "/_sim/stats?conversations=1")
        assert [c["delivered"] for c in stats["by_conversation"]] == [3]
        await call(client, "POST", "/_sim/reset")
        await call(client, "POST", "/_sim/finished")
        assert len(await until_quiet(ws)) == 3
        assert await call(client, "GET", "/_sim/configs") == []
        await call(client, "POST", "/_sim/faults", [{"kind": "refuse", "times": 3}])
        await call(client, "DELETE", "/_sim/faults")
        assert sim.stats()["regions"]["primary"]["faults_waiting"] == 0


async def test_a_reset_plays_the_same_again_and_healing_ends_what_lasts() -> None:
    """Seed and number of conversations stay; a region that is down comes up."""
    scenario = Scenario(load=Load(conversations=2, fragments=4, rate=0))
    async with (
        Simulator(scenario, speed=0, seed=9, conversations=5) as sim,
        peer(sim) as client,
    ):
        plans = sim.world.script.plans
        await call(client, "POST", "/_sim/reset")
        assert sim.world.script.plans == plans
        assert len(plans) == 5
        answer = await client.call("POST", "/_sim/start", json={"scenario": "nonesuch"})
        assert answer.status == 400
        await sim.finished()
        sim.inject(kind="region_down")
        await sim.wait_for(lambda: sim._site is None)
        sim.region.clear_faults()
        await sim.wait_for(lambda: sim.region.up)
        await client.sign_in()


async def test_control_refuses_what_it_does_not_know() -> None:
    """Bad bodies get 400 with the reason; an unfinished scenario 504."""
    scenario = Scenario(load=Load(conversations=1, fragments=3, rate=0))
    async with Simulator(scenario, play=False) as sim, peer(sim, signed_in=False) as client:
        for path, body in (
            ("/_sim/faults", {"kind": "meteor"}),
            ("/_sim/start", {"scenario": "nonesuch"}),
            ("/_sim/start", {"scenario": {"colour": 1}}),
        ):
            answer = await client.call("POST", path, json=body)
            assert (answer.status, bool(answer.json["error"])) == (400, True)
        assert (await client.call("POST", "/_sim/finished?limit_s=0.1")).status == 504


async def test_tls(tmp_path: Path) -> None:
    """With certificate and key the one port speaks https and wss."""
    cert, key = self_signed(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    trust = ssl.create_default_context(cafile=cert)
    scenario = Scenario(load=Load(conversations=1, fragments=5, rate=0))
    async with Simulator(scenario, ssl_context=server, speed=0, wait_for_sockets=1) as sim:
        connector = aiohttp.TCPConnector(ssl=trust)
        async with aiohttp.ClientSession(connector=connector) as session:
            client = Peer(sim, session)
            await client.sign_in()
            channel = await client.channel()
            assert channel["connectUri"].startswith("wss://")
            async with client.stream(ssl=trust) as ws:
                await sim.finished()
                assert len(await until_quiet(ws)) == 5


async def test_the_event_socket_has_options() -> None:
    """Bare events without a subscription, speakers labelled by their role."""
    options = ("--scenario", "diarisation", "--speed", "0", "--wait-for-sockets", "1",
               "--event-form", "bare", "--events-unasked", "--speaker-labels", "roles")  # fmt: skip
    async with command(*options) as running, aiohttp.ClientSession() as session:
        client = Peer(Remote(running.hosts[0]), session)
        await client.sign_in()
        async with client.events(subscribe=False) as ws:
            messages = await until_quiet(ws, quiet_s=0.5)
    labels = {t["speaker"] for m in messages for t in m["transcripts"] if t.get("speaker")}
    assert labels == {"agent", "agent-2", "customer", "customer-2", "system"}
