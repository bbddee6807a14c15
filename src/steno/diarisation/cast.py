"""The people of a conversation with their labels, and which of them spoke in an interval.

Decided from the channel *and* the participants; what they do not settle stays unsettled:

EXTERNAL        the customer whose call the communication is, else the only customer
INTERNAL        the agent who was on the line for the largest part of the speech; prompts
                (IVR, ACD, …) where no agent was there for at least half of it; ``agent`` without a
                participant when two agents were there alike (a conference)
BOTH, UNKNOWN   nobody, unless only one could be heard

Labels count people of one role in the order in which they were first connected, so that a
later transfer gives ``agent-2`` and never renames who spoke before. Whoever is transferred back
is the same person: agents are told apart by their user id.

Source: Genesys Cloud, transcription topic (``channel``) and Conversations API (``purpose``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from steno.core.transcript import Role
from steno.wire.participants import OVER, Call, Participant, Roster

EXTERNAL, INTERNAL = "external", "internal"
SLACK_US = 2_000_000
"""The platform's clocks of speech and of calls may be apart by so much."""

_FOREVER = 1 << 62
_WAITING = frozenset(
    {"alerting", "dialing", "contacting", "offering", "queued", "scheduled", "parked", "none"}
)
"""States of a call in which nobody can be heard yet."""

_ROLES: Mapping[str, Role] = {
    "customer": Role.CUSTOMER,
    "external": Role.CUSTOMER,
    "agent": Role.AGENT,
    "user": Role.AGENT,
} | dict.fromkeys(
    ("ivr", "acd", "voicemail", "fax", "workflow", "botflow", "dialer", "campaign", "api"),
    Role.SYSTEM,
)

Span = tuple[int, int]


class Who(msgspec.Struct, frozen=True, gc=False):
    """Who speaks in a piece of speech.

    Attributes:
        speaker: Label, local to the conversation; empty when nobody can be named.
        role: ``core.transcript.Role``'s word.
        zero_us: Start of the conversation where it is known, UTC microseconds; else 0.
    """

    speaker: str
    role: str = "unknown"
    participant: str = ""
    user_id: str = ""
    name: str = ""
    zero_us: int = 0


class _Presence(msgspec.Struct, frozen=True, gc=False):
    """A participant's time on the line."""

    participant: Participant
    role: Role
    spans: tuple[Span, ...]
    sure: bool
    """The times are those of calls that were answered."""


class _Person(msgspec.Struct, frozen=True, gc=False):
    """One who speaks: a participant, or the participants of one agent."""

    label: str
    role: Role
    presences: tuple[_Presence, ...]
    spans: tuple[Span, ...]
    """Of what is sure, joined."""


def split_lane(lane: str) -> tuple[str, str]:
    """Return communication and channel of a lane; the channel is ``unknown`` if it has none."""
    communication, _, channel = lane.rpartition("/")
    return communication, channel if channel in (EXTERNAL, INTERNAL, "both") else "unknown"


def prior(channel: str, zero_us: int = 0) -> Who:
    """Return what the channel alone says."""
    if channel == EXTERNAL:
        return Who("customer", Role.CUSTOMER, zero_us=zero_us)
    if channel == INTERNAL:
        return Who("agent", Role.AGENT, zero_us=zero_us)
    return Who("", zero_us=zero_us)


class Cast:
    """Says who spoke, after one roster. Immutable, so a thread may use it.

    Args:
        roster: Participants of the conversation.
        names: Names and user ids are given out.
        communications: Communication ids and the participants they belong to, from elsewhere:
            some topics tell of participants without their calls' ids.
    """

    __slots__ = ("_agents", "_calls", "_customers", "_names", "_others", "_systems", "roster")

    def __init__(
        self, roster: Roster, *, names: bool = True, communications: Mapping[str, str] | None = None
    ) -> None:
        self.roster = roster
        self._names = names
        self._calls = {**(communications or {}), **communications_of(roster)}
        presences = [one for one in map(self._presence, roster.participants) if one is not None]
        by_role: dict[Role, list[_Presence]] = {role: [] for role in Role}
        for one in presences:
            by_role[one.role].append(one)
        self._customers = _people(by_role[Role.CUSTOMER], "customer")
        self._agents = _people(by_role[Role.AGENT], "agent")
        self._systems = [_person("system", [one]) for one in by_role[Role.SYSTEM]]
        self._others = [_person("", [one]) for one in by_role[Role.UNKNOWN]]

    @property
    def attended(self) -> bool:
        """An agent is on the line, as far as the roster tells."""
        return any(end == _FOREVER for one in self._agents for _, end in one.spans)

    def knows(self, communication: str) -> bool:
        """Tell whether a communication is one of the participants' calls."""
        return communication in self._calls

    def who(self, lane: str, started_us: int, ended_us: int) -> Who:
        """Return who spoke.

        Args:
            lane: ``communication/channel``.
            started_us, ended_us: The speech, UTC microseconds; 0: nobody knows.
        """
        communication, channel = split_lane(lane)
        bounds = (started_us, max(ended_us, started_us + 1)) if started_us else (0, _FOREVER)
        if channel == EXTERNAL:
            return self._external(communication, bounds)
        if channel == INTERNAL:
            if not started_us:
                people = [*self._agents, *self._systems]
                return self._only(people, bounds) or prior(INTERNAL, self.roster.started_us)
            return self._internal(bounds)
        people = [*self._customers, *self._agents, *self._systems, *self._others]
        return self._only(people, bounds) or prior(channel, self.roster.started_us)

    # --- by channel --------------------------------------------------------------------------

    def _external(self, communication: str, bounds: Span) -> Who:
        owner = self._calls.get(communication, "")
        for person in self._customers:
            if any(one.participant.id == owner for one in person.presences):
                return self._named(person, bounds)
        if len(self._customers) == 1:
            return self._named(self._customers[0], bounds)
        if not self._customers and self._is_agent(owner):
            return prior("unknown", self.roster.started_us)  # staff among themselves
        there = [one for one in self._customers if _overlap(one.spans, bounds)]
        if len(there) == 1:
            return self._named(there[0], bounds)
        return prior(EXTERNAL, self.roster.started_us)

    def _internal(self, bounds: Span) -> Who:
        wider = (bounds[0] - SLACK_US, bounds[1] + SLACK_US)
        for attempt in (bounds, wider):
            found = self._of_inside(attempt)
            if found is not None:
                return found
        return self._unsure(wider) or prior(INTERNAL, self.roster.started_us)

    def _of_inside(self, bounds: Span) -> Who | None:
        """Return the best of agents and prompts that are known to have been there."""
        agents, agents_us = _most(self._agents, bounds)
        systems, systems_us = _most(self._systems, bounds)
        if agents and (2 * agents_us >= bounds[1] - bounds[0] or agents_us >= systems_us):
            if len(agents) == 1:
                return self._named(agents[0], bounds)
            return prior(INTERNAL, self.roster.started_us)
        if systems:
            return self._system(systems, bounds)
        return None

    def _unsure(self, bounds: Span) -> Who | None:
        """Return who may have been there, when it is one: times of answered calls are missing."""
        agents = [one for one in self._agents if _may_overlap(one, bounds)]
        if agents:
            return self._named(agents[0], bounds) if len(agents) == 1 else None
        systems = [one for one in self._systems if _may_overlap(one, bounds)]
        return self._system(systems, bounds) if systems else None

    def _only(self, people: list[_Person], bounds: Span) -> Who | None:
        """Return the one of these who could be heard, if it is one and has a role."""
        there = [one for one in people if _may_overlap(one, bounds)]
        if len(there) == 1 and there[0].label:
            return self._named(there[0], bounds)
        return None

    def _is_agent(self, participant: str) -> bool:
        return any(one.participant.id == participant for p in self._agents for one in p.presences)

    # --- values ------------------------------------------------------------------------------

    def _system(self, people: list[_Person], bounds: Span) -> Who:
        if len(people) == 1:
            return self._named(people[0], bounds)
        return Who("system", Role.SYSTEM, zero_us=self.roster.started_us)

    def _named(self, person: _Person, bounds: Span) -> Who:
        """Name a person by the participant as which it was on the line."""
        participant = max(
            person.presences, key=lambda one: (_overlap(one.spans, bounds), one.participant.id)
        ).participant
        return Who(
            person.label,
            person.role,
            participant=participant.id,
            user_id=participant.user_id if self._names else "",
            name=participant.name if self._names else "",
            zero_us=self.roster.started_us,
        )

    def _presence(self, participant: Participant) -> _Presence | None:
        """Return a participant's time on the line; None for one who is not heard in the call."""
        if participant.listening or not (participant.calls or participant.joined_us):
            return None
        role = _ROLES.get(participant.purpose, Role.UNKNOWN)
        spans = [span for call in participant.calls if (span := self._span(participant, call))]
        if spans:
            return _Presence(participant, role, _joined(spans), sure=True)
        if participant.calls and all(call.state in _WAITING for call in participant.calls):
            return _Presence(participant, role, (), sure=True)
        whole = (participant.joined_us, participant.left_us or self.roster.ended_us or _FOREVER)
        return _Presence(participant, role, _joined([whole]), sure=False)

    def _span(self, participant: Participant, call: Call) -> Span | None:
        """Return when a call was up; None for one of which that is not known."""
        over = call.state in OVER
        if call.state in _WAITING or (over and not call.connected_us):
            return None
        start = call.connected_us or participant.joined_us
        if not start:
            return None
        end = call.disconnected_us
        if not end and (over or participant.left_us):
            end = participant.left_us or self.roster.ended_us
        return (start, end or _FOREVER)


def communications_of(roster: Roster) -> dict[str, str]:
    """Return the communication ids of a roster with the participants they belong to."""
    return {call.id: one.id for one in roster.participants for call in one.calls if call.id}


def _people(presences: list[_Presence], label: str) -> list[_Person]:
    """Return people of one role, labelled in the order in which they were first connected."""
    groups: dict[str, list[_Presence]] = {}
    for one in presences:
        key = one.participant.user_id if one.role is Role.AGENT else ""
        groups.setdefault(key or one.participant.id, []).append(one)
    ordered = sorted(groups.items(), key=lambda item: (_first_us(item[1]), item[0]))
    return [
        _person(label if number == 1 else f"{label}-{number}", group)
        for number, (_, group) in enumerate(ordered, start=1)
    ]


def _person(label: str, presences: list[_Presence]) -> _Person:
    spans = _joined(span for one in presences if one.sure for span in one.spans)
    return _Person(label, presences[0].role, tuple(presences), spans)


def _first_us(presences: list[_Presence]) -> int:
    """Return when a person was first connected; who never was, or nobody knows when, is last."""
    return min((span[0] for one in presences if one.sure for span in one.spans), default=_FOREVER)


def _joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return spans in order, those that touch made one."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        elif end > start:
            result.append((start, end))
    return tuple(result)


def _overlap(spans: Iterable[Span], bounds: Span) -> int:
    return sum(max(0, min(end, bounds[1]) - max(start, bounds[0])) for start, end in spans)


def _may_overlap(person: _Person, bounds: Span) -> bool:
    return any(_overlap(one.spans, bounds) for one in person.presences)


def _most(people: list[_Person], bounds: Span) -> tuple[list[_Person], int]:
    """Return those who were there longest, and how long, microseconds."""
    times = [(_overlap(one.spans, bounds), one) for one in people]
    most = max((time for time, _ in times), default=0)
    return ([one for time, one in times if time == most], most) if most else ([], 0)
