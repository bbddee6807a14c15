"""One transaction: finished records, open windows and outcomes, all or nothing.

Runs on the store's writer thread and owns the only writing connection.

SQLite lets go of the interpreter's lock at every step of a statement, and while the event loop
is busy each step then waits up to a switch interval to get it back. So the work is put into few
steps: many rows in one ``INSERT``, many keys in one ``DELETE``.
"""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import apsw

from steno.adapters.store_sqlite.placing import (
    KIND_NUMBERS,
    Claim,
    Head,
    Key,
    place,
    placed_slot,
    slots,
)
from steno.adapters.store_sqlite.rows import (
    PLACED_COLUMNS,
    PLACED_WIDTH,
    Value,
    checksum,
    committed,
    key_value,
    next_slot,
    slot_of,
)
from steno.adapters.store_sqlite.sql import fetch, scalar
from steno.core.records import Draft, Kind, Record
from steno.delivery.ids import TAIL_BITS, next_position, position_of
from steno.errors import StorageError
from steno.ports import Commit, DeliveryState, Settlement

MAX_DESTINATIONS = 62
"""Destinations a store can ever have known: one bit each in a signed 64-bit integer."""

_PIECES = (256, 64, 32, *range(16, 0, -1))
"""Rows a statement may carry. Few sizes, so that every statement stays prepared; every small
one, as a commit among slowly flowing ones holds a handful of records."""

_INSERT_RECORDS = "INSERT OR IGNORE INTO records(" + PLACED_COLUMNS + ") VALUES "
_HEADS = "SELECT r.conversation, r.key, r.position, r.revision, r.placed FROM (VALUES "
_HEADS_END = (
    ") AS v CROSS JOIN records r INDEXED BY records_key ON r.conversation = v.column1"
    " AND r.slot BETWEEN v.column2 AND v.column3 WHERE r.placed IS NOT NULL"
)

_KNOWN_CONVERSATIONS = 20_000
_ALIVE_EVERY_US = 1_000_000


class _Conversation:
    """What the writer remembers of a conversation that is in use."""

    __slots__ = ("erased", "has_timeline", "id", "name", "seq", "stored")

    def __init__(self, name: str, id_: int, seq: int, *, stored: bool, erased: bool) -> None:
        self.name = name
        self.id = id_
        self.seq = seq
        self.stored = stored
        self.erased = erased
        self.has_timeline: bool | None = None if stored else False
        """None: not looked up yet."""


class Writer:
    """Applies commits and settlements to the database.

    Args:
        connection: The only writing connection.
        destinations: Kinds that each destination carries.
        now_us: The clock, UTC microseconds.
        draw: Draws a number of so many random bits, as a seed for the random part of ids.
        crash: What to call at each named step; None outside fault tests.
        follows: Note with what is written that the owner is alive.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        destinations: Mapping[str, frozenset[Kind]],
        *,
        now_us: Callable[[], int],
        draw: Callable[[int], int],
        crash: Callable[[str], None] | None = None,
        follows: bool = True,
    ) -> None:
        self._db = connection
        self._now_us = now_us
        # Seeded from the system, then cheap: the tail need only be unlikely to repeat.
        self._tail = random.Random(draw(256)).getrandbits  # noqa: S311  # no secret is made of it
        self._crash = crash
        self._follows = follows
        self._conversations: dict[str, _Conversation] = {}
        self._destination_ids: dict[str, int] = {}
        self._sql: dict[tuple[str, int], str] = {}
        self._version = -1
        self._swept_to = self._sweeping_to = 0
        self._changed = False
        self._alive_us = 0
        for name in destinations:
            self._register(name)
        self._wanted: dict[str, int] = {}
        self._wanting: dict[int, tuple[int, ...]] = {}
        for kind in Kind:
            ids = [self._destination_ids[n] for n, kinds in destinations.items() if kind in kinds]
            mask = sum(1 << i for i in ids)
            self._wanted[kind] = mask
            self._wanting[mask] = tuple(ids)
        self._position = scalar(self._db, "SELECT coalesce(max(position), 0) FROM records")
        self._next_id = scalar(self._db, "SELECT coalesce(max(id), 0) + 1 FROM conversations")
        self._salt: bytes = fetch(self._db, "SELECT value FROM meta WHERE name='salt'")[0][0]

    def _destination(self, name: str) -> int:
        known = self._destination_ids.get(name)
        if known is None:
            raise StorageError("the store does not know this destination", destination=name)
        return known

    def _register(self, name: str) -> None:
        rows = fetch(self._db, "SELECT id FROM destinations WHERE name=?", (name,))
        if rows:
            self._destination_ids[name] = int(rows[0][0])
            return
        free = scalar(self._db, "SELECT coalesce(max(id), -1) + 1 FROM destinations")
        if free >= MAX_DESTINATIONS:
            raise StorageError(
                "this store has known too many destinations",
                fix="Use a fresh state directory.",
                destinations=free,
            )
        self._db.execute("INSERT INTO destinations(id, name) VALUES(?,?)", (free, name))
        self._destination_ids[name] = free

    # --- the transaction -----------------------------------------------------------------

    def apply(
        self, commits: Sequence[Commit], settlements: Sequence[Settlement]
    ) -> tuple[list[list[Record]], bool]:
        """Write everything in one transaction and return each commit's new records.

        The second value tells that another process has changed the store since the last time.

        Raises:
            apsw.Error: Nothing was written.
        """
        try:
            return self._apply(commits, settlements, careful=False)
        except _Repeated:
            return self._apply(commits, settlements, careful=True)

    def _apply(
        self, commits: Sequence[Commit], settlements: Sequence[Settlement], *, careful: bool
    ) -> tuple[list[list[Record]], bool]:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            changed = self._look_around()
            results: list[list[Record]] = []
            if commits:
                results = self._insert(commits, careful=careful)
                self._journal(commits)
            if settlements:
                if self._crash is not None:
                    self._crash("settle.before")
                self._settle(settlements)
            self._note_alive()
            if self._crash is not None:
                self._crash("commit.before")
            db.execute("COMMIT")
        except BaseException:
            self.forget()
            # A failed COMMIT may have rolled back by itself.
            if not db.get_autocommit():
                db.execute("ROLLBACK")
            raise
        self._changed = False
        if self._crash is not None:
            self._crash("commit.after")
            if settlements:
                self._crash("settle.after")
        if len(self._conversations) > _KNOWN_CONVERSATIONS:
            for name in list(self._conversations)[: _KNOWN_CONVERSATIONS // 2]:
                del self._conversations[name]
        return results, changed

    def begin_sweep(self, last: int) -> int:
        """Return the position behind which retention has to look this time, up to ``last``.

        Before it nothing is left to delete since the last sweep that was finished; else every
        one of them would look at all that stays on the timelines. What is settled or superseded
        there later is looked at the next time.

        Raises:
            apsw.Error: Whether another process has written could not be read.
        """
        self._look_around()
        # Not beyond what is stored, whatever the clock says: the next record comes behind it.
        self._sweeping_to = max(min(last, self._position), self._swept_to)
        return self._swept_to

    def finish_sweep(self) -> None:
        """Take note that the sweep begun last has come to its end."""
        self._swept_to = self._sweeping_to

    def sweep_again(self, after: int = 0) -> None:
        """Let the next sweep begin behind a position, if it would not anyway."""
        self._swept_to = min(self._swept_to, after)
        self._sweeping_to = min(self._sweeping_to, after)

    def changed_outside(self) -> bool:
        """Tell whether another process has changed the store since the last time.

        Raises:
            apsw.Error: It could not be read.
        """
        changed = self._look_around()
        self._changed = False
        return changed

    def _look_around(self) -> bool:
        """Forget what is remembered if another process has written; tell whether it has.

        Inside the transaction nobody else can write any more, so this cannot be outrun.
        """
        version = scalar(self._db, "PRAGMA data_version")
        if version == self._version:
            return self._changed
        first = self._version < 0
        self._version = version
        self.sweep_again()
        self.forget()
        # Kept until a transaction succeeds: the one that noticed may have to be done again.
        self._changed = self._changed or not first
        return self._changed

    def forget(self) -> None:
        """Drop what is remembered of conversations; it is read again when needed."""
        self._conversations.clear()

    def _note_alive(self) -> None:
        now_us = self._now_us()
        if self._follows and now_us - self._alive_us >= _ALIVE_EVERY_US:
            self._alive_us = now_us
            self._db.execute(
                "INSERT OR REPLACE INTO meta(name, value) VALUES('last_alive_us', ?)", (now_us,)
            )

    # --- records -------------------------------------------------------------------------

    def _conversation(self, name: str) -> _Conversation:
        known = self._conversations.get(name)
        if known is not None:
            return known
        rows = fetch(self._db, "SELECT id, last_seq FROM conversations WHERE name=?", (name,))
        if rows:
            known = _Conversation(name, rows[0][0], rows[0][1], stored=True, erased=False)
        else:
            erased = fetch(
                self._db, "SELECT 1 FROM tombstones WHERE digest=?", (tombstone(self._salt, name),)
            )
            known = _Conversation(name, self._next_id, 0, stored=False, erased=bool(erased))
            self._next_id += 1
        self._conversations[name] = known
        return known

    def _insert(self, commits: Sequence[Commit], *, careful: bool) -> list[list[Record]]:
        unix_ms = self._now_us() // 1000
        flat: list[Value] = []
        marks: list[int] = []
        claims: list[Claim] = []
        touched: dict[str, _Conversation] = {}
        seen: set[tuple[int, int]] = set()
        results: list[list[Record]] = []
        taken = self._taken(commits) if careful else {}
        position = self._position
        rows = 0
        for commit in commits:
            new: list[Record] = []
            for draft in commit.drafts:
                home = self._conversation(draft.conversation)
                if home.erased:
                    continue
                key = key_value(draft.key)
                slot = _slot(draft, key)
                while (held := taken.get((home.id, slot))) is not None:
                    if held == (key, draft.revision):
                        break
                    slot = next_slot(slot)
                if held is not None or (home.id, slot) in seen:
                    continue  # stored already, or twice in this transaction
                seen.add((home.id, slot))
                position = next_position(position, unix_ms)
                home.seq += 1
                tail = self._tail(TAIL_BITS)
                touched[home.name] = home
                wanted = self._wanted[draft.kind]
                record = committed(draft, position, tail, home.seq)
                place_us = draft.place_us
                flat += (
                    position, tail, home.id, slot, draft.kind, draft.source, draft.lane,
                    draft.utterance, draft.revision, key, home.seq, home.seq - 1,
                    draft.origin, draft.at_us, wanted, checksum(record, place_us),
                    draft.payload, place_us, None,
                )  # fmt: skip
                if place_us is not None:
                    number = KIND_NUMBERS[draft.kind]
                    claims.append(Claim(home.id, key, draft.revision, rows, number))
                    home.has_timeline = True
                elif draft.revision and self._has_timeline(home):
                    claims.append(Claim(home.id, key, draft.revision, rows, None))
                rows += 1
                for destination in self._wanting[wanted]:
                    marks += (destination, position)
                new.append(record)
            results.append(new)
        if claims:
            self._place(claims, flat)
        if flat:
            self._insert_rows(flat, marks, touched.values(), position)
            self._position = position
        return results

    def _insert_rows(
        self, flat: list[Value], marks: list[int], touched: Any, position: int
    ) -> None:  # Any: a view of the conversations
        rows = len(flat) // PLACED_WIDTH
        before = self._db.total_changes()
        self._rows(_INSERT_RECORDS, PLACED_WIDTH, flat)
        if self._db.total_changes() - before != rows:
            raise _Repeated
        if marks:
            self._rows("INSERT INTO pending(destination, position) VALUES ", 2, marks)
        fresh: list[Value] = []
        moved: list[Value] = []
        for home in touched:
            if home.stored:
                moved += (home.id, home.seq, position)
            else:
                fresh += (home.id, home.name, home.seq, position)
                home.stored = True
        if fresh:
            self._rows(
                "INSERT INTO conversations(id, name, last_seq, last_position) VALUES ", 4, fresh
            )
        if moved:
            self._rows(
                "UPDATE conversations SET last_seq=v.column2, last_position=v.column3"
                " FROM (VALUES ",
                3,
                moved,
                ") AS v WHERE id=v.column1",
            )

    def _taken(self, commits: Sequence[Commit]) -> dict[tuple[int, int], tuple[Value, int]]:
        """Return which places are held, and by which key and revision."""
        wanted: list[Value] = []
        for commit in commits:
            for draft in commit.drafts:
                home = self._conversation(draft.conversation)
                wanted += (home.id, _slot(draft, key_value(draft.key)))
        held: dict[tuple[int, int], tuple[Value, int]] = {}
        while wanted:
            found = self._held(wanted)
            wanted = []
            for conversation, slot, key, revision in found:
                if (conversation, slot) not in held:
                    held[(conversation, slot)] = (key, revision)
                    # Two keys on one place: as good as never, and then the next one counts.
                    wanted += (conversation, next_slot(slot))
        return held

    def _held(self, places: Sequence[Value]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        for sql, values in self._pieces(
            "SELECT conversation, slot, key, revision FROM records"
            " WHERE (conversation, slot) IN (VALUES ",
            2,
            places,
            ")",
        ):
            found += fetch(self._db, sql, values)
        return found

    # --- the timeline --------------------------------------------------------------------

    def _has_timeline(self, home: _Conversation) -> bool:
        if home.has_timeline is None:
            home.has_timeline = bool(
                fetch(
                    self._db,
                    "SELECT 1 FROM records WHERE conversation=? AND placed IS NOT NULL LIMIT 1",
                    (home.id,),
                )
            )
        return home.has_timeline

    def _place(self, claims: Sequence[Claim], flat: list[Value]) -> None:
        """Put the newest revision of each key on its timeline, and take the one before it off."""
        places: list[Value] = []
        for claim in claims:
            places += (claim.conversation, *slots(claim.key))
        heads: dict[tuple[int, Key], Head] = {}
        for sql, values in self._pieces(_HEADS, 3, places, _HEADS_END):
            for conversation, key, *head in fetch(self._db, sql, values):
                heads[(conversation, key)] = Head(*head)
        done = place(claims, heads)
        for row, placed in done.rows.items():
            flat[(row + 1) * PLACED_WIDTH - 1] = placed
        superseded: list[Value] = []
        for position, placed in done.stored.items():
            if placed is None:
                superseded.append(position)
                self.sweep_again(position - 1)
            else:
                self._db.execute("UPDATE records SET placed=? WHERE position=?", (placed, position))
        if superseded:
            self._listed("UPDATE records SET placed=NULL WHERE position IN (", superseded)

    # --- open windows --------------------------------------------------------------------

    def _journal(self, commits: Sequence[Commit]) -> None:
        latest: dict[str, bytes | None] = {}
        for commit in commits:
            if commit.windows:
                latest.update(commit.windows)
        if not latest:
            return
        kept: list[Value] = []
        gone: list[Value] = []
        for key, sealed in latest.items():
            if sealed is None or self._conversation(conversation_of(key)).erased:
                gone.append(key)
            else:
                kept += (key, sealed)
        if kept:
            self._rows(
                "INSERT INTO windows(key, sealed) VALUES ",
                2,
                kept,
                " ON CONFLICT(key) DO UPDATE SET sealed=excluded.sealed",
            )
        if gone:
            self._listed("DELETE FROM windows WHERE key IN (", gone)

    # --- outcomes ------------------------------------------------------------------------

    def _settle(self, settlements: Sequence[Settlement]) -> None:
        acked: dict[int, list[int]] = {}
        others: list[tuple[int, int, Settlement]] = []
        for settlement in settlements:
            destination = self._destination(settlement.destination)
            position = position_of(settlement.record_id)
            if settlement.state is DeliveryState.ACKED:
                acked.setdefault(destination, []).append(position)
            else:
                others.append((destination, position, settlement))
                self.sweep_again(position - 1)
        for destination, positions in acked.items():
            self.sweep_again(min(positions) - 1)
            self._listed(
                f"DELETE FROM pending WHERE destination={int(destination)} AND position IN (",
                positions,
            )
        for destination, position, settlement in others:
            self._settle_one(destination, position, settlement)

    def _settle_one(self, destination: int, position: int, settlement: Settlement) -> None:
        place = (destination, position)
        match settlement.state:
            case DeliveryState.RETRY | DeliveryState.PENDING:
                self._db.execute(
                    "UPDATE pending SET attempts=?, next_at_us=?, reason=?"
                    " WHERE destination=? AND position=?",
                    (settlement.attempts, settlement.next_at_us, settlement.reason, *place),
                )
            case DeliveryState.DEAD:
                self._db.execute(
                    "INSERT OR REPLACE INTO dead(destination, position, attempts, reason, at_us)"
                    " SELECT destination, position, ?, ?, ? FROM pending"
                    " WHERE destination=? AND position=?",
                    (settlement.attempts, settlement.reason, self._now_us(), *place),
                )
                self._unmark(place)
            case DeliveryState.UNWANTED:
                self._db.execute(
                    "UPDATE records SET wanted = wanted & ~(1 << ?1) WHERE position=?2 AND EXISTS"
                    " (SELECT 1 FROM pending WHERE destination=?1 AND position=?2)",
                    place,
                )
                self._unmark(place)
            case _:
                raise StorageError("a record cannot be settled so", state=str(settlement.state))

    def _unmark(self, place: tuple[int, int]) -> None:
        self._db.execute("DELETE FROM pending WHERE destination=? AND position=?", place)

    # --- statements of many rows ---------------------------------------------------------

    def _rows(self, head: str, width: int, flat: Sequence[Value], end: str = "") -> None:
        for sql, values in self._pieces(head, width, flat, end):
            self._db.execute(sql, values)

    def _listed(self, head: str, values: Sequence[Value]) -> None:
        start = 0
        for rows in _sizes(len(values)):
            sql = self._sql.get((head, rows))
            if sql is None:
                sql = self._sql[(head, rows)] = head + ",".join(repeat("?", rows)) + ")"
            self._db.execute(sql, values[start : start + rows])
            start += rows

    def _pieces(
        self, head: str, width: int, flat: Sequence[Value], end: str = ""
    ) -> Iterator[tuple[str, Sequence[Value]]]:
        start = 0
        for rows in _sizes(len(flat) // width):
            sql = self._sql.get((head, rows))
            if sql is None:
                one = "(" + ",".join(repeat("?", width)) + ")"
                sql = self._sql[(head, rows)] = head + ",".join(repeat(one, rows)) + end
            yield sql, flat[start : start + rows * width]
            start += rows * width


class _Repeated(Exception):
    """A key and revision of the transaction is stored already; it is done again with care."""


def _slot(draft: Draft, key: Key) -> int:
    if draft.place_us is None:
        return slot_of(key, draft.revision)
    return placed_slot(key, draft.revision)


def _sizes(count: int) -> Iterator[int]:
    for size in _PIECES:
        while count >= size:
            yield size
            count -= size


def conversation_of(journal_key: str) -> str:
    """Return the conversation of a journal key, ``conversation`` or ``source/conversation``."""
    return journal_key.rpartition("/")[2]


def tombstone(salt: bytes, conversation: str) -> bytes:
    """Return what is kept of an erased conversation's id: a hash keyed with the store's salt."""
    return hmac.new(salt, conversation.encode(), hashlib.sha256).digest()


def drafts_of(commits: Sequence[Commit]) -> Iterator[Draft]:
    """Return every draft of some commits, in order."""
    for commit in commits:
        yield from commit.drafts
