"""Engines by themselves: what fails a job and how, and who keeps a place.

From request to words they are tested against the simulated platform in ``tests/app``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from steno.errors import (
    EngineUnavailable,
    ObjectMissing,
    PeerUnavailable,
    SpeechError,
    StenoError,
    UnsupportedAudio,
)
from steno.observability import LogTelemetry
from steno.ports.jobs import JobState, TranscriptionRequest
from steno.ports.speech import Recogniser, SpeechListener, SpeechStream, StreamSpec
from steno.recordings.engines import AHEAD, FORGOTTEN_S, AudioEngine
from steno.recordings.job import REMEDIES, JobMachine, Reason, failure_of, job_id, plan
from steno.recordings.media_sources import BatchSource, Media
from steno.wire.batch_download import BatchResult, BatchState, Link, RecordingMedia
from steno.wire.http import RateBudget
from steno.wire.recording_jobs import JobAnswer, JobStatus

CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
ID = "5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01"
REQUEST = TranscriptionRequest(ID, conversation_id=CALL)


@pytest.mark.parametrize(
    ("error", "reason", "is_retryable", "code"),
    [
        (UnsupportedAudio("x", code="audio.empty"), Reason.AUDIO_UNREADABLE, False, "audio.empty"),
        (EngineUnavailable("x"), Reason.SPEECH_UNAVAILABLE, True, ""),
        (SpeechError("x"), Reason.SPEECH_FAILED, False, ""),
        (ObjectMissing("x", reason="export_failed", code="c"), Reason.EXPORT_FAILED, False, "c"),
        (ObjectMissing("x", reason="transcript_missing"), Reason.TRANSCRIPT_MISSING, False, ""),
        (StenoError("x", reason="speech_unavailable"), Reason.SPEECH_UNAVAILABLE, False, ""),
        (ObjectMissing("x", reason="nonsense"), Reason.RECORDING_MISSING, False, ""),
    ],
)
def test_what_fails_in_this_process_has_a_reason_of_its_own(
    error: StenoError, reason: Reason, is_retryable: bool, code: str
) -> None:
    """And every reason a remedy."""
    failure = failure_of(error)
    assert (failure.reason, failure.is_retryable, failure.code) == (reason, is_retryable, code)
    assert REMEDIES[reason]


def test_a_submitted_job_fails_by_what_its_recording_failed_by() -> None:
    """It is not told as a job that the service forgot."""
    machine = JobMachine()
    job = plan(REQUEST, host_group="h", now_us=1, engine="audio")
    step = machine.next_step(job, 1)
    intent = step.intent  # type: ignore[union-attr]  # a planned job is submitted
    answer = JobAnswer("batch", JobStatus.QUEUED, "queued")
    job = machine.accepted(intent, answer, 2, 0.0)
    failure = failure_of(ObjectMissing("x", reason="export_failed", code="recording.refused"))
    after = machine.call_failed(job, failure, 3, 0.0)
    assert (after.state, after.reason, after.code) == (
        JobState.FAILED,
        "export_failed",
        "recording.refused",
    )


def test_ids_of_jobs_without_a_conversation_stay_what_they_were() -> None:
    """A new field must not let everything be transcribed once more."""
    assert job_id("h", "service", TranscriptionRequest(ID)) == OLD
    assert job_id("h", "service", REQUEST) != OLD


OLD = "ab00c0b4-e664-5b18-a01f-af8402f8b358"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Platform:
    """Answers as the test says; orders are counted."""

    def __init__(self) -> None:
        self.orders = 0
        self.states: list[BatchState] = []
        self.rate: RateBudget | None = None

    async def ready(self) -> None:
        pass

    async def order(self, conversation_id: str, recording_id: str, *, limit_s: float) -> str:
        assert (conversation_id, recording_id) == (CALL, ID)
        self.orders += 1
        return f"order-{self.orders}"

    async def batch(self, batch_id: str) -> BatchState:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    async def recording(
        self, conversation_id: str, recording_id: str, *, form: str
    ) -> RecordingMedia:
        return RecordingMedia(recording_id, started_us=7)

    async def transcript(self, conversation_id: str, communication_id: str) -> Link | None:
        return None


class Store:
    """Every download fails."""

    async def fetch(self, link: Link) -> Path | None:
        raise PeerUnavailable("no")

    async def read(self, link: Link, *, max_bytes: int) -> bytes | None:
        return None


class Deaf:
    """A recogniser that nothing reaches here."""

    languages: tuple[str, ...] = ()

    def open(self, spec: StreamSpec, listener: SpeechListener) -> SpeechStream:
        raise AssertionError

    async def close(self, timeout_s: float) -> None:
        pass


async def turn() -> None:
    pass


def engine(platform: Platform, clock: Clock, *, retries: int = 5) -> AudioEngine:
    recogniser: Recogniser = Deaf()
    return AudioEngine(
        platform,
        BatchSource(platform, turn=turn, clock=clock),
        Store(),
        recogniser,
        lambda path: pytest.fail(str(path)),
        telemetry=LogTelemetry(level="error"),
        clock=clock,
        turn=turn,
        concurrency=1,
        retries=retries,
    )


def state(
    *urls: str | None, expected: int | None = None, named: bool = False, of: str = ID
) -> BatchState:
    results = tuple(BatchResult(CALL, of, None if url is None else Link(url)) for url in urls)
    return BatchState(len(urls) if expected is None else expected, len(urls), named, results)


async def test_a_job_that_nobody_asks_after_gives_its_place_away() -> None:
    """It was cancelled, or is paused."""
    platform, clock = Platform(), Clock()
    audio = engine(platform, clock)
    assert audio.room == AHEAD
    for _ in range(AHEAD):
        await audio.submit(REQUEST, key="k", limit_s=1.0)
    assert audio.room == 0
    clock.now = FORGOTTEN_S + 1
    assert audio.room == AHEAD


async def test_tries_at_a_recording_are_counted_over_polls_that_do_not_fail() -> None:
    """The machine counts failures in a row only; in the end the job fails for good."""
    platform, clock = Platform(), Clock()
    platform.states = [state("https://a/1", named=True)]
    audio = engine(platform, clock, retries=2)
    failures: list[StenoError] = []
    while len(failures) < 3:
        try:
            await audio.poll("order-1", REQUEST)
        except StenoError as error:
            failures.append(error)
        await asyncio.sleep(0)
    assert [failure_of(error).is_retryable for error in failures] == [True, True, False]
    assert {failure_of(error).reason for error in failures} == {Reason.UNAVAILABLE}
    assert audio.room == AHEAD
    await audio.close()


async def test_a_batch_without_a_status_needs_a_quiet_time_without_growth() -> None:
    """The number of results that are expected can grow."""
    platform, clock = Platform(), Clock()
    source = BatchSource(platform, turn=turn, clock=clock)
    one, two = state("https://a/1"), state("https://a/1", "https://a/2")
    seen = [one, state("https://a/1", expected=2), two, two, two]
    told = []
    for at_s, each in zip((0.0, 6.0, 7.0, 11.0, 12.0), seen, strict=True):
        clock.now, platform.states = at_s, [each]
        told.append(isinstance(await source.media("b", REQUEST), Media))
    assert told == [False, False, False, False, True]


@pytest.mark.parametrize(
    ("batch", "code"),
    [
        (state(None, named=True), "recording.refused"),
        (state("https://a/1", None, named=True), "recording.refused"),
        (state(named=True), "recording.withheld"),
        (state("https://a/1", named=True, of=CALL), "recording.withheld"),
    ],
)
async def test_an_order_without_all_of_its_files_fails(batch: BatchState, code: str) -> None:
    """Half of a conversation would be taken for all of it; another's recording is not ours."""
    platform, clock = Platform(), Clock()
    platform.states = [batch]
    with pytest.raises(ObjectMissing) as caught:
        await BatchSource(platform, turn=turn, clock=clock).media("b", REQUEST)
    assert failure_of(caught.value).code == code


async def test_a_file_told_twice_is_fetched_once() -> None:
    """One recording can be in several results."""
    platform, clock = Platform(), Clock()
    platform.states = [state("https://a/1", "https://a/1", named=True)]
    found = await BatchSource(platform, turn=turn, clock=clock).media("b", REQUEST)
    assert found == Media((Link("https://a/1"),), 7)
