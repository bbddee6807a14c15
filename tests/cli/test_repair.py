"""``steno repair`` as a command: what it tells, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from steno.app.repair import Repaired
from steno.archive.repair import Outcome, Result, Tally
from steno.cli.common import ExitCode
from steno.cli.repair import exit_code_of, line_of
from steno.core.records import ReconciledPayload


def done(*results: Result, bad_ids: int = 0) -> Repaired:
    """Return a run with these results."""
    tally = Tally()
    for result in results:
        tally.add(result)
    return Repaired(tally, bad_ids=bad_ids)


WHOLE = Result("a", Outcome.REPAIRED, 1, ReconciledPayload(3, 2, 1, 0, 1.0))
PARTLY = Result("b", Outcome.PARTLY, 0, ReconciledPayload(3, 2, 0, 1, 0.667, outside=1))


def test_exit_codes_tell_what_is_left() -> None:
    """0 everything is there, 1 something is missing, 5 nothing to do."""
    assert exit_code_of(done(WHOLE, Result("c", Outcome.KNOWN))) is ExitCode.DONE
    assert exit_code_of(done(WHOLE, PARTLY)) is ExitCode.FAILED
    for outcome in (Outcome.MISSING, Outcome.IN_WORK, Outcome.PURGED, Outcome.FAILED):
        assert exit_code_of(done(WHOLE, Result("c", outcome))) is ExitCode.FAILED
    assert exit_code_of(done()) is ExitCode.NOTHING_FOUND
    assert exit_code_of(done(WHOLE), stopped=True) is ExitCode.INTERRUPTED
    assert exit_code_of(done(bad_ids=1)) is ExitCode.USAGE
    assert exit_code_of(done(WHOLE, bad_ids=1)) is ExitCode.FAILED


def test_a_line_adds_up() -> None:
    """Under ``--json`` each conversation is a line."""
    assert line_of(PARTLY) == {
        "conversation": "b",
        "outcome": "partly",
        "filled": 0,
        "expected": 3,
        "delivered_live": 2,
        "backfilled": 0,
        "missing": 1,
        "outside": 1,
        "unreadable": 0,
        "ratio": 0.667,
    }


def test_totals_are_those_of_all() -> None:
    """And the ratio is of segments, not of conversations."""
    tally = done(WHOLE, PARTLY).tally
    assert (tally.expected, tally.delivered_live, tally.backfilled, tally.missing) == (6, 4, 1, 1)
    assert tally.ratio == 5 / 6


def test_without_a_store_there_are_no_gaps(tmp_path: Path) -> None:
    """Exit code 5, and the platform is not asked."""
    env = {
        "PATH": os.defpath,
        "HOME": str(tmp_path),
        "OAUTH_CLIENT_ID": "x",
        "OAUTH_CLIENT_SECRET": "y",
        "STENO_PLATFORM_HOST": "http://127.0.0.1:9",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "steno.cli", "repair", "--json", "--state-dir", str(tmp_path / "s")],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == ExitCode.NOTHING_FOUND, ended.stderr
    totals = json.loads(ended.stdout)["totals"]
    assert totals["gaps"] == totals["expected"] == 0
    assert totals["exit_code"] == 5
