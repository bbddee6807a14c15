"""What every ``ports.RecordStore`` must do; an adapter's test class inherits it."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from itertools import permutations

from steno.core.records import Draft, Kind, Origin, Record
from steno.delivery.ids import position_of, position_us
from steno.ports import Commit, DeliveryState, RecordStore, Settlement, Timeline

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
    place_us: int | None = None,
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
        place_us,
    )


def settled(record: Record, state: DeliveryState, *, destination: str = ALL) -> Settlement:
    return Settlement(record.id, destination, state, 1, "Reason", 0)


def a_segment(
    conversation: str = "c1",
    utterance: str = "u1",
    place_us: int | None = 0,
    *,
    revision: int = 0,
    kind: Kind = Kind.SEGMENT,
) -> Draft:
    return a_draft(conversation, utterance, revision=revision, kind=kind, place_us=place_us)


def names(timeline: Timeline, conversation: str = "c1", kind: Kind = Kind.SEGMENT) -> list[str]:
    """Return a timeline as ``utterance.revision``."""
    return [f"{r.utterance}.{r.revision}" for r in timeline.read(conversation, kind)]


def _tell(told: list[int], number: int, _: object) -> None:
    told.append(number)


class StoreContract:
    """Inherit and give ``opened``: an empty store with ``DESTINATIONS``, closed afterwards.

    ``timeline`` reads the store that ``opened`` has given, beside it.
    """

    def opened(self) -> AbstractAsyncContextManager[RecordStore]:
        raise NotImplementedError

    def timeline(self) -> AbstractContextManager[Timeline]:
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

    # --- the timeline --------------------------------------------------------------------

    async def test_the_timeline_is_by_place_then_by_order_of_commit(self) -> None:
        """Any place of 64 bits; of one place what was committed first comes first."""
        places = [5, -7, 0, 5, (1 << 63) - 1, -(1 << 63), 5, 0]
        async with self.opened() as store:
            for n, place_us in enumerate(places):
                await store.submit(Commit([a_segment("c1", str(n), place_us), a_segment("c2")]))
            with self.timeline() as timeline:
                assert names(timeline) == [f"{n}.0" for n in (5, 1, 2, 7, 0, 3, 6, 4)]

    async def test_only_what_has_a_place_is_on_the_timeline_of_its_kind(self) -> None:
        """Kinds and conversations have timelines of their own."""
        async with self.opened() as store:
            await store.submit(
                Commit(
                    [
                        a_segment("c1", "1", 1),
                        a_segment("c1", "2", None),
                        a_segment("c1", "3", 1, kind=Kind.SEGMENT_AUDIT),
                        a_segment("c2", "4", 1),
                        a_segment("", "5", 1),
                        a_draft("c3", "6"),
                    ]
                )
            )
            with self.timeline() as timeline:
                assert names(timeline) == ["1.0"]
                assert names(timeline, kind=Kind.SEGMENT_AUDIT) == ["3.0"]
                assert names(timeline, "") == ["5.0"]
                assert names(timeline, "c3") == names(timeline, "nowhere") == []
                assert [c.conversation for c in timeline.conversations(Kind.SEGMENT)] == [
                    "", "c1", "c2",
                ]  # fmt: skip

    async def test_a_timeline_gives_records_whole(self) -> None:
        """As the commit returned them, but for the time of receipt."""
        async with self.opened() as store:
            draft = a_draft(kind=Kind.SEGMENT, payload=bytes(range(256)), place_us=4)
            (record,) = await store.submit(Commit([draft]))
            with self.timeline() as timeline:
                assert list(timeline.read("c1", Kind.SEGMENT)) == [record]
                assert timeline.latest("c1", draft.key) == record

    async def test_the_newest_revision_is_on_the_timeline_whatever_the_order(self) -> None:
        """In one commit or in many, with holes, at another place: the highest one counts."""
        async with self.opened() as store:
            expected: dict[str, list[str]] = {}
            for n, order in enumerate(permutations((0, 1, 2, 40))):
                drafts = [
                    a_segment(f"c{n}{split}", "u", -revision, revision=revision)
                    for split in "sm"
                    for revision in order
                ]
                await store.submit(Commit(drafts[:4]))
                for draft in drafts[4:]:
                    await store.submit(Commit([draft]))
                expected |= {f"c{n}s": ["u.40"], f"c{n}m": ["u.40"]}
            with self.timeline() as timeline:
                assert {c: names(timeline, c) for c in expected} == expected
                assert {c.records for c in timeline.conversations(Kind.SEGMENT)} == {1}

    async def test_a_revision_of_another_kind_moves_the_key_there(self) -> None:
        """A segment that ends in the audit is not in the result any more."""
        async with self.opened() as store:
            await store.submit(Commit([a_segment("c1", "u", 1)]))
            await store.submit(
                Commit([a_segment("c1", "u", 1, revision=1, kind=Kind.SEGMENT_AUDIT)])
            )
            with self.timeline() as timeline:
                assert names(timeline) == []
                assert names(timeline, kind=Kind.SEGMENT_AUDIT) == ["u.1"]

    async def test_a_revision_without_a_place_takes_the_key_off(self) -> None:
        """Not even an older one that comes late brings it back; a newer one does."""
        async with self.opened() as store:
            steps: list[tuple[int, int | None, list[str]]] = [
                (0, 7, ["u.0"]),
                (3, None, []),
                (2, 7, []),
                (5, None, []),
                (4, 7, []),
                (6, 7, ["u.6"]),
            ]
            for together in (False, True):
                name = f"c{together}"
                drafts = [a_segment(name, "u", p, revision=r) for r, p, _ in steps]
                if together:
                    await store.submit(Commit(drafts[:-1]))
                    with self.timeline() as timeline:
                        assert names(timeline, name) == []
                    await store.submit(Commit(drafts))
                    drafts = []
                for draft, (_, _, expected) in zip(drafts, steps, strict=False):
                    await store.submit(Commit([draft]))
                    with self.timeline() as timeline:
                        assert names(timeline, name) == expected
                        assert timeline.latest(name, draft.key) == (
                            next(timeline.read(name, Kind.SEGMENT)) if expected else None
                        )
            with self.timeline() as timeline:
                assert names(timeline, "cTrue") == ["u.6"]

    async def test_a_repeat_changes_nothing_on_the_timeline(self) -> None:
        """Nor does it when it comes with another place."""
        async with self.opened() as store:
            await store.submit(
                Commit([a_segment("c1", "a", 1), a_segment("c1", "b", 2, revision=3)])
            )
            for _ in range(2):
                again = await store.submit(
                    Commit(
                        [
                            a_segment("c1", "a", 9),
                            a_segment("c1", "b", 0, revision=3),
                            a_segment("c1", "c", 5),
                        ]
                    )
                )
            assert again == []
            with self.timeline() as timeline:
                assert names(timeline) == ["a.0", "b.3", "c.0"]

    async def test_every_revision_stays_a_record_to_deliver(self) -> None:
        """The timeline decides nothing about delivery."""
        async with self.opened() as store:
            for revision in (1, 0, 2):
                await store.submit(Commit([a_segment("c1", "u", 5, revision=revision)]))
            assert [p.record.revision for p in await store.pending(ALL, limit=9)] == [1, 0, 2]

    async def test_a_long_timeline_is_read_whole(self) -> None:
        """More than a page, with more than a page at one place, each record once."""
        async with self.opened() as store:
            places = [3] * 1200 + [n % 700 for n in range(1400)]
            await store.submit(
                Commit([a_segment("c1", str(n), place) for n, place in enumerate(places)])
            )
            expected = sorted(range(len(places)), key=lambda n: (places[n], n))
            with self.timeline() as timeline:
                assert names(timeline) == [f"{n}.0" for n in expected]

    async def test_conversations_are_listed_by_name_with_counts_and_times(self) -> None:
        """More than a page of them; of a kind; one alone; and those with news since a time."""
        async with self.opened() as store:
            await store.submit(
                Commit([a_segment(f"c{n:04}", str(m)) for m in range(2) for n in range(1100)])
            )
            await asyncio.sleep(0.01)
            (new,) = await store.submit(Commit([a_segment("c0007", "new")]))
            (other,) = await store.submit(
                Commit([a_segment("c0008", "x", kind=Kind.SEGMENT_AUDIT)])
            )
            since_us = position_us(position_of(new.id))
            with self.timeline() as timeline:
                found = list(timeline.conversations(Kind.SEGMENT))
                assert [c.conversation for c in found] == [f"c{n:04}" for n in range(1100)]
                assert [c.records for c in found[6:9]] == [2, 3, 2]
                assert found[7].first_at_us == found[8].first_at_us < found[7].last_at_us
                assert found[7].last_at_us == since_us
                assert list(timeline.conversations(Kind.SEGMENT, since_us=since_us)) == [found[7]]
                assert list(timeline.conversations(Kind.SEGMENT, conversation="c0008")) == [
                    found[8]
                ]
                assert list(timeline.conversations(Kind.SEGMENT, conversation="c")) == []
                since_us = position_us(position_of(other.id)) + 1000
                assert list(timeline.conversations(Kind.SEGMENT, since_us=since_us)) == []
                (audit,) = timeline.conversations(Kind.SEGMENT_AUDIT)
                assert (audit.conversation, audit.records) == ("c0008", 1)

    async def test_a_conversation_is_known_by_any_record(self) -> None:
        """On its timeline or not; an open window is none."""
        async with self.opened() as store:
            await store.submit(Commit([a_draft("a"), a_segment("b")], {"c": b"window"}))
            with self.timeline() as timeline:
                assert [timeline.knows(c) for c in "abcd"] == [True, True, False, False]
                assert timeline.latest("a", a_draft("a").key) is None  # it has no place
                assert timeline.latest("b", a_draft("a").key) is None
                assert timeline.latest("d", a_draft("a").key) is None
