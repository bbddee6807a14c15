"""Peaks of a lane's audio, to draw its waveform: the least and the greatest sample of each bucket.

Memory does not grow with the call: when there would be more than ``max_buckets``, pairs of them
become one, and a bucket stands for twice the time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from steno.core.audio import Samples

BUCKETS_PER_S = 20
MAX_BUCKETS = 16_384
"""14 minutes in twentieths of a second, 27 in tenths, and so on; 64 KB."""


class Peaks:
    """Collects the peaks of one lane.

    Args:
        bucket_samples: Samples of a bucket at first.
        max_buckets: At most so many; an even number.

    Attributes:
        bucket_samples: Samples of a bucket by now.
        samples: Samples seen, silence included.
    """

    __slots__ = ("_filled", "_limit", "_peaks", "bucket_samples", "samples")

    def __init__(self, bucket_samples: int, *, max_buckets: int = MAX_BUCKETS) -> None:
        if bucket_samples < 1 or max_buckets < 2 or max_buckets % 2:
            raise ValueError("buckets hold a sample or more, and there is an even number of them")
        self.bucket_samples = bucket_samples
        self.samples = 0
        self._limit = max_buckets
        self._filled = 0  # buckets begun
        self._peaks: npt.NDArray[np.int16] = np.zeros((0, 2), np.int16)

    def feed(self, samples: Samples) -> None:
        """Take samples in, in any portions."""
        total = len(samples)
        if not total:
            return
        self._make_room(total)
        size = self.bucket_samples
        room = -self.samples % size  # what is missing in the last bucket
        head = min(room, total)
        if head:
            last = self._peaks[self._filled - 1]
            last[0] = min(last[0], samples[:head].min())
            last[1] = max(last[1], samples[:head].max())
        rest = samples[head:]
        if len(rest):
            starts = np.arange(0, len(rest), size)
            begun = self._filled + len(starts)
            self._peaks[self._filled : begun, 0] = np.minimum.reduceat(rest, starts)
            self._peaks[self._filled : begun, 1] = np.maximum.reduceat(rest, starts)
            self._filled = begun
        self.samples += total

    def feed_silence(self, samples: int) -> None:
        """Take silence in, without making it."""
        if samples <= 0:
            return
        self._make_room(samples)
        if -self.samples % self.bucket_samples:
            last = self._peaks[self._filled - 1]
            last[0], last[1] = min(last[0], 0), max(last[1], 0)
        self.samples += samples
        begun = -(-self.samples // self.bucket_samples)
        self._peaks[self._filled : begun] = 0
        self._filled = begun

    def cut(self, samples: int) -> None:
        """Forget what comes after ``samples``.

        The peaks of a bucket that is cut may be those of what is forgotten: it counts as silent
        so far.
        """
        if samples < self.samples:
            self.samples = max(samples, 0)
            self._filled = -(-self.samples // self.bucket_samples)
            if self.samples % self.bucket_samples:
                self._peaks[self._filled - 1] = 0

    def _make_room(self, samples: int) -> None:
        total = self.samples + samples
        while -(-total // self.bucket_samples) > self._limit:
            self._halve()
        wanted = -(-total // self.bucket_samples)
        if wanted > len(self._peaks):
            grown = np.zeros((min(max(2 * len(self._peaks), wanted, 64), self._limit), 2), np.int16)
            grown[: self._filled] = self._peaks[: self._filled]
            self._peaks = grown

    def _halve(self) -> None:
        peaks = self._peaks[: self._filled]
        if self._filled % 2:  # the last one has no partner: alone it stands for both
            peaks = np.concatenate((peaks, peaks[-1:]))
        pairs = peaks.reshape(-1, 2, 2)
        halved = np.zeros_like(self._peaks)
        halved[: len(pairs), 0] = pairs[:, :, 0].min(axis=1)
        halved[: len(pairs), 1] = pairs[:, :, 1].max(axis=1)
        self._peaks = halved
        self._filled = len(pairs)
        self.bucket_samples *= 2

    @property
    def buckets(self) -> npt.NDArray[np.int16]:
        """Least and greatest sample of each bucket, int16, shape (n, 2); the last may be short."""
        return self._peaks[: self._filled].copy()
