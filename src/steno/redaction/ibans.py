"""IBANs, written in one piece or in groups, or spelled ("D E eight nine …")."""

from __future__ import annotations

from steno.redaction import cardinals, checksums
from steno.redaction.entities import Entity, Span
from steno.redaction.spoken import Table
from steno.redaction.tokens import MIXED, NUMERIC, PLAIN, SIGN, TAKEN, Token

_SIGNS = frozenset("-.,–/")
_MIN_LENGTH, _MAX_LENGTH = 15, 34
_LEAST_EXPECTED = 8


def find(tokens: list[Token], table: Table, *, expected: bool) -> list[Span]:
    """IBANs by their check digits; with ``expected``, whatever begins like one too."""
    spans: list[Span] = []
    index = 0
    while index < len(tokens):
        first = index
        index += 1
        token = tokens[first]
        if token.kind == PLAIN:
            # "is 415 …": an ordinary word is a country only where an IBAN is spoken of.
            if len(token.text) > 2 or (token.text in table.stops and not expected):
                continue
        elif token.kind != MIXED:
            continue
        if not _may_begin(tokens, first, table):
            continue
        text, ends = _collect(tokens, first, table)
        last = _iban_end(text, ends)
        if (
            last < 0
            and expected
            and len(text) >= _LEAST_EXPECTED
            and text[:2].isalpha()
            and token.text not in table.stops  # "the IBAN is …": not Iceland
        ):
            last = ends[-1]
        if last >= 0:
            spans.append(Span(tokens[first].start, tokens[last].end, Entity.IBAN))
            index = last + 1
    return spans


def _iban_end(text: str, ends: list[int]) -> int:
    """Index of the token in which an IBAN at the start of ``text`` ends, else -1."""
    length = checksums.IBAN_LENGTHS.get(text[:2], 0)
    if not length or len(text) < length or not checksums.is_iban(text[:length]):
        return -1
    # It must end with a token: a longer string of another kind only begins like an IBAN.
    if len(text) > length and ends[length - 1] == ends[length]:
        return -1
    return ends[length - 1]


def _may_begin(tokens: list[Token], index: int, table: Table) -> bool:
    token = tokens[index]
    if token.kind == MIXED:
        return len(token.text) >= 4 and token.text[:2].isalpha() and token.text[2:4].isdigit()
    if token.kind != PLAIN or not token.text.isascii():
        return False
    country = token.text
    following = index + 1
    if len(country) == 1 and following < len(tokens) and len(tokens[following].text) == 1:
        country += tokens[following].text
        following += 1
    if country.upper() not in checksums.IBAN_LENGTHS or following >= len(tokens):
        return False
    while following < len(tokens) and (
        tokens[following].text in table.fillers or tokens[following].text in _SIGNS
    ):
        following += 1
    return following < len(tokens) and (
        tokens[following].kind in (NUMERIC, MIXED)
        or tokens[following].text in table.numbers
        or tokens[following].text in table.multipliers
    )


def _collect(tokens: list[Token], first: int, table: Table) -> tuple[str, list[int]]:
    """Letters and digits from ``first`` on, and for each the token it comes from."""
    text: list[str] = []
    ends: list[int] = []
    index = first
    while index < len(tokens) and len(text) <= _MAX_LENGTH:
        token = tokens[index]
        last = index
        piece = ""
        if token.kind == TAKEN:
            break
        if token.kind == SIGN:
            if token.text not in _SIGNS:
                break
        elif token.kind in (NUMERIC, MIXED):
            piece = token.text
        elif token.text in table.multipliers and index + 1 < len(tokens):
            reading = cardinals.read(tokens, index + 1, table)
            if reading is None and tokens[index + 1].kind != NUMERIC:
                break
            last = index + 1
            once = tokens[last].text if reading is None else str(reading.value)
            piece = once * table.multipliers[token.text]
        elif len(token.text) == 1 and token.text not in table.numbers:
            piece = token.text
        elif (reading := cardinals.read(tokens, index, table)) is not None:
            last, piece = reading.last, str(reading.value)
        elif token.text in table.fillers:
            pass
        elif len(text) < 2 or _letters(token):
            piece = token.text
        else:
            break
        if not piece.isascii():
            break
        text.extend(piece.upper())
        ends.extend([last] * len(piece))
        index = last + 1
    return "".join(text), ends


def _letters(token: Token) -> bool:
    """A group of letters of a bank's code ("NWBK"), written as it is in capitals or not."""
    return len(token.text) == 4 and token.text.isascii()
