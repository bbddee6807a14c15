"""`steno archived` and the archive's part of `steno erase`, against real folders."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from conformance.faulty_s3 import CANARY, FaultyS3
from steno.adapters.archive_store import ArchiveSettings, open_archive
from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite import SqliteStore
from steno.cli.common import ExitCode, exit_code
from steno.cli.main import make_app
from steno.core.records import Kind

CONTENT = b'{"transcript":[{"text":"my card is 4111"}],"participants":[]}'


def steno(*arguments: object, env: dict[str, str] | None = None) -> Result:
    """Run a command in this process, with nothing of the environment in force."""
    clean = {
        name: None
        for name in os.environ
        if name.startswith(("STENO_", "GENESYS_", "OAUTH_", "AWS"))
    }
    given = {**clean, "HOME": "/nonexistent", "COLUMNS": "200", **(env or {})}
    return CliRunner().invoke(make_app(), [str(argument) for argument in arguments], env=given)


def ran(*arguments: str, env: dict[str, str]) -> tuple[int, str]:
    """Run it in a process of its own, which takes its connections with it."""
    done = subprocess.run(
        [sys.executable, "-m", "steno.cli", *arguments],
        env={"PATH": os.defpath, "HOME": "/nonexistent", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def code_of(result: Result) -> int:
    """Return the exit code, an error of ours turned into one as `main` does it."""
    if result.exception is None or isinstance(result.exception, SystemExit):
        return result.exit_code
    return exit_code(result.exception)


def archived(url: str, conversation: str, at: str = "2026-03-01T10:00:00Z", **more: Any) -> str:
    """Archive a transcript; return its key. Any: settings of several types."""
    communication = more.pop("communication", "")
    archive = open_archive(ArchiveSettings(url=url, **more))
    item = archive.item(conversation, communication=communication, at_us=0)
    writer = archive.writer(item)
    writer.write(CONTENT)
    writer.finish(json.dumps({"archived_at": at, "total_turns": 1}).encode())
    return item.key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An archive of three transcripts, one of them compressed."""
    place = tmp_path / "archive"
    archived(str(place), "conv-1", "2026-01-05T10:00:00Z")
    archived(str(place), "conv-2", "2026-02-05T10:00:00Z", compress=True)
    archived(str(place), "conv-2", "2026-03-05T10:00:00Z", communication="comm")
    return place


@pytest.fixture
def s3() -> Iterator[FaultyS3]:
    """A bucket that can be reached."""
    with FaultyS3().served() as server:
        yield server


def test_the_list_tells_when_how_large_and_what(folder: Path) -> None:
    """A line each, in order; as JSON whole manifests with their summaries."""
    result = steno("archived", "list", "--to", folder)
    assert code_of(result) == ExitCode.DONE
    assert [line.split()[-1] for line in result.stdout.splitlines()] == [
        "transcripts/conv-1.json",
        "transcripts/conv-2.json.zst",
        "transcripts/conv-2/comm.json",
    ]
    rows = steno("archived", "list", "--to", folder, "--json").stdout.splitlines()
    first = json.loads(rows[0])
    assert len(rows) == 3
    assert (first["conversation"], first["summary"]["total_turns"]) == ("conv-1", 1)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--conversation", "conv-2"), 2),
        (("--since", "2026-02-01"), 2),
        (("--until", "2026-02-01"), 1),
        (("--since", "2026-02-01", "--until", "2026-02-05T10:00:01Z"), 1),
        (("--since", "2026-02-05T10:00:00Z", "--until", "2026-02-05T10:00:00Z"), 0),
    ],
)
def test_the_list_is_of_a_conversation_or_a_time(
    folder: Path, options: tuple[str, ...], count: int
) -> None:
    """From a time on, and before another; nothing is exit 5."""
    result = steno("archived", "list", "--to", folder, "--json", *options)
    assert len(result.stdout.splitlines()) == count
    assert code_of(result) == (ExitCode.DONE if count else ExitCode.NOTHING_FOUND)


def test_a_transcript_is_got_back_by_key_or_conversation(folder: Path, tmp_path: Path) -> None:
    """Decompressed, to standard output or a file for its owner only."""
    result = steno("archived", "get", "conv-1", "--to", folder, "--out", tmp_path / "x.json")
    assert code_of(result) == ExitCode.DONE
    assert (tmp_path / "x.json").read_bytes() == CONTENT
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o600
    key = "transcripts/conv-2.json.zst"
    out = tmp_path / "y.json"
    told = steno("archived", "get", key, "--to", folder, "--out", out, "--json")
    assert out.read_bytes() == CONTENT
    assert json.loads(told.stdout)["url"].endswith("/conv-2.json.zst")


def test_of_several_the_keys_are_told(folder: Path) -> None:
    """So that one can be named."""
    result = steno("archived", "get", "conv-2", "--to", folder)
    assert code_of(result) == ExitCode.USAGE
    assert "transcripts/conv-2/comm.json" in result.output
    assert code_of(steno("archived", "get", "conv-9", "--to", folder)) == ExitCode.NOTHING_FOUND


def test_damage_is_never_got_back_as_a_file(folder: Path, tmp_path: Path) -> None:
    """It is compared while it is read; what was there before stays."""
    place = folder / "transcripts" / "conv-1.json"
    place.write_bytes(CONTENT.replace(b"4111", b"4112"))
    out = tmp_path / "x.json"
    out.write_text("before")
    result = steno("archived", "get", "conv-1", "--to", folder, "--out", out)
    assert code_of(result) == ExitCode.FAILED
    assert out.read_text() == "before"
    assert "4112" not in repr(result.exception)


def test_verification_says_what_is_damaged(folder: Path) -> None:
    """Everything or what is named; exit 1 for any damage, 5 for nothing to verify."""
    assert code_of(steno("archived", "verify", "--all", "--to", folder)) == ExitCode.DONE
    (folder / "transcripts" / "conv-1.json").write_bytes(b"?" * len(CONTENT))
    (folder / "transcripts" / "conv-2" / "comm.json").unlink()
    result = steno("archived", "verify", "--all", "--to", folder)
    assert code_of(result) == ExitCode.FAILED
    assert "DAMAGED transcripts/conv-1.json: it is damaged" in result.stdout
    assert "DAMAGED transcripts/conv-2/comm.json: the object is missing" in result.stdout
    assert "1 sound, 2 damaged" in result.stdout
    key = "transcripts/conv-2.json.zst"
    assert code_of(steno("archived", "verify", key, "--to", folder)) == ExitCode.DONE
    found = json.loads(steno("archived", "verify", "conv-1", "x", "--to", folder, "--json").stdout)
    assert (found["sound"], found["checked"]) == (False, 2)
    assert [one["key"] for one in found["damaged"]] == ["transcripts/conv-1.json", "x"]
    empty = steno("archived", "verify", "--all", "--to", folder / "nothing")
    assert code_of(empty) == ExitCode.NOTHING_FOUND


def test_a_damaged_manifest_is_damage_too(folder: Path) -> None:
    """By list and verification; the others are still told."""
    (folder / "manifests/conv-1/transcripts/conv-1.json.json").write_text("{}")
    listed = steno("archived", "list", "--to", folder)
    assert code_of(listed) == ExitCode.FAILED
    assert len(listed.stdout.splitlines()) == 2
    result = steno("archived", "verify", "--all", "--to", folder)
    assert code_of(result) == ExitCode.FAILED
    assert "DAMAGED transcripts/conv-1.json: its manifest is damaged" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify",),
        ("verify", "conv-1", "--all"),
        ("list", "--conversation", "../x"),
        ("list", "--since", "yesterday"),
        ("get", "conv-1", "--json"),
    ],
)
def test_what_makes_no_sense_is_refused(folder: Path, arguments: tuple[str, ...]) -> None:
    """With exit code 2, before anything is read."""
    assert code_of(steno("archived", *arguments, "--to", folder)) == ExitCode.USAGE


def test_a_bucket_is_reached_with_the_providers_own_variables(s3: FaultyS3) -> None:
    """And nothing of them is shown when it refuses them."""
    env = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": CANARY,
        "AWS_REGION": "us-east-1",
        "STENO_ARCHIVE_ENDPOINT": s3.endpoint,
    }
    assert ran("archived", "list", "--to", "s3://bucket", env=env)[0] == ExitCode.NOTHING_FOUND
    s3.script = {"LIST": ["denied*"]}
    code, words = ran("archived", "list", "--to", "s3://bucket", env=env)
    assert code == ExitCode.AUTHENTICATION
    assert "refused our credentials" in words
    assert CANARY not in words


# --- erase -------------------------------------------------------------------------------------


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """A state directory with an outbox."""
    state = StateDir(tmp_path / "state")
    with state:
        store = SqliteStore.open(state.database, {"crm": frozenset({Kind.SENTENCE})})
        store.start()
        await store.close()
    return tmp_path / "state"


def test_erasing_reaches_the_archive_that_is_named(folder: Path, state: Path) -> None:
    """By option or setting; the answer counts objects."""
    erase = ("erase", "conv-2", "--yes", "--json", "--state-dir", state)
    result = steno(*erase, "--archive", folder)
    assert code_of(result) == ExitCode.DONE
    assert json.loads(result.stdout)["archived"] == 2
    again = steno(*erase, env={"STENO_ARCHIVE_URL": str(folder)})
    assert json.loads(again.stdout)["archived"] == 0
    listed = steno("archived", "list", "--to", folder, "--json").stdout.splitlines()
    assert [json.loads(row)["conversation"] for row in listed] == ["conv-1"]
    assert not list(folder.rglob("*conv-2*"))


def test_the_default_bucket_is_not_reached(state: Path) -> None:
    """It is the tutorial's, and may be anybody's: nobody named it."""
    result = steno("erase", "conv-2", "--yes", "--state-dir", state)
    assert code_of(result) == ExitCode.DONE
    assert "no archive was looked into" in result.stdout
    told = json.loads(steno("erase", "c", "--yes", "--state-dir", state, "--json").stdout)
    assert told["archived"] is None


def test_an_archive_out_of_reach_is_told_and_the_rest_is_erased(state: Path) -> None:
    """With exit code 1."""
    env = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": CANARY, "AWS_REGION": "us-east-1"}
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        env["STENO_ARCHIVE_ENDPOINT"] = f"http://127.0.0.1:{bound.getsockname()[1]}"
        erase = ("erase", "conv-2", "--yes", "--state-dir", state, "--archive", "s3://bucket")
        result = steno(*erase, env=env)
    assert code_of(result) == ExitCode.FAILED
    assert "erased 0 records" in result.stdout
    assert "the archive could not be erased" in result.stderr
    assert CANARY not in result.output


def test_who_only_archives_can_erase(folder: Path, tmp_path: Path) -> None:
    """There is no outbox then, and nothing of it to erase."""
    erase = ("erase", "conv-1", "--yes", "--state-dir", tmp_path / "none")
    assert code_of(steno(*erase)) == ExitCode.FAILED
    assert code_of(steno(*erase, "--archive", folder)) == ExitCode.DONE
    assert not list(folder.rglob("*conv-1*"))
