"""A file of JSON lines that is its own index of what has been stored.

A line counts once it is fsync'ed and ended by a line break; acknowledgements wait for that.
Whatever a killed process left behind after the last line break is cut off at the next start,
and the identities of the lines are read back, so a repeat after the kill is recognised.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from steno.errors import ConfigError, StorageError

INDEX_SIZE: Final = 1_000_000  # identities remembered; about 130 bytes each
MAX_WAITING: Final = 256  # submissions queued for the next fsync
_SCAN_BYTES: Final = 4 * 1024 * 1024


class Identity(msgspec.Struct, frozen=True, gc=False):
    """What of a line says whether it is a repeat."""

    key: str = ""
    revision: int = 0


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line to be stored. Without ``key`` it cannot be told from a repeat and is kept."""

    key: str
    revision: int
    data: bytes  # ended by a line break


def identity(key: str, revision: int) -> bytes:
    """Return the 16 bytes under which a record is remembered."""
    return blake2b(f"{key}.{revision}".encode(), digest_size=16).digest()


class LinesFile:
    """The file itself. Its methods block; one thread at a time calls them.

    Args:
        path: The file; None is standard output, which is neither read back nor fsync'ed.
    """

    def __init__(self, path: Path | None, *, index_size: int = INDEX_SIZE) -> None:
        self._path = path
        self._index_size = index_size
        self._fd = -1
        self._size = 0
        self._is_torn = False
        self.damaged_lines = 0
        self.repaired_bytes = 0

    def open(self) -> dict[bytes, None]:
        """Open, repair and read back; return the remembered identities, oldest first.

        Raises:
            ConfigError: Another process writes this file, or it is not a regular file of ours.
            StorageError: The file cannot be opened or read.
        """
        if self._path is None:
            self._fd = sys.stdout.fileno()
            return {}
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(self._path, flags, 0o600)
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                raise ConfigError("the output is not a regular file", setting="out")
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return self._read_back()
        except BlockingIOError:
            raise ConfigError(
                "another process writes the output file",
                setting="out",
                fix="Stop it, or choose another file.",
            ) from None
        except OSError as exc:
            raise StorageError("the output file cannot be opened", errno=exc.errno) from exc

    def append(self, data: bytes) -> None:
        """Write whole lines and make them durable; on an error the file is as before.

        Raises:
            StorageError: Nothing was stored.
        """
        written = 0
        try:
            self._take_back()
            self._is_torn = self._path is not None
            while written < len(data):
                written += os.write(self._fd, data[written:] if written else data)
            if self._path is not None:
                os.fdatasync(self._fd)
        except OSError as exc:
            with contextlib.suppress(OSError):  # tried again before the next write
                self._take_back()
            raise StorageError("the output file cannot be written", errno=exc.errno) from exc
        self._size += len(data)
        self._is_torn = False

    def _take_back(self) -> None:
        """Cut off what a failed write left behind."""
        if self._is_torn:
            os.ftruncate(self._fd, self._size)
            self._is_torn = False

    def close(self) -> None:
        """Let go of the file and its lock."""
        if self._path is not None and self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _read_back(self) -> dict[bytes, None]:
        index: dict[bytes, None] = {}
        decode = msgspec.json.Decoder(Identity).decode
        rest = b""
        end = 0
        while block := os.pread(self._fd, _SCAN_BYTES, end):
            end += len(block)
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                try:
                    found = decode(line)
                except msgspec.MsgspecError:
                    self.damaged_lines += 1
                    continue
                if found.key:
                    remember(index, identity(found.key, found.revision), self._index_size)
        self._size = end - len(rest)
        if rest:
            self.repaired_bytes = len(rest)
            os.ftruncate(self._fd, self._size)
            os.fdatasync(self._fd)
        return index


def remember(index: dict[bytes, None], name: bytes, limit: int) -> None:
    """Add an identity, and forget the oldest one beyond the limit."""
    index[name] = None
    if len(index) > limit:
        del index[next(iter(index))]


class LineStore:
    """Stores lines durably, many submissions per fsync; drops repeats.

    ``run`` must be running. The file work happens in one thread, off the loop.
    """

    def __init__(self, file: LinesFile, *, index_size: int = INDEX_SIZE) -> None:
        self._file = file
        self._index_size = index_size
        self._index: dict[bytes, None] = {}
        self._queue: list[tuple[Sequence[Line], asyncio.Future[StorageError | None]]] = []
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._wake = asyncio.Event()
        self._ending = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="consumer-file")
        self.stored = 0
        self.repeated = 0
        self.without_key = 0

    async def open(self) -> None:
        """Open and read back the file.

        Raises:
            ConfigError, StorageError: As ``LinesFile.open``.
        """
        loop = asyncio.get_running_loop()
        self._index = await loop.run_in_executor(self._thread, self._file.open)

    async def submit(self, lines: Sequence[Line]) -> asyncio.Future[StorageError | None]:
        """Queue lines; the future resolves once they, and all queued before, are durable.

        Waits while the queue is full. The future's result is the error when nothing of the
        group was stored, else None: a sender that has gone leaves no unread exception behind.
        """
        await self._room.acquire()
        done: asyncio.Future[StorageError | None] = asyncio.get_running_loop().create_future()
        self._queue.append((lines, done))
        self._wake.set()
        return done

    async def run(self) -> None:
        """Write groups until ``end`` and the queue is empty."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                group, self._queue = self._queue, []
                await self._store(group)
            if self._ending:
                return

    def end(self) -> None:
        """Let ``run`` return after what is queued."""
        self._ending = True
        self._wake.set()

    def close(self) -> None:
        """Close the file; call it after ``run`` has returned."""
        self._thread.submit(self._file.close).result()
        self._thread.shutdown()

    async def _store(
        self, group: list[tuple[Sequence[Line], asyncio.Future[StorageError | None]]]
    ) -> None:
        fresh: dict[bytes, None] = {}
        parts: list[bytes] = []
        repeated = without_key = 0
        for lines, _ in group:
            for line in lines:
                if not line.key:
                    without_key += 1
                else:
                    name = identity(line.key, line.revision)
                    if name in self._index or name in fresh:
                        repeated += 1
                        continue
                    fresh[name] = None
                parts.append(line.data)
        failure: StorageError | None = None
        if parts:
            loop = asyncio.get_running_loop()
            data = b"".join(parts)
            try:
                await loop.run_in_executor(self._thread, self._file.append, data)
            except StorageError as exc:
                failure = exc
        if failure is None:
            for name in fresh:
                remember(self._index, name, self._index_size)
            self.stored += len(parts)
            self.repeated += repeated
            self.without_key += without_key
        for _, done in group:
            self._room.release()
            if not done.done():  # else its sender has gone; what it sent is stored all the same
                done.set_result(failure)
