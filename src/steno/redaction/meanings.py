"""The marks of every word of a language."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from steno.redaction import addresses, checksums, marks, prefilter
from steno.redaction.spoken import Form, Topic, lexicon
from steno.redaction.tokens import Meanings

_COUNTRY_LETTERS = frozenset(code[0] for code in checksums.IBAN_LENGTHS)


@cache
def meanings(code: str) -> Meanings:
    """The meanings of the words in the lexicon ``code``. Not to be changed."""
    table = lexicon(code)
    found: dict[str, int] = {}

    def mark(words: Iterable[str], bits: int) -> None:
        for word in words:
            found[word] = found.get(word, 0) | bits

    mark([*table.numbers, *table.multipliers], marks.NUMBER)
    mark(table.telling, marks.TELLING)
    mark(prefilter.secret_words(code), marks.SECRET)
    mark(table.ending, marks.ENDING)
    mark(table.number_words, marks.NAMES)
    mark([word for word in _countries() if word not in table.stops], marks.COUNTRY)
    mark(table.dots | addresses.PROVIDERS, marks.DOT)
    mark(table.email_words, marks.EMAIL)
    mark((table.at_signs - {"at", "@", "＠"}) | addresses.ADDRESS_WORDS, marks.ADDRESS)
    mark(["at"], marks.AT)
    mark([word for word, topic in table.topics.items() if topic == Topic.IBAN], marks.IBAN)
    for word, number in table.numbers.items():
        if number.form <= Form.WHOLE:
            mark([word], marks.SMALL)
        if number.form == Form.UNIT and number.value:
            mark([word], marks.UNIT)
        elif number.form == Form.TENS and code != "de":  # German says the unit first
            mark([word], marks.TENS)
    return Meanings(found, table.fillers | table.joins | table.soft)


def _countries() -> list[str]:
    """Country codes, and single letters which may be the first of a spelled one."""
    return [word.lower() for word in (*checksums.IBAN_LENGTHS, *_COUNTRY_LETTERS)]
