"""Life of a record at a destination."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.delivery.outbox import (
    MOVES,
    PATIENT,
    SETTLED,
    TOO_OFTEN,
    RetryPolicy,
    decide,
    may_move,
    reason_of,
    retry_delay_s,
    returned,
)
from steno.errors import SinkUnavailable
from steno.ports import Ack, DeliveryState, Outcome, Reject, Retry, Unwanted

POLICY = RetryPolicy(first_s=1.0, cap_s=60.0, max_attempts=5, max_after_s=300.0)
NOW_US = 1_700_000_000_000_000

outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.just(Ack()),
    st.just(Unwanted()),
    st.just(Reject("SinkRejected")),
    st.builds(
        Retry,
        st.just("TimedOut"),
        st.one_of(st.none(), st.floats(-1e12, 1e12, allow_nan=False)),
    ),
)
draws = st.floats(0, 1, exclude_max=True)


@given(st.integers(0, 10**6), outcomes, draws)
def test_every_outcome_leads_to_a_legal_move(attempts: int, outcome: Outcome, draw: float) -> None:
    """What is decided is a move that a leased record may make."""
    settlement = decide("id", "there", attempts, outcome, NOW_US, POLICY, draw)
    assert may_move(DeliveryState.LEASED, settlement.state)
    assert settlement.attempts in (attempts, attempts + 1)


@given(st.integers(0, 10**6), st.floats(allow_nan=False), draws)
def test_a_wish_is_obeyed_and_bounded(attempts: int, wish_s: float, draw: float) -> None:
    """No wait is shorter than a consumer's wish, and none longer than the bounds of the policy."""
    policy = RetryPolicy(max_attempts=10**9)
    settled = decide("id", "there", attempts, Retry("r", wish_s), NOW_US, policy, draw)
    wait_s = (settled.next_at_us - NOW_US) / 1e6
    assert min(wish_s, policy.max_after_s) <= wait_s + 1e-6
    assert policy.first_s - 1e-6 <= wait_s <= max(policy.cap_s, policy.max_after_s * 1.1) + 1e-6


@given(st.integers(1, 10**9), draws)
def test_delays_stay_between_the_first_and_the_cap(attempts: int, draw: float) -> None:
    """However often it failed."""
    assert POLICY.first_s <= retry_delay_s(attempts, POLICY, draw) <= POLICY.cap_s


def test_delays_grow_and_differ_by_the_draw() -> None:
    """The range triples from one attempt to the next."""
    assert [round(retry_delay_s(n, POLICY, 0.999999)) for n in (1, 2, 3, 4, 5)] == [
        3,
        9,
        27,
        60,
        60,
    ]
    assert retry_delay_s(3, POLICY, 0.0) == POLICY.first_s


def test_the_last_attempt_makes_a_dead_letter_that_keeps_its_reason() -> None:
    """After ``max_attempts`` failures a record is given up."""
    states = [
        decide("id", "there", attempts, Retry("TimedOut"), NOW_US, POLICY, 0.5).state
        for attempts in range(POLICY.max_attempts)
    ]
    assert states == [DeliveryState.RETRY] * 4 + [DeliveryState.DEAD]
    last = decide("id", "there", 4, Retry("TimedOut"), NOW_US, POLICY, 0.5)
    assert (last.attempts, last.reason) == (5, f"{TOO_OFTEN}:TimedOut")


def test_a_refusal_is_final_at_once() -> None:
    """A rejected record is a dead letter with the consumer's reason."""
    settlement = decide("id", "there", 0, Reject("SinkRejected"), NOW_US, POLICY, 0.5)
    assert (settlement.state, settlement.reason, settlement.attempts) == (
        DeliveryState.DEAD,
        "SinkRejected",
        1,
    )


def test_an_ended_lease_is_no_attempt() -> None:
    """Nothing is known, so nothing is counted."""
    assert returned("id", "there", 3).attempts == 3
    assert may_move(DeliveryState.LEASED, returned("id", "there", 3).state)


@pytest.mark.parametrize("state", list(DeliveryState))
def test_the_table_covers_every_state(state: DeliveryState) -> None:
    """Settled records move only by an operator's hand: dead to pending."""
    expected = {DeliveryState.PENDING} if state is DeliveryState.DEAD else set()
    if state in SETTLED:
        assert MOVES[state] == expected
    else:
        assert MOVES[state]


def test_reasons_are_class_names() -> None:
    """No text of an exception is kept."""
    assert reason_of(SinkUnavailable("secret")) == "SinkUnavailable"
    assert reason_of(ValueError("secret")) == "ValueError"


@pytest.mark.parametrize("reason", sorted(PATIENT))
def test_what_is_not_the_records_fault_costs_no_attempt_but_waits_longer(reason: str) -> None:
    """Ever longer waits, the count as it was, and never a dead letter."""
    last = POLICY.max_attempts - 1
    first = decide("id", "there", last, Retry(reason), NOW_US, POLICY, 0.5)
    later = decide("id", "there", last, Retry(reason), NOW_US, POLICY, 0.5, waits=5)
    assert first.state is later.state is DeliveryState.RETRY
    assert first.attempts == later.attempts == last
    early = decide("id", "there", 0, Retry(reason), NOW_US, POLICY, 0.5)
    grown = decide("id", "there", 0, Retry(reason), NOW_US, POLICY, 0.5, waits=5)
    assert early.next_at_us < grown.next_at_us
