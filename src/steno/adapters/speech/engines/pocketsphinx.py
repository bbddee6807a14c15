"""PocketSphinx: the engine that needs no download, for what a grammar allows.

Its English acoustic model comes inside the package. It was made from wideband speech, so 16 kHz
calls are heard as they are, and 8 kHz calls through the transform of ``telephone/``: a front end
of 130-3700 Hz and a linear map of the model's means (MLLR), estimated by
``tools/adapt_telephone.py``. Other rates are resampled to the nearer of the two.

What may be said is a JSGF grammar, or an n-gram language model; without either, the package's
model of general English. With a grammar every sound is forced onto words of it; what then fits
badly is dropped for want of confidence. Free speech wants another engine.
"""

from __future__ import annotations

import math
import re
import tempfile
import threading
from collections.abc import Iterable
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from steno.adapters.resampling import StreamResampler
from steno.adapters.speech.engines.endpointing import check_rate, open_endpointed
from steno.adapters.speech.engines.port import NOTHING, EngineWord, Heard, UtteranceDecoder
from steno.core.audio import Samples
from steno.errors import ConfigError, EngineUnavailable

if TYPE_CHECKING:
    from pocketsphinx import Decoder  # type: ignore[import-untyped]

NARROW_HZ: Final = 8_000
WIDE_HZ: Final = 16_000
FRAMES_A_SECOND: Final = 100
LANGUAGE: Final = "en-US"
GRAMMARS: Final = ("digits", "orders")
"""Grammars of ours, by name."""

MAX_IDLE: Final = 8
"""Decoders kept for the next stream; one takes 10 to 30 MB."""

MIN_CONFIDENCE: Final = 0.65
"""Of an utterance's worst word: below it, it was nothing the grammar knows. Words of the grammar
have 0.77 and more, words forced onto others often 0.6, but not always: this is a coarse sieve."""

SHORTEST_WORD_MS: Final = 60
"""No word is shorter; a click is."""

_TUNING: Final[dict[str, Any]] = {  # Any: options of several types
    # Passes over the word lattice need minutes where a grammar loops, and gain nothing.
    "bestpath": False,
    "wip": 0.01,
    "beam": 1e-64,
    "wbeam": 1e-45,
    "pbeam": 1e-64,
}
_LM_TUNING: Final[dict[str, Any]] = {}  # Any: as above
_FILLER: Final = re.compile(r"<.*>|\[.*\]|\+\+.*\+\+|\(NULL\)", re.IGNORECASE)
_VARIANT: Final = re.compile(r"\(\d+\)$")
_COMMENT: Final = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_TAG: Final = re.compile(r"<[^>]*>|\{[^}]*\}|/[0-9.eE+-]+/")
_WORD: Final = re.compile(r"[^\s=|*+()\[\];\"]+")
_HEADER: Final = re.compile(r"^\s*(#JSGF[^\n]*|grammar\s+[^;]*;|import\s+[^;]*;)", re.MULTILINE)

_FIX_GRAMMAR: Final = (
    "Give speech.grammar (--grammar): digits, orders, the file of a JSGF grammar (.gram, .jsgf), "
    "or of a language model (.lm, .arpa, .bin)."
)


class PocketSphinxEngine:
    """See the module; implements ``Engine``. Checking and loading block for ~0.3 s.

    Args:
        grammar: A name of ``GRAMMARS``, or a file: JSGF, or an n-gram model; empty: English.
        model: Folder of another acoustic model with its dictionary (``*.dict``) beside or in
            it; empty: the one inside the package. It is used at its own rate
            (``-samprate`` of its ``feat.params``, 16 kHz when it does not say).

    Raises:
        ConfigError: The grammar or the model cannot be used.
        EngineUnavailable: The package is not installed.
    """

    name = "pocketsphinx"

    def __init__(self, grammar: str | Path = "", model: str = "") -> None:
        if find_spec("pocketsphinx") is None:
            raise EngineUnavailable(
                "pocketsphinx is not installed", fix="Install steno with its dependencies."
            )
        self._files = _Files(grammar, model)
        self.languages: tuple[str, ...] = () if model else (LANGUAGE,)
        # With a language model a word's confidence is a share among rivals, and low in the best.
        self.least_confidence = MIN_CONFIDENCE if self._files.is_jsgf else 0.0
        self._lock = threading.Lock()
        self._idle: list[tuple[int, Decoder]] = []
        # Now, so that a wrong grammar or model is refused at the start and not in a call.
        try:
            self.release(self._files.rates[0], self._made(self._files.rates[0]))
        except BaseException:
            self._files.close()
            raise

    check = staticmethod(check_rate)
    open = open_endpointed

    def make_decoder(self, rate_hz: int, _: str) -> UtteranceDecoder:
        """Return the decoder of one stream; it knows English only, whatever is told.

        Raises:
            EngineUnavailable: It cannot be made any more, though it could at the start.
        """
        return _Utterances(self, rate_hz, self._files.rate_for(rate_hz))

    def close(self) -> None:
        """Let go of the decoders and of the dictionary made for the grammar."""
        with self._lock:
            self._idle.clear()
        self._files.close()

    # --- decoders ----------------------------------------------------------------------------

    def borrow(self, rate_hz: int) -> Decoder:
        """Return a decoder for one stream, a used one where there is one.

        Raises:
            EngineUnavailable: It cannot be made any more, though it could at the start.
        """
        with self._lock:
            for place, (rate, decoder) in enumerate(self._idle):
                if rate == rate_hz:
                    del self._idle[place]
                    return decoder
        try:
            return self._made(rate_hz)
        except ConfigError as exc:
            raise EngineUnavailable("pocketsphinx cannot start another decoder") from exc

    def release(self, rate_hz: int, decoder: Decoder) -> None:
        """Take a decoder back that is between two utterances."""
        with self._lock:
            if len(self._idle) < MAX_IDLE:
                self._idle.append((rate_hz, decoder))

    def _made(self, rate_hz: int) -> Decoder:
        from pocketsphinx import Config, Decoder

        try:
            return Decoder(Config(**self._files.options(rate_hz)))
        except (RuntimeError, ValueError, OSError, KeyError) as exc:
            raise ConfigError(
                "pocketsphinx cannot use the grammar or the model",
                setting="speech.grammar",
                fix=_FIX_GRAMMAR + " Is every word in the dictionary?",
                error_class=type(exc).__name__,
            ) from exc


class _Files:
    """The files of one engine: acoustic model, dictionary, what may be said."""

    def __init__(self, grammar: str | Path, model: str) -> None:
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._said = _grammar_file(grammar)
        self.is_jsgf = self._said.suffix.lower() in (".gram", ".jsgf")
        self._own_model = bool(model)
        self._acoustic, dictionary = _own_model(model) if model else _bundled_model()
        self._telephone = Path(str(resources.files(__package__).joinpath("telephone")))
        self.rates = (_rate_of(self._acoustic),) if model else (NARROW_HZ, WIDE_HZ)
        words = jsgf_words(self._said) if self.is_jsgf else arpa_words(self._said)
        self._dictionary = dictionary if words is None else self._reduced(dictionary, words)

    def rate_for(self, rate_hz: int) -> int:
        """Return the rate the model hears a stream of ``rate_hz`` at."""
        return self.rates[-1] if rate_hz >= WIDE_HZ else self.rates[0]

    def options(self, rate_hz: int) -> dict[str, Any]:  # Any: options of several types
        options: dict[str, Any] = {
            "hmm": str(self._acoustic),
            "dict": str(self._dictionary),
            "lm": None if self.is_jsgf else str(self._said),
            "samprate": rate_hz,
            "loglevel": "FATAL",
            **(_TUNING if self.is_jsgf else _LM_TUNING),
        }
        if self.is_jsgf:
            options["jsgf"] = str(self._said)
        if rate_hz == NARROW_HZ and not self._own_model:
            options["featparams"] = str(self._telephone / "feat.params")
            options["mllr"] = str(self._telephone / "telephone.mllr")
        return options

    def _reduced(self, dictionary: Path, words: set[str]) -> Path:
        """Write the part of the dictionary that is needed: a tenth of the memory and time."""
        lines: list[str] = []
        known: set[str] = set()
        with dictionary.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                word = _VARIANT.sub("", line.split(maxsplit=1)[0]) if line.strip() else ""
                if word in words:
                    known.add(word)
                    lines.append(line)
        if self.is_jsgf and (missing := words - known):
            raise ConfigError(
                "the grammar has words that are not in the dictionary",
                setting="speech.grammar",
                fix="Spell them as the dictionary does: lower case, no digits.",
                count=len(missing),
            )
        self._scratch = tempfile.TemporaryDirectory(prefix="steno-speech-")
        made = Path(self._scratch.name, "grammar.dict")
        made.write_text("".join(lines), encoding="utf-8")
        return made

    def close(self) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()


class _Utterances:
    """Decodes one stream's utterances; implements ``UtteranceDecoder``."""

    __slots__ = ("_cmn", "_decoder", "_engine", "_in_hz", "_is_open", "_rate_hz", "_resampler")

    def __init__(self, engine: PocketSphinxEngine, in_hz: int, rate_hz: int) -> None:
        self._engine = engine
        self._in_hz = in_hz
        self._rate_hz = rate_hz
        self._decoder: Decoder | None = engine.borrow(rate_hz)
        self._resampler = StreamResampler(in_hz, rate_hz)
        self._is_open = False
        # What is known of a line's sound belongs to this stream and goes with it.
        self._cmn: str = _start_cmn(self._decoder)

    def begin(self) -> None:
        """Begin an utterance."""
        decoder = self._required()
        decoder.set_cmn(self._cmn)
        decoder.start_utt()
        self._is_open = True

    def feed(self, samples: Samples) -> None:
        """Take the next samples. Holds Python's lock while it decodes: give it little."""
        ready = self._resampler.feed(samples)
        if len(ready):
            self._required().process_raw(ready.tobytes(), False, False)

    def partial(self) -> Heard:
        """Return what is heard so far, without word times or confidence."""
        found = self._required().hyp()
        if found is None:
            return NOTHING
        text = " ".join(
            word
            for each in found.hypstr.split()
            if (word := _VARIANT.sub("", each)) and not _FILLER.fullmatch(word)
        )
        return Heard(text, language=self._language)

    def end(self) -> Heard:
        """End it and return what was heard, with word times."""
        decoder = self._required()
        rest = self._resampler.flush()
        if len(rest):
            decoder.process_raw(rest.tobytes(), False, False)
        decoder.end_utt()
        self._is_open = False
        self._cmn = decoder.get_cmn(False)
        words = tuple(self._words(decoder))
        shortest = SHORTEST_WORD_MS * self._in_hz // 1000
        if not any(word.end_samples - word.start_samples >= shortest for word in words):
            return NOTHING
        if min(word.confidence for word in words) < self._engine.least_confidence:
            return NOTHING
        confidence = math.fsum(word.confidence for word in words) / len(words)
        text = " ".join(word.text for word in words)
        return Heard(text, words, self._language, confidence=confidence)

    def close(self) -> None:
        """Give the decoder back."""
        decoder, self._decoder = self._decoder, None
        if decoder is None:
            return
        if self._is_open:
            decoder.end_utt()
        self._engine.release(self._rate_hz, decoder)

    @property
    def _language(self) -> str:
        return self._engine.languages[0] if self._engine.languages else ""

    def _required(self) -> Decoder:
        if self._decoder is None:
            raise EngineUnavailable("the decoder was given back")
        return self._decoder

    def _words(self, decoder: Decoder) -> Iterable[EngineWord]:
        for segment in decoder.seg() or ():
            word = _VARIANT.sub("", segment.word)
            if _FILLER.fullmatch(word):
                continue
            yield EngineWord(
                word,
                segment.start_frame * self._in_hz // FRAMES_A_SECOND,
                (segment.end_frame + 1) * self._in_hz // FRAMES_A_SECOND,
                min(1.0, max(0.0, segment.prob)),
            )


def jsgf_words(file: Path) -> set[str] | None:
    """Return every word a grammar may yield; None when it imports others.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            "the grammar cannot be read", setting="speech.grammar", fix=_FIX_GRAMMAR
        ) from exc
    text = _COMMENT.sub(" ", text)
    if re.search(r"^\s*import\s", text, re.MULTILINE):
        return None
    text = _TAG.sub(" ", _HEADER.sub(" ", text))
    return {word for word in _WORD.findall(text) if word not in ("public", "<NULL>", "<VOID>")}


def arpa_words(file: Path) -> set[str] | None:
    """Return the words of a language model; None when it is not in the text form (ARPA)."""
    if file.suffix.lower() not in (".lm", ".arpa"):
        return None
    words: set[str] = set()
    with file.open(encoding="utf-8", errors="replace") as lines:
        is_unigram = False
        for line in lines:
            if line.startswith("\\"):
                if is_unigram:
                    return words
                is_unigram = line.startswith("\\1-grams:")
            elif is_unigram and len(parts := line.split()) >= 2:
                words.add(parts[1])
    return words or None


def _grammar_file(grammar: str | Path) -> Path:
    from pocketsphinx import get_model_path

    if not str(grammar):
        return Path(get_model_path("en-us/en-us.lm.bin"))
    if str(grammar) in GRAMMARS:
        return Path(str(resources.files(__package__).joinpath("grammars", f"{grammar}.gram")))
    file = Path(grammar).expanduser()
    if not file.is_file():
        raise ConfigError(
            "the grammar's file is missing", setting="speech.grammar", fix=_FIX_GRAMMAR
        )
    if file.suffix.lower() not in (".gram", ".jsgf", ".lm", ".arpa", ".bin", ".dmp"):
        raise ConfigError("an unknown kind of grammar", setting="speech.grammar", fix=_FIX_GRAMMAR)
    return file


def _bundled_model() -> tuple[Path, Path]:
    from pocketsphinx import get_model_path

    return Path(get_model_path("en-us/en-us")), Path(get_model_path("en-us/cmudict-en-us.dict"))


def _own_model(model: str) -> tuple[Path, Path]:
    folder = Path(model).expanduser()
    if not (folder / "mdef").is_file():
        raise ConfigError(
            "that is no acoustic model of pocketsphinx",
            setting="speech.model",
            fix="Give the folder with mdef, means and variances, or nothing: a model is built in.",
        )
    for place in (folder, folder.parent):
        if found := sorted(place.glob("*.dict")):
            return folder, found[0]
    raise ConfigError(
        "the model has no dictionary",
        setting="speech.model",
        fix="Put a *.dict file into its folder or beside it.",
    )


def _rate_of(acoustic: Path) -> int:
    params = acoustic / "feat.params"
    text = params.read_text(encoding="utf-8", errors="replace") if params.is_file() else ""
    found = re.search(r"-samprate\s+(\d+)", text)
    return int(found[1]) if found else WIDE_HZ


def _start_cmn(decoder: Decoder) -> str:
    return str(decoder.config["cmninit"])
