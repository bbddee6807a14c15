"""Memory of ``steno live`` under a steady load, one JSON object on standard output.

    python bench/soak/memory.py [--minutes 10] [--rate 200] [--round-s 60]

The simulator plays a load; every ``--round-s`` seconds all conversations end and as many new ones
begin, as they do in an organisation. Gateway and consumer are processes of their own. Resident
memory is read every ``--every-s`` seconds; the slope is that of a straight line through the
samples after the first fifth, which the caches take to fill.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET
from steno_sim.scenario import Load, Scenario
from steno_sim.server import Simulator
from steno_sim.world import World

WARM_UP = 0.2
START_S = 30.0
STOP_S = 15.0


def rss_kb(process: subprocess.Popen[bytes]) -> int:
    """Return a process's resident memory, kB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def slope_per_minute(samples: Sequence[tuple[float, int]]) -> float:
    """Return the slope of the line of least squares; seconds in, kB per minute out."""
    count = len(samples)
    if count < 2:
        return 0.0
    mean_s = sum(at_s for at_s, _ in samples) / count
    mean_kb = sum(kb for _, kb in samples) / count
    spread = sum((at_s - mean_s) ** 2 for at_s, _ in samples)
    return 60 * sum((at_s - mean_s) * (kb - mean_kb) for at_s, kb in samples) / spread


def summary(samples: Sequence[tuple[float, int]]) -> dict[str, float]:
    """Return first, last, peak and slope of resident memory."""
    settled = samples[int(len(samples) * WARM_UP) :]
    values = [kb for _, kb in settled]
    return {
        "start_kb": samples[0][1],
        "first_kb": values[0],
        "last_kb": values[-1],
        "peak_kb": max(kb for _, kb in samples),
        "slope_kb_per_minute": round(slope_per_minute(settled), 1),
    }


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def program(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of ours; it ends with SIGTERM, or worse."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "OAUTH_CLIENT_ID": DEFAULT_CLIENT_ID,
        "OAUTH_CLIENT_SECRET": DEFAULT_CLIENT_SECRET,
    }
    with (folder / f"{arguments[0]}.log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "steno.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=env,
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


async def play(world: World) -> None:
    """Play rounds of new conversations until cancelled."""
    seed = 0
    while True:
        await world.finished()
        seed += 1
        await world.restart(seed=seed)


def scenario_of(args: argparse.Namespace) -> Scenario:
    """Return the load of one round."""
    fragments = max(1, round(args.rate * args.round_s / args.conversations))
    return Scenario(
        title="soak",
        load=Load(conversations=args.conversations, fragments=fragments, rate=args.rate),
    )


async def soak(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Run the load and return the figures."""
    address = f"127.0.0.1:{free_port()}"
    lines = folder / "transcripts.jsonl"
    world = World(scenario_of(args), wait_for_sockets=1)
    samples: dict[str, list[tuple[float, int]]] = {"gateway": [], "consumer": []}
    async with Simulator(world=world) as sim, world:
        with (
            program(folder, "consume", "--listen", address, "--out", str(lines)) as consumer,
            program(
                folder,
                *("live", "--source", "transcript-stream", "--host", sim.ws_url),
                *("--grpc", address, "--state-dir", str(folder / "state"), "--health", ""),
            ) as gateway,
        ):
            async with asyncio.timeout(START_S):
                await world.begun()
            began = time.monotonic()
            ends = began + args.minutes * 60
            playing = asyncio.create_task(play(world))
            while (now := time.monotonic()) < ends:
                samples["gateway"].append((now - began, rss_kb(gateway)))
                samples["consumer"].append((now - began, rss_kb(consumer)))
                await asyncio.sleep(min(args.every_s, ends - now))
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
    return {
        "minutes": args.minutes,
        "rate": args.rate,
        "records": lines.read_bytes().count(b"\n"),
        "gateway": summary(samples["gateway"]),
        "consumer": summary(samples["consumer"]),
        "gateway_kb": [kb for _, kb in samples["gateway"]],
    }


def main() -> None:
    """Parse the options, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=200.0, help="fragments per second in all")
    parser.add_argument("--conversations", type=int, default=50, help="at a time")
    parser.add_argument("--round-s", type=float, default=60.0, help="life of a conversation")
    parser.add_argument("--every-s", type=float, default=10.0, help="between two samples")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="steno-soak-") as name:
        print(json.dumps(asyncio.run(soak(args, Path(name)))))


if __name__ == "__main__":
    main()
