"""The server's end of an AudioHook session: bytes and ``now`` in, events and messages out.

    preparing --open--> opening --accept()--> open --close--> closing --closed()--> closed
        |                  |                   |                 ^
        +------------------+--disconnect-------+--> disconnecting+

``disconnecting`` is entered by ``disconnect()`` and by every broken rule of the client: a
``disconnect`` is out, the client's ``close`` is awaited, everything else it says is let pass.
``closed`` waits for the client to close the socket; ``over`` is the end.

While a session is open, audio flows or not by what we asked for and what the client said, jointly:

    running   neither wants a pause
    pausing   we asked, the client has not said so yet: audio in flight is normal
    paused    we asked, and it has
    held      the client paused without us, or has not come back since we asked it to resume

Audio is legal in ``running`` and ``pausing``. Between ``opened`` and the first answered ``ping``
nothing but ``pong`` is sent: what is wanted meanwhile waits.

Source: AudioHook protocol 2: envelope, states, errors, timers, timeline arithmetic, rate limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from steno.errors import LocalProtocolError, RemoteProtocolError
from steno.wire.audiohook import messages as m
from steno.wire.audiohook.durations import from_samples, to_samples, to_us
from steno.wire.audiohook.entities import Transcript
from steno.wire.audiohook.events import (
    AudioDiscarded,
    AudioPaused,
    AudioResumed,
    ClientErrored,
    CloseAsked,
    Drifted,
    Ended,
    LanguageUpdated,
    Limits,
    OpenAsked,
    ProtocolBroken,
    ResultsDropped,
    ServerEvent,
)
from steno.wire.audiohook.pacing import MAX_EVENT_BYTES, PILE, Pace, ResultQueue

DEFAULT_RATE_HZ: Final = 8000
MAX_INFO_CHARS: Final = 200
_BACK_OFF_S: Final = (3.0, 9.0, 27.0)
_MAX_BACK_OFF_S: Final = 60.0
_PARTIAL_RESERVE: Final = 5.0
"""Partials leave so much of the bucket to finals and commands."""


class State(StrEnum):
    """Where a session is."""

    PREPARING = "preparing"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    DISCONNECTING = "disconnecting"
    CLOSED = "closed"
    OVER = "over"


class Flow(StrEnum):
    """Whether audio flows, by what we asked and what the client said."""

    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    HELD = "held"


class _Move(StrEnum):
    ASK_PAUSE = "pause"
    ASK_RESUME = "resume"
    TOLD_PAUSED = "paused"
    TOLD_RESUMED = "resumed"


# What the client may say in which state; anything else ends the session. In the states after
# open, nothing that it says can do harm any more, and what is not listed is let pass.
_ANYTHING: Final = frozenset(
    (
        m.Close,
        m.Ping,
        m.Paused,
        m.Resumed,
        m.Discarded,
        m.Update,
        m.Error,
        m.Dtmf,
        m.PlaybackStarted,
        m.PlaybackCompleted,
    )
)
_LEGAL: Final[dict[State, frozenset[type]]] = {
    State.PREPARING: frozenset((m.Open,)),
    State.OPENING: frozenset((m.Close, m.Ping, m.Update, m.Error)),
    State.OPEN: _ANYTHING,
}
_HEARD: Final[dict[State, frozenset[type]]] = {
    State.DISCONNECTING: frozenset((m.Close, m.Ping, m.Error)),
    State.CLOSING: frozenset((m.Ping, m.Error)),
    State.CLOSED: frozenset(),
    State.OVER: frozenset(),
}
_FLOWS: Final[dict[tuple[Flow, _Move], Flow]] = {
    (Flow.RUNNING, _Move.ASK_PAUSE): Flow.PAUSING,
    (Flow.RUNNING, _Move.ASK_RESUME): Flow.RUNNING,
    (Flow.RUNNING, _Move.TOLD_PAUSED): Flow.HELD,
    (Flow.RUNNING, _Move.TOLD_RESUMED): Flow.RUNNING,
    (Flow.PAUSING, _Move.ASK_PAUSE): Flow.PAUSING,
    (Flow.PAUSING, _Move.ASK_RESUME): Flow.RUNNING,
    (Flow.PAUSING, _Move.TOLD_PAUSED): Flow.PAUSED,
    (Flow.PAUSING, _Move.TOLD_RESUMED): Flow.PAUSING,
    (Flow.PAUSED, _Move.ASK_PAUSE): Flow.PAUSED,
    (Flow.PAUSED, _Move.ASK_RESUME): Flow.HELD,
    (Flow.PAUSED, _Move.TOLD_PAUSED): Flow.PAUSED,
    # The client's own pause ended while our request was on its way: it will obey that next.
    (Flow.PAUSED, _Move.TOLD_RESUMED): Flow.PAUSING,
    (Flow.HELD, _Move.ASK_PAUSE): Flow.PAUSED,
    (Flow.HELD, _Move.ASK_RESUME): Flow.HELD,
    (Flow.HELD, _Move.TOLD_PAUSED): Flow.HELD,
    (Flow.HELD, _Move.TOLD_RESUMED): Flow.RUNNING,
}
_AUDIBLE: Final = frozenset((Flow.RUNNING, Flow.PAUSING))


class ServerSession:
    """One session, from the accepted upgrade to the end of the socket.

    Args:
        session_id, organization_id: From the upgrade's headers.
        now: Monotonic seconds, as everywhere here.
        limits: Times and amounts.

    Attributes:
        state, flow: Where it is.
        position: Of the next sample, in samples per channel on the stream clock.
        received_samples, gap_samples: What that is made of.
        rtt_us: What the client measured last.
        dropped_results: Finals and partials that were not sent.
    """

    def __init__(
        self, session_id: str, organization_id: str, *, now: float, limits: Limits | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._id = session_id
        self._organization = organization_id
        self.state = State.PREPARING
        self.flow = Flow.RUNNING
        self.open: m.OpenParameters | None = None
        self.media: m.MediaItem | None = None
        self.position = 0
        self.received_samples = 0
        self.gap_samples = 0
        self.rtt_us: int | None = None
        self.dropped_results = 0
        self._frame_bytes = 0  # of the audio that is legal now; 0: none is
        self._rate_hz = DEFAULT_RATE_HZ
        self._seq = 0
        self._client_seq = 0
        self._since = self._heard = now
        self._opened = False
        self._drifting = False
        self._held = False
        self._errors_429 = 0
        self._wanted_flow: _Move | None = None
        self._wanted_updated = False
        self._wanted_reconnect: m.InfoParameters | None = None
        self._pace = Pace(now, per_s=self._limits.messages_per_s, burst=self._limits.burst)
        self._results = ResultQueue(self._limits.finals)
        self._partial_at = now
        self._events: list[ServerEvent] = []
        self._out: list[bytes] = []

    # --- in ---

    def receive_audio(self, data: bytes | memoryview, now: float) -> tuple[int, int] | None:
        """Take a binary message.

        Returns:
            Position of its first sample and samples per channel; None where it is not taken:
            it broke a rule (see ``events``), is empty, or came after the end had begun.
        """
        size = self._frame_bytes
        if not size:
            self._refuse_audio(now)
            return None
        frames, rest = divmod(len(data), size)
        if rest:
            self._break("audio of no whole number of samples", now)
            return None
        if not frames:
            return None
        self._heard = now
        start = self.position
        self.position = start + frames
        self.received_samples += frames
        return start, frames

    def receive_text(self, data: bytes, now: float) -> None:
        """Take a text message; what it means is in ``events``, what it wants in ``to_send``."""
        legal = _LEGAL.get(self.state)
        if legal is None:
            self._receive_late(data, now)
            return
        try:
            message = m.decode_client(data)
            if type(message) not in legal:
                raise RemoteProtocolError("message not expected now")
            self._check_envelope(message)
            self._client_seq = message.seq
            self._heard = now
            self._handle(message, now)
        except RemoteProtocolError as error:
            self._break(error.summary, now)
        self._pump(now)

    def receive_end(self, now: float) -> None:
        """Take note that the socket is gone."""
        if self.state is State.OVER:
            return
        clean = self.state is State.CLOSED
        self._enter(State.OVER, now)
        self._events.append(Ended(clean, give_up=False))

    # --- out ---

    def events(self) -> list[ServerEvent]:
        """Return what has happened since the last call, in order."""
        happened, self._events = self._events, []
        return happened

    def to_send(self) -> list[bytes]:
        """Return the text messages to be sent now, in order."""
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        """Return when ``on_deadline`` wants to be called; it may move later by itself."""
        deadline = self._state_deadline()
        if deadline is None:
            return None
        if self._held:
            return min(deadline, self._since + self._limits.hold_s)
        pump_at = self._pump_at()
        return deadline if pump_at is None else min(deadline, pump_at)

    def on_deadline(self, now: float) -> None:
        """Do what is due; nothing when nothing is."""
        if self._held and now >= self._since + self._limits.hold_s:
            self._held = False
        self._pump(now)
        deadline = self._state_deadline()
        if deadline is None or now < deadline:
            return
        if self.state is State.PREPARING:
            self._break("no open in time", now)
        elif self.state is State.OPENING:
            self._break("open not answered in time", now)
        elif self.state is State.OPEN:
            self._break("no ping or audio in time", now)
        elif self.state is State.CLOSING:
            self.closed(now)
        else:
            clean = self.state is State.CLOSED
            self._enter(State.OVER, now)
            self._events.append(Ended(clean, give_up=True))

    # --- commands ---

    def accept(
        self,
        media: m.MediaItem | None,
        *,
        now: float,
        start_paused: bool = False,
        supported_languages: Sequence[str] = (),
        discard_to: int | None = None,
    ) -> bool:
        """Answer ``open``; False when the client has left that state meanwhile.

        Args:
            media: One of the offers, or None for no audio.
            start_paused: The client begins paused.
            supported_languages: Sent when the client asked for it; those of the protocol's form.
            discard_to: Position in samples before which the client is to drop audio.

        Raises:
            LocalProtocolError: The medium was not offered, or there was no ``open`` yet.
        """
        if self.state is not State.OPENING:
            if self.state in (State.PREPARING, State.OPEN):
                raise LocalProtocolError("there is no open to accept", state=self.state)
            return False
        asked = self.open
        if asked is None or (media is not None and media not in asked.media):
            raise LocalProtocolError("the chosen medium was not offered")
        languages = tuple(one for one in supported_languages if m.is_language_code(one))
        self.media = media
        self._rate_hz = DEFAULT_RATE_HZ if media is None else media.rate
        self.flow = Flow.PAUSED if start_paused else Flow.RUNNING
        self._enter(State.OPEN, now)
        self._heard = now
        self._held = True
        parameters = m.OpenedParameters(
            () if media is None else (media,),
            start_paused,
            None if discard_to is None else from_samples(discard_to, self._rate_hz),
            languages if asked.supported_languages else None,
        )
        self._send(m.Opened, parameters, now)
        return True

    def pause(self, now: float) -> bool:
        """Ask the client to pause; False when the session is not open."""
        return self._ask(_Move.ASK_PAUSE, now)

    def resume(self, now: float) -> bool:
        """Ask the client to go on; False when the session is not open."""
        return self._ask(_Move.ASK_RESUME, now)

    def updated(self, now: float) -> bool:
        """Tell that an ``update`` was acted upon; False when the session is not open."""
        if self.state is not State.OPEN:
            return False
        self._wanted_updated = True
        self._pump(now)
        return True

    def reconnect(self, info: str, now: float) -> bool:
        """Ask the client to move to another connection; False when the session is not open."""
        if self.state is not State.OPEN:
            return False
        self._wanted_reconnect = m.InfoParameters(info[:MAX_INFO_CHARS])
        self._pump(now)
        return True

    def send_entities(self, entities: Sequence[Transcript], now: float) -> int:
        """Send results as soon as they may be sent; return how many were taken.

        A partial takes the place of an older one of its utterance, a final that of its partial.
        After ``disconnect`` they wait for the client's ``close``, and go out before ``closed``.
        What does not fit, or comes before ``opened`` or after ``closed``, is dropped and counted.
        """
        if not self._opened or self.state in (State.CLOSED, State.OVER):
            self.dropped_results += len(entities)
            return 0
        taken = dropped = 0
        for entity in entities:
            if len(bytes(entity.encoded)) > MAX_EVENT_BYTES:
                dropped += 1
            elif not entity.is_final:
                self._results.put_partial(entity.id, entity.encoded)
                taken += 1
            elif self._results.put_final(entity.id, entity.encoded):
                taken += 1
            else:
                dropped += 1
        if dropped:
            self.dropped_results += dropped
            self._events.append(ResultsDropped(dropped))
        self._pump(now)
        return taken

    def disconnect(self, reason: m.DisconnectReason, info: str, now: float) -> bool:
        """End the session from our side; False when its end has begun already.

        ``info`` is a fixed sentence: the platform shows it to administrators.
        """
        if self.state not in _LEGAL:
            return False
        self._enter(State.DISCONNECTING, now)
        self._send(m.Disconnect, m.DisconnectParameters(reason, info[:MAX_INFO_CHARS]), now)
        return True

    def closed(self, now: float) -> None:
        """Answer ``close``: all results are in. Does nothing when that was done already.

        Raises:
            LocalProtocolError: The client has not asked to close.
        """
        if self.state is State.CLOSING:
            self._results.drop_partials()
            while self._results.finals:
                self._send_results(self._results.take_finals(together=True), now)
            self._enter(State.CLOSED, now)
            self._send(m.Closed, m.NO_PARAMETERS, now)
        elif self.state not in (State.CLOSED, State.OVER):
            raise LocalProtocolError("closed is the answer to close", state=self.state)

    # --- what the client says ---

    def _check_envelope(self, message: m.ClientMessage) -> None:
        if message.id.lower() != self._id.lower():
            raise RemoteProtocolError("message of another session")
        if message.seq != self._client_seq + 1:
            raise RemoteProtocolError("seq is not the next")
        if message.serverseq > self._seq:
            raise RemoteProtocolError("serverseq is ahead of us")

    def _handle(self, message: m.ClientMessage, now: float) -> None:
        if isinstance(message, m.Ping):
            # In the step that reads the ping: ``clientseq`` has to be its ``seq``.
            self._send(m.Pong, m.NO_PARAMETERS, now)
            if self.state is State.OPEN:
                self._held = False
            if message.parameters.rtt is not None:
                self.rtt_us = to_us(message.parameters.rtt)
            self._compare(message.position)
        elif isinstance(message, m.Open):
            self._on_open(message, now)
        elif isinstance(message, m.Close):
            self._on_close(message, now)
        elif isinstance(message, m.Paused):
            self._move(_Move.TOLD_PAUSED)
            self._events.append(AudioPaused(self.position, self.flow is Flow.PAUSED))
            self._compare(message.position)
        elif isinstance(message, m.Resumed):
            before = self._jump(message)
            self._move(_Move.TOLD_RESUMED)
            self._events.append(AudioResumed(before, self.position))
            self._compare(message.position)
        elif isinstance(message, m.Discarded):
            before = self._jump(message)
            self._events.append(AudioDiscarded(before, self.position))
            self._compare(message.position)
        elif isinstance(message, m.Update):
            self._events.append(LanguageUpdated(message.parameters.language, self.position))
            self._compare(message.position)
        elif isinstance(message, m.Error):
            self._on_error(message, now)
        # dtmf and playback messages belong to voice bots: they are checked, and mean nothing.

    def _on_open(self, message: m.Open, now: float) -> None:
        if message.parameters.organization_id.lower() != self._organization.lower():
            raise RemoteProtocolError("open of another organization than the headers")
        self._id = message.id  # spelt as the client spells it
        self.open = message.parameters
        self._enter(State.OPENING, now)
        self._events.append(OpenAsked(message.parameters))

    def _on_close(self, message: m.Close, now: float) -> None:
        self._enter(State.CLOSING, now)
        self._held = False
        self._wanted_flow = None
        self._wanted_updated = False
        self._wanted_reconnect = None
        if self._opened:
            self._events.append(CloseAsked(message.parameters.reason))
        else:
            self.closed(now)

    def _on_error(self, message: m.Error, now: float) -> None:
        self._events.append(ClientErrored(message.parameters.code))
        if message.parameters.code != 429:
            return
        wait_s = _BACK_OFF_S[min(self._errors_429, len(_BACK_OFF_S) - 1)]
        if message.parameters.retry_after is not None:
            wait_s = min(to_us(message.parameters.retry_after) / 1e6, _MAX_BACK_OFF_S)
        self._errors_429 += 1
        self._pace.back_off(now + wait_s)

    def _receive_late(self, data: bytes, now: float) -> None:
        """Hear what matters once the end has begun; break nothing any more."""
        heard = _HEARD[self.state]
        if not heard:
            return
        try:
            message = m.decode_client(data)
        except RemoteProtocolError:
            return
        # After a broken rule the numbers may be off for good; the last one is still echoed.
        if message.id.lower() != self._id.lower():
            return
        self._client_seq = max(self._client_seq, message.seq)
        if type(message) not in heard:
            return
        if isinstance(message, m.Ping):
            self._send(m.Pong, m.NO_PARAMETERS, now)
        elif isinstance(message, m.Close):
            self._on_close(message, now)
            self._pump(now)
        elif isinstance(message, m.Error):
            self._events.append(ClientErrored(message.parameters.code))

    # --- positions ---

    def _jump(self, message: m.Resumed | m.Discarded) -> int:
        """Move the clock over what was not sent, never back; return where it was."""
        span = message.parameters
        before = self.position
        target = min(
            to_samples(span.start, self._rate_hz) + to_samples(span.discarded, self._rate_hz),
            to_samples(message.position, self._rate_hz),
        )
        if target > before:
            self.position = target
            self.gap_samples += target - before
        return before

    def _compare(self, position: str) -> None:
        told = to_samples(position, self._rate_hz)
        if self.state is not State.OPEN or self.flow not in _AUDIBLE or self.media is None:
            return  # some clients let their clock run through a pause
        drift_ms = (told - self.position) * 1000 // self._rate_hz
        drifting = abs(drift_ms) > self._limits.drift_ms
        if drifting and not self._drifting:
            self._events.append(Drifted(drift_ms))
        self._drifting = drifting

    def _refuse_audio(self, now: float) -> None:
        if self.state in (State.PREPARING, State.OPENING):
            self._break("audio before opened", now)
        elif self.state is State.OPEN:
            cause = "audio not agreed on" if self.media is None else "audio while paused"
            self._break(cause, now)
        # Later it was on its way when the end began.

    # --- moves ---

    def _enter(self, state: State, now: float) -> None:
        self.state = state
        self._since = now
        self._opened = self._opened or state is State.OPEN
        self._set_frame_bytes()

    def _move(self, move: _Move) -> None:
        self.flow = _FLOWS[self.flow, move]
        self._set_frame_bytes()

    def _set_frame_bytes(self) -> None:
        flows = self.state is State.OPEN and self.flow in _AUDIBLE and self.media is not None
        self._frame_bytes = self.media.frame_bytes if flows and self.media is not None else 0

    def _ask(self, move: _Move, now: float) -> bool:
        if self.state is not State.OPEN:
            return False
        self._wanted_flow = move  # a newer wish replaces one that is not out yet
        self._pump(now)
        return True

    def _break(self, cause: str, now: float) -> None:
        if self.disconnect(m.DisconnectReason.ERROR, cause, now):
            self._events.append(ProtocolBroken(cause))

    def _state_deadline(self) -> float | None:
        limits = self._limits
        if self.state is State.OPEN:
            return self._heard + limits.silence_s
        if self.state is State.OVER:
            return None
        wait_s = {
            State.PREPARING: limits.open_s,
            State.OPENING: limits.answer_s,
            State.CLOSING: limits.flush_s,
            State.DISCONNECTING: limits.force_s,
            State.CLOSED: limits.force_s,
        }[self.state]
        return self._since + wait_s

    # --- sending ---

    def _send(
        self, kind: Callable[..., m.ServerMessage], parameters: msgspec.Struct, now: float
    ) -> None:
        self._seq += 1
        self._pace.take(now)
        self._out.append(
            m.encode(
                kind(
                    version=m.VERSION,
                    id=self._id,
                    seq=self._seq,
                    clientseq=self._client_seq,
                    parameters=parameters,
                )
            )
        )

    def _send_results(self, entities: list[msgspec.Raw], now: float) -> None:
        self._send(m.Event, m.EventParameters(entities), now)

    def _pump(self, now: float) -> None:
        """Send what waits, as far as the pace lets it."""
        if self._held or self.state not in (State.OPEN, State.CLOSING):
            return
        while self._controls_wait() and self._pace.is_ready(now):
            self._send_control(now)
        results = self._results
        while results.finals and self._pace.is_ready(now):
            self._send_results(results.take_finals(together=results.finals > PILE), now)
        if results.partials and now >= self._partial_at and self._may_send_partial(now):
            self._send_results(results.take_partial(), now)
            self._partial_at = now + 1 / self._limits.partials_per_s

    def _may_send_partial(self, now: float) -> bool:
        return self._pace.is_ready(now, reserve=_PARTIAL_RESERVE)

    def _controls_wait(self) -> bool:
        return bool(self._wanted_flow or self._wanted_updated or self._wanted_reconnect)

    def _send_control(self, now: float) -> None:
        if self._wanted_flow is not None:
            move, self._wanted_flow = self._wanted_flow, None
            self._move(move)
            self._send(m.Pause if move is _Move.ASK_PAUSE else m.Resume, m.NO_PARAMETERS, now)
        elif self._wanted_updated:
            self._wanted_updated = False
            self._send(m.Updated, m.NO_PARAMETERS, now)
        elif self._wanted_reconnect is not None:
            info, self._wanted_reconnect = self._wanted_reconnect, None
            self._send(m.Reconnect, info, now)

    def _pump_at(self) -> float | None:
        """Return when waiting messages may be sent; None when none waits."""
        if self.state not in (State.OPEN, State.CLOSING):
            return None
        if self._controls_wait() or self._results.finals:
            return self._pace.ready_at()
        if self._results.partials:
            return max(self._partial_at, self._pace.ready_at(reserve=_PARTIAL_RESERVE))
        return None
