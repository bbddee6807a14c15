"""Whole conversations through the whole gateway, both wire families: nothing lost or leaked."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from faults.gateway_oracle import Line, newest, read_lines, searched
from steno.app.gateway import run_gateway
from steno.config import load
from steno.core.secret import Secret
from steno.observability import LogTelemetry
from steno_sim.score import Heard, score
from steno_sim.server import Simulator

SETTLE_S = 0.5
KEYS = {
    *("conversations", "sentences", "redactions", "stored", "acknowledged"),
    *("lost", "repeated", "p50_ms", "p99_ms"),
}

STREAM = {"live.source": "transcript-stream"}
NOTIFICATIONS = {"live.source": "notifications", "platform.family": "genesys-cloud"}


class Spoken(msgspec.Struct):
    """What of a sentence's payload is looked at here."""

    participant: str
    text: str
    started_us: int
    role: str


async def followed(
    sim: Simulator, folder: Path, family: dict[str, Any], telemetry: LogTelemetry
) -> dict[str, Any]:
    """Run a gateway until everything has been said; give its summary."""
    client = next(iter(sim.tokens.clients.values()))
    settings: dict[str, Any] = {
        "platform.host": sim.url,
        "platform.client_id": client.id,
        "platform.client_secret": Secret(client.secret),
        "state_dir": folder / "state",
        "observability.listen": "127.0.0.1:0",
        "delivery.destinations": ({"type": "jsonl", "path": str(folder / "out.jsonl")},),
        **family,
    }
    if family is NOTIFICATIONS:
        plans = sim.world.script.plans
        settings["live.queues"] = tuple(sorted({plan.queue for plan in plans}))
    config = load(None, {}, settings)
    stop = asyncio.Event()

    async def end() -> None:
        await sim.finished()
        await asyncio.sleep(SETTLE_S)  # what was written last has still to be read
        stop.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(end())
        return await run_gateway(config, stop=stop, telemetry=telemetry)


def heard(sim: Simulator, lines: list[Line]) -> list[Heard]:
    """Give the newest sentences, by participant: where a source has channels, by who speaks."""
    plans = sim.world.by_id
    found = []
    for line in newest(lines):
        if line.kind == "sentence":
            said = msgspec.convert(line.payload, Spoken)
            plan, speaker = plans[line.conversation], said.participant
            if "/" in speaker:
                agent = said.role == "agent"
                speaker = plan.agent_participant if agent else plan.customer_participant
            found.append(Heard(line.conversation, speaker, said.text, said.started_us))
    return found


@pytest.mark.timeout(90)
@pytest.mark.parametrize("family", [STREAM, NOTIFICATIONS], ids=["stream", "notifications"])
@pytest.mark.parametrize("seed", [0, 7])
async def test_the_demo_scenario_arrives_whole(
    tmp_path: Path,
    family: dict[str, Any],
    seed: int,
) -> None:
    """Four languages, noise, changes of language: all said, once, redacted, nothing in the logs."""
    log = io.StringIO()
    telemetry = LogTelemetry(level="debug", stream=log, strict=True)
    async with Simulator("demo", speed=8, seed=seed, wait_for_sockets=1, hold=True) as sim:
        summary = await followed(sim, tmp_path, family, telemetry)
        lines = read_lines(tmp_path / "out.jsonl")
        found = score(sim.truth(), heard(sim, lines))
        secrets = [secret.text for secret in sim.truth().secrets() if not secret.group]
        said = [s for c in sim.truth().conversations for u in c.utterances for s in u.sentences]
        tokens = [*sim.tokens._tokens, *(c.secret for c in sim.tokens.clients.values())]
    stray = searched(
        [path for path in tmp_path.rglob("*") if path.is_file()],
        [log.getvalue(), telemetry.exposition().decode()],
        canaries=secrets,
        tokens=tokens,
        text=said,
    )
    assert (found.lost, found.repeated, found.leaked) == (0, 0, 0), found.lost_ids
    assert not stray
    assert found.sentences >= 60
    assert summary["redactions"] >= 10
    assert summary["drained"]
    assert any(line.kind == "language_changed" for line in lines)


@pytest.mark.timeout(60)
async def test_the_demo_scenario_survives_drops(tmp_path: Path) -> None:
    """Sockets lost while people speak: what was delivered whole arrives whole and by itself, and
    the rest is owned up to.
    """
    drops = 3
    quick = {**STREAM, "live.backoff_first_s": 0.1, "live.backoff_max_s": 0.2}
    async with Simulator("demo", speed=8, wait_for_sockets=1) as sim:
        for number in range(drops):
            sim.inject(kind="drop", after=60 * (number + 1), reset=True)
        await followed(sim, tmp_path, quick, LogTelemetry(stream=io.StringIO(), strict=True))
        lines = read_lines(tmp_path / "out.jsonl")
        found = score(sim.truth(), heard(sim, lines))
        assert sim.region.upgrades == drops + 1
    assert (found.lost, found.repeated, found.leaked) == (0, 0, 0), found.lost_ids
    gaps = [line for line in newest(lines) if line.kind == "gap" and not line.conversation]
    assert len(gaps) == drops
    assert all(gap.payload["to_us"] for gap in gaps)


@pytest.mark.timeout(60)
def test_steno_demo_ends_by_itself_with_its_summary(tmp_path: Path) -> None:
    """As fast as it goes: exit code 0, and one line of JSON with the promised keys."""
    done = subprocess.run(
        [sys.executable, "-m", "steno.cli", "demo", "--speed", "0", "--out", str(tmp_path / "d")],
        capture_output=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    (line,) = done.stdout.decode().splitlines()
    summary = json.loads(line)
    assert set(summary) >= KEYS
    assert summary["conversations"] == 12
    assert summary["lost"] == summary["repeated"] == summary["leaked"] == 0
    assert summary["stored"] == summary["acknowledged"] > 60
    assert 0 < summary["p50_ms"] <= summary["p99_ms"]
