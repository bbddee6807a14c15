"""What a receiver of webhooks answers, written as a line of steps.

``503*2,timeout,200``: the first two deliveries of a message get 503, the third none, the rest
200. The last step stays for ever. Steps, each with an argument after a colon where it has one:

====================  ========================================================================
``200``, ``410`` …    that status; ``429:5`` and ``503:5`` add ``Retry-After: 5``
``redirect:URL``      302 to that address (``redirect307:URL`` and the like: that status)
``timeout``           nothing at all for an hour, or ``timeout:SECONDS``, then the end
``huge``              200 with a body that never ends, or of ``huge:BYTES``
``headers``           200 with headers that never end, or ``headers:BYTES`` of them
``drip``              200 letter by letter, a second apart, or ``drip:SECONDS``
``reset``             the connection is reset once the request was read
``refuse``            the connection is reset before the request was read (counts no delivery)
``garbage``           bytes that are no HTTP
====================  ========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

_STEP = re.compile(r"(?P<what>[a-z]+\d*|\d{3})(?::(?P<value>.*?))?(?:\*(?P<times>\d{1,6}))?")
_STATUS = re.compile(r"\d{3}")
_REDIRECT = re.compile(r"redirect(30[1-8])?")
_SIMPLE = ("reset", "garbage")
_NUMBERED = {"timeout": 3600.0, "huge": 0.0, "headers": 0.0, "drip": 1.0}
MAX_STEPS = 100_000


class Step(msgspec.Struct, frozen=True):
    """One answer: ``kind`` is ``status``, ``redirect`` or a word of the table.

    ``amount`` is seconds or bytes (0: without end), whichever the kind takes.
    """

    kind: str
    status: int = 200
    amount: float = 0.0
    location: str = ""


OK = Step("status", 200)


def parse_script(text: str) -> list[Step]:
    """Read a line of steps.

    Raises:
        ValueError: A step is none; the message has its number.
    """
    steps: list[Step] = []
    for number, part in enumerate(text.split(","), 1):
        match = _STEP.fullmatch(part.strip())
        step = _step(match["what"], match["value"] or "") if match is not None else None
        if match is None or step is None:
            raise ValueError(f"step {number} of the script is none (see the reference)")
        steps += [step] * int(match["times"] or 1)
        if len(steps) > MAX_STEPS:
            raise ValueError(f"a script has at most {MAX_STEPS} steps")
    return steps


def _step(what: str, value: str) -> Step | None:
    if _STATUS.fullmatch(what):
        status, wait = int(what), _number(value)
        return None if wait is None or not 200 <= status <= 599 else Step("status", status, wait)
    if redirect := _REDIRECT.fullmatch(what):
        return Step("redirect", int(redirect[1] or 302), location=value) if value else None
    if what in _SIMPLE:
        return None if value else Step(what)
    if what in _NUMBERED:
        amount = _number(value) if value else _NUMBERED[what]
        return None if amount is None else Step(what, amount=amount)
    return None


def _number(text: str) -> float | None:
    try:
        found = float(text or 0)
    except ValueError:
        return None
    return found if 0 <= found < 1e12 else None


def step_of(script: Sequence[Step], attempt: int) -> Step:
    """Give the answer to the n-th delivery of a message, from 0."""
    return script[min(attempt, len(script) - 1)] if script else OK
