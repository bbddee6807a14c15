"""Tables of segments: typed, in order, bounded, and archived as objects are."""

from __future__ import annotations

import io
from pathlib import Path

import polars
import pytest

from conformance.archive_store_contract import SUMMARY, content_of
from steno.adapters.archive_store import Archive, ArchiveSettings, ParquetTable, Rows, open_archive
from steno.errors import StorageError
from steno.ports.archive import NewItem, WriteOutcome


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """A local folder."""
    return open_archive(ArchiveSettings(url=str(tmp_path / "archive")))


def rows(first: int, count: int) -> Rows:
    """Return segments that tell their index."""
    numbers = range(first, first + count)
    return Rows(
        first=first,
        start_time=[number * 0.5 for number in numbers],
        end_time=[number * 0.5 + 0.25 for number in numbers],
        speaker_id=[f"speaker-{number % 2}" for number in numbers],
        role=["agent", "customer"] * (count // 2) + ["unknown"] * (count % 2),
        text=[f"größer {number}" for number in numbers],
        confidence=[None if number % 3 == 0 else 0.5 for number in numbers],
    )


def item_of(archive: Archive) -> NewItem:
    return archive.parquet_item("conv-1", communication="comm-1", at_us=86_400_000_000)


def test_segments_are_read_back_as_they_were(archive: Archive) -> None:
    """All of them, in order, with the ids of their transcript."""
    item = item_of(archive)
    assert item.key == "parquet/date=1970-01-02/conv-1+comm-1.parquet"
    table = ParquetTable("conv-1", "comm-1")
    for first in range(0, 5000, 1000):
        table.add(rows(first, 1000))
    done = table.finish(archive.writer(item), SUMMARY)
    assert done.outcome is WriteOutcome.WRITTEN
    frame = polars.read_parquet(io.BytesIO(content_of(archive, item.key)))
    assert frame.columns == [
        "conversation",
        "communication",
        "index",
        "start_time",
        "end_time",
        "speaker_id",
        "role",
        "text",
        "confidence",
    ]
    assert frame["index"].to_list() == list(range(5000))
    assert frame["text"].to_list() == [f"größer {number}" for number in range(5000)]
    assert frame["confidence"].to_list()[:4] == [None, 0.5, 0.5, None]
    assert frame.row(7) == (
        "conv-1",
        "comm-1",
        7,
        3.5,
        3.75,
        "speaker-1",
        "customer",
        "größer 7",
        0.5,
    )


def test_the_same_segments_make_the_same_table(archive: Archive) -> None:
    """So a rerun finds its own work, however the rows were cut."""
    item = item_of(archive)
    for cuts in ((600, 400), (1000,)):
        table, first = ParquetTable("conv-1", "comm-1"), 0
        for count in cuts:
            table.add(rows(first, count))
            first += count
        outcome = table.finish(archive.writer(item), SUMMARY).outcome
    assert outcome is WriteOutcome.SAME


def test_a_transcript_without_segments_has_a_table_without_rows(archive: Archive) -> None:
    """Its columns are there."""
    ParquetTable("conv-1").finish(archive.writer(item_of(archive)), SUMMARY)
    frame = polars.read_parquet(io.BytesIO(content_of(archive, item_of(archive).key)))
    assert (frame.height, frame.width) == (0, 9)


def test_a_partition_is_read_by_its_date(archive: Archive, tmp_path: Path) -> None:
    """As Hive and its heirs read it."""
    table = ParquetTable("conv-1", "comm-1")
    table.add(rows(0, 10))
    table.finish(archive.writer(item_of(archive)), SUMMARY)
    found = polars.scan_parquet(tmp_path / "archive" / "parquet", hive_partitioning=True).filter(
        polars.col("date") == polars.date(1970, 1, 2)
    )
    assert found.collect().height == 10


def test_a_bad_value_is_told_without_being_quoted(archive: Archive) -> None:
    """And nothing is archived."""
    table = ParquetTable("conv-1")
    bad = rows(0, 1)._replace(start_time=["secret"])  # type: ignore[list-item]  # what is tested
    table.add(bad)
    with pytest.raises(StorageError) as caught:
        table.finish(archive.writer(item_of(archive)), SUMMARY)
    assert "secret" not in repr(caught.value)
    assert list(archive.manifests()) == []


def test_a_table_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    """Neither file nor thread."""
    table = ParquetTable("conv-1", folder=tmp_path)
    table.add(rows(0, 10))
    table.abort()
    table.abort()
    assert not table._thread.is_alive()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError):
        table.add(rows(10, 10))


def test_its_folder_has_to_be_there(tmp_path: Path) -> None:
    """It is the temporary folder, told in words of ours."""
    with pytest.raises(StorageError, match="cannot be made"):
        ParquetTable("conv-1", folder=tmp_path / "nowhere")
