"""What every ``ports.RecordStore`` must do; an adapter's test class inherits it."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AbstractAsyncContextManager
from functools import partial

from steno.core.records import Draft, Kind, Origin, Record
from steno.delivery.ids import position_of
from steno.ports import Commit, DeliveryState, RecordStore, Settlement

ALL = "all"
SENTENCES = "sentences"
DESTINATIONS = {ALL: frozenset(Kind), SENTENCES: frozenset({Kind.SENTENCE})}


def a_draft(
    conversation: str = "c1",
    utterance: str = "u1",
    *,
    revision: int = 0,
    kind: Kind = Kind.SENTENCE,
    payload: bytes = b'{"text":"hello"}',
    received_s: float = 0.0,
) -> Draft:
    key = hashlib.sha256(f"{conversation}/{utterance}".encode()).hexdigest()
    return Draft(
        kind,
        "feed",
        conversation,
        "lane-1",
        utterance,
        revision,
        key,
        Origin.LIVE,
        1_700_000_000_000_000,
        payload,
        received_s,
    )


def settled(record: Record, state: DeliveryState, *, destination: str = ALL) -> Settlement:
    return Settlement(record.id, destination, state, 1, "Reason", 0)


def _tell(told: list[int], number: int, _: object) -> None:
    told.append(number)


class StoreContract:
    """Inherit and give ``opened``: an empty store with ``DESTINATIONS``, closed afterwards."""

    def opened(self) -> AbstractAsyncContextManager[RecordStore]:
        raise NotImplementedError

    async def test_a_commit_returns_its_records_as_they_were_given(self) -> None:
        """Every field of a draft is in its record, in memory and when read back."""
        async with self.opened() as store:
            draft = a_draft(revision=3, payload=bytes(range(256)), received_s=12.5)
            (record,) = await store.submit(Commit([draft]))
            for name in set(draft.__struct_fields__) - {"place_us"}:  # not the record's business
                assert getattr(record, name) == getattr(draft, name)
            (found,) = await store.pending(ALL, limit=10)
            for name in record.__struct_fields__:
                if name != "received_s":
                    assert getattr(found.record, name) == getattr(record, name)
            assert found.record.received_s == 0.0
            assert found.attempts == 0

    async def test_seq_counts_each_conversation_without_holes(self) -> None:
        """``seq`` runs from 1 in each conversation and ``prev_seq`` names the one before."""
        async with self.opened() as store:
            first = await store.submit(Commit([a_draft("a", "1"), a_draft("b", "1")]))
            second = await store.submit(Commit([a_draft("a", "2"), a_draft("b", "2")]))
            seqs = [(r.conversation, r.seq, r.prev_seq) for r in first + second]
            assert seqs == [("a", 1, 0), ("b", 1, 0), ("a", 2, 1), ("b", 2, 1)]

    async def test_a_repeated_key_and_revision_is_dropped(self) -> None:
        """Across commits, within one, and beside new ones; another revision is a new record."""
        async with self.opened() as store:
            await store.submit(Commit([a_draft(utterance="1")]))
            again = await store.submit(
                Commit(
                    [
                        a_draft(utterance="1"),
                        a_draft(utterance="2"),
                        a_draft(utterance="2"),
                        a_draft(utterance="1", revision=1),
                    ]
                )
            )
            assert [(r.utterance, r.revision, r.seq) for r in again] == [("2", 0, 2), ("1", 1, 3)]
            assert len(await store.pending(ALL, limit=10)) == 3

    async def test_ids_sort_in_the_order_of_commit(self) -> None:
        """An id is a UUIDv7: the text sorts as the records were committed."""
        async with self.opened() as store:
            futures = [store.submit(Commit([a_draft(utterance=str(n))])) for n in range(300)]
            ids = [(await future)[0].id for future in futures]
            assert ids == sorted(set(ids))
            assert {(i[14], i[19] in "89ab") for i in ids} == {("7", True)}

    async def test_futures_resolve_in_the_order_of_submission(self) -> None:
        """Whoever submitted first is told first."""
        async with self.opened() as store:
            told: list[int] = []
            futures = []
            for n in range(250):
                future = store.submit(Commit([a_draft(utterance=str(n))]))
                future.add_done_callback(partial(_tell, told, n))
                futures.append(future)
            await asyncio.gather(*futures)
            assert told == list(range(250))
            assert store.depth == 0

    async def test_the_callback_sees_all_new_records_in_commit_order(self) -> None:
        """``on_committed`` gives what the futures give, once, and no repeats."""
        async with self.opened() as store:
            seen: list[Record] = []
            store.on_committed(seen.extend)
            futures = [
                store.submit(Commit([a_draft(f"c{n % 3}", str(n % 40))])) for n in range(120)
            ]
            given = [r for future in futures for r in await future]
            assert seen == given
            assert len(given) == 120  # c{n % 3} and n % 40 repeat together after 120

    async def test_only_wanted_kinds_are_pending(self) -> None:
        """A kind a destination does not carry never waits there."""
        async with self.opened() as store:
            await store.submit(
                Commit([a_draft(utterance="1"), a_draft(utterance="2", kind=Kind.GAP)])
            )
            assert len(await store.pending(ALL, limit=10)) == 2
            assert [p.record.utterance for p in await store.pending(SENTENCES, limit=10)] == ["1"]

    async def test_settled_records_leave_only_their_destination(self) -> None:
        """Acked, dead and unwanted are over; retry waits with its attempts and time."""
        async with self.opened() as store:
            records = await store.submit(Commit([a_draft(utterance=str(n)) for n in range(4)]))
            states = [
                DeliveryState.ACKED,
                DeliveryState.DEAD,
                DeliveryState.UNWANTED,
                DeliveryState.RETRY,
            ]
            await store.settle(
                [
                    Settlement(r.id, ALL, state, 7, "Reason", 99)
                    for r, state in zip(records, states, strict=True)
                ]
            )
            (left,) = await store.pending(ALL, limit=10)
            assert (left.record.utterance, left.attempts, left.next_at_us) == ("3", 7, 99)
            assert len(await store.pending(SENTENCES, limit=10)) == 4

    async def test_pending_pages_go_on_behind_a_position(self) -> None:
        """Pages are in commit order, without overlap, and a short one is the last."""
        async with self.opened() as store:
            given = await store.submit(Commit([a_draft(utterance=str(n)) for n in range(25)]))
            found: list[Record] = []
            after = 0
            while page := await store.pending(ALL, limit=10, after=after):
                found += [p.record for p in page]
                after = position_of(page[-1].record.id)
            assert [r.id for r in found] == [r.id for r in given]

    async def test_windows_are_kept_replaced_and_deleted_with_their_commit(self) -> None:
        """The journal holds the latest snapshot of each key."""
        async with self.opened() as store:
            await store.submit(Commit(windows={"a": b"1", "b": b"1"}))
            await store.submit(Commit([a_draft()], {"a": b"2"}))
            assert await store.windows() == {"a": b"2", "b": b"1"}
            store.submit(Commit(windows={"a": b"3"}))
            await store.submit(Commit(windows={"a": None, "b": b"4"}))
            assert await store.windows() == {"b": b"4"}

    async def test_an_empty_commit_is_nothing(self) -> None:
        """It resolves to no records."""
        async with self.opened() as store:
            assert await store.submit(Commit()) == []

    async def test_the_empty_conversation_is_one_like_any_other(self) -> None:
        """Records about a whole source have an order of their own."""
        async with self.opened() as store:
            records = await store.submit(
                Commit([a_draft("", "1", kind=Kind.GAP), a_draft("", "2", kind=Kind.GAP)])
            )
            assert [r.seq for r in records] == [1, 2]
