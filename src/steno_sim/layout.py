"""One written conversation laid out in time: who says what when, in which pieces, how blemished.

Pure: every random number comes by name from the scenario's seed.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable

import msgspec

from steno_sim.blemishes import Blemishes, choose, first_hearing, overlap_s
from steno_sim.people import Cast
from steno_sim.pieces import (
    Piece,
    Plan,
    Segment,
    Utterance,
    What,
    named_id,
    stable_id,
    strip_secrets,
    to_ms,
    version_of,
)
from steno_sim.scenario import Call, Mode, Scenario, Style, Turn, Who

Rng = Callable[..., random.Random]
_CORRECTED_AFTER_US = 800_000
_ONGOING_EVERY_US = 300_000_000  # a status every 5 minutes, whatever is said


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


def blemishes_of(turn: Turn, scenario: Scenario, rng: Rng, place: tuple[int, int]) -> Blemishes:
    """Give the blemishes of a turn, by the numbers of its conversation and its own."""
    return choose(turn, scenario.diarisation, rng(*place, "diarisation"))


def count_fragments(turn: Turn, scenario: Scenario, rng: Rng, place: tuple[int, int]) -> int:
    """Count the fragments of a turn; a correction is one more."""
    increments = cut(turn, scenario.style, rng(*place))
    return len(increments) + ("corrected" in blemishes_of(turn, scenario, rng, place))


def _numbered(label: str, number: int) -> str:
    return label if number == 1 else f"{label}-{number}"


def _person_name(name: str) -> str:
    """Give the name to show of an agent that a scenario names, or names by its id."""
    try:
        uuid.UUID(name)
    except ValueError:
        return name.replace("-", " ").title()
    return "Agent"


class Layout:
    """One conversation, laid out in time.

    Args:
        plan: Its fixed facts.
        call: What is said.
        scenario: How it is said, and blemished.
        rng: Gives the random numbers of a name.
        diarised: Its provider tells speakers apart.
    """

    def __init__(
        self, plan: Plan, call: Call, scenario: Scenario, rng: Rng, *, diarised: bool
    ) -> None:
        self.utterances: list[Utterance] = []
        self.pieces: list[Piece] = []
        self.cast = Cast(plan.customer_participant, plan.queue, plan.communications)
        self._segments: list[Segment] = []
        self._plan = plan
        self._scenario = scenario
        self._call = call
        self._rng = rng
        self._diarised = diarised
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
        draw = self._rng(self._plan.number, place, "overlap").random()
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
        increments = cut(turn, style, self._rng(plan.number, place))
        rng = self._rng(plan.number, place, "detail")
        blemishes = blemishes_of(turn, self._scenario, self._rng, (plan.number, place))
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
                    begin_us=to_ms(begin - plan.start_us),
                    until_us=to_ms(clock - plan.start_us),
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
        rng = self._rng(self._plan.number, place, "bounds")
        wander = round(spec.wander_s * 1e6)
        spoilt = []
        for piece in fragments:
            begin = max(0, piece.begin_us + rng.randint(-wander, wander))
            until = max(begin + 10_000, piece.until_us + rng.randint(-wander, wander))
            if wander and not piece.final:
                piece = replace(piece, begin_us=to_ms(begin), until_us=to_ms(until))
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
        until = final.until_us - (to_ms(word_us) if text != final.whole else 0)
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
                start_s=to_ms(utterance.start_us - base) / 1e6,
                end_s=to_ms(utterance.end_us - base) / 1e6,
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
