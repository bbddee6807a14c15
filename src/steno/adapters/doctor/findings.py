"""What a check says, and what all of them together mean for the exit code."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from steno.errors import AuthError, ConfigError, StenoError, TransportError


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Area(StrEnum):
    """What a failure touches; decides the exit code."""

    CONFIG = "config"
    MACHINE = "machine"
    REACH = "reach"
    AUTH = "auth"
    CONSUMER = "consumer"


class Finding(msgspec.Struct, frozen=True):
    """One line of the report.

    Attributes:
        check: What was looked at, in fixed words and host names.
        verdict: How it ended.
        what: What was found; no secrets, no peer text.
        fix: What to do about it; empty when nothing is wrong.
        area: What it touches.
    """

    check: str
    verdict: Verdict
    what: str
    fix: str = ""
    area: Area = Area.MACHINE


def ok(check: str, what: str, area: Area) -> Finding:
    """Nothing is wrong."""
    return Finding(check, Verdict.OK, what, area=area)


def warn(check: str, what: str, fix: str, area: Area) -> Finding:
    """It works, but somebody should know."""
    return Finding(check, Verdict.WARN, what, fix, area)


def fail(check: str, what: str, fix: str, area: Area) -> Finding:
    """It does not work."""
    return Finding(check, Verdict.FAIL, what, fix, area)


def failed_by(check: str, error: StenoError, *, area: Area | None = None) -> Finding:
    """Return a failure in the words of an error of ours, in the area that its class means."""
    facts = ", ".join(f"{k}={v}" for k, v in error.fields.items() if v is not None)
    what = f"{error.summary} ({facts})" if facts else error.summary
    return fail(check, what, error.fix, area or _area_of(error))


def exit_code_of(findings: Iterable[Finding]) -> int:
    """Return 0 when nothing failed, else 2 (configuration), 4 (unreachable), 3
    (authentication) or 1 (this machine or a consumer), the first that applies in this order.

    An unreachable platform goes before refused credentials: they could not be tested then.
    """
    failed = {finding.area for finding in findings if finding.verdict is Verdict.FAIL}
    for area, code in ((Area.CONFIG, 2), (Area.REACH, 4), (Area.AUTH, 3)):
        if area in failed:
            return code
    return 1 if failed else 0


def _area_of(error: StenoError) -> Area:
    match error:
        case AuthError():
            return Area.AUTH
        case ConfigError():
            return Area.CONFIG
        case TransportError():
            return Area.REACH
        case _:
            return Area.REACH
