"""Opening whatever is there: a whole store, none, or a damaged one that is moved aside.

A damaged store never stops the gateway and is never deleted: the files are kept under
``<store>.damaged-<time>``, what can be read is carried over, and the report names the
conversations of which something is missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import msgspec

from steno.adapters.store_sqlite.faults import mapped
from steno.adapters.store_sqlite.placing import KIND_NUMBERS
from steno.adapters.store_sqlite.rows import (
    COLUMNS,
    PLACED_COLUMNS,
    PLACED_WIDTH,
    SELECTED,
    SELECTED_V1,
    decoded,
)
from steno.adapters.store_sqlite.schema import SALT_BYTES, check_schema, connect, migrate
from steno.adapters.store_sqlite.sql import changed, fetch, scalar, transaction
from steno.errors import IntegrityError, StorageError

QUICK_CHECK_BYTES = 128 << 20
"""Up to this size a store is checked before it is used; a larger one beside its use."""


class Salvage(msgspec.Struct, frozen=True, gc=False):
    """What became of a damaged store.

    Attributes:
        moved_to: Where its main file lies now; its other files lie beside it.
        records: Records carried over.
        conversations: Those of which records are known to be missing.
        complete: The list is complete: the table of conversations could be read to its end.
        redelivered: Pending marks could not all be read, so everything is delivered again.
    """

    moved_to: Path
    records: int
    conversations: tuple[str, ...]
    complete: bool
    redelivered: bool


class OpenReport(msgspec.Struct, frozen=True, gc=False):
    """In what state the store was found.

    Attributes:
        created: There was none.
        migrated_from: The version it had before it was brought up to date; None if current.
        clean_shutdown: Its last owner closed it. False for a new one's absence of an owner too.
        last_alive_us: When its last owner was last known to run, UTC microseconds; 0 if never.
        pending: Unsettled records by destination, of configured and of former ones.
        windows: Journalled open windows.
        records: Stored records.
        salvage: Set when it was damaged.
    """

    created: bool = False
    migrated_from: int | None = None
    clean_shutdown: bool = False
    last_alive_us: int = 0
    pending: dict[str, int] = {}
    windows: int = 0
    records: int = 0
    salvage: Salvage | None = None


def open_store(
    path: Path,
    *,
    now_us: Callable[[], int],
    vfs: str | None = None,
    synchronous: str = "FULL",
) -> tuple[apsw.Connection, OpenReport]:
    """Open or make the store and return its writing connection.

    Raises:
        StorageError: It cannot be opened, or was written by a newer program.
    """
    created = not path.exists() or path.stat().st_size == 0
    try:
        return _opened(path, created=created, salvage=None, vfs=vfs, synchronous=synchronous)
    except StorageError as exc:
        if not isinstance(exc, IntegrityError) and not _header_lies(exc, path):
            raise
    moved_to = _move_aside(path, now_us())
    salvage = _carry_over(moved_to, path)
    return _opened(path, created=False, salvage=salvage, vfs=vfs, synchronous=synchronous)


def _header_lies(error: StorageError, path: Path) -> bool:
    """Tell whether SQLite refuses a file for what stands in its header.

    A flipped bit there can ask for a format that nobody writes, or say "read only" of a file
    that can be written.
    """
    cause = error.__cause__
    if isinstance(cause, apsw.ReadOnlyError):
        return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return isinstance(cause, apsw.SQLError)


def _opened(
    path: Path, *, created: bool, salvage: Salvage | None, vfs: str | None, synchronous: str
) -> tuple[apsw.Connection, OpenReport]:
    db = connect(path, vfs=vfs, synchronous=synchronous)
    try:
        found = migrate(db)
        check_schema(db)
        if path.stat().st_size <= QUICK_CHECK_BYTES:
            quick_check(db)
        report = OpenReport(
            created=created,
            migrated_from=found if 0 < found < _version(db) else None,
            clean_shutdown=bool(_meta(db, "clean_shutdown")),
            last_alive_us=max(_meta(db, "last_alive_us"), _touched_us(path)),
            pending={
                str(name): int(count)
                for name, count in fetch(
                    db,
                    "SELECT d.name, count(*) FROM pending p JOIN destinations d"
                    " ON d.id = p.destination GROUP BY d.name",
                )
            },
            windows=scalar(db, "SELECT count(*) FROM windows"),
            records=scalar(db, "SELECT count(*) FROM records"),
            salvage=salvage,
        )
        db.execute("INSERT OR REPLACE INTO meta(name, value) VALUES('clean_shutdown', 0)")
    except (apsw.Error, OSError) as exc:
        db.close(True)
        raise mapped(exc) from exc
    except (ValueError, TypeError):  # text or a number that is none
        db.close(True)
        raise IntegrityError("the store is damaged") from None
    except StorageError:
        db.close(True)
        raise
    return db, report


def _version(db: apsw.Connection) -> int:
    return int(db.pragma("user_version"))


def _meta(db: apsw.Connection, name: str) -> int:
    rows = fetch(db, "SELECT value FROM meta WHERE name=?", (name,))
    return int(rows[0][0]) if rows else 0


def alive_path(path: Path) -> Path:
    """Return the file whose time of change is the heartbeat of an idle owner."""
    return path.with_name(path.name + "-alive")


def _touched_us(path: Path) -> int:
    try:
        return alive_path(path).stat().st_mtime_ns // 1000
    except OSError:
        return 0


def quick_check(db: apsw.Connection) -> None:
    """Check the structure of the file.

    Raises:
        IntegrityError: It is damaged.
    """
    try:
        found = db.execute("PRAGMA quick_check(1)").fetchall()
    except apsw.Error as exc:
        raise mapped(exc) from exc
    if found != [("ok",)]:
        raise IntegrityError("the store is damaged")


# --- damaged stores --------------------------------------------------------------------------


def _move_aside(path: Path, now_us: int) -> Path:
    target = path.with_name(f"{path.name}.damaged-{now_us}")
    # The log first: a main file beside a foreign log would be damaged further when opened.
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            os.replace(part, target.with_name(target.name + suffix))
    return target


def _carry_over(damaged: Path, path: Path) -> Salvage:
    new = connect(path)
    try:
        migrate(new)
        try:
            old = connect(damaged, readonly=True)
            # Otherwise a file that is shorter than it says could not be read at all.
            old.execute("PRAGMA writable_schema=ON").fetchall()
        except (StorageError, apsw.Error):
            return Salvage(damaged, 0, (), complete=False, redelivered=False)
        try:
            with transaction(new):
                return _copied(old, new, damaged)
        finally:
            old.close(True)
    except apsw.Error as exc:
        raise mapped(exc) from exc
    finally:
        new.close(True)


def _copied(old: apsw.Connection, new: apsw.Connection, damaged: Path) -> Salvage:
    for table, columns in (
        ("destinations", "id, name"),
        ("tombstones", "digest, at_us"),
        ("windows", "key, sealed"),
        ("dead", "destination, position, attempts, reason, at_us"),
    ):
        _copy_table(old, new, table, columns)
    _copy_meta(old, new)
    complete = _copy_table(old, new, "conversations", "id, name, last_seq, last_position")
    marks_whole = _copy_table(old, new, "pending", "destination, position") and _is_sound(old)
    records = _copy_records(old, new)
    _repair_timelines(new)
    # A mark without its record: the record is lost, or the mark is not what was written, and
    # then some other record would be taken for acknowledged.
    stray = "position NOT IN (SELECT position FROM records)"
    marks_whole = changed(new, f"DELETE FROM pending WHERE {stray}") == 0 and marks_whole
    new.execute(f"DELETE FROM dead WHERE {stray}")
    if not marks_whole:
        # What was acknowledged is not known: deliver again, the key lets consumers drop repeats.
        new.execute(
            "INSERT OR IGNORE INTO pending(destination, position)"
            " SELECT d.id, r.position FROM records r JOIN destinations d"
            " ON (r.wanted >> d.id) & 1 WHERE NOT EXISTS (SELECT 1 FROM dead x"
            "   WHERE x.destination = d.id AND x.position = r.position)"
        )
    short = fetch(
        new,
        "SELECT c.name FROM conversations c LEFT JOIN records r ON r.conversation = c.id"
        " GROUP BY c.id HAVING count(r.position) <"
        "   c.last_seq - coalesce(min(r.seq), 1) + 1 OR max(coalesce(r.seq, 0)) < c.last_seq",
    )
    return Salvage(
        damaged,
        records,
        tuple(str(name) for (name,) in short),
        complete=complete,
        redelivered=not marks_whole,
    )


def _is_sound(old: apsw.Connection) -> bool:
    """Tell whether the table of pending marks is in order; its rows have no checksum."""
    try:
        return fetch(old, "PRAGMA integrity_check(pending)") == [("ok",)]
    except apsw.Error:
        return False


def _copy_meta(old: apsw.Connection, new: apsw.Connection) -> None:
    """Copy the salt of the tombstones and the heartbeat, where they can be what they say."""
    for name, right in (("salt", _is_salt), ("last_alive_us", _is_time)):
        try:
            rows = fetch(old, "SELECT value FROM meta WHERE name=?", (name,))
        except (apsw.Error, UnicodeDecodeError):
            continue
        if len(rows) == 1 and right(rows[0][0]):
            new.execute("INSERT OR REPLACE INTO meta(name, value) VALUES(?,?)", (name, rows[0][0]))


def _is_salt(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == SALT_BYTES


def _is_time(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _copy_table(old: apsw.Connection, new: apsw.Connection, table: str, columns: str) -> bool:
    """Copy the rows that can be read; tell whether those were all."""
    marks = ",".join("?" * len(columns.split(",")))
    whole = True
    # From both ends: what lies before the damage and what lies behind it.
    for order in ("", " DESC"):
        first = columns.split(",", 1)[0] if table not in ("pending", "dead") else "destination"
        second = f", position{order}" if table in ("pending", "dead") else ""
        whole = True
        try:
            for row in fetch(
                old,
                f"SELECT {columns} FROM {table} ORDER BY {first}{order}{second}",
            ):
                try:
                    new.execute(
                        f"INSERT OR REPLACE INTO {table}({columns}) VALUES({marks})",
                        row,
                    )
                except apsw.ConstraintError:
                    whole = False
        except (apsw.Error, UnicodeDecodeError):
            whole = False
        if whole:
            break
    return whole


def _copy_records(old: apsw.Connection, new: apsw.Connection) -> int:
    columns, selected = _columns(old)
    marks = ",".join("?" * PLACED_WIDTH)
    names = dict(_conversation_names(old))
    name_at = PLACED_WIDTH + 2
    copied = 0
    for position in _positions(old):
        try:
            (row,) = fetch(
                old,
                f"SELECT {columns}, {selected} FROM records r NOT INDEXED WHERE r.position = ?",
                (position,),
            )
            name = names[row[name_at]]
            decoded((*row[PLACED_WIDTH:name_at], name, *row[name_at + 1 :]))
            new.execute(
                f"INSERT OR IGNORE INTO records({PLACED_COLUMNS}) VALUES({marks})",
                row[:PLACED_WIDTH],
            )
        except (apsw.Error, StorageError, ValueError, KeyError):
            continue  # damaged: its conversation is named by the hole it leaves
        copied += new.changes()
    return copied


def _columns(old: apsw.Connection) -> tuple[str, str]:
    """Return what to read of a record as it is stored, and as ``decoded`` wants it."""
    as_stored = ", ".join(f"r.{name.strip()}" for name in COLUMNS.split(","))
    selected = SELECTED.replace("c.name", "r.conversation")
    try:
        fetch(old, "SELECT place_us, placed FROM records LIMIT 0")
    except apsw.Error:  # of version 1
        return f"{as_stored}, NULL, NULL", SELECTED_V1.replace("c.name", "r.conversation")
    return f"{as_stored}, r.place_us, r.placed", selected


def _repair_timelines(new: apsw.Connection) -> None:
    """Let each key have on the timeline the newest revision that could be carried over.

    ``placed`` is not covered by a record's checksum. Where the newest revision is lost, the
    newest of those left takes its place.
    """
    numbers = " ".join(f"WHEN '{kind}' THEN {number}" for kind, number in KIND_NUMBERS.items())
    for (conversation,) in fetch(new, "SELECT id FROM conversations"):
        new.execute(
            "UPDATE records SET placed = v.right FROM (SELECT position AS p,"
            "   CASE WHEN 1 < row_number() OVER"
            "     (PARTITION BY key ORDER BY placed IS NOT NULL DESC, revision DESC) THEN NULL"
            f"   WHEN -1 - placed > revision THEN placed ELSE CASE kind {numbers} END END AS right"
            "  FROM records WHERE conversation=? AND place_us IS NOT NULL"
            ") v WHERE position = v.p AND placed IS NOT v.right",
            (conversation,),
        )
    new.execute("UPDATE records SET placed=NULL WHERE placed IS NOT NULL AND place_us IS NULL")


def _positions(old: apsw.Connection) -> Iterator[int]:
    """Yield where records may be: forwards to the damage, then backwards to it."""
    for order in ("ASC", "DESC"):
        try:
            # No index is used: it may be what is damaged.
            for (position,) in old.execute(
                f"SELECT position FROM records NOT INDEXED ORDER BY position {order}"
            ):
                if isinstance(position, int):
                    yield position
        except apsw.Error:
            continue
        else:
            return


def _conversation_names(old: apsw.Connection) -> Iterator[tuple[int, str]]:
    for order in ("ASC", "DESC"):
        try:
            for number, name in old.execute(
                f"SELECT id, name FROM conversations NOT INDEXED ORDER BY id {order}"
            ):
                if isinstance(number, int) and isinstance(name, str):
                    yield number, name
        except (apsw.Error, UnicodeDecodeError):
            continue
        else:
            return
