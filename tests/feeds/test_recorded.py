"""Recorded feed: each message by its own shape, back-pressure, a loop that stays free, notes."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from conformance.stream_server import MemoryTelemetry
from steno.adapters.recorded_events import RecordedEvents
from steno.core.transcript import Fragment
from steno.errors import ConfigError
from steno.feeds.recorded import (
    NOTED,
    Progress,
    RecordedFeed,
    RecordedSettings,
    Shape,
)
from steno.feeds.stream_connection import Timing
from steno.observability.vocabulary import EVENTS, FIELDS
from steno.ports import ConversationEnded, FeedEvent, FeedUp, Quarantined

T = TypeVar("T")

CONVERSATION = "5d1f7a3c-0b2e-4c6d-8e9f-000000000001"
TIMING = Timing(time.monotonic, lambda: time.time_ns() // 1000, lambda: 0.5)


class Target:
    """Keeps what a feed gives; full after every ``full_every`` events."""

    def __init__(self, *, full_every: int = 0) -> None:
        self.events: list[FeedEvent] = []
        self.waits = 0
        self.room = asyncio.Event()
        self.room.set()
        self._full_every = full_every

    def accept(self, event: FeedEvent) -> bool:
        assert self.room.is_set(), "the target is full"
        self.events.append(event)
        if self._full_every and len(self.events) % self._full_every == 0:
            self.room.clear()
            asyncio.get_running_loop().call_soon(self.room.set)
            return False
        return True

    async def ready(self) -> None:
        self.waits += 1
        await self.room.wait()

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    def texts(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Fragment)]


def spoken(text: str, *, start: float = 1.0, enveloped: bool = True) -> dict[str, object]:
    """Return an event of the event socket."""
    item = {
        "speaker": "speaker_0",
        "text": text,
        "start": start,
        "end": start + 1,
        "confidence": 0.9,
        "isFinal": True,
    }
    body = {"conversationId": CONVERSATION, "transcripts": [item]}
    name = "conversation.transcription.update"
    return {"type": name, "data": body} if enveloped else {"eventType": name, **body}


def notified(text: str, utterance: str = "u1", status: str = "") -> dict[str, object]:
    """Return a notification of the transcription topic."""
    body: dict[str, object] = {
        "conversationId": CONVERSATION,
        "communicationId": "communication-1",
        "eventTime": "2024-01-15T10:30:00Z",
        "sessionStartTimeMs": 1_705_314_600_000,
        "transcripts": [
            {
                "utteranceId": utterance,
                "isFinal": True,
                "channel": "EXTERNAL",
                "alternatives": [
                    {"confidence": 0.9, "offsetMs": 1000, "durationMs": 500, "transcript": text}
                ],
                "dialect": "en-US",
            }
        ],
    }
    if status:
        body |= {"transcripts": None, "status": {"status": status}}
    return {"topicName": f"v2.conversations.{CONVERSATION}.transcription", "eventBody": body}


def wrapped(message: object, received: str = "2024-01-15T10:31:00Z") -> dict[str, object]:
    return {"received": received, "message": message}


def as_lines(*messages: object) -> bytes:
    """Return messages as JSON lines; bytes as they are."""
    return b"".join(
        (one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in messages
    )


class Run:
    """A feed over a real file, run into a target."""

    def __init__(
        self,
        folder: Path,
        *data: bytes,
        settings: RecordedSettings | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        block_bytes: int = 4096,
    ) -> None:
        paths = [folder / f"events-{number}" for number in range(len(data))]
        for path, content in zip(paths, data, strict=True):
            path.write_bytes(content)
        self.telemetry = MemoryTelemetry()
        self.target = Target()
        limit = (settings or RecordedSettings()).max_message_bytes
        self.feed = RecordedFeed(
            RecordedEvents(list(paths), block_bytes=block_bytes, max_message_bytes=limit),
            timing=TIMING,
            telemetry=self.telemetry,
            settings=settings,
            on_progress=on_progress,
        )

    async def end(self) -> Target:
        await self.feed.run(self.target)
        return self.target

    @property
    def lines_noted(self) -> list[object]:
        noted = self.telemetry.named("recorded.message_unreadable")
        return [fields["line"] for fields in noted]


async def test_each_message_is_decoded_by_its_own_shape(tmp_path: Path) -> None:
    """One file may hold several, wrapped or not; the feed says first that it is there."""
    run = Run(
        tmp_path,
        as_lines(
            spoken("one"),
            notified("two"),
            spoken("three", enveloped=False),
            wrapped(spoken("four")),
            wrapped(notified("five", "u2")),
            notified("", status="SESSION_ENDED"),
        ),
    )
    target = await run.end()
    assert isinstance(target.events[0], FeedUp)
    assert target.texts() == ["one", "two", "three", "four", "five"]
    assert [one.conversation for one in target.of(ConversationEnded)] == [CONVERSATION]
    lanes = {one.lane for one in target.of(Fragment)}
    assert lanes == {"speaker_0", "communication-1/external"}
    assert not target.of(Quarantined)
    progress = run.feed.progress
    assert (progress.messages, progress.fragments, progress.malformed) == (6, 5, 0)


async def test_a_receipt_is_the_time_of_an_event_and_now_where_there_is_none(
    tmp_path: Path,
) -> None:
    """RFC 3339 with any offset; a notification has its own time all the same."""
    before_us = TIMING.utc_us()
    run = Run(
        tmp_path,
        as_lines(
            wrapped(spoken("at"), "2024-01-15T12:30:00.25+02:00"),
            spoken("now"),
            wrapped(notified("own")),
        ),
    )
    at, now, own = (one.at_us for one in (await run.end()).of(Fragment))
    assert at == 1_705_314_600_250_000
    assert before_us <= now <= TIMING.utc_us()
    assert own == 1_705_314_600_000_000


async def test_keys_inside_of_a_text_do_not_change_a_shape(tmp_path: Path) -> None:
    """What is said may be JSON, and a speaker may be called like a key."""
    text = '{"topicName":"x","received":"y","message":{}}'
    odd = spoken("odd")
    odd["received"] = None  # a key of the event's own: nothing is wrapped here
    run = Run(tmp_path, as_lines(spoken(text), odd, json.dumps(spoken("topicName")).encode()))
    assert (await run.end()).texts() == [text, "odd", "topicName"]


async def test_what_cannot_be_read_is_named_by_its_line_and_the_rest_goes_on(
    tmp_path: Path,
) -> None:
    """Every cause gives one quarantine and one note; neither says what the line said."""
    secret = "my number is 415-555-0142"
    run = Run(
        tmp_path,
        as_lines(
            spoken("first"),  # 1
            f'{{"type": "{secret}"'.encode(),  # 2
            b"",
            b" \t\r",
            wrapped(spoken(secret), "yesterday"),  # 5
            wrapped(secret),  # 6
            b'{"topicName":"v2.conversations.x.transcription","eventBody":{"a":' + b"[" * 90_000,
            {"type": "conversation.transcription.update", "data": {"transcripts": secret}},  # 8
            b'{"text":"' + secret.encode() * 9000 + b'"}',  # 9
            b"\xff\xfe\xfd",  # 10
            b'["topicName"]',  # 11
            spoken("last"),
        ),
        settings=RecordedSettings(max_message_bytes=200_000),
    )
    target = await run.end()
    assert target.texts() == ["first", "last"]
    assert sorted(map(str, run.lines_noted)) == sorted(map(str, [2, *range(5, 12)]))
    assert len(target.of(Quarantined)) == 8
    assert {one.cause for one in target.of(Quarantined)} >= {"received", "oversize", "invalid-json"}
    assert run.feed.progress.malformed == 8
    assert run.feed.progress.messages == 9  # the one that is too long never became a message
    assert secret[:12] not in str(run.telemetry.events) + str(target.of(Quarantined))


async def test_a_flood_of_bad_lines_is_summed_up(tmp_path: Path) -> None:
    """The first are named, all are counted; what is logged is on the allow-list."""
    run = Run(tmp_path, as_lines(*[b"{rubbish}"] * (NOTED * 5), spoken("end")))
    target = await run.end()
    assert run.lines_noted == list(range(1, NOTED + 1))
    assert run.feed.progress.malformed == NOTED * 5
    (closing,) = run.telemetry.named("recorded.read")
    assert closing["malformed"] == NOTED * 5
    assert closing["messages"] == NOTED * 5 + 1
    assert target.texts() == ["end"]
    for _, event, fields in run.telemetry.events:
        assert event in EVENTS
        assert set(fields) <= set(FIELDS)


async def test_a_file_that_ends_in_the_middle_is_counted_as_damaged(tmp_path: Path) -> None:
    """What is there is handed on, of the other files too."""
    whole = json.dumps([spoken("a"), spoken("b")]).encode()
    run = Run(tmp_path, whole[:-20], as_lines(spoken("c")))
    target = await run.end()
    assert target.texts() == ["a", "c"]
    assert run.feed.progress.damaged_files == 1
    assert [one.cause for one in target.of(Quarantined)] == ["unfinished"]


async def test_a_shape_may_be_given(tmp_path: Path) -> None:
    """Then what has another shape is malformed, wrapped or not."""
    data = as_lines(spoken("a"), notified("b"), wrapped(spoken("c")), wrapped(notified("d", "u2")))
    only_events = Run(tmp_path, data, settings=RecordedSettings(shape=Shape.EVENT_SOCKET))
    assert (await only_events.end()).texts() == ["a", "c"]
    only_notified = Run(tmp_path, data, settings=RecordedSettings(shape=Shape.NOTIFICATIONS))
    assert (await only_notified.end()).texts() == ["b", "d"]
    assert only_notified.lines_noted == [1, 3]
    assert only_events.lines_noted == [2, 4]


async def test_other_event_types_are_ignored_and_counted(tmp_path: Path) -> None:
    """A recording of a whole socket holds more than transcripts."""
    other = {"type": "conversation.ended", "data": {"conversationId": CONVERSATION}}
    run = Run(tmp_path, as_lines(other, spoken("a"), notified("b"), notified("b")))
    assert (await run.end()).texts() == ["a", "b"]
    assert run.feed.progress.ignored == 2  # the event, and the repeated utterance
    assert run.telemetry.totals["steno_feed_ignored_total"] == 2
    assert run.telemetry.totals["steno_feed_messages_total"] == 4


async def test_chosen_conversations_are_picked_out(tmp_path: Path) -> None:
    """As of a live socket: nothing is kept of calls that nobody asked for, nor of their ends."""
    own = as_lines(spoken("a"), notified("b"), notified("", status="SESSION_ENDED"))
    others = own.replace(CONVERSATION.encode(), b"another").replace(b'"u1"', b'"u2"')
    run = Run(tmp_path, own + others, settings=RecordedSettings(conversations=(CONVERSATION,)))
    target = await run.end()
    assert target.texts() == ["a", "b"]
    assert {one.conversation for one in target.of(Fragment)} == {CONVERSATION}
    assert [one.conversation for one in target.of(ConversationEnded)] == [CONVERSATION]
    assert not target.of(Quarantined)
    assert (run.feed.progress.fragments, run.feed.progress.ignored) == (2, 2)


async def test_a_full_target_is_waited_for_and_nothing_is_lost(tmp_path: Path) -> None:
    """No event is given before there is room again, and order is kept."""
    texts = [f"text {number}" for number in range(500)]
    run = Run(tmp_path, as_lines(*map(spoken, texts)))
    run.target = Target(full_every=7)
    target = await run.end()
    assert target.texts() == texts
    assert target.waits == 501 // 7


async def test_the_loop_stays_free_while_a_file_is_read(tmp_path: Path) -> None:
    """Others run every few milliseconds, however fast the target is."""
    run = Run(tmp_path, as_lines(*[spoken("words " * 10)] * 20_000), block_bytes=1 << 20)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other_task = asyncio.create_task(other())
    began = time.process_time()
    await run.end()
    spent = time.process_time() - began
    other_task.cancel()
    assert len(run.target.events) == 20_001
    assert turns > spent / 0.05


async def test_progress_is_told_and_ends_with_everything(tmp_path: Path) -> None:
    """Bytes as stored, of all inputs."""
    told: list[tuple[int, int | None]] = []
    data = as_lines(*[spoken("a")] * 100)
    run = Run(
        tmp_path,
        data,
        data,
        on_progress=lambda progress: told.append((progress.done_bytes, progress.total_bytes)),
    )
    await run.end()
    assert told[-1] == (2 * len(data), 2 * len(data))


async def test_closing_ends_a_feed_that_waits_for_a_pipe(tmp_path: Path) -> None:
    """Whatever was read before is handed on; the thread ends, too."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    feed = RecordedFeed(RecordedEvents([path]), timing=TIMING, telemetry=MemoryTelemetry())
    target = Target()
    running = asyncio.create_task(feed.run(target))
    await asyncio.sleep(0.05)
    writer = os.open(path, os.O_WRONLY)
    os.write(writer, as_lines(spoken("live")))
    while not target.texts():
        await asyncio.sleep(0.01)
    await feed.close()
    async with asyncio.timeout(5):
        await running
    os.close(writer)
    assert target.texts() == ["live"]


async def test_closing_ends_a_feed_whose_target_is_full(tmp_path: Path) -> None:
    """Nothing is given to a full target at the end, either."""
    run = Run(tmp_path, as_lines(*[spoken("a")] * 100))

    class Full(Target):
        def accept(self, event: FeedEvent) -> bool:
            self.events.append(event)
            return not isinstance(event, Fragment)

        async def ready(self) -> None:
            await asyncio.Event().wait()

    run.target = Full()
    running = asyncio.create_task(run.end())
    while not run.target.texts():
        await asyncio.sleep(0.01)
    await run.feed.close()
    async with asyncio.timeout(5):
        await running
    assert len(run.target.texts()) == 1


async def test_cancelling_leaves_nothing_behind(tmp_path: Path) -> None:
    """A gateway that is stopped hard cancels its feeds."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    feed = RecordedFeed(RecordedEvents([path]), timing=TIMING, telemetry=MemoryTelemetry())
    running = asyncio.create_task(feed.run(Target()))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_input_of_another_kind_ends_the_run_with_its_error(tmp_path: Path) -> None:
    """What was read before it has been handed on."""
    run = Run(tmp_path, as_lines(spoken("a")), b"PK\x03\x04" + bytes(100))
    with pytest.raises(ConfigError, match="zip"):
        await run.end()
    assert run.target.texts() == ["a"]
