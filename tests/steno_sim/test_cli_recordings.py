"""``steno-sim --recordings`` and ``steno-sim webhooks`` as other processes use them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path

import aiohttp
import pytest
from typer.testing import CliRunner

from conformance.sim_peers import Peer
from steno_sim.cli import app

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Address:
    """Where a simulator in another process listens."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ws_url = url.replace("http", "ws")


async def start(*options: str, **variables: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "steno_sim.cli",
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | variables,
    )


async def found(process: asyncio.subprocess.Process, pattern: str) -> str:
    assert process.stderr is not None
    async with asyncio.timeout(20):
        while line := (await process.stderr.readline()).decode():
            match = re.search(pattern, line)
            if match:
                return match[1]
    raise AssertionError("the command ended")


async def end(process: asyncio.subprocess.Process) -> str:
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_recordings_are_printed_and_can_be_transcribed() -> None:
    """Ids on standard output, then jobs as they were set; strangers are 404."""
    process = await start(
        *("--listen", "127.0.0.1:0", "--scenario", "quiet", "--recordings", "3"),
        *("--jobs", "only_known=true", "--jobs", "queued_s=0", "--jobs", "processing_s=0"),
        *("--rate-limit", "77", "--json"),
    )
    try:
        host = await found(process, r"listens on (\S+)")
        assert process.stdout is not None
        async with asyncio.timeout(20):
            ids = [(await process.stdout.readline()).decode().strip() for _ in range(3)]
        async with aiohttp.ClientSession() as session:
            client = Peer(Address(f"http://{host}"), session)
            await client.sign_in()
            path = "/api/v2/recordings/transcripts"
            jobs = [await client.call("POST", path, json={"recordingId": one}) for one in ids]
            done = await client.call("GET", f"{path}/{jobs[0].json['id']}")
            strange = await client.call("GET", f"/api/v2/recordings/{'0' * 8}{ids[0][8:]}")
        stats = json.loads(await end(process))
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert done.json["status"] == "completed"
    assert done.headers["inin-ratelimit-allowed"] == "77"
    assert strange.status == 404
    assert stats["regions"]["primary"]["jobs"]["accepted"] == 3


async def test_webhooks_are_received_checked_and_written_down(tmp_path: Path) -> None:
    """Answers by the script, a line for each delivery, and counts at the end."""
    out = tmp_path / "out.jsonl"
    process = await start(
        *("webhooks", "--listen", "127.0.0.1:0", "--out", str(out), "--fail", "503,200"),
        *("--secret-env", "HOOK", "--json"),
        HOOK=SECRET,
    )
    try:
        url = await found(process, r"received at (\S+)")
        async with aiohttp.ClientSession() as session:
            statuses = []
            for _ in range(2):
                async with session.post(url, data=b"{}", headers={"webhook-id": "m"}) as response:
                    statuses.append(response.status)
        counts = json.loads(await end(process))
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert statuses == [503, 200]
    assert len(out.read_text().splitlines()) == 2
    assert (counts["deliveries"], counts["accepted"]) == (2, 1)
    assert counts["signatures"] == {"unsigned": 2}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--jobs", "failed=2"], "failed"),
        (["--media", "layouts=round"], "layouts"),
        (["webhooks", "--fail", "200,sometimes"], "step 2"),
        (["webhooks", "--secret-env", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE"),
        (["webhooks", "--listen", "9090"], "--listen"),
    ],
)
def test_wrong_options_are_refused_with_exit_code_2(options: list[str], named: str) -> None:
    """The message names the setting, the step, or the variable."""
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 2
    assert named in result.stderr
