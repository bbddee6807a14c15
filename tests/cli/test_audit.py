"""`steno audit`, against real logs in a folder of their own."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from conformance.audit_logs import entry, writer
from steno.adapters.audit_log import AuditPlaces, read_head, rotated_files
from steno.cli.audit import app
from steno.cli.common import ExitCode


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with a closed log of 12 entries in several files."""
    folder = tmp_path / "state"
    one = writer(folder, max_bytes=2500)
    one.open()
    for number in range(12):
        one.write([entry(number)])
    one.close()
    return folder


def audit(*arguments: object) -> Result:
    """Run a command in this process, with nothing of the environment in force."""
    clean = {name: None for name in os.environ if name.startswith(("STENO_", "GENESYS_", "OAUTH_"))}
    env = {**clean, "HOME": "/nonexistent", "COLUMNS": "200"}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)


def of(state: Path, command: str, *arguments: object) -> Result:
    return audit(command, *arguments, "--state-dir", state)


def files_of(state: Path) -> list[Path]:
    log = state / "transcription_audit.jsonl"
    return [*rotated_files(log), log]


def change(path: Path) -> int:
    """Change the first entry of a file; return its line."""
    lines = path.read_bytes().splitlines(keepends=True)
    place = next(at for at, raw in enumerate(lines) if b'"steno"' in raw)
    lines[place] = lines[place].replace(b'"steno"', b'"other"')
    path.write_bytes(b"".join(lines))
    return place + 1


def test_a_sound_log_is_told_and_exits_0(state: Path) -> None:
    """What was read, how far it is sealed, and what to expect next time."""
    result = of(state, "verify")
    head = read_head(state / "audit.head")
    assert result.exit_code == ExitCode.DONE
    assert result.stdout.startswith(f"sound: 12 entries, {head.seq} lines in ")
    assert f"signed with {head.key_id}" in result.stdout
    assert result.stdout.splitlines()[-1] == f"to expect next time: {head.seq}:{head.hash}"


def test_a_change_is_told_with_file_and_line(state: Path) -> None:
    """One line for the finding, exit 1."""
    path = files_of(state)[1]
    line = change(path)
    result = of(state, "verify")
    assert result.exit_code == ExitCode.FAILED
    assert f"{path}:{line}: " in result.stdout
    assert "TAMPERED" in result.stdout
    found = json.loads(of(state, "verify", "--json").stdout)
    assert found["sound"] is False
    assert [(one["file"], one["line"]) for one in found["findings"]] == [(str(path), line)]


def test_json_is_one_object(state: Path) -> None:
    """Machine output alone on standard output."""
    found = json.loads(of(state, "verify", "--json").stdout)
    assert found["sound"] is True
    assert found["entries"] == 12
    assert found["files"] == len(files_of(state))


def test_removed_newest_lines_are_found_by_the_head_note(state: Path) -> None:
    """The state directory's head note tells of lines that are gone, and it cannot be left out."""
    log = state / "transcription_audit.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:2]))
    result = of(state, "verify")
    assert result.exit_code == ExitCode.FAILED
    assert f"{log}:2: the log ends here" in result.stdout
    assert audit("verify", *files_of(state)).exit_code == ExitCode.DONE  # files alone cannot tell
    (state / "audit.head").unlink()
    result = of(state, "verify")
    assert result.exit_code == ExitCode.FAILED
    assert "the head note is missing" in result.stdout


def test_a_log_that_is_gone_is_found(state: Path) -> None:
    """Files removed with the head note left behind are no empty log."""
    for path in files_of(state):
        path.unlink()
    assert of(state, "verify").exit_code == ExitCode.FAILED


def test_a_head_note_of_another_key_is_found(state: Path, tmp_path: Path) -> None:
    """A whole log of somebody else's making does not pass for the one with the known key."""
    known = state / "transcription_audit.jsonl.pub"
    kept = shutil.copy(known, tmp_path / "kept.pub")
    fingerprint = read_head(state / "audit.head").key_id
    other = tmp_path / "other"
    one = writer(other)
    one.open()
    one.write([entry(0)])
    one.close()
    assert of(other, "verify").exit_code == ExitCode.DONE
    for key in (kept, fingerprint):
        assert of(state, "verify", "--key", key).exit_code == ExitCode.DONE
        result = of(other, "verify", "--key", key)
        assert result.exit_code == ExitCode.FAILED
        assert "a key that was not given" in result.stdout


def test_a_replaced_public_key_is_found(state: Path, tmp_path: Path) -> None:
    """The key beside the log must be the one that signs it."""
    one = writer(tmp_path / "other")
    one.open()
    one.close()
    shutil.copy(
        tmp_path / "other" / "transcription_audit.jsonl.pub",
        state / "transcription_audit.jsonl.pub",
    )
    result = of(state, "verify")
    assert result.exit_code == ExitCode.FAILED
    assert f"{state / 'transcription_audit.jsonl.pub'}: it does not hold the key" in result.stdout


def test_files_are_verified_with_the_key_beside_them(state: Path, tmp_path: Path) -> None:
    """A copy verifies by itself; a file without its key asks for one."""
    for path in (*files_of(state), state / "transcription_audit.jsonl.pub"):
        shutil.copy(path, tmp_path)
    copies = [tmp_path / path.name for path in files_of(state)]
    assert audit("verify", *copies).exit_code == ExitCode.DONE
    assert audit("verify", *copies[:-1]).exit_code == ExitCode.DONE
    assert audit("verify", *copies[1:]).exit_code == ExitCode.FAILED
    assert audit("verify", *reversed(copies)).exit_code == ExitCode.FAILED
    (tmp_path / "transcription_audit.jsonl.pub").unlink()
    result = audit("verify", *copies)
    assert result.exit_code == ExitCode.USAGE
    assert "--key" in result.stderr
    fingerprint = json.loads(of(state, "key", "--json").stdout)["fingerprint"]
    assert audit("verify", *copies, "--key", f"sha256:{fingerprint}").exit_code == ExitCode.DONE


def test_what_an_auditor_expects_must_be_there(state: Path) -> None:
    """An anchor of an earlier verification finds a log that was put back to an older state."""
    head = read_head(state / "audit.head")
    anchor = f"{head.seq}:{head.hash}"
    older = files_of(state)[:-1]
    assert audit("verify", *older).exit_code == ExitCode.DONE
    result = audit("verify", *older, "--expect", anchor)
    assert result.exit_code == ExitCode.FAILED
    assert "--expect tells of line" in result.stdout
    assert audit("verify", *files_of(state), "--expect", anchor).exit_code == ExitCode.DONE
    other = f"{head.seq}:{'0' * 64}"
    assert audit("verify", *files_of(state), "--expect", other).exit_code == ExitCode.FAILED


def test_files_kept_elsewhere_can_be_left_out(state: Path) -> None:
    """``--after`` names the last line of what is not here any more."""
    first, *_ = files_of(state)
    found = json.loads(audit("verify", first, "--json").stdout)
    after = f"{found['last_seq']}:{found['last_hash']}"
    first.unlink()
    assert of(state, "verify").exit_code == ExitCode.FAILED
    assert of(state, "verify", "--after", after).exit_code == ExitCode.DONE


@pytest.mark.parametrize(
    "arguments",
    [
        ("--expect", "12"),
        ("--expect", "x:" + "0" * 64),
        ("--after", "12:abc"),
        ("--key", "nowhere.pub"),
        ("--key", "ab" * 31),
        ("nowhere.jsonl", "--key", "0" * 64),
    ],
)
def test_wrong_usage_exits_2(arguments: tuple[str, ...]) -> None:
    """What cannot be understood is not taken for tampering."""
    assert audit("verify", *arguments).exit_code == ExitCode.USAGE


def test_verification_works_beside_a_writer_and_after_a_kill(tmp_path: Path) -> None:
    """An open log verifies; what is not sealed yet is told, and no fault."""
    one = writer(tmp_path, every=100)
    one.open()
    one.write([entry(1), entry(2)])
    result = of(tmp_path, "verify")
    assert result.exit_code == ExitCode.DONE
    assert "the last 2 entries are not yet sealed" in result.stdout
    with (tmp_path / "transcription_audit.jsonl").open("ab") as file:
        file.write(b'{"timestamp":"2026')
    result = of(tmp_path, "verify")
    assert result.exit_code == ExitCode.DONE
    assert "an unfinished write, never acknowledged" in result.stdout
    one._let_go()
    again = writer(tmp_path)
    again.open()
    again.close()
    result = of(tmp_path, "verify")
    assert result.exit_code == ExitCode.DONE
    assert "18 bytes of an unfinished write were set aside" in result.stdout


def test_verification_changes_nothing(state: Path) -> None:
    """No file is made or written."""
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in state.iterdir()}
    for command in ("verify", "show", "key"):
        assert of(state, command).exit_code == ExitCode.DONE
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in state.iterdir()}
    assert after == before


def test_show_lists_the_last_entries(state: Path) -> None:
    """A table, oldest first; as JSON the entries as they stand in the log."""
    lines = of(state, "show", "--limit", 3).stdout.splitlines()
    assert len(lines) == 4
    assert [line.split()[3] for line in lines[1:]] == ["rec-9", "rec-10", "rec-11"]
    shown = json.loads(of(state, "show", "--limit", 100, "--json").stdout)
    assert [one["recording_id"] for one in shown] == [f"rec-{n}" for n in range(12)]
    assert shown[0]["request"]["webhook_host"] == "hooks.example.com"


def test_show_takes_files_of_a_log_kept_elsewhere(state: Path, tmp_path: Path) -> None:
    """In the order given; one that is not there is named."""
    parts = [tmp_path / f"{number}.jsonl" for number, _ in enumerate(files_of(state))]
    for part, path in zip(parts, files_of(state), strict=True):
        part.write_bytes(path.read_bytes())
    shown = json.loads(of(tmp_path / "none", "show", *parts, "--limit", 100, "--json").stdout)
    assert [one["recording_id"] for one in shown] == [f"rec-{n}" for n in range(12)]
    missing = of(tmp_path / "none", "show", tmp_path / "gone.jsonl")
    assert missing.exit_code == ExitCode.USAGE
    assert "there is no such file" in missing.stderr


def test_show_tells_of_lines_it_cannot_read(state: Path) -> None:
    """A damaged line does not hide the others, and is not hidden."""
    with (state / "transcription_audit.jsonl").open("ab") as file:
        file.write(b"junk\n")
    result = of(state, "show")
    assert "1 lines cannot be read" in result.stderr
    assert "rec-11" in result.stdout


def test_key_shows_the_fingerprint(state: Path) -> None:
    """What an auditor keeps elsewhere."""
    result = of(state, "key")
    assert result.stdout.splitlines() == [
        read_head(state / "audit.head").key_id,
        f"public key: {AuditPlaces.of(state).public_keys}",
    ]


@pytest.mark.parametrize("command", ["verify", "show", "key"])
def test_no_log_exits_5(tmp_path: Path, command: str) -> None:
    """Nothing there is neither sound nor tampered with."""
    assert of(tmp_path, command).exit_code == ExitCode.NOTHING_FOUND
