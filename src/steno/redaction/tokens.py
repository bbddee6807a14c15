"""Words, digit groups and signs of a sentence with their places."""

from __future__ import annotations

import bisect
import re
import unicodedata

import msgspec

# A word keeps its apostrophe part ("o'clock", "it's") and "e-mail" its hyphen; letters and
# digits glued together ("c7f12", "5th") are one token, which is no number.
_TOKEN = re.compile(r"e-mails?\b|[^\W_]+(?:['’][^\W\d_]+)*|[^\w\s]|_")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
_AMOUNT = (
    r"[$€£¥]\s?\d+(?:[.,]\d+)*(?:[ ]?(?:k|m|bn)\b)?"
    r"|(?<![\d.,])\d+(?:[.,]\d+)*\s?[€$£¥%‰°]"
)
_TIME = r"(?<![\d:])\d{1,2}:\d{2}(?::\d{2})?(?![\d:])"
_DATE = (
    r"(?<![\d./-])(?:(?:19|20)\d\d([-/.])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])"
    r"|(?:0?[1-9]|[12]\d|3[01])([-/.])(?:0?[1-9]|[12]\d|3[01])\2(?:(?:19|20)\d\d|\d\d))"
    r"(?![-/.]?\d)"
)
_CURRENCIES = "$€£¥"
_QUANTITY = re.compile(f"{_AMOUNT}|{_TIME}|{_DATE}")

PLAIN, NUMERIC, MIXED, SIGN, TAKEN = range(5)


class Token(msgspec.Struct, gc=False):
    """One token: characters ``start`` to ``end``, lower-case ``text``, and its kind.

    ``TAKEN`` marks what is certainly no part of a secret number (an amount of money, a date,
    a time) or belongs to a span found already.
    """

    start: int
    end: int
    text: str
    kind: int


def normalise(text: str) -> str:
    """``text`` with single blanks, composed accents and without invisible characters."""
    if not text.isascii():
        text = _INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    return " ".join(text.split())


def tokenise(text: str) -> list[Token]:
    """The tokens of normalised ``text``, amounts, times and dates marked as taken."""
    lower = text.lower()
    if len(lower) != len(text):
        # A letter that grows in lower case would shift every place behind it.
        lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    tokens: list[Token] = []
    numeric = False
    for match in _TOKEN.finditer(lower):
        word = match.group()
        if word.isalpha():
            kind = PLAIN
        elif word.isdecimal():
            kind = NUMERIC
            numeric = True
        elif word[0].isalnum():
            kind = MIXED if any(c.isdigit() for c in word) else PLAIN
            word = word.replace("’", "'")
        else:
            kind = SIGN
        start, end = match.span()
        tokens.append(Token(start, end, word, kind))
    if numeric:
        _take_quantities(text, tokens)
    return tokens


def _take_quantities(text: str, tokens: list[Token]) -> None:
    """Mark amounts, times and dates, tried where a number begins: a search costs far more."""
    for token in tokens:
        if token.kind != NUMERIC:
            continue
        at = token.start
        if at and text[at - 1] in _CURRENCIES:
            at -= 1
        elif at > 1 and text[at - 1] == " " and text[at - 2] in _CURRENCIES:
            at -= 2
        match = _QUANTITY.match(text, at)
        if match is not None:
            take(tokens, match.start(), match.end())


def take(tokens: list[Token], start: int, end: int) -> None:
    """Mark the tokens between two characters as taken."""
    index = bisect.bisect_right(tokens, start, key=_token_end)
    while index < len(tokens) and tokens[index].start < end:
        tokens[index].kind = TAKEN
        index += 1


def _token_end(token: Token) -> int:
    return token.end
