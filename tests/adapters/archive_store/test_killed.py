"""A writer killed at any step leaves what a rerun completes to the same result."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from conformance import swift
from conformance.archive_store_contract import LARGE, PART, SMALL
from conformance.faulty_s3 import FaultyS3

PROGRAM = Path(__file__).resolve().parent.parent / "archive_killed.py"
LEASE_S = 0.2


def killed(settings: dict[str, Any], size: int, *, every: int = 1) -> list[dict[str, Any]]:
    """Return what reruns came to, after a kill at each step."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), json.dumps(settings), str(size), str(every)],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def over(endpoint: str, bucket: str) -> dict[str, Any]:
    """Return the settings of a bucket, with a prefix for each step."""
    return {
        "url": f"s3://{bucket}/{{n}}",
        "endpoint": endpoint,
        "region": swift.REGION,
        "lease_s": LEASE_S,
        "part_bytes": PART,
        "wait_s": 20.0,
        "options": {"access_key_id": swift.KEY_ID, "secret_access_key": swift.SECRET},
    }


def all_came_to_the_same(rows: list[dict[str, Any]], size: int, *, at_least: int) -> None:
    """One sound object, its manifest, and nothing else."""
    half = bytes(range(256)) * 64
    content = (half * (size // len(half) + 1))[:size]
    assert len(rows) >= at_least
    for row in rows:
        assert row["problem"] == "", row
        assert row["sha256"] == hashlib.sha256(content).hexdigest(), row
        assert row["names"] == ["transcripts/conv-1.json"], row
        assert row["kept"] == ["manifests/conv-1/transcripts/conv-1.json.json"], row
        assert json.loads(row["summary"]) == {"archived_at": "2026-03-01T10:00:00Z"}, row
    assert {row["outcome"] for row in rows} <= {"written", "same"}


@pytest.mark.parametrize("size", [len(SMALL), LARGE])
def test_in_a_folder(tmp_path: Path, size: int) -> None:
    """At every step."""
    rows = killed({"url": str(tmp_path / "{n}")}, size)
    all_came_to_the_same(rows, size, at_least=12)


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.soak)])
def test_small_in_a_bucket(every: int) -> None:
    """At every step."""
    with FaultyS3().served() as s3:
        rows = killed(over(s3.endpoint, "bucket"), len(SMALL), every=every)
    all_came_to_the_same(rows, len(SMALL), at_least=10 // every)


@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.soak)])
def test_large_in_a_bucket(every: int) -> None:
    """At every step, claims and parts among them."""
    with FaultyS3().served() as s3:
        rows = killed(over(s3.endpoint, "bucket"), LARGE, every=every)
    all_came_to_the_same(rows, LARGE, at_least=40 // every)


@pytest.mark.soak
@pytest.mark.parametrize("size", [len(SMALL), LARGE])
def test_on_a_real_server(swift_server: swift.Swift, size: int) -> None:
    """At every step."""
    name = f"killed-{uuid.uuid4().hex}"
    swift_server.make_bucket(name)
    rows = killed(over(swift_server.endpoint, name), size)
    all_came_to_the_same(rows, size, at_least=10)
