"""Collecting segments as one of the features of ``steno run``."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from faults.diarise_rig import collecting
from faults.gateway_rig import Service


@pytest.mark.timeout(60)
async def test_a_running_gateway_exports_when_asked_and_at_its_end(tmp_path: Path) -> None:
    """SIGUSR1 and SIGTERM mean what they mean to ``steno diarise``."""
    async with collecting(tmp_path, speed=20, conversations=2, start=False) as one:
        settings = {
            "STENO_FEATURES": "live,diarisation",
            "STENO_DIARISATION_OUT": str(one.collector.export),
            "STENO_OBSERVABILITY_LISTEN": "",
        }
        command = [sys.executable, "-m", "steno.cli", "run", "--json"]
        gateway = Service(command, env=one.collector.env | settings, log=tmp_path / "run.log")
        try:
            gateway.start()
            await gateway.event("live.connected", count=2)
            gateway.signal(signal.SIGUSR1)
            await gateway.event("diarisation.exported")
            await one.sim.finished()
            assert await gateway.stop() == 0
        finally:
            gateway.end()
        assert one.score().perfect
        told = json.loads(gateway.out.read_text().splitlines()[-1])
        exported = json.loads(one.collector.export.read_bytes())["totalSegments"]
        assert told["diarisation"]["export"]["segments"] == exported


@pytest.mark.timeout(60)
async def test_a_followed_export_is_whole_whatever_is_asked_meanwhile(tmp_path: Path) -> None:
    """SIGUSR1 and an export to the same file must not take it away from who appends to it."""
    out = "segments.jsonl"
    async with collecting(
        tmp_path, speed=20, conversations=2, out=out, options=("--follow",)
    ) as one:
        await one.heard(5)
        one.collector.signal(signal.SIGUSR1)
        code, _, said = await one.collector.run(
            "diarise", "export", "--out", str(one.collector.export)
        )
        assert code == 1
        assert "the file is being appended to" in said
        await one.sim.finished()
        assert await one.collector.interrupted() == 0
        whole = await one.collector.exported("jsonl")
        followed = one.collector.export.read_bytes()
        assert len(followed.splitlines()) >= len(whole.splitlines()) > 5
