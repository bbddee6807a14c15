"""Many calls from one process, and the transport they use."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode

from conformance.call_servers import API_KEY, SECRET, Hook
from steno_sim.calls.audio import encode, tone
from steno_sim.calls.client import Timers
from steno_sim.calls.faults import CallFault, End
from steno_sim.calls.fleet import Fleet, FleetReport, percentile
from steno_sim.calls.plan import CallPlan
from steno_sim.calls.playing import play_calls
from steno_sim.calls.raw_socket import BINARY, TEXT, RawSocket, masked
from steno_sim.calls.voices import spoken_calls

QUICK = Timers(opened_s=3.0, closed_s=3.0, first_ping_s=0.05, ping_s=3.0)
IMPATIENT = Timers(opened_s=0.4, closed_s=0.4, first_ping_s=0.05, ping_s=0.5)
SOUND = tone(700)  # three frames and a half


async def fly(hook: Hook, count: int, **changes: Any) -> FleetReport:
    settings: dict[str, Any] = {"sound": SOUND, "speed": 4.0, "patience_s": 0.2, "keep_log": False}
    async with hook.running():
        plans = [CallPlan(**(settings | changes)) for _ in range(count)]
        timers = IMPATIENT if hook.wrong else QUICK
        fleet = Fleet(hook.url, plans, api_key=API_KEY, secret=SECRET, ramp_s=0.2, timers=timers)
        return await fleet.run()


async def test_fifty_calls() -> None:
    """All correct, all audio there, one conversation each, and counted."""
    hook = Hook()
    report = await fly(hook, 50)
    summary = report.summary()
    assert report.ok
    assert (summary["calls"], summary["ok"], summary["ends"]) == (50, 50, {"completed": 50})
    assert summary["violations"] == {}
    assert summary["entities"] == summary["finals"] == 50
    assert summary["audio_bytes"] == 50 * 2 * SOUND.length
    assert summary["opened_p50_ms"] <= summary["opened_p99_ms"] < 1000
    assert {bytes(session.audio) for session in hook.sessions} == {encode(SOUND, "PCMU")}
    assert len({s.said[0]["parameters"]["conversationId"] for s in hook.sessions}) == 50


async def test_some_at_once() -> None:
    """The others wait for a place."""
    hook = Hook()
    async with hook.running():
        plans = [CallPlan(sound=tone(100), frame_ms=50) for _ in range(6)]
        fleet = Fleet(hook.url, plans, api_key=API_KEY, secret=SECRET, at_once=2, timers=QUICK)
        running = asyncio.create_task(fleet.run())
        most = 0
        while not running.done():
            most = max(most, sum(not session.closed for session in hook.sessions))
            await asyncio.sleep(0.002)
    assert running.result().ok
    assert (most, len(hook.sessions)) == (2, 6)


async def test_flat_out_and_mono() -> None:
    """Every sample, as fast as the server reads."""
    hook = Hook()
    offers = CallPlan(sound=SOUND).offers[1:]
    report = await fly(hook, 3, speed=0.0, offers=offers)
    assert report.ok
    assert {bytes(s.audio) for s in hook.sessions} == {encode(SOUND.picked((0,)), "PCMU")}


async def test_pauses_of_the_server_are_obeyed() -> None:
    """Paused, resumed, and the rest of the sound after it."""
    hook = Hook(pause_at=3200)
    report = await fly(hook, 1, speed=2.0)
    assert report.ok
    said = [message["type"] for message in hook.sessions[0].said]
    assert said.index("paused") < said.index("resumed")
    assert bytes(hook.sessions[0].audio) == encode(SOUND, "PCMU")


@pytest.mark.parametrize(
    ("wrong", "rule", "end"),
    [
        ("refuses", "upgrade.refused", End.REFUSED),
        ("unauthorized", "session.refused", End.UNAUTHORIZED),
        ("drops", "socket.ended", End.DROPPED),
        ("binary", "binary.unexpected", End.FAILED),
        ("never_opens", "opened.late", End.FAILED),
        ("pong_clientseq", "message.clientseq", End.FAILED),
    ],
)
async def test_violations_are_counted_by_rule(wrong: str, rule: str, end: End) -> None:
    """The same rules as for a single call."""
    report = await fly(Hook(wrong=wrong), 2)
    summary = report.summary()
    assert summary["violations"][rule] == 2
    assert summary["ends"] == {end: 2}
    assert not report.ok


async def test_probes() -> None:
    """Many probes at once."""
    hook = Hook()
    report = await fly(hook, 5, probe=True)
    assert report.ok
    assert not any(session.audio for session in hook.sessions)


async def test_nobody_there() -> None:
    """No connection is an end too."""
    fleet = Fleet("ws://127.0.0.1:9/", [CallPlan(sound=SOUND)], api_key=API_KEY)
    assert (await fleet.run()).summary()["ends"] == {"unreachable": 1}


def test_faults_are_not_for_fleets() -> None:
    """They are made one by one."""
    with pytest.raises(ValueError, match="one by one"):
        Fleet("ws://x/", [CallPlan(sound=SOUND, fault=CallFault.DROP)], api_key=API_KEY)


async def test_the_packaged_calls_are_played() -> None:
    """Each with its own conversation, and the truth under the names a consumer knows."""
    hook = Hook()
    async with hook.running():
        report = await play_calls(
            hook.url, spoken_calls(), api_key=API_KEY, secret=SECRET, speed=0.0, timers=QUICK
        )
    assert report.ok
    assert [truth.name for truth in report.truths] == [call.name for call in spoken_calls()]
    for truth, result in zip(report.truths, report.results, strict=True):
        assert truth.conversation == result.conversation
        opened = next(
            session.said[0]["parameters"]
            for session in hook.sessions
            if session.said[0]["parameters"]["conversationId"] == truth.conversation
        )
        assert truth.participants == {
            "external": opened["participant"]["id"],
            "internal": "internal",
        }


def test_percentiles_are_values_that_were_seen() -> None:
    """Nearest rank; none of nothing."""
    assert [percentile([4.0, 1.0, 3.0, 2.0], share) for share in (0.0, 0.5, 0.99)] == [1, 2, 4]
    assert percentile([], 0.5) is None


class Heard:
    """What a raw socket tells."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.done = self.loop.create_future()
        self.texts: list[bytes] = []
        self.sizes: list[int] = []
        self.status: int | None = None
        self.socket: RawSocket | None = None

    def connected(self) -> None:
        assert self.socket is not None
        for size in (0, 125, 126, 65535, 65536):
            self.socket.write(masked(BINARY, b"x" * size))
        self.socket.write(masked(TEXT, "grüße".encode()))

    def refused(self, status: int) -> None:
        self.status = status
        self.done.set_result(None)

    def text(self, data: bytes) -> None:
        self.texts.append(data)

    def binary(self, size: int) -> None:
        self.sizes.append(size)

    def ended(self, code: int) -> None:
        self.status = code
        self.done.set_result(None)

    def writable(self) -> None:
        pass


async def test_frames_of_every_size_and_fragments() -> None:
    """Lengths of one, two and eight bytes; fragments are joined, pings answered."""
    received: list[str | bytes] = []

    async def server(connection: ServerConnection) -> None:
        received.extend([await connection.recv() for _ in range(6)])
        await connection.send(["a", "b", "c"])
        await connection.send("y" * 70000)
        await connection.send(b"z" * 200)
        await (await connection.ping())
        await connection.close(1001)

    async with serve(server, "127.0.0.1", 0, compression=None) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        heard = Heard()
        heard.socket = RawSocket(f"ws://127.0.0.1:{port}/", {}, heard)
        await heard.socket.connect()
        async with asyncio.timeout(5):
            await heard.done
    assert [len(each) for each in received] == [0, 125, 126, 65535, 65536, 5]
    assert received[-1] == "grüße"
    assert [len(each) for each in heard.texts] == [3, 70000]
    assert heard.texts[0] == b"abc"
    assert (heard.sizes, heard.status) == ([200], 1001)


def test_masked_frames_are_what_others_make() -> None:
    """Unmasked again, the payload is there."""
    frame = masked(TEXT, b"hello")
    key, body = frame[2:6], frame[6:]
    assert bytes(byte ^ key[at % 4] for at, byte in enumerate(body)) == b"hello"
    assert frame[0] == Frame(Opcode.TEXT, b"").serialize(mask=False)[0]
