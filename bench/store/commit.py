"""CPU per record for committing, marking and acknowledging; prints one JSON object.

Usage: python bench/store/commit.py [--records N] [--batch N] [--conversations N]
    [--placed] [--revised N]

``--placed`` gives every record a place on its conversation's timeline, out of order by a few;
with ``--revised N`` every Nth record is a newer revision of the one before in its conversation.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import tempfile
import time
from pathlib import Path

from steno.adapters.store_sqlite import SqliteStore, StoreSettings
from steno.core.records import Draft, Kind, Origin, Record
from steno.ports import Commit, DeliveryState, Settlement

PAYLOAD = b'{"text":"' + b"a word and another " * 15 + b'"}'
CONVERSATION_RECORDS = 200


def draft(number: int, conversations: int, *, placed: bool = False, revised: int = 0) -> Draft:
    """Return one record of some conversations that run side by side and end after a while."""
    turn = number // conversations  # the how-manieth record of its conversation
    newer = bool(revised) and turn % CONVERSATION_RECORDS > 0 and turn % revised == 0
    name = number - conversations if newer else number
    at_us = 1_700_000_000_000_000 + number
    generation = number // (conversations * CONVERSATION_RECORDS)
    conversation = f"conversation-{number % conversations}-{generation}"
    return Draft(
        Kind.SENTENCE,
        "transcript-stream",
        conversation,
        "participant-1",
        f"u-{name}",
        int(newer),
        hashlib.sha256(str(name).encode()).hexdigest(),
        Origin.LIVE,
        at_us,
        PAYLOAD,
        place_us=at_us - number % 7 * conversations if placed else None,
    )


async def measure(path: Path, options: argparse.Namespace) -> dict[str, float]:
    """Return CPU and wall microseconds per record, committed in batches and acknowledged."""
    records, batch, conversations = options.records, options.batch, options.conversations
    store = SqliteStore.open(path, {"consumer": frozenset(Kind)}, StoreSettings(ballast_bytes=0))
    store.start()
    batches = [
        Commit(
            [
                draft(n, conversations, placed=options.placed, revised=options.revised)
                for n in range(at, at + batch)
            ]
        )
        for at in range(0, records, batch)
    ]
    cpu, wall = time.process_time(), time.perf_counter()
    settled = []
    window: list[asyncio.Future[list[Record]]] = []
    for commit in batches:
        window.append(store.submit(commit))
        if len(window) >= 4:
            done = await window.pop(0)
            settled.append(
                store.settle([Settlement(r.id, "consumer", DeliveryState.ACKED, 0) for r in done])
            )
    for future in window:
        done = await future
        settled.append(
            store.settle([Settlement(r.id, "consumer", DeliveryState.ACKED, 0) for r in done])
        )
    await asyncio.gather(*settled)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    await store.close()
    return {
        "cpu_us": cpu / records * 1e6,
        "wall_us": wall / records * 1e6,
    }


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--conversations", type=int, default=50)
    parser.add_argument("--placed", action="store_true")
    parser.add_argument("--revised", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "steno.db"
        figures = asyncio.run(measure(path, options))
        size_bytes = path.stat().st_size
    print(
        json.dumps(
            {
                "records": options.records,
                "batch": options.batch,
                "conversations": options.conversations,
                "placed": options.placed,
                "revised": options.revised,
                "cpu_us_per_record": round(figures["cpu_us"], 2),
                "wall_us_per_record": round(figures["wall_us"], 2),
                "records_per_cpu_s": round(1e6 / figures["cpu_us"]),
                "bytes_per_record": round(size_bytes / options.records, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
