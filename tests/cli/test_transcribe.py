"""``steno transcribe`` and ``steno jobs`` as processes: exit codes, kills, other processes."""

from __future__ import annotations

import re
import signal
import uuid
from collections import Counter
from functools import partial
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from recordings.job_server import JobServer
from recordings.transcribe_command import Command, some_ids, until
from steno.cli.common import ExitCode, exit_code
from steno.cli.main import make_app
from steno.errors import ConfigError


async def test_one_recording_is_written_to_standard_output(tmp_path: Path) -> None:
    """Its id from the tutorial's variable; the summary calls the rate an estimate."""
    async with JobServer().running() as server:
        command = Command(tmp_path, server.url)
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
        command = Command(tmp_path, server.url)
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


async def test_a_reference_gives_true_error_rates_beside_the_estimate(tmp_path: Path) -> None:
    """By words and by characters, of what was said and not of what redaction left."""
    reference = tmp_path / "said.txt"
    reference.write_text("Hello here,\ncard number 4111 1111 1111 1111!\n")
    async with JobServer().running() as server:
        command = Command(tmp_path, server.url)
        known = ("transcribe", some_ids(1)[0], "--reference", str(reference))
        code, out, _ = await command.run(*known, "--json")
        assert code == 0
        summary = msgspec.json.decode(out)
        _, _, err = await command.run(*known, "--again", "all")
    words, characters = (summary["against_reference"][kind] for kind in ("words", "characters"))
    assert (words["units"], words["substitutions"], words["rate"]) == (8, 1, 0.125)
    assert (characters["deletions"], characters["insertions"]) == (0, 1)
    assert summary["mean_word_error_rate"] == 0.1
    assert summary["word_error_rate_is"] == "estimate (1 - mean confidence)"
    assert re.search(r"mean word error rate +0\.1000, an estimate \(1 - mean confidence\)", err)
    assert re.search(r"\nword error rate +0\.1250, against the reference", err)


async def test_what_is_no_recording_is_told_and_not_submitted(tmp_path: Path) -> None:
    """With exit code 2 where nothing else was asked for."""
    async with JobServer().running() as server:
        code, _, err = await Command(tmp_path, server.url).run("transcribe", "not-an-id")
        assert not server.calls
    assert code == 2
    assert "a recording id is a UUID" in err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--file", "/nowhere"], "the file cannot be read"),
        ([str(uuid.uuid4()), str(uuid.uuid4()), "--out", "one.txt"], "written over one another"),
    ],
)
def test_usage_is_told_before_any_call(tmp_path: Path, arguments: list[str], text: str) -> None:
    """With exit code 2; that nobody is there to be called would be another."""
    command = Command(tmp_path, "http://127.0.0.1:9")
    result = CliRunner().invoke(make_app(), ["transcribe", *arguments], env=command.env)
    assert isinstance(result.exception, ConfigError)
    assert exit_code(result.exception) is ExitCode.USAGE
    assert text in str(result.exception)


async def test_refused_credentials_are_exit_code_3(tmp_path: Path) -> None:
    """Told once, at the start."""
    async with JobServer(token_status=401).running() as server:
        code, _, _ = await Command(tmp_path, server.url).run("transcribe", *some_ids(2))
    assert code == 3


async def test_a_service_that_does_not_serve_is_exit_code_4(tmp_path: Path) -> None:
    """After the retries, with what can be done about it."""
    async with JobServer().running() as server:
        command = Command(tmp_path, server.url)
        command.env["STENO_TRANSCRIBE_RETRIES"] = "1"
        server.faults.extend([503] * 4)
        code, _, err = await command.run("transcribe", *some_ids(2))
    assert code == 4
    assert "2 failed: unavailable. Try again when the service is up" in err


async def test_an_interrupted_run_goes_on_with_the_same_input(tmp_path: Path) -> None:
    """Exit code 130; nothing is submitted again."""
    ids = some_ids(3)
    async with JobServer(polls_needed=100_000).running() as server:
        command = Command(tmp_path, server.url)
        process = await command.start("transcribe", *ids)
        await until(lambda: len(server.jobs) == 3)
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
        command = Command(tmp_path, server.url)
        for calls in (15, 30, 80):  # while submitting, later, and while results come
            process = await command.start("transcribe", *ids)
            await until(partial(_has_calls, server, calls))
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
        command = Command(tmp_path, server.url)
        command.env["WEBHOOK_URL"] = "https://127.0.0.1:9/secret-path"
        command.env["STENO_TRANSCRIBE_WEBHOOK_ALLOW"] = "127.0.0.1"
        command.env["STENO_DELIVERY_DRAIN_S"] = "0.1"
        process = await command.start("transcribe", *ids, "--batch", "march")
        await until(lambda: len(server.jobs) == 2)
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


async def test_erasing_a_conversation_or_a_recording_takes_its_jobs_along(tmp_path: Path) -> None:
    """Their records too, and every byte of the webhook's address; files are named, not deleted."""
    conversation, *ids = some_ids(4)
    async with JobServer().running() as server:
        command = Command(tmp_path, server.url)
        command.env["STENO_DELIVERY_DRAIN_S"] = "0"
        lines = f"{conversation}/{ids[0]}\n{conversation}/{ids[1]}\n{ids[2]}\n"
        out = str(tmp_path / "{recording}.txt")
        command.env["STENO_TRANSCRIBE_WEBHOOK_ALLOW"] = "127.0.0.1"
        hook = ("--webhook", "http://127.0.0.1:9/?token=planted-in-a-webhook")
        code, _, err = await command.run(
            "transcribe", "--file", "-", *hook, "--out", out, given=lines
        )
        assert code == 0, err
    code, told, err = await command.run("erase", conversation, "--yes", "--json")
    assert code == 0, err
    answer = msgspec.json.decode(told)
    assert (answer["jobs"], answer["records"]) == (2, 2)
    assert answer["transcripts"] == sorted(str(tmp_path / f"{one}.txt") for one in ids[:2])
    code, told, _ = await command.run("jobs", "list")
    assert ids[2] in told
    assert ids[0] not in told
    code, told, err = await command.run("erase", ids[2], "--yes")
    assert (code, "erased 1 transcription jobs" in told) == (0, True), err
    for path in (tmp_path / "state").glob("jobs.db*"):
        assert b"planted-in-a-webhook" not in path.read_bytes()
    code, told, _ = await command.run("audit", "show", "--json")
    assert ids[2] in told


def _has_calls(server: JobServer, count: int) -> bool:
    return len(server.calls) >= count
