"""Changes an operator asks for: redrive, purge, retention, erasure.

Each works on any writing connection: the owner's own, or one of another process beside it. The
owner notices a foreign change inside its next transaction (see ``Writer``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw
import msgspec

from steno.adapters.store_sqlite.faults import mapped
from steno.adapters.store_sqlite.sql import changed, fetch, transaction
from steno.adapters.store_sqlite.writer import tombstone
from steno.delivery.ids import first_position, position_of
from steno.errors import StorageError

SLICE = 500
"""Records deleted in one transaction: the owner's commits get their turn in between."""


_ROWS = 10_000
_CONVERSATIONS = 250
"""Rows looked at in one transaction, for the same reason: most of them may have to stay."""

_FROM = (
    "SELECT position, placed FROM records WHERE position > ?1 AND position < ?2 ORDER BY position"
)

_NOT_PENDING = (
    "NOT EXISTS (SELECT 1 FROM destinations d CROSS JOIN pending p"
    " ON p.destination = d.id AND p.position = r.position)"
)
_SETTLED = (
    f"{_NOT_PENDING} AND NOT EXISTS (SELECT 1 FROM destinations d CROSS JOIN dead x"
    " ON x.destination = d.id AND x.position = r.position)"
)


class Erased(msgspec.Struct, frozen=True, gc=False):
    """What an erasure removed, and where copies lie that it cannot reach.

    Attributes:
        delivered: Records each destination had acknowledged: copies beyond our reach.
    """

    conversation: str
    records: int
    undelivered: int
    dead: int
    windows: int
    delivered: dict[str, int]
    vacuumed: bool


def destination_id(db: apsw.Connection, name: str) -> int:
    """Return a destination's number in the store.

    Raises:
        StorageError: It never had a record.
    """
    rows = fetch(db, "SELECT id FROM destinations WHERE name=?", (name,))
    if not rows:
        raise StorageError("the store does not know this destination", destination=name)
    return int(rows[0][0])


def redrive(
    db: apsw.Connection, *, record_id: str | None = None, destination: str | None = None
) -> int:
    """Make dead letters pending again, with no attempts counted; return how many.

    Args:
        record_id: Only this record.
        destination: Only of this destination.

    Raises:
        StorageError: The destination is unknown, the id is none, or the write failed.
    """
    where, values = _chosen(db, record_id, destination)
    try:
        with transaction(db):
            db.execute(
                "INSERT OR REPLACE INTO pending(destination, position)"
                f" SELECT destination, position FROM dead WHERE {where}",
                values,
            )
            return changed(db, f"DELETE FROM dead WHERE {where}", values)
    except apsw.Error as exc:
        raise mapped(exc) from exc


def purge_dead(
    db: apsw.Connection,
    *,
    record_id: str | None = None,
    destination: str | None = None,
    before_us: int | None = None,
) -> int:
    """Give dead letters up for good and return how many; the consumer sees a skipped ``seq``.

    Args:
        before_us: Only those that died earlier, UTC microseconds.

    Raises:
        StorageError: The destination is unknown, the id is none, or the write failed.
    """
    where, values = _chosen(db, record_id, destination)
    if before_us is not None:
        where += " AND at_us < ?"
        values = (*values, before_us)
    try:
        with transaction(db):
            # The bit goes too: without a row in ``dead`` it would say "acknowledged".
            rows = fetch(
                db,
                f"SELECT destination, position FROM dead WHERE {where}",
                values,
            )
            db.executemany("UPDATE records SET wanted = wanted & ~(1 << ?) WHERE position=?", rows)
            return changed(db, f"DELETE FROM dead WHERE {where}", values)
    except apsw.Error as exc:
        raise mapped(exc) from exc


def forget_destination(db: apsw.Connection, destination: str) -> int:
    """Give up everything a destination still waits for, and return how many records.

    For a destination that has left the configuration: its records would be kept for ever.

    Raises:
        StorageError: The destination is unknown or the write failed.
    """
    number = destination_id(db, destination)
    try:
        with transaction(db):
            for table in ("pending", "dead"):
                db.execute(
                    "UPDATE records SET wanted = wanted & ~(1 << ?1) WHERE position IN"
                    f" (SELECT position FROM {table} WHERE destination=?1)",
                    (number,),
                )
            db.execute("DELETE FROM dead WHERE destination=?", (number,))
            return changed(db, "DELETE FROM pending WHERE destination=?", (number,))
    except apsw.Error as exc:
        raise mapped(exc) from exc


def purge_settled(
    db: apsw.Connection, before_us: int, *, limit: int = SLICE, after: int = 0
) -> tuple[int, int]:
    """Delete at most ``limit`` records that every destination has settled, oldest first.

    What is on a timeline stays: see ``purge_timeline``.

    Args:
        before_us: Only records committed earlier, UTC microseconds.
        after: Position to go on from: what the call before returned.

    Returns:
        How many were deleted, and the position to go on from; 0 when there are no more.

    Raises:
        StorageError: The write failed.
    """
    end = first_position(before_us // 1000)
    try:
        with transaction(db):
            rows = fetch(
                db,
                f"SELECT position FROM ({_FROM} LIMIT {_ROWS}) r"
                f" WHERE placed IS NULL AND {_SETTLED} ORDER BY position LIMIT ?3",
                (after, end, limit),
            )
            db.executemany("DELETE FROM records WHERE position=?", rows)
            if len(rows) == limit:
                return len(rows), int(rows[-1][0])
            # The last of those looked at, if there were as many.
            if seen := fetch(db, _FROM + " LIMIT 1 OFFSET ?3", (after, end, _ROWS - len(rows) - 1)):
                return len(rows), int(seen[0][0])
            _drop_empty(db, end)
            return len(rows), 0
    except apsw.Error as exc:
        raise mapped(exc) from exc


def purge_timeline(
    db: apsw.Connection, before_us: int, *, limit: int = SLICE, after: int = 0
) -> tuple[int, int]:
    """Delete at most ``limit`` records of timelines that are over and delivered.

    A timeline goes as a whole, if in several calls: once its newest record was committed before
    ``before_us``, and no destination waits for any record of the conversation. Dead letters
    among its records go with it.

    Args:
        before_us: UTC microseconds.
        after: Where to go on: what the call before returned.

    Returns:
        How many were deleted, and where to go on; 0 when there are no more.

    Raises:
        StorageError: The write failed.
    """
    end = first_position(before_us // 1000)
    try:
        with transaction(db):
            # Below 0: in the middle of a timeline, whose rest needs no looking at again.
            if after < 0 and (deleted := _delete_placed(db, -after, end, limit)):
                return deleted, after
            found = fetch(
                db,
                "SELECT id, last_position FROM conversations WHERE id > ? ORDER BY id LIMIT ?",
                (abs(after), _CONVERSATIONS),
            )
            for number, last in found:
                if _is_over(db, number, last, end):
                    return _delete_placed(db, number, end, limit), -int(number)
            if len(found) == _CONVERSATIONS:
                return 0, int(found[-1][0])
            _drop_empty(db, end)
            return 0, 0
    except apsw.Error as exc:
        raise mapped(exc) from exc


def _is_over(db: apsw.Connection, conversation: int, last: int, end: int) -> bool:
    """Tell whether a conversation has a timeline that nobody needs any more.

    Args:
        last: Position of the conversation's last record.
        end: Position from which on records are new.
    """
    # From its end: what has the latest place was hardly committed first.
    latest = (
        "SELECT position FROM records WHERE conversation=? AND placed IS NOT NULL"
        " AND position >= ? ORDER BY placed DESC, place_us DESC LIMIT 1"
    )
    found = fetch(db, latest, (conversation, 0))
    if not found or found[0][0] >= end:
        return False
    if last >= end and fetch(db, latest, (conversation, end)):
        return False
    if not fetch(
        db,
        "SELECT 1 FROM destinations d CROSS JOIN pending p"
        " ON p.destination = d.id AND p.position <= ?"
        " LIMIT 1",
        (last,),
    ):
        return True  # nobody waits for anything as old; a look at each record is not needed
    return not fetch(
        db,
        f"SELECT 1 FROM records r WHERE conversation=? AND NOT ({_NOT_PENDING}) LIMIT 1",
        (conversation,),
    )


def _delete_placed(db: apsw.Connection, conversation: int, end: int, limit: int) -> int:
    rows = fetch(
        db,
        "SELECT position FROM records r WHERE conversation=? AND placed IS NOT NULL"
        f" AND position < ? AND {_NOT_PENDING} LIMIT ?",
        (conversation, end, limit),
    )
    db.executemany(
        "DELETE FROM dead WHERE position=? AND destination IN (SELECT id FROM destinations)", rows
    )
    db.executemany("DELETE FROM records WHERE position=?", rows)
    return len(rows)


def _drop_empty(db: apsw.Connection, end: int) -> None:
    """Delete conversations that are over: no record, no window, nothing since ``end``."""
    db.execute(
        "DELETE FROM conversations WHERE last_position < ? AND NOT EXISTS"
        " (SELECT 1 FROM records r WHERE r.conversation = conversations.id)"
        " AND NOT EXISTS (SELECT 1 FROM windows w"
        " WHERE w.key = conversations.name OR w.key LIKE '%/' || conversations.name)",
        (end,),
    )


def erase(db: apsw.Connection, conversation: str, *, at_us: int, vacuum: bool = False) -> Erased:
    """Delete everything kept of a conversation, so that no byte of it stays in any file.

    What arrives of it later is not stored again: a keyed hash of its id stays behind.

    Args:
        at_us: Now, UTC microseconds, kept with the hash.
        vacuum: Rewrite the whole file as well. Deleted bytes are zeroed in any case.

    Raises:
        StorageError: Nothing was erased, or the log could not be cleared (then try again).
    """
    try:
        with transaction(db):
            report = _erase_rows(db, conversation, at_us)
        if vacuum:
            db.execute("VACUUM")
        busy, _, _ = fetch(db, "PRAGMA wal_checkpoint(TRUNCATE)")[0]
    except apsw.Error as exc:
        raise mapped(exc) from exc
    if busy:
        raise StorageError(
            "the records are deleted, but a reader holds the log that still has them",
            fix="Run the command again in a moment.",
        )
    return msgspec.structs.replace(report, vacuumed=vacuum)


def _erase_rows(db: apsw.Connection, conversation: str, at_us: int) -> Erased:
    salt = fetch(db, "SELECT value FROM meta WHERE name='salt'")[0][0]
    db.execute(
        "INSERT OR IGNORE INTO tombstones(digest, at_us) VALUES(?,?)",
        (tombstone(salt, conversation), at_us),
    )
    windows = changed(
        db,
        "DELETE FROM windows WHERE key=? OR substr(key, instr(key, '/') + 1)=?",
        (conversation, conversation),
    )
    rows = fetch(db, "SELECT id FROM conversations WHERE name=?", (conversation,))
    if not rows:
        return Erased(conversation, 0, 0, 0, windows, {}, False)
    number = rows[0][0]
    mine = "position IN (SELECT position FROM records WHERE conversation=?)"
    delivered = {
        str(name): int(count)
        for name, count in fetch(
            db,
            "SELECT d.name, count(*) FROM records r JOIN destinations d"
            " ON (r.wanted >> d.id) & 1 WHERE r.conversation=?"
            " AND NOT EXISTS (SELECT 1 FROM pending p"
            "   WHERE p.destination=d.id AND p.position=r.position)"
            " AND NOT EXISTS (SELECT 1 FROM dead x"
            "   WHERE x.destination=d.id AND x.position=r.position) GROUP BY d.name",
            (number,),
        )
    }
    undelivered = changed(db, f"DELETE FROM pending WHERE {mine}", (number,))
    dead = changed(db, f"DELETE FROM dead WHERE {mine}", (number,))
    records = changed(db, "DELETE FROM records WHERE conversation=?", (number,))
    db.execute("DELETE FROM conversations WHERE id=?", (number,))
    return Erased(conversation, records, undelivered, dead, windows, delivered, False)


def _chosen(
    db: apsw.Connection, record_id: str | None, destination: str | None
) -> tuple[str, tuple[Any, ...]]:
    where = "1"
    values: tuple[Any, ...] = ()
    if record_id is not None:
        try:
            position = position_of(record_id)
        except ValueError:
            raise StorageError("this is no record id") from None
        where += " AND position=?"
        values = (*values, position)
    if destination is not None:
        where += " AND destination=?"
        values = (*values, destination_id(db, destination))
    return where, values


def retain(
    db: apsw.Connection,
    *,
    acked_before_us: int,
    dead_before_us: int,
    pause: Callable[[], None] = lambda: None,
) -> tuple[int, int]:
    """Delete what retention no longer keeps: settled records, and dead letters.

    Args:
        acked_before_us: Settled records committed before go.
        dead_before_us: Dead letters from before go.
        pause: Called between transactions.

    Returns:
        Settled records and dead letters deleted.

    Raises:
        StorageError: A write failed; what was deleted before stays deleted.
    """
    dead = purge_dead(db, before_us=dead_before_us)
    settled, after = purge_settled(db, acked_before_us)
    while after:
        pause()
        count, after = purge_settled(db, acked_before_us, after=after)
        settled += count
    return settled, dead
