"""Formats: the documented bytes, and what independent readers make of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.sink_rules import CANARY, segment
from conformance.subtitle_readers import read_rttm, read_srt, read_vtt
from steno.diarisation.exports import (
    BATCH,
    COLUMNS,
    Format,
    columns,
    follow_form,
    format_of,
    piece_name,
    text_form,
)
from steno.diarisation.views import SegmentView, views
from steno.errors import ConfigError, IntegrityError

VECTORS = Path(__file__).parents[1] / "vectors" / "exports"
AT_US = 1_705_314_600_123_456  # 2024-01-15T10:30:00.123456Z
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

CALL = [
    SegmentView(
        "call-1", "agent", "Good morning, how may I help?", 0, 2_400_000, 0.97, True, AT_US,
        zero_us=AT_US - 5_000_000, role="agent", language="en-GB", participant="p-1",
        user_id="u-1", name="Zoë Example", communication="c-1", overlap=True, key="k1",
    ),
    SegmentView(
        "call-1", "customer 1", '=SUM(A1) she said "no" --> <b>never</b> & left', 1_500_000,
        3_000_500, 0.875, True, AT_US + 544, overlap=True, key="k2", revision=2,
    ),
    SegmentView(
        "call-1", "agent", "line one\nline two", 3_000_500, 3_000_500, 0.9, True,
        1_705_314_603_000_000, key="k3",
    ),
]  # fmt: skip

TEXT = [form for form in Format if form is not Format.PARQUET]

MANY = st.lists(
    st.builds(
        SegmentView,
        conversation=st.sampled_from(["call-1", "call-2"]),
        speaker=st.text(),
        text=st.text(),
        start_us=st.integers(0, 10**12),
        end_us=st.integers(0, 10**12),
        confidence=st.floats(0, 1),
        is_final=st.booleans(),
        at_us=st.integers(0, 4 * 10**15),
        role=st.sampled_from(["agent", "customer", "unknown"]),
        language=st.sampled_from(["", "en-GB"]),
        participant=st.text(),
        user_id=st.text(),
        name=st.text(),
        communication=st.text(),
        overlap=st.booleans(),
        key=st.text("0123456789abcdef", min_size=1),
        revision=st.integers(0, 99),
        parts=st.just(1),
    ),
    max_size=8,
)


def encoded(form: Format, segments: list[SegmentView]) -> bytes:
    """Return a whole export."""
    found = text_form(form)
    assert found is not None
    return b"".join(found.encode(segments))


@pytest.mark.parametrize("form", TEXT)
def test_export_is_as_recorded(form: Format) -> None:
    """The bytes of each format are part of the interface; a change is explained."""
    assert encoded(form, CALL) == (VECTORS / f"conversation.{form.value}").read_bytes()


@given(segments=MANY)
def test_json_is_the_tutorials_document(segments: list[SegmentView]) -> None:
    """An object of ``segments``, with the eight keys in their order, and ``totalSegments``."""
    found = json.loads(encoded(Format.JSON, segments))
    assert list(found) == ["segments", "totalSegments"]
    assert found["totalSegments"] == len(segments)
    for one, view in zip(found["segments"], segments, strict=True):
        at = datetime.fromisoformat(one.pop("timestamp"))
        assert at == EPOCH + timedelta(microseconds=view.at_us)
        assert list(one.items()) == [
            ("conversation_id", view.conversation),
            ("speaker", view.speaker),
            ("text", view.text),
            ("start_seconds", view.start_us / 1e6),
            ("end_seconds", view.end_us / 1e6),
            ("confidence", view.confidence),
            ("is_final", view.is_final),
        ]


@given(segments=MANY)
def test_json_lines_lose_nothing(segments: list[SegmentView]) -> None:
    """Every line has the tutorial's keys and then all else that is known."""
    lines = encoded(Format.JSONL, segments).decode().split("\n")
    assert lines.pop() == ""
    for line, view in zip(lines, segments, strict=True):
        one = json.loads(line)
        assert tuple(one) == COLUMNS
        assert rebuilt(one) == view


def rebuilt(one: dict[str, object]) -> SegmentView:
    """Return the view that a line was written from."""
    at = datetime.fromisoformat(str(one.pop("timestamp")))
    return msgspec.convert(
        {
            **one,
            "conversation": one.pop("conversation_id"),
            "start_us": round(float(str(one.pop("start_seconds"))) * 1e6),
            "end_us": round(float(str(one.pop("end_seconds"))) * 1e6),
            "at_us": (at - EPOCH) // timedelta(microseconds=1),
        },
        SegmentView,
    )


@given(segments=MANY)
def test_csv_is_read_back_by_any_reader(segments: list[SegmentView]) -> None:
    """The same columns as JSON lines; a CR LF inside a text is LF, a formula is text."""
    text = encoded(Format.CSV, segments).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == len(segments)
    for row, view in zip(rows, segments, strict=True):
        assert tuple(row) == COLUMNS
        assert row["speaker"] == cell(view.speaker)
        assert row["text"] == cell(view.text)
        assert row["name"] == cell(view.name)
        assert float(row["start_seconds"]) == view.start_us / 1e6
        assert float(row["confidence"]) == view.confidence
        assert row["is_final"] == str(view.is_final).lower()
        assert row["timestamp"].endswith("Z")
        assert datetime.fromisoformat(row["timestamp"]) == EPOCH + timedelta(
            microseconds=view.at_us
        )
        assert (row["key"], int(row["revision"])) == (view.key, view.revision)


def cell(text: str) -> str:
    """Return what a cell of this text has to hold."""
    text = text.replace("\r\n", "\n")
    return f"'{text}" if text[:1] in tuple("=+-@\t\r\n＝＋－＠") else text


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_csv_is_a_formula(start: str) -> None:
    """A spreadsheet must not compute what somebody said, or is called."""
    view = msgspec.structs.replace(
        CALL[0], text=f"{start}1+1", speaker=f"{start}x", name=f"{start}y"
    )
    [row] = csv.DictReader(io.StringIO(encoded(Format.CSV, [view]).decode(), newline=""))
    assert [row["text"], row["speaker"], row["name"]] == [
        f"'{start}1+1",
        f"'{start}x",
        f"'{start}y",
    ]


@given(segments=MANY)
def test_rttm_tells_who_speaks_when(segments: list[SegmentView]) -> None:
    """Every segment is a line, with its conversation as the file."""
    found = read_rttm(encoded(Format.RTTM, segments))
    assert [(turn.file, turn.speaker) for turn in found] == [
        (view.conversation, view.speaker) for view in segments
    ]


@given(segments=MANY)
def test_subtitles_have_a_cue_for_each_segment(segments: list[SegmentView]) -> None:
    """In one conversation, ordered as views are, strict readers find every segment."""
    mine = sorted(
        (msgspec.structs.replace(view, conversation="call-1") for view in segments),
        key=lambda view: view.start_us,
    )
    assert len(read_vtt(encoded(Format.VTT, mine))) == len(mine)
    assert len(read_srt(encoded(Format.SRT, mine))) == len(mine)


@pytest.mark.parametrize("form", [Format.SRT, Format.VTT])
@pytest.mark.parametrize("place", [1, BATCH, BATCH + 1])
def test_subtitles_of_two_conversations_are_refused(form: Format, place: int) -> None:
    """The error says what to do, and not what was said."""
    other = msgspec.structs.replace(CALL[0], conversation="call-2")
    with pytest.raises(ConfigError, match=r"\{conversation\}") as caught:
        encoded(form, [CALL[0]] * place + [other])
    assert "call-2" not in str(caught.value)


@pytest.mark.parametrize("form", TEXT)
def test_pieces_come_while_segments_come(form: Format) -> None:
    """No format waits for the end: what is read and not yet written is one batch."""
    read = 0

    def endless() -> Iterator[SegmentView]:
        nonlocal read
        while True:
            read += 1
            yield CALL[0]

    found = text_form(form)
    assert found is not None
    pieces = found.encode(endless())
    written = b""
    while written.count(b"call-1" if form not in (Format.SRT, Format.VTT) else b"-->") < 3 * BATCH:
        written += next(pieces)
    assert read <= 4 * BATCH


@given(segments=MANY)
def test_columns_are_those_of_json_lines(segments: list[SegmentView]) -> None:
    """A table has the same names and values; its times are microseconds."""
    table = columns(segments)
    assert tuple(table) == COLUMNS
    for place, view in enumerate(segments):
        one = {name: values[place] for name, values in table.items()}
        at_us = one.pop("timestamp")
        assert rebuilt(
            {**one, "timestamp": (EPOCH + timedelta(microseconds=at_us)).isoformat()}
        ) == (view)


@pytest.mark.parametrize(
    ("target", "form"),
    [
        ("calls.json", Format.JSON),
        ("/a.b/calls.JSONL", Format.JSONL),
        ("calls.ndjson", Format.JSONL),
        ("s3://bucket/{conversation}.vtt", Format.VTT),
        ("out.d/calls", None),
        ("-", None),
        ("calls.txt", None),
    ],
)
def test_ending_names_the_format(target: str, form: Format | None) -> None:
    """The ending of the last part decides."""
    assert format_of(target) == form


# --- continuous export -----------------------------------------------------------------------


@pytest.mark.parametrize("form", [Format.JSONL, Format.CSV, Format.VTT])
def test_appended_pieces_make_the_same_file(form: Format) -> None:
    """Header and pieces are what the whole export of these records is, names of cues apart."""
    follow = follow_form(form, min_confidence=0.85)
    assert follow is not None
    records = [segment("call-1", number) for number in (1, 2, 3)]
    pieces = [follow.piece(record) or b"" for record in records]
    whole = encoded(form, list(views(records, min_confidence=0.85)))
    if form is not Format.VTT:
        assert follow.header + b"".join(pieces) == whole
        return
    cues = read_vtt(follow.header + b"".join(pieces))
    assert [cue[1:] for cue in cues] == [cue[1:] for cue in read_vtt(whole)]


@given(text=st.text() | st.sampled_from(["a\r\n,b", '"\r\n"', "\n\n", "\r"]), speaker=st.text())
@pytest.mark.parametrize("form", [Format.JSONL, Format.CSV, Format.VTT])
def test_end_of_a_piece_is_nowhere_inside(form: Format, text: str, speaker: str) -> None:
    """A torn tail is found by the last end, whatever was said; and a piece tells its name."""
    follow = follow_form(form, min_confidence=0.0)
    assert follow is not None
    record = segment("call-1", 1, text=text, revision=3)
    payload = msgspec.json.decode(record.payload)
    record = msgspec.structs.replace(
        record, payload=msgspec.json.encode({**payload, "speaker": speaker})
    )
    piece = follow.piece(record)
    assert piece is not None
    assert piece.endswith(follow.end)
    assert piece.count(follow.end) == 1
    assert follow.name(piece) == piece_name(record.key, 3)
    assert follow.header.endswith(follow.end) or not follow.header


@pytest.mark.parametrize("form", [Format.JSONL, Format.CSV, Format.VTT])
def test_following_filters_and_refuses(form: Format) -> None:
    """Too little confidence leaves out; a damaged record is an error without its content."""
    follow = follow_form(form, min_confidence=0.85)
    assert follow is not None
    assert follow.piece(segment("call-1", 1, confidence=0.84)) is None
    assert follow.piece(segment("call-1", 1, confidence=0.85)) is not None
    broken = msgspec.structs.replace(segment("call-1", 1), payload=f'{{"x":"{CANARY}"}}'.encode())
    with pytest.raises(IntegrityError) as caught:
        follow.piece(broken)
    assert CANARY not in str(caught.value)


def test_following_counts_from_the_conversations_start() -> None:
    """A source of UTC times gives seconds of the call, not of the epoch."""
    follow = follow_form(Format.JSONL, min_confidence=0.0)
    assert follow is not None
    record = segment("call-1", 1)
    absolute = {"zero_us": AT_US, "started_us": AT_US + 250_000, "ended_us": AT_US + 1_000_000}
    payload = {**msgspec.json.decode(record.payload), **absolute}
    piece = follow.piece(msgspec.structs.replace(record, payload=msgspec.json.encode(payload)))
    one = json.loads(piece or b"{}")
    assert (one["start_seconds"], one["end_seconds"]) == (0.25, 1.0)


@pytest.mark.parametrize("form", [Format.JSON, Format.PARQUET, Format.RTTM, Format.SRT])
def test_other_formats_are_replaced_whole(form: Format) -> None:
    """They have no form to be appended in."""
    assert follow_form(form, min_confidence=0.85) is None


def test_batches_are_joined_without_a_seam() -> None:
    """Over the edge of a batch, JSON stays JSON and subtitles count on."""
    segments = [msgspec.structs.replace(CALL[0], start_us=n) for n in range(2 * BATCH + 1)]
    assert json.loads(encoded(Format.JSON, segments))["totalSegments"] == len(segments)
    assert len(read_srt(encoded(Format.SRT, segments))) == len(segments)
    starts = [
        json.loads(line)["start_seconds"] for line in encoded(Format.JSONL, segments).splitlines()
    ]
    assert all(one < other for one, other in pairwise(starts))
    assert json.loads(encoded(Format.JSON, [])) == {"segments": [], "totalSegments": 0}
