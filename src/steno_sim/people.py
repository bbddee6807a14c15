"""Who takes part in a conversation, from when to when, and how the platform tells it.

A *person* here is a participant of the platform: the customer, the IVR, the queue (``acd``),
an agent. A transfer ends one agent's part and begins another's; the customer's call goes on,
or a new one begins (a *leg*). Pure; times are microseconds of the scenario until ``entity``
maps them to the clock.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

Purpose = Literal["customer", "ivr", "acd", "agent"]
NEVER = -1


class Leg(msgspec.Struct):
    """One call of a person; ``id`` is the communication id on the customer's side."""

    id: str
    connected_us: int
    disconnected_us: int = NEVER
    reason: str = ""


class Person(msgspec.Struct):
    """One participant; ``left_us`` is ``NEVER`` while nobody knows when."""

    id: str
    purpose: Purpose
    name: str
    joined_us: int
    left_us: int = NEVER
    user: str = ""
    queue: str = ""
    legs: list[Leg] = []

    def leave(self, at_us: int, reason: str) -> None:
        """End this person's part and calls."""
        self.left_us = at_us
        for leg in self.legs:
            if leg.disconnected_us == NEVER:
                leg.disconnected_us, leg.reason = at_us, reason


class Cast:
    """Everybody in one conversation, in the order in which they join.

    Args:
        customer: Participant id of the customer.
        queue: Queue id.
        communications: Ids of the customer's calls, one after another.
    """

    def __init__(self, customer: str, queue: str, communications: Sequence[str]) -> None:
        self.people: list[Person] = []
        self._customer = customer
        self._queue = queue
        self._communications = list(communications)

    def begin(self, at_us: int, *, ivr: str = "") -> None:
        """Let the customer call: into the IVR of that participant id, or into the queue."""
        self._join(self._customer, "customer", "Customer", at_us, call=self._communications[0])
        if ivr:
            self._join(ivr, "ivr", "Menu", at_us)
        else:
            self.wait(at_us)

    def wait(self, at_us: int) -> None:
        """Put the customer into the queue; an IVR's part is over."""
        for person in self.people:
            if person.purpose == "ivr" and person.left_us == NEVER:
                person.leave(at_us, "transfer")
        self._join(_derived(self._customer, "acd"), "acd", "Queue", at_us, queue=self._queue)

    def answer(self, participant: str, user: str, name: str, at_us: int) -> None:
        """Let an agent come on the line."""
        for person in self.people:
            if person.purpose == "acd" and person.left_us == NEVER:
                person.leave(at_us, "transfer")
        self._join(participant, "agent", name, at_us, user=user, queue=self._queue)

    def leave(self, participant: str, at_us: int) -> None:
        """Let an agent hand the call over."""
        for person in self.people:
            if person.id == participant:
                person.leave(at_us, "transfer")

    def redial(self, number: int, *, ended_us: int, begun_us: int) -> None:
        """End the customer's call and begin its call of that number, from 1."""
        customer = self.people[0]
        for leg in customer.legs:
            if leg.disconnected_us == NEVER:
                leg.disconnected_us, leg.reason = ended_us, "transfer"
        customer.legs.append(Leg(self._communications[number - 1], begun_us))

    def end(self, at_us: int) -> None:
        """Let everybody hang up."""
        for person in self.people:
            if person.left_us == NEVER:
                person.leave(at_us, "client" if person.purpose == "customer" else "peer")

    def _join(
        self,
        participant: str,
        purpose: Purpose,
        name: str,
        at_us: int,
        *,
        call: str = "",
        user: str = "",
        queue: str = "",
    ) -> None:
        legs = [Leg(call or _derived(participant, "call"), at_us)]
        self.people.append(Person(participant, purpose, name, at_us, NEVER, user, queue, legs))


def _derived(participant: str, name: str) -> str:
    return str(uuid.uuid5(uuid.UUID(participant), name))


def present(people: Sequence[Person], at_us: int) -> list[Person]:
    """Give those who have joined by then, whether they are still there or not."""
    return [p for p in people if p.joined_us <= at_us]


def entity(
    conversation: str, people: Sequence[Person], at_us: int, clock: Callable[[int], str]
) -> dict[str, Any]:
    """Give a conversation as the platform tells it at a moment: id and participants.

    Args:
        conversation: Its id.
        people: Everybody who ever takes part.
        at_us: The moment; who joins later is not there, who leaves later still is.
        clock: Writes a moment of the scenario as the platform writes times.
    """
    return {
        "id": conversation,
        "participants": [_participant(p, at_us, clock) for p in present(people, at_us)],
    }


def _participant(person: Person, at_us: int, clock: Callable[[int], str]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": person.id,
        "name": person.name,
        "purpose": person.purpose,
        "startTime": clock(person.joined_us),
        "connectedTime": clock(person.joined_us),
    }
    if NEVER < person.left_us <= at_us:
        told["endTime"] = clock(person.left_us)
    if person.user:
        told["userId"] = person.user
    if person.queue:
        told["queueId"] = person.queue
    told["attributes"] = {}
    told["calls"] = [
        _call(leg, person, at_us, clock) for leg in person.legs if leg.connected_us <= at_us
    ]
    return told


def _call(leg: Leg, person: Person, at_us: int, clock: Callable[[int], str]) -> dict[str, Any]:
    over = NEVER < leg.disconnected_us <= at_us
    told: dict[str, Any] = {
        "id": leg.id,
        "state": "disconnected" if over else "connected",
        "direction": "inbound",
        "provider": "Edge",
        "connectedTime": clock(leg.connected_us),
        "held": False,
        "muted": False,
        "recording": person.purpose == "customer",
    }
    if over:
        told["disconnectedTime"] = clock(leg.disconnected_us)
        told["disconnectType"] = leg.reason
    return told
