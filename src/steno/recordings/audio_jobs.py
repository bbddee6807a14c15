"""From a recording's files to its words, by a recogniser that was made for live calls.

Every channel of every file is a lane: its own speaker, its own stream to the recogniser. All
files begin together. Files are read a block at a time, as fast as the recogniser takes them:
while half of a stream's buffer waits, or a minute of audio is unanswered, nothing more is read,
so memory does not grow with the length of a recording. Audio that the recogniser gave up unheard
fails the whole, to be done again: a transcript with a hole that nobody sees is worse than none.

A recogniser that tells no times of words gets them from the sound: its words are laid onto the
stretches of the answered audio in which something can be heard.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec
import numpy as np

from steno.core.audio import Samples, samples_to_us
from steno.core.transcript import RawText
from steno.errors import EngineUnavailable, UnsupportedAudio
from steno.ports.speech import (
    AudioChunk,
    AudioShed,
    Hypothesis,
    Recogniser,
    SpeechEvent,
    SpeechStream,
    SpeechWord,
    StreamChanged,
    StreamSpec,
    StreamState,
)
from steno.recordings.words import Word

T = TypeVar("T")

CHUNK_S: Final = 0.1
FULL: Final = 0.5
"""Share of a stream's buffer above which nothing is read."""

UNANSWERED_S: Final = 60.0
"""Audio that was sent ahead of the recogniser's answers. Less than what a stream keeps."""

SILENT_S: Final = 5.0
"""A recogniser that answers nothing for so long is sent more: it may answer late by nature."""

_POLL_S: Final = 0.01
_FRAME_S: Final = 0.02
_BRIDGED_FRAMES: Final = 3
"""A silence of up to 60 ms is inside of a word."""

_LOUD: Final = 250
"""Peak of a frame from which on something is heard, of 32,768."""

Run = tuple[int, int]
"""First sample and one past the last of a stretch in which something is heard."""


class Decoded(Protocol):
    """A file being decoded. Methods block, and are called by one thread at a time."""

    channels: int
    rate_hz: int

    def read(self) -> tuple[Samples, ...] | None:
        """Return the next block of each channel; None after the last."""

    def close(self) -> None:
        """Let go of the file."""


OpenAudio = Callable[[Path], Decoded]
"""Opens a file. Blocks; ``UnsupportedAudio`` and ``StorageError`` come out."""


class HearingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How recordings are recognised.

    Attributes:
        speakers: Names of the lanes in their order; ``channel_0`` and so on beyond them. A
            single lane has the one name there is, or none: everybody is on it.
        away_s: So long without the recogniser, and the recording is given up for now.
        stall_s: So long without any answer, too.
    """

    speakers: tuple[str, ...] = ()
    away_s: float = 60.0
    stall_s: float = 300.0


async def words_of(
    paths: Sequence[Path],
    recogniser: Recogniser,
    open_audio: OpenAudio,
    *,
    conversation: str,
    language: str,
    zero_us: int = 0,
    settings: HearingSettings | None = None,
) -> list[Word]:
    """Return the words of a recording, in order of time.

    Args:
        paths: Its files; they begin at the same time.
        conversation: Name by which the recogniser knows it; not used by another at the same time.
        language: BCP 47 tag that the recogniser is told.
        zero_us: Start of the recording, UTC microseconds, to which the words' times are added.

    Raises:
        UnsupportedAudio: A file cannot be read, or the recogniser cannot do such audio.
        EngineUnavailable: The recogniser is away, or gave audio up unheard.
        StorageError: A file cannot be opened.
    """
    settings = settings or HearingSettings()
    files: list[Decoded] = []
    try:
        for path in paths:
            files.append(await _off_loop(partial(open_audio, path)))  # noqa: PERF401 - to be closed
        session = _Session(files, recogniser, settings)
        session.begin(conversation, language)
        try:
            await session.play()
        finally:
            session.abort()
        return session.words(zero_us)
    finally:
        for file in files:
            await asyncio.to_thread(file.close)


async def _off_loop(work: Callable[[], T]) -> T:
    """Do in a thread what blocks. Whoever is cancelled waits for it: the file is still in use."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise


class _Session:
    """All lanes of one recording."""

    def __init__(
        self, files: Sequence[Decoded], recogniser: Recogniser, settings: HearingSettings
    ) -> None:
        self._files = files
        self._recogniser = recogniser
        self._settings = settings
        self._lanes: list[list[_Lane]] = []

    @property
    def _all(self) -> list[_Lane]:
        return [lane for lanes in self._lanes for lane in lanes]

    def begin(self, conversation: str, language: str) -> None:
        """Open a stream for each lane."""
        count = sum(file.channels for file in self._files)
        number = 0
        for file in self._files:
            lanes: list[_Lane] = []
            self._lanes.append(lanes)
            for _ in range(file.channels):
                spec = StreamSpec(
                    conversation, f"channel-{number}", "L16", file.rate_hz, number, language
                )
                lane = _Lane(spec, self._name(number, count))
                lane.stream = self._recogniser.open(spec, lane)
                lanes.append(lane)
                number += 1

    def _name(self, number: int, count: int) -> str:
        names = self._settings.speakers
        if count == 1 and len(names) > 1:
            return ""  # all voices mixed: whose it is cannot be told
        if number < len(names):
            return names[number]
        return f"channel_{number}" if count > 1 else ""

    async def play(self) -> None:
        """Pass everything on, and wait until everything was answered."""
        playing = list(zip(self._files, self._lanes, strict=True))
        while playing:
            for file, lanes in list(playing):
                block = await _off_loop(file.read)
                if block is None:
                    playing.remove((file, lanes))
                    for lane in lanes:
                        lane.finish()
                    continue
                for lane, samples in zip(lanes, block, strict=True):
                    lane.send(samples)
            await self._until(self._has_room, patience_s=SILENT_S)
        await self._until(lambda: all(lane.is_over for lane in self._all))

    def _has_room(self) -> bool:
        return not any(lane.is_pressed or lane.is_unanswered for lane in self._all)

    async def _until(self, holds: Callable[[], bool], *, patience_s: float | None = None) -> None:
        """Wait for something, as long as the recogniser answers.

        Args:
            patience_s: Without any answer for so long it is not waited for any more, unless what
                was sent has not even left.
        """
        clock = asyncio.get_running_loop().time
        seen, since, away_since = -1, clock(), clock()
        while True:
            for lane in self._all:
                lane.raise_failure()
            if holds():
                return
            now = clock()
            if (events := sum(lane.progress for lane in self._all)) != seen:
                seen, since = events, now
            if not any(lane.is_away for lane in self._all):
                away_since = now
            is_quiet = patience_s is not None and now - since > patience_s
            if is_quiet and not any(lane.is_pressed for lane in self._all):
                return
            if now - away_since > self._settings.away_s:
                raise EngineUnavailable("the recogniser is away", code="speech.away")
            if now - since > self._settings.stall_s:
                raise EngineUnavailable("the recogniser does not answer", code="speech.stalled")
            await asyncio.sleep(_POLL_S)

    def abort(self) -> None:
        """Let go of the streams that are not over."""
        for lane in self._all:
            lane.abort()

    def words(self, zero_us: int) -> list[Word]:
        """Return the words of all lanes."""
        found = [word for lane in self._all for word in lane.words(zero_us)]
        found.sort(key=lambda word: (word.start_us, word.end_us))
        return found


class _Lane:
    """One channel: its samples on their way, what was heard of it, and where sound is."""

    def __init__(self, spec: StreamSpec, speaker: str) -> None:
        self.stream: SpeechStream | None = None
        self.is_over = False
        self.is_away = False
        self.progress = 0
        self._spec = spec
        self._speaker = speaker
        self._at = 0
        self._is_finished = False
        self._number = 0
        self._answered = 0
        self._marks: deque[tuple[int, int]] = deque()  # number of a chunk, and where it ends
        self._chunk = int(CHUNK_S * spec.rate_hz)
        self._sound = SoundRuns(spec.rate_hz)
        self._found: list[tuple[SpeechWord, float | None]] = []
        self._failure: UnsupportedAudio | EngineUnavailable | None = None

    @property
    def is_pressed(self) -> bool:
        """Too much of it waits to be sent, or to be heard."""
        return self.stream is not None and not self.is_over and self.stream.pressure > FULL

    @property
    def is_unanswered(self) -> bool:
        """Much was sent that was not answered for: the stream may not keep it for a resume."""
        return not self.is_over and self._at - self._answered > UNANSWERED_S * self._spec.rate_hz

    def send(self, samples: Samples) -> None:
        """Pass samples on."""
        assert self.stream is not None
        self._sound.feed(samples)
        data = memoryview(samples.astype("<i2", copy=False).tobytes())
        step = 2 * self._chunk
        for start in range(0, len(data), step):
            piece = bytes(data[start : start + step])
            self.stream.send(AudioChunk(piece, self._number, self._spec.language, self._at))
            self._at += len(piece) // 2
            self._marks.append((self._number, self._at))
            self._number += 1
        self.progress += 1

    def finish(self) -> None:
        """No audio follows."""
        assert self.stream is not None
        self._is_finished = True
        self.stream.finish()

    def abort(self) -> None:
        """Let go of the stream."""
        if self.stream is not None and not self.is_over:
            self.stream.abort()

    def raise_failure(self) -> None:
        """Raise what cannot be made good any more."""
        if self._failure is not None:
            raise self._failure

    def on_speech(self, event: SpeechEvent) -> None:
        """Take one event, in order."""
        self.progress += 1
        if isinstance(event, Hypothesis):
            while self._marks and self._marks[0][0] <= event.through:
                self._answered = self._marks.popleft()[1]
        match event:
            case Hypothesis() if event.is_final and event.text:
                self._take(event)
            case AudioShed():
                self._fail(EngineUnavailable("audio was given up unheard", code="speech.lost"))
            case StreamChanged(state=StreamState.OVER):
                self.is_over = True
                if event.cause == UnsupportedAudio.__name__:
                    self._fail(
                        UnsupportedAudio(
                            "the recogniser cannot do such audio", code="audio.refused"
                        )
                    )
                elif event.cause or not self._is_finished:
                    self._fail(EngineUnavailable("the recogniser ended early", code="speech.ended"))
            case StreamChanged():
                self.is_away = event.state is StreamState.AWAY
            case _:
                pass

    def _fail(self, error: UnsupportedAudio | EngineUnavailable) -> None:
        self._failure = self._failure or error

    def _take(self, heard: Hypothesis) -> None:
        if heard.words:
            self._found += [(word, word.confidence) for word in heard.words]
            return
        end = min(heard.end_samples, self._at)
        runs = self._sound.within(heard.start_samples, end)
        # 1 is what a hypothesis has that tells none.
        confidence = None if heard.confidence == 1.0 else heard.confidence
        self._found += [
            (word, confidence) for word in laid_out(heard.text.split(), runs, heard.start_samples)
        ]

    def words(self, zero_us: int) -> Iterable[Word]:
        """Yield what was heard, with times from the start of the recording."""
        rate_hz = self._spec.rate_hz
        for word, confidence in self._found:
            yield Word(
                word.text,
                zero_us + samples_to_us(max(0, word.start_samples), rate_hz),
                zero_us + samples_to_us(max(0, word.start_samples, word.end_samples), rate_hz),
                self._speaker,
                confidence,
            )


# --- times of words --------------------------------------------------------------------------


class SoundRuns:
    """Where in a lane something is heard, in frames of 20 ms. Asked for in order of time."""

    def __init__(self, rate_hz: int) -> None:
        self._frame = int(_FRAME_S * rate_hz)
        self._bridged = _BRIDGED_FRAMES * self._frame
        self._rest: Samples = np.zeros(0, np.int16)
        self._at = 0
        self._runs: deque[Run] = deque()

    def feed(self, samples: Samples) -> None:
        """Take the next samples in."""
        samples = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        whole = len(samples) // self._frame
        self._rest = samples[whole * self._frame :]
        frames = samples[: whole * self._frame].reshape(whole, self._frame)
        loud = (frames.max(axis=1) >= _LOUD) | (frames.min(axis=1) <= -_LOUD) if whole else []
        edges = np.flatnonzero(np.diff(np.concatenate(([0], loud, [0])).astype(np.int8)))
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            self._add(self._at + start * self._frame, self._at + end * self._frame)
        self._at += whole * self._frame

    def _add(self, start: int, end: int) -> None:
        if self._runs and start - self._runs[-1][1] <= self._bridged:
            start = self._runs.pop()[0]
        self._runs.append((start, end))

    def within(self, start: int, end: int) -> list[Run]:
        """Return the runs in a stretch, cut to it, or the whole stretch where there is none.

        Runs before it are forgotten.
        """
        while self._runs and self._runs[0][1] <= start:
            self._runs.popleft()
        found = [
            (max(start, first), min(end, last))
            for first, last in self._runs
            if first < end and last > start
        ]
        return found or [(start, max(start, end))]


def laid_out(texts: Sequence[str], runs: Sequence[Run], start: int) -> list[SpeechWord]:
    """Return words with times, laid onto the stretches in which something is heard.

    As many words as stretches: each word has its own. Otherwise the words share the sound by
    their lengths; pauses between stretches belong to no word unless it spans them.
    """
    if not runs:
        runs = [(start, start)]
    if len(texts) == len(runs):
        return [_word(text, *run) for text, run in zip(texts, runs, strict=True)]
    sound = sum(end - first for first, end in runs)
    letters = sum(len(text) for text in texts) or 1
    words: list[SpeechWord] = []
    spoken = 0
    for text in texts:
        first = _place(runs, sound * spoken // letters, is_end=False)
        spoken += len(text)
        words.append(_word(text, first, _place(runs, sound * spoken // letters, is_end=True)))
    return words


def _place(runs: Sequence[Run], offset: int, *, is_end: bool) -> int:
    """Return where so much sound has passed; between two runs: the end of one or start of next."""
    for first, end in runs:
        length = end - first
        if offset < length or (is_end and offset == length):
            return first + offset
        offset -= length
    return runs[-1][1]


def _word(text: str, start: int, end: int) -> SpeechWord:
    return SpeechWord(RawText(text), start, max(start, end))
