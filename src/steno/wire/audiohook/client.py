"""The client's end of an AudioHook session: it calls a server and checks all that it answers.

    idle --start--> opening --opened--> open --close--> closing --closed--> over

It behaves as the platform's client does (timers, pings, pauses, positions) and holds the server
to the rules as that client and its conformance suite do: each broken one is a ``Violated`` event
with the code that an ``error`` would carry; those that the platform's client ends a session for
end it here too. ``skip`` lets the clock run without audio: it becomes ``discarded``, or in a
pause part of ``resumed``.

Source: AudioHook protocol 2: messages, errors, timers, timeline arithmetic, rate limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from steno.errors import LocalProtocolError, RemoteProtocolError
from steno.wire.audiohook import messages as m
from steno.wire.audiohook.durations import from_samples, from_us, to_samples
from steno.wire.audiohook.entities import ReadTranscript, read_transcript
from steno.wire.audiohook.pacing import Pace

_RETRY_AFTER: Final = "PT3S"


class ClientState(StrEnum):
    """Where a session is."""

    IDLE = "idle"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    OVER = "over"


class Timers(msgspec.Struct, frozen=True):
    """The client's times in seconds, and the rate at which it takes messages."""

    opened_s: float = 5.0
    closed_s: float = 10.0
    first_ping_s: float = 1.0
    ping_s: float = 5.0
    messages_per_s: float = 5.0
    burst: float = 25.0


class Frame(NamedTuple):
    """A WebSocket message to be sent."""

    data: bytes
    is_text: bool


# --- events ----------------------------------------------------------------------------------


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The server has taken ``media`` (None: no audio) and said what it can do."""

    media: m.MediaItem | None
    parameters: m.OpenedParameters


class Ponged(msgspec.Struct, frozen=True, gc=False):
    """A ping was answered after so long."""

    rtt_us: int


class ResultsCame(msgspec.Struct, frozen=True, gc=False):
    """Transcripts of one event; other entities are left out."""

    transcripts: tuple[ReadTranscript, ...]


class Asked(msgspec.Struct, frozen=True, gc=False):
    """The server asked for a pause or its end, to reconnect, or told ``updated``."""

    what: str


class DisconnectAsked(msgspec.Struct, frozen=True, gc=False):
    """The server wants to end; ``close`` is on its way. ``info`` is its text, not to be logged."""

    reason: m.DisconnectReason
    info: str

    def __repr__(self) -> str:
        return f"DisconnectAsked(reason={self.reason.value!r})"


class Violated(msgspec.Struct, frozen=True, gc=False):
    """The server broke a rule; ``cause`` is a sentence of ours."""

    code: int
    cause: str


class SessionOver(msgspec.Struct, frozen=True, gc=False):
    """The last event; ``clean`` when ``closed`` came. The socket is to be closed with 1000."""

    clean: bool


ClientEvent = Accepted | Ponged | ResultsCame | Asked | DisconnectAsked | Violated | SessionOver


class ClientSession:
    """One session as the caller has it.

    Args:
        session_id: Also in the upgrade's headers.
        parameters: What ``open`` says; a probe closes as soon as it is accepted.
        now: Monotonic seconds, as everywhere here.

    Attributes:
        position: Of the next sample to be sent, in samples per channel.
        sent_samples, skipped_samples: What that is made of.
        violations: What ``Violated`` told so far, for who does not follow events.
    """

    def __init__(
        self,
        session_id: str,
        parameters: m.OpenParameters,
        *,
        now: float,
        timers: Timers | None = None,
    ) -> None:
        self._id = session_id
        self._asked = parameters
        self._timers = timers or Timers()
        self.state = ClientState.IDLE
        self.media: m.MediaItem | None = None
        self.position = 0
        self.sent_samples = 0
        self.skipped_samples = 0
        self.violations: list[Violated] = []
        self._rate_hz = 8000
        self._frame_bytes = 1
        self._seq = 0
        self._server_seq = 0
        self._since = now
        self._server_pause = False
        self._own_pause = False
        self._paused_at = 0
        self._discard_to = 0
        self._dropped_from: int | None = None
        self._ping_at: float | None = None
        self._ping_seq = 0  # of the ping that is not answered; 0: none
        self._ping_sent_at = now
        self._pongs = 0
        self._rtt_us: int | None = None
        # Two more than the platform takes: our clock and the server's count apart.
        self._pace = Pace(now, per_s=self._timers.messages_per_s, burst=self._timers.burst + 2)
        self._events: list[ClientEvent] = []
        self._out: list[Frame] = []

    # --- out ---

    @property
    def is_paused(self) -> bool:
        """No audio may be sent: the server asked, or ``hold`` was called."""
        return self._server_pause or self._own_pause

    def events(self) -> list[ClientEvent]:
        """Return what has happened since the last call, in order."""
        happened, self._events = self._events, []
        return happened

    def to_send(self) -> list[Frame]:
        """Return the messages to be sent now, in order."""
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        """Return when ``on_deadline`` wants to be called."""
        if self.state is ClientState.OPENING:
            return self._since + self._timers.opened_s
        if self.state is ClientState.CLOSING:
            return self._since + self._timers.closed_s
        return self._ping_at if self.state is ClientState.OPEN else None

    def on_deadline(self, now: float) -> None:
        """Do what is due; nothing when nothing is."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        if self.state is ClientState.OPENING:
            self._violate(408, "no opened in time", now, ends=True)
        elif self.state is ClientState.CLOSING:
            self._violate(408, "no closed in time", now)
            self._finish(clean=False)
        elif self._ping_seq:
            self._violate(408, "no pong in time", now, ends=True)
        else:
            self._ping(now)

    # --- commands ---

    def start(self, now: float) -> None:
        """Send ``open``."""
        if self.state is not ClientState.IDLE:
            raise LocalProtocolError("a session is opened once", state=self.state)
        self._enter(ClientState.OPENING, now)
        self._say(m.Open, self._asked)

    def send_audio(self, data: bytes, now: float) -> bool:
        """Send audio of whole samples; False when it may not be sent now: the clock stands.

        What lies before ``discardTo`` is dropped, the clock goes on, and the loss is told.
        """
        if self.state is not ClientState.OPEN or self.media is None or self.is_paused:
            return False
        frames = len(data) // self._frame_bytes
        if dropped := min(frames, max(self._discard_to - self.position, 0)):
            self._drop(dropped)
            data = data[dropped * self._frame_bytes :]
            frames -= dropped
        if frames:
            self.position += frames
            self.sent_samples += frames
            self._out.append(Frame(data, is_text=False))
        return True

    def _drop(self, samples: int) -> None:
        """Leave out what the server does not want; tell it once, at the end."""
        start = self.position if self._dropped_from is None else self._dropped_from
        self.position += samples
        self.skipped_samples += samples
        self._dropped_from = start
        if self.position >= self._discard_to:
            self._say(m.Discarded, self._span(start, self.position - start))

    def skip(self, samples: int, now: float) -> None:
        """Let the clock run without audio: ``discarded``, or in a pause part of ``resumed``."""
        if self.state is not ClientState.OPEN or samples <= 0:
            return
        start = self.position
        self.position += samples
        self.skipped_samples += samples
        if not self.is_paused:
            self._say(m.Discarded, self._span(start, samples))

    def hold(self, now: float) -> None:
        """Pause of our own accord, as the platform does while card numbers are said."""
        if self.state is ClientState.OPEN and not self._own_pause:
            self._pause(own=True)

    def release(self, now: float) -> None:
        """End our own pause; audio goes on unless the server wants a pause too."""
        if self.state is ClientState.OPEN and self._own_pause:
            self._own_pause = False
            if not self._server_pause:
                self._resume()

    def update(self, language: str, now: float) -> None:
        """Tell that the language changed."""
        if self.state is ClientState.OPEN:
            self._say(m.Update, m.UpdateParameters(language))

    def report(self, code: int, message: str, now: float) -> None:
        """Send an ``error``."""
        if self.state in (ClientState.OPENING, ClientState.OPEN, ClientState.CLOSING):
            retry_after = _RETRY_AFTER if code == 429 else None
            self._say(m.Error, m.ErrorParameters(code, message, retry_after))

    def close(self, reason: m.CloseReason, now: float) -> None:
        """Send ``close``; does nothing when the end has begun."""
        if self.state in (ClientState.OPENING, ClientState.OPEN):
            self._enter(ClientState.CLOSING, now)
            self._say(m.Close, m.CloseParameters(reason))

    # --- in ---

    def receive_end(self, now: float) -> None:
        """Take note that the socket is gone."""
        if self.state is not ClientState.OVER:
            self._violate(500, "the server closed the socket first", now)
            self._finish(clean=False)

    def receive_binary(self, data: bytes, now: float) -> None:
        """Take a binary message: a listening server must send none."""
        if self.state is not ClientState.OVER:
            self._violate(415, "binary message from the server", now, ends=True)

    def receive_text(self, data: bytes, now: float) -> None:
        """Take a text message."""
        if self.state is ClientState.OVER:
            self._violate(409, "message after closed", now)
            return
        try:
            message = m.decode_server(data)
            self._check_envelope(message)
            self._server_seq = message.seq
        except RemoteProtocolError as error:
            code = 413 if error.close_code == 1009 else 400
            self._violate(code, error.summary, now, ends=True)
            return
        if not self._pace.is_ready(now):
            self._violate(429, "more messages than allowed", now)
        self._pace.take(now)
        self._handle(message, now)

    def _check_envelope(self, message: m.ServerMessage) -> None:
        if message.id != self._id:
            raise RemoteProtocolError("message of another session")
        if message.seq != self._server_seq + 1:
            raise RemoteProtocolError("seq is not the next")
        if message.clientseq > self._seq:
            raise RemoteProtocolError("clientseq is ahead of us")

    def _handle(self, message: m.ServerMessage, now: float) -> None:
        if isinstance(message, m.Closed):
            if self.state is not ClientState.CLOSING:
                self._violate(409, "closed without close", now)
            elif message.clientseq != self._seq:
                self._violate(400, "clientseq of closed is not that of close", now)
            self._finish(clean=self.state is ClientState.CLOSING)
        elif isinstance(message, m.Disconnect):
            self._events.append(DisconnectAsked(message.parameters.reason, message.parameters.info))
            self.close(m.CloseReason.DISCONNECT, now)
        elif isinstance(message, m.Opened):
            self._on_opened(message, now)
        elif self.state is ClientState.OPENING:
            self._violate(409, "message before opened", now, ends=True)
        elif isinstance(message, m.Pong):
            self._on_pong(message, now)
        else:
            if not self._pongs and self.state is ClientState.OPEN:
                self._violate(409, "message between opened and the first pong", now)
            self._on_other(message, now)

    def _on_other(self, message: m.ServerMessage, now: float) -> None:
        if isinstance(message, m.Event):
            self._on_event(message, now)
        elif self.state is not ClientState.OPEN:
            return  # crossed our close
        elif isinstance(message, m.Pause):
            self._events.append(Asked("pause"))
            self._pause(own=False)
        elif isinstance(message, m.Resume):
            self._events.append(Asked("resume"))
            self._on_resume()
        elif isinstance(message, m.Updated):
            self._events.append(Asked("updated"))
        elif isinstance(message, m.Reconnect):
            self._events.append(Asked("reconnect"))

    def _on_opened(self, message: m.Opened, now: float) -> None:
        if self.state is not ClientState.OPENING:
            if self.state is ClientState.OPEN:
                self._violate(409, "opened twice", now, ends=True)
            return
        told = message.parameters
        if len(told.media) > 1 or any(one not in self._asked.media for one in told.media):
            self._violate(400, "opened with media that were not offered", now, ends=True)
            return
        if self._asked.supported_languages and told.supported_languages is None:
            self._violate(400, "opened without the languages asked for", now)
        self.media = told.media[0] if told.media else None
        if self.media is not None:
            self._rate_hz = self.media.rate
            self._frame_bytes = self.media.frame_bytes
        try:
            if told.discard_to is not None:
                self._discard_to = to_samples(told.discard_to, self._rate_hz)
        except RemoteProtocolError as error:
            self._violate(400, error.summary, now, ends=True)
            return
        self._server_pause = told.start_paused
        self._enter(ClientState.OPEN, now)
        self._ping_at = now + self._timers.first_ping_s
        self._events.append(Accepted(self.media, told))
        if self._asked.is_probe:
            self.close(m.CloseReason.END, now)

    def _on_pong(self, message: m.Pong, now: float) -> None:
        if not self._ping_seq:
            self._violate(409, "pong without ping", now, ends=True)
        elif message.clientseq != self._ping_seq:
            self._violate(400, "clientseq of pong is not the ping's seq", now, ends=True)
        else:
            self._ping_seq = 0
            self._pongs += 1
            self._rtt_us = round((now - self._ping_sent_at) * 1_000_000)
            self._events.append(Ponged(self._rtt_us))
            if self._pongs == 1 and self.state is ClientState.OPEN:
                self._ping(now)

    def _on_event(self, message: m.Event, now: float) -> None:
        entities = message.parameters.entities
        if not entities:
            self._violate(400, "event without entities", now)
        transcripts: list[ReadTranscript] = []
        for entity in entities:
            try:
                read = read_transcript(entity)
            except RemoteProtocolError as error:
                self._violate(400, error.summary, now)
                continue
            if read is not None:
                transcripts.append(read)
                self._check_transcript(read, now)
        self._events.append(ResultsCame(tuple(transcripts)))

    def _check_transcript(self, read: ReadTranscript, now: float) -> None:
        if self.media is None or read.channel >= len(self.media.channels):
            self._violate(400, "transcript of a channel that is not streamed", now)
        if read.is_final and (read.offset_us is None or read.duration_us is None):
            self._violate(400, "final transcript without offset and duration", now)
        offsets = [token.offset_us for token in read.tokens]
        if len(set(offsets)) != len(offsets):
            self._violate(400, "tokens share an offset", now)
        if read.text.strip() and not offsets:
            self._violate(400, "transcript without tokens", now)

    # --- pauses ---

    def _pause(self, *, own: bool) -> None:
        if not self.is_paused:
            self._paused_at = self.position
        if own:
            self._own_pause = True
        else:
            self._server_pause = True
        self._say(m.Paused, m.NO_PARAMETERS)

    def _on_resume(self) -> None:
        was_paused = self.is_paused
        self._server_pause = False
        if self._own_pause:
            self._say(m.Paused, m.NO_PARAMETERS)
        elif was_paused:
            self._resume()
        else:
            self._say(m.Resumed, self._span(self.position, 0))

    def _resume(self) -> None:
        self._say(m.Resumed, self._span(self._paused_at, self.position - self._paused_at))

    def _span(self, start: int, samples: int) -> m.SpanParameters:
        return m.SpanParameters(
            from_samples(start, self._rate_hz), from_samples(samples, self._rate_hz)
        )

    # --- saying ---

    def _ping(self, now: float) -> None:
        rtt = None if self._rtt_us is None else from_us(self._rtt_us)
        self._say(m.Ping, m.PingParameters(rtt))
        self._ping_seq = self._seq
        self._ping_sent_at = now
        self._ping_at = now + self._timers.ping_s

    def _say(self, kind: Callable[..., m.ClientMessage], parameters: msgspec.Struct) -> None:
        self._seq += 1
        message = kind(
            version=m.VERSION,
            id=self._id,
            seq=self._seq,
            serverseq=self._server_seq,
            position=from_samples(self.position, self._rate_hz),
            parameters=parameters,
        )
        self._out.append(Frame(m.encode(message), is_text=True))

    def _violate(self, code: int, cause: str, now: float, *, ends: bool = False) -> None:
        """Tell a broken rule, to the server as well; close for those that end a session."""
        violation = Violated(code, cause)
        self.violations.append(violation)
        self._events.append(violation)
        if ends or code == 429:
            self.report(code, cause, now)
        if ends:
            self.close(m.CloseReason.ERROR, now)

    def _enter(self, state: ClientState, now: float) -> None:
        self.state = state
        self._since = now

    def _finish(self, *, clean: bool) -> None:
        self.state = ClientState.OVER
        self._events.append(SessionOver(clean))


def probe_parameters(
    organization_id: str, media: Sequence[m.MediaItem], *, supported_languages: bool = True
) -> m.OpenParameters:
    """Return the ``open`` of a connection probe.

    Source: AudioHook protocol 2, connection probe.
    """
    return m.OpenParameters(
        organization_id,
        m.NULL_UUID,
        m.Participant(m.NULL_UUID, "", "", ""),
        tuple(media),
        supported_languages=supported_languages,
    )
