"""The example consumer does what it says."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from conformance.sink_rules import Recorder, sentence
from steno.adapters.grpc_channel import GrpcSettings
from steno.adapters.sinks.grpc import GrpcSink
from steno.core.records import Record
from steno.errors import SinkUnavailable
from steno.ports import Ack, Outcome

EXAMPLE = Path(__file__).parents[3] / "examples/drop_repeats.py"


async def delivered(sink: GrpcSink, records: list[Record]) -> list[Outcome]:
    """Deliver as the relay does: again when the consumer is unavailable.

    A server without the streaming service ends a stream that is still being written with
    UNIMPLEMENTED or, when it is slower than we write, with INTERNAL: then it is asked again.
    """
    for _ in range(5):
        try:
            return await sink.deliver(records)
        except SinkUnavailable:
            await asyncio.sleep(0.05)
    return await sink.deliver(records)


async def test_example_drops_repeats(tmp_path: Path) -> None:
    """Delivered three times, stored once; a new revision is stored again."""
    database = tmp_path / "sentences.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLE), "127.0.0.1:0", str(database),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stdout is not None
    port = int((await process.stdout.readline()).split()[-1])
    sink = GrpcSink(GrpcSettings(target=f"127.0.0.1:{port}"), telemetry=Recorder())
    records = [sentence("alpha", 1), sentence("alpha", 2), sentence("alpha", 2, revision=1)]
    for _ in range(3):
        assert await delivered(sink, records) == [Ack()] * 3
    await sink.close()
    process.kill()
    await process.wait()
    with closing(sqlite3.connect(database)) as found:
        assert found.execute("SELECT count(*) FROM sentence").fetchone() == (3,)
