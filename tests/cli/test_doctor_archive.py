"""The part of `steno doctor` that looks at the archive."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from steno.cli.main import make_app


def doctor(folder: Path, **env: str) -> dict[str, Any]:
    """Run it in this process, without a platform; return what it says of the archive, if so."""
    names = ("STENO_", "GENESYS_", "OAUTH_", "AWS_")
    clean = {name: None for name in os.environ if name.startswith(names)}
    given: Any = {**clean, "HOME": str(folder), "GENESYS_ENV": "http://127.0.0.1:9", **env}
    state = ("--state-dir", str(folder / "state"))
    done = CliRunner().invoke(make_app(), ["doctor", "--json", *state], env=given)
    checks = json.loads(done.stdout)["checks"]
    return next((one for one in checks if one["check"] == "archive"), {})


def test_an_archive_that_works_is_fine_and_nothing_stays_in_it(tmp_path: Path) -> None:
    """Something is put, read and deleted."""
    place = tmp_path / "archive"
    assert doctor(tmp_path, STENO_ARCHIVE_URL=str(place))["verdict"] == "ok"
    assert [path for path in place.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("url", "area"), [("/proc/nothing", "consumer"), ("ftp://x/y", "config")])
def test_an_archive_that_does_not_work_fails(tmp_path: Path, url: str, area: str) -> None:
    """In the area that decides the exit code."""
    found = doctor(tmp_path, STENO_ARCHIVE_URL=url)
    assert (found["verdict"], found["area"]) == ("fail", area)


def test_the_default_bucket_is_left_alone(tmp_path: Path) -> None:
    """Only an archive that somebody has named is looked at."""
    assert doctor(tmp_path) == {}
