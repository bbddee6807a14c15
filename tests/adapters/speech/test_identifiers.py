"""Identifiers of the language: lingua for real, whisper up to its weights."""

from __future__ import annotations

import io
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import faster_whisper  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
import pytest
from ctranslate2.specs import common_spec, whisper_spec  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from steno.adapters.speech.identifiers.choosing import IdentifierKind, choose_identifiers
from steno.adapters.speech.identifiers.text import LinguaIdentifier
from steno.adapters.speech.identifiers.whisper import WhisperIdentifier, among, as_heard
from steno.errors import EngineUnavailable
from steno.observability.telemetry import LogTelemetry
from steno.ports.speech import LanguageGuess

SENTENCES = {
    "en": "yeah so I ordered it last Tuesday and it has not arrived yet",
    "es": "quiero saber el estado de mi pedido por favor señorita",
    "fr": "bonjour je voudrais savoir où en est ma commande",
    "de": "ich möchte gerne wissen wann meine Bestellung ankommt",
}

# --- words -----------------------------------------------------------------------------------


@pytest.fixture
async def lingua() -> AsyncIterator[LinguaIdentifier]:
    identifier = LinguaIdentifier(SENTENCES)
    yield identifier
    await identifier.close()


async def test_sentences_are_told_apart(lingua: LinguaIdentifier) -> None:
    """Some ten words are enough among four languages."""
    for language, text in SENTENCES.items():
        guess = await lingua.identify_text(text)
        assert guess is not None
        assert guess.language == language
        assert 0.8 <= guess.confidence <= 1.0


@pytest.mark.parametrize("text", ["", "...", "1 2 3 4 5 6"])
async def test_no_word_means_no_guess(text: str, lingua: LinguaIdentifier) -> None:
    """Digits and signs are of every language."""
    assert await lingua.identify_text(text) is None


async def test_answers_stay_among_the_configured() -> None:
    """German is taken for one of the others when it is not configured."""
    identifier = LinguaIdentifier(["en", "fr"])
    guess = await identifier.identify_text(SENTENCES["de"])
    await identifier.close()
    assert guess is None or guess.language in ("en", "fr")


async def test_norwegian_keeps_its_configured_code() -> None:
    """The library says ``nb``, settings say ``no``."""
    identifier = LinguaIdentifier(["no", "en"])
    guess = await identifier.identify_text("jeg vil gjerne vite hvor bestillingen min er")
    await identifier.close()
    assert guess is not None
    assert guess.language == "no"


@pytest.mark.parametrize("languages", [[], ["en"], ["en", "xx"], ["__class__", "en"]])
def test_fewer_than_two_languages_are_refused(languages: list[str]) -> None:
    """There would be nothing to tell apart: it would always be sure."""
    with pytest.raises(EngineUnavailable, match="fewer than two"):
        LinguaIdentifier(languages)


def test_missing_lingua_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it."""
    monkeypatch.setitem(sys.modules, "lingua", None)
    with pytest.raises(EngineUnavailable, match="extra `lingua`"):
        LinguaIdentifier(["en", "es"])


# --- whisper ---------------------------------------------------------------------------------


def tiny_model(folder: Path) -> None:
    """Save a whisper model of 8 dimensions with random weights: it loads, and knows nothing."""
    d, words = 8, 51_864  # as many words as the English models have
    rng = np.random.default_rng(0)
    spec = whisper_spec.WhisperSpec(1, 1, 1, 1)

    def weights(*shape: int) -> npt.NDArray[np.float32]:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    def fill(linear: common_spec.LinearSpec, into: int, out: int) -> None:
        linear.weight, linear.bias = weights(out, into), weights(out)

    def normalise(norm: common_spec.LayerNormSpec) -> None:
        norm.gamma, norm.beta = np.ones(d, np.float32), np.zeros(d, np.float32)

    encoder, decoder = spec.encoder, spec.decoder
    encoder.conv1.weight, encoder.conv1.bias = weights(d, 80, 3), weights(d)
    encoder.conv2.weight, encoder.conv2.bias = weights(d, d, 3), weights(d)
    encoder.position_encodings.encodings = weights(1_500, d)
    decoder.embeddings.weight = decoder.projection.weight = weights(words, d)
    decoder.position_encodings.encodings = weights(448, d)
    normalise(encoder.layer_norm)
    normalise(decoder.layer_norm)
    for layer in (*encoder.layer, *decoder.layer):
        normalise(layer.self_attention.layer_norm)
        fill(layer.self_attention.linear[0], d, 3 * d)
        fill(layer.self_attention.linear[1], d, d)
        normalise(layer.ffn.layer_norm)
        fill(layer.ffn.linear_0, d, 2 * d)
        fill(layer.ffn.linear_1, 2 * d, d)
    for layer in decoder.layer:
        normalise(layer.attention.layer_norm)
        fill(layer.attention.linear[0], d, d)
        fill(layer.attention.linear[1], d, 2 * d)
        fill(layer.attention.linear[2], d, d)
    names = [f"w{i}" for i in range(words)]
    names[50_256:50_259] = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]
    spec.register_vocabulary(names)
    spec.config.lang_ids = []
    spec.validate()
    spec.save(str(folder))
    Tokenizer(WordLevel({"<|endoftext|>": 0}, unk_token="<|endoftext|>")).save(
        str(folder / "tokenizer.json")
    )


async def refusal(identifier: WhisperIdentifier) -> EngineUnavailable:
    speech = np.ones(24_000, np.int16)
    with pytest.raises(EngineUnavailable) as caught:
        await identifier.identify(speech, 8_000)
    await identifier.close()
    return caught.value


async def test_an_english_model_is_refused(tmp_path: Path) -> None:
    """It loads, and could only ever say English."""
    tiny_model(tmp_path)
    error = await refusal(WhisperIdentifier(str(tmp_path), ["en", "es"]))
    assert "knows English only" in str(error)
    assert "media.identifier_model" in error.fix


async def test_a_broken_model_is_refused_without_its_path(tmp_path: Path) -> None:
    """The library's words quote the path, ours do not."""
    (tmp_path / "model.bin").write_bytes(b"no model")
    (tmp_path / "tokenizer.json").write_text("{}")
    error = await refusal(WhisperIdentifier(str(tmp_path), ["en", "es"]))
    assert "cannot be loaded" in str(error)
    assert str(tmp_path) not in str(error)
    assert error.__cause__ is None


async def test_a_name_is_not_looked_for_in_the_network_when_that_is_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without download, a model that is not on the machine is missing."""

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise AssertionError("the network was touched")

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    error = await refusal(WhisperIdentifier("tiny", ["en", "es"], download=False))
    assert error.fields["error"] == "LocalEntryNotFoundError"


@pytest.mark.parametrize("model", ["/nowhere/model", "./nowhere", "~/nowhere/x", "../a", "a/b/c"])
def test_a_missing_folder_is_not_taken_for_a_name(model: str) -> None:
    """What looks like a path is never asked for in the network."""
    with pytest.raises(EngineUnavailable, match="folder is missing"):
        WhisperIdentifier(model, ["en", "es"])


@pytest.mark.parametrize("left_out", ["model.bin", "tokenizer.json"])
def test_an_incomplete_folder_is_refused(left_out: str, tmp_path: Path) -> None:
    """Without the tokenizer the library would fetch one from the network."""
    for name in {"model.bin", "tokenizer.json"} - {left_out}:
        (tmp_path / name).write_text("{}")
    with pytest.raises(EngineUnavailable, match="incomplete"):
        WhisperIdentifier(str(tmp_path), ["en", "es"])


def test_missing_settings_and_packages_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the setting to set and the extra to install."""
    with pytest.raises(EngineUnavailable, match=r"not set.*media\.identifier_model"):
        WhisperIdentifier("", ["en", "es"])
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(EngineUnavailable, match="extra `whisper`"):
        WhisperIdentifier("tiny", ["en", "es"])


async def test_too_little_speech_is_not_asked_about(tmp_path: Path) -> None:
    """Under a second there is no guess, and no model is loaded for it."""
    for name in ("model.bin", "tokenizer.json"):
        (tmp_path / name).write_text("not loaded")
    identifier = WhisperIdentifier(str(tmp_path), ["en", "es"])
    assert await identifier.identify(np.ones(7_999, np.int16), 8_000) is None
    await identifier.close()


class WhisperStandIn:
    """The library's class with an answer ready: no weights are at hand."""

    is_multilingual = True
    heard: npt.NDArray[np.float32]

    def __init__(self, *args: object, **options: object) -> None:
        self.model = self

    def detect_language(
        self, audio: npt.NDArray[np.float32]
    ) -> tuple[str, float, list[tuple[str, float]]]:
        WhisperStandIn.heard = audio
        return "fr", 0.6, [("fr", 0.6), ("en", 0.2), ("de", 0.2)]


async def test_speech_is_given_at_16_khz_and_answers_are_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """8 kHz speech is doubled to what the model takes; confidence is among the configured."""
    monkeypatch.setattr(faster_whisper, "WhisperModel", WhisperStandIn)
    identifier = WhisperIdentifier("tiny", ["en", "fr"])
    guess = await identifier.identify(np.full(16_000, 16_384, np.int16), 8_000)
    await identifier.close()
    assert guess is not None
    assert (guess.language, round(guess.confidence, 6)) == ("fr", 0.75)
    assert WhisperStandIn.heard.shape == (32_000,)
    assert WhisperStandIn.heard[1_000:-1_000] == pytest.approx(0.5, abs=0.01)


def test_speech_at_16_khz_is_not_resampled() -> None:
    """It is scaled to -1..1 and no more."""
    assert as_heard(np.array([-32_768, 0, 16_384], np.int16), 16_000).tolist() == [-1.0, 0.0, 0.5]


PROBABILITIES = st.lists(
    st.tuples(st.sampled_from(["en", "es", "fr", "de", "cy"]), st.floats(0, 0.2)),
    max_size=5,
    unique_by=lambda each: each[0],
)


@given(probabilities=PROBABILITIES)
def test_confidence_is_a_share_whatever_comes(probabilities: list[tuple[str, float]]) -> None:
    """The best of those that count, between 0 and 1."""
    guess = among(probabilities, frozenset({"en", "es"}))
    if guess is None:
        assert not probabilities
    else:
        assert 0 <= guess.confidence <= 1
        assert guess.language in dict(probabilities)


def test_a_language_that_is_not_configured_is_named() -> None:
    """Rather than the least unlikely of the configured being sure."""
    probabilities = [("de", 0.9), ("en", 0.06), ("es", 0.04)]
    assert among(probabilities, frozenset({"en", "es"})) == LanguageGuess("de", 0.9)


# --- choosing --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "languages", "listens", "reads", "cause"),
    [
        ("text", ["en", "es"], False, True, None),
        ("whisper", ["en", "es"], True, False, None),
        ("declared", ["en", "es"], False, False, None),
        ("none", ["en", "es"], False, False, "setting"),
        ("text", ["en", "en"], False, False, "one_language"),
        ("whisper", ["en"], False, False, "one_language"),
    ],
)
async def test_each_setting_has_its_identifier(
    kind: IdentifierKind, languages: list[str], listens: bool, reads: bool, cause: str | None
) -> None:
    """And where nothing is identified for want of one, the log says so."""
    stream = io.StringIO()
    telemetry = LogTelemetry(stream=stream, strict=True)
    chosen = choose_identifiers(kind, model="tiny", languages=languages, telemetry=telemetry)
    assert (chosen.listener is not None, chosen.reader is not None) == (listens, reads)
    for identifier in chosen:
        if identifier is not None:
            await identifier.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["cause"] for line in lines] == ([cause] if cause else [])
