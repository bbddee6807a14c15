"""Who spoke: the speaker's label as it came, or the participant a channel belongs to.

``LabelAttribution`` serves sources that name speakers themselves. ``RosterAttribution`` keeps a
roster for each conversation, says which rosters are to be fetched, and answers from what it has:

    unknown --heard--> wanted --to_fetch--> on its way --take--> there --heard--> wanted …
                          ^----------- failed -----|

A roster is wanted with a conversation's first words, with a communication it does not know, and
with words of the inside that came so much later that somebody else may be on the line. Until it
is there ``who`` answers None, though never for longer than ``wait_s``: then the channel decides.
"""

from __future__ import annotations

import heapq
import re
from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

import msgspec

from steno.core.transcript import Fragment, Role
from steno.diarisation.cast import (
    INTERNAL,
    Cast,
    Who,
    communications_of,
    prior,
    split_lane,
)
from steno.wire.participants import Roster

__all__ = [
    "Attribution",
    "LabelAttribution",
    "RosterAttribution",
    "RosterSettings",
    "Who",
]

_PLAIN_LABEL = re.compile(r"(agent|customer|system)(?:[ _-]?\d{1,6})?", re.IGNORECASE)
_MAX_COMMUNICATIONS = 64
_MAX_TRIES = 3
_ON_ITS_WAY_S = 120.0
"""A fetch of which nothing was heard for so long is asked for again."""


class Attribution(Protocol):
    """Tells who spoke. No I/O: what it needs is brought to it."""

    def heard(self, fragment: Fragment, *, now: float) -> None:
        """Take note of a piece of speech, when it arrives."""

    def who(self, fragment: Fragment, *, now: float) -> Who | None:
        """Return who spoke; None while it is worth waiting for the answer.

        A caller that cannot wait any longer (the process ends) takes ``fallback``.
        """

    def fallback(self, fragment: Fragment) -> Who:
        """Return the best that can be said without waiting."""

    def forget(self, conversation: str) -> None:
        """Drop what is known of a conversation."""


class LabelAttribution:
    """The lane is the speaker's label; there is nothing to wait for."""

    def heard(self, fragment: Fragment, *, now: float) -> None:
        """Do nothing: each piece names its speaker."""

    def who(self, fragment: Fragment, *, now: float) -> Who:
        """Return the label, with the role where it is plain (``agent``, ``customer_1``)."""
        del now
        return self.fallback(fragment)

    def fallback(self, fragment: Fragment) -> Who:
        """Return the same as ``who``."""
        role: str = fragment.role
        if role == Role.UNKNOWN:
            plain = _PLAIN_LABEL.fullmatch(fragment.lane)
            role = plain[1].lower() if plain is not None else role
        return Who(fragment.lane, role, zero_us=fragment.zero_us)

    def forget(self, conversation: str) -> None:
        """Do nothing."""


class RecordedAttribution:
    """Recorded events of either source: a label, or whoever the recorded rosters tell of.

    There is nothing to wait for: what was recorded of a conversation's participants has been read
    by the time its segments settle.
    """

    def __init__(self, settings: RosterSettings | None = None) -> None:
        self._labels = LabelAttribution()
        self._channels = RosterAttribution(settings)

    def seen(self, roster: Roster) -> None:
        """Take in participants that a recorded topic told of."""
        if roster.participants:
            self._channels.take(roster.conversation, roster, now=0.0, utc_us=0)

    def heard(self, fragment: Fragment, *, now: float) -> None:
        """Do nothing: nobody could be asked."""

    def who(self, fragment: Fragment, *, now: float) -> Who:
        """Return what the fragment itself tells."""
        del now
        return self.fallback(fragment)

    def fallback(self, fragment: Fragment) -> Who:
        """Return the same as ``who``; pieces with an utterance id have channels for lanes."""
        known = self._channels if fragment.utterance else self._labels
        return known.fallback(fragment)

    def forget(self, conversation: str) -> None:
        """Drop what is known of a conversation."""
        self._channels.forget(conversation)


class RosterSettings(msgspec.Struct, frozen=True):
    """How rosters are kept; times in seconds.

    Attributes:
        names: Names and user ids are given out; ids of participants always are.
        roster_s: Agents on the line: a roster is fetched again at the soonest after this.
        early_s: Nobody but prompts on the line: the first time so early, later half as often
            each time, up to ``roster_s``.
        wait_s: Longest time a piece of speech waits for a roster.
        max_conversations: Kept at most; who was not heard for longest goes.
    """

    names: bool = True
    roster_s: float = 60.0
    early_s: float = 10.0
    wait_s: float = 15.0
    max_conversations: int = 10_000


class _Urgency(IntEnum):
    FIRST = 0
    COMMUNICATION = 1
    LATER = 2


class _Wanted(msgspec.Struct):
    """A roster that is wanted, since ``since`` (monotonic seconds)."""

    urgency: _Urgency
    since: float
    not_before: float = 0.0
    on_its_way_since: float | None = None
    tries: int = 0


class _Known(msgspec.Struct):
    """What is known of one conversation.

    Attributes:
        as_of_us: Moment of which the roster tells, UTC microseconds.
        taken_at: When it came, monotonic seconds.
        fetched: It is, at least in part, the REST API's answer.
        unchanged: Rosters in a row that told nothing new.
        asked: Communications heard that were asked for.
        inside_us: Start of the latest speech of the inside, UTC microseconds.
    """

    cast: Cast | None = None
    as_of_us: int = 0
    taken_at: float = 0.0
    fetched: bool = False
    unchanged: int = 0
    asked: set[str] = msgspec.field(default_factory=set)
    communications: dict[str, str] = msgspec.field(default_factory=dict)
    inside_us: int = 0
    quiet_until: float = 0.0


class RosterAttribution:
    """Answers from the participants of conversations (``Attribution``).

    Lanes are ``communication/channel`` and times UTC.
    """

    def __init__(self, settings: RosterSettings | None = None) -> None:
        self._settings = settings or RosterSettings()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._wanted: dict[str, _Wanted] = {}
        self._held_until = 0.0
        self.on_wanted: Callable[[], None] | None = None
        """Called whenever a roster is newly wanted."""

    @property
    def conversations(self) -> int:
        """Conversations of which something is kept."""
        return len(self._known)

    @property
    def wanted(self) -> int:
        """Rosters that are wanted or on their way."""
        return len(self._wanted)

    # --- Attribution -------------------------------------------------------------------------

    def heard(self, fragment: Fragment, *, now: float) -> None:
        """Take note of a piece of speech: it may tell that a roster is to be fetched."""
        name = fragment.conversation
        known = self._known.get(name)
        if known is None:
            known = self._new(name)
            self._want(name, _Urgency.FIRST, now)
        else:
            self._known.move_to_end(name)
        communication, channel = split_lane(fragment.lane)
        inside = channel == INTERNAL
        if inside and fragment.started_us > known.inside_us:
            known.inside_us = fragment.started_us
        if name in self._wanted or now < known.quiet_until:
            return
        if known.cast is None:
            self._want(name, _Urgency.FIRST, now)
        elif self._is_new(known, communication):
            self._want(name, _Urgency.COMMUNICATION, now)
        elif inside and self._is_late(known, fragment.started_us, now):
            self._want(name, _Urgency.LATER, now)

    def who(self, fragment: Fragment, *, now: float) -> Who | None:
        """Return who spoke; None while a roster that may change the answer is to come."""
        known = self._known.get(fragment.conversation)
        if known is None:  # after a restart, or of a conversation that was let go
            self.heard(fragment, now=now)
            known = self._known[fragment.conversation]
        if self._waits(fragment, known, now):
            return None
        return self._answer(fragment, known)

    def fallback(self, fragment: Fragment) -> Who:
        """Return the best that can be said now, without names if there is no roster."""
        return self._answer(fragment, self._known.get(fragment.conversation))

    def forget(self, conversation: str) -> None:
        """Drop what is known of a conversation."""
        self._known.pop(conversation, None)
        self._wanted.pop(conversation, None)

    # --- rosters -----------------------------------------------------------------------------

    def to_fetch(self, now: float, *, limit: int = 1) -> list[str]:
        """Return conversations whose roster is to be fetched now, the most urgent first.

        Each is answered by ``take`` or ``failed``; until then it is not returned again.
        """
        if now < self._held_until:
            return []
        due = [
            (one.urgency, one.since, name)
            for name, one in self._wanted.items()
            if self._due_at(one) <= now
        ]
        names = [name for _, _, name in heapq.nsmallest(limit, due)]
        for name in names:
            self._wanted[name].on_its_way_since = now
        return names

    def next_fetch(self) -> float | None:
        """Return when ``to_fetch`` has something to say; None when nothing is wanted."""
        due = min((self._due_at(one) for one in self._wanted.values()), default=None)
        return None if due is None else max(due, self._held_until)

    def take(
        self, conversation: str, roster: Roster, *, now: float, utc_us: int, final: bool = False
    ) -> None:
        """Take in a conversation as the REST API describes it.

        Args:
            utc_us: Moment at which it was asked for: what happened later is not in it.
            final: The conversation is over; what was known before is dropped.
        """
        self._wanted.pop(conversation, None)
        known = self._known.get(conversation) or self._new(conversation)
        if final:
            known.cast, known.communications = None, {}
        self._merge(known, roster, now=now, utc_us=utc_us)
        known.fetched = True
        known.quiet_until = 0.0

    def seen(self, roster: Roster, *, now: float, utc_us: int) -> None:
        """Take in participants that a topic told of; of conversations that are heard only."""
        known = self._known.get(roster.conversation)
        if known is not None and roster.participants:
            self._merge(known, roster, now=now, utc_us=utc_us)

    def failed(self, conversation: str, *, now: float, retry_after_s: float | None) -> None:
        """Note that a roster could not be had.

        Args:
            retry_after_s: When to try again, unless it has failed too often; None: not before
                somebody speaks ``roster_s`` from now.
        """
        wanted = self._wanted.get(conversation)
        if wanted is None:
            return
        wanted.tries += 1
        if retry_after_s is not None and wanted.tries < _MAX_TRIES:
            wanted.on_its_way_since = None
            wanted.not_before = now + retry_after_s
            return
        del self._wanted[conversation]
        if (known := self._known.get(conversation)) is not None:
            known.quiet_until = now + self._settings.roster_s

    def hold(self, until: float) -> None:
        """Fetch nothing before ``until``: the platform limits or refuses us."""
        self._held_until = max(self._held_until, until)

    def behind(self) -> list[str]:
        """Return conversations in which the inside spoke after their roster was made."""
        return [name for name, one in self._known.items() if one.inside_us > one.as_of_us]

    def cast(self, conversation: str) -> Cast | None:
        """Return the people of a conversation, as far as they are known."""
        known = self._known.get(conversation)
        return known.cast if known is not None else None

    # --- inside ------------------------------------------------------------------------------

    def _new(self, conversation: str) -> _Known:
        while len(self._known) >= self._settings.max_conversations:
            self.forget(next(iter(self._known)))
        known = self._known[conversation] = _Known()
        return known

    def _want(self, conversation: str, urgency: _Urgency, now: float) -> None:
        self._wanted[conversation] = _Wanted(urgency, now)
        if self.on_wanted is not None:
            self.on_wanted()

    def _due_at(self, wanted: _Wanted) -> float:
        if wanted.on_its_way_since is not None:
            return wanted.on_its_way_since + _ON_ITS_WAY_S
        return wanted.not_before

    def _is_new(self, known: _Known, communication: str) -> bool:
        """Tell, once for each, that a communication is not one the roster knows."""
        if known.cast is None or known.cast.knows(communication) or communication in known.asked:
            return False
        if len(known.asked) >= _MAX_COMMUNICATIONS:
            return False
        known.asked.add(communication)
        return True

    def _is_late(self, known: _Known, started_us: int, now: float) -> bool:
        settings = self._settings
        spacing_s = settings.roster_s
        if known.cast is not None and not known.cast.attended:
            spacing_s = min(spacing_s, settings.early_s * 2.0 ** min(known.unchanged, 16))
        if now < known.taken_at + spacing_s:
            return False
        return not started_us or started_us > known.as_of_us + spacing_s * 1e6

    def _waits(self, fragment: Fragment, known: _Known, now: float) -> bool:
        wanted = self._wanted.get(fragment.conversation)
        if wanted is None:
            return False
        limit = wanted.since + self._settings.wait_s
        if now >= limit or max(wanted.not_before, self._held_until) >= limit:
            return False
        if known.cast is None or not known.fetched:
            return True
        communication, channel = split_lane(fragment.lane)
        if channel == INTERNAL:
            return not fragment.started_us or fragment.started_us > known.as_of_us
        return not known.cast.knows(communication)

    def _answer(self, fragment: Fragment, known: _Known | None) -> Who:
        if known is None or known.cast is None:
            return prior(split_lane(fragment.lane)[1], fragment.zero_us)
        who = known.cast.who(fragment.lane, fragment.started_us, fragment.ended_us)
        if not who.zero_us and fragment.zero_us:
            return msgspec.structs.replace(who, zero_us=fragment.zero_us)
        return who

    def _merge(self, known: _Known, roster: Roster, *, now: float, utc_us: int) -> None:
        """Put a roster beside the one that is there; where both speak the newer one counts."""
        merged = roster
        if known.cast is not None:
            before = known.cast.roster
            newer, older = (roster, before) if utc_us >= known.as_of_us else (before, roster)
            merged = _joined(newer, older)
            known.unchanged = known.unchanged + 1 if merged == before else 0
        known.communications.update(communications_of(roster))
        known.as_of_us = max(known.as_of_us, utc_us)
        known.taken_at = now
        known.cast = Cast(merged, names=self._settings.names, communications=known.communications)


def _joined(newer: Roster, older: Roster) -> Roster:
    """Return the newer roster with what only the older one tells."""
    there = {one.id for one in newer.participants}
    left = tuple(one for one in older.participants if one.id not in there)
    return Roster(
        newer.conversation,
        newer.participants + left,
        newer.started_us or older.started_us,
        newer.ended_us or older.ended_us,
    )
