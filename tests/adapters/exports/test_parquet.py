"""Parquet: typed columns that come back as they went in."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steno.adapters.exports import export
from steno.adapters.exports.parquet import BATCH, ParquetForm
from steno.diarisation.exports import COLUMNS, columns
from steno.diarisation.views import SegmentView
from steno.errors import IntegrityError, StorageError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def view(number: int, text: str = "hello") -> SegmentView:
    return SegmentView(
        conversation=f"call-{number // 100}",
        speaker=f"speaker_{number % 2}",
        text=text,
        start_us=number * 1000,
        end_us=number * 1000 + 900,
        confidence=0.875,
        is_final=True,
        at_us=1_705_314_600_123_456 + number,
        overlap=number % 2 == 0,
        key=f"{number:064x}",
        revision=number % 3,
    )


def parquet(segments: Iterator[SegmentView] | list[SegmentView]) -> pl.DataFrame:
    form = ParquetForm(columns)
    return pl.read_parquet(io.BytesIO(b"".join(form.encode(segments))))


def test_columns_have_their_types() -> None:
    """The names of the other formats; numbers are numbers, times are UTC datetimes."""
    found = parquet([view(1)])
    assert tuple(found.columns) == COLUMNS
    types = dict(found.schema)
    assert types["start_seconds"] == types["confidence"] == pl.Float64
    assert types["is_final"] == types["overlap"] == pl.Boolean
    assert types["timestamp"] == pl.Datetime("us", "UTC")
    assert types["revision"] == pl.Int64
    assert types["text"] == types["conversation_id"] == pl.String


@settings(max_examples=20)
@given(texts=st.lists(st.text(), min_size=1, max_size=5))
def test_values_come_back(texts: list[str]) -> None:
    """Any text, in order, with every value beside it."""
    segments = [view(number, text) for number, text in enumerate(texts)]
    for row, one in zip(parquet(segments).iter_rows(named=True), segments, strict=True):
        assert row["text"] == one.text
        assert row["conversation_id"] == one.conversation
        assert row["start_seconds"] == one.start_us / 1e6
        assert row["timestamp"] == EPOCH + timedelta(microseconds=one.at_us)
        assert (row["overlap"], row["key"], row["revision"]) == (one.overlap, one.key, one.revision)


def test_order_is_kept_over_batches_and_row_groups(tmp_path: Path) -> None:
    """Rows lie as they came, whatever the library does side by side; the file is small."""
    count = 9 * BATCH + 1
    out = tmp_path / "calls.parquet"
    report = export([("all", map(view, range(count)))], ParquetForm(columns), str(out))
    assert (report.segments, report.bytes) == (count, out.stat().st_size)
    found = pl.read_parquet(out)
    assert found["key"].to_list() == [f"{number:064x}" for number in range(count)]
    # The names repeat: a dictionary holds each once, and zstd does the rest.
    assert report.bytes < count * 20


def test_error_of_the_source_comes_out_as_it_is(tmp_path: Path) -> None:
    """The library's words do not hide it, and nothing is left in the folder."""

    def damaged() -> Iterator[SegmentView]:
        yield from map(view, range(BATCH + 5))
        raise IntegrityError("a segment's record is damaged", record="r-1")

    out = tmp_path / "calls.parquet"
    out.write_text("old")
    form = ParquetForm(columns, folder=tmp_path)
    with pytest.raises(IntegrityError, match="r-1"):
        export([("call-1", damaged())], form, str(out))
    assert os.listdir(tmp_path) == ["calls.parquet"]
    assert out.read_text() == "old"


def test_value_of_a_wrong_type_is_an_error_without_the_value() -> None:
    """A row that cannot be written is told in words of ours."""
    broken = {name: ["canary"] for name in COLUMNS}
    form: ParquetForm[int] = ParquetForm(lambda _: broken)
    with pytest.raises(StorageError) as caught:
        list(form.encode([1]))
    assert "canary" not in str(caught.value)
