"""Endpointing: from voice flags of short frames to stretches of speech.

A voice activity detector says of each frame whether there is voice in it. ``ActivitySegments``
decides from that when speech has started and ended:

    silent --start_ms of voice in a row--> speaking
    speaking --end_ms without voice--> silent        the segment ends where the voice did, plus tail
    speaking --max_s long, in a pause--> silent      likewise
    speaking --max_s long, in voice--> speaking      cut: one segment ends, the next starts there

A segment begins ``pre_roll_ms`` before its first voiced frame, because detectors find soft
beginnings late, but never before the end of the one before. Segments therefore rise and do not
overlap, and all voice that was found lies in one of them.

Positions are samples on the stream clock of the lane. What is decided does not depend on how the
flags are cut into calls.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

START_MS = 60
END_MS = 500
PRE_ROLL_MS = 200
MAX_S = 30.0


class SpeechStarted(msgspec.Struct, frozen=True, gc=False):
    """Speech starts at ``at_samples``, which has passed already: keep ``pre_roll`` of audio."""

    at_samples: int


class EndCause(StrEnum):
    """Why a segment ended."""

    SILENCE = "silence"
    LENGTH = "length"
    """It reached ``max_s``; the next one starts where it ended."""
    FINISHED = "finished"
    """The audio ended, paused or has a gap here."""


class SpeechEnded(msgspec.Struct, frozen=True, gc=False):
    """Speech ended at ``at_samples``."""

    at_samples: int
    cause: EndCause


ActivityEvent = SpeechStarted | SpeechEnded


class ActivitySegments:
    """Finds the segments of one lane.

    Args:
        frame_samples: Samples a flag stands for.
        rate_hz: Samples per second.
        start_ms: Voice in a row that makes speech of it; clicks are shorter.
        end_ms: Silence that ends it; pauses between words are shorter.
        pre_roll_ms: How far before the first voiced frame, and how far behind the last one, a
            segment reaches; behind at most ``end_ms``.
        max_s: A longer segment is cut.
        at_samples: Position of the first flag's first sample.

    Attributes:
        position: Where the next flag's frame starts.
        speaking: Whether a segment is open.
    """

    __slots__ = (
        "_end_frames",
        "_ended",
        "_frame",
        "_max",
        "_pre_roll",
        "_quiet",
        "_run",
        "_start_frames",
        "_started",
        "_tail",
        "position",
        "speaking",
    )

    def __init__(
        self,
        frame_samples: int,
        rate_hz: int,
        *,
        start_ms: int = START_MS,
        end_ms: int = END_MS,
        pre_roll_ms: int = PRE_ROLL_MS,
        max_s: float = MAX_S,
        at_samples: int = 0,
    ) -> None:
        self._frame = frame_samples
        self._start_frames = max(1, _frames(start_ms, frame_samples, rate_hz))
        self._end_frames = max(1, _frames(end_ms, frame_samples, rate_hz))
        self._pre_roll = pre_roll_ms * rate_hz // 1000
        self._tail = min(self._pre_roll, self._end_frames * frame_samples)
        # A cut must leave room for what made it speech.
        shortest = self._pre_roll + self._start_frames * frame_samples
        self._max = max(int(max_s * rate_hz), shortest)
        self._run = 0
        self._quiet = 0
        self._started = at_samples
        self._ended = at_samples
        self.position = at_samples
        self.speaking = False

    def feed(self, flags: bytes) -> list[ActivityEvent]:
        """Take flags in, one byte for each frame (0: no voice), and return what they decide."""
        events: list[ActivityEvent] = []
        if not self.speaking and not any(flags):
            self._run = 0
            self.position += len(flags) * self._frame
            return events
        for flag in flags:
            self.position += self._frame
            if self.speaking:
                self._speaking(flag, events)
            elif not flag:
                self._run = 0
            else:
                self._run += 1
                if self._run >= self._start_frames:
                    self._start(events)
        return events

    def _start(self, events: list[ActivityEvent]) -> None:
        voice = self.position - self._run * self._frame
        self._started = max(voice - self._pre_roll, self._ended)
        self._run = self._quiet = 0
        self.speaking = True
        events.append(SpeechStarted(self._started))

    def _speaking(self, flag: int, events: list[ActivityEvent]) -> None:
        self._quiet = 0 if flag else self._quiet + 1
        limit = self._started + self._max
        if self._quiet >= self._end_frames or (self._quiet and self.position >= limit):
            voiced = self.position - self._quiet * self._frame
            self._end(min(voiced + self._tail, limit), EndCause.SILENCE, events)
        elif self.position >= limit:
            self._end(limit, EndCause.LENGTH, events)
            self._started = limit
            self.speaking = True
            events.append(SpeechStarted(limit))

    def _end(self, at: int, cause: EndCause, events: list[ActivityEvent]) -> None:
        self._ended = at
        self.speaking = False
        events.append(SpeechEnded(at, cause))

    def finish(self) -> list[ActivityEvent]:
        """End an open segment here: the audio ends, pauses, or something is missing."""
        events: list[ActivityEvent] = []
        if self.speaking:
            self._end(self.position, EndCause.FINISHED, events)
        self._run = self._quiet = 0
        return events

    def skip(self, samples: int) -> list[ActivityEvent]:
        """Let the clock jump over missing audio; an open segment ends before it."""
        events = self.finish()
        self.position += samples
        self._ended = self.position  # no pre-roll reaches into audio that never came
        return events


def _frames(milliseconds: int, frame_samples: int, rate_hz: int) -> int:
    """Return how many frames last at least so long."""
    return -(-milliseconds * rate_hz // (1000 * frame_samples))
