"""Two things every module here does with a connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apsw


def fetch(db: apsw.Connection, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return all rows of a query; the schema says what a column holds.

    Raises:
        apsw.Error: It failed.
    """
    rows: list[tuple[Any, ...]] = db.execute(sql, values).fetchall()
    return rows


def scalar(db: apsw.Connection, sql: str, values: Sequence[Any] = ()) -> int:
    """Return the number in the first row of a query; 0 for none or NULL.

    Raises:
        apsw.Error: It failed.
    """
    rows = fetch(db, sql, values)
    return int(rows[0][0] or 0) if rows else 0


def changed(db: apsw.Connection, sql: str, values: Sequence[Any] = ()) -> int:
    """Run a statement and return how many rows it changed.

    Raises:
        apsw.Error: It failed.
    """
    db.execute(sql, values)
    return int(db.changes())


@contextmanager
def transaction(db: apsw.Connection) -> Iterator[None]:
    """Run a block as one transaction that holds the write lock from its beginning.

    A block that reads first and writes later would otherwise fail as soon as another process
    has written in between.

    Raises:
        apsw.Error: Nothing of the block was written.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # A failed COMMIT may have rolled back by itself.
        if not db.get_autocommit():
            db.execute("ROLLBACK")
        raise
