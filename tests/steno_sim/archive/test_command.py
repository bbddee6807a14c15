"""``steno-sim transcript``, ``archive-score`` and ``--archive``, as a shell uses them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steno_sim.archive import settings
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.cli import app
from steno_sim.setting_pairs import parse_settings

CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"


def run(*options: str) -> tuple[int, bytes, str]:
    result = CliRunner().invoke(app, options)
    return result.exit_code, result.stdout_bytes, result.stderr


@pytest.mark.parametrize("shape", ["document", "platform"])
@pytest.mark.parametrize("pretty", [True, False])
def test_a_transcript_has_its_size_and_is_the_same_again(shape: str, pretty: bool) -> None:
    """At least so many bytes of JSON, and not much more."""
    options = ["transcript", "--size", "200KB", "--shape", shape, "--order", "last"]
    options += ["--pretty"] if pretty else []
    code, out, _ = run(*options)
    assert code == 0
    assert 200_000 <= len(out) < 210_000
    assert json.loads(out)["participants"]
    assert run(*options)[1] == out
    assert run(*options, "--seed", "2")[1] != out


def test_a_transcript_is_held_against_its_truth(tmp_path: Path) -> None:
    """A payload made of it is perfect; one without a turn is not, exit code 1."""
    out, truth = tmp_path / "one.json", tmp_path / "truth.json"
    options = ("--conversation", CALL, "--out", str(out), "--truth", str(truth))
    assert run("transcript", "--size", "20KB", *options)[0] == 0
    told = json.loads(out.read_bytes())
    code, scored, _ = run("archive-score", str(out), "--truth", str(truth))
    assert code == 0
    assert json.loads(scored)["right"] == len(told["transcript"])
    told["transcript"].pop()
    out.write_text(json.dumps(told))
    code, scored, _ = run("archive-score", str(out), "--truth", str(truth))
    assert (code, json.loads(scored)["missing"]) == (1, 1)


@pytest.mark.parametrize(
    "options",
    [("--size", "much"), ("--size", "0"), ("--size", "1MB", "--conversation", "../etc")],
)
def test_a_transcript_that_cannot_be_is_refused(options: tuple[str, ...]) -> None:
    """One line, exit code 2."""
    code, out, err = run("transcript", *options)
    assert (code, out, err.count("\n")) == (2, b"", 1)


@pytest.mark.parametrize(
    ("pair", "named"),
    [
        ("nonsense=1", "nonsense"),
        ("size=big", "size"),
        ("size=11GB", "size"),
        ("failed=2", "failed"),
        ("turns=9,2", "turns"),
        ("first_day=monday", "first_day"),
        ("expired_status=404", "expired_status"),
        ("legs=0", "legs"),
        ("expiry=never", "expiry"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(pair: str, named: str) -> None:
    """On the command line and in Python."""
    with pytest.raises(ValueError, match=named):
        parse_settings(ArchiveSettings, [pair])
    code, _, err = run("--archive", pair)
    assert code == 2
    assert named in err


def test_settings_are_read_from_pairs() -> None:
    """Ranges, sizes, switches and choices."""
    pairs = ["size=1.5MB", "turns=7", "gzip=true", "expired_status=410", "order=mixed"]
    found = parse_settings(ArchiveSettings, pairs)
    assert (found.size_bytes, found.turns, found.gzip) == (1_500_000, (7, 7), True)
    assert (found.expired_status, found.order) == (410, "mixed")


def test_every_setting_stands_in_the_table() -> None:
    """Which is the page of the reference."""
    named = set(
        re.findall(r"[a-z_]+", " ".join(re.findall(r"``([^`]+)``", settings.__doc__ or "")))
    )
    assert set(ArchiveSettings.__struct_fields__) <= named
