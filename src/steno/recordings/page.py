"""The report over jobs as one HTML page: readable without network, script or font."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from steno.core import charts
from steno.core.charts import Point, Series, bars, charted, standing
from steno.core.page import definitions, document, html_table, paragraph
from steno.core.tables import NONE, clock, moment, number_of
from steno.recordings.report import ENDS, LEFT, JobsReport
from steno.recordings.report_tables import (
    BINS,
    FAILURES,
    HOSTS,
    INTERVALS,
    LANGUAGES,
    LEAST_SURE,
    SLOWEST,
    STATES,
    Told,
    measured,
    states,
    summary,
    totals_line,
)
from steno.recordings.spread import Bin, Distribution

TITLE: Final = "Transcription jobs"
_SERIES: Final = (Series("completed", "c2"), Series("failed", "warn"), Series("cancelled", "rest"))
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S: Final = 86_400


def page(report: JobsReport, *, made_us: int, remarks: Sequence[str] = ()) -> Iterator[str]:
    """Yield the page in pieces.

    Args:
        made_us: When, UTC microseconds.
        remarks: Sentences about what was asked for (the batch).
    """
    body = _body(report, made_us, remarks)
    yield from document(TITLE, body, style=charts.STYLE)


def _body(report: JobsReport, made_us: int, remarks: Sequence[str]) -> Iterator[str]:
    yield paragraph(totals_line(report))
    for remark in [f"Made {moment(made_us)} UTC.", *remarks]:
        yield paragraph(remark, kind="soft")
    yield definitions(summary(report))
    yield from _section("ends", "How jobs ended", _ends(report))
    if report.failures:
        yield from _section("failures", "Failures", _failures(report))
    yield from _section("confidence", "Confidence", _confidence(report))
    yield from _section("latency", "Latency", _latency(report))
    if report.over_time.intervals:
        yield from _section("time", "Ends over time", _over_time(report))
    if report.languages:
        yield from _section("languages", "Languages", _languages(report))
    if report.slowest:
        listed = html_table(SLOWEST, report.slowest, caption="The slowest completed jobs.")
        yield from _section("slowest", "Slowest jobs", listed)
    if report.least_sure:
        listed = html_table(
            LEAST_SURE,
            report.least_sure,
            caption=f"The completed jobs of least confidence; an {report.word_error_rate_is}.",
        )
        yield from _section("least", "Least sure jobs", listed)
    if report.webhook_hosts:
        told = html_table(HOSTS, report.webhook_hosts.items(), caption="Jobs with a webhook.")
        yield from _section("hosts", "Webhooks by host", told)


def _section(ident: str, title: str, body: Iterator[str]) -> Iterator[str]:
    yield f'<section aria-labelledby="{ident}-h">\n<h2 id="{ident}-h">{title}</h2>\n'
    yield from body
    yield "</section>\n"


def _ends(report: JobsReport) -> Iterator[str]:
    if report.left:
        told = f"{number_of(report.left, 'job')} not ended"
        told += f", {report.paused} of them paused." if report.paused else "."
        yield paragraph(f"{told} `steno transcribe` goes on with them.", kind="remark")
    series = (*_SERIES, Series("not ended", "c0"))
    points = [Point(each.value, _alone(report, each.value, at)) for at, each in enumerate(ENDS)]
    points += [
        Point(each.value.replace("_", " "), _alone(report, each.value, len(ENDS)))
        for each in LEFT
        if report.states.get(each.value)
    ]
    drawn = bars(
        points,
        series,
        ident="ends",
        title="Jobs by state",
        description=f"{totals_line(report)}. The table below has the figures.",
    )
    yield from charted(drawn, STATES, states(report), caption="Jobs by state.")


def _alone(report: JobsReport, state: str, at: int) -> list[int]:
    counts = [0] * (len(ENDS) + 1)
    counts[at] = report.states.get(state, 0)
    return counts


def _failures(report: JobsReport) -> Iterator[str]:
    points = [Point(each.reason.replace("_", " "), (each.count,)) for each in report.failures]
    drawn = bars(
        points,
        (_SERIES[1],),
        ident="failures",
        title="Failed jobs by reason",
        description=(
            f"A bar for each of {number_of(len(points), 'reason')}, the most frequent first. "
            "The table below has the figures and what can be done."
        ),
    )
    caption = "Reasons with what can be done. `steno jobs show JOB` has more of a job."
    yield from charted(drawn, FAILURES, report.failures, caption=caption)


def _confidence(report: JobsReport) -> Iterator[str]:
    yield paragraph(
        "Mean confidence of a completed job's words. The word error rate that is told of a job "
        f"without a reference is an {report.word_error_rate_is}: it says how sure the recogniser "
        "was, not how often it was right.",
        kind="soft",
    )
    yield from _distribution(
        report.confidence,
        ident="confidence",
        title="Completed jobs by mean confidence (an estimate)",
        name=lambda value: f"{value:.{_decimals(report.confidence.bins)}f}",
        told=lambda value: f"{value:.4f}",
    )


def _latency(report: JobsReport) -> Iterator[str]:
    yield paragraph("From a job's first submission to its result.", kind="soft")
    yield from _distribution(
        report.latency_seconds,
        ident="latency",
        title="Completed jobs by latency",
        name=lambda value: _duration(value, _decimals(report.latency_seconds.bins)),
        told=lambda value: f"{value:,.2f} s",
    )


def _distribution(
    found: Distribution, *, ident: str, title: str, name: Told, told: Told
) -> Iterator[str]:
    if not found.count:
        yield paragraph("No completed job has one.", kind="soft")
        return
    yield definitions(measured(found, told))
    points = [
        Point(name(each.low) if each.high is not None else f"≥ {name(each.low)}", (each.count,))
        for each in found.bins
    ]
    drawn = standing(
        points,
        (Series("jobs"),),
        ident=ident,
        title=title,
        description=(
            f"{number_of(found.count, 'job')}: half are at {told(found.median or 0)} or below, "
            f"nine in ten at {told(found.p90 or 0)} or below. The table below has the figures."
        ),
    )
    yield from charted(drawn, BINS, found.bins, caption=f"{title}.", folded=True)


def _decimals(bins: Sequence[Bin]) -> int:
    """Return how many places tell the bins apart."""
    width = next((each.high - each.low for each in bins if each.high is not None), 1.0)
    return next((places for places in range(4) if round(width, places + 2) >= 10**-places), 4)


def _duration(value: float, decimals: int) -> str:
    return clock(value) if value >= 60 and not decimals else f"{value:.{decimals}f} s"


def _over_time(report: JobsReport) -> Iterator[str]:
    width_s = report.over_time.interval_seconds
    form = "%Y-%m-%d" if width_s >= _DAY_S else "%H:%M" if width_s >= 60 else "%H:%M:%S"
    points = [Point(_at(each.start_us, form), each.counts) for each in report.over_time.intervals]
    drawn = standing(
        points,
        _SERIES,
        ident="time",
        title="Ends of jobs over time",
        description=(
            f"A column for each of {number_of(len(points), 'interval')} of {every(width_s)}, from "
            f"{moment(report.over_time.intervals[0].start_us)} UTC on, with the jobs that "
            "completed, failed or were cancelled in it. The table below has the figures."
        ),
    )
    caption = f"Ends of jobs by UTC time, in intervals of {every(width_s)}."
    told = [each for each in report.over_time.intervals if any(each.counts)]
    yield from charted(drawn, INTERVALS, told, caption=caption, folded=True)


def every(width_s: int) -> str:
    """Return the width of an interval in words."""
    units = (("week", 604_800), ("day", _DAY_S), ("hour", 3600), ("minute", 60), ("second", 1))
    name, size = next(one for one in units if width_s % one[1] == 0)
    return number_of(width_s // size, name)


def _at(at_us: int, form: str) -> str:
    try:
        return f"{_EPOCH + timedelta(microseconds=at_us):{form}}"
    except OverflowError:
        return NONE


def _languages(report: JobsReport) -> Iterator[str]:
    series = (*_SERIES, Series("not ended", "c0"))
    points = [
        Point(each.language, (each.completed, each.failed, each.cancelled, each.left))
        for each in report.languages
    ]
    drawn = bars(
        points,
        series,
        ident="languages",
        title="Jobs by language",
        description=(
            f"A bar for each of {number_of(len(points), 'language')}, in parts by how jobs ended. "
            "The table below has the figures."
        ),
    )
    yield from charted(drawn, LANGUAGES, report.languages, caption="Jobs by language.")
