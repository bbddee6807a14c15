"""Everything that is measured, one JSON line a figure on standard output: ``make bench``.

    python -m bench [--only NAME ...] [--full]

Each measurement is a program of its own, in a process of its own, and takes options of its own:
run it alone for those. Without ``--full`` all of them together take a few minutes. Figures of one
call can be compared with one another, not with those of another day or machine.

======================  ====================================================================
``start``               CPU of starting the command line
``pipeline``            CPU per fragment, frame to draft, in memory
``redaction``           leak and over-redaction rates, sentences/s, on a generated corpus
``store-commit``        CPU per record: commit, mark, acknowledge
``store-relay``         CPU per record: commit to stored acknowledgement
``sinks``               CPU per record handed over by gRPC, both services
``live``                CPU per fragment of ``steno live`` beside another build; skipped with a
                        line when STENO_BASELINE is unset
``media``               CPU per 20 ms frame of ``steno media`` beside another build, and what is
                        lost while the speech service is away; skipped in the same way
``audiohook``           CPU and memory per AudioHook call, and how soon calls are opened
``diarisation``         CPU per event and memory from recorded events, and from a live socket, to
                        stored segments; time and memory of exports to each format
``recording-audio``     CPU per hour of a recording's audio, decoded, resampled and sent; memory
``recording-words``     CPU per word of a finished transcript of an hour: read, joined to turns,
                        redacted, written in each format
``recordings-load``     a batch of transcription jobs with faults: time, requests, CPU and memory,
                        nothing lost and nothing submitted twice
``archive``             MB per CPU-second and memory of archiving a stored transcript, beside
                        another build where STENO_BASELINE names one
``archive-parse``       MB per CPU-second and memory of reading stored transcripts, by shape, and
                        of another streaming parser
``archive-store``       CPU per MB and memory of the archive's last step: hashed, written, read back
======================  ====================================================================
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent


class Measurement(NamedTuple):
    """A program with its options, usual and full, and a limit in seconds that means it hangs."""

    program: str
    usual: tuple[str, ...]
    full: tuple[str, ...]
    limit_s: float


MEASUREMENTS = {
    "start": Measurement("start.py", ("--runs", "5"), (), 60),
    "pipeline": Measurement("pipeline.py", (), ("--fragments", "2000", "--runs", "5"), 300),
    "redaction": Measurement("redaction/measure.py", ("--lines", "20000"), (), 600),
    "store-commit": Measurement("store/commit.py", ("--records", "20000"), (), 300),
    "store-relay": Measurement("store/relay.py", ("--records", "20000"), (), 300),
    "sinks": Measurement("sinks/grpc_cpu.py", ("--records", "20000"), (), 600),
    "live": Measurement("live.py", ("--runs", "1"), ("--runs", "5"), 3600),
    "media": Measurement("media.py", ("--runs", "1"), ("--runs", "5"), 3600),
    "audiohook": Measurement(
        "audiohook_load.py", ("--seconds", "10"), ("--seconds", "30", "--runs", "3"), 1800
    ),
    "diarisation": Measurement(
        "diarisation.py",
        ("--segments", "50000", "--seconds", "5"),
        ("--segments", "100000", "1000000", "--rates", "200", "1000", "--seconds", "20"),
        3600,
    ),
    "recording-audio": Measurement(
        "recording_audio.py", ("--hours", "0.1"), ("--hours", "4"), 1800
    ),
    "recording-words": Measurement("recording_words.py", (), ("--runs", "20"), 300),
    "archive": Measurement(
        "archive.py", ("--runs", "1"), ("--runs", "3", "--sizes", "50MB", "300MB", "1GB"), 3600
    ),
    "archive-parse": Measurement(
        "archive_parse.py",
        ("--megabytes", "20", "--runs", "3"),
        ("--megabytes", "100", "--runs", "7", "--blocks", "64", "128", "256", "512", "1024"),
        1800,
    ),
    "archive-store": Measurement(
        "archive_store.py", ("--mb", "100", "--runs", "1"), ("--mb", "1000"), 600
    ),
    "recordings-load": Measurement(
        "recordings_load.py", ("--jobs", "500"), ("--jobs", "5000"), 3600
    ),
}


def measured(name: str, *, full: bool) -> Iterator[str]:
    """Run one measurement; yield its lines, each JSON object with the measurement's name.

    Raises:
        subprocess.CalledProcessError, subprocess.TimeoutExpired: It failed, or hangs.
    """
    one = MEASUREMENTS[name]
    call = [sys.executable, str(FOLDER / one.program), *(one.full if full else one.usual)]
    done = subprocess.run(
        call, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True, timeout=one.limit_s, check=True
    )
    for value in values(done.stdout):
        yield value if isinstance(value, str) else json.dumps({"bench": name, **value})


def values(printed: str) -> Iterator[dict[str, object] | str]:
    """Yield the JSON objects in a program's output, over one line or several; other lines too."""
    decoder = json.JSONDecoder()
    rest = printed.lstrip()
    while rest:
        if rest[0] == "{":
            value, end = decoder.raw_decode(rest)
            yield value
        else:
            end = rest.find("\n") if "\n" in rest else len(rest)
            yield rest[:end]
        rest = rest[end:].lstrip()


def main() -> int:
    """Run what is asked for; 1 when a measurement failed, the others are run all the same."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(MEASUREMENTS), metavar="NAME")
    parser.add_argument("--full", action="store_true", help="the counts behind published figures")
    given = parser.parse_args()
    failed = 0
    for name in given.only or MEASUREMENTS:
        started = time.monotonic()
        try:
            for line in measured(name, full=given.full):
                print(line, flush=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"bench {name}: {type(error).__name__}", file=sys.stderr)
            failed = 1
        print(f"bench {name}: {time.monotonic() - started:.1f} s", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
