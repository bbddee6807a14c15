"""From fragments to drafts of records: everything the spine decides, without I/O.

The pipeline takes events with the time they came, and collects what is to be written down:
drafts (redacted), and for each conversation that changed a snapshot of what is still open.
The service takes both out together and commits them in one transaction, so that a kill
between two commits leaves every word either in a record or in the journal.
"""

from __future__ import annotations

import heapq

import msgspec

from steno.core.assembly import MEMORY_S, WINDOW_S, Assembler, UtteranceState
from steno.core.language import LanguageRule, LanguageTracker, SwitchWanted
from steno.core.records import (
    Draft,
    GapCause,
    Kind,
    LanguageChangedPayload,
    Origin,
    SentencePayload,
    record_key,
)
from steno.core.transcript import Fragment, RedactedSentence, Sentence
from steno.errors import RedactionError
from steno.ports import (
    ConversationEnded,
    FeedDown,
    FeedUp,
    LanguageHeard,
    Missing,
    Quarantined,
)
from steno.redaction.carry import MEMORY_S as CARRY_MEMORY_S
from steno.redaction.carry import Carry, CarryState
from steno.redaction.redactor import Redactor
from steno.spine.gaps import GAPS, GapLedger

QUIET_S = 30.0
"""A conversation not heard of for so long gives back the memory of its utterances."""

ACTIVE_US = 5 * 60 * 1_000_000
"""A conversation heard of within this many microseconds is told of a gap of its feed."""


class PipelineSettings(msgspec.Struct, frozen=True):
    """What the pipeline needs to know; times in seconds.

    Attributes:
        host_group: Primary host's name: part of every key, the same for its backup.
        journal_s: Age at which a change of an open window is journalled; most windows close
            before that and cost nothing.
        quiet_span_s: How far apart ``evict`` is called at the most.
        idle_s: A conversation not heard of for so long is forgotten.
        max_conversations: Conversations held at once; beyond, the longest idle one goes.
        quarantines_per_s: Quarantine records stored per second; more are summed up.
        follows_language: Fragments tell how the language changes; else ``language_heard`` does.
    """

    source: str
    host_group: str
    window_s: float = WINDOW_S
    journal_s: float = 0.05
    hold_s: float = 5.0
    language: LanguageRule = LanguageRule()
    quiet_span_s: float = 60.0
    idle_s: float = 300.0
    max_conversations: int = 100_000
    quarantines_per_s: int = 10
    follows_language: bool = True


class ConversationSnapshot(msgspec.Struct, frozen=True):
    """What the journal keeps of one conversation: raw words, so it is sealed on disk."""

    utterances: list[UtteranceState]
    carry: CarryState | None
    language: str


class _Conversation:
    __slots__ = (
        "assembler",
        "carry",
        "changed_s",
        "due",
        "finished",
        "journalled",
        "language",
        "seen_s",
        "seen_us",
    )

    def __init__(self, conversation: str, settings: PipelineSettings, redactor: Redactor) -> None:
        self.assembler = Assembler(conversation, window_s=settings.window_s)
        self.carry = Carry(redactor, hold_s=settings.hold_s)
        self.language = LanguageTracker(settings.language)
        self.seen_s = 0.0
        self.seen_us = 0
        self.due: float | None = None
        self.journalled = False
        self.changed_s = 0.0  # first change that is not journalled
        self.finished = False  # gave something out since the last commit


class Pipeline:
    """The state of all conversations of one live source."""

    def __init__(self, settings: PipelineSettings, redactor: Redactor) -> None:
        self._settings = settings
        self._redactor = redactor
        self._conversations: dict[str, _Conversation] = {}
        self._dirty: set[str] = set()
        self._gone: set[str] = set()  # dropped while journalled
        self._heap: list[tuple[float, str]] = []
        self._languages: dict[str, str] = {}  # of forgotten conversations, where not the first
        self._payload = msgspec.json.Encoder()
        self._snapshot = msgspec.msgpack.Encoder()
        self.drafts: list[Draft] = []
        self._gaps = GapLedger(
            settings.source,
            settings.host_group,
            lambda draft: self.drafts.append(draft),
            quarantines_per_s=settings.quarantines_per_s,
        )
        self.switches: list[tuple[str, SwitchWanted]] = []
        self.withheld = 0
        self.finished = 0
        self.entities: dict[str, int] = {}

    # -- events ---------------------------------------------------------------------------

    def fragment(self, fragment: Fragment, *, now: float, now_us: int) -> None:
        """Take in a fragment; what it finishes is added to ``drafts``."""
        name = fragment.conversation
        state = self._conversations.get(name)
        if state is None:
            state = self._open(name)
        state.seen_s = now
        state.seen_us = now_us
        if self._settings.follows_language:
            wanted = state.language.add(fragment.language, fragment.confidence, now=now)
            if wanted is not None:
                self.switches.append((name, wanted))
        finished = state.assembler.add(fragment, now=now)
        if finished:
            self._finish(state, finished, now)
        if name not in self._dirty:
            self._dirty.add(name)
            state.changed_s = now
        due = state.assembler.next_deadline()
        if due is not None and (state.due is None or due < state.due):
            state.due = due
            heapq.heappush(self._heap, (due, name))

    def ended(self, event: ConversationEnded, *, now: float) -> None:
        """Give out what is open of a conversation that is over."""
        state = self._conversations.get(event.conversation)
        if state is not None:
            self._finish(state, state.assembler.flush(now), now)
            self._release(state, state.carry.flush(now))
            self._dirty.add(event.conversation)

    def next_deadline(self) -> float | None:
        """Return when ``on_deadline`` is due, in monotonic seconds."""
        return self._heap[0][0] if self._heap else None

    def on_deadline(self, now: float) -> None:
        """Close the windows and end the holds that are due."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            due, name = heapq.heappop(heap)
            state = self._conversations.get(name)
            if state is None or state.due != due:
                continue
            state.due = None
            self._finish(state, state.assembler.on_deadline(now), now)
            self._release(state, state.carry.on_deadline(now))
            self._dirty.add(name)
            self._schedule(name, state, now)

    def flush(self, now: float) -> None:
        """Give out everything that is open: the process ends."""
        for name, state in self._conversations.items():
            self._finish(state, state.assembler.flush(now), now)
            self._release(state, state.carry.flush(now))
            self._dirty.add(name)

    # -- gaps -----------------------------------------------------------------------------

    def feed_down(self, event: FeedDown) -> None:
        """Open a gap for the feed, and one for each conversation it was carrying."""
        if self._gaps.is_open(event.feed):
            return  # still down: the gap is open already
        concerned = [""]
        for name, state in self._conversations.items():
            if event.at_us - state.seen_us > ACTIVE_US:
                continue
            if not event.conversations or name in event.conversations:
                concerned.append(name)
                state.assembler.interrupted()
        self.open_gap(event.feed, GapCause(event.cause), event.since_us, event.at_us, concerned)

    def open_gap(
        self, feed: str, cause: GapCause, since_us: int, at_us: int, conversations: list[str]
    ) -> None:
        """Record an open gap for a feed; ``feed_up`` of the feed will close it."""
        self._gaps.open(feed, cause, since_us, at_us, conversations)

    def feed_up(self, event: FeedUp) -> None:
        """Close the feed's gaps, and those of the time before this process."""
        self._gaps.feed_up(event)

    def quarantined(self, event: Quarantined, *, now: float) -> None:
        """Record that a message could not be read; a flood of them is summed up."""
        self._gaps.quarantined(event, now=now)

    def missing(self, event: Missing) -> None:
        """Record an interval of a lane that will not come; it is over already."""
        self._gaps.missing(event)

    # -- language -------------------------------------------------------------------------

    def switch_made(
        self, conversation: str, wanted: SwitchWanted, *, applied: bool, now: float, now_us: int
    ) -> None:
        """The model was switched, or the sinks are told because no such call exists."""
        state = self._conversations.get(conversation)
        if state is not None:
            state.language.switched(wanted.language, now=now)
        payload = LanguageChangedPayload(
            wanted.previous, wanted.language, wanted.mean_confidence, wanted.evidence, applied
        )
        self._draft(
            Kind.LANGUAGE_CHANGED, conversation, "", f"language.{now_us}", 0, now_us, payload
        )

    def language_heard(self, event: LanguageHeard) -> None:
        """Record that a call's language was identified or has changed."""
        payload = LanguageChangedPayload(
            event.previous, event.language, event.confidence, event.evidence, applied=True
        )
        self._draft(
            Kind.LANGUAGE_CHANGED,
            event.conversation,
            event.lane,
            f"language.{event.at_us}",
            0,
            event.at_us,
            payload,
        )

    def switch_failed(self, conversation: str, *, now: float, retry_after_s: float) -> None:
        """The switch failed; the rule may ask again after the delay."""
        state = self._conversations.get(conversation)
        if state is not None:
            state.language.failed(now=now, retry_after_s=retry_after_s)

    # -- what is to be written ------------------------------------------------------------

    def take(self, now: float) -> tuple[list[Draft], dict[str, bytes | None]]:
        """Return the drafts and the snapshots (not yet sealed) that are due.

        A snapshot on disk is replaced in the commit that makes it wrong; a first one is made
        once the change is ``journal_s`` old.
        """
        drafts, self.drafts = self.drafts, []
        windows: dict[str, bytes | None] = {}
        later: set[str] = set()
        old = now - self._settings.journal_s
        for name in self._dirty:
            state = self._conversations.get(name)
            if state is None:
                continue
            finished, state.finished = state.finished, False
            young = state.changed_s > old
            if young and not (finished and state.journalled):
                # Nothing on disk is wrong: what is open may still close within its time.
                if not finished:
                    later.add(name)
                elif state.carry.remembers(now) or state.assembler.unfinished(now):
                    state.changed_s = now
                    later.add(name)
                continue
            carried = state.carry.remembers(now)
            if carried or state.assembler.unfinished(now):
                windows[name] = self._snapshot.encode(
                    ConversationSnapshot(
                        state.assembler.snapshot(now),
                        state.carry.snapshot() if carried else None,
                        state.language.current,
                    )
                )
                state.journalled = True
                if state.due is None:
                    self._schedule(name, state, now)
            elif state.journalled:
                windows[name] = None
                state.journalled = False
        for name in self._gone:
            windows.setdefault(name, None)
        if self._gaps.changed:
            windows[GAPS] = self._gaps.snapshot()
        self._dirty = later
        self._gone.clear()
        return drafts, windows

    def put_back(self, drafts: list[Draft], windows: dict[str, bytes | None]) -> None:
        """A commit failed: its drafts come first in the next, its snapshots are made anew."""
        self.drafts[:0] = drafts
        for name, snapshot in windows.items():
            state = self._conversations.get(name)
            if name == GAPS:
                self._gaps.changed = True
            elif state is not None:
                state.journalled = state.journalled or snapshot is None
                state.finished = True
                self._dirty.add(name)
            elif snapshot is None:
                self._gone.add(name)

    @property
    def dirty(self) -> bool:
        """Whether ``take`` would return anything."""
        return bool(self._dirty or self.drafts or self._gone or self._gaps.changed)

    def restore(self, conversation: str, snapshot: bytes, *, now: float, now_us: int) -> None:
        """Go on with a conversation from its journalled snapshot, or with the open gaps.

        Raises:
            RedactionError: It cannot be read; what was open is lost and must be reported.
        """
        if conversation == GAPS:
            self._gaps.restore(snapshot)
            return
        try:
            saved = msgspec.msgpack.decode(snapshot, type=ConversationSnapshot)
        except msgspec.MsgspecError:
            raise RedactionError("a journalled window is damaged") from None
        state = self._open(conversation)
        state.seen_s, state.seen_us = now, now_us
        state.language.current = saved.language
        state.assembler.restore(saved.utterances, now=now)
        if saved.carry is not None:
            state.carry.restore(saved.carry, now=now)
        state.journalled = True
        self._schedule(conversation, state, now)

    def evict(self, now: float) -> int:
        """Forget conversations that have been idle; return how many.

        Of the quiet ones only the language and what redaction needs is kept.
        """
        limit = now - self._settings.idle_s
        for state in self._conversations.values():
            if QUIET_S < now - state.seen_s <= QUIET_S + self._settings.quiet_span_s:
                state.assembler.forget(now)
        idle = [
            name
            for name, state in self._conversations.items()
            if state.seen_s < limit and not state.journalled and name not in self._dirty
        ]
        for name in idle:
            self._forget(name, self._conversations.pop(name))
        return len(idle)

    @property
    def conversations(self) -> int:
        """Conversations held."""
        return len(self._conversations)

    @property
    def open_windows(self) -> int:
        """Utterances with words that have not been given out."""
        return sum(state.assembler.open_windows for state in self._conversations.values())

    # -- inside ---------------------------------------------------------------------------

    def _open(self, name: str) -> _Conversation:
        if len(self._conversations) >= self._settings.max_conversations:
            self._drop_one()
        state = self._conversations[name] = _Conversation(name, self._settings, self._redactor)
        language = self._languages.pop(name, "")
        if language:
            state.language.current = language
        return state

    def _forget(self, name: str, state: _Conversation) -> None:
        """Keep of a conversation only the language it was switched to, should it go on."""
        if state.language.current != self._settings.language.initial:
            self._languages[name] = state.language.current
            if len(self._languages) > self._settings.max_conversations:
                del self._languages[next(iter(self._languages))]

    def _drop_one(self) -> None:
        """Make room: the conversation heard of the longest ago gives out what it has."""
        name = min(self._conversations, key=lambda each: self._conversations[each].seen_s)
        state = self._conversations.pop(name)
        self._dirty.discard(name)
        if state.journalled:
            self._gone.add(name)
        self._finish(state, state.assembler.flush(state.seen_s), state.seen_s)
        self._release(state, state.carry.flush(state.seen_s))
        self._forget(name, state)

    def _schedule(self, name: str, state: _Conversation, now: float) -> None:
        due = state.assembler.next_deadline()
        hold = state.carry.next_deadline()
        if hold is not None and (due is None or hold < due):
            due = hold
        if due is None and state.journalled:
            # Look once more, to take it out of the journal.
            due = now + (CARRY_MEMORY_S if state.carry.remembers(now) else MEMORY_S) + 1.0
        if due is not None and (state.due is None or due < state.due):
            state.due = due
            heapq.heappush(self._heap, (due, name))

    def _finish(self, state: _Conversation, finished: list[Sentence], now: float) -> None:
        state.finished = state.finished or bool(finished)
        for sentence in finished:
            try:
                released = state.carry.push(sentence, now=now)
            except RedactionError:
                self._withhold(sentence)
                continue
            if released:
                self._release(state, released)
        if finished and state.carry.holding:
            self._schedule(state.assembler.conversation, state, now)

    def failed(self, fragment: Fragment, cause: str) -> None:
        """A fragment could not be worked through: its words are missing, and a gap says so."""
        at_us = fragment.at_us
        self.withheld += 1
        self._gaps.withheld(
            fragment.conversation,
            fragment.lane,
            f"{at_us}",
            cause,
            from_us=at_us,
            to_us=at_us,
            at_us=at_us,
        )

    def _withhold(self, sentence: Sentence) -> None:
        """Redaction failed: the words go nowhere, and a gap says that they are missing."""
        self.withheld += 1
        self._gaps.withheld(
            sentence.conversation,
            sentence.lane,
            sentence.utterance,
            "RedactionError",
            from_us=sentence.started_us,
            to_us=sentence.ended_us,
            at_us=sentence.completed_us,
        )

    def _release(self, state: _Conversation, released: list[RedactedSentence]) -> None:
        state.finished = state.finished or bool(released)
        for each in released:
            sentence = each.sentence
            if not each.text:
                continue
            if each.entities:
                for entity, number in each.entities.items():
                    self.entities[entity] = self.entities.get(entity, 0) + number
            self.finished += 1
            payload = SentencePayload(
                sentence.lane,
                each.text,
                sentence.language,
                sentence.confidence,
                sentence.started_us,
                sentence.ended_us,
                sentence.completed_us,
                sentence.role.value,
                each.entities,
            )
            self.drafts.append(
                Draft(
                    Kind.SENTENCE,
                    self._settings.source,
                    sentence.conversation,
                    sentence.lane,
                    sentence.utterance,
                    sentence.revision,
                    record_key(
                        self._settings.host_group,
                        sentence.conversation,
                        sentence.lane,
                        sentence.utterance,
                    ),
                    Origin.LIVE,
                    sentence.completed_us,
                    self._payload.encode(payload),
                    sentence.received_s,
                )
            )

    def _draft(
        self,
        kind: Kind,
        conversation: str,
        lane: str,
        utterance: str,
        revision: int,
        at_us: int,
        payload: msgspec.Struct,
    ) -> None:
        key = record_key(self._settings.host_group, conversation, lane, utterance)
        self.drafts.append(
            Draft(
                kind,
                self._settings.source,
                conversation,
                lane,
                utterance,
                revision,
                key,
                Origin.LIVE,
                at_us,
                self._payload.encode(payload),
            )
        )
