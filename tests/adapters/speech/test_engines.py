"""PocketSphinx on spoken calls, and what it says of grammars and models it cannot use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soxr  # type: ignore[import-untyped]

from adapters.speech.spoken import RATE_HZ, TEXTS, call, silence, speech
from steno.adapters.speech.engines.choosing import choose_engine, worker_count
from steno.adapters.speech.engines.pocketsphinx import (
    GRAMMARS,
    PocketSphinxEngine,
    jsgf_words,
)
from steno.adapters.speech.engines.port import EngineHypothesis
from steno.core.audio import Samples
from steno.errors import ConfigError, UnsupportedAudio


@pytest.fixture(scope="module")
def orders() -> Iterator[PocketSphinxEngine]:
    engine = PocketSphinxEngine("orders")
    yield engine
    engine.close()


def hear(
    engine: PocketSphinxEngine, audio: Samples, rate_hz: int = RATE_HZ
) -> list[EngineHypothesis]:
    """Recognise a whole call."""
    stream = engine.open(rate_hz, "en-US")
    heard: list[EngineHypothesis] = []
    for at in range(0, len(audio), rate_hz // 10):
        heard += stream.feed(audio[at : at + rate_hz // 10])
    heard += stream.finish()
    stream.close()
    return heard


def finals(heard: list[EngineHypothesis]) -> list[EngineHypothesis]:
    return [one for one in heard if one.is_final]


def test_order_phrases_are_recognised(orders: PocketSphinxEngine) -> None:
    """Also the first word after silence, and each phrase as an utterance of its own."""
    names = ("order", "number", "goodbye")
    parts = [part for name in names for part in (speech(name), silence(1))]
    said = finals(hear(orders, call(silence(0.7), *parts)))
    assert [one.text for one in said] == [TEXTS[name] for name in names]
    assert {one.language for one in said} == {"en-US"}


def test_words_lie_where_they_were_spoken(orders: PocketSphinxEngine) -> None:
    """Positions are samples on the stream clock, in order, within the speech."""
    sound = speech("order")
    (final,) = finals(hear(orders, call(silence(2), sound, silence(1))))
    starts = [word.start_samples for word in final.words]
    assert [word.text for word in final.words] == TEXTS["order"].split()
    assert starts == sorted(starts)
    assert abs(starts[0] - 2 * RATE_HZ) < 0.15 * RATE_HZ
    assert abs(final.words[-1].end_samples - (2 * RATE_HZ + len(sound))) < 0.25 * RATE_HZ
    assert all(0.65 <= word.confidence <= 1 for word in final.words)


def test_partials_grow_into_the_final(orders: PocketSphinxEngine) -> None:
    """They come while it is spoken."""
    heard = hear(orders, call(speech("order"), silence(1)))
    partials = [one.text for one in heard if not one.is_final]
    assert len(partials) >= 2
    assert any(text and TEXTS["order"].startswith(text) for text in partials)
    assert heard[-1].is_final


def test_tones_noise_and_silence_yield_no_words(orders: PocketSphinxEngine) -> None:
    """A grammar forces words on any sound: that is what voice activity stands before."""
    time = np.arange(2 * RATE_HZ) / RATE_HZ
    ringing = (5000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)
    hiss = np.random.default_rng(0).normal(0, 40, 3 * RATE_HZ).astype(np.int16)
    heard = hear(orders, call(silence(1), ringing, silence(1), hiss, silence(1)))
    assert not any(one.text for one in finals(heard))


def test_wideband_calls_use_the_model_as_it_is(orders: PocketSphinxEngine) -> None:
    """16 kHz is the rate it was made for."""
    sound = soxr.resample(call(silence(0.5), speech("number"), silence(1)), RATE_HZ, 16_000)
    (final,) = finals(hear(orders, sound, 16_000))
    assert final.start_samples < 16_000
    assert final.end_samples > 16_000


def test_other_rates_are_resampled(orders: PocketSphinxEngine) -> None:
    """The words and their places are those of the same call at 8 kHz."""
    sound = call(silence(0.5), speech("goodbye"), silence(1))
    (at_8k,) = finals(hear(orders, sound))
    (at_12k,) = finals(hear(orders, soxr.resample(sound, RATE_HZ, 12_000), 12_000))
    assert at_12k.text == at_8k.text == TEXTS["goodbye"]
    assert abs(at_12k.start_samples / 12_000 - at_8k.start_samples / RATE_HZ) < 0.1


def test_streams_do_not_disturb_one_another(orders: PocketSphinxEngine) -> None:
    """Two calls fed in turns say what each would say alone."""
    calls = [call(speech(name), silence(1)) for name in ("order", "goodbye")]
    streams = [orders.open(RATE_HZ, "en-US") for _ in calls]
    said: list[list[str]] = [[], []]
    for at in range(0, max(map(len, calls)), 800):
        for place, audio in enumerate(calls):
            said[place] += [
                one.text for one in streams[place].feed(audio[at : at + 800]) if one.is_final
            ]
    for stream in streams:
        stream.close()
    assert said == [[TEXTS["order"]], [TEXTS["goodbye"]]]


def test_a_stream_closed_within_an_utterance_leaves_a_sound_decoder(
    orders: PocketSphinxEngine,
) -> None:
    """The next call gets it."""
    stream = orders.open(RATE_HZ, "en-US")
    stream.feed(speech("number")[:8000])
    stream.close()
    stream.close()
    (final,) = finals(hear(orders, call(speech("goodbye"), silence(1))))
    assert final.text == TEXTS["goodbye"]


def test_a_rate_below_telephony_is_refused(orders: PocketSphinxEngine) -> None:
    """Forever, not for now."""
    with pytest.raises(UnsupportedAudio):
        orders.check(4000)
    orders.check(8000)


@pytest.mark.parametrize("name", GRAMMARS)
def test_each_packaged_grammar_loads(name: str) -> None:
    """All its words are in the dictionary."""
    choose_engine("pocketsphinx", grammar=name).close()


def test_a_language_model_will_do_in_place_of_a_grammar(tmp_path: Path) -> None:
    """ARPA, as any toolkit writes it."""
    (tmp_path / "small.lm").write_text(ARPA)
    engine = PocketSphinxEngine(tmp_path / "small.lm")
    (final,) = finals(hear(engine, call(silence(0.5), speech("goodbye"), silence(1))))
    engine.close()
    assert final.text == TEXTS["goodbye"]


ARPA = """
\\data\\
ngram 1=5
ngram 2=4

\\1-grams:
-1.0 <s> -0.3
-1.0 </s>
-0.7 thank -0.3
-0.7 you -0.3
-0.7 goodbye -0.3

\\2-grams:
-0.1 <s> thank
-0.1 thank you
-0.1 you goodbye
-0.1 goodbye </s>

\\end\\
"""


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("missing.gram", None, "file is missing"),
        ("words.txt", "hello", "unknown kind"),
        ("broken.gram", "#JSGF V1.0;\ngrammar g;\npublic <g> = ( one", "cannot use"),
        ("odd.gram", "#JSGF V1.0;\ngrammar g;\npublic <g> = one | xqzzy;", "not in the dictionary"),
        ("broken.lm", "no model", "cannot use"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_refused_at_the_start(
    name: str, text: str | None, words: str, tmp_path: Path
) -> None:
    """The setting is named, the grammar not quoted."""
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        PocketSphinxEngine(tmp_path / name)
    assert caught.value.setting == "speech.grammar"
    assert "xqzzy" not in str(caught.value)


def test_an_acoustic_model_of_ones_own_needs_its_files(tmp_path: Path) -> None:
    """The folder is looked over before the library is asked."""
    with pytest.raises(ConfigError, match="no acoustic model"):
        PocketSphinxEngine("digits", str(tmp_path))
    (tmp_path / "mdef").touch()
    with pytest.raises(ConfigError, match="no dictionary"):
        PocketSphinxEngine("digits", str(tmp_path))


def test_words_of_a_grammar_are_found_among_its_signs(tmp_path: Path) -> None:
    """Comments, weights, tags, rule names and the header are none."""
    file = tmp_path / "g.gram"
    file.write_text(
        "#JSGF V1.0 UTF-8 en;\ngrammar com.example.g;\n// none of this\n/* nor\nthis */\n"
        "<a> = /0.5/ one {tag} | /2/ (two [three])+;\npublic <b> = <a>* don't <NULL>;\n"
    )
    assert jsgf_words(file) == {"one", "two", "three", "don't"}
    file.write_text("#JSGF V1.0;\ngrammar g;\nimport <other.*>;\npublic <g> = one;")
    assert jsgf_words(file) is None


def test_workers_follow_the_processors() -> None:
    """0 means as many as we may use."""
    assert worker_count(3) == 3
    assert worker_count(0) >= 1
