"""Recorded events: what a socket would have written, one event a line, without a socket.

``of_scenario`` writes a scenario's events as they fall due, at speed 1 from a fixed date, with
its blemishes; ``truth_of`` tells what a collector of all of them is to know. The same seed
gives the same bytes. ``bulk`` makes up far more, far faster.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Literal

from steno_sim import people, wire
from steno_sim.ledger import Ledger, Truth
from steno_sim.pieces import Piece, Plan, Script, What
from steno_sim.wire import EventForm

Source = Literal["event-socket", "notifications"]
BEGIN_US = 1_767_603_600_000_000  # 2026-01-05T09:00:00Z
_SPACE = uuid.UUID("0e3c4b9a-7b7e-4d8b-93a5-d1f0a4c58e21")


def of_scenario(script: Script, source: Source, *, form: EventForm = "wrapped") -> Iterator[bytes]:
    """Give the events of a script in the order in which they fall due, without line ends.

    Args:
        script: What is said.
        source: As on the event socket, or as on a channel with the topics of every
            conversation's transcript and of their queues.
        form: Event socket: the form of events.
    """
    if source == "event-socket":
        yield from _events(script, form)
    else:
        yield from _notifications(script)


def truth_of(script: Script, source: Source) -> Truth:
    """Give the truth for whoever got every event of a script."""
    ledger = Ledger(script)
    event = source == "event-socket"
    for piece in script.pieces():
        if piece.what is What.FRAGMENT:
            ledger.record(piece, stream=False, topic=not event, event=event)
    started = {plan.number: BEGIN_US + plan.start_us for plan in script.plans}
    return ledger.truth(started=started)


def _events(script: Script, form: EventForm) -> Iterator[bytes]:
    waiting: dict[int, list[Piece]] = {}
    for piece in script.pieces():
        number = piece.conversation
        plan = script.plans[number]
        if piece.what is What.FRAGMENT and piece.joined and not waiting.get(number):
            waiting[number] = [piece]
        elif piece.what is What.FRAGMENT:
            yield wire.update_event(script, plan, [*waiting.pop(number, []), piece], form)
        elif piece.what is What.ENDED and waiting.get(number):
            yield wire.update_event(script, plan, waiting.pop(number), form)
    for number, left in waiting.items():
        yield wire.update_event(script, script.plans[number], left, form)


def _notifications(script: Script) -> Iterator[bytes]:
    for count, piece in enumerate(script.pieces()):
        name = str(uuid.uuid5(_SPACE, f"{script.title}/{count}"))
        yield _told(script, piece, script.plans[piece.conversation], name)


def _told(script: Script, piece: Piece, plan: Plan, correlation: str) -> bytes:
    """Give the event of a piece; who takes part is told on the queue's topic alone."""
    at_us, begin_us = BEGIN_US + piece.stamp_us, BEGIN_US + plan.start_us + piece.begin_us
    start_us = _leg_start_us(script, plan, piece.leg)
    if piece.what in (What.SESSION, What.SESSION_ENDED):
        return wire.session_event(
            piece, plan, at_us=at_us, start_us=start_us, correlation=correlation
        )
    if piece.what is What.FRAGMENT:
        return wire.transcript_event(
            piece,
            plan,
            script.utterance(piece),
            script.whole(piece),
            at_us=at_us,
            start_us=start_us,
            offset_ms=max(0, begin_us // 1000 - start_us // 1000),
            duration_ms=max(1, (piece.until_us - piece.begin_us) // 1000),
            correlation=correlation,
        )
    told = people.entity(
        plan.id,
        script.people(plan.number),
        piece.due_us,
        lambda us: wire.milli_stamp(BEGIN_US + us),
    )
    return wire.envelope(wire.conversation_topics(plan, [])[0], told, correlation=correlation)


def _leg_start_us(script: Script, plan: Plan, leg: int) -> int:
    """Give when a communication began: its customer's call of that number."""
    customer = script.people(plan.number)[0]
    return BEGIN_US + customer.legs[leg - 1].connected_us
