"""The schedule: a scenario and a seed become timed pieces of speech, and the truth about them.

Pure: the same scenario and seed give the same ids, times, cuts and blemishes on every
machine. Nothing here knows sockets; ``world`` plays the pieces, ``wire`` writes them out.

Terms: a *plan* is one conversation with fixed ids; an *utterance* is one turn, with its text,
sentences, secrets and fragments; a *piece* is one thing that falls due: a fragment, or a
notice that a conversation started, goes on or ended. Fragments are numbered through a
conversation (``key``) in the order in which they were spoken; copies keep the number.
"""

from __future__ import annotations

import heapq
import random
import re
import uuid
from collections.abc import Iterator
from enum import IntEnum
from typing import Protocol

import msgspec

from steno_sim.scenario import Call, Load, Mode, Scenario, Style, Turn, Who

_SPACE = uuid.UUID("6f0a4c1e-58a2-4d0b-9d43-2f4b8e7a9c11")
_SECRET = re.compile(r"\{([a-z]+)(?:#(\d+))?:([^{}]*)\}")
_ONGOING_EVERY_US = 300_000_000  # a status every 5 minutes, whatever is said


class What(IntEnum):
    """What a piece is."""

    STARTED = 0
    ANSWERED = 1
    SESSION = 2
    FRAGMENT = 3
    SESSION_ENDED = 4
    ENDED = 5


class Secret(msgspec.Struct, frozen=True):
    """Personal data planted in one utterance; ``group`` joins the parts of one secret."""

    kind: str
    text: str
    group: str = ""


class Utterance(msgspec.Struct, frozen=True):
    """One turn: what was said, and the fragments (numbers ``first`` to ``last``) that say it.

    ``start_us`` and ``end_us`` bound the speech, from the start of the scenario.
    """

    id: str
    number: int
    who: Who
    participant: str
    leg: int
    language: str
    mode: Mode
    text: str
    sentences: list[str]
    secrets: list[Secret]
    start_us: int
    end_us: int
    first: int
    last: int


class Plan(msgspec.Struct, frozen=True):
    """One conversation's fixed facts."""

    number: int
    id: str
    queue: str
    agent: str
    language: str
    start_us: int
    customer_participant: str
    agent_participant: str
    communications: list[str]
    fragments: int

    def participant(self, who: Who) -> str:
        """Give the participant id of a side."""
        return self.agent_participant if who == "agent" else self.customer_participant


class Piece(msgspec.Struct, frozen=True, gc=False):
    """One thing that falls due, ``due_us`` after the start.

    ``stamp_us`` is its own time: it differs from ``due_us`` when the piece was delayed or
    moved. ``whole`` is the utterance so far, where it is kept: see ``Script.whole``.
    ``since_us`` is where the words begin that ``text`` holds, ``utterance_us`` where the
    utterance does.
    """

    due_us: int
    stamp_us: int
    conversation: int
    what: What
    key: int = -1
    copy: bool = False
    text: str = ""
    whole: str = ""
    final: bool = False
    confidence: float = 0.0
    leg: int = 1
    utterance: int = -1
    since_us: int = 0
    utterance_us: int = 0


class Script(Protocol):
    """What a world can play."""

    title: str
    plans: list[Plan]

    def pieces(self) -> Iterator[Piece]:
        """Give every piece in the order in which it falls due."""
        ...

    def utterances(self, conversation: int) -> list[Utterance]:
        """Give the utterances of a conversation, by its number."""
        ...

    def utterance(self, piece: Piece) -> Utterance:
        """Give the utterance that a fragment belongs to."""
        ...

    def voice(self, piece: Piece) -> tuple[str, str]:
        """Give participant id and language of a fragment; cheaper than its utterance."""
        ...

    def whole(self, piece: Piece) -> str:
        """Give the text of a fragment's utterance up to and with the fragment."""
        ...


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
        return LoadScript(spec, seed=use_seed, title=scenario.title or "load")
    return SpokenScript(scenario, seed=use_seed, conversations=conversations)


def stable_id(*parts: object) -> str:
    """Give the same UUID for the same parts, on every machine."""
    return str(uuid.uuid5(_SPACE, "/".join(map(str, parts))))


def named_id(kind: str, name: str) -> str:
    """Give the UUID that a name stands for, or the UUID itself when it is one."""
    try:
        return str(uuid.UUID(name))
    except ValueError:
        return stable_id(kind, name)


def strip_secrets(marked: str, group_base: str = "") -> tuple[str, list[Secret]]:
    """Give a text without its braces, and the secrets that stood in them."""
    secrets = [
        Secret(m[1], m[3], f"{group_base}{m[1]}#{m[2]}" if m[2] else "")
        for m in _SECRET.finditer(marked)
    ]
    return _SECRET.sub(lambda m: m[3], marked), secrets


class SpokenScript:
    """The script of written conversations. Each conversation is laid out when it is needed."""

    def __init__(self, scenario: Scenario, *, seed: int, conversations: int = 0) -> None:
        self.title = scenario.title
        self._scenario = scenario
        self._seed = seed
        calls = scenario.conversations
        count = (conversations or len(calls)) if calls else 0
        self._calls = [calls[n % len(calls)] for n in range(count)]
        self._laid: dict[int, _Layout] = {}
        self.plans = [self._plan(n) for n in range(count)]

    def _plan(self, number: int) -> Plan:
        call = self._calls[number]
        repeated = number >= len(self._scenario.conversations)
        name = (self._scenario.title, self._seed, number)
        start_s = number * self._scenario.stagger_s
        if call.start_s is not None and not repeated:
            start_s = call.start_s
        legs = max((t.leg for t in call.turns), default=1)
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
                len(cut(t, self._scenario.style, self._rng(number, i)))
                for i, t in enumerate(call.turns)
            ),
        )

    def _rng(self, *name: object) -> random.Random:
        # Not for secrets: the point is that it repeats.
        return random.Random("/".join(map(str, (self._seed, *name))))  # noqa: S311  # no secret is made of it

    def _layout(self, number: int) -> _Layout:
        if number not in self._laid:
            self._laid[number] = _Layout(self, number)
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


def cut(turn: Turn, style: Style, rng: random.Random) -> list[str]:
    """Give the increments of a turn, without braces: what each fragment adds."""
    if turn.pieces:
        return [strip_secrets(p)[0] for p in turn.pieces]
    words = strip_secrets(" ".join(turn.sentences))[0].split()
    increments = []
    while words:
        count = rng.randint(*style.piece_words)
        # A last fragment of one word would say nothing new as a partial.
        if len(words) - count == 1:
            count += 1
        increments.append(" ".join(words[:count]))
        words = words[count:]
    return increments


class _Layout:
    """One conversation, laid out in time."""

    def __init__(self, script: SpokenScript, number: int) -> None:
        self.utterances: list[Utterance] = []
        self.pieces: list[Piece] = []
        self._plan = script.plans[number]
        self._script = script
        self._scenario = script._scenario
        self._call: Call = script._calls[number]
        self._key = 0
        self._build()

    def _build(self) -> None:
        plan = self._plan
        self._note(What.STARTED, plan.start_us, 1)
        self._note(What.ANSWERED, plan.start_us + 1000, 1)
        clock = plan.start_us + 2000
        leg = 1
        self._note(What.SESSION, clock, leg)
        clock += round(self._scenario.lead_in_s * 1e6)
        ongoing = plan.start_us + _ONGOING_EVERY_US
        for place, turn in enumerate(self._call.turns):
            if turn.leg != leg:
                self._note(What.SESSION_ENDED, clock, leg)
                leg = turn.leg
                self._note(What.SESSION, clock + 1000, leg)
            gap_s = self._scenario.style.gap_s if turn.after_s is None else turn.after_s
            begin = max(plan.start_us + 3000, clock + round(gap_s * 1e6))
            clock = self._speak(place, turn, begin)
            while clock >= ongoing:
                self._note(What.SESSION, ongoing, leg)
                ongoing += _ONGOING_EVERY_US
        end = max((p.due_us for p in self.pieces), default=clock) + 1000
        self._note(What.SESSION_ENDED, end, leg)
        self._note(What.ENDED, end + 1000, leg)
        self.pieces.sort(key=lambda p: p.due_us)

    def _note(self, what: What, at_us: int, leg: int) -> None:
        self.pieces.append(
            Piece(due_us=at_us, stamp_us=at_us, conversation=self._plan.number, what=what, leg=leg)
        )

    def _speak(self, place: int, turn: Turn, begin: int) -> int:
        """Lay out one turn; give when its speech ends."""
        style = self._scenario.style
        increments = cut(turn, style, self._script._rng(self._plan.number, place))
        rng = self._script._rng(self._plan.number, place, "detail")
        mode = turn.mode or style.mode
        mean = style.confidence if turn.confidence is None else turn.confidence
        word_us = 1e6 / style.words_per_s
        fragments: list[Piece] = []
        whole, clock = "", begin
        for number, words in enumerate(increments):
            final = number == len(increments) - 1
            since, clock = clock, clock + round(len(words.split()) * word_us)
            whole = f"{whole} {words}" if whole else words
            due = clock + (round(style.final_delay_s * 1e6) if final else 0)
            spread = rng.uniform(-0.02, 0.02) - (0.0 if final else 0.05)
            fragments.append(
                Piece(
                    due_us=due,
                    stamp_us=due,
                    conversation=self._plan.number,
                    what=What.FRAGMENT,
                    key=self._key + number,
                    text=whole if mode == "growing" else words,
                    whole=whole,
                    final=final,
                    confidence=round(min(0.99, max(0.01, mean + spread)), 3),
                    leg=turn.leg,
                    utterance=place,
                    since_us=begin if mode == "growing" else since,
                    utterance_us=begin,
                )
            )
        self._remember(place, turn, mode, whole, begin, clock, len(fragments))
        self.pieces += self._blemish(fragments, mode, rng)
        return clock

    def _remember(
        self, place: int, turn: Turn, mode: Mode, text: str, begin: int, end: int, count: int
    ) -> None:
        plan = self._plan
        marked = turn.pieces or turn.sentences
        found = [strip_secrets(s, f"{plan.number}/") for s in marked]
        self.utterances.append(
            Utterance(
                id=stable_id("utterance", plan.id, place),
                number=place,
                who=turn.who,
                participant=plan.participant(turn.who),
                leg=turn.leg,
                language=turn.language or plan.language,
                mode=mode,
                text=text,
                sentences=[" ".join(strip_secrets(s)[0].split()) for s in turn.sentences],
                secrets=[secret for _, secrets in found for secret in secrets],
                start_us=begin,
                end_us=end,
                first=self._key,
                last=self._key + count - 1,
            )
        )
        self._key += count

    def _blemish(self, pieces: list[Piece], mode: Mode, rng: random.Random) -> list[Piece]:
        """Give the pieces with copies, swaps and stragglers as the scenario's noise says.

        A final never changes places: a final that overtakes its own increment would leave
        it open which text is right.
        """
        noise = self._scenario.noise
        replace = msgspec.structs.replace
        sent = list(pieces)
        for n in range(len(sent) - 2):
            if rng.random() < noise.reorder:
                one, two = sent[n], sent[n + 1]
                sent[n], sent[n + 1] = (
                    replace(two, due_us=one.due_us),
                    replace(one, due_us=two.due_us),
                )
        for piece in list(sent):
            if rng.random() < noise.duplicates:
                delay = rng.randint(5_000, 40_000)
                sent.append(replace(piece, due_us=piece.due_us + delay, copy=True))
        if mode == "growing" and len(pieces) > 1 and rng.random() < noise.late:
            due = pieces[-1].due_us + rng.randint(10_000, 60_000)
            sent.append(replace(pieces[-2], due_us=due, copy=True))
        return sent


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

    def __init__(self, spec: Load, *, seed: int, title: str) -> None:
        self.title = title
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
        )

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
            participant=plan.participant(who),
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
