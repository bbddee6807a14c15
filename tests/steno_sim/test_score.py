"""The scorer of the demo and the scenarios: it must be able to say no."""

from __future__ import annotations

from steno_sim.ledger import Truth
from steno_sim.scenario import Call, Scenario, Turn
from steno_sim.score import Heard, Score, leaks, score
from steno_sim.world import World

CALL = "c1"
SAID: list[str | list[str]] = [
    "Good morning, this is Anna.",
    "My number is {phone:415-555-0142} in the evening.",
    ["That is noted.", "Good bye."],
]


def said(delivered: str = "whole") -> Truth:
    """Return the truth of three turns of one speaker, as if they had been delivered so."""
    import msgspec

    turns = [Turn(who="agent", say=text) for text in SAID]
    truth = World(Scenario(conversations=[Call(id=CALL, turns=turns)])).truth()
    (conversation,) = truth.conversations
    heard = [
        msgspec.structs.replace(utterance, delivered=delivered)
        for utterance in conversation.utterances
    ]
    return msgspec.structs.replace(
        truth, conversations=[msgspec.structs.replace(conversation, utterances=heard)]
    )


def received(truth: Truth, *texts: str) -> list[Heard]:
    participant = truth.conversations[0].utterances[0].participant
    return [Heard(CALL, participant, text, at) for at, text in enumerate(texts)]


WHOLE = (
    "Good morning, this is Anna.",
    "My number is [REDACTED] in the evening.",
    "That is noted.",
    "Good bye.",
)


def judged(*texts: str, delivered: str = "whole") -> Score:
    truth = said(delivered)
    return score(truth, received(truth, *texts))


def test_what_was_said_once_is_neither_lost_nor_repeated() -> None:
    """Masks stand for secrets, case and punctuation do not count, sentences may come in pieces."""
    found = judged(*WHOLE)
    assert (found.sentences, found.lost, found.repeated, found.leaked) == (4, 0, 0, 0)
    assert judged("good morning this", "is anna", *WHOLE[1:]).lost == 0
    assert judged(WHOLE[0], "My number is [PHONE] in the evening", *WHOLE[2:]).repeated == 0


def test_a_missing_sentence_is_lost() -> None:
    """Also when it is one of two of an utterance."""
    assert judged(*WHOLE[1:]).lost == 1
    assert judged(*WHOLE[:3]).lost == 2


def test_words_that_were_changed_or_masked_without_reason_are_lost() -> None:
    """A mask must not swallow the words around a secret, nor an utterance of none."""
    assert judged("Good evening, this is Anna.", *WHOLE[1:]).lost == 1
    assert judged(WHOLE[0], "My number is [REDACTED] evening.", *WHOLE[2:]).lost == 1
    assert judged(WHOLE[0], "[REDACTED] of something else.", *WHOLE[2:]).lost == 1
    assert judged("Good morning, this is [REDACTED].", *WHOLE[1:]).lost == 1


def test_a_sentence_twice_is_repeated_and_an_invented_one_too() -> None:
    """What matches nothing that is left over counts."""
    assert judged(*WHOLE, WHOLE[0]).repeated == 1
    assert judged(*WHOLE, "Nobody said this.").repeated == 1


def test_a_sentence_of_somebody_else_is_lost_and_repeated() -> None:
    """Words count for the one who said them."""
    truth = said()
    mixed = received(truth, *WHOLE)
    mixed[0] = Heard(CALL, "somebody-else", WHOLE[0], 0)
    found = score(truth, mixed)
    assert (found.lost, found.repeated) == (1, 1)


def test_a_planted_secret_in_the_open_is_leaked() -> None:
    """Whole, in whatever form of punctuation."""
    truth = said()
    open_text = received(truth, WHOLE[0], "My number is 415 555 0142 in the evening.", *WHOLE[2:])
    assert leaks(truth, open_text) == 1
    assert score(truth, open_text).leaked == 1


def test_what_reached_nobody_is_not_asked_for() -> None:
    """Of an utterance in part, parts may be there or not."""
    assert judged(delivered="none").lost == 0
    found = judged("My number is [REDACTED]", delivered="part")
    assert (found.sentences, found.lost, found.repeated) == (0, 0, 0)
