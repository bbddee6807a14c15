"""A store opened beside whoever owns it, through a connection that cannot write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from steno.adapters.store_sqlite.faults import mapped
from steno.adapters.store_sqlite.schema import connect, refuse_newer, schema_version
from steno.adapters.store_sqlite.sql import fetch
from steno.errors import IntegrityError, ObjectMissing, StorageError


class ReadOnly:
    """Reads with errors of ours. Not for use from several threads at once.

    Args:
        path: The database file.
        fix: What makes a store where there is none.

    Raises:
        ObjectMissing: There is no store, or nothing in it.
        StorageError: It cannot be read, or is of a newer program.
    """

    def __init__(self, path: Path, *, fix: str) -> None:
        if not path.exists():
            raise ObjectMissing("there is no outbox yet", fix=fix)
        self._db = connect(path, readonly=True)
        try:
            self.version = schema_version(self._db)
            refuse_newer(self.version)
            if self.version == 0:
                raise ObjectMissing("the outbox is empty")
        except apsw.Error as exc:
            self.close()
            raise mapped(exc) from exc
        except StorageError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._db.close(True)

    def all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query.

        Raises:
            IntegrityError: A text in it is damaged.
            StorageError: Reading failed.
        """
        try:
            return fetch(self._db, sql, values)
        except apsw.Error as exc:
            raise mapped(exc) from exc
        except UnicodeDecodeError:
            raise IntegrityError("a stored record is damaged") from None
