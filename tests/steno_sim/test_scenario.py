"""Scenario files are read strictly, and the packaged ones are well made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sentencex  # type: ignore[import-untyped]  # it has no types

from steno_sim import scenario
from steno_sim.scenario import ScenarioError, decode
from steno_sim.script import build


def one(text: str) -> scenario.Scenario:
    return decode(text.encode(), form="toml", source="test")


def luhn(digits: str) -> bool:
    odd = [int(d) for d in digits[::-1][::2]]
    even = [sum(divmod(2 * int(d), 10)) for d in digits[::-1][1::2]]
    return (sum(odd) + sum(even)) % 10 == 0


def iban(text: str) -> bool:
    bare = text.replace(" ", "")
    moved = bare[4:] + bare[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def test_packaged_names_are_listed_and_read() -> None:
    """Every packaged scenario is valid, and the promised ones are there."""
    assert {"demo", "diarisation", "load", "quiet"} <= set(scenario.names())
    for name in scenario.names():
        assert scenario.load(name).title


def test_demo_has_four_languages_a_switch_and_every_kind_of_secret() -> None:
    """The demo shows what it promises."""
    script = build(scenario.load("demo"))
    said = [script.utterances(p.number) for p in script.plans]
    assert len(said) >= 12
    assert {u.language[:2] for us in said for u in us} == {"en", "es", "fr", "de"}
    assert any(len({u.language for u in us}) > 1 for us in said)
    secrets = [s for us in said for u in us for s in u.secrets]
    assert {s.kind for s in secrets} == {"phone", "card", "email", "ssn", "iban"}
    assert all(luhn(s.text.replace(" ", "")) for s in secrets if s.kind == "card")
    assert all(iban(s.text) for s in secrets if s.kind == "iban")
    groups = {s.group for s in secrets if s.group}
    assert len(groups) == 2
    assert any(re.fullmatch(r"[a-zéü ]+", s.text) for s in secrets if s.kind == "phone")


@pytest.mark.parametrize("name", ["demo", "diarisation"])
def test_sentences_are_what_a_splitter_makes_of_the_text(name: str) -> None:
    """The truth counts sentences as an independent splitter does."""
    script = build(scenario.load(name))
    for plan in script.plans:
        for said in script.utterances(plan.number):
            parts = sentencex.segment(said.language[:2], said.text)
            assert [p.strip() for p in parts] == said.sentences


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("colour = 1", "colour"),
        ("[noise]\nduplicates = 2.0", "noise.duplicates"),
        ("[style]\npiece_words = [0, 2]", "piece_words"),
        ("[diarisation]\nlate = 1.5", "diarisation.late"),
        ("[diarisation]\nwander_s = -1.0", "wander_s"),
        ('[diarisation]\nlabels = "colours"', "labels"),
        (
            '[[conversations]]\nturns = [{who = "agent", say = "A."}, {who = "ivr", say = "B."}]',
            "a menu speaks before",
        ),
        ('[[conversations]]\nturns = [{ who = "agent", say = "Hi.", blemishes = ["odd"] }]', "odd"),
        ("[style]\nwords_per_s = 0", "words_per_s"),
        ("[load]\nfragments = 0", "fragments"),
        ("[load]\nrate = -1.0", "rate"),
        ('[load]\n[[conversations]]\nturns = [{ who = "agent", say = "Hi." }]', "not both"),
        ('[[conversations]]\nturns = [{ who = "agent" }]', "turn 0"),
        ('[[conversations]]\nturns = [{ who = "agent", say = ["Hi.", " "] }]', "empty"),
        ('[[conversations]]\nturns = [{ who = "robot", say = "Hi." }]', "robot"),
        ('[[faults]]\nkind = "meteor"', "meteor"),
        ("title = ", "test"),
    ],
)
def test_a_faulty_file_is_refused_with_its_place(text: str, complaint: str) -> None:
    """Unknown keys, wrong types and broken rules are errors that name them."""
    with pytest.raises(ScenarioError, match=re.escape(complaint)):
        one(text)


def test_files_are_read_by_their_suffix(tmp_path: Path) -> None:
    """TOML and JSON files hold the same keys; a missing file or name is an error."""
    (tmp_path / "a.toml").write_text('title = "A"')
    (tmp_path / "b.json").write_text('{"title": "B"}')
    assert scenario.load(tmp_path / "a.toml").title == "A"
    assert scenario.load(str(tmp_path / "b.json")).title == "B"
    with pytest.raises(ScenarioError, match="No such file"):
        scenario.load(tmp_path / "c.toml")
    with pytest.raises(ScenarioError, match="there are demo"):
        scenario.load("nonesuch")
