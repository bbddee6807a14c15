"""Which version of a segment was given out: what memory, the drafts and the store know of it.

A slot given out is remembered (``slots.SlotMemory``), and dropped from memory when there are too
many. From then on the store tells its revision and its content, as far as redaction left it.
Until a draft is stored for certain its slot is not dropped: nothing else knows its revision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from steno.core.records import Draft, Record, SegmentPayload, record_key
from steno.core.transcript import Fragment
from steno.diarisation.caution import may_be, redact_strictly
from steno.diarisation.conversation import Conversation
from steno.diarisation.slots import Slot, SlotMemory, fingerprint_of, rank_of, utterance_of
from steno.redaction.redactor import Redactor

_NOTHING = SegmentPayload("", "", 0, 0, -1.0, 0)
"""Stands for a record that is none of a segment: every version is better."""


class Versions:
    """Compares versions of segments with those given out, of all conversations.

    Call ``taken`` with the drafts of each commit, which means that the one before it is stored,
    and ``put_back`` when it is not.

    Args:
        latest: Returns the newest stored revision of (conversation, key), or None.
        waiting: Returns the drafts that are not taken yet.
        per_conversation: Slots that a conversation remembers.
    """

    def __init__(
        self,
        redactor: Redactor,
        *,
        host_group: str,
        latest: Callable[[str, str], Record | None],
        waiting: Callable[[], Sequence[Draft]],
        per_conversation: int,
    ) -> None:
        self._redactor = redactor
        self._host_group = host_group
        self._latest = latest
        self._waiting = waiting
        self._limit = per_conversation
        self._decode = msgspec.json.Decoder(SegmentPayload).decode
        self._epoch = 1
        self._in_flight: Sequence[Draft] = ()
        self.remembered = 0
        """Slots in memory, over all conversations."""

    # -- commits --------------------------------------------------------------------------

    def taken(self, drafts: Sequence[Draft]) -> None:
        """These drafts are on their way; those taken before are stored."""
        self._in_flight = drafts
        self._epoch += 1

    def put_back(self) -> None:
        """The drafts taken last are not stored, and will be taken again."""
        self._in_flight = ()
        self._epoch -= 1

    @property
    def _stored(self) -> int:
        """Drafts made before this epoch are stored."""
        return self._epoch - 1

    # -- memory ---------------------------------------------------------------------------

    def remember(
        self, state: Conversation, slot: str, fragment: Fragment, revision: int, masks: int
    ) -> None:
        """Take note that a version is given out, or is on its way through redaction."""
        slots = state.slots
        if slots.give_out(slot, fragment, revision=revision, masks=masks, epoch=self._epoch):
            self.remembered += 1
            if len(slots) > self._limit:
                self.trim(state, self._limit)

    def trim(self, state: Conversation, limit: int) -> None:
        """Drop a conversation's slots beyond ``limit``, as far as the store knows them."""
        dropped = state.slots.trim(limit, stored=self._stored)
        if dropped:
            state.more = True
            self.remembered -= dropped

    def forget(self, state: Conversation) -> SlotMemory:
        """Drop a conversation's slots; return those that may not be stored."""
        self.remembered -= len(state.slots)
        return self.unstored(state.slots)

    def unstored(self, slots: SlotMemory) -> SlotMemory:
        """Return those of ``slots`` that may not be stored."""
        return slots.since(self._stored)

    def resume(self, state: Conversation, slots: SlotMemory) -> None:
        """Go on with what ``forget`` returned."""
        state.slots = slots
        state.more = True
        self.remembered += len(slots)

    def recall(self, state: Conversation, slot: str, fragment: Fragment) -> Slot | None:
        """Return what is known of the fragment's slot, from memory, redaction or the store.

        Raises:
            StorageError: It cannot be read.
        """
        given = state.slots.get(slot)
        if given is not None or not state.more:
            return given
        held = state.held_version(slot)
        if held is not None:
            self.remember(state, slot, held.fragment, held.revision, held.masks)
            return state.slots.get(slot)
        record = self._latest(fragment.conversation, self._key(fragment))
        if record is None:
            return None
        given = state.slots.recall(
            slot,
            self._payload(record),
            revision=record.revision,
            has_ids=bool(fragment.utterance),
        )
        self.remembered += 1
        self.trim(state, self._limit)
        return given

    def next_revision(self, fragment: Fragment, given: Slot) -> int:
        """Return the revision for a version in place of the one given out.

        Somebody else may have revised the record: who spoke is known for good after the call.

        Raises:
            StorageError: It cannot be read.
        """
        key = self._key(fragment)
        record = self._latest(fragment.conversation, key)
        stored = -1 if record is None else record.revision
        return max(given.revision, stored, self.on_its_way(key)) + 1

    def on_its_way(self, key: str) -> int:
        """Return the highest revision of a key that is not stored for certain; -1 for none."""
        return max(
            (
                draft.revision
                for drafts in (self._waiting(), self._in_flight)
                for draft in drafts
                if draft.key == key
            ),
            default=-1,
        )

    # -- comparing ------------------------------------------------------------------------

    def is_better(self, fragment: Fragment, other: Fragment) -> bool:
        """Whether ``fragment`` comes after ``other`` in the order of ``slots``.

        Raises:
            RedactionError: All but their texts are equal, and these cannot be redacted.
        """
        rank, before = rank_of(fragment), rank_of(other)
        if rank != before:
            return rank > before
        if fingerprint_of(fragment) == fingerprint_of(other):
            return False
        return self._rest(fragment) > self._rest(other)

    def beats(self, state: Conversation, slot: str, fragment: Fragment, given: Slot) -> bool:
        """Whether ``fragment`` counts in place of the version given out.

        Raises:
            RedactionError: As for ``is_better``.
            StorageError: That version cannot be read.
        """
        rank = rank_of(fragment)
        if rank != given.rank:
            return rank > given.rank
        if fingerprint_of(fragment) == given.fingerprint:
            return False
        held = state.held.get((slot, given.revision))
        if held is not None:
            return self.is_better(fragment, held.fragment)
        stored = self._given_out(fragment)
        if stored is None:
            return False
        alone = self.alone(fragment)
        if given.masks and alone != stored.text and self._is_same(fragment, stored):
            return False
        return (alone, fragment.started_us, fragment.language) > (
            stored.text,
            stored.started_us,
            stored.language,
        )

    def _is_same(self, fragment: Fragment, stored: SegmentPayload) -> bool:
        """Whether it is the same again, whose neighbours told what is secret in it.

        Without them a piece of a number looks harmless, and must not go out.
        """
        if not may_be(fragment.text, stored.text):
            return False
        strict = redact_strictly(self._redactor, fragment.text, language=fragment.language)
        return bool(strict.entities)

    def alone(self, fragment: Fragment) -> str:
        """Return the text as redaction leaves it that knows nothing else.

        Raises:
            RedactionError: It failed.
        """
        return self._redactor.redact(fragment.text, language=fragment.language).text

    def _rest(self, fragment: Fragment) -> tuple[str, int, str, str]:
        return self.alone(fragment), fragment.started_us, fragment.language, fragment.text

    def _given_out(self, fragment: Fragment) -> SegmentPayload | None:
        """Return the newest version of the fragment's slot, stored or on its way there."""
        key = self._key(fragment)
        for drafts in (self._waiting(), self._in_flight):
            for draft in reversed(drafts):
                if draft.key == key:
                    return self._decode(draft.payload)
        record = self._latest(fragment.conversation, key)
        return None if record is None else self._payload(record)

    def _payload(self, record: Record) -> SegmentPayload:
        try:
            return self._decode(record.payload)
        except msgspec.MsgspecError:
            return _NOTHING

    def _key(self, fragment: Fragment) -> str:
        return record_key(
            self._host_group, fragment.conversation, fragment.lane, utterance_of(fragment)
        )
