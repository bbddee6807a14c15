"""MB per CPU-second of reading stored transcripts, by shape, and of ``ijson`` beside it.

    python -m bench.archive_parse [--megabytes 50] [--runs 5] [--blocks 64 128 256 512 1024]

Files are generated, read in blocks as from a disk, and everything read is dropped at once. Each
run goes through all cases in turn; medians of CPU time are printed, a JSON line a case. The cases
of ``ijson`` read the same segments out of the same files, a tenth of them, as it takes long. What
memory the reading takes is the growth of the peak of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

WORDS = [
    "the",
    "weather",
    "today",
    "is",
    "fine",
    "and",
    "we",
    "would",
    "like",
    "to",
    "know",
    "more",
    "about",
    "your",
    "order",
]
GENERATED_BYTES = 2_000_000
"""How much of a list is made up; files are that, over and over."""
BLOCK_BYTES = 1 << 20
NAMES = (
    *("compact", "pretty", "spanish", "emoji", "bad-elements"),
    *("platform-20-words", "platform-2000-words"),
)
COMPARED = ("compact", "platform-20-words")
"""Read by ``ijson``, too."""


def documents(random: Random, text_of: Callable[[str], str] = str) -> Iterator[dict[str, object]]:
    """Yield segments of the document's shape, without end."""
    at = 0.0
    while True:
        text = text_of(" ".join(random.choices(WORDS, k=random.randint(4, 20))) + ".")
        speaker = f"a1f0c2d3-000{random.randint(1, 3)}-4000-8000-000000000001"
        yield {
            "start_time": round(at, 3),
            "end_time": round(at + 2.5, 3),
            "text": text,
            "speaker_id": speaker,
            "confidence": round(random.random(), 4),
        }
        at += 3.1


def phrases(random: Random, words: int) -> Iterator[dict[str, object]]:
    """Yield phrases of the platform's shape with so many words, without end."""
    at = number = 0
    while True:
        spoken = random.choices(WORDS, k=words)
        yield {
            "phraseIndex": number,
            "participantPurpose": random.choice(("external", "internal")),
            "text": " ".join(spoken),
            "decoratedText": " ".join(spoken).capitalize() + ".",
            "stability": 1.0,
            "confidence": 0.91,
            "offset": {"milliseconds": at},
            "startTimeMs": 1772615700120 + at,
            "duration": {"milliseconds": 160 * words},
            "words": [
                {
                    "word": word,
                    "confidence": 0.94,
                    "offset": {"milliseconds": at + 160 * place},
                    "startTimeMs": 1772615700120 + at + 160 * place,
                    "duration": {"milliseconds": 150},
                }
                for place, word in enumerate(spoken)
            ],
            "alternatives": [],
        }
        at += 160 * words
        number += 1


def with_bad(elements: Iterator[dict[str, object]]) -> Iterator[dict[str, object]]:
    """Make every 500th segment one that cannot be read."""
    for number, element in enumerate(elements):
        yield element | {"text": None} if number % 500 == 250 else element


def write(path: Path, elements: Iterator[dict[str, object]], size: int, *, key: str) -> None:
    """Write a file of about ``size`` bytes."""
    pretty = path.stem == "pretty"
    indent, comma = (2, b",\n") if pretty else (None, b",")
    made: list[bytes] = []
    while sum(map(len, made[-1:])) * len(made) < min(size, GENERATED_BYTES):
        separators = (",", ": ") if pretty else (",", ":")
        text = json.dumps(next(elements), ensure_ascii=False, indent=indent, separators=separators)
        made.append(text.encode())
    block = comma.join(made)
    front = b'{"conversation":"c1","participants":[],"transcript":['
    back = b"]}"
    if key == "phrases":
        front, back = b'{"conversationId":"c1","transcripts":[{"phrases":[', b"]}]}"
    with path.open("wb") as file:
        file.write(front)
        for number in range(max(1, size // len(block))):
            file.write(comma + block if number else block)
        file.write(back)


def generate(folder: Path, size: int, names: Sequence[str]) -> dict[str, tuple[Path, str]]:
    """Write the files; return them by name, with the path of their segments."""
    random = Random(1)
    made: dict[str, tuple[Path, str]] = {}
    cases: dict[str, tuple[Iterator[dict[str, object]], str]] = {
        "compact": (documents(random), "transcript"),
        "pretty": (documents(random), "transcript"),
        "spanish": (documents(random, lambda text: f"¿Qué tal, señor? {text}"), "transcript"),
        "emoji": (documents(random, lambda text: f"{text} \U0001f600"), "transcript"),
        "bad-elements": (with_bad(documents(random)), "transcript"),
        "platform-20-words": (phrases(random, 20), "phrases"),
        "platform-2000-words": (phrases(random, 2000), "phrases"),
    }
    for name in names:
        elements, key = cases[name]
        path = folder / f"{name}.json"
        write(path, elements, size, key=key)
        where = "transcript.item" if key == "transcript" else "transcripts.item.phrases.item"
        made[name] = (path, where)
    return made


def by_parser(path: Path, block_bytes: int = BLOCK_BYTES) -> int:
    """Read a file as the archive does; return how many segments it has."""
    from steno.core.stored import SegmentBatch
    from steno.wire.stored_transcripts import TranscriptParser

    parser = TranscriptParser()
    found = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(block_bytes):
            for part in parser.feed(block):
                if isinstance(part, SegmentBatch):
                    found += len(part.segments)
    parser.end()
    return found


def by_ijson(path: Path, where: str) -> int:
    """Read a file by the usual streaming parser; return how many segments it has."""
    import ijson  # type: ignore[import-untyped]  # it has no types

    with path.open("rb", buffering=0) as file:
        return sum(1 for _ in ijson.items(file, where, use_float=True, buf_size=BLOCK_BYTES))


def cpu_s(work: Callable[[], int]) -> tuple[float, int]:
    """Return the CPU seconds of some work, and its result."""
    before = time.process_time()
    found = work()
    return time.process_time() - before, found


def peak_mb() -> float:
    """Return the most memory this process ever took; not what its parent did before it."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def print_growth(path: Path) -> None:
    """Print what reading a file takes above the interpreter with the same imports."""
    import steno.wire.stored_transcripts  # noqa: F401  # no part of what grows

    before = peak_mb()
    by_parser(path)
    print(round(peak_mb() - before, 1))


def growth_mb(path: Path) -> float:
    """Return what reading a file takes in a process of its own."""
    call = [sys.executable, __file__, "--growth", str(path)]
    return float(subprocess.run(call, capture_output=True, text=True, check=True).stdout)


def compare_blocks(path: Path, sizes: list[int], runs: int) -> Iterator[dict[str, object]]:
    """Yield a line for each size in KB of the blocks that are looked at together."""
    from steno.wire.stored_transcripts import parser

    usual = parser.BLOCK_BYTES
    spent: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(runs):
        for size, times in spent.items():
            parser.BLOCK_BYTES = size << 10
            times.append(cpu_s(lambda: by_parser(path))[0])
    parser.BLOCK_BYTES = usual
    megabytes = path.stat().st_size / 1e6
    for size, times in spent.items():
        rate = round(megabytes / statistics.median(times), 1)
        yield {"case": "block", "kb": size, "mb_per_cpu_s": rate}


Cases = dict[str, Callable[[], int]]


def measure(cases: Cases, runs: int) -> Iterator[tuple[str, list[float], int]]:
    """Go through all cases so many times; yield each with its CPU seconds and its segments."""
    spent: dict[str, list[float]] = {name: [] for name in cases}
    found = dict.fromkeys(cases, 0)
    for _ in range(runs):
        for name, work in cases.items():
            seconds, found[name] = cpu_s(work)
            spent[name].append(seconds)
    for name, times in spent.items():
        yield name, times, found[name]


def report(
    folder: Path, names: Sequence[str], megabytes: int, runs: int, file: Path | None
) -> Iterator[dict[str, Any]]:
    """Yield a line for each case."""
    (folder / "tenth").mkdir()
    files = generate(folder, megabytes * 1_000_000, names)
    if file is not None:
        files["file"] = (file, "transcript.item")
    tenth = generate(folder / "tenth", megabytes * 100_000, COMPARED)
    read = {name: path for name, (path, _) in files.items()}
    cases: Cases = {name: partial(by_parser, path) for name, path in read.items()}
    for name in COMPARED:
        read[f"ijson-{name}"], where = tenth[name]
        cases[f"ijson-{name}"] = partial(by_ijson, tenth[name][0], where)
    for name, times, segments in measure(cases, runs):
        size = read[name].stat().st_size / 1e6
        yield {
            "case": name,
            "mb": round(size, 3),
            "mb_per_cpu_s": round(size / statistics.median(times), 1),
            "best_mb_per_cpu_s": round(size / min(times), 1),
            "segments": segments,
            "growth_mb": growth_mb(read[name]) if name in files else None,
        }


def main() -> None:
    """Measure, and print a JSON line for each case."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--megabytes", type=int, default=50)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--blocks", type=int, nargs="*", default=[], help="in KB")
    options.add_argument("--only", nargs="*", choices=NAMES, default=NAMES)
    options.add_argument("--file", type=Path, help="a file of the document's shape to read, too")
    options.add_argument("--growth", type=Path, help="only print what reading this file takes, MB")
    given = options.parse_args()
    if given.growth:
        print_growth(given.growth)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = report(Path(folder), given.only, given.megabytes, given.runs, given.file)
        for row in rows:
            print(json.dumps(row), flush=True)
        if given.blocks:
            compact, _ = generate(Path(folder), given.megabytes * 1_000_000, ["compact"])["compact"]
            for row in compare_blocks(compact, given.blocks, given.runs):
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
