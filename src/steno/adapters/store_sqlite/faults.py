"""What SQLite's errors mean to us, in errors of ours."""

from __future__ import annotations

import errno
from typing import Any

import apsw

from steno.errors import IntegrityError, StorageError, StorageFull

_SYNC_FAILED = frozenset({apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC})
_DAMAGED = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)


def mapped(error: BaseException) -> StorageError:
    """Return the error of ours for one of SQLite's or of the operating system's.

    The library's text is left out: it can quote a statement's values.
    """
    if isinstance(error, StorageError):
        return error
    code = int(getattr(error, "extendedresult", 0) or 0)
    facts: dict[str, Any] = {"cause": type(error).__name__, "code": code or None}
    if isinstance(error, _DAMAGED):
        return IntegrityError("the store is damaged", **facts)
    if is_full(error):
        return StorageFull(**facts)
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StorageError(
            "the store is busy in another process", fix="Try again in a moment.", **facts
        )
    if isinstance(error, apsw.CantOpenError | apsw.PermissionsError | apsw.ReadOnlyError):
        return StorageError(
            "the store cannot be opened for writing",
            fix="Check that the state directory exists and belongs to this user.",
            **facts,
        )
    return StorageError("the store failed", **facts)


def is_full(error: BaseException) -> bool:
    """Tell whether space ran out; the same work can succeed once there is room."""
    if isinstance(error, apsw.FullError):
        return True
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def breaks_store(error: BaseException) -> bool:
    """Tell whether nothing may be acknowledged any more until the process has started again.

    After a failed fsync the kernel may have thrown the pages away and reported it once: another
    fsync that succeeds proves nothing. A damaged file is for the next start to move aside.
    """
    if isinstance(error, _DAMAGED):
        return True
    return int(getattr(error, "extendedresult", 0) or 0) in _SYNC_FAILED
