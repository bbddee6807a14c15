"""sherpa-onnx: streaming transducers (zipformer and the like), free speech with partials."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from steno.adapters.speech.engines.endpointing import check_rate, open_endpointed
from steno.adapters.speech.engines.port import NOTHING, EngineWord, Heard, UtteranceDecoder
from steno.core.audio import Samples
from steno.errors import ConfigError, EngineUnavailable

if TYPE_CHECKING:
    import sherpa_onnx  # type: ignore[import-untyped]

PARTS: Final = ("encoder", "decoder", "joiner")
TAIL_S: Final = 0.4
"""Silence behind an utterance: a streaming encoder gives its last words only with more audio."""

_SCALE: Final = np.float32(1 / 32768)
_FIX: Final = (
    "Give speech.model (--model): the folder of a streaming transducer of sherpa-onnx, with "
    "tokens.txt and the encoder, decoder and joiner as .onnx files."
)


class SherpaEngine:
    """See the module; implements ``Engine``. One model serves all streams. Loading blocks.

    Args:
        model: The folder. Of several files of a part, the int8 one is taken for the encoder and
            the joiner, the full one for the decoder, as their makers advise.
        threads: Of the ONNX runtime, for one step of one stream.

    Raises:
        EngineUnavailable: sherpa-onnx is not installed, or cannot read the model.
        ConfigError: The folder is missing or incomplete.
    """

    name = "sherpa"
    languages: tuple[str, ...] = ()

    def __init__(self, model: str, *, threads: int = 1) -> None:
        if find_spec("sherpa_onnx") is None:
            raise EngineUnavailable(
                "sherpa-onnx is not installed", fix="Install the extra: steno[sherpa]."
            )
        # The library ends the process when a file is missing, so they are looked for before.
        files = model_files(model)
        import sherpa_onnx

        try:
            self.recogniser: sherpa_onnx.OnlineRecognizer = (
                sherpa_onnx.OnlineRecognizer.from_transducer(
                    tokens=str(files["tokens"]),
                    encoder=str(files["encoder"]),
                    decoder=str(files["decoder"]),
                    joiner=str(files["joiner"]),
                    num_threads=threads,
                    sample_rate=16_000,
                    feature_dim=80,
                    enable_endpoint_detection=False,
                )
            )
        except Exception as exc:  # noqa: BLE001
            # Of the ONNX runtime, whose words quote paths.
            raise EngineUnavailable(
                "sherpa-onnx cannot read the model", fix=_FIX, error_class=type(exc).__name__
            ) from None

    check = staticmethod(check_rate)
    open = open_endpointed

    def make_decoder(self, rate_hz: int, _: str) -> UtteranceDecoder:
        """Return the decoder of one stream; the model's language is what it is."""
        return _Utterances(self.recogniser, rate_hz)

    def close(self) -> None:
        """Let go of the model, with the last stream that uses it."""


class _Utterances:
    """Decodes one stream's utterances; implements ``UtteranceDecoder``."""

    def __init__(self, recogniser: Any, rate_hz: int) -> None:  # Any: no types
        self._recogniser = recogniser
        self._rate_hz = rate_hz
        self._stream: Any = None  # Any: as above
        self._fed = 0

    def begin(self) -> None:
        """Begin an utterance."""
        self._stream = self._recogniser.create_stream()
        self._fed = 0

    def feed(self, samples: Samples) -> None:
        """Take the next samples; the library resamples them to its 16 kHz."""
        self._fed += len(samples)
        self._stream.accept_waveform(self._rate_hz, samples.astype(np.float32) * _SCALE)
        self._advance()

    def _advance(self) -> None:
        while self._recogniser.is_ready(self._stream):
            self._recogniser.decode_stream(self._stream)

    def partial(self) -> Heard:
        """Return what is heard so far."""
        text = self._recogniser.get_result(self._stream).strip()
        return Heard(text) if text else NOTHING

    def end(self) -> Heard:
        """End it and return what was heard, with word times."""
        tail = np.zeros(int(TAIL_S * self._rate_hz), np.float32)
        self._stream.accept_waveform(self._rate_hz, tail)
        self._stream.input_finished()
        self._advance()
        result = self._recogniser.get_result_all(self._stream)
        self._stream = None
        text = result.text.strip()
        if not text:
            return NOTHING
        return Heard(text, words_of(result.tokens, result.timestamps, self._rate_hz, self._fed))

    def close(self) -> None:
        """Drop the utterance."""
        self._stream = None


def words_of(
    tokens: list[str], starts_s: list[float], rate_hz: int, end_samples: int
) -> tuple[EngineWord, ...]:
    """Put words together from pieces; a piece with a leading space begins a word.

    A word lasts until the next one begins: the model says no more. Nothing is returned when the
    pieces and their times do not match.
    """
    if not tokens or len(tokens) != len(starts_s):
        return ()
    words: list[tuple[str, int]] = []
    for token, start_s in zip(tokens, starts_s, strict=True):
        piece = token.replace("▁", " ")
        if not words or piece.startswith(" "):
            words.append((piece.strip(), min(int(start_s * rate_hz), end_samples)))
        else:
            words[-1] = (words[-1][0] + piece.strip(), words[-1][1])
    ends = [start for _, start in words[1:]] + [end_samples]
    return tuple(
        EngineWord(text, start, max(start, end))
        for (text, start), end in zip(words, ends, strict=True)
        if text
    )


def model_files(model: str) -> dict[str, Path]:
    """Return the files of a model by part.

    Raises:
        ConfigError: The folder is not set, missing or incomplete.
    """
    folder = Path(model).expanduser()
    if not model or not folder.is_dir():
        raise ConfigError("the sherpa model is missing", setting="speech.model", fix=_FIX)
    files = {"tokens": folder / "tokens.txt"}
    for part in PARTS:
        found = sorted(folder.glob(f"{part}*.onnx"))
        small = [file for file in found if ".int8." in file.name]
        full = [file for file in found if file not in small]
        wanted = (full or small) if part == "decoder" else (small or full)
        if wanted:
            files[part] = wanted[0]
    if len(files) != 1 + len(PARTS) or not all(
        file.is_file() and file.stat().st_size for file in files.values()
    ):
        raise ConfigError("the sherpa model is incomplete", setting="speech.model", fix=_FIX)
    return files
