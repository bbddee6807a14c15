"""What a refusal says of itself, as far as it is safe to repeat: status, code, correlation id.

A refused upgrade has it in a JSON body, a refused subscription in a message; peers spell the
keys in several ways. A peer's words (``message``, ``description``) are never read: they may
quote what was sent. A code is taken only where it has the form of one, an id where it is one.

Source: Genesys Cloud, error body; the tutorials' documents.
"""

from __future__ import annotations

import re
from typing import cast

import msgspec

from steno.core.ids import is_id

MAX_REFUSAL_BYTES = 16 << 10
"""Longest refusal that is read; a longer one says nothing."""

MAX_CODE_CHARS = 64

_CODE = re.compile(r"[A-Za-z][A-Za-z_-]*\d{0,4}(?:\.(?:[A-Za-z][A-Za-z_-]*\d{0,4}|\d{1,4}))*")
"""Plain words with dots between them. Longer runs of digits belong to ids and numbers."""

_MAX_KEYS = 64
_STATUS_KEYS = ("status", "statuscode", "httpstatus", "code")
_CODE_KEYS = ("code", "errorcode", "error")
_CORRELATION_KEYS = ("correlationid", "inincorrelationid", "contextid", "requestid")
_INNER_KEYS = ("error", "data", "body")


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Facts of a refusal.

    Attributes:
        status: HTTP status, 100 to 599; 0 where none is given.
        code: The platform's own word for it (``missing.permissions``); empty where none is
            given, or one that is no plain dotted word.
        correlation_id: By which the platform's support finds it; empty where none is given.
    """

    status: int = 0
    code: str = ""
    correlation_id: str = ""


NOTHING_SAID = Refusal()


def is_code(text: str) -> bool:
    """Tell whether ``text`` has the form of an error code and no other."""
    return len(text) <= MAX_CODE_CHARS and _CODE.fullmatch(text) is not None


def read_refusal(data: bytes) -> Refusal:
    """Read a refusal as far as it can be read; a page of HTML says nothing. Never raises."""
    if len(data) > MAX_REFUSAL_BYTES:
        return NOTHING_SAID
    try:
        told = msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return NOTHING_SAID
    if not isinstance(told, dict):
        return NOTHING_SAID
    places = [_plain_keys(told)]
    places += [
        _plain_keys(cast("dict[str, object]", inner))  # what JSON's objects are decoded into
        for key in _INNER_KEYS
        if isinstance(inner := places[0].get(key), dict)
    ]
    return Refusal(
        next(filter(None, (_status(place) for place in places)), 0),
        next(filter(None, (_word(place, _CODE_KEYS) for place in places)), ""),
        next(filter(None, (_word(place, _CORRELATION_KEYS) for place in places)), ""),
    )


def _plain_keys(told: dict[str, object]) -> dict[str, object]:
    """Return the values under their keys without case, ``_`` and ``-``; the first one counts."""
    plain: dict[str, object] = {}
    for key in list(told)[:_MAX_KEYS]:
        plain.setdefault(key.lower().replace("_", "").replace("-", ""), told[key])
    return plain


def _status(place: dict[str, object]) -> int:
    for key in _STATUS_KEYS:
        value = place.get(key)
        if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
            value = int(value)
        if type(value) is int and 100 <= value <= 599:
            return value
    return 0


def _word(place: dict[str, object], keys: tuple[str, ...]) -> str:
    accepted = is_code if keys is _CODE_KEYS else is_id
    for key in keys:
        value = place.get(key)
        if isinstance(value, str) and accepted(value):
            return value
    return ""
