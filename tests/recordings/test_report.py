"""What is counted of many jobs, and what is never among it."""

from __future__ import annotations

import tracemalloc
import uuid

import msgspec
import pytest

from recordings.job_helpers import NOW_US, S, a_job
from steno.core.quality import Metrics
from steno.ports.jobs import Job, JobState, TranscriptionRequest
from steno.recordings.job import REMEDIES, Reason
from steno.recordings.report import (
    MAX_EXAMPLES,
    MAX_NAMES,
    OTHERS,
    Gathering,
    JobsReport,
    numbers_of,
)

NONE = Metrics(None, None, 0)


def job(
    number: int,
    state: JobState,
    *,
    language: str = "en-US",
    webhook: str = "",
    took_s: float = 10.0,
    reason: str = "",
    code: str = "",
    paused_us: int = 0,
) -> Job:
    recording = str(uuid.UUID(int=number, version=4))
    begun = a_job(TranscriptionRequest(recording, language, webhook=webhook))
    ended = state in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
    return msgspec.structs.replace(
        begun,
        state=state,
        started_us=NOW_US,
        ended_us=NOW_US + round(took_s * S) if ended else 0,
        submissions=1,
        polls=2,
        reason=reason,
        code=code,
        paused_us=paused_us,
    )


def completed(
    number: int, latency_s: float, estimate: float | None, words: int = 5
) -> tuple[Job, Metrics]:
    return job(number, JobState.COMPLETED, took_s=latency_s), Metrics(latency_s, estimate, words)


def reported(*found: tuple[Job, Metrics], listed: int = 20) -> JobsReport:
    gathering = Gathering(listed=listed)
    for one, metrics in found:
        gathering.add(one, metrics)
    return gathering.report()


def test_every_job_is_counted_by_its_state() -> None:
    """Ends and what has not ended, the paused among these; calls over all of them."""
    found = reported(
        completed(1, 4.0, 0.1),
        (job(2, JobState.FAILED, reason="forbidden"), NONE),
        (job(3, JobState.CANCELLED), NONE),
        (job(4, JobState.SUBMITTED), NONE),
        (job(5, JobState.SUBMITTED, paused_us=NOW_US), NONE),
    )
    assert found.states == {"completed": 1, "failed": 1, "cancelled": 1, "submitted": 2}
    assert (found.jobs, found.left, found.paused) == (5, 2, 1)
    assert (found.submissions, found.polls, found.words) == (5, 10, 5)
    assert (found.first_us, found.last_us) == (NOW_US, NOW_US + 10 * S)


def test_confidence_is_one_minus_the_estimate() -> None:
    """And is called an estimate; a job without words has none."""
    found = reported(completed(1, 1.0, 0.25), completed(2, 1.0, 0.0), completed(3, 1.0, None, 0))
    assert (found.confidence.mean, found.confidence.count, found.confidence.unknown) == (
        0.875,
        2,
        1,
    )
    assert found.word_error_rate_is == "estimate (1 - mean confidence)"


def test_only_completed_jobs_have_latency_and_confidence() -> None:
    """However a job failed, its time is not in the distribution."""
    found = reported(
        completed(1, 4.0, 0.1), (job(2, JobState.FAILED, reason="setup"), Metrics(99.0, 0.9, 7))
    )
    assert (found.latency_seconds.count, found.latency_seconds.most) == (1, 4.0)
    assert (found.confidence.count, found.words) == (1, 5)


@pytest.mark.parametrize("reason", list(Reason))
def test_every_failure_has_its_remedy(reason: Reason) -> None:
    """With the class by which records and the audit log call it."""
    (found,) = reported((job(1, JobState.FAILED, reason=reason.value), NONE)).failures
    assert (found.reason, found.remedy) == (reason.value, REMEDIES[reason])
    assert found.error.lower() == reason.value.replace("_", "")


def test_failures_are_told_by_reason_the_most_frequent_first() -> None:
    """With the service's own codes, and the first few jobs by id."""
    many = [job(n, JobState.FAILED, reason="service_failed", code="a.b") for n in range(8)]
    few = job(9, JobState.FAILED, reason="forbidden")
    found = reported((few, NONE), *((each, NONE) for each in many))
    assert [(each.reason, each.count) for each in found.failures] == [
        ("service_failed", 8),
        ("forbidden", 1),
    ]
    assert found.failures[0].codes == {"a.b": 8}
    assert found.failures[0].examples == tuple(each.id for each in many[:MAX_EXAMPLES])


def test_lists_hold_the_slowest_and_the_least_sure() -> None:
    """In order, so many as were asked for, by ids only."""
    found = reported(*(completed(n, float(n), n / 100) for n in range(1, 50)), listed=3)
    assert [each.latency_seconds for each in found.slowest] == [49.0, 48.0, 47.0]
    assert [each.confidence for each in found.least_sure] == [0.51, 0.52, 0.53]
    assert reported(completed(1, 1.0, 0.1), listed=0).slowest == ()


def test_languages_have_their_own_figures() -> None:
    """The most frequent first."""
    found = reported(
        (job(1, JobState.COMPLETED, language="de-DE"), Metrics(2.0, 0.2, 10)),
        (job(2, JobState.COMPLETED, language="de-DE"), Metrics(4.0, 0.4, 10)),
        (job(3, JobState.FAILED, language="fr-FR", reason="setup"), NONE),
    )
    german, french = found.languages
    assert (german.language, german.completed, german.words) == ("de-DE", 2, 20)
    assert (german.mean_latency_seconds, german.mean_confidence) == (3.0, 0.7)
    assert (french.failed, french.mean_latency_seconds) == (1, None)


def test_of_a_webhook_only_the_host_is_told() -> None:
    """Neither path nor query, where the secret may be; and no user's name."""
    hook = "https://user:planted@hooks.example.com:8443/planted?token=planted"
    found = reported((job(1, JobState.PLANNED, webhook=hook), NONE))
    assert found.webhook_hosts == {"hooks.example.com": 1}
    assert b"planted" not in msgspec.json.encode(numbers_of(found))
    assert b"token" not in msgspec.json.encode(numbers_of(found))


def test_names_are_bounded() -> None:
    """A file with a language or a host on each line does not make the report grow."""
    found = reported(
        *(
            (job(n, JobState.PLANNED, language=f"l{n}", webhook=f"https://h{n}.example.com/"), NONE)
            for n in range(MAX_NAMES + 30)
        )
    )
    assert len(found.languages) == MAX_NAMES + 1
    assert found.webhook_hosts[OTHERS] == 30
    assert sum(each.jobs for each in found.languages) == MAX_NAMES + 30


def test_programs_get_times_in_rfc_3339_and_counts_by_name() -> None:
    """No microseconds since 1970, and no list whose order one has to know."""
    numbers = numbers_of(reported(completed(1, 4.0, 0.1)))
    assert numbers["first_at"] == "2027-01-15T08:00:00.000000Z"
    assert numbers["over_time"] == {
        "interval_seconds": 1,
        "intervals": [
            {"from": "2027-01-15T08:00:04.000000Z", "completed": 1, "failed": 0, "cancelled": 0}
        ],
    }
    assert numbers_of(reported())["first_at"] is None


@pytest.mark.soak
def test_memory_does_not_grow_with_the_number_of_jobs() -> None:
    """100,000 jobs are held in what 20,000 need, a little more for values not seen before."""
    held = []
    gathering = Gathering()
    tracemalloc.start()
    try:
        for number in range(100_000):
            gathering.add(*completed(number, (number * 7919 % 100_000) / 100, number % 1000 / 1000))
            if number in (19_999, 99_999):
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert gathering.report().jobs == 100_000
    assert held[1] < 1.5 * held[0] < 3_000_000
