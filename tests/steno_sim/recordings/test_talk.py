"""What recordings say follows from seed and id, and holds what it claims to hold."""

from __future__ import annotations

import itertools
import statistics

import pytest

from steno_sim.recordings.talk import Turn, recording_id, turns

LANGUAGES = ("en-US", "es-ES", "fr-FR", "de-DE")


def talk(language: str = "en-US", words: int = 600, **options: object) -> list[Turn]:
    return list(turns(3, "r", language=language, words=words, **options))  # type: ignore[arg-type]  # passed through


@pytest.mark.parametrize("words", [0, 1, 2, 39, 400])
def test_a_talk_has_exactly_so_many_words(words: int) -> None:
    """The last turn is cut to fit."""
    assert sum(len(turn.words) for turn in talk(words=words)) == words


def test_the_same_seed_and_id_say_the_same_and_others_do_not() -> None:
    """Language, seed and id each make a talk of their own."""
    assert talk() == talk()
    assert [t.text for t in talk()] != [t.text for t in talk("de-DE")]
    other = turns(4, "r", language="en-US", words=600)
    assert [t.text for t in talk()] != [t.text for t in other]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_each_kind_of_secret_and_it_is_in_its_turn(language: str) -> None:
    """Phone, card and e-mail, written and spoken, some cards over two turns of one voice."""
    told = talk(language, 20_000)
    kinds: dict[str, list[str]] = {}
    groups: dict[str, list[Turn]] = {}
    for turn in told:
        for secret in turn.secrets:
            assert secret.text in turn.text
            kinds.setdefault(secret.kind, []).append(secret.text)
            groups.setdefault(secret.group, []).append(turn)
    assert set(kinds) == {"phone", "card", "email"}
    for kind, texts in kinds.items():
        written = [any(c.isdigit() or c == "@" for c in text) for text in texts]
        assert any(written), kind
        assert not all(written), kind
    split = [found for found in groups.values() if len(found) == 2]
    assert split
    assert all(one.voice == two.voice for one, two in split)


def test_voices_take_turns_and_times_go_forward() -> None:
    """Words follow one another, and each has a length."""
    for voices in (2, 4):
        told = talk(voices=voices, words=3000)
        assert {turn.voice for turn in told} == set(range(voices))
        assert all(a.voice != b.voice for a, b in itertools.pairwise(told))
        words = [word for turn in told for word in turn.words]
        assert all(word.start_ms < word.end_ms for word in words)
        assert all(a.end_ms < b.start_ms for a, b in itertools.pairwise(words))


@pytest.mark.parametrize("mean", [0.6, 0.92, 0.97])
def test_confidences_lie_around_their_mean(mean: float) -> None:
    """Not all alike: some are far below."""
    found = [w.confidence for turn in talk(words=5000, confidence=mean) for w in turn.words]
    assert statistics.mean(found) == pytest.approx(mean, abs=0.02)
    assert min(found) < mean - 0.1
    assert 0 < min(found) < max(found) < 1


def test_secrets_can_be_left_out() -> None:
    """A talk for counting words alone."""
    assert not any(turn.secrets for turn in talk(secrets=False))


def test_recordings_have_ids_of_version_four() -> None:
    """As the platform's have; a hundred differ."""
    found = {recording_id(1, n) for n in range(100)}
    assert len(found) == 100
    assert all(one[14] == "4" and one[19] in "89ab" for one in found)
