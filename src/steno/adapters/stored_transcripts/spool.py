"""A body kept until somebody wants it: in memory while it is small, else in a file without name.

The file is readable by its owner only and unlinked before the first byte is in it, so nothing
stays of it when the process ends, however it ends.
"""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Final

from steno.errors import StorageError, StorageFull

MEMORY_BYTES: Final = 1 << 20
BLOCK_BYTES: Final = 1 << 19


class Spool:
    """Takes a body and gives it out again.

    Args:
        folder: Where the file is made; the system's place for such files if None.
        memory_bytes: Kept in memory up to this.
    """

    def __init__(self, folder: Path | None = None, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self.size = 0

    async def add(self, data: bytes) -> None:
        """Keep what comes next.

        Raises:
            StorageFull, StorageError: The file cannot be written.
        """
        self._memory += data
        self.size += len(data)
        if len(self._memory) > self._memory_bytes:
            await asyncio.to_thread(self._flush)

    async def blocks(self) -> AsyncIterator[bytes]:
        """Give the body from its start.

        Raises:
            StorageError: The file cannot be read.
        """
        if self._file is None:
            for start in range(0, len(self._memory), BLOCK_BYTES):
                yield bytes(self._memory[start : start + BLOCK_BYTES])
            return
        await asyncio.to_thread(self._flush)
        at = 0
        while at < self.size:
            block = await asyncio.to_thread(self._read, at)
            at += len(block)
            yield block

    def close(self) -> None:
        """Let go of it."""
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _flush(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
            data = memoryview(self._memory)
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise _mapped(error) from None
        self._memory = bytearray()

    def _read(self, at: int) -> bytes:
        if self._file is None:
            raise StorageError("the spooled transcript is gone")
        try:
            block = os.pread(self._file.fileno(), BLOCK_BYTES, at)
        except OSError as error:
            raise _mapped(error) from None
        if not block:
            raise StorageError("the spooled transcript is shorter than it was")
        return block


def _mapped(error: OSError) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("no space is left to spool a transcript")
    return StorageError("a transcript cannot be spooled", error=type(error).__name__)
