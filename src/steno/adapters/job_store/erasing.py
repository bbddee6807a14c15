"""Deleting jobs that a person wants erased or are old, beside their owner or without one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import apsw

from steno.adapters.job_store import rows
from steno.adapters.job_store.database import connect, mapped, transaction
from steno.adapters.job_store.database import rows as fetched
from steno.adapters.job_store.reader import JobReader
from steno.errors import ObjectMissing, StorageError
from steno.ports.jobs import Job

PURGED_AT_ONCE: Final = 1000


def jobs_about(path: Path, name: str) -> list[Job]:
    """Return the jobs of a recording, or of all recordings of a conversation as far as it is known.

    Args:
        path: The database file; no jobs where there is none.
        name: Id of either.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        with JobReader(path) as reader:
            return reader.about(name)
    except ObjectMissing:
        return []


def delete_jobs(path: Path, job_ids: Sequence[str]) -> int:
    """Delete jobs in any state, so that no byte of them stays in any file; return how many.

    An owner that has one in hand finds it gone, and goes on with the others.

    Raises:
        StorageError: None was deleted, or the log could not be cleared (then try again).
    """
    if not job_ids:
        return 0
    db = connect(path)
    try:
        with transaction(db):
            count = rows.delete(db, job_ids)
        busy, _, _ = fetched(db, "PRAGMA wal_checkpoint(TRUNCATE)")[0]
    except apsw.Error as exc:
        raise mapped(exc) from exc
    finally:
        db.close(True)
    if busy:
        raise StorageError(
            "the jobs are deleted, but a reader holds the log that still has them",
            fix="Run the command again in a moment.",
        )
    return count


def purge_jobs(path: Path, *, ended_before_us: int) -> int:
    """Delete jobs that ended before a time and of which everybody was told; return how many.

    In pieces, so that an owner beside it never waits for long.

    Raises:
        ObjectMissing: There are no jobs.
        StorageError: Not all were deleted; again, the rest is.
    """
    with JobReader(path):  # refuses what is missing, or of another version
        pass
    db = connect(path)
    gone = 0
    try:
        while True:
            with transaction(db):
                count = rows.purge(db, ended_before_us, PURGED_AT_ONCE)
            gone += count
            if count < PURGED_AT_ONCE:
                return gone
    except apsw.Error as exc:
        raise mapped(exc) from exc
    finally:
        db.close(True)
