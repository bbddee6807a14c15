"""The audit log on disk: the writer, its keys and head note, and what a verification reads."""

from steno.adapters.audit_log.files import (
    AuditPlaces,
    Snapshot,
    file_lines,
    read_head,
    rotated_files,
    taken_snapshot,
)
from steno.adapters.audit_log.keys import read_public_keys
from steno.adapters.audit_log.log import AuditLog
from steno.adapters.audit_log.writer import ChainWriter

__all__ = [
    "AuditLog",
    "AuditPlaces",
    "ChainWriter",
    "Snapshot",
    "file_lines",
    "read_head",
    "read_public_keys",
    "rotated_files",
    "taken_snapshot",
]
