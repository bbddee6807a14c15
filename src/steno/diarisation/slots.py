"""Which of several versions of one segment counts, and what is remembered of it.

A **slot** is the place of one segment in its conversation: the source's utterance where it has
ids, else the speaker and the millisecond the speech starts at. Of several finals of one slot the
greatest counts, by an order over their content alone, so it does not matter when they come:

    with utterance ids   (event time, end, confidence, text, start, language)
    without              (end, confidence, text, start, language)

The event's time is part of a notification; of an event of the event socket it is our receipt,
and takes no part. ``text`` is compared as redaction leaves it: of a segment given out long ago
nothing else is left, and the order has to be the same before and after a restart. Versions that
differ in nothing but what was redacted from them are one.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import NamedTuple

import msgspec

from steno.core.records import SegmentPayload
from steno.core.transcript import Fragment

SEPARATOR = "\x1f"
"""Between lane and utterance in a slot's name; sorts before whatever a lane may hold."""

MAX_SPEECH_US = 24 * 3600 * 1_000_000
"""A segment that claims to be longer is an error of the source's."""

LAST_US = 1 << 53
"""A later time (year 2255) is one too; integers up to here survive every JSON reader."""

UNKNOWN = -1
"""A fingerprint that equals none: what was given out is known by its record alone."""


def utterance_of(fragment: Fragment) -> str:
    """Return a fragment's utterance: the source's id, else its start, ``s`` and milliseconds."""
    return fragment.utterance or f"s{fragment.started_us // 1000}"


def slot_of(fragment: Fragment) -> str:
    """Return the name of a fragment's slot in its conversation."""
    return f"{fragment.lane}{SEPARATOR}{utterance_of(fragment)}"


def has_bad_times(fragment: Fragment) -> bool:
    """Whether its times cannot be: it has no place in the conversation.

    A source with utterance ids has UTC, so there a start of 0 means that it told none.
    """
    started_us, ended_us = fragment.started_us, fragment.ended_us
    return (
        not 0 <= started_us <= ended_us <= LAST_US
        or ended_us - started_us > MAX_SPEECH_US
        or bool(fragment.utterance and not started_us)
    )


class Slot(NamedTuple):
    """What is remembered of the version of a segment that was given out.

    Attributes:
        at_us: Event time; 0 where it takes no part in the order.
        fingerprint: ``fingerprint_of`` the version, or ``UNKNOWN``.
        masks: Spans that redaction removed from it.
        epoch: Number of the ``take`` before which its draft was made.
    """

    at_us: int
    ended_us: int
    confidence: float
    fingerprint: int
    revision: int
    masks: int
    epoch: int

    @property
    def rank(self) -> tuple[int, int, float]:
        """Compares with ``rank_of``; where equal, the rest of the order decides."""
        return self[:3]


def rank_of(fragment: Fragment) -> tuple[int, int, float]:
    """Return the part of the order that needs no redaction."""
    return (
        fragment.at_us if fragment.utterance else 0,
        fragment.ended_us,
        fragment.confidence,
    )


def fingerprint_of(fragment: Fragment) -> int:
    """Return a number that tells versions of equal rank apart, in this process only."""
    return hash((fragment.text, fragment.started_us, fragment.language))


_PACKED = struct.Struct("<qqdqHHI")
_pack, _unpack = _PACKED.pack, _PACKED.unpack
_MOST = 0xFFFF


class SlotMemory:
    """The slots of one conversation that were given out, least recently touched first.

    A slot is one packed value behind one name: 190 bytes together with its place in the
    dictionary (250 where ids make the names longer); objects would take twice that.
    """

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots: dict[str, bytes] = {}

    def __len__(self) -> int:
        """Number of slots."""
        return len(self._slots)

    def __contains__(self, name: str) -> bool:
        """Whether a slot is remembered."""
        return name in self._slots

    def get(self, name: str) -> Slot | None:
        """Return a slot, or None when it is not remembered."""
        packed = self._slots.get(name)
        return None if packed is None else Slot(*_unpack(packed))

    def give_out(
        self, name: str, fragment: Fragment, *, revision: int, masks: int, epoch: int
    ) -> bool:
        """Remember that a version was given out; True when the slot was not remembered before."""
        slots = self._slots
        before = slots.pop(name, None)
        slots[name] = _pack(
            fragment.at_us if fragment.utterance else 0,
            fragment.ended_us,
            fragment.confidence,
            hash((fragment.text, fragment.started_us, fragment.language)),
            min(revision, _MOST),
            min(masks, _MOST),
            epoch,
        )
        return before is None

    def recall(self, name: str, payload: SegmentPayload, *, revision: int, has_ids: bool) -> Slot:
        """Remember, and return, what a stored record tells of a slot."""
        packed = _pack(
            payload.at_us if has_ids else 0,
            payload.ended_us,
            payload.confidence,
            UNKNOWN,
            min(revision, _MOST),
            min(sum(payload.entities.values()), _MOST),
            0,
        )
        self._slots[name] = packed
        return Slot(*_unpack(packed))

    def touch(self, name: str) -> None:
        """Take note that a slot was asked for: it is dropped later than others."""
        slots = self._slots
        packed = slots.pop(name, None)
        if packed is not None:
            slots[name] = packed

    def trim(self, limit: int, *, stored: int) -> int:
        """Drop the least recently touched ones beyond ``limit``; return how many.

        A sixteenth more goes at once, so that it is rare. What is not in the store for certain
        stays: nothing else knows its revision.

        Args:
            stored: Drafts made before this epoch are stored.
        """
        slots = self._slots
        surplus = len(slots) - limit
        if surplus <= 0:
            return 0
        names = list(islice(slots, surplus + limit // 16))
        for dropped, name in enumerate(names):
            if _unpack(slots[name])[-1] >= stored:
                return dropped
            del slots[name]
        return len(names)

    def since(self, epoch: int) -> SlotMemory:
        """Return the slots whose draft was made in this epoch or later."""
        kept = SlotMemory()
        kept._slots = {
            name: packed for name, packed in self._slots.items() if _unpack(packed)[-1] >= epoch
        }
        return kept


class Partial(msgspec.Struct, frozen=True, gc=False):
    """The greatest partial of a slot; superseded when its speech has come in a final."""

    fragment: Fragment
    superseded: bool = False


class Heard(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Where a final was, so that a partial that comes behind it is known for what it is."""

    lane: str
    started_us: int
    ended_us: int


class Partials:
    """The partials of one conversation whose final has not come.

    A partial is superseded by a final of its slot, or of its speaker at the same time; one
    without a speaker by anybody's. Of each slot the greatest partial decides, whichever came
    first; where another slot's final superseded it that is remembered, so that an older partial
    of the slot does not open it again.

    Args:
        most: Slots held. Beyond it those superseded go first, and then the one opened first.
        recent: Finals remembered.
    """

    __slots__ = ("_end_us", "_heard", "_most", "_open", "_partials", "_recent")

    def __init__(self, *, most: int = 128, recent: int = 32) -> None:
        self._most = most
        self._recent = recent
        self._partials: dict[str, Partial] = {}
        self._heard: dict[str, Heard] = {}
        self._end_us = 0  # of all that was heard
        self._open = 0

    def __len__(self) -> int:
        """Number of partials that wait for their final."""
        return self._open

    def add(self, slot: str, fragment: Fragment) -> Fragment | None:
        """Take a partial in; return one that has to be given up for want of room."""
        partials = self._partials
        before = partials.get(slot)
        if before is not None and _greatness(before.fragment) >= _greatness(fragment):
            return None
        if slot in self._heard:
            return None
        superseded = fragment.started_us <= self._end_us and self._is_over(fragment)
        if before is not None:
            self._open -= not before.superseded
        partials[slot] = Partial(fragment, superseded)
        self._open += not superseded
        return self._make_room() if len(partials) > self._most else None

    def final(self, slot: str, fragment: Fragment) -> None:
        """Take note of a final, whatever becomes of it."""
        started_us, ended_us = fragment.started_us, fragment.ended_us
        before = self._heard.get(slot)
        if before is not None and before.started_us >= 0:  # all its versions, in any order
            started_us = min(started_us, before.started_us)
            ended_us = max(ended_us, before.ended_us)
        final = self._heard[slot] = Heard(fragment.lane, started_us, ended_us)
        if ended_us > self._end_us:
            self._end_us = ended_us
        if len(self._heard) > 2 * self._recent:
            self._heard = dict(islice(self._heard.items(), self._recent, None))
        if self._partials:
            self._supersede(slot, final)

    def final_without_times(self, slot: str, fragment: Fragment) -> None:
        """Take note of a final that tells only which slot's it is."""
        if slot not in self._heard:
            nowhere = msgspec.structs.replace(fragment, started_us=-1, ended_us=-1)
            self.final(slot, nowhere)

    def take(self, communication: str = "") -> list[Fragment]:
        """Remove and return those that are open, of one communication or of all."""
        lanes = f"{communication}/"
        taken = [
            (name, partial)
            for name, partial in self._partials.items()
            if not communication or partial.fragment.lane.startswith(lanes)
        ]
        for name, partial in taken:
            del self._partials[name]
            self._open -= not partial.superseded
        return [partial.fragment for _, partial in taken if not partial.superseded]

    def snapshot(self) -> tuple[dict[str, Partial], dict[str, Heard]]:
        """Everything needed to go on elsewhere; it contains raw text."""
        return self._partials, self._heard

    def restore(self, partials: dict[str, Partial], heard: dict[str, Heard]) -> None:
        """Go on from a snapshot."""
        self._partials, self._heard = partials, heard
        self._end_us = max((each.ended_us for each in heard.values()), default=0)
        self._open = sum(not partial.superseded for partial in partials.values())

    def _is_over(self, fragment: Fragment) -> bool:
        return any(_supersedes(final, fragment) for final in self._heard.values())

    def _supersede(self, slot: str, final: Heard) -> None:
        for name, partial in list(self._partials.items()):
            if name == slot:
                del self._partials[name]
            elif not partial.superseded and _supersedes(final, partial.fragment):
                self._partials[name] = Partial(partial.fragment, superseded=True)
            else:
                continue
            self._open -= not partial.superseded

    def _make_room(self) -> Fragment | None:
        for name, partial in self._partials.items():
            if partial.superseded:
                del self._partials[name]
                return None
        name = next(iter(self._partials))
        self._open -= 1
        return self._partials.pop(name).fragment


def _greatness(partial: Fragment) -> tuple[tuple[int, int, float], str, int, str]:
    return rank_of(partial), partial.text, partial.started_us, partial.language


def _supersedes(final: Heard, partial: Fragment) -> bool:
    if partial.lane and partial.lane != final.lane:
        return False
    if partial.started_us == final.started_us:
        return True
    return partial.started_us < final.ended_us and final.started_us < partial.ended_us
