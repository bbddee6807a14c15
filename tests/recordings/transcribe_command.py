"""``steno transcribe`` and its sisters as processes, for tests of whole commands."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

from steno.core.audit_chain import EntryLine, decode_line
from steno.errors import ObjectMissing, StorageError

LIMIT_S = 60.0
"""Only what hangs takes so long, on the busiest machine."""


class Command:
    """Runs commands with one state directory against one service."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.env = {
            **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
            "HOME": str(folder),
            "GENESYS_HOST": url,
            "GENESYS_CLIENT_ID": "id",
            "GENESYS_CLIENT_SECRET": "secret",
            "STENO_STATE_DIR": str(folder / "state"),
            "STENO_OBSERVABILITY_LISTEN": "",
            "STENO_OBSERVABILITY_LOG_LEVEL": "error",
            "STENO_TRANSCRIBE_PER_MINUTE": "60000",
            "STENO_TRANSCRIBE_POLL_FIRST_S": "0.05",
            "STENO_TRANSCRIBE_POLL_MAX_S": "0.1",
            "STENO_TRANSCRIBE_RETRY_FIRST_S": "0.02",
            "STENO_TRANSCRIBE_RETRY_MAX_S": "0.05",
            "STENO_TRANSCRIBE_SETTLE_S": "1",
        }

    async def start(self, *arguments: str, before: str = "") -> asyncio.subprocess.Process:
        """Start a command; ``before`` is code that runs in its process first."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            f"{before}\nfrom steno.cli.main import main\nmain()\n",
            *arguments,
            env=self.env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, given: str = "", before: str = "") -> tuple[int, str, str]:
        """Run a command to its end: exit code, output, notes."""
        process = await self.start(*arguments, before=before)
        try:
            async with asyncio.timeout(LIMIT_S):
                out, err = await process.communicate(given.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    def entries(self) -> list[EntryLine]:
        """Return what the audit log tells of jobs."""
        lines = map(
            decode_line, (self.folder / "state/transcription_audit.jsonl").read_bytes().splitlines()
        )
        return [line for line in lines if isinstance(line, EntryLine)]


def some_ids(count: int) -> list[str]:
    """Return ids of recordings."""
    return [str(uuid.uuid4()) for _ in range(count)]


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(LIMIT_S):
        while not _is_so(is_so):
            await asyncio.sleep(0.01)


def _is_so(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except (ObjectMissing, StorageError):  # a store that is just being made
        return False
