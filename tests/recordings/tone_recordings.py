"""Recordings that say tone words, and the example's speech service that understands them."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np

from steno_sim.recordings.catalogue import Recording
from steno_sim.server import Simulator

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "speech_service"


def _example(name: str) -> Any:  # Any: the examples are scripts, outside of the type check
    sys.path.insert(0, str(EXAMPLE))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(EXAMPLE))


tones, service = _example("tones"), _example("service")


def lead(text: str, silence_s: float = 0.0) -> Any:  # Any: samples
    return np.concatenate([np.zeros(int(silence_s * tones.RATE_HZ), np.int16), tones.spoken(text)])


def file_of(*channels: Any, subtype: str = "PCM_16", kind: str = "WAV", rate_hz: int = 8000) -> Any:
    """Return the bytes of an audio file whose channels are these samples."""
    import soundfile  # type: ignore[import-untyped]  # it has none
    import soxr  # type: ignore[import-untyped]  # it has none

    frames = tones.interleaved(*channels).reshape(-1, len(channels)) / 32768
    if rate_hz != tones.RATE_HZ:
        frames = soxr.resample(frames, tones.RATE_HZ, rate_hz)
    file = io.BytesIO()
    soundfile.write(file, frames, rate_hz, subtype=subtype, format=kind)
    return file.getvalue()


@asynccontextmanager
async def listener() -> AsyncIterator[str]:
    """Yield the address of the example's speech service."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((service.Service().handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace=0.2)


def give(sim: Simulator, one: Recording, *files: bytes) -> None:
    """Let a recording consist of these files."""
    for file, data in zip(one.files(), files, strict=True):
        sim.platform.store.own[file.name] = data
