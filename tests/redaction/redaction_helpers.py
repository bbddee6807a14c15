"""Sentences and conversations for the tests of redaction."""

from __future__ import annotations

import re
from collections.abc import Sequence

from steno.core.transcript import RawText, RedactedSentence, Sentence
from steno.redaction import Carry, Redactor

REDACTOR = Redactor()
LABELS = Redactor(mask="label")
EN_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def sentence(
    text: str,
    *,
    lane: str = "customer",
    utterance: str = "u",
    language: str = "en-US",
    revision: int = 0,
) -> Sentence:
    return Sentence("c", lane, utterance, revision, RawText(text), language, 0.9, 1, 2, 3)


def redacted(text: str, language: str = "en-US") -> str:
    return LABELS.redact(RawText(text), language=language).text


def conversation(
    turns: Sequence[tuple[str, str]], *, language: str = "en-US", carry: Carry | None = None
) -> list[RedactedSentence]:
    """What comes out when ``turns`` (lane, text) are said a second apart."""
    carry = carry or Carry(LABELS)
    out: list[RedactedSentence] = []
    for number, (lane, text) in enumerate(turns):
        said = sentence(text, lane=lane, utterance=str(number), language=language)
        out += carry.push(said, now=float(number))
    return out + carry.flush(float(len(turns)))


def longest_row(texts: Sequence[str], words: Sequence[str]) -> int:
    """Most of ``words`` in a row over ``texts``; digits count one by one."""
    longest = row = 0
    for word in re.findall(r"\w+", " ".join(texts).lower()):
        row = (
            row + (len(word) if word.isdecimal() else 1) if word in words or word.isdecimal() else 0
        )
        longest = max(longest, row)
    return longest
