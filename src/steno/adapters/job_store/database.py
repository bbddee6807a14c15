"""The file: its settings, its tables, and what SQLite's errors mean to us.

- ``jobs``: one row each; ``position`` is the order in which they were added. The request is JSON.
  ``is_active`` (not ended, not paused) is kept beside the state for the index of what is due.
- ``jobs_due``: what is active, by due time; a paused or ended job is not in it.
- ``jobs_begun``: the same without what is only planned: begun jobs go first.
- ``jobs_unsettled``: ended jobs of which not everybody was told. ``facts`` is what they have to
  be told of it, stored with the move that ended it.
- ``jobs_batch``: counts by batch and state, and listings of a batch, without touching the rows.
- ``jobs_paused``: paused jobs only, so that their number costs nothing while there are few.
- ``jobs_transcript``: whose is an id of the service; only jobs that have one are in it.
- ``wishes``: what operators want, at most one for each job. Its numbers only grow, so that a
  wish left while an older one was granted is not lost with it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from steno.errors import IntegrityError, StorageError, StorageFull

MIN_SQLITE = (3, 51, 3)
"""Older versions can lose a write when the log is reset while another connection reads."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE jobs(
        position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL,
        batch TEXT NOT NULL, engine TEXT NOT NULL, recording TEXT NOT NULL, request BLOB NOT NULL,
        state TEXT NOT NULL, is_active INTEGER NOT NULL, transcript TEXT NOT NULL,
        service_status TEXT NOT NULL, attempts INTEGER NOT NULL, submissions INTEGER NOT NULL,
        polls INTEGER NOT NULL, created_us INTEGER NOT NULL, next_due_us INTEGER NOT NULL,
        started_us INTEGER NOT NULL, submitted_us INTEGER NOT NULL, ended_us INTEGER NOT NULL,
        deadline_us INTEGER NOT NULL, paused_us INTEGER NOT NULL, reason TEXT NOT NULL,
        code TEXT NOT NULL);
    CREATE INDEX jobs_due ON jobs(next_due_us) WHERE is_active = 1;
    CREATE INDEX jobs_batch ON jobs(batch, state);
    CREATE INDEX jobs_paused ON jobs(batch) WHERE paused_us != 0;
    CREATE INDEX jobs_transcript ON jobs(transcript) WHERE transcript != '';
    CREATE TABLE wishes(
        number INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL);
    """,
    """
    ALTER TABLE jobs ADD COLUMN facts BLOB NOT NULL DEFAULT x'';
    ALTER TABLE jobs ADD COLUMN is_settled INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX jobs_begun ON jobs(next_due_us) WHERE is_active = 1 AND state != 'planned';
    CREATE INDEX jobs_unsettled ON jobs(position) WHERE ended_us != 0 AND is_settled = 0;
    """,
    """
    ALTER TABLE jobs ADD COLUMN out TEXT NOT NULL DEFAULT '';
    ALTER TABLE jobs ADD COLUMN redact INTEGER NOT NULL DEFAULT 1;
    """,
)
"""One step per schema version, only ever appended to."""

SCHEMA_VERSION = len(MIGRATIONS)
_APPLICATION = 0x53744A62  # "StJb"
_DAMAGED = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)


def mapped(error: BaseException) -> StorageError:
    """Return the error of ours for one of SQLite's or of the operating system's.

    The library's text is left out: it can quote a statement's values.
    """
    if isinstance(error, StorageError):
        return error
    code = int(getattr(error, "extendedresult", 0) or 0)
    facts: dict[str, Any] = {"cause": type(error).__name__, "code": code or None}
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, _DAMAGED):
        return IntegrityError(
            "the store of jobs is damaged", fix="Move jobs.db aside and start again.", **facts
        )
    if isinstance(error, apsw.FullError) or full:
        return StorageFull("no space is left to store jobs", **facts)
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StorageError(
            "the store of jobs is busy in another process", fix="Try again in a moment.", **facts
        )
    if isinstance(error, apsw.CantOpenError | apsw.PermissionsError | apsw.ReadOnlyError):
        return StorageError(
            "the store of jobs cannot be opened for writing",
            fix="Check that the state directory exists and belongs to this user.",
            **facts,
        )
    return StorageError("the store of jobs failed", **facts)


def breaks_store(error: BaseException) -> bool:
    """Tell whether nothing may be promised any more until the process has started again.

    After a failed fsync the kernel may have dropped the pages: a later one that succeeds proves
    nothing.
    """
    code = int(getattr(error, "extendedresult", 0) or 0)
    return isinstance(error, _DAMAGED) or code in (
        apsw.SQLITE_IOERR_FSYNC,
        apsw.SQLITE_IOERR_DIR_FSYNC,
    )


def connect(path: Path, *, readonly: bool = False, busy_ms: int = 5000) -> apsw.Connection:
    """Return a connection with our settings; the file is made, readable to its owner only.

    Raises:
        StorageError: It cannot be opened, or the library is too old.
        IntegrityError: It is no database.
    """
    found = tuple(int(part) for part in apsw.sqlite_lib_version().split(".")[:3])
    if found < MIN_SQLITE:
        raise StorageError(
            "the SQLite library is too old to keep jobs safely",
            fix="Install apsw 3.51.3 or newer.",
            found=apsw.sqlite_lib_version(),
        )
    try:
        if not readonly:
            path.touch(mode=0o600)
        flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE
        db = apsw.Connection(str(path), flags=flags)
    except (apsw.Error, OSError) as exc:
        raise mapped(exc) from exc
    try:
        db.set_busy_timeout(busy_ms)
        if readonly:
            db.execute("PRAGMA query_only=ON").fetchall()
        else:
            db.execute(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON;"
                "PRAGMA cache_size=-8000; PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF"
            ).fetchall()
    except (apsw.Error, OSError) as exc:
        db.close(True)
        raise mapped(exc) from exc
    return db


def migrate(db: apsw.Connection) -> None:
    """Bring the file to ``SCHEMA_VERSION``; each step and its number are one transaction.

    Raises:
        StorageError: It is newer than the program, or a step failed.
        IntegrityError: It is another program's database.
    """
    try:
        with transaction(db):
            version = known_version(db)
            for step in MIGRATIONS[version:]:
                db.execute(step)
            db.pragma("application_id", _APPLICATION)
            db.pragma("user_version", SCHEMA_VERSION)
    except apsw.Error as exc:
        raise mapped(exc) from exc


def known_version(db: apsw.Connection) -> int:
    """Return the file's version; 0 for an empty one.

    Raises:
        StorageError: It is newer than the program.
        IntegrityError: It is another program's database.
        apsw.Error: Reading failed.
    """
    version = int(db.pragma("user_version"))
    is_empty = not rows(db, "SELECT 1 FROM sqlite_schema LIMIT 1")
    if not is_empty and int(db.pragma("application_id")) != _APPLICATION:
        raise IntegrityError("this file is no store of jobs")
    if version > SCHEMA_VERSION:
        raise StorageError(
            "the store of jobs was written by a newer version of steno",
            fix="Run the newer version, or point --state-dir at another directory.",
            store_version=version,
            program_version=SCHEMA_VERSION,
        )
    return version


def rows(db: apsw.Connection, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return all rows of a query; the schema says what a column holds.

    Raises:
        apsw.Error: It failed.
    """
    found: list[tuple[Any, ...]] = db.execute(sql, values).fetchall()
    return found


@contextmanager
def transaction(db: apsw.Connection) -> Iterator[None]:
    """Run a block as one transaction that holds the write lock from its beginning.

    Raises:
        apsw.Error: Nothing of the block was written.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if not db.get_autocommit():  # a failed COMMIT may have rolled back by itself
            db.execute("ROLLBACK")
        raise
