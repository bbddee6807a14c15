"""``steno jobs``: look at transcription jobs; pause, resume, cancel or forget them.

Nothing here needs the process that carries jobs out, and nothing disturbs it: lists are read
beside it, and wishes are left for it (or for the next one).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from steno.cli.common import (
    ConfigOption,
    ExitCode,
    JsonOption,
    LogLevelOption,
    Output,
    StateDirOption,
    load_settings,
)
from steno.cli.jobs_report import report

if TYPE_CHECKING:
    from pathlib import Path

    from steno.ports.jobs import Job, JobFilter, WishKind

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Look at transcription jobs; pause, resume, cancel or forget them.",
)

JobArgument = Annotated[
    str | None, typer.Argument(metavar="[JOB]", help="Beginning of a job's id.")
]
BatchOption = Annotated[str, typer.Option(metavar="NAME", help="Every job of this batch.")]


class Listed(StrEnum):
    """What jobs can be listed by."""

    PLANNED = "planned"
    SUBMITTING = "submitting"
    IN_DOUBT = "in_doubt"
    SUBMITTED = "submitted"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"


_PAGE = 500
_DAY_US = 86_400_000_000

app.command("report")(report)


@app.command("list")
def list_(
    batch: BatchOption = "",
    state: Annotated[
        list[Listed] | None, typer.Option(help="Only in this state; repeat for more.")
    ] = None,
    recording: Annotated[str, typer.Option(help="Only of this recording.", metavar="ID")] = "",
    limit: Annotated[int, typer.Option(help="Most jobs listed; 0 lists all.", min=0)] = 100,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """List jobs in the order in which they came, and count them by state.

    Example: steno jobs list --batch march --state failed

    With --json: one line for each job, then one with the counts.
    """
    from steno.adapters.job_store import JobReader
    from steno.ports.jobs import JobFilter, JobState

    path = _store(config, state_dir, log_level)
    out = Output(json=json)
    named = state or []
    wanted = JobFilter(
        batch=batch,
        states=tuple(JobState(each.value) for each in named if each is not Listed.PAUSED),
        recording_id=recording,
        paused=True if Listed.PAUSED in named else None,
    )
    with JobReader(path) as reader:
        shown = 0
        for job in _jobs(reader, wanted, limit):
            shown += 1
            if json:
                out.result(facts_of(job))
            else:
                out.line(_row(job))
        counts = reader.counts(batch=batch)
    told = {each.value: number for each, number in sorted(counts.states.items())}
    if json:
        out.result({"counts": told, "paused": counts.paused, "total": counts.total})
    else:
        parts = [f"{number} {name}" for name, number in told.items()]
        if counts.paused:
            parts.append(f"{counts.paused} of them paused")
        out.line(f"{shown} shown of {counts.total}: {', '.join(parts) or 'none'}")


@app.command()
def show(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Beginning of a job's id.")],
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Show a job, and what can be done about one that failed.

    Words of its result that could not be read are told by their places, from 0, and the field.

    Example: steno jobs show 0b9d7a44
    """
    from steno.adapters.job_store import JobReader
    from steno.recordings.ending import all_facts
    from steno.recordings.job import remedy

    out = Output(json=json)
    with JobReader(_store(config, state_dir, log_level)) as reader:
        found = reader.show(job).job
        wishes = [wish.kind.value for wish in reader.wishes() if wish.job_id == found.id]
        stored = all_facts(reader.facts(found.id))
    facts = facts_of(found) | {
        "wish": wishes[0] if wishes else "",
        "remedy": remedy(found),
        "unreadable_words": stored.unreadable if stored else 0,
    }
    bad = stored.unreadable_words if stored else ()
    if json:
        named = [{"index": word.index, "field": word.field} for word in bad]
        out.result(facts | {"unreadable": named})
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        if value not in ("", None, 0):
            out.line(f"{name:<{width}}  {value}")
    for word in bad:
        out.line(f"word {word.index} could not be read: {word.field}")


@app.command()
def pause(
    job: JobArgument = None,
    batch: BatchOption = "",
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Begin nothing more for a job, or for a batch, until it is resumed.

    Example: steno jobs pause --batch march
    """
    _leave("pause", job, batch, _store(config, state_dir, log_level), Output(json=json))


@app.command()
def resume(
    job: JobArgument = None,
    batch: BatchOption = "",
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Go on with paused jobs; the pause is added to their deadlines.

    Example: steno jobs resume 0b9d7a44
    """
    _leave("resume", job, batch, _store(config, state_dir, log_level), Output(json=json))


@app.command()
def cancel(
    job: JobArgument = None,
    batch: BatchOption = "",
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """End jobs. The service is not told: it has no call for it, and goes on by itself.

    Example: steno jobs cancel --batch march
    """
    _leave("cancel", job, batch, _store(config, state_dir, log_level), Output(json=json))


@app.command()
def purge(
    before_days: Annotated[
        float, typer.Option(min=3, help="Only what ended longer ago than this.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Forget jobs that ended long ago; what they wrote and the audit log stay.

    Asked for again, their recordings are transcribed again. Three days at least: webhooks are
    tried for more than one. Exits 5 when there was none.

    Example: steno jobs purge --before-days 400 --yes
    """
    import time

    from steno.adapters.job_store import purge_jobs

    path = _store(config, state_dir, log_level)
    if not yes and not typer.confirm("Forget these jobs for good?", err=True):
        raise typer.Exit(ExitCode.USAGE)
    before_us = time.time_ns() // 1000 - int(before_days * _DAY_US)
    count = purge_jobs(path, ended_before_us=before_us)
    out = Output(json=json)
    if json:
        out.result({"purged": count})
    else:
        out.line(f"{count} jobs forgotten")
    if not count:
        raise typer.Exit(ExitCode.NOTHING_FOUND)


def _leave(
    kind: Literal["pause", "resume", "cancel"],
    job: str | None,
    batch: str,
    path: Path,
    out: Output,
) -> None:
    from steno.adapters.job_store import JobReader, leave_wish
    from steno.errors import ConfigError
    from steno.ports.jobs import WishKind

    if bool(job) == bool(batch):
        raise ConfigError("name a job or a batch", setting="JOB", fix="Give one of the two.")
    job_id = ""
    if job:
        with JobReader(path) as reader:
            job_id = reader.show(job).job.id
    wish: WishKind = WishKind(kind)
    count = leave_wish(path, wish, job_id=job_id, batch=batch)
    if out.json:
        out.result({"wish": kind, "jobs": count})
    elif count:
        out.line(f"{kind}: left for {count} jobs; granted by `steno transcribe`, now or next time")
    else:
        out.line("no such job, or all have ended")
    if not count:
        raise typer.Exit(ExitCode.NOTHING_FOUND)


def _store(config: Any, state_dir: Any, log_level: Any) -> Path:  # Any: as the options are
    from steno.adapters.state_dir import StateDir

    settings = load_settings(config, state_dir=state_dir, log_level=log_level)
    return StateDir(settings.state_dir).jobs


def _jobs(reader: Any, wanted: JobFilter, limit: int) -> Iterator[Job]:  # Any: a JobReader
    after = shown = 0
    while not limit or shown < limit:
        most = min(_PAGE, limit - shown) if limit else _PAGE
        page = reader.page(wanted, limit=most, after=after)
        if not page:
            return
        for listed in page:
            yield listed.job
        shown += len(page)
        after = page[-1].position


def facts_of(job: Job) -> dict[str, Any]:
    """Return what is shown of a job; of the webhook only that there is one."""
    request = job.request
    return {
        "job": job.id,
        "recording_id": request.recording_id,
        "transcript_id": job.transcript_id,
        "batch": job.batch,
        "state": job.state.value,
        "paused_at": _at(job.paused_us),
        "service_status": job.service_status,
        "reason": job.reason,
        "code": job.code,
        "language": request.language,
        "format": request.format,
        "speaker_diarization": request.speaker_diarization,
        "word_confidence": request.word_confidence,
        "timestamps": request.timestamps,
        "webhook": bool(request.webhook),
        "out": job.out,
        "redacted": job.redact,
        "submissions": job.submissions,
        "polls": job.polls,
        "failed_calls": job.attempts,
        "created_at": _at(job.created_us),
        "started_at": _at(job.started_us),
        "submitted_at": _at(job.submitted_us),
        "next_at": _at(0 if job.has_ended else job.next_due_us),
        "ended_at": _at(job.ended_us),
        "deadline_at": _at(job.deadline_us),
    }


def _row(job: Job) -> str:
    state = "paused" if job.paused_us else job.state.value
    parts = [job.id, f"{state:<10}", job.request.recording_id, job.request.language]
    return "  ".join([*parts, *(each for each in (job.batch, job.reason) if each)])


def _at(at_us: int) -> str | None:
    if not at_us:
        return None
    at = datetime.fromtimestamp(at_us / 1_000_000, tz=UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
