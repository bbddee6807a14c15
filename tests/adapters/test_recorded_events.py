"""Recorded events from real files and pipes: packed, damaged, strange, slow."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from steno.adapters.recorded_events import RecordedEvents
from steno.errors import ConfigError, StorageError
from steno.ports.recorded import Batch, Unreadable
from steno.wire.recorded_events import Form

EVENTS = [{"n": number, "text": "words " * 5} for number in range(2000)]
LINES = b"".join(json.dumps(event).encode() + b"\n" for event in EVENTS)


def batches(reader: RecordedEvents) -> list[Batch]:
    """Return everything a reader gives, and close it."""
    found = []
    while (batch := reader.read()) is not None:
        found.append(batch)
    reader.close()
    return found


def read(*paths: Path, block_bytes: int = 5000, limit: int = 1 << 20) -> list[dict[str, object]]:
    """Return the events in files, read in small blocks."""
    reader = RecordedEvents(list(paths), block_bytes=block_bytes, max_message_bytes=limit)
    return [json.loads(one) for batch in batches(reader) for one in batch.messages if one.strip()]


def unreadable(path: Path, *, limit: int = 1 << 20) -> list[Unreadable]:
    """Return what in a file is no message."""
    reader = RecordedEvents([path], block_bytes=5000, max_message_bytes=limit)
    return [note for batch in batches(reader) for note in batch.unreadable]


def written(folder: Path, data: bytes, name: str = "events") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        LINES,
        LINES.rstrip(),
        LINES.replace(b"\n", b"\r\n"),
        LINES.replace(b"\n", b"\n\n"),
        b"\xef\xbb\xbf" + LINES,
        json.dumps(EVENTS).encode(),
        b"\xef\xbb\xbf" + json.dumps(EVENTS, indent=2).encode(),
        gzip.compress(LINES),
        gzip.compress(LINES[:30_000]) + gzip.compress(LINES[30_000:]) + bytes(512),
    ],
    ids=["lines", "no-last", "crlf", "blank", "bom", "array", "pretty", "gzip", "members"],
)
def test_the_same_events_are_read_whatever_they_are_in(tmp_path: Path, data: bytes) -> None:
    """Packing, line ends, a byte order mark and the form make no difference."""
    path = written(tmp_path, data)
    assert read(path) == EVENTS
    assert not unreadable(path)


def test_an_empty_file_has_no_events(tmp_path: Path) -> None:
    """Nor have a packed empty one and one of blank lines."""
    for data in (b"", b"\xef\xbb\xbf", gzip.compress(b""), b"\n \n\r\n", b"[]"):
        path = written(tmp_path, data)
        assert read(path) == []
        assert not unreadable(path)


def test_a_file_may_be_one_event(tmp_path: Path) -> None:
    """Spread over lines or not."""
    assert read(written(tmp_path, json.dumps(EVENTS[0]).encode())) == EVENTS[:1]
    assert read(written(tmp_path, json.dumps(EVENTS[0], indent=2).encode())) == EVENTS[:1]


def test_a_packed_file_that_ends_in_the_middle_gives_what_is_there(tmp_path: Path) -> None:
    """And says that it is not all."""
    packed = gzip.compress(LINES)
    path = written(tmp_path, packed[: len(packed) // 2])
    reader = RecordedEvents([path], block_bytes=1000)
    lines = b"\n".join(one for batch in batches(reader) for one in batch.messages)
    assert len(lines) > 1000
    assert LINES.startswith(lines)
    (note,) = unreadable(path)
    assert (note.cause, note.offset) == ("truncated", len(lines))


def test_a_packed_file_that_is_damaged_gives_what_is_before(tmp_path: Path) -> None:
    """A wrong check sum counts, too: then nothing of the last block can be trusted, but is told."""
    packed = gzip.compress(os.urandom(50_000).hex().encode() + b"\n" + LINES)
    middle = len(packed) // 4
    broken = packed[:middle] + bytes(200) + packed[middle + 200 :]
    sums = packed[:-8] + bytes(8)
    for data in (broken, sums, gzip.compress(LINES) + b"rubbish at the end"):
        assert [note.cause for note in unreadable(written(tmp_path, data))] == ["damaged"]


def test_a_packed_bomb_is_unpacked_in_bounded_pieces(tmp_path: Path) -> None:
    """What a block unpacks to is never in memory at once."""
    path = written(tmp_path, gzip.compress(b"x" * 50_000_000))
    reader = RecordedEvents([path], max_message_bytes=10_000, block_bytes=10_000)
    import tracemalloc

    tracemalloc.start()
    found = batches(reader)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [note.size_bytes for batch in found for note in batch.unreadable] == [50_000_000]
    assert peak < 1_000_000


def test_a_giant_line_is_passed_over(tmp_path: Path) -> None:
    """Its line and place are told."""
    data = LINES[:500] + b"\n" + b'{"text":"' + b"x" * 100_000 + b'"}\n' + LINES
    path = written(tmp_path, data)
    (note,) = unreadable(path, limit=2000)
    assert (note.cause, note.offset) == ("oversize", 501)
    assert note.line == data.count(b"\n", 0, 501) + 1
    assert note.size_bytes == 100_011


def test_deep_nesting_is_no_matter_of_reading(tmp_path: Path) -> None:
    """It comes out as a message; whether it means anything is the decoder's question."""
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    reader = RecordedEvents([written(tmp_path, b"[" + deep + b"]")])
    assert [one for batch in batches(reader) for one in batch.messages] == [deep]


def test_places_name_lines_across_blocks(tmp_path: Path) -> None:
    """Line and offset of any message are right wherever a block begins."""
    path = written(tmp_path, LINES)
    reader = RecordedEvents([path], block_bytes=777)
    number = 0
    for batch in batches(reader):
        for index, message in enumerate(batch.messages):
            number += 1
            line, offset = batch.place(index)
            assert line == number
            assert LINES[offset : offset + len(message)] == message


def test_progress_counts_stored_bytes_of_all_inputs(tmp_path: Path) -> None:
    """It ends at the total, and never goes back."""
    paths = [written(tmp_path, LINES, "a"), written(tmp_path, gzip.compress(LINES), "b")]
    reader = RecordedEvents(list(paths), block_bytes=5000)
    assert reader.total_bytes == sum(path.stat().st_size for path in paths)
    found = batches(reader)
    done = [batch.done_bytes for batch in found]
    assert done == sorted(done)
    assert done[-1] == reader.total_bytes
    assert [batch.file for batch in found] == sorted(batch.file for batch in found)
    assert {batch.file for batch in found} == {1, 2}


@pytest.mark.parametrize(
    ("magic", "name"),
    [(b"\x28\xb5\x2f\xfd", "zstd"), (b"PK\x03\x04", "zip"), (b"\xff\xfe{\x00", "UTF-16")],
)
def test_other_packings_are_named_and_refused(tmp_path: Path, magic: bytes, name: str) -> None:
    """Clearly, and before anything is read as if it were text."""
    reader = RecordedEvents([written(tmp_path, magic + bytes(100))])
    with pytest.raises(ConfigError, match=name):
        reader.read()
    reader.close()


def test_what_cannot_be_opened_is_told_at_once(tmp_path: Path) -> None:
    """The number of the input is named; nothing is left open."""
    good = written(tmp_path, LINES)
    before = len(os.listdir("/proc/self/fd"))
    for path, words in ((tmp_path / "missing", "no such file"), (tmp_path, "folder")):
        with pytest.raises(ConfigError, match=f"{words}.*file=2"):
            RecordedEvents([good, path])
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_input_that_fails_while_it_is_read_is_an_error_of_storage() -> None:
    """A process's memory is such a file."""
    reader = RecordedEvents([Path("/proc/self/mem")])
    with pytest.raises(StorageError, match="file=1"):
        reader.read()
    reader.close()


def test_a_form_may_be_given(tmp_path: Path) -> None:
    """Lines that look like the beginning of one object are taken as lines."""
    path = written(tmp_path, b'{\n"a":1\n}\n')
    reader = RecordedEvents([path], form=Form.LINES)
    assert [one for batch in batches(reader) for one in batch.messages] == [b"{", b'"a":1', b"}"]


def test_standard_input_is_read_as_it_is_written() -> None:
    """A pipe, plain or packed: each piece is given when it comes."""
    code = (
        "from steno.adapters.recorded_events import RecordedEvents\n"
        "reader = RecordedEvents([None])\n"
        "assert reader.total_bytes is None\n"
        "while (batch := reader.read()) is not None:\n"
        "    for one in batch.messages:\n"
        "        print(one.decode(), flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for number in range(3):
            child.stdin.write(b'{"n":%d}\n' % number)
            child.stdin.flush()
            assert child.stdout.readline() == b'{"n":%d}\n' % number
        child.stdin.close()
        assert child.wait(20) == 0
    packed = subprocess.run(
        [sys.executable, "-c", code],
        input=gzip.compress(LINES),
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert packed.stdout == LINES


def test_a_read_that_waits_for_a_pipe_ends_when_the_reader_is_closed(tmp_path: Path) -> None:
    """A thread that sits in it could not be stopped otherwise."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = RecordedEvents([path])
    found: list[Batch | None] = []
    thread = threading.Thread(target=lambda: found.append(reader.read()))
    thread.start()
    writer = os.open(path, os.O_WRONLY)
    os.write(writer, b'{"a":')
    reader.close()
    thread.join(10)
    os.close(writer)
    assert not thread.is_alive()
    assert found == [None]
    assert reader.read() is None
