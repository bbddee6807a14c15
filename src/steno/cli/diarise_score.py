"""``steno diarise score``: error rates against a reference."""

from __future__ import annotations


def score() -> None:
    """Compare what was collected with a reference."""
