"""What a file may ask of memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may ask of memory; one beyond is a ``RemoteProtocolError`` with ``limit``.

    Attributes:
        depth: Levels of lists and objects inside one another, the outermost counted and the
            innermost two not always. Elements that are read many at a time are only held to what
            the interpreter bears (some 900 levels), which is the same error.
        element_bytes: One segment, phrase with its words, participant, or string to be skipped.
        field_bytes: One value at the top that is kept (status, link, ids), or one key.
        participants: How many a file may name.
        bad_elements: How many are given out one by one; those beyond are only counted.
    """

    depth: int = 128
    element_bytes: int = 4 << 20
    field_bytes: int = 64 << 10
    participants: int = 10_000
    bad_elements: int = 10_000


LIMITS = Limits()
