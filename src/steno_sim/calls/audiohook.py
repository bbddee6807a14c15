"""Calling an AudioHook server as Genesys Cloud does: one call, strictly by the protocol.

``AudioHookCaller`` moves bytes and time for ``client.Client``, which knows the protocol, and for
the plan's faults, some of which are of the socket and not of a message.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import replace

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from steno_sim.calls.audio import RATE_HZ, encode
from steno_sim.calls.client import NULL_ID, Client, Opening, State, Timers
from steno_sim.calls.dialling import Refused, dial
from steno_sim.calls.faults import CallFault, End, judge
from steno_sim.calls.plan import Act, CallPlan, fresh_id
from steno_sim.calls.results import CallResult, SessionResult
from steno_sim.calls.rules import Violation
from steno_sim.calls.strikes import acts, is_tolerant, strike
from steno_sim.calls.upgrade import upgrade_headers

STALL_S = 10.0
"""A send that takes longer means that the server does not read."""
_MOST_SESSIONS = 20
_SLOW_SHARE = 0.6  # of the ping interval: reading stops for no longer, or pongs would be late


class AudioHookCaller:
    """Makes the call of a plan; ``run`` once."""

    def __init__(
        self,
        url: str,
        plan: CallPlan,
        *,
        api_key: str,
        secret: str = "",
        timers: Timers | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Take the server's address, what to do, and the credentials.

        Args:
            url: ``ws://`` or ``wss://`` with the path of the server.
            plan: The call.
            api_key: Value of X-API-KEY.
            secret: Client secret, base64; empty sends no signature.
            timers: Other waiting times than the platform's.
            context: TLS trust for ``wss://``; the system's when None.
        """
        self._url = url
        self._plan = plan
        self._api_key = api_key
        self._secret = secret
        self._timers = timers or Timers()
        self._context = context
        self._begun = 0  # samples of the sound that earlier sessions have passed
        self._acts = deque(acts(plan))

    async def run(self) -> CallResult:
        """Make the call, over more than one session where it is continued.

        Raises:
            SecretError: The secret is not base64.
        """
        plan = self._plan
        sessions: list[SessionResult] = []
        if plan.fault is CallFault.REPLAYED:
            sessions = await self._replayed()
        else:
            await self._sessions(sessions)
        found = [violation for session in sessions for violation in session.violations]
        wrong = judge(plan.fault, "audiohook", sessions[-1].end)
        if wrong is not None and not (plan.fault is None and found):
            found.append(Violation(wrong[0], 0, wrong[1]))
        return CallResult(
            name=plan.name,
            family="audiohook",
            conversation=NULL_ID if plan.probe else plan.conversation,
            participants=dict(zip(plan.channels, plan.participants, strict=True)),
            fault=plan.fault,
            sessions=sessions,
            violations=found,
        )

    async def _sessions(self, sessions: list[SessionResult]) -> None:
        continued: tuple[tuple[str, int, int], ...] = ()
        for _ in range(_MOST_SESSIONS):
            opening = self._opening(continued)
            headers = self._headers(opening, self._plan.fault)
            session = _Session(self, opening, headers)
            sessions.append(await session.run())
            if not session.to_continue:
                return
            self._begun += session.client.position
            client = session.client
            continued = (*continued, (opening.session, client.server_seq, client.seq))

    async def _replayed(self) -> list[SessionResult]:
        """Use an upgrade, then the same again; the first must succeed."""
        opening = self._opening(())
        headers = self._headers(opening, None)
        first = _Session(self, opening, headers, brief=True)
        results = [await first.run()]
        if results[0].end is End.COMPLETED:
            results.append(await _Session(self, opening, headers, brief=True, tolerant=True).run())
        return results

    def _opening(self, continued: tuple[tuple[str, int, int], ...]) -> Opening:
        plan = self._plan
        return Opening(
            organisation=plan.organisation,
            session=fresh_id(),
            conversation=NULL_ID if plan.probe else plan.conversation,
            participant=plan.participants[0],
            offers=plan.offers,
            language=plan.language,
            ask_languages=plan.ask_languages,
            continued=continued,
            custom=plan.custom,
        )

    def _headers(self, opening: Opening, fault: CallFault | None) -> dict[str, str]:
        return upgrade_headers(
            self._url, opening, api_key=self._api_key, secret=self._secret, fault=fault
        )


class _Session:
    """One connection of a call. The reader feeds the client; the player alone writes."""

    def __init__(
        self,
        caller: AudioHookCaller,
        opening: Opening,
        headers: dict[str, str],
        *,
        brief: bool = False,
        tolerant: bool = False,
    ) -> None:
        self._caller = caller
        self._plan = caller._plan
        self._headers = headers
        self._brief = brief or self._plan.probe
        self._loop = asyncio.get_running_loop()
        if self._plan.fault is CallFault.WRONG_ORGANISATION:
            opening = replace(opening, organisation=fresh_id())
        self.client = Client(
            opening,
            now=self._loop.time(),
            timers=caller._timers,
            samples_per_s=RATE_HZ * self._plan.speed,
            clock_runs=self._plan.clock_runs,
            keep_log=self._plan.keep_log,
        )
        self.client.tolerant = tolerant or is_tolerant(self._plan.fault)
        self.to_continue = False
        self._wake = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()
        self._abandoned = False
        self._dropped = False
        self._half_open = False
        self._odd_bytes = 0
        self._payload = b""
        self._group = 1
        self._prepared = False
        self._flowing = False
        self._next_at = 0.0
        self._held_until: float | None = None
        self._resume_at: float | None = None
        self._hang_up_at: float | None = None

    async def run(self) -> SessionResult:
        """Connect, live through the session, and tell what became of it."""
        caller = self._caller
        try:
            socket = await dial(caller._url, self._headers, context=caller._context)
        except Refused as refusal:
            end = End.REFUSED if refusal.status else End.UNREACHABLE
            name = self.client.opening.session
            return SessionResult(session=name, end=end, status=refusal.status)
        if socket.subprotocol is not None:
            self.client.found("upgrade.subprotocol", "one was chosen", self._loop.time())
        reader = asyncio.create_task(self._read(socket))
        try:
            await self._live(socket)
        finally:
            if not self._abandoned:
                await socket.close()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        return self._result(socket)

    async def _live(self, socket: ClientConnection) -> None:
        try:
            if self._plan.fault is CallFault.SILENCE:
                await self._say_nothing(socket)
                return
            if self._plan.fault is CallFault.BINARY_BEFORE_OPEN:
                await socket.send(bytes(320))
            self.client.open(now=self._loop.time())
            await self._play(socket)
        except ConnectionClosed:
            # The reader has the frames that came before the end, and tells the client.
            async with asyncio.timeout(1):
                while self.client.state is not State.CLOSED:
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            self.client.found("socket.stalled", "", self._loop.time())
            self._abandon(socket)

    async def _read(self, socket: ClientConnection) -> None:
        client = self.client
        try:
            while True:
                await self._reading.wait()
                message = await socket.recv()
                if isinstance(message, str):
                    client.receive_text(message, now=self._loop.time())
                else:
                    client.receive_binary(len(message), now=self._loop.time())
                self._wake.set()
        except ConnectionClosed:
            if not self._abandoned:
                self._dropped = client.state is not State.CLOSED
                client.socket_ended(socket.close_code or 0, now=self._loop.time())
            self._wake.set()

    async def _play(self, socket: ClientConnection) -> None:
        """Turn until the session is over: timers, acts, messages, audio."""
        client = self.client
        while True:
            self._wake.clear()
            now = self._loop.time()
            client.on_deadline(now)
            due = self._step(socket, now)
            async with asyncio.timeout(STALL_S):
                await self._flush(socket)
                if self._half_open:
                    await self._hang(socket)
                if client.state is State.CLOSED:
                    return
                if due is not None and due <= now:
                    await socket.send(self._frame(now))
                    await asyncio.sleep(0)
                    continue
            waits = (client.next_deadline(), due, self._held_until, self._resume_at)
            await self._sleep(*waits, None if client.may_send_audio else self._hang_up_at)

    async def _flush(self, socket: ClientConnection) -> None:
        for text in self.client.to_send():
            await socket.send(text)

    async def _sleep(self, *until: float | None) -> None:
        """Wait for the earliest of the times, or for the reader.

        Whoever calls has cleared ``_wake`` before it last looked at the client, so nothing the
        reader told it since is missed.
        """
        known = [at for at in until if at is not None]
        timer = self._loop.call_at(min(known), self._wake.set) if known else None
        await self._wake.wait()
        if timer is not None:
            timer.cancel()

    def _step(self, socket: ClientConnection, now: float) -> float | None:
        """Do what falls due in the call; give when the next frame does, None for none."""
        client = self.client
        if client.state is not State.OPEN:
            return None
        if not self._prepared:
            self._prepare(now)
        if self._brief:
            client.close(now=now)
        elif client.reconnect_asked:
            self.to_continue = True
            client.close("reconnect", now=now)
        if self._resume_at is not None and now >= self._resume_at:
            self._resume_at = None
            client.resume_self(now=now)
        if not client.may_send_audio:
            self._flowing = False
            over = self._hang_up_at is not None and now >= self._hang_up_at
            if over and self._resume_at is None:
                client.close(now=now)
            return None
        if not self._flowing:
            self._flowing = True
            self._next_at = now + self._plan.wall_s(self._plan.frame_ms)
        return self._next_frame(socket, now)

    def _prepare(self, now: float) -> None:
        """Make the audio of the selected medium ready."""
        self._prepared = True
        plan, selected = self._plan, self.client.selected
        self._hang_up_at = now + plan.length_s
        if selected is not None:
            self._hang_up_at += plan.patience_s
            sound = plan.heard(selected.channels).after(self._caller._begun)
            self._payload = encode(sound, selected.form)
            self._group = selected.group_bytes

    def _next_frame(self, socket: ClientConnection, now: float) -> float | None:
        """Do the acts that are due and give when audio is; close where the sound ends."""
        client, todo = self.client, self._caller._acts
        while todo and client.state is State.OPEN:
            passed_ms = (client.position + self._caller._begun) * 1000 // RATE_HZ
            if todo[0].at_ms > passed_ms:
                break
            self._act(todo.popleft(), socket, now)
        if not client.may_send_audio or self._half_open:
            self._flowing = False
            return None
        if self._held_until is not None:
            if now < self._held_until:
                return None
            self._held_until = None
        if client.position * self._group >= len(self._payload):
            client.close(now=now)
            return None
        return self._next_at

    def _frame(self, now: float) -> bytes:
        """Give the next frame, counted as sent."""
        plan, client, group = self._plan, self.client, self._group
        start = client.position * group
        frame = self._payload[start : start + plan.frame_samples * group]
        frame = frame[: len(frame) - self._odd_bytes]
        self._odd_bytes = 0
        client.audio_sent(len(frame) // group, len(frame), now=now)
        self._next_at += plan.wall_s(plan.frame_ms)
        return frame

    def _act(self, act: Act, socket: ClientConnection, now: float) -> None:
        client, wall_s = self.client, self._plan.wall_s(act.for_ms)
        samples = act.for_ms * RATE_HZ // 1000
        match act.do:
            case "pause":
                client.pause_self(now=now)
                self._resume_at = now + wall_s
                if self._hang_up_at is not None:
                    self._hang_up_at += wall_s
            case "discard":
                client.discard(samples, now=now)
                self._next_at += wall_s
            case "discard_nothing":
                client.discard_nothing(samples, now=now)
            case "update":
                client.update(act.language, now=now)
            case "error":
                client.complain(500, "simulated", now=now)
            case "reconnect":
                client.reconnect_asked = True
                self._wake.set()
            case "late":
                self._held_until = now + (wall_s or 0.05)
            case "strike":
                self._strike(socket, now)

    def _strike(self, socket: ClientConnection, now: float) -> None:
        fault = self._plan.fault
        assert fault is not None, "only a plan with a fault has a strike"
        match fault:
            case CallFault.DROP:
                self._abandon(socket)
            case CallFault.DROP_AND_CONTINUE:
                self.to_continue = True
                self._abandon(socket)
            case CallFault.HALF_OPEN:
                self._half_open = True
            case CallFault.SLOW_READER:
                self._reading.clear()
                most = _SLOW_SHARE * self._caller._timers.ping_s
                self._loop.call_later(min(self._plan.patience_s, most), self._reading.set)
            case CallFault.ODD_FRAME:
                self._odd_bytes = 1
            case _:
                strike(self.client, fault, now=now)

    async def _say_nothing(self, socket: ClientConnection) -> None:
        """Wait for the server to lose patience, or for our own to end."""
        until = self._loop.time() + self._plan.patience_s
        while self.client.state is not State.CLOSED and self._loop.time() < until:
            self._wake.clear()
            await self._flush(socket)
            await self._sleep(until)
        if self.client.state is not State.CLOSED:
            self._abandon(socket)

    async def _hang(self, socket: ClientConnection) -> None:
        """Neither read nor write; then look whether the server has ended it."""
        socket.transport.pause_reading()
        async with asyncio.timeout(None):
            await asyncio.sleep(self._plan.patience_s)
        self._wake.clear()
        socket.transport.resume_reading()
        await self._sleep(self._loop.time() + 0.3)
        if self.client.state is not State.CLOSED:
            self._abandon(socket)

    def _abandon(self, socket: ClientConnection) -> None:
        self._abandoned = True
        self.client.state = State.CLOSED
        socket.transport.abort()

    def _result(self, socket: ClientConnection) -> SessionResult:
        client = self.client
        return SessionResult(
            session=client.opening.session,
            end=self._end(),
            opened_ms=client.opened_ms,
            closed_ms=client.closed_ms,
            close_code=socket.close_code or 0,
            media=client.selected.message() if client.selected else None,
            languages=client.languages,
            rtts_ms=client.rtts_ms,
            entities=client.entities,
            violations=client.violations,
            position_ms=client.position * 1000 // RATE_HZ,
            frames=client.frames,
            audio_bytes=client.audio_bytes,
            disconnected=client.disconnected,
            log=client.log,
        )

    def _end(self) -> End:
        client = self.client
        if self._abandoned:
            return End.ABANDONED
        if client.failed:
            return End.FAILED
        if client.disconnected == "unauthorized":
            return End.UNAUTHORIZED
        if client.disconnected not in ("", "completed"):
            return End.DISCONNECTED
        if self._dropped:
            return End.DROPPED
        return End.COMPLETED if client.closed_ms is not None else End.FAILED
