"""Words as numbers, and where the words of one text stand in another."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

import numpy as np

_MASK: Final = "[]"
_WORD: Final = re.compile(
    r"\[[A-Z][A-Z0-9_]*\]"  # a mask
    r"|[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\u0e00-\u0e7f]"  # scripts without blanks
    r"|[^\W_]+(?:['\u2019][^\W_]+)*"
)
_MAX_PLACES: Final = 48
"""Places of one segment that are looked at."""
_MAX_TOKENS_TRIED: Final = 24
_MAX_SCANNED: Final = 512
"""Places of a segment's rarest word that are looked at: of more, nobody can say which it is."""
_MAX_OTHER: Final = 2

Words = list[int]


def words_of(text: str) -> list[str]:
    """Return the words of a text as they are compared: no case, no punctuation, masks alike."""
    found: list[str] = []
    for word in _WORD.findall(text):
        if word[0] == "[":
            if not found or found[-1] != _MASK:  # neighbours may have been masked as one
                found.append(_MASK)
        else:
            found.append(word.casefold().replace("'", "").replace("\u2019", ""))
    return found


def index(words: Words) -> dict[int, list[int]]:
    """Return where each word stands, rising."""
    found: dict[int, list[int]] = {}
    for position, word in enumerate(words):
        found.setdefault(word, []).append(position)
    return found


def exact(
    words: Words,
    inside: Words,
    index: dict[int, list[int]],
    low: int,
    high: int,
    *,
    most: int = _MAX_PLACES,
    near: int | None = None,
) -> list[int]:
    """Return where the very words stand between two positions, rising.

    Args:
        most: Find no more than that.
        near: Of too many, those nearest to it; without, too many are none.
    """
    rarest: tuple[int, int, int, list[int]] | None = None  # first, last, offset, places
    for offset, word in enumerate(words[:_MAX_TOKENS_TRIED]):
        places = index.get(word)
        if places is None:
            return []
        first = bisect_left(places, low + offset)
        last = bisect_right(places, high - len(words) + offset)
        if rarest is None or last - first < rarest[1] - rarest[0]:
            rarest = (first, last, offset, places)
        if last - first <= 1:
            break
    if rarest is None:
        return []
    first, last, offset, places = rarest
    if last - first > _MAX_SCANNED:
        if near is None:
            return []
        middle = bisect_left(places, near + offset, first, last)
        half = _MAX_SCANNED // 2
        first, last = max(first, middle - half), min(last, middle + half)
    size, found = len(words), list[int]()
    for at in range(first, last):
        start = places[at] - offset
        if inside[start : start + size] == words:
            found.append(start)
            if near is None and len(found) >= most:
                return found
    if len(found) > most and near is not None:
        found = sorted(sorted(found, key=lambda place: abs(place - near))[:most])
    return found


def rising(found: list[tuple[int, int]], words: Sequence[Words]) -> list[tuple[int, int]]:
    """Return those of (segment, place) that rise in both and explain the most words."""
    if not found:
        return []
    order = {place: rank for rank, place in enumerate(sorted(place for _, place in found))}
    best = Best(len(order))
    before: list[int] = []
    for number, (segment, place) in enumerate(found):
        worth, link = best.until(order[place])
        before.append(link)
        best.put(order[place] + 1, worth + len(words[segment]), number)
    link = best.until(len(order))[1]
    chosen: list[tuple[int, int]] = []
    while link >= 0:
        chosen.append(found[link])
        link = before[link]
    return chosen[::-1]


class Best:
    """The best chain that ends at or before a position: a Fenwick tree of maxima."""

    def __init__(self, size: int) -> None:
        self._size = size + 1
        self._worth = [0] * (size + 2)
        self._link = [-1] * (size + 2)

    def put(self, end: int, worth: int, link: int) -> None:
        """Add a chain that ends at a position."""
        at = end + 1
        while at <= self._size:
            if worth > self._worth[at]:
                self._worth[at], self._link[at] = worth, link
            at += at & -at

    def until(self, end: int) -> tuple[int, int]:
        """Return worth and last link of the best that ends there or before; -1 for none."""
        at, worth, link = end + 1, 0, -1
        while at:
            if self._worth[at] > worth:
                worth, link = self._worth[at], self._link[at]
            at -= at & -at
        return worth, link


def partners(left: Words, right: Words) -> list[int]:
    """Return for each word on the left its position on the right, or -1.

    The same words are worth four, two others in the same place one; nothing is lost by a word
    that has no partner. So a row of the table needs only the row above and a running maximum.
    """
    other = np.asarray(right, dtype=np.int64)
    table = np.zeros((len(left) + 1, len(right) + 1), dtype=np.int32)
    for row, word in enumerate(left):
        above = table[row]
        paired = above[:-1] + np.where(other == word, 4, 1)
        table[row + 1, 1:] = np.maximum.accumulate(np.maximum(above[1:], paired))
    partners = [-1] * len(left)
    row, column = len(left), len(right)
    while row and column:
        here = table[row, column]
        gain = 4 if left[row - 1] == right[column - 1] else 1
        if here == table[row - 1, column - 1] + gain:
            row, column = row - 1, column - 1
            partners[row] = column
        elif here == table[row - 1, column]:
            row -= 1
        else:
            column -= 1
    return partners


def longest_lost(same: Sequence[bool]) -> int:
    """Return how many words in a row were not heard as they are."""
    longest = run = 0
    for is_same in same:
        run = 0 if is_same else run + 1
        longest = max(longest, run)
    return longest


def in_place(same: Sequence[bool], partners: Sequence[int]) -> int:
    """Return how many words have another in their place: few in a row, or they were lost."""
    found = start = 0
    for at, is_same in enumerate([*same, True]):
        if is_same:
            if at - start <= _MAX_OTHER:
                found += sum(partner >= 0 for partner in partners[start:at])
            start = at + 1
    return found
