"""Jobs as rows, and every query on them. Blocks on the disk; ``apsw.Error`` comes out as it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import apsw
import msgspec

from steno.adapters.job_store.database import rows
from steno.errors import IntegrityError
from steno.ports.jobs import (
    ENDED,
    EndedJob,
    Job,
    JobCounts,
    JobFilter,
    JobState,
    ListedJob,
    TranscriptionRequest,
    Wish,
    WishKind,
)

_COLUMNS = (
    "id, version, batch, engine, recording, request, state, is_active, transcript,"
    " service_status, attempts, submissions, polls, created_us, next_due_us, started_us,"
    " submitted_us, ended_us, deadline_us, paused_us, reason, code, out, redact"
)
# Everything below is put together from these words of ours; every value is bound.
_INSERT = f"INSERT OR IGNORE INTO jobs({_COLUMNS}) VALUES({','.join(24 * '?')})"
# How the transcript of a known job is wanted now; an empty ``out`` says nothing.
_WANTED = (
    "UPDATE jobs SET out=CASE ?1 WHEN '' THEN out ELSE ?1 END, redact=?2 WHERE id=?3 AND ended_us=0"
)
# What a move can change. Batch, engine, recording, request, time of creation, and how the
# transcript is wanted it cannot.
_MOVE = (
    "UPDATE jobs SET version=?, state=?, is_active=?, transcript=?, service_status=?, attempts=?,"
    " submissions=?, polls=?, next_due_us=?, started_us=?, submitted_us=?, ended_us=?,"
    " deadline_us=?, paused_us=?, reason=?, code=? WHERE id=? AND version=?"
)
_SELECT = f"SELECT position, {_COLUMNS} FROM jobs"  # noqa: S608
# Spelt as the indexes spell it, or SQLite would not use them.
_BEGUN = (
    f"{_SELECT} INDEXED BY jobs_begun WHERE is_active = 1 AND state != 'planned'"
    " AND next_due_us <= ? ORDER BY next_due_us LIMIT ?"
)
_PLANNED = (
    f"{_SELECT} WHERE is_active = 1 AND state = 'planned' AND next_due_us <= ?"
    " ORDER BY next_due_us LIMIT ?"
)
_UNSETTLED = (
    f"SELECT position, {_COLUMNS}, facts FROM jobs INDEXED BY jobs_unsettled"  # noqa: S608
    " WHERE ended_us != 0 AND is_settled = 0 ORDER BY position LIMIT ?"
)
_ENDED = ",".join(f"'{state.value}'" for state in sorted(ENDED))
_NOT_ENDED = f"state NOT IN ({_ENDED})"
_VARIABLES = 500

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(TranscriptionRequest).decode


# --- writing ---------------------------------------------------------------------------------


def insert(db: apsw.Connection, jobs: Sequence[Job]) -> list[bool]:
    """Insert jobs in the open transaction; True for each whose id was new."""
    new = []
    for job in jobs:
        db.execute(_INSERT, _values(job))
        new.append(db.changes() == 1)
        if not new[-1]:
            db.execute(_WANTED, (job.out, int(job.redact), job.id))
    return new


def _values(job: Job) -> tuple[Any, ...]:  # Any: what SQLite takes
    request = job.request
    return (
        job.id, job.version, job.batch, job.engine, request.recording_id, _encode(request),
        job.state.value, int(job.is_active), job.transcript_id, job.service_status,
        job.attempts, job.submissions, job.polls, job.created_us, job.next_due_us,
        job.started_us, job.submitted_us, job.ended_us, job.deadline_us, job.paused_us,
        job.reason, job.code, job.out, int(job.redact),
    )  # fmt: skip


def move(db: apsw.Connection, job: Job, granted: int, facts: bytes = b"") -> bool:
    """Replace the version before in the open transaction; False where it is not held."""
    db.execute(
        _MOVE,
        (
            job.version, job.state.value, int(job.is_active), job.transcript_id,
            job.service_status, job.attempts, job.submissions, job.polls, job.next_due_us,
            job.started_us, job.submitted_us, job.ended_us, job.deadline_us, job.paused_us,
            job.reason, job.code, job.id, job.version - 1,
        ),
    )  # fmt: skip
    if db.changes() != 1:
        return False
    if facts:
        db.execute("UPDATE jobs SET facts=? WHERE id=?", (facts, job.id))
    if granted:
        db.execute("DELETE FROM wishes WHERE job_id=? AND number<=?", (job.id, granted))
    return True


def settle(db: apsw.Connection, job_id: str) -> None:
    """Note that everybody was told of a job's end."""
    db.execute("UPDATE jobs SET is_settled=1 WHERE id=?", (job_id,))


def wish(db: apsw.Connection, kind: WishKind, job_id: str, batch: str) -> int:
    """Leave a wish for one job or a whole batch; return how many jobs it is for."""
    which, value = ("id=?", job_id) if job_id else ("batch=?", batch)
    db.execute(
        "INSERT OR REPLACE INTO wishes(job_id, kind) SELECT id, ? FROM jobs"  # noqa: S608
        f" WHERE {which} AND {_NOT_ENDED} ORDER BY position",
        (kind.value, value),
    )
    return int(db.changes())


def dismiss(db: apsw.Connection, numbers: Sequence[int]) -> None:
    """Forget wishes."""
    db.executemany("DELETE FROM wishes WHERE number=?", [(number,) for number in numbers])


def clamp(db: apsw.Connection, latest_us: int) -> int:
    """Bring forward due times beyond ``latest_us``; return how many."""
    db.execute(
        "UPDATE jobs SET next_due_us=?1 WHERE is_active = 1 AND next_due_us > ?1", (latest_us,)
    )
    return int(db.changes())


def purge(db: apsw.Connection, ended_before_us: int, limit: int) -> int:
    """Delete settled jobs that ended before a time, oldest first; return how many."""
    db.execute(
        "DELETE FROM jobs WHERE position IN (SELECT position FROM jobs"  # noqa: S608
        f" WHERE state IN ({_ENDED}) AND is_settled = 1 AND ended_us < ?"
        " ORDER BY position LIMIT ?)",
        (ended_before_us, limit),
    )
    gone = int(db.changes())
    db.execute("DELETE FROM wishes WHERE job_id NOT IN (SELECT id FROM jobs)")
    return gone


def delete(db: apsw.Connection, job_ids: Sequence[str]) -> int:
    """Delete jobs and the wishes for them in the open transaction; return how many jobs."""
    gone = 0
    for job_id in job_ids:
        db.execute("DELETE FROM jobs WHERE id=?", (job_id,))
        gone += int(db.changes())
        db.execute("DELETE FROM wishes WHERE job_id=?", (job_id,))
    return gone


# --- reading ---------------------------------------------------------------------------------


def _job(row: Sequence[Any]) -> Job:  # Any: columns
    (
        _, job_id, version, batch, engine, _, request, state, _, transcript, service_status,
        attempts, submissions, polls, created_us, next_due_us, started_us, submitted_us,
        ended_us, deadline_us, paused_us, reason, code, out, redact,
    ) = row  # fmt: skip
    try:
        return Job(
            job_id, _decode(request), created_us, batch, engine, JobState(state), version,
            transcript, service_status, attempts, submissions, polls, next_due_us, started_us,
            submitted_us, ended_us, deadline_us, paused_us, reason, code, out, bool(redact),
        )  # fmt: skip
    except (msgspec.MsgspecError, ValueError, TypeError):
        raise IntegrityError("a stored job is damaged", position=int(row[0])) from None


def get(db: apsw.Connection, job_id: str) -> Job | None:
    """Return a job, or None."""
    found = rows(db, _SELECT + " WHERE id=?", (job_id,))
    return _job(found[0]) if found else None


def due(db: apsw.Connection, now_us: int, limit: int, excluding: Collection[str]) -> list[Job]:
    """Return active jobs that are due: begun ones, then planned; of each the longest due first."""
    found = _due(db, _BEGUN, now_us, limit, excluding)
    if len(found) < limit:
        found += _due(db, _PLANNED, now_us, limit - len(found), excluding)
    return found


def _due(
    db: apsw.Connection, query: str, now_us: int, limit: int, excluding: Collection[str]
) -> list[Job]:
    found = rows(db, query, (now_us, limit + len(excluding)))
    return [_job(row) for row in found if row[1] not in excluding][:limit]


def unsettled(db: apsw.Connection, limit: int) -> list[EndedJob]:
    """Return ended jobs of whose end not everybody was told, in the order added."""
    found = rows(db, _UNSETTLED, (limit,))
    return [EndedJob(_job(row[:-1]), bytes(row[-1])) for row in found]


def next_due(db: apsw.Connection, excluding: Collection[str]) -> int | None:
    """Return the earliest due time of an active job."""
    found = rows(
        db,
        "SELECT id, next_due_us FROM jobs WHERE is_active = 1 ORDER BY next_due_us LIMIT ?",
        (1 + len(excluding),),
    )
    return next((int(due_us) for job_id, due_us in found if job_id not in excluding), None)


def wishes(db: apsw.Connection, limit: int) -> list[Wish]:
    """Return wishes, oldest first."""
    found = rows(db, "SELECT number, job_id, kind FROM wishes ORDER BY number LIMIT ?", (limit,))
    return [Wish(number, job_id, WishKind(kind)) for number, job_id, kind in found]


def counts(db: apsw.Connection, batch: str) -> JobCounts:
    """Return the number of jobs in each state."""
    where, values = (" WHERE batch=?", (batch,)) if batch else ("", ())
    found = rows(
        db,
        f"SELECT state, count(*) FROM jobs{where} GROUP BY state",  # noqa: S608
        values,
    )
    only = " AND batch=?" if batch else ""
    paused = rows(db, f"SELECT count(*) FROM jobs WHERE paused_us != 0{only}", values)  # noqa: S608
    return JobCounts({JobState(state): count for state, count in found}, int(paused[0][0]))


def page(db: apsw.Connection, wanted: JobFilter, limit: int, after: int) -> list[ListedJob]:
    """Return jobs in the order in which they were added."""
    where, values = _wanted(wanted, after)
    found = rows(db, f"{_SELECT} WHERE {where} ORDER BY position LIMIT ?", (*values, limit))
    return [ListedJob(int(row[0]), _job(row)) for row in found]


def page_with_facts(
    db: apsw.Connection, wanted: JobFilter, limit: int, after: int
) -> list[tuple[int, EndedJob]]:
    """Return jobs as ``page`` does, with their places and with what is stored beside their ends."""
    where, values = _wanted(wanted, after)
    found = rows(
        db,
        f"SELECT position, {_COLUMNS}, facts FROM jobs"  # noqa: S608
        f" WHERE {where} ORDER BY position LIMIT ?",
        (*values, limit),
    )
    return [(int(row[0]), EndedJob(_job(row[:-1]), bytes(row[-1]))) for row in found]


def _wanted(wanted: JobFilter, after: int) -> tuple[str, list[Any]]:  # Any: what SQLite takes
    """Return the condition, in words of ours, and the values bound to it."""
    where = ["position > ?"]
    values: list[Any] = [after]
    if wanted.batch:
        where.append("batch = ?")
        values.append(wanted.batch)
    if wanted.states:
        where.append(f"state IN ({','.join('?' * len(wanted.states))})")
        values += [state.value for state in wanted.states]
    if wanted.recording_id:
        where.append("recording = ?")
        values.append(wanted.recording_id.lower())
    if wanted.paused is not None:
        where.append("paused_us != 0" if wanted.paused else "paused_us = 0")
    return " AND ".join(where), values


def beginning(db: apsw.Connection, prefix: str) -> list[ListedJob]:
    """Return the first two jobs whose id begins so."""
    # "g" follows every character that an id has.
    found = rows(
        db, _SELECT + " WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 2", (prefix.lower(),)
    )
    return [ListedJob(int(row[0]), _job(row)) for row in found]


def facts(db: apsw.Connection, job_id: str) -> bytes:
    """Return what is stored beside the end of a job."""
    found = rows(db, "SELECT facts FROM jobs WHERE id=?", (job_id,))
    return bytes(found[0][0]) if found else b""


def about(db: apsw.Connection, name: str) -> list[Job]:
    """Return the jobs of a recording, or of the recordings of a conversation."""
    found = rows(
        db,
        f"{_SELECT} WHERE recording = ?1"
        " OR json_extract(CAST(request AS TEXT), '$.conversation_id') = ?1 ORDER BY position",
        (name.lower(),),
    )
    return [_job(row) for row in found]


def owners(db: apsw.Connection, transcript_ids: Sequence[str]) -> dict[str, str]:
    """Return the jobs that hold ids of the service."""
    held: dict[str, str] = {}
    for start in range(0, len(transcript_ids), _VARIABLES):
        some = transcript_ids[start : start + _VARIABLES]
        marks = ",".join("?" * len(some))
        held |= dict(
            rows(
                db,
                "SELECT transcript, id FROM jobs WHERE transcript != ''"  # noqa: S608
                f" AND transcript IN ({marks})",
                some,
            )
        )
    return held
