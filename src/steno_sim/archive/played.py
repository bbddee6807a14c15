"""Transcripts of conversations that were played live: what was said, word for word."""

from __future__ import annotations

from steno_sim.archive.said import Party, StoredTurn, Talk
from steno_sim.people import NEVER
from steno_sim.pieces import Plan
from steno_sim.speech import spoken
from steno_sim.world import World

_ROLES = {"customer": "customer", "agent": "agent", "ivr": "system"}


def bounds(world: World, plan: Plan) -> tuple[int, int]:
    """Give when a conversation begins and ends, epoch ms; 0 for a beginning that is to come."""
    begins_ms = world.begun_us(plan) // 1000
    ends = [p.left_us for p in world.script.people(plan.number)]
    last_us = max((us for us in ends if us != NEVER), default=plan.start_us)
    return begins_ms, begins_ms + world.pressed(last_us - plan.start_us) // 1000


def talk(world: World, plan: Plan, leg: int | None) -> Talk:
    """Give what was said, as far as it became final live; the last correction of each.

    Args:
        world: Where it was played.
        plan: The conversation.
        leg: Index of the customer's call whose file it is, its times as the notification topics
            tell them; None for the document, its times those of the event socket, which count
            from the start of the conversation and are not shortened by the speed of playback.
    """
    script, begins_ms = world.script, bounds(world, plan)[0]
    turns: list[StoredTurn] = []
    starts_ms = begins_ms
    pairs = zip(script.utterances(plan.number), script.segments(plan.number), strict=True)
    for said, segment in pairs:
        if not segment.versions or (leg is not None and said.leg - 1 != leg):
            continue
        final = segment.versions[-1]
        start_us, begin_us, until_us = world.said_at(plan, said.leg, final)
        if leg is None:
            start_ms, end_ms = round(final.start_s * 1000), round(final.end_s * 1000)
        else:
            # The same rounding as in the event of the topic.
            starts_ms = start_us // 1000
            start_ms = max(0, begin_us // 1000 - starts_ms)
            end_ms = start_ms + max(1, until_us // 1000 - begin_us // 1000)
        turns.append(
            StoredTurn(
                len(turns),
                _ROLES[said.who],
                segment.participant or said.participant,
                final.text,
                spoken(final.text, said.language),
                start_ms,
                end_ms,
                begin_us // 1000,
                final.confidence,
                said.secrets,
                id=said.id,
            )
        )
    return Talk(_parties(world, plan), turns, plan.language, starts_ms)


def _parties(world: World, plan: Plan) -> list[Party]:
    return [
        Party(person.id, person.name, _ROLES[person.purpose], person.user)
        for person in world.script.people(plan.number)
        if person.purpose in _ROLES
    ]
