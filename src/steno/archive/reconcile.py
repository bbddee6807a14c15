"""What a stored transcript has that live delivery has not: segments held against sentences.

Both are words in order, cut into pieces at other places. Each lane (who speaks) is aligned by
itself, in four steps, each on what the one before has left:

1. **anchors**: segments whose words stand once in the transcript and once in what was heard;
2. **chain**: between anchors, the places of exactly the same words, chosen so that together they
   explain the most words in order; where there are times, only places of about that time count;
3. **likeness**: between those, an alignment word by word: a segment was delivered when at least
   nine tenths of its words are covered, a few of them perhaps by another word in their place;
4. **rescue**: the same words a little out of order, among words that nothing else explains.

A word that was heard explains one word of the transcript only. So where something is repeated
("yes", "okay") and one of it was lost, one of it comes back.

Times are compared after the transcript's own have been moved by the median distance of the
anchors, which also finds the beginning of a transcript that only counts from its own. Where the
distances do not agree (a transcript on another clock) times tell nothing, and a segment lies
somewhere between its neighbours that were heard.

Every step looks at a bounded number of places of a segment, and aligns bounded pieces.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from enum import StrEnum
from statistics import median
from typing import Final

import msgspec

from steno.archive.matching import (
    Best,
    Words,
    exact,
    in_place,
    index,
    longest_lost,
    partners,
    rising,
    words_of,
)

COVERED: Final = 0.9
"""Share of a segment's words that must be found for it to count as delivered."""
EXACT: Final = 0.75
"""Share that must be the very words; the rest may be others in their place."""
MOST_LOST: Final = 3
"""Words in a row that may be missing or others; more are a piece that was lost."""
TOLERANCE_US: Final = 20_000_000
"""How far the times of the same words may lie apart."""
MARGIN_US: Final = 30_000_000
"""What is said so long before or after a gap can be lost by it: a sentence ends in it, or was
delivered late."""
ANCHOR_WORDS: Final = 4
FOREVER_US: Final = 1 << 62

_MAX_CELLS: Final = 400_000
_RESCUE_WORDS: Final = 80
_WORTH: Final = 1_000_000
"""Of a word in the chain: more than any distance in time takes off (in milliseconds)."""


class Said(msgspec.Struct, frozen=True, gc=False):
    """A segment of the stored transcript, redacted.

    Attributes:
        lane: Who speaks, as live delivery names them; empty where nobody knows.
        role: ``agent customer system unknown``.
        started_us, ended_us: UTC microseconds, or from any beginning.
    """

    lane: str
    role: str
    text: str
    started_us: int
    ended_us: int


class Heard(msgspec.Struct, frozen=True, gc=False):
    """A sentence that is stored; times are UTC microseconds.

    Attributes:
        is_live: It was heard; otherwise an earlier repair has filled it in.
    """

    lane: str
    role: str
    text: str
    started_us: int
    ended_us: int
    is_live: bool = True


class Span(msgspec.Struct, frozen=True, gc=False, order=True):
    """A stretch of time in which something may have been missed, UTC microseconds."""

    from_us: int
    to_us: int


class Verdict(StrEnum):
    """What became of a segment."""

    DELIVERED = "delivered"
    IN_GAP = "in_gap"
    """It was not delivered, and a gap is the reason."""
    OUTSIDE = "outside"
    """It was not delivered, and no gap tells why."""


class Judged(msgspec.Struct, frozen=True, gc=False):
    """What became of a segment, and when it was said: UTC microseconds, as well as can be told."""

    verdict: Verdict
    started_us: int
    ended_us: int


def judge(
    said: Sequence[Said], heard: Sequence[Heard], gaps: Sequence[Span], *, dated: bool
) -> list[Judged]:
    """Return what became of each segment, in the order given.

    Args:
        gaps: In any order; they may overlap.
        dated: The segments' times are UTC.
    """
    vocabulary: dict[str, int] = {}
    lanes = [
        _Lane(said, heard, segments, sentences, vocabulary)
        for segments, sentences in _lanes(said, heard)
    ]
    for lane in lanes:
        lane.anchor()
    distance = _distance([gap for lane in lanes for gap in lane.distances()], dated=dated)
    places: list[tuple[int, int] | None] = [None] * len(said)
    for lane in lanes:
        lane.align(distance)
        lane.tell(places)
    return _judged(said, places, _merged(_until_heard(gaps, heard)), distance)


# --- lanes -----------------------------------------------------------------------------------


def _lanes(said: Sequence[Said], heard: Sequence[Heard]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield which segments and sentences are aligned with one another.

    Those of a lane that both know; else those of a role that both know; and all others together.
    """
    shared = {one.lane for one in said if one.lane} & {one.lane for one in heard}
    by_lane = bool(shared)
    if not by_lane:
        told = {one.role for one in said} & {one.role for one in heard}
        shared = told - {"unknown", ""}

    def name(one: Said | Heard) -> str:
        key = one.lane if by_lane else one.role
        return key if key in shared else ""

    groups: dict[str, tuple[list[int], list[int]]] = {}
    for number, segment in enumerate(said):
        groups.setdefault(name(segment), ([], []))[0].append(number)
    for number, sentence in enumerate(heard):
        groups.setdefault(name(sentence), ([], []))[1].append(number)
    for segments, sentences in groups.values():
        segments.sort(key=lambda n: said[n].started_us)
        # What was filled in came late: its time alone tells where it belongs.
        if all(heard[n].started_us for n in sentences):
            sentences.sort(key=lambda n: heard[n].started_us)
        yield segments, sentences


class _Lane:
    """One alignment. Positions are of words: in ``said`` (segments) and ``heard`` (sentences)."""

    def __init__(
        self,
        said: Sequence[Said],
        heard: Sequence[Heard],
        segments: list[int],
        sentences: list[int],
        vocabulary: dict[str, int],
    ) -> None:
        def numbers(text: str) -> Words:
            return [vocabulary.setdefault(word, len(vocabulary)) for word in words_of(text)]

        self._names = segments
        self._segments = [said[n] for n in segments]
        self._words = [numbers(one.text) for one in self._segments]
        self._heard: Words = []
        self._sentence: list[Heard] = []
        """Of each word that was heard, the sentence it stands in."""
        for n in sentences:
            found = numbers(heard[n].text)
            self._heard += found
            self._sentence += [heard[n]] * len(found)
        self._index = index(self._heard)
        self._place: list[tuple[int, int] | None] = [None] * len(segments)
        """Of each segment, the words that are it: from, and up to."""
        self._distance: int | None = None

    # --- 1: anchors ----------------------------------------------------------------------

    def anchor(self) -> None:
        """Find the segments that can only be in one place, as far as their order agrees."""
        whole = [word for words in self._words for word in words]
        inside = index(whole)
        found: list[tuple[int, int]] = []
        for number, words in enumerate(self._words):
            if len(words) < ANCHOR_WORDS:
                continue
            places = exact(words, self._heard, self._index, 0, len(self._heard), most=2)
            if len(places) == 1 and len(exact(words, whole, inside, 0, len(whole), most=2)) == 1:
                found.append((number, places[0]))
        for number, place in rising(found, self._words):
            self._place[number] = (place, place + len(self._words[number]))

    def distances(self) -> Iterator[int]:
        """Yield how far anchors' sentences lie behind their segments, microseconds."""
        for number, place in enumerate(self._place):
            if place is not None and (sentence := self._sentence[place[0]]).started_us:
                # Of both ends, as either may be cut at another place.
                segment = self._segments[number]
                yield (
                    sentence.started_us + sentence.ended_us - segment.started_us - segment.ended_us
                ) // 2

    # --- 2: chain ------------------------------------------------------------------------

    def align(self, distance: int | None) -> None:
        """Place the other segments; ``distance`` moves their times to those of sentences."""
        self._distance = distance
        for first, last, low, high in self._between():
            self._chain(first, last, low, high)
        for first, last, low, high in self._between():
            self._likeness(first, last, low, high)
        self._rescue()

    def _between(self) -> list[tuple[int, int, int, int]]:
        """Return the runs of segments without a place, and the free words beside each."""
        runs: list[tuple[int, int, int, int]] = []
        first, low = 0, 0
        for number, place in enumerate([*self._place, (len(self._heard), len(self._heard))]):
            if place is None:
                continue
            if number > first and place[0] > low:
                runs.append((first, number, low, place[0]))
            first, low = number + 1, place[1]
        return runs

    def _chain(self, first: int, last: int, low: int, high: int) -> None:
        best = Best(high - low)
        links: list[tuple[int, int, int, int]] = []  # segment, from, up to, link before
        for number in range(first, last):
            words = self._words[number]
            if not words:
                continue
            expected = low + (number - first) * (high - low) // (last - first)
            places = exact(words, self._heard, self._index, low, high, near=expected)
            new: list[tuple[int, int, int]] = []
            for place in places:
                apart_us = self._apart(number, place, place + len(words))
                if apart_us > TOLERANCE_US:
                    continue
                worth, before = best.until(place - low)
                links.append((number, place, place + len(words), before))
                worth += len(words) * _WORTH - apart_us // 1000
                new.append((place + len(words) - low, worth, len(links) - 1))
            for end, worth, link in new:
                best.put(end, worth, link)
        link = best.until(high - low)[1]
        while link >= 0:
            number, start, end, link = links[link]
            self._place[number] = (start, end)

    def _apart(self, number: int, start: int, end: int) -> int:
        """Return how far in time words lie from a segment; 0 where nobody can tell."""
        if self._distance is None:
            return 0
        first, last = self._sentence[start], self._sentence[end - 1]
        if not (first.started_us and last.ended_us):
            return 0
        segment = self._segments[number]
        early = segment.started_us + self._distance - last.ended_us
        late = first.started_us - (segment.ended_us + self._distance)
        return max(0, early, late)

    # --- 3: likeness ---------------------------------------------------------------------

    def _likeness(self, first: int, last: int, low: int, high: int) -> None:
        """Align a run word by word, in pieces where it is long."""
        while first < last and low < high:
            size = until = 0
            for until in range(first, last):
                grown = size + len(self._words[until])
                if until > first and grown * min(high - low, 2 * grown + 100) > _MAX_CELLS:
                    break
                size = grown
            else:
                until = last
            window = high if until == last else min(high, low + 2 * size + 100)
            window = min(window, low + max(1, _MAX_CELLS // max(1, size)))
            if size:
                low = max(low, self._align(first, until, low, window))
            first = until

    def _align(self, first: int, last: int, low: int, high: int) -> int:
        """Place segments by an alignment; return up to where words are explained now."""
        words = [word for number in range(first, last) for word in self._words[number]]
        paired = partners(words, self._heard[low:high])
        position, end = 0, low
        for number in range(first, last):
            mine = self._words[number]
            mates = paired[position : position + len(mine)]
            position += len(mine)
            same = [
                j >= 0 and self._heard[low + j] == word for word, j in zip(mine, mates, strict=True)
            ]
            very = [low + j for j, is_same in zip(mates, same, strict=True) if is_same]
            if not very or len(very) < EXACT * len(mine):
                continue
            if len(very) + in_place(same, mates) < COVERED * len(mine):
                continue
            if longest_lost(same) > MOST_LOST:
                continue  # a piece of it never came, however small a share
            start, stop = very[0], very[-1] + 1
            if stop - start > 1.5 * len(mine) + 4:
                continue  # words picked together from afar
            if self._apart(number, start, stop) <= TOLERANCE_US:
                self._place[number] = (start, stop)
                end = stop
        return end

    # --- 4: rescue -----------------------------------------------------------------------

    def _rescue(self) -> None:
        """Place segments whose very words stand nearby and free, in another order."""
        free = bytearray(b"\1") * len(self._heard)
        for place in self._place:
            if place is not None:
                free[place[0] : place[1]] = bytes(place[1] - place[0])
        if not any(free):
            return
        near = 0
        for number, words in enumerate(self._words):
            place = self._place[number]
            if place is not None:
                near = place[1]
                continue
            low, high = max(0, near - _RESCUE_WORDS), min(len(free), near + _RESCUE_WORDS)
            for start in exact(words, self._heard, self._index, low, high) if words else ():
                end = start + len(words)
                if all(free[start:end]) and self._apart(number, start, end) <= TOLERANCE_US:
                    self._place[number] = (start, end)
                    free[start:end] = bytes(end - start)
                    break

    def tell(self, places: list[tuple[int, int] | None]) -> None:
        """Put down when each segment was heard; a segment without a word needs nobody."""
        for number, name in enumerate(self._names):
            place = self._place[number]
            if place is not None:
                begin, end = self._sentence[place[0]], self._sentence[place[1] - 1]
                places[name] = (begin.started_us, end.ended_us)
            elif not self._words[number]:
                places[name] = (0, 0)


# --- times -----------------------------------------------------------------------------------


def _distance(found: list[int], *, dated: bool) -> int | None:
    """Return how far sentences lie behind their segments; None where that is not one number."""
    if not found:
        return 0 if dated else None
    middle = round(median(found))
    near = sum(abs(one - middle) <= TOLERANCE_US // 2 for one in found)
    return middle if near >= 0.9 * len(found) else None


def _until_heard(gaps: Sequence[Span], heard: Sequence[Heard]) -> list[Span]:
    """Return gaps up to where the conversation was heard again.

    Who is connected again may hear of a conversation under way only with its next event.
    """
    starts = sorted(one.started_us for one in heard if one.is_live and one.started_us)
    longer = []
    for gap in gaps:
        at = bisect_right(starts, gap.to_us)
        longer.append(Span(gap.from_us, starts[at] if at < len(starts) else FOREVER_US))
    return longer


def _merged(gaps: Sequence[Span]) -> list[Span]:
    """Return gaps with their margins, in order, those that touch made one."""
    merged: list[Span] = []
    for gap in sorted(gaps):
        wide = Span(gap.from_us - MARGIN_US, min(gap.to_us + MARGIN_US, FOREVER_US))
        if merged and wide.from_us <= merged[-1].to_us:
            merged[-1] = Span(merged[-1].from_us, max(merged[-1].to_us, wide.to_us))
        else:
            merged.append(wide)
    return merged


def _judged(
    said: Sequence[Said],
    places: Sequence[tuple[int, int] | None],
    gaps: list[Span],
    distance: int | None,
) -> list[Judged]:
    order = sorted(range(len(said)), key=lambda n: said[n].started_us)
    if distance is None:
        bounds = _neighbours(order, places)
    else:
        bounds = {n: (one.started_us + distance, one.ended_us + distance)
                  for n, one in enumerate(said)}  # fmt: skip
    starts = [gap.from_us for gap in gaps]
    judged: list[Judged] = []
    for number, segment in enumerate(said):
        place = places[number]
        from_us, to_us = bounds[number]
        if place is not None:
            judged.append(Judged(Verdict.DELIVERED, *place))
            continue
        at = bisect_right(starts, to_us) - 1
        is_in_gap = at >= 0 and gaps[at].to_us >= from_us
        if distance is None:  # between its neighbours; it lasts as long as the transcript says
            lasts_us = max(0, segment.ended_us - segment.started_us)
            if from_us <= 0 and to_us >= FOREVER_US:  # nothing was heard: from the first gap on
                from_us = segment.started_us + (gaps[0].from_us + MARGIN_US if gaps else 0)
            elif from_us <= 0:
                from_us = to_us
            to_us = from_us + lasts_us
        verdict = Verdict.IN_GAP if is_in_gap else Verdict.OUTSIDE
        judged.append(Judged(verdict, max(0, from_us), max(0, to_us)))
    return judged


def _neighbours(
    order: list[int], places: Sequence[tuple[int, int] | None]
) -> dict[int, tuple[int, int]]:
    """Return between which times each segment lies, by those beside it that were heard."""
    bounds: dict[int, tuple[int, int]] = {}
    before = 0
    for number in order:
        place = places[number]
        if place is not None and place[1]:
            before = max(before, place[0])
        bounds[number] = (before, FOREVER_US)
    after = FOREVER_US
    for number in reversed(order):
        place = places[number]
        if place is not None and place[0]:
            after = min(after, place[1])
        bounds[number] = (bounds[number][0], max(bounds[number][0], after))
    return bounds
