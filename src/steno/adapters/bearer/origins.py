"""Which web pages may open the JSON form: the ``Origin`` header against a list. Pure.

A browser sends the header and cannot be made to lie about it; other clients do not send it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from steno.errors import ConfigError

_AUTHORITY: Final = r"(?P<host>[a-z0-9-]+(\.[a-z0-9-]+)*)(:(?P<port>[0-9]{1,5}))?"
_PATTERN: Final = re.compile(r"(https://)?(?P<below>\*\.)?" + _AUTHORITY)
_ORIGIN: Final = re.compile("https://" + _AUTHORITY)
_MAX_CHARS: Final = 300
_HTTPS: Final = 443


class _Rule(NamedTuple):
    host: str
    below: bool
    port: int

    def permits(self, host: str, port: int) -> bool:
        if port != self.port:
            return False
        return host.endswith(f".{self.host}") if self.below else host == self.host


def origin_allowed(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that tells whether an ``Origin`` may connect.

    Args:
        patterns: ``app.example.com``, ``app.example.com:8443``, or ``*.example.com`` for every
            host below a domain, the domain itself not included. Always https; without a port,
            the usual one.

    Raises:
        ConfigError: A pattern is none; the message does not quote it.
    """
    rules = tuple(_rule(pattern) for pattern in patterns)

    def allowed(origin: str) -> bool:
        found = _ORIGIN.fullmatch(origin.lower()) if len(origin) <= _MAX_CHARS else None
        if found is None:
            return False
        host, port = found["host"], int(found["port"] or _HTTPS)
        return any(rule.permits(host, port) for rule in rules)

    return allowed


def _rule(pattern: str) -> _Rule:
    found = _PATTERN.fullmatch(pattern.strip().lower())
    is_domain = found is not None and (not found["below"] or "." in found["host"])
    if found is None or not is_domain:
        raise ConfigError(
            "not an origin",
            setting="media.origins",
            fix="Write app.example.com, app.example.com:8443 or *.example.com; https is meant.",
        )
    return _Rule(found["host"], bool(found["below"]), int(found["port"] or _HTTPS))
