"""The ledger tells what fell due, what reached somebody, and which utterances are whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steno_sim.ledger import Ledger
from steno_sim.pieces import Piece, Script, What
from steno_sim.scenario import Call, Load, Mode, Scenario, Turn
from steno_sim.script import build


def pieces(script: Script) -> list[Piece]:
    return [p for p in script.pieces() if p.what is What.FRAGMENT]


def spoken(mode: Mode) -> Script:
    turn = Turn(who="agent", say="One two three four five six seven eight nine ten.", mode=mode)
    return build(Scenario(conversations=[Call(turns=[turn])]))


def test_a_growing_utterance_is_whole_by_its_final() -> None:
    """The final holds all words; partials alone are a part."""
    script = spoken("growing")
    said = pieces(script)
    ledger = Ledger(script)
    for piece in said[:-1]:
        ledger.record(piece, stream=True, topic=False)
    assert ledger.truth().conversations[0].utterances[0].stream == "part"
    ledger = Ledger(script)
    for piece in said:
        ledger.record(piece, stream=piece.final, topic=False)
    found = ledger.truth().conversations[0].utterances[0]
    assert (found.stream, found.topic, found.delivered) == ("whole", "none", "whole")
    assert ledger.missed == len(said) - 1


def test_increments_are_whole_only_together() -> None:
    """One missed increment leaves a part on the stream; a topic's event holds everything."""
    script = spoken("increments")
    ledger = Ledger(script)
    for piece in pieces(script):
        ledger.record(piece, stream=piece.key != 1, topic=piece.final)
    found = ledger.truth().conversations[0].utterances[0]
    assert (found.stream, found.topic, found.delivered) == ("part", "whole", "whole")


def test_sentences_and_secrets_are_listed() -> None:
    """Sentences by conversation, participant and delivery; every planted secret."""
    turns = [
        Turn(who="agent", say=["Good day.", "Your name?"]),
        Turn(who="agent", say="Write to {email:a@b.example}."),
    ]
    script = build(Scenario(conversations=[Call(turns=turns)]))
    ledger = Ledger(script)
    for piece in pieces(script):
        ledger.record(piece, stream=piece.utterance == 0, topic=False)
    truth = ledger.truth()
    key = (script.plans[0].id, script.plans[0].agent_participant)
    assert truth.sentences() == {key: ["Good day.", "Your name?"]}
    assert truth.sentences("none") == {key: ["Write to a@b.example."]}
    assert [s.text for s in truth.secrets()] == ["a@b.example"]
    assert ledger.truth("nobody").conversations == []


@given(heard=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=30))
def test_counts_add_up(heard: list[tuple[bool, bool, bool]]) -> None:
    """Due = delivered + missed; copies count as messages, never as fragments."""
    script = build(Scenario(load=Load(conversations=3, fragments=10)))
    ledger = Ledger(script)
    said = pieces(script)
    delivered: set[tuple[int, int]] = set()
    messages = 0
    for piece, (stream, topic, again) in zip(said, heard, strict=False):
        for _ in range(1 + again):
            ledger.record(piece, stream=stream, topic=topic)
            messages += stream or topic
        if stream or topic:
            delivered.add((piece.conversation, piece.key))
    assert ledger.due == min(len(heard), len(said))
    assert ledger.delivered == len(delivered)
    assert ledger.missed == ledger.due - ledger.delivered
    assert ledger.messages == messages
    counts = ledger.counts()
    assert sum(int(c["missed"]) for c in counts) == ledger.missed
    assert sum(c.messages for c in ledger.truth().conversations) == messages
