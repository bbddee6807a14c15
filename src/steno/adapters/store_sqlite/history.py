"""What live delivery has stored of gaps and conversations, read beside whoever writes it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import msgspec

from steno.adapters.store_sqlite.read_only import ReadOnly
from steno.adapters.store_sqlite.rows import SELECTED, SELECTED_V1, decoded
from steno.core.records import GapPayload, Kind, Origin, Record
from steno.delivery.ids import first_position, position_of, position_us
from steno.errors import IntegrityError
from steno.ports import Delivered, KnownGap

PAGE: Final = 500

_FROM = " FROM records r JOIN conversations c ON c.id = r.conversation"
_decode = msgspec.json.Decoder(GapPayload).decode


class HistoryReader:
    """``ports.DeliveryHistory`` of a store, through a connection that cannot write.

    Usable from another process beside the owner, or by the owner once it has opened the store.
    Not for use from several threads at once.

    Args:
        path: The database file.
        sources: Names of the live sources; records of others are no concern of repair.

    Raises:
        ObjectMissing: There is no store.
        StorageError: It cannot be read, or is of a newer program.
    """

    def __init__(self, path: Path, sources: Collection[str]) -> None:
        self._store = ReadOnly(path, fix="Run `steno live` or `steno run` first.")
        self._all = self._store.all
        self._selected = SELECTED if self._store.version > 1 else SELECTED_V1
        self._sources = tuple(sources)
        self._is_live = f"r.source IN ({','.join('?' * len(self._sources))})"

    def __enter__(self) -> HistoryReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._store.close()

    def gaps(self) -> Iterator[KnownGap]:
        """See ``DeliveryHistory.gaps``; in memory there is one page at a time.

        Raises:
            IntegrityError: A record is damaged.
            StorageError: Reading failed.
        """
        after = 0
        while True:
            rows = self._all(
                f"SELECT {self._selected}{_FROM} WHERE r.position > ? AND r.kind = 'gap'"
                f" AND {self._is_live} ORDER BY r.position LIMIT ?",
                (after, *self._sources, PAGE),
            )
            for row in rows:
                yield _gap(decoded(row), position_us(row[0]))
            if len(rows) < PAGE:
                return
            after = rows[-1][0]

    def heard(self, from_us: int, to_us: int) -> list[str]:
        """See ``DeliveryHistory.heard``.

        Raises:
            StorageError: Reading failed.
        """
        first = first_position(max(0, from_us) // 1000)
        last = min(first_position(to_us // 1000 + 1), (1 << 63) - 1)
        rows = self._all(
            f"SELECT DISTINCT c.name{_FROM} WHERE r.position BETWEEN ? AND ?"
            f" AND r.kind = 'sentence' AND {self._is_live} AND c.name <> '' ORDER BY c.name",
            (first, last, *self._sources),
        )
        return [str(name) for (name,) in rows]

    def delivered(self, conversation: str) -> Delivered:
        """See ``DeliveryHistory.delivered``.

        Raises:
            IntegrityError: A record is damaged.
            StorageError: Reading failed.
        """
        rows = self._all(
            f"SELECT {self._selected} FROM conversations c"
            " CROSS JOIN records r INDEXED BY records_key ON r.conversation = c.id"
            " WHERE c.name = ? AND (r.kind = 'reconciled'"
            f" OR (r.kind = 'sentence' AND {self._is_live})) ORDER BY r.position",
            (conversation, *self._sources),
        )
        newest: dict[str, Record] = {}
        reconciled: Record | None = None
        backfilled: list[Record] = []
        last_us = 0
        for row in rows:
            record = decoded(row)
            if record.kind is Kind.RECONCILED:
                if reconciled is None or record.revision >= reconciled.revision:
                    reconciled = record
            elif record.origin is Origin.BACKFILL:
                backfilled.append(record)
            else:
                known = newest.get(record.key)
                if known is None or record.revision > known.revision:
                    newest[record.key] = record
                last_us = position_us(row[0])
        return Delivered(
            tuple(newest.values()),
            tuple(backfilled),
            reconciled,
            self._is_whole(conversation),
            last_us,
            position_us(position_of(reconciled.id)) if reconciled is not None else 0,
        )

    def _is_whole(self, conversation: str) -> bool:
        """Tell whether every record that the conversation ever had is here."""
        rows = self._all(
            "SELECT c.last_seq, (SELECT count(*) FROM records r WHERE r.conversation = c.id)"
            " FROM conversations c WHERE c.name = ?",
            (conversation,),
        )
        return not rows or rows[0][0] == rows[0][1]


def _gap(record: Record, committed_us: int) -> KnownGap:
    try:
        payload = _decode(record.payload)
    except msgspec.MsgspecError:
        raise IntegrityError("a stored gap cannot be read") from None
    return KnownGap(
        record.key,
        record.conversation,
        payload.cause.value,
        payload.from_us,
        payload.to_us,
        committed_us,
    )
