"""The durable store: commits queued by the event loop, written by one thread.

The loop appends to a queue; the writer thread takes what is queued, writes it in one transaction
and hands all results back in one call. When nothing was written lately a commit goes out at
once; while commits are flowing it waits up to ``group_wait_s`` for company, or until
``group_records`` are there. Outcomes of deliveries ride along, and wait a little longer: losing
one means a repeat that the consumer drops.

The log is folded back into the main file by a second connection, so that the writer does not
wait for it; the writer only does the small rest that came meanwhile.

Leases are kept by the relay in memory and never written: one process owns the state directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from steno.adapters.store_sqlite import admin
from steno.adapters.store_sqlite.ballast import Ballast
from steno.adapters.store_sqlite.crash import VARIABLE, crash_point
from steno.adapters.store_sqlite.faults import breaks_store, is_full, mapped
from steno.adapters.store_sqlite.reader import pending_page
from steno.adapters.store_sqlite.salvage import (
    QUICK_CHECK_BYTES,
    OpenReport,
    alive_path,
    open_store,
    quick_check,
)
from steno.adapters.store_sqlite.schema import connect
from steno.adapters.store_sqlite.sql import fetch
from steno.adapters.store_sqlite.writer import Writer
from steno.core.records import Kind, Record
from steno.delivery.ids import first_position
from steno.errors import IntegrityError, StorageError, StorageFull
from steno.ports import Commit, DeliveryState, Pending, Settlement

T = TypeVar("T")
_Done = list[tuple["asyncio.Future[Any]", Any, BaseException | None]]

_IDLE_S = 1.0
_ROOM_EVERY_S = 0.25
_CLOSE_S = 10.0


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the store groups, bounds and keeps.

    Attributes:
        group_wait_s: Longest wait for company while commits are flowing, seconds.
        group_records: Records that end the wait.
        settle_wait_s: Longest wait of outcomes for a commit to ride on, seconds.
        transaction_records: Most records in one transaction.
        queued_records: Most records waiting; beyond it ``submit`` fails (and can be repeated).
        ballast_bytes: Space kept back for a full disk; 0 for none.
        checkpoint_records: Records after which the log is folded back.
        busy_ms: Longest wait for another process's transaction, milliseconds.
        follows: The owner listens to live sources. Only then it is noted that it is alive: for
            the gap of the time when nobody listens, a command that only delivers is nobody.
    """

    group_wait_s: float = 0.005
    group_records: int = 100
    settle_wait_s: float = 0.02
    transaction_records: int = 2000
    queued_records: int = 200_000
    ballast_bytes: int = 16 << 20
    checkpoint_records: int = 4000
    busy_ms: int = 5000
    follows: bool = True


class _Job(msgspec.Struct, frozen=True, gc=False):
    work: Callable[[apsw.Connection], Any]
    future: asyncio.Future[Any]


class _Batch(msgspec.Struct, gc=False):
    commits: list[tuple[Commit, asyncio.Future[list[Record]]]]
    settles: list[tuple[Sequence[Settlement], asyncio.Future[None]]]
    jobs: list[_Job]


class SqliteStore:
    """``ports.RecordStore`` in a SQLite file. Make it with ``open``, then ``start`` it.

    Attributes:
        report: In what state the store was found.
    """

    def __init__(
        self,
        path: Path,
        db: apsw.Connection,
        report: OpenReport,
        destinations: Mapping[str, frozenset[Kind]],
        settings: StoreSettings,
        *,
        now_us: Callable[[], int],
        crash_at: str,
        vfs: str | None,
    ) -> None:
        self.report = report
        self._path = path
        self._db = db
        self._settings = settings
        self._now_us = now_us
        self._vfs = vfs
        self._writer = Writer(
            db,
            destinations,
            now_us=now_us,
            draw=random.SystemRandom().getrandbits,
            crash=crash_point(crash_at),
            follows=settings.follows,
        )
        self._ballast = Ballast(path.with_name(path.name + "-ballast"), settings.ballast_bytes)
        self._lock = threading.Condition()
        self._commits: deque[tuple[Commit, asyncio.Future[list[Record]]]] = deque()
        self._settles: deque[tuple[Sequence[Settlement], asyncio.Future[None]]] = deque()
        self._jobs: deque[_Job] = deque()
        self._queued_records = 0
        self._settles_since = 0.0
        self._wakes_on_commit = False
        self._wakes_on_settle = False
        self._closing = False
        self._unfinished = 0
        self._broken: StorageError | None = None
        self._full = False
        self._room_at = 0.0
        self._last_started = 0.0
        self._records_since_checkpoint = 0
        self._transactions_since_checkpoint = 0
        self._log_is_long = False
        self._checkpointing = False
        self._fold_rest = False
        self._reader: apsw.Connection | None = None
        self._callbacks: list[Callable[[list[Record]], None]] = []
        self._change_callbacks: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="steno-store", daemon=True)
        self._side = ThreadPoolExecutor(1, thread_name_prefix="steno-store-side")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed: asyncio.Future[None] | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        destinations: Mapping[str, frozenset[Kind]],
        settings: StoreSettings | None = None,
        *,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        crash_at: str | None = None,
        vfs: str | None = None,
        synchronous: str = "FULL",
    ) -> SqliteStore:
        """Return the store of a file, made, brought up to date or salvaged where need be.

        Blocks on the disk. The caller holds the lock of the state directory.

        Args:
            destinations: Kinds each destination carries; only those are delivered to it.
            crash_at: See ``crash``; from the environment by default.
            vfs, synchronous: For fault tests only.

        Raises:
            StorageError: It cannot be opened, or was written by a newer program.
        """
        chosen = settings or StoreSettings()
        db, report = open_store(path, now_us=now_us, vfs=vfs, synchronous=synchronous)
        try:
            store = cls(
                path, db, report, destinations, chosen, now_us=now_us, vfs=vfs,
                crash_at=os.environ.get(VARIABLE, "") if crash_at is None else crash_at,
            )  # fmt: skip
        except apsw.Error as exc:
            db.close(True)
            raise mapped(exc) from exc
        except StorageError:
            db.close(True)
            raise
        store._ballast.make()
        return store

    def start(self) -> None:
        """Start the writer for the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._failed = self._loop.create_future()
        self._thread.start()
        if self._path.stat().st_size > QUICK_CHECK_BYTES:
            self._side.submit(self._check_beside)

    # --- the port --------------------------------------------------------------------------

    def submit(self, commit: Commit) -> asyncio.Future[list[Record]]:
        """Queue a commit; see ``ports.RecordStore``.

        Raises:
            StorageError: Through the future; ``retryable`` (``StorageFull``) when there is no
                room now.
        """
        future = self._new_future()
        if self._refused(future):
            return future
        drafts = len(commit.drafts)
        with self._lock:
            if self._queued_records + drafts > self._settings.queued_records:
                future.set_exception(StorageFull("the store cannot keep up with the commits"))
                return future
            self._queued_records += drafts
            self._unfinished += 1
            self._commits.append((commit, future))
            if self._wakes_on_commit or (
                self._queued_records >= self._settings.group_records
                and self._queued_records - drafts < self._settings.group_records
            ):
                self._lock.notify()
        return future

    def settle(self, settlements: Sequence[Settlement]) -> asyncio.Future[None]:
        """Queue outcomes; they ride on the next transaction."""
        future: asyncio.Future[None] = self._new_future()
        if self._refused(future):
            return future
        with self._lock:
            if not self._settles:
                self._settles_since = time.monotonic()
            self._settles.append((settlements, future))
            if self._wakes_on_settle:
                self._wakes_on_settle = False
                self._lock.notify()
        return future

    def on_committed(self, callback: Callable[[list[Record]], None]) -> None:
        """Call back on the loop with each transaction's new records, in commit order."""
        self._callbacks.append(callback)

    def on_changed(self, callback: Callable[[], None]) -> None:
        """Call back on the loop when something else has changed what is pending.

        That is a redrive, a purge or an erasure, by this process or another one beside it.
        """
        self._change_callbacks.append(callback)

    async def pending(self, destination: str, *, limit: int, after: int = 0) -> list[Pending]:
        """Return unsettled records of a destination, oldest first, behind position ``after``.

        A damaged record becomes a dead letter and is left out.

        Raises:
            StorageError: Reading failed.
        """
        found, damaged = await self._beside(lambda db: _pages(db, destination, limit, after))
        if damaged:
            reason = IntegrityError.__name__
            self.settle(
                [Settlement(r, destination, DeliveryState.DEAD, 0, reason) for r in damaged]
            ).add_done_callback(_observed)
        return found

    async def windows(self) -> dict[str, bytes]:
        """Return the journalled open windows, encrypted.

        Raises:
            StorageError: Reading failed.
        """
        return await self._beside(
            lambda db: {str(k): bytes(v) for k, v in fetch(db, "SELECT key, sealed FROM windows")}
        )

    @property
    def depth(self) -> int:
        """Commits queued and not yet durable."""
        return self._unfinished

    @property
    def full(self) -> bool:
        """Whether the disk is full: nothing new is taken, what is stored is still delivered."""
        return self._full

    @property
    def failed(self) -> asyncio.Future[None]:
        """Fails when the store can acknowledge nothing any more: the process has to restart."""
        assert self._failed is not None, "start() comes first"
        return self._failed

    # --- an operator's changes, inside the owner -------------------------------------------

    async def retain(self, *, acked_before_us: int, dead_before_us: int) -> tuple[int, int]:
        """Delete what retention no longer keeps, in slices between which commits go on.

        Returns:
            Settled records and dead letters deleted.

        Raises:
            StorageError: A write failed.
        """

        def begin(db: apsw.Connection) -> tuple[int, int]:
            dead = admin.purge_dead(db, before_us=dead_before_us)
            if dead:
                self._writer.sweep_again()
            return dead, self._writer.begin_sweep(first_position(acked_before_us // 1000) - 1)

        dead, after = await self._run_job(begin)
        settled = 0
        while True:
            work = partial(admin.purge_settled, before_us=acked_before_us, after=after)
            count, after = await self._run_job(work)
            settled += count
            if not after:
                await self._run_job(lambda _: self._writer.finish_sweep())
                return settled, dead

    async def retain_timeline(self, before_us: int) -> int:
        """Delete timelines that are over and delivered, in slices between which commits go on.

        See ``admin.purge_timeline``.

        Args:
            before_us: Timelines whose newest record was committed before go, UTC microseconds.

        Returns:
            Records deleted.

        Raises:
            StorageError: A write failed.
        """
        deleted, after = 0, 0
        while True:
            work = partial(admin.purge_timeline, before_us=before_us, after=after)
            count, after = await self._run_job(work)
            deleted += count
            if not after:
                return deleted

    async def redrive(self, *, record_id: str | None = None, destination: str | None = None) -> int:
        """Make dead letters pending again; see ``admin.redrive``.

        Raises:
            StorageError: The destination is unknown or the write failed.
        """
        count = await self._run_job(
            lambda db: admin.redrive(db, record_id=record_id, destination=destination)
        )
        self._tell_changed()
        return count

    async def erase(self, conversation: str) -> admin.Erased:
        """Delete everything kept of a conversation; see ``admin.erase``.

        Raises:
            StorageError: Nothing was erased, or the log could not be cleared.
        """
        erased = await self._run_job(lambda db: admin.erase(db, conversation, at_us=self._now_us()))
        self._tell_changed()
        return erased

    async def close(self) -> None:
        """Write what is queued, fold the log back, and let go of the file.

        Raises:
            StorageError: The disk did not answer in time.
        """
        with self._lock:
            already = self._closing
            self._closing = True
            self._lock.notify()
        if already:
            return
        if self._loop is not None:
            try:
                async with asyncio.timeout(_CLOSE_S):
                    while self._thread.is_alive():
                        await asyncio.to_thread(self._thread.join, _IDLE_S)
            except TimeoutError:
                raise StorageError("the store did not close in time") from None
            # The last results were handed over before the thread ended.
            await asyncio.sleep(0)
            assert self._failed is not None
            if not self._failed.done():
                self._failed.cancel()
            elif not self._failed.cancelled():
                self._failed.exception()  # seen; whoever watched it has acted
        self._side.shutdown(wait=True)
        if self._reader is not None:
            self._reader.close(True)
        self._db.close(True)

    # --- loop side -------------------------------------------------------------------------

    def _new_future(self) -> asyncio.Future[Any]:
        if self._loop is None:
            raise StorageError("the store has not been started")
        return self._loop.create_future()

    def _refused(self, future: asyncio.Future[Any]) -> bool:
        if self._broken is not None:
            future.set_exception(self._broken)
        elif self._closing:
            future.set_exception(StorageError("the store is closed"))
        return future.done()

    async def _run_job(self, work: Callable[[apsw.Connection], T]) -> T:
        future = self._new_future()
        if not self._refused(future):
            with self._lock:
                self._jobs.append(_Job(work, future))
                self._lock.notify()
        return await future  # type: ignore[no-any-return]  # the future of ``work``'s result

    async def _beside(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run a query on the side thread, with its own connection."""
        assert self._loop is not None, "start() comes first"

        def query() -> T:
            try:
                if self._reader is None:
                    self._reader = connect(self._path, readonly=True, vfs=self._vfs)
                return work(self._reader)
            except apsw.Error as exc:
                raise mapped(exc) from exc
            except UnicodeDecodeError:
                raise IntegrityError("a stored record is damaged") from None

        return await self._loop.run_in_executor(self._side, query)

    def _finish(self, done: _Done, new: list[Record], changed: bool) -> None:
        for future, value, error in done:
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        if new:
            for callback in self._callbacks:
                callback(new)
        if changed:
            self._tell_changed()

    def _tell_changed(self) -> None:
        for callback in self._change_callbacks:
            callback()

    def _fail(self, error: StorageError) -> None:
        assert self._failed is not None
        if not self._failed.done():
            self._failed.set_exception(error)

    # --- writer thread ---------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            batch = self._take()
            if batch is None:
                break
            if self._fold_rest:
                self._checkpoint_rest()
            if batch.commits or batch.settles:
                self._write(batch)
            for job in batch.jobs:
                self._do(job)
            if not (batch.commits or batch.settles or batch.jobs):
                self._idle()
        self._leave()

    def _take(self) -> _Batch | None:
        """Wait for work and take it; an empty batch for a second without any, None at the end."""
        lock = self._lock
        with lock:
            while True:
                wait_s = self._wait_s(time.monotonic())
                if wait_s <= 0:
                    break
                idle = not self._commits and not self._settles
                self._wakes_on_commit = not self._commits
                self._wakes_on_settle = idle
                woken = lock.wait(wait_s)
                self._wakes_on_commit = self._wakes_on_settle = False
                if idle and not woken:
                    return _Batch([], [], [])
            if self._closing and not (self._commits or self._settles or self._jobs):
                return None
            return self._popped()

    def _wait_s(self, now: float) -> float:
        settings = self._settings
        if self._jobs or self._closing or self._queued_records >= settings.group_records:
            return 0.0
        if self._commits:
            return self._last_started + settings.group_wait_s - now
        if self._settles:
            return self._settles_since + settings.settle_wait_s - now
        return _IDLE_S

    def _popped(self) -> _Batch:
        batch = _Batch([], list(self._settles), list(self._jobs))
        self._settles.clear()
        self._jobs.clear()
        records = 0
        while self._commits and records < self._settings.transaction_records:
            item = self._commits.popleft()
            records += len(item[0].drafts)
            batch.commits.append(item)
        self._queued_records -= records
        return batch

    def _write(self, batch: _Batch) -> None:
        self._last_started = time.monotonic()
        if self._broken is not None:
            self._hand_over(batch, error=self._broken)
            return
        if self._full and batch.commits and not self._has_room():
            self._hand_over(_Batch(batch.commits, [], []), error=StorageFull())
            batch.commits = []
            if not batch.settles:
                return
        try:
            self._transaction(batch)
        except Exception as exc:  # noqa: BLE001  # a value SQLite cannot take must not end the thread
            self._write_failed(batch, exc)

    def _transaction(self, batch: _Batch) -> None:
        settlements: list[Settlement] = []
        for some, _ in batch.settles:
            settlements += some
        results, changed = self._writer.apply([c for c, _ in batch.commits], settlements)
        done: _Done = [
            (future, records, None)
            for (_, future), records in zip(batch.commits, results, strict=True)
        ]
        done += [(future, None, None) for _, future in batch.settles]
        new = [record for records in results for record in records]
        self._to_loop(done, new, changed, len(batch.commits))
        self._records_since_checkpoint += len(new)
        self._transactions_since_checkpoint += 1
        self._log_is_long = True
        self._maybe_checkpoint()

    def _write_failed(self, batch: _Batch, exc: Exception) -> None:
        error = mapped(exc)
        if breaks_store(exc):
            self._break(error)
            self._hand_over(batch, error=error)
        elif is_full(exc):
            self._full = True
            self._room_at = time.monotonic() + _ROOM_EVERY_S
            self._ballast.release()
            self._hand_over(_Batch(batch.commits, [], []), error=error)
            if batch.settles:
                self._alone(_Batch([], batch.settles, []))
        elif len(batch.commits) + len(batch.settles) > 1:
            # One of them may be what cannot be stored: each by itself then.
            for commit in batch.commits:
                self._alone(_Batch([commit], [], []))
            for settle in batch.settles:
                self._alone(_Batch([], [settle], []))
        else:
            self._hand_over(batch, error=error)

    def _alone(self, batch: _Batch) -> None:
        try:
            if self._broken is not None:
                raise self._broken
            self._transaction(batch)
        except Exception as exc:  # noqa: BLE001  # as above
            error = mapped(exc)
            if breaks_store(exc):
                self._break(error)
            self._hand_over(batch, error=error)

    def _hand_over(self, batch: _Batch, *, error: StorageError) -> None:
        done: _Done = [(future, None, error) for _, future in batch.commits]
        done += [(future, None, error) for _, future in batch.settles]
        self._to_loop(done, [], False, len(batch.commits))

    def _to_loop(self, done: _Done, new: list[Record], changed: bool, commits: int) -> None:
        assert self._loop is not None
        if commits:
            with self._lock:
                self._unfinished -= commits
        with contextlib.suppress(RuntimeError):  # the loop has been closed; nobody waits
            self._loop.call_soon_threadsafe(self._finish, done, new, changed)

    def _break(self, error: StorageError) -> None:
        assert self._loop is not None
        self._broken = error
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._fail, error)

    def _has_room(self) -> bool:
        now = time.monotonic()
        if now < self._room_at:
            return False
        self._room_at = now + _ROOM_EVERY_S
        self._full = not self._ballast.make()
        return not self._full

    def _do(self, job: _Job) -> None:
        value: Any = None
        error: BaseException | None = self._broken
        if error is None:
            try:
                value = job.work(self._db)
            except Exception as exc:  # noqa: BLE001  # as above
                error = mapped(exc)
                if breaks_store(exc):
                    self._break(error)
            self._writer.forget()
        self._to_loop([(job.future, value, error)], [], False, 0)

    def _idle(self) -> None:
        """Once a second without work: heartbeat, foreign changes, folding the log back."""
        if self._settings.follows:
            path = alive_path(self._path)
            with contextlib.suppress(OSError):
                path.touch(mode=0o600)
                os.utime(path)
        if self._full:
            self._has_room()
        if self._broken is not None:
            return
        try:
            if self._writer.changed_outside():
                self._to_loop([], [], True, 0)
        except apsw.Error as exc:
            if breaks_store(exc):
                self._break(mapped(exc))
            return
        if self._log_is_long and not self._checkpointing:
            self._log_is_long = False
            self._start_checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _leave(self) -> None:
        if self._broken is not None:
            return
        report, follows = self.report, self._settings.follows
        is_clean = follows or report.created or report.clean_shutdown
        with contextlib.suppress(apsw.Error):
            self._db.execute(
                "INSERT OR REPLACE INTO meta(name, value)"
                " VALUES('clean_shutdown', ?), ('last_alive_us', ?)",
                (int(is_clean), self._now_us() if follows else report.last_alive_us),
            )

    # --- folding the log back --------------------------------------------------------------

    def _maybe_checkpoint(self) -> None:
        due = (
            self._records_since_checkpoint >= self._settings.checkpoint_records
            or self._transactions_since_checkpoint >= self._settings.checkpoint_records // 10
        )
        if due and not self._checkpointing:
            self._start_checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _start_checkpoint(self, mode: int) -> None:
        self._checkpointing = True
        self._records_since_checkpoint = 0
        self._transactions_since_checkpoint = 0
        with contextlib.suppress(RuntimeError):  # closing: the last connection folds it back
            self._side.submit(self._checkpoint_beside, mode)

    def _checkpoint_beside(self, mode: int) -> None:
        try:
            db = connect(self._path, busy_ms=100, vfs=self._vfs)
            try:
                db.wal_checkpoint(mode=mode)
            finally:
                db.close()
            self._fold_rest = mode == apsw.SQLITE_CHECKPOINT_PASSIVE
        except (apsw.Error, StorageError) as exc:
            self._checkpoint_failed(exc)
        finally:
            self._checkpointing = False

    def _checkpoint_rest(self) -> None:
        """Fold back what came while the side thread did the bulk; then the log starts over."""
        self._fold_rest = False
        try:
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as exc:
            self._checkpoint_failed(exc)

    def _checkpoint_failed(self, exc: Exception) -> None:
        # No room or busy: the log only grows and the next time may do.
        if breaks_store(exc):
            self._break(mapped(exc))

    def _check_beside(self) -> None:
        try:
            db = connect(self._path, readonly=True, vfs=self._vfs)
            try:
                quick_check(db)
            finally:
                db.close()
        except StorageError as exc:
            if isinstance(exc, IntegrityError):
                self._break(exc)


def _pages(
    db: apsw.Connection, destination: str, limit: int, after: int
) -> tuple[list[Pending], list[str]]:
    """Read until ``limit`` whole records or the end: fewer must mean that there are no more."""
    found: list[Pending] = []
    damaged: list[str] = []
    while True:
        page, bad, last = pending_page(db, destination, limit - len(found), after)
        found += page
        damaged += bad
        if not bad or len(found) >= limit:
            return found, damaged
        after = last


def _observed(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


__all__ = ["OpenReport", "SqliteStore", "StoreSettings"]
