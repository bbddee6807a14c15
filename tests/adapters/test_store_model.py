"""The SQLite store beside a model of it in a few lines, driven by Hypothesis."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from conformance.fuzz_examples import examples
from conformance.store_contract import ALL, DESTINATIONS, SENTENCES, a_draft, settled
from steno.adapters.store_sqlite import (
    OutboxReader,
    SqliteStore,
    StoreSettings,
    TimelineReader,
    erase,
    writing,
)
from steno.core.records import Draft, Kind, Record
from steno.ports import Commit, DeliveryState

conversations = st.sampled_from(["", "a", "b", "c"])
kinds = st.sampled_from([Kind.SENTENCE, Kind.GAP])


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """Whether a draft has a place is decided by its key and revision, as in the pipelines."""
    utterance, revision = draw(st.sampled_from("123456")), draw(st.integers(0, 3))
    has_place = utterance in "123" or (utterance == "4" and revision != 2)
    return a_draft(
        draw(conversations),
        utterance,
        revision=revision,
        kind=draw(kinds),
        payload=draw(st.binary(max_size=20)),
        place_us=draw(st.integers(-2, 2)) if has_place else None,
    )


class Head:
    """What the model knows of a key that is, or was, on a timeline."""

    def __init__(self, revision: int, record_id: str, place_us: int | None) -> None:
        self.revision = revision
        self.record_id = record_id
        self.place_us = place_us


states = st.sampled_from(
    [DeliveryState.ACKED, DeliveryState.DEAD, DeliveryState.RETRY, DeliveryState.UNWANTED]
)


class StoreModel(RuleBasedStateMachine):
    """Commits, outcomes, windows, redrives, retention, erasures and restarts, in any order."""

    records = Bundle("records")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "steno.db"
        self.stored: dict[str, Record] = {}
        self.keys: set[tuple[str, int]] = set()
        self.seqs: dict[str, int] = {}
        self.states: dict[str, dict[str, DeliveryState]] = {ALL: {}, SENTENCES: {}}
        self.journal: dict[str, bytes] = {}
        self.erased: set[str] = set()
        self.heads: dict[tuple[str, str], Head] = {}
        self._open()

    def _open(self) -> None:
        async def start() -> SqliteStore:
            store = SqliteStore.open(
                self.path, DESTINATIONS, StoreSettings(ballast_bytes=0), crash_at=""
            )
            store.start()
            return store

        self.store = self.runner.run(start())

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()

    @rule(
        target=records,
        commits=st.lists(st.lists(drafts(), max_size=5), min_size=1, max_size=4),
        windows=st.dictionaries(conversations, st.one_of(st.none(), st.binary(max_size=9))),
    )
    def commit(self, commits, windows):  # type: ignore[no-untyped-def]  # Hypothesis' targets
        async def submit() -> list[list[Record]]:
            futures = [self.store.submit(Commit(drafts)) for drafts in commits]
            futures.append(self.store.submit(Commit((), windows)))
            return [await future for future in futures]

        given = [record for records in self.runner.run(submit()) for record in records]
        expected = []
        new = []
        for draft in (draft for drafts in commits for draft in drafts):
            if draft.conversation in self.erased or (draft.key, draft.revision) in self.keys:
                continue
            self.keys.add((draft.key, draft.revision))
            self.seqs[draft.conversation] = self.seqs.get(draft.conversation, 0) + 1
            expected.append((draft.key, draft.revision, self.seqs[draft.conversation]))
            new.append(draft)
        assert [(r.key, r.revision, r.seq) for r in given] == expected
        for record, draft in zip(given, new, strict=True):
            self.stored[record.id] = record
            self._place(draft, record.id)
            for destination, kinds in DESTINATIONS.items():
                wanted = DeliveryState.PENDING if record.kind in kinds else DeliveryState.UNWANTED
                self.states[destination][record.id] = wanted
        for key, sealed in windows.items():
            if sealed is None or key in self.erased:
                self.journal.pop(key, None)
            else:
                self.journal[key] = sealed
        return multiple(*given)

    def _place(self, draft: Draft, record_id: str) -> None:
        head = self.heads.get((draft.conversation, draft.key))
        if head is not None and draft.revision <= head.revision:
            return
        if draft.place_us is not None:
            self.heads[(draft.conversation, draft.key)] = Head(
                draft.revision, record_id, draft.place_us
            )
        elif head is not None:
            head.revision, head.place_us = draft.revision, None

    @rule(record=records, destination=st.sampled_from([ALL, SENTENCES]), state=states)
    def settle(self, record: Record, destination: str, state: DeliveryState) -> None:
        async def settle() -> None:
            await self.store.settle([settled(record, state, destination=destination)])

        self.runner.run(settle())
        now = self.states[destination].get(record.id)
        if now in (DeliveryState.PENDING, DeliveryState.RETRY):
            self.states[destination][record.id] = state

    @rule(destination=st.sampled_from([ALL, SENTENCES]))
    def redrive(self, destination: str) -> None:
        count = self.runner.run(self.store.redrive(destination=destination))
        dead = [i for i, s in self.states[destination].items() if s is DeliveryState.DEAD]
        assert count == len(dead)
        for record_id in dead:
            self.states[destination][record_id] = DeliveryState.PENDING

    @rule(conversation=conversations, beside=st.booleans())
    def erase(self, conversation: str, *, beside: bool) -> None:
        if beside:
            with writing(self.path) as db:
                report = erase(db, conversation, at_us=1)
        else:
            report = self.runner.run(self.store.erase(conversation))
        gone = [i for i, r in self.stored.items() if r.conversation == conversation]
        assert report.records == len(gone)
        self._remove(gone)
        self.heads = {n: head for n, head in self.heads.items() if n[0] != conversation}
        self.erased.add(conversation)
        self.journal.pop(conversation, None)

    def _remove(self, gone: list[str]) -> None:
        for record_id in gone:
            record = self.stored.pop(record_id)
            self.keys.discard((record.key, record.revision))
            for destination in self.states.values():
                destination.pop(record_id, None)

    def _settled(self, record_id: str, *, dead: bool) -> bool:
        waiting = {DeliveryState.PENDING, DeliveryState.RETRY}
        if not dead:
            waiting.add(DeliveryState.DEAD)
        return all(known[record_id] not in waiting for known in self.states.values())

    def _forget_empty(self) -> None:
        left = {r.conversation for r in self.stored.values()} | set(self.journal)
        self.seqs = {c: seq for c, seq in self.seqs.items() if c in left}

    @rule()
    def retain(self) -> None:
        later_us = time.time_ns() // 1000 + 10**9
        on_timeline = {head.record_id for head in self.heads.values()}
        gone = [i for i in self.stored if i not in on_timeline and self._settled(i, dead=False)]
        count = self.runner.run(self.store.retain(acked_before_us=later_us, dead_before_us=0))
        assert count == (len(gone), 0)
        self._remove(gone)
        self._forget_empty()

    @rule()
    def retain_timeline(self) -> None:
        waits = {r.conversation for i, r in self.stored.items() if not self._settled(i, dead=True)}
        over = {n: head for n, head in self.heads.items() if n[0] not in waits}
        later_us = time.time_ns() // 1000 + 10**9
        assert self.runner.run(self.store.retain_timeline(later_us)) == len(over)
        self._remove([head.record_id for head in over.values()])
        self.heads = {n: head for n, head in self.heads.items() if n not in over}
        self._forget_empty()

    @rule()
    def restart(self) -> None:
        self.runner.run(self.store.close())
        self._open()
        assert self.store.report.clean_shutdown
        assert self.store.report.records == len(self.stored)

    @invariant()
    def both_agree(self) -> None:
        with OutboxReader(self.path) as reader:
            found = reader.records()
            entries = reader.entries(limit=10_000)
        assert [r.id for r in found] == sorted(self.stored)
        assert all(
            r == Record(*(getattr(self.stored[r.id], n) for n in r.__struct_fields__[:-1]))
            for r in found
        )
        assert {(e.destination, e.id): e.state for e in entries} == {
            (destination, record_id): state
            for destination, known in self.states.items()
            for record_id, state in known.items()
        }
        assert self.runner.run(self.store.windows()) == self.journal

    @invariant()
    def timelines_agree(self) -> None:
        placed = [
            (self.stored[head.record_id], head.place_us)
            for head in self.heads.values()
            if head.place_us is not None
        ]
        with TimelineReader(self.path) as timeline:
            for kind in (Kind.SENTENCE, Kind.GAP):
                expected: dict[str, list[str]] = {}
                for record, _ in sorted(
                    ((r, p) for r, p in placed if r.kind is kind),
                    key=lambda each: (each[0].conversation, each[1], each[0].id),
                ):
                    expected.setdefault(record.conversation, []).append(record.id)
                found = {c: [r.id for r in timeline.read(c, kind)] for c in ("", "a", "b", "c")}
                assert {c: ids for c, ids in found.items() if ids} == expected
                listed = [(c.conversation, c.records) for c in timeline.conversations(kind)]
                assert listed == [(c, len(ids)) for c, ids in expected.items()]
            for (conversation, key), head in self.heads.items():
                latest = timeline.latest(conversation, key)
                assert (latest and latest.id) == (None if head.place_us is None else head.record_id)


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(max_examples=examples(25), stateful_step_count=25, deadline=None)
