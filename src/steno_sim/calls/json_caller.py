"""Calling a server of the JSON form: base64 envelopes on a WebSocket with a bearer token.

``{conversationId, participantId, audio, format, sampleRate, sequenceNumber, timestamp}``, one for
every 20–50 ms of each participant, numbered for each participant from 0. The server says
nothing back that the caller needs; it is held to the upgrade (token, ``media-api``), to reading,
and to leaving the end of the call to the caller.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from steno_sim.calls.audio import RATE_HZ, SAMPLE_BYTES, encode
from steno_sim.calls.dialling import Refused, dial
from steno_sim.calls.faults import CallFault, End, judge
from steno_sim.calls.plan import Act, CallPlan
from steno_sim.calls.results import CallResult, SessionResult
from steno_sim.calls.rules import Violation
from steno_sim.calls.strikes import OVERSIZED_CHARS, acts

SUBPROTOCOL = "media-api"
ORIGIN = "https://apps.mypurecloud.com"
STRANGE_ORIGIN = "https://strange.example"
STALL_S = 10.0
MOST_FRAME_MS = 50
_EVERY = 10  # holes, repeats and disorder strike every tenth envelope


class JsonCaller:
    """Makes the call of a plan; ``run`` once."""

    def __init__(
        self,
        url: str,
        plan: CallPlan,
        *,
        token: str,
        origin: str = "",
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Take the server's address, what to do, and the token.

        Args:
            url: ``ws://`` or ``wss://`` with the path of the server.
            plan: The call; ``frame_ms`` 20..50. The format is that of its first offer.
            token: Bearer token.
            origin: Origin header; none when empty.
            context: TLS trust for ``wss://``; the system's when None.
        """
        if plan.frame_ms > MOST_FRAME_MS:
            raise ValueError("the JSON form has frames of 20 to 50 ms")
        self._url = url
        self._plan = plan
        self._token = token
        self._origin = origin
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._acts = deque(acts(plan))
        self._form = plan.offers[0].form
        rows = [plan.sound.picked((n,)) for n in range(plan.sound.channels)]
        self._audio = [encode(row, self._form) for row in rows]
        self._frame_bytes = plan.frame_samples * SAMPLE_BYTES[self._form]
        self._heads = [self._head(participant) for participant in plan.participants]
        self._began_at = datetime.now(UTC)
        self._next = 0  # number of the next envelope of every participant
        self._held: list[str] = []
        self._next_at = 0.0
        self._spoil: CallFault | None = None
        self._abandoned = False
        self._frames = self._bytes = 0
        self._log: list[dict[str, Any]] = []

    def _head(self, participant: str) -> str:
        """Give the part of an envelope that never changes, up to the audio."""
        known = {"conversationId": self._plan.conversation, "participantId": participant}
        return msgspec.json.encode(known).decode()[:-1] + ',"audio":"'

    async def run(self) -> CallResult:
        """Make the call, on a second connection where it is continued."""
        plan = self._plan
        sessions = [await self._session()]
        if self._abandoned and plan.fault is CallFault.DROP_AND_CONTINUE:
            self._abandoned = False
            sessions.append(await self._session())
        found = [violation for session in sessions for violation in session.violations]
        wrong = judge(plan.fault, "json", sessions[-1].end)
        if wrong is not None and not (plan.fault is None and found):
            found.append(Violation(wrong[0], 0, wrong[1]))
        return CallResult(
            name=plan.name,
            family="json",
            conversation=plan.conversation,
            participants=dict(zip(plan.channels, plan.participants, strict=True)),
            fault=plan.fault,
            sessions=sessions,
            violations=found,
        )

    async def _session(self) -> SessionResult:
        fault = self._plan.fault
        token = "never-given-out" if fault is CallFault.WRONG_TOKEN else self._token
        headers = {} if fault is CallFault.NO_TOKEN else {"Authorization": f"Bearer {token}"}
        asked = () if fault is CallFault.NO_SUBPROTOCOL else (SUBPROTOCOL,)
        origin = STRANGE_ORIGIN if fault is CallFault.WRONG_ORIGIN else self._origin
        dialled = self._loop.time()
        try:
            socket = await dial(
                self._url, headers, subprotocols=asked, origin=origin, context=self._context
            )
        except Refused as refusal:
            end = End.REFUSED if refusal.status else End.UNREACHABLE
            return SessionResult(session="", end=end, status=refusal.status)
        opened_ms = (self._loop.time() - dialled) * 1000
        violations: list[Violation] = []
        if asked and socket.subprotocol != SUBPROTOCOL:
            violations.append(Violation("upgrade.subprotocol", 0, "not chosen"))
        self._frames = self._bytes = 0
        self._log = []
        end = await self._live(socket, violations)
        return SessionResult(
            session="",
            end=end,
            opened_ms=opened_ms,
            close_code=socket.close_code or 0,
            violations=violations,
            position_ms=self._position_ms,
            frames=self._frames,
            audio_bytes=self._bytes,
            log=self._log,
        )

    async def _live(self, socket: ClientConnection, violations: list[Violation]) -> End:
        reader = asyncio.create_task(self._read(socket))
        end = End.COMPLETED
        try:
            if self._plan.fault is CallFault.SILENCE:
                await asyncio.wait({reader}, timeout=self._plan.patience_s)
                self._abandon(socket)
            else:
                await self._play(socket)
            end = End.ABANDONED if self._abandoned else End.COMPLETED
        except ConnectionClosed:
            end = End.DROPPED
            if self._plan.fault is None:
                detail = f"code {socket.close_code}"
                violations.append(
                    Violation("socket.ended", self._next * self._plan.frame_ms, detail)
                )
        except TimeoutError:
            violations.append(Violation("socket.stalled", self._next * self._plan.frame_ms))
            self._abandon(socket)
            end = End.ABANDONED
        finally:
            if not self._abandoned:
                await socket.close()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        return end

    @property
    def _position_ms(self) -> int:
        return self._next * self._plan.frame_ms

    async def _read(self, socket: ClientConnection) -> None:
        """Keep what the server says, for the log; the form gives it nothing to say."""
        try:
            async for message in socket:
                if self._plan.keep_log and len(self._log) < 1000:
                    shown = message if isinstance(message, str) else f"{len(message)} bytes"
                    self._log.append({"from": "server", "text": shown[:2000]})
        except ConnectionClosed:
            pass

    async def _play(self, socket: ClientConnection) -> None:
        plan, loop = self._plan, self._loop
        total = -(-len(self._audio[0]) // self._frame_bytes)
        frame_s = plan.wall_s(plan.frame_ms)
        self._next_at = loop.time() + frame_s
        while self._next < total:
            while self._acts and self._acts[0].at_ms <= self._next * plan.frame_ms:
                await self._act(self._acts.popleft(), socket)
                if self._abandoned:
                    return
            wait_s = self._next_at - loop.time()
            await asyncio.sleep(max(wait_s, 0.0))
            async with asyncio.timeout(STALL_S):
                for text in self._envelopes():
                    await socket.send(text)
                    self._frames += 1
            self._next += 1
            self._next_at += frame_s
        for text in self._held:
            await socket.send(text)
        self._held.clear()

    def _envelopes(self) -> list[str]:
        """Give the texts of the next frame of every participant, spoiled as the fault says."""
        number, fault = self._next, self._plan.fault
        made = [self._envelope(n, number) for n in range(len(self._audio))]
        struck = number % _EVERY == _EVERY - 1
        if struck and fault is CallFault.HOLES:
            return []
        if struck and fault is CallFault.REPEATS:
            return made * 2
        if struck and fault is CallFault.DISORDER:
            self._held = made
            return []
        made += self._held
        self._held = []
        return made

    def _envelope(self, lane: int, number: int) -> str:
        start = number * self._frame_bytes
        audio = self._audio[lane][start : start + self._frame_bytes]
        self._bytes += len(audio)
        text = base64.b64encode(audio).decode()
        at = self._began_at + timedelta(milliseconds=number * self._plan.frame_ms)
        form: str = self._form
        spoil, self._spoil = self._spoil, None
        sequence = f'"sequenceNumber":{number},'
        match spoil:
            case CallFault.BAD_BASE64:
                text = "*" + text[1:]
            case CallFault.MISSING_FIELD:
                sequence = ""
            case CallFault.WRONG_FORMAT:
                form = "OPERA"
            case CallFault.OVERSIZED:
                text = "A" * OVERSIZED_CHARS
            case _:
                pass
        made = (
            f'{self._heads[lane]}{text}","format":"{form}","sampleRate":{RATE_HZ},{sequence}'
            f'"timestamp":"{at.isoformat(timespec="milliseconds").replace("+00:00", "Z")}"}}'
        )
        return made[: len(made) // 2] if spoil is CallFault.MALFORMED_JSON else made

    async def _act(self, act: Act, socket: ClientConnection) -> None:
        """Do what the form knows: late audio, skipped audio, and the plan's fault."""
        match act.do:
            case "late" | "pause":
                await asyncio.sleep(self._plan.wall_s(act.for_ms) or 0.05)
                if act.do == "pause":
                    self._next_at = self._loop.time()
            case "discard":
                self._next += act.for_ms // self._plan.frame_ms
            case "strike":
                await self._strike(socket)
            case _:
                pass  # the form has no messages for it

    async def _strike(self, socket: ClientConnection) -> None:
        match self._plan.fault:
            case CallFault.DROP | CallFault.DROP_AND_CONTINUE:
                self._abandon(socket)
            case CallFault.HALF_OPEN:
                socket.transport.pause_reading()
                await asyncio.sleep(self._plan.patience_s)
                self._abandon(socket)
            case CallFault.SLOW_READER:
                socket.transport.pause_reading()
                self._loop.call_later(self._plan.patience_s, socket.transport.resume_reading)
            case CallFault.BINARY:
                await socket.send(bytes(320))
            case fault:
                self._spoil = fault

    def _abandon(self, socket: ClientConnection) -> None:
        self._abandoned = True
        socket.transport.abort()
