"""What every group of settings is made of: documentation, bounds, patterns."""

from __future__ import annotations

from typing import Any

from msgspec import Meta, Struct

from steno.core.secret import Secret

NO_SECRET = Secret("")

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,31}$"
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
TAG_PATTERN = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$"


def doc(
    text: str,
    *,
    unit: str = "",
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    pattern: str | None = None,
) -> Meta:
    """Return the documentation and bounds of one setting."""
    given = {"ge": ge, "gt": gt, "le": le, "pattern": pattern}
    # Any: msgspec declares one overload for each pair of bounds.
    bounds: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return Meta(description=text, extra={"unit": unit}, **bounds)


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A group of settings; unknown keys are refused."""
