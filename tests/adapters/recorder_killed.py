"""Records calls until it is killed, or until its files may grow no more.

Usage: recorder_killed.py FOLDER kill | full
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

from conformance.stream_server import MemoryTelemetry
from steno.adapters.call_recorder import CallRecorder
from steno.core.audio import Encoding, MediaFormat

STEREO = MediaFormat(Encoding.PCMU, 8000, ("external", "internal"))
LIMIT_BYTES = 50_000


async def endless(folder: Path) -> None:
    """Write until the end."""
    recorder = CallRecorder(folder, MemoryTelemetry())
    recording = recorder.start("call", STEREO)
    assert recording is not None
    at = 0
    while True:
        recording.write(0, at, b"\x11" * 1601)
        recording.write(1, at, b"\x22" * 1601)
        at += 1601
        if at == 160_100:
            print("ready", flush=True)  # noqa: T201  # to the test
        await asyncio.sleep(0.0005)


async def limited(folder: Path) -> None:
    """Write beyond what a file may hold: for the writer that is a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, resource.RLIM_INFINITY))
    telemetry = MemoryTelemetry()
    recorder = CallRecorder(folder, telemetry)
    calls = [recorder.start(f"call {n}", STEREO) for n in range(3)]
    deadline = time.monotonic() + 20
    at = 0
    while time.monotonic() < deadline and not all(call and call.failed for call in calls):
        for call in calls:
            assert call is not None
            for channel in (0, 1):
                call.write(channel, at, b"\x11" * 1600)
        at += 1600
        await asyncio.sleep(0.001)
    for call in calls:
        assert call is not None
        call.write(0, at, b"\x11" * 100_000)  # the call goes on
        call.close()
    await recorder.close()
    told = [fields for _, name, fields in telemetry.events if "recording" in name]
    print(json.dumps(told))  # noqa: T201  # to the test


if __name__ == "__main__":
    asyncio.run((endless if sys.argv[2] == "kill" else limited)(Path(sys.argv[1])))
