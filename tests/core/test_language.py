"""The switching rule: enough evidence, enough confidence, and not again too soon."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.language import LanguageRule, LanguageTracker, SwitchWanted, same_language

RULE = LanguageRule(initial="en-US", threshold=0.85, min_evidence=3, recent=6, cooldown_s=30.0)


def feed(
    tracker: LanguageTracker, language: str, confidence: float, times: int, now: float = 0.0
) -> list[SwitchWanted]:
    wanted = [tracker.add(language, confidence, now=now) for _ in range(times)]
    return [each for each in wanted if each is not None]


def test_a_steady_second_language_is_switched_to_once() -> None:
    """Evidence, confidence and weight together ask for one switch, and for no second one."""
    tracker = LanguageTracker(RULE)
    assert feed(tracker, "en-US", 0.9, 3) == []
    wanted = feed(tracker, "es-ES", 0.95, 6)
    assert [(each.previous, each.language) for each in wanted] == [("en-US", "es-ES")]
    assert wanted[0].evidence >= 3
    assert wanted[0].mean_confidence == 0.95


@pytest.mark.parametrize(("confidence", "switches"), [(0.85, 1), (0.8499, 0)])
def test_the_threshold_itself_is_enough(confidence: float, switches: int) -> None:
    """At the threshold counts, below does not."""
    assert len(feed(LanguageTracker(RULE), "fr-FR", confidence, 6)) == switches


def test_one_foreign_sentence_in_a_conversation_changes_nothing() -> None:
    """Three of ten fragments are evidence, but the conversation goes on in its language."""
    tracker = LanguageTracker(LanguageRule(recent=10))
    feed(tracker, "en-US", 0.8, 7)
    assert feed(tracker, "es-ES", 0.95, 3) == []


def test_tags_are_compared_without_case() -> None:
    """``EN-us`` is no other language than ``en-US``."""
    assert same_language("EN-us", "en-US")
    assert feed(LanguageTracker(RULE), "EN-us", 0.99, 10) == []
    assert len(feed(LanguageTracker(RULE), "ES-es", 0.99, 10)) == 1


@pytest.mark.parametrize("tag", ["", "und", "UND", "mul", "zxx"])
def test_no_language_at_all_is_not_switched_to(tag: str) -> None:
    """Sources that cannot tell say so; that is no evidence for anything."""
    assert feed(LanguageTracker(RULE), tag, 0.99, 10) == []


def test_after_a_switch_the_cool_down_holds() -> None:
    """Nothing is asked for within the cool-down, and again after it."""
    tracker = LanguageTracker(RULE)
    feed(tracker, "es-ES", 0.95, 6)
    tracker.switched("es-ES", now=0.0)
    assert feed(tracker, "en-US", 0.95, 6, now=29.9) == []
    assert len(feed(tracker, "en-US", 0.95, 1, now=30.0)) == 1


def test_a_failed_switch_is_asked_for_again_after_its_delay() -> None:
    """The delay is kept, then the rule asks again as long as it holds."""
    tracker = LanguageTracker(RULE)
    assert len(feed(tracker, "es-ES", 0.95, 6)) == 1
    tracker.failed(now=0.0, retry_after_s=5.0)
    assert feed(tracker, "es-ES", 0.95, 1, now=4.9) == []
    assert len(feed(tracker, "es-ES", 0.95, 1, now=5.0)) == 1
    assert tracker.current == "en-US"


@given(
    st.lists(
        st.tuples(st.sampled_from(["en-US", "es-ES", "fr-FR", ""]), st.floats(0, 1)), max_size=60
    )
)
def test_never_two_switches_wanted_at_once(fragments: list[tuple[str, float]]) -> None:
    """Until a switch is answered no other is asked for, and shares sum to one."""
    tracker = LanguageTracker(RULE)
    wanted = [tracker.add(lang, conf, now=float(i)) for i, (lang, conf) in enumerate(fragments)]
    assert sum(each is not None for each in wanted) <= 1
    shares = tracker.distribution()
    assert not shares or abs(sum(shares.values()) - 1) < 1e-9
