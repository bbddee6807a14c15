"""Scopes as issuers write them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# RFC 8693 has ``scope``, others ``scp``; the platform's answer about a token has the third.
_NAMES: Final = ("scope", "scp", "authorizedScope")


def named(claims: Mapping[str, object]) -> frozenset[str] | None:
    """Return the scopes that claims name; None when they do not speak of scopes."""
    found: set[str] = set()
    spoken = False
    for name in _NAMES:
        value = claims.get(name)
        if isinstance(value, str):
            spoken = True
            found.update(value.split())
        elif isinstance(value, list):
            spoken = True
            found.update(item for item in value if isinstance(item, str))
    return frozenset(found) if spoken else None


def granted(claims: Mapping[str, object], scope: str) -> bool:
    """Tell whether claims grant a scope; exactly that one, no prefix of it."""
    return scope in (named(claims) or ())
