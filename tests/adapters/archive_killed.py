"""Archives one object and is killed at a step of it, as often as there are steps.

    python archive_killed.py SETTINGS FILE SIZE [EVERY]

Each step has a process of its own, forked before any thread was started. After each kill the same
work is done again, undisturbed, and what came of it is printed as a line of JSON. Settings are
those of ``ArchiveSettings``; for each step ``{n}`` in the address stands for its number.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from steno.adapters.archive_store import ArchiveSettings, open_archive
from steno.adapters.archive_store.folder import Folder, Part
from steno.errors import StenoError

SUMMARY = b'{"archived_at":"2026-03-01T10:00:00Z"}'
PIECE = 16 * 1024


class Steps:
    """Counts calls of a place, and kills the process before the one that was wanted."""

    def __init__(self, place: Any, last: int) -> None:  # whatever implements `Place`
        self.left = last
        for name in ("create", "put_new", "put_parts", "link", "delete", "size", "small", "part"):
            if hasattr(place, name):  # folders and buckets differ
                setattr(place, name, self.counted(getattr(place, name)))

    def counted(self, call: Any) -> Any:  # any method of a place
        """Return the same call, counted before and after."""

        def stepped(*arguments: Any) -> Any:
            self.step()
            found = call(*map(self.pieces, arguments))
            self.step()
            return found

        return stepped

    def pieces(self, argument: Any) -> Any:
        """Count the pieces of an upload too."""
        return self.each(argument) if hasattr(argument, "__next__") else argument

    def each(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Return the same pieces, each a step."""
        for piece in pieces:
            self.step()
            yield piece

    def step(self) -> None:
        """Die, if it is time."""
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


def main() -> None:
    """Kill at each step and tell what the rerun comes to."""
    given, size = json.loads(sys.argv[1]), int(sys.argv[2])
    every = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    step = 0
    while True:
        settings = ArchiveSettings(**{**given, "url": given["url"].replace("{n}", str(step))})
        if in_child(partial(work, settings, size, step)) != -signal.SIGKILL:
            return  # it ended before the kill: there is no such step
        in_child(partial(tell, settings, size, step))
        step += every


def in_child(call: Any) -> int:  # any call without arguments
    """Run it in a process of its own; return the exit code, negative for a signal."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            call()
            sys.stdout.flush()
            os._exit(0)
        except StenoError as error:
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def work(settings: ArchiveSettings, size: int, kill_at: int | None = None) -> Any:
    """Archive the object."""
    archive = open_archive(settings)
    if kill_at is not None:
        steps = Steps(archive._place, kill_at)
        if isinstance(archive._place, Folder):
            Part.make_durable = steps.counted(Part.make_durable)  # type: ignore[method-assign]
    writer = archive.writer(archive.item("conv-1", at_us=0))
    data = bytes(range(256)) * (PIECE // 256)
    for start in range(0, size, PIECE):
        writer.write(data[: min(PIECE, size - start)])
    return writer.finish(SUMMARY)


def tell(settings: ArchiveSettings, size: int, step: int) -> None:
    """Do it again, and print what there is then."""
    done = work(settings, size)
    archive = open_archive(settings)
    names = [one.name for one in archive._place.names("transcripts")]
    kept = [one.name for one in archive._place.names("manifests")]
    row = {
        "step": step,
        "outcome": done.outcome.value,
        "problem": archive.verify(done.manifest).problem,
        "sha256": done.manifest.sha256,
        "summary": bytes(done.manifest.summary).decode(),
        "names": names,
        "kept": [name for name in kept if not name.endswith("/.conditional")],
    }
    sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
