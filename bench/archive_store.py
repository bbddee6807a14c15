"""CPU and memory of archiving: hashed, written, read back, hashed again.

    python -m bench.archive_store [--mb 300] [--to WHERE] [--endpoint URL] [--runs 3]

Without ``--to`` into a temporary folder. Prints one JSON line. ``memory_mb`` is what the process
grew by while it archived; CPU is of the whole process, the store's library included.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import uuid
from pathlib import Path

from steno.adapters.archive_store import ArchiveSettings, open_archive

PIECE = 1024 * 1024


def main() -> None:
    """Measure, and take away what was written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=300)
    parser.add_argument("--to", default="")
    parser.add_argument("--endpoint", default="")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = ArchiveSettings(url=given.to or folder, endpoint=given.endpoint)
        rows = [measured(settings, given.mb) for _ in range(given.runs)]
    best = min(rows, key=lambda row: row["cpu_ms_per_mb"])
    best["memory_mb"] = max(row["memory_mb"] for row in rows)
    place = "remote" if given.to and "://" in given.to else "folder"
    print(json.dumps({"bench": "archive-store", "place": place, **best}))


def measured(settings: ArchiveSettings, mb: int) -> dict[str, float]:
    """Archive once and erase it again."""
    archive = open_archive(settings)
    conversation = f"bench-{uuid.uuid4().hex}"
    piece = _piece()
    memory, cpu, began = _memory_mb("VmRSS"), time.process_time(), time.monotonic()
    writer = archive.writer(archive.item(conversation, at_us=0))
    for _ in range(mb * 1_000_000 // PIECE):
        writer.write(piece)
    writer.finish(b"{}")
    cpu, took = time.process_time() - cpu, time.monotonic() - began
    grown = _memory_mb("VmHWM") - memory
    archive.erase(conversation)
    return {
        "mb": mb,
        "cpu_ms_per_mb": round(cpu * 1000 / mb, 2),
        "mb_per_s": round(mb / took, 1),
        "memory_mb": round(grown, 1),
    }


def _piece() -> bytes:
    """Return segments such as transcripts have."""
    row = (
        '{{"start_time":{0}.25,"end_time":{0}.75,"text":"The parcel {0} has not arrived yet.",'
        '"speaker_id":"p{1}","confidence":0.9{1}}},'
    )
    text = "".join(row.format(number, number % 3) for number in range(12_000))
    return text.encode()[:PIECE].ljust(PIECE)


def _memory_mb(name: str) -> float:
    """Return memory now (``VmRSS``, and forget the peak), or at the most since (``VmHWM``)."""
    if name == "VmRSS":
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e6


if __name__ == "__main__":
    main()
