"""What a script is made of: plans, utterances, segments, and the pieces that fall due. Pure.

A *plan* is one conversation with fixed ids; an *utterance* is one turn, with its text,
sentences, secrets and fragments; a *segment* is the same as a collector of speaker segments
is to know it; a *piece* is one thing that falls due: a fragment, or a notice that a
conversation started, goes on or ended. Fragments are numbered through a conversation
(``key``) in the order in which they were spoken; copies keep the number.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from enum import IntEnum
from typing import Protocol

import msgspec

from steno_sim.people import Person
from steno_sim.scenario import Mode, Who

_SPACE = uuid.UUID("6f0a4c1e-58a2-4d0b-9d43-2f4b8e7a9c11")
_SECRET = re.compile(r"\{([a-z]+)(?:#(\d+))?:([^{}]*)\}")


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


def version_of(piece: Piece) -> Version:
    """Give the final that a fragment is."""
    start_s, end_s = piece.begin_us / 1e6, piece.until_us / 1e6
    return Version(piece.key, piece.whole, start_s, end_s, piece.confidence)


def to_ms(us: int) -> int:
    """Give a time rounded to whole milliseconds, in microseconds."""
    return round(us / 1000) * 1000
