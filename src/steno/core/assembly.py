"""Rebuilding what a participant said from fragments, once, whatever way they arrive.

One ``Assembler`` serves one conversation and keeps a timeline per lane. A timeline is a list
of utterances; an utterance is a list of fragments in the order of the source's time, folded
into parts: a fragment that begins with the last part, or with everything so far, replaces
it (a growing partial); any other is appended (an increment). Sentences leave an utterance

- at a final fragment, all of them;
- at the end of a sentence inside it, those before that end;
- when the window is over, all of them, by the utterance's own timer.

What has left is remembered for a while, so that a late fragment takes its place in time: a
repeat changes nothing, new words give the sentence again under the same key with a higher
revision, and a partial that goes on growing after the timer adds only its new words.

Where the source names its utterances, a fragment replaces the one before it of that name.

After an interruption of the source the end of an utterance may never come. Where partials grow,
a fragment that does not go on with the open utterance is then the next one; where they do not,
nothing tells the two apart, and the words stay together.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from steno.core import sentences
from steno.core.transcript import Fragment, RawText, Role, Sentence

WINDOW_S = 5.0
MEMORY_S = 10.0
"""How long an utterance that has left is remembered, in seconds of receipt."""
MAX_REMEMBERED = 64
"""Utterances remembered per lane, at the most."""
MAX_FRAGMENTS = 2000
"""Fragments of one utterance; a longer one is closed, so that memory is bounded."""

_HEAD = 16
"""Characters compared before the whole of two texts is."""

_NOT_WORD = re.compile(r"[\W_]+")


def _plain(text: str) -> str:
    """Return the letters and digits alone, case folded: what punctuation cannot change."""
    return _NOT_WORD.sub("", text).casefold()


def _grows(text: str, earlier: str) -> bool:
    """Tell whether a text is an earlier one gone on with, apart from case and punctuation."""
    if text.startswith(earlier):
        return True
    ours, theirs = text[:_HEAD], earlier[:_HEAD]
    if ours[: len(theirs)].casefold() != theirs.casefold() and _bare(ours) and _bare(theirs):
        return False  # they differ in a letter already, and most texts end here
    plain = _plain(earlier)
    return bool(plain) and _plain(text).startswith(plain)


def _bare(text: str) -> bool:
    """Tell whether there is nothing but letters, digits and blanks."""
    return text.replace(" ", "").isalnum()


def _after(text: str, plain_prefix: str) -> int:
    """Return the index in ``text`` right behind the letters and digits of a prefix."""
    left = len(plain_prefix)
    for i, char in enumerate(text):
        if left <= 0:
            return i
        left -= len(_plain(char))
    return len(text)


class Piece(msgspec.Struct, gc=False):
    """A fragment as an utterance keeps it."""

    at_us: int
    text: str
    confidence: float
    language: str
    is_final: bool
    started_us: int
    ended_us: int


class _Part:
    """What one or more fragments of a growing partial have come to."""

    __slots__ = ("confidence", "end_us", "language", "last_us", "start_us", "text")

    def __init__(self, piece: Piece) -> None:
        self.text = piece.text
        self.confidence = piece.confidence
        self.language = piece.language
        self.start_us = piece.started_us or piece.at_us
        self.end_us = piece.ended_us or piece.at_us
        self.last_us = piece.at_us

    def grow(self, piece: Piece) -> None:
        self.text = piece.text
        self.confidence = piece.confidence
        self.language = piece.language
        self.end_us = piece.ended_us or piece.at_us
        self.last_us = piece.at_us


class Emitted(msgspec.Struct, gc=False):
    """A sentence that has left its utterance: what it said, and how often it was said anew."""

    text: str
    revision: int = 0


class UtteranceState(msgspec.Struct, gc=False):
    """An utterance as the journal keeps it."""

    lane: str
    id: str
    named: bool
    role: Role
    pieces: list[Piece]
    emitted: list[Emitted]
    waited_s: float


class _Utterance:
    __slots__ = (
        "closed",
        "emitted",
        "first_us",
        "given_us",
        "id",
        "last_us",
        "named",
        "opened_s",
        "parts",
        "pending",
        "pieces",
        "role",
        "touched_s",
    )

    def __init__(self, identity: str, *, named: bool, role: Role, now: float, at_us: int) -> None:
        self.id = identity
        self.named = named
        self.role = role
        self.pieces: list[Piece] = []
        self.parts: list[_Part] = []
        self.emitted: list[Emitted] = []
        self.first_us = at_us
        self.last_us = at_us
        self.given_us = 0
        self.opened_s = now
        self.touched_s = now
        self.pending = False
        self.closed = False

    # -- taking in ------------------------------------------------------------------------

    def add(self, piece: Piece) -> None:
        """Put a fragment in its place in time and fold it in."""
        if self.named:
            # A partial that arrives after the final is older, whatever its time says.
            if self.pieces and self.pieces[-1].is_final and not piece.is_final:
                return
            self.pieces = [piece]
            self.parts = [_Part(piece)] if piece.text else []
        elif not self.pieces or piece.at_us >= self.last_us:
            self.pieces.append(piece)
            self._fold(piece)
        else:
            at = len(self.pieces)
            while at and self.pieces[at - 1].at_us > piece.at_us:
                at -= 1
            self.pieces.insert(at, piece)
            self.parts = []
            for each in self.pieces:
                self._fold(each)
        self.first_us = min(self.first_us, piece.at_us)
        self.last_us = max(self.last_us, piece.at_us)

    def _fold(self, piece: Piece) -> None:
        text = piece.text
        if not text:
            return
        parts = self.parts
        if parts:
            if len(parts) > 1 and _grows(text, parts[0].text) and _grows(text, self.text()):
                whole = parts[0]
                whole.grow(piece)
                del parts[1:]
                return
            last = parts[-1]
            if _grows(text, last.text):
                last.grow(piece)
                return
        parts.append(_Part(piece))

    def text(self) -> str:
        parts = self.parts
        if len(parts) == 1:
            return parts[0].text
        return " ".join([part.text for part in parts])

    def continues(self, text: str) -> bool:
        """Tell whether a text is this utterance gone on with."""
        return bool(self.parts) and bool(text) and _grows(text, self.text())

    # -- giving out -----------------------------------------------------------------------

    def finished(self, *, all_of_it: bool) -> list[tuple[int, int, int, int]]:
        """Return (index, revision, start, end) of the sentences that are to be given out.

        Start and end are positions in ``text()``. Marks them as given.
        """
        text = self.text()
        language = self.language(0, len(text))
        emitted = self.emitted
        out: list[tuple[int, int, int, int]] = []
        start, index = 0, 0
        if emitted:
            given = "".join([_plain(each.text) for each in emitted])
            if _plain(text).startswith(given):
                start, index = _after(text, given), len(emitted)
                while start < len(text) and not text[start].isalnum() and text[start] not in "¿¡":
                    start += 1
        rest = text[start:] if start else text
        position = start
        pieces = sentences.split(rest, language)
        for number, sentence in enumerate(pieces):
            end = position + len(sentence)
            last = number == len(pieces) - 1
            if last and not all_of_it and not sentences.is_complete(sentence, language):
                break
            stripped = sentence.strip()
            if stripped:
                if index < len(emitted):
                    if _plain(emitted[index].text) != _plain(stripped):
                        emitted[index] = Emitted(stripped, emitted[index].revision + 1)
                        out.append((index, emitted[index].revision, position, end))
                else:
                    emitted.append(Emitted(stripped))
                    out.append((index, 0, position, end))
                index += 1
            position = end
        self.pending = position < len(text)
        return out

    def language(self, start: int, end: int) -> str:
        """Return the language that most of a stretch of the text is in."""
        parts = self.parts
        if not parts:
            return "en-US"
        first = parts[0].language
        for part in parts:
            if part.language != first:
                break
        else:
            return first
        weights: dict[str, int] = {}
        names: dict[str, str] = {}
        for part, overlap in self.overlaps(start, end):
            tag = part.language.lower()
            names.setdefault(tag, part.language)
            weights[tag] = weights.get(tag, 0) + overlap
        return names[max(weights, key=weights.__getitem__)] if weights else first

    def overlaps(self, start: int, end: int) -> Iterator[tuple[_Part, int]]:
        """Yield the parts within a stretch of the text, each with the characters shared."""
        position = 0
        for part in self.parts:
            stop = position + len(part.text)
            shared = min(stop, end) - max(position, start)
            if shared > 0:
                yield part, shared
            position = stop + 1  # the blank between

    def sentence(
        self, conversation: str, lane: str, cut: tuple[int, int, int, int], received_s: float
    ) -> Sentence:
        index, revision, start, end = cut
        weight, confidence = 0, 0.0
        started = ended = completed = 0
        for part, shared in self.overlaps(start, end):
            weight += shared
            confidence += part.confidence * shared
            started = started or part.start_us
            ended = max(ended, part.end_us)
            completed = max(completed, part.last_us)
        if index and not revision:
            started = max(started, self.given_us)  # the rest of a partial that goes on growing
        return Sentence(
            conversation,
            lane,
            f"{self.id}.{index}",
            revision,
            RawText(self.emitted[index].text),
            self.language(start, end),
            round(confidence / weight, 6) if weight else 0.0,
            started,
            ended,
            completed,
            self.role,
            received_s,
        )


class _Lane:
    __slots__ = ("interrupted", "last_id", "newest_us", "open", "recent", "waiting")

    def __init__(self) -> None:
        self.newest_us = -1
        self.interrupted = False  # what was open may have ended while nobody listened
        self.open: _Utterance | None = None
        self.recent: OrderedDict[str, _Utterance] = OrderedDict()  # oldest first, open included
        self.waiting: dict[str, _Utterance] = {}  # of those, the ones no final has closed
        self.last_id = 0


class Assembler:
    """Sentences of one conversation, from its fragments.

    Args:
        conversation: Its id.
        window_s: Seconds after which the words of an open window leave it.
        memory_s: Seconds for which what has left is remembered.
    """

    __slots__ = (
        "_deadline",
        "_grows",
        "_lanes",
        "_memory_s",
        "_window_s",
        "conversation",
        "dropped",
    )

    def __init__(
        self, conversation: str, *, window_s: float = WINDOW_S, memory_s: float = MEMORY_S
    ) -> None:
        self.conversation = conversation
        self.dropped = 0
        self._window_s = window_s
        self._memory_s = memory_s
        self._lanes: dict[str, _Lane] = {}
        self._deadline: float | None = None
        self._grows = False  # this source repeats an utterance from its start

    # -- input ----------------------------------------------------------------------------

    def add(self, fragment: Fragment, *, now: float) -> list[Sentence]:
        """Take in a fragment; return the sentences that it finishes or changes."""
        lane = self._lanes.get(fragment.lane)
        if lane is None:
            lane = self._lanes[fragment.lane] = _Lane()
        text = fragment.text.strip()
        piece = Piece(
            fragment.at_us,
            text,
            fragment.confidence,
            fragment.language,
            fragment.is_final,
            fragment.started_us,
            fragment.ended_us,
        )
        if lane.interrupted and self._ended_unheard(lane, piece):
            assert lane.open is not None
            ended = self._give(lane, lane.open, fragment.lane, now, now, close=True)
            return ended + self.add(fragment, now=now)
        utterance = self._place(lane, piece, fragment, now)
        if utterance is None:
            self.dropped += 1
            return []
        utterance.add(piece)
        if len(utterance.parts) < len(utterance.pieces):
            self._grows = True
        utterance.touched_s = now
        if piece.at_us > lane.newest_us:
            lane.newest_us = piece.at_us
        final = piece.is_final or len(utterance.pieces) >= MAX_FRAGMENTS
        if final and not utterance.named and piece.at_us < utterance.last_us:
            return self._final_came_late(lane, utterance, piece, fragment, now)
        if final or utterance.closed:
            return self._give(lane, utterance, fragment.lane, now, fragment.received_s, close=True)
        lane.open = utterance
        lane.waiting[utterance.id] = utterance
        if not utterance.pending:
            utterance.opened_s = now  # a new window begins with the first word not given out
            utterance.pending = bool(utterance.parts)
        if utterance.pending:
            deadline = utterance.opened_s + self._window_s
            if self._deadline is None or deadline < self._deadline:
                self._deadline = deadline
        if utterance.emitted or (not utterance.named and sentences.may_end(text)):
            return self._give(lane, utterance, fragment.lane, now, fragment.received_s, close=False)
        return []

    def interrupted(self) -> None:
        """Take note that fragments may have been missed since the last one."""
        for lane in self._lanes.values():
            lane.interrupted = True

    def _ended_unheard(self, lane: _Lane, piece: Piece) -> bool:
        """Tell whether the open utterance of an interrupted lane is over, by what came next."""
        current = lane.open
        if current is None or current.named or not current.pending:
            lane.interrupted = False
            return False
        if not piece.text or piece.at_us < current.last_us or piece in current.pieces[-8:]:
            return False  # said before the interruption
        lane.interrupted = False
        goes_on = _grows(piece.text, current.parts[-1].text) or current.continues(piece.text)
        return self._grows and not goes_on

    def _place(
        self, lane: _Lane, piece: Piece, fragment: Fragment, now: float
    ) -> _Utterance | None:
        """Find or make the utterance that a fragment belongs to; None for a repeat."""
        named = bool(fragment.utterance)
        if named:
            known = lane.recent.get(fragment.utterance)
            if known is None:
                known = self._new(lane, fragment.utterance, piece, fragment.role, now, named=True)
            elif piece in known.pieces:
                return None
            return known
        current = lane.open
        if current is not None and piece.at_us >= current.last_us:
            if piece.at_us == current.last_us and piece in current.pieces[-8:]:
                return None
            if current.pending or current.continues(piece.text):
                return current
        elif piece.at_us <= lane.newest_us:
            belongs, repeated = self._by_time(lane, piece)
            if repeated or belongs is not None:
                return belongs
        if not piece.text:
            return None
        identity = max(piece.at_us, 0)
        while str(identity) in lane.recent or identity == lane.last_id:
            identity += 1  # sources with times in seconds
        lane.last_id = identity
        return self._new(lane, str(identity), piece, fragment.role, now, named=False)

    def _by_time(self, lane: _Lane, piece: Piece) -> tuple[_Utterance | None, bool]:
        """Find the utterance within which, or shortly before which, a late fragment was said.

        Finals end utterances, so what was said between two of them belongs to the later one.
        """
        following: _Utterance | None = None
        for utterance in reversed(lane.recent.values()):
            if utterance.named:
                continue
            if piece.at_us < utterance.first_us:
                if following is None or utterance.first_us < following.first_us:
                    following = utterance
            elif piece.at_us <= utterance.last_us:
                if piece in utterance.pieces:
                    return None, True
                if piece.at_us < utterance.last_us or not utterance.closed:
                    return utterance, False
                # Else times are in seconds, and what follows a final is new.
        near = following is not None and following.first_us - piece.at_us <= self._window_s * 1e6
        if near and not piece.is_final:
            return following, False
        return None, False

    def _new(
        self, lane: _Lane, identity: str, piece: Piece, role: Role, now: float, *, named: bool
    ) -> _Utterance:
        utterance = _Utterance(identity, named=named, role=role, now=now, at_us=piece.at_us)
        recent = lane.recent
        recent[identity] = utterance
        while len(recent) > 1:
            oldest = next(iter(recent.values()))
            stale = now - oldest.touched_s > self._memory_s or len(recent) > MAX_REMEMBERED
            if not stale or oldest.pending:
                break
            del recent[oldest.id]
        return utterance

    def _final_came_late(
        self, lane: _Lane, utterance: _Utterance, final: Piece, fragment: Fragment, now: float
    ) -> list[Sentence]:
        """End the utterance at a final that words behind it have overtaken."""
        behind = [piece for piece in utterance.pieces if piece.at_us > final.at_us]
        if utterance.emitted or utterance.closed:
            # What was given out cannot be taken apart again: keep the words in one utterance.
            return self._give(
                lane,
                utterance,
                fragment.lane,
                now,
                fragment.received_s,
                close=utterance.closed or not behind,
            )
        before = [piece for piece in utterance.pieces if piece.at_us <= final.at_us]
        utterance.pieces, utterance.parts = [], []
        utterance.last_us = utterance.first_us
        for piece in before:
            utterance.add(piece)
        out = self._give(lane, utterance, fragment.lane, now, fragment.received_s, close=True)
        for piece in behind:
            out += self.add(
                Fragment(
                    self.conversation,
                    fragment.lane,
                    RawText(piece.text),
                    piece.confidence,
                    piece.is_final,
                    piece.language,
                    piece.at_us,
                    "",
                    piece.started_us,
                    piece.ended_us,
                    fragment.role,
                    fragment.received_s,
                ),
                now=now,
            )
        return out

    # -- output ---------------------------------------------------------------------------

    def _give(
        self,
        lane: _Lane,
        utterance: _Utterance,
        lane_id: str,
        now: float,
        received_s: float,
        *,
        close: bool,
        all_of_it: bool = False,
    ) -> list[Sentence]:
        had = len(utterance.emitted)
        cuts = utterance.finished(all_of_it=close or all_of_it)
        if close:
            utterance.closed = True
            utterance.pending = False
            lane.waiting.pop(utterance.id, None)
            if lane.open is utterance:
                lane.open = None
        elif len(utterance.emitted) > had:
            utterance.opened_s = now
        if not cuts:
            return []
        out = [utterance.sentence(self.conversation, lane_id, cut, received_s) for cut in cuts]
        utterance.given_us = max(utterance.given_us, out[-1].completed_us)
        return out

    def next_deadline(self) -> float | None:
        """Return when ``on_deadline`` is due, in monotonic seconds; None when nothing waits."""
        return self._deadline

    def on_deadline(self, now: float) -> list[Sentence]:
        """Give out what has waited for the window's length."""
        return self._give_due(now, everything=False)

    def flush(self, now: float) -> list[Sentence]:
        """Give out everything that is open: the conversation or the process ends."""
        return self._give_due(now, everything=True)

    def _give_due(self, now: float, *, everything: bool) -> list[Sentence]:
        out: list[Sentence] = []
        nearest: float | None = None
        for lane_id, lane in self._lanes.items():
            for utterance in list(lane.waiting.values()):
                if not utterance.pending:
                    continue
                due = utterance.opened_s + self._window_s
                if everything or due <= now:
                    out += self._give(
                        lane, utterance, lane_id, now, now, close=False, all_of_it=True
                    )
                    utterance.touched_s = now
                elif nearest is None or due < nearest:
                    nearest = due
        self._deadline = nearest
        return out

    def forget(self, now: float) -> None:
        """Let go of what is remembered for longer than needed; a quiet conversation is small."""
        for lane_id, lane in list(self._lanes.items()):
            for utterance in list(lane.recent.values()):
                if utterance.pending or now - utterance.touched_s <= self._memory_s:
                    continue
                del lane.recent[utterance.id]
                lane.waiting.pop(utterance.id, None)
                if lane.open is utterance:
                    lane.open = None
            if not lane.recent:
                del self._lanes[lane_id]

    @property
    def open_windows(self) -> int:
        """Utterances with words that have not been given out."""
        return sum(u.pending for lane in self._lanes.values() for u in lane.waiting.values())

    # -- journal --------------------------------------------------------------------------

    def unfinished(self, now: float) -> bool:
        """Tell whether the journal must keep something of this conversation."""
        for lane in self._lanes.values():
            for utterance in list(lane.waiting.values()):
                if utterance.pending or now - utterance.touched_s <= self._memory_s:
                    return True
                del lane.waiting[utterance.id]
        return False

    def snapshot(self, now: float) -> list[UtteranceState]:
        """Return what a restart needs to go on with the utterances that may go on."""
        return [
            UtteranceState(
                lane_id,
                utterance.id,
                utterance.named,
                utterance.role,
                utterance.pieces,
                utterance.emitted,
                max(0.0, now - utterance.opened_s),
            )
            for lane_id, lane in self._lanes.items()
            for utterance in lane.waiting.values()
        ]

    def restore(self, states: list[UtteranceState], *, now: float) -> None:
        """Go on from a snapshot; windows go on waiting for what they had left."""
        for state in states:
            lane = self._lanes.setdefault(state.lane, _Lane())
            utterance = _Utterance(
                state.id,
                named=state.named,
                role=state.role,
                now=now - state.waited_s,
                at_us=state.pieces[0].at_us if state.pieces else 0,
            )
            for piece in state.pieces:
                utterance.add(piece)
            lane.interrupted = True
            if not state.named and len(utterance.parts) < len(utterance.pieces):
                self._grows = True
            utterance.emitted = list(state.emitted)
            given = "".join(_plain(each.text) for each in utterance.emitted)
            utterance.pending = len(_plain(utterance.text())) > len(given)
            utterance.touched_s = now
            lane.recent[state.id] = utterance
            lane.waiting[state.id] = utterance
            lane.open = utterance
            if not state.named and state.id.isdigit():
                lane.last_id = int(state.id)
            if utterance.pending:
                due = utterance.opened_s + self._window_s
                if self._deadline is None or due < self._deadline:
                    self._deadline = due
