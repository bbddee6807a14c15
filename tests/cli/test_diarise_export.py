"""`steno diarise export`, and how collecting from recorded events ends."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import re
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from typer.testing import CliRunner, Result

from steno.cli.common import ExitCode
from steno.cli.diarise import CAUSES_TOLD
from steno.cli.main import make_app
from steno.config.base import NAME_PATTERN


def events(path: Path, *segments: tuple[str, float, float]) -> Path:
    """Write recorded events: conversation, start in seconds, confidence."""
    lines = []
    for conversation, start, confidence in segments:
        item = {"speaker": "agent", "text": "Good morning.", "start": start, "end": start + 1.0}
        item |= {"confidence": confidence, "isFinal": True}
        data = {"conversationId": conversation, "transcripts": [item]}
        lines.append(json.dumps({"type": "conversation.transcription.update", "data": data}))
    path.write_text("\n".join(lines) + "\n")
    return path


def run(folder: Path, *arguments: str) -> Result:
    clean = {name: None for name in os.environ if name.startswith(("STENO_", "GENESYS_", "OAUTH_"))}
    env = {**clean, "HOME": str(folder), "STENO_STORE_BALLAST_MB": "0"}
    state = ("--state-dir", str(folder / "state"), "--log-level", "error")
    return CliRunner().invoke(make_app(), ["diarise", *arguments, *state], env=env)


def collected(folder: Path, source: Path, *arguments: str) -> Result:
    return run(folder, "--events", str(source), "--health", "", *arguments)


def destinations(folder: Path) -> list[str]:
    with closing(apsw.Connection(str(folder / "state" / "steno.db"))) as db:
        return [name for (name,) in db.execute("SELECT name FROM destinations")]


def test_followed_files_are_one_destination_whatever_they_are_called(tmp_path: Path) -> None:
    """A store knows few in its life, and a new file every day must not use them up."""
    for day in range(3):
        source = events(tmp_path / "events", ("c1", 10.0 * day, 0.9))
        out = tmp_path / f"{day}.jsonl"
        done = collected(tmp_path, source, "--follow", "--out", str(out))
        assert done.exit_code == ExitCode.DONE, done.output
        assert json.loads(out.read_text())["start_seconds"] == 10.0 * day
    (name,) = destinations(tmp_path)
    assert not re.fullmatch(NAME_PATTERN, name)  # no setting can name another one so


def test_a_followed_export_with_nothing_in_it_is_told_as_any_other(tmp_path: Path) -> None:
    """What was kept but does not meet the threshold is no success."""
    source = events(tmp_path / "events", ("c1", 0.0, 0.7))
    out = tmp_path / "out.jsonl"
    done = collected(tmp_path, source, "--follow", "--out", str(out))
    assert done.exit_code == ExitCode.NOTHING_FOUND
    assert "no segment met the confidence threshold 0.85" in done.stderr
    assert not out.exists()
    done = collected(tmp_path, source, "--follow", "--out", str(out), "--min-confidence", "0.6")
    assert done.exit_code == ExitCode.DONE, done.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--conversation", "c2"), "no segment that was asked for is stored"),
        (("--since", "2100-01-01"), "no segment that was asked for is stored"),
        (("--min-confidence", "0.95"), "no segment met the confidence threshold 0.95"),
    ],
)
def test_an_export_of_nothing_tells_why(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    """Nothing there is another matter than nothing good enough."""
    source = events(tmp_path / "events", ("c1", 0.0, 0.9))
    assert collected(tmp_path, source, "--out", str(tmp_path / "out.json")).exit_code == 0
    done = run(tmp_path, "export", *arguments)
    assert done.exit_code == ExitCode.NOTHING_FOUND
    assert told in done.stderr


def test_an_export_of_an_empty_folder_tells_so(tmp_path: Path) -> None:
    """As of a mistyped state folder; it is not made."""
    done = run(tmp_path, "export")
    assert done.exit_code == ExitCode.NOTHING_FOUND
    assert "no segment is stored in this state folder" in done.stderr
    assert not (tmp_path / "state").exists()


def test_segments_that_could_not_be_appended_are_told(tmp_path: Path) -> None:
    """Another process has the file: exit code 1, and the next run that follows has them."""
    source = events(tmp_path / "events", ("c1", 0.0, 0.9), ("c1", 10.0, 0.9))
    out = tmp_path / "out.jsonl"
    with out.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = collected(tmp_path, source, "--follow", "--out", str(out))
    assert done.exit_code == ExitCode.FAILED, done.output
    assert "2 segments could not be appended" in done.stderr
    assert collected(tmp_path, source, "--follow", "--out", str(out)).exit_code == ExitCode.DONE
    starts = [json.loads(line)["start_seconds"] for line in out.read_text().splitlines()]
    assert starts == [0.0, 10.0]


def test_many_conversations_without_speakers_are_summed_up(tmp_path: Path) -> None:
    """A provider that tells none would else fill the terminal."""
    item = {"text": "Good morning.", "start": 0.0, "end": 1.0, "confidence": 0.9, "isFinal": True}
    source = tmp_path / "events"
    with source.open("w") as file:
        for number in range(CAUSES_TOLD + 5):
            data = {"conversationId": f"c{number}", "transcripts": [item]}
            event = {"type": "conversation.transcription.update", "data": data}
            file.write(json.dumps(event) + "\n")
    done = collected(tmp_path, source, "--out", str(tmp_path / "out.json"))
    assert done.exit_code == ExitCode.NOTHING_FOUND
    assert done.stderr.count("no segment names a speaker") == CAUSES_TOLD
    assert "and 5 more conversations: see steno diarise report" in done.stderr


def test_recorded_events_that_end_in_the_middle_are_a_failure_with_an_export(
    tmp_path: Path,
) -> None:
    """What could be read is there; a script must not take it for all of it."""
    whole = gzip.compress(
        events(tmp_path / "events", ("c1", 0.0, 0.9), ("c1", 9.0, 0.9)).read_bytes()
    )
    source, out = tmp_path / "cut.gz", tmp_path / "out.json"
    source.write_bytes(whole[:-12])
    done = collected(tmp_path, source, "--out", str(out), "--json")
    assert done.exit_code == ExitCode.FAILED, done.output
    assert "1 of the inputs is damaged, or ends in the middle" in done.stderr
    assert json.loads(done.stdout)["recorded"]["damaged"] == 1
    assert json.loads(out.read_text())["totalSegments"] >= 1


def test_recorded_messages_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    """The others are exported, and that is a success."""
    source = events(tmp_path / "events", ("c1", 0.0, 0.9))
    source.write_text("no event\n" + source.read_text() + '{"type": \n')
    done = collected(tmp_path, source, "--out", str(tmp_path / "out.json"))
    assert done.exit_code == ExitCode.DONE, done.output
    assert "2 of the recorded messages could not be read" in done.stderr
