"""The SQLite store of jobs: the port's rules, durability, and other processes beside it."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest

from conformance.job_store_contract import FULL_JOB, JobStoreContract, after, some_job
from steno.adapters.job_store import (
    JobReader,
    JobStoreSettings,
    SqliteJobStore,
    erasing,
    leave_wish,
    purge_jobs,
    rows,
)
from steno.errors import IntegrityError, ObjectMissing, StorageError, StorageFull
from steno.ports.jobs import JobState, WishKind

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def opened(
    path: Path, settings: JobStoreSettings | None = None
) -> AsyncIterator[SqliteJobStore]:
    store = SqliteJobStore.open(path, settings)
    try:
        yield store
    finally:
        await store.close()


class TestContract(JobStoreContract):
    """The rules of the port."""

    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self._file = tmp_path / "jobs.db"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[SqliteJobStore]:
        async with opened(self._file) as store:
            yield store


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """Jobs and wishes, in a file of the owner's only, with the durable settings."""
    path = tmp_path / "jobs.db"
    async with opened(path) as store:
        await store.add([FULL_JOB, some_job()])
        await store.wish(WishKind.PAUSE, job_id=FULL_JOB.id)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with opened(path) as store:
        assert await store.get(FULL_JOB.id) == FULL_JOB
        assert len(await store.wishes(limit=9)) == 1
        db = store._db
        assert (db.pragma("journal_mode"), db.pragma("synchronous")) == ("wal", 2)


async def test_moves_that_come_together_share_transactions(tmp_path: Path) -> None:
    """A hundred jobs side by side do not cost a hundred fsyncs."""
    commits: list[str] = []
    store = SqliteJobStore.open(tmp_path / "jobs.db", crash=commits.append)
    try:
        jobs = [some_job(n) for n in range(200)]
        await store.add(jobs)
        commits.clear()
        assert all(await asyncio.gather(*(store.move(after(job)) for job in jobs)))
        assert commits.count("commit.before") <= 10
    finally:
        await store.close()


async def test_a_long_list_is_added_in_seconds_and_what_is_due_found_by_index(
    tmp_path: Path,
) -> None:
    """10,000 jobs; the plan of the query that runs all day names the index."""
    async with opened(tmp_path / "jobs.db") as store:
        jobs = [some_job(n) for n in range(10_000)]
        started = time.process_time()
        assert all(await store.add(jobs))
        assert time.process_time() - started < 3.0
        plan = store._db.execute(
            "EXPLAIN QUERY PLAN SELECT * FROM jobs WHERE is_active = 1 AND next_due_us <= 5"
            " ORDER BY next_due_us LIMIT 5"
        ).fetchall()
        assert "USING INDEX jobs_due" in str(plan)
        assert "TEMP B-TREE" not in str(plan)
        for query, index in (
            (rows._BEGUN, "jobs_begun"),
            (rows._PLANNED, "jobs_due"),
        ):
            found = str(store._db.execute(f"EXPLAIN QUERY PLAN {query}", (5, 5)).fetchall())
            assert index in found
            assert "TEMP B-TREE" not in found
        plan = store._db.execute(
            "EXPLAIN QUERY PLAN SELECT state, count(*) FROM jobs WHERE batch='a' GROUP BY state"
        ).fetchall()
        assert "COVERING INDEX jobs_batch" in str(plan)


async def test_too_many_waiting_changes_are_refused_and_can_be_repeated(tmp_path: Path) -> None:
    """Memory stays bounded while the disk is slow."""
    path = tmp_path / "jobs.db"
    async with opened(path, JobStoreSettings(queued_changes=1, group_wait_s=0.0)) as store:
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")  # the writer has to wait
        tasks = [asyncio.create_task(store.add([some_job(n)])) for n in range(9)]
        while not any(task.done() for task in tasks):
            await asyncio.sleep(0)
        other.execute("ROLLBACK")
        other.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [each for each in results if isinstance(each, StorageFull)]
        assert refused
        assert len(refused) + sum(each == [True] for each in results) == 9
        assert await store.add([some_job(8)])


async def test_an_error_fails_the_changes_and_not_the_store(tmp_path: Path) -> None:
    """A file held by somebody else is a passing trouble, with a fix."""
    path = tmp_path / "jobs.db"
    async with opened(path, JobStoreSettings(busy_ms=1)) as store:
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError) as caught:
            await store.add([some_job()])
        assert caught.value.fix
        other.execute("ROLLBACK")
        other.close()
        assert await store.add([some_job()]) == [True]


async def test_a_closed_store_takes_nothing(tmp_path: Path) -> None:
    """It says so; closing twice is harmless, and what was queued is written."""
    store = SqliteJobStore.open(tmp_path / "jobs.db")
    adding = asyncio.create_task(store.add([some_job()]))
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert await adding == [True]
    with pytest.raises(StorageError):
        await store.add([some_job(1)])
    with pytest.raises(StorageError):
        await store.counts()


@pytest.mark.parametrize("content", [b"no database at all" * 500, b""], ids=["garbage", "foreign"])
def test_a_file_that_is_no_store_of_jobs_is_refused(tmp_path: Path, content: bytes) -> None:
    """Neither garbage nor another program's database is written to."""
    path = tmp_path / "jobs.db"
    path.write_bytes(content)
    if not content:
        db = apsw.Connection(str(path))
        db.execute("CREATE TABLE mine(x)")
        db.close()
    with pytest.raises(IntegrityError):
        SqliteJobStore.open(path)
    with pytest.raises(StorageError):
        JobReader(path)


async def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    """An older program must not write what it does not know."""
    path = tmp_path / "jobs.db"
    async with opened(path) as store:
        store._db.pragma("user_version", 99)
    for open_it in (SqliteJobStore.open, JobReader):
        with pytest.raises(StorageError) as caught:
            open_it(path)
        assert caught.value.fields["store_version"] == 99


async def test_an_older_store_is_brought_up_to_date_by_its_owner_only(tmp_path: Path) -> None:
    """A reader says so; afterwards every job is there, redacted and without a place."""
    path = tmp_path / "jobs.db"
    async with opened(path) as store:
        await store.add([some_job()])
        store._db.execute("ALTER TABLE jobs DROP COLUMN out; ALTER TABLE jobs DROP COLUMN redact")
        store._db.pragma("user_version", 2)
    with pytest.raises(StorageError) as caught:
        JobReader(path)
    assert "steno transcribe" in caught.value.fix
    async with opened(path) as store:
        assert await store.get(some_job().id) == some_job()


async def test_a_damaged_job_is_an_error_of_ours(tmp_path: Path) -> None:
    """It names the row, not what is in it."""
    async with opened(tmp_path / "jobs.db") as store:
        await store.add([some_job()])
        store._db.execute("UPDATE jobs SET request = ?", (b'{"recording_id": "SECRET',))
        with pytest.raises(IntegrityError) as caught:
            await store.get(some_job().id)
        assert "SECRET" not in str(caught.value)


def test_a_reader_needs_a_store(tmp_path: Path) -> None:
    """There are no jobs yet: an error with a fix, and no file is made."""
    with pytest.raises(ObjectMissing) as caught:
        JobReader(tmp_path / "jobs.db")
    assert caught.value.fix
    with pytest.raises(ObjectMissing):
        leave_wish(tmp_path / "jobs.db", WishKind.PAUSE, batch="a")
    assert list(tmp_path.iterdir()) == []


async def test_a_job_is_shown_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    """If only one begins so; patterns of the database are no beginnings."""
    path = tmp_path / "jobs.db"
    async with opened(path) as store:
        jobs = [some_job(n) for n in range(40)]  # more than there are first digits
        await store.add(jobs)
        with JobReader(path) as reader:
            assert reader.show(jobs[3].id).job == jobs[3]
            assert reader.show(jobs[3].id[:13].upper()).job == jobs[3]
            twice = Counter(job.id[0] for job in jobs).most_common(1)[0][0]
            for prefix in ("", "%", "_", "zz", twice):
                with pytest.raises(ObjectMissing):
                    reader.show(prefix)
            assert reader.counts().total == 40
            assert len(reader.page(limit=7)) == 7


async def test_only_old_jobs_of_which_everybody_was_told_are_purged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces, with their wishes."""
    monkeypatch.setattr(erasing, "PURGED_AT_ONCE", 1)
    path = tmp_path / "jobs.db"
    jobs = [some_job(n) for n in range(5)]
    async with opened(path) as store:
        await store.add(jobs)
        await store.wish(WishKind.CANCEL, job_id=jobs[0].id)
        for job, ended_us in ((jobs[0], 10), (jobs[1], 11), (jobs[2], 99), (jobs[4], 12)):
            await store.move(after(job, state=JobState.FAILED, ended_us=ended_us))
        for job in jobs[:3]:
            await store.settle(job.id)
        assert purge_jobs(path, ended_before_us=50) == 2
        assert purge_jobs(path, ended_before_us=50) == 0
        left = [each.job.id for each in await store.page()]
        assert left == [jobs[2].id, jobs[3].id, jobs[4].id]
        assert await store.wishes(limit=9) == []


async def test_facts_are_read_beside_the_jobs(tmp_path: Path) -> None:
    """Page by page, in order; empty where nothing was stored with the job."""
    path = tmp_path / "jobs.db"
    async with opened(path) as store:
        jobs = [some_job(n) for n in range(5)]
        await store.add(jobs)
        assert await store.move(after(jobs[3]), facts=b"told")
        with JobReader(path) as reader:
            first = reader.page_with_facts(limit=3)
            rest = reader.page_with_facts(limit=3, after=first[-1][0])
        assert [end.job.id for _, end in first + rest] == [job.id for job in jobs]
        assert [end.facts for _, end in first + rest] == [b"", b"", b"", b"told", b""]


# --- other processes -------------------------------------------------------------------------


def run(script: str, *arguments: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, *(["-c", script] if " " in script else [script]), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


async def test_another_process_reads_and_leaves_wishes_beside_the_owner(tmp_path: Path) -> None:
    """While the owner writes; the owner picks the wishes up."""
    path = tmp_path / "jobs.db"
    async with opened(path) as store:
        jobs = [some_job(n, batch="a") for n in range(50)]
        await store.add(jobs)
        script = (
            "import sys; from pathlib import Path\n"
            "from steno.adapters.job_store import JobReader, leave_wish\n"
            "from steno.ports.jobs import WishKind\n"
            "path = Path(sys.argv[1])\n"
            "for job in sys.argv[2:]:\n"
            "    assert leave_wish(path, WishKind.CANCEL, job_id=job) == 1\n"
            "print(leave_wish(path, WishKind.PAUSE, batch='a'), JobReader(path).counts().total)\n"
        )
        child = run(script, str(path), jobs[0].id, jobs[1].id)
        moves = 0
        while child.poll() is None:
            jobs[9] = after(jobs[9], polls=moves)
            assert await store.move(jobs[9])
            moves += 1
        out, _ = child.communicate()
        assert (out, child.returncode) == ("50 50\n", 0)
        wishes = await store.wishes(limit=100)
        assert {wish.kind for wish in wishes} == {WishKind.PAUSE}  # the newest of each job
        assert len(wishes) == 50
        assert moves > 0


@pytest.mark.parametrize(
    "place",
    ["commit.before:4", "commit.after:4", "commit.before:5", "send.before:2", "send.after:2"],
)
async def test_a_kill_at_any_point_never_submits_twice(tmp_path: Path, place: str) -> None:
    """SIGKILL around commits and submissions; then another process finishes the batch."""
    script = str(ROOT / "tests" / "adapters" / "jobs_killed.py")
    killed = run(script, str(tmp_path), place)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    finisher = run(script, str(tmp_path), "nowhere:1")
    out, _ = finisher.communicate()
    assert (out, finisher.returncode) == ("ended 12\n", 0)
    accepted = Counter((tmp_path / "accepted").read_text().split())
    assert len(accepted) == 12
    assert set(accepted.values()) == {1}
    with JobReader(tmp_path / "jobs.db") as reader:
        assert reader.counts().states == {JobState.COMPLETED: 12}
        resubmitted = [each.job for each in reader.page() if each.job.submissions > 1]
    # Whom the kill caught between intent and submission was sent again; whoever had been sent was
    # found at the service; and before its intent was stored a job was only planned.
    assert len(resubmitted) == (place in ("commit.after:4", "send.before:2"))
