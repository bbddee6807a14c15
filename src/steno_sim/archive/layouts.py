"""How a stored transcript is written: the document's layout, and that of the platform's files.

The document: ``self conversation status participants transcript``, turns with ``start_time``
and ``end_time`` (seconds), ``text``, ``speaker_id``, ``confidence``.
The platform: ``transcripts[].phrases[]`` with spoken and displayed text, words, epoch times and
offsets, and analytics. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from steno_sim.archive.bodies import Body, Element, Fixed, Run, Stretch
from steno_sim.archive.said import Party, StoredTurn, Talk
from steno_sim.archive.settings import Order
from steno_sim.pieces import stable_id
from steno_sim.wire import ORGANIZATION_ID

_MAX_SENTIMENTS = 200
_SILENCE_MS = 3000
_BAD = (
    "null",
    '"so"',
    '{"start_time":"yesterday","end_time":"today","text":"so"}',
    '{"start_time":1.0,"end_time":2.0}',
    '{"start_time":9.5,"end_time":-1.0,"text":["so"],"speaker_id":7}',
)
_BAD_PHRASES = (
    "null",
    "7",
    '{"phraseIndex":"first","participantPurpose":"external","text":"so","startTimeMs":"now"}',
    '{"phraseIndex":3,"participantPurpose":"internal"}',
)
_EXTRA = '{"sim:nested":[{"a":[1,-2.5e3,null,true,{"b":"\\u00e9\\n\\"x\\""}]},[],{}],"sim:n":0}'


class Style(msgspec.Struct, frozen=True):
    """How JSON is written; see ``ArchiveSettings``."""

    order: Order = "first"
    pretty: bool = False
    ascii: bool = False
    extra: bool = False
    words: bool = True
    analytics: bool = True
    ids: bool = False


class PlatformIds(msgspec.Struct, frozen=True):
    """What a file of the platform tells of its place."""

    conversation: str
    communication: str
    queue: str
    begins_ms: int  # the conversation, epoch ms
    starts_ms: int  # the communication, epoch ms


class _Json:
    """Writes JSON text, compact or indented by two."""

    def __init__(self, style: Style) -> None:
        self.style = style
        self.colon = ": " if style.pretty else ":"

    def text(self, value: str) -> str:
        return json.dumps(value, ensure_ascii=self.style.ascii)

    def line(self, level: int) -> str:
        return "\n" + "  " * level if self.style.pretty else ""

    def separator(self, level: int) -> str:
        return "," + self.line(level)

    def object(self, pairs: Sequence[tuple[str, str]], level: int) -> str:
        """Write an object that begins at a level; values are JSON already."""
        return f"{{{self.line(level + 1)}{self.pairs(pairs, level + 1)}{self.line(level)}}}"

    def pairs(self, pairs: Sequence[tuple[str, str]], level: int) -> str:
        return self.separator(level).join([f'"{k}"{self.colon}{v}' for k, v in pairs])

    def array(self, items: Sequence[str], level: int) -> str:
        if not items:
            return "[]"
        inner = self.separator(level + 1).join(items)
        return f"[{self.line(level + 1)}{inner}{self.line(level)}]"


# --- the document's layout -------------------------------------------------------------------


def document(
    talk: Talk, conversation: str, style: Style, *, count: int = 0, size: int = 0
) -> tuple[Body, int]:
    """Give the document of a conversation, and how many turns it has.

    Args:
        talk: What is said.
        conversation: Its id.
        style: How it is written.
        count: Turns; or
        size: Bytes that it has at least.
    """
    out = _Json(style)
    head = [
        ("self", out.text(f"/api/v2/conversations/media/{conversation}/transcripts")),
        ("conversation", out.text(conversation)),
        ("status", '"completed"'),
    ]
    people = ("participants", out.array([_participant(out, p) for p in talk.parties], 1))
    extra = [("sim:extra", _EXTRA)] if style.extra else []
    first = style.order == "first"
    before, after = ([*head, *extra, people], []) if first else (head, [people, *extra])
    opening, closing = _around(out, before, "transcript", after, 0)
    around = len(opening) + len(closing)
    pattern = [_turn(out, turn, talk.round_ms) for turn in talk.turns]
    run = _run(out, pattern, 2, count=count, size=max(1, size - around) if size else 0)
    return Body([Fixed(opening), run, Fixed(closing)]), run.count


def _participant(out: _Json, party: Party) -> str:
    pairs = [
        ("id", out.text(party.id)),
        ("name", out.text(party.name)),
        ("role", out.text(party.role)),
    ]
    return out.object(pairs, 2)


def _turn(out: _Json, turn: StoredTurn, round_ms: int) -> Element:
    comma = out.separator(2)
    if turn.bad:
        return Element(comma + _BAD[turn.index % len(_BAD)])
    pairs = [
        ("start_time", f"%d.{turn.start_ms % 1000:03d}"),
        ("end_time", f"%d.{turn.end_ms % 1000:03d}"),
        ("text", out.text(turn.text).replace("%", "%%")),
    ]
    if turn.speaker:
        pairs.append(("speaker_id", out.text(turn.speaker)))
    pairs += _sure(turn)
    numbers = [turn.start_ms // 1000, turn.end_ms // 1000]
    if out.style.ids and turn.id:
        pairs.append(("utteranceId", out.text(turn.id)))
    if out.style.extra and turn.index % 7 == 3:
        pairs.insert(2, ("sim:extra", _EXTRA))
    if out.style.order == "mixed":
        by = turn.index % len(pairs)
        if by == 1:
            numbers.reverse()
        pairs = pairs[by:] + pairs[:by]
    step = round_ms // 1000
    return Element(comma + out.object(pairs, 2), tuple(numbers), (step, step))


# --- the platform's files --------------------------------------------------------------------


def platform(
    talks: Sequence[Talk],
    ids: PlatformIds,
    style: Style,
    *,
    counts: Sequence[int] = (),
    size: int = 0,
) -> tuple[Body, list[int]]:
    """Give a file of the platform, and how many phrases each of its transcripts has.

    Args:
        talks: What its transcripts say, one each.
        ids: Where it belongs.
        style: How it is written.
        counts: Phrases of each transcript; or
        size: Bytes that the file has at least, shared by the transcripts.
    """
    out = _Json(style)
    runs = []
    # The head tells a length that follows from how many phrases there are.
    around = _platform_around(out, talks, ids, 0) if size else []
    each = max(1, (size - sum(map(len, around))) // len(talks)) if size else 0
    for number, talk in enumerate(talks):
        pattern = [_phrase(out, turn, talk) for turn in talk.turns]
        runs.append(_run(out, pattern, 4, count=counts[number] if counts else 0, size=each))
    ends_ms = max(t.end_ms(r.count) for t, r in zip(talks, runs, strict=True))
    fixed = _platform_around(out, talks, ids, ends_ms)
    stretches: list[Stretch] = [Fixed(fixed[0])]
    for run, behind in zip(runs, fixed[1:], strict=True):
        stretches += [run, Fixed(behind)]
    return Body(stretches), [run.count for run in runs]


def _platform_around(
    out: _Json, talks: Sequence[Talk], ids: PlatformIds, ends_ms: int
) -> list[bytes]:
    """Give what stands before, between and behind the phrases of all transcripts."""
    style = out.style
    head = [
        ("organizationId", out.text(ORGANIZATION_ID)),
        ("conversationId", out.text(ids.conversation)),
        ("communicationId", out.text(ids.communication)),
        ("mediaType", '"call"'),
        ("conversationStartTime", str(ids.begins_ms)),
        ("startTime", str(ids.starts_ms)),
        ("duration", _millis(out, str(ends_ms), 1)),
    ]
    people = ("participants", out.array(_people(out, talks, ids, ends_ms), 1))
    transcript = stable_id("transcript", ids.conversation, ids.communication)
    uri = ("uri", out.text(f"/v2/speechandtextanalytics/transcripts/{transcript}"))
    extra = [("sim:extra", _EXTRA)] if style.extra else []
    first = style.order == "first"
    before, after = ([*head, *extra, people], [uri]) if first else (head, [people, uri, *extra])
    opening, closing = _around(out, before, "transcripts", after, 0)
    found = [opening]
    for number, talk in enumerate(talks):
        begin, end = _transcript(out, talk, ids, number, ends_ms)
        found[-1] += begin if not number else out.separator(2).encode() + begin
        found.append(end)
    found[-1] += closing
    return found


_PURPOSES = {"agent": "internal", "customer": "external", "system": "ivr"}


def _people(out: _Json, talks: Sequence[Talk], ids: PlatformIds, ends_ms: int) -> list[str]:
    told = []
    for party in talks[0].parties:
        pairs = [("participantPurpose", out.text(_PURPOSES.get(party.role, party.role)))]
        if party.user:
            pairs += [("userId", out.text(party.user)), ("queueId", out.text(ids.queue))]
        if party.role == "customer":
            pairs += [("initialDirection", '"inbound"'), ("ani", '"tel:+15550100"')]
        pairs += [("startTimeMs", str(ids.begins_ms)), ("endTimeMs", str(ids.starts_ms + ends_ms))]
        told.append(out.object(pairs, 2))
    return told


def _transcript(
    out: _Json, talk: Talk, ids: PlatformIds, number: int, ends_ms: int
) -> tuple[bytes, bytes]:
    """Give what stands before and behind the phrases of a transcript."""
    before = [
        ("transcriptId", out.text(stable_id("run", ids.communication, number))),
        ("language", out.text(talk.language.lower())),
        ("programId", out.text(stable_id("program", "sim"))),
        ("engineId", '"r2d2"'),
        ("startTime", str(ids.starts_ms)),
        ("duration", _millis(out, str(ends_ms), 3)),
    ]
    after = [("analytics", _analytics(out, talk))] if out.style.analytics else []
    return _around(out, before, "phrases", after, 2)


def _phrase(out: _Json, turn: StoredTurn, talk: Talk) -> Element:
    comma, step = out.separator(4), talk.round_ms
    if turn.bad:
        return Element(comma + _BAD_PHRASES[turn.index % len(_BAD_PHRASES)])
    length_ms = turn.end_ms - turn.start_ms
    purpose = [("participantPurpose", out.text(_PURPOSES.get(turn.role, turn.role)))]
    pairs = [
        ("phraseIndex", "%d"),
        *(purpose if turn.speaker else []),
        ("text", out.text(turn.spoken).replace("%", "%%")),
        ("decoratedText", out.text(turn.text).replace("%", "%%")),
        ("stability", "1.0"),
        *_sure(turn),
        ("offset", _millis(out, "%d", 5)),
        ("startTimeMs", "%d"),
        ("duration", _millis(out, str(length_ms), 5)),
    ]
    numbers = [turn.index, turn.start_ms, turn.at_ms]
    steps = [len(talk.turns), step, step]
    if out.style.words:
        words, moments = _words(out, turn)
        pairs.append(("words", words))
        numbers += moments
        steps += [step] * len(moments)
    pairs.append(("alternatives", "[]"))
    if out.style.ids and turn.id:
        pairs.append(("utteranceId", out.text(turn.id)))
    return Element(comma + out.object(pairs, 4), tuple(numbers), tuple(steps))


def _sure(turn: StoredTurn) -> list[tuple[str, str]]:
    return [] if turn.confidence is None else [("confidence", f"{turn.confidence}")]


def _words(out: _Json, turn: StoredTurn) -> tuple[str, list[int]]:
    """Give a phrase's words, its time shared out by their lengths, and their moments."""
    words, moments, passed = turn.spoken.split(), list[int](), 0
    total, length_ms = sum(map(len, words)) or 1, turn.end_ms - turn.start_ms
    told = []
    for word in words:
        begin = length_ms * passed // total
        passed += len(word)
        pairs = [
            ("word", out.text(word).replace("%", "%%")),
            *_sure(turn),
            ("offset", _millis(out, "%d", 7)),
            ("startTimeMs", "%d"),
            ("duration", _millis(out, str(length_ms * passed // total - begin), 7)),
        ]
        told.append(out.object(pairs, 6))
        moments += [turn.start_ms + begin, turn.at_ms + begin]
    return out.array(told, 5), moments


def _analytics(out: _Json, talk: Talk) -> str:
    """Give the analytics of a transcript's first turns: sentiment, and silences between them."""
    good = [t for t in talk.turns[:_MAX_SENTIMENTS] if not t.bad]
    sentiments, silences = [], []
    for turn in good:
        purpose = out.text(_PURPOSES.get(turn.role, turn.role))
        pairs = [
            ("participant", purpose),
            ("phrase", out.text(turn.spoken)),
            ("phraseIndex", str(turn.index)),
            ("sentiment", str(turn.index % 3 - 1)),
            ("offset", _millis(out, str(turn.start_ms), 6)),
            ("startTimeMs", str(turn.at_ms)),
            ("duration", _millis(out, str(turn.end_ms - turn.start_ms), 6)),
        ]
        sentiments.append(out.object(pairs, 5))
    for before, after in pairwise(good):
        length_ms = after.start_ms - before.end_ms
        if length_ms >= _SILENCE_MS:
            at_ms = before.at_ms + before.end_ms - before.start_ms
            pairs = [
                ("eventType", '"silence"'),
                ("offsetMs", str(before.end_ms)),
                ("startTimeMs", str(at_ms)),
                ("durationMs", str(length_ms)),
                ("participant", '"external"'),
            ]
            silences.append(out.object(pairs, 5))
    lists = [
        ("sentiment", out.array(sentiments, 4)),
        ("topics", "[]"),
        ("acoustic", out.array(silences, 4)),
    ]
    return out.object(lists, 3)


# --- both ------------------------------------------------------------------------------------


def _millis(out: _Json, value: str, level: int) -> str:
    return out.object([("milliseconds", value)], level)


def _around(
    out: _Json,
    before: Sequence[tuple[str, str]],
    name: str,
    after: Sequence[tuple[str, str]],
    level: int,
) -> tuple[bytes, bytes]:
    """Give what stands before and behind the items of an array in an object of a level."""
    opening = f"{{{out.line(level + 1)}{out.pairs(before, level + 1)}{out.separator(level + 1)}"
    opening += f'"{name}"{out.colon}[{out.line(level + 2)}'
    closing = f"{out.line(level + 1)}]"
    if after:
        closing += f"{out.separator(level + 1)}{out.pairs(after, level + 1)}"
    return opening.encode(), f"{closing}{out.line(level)}}}".encode()


def _run(out: _Json, pattern: list[Element], level: int, *, count: int, size: int) -> Run:
    return Run(pattern, out.separator(level).encode(), count=count, size=size)
