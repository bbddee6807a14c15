"""The machine of segments driven by the spine, on a real store."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec.structs import replace

from diarisation.segment_helpers import REDACTOR, SETTINGS, final, partial
from steno.adapters.sealing import AesGcmSealer
from steno.adapters.store_sqlite import SqliteStore
from steno.adapters.store_sqlite.timeline import TimelineReader
from steno.core.records import Kind
from steno.diarisation.roster import LabelAttribution
from steno.diarisation.segments import SegmentPipeline
from steno.observability import LogTelemetry
from steno.spine.service import SpineService, SpineSettings


@asynccontextmanager
async def running(
    path: Path, **changes: object
) -> AsyncIterator[tuple[SpineService, TimelineReader]]:
    """A service that has taken over what an earlier one left."""
    store = SqliteStore.open(path / "steno.db", {"sink": frozenset(Kind)})
    store.start()
    timeline = TimelineReader(path / "steno.db")
    service = SpineService(
        SegmentPipeline(
            replace(SETTINGS, **changes),
            REDACTOR,
            LabelAttribution(),
            latest=timeline.latest,
            knows=timeline.knows,
        ),
        store=store,
        sealer=AesGcmSealer(bytes(range(32))),
        switcher=None,
        telemetry=LogTelemetry(level="error", strict=True),
        settings=SpineSettings(
            commit_s=0.001, journal_s=0.002, journal="diarisation", finished="segments"
        ),
        clock=time.monotonic,
        utc_us=lambda: time.time_ns() // 1000,
        draw=lambda: 0.0,
    )
    await service.restore(down_since_us=None)
    try:
        yield service, timeline
    finally:
        timeline.close()
        await store.close()


def texts(timeline: TimelineReader) -> list[str]:
    return [json.loads(each.payload)["text"] for each in timeline.read("c1", Kind.SEGMENT)]


async def test_segments_are_stored_by_place_and_a_run_goes_on_after_a_stop(tmp_path: Path) -> None:
    """Repeats make nothing, corrections a revision, and a partial waits for its final."""
    said = [final(5, 6, "second"), final(1, 2, "first one"), final(8, 9, "so I said")]
    async with running(tmp_path, settle_s=0.02) as (service, timeline):
        assert all(service.accept(each) for each in said)
        service.accept(partial(10, 11, "and"))
        assert await service.finish(timeout_s=5.0)
        assert texts(timeline) == ["first one", "second", "so I said"]
    async with running(tmp_path, settle_s=0.02) as (service, timeline):
        for each in said:
            service.accept(each)
        service.accept(final(1, 2.5, "first one again"))
        service.accept(final(10, 12, "and then"))
        assert await service.finish(timeout_s=5.0)
        assert texts(timeline) == ["first one again", "second", "so I said", "and then"]
        assert [each.revision for each in timeline.read("c1", Kind.SEGMENT)] == [1, 0, 0, 0]
        assert not list(timeline.read("c1", Kind.SEGMENT_AUDIT))
        assert service.counts["segments"] == 2


async def test_a_stop_without_a_journal_takes_no_longer_than_its_commit(tmp_path: Path) -> None:
    """Replayable input leaves nothing open that the stop would wait for."""
    changes = {"settle_s": float("inf"), "horizon_s": 60.0, "journal_s": float("inf")}
    async with running(tmp_path, **changes) as (service, timeline):
        service.accept(final(1, 2, "call 415-555-0123"))
        service.accept(partial(3, 4, "and"))
        started = time.monotonic()
        assert await service.finish(timeout_s=30.0)
        assert time.monotonic() - started < 5.0
        assert texts(timeline) == ["call [REDACTED]"]
        (audit,) = timeline.read("c1", Kind.SEGMENT_AUDIT)
        assert json.loads(audit.payload)["reason"] == "never_final"
