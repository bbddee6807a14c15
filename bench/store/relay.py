"""CPU per record from commit to stored acknowledgement; prints one JSON object.

Usage: python bench/store/relay.py [--records N] [--shape MAX_RECORDS,MAX_IN_FLIGHT]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from commit import draft

from steno.adapters.store_sqlite import SqliteStore, StoreSettings
from steno.core.records import Kind, Record
from steno.delivery.relay import Relay, RelaySettings
from steno.ports import Ack, Add, BatchShape, Commit, FieldValue, Outcome

ACK = Ack()


class Quiet:
    """``ports.Telemetry`` that keeps nothing."""

    def info(self, event: str, **fields: FieldValue) -> None:
        """Drop it."""

    warning = error = info

    def counter(self, name: str, **labels: str) -> Add:
        """Return what drops its value."""
        return lambda value: None

    histogram = gauge = counter


class Instant:
    """A sink that acknowledges after one turn of the loop."""

    name = "consumer"
    kinds = frozenset(Kind)

    def __init__(self, shape: BatchShape) -> None:
        self.shape = shape

    async def deliver(self, records: Sequence[Record]) -> list[Outcome]:
        """Acknowledge."""
        await asyncio.sleep(0)
        return [ACK] * len(records)

    async def close(self) -> None:
        """Nothing is held."""


async def measure(path: Path, records: int, batch: int, shape: BatchShape) -> dict[str, float]:
    """Return CPU and wall microseconds per record, from commit to stored acknowledgement."""
    store = SqliteStore.open(path, {"consumer": frozenset(Kind)}, StoreSettings(ballast_bytes=0))
    store.start()
    relay = Relay(
        store,
        Instant(shape),
        Quiet(),
        RelaySettings(),
        clock=time.monotonic,
        now_us=lambda: time.time_ns() // 1000,
        draw=random.random,
    )
    store.on_committed(relay.offer)
    commits = [
        Commit([draft(n, 50) for n in range(at, at + batch)]) for at in range(0, records, batch)
    ]
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(relay.run())
        await relay.drain(5)
        cpu, wall = time.process_time(), time.perf_counter()
        window: list[asyncio.Future[list[Record]]] = []
        for commit in commits:
            window.append(store.submit(commit))
            if len(window) >= 4:
                await window.pop(0)
        await asyncio.gather(*window)
        await relay.drain(60)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        relay.stop()
        await running
    await store.close()
    return {"cpu_us": cpu / records * 1e6, "wall_us": wall / records * 1e6}


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--shape", default="100,4")
    options = parser.parse_args()
    most, flights = (int(part) for part in options.shape.split(","))
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(
            measure(
                Path(folder) / "steno.db",
                options.records,
                options.batch,
                BatchShape(most, most == 1, flights),
            )
        )
    print(
        json.dumps(
            {
                "records": options.records,
                "batch": options.batch,
                "shape": options.shape,
                "cpu_us_per_record": round(figures["cpu_us"], 2),
                "wall_us_per_record": round(figures["wall_us"], 2),
                "records_per_cpu_s": round(1e6 / figures["cpu_us"]),
            }
        )
    )


if __name__ == "__main__":
    main()
