"""Recordings on their way to a speech service: CPU per hour of audio, and memory.

    python -m bench.recording_audio [--hours 0.25] [--forms wav-ulaw,wav-pcm,ogg-opus]

A recording of two channels is written in each form and taken through what ``steno transcribe
--engine audio`` does with it: decoded in blocks, resampled to 8 kHz, sent over gRPC to a service
in a process of its own, which answers every tenth message. ``decode`` leaves the sending out.
``cpu_s_per_hour`` is of an hour of the recording, both channels together, in the process that
would be Steno's; ``peak_mb`` is the most memory that process had, ``before_mb`` what it had with
everything imported and nothing read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

RATE_HZ = 8000
FORMS = {
    "wav-ulaw": ("WAV", "ULAW", 8000),
    "wav-pcm": ("WAV", "PCM_16", 16000),
    "ogg-opus": ("OGG", "OPUS", 48000),
}
BLOCK_S = 60


def serve(pipe: Connection) -> None:
    """Run the service until the other end of the pipe is closed."""
    import grpc.aio

    from steno._proto import transcription_pb2

    async def transcribe(
        requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        del context
        count = 0
        async for request in requests:
            count += 1
            if count % 10 == 0:
                chunk = transcription_pb2.AudioChunk.FromString(request)
                yield transcription_pb2.TranscriptResult(
                    conversation_id=chunk.conversation_id,
                    text="one two three",
                    sequence_number=chunk.sequence_number,
                ).SerializeToString()

    async def run() -> None:
        server = grpc.aio.server()
        handler: Any = grpc.stream_stream_rpc_method_handler(transcribe)  # Any: grpc has no types
        service = grpc.method_handlers_generic_handler(
            "transcription.TranscriptionService", {"StreamAudio": handler}
        )
        server.add_generic_rpc_handlers((service,))
        pipe.send(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await asyncio.to_thread(pipe.poll, None)
        await server.stop(grace=0.1)

    asyncio.run(run())


def write(path: Path, form: str, hours: float) -> None:
    """Write a recording of bursts of noise, as loud as speech, with pauses."""
    import numpy as np
    import soundfile  # type: ignore[import-untyped]  # it has none

    kind, subtype, rate_hz = FORMS[form]
    noise = np.random.default_rng(3).standard_normal((BLOCK_S * rate_hz, 2)) * 0.08
    noise *= (np.arange(len(noise)) // (rate_hz // 2) % 3 > 0)[:, None]
    left = round(hours * 3600 * rate_hz)
    with soundfile.SoundFile(path, "w", rate_hz, 2, subtype=subtype, format=kind) as file:
        while left > 0:
            file.write(noise[:left])
            left -= len(noise)


def peak_mb() -> float:
    """Return the most memory that this process had, not counting who started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    told = next(line for line in lines if line.startswith("VmHWM"))
    return round(int(told.split()[1]) / 1024, 1)


def decode(path: Path) -> int:
    """Decode and resample; return the samples of a channel."""
    from steno.adapters.audio_files import open_audio

    count = 0
    with open_audio(path, rate_hz=RATE_HZ) as file:
        while (block := file.read()) is not None:
            count += len(block[0])
    return count


async def send(path: Path, port: int) -> int:
    """Do all of it; return the words that came back."""
    from functools import partial

    from steno.adapters.audio_files import open_audio
    from steno.app.engines import BUFFER_S, FINISH_S, PIECE_S
    from steno.app.speech import open_recogniser
    from steno.config import load
    from steno.observability import LogTelemetry
    from steno.recordings.audio_jobs import words_of

    config = load(
        None,
        {"HOME": str(path.parent)},
        {
            "speech.address": f"127.0.0.1:{port}",
            "speech.service": "transcription",
            "media.replay_s": BUFFER_S,
            "media.shutdown_s": FINISH_S,
        },
    )
    listening = await open_recogniser(config, LogTelemetry(level="error"), piece_s=PIECE_S)
    assert listening.recogniser is not None
    words = await words_of(
        [path],
        listening.recogniser,
        partial(open_audio, rate_hz=RATE_HZ),
        conversation="7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01",
        language="en-US",
    )
    await listening.recogniser.close(1.0)
    return len(words)


def measure(pipe: Connection, path: Path, port: int, hours: float) -> None:
    """Measure one file in this process, which did nothing before."""
    import soundfile  # noqa: F401
    import soxr  # type: ignore[import-untyped]  # noqa: F401  # it has none

    import steno.app.engines
    import steno.recordings.engines  # noqa: F401

    before = peak_mb()
    started, cpu = time.perf_counter(), time.process_time()
    if port:
        result = asyncio.run(send(path, port))
    else:
        result = decode(path)
        assert abs(result - hours * 3600 * RATE_HZ) <= RATE_HZ
    pipe.send(
        {
            "cpu_s_per_hour": round((time.process_time() - cpu) / hours, 2),
            "times_real_time": round(hours * 3600 / (time.perf_counter() - started)),
            "words": result if port else None,
            "before_mb": before,
            "peak_mb": peak_mb(),
        }
    )


def figure(context: Any, path: Path, port: int, hours: float) -> dict[str, Any]:
    # Any: multiprocessing's context has no type of its own
    """Return what a process of its own measured."""
    ours, theirs = context.Pipe()
    process = context.Process(target=measure, args=(theirs, path, port, hours))
    process.start()
    found: dict[str, Any] = ours.recv()
    process.join()
    return found


def main() -> None:
    """Measure every form and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=0.25, help="length of the recording")
    parser.add_argument("--forms", default=",".join(FORMS), help="forms to measure")
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    service = context.Process(target=serve, args=(theirs,))
    service.start()
    theirs.close()
    port = ours.recv()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for form in given.forms.split(","):
                path = Path(folder) / form
                write(path, form, given.hours)
                for name, to in (("decode", 0), ("all", port)):
                    told = figure(context, path, to, given.hours)
                    line = {"form": form, "what": name, "hours": given.hours, **told}
                    sys.stdout.write(json.dumps(line) + "\n")
                    sys.stdout.flush()
                path.unlink()
    finally:
        ours.close()
        service.join(5)
        service.kill()


if __name__ == "__main__":
    main()
