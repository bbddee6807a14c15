"""Fuzz target: stored transcripts of both shapes, whole and in pieces, against a plain decode.

    python fuzz/stored_transcripts.py --executions 1000000

Ends with 1 when something came out that is no error of ours, when a file was refused that a plain
decode of the whole reads, when the two differ in what they read, or when memory grew.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from mutation import Mutator, Report

from conformance.stored_oracle import Refused, Told, read_whole
from steno.core.stored import FieldsRead, ParticipantsRead, SegmentBatch, StoredPart
from steno.errors import RemoteProtocolError
from steno.wire.stored_transcripts import LIMITS, TranscriptParser, lists

GROWTH_MAX_MB = 32
WARM_UP = 20_000
SIZES = ((lists.AT_ONCE_MIN_BYTES, lists.PASSED_WHOLE_BYTES), (2, 8), (2, 1 << 16), (1024, 100))
"""Files here are small; smaller sizes lead them through what large ones meet."""
CANNOT = ("RecursionError", "_TooLong")
"""What a plain decode has trouble with, and the parser has not."""


def _segment(number: int, **changes: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "start_time": number + 0.25,
        "end_time": number + 1,
        "text": f"words {number}",
        "speaker_id": "a",
        "confidence": 0.5,
    }
    return fields | changes


def _phrase(number: int, **changes: object) -> dict[str, object]:
    word = {"word": "w", "offset": {"milliseconds": number}, "duration": {"milliseconds": 1}}
    fields: dict[str, object] = {
        "phraseIndex": number,
        "participantPurpose": "external",
        "text": "spoken",
        "decoratedText": "Spoken.",
        "confidence": 0.5,
        "offset": {"milliseconds": number * 100},
        "startTimeMs": 1772615700120 + number,
        "duration": {"milliseconds": 90},
        "words": [word, word],
        "alternatives": [],
    }
    return fields | changes


PEOPLE = [{"id": "a", "name": "N", "role": "agent"}, {"id": "b", "role": "customer"}]
SIDES = [{"participantPurpose": "external", "ani": "tel:+1"}, {"participantPurpose": "internal"}]
HOSTILE = 'q"},{"start_time":1,"end_time":2,"text":"\\'
LONG = [_segment(number) for number in range(8)]
FILES: list[object] = [
    {"self": "s", "conversation": "c", "participants": PEOPLE, "transcript": [_segment(0)]},
    {"transcript": LONG, "status": "done", "participants": PEOPLE, "downloadUrl": "u"},
    {"transcript": [_segment(0, text=HOSTILE), _segment(1, other=[{}, [1]])], "x": {"y": LONG}},
    [_segment(0), _segment(1, speaker_id=None, confidence=None), *LONG],
    {"status": "queued", "transcript": None},
    {
        "conversationId": "c",
        "communicationId": "m",
        "startTime": 1772615700120,
        "duration": {"milliseconds": 93400},
        "participants": SIDES,
        "transcripts": [
            {"language": "en-us", "phrases": [_phrase(0), _phrase(1, offset=5, duration=7)]},
            {"startTime": 1772615700000, "phrases": [_phrase(2, offset=None)], "language": "de"},
        ],
    },
    {
        "transcripts": [
            {
                "phrases": [_phrase(each) for each in range(4)],
                "analytics": {"sentiment": [{"phrase": "p", "sentiment": 0}] * 8},
            }
        ],
        "startTime": 1772615700120,
        "participants": SIDES,
    },
]
SEEDS = [
    *(json.dumps(each, separators=(",", ":")).encode() for each in FILES),
    *(json.dumps(each, indent=1).encode() for each in FILES[:3]),
    json.dumps([_segment(0, text="\U0001f600 \u00e9")], ensure_ascii=False).encode(),
]
WORDS = (
    b"},{",
    b'"transcript":[',
    b'"phrases":[',
    b'"participants":[]',
    b'"start_time":',
    b'{"start_time":1,"end_time":2,"text":"t"},',
    b"]}",
    b"\\u",
    b"\\ud83d\\ude00",
    b"-1e-5",
    b"0.5",
    b"null",
)


def read_in_pieces(body: bytes, cuts: list[int]) -> list[StoredPart]:
    """Return all parts of a file that arrives cut at these places; its error goes through."""
    reading = TranscriptParser()
    parts: list[StoredPart] = []
    start = 0
    for cut in [*cuts, len(body)]:
        parts += reading.feed(body[start:cut])
        start = cut
    while not parts or not isinstance(parts[-1], FieldsRead):
        parts += reading.end()
    return parts


def told_by(parts: list[StoredPart], body: bytes) -> Told:
    """Gather parts into what the plain decode gives; check what only the parser gives."""
    told = Told()
    for part in parts:
        match part:
            case SegmentBatch():
                _promise(part.first == len(told.segments) + len(told.bad), "first")
                told.segments += part.segments
                told.bad += [each.index for each in part.bad]
                _promise(all(0 < each.offset < len(body) for each in part.bad), "offset")
                if part.raw is not None:
                    again = read_whole(b"[%b]" % part.raw)
                    _promise(again.segments == part.segments, "raw")
            case ParticipantsRead():
                _promise(told.participants is None, "participants twice")
                told.participants = part.participants
                told.bad_participants = [each.index for each in part.bad]
            case FieldsRead():
                _promise(told.fields is None, "fields twice")
                told.fields = part
    return told


def compare(body: bytes, cuts: list[int]) -> str:
    """Read a file in both ways; return what became of it.

    Raises:
        AssertionError: They differ.
    """
    why = ""
    try:
        expected = read_whole(body)
    except Refused as exc:
        expected, why = None, str(exc)
    try:
        told = told_by(read_in_pieces(body, cuts), body)
    except RemoteProtocolError as refusal:
        _check_refusal(refusal, body, can_be_read=expected is not None)
        return f"refused: {refusal.summary}"
    if expected is None:
        _promise(why in CANNOT, f"read what is refused: {why}")
        return f"read, though the plain decode cannot: {why}"
    if told != expected:
        raise AssertionError(f"{told} is not {expected}")
    return "read" if not told.bad else "read, bad elements left out"


def _check_refusal(refusal: RemoteProtocolError, body: bytes, *, can_be_read: bool) -> None:
    offset, limit = refusal.fields["offset"], refusal.fields.get("limit")
    _promise(isinstance(offset, int) and 0 <= offset <= len(body), "offset")
    if limit == "depth":
        _promise(body.count(b"[") + body.count(b"{") > LIMITS.depth, "depth")
    elif limit is not None:
        _promise(len(body) > LIMITS.field_bytes, str(limit))
    else:
        _promise(not can_be_read, f"refused what can be read: {refusal}")


def _promise(kept: bool, what: str) -> None:
    if not kept:
        raise AssertionError(what)


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> int:
    """Run the target; 1 when a promise was broken or something was raised."""
    options_parser = argparse.ArgumentParser(description=__doc__)
    options_parser.add_argument("--executions", type=int, default=1_000_000)
    options_parser.add_argument("--seed", type=int, default=1)
    options = options_parser.parse_args()
    random = Random(options.seed)  # noqa: S311  # chance that can be repeated, not secrecy
    mutator = Mutator(SEEDS, random, WORDS)
    report = Report("stored_transcripts")
    before_mb = 0.0
    for number in range(options.executions):
        body = mutator.next()
        pieces = random.choice((0, 0, 1, 3))
        cuts = sorted(random.randrange(len(body) + 1) for _ in range(pieces))
        lists.AT_ONCE_MIN_BYTES, lists.PASSED_WHOLE_BYTES = random.choice(SIZES)
        try:
            report.count(compare(body, cuts))
        except Exception as exc:  # noqa: BLE001  # what a target is for
            report.fail(exc, body)
        if number == WARM_UP:
            before_mb = _peak_mb()
    grown_mb = _peak_mb() - before_mb if before_mb else 0.0
    lines = [*report.lines(), f"  memory grew by {grown_mb:.1f} MB"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if report.failures or grown_mb > GROWTH_MAX_MB else 0


if __name__ == "__main__":
    sys.exit(main())
