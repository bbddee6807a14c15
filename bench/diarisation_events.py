"""Recorded events of many conversations, written fast and always the same.

    python -m bench.diarisation_events --segments N [--each 500] [--side-by-side 200] > events.jsonl

Conversations have 500 segments of two or three speakers and run 200 at a time. Each segment has
one partial and its final; 5 % of the finals come twice, 5 % up to 10 s late, and 10 % hold a
number, card or address that is to be redacted. Half of the sentences hold a word that makes
redaction look closer, as those of ``bench.pipeline`` do. What one conversation says is one of a
score of scripts, so writing is joining ready pieces: the measured process is not kept waiting.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

SCRIPTS = 20
EACH, SIDE_BY_SIDE = 500, 200
EVENT = "conversation.transcription.update"
MARK = "CONVERSATION"

OPENINGS = ("well", "okay so", "right", "yes", "I see", "let me check", "one moment please", "sure")
SUBJECTS = ("the parcel", "your order", "my connection", "the heating", "our technician", "the app")
VERBS = ("went out on", "has not arrived since", "was changed on", "dropped again on", "is due by")
TIMES = ("Monday", "the second of March", "last week", "this morning", "tomorrow", "Friday evening")
ENDINGS = (
    "and I would like to know what happens next",
    "so could you have a look at it for me",
    "which is not what I was told before",
    "thank you very much",
    "is there anything else I can do for you",
)
SECRETS = (
    "call me back on 415-555-0142",
    "the card is 4111 1111 1111 1111",
    "write to jane.roe@example.org",
    "my number is four one five five five five oh one four two",
)


class Script(NamedTuple):
    """One conversation's events in order, each cut in two at the conversation's id.

    Attributes:
        steps: Events by the segment at which they are sent.
        segments: How many it has, all in all.
        results: How many of them are sure enough, with a speaker, for the result.
    """

    steps: list[list[tuple[bytes, bytes]]]
    segments: int
    results: int


@lru_cache(maxsize=64)
def script(number: int, each: int = EACH) -> Script:
    """Return one of the scripts."""
    draw = random.Random(number)
    speakers = [f"speaker_{n}" for n in range(2 + number % 2)]
    steps: list[list[tuple[bytes, bytes]]] = [[] for _ in range(each + 8)]
    at_s, results = 0.0, 0
    for index in range(each):
        text = _sentence(draw)
        start = round(at_s, 3)
        end = round(start + 0.06 * len(text), 3)
        confidence = round(draw.uniform(0.55, 1.0), 4)
        if draw.random() < 0.02:
            confidence = 0.31
        results += confidence >= 0.5
        who = draw.choice(speakers)
        partial = _event(who, text[: len(text) // 2], start, end - 0.5, confidence, is_final=False)
        final = _event(who, text, start, end, confidence, is_final=True)
        late = 1 + draw.randrange(2) if draw.random() < 0.05 else 0
        steps[index].append(partial)
        steps[index + late].append(final)
        if draw.random() < 0.05:
            steps[index + late + draw.randrange(3)].append(final)
        at_s = end + draw.uniform(-0.4, 1.0)  # some speak before the other has ended
    return Script(steps, each, results)


def _sentence(draw: random.Random) -> str:
    words = [draw.choice(OPENINGS) + ",", draw.choice(SUBJECTS), draw.choice(VERBS)]
    words.append(draw.choice(TIMES))
    if draw.random() < 0.1:
        words.append(draw.choice(SECRETS))
    if draw.random() < 0.7:
        words.append(draw.choice(ENDINGS))
    return " ".join(words) + "."


def _event(
    speaker: str, text: str, start: float, end: float, confidence: float, *, is_final: bool
) -> tuple[bytes, bytes]:
    item = {
        "speaker": speaker,
        "text": text,
        "start": start,
        "end": end,
        "confidence": confidence,
        "isFinal": is_final,
    }
    body = {"eventType": EVENT, "conversationId": MARK, "transcripts": [item]}
    line = json.dumps({"type": EVENT, "data": body}, separators=(",", ":")).encode() + b"\n"
    before, _, after = line.partition(MARK.encode())
    return before, after


def conversation_id(number: int) -> str:
    """Return a conversation's id."""
    return f"5d1f7a3c-0b2e-4c6d-8e9f-{number:012d}"


def events(
    segments: int, each: int = EACH, side_by_side: int = SIDE_BY_SIDE
) -> Iterator[list[bytes]]:
    """Yield lines, a step of all conversations that are under way at a time."""
    conversations = max(1, segments // each)
    for first in range(0, conversations, side_by_side):
        numbers = range(first, min(conversations, first + side_by_side))
        talks = [(conversation_id(n).encode(), script(n % SCRIPTS, each).steps) for n in numbers]
        for step in range(len(talks[0][1])):
            yield [before + name + after for name, steps in talks for before, after in steps[step]]


class Totals(NamedTuple):
    """What a run of events holds."""

    conversations: int
    events: int
    segments: int
    results: int


def totals(segments: int, each: int = EACH) -> Totals:
    """Return what ``events`` of the same size holds."""
    conversations = max(1, segments // each)
    scripts = [script(n % SCRIPTS, each) for n in range(min(conversations, SCRIPTS))]
    uses = [len(range(n, conversations, SCRIPTS)) for n in range(len(scripts))]
    both = list(zip(scripts, uses, strict=True))
    return Totals(
        conversations,
        sum(use * sum(map(len, one.steps)) for one, use in both),
        sum(use * one.segments for one, use in both),
        sum(use * one.results for one, use in both),
    )


def main() -> None:
    """Write to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--each", type=int, default=EACH)
    parser.add_argument("--side-by-side", type=int, default=SIDE_BY_SIDE)
    given = parser.parse_args()
    write = sys.stdout.buffer.write
    for step in events(given.segments, given.each, given.side_by_side):
        write(b"".join(step))


if __name__ == "__main__":
    main()
