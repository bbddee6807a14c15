"""Stopping dead at a named step, for the tests that kill the process there.

``STENO_CRASH_AT=commit.before:3`` ends the process by SIGKILL when it comes to that step for the
third time. Unset, as always outside tests, nothing is looked at again after the start.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from steno.errors import ConfigError

VARIABLE = "STENO_CRASH_AT"
STEPS = ("commit.before", "commit.after", "settle.before", "settle.after")


def crash_point(value: str) -> Callable[[str], None] | None:
    """Return what to call at each step, or None where nothing is asked for.

    Args:
        value: ``step:n``, or empty.

    Raises:
        ConfigError: The step or the count is unknown.
    """
    if not value:
        return None
    step, _, count = value.partition(":")
    if step not in STEPS or not count.isdigit() or int(count) < 1:
        raise ConfigError(
            "unknown step to crash at", setting=VARIABLE, fix=f"Known: {', '.join(STEPS)}."
        )
    left = int(count)

    def at(name: str) -> None:
        nonlocal left
        if name != step:
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return at
