"""A speech-to-text service that a gateway of call audio can be tried with.

It speaks ``transcription.proto`` (beside this file) and understands tone words (``tones.py``), so
what it answers can be compared letter by letter with what was said; nothing is downloaded, and it
shares no code with Steno. A service of your own keeps the contract and puts a recogniser in the
place of the ``Ear``:

    python examples/speech_service/service.py --listen 127.0.0.1:50055 [--journal heard.jsonl]

The journal gets a line for each piece of audio: whose, which number, how long. It is written
before anything is done with the audio, so it can be trusted after a kill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hearing import Ear
from tones import RATE_HZ, Samples

TEXT, BYTES, INT32 = 9, 12, 5  # FieldDescriptorProto.Type
MESSAGES = {
    "AudioChunk": (
        ("conversation_id", TEXT),
        ("participant_id", TEXT),
        ("audio_data", BYTES),
        ("language_code", TEXT),
        ("sequence_number", INT32),
        ("sample_rate", INT32),
        ("audio_format", TEXT),
    ),
    "TranscriptResult": (
        ("conversation_id", TEXT),
        ("text", TEXT),
        ("language_confidence", TEXT),
        ("sequence_number", INT32),
    ),
}
"""``transcription.proto`` as a table: the messages are made from it, no compiler is needed."""

SILENCE_IS_TOLD_AFTER_S = 1.0
CONFIDENCE = "0.98"
ENCODING_BYTES = {"PCMU": 1, "L16": 2}


def contract() -> dict[str, Any]:  # Any: message classes made at run time
    """Return the message classes by name."""
    file = descriptor_pb2.FileDescriptorProto(
        name="transcription.proto", package="transcription", syntax="proto3"
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, start=1):
            message.field.add(name=field, number=number, type=kind, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"transcription.{name}"))
        for name in MESSAGES
    }


def _mu_law_table() -> Samples:
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 132) << ((code >> 4) & 7)) - 132
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


MU_LAW = _mu_law_table()


def linear(audio: bytes, encoding: str) -> Samples:
    """Decode audio to linear samples.

    Raises:
        ValueError: The encoding is not known, or the bytes are no whole samples.
    """
    if encoding not in ENCODING_BYTES or len(audio) % ENCODING_BYTES[encoding]:
        raise ValueError(encoding)
    if encoding == "PCMU":
        return MU_LAW[np.frombuffer(audio, dtype=np.uint8)]
    return np.frombuffer(audio, dtype="<i2").astype(np.int16)


class Voice:
    """One participant in one stream."""

    def __init__(self) -> None:
        self.ear = Ear()
        self.last_sequence = -1
        self.untold_s = 0.0


class Service:
    """The RPC, and the journal of what came in."""

    def __init__(self, journal: Path | None = None) -> None:
        self._types = contract()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._journal = -1 if journal is None else os.open(journal, flags, 0o600)

    def handlers(self) -> Any:  # Any: grpc has no types
        """Return what a server needs to offer the RPC."""
        stream = grpc.stream_stream_rpc_method_handler(
            self.stream_audio,
            self._types["AudioChunk"].FromString,
            self._types["TranscriptResult"].SerializeToString,
        )
        return grpc.method_handlers_generic_handler(
            "transcription.TranscriptionService", {"StreamAudio": stream}
        )

    async def stream_audio(self, chunks: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Answer each stretch of audio that ends between two sentences with its text.

        A result says: all text up to ``sequence_number`` has been returned. An empty one only
        acknowledges, so that the gateway need not keep silence for a resume.
        """
        voices: dict[tuple[str, str], Voice] = {}
        async for chunk in chunks:
            whose = (chunk.conversation_id, chunk.participant_id)
            voice = voices.setdefault(whose, Voice())
            self._note(chunk)
            if chunk.sequence_number <= voice.last_sequence:
                continue  # a repeat: heard already
            try:
                samples = linear(chunk.audio_data, chunk.audio_format)
            except ValueError:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "PCMU or L16 at 8 kHz")
            if chunk.sample_rate != RATE_HZ:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "PCMU or L16 at 8 kHz")
            voice.last_sequence = chunk.sequence_number
            voice.untold_s += len(samples) / RATE_HZ
            heard = voice.ear.hear(samples, chunk.sequence_number)
            if heard and (heard.text or voice.untold_s >= SILENCE_IS_TOLD_AFTER_S):
                voice.untold_s = 0.0
                yield self._result(whose, heard.text, heard.sequence)
        for whose, voice in voices.items():  # the caller's end is closed: tell the rest
            heard = voice.ear.finish()
            yield self._result(whose, heard.text, heard.sequence)

    def _result(self, whose: tuple[str, str], text: str, sequence: int) -> Any:
        return self._types["TranscriptResult"](
            conversation_id=whose[0],
            text=text,
            language_confidence=CONFIDENCE,
            sequence_number=sequence,
        )

    def _note(self, chunk: Any) -> None:
        if self._journal < 0:
            return
        entry = {
            "process": os.getpid(),
            "conversation": chunk.conversation_id,
            "participant": chunk.participant_id,
            "sequence": chunk.sequence_number,
            "bytes": len(chunk.audio_data),
            "crc": zlib.crc32(chunk.audio_data),
            "language": chunk.language_code,
        }
        os.write(self._journal, json.dumps(entry).encode() + b"\n")


async def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--listen", default="127.0.0.1:50055", help="port 0 takes a free one")
    parser.add_argument("--journal", type=Path, help="file that gets a line for each chunk")
    given = parser.parse_args()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Service(given.journal).handlers(),))
    port = server.add_insecure_port(given.listen)
    await server.start()
    sys.stdout.write(f"listening on port {port}\n")
    sys.stdout.flush()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await server.stop(grace=2.0)


if __name__ == "__main__":
    asyncio.run(main())
