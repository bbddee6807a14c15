"""A batch of transcription jobs through ``steno transcribe``, with faults, and with kills.

    python -m bench.recordings_load [--jobs 1000] [--kills 0] [--no-faults] [--no-webhooks]

``steno-sim``, ``steno-sim webhooks`` and ``steno transcribe`` are processes of their own. Three
in a hundred requests are refused (5xx, bursts of 429 with and without Retry-After), cut off before
or after they had an effect, or slow; three in a hundred recordings fail, have no result, words
that cannot be read, no words, or do not exist. With ``--kills`` the product is killed as often
(SIGKILL) at random moments and started again with the same input.

Afterwards everything is held against the simulator's truth: every job ended as it should, none
was submitted twice, every transcript is what was said, each job has one record and one audit
entry, each webhook arrived and its signature holds. ``broken`` names what is not so, and then the
exit code is 1. CPU and memory are the product's alone, over all its runs; CPU of the simulator and
of the receiver, on the same machine, is told beside it.

The simulator's clock runs ``--clock`` times as fast, and the product's polls and retries with it;
the limits of 300 requests a minute are raised on both sides (``--per-minute``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from faults.transcribe_rig import (  # noqa: E402  # found by the path above
    HOOK_SECRET,
    TRANSCRIBE,
    TROUBLE,
    Rig,
    made,
    settings_of,
)
from steno_sim.recordings.settings import JobSettings  # noqa: E402

HERTZ = os.sysconf("SC_CLK_TCK")
START_S = 30.0
KILL_SPAN_S = 4.0
HOOK_SCRIPT = "503,200"
HOOK_SHARE = 0.03


@contextmanager
def program(
    folder: Path, name: str, *arguments: str, env: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a part of the simulator; it ends with SIGTERM. Its log is given beside it."""
    log = folder / f"{name}.log"
    with log.open("wb") as err, (folder / f"{name}.out").open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "steno_sim.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **(env or {})},
        )
    try:
        yield child, log
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def said(log: Path, words: str) -> str:
    """Wait until a line with these words is in a log, and return what follows them."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        for line in log.read_text().splitlines():
            if words in line:
                return line.partition(words)[2].strip()
        time.sleep(0.02)
    raise SystemExit(f"bench.recordings_load: {log.name} never said {words!r}")


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a running process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / HERTZ


def arguments_of(jobs: JobSettings) -> list[str]:
    """Return the simulator's options for its job service."""
    found: list[str] = []
    for name, value in vars_of(jobs).items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        found += ["--jobs", f"{name}={text}"]
    return found


def vars_of(jobs: JobSettings) -> dict[str, Any]:
    """Return what differs from the usual, by name."""
    usual = JobSettings()
    return {
        name: getattr(jobs, name)
        for name in jobs.__struct_fields__
        if getattr(jobs, name) != getattr(usual, name) and name != "recordings"
    }


async def run(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Carry a batch out and return the figures."""
    faults = {} if given.no_faults else dict(TROUBLE)
    jobs = JobSettings(recordings=given.jobs, clock=given.clock, words=tuple(given.words), **faults)
    with ExitStack() as stack:
        sim, log = stack.enter_context(
            program(
                folder,
                "sim",
                *("--listen", "127.0.0.1:0", "--scenario", "quiet"),
                *("--recordings", str(given.jobs), "--rate-limit", str(given.rate_limit)),
                *arguments_of(jobs),
            )
        )
        url = f"http://{said(log, 'primary listens on')}"
        hook, receiver = "", None
        if not given.no_webhooks:
            receiver, log = stack.enter_context(
                program(
                    folder,
                    "hooks",
                    *("webhooks", "--listen", "127.0.0.1:0", "--secret-env", "HOOK_SECRET"),
                    *("--out", str(folder / "deliveries.jsonl")),
                    *(() if given.no_faults else ("--fail", HOOK_SCRIPT)),
                    *("--share", str(HOOK_SHARE)),
                    env={"HOOK_SECRET": HOOK_SECRET},
                )
            )
            hook = said(log, "received at")
        one = made(
            folder,
            url,
            jobs,
            given.jobs,
            hook=hook,
            settings={
                **settings_of(given.clock),
                "STENO_TRANSCRIBE_PER_MINUTE": str(given.per_minute),
                "STENO_OBSERVABILITY_LOG_LEVEL": "warning",
            },
            command=given.product,
        )
        stack.callback(one.product.end)
        return await measured(given, one, sim.pid, receiver.pid if receiver else 0)


async def measured(given: argparse.Namespace, one: Rig, sim: int, hooks: int) -> dict[str, Any]:
    """Run the product, killed as often as asked for, and judge what it left."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    draw = random.Random(given.seed)
    await one.killed_at_random(given.kills, draw, span_s=given.kill_span)
    await one.done(limit_s=given.limit)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    beside_s = {"simulator": cpu_s(sim), **({"receiver": cpu_s(hooks)} if hooks else {})}
    requests, stats = await one.requests(), await one.job_stats()
    if hooks:
        await one.hooks_settled()
    verdict = await one.verdict()
    if not await one.audit_is_sound():
        verdict.audit.append("steno audit verify found something")
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "jobs": given.jobs,
        "kills": one.kills,
        "starts": one.product.starts,
        "broken": verdict.broken,
        "ends": dict(sorted(verdict.ends.items())),
        "submitted": stats["accepted"],
        "submitted_twice": stats["doubled"] + stats["doubled_keys"],
        "requests": sum(requests.values()),
        "requests_by_status": by_status(requests),
        "faults_struck": stats["struck"],
        "requests_per_job": round(sum(requests.values()) / given.jobs, 2),
        "most_requests_in_a_minute": stats["peak_in_window"],
        "webhook_deliveries": verdict.deliveries,
        "wall_s": round(seconds, 1),
        "jobs_per_s": round(given.jobs / seconds, 1),
        "cpu_ms_per_job": round(spent_s / given.jobs * 1000, 2),
        "cpu_s_beside": {name: round(value, 1) for name, value in beside_s.items()},
        "peak_rss_mb": round(one.product.peak_kb / 1024, 1),
        "turns_masked_more_than_planted_in": verdict.over_masked,
        "clock": given.clock,
        "per_minute": given.per_minute,
        "rate_limit": given.rate_limit,
        "words": list(one.jobs.words),
    }


def by_status(requests: dict[str, int]) -> dict[str, int]:
    """Return the requests by status."""
    found: Counter[str] = Counter()
    for name, count in requests.items():
        found[name.rpartition(" ")[2]] += count
    return dict(sorted(found.items()))


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--kill-span", type=float, default=KILL_SPAN_S, help="longest life, s")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clock", type=float, default=20.0)
    parser.add_argument("--per-minute", type=float, default=30_000, help="the product's own limit")
    parser.add_argument("--rate-limit", type=int, default=40_000, help="the simulator's, a minute")
    parser.add_argument("--words", type=int, nargs=2, default=(40, 400), help="of a recording")
    parser.add_argument("--no-faults", action="store_true")
    parser.add_argument("--no-webhooks", action="store_true")
    parser.add_argument("--limit", type=float, default=3000, help="longest run, s")
    parser.add_argument("--keep", type=Path, help="folder for everything, instead of a new one")
    parser.add_argument(
        "--product",
        type=shlex.split,
        default=list(TRANSCRIBE),
        help="what to run instead of steno transcribe, in one word",
    )
    return parser.parse_args(given)


def main() -> int:
    """Measure and print one JSON line; 1 where a promise was broken."""
    given = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures = asyncio.run(run(given, folder))
    print(json.dumps(figures))
    return 1 if figures["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
