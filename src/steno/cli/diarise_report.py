"""``steno diarise report``: who talked how long, in turns, over each other."""

from __future__ import annotations


def report() -> None:
    """Show the figures of the conversations that were collected."""
