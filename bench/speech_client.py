"""CPU per message of sending call audio to a speech service, results read and matched.

A service of grpc.aio runs in a process of its own (or give ``--target``), reads every chunk and
answers every tenth. The measured process opens the streams, sends chunks spread evenly over time
as calls do, and counts its own CPU. ``driver_us`` is what the same schedule costs with a stream
that does nothing, and is not taken off the other figure.

    python -m bench.speech_client [--streams 1000] [--rate 5] [--seconds 6] [--target HOST:PORT]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import sys
import time
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from typing import Protocol

import grpc
import uvloop

from steno._proto import transcription_pb2
from steno.adapters.grpc_channel import GrpcSettings
from steno.adapters.speech.grpc_client import GrpcRecogniser, SpeechServiceSettings
from steno.observability.telemetry import LogTelemetry
from steno.ports.speech import AudioChunk, Hypothesis, SpeechEvent, StreamSpec, StreamState

RATE_HZ = 8000
FRAMES_PER_S = 50
TICK_S = 0.005


def serve(pipe: Connection) -> None:
    """Run the service until the other end of the pipe is closed."""

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
                    text="the weather today is",
                    language_confidence="0.91",
                    sequence_number=chunk.sequence_number,
                ).SerializeToString()

    async def run() -> None:
        server = grpc.aio.server()
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
            transcribe
        )
        service = "transcription.TranscriptionService"
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"StreamAudio": handler}),)
        )
        pipe.send(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        loop.add_reader(pipe.fileno(), over.set)
        await over.wait()
        await server.stop(0)

    asyncio.run(run())


class Heard:
    """Counts what a stream yields."""

    def __init__(self) -> None:
        self.finals = 0
        self.is_up = False
        self.is_over = False

    def on_speech(self, event: SpeechEvent) -> None:
        """Take one event."""
        if isinstance(event, Hypothesis):
            self.finals += 1
        else:
            state = getattr(event, "state", None)
            self.is_up = self.is_up or state is StreamState.UP
            self.is_over = state is StreamState.OVER


class Sends(Protocol):
    """As much of a stream as the schedule needs."""

    def send(self, chunk: AudioChunk) -> None:
        """Take audio."""


class Nowhere:
    """Takes audio and forgets it."""

    def send(self, chunk: AudioChunk) -> None:
        """Do nothing."""


async def drive(streams: list[Sends], rate: float, seconds: float) -> tuple[int, float]:
    """Send at ``rate`` chunks a second on each stream; returns chunks sent and CPU seconds."""
    frames = round(FRAMES_PER_S / rate)
    samples = frames * RATE_HZ // FRAMES_PER_S
    audio = b"\xff" * samples
    sent, count = 0, len(streams)
    began, cpu = time.monotonic(), time.process_time()
    while (passed := time.monotonic() - began) < seconds:
        due = int(passed * rate * count)
        for number in range(sent, due):
            turn, place = divmod(number, count)
            chunk = AudioChunk(audio, (turn + 1) * frames - 1, "en-US", turn * samples)
            streams[place].send(chunk)
        sent = due
        await asyncio.sleep(TICK_S)
    return sent, time.process_time() - cpu


async def measure(target: str, options: argparse.Namespace) -> dict[str, object]:
    """Return the figures."""
    idle: list[Sends] = [Nowhere() for _ in range(options.streams)]
    idle_sent, idle_cpu = await drive(idle, options.rate, 2.0)
    client = GrpcRecogniser(
        SpeechServiceSettings(grpc=GrpcSettings(target=target)),
        telemetry=LogTelemetry(stream=sys.stderr),
        clock=time.monotonic,
        draw=random.random,
    )
    heard = [Heard() for _ in range(options.streams)]
    streams: list[Sends] = [
        client.open(StreamSpec(f"conversation-{place}", "participant", "PCMU", RATE_HZ), one)
        for place, one in enumerate(heard)
    ]
    while not all(one.is_up for one in heard):  # noqa: ASYNC110  # nothing to wait on
        await asyncio.sleep(0.05)
    sent, cpu = await drive(streams, options.rate, options.seconds)
    await client.close(10.0)
    return {
        "bench": "speech-client",
        "streams": options.streams,
        "rate": options.rate,
        "messages": sent,
        "us_per_message": round(cpu / sent * 1e6, 1),
        "driver_us": round(idle_cpu / idle_sent * 1e6, 1),
        "results": sum(one.finals for one in heard),
        "over": sum(one.is_over for one in heard),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=5.0, help="chunks a second on each")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--target", default="", help="measure against this service")
    options = parser.parse_args()
    if options.target:
        print(json.dumps(uvloop.run(measure(options.target, options))))
        return
    ours, theirs = multiprocessing.Pipe()
    service = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    service.start()
    theirs.close()
    try:
        target = f"127.0.0.1:{ours.recv()}"
        print(json.dumps(uvloop.run(measure(target, options))))
    finally:
        ours.close()
        service.join(10)
        service.kill()


if __name__ == "__main__":
    main()
