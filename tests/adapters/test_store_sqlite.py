"""The SQLite store: the contract of every store, and what is its own."""

# looking at the files is what these tests do

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import msgspec
import pytest

from conformance.store_contract import ALL, DESTINATIONS, SENTENCES, StoreContract, a_draft, settled
from steno.adapters.store_sqlite import (
    OutboxReader,
    SqliteStore,
    StoreSettings,
    TimelineReader,
    erase,
    forget_destination,
    purge_dead,
    redrive,
    writing,
)
from steno.adapters.store_sqlite.schema import SCHEMA_VERSION, connect
from steno.core.records import Kind
from steno.errors import ObjectMissing, StorageError
from steno.ports import Commit, DeliveryState, RecordStore

SMALL = StoreSettings(ballast_bytes=1 << 16)


@asynccontextmanager
async def a_store(
    path: Path, settings: StoreSettings = SMALL, **options: str
) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(path, DESTINATIONS, settings, crash_at="", **options)  # type: ignore[arg-type]  # str options only
    store.start()
    try:
        yield store
    finally:
        await store.close()


class TestSqliteStore(StoreContract):
    """The contract."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._path = tmp_path / "steno.db"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[RecordStore]:
        async with a_store(self._path) as store:
            yield store

    def timeline(self) -> TimelineReader:
        return TimelineReader(self._path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "steno.db"


async def test_everything_is_there_after_closing_and_opening_again(path: Path) -> None:
    """Records, marks, windows and the count of each conversation outlive the process."""
    async with a_store(path) as store:
        assert store.report.created
        records = await store.submit(
            Commit([a_draft(utterance=str(n)) for n in range(3)], {"c1": b"sealed"})
        )
        await store.settle([settled(records[0], DeliveryState.ACKED)])
    async with a_store(path) as store:
        report = store.report
        assert (report.created, report.clean_shutdown, report.salvage) == (False, True, None)
        assert report.pending == {ALL: 2, SENTENCES: 3}
        assert (report.windows, report.records) == (1, 3)
        assert report.last_alive_us > 0
        assert await store.windows() == {"c1": b"sealed"}
        again = await store.submit(Commit([a_draft(utterance="1"), a_draft(utterance="9")]))
        assert [(r.utterance, r.seq, r.prev_seq) for r in again] == [("9", 4, 3)]


async def test_a_store_that_was_not_closed_says_so(path: Path) -> None:
    """Without a clean end the report tells when the owner was last alive."""
    async with a_store(path) as store:
        await store.submit(Commit([a_draft()]))
        for suffix in ("", "-wal"):
            part = path.with_name(path.name + suffix)
            part.with_name("copy.db" + suffix).write_bytes(part.read_bytes())
    async with a_store(path.with_name("copy.db")) as copy:
        assert not copy.report.clean_shutdown
        assert copy.report.last_alive_us > 1_600_000_000_000_000
        assert copy.report.records == 1


async def test_who_does_not_follow_leaves_it_open_since_when_nobody_does(path: Path) -> None:
    """Neither the time of the last who followed, nor how it ended, is changed."""
    only = msgspec.structs.replace(SMALL, follows=False)
    async with a_store(path, only) as store:
        assert store.report.created
    async with a_store(path, only) as store:
        assert (store.report.last_alive_us, store.report.clean_shutdown) == (0, True)
    async with a_store(path) as store:
        await store.submit(Commit([a_draft()]))
        for suffix in ("", "-wal"):
            part = path.with_name(path.name + suffix)
            part.with_name("copy.db" + suffix).write_bytes(part.read_bytes())
    copy = path.with_name("copy.db")
    async with a_store(copy, only) as store:
        first = store.report
        await store.submit(Commit([a_draft(utterance="2")]))
    async with a_store(copy, only) as store:
        assert store.report.last_alive_us == first.last_alive_us > 0
        assert not store.report.clean_shutdown


async def test_a_newer_store_is_refused(path: Path) -> None:
    """An older program leaves a newer store alone, for owner and reader."""
    async with a_store(path):
        pass
    db = apsw.Connection(str(path))
    db.pragma("user_version", SCHEMA_VERSION + 1)
    db.execute("UPDATE meta SET value=? WHERE name='schema_version'", (SCHEMA_VERSION + 1,))
    db.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="newer version"):
        SqliteStore.open(path, DESTINATIONS, SMALL)
    with pytest.raises(StorageError, match="newer version"):
        OutboxReader(path)
    assert path.read_bytes() == before


async def test_no_store_is_no_outbox(path: Path) -> None:
    """Reading where nothing was ever stored is an error of ours and makes no file."""
    with pytest.raises(ObjectMissing):
        OutboxReader(path)
    assert not path.exists()


async def test_commits_flowing_share_transactions(path: Path) -> None:
    """A burst needs far fewer transactions than commits; a lone commit does not wait."""
    async with a_store(path, StoreSettings(ballast_bytes=0, group_wait_s=0.2)) as store:
        groups: list[int] = []
        store.on_committed(lambda records: groups.append(len(records)))
        await asyncio.gather(
            *(store.submit(Commit([a_draft(utterance=str(n))])) for n in range(99))
        )
        assert len(groups) <= 2
    async with a_store(path, StoreSettings(ballast_bytes=0, group_wait_s=30.0)) as store:
        async with asyncio.timeout(5):
            await store.submit(Commit([a_draft(utterance="lone")]))


async def test_one_bad_commit_does_not_take_its_company_down(path: Path) -> None:
    """What cannot be stored fails alone."""
    async with a_store(path) as store:
        bad = a_draft(utterance="bad", revision=1 << 70)  # wider than the column
        futures = [
            store.submit(Commit([d])) for d in (a_draft(utterance="1"), bad, a_draft(utterance="2"))
        ]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert [isinstance(r, StorageError) for r in results] == [False, True, False]
        assert len(await store.pending(ALL, limit=10)) == 2


async def test_a_full_queue_refuses_and_says_retryable(path: Path) -> None:
    """The queue is bounded; what is refused can be submitted again."""
    async with a_store(path, StoreSettings(ballast_bytes=0, queued_records=10)) as store:
        big = Commit([a_draft(utterance=str(n)) for n in range(11)])
        with pytest.raises(StorageError) as caught:
            await store.submit(big)
        assert caught.value.retryable
        assert await store.submit(Commit(big.drafts[:10]))


async def test_reader_counts_lists_and_shows(path: Path) -> None:
    """Counts, filters and one record by the beginning of its id, beside the owner."""
    async with a_store(path) as store:
        records = await store.submit(
            Commit(
                [
                    a_draft("a", "1"),
                    a_draft("a", "2"),
                    a_draft("b", "1"),
                    a_draft("b", "2", kind=Kind.GAP),
                ]
            )
        )
        await store.settle(
            [
                settled(records[0], DeliveryState.ACKED),
                settled(records[1], DeliveryState.DEAD),
                settled(records[2], DeliveryState.RETRY),
            ]
        )
        with OutboxReader(path) as reader:
            counts = reader.counts()
            assert counts[ALL].acked == counts[ALL].dead == counts[ALL].retry == 1
            assert counts[ALL].pending == 1
            assert counts[ALL].oldest_us > 0
            assert (counts[SENTENCES].pending, counts[SENTENCES].unwanted) == (3, 1)
            dead = reader.entries(state=DeliveryState.DEAD)
            assert [(e.id, e.reason, e.attempts) for e in dead] == [(records[1].id, "Reason", 1)]
            for state, count in (("acked", 1), ("retry", 1), ("pending", 4), ("unwanted", 1)):
                assert len(reader.entries(state=DeliveryState(state))) == count, state
            assert {e.conversation for e in reader.entries(conversation="b")} == {"b"}
            assert len(reader.entries(kind=Kind.GAP, destination=ALL)) == 1
            page = reader.entries(destination=ALL, limit=3)
            rest = reader.entries(destination=ALL, after=page[-1].position)
            assert [e.id for e in page + rest] == [r.id for r in records]
            shown = reader.show(records[3].id[:30])
            assert shown.record.payload == b'{"text":"hello"}'
            assert {d.destination: d.state for d in shown.deliveries} == {
                ALL: DeliveryState.PENDING,
                SENTENCES: DeliveryState.UNWANTED,
            }
            for prefix in ("zz", "0000", ""):
                with pytest.raises(ObjectMissing):
                    reader.show(prefix)
            assert reader.check() == []
            assert len(reader.records("a")) == 2


async def test_redrive_beside_the_owner_is_noticed(path: Path) -> None:
    """A dead letter made pending by another connection comes back, and the owner is told."""
    async with a_store(path) as store:
        changed = asyncio.Event()
        store.on_changed(changed.set)
        records = await store.submit(Commit([a_draft(utterance=str(n)) for n in range(3)]))
        await store.settle([settled(r, DeliveryState.DEAD) for r in records])
        assert await store.pending(ALL, limit=10) == []
        with writing(path) as db:
            assert redrive(db, record_id=records[1].id) == 1
            assert redrive(db, record_id=records[1].id) == 0
        async with asyncio.timeout(5):
            await changed.wait()
        (back,) = await store.pending(ALL, limit=10)
        assert (back.record.id, back.attempts) == (records[1].id, 0)
        assert await store.redrive(destination=ALL) == 2
        with pytest.raises(StorageError, match="does not know"):
            await store.redrive(destination="nowhere")


async def test_purged_dead_letters_are_not_acknowledged(path: Path) -> None:
    """Giving up a dead letter leaves the record, unwanted there."""
    async with a_store(path) as store:
        (record,) = await store.submit(Commit([a_draft()]))
        await store.settle([settled(record, DeliveryState.DEAD)])
        with writing(path) as db:
            assert purge_dead(db, destination=ALL) == 1
        with OutboxReader(path) as reader:
            counts = reader.counts()[ALL]
            assert (counts.dead, counts.acked, counts.unwanted) == (0, 0, 1)


async def test_retention_deletes_only_what_every_destination_has_settled(path: Path) -> None:
    """Pending and dead records stay whatever their age; counting goes on after it."""
    now_us = 1_700_000_000_000_000
    store = SqliteStore.open(path, DESTINATIONS, SMALL, now_us=lambda: now_us, crash_at="")
    store.start()
    records = await store.submit(Commit([a_draft(utterance=str(n)) for n in range(1200)]))
    gone, dead = records[:1100], records[1100]
    for destination in DESTINATIONS:
        await store.settle([settled(r, DeliveryState.ACKED, destination=destination) for r in gone])
    await store.settle(
        [
            settled(dead, DeliveryState.DEAD),
            settled(dead, DeliveryState.ACKED, destination=SENTENCES),
        ]
    )
    later_us = now_us + 1_000_000
    assert await store.retain(acked_before_us=now_us, dead_before_us=0) == (0, 0)
    assert await store.retain(acked_before_us=later_us, dead_before_us=0) == (1100, 0)
    assert await store.retain(acked_before_us=later_us, dead_before_us=later_us) == (1, 1)
    (record,) = await store.submit(Commit([a_draft(utterance="next")]))
    assert record.seq == 1201
    await store.close()


async def test_a_former_destination_can_be_forgotten(path: Path) -> None:
    """What a removed destination waits for no longer holds records back."""
    async with a_store(path) as store:
        await store.submit(Commit([a_draft(utterance=str(n)) for n in range(3)]))
    with writing(path) as db:
        assert forget_destination(db, SENTENCES) == 3
    with OutboxReader(path) as reader:
        assert reader.counts()[SENTENCES].pending == 0
        assert reader.counts()[ALL].pending == 3


@pytest.mark.parametrize("vacuum", [False, True])
async def test_erasure_leaves_no_byte_and_blocks_what_comes_later(
    path: Path, tmp_path: Path, *, vacuum: bool
) -> None:
    """After erasing beside the owner no file holds the id or the text; a late draft is dropped."""
    canary = b"canary-7f3a"
    async with a_store(path) as store:
        for n in range(50):
            await store.submit(
                Commit(
                    [
                        a_draft("canary-conversation", f"canary-utt-{n}", payload=canary * 200),
                        a_draft("other", str(n)),
                    ],
                    {"canary-conversation": canary * 1000},
                )
            )
        (first, *_) = await store.pending(ALL, limit=1)
        await store.settle([settled(first.record, DeliveryState.ACKED)])
        with writing(path) as db:
            report = erase(db, "canary-conversation", at_us=1, vacuum=vacuum)
        assert (report.records, report.windows, report.undelivered) == (50, 1, 99)
        assert report.delivered == {ALL: 1}
        for file in tmp_path.iterdir():
            assert b"canary" not in file.read_bytes(), file.name
        late = await store.submit(
            Commit(
                [a_draft("canary-conversation", "late"), a_draft("other", "late")],
                {"canary-conversation": b"x"},
            )
        )
        assert [(r.conversation, r.seq) for r in late] == [("other", 51)]
        assert await store.windows() == {}
        for file in tmp_path.iterdir():
            assert b"canary" not in file.read_bytes(), file.name


async def test_the_log_is_folded_back_while_commits_flow(path: Path) -> None:
    """The write-ahead log stays bounded under load and is empty when idle."""
    settings = StoreSettings(ballast_bytes=0, checkpoint_records=200)
    async with a_store(path, settings) as store:
        wal = path.with_name(path.name + "-wal")
        sizes = []
        for n in range(150):
            await store.submit(
                Commit([a_draft(utterance=f"{n}-{m}", payload=b"x" * 500) for m in range(100)])
            )
            sizes.append(wal.stat().st_size)
        assert max(sizes) < path.stat().st_size // 2
        async with asyncio.timeout(10):
            while wal.stat().st_size:  # the idle owner's own second
                await asyncio.sleep(0.1)


async def test_files_are_for_their_owner_only(path: Path, tmp_path: Path) -> None:
    """Nobody else can read what is stored."""
    async with a_store(path) as store:
        await store.submit(Commit([a_draft()]))
        for file in tmp_path.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file.name


def test_every_setting_of_a_connection_is_in_effect(path: Path) -> None:
    """Durability and erasure rest on these."""
    db = connect(path)
    for name, value in (
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("foreign_keys", 1),
        ("secure_delete", 1),
        ("wal_autocheckpoint", 0),
        ("trusted_schema", 0),
    ):
        assert db.pragma(name) == value, name
    db.close()
