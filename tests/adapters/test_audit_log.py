"""The audit log on disk: durable when acknowledged, sound after every kill, never overwritten."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.audit_logs import contents, entry, recordings, verified, writer
from conformance.fuzz_examples import examples
from conformance.stream_server import MemoryTelemetry
from steno.adapters.audit_log import (
    AuditLog,
    AuditPlaces,
    ChainWriter,
    read_head,
    read_public_keys,
    rotated_files,
)
from steno.adapters.audit_log import writer as writer_module
from steno.adapters.audit_log.files import HeadFile
from steno.core.audit_chain import AuditEntry, Checkpoint, KeyLine, decode_line, fingerprint
from steno.errors import ConfigError, IntegrityError, StorageError, StorageFull

TESTS = Path(__file__).parents[1]
CHILD = Path(__file__).with_name("audit_killed.py")


def audit_log(folder: Path, **more: Any) -> AuditLog:  # Any: passed on
    more.setdefault("telemetry", MemoryTelemetry())
    return AuditLog(AuditPlaces.of(folder), **more)


def filled(folder: Path, count: int = 12, **more: int) -> Path:
    """Make a closed log of so many entries."""
    one = writer(folder, **more)
    one.open()
    for number in range(count):
        one.write([entry(number)])
    one.close()
    return folder / "transcription_audit.jsonl"


# --- appending ---


async def test_appended_at_once_shares_writes_and_keeps_all(tmp_path: Path) -> None:
    """Concurrent appends each get a number of their own, in the order of the calls."""
    async with audit_log(tmp_path, max_bytes=40_000, checkpoint_every=50) as log:
        numbers = await asyncio.gather(*[log.append(entry(n)) for n in range(300)])
        assert numbers == sorted(set(numbers))
        assert verified(tmp_path).sound  # beside the writer
    assert recordings(tmp_path) == [f"rec-{n}" for n in range(300)]
    found = verified(tmp_path)
    assert found.sound
    assert found.unsealed_entries == 0
    assert found.notes == ()


async def test_acknowledged_means_on_disk(tmp_path: Path) -> None:
    """Once ``append`` returns, the entry and the head note are there for any reader."""
    async with audit_log(tmp_path) as log:
        for number in range(5):
            seq = await log.append(entry(number))
            assert recordings(tmp_path)[-1] == f"rec-{number}"
            assert read_head(AuditPlaces.of(tmp_path).head).seq == seq


async def test_lines_are_fsynced_before_the_head_note_and_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of every write is: lines, fsync, head note, fsync."""
    calls: list[str] = []
    async with audit_log(tmp_path) as log:
        await log.append(entry())
        for name in ("pwrite", "fdatasync"):
            real = getattr(os, name)

            def told(fd: int, *rest: Any, _real: Any = real, _name: str = name) -> Any:
                calls.append(f"{_name} {Path(os.readlink(f'/proc/self/fd/{fd}')).name}")
                return _real(fd, *rest)

            monkeypatch.setattr(os, name, told)
        await log.append(entry(1))
        assert calls == [
            "pwrite transcription_audit.jsonl",
            "fdatasync transcription_audit.jsonl",
            "pwrite audit.head",
            "fdatasync audit.head",
        ]
        monkeypatch.undo()


async def test_a_bad_entry_harms_nobody_else(tmp_path: Path) -> None:
    """An entry outside the grammar fails for its caller; what was appended beside it is there."""
    bad = AuditEntry(
        **{name: getattr(entry(), name) for name in entry().__struct_fields__}
        | {"event": "words of a call"}
    )
    async with audit_log(tmp_path) as log:
        results = await asyncio.gather(
            log.append(entry(1)), log.append(bad), log.append(entry(2)), return_exceptions=True
        )
    assert [type(result) for result in results] == [int, ValueError, int]
    assert recordings(tmp_path) == ["rec-1", "rec-2"]


async def test_append_after_close_is_refused(tmp_path: Path) -> None:
    """A closed log takes nothing."""
    log = audit_log(tmp_path)
    await log.open()
    await log.close()
    await log.close()
    with pytest.raises(StorageError, match="closed"):
        await log.append(entry())


async def test_a_checkpoint_comes_with_time(tmp_path: Path) -> None:
    """What is new is sealed after ``checkpoint_s``, once, and nothing when nothing is new."""
    async with audit_log(tmp_path, checkpoint_s=0.05) as log:
        await log.append(entry())
        async with asyncio.timeout(5):
            while verified(tmp_path).unsealed_entries:
                await asyncio.sleep(0.01)
        before = verified(tmp_path)
        await asyncio.sleep(0.2)
        assert verified(tmp_path) == before


@pytest.mark.parametrize("every", [1, 2, 7])
def test_a_checkpoint_comes_with_number(tmp_path: Path, every: int) -> None:
    """However entries are batched, no more than ``every`` lines follow a checkpoint."""
    one = writer(tmp_path, every=every, max_bytes=1 << 20)
    one.open()
    one.write([entry(n) for n in range(20)])
    one.close()
    kinds = [decode_line(raw[:-1]) for _, lines in contents(tmp_path) for raw in lines]
    run = 0
    for line in kinds[1:]:
        run = 0 if isinstance(line, Checkpoint) else run + 1
        assert run <= every


def test_checkpoints_further_apart_than_allowed_are_refused(tmp_path: Path) -> None:
    """A writer cannot be set to leave more unsealed than a verification accepts."""
    for every in (0, 1001):
        with pytest.raises(ValueError):
            writer(tmp_path, every=every)


# --- files ---


def test_everything_is_for_its_owner_only(tmp_path: Path) -> None:
    """Mode 0600, whatever the umask."""
    before = os.umask(0)
    try:
        filled(tmp_path / "state", max_bytes=2000)
    finally:
        os.umask(before)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()
    }
    assert len(modes) >= 6
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_rotated_files_continue_the_chain(tmp_path: Path) -> None:
    """Files are put away under the time and their first line's number; each begins with the key."""
    log = filled(tmp_path, 20, max_bytes=2500)
    older = rotated_files(log)
    assert len(older) >= 3
    for path in [*older, log]:
        lines = [decode_line(raw[:-1]) for raw in path.read_bytes().splitlines(keepends=True)]
        assert isinstance(lines[0], KeyLine)
        assert isinstance(lines[-1], Checkpoint)
        if path != log:
            assert path.name.startswith(f"transcription_audit-{lines[0].seq:012d}-20261121T09")
    assert verified(tmp_path).sound
    assert recordings(tmp_path) == [f"rec-{n}" for n in range(20)]


def test_rotation_never_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that has the name already is left as it is, and the entry is not acknowledged."""
    one = writer(tmp_path, max_bytes=1)
    one.open()
    taken = tmp_path / "transcription_audit-000000000001-20261121T090000Z.jsonl"
    monkeypatch.setattr(writer_module, "rotated_name", lambda *_: taken)
    taken.write_bytes(b"somebody's")
    with pytest.raises(StorageError):
        one.write([entry()])
    assert taken.read_bytes() == b"somebody's"
    one.close()


def test_a_second_opening_adds_nothing_by_itself(tmp_path: Path) -> None:
    """A log that was closed in order goes on where it ended, without a line more."""
    log = filled(tmp_path, 3)
    before = log.read_bytes()
    for _ in range(2):
        one = writer(tmp_path)
        one.open()
        one.close()
    assert log.read_bytes() == before
    one = writer(tmp_path)
    one.open()
    one.write([entry(3)])
    one.close()
    assert log.read_bytes().startswith(before)
    assert recordings(tmp_path) == [f"rec-{n}" for n in range(4)]
    assert verified(tmp_path).sound


def test_another_place_has_a_head_note_of_its_own(tmp_path: Path) -> None:
    """Two logs of one state directory do not mistake one another's newest line."""
    state, elsewhere = tmp_path / "state", tmp_path / "logs" / "transcription_audit.jsonl"
    usual, other = AuditPlaces.of(state), AuditPlaces.of(state, elsewhere)
    assert usual.head != other.head
    assert usual.key == other.key
    assert other.public_keys == tmp_path / "logs" / "transcription_audit.jsonl.pub"
    assert AuditPlaces.of(state, state / "transcription_audit.jsonl") == usual


def test_a_state_directory_has_one_head_note_however_it_is_written() -> None:
    """Relative or absolute: the same log with another head note would look cut off."""
    relative, absolute = Path("state"), Path("state").absolute()
    assert AuditPlaces.of(relative).head.absolute() == AuditPlaces.of(absolute).head
    named = AuditPlaces.of(relative, absolute / "transcription_audit.jsonl")
    assert named.head.name == AuditPlaces.of(relative).head.name


# --- keys ---


def test_key_is_made_once_and_published(tmp_path: Path) -> None:
    """The public key beside the log is that of the key that signs."""
    filled(tmp_path)
    places = AuditPlaces.of(tmp_path)
    private = places.key.read_bytes()
    filled(tmp_path / "other")
    one = writer(tmp_path)
    one.open()
    assert [fingerprint(key) for key in read_public_keys(places.public_keys)] == [one.key_id]
    one.close()
    assert places.key.read_bytes() == private
    assert (tmp_path / "other" / "audit.key").read_bytes() != private


def test_openssl_reads_the_public_key(tmp_path: Path) -> None:
    """The fingerprint is that of other tools."""
    filled(tmp_path)
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here")
    public = str(tmp_path / "transcription_audit.jsonl.pub")
    command = [openssl, "pkey", "-pubin", "-in", public, "-outform", "DER"]
    der = subprocess.run(command, capture_output=True, check=True).stdout
    assert der[12:] == read_public_keys(tmp_path / "transcription_audit.jsonl.pub")[0]


def test_a_new_key_begins_a_new_file(tmp_path: Path) -> None:
    """After the key was replaced, both are needed, and both are published."""
    log = filled(tmp_path, 3)
    old = read_head(AuditPlaces.of(tmp_path).head).public_key
    (tmp_path / "audit.key").unlink()
    filled(tmp_path, 2)
    new = read_head(AuditPlaces.of(tmp_path).head).public_key
    keys = read_public_keys(tmp_path / "transcription_audit.jsonl.pub")
    assert [key.hex() for key in keys] == [old, new]
    assert len(rotated_files(log)) == 1
    from conformance.audit_logs import head_anchor
    from steno.core.audit_verify import verify

    anchors = [head_anchor(tmp_path)]
    assert verify(contents(tmp_path), keys=keys, anchors=anchors).sound
    assert not verify(contents(tmp_path), keys=keys[1:], anchors=anchors).sound


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    """A private key is for its owner only."""
    filled(tmp_path)
    (tmp_path / "audit.key").chmod(mode)
    with pytest.raises(ConfigError, match="used by others"):
        writer(tmp_path).open()


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_damaged_key_is_refused(tmp_path: Path, data: bytes) -> None:
    """No key is guessed, and none replaced."""
    filled(tmp_path)
    (tmp_path / "audit.key").write_bytes(data)
    with pytest.raises(IntegrityError, match="no Ed25519 key"):
        writer(tmp_path).open()
    assert (tmp_path / "audit.key").read_bytes() == data


# --- owners ---


def test_two_owners_are_refused(tmp_path: Path) -> None:
    """One writes; the other is told, and may when the first has ended."""
    one, two = writer(tmp_path), writer(tmp_path)
    one.open()
    with pytest.raises(StorageError, match="another process"):
        two.open()
    one.write([entry()])
    one.close()
    two.open()
    two.close()
    assert verified(tmp_path).sound


# --- what an opening refuses ---


def damaged_logs() -> dict[str, Callable[[Path], None]]:
    def cut(log: Path) -> None:
        lines = log.read_bytes().splitlines(keepends=True)
        log.write_bytes(b"".join(lines[:-2]))

    def change_last(log: Path) -> None:
        data = log.read_bytes()
        log.write_bytes(data[:-10] + bytes([data[-10] ^ 1]) + data[-9:])

    def empty(log: Path) -> None:
        log.write_bytes(b"")

    def spoil_head(log: Path) -> None:
        (log.parent / "audit.head").write_bytes(b"{}" * 1024)

    return {
        "cut": cut,
        "changed": change_last,
        "log gone": lambda log: log.unlink(),
        "log empty": empty,
        "head gone": lambda log: (log.parent / "audit.head").unlink(),
        "head damaged": spoil_head,
    }


@pytest.mark.parametrize("case", damaged_logs())
def test_a_log_that_lost_lines_is_not_gone_on_with(tmp_path: Path, case: str) -> None:
    """Going on would hide the loss; the files stay as they were found."""
    log = filled(tmp_path, 8, max_bytes=1 << 20)
    damaged_logs()[case](log)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".head"}
    with pytest.raises(IntegrityError):
        writer(tmp_path).open()
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".head"}
    after = {name: data for name, data in after.items() if data or name in before}
    assert after == before


@pytest.mark.parametrize("case", ["cut", "log gone", "log empty", "moved"])
def test_a_log_that_is_taken_away_while_it_is_written_is_noticed(tmp_path: Path, case: str) -> None:
    """Nothing is acknowledged into a file that is cut, removed or moved."""
    one = writer(tmp_path, max_bytes=1 << 20)
    one.open()
    for number in range(4):
        one.write([entry(number)])
    log = tmp_path / "transcription_audit.jsonl"
    if case == "moved":
        log.rename(tmp_path / "transcription_audit.jsonl.1")
    else:
        damaged_logs()[case](log)
    for _ in range(2):
        with pytest.raises(IntegrityError):
            one.write([entry(9)])
    with pytest.raises(IntegrityError):
        one.close()
    assert not verified(tmp_path).sound


def test_lines_put_in_while_it_is_written_are_not_taken_in(tmp_path: Path) -> None:
    """They are set aside before the next entry is written."""
    donor = filled(tmp_path / "donor", 1)
    one = writer(tmp_path / "log", max_bytes=1 << 20)
    one.open()
    one.write([entry(0)])
    with (tmp_path / "log" / "transcription_audit.jsonl").open("ab") as file:
        file.write(donor.read_bytes())
    one.write([entry(1)])
    one.close()
    assert recordings(tmp_path / "log") == ["rec-0", "rec-1"]
    found = verified(tmp_path / "log")
    assert found.sound
    assert "were set aside" in found.notes[0].what


def test_lines_put_in_at_rest_are_not_taken_in(tmp_path: Path) -> None:
    """What was never acknowledged is set aside, with a line that says so, and not sealed."""
    log = filled(tmp_path, 3)
    donor = filled(tmp_path / "donor", 1)
    before = log.read_bytes()
    log.write_bytes(before + donor.read_bytes())
    assert not verified(tmp_path).sound
    telemetry = MemoryTelemetry()
    one = writer(tmp_path)
    one._telemetry = telemetry
    one.open()
    one.write([entry(3)])
    one.close()
    assert recordings(tmp_path) == [f"rec-{n}" for n in range(4)]
    aside = list(tmp_path.glob("transcription_audit-unfinished-*.bin"))
    assert [path.read_bytes() for path in aside] == [donor.read_bytes()]
    found = verified(tmp_path)
    assert found.sound
    assert [note.what for note in found.notes] == [
        f"{donor.stat().st_size} bytes of an unfinished write were set aside"
    ]
    assert [event for _, event, _ in telemetry.events] == ["audit.recovered"]


# --- kills and faults, placed at every call ---


class Killed(BaseException):
    """The process ends here."""


CALLS = ("pwrite", "fdatasync", "fsync", "ftruncate", "link", "unlink", "open")


class Fault:
    """Counts the calls that change files; at the chosen one, ends the process or fails it."""

    def __init__(self, patch: pytest.MonkeyPatch, root: Path, fail: Callable[[], BaseException]):
        self.left = -1
        self.dead = False
        self._fail = fail
        self._root = str(root)
        for name in CALLS:
            patch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, real: Any) -> Any:  # Any: functions of os
        def call(*args: Any, **options: Any) -> Any:
            target = args[0]
            at = os.readlink(f"/proc/self/fd/{target}") if type(target) is int else str(target)
            reading = name == "open" and not args[1] & os.O_CREAT
            if reading or not at.startswith(self._root):
                return real(*args, **options)
            if self.dead:
                raise self._fail()
            self.left -= 1
            if self.left == 0:
                error = self._fail()
                self.dead = isinstance(error, Killed)
                if name == "pwrite":  # a part of it arrives
                    real(args[0], bytes(args[1])[: len(args[1]) // 2], args[2])
                raise error
            return real(*args, **options)

        return call


def script(folder: Path, acknowledged: list[str], writers: list[ChainWriter]) -> None:
    """Open, write through a rotation, close; open again, write, close."""
    number = 0
    for rounds in (3, 2):
        one = writer(folder, every=3, max_bytes=1900)
        writers.append(one)
        one.open()
        for _ in range(rounds):
            one.write([entry(number), entry(number + 1)])
            acknowledged += [f"rec-{number}", f"rec-{number + 1}"]
            number += 2
        one.close()


def killed_at(folder: Path, at: int) -> bool:
    """Run the script until its call number ``at``; return False if it ended before."""
    acknowledged: list[str] = []
    writers: list[ChainWriter] = []
    with pytest.MonkeyPatch.context() as patch:
        fault = Fault(patch, folder, Killed)
        fault.left = at
        try:
            script(folder, acknowledged, writers)
        except Killed:
            pass
        else:
            return False
    writers[-1]._let_go()  # the kernel's part: files and lock
    if any(path.suffix == ".jsonl" and path.stat().st_size for path in folder.iterdir()):
        assert verified(folder).sound, at
    again = writer(folder)
    again.open()
    again.write([entry(999)])
    again.close()
    there = recordings(folder)
    assert there[: len(acknowledged)] == acknowledged
    assert len(there) <= len(acknowledged) + 3  # the write that was cut off may have been whole
    assert there[-1] == "rec-999"
    found = verified(folder)
    assert found.sound, (at, found.findings)
    return True


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: an fsync costs nothing, and faults are placed."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as name:
        yield Path(name)


@pytest.mark.parametrize("part", range(4))
def test_killed_at_any_call_nothing_acknowledged_is_lost(memory_path: Path, part: int) -> None:
    """Wherever the process ends, the log verifies, before the next start and after it."""
    at, ended = part + 1, 0
    while killed_at(_fresh(memory_path, at), at):
        at, ended = at + 4, ended + 1
    assert ended >= 15


@pytest.mark.parametrize("part", range(4))
def test_without_room_at_any_call_nothing_is_half_acknowledged(
    memory_path: Path, part: int
) -> None:
    """A disk that is full at any call fails that append with ``StorageFull``; the next works."""
    at, ended = part + 1, 0
    while True:
        folder = _fresh(memory_path, at)
        acknowledged: list[str] = []
        refused: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            fault = Fault(patch, folder, lambda: OSError(errno.ENOSPC, "full"))
            one = writer(folder, every=3, max_bytes=1900)
            one.open()
            fault.left = at
            for number in range(14):
                try:
                    one.write([entry(number)])
                    acknowledged.append(f"rec-{number}")
                except StorageFull:
                    refused.append(f"rec-{number}")
            reached, fault.left = fault.left <= 0, -1
            one.close()
        there = recordings(folder)
        # A refused entry may be there only if the head note itself had no room; it is written in
        # place, where room is not needed.
        assert [name for name in there if name not in refused] == acknowledged
        assert len(refused) <= 1
        assert verified(folder).sound
        if not reached:
            break
        at, ended = at + 4, ended + 1
    assert ended >= 10


def test_after_a_failed_fsync_nothing_is_acknowledged_any_more(tmp_path: Path) -> None:
    """It cannot be known what the disk holds: the writer must be made anew."""
    one = writer(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        one.open()
        one.write([entry(1)])

        def failing(fd: int) -> None:
            raise OSError(errno.EIO, "broken")

        patch.setattr(os, "fdatasync", failing)
        with pytest.raises(StorageError, match="cannot be written"):
            one.write([entry(2)])
    with pytest.raises(StorageError, match="disk failed"):
        one.write([entry(3)])
    one.close()
    again = writer(tmp_path)
    again.open()
    again.write([entry(4)])
    again.close()
    assert recordings(tmp_path) == ["rec-1", "rec-4"]
    assert verified(tmp_path).sound


def _fresh(root: Path, at: int) -> Path:
    folder = root / f"run-{at}"
    folder.mkdir()
    return folder


@pytest.fixture
def file_limit() -> Iterator[Callable[[int], None]]:
    """Files of this process may grow no further: for the writer, a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_a_full_disk_is_told_and_forgotten(
    tmp_path: Path, file_limit: Callable[[int], None]
) -> None:
    """While there is no room every append fails; with room they work again, and none is missing."""
    acknowledged = []
    async with audit_log(tmp_path, checkpoint_s=3600) as log:
        acknowledged += [await log.append(entry(n)) for n in range(3)]
        file_limit((tmp_path / "transcription_audit.jsonl").stat().st_size + 300)
        for number in range(3, 6):
            with pytest.raises(StorageFull):
                await log.append(entry(number))
        file_limit(1 << 30)
        acknowledged += [await log.append(entry(n)) for n in range(6, 9)]
    assert recordings(tmp_path) == [f"rec-{n}" for n in (0, 1, 2, 6, 7, 8)]
    assert verified(tmp_path).sound


def test_a_full_file_system_is_survived(tmp_path: Path) -> None:
    """On a small file system of its own: what was acknowledged is there, and it goes on."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        one = writer(folder, every=10, max_bytes=20_000)
        one.open()
        acknowledged: list[str] = []
        _fill(one, acknowledged)
        assert len(acknowledged) > 20
        with pytest.raises(StorageFull):
            one.write([entry(2000)])
        grown = ["/bin/mount", "-o", "remount,size=200k", str(folder)]
        subprocess.run(grown, capture_output=True, check=True)
        one.write([entry(3000)])
        one.close()
        assert recordings(folder) == [*acknowledged, "rec-3000"]
        assert verified(folder).sound
    finally:
        subprocess.run(["/bin/umount", str(folder)], check=True)


def _fill(one: ChainWriter, acknowledged: list[str]) -> None:
    for number in range(1000):
        try:
            one.write([entry(number)])
        except StorageFull:
            return
        acknowledged.append(f"rec-{number}")
    pytest.fail("there was always room")


# --- a model ---

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 6)),
        st.tuples(st.just("seal"), st.just(0)),
        st.tuples(st.just("close"), st.just(0)),
        st.tuples(st.just("kill"), st.integers(1, 12)),
    ),
    max_size=12,
)


@given(steps=STEPS, every=st.integers(1, 6), max_bytes=st.integers(1, 5000))
@settings(max_examples=examples(20), deadline=None)
def test_any_history_verifies(steps: list[tuple[str, int]], every: int, max_bytes: int) -> None:
    """Appends, checkpoints, rotations, restarts and kills in any order."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        acknowledged: list[str] = []
        lost: set[str] = set()
        number = 0
        one = writer(folder, every=every, max_bytes=max_bytes)
        one.open()
        for step, amount in steps:
            if step == "write":
                batch = range(number, number + amount)
                one.write([entry(n) for n in batch])
                acknowledged += [f"rec-{n}" for n in batch]
                number += amount
            elif step == "seal":
                one.seal()
                assert verified(folder).unsealed_entries == 0
            else:
                if step == "kill":
                    lost |= {f"rec-{number}"}
                    _kill(one, folder, amount, entry(number))
                    number += 1
                else:
                    one.close()
                assert verified(folder).sound
                one = writer(folder, every=every, max_bytes=max_bytes)
                one.open()
        one.close()
        assert [name for name in recordings(folder) if name not in lost] == acknowledged
        assert verified(folder).sound


def _kill(one: ChainWriter, folder: Path, at: int, last: AuditEntry) -> None:
    """End the writer in the middle of one more write, or after it."""
    with pytest.MonkeyPatch.context() as patch:
        fault = Fault(patch, folder, Killed)
        fault.left = at
        try:
            one.write([last])
        except Killed:
            pass
    one._let_go()  # the kernel's part: files and lock


# --- a real process ---


@pytest.mark.parametrize("run", range(4))
def test_a_killed_process_has_lost_nothing_it_acknowledged(tmp_path: Path, run: int) -> None:
    """SIGKILL at a random moment while eight append: all is there, and the log verifies."""
    _kill_loop(tmp_path, rounds=1, first=run)


@pytest.mark.soak
def test_a_process_killed_again_and_again(tmp_path: Path) -> None:
    """Fifty times the same, over one log."""
    _kill_loop(tmp_path, rounds=50, first=0)


def _kill_loop(folder: Path, *, rounds: int, first: int) -> None:
    acknowledged: set[str] = set()
    rng = random.Random(first)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (TESTS, *sys.path)))}
    for run in range(first, first + rounds):
        with (folder / "told.txt").open("w+b") as told:
            child = subprocess.Popen(
                [sys.executable, str(CHILD), str(folder), str(run)], stdout=told, env=environment
            )
            try:
                deadline = time.monotonic() + 30
                while not told.tell() and time.monotonic() < deadline:
                    time.sleep(0.005)
                    told.seek(0, os.SEEK_END)
                time.sleep(rng.random() * 0.3)
            finally:
                child.send_signal(signal.SIGKILL)
                child.wait()
            told.seek(0)
            numbers = told.read().rpartition(b"\n")[0].split()
        assert numbers
        acknowledged |= {f"rec-{int(number)}" for number in numbers}
        found = verified(folder)
        assert found.sound, found.findings
        assert acknowledged <= set(recordings(folder))
    one = writer(folder)
    one.open()
    one.write([entry(999_000_000)])  # no child counts as far
    one.close()
    there = recordings(folder)
    assert acknowledged < set(there)
    assert len(there) == len(set(there))
    assert verified(folder).sound


def test_the_head_note_has_two_places(tmp_path: Path) -> None:
    """Whatever happens to the note that is being written, the one before is whole."""
    log = filled(tmp_path, 4)
    path = tmp_path / "audit.head"
    data = path.read_bytes()
    newest = read_head(path)
    assert len(data) == 2048
    notes = []
    for place in range(2):
        spoilt = bytearray(data)
        spoilt[place * 1024 + 100] ^= 1
        path.write_bytes(spoilt)
        notes.append(read_head(path))
    assert newest in notes
    assert {note.revision for note in notes} == {newest.revision, newest.revision - 1}
    path.write_bytes(data)
    holder = HeadFile(path)
    with pytest.raises(StorageError):
        HeadFile(path)
    holder.close()
    assert log.exists()
