"""What a stored transcript says, whichever way it is written.

A made-up one is the recordings' talk, spread over roles, with overlaps, silences and turns of
nobody known. Long ones repeat it with later times; nothing is kept beyond one round. Pure.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

import msgspec

from steno_sim.pieces import Secret, stable_id
from steno_sim.recordings.talk import Turn as Spoken
from steno_sim.recordings.talk import draw, turns
from steno_sim.speech import spoken

ROUND_TURNS = 2048
_MANY_WORDS = 1 << 40
_OVERLAPPING, _SILENT, _PROMPTED = 0.08, 0.05, 0.04
_BAD_EVERY = 20
ROLES = ("agent", "customer", "system")
UNKNOWN = "unknown"


class Party(msgspec.Struct, frozen=True):
    """Somebody who takes part: id, name, and ``agent``, ``customer`` or ``system``."""

    id: str
    name: str
    role: str
    user: str = ""


class StoredTurn(msgspec.Struct, frozen=True):
    """One turn as it is stored.

    Attributes:
        role: ``agent``, ``customer``, ``system``, or ``unknown`` (nobody in the list).
        speaker: Id of a participant, or one that the list has not; empty where none is told.
        text: As displayed; ``spoken`` is the other form that the platform keeps.
        start_ms, end_ms: From the start of the conversation, or of its call.
        at_ms: When it was said, epoch ms.
        confidence: 0..1; None where none is told.
        bad: It is written so that nobody can read it.
        id: The utterance that it was live.
    """

    index: int
    role: str
    speaker: str
    text: str
    spoken: str
    start_ms: int
    end_ms: int
    at_ms: int
    confidence: float | None
    secrets: list[Secret] = []
    bad: bool = False
    id: str = ""


class Talk(msgspec.Struct, frozen=True):
    """Turns, and how they go on.

    Attributes:
        turns: One round; all there is where ``round_ms`` is 0.
        round_ms: By how much a round's times are later than those of the one before, in whole
            seconds.
        starts_ms: When it began, epoch ms.
    """

    parties: list[Party]
    turns: list[StoredTurn]
    language: str
    starts_ms: int
    round_ms: int = 0

    def end_ms(self, count: int) -> int:
        """Give when the last of so many turns is over, from the start of the first round."""
        rounds, rest = divmod(count, len(self.turns)) if self.turns else (0, 0)
        last = [turn.end_ms for turn in self.turns[:rest]]
        before = [turn.end_ms for turn in self.turns] if rounds else []
        return max(
            max(last, default=0) + (rounds * self.round_ms if last else 0),
            max(before, default=0) + max(0, rounds - 1) * self.round_ms,
        )

    def told(self, count: int) -> Iterator[StoredTurn]:
        """Give so many turns."""
        for index in range(count):
            round_, place = divmod(index, len(self.turns))
            turn, later = self.turns[place], round_ * self.round_ms
            if not round_:
                yield turn
                continue
            yield msgspec.structs.replace(
                turn,
                index=index,
                start_ms=turn.start_ms + later,
                end_ms=turn.end_ms + later,
                at_ms=turn.at_ms + later,
            )


def make_talk(
    seed: int,
    conversation: str,
    file: str,
    *,
    language: str,
    count: int,
    starts_ms: int,
    after_ms: int = 0,
    secrets: bool = True,
    unknown: float = 0.03,
    sparse: float = 0.0,
    bad: bool = False,
) -> Talk:
    """Make up what a conversation says in one of its files.

    Args:
        seed: With the ids it decides everything.
        conversation: Whose it is.
        file: Tells its files apart.
        language: Tag of a language that we speak.
        count: Turns of a round, at most ``ROUND_TURNS``.
        starts_ms: When it began, epoch ms.
        after_ms: The first turn is so much later.
        secrets: Numbers and addresses are planted.
        unknown: Share of turns by nobody known.
        sparse: Share of turns without a speaker and a confidence.
        bad: About one turn in twenty cannot be read.
    """
    parties = parties_of(conversation)
    key = f"{conversation}/{file}"
    dice = draw(seed, key, "turns")
    gaps = draw(seed, key, "sparse")
    told = turns(seed, key, language=language, words=_MANY_WORDS, voices=2, secrets=secrets)
    made: list[StoredTurn] = []
    shift = after_ms
    for index, turn in enumerate(islice(told, min(count, ROUND_TURNS))):
        shift += _shift(dice, index)
        party = _speaker(dice, parties, turn.voice, unknown, conversation)
        bare = sparse > 0 and gaps.random() < sparse
        if bare:
            party = Party("", "", UNKNOWN)
        start_ms = max(0, turn.words[0].start_ms + shift)
        end_ms = max(start_ms + 1, turn.words[-1].end_ms + shift)
        made.append(
            StoredTurn(
                index,
                party.role,
                party.id,
                turn.text,
                spoken(turn.text, language),
                start_ms,
                end_ms,
                starts_ms + start_ms,
                None if bare else _confidence(turn),
                turn.secrets,
                bad and index % _BAD_EVERY == _BAD_EVERY // 2,
            )
        )
    end_ms = max((turn.end_ms for turn in made), default=0)
    return Talk(parties, made, language, starts_ms, (end_ms // 1000 + 2) * 1000)


def parties_of(conversation: str) -> list[Party]:
    """Give who takes part in a made-up conversation: agent, customer and menu."""
    names = ("Agent One", "Customer One", "Menu")
    return [
        Party(
            stable_id("participant", conversation, role),
            name,
            role,
            stable_id("user", conversation) if role == "agent" else "",
        )
        for role, name in zip(ROLES, names, strict=True)
    ]


def _shift(dice: random.Random, index: int) -> int:
    """Give by how much what follows is later (a silence) or earlier (it overlaps)."""
    at = dice.random()
    if index and at < _OVERLAPPING:
        return -dice.randrange(900, 1800)
    return dice.randrange(3_000, 15_000) if at > 1 - _SILENT else 0


def _speaker(
    dice: random.Random, parties: list[Party], voice: int, unknown: float, conversation: str
) -> Party:
    at = dice.random()
    if at < unknown:
        return Party(stable_id("nobody", conversation, dice.randrange(3)), "", UNKNOWN)
    return parties[2] if at > 1 - _PROMPTED else parties[voice]


def _confidence(turn: Spoken) -> float:
    return round(sum(word.confidence for word in turn.words) / len(turn.words), 4)
