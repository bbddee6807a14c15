"""Redaction over the sentences of a conversation: secrets which run over several of them.

Each lane has a *tail*: the raw text of its last sentences when they end in a number or an
address which may go on. The next sentence of that lane is looked at together with the tail
and gets its own part of the mask. Sentences of other lanes ("okay", "go on") leave the tail
alone, so a number read out between them is still one number.

A sentence is *held* only while what it ends in is harmless so far and may become a secret.
What arrives behind it in the conversation waits, so the order stays. A hold ends by a
continuation that settles it, by other words of the same lane, or after ``hold_s``. The tail
outlives the hold: what comes late is still masked.
"""

from __future__ import annotations

from collections import deque

import msgspec

from steno.core.transcript import RedactedSentence, RedactedText, Sentence
from steno.errors import RedactionError
from steno.redaction import masking
from steno.redaction.analysis import Analysis
from steno.redaction.context import NOTHING, Context, outweigh
from steno.redaction.entities import Span
from steno.redaction.redactor import Redactor
from steno.redaction.spoken import Topic
from steno.redaction.tokens import normalise

MEMORY_S = 60.0
"""How long a lane's tail and the conversation's topic are remembered."""

MAX_HELD = 64
"""Sentences held or waiting in one conversation; beyond it the oldest is released."""

_MAX_TAIL_PARTS = 12
_MAX_TAIL_CHARS = 600
_TOPIC_SENTENCES = 8
_KEEP_SENTENCES = 3


class Part(msgspec.Struct, gc=False):
    """One sentence of a tail: its number in the conversation, utterance and raw text."""

    number: int
    utterance: str
    text: str


class Tail(msgspec.Struct):
    """What a lane said last, when it may go on.

    Attributes:
        complete: It ends in a whole secret; a single number behind it is another matter.
        at: Monotonic seconds of its last sentence.
        topic, strong: What it is about.
    """

    parts: list[Part]
    complete: bool
    at: float
    topic: int = 0
    strong: bool = False


class Entry(msgspec.Struct):
    """A sentence not yet released.

    Attributes:
        spans: What will be masked, as far as is known.
        until: Monotonic seconds until which it is held; None when it only waits in order.
    """

    number: int
    sentence: Sentence
    text: str
    spans: list[Span]
    until: float | None


class CarryState(msgspec.Struct):
    """A carry's memory, to be stored encrypted: it contains raw text.

    Times are seconds before (tails, topic) or after (holds) the last call, because monotonic
    clocks do not survive a restart.
    """

    entries: list[Entry] = []
    tails: dict[str, Tail] = {}
    next_number: int = 0
    topic: int = 0
    topic_strong: bool = False
    topic_left: int = 0
    topic_age_s: float = 0.0


class Carry:
    """Redacts one conversation's sentences in the order of their arrival.

    Call ``on_deadline`` when ``next_deadline`` has passed and ``flush`` at the end. A
    sentence whose redaction fails is withheld: ``push`` raises and forgets it, and the
    conversation goes on with the next.

    Args:
        hold_s: The longest a sentence is held back.
    """

    def __init__(self, redactor: Redactor, *, hold_s: float = 5.0) -> None:
        self._redactor = redactor
        self._hold_s = hold_s
        self._entries: deque[Entry] = deque()
        self._tails: dict[str, Tail] = {}
        self._next_number = 0
        self._topic = NOTHING
        self._topic_left = 0
        self._topic_at = 0.0
        self._now = 0.0

    @property
    def holding(self) -> bool:
        """Whether any sentence has not been released."""
        return bool(self._entries)

    def remembers(self, now: float) -> bool:
        """Whether a restart without ``snapshot`` could let the rest of a secret pass.

        True while something is held, and while a lane's tail may still be gone on with.
        """
        if self._entries:
            return True
        return any(now - tail.at <= MEMORY_S for tail in self._tails.values())

    def push(self, sentence: Sentence, *, now: float) -> list[RedactedSentence]:
        """Take the conversation's next sentence; what may go now, in order.

        A sentence whose text is empty comes out empty; dropping it is the caller's choice.

        Raises:
            RedactionError: The sentence could not be redacted and is withheld. Whatever was
                held before is still held.
        """
        try:
            return self._push(sentence, now)
        except Exception as exc:  # noqa: BLE001 - whatever fails, the text must not pass
            cause = type(exc).__name__
        self._tails.pop(sentence.lane, None)
        raise RedactionError(cause=cause)

    def next_deadline(self) -> float | None:
        """Monotonic seconds at which ``on_deadline`` has something to release."""
        return self._entries[0].until if self._entries else None

    def on_deadline(self, now: float) -> list[RedactedSentence]:
        """Release what has been held long enough, and what waited behind it."""
        self._now = max(self._now, now)
        for entry in self._entries:
            if entry.until is not None and entry.until <= now:
                entry.until = None
        return self._release()

    def flush(self, now: float) -> list[RedactedSentence]:
        """Release everything: the conversation ends, or the process does."""
        self._now = max(self._now, now)
        for entry in self._entries:
            entry.until = None
        return self._release()

    def _push(self, sentence: Sentence, now: float) -> list[RedactedSentence]:
        self._now = max(self._now, now)
        text = normalise(sentence.text)
        tail = self._tail(sentence, now)
        hint = self._hint(now)
        # After "what is your e-mail?" any words may be the beginning of an address.
        if (
            tail is None
            and hint.topic != Topic.EMAIL
            and not self._redactor.is_notable(text, language=sentence.language)
        ):
            self._topic_left = max(0, self._topic_left - 1)
            if not self._entries:
                return [RedactedSentence(sentence, RedactedText(text), {})]
            self._append(sentence, text, [], None)
            return self._release()
        offset = 0
        analysis = self._aside(sentence, text, tail, hint)
        if analysis is not None:
            tail = None
        elif tail is not None:
            joined, offset = _join(tail, text)
            analysis = self._redactor.inspect(joined, language=sentence.language, hint=hint)
            if tail.complete and _is_aside(analysis, joined, offset):
                analysis, offset, tail = None, 0, None
        if analysis is None:
            analysis = self._redactor.inspect(text, language=sentence.language, hint=hint)
        self._remember(analysis.about, text, now)
        if analysis.open is None and not self._entries:
            self._tails.pop(sentence.lane, None)
            spans = (
                analysis.spans
                if tail is None
                else _local(analysis.spans, offset, offset + len(text), text)
            )
            masked = self._redactor.mask(text, spans)
            return [RedactedSentence(sentence, masked, masking.count(spans))]
        self._settle(sentence, text, tail, analysis, offset, now)
        return self._release()

    def _aside(
        self, sentence: Sentence, text: str, tail: Tail | None, hint: Context
    ) -> Analysis | None:
        """What is known of a sentence behind a whole number that has nothing to do with it.

        By far the most sentences behind a number are such, and cost half as much this way.
        """
        if tail is None or not tail.complete or self._entries:
            return None
        if not self._redactor.ends_number(text, language=sentence.language):
            return None
        alone = self._redactor.inspect(text, language=sentence.language, hint=hint)
        if not alone.apart:
            return None
        about = outweigh(Context(Topic(tail.topic), tail.strong), alone.about)
        return alone._replace(about=about)

    def _settle(
        self,
        sentence: Sentence,
        text: str,
        tail: Tail | None,
        analysis: Analysis,
        offset: int,
        now: float,
    ) -> None:
        """Give the new sentence and the held ones of its tail their spans and holds."""
        ending = analysis.open
        parts = tail.parts if tail is not None else []
        held = {entry.number: entry for entry in self._entries}
        at = 0
        open_from = len(parts)
        for index, part in enumerate(parts):
            end = at + len(part.text)
            grows = ending is not None and ending.start < end
            if grows and open_from == len(parts):
                open_from = index
            entry = held.get(part.number)
            if entry is not None:
                entry.spans = _local(analysis.spans, at, end, entry.text)
                if not (grows and ending is not None and ending.hold):
                    entry.until = None
            at = end + 1
        until = now + self._hold_s if ending is not None and ending.hold else None
        spans = _local(analysis.spans, offset, offset + len(text), text)
        number = self._append(sentence, text, spans, until)
        if ending is None:
            self._tails.pop(sentence.lane, None)
            return
        kept = [*parts[open_from:], Part(number, sentence.utterance, text)]
        about = analysis.about
        if open_from > 0:  # what was said of an earlier number is none of this one's
            text = " ".join(part.text for part in kept)
            about = self._redactor.inspect(text, language=sentence.language, hint=NOTHING).about
        self._tails[sentence.lane] = Tail(
            _bounded(kept), ending.complete, now, int(about.topic), about.strong
        )

    def _append(self, sentence: Sentence, text: str, spans: list[Span], until: float | None) -> int:
        number = self._next_number
        self._next_number += 1
        self._entries.append(Entry(number, sentence, text, spans, until))
        if len(self._entries) > MAX_HELD:
            self._entries[0].until = None
        return number

    def _release(self) -> list[RedactedSentence]:
        released: list[RedactedSentence] = []
        while self._entries and self._entries[0].until is None:
            entry = self._entries.popleft()
            text = self._redactor.mask(entry.text, entry.spans)
            released.append(RedactedSentence(entry.sentence, text, masking.count(entry.spans)))
        return released

    def _tail(self, sentence: Sentence, now: float) -> Tail | None:
        """The lane's tail, without an older revision of the same utterance."""
        tail = self._tails.get(sentence.lane)
        if tail is None:
            return None
        if now - tail.at > MEMORY_S:
            del self._tails[sentence.lane]
            return None
        if sentence.revision:
            tail.parts = [part for part in tail.parts if part.utterance != sentence.utterance]
        if not tail.parts:
            del self._tails[sentence.lane]
            return None
        return tail

    def _hint(self, now: float) -> Context:
        if not self._topic_left or now - self._topic_at > MEMORY_S:
            return NOTHING
        if (
            self._topic.topic == Topic.KEEP
            and self._topic_left <= _TOPIC_SENTENCES - _KEEP_SENTENCES
        ):
            return NOTHING
        return self._topic

    def _remember(self, about: Context, text: str, now: float) -> None:
        """Keep the topic for the sentences that follow.

        What is mentioned in passing is kept of a question only ("what's your phone?"), and a
        topic under which numbers stay only when it was named as a number's.
        """
        self._topic_left = max(0, self._topic_left - 1)
        asked = text.endswith("?")
        lasting = about.strong or (asked and about.suspicious) or about.topic == Topic.EMAIL
        if about.topic in (Topic.NONE, Topic.CALL) or not lasting:
            return
        self._topic, self._topic_left, self._topic_at = about, _TOPIC_SENTENCES, now

    def snapshot(self) -> CarryState:
        """Everything needed to go on elsewhere. It contains raw text: encrypt it."""
        now = self._now
        return CarryState(
            entries=[
                Entry(e.number, e.sentence, e.text, e.spans, e.until and e.until - now)
                for e in self._entries
            ],
            tails={
                lane: msgspec.structs.replace(tail, parts=list(tail.parts), at=now - tail.at)
                for lane, tail in self._tails.items()
            },
            next_number=self._next_number,
            topic=int(self._topic.topic),
            topic_strong=self._topic.strong,
            topic_left=self._topic_left,
            topic_age_s=now - self._topic_at,
        )

    def restore(self, state: CarryState, *, now: float) -> None:
        """Go on from a snapshot; holds last as long as they still had to last."""
        self._now = now
        self._entries = deque(
            Entry(e.number, e.sentence, e.text, e.spans, None if e.until is None else e.until + now)
            for e in state.entries
        )
        self._tails = {
            lane: msgspec.structs.replace(tail, parts=list(tail.parts), at=now - tail.at)
            for lane, tail in state.tails.items()
        }
        self._next_number = state.next_number
        self._topic = Context(Topic(state.topic), state.topic_strong)
        self._topic_left = state.topic_left
        self._topic_at = now - state.topic_age_s


def _join(tail: Tail, text: str) -> tuple[str, int]:
    """The tail's text with ``text`` behind it, and where ``text`` begins in it."""
    before = " ".join(part.text for part in tail.parts)
    return f"{before} {text}", len(before) + 1


def _local(spans: list[Span], start: int, end: int, text: str) -> list[Span]:
    """The parts of ``spans`` inside ``start`` to ``end``, counted from ``start``."""
    local: list[Span] = []
    for span in spans:
        first, last = max(span.start, start) - start, min(span.end, end) - start
        if first >= last:
            continue
        # A piece that consists of signs only is the full stop at which a sentence was cut.
        if any(c.isalnum() for c in text[first:last]):
            local.append(Span(first, last, span.entity))
    return local


def _is_aside(analysis: Analysis, joined: str, offset: int) -> bool:
    """Whether the span that reaches over ``offset`` takes a word of an ordinary sentence.

    "… 0142." "Two of us will come": the number was complete, "two" is not its next digit.
    """
    if analysis.open is not None and analysis.open.start < offset:
        return False  # the whole sentence goes on with the number
    for span in analysis.spans:
        if span.start < offset < span.end:
            taken = joined[offset : span.end].split()
            rest = joined[span.end :].split()
            return len(taken) <= 1 and len(rest) > len(taken)
    return False


def _bounded(parts: list[Part]) -> list[Part]:
    """The last parts within the bounds of a tail; always the very last one."""
    kept: list[Part] = []
    size = 0
    for part in reversed(parts[-_MAX_TAIL_PARTS:]):
        size += len(part.text)
        if kept and size > _MAX_TAIL_CHARS:
            break
        kept.append(part)
    return kept[::-1]
