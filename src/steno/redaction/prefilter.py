"""The cheap first look: whether a sentence can hold anything at all.

One google-re2 pattern per language, applied to bytes: about a microsecond a sentence, in
linear time, where everything behind it costs fifty. It must never miss: whatever
``analysis`` could find needs one of the words or signs asked for here.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import re2  # type: ignore[import-untyped]  # the package has no stubs

from steno.redaction.spoken import TABLES, Form, lexicon

_DIGITS = r"\b\d|[０-９٠-٩۰-۹०-९]"
_ADDRESS = r"[@＠]|\bat\s+[\w-]+\s?\.\s?\w"
_IBAN = r"\b[a-z]{2}\d{2}[a-z0-9]{4}"


# Parts of number words said as one, found anywhere: listing all of them would be thousands.
_COMPOUNDS = ("hundert", "zig", "ßig", "ssig", "veinti", "cientos", "cientas", "quinient")
_SPOKEN_AT = frozenset(
    (
        *("dot", "arroba", "arobase", "arobas", "arrobase", "klammeraffe", "ät", "underscore"),
        *("gmail", "googlemail", "hotmail", "gmx", "aol", "icloud", "protonmail"),
    )
)


@cache
def secrets(code: str) -> re2._Regexp:
    """What can itself be (part of) a secret in the lexicon ``code``."""
    return _compile(_simple(code) | _SPOKEN_AT | TABLES[code].dots, _COMPOUNDS)


def secret_words(code: str) -> frozenset[str]:
    """The words ``secrets`` finds, each by itself."""
    compound = {word for word in lexicon(code).numbers if any(part in word for part in _COMPOUNDS)}
    return _simple(code) | _SPOKEN_AT | TABLES[code].dots | compound


@cache
def _simple(code: str) -> frozenset[str]:
    return frozenset(
        word
        for word, number in lexicon(code).numbers.items()
        if number.form < Form.WHOLE and word not in _passing(code)
    )


@cache
def notable(code: str) -> re2._Regexp:
    """``secrets``, and the words which say what a number in the next sentence would be."""
    table = lexicon(code)
    words = set(table.topics) | table.number_words
    words -= {word for word in words if len(word) < 3}
    return _compile(words, (), secrets(code).pattern)


def _passing(code: str) -> frozenset[str]:
    """Number words too frequent to look at: articles. Two of them make no secret."""
    articles = {"un", "una", "une", "ein", "eine", "o", "on"}
    return frozenset(articles | (set() if code == "en" else {"one", "oh"}))


def _compile(words: Iterable[str], anywhere: Iterable[str], more: str = "") -> re2._Regexp:
    # RE2's \b knows ASCII letters only, so words with others at an edge stand without it.
    alternatives = [
        (r"\b" if word[0].isascii() else "")
        + re2.escape(word)
        + (r"\b" if word[-1].isascii() else "")
        for word in sorted(words)
    ]
    alternatives += [re2.escape(part) for part in anywhere]
    pattern = more or f"(?i:{_DIGITS}|{_ADDRESS}|{_IBAN})"
    options = re2.Options()
    options.max_mem = 64 << 20
    options.never_capture = True
    return re2.compile(f"{pattern}|(?i:{'|'.join(alternatives)})", options)
