"""What ``bench.diarisation`` measures, each in a process of its own; one JSON object each.

    python -m bench.diarisation_run recorded STATE < events.jsonl    feed, machine, store
    python -m bench.diarisation_run socket STATE --port N            the same over a WebSocket
    python -m bench.diarisation_run export STATE --format csv        a stored timeline to a file
    python -m bench.diarisation_run stages --segments N              decoder and machine alone

STATE is a folder for the database. CPU is of this process, user and system, by thread.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import io
import json
import math
import pstats
import random
import sys
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

from steno.adapters.recorded_events import RecordedEvents
from steno.adapters.sealing import load_sealer
from steno.adapters.store_sqlite import SqliteStore
from steno.adapters.store_sqlite.timeline import TimelineReader
from steno.core.records import Kind
from steno.core.transcript import Fragment
from steno.diarisation.roster import LabelAttribution
from steno.diarisation.segments import SegmentPipeline, SegmentSettings
from steno.feeds.recorded import RecordedFeed
from steno.feeds.stream_connection import Timing
from steno.observability.telemetry import LogTelemetry
from steno.ports import LiveFeed
from steno.redaction.redactor import Redactor
from steno.spine.service import SpineService, SpineSettings
from steno.wire.event_socket import Decoder

HERTZ = 100
SAMPLE_S = 0.5
TAKE_EVERY = 256


def utc_us() -> int:
    return time.time_ns() // 1000


TIMING = Timing(time.monotonic, utc_us, random.random)


# --- what is read from the kernel ------------------------------------------------------------


def status_mb(field: str) -> float:
    """Return ``VmRSS`` or ``VmHWM`` of this process in MB (of 1024 kB)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def thread_cpu_s() -> dict[str, float]:
    """Return CPU seconds of the living threads by name; numbered pools are summed."""
    names = {one.native_id: one.name for one in threading.enumerate()}
    found: dict[str, float] = {}
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            name = names.get(int(task.name), "other").rstrip("0123456789").rstrip("_-")
            found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / HERTZ
    return found


class Meter:
    """CPU and memory of this process from its making on, sampled while it works."""

    def __init__(self) -> None:
        gc.collect()
        self._before = thread_cpu_s()
        self._cpu_s = time.process_time()
        self._wall_s = time.perf_counter()
        self._threads: dict[str, float] = {}
        self.rss_mb: list[float] = []

    async def sample(self) -> None:
        """Go on until cancelled."""
        while True:
            self._look()
            await asyncio.sleep(SAMPLE_S)

    def _look(self) -> None:
        self.rss_mb.append(status_mb("VmRSS"))
        for name, cpu_s in thread_cpu_s().items():
            spent = cpu_s - self._before.get(name, 0.0)
            self._threads[name] = max(self._threads.get(name, 0.0), spent)

    def figures(self, events: int) -> dict[str, Any]:
        """Return what was spent, by event."""
        self._look()
        cpu_s, wall_s = time.process_time() - self._cpu_s, time.perf_counter() - self._wall_s
        count = len(self.rss_mb)
        return {
            "events_per_s": round(events / wall_s),
            "cpu_us_per_event": round(cpu_s / events * 1e6, 2),
            "cpu_us_per_event_by_thread": {
                name: round(spent / events * 1e6, 2)
                for name, spent in sorted(self._threads.items())
                if spent > 0.05
            },
            "wall_s": round(wall_s, 2),
            "rss_mb_at_tenths": [self.rss_mb[count * n // 10] for n in range(10)],
            "peak_rss_mb": status_mb("VmHWM"),
        }


# --- events through everything ---------------------------------------------------------------


class Gateway:
    """The parts of ``steno diarise`` over a real store, without destinations.

    Args:
        state: Folder of the database.
        replayable: As for recorded input: nothing is journalled, the conversation's own clock
            settles.
    """

    def __init__(self, state: Path, *, replayable: bool) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self.store = SqliteStore.open(state / "steno.db", {})
        self.store.start()
        self.timeline = TimelineReader(state / "steno.db")
        self.telemetry = LogTelemetry(stream=sys.stderr, level="error")
        self.pipeline = SegmentPipeline(
            SegmentSettings(
                source="diarisation",
                host_group="bench",
                settle_s=math.inf if replayable else 2.0,
                horizon_s=60.0 if replayable else None,
                journal_s=math.inf if replayable else 0.05,
            ),
            Redactor(),
            LabelAttribution(),
            latest=self.timeline.latest,
            knows=self.timeline.knows,
        )
        self.spine = SpineService(
            self.pipeline,
            store=self.store,
            sealer=load_sealer(state / "journal.key"),
            switcher=None,
            telemetry=self.telemetry,
            settings=SpineSettings(journal="diarisation", finished="segments"),
            clock=time.monotonic,
            utc_us=utc_us,
            draw=random.random,
        )

    async def run(self, feed: LiveFeed) -> None:
        """Follow to the end of the feed and store everything."""
        await self.spine.restore(down_since_us=None)
        await self.spine.run([feed])
        if not await self.spine.finish(timeout_s=600):
            raise SystemExit("not everything could be stored")

    def stored(self) -> int:
        """Return the segments on the timeline."""
        return sum(entry.records for entry in self.timeline.conversations(Kind.SEGMENT))

    async def close(self) -> None:
        """Let go of the files."""
        self.timeline.close()
        await self.store.close()


async def recorded(state: Path) -> dict[str, Any]:
    """Read standard input to its end."""
    gateway = Gateway(state, replayable=True)
    feed = RecordedFeed(RecordedEvents([None]), timing=TIMING, telemetry=gateway.telemetry)
    meter = Meter()
    sampling = asyncio.create_task(meter.sample())
    await gateway.run(feed)
    sampling.cancel()
    progress = feed.progress
    figures = meter.figures(progress.messages)
    found = {
        "events": progress.messages,
        "malformed": progress.malformed,
        "stored": gateway.stored(),
        **figures,
        "database_mb": round((state / "steno.db").stat().st_size / 1e6, 1),
    }
    await gateway.close()
    return found


async def followed(state: Path, port: int, seconds: float) -> dict[str, Any]:
    """Follow an event socket for a while, after a second in which it settles."""
    from steno.adapters.sockets.client import Dialer
    from steno.feeds.event_socket import EventSocketFeed
    from steno.feeds.stream_connection import Endpoint

    class Tokens:
        async def token(self, *, refused: str = "") -> str:
            return "token"

    gateway = Gateway(state, replayable=False)
    feed = EventSocketFeed(
        (Endpoint("bench", f"ws://127.0.0.1:{port}", Tokens()),),
        dialer=Dialer(),
        timing=TIMING,
        telemetry=gateway.telemetry,
        request_id=lambda: "bench",
    )
    running = asyncio.create_task(gateway.run(feed))
    await asyncio.sleep(1.0)
    before = gateway.spine.counts["fragments"]
    meter = Meter()
    sampling = asyncio.create_task(meter.sample())
    await asyncio.sleep(seconds)
    events = gateway.spine.counts["fragments"] - before
    figures = meter.figures(max(events, 1))
    sampling.cancel()
    await feed.close()
    await running
    found = {"events": events, "stored": gateway.stored(), **figures}
    await gateway.close()
    return found


# --- exports ---------------------------------------------------------------------------------


def exported(state: Path, form: str) -> dict[str, Any]:
    """Export everything that is stored to a file."""
    from steno.app.exports import ExportRequest, export_stored
    from steno.diarisation.exports import Format

    one_each = form in {"srt", "vtt"}
    out = state / ("{conversation}." + form if one_each else f"all.{form}")
    request = ExportRequest(out=str(out), format=Format(form), min_confidence=0.0)
    before_mb = status_mb("VmRSS")
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    report = export_stored(state / "steno.db", request)
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    files = list(state.glob(f"*.{form}"))
    size = sum(file.stat().st_size for file in files)
    for file in files:
        file.unlink()
    return {
        "segments": report.segments,
        "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "cpu_us_per_segment": round(cpu_s / max(report.segments, 1) * 1e6, 2),
        "megabytes": round(size / 1e6, 1),
        "files": len(files),
        "rss_before_mb": before_mb,
        "peak_rss_mb": status_mb("VmHWM"),
    }


# --- stages ----------------------------------------------------------------------------------


def staged(segments: int) -> dict[str, Any]:
    """Measure the decoder, the machine, and the documents' loop, each alone and in memory."""
    from bench.diarisation_events import events

    lines = [line for step in events(segments) for line in step]
    decode = Decoder().decode
    cpu_s = time.process_time()
    fragments = [one for line in lines for one in decode(line, now=0.0, utc_us=1)]
    decoding_s = time.process_time() - cpu_s
    pipeline = SegmentPipeline(
        SegmentSettings(
            source="diarisation",
            host_group="bench",
            settle_s=math.inf,
            horizon_s=60.0,
            journal_s=math.inf,
        ),
        Redactor(),
        LabelAttribution(),
        latest=lambda conversation, key: None,
        knows=lambda conversation: False,
    )
    drafts = 0
    cpu_s = time.process_time()
    for number, fragment in enumerate(fragments, 1):
        assert isinstance(fragment, Fragment)
        pipeline.fragment(fragment, now=number * 1e-5, now_us=fragment.at_us)
        if number % TAKE_EVERY == 0:
            drafts += len(pipeline.take(number * 1e-5)[0])
    pipeline.flush(number * 1e-5)
    drafts += len(pipeline.take(number * 1e-5)[0])
    deciding_s = time.process_time() - cpu_s
    count = len(lines)
    return {
        "events": count,
        "drafts": drafts,
        "decode_cpu_us_per_event": round(decoding_s / count * 1e6, 2),
        "machine_cpu_us_per_event": round(deciding_s / count * 1e6, 2),
        "documents_loop_cpu_us_per_event": round(_documents_loop(lines) / count * 1e6, 2),
    }


def _documents_loop(lines: list[bytes]) -> float:
    """Return the CPU of decoding, appending under a mutex and logging a line, as in the tutorial.

    It keeps everything in memory, forever, and stores nothing: a yardstick for the work, no more.
    """
    import logging

    log = logging.Logger("documents")
    log.addHandler(logging.StreamHandler(io.StringIO()))
    mutex, kept = threading.Lock(), []
    cpu_s = time.process_time()
    for line in lines:
        body = json.loads(line)["data"]
        for one in body["transcripts"]:
            with mutex:
                kept.append((body["conversationId"], *one.values(), time.time()))
            log.info(
                "Conversation: %s | Speaker: %s | Confidence: %.2f | Final: %s | Text: %s",
                body["conversationId"],
                one["speaker"],
                one["confidence"],
                one["isFinal"],
                one["text"],
            )
    return time.process_time() - cpu_s


# --- life ------------------------------------------------------------------------------------


def profiled(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Run it under a profiler, of the loop's thread alone; the profile goes to standard error."""
    profile = cProfile.Profile()
    found = profile.runcall(uvloop.run, work)
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(45)
    return dict(found)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["recorded", "socket", "export", "stages"])
    parser.add_argument("state", type=Path, nargs="?", default=Path("."))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--format", default="json")
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    run = profiled if given.profile else uvloop.run
    if given.what == "recorded":
        found = run(recorded(given.state))
    elif given.what == "socket":
        found = run(followed(given.state, given.port, given.seconds))
    elif given.what == "export":
        found = exported(given.state, given.format)
    else:
        found = staged(given.segments)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
