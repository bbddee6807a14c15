"""`steno diarise score`, of an export and of a real store."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite import SqliteStore
from steno.cli.common import ExitCode
from steno.cli.main import make_app
from steno.core.records import Draft, Kind, Origin, SegmentPayload, record_key
from steno.ports import Commit

pytest.importorskip("meeteval", reason="pip install 'steno[score]' (needs a C++ compiler)")

S = 1_000_000
ZERO_US = 1_772_359_200 * S
RTTM = (
    "SPEAKER call-1 1 0.0 4.0 <NA> <NA> ada <NA> <NA>\n"
    "SPEAKER call-1 1 5.0 5.0 <NA> <NA> bob <NA> <NA>\n"
)
STM = "call-1 1 ada 0 4 Good morning.\ncall-1 1 bob 5 10 Good evening to you!\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """References of a call, and a store with it whose second speaker is heard 1 s late."""
    (tmp_path / "reference.rttm").write_text(RTTM)
    (tmp_path / "reference.stm").write_text(STM)
    state = StateDir(tmp_path / "state")
    spoken = [
        SegmentPayload("s0", "good morning", ZERO_US, ZERO_US + 4 * S, 0.9, 1, ZERO_US),
        SegmentPayload("s1", "good evening to", ZERO_US + 6 * S, ZERO_US + 10 * S, 0.9, 1, ZERO_US),
        SegmentPayload("s1", "no", ZERO_US + 11 * S, ZERO_US + 12 * S, 0.6, 1, ZERO_US),
    ]
    drafts = [
        Draft(
            kind=Kind.SEGMENT,
            source="event-socket",
            conversation="call-1",
            lane=one.speaker,
            utterance=str(number),
            revision=0,
            key=record_key("host", "call-1", one.speaker, str(number)),
            origin=Origin.LIVE,
            at_us=1,
            payload=msgspec.json.encode(one),
            place_us=one.started_us,
        )
        for number, one in enumerate(spoken)
    ]

    async def write() -> None:
        with state:
            store = SqliteStore.open(state.database, {})
            store.start()
            await store.submit(Commit(drafts))
            await store.close()

    asyncio.run(write())
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    clean = {name: None for name in os.environ if name.startswith(("STENO_", "GENESYS_", "OAUTH_"))}
    return CliRunner().invoke(
        make_app(),
        ["diarise", "score", *arguments, "--state-dir", str(folder / "state")],
        env={**clean, "HOME": "/nonexistent", "COLUMNS": None},
    )


def references(folder: Path) -> list[str]:
    return [str(folder / "reference.rttm"), str(folder / "reference.stm")]


def test_what_is_stored_is_scored(folder: Path) -> None:
    """One second of nine is missed, one word of six; below the confidence nothing counts."""
    result = run(folder, *references(folder), "--collar", "0", "--json")
    assert result.exit_code == ExitCode.DONE, result.output
    found = json.loads(result.stdout)
    assert found["speakers"] == {
        "scored_s": 9.0,
        "missed_s": 1.0,
        "false_alarm_s": 0.0,
        "confusion_s": 0.0,
        "der": 1 / 9,
    }
    assert (found["words"]["deletions"], found["words"]["cp_wer"]) == (1, 1 / 6)
    lower = json.loads(
        run(folder, *references(folder), "--collar", "0", "--json", "--min-confidence", "0").stdout
    )
    assert (lower["speakers"]["false_alarm_s"], lower["words"]["insertions"]) == (1, 0)
    assert lower["words"]["substitutions"] == 1


def test_a_table_for_people(folder: Path) -> None:
    """A line for each conversation and one for all."""
    lines = run(folder, *references(folder)).stdout.splitlines()
    assert lines[0].split()[:2] == ["Conversation", "DER"]
    assert [line.split()[0] for line in lines[1:]] == ["call-1", "all"]
    assert "16.67%" in lines[1]
    # With the collar: of 3.5 + 4.5 seconds the first three quarters of a second are missed.
    assert lines[1].split()[1] == "9.38%"


def test_an_export_is_scored_without_a_store(folder: Path) -> None:
    """Of RTTM there are only times; a reference against itself has no error."""
    result = run(
        folder / "elsewhere",
        *references(folder),
        "--hypothesis",
        str(folder / "reference.rttm"),
        "--json",
    )
    found = json.loads(result.stdout)
    assert (found["speakers"]["der"], found["words"]) == (0, None)


def test_no_conversation_in_common_is_an_outcome_of_its_own(folder: Path) -> None:
    """Exit code 5, told how many were looked for."""
    other = folder / "other.rttm"
    other.write_text(RTTM.replace("call-1", "call-9"))
    result = run(folder, str(other))
    assert result.exit_code == ExitCode.NOTHING_FOUND
    assert "of the references, not found: 1 conversation" in result.stderr
    nothing = run(folder, *references(folder), "--conversation", "call-9")
    assert nothing.exit_code == ExitCode.NOTHING_FOUND
    assert "the references hold no segment, or none of what was asked for" in nothing.stderr


def test_nothing_to_compare_by_is_told(folder: Path) -> None:
    """Words alone against times alone."""
    words = folder / "words.json"
    words.write_text(json.dumps([{"session_id": "call-1", "speaker": "a", "words": "hi"}]))
    result = run(folder, str(words), "--hypothesis", str(folder / "reference.rttm"))
    assert "neither times nor words in common" in str(result.exception)


def test_a_reference_that_is_wrong_is_named_by_its_argument(folder: Path) -> None:
    """One error of ours, which the command line turns into exit code 2."""
    result = run(folder, str(folder / "absent.rttm"))
    assert "setting=REFERENCE" in str(result.exception)


@pytest.mark.parametrize("form", ["json", "jsonl", "rttm"])
def test_our_own_export_of_the_store_has_no_error(folder: Path, form: str) -> None:
    """Whatever is exported is read back as it was stored: ours against ours is 0."""
    export = folder / f"export.{form}"
    clean = {name: None for name in os.environ if name.startswith(("STENO_", "GENESYS_", "OAUTH_"))}
    state = ["--state-dir", str(folder / "state")]
    written = CliRunner().invoke(
        make_app(),
        ["diarise", "export", "--out", str(export), *state],
        env={**clean, "HOME": "/nonexistent"},
    )
    assert written.exit_code == ExitCode.DONE, written.output
    result = run(folder, str(export), "--collar", "0", "--json")
    found = json.loads(result.stdout)
    assert found["speakers"]["der"] == 0
    assert found["speakers"]["scored_s"] == 8
    assert found["words"] is None if form == "rttm" else found["words"]["cp_wer"] == 0
