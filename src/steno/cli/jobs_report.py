"""``steno jobs report``: what became of a batch of transcription jobs, as a page or as numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steno.cli.common import (
    ConfigOption,
    ExitCode,
    JsonOption,
    LogLevelOption,
    Output,
    Progress,
    StateDirOption,
    load_settings,
)

if TYPE_CHECKING:
    from steno.ports.jobs import Job
    from steno.recordings.report import JobsReport

_PAGE = 1000


def report(
    batch: Annotated[str, typer.Option(metavar="NAME", help="Only jobs of this batch.")] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write an HTML page here; - is standard output.",
            show_default=False,
        ),
    ] = None,
    listed: Annotated[
        int, typer.Option(help="Jobs in the lists of the slowest and least sure.", min=0, max=1000)
    ] = 20,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Show how jobs ended, how long they took, how sure the service was, and what failed why.

    Reads what is stored, also beside a run that goes on. Without --out the figures are printed.
    The page holds everything it needs and asks for no network. It has ids and counts: nothing of
    what was said, and of webhooks the hosts only. With --json there is one object with all
    numbers. Confidence is an estimate by the service: 1 - its word error rate.

    Example: steno jobs report --batch march --out report.html

    Exit codes: 5 there is no such job.
    """
    from steno.adapters.state_dir import StateDir

    if json and out is not None and str(out) == "-":
        raise typer.BadParameter("standard output holds one of both", param_hint="--out")
    settings = load_settings(config, state_dir=state_dir, log_level=log_level)
    told = Output(json=json)
    found = gather(StateDir(settings.state_dir).jobs, batch=batch, listed=listed)
    if out is not None:
        write_page(out, found, setting="--out", batch=batch)
    tell(found, told, out)
    if not found.jobs:
        told.note("no such job is stored")
        raise typer.Exit(ExitCode.NOTHING_FOUND)


def gather(
    path: Path,
    *,
    batch: str = "",
    listed: int = 20,
    is_wanted: Callable[[Job], bool] = lambda job: True,
) -> JobsReport:
    """Return the report of stored jobs, in memory that does not grow with their number.

    Args:
        path: The store of jobs.
        batch: Only jobs of this one; empty for all.
        is_wanted: Chooses among those.

    Raises:
        ObjectMissing: There are no jobs yet.
        StorageError: The store cannot be read.
    """
    from steno.adapters.job_store import JobReader
    from steno.ports.jobs import JobFilter
    from steno.recordings.ending import read_facts
    from steno.recordings.report import Gathering

    progress = Progress("read", unit="jobs")
    gathering = Gathering(listed=listed)
    wanted = JobFilter(batch=batch)
    with JobReader(path) as reader:
        after = read = 0
        while page := reader.page_with_facts(wanted, limit=_PAGE, after=after):
            for after, end in page:  # noqa: B007  # the last one is where the next page begins
                if is_wanted(end.job):
                    gathering.add(end.job, read_facts(end.job, end.facts))
            read += len(page)
            progress.show(read, 0)
    progress.end()
    return gathering.report()


def write_page(path: Path, found: JobsReport, *, setting: str, batch: str = "") -> None:
    """Write the page whole or not at all, readable to its owner only.

    Args:
        setting: The option that named the file, for errors.

    Raises:
        ConfigError, StorageError: It cannot be written there.
    """
    import sys

    from steno.adapters.exports import replace_file

    pieces = _pieces(found, batch)
    if str(path) == "-":
        sys.stdout.writelines(pieces)
        return
    replace_file(path, (piece.encode("utf-8", "replace") for piece in pieces), setting=setting)


def require_page(path: Path, *, setting: str) -> None:
    """Find out before the work that a page cannot be written there.

    Raises:
        ConfigError: It cannot.
    """
    from steno.adapters.exports.targets import require_target

    if str(path) == "-":
        raise typer.BadParameter(
            "give a file: transcripts may go to standard output", param_hint=setting
        )
    require_target(str(path))


def write_run_page(
    path: Path, jobs: Path, *, setting: str, batch: str, ids: Collection[str], since_us: int
) -> None:
    """Write the page of one run: of its whole batch, or of what it was asked for and what it ended.

    Args:
        jobs: The store of jobs.
        batch: Name of the run's batch; empty for none.
        ids: Jobs that the input asked for, new ones and those known before.
        since_us: When the run began, UTC microseconds.

    Raises:
        ConfigError, StorageError: Reading or writing failed.
    """

    def is_of_run(job: Job) -> bool:
        return bool(batch) or job.id in ids or job.ended_us >= since_us

    write_page(path, gather(jobs, batch=batch, is_wanted=is_of_run), setting=setting, batch=batch)


def _pieces(found: JobsReport, batch: str) -> Iterator[str]:
    from datetime import UTC, datetime

    from steno.recordings.page import page

    now_us = int(datetime.now(UTC).timestamp() * 1e6)
    return page(found, made_us=now_us, remarks=[f"Batch {batch}."] if batch else [])


def tell(found: JobsReport, told: Output, out: Path | None) -> None:
    """Tell the numbers: as JSON, as tables, or in a line where there is a page."""
    import shutil

    from steno.recordings.report import numbers_of
    from steno.recordings.report_tables import text_report, totals_line

    if told.json:
        told.result(numbers_of(found))
    elif out is not None:
        told.note(f"{out}: {totals_line(found)}")
    else:
        width = shutil.get_terminal_size((0, 0)).columns or None
        for line in text_report(found, width=width):
            told.line(line)
