"""What the store tells of gaps and conversations: newest revisions, live sources, whole or not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from steno.adapters.store_sqlite import SqliteStore, StoreSettings, writing
from steno.adapters.store_sqlite.history import PAGE, HistoryReader
from steno.core.records import Draft, GapCause, GapPayload, Kind, Origin, record_key
from steno.errors import IntegrityError, ObjectMissing
from steno.ports import Commit, KnownGap

LIVE = ("transcript-stream", "notifications")
MS = 1_700_000_000_000
encode = msgspec.json.encode


def draft(
    utterance: str,
    *,
    conversation: str = "c",
    kind: Kind = Kind.SENTENCE,
    source: str = LIVE[0],
    revision: int = 0,
    origin: Origin = Origin.LIVE,
    payload: object = None,
) -> Draft:
    """Return a draft of this name."""
    key = record_key("host", conversation, "lane", utterance)
    return Draft(kind, source, conversation, "lane", utterance, revision, key, origin, 1,
                 encode(payload or {}))  # fmt: skip


def gap(utterance: str, to_us: int, *, revision: int = 0, source: str = LIVE[0]) -> Draft:
    """Return a revision of a gap."""
    payload = GapPayload(source, GapCause.DISCONNECT, 5, 5, to_us, to_us, "c")
    return draft(utterance, kind=Kind.GAP, revision=revision, source=source, payload=payload)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "steno.db"


@pytest.fixture
def clock() -> list[int]:
    """Microseconds, to be set."""
    return [MS * 1000]


async def stored(path: Path, clock: list[int], *commits: list[Draft]) -> None:
    """Store each commit a second after the one before."""
    store = SqliteStore.open(
        path, {}, StoreSettings(ballast_bytes=0), now_us=lambda: clock[0], crash_at=""
    )
    store.start()
    for drafts in commits:
        await store.submit(Commit(drafts))
        clock[0] += 1_000_000
    await store.close()


async def test_every_revision_of_every_live_gap_is_told(path: Path, clock: list[int]) -> None:
    """In the order of commit, more than a page of them, those of call audio left out."""
    many = [gap(f"g{n}", 9) for n in range(PAGE + 3)]
    audio = gap("media", 9, source="media")
    await stored(path, clock, [gap("a", 0), audio], [gap("a", 7, revision=1)], many)
    with HistoryReader(path, LIVE) as history:
        found = list(history.gaps())
    key = record_key("host", "c", "lane", "a")
    assert found[:2] == [
        KnownGap(key, "c", "disconnect", 5, 0, MS * 1000),
        KnownGap(key, "c", "disconnect", 5, 7, (MS + 1000) * 1000),
    ]
    assert len(found) == 2 + PAGE + 3


async def test_a_conversation_has_its_newest_sentences(path: Path, clock: list[int]) -> None:
    """What was filled in is told by its keys; other kinds, sources and conversations are not."""
    await stored(
        path,
        clock,
        [draft("1"), draft("2"), draft("3", source="media"), draft("1", conversation="d")],
        [draft("1", revision=1), draft("b", origin=Origin.BACKFILL)],
        [draft("r", kind=Kind.RECONCILED), draft("r", kind=Kind.RECONCILED, revision=1)],
    )
    with HistoryReader(path, LIVE) as history:
        found = history.delivered("c")
        nobody = history.delivered("nobody")
    assert [(one.utterance, one.revision) for one in found.sentences] == [("1", 1), ("2", 0)]
    assert [one.utterance for one in found.backfilled] == ["b"]
    assert found.reconciled is not None
    assert found.reconciled.revision == 1
    assert found.whole
    assert found.last_us == (MS + 1000) * 1000
    assert found.reconciled_us == (MS + 2000) * 1000
    assert (nobody.sentences, nobody.whole, nobody.last_us) == ((), True, 0)


async def test_who_was_heard_in_a_time_is_told_once(path: Path, clock: list[int]) -> None:
    """By when sentences were stored, to the millisecond."""
    await stored(
        path,
        clock,
        [draft("1", conversation="early")],
        [draft("1"), draft("2"), draft("1", conversation="other", source="media")],
        [draft("1", conversation="late")],
    )
    at_us = (MS + 1000) * 1000
    with HistoryReader(path, LIVE) as history:
        assert history.heard(at_us, at_us) == ["c"]
        assert history.heard(at_us - 1_000_000, at_us + 1_000_000) == ["c", "early", "late"]
        assert history.heard(0, 1) == []


async def test_a_conversation_with_a_deleted_record_is_not_whole(
    path: Path, clock: list[int]
) -> None:
    """Nobody can tell what else was delivered."""
    await stored(path, clock, [draft("1"), draft("2")])
    with writing(path) as db:
        db.execute("DELETE FROM records WHERE position = (SELECT min(position) FROM records)")
    with HistoryReader(path, LIVE) as history:
        assert not history.delivered("c").whole


async def test_a_damaged_gap_is_told_without_its_content(path: Path, clock: list[int]) -> None:
    """By class only."""
    await stored(path, clock, [draft("g", kind=Kind.GAP, payload={"from_us": "415-555-0142"})])
    with HistoryReader(path, LIVE) as history, pytest.raises(IntegrityError) as caught:
        list(history.gaps())
    assert "415" not in str(caught.value)


def test_without_a_store_there_is_no_history(path: Path) -> None:
    """An error of ours."""
    with pytest.raises(ObjectMissing):
        HistoryReader(path, LIVE)
