"""Jobs from requests to records, files and the audit log, against a real service over HTTP."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from recordings.job_server import PLANTED, WORDS, JobServer
from steno.adapters.job_store import JobReader, SqliteJobStore, leave_wish
from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite.reader import OutboxReader
from steno.app.audit_entries import entered
from steno.app.recordings import Outcome, TranscribeOptions, transcribe
from steno.cli.main import make_app
from steno.config import load
from steno.core.audit_chain import EntryLine, decode_line
from steno.core.records import JobPayload, Kind
from steno.core.secret import Secret
from steno.errors import AuthError, ObjectMissing, StorageError
from steno.observability import LogTelemetry
from steno.ports.jobs import Job, JobState, TranscriptionRequest, WishKind
from steno.recordings.ending import all_facts
from steno.recordings.job import plan
from steno.recordings.requests import Line, RequestRules, read_requests
from steno.recordings.words import BadWord

QUICK: dict[str, object] = {
    "transcribe.per_minute": 60_000.0,
    "transcribe.poll_first_s": 0.01,
    "transcribe.poll_max_s": 0.02,
    "transcribe.retry_first_s": 0.01,
    "transcribe.retry_max_s": 0.02,
    "transcribe.settle_s": 1.0,
    "observability.listen": "",
}


class Run:
    """A state directory and a service; ``go`` transcribes into one with the other."""

    def __init__(self, folder: Path, server: JobServer) -> None:
        self.folder = folder
        self.server = server
        self.state = StateDir(folder / "state")
        self.stop = asyncio.Event()
        self.told: list[Line] = []

    async def go(
        self, ids: list[str], options: TranscribeOptions | None = None, **settings: object
    ) -> Outcome:
        overrides = {
            **QUICK,
            "platform.host": self.server.url,
            "platform.client_id": "id",
            "platform.client_secret": Secret("secret"),
            "state_dir": self.state.root,
            **{f"transcribe.{name}": value for name, value in settings.items()},
        }
        config = load(None, {"HOME": str(self.folder)}, overrides)
        lines = read_requests([f"{one}\n".encode() for one in ids], RequestRules(), _DEFAULTS)
        return await transcribe(
            config,
            lines,
            stop=self.stop,
            telemetry=LogTelemetry(level="error"),
            options=options or TranscribeOptions(on_line=self.told.append),
        )

    def jobs(self) -> list[Job]:
        with JobReader(self.state.jobs) as reader:
            return [listed.job for listed in reader.page(limit=10_000)]

    def entries(self) -> list[EntryLine]:
        lines = map(decode_line, self.state.audit_log.read_bytes().splitlines())
        return [line for line in lines if isinstance(line, EntryLine)]

    def records(self) -> list[JobPayload]:
        with OutboxReader(self.state.database) as reader:
            return [
                msgspec.json.decode(record.payload, type=JobPayload)
                for record in reader.records()
                if record.kind is Kind.JOB
            ]


_DEFAULTS = TranscriptionRequest("")
_HOUR_US = 3_600_000_000
OTHER = {"words": [WORDS[0] | {"text": "something"}]}
"""Another result than the usual."""


def some_ids(count: int) -> list[str]:
    # The service of the tests does not know recordings that begin with a nought.
    return [f"a{str(uuid.uuid4())[1:]}" for _ in range(count)]


async def test_every_job_leaves_file_record_and_audit_entry(tmp_path: Path) -> None:
    """With the same figures, redacted everywhere, and each job submitted once."""
    ids = some_ids(6)
    async with JobServer(polls_needed=1).running() as server:
        run = Run(tmp_path, server)
        out = TranscribeOptions(out=f"{tmp_path}/{{recording}}.txt", batch="march")
        outcome = await run.go(ids, out, preflight=True)
    assert outcome.tally.states == Counter(completed=6)
    assert (outcome.left, outcome.drained) == (0, True)
    assert max(server.keys.values()) == 1
    assert server.preflights == 6
    assert {job.batch for job in run.jobs()} == {"march"}
    for name in ids:
        text = (tmp_path / f"{name}.txt").read_text()
        # Counted from the start of the recording, which the pre-flight question told.
        assert text.startswith("[00:00:01] agent: hello there\n[00:00:03] customer: card number")
        assert "1111" not in text
    records, entries = run.records(), run.entries()
    assert sorted(each.recording_id for each in records) == sorted(ids)
    assert sorted(each.recording_id for each in entries) == sorted(ids)
    figures = {each.recording_id: each.metrics for each in entries}
    for record in records:
        assert record.metrics == msgspec.structs.asdict(figures[record.recording_id])
        assert record.metrics["total_words"] == len(WORDS)
        assert record.metrics["word_error_rate"] == 0.1
        assert [turn["speaker_id"] for turn in record.speakers] == ["agent", "customer"]
        assert PLANTED not in str(record.speakers)
    assert {each.webhook_status for each in entries} == {"skipped"}


async def test_no_redact_lets_everything_pass(tmp_path: Path) -> None:
    """Because the operator said so."""
    (name,) = some_ids(1)
    async with JobServer().running() as server:
        run = Run(tmp_path, server)
        await run.go([name], TranscribeOptions(out=f"{tmp_path}/out.txt", redact=False))
    assert PLANTED in (tmp_path / "out.txt").read_text()


async def test_faults_that_pass_cost_no_job(tmp_path: Path) -> None:
    """A burst of 429 and 5xx that prove nothing taken are tried again."""
    ids = some_ids(8)
    async with JobServer(polls_needed=1).running() as server:
        server.submit_faults.extend([(429, {"Retry-After": "0"}), 503, 429, 503])
        run = Run(tmp_path, server)
        outcome = await run.go(ids)
    assert outcome.tally.states == Counter(completed=8)
    assert max(server.keys.values()) == 1


async def test_a_limited_call_holds_every_job(tmp_path: Path) -> None:
    """Nobody calls before the time the service asked for."""
    async with JobServer().running() as server:
        server.submit_faults.append((429, {"Retry-After": "1"}))
        outcome = await Run(tmp_path, server).go(some_ids(3), concurrency=1)
    assert outcome.tally.states == Counter(completed=3)
    times = [at for at, _ in server.calls]
    assert times[1] - times[0] > 0.95


async def test_a_window_that_is_used_up_holds_every_job(tmp_path: Path) -> None:
    """Before the service has to refuse."""
    async with JobServer(
        headers={
            "inin-ratelimit-count": "300",
            "inin-ratelimit-allowed": "300",
            "inin-ratelimit-reset": "1",
        }
    ).running() as server:
        outcome = await Run(tmp_path, server).go(some_ids(1))
    assert outcome.tally.states == Counter(completed=1)
    times = [at for at, _ in server.calls]
    assert times[1] - times[0] > 0.95


@pytest.mark.parametrize("fault", ["drop", 500])
async def test_a_submission_without_a_clear_answer_is_looked_for(
    tmp_path: Path, fault: str | int
) -> None:
    """Taken or not, there is one job of it at the service."""
    (name,) = some_ids(1)
    async with JobServer().running() as server:
        server.submit_faults.append(fault)
        run = Run(tmp_path, server)
        outcome = await run.go([name])
    assert outcome.tally.states == Counter(completed=1)
    assert server.submissions_of(name) == 1
    assert any(call == "GET /api/v2/recordings/transcripts" for _, call in server.calls)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"status": "failed", "error": "audio.unreadable"}, "ServiceFailed"),
        ({"status": "completed"}, "ResultMissing"),
        ({"status": "completed", "result": {"words": [{"text": 7}]}}, "ResultUnreadable"),
    ],
)
async def test_a_job_that_fails_is_told_everywhere(
    tmp_path: Path, answer: dict[str, Any], error: str
) -> None:
    """Record and audit entry have the class of the error; the others go on."""
    bad, good = some_ids(2)
    server = JobServer()
    usual = server.answer
    server.answer = lambda recording: answer if recording == bad else usual(recording)
    async with server.running():
        run = Run(tmp_path, server)
        outcome = await run.go([bad, good])
    assert outcome.tally.states == Counter(completed=1, failed=1)
    assert {each.recording_id: each.error for each in run.entries()} == {bad: error, good: None}
    assert {each.recording_id: each.error for each in run.records()} == {bad: error, good: ""}


@pytest.mark.parametrize(
    ("status", "reason"), [(400, "bad_request"), (403, "forbidden"), (404, "recording_missing")]
)
async def test_a_recording_that_is_refused_fails_alone_and_at_once(
    tmp_path: Path, status: int, reason: str
) -> None:
    """One try, its reason, and the others go on; only 401 concerns them all."""
    ids = some_ids(3)
    async with JobServer().running() as server:
        server.submit_faults.append(status)
        run = Run(tmp_path, server)
        outcome = await run.go(ids)
    assert outcome.tally.states == Counter(completed=2, failed=1)
    assert outcome.tally.reasons == {reason: 1}
    assert sorted(job.submissions for job in run.jobs()) == [1, 1, 1]


async def test_unreadable_words_are_left_out_or_fail_the_job_by_option(tmp_path: Path) -> None:
    """Left out by default; either way told by place and field."""
    server = JobServer()
    server.answer = lambda recording: {
        "status": "completed",
        "result": {"words": [*WORDS, {"text": "late", "startTimestamp": "never"}]},
    }
    async with server.running():
        runs = Run(tmp_path / "loose", server), Run(tmp_path / "strict", server)
        loose = await runs[0].go(some_ids(1))
        strict = await runs[1].go(some_ids(1), strict_words=True)
    for run in runs:
        with JobReader(run.state.jobs) as reader:
            facts = all_facts(reader.facts(run.jobs()[0].id))
        assert facts is not None
        assert (facts.unreadable, facts.unreadable_words) == (
            1,
            (BadWord(len(WORDS), "startTimestamp"),),
        )
        shown = CliRunner().invoke(
            make_app(), ["jobs", "show", run.jobs()[0].id, "--state-dir", str(run.state.root)]
        )
        assert f"word {len(WORDS)} could not be read: startTimestamp" in shown.stdout
    assert (loose.tally.states, loose.tally.words) == (Counter(completed=1), len(WORDS))
    assert strict.tally.states == Counter(failed=1)


async def test_a_recording_that_is_not_there_is_not_submitted(tmp_path: Path) -> None:
    """Where the pre-flight question was asked for."""
    async with JobServer().running() as server:
        run = Run(tmp_path, server)
        outcome = await run.go([f"0{some_ids(1)[0][1:]}"], preflight=True)
    assert outcome.tally.reasons == Counter(recording_missing=1)
    assert not server.jobs
    assert [each.transcript_id for each in run.entries()] == [None]


async def test_refused_credentials_end_the_run_and_no_job(tmp_path: Path) -> None:
    """All go on once the credentials are right."""
    ids = some_ids(3)
    async with JobServer(refuses=True).running() as server:
        run = Run(tmp_path, server)
        with pytest.raises(AuthError):
            await run.go(ids)
        assert {job.has_ended for job in run.jobs()} == {False}
        server.refuses = False
        outcome = await run.go(ids)
    assert outcome.tally.states == Counter(completed=3)
    assert max(server.keys.values()) == 1


async def test_calls_are_spread_over_the_minute(tmp_path: Path) -> None:
    """However many jobs there are."""
    async with JobServer().running() as server:
        await Run(tmp_path, server).go(some_ids(5), per_minute=1200.0)
    times = [at for at, _ in server.calls]
    assert len(times) == 10
    assert times[-1] - times[0] > 0.9 * 9 * 60 / 1200


async def test_wishes_of_another_process_are_granted(tmp_path: Path) -> None:
    """A cancelled job ends at once; a paused one is waited for, and resumed."""
    ids = some_ids(3)
    async with JobServer(polls_needed=100_000).running() as server:
        run = Run(tmp_path, server)
        running = asyncio.create_task(run.go(ids))
        cancelled, paused, other = await _submitted(run, 3)
        leave_wish(run.state.jobs, WishKind.CANCEL, job_id=cancelled.id)
        leave_wish(run.state.jobs, WishKind.PAUSE, job_id=paused.id)
        await _until(lambda: {job.id: job for job in run.jobs()}[paused.id].paused_us > 0)
        await _until(lambda: {job.id: job for job in run.jobs()}[cancelled.id].has_ended)
        server.polls_needed = 0
        await _until(lambda: {job.id: job for job in run.jobs()}[other.id].has_ended)
        assert not running.done()
        leave_wish(run.state.jobs, WishKind.RESUME, job_id=paused.id)
        outcome = await running
    assert outcome.tally.states == Counter(completed=2, cancelled=1)
    ends = {each.recording_id: each.status for each in run.entries()}
    assert ends[cancelled.request.recording_id] == "cancelled"
    assert {each.status for each in run.records()} == {"completed", "cancelled"}


async def test_a_stop_leaves_jobs_for_the_next_run(tmp_path: Path) -> None:
    """Which goes on without submitting again."""
    ids = some_ids(4)
    async with JobServer(polls_needed=100_000).running() as server:
        run = Run(tmp_path, server)
        running = asyncio.create_task(run.go(ids))
        await _submitted(run, 4)
        run.stop.set()
        outcome = await running
        assert (outcome.left, outcome.tally.ended) == (4, 0)
        run.stop = asyncio.Event()
        server.polls_needed = 0
        outcome = await run.go(ids)
    assert (outcome.added.known, outcome.left) == ({"submitted": 4}, 0)
    assert outcome.tally.states == Counter(completed=4)
    assert max(server.keys.values()) == 1


@pytest.mark.parametrize("place", ["one.txt", "{recording}.txt"])
async def test_what_a_run_leaves_is_written_where_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A later run writes what it was asked for to its own place, and no other."""
    ids, (other,) = some_ids(3), some_ids(1)
    monkeypatch.chdir(tmp_path)
    async with JobServer(polls_needed=100_000).running() as server:
        run = Run(tmp_path, server)
        running = asyncio.create_task(run.go(ids, TranscribeOptions(out="{recording}.txt")))
        await _submitted(run, 3)
        run.stop.set()
        await running
        run.stop = asyncio.Event()
        server.polls_needed = 0
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        outcome = await run.go([other], TranscribeOptions(out=place))
    assert outcome.tally.states == Counter(completed=4)
    written = sorted(each.stem for each in tmp_path.glob("*.txt"))
    assert written == sorted(ids)
    (own,) = (tmp_path / "elsewhere").iterdir()
    assert own.name == place.replace("{recording}", other)
    assert own.read_text().count("hello there") == 1


async def test_standard_output_gets_only_what_this_run_was_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not the transcripts of jobs that an earlier run left."""
    left, asked = some_ids(2), some_ids(1)
    async with JobServer(polls_needed=100_000).running() as server:
        run = Run(tmp_path, server)
        running = asyncio.create_task(run.go(left, TranscribeOptions(out="-")))
        await _submitted(run, 2)
        run.stop.set()
        await running
        run.stop = asyncio.Event()
        server.polls_needed = 0
        outcome = await run.go(asked, TranscribeOptions(out="-"))
    assert outcome.tally.states == Counter(completed=3)
    assert capfd.readouterr().out.count("hello there") == 1


async def test_a_reference_is_of_what_this_run_was_asked_for(tmp_path: Path) -> None:
    """Not of a job that an earlier run left and that ends later."""
    left, asked = some_ids(1), some_ids(1)
    server = JobServer(polls_needed=100_000)
    usual = server.answer

    def answer(recording: str) -> dict[str, Any]:
        if recording == asked[0]:
            return usual(recording)
        is_last = [job.has_ended for job in run.jobs() if job.request.recording_id == asked[0]]
        return (
            {"status": "completed", "result": OTHER}
            if is_last == [True]
            else {"status": "processing"}
        )

    server.answer = answer
    async with server.running():
        run = Run(tmp_path, server)
        running = asyncio.create_task(run.go(left))
        await _submitted(run, 1)
        run.stop.set()
        await running
        run.stop = asyncio.Event()
        server.polls_needed = 0
        said = " ".join(word["text"] for word in WORDS)
        outcome = await run.go(asked, TranscribeOptions(reference=said))
    assert outcome.tally.states == Counter(completed=2)
    assert isinstance(outcome.rates, dict)
    assert outcome.rates["words"]["rate"] == 0.0


@pytest.mark.parametrize("first", [True, False])
async def test_what_a_run_leaves_is_redacted_as_it_was_asked_for(
    tmp_path: Path, first: bool
) -> None:
    """A later run without redaction is without it for its own recordings only."""
    (left,), (asked,) = some_ids(1), some_ids(1)
    out = f"{tmp_path}/{{recording}}.txt"
    async with JobServer(polls_needed=100_000).running() as server:
        run = Run(tmp_path, server)
        running = asyncio.create_task(run.go([left], TranscribeOptions(out=out, redact=first)))
        await _submitted(run, 1)
        run.stop.set()
        await running
        run.stop = asyncio.Event()
        server.polls_needed = 0
        await run.go([asked], TranscribeOptions(out=out, redact=not first))
    shown = {name: PLANTED in (tmp_path / f"{name}.txt").read_text() for name in (left, asked)}
    assert shown == {left: not first, asked: first}
    records = {each.recording_id: PLANTED in str(each.speakers) for each in run.records()}
    assert records == shown


async def test_asked_again_a_job_that_is_left_goes_where_it_is_wanted_now(tmp_path: Path) -> None:
    """And is redacted as it is wanted now."""
    ids = some_ids(1)
    async with JobServer(polls_needed=100_000).running() as server:
        run = Run(tmp_path, server)
        old = TranscribeOptions(out=f"{tmp_path}/gone/{{recording}}.txt", redact=False)
        running = asyncio.create_task(run.go(ids, old))
        await _submitted(run, 1)
        run.stop.set()
        await running
        run.stop = asyncio.Event()
        server.polls_needed = 0
        with pytest.raises(StorageError) as caught:  # its folder is not there
            await run.go([])
        assert "earlier run" in str(caught.value)
        outcome = await run.go(ids, TranscribeOptions(out=f"{tmp_path}/{{recording}}.txt"))
    assert outcome.tally.states == Counter(completed=1)
    assert PLANTED not in (tmp_path / f"{ids[0]}.txt").read_text()


async def test_what_has_ended_is_done_again_only_on_demand(tmp_path: Path) -> None:
    """Failed jobs, or all of them."""
    ids = some_ids(2)
    server = JobServer()
    usual = server.answer
    server.answer = lambda recording: (
        {"status": "failed"} if recording == ids[0] else usual(recording)
    )
    async with server.running():
        run = Run(tmp_path, server)
        await run.go(ids)
        server.answer = usual
        outcome = await run.go(ids)
        assert (outcome.added.new, outcome.tally.ended) == (0, 0)
        outcome = await run.go(ids, TranscribeOptions(again="failed"))
        assert (outcome.added.new, outcome.tally.states) == (1, Counter(completed=1))
        outcome = await run.go(ids, TranscribeOptions(again="all"))
        assert outcome.tally.states == Counter(completed=2)
    assert len(run.entries()) == 5


async def test_bad_lines_are_told_by_number_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Nothing of a bad line reaches the service."""
    good = some_ids(1)[0]
    async with JobServer().running() as server:
        run = Run(tmp_path, server)
        outcome = await run.go(["no-uuid", good, good])
    assert (outcome.added.bad, outcome.added.new) == (1, 1)
    assert [line.line for line in run.told] == [1, 3]
    assert outcome.tally.states == Counter(completed=1)


async def test_an_end_that_nobody_was_told_of_is_told_once(tmp_path: Path) -> None:
    """A kill before the audit entry, and one between it and the note of it."""
    ids = some_ids(2)
    async with JobServer().running() as server:
        run = Run(tmp_path, server)
        await run.go(ids)
        assert len(run.entries()) == 2
        # Both ends are unsettled again; the log knows one of them, as after such a kill.
        other = Run(tmp_path, server)
        store = SqliteJobStore.open(run.state.jobs)
        job = plan(
            TranscriptionRequest(some_ids(1)[0]), host_group="h", now_us=run.jobs()[0].ended_us
        )
        await store.add([job])
        ended = msgspec.structs.replace(
            job, version=1, state=JobState.FAILED, ended_us=job.created_us, reason="refused"
        )
        assert await store.move(ended)
        store._db.execute("UPDATE jobs SET is_settled=0")
        unsettled = await store.unsettled(limit=9)
        await store.close()
        assert len(unsettled) == 3
        assert entered(run.state.audit_log, unsettled) == {
            each.job.id for each in unsettled if each.job.id != job.id
        }
        # The same where the clock was set back between an end and its entry.
        ends = [
            msgspec.structs.replace(
                each, job=msgspec.structs.replace(each.job, ended_us=each.job.ended_us + _HOUR_US)
            )
            for each in unsettled
        ]
        assert len(entered(run.state.audit_log, ends)) == 2
        await other.go([])
        assert len(other.entries()) == 3
        assert other.entries()[-1].error == "Refused"
        await other.go([])
    assert len(other.entries()) == 3
    assert len(other.records()) == 3


async def _submitted(run: Run, count: int) -> list[Job]:
    def all_there() -> bool:
        states = [job.state for job in run.jobs()] if run.state.jobs.exists() else []
        return len(states) == count and set(states) == {JobState.SUBMITTED}

    await _until(all_there)
    return run.jobs()


async def _until(is_so: Any) -> None:  # Any: a function that may fail while nothing is there
    async with asyncio.timeout(5):
        while True:
            try:
                if is_so():
                    return
            except ObjectMissing:
                pass
            await asyncio.sleep(0.02)
