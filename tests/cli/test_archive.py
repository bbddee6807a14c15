"""`steno archive`: what it takes, what it tells, how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile  # type: ignore[import-untyped]  # it has none
from typer.testing import CliRunner, Result

from steno.cli.archive import exit_code_of
from steno.cli.common import ExitCode
from steno.cli.main import make_app
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.server import Simulator

TURNS = [
    {"start_time": 0.5, "end_time": 1.5, "text": "good day", "speaker_id": "a", "confidence": 0.9},
    {"start_time": 2.0, "end_time": 3.0, "text": "hello", "speaker_id": "c", "confidence": 0.5},
    {"start_time": 3.0, "end_time": 4.0, "text": "beep", "speaker_id": "x", "confidence": 0.7},
]
PEOPLE = [{"id": "a", "name": "Ann", "role": "agent"}, {"id": "c", "name": "", "role": "customer"}]


def clean() -> dict[str, Any]:
    """Return an environment without settings."""
    return {name: None for name in os.environ if name.startswith(("STENO_", "GENESYS_", "OAUTH_"))}


def run(folder: Path, *arguments: str, **env: str) -> Result:
    """Run the command in this process."""
    given = {**clean(), "HOME": str(folder), "STENO_STORE_BALLAST_MB": "0", **env}
    common = ("--state-dir", str(folder / "state"), "--to", str(folder / "archive"))
    return CliRunner().invoke(make_app(), ["archive", *arguments, *common], env=given)


def transcript(folder: Path, **more: object) -> Path:
    """Write a transcript of three turns."""
    path = folder / "transcript.json"
    body = {"conversation": "conv-1", "participants": PEOPLE, "transcript": TURNS, **more}
    path.write_text(json.dumps(body))
    return path


def test_the_summary_is_printed_as_the_document_does(tmp_path: Path) -> None:
    """Indented for people, one line with --json."""
    path = transcript(tmp_path)
    done = run(tmp_path, "--file", str(path))
    assert done.exit_code == ExitCode.DONE, done.output
    summary = json.loads(done.stdout)
    assert done.stdout.startswith('{\n  "interaction_id": "conv-1"')
    assert summary["total_turns"] == 3
    assert (summary["agent_turns"], summary["customer_turns"]) == (1, 1)
    assert summary["avg_confidence"] == pytest.approx(0.7)
    assert summary["total_duration_seconds"] == 4.0
    again = run(tmp_path, "--file", str(path), "--json")
    assert json.loads(again.stdout) == summary
    assert again.stdout.count("\n") == 1


def test_standard_input_is_a_file_too(tmp_path: Path) -> None:
    """In a pipe; a filter lists on standard output, the summary goes to standard error."""
    data = transcript(tmp_path).read_bytes()
    call = ["archive", "--file", "-", "--no-archive", "--role", "unknown", "--sample-rate", "8000"]
    env = {"PATH": os.defpath, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "steno.cli", *call],
        input=data,
        env=env,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == ExitCode.DONE, done.stderr
    row = json.loads(done.stdout)
    assert (row["start_sample"], row["end_sample"], row["role"]) == (24_000, 32_000, "unknown")
    assert b'"total_turns": 3' in done.stderr
    assert b'"storage_location": ""' in done.stderr


def test_audio_gives_levels_and_tells_what_lies_outside(tmp_path: Path) -> None:
    """Here the audio ends before the last turn."""
    sound = np.concatenate((np.zeros(16_000), np.full(8_000, 0.5))).astype("float32")
    soundfile.write(tmp_path / "call.wav", sound, 8_000, subtype="PCM_16")
    names = {name: str(tmp_path / name) for name in ("l.jsonl", "p.svg", "p.json", "r.html")}
    done = run(
        tmp_path,
        *("--file", str(transcript(tmp_path)), "--audio", str(tmp_path / "call.wav")),
        *("--out", names["l.jsonl"], "--picture", names["p.svg"]),
        *("--peaks", names["p.json"], "--report", names["r.html"]),
    )
    assert done.exit_code == ExitCode.DONE, done.output
    assert "1 segments lie outside the audio: 2" in done.stderr
    rows = [json.loads(line) for line in Path(names["l.jsonl"]).read_text().splitlines()]
    assert rows[0]["energy_db"] == -120.0
    assert rows[1]["energy_db"] == pytest.approx(-6.0, abs=0.2)
    assert "energy_db" not in rows[2]
    assert json.loads(Path(names["p.json"]).read_text())["sample_rate"] == 8_000
    assert "good day" not in Path(names["r.html"]).read_text()


def test_bad_segments_are_told_by_place_and_field_and_never_by_what_they_say(
    tmp_path: Path,
) -> None:
    """The rest is archived; --strict refuses it all."""
    bad = {"start_time": "secret words", "end_time": 2, "text": "x", "speaker_id": "a"}
    path = transcript(tmp_path, transcript=[*TURNS, bad])
    done = run(tmp_path, "--file", str(path))
    assert done.exit_code == ExitCode.DONE
    assert "segment 3 at byte" in done.stderr
    assert "secret" not in done.output + done.stderr
    refused = run(tmp_path, "--file", str(path), "--strict")
    assert refused.exit_code != ExitCode.DONE


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--since", "2026-01-02", "--until", "2026-01-01"),
        ("--until", "2026-01-01"),
        ("ID", "--file", "x.json"),
        ("A", "B", "--picture", "one.svg"),
        ("A", "--picture", "one.jpg"),
        ("A", "--peaks", "peaks.json"),
        ("A", "--original", "--redact"),
        ("A", "--original", "--keep-truncated"),
        ("A", "--no-archive", "--parquet"),
        ("A", "--archive-filtered"),
        ("A", "--after", "20", "--before", "10"),
        ("A", "--after", "nan"),
        ("A", "--audio", "nowhere.wav"),
    ],
)
def test_what_cannot_work_is_refused_before_the_work(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """As wrong settings, with a way out."""
    keys = {"OAUTH_CLIENT_ID": "id", "OAUTH_CLIENT_SECRET": "secret"}
    done = run(tmp_path, *arguments, **keys)
    from steno.cli.common import exit_code

    assert done.exception is not None
    assert exit_code(done.exception) is ExitCode.USAGE
    assert not (tmp_path / "archive").exists()


def archived(
    folder: Path, sim: Simulator, *arguments: str, data: bytes = b"", env: Any = None
) -> Any:
    """Run the command against a platform, in a process of its own."""
    env = {"PATH": os.defpath, "HOME": str(folder), "GENESYS_ENV": sim.host, **(env or {})}
    env |= {"GENESYS_CLIENT_ID": "steno-demo", "GENESYS_CLIENT_SECRET": "steno-demo-secret"}
    env |= {"STENO_ARCHIVE_POLL_S": "0.05", "STENO_ARCHIVE_PER_MINUTE": "60000"}
    env |= {"STENO_STORE_BALLAST_MB": "0"}
    common = ("--state-dir", str(folder / "state"), "--to", str(folder / "archive"))
    call = [sys.executable, "-m", "steno.cli", "archive", *arguments, *common]
    return asyncio.to_thread(
        subprocess.run,
        [*call, "--log-level", "error"],
        input=data,
        env=env,
        capture_output=True,
        timeout=60,
        check=False,
    )


async def test_a_batch_is_a_line_for_each_and_one_with_totals(tmp_path: Path) -> None:
    """Bad ids are told by their line, and the rest goes on."""
    ids = [str(uuid.uuid4()) for _ in range(5)]
    text = "\n".join([ids[0], "../../etc", *ids[1:], ids[0], ""]).encode()
    async with Simulator("quiet", archive=ArchiveSettings(turns=(2, 5))) as sim:
        done = await archived(tmp_path, sim, "--ids", "-", "--json", data=text)
        assert done.returncode == ExitCode.FAILED, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert {line["conversation"] for line in lines[:-1]} == set(ids)
        assert len(lines) == 6
        assert lines[-1]["totals"]["outcomes"] == {"written": 5}
        assert lines[-1]["totals"]["bad_ids"] == 1
        assert b"line 2 of the ids" in done.stderr
        table = await archived(tmp_path, sim, *ids)
        assert table.returncode == ExitCode.DONE
        assert b"5 archived before" in table.stderr


async def test_conversations_of_a_time_range_are_found(tmp_path: Path) -> None:
    """As many as the platform has."""
    settings = ArchiveSettings(turns=(2, 3), conversations=12, first_day="2026-01-05", days=2)
    async with Simulator("quiet", archive=settings) as sim:
        span = ("--since", "2026-01-05", "--until", "2026-01-07")
        done = await archived(tmp_path, sim, *span, "--json")
    assert done.returncode == ExitCode.DONE, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["totals"]["outcomes"] == {"written": 12}


async def test_a_single_conversation_without_a_transcript_ends_with_5(tmp_path: Path) -> None:
    """And says which kind of nothing it is."""
    async with Simulator("quiet", archive=ArchiveSettings(missing=1.0)) as sim:
        done = await archived(tmp_path, sim, str(uuid.uuid4()))
    assert done.returncode == ExitCode.NOTHING_FOUND
    assert b"no transcript" in done.stderr


@pytest.mark.parametrize(
    ("counts", "code"),
    [
        ({"written": 1}, ExitCode.DONE),
        ({"known": 3, "missing": 1}, ExitCode.DONE),
        ({"missing": 1, "empty": 2}, ExitCode.NOTHING_FOUND),
        ({}, ExitCode.NOTHING_FOUND),
        ({"written": 5, "failed": 1}, ExitCode.FAILED),
        ({"conflict": 1}, ExitCode.FAILED),
        ({"in_work": 1}, ExitCode.FAILED),
        ({"legacy": 1}, ExitCode.FAILED),
        ({"failed": 2}, ExitCode.FAILED),
    ],
)
def test_the_exit_code_follows_the_outcomes(counts: dict[str, int], code: ExitCode) -> None:
    """What is not there is no failure; what is there and not archived is one."""
    assert exit_code_of(counts) is code


def test_a_platform_out_of_reach_has_a_code_of_its_own() -> None:
    """Where it was so for all: a part that failed is a part that failed."""
    assert exit_code_of({"failed": 2}, {"ConnectFailed": 1, "TimedOut": 1}) is ExitCode.UNREACHABLE
    assert exit_code_of({"failed": 2}, {"ConnectFailed": 1, "StorageError": 1}) is ExitCode.FAILED
    assert exit_code_of({"failed": 1, "known": 1}, {"ConnectFailed": 1}) is ExitCode.FAILED
    assert exit_code_of({"failed": 1, "in_work": 1}, {"ConnectFailed": 1}) is ExitCode.FAILED


async def test_a_platform_that_does_not_answer_ends_with_4(tmp_path: Path) -> None:
    """Told once, and as JSON."""
    async with Simulator("quiet", archive=ArchiveSettings(unavailable=1.0, inline_bytes=0)) as sim:
        name = str(uuid.uuid4())
        done = await archived(tmp_path, sim, name, "--json", env={"STENO_ARCHIVE_RENEWALS": "0"})
    assert done.returncode == ExitCode.UNREACHABLE, done.stderr
    assert json.loads(done.stdout)["exit_code"] == ExitCode.UNREACHABLE
    notes = [line for line in done.stderr.splitlines() if not line.startswith(b"{")]
    assert len(notes) == 1


def test_what_is_no_id_is_told_by_its_place(tmp_path: Path) -> None:
    """Among arguments, or in which line; what stands there is not."""
    keys = {"OAUTH_CLIENT_ID": "id", "OAUTH_CLIENT_SECRET": "secret"}
    ids = tmp_path / "ids.txt"
    ids.write_text("\n../415-555-0142\n")
    done = run(tmp_path, "a b", "--ids", str(ids), **keys)
    assert done.exit_code == ExitCode.USAGE
    assert "argument 1: not an id" in done.stderr
    assert "line 2 of the ids: not an id" in done.stderr
    assert "nothing was archived" in done.stderr
    assert "0142" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_standard_output_without_room_is_told(tmp_path: Path) -> None:
    """The summary is not lost: the transcript is archived, and a rerun prints it."""
    call = [sys.executable, "-m", "steno.cli", "archive", "--file", str(transcript(tmp_path))]
    env = {"PATH": os.defpath, "HOME": str(tmp_path)}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*call, "--to", str(tmp_path / "archive")],
            env=env,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == ExitCode.FAILED
    assert b"standard output cannot be written" in done.stderr
    assert b"internal" not in done.stderr
