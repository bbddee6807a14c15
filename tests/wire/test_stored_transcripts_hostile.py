"""Stored transcripts that are cut, broken, deep, huge, or written to mislead a splitter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from io import BytesIO

import ijson  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conformance.fuzz_examples import examples
from conformance.stored_oracle import Refused, Told, read_whole
from steno.core.stored import FieldsRead, ParticipantsRead, Segment, SegmentBatch, StoredPart
from steno.errors import RemoteProtocolError
from steno.wire.stored_transcripts import Limits, TranscriptParser, lists, parse_stored
from steno.wire.stored_transcripts.frames import Frame

MISLEADING = (
    '"},{"start_time":1,"end_time":2,"text":"',
    '},{"start_time":1',
    '"}]}',
    "\\",
    '\\"},{"',
    "]}]}",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    "\u00e9\u4e2d\u2028",
    "\x00\x1f\x7f",
    '{"transcript":[',
    "[" * 200,
)


def gathered(parts: list[StoredPart]) -> Told:
    """Put parts together into what the plain decode gives."""
    told = Told()
    for part in parts:
        if isinstance(part, SegmentBatch):
            assert part.first == len(told.segments) + len(told.bad)
            told.segments += part.segments
            told.bad += [each.index for each in part.bad]
        elif isinstance(part, ParticipantsRead):
            told.participants = part.participants
            told.bad_participants = [each.index for each in part.bad]
        else:
            told.fields = part
    return told


def read(body: bytes, cuts: list[int]) -> Told:
    """Return what a file says that arrives in pieces, and check its raw slices on the way."""
    reading = TranscriptParser()
    parts: list[StoredPart] = []
    start = 0
    for cut in [*sorted(cuts), len(body)]:
        parts += reading.feed(body[start:cut])
        start = cut
    parts += reading.end()
    for part in parts:
        if isinstance(part, SegmentBatch) and part.raw is not None:
            assert part.raw in body
            assert read_whole(b"[%b]" % part.raw).segments == part.segments
    return gathered(parts)


texts = st.one_of(
    st.text(max_size=12), st.lists(st.sampled_from(MISLEADING), max_size=4).map("".join)
)
times = st.one_of(st.integers(0, 10**9), st.floats(0, 1e9))
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def segments(draw: st.DrawFn) -> object:
    start = draw(times)
    members: dict[str, object] = {
        "start_time": start,
        "end_time": start + draw(st.integers(0, 50)),
        "text": draw(texts),
        "speaker_id": draw(st.sampled_from(("a", "b", None, ""))),
        "confidence": draw(st.one_of(st.none(), st.floats(0, 1))),
    }
    for key in draw(st.sets(st.sampled_from(sorted(members)), max_size=1)):
        if draw(st.booleans()):
            del members[key]
        else:
            members[key] = draw(junk)
    if draw(st.booleans()):
        members["more"] = draw(junk)
    return {key: members[key] for key in draw(st.permutations(sorted(members)))}


spans = st.one_of(
    st.integers(0, 10**6), st.fixed_dictionaries({"milliseconds": st.integers(0, 10**6)})
)
words = st.lists(st.fixed_dictionaries({"word": texts, "offset": spans}), max_size=3)
phrases = st.fixed_dictionaries(
    {"text": texts, "duration": spans, "words": words},
    optional={
        "offset": st.one_of(st.none(), spans, junk),
        "decoratedText": st.one_of(st.none(), texts),
        "participantPurpose": st.sampled_from(("external", "internal", None)),
        "startTimeMs": st.integers(1_772_615_700_000, 1_772_615_800_000),
        "confidence": st.floats(0, 1),
        "phraseIndex": st.integers(),
    },
)
people = st.lists(
    st.one_of(
        st.fixed_dictionaries({"id": texts, "name": texts, "role": st.sampled_from(("agent", ""))}),
        st.fixed_dictionaries({"participantPurpose": st.sampled_from(("external", "agent"))}),
        junk,
    ),
    max_size=4,
)
runs = st.fixed_dictionaries(
    {"phrases": st.lists(phrases, max_size=5)},
    optional={
        "language": st.sampled_from(("en-us", "de-de")),
        "startTime": st.integers(0, 2**53),
        "analytics": junk,
        "transcript": junk,
    },
)
tops = st.one_of(
    st.fixed_dictionaries(
        {"transcript": st.lists(st.one_of(segments(), segments(), junk), max_size=8)},
        optional={
            "participants": people,
            "conversation": texts,
            "status": texts,
            "downloadUrl": texts,
            "self": junk,
            "phrases": junk,
        },
    ),
    st.fixed_dictionaries(
        {"transcripts": st.lists(runs, max_size=3)},
        optional={
            "participants": people,
            "conversationId": texts,
            "communicationId": texts,
            "startTime": st.integers(1, 1_772_615_700_000),
            "duration": spans,
            "uri": junk,
        },
    ),
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file of either shape, its keys in any order, laid out in any way."""
    whole = draw(tops)
    ordered = {key: whole[key] for key in draw(st.permutations(sorted(whole)))}
    indent = draw(st.sampled_from((None, 0, 1, 4, "\t", "\r\n ")))
    separators = draw(st.sampled_from((None, (",", ":"), (" ,\n", " :\t"))))
    text = json.dumps(
        ordered, ensure_ascii=draw(st.booleans()), indent=indent, separators=separators
    )
    return text.encode("utf-8", "surrogatepass")


cut_places = st.lists(st.integers(0, 3000), max_size=6)


@settings(max_examples=examples(60))
@given(body=files(), cuts=cut_places, at_once=st.sampled_from((2, 100, 1024)))
@example(body=b'{"transcript":[{"text":"\\ud800"}]}', cuts=[], at_once=2)
def test_every_file_says_what_its_plain_decode_says(
    body: bytes, cuts: list[int], at_once: int
) -> None:
    """Any order of keys, any layout, any cuts; few bytes at a time or many at once."""
    before = lists.AT_ONCE_MIN_BYTES, lists.PASSED_WHOLE_BYTES
    lists.AT_ONCE_MIN_BYTES, lists.PASSED_WHOLE_BYTES = at_once, 8 * at_once
    try:
        try:
            expected = read_whole(body)
        except Refused:
            with pytest.raises(RemoteProtocolError):
                read(body, cuts)
            return
        assert read(body, cuts) == expected
    finally:
        lists.AT_ONCE_MIN_BYTES, lists.PASSED_WHOLE_BYTES = before


@settings(max_examples=examples(50))
@given(inner=st.lists(texts, min_size=1, max_size=30), cuts=cut_places)
def test_another_streaming_parser_finds_the_same_segments(
    inner: list[str], cuts: list[int]
) -> None:
    """``ijson`` reads the same list out of the same bytes, strings that mislead among them."""
    whole = [
        {"start_time": place, "end_time": place + 0.5, "text": text, "speaker_id": text}
        for place, text in enumerate(inner)
    ]
    body = json.dumps({"a": whole, "transcript": whole}, ensure_ascii=False).encode()
    found = list(ijson.items(BytesIO(body), "transcript.item", use_float=True))
    keys = ("start_time", "end_time", "text", "speaker_id")
    ours = [[getattr(each, key) for key in keys] for each in read(body, cuts).segments]
    assert ours == [[each[key] for key in keys] for each in found]


def small_files() -> list[bytes]:
    """Files of both shapes that have a bit of everything."""
    segment = {"start_time": 1.5, "end_time": 2, "text": 'a"},{\\ é😀', "speaker_id": "s"}
    document = {"status": "done", "x": [[{}], -1.5e3], "transcript": [segment] * 3, "y": "\u2028"}
    phrase = {
        "text": "t",
        "offset": {"milliseconds": 5},
        "duration": 7,
        "words": [{"word": "w", "offset": {"milliseconds": 5}}],
    }
    platform = {
        "conversationId": "c",
        "participants": [{"participantPurpose": "external"}],
        "transcripts": [{"phrases": [phrase] * 2, "language": "en"}, {"phrases": [phrase]}],
    }
    return [
        json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(),
        json.dumps(document, indent=1).encode(),
        json.dumps(platform).encode(),
        json.dumps([segment] * 2, indent="\t").encode(),
    ]


@pytest.mark.parametrize("body", small_files())
def test_every_byte_gives_out_what_it_completes(body: bytes) -> None:
    """A segment comes with its last brace, not with what follows it."""
    ends = complete_at(body)
    reading = TranscriptParser()
    found = 0
    for place in range(len(body)):
        given = reading.feed(body[place : place + 1])
        found += sum(len(part.segments) for part in given if isinstance(part, SegmentBatch))
        assert found == sum(end <= place + 1 for end in ends)


@pytest.mark.parametrize("body", small_files())
@pytest.mark.parametrize("piece", [29, 10_000])
def test_a_file_cut_off_anywhere_keeps_what_was_complete(body: bytes, piece: int) -> None:
    """All segments whose last brace was there, then an error with the length as its offset."""
    ends = complete_at(body)
    for length in range(len(body)):
        reading = TranscriptParser()
        parts: list[StoredPart] = []
        for start in range(0, length, piece):
            parts += reading.feed(body[start : min(start + piece, length)])
        with pytest.raises(RemoteProtocolError) as caught:
            reading.end()
        assert caught.value.fields["offset"] == length
        assert len(gathered(parts).segments) == sum(end <= length for end in ends)


def complete_at(body: bytes) -> list[int]:
    """Return after which byte each segment or phrase is complete, by a plain decode."""
    decoder = json.JSONDecoder()
    text = body.decode()
    first = '{"text"' if b'"phrases"' in body else '"start_time"'
    ends = []
    place = text.find(first)
    while place >= 0:
        begin = text.rfind("{", 0, place + 1)
        _, end = decoder.raw_decode(text, begin)
        ends.append(len(text[:end].encode()))
        place = text.find(first, end)
    return ends


@pytest.mark.parametrize("body", small_files())
def test_a_byte_that_is_none_of_json_never_goes_unseen(body: bytes) -> None:
    """Each byte in turn becomes one that stands nowhere in UTF-8; the offset is its place."""
    for place in range(len(body)):
        broken = body[:place] + b"\xff" + body[place + 1 :]
        with pytest.raises(RemoteProtocolError) as caught:
            read(broken, [])
        # A character that lost its continuation begins before the byte.
        offset = caught.value.fields["offset"]
        assert isinstance(offset, int)
        assert place - 3 <= offset <= place
        assert offset == place or body[offset] >= 0x80


@pytest.mark.parametrize("piece", [9999, 1 << 20])
@pytest.mark.parametrize("fault", [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf0\x9f\x98"])
@pytest.mark.parametrize("place", [0, 16_383, 40_000, 149_990])
def test_the_offset_is_right_far_into_text_that_is_not_ascii(
    piece: int, fault: bytes, place: int
) -> None:
    """Half a character where a piece ends is no fault, and one elsewhere has its own place."""
    front = b'{"a":"' + b"x" * (place % 3)
    text = "\u00e9\U0001f600\u4e2d".encode() * (place // 9)
    body = front + text + fault + b'"}' + b"\xff"
    with pytest.raises(RemoteProtocolError) as caught:
        list_fed(TranscriptParser(), body, piece)
    assert caught.value.fields["offset"] == len(front) + len(text)


def small_reader(**limits: int) -> TranscriptParser:
    return TranscriptParser(Limits(**limits))


def beyond(body: bytes, **limits: int) -> tuple[object, object]:
    """Return limit and offset of the refusal of a file in single bytes and in one piece."""
    found = set()
    for piece in (1, len(body)):
        reading = small_reader(**limits)
        with pytest.raises(RemoteProtocolError) as caught:
            list_fed(reading, body, piece)
        found.add((caught.value.fields.get("limit"), caught.value.fields["offset"]))
    (one,) = found
    return one


@pytest.mark.parametrize(
    ("body", "limits", "limit", "offset"),
    [
        (b'{"a":' + b"[" * 50 + b"]" * 50 + b"}", {"depth": 20}, "depth", 5),
        (b'{"a":' * 50, {"depth": 20}, "depth", 5),
        (b'[{"x":' + b"[" * 50, {"depth": 20}, "depth", 1),
        (b'{"transcript":[{"text":"' + b"x" * 500, {"element_bytes": 300}, "element_bytes", 15),
        (b'{"transcript":["' + b"x" * 500 + b'"]}', {"element_bytes": 300}, "element_bytes", 15),
        (b'{"a":"' + b"x" * 500 + b'"}', {"element_bytes": 300}, "element_bytes", 5),
        (b'{"status":"' + b"x" * 500 + b'"}', {"field_bytes": 300}, "field_bytes", 10),
        (b'{"' + b"k" * 500 + b'":1}', {"field_bytes": 300}, "field_bytes", 1),
        (b'{"a":' + b"1" * 500 + b"}", {"field_bytes": 300}, "field_bytes", 5),
        (b'{"participants":[{"id":"a"},{"id":"b"},{}]}', {"participants": 2}, "participants", 39),
    ],
)
def test_what_is_beyond_a_limit_is_refused_by_its_name(
    body: bytes, limits: dict[str, int], limit: str, offset: int
) -> None:
    """The limit, and the byte where the value begins that is too much."""
    assert beyond(body, **limits) == (limit, offset)


@pytest.mark.parametrize("opener", [b"[", b'{"a":'])
@pytest.mark.parametrize("front", [b"", b'{"x":', b'{"transcript":[', b'{"transcript":[{"x":'])
def test_a_hundred_thousand_levels_are_refused(front: bytes, opener: bytes) -> None:
    """Neither the interpreter's stack nor much memory is asked for them."""
    with pytest.raises(RemoteProtocolError) as caught:
        parse_stored(front + opener * 100_000)
    assert caught.value.fields.get("limit") == "depth"


def test_deep_elements_read_many_at_a_time_are_read_or_refused() -> None:
    """What the interpreter cannot bear is the same error as what the limit forbids."""
    deep = b'{"start_time":1,"end_time":2,"text":"t","x":%b%b}' % (b"[" * 5000, b"]" * 5000)
    good = b'{"start_time":1,"end_time":2,"text":"t"}'
    reading = TranscriptParser()
    parts = reading.feed(b"[%b,%b,%b]" % (b",".join([good] * 100), deep, good))
    with pytest.raises(RemoteProtocolError) as caught:
        reading.end()
    assert caught.value.fields["limit"] == "depth"
    assert caught.value.fields["offset"] == 1 + 100 * (len(good) + 1)
    assert len(gathered(parts).segments) == 100


def test_bad_elements_beyond_their_number_are_only_counted() -> None:
    """A caller that keeps what it is given keeps no more than that."""
    parts = [
        *(reading := small_reader(bad_elements=5)).feed(b"[%b1]" % (b"1," * 99)),
        *reading.end(),
    ]
    given = [each.index for part in parts if isinstance(part, SegmentBatch) for each in part.bad]
    assert given == [0, 1, 2, 3, 4]
    assert isinstance(parts[-1], FieldsRead)
    assert parts[-1].bad == 100


def ignored_values() -> bytes:
    """A large object of everything: objects, mixed lists, lists of lists, numbers, many keys."""
    pieces = [b'{"acoustic":[{"a":{"b":[1,2,{"c":"]}"}]}},{"a":"\\ud800"},[[],[[1.5e3]],null],"x"']
    pieces += [b',{"a":[%d,"text",true]}' % place for place in range(4000)]
    pieces += [b",[%d,[%d]]" % (place, place) for place in range(4000)]
    pieces += [b'],"topics":{"k":0']
    pieces += [b',"k%d":{"v":%d}' % (place, place) for place in range(4000)]
    pieces += [b'},"numbers":[0', *(b",%d.5" % place for place in range(80_000)), b"]}"]
    return b'{"transcripts":[{"analytics":%b,"phrases":[]}]}' % b"".join(pieces)


def test_large_values_that_nobody_asked_for_are_passed_over_in_little_memory() -> None:
    """They are entered, not kept."""
    body = ignored_values()
    tracemalloc.start()
    parts = list_fed(TranscriptParser(), body, 10_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(body) // 2
    assert gathered(parts).fields == read_whole(body).fields


@pytest.mark.parametrize("fault", [b"[[1.5e3]", b'"text"', b'"k79', b",777.5", b'"phrases"'])
def test_what_is_no_json_is_seen_where_nobody_looks(fault: bytes) -> None:
    """Values that are passed over are read all the same."""
    body = ignored_values()
    place = body.rfind(fault)
    with pytest.raises(RemoteProtocolError) as caught:
        list_fed(TranscriptParser(), body[:place] + b"?" + body[place + 1 :], 10_000)
    offset = caught.value.fields["offset"]
    assert isinstance(offset, int)
    assert place <= offset < place + 8


def list_fed(reading: TranscriptParser, body: bytes, size: int) -> list[StoredPart]:
    parts: list[StoredPart] = []
    for start in range(0, len(body), size):
        parts += reading.feed(body[start : start + size])
    return parts + reading.end()


@pytest.mark.parametrize("at", ["end", "all"])
def test_what_looks_like_a_segment_inside_one_costs_time_at_most_in_proportion(
    at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guesses that are wrong are few: the same decode is not tried for every one of them."""
    good = {"start_time": 1, "end_time": 2, "text": "t"}
    front = [good if at == "end" else good | {"x": [good] * 20}] * 200
    body = json.dumps([*front, good | {"x": [good] * 2500}]).encode()
    decoded_bytes = 0
    decoded = lists.ElementReader._decoded

    def counted(reader: lists.ElementReader, frame: Frame, block: bytes) -> list[Segment]:
        nonlocal decoded_bytes
        decoded_bytes += len(block)
        return decoded(reader, frame, block)

    monkeypatch.setattr(lists.ElementReader, "_decoded", counted)
    parts = list_fed(TranscriptParser(), body, 2000)
    assert len(gathered(parts).segments) == len(front) + 1
    assert len(body) < decoded_bytes < 12 * len(body)


GROWTH = """
import sys
from pathlib import Path
from steno.wire.stored_transcripts import TranscriptParser

def rss():
    # Not what the parent took before it started this, as ``getrusage`` would tell.
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024

def read(megabytes):
    reading = TranscriptParser()
    reading.feed(b'{"transcript":[')
    found = 0
    block = b",".join(
        b'{"start_time":%d.25,"end_time":%d,"text":"%b","speaker_id":"a"}'
        % (place, place + 1, b"the weather today is fine " * 10) for place in range(1000)
    )
    for number in range(megabytes * 1_000_000 // len(block)):
        data = block if number == 0 else b"," + block
        for start in range(0, len(data), 262144):
            found += sum(len(part.segments) for part in reading.feed(data[start : start + 262144]))
    reading.feed(b"]}")
    assert reading.end()[-1].segments >= found > 0

read(5)
before = rss()
read(int(sys.argv[1]))
print(rss() - before)
"""


def grown_mb(megabytes: int) -> float:
    """Return how much the peak grew from a file of 5 MB to one of this size."""
    run = subprocess.run(
        [sys.executable, "-c", GROWTH, str(megabytes)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    return float(run.stdout)


def test_memory_does_not_grow_with_the_file() -> None:
    """100 MB take no more than 5 MB did."""
    assert grown_mb(100) < 3


@pytest.mark.soak
def test_memory_does_not_grow_with_a_file_of_a_gigabyte() -> None:
    """Nor do 1000 MB."""
    assert grown_mb(1000) < 3
