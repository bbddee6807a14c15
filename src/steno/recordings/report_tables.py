"""The tables of a report over jobs, and the report as plain text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from steno.core.tables import (
    NONE,
    Column,
    clock,
    folded,
    moment,
    number_of,
    percent,
    plain,
    table,
    wrapped,
)
from steno.recordings.report import Failure, JobsReport, LanguageFigures, ListedEnd
from steno.recordings.spread import Bin, Distribution, Interval

Told = Callable[[float], str]
"""How a figure is written."""

StateRow = tuple[str, int, int]
"""A state, its jobs, all jobs."""


def four(value: float | None) -> str:
    """Return a confidence with the places that are held."""
    return NONE if value is None else f"{value:.4f}"


def hundredths(value: float | None) -> str:
    """Return seconds with the places that are held."""
    return NONE if value is None else f"{value:,.2f} s"


STATES: Final[tuple[Column[StateRow], ...]] = (
    Column("State", "Where a job stands", lambda row: row[0].replace("_", " "), number=False),
    Column("Jobs", "Number of jobs", lambda row: f"{row[1]:,}"),
    Column("Share", "Of all jobs", lambda row: percent(row[1] / row[2])),
)

FAILURES: Final[tuple[Column[Failure], ...]] = (
    Column("Reason", "Why they failed", lambda one: one.reason.replace("_", " "), number=False),
    Column("Jobs", "Number of jobs", lambda one: f"{one.count:,}"),
    Column("Remedy", "What can be done", lambda one: one.remedy or NONE, number=False, rank=1),
    Column(
        "Codes",
        "The service's own words",
        lambda one: ", ".join(f"{code} ({n:,})" for code, n in one.codes.items()) or NONE,
        number=False,
        rank=3,
    ),
    Column(
        "For example",
        "Ids of some of the jobs",
        lambda one: ", ".join(each[:8] for each in one.examples),
        number=False,
        rank=2,
    ),
)

BINS: Final[tuple[Column[Bin], ...]] = (
    Column("From", "Lower end, included", lambda one: f"{one.low:g}"),
    Column("To below", "Upper end", lambda one: NONE if one.high is None else f"{one.high:g}"),
    Column("Jobs", "Number of jobs", lambda one: f"{one.count:,}"),
)

INTERVALS: Final[tuple[Column[Interval], ...]] = (
    Column("From (UTC)", "Beginning", lambda one: moment(one.start_us), number=False),
    Column("Completed", "Jobs that completed", lambda one: f"{one.counts[0]:,}"),
    Column("Failed", "Jobs that failed", lambda one: f"{one.counts[1]:,}"),
    Column("Cancelled", "Jobs that were cancelled", lambda one: f"{one.counts[2]:,}"),
)

LANGUAGES: Final[tuple[Column[LanguageFigures], ...]] = (
    Column("Language", "As it was asked for", lambda one: one.language, number=False),
    Column("Jobs", "Number of jobs", lambda one: f"{one.jobs:,}"),
    Column("Completed", "Jobs that completed", lambda one: f"{one.completed:,}"),
    Column("Failed", "Jobs that failed", lambda one: f"{one.failed:,}"),
    Column("Cancelled", "Jobs that were cancelled", lambda one: f"{one.cancelled:,}", rank=3),
    Column("Not ended", "Jobs that have not ended", lambda one: f"{one.left:,}", rank=4),
    Column("Words", "Number of words", lambda one: f"{one.words:,}", rank=2),
    Column(
        "Latency",
        "Mean, of completed jobs",
        lambda one: hundredths(one.mean_latency_seconds),
        rank=1,
    ),
    Column("Confidence", "Mean of jobs; an estimate", lambda one: four(one.mean_confidence)),
)

_JOB: Final[Column[ListedEnd]] = Column("Job", "Its id", lambda one: one.job, number=False)
_RECORDING: Final[Column[ListedEnd]] = Column(
    "Recording", "Its id", lambda one: one.recording_id, number=False, rank=4
)
_LANGUAGE: Final[Column[ListedEnd]] = Column(
    "Language", "As it was asked for", lambda one: one.language, number=False, rank=2
)
_WORDS: Final[Column[ListedEnd]] = Column(
    "Words", "Number of words", lambda one: f"{one.words:,}", rank=1
)
_LATENCY: Final[Column[ListedEnd]] = Column(
    "Latency", "From submission to result", lambda one: hundredths(one.latency_seconds)
)
_SURE: Final[Column[ListedEnd]] = Column(
    "Confidence", "Mean of words; an estimate", lambda one: four(one.confidence)
)

SLOWEST: Final = (_JOB, _LATENCY, _WORDS, _SURE, _LANGUAGE, _RECORDING)
LEAST_SURE: Final = (_JOB, _SURE, _WORDS, _LATENCY, _LANGUAGE, _RECORDING)

HOSTS: Final[tuple[Column[tuple[str, int]], ...]] = (
    Column("Host", "Of the webhook's address", lambda one: one[0], number=False),
    Column("Jobs", "Number of jobs", lambda one: f"{one[1]:,}"),
)


def states(report: JobsReport) -> list[StateRow]:
    """Return the rows of ``STATES``."""
    return [(state, count, report.jobs) for state, count in report.states.items()]


def totals_line(report: JobsReport) -> str:
    """Return the report in a sentence."""
    parts = [number_of(report.jobs, "job")]
    parts += [f"{count} {state.replace('_', ' ')}" for state, count in report.states.items()]
    return ", ".join(parts)


def summary(report: JobsReport) -> list[tuple[str, str]]:
    """Return what stands first: names and values."""
    confidence, latency = report.confidence, report.latency_seconds
    found = [
        ("jobs", f"{report.jobs:,}"),
        ("words", f"{report.words:,}"),
        ("submissions", f"{report.submissions:,}"),
        ("polls", f"{report.polls:,}"),
        ("mean latency", hundredths(latency.mean)),
        ("mean confidence (an estimate)", four(confidence.mean)),
    ]
    if report.first_us and report.last_us:
        took_s = (report.last_us - report.first_us) / 1e6
        found += [
            ("first submission", f"{moment(report.first_us)} UTC"),
            ("last end", f"{moment(report.last_us)} UTC"),
            ("in between", clock(max(0.0, took_s))),
        ]
    return found


def measured(found: Distribution, told: Told) -> list[tuple[str, str]]:
    """Return a distribution's figures as names and values."""
    figures = (
        ("least", found.least),
        ("1 in 10 at most", found.p10),
        ("median", found.median),
        ("mean", found.mean),
        ("9 in 10 at most", found.p90),
        ("99 in 100 at most", found.p99),
        ("most", found.most),
    )
    shown = [(name, NONE if value is None else told(value)) for name, value in figures]
    return [*shown, ("unknown", f"{found.unknown:,}")] if found.unknown else shown


def text_report(report: JobsReport, *, width: int | None = None) -> Iterator[str]:
    """Yield the lines of a report for a terminal.

    Args:
        width: Columns of the terminal; None sets no limit.
    """
    yield totals_line(report)
    yield from wrapped([f"{name} {value}" for name, value in summary(report)], width)
    for name, found, told in (
        ("latency", report.latency_seconds, lambda value: f"{value:,.2f} s"),
        ("mean confidence, an estimate", report.confidence, four),
    ):
        if found.count:
            yield f"{name}:"
            yield from wrapped([f"{what} {value}" for what, value in measured(found, told)], width)
    if report.failures:
        yield ""
        yield from table(FAILURES[:2], report.failures, width=width)
        for one in report.failures:
            told_ids = ", ".join(each[:8] for each in one.examples)
            yield from folded(f"{one.reason}: {one.remedy} For example {told_ids}.", width)
    if len(report.languages) > 1:
        yield ""
        yield from table(LANGUAGES, report.languages, width=width)
    if report.slowest:
        yield ""
        yield "Slowest:"
        yield from table(SLOWEST, report.slowest[:5], width=width)
    for host, count in report.webhook_hosts.items():
        yield f"webhook at {plain(host)}: {number_of(count, 'job')}"
