"""Life of a record at one destination, and what follows from each attempt.

A record begins ``pending`` (or ``unwanted``, where the destination does not carry its kind). The
relay leases it; what comes back settles it: ``acked`` (the consumer has stored it), ``retry``
(later, with the attempt counted unless the answer says nothing about the record), ``dead``
(refused for good or tried too often), ``unwanted`` (the peer turned out not to carry the kind).
A lease that ends without an outcome leaves the record as it was. Only an operator moves a dead
letter: redriven, it is ``pending`` again.

Leases live in the memory of the one process that owns the state directory and are never written:
after a crash every leased record is what it was before, ``pending`` or ``retry``.

Pure: the clock and the random draw are arguments.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from steno.errors import StenoError
from steno.ports import Ack, DeliveryState, Outcome, Reject, Retry, Settlement, Unwanted

MOVES: dict[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.PENDING: frozenset({DeliveryState.LEASED}),
    DeliveryState.RETRY: frozenset({DeliveryState.LEASED}),
    DeliveryState.LEASED: frozenset(
        {
            DeliveryState.ACKED,
            DeliveryState.RETRY,
            DeliveryState.DEAD,
            DeliveryState.UNWANTED,
            DeliveryState.PENDING,  # the lease ended and nothing is known
        }
    ),
    DeliveryState.DEAD: frozenset({DeliveryState.PENDING}),  # redriven
    DeliveryState.ACKED: frozenset(),
    DeliveryState.UNWANTED: frozenset(),
}
"""Legal moves."""

SETTLED = frozenset({DeliveryState.ACKED, DeliveryState.DEAD, DeliveryState.UNWANTED})
"""States in which the record no longer holds up its conversation."""

PATIENT = frozenset({"AuthError", "RateLimited"})
"""Reasons that speak of our credentials or of the consumer's load, never of the record: however
often they come back, and whoever else gets through meanwhile, they cost it no attempt."""

TOO_OFTEN = "attempts_exhausted"
_US = 1_000_000
_GROWTH = 3.0


class RetryPolicy(msgspec.Struct, frozen=True, gc=False):
    """How often and how far apart a record is tried.

    Attributes:
        first_s: Shortest delay, seconds.
        cap_s: Longest delay, seconds.
        max_attempts: The attempt after which the record is a dead letter.
        max_after_s: Longest wait a consumer can ask for, seconds.
    """

    first_s: float = 0.5
    cap_s: float = 60.0
    max_attempts: int = 12
    max_after_s: float = 300.0


def may_move(state: DeliveryState, to: DeliveryState) -> bool:
    """Tell whether a record may go from ``state`` to ``to``."""
    return to in MOVES[state]


def retry_delay_s(attempts: int, policy: RetryPolicy, draw: float) -> float:
    """Return the seconds to wait after ``attempts`` failed ones.

    Drawn between ``first_s`` and a bound that triples from one attempt to the next, so that
    records which failed together drift apart.

    Args:
        draw: Uniform in [0, 1).
    """
    # The exponent is bounded: beyond it the cap has long been reached.
    highest_s = min(policy.cap_s, policy.first_s * _GROWTH ** min(attempts, 40))
    return policy.first_s + draw * max(0.0, highest_s - policy.first_s)


def decide(
    record_id: str,
    destination: str,
    attempts: int,
    outcome: Outcome,
    now_us: int,
    policy: RetryPolicy,
    draw: float,
    *,
    waits: int = 0,
) -> Settlement:
    """Return what to write down after an attempt.

    Args:
        attempts: Failed attempts before this one.
        waits: Times it was put off before without an attempt being counted; the delay grows
            with them too.
        outcome: The sink's answer for the record.
        now_us: UTC microseconds.
        draw: Uniform in [0, 1), for the delay.
    """
    match outcome:
        case Ack():
            return Settlement(record_id, destination, DeliveryState.ACKED, attempts)
        case Unwanted():
            return Settlement(record_id, destination, DeliveryState.UNWANTED, attempts)
        case Reject(reason=reason):
            return Settlement(record_id, destination, DeliveryState.DEAD, attempts + 1, reason)
        case Retry(reason=reason, after_s=after_s):
            is_counted = reason not in PATIENT
            tried = attempts + is_counted
            if is_counted and tried >= policy.max_attempts:
                return Settlement(
                    record_id,
                    destination,
                    DeliveryState.DEAD,
                    tried,
                    f"{TOO_OFTEN}:{reason}",
                )
            delay_s = retry_delay_s(attempts + waits + 1, policy, draw)
            if after_s is not None and after_s > 0:
                # A tenth on top: all who were told the same must not come back together.
                wish_s = min(after_s, policy.max_after_s) * (1.0 + 0.1 * draw)
                delay_s = max(delay_s, wish_s)
            return Settlement(
                record_id,
                destination,
                DeliveryState.RETRY,
                tried,
                reason,
                now_us + int(delay_s * _US),
            )
        case _:
            assert_never(outcome)


def returned(record_id: str, destination: str, attempts: int) -> Settlement:
    """Return the settlement of a lease that ended with nothing known: not an attempt."""
    return Settlement(record_id, destination, DeliveryState.PENDING, attempts)


def reason_of(error: BaseException) -> str:
    """Return the reason to keep for an exception: a class name, never a text of its own."""
    return error.error_class if isinstance(error, StenoError) else type(error).__name__
