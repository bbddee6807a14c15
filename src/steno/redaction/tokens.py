"""Words, digit groups and signs of a sentence with their places."""

from __future__ import annotations

import bisect
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from steno.redaction.marks import (
    AT,
    DOT,
    FAR,
    IBAN,
    NUMBER,
    SECRET,
    SMALL,
    TELLING,
    TENS,
    UNIT,
)

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
_SEEING = NUMBER | TELLING
_AFTER_WORDS = frozenset(".,?!;:")
_LEAST_IBAN = 4
# An address all of which is found as a written one: its dots are never those of a spoken one.
_WRITTEN = re.compile(
    r"[^\W_][\w+-]{0,20}(?:\.[\w+-]{1,20}){0,1}@[^\W_][\w-]{0,62}(?:\.[\w-]{1,63}){0,8}"
)
_QUANTITY = re.compile(f"{_AMOUNT}|{_TIME}|{_DATE}")

PLAIN, NUMERIC, MIXED, SIGN, TAKEN = range(5)


_GAP = "…\0…"
"""Stands for the words left out: no word of any table, and nothing an address may hold."""

# How many blank-separated words around a mark the rules can see, at most. A number's topic is
# looked for ten tokens before it and six behind, the topic's own neighbours three before and
# two behind; between two numbers of a run stand up to ten fillers and signs.
_NUMBER_BEFORE, _NUMBER_BEHIND = 13, 12
_TOPIC_BEFORE, _TOPIC_BEHIND = 3, 2


class Token(msgspec.Struct, gc=False):
    """One token: characters ``start`` to ``end``, lower-case ``text``, its kind and marks.

    ``TAKEN`` marks what is certainly no part of a secret number (an amount of money, a date,
    a time) or belongs to a span found already.
    """

    start: int
    end: int
    text: str
    kind: int
    marks: int = 0


class Scan(NamedTuple):
    """The tokens of a text, those out of sight of all rules left out.

    Attributes:
        seen: The marks of all words, left out or not, without those of harmless numbers.
        numbers, telling: Indices of the tokens marked ``NUMBER`` and ``TELLING``.
        whole: Nothing has been left out, because an address or IBAN may reach far.
    """

    tokens: list[Token]
    seen: int
    numbers: list[int]
    telling: list[int]
    whole: bool


class Meanings(NamedTuple):
    """What the words of a language mean.

    Attributes:
        bits: The marks of every word that has any.
        inside: Words which may stand inside a number, so that it goes on behind them.
    """

    bits: dict[str, int]
    inside: frozenset[str]


_Piece = tuple[str, int, int]  # text, kind, marks


def normalise(text: str) -> str:
    """``text`` with single blanks, composed accents and without invisible characters."""
    if not text.isascii():
        text = _INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    elif text.isprintable() and "  " not in text and text[:1] != " " and text[-1:] != " ":
        return text  # most texts are as they should be; asking is cheaper than splitting
    return " ".join(text.split())


def scan(text: str, meanings: Meanings, *, whole: bool) -> Scan:
    """The tokens of normalised ``text``, amounts, times and dates marked as taken.

    Tokens cost more than everything else, so those too far from any number or topic to
    matter become one token (the *gap*) which stands for an unknown word.

    Args:
        meanings: What the words mean, from ``meanings``.
        whole: Leave nothing out. So it is anyway where an address or IBAN is spoken of.
    """
    lower = text.lower()
    if len(lower) != len(text):
        # A letter that grows in lower case would shift every place behind it.
        lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    chunks = lower.split(" ")
    bits_of = meanings.bits
    get = bits_of.get
    hits = [i for i, chunk in enumerate(chunks) if chunk in bits_of or not chunk.isalpha()]
    if "nummer" in lower:
        ends = [i for i, chunk in enumerate(chunks) if chunk[-6:] == "nummer"]
        hits = sorted({*hits, *ends})
    odd: dict[int, Sequence[_Piece]] = {}
    seen = 0
    marked: list[tuple[int, int]] = []
    for index in hits:
        chunk = chunks[index]
        bits = get(chunk)
        # The tables have words with hyphens and digits too ("cvv2"): these are odd all the same.
        if bits is None or not chunk.isalpha():
            odd[index] = pieces = _pieces(chunk, bits_of)
            bits = 0
            for piece in pieces:
                bits |= piece[2]
        if bits:
            seen |= bits
            if bits & _SEEING:
                marked.append((index, bits))
    whole = whole or bool(seen & FAR or (seen & AT and seen & DOT))
    if whole:
        stretches = [(0, len(chunks))]
    else:
        if seen & NUMBER and _is_harmless(chunks, marked, meanings):
            seen &= ~(NUMBER | SECRET)
        stretches = _stretches(marked, seen, len(chunks))
    found = Scan([], seen, [], [], whole)
    if stretches:
        _build(found, text, chunks, odd, stretches, bits_of)
    return found


def _is_harmless(chunks: list[str], marked: list[tuple[int, int]], meanings: Meanings) -> bool:
    """Whether each number is a word for one below a hundred which an ordinary word ends.

    So are most there are: a price, a count, an article. ``verdicts`` would let them stay in
    any context, so the words around need not be looked at.
    """
    taken = -1
    for at, (index, bits) in enumerate(marked):
        if not bits & NUMBER or index <= taken:
            continue
        if not bits & SMALL:
            return False
        taken = index
        if bits & TENS and at + 1 < len(marked):
            following, unit = marked[at + 1]
            if following == index + 1 and unit & UNIT and chunks[following].isalpha():
                taken = following
        if taken + 1 >= len(chunks) or not (chunks[index].isalpha() and chunks[taken].isalpha()):
            return False
        word = chunks[taken + 1].rstrip(".,?!;:")
        # A hyphen or a digit may make more of the number, a filler may go between its parts.
        if not word.isalpha() or word in meanings.inside or meanings.bits.get(word, 0) & NUMBER:
            return False
    return True


def _stretches(marked: list[tuple[int, int]], seen: int, count: int) -> list[tuple[int, int]]:
    """What the marks can see of ``count`` words, as indices from and to."""
    stretches: list[tuple[int, int]] = []
    first = stop = 0
    for index, bits in marked:
        if bits & seen & NUMBER:
            before, after = index - _NUMBER_BEFORE, index + _NUMBER_BEHIND
        elif bits & TELLING:
            before, after = index - _TOPIC_BEFORE, index + _TOPIC_BEHIND
        else:
            continue
        if before > stop:
            if stop:
                stretches.append((first, stop))
            first = before
        elif before < first:
            # A number sees farther back than the topic before it: their stretches are one.
            first = max(0, before)
            while stretches and stretches[-1][1] >= first:
                first = min(first, stretches.pop()[0])
        if after >= stop:
            stop = after + 1
    if stop:
        stretches.append((first, min(stop, count)))
    return stretches


def _build(
    found: Scan,
    text: str,
    chunks: list[str],
    odd: Mapping[int, Sequence[_Piece]],
    stretches: list[tuple[int, int]],
    bits_of: Mapping[str, int],
) -> None:
    """Add the tokens of the ``stretches`` (chunk indices from and to), gaps between them."""
    tokens, get = found.tokens, bits_of.get
    done = at = 0
    for first, stop in stretches:
        if first > done:
            size = len(" ".join(chunks[done:first]))
            tokens.append(Token(at, at + size, _GAP, PLAIN))
            at += size + 1
        for index in range(first, stop):
            if index not in odd:
                word = chunks[index]
                bits = get(word, 0)
                if bits & _SEEING:
                    _note(found, bits)
                end = at + len(word)
                tokens.append(Token(at, end, word, PLAIN, bits))
                at = end + 1
                continue
            for word, kind, bits in odd[index]:
                if bits & _SEEING:
                    _note(found, bits)
                end = at + len(word)
                tokens.append(Token(at, end, word, kind, bits))
                at = end
            at += 1
        done = stop
    if done < len(chunks):
        # Stands for the rest of the text: whatever was said before it does not end the text.
        tokens.append(Token(at, len(text), _GAP, PLAIN))
    if found.numbers:
        _take_quantities(text, tokens, found.numbers)


def _note(found: Scan, bits: int) -> None:
    """Remember where the next token stands, for what looks at numbers or topics only."""
    if bits & NUMBER:
        found.numbers.append(len(found.tokens))
    if bits & TELLING:
        found.telling.append(len(found.tokens))


def first_piece(text: str, meanings: Meanings) -> _Piece:
    """Text, kind and marks of the first token of normalised ``text``."""
    chunk = text.split(" ", 1)[0].lower()
    if not chunk:
        return "", SIGN, 0
    if chunk.isalpha():
        return chunk, PLAIN, _meaning(chunk, meanings.bits)
    return _pieces(chunk, meanings.bits)[0]


def _pieces(chunk: str, bits_of: Mapping[str, int]) -> Sequence[_Piece]:
    """The tokens of a word which has signs or digits in it, or ends in "nummer"."""
    if chunk.isalnum():
        if not chunk.isascii() or chunk[0].isdigit() or chunk[2:4].isdigit() or chunk.isalpha():
            return (_piece(chunk, bits_of),)
        return ((chunk, MIXED, bits_of.get(chunk, 0)),)  # "c7f12"
    head, sign = chunk[:-1], chunk[-1:]
    if sign in _AFTER_WORDS and head.isalpha():
        return (head, PLAIN, _meaning(head, bits_of)), (sign, SIGN, 0)
    pieces = [_piece(word, bits_of) for word in _TOKEN.findall(chunk)]
    if "." in chunk[1:-1] and not _WRITTEN.fullmatch(chunk):
        pieces[0] = (*pieces[0][:2], pieces[0][2] | DOT)
    return pieces


def _piece(word: str, bits_of: Mapping[str, int]) -> _Piece:
    if word.isdecimal():
        return word, NUMERIC, NUMBER | SECRET
    if not word[0].isalnum():
        return word, SIGN, 0
    if "’" in word:
        word = word.replace("’", "'")
    if word.isalpha() or not any(map(str.isdigit, word)):
        return word, PLAIN, _meaning(word, bits_of)
    bits = _meaning(word, bits_of)
    if word[0].isdigit():
        # The check digits of an IBAN, and what follows them in one piece, behind a country.
        bits |= NUMBER | SECRET
    elif word[2:4].isdigit() and word[:2].isalpha() and len(word) >= _LEAST_IBAN:
        bits |= IBAN | (SECRET if len(word) >= 2 * _LEAST_IBAN else 0)
    return word, MIXED, bits


def _meaning(word: str, bits_of: Mapping[str, int]) -> int:
    """The marks of a word; German makes a new one of any word and "nummer"."""
    return bits_of.get(word, 0) | (TELLING if word[-6:] == "nummer" else 0)


def _take_quantities(text: str, tokens: list[Token], numbers: list[int]) -> None:
    """Mark amounts, times and dates, tried where a number begins: a search costs far more."""
    for index in numbers:
        token = tokens[index]
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
