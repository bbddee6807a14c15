"""The whole gateway as an operator runs it, for tests that break it.

The simulator plays inside the test; ``steno live`` and ``steno consume`` are processes of their
own with a state directory, a log file and a port of their own, and can be killed, stopped and
started again. Nothing here sleeps for a fixed time to let something happen: ``until`` waits for
what is expected and says what it waited for when it does not come.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

from faults.gateway_oracle import CANARIES, TEXTS, Verdict, Witness, judge, searched
from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET
from steno_sim.region import RegionSettings
from steno_sim.scenario import Load, Noise, Scenario
from steno_sim.server import Simulator
from steno_sim.world import World

SLOW = float(os.environ.get("STENO_TEST_PATIENCE", "1"))
"""Stretches every limit below, for a machine that is very busy."""

QUICK = {"STENO_LIVE_WINDOW_S": "1", "STENO_LIVE_BACKOFF_FIRST_S": "0.2"}
"""Settings that only make the tests shorter."""

GATEWAY = (sys.executable, "-m", "steno.cli", "live")
CONSUMER = (sys.executable, "-m", "steno.cli", "consume")


def load(
    *,
    conversations: int = 20,
    fragments: int = 100_000,
    rate: float = 300.0,
    final_every: int = 4,
    switch_every: int = 0,
    noise: Noise | None = None,
) -> Scenario:
    """Give a load of marked fragments; by default one that does not end by itself."""
    return Scenario(
        title="load",
        load=Load(
            conversations=conversations,
            fragments=fragments,
            rate=rate,
            final_every=final_every,
            pii_every=5,
            switch_every=switch_every,
        ),
        noise=noise or Noise(),
    )


def free_port() -> int:
    """Give a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], object], what: str, *, limit_s: float = 20.0) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: It did not within the limit; names what was waited for.
    """
    end = time.monotonic() + limit_s * SLOW
    while not condition():
        assert time.monotonic() < end, f"waited {limit_s * SLOW:g} s in vain: {what}"
        await asyncio.sleep(0.01)


class Process:
    """A program under test: what it writes goes to files, and it never outlives the test."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        self.command = list(command)
        self.env = dict(env)
        self.log = log
        self.out = log.with_suffix(".out")
        self.starts = 0
        self.kills_us: list[int] = []
        self._since = 0
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it; it must not run."""
        assert not self.running
        self._since = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log, self.out.open("ab") as out:
            self._child = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=self.env
            )
        self.starts += 1
        return self

    @property
    def child(self) -> subprocess.Popen[bytes]:
        """The process itself."""
        assert self._child is not None, "not started"
        return self._child

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self._child is not None and self._child.poll() is None

    def said(self, *, ever: bool = False) -> str:
        """Give what it wrote to standard error, since its last start or ever."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(0 if ever else self._since)
            return file.read().decode(errors="replace")

    def events(self, name: str, *, ever: bool = False) -> list[dict[str, Any]]:
        """Give the log lines of an event, parsed."""
        found = []
        for line in self.said(ever=ever).splitlines():
            if f'"{name}"' in line:
                entry = json.loads(line)
                if entry.get("event") == name:
                    found.append(entry)
        return found

    async def event(self, name: str, *, count: int = 1, limit_s: float = 20.0) -> dict[str, Any]:
        """Wait for the n-th log line of an event since the last start, and give it."""

        def there() -> bool:
            assert self.running, f"ended by itself: {self.child.returncode}\n{self.said()[-2000:]}"
            return len(self.events(name)) >= count

        await until(there, f"log event {name} ({count})", limit_s=limit_s)
        return self.events(name)[count - 1]

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.kills_us.append(time.time_ns() // 1000)
        self.child.kill()
        self.child.wait(10)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.child.send_signal(number)

    async def ended(self, *, limit_s: float = 10.0) -> int:
        """Wait until it has ended and give its exit code."""
        await until(lambda: not self.running, f"the end of {self.command[3]}", limit_s=limit_s)
        return self.child.wait()

    async def stop(self, *, limit_s: float = 10.0) -> int:
        """SIGTERM, and give its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended(limit_s=limit_s)

    def rss_kb(self) -> int:
        """Give its resident memory, kB."""
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def end(self) -> None:
        """Make sure that it is gone, however the test ended."""
        if self._child is not None:
            if self._child.poll() is None:
                self._child.kill()
            self._child.wait(10)


class Service(Process):
    """A process with pages of health and metrics."""

    async def page(self, path: str) -> tuple[int, str]:
        """Give status and text of one of its pages."""
        address = (await self.event("health.listening"))["address"]
        return await asyncio.to_thread(_get, f"http://{address}{path}")

    async def metric(self, name: str, **labels: str) -> float:
        """Give the value of a metric; 0 when it is not there yet."""
        _, text = await self.page("/metrics")
        return _value(text, name, labels)

    async def within(self, histogram: str, bound: str) -> tuple[float, float]:
        """Give how many observations were within a bound, and how many there were, at once."""
        _, text = await self.page("/metrics")
        return (
            _value(text, f"{histogram}_bucket", {"le": bound}),
            _value(text, f"{histogram}_count", {}),
        )


class Gateway(Service):
    """``steno live``."""

    def __init__(
        self,
        folder: Path,
        sim: Simulator,
        *,
        backup: Simulator | None = None,
        consumer: str = "",
        settings: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        command: Sequence[str] = GATEWAY,
        state: Path | None = None,
    ) -> None:
        self.state = state or folder / "state"
        self.database = self.state / "steno.db"
        arguments = [*command, "--source", "transcript-stream", "--host", sim.ws_url]
        if backup is not None:
            arguments += ["--backup-host", backup.ws_url]
        if consumer:
            arguments += ["--grpc", consumer]
        arguments += ["--state-dir", str(self.state), "--health", "127.0.0.1:0", *options]
        env = {
            **bare_environment(folder),
            "OAUTH_CLIENT_ID": DEFAULT_CLIENT_ID,
            "OAUTH_CLIENT_SECRET": DEFAULT_CLIENT_SECRET,
            "STENO_STORE_BALLAST_MB": "0",
            **QUICK,
            **(settings or {}),
        }
        super().__init__(arguments, env=env, log=folder / "gateway.log")

    async def connected(self, *, limit_s: float = 20.0) -> None:
        """Wait until it follows a feed."""
        await self.event("live.connected", limit_s=limit_s)

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """Give whether it calls itself ready, and what it says of its components."""
        status, text = await self.page("/readyz")
        return status == 200, json.loads(text)["components"]


def _value(text: str, name: str, labels: Mapping[str, str]) -> float:
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.partition("{")[0].partition(" ")[0] == name
        and all(f'{key}="{value}"' in line for key, value in labels.items())
    )


class ConsumerProcess(Process):
    """``steno consume``."""

    def __init__(self, folder: Path, *, delay_ms: float = 0.0) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.file = folder / "transcripts.jsonl"
        self._plain = [*CONSUMER, "--listen", self.address, "--out", str(self.file)]
        super().__init__(self._plain, env=bare_environment(folder), log=folder / "consumer.log")
        self.slow(delay_ms)

    def slow(self, delay_ms: float) -> None:
        """From the next start on, wait this long before each acknowledgement."""
        self.command = [*self._plain, "--delay-ms", str(delay_ms)]

    async def listening(self) -> None:
        """Wait until it serves."""
        await until(lambda: "listening on" in self.said(), "the consumer to listen")

    def lines(self) -> int:
        """Give how many lines its file has."""
        return self.file.read_bytes().count(b"\n") if self.file.exists() else 0


def bare_environment(folder: Path) -> dict[str, str]:
    """Give an environment in which only the test's own settings count."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    return {**kept, "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Rig:
    """Simulator, gateway and consumer of one test, with what they left behind."""

    def __init__(
        self,
        folder: Path,
        sim: Simulator,
        backup: Simulator | None,
        gateway: Gateway,
        consumer: ConsumerProcess,
    ) -> None:
        self.folder = folder
        self.sim = sim
        self._backup = backup
        self.gateway = gateway
        self.consumer = consumer

    @property
    def backup(self) -> Simulator:
        """The second region."""
        assert self._backup is not None
        return self._backup

    def files(self) -> Iterator[Path]:
        """Give every file that the processes wrote."""
        folders = {self.folder, self.gateway.state}
        return (path for folder in folders for path in folder.rglob("*") if path.is_file())

    def tokens(self) -> list[str]:
        """Give every token that was given out, and the secret that opens them."""
        regions = [self.sim] if self._backup is None else [self.sim, self._backup]
        return [*(t for region in regions for t in region.tokens._tokens), DEFAULT_CLIENT_SECRET]

    def verdict(self, witness: Witness, *, pages: Sequence[str] = ()) -> Verdict:
        """Judge what was left behind, personal data, tokens and text in logs included."""
        verdict = judge(
            witness,
            database=self.gateway.database,
            lines=self.consumer.file,
            kills_us=self.gateway.kills_us,
        )
        verdict.leaks = searched(
            self.files(), pages, canaries=CANARIES, tokens=self.tokens(), text=TEXTS
        )
        return verdict

    async def heard(self, more: int, *, limit_s: float = 20.0) -> None:
        """Wait until the consumer's file has grown by so many lines."""
        goal = self.consumer.lines() + more
        await until(lambda: self.consumer.lines() >= goal, f"{more} more lines", limit_s=limit_s)

    async def drained(self) -> None:
        """Stop playing, end the gateway in good order, and let everything stored be delivered."""
        await self.sim.world.stop()
        if not self.gateway.running:
            self.gateway.start()
            await self.gateway.connected()
        if not self.consumer.running:
            self.consumer.start()
        await self.consumer.listening()
        assert await self.gateway.stop() == 0
        if self.gateway.events("gateway.stopped")[-1]["state"] == "drained":
            return
        self.gateway.start()  # a long backlog: the rest waits in the store for the next start
        await self.gateway.connected()
        while await self.gateway.metric("steno_delivery_depth") > 0:
            await asyncio.sleep(0.1)
        assert await self.gateway.stop() == 0
        assert self.gateway.events("gateway.stopped")[-1]["state"] == "drained"


@asynccontextmanager
async def rig(
    folder: Path,
    scenario: Scenario,
    *,
    hold: bool = True,
    start: bool = True,
    backup: bool = False,
    settings: Mapping[str, str] | None = None,
    command: Sequence[str] = GATEWAY,
    state: Path | None = None,
    region: RegionSettings | None = None,
    **simulator: Any,
) -> AsyncIterator[Rig]:
    """Give a running gateway between a simulator and a consumer; ends them all.

    Args:
        hold: The simulator's clock stops while nobody listens, so that no load is wasted.
        start: Start gateway and consumer.
        backup: There is a second region.
        settings: ``STENO_…`` variables of the gateway.
        command: What to run in place of ``steno live``.
        state: The gateway's state directory, if not inside ``folder``.
        region: Behaviour of the primary region.
        **simulator: Further options of its ``Simulator``.
    """
    world = World(scenario, hold=hold, wait_for_sockets=1)
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(
            Simulator(world=world, name="primary", settings=region, **simulator)
        )
        second = None
        if backup:
            second = await stack.enter_async_context(Simulator(world=world, name="backup"))
        await stack.enter_async_context(world)
        consumer = ConsumerProcess(folder)
        gateway = Gateway(
            folder,
            sim,
            backup=second,
            consumer=consumer.address,
            settings=settings,
            command=command,
            state=state,
        )
        stack.callback(consumer.end)
        stack.callback(gateway.end)
        if start:
            consumer.start()
            gateway.start()
            await consumer.listening()
            await gateway.connected()
        yield Rig(folder, sim, second, gateway, consumer)
