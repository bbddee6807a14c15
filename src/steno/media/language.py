"""Which language a call, or one of its lanes, is in: when to ask, and when to believe the answer.

Until something is known the configured default holds. Two kinds of evidence change that:

    declared    what the platform says (``open.language``, later ``update``): obeyed at once, and
                guesses no longer count, unless ``declared_wins`` is off
    identified  guesses of an identifier. The first one at or above ``confidence`` decides. After
                that another language needs two such guesses in a row, or one at or above
                ``sure``, and no change comes sooner than ``rest_s`` after the last

Identifiers are asked about speech only, and seldom: after 1.5, 3, 6 and 12 seconds of it, each
time about all of it, then about the last 10 seconds every 20 seconds; or, by the words, once
there are some new ones to go by. Nothing here waits: the answer comes whenever it comes.

Pure: the caller brings the speech, the guesses and the time.
"""

from __future__ import annotations

import re
from collections import deque
from enum import StrEnum
from typing import Final

import msgspec
import numpy as np

from steno.core.language import same_language
from steno.core.transcript import RawText
from steno.ports.speech import LanguageGuess, Samples

FIRST_ASKS_MS: Final = (1_500, 3_000, 6_000, 12_000)
"""Speech heard at each of the first questions, and the window of each."""

LATER_EVERY_MS: Final = 20_000
LATER_WINDOW_MS: Final = 10_000
"""Later windows are short of the interval, so that two in a row share no speech."""

LONGEST_WINDOW_MS: Final = FIRST_ASKS_MS[-1]

MIN_WORDS: Final = 6
MIN_CHARS: Final = 25
"""Fewer words than this mislead: short words are common to several languages."""

ENOUGH_CHARS: Final = 60
"""So much text is asked about whatever its words are: not every script has spaces."""

MAX_CHARS: Final = 400
"""Of the words kept while nothing is decided: the newest."""


class LanguageSettings(msgspec.Struct, frozen=True):
    """Settings.

    Attributes:
        languages: Tags that calls may be in; the first is the default. Never empty.
        confidence: A guess counts from here on, 0..1.
        sure: One guess so confident changes a language that was identified before.
        rest_s: No guess changes the language sooner than this after the last change.
        declared_wins: Guesses do not count once the platform has declared a language.
        fixed: Every call is in the default language, whatever is declared or guessed.
    """

    languages: tuple[str, ...] = ("en-US",)
    confidence: float = 0.8
    sure: float = 0.97
    rest_s: float = 10.0
    declared_wins: bool = True
    fixed: bool = False


class Evidence(StrEnum):
    """Why a language is believed."""

    DEFAULT = "default"
    DECLARED = "declared"
    IDENTIFIED = "identified"


class LanguageChanged(msgspec.Struct, frozen=True, gc=False):
    """The best tag is another one now; confidence is 1 where it was declared."""

    previous: str
    language: str
    confidence: float
    evidence: Evidence


class LanguageUnsupported(msgspec.Struct, frozen=True, gc=False):
    """The call is in a language that is not configured, so the best tag stays as it was.

    A guess tells it once per language, a declaration each time.
    """

    language: str
    confidence: float
    evidence: Evidence


LanguageEvent = LanguageChanged | LanguageUnsupported

# --- tags ------------------------------------------------------------------------------------

_TAG: Final = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8}){0,4}")
_UNDETERMINED: Final = frozenset({"und", "mul", "zxx"})
_SAME: Final = {"cmn": "zh", "iw": "he", "in": "id", "ji": "yi", "nb": "no"}
"""Codes that platforms and engines use for one another (RFC 5646 registry; Genesys' cmn)."""


def primary(tag: str) -> str:
    """Return the language of a tag in lower case, without region or script: ``en`` of ``en-US``."""
    code = tag.replace("_", "-").partition("-")[0].lower()
    return _SAME.get(code, code)


def nearest(tag: str, languages: tuple[str, ...], *, current: str = "") -> str:
    """Return the configured tag for ``tag``, empty when there is none.

    The same tag whatever its case; else ``current`` if it is the same language; else the first
    configured tag of that language.
    """
    for each in languages:
        if same_language(each, tag):
            return each
    language = primary(tag)
    if current and primary(current) == language:
        return current
    return next((each for each in languages if primary(each) == language), "")


def _usable(tag: str) -> str:
    """Return a peer's tag as BCP 47 writes it; empty when it names no one language."""
    tag = tag.replace("_", "-")
    return tag if _TAG.fullmatch(tag) and primary(tag) not in _UNDETERMINED else ""


# --- the choice ------------------------------------------------------------------------------


class LanguageChoice:
    """The language of one call or lane.

    Args:
        settings: Shared by all calls.
    """

    __slots__ = (
        "_asks", "_next_ask_ms", "_not_before", "_rival", "_settings", "_told", "_words",
        "evidence", "language", "speech_ms",
    )  # fmt: skip

    def __init__(self, settings: LanguageSettings) -> None:
        self._settings = settings
        self.language = settings.languages[0]
        self.evidence = Evidence.DEFAULT
        self.speech_ms = 0
        self._asks = 0
        self._next_ask_ms = FIRST_ASKS_MS[0]
        self._words = ""
        self._rival = ""  # what the last guess was for, when that is not the best tag
        self._not_before = 0.0
        self._told: set[str] = set()

    @property
    def is_settled(self) -> bool:
        """Guesses do not count, as while a declaration holds: no identifier need be asked."""
        settings = self._settings
        return settings.fixed or (self.evidence is Evidence.DECLARED and settings.declared_wins)

    # --- when to ask -------------------------------------------------------------------------

    def add_speech(self, speech_ms: int) -> int:
        """Count speech heard; return the window in milliseconds to ask about now, 0 for none."""
        self.speech_ms += speech_ms
        if self.speech_ms < self._next_ask_ms or self.is_settled:
            return 0
        growing = self._asks < len(FIRST_ASKS_MS)
        while self._asks < len(FIRST_ASKS_MS) and FIRST_ASKS_MS[self._asks] <= self.speech_ms:
            self._asks += 1
        if self._asks < len(FIRST_ASKS_MS):
            self._next_ask_ms = FIRST_ASKS_MS[self._asks]
        else:
            self._next_ask_ms = self.speech_ms + LATER_EVERY_MS
        return min(self.speech_ms, LONGEST_WINDOW_MS) if growing else LATER_WINDOW_MS

    def add_text(self, text: RawText) -> RawText | None:
        """Collect recognised words; return those to ask about now.

        While nothing is identified, words that were asked about before are asked about again
        with the new ones; later each question is about new words alone.
        """
        if self.is_settled:
            self._words = ""
            return None
        words = f"{self._words} {text}".strip()[-MAX_CHARS:]
        self._words = words
        if len(words) < MIN_CHARS or (
            len(words) < ENOUGH_CHARS and words.count(" ") + 1 < MIN_WORDS
        ):
            return None
        if self.evidence is Evidence.IDENTIFIED:
            self._words = ""
        return RawText(words)

    # --- evidence ----------------------------------------------------------------------------

    def declared(self, tag: str) -> LanguageEvent | None:
        """Take the platform's word, at the start or in mid-call; None when it changes nothing.

        A language that is not configured ends an earlier declaration: guesses count again.
        """
        tag = _usable(tag)
        if not tag or self._settings.fixed:
            return None
        found = nearest(tag, self._settings.languages, current=self.language)
        self._rival = ""
        if not found:
            if self.evidence is Evidence.DECLARED:
                self.evidence = Evidence.DEFAULT
            return LanguageUnsupported(tag, 1.0, Evidence.DECLARED)
        self.evidence = Evidence.DECLARED
        return self._change(found, 1.0)

    def guess(self, guess: LanguageGuess, *, now: float) -> LanguageEvent | None:
        """Take an identifier's guess; None when it changes nothing."""
        tag = _usable(guess.language)
        # Written so that a confidence that is no number does not count either.
        if not tag or self.is_settled or not guess.confidence >= self._settings.confidence:
            self._rival = ""
            return None
        found = nearest(tag, self._settings.languages, current=self.language)
        if not found:
            return self._unsupported(tag, guess.confidence)
        if found == self.language:
            self._rival = ""
            self._identified()
            return None
        if not self._is_believed(found, guess.confidence) or now < self._not_before:
            self._rival = found
            return None
        self._identified()
        self._not_before = now + self._settings.rest_s
        return self._change(found, guess.confidence)

    def _is_believed(self, tag: str, confidence: float) -> bool:
        if self.evidence is Evidence.DEFAULT or confidence >= self._settings.sure:
            return True
        return tag == self._rival

    def _identified(self) -> None:
        if self.evidence is Evidence.DEFAULT:
            self._words = ""
        self.evidence = Evidence.IDENTIFIED

    def _change(self, tag: str, confidence: float) -> LanguageChanged | None:
        previous, self.language = self.language, tag
        self._rival = self._words = ""
        return (
            LanguageChanged(previous, tag, confidence, self.evidence) if tag != previous else None
        )

    def _unsupported(self, tag: str, confidence: float) -> LanguageUnsupported | None:
        self._rival = ""
        language = primary(tag)
        if language in self._told:
            return None
        self._told.add(language)
        return LanguageUnsupported(tag, confidence, Evidence.IDENTIFIED)


# --- the speech to ask about -----------------------------------------------------------------


class SpeechWindow:
    """The newest speech of one lane, silence taken out: at most 12 seconds, oldest dropped.

    Args:
        rate_hz: Of the samples; 12 s at 8 kHz are 192 KB.
        frame_samples: Samples that each flag of the voice activity speaks for.
    """

    __slots__ = ("_frame", "_held", "_limit", "_pending", "_rate_hz", "_stretches")

    def __init__(self, rate_hz: int, frame_samples: int) -> None:
        self._rate_hz = rate_hz
        self._frame = frame_samples
        self._limit = rate_hz * LONGEST_WINDOW_MS // 1000
        self._pending: Samples = np.zeros(0, np.int16)  # its flag has not come yet
        self._stretches: deque[Samples] = deque()
        self._held = 0

    def add(self, samples: Samples, flags: bytes) -> int:
        """Keep the speech among the samples; return its milliseconds.

        Args:
            samples: As fed to the voice activity of this lane. Where some were left out, the
                rest is off by less than a frame.
            flags: What it answered to them.
        """
        pending = np.concatenate((self._pending, samples)) if len(self._pending) else samples
        whole = len(flags) * self._frame
        if len(pending) < whole:  # the voice activity held more: not every call came here
            pending = np.concatenate((np.zeros(whole - len(pending), np.int16), pending))
        left = (len(pending) - whole) % self._frame
        self._pending = pending[len(pending) - left :].copy()
        count = flags.count(1)
        if not count:
            return 0
        heard = pending[:whole]
        if count < len(flags):
            spoken = np.frombuffer(flags, np.bool_)
            heard = heard.reshape(len(flags), self._frame)[spoken].ravel()
        else:
            heard = heard.copy()  # the caller's buffer is its own
        self._keep(heard)
        return len(heard) * 1000 // self._rate_hz

    def _keep(self, heard: Samples) -> None:
        self._stretches.append(heard)
        self._held += len(heard)
        while self._held - len(self._stretches[0]) >= self._limit:
            self._held -= len(self._stretches.popleft())

    def newest(self, window_ms: int) -> Samples:
        """Return the last ``window_ms`` of speech, or what there is."""
        if not self._stretches:
            return np.zeros(0, np.int16)
        n = min(self._rate_hz * window_ms // 1000, self._limit)
        return np.concatenate(self._stretches)[-n:] if n else np.zeros(0, np.int16)

    def clear(self) -> None:
        """Forget the speech, as when a language was declared."""
        self._stretches.clear()
        self._held = 0
