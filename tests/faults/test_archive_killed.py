"""`steno archive` killed in the middle of a batch: the result is that of an undisturbed run."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import uuid
from pathlib import Path

import pytest

from steno_sim.archive.settings import ArchiveSettings
from steno_sim.region import RegionSettings
from steno_sim.server import Simulator

NO_LIMIT = RegionSettings(rate_limit=0)
"""Or the platform's limit would be most of the time of a large batch."""


def ids_of(count: int) -> list[str]:
    """Return conversation ids, the same in every run."""
    return [str(uuid.uuid5(uuid.NAMESPACE_URL, f"call {n}")) for n in range(count)]


async def begun(
    folder: Path, sim: Simulator, ids: list[str], *, heard: bool
) -> asyncio.subprocess.Process:
    """Start a batch; its listings are files of each conversation.

    Args:
        heard: Somebody reads its results; else nobody may be waited for in a full pipe.
    """
    folder.mkdir(exist_ok=True)
    (folder / "ids.txt").write_text("\n".join(ids))
    env = {"PATH": os.defpath, "HOME": str(folder), "GENESYS_ENV": sim.host}
    env |= {"GENESYS_CLIENT_ID": "steno-demo", "GENESYS_CLIENT_SECRET": "steno-demo-secret"}
    env |= {"STENO_ARCHIVE_POLL_S": "0.05", "STENO_ARCHIVE_PER_MINUTE": "60000"}
    env |= {"STENO_STORE_BALLAST_MB": "0"}
    call = ["-m", "steno.cli", "archive", "--ids", str(folder / "ids.txt"), "--json"]
    call += ["--to", str(folder / "archive"), "--state-dir", str(folder / "state")]
    call += ["--out", str(folder / "{conversation}.jsonl"), "--role", "agent"]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *call,
        *("--log-level", "error"),
        env=env,
        stdout=asyncio.subprocess.PIPE if heard else asyncio.subprocess.DEVNULL,
    )


async def whole(folder: Path, sim: Simulator, ids: list[str]) -> dict[str, str]:
    """Run a batch to its end; return what became of each conversation."""
    process = await begun(folder, sim, ids, heard=True)
    out, _ = await process.communicate()
    assert process.returncode == 0
    lines = [json.loads(line) for line in out.splitlines()]
    return {line["conversation"]: line["outcome"] for line in lines if "conversation" in line}


def result_of(folder: Path) -> dict[str, object]:
    """Return objects and listings as they are, and summaries without the time of archiving."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name.startswith("state") or name == "ids.txt":
            continue
        if name.startswith("archive/manifests/"):
            manifest = json.loads(path.read_bytes())
            assert manifest["state"] == "complete"
            summary = manifest["summary"]
            del summary["archived_at"]
            summary["storage_location"] = summary["storage_location"].partition("/archive/")[2]
            found[name] = [manifest["sha256"], manifest["size"], summary]
        elif not name.startswith("archive/.uploads/"):
            found[name] = path.read_bytes()
    return found


async def killed_again_and_again(folder: Path, *, count: int, kills: int, seed: int) -> None:
    """Kill a batch at random moments, then let it end."""
    rng = random.Random(seed)
    ids = ids_of(count)
    settings = ArchiveSettings(turns=(150, 400), inline_bytes=0, order="mixed")
    async with Simulator("quiet", archive=settings, settings=NO_LIMIT) as sim:
        await whole(folder / "undisturbed", sim, ids)
        place = folder / "killed" / "archive" / "transcripts"
        struck = 0
        while struck < kills:
            before = len(list(place.glob("*"))) if place.is_dir() else 0
            if before == count:
                break
            process = await begun(folder / "killed", sim, ids, heard=False)
            most = before + max(1, (count - before) // 3)
            wanted = rng.randint(before + 1, most)
            while process.returncode is None and (
                not place.is_dir() or len(list(place.glob("*"))) < wanted
            ):
                await asyncio.sleep(0.005)
            await asyncio.sleep(rng.random() * 0.05)
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
                struck += 1
            await process.communicate()
        assert struck >= min(kills, 3)
        outcomes = await whole(folder / "killed", sim, ids)
    assert set(outcomes) == set(ids)
    assert result_of(folder / "killed") == result_of(folder / "undisturbed")


@pytest.mark.timeout(120)
async def test_a_batch_killed_in_the_middle_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Objects, manifests, summaries and listings."""
    await killed_again_and_again(tmp_path, count=40, kills=4, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_five_hundred_conversations_and_thirty_kills(tmp_path: Path) -> None:
    """The full count."""
    await killed_again_and_again(tmp_path, count=500, kills=30, seed=2)


async def test_the_comparison_finds_a_difference(tmp_path: Path) -> None:
    """Or it would prove nothing: a byte of an object, a listing, a summary."""
    async with Simulator("quiet", archive=ArchiveSettings(turns=(2, 5))) as sim:
        await whole(tmp_path / "one", sim, ids_of(1))
    before = result_of(tmp_path / "one")
    assert len(before) == 3
    for path in (tmp_path / "one").rglob("*.json*"):
        data = path.read_bytes()
        path.write_bytes(data.replace(b"turns", b"turNs").replace(b"text", b"teXt"))
        if path.read_bytes() != data:
            assert result_of(tmp_path / "one") != before
        path.write_bytes(data)
    assert result_of(tmp_path / "one") == before
