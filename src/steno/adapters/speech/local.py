"""The recogniser that is an engine in this process.

Engines block, so they run in worker threads; the loop only appends to queues. A stream's audio
waits in a queue of its own, bounded in seconds: when the engine is too slow, the oldest audio is
given up and told as ``AudioShed``, and the engine hears a gap. Streams take turns, each for a
fraction of a second of audio, so that a long backlog of one does not hold up the others.

PocketSphinx holds Python's lock while it decodes. It is fed in slices, so that the loop waits
for milliseconds; with many calls at once, run ``steno stt`` beside the gateway instead.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from typing import Final

from steno.adapters.speech.engines.choosing import worker_count
from steno.adapters.speech.engines.port import Engine
from steno.adapters.speech.local_stream import DeafStream, LocalStream
from steno.core.audio import Encoding, encoding_of
from steno.errors import StenoError, UnsupportedAudio
from steno.ports import Telemetry
from steno.ports.speech import (
    AudioShed,
    SpeechEvent,
    SpeechListener,
    SpeechStream,
    StreamChanged,
    StreamSpec,
    StreamState,
)

BUFFER_S: Final = 10.0
JOIN_S: Final = 0.5


class LocalRecogniser:
    """See the module; implements ``steno.ports.speech.Recogniser``. Used on one loop only.

    Args:
        engine: Loaded; closed with this.
        workers: Threads; 0: as many as processors.
        buffer_s: Audio of one stream that may wait for the engine.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        telemetry: Telemetry,
        workers: int = 0,
        buffer_s: float = BUFFER_S,
    ) -> None:
        self.engine = engine
        self.buffer_s = buffer_s
        self.lock = threading.Condition()
        self._telemetry = telemetry
        self._workers = worker_count(workers)
        self._threads: list[threading.Thread] = []
        self._ready: deque[LocalStream] = deque()
        self._streams: set[LocalStream] = set()
        self._outbox: deque[tuple[LocalStream, SpeechEvent]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopping = False
        self._is_called = False
        self._empty = asyncio.Event()
        self._count_streams = telemetry.gauge("steno_speech_streams")
        self._count_shed = telemetry.counter("steno_speech_shed_seconds_total")

    # --- the port ----------------------------------------------------------------------------

    @property
    def languages(self) -> tuple[str, ...]:
        """What the engine's model can do; empty when it does not say."""
        return self.engine.languages

    def check(self, spec: StreamSpec) -> Encoding:
        """Return the stream's encoding if it can be recognised.

        Raises:
            UnsupportedAudio: It cannot; ``fields["setting"]`` is ``format`` or ``rate_hz``.
        """
        encoding = encoding_of(spec.format)
        if encoding is None:
            raise UnsupportedAudio("an unknown audio format", setting="format")
        try:
            self.engine.check(spec.rate_hz)
        except UnsupportedAudio as exc:
            raise UnsupportedAudio(exc.summary, fix=exc.fix, setting="rate_hz") from exc
        return encoding

    def open(self, spec: StreamSpec, listener: SpeechListener) -> SpeechStream:
        """Begin a stream; returns at once. Needs a running loop.

        A stream whose audio can never be recognised is ``OVER`` with ``UnsupportedAudio``.
        """
        loop = self._loop = asyncio.get_running_loop()
        if self._is_stopping:
            return DeafStream()
        try:
            encoding = self.check(spec)
        except UnsupportedAudio as error:
            over = StreamChanged(StreamState.OVER, error.error_class)
            loop.call_soon(listener.on_speech, over)
            return DeafStream()
        stream = LocalStream(self, spec, encoding, listener)
        self._streams.add(stream)
        self._count_streams(len(self._streams))
        self.post(stream, [StreamChanged(StreamState.UP)])
        if not self._threads:
            self._start()
        return stream

    async def close(self, timeout_s: float) -> None:
        """Finish every stream, wait until they are over, then end the threads and the engine."""
        end = time.monotonic() + timeout_s
        for stream in list(self._streams):
            stream.finish()
        try:
            async with asyncio.timeout(timeout_s):
                while self._streams:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            self._telemetry.warning("speech.close_timed_out", count=len(self._streams))
            for stream in list(self._streams):
                stream.abort()
        with self.lock:
            self._is_stopping = True
            self.lock.notify_all()
        # A thread cannot be cancelled: one inside the engine ends with its slice, or the process.
        end = max(end, time.monotonic() + JOIN_S)
        while self._has_threads and time.monotonic() < end:  # noqa: ASYNC110 - they are no tasks
            await asyncio.sleep(0.005)
        if not self._has_threads:
            self.engine.close()

    @property
    def _has_threads(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    # --- threads -----------------------------------------------------------------------------

    def _start(self) -> None:
        for number in range(self._workers):
            thread = threading.Thread(target=self._work, name=f"speech-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (stream := self._next()) is not None:
            stream.take_turn()
            with self.lock:
                if stream.has_work:
                    self._ready.append(stream)
                    self.lock.notify()
                else:
                    stream.is_queued = False

    def _next(self) -> LocalStream | None:
        with self.lock:
            while not self._ready:
                if self._is_stopping:
                    return None
                self.lock.wait()
            return self._ready.popleft()

    def enqueue(self, stream: LocalStream) -> None:
        """Let the stream have a turn; ``lock`` is held."""
        if not stream.is_queued:
            stream.is_queued = True
            self._ready.append(stream)
            self.lock.notify()

    def failed(self, error: BaseException) -> None:
        """Tell that the engine failed on a piece of audio; from any thread."""
        self._telemetry.warning(
            "speech.engine_failed",
            error_class=error.error_class if isinstance(error, StenoError) else "SpeechError",
        )

    # --- events ------------------------------------------------------------------------------

    def post(self, stream: LocalStream, events: list[SpeechEvent]) -> None:
        """Hand events to the loop, in order; from any thread."""
        if not events:
            return
        with self.lock:
            self._outbox.extend((stream, event) for event in events)
            if self._is_called or self._loop is None:
                return
            self._is_called = True
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self._outbox.clear()

    def _deliver(self) -> None:
        with self.lock:
            batch = list(self._outbox)
            self._outbox.clear()
            self._is_called = False
        for stream, event in batch:
            if stream.is_aborted:
                continue
            if isinstance(event, AudioShed):
                self._count_shed((event.to_samples - event.from_samples) / stream.spec.rate_hz)
            if isinstance(event, StreamChanged) and event.state is StreamState.OVER:
                self.forget(stream)
            stream.listener.on_speech(event)

    def forget(self, stream: LocalStream) -> None:
        """The stream is over, or was let go."""
        self._streams.discard(stream)
        self._count_streams(len(self._streams))
        if not self._streams:
            self._empty.set()
