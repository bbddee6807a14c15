"""Exports beside the collecting."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite import SqliteStore
from steno.app.exports import ExportRequest, export_once, export_stored
from steno.core.records import Draft, Kind, Origin, SegmentPayload, record_key
from steno.diarisation.exports import Format
from steno.observability import LogTelemetry
from steno.ports import Commit

SEGMENTS = 20_000


def draft(number: int) -> Draft:
    start_us = number * 1_000_000
    payload = SegmentPayload("agent", "Good morning.", start_us, start_us + 500_000, 0.9, start_us)
    return Draft(
        Kind.SEGMENT,
        "diarisation",
        "c1",
        "agent",
        f"s{number}",
        0,
        record_key("host", "c1", "agent", f"s{number}"),
        Origin.LIVE,
        start_us,
        msgspec.json.encode(payload),
        place_us=start_us,
    )


@pytest.fixture
async def state(tmp_path: Path) -> StateDir:
    """More segments than an export writes in a moment."""
    state = StateDir(tmp_path / "state")
    state.prepare()
    with state:
        store = SqliteStore.open(state.database, {})
        store.start()
        await store.submit(Commit([draft(number) for number in range(SEGMENTS)]))
        await store.close()
    return state


async def test_an_export_that_is_cancelled_makes_way_for_the_last_one(
    state: StateDir, tmp_path: Path
) -> None:
    """Ctrl-C in the middle of one: what it was writing is given up before the end's begins."""
    out = tmp_path / "out.json"
    request = ExportRequest(out=str(out), format=Format.JSON, min_confidence=0.5)
    part = tmp_path / ".out.json.part"
    telemetry = LogTelemetry(level="error")
    exporting = asyncio.create_task(export_once(state.database, request, telemetry))
    while not part.exists():
        assert not exporting.done()
        await asyncio.sleep(0)
    exporting.cancel()
    await asyncio.wait([exporting])
    assert exporting.cancelled()
    assert not part.exists()
    assert not out.exists()
    assert export_stored(state.database, request).segments == SEGMENTS
