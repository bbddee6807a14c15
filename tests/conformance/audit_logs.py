"""Audit logs for tests: entries, a writer, and verification of a folder as the command does it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from conformance.stream_server import MemoryTelemetry
from steno.adapters.audit_log import AuditPlaces, ChainWriter, read_head, taken_snapshot
from steno.core.audit_chain import (
    MAX_UNACKNOWLEDGED,
    AuditEntry,
    AuditMetrics,
    AuditRequest,
    EntryLine,
    decode_line,
)
from steno.core.audit_verify import Anchor, Findings, verify

BEGAN = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def entry(number: int = 0) -> AuditEntry:
    """Return an entry that is told from others by its recording id."""
    return AuditEntry(
        recording_id=f"rec-{number}",
        transcript_id=f"job-{number}",
        status="completed",
        metrics=AuditMetrics(12.3456, 0.123456, 7),
        webhook_status="delivered",
        request=AuditRequest("en-US", "text", True, True, True, "hooks.example.com"),
        actor="steno",
        version="0.5.0",
        event="job_ended",
    )


def ticking() -> Callable[[], datetime]:
    """Return a clock that goes on by a second with every look."""
    seconds = count()
    return lambda: BEGAN + timedelta(seconds=next(seconds))


def writer(folder: Path, *, every: int = 5, max_bytes: int = 6000) -> ChainWriter:
    """Return a writer that seals and rotates often."""
    return ChainWriter(
        AuditPlaces.of(folder),
        clock=ticking(),
        telemetry=MemoryTelemetry(),
        checkpoint_every=every,
        max_bytes=max_bytes,
    )


def contents(folder: Path) -> list[tuple[str, list[bytes]]]:
    """Return names and lines of a log's files, oldest first."""
    with taken_snapshot(AuditPlaces.of(folder)) as snapshot:
        return [(path.name, list(lines)) for path, lines in snapshot.files]


def recordings(folder: Path) -> list[str]:
    """Return the recording ids of a log's entries, in order."""
    lines = [decode_line(raw.rstrip(b"\n")) for _, raws in contents(folder) for raw in raws]
    return [line.recording_id for line in lines if isinstance(line, EntryLine)]


def head_anchor(folder: Path) -> Anchor:
    head = read_head(AuditPlaces.of(folder).head)
    return Anchor(head.seq, head.hash, "the head note", 0 if head.closed else MAX_UNACKNOWLEDGED)


def verified(folder: Path) -> Findings:
    """Verify a log against its head note."""
    key = bytes.fromhex(read_head(AuditPlaces.of(folder).head).public_key)
    return verify(contents(folder), keys=[key], anchors=[head_anchor(folder)])
