"""Puts a file of recorded events into a store, and says on stdout what is stored until killed.

Usage: recorded_killed.py STATE EVENTS
"""

# ruff: noqa: T201  # its standard output is what it tells

from __future__ import annotations

import asyncio
import math
import random
import sys
import time
from pathlib import Path

from conformance.stream_server import MemoryTelemetry
from steno.adapters.recorded_events import RecordedEvents
from steno.adapters.sealing import load_sealer
from steno.adapters.store_sqlite import SqliteStore, StoreSettings
from steno.adapters.store_sqlite.timeline import TimelineReader
from steno.core.records import Record
from steno.diarisation.roster import LabelAttribution
from steno.diarisation.segments import SegmentPipeline, SegmentSettings
from steno.feeds.recorded import Progress, RecordedFeed
from steno.feeds.stream_connection import Timing
from steno.redaction.redactor import Redactor
from steno.spine.service import SpineService, SpineSettings

HORIZON_S = 20.0


def utc_us() -> int:
    return time.time_ns() // 1000


async def run(state: Path, events: Path, *, tells: bool) -> Progress:
    """Read all events into the store; tell after each commit how many records there are."""
    state.mkdir(exist_ok=True)
    database = state / "steno.db"
    store = SqliteStore.open(database, {}, StoreSettings(ballast_bytes=0, group_records=10))
    store.start()
    telemetry = MemoryTelemetry()
    count = 0

    def committed(records: list[Record]) -> None:
        nonlocal count
        count += len(records)
        if tells:
            print(count, flush=True)

    store.on_committed(committed)
    with TimelineReader(database) as timeline:
        pipeline = SegmentPipeline(
            SegmentSettings(
                source="diarisation",
                host_group="organisation",
                settle_s=math.inf,
                horizon_s=HORIZON_S,
                journal_s=math.inf,
            ),
            Redactor(),
            LabelAttribution(),
            latest=timeline.latest,
            knows=timeline.knows,
        )
        spine = SpineService(
            pipeline,
            store=store,
            sealer=load_sealer(state / "journal.key"),
            switcher=None,
            telemetry=telemetry,
            settings=SpineSettings(
                commit_s=0.0, batch=8, high_water=16, journal="diarisation", finished="segments"
            ),
            clock=time.monotonic,
            utc_us=utc_us,
            draw=random.random,
        )
        feed = RecordedFeed(
            RecordedEvents([events], block_bytes=4096),
            timing=Timing(time.monotonic, utc_us, random.random),
            telemetry=telemetry,
        )
        await spine.restore(down_since_us=None)
        await spine.run([feed])
        assert await spine.finish(timeout_s=30)
    await store.close()
    return feed.progress


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2]), tells=True))
