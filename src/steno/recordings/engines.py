"""The engine that fetches recordings from the platform and has them recognised.

To submit a job is to order its files (``media_sources``), which binds nobody to anything. A poll
asks how the order stands; once it is ready, the files are fetched and recognised behind it, a few
recordings at a time, and polls are told ``processing`` until the words are there. What is in work
is remembered by this process alone: after a restart the next poll finds the order where it was,
and only download and recognition are done again.

Failures are errors of ours with a ``reason`` of ``recordings.job`` or a class that it knows; a
``code`` of ours tells more. A peer's words are in none of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec

from steno.errors import SpeechError, StenoError, TransportError
from steno.ports import Telemetry
from steno.ports.jobs import TranscriptionRequest
from steno.ports.speech import Recogniser
from steno.recordings.audio_jobs import HearingSettings, OpenAudio, words_of
from steno.recordings.job import failure_of
from steno.recordings.media_sources import NO_MEDIA, Media, MediaSource, Pending, Platform, Turn
from steno.recordings.words import Word, encode_words
from steno.wire.batch_download import FileState, Link
from steno.wire.http import RateBudget
from steno.wire.recording_jobs import FoundJob, JobAnswer, JobStatus, RecordingFacts

RENEWALS: Final = 2
"""How often links that ended are asked for again before the job's call fails."""

RENEW_S = 5.0
"""How often a renewed order is asked after."""

FORGOTTEN_S: Final = 900.0
"""A job that was not polled for so long (paused, cancelled) no longer takes room."""

RETRIED_S: Final = 60.0
"""A job whose poll failed keeps its place for so long."""

AHEAD: Final = 4
"""For each recording being recognised, so many jobs may be in work."""


class Store(Protocol):
    """Downloads by presigned link; None where the link ended."""

    async def fetch(self, link: Link) -> Path | None:
        """Download into a new file, which is the caller's to remove."""

    async def read(self, link: Link, *, max_bytes: int) -> bytes | None:
        """Return what a link leads to."""


class PlatformEngine:
    """What every engine on the platform's material has in common."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    @property
    def rate(self) -> RateBudget | None:
        """What the platform last said of our rate."""
        return self._platform.rate

    async def ready(self) -> None:
        """Have a token in hand."""
        await self._platform.ready()

    async def look(self, request: TranscriptionRequest) -> list[FoundJob]:
        """Return nothing: what may have been ordered costs nothing and is ordered again."""
        del request
        return []

    async def preflight(self, request: TranscriptionRequest) -> RecordingFacts:
        """Return what the platform says of a recording."""
        found = await self._platform.recording(
            request.conversation_id, request.recording_id, form=NO_MEDIA
        )
        return RecordingFacts(
            request.recording_id,
            request.conversation_id,
            found.started_us,
            found.file_state.value if found.file_state is not FileState.OTHER else "",
        )


class AudioEngine(PlatformEngine):
    """Fetches recordings and has them recognised; a ``JobApi``.

    Args:
        source: Where their files come from.
        store: Fetches the files.
        recogniser: Not closed here.
        open_audio: Decodes a file.
        concurrency: Recordings fetched and recognised side by side.
        retries: Failed tries at a recording after which its job fails.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        platform: Platform,
        source: MediaSource,
        store: Store,
        recogniser: Recogniser,
        open_audio: OpenAudio,
        *,
        telemetry: Telemetry,
        clock: Callable[[], float],
        turn: Turn,
        concurrency: int = 2,
        retries: int = 5,
        hearing: HearingSettings | None = None,
    ) -> None:
        super().__init__(platform)
        self._source = source
        self._store = store
        self._recogniser = recogniser
        self._open_audio = open_audio
        self._telemetry = telemetry
        self._clock = clock
        self._turn = turn
        self._hearing = hearing
        self._retries = retries
        self._most = AHEAD * concurrency
        self._slots = asyncio.Semaphore(concurrency)
        self._polled: dict[str, float] = {}
        self._work: dict[str, asyncio.Task[_Done]] = {}
        self._failed: dict[str, int] = {}

    @property
    def room(self) -> int | None:
        """Jobs it takes beside those in work, so that none waits for hours while it counts."""
        late = self._clock() - FORGOTTEN_S
        for order_id in [each for each, at in self._polled.items() if at < late]:
            self._drop(order_id)
        return max(0, self._most - len(self._polled))

    async def submit(self, request: TranscriptionRequest, *, key: str, limit_s: float) -> JobAnswer:
        """Order the files of a recording."""
        order_id = await self._source.order(request, key=key, limit_s=limit_s)
        self._polled[order_id] = self._clock()
        return JobAnswer(order_id, JobStatus.QUEUED, JobStatus.QUEUED.value)

    async def poll(
        self, transcript_id: str, request: TranscriptionRequest
    ) -> tuple[JobAnswer, float | None]:
        """Return how a job stands; begins its work when the files are there.

        Raises:
            ObjectMissing: The platform does not hand the recording out.
            SpeechError: Its audio cannot be read or recognised.
            AuthError, TransportError, ProtocolError, StorageError: A call or download failed.
        """
        self._polled[transcript_id] = self._clock()
        try:
            return await self._polled_once(transcript_id, request)
        except StenoError as error:
            if error.retryable:
                # It may have been the job's last try; if not, the next poll comes soon.
                self._polled[transcript_id] -= FORGOTTEN_S - RETRIED_S
            else:
                self._drop(transcript_id)
            raise

    async def _polled_once(
        self, transcript_id: str, request: TranscriptionRequest
    ) -> tuple[JobAnswer, float | None]:
        task = self._work.get(transcript_id)
        if task is None:
            media = await self._source.media(transcript_id, request)
            if isinstance(media, Pending):
                return running(transcript_id), media.wait_s
            task = asyncio.create_task(self._done(transcript_id, request, media), name="recording")
            self._work[transcript_id] = task
        if not task.done():
            return running(transcript_id), None
        del self._work[transcript_id]
        try:
            done = task.result()
        except StenoError as error:
            raise self._counted(transcript_id, error) from None
        self._drop(transcript_id)
        return completed(transcript_id, done.words, done.started_us), None

    async def close(self) -> None:
        """End what is in work; it is done again by another process."""
        tasks = list(self._work.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._work.clear()

    def _counted(self, order_id: str, error: StenoError) -> StenoError:
        """Return the error of one more failed try; the last one is for good.

        The machine counts failed calls in a row, and the polls in between do not fail.
        """
        if not error.retryable:
            return error
        tries = self._failed[order_id] = self._failed.get(order_id, 0) + 1
        if tries <= self._retries:
            return error
        code = str(error.fields.get("code") or "")
        return StenoError(
            "a recording could not be worked on", reason=failure_of(error).reason.value, code=code
        )

    def _drop(self, order_id: str) -> None:
        self._polled.pop(order_id, None)
        self._failed.pop(order_id, None)
        self._source.forget(order_id)
        task = self._work.pop(order_id, None)
        if task is not None:
            task.cancel()
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    # --- behind the polls --------------------------------------------------------------------

    async def _done(self, order_id: str, request: TranscriptionRequest, media: Media) -> _Done:
        async with self._slots:
            started = self._clock()
            try:
                done, size = await self._recognised(order_id, request, media)
            except StenoError as error:
                self._telemetry.warning(
                    "recordings.audio_failed",
                    error_class=error.error_class,
                    code=str(error.fields.get("code") or ""),
                )
                raise
            except Exception as error:
                # One strange file must not end the run of all others.
                self._telemetry.warning("recordings.audio_failed", error_class=type(error).__name__)
                raise SpeechError("a recording could not be worked on", code="audio.bug") from error
            self._telemetry.info(
                "recordings.audio_recognised",
                duration_s=self._clock() - started,
                count=size,
            )
            return done

    async def _recognised(
        self, order_id: str, request: TranscriptionRequest, media: Media
    ) -> tuple[_Done, int]:
        paths, media = await self._fetched(order_id, request, media)
        try:
            words = await words_of(
                paths,
                self._recogniser,
                self._open_audio,
                # Two recordings of one conversation may be heard side by side.
                conversation=request.recording_id,
                language=request.language,
                zero_us=media.started_us,
                settings=self._hearing,
            )
        finally:
            await asyncio.to_thread(_remove, paths)
        return _Done(as_asked(words, request), media.started_us), len(words)

    async def _fetched(
        self, order_id: str, request: TranscriptionRequest, media: Media
    ) -> tuple[list[Path], Media]:
        """Download every file, with new links where they end before."""
        for renewal in range(RENEWALS + 1):
            paths: list[Path] = []
            try:
                for link in media.links:
                    path = await self._store.fetch(link)
                    if path is None:
                        break
                    paths.append(path)
                else:
                    return paths, media
            except BaseException:
                await asyncio.to_thread(_remove, paths)
                raise
            await asyncio.to_thread(_remove, paths)
            if renewal < RENEWALS:
                media = await self._renewed(order_id, request)
        raise TransportError("links to a recording end before they can be used")

    async def _renewed(self, order_id: str, request: TranscriptionRequest) -> Media:
        await self._turn()
        found = await self._source.renew(order_id, request)
        while isinstance(found, Pending):
            await asyncio.sleep(max(RENEW_S, found.wait_s or 0.0))
            await self._turn()
            found = await self._source.media(order_id, request)
        return found


class _Done(msgspec.Struct, frozen=True):
    """What came of a recording; ``words`` are JSON as ``recordings.words`` reads it."""

    words: bytes
    started_us: int


# --- answers ---------------------------------------------------------------------------------


def running(transcript_id: str) -> JobAnswer:
    """Return the answer of a job that is in work."""
    return JobAnswer(transcript_id, JobStatus.PROCESSING, JobStatus.PROCESSING.value)


def completed(transcript_id: str, words: bytes, started_us: int) -> JobAnswer:
    """Return the answer of a job that is done; ``words`` as ``encode_words`` writes them."""
    return JobAnswer(
        transcript_id,
        JobStatus.COMPLETED,
        JobStatus.COMPLETED.value,
        words=msgspec.Raw(words),
        started_us=started_us,
    )


def as_asked(words: list[Word], request: TranscriptionRequest) -> bytes:
    """Return words as JSON, without what was not asked for."""
    changes: dict[str, str | None] = {}
    if not request.speaker_diarization:
        changes["speaker"] = ""
    if not request.word_confidence:
        changes["confidence"] = None
    if changes:
        words = [msgspec.structs.replace(word, **changes) for word in words]
    return encode_words(words)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
