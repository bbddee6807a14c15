"""Vosk (Kaldi): small models for twenty languages, free speech with partials."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from steno.adapters.speech.engines.endpointing import check_rate, open_endpointed
from steno.adapters.speech.engines.port import NOTHING, EngineWord, Heard, UtteranceDecoder
from steno.core.audio import Samples
from steno.errors import ConfigError, EngineUnavailable

LAYOUTS: Final = (("am/final.mdl", "conf/mfcc.conf"), ("final.mdl", "mfcc.conf"))
"""Where a model's folder has its acoustic model and front end, in either layout."""

_FIX: Final = (
    "Give speech.model (--model): the unpacked folder of a Vosk model, with am/final.mdl, "
    "conf/mfcc.conf and graph."
)


class _Word(msgspec.Struct, frozen=True):
    word: str
    start: float
    end: float
    conf: float = 1.0


class _Result(msgspec.Struct, frozen=True):
    text: str = ""
    partial: str = ""
    result: list[_Word] = []


_decode: Final = msgspec.json.Decoder(_Result).decode


class VoskEngine:
    """See the module; implements ``Engine``. One model serves all streams. Loading blocks.

    Args:
        model: The unpacked folder.

    Raises:
        EngineUnavailable: vosk is not installed, or cannot read the model.
        ConfigError: The folder is missing or incomplete.
    """

    name = "vosk"
    languages: tuple[str, ...] = ()

    def __init__(self, model: str) -> None:
        if find_spec("vosk") is None:
            raise EngineUnavailable("vosk is not installed", fix="Install the extra: steno[vosk].")
        folder = model_folder(model)
        import vosk  # type: ignore[import-untyped]

        vosk.SetLogLevel(-1)
        try:
            self.model = vosk.Model(str(folder))
        except Exception as exc:  # noqa: BLE001  # it raises the bare class
            raise EngineUnavailable(
                "vosk cannot read the model", fix=_FIX, error_class=type(exc).__name__
            ) from None

    check = staticmethod(check_rate)
    open = open_endpointed

    def make_decoder(self, rate_hz: int, _: str) -> UtteranceDecoder:
        """Return the decoder of one stream; the model's language is what it is."""
        return _Utterances(self.model, rate_hz)

    def close(self) -> None:
        """Let go of the model, with the last stream that uses it."""


class _Utterances:
    """Decodes one stream's utterances; implements ``UtteranceDecoder``."""

    def __init__(self, model: Any, rate_hz: int) -> None:  # Any: no types
        self._model = model
        self._rate_hz = rate_hz
        self._recogniser: Any = None  # Any: as above
        self._done: list[_Result] = []

    def begin(self) -> None:
        """Begin an utterance, with a recogniser of its own: only a new one's clock is at 0."""
        import vosk

        # Kaldi resamples by itself.
        self._recogniser = vosk.KaldiRecognizer(self._model, float(self._rate_hz))
        self._recogniser.SetWords(True)
        self._done.clear()

    def feed(self, samples: Samples) -> None:
        """Take the next samples; Kaldi's own endpoints only part the utterance."""
        if self._recogniser.AcceptWaveform(samples.tobytes()):
            self._done.append(_decode(self._recogniser.Result()))

    def partial(self) -> Heard:
        """Return what is heard so far."""
        running = _decode(self._recogniser.PartialResult()).partial
        texts = [*(one.text for one in self._done), running]
        text = " ".join(text for text in texts if text)
        return Heard(text) if text else NOTHING

    def end(self) -> Heard:
        """End it and return what was heard, with word times."""
        parts = [*self._done, _decode(self._recogniser.FinalResult())]
        self._done.clear()
        self._recogniser = None
        return together(parts, self._rate_hz)

    def close(self) -> None:
        """Let go of the recogniser."""
        self._recogniser = None


def together(parts: list[_Result], rate_hz: int) -> Heard:
    """Return the parts of one utterance as one answer."""
    text = " ".join(part.text for part in parts if part.text)
    if not text:
        return NOTHING
    words = tuple(
        EngineWord(
            word.word,
            max(0, round(word.start * rate_hz)),
            max(0, round(word.end * rate_hz)),
            min(1.0, max(0.0, word.conf)),
        )
        for part in parts
        for word in part.result
    )
    confidence = sum(word.confidence for word in words) / len(words) if words else 1.0
    return Heard(text, words, confidence=confidence)


def model_folder(model: str) -> Path:
    """Return the folder, looked over: the library prints and gives no reason.

    Raises:
        ConfigError: It is not set, missing or incomplete.
    """
    folder = Path(model).expanduser()
    if not model or not folder.is_dir():
        raise ConfigError("the vosk model is missing", setting="speech.model", fix=_FIX)
    if not any(all((folder / file).is_file() for file in layout) for layout in LAYOUTS):
        raise ConfigError("the vosk model is incomplete", setting="speech.model", fix=_FIX)
    return folder
