"""The owner's side: changes queued by the event loop, written by one thread.

What is queued while a transaction is being written goes into the next one, all together, and
everybody is told once it is durable. While changes are flowing the writer waits a moment for
company, so that a hundred jobs moving side by side cost one fsync and not a hundred. Queries go
through a connection of their own and never wait for the writer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import apsw
import msgspec

from steno.adapters.job_store import rows
from steno.adapters.job_store.database import (
    breaks_store,
    connect,
    mapped,
    migrate,
    transaction,
)
from steno.errors import IntegrityError, StorageError, StorageFull
from steno.ports.jobs import EndedJob, Job, JobCounts, JobFilter, ListedJob, Wish, WishKind

T = TypeVar("T")

ADDED_AT_ONCE = 2000
"""Jobs of a long list that share a transaction: moves do not wait for the whole list."""


class JobStoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the store groups and bounds.

    Attributes:
        group_wait_s: Wait for company while changes are flowing, seconds.
        group_changes: Changes that end the wait.
        queued_changes: Most changes waiting; beyond it a change fails (and can be repeated).
        busy_ms: Longest wait for another process's transaction, milliseconds.
    """

    group_wait_s: float = 0.003
    group_changes: int = 100
    queued_changes: int = 20_000
    busy_ms: int = 5000


class _Change(msgspec.Struct, gc=False):
    apply: Callable[[apsw.Connection], Any]  # Any: what the caller's future is of
    future: asyncio.Future[Any]
    outcome: Any = None


class SqliteJobStore:
    """``ports.jobs.JobStore`` in a SQLite file. Make it with ``open``; close it at the end.

    Used from one event loop. The caller holds the lock of the state directory: one owner.
    """

    def __init__(
        self,
        path: Path,
        db: apsw.Connection,
        settings: JobStoreSettings,
        crash: Callable[[str], None] | None,
    ) -> None:
        self._path = path
        self._db = db
        self._settings = settings
        self._crash = crash
        self._reader: apsw.Connection | None = None
        self._lock = Lock()
        self._queue: deque[_Change] = deque()
        self._is_writing = False
        self._wrote_at = 0.0
        self._broken: StorageError | None = None
        self._closed = False
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="steno-jobs")
        self._read_thread = ThreadPoolExecutor(1, thread_name_prefix="steno-jobs-read")

    @classmethod
    def open(
        cls,
        path: Path,
        settings: JobStoreSettings | None = None,
        *,
        crash: Callable[[str], None] | None = None,
    ) -> SqliteJobStore:
        """Return the store of a file, made or brought up to date where need be.

        Blocks on the disk.

        Args:
            crash: Called at ``commit.before`` and ``commit.after``; for fault tests only.

        Raises:
            StorageError: It cannot be opened, or was written by a newer program.
            IntegrityError: It is damaged, or no store of jobs.
        """
        chosen = settings or JobStoreSettings()
        db = connect(path, busy_ms=chosen.busy_ms)
        try:
            migrate(db)
        except StorageError:
            db.close(True)
            raise
        return cls(path, db, chosen, crash)

    async def close(self) -> None:
        """Write what is queued, then close."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._write_thread, lambda: None)  # behind what is queued
        await loop.run_in_executor(self._read_thread, self._close_connections)
        self._write_thread.shutdown(wait=False)
        self._read_thread.shutdown(wait=False)

    def _close_connections(self) -> None:
        if self._reader is not None:
            self._reader.close(True)
        self._db.close(True)

    # --- changes -----------------------------------------------------------------------------

    async def add(self, jobs: Sequence[Job]) -> list[bool]:
        """Store new jobs; see ``ports.jobs.JobStore``.

        Raises:
            StorageError: Not all were stored; ``retryable`` where there was no room.
        """
        new: list[bool] = []
        for start in range(0, len(jobs), ADDED_AT_ONCE):
            some = jobs[start : start + ADDED_AT_ONCE]
            new += await self._change(lambda db, some=some: rows.insert(db, some))  # type: ignore[misc]
        return new

    async def move(self, job: Job, *, granted: int = 0, facts: bytes = b"") -> bool:
        """Replace the version before by ``job``; see ``ports.jobs.JobStore``.

        Raises:
            StorageError: It was not stored.
        """
        return await self._change(lambda db: rows.move(db, job, granted, facts))

    async def settle(self, job_id: str) -> None:
        """Note that everybody was told of a job's end; see ``ports.jobs.JobStore``.

        Raises:
            StorageError: It was not stored.
        """
        await self._change(lambda db: rows.settle(db, job_id))

    async def wish(self, kind: WishKind, *, job_id: str = "", batch: str = "") -> int:
        """Leave a wish; see ``ports.jobs.JobStore``.

        Raises:
            StorageError: It was not stored.
        """
        return await self._change(lambda db: rows.wish(db, kind, job_id, batch))

    async def dismiss(self, numbers: Sequence[int]) -> None:
        """Forget wishes that change nothing.

        Raises:
            StorageError: They are still there.
        """
        await self._change(lambda db: rows.dismiss(db, numbers))

    async def clamp(self, latest_us: int) -> int:
        """Bring forward later due times; see ``ports.jobs.JobStore``.

        Raises:
            StorageError: Nothing was changed.
        """
        return await self._change(lambda db: rows.clamp(db, latest_us))

    async def _change(self, apply: Callable[[apsw.Connection], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._broken is not None:
                raise self._broken
            if self._closed:
                raise StorageError("the store of jobs is closed")
            if len(self._queue) >= self._settings.queued_changes:
                raise StorageFull("the store of jobs cannot keep up")
            self._queue.append(_Change(apply, future))
            if not self._is_writing:
                self._is_writing = True
                self._write_thread.submit(self._write)
        return await future

    def _write(self) -> None:
        """Write what is queued until nothing is; runs on the writer's thread."""
        while True:
            self._await_company()
            with self._lock:
                changes = list(self._queue)
                self._queue.clear()
                if not changes:
                    self._is_writing = False
                    return
            error = self._transact(changes)
            self._wrote_at = time.monotonic()
            loop = changes[0].future.get_loop()
            try:
                loop.call_soon_threadsafe(_tell, changes, error)
            except RuntimeError:  # the loop has ended; what was written is written
                continue

    def _await_company(self) -> None:
        settings = self._settings
        is_flowing = time.monotonic() - self._wrote_at < 2 * settings.group_wait_s
        if is_flowing and 0 < len(self._queue) < settings.group_changes:
            time.sleep(settings.group_wait_s)

    def _transact(self, changes: Sequence[_Change]) -> StorageError | None:
        try:
            with transaction(self._db):
                for change in changes:
                    change.outcome = change.apply(self._db)
                if self._crash is not None:
                    self._crash("commit.before")
        except (apsw.Error, OSError, StorageError) as exc:
            error = mapped(exc)
            if breaks_store(exc):
                with self._lock:
                    self._broken = error
            return error
        except Exception as exc:  # noqa: BLE001  # a value SQLite does not take: nobody may hang
            return StorageError("a change could not be written", cause=type(exc).__name__)
        if self._crash is not None:
            self._crash("commit.after")
        return None

    # --- queries -----------------------------------------------------------------------------

    async def get(self, job_id: str) -> Job | None:
        """Return a job as it is held now.

        Raises:
            StorageError: Reading failed.
        """
        return await self._query(lambda db: rows.get(db, job_id))

    async def due(self, now_us: int, *, limit: int, excluding: Collection[str] = ()) -> list[Job]:
        """Return active jobs with something to do; see ``ports.jobs.JobStore``.

        Raises:
            StorageError: Reading failed.
        """
        held = frozenset(excluding)
        return await self._query(lambda db: rows.due(db, now_us, limit, held))

    async def unsettled(self, *, limit: int) -> list[EndedJob]:
        """Return ended jobs of whose end not everybody was told.

        Raises:
            StorageError: Reading failed.
        """
        return await self._query(lambda db: rows.unsettled(db, limit))

    async def next_due_us(self, *, excluding: Collection[str] = ()) -> int | None:
        """Return when the next active job is due; None where there is none.

        Raises:
            StorageError: Reading failed.
        """
        held = frozenset(excluding)
        return await self._query(lambda db: rows.next_due(db, held))

    async def wishes(self, *, limit: int) -> list[Wish]:
        """Return wishes not yet granted, oldest first.

        Raises:
            StorageError: Reading failed.
        """
        return await self._query(lambda db: rows.wishes(db, limit))

    async def counts(self, *, batch: str = "") -> JobCounts:
        """Return how many jobs, of a batch or of all, are in each state.

        Raises:
            StorageError: Reading failed.
        """
        return await self._query(lambda db: rows.counts(db, batch))

    async def page(
        self, wanted: JobFilter | None = None, *, limit: int = 100, after: int = 0
    ) -> list[ListedJob]:
        """Return jobs in the order in which they were added, behind position ``after``.

        Raises:
            StorageError: Reading failed.
        """
        return await self._query(lambda db: rows.page(db, wanted or JobFilter(), limit, after))

    async def owners(self, transcript_ids: Sequence[str]) -> dict[str, str]:
        """Return the job that each of the service's ids belongs to.

        Raises:
            StorageError: Reading failed.
        """
        return await self._query(lambda db: rows.owners(db, transcript_ids))

    async def _query(self, query: Callable[[apsw.Connection], T]) -> T:
        if self._closed:
            raise StorageError("the store of jobs is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._read_thread, self._read, query)

    def _read(self, query: Callable[[apsw.Connection], T]) -> T:
        try:
            if self._reader is None:
                self._reader = connect(self._path, readonly=True, busy_ms=self._settings.busy_ms)
            return query(self._reader)
        except (apsw.Error, OSError) as exc:
            raise mapped(exc) from exc
        except UnicodeDecodeError:
            raise IntegrityError("a stored job is damaged") from None


def _tell(changes: Sequence[_Change], error: StorageError | None) -> None:
    for change in changes:
        if change.future.done():  # its caller was cancelled
            continue
        if error is not None:
            change.future.set_exception(error)
        else:
            change.future.set_result(change.outcome)
