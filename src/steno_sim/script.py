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

from steno_sim.blemishes import Blemishes, choose, first_hearing, overlap_s
from steno_sim.people import Cast, Person
from steno_sim.scenario import Call, Load, Mode, Scenario, Style, Turn, Who

_SPACE = uuid.UUID("6f0a4c1e-58a2-4d0b-9d43-2f4b8e7a9c11")
_SECRET = re.compile(r"\{([a-z]+)(?:#(\d+))?:([^{}]*)\}")
_CORRECTED_AFTER_US = 800_000
_ONGOING_EVERY_US = 300_000_000  # a status every 5 minutes, whatever is said


class What(IntEnum):
    """What a piece is."""

    STARTED = 0
    ANSWERED = 1
    SESSION = 2
    FRAGMENT = 3
    SESSION_ENDED = 4
    ENDED = 5
    CHANGED = 6  # somebody joined or left


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


class Version(msgspec.Struct, frozen=True):
    """A final of a segment: what it says, and the number of the fragment that says it.

    Times are seconds from the start of the conversation, as the event socket writes them.
    """

    key: int
    text: str
    start_s: float
    end_s: float
    confidence: float


class Segment(msgspec.Struct, frozen=True):
    """One piece of one person's speech as a collector is to know it.

    Attributes:
        utterance: Number of the utterance.
        speaker: Label on the event socket; empty when it names nobody.
        channel_speaker: The person behind the channel of the notification topics: agent,
            agent-2 … by transfer, customer, system; empty when the channel names nobody.
        marked: Text with the planted secrets in braces.
        overlapped: Somebody else speaks at the same time.
        blemishes: What is wrong with it.
        versions: Its finals in the order in which they are sent; the last is right.
    """

    utterance: int
    speaker: str
    channel_speaker: str
    participant: str
    user: str
    communication: str
    marked: str
    start_s: float
    end_s: float
    overlapped: bool
    blemishes: list[str]
    versions: list[Version]


class Plan(msgspec.Struct, frozen=True):
    """One conversation's fixed facts; ``agents`` are the user ids of all its agents."""

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
    agents: list[str]


class Piece(msgspec.Struct, frozen=True, gc=False):
    """One thing that falls due, ``due_us`` after the start.

    ``stamp_us`` is its own time: it differs from ``due_us`` when the piece was delayed or
    moved. ``whole`` is the utterance so far, where it is kept: see ``Script.whole``.
    ``since_us`` is where the words begin that ``text`` holds, ``utterance_us`` where the
    utterance does. ``begin_us`` to ``until_us`` are the bounds of the utterance so far as
    segments tell them, from the start of the conversation. ``speaker`` is the label on the
    event socket and ``channel`` that of the topics. ``joined`` waits for the next fragment
    and shares its event; ``correction`` is a second final, which the stream does not have.
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
    begin_us: int = 0
    until_us: int = 0
    speaker: str = ""
    channel: str = "EXTERNAL"
    joined: bool = False
    correction: bool = False


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

    def people(self, conversation: int) -> list[Person]:
        """Give everybody who ever takes part in a conversation, by its number."""
        ...

    def segments(self, conversation: int) -> list[Segment]:
        """Give the segments of a conversation, one for each utterance."""
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
        roles = scenario.diarisation.labels == "roles"
        return LoadScript(spec, seed=use_seed, title=scenario.title or "load", roles=roles)
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
            fragments=sum(self._count(number, i, t) for i, t in enumerate(call.turns)),
            agents=[named_id("user", a) for a in dict.fromkeys([call.agent, *agents]) if a],
        )

    def _count(self, number: int, place: int, turn: Turn) -> int:
        """Count the fragments of a turn; a correction is one more."""
        increments = cut(turn, self._scenario.style, self._rng(number, place))
        return len(increments) + ("corrected" in self._blemishes(number, place, turn))

    def _blemishes(self, number: int, place: int, turn: Turn) -> Blemishes:
        return choose(turn, self._scenario.diarisation, self._rng(number, place, "diarisation"))

    def _diarised(self, number: int) -> bool:
        said = self._calls[number].diarised
        draw = self._rng(number, "diarised").random()
        return draw >= self._scenario.diarisation.undiarised if said is None else said

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


def version_of(piece: Piece) -> Version:
    """Give the final that a fragment is."""
    start_s, end_s = piece.begin_us / 1e6, piece.until_us / 1e6
    return Version(piece.key, piece.whole, start_s, end_s, piece.confidence)


def _to_ms(us: int) -> int:
    """Give a time rounded to whole milliseconds, in microseconds."""
    return round(us / 1000) * 1000


def _numbered(label: str, number: int) -> str:
    return label if number == 1 else f"{label}-{number}"


def _person_name(name: str) -> str:
    """Give the name to show of an agent that a scenario names, or names by its id."""
    try:
        uuid.UUID(name)
    except ValueError:
        return name.replace("-", " ").title()
    return "Agent"


class _Layout:
    """One conversation, laid out in time."""

    def __init__(self, script: SpokenScript, number: int) -> None:
        plan = script.plans[number]
        self.utterances: list[Utterance] = []
        self.pieces: list[Piece] = []
        self.cast = Cast(plan.customer_participant, plan.queue, plan.communications)
        self._segments: list[Segment] = []
        self._plan = plan
        self._script = script
        self._scenario = script._scenario
        self._call: Call = script._calls[number]
        self._diarised = script._diarised(number)
        self._labels: dict[tuple[str, str], str] = {}
        self._agent = self._call.agent
        self._agent_participant = plan.agent_participant
        self._agents_on = [self._call.agent]
        self._spoken_us = plan.start_us
        self._key = 0
        self._build()

    def _build(self) -> None:
        plan, turns = self._plan, self._call.turns
        menu = max((n for n, t in enumerate(turns) if t.who == "ivr"), default=-1)
        self._note(What.STARTED, plan.start_us, 1)
        self.cast.begin(plan.start_us, ivr=self._menu_participant if menu >= 0 else "")
        if menu < 0:
            self._answered(plan.start_us + 1000)
        clock = plan.start_us + 2000
        leg, before = 1, clock
        self._note(What.SESSION, clock, leg)
        clock += round(self._scenario.lead_in_s * 1e6)
        ongoing = plan.start_us + _ONGOING_EVERY_US
        for place, turn in enumerate(turns):
            begin = max(plan.start_us + 3000, clock + self._gap_us(place, clock - before))
            if turn.agent and turn.agent != self._agent:
                self._transfer(turn.agent, begin)
            if turn.leg != leg:
                self._note(What.SESSION_ENDED, clock, leg)
                leg = turn.leg
                self.cast.redial(leg, ended_us=clock, begun_us=clock + 1000)
                self._note(What.SESSION, clock + 1000, leg)
                self._note(What.CHANGED, clock + 1000, leg)
            before, clock = begin, self._speak(place, turn, begin)
            self._spoken_us = max(self._spoken_us, clock)
            if place == menu:
                self.cast.wait(clock)
                self._note(What.CHANGED, clock, leg)
                clock += round(self._scenario.style.gap_s * 1e6)
                self._answered(clock)
            while clock >= ongoing:
                self._note(What.SESSION, ongoing, leg)
                ongoing += _ONGOING_EVERY_US
        end = self._end_us(clock)
        self._note(What.SESSION_ENDED, end, leg)
        self.cast.end(end)
        self._note(What.ENDED, end + 1000, leg)
        self.pieces.sort(key=lambda p: p.due_us)

    def _end_us(self, clock: int) -> int:
        """Give when the call ends; a late final may come afterwards, as on the platform."""
        late = {place for place, s in enumerate(self._segments) if "late" in s.blemishes}
        due = [p.due_us for p in self.pieces if not (p.final and p.utterance in late)]
        return max(due, default=clock) + 1000

    @property
    def _menu_participant(self) -> str:
        return stable_id("ivr", self._plan.customer_participant)

    def _gap_us(self, place: int, spoken_us: int) -> int:
        """Give the silence before a turn; below 0 when it talks over the one before."""
        turn = self._call.turns[place]
        before = self._call.turns[place - 1] if place else None
        draw = self._script._rng(self._plan.number, place, "overlap").random()
        over_s = overlap_s(turn, before, spoken_us / 1e6, self._scenario.diarisation, draw)
        gap_s = self._scenario.style.gap_s if turn.after_s is None else turn.after_s
        return round((-over_s or gap_s) * 1e6)

    def _answered(self, at_us: int) -> None:
        user = named_id("user", self._agent)
        self.cast.answer(self._agent_participant, user, _person_name(self._agent), at_us)
        self._note(What.ANSWERED, at_us, 1)

    def _transfer(self, agent: str, begin: int) -> None:
        """Hand the call to another agent before the turn that begins then."""
        left = max(self._spoken_us, self._plan.start_us + 2000)
        joined = (left + begin) // 2 if begin > left else begin - 1000  # warm: joins first
        before, self._agent = self._agent_participant, agent
        self._agents_on.append(agent)
        self._agent_participant = stable_id(
            "agent", len(self._agents_on), self._plan.agent_participant
        )
        self.cast.leave(before, left)
        user = named_id("user", agent)
        self.cast.answer(self._agent_participant, user, _person_name(agent), joined)
        self._note(What.CHANGED, left, 1)
        self._note(What.CHANGED, joined, 1)

    def _note(self, what: What, at_us: int, leg: int) -> None:
        self.pieces.append(
            Piece(due_us=at_us, stamp_us=at_us, conversation=self._plan.number, what=what, leg=leg)
        )

    def _speak(self, place: int, turn: Turn, begin: int) -> int:
        """Lay out one turn; give when its speech ends."""
        style, plan = self._scenario.style, self._plan
        increments = cut(turn, style, self._script._rng(plan.number, place))
        rng = self._script._rng(plan.number, place, "detail")
        blemishes = self._script._blemishes(plan.number, place, turn)
        mode = turn.mode or style.mode
        mean = style.confidence if turn.confidence is None else turn.confidence
        mean = blemishes.confidence or mean
        speaker, channel = self._voice(turn, blemishes)
        word_us = 1e6 / style.words_per_s
        fragments: list[Piece] = []
        whole, clock = "", begin
        for number, words in enumerate(increments):
            last = number == len(increments) - 1
            since, clock = clock, clock + round(len(words.split()) * word_us)
            whole = f"{whole} {words}" if whole else words
            due = clock + (round(style.final_delay_s * 1e6) if last else 0)
            final = last and "never_final" not in blemishes
            spread = rng.uniform(-0.02, 0.02) - (0.0 if last else 0.05)
            fragments.append(
                Piece(
                    due_us=due,
                    stamp_us=due,
                    conversation=plan.number,
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
                    begin_us=_to_ms(begin - plan.start_us),
                    until_us=_to_ms(clock - plan.start_us),
                    speaker=speaker,
                    channel=channel,
                    joined="joined" in blemishes and last,
                )
            )
        fragments = self._spoil(fragments, blemishes, place)
        self._remember(place, turn, mode, whole, begin, clock, len(fragments))
        self._remember_segment(turn, fragments, blemishes)
        self.pieces += self._blemish(fragments, mode, rng)
        return clock

    def _voice(self, turn: Turn, blemishes: Blemishes) -> tuple[str, str]:
        """Give a turn's label on the event socket, and its channel on the topics."""
        person = (turn.who, self._agent if turn.who == "agent" else turn.voice)
        if person not in self._labels:
            self._labels[person] = self._new_label(turn.who)
        if not self._diarised:
            return "", "BOTH"
        if "no_speaker" in blemishes:
            return "", "UNKNOWN"
        return self._labels[person], "EXTERNAL" if turn.who == "customer" else "INTERNAL"

    def _new_label(self, who: Who) -> str:
        if self._scenario.diarisation.labels == "numbers":
            return f"speaker_{len(self._labels)}"
        return _numbered(
            "system" if who == "ivr" else who, 1 + sum(w == who for w, _ in self._labels)
        )

    def _spoil(self, fragments: list[Piece], blemishes: Blemishes, place: int) -> list[Piece]:
        """Give the fragments with loose bounds, a late final, or a final and its correction."""
        spec, replace = self._scenario.diarisation, msgspec.structs.replace
        rng = self._script._rng(self._plan.number, place, "bounds")
        wander = round(spec.wander_s * 1e6)
        spoilt = []
        for piece in fragments:
            begin = max(0, piece.begin_us + rng.randint(-wander, wander))
            until = max(begin + 10_000, piece.until_us + rng.randint(-wander, wander))
            if wander and not piece.final:
                piece = replace(piece, begin_us=_to_ms(begin), until_us=_to_ms(until))
            spoilt.append(piece)
        final = spoilt[-1]
        if "late" in blemishes:
            final = spoilt[-1] = replace(final, due_us=final.due_us + round(spec.late_s * 1e6))
        if "corrected" in blemishes:
            spoilt[-1:] = self._twice(final)
        return spoilt

    def _twice(self, final: Piece) -> list[Piece]:
        """Give a final as it was heard first, and its correction."""
        replace = msgspec.structs.replace
        text, confidence = first_hearing(final.whole, final.confidence)
        word_us = round(1e6 / self._scenario.style.words_per_s)
        until = final.until_us - (_to_ms(word_us) if text != final.whole else 0)
        first = replace(final, whole=text, confidence=confidence, until_us=until)
        at = final.due_us + _CORRECTED_AFTER_US
        second = replace(
            final, key=final.key + 1, due_us=at, stamp_us=at, correction=True, joined=False
        )
        return [first, second]

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
                participant=self._participant(turn.who),
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

    def _participant(self, who: Who) -> str:
        if who == "ivr":
            return self._menu_participant
        return self._agent_participant if who == "agent" else self._plan.customer_participant

    def _remember_segment(self, turn: Turn, sent: list[Piece], blemishes: Blemishes) -> None:
        utterance, last = self.utterances[-1], sent[-1]
        base = self._plan.start_us
        named = last.channel in ("INTERNAL", "EXTERNAL")
        agents = list(dict.fromkeys(self._agents_on))
        speakers = {
            "ivr": "system",
            "customer": "customer",
            "agent": _numbered("agent", agents.index(self._agent) + 1),
        }
        self._segments.append(
            Segment(
                utterance=utterance.number,
                speaker=last.speaker,
                channel_speaker=speakers[turn.who] if named else "",
                participant=utterance.participant,
                user=named_id("user", self._agent) if turn.who == "agent" else "",
                communication=self._plan.communications[turn.leg - 1],
                marked=" ".join(" ".join(turn.pieces or turn.sentences).split()),
                start_s=_to_ms(utterance.start_us - base) / 1e6,
                end_s=_to_ms(utterance.end_us - base) / 1e6,
                overlapped=False,
                blemishes=[*blemishes.kinds, *([] if self._diarised else ["undiarised"])],
                versions=[version_of(p) for p in sent if p.final],
            )
        )

    def segments(self) -> list[Segment]:
        """Give the segments, those marked that somebody else talks over."""
        said = self.utterances
        found = []
        for one, mine in zip(self._segments, said, strict=True):
            over = any(
                o.participant != mine.participant
                and o.start_us < mine.end_us
                and mine.start_us < o.end_us
                for o in said
            )
            found.append(msgspec.structs.replace(one, overlapped=over))
        return found

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
        return _to_ms(round(begin)), max(_to_ms(round(until)), _to_ms(round(begin)) + 1000)

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
