"""Hundreds of AudioHook callers in one process, cheap enough to leave the machine to the server.

Each call is one raw protocol: text frames are encoded by hand, audio frames are masked once for
all calls, and one timer feeds everybody, each call at its own place in the 200 ms. The callers
follow the reference client: signed upgrade, ``open`` at once, ping 1 s after ``opened`` and
every 5 s, ``close`` with a limit of 10 s. Prints ``steady`` once every call has been open for a
second, ``sent`` when the time is over, and one JSON line.

    python bench/audiohook_caller.py --port 8080 --key ID --secret-file FILE --calls 200
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import os
import struct
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FRAME_MS = 200
SLOTS = 40
"""Ticks in a frame's time: the calls are spread over them."""

RATE_HZ = 8000
VARIANTS = 50
"""Frames of audio made at the start; each call begins at another one and goes round."""

MASK = b"\x5a\xc3\x17\x88"
PING_FIRST_S, PING_S, CLOSED_LIMIT_S = 1.0, 5.0, 10.0
SIGNED = (
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    "x-api-key",
)


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a whole WebSocket frame of a client."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, size)
    mask = np.frombuffer(MASK * (size // 4 + 1), dtype=np.uint8)[:size]
    masked = np.bitwise_xor(np.frombuffer(payload, dtype=np.uint8), mask)
    return head + MASK + masked.tobytes()


def audio_frames(channels: int) -> list[bytes]:
    """Return frames of mu-law that sound a little like two people taking turns."""
    random = np.random.default_rng(7)
    size = RATE_HZ * FRAME_MS // 1000
    frames = []
    for number in range(VARIANTS):
        block = np.full((size, channels), 0xFF, dtype=np.uint8)  # silence
        speaker = number // 10 % (channels + 1)
        if speaker < channels:
            # Louder mu-law codes are small: bursts of noise, about as loud as speech.
            level = 0x20 + 0x30 * np.abs(np.sin(np.arange(size) / 250.0))
            sign = random.integers(0, 2, size) * 0x80
            block[:, speaker] = (level + random.integers(0, 16, size)).astype(np.uint8) | sign
        frames.append(frame(2, block.tobytes()))
    return frames


class Plan(NamedTuple):
    """What all calls have in common."""

    target: str
    authority: str
    key: str
    secret: bytes
    frames: list[bytes]
    channels: tuple[str, ...]


class Tally:
    """What all calls together have seen; times in seconds."""

    def __init__(self) -> None:
        self.opened_s: list[float] = []
        self.dialled_s: list[float] = []
        self.pong_s: list[float] = []
        self.closed_s: list[float] = []
        self.late_s: list[float] = []
        self.frames = self.events = self.entities = self.pauses = 0
        self.refused: dict[str, int] = {}

    def refuse(self, why: str) -> None:
        """Count an end that was not asked for."""
        self.refused[why] = self.refused.get(why, 0) + 1

    def report(self) -> dict[str, Any]:
        """Return everything as JSON values; latencies in ms."""
        row: dict[str, Any] = {
            "opened": len(self.opened_s),
            "closed": len(self.closed_s),
            "frames": self.frames,
            "events": self.events,
            "entities": self.entities,
            "pauses": self.pauses,
            "refused": self.refused,
        }
        for name in ("opened", "dialled", "pong", "closed", "late"):
            values = getattr(self, f"{name}_s")
            for share in (50, 99) if values else ():
                row[f"{name}_p{share}_ms"] = round(float(np.percentile(values, share)) * 1000, 2)
        return row


class Call(asyncio.Protocol):
    """One call, from the upgrade to ``closed``."""

    def __init__(self, plan: Plan, tally: Tally, number: int) -> None:
        self.plan = plan
        self.tally = tally
        self.number = number
        self.session = str(uuid.uuid4())
        self.organization = str(uuid.uuid4())
        self.is_open = self.is_paused = self.is_over = False
        self._buffer = b""
        self._upgraded = False
        self._seq = self._serverseq = self._sent = 0
        self._dialled = time.perf_counter()
        self._asked: dict[str, float] = {}

    def connection_made(self, transport: Any) -> None:
        """Ask for the upgrade."""
        self.transport = transport
        transport.write(self._upgrade())

    def connection_lost(self, exc: Exception | None) -> None:
        """Count an end that nobody asked for."""
        if not self.is_over:
            self.is_over = True
            self.is_open = False
            self.tally.refuse("dropped" if self._upgraded else "no upgrade")

    def data_received(self, data: bytes) -> None:
        """Take the answer to the upgrade, then messages."""
        self._buffer += data
        if not self._upgraded:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            status = head.split(b" ", 2)[1].decode()
            if status != "101":
                self.tally.refuse(f"status {status}")
                self._end()
                return
            self._upgraded, self._buffer = True, rest
            self._open()
        while (message := self._next()) is not None:
            self._take(*message)

    def send_audio(self) -> None:
        """Send the frame that is due, when there is a call to send it on."""
        if self.is_open and not self.is_paused:
            at = (self.number * 7 + self._sent) % VARIANTS
            self._sent += 1
            self.tally.frames += 1
            self.transport.write(self.plan.frames[at])

    def ping(self) -> None:
        """Send a ping; the pong's time is noted."""
        if self.is_open and not self.is_over:
            self._say("ping", {})

    def hang_up(self) -> None:
        """Send ``close``."""
        if self.is_open:
            self.is_open = False
            self._say("close", {"reason": "end"})

    def _open(self) -> None:
        offers = [list(self.plan.channels)]
        self._say(
            "open",
            {
                "organizationId": self.organization,
                "conversationId": str(uuid.uuid4()),
                "participant": {"id": str(uuid.uuid4()), "ani": "", "aniName": "", "dnis": ""},
                "media": [
                    {"type": "audio", "format": "PCMU", "channels": one, "rate": RATE_HZ}
                    for one in offers
                ],
                "language": "en-US",
            },
        )

    def _say(self, kind: str, parameters: dict[str, Any]) -> None:
        self._seq += 1
        message = {
            "version": "2",
            "type": kind,
            "seq": self._seq,
            "serverseq": self._serverseq,
            "id": self.session,
            "position": f"PT{self._sent * FRAME_MS / 1000:.3f}S",
            "parameters": parameters,
        }
        self._asked[kind] = time.perf_counter()
        self.transport.write(frame(1, json.dumps(message, separators=(",", ":")).encode()))

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == 8:
            if not self.is_over:
                code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
                self.tally.refuse(f"close {code}")
            self._end()
        elif opcode == 9:
            self.transport.write(frame(10, payload))
        elif opcode == 1:
            message = json.loads(payload)
            self._serverseq = message["seq"]
            self._hear(message["type"], message["parameters"])

    def _hear(self, kind: str, parameters: dict[str, Any]) -> None:
        now = time.perf_counter()
        if kind == "opened":
            self.is_open = True
            self.tally.opened_s.append(now - self._asked["open"])
            self.tally.dialled_s.append(now - self._dialled)
        elif kind == "pong":
            self.tally.pong_s.append(now - self._asked["ping"])
        elif kind == "event":
            self.tally.events += 1
            self.tally.entities += len(parameters["entities"])
        elif kind in ("pause", "resume"):
            self.tally.pauses += kind == "pause"
            self.is_paused = kind == "pause"
            nothing = {"start": "PT0S", "discarded": "PT0S"}
            self._say("paused" if self.is_paused else "resumed", {} if self.is_paused else nothing)
        elif kind == "disconnect":
            self.tally.refuse(f"disconnect {parameters.get('reason')}")
            self.is_open = False
            self._say("close", {"reason": "disconnect"})
        elif kind == "closed":
            self.tally.closed_s.append(now - self._asked["close"])
            self.is_over = True
            self.transport.write(frame(8, struct.pack("!H", 1000)))
            self._end()

    def _end(self) -> None:
        self.is_over = True
        self.is_open = False
        self.transport.close()

    def _next(self) -> tuple[int, bytes] | None:
        data = self._buffer
        if len(data) < 2:
            return None
        size, start = data[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        if len(data) < start + size:
            return None
        self._buffer = data[start + size :]
        return data[0] & 0x0F, data[start : start + size]

    def _upgrade(self) -> bytes:
        plan = self.plan
        values = {
            "@request-target": plan.target,
            "@authority": plan.authority,
            "audiohook-organization-id": self.organization,
            "audiohook-session-id": self.session,
            "audiohook-correlation-id": str(uuid.uuid4()),
            "x-api-key": plan.key,
        }
        lines = [
            f"GET {plan.target} HTTP/1.1",
            f"Host: {plan.authority}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            "Sec-WebSocket-Version: 13",
            "User-Agent: GenesysCloud-AudioHook-Client",
            *(f"{name}: {values[name]}" for name in SIGNED[2:]),
        ]
        if plan.secret:
            now = int(time.time())
            listed = " ".join(f'"{name}"' for name in SIGNED)
            nonce = base64.b64encode(os.urandom(18)).decode()
            signed = (
                f'({listed});keyid="{plan.key}";nonce="{nonce}";alg="hmac-sha256"'
                f";created={now};expires={now + 10}"
            )
            base = "\n".join(
                [
                    *(f'"{name}": {values[name]}' for name in SIGNED),
                    f'"@signature-params": {signed}',
                ]
            )
            mac = hmac.digest(plan.secret, base.encode(), hashlib.sha256)
            lines.append(f"Signature-Input: sig1={signed}")
            lines.append(f"Signature: sig1=:{base64.b64encode(mac).decode()}:")
        return "\r\n".join([*lines, "", ""]).encode()


async def feed(calls: list[Call], tally: Tally, stop: asyncio.Event) -> None:
    """Send each open call its frame every 200 ms and its pings, until told to stop."""
    loop = asyncio.get_running_loop()
    begin, tick = loop.time(), 0
    pings = {call: int((PING_FIRST_S * 1000) / FRAME_MS) for call in calls}
    while not stop.is_set():
        due = begin + tick * FRAME_MS / 1000 / SLOTS
        wait_s = due - loop.time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        tally.late_s.append(max(0.0, loop.time() - due))
        for call in calls[tick % SLOTS :: SLOTS]:
            if call.is_open:
                call.send_audio()
                pings[call] -= 1
                if pings[call] == 0:
                    pings[call] = int(PING_S * 1000 / FRAME_MS)
                    call.ping()
        tick += 1


async def until(condition: Callable[[], bool], limit_s: float) -> None:
    """Wait for a condition, or until the limit."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end and not condition():  # noqa: ASYNC110  # of hundreds of calls
        await asyncio.sleep(0.01)


async def play(given: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    """Open the calls at an even rate, let them talk, and close them all."""
    loop = asyncio.get_running_loop()
    tally = Tally()
    calls: list[Call] = []
    stop = asyncio.Event()
    begin = loop.time()

    async def dial(number: int) -> None:
        await asyncio.sleep(max(0.0, begin + number / given.open_rate - loop.time()))
        call = Call(plan, tally, number)
        calls.append(call)
        try:
            await loop.create_connection(lambda: call, "127.0.0.1", given.port)
        except OSError:
            tally.refuse("no connection")

    async with asyncio.TaskGroup() as group:
        dialling = [group.create_task(dial(number)) for number in range(given.calls)]
        await asyncio.wait(dialling)
        await until(lambda: all(call.is_open or call.is_over for call in calls), 20)
        feeding = group.create_task(feed(calls, tally, stop))
        await asyncio.sleep(1.0)
        print("steady", flush=True)
        await asyncio.sleep(given.seconds)
        print("sent", flush=True)
        stop.set()
        await feeding
        for call in calls:
            call.hang_up()
        await until(lambda: all(call.is_over for call in calls), CLOSED_LIMIT_S)
    for call in calls:
        if not call.is_over:
            call.is_over = True
            tally.refuse("no closed")
            call.transport.abort()
    return tally.report()


def main() -> None:
    """Play the load."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/audiohook")
    parser.add_argument("--key", default="YmVuY2gta2V5LTAwMDE")
    parser.add_argument("--secret-file", type=Path, help="client secret, base64; none: unsigned")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--open-rate", type=float, default=200.0, help="calls opened per second")
    parser.add_argument("--mono", action="store_true")
    given = parser.parse_args()
    text = given.secret_file.read_text().strip() if given.secret_file else ""
    channels = ("external",) if given.mono else ("external", "internal")
    plan = Plan(
        target=given.path,
        authority=f"127.0.0.1:{given.port}",
        key=given.key,
        secret=base64.b64decode(text),
        frames=audio_frames(len(channels)),
        channels=channels,
    )
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(play(given, plan))), flush=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
