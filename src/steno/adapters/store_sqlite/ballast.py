"""Room kept back: a file whose space is given up when the disk is full.

Deleting needs space as well (SQLite writes the change first), so without it a full disk could
not even be drained.
"""

from __future__ import annotations

import os
from pathlib import Path

_MARGIN_BYTES = 4 << 20


class Ballast:
    """The file ``<store>-ballast``.

    Args:
        path: Where it lies: the file system of the store.
        size_bytes: Its size; 0 for none.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes

    def make(self) -> bool:
        """Take the space; False when there is none to spare."""
        if self._size_bytes == 0 or self.is_whole():
            return True
        try:
            if self.free_bytes() < self._size_bytes + _MARGIN_BYTES:
                return False
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, self._size_bytes)
            finally:
                os.close(fd)
        except OSError:
            self.release()
            return False
        return True

    def release(self) -> bool:
        """Give the space up; tell whether there was any to give."""
        if self._size_bytes == 0:
            return False
        try:
            held = self._path.stat().st_size > 0
            os.truncate(self._path, 0)
        except OSError:
            return False
        return held

    def is_whole(self) -> bool:
        """Tell whether the space is held."""
        try:
            return self._path.stat().st_size >= self._size_bytes
        except OSError:
            return False

    def free_bytes(self) -> int:
        """Return the free bytes of the store's file system.

        Raises:
            OSError: It cannot be asked.
        """
        found = os.statvfs(self._path.parent)
        return found.f_bavail * found.f_frsize
