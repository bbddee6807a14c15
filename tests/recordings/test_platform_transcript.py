"""Finished transcripts of the platform become words of our own engines' form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from steno.errors import RemoteProtocolError
from steno.recordings.platform_transcript import transcript_words
from steno.recordings.words import Word

ZERO = 1_772_615_700_120


def phrase(index: int, text: str, start_ms: int, **more: Any) -> dict[str, Any]:
    return {
        "phraseIndex": index,
        "participantPurpose": "external",
        "text": text,
        "confidence": 0.9,
        "startTimeMs": ZERO + start_ms,
        "duration": {"milliseconds": 1000},
        **more,
    }


def read(*phrases: Any, runs: list[dict[str, Any]] | None = None, language: str = "") -> list[Word]:
    runs = runs or [{"language": "en-us", "phrases": list(phrases)}]
    data = json.dumps({"startTime": ZERO, "transcripts": runs}).encode()
    return transcript_words(data, language=language).words


def test_words_have_text_times_confidence_and_speaker() -> None:
    """Times are absolute; a bare number is as good as an object."""
    one = {"word": "two", "confidence": 0.5, "offset": {"milliseconds": 500}, "duration": 250}
    other = {"word": "i", "startTimeMs": ZERO + 100, "duration": {"milliseconds": 160}}
    assert read(phrase(0, "i two", 100, words=[one, other])) == [
        Word("i", (ZERO + 100) * 1000, (ZERO + 260) * 1000, "external", None),
        Word("two", (ZERO + 500) * 1000, (ZERO + 750) * 1000, "external", 0.5),
    ]


def test_a_phrase_without_words_is_laid_out_over_its_time() -> None:
    """By the lengths of its words."""
    words = read(phrase(0, "a bbb", 0))
    assert [(w.text, w.start_us // 1000 - ZERO, w.end_us // 1000 - ZERO) for w in words] == [
        ("a", 0, 250),
        ("bbb", 250, 1000),
    ]
    assert {word.confidence for word in words} == {0.9}


def test_the_run_in_the_language_asked_for_is_taken() -> None:
    """Else the longest."""
    runs = [
        {"language": "fr-fr", "phrases": [phrase(0, "un", 0), phrase(1, "deux", 1)]},
        {"language": "en-us", "phrases": [phrase(0, "one", 0)]},
    ]
    assert [word.text for word in read(runs=runs, language="en-US")] == ["one"]
    assert [word.text for word in read(runs=runs, language="de-DE")] == ["un", "deux"]


def test_what_cannot_be_read_is_left_out_and_counted() -> None:
    """The rest goes on."""
    good = phrase(0, "yes", 0)
    bad_word = phrase(1, "", 10, words=[{"word": "x", "startTimeMs": -5}, {"word": "y"}])
    data = {"startTime": ZERO, "transcripts": [{"phrases": [good, 7, bad_word]}]}
    found = transcript_words(json.dumps(data).encode())
    assert [word.text for word in found.words] == ["y", "yes"]
    assert found.bad == 2


def test_nothing_said_is_no_words() -> None:
    """It is no fault."""
    assert read() == []
    assert transcript_words(b"{}").words == []


@pytest.mark.parametrize("data", [b"", b"[]", b'{"transcripts": 4}', b"\xff\xfe"])
def test_another_shape_is_refused(data: bytes) -> None:
    """With an error of ours that quotes nothing."""
    with pytest.raises(RemoteProtocolError):
        transcript_words(data)
