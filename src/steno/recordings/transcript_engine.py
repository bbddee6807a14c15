"""The platform's finished transcripts as an engine of jobs, and before another engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from steno.errors import ObjectMissing, RemoteProtocolError, TimedOut, TransportError
from steno.ports import Telemetry
from steno.ports.jobs import TranscriptionRequest
from steno.recordings.calls import JobApi
from steno.recordings.engines import PlatformEngine, Store, as_asked, completed, running
from steno.recordings.media_sources import NO_MEDIA, Platform, Turn
from steno.recordings.platform_transcript import MAX_BYTES, transcript_words
from steno.wire.batch_download import Link, RecordingMedia
from steno.wire.http import RateBudget
from steno.wire.recording_jobs import FoundJob, JobAnswer, JobStatus, RecordingFacts

STORED: Final = "transcript:"
"""What the ids of jobs begin with that ``TranscriptFirst`` gave to the transcript."""


class TranscriptEngine(PlatformEngine):
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
            return running(transcript_id), None
        data = await self._store.read(link, max_bytes=MAX_BYTES)
        if data is None:
            raise TransportError("the link to a transcript ended before it could be used")
        found = await asyncio.to_thread(transcript_words, data, language=request.language)
        if found.bad:
            self._telemetry.warning("recordings.words_left_out", count=found.bad)
        words = as_asked(found.words, request)
        return completed(transcript_id, words, recording.started_us), None

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
