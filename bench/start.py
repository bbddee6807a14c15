"""CPU of starting the command line: ``steno --help``, and a command that reads the settings.

python -m bench.start [--runs 7]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

STENO = str(Path(sys.executable).with_name("steno"))
CASES = {"steno --help": ["--help"], "steno config show": ["config", "show"]}
TARGET_MS = 150.0


def cpu_ms(arguments: list[str]) -> float:
    """Return the CPU milliseconds, user and system, of one call."""
    process = subprocess.Popen([STENO, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return (usage.ru_utime + usage.ru_stime) * 1000


def main() -> None:
    """Print the median of some runs of each case, after one that fills the caches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    for name, arguments in CASES.items():
        cpu_ms(arguments)
        median = statistics.median(cpu_ms(arguments) for _ in range(given.runs))
        row = {"command": name, "cpu_ms": round(median, 1)}
        if name == "steno --help":
            row |= {"target_ms": TARGET_MS, "met": median <= TARGET_MS}
        print(json.dumps(row))


if __name__ == "__main__":
    main()
