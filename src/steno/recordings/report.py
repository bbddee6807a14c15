"""A report over many jobs: what is counted of them, and in how much memory.

Jobs come in one by one, ended or not. What is kept does not grow with their number: counts,
distributions (``recordings.spread``), the few jobs that are shown by their ids. Nothing of a
transcript is among it, and of a webhook only its host.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from typing import Any, Final

import msgspec

from steno.core.quality import ESTIMATE_LABEL, Metrics
from steno.ports.jobs import Job, JobState
from steno.recordings.ending import audit_request, error_class
from steno.recordings.job import remedy
from steno.recordings.spread import Course, Distribution, Interval, Spread
from steno.recordings.turns import rfc3339

MAX_NAMES: Final = 50
"""Languages, hosts, codes told one by one; further ones are put together."""

MAX_EXAMPLES: Final = 5
"""Jobs named with each reason for failures."""

DEFAULT_LISTED: Final = 20
"""Jobs in the lists of the slowest and of the least sure."""

OTHERS: Final = "(others)"

ENDS: Final = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
"""In the order in which they are shown."""

LEFT: Final = (JobState.SUBMITTED, JobState.IN_DOUBT, JobState.SUBMITTING, JobState.PLANNED)
"""States of jobs that have not ended."""


class ListedEnd(msgspec.Struct, frozen=True, gc=False):
    """A completed job in one of the lists."""

    job: str
    recording_id: str
    language: str
    latency_seconds: float | None
    confidence: float | None
    words: int


class Failure(msgspec.Struct, frozen=True):
    """Why jobs failed.

    Attributes:
        reason: As ``steno jobs list`` tells it.
        error: As records and the audit log spell it.
        codes: The service's own words for it, with their counts; the most frequent first.
        examples: Ids of the first such jobs.
    """

    reason: str
    error: str
    count: int
    remedy: str
    codes: dict[str, int]
    examples: tuple[str, ...]


class LanguageFigures(msgspec.Struct, frozen=True):
    """What became of the jobs of a language."""

    language: str
    jobs: int
    completed: int
    failed: int
    cancelled: int
    left: int
    words: int
    mean_latency_seconds: float | None
    mean_confidence: float | None


class TimeFigures(msgspec.Struct, frozen=True):
    """Ends by time: intervals of one width, counts in the order of ``ENDS``."""

    interval_seconds: int
    intervals: tuple[Interval, ...]


class JobsReport(msgspec.Struct, frozen=True):
    """The numbers of a report.

    Attributes:
        states: Jobs by state, those with none left out.
        paused: How many of those that have not ended are paused.
        first_us, last_us: Earliest submission and latest end, UTC microseconds; 0 for none.
        submissions, polls: Calls of that kind, over all jobs.
        confidence: Mean confidence of a completed job's words: 1 - the estimate.
        word_error_rate_is: What that estimate is.
        latency_seconds: From the first submission to the end of completed jobs.
        failures: Most frequent first.
        slowest, least_sure: Completed jobs.
        webhook_hosts: Jobs that asked for a webhook, by host.
    """

    jobs: int
    states: dict[str, int]
    paused: int
    first_us: int
    last_us: int
    words: int
    submissions: int
    polls: int
    confidence: Distribution
    word_error_rate_is: str
    latency_seconds: Distribution
    failures: tuple[Failure, ...]
    slowest: tuple[ListedEnd, ...]
    least_sure: tuple[ListedEnd, ...]
    languages: tuple[LanguageFigures, ...]
    over_time: TimeFigures
    webhook_hosts: dict[str, int]

    @property
    def left(self) -> int:
        """Jobs that have not ended."""
        return sum(self.states.get(state.value, 0) for state in LEFT)


class _Named:
    """Counts by name for the first names there are; for those that come later, together."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def name(self, name: str) -> str:
        known = name in self.counts or len(self.counts) < MAX_NAMES
        return name if known else OTHERS

    def add(self, name: str) -> None:
        self.counts[self.name(name)] += 1

    def told(self) -> dict[str, int]:
        """Most frequent first; of equals by name."""
        return dict(sorted(self.counts.items(), key=lambda one: (-one[1], one[0])))


class _Reason:
    """Jobs that failed for one reason."""

    def __init__(self, job: Job) -> None:
        self.error = error_class(job)
        self.remedy = remedy(job)
        self.count = 0
        self.codes = _Named()
        self.examples: list[str] = []

    def add(self, job: Job) -> None:
        self.count += 1
        if job.code:
            self.codes.add(job.code)
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(job.id)


class _Language:
    """Jobs of one language."""

    def __init__(self) -> None:
        self.states: Counter[JobState] = Counter()
        self.words = 0
        self.latency = _Mean()
        self.confidence = _Mean()

    def told(self, name: str) -> LanguageFigures:
        return LanguageFigures(
            name,
            self.states.total(),
            self.states[JobState.COMPLETED],
            self.states[JobState.FAILED],
            self.states[JobState.CANCELLED],
            sum(self.states[state] for state in LEFT),
            self.words,
            self.latency.told(2),
            self.confidence.told(4),
        )


class _Mean:
    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0

    def add(self, value: float | None) -> None:
        if value is not None:
            self._sum += value
            self._count += 1

    def told(self, decimals: int) -> float | None:
        return round(self._sum / self._count, decimals) if self._count else None


class _Foremost:
    """The first few of many by a key, and by id where keys are equal."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: list[tuple[float, str, ListedEnd]] = []

    def add(self, key: float, end: ListedEnd) -> None:
        if len(self._held) == self._most and (
            not self._most or (key, end.job) > self._held[-1][:2]
        ):
            return
        insort(self._held, (key, end.job, end), key=lambda one: one[:2])
        del self._held[self._most :]

    def told(self) -> tuple[ListedEnd, ...]:
        return tuple(end for _, _, end in self._held)


class Gathering:
    """Takes in jobs and gives the report of those it was given.

    Args:
        listed: Length of the lists of jobs.
    """

    def __init__(self, *, listed: int = DEFAULT_LISTED) -> None:
        self._states: Counter[JobState] = Counter()
        self._paused = 0
        self._first_us = self._last_us = 0
        self._words = self._submissions = self._polls = 0
        self._confidence = Spread(per_unit=10_000, digits=5, decimals=4, greatest=1.0)
        self._latency = Spread(per_unit=100, digits=3, decimals=2)
        self._reasons: dict[str, _Reason] = {}
        self._slowest = _Foremost(listed)
        self._least_sure = _Foremost(listed)
        self._names = _Named()
        self._languages: dict[str, _Language] = {}
        self._course = Course(len(ENDS))
        self._hosts = _Named()

    def add(self, job: Job, metrics: Metrics) -> None:
        """Take in a job.

        Args:
            metrics: Those stored beside its end (``recordings.ending.read_facts``); of a job that
                has not completed they are not used.
        """
        self._states[job.state] += 1
        self._submissions += job.submissions
        self._polls += job.polls
        if job.started_us:
            self._first_us = min(self._first_us or job.started_us, job.started_us)
        self._last_us = max(self._last_us, job.ended_us)
        if host := audit_request(job.request).webhook_host:
            self._hosts.add(host)
        self._names.add(job.request.language)
        name = self._names.name(job.request.language)
        language = self._languages.setdefault(name, _Language())
        language.states[job.state] += 1
        if not job.has_ended:
            self._paused += bool(job.paused_us)
            return
        self._course.add(job.ended_us, ENDS.index(job.state))
        if job.state is JobState.FAILED:
            self._reasons.setdefault(job.reason, _Reason(job)).add(job)
        elif job.state is JobState.COMPLETED:
            self._complete(job, metrics, language)

    def _complete(self, job: Job, metrics: Metrics, language: _Language) -> None:
        latency, sure = metrics.latency_seconds, confidence_of(metrics)
        self._words += metrics.total_words
        self._confidence.add(sure)
        self._latency.add(latency)
        language.words += metrics.total_words
        language.latency.add(latency)
        language.confidence.add(sure)
        request = job.request
        end = ListedEnd(
            job.id, request.recording_id, request.language, latency, sure, metrics.total_words
        )
        if latency is not None:
            self._slowest.add(-latency, end)
        if sure is not None:
            self._least_sure.add(sure, end)

    def report(self) -> JobsReport:
        """Return the figures of the jobs taken in."""
        ordered = sorted(self._reasons.items(), key=lambda one: (-one[1].count, one[0]))
        languages = [held.told(name) for name, held in self._languages.items()]
        return JobsReport(
            jobs=self._states.total(),
            states={
                state.value: self._states[state] for state in (*ENDS, *LEFT) if self._states[state]
            },
            paused=self._paused,
            first_us=self._first_us,
            last_us=self._last_us,
            words=self._words,
            submissions=self._submissions,
            polls=self._polls,
            confidence=self._confidence.distribution(),
            word_error_rate_is=ESTIMATE_LABEL,
            latency_seconds=self._latency.distribution(),
            failures=tuple(_failure(name, held) for name, held in ordered),
            slowest=self._slowest.told(),
            least_sure=self._least_sure.told(),
            languages=tuple(sorted(languages, key=lambda one: (-one.jobs, one.language))),
            over_time=TimeFigures(self._course.width_s, tuple(self._course.intervals())),
            webhook_hosts=self._hosts.told(),
        )


def _failure(reason: str, held: _Reason) -> Failure:
    return Failure(
        reason, held.error, held.count, held.remedy, held.codes.told(), tuple(held.examples)
    )


def confidence_of(metrics: Metrics) -> float | None:
    """Return 1 - the estimate, four decimals; None where there is no estimate."""
    estimate = metrics.word_error_rate
    return None if estimate is None else round(1.0 - estimate, 4)


def numbers_of(report: JobsReport) -> dict[str, Any]:
    """Return the report for a program: times in RFC 3339, counts of an interval by name."""
    numbers: dict[str, Any] = msgspec.to_builtins(report)
    for name in ("first", "last"):
        at_us = numbers.pop(f"{name}_us")
        numbers[f"{name}_at"] = rfc3339(at_us) if at_us else None
    numbers["over_time"]["intervals"] = [
        {"from": rfc3339(each.start_us)}
        | {state.value: count for state, count in zip(ENDS, each.counts, strict=True)}
        for each in report.over_time.intervals
    ]
    return numbers
