"""JSON lines: durable, whole lines, rotated without replacing anything."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conformance.sink_rules import Peer, SinkRules, keys, sentence
from steno.adapters.sinks.jsonl import JsonLinesSink
from steno.errors import ConfigError, SinkUnavailable
from steno.ports import Ack, Reject, Sink


def lines_of(path: Path) -> list[str]:
    return [json.loads(line)["key"] for line in path.read_text().splitlines()]


class FilePeer:
    """The file; a failure is a folder that is away for one delivery."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sink: JsonLinesSink | None = None

    async def received(self) -> list[str]:
        return lines_of(self.path)

    def fail_once(self) -> None:
        """Take the descriptor away: the next write fails, as on a vanished device."""
        assert self.sink is not None
        file = self.sink._file
        read_only = os.open(self.path, os.O_RDONLY)
        os.dup2(read_only, file._fd)  # type: ignore[attr-defined] # it is a file here
        os.close(read_only)


class TestConformance(SinkRules):
    """The rules, into a file."""

    @pytest.fixture
    async def pair(self, tmp_path: Path) -> AsyncIterator[tuple[Sink, Peer]]:
        """Give a sink and its file."""
        peer = FilePeer(tmp_path / "records.jsonl")
        peer.sink = sink = JsonLinesSink(str(peer.path))
        yield sink, peer
        await sink.close()


async def test_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """The file is made with mode 0600."""
    path = tmp_path / "out.jsonl"
    sink = JsonLinesSink(str(path))
    await sink.deliver([sentence("alpha", 1)])
    await sink.close()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", [1, 10, 200])
async def test_unfinished_last_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    """What a killed process left after the last line break goes; its record comes again."""
    path = tmp_path / "out.jsonl"
    records = [sentence("alpha", number) for number in (1, 2, 3)]
    sink = JsonLinesSink(str(path))
    await sink.deliver(records)
    await sink.close()
    os.truncate(path, path.stat().st_size - cut)
    sink = JsonLinesSink(str(path))
    assert await sink.deliver(records) == [Ack()] * 3
    await sink.close()
    assert lines_of(path) == keys(records)


async def test_full_disk_leaves_whole_lines(tmp_path: Path, file_limit: None) -> None:
    """A write that fits in part is taken back, reported as unavailable, and works later."""
    path = tmp_path / "out.jsonl"
    sink = JsonLinesSink(str(path))
    first, second = [sentence("alpha", 1)], [sentence("alpha", n) for n in range(2, 20)]
    await sink.deliver(first)
    _limit(path.stat().st_size + 100)
    with pytest.raises(SinkUnavailable):
        await sink.deliver(second)
    assert lines_of(path) == keys(first)
    _limit(resource.RLIM_INFINITY)
    assert await sink.deliver(second) == [Ack()] * len(second)
    await sink.close()
    assert lines_of(path) == keys(first + second)


@pytest.fixture
def file_limit() -> Iterator[None]:
    """Let writes beyond the file size limit fail instead of ending the process."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


def _limit(size_bytes: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))


async def test_rotation_by_size_replaces_nothing(tmp_path: Path) -> None:
    """Full files are put aside under distinct names, even within one second."""
    path = tmp_path / "out.jsonl"
    at = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
    sink = JsonLinesSink(str(path), max_bytes=1, clock=lambda: at)
    records = [sentence("alpha", number) for number in range(1, 5)]
    for record in records:
        await sink.deliver([record])
    await sink.close()
    names = ["out-20240115T103000Z.jsonl", "out-20240115T103000Z-1.jsonl",
             "out-20240115T103000Z-2.jsonl", "out.jsonl"]  # fmt: skip
    assert [lines_of(tmp_path / name)[0] for name in names] == keys(records)
    assert sorted(os.listdir(tmp_path)) == sorted(names)


async def test_rotation_by_day(tmp_path: Path) -> None:
    """A new UTC day begins a new file; within the day there is one."""
    path = tmp_path / "out.jsonl"
    now = [datetime(2024, 1, 15, 23, 59, tzinfo=UTC)]
    sink = JsonLinesSink(str(path), daily=True, clock=lambda: now[0])
    await sink.deliver([sentence("alpha", 1)])
    await sink.deliver([sentence("alpha", 2)])
    now[0] += timedelta(minutes=2)
    await sink.deliver([sentence("alpha", 3)])
    await sink.close()
    assert lines_of(path) == keys([sentence("alpha", 3)])
    assert len(lines_of(tmp_path / "out-20240116T000100Z.jsonl")) == 2


async def test_two_writers_are_refused(tmp_path: Path) -> None:
    """A second sink on the same file does not interleave; it waits for the first to go."""
    path = str(tmp_path / "out.jsonl")
    first, second = JsonLinesSink(path), JsonLinesSink(path)
    await first.deliver([sentence("alpha", 1)])
    with pytest.raises(SinkUnavailable):
        await second.deliver([sentence("alpha", 2)])
    await first.close()
    assert await second.deliver([sentence("alpha", 2)]) == [Ack()]
    await second.close()


async def test_symbolic_links_and_devices_are_refused(tmp_path: Path) -> None:
    """The file is a regular one at its own place."""
    (tmp_path / "real.jsonl").touch()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    for path in (tmp_path / "link.jsonl", Path("/dev/null"), tmp_path):
        sink = JsonLinesSink(str(path))
        with pytest.raises(SinkUnavailable):
            await sink.deliver([sentence("alpha", 1)])
        await sink.close()


async def test_a_broken_record_is_refused_alone(tmp_path: Path) -> None:
    """A payload that is not JSON is a dead letter; its neighbour is written."""
    import msgspec

    path = tmp_path / "out.jsonl"
    broken = msgspec.structs.replace(sentence("alpha", 1), payload=b"{\n")
    sink = JsonLinesSink(str(path))
    outcomes = await sink.deliver([broken, sentence("alpha", 2)])
    await sink.close()
    assert outcomes == [Reject("IntegrityError"), Ack()]
    assert lines_of(path) == keys([sentence("alpha", 2)])


def test_standard_output() -> None:
    """``-`` writes the same lines to standard output and leaves it open."""
    program = (
        "import asyncio, sys\n"
        "from conformance.sink_rules import sentence\n"
        "from steno.adapters.sinks.jsonl import JsonLinesSink\n"
        "async def main():\n"
        "    sink = JsonLinesSink('-')\n"
        "    await sink.deliver([sentence('alpha', 1)])\n"
        "    await sink.close()\n"
        "asyncio.run(main())\n"
        "print('still open')\n"
    )
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": path},
        capture_output=True,
        check=True,
        timeout=60,
    )
    line, last = done.stdout.splitlines()
    assert json.loads(line)["key"] == sentence("alpha", 1).key
    assert last == b"still open"


def test_empty_path_is_a_configuration_error() -> None:
    """A sink without a file is refused when it is made."""
    with pytest.raises(ConfigError):
        JsonLinesSink("")
