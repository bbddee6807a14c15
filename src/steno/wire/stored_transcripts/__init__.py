"""Stored transcripts read as they arrive, in memory that does not grow with the file.

``limits`` says what a file may ask of memory, ``scanning`` finds where a value ends, ``elements``
reads one segment, phrase or participant or a block of them, and ``parser`` is the machine that
knows the two shapes of a file.
"""

from steno.wire.stored_transcripts.limits import LIMITS, Limits
from steno.wire.stored_transcripts.parser import TranscriptParser, parse_stored

__all__ = ["LIMITS", "Limits", "TranscriptParser", "parse_stored"]
