"""What redaction looks for: the entities, the spans found, and the hook for recognisers."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

import msgspec


class Entity(StrEnum):
    """Kinds of personal data; the value is the key in counts and metrics."""

    PHONE = "phone"
    EMAIL = "email"
    CARD = "card"
    SSN = "ssn"
    IBAN = "iban"
    NUMBER = "number"
    """A number the speaker treats as a secret (an account, say) which is none of the above."""


class Span(msgspec.Struct, frozen=True, gc=False, order=True):
    """Characters ``start`` to ``end`` (exclusive) of a text are one entity.

    ``entity`` is an ``Entity`` value, or the name a custom recogniser gives
    (lower-case letters, digits and underscores: it becomes a label and a metric value).
    """

    start: int
    end: int
    entity: str


class Recogniser(Protocol):
    """A custom recogniser: finds spans which Steno's own tables do not know.

    It must be pure and safe to call from several threads. It sees raw text and must neither
    keep nor log it. Whatever it raises withholds the sentence (redaction fails closed).
    """

    def find(self, text: str, *, language: str) -> Iterable[Span]:
        """Spans in ``text``, a piece of speech in ``language`` (BCP-47, lower case)."""
        ...
