"""`steno jobs report`, against a real store of jobs in a folder of its own."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from recordings.job_server import JobServer
from recordings.test_report import completed, job
from recordings.transcribe_command import Command, some_ids
from steno.adapters.job_store import SqliteJobStore
from steno.adapters.state_dir import StateDir
from steno.cli.common import ExitCode
from steno.cli.jobs_report import gather, require_page, write_run_page
from steno.cli.main import make_app
from steno.core.quality import Metrics
from steno.errors import ConfigError
from steno.ports.jobs import Job, JobState
from steno.recordings.ending import Facts

NONE = Metrics(None, None, 0)


def stored(root: Path, *found: tuple[Job, Metrics]) -> StateDir:
    """Store jobs as a run leaves them: added first, moved to where they stand, with facts."""
    state = StateDir(root)
    state.prepare()

    async def write() -> None:
        store = SqliteJobStore.open(state.jobs)
        await store.add(
            [msgspec.structs.replace(each, state=JobState.PLANNED, ended_us=0) for each, _ in found]
        )
        for each, metrics in found:
            facts = msgspec.json.encode(Facts(metrics)) if each.has_ended else b""
            moved = msgspec.structs.replace(each, version=1)
            assert await store.move(moved, facts=facts)
        await store.close()

    asyncio.run(write())
    return state


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    march = [completed(n, float(n), 0.1) for n in range(1, 6)]
    april = [(job(9, JobState.FAILED, reason="recording_missing"), NONE)]
    return stored(
        tmp_path / "state",
        *((msgspec.structs.replace(each, batch="march"), told) for each, told in march),
        *((msgspec.structs.replace(each, batch="april"), told) for each, told in april),
    )


def run(state: StateDir, *arguments: str) -> Result:
    clean = {name: None for name in os.environ if name.startswith(("STENO_", "GENESYS_", "OAUTH_"))}
    env = {**clean, "HOME": "/nonexistent", "COLUMNS": None}
    return CliRunner().invoke(
        make_app(), ["jobs", "report", *arguments, "--state-dir", str(state.root)], env=env
    )


def test_numbers_are_those_stored_beside_the_ends(state: StateDir) -> None:
    """All jobs, or those of a batch; latency and confidence are the facts' own."""
    found = json.loads(run(state, "--json").stdout)
    assert found["states"] == {"completed": 5, "failed": 1}
    assert found["latency_seconds"]["mean"] == 3.0
    assert found["confidence"]["mean"] == 0.9
    assert found["failures"][0]["reason"] == "recording_missing"
    only = json.loads(run(state, "--json", "--batch", "april").stdout)
    assert only["states"] == {"failed": 1}


def test_the_page_is_its_owners_and_the_line_says_what_is_in_it(state: StateDir) -> None:
    """Written whole; with --json the same numbers beside it."""
    out = state.root / "report.html"
    result = run(state, "--out", str(out), "--batch", "march", "--json")
    assert result.exit_code == ExitCode.DONE, result.output
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    text = out.read_text()
    assert text.endswith("</html>\n")
    assert "Batch march." in text
    assert json.loads(result.stdout)["jobs"] == 5
    spoken = run(state, "--out", str(out))
    assert "6 jobs, 5 completed, 1 failed" in spoken.stderr
    assert run(state, "--out", "-").stdout.startswith("<!DOCTYPE html>")


def test_tables_for_people(state: StateDir) -> None:
    """Without a page and without --json."""
    result = run(state, "--listed", "2")
    assert result.stdout.splitlines()[0] == "6 jobs, 5 completed, 1 failed"
    assert "Check the recording id" in result.stdout


def test_standard_output_holds_one_of_both(state: StateDir) -> None:
    """A page and an object in one stream are neither."""
    assert run(state, "--json", "--out", "-").exit_code == ExitCode.USAGE


def test_a_batch_nobody_has_is_nothing_found(state: StateDir, tmp_path: Path) -> None:
    """Told by the exit code; a state directory without jobs says what to do."""
    assert run(state, "--batch", "may").exit_code == ExitCode.NOTHING_FOUND
    result = run(StateDir(tmp_path / "none"))
    assert result.exit_code == ExitCode.FAILED


def test_jobs_can_be_chosen_one_by_one(state: StateDir) -> None:
    """As a run does that reports on its own jobs."""
    found = gather(state.jobs, is_wanted=lambda each: each.state is JobState.FAILED)
    assert found.states == {"failed": 1}


def test_damaged_facts_leave_the_rest(tmp_path: Path) -> None:
    """A completed job whose facts cannot be read has its latency from the job itself."""
    import apsw

    state = stored(tmp_path / "state", completed(1, 4.0, 0.1), completed(2, 6.0, 0.2))
    db = apsw.Connection(str(state.jobs))
    db.execute("UPDATE jobs SET facts=x'ff00' WHERE position=1").fetchall()
    db.close()
    found = gather(state.jobs)
    assert found.latency_seconds.mean == 5.0
    assert (found.confidence.count, found.confidence.unknown) == (1, 1)


@pytest.mark.parametrize("batch", ["", "march"])
def test_the_page_of_a_run_has_its_jobs_only(state: StateDir, batch: str) -> None:
    """Those asked for and those that ended in it; with a batch, all of that."""
    out = state.root / "run.html"
    asked = job(9, JobState.FAILED, reason="recording_missing").id
    write_run_page(out, state.jobs, setting="--report", batch=batch, ids={asked}, since_us=10**18)
    assert f"<p>{'5 jobs, 5 completed' if batch else '1 job, 1 failed'}</p>" in out.read_text()


def test_a_run_is_told_before_the_work_that_its_page_has_no_place(tmp_path: Path) -> None:
    """Not after hours of it."""
    with pytest.raises(ConfigError):
        require_page(tmp_path / "nowhere/report.html", setting="--report")
    require_page(tmp_path / "report.html", setting="--report")


async def test_a_run_writes_the_page_of_its_jobs(tmp_path: Path) -> None:
    """`steno transcribe --report`: those known before count too, of earlier runs no others."""
    known, earlier, new = some_ids(3)
    out = tmp_path / "report.html"
    async with JobServer().running() as server:
        command = Command(tmp_path, server.url)
        text = ("--out", f"{tmp_path}/{{recording}}.txt")
        assert (await command.run("transcribe", known, earlier, *text))[0] == 0
        code, _, err = await command.run("transcribe", known, new, *text, "--report", str(out))
        assert code == 0, err
        assert "<p>2 jobs, 2 completed</p>" in out.read_text()
        assert "hello" not in out.read_text()


def test_a_run_is_refused_whose_page_has_no_place(tmp_path: Path) -> None:
    """By `steno transcribe` too, and before it calls anybody."""
    env = {"GENESYS_HOST": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    env |= {"GENESYS_CLIENT_ID": "id", "GENESYS_CLIENT_SECRET": "secret"}
    arguments = ["transcribe", *some_ids(1), "--state-dir", str(tmp_path / "state")]
    result = CliRunner().invoke(
        make_app(), [*arguments, "--report", str(tmp_path / "no/report.html")], env=env
    )
    assert isinstance(result.exception, ConfigError)  # not that nobody is there
