"""The timeline of the SQLite store: older files, readers beside the owner, retention, damage."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import signal
import time
import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest

from conformance.store_contract import (
    ALL,
    DESTINATIONS,
    SENTENCES,
    a_draft,
    a_segment,
    names,
    settled,
)
from steno.adapters.store_sqlite import (
    OutboxReader,
    SqliteStore,
    StoreSettings,
    TimelineReader,
    erase,
    forget_destination,
    purge_dead,
    purge_timeline,
    redrive,
    writing,
)
from steno.adapters.store_sqlite.admin import _SETTLED
from steno.adapters.store_sqlite.schema import connect, migrate
from steno.adapters.store_sqlite.sql import fetch, scalar
from steno.core.records import Kind, Record
from steno.delivery.ids import first_position, record_id
from steno.errors import IntegrityError, ObjectMissing, StorageError
from steno.ports import Commit, DeliveryState

NO_BALLAST = StoreSettings(ballast_bytes=0)
NOW_US = 1_700_000_000_000_000

VERSION_1 = """
    CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE destinations(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE conversations(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
        last_seq INTEGER NOT NULL, last_position INTEGER NOT NULL);
    CREATE TABLE records(
        position INTEGER PRIMARY KEY, tail INTEGER NOT NULL, conversation INTEGER NOT NULL,
        slot INTEGER NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL, lane TEXT NOT NULL,
        utterance TEXT NOT NULL, revision INTEGER NOT NULL, key NOT NULL, seq INTEGER NOT NULL,
        prev_seq INTEGER NOT NULL, origin TEXT NOT NULL, at_us INTEGER NOT NULL,
        wanted INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL);
    CREATE UNIQUE INDEX records_key ON records(conversation, slot);
    CREATE TABLE pending(
        destination INTEGER NOT NULL, position INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0, next_at_us INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT '', PRIMARY KEY(destination, position)) WITHOUT ROWID;
    CREATE TABLE dead(
        destination INTEGER NOT NULL, position INTEGER NOT NULL, attempts INTEGER NOT NULL,
        reason TEXT NOT NULL, at_us INTEGER NOT NULL,
        PRIMARY KEY(destination, position)) WITHOUT ROWID;
    CREATE TABLE windows(key TEXT PRIMARY KEY, sealed BLOB NOT NULL);
    CREATE TABLE tombstones(digest BLOB PRIMARY KEY, at_us INTEGER NOT NULL) WITHOUT ROWID;
    """
"""As it was released; the store compares the text of what it finds with its own."""


def version_1(path: Path, records: int) -> None:
    """Make a store as version 1 did: some sentences of ``c1``, all pending at both destinations."""
    db = apsw.Connection(str(path))
    db.execute(VERSION_1)
    db.execute("INSERT INTO meta VALUES('schema_version', 1), ('salt', ?)", (bytes(32),))
    db.execute("INSERT INTO destinations VALUES(0, ?), (1, ?)", (ALL, SENTENCES))
    first = first_position(NOW_US // 1000)
    db.execute("INSERT INTO conversations VALUES(1, 'c1', ?, ?)", (records, first + records))
    for seq in range(1, records + 1):
        draft = a_draft("c1", str(seq))
        identity = f"{record_id(first + seq, 7)}\x1fsentence\x1ffeed\x1fc1\x1flane-1\x1f{seq}\x1f0"
        head = f"{identity}\x1f{draft.key}\x1f{seq}\x1f{seq - 1}\x1flive\x1f{draft.at_us}"
        key = hashlib.sha256(f"c1/{seq}".encode()).digest()
        db.execute(
            "INSERT INTO records"
            " VALUES(?,7,1,?,'sentence','feed','lane-1',?,0,?,?,?,'live',?,3,?,?)",
            (
                first + seq, int.from_bytes(key[:8], "big", signed=True), str(seq), key, seq,
                seq - 1, draft.at_us, zlib.crc32(draft.payload, zlib.crc32(head.encode())),
                draft.payload,
            ),
        )  # fmt: skip
        db.execute(
            "INSERT INTO pending(destination, position) VALUES(0,?1), (1,?1)", (first + seq,)
        )
    db.execute("PRAGMA user_version=1")
    db.close()


@asynccontextmanager
async def a_store(path: Path, now_us: int | None = None) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(
        path, DESTINATIONS, NO_BALLAST, crash_at="",
        now_us=lambda: time.time_ns() // 1000 if now_us is None else now_us,
    )  # fmt: skip
    store.start()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "steno.db"


def newest(records: Iterable[Record]) -> dict[str, set[str]]:
    """Return what must be on the timelines: the highest revision of each key."""
    heads: dict[tuple[str, str], int] = {}
    for r in records:
        name = (r.conversation, r.utterance)
        heads[name] = max(heads.get(name, 0), r.revision)
    found: dict[str, set[str]] = {}
    for (conversation, utterance), revision in heads.items():
        found.setdefault(conversation, set()).add(f"{utterance}.{revision}")
    return found


# --- older files -----------------------------------------------------------------------------


async def test_a_store_of_version_1_is_brought_up_to_date_in_place(path: Path) -> None:
    """Nothing of it is lost or delivered twice, and it takes segments from then on."""
    version_1(path, 30)
    async with a_store(path) as store:
        report = store.report
        assert (report.migrated_from, report.salvage, report.records) == (1, None, 30)
        assert report.pending == {ALL: 30, SENTENCES: 30}
        again = await store.submit(
            Commit([a_draft("c1", "7"), a_segment("c1", "s", 5), a_draft("c1", "new")])
        )
        assert [(r.utterance, r.seq) for r in again] == [("s", 31), ("new", 32)]
        with TimelineReader(path) as timeline, OutboxReader(path) as reader:
            assert names(timeline) == ["s.0"]
            assert [r.seq for r in reader.records()] == list(range(1, 33))
            assert reader.check() == []
    async with a_store(path) as store:
        assert store.report.migrated_from is None


async def test_a_store_of_version_1_can_be_looked_at_before_it_is_migrated(path: Path) -> None:
    """Its records are listed; a timeline it has none yet, and says what to do."""
    version_1(path, 3)
    with OutboxReader(path) as reader:
        (first, *_) = reader.records()
        assert reader.show(first.id).record == first
        assert reader.counts()[ALL].pending == 3
    with pytest.raises(StorageError, match="older version"):
        TimelineReader(path)
    assert apsw.Connection(str(path)).pragma("user_version") == 1


async def test_a_damaged_store_of_version_1_is_salvaged(path: Path) -> None:
    """What can be read of it goes into a store of today."""
    version_1(path, 400)
    data = bytearray(path.read_bytes())
    at = len(data) // 2 // 4096 * 4096
    data[at : at + 4096] = bytes(4096)
    path.write_bytes(data)
    async with a_store(path) as store:
        assert store.report.salvage is not None
        assert 300 < store.report.records < 400


def test_no_store_has_no_timeline(path: Path) -> None:
    """Reading where nothing was ever stored is an error of ours and makes no file."""
    with pytest.raises(ObjectMissing):
        TimelineReader(path)
    assert not path.exists()
    path.touch()
    with pytest.raises(ObjectMissing):
        TimelineReader(path)


# --- readers ---------------------------------------------------------------------------------


def _read_on(path: Path, found: multiprocessing.Queue[tuple[int, int]], seconds: float) -> None:
    """Read the timeline again and again in another process, and say how long it was."""
    counts = []
    until = time.monotonic() + seconds
    with TimelineReader(path) as timeline:
        while time.monotonic() < until:
            order = [(int(r.utterance), r.revision) for r in timeline.read("c", Kind.SEGMENT)]
            assert order == sorted(order)
            counts.append(len(order))
            (entry,) = timeline.conversations(Kind.SEGMENT)
            assert entry.records >= counts[-1]
    assert counts == sorted(counts)
    found.put((counts[0], counts[-1]))


async def test_a_reader_in_another_process_follows_a_writing_owner(path: Path) -> None:
    """It sees whole commits, more and more of them, and holds nobody up."""
    async with a_store(path) as store:
        await store.submit(Commit([a_segment("c", "0", 0)]))
        context = multiprocessing.get_context("spawn")
        found: multiprocessing.Queue[tuple[int, int]] = context.Queue()
        reader = context.Process(target=_read_on, args=(path, found, 0.5))
        reader.start()
        number = 0
        while reader.is_alive():
            number += 1
            await store.submit(
                Commit([a_segment("c", str(number), number, revision=r) for r in range(2)])
            )
            await asyncio.sleep(0.002)
        reader.join()
        assert reader.exitcode == 0
        first, last = found.get(timeout=5)
        found.close()
        assert first < last <= number + 1


async def test_an_unfinished_reading_holds_no_erasure_up(path: Path) -> None:
    """Between two pages nothing is held: the log can be cleared."""
    async with a_store(path) as store:
        await store.submit(Commit([a_segment("c", str(n), n) for n in range(1500)]))
        await store.submit(Commit([a_segment(f"other-{n}") for n in range(1500)]))
        with TimelineReader(path) as timeline:
            reading = timeline.read("c", Kind.SEGMENT)
            listing = timeline.conversations(Kind.SEGMENT)
            assert next(reading).utterance == "0"
            assert next(listing).conversation == "c"
            assert (await store.erase("c")).records == 1500
            assert len(list(reading)) == 499  # the rest of the page
            assert len(list(listing)) == 1500


async def test_a_damaged_record_is_named_by_its_position_only(path: Path) -> None:
    """A payload, a place or a kind that is not what was written is not given out."""
    async with a_store(path) as store:
        records = await store.submit(Commit([a_segment("c", str(n), n) for n in range(5)]))
    for change in (
        "payload = x'00'",
        "place_us = 9",
        "placed = 1",
        "lane = 'canary'",
        "utterance = CAST(x'ff' AS TEXT)",
    ):
        copy = path.with_name("copy.db")
        copy.write_bytes(path.read_bytes())
        db = apsw.Connection(str(copy))
        db.execute(f"UPDATE records SET {change} WHERE seq=3")
        db.close()
        with TimelineReader(copy) as timeline:
            kind = Kind.SEGMENT_AUDIT if change.startswith("placed") else Kind.SEGMENT
            with pytest.raises(IntegrityError) as caught:
                list(timeline.read("c", kind))
            assert set(caught.value.fields) <= {"position"}
            assert timeline.latest("c", records[0].key) == records[0]
        copy.unlink()


# --- erasure and retention -------------------------------------------------------------------


@pytest.mark.parametrize("beside", [False, True])
async def test_erasure_reaches_the_timeline(path: Path, *, beside: bool) -> None:
    """Nothing of it is left on any, nor in any file, and what comes later does not come back."""
    async with a_store(path) as store:
        await store.submit(
            Commit([a_segment(c, str(n), n, revision=r) for c in ("canary-c", "b") for n in range(9)
                    for r in range(3)])
        )  # fmt: skip
        if beside:
            with writing(path) as db:
                erase(db, "canary-c", at_us=1)
        else:
            await store.erase("canary-c")
        late = a_segment("canary-c", "late", 1)
        assert await store.submit(Commit([late, a_segment("b", "late", 99)]))
        with TimelineReader(path) as timeline:
            assert [c.conversation for c in timeline.conversations(Kind.SEGMENT)] == ["b"]
            assert names(timeline, "canary-c") == []
            assert names(timeline, "b") == [f"{n}.2" for n in range(9)] + ["late.0"]
            assert not timeline.knows("canary-c")
        for file in path.parent.iterdir():
            assert b"canary" not in file.read_bytes(), file.name


async def acked(store: SqliteStore, records: Iterable[Record]) -> None:
    for destination, kinds in DESTINATIONS.items():
        await store.settle(
            [
                settled(r, DeliveryState.ACKED, destination=destination)
                for r in records
                if r.kind in kinds
            ]
        )


async def test_what_is_on_a_timeline_outlives_the_usual_retention(path: Path) -> None:
    """Delivered records go, superseded revisions too; the timeline stays as it was."""
    later_us = NOW_US + 10**9
    async with a_store(path, NOW_US) as store:
        first = await store.submit(
            Commit([a_segment("c", str(n), n) for n in range(700)] + [a_draft("c", "sentence")])
        )
        second = await store.submit(
            Commit([a_segment("c", str(n), n, revision=1) for n in range(100)])
        )
        await acked(store, [*first, *second])
        assert await store.retain(acked_before_us=later_us, dead_before_us=0) == (101, 0)
        with TimelineReader(path) as timeline:
            assert names(timeline, "c") == [f"{n}.{int(n < 100)}" for n in range(700)]
        again = await store.submit(
            Commit([a_segment("c", "5", 5), a_segment("c", "5", 5, revision=1)])
        )
        assert [r.revision for r in again] == [0]  # its record was gone, its key is not
        with TimelineReader(path) as timeline:
            assert names(timeline, "c")[5] == "5.1"


async def test_usual_retention_passes_over_a_long_timeline(path: Path) -> None:
    """Few rows are looked at in one transaction, and those behind a long timeline are reached."""
    async with a_store(path, NOW_US) as store:
        for start in range(0, 12_000, 2000):
            await store.submit(
                Commit([a_segment("c", str(n), n) for n in range(start, start + 2000)])
            )
        sentences = await store.submit(Commit([a_draft("d", str(n)) for n in range(600)]))
        await acked(store, sentences)
        assert await store.retain(acked_before_us=NOW_US + 10**9, dead_before_us=0) == (600, 0)


def test_retention_looks_each_record_up_among_those_that_wait(path: Path) -> None:
    """Going through all that wait, for every record, would hold the owner up for minutes."""
    version_1(path, 1)
    db = connect(path)
    migrate(db)
    sql = f"SELECT 1 FROM records r WHERE {_SETTLED}"
    plan = [str(row[3]) for row in fetch(db, f"EXPLAIN QUERY PLAN {sql}")]
    db.close()
    for table in "px":
        assert f"SEARCH {table} USING PRIMARY KEY (destination=? AND position=?)" in plan


async def test_retention_comes_back_to_what_was_settled_since(path: Path) -> None:
    """A sweep goes on where the last one ended, but for what has changed before that."""
    later_us = NOW_US + 10**9
    async with a_store(path, NOW_US) as store:
        sentences = await store.submit(Commit([a_draft("c", str(n)) for n in range(9)]))
        segments = await store.submit(Commit([a_segment("c", f"s{n}", n) for n in range(9)]))
        await acked(store, segments)
        for some, count in ((sentences[4:], 5), ([], 0), (sentences[1:2], 1)):
            await acked(store, some)
            assert await store.retain(acked_before_us=later_us, dead_before_us=0) == (count, 0)
        newer = await store.submit(Commit([a_segment("c", "s3", 3, revision=1)]))
        assert await store.retain(acked_before_us=later_us, dead_before_us=0) == (1, 0)
        with writing(path) as db:
            assert forget_destination(db, ALL) == 4
            assert forget_destination(db, SENTENCES) == 3
        assert await store.retain(acked_before_us=later_us, dead_before_us=0) == (3, 0)
        with OutboxReader(path) as reader:
            expected = [r for r in segments if r.utterance != "s3"] + newer
            assert reader.records() == expected


async def test_a_timeline_goes_whole_once_it_is_old_and_delivered(path: Path) -> None:
    """One new record or one pending delivery keeps all of it; others go independently."""
    now_us = NOW_US
    store = SqliteStore.open(path, DESTINATIONS, NO_BALLAST, crash_at="", now_us=lambda: now_us)
    store.start()
    old = {
        c: await store.submit(Commit([a_segment(c, str(n), n) for n in range(1300)]))
        for c in ("gone", "new", "waits")
    }
    (sentence,) = await store.submit(Commit([a_draft("sentence waits", "1")]))
    held = await store.submit(Commit([a_segment("sentence waits", "2", 1)]))
    before_us, now_us = NOW_US + 10**6, NOW_US + 2 * 10**6
    fresh = await store.submit(Commit([a_segment("new", "fresh", -1), a_draft("gone", "sentence")]))
    for some in (old["gone"], old["new"], old["waits"][1:], fresh, held):
        await acked(store, some)
    assert await store.retain_timeline(NOW_US) == 0
    assert await store.retain_timeline(before_us) == 1300
    with TimelineReader(path) as timeline:
        counts = {c.conversation: c.records for c in timeline.conversations(Kind.SEGMENT)}
        assert counts == {"new": 1301, "waits": 1300, "sentence waits": 1}
        assert timeline.knows("gone")
    await store.settle([settled(old["waits"][0], DeliveryState.DEAD)])
    await acked(store, [sentence])
    assert await store.retain_timeline(before_us) == 1301
    with OutboxReader(path) as reader:
        assert reader.counts()[ALL].dead == 0
        assert {r.conversation for r in reader.records(limit=9999)} == {
            "new", "gone", "sentence waits",
        }  # fmt: skip
        assert reader.check() == []
    assert await store.retain_timeline(now_us + 10**6) == 1301
    await store.close()


async def test_a_delivery_made_pending_meanwhile_keeps_its_record(path: Path) -> None:
    """Also when the first part of its timeline has gone already."""
    async with a_store(path, NOW_US) as store:
        records = await store.submit(Commit([a_segment("c", str(n), n) for n in range(9)]))
        await acked(store, records[:7])
        await store.settle([settled(r, DeliveryState.DEAD) for r in records[7:]])
    with writing(path) as db:
        before_us = NOW_US + 10**6
        deleted, after = purge_timeline(db, before_us, limit=4)
        assert redrive(db, record_id=records[8].id) == 1
        while after:
            count, after = purge_timeline(db, before_us, limit=4, after=after)
            deleted += count
        assert deleted == 8
    with TimelineReader(path) as timeline, OutboxReader(path) as reader:
        assert list(timeline.read("c", Kind.SEGMENT)) == records[8:]
        assert reader.counts()[ALL].pending == 1


async def test_retention_of_a_time_to_come_spares_no_later_record(path: Path) -> None:
    """The next sweep finds what was committed since, though nobody ever wanted it."""
    store = SqliteStore.open(path, {}, NO_BALLAST, crash_at="", now_us=lambda: NOW_US)
    store.start()
    for n in range(3):
        await store.submit(Commit([a_draft("c", str(n))]))
        assert await store.retain(acked_before_us=NOW_US + 10**9, dead_before_us=0) == (1, 0)
    await store.close()


async def test_a_key_is_taken_off_after_a_restart_too(path: Path) -> None:
    """Whether a conversation has a timeline is looked up again, and an older revision is late."""
    async with a_store(path) as store:
        await store.submit(Commit([a_segment("c", "u", 1), a_segment("c", "v", 2)]))
    async with a_store(path) as store:
        await store.submit(Commit([a_segment("c", "u", None, revision=5)]))
    async with a_store(path) as store:
        await store.submit(Commit([a_segment("c", "u", 1, revision=4)]))
        with TimelineReader(path) as timeline:
            assert names(timeline, "c") == ["v.0"]


async def test_retention_drops_conversations_of_which_nothing_is_left(path: Path) -> None:
    """Their names go with their last record, but for those with an open window."""
    async with a_store(path, NOW_US) as store:
        records = await store.submit(
            Commit([a_segment("c", "1", 1), a_segment("open", "1", 1)], {"open": b"window"})
        )
        await acked(store, records)
        assert await store.retain_timeline(NOW_US + 10**6) == 2
        (next_c, next_open) = await store.submit(Commit([a_draft("c"), a_draft("open")]))
        assert (next_c.seq, next_open.seq) == (1, 2)


async def test_an_operators_changes_leave_the_timeline(path: Path) -> None:
    """Dead letters given up, destinations forgotten: the record stays where it is."""
    async with a_store(path) as store:
        records = await store.submit(Commit([a_segment("c", str(n), n) for n in range(4)]))
        await store.settle([settled(records[0], DeliveryState.DEAD)])
        with writing(path) as db:
            assert purge_dead(db) == 1
            assert forget_destination(db, ALL) == 3
        with TimelineReader(path) as timeline:
            assert names(timeline, "c") == ["0.0", "1.0", "2.0", "3.0"]


# --- damage and kills ------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["index", "middle", "scattered"])
async def test_salvage_rebuilds_the_timeline(path: Path, damage: str) -> None:
    """By place, the newest revision that is left of each key."""
    async with a_store(path) as store:
        for revision in (1, 0, 2):
            await store.submit(
                Commit(
                    [
                        a_segment(f"c{n % 5}", str(n), -n, revision=revision)
                        for n in range(300)
                        if n % (revision + 1) == 0
                    ]
                )
            )
        await store.submit(Commit([a_segment("c0", "0", None, revision=9)]))
    db = apsw.Connection(str(path))
    root = scalar(db, "SELECT rootpage FROM sqlite_schema WHERE name='records_timeline'")
    db.close()
    data = bytearray(path.read_bytes())
    at = len(data) // 2 // 4096 * 4096
    if damage == "index":
        at = (root - 1) * 4096
    if damage == "scattered":
        for n in range(4096, len(data), 997):
            data[n] ^= 0xFF
    else:
        data[at : at + 4096] = bytes(4096)
    path.write_bytes(data)
    async with a_store(path) as store:
        assert store.report.salvage is not None
        with OutboxReader(path) as reader, TimelineReader(path) as timeline:
            kept = reader.records(limit=9999)
            expected = newest(r for r in kept if r.revision < 9)
            if damage == "index":
                assert len(kept) == 551
                expected["c0"].remove("0.2")
                assert "0.2" not in names(timeline, "c0")  # it had been taken off
            for conversation, on_it in expected.items():
                found = names(timeline, conversation)
                assert set(found) - {"0.2"} == on_it - {"0.2"}
                places = [-int(name.split(".")[0]) for name in found]
                assert places == sorted(places)
        assert await store.submit(Commit([a_segment("c0", "5", -5, revision=20)]))
        with TimelineReader(path) as timeline:
            assert "5.20" in names(timeline, "c0")


def _killed(path: Path, crash_at: str) -> None:
    """Commit three revisions of every key, in an order that differs by key, until killed."""

    async def run() -> None:
        store = SqliteStore.open(path, DESTINATIONS, NO_BALLAST, crash_at=crash_at)
        store.start()
        for n in range(1000):
            orders = ((0, 1, 2), (2, 1, 0), (1, 2, 0))
            for step in range(3):
                await store.submit(
                    Commit(
                        [
                            a_segment(f"c{m}", str(n), n, revision=orders[(n + m) % 3][step])
                            for m in range(3)
                        ]
                    )
                )

    asyncio.run(run())


@pytest.mark.parametrize("step", ["commit.before:5", "commit.after:8"])
def test_a_kill_leaves_the_newest_stored_revision_on_the_timeline(path: Path, step: str) -> None:
    """The row of the old revision goes in the transaction that brings the new one."""
    child = multiprocessing.get_context("spawn").Process(target=_killed, args=(path, step))
    child.start()
    child.join(20)
    assert child.exitcode == -signal.SIGKILL
    child.close()
    with OutboxReader(path) as reader, TimelineReader(path) as timeline:
        kept = reader.records(limit=9999)
        assert len(kept) == 3 * (int(step[-1]) - ("before" in step))
        for conversation, expected in newest(kept).items():
            assert set(names(timeline, conversation)) == expected
