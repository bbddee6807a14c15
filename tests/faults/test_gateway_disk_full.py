"""A full disk: said so, nothing crashes, the source is held back, and then all goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faults.gateway_oracle import Witness
from faults.gateway_rig import GATEWAY, load, rig

LAUNCHER = str(Path(__file__).with_name("gateway_full_disk.py"))
BIG_KB = 40_000

Switch = Callable[[bool], None]


def mounted(folder: Path) -> bool:
    """Tell whether a small file system could be mounted there."""
    command = ["/bin/mount", "-t", "tmpfs", "-o", f"size={BIG_KB}k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or not Path(command[0]).exists():
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def small_disk(folder: Path) -> Iterator[tuple[Path, tuple[str, ...], Switch]]:
    """Give a state directory, what to run, and what fills and frees the disk under it.

    A real file system where one can be mounted, else SQLite's own file layer refuses.
    """
    place = folder / "disk"
    place.mkdir()
    if not mounted(place):
        flag = folder / "full.flag"
        command = (sys.executable, LAUNCHER, str(flag), "live")
        yield folder / "state", command, lambda full: flag.touch() if full else flag.unlink()
        return
    try:
        yield place / "state", GATEWAY, lambda full: _fill(place / "filler", full)
    finally:
        subprocess.run(["/bin/umount", "-l", str(place)], check=True)


def _fill(path: Path, full: bool) -> None:
    if not full:
        path.unlink()
        return
    with path.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(4096))


@pytest.mark.timeout(100)
@pytest.mark.parametrize("kind", ["mounted", "refused"])
async def test_a_full_disk_is_waited_out(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not ready, with the reason; the socket is no longer read; freed, everything arrives."""
    if kind == "refused":
        monkeypatch.setattr(sys.modules[__name__], "mounted", lambda folder: False)
    settings = {"STENO_STORE_BALLAST_MB": "1"}
    with small_disk(tmp_path) as (state, command, switch):
        async with rig(
            tmp_path,
            load(rate=1500, final_every=1),
            settings=settings,
            state=state,
            command=command,
        ) as one:
            witness = Witness(one.sim.world)
            await one.heard(200)
            switch(True)
            await one.gateway.event("spine.commit_failed")
            await not_ready(one.gateway.ready)
            taken = await held_back(one.gateway.metric)
            assert len(witness.sent) > taken, "the simulator is still sending"
            grown_kb = one.gateway.rss_kb()
            switch(False)
            while not (await one.gateway.ready())[0]:
                await asyncio.sleep(0.1)
            await one.heard(500, limit_s=30)
            assert one.gateway.running
            assert one.gateway.rss_kb() < grown_kb + 60_000
            await one.drained()
            verdict = one.verdict(witness)
    verdict.kept()
    assert not verdict.in_gap
    assert not verdict.in_window


async def not_ready(ready: Callable[[], object]) -> None:
    """Wait until the page says why it is not ready."""
    while True:
        is_ready, components = await ready()  # type: ignore[misc]
        if not is_ready and components["store"]["reason"] == "disk full":
            return
        await asyncio.sleep(0.1)


async def held_back(metric: Callable[[str], object]) -> float:
    """Wait until no more fragments are taken in, and give how many were."""
    before = -1.0
    while True:
        taken: float = await metric("steno_fragments_total")  # type: ignore[misc]
        if taken == before:
            return taken
        before = taken
        await asyncio.sleep(2.2)  # the counter is brought up to date each second
