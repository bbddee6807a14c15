"""What is kept of a conversation's audio: peaks to draw, and energies to measure segments by.

Memory does not grow with the audio: when there would be too many stretches, pairs become one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from steno.archive.align import Seconds
from steno.core.audio import Samples
from steno.core.waveform import Peaks

STRETCH_S: Final = 0.01
MAX_STRETCHES: Final = 1 << 20
"""Three hours in hundredths of a second, six in fiftieths, and so on; 8 MB."""
QUIETEST_DB: Final = -120.0
FULL_SCALE: Final = 32768.0
MAX_OUTSIDE: Final = 100
"""Segments outside the audio told one by one; the rest is counted."""

_encode = msgspec.json.Encoder().encode


class Outside(msgspec.Struct, frozen=True):
    """Segments that do not lie in the audio.

    Attributes:
        count: How many end behind its end, or begin before 0.
        first: Their places among the segments, the first hundred.
    """

    count: int = 0
    first: tuple[int, ...] = ()


class Sound:
    """Measures a conversation's audio, all channels together.

    Args:
        rate: Samples per second.
    """

    def __init__(self, rate: int, *, max_stretches: int = MAX_STRETCHES) -> None:
        self.rate = rate
        self._peaks = Peaks(max(1, rate // 20))
        self._limit = max_stretches
        self._per_stretch = max(1, round(rate * STRETCH_S))
        self._squares: npt.NDArray[np.float64] = np.zeros(1024)
        self._filled = 0
        self._samples = 0
        self._rest: npt.NDArray[np.float64] = np.zeros(0)
        self._sums: npt.NDArray[np.float64] | None = None

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self._samples / self.rate

    def feed(self, channels: Sequence[Samples]) -> None:
        """Take a block of each channel in, all of one length.

        Peaks are those of all channels together; energies the mean over the channels.
        """
        if not len(channels[0]):
            return
        self._sums = None
        loudest = channels[0]
        for channel in channels[1:]:
            loudest = np.where(
                np.abs(channel.astype(np.int32)) > np.abs(loudest.astype(np.int32)),
                channel,
                loudest,
            )
        self._peaks.feed(loudest)
        squares = np.zeros(len(channels[0]))
        for channel in channels:
            squares += np.square(channel.astype(np.float64))
        self._samples += len(squares)
        self._add(np.concatenate((self._rest, squares / len(channels))))

    def _add(self, squares: npt.NDArray[np.float64]) -> None:
        whole = len(squares) // self._per_stretch
        used = whole * self._per_stretch
        self._rest = squares[used:].copy()
        if not whole:
            return
        sums = squares[:used].reshape(whole, self._per_stretch).sum(axis=1)
        if self._filled + whole > len(self._squares):
            grown = np.zeros(max(2 * len(self._squares), self._filled + whole))
            grown[: self._filled] = self._squares[: self._filled]
            self._squares = grown
        self._squares[self._filled : self._filled + whole] = sums
        self._filled += whole
        while self._filled > self._limit:
            self._halve()

    def _halve(self) -> None:
        """Make one stretch of two; an odd one goes back to what is not a stretch yet."""
        if self._filled % 2:
            self._filled -= 1
            last = self._squares[self._filled]
            self._rest = np.concatenate(
                (np.full(self._per_stretch, last / self._per_stretch), self._rest)
            )
        pairs = self._squares[: self._filled].reshape(-1, 2).sum(axis=1)
        self._filled = len(pairs)
        self._squares = pairs
        self._per_stretch *= 2

    def energies(self, starts: Seconds, ends: Seconds) -> list[float | None]:
        """Return the mean level of each interval in dBFS, to a stretch; None outside the audio."""
        if self._sums is None:
            squares = np.append(self._squares[: self._filled], self._rest.sum())
            self._sums = np.concatenate(([0.0], np.cumsum(squares)))
        last = len(self._sums) - 1
        per_second = self.rate / self._per_stretch
        first = np.clip(np.floor(starts * per_second), 0, last).astype(np.int64)
        behind = np.clip(np.ceil(ends * per_second), 0, last).astype(np.int64)
        sums = self._sums[behind] - self._sums[first]
        found: list[float | None] = []
        for one, other, energy in zip(first.tolist(), behind.tolist(), sums.tolist(), strict=True):
            samples = min(other * self._per_stretch, self._samples) - one * self._per_stretch
            found.append(_decibels(energy / samples) if other > one and samples > 0 else None)
        return found

    def forget_levels(self) -> None:
        """Keep what is drawn only: to ``energies`` all is silent from here on."""
        self._squares, self._filled = np.zeros(0), 0
        self._rest = np.zeros(0)
        self._sums = None

    def peaks_json(self) -> bytes:
        """Return peaks as players of web pages read them.

        The form is that of the BBC's audiowaveform, version 2: least and greatest sample of each
        pixel by turns.
        """
        buckets = self._peaks.buckets
        return _encode(
            {
                "version": 2,
                "channels": 1,
                "sample_rate": self.rate,
                "samples_per_pixel": self._peaks.bucket_samples,
                "bits": 16,
                "length": len(buckets),
                "data": buckets.reshape(-1).tolist(),
            }
        )

    def columns(self, count: int, seconds: float) -> npt.NDArray[np.float64]:
        """Return least and greatest level, -1..1, of each of ``count`` equal parts of a time.

        Shape (count, 2); parts behind the audio are silent.
        """
        found = np.zeros((count, 2))
        buckets = self._peaks.buckets / FULL_SCALE
        if not len(buckets) or seconds <= 0:
            return found
        per_column = seconds / count * self.rate / self._peaks.bucket_samples
        for column in range(count):
            first = int(column * per_column)
            part = buckets[first : max(first + 1, math.ceil((column + 1) * per_column))]
            if len(part):
                found[column] = part[:, 0].min(), part[:, 1].max()
        return found


class Fit:
    """Watches which segments lie outside the audio (an ``Observer`` of the pass).

    Args:
        seconds: Length of the audio.
        slack_s: So much beyond its end is rounding.
    """

    def __init__(self, seconds: float, *, slack_s: float = 0.02) -> None:
        self._end = seconds + slack_s
        self._seen = 0
        self._count = 0
        self._first: list[int] = []

    def take(self, starts: Seconds, ends: Seconds) -> None:
        """Take segments in."""
        outside = np.flatnonzero((ends > self._end) | (starts < 0))
        self._count += len(outside)
        room = MAX_OUTSIDE - len(self._first)
        self._first += [self._seen + place for place in outside[:room].tolist()]
        self._seen += len(starts)

    @property
    def outside(self) -> Outside:
        """What was found."""
        return Outside(self._count, tuple(self._first))


def _decibels(mean_square: float) -> float:
    if mean_square <= 0:
        return QUIETEST_DB
    return round(max(QUIETEST_DB, 10 * math.log10(mean_square / FULL_SCALE**2)), 1)
