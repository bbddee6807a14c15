"""Words for the tests of finished transcripts."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from steno.recordings.turns import Turn, turns_of
from steno.recordings.words import Word

START_US = 1_705_314_600_000_000  # 2024-01-15T10:30:00Z
MS = 1000


def wire(text: object = "hello", **changed: Any) -> dict[str, Any]:
    """Return a word as a service gives it; a change to ``None`` leaves the key out."""
    word = {
        "text": text,
        "confidence": 0.9,
        "startTimestamp": "2024-01-15T10:30:00.120Z",
        "endTimestamp": "2024-01-15T10:30:00.480Z",
        "speaker": "speaker_0",
        **changed,
    }
    return {key: value for key, value in word.items() if value is not None}


def array(*words: object) -> bytes:
    return msgspec.json.encode(words)


def said(*turns: tuple[str, str], confidence: float | None = 0.9) -> list[Word]:
    """Return the words of turns (speaker, text), 300 ms each and 400 ms apart."""
    words: list[Word] = []
    for speaker, text in turns:
        for one in text.split():
            start_us = START_US + len(words) * 400 * MS
            words.append(Word(one, start_us, start_us + 300 * MS, speaker, confidence))
    return words


def turns(*spoken: tuple[str, str]) -> tuple[Turn, ...]:
    return turns_of(said(*spoken))


TEXTS = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=12
) | st.sampled_from([".", ",", "?", "...", "hello", "yes"])
SPEAKERS = st.sampled_from(["", "unknown", "agent", "customer", "speaker_0"])


def _word(text: str, start_ms: int, length_ms: int, speaker: str, confidence: float | None) -> Word:
    start_us = START_US + start_ms * MS
    return Word(text, start_us, start_us + length_ms * MS, speaker, confidence)


def words() -> st.SearchStrategy[list[Word]]:
    """Words of several people who may talk at once, in any order."""
    return st.lists(
        st.builds(
            _word,
            TEXTS,
            st.integers(0, 60_000),
            st.sampled_from([0, 1, 250, 700, 5000, 12_000]),
            SPEAKERS,
            st.none() | st.floats(0, 1),
        ),
        max_size=14,
    )
