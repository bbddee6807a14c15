"""Ids: which are accepted, how they are written into addresses and keys, and how ours are made."""

from __future__ import annotations

import re
import uuid
from urllib.parse import quote

MAX_ID_CHARS = 128

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

UUID7_RANDOM_BITS = 74
"""Random bits ``uuid7`` takes: 12 beside the version and 62 beside the variant."""

_MS_BITS = 48


def is_id(text: str) -> bool:
    """Tell whether ``text`` is an id we accept from a peer or a setting.

    The grammar leaves no room for a path, a query, a control character or a leading dot, so an
    accepted id can neither climb out of a folder nor bend an address.
    """
    return _ID.fullmatch(text) is not None


def is_uuid(text: str) -> bool:
    """Tell whether ``text`` is a UUID in its usual written form (recording ids are)."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def quoted(text: str) -> str:
    """Percent-encode an id for one segment of a URL path or of an object key.

    Every character outside the unreserved set is encoded, ``/`` and ``:`` included, so the
    result is always a single segment and decoding gives the id back.
    """
    return quote(text, safe="")


def uuid7(unix_ms: int, random_bits: int) -> str:
    """Return a UUID that sorts by its time.

    Args:
        unix_ms: UTC milliseconds since the epoch, 0 to 2^48 - 1.
        random_bits: A fresh random number of ``UUID7_RANDOM_BITS`` bits.

    Raises:
        ValueError: An argument is out of range.
    Source: RFC 9562, 5.7.
    """
    if not 0 <= unix_ms < 1 << _MS_BITS or not 0 <= random_bits < 1 << UUID7_RANDOM_BITS:
        raise ValueError("uuid7 takes 48 bits of time and 74 random bits")
    high, low = random_bits >> 62, random_bits & ((1 << 62) - 1)
    value = unix_ms << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low
    return str(uuid.UUID(int=value))
