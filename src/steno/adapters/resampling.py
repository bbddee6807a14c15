"""Streaming resampling of one lane's samples with soxr, for recognisers that want another rate.

Samples are resampled as floats and rounded here: soxr's own int16 output is dithered, so that the
same audio would give other samples each time, and others again for other portions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from steno.core.audio import Samples
from steno.errors import UnsupportedAudio

if TYPE_CHECKING:
    from soxr import ResampleStream  # type: ignore[import-untyped]  # it has none

Quality = Literal["LQ", "MQ", "HQ"]
"""``HQ`` is flat to within 0.1 dB up to 3.6 kHz of 8 kHz speech, ``LQ`` 4 dB down at 3.3.
From 8 to 16 kHz they give their output in portions of 104 and 59 ms."""


class StreamResampler:
    """Resamples one channel; what it gives out in all does not depend on the portions.

    Output lags behind input by up to a portion of the library's; ``flush`` gives the rest. In all,
    ``round(samples * out_hz / in_hz)`` samples come out, give or take one.

    Args:
        in_hz: Rate of the samples that come.
        out_hz: Rate wanted. The same rate costs nothing.
        quality: See ``Quality``.

    Raises:
        UnsupportedAudio: A rate is no rate.
    """

    def __init__(self, in_hz: int, out_hz: int, *, quality: Quality = "HQ") -> None:
        if in_hz < 1 or out_hz < 1:
            raise UnsupportedAudio("samples of no rate", rate_hz=min(in_hz, out_hz))
        self.in_hz = in_hz
        self.out_hz = out_hz
        self._quality = quality
        self._stream: ResampleStream | None = None if in_hz == out_hz else self._made()

    def _made(self) -> ResampleStream:
        import soxr  # imported where used: the command line starts without it

        return soxr.ResampleStream(
            self.in_hz, self.out_hz, 1, dtype="float32", quality=self._quality
        )

    def feed(self, samples: Samples) -> Samples:
        """Take samples in and return those that are ready; often none, then many."""
        if self._stream is None:
            return samples
        if not len(samples):
            return np.zeros(0, np.int16)
        return _rounded(self._stream.resample_chunk(samples.astype(np.float32)))

    def flush(self) -> Samples:
        """Return what is still to come and start afresh, as after a gap or a pause."""
        if self._stream is None:
            return np.zeros(0, np.int16)
        rest = _rounded(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        self._stream.clear()
        return rest

    def length(self, samples: int) -> int:
        """Return how many samples come out for so many, all in all."""
        return math.floor(samples * self.out_hz / self.in_hz + 0.5)


def _rounded(values: np.ndarray) -> Samples:
    """Return whole samples; peaks that the filter lifts over full scale are held there."""
    whole: Samples = np.clip(np.rint(values), -32768, 32767).astype(np.int16)
    return whole
