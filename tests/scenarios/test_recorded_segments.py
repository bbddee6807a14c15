"""Recorded events of both sources, from the simulator's file to an export that it scores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT_S = 60


def program(module: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one of our programs as a user would."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.mark.timeout(2 * LIMIT_S)
@pytest.mark.parametrize("source", ["event-socket", "notifications"])
def test_what_was_recorded_is_exported_as_if_it_had_been_heard(source: str, tmp_path: Path) -> None:
    """Every segment with its speaker, transferred agents too: the recorded topics name them."""
    events, truth, out = (str(tmp_path / name) for name in ("events.jsonl", "truth", "out.json"))
    made = program(
        "steno_sim.cli",
        *("events", "--scenario", "diarisation", "--source", source),
        *("--out", events, "--truth", truth),
        folder=tmp_path,
    )
    assert made.returncode == 0, made.stderr
    done = program(
        "steno.cli",
        *("diarise", "--events", events, "--out", out, "--source", source, "--health", ""),
        *("--state-dir", str(tmp_path / "state"), "--json"),
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["export"]["segments"] == 65
    scored = program(
        "steno_sim.cli", "score", out, "--truth", truth, "--source", source, folder=tmp_path
    )
    assert scored.returncode == 0, scored.stdout
