"""CPU per fragment of ``steno live``, side by side with another build of the same design.

``STENO_BASELINE`` names a folder with neutral load tools (``bench.py`` and what it starts) and
``GOBASE_BIN`` their built programs; without the first this prints one line and ends. Every
comparison is made in one call: the runs alternate and the medians are compared.

    STENO_BASELINE=/path/to/bench python -m bench.live [--runs 5] [--only unary-flat ...]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STENO = str(Path(sys.executable).with_name("steno"))
OURS = f"{STENO} live --source transcript-stream --host ws://{{ws}} --grpc {{grpc}}"
CONVERSATIONS = 50

# name: (fragments of each conversation, fragments per second in all or 0 for flat out, target)
UNARY = {
    "unary-flat": (1000, 0, 2.0),
    "unary-1000": (200, 1000, 1.0),
    "unary-200": (60, 200, 1.0),
}
STREAM = {"stream-flat": (1000, 0, 0.8), "stream-1000": (200, 1000, 0.8)}


def baseline(folder: Path, binaries: Path, name: str, runs: int, port: int) -> dict[str, Any]:
    """Measure both builds through the unary service with the neutral harness."""
    fragments, rate, _ = UNARY[name]
    go = f"{binaries}/live -plain -buffer prose -grpc {{grpc}}"
    call = [
        sys.executable,
        str(folder / "bench.py"),
        "live",
        *("--cmd", f"go={go}"),
        *("--cmd", f"steno={OURS}"),
        *("--runs", str(runs), "--port", str(port), "--bin", str(binaries)),
        *("--conversations", str(CONVERSATIONS), "--fragments", str(fragments)),
        *("--rate", str(rate)),
        "--pin",
    ]
    printed = subprocess.run(call, capture_output=True, text=True, check=True, timeout=1800).stdout
    medians = {row["name"]: row["median"] for row in map(json.loads, printed.splitlines())}
    return {"go": medians["go"], "steno": medians["steno"]}


def seen_marks(path: Path, offset: int) -> tuple[int, int]:
    """Return how many fragment marks a consumer's file holds behind an offset, and its end."""
    import re

    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    end = data.rfind(b"\n") + 1
    return len(re.findall(rb"\bc\d+f\d+\b", data[:end])), offset + end


def stream_run(tools: Any, binaries: Path, name: str, port: int) -> dict[str, Any]:
    """Measure ``steno live`` once through the ``steno.v1`` stream into ``steno consume``."""
    fragments, rate, _ = STREAM[name]
    grpc, ws = f"127.0.0.1:{port}", f"127.0.0.1:{port + 2}"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "records.jsonl"
        consumer = tools.Tool([STENO, "consume", "--listen", grpc, "--out", str(out)])
        feed = process = None
        try:
            tools.wait_port(port)
            feed = tools.Tool(
                [
                    f"{binaries}/fakegenesys",
                    *("-listen", ws, "-conversations", str(CONVERSATIONS), "-sockets", "1"),
                    *("-fragments", str(fragments), "-rate", str(rate), "-linger", "4s"),
                ]
            )
            tools.wait_port(port + 2)
            env = dict(
                os.environ, GENESYS_HOST=ws, OAUTH_CLIENT_ID="id", OAUTH_CLIENT_SECRET="secret"
            )
            process = tools.measured(OURS, {"ws": ws, "grpc": grpc}, env, None)
            feed.wait_event("start", 30)
            time.sleep(0.15)
            before, started = tools.cpu(process.pid), time.time()
            feed.wait_event("sent", 120)
            want, seen, offset = CONVERSATIONS * fragments, 0, 0
            while seen < want and time.time() - started < 180:
                if out.exists():
                    more, offset = seen_marks(out, offset)
                    seen += more
                time.sleep(0.1)
            cpu_s, wall_s = tools.cpu(process.pid) - before, time.time() - started
            return {
                "cpu_us_per_fragment": cpu_s / want * 1e6,
                "fragments_per_s": want / wall_s,
                "fragments_seen": seen,
                "rss_mb": tools.rss_mb(process.pid),
            }
        finally:
            for tool in (feed, consumer):
                if tool is not None:
                    tool.stop()
            if process is not None:
                tools.stop(process)


def main() -> None:
    """Run the comparisons and print a JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=[*UNARY, *STREAM])
    given = parser.parse_args()
    if "STENO_BASELINE" not in os.environ:
        print("bench.live: skipped; STENO_BASELINE names the folder of the load tools")
        return
    folder = Path(os.environ["STENO_BASELINE"]).resolve()
    binaries = Path(os.environ.get("GOBASE_BIN", "/tmp/gobase/bin"))
    tools = _load(folder)
    tools.PIN = True
    names = given.only or [*UNARY, *STREAM]
    anchor: dict[int, float] = {}
    port = 23000
    for name in names:
        if name in UNARY:
            both = baseline(folder, binaries, name, given.runs, port)
            port += 20 * given.runs
            go = both["go"]["cpu_us_per_fragment"]
            anchor[UNARY[name][1]] = go
            ours, target = both["steno"], UNARY[name][2]
        else:
            _, rate, target = STREAM[name]
            rows = []
            for _ in range(given.runs):
                rows.append(stream_run(tools, binaries, name, port))
                port += 5
            ours = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
            if rate not in anchor:
                unary = next(key for key, value in UNARY.items() if value[1] == rate)
                anchor[rate] = baseline(folder, binaries, unary, given.runs, port)["go"][
                    "cpu_us_per_fragment"
                ]
                port += 20 * given.runs
            go = anchor[rate]
        ratio = ours["cpu_us_per_fragment"] / go
        print(
            json.dumps(
                {
                    "case": name,
                    "go_cpu_us_per_fragment": round(go, 1),
                    "steno_cpu_us_per_fragment": round(ours["cpu_us_per_fragment"], 1),
                    "ratio": round(ratio, 2),
                    "target": target,
                    "met": ratio <= target,
                    **{k: v for k, v in ours.items() if k in KEPT},
                }
            ),
            flush=True,
        )


KEPT = (
    "fragments_per_s",
    "fragments_seen",
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "rss_mb",
    "leaks",
    "misattributed",
    "fragments_twice",
)


def _load(folder: Path) -> Any:  # Any: a module found at run time
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("neutral_bench", folder / "bench.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
