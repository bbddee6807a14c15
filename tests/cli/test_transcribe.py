"""``steno transcribe`` and ``steno jobs`` as processes: exit codes, kills, other processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recordings.job_server import JobServer
from steno.core.audit_chain import EntryLine, decode_line

START = (
    "from steno.cli.main import COMMANDS, Lazy, main\n"
    "COMMANDS['transcribe'] = Lazy('transcribe', 'transcribe', '')\n"
    "COMMANDS['jobs'] = Lazy('jobs', 'app', '')\n"
    "main()\n"
)
"""The commands, whether or not they are in the table."""


class Command:
    """Runs commands with one state directory against one service."""

    def __init__(self, folder: Path, server: JobServer) -> None:
        self.folder = folder
        self.env = {
            **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
            "HOME": str(folder),
            "GENESYS_HOST": server.url,
            "GENESYS_CLIENT_ID": "id",
            "GENESYS_CLIENT_SECRET": "secret",
            "STENO_STATE_DIR": str(folder / "state"),
            "STENO_OBSERVABILITY_LISTEN": "",
            "STENO_OBSERVABILITY_LOG_LEVEL": "error",
            "STENO_TRANSCRIBE_PER_MINUTE": "60000",
            "STENO_TRANSCRIBE_POLL_FIRST_S": "0.05",
            "STENO_TRANSCRIBE_POLL_MAX_S": "0.1",
            "STENO_TRANSCRIBE_RETRY_FIRST_S": "0.02",
            "STENO_TRANSCRIBE_RETRY_MAX_S": "0.05",
            "STENO_TRANSCRIBE_SETTLE_S": "1",
        }

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            START,
            *arguments,
            env=self.env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, given: str = "") -> tuple[int, str, str]:
        process = await self.start(*arguments)
        try:
            async with asyncio.timeout(20):
                out, err = await process.communicate(given.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    def entries(self) -> list[EntryLine]:
        lines = map(
            decode_line, (self.folder / "state/transcription_audit.jsonl").read_bytes().splitlines()
        )
        return [line for line in lines if isinstance(line, EntryLine)]


def some_ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


async def test_one_recording_is_written_to_standard_output(tmp_path: Path) -> None:
    """Its id from the tutorial's variable; the summary calls the rate an estimate."""
    async with JobServer().running() as server:
        command = Command(tmp_path, server)
        command.env["RECORDING_ID"] = some_ids(1)[0]
        code, out, err = await command.run("transcribe")
    assert code == 0
    assert out.startswith("[00:00:00] agent: hello there\n[00:00:02] customer: card number")
    assert "an estimate (1 - mean confidence)" in err


async def test_a_batch_tells_bad_lines_and_fails(tmp_path: Path) -> None:
    """By number; what is good is done, and the summary counts."""
    first, second = some_ids(2)
    text = f"recordingId,language\n{first},en-GB\nnothing,en-US\n{second},xx-XX\n"
    async with JobServer().running() as server:
        command = Command(tmp_path, server)
        out_path = f"{tmp_path}/{{recording}}.json"
        code, out, err = await command.run(
            *("transcribe", "--file", "-", "--format", "json", "--out", out_path, "--json"),
            given=text,
        )
        assert [job["language"] for job in server.jobs.values()] == ["en-GB"]
    assert code == 1
    assert "origin=line 3" in err
    assert "origin=line 4" in err
    summary = msgspec.json.decode(out)
    assert summary["ended"] == {"completed": 1, "failed": 0, "cancelled": 0}
    assert (summary["bad_lines"], summary["exit_code"]) == (2, 1)
    assert msgspec.json.decode((tmp_path / f"{first}.json").read_bytes())["recording_id"] == first


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["not-an-id"], "a recording id is a UUID"),
        (["--file", "/nowhere"], "the file cannot be read"),
        ([str(uuid.uuid4()), str(uuid.uuid4()), "--out", "one.txt"], "written over one another"),
    ],
)
async def test_usage_is_told_before_any_call(
    tmp_path: Path, arguments: list[str], text: str
) -> None:
    """With exit code 2."""
    async with JobServer().running() as server:
        code, _, err = await Command(tmp_path, server).run("transcribe", *arguments)
        assert not server.calls
    assert code == 2
    assert text in err


async def test_refused_credentials_are_exit_code_3(tmp_path: Path) -> None:
    """Told once, at the start."""
    async with JobServer(token_status=401).running() as server:
        code, _, _ = await Command(tmp_path, server).run("transcribe", *some_ids(2))
    assert code == 3


async def test_a_service_that_does_not_serve_is_exit_code_4(tmp_path: Path) -> None:
    """After the retries, with what can be done about it."""
    async with JobServer().running() as server:
        command = Command(tmp_path, server)
        command.env["STENO_TRANSCRIBE_RETRIES"] = "1"
        server.faults.extend([503] * 4)
        code, _, err = await command.run("transcribe", *some_ids(2))
    assert code == 4
    assert "2 failed: unavailable. Try again when the service is up" in err


async def test_an_interrupted_run_goes_on_with_the_same_input(tmp_path: Path) -> None:
    """Exit code 130; nothing is submitted again."""
    ids = some_ids(3)
    async with JobServer(polls_needed=100_000).running() as server:
        command = Command(tmp_path, server)
        process = await command.start("transcribe", *ids)
        await _until(lambda: len(server.jobs) == 3)
        process.send_signal(signal.SIGINT)
        await process.communicate()
        assert process.returncode == 130
        server.polls_needed = 0
        code, _, _ = await command.run("transcribe", *ids)
    assert code == 0
    assert Counter(server.keys.values()) == {1: 3}


async def test_kills_in_the_middle_cost_nothing_and_double_nothing(tmp_path: Path) -> None:
    """Each job is submitted once and has one entry in the audit log."""
    ids = some_ids(40)
    async with JobServer(polls_needed=1, delay_s=0.01).running() as server:
        command = Command(tmp_path, server)
        for calls in (15, 30, 80):  # while submitting, later, and while results come
            process = await command.start("transcribe", *ids)
            await _until(lambda calls=calls: len(server.calls) >= calls)
            process.kill()
            await process.communicate()
        code, _, err = await command.run("transcribe", *ids)
        assert code == 0, err
    assert sorted(job["recordingId"] for job in server.jobs.values()) == sorted(ids)
    assert sorted(each.recording_id for each in command.entries()) == sorted(ids)


async def test_jobs_are_listed_shown_and_cancelled_beside_their_owner(tmp_path: Path) -> None:
    """By the beginning of an id, or by batch."""
    ids = some_ids(2)
    async with JobServer(polls_needed=100_000).running() as server:
        command = Command(tmp_path, server)
        command.env["WEBHOOK_URL"] = "https://127.0.0.1:9/secret-path"
        command.env["STENO_TRANSCRIBE_WEBHOOK_ALLOW"] = "127.0.0.1"
        command.env["STENO_DELIVERY_DRAIN_S"] = "0.1"
        process = await command.start("transcribe", *ids, "--batch", "march")
        await _until(lambda: len(server.jobs) == 2)
        code, out, _ = await command.run("jobs", "list", "--json", "--batch", "march")
        assert code == 0
        *jobs, counts = map(msgspec.json.decode, out.splitlines())
        assert {job["recording_id"] for job in jobs} == set(ids)
        assert counts["total"] == 2
        assert "secret-path" not in out
        code, out, _ = await command.run("jobs", "show", jobs[0]["job"][:13])
        assert (code, jobs[0]["job"] in out, "secret-path" in out) == (0, True, False)
        code, out, _ = await command.run("jobs", "cancel", "--batch", "march", "--json")
        assert msgspec.json.decode(out) == {"wish": "cancel", "jobs": 2}
        await process.communicate()
        assert process.returncode == 1
        code, _, _ = await command.run("jobs", "pause", "--batch", "march")
        assert code == 5
    ends = [each for each in command.entries() if each.event == "job_ended"]
    assert [each.status for each in ends] == ["cancelled", "cancelled"]
    assert {each.request.webhook_host for each in command.entries()} == {"127.0.0.1"}


async def _until(is_so: Any) -> None:  # Any: a function of no arguments
    async with asyncio.timeout(15):
        while not is_so():
            await asyncio.sleep(0.01)
