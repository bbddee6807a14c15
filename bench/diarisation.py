"""Diarisation measured: recorded events and a live socket to the store, exports, pure stages.

    python -m bench.diarisation [--only recorded socket export stages]
        [--segments 100000 1000000] [--rates 200 1000] [--seconds 10] [--keep FOLDER]

``recorded``  events from a pipe through the feed, the machine and a real SQLite file (FULL):
              events/s, CPU per event, and memory, which must not grow with the number of segments
``socket``    the same from a WebSocket that sends at a given rate
``export``    the largest ``recorded`` timeline to a file of each format
``stages``    the decoder and the machine alone, and beside them the loop of the tutorial's
              program (decode, append under a mutex, log a line) done in Python

Each runs in a process of its own (``diarisation_run``); what feeds it is another, so the CPU is
what diarisation itself costs. Everything that was sent must be stored, or it fails.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
sys.path.insert(0, str(ROOT))  # when run as a program, its own folder stands there
FORMATS = ("json", "jsonl", "csv", "parquet", "rttm", "srt", "vtt")
LIMIT_S = 4 * 3600.0


def child(module: str, *arguments: object, **kept: Any) -> subprocess.Popen[bytes]:
    """Start a module of the bench."""
    call = [sys.executable, "-m", f"bench.{module}", *map(str, arguments)]
    return subprocess.Popen(call, cwd=ROOT, **kept)


def result(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Return what a measured process printed.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    printed, _ = process.communicate(timeout=LIMIT_S)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "bench.diarisation_run")
    return dict(json.loads(printed))


def recorded(state: Path, segments: int) -> dict[str, Any]:
    """Measure recorded events from a pipe.

    Raises:
        SystemExit: Something that was sent was not stored.
    """
    from bench.diarisation_events import totals

    writer = child("diarisation_events", "--segments", segments, stdout=subprocess.PIPE)
    measured = child(
        "diarisation_run", "recorded", state, stdin=writer.stdout, stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    writer.stdout.close()
    found = result(measured)
    writer.wait()
    wanted = totals(segments)
    if (found["events"], found["stored"]) != (wanted.events, wanted.results):
        raise SystemExit(f"bench.diarisation: {wanted} sent, {found} found")
    return {"case": "recorded", "segments": wanted.segments, **found}


def socket(state: Path, rate: int, seconds: float) -> dict[str, Any]:
    """Measure a WebSocket that sends so many events a second."""
    server = child("diarisation_socket", "--rate", rate, stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        port = int(server.stdout.readline())
        arguments = ("socket", state, "--port", port, "--seconds", seconds)
        found = result(child("diarisation_run", *arguments, stdout=subprocess.PIPE))
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()
    return {"case": f"socket-{rate}", **found}


def export(state: Path, form: str) -> dict[str, Any]:
    """Measure an export of everything stored."""
    arguments = ("export", state, "--format", form)
    found = result(child("diarisation_run", *arguments, stdout=subprocess.PIPE))
    return {"case": f"export-{form}", **found}


def stages(segments: int) -> dict[str, Any]:
    """Measure the pure stages."""
    arguments = ("stages", "--segments", segments)
    found = result(child("diarisation_run", *arguments, stdout=subprocess.PIPE))
    return {"case": "stages", **found}


def main() -> None:
    """Print a JSON line for each figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cases = ("recorded", "socket", "export", "stages")
    parser.add_argument("--only", nargs="+", choices=cases, default=list(cases))
    parser.add_argument("--segments", type=int, nargs="+", default=[100_000])
    parser.add_argument("--rates", type=int, nargs="+", default=[1000])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--keep", type=Path, help="where databases are made, and stay")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="steno-bench-") as made:
        folder = (given.keep or Path(made)).resolve()
        for row in rows(given, folder):
            print(json.dumps(row), flush=True)


def rows(given: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield one case's figures after the other; exports are of what was recorded last."""
    if "stages" in given.only:
        yield stages(min(given.segments))
    for rate in given.rates if "socket" in given.only else ():
        yield socket(fresh(folder / f"socket-{rate}"), rate, given.seconds)
    state = folder
    for size in sorted(given.segments) if {"recorded", "export"} & {*given.only} else ():
        state = folder / f"recorded-{size}"
        yield recorded(fresh(state), size)
    for form in given.formats if "export" in given.only else ():
        yield export(state, form)


def fresh(folder: Path) -> Path:
    """Return the folder, empty."""
    if folder.exists():
        shutil.rmtree(folder)
    return folder


if __name__ == "__main__":
    main()
