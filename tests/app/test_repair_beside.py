"""Repair in the background: patient, and no matter to live delivery when it fails."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from app.test_repair import NAME, PLAIN, Run
from steno.adapters.store_sqlite import SqliteStore, StoreSettings
from steno.app.platform import utc_us
from steno.app.repair_beside import AutomaticRepair
from steno.core.records import Kind
from steno.observability import LogTelemetry
from steno.ports import Commit
from steno_sim.server import Simulator


class Beside:
    """A store with an automatic repair beside it."""

    def __init__(self, store: SqliteStore, task: asyncio.Task[None], log: io.StringIO) -> None:
        self.store = store
        self.task = task
        self._log = log

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return log lines of an event."""
        lines = [json.loads(line) for line in self._log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == name]

    async def event(self, name: str, *, count: int = 1) -> dict[str, Any]:
        """Wait for the n-th log line of an event."""
        async with asyncio.timeout(10):
            while len(self.events(name)) < count:
                assert not self.task.done()
                await asyncio.sleep(0.01)
        return self.events(name)[count - 1]


@asynccontextmanager
async def beside(run: Run, **settings: object) -> AsyncIterator[Beside]:
    """Repair in the background of a store that exists."""
    config = run.config(())
    archive = msgspec.structs.replace(config.archive, repair=True, repair_after_s=0.1)
    platform = msgspec.structs.replace(config.platform, **settings)
    config = msgspec.structs.replace(config, archive=archive, platform=platform)
    log = io.StringIO()
    telemetry = LogTelemetry(level="info", stream=log)
    store = SqliteStore.open(
        run.state.database, {}, StoreSettings(ballast_bytes=0), now_us=utc_us, crash_at=""
    )
    store.start()
    repair = AutomaticRepair(config, run.state, store, telemetry)
    task = asyncio.create_task(repair.run())
    try:
        yield Beside(store, task, log)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


async def test_a_gap_that_closes_is_repaired_a_little_later(tmp_path: Path) -> None:
    """And so are those of the process before; what is whole is not looked at again."""
    async with Simulator("quiet", archive=PLAIN) as sim:
        run = Run(tmp_path, sim)
        await run.live({3, 20, 21}, gap=(3, 3))
        async with beside(run) as one:
            first = await one.event("repair.reconciled")
            assert (first["records"], first["lost"]) == (1, 2)
            turns = run.turns()
            span = (turns[20].at_ms * 1000, turns[21].at_ms * 1000 + 3_000_000)
            await one.store.submit(Commit([run.gap(*span, name=NAME)]))
            second = await one.event("repair.reconciled", count=2)
            assert (second["records"], second["lost"]) == (2, 0)
            await asyncio.sleep(0.3)
            assert len(one.events("repair.reconciled")) == 2
        assert len(run.filled()) == 3


async def test_a_transcript_that_is_not_ready_is_asked_for_again(tmp_path: Path) -> None:
    """After growing waits."""
    slow = msgspec.structs.replace(PLAIN, processing_s=(0.8, 0.8))
    async with Simulator("quiet", archive=slow) as sim:
        run = Run(tmp_path, sim)
        await run.live({3}, gap=(3, 3))
        async with beside(run) as one:
            await one.event("repair.reconciled")
            waits = [line["retry_s"] for line in one.events("repair.postponed")]
            assert waits == sorted(waits)
            assert waits
        assert len(run.records(Kind.RECONCILED)) == 1


async def test_refused_credentials_end_nothing(tmp_path: Path) -> None:
    """It is tried again later; live delivery goes on meanwhile."""
    async with Simulator("quiet", archive=PLAIN) as sim:
        run = Run(tmp_path, sim)
        await run.live({3}, gap=(3, 3))
        async with beside(run, client_id="nobody") as one:
            failed = await one.event("repair.failed")
            assert failed["error_class"]
            assert failed["retry_s"] > 0
            await one.event("repair.failed", count=2)
            assert not one.task.done()
            await one.store.submit(Commit([run.sentence(run.turns()[0])]))
