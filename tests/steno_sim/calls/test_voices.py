"""The packaged calls: sound and manifest agree, and the recogniser's grammar has the words."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from steno_sim.calls.scoring import readable_digits
from steno_sim.calls.voices import SpokenCall, channels, spoken_call, spoken_calls

ROOT = Path(__file__).resolve().parents[3]
GRAMMAR = ROOT / "src/steno/adapters/speech/engines/grammars/orders.gram"
CALLS = spoken_calls()


def names(call: SpokenCall) -> str:
    return call.name


def test_the_voices_are_small_and_enough() -> None:
    """Six to eight calls below 1.5 MB, with phone, card and order numbers in them."""
    files = (ROOT / "src/steno_sim/voices").glob("*.wav")
    assert sum(file.stat().st_size for file in files) < 1_500_000
    assert 6 <= len(CALLS) <= 8
    kinds = {secret.kind for call in CALLS for turn in call.turns for secret in turn.secrets}
    assert kinds == {"phone", "card", "order"}


@pytest.mark.parametrize("call", CALLS, ids=names)
def test_turns_are_where_the_manifest_says(call: SpokenCall) -> None:
    """Speech in every turn's own channel, silence in the other, and between turns in both."""
    sound = call.sound()
    assert sound.length * 1000 // sound.rate_hz == call.duration_ms
    quiet = np.ones(sound.samples.shape, dtype=bool)
    end = 0
    for turn in call.turns:
        row = channels().index(turn.channel)
        span = slice(turn.start_ms * 8, turn.end_ms * 8 + 8)
        spoken = np.abs(sound.samples[row, span].astype(int))
        assert spoken.max() > 8000
        assert spoken.mean() > 300
        assert turn.start_ms - end > 200
        quiet[row, span] = False
        end = turn.end_ms
    assert not sound.samples[quiet].any()


@pytest.mark.parametrize("call", CALLS, ids=names)
def test_secrets_are_in_the_words(call: SpokenCall) -> None:
    """Their words stand in the turn, and say their digits."""
    for turn in call.turns:
        for secret in turn.secrets:
            assert f" {secret.text}" in f" {turn.text}"
            assert readable_digits(secret.text) == [secret.digits]
    assert any(turn.channel == "internal" for turn in call.turns)


def test_an_unknown_voice_is_named() -> None:
    """With the names there are."""
    assert spoken_call("tickets").name == "tickets"
    with pytest.raises(ValueError, match="nobody"):
        spoken_call("nobody")


def grammar_pattern(text: str) -> re.Pattern[str]:
    """Give the JSGF grammar's public rule as a pattern over words with a blank after each."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    rules = dict(re.findall(r"<(\w+)>\s*=\s*([^;]+);", text))
    public = re.search(r"public\s+<(\w+)>", text)
    assert public

    def rule(name: str) -> str:
        tokens = re.findall(r"<\w+>|[a-z]+|[()\[\]|+]", rules[name])
        out = ""
        for token in tokens:
            if token[0] == "<":
                out += f"(?:{rule(token[1:-1])})"
            elif token.isalpha():
                out += f"{token} "
            else:
                out += {"(": "(?:", ")": ")", "[": "(?:", "]": ")?"}.get(token, token)
        return out

    return re.compile(rule(public[1]))


def test_the_grammar_has_every_turn() -> None:
    """What is outside the grammar cannot be recognised."""
    pattern = grammar_pattern(GRAMMAR.read_text())
    outside = [
        turn.text for call in CALLS for turn in call.turns if not pattern.fullmatch(f"{turn.text} ")
    ]
    assert outside == []
    assert not pattern.fullmatch("the weather is fine ")
