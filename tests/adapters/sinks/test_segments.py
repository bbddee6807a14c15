"""The continuous export: appended, durable, whole after a kill."""

from __future__ import annotations

import asyncio
import csv
import fcntl
import io
import json
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from urllib.parse import unquote

import msgspec
import pytest

from conformance.sink_rules import Peer, SinkRules, keys, segment, sentence
from conformance.subtitle_readers import read_vtt
from steno.adapters.sinks.segments import SegmentLinesSink
from steno.core.records import Kind, Record
from steno.diarisation.exports import Format, follow_form
from steno.errors import ConfigError, SinkUnavailable
from steno.ports import Ack, Outcome, Reject, Sink

APPENDED = [Format.JSONL, Format.CSV, Format.VTT]


def sink_of(
    path: Path | str, form: Format, *, one_conversation: bool = True, open_files: int = 64
) -> SegmentLinesSink:
    follow = follow_form(form, min_confidence=0.85)
    assert follow is not None
    return SegmentLinesSink(
        str(path), form=follow, one_conversation=one_conversation, open_files=open_files
    )


def written(path: Path, form: Format) -> list[str]:
    """Return ``key.revision`` of each piece of a file, by an independent reader."""
    data = path.read_bytes()
    if form is Format.VTT:
        return [cue.identifier for cue in read_vtt(data)]
    if form is Format.CSV:
        rows = csv.DictReader(io.StringIO(data.decode(), newline=""))
        return [f"{row['key']}.{row['revision']}" for row in rows]
    assert data.endswith(b"\n") or not data
    lines = map(json.loads, data.splitlines())
    return [f"{line['key']}.{line['revision']}" for line in lines]


def names_of(records: Sequence[Record]) -> list[str]:
    return [f"{record.key}.{record.revision}" for record in records]


class FilePeer:
    """One file; a failure is a descriptor that cannot be written to."""

    def __init__(self, path: Path, form: Format) -> None:
        self.path = path
        self.form = form
        self.sink = sink_of(path, form)

    async def received(self) -> list[str]:
        return [name.rpartition(".")[0] for name in written(self.path, self.form)]

    def fail_once(self) -> None:
        [file] = self.sink._written._open.values()
        read_only = os.open(self.path, os.O_RDONLY)
        os.dup2(read_only, file._fd)
        os.close(read_only)


class FolderPeer:
    """A file for each conversation; a failure is a file that somebody else holds for a while."""

    def __init__(self, folder: Path, form: Format) -> None:
        self.folder = folder
        self.form = form
        self.sink = sink_of(folder / "{conversation}.out", form, one_conversation=False)

    async def received(self) -> list[str]:
        found = [written(path, self.form) for path in sorted(self.folder.iterdir())]
        return [name.rpartition(".")[0] for one in found for name in one]

    def fail_once(self) -> None:
        held = os.open(self.folder / "alpha.out", os.O_RDWR | os.O_CREAT)
        fcntl.flock(held, fcntl.LOCK_EX)
        asyncio.get_running_loop().call_later(0.1, os.close, held)


@pytest.mark.parametrize("form", [Format.JSONL, Format.CSV])
class TestOneFile(SinkRules):
    """The rules, into one file."""

    @pytest.fixture
    async def pair(self, tmp_path: Path, form: Format) -> AsyncIterator[tuple[Sink, Peer]]:
        """Give a sink and its file."""
        peer = FilePeer(tmp_path / "calls.out", form)
        yield peer.sink, peer
        await peer.sink.close()


@pytest.mark.parametrize("form", APPENDED)
class TestFileForEach(SinkRules):
    """The rules, into a file for each conversation."""

    @pytest.fixture
    async def pair(self, tmp_path: Path, form: Format) -> AsyncIterator[tuple[Sink, Peer]]:
        """Give a sink and its folder."""
        peer = FolderPeer(tmp_path, form)
        yield peer.sink, peer
        await peer.sink.close()


async def deliver(path: Path | str, form: Format, records: Sequence[Record]) -> list[Outcome]:
    """Deliver as a process does that begins, and ends."""
    sink = sink_of(path, form)
    outcomes = list(await sink.deliver(records))
    await sink.close()
    return outcomes


@pytest.mark.parametrize("form", APPENDED)
async def test_restart_at_any_byte_gives_each_once(tmp_path: Path, form: Format) -> None:
    """Whatever a kill left of the last pieces and the header, redelivery mends it."""
    path = tmp_path / "calls.out"
    records = [segment("alpha", number, text='one\r\ntwo, "three"') for number in (1, 2, 3)]
    await deliver(path, form, records)
    whole = path.read_bytes()
    near_the_ends = [*range(12), *range(len(whole) - 4, len(whole))]
    for size in (*near_the_ends, *range(12, len(whole), 23)):
        path.write_bytes(whole[:size])
        assert await deliver(path, form, records) == [Ack()] * 3
        assert path.read_bytes() == whole
    assert written(path, form) == names_of(records)


@pytest.mark.parametrize("form", APPENDED)
async def test_header_is_written_once(tmp_path: Path, form: Format) -> None:
    """Restarts add no second one; the file is its owner's."""
    path = tmp_path / "calls.out"
    for number in (1, 2, 3):
        await deliver(path, form, [segment("alpha", number)])
    follow = follow_form(form, min_confidence=0)
    assert follow is not None
    if follow.header:
        assert path.read_bytes().count(follow.header) == 1
    assert len(written(path, form)) == 3
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("form", APPENDED)
async def test_low_confidence_is_acknowledged_and_left_out(tmp_path: Path, form: Format) -> None:
    """It does not meet the criteria; that is no reason to deliver it again."""
    records = [segment("alpha", 1, confidence=0.84), segment("alpha", 2, confidence=0.85)]
    assert await deliver(tmp_path / "calls.out", form, records) == [Ack(), Ack()]
    assert written(tmp_path / "calls.out", form) == names_of(records[1:])


@pytest.mark.parametrize("form", [Format.JSONL, Format.CSV])
async def test_revisions_are_appended(tmp_path: Path, form: Format) -> None:
    """Each with its number, also when only its times changed."""
    records = [segment("alpha", 1, revision=revision) for revision in (0, 1, 2)]
    await deliver(tmp_path / "calls.out", form, records)
    assert written(tmp_path / "calls.out", form) == names_of(records)


@pytest.mark.parametrize("restart", [False, True])
async def test_subtitles_show_a_revision_only_if_it_says_else(
    tmp_path: Path, restart: bool
) -> None:
    """The same words are not shown twice, over a restart neither; other words are a new cue."""
    path = tmp_path / "call.vtt"
    texts = ["one", "one", "two", "two", "one"]
    records = [segment("alpha", 1, text=text, revision=n) for n, text in enumerate(texts)]
    if restart:
        for record in records:
            await deliver(path, Format.VTT, [record])
    else:
        await deliver(path, Format.VTT, records)
    assert [cue.text for cue in read_vtt(path.read_bytes())] == ["one", "two", "one"]


async def test_bounded_open_files(tmp_path: Path) -> None:
    """More conversations than files may be open: each file is whole, and few are held."""
    sink = sink_of(
        tmp_path / "{conversation}" / "call.csv", Format.CSV, one_conversation=False, open_files=3
    )
    before = len(os.listdir("/proc/self/fd"))
    names = [f"call:{number}" for number in range(10)]
    for number in (1, 2):
        for name in names:
            assert await sink.deliver([segment(name, number)]) == [Ack()]
            assert len(os.listdir("/proc/self/fd")) <= before + 3
    await sink.close()
    assert sorted(unquote(name) for name in os.listdir(tmp_path)) == names
    for name in names:
        path = tmp_path / name.replace(":", "%3A") / "call.csv"
        assert written(path, Format.CSV) == names_of([segment(name, 1), segment(name, 2)])


async def test_a_broken_record_is_refused_alone(tmp_path: Path) -> None:
    """What is no segment, or of no acceptable conversation, is a dead letter; others pass."""
    bad_id = msgspec.structs.replace(segment("alpha", 1), conversation="../alpha")
    sink = sink_of(tmp_path / "{conversation}.jsonl", Format.JSONL)
    outcomes = await sink.deliver([bad_id, sentence("alpha", 2), segment("alpha", 3)])
    await sink.close()
    assert outcomes == [Reject("IntegrityError"), Reject("IntegrityError"), Ack()]
    assert os.listdir(tmp_path) == ["alpha.jsonl"]


async def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """A file that begins otherwise, a link, a pipe and a folder are not appended to."""
    path = tmp_path / "calls.csv"
    path.write_bytes(b"a,b\r\n1,2\r\n")
    (tmp_path / "link.csv").symlink_to(path)
    os.mkfifo(tmp_path / "pipe.csv")
    for place in (path, tmp_path / "link.csv", tmp_path / "pipe.csv", tmp_path):
        sink = sink_of(place, Format.CSV)
        with pytest.raises(SinkUnavailable):
            await sink.deliver([segment("alpha", 1)])
        await sink.close()
    assert path.read_bytes() == b"a,b\r\n1,2\r\n"


async def test_following_goes_on_after_a_whole_export(tmp_path: Path) -> None:
    """A file that an export has written is appended to, without what it holds already."""
    path = tmp_path / "calls.jsonl"
    records = [segment("alpha", number) for number in (1, 2)]
    await deliver(path, Format.JSONL, records)
    await deliver(path, Format.JSONL, [*records, segment("alpha", 3)])
    assert written(path, Format.JSONL) == names_of([*records, segment("alpha", 3)])


@pytest.mark.parametrize("form", APPENDED)
async def test_a_file_that_was_moved_or_removed_is_begun_again(
    tmp_path: Path, form: Format
) -> None:
    """What is appended is where its readers look, and nothing of it in what nobody sees."""
    path, aside = tmp_path / "calls", tmp_path / "aside"
    records = [segment("alpha", number) for number in (1, 2, 3)]
    sink = sink_of(path, form)
    await sink.deliver(records[:1])
    path.rename(aside)
    await sink.deliver(records[:2])
    assert written(aside, form) == names_of(records[:1])
    assert written(path, form) == names_of(records[1:2])
    path.unlink()
    await sink.deliver(records[2:])
    await sink.close()
    assert written(path, form) == names_of(records[2:])


async def test_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """``-`` has the header once and then the pieces as they come."""
    sink = sink_of("-", Format.CSV)
    await sink.deliver([segment("alpha", 1)])
    await sink.deliver([segment("alpha", 1), segment("alpha", 2)])
    await sink.close()
    header, *rows = capfdbinary.readouterr().out.split(b"\r\n")[:-1]
    assert header.startswith(b"conversation_id,")
    assert len(rows) == 2


def test_what_cannot_work_is_a_configuration_error() -> None:
    """No name; or subtitles of several conversations in one file."""
    for path in ("", "a\0b"):
        with pytest.raises(ConfigError):
            sink_of(path, Format.JSONL)
    with pytest.raises(ConfigError, match=r"\{conversation\}"):
        sink_of("calls.vtt", Format.VTT, one_conversation=False)


async def test_segments_are_all_it_takes(tmp_path: Path) -> None:
    """Other kinds are unwanted, not written; one file takes several conversations at once."""
    sink = sink_of(tmp_path / "calls.jsonl", Format.JSONL)
    assert sink.kinds == {Kind.SEGMENT}
    assert not sink.shape.one_conversation
    await sink.deliver([segment("alpha", 1), segment("beta", 1)])
    await sink.close()
    wanted = keys([segment("alpha", 1), segment("beta", 1)])
    found = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert [one["key"] for one in found] == wanted
