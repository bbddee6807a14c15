"""A file without a name: gone when it is closed, or with the process, however that ends.

Its errors are ours. Where the system's folder for such files is full, ``TMPDIR`` names another.
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Iterator
from typing import Final

from steno.errors import StorageError, StorageFull

PIECE_BYTES: Final = 1 << 20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FIX: Final = "Set TMPDIR to a folder with more room."


class PrivateFile:
    """Takes bytes and gives them back.

    Raises:
        StorageFull, StorageError: From every call but ``close``: no room, or no such folder.
    """

    def __init__(self) -> None:
        try:
            self._file = tempfile.TemporaryFile("w+b")  # noqa: SIM115  # closed by close
        except OSError as error:
            raise _mapped(error) from None

    def write(self, data: bytes) -> None:
        """Append; what is written may fail when it is read, too, as it is buffered."""
        try:
            self._file.write(data)
        except OSError as error:
            raise _mapped(error) from None

    def seek(self, offset: int) -> None:
        """Go to a place."""
        try:
            self._file.seek(offset)
        except OSError as error:
            raise _mapped(error) from None

    def __iter__(self) -> Iterator[bytes]:
        """Yield lines from where it stands."""
        try:
            yield from self._file
        except OSError as error:
            raise _mapped(error) from None

    def pieces(self) -> Iterator[bytes]:
        """Yield everything, a piece after the other."""
        self.seek(0)
        while True:
            try:
                piece = self._file.read(PIECE_BYTES)
            except OSError as error:
                raise _mapped(error) from None
            if not piece:
                return
            yield piece

    def close(self) -> None:
        """Forget it; harmless at any time."""
        with contextlib.suppress(OSError):  # what was buffered still, and has no room
            self._file.close()


def _mapped(error: OSError) -> StorageError:
    if error.errno in _FULL:
        return StorageFull("no space is left for temporary files", fix=_FIX, errno=error.errno)
    return StorageError("temporary files cannot be kept", errno=error.errno)
