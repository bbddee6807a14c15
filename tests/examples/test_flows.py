"""Each flow, as its one command runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("script", "options", "lines"),
    [
        ("json_flow.py", (), 4),
        ("audiohook_flow.py", (), 4),
        ("audiohook_flow.py", ("--monitor",), 0),
    ],
)
def test_a_flow_ends_with_everything_it_began_with(
    script: str, options: tuple[str, ...], lines: int
) -> None:
    """Exit code 0; each line of standard output is a record or an entity."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *options],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "MISSING" not in done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(printed) == lines
    assert "4111" not in done.stdout
    assert "555-0142" not in done.stdout


@pytest.mark.timeout(90)
@pytest.mark.parametrize("source", ["event-socket", "notifications"])
def test_the_diarisation_flow_ends_with_every_segment(source: str) -> None:
    """Exit code 0; standard output is the document's JSON, without what is secret."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "diarise_flow.py"), "--source", source],
        capture_output=True,
        text=True,
        timeout=85,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "MISSING" not in done.stderr
    export = json.loads(done.stdout)
    assert export["totalSegments"] == len(export["segments"]) >= 60
    assert set(export["segments"][0]) == {
        "conversation_id", "speaker", "text", "start_seconds", "end_seconds", "confidence",
        "is_final", "timestamp",
    }  # fmt: skip
    for secret in ("4111", "555-0142", "536-22-8145", "oliver.hart", "612 34 56 78"):
        assert secret not in done.stdout
