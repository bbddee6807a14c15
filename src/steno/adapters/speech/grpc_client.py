"""The recogniser that is a speech-to-text service over gRPC.

Every lane has a call of its own, on few connections. What a lane has to say is decided by
``steno.wire.speech_stream``; here is what all lanes share:

- *One flush.* ``send`` only appends. A few milliseconds later everything that all lanes have to
  write leaves in one system call for each connection.
- *One connection attempt.* While the service is away nobody but the dialler touches it; lanes
  keep their audio. When it is back, what it offers is asked once (``auto``), and the lanes open
  their calls spread over a moment.
- *One circuit breaker.* When calls fail one after the other though the connection stands, a
  single lane tries at a time; its success lets the others go.
- *One budget.* When all lanes together hold too much audio, the one that holds most seconds
  gives up its oldest first.
"""

from __future__ import annotations

import asyncio
import heapq
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from google.protobuf.message import DecodeError

from steno.adapters.grpc_channel import GrpcSettings, call_metadata, files_stamp
from steno.adapters.grpc_status import retry_after_s
from steno.adapters.speech.grpc_codec import (
    DOCUMENT_PATH,
    STENO_PATH,
    Codec,
    DocumentCodec,
    SequenceOverflow,
    StenoCodec,
)
from steno.adapters.speech.grpc_link import Call, Link, dial, tls_context
from steno.core.replay import Budget
from steno.core.timing import Backoff, CircuitBreaker, CircuitState
from steno.errors import ConfigError, ConnectFailed, RemoteProtocolError, TimedOut
from steno.ports import Telemetry
from steno.ports.speech import AudioChunk, SpeechListener, StreamSpec
from steno.wire import grpc_wire
from steno.wire.grpc_wire import CallEnded
from steno.wire.speech_stream import Limits, Move, Pace, SpeechStreamMachine, State

Contract = Literal["steno.v1", "transcription"]

TICK_S: Final = 0.05
"""How exactly delays and limits of lanes are kept."""
ALIVE_TICK_S: Final = 1.0
SPREAD_S: Final = 0.5
"""Calls opened again by a thousand lanes are spread over this; fewer take less."""
FEW: Final = 20
"""So many calls may be opened at once."""
BREAKER_FAILURES: Final = 8
BREAKER_OPEN_S: Final = 1.0
FLAPPING_S: Final = 10.0
"""The same trouble within this is not told again: a full service takes one now and then."""
MAX_DIAL_S: Final = 2.0
"""One process dials once for all its streams, so it can do so often."""
CLOSE_LIMIT_S: Final = 0.25
MAX_LINKS: Final = 32
RELIEF: Final = 0.97
"""Down to which share of the budget audio is given up at once, so that it is not done for
every chunk."""
_AWAY_S: Final = 3600.0
_FULL_S: Final = 1.0
DIALLER_FAILED_S: Final = 5.0

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechServiceSettings:
    """Everything about one speech service.

    Attributes:
        grpc: How it is reached; its ``service`` is not looked at, ``service`` here is.
        service: ``auto`` asks for ``steno.v1`` once for each connection, and speaks the
            document's ``transcription`` where that is not offered.
        limits: Times of a stream.
        budget_bytes: Audio that all streams together may hold.
        flush_s: How long what is to be sent is gathered.
    """

    grpc: GrpcSettings = field(default_factory=GrpcSettings)
    service: Literal["auto", "steno.v1", "transcription"] = "auto"
    limits: Limits = field(default_factory=Limits)
    budget_bytes: int = 512 * 1024 * 1024
    flush_s: float = 0.01


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
        self.metadata = call_metadata(settings.grpc)
        self._telemetry = telemetry
        self._context: ssl.SSLContext | None = tls_context(settings.grpc)
        self._stamp = files_stamp(settings.grpc)
        self._languages: tuple[str, ...] = ()
        self._contract: Contract | None = None
        self._told_contract: Contract | None = None
        self._links: list[Link] = []
        self._dialler: asyncio.Task[None] | None = None
        self._breaker = CircuitBreaker(failures=BREAKER_FAILURES, open_s=BREAKER_OPEN_S)
        limits = settings.limits
        self._dial_backoff = Backoff(limits.first_s, min(limits.cap_s, MAX_DIAL_S))
        self._has_worked = True
        self._keepalive_s = settings.grpc.keepalive_s
        self._trouble: str | None = None
        self._was_available = False
        self._told_trouble, self._told_at = "", 0.0
        self._streams: set[GrpcSpeechStream] = set()
        self._dirty: list[GrpcSpeechStream] = []
        self._blocked: set[GrpcSpeechStream] = set()
        self._watched: set[GrpcSpeechStream] = set()
        self._flush_timer: asyncio.TimerHandle | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self._alive_timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()  # set when the last stream, or at the end a link, has gone
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
        return self._contract

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
        now = self.clock()
        dirty, self._dirty = self._dirty, []
        for stream in dirty:
            stream.is_dirty = False
            stream.pump(now)
        for link in self._links:
            link.flush()

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
        if self._dialler is not None:
            self._dialler.cancel()
            await asyncio.gather(self._dialler, return_exceptions=True)
        for timer in (self._flush_timer, self._tick_timer, self._alive_timer):
            if timer is not None:
                timer.cancel()
        for link in list(self._links):
            link.close()
        await self._links_gone()

    async def _links_gone(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                while self._links:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            for link in list(self._links):
                link.abort("Closed")

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
        for link in self._links:
            link.flush()

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
            stream.is_on_trial = False
            self._worked()
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
        link = self._link()
        if link is None or self._contract is None:
            # ``_release`` is called when there is a new one; room on an old one is not announced.
            machine.postpone(now + (_FULL_S if self._links else _AWAY_S))
            self.watch(stream)
            return
        if not self._breaker.allow(now):
            machine.postpone(now + self._breaker.retry_in(now) + self.draw() * BREAKER_OPEN_S)
            self.watch(stream)
            return
        stream.is_on_trial = True
        stream.begin(link, self._contract, now)
        self.touch(stream)
        self.settle(stream)

    def _link(self) -> Link | None:
        """Return a connection for one more call; dials when there is none."""
        for link in self._links:
            if link.can_open:
                return link
        if self._dialler is None and len(self._links) < MAX_LINKS and not self._is_closed:
            self._dialler = asyncio.get_running_loop().create_task(self._dial())
            self._dialler.add_done_callback(self._on_dialled)
        return None

    def _on_dialled(self, dialler: asyncio.Task[None]) -> None:
        self._dialler = None
        if dialler.cancelled() or self._is_closed:
            return
        loop = asyncio.get_running_loop()
        failure = dialler.exception()
        if failure is not None:  # a bug of ours: told, and tried again
            context = {"message": "the speech service's dialler failed", "exception": failure}
            loop.call_exception_handler(context)
            loop.call_later(DIALLER_FAILED_S, self._link)
        elif self._links and self._contract is not None:
            self._breaker.succeeded(self.clock())  # what it knew was about the one before
            self._release()
        elif self._streams:  # lost again already
            self._link()

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
        if ended.code == grpc_wire.UNIMPLEMENTED and self._falls_back():
            pace = Pace.SOON
        elif cause == "AuthError" and (self._reread() or stream.machine.state is State.OPEN):
            pace = Pace.SOON  # the token was replaced, or has just run out in the call
        wait_s = retry_after_s(ended.metadata)
        self._broke(stream, cause, now=now, pace=pace, wait_s=wait_s)

    def _falls_back(self) -> bool:
        """Speak the document's contract from now on, where that was left open."""
        if self.settings.service == "auto" and self._contract == "steno.v1":
            self._found("transcription")
            return True
        return False

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
        was_new = machine.state is State.OPENING
        machine.broke(cause, now=now, draw=self.draw(), pace=pace, retry_after_s=wait_s)
        self._count_break(cause)
        if was_new and self._links:
            self._failed(cause, now)
        self.settle(stream)

    def _count_break(self, cause: str) -> None:
        self._telemetry.counter("steno_speech_breaks_total", reason=cause)(1)

    def _failed(self, cause: str, now: float) -> None:
        """A call failed before anything came of it."""
        was = self._breaker.state
        self._breaker.failed(now)
        if self._breaker.state is CircuitState.OPEN and was is CircuitState.CLOSED:
            self._unavailable(cause)
        if cause == "AuthError":
            self._unavailable(cause)

    def _worked(self) -> None:
        """A call was taken: the service works."""
        self._has_worked = True
        was_closed = self._breaker.state is CircuitState.CLOSED
        self._breaker.succeeded(self.clock())
        if not was_closed:
            self._release()
        self._available()

    def _release(self) -> None:
        """Let every stream that waits try again, spread over a moment."""
        now = self.clock()
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

    def _reread(self) -> bool:
        """Read files of ours that were replaced; what is under way goes on as it is.

        Returns whether there was something new. Half replaced files are read again next time.
        """
        stamp = files_stamp(self.settings.grpc)
        if stamp == self._stamp:
            return False
        try:
            self.metadata = call_metadata(self.settings.grpc)
            self._context = tls_context(self.settings.grpc)
        except ConfigError:
            return False
        self._stamp = stamp
        for link in self._links:
            link.retire()
        return True

    # --- connections -------------------------------------------------------------------------

    async def _dial(self) -> None:
        """Connect, however long it takes; then ask what is offered, and let the streams go."""
        if self._has_worked:
            self._has_worked = False
            self._dial_backoff.reset()
        else:  # it took a connection and nothing came of it: not at once again
            await asyncio.sleep(self._dial_backoff.next_delay(self.draw()))
        while not self._is_closed:
            try:
                await self._connect_once()
            except (ConnectFailed, TimedOut) as error:
                cause = str(error.fields.get("cause") or error.error_class)
                self._all_away(cause)
                await asyncio.sleep(self._dial_backoff.next_delay(self.draw()))
            else:
                return

    async def _connect_once(self) -> None:
        """Raise ``ConnectFailed`` or ``TimedOut`` when there is no working connection after it."""
        self._reread()
        link = await dial(
            self.settings.grpc,
            context=self._context,
            on_room=self._on_room,
            on_lost=self._on_lost,
            clock=self.clock,
        )
        self._links.append(link)
        if self._alive_timer is None:
            self._on_alive()
        if self._contract is None:
            try:
                self._found(await self._offered(link))
            except BaseException:
                link.close()
                raise

    async def _offered(self, link: Link) -> Contract:
        """Ask with an empty call whether ``steno.v1`` is there."""
        if self.settings.service != "auto":
            return self.settings.service
        question = _Question(asyncio.get_running_loop().create_future())
        call = link.open(STENO_PATH, self.metadata, question)
        link.end(call)
        link.flush()
        try:
            async with asyncio.timeout(self.settings.grpc.deadline_s):
                code = await question.answer
        except TimeoutError as exc:
            link.reset(call)
            raise TimedOut from exc
        match code:
            case grpc_wire.UNIMPLEMENTED:
                return "transcription"
            case grpc_wire.UNAVAILABLE | grpc_wire.RESOURCE_EXHAUSTED | grpc_wire.CANCELLED:
                raise ConnectFailed(cause=_PACES[code][1])
            case grpc_wire.UNAUTHENTICATED | grpc_wire.PERMISSION_DENIED:
                raise ConnectFailed(cause="AuthError")
            case _:  # taken, even if it had more to say than yes to an empty stream
                return "steno.v1"

    def _found(self, contract: Contract) -> None:
        self._contract = contract
        if self._told_contract != contract:
            self._told_contract = contract
            self._telemetry.info("speech.contract_found", state=contract)

    def _on_room(self) -> None:
        """Windows were opened: those who had no room write again."""
        if self._blocked:
            blocked, self._blocked = self._blocked, set()
            for stream in blocked:
                self.touch(stream)

    def _on_lost(self, link: Link, cause: str) -> None:
        """A connection is gone; its calls know it already."""
        if link.was_calmed:
            self._keepalive_s *= 2
        if link not in self._links:
            return
        self._links.remove(link)
        if self._is_closed:
            self._empty.set()
            return
        if not self._links:
            if self.settings.service == "auto":
                self._contract = None
            if self._streams:
                self._unavailable(cause)
        if self._streams:
            self._link()

    def _all_away(self, cause: str) -> None:
        """Tell every stream that no connection could be made."""
        self._unavailable(cause)
        now = self.clock()
        for stream in list(self._streams):
            machine = stream.machine
            if machine.state is State.WAITING:
                machine.broke(cause, now=now, draw=self.draw())
                machine.postpone(now + _AWAY_S)
                self.settle(stream)

    def _on_alive(self) -> None:
        self._alive_timer = None
        if not self._links or self._is_closed:
            return
        now = self.clock()
        limit_s = self.settings.grpc.keepalive_timeout_s
        for link in list(self._links):
            link.keep_alive(now, every_s=self._keepalive_s, limit_s=limit_s)
            if link.is_leaving and not link.calls:
                link.close()
        every_s = min(ALIVE_TICK_S, self._keepalive_s / 2, limit_s / 2)
        self._alive_timer = asyncio.get_running_loop().call_later(every_s, self._on_alive)

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


class GrpcSpeechStream:
    """One lane; made by ``GrpcRecogniser.open``. Implements ``steno.ports.speech.SpeechStream``.

    It is the handler of its own calls: ``on_message`` and ``on_end``.
    """

    __slots__ = (
        "_bytes_per_s",
        "_call",
        "_codec",
        "_link",
        "_listener",
        "_owner",
        "_repeats",
        "_resent",
        "_shed_bytes",
        "deadline",
        "is_dirty",
        "is_on_trial",
        "machine",
    )

    def __init__(self, owner: GrpcRecogniser, spec: StreamSpec, listener: SpeechListener) -> None:
        self._owner = owner
        self._listener = listener
        self.machine = SpeechStreamMachine(spec, limits=owner.settings.limits, budget=owner.budget)
        self._bytes_per_s = spec.rate_hz * (2 if spec.format == "L16" else 1)
        self._call: Call | None = None
        self._link: Link | None = None
        self._codec: Codec | None = None
        self._resent = self._repeats = self._shed_bytes = 0
        self.deadline: float | None = None
        self.is_dirty = False
        self.is_on_trial = False

    @property
    def pressure(self) -> float:
        """Share of the buffer that waits, or of all streams' if that is more."""
        budget = self._owner.budget
        return max(self.machine.pressure, min(1.0, budget.waiting / budget.limit))

    @property
    def held_s(self) -> float:
        """Seconds of audio that are kept."""
        return self.machine.held_bytes / self._bytes_per_s

    def send(self, chunk: AudioChunk) -> None:
        """Take audio in; it leaves with the next flush."""
        owner = self._owner
        machine = self.machine
        machine.push(chunk, now=owner.clock())
        if owner.budget.held > owner.budget.limit:
            owner.relieve()
        if not self.is_dirty and machine.state is not State.OVER:
            owner.touch(self)

    def finish(self) -> None:
        """No audio follows."""
        self.machine.finish(now=self._owner.clock())
        if not self.is_dirty and self.machine.state is not State.OVER:
            self._owner.touch(self)
        self._owner.settle(self)

    def abort(self) -> None:
        """Let go at once."""
        self.machine.abort()
        self._owner.forget(self)

    def give_up(self, now: float) -> None:
        """Be over now, whatever is left."""
        self.machine.give_up(now=now)
        self._owner.settle(self)

    # --- for the owner -----------------------------------------------------------------------

    def begin(self, link: Link, contract: Contract, now: float) -> None:
        """Open a call on this link."""
        machine = self.machine
        is_document = contract == "transcription"
        self._codec = DocumentCodec(machine.spec) if is_document else StenoCodec(machine.spec)
        self._link = link
        path = DOCUMENT_PATH if is_document else STENO_PATH
        self._call = link.open(path, self._owner.metadata, self)
        opening = self._codec.opening(machine.resume_from)
        if opening:
            link.send(self._call, opening)
        machine.opened(now=now)

    def pump(self, now: float) -> None:
        """Write what there is and what the windows admit; the owner flushes the link."""
        link, call, codec, machine = self._link, self._call, self._codec, self.machine
        if link is not None and call is not None and codec is not None:
            while machine.has_audio:
                if link.room(call) <= 0:
                    machine.blocked(now=now)
                    self._owner.block(self)
                    break
                chunk = machine.next_audio()
                if chunk is None:
                    break
                try:
                    link.send(call, codec.audio(chunk))
                except SequenceOverflow:
                    self.drop_call()
                    self._owner.call_ended(self, CallEnded(grpc_wire.CANCELLED))
                    return
            else:
                if machine.wants_end:
                    machine.end_sent()
                    link.end(call)
        if machine.has_news or machine.needs_watch:
            self._owner.settle(self)

    def drop_call(self) -> None:
        """Reset the call, if there is one."""
        link, call = self._link, self._call
        self._link = self._call = self._codec = None
        if link is not None and call is not None:
            link.reset(call)
            self._owner.wake()

    def deliver(self) -> None:
        """Pass on what happened, and count."""
        machine, owner = self.machine, self._owner
        for event in machine.events():
            self._listener.on_speech(event)
        if machine.resent != self._resent:
            owner.count_resent(machine.resent - self._resent)
            self._resent = machine.resent
        if machine.repeats != self._repeats:
            owner.count_repeats(machine.repeats - self._repeats)
            self._repeats = machine.repeats
        if machine.shed_bytes != self._shed_bytes:
            owner.count_shed((machine.shed_bytes - self._shed_bytes) / self._bytes_per_s)
            self._shed_bytes = machine.shed_bytes

    # --- of the call -------------------------------------------------------------------------

    def on_message(self, message: bytes) -> None:
        """Take an answer."""
        if self._codec is None:
            return
        try:
            languages = self._codec.take(message, self.machine)
        except DecodeError as exc:
            raise RemoteProtocolError("an answer cannot be decoded") from exc
        if languages is not None:
            self._owner.told(languages)
        self._owner.settle(self)

    def on_end(self, ended: CallEnded) -> None:
        """The call is over."""
        self._link = self._call = self._codec = None
        self._owner.call_ended(self, ended)


class _Question:
    """Handler of the empty call: done with the code, or with OK at the first sign of a service."""

    def __init__(self, answer: asyncio.Future[int]) -> None:
        self.answer = answer

    def on_message(self, message: bytes) -> None:
        """It talks ``steno.v1``."""
        del message
        self._answered(grpc_wire.OK)

    def on_end(self, ended: CallEnded) -> None:
        """That is the answer."""
        self._answered(ended.code)

    def _answered(self, code: int) -> None:
        if not self.answer.done():
            self.answer.set_result(code)
