"""Opening the database: library version, settings of a connection, migrations.

What the tables hold, and why so:

- ``records``: one row each, in the order of commit; the row's key is the record's position (the
  part of its id that sorts). ``wanted`` has the bit of every destination that was to have it.
- ``records_key``: finds a repeated (key, revision). It begins with the conversation, so that the
  entries written together lie together: an index over the hash alone touched four times as many
  pages a commit, and half of the CPU.
- ``place_us`` and ``placed`` of a record: where it belongs on its conversation's timeline, and how
  it stands there (see ``placing``). NULL for a record that never had a place, and ``placed`` for
  one that a newer revision has taken off.
- ``records_timeline``: the timeline by place; the row's key, the position, ends each entry. It
  holds what is on a timeline and nothing else, so other records cost nothing more, and whatever
  deletes a record takes it off the timeline. A table of its own would have to be kept in step.
- ``pending``: what a destination has not settled; an acknowledged record has its row deleted.
  So a record with a destination's bit, and no row in ``pending`` or ``dead``, is acknowledged.
- ``dead``: dead letters with their reason.
- ``windows``: the journal of open windows, encrypted by the caller.
- ``tombstones``: keyed hashes of erased conversations.

No foreign key is declared: the writer alone keeps the tables together, inside one transaction,
and a check per row would be paid on every insert.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import apsw

from steno.adapters.store_sqlite.faults import mapped
from steno.adapters.store_sqlite.sql import fetch, scalar
from steno.errors import IntegrityError, StorageError

MIN_SQLITE = (3, 51, 3)
"""Older versions can lose a write when the log is reset while another connection reads."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE destinations(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE conversations(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
        last_seq INTEGER NOT NULL, last_position INTEGER NOT NULL);
    CREATE TABLE records(
        position INTEGER PRIMARY KEY, tail INTEGER NOT NULL, conversation INTEGER NOT NULL,
        slot INTEGER NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL, lane TEXT NOT NULL,
        utterance TEXT NOT NULL, revision INTEGER NOT NULL, key NOT NULL, seq INTEGER NOT NULL,
        prev_seq INTEGER NOT NULL, origin TEXT NOT NULL, at_us INTEGER NOT NULL,
        wanted INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL);
    CREATE UNIQUE INDEX records_key ON records(conversation, slot);
    CREATE TABLE pending(
        destination INTEGER NOT NULL, position INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0, next_at_us INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT '', PRIMARY KEY(destination, position)) WITHOUT ROWID;
    CREATE TABLE dead(
        destination INTEGER NOT NULL, position INTEGER NOT NULL, attempts INTEGER NOT NULL,
        reason TEXT NOT NULL, at_us INTEGER NOT NULL,
        PRIMARY KEY(destination, position)) WITHOUT ROWID;
    CREATE TABLE windows(key TEXT PRIMARY KEY, sealed BLOB NOT NULL);
    CREATE TABLE tombstones(digest BLOB PRIMARY KEY, at_us INTEGER NOT NULL) WITHOUT ROWID;
    """,
    """
    ALTER TABLE records ADD COLUMN place_us INTEGER;
    ALTER TABLE records ADD COLUMN placed INTEGER;
    CREATE INDEX records_timeline ON records(conversation, placed, place_us)
        WHERE placed IS NOT NULL;
    """,
)
"""One step per schema version, only ever appended to."""

SCHEMA_VERSION = len(MIGRATIONS)

PAGE_BYTES = 4096
SALT_BYTES = 32
_STATEMENTS = 256


def check_library() -> None:
    """Refuse a SQLite library older than ``MIN_SQLITE``.

    Raises:
        StorageError: It is older.
    """
    found = tuple(int(part) for part in apsw.sqlite_lib_version().split(".")[:3])
    if found < MIN_SQLITE:
        raise StorageError(
            "the SQLite library is too old to keep records safely",
            fix="Install apsw 3.51.3 or newer.",
            found=apsw.sqlite_lib_version(),
        )


def connect(
    path: Path,
    *,
    readonly: bool = False,
    busy_ms: int = 5000,
    vfs: str | None = None,
    synchronous: str = "FULL",
) -> apsw.Connection:
    """Return a connection with our settings; the file is made, readable to its owner only.

    Args:
        readonly: Only queries are allowed. The file must exist.
        busy_ms: How long a statement waits for another process's transaction, milliseconds.
        vfs: Name of a registered SQLite file layer; tests place faults there.
        synchronous: ``FULL``. Anything less loses acknowledged records at a power cut; only the
            test that proves its own harness asks for it.

    Raises:
        StorageError: The file cannot be opened.
        IntegrityError: It is no database or is damaged.
    """
    check_library()
    try:
        if not readonly and not path.exists():
            path.touch(mode=0o600)
        flags = apsw.SQLITE_OPEN_READWRITE if not readonly else apsw.SQLITE_OPEN_READONLY
        connection = apsw.Connection(
            str(path), flags=flags, vfs=vfs, statementcachesize=_STATEMENTS
        )
    except (apsw.Error, OSError) as exc:
        raise mapped(exc) from exc
    try:
        connection.set_busy_timeout(busy_ms)
        if readonly:
            connection.execute("PRAGMA query_only=ON").fetchall()
            return connection
        connection.execute(
            f"PRAGMA page_size={PAGE_BYTES}; PRAGMA journal_mode=WAL;"
            f"PRAGMA synchronous={synchronous}; PRAGMA foreign_keys=ON; PRAGMA secure_delete=ON;"
            "PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-4000; PRAGMA temp_store=MEMORY;"
            "PRAGMA trusted_schema=OFF"
        ).fetchall()  # a statement that gives a row holds the next ones up until it is read
    except (apsw.Error, OSError) as exc:
        connection.close(True)
        raise mapped(exc) from exc
    return connection


def schema_version(connection: apsw.Connection) -> int:
    """Return the store's version; 0 for an empty file.

    It stands in the file's header and in a table: a flipped bit in one of them must not pass
    for another version.

    Raises:
        IntegrityError: The two differ.
        apsw.Error: Reading failed.
    """
    version = int(connection.pragma("user_version"))
    if not scalar(connection, "SELECT count(*) FROM sqlite_schema"):
        noted = 0
    else:
        noted = scalar(connection, "SELECT value FROM meta WHERE name='schema_version'")
    if version != noted:
        raise IntegrityError("the version of the store is damaged", header=version, table=noted)
    return version


def refuse_newer(version: int) -> None:
    """Refuse a store written by a newer program.

    Raises:
        StorageError: It was.
    """
    if version > SCHEMA_VERSION:
        raise StorageError(
            "the store was written by a newer version of steno",
            fix="Run the newer version, or point --state-dir at another directory.",
            store_version=version,
            program_version=SCHEMA_VERSION,
        )


def migrate(connection: apsw.Connection) -> int:
    """Bring the store to ``SCHEMA_VERSION`` and return the version it had.

    Each step and its version number are one transaction: a kill leaves one or the other.

    Raises:
        StorageError: The store is newer than the program, or a step failed.
    """
    try:
        found = schema_version(connection)
        refuse_newer(found)
        for version in range(found, SCHEMA_VERSION):
            with connection:
                connection.execute(MIGRATIONS[version])
                connection.pragma("user_version", version + 1)
                connection.execute(
                    "INSERT OR REPLACE INTO meta(name, value) VALUES('schema_version', ?)",
                    (version + 1,),
                )
        connection.execute(
            "INSERT OR IGNORE INTO meta(name, value) VALUES('salt', ?)",
            (secrets.token_bytes(SALT_BYTES),),
        )
    except apsw.Error as exc:
        raise mapped(exc) from exc
    return found


def check_schema(connection: apsw.Connection) -> None:
    """Check that the tables are those of the migrations: SQLite believes whatever stands there.

    Raises:
        IntegrityError: They are not, or the store's salt is not there.
    """
    listing = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
    model = apsw.Connection(":memory:")
    try:
        for step in MIGRATIONS:
            model.execute(step)
        expected = fetch(model, listing)
    finally:
        model.close()
    try:
        found = fetch(connection, listing)
        salts = fetch(connection, "SELECT value FROM meta WHERE name='salt'")
    except apsw.Error as exc:
        raise IntegrityError("the store is damaged", cause=type(exc).__name__) from exc
    # SQLite makes tables of its own (statistics), which are no concern of ours.
    if expected != [row for row in found if not str(row[1]).startswith("sqlite_stat")]:
        raise IntegrityError("the tables of the store are damaged")
    if len(salts) != 1 or not isinstance(salts[0][0], bytes) or len(salts[0][0]) != SALT_BYTES:
        raise IntegrityError("the store has lost its salt")
