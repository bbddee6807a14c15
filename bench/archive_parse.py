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
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

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
    while sum(map(len, made[-1:])) * len(made) < GENERATED_BYTES:
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


def generate(folder: Path, size: int) -> dict[str, tuple[Path, str]]:
    """Write all files; return them by name, with the path of their segments."""
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
    for name, (elements, key) in cases.items():
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


PEAK = """
import sys
from pathlib import Path
from bench.archive_parse import by_parser
import steno.wire.stored_transcripts

def peak_mb():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024

before = peak_mb()
by_parser(Path(sys.argv[1]))
print(peak_mb() - before)
"""


def growth_mb(path: Path) -> float:
    """Return what memory reading a file takes above the interpreter with the same imports."""
    call = [sys.executable, "-c", PEAK, str(path)]
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


def main() -> None:
    """Measure, and print a JSON line for each case."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--megabytes", type=int, default=50)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--blocks", type=int, nargs="*", default=[], help="in KB")
    options.add_argument("--file", type=Path, help="a file of the document's shape to read, too")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = generate(Path(folder), given.megabytes * 1_000_000)
        if given.file:
            files["file"] = (given.file, "transcript.item")
        (Path(folder) / "tenth").mkdir()
        tenth = generate(Path(folder) / "tenth", given.megabytes * 100_000)
        spent: dict[str, list[float]] = {}
        found: dict[str, int] = {}
        for _ in range(given.runs):
            for name, (path, _where) in files.items():
                seconds, found[name] = cpu_s(lambda path=path: by_parser(path))  # type: ignore[misc]  # mypy: lambda
                spent.setdefault(name, []).append(seconds / path.stat().st_size * 1e6)
            for name in ("compact", "platform-20-words"):
                path, where = tenth[name]
                seconds, _ = cpu_s(lambda path=path, where=where: by_ijson(path, where))  # type: ignore[misc]  # mypy: lambda
                spent.setdefault(f"ijson-{name}", []).append(seconds / path.stat().st_size * 1e6)
        for name, each in spent.items():
            row: dict[str, object] = {
                "case": name,
                "mb_per_cpu_s": round(1 / statistics.median(each), 1),
                "best": round(1 / min(each), 1),
            }
            if name in files:
                row |= {"segments": found[name], "growth_mb": round(growth_mb(files[name][0]), 1)}
            print(json.dumps(row), flush=True)
        for row in compare_blocks(files["compact"][0], given.blocks, given.runs):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
