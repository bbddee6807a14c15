"""The recogniser that is a speech-to-text service over gRPC.

Every lane has a call of its own, on few connections. What a lane has to say is decided by
``steno.wire.speech_stream``; here is what all lanes share:

- *One flush.* ``send`` only appends. A few milliseconds later everything that all lanes have to
  write leaves in one system call for each connection.
- *One connection attempt.* While the service is away nobody but the dialler touches it; lanes
  keep their audio. When it is back, what it offers is asked once (``auto``), and the lanes open
  their calls spread over a moment.
- *One circuit breaker.* When calls fail one after the other though the connection stands, a
  single lane tries at a time; an answer to it lets the others go. A call that outlives
  ``settle_s`` without an answer proves little, since a loaded service refuses late: it lets a
  few others go, those a few more, and so on.
- *One budget.* When all lanes together hold too much audio, the one that holds most seconds
  gives up its oldest first.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Final

from steno.adapters.grpc_channel import Metadata
from steno.adapters.grpc_status import retry_after_s
from steno.adapters.speech.grpc_service import Contract, SpeechService, SpeechServiceSettings
from steno.adapters.speech.grpc_stream import GrpcSpeechStream
from steno.core.replay import Budget
from steno.core.timing import CircuitBreaker, CircuitState
from steno.ports import Telemetry
from steno.ports.speech import SpeechListener, StreamSpec
from steno.wire import grpc_wire
from steno.wire.grpc_wire import CallEnded
from steno.wire.speech_stream import Move, Pace, State

__all__ = ["GrpcRecogniser", "SpeechServiceSettings"]

TICK_S: Final = 0.05
"""How exactly delays and limits of lanes are kept."""
SPREAD_S: Final = 0.5
"""Calls opened again by a thousand lanes are spread over this; fewer take less."""
FEW: Final = 20
"""So many calls may be opened at once."""
BREAKER_FAILURES: Final = 8
BREAKER_OPEN_S: Final = 1.0
GRADUAL: Final = 4
"""So many others a trial lets go that has outlived ``settle_s`` without an answer."""
FLAPPING_S: Final = 10.0
"""The same trouble within this is not told again: a full service takes one now and then."""
RELIEF: Final = 0.97
"""Down to which share of the budget audio is given up at once, so that it is not done for
every chunk."""
_AWAY_S: Final = 3600.0
_FULL_S: Final = 1.0

# What a status says about our next try. Anything else: soon.
_PACES: Final = {
    grpc_wire.RESOURCE_EXHAUSTED: (Pace.BUSY, "RateLimited"),
    grpc_wire.UNAUTHENTICATED: (Pace.SLOWLY, "AuthError"),
    grpc_wire.PERMISSION_DENIED: (Pace.SLOWLY, "AuthError"),
    grpc_wire.UNIMPLEMENTED: (Pace.SLOWLY, "NotOffered"),
    grpc_wire.INVALID_ARGUMENT: (Pace.SLOWLY, "ServiceRefused"),
    grpc_wire.FAILED_PRECONDITION: (Pace.SLOWLY, "ServiceRefused"),
    grpc_wire.OUT_OF_RANGE: (Pace.SLOWLY, "ServiceRefused"),
    grpc_wire.UNAVAILABLE: (Pace.SOON, "PeerUnavailable"),
    grpc_wire.CANCELLED: (Pace.SOON, "PeerUnavailable"),
    grpc_wire.DEADLINE_EXCEEDED: (Pace.SOON, "TimedOut"),
    grpc_wire.INTERNAL: (Pace.SOON, "ServiceFailed"),
}
_OTHERWISE: Final = (Pace.SOON, "ServiceFailed")


class GrpcRecogniser:
    """See the module; implements ``steno.ports.speech.Recogniser``. Used on one loop only.

    Args:
        clock: Monotonic seconds.
        draw: Uniform numbers in [0, 1).

    Raises:
        ConfigError: A certificate, key or token file cannot be read.
    """

    def __init__(
        self,
        settings: SpeechServiceSettings,
        *,
        telemetry: Telemetry,
        clock: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.draw = draw
        self.budget = Budget(settings.budget_bytes)
        self._telemetry = telemetry
        self._service = SpeechService(
            settings,
            telemetry=telemetry,
            clock=clock,
            draw=draw,
            on_ready=self._on_ready,
            on_away=self._on_away,
            on_lost=self._on_lost,
            on_room=self._on_room,
            is_wanted=lambda: bool(self._streams),
        )
        self.flushes = 0
        """How often everything was written."""
        self._languages: tuple[str, ...] = ()
        self._breaker = CircuitBreaker(failures=BREAKER_FAILURES, open_s=BREAKER_OPEN_S)
        self._passes = 0  # calls that may be opened though the breaker is not closed
        self._trouble: str | None = None
        self._was_available = False
        self._told_trouble, self._told_at = "", 0.0
        self._streams: set[GrpcSpeechStream] = set()
        self._dirty: list[GrpcSpeechStream] = []
        self._blocked: set[GrpcSpeechStream] = set()
        self._watched: set[GrpcSpeechStream] = set()
        self._flush_timer: asyncio.TimerHandle | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()  # set when the last stream is over
        self._is_closed = False
        self.count_streams = telemetry.gauge("steno_speech_streams")
        self.count_resent = telemetry.counter("steno_speech_resent_chunks_total")
        self.count_repeats = telemetry.counter("steno_speech_repeats_total")
        self.count_shed = telemetry.counter("steno_speech_shed_seconds_total")

    # --- the port ----------------------------------------------------------------------------

    @property
    def languages(self) -> tuple[str, ...]:
        """As the service named them last; the document's contract has no way to say."""
        return self._languages

    @property
    def contract(self) -> Contract | None:
        """What is spoken on the present connection."""
        return self._service.contract

    @property
    def metadata(self) -> Metadata:
        """What every call carries."""
        return self._service.metadata

    @property
    def is_away(self) -> bool:
        """Whether the last try to reach the service failed; False while nobody has tried."""
        return self._trouble is not None

    def open(self, spec: StreamSpec, listener: SpeechListener) -> GrpcSpeechStream:
        """Begin a stream; returns at once. Needs a running loop."""
        stream = GrpcSpeechStream(self, spec, listener)
        if self._is_closed:
            stream.machine.abort()
            return stream
        self._streams.add(stream)
        self._empty.clear()
        self.count_streams(len(self._streams))
        self._try_open(stream, self.clock())
        return stream

    def flush(self) -> None:
        """Write what all streams have pending, now; happens by itself ``flush_s`` after it came."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        self.flushes += 1
        now = self.clock()
        dirty, self._dirty = self._dirty, []
        for stream in dirty:
            stream.is_dirty = False
            stream.pump(now)
        self._service.flush()

    async def close(self, timeout_s: float) -> None:
        """Finish every stream, wait until they are over, then let go of the connections."""
        for stream in list(self._streams):
            stream.finish()
        try:
            async with asyncio.timeout(timeout_s):
                while self._streams:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            self._telemetry.warning("speech.close_timed_out", count=len(self._streams))
        self._is_closed = True
        for stream in list(self._streams):
            stream.give_up(self.clock())
        for timer in (self._flush_timer, self._tick_timer):
            if timer is not None:
                timer.cancel()
        await self._service.close()

    # --- streams -----------------------------------------------------------------------------

    def touch(self, stream: GrpcSpeechStream) -> None:
        """Let the stream take part in the next flush."""
        if not stream.is_dirty:
            stream.is_dirty = True
            self._dirty.append(stream)
        self.wake()

    def wake(self) -> None:
        """See that there is a flush."""
        if self._flush_timer is None and not self._is_closed:
            loop = asyncio.get_running_loop()
            self._flush_timer = loop.call_later(self.settings.flush_s, self._on_flush_timer)

    def _on_flush_timer(self) -> None:
        self._flush_timer = None
        self.flush()

    def watch(self, stream: GrpcSpeechStream) -> None:
        """Look after the stream's deadline, if it has one."""
        stream.deadline = stream.machine.next_deadline()
        if stream.deadline is None:
            self._watched.discard(stream)
            return
        self._watched.add(stream)
        if self._tick_timer is None and not self._is_closed:
            loop = asyncio.get_running_loop()
            self._tick_timer = loop.call_later(TICK_S, self._on_tick)

    def _on_tick(self) -> None:
        now = self.clock()
        loop = asyncio.get_running_loop()
        # Armed first: what is done below finds it armed.
        self._tick_timer = loop.call_later(TICK_S, self._on_tick) if self._watched else None
        for stream in list(self._watched):
            if stream.deadline is not None and stream.deadline <= now:
                self._on_deadline(stream, now)
        self._service.flush()

    def _on_deadline(self, stream: GrpcSpeechStream, now: float) -> None:
        match stream.machine.on_deadline(now):
            case Move.OPEN:
                self._try_open(stream, now)
            case Move.BREAK:
                stream.drop_call()
                self._broke(stream, "TimedOut", now=now)
            case Move.OVER:
                stream.drop_call()
            case Move.NOTHING:
                pass
        self.settle(stream)

    def settle(self, stream: GrpcSpeechStream) -> None:
        """Do what follows from a change of the stream's machine: events, counts, deadlines."""
        machine = stream.machine
        if machine.state is State.OPEN and stream.is_on_trial:
            self._was_taken(stream)
        stream.deliver()
        if machine.state is State.OVER:
            self.forget(stream)
        else:
            self.watch(stream)

    def forget(self, stream: GrpcSpeechStream) -> None:
        """The stream is over."""
        stream.drop_call()
        self._streams.discard(stream)
        self._watched.discard(stream)
        self._blocked.discard(stream)
        self.count_streams(len(self._streams))
        if not self._streams:
            self._empty.set()

    def block(self, stream: GrpcSpeechStream) -> None:
        """The stream wants to write and has no room."""
        self._blocked.add(stream)

    def relieve(self) -> None:
        """Bring the audio of all streams below the budget: most seconds held gives first."""
        now = self.clock()
        target = int(self.budget.limit * RELIEF)
        holders = [(-stream.held_s, place, stream) for place, stream in enumerate(self._streams)]
        heapq.heapify(holders)
        while self.budget.held > target and holders:
            _, place, stream = holders[0]
            if stream.machine.give_up_oldest(now=now):
                heapq.heapreplace(holders, (-stream.held_s, place, stream))
            else:
                heapq.heappop(holders)
        for _, _, stream in holders:
            self.watch(stream)

    # --- calls -------------------------------------------------------------------------------

    def _try_open(self, stream: GrpcSpeechStream, now: float) -> None:
        """Open the stream's call if the service is there and the breaker lets it."""
        machine = stream.machine
        service = self._service
        link = service.link()
        if link is None or service.contract is None:
            # ``_on_ready`` comes when there is a new one; room on an old one is not announced.
            machine.postpone(now + (_FULL_S if service.links else _AWAY_S))
            self.watch(stream)
            return
        if self._passes:
            self._passes -= 1
        elif not self._breaker.allow(now):
            machine.postpone(now + self._breaker.retry_in(now) + self.draw() * BREAKER_OPEN_S)
            self.watch(stream)
            return
        stream.is_on_trial, stream.is_silent = True, False
        stream.is_probe = self._breaker.state is not CircuitState.CLOSED
        stream.begin(link, service.contract, now)
        self.touch(stream)
        self.settle(stream)

    def call_ended(self, stream: GrpcSpeechStream, ended: CallEnded) -> None:
        """The stream's call is over; decides how it goes on."""
        now = self.clock()
        if ended.code == grpc_wire.OK:
            stream.machine.peer_ended(now=now, draw=self.draw())
            if stream.machine.state is State.WAITING:
                self._count_break("StreamEnded")
            self.settle(stream)
            return
        pace, cause = _PACES.get(ended.code, _OTHERWISE)
        if ended.code == grpc_wire.UNIMPLEMENTED and self._service.falls_back():
            pace = Pace.SOON
        elif cause == "AuthError" and (
            self._service.reread() or not stream.machine.is_unproven(now)
        ):
            pace = Pace.SOON  # the token was replaced, or has just run out in the call
        wait_s = retry_after_s(ended.metadata)
        self._broke(stream, cause, now=now, pace=pace, wait_s=wait_s)

    def _broke(
        self,
        stream: GrpcSpeechStream,
        cause: str,
        *,
        now: float,
        pace: Pace = Pace.SOON,
        wait_s: float | None = None,
    ) -> None:
        machine = stream.machine
        was_new = machine.is_unproven(now)
        machine.broke(cause, now=now, draw=self.draw(), pace=pace, retry_after_s=wait_s)
        self._count_break(cause)
        if was_new and self._service.links:
            self._failed(cause, now)
        self.settle(stream)

    def _count_break(self, cause: str) -> None:
        self._telemetry.counter("steno_speech_breaks_total", reason=cause)(1)

    def _failed(self, cause: str, now: float) -> None:
        """A call failed before anything came of it."""
        was = self._breaker.state
        self._passes = 0
        self._breaker.failed(now)
        if self._breaker.state is CircuitState.OPEN and was is CircuitState.CLOSED:
            self._unavailable(cause)
        if cause == "AuthError":
            self._unavailable(cause)

    def _was_taken(self, stream: GrpcSpeechStream) -> None:
        """The stream's call was answered, or has outlived the wait."""
        is_closed = self._breaker.state is CircuitState.CLOSED
        if stream.machine.has_answered:
            stream.is_on_trial = False
            # That a call of before the trouble talks at last says nothing about new ones.
            if is_closed or stream.is_probe or not stream.is_silent:
                self._worked()
        elif not stream.is_silent:
            stream.is_silent = True
            self._service.has_worked = True
            if is_closed:
                self._available()
            elif stream.is_probe and self._breaker.state is CircuitState.HALF_OPEN:
                self._release_some()

    def _worked(self) -> None:
        """A call was answered: the service works."""
        self._service.has_worked = True
        self._passes = 0
        was_closed = self._breaker.state is CircuitState.CLOSED
        self._breaker.succeeded(self.clock())
        if not was_closed:
            self._release()
        self._available()

    def _release(self) -> None:
        """Let every stream that waits try again, spread over a moment.

        Those that came while the first connection was being made do not wait longer: but for
        that, they would have opened their calls when they came.
        """
        now = self.clock()
        for stream in [one for one in self._streams if one.machine.is_fresh]:
            stream.machine.hasten(now)
            self._on_deadline(stream, now)
        waiting = [one for one in self._streams if one.machine.state is State.WAITING]
        if len(waiting) <= FEW:
            for stream in waiting:
                stream.machine.hasten(now)
                self._on_deadline(stream, now)
            return
        spread_s = SPREAD_S * min(1.0, len(waiting) / 1000)
        for stream in waiting:
            stream.machine.hasten(now + spread_s * self.draw())
            self.watch(stream)

    def _release_some(self) -> None:
        """Let a few streams try, after a trial that was neither answered nor refused."""
        now = self.clock()
        waiting = [one for one in self._streams if one.machine.state is State.WAITING]
        if len(waiting) <= GRADUAL:
            self._worked()
            return
        self._passes += GRADUAL
        for stream in waiting[:GRADUAL]:
            stream.machine.hasten(now)
            self._on_deadline(stream, now)

    # --- the service -------------------------------------------------------------------------

    def _on_ready(self) -> None:
        self._passes = 0
        self._breaker.succeeded(self.clock())  # what it knew was about the connection before
        self._release()

    def _on_away(self, cause: str) -> None:
        """Tell every stream that no connection could be made."""
        self._unavailable(cause)
        now = self.clock()
        for stream in list(self._streams):
            machine = stream.machine
            if machine.state is State.WAITING:
                machine.broke(cause, now=now, draw=self.draw())
                machine.postpone(now + _AWAY_S)
                self.settle(stream)

    def _on_lost(self, cause: str) -> None:
        if self._streams:
            self._unavailable(cause)

    def _on_room(self) -> None:
        """Windows were opened: those who had no room write again."""
        if self._blocked:
            blocked, self._blocked = self._blocked, set()
            for stream in blocked:
                self.touch(stream)

    # --- telling -----------------------------------------------------------------------------

    def _unavailable(self, cause: str) -> None:
        now = self.clock()
        is_news = cause != self._told_trouble or now >= self._told_at + FLAPPING_S
        if self._trouble != cause and is_news:
            self._told_trouble, self._told_at, self._was_available = cause, now, False
            self._telemetry.warning("speech.unavailable", cause=cause, count=len(self._streams))
        self._trouble = cause

    def _available(self) -> None:
        self._trouble = None
        if not self._was_available:
            self._was_available = True
            self._telemetry.info("speech.available", count=len(self._streams))

    def told(self, languages: tuple[str, ...]) -> None:
        """The service named its languages."""
        self._languages = languages
