"""Archived transcripts in an object store or a local folder: written once, never overwritten."""

from steno.adapters.archive_store.keys import KeyTemplate, parquet_key
from steno.adapters.archive_store.parquet import ParquetTable, Rows
from steno.adapters.archive_store.settings import ArchiveSettings
from steno.adapters.archive_store.store import Archive, open_archive

__all__ = [
    "Archive",
    "ArchiveSettings",
    "KeyTemplate",
    "ParquetTable",
    "Rows",
    "open_archive",
    "parquet_key",
]
