"""Segments as a table beside an archived transcript, for analytics: Parquet, zstd, typed columns.

Rows come in batches while a transcript is read. A thread of the table's own hands them to
``polars``, which writes row groups as they fill into a file without a name; at the end that file
goes through an ``ArchiveWriter`` like any other object. Two batches wait at the most, so memory
does not grow with the transcript, and a process that is killed leaves nothing.
"""

from __future__ import annotations

import queue
import tempfile
import threading
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from steno.adapters.archive_store.content import BLOCK
from steno.errors import ConfigError, StenoError, StorageError, StorageFull
from steno.ports.archive import Archived, ArchiveWriter

if TYPE_CHECKING:
    import polars

ROW_GROUP: Final = 131_072

_WAITING: Final = 2
_LOOK_S: Final = 0.2
_FULL: Final = "No space left"


class Rows(NamedTuple):
    """Segments that came one after the other, by columns of equal length.

    Attributes:
        first: Index of the first in its transcript, counted from 0; the others follow.
        start_time, end_time: Seconds.
        role: ``agent``, ``customer``, ``system`` or ``unknown``.
        confidence: 0..1; None where none is told.
    """

    first: int
    start_time: Sequence[float]
    end_time: Sequence[float]
    speaker_id: Sequence[str]
    role: Sequence[str]
    text: Sequence[str]
    confidence: Sequence[float | None]


class ParquetTable:
    """One table being made. Exactly one of ``finish`` and ``abort`` ends it.

    Args:
        folder: Where the file lies while it is written; the system's temporary folder if None.

    Raises:
        ConfigError: The library is not installed (the extra ``parquet``).
        StorageError: The file cannot be made.
    """

    def __init__(
        self, conversation: str, communication: str = "", *, folder: Path | None = None
    ) -> None:
        if find_spec("polars") is None:
            raise ConfigError(
                "Parquet needs a library that is not installed",
                setting="--parquet",
                fix="Run: pip install 'steno[parquet]'.",
            )
        self._ids = conversation, communication
        self._batches: queue.Queue[Rows | None] = queue.Queue(_WAITING)
        self._failure: StenoError | None = None
        self._aborted = False
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed at the end
        except OSError as error:
            raise StorageError("the table cannot be made", errno=error.errno) from None
        self._thread = threading.Thread(target=self._run, name="archive-table", daemon=True)
        self._thread.start()

    def add(self, rows: Rows) -> None:
        """Add segments; waits while earlier ones are being written.

        Raises:
            StorageFull, StorageError: Earlier ones could not be written.
        """
        self._push(rows)

    def finish(self, writer: ArchiveWriter, summary: bytes) -> Archived:
        """Write what is left, and archive the table.

        Args:
            writer: For the item of ``Archive.parquet_item``; it is ended here, too.
            summary: See ``ArchiveWriter.finish``.

        Raises:
            StorageFull, StorageError: It could not be written.
            PreconditionFailed, IntegrityError, AuthError, TransportError: See ``ArchiveWriter``.
        """
        try:
            self._push(None)
            self._thread.join()
            self._raise()
            self._file.seek(0)
            while block := self._file.read(BLOCK):
                writer.write(block)
            return writer.finish(summary)
        except OSError as error:
            writer.abort()
            raise StorageError("the table cannot be read", errno=error.errno) from None
        except BaseException:
            writer.abort()
            raise
        finally:
            self._file.close()

    def abort(self) -> None:
        """Give it up; harmless after its end."""
        self._aborted = True
        while self._thread.is_alive():
            try:
                self._batches.put(None, timeout=_LOOK_S)
            except queue.Full:
                continue
            self._thread.join(_LOOK_S)
        self._file.close()

    def _push(self, rows: Rows | None) -> None:
        while self._thread.is_alive():
            try:
                self._batches.put(rows, timeout=_LOOK_S)
            except queue.Full:
                continue
            return
        self._raise()
        raise StorageError("the table was ended before")

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        import polars

        try:
            _sink(polars, self._frames(polars), self._file)
        except (polars.exceptions.PolarsError, OSError) as error:
            # The library's words may quote a value.
            kind = StorageFull if _FULL in str(error) else StorageError
            self._failure = self._failure or kind(
                "the table cannot be written",
                fix="See whether the temporary folder (TMPDIR) has room: it is made there.",
                cause=type(error).__name__,
            )
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            self._failure = self._failure or StorageError(
                "the table cannot be written", cause=type(error).__name__
            )

    def _frames(self, pl: Any) -> Iterator[polars.DataFrame]:  # the module, imported late
        schema = _schema(pl)
        while (rows := self._batches.get()) is not None and not self._aborted:
            count = len(rows.start_time)
            try:
                yield pl.DataFrame(_columns(pl, rows, count, *self._ids), schema=schema)
            except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
                self._failure = StorageError(
                    "a segment does not fit its column", cause=type(error).__name__
                )
                return


def _columns(pl: Any, rows: Rows, count: int, conversation: str, communication: str) -> Any:
    return {
        "conversation": pl.repeat(conversation, count, dtype=pl.String, eager=True),
        "communication": pl.repeat(communication, count, dtype=pl.String, eager=True),
        "index": pl.int_range(rows.first, rows.first + count, dtype=pl.Int64, eager=True),
        "start_time": rows.start_time,
        "end_time": rows.end_time,
        "speaker_id": rows.speaker_id,
        "role": rows.role,
        "text": rows.text,
        "confidence": rows.confidence,
    }


def _schema(pl: Any) -> dict[str, Any]:  # the module, imported late
    text = pl.String
    return {
        "conversation": text,
        "communication": text,
        "index": pl.Int64,
        "start_time": pl.Float64,
        "end_time": pl.Float64,
        "speaker_id": text,
        "role": text,
        "text": text,
        "confidence": pl.Float64,
    }


def _sink(pl: Any, source: Iterator[polars.DataFrame], file: Any) -> None:
    # Any: the module, imported late, and a temporary file, whose type has no name
    from polars.io.plugins import register_io_source

    def frames(
        with_columns: list[str] | None,
        predicate: polars.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[polars.DataFrame]:
        yield from source

    register_io_source(frames, schema=_schema(pl)).sink_parquet(
        file,
        compression="zstd",
        row_group_size=ROW_GROUP,
        maintain_order=True,
        engine="streaming",
    )
