"""The job service's memory counts what it accepted and lets time pass."""

from __future__ import annotations

import pytest

from steno_sim.recordings.job_book import Asked, JobBook, KeyReused
from steno_sim.recordings.settings import JobSettings

HOUR = 3600.0


def asked(recording: str = "r", *, language: str = "en-US") -> Asked:
    return Asked(recording, language)


def test_a_job_is_queued_then_in_work_then_over() -> None:
    """By the clock alone, and by its bounds."""
    book = JobBook(JobSettings(queued_s=(10, 10), processing_s=(20, 20)))
    job = book.submit(asked(), now=100.0)
    told = [job.status(now) for now in (100.0, 109.9, 110.1, 129.9, 130.1)]
    assert told == ["queued", "queued", "processing", "processing", "completed"]


def test_the_clock_factor_divides_the_delays() -> None:
    """Twenty times as fast: half a second of queue, one of work."""
    book = JobBook(JobSettings(queued_s=(10, 10), processing_s=(20, 20), clock=20))
    job = book.submit(asked(), now=0.0)
    assert [job.status(now) for now in (0.49, 0.51, 1.49, 1.51)] == [
        "queued",
        "processing",
        "processing",
        "completed",
    ]


def test_one_key_makes_one_job_and_none_makes_a_second() -> None:
    """The count by recording proves a double submission."""
    book = JobBook(JobSettings())
    first = book.submit(asked(), now=0.0, client="a", key="k")
    assert book.submit(asked(), now=9.0, client="a", key="k") is first
    assert (book.submissions["r"], book.repeated) == (1, 1)
    other = book.submit(asked(), now=0.0, client="b", key="k")
    assert other.id != first.id
    book.submit(asked(), now=0.0, client="a")
    assert book.submissions["r"] == 3
    stats = book.stats(HOUR)
    assert (stats["accepted"], stats["doubled"]) == (3, 1)
    assert stats["doubled_recordings"] == ["r"]


def test_a_key_with_another_body_is_refused_and_keys_can_be_ignored() -> None:
    """An idempotency key stands for one request."""
    book = JobBook(JobSettings())
    book.submit(asked(), now=0.0, key="k")
    with pytest.raises(KeyReused):
        book.submit(asked(language="de-DE"), now=0.0, key="k")
    deaf = JobBook(JobSettings(keys=False))
    assert deaf.submit(asked(), now=0.0, key="k") != deaf.submit(asked(), now=0.0, key="k")
    # A service that is deaf to keys counts them all the same, and so tells of repeats.
    assert (deaf.keyed["k"], deaf.stats(0.0)["doubled_keys"]) == (2, 1)


def test_shares_of_fates_hold_and_follow_from_the_recording() -> None:
    """A thousand recordings: each fate has about its share, the same in another book."""
    settings = JobSettings(failed=0.1, never=0.1, no_result=0.1, bad_words=0.1, silent=0.1)
    ids = [f"r{n}" for n in range(2000)]
    fates = [JobBook(settings).fate(one) for one in ids[:50]]
    assert fates == [JobBook(settings).fate(one) for one in ids[:50]]
    book = JobBook(settings)
    counted = [book.fate(one) for one in ids]
    for fate in ("failed", "never", "no_result", "bad_words", "silent"):
        assert 150 < counted.count(fate) < 250
    assert book.words(ids[counted.index("silent")]) == 0


def test_a_job_that_never_ends_stays_open() -> None:
    """The peak counts what was open at one time, not in all."""
    book = JobBook(JobSettings(never=1.0))
    job = book.submit(asked(), now=0.0)
    assert (job.status(HOUR * 24), book.open(HOUR)) == ("processing", 1)
    quick = JobBook(JobSettings(queued_s=(1, 1), processing_s=(1, 1)))
    for number in range(10):
        quick.submit(asked(f"r{number}"), now=number * 1.5)
    assert (quick.peak_open, quick.open(HOUR)) == (2, 0)


def test_missing_and_forbidden_recordings_are_a_share_and_strangers_can_be_refused() -> None:
    """404 and 403 follow from the recording."""
    book = JobBook(JobSettings(missing=0.2, forbidden=0.2))
    found = [book.refusal(f"r{n}") for n in range(1000)]
    assert 140 < found.count(404) < 260
    assert 140 < found.count(403) < 260
    strict = JobBook(JobSettings(only_known=True, recordings=3))
    assert [strict.refusal(r) for r in strict.recordings()] == [0, 0, 0]
    assert strict.refusal("r") == 404


def test_the_list_may_lag() -> None:
    """A job that was just accepted is not yet in the list."""
    book = JobBook(JobSettings(listing_lag_s=2))
    job = book.submit(asked(), now=0.0)
    assert book.of_recording("r", now=1.9) == []
    assert book.of_recording("r", now=2.1) == [job]
