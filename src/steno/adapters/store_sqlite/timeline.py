"""Records by conversation and place, read beside whoever writes them.

Everything is read a page at a time and each page is a read of its own: memory stays flat, the
owner's log can be folded back while a long listing goes on, and an erasure is not held up.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from steno.adapters.store_sqlite.placing import KIND_NUMBERS, slots
from steno.adapters.store_sqlite.read_only import ReadOnly
from steno.adapters.store_sqlite.rows import SELECTED, decoded, key_value
from steno.adapters.store_sqlite.schema import SCHEMA_VERSION
from steno.core.records import Kind, Record
from steno.delivery.ids import first_position, position_us
from steno.errors import IntegrityError, StorageError
from steno.ports import TimelineEntry

PAGE = 500
"""Records, or conversations, in memory at a time."""

_MIN_PLACE = -(1 << 63)

# Which index is used is not left to guesses: the other one would sort a conversation, or visit
# all its records.
_CONVERSATIONS = (
    "SELECT c.name, count(*), min(r.position), max(r.position) FROM conversations c"
    " CROSS JOIN records r INDEXED BY records_timeline"
    " ON r.conversation = c.id AND r.placed = ?1"
    " WHERE c.name {} ?2 AND c.last_position >= ?3"
    " GROUP BY c.name HAVING max(r.position) >= ?3 ORDER BY c.name LIMIT ?4"
)
_READ = (
    f"SELECT {SELECTED} FROM conversations c"
    " CROSS JOIN records r INDEXED BY records_timeline ON r.conversation = c.id"
    " WHERE c.name = ?1 AND r.placed = ?2 AND "
)
# Two questions, as SQLite would look at all records of one place again for each page of them.
_READ_SAME = _READ + "r.place_us = ?3 AND r.position > ?4 ORDER BY r.position LIMIT ?5"
_READ_LATER = _READ + "r.place_us > ?3 ORDER BY r.place_us, r.position LIMIT ?4"
_LATEST = (
    f"SELECT {SELECTED} FROM conversations c"
    " CROSS JOIN records r INDEXED BY records_key ON r.conversation = c.id"
    " WHERE c.name = ? AND r.slot BETWEEN ? AND ? AND r.key = ? AND r.placed >= 0"
)
_KNOWS = (
    "SELECT 1 FROM conversations c WHERE c.name = ?"
    " AND EXISTS (SELECT 1 FROM records r WHERE r.conversation = c.id)"
)


class TimelineReader:
    """``ports.Timeline`` of a store, through a connection that cannot write.

    Usable from another process beside the owner, or by the owner once it has opened the store.
    Use it from one thread at a time: one reader for each task that runs on its own.

    Args:
        path: The database file.

    Raises:
        ObjectMissing: There is no store.
        StorageError: It cannot be read, or is of another version than the program's.
    """

    def __init__(self, path: Path) -> None:
        self._store = ReadOnly(path, fix="Run `steno diarise` first.")
        self._all = self._store.all
        if self._store.version != SCHEMA_VERSION:
            self._store.close()
            raise StorageError(
                "the store is of an older version",
                fix="Start steno once to bring it up to date.",
            )

    def __enter__(self) -> TimelineReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._store.close()

    def conversations(
        self, kind: Kind, *, since_us: int = 0, conversation: str | None = None
    ) -> Iterator[TimelineEntry]:
        """Yield the conversations with records of a kind on their timeline, by name.

        Args:
            since_us: Only those with such a record committed at or after it; commit times are
                known to the millisecond, and this is rounded down to it.
            conversation: Only this one.

        Raises:
            StorageError: Reading failed.
        """
        since = first_position(since_us // 1000)
        number = KIND_NUMBERS[kind]
        compared, name, limit = ("=", conversation, 1) if conversation is not None else (
            ">=", "", PAGE
        )  # fmt: skip
        while True:
            page = self._all(_CONVERSATIONS.format(compared), (number, name, since, limit))
            for name, records, first, last in page:
                yield TimelineEntry(name, records, position_us(first), position_us(last))
            if len(page) < PAGE:
                return
            compared = ">"

    def read(self, conversation: str, kind: Kind) -> Iterator[Record]:
        """Yield a conversation's records of a kind by place, then by order of commit.

        In memory there is one page of them at a time. A page is what the store held when it was
        read: of a key whose new revision is committed meanwhile, at another place, a reader may
        see both or none.

        Raises:
            IntegrityError: A record is damaged; says its position only.
            StorageError: Reading failed.
        """
        number = KIND_NUMBERS[kind]
        place_us, position = _MIN_PLACE, 0
        while True:
            page = self._all(_READ_SAME, (conversation, number, place_us, position, PAGE))
            if rest := PAGE - len(page):
                page += self._all(_READ_LATER, (conversation, number, place_us, rest))
            for row in page:
                record = decoded(row)
                if record.kind is not kind:
                    raise IntegrityError("a stored record is damaged", position=row[0])
                yield record
            if len(page) < PAGE:
                return
            position, place_us = page[-1][0], page[-1][-1]

    def latest(self, conversation: str, key: str) -> Record | None:
        """Return what the timeline has of a key, which is its newest revision, or None.

        Raises:
            IntegrityError: The record is damaged; says its position only.
            StorageError: Reading failed.
        """
        value = key_value(key)
        rows = self._all(_LATEST, (conversation, *slots(value), value))
        return decoded(rows[0]) if rows else None

    def knows(self, conversation: str) -> bool:
        """Tell whether any record of the conversation is stored, on its timeline or not.

        Raises:
            StorageError: Reading failed.
        """
        return bool(self._all(_KNOWS, (conversation,)))
