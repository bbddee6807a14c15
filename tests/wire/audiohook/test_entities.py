"""Transcript entities: as the platform takes them, and read back from any draft."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.errors import LocalProtocolError, RemoteProtocolError
from steno.wire.audiohook import Word, build_transcript, estimated_words, read_transcript
from steno.wire.audiohook.entities import MAX_ENTITY_BYTES
from wire.audiohook.pair import UTTERANCES, VECTORS

ENTITIES: dict[str, Any] = json.loads((VECTORS / "entities.json").read_text())  # Any: JSON


def build(text: str = "Good morning.", **changes: Any) -> dict[str, Any]:  # Any: arguments, JSON
    arguments: dict[str, Any] = {
        "id": UTTERANCES[4],
        "channel": 0,
        "is_final": True,
        "start_samples": 25_600,
        "end_samples": 32_800,
        "rate_hz": 8000,
        "text": text,
        **changes,
    }
    decoded: dict[str, Any] = json.loads(bytes(build_transcript(**arguments).encoded))
    return decoded


def tokens(entity: dict[str, Any]) -> list[dict[str, Any]]:  # Any: JSON
    found: list[dict[str, Any]] = entity["data"]["alternatives"][0]["interpretations"][0]["tokens"]
    return found


def test_an_entity_comes_out_as_the_reference_has_it() -> None:
    """Every field of the example, from values."""
    built = build(
        confidence=0.92,
        language="en-US",
        words=(Word("Good", 25_600, 28_400, 0.95), Word("morning.", 28_800, 32_800, 0.9)),
    )
    assert built == ENTITIES["current"]


def test_words_that_begin_together_are_moved_apart() -> None:
    """All offsets of an interpretation differ, even where times are coarse."""
    words = (*[Word("a", 8000, 8800)] * 4, Word("b", 8008, 8800))
    offsets = [token["offset"] for token in tokens(build(words=words))]
    assert len(set(offsets)) == 5
    assert offsets[:3] == ["PT1S", "PT1.001S", "PT1.002S"]


def test_words_without_times_share_the_span() -> None:
    """By their length, in order, within the bounds."""
    words = estimated_words("a bbb cc", 0, 600)
    assert [(one.start_samples, one.end_samples) for one in words] == [
        (0, 100),
        (100, 400),
        (400, 600),
    ]
    assert estimated_words("", 0, 10) == ()
    assert len(tokens(build("one two"))) == 2


@pytest.mark.parametrize(
    ("confidence", "told"), [(0.5, 0.5), (-1, 0), (3, 1), (float("nan"), 0), (1e-9, 0)]
)
def test_confidence_stays_within_its_range(confidence: float, told: float) -> None:
    """A number from 0 to 1 without an exponent, whatever the recogniser says."""
    assert build(confidence=confidence)["data"]["alternatives"][0]["confidence"] == told


@pytest.mark.parametrize("language", ["", "en", "es-419", "zh-Hans-CN"])
def test_languages_out_of_form_are_left_out(language: str) -> None:
    """The platform refuses codes it does not know the form of."""
    assert "languages" not in build(language=language)["data"]["alternatives"][0]


def test_an_entity_too_large_goes_without_its_tokens() -> None:
    """Text is never cut; what is too large even so is an error."""
    text = "word " * 2000
    alternative = build(text)["data"]["alternatives"][0]
    assert alternative["interpretations"][0]["transcript"] == text
    assert "tokens" not in alternative["interpretations"][0]
    with pytest.raises(LocalProtocolError):
        build("a" * MAX_ENTITY_BYTES)


@pytest.mark.parametrize(
    "bad", [{"id": "x"}, {"channel": 2}, {"start_samples": -1}, {"end_samples": 0}]
)
def test_values_that_make_no_entity_are_our_mistake(bad: dict[str, Any]) -> None:
    """An utterance has a UUID, a channel and a span."""
    with pytest.raises(LocalProtocolError):
        build(**bad)


def test_an_entity_is_read_back() -> None:
    """Times in microseconds of the stream clock."""
    read = read_transcript(json.dumps(ENTITIES["current"]).encode())
    assert read is not None
    assert (read.channel, read.is_final, read.text) == (0, True, "Good morning.")
    assert (read.offset_us, read.duration_us, read.languages) == (3_200_000, 900_000, ("en-US",))
    assert [(one.value, one.offset_us) for one in read.tokens] == [
        ("Good", 3_200_000),
        ("morning.", 3_600_000),
    ]


def test_older_drafts_are_read() -> None:
    """A named channel, ``position``, normalized text, punctuation."""
    read = read_transcript(msgspec.Raw(json.dumps(ENTITIES["older"]).encode()))
    assert read is not None
    assert (read.channel, read.offset_us, read.text) == (1, 3_200_000, "Good morning.")
    assert [one.is_word for one in read.tokens] == [True, False]


def test_other_entities_are_none_of_ours() -> None:
    """Voice bots send entities too."""
    assert read_transcript(b'{"type":"barge_in","data":{}}') is None
    assert read_transcript(b'{"type":"barge_in"}') is None


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"type":"transcript"}', b'{"type":"transcript","data":{}}']
)
def test_what_is_no_entity_is_an_error(data: bytes) -> None:
    """Fields that matter must be there."""
    with pytest.raises(RemoteProtocolError):
        read_transcript(data)


def test_an_entity_cut_anywhere_is_an_error() -> None:
    """No part of an entity passes for one."""
    whole = json.dumps(ENTITIES["current"]).encode()
    for length in range(len(whole)):
        with pytest.raises(RemoteProtocolError):
            read_transcript(whole[:length])


def test_no_text_is_shown() -> None:
    """What was said stays out of a ``repr``."""
    built = build_transcript(
        id=UTTERANCES[0],
        channel=0,
        is_final=True,
        start_samples=0,
        end_samples=1,
        rate_hz=8000,
        text="private",
    )
    assert "private" not in repr(built)
    assert "private" not in repr(read_transcript(built.encoded))


@given(
    st.lists(
        st.tuples(st.integers(0, 80_000), st.integers(0, 8000), st.text(max_size=5)), max_size=30
    )
)
def test_whatever_the_times_offsets_differ_and_are_read_back(
    told: list[tuple[int, int, str]],
) -> None:
    """Unordered, equal and overlapping words come out legal."""
    words = tuple(Word(text, start, start + length) for start, length, text in told)
    built = build_transcript(
        id=UTTERANCES[0],
        channel=1,
        is_final=False,
        start_samples=0,
        end_samples=90_000,
        rate_hz=8000,
        text="x",
        words=words,
    )
    read = read_transcript(built.encoded)
    assert read is not None
    offsets = [one.offset_us for one in read.tokens]
    assert len(set(offsets)) == len(offsets) == max(len(words), 1)
