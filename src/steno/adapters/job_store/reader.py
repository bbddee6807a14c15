"""What the jobs' list holds, read beside the process that owns it; and wishes left for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw

from steno.adapters.job_store import rows
from steno.adapters.job_store.database import (
    SCHEMA_VERSION,
    connect,
    known_version,
    mapped,
    transaction,
)
from steno.errors import IntegrityError, ObjectMissing, StorageError
from steno.ports.jobs import EndedJob, Job, JobCounts, JobFilter, ListedJob, Wish, WishKind

T = TypeVar("T")


class JobReader:
    """Queries through a connection that cannot write. Not for several threads at once.

    Args:
        path: The database file.

    Raises:
        ObjectMissing: There is none.
        StorageError: It cannot be read, or is of a newer program, or of an older one.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise ObjectMissing("there are no jobs yet", fix="Run `steno transcribe` first.")
        self._db = connect(path, readonly=True)
        try:
            version = known_version(self._db)
            if version == 0:
                raise ObjectMissing("there are no jobs yet", fix="Run `steno transcribe` first.")
            if version < SCHEMA_VERSION:
                raise StorageError(
                    "the store of jobs was written by an older version of steno",
                    fix="Run `steno transcribe` once: it brings it up to date.",
                    store_version=version,
                    program_version=SCHEMA_VERSION,
                )
        except apsw.Error as exc:
            self._db.close(True)
            raise mapped(exc) from exc
        except StorageError:
            self._db.close(True)
            raise

    def __enter__(self) -> JobReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._db.close(True)

    def counts(self, *, batch: str = "") -> JobCounts:
        """Return how many jobs, of a batch or of all, are in each state.

        Raises:
            StorageError: Reading failed.
        """
        return self._read(lambda: rows.counts(self._db, batch))

    def page(
        self, wanted: JobFilter | None = None, *, limit: int = 100, after: int = 0
    ) -> list[ListedJob]:
        """Return jobs in the order in which they were added, behind position ``after``.

        Raises:
            StorageError: Reading failed.
        """
        return self._read(lambda: rows.page(self._db, wanted or JobFilter(), limit, after))

    def page_with_facts(
        self, wanted: JobFilter | None = None, *, limit: int = 100, after: int = 0
    ) -> list[tuple[int, EndedJob]]:
        """Return places and jobs as ``page`` does, with what is stored beside their ends.

        Jobs that have not ended are among them; their facts are empty.

        Raises:
            StorageError: Reading failed.
        """
        chosen = wanted or JobFilter()
        return self._read(lambda: rows.page_with_facts(self._db, chosen, limit, after))

    def show(self, prefix: str) -> ListedJob:
        """Return the job whose id begins with ``prefix``.

        Raises:
            ObjectMissing: No job, or more than one, has such an id.
            StorageError: Reading failed.
        """
        found = self._read(lambda: rows.beginning(self._db, prefix)) if prefix else []
        if len(found) != 1:
            few = "more than one job" if found else "no job"
            raise ObjectMissing(f"{few} has an id beginning so")
        return found[0]

    def facts(self, job_id: str) -> bytes:
        """Return what is stored beside the end of a job; empty where there is nothing.

        Raises:
            StorageError: Reading failed.
        """
        return self._read(lambda: rows.facts(self._db, job_id))

    def about(self, name: str) -> list[Job]:
        """Return the jobs of a recording, or of a conversation, by the id of either.

        Raises:
            StorageError: Reading failed.
        """
        return self._read(lambda: rows.about(self._db, name))

    def wishes(self, *, limit: int = 1000) -> list[Wish]:
        """Return wishes that the owner has not granted yet, oldest first.

        Raises:
            StorageError: Reading failed.
        """
        return self._read(lambda: rows.wishes(self._db, limit))

    def _read(self, query: Callable[[], T]) -> T:
        try:
            return query()
        except apsw.Error as exc:
            raise mapped(exc) from exc
        except UnicodeDecodeError:
            raise IntegrityError("a stored job is damaged") from None


def leave_wish(path: Path, kind: WishKind, *, job_id: str = "", batch: str = "") -> int:
    """Ask the owner of the jobs to pause, resume or cancel; works without an owner, too.

    Exactly one of ``job_id`` and ``batch`` is given. A wish replaces an older one for the job.

    Returns:
        The number of jobs it is for; 0 where there is none such, or all have ended.

    Raises:
        ObjectMissing: There are no jobs.
        StorageError: The wish could not be stored.
    """
    with JobReader(path):  # refuses what is missing, or of a newer program
        pass
    db = connect(path)
    try:
        with transaction(db):
            return rows.wish(db, kind, job_id, batch)
    except apsw.Error as exc:
        raise mapped(exc) from exc
    finally:
        db.close(True)
