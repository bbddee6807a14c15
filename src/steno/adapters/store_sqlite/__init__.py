"""The store of records, in one SQLite file.

``SqliteStore`` is the owner's side (``ports.RecordStore``); ``OutboxReader`` and
``TimelineReader`` (``ports.Timeline``) read beside it; ``writing`` gives a connection for the
functions in ``admin`` (redrive, purge, erase).
"""

from steno.adapters.store_sqlite.admin import (
    Erased,
    erase,
    forget_destination,
    purge_dead,
    purge_settled,
    purge_timeline,
    redrive,
    retain,
)
from steno.adapters.store_sqlite.reader import Counts, Entry, OutboxReader, Shown, writing
from steno.adapters.store_sqlite.salvage import OpenReport, Salvage
from steno.adapters.store_sqlite.store import SqliteStore, StoreSettings
from steno.adapters.store_sqlite.timeline import TimelineReader

__all__ = [
    "Counts",
    "Entry",
    "Erased",
    "OpenReport",
    "OutboxReader",
    "Salvage",
    "Shown",
    "SqliteStore",
    "StoreSettings",
    "TimelineReader",
    "erase",
    "forget_destination",
    "purge_dead",
    "purge_settled",
    "purge_timeline",
    "redrive",
    "retain",
    "writing",
]
