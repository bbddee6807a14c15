"""How a removed span looks afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from steno.core.transcript import RedactedText
from steno.redaction.entities import Span

Mask = Literal["redacted", "label"]
REDACTED = "[REDACTED]"
MASKED = re.compile(r"\[[A-Z][A-Z0-9_]*\]")
"""Matches every mask there is."""


def tidy(spans: Iterable[Span], text: str) -> list[Span]:
    """Spans in order, overlaps joined; the longer one's entity wins.

    Neighbours of the same entity with nothing but signs between become one.
    """
    tidied: list[Span] = []
    for span in sorted(spans):
        if span.start >= span.end:
            continue
        if not tidied:
            tidied.append(span)
            continue
        before = tidied[-1]
        between = text[before.end : span.start]
        if span.start < before.end:
            longer = before if before.end - before.start >= span.end - span.start else span
            tidied[-1] = Span(before.start, max(before.end, span.end), longer.entity)
        elif span.entity == before.entity and not any(c.isalnum() for c in between):
            tidied[-1] = Span(before.start, span.end, before.entity)
        else:
            tidied.append(span)
    return tidied


def apply(text: str, spans: Sequence[Span], mask: Mask) -> RedactedText:
    """``text`` with each of the tidy ``spans`` replaced by its mask."""
    if not spans:
        return RedactedText(text)
    pieces: list[str] = []
    at = 0
    for span in spans:
        pieces.append(text[at : span.start])
        pieces.append(REDACTED if mask == "redacted" else f"[{span.entity.upper()}]")
        at = span.end
    pieces.append(text[at:])
    return RedactedText(" ".join("".join(pieces).split()))


def count(spans: Iterable[Span]) -> dict[str, int]:
    """Number of spans by entity."""
    counts: dict[str, int] = {}
    for span in spans:
        counts[str(span.entity)] = counts.get(str(span.entity), 0) + 1
    return counts
