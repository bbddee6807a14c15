"""Measurements run, tell what they measured, and lose nothing while they measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def printed(*arguments: str) -> list[str]:
    """Return the lines of a measurement, with no other build to compare with."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("STENO_")}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_comparison_is_skipped_with_a_line_where_there_is_nothing_to_compare_with() -> None:
    """Unset STENO_BASELINE is no failure."""
    (line,) = printed("bench", "--only", "live")
    assert "skipped" in line
    assert "STENO_BASELINE" in line


def test_every_measurement_is_one_line_of_json_with_its_name() -> None:
    """A program may print its object over several lines; the runner joins them."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in printed("bench", "--only", "start")]
    assert {row["bench"] for row in rows} == {"start"}
    assert all(row["cpu_ms"] > 0 for row in rows)


def test_what_the_pipeline_is_measured_with_comes_out_whole() -> None:
    """Each fragment's mark is in some draft: the figure is of work that was done."""
    (line,) = printed("bench.pipeline", "--conversations", "6", "--fragments", "40", "--runs", "1")
    row = json.loads(line)
    assert row["marks_missing"] == 0
    assert row["drafts"] >= 6 * 40 / 4


def test_the_media_comparison_is_skipped_with_a_line_as_well() -> None:
    """Unset STENO_BASELINE is no failure there either."""
    (line,) = printed("bench", "--only", "media")
    assert "skipped" in line
    assert "STENO_BASELINE" in line


def test_audiohook_calls_are_measured_with_nothing_lost() -> None:
    """Every call is opened and closed, and all its audio reaches the speech service."""
    options = ("--calls", "4", "--seconds", "1", "--cases", "sentences", "--bin", "/nonexistent")
    (line,) = printed("bench.audiohook_load", *options)
    row = json.loads(line)
    assert (row["opened"], row["closed"], row["refused"]) == (4, 4, {})
    assert row["frames"] >= 4 * 5
    assert row["frames_lost"] == 0
    assert row["cpu_s_per_call_s"] >= 0


def test_what_diarisation_is_measured_with_is_stored_whole(tmp_path: Path) -> None:
    """Every event sent is read and every segment that is to be kept is exported."""
    sizes = ("--segments", "2000", "--keep", str(tmp_path), "--formats", "jsonl")
    lines = printed("bench.diarisation", "--only", "stages", "recorded", "export", *sizes)
    stages, recorded, exported = map(json.loads, lines)
    assert recorded["stored"] == exported["segments"] > 1900
    assert recorded["malformed"] == 0
    assert stages["drafts"] == 2000


def test_stored_transcripts_are_measured_with_all_their_segments() -> None:
    """Another parser finds as many to the megabyte; memory is that of a process of its own."""
    sizes = ("--megabytes", "1", "--runs", "1", "--only", "pretty", "platform-20-words")
    rows = {row["case"]: row for row in map(json.loads, printed("bench.archive_parse", *sizes))}
    assert rows["pretty"]["segments"] > 3000
    assert 0 < rows["pretty"]["growth_mb"] < 30
    tenth = rows["ijson-platform-20-words"]
    whole = rows["platform-20-words"]
    each = [row["mb"] / row["segments"] for row in (tenth, whole)]
    assert each[0] == pytest.approx(each[1], rel=0.1)
