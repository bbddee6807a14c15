"""A small speech service for measurements where the neutral ``sink`` is not built.

It counts, answers every so many chunks of a stream, prints ``listening`` and, on SIGTERM, one JSON
line: chunks, bytes, frames of 20 ms, numbers left out and numbers out of order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from steno._proto.transcription_pb2 import AudioChunk, TranscriptResult

FRAME_BYTES = 160


class Sink:
    """The counters, and the RPC that fills them."""

    def __init__(self, result_every: int) -> None:
        self._result_every = result_every
        self.streams = self.chunks = self.audio_bytes = self.gaps = self.disorder = 0

    async def stream_audio(
        self,
        chunks: AsyncIterator[AudioChunk],
        context: Any,  # Any: grpc has no types
    ) -> AsyncIterator[TranscriptResult]:
        """Count a stream."""
        self.streams += 1
        number, following = 0, 0
        async for chunk in chunks:
            number += 1
            self.chunks += 1
            self.audio_bytes += len(chunk.audio_data)
            first = chunk.sequence_number - max(0, len(chunk.audio_data) // FRAME_BYTES - 1)
            self.gaps += max(0, first - following)
            self.disorder += first < following
            following = max(following, chunk.sequence_number + 1)
            if self._result_every and number % self._result_every == 0:
                yield TranscriptResult(
                    conversation_id=chunk.conversation_id,
                    text="the weather today is",
                    language_confidence="0.91",
                    sequence_number=chunk.sequence_number,
                )

    def report(self) -> dict[str, int]:
        """Return the counters, by the names of the neutral tool."""
        return {
            "streams": self.streams,
            "chunks": self.chunks,
            "audio_bytes": self.audio_bytes,
            "audio_frames": self.audio_bytes // FRAME_BYTES,
            "sequence_gaps": self.gaps,
            "sequence_disorder": self.disorder,
        }


async def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-listen", required=True)
    parser.add_argument("-result-every", type=int, default=10)
    given = parser.parse_args()
    sink, stop = Sink(given.result_every), asyncio.Event()
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(
        sink.stream_audio, AudioChunk.FromString, TranscriptResult.SerializeToString
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "transcription.TranscriptionService", {"StreamAudio": handler}
            ),
        )
    )
    server.add_insecure_port(given.listen)
    await server.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(grace=0.5)
    print(json.dumps(sink.report()), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
