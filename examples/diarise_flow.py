"""Who said what, when: the whole way of diarisation, with nothing but this checkout.

A simulated organisation has its calls; ``steno diarise`` collects their speaker segments from the
tutorial's event socket (or from the real platform's notification channels), is stopped as by
Ctrl-C, and exports. What was said is known, so the end is compared with the beginning, by code
that shares nothing with the product.

    python examples/diarise_flow.py                            # exit code 1 if anything is missing
    python examples/diarise_flow.py --source notifications
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Literal

from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET
from steno_sim.segments_score import SegmentsScore, score_export
from steno_sim.server import Simulator

Source = Literal["event-socket", "notifications"]

SCENARIO = "diarisation"
SPEED = 10.0  # times real time
SETTLE_S = 3.0  # a segment waits for its neighbours before it is stored
LIMIT_S = 60.0


def command(source: Source, host: str, queues: set[str], out: Path) -> list[str]:
    """Return the command line: the document's own, and what the real platform needs besides."""
    steno = str(Path(sys.executable).with_name("steno"))
    line = [steno, "diarise", "--out", str(out), "--health", "", "--log-level", "warning"]
    if source == "notifications":
        line += ["--source", source, *(f"--queue={queue}" for queue in sorted(queues))]
    return line


async def collect(source: Source, folder: Path) -> tuple[int, bytes, SegmentsScore | None]:
    """Play the calls to ``steno diarise``; its exit code, its export, and what that is worth."""
    out = folder / "segments.json"
    async with Simulator(SCENARIO, speed=SPEED, wait_for_sockets=1) as sim:
        queues = {plan.queue for plan in sim.world.script.plans}
        env = os.environ | {
            "GENESYS_ENV": sim.host,
            "GENESYS_CLIENT_ID": DEFAULT_CLIENT_ID,
            "GENESYS_CLIENT_SECRET": DEFAULT_CLIENT_SECRET,
            "STENO_STATE_DIR": str(folder / "state"),
        }
        line = command(source, sim.host, queues, out)
        say(" ".join(["steno", *line[1:]]))
        process = await asyncio.create_subprocess_exec(*line, env=env)
        try:
            async with asyncio.timeout(LIMIT_S):
                await sim.finished()
                await asyncio.sleep(SETTLE_S)
                process.send_signal(signal.SIGINT)
                code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        export = out.read_bytes() if out.exists() else b""
        family: Literal["event", "topic"] = "event" if source == "event-socket" else "topic"
        score = score_export(sim.truth(), export, family=family) if export else None
    return code, export, score


def say(text: str) -> None:
    """Write a line for people."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> int:
    """Run it all; 0 when everything has arrived."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--source", choices=["event-socket", "notifications"], default="event-socket"
    )
    source: Source = parser.parse_args().source
    with tempfile.TemporaryDirectory(prefix="steno-example-") as folder:
        code, export, score = asyncio.run(collect(source, Path(folder)))
    sys.stdout.write(export.decode())
    if score is None:
        say(f"MISSING  an export (exit code {code})")
        return 1
    say(f"{'ok  ' if not code else 'MISSING'}  it ended with exit code {code}")
    say(f"{'ok  ' if score.perfect else 'MISSING'}  {score.right} of {score.expected} segments")
    for line in score.details:
        say(f"MISSING  {line}")
    return int(bool(code) or not score.perfect)


if __name__ == "__main__":
    sys.exit(main())
