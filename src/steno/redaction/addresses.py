"""E-mail addresses, written ("anna@example.com") and said ("anna at example dot com").

A spoken address is found from its "at": forwards over the domain up to the last label, then
backwards over the local part as far as joining words ("dot", "underscore"), spelled letters
and numbers reach.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from steno.redaction.entities import Entity, Span
from steno.redaction.spoken import Table
from steno.redaction.tokens import MIXED, NUMERIC, PLAIN, SIGN, TAKEN, Token

_HOST = re.compile(r"\s?[^\W_][\w-]{0,62}(?:\.[\w-]{1,63}){0,8}")
_LOCAL_SIGNS = frozenset("_.+%'’!#$&*/=?^`{|}~-")
_MAX_WRITTEN_LOCAL = 64
_AT_SIGNS = ("@", "＠")
_JOIN_SIGNS = frozenset("._-+")
_SKIPPED = frozenset(".,…;-\"'")
_MAX_LOCAL = 24
_MAX_DOMAIN = 16
_SPELLED_ROW = 3
_MAX_LOOSE = 2
"""Words of a local part beyond the first that no "dot" or underscore joins ("john smith")."""

# Last labels heard often; any short label is accepted when the rest leaves no doubt.
_LAST_LABELS = frozenset(
    [
        "com",
        "org",
        "net",
        "edu",
        "gov",
        "de",
        "fr",
        "es",
        "uk",
        "us",
        "co",
        "io",
        "info",
        "biz",
        "mx",
        "ar",
        "cl",
        "pe",
        "at",
        "ch",
        "be",
        "eu",
        "it",
        "nl",
        "ca",
        "au",
        "me",
        "email",
        "online",
        "app",
        "dev",
        "cloud",
        "tech",
        "store",
        "shop",
        "example",
        "test",
        "invalid",
        "gmbh",
        "berlin",
        "paris",
        "cat",
        "pt",
        "br",
        "pl",
        "se",
        "no",
        "dk",
        "fi",
        "ie",
        "in",
        "jp",
        "local",
        "website",
        "site",
        "xyz",
    ]
)


_PAGES = _LAST_LABELS | {"www", "http", "https", "slash"}
PROVIDERS = frozenset(("gmail", "googlemail", "hotmail", "gmx", "aol", "icloud", "protonmail"))
"""Hosts whose last label everybody leaves out."""

ADDRESS_WORDS = frozenset(
    (
        *("dot", "underscore", "arroba", "guion", "guión", "arobase", "tiret"),
        *("klammeraffe", "unterstrich", "bindestrich"),
    )
)
"""Words which suggest an address wherever they are said."""


class Beginning(NamedTuple):
    """An address which may go on behind the end of the text, from character ``start``.

    ``sure`` says it looks like a local part by itself (joined, spelled, or with its "at").
    """

    start: int
    sure: bool


def find_written(text: str) -> list[Span]:
    """Addresses with an "@" and a host, a blank beside the "@" allowed."""
    spans = []
    plain = text.replace("＠", "@")
    at = -1
    while (at := plain.find("@", at + 1)) >= 0:
        host = _HOST.match(text, at + 1)
        stop = at - 1 if at and text[at - 1] == " " else at
        start = stop
        while start and stop - start < _MAX_WRITTEN_LOCAL and _is_local(text[start - 1]):
            start -= 1
        # A trailing sign of the sentence before is no part of the address.
        while start < stop and text[start] in ".!?'’/*&=~-":
            start += 1
        if host is None or start == stop:
            continue
        end = host.end()
        while text[end - 1] in ".-":
            end -= 1
        spans.append(Span(start, end, Entity.EMAIL))
    return spans


def _is_local(character: str) -> bool:
    return character.isalnum() or character in _LOCAL_SIGNS


def find_spoken(tokens: list[Token], table: Table, *, expected: bool) -> list[Span]:
    """Addresses with the "at" or a "dot" said.

    Args:
        expected: The sentence or the one before speaks of an e-mail address.
    """
    spans: list[Span] = []
    for index, token in enumerate(tokens):
        if token.kind == TAKEN or not _is_at(token, table):
            continue
        sure = expected or token.text != "at"  # "arroba" and "@" mean nothing else
        bracketed = _around(tokens, index) == "()"
        last = _domain(tokens, index + 1 + bracketed, table, sure=sure)
        if last < 0:
            continue
        first = _local(tokens, index - 1 - bracketed, table, expected=sure)
        if first < 0:
            if not sure:
                continue  # "look at amazon dot com": a place, nobody's address
            first = index
        spans.append(Span(tokens[first].start, tokens[last].end, Entity.EMAIL))
    return spans


def beginning(
    tokens: list[Token], table: Table, *, expected: bool, announced: bool
) -> Beginning | None:
    """The address that breaks off at the end of the tokens, if there is one.

    Args:
        expected: Something in the text suggests an address.
        announced: The text, or the one before, speaks of an e-mail address.
    """
    last = len(tokens) - 1
    while last >= 0 and tokens[last].kind == SIGN and tokens[last].text in _SKIPPED:
        last -= 1
    if last < 0 or tokens[last].kind == TAKEN:
        return None
    for index in range(last, max(-1, last - 8), -1):
        token = tokens[index]
        if token.kind == TAKEN:
            break
        if not _is_at(token, table) or not (token.text != "at" or expected):
            continue
        if _domain(tokens, index + 1, table, sure=True) >= 0:
            return None  # whole, and judged already
        first = _local(tokens, index - 1, table, expected=True)
        if index < last and token.text == "at" and _is_stop(tokens, index + 1, table):
            return None
        if first < 0 and token.text == "at" and not announced:
            return None  # "look at …": a place
        return Beginning(tokens[first if first >= 0 else index].start, sure=True)
    if not expected:
        return None
    if _is_dot(tokens, last, table) or tokens[last].text in table.joiners:
        last -= 1
    first = _local(tokens, last, table, expected=True)
    if first < 0:
        return None
    if not announced and not _is_name(tokens, first, table):
        return None
    joined = any(
        _is_dot(tokens, i, table)
        or tokens[i].text in table.joiners
        or tokens[i].kind in (NUMERIC, MIXED)
        for i in range(first, len(tokens))
    )
    letters = sum(1 for i in range(first, last + 1) if len(tokens[i].text) == 1)
    return Beginning(tokens[first].start, sure=joined or letters >= 3)


def _is_name(tokens: list[Token], first: int, table: Table) -> bool:
    """Whether joined words can be a local part: no web page, no version."""
    said = [token.text for token in tokens[first:] if token.kind == PLAIN]
    if not _PAGES.isdisjoint(said):
        return False
    return any(
        len(word) > 1
        and word not in table.numbers
        and word not in table.dots
        and word not in table.joiners
        and word not in table.fillers
        for word in said
    )


def _is_at(token: Token, table: Table) -> bool:
    return token.text in _AT_SIGNS or (token.kind == PLAIN and token.text in table.at)


def _is_dot(tokens: list[Token], index: int, table: Table) -> bool:
    """A "dot" said, or a full stop with no blank around it."""
    token = tokens[index]
    if token.kind == PLAIN:
        return token.text in table.dots
    return (
        token.text == "."
        and 0 < index < len(tokens) - 1
        and tokens[index - 1].end == token.start
        and tokens[index + 1].start == token.end
    )


def _domain(tokens: list[Token], index: int, table: Table, *, sure: bool) -> int:
    """Index of the domain's last token, -1 when no domain stands at ``index``."""
    last = -1
    dots = pieces = loose = 0
    position = index
    end = min(len(tokens), index + _MAX_DOMAIN)
    glued = False
    while position < end:
        token = tokens[position]
        if token.kind == TAKEN:
            break
        if _is_dot(tokens, position, table):
            if not pieces:
                if position > index:
                    break
            else:
                dots, pieces, glued = dots + 1, 0, True
                loose = 0
        elif token.kind == SIGN:
            if token.text in "()" and any(
                _is_dot(tokens, near, table)
                for near in (position - 1, position + 1)
                if near < len(tokens)
            ):
                pass  # "gmail (dot) com"
            elif token.text == "-" or (token.text in _SKIPPED and not pieces):
                glued = glued or token.text == "-"
            elif token.text not in (",", ".") or dots:
                break
        elif token.text in table.joiners and pieces:
            glued = True
        elif pieces and not glued and len(token.text) > 1:
            if dots or loose >= _MAX_LOOSE or token.text in table.stops:
                break
            loose, pieces = loose + 1, pieces + 1
        elif not dots and not pieces and _is_stop(tokens, position, table):
            break  # "at the office.com"
        else:
            known = not dots or _last_label(token, sure=sure or dots > 1)
            if not known and not _dot_follows(tokens, position, table):
                break
            pieces, glued = pieces + 1, False
            if dots or token.text in PROVIDERS:
                last = position
        position += 1
    return last


def _around(tokens: list[Token], index: int) -> str:
    """The signs directly before and after a token."""
    if not 0 < index < len(tokens) - 1:
        return ""
    return tokens[index - 1].text + tokens[index + 1].text


def _dot_follows(tokens: list[Token], position: int, table: Table) -> bool:
    return position + 1 < len(tokens) and _is_dot(tokens, position + 1, table)


def _is_stop(tokens: list[Token], position: int, table: Table) -> bool:
    """Whether an ordinary word stands where a domain would begin."""
    word = tokens[position].text
    return len(word) > 1 and word in table.stops and not _dot_follows(tokens, position, table)


def _last_label(token: Token, *, sure: bool) -> bool:
    return token.text in _LAST_LABELS or (
        sure and token.kind == PLAIN and 1 <= len(token.text) <= 6
    )


def _local(tokens: list[Token], index: int, table: Table, *, expected: bool) -> int:
    """Index of the local part's first token, -1 when none ends at ``index``."""
    first = -1
    loose = letters = 0
    joined = True
    position = index
    while position >= 0 and index - position < _MAX_LOCAL:
        token = tokens[position]
        word = token.text
        if token.kind == TAKEN:
            break
        if token.kind == SIGN:
            if word in _JOIN_SIGNS and _tight(tokens, position):
                joined = True
            elif not (word in _SKIPPED or word == "_"):
                break
        elif word in table.dots or word in table.joiners:
            joined = True
        elif word in table.fillers and word not in table.joiners and len(word) > 1:
            if first < 0:
                joined = True
        elif (
            _spelled(token, table)
            or _letter_in_row(tokens, position)
            or _ends_number(tokens, position, table)
            or (first < 0 and _ends_name(tokens, position, table, expected=expected))
        ):
            first, joined = position, joined and first < 0
            letters += len(word) == 1 and token.kind == PLAIN
        elif joined and (first >= 0 or word not in table.stops):
            first, joined = position, False
        elif word in table.stops or loose >= _MAX_LOOSE:
            break
        elif first >= 0 and not joined:
            if letters >= _SPELLED_ROW:
                break  # a spelled name is whole; the word before it is none of it
            if not expected and not _spelled(tokens[first], table):
                break
            first, loose = position, loose + 1
        else:
            break
        position -= 1
    return first


def _spelled(token: Token, table: Table) -> bool:
    """A letter or a number, which people string together without "dot"."""
    return (
        token.kind == NUMERIC
        or (len(token.text) == 1 and token.kind == PLAIN and token.text not in ("a", "y", "à", "o"))
        or (token.text in table.numbers and token.text not in table.weak)
        or token.text in table.multipliers
    )


def _letter_in_row(tokens: list[Token], position: int) -> bool:
    """Whether a letter that is a word too ("a", "y") is one of several letters in a row."""
    if len(tokens[position].text) != 1 or tokens[position].kind != PLAIN:
        return False
    if tokens[position].text == "à":
        return False  # nobody spells with the accent
    return any(
        0 <= near < len(tokens) and len(tokens[near].text) == 1 and tokens[near].kind == PLAIN
        for near in (position - 1, position + 1)
    )


def _ends_number(tokens: list[Token], position: int, table: Table) -> bool:
    """Whether a weak or joining word goes on a number ("fifty one", "cinquante et un")."""
    word = tokens[position].text
    if position == 0 or not (word in table.weak or word in table.joins):
        return False
    before = tokens[position - 1].text
    return before in table.numbers or before in table.joins


def _ends_name(tokens: list[Token], position: int, table: Table, *, expected: bool) -> bool:
    """Whether a weak word right before the "at" is a name's number ("dot emil one at")."""
    if tokens[position].text not in table.weak or not 0 < position < len(tokens) - 1:
        return False
    if not _is_at(tokens[position + 1], table):
        return False
    before = tokens[position - 1]
    if before.kind != PLAIN or before.text in table.stops:
        return False
    return expected or (position > 1 and _is_dot(tokens, position - 2, table))


def _tight(tokens: list[Token], position: int) -> bool:
    token = tokens[position]
    return (
        0 < position < len(tokens) - 1
        and tokens[position - 1].end == token.start
        and tokens[position + 1].start == token.end
    )
