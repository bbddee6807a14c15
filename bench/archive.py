"""MB per CPU-second and memory of ``steno archive --file``, side by side with another build.

Each run reads a transcript, aligns it at 48 kHz, counts by role, sums it up, writes it into a
folder, reads it back and checks it. ``STENO_BASELINE`` names a folder with neutral tools
(``bench.py``) and ``GOBASE_BIN`` their built programs; without the first only our own figures are
measured, on files of our simulator. The runs alternate and the medians are compared. Memory is
told above a bare interpreter that has imported the same libraries.

    STENO_BASELINE=/path/to/bench python -m bench.archive [--runs 3] [--sizes 50MB 300MB 1GB]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
TARGET_RATIO = 4.0
TARGET_MB = 64.0
BARE = """
import resource, typer
import steno.cli.archive, steno.app.archive, steno.adapters.archive_store, obstore, numpy
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
# A folder that holds the same already would be compared with, and not written.
OURS = "sh -c 'rm -rf {out}; exec steno archive --file {in} --to {out}'"
SHAPES = {
    "platform, words": ("--shape", "platform"),
    "document, participants last": ("--order", "last"),
    "document, pretty": ("--pretty",),
}


def bare_mb() -> float:
    """Return the memory of an interpreter that has imported the libraries and done nothing."""
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=True)
    return float(done.stdout)


def run_alone(path: Path, folder: Path, *options: str) -> dict[str, float]:
    """Archive a file once; return CPU, throughput and memory."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    call = [str(BIN / "steno"), "archive", "--file", str(path), "--to", str(out), *options]
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        raise SystemExit(f"{' '.join(call)} ended with {status}")
    cpu_s = used.ru_utime + used.ru_stime
    size_mb = path.stat().st_size / 1e6
    return {"cpu_s": cpu_s, "mb_per_cpu_s": size_mb / cpu_s, "peak_mb": used.ru_maxrss / 1024}


def own(name: str, path: Path, folder: Path, runs: int, bare: float, *more: str) -> dict[str, Any]:
    """Return our figures for a file."""
    rows = [run_alone(path, folder, *more) for _ in range(runs)]
    median = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    return {
        "case": name,
        "mb": round(path.stat().st_size / 1e6),
        "mb_per_cpu_s": round(median["mb_per_cpu_s"], 1),
        "cpu_s": round(median["cpu_s"], 2),
        "above_bare_mb": round(median["peak_mb"] - bare, 1),
    }


def simulated(path: Path, size: str, *options: str) -> None:
    """Write a transcript of the simulator's."""
    with path.open("wb") as file:
        call = [str(BIN / "steno-sim"), "transcript", "--size", size, *options]
        subprocess.run(call, stdout=file, check=True)


def beside(path: Path, folder: Path, baseline: Path, runs: int, bare: float) -> dict[str, Any]:
    """Compare with the other build on one file."""
    binaries = Path(os.environ.get("GOBASE_BIN", "/tmp/gobase/bin"))
    go = f"{binaries}/archive -in {{in}} -out {{out}}"
    call = [
        *(sys.executable, str(baseline / "bench.py"), "archive"),
        *("--cmd", f"go={go}", "--cmd", f"steno={OURS}"),
        *("--runs", str(runs), "--input", str(path), "--output", str(folder / "out")),
    ]
    env = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    printed = subprocess.run(
        call, stdout=subprocess.PIPE, env=env, text=True, check=True, timeout=1800
    )
    rows = [json.loads(line) for line in printed.stdout.splitlines()]
    median = {row["name"]: row["median"] for row in rows}
    theirs, ours = median["go"], median["steno"]
    if ours["status"] or theirs["status"]:
        raise SystemExit(f"a build failed: {theirs['status']}, {ours['status']}")
    ratio = ours["mb_per_cpu_s"] / theirs["mb_per_cpu_s"]
    above = ours["peak_rss_mb"] - bare
    return {
        "case": "document",
        "mb": round(path.stat().st_size / 1e6),
        "go_mb_per_cpu_s": theirs["mb_per_cpu_s"],
        "mb_per_cpu_s": ours["mb_per_cpu_s"],
        "ratio": round(ratio, 2),
        "go_peak_mb": round(theirs["peak_rss_mb"]),
        "peak_mb": round(ours["peak_rss_mb"], 1),
        "above_bare_mb": round(above, 1),
        "wall_s": ours["wall_s"],
        "other_cores": ours["other_cores"],
        "met": ratio >= TARGET_RATIO and above <= TARGET_MB,
    }


def main() -> None:
    """Measure and print a JSON line for each case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", default=["50MB", "300MB"])
    parser.add_argument("--shapes-size", default="50MB", help="size of the other shapes' files")
    given = parser.parse_args()
    named = os.environ.get("STENO_BASELINE")
    binaries = Path(os.environ.get("GOBASE_BIN", "/tmp/gobase/bin"))
    bare = bare_mb()
    with tempfile.TemporaryDirectory(prefix="steno-bench-") as name:
        folder = Path(name)
        path = folder / "transcript.json"
        for size in given.sizes:
            if named:
                call = [str(binaries / "genjson"), "-size", size, "-out", str(path)]
                subprocess.run(call, stdout=subprocess.DEVNULL, check=True)
                row = beside(path, folder, Path(named).resolve(), given.runs, bare)
            else:
                simulated(path, size)
                row = own("document", path, folder, given.runs, bare)
            print(json.dumps(row), flush=True)
        for case, options in SHAPES.items():
            simulated(path, given.shapes_size, *options)
            row = own(case, path, folder, given.runs, bare)
            print(json.dumps(row), flush=True)
        simulated(path, given.shapes_size)
        for case, more in {"redacted": ("--redact",), "zstd": ("--zstd",)}.items():
            print(json.dumps(own(case, path, folder, 1, bare, *more)), flush=True)
        listing = str(folder / "listing.jsonl")
        row = own("listed", path, folder, given.runs, bare, "--out", listing)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
