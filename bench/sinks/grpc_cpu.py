"""CPU per record of the gRPC sink, in the sender, by service, batch and calls in flight.

Starts ``steno consume`` as a process of its own (or takes ``--target``), so the sender's figure
holds nothing of the consumer's work. Prints one JSON line for each case.

    python bench/sinks/grpc_cpu.py
    python bench/sinks/grpc_cpu.py --target 127.0.0.1:50051 --records 20000
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import uvloop

from steno.adapters.grpc_channel import GrpcSettings
from steno.adapters.sinks.encoding import to_batch, to_json, to_transcript
from steno.adapters.sinks.grpc import GrpcSink
from steno.core.records import Kind, Origin, Record, SentencePayload, record_key
from steno.ports import Ack, Add, FieldValue

CASES: list[tuple[Literal["steno.v1", "transcript.v1"], int, int]] = [
    ("steno.v1", 512, 4),
    ("steno.v1", 64, 4),
    ("steno.v1", 10, 4),
    ("steno.v1", 1, 4),
    ("transcript.v1", 1, 50),
    ("transcript.v1", 1, 8),
    ("transcript.v1", 1, 1),
]


class Silent:
    """A telemetry port that keeps nothing."""

    def info(self, event: str, **fields: FieldValue) -> None:
        """Drop it."""

    warning = error = info

    def counter(self, name: str, **labels: str) -> Add:
        """Return an adder that adds nothing."""
        return lambda value: None

    histogram = gauge = counter


def record(run: int, lane: int, number: int) -> Record:
    """Return a sentence of usual length."""
    conversation = f"c9a8b7d6-e5f4-{run:04x}-9876-{lane:012d}"
    payload = SentencePayload(
        participant="p1a2b3c4-d5e6-7890-0001-567890abcdef",
        text="so I would like to change the delivery address of my last order please",
        language="en-US",
        confidence=0.91,
        started_us=1_705_314_600_000_000,
        ended_us=1_705_314_603_000_000,
        completed_us=1_705_314_603_123_456,
        role="customer",
    )
    utterance = f"1705314600000000-{number}"
    return Record(
        id=f"0190e3a4-{run:04x}-7def-{lane:04x}-{number:012x}",
        kind=Kind.SENTENCE,
        source="transcript-stream",
        conversation=conversation,
        lane="p1a2b3c4-d5e6-7890-0001-567890abcdef",
        utterance=utterance,
        revision=0,
        key=record_key("bench", conversation, "p1", utterance),
        seq=number,
        prev_seq=number - 1,
        origin=Origin.LIVE,
        at_us=1_705_314_603_123_456,
        payload=msgspec.json.encode(payload),
    )


async def measure(
    target: str,
    run: int,
    service: Literal["steno.v1", "transcript.v1"],
    batch: int,
    in_flight: int,
    records: int,
) -> None:
    """Send ``records`` records and print what each cost."""
    sink = GrpcSink(GrpcSettings(target=target, service=service), telemetry=Silent())
    await sink.deliver([record(run, 9999, 1)])
    per_lane = max(1, records // in_flight // batch)
    lanes = [
        [[record(run, lane, n * batch + i + 1) for i in range(batch)] for n in range(per_lane)]
        for lane in range(in_flight)
    ]

    async def send(batches: Sequence[Sequence[Record]]) -> None:
        for one in batches:
            outcomes = await sink.deliver(one)
            assert all(isinstance(outcome, Ack) for outcome in outcomes)

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*[send(lane) for lane in lanes])
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    sent = per_lane * in_flight * batch
    await sink.close()
    result = {
        "service": service,
        "batch": batch,
        "in_flight": in_flight,
        "cpu_us_per_record": round(cpu / sent * 1e6, 1),
        "records_per_s": round(sent / wall),
    }
    print(json.dumps(result), flush=True)


def encoding() -> None:
    """Print what the encodings alone cost."""
    one = record(0, 0, 1)
    many = [one] * 512
    cases: list[tuple[str, Callable[[], bytes], int]] = [
        ("json", lambda: to_json(one), 1),
        ("transcript.v1", lambda: to_transcript(one), 1),
        ("steno.v1 batch of 512", lambda: to_batch(1, many), 512),
    ]
    for name, call, size in cases:
        rounds = 20_000 // size + 1
        started = time.process_time()
        for _ in range(rounds):
            call()
        cost = (time.process_time() - started) / rounds / size
        print(json.dumps({"encoding": name, "cpu_us_per_record": round(cost * 1e6, 2)}))


@contextlib.contextmanager
def consumer() -> Iterator[str]:
    """Run ``steno consume`` on a free port; gives the address, and prints its CPU at the end."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "steno.cli", "consume", "--listen", "127.0.0.1:0",
             "--out", str(Path(folder) / "out.jsonl"), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            yield process.stderr.readline().split()[-1]
        finally:
            ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            cpu_s = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
            process.send_signal(signal.SIGTERM)
            summary = json.loads(process.communicate()[0])
            print(json.dumps({"consumer_cpu_s": cpu_s, **summary}))


def main() -> None:
    """Run every case once."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--target", default="", help="a consumer that is running already")
    options.add_argument("--records", type=int, default=40_000)
    chosen = options.parse_args()
    encoding()
    holder = contextlib.nullcontext(chosen.target) if chosen.target else consumer()
    with holder as target:
        for run, (service, batch, in_flight) in enumerate(CASES, 1):
            # Single calls are slow; a fifth of them is enough.
            records = chosen.records if batch > 1 else chosen.records // 5
            uvloop.run(measure(target, run, service, batch, in_flight, records))


if __name__ == "__main__":
    main()
