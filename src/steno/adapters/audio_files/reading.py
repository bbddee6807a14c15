"""Decoding audio files in blocks: WAV (PCM, float, both laws of G.711), Ogg/Opus, FLAC, MP3.

What is held in memory is one block and the resampler's few milliseconds, however long the file.
Every method blocks: call them from a thread, one at a time.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from steno.adapters.audio_files.wholeness import is_broken_off
from steno.adapters.resampling import StreamResampler
from steno.core.audio import Samples
from steno.errors import StorageError, UnsupportedAudio

if TYPE_CHECKING:
    from soundfile import SoundFile  # type: ignore[import-untyped]  # it has none

BLOCK_S: Final = 5.0
MAX_CHANNELS: Final = 8
MIN_RATE_HZ: Final = 4_000
MAX_RATE_HZ: Final = 192_000

_EMPTY: Final = "audio.empty"
_BROKEN_OFF: Final = "audio.truncated"
_UNKNOWN: Final = "audio.codec_unknown"
_DAMAGED: Final = "audio.damaged"


class AudioFile:
    """One file, read from its beginning to its end; made by ``open_audio``.

    Attributes:
        channels: How many there are.
        rate_hz: Of the samples that ``read`` gives.
        file_rate_hz: Of the file.
    """

    def __init__(self, sound: SoundFile, rate_hz: int) -> None:
        self._sound = sound
        self.channels: int = sound.channels
        self.rate_hz = rate_hz
        self.file_rate_hz: int = sound.samplerate
        self._resamplers = [
            StreamResampler(self.file_rate_hz, rate_hz) for _ in range(self.channels)
        ]
        self._block = max(1, int(BLOCK_S * self.file_rate_hz))
        self._is_over = False
        self._frames = 0

    def read(self) -> tuple[Samples, ...] | None:
        """Return the next block of each channel, all of one length; None after the last.

        Raises:
            UnsupportedAudio: The file is damaged, or there was no sound in it.
        """
        if self._is_over:
            return None
        import soundfile

        try:
            # As floats: read as whole numbers, a file of floats would not be scaled.
            frames = self._sound.read(self._block, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, RuntimeError):
            raise _unsupported("the audio is damaged", _DAMAGED) from None
        self._frames += len(frames)
        columns = [_whole(np.ascontiguousarray(frames[:, each])) for each in range(self.channels)]
        if len(frames) == self._block:
            return tuple(
                resampler.feed(column)
                for resampler, column in zip(self._resamplers, columns, strict=True)
            )
        self._is_over = True
        if not self._frames:
            raise _unsupported("there is no sound in the file", _EMPTY)
        return tuple(
            np.concatenate((resampler.feed(column), resampler.flush()))
            for resampler, column in zip(self._resamplers, columns, strict=True)
        )

    def close(self) -> None:
        """Let go of the file."""
        self._sound.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_audio(path: Path, *, rate_hz: int) -> AudioFile:
    """Open an audio file whose samples are wanted at a rate. The name says nothing of its kind.

    Raises:
        UnsupportedAudio: It is empty, broken off, damaged or of a codec that is not read; its
            ``code`` says which.
        StorageError: It cannot be opened.
    """
    import soundfile

    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise _unsupported("the file is empty", _EMPTY)
            if is_broken_off(file):
                raise _unsupported("the file ends before its sound does", _BROKEN_OFF)
    except OSError as exc:
        raise StorageError("an audio file cannot be read", cause=type(exc).__name__) from None
    try:
        sound = soundfile.SoundFile(str(path))
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError):
        raise _unsupported("the file's codec is not read", _UNKNOWN) from None
    if not 1 <= sound.channels <= MAX_CHANNELS or not (
        MIN_RATE_HZ <= sound.samplerate <= MAX_RATE_HZ
    ):
        channels, rate = sound.channels, sound.samplerate
        sound.close()
        raise UnsupportedAudio(
            "too many channels, or samples of no usual rate",
            code="audio.form_unknown",
            channels=channels,
            rate_hz=rate,
        )
    return AudioFile(sound, rate_hz)


def _whole(values: np.ndarray) -> Samples:
    """Return samples of -1..1 as whole ones; those of 16 bits come back exactly."""
    values *= 32768.0
    np.rint(values, out=values)
    np.clip(values, -32768, 32767, out=values)
    samples: Samples = values.astype(np.int16)
    return samples


def _unsupported(summary: str, code: str) -> UnsupportedAudio:
    return UnsupportedAudio(summary, code=code)
