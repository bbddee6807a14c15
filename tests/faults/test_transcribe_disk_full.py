"""A full disk ends ``steno transcribe`` with its reason; with room again, all goes on."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.transcribe_rig import Rig, rig

DISK_KB = 12_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small file system; skip where that is not permitted."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["/bin/mount", "-t", "tmpfs", "-o", f"size={DISK_KB}k", "tmpfs", str(place)]
    if os.geteuid() != 0 or not Path(command[0]).exists():
        pytest.skip("no file system can be mounted here")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["/bin/umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Leave no room, and give the file that takes it."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(4096))
    return filler


@pytest.mark.timeout(300)
async def test_a_full_disk_ends_the_run_and_no_job_fails_by_it(
    tmp_path: Path, small_disk: Path
) -> None:
    """Exit code 1 with what to do about it; freed, the same call finishes: nothing is doubled."""
    trouble = {"keys": False, "words": (40, 80)}
    async with rig(tmp_path, 60, clock=40.0, trouble=trouble, state=small_disk / "state") as one:
        one.product.start()
        await one.accepted(20)
        filler = fill(small_disk)
        code = await one.product.finished()
        assert code not in (0, 130)
        assert "StorageFull" in one.product.said().splitlines()[-1]
        filler.unlink()
        assert await one.done() == 0
        (await one.verdict()).kept()
        assert await one.audit_is_sound()


@pytest.mark.timeout(300)
async def test_a_full_disk_under_the_transcripts_loses_none(
    tmp_path: Path, small_disk: Path
) -> None:
    """The files are elsewhere than the state: none is torn, those that were not written are."""
    trouble = {"keys": False, "words": (40, 80)}
    out = small_disk / "transcripts"
    out.mkdir()
    async with rig(tmp_path, 60, clock=40.0, trouble=trouble) as one:
        one.product.command = [
            part.replace(str(one.product.transcripts), str(out)) for part in one.product.command
        ]
        one.product.transcripts = out
        one.product.start()
        await one.accepted(20)
        filler = fill(small_disk)
        assert await one.product.finished() not in (0, 130)
        assert not whole_but(one, out)
        filler.unlink()
        assert await one.done() == 0
        (await one.verdict()).kept()


def whole_but(one: Rig, out: Path) -> list[str]:
    """Give the transcripts that are shorter than their first line."""
    names = {f"{asked.recording}.txt" for asked in one.asked}
    return [each.name for each in out.iterdir() if each.name in names and each.stat().st_size < 10]
