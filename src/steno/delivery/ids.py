"""Record ids that carry their place: a UUIDv7 whose high bits are the store's position.

A **position** is a positive 63-bit integer that grows with every record of a store: UTC
milliseconds, then a counter of 15 bits. It is the part of the id that sorts, so an id needs no
index of its own (the position is the row's key), and reading can go on behind any record that is
at hand.
"""

from __future__ import annotations

COUNTER_BITS = 15
TAIL_BITS = 59
"""Random bits of an id beyond its position."""

_COUNTER_MASK = (1 << COUNTER_BITS) - 1
_VERSION = 0x7000
_VARIANT = 1 << 63
_LOW_COUNTER_MASK = 0b111

MAX_POSITION = (1 << 63) - 1


def first_position(unix_ms: int) -> int:
    """Return the lowest position of a millisecond."""
    return unix_ms << COUNTER_BITS


def next_position(last: int, unix_ms: int) -> int:
    """Return the position after ``last``: of this millisecond where the clock has moved on.

    A clock that stands or goes back only makes the counter run, so positions always grow.
    """
    return max(last + 1, unix_ms << COUNTER_BITS)


def position_us(position: int) -> int:
    """Return when the record was committed, UTC microseconds, to the millisecond."""
    return (position >> COUNTER_BITS) * 1000


def record_id(position: int, tail: int) -> str:
    """Return the id of a record, text form.

    Args:
        position: Where the record stands in its store.
        tail: A random number of ``TAIL_BITS`` bits.

    Source: RFC 9562, 5.7, with the counter in the leading random bits (6.2, method 1).
    """
    counter = position & _COUNTER_MASK
    high = (position >> COUNTER_BITS) << 16 | _VERSION | counter >> 3
    low = _VARIANT | (counter & _LOW_COUNTER_MASK) << TAIL_BITS | tail
    text = f"{high:016x}{low:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def position_of(record: str) -> int:
    """Return the position in an id made by ``record_id``.

    Raises:
        ValueError: The text is not such an id.
    """
    if len(record) != 36:  # the written form of a UUID
        raise ValueError("not a record id")
    unix_ms = int(record[:8] + record[9:13], 16)
    counter_high = int(record[15:18], 16)
    counter_low = int(record[19:21], 16) >> 3 & _LOW_COUNTER_MASK
    return unix_ms << COUNTER_BITS | counter_high << 3 | counter_low


def position_range(prefix: str) -> tuple[int, int]:
    """Return the lowest and highest position whose ids can begin with ``prefix``.

    Args:
        prefix: The beginning of an id, with or without its dashes, at least one hex digit.

    Raises:
        ValueError: It cannot be the beginning of an id.
    """
    digits = prefix.replace("-", "").lower()
    if not 0 < len(digits) <= 32 or any(c not in "0123456789abcdef" for c in digits):
        raise ValueError("not the beginning of a record id")
    ends = []
    for fill in "0f":
        full = digits + fill * (32 - len(digits))
        ends.append(position_of(f"{full[:8]}-{full[8:12]}-{full[12:16]}-{full[16:20]}-{full[20:]}"))
    return min(ends[0], MAX_POSITION), min(ends[1], MAX_POSITION)
