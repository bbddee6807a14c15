"""A finished transcript measured: its words read, joined to turns, redacted and written.

    python -m bench.recording_words [--words 20000] [--runs 5]

The words of a one-hour call are made, some 2.6 MB of JSON with RFC 3339 times. Each row is the
best of the runs, in CPU microseconds per word. ``decode-one-bad`` is the same array with one
word that cannot be read, which sends every word the slow way. Every word must come through.
``plain`` is what anybody would write first, without any check: ``json.loads``, and
``datetime.fromisoformat`` for both times of each word.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

SAID = (
    "hello there I would like to talk about my account please thank you sure one moment let me "
    "see what we have here , okay . right and then"
)
START_US = 1_705_314_600_000_000
WORDS_A_TURN = 14


def array(count: int) -> bytes:
    """Return the JSON of so many words of two speakers, the same every time."""
    from steno.recordings.turns import rfc3339

    draw = random.Random(5)
    vocabulary = SAID.split()
    words: list[dict[str, Any]] = []
    at_us = START_US
    for number in range(count):
        length_us = draw.randrange(60_000, 240_000, 10_000)
        words.append(
            {
                "text": draw.choice(vocabulary),
                "confidence": round(draw.uniform(0.6, 1), 3),
                "startTimestamp": f"{rfc3339(at_us)[:-4]}Z",
                "endTimestamp": f"{rfc3339(at_us + length_us)[:-4]}Z",
                "speaker": f"speaker_{number // WORDS_A_TURN % 2}",
            }
        )
        at_us += length_us + 20_000
    return json.dumps(words, separators=(",", ":")).encode()


def best_us(work: Callable[[], object], *, words: int, runs: int) -> float:
    """Return the CPU microseconds per word of the best run."""
    took: list[float] = []
    for _ in range(runs):
        started = time.process_time()
        work()
        took.append(time.process_time() - started)
    return round(min(took) / words * 1e6, 3)


def plain(data: bytes) -> list[tuple[str, float, datetime, datetime, str]]:
    """Read the words without checks, for comparison."""
    at = datetime.fromisoformat
    return [
        (
            word["text"],
            word["confidence"],
            at(word["startTimestamp"]),
            at(word["endTimestamp"]),
            word["speaker"],
        )
        for word in json.loads(data)
    ]


def measured(count: int, runs: int) -> dict[str, Any]:
    """Return the figures.

    Raises:
        SystemExit: A word was lost.
    """
    from steno.core.quality import metrics_of
    from steno.recordings.outputs import Transcript, encoded
    from steno.recordings.redacted import redact_turns
    from steno.recordings.turns import turns_of
    from steno.recordings.words import decode_words
    from steno.redaction import Redactor

    data = array(count)
    spoiled = data.replace(b'"confidence":0', b'"confidence":7', 1)
    words = decode_words(data).words
    turns = turns_of(words)
    redactor = Redactor()
    released = redact_turns(turns, redactor, language="en-US").turns
    metrics = metrics_of([word.confidence for word in words], latency_s=1.0)
    transcript = Transcript("t", "r", "completed", metrics, released, START_US)
    kept = (len(words), len(decode_words(spoiled).words) + 1, sum(len(t.words) for t in released))
    if kept != (count,) * 3:
        raise SystemExit(f"bench.recording_words: {count} words made, {kept} found")

    if [word.text for word in words] != [word[0] for word in plain(data)]:
        raise SystemExit("bench.recording_words: the two readings differ")

    works: dict[str, Callable[[], object]] = {
        "plain": lambda: plain(data),
        "decode": lambda: decode_words(data),
        "decode_one_bad": lambda: decode_words(spoiled),
        "turns": lambda: turns_of(words),
        "metrics": lambda: metrics_of([word.confidence for word in words], latency_s=1.0),
        "redact": lambda: redact_turns(turns, redactor, language="en-US"),
        **{
            f"to_{form}": lambda form=form: sum(map(len, encoded(transcript, form)))  # type: ignore[misc]  # bound now, not when called
            for form in ("text", "srt", "vtt", "json")
        },
    }
    figures = {
        f"{name}_us_per_word": best_us(work, words=count, runs=runs) for name, work in works.items()
    }
    return {"words": count, "json_bytes": len(data), "turns": len(turns), **figures}


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--words", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    print(json.dumps(measured(given.words, given.runs)))


if __name__ == "__main__":
    main()
