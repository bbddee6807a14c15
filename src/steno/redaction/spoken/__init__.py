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


@cache
def _merged(code: str) -> Table:
    return merge(TABLES[code], [table for key, table in TABLES.items() if key != code])


__all__ = ["TABLES", "Form", "Number", "Table", "Topic", "lexicon"]
