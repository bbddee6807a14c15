"""What the audit log tells of ended jobs and called webhooks, read back at a start."""

from __future__ import annotations

import asyncio
import getpass
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from steno.adapters.audit_log.files import file_lines, rotated_files
from steno.core.audit_chain import EntryLine, decode_line, timestamp
from steno.ports.jobs import EndedJob, Job
from steno.recordings.ending import AttemptKey, attempt_key, audit_request

MAX_ATTEMPTS = 100_000
"""Entries of webhooks that are read back, the newest: attempts of one are over in 28 hours."""

_NOT_AN_ACTOR = re.compile(r"[^A-Za-z0-9._@:-]")


def actor() -> str:
    """Return who runs this, in the audit log's grammar."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # no name for the user's number
        name = "unknown"
    return _NOT_AN_ACTOR.sub("_", name)[:128].lstrip(".@:-") or "unknown"


class EntriesOf:
    """Reads one audit log in a thread; see ``recordings.calls.WrittenEntries``."""

    def __init__(self, log: Path) -> None:
        self._log = log

    async def ends(self, ends: Sequence[EndedJob]) -> set[str]:
        """Return the ids of ended jobs that have the entry of their end already."""
        return await asyncio.to_thread(entered, self._log, ends)

    async def attempts(self) -> Mapping[AttemptKey, str]:
        """Return the attempts to call webhooks that were entered, with the latest time of each."""
        return await asyncio.to_thread(attempts_entered, self._log)


def entered(log: Path, ends: Sequence[EndedJob]) -> set[str]:
    """Return the ids of ended jobs that have their entry in an audit log already.

    An entry is a job's if it tells the same end of the same transcript and request; one without a
    transcript must not be older than the end. Blocks; rotated files that were last written before
    the first end are not read.
    """
    waiting: dict[object, list[Job]] = {}
    for end in ends:
        waiting.setdefault(_end_of(end.job), []).append(end.job)
    first_us = min(end.job.ended_us for end in ends)
    found: set[str] = set()
    for path in (*rotated_files(log), log):
        try:
            # The newest is read in any case: the clock may have been set back.
            if path != log and path.stat().st_mtime_ns // 1000 < first_us:
                continue
        except OSError:
            continue
        for line in _entries(path):
            if line.event == "job_ended":
                key = (line.recording_id, line.transcript_id, line.status, line.request)
                jobs = waiting.get(key, [])
                if jobs and (line.transcript_id or line.timestamp >= _told_at(jobs[0].ended_us)):
                    found.add(jobs.pop(0).id)
    return found


def attempts_entered(log: Path, *, limit: int = MAX_ATTEMPTS) -> dict[AttemptKey, str]:
    """Return the newest attempts to call webhooks in an audit log, with their times. Blocks."""
    found: dict[AttemptKey, str] = {}
    for path in reversed((*rotated_files(log), log)):
        if len(found) >= limit:
            break
        if not path.exists():
            continue
        for line in _entries(path):
            if line.webhook_attempt:
                key = attempt_key(line)
                found[key] = max(line.timestamp, found.get(key, ""))
    return found


def _entries(path: Path) -> Iterator[EntryLine]:
    for body in file_lines(path):
        line = decode_line(body.removesuffix(b"\n"))
        if isinstance(line, EntryLine):
            yield line


def _end_of(job: Job) -> object:
    request = audit_request(job.request)
    return (job.request.recording_id, job.transcript_id or None, job.state.value, request)


def _told_at(at_us: int) -> str:
    return timestamp(datetime.fromtimestamp(at_us / 1_000_000, tz=UTC))
