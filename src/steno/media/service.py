"""The media capability at work: who may call, what their audio goes through, how it ends.

One event loop, many calls. Sockets are read in ticks, and audio leaves in ticks, so that the work
behind them (completion queues, system calls) is shared by all calls of a tick. Nothing here runs
per frame; a task is made per call that ends, not per message.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from steno.core.audio import MediaFormat
from steno.core.records import Kind, Record, SentencePayload
from steno.core.transcript import RawText
from steno.errors import LocalProtocolError
from steno.media.admission import Admission, Load, Refusal
from steno.media.audiohook_call import AudioHookCall
from steno.media.coalescing import WindowRule
from steno.media.identification import IdentifierDesk
from steno.media.json_call import Held, JsonCall, Key, finish_lanes
from steno.media.lane import Lane
from steno.media.language import LanguageChoice, LanguageSettings
from steno.ports import FeedEvent, FeedTarget, FeedUp, Missing, Telemetry
from steno.ports.audio_server import (
    Accept,
    AudioServer,
    Refuse,
    TokenVerdict,
    TokenVerifier,
    UpgradeRequest,
)
from steno.ports.speech import (
    Recogniser,
    Samples,
    VoiceActivity,
)
from steno.wire.audiohook import Keyring, NonceCache, Rules, ServerSession, verify
from steno.wire.media_json import SUBPROTOCOL, AudioRun

FAILED_AUTH_DELAY_S = 0.5
"""Refusals for credentials take this long, whatever was wrong with them."""
RETRY_AFTER = (("Retry-After", "5"),)
LOOK_S = 0.5
TELL_EVERY_S = 10.0
MAX_LOST = 10_000


class MediaSettings(msgspec.Struct, frozen=True):
    """How the service works; times in seconds.

    Attributes:
        host_group: As in every key of a record.
        organisations: Ids in lower case that may connect by AudioHook; empty: any.
        close_wait_s: How long results are waited for after a caller's ``close``: shorter than
            the session's own limit, so that they come before ``closed``.
    """

    host_group: str
    audiohook_path: str = "/audiohook"
    json_path: str = "/media-api"
    max_calls: int = 2000
    idle_s: float = 60.0
    ping_interval_s: float = 20.0
    reconnect_s: float = 30.0
    coalesce_ms: float = 100.0
    coalesce_max_ms: float = 200.0
    shutdown_s: float = 30.0
    close_wait_s: float = 6.0
    entities: bool = True
    partials: bool = False
    signature: Rules = Rules()
    organisations: frozenset[str] = frozenset()
    language: LanguageSettings = LanguageSettings()


class CallRecording(Protocol):
    """The recording of one call."""

    def write(self, channel: int, start_samples: int, audio: bytes) -> None:
        """Add audio of a channel."""

    def paused(self, at_samples: int) -> None:
        """From here on nothing is written."""

    def resumed(self, at_samples: int) -> None:
        """It goes on here."""

    def close(self) -> None:
        """The call is over."""


class Tools(msgspec.Struct, frozen=True):
    """What the service works with.

    Attributes:
        serve: Makes the server; it listens while the context is open.
        keyring: AudioHook keys; without one, ``/audiohook`` is not served.
        desk: Asks language identifiers.
        tokens: None where nothing opens the JSON form.
        origin_allowed: Judges the ``Origin`` header of the JSON form.
        flush: Sends what speech streams have pending; once a tick.
        replay_share: Of the memory for unanswered audio in use, 0..1.
        make_voice: By rate; None where voice activity cannot be told at it.
        may_show: Whether a partial may be shown (``AudioHookCall``).
        start_recording: By conversation and format; None where calls are not recorded.
        committed: Returns when everything finished so far is stored.
    """

    serve: Callable[[Any], AbstractAsyncContextManager[AudioServer]]
    telemetry: Telemetry
    clock: Callable[[], float]
    utc_us: Callable[[], int]
    may_show: Callable[[str, str], bool]
    make_voice: Callable[[int], VoiceActivity | None]
    committed: Callable[[], Coroutine[Any, Any, None]]
    desk: IdentifierDesk
    recogniser: Recogniser | None = None
    flush: Callable[[], None] | None = None
    replay_share: Callable[[], float] | None = None
    keyring: Keyring | None = None
    tokens: TokenVerifier | None = None
    origin_allowed: Callable[[str], bool] | None = None
    start_recording: Callable[[str, MediaFormat], CallRecording | None] | None = None
    on_listening: Callable[[str], None] | None = None


class MediaService:
    """Serves calls from ``run`` to ``close``; the router of the server and the host of calls."""

    def __init__(self, settings: MediaSettings, tools: Tools) -> None:
        self._settings = settings
        self._tools = tools
        self.telemetry = tools.telemetry
        self.recogniser = tools.recogniser
        self.now = tools.clock
        self.now_us = tools.utc_us
        self.host_group = settings.host_group
        self.languages = settings.language.languages
        self.close_wait_s = settings.close_wait_s
        self.shutdown_s = settings.shutdown_s
        self.ping_interval_s = settings.ping_interval_s
        self.idle_s = settings.idle_s
        self.entities = settings.entities
        self.partials = settings.partials
        self.window_s = settings.coalesce_ms / 1000
        self.listens = tools.desk.listens
        self.reads = tools.desk.reads
        self.make_voice = tools.make_voice
        self.may_show = tools.may_show
        self.committed = tools.committed
        self._target: FeedTarget | None = None
        self._window = WindowRule(settings.coalesce_ms, settings.coalesce_max_ms)
        self._admission = Admission(settings.max_calls)
        self._nonces = NonceCache(settings.signature.keep_nonces_s)
        self._calls: set[AudioHookCall | JsonCall] = set()
        self._by_conversation: dict[str, set[AudioHookCall]] = {}
        self._held: dict[Key, tuple[Held, float]] = {}  # the longest held first
        self._lost: dict[str, int] = {}  # AudioHook sessions cut off, and when
        self._told_refused: dict[str, float] = {}
        self._congested = False
        self._lag_s = 0.0
        self._closing = asyncio.Event()
        self._empty = asyncio.Event()
        self._ends = 0  # of calls, under way
        self._tasks: asyncio.TaskGroup | None = None
        self._decode = msgspec.json.Decoder(SentencePayload).decode
        self._totals = {"calls": 0, "audiohook": 0, "json": 0, "probes": 0}
        self._open_calls = tools.telemetry.gauge("steno_media_calls")
        self._window_gauge = tools.telemetry.gauge("steno_media_window_seconds")

    # -- upgrades -------------------------------------------------------------------------

    def decide(self, request: UpgradeRequest) -> Accept | Refuse | Awaitable[Accept | Refuse]:
        """Route and admit a call; only what asks another service is awaited."""
        settings = self._settings
        if request.path == settings.audiohook_path and self._tools.keyring is not None:
            return self._audiohook(request, self._tools.keyring)
        if request.path == settings.json_path and self._tools.tokens is not None:
            return self._json(request, self._tools.tokens)
        return Refuse(404, "not_found")

    def _refused(self) -> Refusal | None:
        share = self._tools.replay_share
        return self._admission.decide(
            Load(
                calls=len(self._calls),
                lag_s=self._lag_s,
                replay_share=max(self.congestion, share() if share is not None else 0.0),
                is_closing=self._closing.is_set(),
            )
        )

    def _audiohook(self, request: UpgradeRequest, keyring: Keyring) -> Accept | Refuse:
        now = self.now()
        verdict = verify(
            request,
            keyring,
            self._nonces,
            utc_s=self.now_us() / 1e6,
            now=now,
            rules=self._settings.signature,
        )
        allowed = self._settings.organisations
        if not verdict.accepted or (allowed and verdict.organization.lower() not in allowed):
            self._tell_refused(verdict.reason if not verdict.accepted else "organisation", now)
            return Refuse(401, "unauthorised", delay_s=FAILED_AUTH_DELAY_S)
        if busy := self._refused():
            return Refuse(503, busy.value, headers=RETRY_AFTER)
        session = ServerSession(verdict.session, verdict.organization, now=now)
        call = AudioHookCall(self, session, verdict.session)
        self._totals["audiohook"] += 1
        self._joined(call)
        return Accept(call)

    def _tell_refused(self, reason: str, now: float) -> None:
        """Tell why, now and then: the caller is not told, and may try often."""
        self.telemetry.counter("steno_media_unauthorised_total", reason=reason)(1)
        if now - self._told_refused.get(reason, -TELL_EVERY_S) >= TELL_EVERY_S:
            self._told_refused[reason] = now
            self.telemetry.warning("media.signature_refused", cause=reason)

    def _json(
        self, request: UpgradeRequest, tokens: TokenVerifier
    ) -> Accept | Refuse | Awaitable[Accept | Refuse]:
        origin, allowed = request.header("origin"), self._tools.origin_allowed
        if origin and allowed is not None and not allowed(origin):
            return Refuse(403, "origin")
        verdict = tokens.verify(request.header("authorization"))
        if isinstance(verdict, TokenVerdict):
            return self._admit_json(request, verdict)
        return self._admit_json_later(request, verdict)

    async def _admit_json_later(
        self, request: UpgradeRequest, verdict: Awaitable[TokenVerdict]
    ) -> Accept | Refuse:
        return self._admit_json(request, await verdict)

    def _admit_json(self, request: UpgradeRequest, verdict: TokenVerdict) -> Accept | Refuse:
        if verdict.status:
            return Refuse(verdict.status, verdict.reason, delay_s=FAILED_AUTH_DELAY_S)
        if busy := self._refused():
            return Refuse(503, busy.value, headers=RETRY_AFTER)
        offered = {one.strip() for one in request.header("sec-websocket-protocol").split(",")}
        return Accept(JsonCall(self), subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else "")

    # -- calls ----------------------------------------------------------------------------

    def _joined(self, call: AudioHookCall | JsonCall) -> None:
        self._calls.add(call)
        self._empty.clear()
        self._totals["calls"] += 1
        self._open_calls(len(self._calls))

    def joined(self, call: JsonCall) -> None:
        """A connection of the JSON form is open."""
        self._totals["json"] += 1
        self._joined(call)

    def left(self, call: AudioHookCall | JsonCall) -> None:
        """Nothing more comes of a call."""
        self._calls.discard(call)
        self._open_calls(len(self._calls))
        self._tell_empty()

    def opened(self, call: AudioHookCall, conversation: str) -> None:
        """An AudioHook session belongs to a conversation: it wants its sentences."""
        self._by_conversation.setdefault(conversation, set()).add(call)

    def over(self, call: AudioHookCall) -> None:
        """Nothing more comes of an AudioHook session."""
        for conversation in [c for c, calls in self._by_conversation.items() if call in calls]:
            self._by_conversation[conversation].discard(call)
            if not self._by_conversation[conversation]:
                del self._by_conversation[conversation]
        self.left(call)

    def choice(self) -> LanguageChoice:
        """Return the language of a new call or lane."""
        return LanguageChoice(self._settings.language)

    def accept(self, event: FeedEvent) -> None:
        """Hand what was said, or is missing, to the spine."""
        if self._target is not None and not self._target.accept(event) and not self._congested:
            self._congested = True
            assert self._tasks is not None
            self._tasks.create_task(self._guarded(self._clear()))

    async def _clear(self) -> None:
        assert self._target is not None
        await self._target.ready()
        self._congested = False

    @property
    def congestion(self) -> float:
        """How full the way to the store is: 1 asks callers that can pause to do so."""
        return 1.0 if self._congested else 0.0

    def probed(self) -> None:
        """A connection probe was answered."""
        self._totals["probes"] += 1

    def lost(self, session: str, at_us: int) -> None:
        """An AudioHook session's connection was lost; another may say that it continues it."""
        self._lost[session.lower()] = at_us
        if len(self._lost) > MAX_LOST:
            del self._lost[next(iter(self._lost))]

    def continued(self, session: str) -> int:
        """Return when a session was lost that is continued now; 0 when that is not known."""
        return self._lost.pop(session.lower(), 0)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the end of a call."""
        assert self._tasks is not None
        self._ends += 1
        self._tasks.create_task(self._guarded(work)).add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ends -= 1
        self._tell_empty()

    @property
    def _is_empty(self) -> bool:
        """Whether every call is over, those whose caller was lost among them."""
        return not self._calls and not self._ends

    def _tell_empty(self) -> None:
        if self._is_empty:
            self._empty.set()

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - a bug met by one call must not end all
            self.telemetry.error("media.call_failed", error=type(error).__name__)

    def on_committed(self, records: list[Record]) -> None:
        """Sentences are stored: the calls they come from may give them back."""
        if not self._by_conversation:
            return
        for record in records:
            if record.kind is not Kind.SENTENCE or record.source != "media":
                continue
            calls = self._by_conversation.get(record.conversation)
            if calls:
                payload = self._decode(record.payload)
                for call in list(calls):
                    self._give_back(call, record, payload)

    def _give_back(self, call: AudioHookCall, record: Record, payload: SentencePayload) -> None:
        """Give a call its sentence; who else was stored with it waits behind this, unharmed."""
        try:
            call.on_record(record, payload)
        except LocalProtocolError:  # no message holds so much text: the record has it
            self.telemetry.counter("steno_media_results_dropped_total")(1)
        except Exception as error:  # noqa: BLE001 - a bug met by one call must not harm others
            self.telemetry.error("media.call_failed", error=type(error).__name__)

    # -- recordings -----------------------------------------------------------------------

    def record(self, conversation: str, media: MediaFormat) -> CallRecording | None:
        """Begin the recording of a call, where that is configured."""
        start = self._tools.start_recording
        return None if start is None else start(conversation, media)

    def record_lane(self, run: AudioRun) -> CallRecording | None:
        """Begin the recording of a lane, where that is configured."""
        media = MediaFormat(run.encoding, run.rate_hz, (run.participant,))
        return self.record(run.conversation, media)

    # -- language -------------------------------------------------------------------------

    def identify(self, lane: Lane, speech: Samples) -> None:
        """Ask which language is spoken."""
        self._tools.desk.listen(lane, speech, lane.spec.rate_hz)

    def read(self, lane: Lane, text: RawText) -> None:
        """Ask which language some words are in."""
        self._tools.desk.read(lane, text)

    def forget(self, lane: Lane) -> None:
        """Ask no more for a lane that is over."""
        self._tools.desk.forget(lane)

    # -- lost connections -----------------------------------------------------------------

    def hold(self, held: Held) -> None:
        """Keep what a connection left of a participant until the caller comes back.

        At most as many as there may be calls: then the one lost first is given up.
        """
        if self._closing.is_set() or not self._settings.reconnect_s:
            self._give_up(held)
            return
        if len(self._held) >= self._settings.max_calls:
            self._give_up(self._held.pop(next(iter(self._held)))[0])
        self._held[held.key] = (held, self.now() + self._settings.reconnect_s)

    def take_held(self, key: Key) -> Held | None:
        """Give out what an earlier connection left of a participant.

        One that still seems to be open is dead: the caller would not come a second time.
        """
        for call in list(self._calls):
            if isinstance(call, JsonCall) and call.carries(key):
                call.give_way()
        found = self._held.pop(key, None)
        return None if found is None else found[0]

    def _give_up(self, held: Held) -> None:
        """The caller did not come back: what went on without us is missing for good."""
        now_us, lane = self.now_us(), held.lane
        self.accept(
            Missing(
                lane.spec.conversation,
                lane.spec.name,
                "disconnect",
                held.lost_us,
                now_us,
                now_us,
                lane.position,
                lane.position,
            )
        )
        self.spawn(_end_held(self, held))

    def _expired(self, now: float) -> list[Held]:
        late = [key for key, (_, until) in self._held.items() if now >= until]
        return [self._held.pop(key)[0] for key in late]

    # -- life -----------------------------------------------------------------------------

    async def run(self, target: FeedTarget) -> None:
        """Serve until ``close``; then end the calls by their protocols and flush.

        Raises:
            ConfigError: The address is taken, or a file cannot be used.
        """
        self._target = target
        async with self._tools.serve(self) as server, asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            if self._tools.flush is not None:
                server.every_tick(self._tools.flush)
            host, port = server.address
            # The time before this process is over as a gap: from here on, calls are taken.
            target.accept(FeedUp("media", "", self.now_us()))
            if self._tools.on_listening is not None:
                self._tools.on_listening(f"{host}:{port}")
            background = [
                tasks.create_task(self._look()),
                tasks.create_task(self._tools.desk.run()),
            ]
            try:
                await self._closing.wait()
                server.stop_accepting()
                await self._end_calls()
                # Who has not answered is cut off while the end of a call can still be begun.
                await server.close(0.0)
            finally:
                for task in background:
                    task.cancel()
        if self.recogniser is not None:
            await self.recogniser.close(1.0)
        await self._tools.desk.close()

    async def close(self) -> None:
        """Take no new calls and let ``run`` wind down; returns when the calls have ended."""
        self._closing.set()
        if self._tasks is not None and not await self._until_empty(self._settings.shutdown_s + 1.0):
            self.telemetry.warning("media.calls_slow_to_end", count=len(self._calls))

    async def _end_calls(self) -> None:
        for held, _ in self._held.values():
            self._give_up(held)
        self._held.clear()
        for call in list(self._calls):
            call.shut_down()
        await self._until_empty(self._settings.shutdown_s)

    async def _until_empty(self, limit_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._held or not self._is_empty:
                    self._empty.clear()
                    await self._empty.wait()
        return self._is_empty

    async def _look(self) -> None:
        """Look after calls and the window, twice a second."""
        due = self.now() + LOOK_S
        while True:
            await asyncio.sleep(max(0.0, due - self.now()))
            now = self.now()
            self._lag_s = max(0.0, now - due)
            due = now + LOOK_S
            window_ms = self._window.look(now=now, cpu_s=time.thread_time(), lag_s=self._lag_s)
            self.window_s = window_ms / 1000
            self._window_gauge(self.window_s)
            for call in list(self._calls):
                call.tick(now)
            for held in self._expired(now):
                self._give_up(held)

    @property
    def calls(self) -> int:
        """Calls under way."""
        return len(self._calls)

    def counts(self) -> dict[str, int]:
        """Totals since the start."""
        return dict(self._totals)


async def _end_held(host: MediaService, held: Held) -> None:
    over = asyncio.Event()
    held.lane.owner = _HeldOwner(over)
    await finish_lanes(host, [held.lane], over)
    if held.recording is not None:
        held.recording.close()


class _HeldOwner:
    """Owns the lane of a caller that did not come back, until its last results are in."""

    def __init__(self, over: asyncio.Event) -> None:
        self._over = over

    def on_hypothesis(self, lane: Lane, heard: object) -> None:
        """Records are all there is."""

    def on_language(self, lane: Lane, event: object) -> None:
        """Nothing follows."""

    def on_lane_over(self, lane: Lane) -> None:
        """All of it has come."""
        self._over.set()
