"""The machine that makes segment records of pieces of speech.

The way of a final, by its slot (``slots``: which of several versions counts):

    heard ──judged──► audit            no speaker, low confidence, impossible times
      │
      └──► waiting ──settled──► carried ──released──► given out
             ▲ │ a better one     │                      │ remembered, then dropped from memory;
             └─┘ takes its place  └► withheld (a gap)    │ the store knows it still
                                                         │
             waiting ◄──────── a better one ─────────────┘  goes out one revision higher

It waits so that neighbours which come out of order go through redaction in their place: numbers
run over several segments. When the wait of one is over everything placed before it goes too, so
the order is that of the conversation whenever all comes within the wait. What comes later is
redacted in order of arrival.

Partials never become records. They are kept to tell which of them never got their final.

The service commits what ``take`` returns before it calls ``take`` again, or puts it back: that is
how the machine knows which revisions the store knows.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import inf

import msgspec

from steno.core.language import SwitchWanted
from steno.core.records import AuditReason, Draft, GapCause, Record
from steno.core.transcript import Fragment, RedactedSentence, Sentence
from steno.diarisation.causes import Cause, Causes
from steno.diarisation.caution import Labels, redact_strictly
from steno.diarisation.conversation import Conversation, Held, Place
from steno.diarisation.drafts import DraftMaker, audit_name, bounded
from steno.diarisation.roster import Attribution, Who
from steno.diarisation.slots import (
    SEPARATOR,
    UNKNOWN,
    Slot,
    SlotMemory,
    fingerprint_of,
    has_bad_times,
    slot_of,
    utterance_of,
)
from steno.diarisation.versions import Versions
from steno.errors import RedactionError, StorageError
from steno.ports import (
    ConversationEnded,
    FeedDown,
    FeedUp,
    LanguageHeard,
    Missing,
    Quarantined,
)
from steno.redaction.carry import MEMORY_S as CARRY_MEMORY_S
from steno.redaction.carry import Carry
from steno.redaction.redactor import Redacted, Redactor
from steno.spine.gaps import GAPS, GapLedger

ACTIVE_US = 5 * 60 * 1_000_000
"""A conversation heard of within this many microseconds is told of a gap of its feed."""

LISTENS = 10_000
"""So many finals after its last partial a source is taken for one that sends none: it is no longer
remembered where finals were, for partials that come behind theirs."""

REPLAYED = f"{SEPARATOR}replayed"
"""Behind a slot's name: what of it redaction has heard once more, of input that is read again."""

_REPLAY = -1  # revision of a sentence that redaction hears, and nobody else

ASK_AGAIN_S = 0.5
"""How often the attribution is asked again, or the store when it could not be read."""


class SegmentSettings(msgspec.Struct, frozen=True):
    """What the machine needs to know; times in seconds.

    Attributes:
        host_group: Primary host's name: part of every key, the same for its backup.
        audit_confidence: A final below it goes to the audit.
        settle_s: How long a final waits for versions and neighbours out of order, from its
            arrival; ``inf`` where ``horizon_s`` alone decides.
        horizon_s: Recorded input: a final waits until its conversation's own clock is so far past
            its end. None: only ``settle_s`` counts.
        hold_s: The longest redaction holds a segment that ends in what may become a secret; by
            ``horizon_s`` alone, until that speaker goes on or the conversation is closed.
        late_s: How long after the end of a communication its finals may come.
        roster_wait_s: How much longer a segment waits to learn who spoke.
        journal_s: Age at which a change is journalled; ``inf``: there is no journal, because
            the input can be played again.
        idle_s: A conversation not heard of for so long is closed and forgotten.
        max_conversations: Conversations held at once; beyond, those idle longest go.
        max_slots_per_conversation: Segments given out that a conversation remembers; the store
            is asked about others.
        max_remembered: The same over all conversations.
        max_waiting: Finals of a conversation that wait; beyond, they wait no longer.
        max_waiting_in_all: The same over all conversations, from the one idle longest.
        max_partials: Partials of a conversation that wait for their final; beyond, the one opened
            first is given up (``never_final``).
        max_causes: Conversations kept for ``causes`` after they are forgotten.
        quarantines_per_s: Quarantine records stored per second; more are summed up.
    """

    source: str
    host_group: str
    audit_confidence: float = 0.5
    settle_s: float = 2.0
    horizon_s: float | None = None
    hold_s: float = 5.0
    late_s: float = 60.0
    roster_wait_s: float = 10.0
    journal_s: float = 0.05
    idle_s: float = 300.0
    max_conversations: int = 100_000
    max_slots_per_conversation: int = 2048
    max_remembered: int = 200_000
    max_waiting: int = 1024
    max_waiting_in_all: int = 50_000
    max_partials: int = 128
    max_causes: int = 1000
    quarantines_per_s: int = 10


class SegmentPipeline:
    """The segments of all conversations of one source. A ``spine.machine.Machine``.

    Args:
        latest: Returns the newest stored revision of (conversation, key), or None.
        knows: Whether any record of a conversation is stored.
    """

    def __init__(
        self,
        settings: SegmentSettings,
        redactor: Redactor,
        attribution: Attribution,
        *,
        latest: Callable[[str, str], Record | None],
        knows: Callable[[str], bool],
    ) -> None:
        self._settings = settings
        self._redactor = redactor
        self._attribution = attribution
        self._knows = knows
        self._settle_s = settings.settle_s
        self._horizon_us = None if settings.horizon_s is None else round(settings.horizon_s * 1e6)
        self._journals = settings.journal_s < inf
        self._own_clock = self._horizon_us is not None and settings.settle_s == inf
        self._replays = self._own_clock and not self._journals
        self._labels = Labels(redactor)
        self._shown = self._labels.shown
        self._make = DraftMaker(settings.source, settings.host_group)
        self._versions = Versions(
            redactor,
            host_group=settings.host_group,
            latest=latest,
            waiting=lambda: self.drafts,
            per_conversation=settings.max_slots_per_conversation,
        )
        self._conversations: dict[str, Conversation] = {}
        self._waiting = 0  # finals, over all conversations
        self._listens = LISTENS
        self._dirty: set[str] = set()
        self._gone: set[str] = set()  # dropped while journalled
        self._limbo: dict[str, SlotMemory] = {}  # dropped before their drafts were stored
        self._causes = Causes(settings.max_causes)
        self._heap: list[tuple[float, str]] = []
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
        """Segments given out, each revision."""
        self.repeats = 0
        """Finals dropped: known already, or a worse version of one that is."""
        self.corrected = 0
        """Segments given out again because a better version came."""
        self.audited: dict[str, int] = {}
        """Audit records made, by reason."""
        self.entities: dict[str, int] = {}

    # -- events ---------------------------------------------------------------------------

    def fragment(self, fragment: Fragment, *, now: float, now_us: int) -> None:
        """Take in a piece of speech."""
        name = fragment.conversation
        state = self._conversations.get(name)
        if state is None:
            state = self._open(name)
        state.seen_s = now
        state.seen_us = now_us
        if fragment.utterance:
            state.has_ids = True
        elif not self._shown.get(fragment.lane):
            fragment = self._labels.relabelled(fragment)
        self._attribution.heard(fragment, now=now)
        if has_bad_times(fragment):
            self._out_of_time(state, fragment, now)
            return
        if fragment.ended_us > state.clock_us:
            state.clock_us = fragment.ended_us
        if fragment.is_final:
            self._final(state, fragment, now)
        else:
            self._partial(state, fragment, now)
        horizon_us = self._horizon_us
        if horizon_us is not None:
            order = state.order
            if order and order[0][0] + horizon_us <= state.clock_us:
                self._settle(state, state.past_horizon(horizon_us), now)
                if state.held or state.asked_s is not None:
                    self._schedule(state, now)

    def ended(self, event: ConversationEnded, *, now: float) -> None:
        """Give out what is open of a conversation, or of one of its communications.

        A segment waits on to learn who spoke: a roster may take longer than the call. A partial
        waits on for its final: transcripts come late.
        """
        state = self._conversations.get(event.conversation)
        if state is None:
            return
        self._settle(state, len(state.order), now)
        self._release(state, state.carry.flush(state.time(now)), now)
        if not self._own_clock:  # recorded input tells by its end that nothing comes any more
            state.over[event.communication] = now + self._settings.late_s
        self._schedule(state, now)

    def next_deadline(self) -> float | None:
        """Return when ``on_deadline`` is due, in monotonic seconds."""
        return self._heap[0][0] if self._heap else None

    def on_deadline(self, now: float) -> None:
        """Give out what has waited long enough, and end the holds that are due."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            due, name = heapq.heappop(heap)
            state = self._conversations.get(name)
            if state is None or state.due != due:
                continue
            state.due = None
            self._settle(state, state.waited(now, self._settle_s, self._horizon_us), now)
            if state.held and not self._own_clock:
                self._release(state, state.carry.on_deadline(now), now)
            for communication, late in list(state.over.items()):
                if late <= now:
                    del state.over[communication]
                    self._give_up(state, now, communication)
            self._mark(state, now)
            self._schedule(state, now)

    def flush(self, now: float) -> None:
        """Give out all finals: the process ends.

        Partials stay in the journal: their finals may come after a restart. Without a journal,
        and of what is over, they go to the audit.
        """
        for state in list(self._conversations.values()):
            self._close(state, now, give_up=not self._journals)
            for communication in state.over:
                self._give_up(state, now, communication)
            state.over.clear()
            if self._journals:
                self._dirty.add(state.name)
                state.changed_s = -inf  # old enough to be journalled at once

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

    def failed(self, fragment: Fragment, cause: str) -> None:
        """A piece could not be worked through: its words are missing, and a gap says so."""
        if not fragment.utterance:
            try:
                fragment = self._labels.relabelled(fragment)
            except Exception:  # noqa: BLE001 - the label may be what failed: it is left out
                fragment = msgspec.structs.replace(fragment, lane="")
        self._withhold(fragment, cause)

    # -- language: a segment keeps its own, and no platform is told ------------------------

    def language_heard(self, event: LanguageHeard) -> None:
        """Do nothing: each segment has its language."""

    def switch_made(
        self, conversation: str, wanted: SwitchWanted, *, applied: bool, now: float, now_us: int
    ) -> None:
        """Do nothing: no switch is ever asked for."""

    def switch_failed(self, conversation: str, *, now: float, retry_after_s: float) -> None:
        """Do nothing: no switch is ever asked for."""

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
            if state.changed_s > old and not (finished and state.journalled):
                # Nothing on disk is wrong: what is open may still be given out within its time.
                if not finished:
                    later.add(name)
                elif state.is_open(now):
                    state.changed_s = now
                    later.add(name)
                continue
            if state.is_open(now):
                windows[name] = state.snapshot(now)
                state.journalled = True
                if state.due is None:
                    self._schedule(state, now)
            elif state.journalled:
                windows[name] = None
                state.journalled = False
        for name in self._gone:
            windows.setdefault(name, None)
        if self._gaps.changed:
            windows[GAPS] = self._gaps.snapshot()
        self._dirty = later
        self._gone.clear()
        self._versions.taken(drafts)
        if self._limbo:
            left = {name: self._versions.unstored(slots) for name, slots in self._limbo.items()}
            self._limbo = {name: slots for name, slots in left.items() if len(slots)}
        return drafts, windows

    def put_back(self, drafts: list[Draft], windows: dict[str, bytes | None]) -> None:
        """A commit failed: its drafts come first in the next, its snapshots are made anew."""
        self.drafts[:0] = drafts
        self._versions.put_back()
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
        """Whether ``take`` would return anything, now or a little later."""
        return bool(self._dirty or self.drafts or self._gone or self._gaps.changed)

    def restore(self, conversation: str, snapshot: bytes, *, now: float, now_us: int) -> None:
        """Go on with a conversation from its journalled snapshot, or with the open gaps.

        Raises:
            RedactionError: It cannot be read; what was open is lost and must be reported.
        """
        if conversation == GAPS:
            self._gaps.restore(snapshot)
            return
        state = self._new(conversation)
        state.restore(snapshot, now=now)
        state.seen_s, state.seen_us = now, now_us
        state.more = True  # what it gave out before is in the store, and in no snapshot
        self._conversations[conversation] = state
        self._waiting += len(state.order)
        for (slot, revision), held in state.held.items():
            self._versions.remember(state, slot, held.fragment, revision, held.masks)
        for place in state.order:
            self._attribution.heard(place[3], now=now)
        self._schedule(state, now)

    def evict(self, now: float) -> int:
        """Close conversations that have been idle, and forget them; return how many.

        One that is in the journal is deleted there first, and forgotten the next time.
        """
        limit = now - self._settings.idle_s
        idle = [state for state in self._conversations.values() if state.seen_s < limit]
        before = len(self._conversations)
        for state in idle:
            if self._conversations.get(state.name) is not state:
                continue  # forgotten while another was closed
            if state.busy:
                self._close(state, now, give_up=True)
            if state.journalled and self._own_clock:
                state.carry = self._carry()  # its time stands still: it would never forget
                self._gave(state, now)
            if not state.journalled and state.name not in self._dirty:
                self._forget(state)
        return before - len(self._conversations)

    @property
    def conversations(self) -> int:
        """Conversations held in memory."""
        return len(self._conversations)

    @property
    def open_windows(self) -> int:
        """Finals that have not been given out, and partials whose final has not come."""
        states = self._conversations.values()
        return self._waiting + sum(len(each.held) + len(each.partials) for each in states)

    @property
    def remembered(self) -> int:
        """Segments and audit records in memory, by their slots."""
        return self._versions.remembered

    @property
    def speakerless(self) -> dict[str, tuple[int, int, int]]:
        """Finals, speakerless finals and partials of each conversation in ``causes``."""
        return {
            each.conversation: (each.finals, each.speakerless, each.partials)
            for each in self.causes()
        }

    def causes(self) -> list[Cause]:
        """Return the conversations of this run in which no final named a speaker, and why.

        Of those that are forgotten the newest ``max_causes`` are known.
        """
        return self._causes.all(self._conversations.values())

    # -- finals ---------------------------------------------------------------------------

    def _final(self, state: Conversation, fragment: Fragment, now: float) -> None:
        lane = fragment.lane
        slot = f"{lane}{SEPARATOR}{fragment.utterance or f's{fragment.started_us // 1000}'}"
        state.finals += 1
        if self._listens:
            self._listens -= 1
            state.partials.final(slot, fragment)
        if not lane:
            state.speakerless += 1
            self._audit(state, AuditReason.NO_SPEAKER, fragment, now)
            return
        if not fragment.utterance:
            state.named = True
        if not fragment.confidence >= self._settings.audit_confidence:  # NaN too
            self._audit(state, AuditReason.LOW_CONFIDENCE, fragment, now)
            return
        waiting = state.waiting.get(slot)
        if waiting is not None:
            if not self._versions.is_better(fragment, waiting[3]):
                self.repeats += 1
                return
            state.replace(slot, fragment)
        else:
            given = state.slots.get(slot)
            if (given is not None or state.more) and self._is_repeat(state, slot, fragment, given):
                self.repeats += 1
                state.slots.touch(slot)
                return
            state.wait(slot, fragment, now)
            self._waiting += 1
            if len(state.order) > self._settings.max_waiting:
                self._settle(state, len(state.order), now, patient=False)
            elif self._waiting > self._settings.max_waiting_in_all:
                self._relieve(now)
        if self._journals and state.name not in self._dirty:
            self._dirty.add(state.name)
            state.changed_s = now
        due = now + self._settle_s
        if due < inf and (state.due is None or state.due > due):
            self._schedule(state, now)

    def _is_repeat(
        self, state: Conversation, slot: str, fragment: Fragment, given: Slot | None
    ) -> bool:
        """Whether a final, or a better one, was given out; False where that is not known yet."""
        try:
            if given is None:
                given = self._versions.recall(state, slot, fragment)
            if given is not None and self._replays and given.fingerprint == UNKNOWN:
                given = state.slots.get(slot + REPLAYED)
            return given is not None and not self._versions.beats(state, slot, fragment, given)
        except StorageError:
            return False  # it is asked again when the wait is over

    def _settle(self, state: Conversation, last: int, now: float, *, patient: bool = True) -> None:
        """Give the first ``last`` in order to redaction, as far as it is known who spoke.

        Nothing overtakes one of which it is not: a number may go on from one to the next.
        """
        state.asked_s = None
        gone = 0
        for place in state.order[:last]:
            if not self._went(state, place, now, patient=patient):
                state.asked_s = now
                break
            del state.waiting[place[2]]
            gone += 1
        if gone:
            del state.order[:gone]
            self._waiting -= gone
            self._gave(state, now)

    def _went(self, state: Conversation, place: Place, now: float, *, patient: bool) -> bool:
        """Give one to redaction; False when it has to wait on."""
        slot, fragment, arrived_s = place[2:]
        settings = self._settings
        if patient:
            settle_s = self._settle_s if self._settle_s < inf else 0.0
            patient = now < arrived_s + settle_s + settings.roster_wait_s
        try:
            who = self._attribution.who(fragment, now=now)
            if who is None:
                if patient:
                    return False
                who = self._attribution.fallback(fragment)
            self._give(state, slot, fragment, who, now)
        except StorageError as error:
            if patient:
                return False
            self._withhold(fragment, type(error).__name__)
        except Exception as error:  # noqa: BLE001 - one segment must not stop the others
            self._withhold(fragment, type(error).__name__)
        return True

    def _give(
        self, state: Conversation, slot: str, fragment: Fragment, who: Who, now: float
    ) -> None:
        """Give a segment to redaction, and out what that lets go."""
        if not who.speaker:
            state.speakerless += 1
            self._audit(state, AuditReason.NO_SPEAKER, fragment, now, who)
            return
        state.named = True
        versions = self._versions
        revision = masks = 0
        given = state.slots.get(slot)
        if given is None and state.more:
            given = versions.recall(state, slot, fragment)
        if given is not None:
            if not versions.beats(state, slot, fragment, given):
                self.repeats += 1
                if self._replays and given.fingerprint == UNKNOWN:
                    self._replay(state, slot, fragment, now)
                return
            revision, masks = versions.next_revision(fragment, given), given.masks
            self.corrected += 1
        sentence = _sentence(fragment, revision)
        released = state.carry.push(sentence, now=self._heard_s(fragment, now))
        versions.remember(state, slot, fragment, revision, masks)
        if len(released) == 1 and released[0].sentence is sentence:
            self._write(state, slot, fragment, who, masks, released[0])
        else:
            state.held[slot, revision] = Held(fragment, who, revision, masks)
            self._release(state, released, now)
        if versions.remembered > self._settings.max_remembered:
            self._shrink(state)

    def _replay(self, state: Conversation, slot: str, fragment: Fragment, now: float) -> None:
        """Let redaction hear once more what the store has, when input is read again.

        Without it a number whose beginning is stored would lose it, and its end would go out.
        """
        self._versions.remember(state, slot + REPLAYED, fragment, 0, 0)
        sentence = _sentence(fragment, _REPLAY)
        released = state.carry.push(sentence, now=self._heard_s(fragment, now))
        self._release(state, released, now)

    def _heard_s(self, fragment: Fragment, now: float) -> float:
        return fragment.ended_us / 1e6 if self._own_clock else now

    def _release(self, state: Conversation, released: list[RedactedSentence], now: float) -> None:
        """Give out what redaction had held."""
        for each in released:
            sentence = each.sentence
            if sentence.revision == _REPLAY:
                continue
            slot = f"{sentence.lane}{SEPARATOR}{sentence.utterance}"
            held = state.held.pop((slot, sentence.revision))
            try:
                self._versions.remember(state, slot, held.fragment, held.revision, held.masks)
                self._write(state, slot, held.fragment, held.who, held.masks, each)
            except Exception as error:  # noqa: BLE001 - one segment must not stop the others
                self._withhold(held.fragment, type(error).__name__)
        if released:
            self._gave(state, now)

    def _write(
        self,
        state: Conversation,
        slot: str,
        fragment: Fragment,
        who: Who,
        masks: int,
        redacted: RedactedSentence,
    ) -> None:
        """Make the draft of a segment.

        Args:
            masks: Number of spans removed from the version before. With fewer now, its
                neighbours may have told what is secret in it: every number counts as such.
        """
        text, entities, sentence = redacted.text, redacted.entities, redacted.sentence
        if entities or masks:
            if sum(entities.values()) < masks:
                strict = self._strictly(fragment)
                text, entities = strict.text, strict.entities
            masks = sum(entities.values())
            self._versions.remember(state, slot, fragment, sentence.revision, masks)
            self._count(entities)
        self.finished += 1
        self.drafts.append(
            self._make.segment(fragment, sentence.utterance, sentence.revision, who, text, entities)
        )

    def adopt(self, draft: Draft) -> None:
        """Take in a revision that somebody else has made of a stored segment.

        It keeps the segment's words and tells who spoke. One that a version of ours has
        overtaken meanwhile is dropped: the next look at the conversation makes it again.
        """
        if draft.revision > self._versions.on_its_way(draft.key):
            self.drafts.append(draft)

    # -- partials and the audit -----------------------------------------------------------

    def _partial(self, state: Conversation, fragment: Fragment, now: float) -> None:
        state.pieces += 1
        self._listens = LISTENS
        slot = slot_of(fragment)
        if slot in state.waiting or slot in state.slots:
            return
        before = len(state.partials)
        lost = state.partials.add(slot, fragment)
        if lost is not None:
            self._never_final(state, lost, now)
        if before or len(state.partials):
            self._mark(state, now)

    def _give_up(self, state: Conversation, now: float, communication: str = "") -> None:
        """Send the partials of a communication, or all, to the audit: their final never came."""
        if not len(state.partials):
            return
        for fragment in state.partials.take(communication):
            self._never_final(state, fragment, now)
        self._gave(state, now)

    def _never_final(self, state: Conversation, fragment: Fragment, now: float) -> None:
        try:
            if self._versions.recall(state, slot_of(fragment), fragment) is not None:
                return  # it came long ago
        except StorageError:
            pass  # one too many in the audit rather than one too few
        self._audit(state, AuditReason.NEVER_FINAL, fragment, now)

    def _out_of_time(self, state: Conversation, fragment: Fragment, now: float) -> None:
        """Deal with a piece whose times cannot be; a partial that has none says nothing."""
        if not fragment.is_final:
            state.pieces += 1
            return
        state.finals += 1
        if fragment.utterance:
            state.partials.final_without_times(slot_of(fragment), fragment)
        self._audit(state, AuditReason.BAD_TIMES, bounded(fragment), now)

    def _audit(
        self,
        state: Conversation,
        reason: AuditReason,
        fragment: Fragment,
        now: float,
        who: Who | None = None,
    ) -> None:
        """Make the audit record of a piece that does not enter the result; repeats make none."""
        name = audit_name(reason, fragment)
        slot = f"{fragment.lane}{SEPARATOR}{name}"
        known = state.slots.get(slot)
        if known is not None and known.fingerprint == fingerprint_of(fragment):
            self.repeats += 1
            state.slots.touch(slot)
            return
        try:
            redacted = self._strictly(fragment)
        except RedactionError as error:
            self._withhold(fragment, type(error).__name__)
            return
        self._count(redacted.entities)
        if who is None:
            who = self._attribution.who(fragment, now=now) or self._attribution.fallback(fragment)
        self.audited[reason] = self.audited.get(reason, 0) + 1
        self._versions.remember(state, slot, fragment, 0, 0)
        self.drafts.append(
            self._make.audit(fragment, name, reason, who, redacted.text, redacted.entities)
        )
        if self._versions.remembered > self._settings.max_remembered:
            self._shrink(state)

    def _strictly(self, fragment: Fragment) -> Redacted:
        return redact_strictly(self._redactor, fragment.text, language=fragment.language)

    def _count(self, entities: dict[str, int]) -> None:
        for entity, number in entities.items():
            self.entities[entity] = self.entities.get(entity, 0) + number

    def _withhold(self, fragment: Fragment, cause: str) -> None:
        """Nothing of it goes out, and a gap says what is missing."""
        self.withheld += 1
        at_us = fragment.at_us
        placed = bool(fragment.ended_us) and not has_bad_times(fragment)
        self._gaps.withheld(
            fragment.conversation,
            fragment.lane,
            f"{utterance_of(bounded(fragment))}.{at_us}",
            cause,
            from_us=fragment.started_us if placed else at_us,
            to_us=fragment.ended_us if placed else at_us,
            at_us=at_us,
        )

    # -- conversations --------------------------------------------------------------------

    def _new(self, name: str) -> Conversation:
        return Conversation(
            name,
            self._carry(),
            max_partials=self._settings.max_partials,
            own_clock=self._own_clock,
        )

    def _carry(self) -> Carry:
        return Carry(self._redactor, hold_s=self._settings.hold_s)

    def _open(self, name: str) -> Conversation:
        if len(self._conversations) >= self._settings.max_conversations:
            self._drop_some()
        state = self._new(name)
        try:
            state.more = self._knows(name)
        except StorageError:
            state.more = True
        limbo = self._limbo.pop(name, None)
        if limbo is not None:
            self._versions.resume(state, limbo)
        self._causes.resume(state)
        self._conversations[name] = state
        return state

    def _close(self, state: Conversation, now: float, *, give_up: bool) -> None:
        """Give out what is open, waiting for nobody."""
        self._settle(state, len(state.order), now, patient=False)
        self._release(state, state.carry.flush(state.time(now)), now)
        if give_up:
            self._give_up(state, now)

    def _forget(self, state: Conversation) -> None:
        """Drop what is in memory of a conversation with nothing open."""
        name = state.name
        del self._conversations[name]
        self._attribution.forget(name)
        unstored = self._versions.forget(state)
        if len(unstored):
            self._limbo[name] = unstored
        self._causes.forget(state)

    def _drop_some(self) -> None:
        """Make room: the conversations heard of the longest ago give out what they have.

        A few at once, because finding them takes a look at all.
        """
        states = self._conversations.values()
        number = 1 + len(states) // 64
        for state in heapq.nsmallest(number, states, key=_seen):
            if self._conversations.get(state.name) is not state:
                continue  # forgotten while another was closed
            self._close(state, state.seen_s, give_up=True)
            self._dirty.discard(state.name)
            if state.journalled:
                self._gone.add(state.name)
            self._forget(state)

    def _relieve(self, now: float) -> None:
        """Let the finals of the conversations idle longest wait no longer."""
        goal = self._settings.max_waiting_in_all - self._settings.max_waiting_in_all // 8
        waiting = (state for state in self._conversations.values() if state.waiting)
        for state in sorted(waiting, key=_seen):
            if self._waiting <= goal:
                return
            self._close(state, now, give_up=False)

    def _shrink(self, current: Conversation) -> None:
        """Forget conversations with nothing open, those heard of the longest ago first.

        Where that is not enough, slots of the others, and in the end of ``current``.
        """
        versions = self._versions
        goal = self._settings.max_remembered - self._settings.max_remembered // 8
        states = sorted(self._conversations.values(), key=_seen)
        now = states[-1].seen_s
        for state in states:
            if versions.remembered <= goal:
                return
            if state is current or state.journalled or state.name in self._dirty:
                continue
            if not state.busy and (self._own_clock or not state.remembers(now)):
                self._forget(state)
        for state in states:
            if versions.remembered <= goal:
                return
            if state is not current and state.name in self._conversations:
                versions.trim(state, 0)
        versions.trim(current, max(0, len(current.slots) - (versions.remembered - goal)))

    def _gave(self, state: Conversation, now: float) -> None:
        """What is on disk of a conversation is wrong from here on."""
        state.finished = True
        self._mark(state, now)

    def _mark(self, state: Conversation, now: float) -> None:
        if self._journals and state.name not in self._dirty:
            self._dirty.add(state.name)
            state.changed_s = now

    def _schedule(self, state: Conversation, now: float) -> None:
        due = inf
        if state.asked_s is not None:
            due = state.asked_s + ASK_AGAIN_S
        elif state.waiting:
            due = next(iter(state.waiting.values()))[4] + self._settle_s
        if state.held and not self._own_clock:
            due = min(due, state.carry.next_deadline() or due)
        if state.over:
            due = min(due, *state.over.values())
        if due == inf and state.journalled and state.remembers(now):
            due = now + CARRY_MEMORY_S + 1.0  # look once more, to take it out of the journal
        if due < inf and (state.due is None or due < state.due):
            state.due = due
            heapq.heappush(self._heap, (due, state.name))


def _seen(state: Conversation) -> float:
    return state.seen_s


def _sentence(fragment: Fragment, revision: int) -> Sentence:
    return Sentence(
        fragment.conversation,
        fragment.lane,
        fragment.utterance or f"s{fragment.started_us // 1000}",
        revision,
        fragment.text,
        fragment.language,
        fragment.confidence,
        fragment.started_us,
        fragment.ended_us,
        fragment.at_us,
    )
