"""Segments as Parquet: typed columns, zstd, repeated texts once per page by dictionary.

``polars`` pulls the rows in batches and writes row groups as they fill, into a file without a
name: memory does not grow with the export, and a process that is killed leaves nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from steno.errors import ConfigError, StorageError

if TYPE_CHECKING:
    import polars

BATCH: Final = 16_384
ROW_GROUP: Final = 131_072
_COPY_BYTES: Final = 1 << 20

T = TypeVar("T")


class ParquetForm(Generic[T]):
    """The format, as ``export`` takes it.

    Args:
        columns: From segments to the columns' values, by the names of ``_schema``; times are
            UTC microseconds (``diarisation.exports.columns``).
        folder: Where the file lies while it is written; the system's temporary folder if None.

    Raises:
        ConfigError: The library is not installed (the extra ``parquet``).
    """

    suffix = "parquet"
    holds_many = True

    def __init__(
        self,
        columns: Callable[[Sequence[T]], dict[str, list[Any]]],  # of the types in `_schema`
        *,
        folder: Path | None = None,
    ) -> None:
        if find_spec("polars") is None:
            raise ConfigError(
                "Parquet needs a library that is not installed",
                setting="diarisation.format",
                fix="Run: pip install 'steno[parquet]'.",
            )
        self._columns = columns
        self._folder = folder

    @property
    def encode(self) -> Callable[[Iterable[T]], Iterator[bytes]]:
        """From segments to the pieces of a file."""
        return self._encode

    def _encode(self, rows: Iterable[T]) -> Iterator[bytes]:
        with tempfile.TemporaryFile(dir=self._folder) as aside:
            _sink(map(self._columns, _batches(rows)), aside)
            aside.seek(0)
            while chunk := aside.read(_COPY_BYTES):
                yield chunk


def _sink(
    batches: Iterator[dict[str, list[Any]]], aside: Any
) -> None:  # the type of a temporary file has no name
    import polars
    from polars.io.plugins import register_io_source

    schema = _schema(polars)
    failed: list[BaseException] = []

    def frames(
        with_columns: list[str] | None,
        predicate: polars.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[polars.DataFrame]:
        # It runs in a thread of the library, which would turn an error into words of its own.
        try:
            for columns in batches:
                yield _frame(polars, columns, schema)
        except BaseException as exc:
            failed.append(exc)
            raise

    try:
        register_io_source(frames, schema=schema).sink_parquet(
            aside,
            compression="zstd",
            row_group_size=ROW_GROUP,
            maintain_order=True,
            engine="streaming",
        )
    except (polars.exceptions.PolarsError, OSError) as exc:
        if failed:
            raise failed[0] from None
        raise StorageError(
            "the Parquet file cannot be written",
            fix="See whether the temporary folder (TMPDIR) has room: the file is made there.",
            cause=type(exc).__name__,
            errno=getattr(exc, "errno", None),
        ) from None


def _frame(pl: Any, columns: dict[str, list[Any]], schema: dict[str, Any]) -> polars.DataFrame:
    try:
        frame: polars.DataFrame = pl.DataFrame(columns, schema=schema)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as exc:
        # The library's words quote the value.
        raise StorageError(
            "a segment does not fit a Parquet column", cause=type(exc).__name__
        ) from None
    return frame


def _schema(pl: Any) -> dict[str, Any]:  # the module, imported late
    text = pl.String
    return {
        "conversation_id": text,
        "speaker": text,
        "text": text,
        "start_seconds": pl.Float64,
        "end_seconds": pl.Float64,
        "confidence": pl.Float64,
        "is_final": pl.Boolean,
        "timestamp": pl.Datetime("us", "UTC"),
        "role": text,
        "language": text,
        "participant": text,
        "user_id": text,
        "name": text,
        "communication": text,
        "overlap": pl.Boolean,
        "key": text,
        "revision": pl.Int64,
    }


def _batches(rows: Iterable[T]) -> Iterator[list[T]]:
    source = iter(rows)
    while batch := list(islice(source, BATCH)):
        yield batch
