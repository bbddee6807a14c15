"""The schedule: a scenario and a seed become timed pieces of speech, and the truth about them.

Pure: the same scenario and seed give the same ids, times, cuts and blemishes on every
machine. Nothing here knows sockets; ``world`` plays the pieces, ``wire`` writes them out.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator

import msgspec

from steno_sim.layout import Layout, count_fragments
from steno_sim.load_script import LoadScript
from steno_sim.people import Person
from steno_sim.pieces import Piece, Plan, Script, Segment, Utterance, named_id, stable_id
from steno_sim.scenario import Scenario

__all__ = ["LoadScript", "Piece", "Script", "SpokenScript", "build"]


def build(scenario: Scenario, *, seed: int | None = None, conversations: int = 0) -> Script:
    """Give the script of a scenario.

    Args:
        scenario: A checked scenario.
        seed: Overrides the scenario's own.
        conversations: So many in place of the scenario's number: its conversations repeat,
            each with ids of its own. 0 leaves the number.
    """
    use_seed = scenario.seed if seed is None else seed
    if scenario.load is not None:
        spec = scenario.load
        if conversations:
            spec = msgspec.structs.replace(spec, conversations=conversations)
        roles = scenario.diarisation.labels == "roles"
        return LoadScript(spec, seed=use_seed, title=scenario.title or "load", roles=roles)
    return SpokenScript(scenario, seed=use_seed, conversations=conversations)


class SpokenScript:
    """The script of written conversations. Each conversation is laid out when it is needed."""

    def __init__(self, scenario: Scenario, *, seed: int, conversations: int = 0) -> None:
        self.title = scenario.title
        self._scenario = scenario
        self._seed = seed
        calls = scenario.conversations
        count = (conversations or len(calls)) if calls else 0
        self._calls = [calls[n % len(calls)] for n in range(count)]
        self._laid: dict[int, Layout] = {}
        self.plans = [self._plan(n) for n in range(count)]

    def _plan(self, number: int) -> Plan:
        call = self._calls[number]
        repeated = number >= len(self._scenario.conversations)
        name = (self._scenario.title, self._seed, number)
        start_s = number * self._scenario.stagger_s
        if call.start_s is not None and not repeated:
            start_s = call.start_s
        legs = max((t.leg for t in call.turns), default=1)
        agents = [t.agent for t in call.turns]
        return Plan(
            number=number,
            id=call.id if call.id and not repeated else stable_id("conversation", *name),
            queue=named_id("queue", call.queue),
            agent=named_id("user", call.agent),
            language=call.language,
            start_us=round(start_s * 1e6),
            customer_participant=stable_id("customer", *name),
            agent_participant=stable_id("agent", *name),
            communications=[stable_id("leg", n, *name) for n in range(1, legs + 1)],
            fragments=sum(
                count_fragments(turn, self._scenario, self._rng, (number, place))
                for place, turn in enumerate(call.turns)
            ),
            agents=[named_id("user", a) for a in dict.fromkeys([call.agent, *agents]) if a],
        )

    def _diarised(self, number: int) -> bool:
        said = self._calls[number].diarised
        draw = self._rng(number, "diarised").random()
        return draw >= self._scenario.diarisation.undiarised if said is None else said

    def _rng(self, *name: object) -> random.Random:
        # Not for secrets: the point is that it repeats.
        return random.Random("/".join(map(str, (self._seed, *name))))  # noqa: S311  # no secret is made of it

    def _layout(self, number: int) -> Layout:
        if number not in self._laid:
            self._laid[number] = Layout(
                self.plans[number],
                self._calls[number],
                self._scenario,
                self._rng,
                diarised=self._diarised(number),
            )
        return self._laid[number]

    def utterances(self, conversation: int) -> list[Utterance]:
        """Give the utterances of a conversation, by its number."""
        return self._layout(conversation).utterances

    def utterance(self, piece: Piece) -> Utterance:
        """Give the utterance that a fragment belongs to."""
        return self._layout(piece.conversation).utterances[piece.utterance]

    def voice(self, piece: Piece) -> tuple[str, str]:
        """Give participant id and language of a fragment."""
        utterance = self._layout(piece.conversation).utterances[piece.utterance]
        return utterance.participant, utterance.language

    def whole(self, piece: Piece) -> str:
        """Give the text of a fragment's utterance up to and with the fragment."""
        return piece.whole

    def people(self, conversation: int) -> list[Person]:
        """Give everybody who ever takes part in a conversation, by its number."""
        return self._layout(conversation).cast.people

    def segments(self, conversation: int) -> list[Segment]:
        """Give the segments of a conversation, one for each utterance."""
        return self._layout(conversation).segments()

    def pieces(self) -> Iterator[Piece]:
        """Give every piece in the order in which it falls due; lays out what has begun."""
        heap: list[tuple[int, int, int, Piece, Iterator[Piece]]] = []
        for plan in sorted(self.plans, key=lambda p: p.start_us):
            while heap and heap[0][0] < plan.start_us:
                yield self._pop(heap)
            self._push(heap, plan.number, 0, iter(self._layout(plan.number).pieces))
        while heap:
            yield self._pop(heap)

    @staticmethod
    def _push(
        heap: list[tuple[int, int, int, Piece, Iterator[Piece]]],
        number: int,
        place: int,
        rest: Iterator[Piece],
    ) -> None:
        piece = next(rest, None)
        if piece is not None:
            heapq.heappush(heap, (piece.due_us, number, place, piece, rest))

    def _pop(self, heap: list[tuple[int, int, int, Piece, Iterator[Piece]]]) -> Piece:
        _, number, place, piece, rest = heapq.heappop(heap)
        self._push(heap, number, place + 1, rest)
        return piece
