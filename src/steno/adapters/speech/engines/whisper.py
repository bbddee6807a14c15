"""Whisper, through faster-whisper (CTranslate2): free speech, a hundred languages.

Whisper hears an utterance as a whole, so there are no partials, and a final takes as long as the
model needs (a fifth of the utterance with ``base`` on one processor, more with larger ones). It
invents text for audio without speech; against that stand voice activity, which lets only speech
through, and its own signs: no speech likely, text that repeats itself, little probability.
"""

from __future__ import annotations

import math
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from steno.adapters.speech.engines.endpointing import check_rate, open_endpointed
from steno.adapters.speech.engines.port import NOTHING, EngineWord, Heard, UtteranceDecoder
from steno.core.audio import Samples
from steno.errors import ConfigError, EngineUnavailable

if TYPE_CHECKING:
    from faster_whisper import WhisperModel  # type: ignore[import-untyped]

RATE_HZ: Final = 16_000
NEEDED_FILES: Final = ("model.bin", "tokenizer.json")
"""Of a model's folder. Without the second the library would fetch one from the network."""

NO_SPEECH: Final = 0.6
LEAST_LOG_PROBABILITY: Final = -1.0
MOST_COMPRESSION: Final = 2.4
"""The bounds whisper's authors use: a text that compresses better repeats itself."""

TEMPERATURES: Final = (0.0, 0.4)
"""A text that fails at the first is tried again at the second; then it is doubtful anyway."""
TOKENS_A_SECOND: Final = 40
SPARE_TOKENS: Final = 20
"""More than anybody says, in any script: a loop ends there."""

_FIX: Final = (
    "Give speech.model (--model): the folder of a faster-whisper model (model.bin, "
    "tokenizer.json), or a name such as base, which is downloaded once."
)


class WhisperEngine:
    """See the module; implements ``Engine``. One model serves all streams. Loading blocks.

    Args:
        model: A folder, or a name known to faster-whisper (then it may be downloaded).
        workers: Utterances transcribed side by side.

    Raises:
        EngineUnavailable: faster-whisper is not installed, or the model cannot be loaded.
        ConfigError: The model is not set, or its folder is not one.
    """

    name = "whisper"

    def __init__(self, model: str, *, workers: int = 1) -> None:
        if find_spec("faster_whisper") is None:
            raise EngineUnavailable(
                "faster-whisper is not installed", fix="Install the extra: steno[whisper]."
            )
        source, is_folder = _source(model)
        self._model = _loaded(source, is_folder=is_folder, workers=workers)
        self._room = threading.BoundedSemaphore(workers)
        self.languages: tuple[str, ...] = (
            tuple(self._model.supported_languages) if self._model.model.is_multilingual else ("en",)
        )

    check = staticmethod(check_rate)
    open = open_endpointed

    def make_decoder(self, rate_hz: int, language: str) -> UtteranceDecoder:
        """Return the decoder of one stream, told its language as far as the model knows it."""
        return _Utterances(self, rate_hz, language)

    def close(self) -> None:
        """Let go of the model, with the last stream that uses it."""

    def transcribe(self, audio: npt.NDArray[np.float32], language: str) -> Heard:
        """Return what is said in one utterance of 16 kHz; words in samples of 16 kHz."""
        told = self._told(language)
        with self._room:
            segments, info = self._model.transcribe(
                audio,
                language=told,
                beam_size=5,
                temperature=TEMPERATURES,
                max_new_tokens=SPARE_TOKENS + int(TOKENS_A_SECOND * len(audio) / RATE_HZ),
                word_timestamps=True,
                condition_on_previous_text=False,
                no_speech_threshold=NO_SPEECH,
                log_prob_threshold=LEAST_LOG_PROBABILITY,
                compression_ratio_threshold=MOST_COMPRESSION,
                vad_filter=False,
            )
            kept = [segment for segment in segments if is_speech(segment)]
        words = tuple(
            EngineWord(
                word.word.strip(),
                max(0, round(word.start * RATE_HZ)),
                max(0, round(word.end * RATE_HZ)),
                min(1.0, max(0.0, word.probability)),
            )
            for segment in kept
            for word in segment.words or ()
            if word.word.strip()
        )
        text = " ".join(segment.text.strip() for segment in kept).strip()
        if not text:
            return NOTHING
        return Heard(
            text,
            words,
            language if told else info.language,
            None if told else float(info.language_probability),
            math.exp(min(0.0, sum(one.avg_logprob for one in kept) / len(kept))),
        )

    def _told(self, language: str) -> str | None:
        """Return the code to tell the model; None lets it find out."""
        code = language.partition("-")[0].lower()
        return code if code in self.languages else None


def is_speech(segment: Any) -> bool:  # Any: the library's class has no types
    """Say whether a segment is to be believed: not silence put into words, not a loop."""
    if segment.no_speech_prob > NO_SPEECH and segment.avg_logprob < LEAST_LOG_PROBABILITY / 2:
        return False
    if segment.compression_ratio > MOST_COMPRESSION:
        return False
    return bool(segment.avg_logprob >= 2 * LEAST_LOG_PROBABILITY)


class _Utterances:
    """Gathers one stream's utterances; implements ``UtteranceDecoder``."""

    def __init__(self, engine: WhisperEngine, rate_hz: int, language: str) -> None:
        self._engine = engine
        self._rate_hz = rate_hz
        self._language = language
        self._gathered: list[Samples] = []

    def begin(self) -> None:
        """Begin an utterance."""
        self._gathered.clear()

    def feed(self, samples: Samples) -> None:
        """Keep the samples: at most as much as endpointing makes an utterance of."""
        self._gathered.append(samples.copy())

    def partial(self) -> Heard:
        """Nothing: it would cost as much as the final, each time."""
        return NOTHING

    def end(self) -> Heard:
        """Transcribe the utterance."""
        import soxr  # type: ignore[import-untyped]

        audio = np.concatenate(self._gathered or [np.zeros(0, np.int16)])
        self._gathered.clear()
        wide = audio.astype(np.float32) / np.float32(32768)
        if self._rate_hz != RATE_HZ:
            wide = np.asarray(soxr.resample(wide, self._rate_hz, RATE_HZ), np.float32)
        heard = self._engine.transcribe(wide, self._language)
        return at_rate(heard, RATE_HZ, self._rate_hz)

    def close(self) -> None:
        """Drop what was gathered."""
        self._gathered.clear()


def at_rate(heard: Heard, from_hz: int, to_hz: int) -> Heard:
    """Return it with its words placed on a clock of another rate."""
    if from_hz == to_hz or not heard.words:
        return heard
    words = tuple(
        EngineWord(
            word.text,
            word.start_samples * to_hz // from_hz,
            word.end_samples * to_hz // from_hz,
            word.confidence,
        )
        for word in heard.words
    )
    return Heard(heard.text, words, heard.language, heard.language_confidence, heard.confidence)


def _source(model: str) -> tuple[str, bool]:
    if not model:
        raise ConfigError("the whisper model is not set", setting="speech.model", fix=_FIX)
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if len(folder.parts) > 2 or model[0] in "./~":
            raise ConfigError("the whisper model is missing", setting="speech.model", fix=_FIX)
        return model, False
    if not all((folder / each).is_file() for each in NEEDED_FILES):
        raise ConfigError(
            "the whisper model's folder is incomplete", setting="speech.model", fix=_FIX
        )
    return str(folder), True


def _loaded(source: str, *, is_folder: bool, workers: int) -> WhisperModel:
    from faster_whisper import WhisperModel

    try:
        return WhisperModel(
            source,
            device="auto",
            compute_type="auto",
            cpu_threads=1,
            num_workers=workers,
            local_files_only=is_folder,
        )
    except Exception as exc:  # noqa: BLE001
        # Of many libraries (Hub, HTTP, CTranslate2), and their words quote paths.
        raise EngineUnavailable(
            "the whisper model cannot be loaded", fix=_FIX, error_class=type(exc).__name__
        ) from None
