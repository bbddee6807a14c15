"""Commits and settles until it is killed; says on stdout what it was promised.

Usage: store_killed.py PATH SEED honest|early

``early`` is the planted bug: it reports a commit before the store has confirmed it.
"""

# ruff: noqa: T201  # its standard output is what it promises

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from conformance.store_contract import ALL, DESTINATIONS, a_draft
from steno.adapters.store_sqlite import SqliteStore, StoreSettings
from steno.ports import Commit, DeliveryState, Settlement


async def main(path: Path, seed: int, *, honest: bool) -> None:
    draw = random.Random(seed)
    store = SqliteStore.open(
        path, DESTINATIONS, StoreSettings(ballast_bytes=0, checkpoint_records=300)
    )
    store.start()
    print("ready", flush=True)
    number = 0
    while True:
        size = draw.randint(1, 20)
        names = [f"{seed}-{number + n}" for n in range(size)]
        number += size
        future = store.submit(
            Commit(
                [a_draft(f"c{hash(n) % 5}", n, place_us=hash(n) % 7) for n in names],
                {"w": names[-1].encode()},
            )
        )
        if not honest:
            print("stored", *names, flush=True)
            if draw.random() < 0.8:
                continue
        records = await future
        if honest:
            print("stored", *names, flush=True)
        if draw.random() < 0.5:
            await store.settle(
                [Settlement(r.id, ALL, DeliveryState.ACKED, 0) for r in records[::2]]
            )
            print("acked", *(r.utterance for r in records[::2]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), honest=sys.argv[3] == "honest"))
