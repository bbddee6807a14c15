"""The script of a generated load: marked fragments, each worked out when it is due. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from steno_sim.people import Cast, Person
from steno_sim.pieces import (
    Piece,
    Plan,
    Secret,
    Segment,
    Utterance,
    What,
    named_id,
    stable_id,
    to_ms,
    version_of,
)
from steno_sim.scenario import Load, Who

_LOAD_TEXTS = (
    "the parcel was meant to come on Tuesday and",
    "nobody rang at our door all morning so",
    "I looked at the tracking page again but",
    "it still says that it is on its way",
    "let me check where the van is right now",
    "please stay on the line for one moment",
    "your new delivery date has been written down",
    "is there anything else that I can do",
)
_LOAD_TEXTS_ES = (
    "el paquete tenía que llegar el martes y",
    "nadie ha llamado a la puerta esta mañana",
    "un momento que lo consulto ahora mismo",
    "la nueva fecha ya queda anotada",
)
_LOAD_PII = (
    Secret("phone", "415-555-0142"),
    Secret("email", "nora.lind@example.com"),
)
_LOAD_PII_WORDS = ("call me on 415-555-0142", "write to nora.lind@example.com")


class LoadScript:
    """The script of a generated load. Nothing is kept: each piece is worked out when due."""

    def __init__(self, spec: Load, *, seed: int, title: str, roles: bool = False) -> None:
        self.title = title
        self._labels = ("customer", "agent") if roles else ("speaker_0", "speaker_1")
        self.spec = spec
        self._seed = seed
        queue = named_id("queue", spec.queue)
        agent = named_id("user", spec.queue)
        self.plans = [self._plan(n, queue, agent) for n in range(spec.conversations)]

    def _plan(self, number: int, queue: str, agent: str) -> Plan:
        # The number ends the id, so that a mark tells which conversation it belongs to.
        tail = f"{self._seed & 0xFFFF:04x}-{number:012d}"
        return Plan(
            number=number,
            id=f"10adc0de-0000-4000-{tail}",
            queue=queue,
            agent=agent,
            language=self.spec.language,
            start_us=0,
            customer_participant=f"10adc0de-0001-4000-{tail}",
            agent_participant=f"10adc0de-0002-4000-{tail}",
            communications=[f"10adc0de-0003-4000-{tail}"],
            fragments=self.spec.fragments,
            agents=[agent],
        )

    def pieces(self) -> Iterator[Piece]:
        """Give every piece in the order in which it falls due."""
        spec = self.spec
        for what in (What.STARTED, What.ANSWERED, What.SESSION):
            for number in range(spec.conversations):
                yield Piece(due_us=0, stamp_us=0, conversation=number, what=what)
        step = 1e6 / spec.rate if spec.rate else 0.0
        due = 0
        for fragment in range(spec.fragments):
            for number in range(spec.conversations):
                due = round((fragment * spec.conversations + number) * step)
                yield self._fragment(number, fragment, due)
        for what in (What.SESSION_ENDED, What.ENDED):
            for number in range(spec.conversations):
                yield Piece(due_us=due, stamp_us=due, conversation=number, what=what)

    def _final(self, number: int, fragment: int) -> bool:
        # A different phase in each conversation, so that finals do not come in bursts.
        every = self.spec.final_every
        return (fragment + number) % every == every - 1 or fragment == self.spec.fragments - 1

    def _place(self, number: int, fragment: int) -> int:
        """Give the utterance that a fragment is in: finals before it, whatever the phase."""
        return (fragment + number % self.spec.final_every) // self.spec.final_every

    def _spanish(self, number: int, place: int) -> bool:
        every = self.spec.switch_every
        return every > 0 and (place + number) % every == every - 1

    def _words(self, number: int, fragment: int) -> str:
        spanish = self._spanish(number, self._place(number, fragment))
        texts = _LOAD_TEXTS_ES if spanish else _LOAD_TEXTS
        text = f"c{number}f{fragment} {texts[(fragment + number) % len(texts)]}"
        every = self.spec.pii_every
        if every and fragment % every == every - 1:
            text = f"{text} {_LOAD_PII_WORDS[(fragment // every) % 2]}"
        return f"{text}." if self._final(number, fragment) else text

    def _span(self, number: int, place: int) -> tuple[int, int]:
        """Give the first and last fragment of an utterance."""
        every = self.spec.final_every
        start = place * every - number % every
        return max(0, start), min(start + every - 1, self.spec.fragments - 1)

    def _fragment(self, number: int, fragment: int, due: int) -> Piece:
        spec = self.spec
        place = self._place(number, fragment)
        text = self._words(number, fragment)
        final = self._final(number, fragment)
        confidence = 0.7 + (fragment * 7 + number) % 30 / 100
        if self._spanish(number, place):
            confidence = 0.95
        first, _ = self._span(number, place)
        step = 1e6 * spec.conversations / spec.rate if spec.rate else 0.0
        begin, until = self._bounds(number, first, fragment)
        agent = place % 2 == 1
        return Piece(
            due_us=due,
            stamp_us=due,
            conversation=number,
            what=What.FRAGMENT,
            key=fragment,
            text=text,
            final=final,
            confidence=round(confidence, 2),
            utterance=place,
            since_us=due,
            utterance_us=max(0, due - round((fragment - first) * step)),
            begin_us=begin,
            until_us=until,
            speaker=self._labels[agent],
            channel="INTERNAL" if agent else "EXTERNAL",
        )

    def _bounds(self, number: int, first: int, last: int) -> tuple[int, int]:
        """Give where the speech of some fragments begins and ends, in whole milliseconds.

        Flat out every fragment is two seconds of speech, so that each has a place of its own.
        """
        spec = self.spec
        if not spec.rate:
            return first * 2_000_000, last * 2_000_000 + 1_900_000
        step = 1e6 / spec.rate
        begin, until = ((f * spec.conversations + number) * step for f in (first, last))
        return to_ms(round(begin)), max(to_ms(round(until)), to_ms(round(begin)) + 1000)

    def utterances(self, conversation: int) -> list[Utterance]:
        """Give the utterances of a conversation, by its number."""
        last = self._place(conversation, self.spec.fragments - 1)
        return [self._utterance(conversation, place) for place in range(last + 1)]

    def utterance(self, piece: Piece) -> Utterance:
        """Give the utterance that a fragment belongs to."""
        return self._utterance(piece.conversation, piece.utterance)

    def voice(self, piece: Piece) -> tuple[str, str]:
        """Give participant id and language of a fragment."""
        plan = self.plans[piece.conversation]
        spanish = self._spanish(piece.conversation, piece.utterance)
        who = plan.agent_participant if piece.utterance % 2 else plan.customer_participant
        return who, "es-ES" if spanish else self.spec.language

    def whole(self, piece: Piece) -> str:
        """Give the text of a fragment's utterance up to and with the fragment."""
        first, _ = self._span(piece.conversation, piece.utterance)
        return " ".join(self._words(piece.conversation, f) for f in range(first, piece.key + 1))

    def _utterance(self, number: int, place: int) -> Utterance:
        plan = self.plans[number]
        first, last = self._span(number, place)
        every = self.spec.pii_every
        who: Who = "agent" if place % 2 else "customer"
        text = " ".join(self._words(number, f) for f in range(first, last + 1))
        step = 1e6 / self.spec.rate if self.spec.rate else 0.0
        count = self.spec.conversations
        return Utterance(
            id=stable_id("utterance", plan.id, place),
            number=place,
            who=who,
            participant=plan.agent_participant if who == "agent" else plan.customer_participant,
            leg=1,
            language="es-ES" if self._spanish(number, place) else self.spec.language,
            mode="increments",
            text=text,
            sentences=[text],
            secrets=[
                _LOAD_PII[(f // every) % 2]
                for f in range(first, last + 1)
                if every and f % every == every - 1
            ],
            start_us=round((first * count + number) * step),
            end_us=round((last * count + number) * step),
            first=first,
            last=last,
        )

    def people(self, conversation: int) -> list[Person]:
        """Give everybody who ever takes part in a conversation, by its number."""
        plan, spec = self.plans[conversation], self.spec
        cast = Cast(plan.customer_participant, plan.queue, plan.communications)
        cast.begin(0)
        cast.answer(plan.agent_participant, plan.agent, "Agent", 0)
        last = spec.fragments * spec.conversations - 1
        cast.end(round(last * 1e6 / spec.rate) if spec.rate else 0)
        return cast.people

    def segments(self, conversation: int) -> list[Segment]:
        """Give the segments of a conversation, one for each utterance."""
        return [self._segment(conversation, u) for u in self.utterances(conversation)]

    def _segment(self, number: int, said: Utterance) -> Segment:
        plan, piece = self.plans[number], self._fragment(number, said.last, 0)
        version = version_of(msgspec.structs.replace(piece, whole=said.text))
        return Segment(
            utterance=said.number,
            speaker=piece.speaker,
            channel_speaker=said.who,
            participant=said.participant,
            user=plan.agent if said.who == "agent" else "",
            communication=plan.communications[0],
            marked=said.text,
            start_s=version.start_s,
            end_s=version.end_s,
            overlapped=False,
            blemishes=[],
            versions=[version],
        )
