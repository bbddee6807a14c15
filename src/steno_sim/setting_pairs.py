"""Settings written as ``KEY=VALUE``: reading them into a struct, and checking what they hold.

A field whose type is a pair of numbers is a range, written ``2,10``; one number alone is both
ends. Other tuples are lists with commas.
"""

from __future__ import annotations

from typing import TypeVar, get_args

import msgspec

_Settings = TypeVar("_Settings", bound=msgspec.Struct)


def parse_settings(kind: type[_Settings], pairs: list[str]) -> _Settings:
    """Read settings given as ``key=value``.

    Raises:
        ValueError: No such key, or a value that it does not take; the message names the key.
    """
    fields = {f.name: f for f in msgspec.structs.fields(kind)}
    found: dict[str, object] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or key not in fields:
            raise ValueError(f"{key!r} is no setting of {kind.__name__} (write KEY=VALUE)")
        if isinstance(fields[key].default, tuple):
            parts: object = [part.strip() for part in value.split(",")]
            if Ellipsis not in get_args(fields[key].type) and "," not in value:
                parts = [value, value]
        else:
            parts = value.strip()
        try:
            found[key] = msgspec.convert(parts, fields[key].type, strict=False)
        except msgspec.ValidationError as error:
            raise ValueError(f"{key}: {error}") from None
    try:
        return kind(**found)
    except (TypeError, ValueError) as error:
        raise ValueError(str(error)) from None


def check(holds: bool, message: str) -> None:
    """Refuse settings for which something does not hold.

    Raises:
        ValueError: With that message.
    """
    if not holds:
        raise ValueError(message)


def check_shares(settings: msgspec.Struct, *names: str) -> None:
    """Refuse shares outside 0..1, or that come to more than 1 together.

    Raises:
        ValueError: Naming them.
    """
    shares = [getattr(settings, name) for name in names]
    check(all(0 <= share <= 1 for share in shares), f"{', '.join(names)}: shares are 0 to 1")
    check(sum(shares) <= 1 + 1e-9, f"{', '.join(names)}: together at most 1")


def check_ranges(settings: msgspec.Struct, *names: str) -> None:
    """Refuse ranges that run backwards or below 0.

    Raises:
        ValueError: Naming the first.
    """
    for name in names:
        least, most = getattr(settings, name)
        check(0 <= least <= most, f"{name} is a range such as 2,10")
