"""What both flows share: a speech service and the gateway as processes, and what they leave.

The speech service is the one of ``speech_service/``; the gateway is ``steno media`` with nothing
but its documented options. Both end with the block, whatever happens in it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER / "speech_service"))

START_S = 30.0
MASK = "[REDACTED]"


class Stack(NamedTuple):
    """Where the gateway listens, and the file its consumer writes."""

    address: str
    records: Path


@contextmanager
def running(secrets: Mapping[str, str]) -> Iterator[Stack]:
    """Start the speech service and the gateway.

    Args:
        secrets: ``STENO_MEDIA_…`` variables for the gateway.
    """
    with tempfile.TemporaryDirectory(prefix="steno-example-") as folder:
        out = Path(folder, "records.jsonl")
        service = gateway = None
        try:
            service = subprocess.Popen(  # noqa: S603  # a program of ours
                [
                    sys.executable,
                    str(FOLDER / "speech_service" / "service.py"),
                    *("--listen", "127.0.0.1:0"),
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert service.stdout is not None
            stt = f"127.0.0.1:{service.stdout.readline().split()[-1]}"
            address = f"127.0.0.1:{_free_port()}"
            command = [
                str(Path(sys.executable).with_name("steno")),
                *("media", "--listen", address, "--stt", stt),
                *("--out", str(out), "--health", "", "--log-level", "warning"),
            ]
            _say(f"speech service at {stt}")
            _say(" ".join(["steno", *command[1:]]))
            env = os.environ | {"STENO_STATE_DIR": str(Path(folder, "state"))} | dict(secrets)
            gateway = subprocess.Popen(command, env=env)  # noqa: S603  # a program of ours
            _wait(address, gateway)
            yield Stack(address, out)
        finally:
            for process in (gateway, service):
                if process is not None:
                    process.terminate()
                    process.wait(40)


def sentences(stack: Stack, wanted: Iterable[str], *, limit_s: float = 20.0) -> dict[str, str]:
    """Return the redacted text by participant, once the texts are as wanted or time is up."""
    end, whole = time.monotonic() + limit_s, sorted(wanted)
    while True:
        found = _read(stack.records)
        if sorted(found.values()) == whole or time.monotonic() > end:
            return found
        time.sleep(0.05)


def verdict(**flows: bool) -> int:
    """Say what is as it should be; the exit code."""
    for name, good in flows.items():
        _say(f"{'ok  ' if good else 'MISSING'}  {name.replace('_', ' ')}")
    return 0 if all(flows.values()) else 1


def show(record: Any) -> None:
    """Print a record or an entity as one line."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def _read(path: Path) -> dict[str, str]:
    """Return the sentences of a JSON-lines file, in order, joined by participant."""
    texts: dict[str, list[str]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        record = json.loads(line)
        if record["kind"] == "sentence":
            payload = record["payload"]
            texts.setdefault(payload["participant"], []).append(payload["text"])
    return {participant: " ".join(parts) for participant, parts in texts.items()}


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    host, _, port = address.rpartition(":")
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("steno media did not start")
