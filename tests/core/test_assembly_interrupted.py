"""After an interruption: no utterance is joined with the next where the source lets us tell."""

from __future__ import annotations

from steno.core.assembly import Assembler
from steno.core.transcript import Fragment, RawText

LANE = "customer"


class Speech:
    """Says fragments one after another, a second apart."""

    def __init__(self) -> None:
        self.assembler = Assembler("c")
        self.now = 0.0
        self.texts: list[str] = []

    def say(self, text: str, *, final: bool = False) -> None:
        """Hear a fragment."""
        self.now += 1.0
        self.texts += [
            str(sentence.text)
            for sentence in self.assembler.add(
                Fragment(
                    "c", LANE, RawText(text), 0.9, final, "en-US", round(self.now * 1e6), "", 0, 0
                ),
                now=self.now,
            )
        ]


def test_a_growing_utterance_that_ended_unheard_is_not_joined_with_the_next() -> None:
    """Its words are given out by themselves when the next utterance begins."""
    speech = Speech()
    speech.say("let me")
    speech.say("let me look")
    speech.assembler.interrupted()
    speech.say("okay then")
    speech.say("okay then, thanks.", final=True)
    assert speech.texts == ["let me look", "okay then, thanks."]


def test_a_growing_utterance_goes_on_over_an_interruption() -> None:
    """A partial that repeats it from its start is the same utterance, however much was missed."""
    speech = Speech()
    speech.say("let me")
    speech.say("let me look")
    speech.assembler.interrupted()
    speech.say("let me look at the invoice for you.", final=True)
    assert speech.texts == ["let me look at the invoice for you."]


def test_increments_stay_together_over_an_interruption() -> None:
    """Nothing tells an increment from a new utterance: open words survive a reconnect."""
    speech = Speech()
    speech.say("let me")
    speech.assembler.interrupted()
    speech.say("look at it.", final=True)
    assert speech.texts == ["let me look at it."]


def test_only_the_first_fragment_behind_an_interruption_is_looked_at() -> None:
    """Later ones are what they always were."""
    speech = Speech()
    speech.say("let me")
    speech.say("let me look")
    speech.assembler.interrupted()
    speech.say("let me look at")
    speech.say("the invoice.", final=True)
    assert speech.texts == ["let me look at the invoice."]


def test_a_restart_is_an_interruption() -> None:
    """What was open at a kill may have ended while nobody listened."""
    before = Speech()
    before.say("let me")
    before.say("let me look")
    after = Speech()
    after.now = before.now
    after.assembler.restore(before.assembler.snapshot(before.now), now=0.0)
    after.say("okay.", final=True)
    assert after.texts == ["let me look", "okay."]
