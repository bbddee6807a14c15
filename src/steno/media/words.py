"""Times for the words of a redacted sentence, from the recogniser's word times.

Redaction works on text, and a mask may stand for one word or for ten. What was masked must not
come out again, so the text of every token is taken from the redacted sentence and never from
the recogniser's words: those only lend their times. A mask gets the span of the words it hides.

The words of a sentence are looked for as the runs between its masks, in order. Where they were
written otherwise (``10`` for ``ten``), the longest common parts are taken; where little is in
common, the sentence is spread evenly over its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Final

import msgspec

from steno.core.transcript import RedactedText
from steno.ports.speech import SpeechWord
from steno.redaction.masking import MASKED

MAX_COMPARED: Final = 400
"""Words of an utterance that are compared part by part; the work grows with their square."""

LEAST_MATCHED: Final = 0.5
"""With a smaller share of its words found, a sentence's times would be guesses: it is spread."""


class Token(msgspec.Struct, frozen=True, gc=False):
    """A word or a mask of a redacted sentence, on the lane's stream clock."""

    text: str
    start_samples: int
    end_samples: int
    confidence: float


class Aligned(msgspec.Struct, frozen=True, gc=False):
    """The tokens, and the index of the first word that a next sentence may begin with."""

    tokens: tuple[Token, ...]
    next_word: int


Place = tuple[int, int]
"""First and one past the last of the words a token stands for; equal: not found."""


def align(
    text: RedactedText,
    words: Sequence[SpeechWord],
    *,
    start_samples: int,
    end_samples: int,
    confidence: float = 1.0,
    from_word: int = 0,
    apart_samples: int = 1,
) -> Aligned:
    """Give each word and mask of a redacted sentence a time.

    Args:
        text: Split at white space; what holds a mask is one token.
        words: Of the utterance the sentence is from, or of a part of it; may be empty.
        start_samples, end_samples: Bounds of that utterance or sentence. No token lies outside,
            unless there is no room for so many tokens ``apart_samples`` from each other.
        confidence: Of tokens that no word was found for.
        from_word: ``next_word`` of the sentence before it in the same utterance.
        apart_samples: Least distance between two starts; a millisecond's worth where they
            are written in milliseconds.

    Returns:
        Tokens whose texts are exactly those of ``text``, starts ascending and distinct.
    """
    texts = text.split()
    if not texts:
        return Aligned((), from_word)
    places, next_word = _places(texts, words, from_word)
    last = max(end_samples, start_samples + len(texts) * apart_samples)
    spans = _spans(texts, places, words, start_samples, last)
    starts = _distinct([start for start, _ in spans], start_samples, last, apart_samples)
    tokens = []
    for i, each in enumerate(texts):
        latest = starts[i + 1] if i + 1 < len(texts) else last
        end = min(max(spans[i][1], starts[i] + apart_samples), latest)
        tokens.append(Token(each, starts[i], end, _confidence(places[i], words, confidence)))
    return Aligned(tuple(tokens), next_word)


def _confidence(place: Place, words: Sequence[SpeechWord], default: float) -> float:
    first, after = place
    if first == after:
        return default
    return sum(word.confidence for word in words[first:after]) / (after - first)


# --- which words a token stands for -----------------------------------------------------------


def _key(text: str) -> str:
    """Return the letters and digits of a word, without regard to case."""
    folded = text.casefold()
    return folded if folded.isalnum() else "".join(c for c in folded if c.isalnum())


def _places(
    texts: Sequence[str], words: Sequence[SpeechWord], from_word: int
) -> tuple[list[Place], int]:
    """Return the words of each token, and the first that is not used up."""
    nowhere = [(0, 0)] * len(texts)
    if not words:
        return nowhere, 0
    keys = ["" if MASKED.search(each) else _key(each) for each in texts]
    heard = [_key(word.text) for word in words]
    for begin in dict.fromkeys((min(from_word, len(words)), 0)):
        places = _by_runs(keys, texts, heard, begin)
        if places is not None:
            return places, _next_word(places, keys, texts)
    if len(words) <= MAX_COMPARED:
        places = _by_common_parts(keys, heard)
        found = sum(first < after for first, after in places)
        if found and found >= LEAST_MATCHED * sum(map(bool, keys)):
            _fill_masks(places, texts, len(heard), 0)
            return places, _next_word(places, keys, texts)
    return nowhere, from_word


def _next_word(places: Sequence[Place], keys: Sequence[str], texts: Sequence[str]) -> int:
    first, after = places[-1]
    # How far a mask at the end reaches cannot be told from the words behind it: a next
    # sentence is looked for right after its first word.
    if first < after and not keys[-1] and MASKED.search(texts[-1]):
        return first + 1
    return max(end for _, end in places)


def _by_runs(
    keys: Sequence[str], texts: Sequence[str], heard: Sequence[str], begin: int
) -> list[Place] | None:
    """Find the runs of words between masks, one after the other, each in one piece."""
    places: list[Place] = [(0, 0)] * len(keys)
    at = begin
    i = 0
    any_found = False
    while i < len(keys):
        masked = False
        while i < len(keys) and not keys[i]:
            masked = masked or bool(MASKED.search(texts[i]))
            i += 1
        run_end = i
        while run_end < len(keys) and keys[run_end]:
            run_end += 1
        if i == run_end:
            break
        run = list(keys[i:run_end])
        found = _find(run, heard, at + masked)
        if found < 0:
            return None
        for k in range(i, run_end):
            places[k] = (found + k - i, found + k - i + 1)
        at = found + len(run)
        i = run_end
        any_found = True
    if not any_found and begin >= len(heard):
        return None
    _fill_masks(places, texts, len(heard), begin)
    return places


def _find(run: Sequence[str], heard: Sequence[str], begin: int) -> int:
    """Return where the run begins in what was heard, -1 if nowhere."""
    first, n = run[0], len(run)
    for at in range(begin, len(heard) - n + 1):
        if heard[at] == first and heard[at : at + n] == run:
            return at
    return -1


def _by_common_parts(keys: Sequence[str], heard: Sequence[str]) -> list[Place]:
    places: list[Place] = [(0, 0)] * len(keys)
    # A mask equals nothing that was heard: words without letters are taken out of the way.
    unheard = [key or "\0" for key in keys]
    for block in SequenceMatcher(None, unheard, heard, autojunk=False).get_matching_blocks():
        for k in range(block.size):
            places[block.a + k] = (block.b + k, block.b + k + 1)
    return places


def _fill_masks(places: list[Place], texts: Sequence[str], count: int, begin: int) -> None:
    """Give each lone mask the words between its neighbours."""
    for i, text in enumerate(texts):
        if places[i][0] < places[i][1] or not MASKED.search(text):
            continue
        # Only when no other token has to share the words.
        if i and places[i - 1][0] == places[i - 1][1]:
            continue
        if i + 1 < len(texts) and places[i + 1][0] == places[i + 1][1]:
            continue
        first = places[i - 1][1] if i else begin
        after = places[i + 1][0] if i + 1 < len(texts) else count
        if first < after:
            places[i] = (first, after)


# --- times -------------------------------------------------------------------------------------


def _spans(
    texts: Sequence[str],
    places: Sequence[Place],
    words: Sequence[SpeechWord],
    first: int,
    last: int,
) -> list[tuple[int, int]]:
    """Return start and end of each token; those without words share the time between."""
    spans: list[tuple[int, int]] = []
    i = 0
    while i < len(texts):
        begin, after = places[i]
        if begin < after:
            spans.append((words[begin].start_samples, words[after - 1].end_samples))
            i += 1
            continue
        group_end = i
        while group_end < len(texts) and places[group_end][0] == places[group_end][1]:
            group_end += 1
        start = spans[-1][1] if spans else first
        end = words[places[group_end][0]].start_samples if group_end < len(texts) else last
        spans.extend(_spread(texts[i:group_end], start, max(start, end)))
        i = group_end
    return spans


def _spread(texts: Sequence[str], start: int, end: int) -> list[tuple[int, int]]:
    """Share a stretch of time out by the number of characters."""
    total = sum(map(len, texts))
    spans: list[tuple[int, int]] = []
    before = 0
    for text in texts:
        begin = start + (end - start) * before // total
        before += len(text)
        spans.append((begin, start + (end - start) * before // total))
    return spans


def _distinct(starts: Sequence[int], first: int, last: int, apart: int) -> list[int]:
    """Move starts as little as is needed to ascend, ``apart`` from each other and from the end."""
    placed: list[int] = []
    n = len(starts)
    earliest = first
    for i, start in enumerate(starts):
        at = min(max(start, earliest), last - (n - i) * apart)
        placed.append(at)
        earliest = at + apart
    return placed
