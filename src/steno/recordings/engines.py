"""Engines of transcription jobs beside the platform's own service: recordings and transcripts.

``AudioEngine`` fetches a recording and has it recognised. To submit is to order its files
(``MediaSource``), which binds nobody to anything: an order whose answer was lost is given again.
A poll asks how the order stands; once it is ready, the files are fetched and recognised behind
it, a few recordings at a time, and polls are told ``processing`` until the words are there. What
is in work is remembered by this process alone: after a restart the next poll finds the order
where it was, and only download and recognition are done again.

``TranscriptEngine`` takes the platform's finished transcript; ``TranscriptFirst`` tries that
before the audio.

Failures are errors of ours with a ``reason`` of ``recordings.job`` or a class that it knows; a
``code`` of ours tells more. A peer's words are in none of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec

from steno.errors import (
    ObjectMissing,
    RemoteProtocolError,
    SpeechError,
    StenoError,
    TimedOut,
    TransportError,
)
from steno.ports import Telemetry
from steno.ports.jobs import TranscriptionRequest
from steno.ports.speech import Recogniser
from steno.recordings.audio_jobs import HearingSettings, OpenAudio, words_of
from steno.recordings.calls import JobApi
from steno.recordings.job import failure_of
from steno.recordings.platform_transcript import MAX_BYTES, transcript_words
from steno.recordings.words import Word, encode_words
from steno.wire.batch_download import BatchState, FileState, Link, RecordingMedia
from steno.wire.http import RateBudget
from steno.wire.recording_jobs import FoundJob, JobAnswer, JobStatus, RecordingFacts

RENEWALS: Final = 2
"""How often links that ended are asked for again before the job's call fails."""

RENEW_S = 5.0
"""How often a renewed order is asked after."""

QUIET_S = 5.0
"""An order without a status is done when nothing was added to it for so long."""

FORGOTTEN_S: Final = 900.0
"""A job that was not polled for so long (paused, cancelled) no longer takes room."""

RETRIED_S: Final = 60.0
"""A job whose poll failed keeps its place for so long."""

AHEAD: Final = 4
"""For each recording being recognised, so many jobs may be in work."""

STORED: Final = "transcript:"
"""What the ids of jobs begin with that ``TranscriptFirst`` gave to the transcript."""

NO_MEDIA: Final = "NONE"
_GONE: Final = {
    FileState.ARCHIVED: "recording.archived",
    FileState.DELETED: "recording.deleted",
    FileState.ERROR: "recording.damaged",
}
_COMING: Final = frozenset({FileState.RESTORING, FileState.UPLOADING})

Turn = Callable[[], Awaitable[None]]
"""Waits for a turn: every call beyond the first of a job's step takes one."""


class Platform(Protocol):
    """The platform's calls for recordings. Each may raise what ``JobApi`` may."""

    @property
    def rate(self) -> RateBudget | None:
        """What the platform last said of our rate."""

    async def ready(self) -> None:
        """Have a token in hand."""

    async def order(self, conversation_id: str, recording_id: str, *, limit_s: float) -> str:
        """Order the batch download of a recording; return the order's id."""

    async def batch(self, batch_id: str) -> BatchState:
        """Return how an order stands."""

    async def recording(
        self, conversation_id: str, recording_id: str, *, form: str
    ) -> RecordingMedia:
        """Return a recording, with links to its files unless ``form`` is ``NONE``."""

    async def transcript(self, conversation_id: str, communication_id: str) -> Link | None:
        """Return where the transcript of a communication is; None where there is none."""


class Store(Protocol):
    """Downloads by presigned link; None where the link ended."""

    async def fetch(self, link: Link) -> Path | None:
        """Download into a new file, which is the caller's to remove."""

    async def read(self, link: Link, *, max_bytes: int) -> bytes | None:
        """Return what a link leads to."""


# --- where recordings come from --------------------------------------------------------------


class Media(msgspec.Struct, frozen=True):
    """The files of a recording, at least one, and its start (UTC microseconds, 0: not told)."""

    links: tuple[Link, ...]
    started_us: int


class Pending(msgspec.Struct, frozen=True):
    """Not there yet; ``wait_s`` is when to ask again, None where nobody said."""

    wait_s: float | None = None


class MediaSource(Protocol):
    """A way to the files of a recording."""

    async def order(self, request: TranscriptionRequest, *, key: str, limit_s: float) -> str:
        """Ask for the files; return the id by which they are asked after."""

    async def media(self, order_id: str, request: TranscriptionRequest) -> Media | Pending:
        """Return the files with fresh links, or that they are not there yet.

        Raises:
            ObjectMissing: There will be none.
        """

    async def renew(self, order_id: str, request: TranscriptionRequest) -> Media | Pending:
        """Return the files after their links ended."""

    def forget(self, order_id: str) -> None:
        """Nobody will ask after it any more."""


class BatchSource:
    """Recordings by batch download, in the codec in which they were made.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, platform: Platform, *, turn: Turn, clock: Callable[[], float]) -> None:
        self._platform = platform
        self._turn = turn
        self._clock = clock
        self._full_since: dict[str, tuple[int, float]] = {}
        self._orders: dict[str, str] = {}  # newer orders for ids whose links had ended
        self._links: dict[str, tuple[Link, ...]] = {}

    async def order(self, request: TranscriptionRequest, *, key: str, limit_s: float) -> str:
        """Order the recording; see ``MediaSource``."""
        del key  # a repeated order is another order, and costs nothing
        return await self._platform.order(
            request.conversation_id, request.recording_id, limit_s=limit_s
        )

    async def media(self, order_id: str, request: TranscriptionRequest) -> Media | Pending:
        """See ``MediaSource``."""
        state = await self._platform.batch(self._orders.get(order_id, order_id))
        if not self._is_done(order_id, state):
            return Pending()
        results = [one for one in state.results if one.recording_id in ("", request.recording_id)]
        if any(one.link is None for one in results):
            raise _no_export("recording.refused")
        # One file can be told more than once.
        links = tuple(dict.fromkeys(one.link for one in results if one.link is not None))
        if not links:
            raise _no_export("recording.withheld")
        self._links[order_id] = links
        await self._turn()
        return Media(links, await _started_us(self._platform, request))

    async def renew(self, order_id: str, request: TranscriptionRequest) -> Media | Pending:
        """Look once more, and order anew where the same links come again."""
        ended = self._links.get(order_id)
        await self._turn()
        found = await self.media(order_id, request)
        if not isinstance(found, Media) or found.links != ended:
            return found
        await self._turn()
        self._full_since.pop(order_id, None)
        self._orders[order_id] = await self._platform.order(
            request.conversation_id, request.recording_id, limit_s=30.0
        )
        return Pending()

    def forget(self, order_id: str) -> None:
        """See ``MediaSource``."""
        for known in (self._full_since, self._orders, self._links):
            known.pop(order_id, None)

    def _is_done(self, order_id: str, state: BatchState) -> bool:
        if state.is_named_done:
            return True
        if not state.is_full:
            self._full_since.pop(order_id, None)
            return False
        now = self._clock()
        count, since = self._full_since.setdefault(order_id, (state.ready, now))
        if count != state.ready:
            self._full_since[order_id] = (state.ready, now)
            return False
        return now - since >= QUIET_S


class FormatSource:
    """Recordings in a format that the platform makes of them when it is first asked.

    Args:
        form: The platform's name of the format.
    """

    def __init__(self, platform: Platform, *, form: str) -> None:
        self._platform = platform
        self._form = form

    async def order(self, request: TranscriptionRequest, *, key: str, limit_s: float) -> str:
        """Ask for the format, so that it is being made; see ``MediaSource``."""
        try:
            async with asyncio.timeout(limit_s):
                await self._recording(request)
        except TimeoutError:
            raise TimedOut(action="look at a recording") from None
        return key

    async def media(self, order_id: str, request: TranscriptionRequest) -> Media | Pending:
        """See ``MediaSource``. Each answer has fresh links."""
        del order_id
        found = await self._recording(request)
        if found.is_pending:
            return Pending(found.wait_s)
        if found.links:
            return Media(found.links, found.started_us)
        if found.file_state in _COMING:
            return Pending()
        raise _no_export(_GONE.get(found.file_state, "recording.no_media"))

    async def renew(self, order_id: str, request: TranscriptionRequest) -> Media | Pending:
        """See ``MediaSource``."""
        return await self.media(order_id, request)

    def forget(self, order_id: str) -> None:
        """Nothing is remembered."""

    async def _recording(self, request: TranscriptionRequest) -> RecordingMedia:
        return await self._platform.recording(
            request.conversation_id, request.recording_id, form=self._form
        )


async def _started_us(platform: Platform, request: TranscriptionRequest) -> int:
    """Return when a recording began; 0 where the platform does not say."""
    try:
        found = await platform.recording(
            request.conversation_id, request.recording_id, form=NO_MEDIA
        )
    except ObjectMissing:
        return 0
    return found.started_us


def _no_export(code: str) -> ObjectMissing:
    return ObjectMissing(
        "the platform does not hand the recording out", reason="export_failed", code=code
    )


# --- engines ---------------------------------------------------------------------------------


class _PlatformEngine:
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


class AudioEngine(_PlatformEngine):
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
                return _running(transcript_id), media.wait_s
            task = asyncio.create_task(self._done(transcript_id, request, media), name="recording")
            self._work[transcript_id] = task
        if not task.done():
            return _running(transcript_id), None
        del self._work[transcript_id]
        try:
            done = task.result()
        except StenoError as error:
            raise self._counted(transcript_id, error) from None
        self._drop(transcript_id)
        return _completed(transcript_id, done.words, done.started_us), None

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
                conversation=request.conversation_id,
                language=request.language,
                zero_us=media.started_us,
                settings=self._hearing,
            )
        finally:
            await asyncio.to_thread(_remove, paths)
        return _Done(_as_asked(words, request), media.started_us), len(words)

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


class TranscriptEngine(_PlatformEngine):
    """Takes the platform's finished transcripts; a ``JobApi``.

    Args:
        store: Reads the file of a transcript.
        turn: See ``Turn``.
        utc_us: The wall clock, UTC microseconds.
        wait_s: So long after the end of a recording its transcript may still come.
    """

    def __init__(
        self,
        platform: Platform,
        store: Store,
        *,
        telemetry: Telemetry,
        turn: Turn,
        utc_us: Callable[[], int],
        wait_s: float,
    ) -> None:
        super().__init__(platform)
        self._telemetry = telemetry
        self._store = store
        self._turn = turn
        self._utc_us = utc_us
        self._wait_us = int(wait_s * 1_000_000)

    @property
    def room(self) -> int | None:
        """It takes any number."""
        return None

    async def submit(self, request: TranscriptionRequest, *, key: str, limit_s: float) -> JobAnswer:
        """Take a job on; nothing is called, nothing can be doubled."""
        del request, limit_s
        return JobAnswer(key, JobStatus.QUEUED, JobStatus.QUEUED.value)

    async def is_there(self, request: TranscriptionRequest) -> bool:
        """Tell whether the platform has a transcript of a recording."""
        _, link = await self._found(request)
        return link is not None

    async def poll(
        self, transcript_id: str, request: TranscriptionRequest
    ) -> tuple[JobAnswer, float | None]:
        """Return the transcript's words once it is there.

        Raises:
            ObjectMissing: There is none, and none will come.
            AuthError, TransportError, ProtocolError: A call or the download failed.
        """
        recording, link = await self._found(request)
        if link is None:
            if recording.ended_us and self._utc_us() >= recording.ended_us + self._wait_us:
                raise ObjectMissing(
                    "the platform has no transcript of the recording",
                    reason="transcript_missing",
                    code="transcript.missing",
                )
            return _running(transcript_id), None
        data = await self._store.read(link, max_bytes=MAX_BYTES)
        if data is None:
            raise TransportError("the link to a transcript ended before it could be used")
        found = await asyncio.to_thread(transcript_words, data, language=request.language)
        if found.bad:
            self._telemetry.warning("recordings.words_left_out", count=found.bad)
        words = _as_asked(found.words, request)
        return _completed(transcript_id, words, recording.started_us), None

    async def _found(self, request: TranscriptionRequest) -> tuple[RecordingMedia, Link | None]:
        recording = await self._platform.recording(
            request.conversation_id, request.recording_id, form=NO_MEDIA
        )
        if recording.is_pending:
            return recording, None
        if not recording.communication_id:
            raise RemoteProtocolError("the recording names no communication", field="sessionId")
        await self._turn()
        link = await self._platform.transcript(request.conversation_id, recording.communication_id)
        return recording, link


class TranscriptFirst:
    """Takes the platform's transcript where there is one, else another engine; a ``JobApi``.

    Args:
        transcripts: Asked first.
        audio: For recordings without a transcript.
        turn: See ``Turn``.
    """

    def __init__(self, transcripts: TranscriptEngine, audio: JobApi, *, turn: Turn) -> None:
        self._transcripts = transcripts
        self._audio = audio
        self._turn = turn

    @property
    def rate(self) -> RateBudget | None:
        """What the platform last said of our rate."""
        return self._audio.rate

    @property
    def room(self) -> int | None:
        """That of the audio's engine: what it will be is not known before."""
        return self._audio.room

    async def ready(self) -> None:
        """Have a token in hand."""
        await self._audio.ready()

    async def submit(self, request: TranscriptionRequest, *, key: str, limit_s: float) -> JobAnswer:
        """Take the transcript if it is there; else submit the audio, in the time left.

        Raises:
            TimedOut: ``limit_s`` over all of it.
        """
        end = asyncio.get_running_loop().time() + limit_s
        try:
            async with asyncio.timeout_at(end):
                if await self._transcripts.is_there(request):
                    return await self._transcripts.submit(
                        request, key=STORED + key, limit_s=limit_s
                    )
                await self._turn()
        except TimeoutError:
            raise TimedOut(action="look for a transcript") from None
        left_s = max(0.001, end - asyncio.get_running_loop().time())
        return await self._audio.submit(request, key=key, limit_s=left_s)

    async def poll(
        self, transcript_id: str, request: TranscriptionRequest
    ) -> tuple[JobAnswer, float | None]:
        """Ask whoever has the job."""
        of = self._transcripts if transcript_id.startswith(STORED) else self._audio
        return await of.poll(transcript_id, request)

    async def look(self, request: TranscriptionRequest) -> list[FoundJob]:
        """Return nothing: see ``AudioEngine``."""
        return await self._audio.look(request)

    async def preflight(self, request: TranscriptionRequest) -> RecordingFacts:
        """Return what the platform says of a recording."""
        return await self._audio.preflight(request)


# --- answers ---------------------------------------------------------------------------------


def _running(transcript_id: str) -> JobAnswer:
    return JobAnswer(transcript_id, JobStatus.PROCESSING, JobStatus.PROCESSING.value)


def _completed(transcript_id: str, words: bytes, started_us: int) -> JobAnswer:
    return JobAnswer(
        transcript_id,
        JobStatus.COMPLETED,
        JobStatus.COMPLETED.value,
        words=msgspec.Raw(words),
        started_us=started_us,
    )


def _as_asked(words: list[Word], request: TranscriptionRequest) -> bytes:
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
