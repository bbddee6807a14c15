"""The SQLite store beside a model of it in a few lines, driven by Hypothesis."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from conformance.fuzz_examples import examples
from conformance.store_contract import ALL, DESTINATIONS, SENTENCES, a_draft, settled
from steno.adapters.store_sqlite import OutboxReader, SqliteStore, StoreSettings, erase, writing
from steno.core.records import Kind, Record
from steno.ports import Commit, DeliveryState

conversations = st.sampled_from(["", "a", "b", "c"])
drafts = st.builds(
    a_draft,
    conversations,
    st.sampled_from("123456"),
    revision=st.integers(0, 1),
    kind=st.sampled_from([Kind.SENTENCE, Kind.GAP]),
    payload=st.binary(max_size=20),
)
states = st.sampled_from(
    [DeliveryState.ACKED, DeliveryState.DEAD, DeliveryState.RETRY, DeliveryState.UNWANTED]
)


class StoreModel(RuleBasedStateMachine):
    """Commits, outcomes, windows, redrives, erasures and restarts, in any order."""

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
        commits=st.lists(st.lists(drafts, max_size=5), min_size=1, max_size=4),
        windows=st.dictionaries(conversations, st.one_of(st.none(), st.binary(max_size=9))),
    )
    def commit(self, commits, windows):  # type: ignore[no-untyped-def]  # Hypothesis' targets
        async def submit() -> list[list[Record]]:
            futures = [self.store.submit(Commit(drafts)) for drafts in commits]
            futures.append(self.store.submit(Commit((), windows)))
            return [await future for future in futures]

        given = [record for records in self.runner.run(submit()) for record in records]
        expected = []
        for draft in (draft for drafts in commits for draft in drafts):
            if draft.conversation in self.erased or (draft.key, draft.revision) in self.keys:
                continue
            self.keys.add((draft.key, draft.revision))
            self.seqs[draft.conversation] = self.seqs.get(draft.conversation, 0) + 1
            expected.append((draft.key, draft.revision, self.seqs[draft.conversation]))
        assert [(r.key, r.revision, r.seq) for r in given] == expected
        for record in given:
            self.stored[record.id] = record
            for destination, kinds in DESTINATIONS.items():
                wanted = DeliveryState.PENDING if record.kind in kinds else DeliveryState.UNWANTED
                self.states[destination][record.id] = wanted
        for key, sealed in windows.items():
            if sealed is None or key in self.erased:
                self.journal.pop(key, None)
            else:
                self.journal[key] = sealed
        return multiple(*given)

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
        for record_id in gone:
            record = self.stored.pop(record_id)
            self.keys.discard((record.key, record.revision))
            for destination in self.states.values():
                destination.pop(record_id, None)
        self.erased.add(conversation)
        self.journal.pop(conversation, None)

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


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(max_examples=examples(25), stateful_step_count=25, deadline=None)
