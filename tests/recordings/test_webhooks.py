"""From the outbox to the audit log: lanes, attempts over restarts, and who is told what."""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.scripted_http import Noted, ScriptedServer, hangs, says, scripted
from conformance.sink_rules import job as job_record
from conformance.sink_rules import sentence
from steno.adapters.sinks.job_webhook import JobWebhookSettings, JobWebhookSink
from steno.adapters.sinks.receivers import ReceiverRules
from steno.adapters.store_sqlite import SqliteStore, StoreSettings
from steno.core.records import Draft, JobPayload, Kind, Record
from steno.core.secret import Secret
from steno.delivery.outbox import decide
from steno.delivery.relay import Relay, RelaySettings
from steno.errors import LocalProtocolError, StorageError
from steno.ports import Commit, DeliveryState, Retry, Settlement, Unwanted
from steno.recordings.ends import TURN_S
from steno.recordings.webhooks import (
    NOT_ATTEMPTED,
    RELAY_SETTINGS,
    SKIPPED,
    HeldBack,
    JobLanes,
    WebhookDesk,
    status_of,
)
from steno.wire.webhooks import RETRY_SCHEDULE_S, WebhookOutcome

NAME = "job-webhooks"
SECRET = Secret("whsec_" + base64.b64encode(bytes(range(32))).decode())
FAST = msgspec.structs.replace(
    RELAY_SETTINGS,
    settle_wait_s=0.0,
    stop_s=0.2,
    first_pause_s=0.01,
    cap_pause_s=0.02,
    retry=msgspec.structs.replace(RELAY_SETTINGS.retry, first_s=0.01, cap_s=0.02),
)


def outcome(job_id: str = "job-1", *, attempt: int = 1, failure: str = "") -> WebhookOutcome:
    return WebhookOutcome(
        record_id="record-1",
        job_id=job_id,
        recording_id="recording-1",
        transcript_id="t-1",
        status="completed",
        metrics={},
        error="",
        attempt=attempt,
        failure=failure,
        is_final=not failure,
    )


def draft_of(record: Record) -> Draft:
    names = ("kind", "source", "conversation", "lane", "utterance", "revision", "key", "origin",
             "at_us", "payload")  # fmt: skip
    return Draft(**{name: getattr(record, name) for name in names})


# --- the whole way --------------------------------------------------------------------------


class World:
    """A store on disk, a relay and the sink, as the composition root joins them."""

    def __init__(
        self,
        path: Path,
        urls: dict[str, str],
        *,
        schedule_s: tuple[float, ...] = (0, 0.1, 0.1, 0.1),
        max_in_flight: int = 16,
        max_per_host: int = 2,
        deadline_s: float = 1.0,
        settings: RelaySettings = FAST,
    ) -> None:
        self.path = path
        self.urls = urls
        self.told: list[WebhookOutcome] = []
        self.told_more = asyncio.Event()
        self.before_telling: Callable[[WebhookOutcome], None] = lambda _: None
        self.desk = WebhookDesk(self.later)
        self.lanes = JobLanes(NAME)
        self.noted = Noted()
        self.settings = msgspec.structs.replace(
            settings,
            retry=msgspec.structs.replace(settings.retry, max_attempts=len(schedule_s)),
        )
        self.sink = JobWebhookSink(
            JobWebhookSettings(
                secret=SECRET,
                rules=ReceiverRules(["127.0.0.1"]),
                schedule_s=schedule_s,
                max_in_flight=max_in_flight,
                max_per_host=max_per_host,
                max_waiting=2,
                slot_wait_s=0.05,
                deadline_s=deadline_s,
            ),
            addresses=self.address,
            attempts=self.lanes.attempts,
            load=self.lanes.load,
            tell=self.desk.told,
            telemetry=self.noted,
            name=NAME,
        )

    async def address(self, job_id: str) -> str:
        return self.urls[job_id]

    async def later(self, outcome: WebhookOutcome) -> None:
        self.before_telling(outcome)
        self.told.append(outcome)
        self.told_more.set()

    async def until_told(self, count: int) -> None:
        async with asyncio.timeout(8):
            while len(self.told) < count:
                self.told_more.clear()
                await self.told_more.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SqliteStore]:
        """Run until the block ends."""
        settings = StoreSettings(ballast_bytes=1 << 16)
        store = SqliteStore.open(self.path, {NAME: self.sink.kinds}, settings, crash_at="")
        store.start()
        self.lanes.bind(store)
        relay = Relay(
            self.lanes,
            self.sink,
            self.noted,
            self.settings,
            clock=time.monotonic,
            now_us=lambda: time.time_ns() // 1000,
            draw=random.random,
            backlog=store.report.pending.get(NAME, 0),
        )
        store.on_committed(lambda records: relay.offer(self.lanes.laned(records)))
        task = asyncio.create_task(relay.run())
        try:
            yield store
        finally:
            relay.stop()
            await task
            await self.sink.close()
            await store.close()


def hook(server: ScriptedServer, path: str = "/hook") -> str:
    return f"http://127.0.0.1:{server.host.port}{path}"


async def commit(store: SqliteStore, *records: Record) -> list[Record]:
    return await store.submit(Commit([draft_of(record) for record in records]))


async def test_a_webhook_is_sent_and_told_once(tmp_path: Path) -> None:
    """The id of the stored record is the message's, and the whole document arrives."""
    async with scripted(says(200)) as server:
        world = World(tmp_path / "s.db", {"job-alpha-1": hook(server)})
        async with world.running() as store:
            (record,) = await commit(store, job_record("alpha", 1))
            await world.until_told(1)
            await asyncio.sleep(0.05)
        (seen,) = server.seen
    assert seen.headers["webhook-id"] == record.id
    assert len(msgspec.json.decode(seen.body)["speakers"]) == 1
    assert [one.webhook_status for one in world.told] == ["delivered"]


async def test_attempts_are_counted_over_restarts(tmp_path: Path) -> None:
    """The schedule goes on where it was; after its last attempt the record is a dead letter."""
    path = tmp_path / "s.db"
    async with scripted(says(500)) as server:
        urls = {"job-alpha-1": hook(server)}
        first = World(path, urls, schedule_s=(0, 0.05, 0.3, 0.05))
        async with first.running() as store:
            await commit(store, job_record("alpha", 1))
            await first.until_told(2)
            await asyncio.sleep(0.05)
        second = World(path, urls, schedule_s=(0, 0.05, 0.3, 0.05))
        async with second.running() as store:
            await second.until_told(2)
            await asyncio.sleep(0.1)
            assert await store.pending(NAME, limit=10) == []
        ids = {seen.headers["webhook-id"] for seen in server.seen}
    assert [one.attempt for one in first.told + second.told] == [1, 2, 3, 4]
    assert [one.is_final for one in second.told] == [False, True]
    assert len(ids) == 1
    dead = [fields for _, event, fields in second.noted.lines if event == "delivery.dead_lettered"]
    assert [fields["reason"] for fields in dead] == ["attempts_exhausted:PeerUnavailable"]


async def test_two_jobs_of_a_recording_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """A receiver that is down holds up its own job only."""
    async with scripted(says(503)) as down, scripted(says(200)) as up:
        urls = {"job-alpha-1": hook(down), "job-alpha-2": hook(up)}
        world = World(tmp_path / "s.db", urls, schedule_s=(0, 60))
        async with world.running() as store:
            await commit(store, job_record("alpha", 1), job_record("alpha", 2))
            await world.until_told(2)
    assert sorted(one.webhook_status for one in world.told) == [
        "delivered",
        "failed: PeerUnavailable",
    ]


async def test_a_slow_receiver_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """Thirty jobs to a host that says nothing, then one to another: that one goes at once."""
    async with scripted(hangs()) as slow, scripted(says(200)) as quick:
        urls = {f"job-slow-{n}": hook(slow) for n in range(30)} | {"job-quick-1": hook(quick)}
        world = World(tmp_path / "s.db", urls, max_in_flight=6, deadline_s=5.0)
        async with world.running() as store:
            await commit(store, *(job_record("slow", n) for n in range(30)))
            await slow.asked(2)
            await commit(store, job_record("quick", 1))
            await quick.asked(1)
            assert "TimedOut" not in {one.failure for one in world.told}  # none has ended
            assert len(slow.seen) <= 4
    assert "delivery.paused" not in world.noted.events()


async def test_what_was_not_written_down_is_told_again(tmp_path: Path) -> None:
    """An end before the audit log had the outcome: the next start sends the same id and tells."""
    path = tmp_path / "s.db"
    async with scripted(says(200)) as server:
        urls = {"job-alpha-1": hook(server)}
        first = World(path, urls)

        def fail(_: WebhookOutcome) -> None:
            raise StorageError

        first.before_telling = fail
        async with first.running() as store:
            await commit(store, job_record("alpha", 1))
            await server.asked(1)
            await asyncio.sleep(0.1)
        assert len(server.seen) == 1
        second = World(path, urls)
        async with second.running():
            await second.until_told(1)
            await asyncio.sleep(0.05)
        third = World(path, urls)
        async with third.running():
            await asyncio.sleep(0.05)
        assert [seen.headers["webhook-id"] for seen in server.seen] == [
            server.seen[0].headers["webhook-id"]
        ] * 2
    assert [one.webhook_status for one in second.told] == ["delivered"]
    assert third.told == []


async def test_who_ends_a_job_gets_the_first_outcome_and_the_callback_the_rest(
    tmp_path: Path,
) -> None:
    """The webhook is settled after the entry was written, and later attempts are told apart."""
    async with scripted(says(500), says(200)) as server:
        world = World(tmp_path / "s.db", {"job-alpha-1": hook(server)})
        async with world.running() as store:
            with world.desk.expecting("job-alpha-1") as waiting:
                await commit(store, job_record("alpha", 1))
                first = await waiting.first(5.0)
                await asyncio.sleep(0.2)
                assert len(server.seen) == 1  # not settled while the entry is being written
            await world.until_told(1)
    assert status_of(first) == "failed: PeerUnavailable"
    assert [(one.attempt, one.webhook_status) for one in world.told] == [(2, "delivered")]


# --- lanes ----------------------------------------------------------------------------------


class Held:
    """A relay's store that gives what it is given."""

    def __init__(self) -> None:
        self.settled: list[Settlement] = []

    def settle(self, settlements: list[Settlement]) -> asyncio.Future[None]:
        self.settled += settlements
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


def test_other_records_pass_unchanged() -> None:
    """Only ends of jobs get lanes of their own, without their payloads and with their ids."""
    spoken, ended = sentence("alpha", 1), job_record("alpha", 2)
    other, laned = JobLanes(NAME).laned([spoken, ended])
    assert other is spoken
    assert (laned.id, laned.payload, laned.kind) == (ended.id, b"", Kind.JOB)
    assert laned.conversation == f"alpha:{ended.id}"


async def test_a_job_without_a_webhook_is_settled_without_a_look(tmp_path: Path) -> None:
    """Its payload tells at the commit, and where it is read again."""
    plain = draft_of(job_record("alpha", 1))
    payload = msgspec.json.decode(plain.payload, type=JobPayload)
    drafts = [
        msgspec.structs.replace(
            plain,
            utterance=f"job-{webhook}",
            key=f"key-{webhook}",
            payload=msgspec.json.encode(msgspec.structs.replace(payload, webhook=webhook)),
        )
        for webhook in (True, False)
    ]
    kinds = {NAME: frozenset({Kind.JOB})}
    settings = StoreSettings(ballast_bytes=1 << 16)
    store = SqliteStore.open(tmp_path / "s.db", kinds, settings, crash_at="")
    store.start()
    stored = await store.submit(Commit(drafts))
    offered, lanes = JobLanes(NAME), JobLanes(NAME)
    offered.laned(stored)
    lanes.bind(store)
    await lanes.pending(NAME, limit=9)
    for one in (offered, lanes):
        assert [one.is_plain(record.id) for record in stored] == [False, True]
    asked: list[str] = []

    async def turn(job_id: str) -> bool:
        asked.append(job_id)
        return False

    sink = World(tmp_path / "other.db", {}).sink
    held = HeldBack(sink, turn, lanes.is_plain)
    assert await held.deliver(stored[1:]) == [Unwanted()]
    assert await held.deliver(stored[:1]) == [Retry("RateLimited")]
    assert asked == ["job-True"]
    await lanes.settle([Settlement(stored[1].id, NAME, DeliveryState.UNWANTED, 0)])
    assert not lanes.is_plain(stored[1].id)
    await sink.close()
    await store.close()


async def test_a_record_is_loaded_while_it_is_unsettled(tmp_path: Path) -> None:
    """With its payload; another one is never taken for it."""
    lanes = JobLanes(NAME)
    with pytest.raises(LocalProtocolError):
        await lanes.load("0190e3a4-7b1c-7def-8123-000000000000")
    settings = StoreSettings(ballast_bytes=1 << 16)
    kinds = {NAME: frozenset({Kind.JOB})}
    store = SqliteStore.open(tmp_path / "s.db", kinds, settings, crash_at="")
    store.start()
    lanes.bind(store)
    first, second = await commit(store, job_record("alpha", 1), job_record("alpha", 2))
    loaded = await lanes.load(first.id)
    assert loaded is not None
    assert (loaded.id, loaded.payload) == (first.id, first.payload)
    await lanes.settle([Settlement(first.id, NAME, DeliveryState.ACKED, 0)])
    assert await lanes.load(first.id) is None
    assert await lanes.load(second.id) is not None
    await store.close()


async def test_counts_are_bounded_and_end_with_the_record() -> None:
    """Settled records are forgotten; beyond the bound the oldest is."""
    lanes = JobLanes(NAME, capacity=2)
    lanes.bind(Held())  # type: ignore[arg-type]  # pages are not read here
    for number in (1, 2, 3):
        await lanes.settle([Settlement(f"r{number}", NAME, DeliveryState.RETRY, number)])
    assert [lanes.attempts(f"r{number}") for number in (1, 2, 3)] == [0, 2, 3]
    await lanes.settle([Settlement("r3", NAME, DeliveryState.DEAD, 4)])
    assert lanes.attempts("r3") == 0


@given(number=st.integers(1, 7), draw=st.floats(0, 1, exclude_max=True))
def test_the_relay_keeps_to_the_schedule(number: int, draw: float) -> None:
    """A delay is the schedule's and at most a tenth more; there are eight attempts."""
    delay_s = RETRY_SCHEDULE_S[number]
    made = decide("r", NAME, number - 1, Retry("TimedOut", delay_s), 0, RELAY_SETTINGS.retry, draw)
    assert made.state is DeliveryState.RETRY
    assert delay_s * 1_000_000 <= made.next_at_us + 1 <= 1.1 * delay_s * 1_000_000 + 2
    last = decide("r", NAME, 7, Retry("TimedOut", 0.0), 0, RELAY_SETTINGS.retry, draw)
    assert last.state is DeliveryState.DEAD


def test_a_lease_outlasts_the_limits_of_the_sink() -> None:
    """Or an attempt would be made twice."""
    sink = JobWebhookSettings(secret=SECRET, rules=ReceiverRules())
    longest_s = TURN_S + 2 * 5.0 + sink.slot_wait_s + sink.deadline_s + sink.tell_s
    assert longest_s < RELAY_SETTINGS.lease_s


# --- the desk -------------------------------------------------------------------------------


class Audit:
    """A callback that keeps, and fails as told."""

    def __init__(self) -> None:
        self.later: list[WebhookOutcome] = []
        self.error: StorageError | None = None

    async def __call__(self, outcome: WebhookOutcome) -> None:
        if self.error is not None:
            raise self.error
        self.later.append(outcome)


async def test_an_outcome_that_comes_before_it_is_asked_for_is_kept() -> None:
    """Between the commit and the wait nothing is lost."""
    audit = Audit()
    desk = WebhookDesk(audit)
    with desk.expecting("job-1") as waiting:
        telling = asyncio.ensure_future(desk.told(outcome()))
        await asyncio.sleep(0)
        assert await waiting.first(1.0) == outcome()
        assert not telling.done()
    await telling
    assert audit.later == []


async def test_a_wait_is_bounded_and_the_outcome_comes_later() -> None:
    """Then the entry says so, and a further one tells what became of it."""
    audit = Audit()
    desk = WebhookDesk(audit)
    with desk.expecting("job-1") as waiting:
        first = await waiting.first(0.01)
        assert status_of(first) == NOT_ATTEMPTED == "failed: NotAttempted"
        telling = asyncio.ensure_future(desk.told(outcome()))
        await asyncio.sleep(0)
        assert audit.later == []  # not before the job's own entry is written
    await telling
    assert audit.later == [outcome()]


async def test_an_entry_that_could_not_be_written_is_the_callback_s() -> None:
    """Whoever waited failed: the outcome is not lost with it."""
    audit = Audit()
    desk = WebhookDesk(audit)
    telling = asyncio.ensure_future(desk.told(outcome()))

    async def ends() -> None:
        with desk.expecting("job-1") as waiting:
            assert await waiting.first(1.0) == outcome()
            raise StorageError

    with pytest.raises(StorageError):
        await ends()
    await telling
    assert audit.later == [outcome()]


async def test_a_second_telling_of_the_first_outcome_waits_as_well() -> None:
    """The sink gave up waiting and tells again: one entry, and another attempt is another."""
    audit = Audit()
    desk = WebhookDesk(audit)
    with desk.expecting("job-1") as waiting:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await desk.told(outcome(failure="TimedOut"))
        again = asyncio.ensure_future(desk.told(outcome(failure="TimedOut")))
        other = asyncio.ensure_future(desk.told(outcome(attempt=2)))
        await asyncio.sleep(0)
        assert await waiting.first(1.0) == outcome(failure="TimedOut")
    await asyncio.gather(again, other)
    assert audit.later == [outcome(attempt=2)]


async def test_jobs_nobody_waits_for_go_to_the_callback() -> None:
    """As after a restart; what the callback raises is raised, so that it is told again."""
    audit = Audit()
    desk = WebhookDesk(audit)
    with desk.expecting("job-2"):
        await desk.told(outcome("job-1"))
    assert audit.later == [outcome("job-1")]
    audit.error = StorageError()
    with pytest.raises(StorageError):
        await desk.told(outcome("job-1"))


async def test_a_job_is_waited_for_once_at_a_time() -> None:
    """Two would each take half of the truth; afterwards it may be waited for again."""
    desk = WebhookDesk(Audit())
    with desk.expecting("job-1"):
        with pytest.raises(LocalProtocolError), desk.expecting("job-1"):
            pass
        telling = asyncio.ensure_future(desk.told(outcome()))
        await asyncio.sleep(0)
        assert not telling.done()
    await telling
    with desk.expecting("job-1"):
        pass


def test_statuses_are_words_of_ours() -> None:
    """``delivered``, ``failed: <class>``, ``skipped``: as the audit log takes them."""
    assert status_of(outcome()) == "delivered"
    assert status_of(outcome(failure="TlsFailed")) == "failed: TlsFailed"
    assert SKIPPED == "skipped"
