"""Appends to an audit log, many at a time, until it is killed; tells what was acknowledged.

Usage: audit_killed.py FOLDER RUN
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from conformance.audit_logs import entry
from conformance.stream_server import MemoryTelemetry
from steno.adapters.audit_log import AuditLog, AuditPlaces

WRITERS = 8


async def endless(folder: Path, run: int) -> None:
    """Append until the end."""
    async with AuditLog(
        AuditPlaces.of(folder),
        telemetry=MemoryTelemetry(),
        checkpoint_every=7,
        checkpoint_s=0.02,
        max_bytes=30_000,
    ) as log:

        async def one(number: int) -> None:
            while True:
                await log.append(entry(number))
                sys.stdout.write(f"{number}\n")
                sys.stdout.flush()
                number += WRITERS

        await asyncio.gather(*[one(run * 1_000_000 + number) for number in range(WRITERS)])


if __name__ == "__main__":
    asyncio.run(endless(Path(sys.argv[1]), int(sys.argv[2])))
