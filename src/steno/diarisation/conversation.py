"""What is in memory of one conversation: the finals that wait, in order, and all around them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

import msgspec

from steno.core.transcript import Fragment
from steno.diarisation.roster import Who
from steno.diarisation.slots import Heard, Partial, Partials, SlotMemory, slot_of
from steno.errors import RedactionError
from steno.redaction.carry import Carry, CarryState

Place = tuple[int, int, str, Fragment, float]
"""Start, end, slot, the final, monotonic seconds of arrival. No two have the same slot."""


class Waiting(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A final in the journal: it has waited ``age_s``, because clocks do not survive a restart."""

    fragment: Fragment
    age_s: float


class Held(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What was known of a segment when redaction took it and held it.

    Attributes:
        masks: ``Slot.masks`` of the version given out before.
    """

    fragment: Fragment
    who: Who
    revision: int
    masks: int


class Snapshot(msgspec.Struct, frozen=True):
    """What the journal keeps of one conversation: raw words, so it is sealed on disk."""

    waiting: list[Waiting]
    held: list[Held]
    partials: dict[str, Partial]
    heard: dict[str, Heard]
    carry: CarryState | None
    clock_us: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Snapshot).decode


class Conversation:
    """The state of one conversation; ``segments`` decides what becomes of it.

    Attributes:
        waiting: Finals that wait, by slot, in order of arrival.
        order: The same in order of their place.
        over: Communications that have ended (empty: all), with the time until which their finals
            may still come, monotonic seconds.
        held: Segments that redaction holds, by slot and revision.
        own_clock: Redaction's time is the conversation's, not ours: input that is read as fast as
            it can be is redacted as if it were heard.
        more: The store may know slots that are not in memory.
        clock_us: The latest end heard of.
        asked_s: When it was last asked in vain who spoke in the first in order.
        changed_s: Monotonic seconds of the first change that is not journalled.
        finished: Gave something out since the last commit.
        finals, speakerless, pieces: Finals, those that name no speaker, and partials.
        named: A final had a speaker.
    """

    __slots__ = (
        "asked_s",
        "carry",
        "changed_s",
        "clock_us",
        "due",
        "finals",
        "finished",
        "has_ids",
        "held",
        "journalled",
        "more",
        "name",
        "named",
        "order",
        "over",
        "own_clock",
        "partials",
        "pieces",
        "seen_s",
        "seen_us",
        "slots",
        "speakerless",
        "waiting",
    )

    def __init__(
        self, name: str, carry: Carry, *, max_partials: int, own_clock: bool = False
    ) -> None:
        self.name = name
        self.carry = carry
        self.own_clock = own_clock
        self.waiting: dict[str, Place] = {}
        self.order: list[Place] = []
        self.over: dict[str, float] = {}
        self.held: dict[tuple[str, int], Held] = {}
        self.slots = SlotMemory()
        self.partials = Partials(most=max_partials)
        self.more = False
        self.clock_us = 0
        self.asked_s: float | None = None
        self.seen_s = 0.0
        self.seen_us = 0
        self.due: float | None = None
        self.journalled = False
        self.changed_s = 0.0
        self.finished = False
        self.finals = 0
        self.speakerless = 0
        self.pieces = 0
        self.named = False
        self.has_ids = False

    @property
    def busy(self) -> bool:
        """Whether anything of it waits: finals, what redaction holds, partials."""
        return bool(self.waiting or self.held or len(self.partials))

    def is_open(self, now: float) -> bool:
        """Whether a restart without the journal would lose something."""
        return self.busy or self.remembers(now)

    def remembers(self, now: float) -> bool:
        """Whether redaction knows of a number that may go on."""
        return self.carry.remembers(self.time(now))

    def time(self, now: float) -> float:
        """Return redaction's time, in seconds."""
        return self.clock_us / 1e6 if self.own_clock else now

    # -- waiting --------------------------------------------------------------------------

    def wait(self, slot: str, fragment: Fragment, arrived_s: float) -> None:
        """Let a final wait whose slot does not wait yet."""
        place = (fragment.started_us, fragment.ended_us, slot, fragment, arrived_s)
        self.waiting[slot] = place
        order = self.order
        if not order or place > order[-1]:
            order.append(place)
        else:
            insort(order, place)

    def replace(self, slot: str, fragment: Fragment) -> None:
        """Let a final wait in place of another of its slot, and no longer than that one."""
        before = self.waiting[slot]
        del self.order[bisect_left(self.order, before)]
        self.wait(slot, fragment, before[4])

    def waited(self, now: float, settle_s: float, horizon_us: int | None) -> int:
        """Return how many in order may go: up to the last whose wait is over."""
        order = self.order
        last = 0 if horizon_us is None else self.past_horizon(horizon_us)
        for index in range(len(order) - 1, last - 1, -1):
            if order[index][4] + settle_s <= now:
                return index + 1
        return last

    def past_horizon(self, horizon_us: int) -> int:
        """Return how many in order may go because the conversation's own clock says so."""
        order = self.order
        limit_us = self.clock_us - horizon_us
        if not order or order[0][0] > limit_us:
            return 0
        last = bisect_right(order, limit_us, key=_start)
        while last and order[last - 1][1] > limit_us:
            last -= 1
        return last

    def held_version(self, slot: str) -> Held | None:
        """Return the newest version of a slot that redaction holds."""
        versions = [held for (name, _), held in self.held.items() if name == slot]
        return max(versions, key=_revision) if versions else None

    # -- journal --------------------------------------------------------------------------

    def snapshot(self, now: float) -> bytes:
        """Return everything needed to go on elsewhere. It contains raw text: encrypt it."""
        partials, heard = self.partials.snapshot()
        if not self.pieces:
            heard = {}  # nobody will ask: the source sends no partials
        return _encode(
            Snapshot(
                [Waiting(each[3], now - each[4]) for each in self.waiting.values()],
                list(self.held.values()),
                partials,
                heard,
                self.carry.snapshot() if self.remembers(now) else None,
                self.clock_us,
            )
        )

    def restore(self, snapshot: bytes, *, now: float) -> None:
        """Go on from a snapshot; what is held is not put into ``slots``.

        Raises:
            RedactionError: It cannot be read.
        """
        try:
            saved = _decode(snapshot)
        except msgspec.MsgspecError:
            raise RedactionError("a journalled conversation is damaged") from None
        self.clock_us = saved.clock_us
        self.partials.restore(saved.partials, saved.heard)
        self.pieces = len(self.partials)
        if saved.carry is not None:
            self.carry.restore(saved.carry, now=self.time(now))
        for held in saved.held:
            held = msgspec.structs.replace(held, fragment=_timeless(held.fragment))
            self.held[slot_of(held.fragment), held.revision] = held
        for each in saved.waiting:
            fragment = _timeless(each.fragment)
            self.wait(slot_of(fragment), fragment, now - each.age_s)
            self.finals += 1
            self.has_ids = self.has_ids or bool(fragment.utterance)
        self.journalled = True


def _start(place: Place) -> int:
    return place[0]


def _revision(held: Held) -> int:
    return held.revision


def _timeless(fragment: Fragment) -> Fragment:
    """Without its monotonic time, which means nothing to another process."""
    return msgspec.structs.replace(fragment, received_s=0.0)
