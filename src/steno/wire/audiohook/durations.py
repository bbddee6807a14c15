"""AudioHook durations: ISO 8601, seconds only, read and written with integers alone.

Floats would turn a position of many hours into one that is some samples off, and print small
values as ``1e-05``, which the protocol forbids.

Source: AudioHook protocol 2, durations.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from steno.errors import RemoteProtocolError

MAX_DURATION_S: Final = 90 * 86_400
"""Longer than any call: what says more is broken or means harm."""

# ASCII digits only, and nothing after the S: ``\d`` and ``$`` would let more through. The number
# of digits is bounded, so that reading takes no time worth attacking.
_FORM: Final = r"\APT(?:[0-9]{0,12}\.)?[0-9]{1,18}S\Z"
_PARTS: Final = re.compile(r"PT(?:([0-9]{0,12})(\.))?([0-9]{1,18})S")

Duration = Annotated[str, msgspec.Meta(pattern=_FORM, max_length=36)]


def to_samples(duration: str, rate_hz: int) -> int:
    """Return a duration in samples, the nearest whole one (a half goes up).

    Raises:
        RemoteProtocolError: Not a duration, or longer than ``MAX_DURATION_S``.
    """
    return _to_units(duration, rate_hz)


def to_us(duration: str) -> int:
    """Return a duration in microseconds, the nearest whole one (a half goes up).

    Raises:
        RemoteProtocolError: As ``to_samples``.
    """
    return _to_units(duration, 1_000_000)


def _to_units(duration: str, per_second: int) -> int:
    parts = _PARTS.fullmatch(duration)
    if parts is None:
        raise RemoteProtocolError("a duration is not of the form PT...S")
    whole, dot, rest = parts.groups()
    if dot is None:
        whole, rest = rest, ""
    scale: int = 10 ** len(rest)
    value = int(whole or 0) * scale + int(rest or 0)
    if value > MAX_DURATION_S * scale:
        raise RemoteProtocolError("a duration is longer than any call")
    return (value * per_second * 2 + scale) // (scale * 2)


def from_us(duration_us: int) -> str:
    """Return microseconds as a duration: ``PT0S``, ``PT12.34S``; below zero counts as zero."""
    whole, rest = divmod(max(duration_us, 0), 1_000_000)
    if not rest:
        return f"PT{whole}S"
    return f"PT{whole}.{rest:06d}".rstrip("0") + "S"


def from_samples(samples: int, rate_hz: int) -> str:
    """Return samples as a duration, to the microsecond: exact at 8000 and 16000 Hz."""
    return from_us((max(samples, 0) * 2_000_000 + rate_hz) // (rate_hz * 2))
