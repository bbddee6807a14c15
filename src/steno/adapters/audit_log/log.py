"""The audit log as the services use it: ``await append(entry)``, durable when it returns.

One thread does all file work. What is appended while it writes shares its next write and fsync,
up to ``MAX_BATCH`` entries; ``MAX_WAITING`` may wait, further callers wait for room.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Self

from steno.adapters.audit_log.files import AuditPlaces
from steno.adapters.audit_log.writer import (
    DEFAULT_CHECKPOINT_EVERY,
    DEFAULT_MAX_BYTES,
    ChainWriter,
)
from steno.core.audit_chain import AuditEntry, Tip, entry_line
from steno.errors import StenoError, StorageError
from steno.ports import Telemetry

MAX_BATCH: Final = 256
MAX_WAITING: Final = 4096
DEFAULT_CHECKPOINT_S: Final = 60.0

_Waiting = tuple[AuditEntry, asyncio.Future[int]]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class AuditLog:
    """Writes the audit log of one process; an asynchronous context manager.

    Args:
        places: Where its parts lie (``AuditPlaces.of``).
        telemetry: Told of a recovery, and of checkpoints that failed.
        clock: The time, aware.
        checkpoint_every: Lines after which a checkpoint follows at the latest.
        checkpoint_s: Seconds after which one follows while there is something new.
        max_bytes: A file that has grown to this is put away.
    """

    def __init__(
        self,
        places: AuditPlaces,
        *,
        telemetry: Telemetry,
        clock: Callable[[], datetime] = _utc_now,
        checkpoint_every: int = DEFAULT_CHECKPOINT_EVERY,
        checkpoint_s: float = DEFAULT_CHECKPOINT_S,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        self._writer = ChainWriter(
            places,
            clock=clock,
            telemetry=telemetry,
            checkpoint_every=checkpoint_every,
            max_bytes=max_bytes,
        )
        self._telemetry = telemetry
        self._checkpoint_s = checkpoint_s
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()  # guarded by the condition
        self._ending = False  # guarded by the condition
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        """Take the log.

        Raises:
            StorageError: Another process writes it, or it cannot be used.
            StorageFull: There is no room.
            IntegrityError: It is not as its writer left it.
            ConfigError: The key file can be used by others.
        """
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._writer.open)
        self._thread = threading.Thread(target=self._run, name="audit-log", daemon=True)
        self._thread.start()

    @property
    def key_id(self) -> str:
        """Fingerprint of the key that signs; once open."""
        return self._writer.key_id

    async def append(self, entry: AuditEntry) -> int:
        """Write an entry; return its number once it is durable.

        A caller that is cancelled leaves it open whether the entry was written.

        Raises:
            ValueError: A field is not of the log's grammar.
            StorageFull: There is no room; the entry does not count, try again later.
            StorageError: The log is closed, or its disk failed.
        """
        entry_line(Tip(), entry, at=_EPOCH)  # here, so that it fails for this caller alone
        loop = asyncio.get_running_loop()
        async with self._room:
            future: asyncio.Future[int] = loop.create_future()
            with self._changed:
                if self._thread is None or self._ending:
                    raise StorageError("the audit log is closed")
                self._waiting.append((entry, future))
                self._changed.notify()
            return await future

    async def close(self) -> None:
        """Write what waits, seal the log and let go of it.

        A checkpoint that fails is told to telemetry: what was acknowledged is there.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._changed:
            self._ending = True
            self._changed.notify()
        await asyncio.to_thread(thread.join)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # --- the thread ---

    def _run(self) -> None:
        try:
            self._work()
        finally:  # whatever happens, nobody waits for a thread that is gone
            with self._changed:
                self._ending = True
                left = list(self._waiting)
                self._waiting.clear()
            if left:
                self._answer(left, StorageError("the audit log is closed"))

    def _work(self) -> None:
        due: float | None = None  # monotonic seconds
        while True:
            batch, ending = self._next_batch(due)
            if batch:
                self._write(batch)
            if due is not None and time.monotonic() >= due:
                self._sealed(self._writer.seal)
                due = None
            if due is None and self._writer.tip.unsealed:
                due = time.monotonic() + self._checkpoint_s
            if ending and not batch:
                break
        self._sealed(self._writer.close)

    def _next_batch(self, due: float | None) -> tuple[list[_Waiting], bool]:
        with self._changed:
            while not self._waiting and not self._ending:
                left = None if due is None else due - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
            count = min(len(self._waiting), MAX_BATCH)
            return [self._waiting.popleft() for _ in range(count)], self._ending

    def _write(self, batch: list[_Waiting]) -> None:
        entries = [entry for entry, _ in batch]
        outcome: list[int] | Exception
        try:
            outcome = self._writer.write(entries)
        except Exception as error:  # noqa: BLE001  # the callers' to judge, whatever it is
            outcome = error
        self._answer(batch, outcome)

    def _answer(self, batch: list[_Waiting], outcome: list[int] | Exception) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
            self._loop.call_soon_threadsafe(_tell, batch, outcome)

    def _sealed(self, seal: Callable[[], None]) -> None:
        try:
            seal()
        except StenoError as error:
            self._telemetry.warning("audit.checkpoint_failed", error_class=error.error_class)


def _tell(batch: list[_Waiting], outcome: list[int] | Exception) -> None:
    for place, (_, future) in enumerate(batch):
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome[place])
