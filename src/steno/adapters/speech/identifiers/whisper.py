"""The language of speech, by the language detection of whisper models (faster-whisper).

One window of 30 s is encoded for every question, however short the speech: half a second of one
processor with a model of the size of ``tiny``, one of ``base``, three of ``small``. That is why
questions are few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from steno.errors import EngineUnavailable
from steno.ports.speech import LanguageGuess, Samples

if TYPE_CHECKING:
    from faster_whisper import WhisperModel  # type: ignore[import-untyped]

RATE_HZ: Final = 16_000
MIN_SPEECH_S: Final = 1.0
"""Less is a word or two, and its answer close to chance."""

LEAST_CONFIGURED: Final = 0.5
"""With less of the probability on the configured languages, it is probably none of them."""

NEEDED_FILES: Final = ("model.bin", "tokenizer.json")
"""Of a model's folder. Without the second the library would fetch one from the network."""

_MODEL_FIX: Final = (
    "Set media.identifier_model to the folder of a multilingual faster-whisper model "
    "(model.bin, tokenizer.json), or to a name such as tiny, which is downloaded once"
)


class WhisperIdentifier:
    """Listens; a port ``LanguageIdentifier``. The model is loaded with the first question.

    Args:
        model: A folder, or a name known to faster-whisper.
        languages: Primary language codes (``en``) of the configured tags.
        download: A name that is not on this machine yet may be fetched.

    Raises:
        EngineUnavailable: faster-whisper, the setting or the folder's files are missing.
    """

    name = "whisper"

    def __init__(self, model: str, languages: Iterable[str], *, download: bool = True) -> None:
        try:
            # Now, before there are calls: the import holds all threads up for a tenth of a second.
            import faster_whisper  # noqa: F401
        except ImportError as exc:
            raise EngineUnavailable(
                "faster-whisper is not installed",
                fix="Install the extra `whisper`, or take another media.identifier",
            ) from exc
        if not model:
            raise EngineUnavailable("the whisper model is not set", fix=_MODEL_FIX)
        folder = Path(model).expanduser()
        is_folder = folder.is_dir()
        if not is_folder and (len(folder.parts) > 2 or model[0] in "./~"):
            raise EngineUnavailable("the whisper model's folder is missing", fix=_MODEL_FIX)
        if is_folder and not all((folder / each).is_file() for each in NEEDED_FILES):
            raise EngineUnavailable("the whisper model's folder is incomplete", fix=_MODEL_FIX)
        self._source = str(folder) if is_folder else model
        self._languages = frozenset(languages)
        self._download = download
        self._model: WhisperModel | None = None
        self._thread = ThreadPoolExecutor(1, "language")

    async def identify(self, speech: Samples, rate_hz: int) -> LanguageGuess | None:
        """Guess from some seconds of speech, silence taken out; None: too short, cannot tell.

        Raises:
            EngineUnavailable: The model cannot be loaded, or knows English only.
        """
        if len(speech) < MIN_SPEECH_S * rate_hz:
            return None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._identify, speech, rate_hz)

    def _identify(self, speech: Samples, rate_hz: int) -> LanguageGuess | None:
        if self._model is None:
            self._model = self._loaded()
        _, _, probabilities = self._model.detect_language(as_heard(speech, rate_hz))
        return among(probabilities, self._languages)

    def _loaded(self) -> WhisperModel:
        from faster_whisper import WhisperModel

        try:
            model = WhisperModel(
                self._source,
                compute_type="auto",
                cpu_threads=1,
                local_files_only=not self._download,
            )
        except Exception as exc:  # noqa: BLE001
            # Of many libraries (Hub, HTTP, CTranslate2), and their words quote paths.
            raise EngineUnavailable(
                "the whisper model cannot be loaded", fix=_MODEL_FIX, error=type(exc).__name__
            ) from None
        if not model.model.is_multilingual:
            raise EngineUnavailable("the whisper model knows English only", fix=_MODEL_FIX)
        return model

    async def close(self) -> None:
        """Let go of the model. A question under way is finished by its thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._model = None


def as_heard(speech: Samples, rate_hz: int) -> npt.NDArray[np.float32]:
    """Return speech as the model takes it: 16 kHz, -1..1."""
    audio = speech.astype(np.float32) / np.float32(32768)
    if rate_hz == RATE_HZ:
        return audio
    import soxr  # type: ignore[import-untyped]

    return np.asarray(soxr.resample(audio, rate_hz, RATE_HZ), np.float32)


def among(
    probabilities: Sequence[tuple[str, float]], languages: frozenset[str]
) -> LanguageGuess | None:
    """Return the best configured language, its share of what they have together as confidence.

    When they have less than ``LEAST_CONFIGURED`` together, the best of all languages with its
    own probability: the caller is told of a language that is not configured, instead of being
    given the least unlikely one.
    """
    if not probabilities:
        return None
    theirs = [each for each in probabilities if each[0] in languages]
    total = sum(probability for _, probability in theirs)
    if total < LEAST_CONFIGURED:
        language, confidence = max(probabilities, key=lambda each: each[1])
        return LanguageGuess(language, min(confidence, 1.0))
    language, confidence = max(theirs, key=lambda each: each[1])
    return LanguageGuess(language, min(confidence / total, 1.0))
