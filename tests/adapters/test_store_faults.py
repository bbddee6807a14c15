"""The SQLite store under faults: kills, full disks, failing syncs, damaged files."""

# looking at the files is what these tests do

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from conformance.store_contract import ALL, DESTINATIONS, SENTENCES, a_draft, settled
from steno.adapters.store_sqlite import OutboxReader, SqliteStore, StoreSettings, TimelineReader
from steno.adapters.store_sqlite.crash import STEPS, VARIABLE
from steno.core.records import Kind, Record
from steno.delivery.ids import position_of
from steno.errors import ConfigError, IntegrityError, StorageError
from steno.ports import Commit, DeliveryState

NO_BALLAST = StoreSettings(ballast_bytes=0)
TESTS = Path(__file__).parents[1]
CHILD = Path(__file__).with_name("store_killed.py")


def opened(path: Path, settings: StoreSettings = NO_BALLAST, vfs: str | None = None) -> SqliteStore:
    store = SqliteStore.open(path, DESTINATIONS, settings, crash_at="", vfs=vfs)
    store.start()
    return store


def everything(path: Path) -> list[Record]:
    with OutboxReader(path) as reader:
        assert reader.check() == []
        return reader.records(limit=10**6)


# --- kills -----------------------------------------------------------------------------------


def killed_run(path: Path, seed: int, mode: str, after_s: float, crash_at: str = "") -> list[str]:
    """Run the child until it dies and return what it said, whole lines only."""
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent / 'src'}"}
    environment |= {VARIABLE: crash_at, "PYTHONHASHSEED": "0"}
    with subprocess.Popen(
        [sys.executable, str(CHILD), str(path), str(seed), mode],
        stdout=subprocess.PIPE,
        env=environment,
    ) as child:
        assert child.stdout is not None
        ready = child.stdout.readline()
        if not crash_at:
            assert ready == b"ready\n"
            time.sleep(after_s)
            child.send_signal(signal.SIGKILL)
        text = child.stdout.read().decode()
        assert child.wait(30) == -signal.SIGKILL
    return text.split("\n")[:-1]  # the last line may be cut


async def audit(path: Path, said: list[str]) -> tuple[set[str], set[str]]:
    """Return what was promised and is not stored, and what was acknowledged and waits again."""
    store = opened(path)
    assert store.report.salvage is None
    stored = {r.utterance for r in everything(path)}
    waiting: set[str] = set()
    after = 0
    while page := await store.pending(ALL, limit=5000, after=after):
        waiting |= {p.record.utterance for p in page}
        after = position_of(page[-1].record.id)
    await store.close()
    promised = {n for line in said if line.startswith("stored ") for n in line.split()[1:]}
    acked = {n for line in said if line.startswith("acked ") for n in line.split()[1:]}
    seqs: dict[str, list[int]] = {}
    for record in everything(path):
        seqs.setdefault(record.conversation, []).append(record.seq)
    with TimelineReader(path) as timeline:
        for conversation, numbers in seqs.items():
            assert numbers == list(range(1, len(numbers) + 1)), conversation
            placed = [r.seq for r in timeline.read(conversation, Kind.SENTENCE)]
            assert sorted(placed) == numbers, conversation
    return promised - stored, acked & waiting


async def kill_many(path: Path, kills: int, mode: str) -> tuple[int, int]:
    """Return how many records were lost and how many promised, over some kills of one store."""
    draw = random.Random(kills)
    lost = promised = 0
    for n in range(kills):
        said = await asyncio.to_thread(killed_run, path, n, mode, draw.uniform(0.0, 0.1))
        missing, again = await audit(path, said)
        assert not again, "an acknowledged record waits again"
        lost += len(missing)
        promised += sum(len(line.split()) - 1 for line in said if line.startswith("stored"))
    return lost, promised


async def test_nothing_stored_is_lost_over_kills(tmp_path: Path) -> None:
    """What the store confirmed is there after a kill at any moment, in order, without holes."""
    lost, promised = await kill_many(tmp_path / "steno.db", 15, "honest")
    assert promised > 100
    assert lost == 0


async def test_the_kill_harness_catches_a_planted_bug(tmp_path: Path) -> None:
    """A program that confirms before the commit loses records, and the harness sees it."""
    lost = 0
    for attempt in range(4):  # a kill between the two is a matter of luck
        lost += (await kill_many(tmp_path / f"{attempt}.db", 5, "early"))[0]
        if lost:
            break
    assert lost > 0


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_nothing_stored_is_lost_over_many_kills(tmp_path: Path) -> None:
    """The full count."""
    lost, promised = await kill_many(tmp_path / "steno.db", 200, "honest")
    assert promised > 5000
    assert lost == 0


@pytest.mark.parametrize("step", STEPS)
async def test_nothing_stored_is_lost_at_a_named_step(tmp_path: Path, step: str) -> None:
    """Killed before or after the commit of records or outcomes."""
    path = tmp_path / "steno.db"
    for n in (1, 3):
        said = await asyncio.to_thread(killed_run, path, n, "honest", 0.0, f"{step}:{n}")
        missing, again = await audit(path, said)
        assert not missing
        assert not again


def test_an_unknown_step_is_refused(tmp_path: Path) -> None:
    """A fault test with a misspelt step must not pass for nothing."""
    with pytest.raises(ConfigError):
        SqliteStore.open(
            tmp_path / "steno.db", DESTINATIONS, NO_BALLAST, crash_at="commit.berfore:1"
        )


# --- power cuts ------------------------------------------------------------------------------


async def test_any_prefix_of_the_log_is_a_store_of_whole_commits(tmp_path: Path) -> None:
    """However much of the log reached the disk, torn sector or not: whole commits, in order."""
    path = tmp_path / "steno.db"
    store = opened(path)
    await store.submit(Commit([a_draft("c", "0-0")]))
    main_file = path.read_bytes()
    for n in range(1, 6):
        await store.submit(Commit([a_draft("c", f"{n}-{m}") for m in range(n)], {"w": b"%d" % n}))
    log = path.with_name("steno.db-wal").read_bytes()
    await store.close()
    draw = random.Random(5)
    copy = tmp_path / "copy.db"
    seen = set()
    for length in [*range(0, len(log), 512), len(log)]:
        if draw.random() < 0.5 and length not in (0, len(log)):
            continue
        torn = draw.randbytes(512) if draw.random() < 0.3 else b""
        for suffix in ("", "-wal", "-shm"):
            copy.with_name("copy.db" + suffix).unlink(missing_ok=True)
        copy.write_bytes(main_file)
        copy.with_name("copy.db-wal").write_bytes(log[:length] + torn)
        again = SqliteStore.open(copy, DESTINATIONS, NO_BALLAST, crash_at="")
        again.start()
        found = [r.utterance for r in everything(copy)] if again.report.records else []
        whole = ["0-0"] + [f"{n}-{m}" for n in range(1, 6) for m in range(n)]
        assert found == whole[: len(found)]
        assert len(found) in (0, 1, 2, 4, 7, 11, 16)
        seen.add(len(found))
        await again.close()
    assert len(seen) > 4


# --- disks -----------------------------------------------------------------------------------


class Disk:
    """What the placed file layer does: fail writes or syncs of the database's files."""

    def __init__(self) -> None:
        self.write_error: int | None = None
        self.sync_error: int | None = None
        self.writes_left = 0

    def on_write(self) -> None:
        if self.write_error is not None:
            if self.writes_left > 0:
                self.writes_left -= 1
                return
            raise _error(self.write_error)

    def on_sync(self) -> None:
        if self.sync_error is not None:
            raise _error(self.sync_error)


def _error(code: int) -> apsw.Error:
    error = apsw.exception_for(code & 0xFF)
    assert isinstance(error, apsw.Error)
    error.extendedresult = code  # type: ignore[attr-defined]  # read by SQLite's side
    return error


class _File(apsw.VFSFile):
    def __init__(self, filename: str | apsw.URIFilename | None, flags: list[int], disk: Disk):
        super().__init__("", filename, flags)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  # the interface's name
        self._disk.on_write()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802  # the interface's name
        self._disk.on_sync()
        super().xSync(flags)

    def excepthook(self, *args: object) -> bool:
        return True


class _Vfs(apsw.VFS):
    def __init__(self, name: str, disk: Disk) -> None:
        super().__init__(name, "")
        self._disk = disk

    def xOpen(  # noqa: N802  # the interface's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return _File(name, flags, self._disk)

    def excepthook(self, *args: object) -> bool:
        return True


@contextmanager
def a_disk() -> Iterator[Disk]:
    disk = Disk()
    vfs = _Vfs("steno-test-disk", disk)
    try:
        yield disk
    finally:
        vfs.unregister()


async def test_a_full_disk_refuses_and_recovers_by_itself(tmp_path: Path) -> None:
    """No room: commits fail as retryable, nothing half is stored, and later they go on."""
    with a_disk() as disk:
        store = opened(tmp_path / "steno.db", vfs="steno-test-disk")
        (first,) = await store.submit(Commit([a_draft(utterance="1")]))
        for left in (0, 1, 3):
            disk.write_error, disk.writes_left = apsw.SQLITE_FULL, left
            with pytest.raises(StorageError) as caught:
                await store.submit(Commit([a_draft(utterance=f"{n}") for n in range(2, 200)]))
            assert caught.value.retryable
            assert store.full
        disk.write_error = None
        await store.settle([settled(first, DeliveryState.ACKED)])
        async with asyncio.timeout(5):
            while True:
                try:
                    records = await store.submit(Commit([a_draft(utterance="2")]))
                    break
                except StorageError:
                    await asyncio.sleep(0.05)
        assert [r.seq for r in records] == [2]
        assert not store.full
        assert not store.failed.done()
        await store.close()
        assert [r.utterance for r in everything(tmp_path / "steno.db")] == ["1", "2"]


async def test_a_write_error_fails_the_commit_and_not_the_store(tmp_path: Path) -> None:
    """EIO on a write is reported to the commit; the next one is stored."""
    with a_disk() as disk:
        store = opened(tmp_path / "steno.db", vfs="steno-test-disk")
        disk.write_error = apsw.SQLITE_IOERR_WRITE
        with pytest.raises(StorageError):
            await store.submit(Commit([a_draft(utterance="1")]))
        disk.write_error = None
        assert await store.submit(Commit([a_draft(utterance="1")]))
        await store.close()


async def test_a_failed_sync_ends_all_acknowledging(tmp_path: Path) -> None:
    """After an fsync error nothing is confirmed any more, even when the next would succeed."""
    with a_disk() as disk:
        path = tmp_path / "steno.db"
        store = opened(path, vfs="steno-test-disk")
        await store.submit(Commit([a_draft(utterance="1")]))
        disk.sync_error = apsw.SQLITE_IOERR_FSYNC
        with pytest.raises(StorageError):
            await store.submit(Commit([a_draft(utterance="2")]))
        disk.sync_error = None
        with pytest.raises(StorageError):
            await store.submit(Commit([a_draft(utterance="3")]))
        with pytest.raises(StorageError):
            await store.settle([])
        with pytest.raises(StorageError):
            await store.failed
        await store.close()
    again = opened(path)
    assert not again.report.clean_shutdown
    found = [r.utterance for r in everything(path)]
    assert "1" in found
    assert "3" not in found
    await again.close()


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as out:
        while True:
            out.write(bytes(4096))


def _tmpfs(folder: Path, size_kb: int) -> bool:
    return (
        os.geteuid() == 0
        and subprocess.run(
            ["/bin/mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(folder)],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )


def umount(folder: Path) -> None:
    subprocess.run(["/bin/umount", "-l", str(folder)], check=True)


async def test_a_really_full_disk_still_takes_outcomes(tmp_path: Path) -> None:
    """On a small file system: the ballast lets outcomes be stored, then all goes on."""
    if not _tmpfs(tmp_path, 12_000):
        pytest.skip("a small file system cannot be mounted here")
    try:
        path, filler = tmp_path / "steno.db", tmp_path / "filler"
        store = opened(path, StoreSettings(ballast_bytes=1 << 20))
        assert (tmp_path / "steno.db-ballast").stat().st_size == 1 << 20
        records = await store.submit(Commit([a_draft(utterance=str(n)) for n in range(100)]))
        with pytest.raises(OSError, match="space"):
            fill(filler)
        with pytest.raises(StorageError) as caught:
            await store.submit(Commit([a_draft(utterance="x" * 90, payload=bytes(200_000))]))
        assert caught.value.retryable
        assert store.full
        assert (tmp_path / "steno.db-ballast").stat().st_size == 0
        for destination in (ALL, SENTENCES):
            await store.settle(
                [settled(r, DeliveryState.ACKED, destination=destination) for r in records]
            )
        assert await store.pending(ALL, limit=10) == []
        filler.unlink()
        async with asyncio.timeout(10):
            while store.full:  # the store looks by itself
                await asyncio.sleep(0.1)
        assert await store.submit(Commit([a_draft(utterance="after")]))
        await store.close()
    finally:
        umount(tmp_path)


# --- damage ----------------------------------------------------------------------------------


async def filled(path: Path, records: int = 400) -> None:
    store = opened(path)
    for start in range(0, records, 100):
        await store.submit(
            Commit(
                [
                    a_draft(f"c{n % 10}", str(n), payload=b"p%d" % n * 20)
                    for n in range(start, start + 100)
                ],
                {"c1": b"window"},
            )
        )
    await store.close()


@pytest.mark.parametrize("damage", ["zeroed", "cut", "header", "garbage", "scattered"])
async def test_a_damaged_store_is_moved_aside_and_salvaged(tmp_path: Path, damage: str) -> None:
    """The gateway starts all the same; the evidence stays; losses are named; nothing is garbage."""
    path = tmp_path / "steno.db"
    await filled(path)
    before = {r.id: r for r in everything(path)}
    data = bytearray(path.read_bytes())
    draw = random.Random(damage)
    if damage == "zeroed":
        at = len(data) // 2 // 4096 * 4096
        data[at : at + 4096] = bytes(4096)
    elif damage == "cut":
        del data[len(data) * 2 // 3 :]
    elif damage == "header":
        data[:100] = draw.randbytes(100)
    elif damage == "garbage":
        data[:] = draw.randbytes(len(data))
    else:
        for _ in range(200):
            data[draw.randrange(4096, len(data))] ^= 0xFF
    path.write_bytes(data)
    store = opened(path)
    salvage = store.report.salvage
    assert salvage is not None
    assert salvage.moved_to.read_bytes() == bytes(data)
    found = everything(path)
    assert len(found) == salvage.records
    for record in found:
        assert record == before[record.id]
    missing = {r.conversation for r in before.values()} - {r.conversation for r in found}
    if salvage.complete:
        lost = {before[i].conversation for i in set(before) - {r.id for r in found}}
        assert lost <= set(salvage.conversations)
    if damage in ("zeroed", "cut"):
        assert 0 < len(found) < 400
    else:
        assert missing or damage == "scattered"
    assert await store.submit(Commit([a_draft("new", "1")]))
    pending = await store.pending(ALL, limit=1000)
    assert len(pending) == len(found) + 1
    await store.close()


async def test_a_flipped_byte_is_never_delivered(tmp_path: Path) -> None:
    """Whichever byte of a small store flips: it opens, and gives only what was written."""
    path = tmp_path / "steno.db"
    store = opened(path)
    await store.submit(Commit([a_draft("c", str(n)) for n in range(3)]))
    await store.close()
    good = {r.id: r for r in everything(path)}
    data = path.read_bytes()
    draw = random.Random(11)
    for _ in range(120):
        for part in tmp_path.iterdir():
            part.unlink()
        flipped = bytearray(data)
        flipped[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        store = opened(path)
        for found in await store.pending(ALL, limit=10):
            known = good.get(found.record.id)
            if known is not None:
                assert found.record.payload == known.payload
                assert found.record.lane == known.lane
                assert found.record.conversation == known.conversation
        await store.submit(Commit([a_draft("c", "next")]))
        await store.close()


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
async def test_no_byte_of_the_header_stops_the_start(tmp_path: Path, flip: int) -> None:
    """A damaged header, the version in it included, is no reason not to start again."""
    path = tmp_path / "steno.db"
    store = opened(path)
    await store.submit(Commit([a_draft("c", "1")]))
    await store.close()
    data = path.read_bytes()
    for at in range(108):
        for part in tmp_path.iterdir():
            part.unlink()
        path.write_bytes(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
        store = opened(path)
        await store.submit(Commit([a_draft("c", "2")]))
        await store.close()


async def test_a_damaged_record_is_a_dead_letter(tmp_path: Path) -> None:
    """A payload that is not what was written is not delivered; the others are."""
    path = tmp_path / "steno.db"
    store = opened(path)
    records = await store.submit(Commit([a_draft("c", str(n)) for n in range(5)]))
    await store.close()
    db = apsw.Connection(str(path))
    db.execute("UPDATE records SET payload=? WHERE seq=3", (b'{"text":"other"}',))
    db.close()
    store = opened(path)
    found = await store.pending(ALL, limit=4)
    assert [p.record.seq for p in found] == [1, 2, 4, 5]
    await store.settle([])
    with OutboxReader(path) as reader:
        (dead,) = reader.entries(state=DeliveryState.DEAD)
        assert (dead.id, dead.reason) == (records[2].id, "IntegrityError")
        with pytest.raises(IntegrityError):
            reader.show(records[2].id)
    await store.close()
