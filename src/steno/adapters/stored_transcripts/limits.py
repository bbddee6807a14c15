"""How long and how often fetching tries."""

from __future__ import annotations

from typing import Final

import msgspec

DOUBT_POLLS: Final = 6
"""Polls of an answer that is empty and does not say that it is done."""


class FetchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of finding and downloading; times are seconds.

    Attributes:
        poll_s: Between two questions for a transcript in work; on the real platform the first
            wait, which grows to ``poll_most_s``.
        poll_limit_s: Longest time one may be in work.
        recent_s: A conversation that ended less long ago may get its transcript yet.
        missing_s: How long to ask where it ended longer ago.
        renewals: Fresh links, or new tries, in a row that brought no data.
        retry_first_s, retry_most_s: Wait after a download that broke; it doubles.
    """

    poll_s: float = 5.0
    poll_most_s: float = 60.0
    poll_limit_s: float = 600.0
    recent_s: float = 900.0
    missing_s: float = 0.0
    renewals: int = 5
    retry_first_s: float = 1.0
    retry_most_s: float = 30.0
