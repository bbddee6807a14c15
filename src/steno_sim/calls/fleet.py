"""Many AudioHook calls at once from one process: correct ones, paced, and counted.

The protocol is ``client.Client``, as for a single call; what differs is the transport
(``raw_socket``) and that the audio of a sound is framed and masked once for all its calls, so
that 500 calls of stereo in 200 ms frames need a fraction of a core.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from steno_sim.calls.audio import RATE_HZ, encode
from steno_sim.calls.client import NULL_ID, Client, Offer, Opening, State, Timers
from steno_sim.calls.faults import End, judge
from steno_sim.calls.plan import CallPlan, fresh_id
from steno_sim.calls.raw_socket import BINARY, RawSocket, masked
from steno_sim.calls.results import CallResult, SessionResult
from steno_sim.calls.rules import Violation
from steno_sim.calls.upgrade import upgrade_headers

STALL_S = 10.0
CONNECT_S = 15.0
_AT_ONCE = 16  # frames written in one go when flat out


@dataclass(slots=True)
class FleetReport:
    """What became of all calls, and what it cost here."""

    results: list[CallResult]
    seconds: float
    cpu_seconds: float
    late_ms: list[float] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when no call broke a rule."""
        return all(result.ok for result in self.results)

    def summary(self) -> dict[str, Any]:
        """Give the counts, JSON-able: see ``summarise``; with the fleet's own cost."""
        return summarise(self.results) | {
            "seconds": round(self.seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "late_p99_ms": percentile(self.late_ms, 0.99),
        }


def summarise(results: Sequence[CallResult]) -> dict[str, Any]:
    """Give calls, ok, ends, violations by rule, times, entities and bytes."""
    sessions = [session for result in results for session in result.sessions]
    ends: dict[str, int] = {}
    rules: dict[str, int] = {}
    for result in results:
        ends[result.end] = ends.get(result.end, 0) + 1
        for violation in result.violations:
            rules[violation.rule] = rules.get(violation.rule, 0) + 1
    opened = [s.opened_ms for s in sessions if s.opened_ms is not None]
    closed = [s.closed_ms for s in sessions if s.closed_ms is not None]
    rtts = [rtt for session in sessions for rtt in session.rtts_ms]
    entities = [entity for result in results for entity in result.entities]
    return {
        "calls": len(results),
        "ok": sum(result.ok for result in results),
        "ends": dict(sorted(ends.items())),
        "violations": dict(sorted(rules.items())),
        "opened_p50_ms": percentile(opened, 0.50),
        "opened_p99_ms": percentile(opened, 0.99),
        "pong_p99_ms": percentile(rtts, 0.99),
        "closed_p99_ms": percentile(closed, 0.99),
        "entities": len(entities),
        "finals": sum(entity.is_final for entity in entities),
        "audio_seconds": round(sum(session.position_ms for session in sessions) / 1000, 3),
        "audio_bytes": sum(session.audio_bytes for session in sessions),
    }


def percentile(values: Sequence[float], share: float) -> float | None:
    """Give the smallest value that so many are not above; None of nothing."""
    if not values:
        return None
    return round(sorted(values)[max(0, math.ceil(share * len(values)) - 1)], 3)


class Fleet:
    """Plays plans against one server; ``run`` once."""

    def __init__(
        self,
        url: str,
        plans: Sequence[CallPlan],
        *,
        api_key: str,
        secret: str = "",
        ramp_s: float = 0.0,
        at_once: int = 0,
        timers: Timers | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Take the calls.

        Args:
            url: Address of the server.
            plans: The calls; none with a fault or acts.
            api_key: Value of X-API-KEY.
            secret: Client secret, base64; empty sends no signature.
            ramp_s: The calls begin evenly spread over so long.
            at_once: So many calls at the same time, the others wait; 0 is all.
            timers: Other waiting times than the platform's.
            context: TLS trust for ``wss://``.
        """
        if any(plan.fault is not None or plan.acts for plan in plans):
            raise ValueError("a fleet plays correct calls; make those with faults one by one")
        self.url = url
        self.timers = timers or Timers()
        self.late_ms: list[float] = []
        self._plans = plans
        self._api_key, self._secret = api_key, secret
        self._ramp_s = ramp_s
        self._at_once = asyncio.Semaphore(at_once or max(len(plans), 1))
        self._context = context
        self._frames: dict[tuple[int, int, Offer], list[bytes]] = {}

    async def run(self) -> FleetReport:
        """Play every call to its end.

        Raises:
            SecretError: The secret is not base64.
        """
        began, cpu = time.monotonic(), time.process_time()
        gap_s = self._ramp_s / max(len(self._plans), 1)
        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(self._call(plan, gap_s * number))
                for number, plan in enumerate(self._plans)
            ]
        return FleetReport(
            [call.result() for call in calls],
            time.monotonic() - began,
            time.process_time() - cpu,
            self.late_ms,
        )

    def frames(self, plan: CallPlan, offer: Offer) -> list[bytes]:
        """Give the masked frames of a plan's sound in a medium, made once."""
        key = (id(plan.sound), plan.frame_samples, offer)
        known = self._frames.get(key)
        if known is None:
            payload = encode(plan.heard(offer.channels), offer.form)
            size = plan.frame_samples * offer.group_bytes
            known = [masked(BINARY, payload[at : at + size]) for at in range(0, len(payload), size)]
            self._frames[key] = known
        return known

    async def _call(self, plan: CallPlan, wait_s: float) -> CallResult:
        await asyncio.sleep(wait_s)
        async with self._at_once:
            return await self._made(plan)

    async def _made(self, plan: CallPlan) -> CallResult:
        call = _FleetCall(self, plan)
        headers = upgrade_headers(
            self.url, call.client.opening, api_key=self._api_key, secret=self._secret
        )
        try:
            async with asyncio.timeout(CONNECT_S):
                call.socket = RawSocket(self.url, headers, call)
                await call.socket.connect(context=self._context)
                await call.begun.wait()
        except (OSError, TimeoutError):
            call.over.set()
        try:
            await call.over.wait()
        finally:
            call.stop()
        return call.result()


class _FleetCall:
    """One call, driven by what comes and by one timer."""

    def __init__(self, fleet: Fleet, plan: CallPlan) -> None:
        self._fleet = fleet
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self.client = Client(
            Opening(
                organisation=plan.organisation,
                session=fresh_id(),
                conversation=NULL_ID if plan.probe else plan.conversation,
                participant=plan.participants[0],
                offers=plan.offers,
                language=plan.language,
                ask_languages=plan.ask_languages,
                custom=plan.custom,
            ),
            now=self._loop.time(),
            timers=fleet.timers,
            keep_log=plan.keep_log,
        )
        self.socket: RawSocket | None = None
        self.begun = asyncio.Event()
        self.over = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._frames: list[bytes] = []
        self._ready = self._flowing = self._dropped = False
        self._status: int | None = None
        self._code = 0
        self._next_at = 0.0
        self._hang_up_at = 0.0
        self._full_since: float | None = None
        self._frame_s = plan.wall_s(plan.frame_ms)

    # What the socket tells.

    def connected(self) -> None:
        """Say ``open``."""
        self.begun.set()
        self.client.open(now=self._loop.time())
        self._turn()

    def refused(self, status: int) -> None:
        """Take a refusal for the end."""
        self._status = status
        self.begun.set()
        self.over.set()

    def text(self, data: bytes) -> None:
        """Take a message."""
        self.client.receive_text(data, now=self._loop.time())
        self._turn()

    def binary(self, size: int) -> None:
        """Take a binary frame."""
        self.client.receive_binary(size, now=self._loop.time())
        self._turn()

    def ended(self, code: int) -> None:
        """Take the end of the socket."""
        self._code = code
        if self.client.state is not State.CLOSED:
            self._dropped = True
            self.client.socket_ended(code, now=self._loop.time())
        self.over.set()

    def writable(self) -> None:
        """Go on."""
        self._full_since = None
        self._turn()

    def stop(self) -> None:
        """End timer and socket."""
        if self._timer is not None:
            self._timer.cancel()
        if self.socket is not None:
            self.socket.abort()

    # Driving.

    def _turn(self) -> None:
        """Do what is due, send what is queued, and come back when something is due again."""
        client, socket = self.client, self.socket
        assert socket is not None, "it is what calls this first"
        now = self._loop.time()
        client.on_deadline(now)
        due = self._step(socket, now)
        for text in client.to_send():
            socket.send_text(text)
        if client.state is State.CLOSED:
            socket.close()
            if self._timer is not None:
                self._timer.cancel()
            return
        deadline = client.next_deadline()
        if due is None or (deadline is not None and deadline < due):
            due = deadline
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._turn) if due is not None else None

    def _step(self, socket: RawSocket, now: float) -> float | None:
        """Send the audio that is due; give when more is, or when the call must end."""
        client = self.client
        if client.state is not State.OPEN:
            return None
        if not self._ready:
            self._prepare(now)
        if self._plan.probe:
            client.close(now=now)
            return None
        if not client.may_send_audio:
            self._flowing = False
            if now >= self._hang_up_at:
                client.close(now=now)
            return self._hang_up_at
        if not self._flowing:
            self._flowing = True
            self._next_at = now + self._frame_s
        return self._send(socket, now)

    def _prepare(self, now: float) -> None:
        self._ready = True
        self._hang_up_at = now + self._plan.length_s
        if self.client.selected is not None:
            self._hang_up_at += self._plan.patience_s
            self._frames = self._fleet.frames(self._plan, self.client.selected)

    def _send(self, socket: RawSocket, now: float) -> float | None:
        client, plan = self.client, self._plan
        if socket.full:
            self._full_since = self._full_since or now
            if now - self._full_since >= STALL_S:
                client.found("socket.stalled", "", now)
                client.state = State.CLOSED
                return None
            return self._full_since + STALL_S
        assert client.selected is not None, "audio flows only when a medium was selected"
        group = client.selected.group_bytes
        for _ in range(_AT_ONCE):
            place = -(-client.position // plan.frame_samples)
            if place >= len(self._frames):
                client.close(now=now)
                return None
            if self._next_at > now:
                return self._next_at
            if self._frame_s:
                self._fleet.late_ms.append((now - self._next_at) * 1000)
            start = place * plan.frame_samples
            samples = min(plan.frame_samples, plan.sound.length - start)
            client.audio_sent(samples, samples * group, now=now)
            socket.write(self._frames[place])
            self._next_at += self._frame_s
            if socket.full:
                break
        return now

    def result(self) -> CallResult:
        """Tell what became of it."""
        client, plan = self.client, self._plan
        end = self._end()
        violations = list(client.violations)
        wrong = judge(None, "audiohook", end)
        if wrong is not None and not violations:
            violations.append(Violation(wrong[0], 0, wrong[1]))
        session = SessionResult(
            session=client.opening.session,
            end=end,
            status=self._status or 0,
            opened_ms=client.opened_ms,
            closed_ms=client.closed_ms,
            close_code=self._code,
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
        return CallResult(
            name=plan.name,
            family="audiohook",
            conversation=client.opening.conversation,
            participants=dict(zip(plan.channels, plan.participants, strict=True)),
            fault=None,
            sessions=[session],
            violations=violations,
        )

    def _end(self) -> End:
        client = self.client
        if client.state is State.NEW:
            return End.REFUSED if self._status else End.UNREACHABLE
        if client.failed:
            return End.FAILED
        if client.disconnected == "unauthorized":
            return End.UNAUTHORIZED
        if client.disconnected not in ("", "completed"):
            return End.DISCONNECTED
        if self._dropped:
            return End.DROPPED
        return End.COMPLETED if client.closed_ms is not None else End.FAILED
