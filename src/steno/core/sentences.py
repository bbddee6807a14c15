"""Cutting text into sentences, in any of the languages the splitter knows.

The splitting itself is sentencex's (abbreviations, decimals and e-mail addresses do not
split); what is ours is the question it does not answer: whether a text that ends in a full
stop has ended a sentence, while more of it may still come.
"""

from __future__ import annotations

import re

import sentencex  # type: ignore[import-untyped]  # it ships no types

_TERMINATORS = ".?!…。？！"
_TERMINATOR = re.compile(f"[{_TERMINATORS}]")
_CLOSERS = "\"')]»”’"
# Followed by a capitalised word an abbreviation stays whole, the end of a sentence splits.
_PROBE = " Xx"


def primary_language(tag: str) -> str:
    """Return the primary subtag of a BCP-47 tag in lower case (``en-US`` → ``en``)."""
    return tag.partition("-")[0].lower() or "en"


def may_end(text: str) -> bool:
    """Tell cheaply whether a text could hold the end of a sentence at all."""
    return _TERMINATOR.search(text) is not None


def split(text: str, language: str) -> list[str]:
    """Cut a text into sentences; joined again, the pieces are the text.

    Args:
        text: Any text; white space stays with the sentence before it.
        language: BCP-47 tag; an unknown language is split by general rules.
    """
    mark = _TERMINATOR.search(text)
    if mark is None or mark.end() == len(text):
        return [text] if text else []
    pieces: list[str] = sentencex.segment(primary_language(language), text)
    if len(pieces) > 1 and sum(map(len, pieces)) != len(text):
        return [text]  # the splitter normalised something: keep the words over the cut
    return pieces


def is_complete(sentence: str, language: str) -> bool:
    """Tell whether the text ends where a sentence ends, and not in an abbreviation.

    A digit before the full stop is no end: "3." may become "3.50".
    """
    core = sentence.rstrip().rstrip(_CLOSERS)
    if not core or core[-1] not in _TERMINATORS:
        return False
    if core[-1] != ".":
        return True
    if len(core) > 1 and core[-2].isdigit():
        return False
    return len(sentencex.segment(primary_language(language), core + _PROBE)) > len(
        sentencex.segment(primary_language(language), core)
    )
