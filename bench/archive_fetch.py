"""A stored transcript downloaded through a link: CPU of the client per megabyte, and its memory.

    python -m bench.archive_fetch [--mb 300] [--runs 3]

A process of its own serves one block of JSON again and again from memory, over plain loopback
HTTP, so that only the client's work counts: socket, HTTP, unpacking, hashes of what was given.
``bare`` reads the same with aiohttp alone and keeps nothing: what no client can be below. The
client's peak of memory is told above what it had before the first download.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import os
import resource
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

TURN = (
    '{"start_time":%d.25,"end_time":%d.5,"text":"we have two tickets left for %d, shall I",'
    '"speaker_id":"5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01","confidence":0.93}'
)
BLOCK = (",".join(TURN % (n, n + 1, n * 7919 % 10_007) for n in range(6500)) + ",").encode()


class Quiet:
    """Telemetry that tells nobody."""

    def info(self, event: str, **fields: object) -> None:
        """Drop it."""

    warning = error = info

    def counter(self, name: str, **labels: str) -> Callable[[float], None]:
        """Count nothing."""
        return lambda _: None

    histogram = gauge = counter


def serve(listener: socket.socket, blocks: int) -> None:
    """Answer every request with so many blocks; ``/gzip`` and ``/s3`` differ in form and head."""
    packed = gzip.compress(BLOCK, 6)
    digest = hashlib.md5(usedforsecurity=False)
    for _ in range(blocks):
        digest.update(BLOCK)
    while True:
        peer, _ = listener.accept()
        path = peer.recv(1 << 16).split(b" ")[1]
        body = packed if path.startswith(b"/gzip") else BLOCK
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body) * blocks}\r\nConnection: close\r\n"
        if path.startswith(b"/gzip"):
            head += "Content-Encoding: gzip\r\n"
        if path.startswith(b"/s3"):
            head += f'ETag: "{digest.hexdigest()}"\r\nx-amz-request-id: 1\r\n'
        peer.sendall(head.encode() + b"\r\n")
        for _ in range(blocks):
            peer.sendall(body)
        peer.close()


@contextmanager
def served(blocks: int) -> Iterator[int]:
    """Serve from another process; give the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    child = os.fork()
    if child == 0:
        try:
            serve(listener, blocks)
        finally:
            os._exit(0)
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        os.kill(child, 9)
        os.waitpid(child, 0)


async def through_link(url: str) -> int:
    """Download as the archive does; return the bytes."""
    from steno.adapters.stored_transcripts import FetchLimits, LinkStore
    from steno.adapters.stored_transcripts.download import Downloads
    from steno.core.hosts import Host
    from steno.core.secret import Secret

    async def fresh() -> Secret:
        return Secret(url)

    size = 0
    async with LinkStore(Host("127.0.0.1", 1, secure=False)) as store:
        downloads = Downloads(store, limits=FetchLimits(), telemetry=Quiet())
        async for block in downloads.blocks("c-1", await fresh(), fresh, None):
            size += len(block)
    return size


async def bare(url: str) -> int:
    """Read with aiohttp alone."""
    import aiohttp

    size = 0
    async with (
        aiohttp.ClientSession(read_bufsize=1 << 18) as session,
        session.get(url) as response,
    ):
        async for block in response.content.iter_any():
            size += len(block)
    return size


def measure(name: str, work: Callable[[], Awaitable[int]], size: int, runs: int) -> None:
    """Print the best of the runs; all of the content must come."""
    took = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(runs):
        began, cpu = time.perf_counter(), time.process_time()

        async def run() -> int:
            return await work()

        got = asyncio.run(run())
        took.append((time.process_time() - cpu, time.perf_counter() - began))
        if got != size:
            raise SystemExit(f"{name}: {got} bytes of {size}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    cpu, wall = min(took)
    mb = size / 1e6
    print(
        f"{name:8} {1000 * cpu / mb:7.2f} ms CPU per MB  {mb / cpu:7.0f} MB per CPU-second"
        f"  {mb / wall:6.0f} MB/s  +{grown:.0f} MB"
    )


def main() -> None:
    """Measure every form."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mb", type=int, default=300)
    parser.add_argument("--runs", type=int, default=3)
    wanted = parser.parse_args()
    blocks = max(1, wanted.mb * 1_000_000 // len(BLOCK))
    size = blocks * len(BLOCK)
    with served(blocks) as port:
        base = f"http://127.0.0.1:{port}"
        measure("warm", partial(through_link, f"{base}/plain?w"), size, 1)
        for form in ("plain", "s3", "gzip"):
            measure(form, partial(through_link, f"{base}/{form}?s"), size, wanted.runs)
        measure("bare", partial(bare, f"{base}/plain"), size, wanted.runs)


if __name__ == "__main__":
    main()
