"""When a conversation has changed its language, and when to switch the model to it.

The rule: over the last ``recent`` fragments, another language must have at least
``min_evidence`` fragments, a mean confidence at or above ``threshold`` in each of its last
``min_evidence`` fragments, and more confidence in all than the current language. Then the
model is switched, unless a switch was made less than ``cooldown_s`` ago. A switch that fails
is wanted again after its delay, as long as the rule still asks for it.
"""

from __future__ import annotations

from collections import deque

import msgspec

_UNDETERMINED = frozenset({"", "und", "mul", "zxx"})
"""Tags that name no one language: never a language to switch to (BCP 47)."""


class LanguageRule(msgspec.Struct, frozen=True):
    """Settings of the rule; confidence 0..1, times in seconds."""

    initial: str = "en-US"
    threshold: float = 0.85
    min_evidence: int = 3
    recent: int = 10
    cooldown_s: float = 30.0


class SwitchWanted(msgspec.Struct, frozen=True, gc=False):
    """The rule asks for a switch."""

    previous: str
    language: str
    mean_confidence: float
    evidence: int


def same_language(a: str, b: str) -> bool:
    """Compare two BCP-47 tags as the standard says: without regard to case."""
    return a == b or a.lower() == b.lower()


class LanguageTracker:
    """The distribution of one conversation, and the state of its switch."""

    __slots__ = ("_not_before", "_recent", "_rule", "_switching", "current", "switches")

    def __init__(self, rule: LanguageRule, *, current: str = "") -> None:
        self._rule = rule
        self.current = current or rule.initial
        self.switches = 0
        self._recent: deque[tuple[str, str, float]] = deque(maxlen=rule.recent)
        self._not_before = 0.0
        self._switching = False

    def add(self, language: str, confidence: float, *, now: float) -> SwitchWanted | None:
        """Take in a fragment's language; return a switch when it is time for one.

        The caller answers a wanted switch with ``switched`` or ``failed``; until then no
        other one is asked for.
        """
        recent = self._recent
        recent.append((language.lower(), language, confidence))
        if language == self.current or self._switching or now < self._not_before:
            return None
        return self._candidate(language)

    def _candidate(self, language: str) -> SwitchWanted | None:
        rule, tag = self._rule, language.lower()
        current = self.current.lower()
        if tag in _UNDETERMINED or tag == current:
            return None
        theirs = [confidence for key, _, confidence in self._recent if key == tag]
        if len(theirs) < rule.min_evidence:
            return None
        if min(theirs[-rule.min_evidence :]) < rule.threshold:
            return None
        ours = sum(confidence for key, _, confidence in self._recent if key == current)
        if sum(theirs) <= ours:
            return None
        self._switching = True
        mean = sum(theirs) / len(theirs)
        return SwitchWanted(self.current, language, round(mean, 6), len(theirs))

    def switched(self, language: str, *, now: float) -> None:
        """The switch was made."""
        self.current = language
        self.switches += 1
        self._switching = False
        self._not_before = now + self._rule.cooldown_s
        self._recent.clear()

    def failed(self, *, now: float, retry_after_s: float) -> None:
        """The switch failed; it may be asked for again after the delay."""
        self._switching = False
        self._not_before = now + retry_after_s

    def distribution(self) -> dict[str, float]:
        """Return each recent language's share of the confidence, summing to 1."""
        masses: dict[str, float] = {}
        for key, _, confidence in self._recent:
            masses[key] = masses.get(key, 0.0) + confidence
        total = sum(masses.values())
        return {key: mass / total for key, mass in masses.items()} if total else {}
