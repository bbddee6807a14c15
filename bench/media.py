"""CPU per 20 ms frame of ``steno media``, side by side with another build of the same design.

``STENO_BASELINE`` names a folder with neutral load tools (``bench.py``, ``faults.py`` and what
they start) and ``GOBASE_BIN`` their built programs; without the first this prints one line and
ends. Each comparison is one call of the tools: the runs alternate, the measured program has a
processor of its own, and the medians are compared.

    STENO_BASELINE=/path/to/bench python -m bench.media [--runs 3] [--only calls-500 ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

OURS = "env STENO_MEDIA_BEARER_TOKENS=test-token steno media --listen {listen} --stt {grpc}"
WINDOW_MS = 200.0
"""Longest time for which audio is gathered into a chunk, by default (``coalesce_max_ms``)."""


class Case(NamedTuple):
    """A load, and the most that our CPU a frame may be of the other's."""

    calls: int
    frames: int
    pace: float
    target: float


CASES = {
    "calls-500": Case(500, 500, 1, 1.0),
    "calls-1000": Case(1000, 500, 1, 1.0),
    "flat-out": Case(100, 2000, 0, 1.5),
}
FAULT = "service-away-2s"
KEPT = (
    "frames",
    "chunks",
    "sent",
    "gaps",
    "disorder",
    "closed_early",
    "frames_per_s",
    "p50_ms",
    "p99_ms",
    "sched_p50_ms",
    "sched_p99_ms",
    "loader_p99_ms",
    "rss_mb",
    "idle_rss_mb",
    "cores",
    "other_cores",
)


def other(binaries: Path) -> str:
    """Return the command line of the build that ours is compared with."""
    return f"{binaries}/media -listen {{listen}} -oauth ''"


def both(
    script: Path, binaries: Path, port: int, *options: str, keep: str | None
) -> list[dict[str, Any]]:
    """Let a neutral tool measure both builds; return its JSON lines."""
    call = [
        *(sys.executable, str(script), "media"),
        *("--cmd", f"go={other(binaries)}", "--cmd", f"steno={OURS}"),
        *("--bin", str(binaries), "--port", str(port), *options),
        *(("--keep", keep) if keep else ()),
    ]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where steno is
    printed = subprocess.run(
        call,
        stdout=subprocess.PIPE,
        env=os.environ | {"PATH": path},
        text=True,
        check=True,
        timeout=1800,
    )
    return [json.loads(line) for line in printed.stdout.splitlines()]


def compared(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one line of figures: ours, the other's, and what is held against the targets."""
    case = CASES[name]
    median = {row["name"]: row["median"] for row in rows}
    go, steno = median["go"], median["steno"]
    ratio = steno["cpu_us_per_frame"] / go["cpu_us_per_frame"]
    frames_lost = case.calls * case.frames - steno["frames"]
    row = {
        "case": name,
        "calls": case.calls,
        "go_cpu_us_per_frame": round(go["cpu_us_per_frame"], 2),
        "steno_cpu_us_per_frame": round(steno["cpu_us_per_frame"], 2),
        "ratio": round(ratio, 2),
        "target": case.target,
        "frames_lost": frames_lost,
        "met": ratio <= case.target and frames_lost == 0,
        "kb_per_call": round((steno["rss_mb"] - steno["idle_rss_mb"]) * 1024 / case.calls, 1),
        "go_kb_per_call": round((go["rss_mb"] - go["idle_rss_mb"]) * 1024 / case.calls, 1),
        "go_p50_ms": go["p50_ms"],
        "go_p99_ms": go["p99_ms"],
        **{key: steno[key] for key in KEPT if key in steno},
    }
    if name == "calls-500":  # the stamp in a chunk is its first frame's: the oldest
        row["target_p99_ms"] = WINDOW_MS + 50
        row["met"] = row["met"] and steno["p99_ms"] <= row["target_p99_ms"]
    return row


def main() -> None:
    """Run the comparisons and print a JSON line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=[*CASES, FAULT])
    parser.add_argument("--port", type=int, default=26000)
    parser.add_argument("--keep", help="append what the measured programs print to this file")
    parser.add_argument("--quiet-wait", default="0", help="wait so long for a quiet machine, s")
    given = parser.parse_args()
    if "STENO_BASELINE" not in os.environ:
        print("bench.media: skipped; STENO_BASELINE names the folder of the load tools")
        return
    folder = Path(os.environ["STENO_BASELINE"]).resolve()
    binaries = Path(os.environ.get("GOBASE_BIN", "/tmp/gobase/bin"))
    port = given.port
    for name in given.only or [*CASES, FAULT]:
        if name == FAULT:
            rows = both(folder / "faults.py", binaries, port, keep=given.keep)
            lost = {row["name"]: row["lost_pc"] for row in rows}
            row = {
                "case": name,
                "go_lost_pc": lost["go"],
                "steno_lost_pc": lost["steno"],
                "target_lost_pc": 0,
                # Above what was sent: audio that went out again after the resume.
                "met": lost["steno"] <= 0,
            }
        else:
            case = CASES[name]
            options = [
                *("--calls", str(case.calls), "--frames", str(case.frames)),
                *("--pace", f"{case.pace:g}", "--runs", str(given.runs), "--pin"),
                *("--quiet-wait", given.quiet_wait),
            ]
            row = compared(
                name, both(folder / "bench.py", binaries, port, *options, keep=given.keep)
            )
        port += 20 * given.runs
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
