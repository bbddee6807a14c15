"""Tables of how numbers, e-mail addresses and their surroundings are said, by language."""

from __future__ import annotations

from functools import cache

from steno.redaction.spoken import english, french, german, spanish
from steno.redaction.spoken.lexicon import Form, Number, Table, Topic, merge

TABLES = {table.code: table for table in (english.TABLE, spanish.TABLE, french.TABLE, german.TABLE)}


@cache
def lexicon(language: str) -> Table:
    """The merged lexicon for a BCP-47 tag; an unknown language gets English first.

    Every lexicon knows the numbers of all languages, so no tag switches redaction off.
    """
    code = language.replace("_", "-").split("-", 1)[0].lower()
    if code not in TABLES:
        code = "en"
    return _merged(code)


UNTOLD = frozenset({"", "und"})
"""Tags of a source that does not tell the language."""


def guess(text: str) -> str:
    """The language whose everyday words ``text`` has the most of; English where it has none.

    Not an identification: it only chooses which table goes first where no tag says.
    """
    said = frozenset(text.lower().split())  # words with a full stop on them are no great loss
    counts = {code: len(said & table.stops) for code, table in TABLES.items()}
    return max(counts, key=counts.__getitem__)  # of equal ones the first: English


@cache
def _merged(code: str) -> Table:
    return merge(TABLES[code], [table for key, table in TABLES.items() if key != code])


__all__ = ["TABLES", "UNTOLD", "Form", "Number", "Table", "Topic", "guess", "lexicon"]
