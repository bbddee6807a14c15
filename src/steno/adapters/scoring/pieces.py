"""What is compared: pieces of speech by conversation."""

from __future__ import annotations

import msgspec


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A piece of one speaker's speech.

    Attributes:
        start_us, end_us: Microseconds from the start of the conversation; None where the form
            has no times.
        text: None where the form has no words.
    """

    speaker: str
    start_us: int | None
    end_us: int | None
    text: str | None


class Document(msgspec.Struct, frozen=True):
    """Pieces by conversation, in the order of the file.

    Attributes:
        has_times: Every piece has its times.
        has_words: Every piece has its words.
    """

    pieces: dict[str, list[Piece]]
    has_times: bool = True
    has_words: bool = True
