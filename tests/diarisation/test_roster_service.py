"""Rosters over real HTTP, and what becomes of stored segments when a conversation is over."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from conformance.scripted_http import (
    FixedToken,
    Noted,
    Reply,
    ScriptedServer,
    Seen,
    hangs,
    says,
    scripted,
    waits_for,
)
from steno.adapters.platform_http import HttpClient, NotificationsApi, PlatformHttp
from steno.adapters.store_sqlite import SqliteStore, StoreSettings, TimelineReader
from steno.core.records import Draft, Kind, Origin, Record, SegmentPayload, record_key
from steno.core.transcript import Fragment, RawText
from steno.diarisation.cast import Who
from steno.diarisation.roster import RosterAttribution, RosterSettings
from steno.diarisation.roster_service import RosterService, RosterServiceSettings
from steno.ports import Commit, Timeline
from steno.wire.participants import decode_roster

S = 1_000_000
T0 = 1_772_615_700 * S
FAST = RosterServiceSettings(
    per_minute=6000,
    concurrency=2,
    call_limit_s=0.3,
    final_delay_s=0.05,
    retry_s=0.05,
    refused_s=60,
    outage_first_s=0.05,
    outage_cap_s=0.1,
    batch=3,
)


def at(second: float) -> str:
    """Give a time as the platform writes it, ``second`` after the conversation's start."""
    whole = time.gmtime(T0 // S + int(second))
    return time.strftime("%Y-%m-%dT%H:%M:%S", whole) + f".{int(second * 1000) % 1000:03d}Z"


def entity(conversation: str, *, transferred: bool = False) -> dict[str, Any]:  # Any: JSON
    """Give a conversation: Anna from the start, Ben from second 60 on."""

    def one(name: str, purpose: str, since: float, until: float | None) -> dict[str, Any]:
        call = {"id": f"call-{name}", "state": "connected", "connectedTime": at(since)}
        if until is not None:
            call |= {"state": "disconnected", "disconnectedTime": at(until)}
        return {"id": name, "purpose": purpose, "name": f"Planted {name}", "calls": [call]}

    people = [one("customer", "customer", 0, None)]
    people.append(one("anna", "agent", 0, 60 if transferred else None))
    if transferred:
        people.append(one("ben", "agent", 60, None))
    return {"id": conversation, "startTime": at(0), "participants": people}


def describes(*, transferred: bool = False) -> Reply:
    """Answer with whichever conversation is asked for."""

    def reply(seen: Seen) -> web.Response:
        conversation = seen.path.rpartition("/")[2]
        return web.json_response(entity(conversation, transferred=transferred))

    return reply


def speech(conversation: str = "c", start_s: float = 70, channel: str = "internal") -> Fragment:
    started_us = T0 + int(start_s * S)
    return Fragment(
        conversation, f"call-customer/{channel}", RawText("x"), 0.9, True, "en", started_us,
        started_us=started_us, ended_us=started_us + S,
    )  # fmt: skip


class Run:
    """A service at work beside a store."""

    def __init__(self, path: Path, store: SqliteStore) -> None:
        self.path, self.store = path, store
        self.log = Noted()
        self.attribution = RosterAttribution(RosterSettings(wait_s=30))
        self.emitted: list[Draft] = []
        self.service: RosterService
        self.server: ScriptedServer
        self.emit: Callable[[list[Draft]], None] = self.emitted.extend

    def hear(self, fragment: Fragment) -> None:
        self.attribution.heard(fragment, now=time.monotonic())

    def who(self, fragment: Fragment) -> Who | None:
        return self.attribution.who(fragment, now=time.monotonic())

    async def until(self, ready: Callable[[], bool], limit_s: float = 10.0) -> None:
        async with asyncio.timeout(limit_s):
            while not ready():
                await asyncio.sleep(0.005)

    async def answer(self, fragment: Fragment) -> Who:
        """Give who spoke, when it is known."""
        await self.until(lambda: self.who(fragment) is not None)
        who = self.who(fragment)
        assert who is not None
        return who

    async def write(self, *payloads: SegmentPayload, conversation: str = "c") -> None:
        drafts = [
            Draft(
                Kind.SEGMENT, "notifications", conversation, "call-customer/internal", f"u{n}", 0,
                record_key("org", conversation, "lane", f"u{n}"), Origin.LIVE, T0,
                msgspec.json.encode(one), place_us=one.started_us,
            )
            for n, one in enumerate(payloads)
        ]  # fmt: skip
        await self.store.submit(Commit(drafts))

    def stored(self, conversation: str = "c") -> list[tuple[int, SegmentPayload]]:
        with TimelineReader(self.path) as reader:
            records: Iterator[Record] = reader.read(conversation, Kind.SEGMENT)
            return [
                (one.revision, msgspec.json.decode(one.payload, type=SegmentPayload))
                for one in records
            ]

    @contextmanager
    def timeline(self) -> Iterator[Timeline]:
        with TimelineReader(self.path) as reader:
            yield reader


@asynccontextmanager
async def serving(
    tmp_path: Path,
    *script: Reply,
    settings: RosterServiceSettings = FAST,
    running: bool = True,
) -> AsyncIterator[Run]:
    path = tmp_path / "steno.db"
    store = SqliteStore.open(path, {}, StoreSettings(ballast_bytes=0), crash_at="")
    store.start()
    run = Run(path, store)
    try:
        async with scripted(*script) as server, HttpClient() as http:
            api = PlatformHttp(server.host, FixedToken("token"), exchange=http, telemetry=run.log)
            run.server = server
            run.service = RosterService(
                run.attribution,
                NotificationsApi(api),
                timeline=run.timeline,
                emit=lambda drafts: run.emit(drafts),
                telemetry=run.log,
                clock=time.monotonic,
                utc_us=lambda: time.time_ns() // 1000,
                draw=lambda: 0.5,
                settings=settings,
            )
            if not running:
                yield run
                return
            task = asyncio.create_task(run.service.run())
            try:
                yield run
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
    finally:
        await store.close()


def segment(start_s: float, speaker: str = "agent", participant: str = "anna") -> SegmentPayload:
    return SegmentPayload(
        speaker, f"words at {start_s}", T0 + int(start_s * S), T0 + int(start_s * S) + S, 0.9, T0,
        role="agent", participant=participant,
    )  # fmt: skip


# --- while it runs -----------------------------------------------------------------------------


async def test_first_words_bring_the_roster(tmp_path: Path) -> None:
    """They wait for it, and one call serves all of them."""
    async with serving(tmp_path, describes()) as run:
        run.hear(speech())
        assert run.who(speech()) is None
        who = await run.answer(speech())
        run.hear(speech(channel="external"))
        assert who == Who("agent", "agent", "anna", "", "Planted anna", T0)
        assert (await run.answer(speech(channel="external"))).participant == "customer"
        assert [one.path for one in run.server.seen] == ["/api/v2/conversations/c"]
        assert "Planted" not in run.log.text()


async def test_limited_rate_is_waited_out_by_everybody(tmp_path: Path) -> None:
    """429: nothing is asked, for any conversation, before the platform's time is over."""
    async with serving(
        tmp_path, says(429, {"code": "too.many.requests"}, Retry_After="0.4"), describes()
    ) as run:
        started = time.monotonic()
        run.hear(speech("c1"))
        await run.server.asked(1)
        run.hear(speech("c2"))
        await run.answer(speech("c1"))
        await run.answer(speech("c2"))
        assert time.monotonic() - started >= 0.4
        assert len(run.server.seen) == 3
        assert run.log.events("warning") == []


async def test_a_limit_that_lasts_is_told_once(tmp_path: Path) -> None:
    """429 again and again: speakers are told by channel meanwhile, and somebody should know."""
    limited = says(429, {"code": "too.many.requests"}, Retry_After="0.1")
    async with serving(tmp_path, *[limited] * 3, describes()) as run:
        for count, name in enumerate(("c1", "c2", "c3", "c4"), start=1):
            run.hear(speech(name))
            await run.server.asked(count)
            await asyncio.sleep(0.05)  # the answer arrives
        async with asyncio.timeout(10):
            while not run.log.events("info"):  # available again
                await asyncio.sleep(0.01)
        assert run.log.events("warning") == ["diarisation.rosters_unavailable"]


async def test_conversation_that_is_not_there_is_left_after_three_tries(tmp_path: Path) -> None:
    """404: the channel decides, without waiting for the limit."""
    async with serving(tmp_path, says(404)) as run:
        run.hear(speech())
        assert await run.answer(speech()) == Who("agent", "agent")
        run.hear(speech())
        await asyncio.sleep(0.2)
        assert len(run.server.seen) == 3


async def test_missing_permission_is_told_once_and_costs_no_waiting(tmp_path: Path) -> None:
    """403: the channel decides for every conversation; one warning, one call."""
    async with serving(tmp_path, says(403, {"code": "missing.permissions"})) as run:
        run.hear(speech("c1"))
        assert await run.answer(speech("c1")) == Who("agent", "agent")
        for number in range(5):
            run.hear(speech(f"more-{number}", channel="external"))
            assert run.who(speech(f"more-{number}", channel="external")) == Who(
                "customer", "customer"
            )
        await asyncio.sleep(0.2)
        assert len(run.server.seen) == 1
        assert run.log.lines == [
            ("warning", "diarisation.rosters_refused", {"error_class": "AuthError", "status": 403})
        ]


async def test_slow_platform_is_given_up_and_tried_again(tmp_path: Path) -> None:
    """One warning while it lasts, and one line when it is over."""
    async with serving(tmp_path, hangs(), hangs(), describes()) as run:
        run.hear(speech())
        assert (await run.answer(speech())).participant == "anna"
        assert [line[:2] for line in run.log.lines] == [
            ("warning", "diarisation.rosters_unavailable"),
            ("info", "diarisation.rosters_available"),
        ]
        assert run.log.lines[0][2]["error_class"] == "TimedOut"


async def test_server_that_is_gone_is_one_warning(tmp_path: Path) -> None:
    """Refused connections: the channel decides after three tries."""
    async with serving(tmp_path, describes(), running=False) as run, HttpClient() as http:
        gone = RosterService(
            run.attribution,
            NotificationsApi(await _nobody(run, http)),
            timeline=run.timeline,
            emit=run.emit,
            telemetry=run.log,
            clock=time.monotonic,
            utc_us=lambda: time.time_ns() // 1000,
            draw=lambda: 0.5,
            settings=FAST,
        )
        task = asyncio.create_task(gone.run())
        try:
            run.hear(speech())
            assert await run.answer(speech()) == Who("agent", "agent")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert run.log.events("warning") == ["diarisation.rosters_unavailable"]


async def _nobody(run: Run, http: HttpClient) -> PlatformHttp:
    """Give a client of a port on which nobody listens any more."""
    async with scripted(says(200)) as server:
        host = server.host
    return PlatformHttp(host, FixedToken("t"), exchange=http, telemetry=run.log)


@pytest.mark.parametrize(
    "body",
    [b"<html>Planted", b'{"id": "c", "participants": [{"name": "Planted"}]}', {"id": "other"}],
)
async def test_answer_that_is_none_leaves_the_channel(tmp_path: Path, body: object) -> None:
    """Not the shape, or another conversation's: one call, a line without its content."""
    async with serving(tmp_path, says(200, body)) as run:
        run.hear(speech())
        assert await run.answer(speech()) == Who("agent", "agent")
        assert run.log.events("warning") == ["diarisation.roster_unusable"]
        assert len(run.server.seen) == 1
        assert "Planted" not in run.log.text()


async def test_calls_a_minute_are_bounded(tmp_path: Path) -> None:
    """Of sixty calls a minute ten may come at once, then the rest at their pace."""
    settings = msgspec.structs.replace(FAST, per_minute=60)
    async with serving(tmp_path, describes(), settings=settings) as run:
        for number in range(30):
            run.hear(speech(f"c{number}"))
        await run.server.asked(10)
        await asyncio.sleep(0.3)
        assert len(run.server.seen) == 10


async def test_calls_under_way_are_bounded(tmp_path: Path) -> None:
    """Two workers: a slow platform sees two calls, and the feed's loop is free."""
    gate = asyncio.Event()
    settings = msgspec.structs.replace(FAST, call_limit_s=10)
    async with serving(tmp_path, waits_for(gate, describes()), settings=settings) as run:
        for number in range(5):
            run.hear(speech(f"c{number}"))
        await run.server.asked(2)
        await asyncio.sleep(0.1)
        assert len(run.server.seen) == 2
        gate.set()
        for number in range(5):
            assert (await run.answer(speech(f"c{number}"))).participant == "anna"


async def test_topic_tells_of_participants_without_a_call(tmp_path: Path) -> None:
    """What a queue's topic says is used for what is heard next."""
    async with serving(tmp_path, describes()) as run:
        run.hear(speech())
        assert (await run.answer(speech())).participant == "anna"
        told = json.dumps(entity("c", transferred=True)).encode()
        run.service.seen(decode_roster(told))
        who = run.who(speech(start_s=70))
        assert who is not None
        assert (who.speaker, who.participant) == ("agent-2", "ben")
        assert len(run.server.seen) == 1


# --- the end of a conversation -----------------------------------------------------------------

MANY = [segment(start_s) for start_s in range(50, 74, 2)]
"""Twelve segments, all thought to be Anna's; she had handed over at second 60."""


async def test_end_puts_stored_segments_right(tmp_path: Path) -> None:
    """Those after the transfer get a revision with the same words; done again, none does."""
    async with serving(tmp_path, describes(transferred=True)) as run:
        await run.write(*MANY)
        run.service.ended("c")
        await run.until(lambda: run.service.ending == 0)
        told = [msgspec.json.decode(one.payload, type=SegmentPayload) for one in run.emitted]
        late = [one for one in told if one.started_us >= T0 + 60 * S]
        assert [one.text for one in late] == [f"words at {second}" for second in range(60, 74, 2)]
        assert {(one.speaker, one.participant) for one in late} == {("agent-2", "ben")}
        assert {one.revision for one in run.emitted} == {1}
        await run.store.submit(Commit(run.emitted))
        run.emitted.clear()
        run.service.ended("c")
        await run.until(lambda: run.service.ending == 0)
        assert run.emitted == []
        assert [who.speaker for _, who in run.stored()] == ["agent"] * 5 + ["agent-2"] * 7
        assert run.log.events().count("diarisation.reattributed") == 1


async def test_trouble_that_says_nothing_of_a_conversation_costs_it_no_try(tmp_path: Path) -> None:
    """Limited and out of reach more often than anything is tried: its end is put right still."""
    limited = says(429, {"code": "too.many.requests"}, Retry_After="0.02")
    trouble = [limited, says(503)] * 3
    async with serving(tmp_path, *trouble, describes(transferred=True)) as run:
        await run.write(*MANY)
        run.service.ended("c")
        await run.until(lambda: run.service.ending == 0)
        assert len(run.server.seen) == len(trouble) + 1
        assert {one.revision for one in run.emitted} == {1}


async def test_second_end_of_a_conversation_is_looked_at_again(tmp_path: Path) -> None:
    """Its communications end one by one; an end during the last look is not lost."""
    gate = asyncio.Event()
    settings = msgspec.structs.replace(FAST, call_limit_s=10)
    script = (waits_for(gate, describes()), describes(transferred=True))
    async with serving(tmp_path, *script, settings=settings) as run:
        await run.write(segment(70))
        run.service.ended("c")
        await run.server.asked(1)
        run.service.ended("c")
        gate.set()
        await run.until(lambda: run.service.ending == 0)
        assert len(run.server.seen) == 2
        (last,) = (
            msgspec.json.decode(one.payload, type=SegmentPayload) for one in run.emitted[-1:]
        )
        assert last.participant == "ben"


@pytest.mark.parametrize("status", [404, 403, 500])
async def test_without_its_last_roster_a_conversation_keeps_what_was_seen(
    tmp_path: Path, status: int
) -> None:
    """What a topic told meanwhile is used; then it is let go."""
    settings = msgspec.structs.replace(FAST, final_patience_s=0.2, refused_s=0.3)
    async with serving(tmp_path, describes(), says(status), settings=settings) as run:
        await run.write(segment(70))
        run.hear(speech())
        await run.answer(speech())
        told = json.dumps(entity("c", transferred=True)).encode()
        run.service.seen(decode_roster(told))
        run.service.ended("c")
        await run.until(lambda: run.service.ending == 0)
        assert len(run.emitted) == 1
        assert b'"ben"' in run.emitted[0].payload


async def test_waiting_ends_are_bounded(tmp_path: Path) -> None:
    """The oldest goes; it keeps what was known while it ran."""
    settings = msgspec.structs.replace(FAST, max_ended=3, final_delay_s=30)
    async with serving(tmp_path, describes(), settings=settings, running=False) as run:
        for number in range(5):
            run.service.ended(f"c{number}")
        assert run.service.ending == 3


async def test_first_rosters_do_not_starve_the_last_ones(tmp_path: Path) -> None:
    """One call in three is for conversations that are over."""
    settings = msgspec.structs.replace(FAST, concurrency=1, final_delay_s=0)
    async with serving(tmp_path, describes(), settings=settings) as run:
        for number in range(9):
            run.hear(speech(f"new-{number}"))
            run.service.ended(f"over-{number}")
        await run.server.asked(9)
        asked = [one.path.rpartition("/")[2] for one in run.server.seen[:9]]
        assert sum(name.startswith("over") for name in asked) == 3


async def test_bug_in_one_conversation_leaves_the_others(tmp_path: Path) -> None:
    """Whatever taking the drafts raises is logged by its class, and tried again."""
    async with serving(tmp_path, describes(transferred=True)) as run:
        await run.write(segment(70), conversation="bad")
        await run.write(segment(70), conversation="good")
        taken: list[str] = []

        def emit(drafts: list[Draft]) -> None:
            taken.append(drafts[0].conversation)
            if drafts[0].conversation == "bad":
                raise ValueError("planted words")

        run.emit = emit
        run.service.ended("bad")
        run.service.ended("good")
        await run.until(lambda: run.service.ending == 0)
        assert sorted(taken) == ["bad", "bad", "bad", "good"]
        assert run.log.events("error") == ["diarisation.roster_failed"] * 3
        assert "planted" not in run.log.text()


async def test_damaged_segment_stops_the_second_pass_with_one_line(tmp_path: Path) -> None:
    """What was put right before it stays so; nothing of it is told."""
    async with serving(tmp_path, describes(transferred=True)) as run:
        await run.write(segment(70))
        broken = Draft(
            Kind.SEGMENT, "notifications", "c", "call-customer/internal", "broken", 0, "k",
            Origin.LIVE, T0, b'{"text": "planted words"', place_us=T0 + 90 * S,
        )  # fmt: skip
        await run.store.submit(Commit([broken]))
        run.service.ended("c")
        await run.until(lambda: run.service.ending == 0)
        assert "diarisation.segments_unreadable" in run.log.events("warning")
        assert "planted" not in run.log.text()


# --- the end of the process --------------------------------------------------------------------


async def test_finish_does_what_is_left(tmp_path: Path) -> None:
    """Of what has ended, and of what goes on and was spoken in after its roster."""
    settings = msgspec.structs.replace(FAST, final_delay_s=60)
    async with serving(tmp_path, describes(), settings=settings) as run:
        await run.write(segment(70), conversation="over")
        await run.write(segment(70), conversation="on")
        now_s = time.time() + 5 - T0 / S
        run.hear(speech("on", start_s=now_s))
        run.hear(speech("quiet", start_s=0))
        await run.answer(speech("on", start_s=1))
        await run.answer(speech("quiet", start_s=0))
        run.service.ended("over")
        run.server.script = [describes(transferred=True)]
        run.server.seen.clear()
        assert await run.service.finish(timeout_s=5)
        assert {one.path.rpartition("/")[2] for one in run.server.seen} == {"over", "on"}
        assert {one.conversation for one in run.emitted} == {"over", "on"}
        assert run.service.ending == 0


async def test_finish_without_the_platform_uses_what_was_seen(tmp_path: Path) -> None:
    """A topic told of the transfer; the last roster cannot be had any more."""
    settings = msgspec.structs.replace(FAST, final_delay_s=60)
    async with serving(tmp_path, describes(), says(503), settings=settings) as run:
        await run.write(segment(70))
        run.hear(speech())
        await run.answer(speech())
        told = json.dumps(entity("c", transferred=True)).encode()
        run.service.seen(decode_roster(told))
        run.service.ended("c")
        assert await run.service.finish(timeout_s=5)
        assert [one.revision for one in run.emitted] == [1]
        assert run.service.ending == 0


async def test_finish_has_an_end(tmp_path: Path) -> None:
    """A platform that does not answer does not hold the process."""
    settings = msgspec.structs.replace(FAST, final_delay_s=60, call_limit_s=30)
    async with serving(tmp_path, hangs(), settings=settings, running=False) as run:
        run.service.ended("c")
        started = time.monotonic()
        assert not await run.service.finish(timeout_s=0.2)
        assert time.monotonic() - started < 2


async def test_run_that_is_stopped_in_a_call_leaves_the_end_to_finish(tmp_path: Path) -> None:
    """Nothing is lost between the two."""
    settings = msgspec.structs.replace(FAST, call_limit_s=30)
    async with serving(
        tmp_path, hangs(), describes(transferred=True), settings=settings, running=False
    ) as run:
        await run.write(segment(70))
        task = asyncio.create_task(run.service.run())
        run.service.ended("c")
        await run.server.asked(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert run.service.ending == 1
        assert await run.service.finish(timeout_s=5)
        assert len(run.emitted) == 1
