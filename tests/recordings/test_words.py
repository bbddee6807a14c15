"""Words of a transcript: what is read, what is told of those that cannot be."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordings.spoken_words import START_US, array, wire, words
from steno.errors import RemoteProtocolError
from steno.recordings import words as module
from steno.recordings.words import (
    MAX_REPORTED,
    MAX_SPAN_US,
    MAX_SPEAKER_CHARS,
    MAX_TEXT_CHARS,
    UNTIMED,
    BadWord,
    Word,
    decode_words,
    encode_words,
)

GOOD = Word("hello", START_US + 120_000, START_US + 480_000, "speaker_0", 0.9)


def test_times_become_utc_microseconds_whatever_their_offset_and_digits() -> None:
    """RFC 3339: offsets, lower case, no fraction, nanoseconds."""
    for text, at_us in (
        ("2024-01-15T10:30:00Z", START_US),
        ("2024-01-15t12:30:00.5+02:00", START_US + 500_000),
        ("2024-01-15T02:30:00.000001-08:00", START_US + 1),
        ("2024-01-15T10:30:00.000001499Z", START_US + 1),
    ):
        one = decode_words(array(wire(startTimestamp=text, endTimestamp=text))).words[0]
        assert (one.start_us, one.end_us) == (at_us, at_us)


@pytest.mark.parametrize("form", [b"%s", b' {"words": %s}', b'{"id":"x","words":%s,"more":[1]}'])
def test_the_array_and_the_whole_result_read_alike(form: bytes) -> None:
    """Unknown keys, of the result and of a word, are ignored."""
    read = decode_words(form % array(wire(), wire(channel=3, alternatives=[{"text": 1}])))
    assert read == module.Words([GOOD, GOOD], [], 0, True)


@pytest.mark.parametrize("data", [b"[]", b"null", b'{"words":[]}', b'{"words":null}'])
def test_nothing_said_is_no_error(data: bytes) -> None:
    assert decode_words(data, strict=True) == module.Words([], [], 0, True)


def test_a_word_without_speaker_or_confidence_is_a_word() -> None:
    """Null, missing and blank labels are one class; a missing confidence is no zero."""
    bare = wire(speaker=None, confidence=None)
    read = decode_words(
        array(bare, {**bare, "speaker": None, "confidence": None}, wire(speaker=" "))
    )
    assert [(one.speaker, one.confidence) for one in read.words] == [
        ("", None),
        ("", None),
        ("", 0.9),
    ]


BAD: list[tuple[object, str]] = [
    (7, "word"),
    (None, "word"),
    ([], "word"),
    (wire(text=None), "text"),
    (wire(text=""), "text"),
    (wire(text=" \n"), "text"),
    (wire(text=5), "text"),
    (wire(text="x" * (MAX_TEXT_CHARS + 1)), "text"),
    (wire(confidence=1.01), "confidence"),
    (wire(confidence=-0.1), "confidence"),
    (wire(confidence="0.9"), "confidence"),
    (wire(confidence=True), "confidence"),
    (wire(startTimestamp=None), "startTimestamp"),
    (wire(startTimestamp=""), "startTimestamp"),
    (wire(startTimestamp="2024-01-15T10:30:00"), "startTimestamp"),
    (wire(startTimestamp="yesterday"), "startTimestamp"),
    (wire(startTimestamp=1.5), "startTimestamp"),
    (wire(startTimestamp=-1), "startTimestamp"),
    (wire(startTimestamp="1969-12-31T23:59:59Z"), "startTimestamp"),
    (wire(startTimestamp=10**30, endTimestamp=10**30), "startTimestamp"),
    (wire(endTimestamp=None), "endTimestamp"),
    (wire(endTimestamp="2024-01-15T25:30:00Z"), "endTimestamp"),
    (wire(endTimestamp="2024-01-15T10:30:00.119Z"), "endTimestamp"),
    (wire(endTimestamp="2024-02-15T10:30:00Z"), "endTimestamp"),
    (wire(startTimestamp="2024-02-15T10:30:00Z", endTimestamp="2024-02-15T10:30:01Z"),
     "startTimestamp"),
    (wire(speaker=4), "speaker"),
    (wire(speaker="x" * (MAX_SPEAKER_CHARS + 1)), "speaker"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "field"), BAD)
def test_an_unreadable_word_is_told_by_index_and_field_and_left_out(
    bad: object, field: str
) -> None:
    """The rest goes on, or the option fails the whole; either way without its content."""
    data = array(wire(), wire(), bad, wire())
    assert decode_words(data) == module.Words([GOOD] * 3, [BadWord(2, field)], 1, True)
    with pytest.raises(RemoteProtocolError) as caught:
        decode_words(data, strict=True)
    assert caught.value.fields["index"] == 2
    assert caught.value.fields["field"] == field


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (b'{"text":"a","confidence":NaN,"startTimestamp":1,"endTimestamp":2}', "confidence"),
        (b'{"text":"a","confidence":1e999,"startTimestamp":1,"endTimestamp":2}', "confidence"),
        (b'{"text":"a","startTimestamp":NaN,"endTimestamp":2}', "startTimestamp"),
        (b'{"text":"\\ud800","startTimestamp":1,"endTimestamp":2}', "text"),
        (b'{"text":"a\xff","startTimestamp":1,"endTimestamp":2}', "text"),
        (b'{"text":"a","speaker":"\\udc00","startTimestamp":1,"endTimestamp":2}', "speaker"),
    ],
)
def test_what_is_no_json_inside_a_word_spoils_that_word_alone(bad: bytes, field: str) -> None:
    """Numbers that are none, halves of characters, bytes that are no UTF-8."""
    for form in (b"[%s,%s]", b'{"words":[%s,%s]}'):
        read = decode_words(form % (bad, msgspec.json.encode(wire())))
        assert (read.words, read.bad) == ([GOOD], [BadWord(0, field)])


@pytest.mark.parametrize(
    "data",
    [b"", b"[", b'{"words":', b"{}", b'{"words":5}', b'{"words":{}}', b"5", b'"words"', b"\xff",
     b"[" * 100_000],
)  # fmt: skip
def test_a_result_without_an_array_of_words_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_words(data)
    assert caught.value.fields["field"] == "words"


def test_a_transcript_none_of_whose_words_can_be_read_is_refused() -> None:
    """It would look as if nothing had been said."""
    with pytest.raises(RemoteProtocolError) as caught:
        decode_words(array(wire(startTimestamp="x"), wire(startTimestamp="x")))
    assert caught.value.fields["unreadable"] == 2


def test_no_content_of_a_word_is_in_an_error_or_a_report() -> None:
    secret = "4111111111111111"
    for bad in (wire(text=secret, confidence=secret), wire(text=secret * 50), [secret]):
        assert secret not in repr(decode_words(array(bad, wire())).bad)
        with pytest.raises(RemoteProtocolError) as caught:
            decode_words(array(bad, wire()), strict=True)
        for error in (caught.value, caught.value.__cause__, caught.value.__context__):
            assert secret not in f"{error} {error!r}"


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes before anything is decoded; words; reported words, while all are counted."""
    with monkeypatch.context() as smaller:
        smaller.setattr(module, "MAX_WORDS", 3)
        assert len(decode_words(array(*[wire()] * 3)).words) == 3
        for four in (array(*[wire()] * 4), array(*[wire()] * 3, 0)):
            with pytest.raises(RemoteProtocolError, match="too many words"):
                decode_words(four)
        smaller.setattr(module, "MAX_BYTES", 10)
        with pytest.raises(RemoteProtocolError, match="too large"):
            decode_words(array(wire()))
    read = decode_words(array(wire(), *[0] * 250))
    assert (len(read.bad), read.bad_count) == (MAX_REPORTED, 250)


def test_one_wrong_date_does_not_become_the_start_of_the_call() -> None:
    """Words further than a week from the middle one are left out, in order of their places."""
    far = wire(startTimestamp=0, endTimestamp=1)
    late = wire(endTimestamp=START_US + 2 * MAX_SPAN_US)
    read = decode_words(array(far, wire(), late, wire(), 1, wire()))
    assert read.words == [GOOD] * 3
    assert read.bad == [
        BadWord(0, "startTimestamp"),
        BadWord(2, "endTimestamp"),
        BadWord(4, "word"),
    ]


def test_microseconds_count_from_the_start_of_the_recording() -> None:
    """The form of our own recogniser; without a known start they count from 0."""
    data = array(wire(startTimestamp=120_000, endTimestamp=480_000))
    assert decode_words(data, zero_us=START_US).words == [GOOD]
    assert decode_words(data).words[0].start_us == 120_000


@given(spoken=words())
def test_our_own_form_gives_the_words_back(spoken: list[Word]) -> None:
    plain = [msgspec.structs.replace(word, speaker=word.speaker.strip()) for word in spoken]
    assert decode_words(encode_words(plain), strict=True).words == plain


@pytest.mark.parametrize("time", [None, "", "x"])
def test_words_without_times_keep_their_order_when_none_were_asked_for(time: str | None) -> None:
    """Times of some words are no help; what is wrong otherwise is told all the same."""
    bare = [wire(text, startTimestamp=time, endTimestamp=time) for text in ("b", "a")]
    read = decode_words(array(*bare, wire("c"), wire(text=" "), wire(confidence=2)), timed=False)
    assert [(word.text, word.start_us, word.end_us) for word in read.words] == [
        (text, UNTIMED, UNTIMED) for text in "bac"
    ]
    assert read.bad == [BadWord(3, "text"), BadWord(4, "confidence")]
    assert not read.timed
    assert decode_words(array(wire()), timed=False) == module.Words([GOOD], [], 0, True)
    assert decode_words(encode_words(read.words), timed=False).words == read.words


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["text", "confidence", "startTimestamp", "endTimestamp", "speaker"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=8,
)


@given(elements=st.lists(JSON, max_size=6), timed=st.booleans())
def test_every_word_is_read_or_told_whatever_comes(elements: list[Any], timed: bool) -> None:
    """A good word among anything: it is read, the others are read or told, nothing is lost."""
    data = json.dumps([*elements, wire()]).encode()
    read = decode_words(data, timed=timed)
    assert len(read.words) + read.bad_count == len(elements) + 1
    assert [one.index for one in read.bad] == sorted({one.index for one in read.bad})


@given(
    data=st.binary(max_size=40) | st.text('[]{}",:0123456789eN words', max_size=40).map(str.encode)
)
def test_any_bytes_give_words_or_our_own_error(data: bytes) -> None:
    try:
        decode_words(data)
    except RemoteProtocolError:
        pass
