"""AudioHook at real time: what a call costs ``steno media``, and how soon it is opened.

Stereo PCMU in 200 ms frames, each call signed, decoded, split and passed on over gRPC to a speech
service that counts. The measured process has a processor of its own (the last one), the tools
have the others.

    python -m bench.audiohook_load [--calls 200 500] [--seconds 20] [--command TEMPLATE]

Two cases: ``audio`` alone, which is what the target of CPU is about, and ``sentences``, where each
channel has one every 2 s that is stored, redacted and given back as an entity.

``cpu_ratio``         the next one over its target
``cpu_s_per_call_s``  CPU seconds of the server, user and system, in a second of one call
``rss_kb_per_call``   growth of its resident memory while they all talk, over their number
``opened_p99_ms``     from ``open`` sent to ``opened`` read, 200 calls opened a second
``frames_lost``       20 ms of one channel each, sent and never seen at the speech service

The last includes the reading process's own waiting; ``late_p99_ms`` says how late that was.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

FOLDER = Path(__file__).resolve().parent
STENO = str(Path(sys.executable).with_name("steno"))
COMMAND = f"{STENO} media --listen {{listen}} --stt {{grpc}}"
KEY, SECRET = "YmVuY2gta2V5LTAwMDE", base64.b64encode(bytes(range(32))).decode()
TICKS = os.sysconf("SC_CLK_TCK")
CPU_TARGET, OPENED_TARGET_MS = 0.0004, 50.0
NEVER = 1_000_000
CASES = {"audio": NEVER, "sentences": 10}
"""Chunks of a channel, 200 ms each, for one result."""
FRAMES_OF_ONE = 10 * 2
"""20 ms frames of one channel in a 200 ms frame of two."""


class Pins(NamedTuple):
    """Processors of the measured process, and of everything else."""

    measured: set[int]
    tools: set[int]


def pins() -> Pins:
    """Give the measured process the last processor, the tools the rest."""
    have = sorted(os.sched_getaffinity(0))
    return Pins({have[-1]}, set(have[:-1]) or {have[-1]})


def started(command: list[str], on: set[int], **options: Any) -> subprocess.Popen[str]:
    """Start a program on some processors."""
    process = subprocess.Popen(command, text=True, **options)
    os.sched_setaffinity(process.pid, on)
    return process


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_port(port: int, process: subprocess.Popen[str], limit_s: float = 30.0) -> None:
    """Wait until somebody listens.

    Raises:
        RuntimeError: Nobody does within the limit, or the process has ended.
    """
    end = time.monotonic() + limit_s
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"{Path(process.args[0]).name} does not listen")  # type: ignore[index,arg-type]  # a list


class Cpu(NamedTuple):
    """CPU seconds of a process with all its threads."""

    user: float
    system: float

    @classmethod
    def of(cls, pid: int) -> Cpu:
        """Return what a process has used so far."""
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        user, system, user_children, system_children = (
            int(field) / TICKS for field in fields[11:15]
        )
        return cls(user + user_children, system + system_children)

    def since(self, before: Cpu) -> Cpu:
        """Return the difference."""
        return Cpu(self.user - before.user, self.system - before.system)


def rss_kb(pid: int) -> int:
    """Return the resident memory of a process, kB."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])


def wait_line(out: IO[str], wanted: str) -> None:
    """Read lines until the wanted one.

    Raises:
        RuntimeError: It does not come.
    """
    for line in out:
        if line.strip() == wanted:
            return
    raise RuntimeError(f"the load ended before {wanted!r}")


def last_json(text: str) -> dict[str, Any]:
    """Return the last JSON line."""
    return dict(json.loads([line for line in text.splitlines() if line.startswith("{")][-1]))


def ended(process: subprocess.Popen[str], limit_s: float = 45.0) -> str:
    """Ask a process to end and return what it printed."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        out, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
    return out or ""


def sink_command(binaries: Path) -> list[str]:
    """Return the neutral sink where it is built, else the one beside this file."""
    built = binaries / "sink"
    return [str(built)] if built.exists() else [sys.executable, str(FOLDER / "audio_sink.py")]


def measure(calls: int, result_every: int, given: argparse.Namespace) -> dict[str, Any]:
    """Play the load once and return the figures."""
    on, grpc_port, port = pins(), free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="audiohook-load-") as folder:
        secret = Path(folder, "secret")
        secret.touch(mode=0o600)
        secret.write_text(SECRET)
        env = os.environ | {
            "STENO_STATE_DIR": str(Path(folder, "state")),
            "STENO_MEDIA_AUDIOHOOK_KEYS": json.dumps({KEY: SECRET}),
        }
        address = f"127.0.0.1:{grpc_port}"
        command = given.command.format(listen=f"127.0.0.1:{port}", grpc=address)
        log = open(given.keep, "ab") if given.keep else subprocess.DEVNULL  # noqa: SIM115  # for a child
        sink = started(
            [
                *sink_command(given.bin),
                *("-listen", address, "-result-every", str(result_every)),
            ],
            on.tools,
            stdout=subprocess.PIPE,
        )
        server = load = None
        try:
            wait_port(grpc_port, sink)
            server = started(
                shlex.split(command), on.measured, env=env, stdout=subprocess.DEVNULL, stderr=log
            )
            wait_port(port, server)
            idle_kb = rss_kb(server.pid)
            load = started(
                [
                    *(sys.executable, str(FOLDER / "audiohook_caller.py"), "--port", str(port)),
                    *("--key", KEY, "--secret-file", str(secret), "--calls", str(calls)),
                    *("--seconds", str(given.seconds), "--open-rate", str(given.open_rate)),
                ],
                on.tools,
                stdout=subprocess.PIPE,
            )
            assert load.stdout is not None
            wait_line(load.stdout, "steady")
            before, began = Cpu.of(server.pid), time.monotonic()
            wait_line(load.stdout, "sent")
            used, wall = Cpu.of(server.pid).since(before), time.monotonic() - began
            grown_kb = rss_kb(server.pid) - idle_kb
            row = last_json(load.stdout.read())
            ended(server)
            seen = last_json(ended(sink))
        finally:
            for process in (load, server, sink):
                if process is not None:
                    ended(process)
    spent = used.user + used.system
    return {
        "calls": calls,
        "cpu_s_per_call_s": spent / wall / max(1, row["opened"]),
        "server_cores": spent / wall,
        "system_share": used.system / spent,
        "rss_kb_per_call": grown_kb / max(1, row["opened"]),
        "idle_rss_mb": idle_kb / 1024,
        **row,
        "frames_lost": row["frames"] * FRAMES_OF_ONE - seen["audio_frames"],
        "chunks": seen["chunks"],
    }


def middle(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of some runs; what is no number is the last run's."""
    out = {}
    for key, value in rows[-1].items():
        is_number = isinstance(value, int | float)
        out[key] = statistics.median(row[key] for row in rows) if is_number else value
    return out


def judged(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a row is held against; its CPU only where no sentences cost any."""
    ratio = row["cpu_s_per_call_s"] / CPU_TARGET
    is_quick = row.get("opened_p99_ms", float("inf")) <= OPENED_TARGET_MS
    is_whole = row["frames_lost"] <= 0 and not row["refused"]
    is_cheap = ratio <= 1 or row["result_every"] < NEVER // 10
    return {
        "cpu_ratio": round(ratio, 2),
        "target_cpu_s_per_call_s": CPU_TARGET,
        "target_opened_p99_ms": OPENED_TARGET_MS,
        "met": is_cheap and is_quick and is_whole,
    }


def main() -> None:
    """Print a JSON line for each case and number of calls, and a table on standard error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, nargs="+", default=[200, 500])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--open-rate", type=float, default=200.0)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument(
        "--result-every", type=int, help="instead of cases: chunks of a channel for one result"
    )
    parser.add_argument("--command", default=COMMAND, help="{listen} and {grpc} are put in")
    parser.add_argument("--keep", help="append the server's log to this file")
    binaries = Path(os.environ.get("GOBASE_BIN", "/tmp/gobase/bin"))
    parser.add_argument("--bin", type=Path, default=binaries, help="folder of the neutral sink")
    given = parser.parse_args()
    cases = {name: CASES[name] for name in given.cases}
    if given.result_every is not None:
        cases = {f"result-every-{given.result_every}": given.result_every}
    table = [("case", "calls", "CPU s/call s", "kB/call", "opened p50/p99", "pong p99", "lost")]
    for calls, (case, every) in itertools.product(given.calls, cases.items()):
        row = middle([measure(calls, every, given) for _ in range(given.runs)])
        row = {"case": case, "result_every": every, **row}
        row = {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}
        row |= judged(row)
        print(json.dumps(row), flush=True)
        table.append(
            (
                case,
                str(calls),
                f"{row['cpu_s_per_call_s']:.6f}",
                f"{row['rss_kb_per_call']:.0f}",
                f"{row.get('opened_p50_ms')}/{row.get('opened_p99_ms')}",
                f"{row.get('pong_p99_ms')}",
                f"{row['frames_lost']:g}",
            )
        )
    for line in table:
        print("".join(cell.ljust(18) for cell in line), file=sys.stderr)


if __name__ == "__main__":
    main()
