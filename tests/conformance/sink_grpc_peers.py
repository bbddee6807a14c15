"""gRPC consumers that follow a script, honest ones and evil ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import Message

from steno._proto import steno_v1_pb2, transcript_v1_pb2

# The context of a handler; its type parameters say nothing used here.
Context = grpc.aio.ServicerContext[Any, Any]
OnPush = Callable[
    [transcript_v1_pb2.TranscriptMessage, Context],
    Awaitable[transcript_v1_pb2.AckResponse | bytes],
]
OnStream = Callable[[Context], Awaitable[None]]
OK = transcript_v1_pb2.AckResponse(success=True)


class PushLog:
    """An honest unary consumer which notes what came; ``script`` goes first, call by call."""

    def __init__(self) -> None:
        self.messages: list[transcript_v1_pb2.TranscriptMessage] = []
        self.headers: list[dict[str, Any]] = []  # a value may be text or bytes
        self.script: list[grpc.StatusCode | bool | None] = []
        self.trailing: tuple[tuple[str, str | bytes], ...] = ()

    async def __call__(
        self, message: transcript_v1_pb2.TranscriptMessage, context: Context
    ) -> transcript_v1_pb2.AckResponse:
        step = self.script.pop(0) if self.script else None
        if isinstance(step, grpc.StatusCode):
            await context.abort(step, "scripted canary-4155550142", self.trailing)
        if step is False:
            return transcript_v1_pb2.AckResponse(success=False, message="canary-4155550142")
        self.messages.append(message)
        self.headers.append(dict(context.invocation_metadata() or ()))
        return OK

    @property
    def keys(self) -> list[str]:
        return [str(header["steno-key"]).partition(".")[0] for header in self.headers]


class StreamLog:
    """An honest stream consumer; each entry of ``script`` ends one stream at its first batch."""

    def __init__(self) -> None:
        self.batches: list[steno_v1_pb2.RecordBatch] = []
        self.script: list[grpc.StatusCode] = []
        self.streams = 0

    async def __call__(self, context: Context) -> None:
        self.streams += 1
        while (batch := await read(context)) is not None:
            if self.script:
                await context.abort(self.script.pop(0), "scripted")
            self.batches.append(batch)
            await context.write(steno_v1_pb2.BatchAck(acked_through=batch.batch))

    @property
    def records(self) -> list[steno_v1_pb2.Record]:
        return [record for batch in self.batches for record in batch.records]


async def read(context: Context) -> steno_v1_pb2.RecordBatch | None:
    """Return the next batch of a stream; None at its end."""
    batch = await context.read()
    return batch if isinstance(batch, steno_v1_pb2.RecordBatch) else None


@asynccontextmanager
async def serving(
    *,
    push: OnPush | None = None,
    stream: OnStream | None = None,
    listen: str = "127.0.0.1:0",
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[str]:
    """Serve what is given on a free port; gives the address."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers = []
    if push is not None:
        pushed = push

        # gRPC takes a callable object for a blocking handler; a function it is, then.
        async def push_transcript(
            message: transcript_v1_pb2.TranscriptMessage, context: Context
        ) -> transcript_v1_pb2.AckResponse | bytes:
            return await pushed(message, context)

        unary = grpc.unary_unary_rpc_method_handler(
            push_transcript,
            request_deserializer=transcript_v1_pb2.TranscriptMessage.FromString,
            response_serializer=_serialise,
        )
        handlers.append(
            grpc.method_handlers_generic_handler(
                "transcript.v1.TranscriptStream", {"PushTranscript": unary}
            )
        )
    if stream is not None:
        chosen = stream

        async def deliver(_: object, context: Context) -> None:
            await chosen(context)

        both = grpc.stream_stream_rpc_method_handler(
            deliver,
            request_deserializer=steno_v1_pb2.RecordBatch.FromString,
            response_serializer=_serialise,
        )
        handlers.append(
            grpc.method_handlers_generic_handler("steno.v1.RecordStream", {"Deliver": both})
        )
    server.add_generic_rpc_handlers(tuple(handlers))
    if credentials is None:
        port = server.add_insecure_port(listen)
    else:
        port = server.add_secure_port(listen, credentials)
    await server.start()
    try:
        yield f"{listen.rpartition(':')[0]}:{port}"
    finally:
        await server.stop(0)
        # The last handlers are told by a callback of the loop.
        await asyncio.sleep(0)


def _serialise(message: Message | bytes) -> bytes:
    """Bytes go out as they are: an evil peer's."""
    return message if isinstance(message, bytes) else message.SerializeToString()
