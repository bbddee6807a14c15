"""A large timeline: what it takes on disk, and to list, read, look up and keep.

Prints one JSON object. Usage: python bench/store/timeline.py [--records N] [--conversations N]
    [--side-by-side N] [--path FILE]

Conversations run side by side, so many at a time, as live ones do: the records of one lie
scattered among those of the others. With ``--path`` the store is kept, and used again.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from steno.adapters.store_sqlite import SqliteStore, StoreSettings, TimelineReader
from steno.core.records import Draft, Kind, Origin
from steno.ports import Commit

BATCH = 1000
PAYLOAD = b'{"speaker":"speaker_0","text":"' + b"a word and another " * 6 + b'","confidence":0.93}'
LOOKUPS = 2000


def drafts(records: int, conversations: int, side_by_side: int) -> Iterator[Draft]:
    """Yield segments of conversations that run side by side and end after a while."""
    each = records // conversations
    for number in range(records):
        generation, rest = divmod(number, side_by_side * each)
        turn, lane = divmod(rest, side_by_side)
        conversation = f"conversation-{lane}-{generation}"
        utterance = f"speaker_{turn % 2}/{turn}"
        yield Draft(
            Kind.SEGMENT,
            "event-socket",
            conversation,
            "speaker_0",
            utterance,
            0,
            hashlib.sha256(f"{conversation}/{utterance}".encode()).hexdigest(),
            Origin.LIVE,
            1_700_000_000_000_000 + number,
            PAYLOAD,
            place_us=(turn - turn % 5) * 1_000_000,
        )


async def write(path: Path, options: argparse.Namespace) -> dict[str, float]:
    """Commit all of them, nobody waiting for a delivery; return microseconds per record."""
    store = SqliteStore.open(path, {"consumer": frozenset()}, StoreSettings(ballast_bytes=0))
    store.start()
    cpu, wall = time.process_time(), time.perf_counter()
    batch: list[Draft] = []
    last: asyncio.Future[object] | None = None
    for draft in drafts(options.records, options.conversations, options.side_by_side):
        batch.append(draft)
        if len(batch) == BATCH:
            if last is not None:
                await last
            last = store.submit(Commit(batch))  # type: ignore[assignment]  # awaited, not looked at
            batch = []
    await store.submit(Commit(batch))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    await asyncio.sleep(options.idle_s)
    sweeps = []
    for _ in range(2):
        started = time.perf_counter()
        await store.retain(acked_before_us=time.time_ns() // 1000, dead_before_us=0)
        sweeps.append(round(time.perf_counter() - started, 3))
        await asyncio.sleep(options.idle_s)
    started = time.perf_counter()
    await store.retain_timeline(1)
    kept = time.perf_counter() - started
    await store.close()
    return {
        "write_cpu_us": round(cpu / options.records * 1e6, 2),
        "write_wall_us": round(wall / options.records * 1e6, 2),
        "bytes_per_record": round(path.stat().st_size / options.records, 1),  # noqa: ASYNC240
        "retain_first_s": sweeps[0],
        "retain_again_s": sweeps[1],
        "retain_timeline_s": round(kept, 3),
    }


def read(path: Path) -> dict[str, float]:
    """List, read everything in order, and look records up."""
    figures: dict[str, float] = {}
    with TimelineReader(path) as timeline:
        started = time.perf_counter()
        names = [entry.conversation for entry in timeline.conversations(Kind.SEGMENT)]
        figures["list_s"] = round(time.perf_counter() - started, 3)
        count = 0
        keys = []
        started, cpu = time.perf_counter(), time.process_time()
        for name in names:
            key = ""
            for record in timeline.read(name, Kind.SEGMENT):
                count += 1
                key = record.key
            keys.append((name, key))
        figures["read_s"] = round(time.perf_counter() - started, 2)
        figures["read_cpu_us"] = round((time.process_time() - cpu) / count * 1e6, 2)
        chosen = [keys[n * 7919 % len(keys)] for n in range(LOOKUPS)]
        started = time.perf_counter()
        for name, key in chosen:
            assert timeline.latest(name, key) is not None
        figures["latest_us"] = round((time.perf_counter() - started) / LOOKUPS * 1e6, 1)
        started = time.perf_counter()
        for name, _ in chosen:
            timeline.knows(name)
        figures["knows_us"] = round((time.perf_counter() - started) / LOOKUPS * 1e6, 1)
    figures["records"] = count
    figures["read_rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    return figures


def main() -> None:
    """Run it and print the figures; reading has a process of its own, for its memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--conversations", type=int, default=10_000)
    parser.add_argument("--side-by-side", type=int, default=100)
    parser.add_argument("--idle-s", type=float, default=2.5, help="before and after retention")
    parser.add_argument("--path", type=Path)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read(options.read)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = options.path or Path(folder) / "steno.db"
        figures: dict[str, float] = {"conversations": options.conversations}
        if not path.exists():
            figures |= asyncio.run(write(path, options))
        command = [sys.executable, __file__, "--read", str(path)]
        found = subprocess.run(command, check=True, capture_output=True)
        figures |= json.loads(found.stdout)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
