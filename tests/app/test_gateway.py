"""The gateway process as a whole: what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from steno.app.gateway import run_gateway
from steno.config import Config, load
from steno.core.records import Kind, Record
from steno.core.secret import Secret
from steno.observability import LogTelemetry
from steno.ports import BatchShape, Outcome, Sink
from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET
from steno_sim.server import Simulator


def config_for(sim: Simulator, folder: Path) -> Config:
    return load(
        None,
        {},
        {
            "platform.host": sim.ws_url,
            "platform.client_id": DEFAULT_CLIENT_ID,
            "platform.client_secret": Secret(DEFAULT_CLIENT_SECRET),
            "state_dir": folder / "state",
            "observability.listen": "",
            "delivery.destinations": ({"type": "jsonl", "path": str(folder / "out.jsonl")},),
        },
    )


class Faulty:
    """A sink with a bug of its own, outside of what a delivery may raise."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    @property
    def name(self) -> str:
        return self._sink.name

    @property
    def kinds(self) -> frozenset[Kind]:
        return self._sink.kinds

    @property
    def shape(self) -> BatchShape:
        raise RuntimeError("a bug")

    async def deliver(self, records: Sequence[Record]) -> list[Outcome]:
        return await self._sink.deliver(records)

    async def close(self) -> None:
        await self._sink.close()


async def test_a_relay_that_breaks_ends_the_process_and_not_the_delivery(tmp_path: Path) -> None:
    """Nobody would miss a relay that died unseen until the disk is full; a supervisor restarts."""
    async with Simulator("demo", speed=0, wait_for_sockets=1) as sim:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.timeout(20):
                await run_gateway(
                    config_for(sim, tmp_path),
                    stop=asyncio.Event(),
                    telemetry=LogTelemetry(level="error"),
                    wrap_sink=Faulty,
                )
    assert caught.group_contains(RuntimeError, match="a bug")


async def test_what_a_broken_relay_left_is_delivered_after_the_restart(tmp_path: Path) -> None:
    """The records are in the store; the next process hands all of them over."""
    async with Simulator("demo", speed=0, wait_for_sockets=1) as sim:
        config = config_for(sim, tmp_path)
        with pytest.raises(ExceptionGroup):
            await run_gateway(
                config,
                stop=asyncio.Event(),
                telemetry=LogTelemetry(level="error"),
                wrap_sink=Faulty,
            )
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.5, stop.set)
        await run_gateway(config, stop=stop, telemetry=LogTelemetry(level="error"))
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert any(b'"kind":"sentence"' in line for line in lines)
