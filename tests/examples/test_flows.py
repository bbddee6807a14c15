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
def test_the_diarisation_flow_ends_with_every_segment() -> None:
    """By both sources: exit code 0; standard output is the document's JSON, without secrets."""
    script = [sys.executable, str(EXAMPLES / "diarise_flow.py"), "--source"]
    flows = [
        subprocess.Popen(
            [*script, source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for source in ("event-socket", "notifications")
    ]
    for flow in flows:  # side by side: each takes the time of its calls
        out, said = flow.communicate(timeout=85)
        assert flow.returncode == 0, said
        assert "MISSING" not in said
        export = json.loads(out)
        assert export["totalSegments"] == len(export["segments"]) >= 60
        assert set(export["segments"][0]) == {
            "conversation_id", "speaker", "text", "start_seconds", "end_seconds", "confidence",
            "is_final", "timestamp",
        }  # fmt: skip
        for secret in ("4111", "555-0142", "536-22-8145", "oliver.hart", "612 34 56 78"):
            assert secret not in out


@pytest.mark.timeout(90)
def test_the_transcription_flow_ends_with_what_was_planted() -> None:
    """Exit code 0: transcript, webhook and audit log are as planted; no secret is printed."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "transcribe_flow.py")],
        capture_output=True,
        text=True,
        timeout=85,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "MISSING" not in done.stderr
    assert "Processing complete. Latency: " in done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) >= 15
    assert all(line.startswith("[00:0") for line in lines)
    assert "[REDACTED]" in done.stdout


@pytest.mark.timeout(90)
def test_the_archive_flow_ends_with_every_turn() -> None:
    """Standard output is the document's summary; everything else is told on standard error."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "archive_flow.py"), "--size", "100KB"],
        capture_output=True,
        text=True,
        timeout=85,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "MISSING" not in done.stderr
    assert json.loads(done.stdout)["total_turns"] > 100
