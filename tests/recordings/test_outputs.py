"""A transcript as text, subtitles and JSON, read back by strict readers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.subtitle_readers import Cue, read_srt, read_vtt
from recordings.spoken_words import MS, START_US, said, words
from steno.core.quality import metrics_of
from steno.errors import ConfigError
from steno.recordings import outputs
from steno.recordings.outputs import Transcript, encoded, webhook_payload
from steno.recordings.turns import turns_of, unredacted
from steno.recordings.words import UNTIMED, Word, decode_words

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "transcripts"
SECOND = 1_000_000
BREAK = "\u2502"  # stands for the line break of a cue where a reader takes one line


def transcript(spoken: list[Word], started_at_us: int | None = None) -> Transcript:
    return Transcript(
        transcript_id="t-17",
        recording_id="0b8f6b1e-58a4-4c1e-9f4d-6f0f3a1c2d3e",
        status="completed",
        metrics=metrics_of([word.confidence for word in spoken], latency_s=42.125),
        turns=unredacted(turns_of(spoken)),
        processed_at_us=START_US + 3_725_900_000,
        started_at_us=started_at_us,
    )


def call() -> Transcript:
    """Return a call with overlap, marks, a long turn, nobody's words and what formats escape."""
    spoken = said(
        ("agent", "Good morning , this is support . How can I help you today ?"),
        ("customer", "well I bought <two> tickets & the page said --> failed , then it said done"),
        ("", "hm"),
        (
            "agent",
            "I see . Let me have a look at your order , it should not take more than a minute or "
            "two ; please stay on the line while I am waiting for the system to answer me .",
        ),
        ("customer", "thanks\u2028a lot"),
    )
    shifted = [
        msgspec.structs.replace(
            word, start_us=word.start_us + 2500 * MS, end_us=word.end_us + 2500 * MS
        )
        for word in spoken
    ]
    pause = msgspec.structs.replace
    late = [
        pause(word, start_us=word.start_us + 4000 * MS, end_us=word.end_us + 4000 * MS)
        for word in shifted[-2:]
    ]
    return transcript([*shifted[:-2], *late], started_at_us=START_US)


def written(one: Transcript, form: str, **options: Any) -> bytes:
    return b"".join(encoded(one, form, **options))


def cues(one: Transcript, form: str) -> list[Cue]:
    data = written(one, form)
    # A cue is its times, then one or two lines: join the second to the first.
    joined = re.sub(r"(?m)^(.* --> .*\n.+)\n(?=.)", rf"\1{BREAK}", data.decode()).encode()
    return read_srt(joined) if form == "srt" else read_vtt(joined)


@pytest.mark.parametrize(
    ("form", "name"), [("text", "call.txt"), ("srt", "call.srt"), ("vtt", "call.vtt")]
)
def test_a_call_is_written_as_it_was(form: str, name: str) -> None:
    """A changed file is explained in its commit."""
    assert written(call(), form) == (VECTORS / name).read_bytes()


def test_the_document_is_written_as_it_was() -> None:
    assert written(call(), "json", words=True) == (VECTORS / "call.json").read_bytes()


def test_the_document_has_the_tutorials_keys_and_says_what_is_estimated() -> None:
    """Words on request only; they read back as words."""
    one = call()
    document = msgspec.json.decode(written(one, "json"))
    assert set(document) == {
        *("transcript_id", "status", "metrics", "speakers", "processed_at"),
        *("recording_id", "word_error_rate_is"),
    }
    assert document["metrics"] == {
        "latency_seconds": 42.12,
        "word_error_rate": 0.1,
        "total_words": sum(len(turn.words) for turn in one.turns),
    }
    assert document["processed_at"] == "2024-01-15T11:32:05Z"
    assert "estimate" in document["word_error_rate_is"]
    assert [set(turn) for turn in document["speakers"]] == [
        {"speaker_id", "text", "start_time", "end_time", "avg_confidence"}
    ] * len(one.turns)
    again = decode_words(written(one, "json", words=True), strict=True).words
    assert again == [word for turn in one.turns for word in turn.words]


def test_the_webhook_has_the_documents_five_keys_in_its_order() -> None:
    body = msgspec.json.decode(webhook_payload(call()))
    assert list(body) == ["transcript_id", "status", "metrics", "speakers", "processed_at"]
    document = msgspec.json.decode(written(call(), "json"))
    assert body == {key: document[key] for key in body}


def test_text_is_one_line_a_turn_whatever_is_said() -> None:
    """Line breaks of any kind become blanks; hours count on."""
    spoken = [
        Word("one\ntwo\x85", START_US, START_US, "a\r"),
        Word("three", START_US + 100 * 3600 * SECOND + 61 * SECOND, START_US + 10**12, ""),
    ]
    assert written(transcript(spoken), "text") == (
        b"[00:00:00] a : one two\n[100:01:01] unknown: three\n"
    )


@pytest.mark.parametrize(("started_s", "first_s"), [(None, 0), (-3, 3), (0, 0), (5, 0)])
def test_times_count_from_the_recording_else_from_the_first_word(
    started_s: int | None, first_s: int
) -> None:
    """Never from behind the first word: nothing is shown before zero."""
    started_us = None if started_s is None else START_US + started_s * SECOND
    one = transcript(said(("a", "hello")), started_us)
    assert written(one, "text").decode() == f"[00:00:{first_s:02}] a: hello\n"
    for form in ("srt", "vtt"):
        assert [cue.start_ms for cue in cues(one, form)] == [first_s * 1000]


def test_nothing_said_gives_files_that_can_be_read() -> None:
    one = transcript([])
    assert written(one, "text") == written(one, "srt") == b""
    assert written(one, "vtt") == b"WEBVTT\n\n"
    document = msgspec.json.decode(written(one, "json", words=True))
    assert (document["speakers"], document["words"]) == ([], [])
    assert document["metrics"]["word_error_rate"] is None


def test_without_times_there_is_text_and_json_but_no_subtitle() -> None:
    one = transcript([Word("hello", UNTIMED, UNTIMED, "a"), Word("there", UNTIMED, UNTIMED, "b")])
    assert written(one, "text") == b"a: hello\nb: there\n"
    assert msgspec.json.decode(written(one, "json"))["speakers"][0]["start_time"] is None
    for form in ("srt", "vtt"):
        with pytest.raises(ConfigError) as caught:
            encoded(one, form)
        assert caught.value.setting == "timestamps"


def test_an_unknown_form_is_refused_before_anything_is_written() -> None:
    with pytest.raises(ConfigError) as caught:
        encoded(call(), "docx")
    assert caught.value.setting == "format"


def test_a_cue_ends_at_a_silence_and_after_seven_seconds() -> None:
    times = [(0, 1), (1, 3), (3, 7), (7, 8), (11, 12), (12, 30), (30, 31)]
    spoken = [
        Word(f"w{number}", START_US + start * SECOND, START_US + end * SECOND, "a")
        for number, (start, end) in enumerate(times)
    ]
    assert [(cue.start_ms, cue.end_ms, cue.text) for cue in cues(transcript(spoken), "vtt")] == [
        (0, 7000, "w0 w1 w2"),
        (7000, 8000, "w3"),
        (11000, 12000, "w4"),
        (12000, 19000, "w5"),
        (30000, 31000, "w6"),
    ]


@given(spoken=words(), started=st.none() | st.integers(-5000, 5000))
def test_subtitles_have_every_word_at_its_time_in_small_cues(
    spoken: list[Word], started: int | None
) -> None:
    """Read strictly: two lines, 42 characters and a mark, seven seconds, all words in order."""
    one = transcript(spoken, None if started is None else START_US + started * MS)
    inside = [word for turn in one.turns for word in turn.words]
    for form in ("srt", "vtt"):
        found = cues(one, form)
        assert [cue.start_ms for cue in found] == sorted(cue.start_ms for cue in found)
        for cue in found:
            assert cue.end_ms - cue.start_ms <= 7000
            lines = cue.text.split(BREAK)
            assert len(lines) <= 2
            assert all(len(line) <= 42 + 3 for line in lines)
        shown = "".join(cue.text for cue in found).replace(" ", "").replace(BREAK, "")
        if form == "vtt":
            assert shown == "".join(word.text for word in inside).replace(" ", "")
        else:
            assert len(shown) >= sum(len(word.text.replace(" ", "")) for word in inside)


def test_a_break_cannot_be_smuggled_into_a_cue() -> None:
    """Neither by the character that stands for it nor by one that ends a line."""
    for trick in ("\ue000", "\n\n", "\r", "\x85", "\u2028"):
        one = transcript([Word(f"a{trick}b", START_US, START_US + 1, f"x{trick}y")])
        for form in ("srt", "vtt"):
            assert len(written(one, form).decode().split("\n")) <= 6
            assert len(cues(one, form)) == 1


def test_files_come_in_pieces_and_not_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece has a bounded number of turns; together they are the same file."""
    one = transcript([word for number in range(40) for word in said((f"s{number}", "hello you"))])
    whole = {form: written(one, form, words=True) for form in ("text", "srt", "vtt", "json")}
    monkeypatch.setattr(outputs, "BATCH", 4)
    for form, data in whole.items():
        pieces = list(encoded(one, form, words=True))
        assert b"".join(pieces) == data
        assert len(pieces) >= len(one.turns) // 4
