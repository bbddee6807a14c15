"""Each flow of call audio, as its one command runs it."""

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
