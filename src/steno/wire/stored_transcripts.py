"""Stored transcripts read as they arrive, in memory that does not grow with the file."""

from __future__ import annotations

from dataclasses import dataclass

from steno.core.stored import StoredPart


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may ask of memory; one beyond is a ``RemoteProtocolError`` with ``limit``.

    Attributes:
        depth: Levels of lists and objects inside one another, the outermost counted.
        element_bytes: One segment, phrase with its words, participant, or string to be skipped.
        field_bytes: One value at the top that is kept (status, link, ids), or one key.
        participants: How many a file may name.
        bad_elements: How many are given out one by one; those beyond are only counted.
    """

    depth: int = 128
    element_bytes: int = 8 << 20
    field_bytes: int = 64 << 10
    participants: int = 10_000
    bad_elements: int = 10_000


LIMITS = Limits()


class TranscriptParser:
    """Turns the bytes of a stored transcript into segments, participants and fields.

    Errors are raised by the call after the one that gave out the last complete parts, so nothing
    that stood before a fault is lost: a caller that stops there has everything.
    """

    def __init__(self, limits: Limits = LIMITS, *, raw: bool = True) -> None:
        raise NotImplementedError

    def feed(self, data: bytes | memoryview) -> list[StoredPart]:
        """Take what comes next, cut anywhere; return everything that is now complete.

        Raises:
            RemoteProtocolError: The file is no JSON, no stored transcript, or beyond a limit;
                ``offset`` is the byte, ``limit`` or ``field`` what is at fault.
        """
        raise NotImplementedError

    def end(self) -> list[StoredPart]:
        """Return what is left, ``FieldsRead`` last.

        Raises:
            RemoteProtocolError: As ``feed``, or the file is truncated; ``offset`` is its length.
        """
        raise NotImplementedError


def parse_stored(body: bytes, limits: Limits = LIMITS, *, raw: bool = False) -> list[StoredPart]:
    """Return the parts of a whole small body, ``FieldsRead`` last.

    Raises:
        RemoteProtocolError: As ``TranscriptParser``.
    """
    parser = TranscriptParser(limits, raw=raw)
    return [*parser.feed(body), *parser.end()]
