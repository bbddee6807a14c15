"""A batch of jobs with faults, every part of it a process: the benchmark, held to its promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(*options: str) -> dict[str, Any]:
    """Run the benchmark; give its figures."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("STENO_")}
    done = subprocess.run(
        [sys.executable, "-m", "bench.recordings_load", *options],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr[-3000:]
    figures: dict[str, Any] = json.loads(done.stdout)
    print(done.stdout)  # noqa: T201  # the figures, shown by -s
    return figures


def kept(figures: dict[str, Any], *, kills: int = 0) -> None:
    """Hold the figures against every promise."""
    assert figures["broken"] == {}
    assert figures["ends"].get("completed", 0) + figures["ends"]["failed"] == figures["jobs"]
    assert figures["submitted_twice"] == 0
    assert figures["kills"] == kills
    assert figures["faults_struck"]
    assert figures["webhook_deliveries"] >= figures["jobs"]  # some are refused once


@pytest.mark.timeout(300)
def test_a_batch_with_faults_is_carried_out_whole() -> None:
    """Each job ends as it should, submitted once, told once, its transcript what was said."""
    kept(load("--jobs", "150"))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_five_thousand_jobs_with_faults() -> None:
    """The full count, in memory that does not follow the number of jobs."""
    figures = load("--jobs", "5000")
    kept(figures)
    assert figures["peak_rss_mb"] < 200
    assert figures["most_requests_in_a_minute"] <= figures["rate_limit"]


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_five_thousand_jobs_with_faults_and_fifty_kills() -> None:
    """The full count of kills, at random moments."""
    kept(load("--jobs", "5000", "--kills", "50"), kills=50)
