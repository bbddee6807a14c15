"""Repair from a simulated platform: which conversations, what is filled in, what is counted."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite import OutboxReader, SqliteStore, StoreSettings, erase, writing
from steno.app.platform import utc_us
from steno.app.repair import Repaired, Wanted, repair
from steno.archive.repair import Outcome, Result
from steno.config import load
from steno.core.records import (
    Draft,
    GapCause,
    GapPayload,
    Kind,
    Origin,
    ReconciledPayload,
    Record,
    SentencePayload,
    record_key,
)
from steno.core.secret import Secret
from steno.errors import StorageError
from steno.observability import LogTelemetry
from steno.ports import Commit
from steno_sim.archive.said import StoredTurn
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.server import Simulator

FAMILIES = ("tutorial", "genesys-cloud")
PLAIN = ArchiveSettings(turns=(40, 60), secrets=False, unknown=0.0)
PURPOSES = {"agent": "internal", "customer": "external", "system": "ivr"}
NAME = str(uuid.uuid5(uuid.NAMESPACE_DNS, "a call"))
OTHER = str(uuid.uuid5(uuid.NAMESPACE_DNS, "another call"))

encode = msgspec.json.encode


class Run:
    """A state directory with what live delivery is to have stored, and a platform."""

    def __init__(self, folder: Path, sim: Simulator, family: str = "tutorial") -> None:
        self.folder = folder
        self.sim = sim
        self.family = family
        self.state = StateDir(folder / "state")
        self.state.prepare()
        self.source = "notifications" if family == "genesys-cloud" else "transcript-stream"
        self.results: list[Result] = []
        self._number = 0

    def config(self, queues: tuple[str, ...]) -> Any:  # Any: Config
        """Return settings of a run."""
        overrides: dict[str, object] = {
            "platform.host": self.sim.url,
            "platform.family": self.family,
            "platform.client_id": "steno-demo",
            "platform.client_secret": Secret("steno-demo-secret"),
            "state_dir": self.state.root,
            "archive.per_minute": 60_000.0,
            "archive.poll_s": 0.02,
            "archive.poll_limit_s": 0.1,
            "live.queues": queues,
        }
        return load(None, {"HOME": str(self.folder)}, overrides)

    async def repair(
        self, wanted: Wanted | None = None, *, queues: tuple[str, ...] = ()
    ) -> Repaired:
        """Repair."""
        self.results.clear()
        return await repair(
            self.config(queues),
            wanted or Wanted(),
            stop=asyncio.Event(),
            telemetry=LogTelemetry(level="error"),
            on_result=self.results.append,
        )

    @property
    def result(self) -> Result:
        """The only result."""
        (result,) = self.results
        return result

    def turns(self, name: str = NAME) -> list[StoredTurn]:
        """Return what a conversation's transcript says."""
        shape = "document" if self.family == "tutorial" else "platform"
        return self.sim.archive.truth(name, shape)[0].turns  # type: ignore[arg-type]

    def lane(self, turn: StoredTurn, name: str = NAME) -> str:
        """Return who speaks, as live delivery names them."""
        if self.family == "tutorial":
            return turn.speaker
        communication = self.sim.archive.truth(name, "platform")[0].communication
        return f"{communication}/{PURPOSES[turn.role]}"

    def sentence(self, turn: StoredTurn, name: str = NAME, text: str = "") -> Draft:
        """Return a turn as live delivery would have stored it."""
        self._number += 1
        begin_us = turn.at_ms * 1000
        end_us = begin_us + (turn.end_ms - turn.start_ms) * 1000
        lane = self.lane(turn, name)
        payload = SentencePayload(
            lane, text or turn.text, "en-US", 0.9, begin_us, end_us, end_us, "unknown"
        )
        utterance = f"{self._number}"
        key = record_key(self.sim.host, name, lane, utterance)
        return Draft(Kind.SENTENCE, self.source, name, lane, utterance, 0, key, Origin.LIVE,
                     end_us, encode(payload))  # fmt: skip

    def gap(
        self,
        from_us: int,
        to_us: int,
        *,
        name: str = "",
        cause: GapCause = GapCause.DISCONNECT,
        source: str = "",
    ) -> Draft:
        """Return a gap as live delivery would have stored it."""
        self._number += 1
        source = source or self.source
        payload = GapPayload(source, cause, from_us, to_us, to_us, to_us, name)
        utterance = f"gap.{self._number}"
        key = record_key(self.sim.host, name, "", utterance)
        return Draft(Kind.GAP, source, name, "", utterance, 0, key, Origin.LIVE, to_us,
                     encode(payload))  # fmt: skip

    async def store(self, drafts: Sequence[Draft], *, now_us: Callable[[], int] = utc_us) -> None:
        """Store records."""
        store = SqliteStore.open(
            self.state.database, {}, StoreSettings(ballast_bytes=0), now_us=now_us, crash_at=""
        )
        store.start()
        await store.submit(Commit(drafts))
        await store.close()

    async def live(self, lost: set[int], *, name: str = NAME, gap: tuple[int, int]) -> None:
        """Store a conversation without some of its turns, and its gap from one turn to another."""
        turns = self.turns(name)
        heard = [self.sentence(t, name) for n, t in enumerate(turns) if n not in lost]
        end_us = turns[gap[1]].at_ms * 1000 + 3_000_000
        # As if it had been stored when it was said.
        at_us = turns[-1].at_ms * 1000
        await self.store(
            [*heard, self.gap(turns[gap[0]].at_ms * 1000, end_us, name=name)], now_us=lambda: at_us
        )

    def records(self, kind: Kind, name: str | None = None) -> list[Record]:
        """Return what is stored."""
        with OutboxReader(self.state.database) as reader:
            return reader.records(name, kind=kind, limit=10_000)

    def filled(self) -> list[SentencePayload]:
        """Return the sentences that were filled in."""
        return [
            msgspec.json.decode(one.payload, type=SentencePayload)
            for one in self.records(Kind.SENTENCE)
            if one.origin is Origin.BACKFILL
        ]

    def counts(self, name: str = NAME) -> ReconciledPayload:
        """Return the newest reconciliation of a conversation."""
        record = max(self.records(Kind.RECONCILED, name), key=lambda one: one.revision)
        return msgspec.json.decode(record.payload, type=ReconciledPayload)


def words(text: str) -> list[str]:
    """Return a text's words without case and signs."""
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


@pytest.mark.parametrize("family", FAMILIES)
async def test_exactly_what_the_gap_cost_is_filled_in(tmp_path: Path, family: str) -> None:
    """As live delivery names lanes, with the transcript's text, roles and times."""
    async with Simulator("quiet", archive=PLAIN) as sim:
        run = Run(tmp_path, sim, family)
        await run.live({12, 13, 14, 20}, gap=(12, 20))
        done = await run.repair()
        assert done.is_whole
        assert run.result.outcome is Outcome.REPAIRED
        turns = run.turns()
        filled = run.filled()
        assert [words(one.text) for one in filled] == [
            words(turns[n].text) for n in (12, 13, 14, 20)
        ]
        assert [one.participant for one in filled] == [run.lane(turns[n]) for n in (12, 13, 14, 20)]
        assert [one.role for one in filled] == [turns[n].role for n in (12, 13, 14, 20)]
        for one, n in zip(filled, (12, 13, 14, 20), strict=True):
            assert abs(one.started_us - turns[n].at_ms * 1000) < 1_000_000
        count = len(turns)
        assert run.counts() == ReconciledPayload(count, count - 4, 4, 0, 1.0, gaps=1)


async def test_what_no_gap_explains_is_counted_and_left(tmp_path: Path) -> None:
    """Unless everything is asked for; then the reconciliation has a new revision."""
    async with Simulator("quiet", archive=PLAIN) as sim:
        run = Run(tmp_path, sim)
        await run.live({1, 35}, gap=(1, 1))
        done = await run.repair()
        assert not done.is_whole
        assert run.result.outcome is Outcome.PARTLY
        counts = run.counts()
        assert (counts.backfilled, counts.missing, counts.outside) == (1, 1, 1)
        assert len(run.filled()) == 1
        done = await run.repair(Wanted(everything=True))
        assert done.is_whole
        assert len(run.filled()) == 2
        counts = run.counts()
        assert (counts.backfilled, counts.missing, counts.ratio) == (2, 0, 1.0)
        assert [one.revision for one in run.records(Kind.RECONCILED)] == [0, 1]


async def test_a_gap_of_the_whole_source_concerns_who_was_heard_around_it(tmp_path: Path) -> None:
    """And nobody else: a conversation that was over long before is not asked for."""
    async with Simulator("quiet", archive=PLAIN) as sim:
        run = Run(tmp_path, sim)
        for name in sorted((NAME, OTHER), key=lambda one: run.turns(one)[-1].at_ms):
            turns = run.turns(name)
            lost = {20, 21} if name == NAME else {5}
            at_us = turns[-1].at_ms * 1000
            heard = [run.sentence(t, name) for n, t in enumerate(turns) if n not in lost]
            await run.store(heard, now_us=lambda at_us=at_us: at_us)  # type: ignore[misc]
        turns = run.turns()
        span = (turns[20].at_ms * 1000, turns[21].at_ms * 1000 + 3_000_000)
        await run.store([run.gap(*span)])
        await run.repair()
        assert run.result.conversation == NAME
        assert run.result.filled == 2


async def test_a_transcript_that_is_not_ready_is_left_for_the_next_run(tmp_path: Path) -> None:
    """Nothing is stored; the next run has it."""
    slow = msgspec.structs.replace(PLAIN, processing_s=(1.0, 1.0))
    async with Simulator("quiet", archive=slow) as sim:
        run = Run(tmp_path, sim)
        await run.live({3}, gap=(3, 3))
        done = await run.repair()
        assert not done.is_whole
        assert run.result.outcome is Outcome.IN_WORK
        assert not run.records(Kind.RECONCILED)
        await asyncio.sleep(1.0)
        assert (await run.repair()).is_whole
        assert len(run.filled()) == 1


async def test_a_transcript_that_lacks_a_segment_still_fills_the_rest(tmp_path: Path) -> None:
    """What was heard live and is not in it is no matter; nothing heard is taken back."""
    async with Simulator("quiet", archive=PLAIN) as sim:
        run = Run(tmp_path, sim)
        turns = run.turns()
        extra = run.sentence(turns[9], text="words that the transcript does not have at all")
        at_us = turns[-1].at_ms * 1000
        await run.store([extra], now_us=lambda: at_us)
        await run.live({10}, gap=(10, 10))
        assert (await run.repair()).is_whole
        assert [words(one.text) for one in run.filled()] == [words(turns[10].text)]
        assert run.counts().expected == len(turns)


async def test_segments_that_cannot_be_read_are_missing(tmp_path: Path) -> None:
    """They are part of what was expected."""
    async with Simulator("quiet", archive=msgspec.structs.replace(PLAIN, bad=1.0)) as sim:
        run = Run(tmp_path, sim)
        turns = run.turns()
        await run.live({n for n, turn in enumerate(turns) if turn.bad}, gap=(0, len(turns) - 1))
        done = await run.repair()
        counts = run.counts()
        assert not done.is_whole
        assert counts.missing == counts.unreadable == sum(turn.bad for turn in turns) > 0
        assert counts.expected == len(turns)


@pytest.mark.parametrize(
    ("fate", "outcome", "word"),
    [
        ("missing", Outcome.MISSING, "missing"),
        ("failed", Outcome.MISSING, "failed"),
        ("empty", Outcome.MISSING, "empty"),
        ("truncated_file", Outcome.FAILED, None),
    ],
)
async def test_without_a_transcript_that_is_said(
    tmp_path: Path, fate: str, outcome: Outcome, word: str | None
) -> None:
    """Once: a repeated run adds no record. A broken file is not taken for a whole one."""
    settings = msgspec.structs.replace(PLAIN, **{fate: 1.0})
    async with Simulator("quiet", archive=PLAIN) as told:
        turns = Run(tmp_path, told).turns()
    async with Simulator("quiet", archive=settings) as sim:
        run = Run(tmp_path, sim)
        at_us = turns[-1].at_ms * 1000
        drafts = [run.sentence(turns[0]), run.gap(at_us - 10**7, at_us, name=NAME)]
        await run.store(drafts, now_us=lambda: at_us)
        for _ in range(2):
            done = await run.repair()
            assert not done.is_whole
            assert run.result.outcome is outcome
            assert len(run.records(Kind.RECONCILED)) == (word is not None)
        if word is not None:
            assert run.counts() == ReconciledPayload(0, 0, 0, 0, None, transcript=word)
        assert not run.filled()


async def test_what_was_deleted_is_not_filled_in_again(tmp_path: Path) -> None:
    """When part of a conversation's records is gone, nobody can tell what was delivered."""
    async with Simulator("quiet", archive=PLAIN) as sim:
        run = Run(tmp_path, sim)
        await run.live({3}, gap=(3, 3))
        with writing(run.state.database) as db:
            db.execute("DELETE FROM records WHERE position = (SELECT min(position) FROM records)")
        done = await run.repair()
        assert not done.is_whole
        assert run.result.outcome is Outcome.PURGED
        assert not run.filled()


async def test_a_trial_stores_nothing(tmp_path: Path) -> None:
    """It tells what would be filled in."""
    async with Simulator("quiet", archive=PLAIN) as sim:
        run = Run(tmp_path, sim)
        await run.live({3, 4}, gap=(3, 4))
        done = await run.repair(Wanted(dry_run=True))
        assert done.tally.filled == 2
        assert not run.filled()
        assert not run.records(Kind.RECONCILED)


async def test_gaps_of_call_audio_are_no_concern(tmp_path: Path) -> None:
    """A pause that a caller asked for is not undone."""
    async with Simulator("quiet", archive=PLAIN) as sim:
        run = Run(tmp_path, sim)
        turns = run.turns()
        at_us = turns[3].at_ms * 1000
        paused = run.gap(at_us, at_us, name=NAME, cause=GapCause.PAUSED, source="media")
        await run.store([run.sentence(turns[0]), paused])
        done = await run.repair()
        assert done.gaps == 0
        assert not run.results


async def test_a_range_of_time_chooses_gaps(tmp_path: Path) -> None:
    """Those outside it wait for another run."""
    async with Simulator("quiet", archive=PLAIN) as sim:
        run = Run(tmp_path, sim)
        await run.live({3}, gap=(3, 3))
        end_us = run.turns()[-1].at_ms * 1000
        await run.repair(Wanted(from_us=end_us))
        assert not run.results
        await run.repair(Wanted(to_us=end_us))
        assert run.result.filled == 1


async def test_a_conversation_inside_a_gap_is_found_if_it_is_followed(tmp_path: Path) -> None:
    """The platform is asked; whose queue is not followed is left alone."""
    settings = msgspec.structs.replace(PLAIN, conversations=3, first_day="2026-01-05", days=1)
    async with Simulator("quiet", archive=settings) as sim:
        run = Run(tmp_path, sim, "genesys-cloud")
        begin_us = 1_767_571_200_000_000  # 2026-01-05
        await run.store([run.gap(begin_us, begin_us + 86_400_000_000)])
        ids = sim.archive.library.ids()
        entity = sim.archive.library.entity(ids[0])
        assert entity is not None
        queue = next(p["queueId"] for p in entity["participants"] if p.get("queueId"))
        mine = [name for name in ids if queue in json.dumps(sim.archive.library.entity(name))]
        done = await run.repair(queues=(queue,))
        assert {one.conversation for one in run.results} == set(mine)
        assert done.is_whole
        assert done.tally.delivered_live == 0
        assert done.tally.filled == done.tally.expected > 0
        await run.repair(queues=(str(uuid.uuid4()),))
        assert not {one.conversation for one in run.results if one.filled}


async def test_a_transcript_that_was_made_anew_fills_nothing_twice(tmp_path: Path) -> None:
    """Its segments begin elsewhere now, so their keys are others."""
    async with Simulator("quiet", archive=PLAIN) as sim:
        run = Run(tmp_path, sim)
        turns = run.turns()
        old = msgspec.structs.replace(
            run.sentence(turns[3]), utterance="backfill..17", origin=Origin.BACKFILL
        )
        at_us = turns[-1].at_ms * 1000
        await run.store([old], now_us=lambda: at_us)
        await run.live({3, 4}, gap=(3, 4))
        assert (await run.repair()).is_whole
        assert run.result.filled == 1
        assert [words(one.text) for one in run.filled()] == [
            words(turns[3].text),
            words(turns[4].text),
        ]


async def test_everything_heard_in_a_time_is_looked_at_when_asked_for(tmp_path: Path) -> None:
    """Without any gap."""
    async with Simulator("quiet", archive=PLAIN) as sim:
        run = Run(tmp_path, sim)
        turns = run.turns()
        at_us = turns[-1].at_ms * 1000
        heard = [run.sentence(turn) for turn in turns[:-2]]
        await run.store(heard, now_us=lambda: at_us)
        await run.repair(Wanted(from_us=at_us - 1000))
        assert not run.results
        done = await run.repair(Wanted(from_us=at_us - 1000, everything=True))
        assert done.is_whole
        assert run.result.filled == 2


async def test_an_erased_conversation_is_not_brought_back(tmp_path: Path) -> None:
    """Not even when it is named."""
    async with Simulator("quiet", archive=PLAIN) as sim:
        run = Run(tmp_path, sim)
        await run.live({3}, gap=(3, 3))
        with writing(run.state.database) as db:
            erase(db, NAME, at_us=utc_us())
        await run.repair(Wanted(ids=(NAME,), everything=True))
        assert run.result.outcome is Outcome.PURGED
        with OutboxReader(run.state.database) as reader:
            assert not reader.records(NAME)


async def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    """Live delivery runs there."""
    async with Simulator("quiet", archive=PLAIN) as sim:
        run = Run(tmp_path, sim)
        with StateDir(run.state.root), pytest.raises(StorageError, match="another process"):
            await run.repair()


async def test_who_only_repairs_does_not_end_the_time_nobody_listened(tmp_path: Path) -> None:
    """The next that follows still opens its gap where the last one was alive."""
    async with Simulator("quiet", archive=PLAIN) as sim:
        run = Run(tmp_path, sim)
        await run.live({3}, gap=(3, 3))
        then_us = run.turns()[-1].at_ms * 1000
        await run.repair()
        store = SqliteStore.open(
            run.state.database, {}, StoreSettings(ballast_bytes=0), now_us=utc_us, crash_at=""
        )
        store.start()
        await store.close()
        assert store.report.last_alive_us == then_us
