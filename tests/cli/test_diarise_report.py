"""`steno diarise report`, against a real store in a folder of its own."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import apsw
import msgspec
import pytest
from typer.testing import CliRunner, Result

from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite import SqliteStore
from steno.cli.common import ExitCode
from steno.cli.main import make_app
from steno.core.records import (
    AuditReason,
    Draft,
    Kind,
    Origin,
    SegmentAuditPayload,
    SegmentPayload,
    record_key,
)
from steno.ports import Commit

S = 1_000_000
ZERO_US = 1_772_359_200 * S  # 2026-03-01 10:00 UTC
TEXT = "good morning <b>everybody</b>"


def segment(speaker: str, start_s: float, end_s: float, confidence: float = 0.9) -> SegmentPayload:
    return SegmentPayload(
        speaker=speaker,
        text=TEXT,
        started_us=ZERO_US + round(start_s * S),
        ended_us=ZERO_US + round(end_s * S),
        confidence=confidence,
        at_us=ZERO_US,
        zero_us=ZERO_US,
        role="agent" if speaker == "agent" else "customer",
        name="Ada <i>" if speaker == "agent" else "",
    )


def draft(conversation: str, body: SegmentPayload | SegmentAuditPayload) -> Draft:
    heard = body if isinstance(body, SegmentPayload) else body.segment
    slot = f"{heard.speaker}-{heard.started_us}"
    return Draft(
        kind=Kind.SEGMENT if body is heard else Kind.SEGMENT_AUDIT,
        source="notifications",
        conversation=conversation,
        lane=heard.speaker,
        utterance=slot,
        revision=0,
        key=record_key("host", conversation, heard.speaker, slot),
        origin=Origin.LIVE,
        at_us=heard.at_us,
        payload=msgspec.json.encode(body),
        place_us=heard.started_us,
    )


def stored(*drafts: Draft, state: StateDir) -> None:
    import asyncio

    async def write() -> None:
        with state:
            store = SqliteStore.open(state.database, {})
            store.start()
            await store.submit(Commit(list(drafts)))
            await store.close()

    asyncio.run(write())


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A good conversation, one with too little confidence, and one without a speaker."""
    state = StateDir(tmp_path / "state")
    nobody = SegmentAuditPayload(AuditReason.NO_SPEAKER, segment("", 0, 1))
    stored(
        draft("call-1", segment("agent", 0, 4)),
        draft("call-1", segment("customer", 5, 8)),
        draft("call-1", segment("agent", 7, 9)),
        draft("call-1", segment("agent", 20, 21, confidence=0.6)),
        draft("call-1", SegmentAuditPayload(AuditReason.LOW_CONFIDENCE, segment("x", 3, 4, 0.3))),
        draft("call-2", segment("agent", 0, 1, confidence=0.7)),
        draft("call-3", nobody),
        state=state,
    )
    return state


def run(state: StateDir, *arguments: str, columns: int = 0) -> Result:
    clean = {name: None for name in os.environ if name.startswith(("STENO_", "GENESYS_", "OAUTH_"))}
    env = {**clean, "HOME": "/nonexistent", "COLUMNS": str(columns) if columns else None}
    return CliRunner().invoke(
        make_app(), ["diarise", "report", *arguments, "--state-dir", str(state.root)], env=env
    )


def test_tables_for_people(state: StateDir) -> None:
    """Each conversation with its speakers, the likely cause where it has none, then the sums."""
    result = run(state)
    assert result.exit_code == ExitCode.DONE, result.output
    assert "conversation call-1, 2026-03-01 10:00:00 UTC" in result.stdout
    assert "length 0:09" in result.stdout
    assert "overlap 1.0 s" in result.stdout
    assert "not in the result: 1 low confidence, 1 below the confidence asked for" in result.stdout
    assert "likely cause: every segment is below the confidence asked for" in result.stdout
    assert "likely cause: the transcription provider does not tell speakers" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("3 conversations, 3 segments")
    assert TEXT not in result.stdout


def test_json_has_every_conversation_by_name(state: StateDir) -> None:
    """One object: figures in seconds, the audit, and the sums."""
    result = run(state, "--json", "--order", "silence")
    found = json.loads(result.stdout)
    assert [one["figures"]["conversation"] for one in found["conversations"]] == [
        "call-1",
        "call-2",
        "call-3",
    ]
    first = found["conversations"][0]
    agent = first["figures"]["speakers"][0]
    assert (first["figures"]["silence_s"], first["figures"]["overlap_s"]) == (1, 1)
    assert (agent["talk_s"], agent["interruptions"], agent["name"]) == (6, 1, "Ada <i>")
    assert (first["audit"], first["below"]) == ({"low_confidence": 1}, 1)
    assert found["totals"]["conversations"] == 3
    assert found["damaged"] == 0
    assert TEXT not in result.stdout


def test_confidence_and_pause_are_options(state: StateDir) -> None:
    """A lower threshold lets more in; a longer pause makes fewer turns."""
    lower = json.loads(run(state, "--json", "--min-confidence", "0.5").stdout)
    assert [one["figures"]["segments"] for one in lower["conversations"]] == [4, 1, 0]
    speaker = lower["conversations"][0]["figures"]["speakers"][0]
    assert speaker["turns"] == 3
    longer = json.loads(
        run(state, "--json", "--min-confidence", "0.5", "--turns-pause", "11").stdout
    )
    assert longer["conversations"][0]["figures"]["speakers"][0]["turns"] == 2


def test_only_the_conversations_asked_for(state: StateDir) -> None:
    """By id, several of them; by the time of storing."""
    found = json.loads(
        run(state, "--json", "--conversation", "call-3", "--conversation", "call-1").stdout
    )
    assert [one["figures"]["conversation"] for one in found["conversations"]] == [
        "call-1",
        "call-3",
    ]
    assert json.loads(run(state, "--json", "--since", "2020-01-01").stdout)["totals"][
        "conversations"
    ]
    later = run(state, "--json", "--since", "2999-01-01T00:00:00Z")
    assert later.exit_code == ExitCode.NOTHING_FOUND
    assert "no such conversation is stored" in later.stderr
    assert json.loads(later.stdout)["conversations"] == []
    assert run(state, "--since", "yesterday").exit_code == ExitCode.USAGE


def test_nothing_above_the_threshold_is_an_outcome_of_its_own(state: StateDir) -> None:
    """Exit code 5, with the reason for each conversation; the report is there all the same."""
    result = run(state, "--min-confidence", "0.95")
    assert result.exit_code == ExitCode.NOTHING_FOUND
    assert "no segment met the confidence threshold 0.95" in result.stderr
    assert "likely cause" in result.stdout


def test_the_page_is_written_whole_and_for_its_owner_alone(state: StateDir, tmp_path: Path) -> None:
    """Atomically, mode 0600; escaped; what was said is in it only when asked for."""
    page = tmp_path / "report.html"
    result = run(state, "--html", str(page))
    assert result.exit_code == ExitCode.DONE, result.output
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert text.endswith("</html>\n")
    assert text.count("<svg") == 1
    assert "Ada &lt;i&gt;" in text
    assert "good morning" not in text
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    run(state, "--html", str(page), "--with-text")
    assert "good morning &lt;b&gt;everybody" in page.read_text(encoding="utf-8")
    assert [one.name for one in tmp_path.iterdir() if one.name != "state"] == ["report.html"]


def test_a_page_may_go_to_standard_output(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everywhere else, - is no file's name; JSON beside it would be neither."""
    monkeypatch.chdir(tmp_path)
    done = run(state, "--html", "-")
    assert done.exit_code == ExitCode.DONE
    assert done.stdout.startswith("<!DOCTYPE html>")
    assert not list(tmp_path.glob("-"))
    assert run(state, "--html", "-", "--json").exit_code == ExitCode.USAGE


def test_a_page_that_cannot_be_written_is_one_error(state: StateDir, tmp_path: Path) -> None:
    """And leaves nothing behind; what is no file stays what it is."""
    result = run(state, "--html", str(tmp_path / "missing" / "report.html"))
    assert "the folder is not there (setting=--html)" in str(result.exception)
    pipe = tmp_path / "pipe.html"
    os.mkfifo(pipe)
    assert "not a regular file" in str(run(state, "--html", str(pipe)).exception)
    assert pipe.is_fifo()
    assert {one.name for one in tmp_path.iterdir()} == {"state", "pipe.html"}


def test_text_needs_a_page(state: StateDir) -> None:
    """Tables never hold what was said."""
    assert run(state, "--with-text").exit_code == ExitCode.USAGE


def test_the_terminal_is_not_overrun(state: StateDir) -> None:
    """In a narrow terminal the tables have fewer columns."""
    lines = run(state, columns=60).stdout.splitlines()
    assert max(len(line) for line in lines) <= 60


def test_only_the_first_in_order_are_in_full(state: StateDir, tmp_path: Path) -> None:
    """--full bounds the pictures; the table has all."""
    page = tmp_path / "report.html"
    arguments = ["--min-confidence", "0.5", "--order", "segments", "--html", str(page)]
    run(state, *arguments, "--full", "1")
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 1
    assert text.count('<th scope="row">') == 3 + 2


def test_a_damaged_conversation_is_left_out_and_the_rest_goes_on(state: StateDir) -> None:
    """One note with its id, without its content; exit code 1."""
    db = apsw.Connection(str(state.database))
    db.execute(
        "UPDATE records SET payload = CAST('{\"broken secret' AS BLOB) WHERE conversation ="
        " (SELECT id FROM conversations WHERE name = 'call-2')"
    )
    db.close()
    result = run(state, "--json")
    assert result.exit_code == ExitCode.FAILED
    assert "conversation call-2 is left out" in result.stderr
    assert "secret" not in result.stderr
    found = json.loads(result.stdout)
    assert [one["figures"]["conversation"] for one in found["conversations"]] == [
        "call-1",
        "call-3",
    ]
    assert found["damaged"] == 1
