"""What fell due, what was delivered to whom, and the truth a consumer is held against.

One bit per fragment and wire family, so a load of a million fragments costs some hundred
kilobytes. "Delivered" means written to a connected, healthy socket; a socket that we end on
purpose is first known to have received what was written (see ``sockets``). What a peer that
died by itself had not read yet cannot be known, here as on the real platform.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from steno_sim.pieces import Piece, Script, Secret, Segment, Utterance, Version
from steno_sim.scenario import Who

Delivery = Literal["whole", "part", "none"]
Family = Literal["stream", "topic", "event"]
Verdict = Literal["result", "unsure", "low_confidence", "no_speaker", "never_final"]
SURE = 0.85
AUDITED_BELOW = 0.5


class UtteranceTruth(msgspec.Struct, frozen=True):
    """One utterance as spoken, and whether it reached anybody.

    ``stream``, ``topic`` and ``event`` tell it for each family: ``whole`` when what was
    delivered holds all its words (a growing utterance: its final; increments: every fragment),
    ``part`` when some did. ``delivered`` is the best of them.
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
    event: Delivery
    delivered: Delivery
    first: int
    last: int


class VersionTruth(msgspec.Struct, frozen=True):
    """A final of a segment, and the families that delivered it; times in seconds."""

    text: str
    start_s: float
    end_s: float
    confidence: float
    topic: bool
    event: bool


class SegmentTruth(msgspec.Struct, frozen=True):
    """One segment as a perfect collector is to know it.

    Attributes:
        id: Its utterance's id, on the topics ``utteranceId``.
        speaker: Label on the event socket; empty when it names nobody.
        channel_speaker: Who the channel and the participants of that moment make it: agent,
            agent-2 …, customer, system; empty when the channel names nobody.
        marked: Text with planted secrets in braces.
        overlapped: Somebody else speaks at the same time.
        blemishes: What was done to it.
        versions: Finals in the order in which they were sent. The last one that was
            delivered is right.
    """

    id: str
    who: Who
    speaker: str
    channel_speaker: str
    participant: str
    user: str
    communication: str
    marked: str
    secrets: list[Secret]
    start_s: float
    end_s: float
    overlapped: bool
    blemishes: list[str]
    versions: list[VersionTruth]

    def known(self, family: Family) -> VersionTruth | None:
        """Give the final that counts of those a family delivered; None when none was."""
        found = [v for v in self.versions if (v.topic if family == "topic" else v.event)]
        return found[-1] if found else None

    def label(self, family: Family) -> str:
        """Give who speaks, as a family tells it."""
        return self.channel_speaker if family == "topic" else self.speaker

    def verdict(self, family: Family) -> Verdict:
        """Give how it is to be judged: in the result, in it but unsure, or why not."""
        final = self.known(family)
        if final is None:
            return "never_final"
        if not self.label(family):
            return "no_speaker"
        if final.confidence < AUDITED_BELOW:
            return "low_confidence"
        return "unsure" if final.confidence < SURE else "result"


class ConversationTruth(msgspec.Struct, frozen=True):
    """One conversation: its utterances in spoken order, and its counts of fragments.

    ``due`` have fallen due so far, ``missed`` of those reached nobody, ``messages`` were
    written in all (copies count). ``start_us`` is when it began, UTC microseconds; 0 before.
    """

    id: str
    number: int
    language: str
    fragments: int
    due: int
    missed: int
    messages: int
    utterances: list[UtteranceTruth]
    segments: list[SegmentTruth] = []
    start_us: int = 0


class Truth(msgspec.Struct, frozen=True):
    """The whole truth about a run.

    ``speed`` is that of playback: times on the topics are so many times shorter than those of
    segments (0: flat out, a thousand times).
    """

    title: str
    conversations: list[ConversationTruth]
    speed: float = 1.0

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
    __slots__ = ("due", "either", "event", "messages", "stream", "topic")

    def __init__(self, size: int) -> None:
        self.due = _Bits(size)
        self.stream = _Bits(size)
        self.topic = _Bits(size)
        self.event = _Bits(size)
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

    def record(self, piece: Piece, *, stream: bool, topic: bool, event: bool = False) -> None:
        """Note that a fragment fell due, and which families delivered it.

        A fragment that waited for the next one is recorded again once its event was sent.
        """
        account = self._accounts[piece.conversation]
        key = piece.key
        if account.due.add(key):
            self.due += 1
        if stream:
            account.stream.add(key)
        if topic:
            account.topic.add(key)
        if event:
            account.event.add(key)
        if stream or topic or event:
            account.messages += 1
            self.messages += 1
            if account.either.add(key):
                self.delivered += 1

    def truth(
        self,
        conversation: str = "",
        *,
        speed: float = 1.0,
        started: Mapping[int, int] | None = None,
    ) -> Truth:
        """Give the truth of all conversations, or of one by its id.

        Args:
            conversation: Its id; empty for all.
            speed: That of playback.
            started: When conversations began, UTC microseconds by number.
        """
        plans = [p for p in self._script.plans if conversation in ("", p.id)]
        begun = started or {}
        told = [self._conversation(p.number, begun.get(p.number, 0)) for p in plans]
        return Truth(self._script.title, told, speed)

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

    def _conversation(self, number: int, start_us: int) -> ConversationTruth:
        plan, account = self._script.plans[number], self._accounts[number]
        utterances = self._script.utterances(number)
        segments = self._script.segments(number)
        pairs = list(zip(utterances, segments, strict=True))
        return ConversationTruth(
            id=plan.id,
            number=number,
            language=plan.language,
            fragments=plan.fragments,
            due=account.due.count,
            missed=account.due.count - account.either.count,
            messages=account.messages,
            utterances=[_utterance(account, said, segment) for said, segment in pairs],
            segments=[_segment(account, said, segment) for said, segment in pairs],
            start_us=start_us,
        )


def _utterance(account: _Account, said: Utterance, segment: Segment) -> UtteranceTruth:
    keys = range(said.first, said.last + 1)
    # The stream has no corrections.
    streamed = keys[:-1] if len(segment.versions) > 1 else keys
    needed = streamed if said.mode == "increments" else streamed[-1:]
    stream = _delivery(account.stream, streamed, needed)
    # An event of a topic or of the event socket always holds the utterance from its start.
    topic = _delivery(account.topic, keys, keys[-1:])
    event = _delivery(account.event, keys, keys[-1:])
    found: set[Delivery] = {stream, topic, event}
    best: Delivery = "whole" if "whole" in found else "part" if "part" in found else "none"
    return UtteranceTruth(
        id=said.id,
        participant=said.participant,
        who=said.who,
        language=said.language,
        mode=said.mode,
        text=said.text,
        sentences=said.sentences,
        secrets=said.secrets,
        fragments=len(keys),
        stream=stream,
        topic=topic,
        event=event,
        delivered=best,
        first=said.first,
        last=said.last,
    )


def _segment(account: _Account, said: Utterance, segment: Segment) -> SegmentTruth:
    return SegmentTruth(
        id=said.id,
        who=said.who,
        speaker=segment.speaker,
        channel_speaker=segment.channel_speaker,
        participant=segment.participant,
        user=segment.user,
        communication=segment.communication,
        marked=segment.marked,
        secrets=said.secrets,
        start_s=segment.start_s,
        end_s=segment.end_s,
        overlapped=segment.overlapped,
        blemishes=segment.blemishes,
        versions=[_version(account, version) for version in segment.versions],
    )


def _version(account: _Account, version: Version) -> VersionTruth:
    return VersionTruth(
        text=version.text,
        start_s=version.start_s,
        end_s=version.end_s,
        confidence=version.confidence,
        topic=version.key in account.topic,
        event=version.key in account.event,
    )


def _delivery(bits: _Bits, keys: range, needed: range) -> Delivery:
    if all(k in bits for k in needed):
        return "whole"
    return "part" if any(k in bits for k in keys) else "none"
