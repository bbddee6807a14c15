"""How many examples a property test takes, in the usual run and in ``make fuzz``."""

from __future__ import annotations

from hypothesis import settings

USUAL = 100  # Hypothesis's own default, which the usual profile keeps


def examples(usual: int) -> int:
    """Return ``usual``, times as much as the profile in force takes more than usual.

    A number written into ``@settings`` would be the same in every profile.
    """
    return usual * max(1, settings.default.max_examples // USUAL) if settings.default else usual
