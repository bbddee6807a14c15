"""What the outbox holds, read beside the process that owns it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec

from steno.adapters.store_sqlite.read_only import ReadOnly
from steno.adapters.store_sqlite.rows import SELECTED, SELECTED_V1, SELECTED_WIDTH, decoded
from steno.adapters.store_sqlite.schema import (
    SCHEMA_VERSION,
    connect,
    schema_version,
)
from steno.adapters.store_sqlite.sql import fetch
from steno.core.records import Kind, Record
from steno.delivery.ids import position_of, position_range, position_us, record_id
from steno.errors import ObjectMissing, StorageError
from steno.ports import DeliveryState, Pending

_STATE = (
    "CASE WHEN NOT (r.wanted >> d.id) & 1 THEN 'unwanted'"
    " WHEN x.position IS NOT NULL THEN 'dead'"
    " WHEN p.position IS NULL THEN 'acked'"
    " WHEN p.attempts > 0 THEN 'retry' ELSE 'pending' END"
)
_JOINED = (
    " FROM records r JOIN conversations c ON c.id = r.conversation CROSS JOIN destinations d"
    " LEFT JOIN pending p ON p.destination = d.id AND p.position = r.position"
    " LEFT JOIN dead x ON x.destination = d.id AND x.position = r.position"
)
_FROM_UNSETTLED = {
    # Beginning with the small table keeps a listing of what waits fast in a large store.
    "p": (
        " FROM pending p JOIN records r ON r.position = p.position"
        " JOIN conversations c ON c.id = r.conversation JOIN destinations d ON d.id = p.destination"
        " LEFT JOIN dead x ON x.destination = d.id AND x.position = r.position"
    ),
    "x": (
        " FROM dead x JOIN records r ON r.position = x.position"
        " JOIN conversations c ON c.id = r.conversation JOIN destinations d ON d.id = x.destination"
        " LEFT JOIN pending p ON p.destination = d.id AND p.position = r.position"
    ),
}


class Counts(msgspec.Struct, frozen=True, gc=False):
    """How many records of a destination are in each state.

    ``oldest_us`` is when the oldest unsettled one was committed, UTC microseconds; 0 for none.
    """

    pending: int = 0
    retry: int = 0
    dead: int = 0
    acked: int = 0
    unwanted: int = 0
    oldest_us: int = 0


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A record at one destination, without its payload. Times are UTC microseconds."""

    id: str
    destination: str
    state: DeliveryState
    attempts: int
    reason: str
    next_at_us: int
    committed_us: int
    kind: str
    source: str
    conversation: str
    lane: str
    utterance: str
    revision: int
    seq: int
    at_us: int
    position: int


class Shown(msgspec.Struct, frozen=True, gc=False):
    """A record with its payload, and its state at every destination."""

    record: Record
    committed_us: int
    deliveries: tuple[Entry, ...]


_ENTRY = (
    f"r.position, r.tail, d.name, {_STATE}, coalesce(p.attempts, x.attempts, 0),"
    " coalesce(x.reason, p.reason, ''), coalesce(p.next_at_us, 0), r.kind, r.source, c.name,"
    " r.lane, r.utterance, r.revision, r.seq, r.at_us"
)


def _entry(row: Sequence[Any]) -> Entry:
    (
        position, tail, destination, state, attempts, reason, next_at_us,
        kind, source, conversation, lane, utterance, revision, seq, at_us,
    ) = row  # fmt: skip
    return Entry(
        record_id(position, tail),
        destination,
        DeliveryState(state),
        attempts,
        reason,
        next_at_us,
        position_us(position),
        kind,
        source,
        conversation,
        lane,
        utterance,
        revision,
        seq,
        at_us,
        position,
    )


class OutboxReader:
    """Queries of a store through a connection that cannot write.

    Usable from another process beside the owner. Not for use from several threads at once.

    Args:
        path: The database file.

    Raises:
        ObjectMissing: There is no store.
        StorageError: It cannot be read, or is of a newer program.
    """

    def __init__(self, path: Path) -> None:
        self._store = ReadOnly(path, fix="Run `steno live` or `steno run` first.")
        self._all = self._store.all
        self._selected = SELECTED if self._store.version > 1 else SELECTED_V1

    def __enter__(self) -> OutboxReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._store.close()

    def counts(self) -> dict[str, Counts]:
        """Return the counts of each destination the store has ever known.

        Raises:
            StorageError: Reading failed.
        """
        total = self._all("SELECT count(*) FROM records")[0][0]
        found = {}
        for number, name in self._all("SELECT id, name FROM destinations ORDER BY name"):
            fresh, tried, oldest = self._all(
                "SELECT coalesce(sum(attempts = 0), 0), coalesce(sum(attempts > 0), 0),"
                " coalesce(min(position), 0) FROM pending WHERE destination=?",
                (number,),
            )[0]
            dead = self._all("SELECT count(*) FROM dead WHERE destination=?", (number,))[0][0]
            wanted = self._all("SELECT count(*) FROM records WHERE (wanted >> ?) & 1", (number,))[
                0
            ][0]
            found[name] = Counts(
                fresh,
                tried,
                dead,
                wanted - fresh - tried - dead,
                total - wanted,
                position_us(oldest) if oldest else 0,
            )
        return found

    def entries(
        self,
        *,
        state: DeliveryState | None = None,
        destination: str | None = None,
        conversation: str | None = None,
        kind: Kind | None = None,
        limit: int = 100,
        after: int = 0,
    ) -> list[Entry]:
        """Return records at their destinations, oldest first.

        Args:
            after: Position to go on from: that of the last entry of the page before.

        Raises:
            StorageError: Reading failed.
        """
        source = _JOINED
        if state in (DeliveryState.PENDING, DeliveryState.RETRY):
            source = _FROM_UNSETTLED["p"]
        elif state is DeliveryState.DEAD:
            source = _FROM_UNSETTLED["x"]
        where = ["r.position > ?"]
        values: list[Any] = [after]
        for clause, value in (
            (f"{_STATE} = ?", state and str(state)),
            ("d.name = ?", destination),
            ("c.name = ?", conversation),
            ("r.kind = ?", kind and str(kind)),
        ):
            if value is not None:
                where.append(clause)
                values.append(value)
        rows = self._all(
            f"SELECT {_ENTRY}{source} WHERE {' AND '.join(where)}"
            " ORDER BY r.position, d.name LIMIT ?",
            (*values, limit),
        )
        return [_entry(row) for row in rows]

    def show(self, prefix: str) -> Shown:
        """Return the record whose id begins with ``prefix``.

        Raises:
            ObjectMissing: No record, or more than one, has such an id.
            IntegrityError: The record is damaged.
            StorageError: Reading failed.
        """
        try:
            lowest, highest = position_range(prefix)
        except ValueError:
            raise ObjectMissing("this is not the beginning of a record id") from None
        rows = self._all(
            f"SELECT {self._selected} FROM records r JOIN conversations c ON c.id = r.conversation"
            " WHERE r.position BETWEEN ? AND ? LIMIT 2",
            (lowest, highest),
        )
        matching = [
            row
            for row in rows
            if record_id(row[0], row[1])
            .replace("-", "")
            .startswith(prefix.replace("-", "").lower())
        ]
        if len(matching) != 1:
            few = "more than one record" if len(rows) > 1 else "no record"
            raise ObjectMissing(f"{few} has an id beginning so")
        record = decoded(matching[0])
        position = position_of(record.id)
        deliveries = self._all(
            f"SELECT {_ENTRY}{_JOINED} WHERE r.position = ? ORDER BY d.name",
            (position,),
        )
        return Shown(record, position_us(position), tuple(_entry(row) for row in deliveries))

    def records(
        self, conversation: str | None = None, *, kind: Kind | None = None, after: int = 0,
        limit: int = 1000,
    ) -> list[Record]:  # fmt: skip
        """Return stored records, oldest first, from position ``after`` on.

        Raises:
            IntegrityError: One is damaged.
            StorageError: Reading failed.
        """
        rows = self._all(
            f"SELECT {self._selected} FROM records r JOIN conversations c ON c.id = r.conversation"
            " WHERE r.position > ?1 AND (?2 IS NULL OR c.name = ?2) AND (?3 IS NULL OR r.kind = ?3)"
            " ORDER BY r.position LIMIT ?4",
            (after, conversation, kind and str(kind), limit),
        )
        return [decoded(row) for row in rows]

    def check(self) -> list[str]:
        """Return what is wrong with the file, in words of the database; empty when it is whole.

        Raises:
            StorageError: It cannot be read at all.
        """
        found = [str(row[0]) for row in self._all("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found


_PAGE = (
    f"SELECT p.attempts, p.next_at_us, {SELECTED} FROM pending p"
    " JOIN records r ON r.position = p.position JOIN conversations c ON c.id = r.conversation"
    " WHERE p.destination = (SELECT id FROM destinations WHERE name=?)"
)


def pending_page(
    db: apsw.Connection, destination: str, limit: int, after: int
) -> tuple[list[Pending], list[str], int]:
    """Return unsettled records of a destination, oldest first.

    Returns:
        The records; the ids of rows that are damaged; the position to go on from.

    Raises:
        apsw.Error: Reading failed.
    """
    try:
        rows = fetch(db, _PAGE + " AND p.position > ? ORDER BY p.position LIMIT ?",
                     (destination, after, limit))  # fmt: skip
    except UnicodeDecodeError:
        rows = _row_by_row(db, destination, limit, after)
    found = []
    damaged = []
    for attempts, next_at_us, *row in rows:
        try:
            found.append(Pending(decoded(row), attempts, next_at_us))
        except StorageError:
            damaged.append(record_id(row[0], row[1]))
    return found, damaged, rows[-1][2] if rows else after


def _row_by_row(
    db: apsw.Connection, destination: str, limit: int, after: int
) -> list[tuple[Any, ...]]:
    """Return a page of which some row's text is damaged; such a row has only its position."""
    rows = []
    for (position,) in fetch(
        db,
        "SELECT position FROM pending WHERE position > ? AND destination ="
        " (SELECT id FROM destinations WHERE name=?) ORDER BY position LIMIT ?",
        (after, destination, limit),
    ):
        try:
            rows += fetch(db, _PAGE + " AND p.position = ?", (destination, position))
        except UnicodeDecodeError:
            rows.append((0, 0, position, 0) + (None,) * (SELECTED_WIDTH - 2))
    return rows


@contextmanager
def writing(path: Path) -> Iterator[apsw.Connection]:
    """Give a writing connection for ``admin``, with or without a running owner.

    Raises:
        ObjectMissing: There is no store.
        StorageError: It cannot be opened, or is not of this program's version.
    """
    with OutboxReader(path):  # refuses a missing store and a newer one
        pass
    db = connect(path)
    try:
        if schema_version(db) != SCHEMA_VERSION:
            raise StorageError(
                "the store is of an older version", fix="Start steno once to bring it up to date."
            )
        yield db
    finally:
        db.close(True)
