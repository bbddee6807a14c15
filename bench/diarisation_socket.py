"""A WebSocket server that answers a subscription and sends events at a rate, for as long as asked.

    python -m bench.diarisation_socket --rate 1000

Its port is the first line on standard output. Events come in one burst every 5 ms, each a frame
of its own, as they do from a platform that serves many calls.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from contextlib import suppress

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bench.diarisation_events import events

BURST_S = 0.005


def texts() -> Iterator[str]:
    """Yield events without end."""
    for step in events(10**9):
        for line in step:
            yield line.decode().rstrip("\n")


async def send(socket: ServerConnection, rate: int) -> None:
    """Answer the subscription, then send until the client has gone."""
    with suppress(ConnectionClosed):
        await follow(socket, rate)


async def follow(socket: ServerConnection, rate: int) -> None:
    """Send without end.

    Raises:
        ConnectionClosed: The client has gone.
    """
    await socket.recv()
    await socket.send(json.dumps({"type": "subscribed"}))
    lines, sent, began = texts(), 0, time.monotonic()
    while True:
        due = int((time.monotonic() - began) * rate)
        for line in itertools.islice(lines, due - sent):
            await socket.send(line)
        sent = due
        await asyncio.sleep(BURST_S)


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1000)
    given = parser.parse_args()
    async with serve(lambda socket: send(socket, given.rate), "127.0.0.1", 0) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
