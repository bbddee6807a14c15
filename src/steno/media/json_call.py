"""One connection of the JSON form: envelopes in, lanes of audio out.

The socket is read once per window: what arrived meanwhile becomes one run, and one message to the
recogniser. The caller's frame numbers go on with the audio, so the speech service can say how far
it has heard. A connection that ends unexpectedly leaves its lanes behind for a while: when the
caller comes back, the call goes on where it was, with a gap record for the time between.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from steno.core.records import Record, SentencePayload
from steno.media.lane import Lane, LaneSpec, LaneTools
from steno.media.language import LanguageChoice, LanguageEvent
from steno.ports import ConversationEnded, Quarantined, SocketEnd, Telemetry
from steno.ports.audio_server import AudioSocket
from steno.ports.speech import Hypothesis
from steno.wire.media_json import (
    AudioRun,
    Began,
    Close,
    CloseReason,
    Ending,
    HoldState,
    MediaJsonSession,
    Ping,
    SkipReason,
)

FULL = 0.3
EASED = 0.1
"""Shares of a lane's buffer between which a caller that sends faster than speech is stopped."""

SILENT_S = 10.0
"""More speech than this without a word is worth a warning."""

Key = tuple[str, str]
"""Conversation and participant."""


class JsonHost(LaneTools, Protocol):
    """What a call needs of the service."""

    telemetry: Telemetry
    window_s: float
    shutdown_s: float
    ping_interval_s: float
    idle_s: float

    def choice(self) -> LanguageChoice:
        """Return the language of a new lane."""

    def record_lane(self, run: AudioRun) -> Recording | None:
        """Begin the recording of a lane, where that is configured."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the end of a call."""

    async def committed(self) -> None:
        """Return when everything finished so far is stored."""

    def take_held(self, key: Key) -> Held | None:
        """Give out what an earlier connection left of a participant."""

    def hold(self, held: Held) -> None:
        """Keep what a connection left of a participant, for a while."""

    def joined(self, call: JsonCall) -> None:
        """The connection is open."""

    def left(self, call: JsonCall) -> None:
        """Nothing more comes of the connection."""


class Recording(Protocol):
    """The recording of one lane."""

    def write(self, channel: int, start_samples: int, audio: bytes) -> None:
        """Add audio."""

    def close(self) -> None:
        """The lane is over."""


class Held:
    """What a lost connection left of one participant.

    Attributes:
        recording: Of the lane, where there is one.
        lost_us: When the connection was lost, UTC microseconds.
    """

    __slots__ = ("lane", "lost_us", "recording", "state")

    def __init__(
        self, state: HoldState, lane: Lane, recording: Recording | None, lost_us: int
    ) -> None:
        self.state = state
        self.lane = lane
        self.recording = recording
        self.lost_us = lost_us

    @property
    def key(self) -> Key:
        """Whose it is."""
        return self.state.conversation, self.state.participant


class JsonCall:
    """Handles one accepted connection of the JSON form."""

    def __init__(self, host: JsonHost) -> None:
        self._host = host
        self._session = MediaJsonSession(
            host.now(),
            resume=self._resume,
            ping_interval_s=host.ping_interval_s,
            idle_s=host.idle_s,
        )
        self._socket: AudioSocket | None = None
        self._lanes: dict[Key, Lane] = {}
        self._by_index: dict[int, Lane] = {}
        self._replaced: list[Lane] = []
        self._recordings: dict[Key, Recording] = {}
        self._told_skips: dict[SkipReason, int] = {}
        self._told_lanes: list[Lane] = []  # for the closing line
        self._over = asyncio.Event()
        self._ending = False
        self._started = host.now()

    # -- the socket -----------------------------------------------------------------------

    def on_open(self, socket: AudioSocket) -> None:
        """The call is up."""
        self._socket = socket
        self._host.joined(self)

    def on_texts(self, messages: Sequence[bytes]) -> None:
        """Take what arrived within the window, then let the socket rest for another."""
        host = self._host
        by_index = self._by_index
        for run in self._session.receive_texts(messages, now=host.now(), now_us=host.now_us()):
            lane = by_index.get(run.lane)
            if lane is None or run.began is not Began.CONTINUED or run.gap_samples:
                lane = self._begin(run)
            lane.audio(run.audio, run.last_sequence)
        if self._session.counters.skipped:
            self._tell_skipped()
        if self._socket is not None:
            self._socket.rest(host.window_s, until=self._eased if self._is_rushed() else None)

    def _is_rushed(self) -> bool:
        """Tell whether audio comes faster than speech, and faster than it can be passed on.

        Such a caller plays files and can wait: TCP tells it to. A live one is never stopped.
        """
        return any(lane.pressure > FULL and lane.is_ahead for lane in self._lanes.values())

    def _eased(self) -> bool:
        lanes = self._lanes.values()
        return all(lane.pressure < EASED or not lane.is_ahead for lane in lanes)

    def on_binary(self, message: bytes) -> None:
        """Binary messages mean nothing here: counted, and the call lives."""
        self._session.receive_binary(message)
        self._tell_skipped()

    def on_closed(self, end: SocketEnd) -> None:
        """The connection is gone: the call is over, or waits for the caller to come back."""
        self._socket = None
        if self._ending:
            return
        ending = self._session.receive_closed(end.code)
        if ending is Ending.LOST:
            self._leave_behind()
        self._end(ending.value, end.code)

    # -- lanes ----------------------------------------------------------------------------

    def _begin(self, run: AudioRun) -> Lane:
        """Find the lane of a run that does not simply go on; make it where it is new."""
        key = (run.conversation, run.participant)
        lane = self._lanes.get(key)
        if lane is not None and run.began in (Began.FORMAT, Began.NUMBERING):
            # Another form or numbering: the speech service could not tell the two apart.
            self._retire(key, lane)
            lane = None
        if lane is None:
            lane = self._lanes[key] = self._make(run)
        self._by_index[run.lane] = lane
        if lane not in self._told_lanes:
            self._told_lanes.append(lane)
        if run.gap_samples:
            holes = sum(hole.count for hole in run.missing)
            cause = "disconnect" if run.began is Began.RESUMED else "sequence"
            frames = "1 frame" if holes == 1 else f"{holes} frames"
            lane.skip(run.gap_samples, cause=cause, detail=frames if holes else "")
        return lane

    def _make(self, run: AudioRun) -> Lane:
        recording = self._host.record_lane(run)
        if recording is not None:
            self._recordings[run.conversation, run.participant] = recording

        def record(start: int, audio: bytes) -> None:
            assert recording is not None
            recording.write(0, start, audio)

        spec = LaneSpec(run.conversation, run.participant, run.encoding, run.format, run.rate_hz)
        return Lane(
            spec,
            self._host.choice(),
            self._host,
            self,
            record=record if recording is not None else None,
        )

    def _retire(self, key: Key, lane: Lane) -> None:
        self._replaced.append(lane)
        lane.finish()
        recording = self._recordings.pop(key, None)
        if recording is not None:
            recording.close()

    def _resume(self, conversation: str, participant: str) -> HoldState | None:
        """Take over what an earlier connection left of a participant."""
        held = self._host.take_held((conversation, participant))
        if held is None:
            return None
        held.lane.owner = self
        self._lanes[held.key] = held.lane
        if held.recording is not None:
            self._recordings[held.key] = held.recording
        self._host.telemetry.info(
            "media.call_resumed",
            conversation=conversation,
            duration_s=round((self._host.now_us() - held.lost_us) / 1e6, 3),
        )
        return held.state

    def carries(self, key: Key) -> bool:
        """Tell whether the connection has brought audio of a participant."""
        return key in self._lanes

    def give_way(self) -> None:
        """The caller is back over another connection: this one is dead, noticed or not."""
        if self._ending:
            return
        self._session.receive_closed(1006)
        self._leave_behind()
        if self._socket is not None:
            self._socket.abort()
            self._socket = None
        self._end("replaced", 1006)

    def _leave_behind(self) -> None:
        """Hand the lanes over to whoever continues the call."""
        now_us = self._host.now_us()
        for state in self._session.hold(self._host.now()):
            key = (state.conversation, state.participant)
            lane = self._lanes.pop(key, None)
            if lane is not None:
                self._host.hold(Held(state, lane, self._recordings.pop(key, None), now_us))

    def _tell_skipped(self) -> None:
        host, told = self._host, self._told_skips
        for reason, total in self._session.counters.skipped.items():
            if total > told.get(reason, 0):
                count = host.telemetry.counter("steno_media_skipped_total", reason=reason)
                count(total - told.get(reason, 0))
                told[reason] = total
        for one in self._session.skipped():
            if one.reason is not SkipReason.BINARY:
                host.accept(
                    Quarantined(
                        "media", one.sha256, one.size_bytes, one.reason.value, host.now_us()
                    )
                )

    # -- results --------------------------------------------------------------------------

    def on_hypothesis(self, lane: Lane, heard: Hypothesis) -> None:
        """This form has no way back: records are all there is."""

    def on_record(self, record: Record, payload: SentencePayload) -> None:
        """As above."""

    def on_language(self, lane: Lane, event: LanguageEvent) -> None:
        """The lane's chunks carry the new tag; nobody else is to be told."""

    # -- the end --------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Ping, or close when nothing came for too long; about once a second."""
        self._session.on_deadline(now)
        self._send()

    def _send(self) -> None:
        for message in self._session.to_send():
            if self._socket is None:
                continue
            match message:
                case Ping(payload=payload):
                    self._socket.ping(payload)
                case Close(code=code, reason=reason):
                    self._socket.close(code, reason)

    def shut_down(self) -> None:
        """Close; what the caller sends until it has heard of it is still taken in."""
        self._session.close(CloseReason.SHUTDOWN)
        self._send()

    def on_lane_over(self, lane: Lane) -> None:
        """All of one lane has come."""
        if lane in self._replaced:
            self._replaced.remove(lane)
        if self._ending and all(one.over for one in (*self._lanes.values(), *self._replaced)):
            self._over.set()

    def _end(self, cause: str, code: int) -> None:
        if self._ending:
            return
        self._ending = True
        self._host.spawn(self._finish(cause, code))

    async def _finish(self, cause: str, code: int) -> None:
        host = self._host
        try:
            await finish_lanes(host, [*self._lanes.values(), *self._replaced], self._over)
        finally:
            for recording in self._recordings.values():
                recording.close()
            self._send()
            self._tell(cause, code)
            host.left(self)

    def _tell(self, cause: str, code: int) -> None:
        counters, host = self._session.counters, self._host
        lanes = self._told_lanes
        speech_s = sum(lane.totals.speech / lane.spec.rate_hz for lane in lanes)
        missing_s = sum(
            (lane.totals.missing + lane.totals.shed) / lane.spec.rate_hz for lane in lanes
        )
        words = sum(lane.totals.hypotheses for lane in lanes)
        tell = host.telemetry.info
        if speech_s > SILENT_S and not words and host.recogniser is not None:
            tell = host.telemetry.warning  # heard somebody speak, and nothing came of it
        tell(
            "media.call_ended",
            conversation=lanes[0].spec.conversation if lanes else "",
            cause=cause,
            close_code=code,
            frames=counters.frames,
            count=words,
            speech_s=round(speech_s, 1),
            missing_s=round(missing_s, 3),
            duration_s=round(host.now() - self._started, 3),
        )


async def finish_lanes(host: JsonHost, lanes: Sequence[Lane], over: asyncio.Event) -> None:
    """End some lanes: what was heard of them is stored when this returns, or time was up."""
    if not lanes:
        return
    for lane in lanes:
        lane.finish()
    if all(lane.over for lane in lanes):
        over.set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(host.shutdown_s):
            await over.wait()
    now_us = host.now_us()
    for conversation in dict.fromkeys(lane.spec.conversation for lane in lanes):
        host.accept(ConversationEnded(conversation, now_us))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            await host.committed()
    for lane in lanes:
        lane.abort()
