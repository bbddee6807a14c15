"""One AudioHook session: the protocol machine on one side, lanes of audio on the other.

Audio is gathered until it is as long as the window, split by channel once, and handed to the
lanes. Sentences go back as ``transcript`` entities when they are stored, redacted, so Genesys
never shows what our own records hold back. A connection probe gets its answer and nothing else:
no lane, no record, no recogniser.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, assert_never
from uuid import UUID

from steno.core.audio import Encoding, MediaFormat, split_channels
from steno.core.records import Record, SentencePayload, record_key
from steno.core.transcript import RedactedText, Role
from steno.media.admission import PressureRule, Relief
from steno.media.lane import Lane, LaneSpec, LaneTools
from steno.media.language import Evidence, LanguageChoice, LanguageEvent, LanguageUnsupported
from steno.media.words import align
from steno.ports import ConversationEnded, Missing, SocketEnd, Telemetry
from steno.ports.audio_server import AudioSocket
from steno.ports.speech import Hypothesis
from steno.wire.audiohook import (
    AudioDiscarded,
    AudioPaused,
    AudioResumed,
    Channel,
    ClientErrored,
    CloseAsked,
    DisconnectReason,
    Drifted,
    Ended,
    LanguageUpdated,
    OpenAsked,
    OpenParameters,
    ProtocolBroken,
    ResultsDropped,
    ServerEvent,
    ServerSession,
    State,
    Transcript,
    Word,
    build_transcript,
    choose_media,
)

CLOSE_GOING_AWAY = 1001
CLOSE_NORMAL = 1000
ROLES = {Channel.EXTERNAL: Role.CUSTOMER, Channel.INTERNAL: Role.AGENT}
MAX_CURSORS = 256


class Recording(Protocol):
    """The recording of one call."""

    def write(self, channel: int, start_samples: int, audio: bytes) -> None:
        """Add audio of a channel."""

    def paused(self, at_samples: int) -> None:
        """From here on nothing is written."""

    def resumed(self, at_samples: int) -> None:
        """It goes on here."""

    def close(self) -> None:
        """The call is over."""


class Host(LaneTools, Protocol):
    """What a call needs of the service."""

    telemetry: Telemetry
    host_group: str
    languages: tuple[str, ...]
    window_s: float
    close_wait_s: float
    shutdown_s: float
    entities: bool
    partials: bool

    @property
    def congestion(self) -> float:
        """How full the way to the store is, 0..1."""

    def choice(self) -> LanguageChoice:
        """Return the language of a new call."""

    def may_show(self, text: str, language: str) -> bool:
        """Tell whether a partial can hold nothing secret, and not the beginning of it either."""

    def record(self, conversation: str, media: MediaFormat) -> Recording | None:
        """Begin a recording of a call, where that is configured."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the end of a call."""

    async def committed(self) -> None:
        """Return when everything finished so far is stored."""

    def probed(self) -> None:
        """It was a connection probe."""

    def opened(self, call: AudioHookCall, conversation: str) -> None:
        """The call belongs to a conversation: its sentences are wanted."""

    def lost(self, session: str, at_us: int) -> None:
        """A session's connection was lost; another may say that it continues it."""

    def continued(self, session: str) -> int:
        """Return when a session was lost that is continued now; 0 when that is not known."""

    def over(self, call: AudioHookCall) -> None:
        """Nothing more comes of the call."""


class AudioHookCall:
    """Handles one accepted AudioHook connection."""

    def __init__(self, host: Host, session: ServerSession, session_id: str) -> None:
        self._host = host
        self._session = session
        self._session_id = session_id
        self._socket: AudioSocket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._open: OpenParameters | None = None
        self._media: MediaFormat | None = None
        self._choice = host.choice()
        self._pressure = PressureRule()
        self._lanes: list[Lane] = []
        self._by_name: dict[str, Lane] = {}
        self._recording: Recording | None = None
        self._parts: list[bytes] = []
        self._gathered = 0  # bytes in parts
        self._enough = 0  # bytes of a window
        self._sequence = -1
        self._cursors: dict[str, int] = {}  # next word of an utterance given out in part
        self._paused_us = 0
        self._paused_at = 0
        self._lost_language = False
        self._ending = False
        self._lanes_over = asyncio.Event()
        self._started = host.now()
        self._frames = 0

    # -- the socket -----------------------------------------------------------------------

    def on_open(self, socket: AudioSocket) -> None:
        """Wait for ``open``."""
        self._socket = socket
        self._arm()

    def on_texts(self, messages: Sequence[bytes]) -> None:
        """Answer in the step that reads: a ping never waits for recognition."""
        now = self._host.now()
        session = self._session
        for message in messages:
            session.receive_text(message, now)
            self._flush_out()
            self._happened(now)
        self._after(now)

    def on_binary(self, message: bytes) -> None:
        """Gather audio until it fills the window."""
        now = self._host.now()
        span = self._session.receive_audio(message, now)
        if span is None:
            self._happened(now)
            self._after(now)
            return
        self._frames += 1
        self._sequence += 1
        self._parts.append(message)
        self._gathered += len(message)
        if self._gathered >= self._enough:
            self._pass_on()

    def on_closed(self, end: SocketEnd) -> None:
        """The caller is gone; what it left behind is still worked through."""
        now = self._host.now()
        self._socket = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        early = self._session.state in (State.OPENING, State.OPEN)
        self._pass_on()
        self._session.receive_end(now)
        self._happened(now)
        if early and self._lanes:
            self._cut_off()
        self._end("disconnect" if early else "closed", end.code)

    # -- the protocol ---------------------------------------------------------------------

    def _happened(self, now: float) -> None:
        for event in self._session.events():
            self._handle(event, now)

    def _handle(self, event: ServerEvent, now: float) -> None:
        match event:
            case OpenAsked():
                self._answer(event.parameters, now)
            case AudioPaused():
                self._pause(event)
            case AudioResumed():
                self._resume(event)
            case AudioDiscarded():
                self._pass_on()
                self._jump(event.from_samples, event.to_samples, "discarded")
            case LanguageUpdated():
                self._pass_on()
                self._declare(event.language, now)
                self._session.updated(now)
            case CloseAsked():
                self._pass_on()
                self._end(event.reason.value, 0)
            case ProtocolBroken():
                # The client's ``close`` follows, or the end of the socket.
                self._host.telemetry.counter("steno_media_audiohook_faults_total")(1)
                self._host.telemetry.info("media.session_broken", cause=event.cause)
                self._pass_on()
            case Ended():
                if event.give_up and self._socket is not None:
                    self._socket.abort()
            case ClientErrored():
                self._host.telemetry.counter("steno_media_client_errors_total")(1)
            case ResultsDropped():
                self._host.telemetry.counter("steno_media_results_dropped_total")(event.number)
            case Drifted():
                self._host.telemetry.counter("steno_media_drifts_total")(1)
            case _:
                assert_never(event)

    def _after(self, now: float) -> None:
        self._flush_out()
        self._arm()

    def _flush_out(self) -> None:
        socket = self._socket
        out = self._session.to_send()
        if socket is not None:
            for text in out:
                socket.send_text(text)

    def _arm(self) -> None:
        deadline = self._session.next_deadline()
        if deadline is None:
            return
        if self._timer is not None:
            if self._timer_at <= deadline:
                return  # it looks again by itself
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_later(max(0.0, deadline - self._host.now()), self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._host.now()
        self._session.on_deadline(now)
        self._happened(now)
        self._after(now)

    # -- open -----------------------------------------------------------------------------

    def _answer(self, asked: OpenParameters, now: float) -> None:
        """Open at once: nothing that waits for another service stands before ``opened``."""
        host = self._host
        media = choose_media(asked.media)
        self._session.accept(media, now=now, supported_languages=host.languages)
        self._flush_out()
        self._open = asked
        if asked.is_probe:
            host.telemetry.info("media.probed")
            host.probed()
            return
        if media is None:
            return
        self._media = MediaFormat(
            Encoding(media.format.value), media.rate, tuple(c.value for c in media.channels)
        )
        host.opened(self, asked.conversation_id)
        self._recording = host.record(asked.conversation_id, self._media)
        for index, channel in enumerate(media.channels):
            self._lanes.append(self._lane(asked, channel, index, media.rate))
        self._by_name = {lane.spec.name: lane for lane in self._lanes}
        self._enough = max(1, int(host.window_s * media.rate * self._media.frame_bytes))
        if asked.language:
            self._declare(asked.language, now)
        for earlier in asked.continued_sessions or ():
            lost_us = host.continued(earlier.id)
            if lost_us:
                self._missing("disconnect", lost_us, host.now_us(), 0, 0)

    def _lane(self, asked: OpenParameters, channel: Channel, index: int, rate_hz: int) -> Lane:
        assert self._media is not None
        participant = asked.participant.id
        name = participant if channel is Channel.EXTERNAL and participant else channel.value
        recording = self._recording
        record: Callable[[int, bytes], None] | None = None
        if recording is not None:

            def record(start: int, audio: bytes) -> None:
                recording.write(index, start, audio)

        return Lane(
            LaneSpec(
                asked.conversation_id,
                name,
                self._media.encoding,
                self._media.encoding.value,
                rate_hz,
                index,
                ROLES[channel],
            ),
            self._choice,
            self._host,
            self,
            record=record,
        )

    # -- audio ----------------------------------------------------------------------------

    def _pass_on(self) -> None:
        """Hand what was gathered to the lanes."""
        if not self._parts:
            return
        parts, self._parts = self._parts, []
        self._gathered = 0
        if self._media is None or not self._lanes:
            return  # a probe that sends audio: nobody listens
        joined = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(self._lanes) == 1:
            self._lanes[0].audio(joined, self._sequence)
            return
        for lane, audio in zip(self._lanes, split_channels(joined, self._media), strict=True):
            lane.audio(audio, self._sequence)

    def _jump(self, from_samples: int, to_samples: int, cause: str) -> None:
        for lane in self._lanes:
            lane.skip(to_samples - from_samples, cause=cause)

    def _pause(self, event: AudioPaused) -> None:
        self._pass_on()
        if self._paused_us:
            return
        self._paused_us = self._host.now_us()
        self._paused_at = event.at_samples
        if self._recording is not None:
            self._recording.paused(event.at_samples)

    def _resume(self, event: AudioResumed) -> None:
        """Take up after a pause: by the caller's clock, which may have stood still."""
        now_us = self._host.now_us()
        if self._recording is not None:
            self._recording.resumed(event.to_samples)
        if not self._paused_us or self._open is None:
            self._jump(event.from_samples, event.to_samples, "discarded")
            return
        for lane in self._lanes:
            lane.resume(event.to_samples, now_us)
        self._missing("paused", self._paused_us, now_us, self._paused_at, event.to_samples)
        self._paused_us = 0

    def _missing(self, cause: str, from_us: int, to_us: int, start: int, end: int) -> None:
        assert self._open is not None
        conversation = self._open.conversation_id
        event = Missing(conversation, "", cause, from_us, to_us, to_us, start, end)
        self._host.accept(event)

    def _cut_off(self) -> None:
        """Record that the call went on without us: nobody said that it was over."""
        self._pass_on()
        at_us, position = self._host.now_us(), self._session.position
        self._missing("disconnect", at_us, at_us, position, position)
        self._host.lost(self._session_id, at_us)

    # -- language -------------------------------------------------------------------------

    def _declare(self, language: str, now: float) -> None:
        if not self._lanes:
            return
        self._lanes[0].declared(language)  # the choice is the call's, whichever lane is told
        if self._lost_language and self._choice.is_settled:
            self._lost_language = False
            self._session.resume(now)

    def on_language(self, lane: Lane, event: LanguageEvent) -> None:
        """Without results to give, listening would be billed for nothing: ask for a pause."""
        if not isinstance(event, LanguageUnsupported):
            return
        self._host.telemetry.counter("steno_media_language_unsupported_total")(1)
        if event.evidence is Evidence.DECLARED and not (self._host.listens or self._host.reads):
            self._lost_language = True
            self._session.pause(self._host.now())

    # -- results --------------------------------------------------------------------------

    def on_hypothesis(self, lane: Lane, heard: Hypothesis) -> None:
        """Show a partial, where that is wanted and safe; finals come back as records."""
        if heard.is_final or not self._host.partials:
            return
        language = heard.language or lane.language
        if not self._host.may_show(heard.text, language):
            return
        name = lane.utterance_name(heard)
        entity = self._entity(lane, heard, name, RedactedText(heard.text), final=False)
        self._send_entity(entity)

    def on_record(self, record: Record, payload: SentencePayload) -> None:
        """A sentence is stored: Genesys may have it."""
        lane = self._by_name.get(record.lane)
        if lane is None or not self._host.entities:
            return
        name = record.utterance.rpartition(".")[0]
        heard = lane.utterance(name)
        if heard is None:
            return  # of another session of the conversation
        entity = self._entity(
            lane, heard, name, RedactedText(payload.text), final=True, key=record.key
        )
        self._send_entity(entity)

    def _entity(
        self, lane: Lane, heard: Hypothesis, name: str, text: RedactedText, *, final: bool,
        key: str = "",
    ) -> Transcript:  # fmt: skip
        spec = lane.spec
        aligned = align(
            text,
            heard.words,
            start_samples=heard.start_samples,
            end_samples=heard.end_samples,
            confidence=heard.confidence,
            from_word=self._cursors.get(name, 0),
            apart_samples=max(1, spec.rate_hz // 1000),
        )
        if final:
            self._cursors[name] = aligned.next_word
            if len(self._cursors) > MAX_CURSORS:
                del self._cursors[next(iter(self._cursors))]
        language = heard.language or lane.language
        tokens = aligned.tokens
        # The first sentence of an utterance bears the id that its partials had.
        key = key or record_key(self._host.host_group, spec.conversation, spec.name, f"{name}.0")
        return build_transcript(
            id=entity_id(key),
            channel=spec.channel,
            is_final=final,
            start_samples=tokens[0].start_samples if tokens else heard.start_samples,
            end_samples=tokens[-1].end_samples if tokens else heard.end_samples,
            rate_hz=spec.rate_hz,
            text=text,
            confidence=heard.confidence,
            language=language,
            words=[
                Word(one.text, one.start_samples, one.end_samples, one.confidence, language)
                for one in tokens
            ],
        )

    def _send_entity(self, entity: Transcript) -> None:
        now = self._host.now()
        self._session.send_entities([entity], now)
        self._happened(now)
        self._after(now)

    # -- pressure -------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Look at how the recogniser keeps up, about once a second."""
        if not self._lanes or self._ending:
            return
        if self._media is not None:
            window = self._host.window_s * self._media.rate_hz
            self._enough = max(1, int(window) * self._media.frame_bytes)
        pressure = max(self._host.congestion, *(lane.pressure for lane in self._lanes))
        wish = self._pressure.look(pressure, now=now)
        if wish is Relief.PAUSE:
            self._session.pause(now)
        elif wish is Relief.RESUME and not self._lost_language:
            self._session.resume(now)
        if wish is not None:
            self._host.telemetry.counter("steno_media_pauses_asked_total", wish=wish.value)(1)
            self._after(now)

    # -- the end --------------------------------------------------------------------------

    def on_lane_over(self, lane: Lane) -> None:
        """All of one channel has come."""
        if all(one.over for one in self._lanes):
            self._lanes_over.set()

    def shut_down(self) -> None:
        """Ask the caller to end: we are going."""
        now = self._host.now()
        self._session.disconnect(DisconnectReason.COMPLETED, "server is shutting down", now)
        self._after(now)

    def _end(self, cause: str, code: int) -> None:
        if self._ending:
            return
        self._ending = True
        self._host.spawn(self._finish(cause, code))

    async def _finish(self, cause: str, code: int) -> None:
        """Results first, ``closed`` after them, within the time the caller waits."""
        host = self._host
        try:
            if self._lanes:
                if self._paused_us:
                    position = self._session.position
                    self._missing(
                        "paused", self._paused_us, host.now_us(), self._paused_at, position
                    )
                for lane in self._lanes:
                    lane.finish()
                if not await self._wait_for_results(host.close_wait_s):
                    # The caller goes with what there is; the records get the rest.
                    await self._store_results()
                    self._say_closed()
                    await self._wait_for_results(max(0.0, host.shutdown_s - host.close_wait_s))
                await self._store_results()
                for lane in self._lanes:
                    lane.abort()
        finally:
            if self._recording is not None:
                self._recording.close()
            self._say_closed()
            self._tell(cause, code)
            host.over(self)

    async def _wait_for_results(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                await self._lanes_over.wait()
        except TimeoutError:
            return False
        return True

    async def _store_results(self) -> None:
        """Give out what is open of the conversation, and wait until it is stored."""
        host = self._host
        assert self._open is not None
        host.accept(ConversationEnded(self._open.conversation_id, host.now_us()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await host.committed()

    def _say_closed(self) -> None:
        now = self._host.now()
        if self._session.state is State.CLOSING:
            self._session.closed(now)
        self._happened(now)
        self._after(now)

    def _tell(self, cause: str, code: int) -> None:
        """Write the closing line: what the call came to, and whether words were missing."""
        if self._open is None or self._open.is_probe:
            return
        totals = [lane.totals for lane in self._lanes]
        rate = self._media.rate_hz if self._media is not None else 8000
        speech_s = sum(one.speech for one in totals) / rate
        words = sum(one.hypotheses for one in totals)
        tell = self._host.telemetry.info
        if speech_s > 10 and not words and self._lanes and self._host.recogniser is not None:
            tell = self._host.telemetry.warning  # heard somebody speak, and nothing came of it
        tell(
            "media.call_ended",
            conversation=self._open.conversation_id,
            cause=cause,
            close_code=code,
            frames=self._frames,
            count=words,
            speech_s=round(speech_s, 1),
            missing_s=round(sum(one.shed + one.missing for one in totals) / rate, 3),
            duration_s=round(self._host.now() - self._started, 3),
        )


def entity_id(key: str) -> str:
    """Return the UUID of a record's entity: made of its key, so a repeat has the same one."""
    return str(UUID(hex=key[:32], version=5))
