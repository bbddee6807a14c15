"""Waiting rules: every delay is bounded, jittered and decided by numbers passed in."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from steno.core.timing import (
    Backoff,
    CircuitBreaker,
    CircuitState,
    Deadline,
    Retries,
    SteppedBackoff,
    early_margin,
    parse_retry_after,
    refresh_at,
)

NOW = datetime(2026, 3, 29, 0, 59, 30, tzinfo=UTC)
draws = st.floats(0, 1, exclude_max=True)


@given(st.lists(draws, min_size=1, max_size=60))
def test_decorrelated_delays_stay_between_first_and_cap(drawn: list[float]) -> None:
    """No delay is shorter than the first or longer than the cap, however the draws fall."""
    backoff = Backoff(1.0, 30.0)
    delays = [backoff.next_delay(d) for d in drawn]
    assert all(1.0 <= delay <= 30.0 for delay in delays)
    assert backoff.tries == len(drawn)


def test_decorrelated_delay_depends_on_the_one_before() -> None:
    """Each delay may be up to ``multiplier`` times the last one."""
    backoff = Backoff(1.0, 100.0, multiplier=3.0)
    almost = math.nextafter(1.0, 0.0)
    assert [round(backoff.next_delay(almost), 6) for _ in range(4)] == [1.0, 3.0, 9.0, 27.0]


def test_two_processes_do_not_wait_in_step() -> None:
    """Different draws give different delays from the second try on."""
    one, two = Backoff(1.0, 60.0), Backoff(1.0, 60.0)
    first = [one.next_delay(0.1) for _ in range(4)]
    second = [two.next_delay(0.9) for _ in range(4)]
    assert all(a != b for a, b in zip(first[1:], second[1:], strict=True))


def test_backoff_starts_again_after_a_success() -> None:
    """Reset forgets the delays so far."""
    backoff = Backoff(1.0, 60.0)
    for _ in range(5):
        backoff.next_delay(0.9)
    backoff.reset()
    assert backoff.next_delay(0.9) == 1.0
    assert backoff.tries == 1


def test_stepped_delays_are_those_of_the_documents() -> None:
    """From 2 s, doubling up to 30 s, with at most 500 ms added."""
    backoff = SteppedBackoff(2.0, 30.0, jitter_s=0.5)
    assert [backoff.next_delay(0.0) for _ in range(6)] == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert 30.0 <= backoff.next_delay(0.999) < 30.5
    backoff.reset()
    assert backoff.next_delay(0.5) == 2.25


@pytest.mark.parametrize(("first", "cap"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_senseless_backoffs_are_refused(first: float, cap: float) -> None:
    """A backoff that could spin or shrink cannot be made."""
    with pytest.raises(ValueError):
        Backoff(first, cap)
    with pytest.raises(ValueError):
        SteppedBackoff(first, cap)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("-1", None),
        ("+5", None),
        ("1000000000", 60.0),
        ("9" * 400, None),
        ("1e9", None),
        ("inf", None),
        ("nan", None),
        ("1_0", None),
        ("٣", None),
        ("soon", None),
        ("Sun, 99 Zzz 2026 25:61:61 GMT", None),
        (format_datetime(NOW + timedelta(seconds=12), usegmt=True), 12.0),
        (format_datetime(NOW - timedelta(hours=1), usegmt=True), 0.0),
        (format_datetime(NOW + timedelta(days=400), usegmt=True), 60.0),
        ("Sun, 29 Mar 2026 00:59:40 -0000", 10.0),
    ],
)
def test_retry_after_is_obeyed_within_bounds(value: str | None, expected: float | None) -> None:
    """Seconds and dates are honoured, absurd values are cut, garbage says nothing."""
    assert parse_retry_after(value, NOW, 60.0) == expected


@given(st.text(max_size=80))
def test_no_header_can_raise_or_exceed_the_cap(value: str) -> None:
    """Whatever a peer sends, the wait is None or within the cap."""
    wait = parse_retry_after(value, NOW, 60.0)
    assert wait is None or 0.0 <= wait <= 60.0


def test_deadline_counts_down_to_zero() -> None:
    """What is left never goes below zero."""
    deadline = Deadline.after(100.0, 5.0)
    assert deadline.left(102.0) == 3.0
    assert not deadline.passed(104.9)
    assert deadline.passed(105.0)
    assert deadline.left(200.0) == 0.0


def test_retries_end_with_their_deadline() -> None:
    """A wait that would reach the deadline is not begun."""
    retries = Retries(SteppedBackoff(1.0, 8.0, jitter_s=0.0), Deadline(10.0))
    assert retries.next_delay(0.0, 0.0) == 1.0
    assert retries.next_delay(7.9, 0.0) == 2.0
    assert retries.next_delay(7.0, 0.0) is None
    assert retries.left(7.0) == 3.0


def test_a_peers_wish_is_a_lower_bound() -> None:
    """Longer than the backoff: the wish and up to a tenth more. Shorter: the backoff."""
    retries = Retries(SteppedBackoff(1.0, 1.0, jitter_s=0.0), Deadline(100.0))
    assert retries.next_delay(0.0, 0.0, retry_after_s=20.0) == 20.0
    assert retries.next_delay(0.0, 0.5, retry_after_s=20.0) == pytest.approx(21.0)
    assert retries.next_delay(0.0, 0.0, retry_after_s=0.0) == 1.0
    assert retries.next_delay(0.0, 0.0, retry_after_s=100.0) is None


def test_breaker_opens_after_consecutive_failures_only() -> None:
    """A success in between starts the count again."""
    breaker = CircuitBreaker(failures=3, open_s=10.0)
    for outcome in (breaker.failed, breaker.failed, breaker.succeeded, breaker.failed):
        outcome(0.0)
    breaker.failed(0.0)
    assert breaker.allow(0.0)
    breaker.failed(0.0)
    assert not breaker.allow(9.9)
    assert breaker.retry_in(4.0) == 6.0


def test_half_open_lets_one_probe_through() -> None:
    """After the rest, one caller tries while the others are still held off."""
    breaker = CircuitBreaker(failures=1, open_s=10.0)
    breaker.failed(0.0)
    assert breaker.allow(10.0)
    assert not breaker.allow(10.1)
    breaker.failed(11.0)
    assert not breaker.allow(20.9)
    assert breaker.allow(21.0)
    breaker.succeeded(21.5)
    assert breaker.allow(21.5)
    assert breaker.state is CircuitState.CLOSED


def test_lost_probe_does_not_hold_the_circuit_for_ever() -> None:
    """When the probe never reports, another one may try after ``open_s``."""
    breaker = CircuitBreaker(failures=1, open_s=10.0)
    breaker.failed(0.0)
    assert breaker.allow(10.0)
    assert breaker.allow(20.0)


class BreakerRules(RuleBasedStateMachine):
    """Any order of calls keeps the breaker's promises."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = CircuitBreaker(failures=3, open_s=5.0)
        self.now = 0.0

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        """Time goes on."""
        self.now += seconds

    @rule()
    def fail(self) -> None:
        """A call failed."""
        self.breaker.failed(self.now)

    @rule()
    def succeed(self) -> None:
        """A call succeeded, so the next one is let through."""
        self.breaker.succeeded(self.now)
        assert self.breaker.allow(self.now)

    @precondition(lambda self: self.breaker.state is not CircuitState.CLOSED)
    @rule()
    def probes_are_single(self) -> None:
        """Not closed: of two callers at one moment at most one may try."""
        assert not (self.breaker.allow(self.now) and self.breaker.allow(self.now))

    @invariant()
    def never_shut_for_ever(self) -> None:
        """At the latest after ``open_s`` somebody may try."""
        assert 0.0 <= self.breaker.retry_in(self.now) <= 5.0 + 1e-6


TestBreakerRules = BreakerRules.TestCase


def test_long_lived_token_is_replaced_five_minutes_early() -> None:
    """An hour's token is replaced 5 minutes before its end, or a little earlier."""
    assert refresh_at(3600, 1000.0, 0.0) == 1000 + 3300
    assert refresh_at(3600, 1000.0, 0.5) == pytest.approx(1000 + 3300 - 30)


def test_short_lived_token_gives_up_a_fifth_of_its_life() -> None:
    """A token of one minute is replaced after 48 s, not 4 minutes before it was issued."""
    assert refresh_at(60, 0.0, 0.0) == pytest.approx(48.0)
    assert early_margin(60) == pytest.approx(12.0)


@given(st.floats(1, 1e7), draws)
def test_refresh_falls_into_the_life_and_never_into_the_margin(life: float, draw: float) -> None:
    """The moment lies after the issue and at least a margin before the end."""
    at = refresh_at(life, 0.0, draw)
    assert 0.0 < at <= life - early_margin(life) + 1e-6
