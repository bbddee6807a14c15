"""A file of one's own that is appended to in whole pieces, durably.

The file always ends with a whole piece: what a killed process left unfinished is cut off when
the file is opened again, and a write that failed is taken back.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from pathlib import Path
from typing import Final

from steno.adapters.durable_files import sync_folder, write_all
from steno.errors import StorageError

STDOUT: Final = "-"
TAIL_BYTES: Final = 4 * 1024 * 1024
"""What is read back of a file; far more than one piece."""


class AppendedFile:
    """Appends to a file; called from one thread at a time.

    Args:
        path: The file; made with mode 0600, in a folder that exists.
        header: What the file begins with; ends like a piece.
        end: Bytes that end every piece and occur nowhere else.
    """

    def __init__(self, path: Path, *, header: bytes = b"", end: bytes = b"\n") -> None:
        self._path = path
        self._header = header
        self._end = end
        self._fd = -1
        self._size = 0

    @property
    def size_bytes(self) -> int:
        """Length of the file, once it has been opened."""
        return self._size

    @property
    def is_open(self) -> bool:
        """Whether it holds the file, and with it the lock, and the file is still in its place.

        What was moved or removed from there is not seen by anybody who reads the place.
        """
        if self._fd < 0:
            return False
        try:
            return os.path.samestat(os.lstat(self._path), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def open(self) -> bytes:
        """Open, lock and repair the file; return its last whole pieces.

        Raises:
            StorageError: It cannot be a file of ours, or another process writes it.
            OSError: It cannot be opened.
        """
        self.close()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        # A device or pipe must not keep us waiting: what it is, is looked at next.
        fd = os.open(self._path, flags | os.O_NONBLOCK, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise StorageError("the path is not a regular file")
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StorageError("another process writes the file") from None
            pieces = self._repair(fd)
            sync_folder(self._path.parent)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return pieces

    def write(self, data: bytes) -> None:
        """Append whole pieces to the open file, and return once they are durable.

        Raises:
            OSError: The file is as it was before, and closed.
        """
        try:
            write_all(self._fd, data)
            os.fdatasync(self._fd)
        except OSError:
            # After a failed fsync the kernel may have dropped the pages: start again from what
            # is known to be there, with a descriptor that has no such past.
            try:
                os.ftruncate(self._fd, self._size)
            finally:
                self.close()
            raise
        self._size += len(data)

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _repair(self, fd: int) -> bytes:
        """Cut off an unfinished last piece; write the header where there is none."""
        size = os.fstat(fd).st_size
        start = max(0, size - TAIL_BYTES)
        tail = os.pread(fd, size - start, start)
        found = tail.rfind(self._end)
        whole = found + len(self._end) if found >= 0 else 0
        if whole == 0 and start > 0:
            raise StorageError("the file holds something else")
        header = self._header
        if header and os.pread(fd, min(size, len(header)), 0) != header[:size]:
            raise StorageError("the file holds something else")
        if whole < len(tail):
            os.ftruncate(fd, start + whole)
        self._size = start + whole
        if header and not self._size:
            try:
                write_all(fd, header)
            except OSError:
                os.ftruncate(fd, 0)
                raise
            self._size = len(header)
        os.fdatasync(fd)  # what is returned counts as durable
        return tail[len(header) if start == 0 else 0 : whole]


class AppendedStdout:
    """Appends to standard output, which is not ours to close."""

    def write(self, data: bytes) -> None:
        """Write at once; durably where it is a file.

        Raises:
            StorageError: It cannot be written.
        """
        try:
            sys.stdout.flush()
            fd = sys.stdout.fileno()
            write_all(fd, data)
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.fdatasync(fd)
        except (OSError, ValueError) as exc:  # ValueError: closed, or not a real file
            raise StorageError(
                "standard output cannot be written", errno=getattr(exc, "errno", None)
            ) from exc
