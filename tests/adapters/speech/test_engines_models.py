"""Engines whose models are not in the package: what they do up to the weights."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from adapters.speech.spoken import RATE_HZ, call, silence, speech
from adapters.speech.test_identifiers import tiny_model
from steno.adapters.speech.engines.choosing import EngineName, choose_engine
from steno.adapters.speech.engines.port import EngineWord, Heard
from steno.adapters.speech.engines.sherpa import model_files, words_of
from steno.adapters.speech.engines.vosk import _Result, _Word, together
from steno.adapters.speech.engines.whisper import WhisperEngine, at_rate, is_speech
from steno.errors import ConfigError, EngineUnavailable, SpeechError


@pytest.mark.parametrize(
    ("name", "package"),
    [("whisper", "faster_whisper"), ("sherpa", "sherpa_onnx"), ("vosk", "vosk")],
)
def test_a_missing_package_is_named_with_its_extra(
    name: EngineName, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader learns what to install."""
    found = sys.modules.pop(package, None)
    monkeypatch.setattr(f"steno.adapters.speech.engines.{name}.find_spec", lambda _: None)
    with pytest.raises(EngineUnavailable, match=rf"extra: steno\[{name}\]"):
        choose_engine(name, model="anything")
    if found is not None:
        sys.modules[package] = found


@pytest.mark.parametrize("name", ["whisper", "sherpa", "vosk"])
@pytest.mark.parametrize("model", ["", "./nowhere/at/all"])
def test_a_missing_model_is_a_wrong_setting(name: EngineName, model: str) -> None:
    """Nothing is downloaded for what looks like a path."""
    with pytest.raises(ConfigError) as caught:
        choose_engine(name, model=model)
    assert caught.value.setting == "speech.model"
    assert "nowhere" not in str(caught.value)


@pytest.mark.parametrize("name", ["whisper", "sherpa", "vosk"])
def test_an_empty_folder_never_reaches_the_library(name: EngineName, tmp_path: Path) -> None:
    """Some of them end the process over a missing file."""
    with pytest.raises(ConfigError, match="incomplete"):
        choose_engine(name, model=str(tmp_path))


FILES: dict[EngineName, tuple[str, ...]] = {
    "whisper": ("model.bin", "tokenizer.json"),
    "sherpa": ("tokens.txt", "encoder.onnx", "decoder.onnx", "joiner.onnx"),
    "vosk": ("am/final.mdl", "conf/mfcc.conf"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_model_are_refused_without_their_path(
    name: EngineName, tmp_path: Path
) -> None:
    """The library is really asked, and its words quote the path."""
    for file in FILES[name]:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("nothing 0\n")
    with pytest.raises(SpeechError) as caught:
        choose_engine(name, model=str(tmp_path))
    assert isinstance(caught.value, EngineUnavailable)
    assert str(tmp_path) not in str(caught.value)
    assert caught.value.__cause__ is None


# --- whisper ---------------------------------------------------------------------------------


SPECIAL = {
    "endoftext": 50_256,
    "startoftranscript": 50_257,
    "notimestamps": 50_258,
    "transcribe": 51_860,
    "translate": 51_861,
    "startoflm": 51_862,
    "startofprev": 51_863,
    "nospeech": 50_255,
}


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> WhisperEngine:
    folder = tmp_path_factory.mktemp("whisper")
    tiny_model(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "alignment_heads": [[0, 0]]}))
    words = {f"w{number}": number for number in range(50_255)} | {
        f"<|{name}|>": number for name, number in SPECIAL.items()
    }
    Tokenizer(WordLevel(words, unk_token="<|endoftext|>")).save(str(folder / "tokenizer.json"))
    return WhisperEngine(str(folder))


def test_whisper_runs_on_speech_alone_and_believes_no_nonsense(whisper: WhisperEngine) -> None:
    """A model of random weights is loaded and asked; what it makes up is not passed on."""
    stream = whisper.open(RATE_HZ, "en-US")
    heard = list(stream.feed(call(silence(1), speech("number")[:8000], silence(1))))
    assert [one for one in heard if one.text] == []
    assert stream.lost == []
    assert stream.through_samples > 2 * RATE_HZ


def test_an_english_whisper_is_told_english_whatever_the_call_says(whisper: WhisperEngine) -> None:
    """A language it does not have is left to it."""
    assert whisper.languages == ("en",)
    assert whisper._told("en-GB") == "en"
    assert whisper._told("es-ES") is None
    assert whisper._told("") is None


@dataclass
class Segment:
    """What faster-whisper says of a piece of text."""

    avg_logprob: float = -0.3
    compression_ratio: float = 1.4
    no_speech_prob: float = 0.1


@pytest.mark.parametrize(
    ("segment", "is_believed"),
    [
        (Segment(), True),
        (Segment(no_speech_prob=0.9, avg_logprob=-0.8), False),
        (Segment(no_speech_prob=0.9), True),
        (Segment(compression_ratio=3.0), False),
        (Segment(avg_logprob=-2.5), False),
    ],
)
def test_signs_of_invented_text(segment: Segment, is_believed: bool) -> None:
    """Silence put into words, a loop, a guess; sure words in a doubtful place stay."""
    assert is_speech(segment) is is_believed


def test_word_places_move_with_the_rate() -> None:
    """The model hears 16 kHz, the stream counts its own samples."""
    heard = Heard("a", (EngineWord("a", 16_000, 32_000, 0.5),))
    assert at_rate(heard, 16_000, 8_000).words == (EngineWord("a", 8_000, 16_000, 0.5),)
    assert at_rate(heard, 16_000, 16_000) is heard


# --- sherpa ----------------------------------------------------------------------------------


def test_the_sizes_of_sherpa_parts_are_chosen_as_their_makers_advise(tmp_path: Path) -> None:
    """A small encoder and joiner, a full decoder."""
    for part in ("encoder", "decoder", "joiner"):
        for size in ("", ".int8"):
            (tmp_path / f"{part}-epoch-99{size}.onnx").write_text("x")
    (tmp_path / "tokens.txt").write_text("x 0")
    names = {part: file.name for part, file in model_files(str(tmp_path)).items()}
    assert names == {
        "tokens": "tokens.txt",
        "encoder": "encoder-epoch-99.int8.onnx",
        "decoder": "decoder-epoch-99.onnx",
        "joiner": "joiner-epoch-99.int8.onnx",
    }


def test_pieces_become_words() -> None:
    """A space before a piece begins a word, which lasts until the next."""
    tokens = [" HE", "LLO", "▁WOR", "LD"]
    words = words_of(tokens, [0.1, 0.2, 0.5, 0.6], 1000, 900)
    assert words == (EngineWord("HELLO", 100, 500), EngineWord("WORLD", 500, 900))
    assert words_of(tokens, [0.1], 1000, 900) == ()


@given(
    pieces=st.lists(st.tuples(st.text(" ▁ab", max_size=3), st.floats(0, 30)), max_size=20),
    end=st.integers(0, 30_000),
)
def test_words_stay_within_the_utterance(pieces: list[tuple[str, float]], end: int) -> None:
    """Whatever a model says of its pieces."""
    pieces.sort(key=lambda piece: piece[1])
    words = words_of([text for text, _ in pieces], [at for _, at in pieces], 1000, end)
    for word in words:
        assert word.text
        assert 0 <= word.start_samples <= word.end_samples <= end


# --- vosk ------------------------------------------------------------------------------------


def test_parts_of_a_vosk_utterance_are_one_answer() -> None:
    """Kaldi's own endpoints only part it."""
    parts = [
        _Result("one two", "", [_Word("one", 0.1, 0.4, 0.9), _Word("two", 0.4, 0.7, 0.7)]),
        _Result(),
        _Result("three", "", [_Word("three", 1.0, 1.5, 0.5)]),
    ]
    heard = together(parts, 8000)
    assert heard.text == "one two three"
    assert heard.words[2] == EngineWord("three", 8000, 12_000, 0.5)
    assert math.isclose(heard.confidence, 0.7)
    assert together([_Result()], 8000).text == ""


def test_engines_leave_the_samples_as_they_are(whisper: WhisperEngine) -> None:
    """They may be a view of what came over the network."""
    samples = call(speech("number")[:8000], silence(1))
    before = samples.copy()
    samples.flags.writeable = False
    whisper.open(RATE_HZ, "en-US").feed(samples)
    assert np.array_equal(samples, before)
