"""What fell due, what was delivered to whom, and the truth a consumer is held against.

One bit per fragment and wire family, so a load of a million fragments costs some hundred
kilobytes. "Delivered" means written to a connected, healthy socket; a socket that we end on
purpose is first known to have received what was written (see ``sockets``). What a peer that
died by itself had not read yet cannot be known, here as on the real platform.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from steno_sim.scenario import Who
from steno_sim.script import Piece, Script, Secret

Delivery = Literal["whole", "part", "none"]
Family = Literal["stream", "topic"]


class UtteranceTruth(msgspec.Struct, frozen=True):
    """One utterance as spoken, and whether it reached anybody.

    ``stream`` and ``topic`` tell it for each family: ``whole`` when what was delivered holds
    all its words (a growing utterance: its final; increments: every fragment), ``part`` when
    some did. ``delivered`` is the better of the two.
    """

    id: str
    participant: str
    who: Who
    language: str
    mode: str
    text: str
    sentences: list[str]
    secrets: list[Secret]
    fragments: int
    stream: Delivery
    topic: Delivery
    delivered: Delivery
    first: int
    last: int


class ConversationTruth(msgspec.Struct, frozen=True):
    """One conversation: its utterances in spoken order, and its counts of fragments.

    ``due`` have fallen due so far, ``missed`` of those reached nobody, ``messages`` were
    written in all (copies count).
    """

    id: str
    number: int
    language: str
    fragments: int
    due: int
    missed: int
    messages: int
    utterances: list[UtteranceTruth]


class Truth(msgspec.Struct, frozen=True):
    """The whole truth about a run."""

    title: str
    conversations: list[ConversationTruth]

    def sentences(self, delivered: Delivery = "whole") -> dict[tuple[str, str], list[str]]:
        """Give the sentences of utterances so delivered, by (conversation, participant)."""
        found: dict[tuple[str, str], list[str]] = {}
        for conversation in self.conversations:
            for said in conversation.utterances:
                if said.delivered == delivered:
                    found.setdefault((conversation.id, said.participant), []).extend(said.sentences)
        return found

    def secrets(self) -> list[Secret]:
        """Give every planted secret."""
        return [s for c in self.conversations for u in c.utterances for s in u.secrets]


class _Bits:
    """A set of small whole numbers in one bit each."""

    __slots__ = ("_bytes", "count")

    def __init__(self, size: int) -> None:
        self._bytes = bytearray((size + 7) // 8)
        self.count = 0

    def add(self, number: int) -> bool:
        place, bit = number >> 3, 1 << (number & 7)
        if self._bytes[place] & bit:
            return False
        self._bytes[place] |= bit
        self.count += 1
        return True

    def __contains__(self, number: int) -> bool:
        return bool(self._bytes[number >> 3] & (1 << (number & 7)))


class _Account:
    __slots__ = ("due", "either", "messages", "stream", "topic")

    def __init__(self, size: int) -> None:
        self.due = _Bits(size)
        self.stream = _Bits(size)
        self.topic = _Bits(size)
        self.either = _Bits(size)
        self.messages = 0


class Ledger:
    """Counts deliveries of one run of a script."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._accounts = [_Account(plan.fragments) for plan in script.plans]
        self.due = 0
        self.delivered = 0
        self.messages = 0

    @property
    def missed(self) -> int:
        """Fragments that fell due and reached nobody."""
        return self.due - self.delivered

    def record(self, piece: Piece, *, stream: bool, topic: bool) -> None:
        """Note that a fragment fell due, and which families delivered it."""
        account = self._accounts[piece.conversation]
        key = piece.key
        if account.due.add(key):
            self.due += 1
        if stream:
            account.stream.add(key)
        if topic:
            account.topic.add(key)
        if stream or topic:
            account.messages += 1
            self.messages += 1
            if account.either.add(key):
                self.delivered += 1

    def truth(self, conversation: str = "") -> Truth:
        """Give the truth of all conversations, or of one by its id."""
        plans = [p for p in self._script.plans if conversation in ("", p.id)]
        return Truth(self._script.title, [self._conversation(p.number) for p in plans])

    def counts(self) -> list[dict[str, int | str]]:
        """Give due, delivered and missed fragments of each conversation."""
        out: list[dict[str, int | str]] = []
        for plan, account in zip(self._script.plans, self._accounts, strict=True):
            due, delivered = account.due.count, account.either.count
            out.append(
                {
                    "id": plan.id,
                    "fragments": plan.fragments,
                    "due": due,
                    "delivered": delivered,
                    "missed": due - delivered,
                }
            )
        return out

    def _conversation(self, number: int) -> ConversationTruth:
        plan, account = self._script.plans[number], self._accounts[number]
        said = []
        for utterance in self._script.utterances(number):
            keys = range(utterance.first, utterance.last + 1)
            needed = keys if utterance.mode == "increments" else keys[-1:]
            stream = _delivery(account.stream, keys, needed)
            # A topic's event always holds the utterance from its start.
            topic = _delivery(account.topic, keys, keys[-1:])
            both: set[Delivery] = {stream, topic}
            best: Delivery = "whole" if "whole" in both else "part" if "part" in both else "none"
            said.append(
                UtteranceTruth(
                    id=utterance.id,
                    participant=utterance.participant,
                    who=utterance.who,
                    language=utterance.language,
                    mode=utterance.mode,
                    text=utterance.text,
                    sentences=utterance.sentences,
                    secrets=utterance.secrets,
                    fragments=len(keys),
                    stream=stream,
                    topic=topic,
                    delivered=best,
                    first=utterance.first,
                    last=utterance.last,
                )
            )
        return ConversationTruth(
            id=plan.id,
            number=number,
            language=plan.language,
            fragments=plan.fragments,
            due=account.due.count,
            missed=account.due.count - account.either.count,
            messages=account.messages,
            utterances=said,
        )


def _delivery(bits: _Bits, keys: range, needed: range) -> Delivery:
    if all(k in bits for k in needed):
        return "whole"
    return "part" if any(k in bits for k in keys) else "none"
