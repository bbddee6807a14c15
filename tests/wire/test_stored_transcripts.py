"""Stored transcripts of both shapes: what is read of them, and what is refused."""

from __future__ import annotations

import json
from itertools import permutations

import pytest

from steno.core.stored import (
    BadElement,
    FieldsRead,
    Participant,
    ParticipantsRead,
    Segment,
    SegmentBatch,
    StoredPart,
    StoredShape,
)
from steno.core.transcript import RawText
from steno.errors import LocalProtocolError, RemoteProtocolError
from steno.wire.stored_transcripts import TranscriptParser, parse_stored

AGENT = "a1f0c2d3-0001"
PEOPLE = [
    {"id": AGENT, "name": "Agent One", "role": "agent"},
    {"id": "a1f0c2d3-0002", "name": "Customer One", "role": "customer"},
]
SEGMENTS = [
    {"start_time": 0.0, "end_time": 2.5, "text": "good morning", "speaker_id": AGENT},
    {"start_time": 3, "end_time": 4, "text": "hello", "speaker_id": "x", "confidence": 0.75},
]
DOCUMENT = {
    "self": "/api/v2/conversations/media/c1/transcripts",
    "conversation": "c1",
    "participants": PEOPLE,
    "transcript": SEGMENTS,
    "status": "completed",
    "downloadUrl": "https://store.example/t?signature=s",
    "more": {"nested": [{"deep": [1, 2.5e3, None, True, "]}"]}]},
}
WORD = {"word": "i", "confidence": 0.9, "offset": {"milliseconds": 1}, "duration": 5}
PHRASE = {
    "phraseIndex": 0,
    "participantPurpose": "external",
    "text": "i need two tickets",
    "decoratedText": "I need 2 tickets.",
    "stability": 1.0,
    "confidence": 0.91,
    "offset": {"milliseconds": 21480},
    "startTimeMs": 1772615721600,
    "duration": {"milliseconds": 1240},
    "words": [WORD, WORD],
    "alternatives": [],
}
SPOKEN = Segment(21.48, 22.72, RawText("I need 2 tickets."), "external", 0.91)
PLATFORM = {
    "organizationId": "o1",
    "conversationId": "c1",
    "communicationId": "m1",
    "startTime": 1772615700120,
    "duration": {"milliseconds": 93400},
    "participants": [
        {"participantPurpose": "external", "ani": "tel:+15550100"},
        {"participantPurpose": "internal", "userId": "u1"},
        {"participantPurpose": "internal", "userId": "u2"},
    ],
    "transcripts": [
        {
            "language": "en-us",
            "phrases": [PHRASE],
            "analytics": {"sentiment": [{"phrase": "p", "phrases": [PHRASE]}], "acoustic": []},
        }
    ],
    "uri": "/v2/x",
}


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def segments_in(parts: list[StoredPart]) -> list[Segment]:
    return [each for part in parts if isinstance(part, SegmentBatch) for each in part.segments]


def bad_in(parts: list[StoredPart]) -> list[BadElement]:
    return [each for part in parts if isinstance(part, SegmentBatch) for each in part.bad]


def fields_in(parts: list[StoredPart]) -> FieldsRead:
    assert isinstance(parts[-1], FieldsRead)
    return parts[-1]


def participants_in(parts: list[StoredPart]) -> list[Participant]:
    (read,) = (part for part in parts if isinstance(part, ParticipantsRead))
    return list(read.participants)


def phrases_read(*phrases: object, **top: object) -> list[StoredPart]:
    return parse_stored(compact(top | {"transcripts": [{"phrases": phrases}]}))


def refused(body: bytes) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_stored(body)
    return caught.value


def test_the_document_s_shape_gives_segments_participants_and_fields() -> None:
    """Times as numbers of either kind, a confidence that is missing, and all that stands on top."""
    parts = parse_stored(compact(DOCUMENT))
    assert segments_in(parts) == [
        Segment(0.0, 2.5, RawText("good morning"), AGENT, None),
        Segment(3.0, 4.0, RawText("hello"), "x", 0.75),
    ]
    assert participants_in(parts) == [
        Participant(AGENT, "Agent One", "agent"),
        Participant("a1f0c2d3-0002", "Customer One", "customer"),
    ]
    assert parts[-1] == FieldsRead(
        StoredShape.DOCUMENT,
        conversation="c1",
        status="completed",
        download_url="https://store.example/t?signature=s",
        has_transcript=True,
        segments=2,
    )


def test_the_platform_s_shape_gives_the_same_kinds_of_values() -> None:
    """The display form is preferred, a purpose stands for a participant, words are passed over."""
    parts = parse_stored(compact(PLATFORM))
    assert segments_in(parts) == [SPOKEN]
    assert participants_in(parts) == [
        Participant("external", role="external"),
        Participant("internal", role="internal"),
    ]
    assert parts[-1] == FieldsRead(
        StoredShape.PLATFORM,
        conversation="c1",
        communication="m1",
        has_transcript=True,
        segments=1,
        started_ms=1772615700120,
        duration_ms=93400,
        languages=("en-us",),
    )


@pytest.mark.parametrize("shape", [DOCUMENT, PLATFORM])
@pytest.mark.parametrize("indent", [None, 0, 2])
def test_single_bytes_give_what_the_whole_gives(shape: object, indent: int | None) -> None:
    """However a file is cut and however it is laid out, it says the same."""
    body = json.dumps(shape, indent=indent).encode()
    parser = TranscriptParser()
    parts: list[StoredPart] = []
    for place in range(len(body)):
        parts += parser.feed(body[place : place + 1])
    parts += parser.end()
    whole = parse_stored(compact(shape))
    assert segments_in(parts) == segments_in(whole)
    assert participants_in(parts) == participants_in(whole)
    assert parts[-1] == whole[-1]


def test_the_order_of_keys_is_free() -> None:
    """Participants may follow the transcript, the status may stand anywhere."""
    whole = parse_stored(compact(DOCUMENT))
    keys = ("participants", "transcript", "status", "conversation", "more")
    for order in permutations(keys):
        parts = parse_stored(compact({key: DOCUMENT[key] for key in order}))
        assert segments_in(parts) == segments_in(whole)
        assert participants_in(parts) == participants_in(whole)
        assert fields_in(parts).status == "completed"
    kinds = [type(part) for part in parse_stored(compact({"transcript": SEGMENTS, **DOCUMENT}))]
    assert kinds.index(SegmentBatch) < kinds.index(ParticipantsRead)


def test_several_transcripts_follow_one_another() -> None:
    """Their phrases come as they stand, their languages once each."""
    runs = [
        {"phrases": [PHRASE, PHRASE], "language": "en-us"},
        {"language": "de-de", "phrases": []},
        {"phrases": None},
        {"phrases": [PHRASE | {"text": "zwei", "decoratedText": ""}], "language": "de-de"},
    ]
    parts = parse_stored(compact({"transcripts": runs}))
    assert [each.text for each in segments_in(parts)] == ["I need 2 tickets."] * 2 + ["zwei"]
    assert fields_in(parts).languages == ("en-us", "de-de")


def test_durations_may_be_bare_numbers_of_milliseconds() -> None:
    """Both ways of writing one mean the same."""
    (read,) = segments_in(phrases_read(PHRASE | {"offset": 21480, "duration": 1240.0}))
    assert read == SPOKEN


def test_a_phrase_without_offset_counts_from_the_start_told_before_it() -> None:
    """The communication's start, else its transcript's; without either the phrase is bad."""
    phrase = PHRASE | {"offset": None, "startTimeMs": 1772615700120 + 21480}
    assert segments_in(phrases_read(phrase, startTime=1772615700120)) == [SPOKEN]
    run = {"startTime": 1772615700120, "phrases": [phrase]}
    assert segments_in(parse_stored(compact({"transcripts": [run]}))) == [SPOKEN]
    (bad,) = bad_in(phrases_read(phrase))
    assert bad.field == "offset"
    (bad,) = bad_in(phrases_read(phrase, startTime=1772615799999))
    assert bad.field == "startTimeMs"


def test_a_bare_list_is_a_legacy_transcript() -> None:
    """Segments without anything around them are read as the document's."""
    parts = parse_stored(compact(SEGMENTS))
    assert len(segments_in(parts)) == 2
    assert fields_in(parts).has_transcript


@pytest.mark.parametrize(
    ("body", "has_transcript"),
    [
        (b"{}", False),
        (b'{"transcript":null}', False),
        (b'{"transcripts":null}', False),
        (b'{"transcript":[]}', True),
        (b'{"transcripts":[]}', True),
        (b'{"transcripts":[{"phrases":[]}]}', True),
        (b" [\n] ", True),
    ],
)
def test_no_transcript_and_an_empty_one_are_told_apart(body: bytes, has_transcript: bool) -> None:
    """A list without elements was there; null and nothing were not."""
    fields = fields_in(parse_stored(body))
    assert fields.has_transcript is has_transcript
    assert fields.segments == 0


def test_a_status_and_a_link_are_read_without_a_transcript() -> None:
    """What a request for a large transcript is answered with; null is as good as nothing."""
    fields = fields_in(parse_stored(b'{"status":"queued","downloadUrl":null,"conversation":"c"}'))
    assert (fields.status, fields.download_url, fields.conversation) == ("queued", "", "c")
    assert "secret" not in repr(fields_in(parse_stored(b'{"downloadUrl":"https://secret"}')))


def test_a_conversation_may_be_an_object_with_an_id() -> None:
    """As in the platform's other answers."""
    body = b'{"conversation":{"id":"c1","selfUri":"/x"}}'
    assert fields_in(parse_stored(body)).conversation == "c1"


def test_shape_and_conversation_are_known_as_soon_as_they_were_read() -> None:
    """Where a transcript goes is decided before its end."""
    parser = TranscriptParser()
    parser.feed(b'{"conversationId":"c1","transcripts":[')
    assert (parser.shape, parser.conversation) == (StoredShape.PLATFORM, "c1")


def test_raw_holds_the_objects_as_they_stand() -> None:
    """Unknown fields, spaces and the writing of numbers are kept; batches join to the list."""
    first = b'{"start_time":1.50,"end_time": 2e0,\n "text":"\\u0041","note":[1]}'
    inner = first + b' , {"start_time":2,"end_time":3,"text":"b","speaker_id":null}'
    parts = parse_stored(b'{"transcript":[ %b ]}' % inner, raw=True)
    (batch,) = (part for part in parts if isinstance(part, SegmentBatch))
    assert batch.raw == inner
    assert [each.text for each in batch.segments] == ["A", "b"]
    assert batch.segments[1].speaker_id == ""


def test_raw_is_left_out_where_nobody_asked_and_for_the_platform_s_shape() -> None:
    """A phrase is no segment as the archive writes one."""
    for parts in (parse_stored(compact(DOCUMENT)), parse_stored(compact(PLATFORM), raw=True)):
        assert [part.raw for part in parts if isinstance(part, SegmentBatch)] == [None]


GOOD = b'{"start_time":1,"end_time":2,"text":"t"}'


@pytest.mark.parametrize(
    ("element", "field"),
    [
        (b"null", "element"),
        (b"7", "element"),
        (b'"text"', "element"),
        (b"[]", "element"),
        (b"{}", "start_time"),
        (b'{"start_time":1,"text":"t"}', "end_time"),
        (b'{"start_time":1,"end_time":2}', "text"),
        (b'{"start_time":"1","end_time":2,"text":"t"}', "start_time"),
        (b'{"start_time":true,"end_time":2,"text":"t"}', "start_time"),
        (b'{"start_time":1,"end_time":2,"text":5}', "text"),
        (b'{"start_time":1,"end_time":2,"text":null}', "text"),
        (b'{"start_time":-1,"end_time":2,"text":"t"}', "start_time"),
        (b'{"start_time":3,"end_time":2,"text":"t"}', "end_time"),
        (b'{"start_time":1,"end_time":1e999,"text":"t"}', "end_time"),
        (b'{"start_time":1705314600000,"end_time":1705314600001,"text":"t"}', "start_time"),
        (b'{"start_time":1,"end_time":2,"text":"t","speaker_id":4}', "speaker_id"),
        (b'{"start_time":1,"end_time":2,"text":"t","confidence":1.5}', "confidence"),
        (b'{"start_time":1,"end_time":2,"text":"t","confidence":"high"}', "confidence"),
        (b'{"start_time":1,"end_time":2,"text":"\\ud800 t"}', "escape"),
        (b'{"start_time":1,"end_time":2,"text":"t","odd\\ude00":1}', "escape"),
    ],
)
@pytest.mark.parametrize("around", [1, 40])
def test_a_bad_segment_is_named_and_the_rest_goes_on(
    element: bytes, field: str, around: int
) -> None:
    """Its index, the byte it begins at and a word of ours; its neighbours are all read."""
    front = b'{"transcript":[' + b",".join([GOOD] * around) + b", "
    body = front + element + b"," + b",".join([GOOD] * around) + b"]}"
    parts = parse_stored(body, raw=True)
    assert bad_in(parts) == [BadElement(around, len(front), field)]
    assert len(segments_in(parts)) == 2 * around
    assert fields_in(parts).bad == 1
    batches = [part for part in parts if isinstance(part, SegmentBatch)]
    # Wherever batches begin, a segment's index is its batch's and its place in there.
    for batch in batches:
        assert (batch.raw or b"").count(GOOD) == len(batch.segments)
    indices = [part.first + place for part in batches for place in range(len(part.segments))]
    assert indices == [place for place in range(2 * around + 1) if place != around]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"offset": {"milliseconds": -1}}, "offset"),
        ({"offset": {}}, "offset"),
        ({"duration": "PT1S"}, "duration"),
        ({"duration": None}, "duration"),
        ({"text": 5}, "text"),
        ({"text": None, "decoratedText": None}, "text"),
        ({"decoratedText": []}, "decoratedText"),
        ({"participantPurpose": 1}, "participantPurpose"),
        ({"confidence": -0.1}, "confidence"),
    ],
)
def test_a_bad_phrase_is_named_and_the_rest_goes_on(changes: dict[str, object], field: str) -> None:
    """The platform's field names are told."""
    parts = phrases_read(PHRASE, PHRASE | changes, PHRASE)
    assert [(each.index, each.field) for each in bad_in(parts)] == [(1, field)]
    assert segments_in(parts) == [SPOKEN, SPOKEN]


def test_bad_participants_are_told_and_the_others_kept() -> None:
    """By their place in the list; an id that comes twice counts where it came first."""
    people = [3, {"name": "N"}, {"id": "a", "name": None}, {"id": "a", "role": "agent"}, {"id": 1}]
    parts = parse_stored(compact({"participants": people}))
    (read,) = (part for part in parts if isinstance(part, ParticipantsRead))
    assert read.participants == (Participant("a"),)
    assert [(each.index, each.field) for each in read.bad] == [(0, "element"), (1, "id"), (4, "id")]


@pytest.mark.parametrize(
    ("body", "offset"),
    [
        (b"", 0),
        (b"   ", 3),
        (b"\xef\xbb", 2),
        (b'{"transcript":[', 15),
        (b'{"a":12', 7),
        (b'{"a":tru', 8),
        (b'{"a":"\xc3', 7),
        (b'{"a":1}x', 7),
        (b'{"a":1} {}', 8),
        (b'{"a" 1}', 5),
        (b'{"a":1,}', 7),
        (b'{"a":[1,]}', 8),
        (b'{"a":01}', 6),
        (b'{"a":"\xff"}', 6),
        (b'{"a":"b\nc"}', 7),
        (b"{'a':1}", 1),
        (b'{"a":NaN}', 5),
        (b'{"transcript":[%b %b]}' % (GOOD, GOOD), 16 + len(GOOD)),
        (b'{"transcript":[%b,]}' % GOOD, 16 + len(GOOD)),
        (b'{"transcript":[%b}' % GOOD, 15 + len(GOOD)),
        (b'{"transcript":[%b,{"a":x}]}' % GOOD, 21 + len(GOOD)),
        (b'[{"a":"\xed\xa0\x80"}]', 7),
        (b"[1,2]]", 5),
    ],
)
def test_what_is_no_json_is_refused_with_the_byte(body: bytes, offset: int) -> None:
    """Cut off, the byte is the length; else the one where it stops being JSON."""
    assert refused(body).fields["offset"] == offset


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"null", "transcript"),
        (b'"text"', "transcript"),
        (b'{"transcript":{}}', "transcript"),
        (b'{"transcript":"text"}', "transcript"),
        (b'{"participants":7}', "participants"),
        (b'{"transcripts":[4]}', "transcripts"),
        (b'{"transcripts":[{"phrases":{}}]}', "phrases"),
        (b'{"status":5}', "status"),
        (b'{"downloadUrl":["u"]}', "downloadUrl"),
        (b'{"conversation":5}', "conversation"),
        (b'{"transcript":[],"transcript":[]}', "transcript"),
        (b'{"transcript":[],"transcripts":[]}', "transcripts"),
        (b'{"participants":[],"participants":[]}', "participants"),
        (b'{"transcripts":[{"phrases":[],"phrases":[]}]}', "phrases"),
    ],
)
def test_what_is_no_transcript_is_refused_with_the_field(body: bytes, field: str) -> None:
    """A list that is none, and a second one: the first is given out already."""
    assert refused(body).fields["field"] == field


def test_a_byte_order_mark_is_passed_over() -> None:
    """At the very beginning only."""
    body = b"\xef\xbb\xbf" + compact(DOCUMENT)
    parser = TranscriptParser()
    parts = [*parser.feed(body[:2]), *parser.feed(body[2:]), *parser.end()]
    assert len(segments_in(parts)) == 2
    assert refused(b" \xef\xbb\xbf{}").fields["offset"] == 1


def test_what_stood_before_a_fault_is_given_out_before_the_error() -> None:
    """The error comes with the next call, and with every one after it."""
    parser = TranscriptParser()
    given = parser.feed(b'{"transcript":[%b,%b,oh]}' % (GOOD, GOOD))
    assert len(segments_in(given)) == 2
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            parser.feed(b" ")
        with pytest.raises(RemoteProtocolError) as caught:
            parser.end()
        assert caught.value.fields["offset"] == 17 + 2 * len(GOOD)


def test_a_file_ends_once() -> None:
    """Its fields come once, and nothing follows them."""
    reading = TranscriptParser()
    reading.feed(b"[]")
    assert reading.end()
    with pytest.raises(LocalProtocolError):
        reading.end()
    with pytest.raises(LocalProtocolError):
        reading.feed(b" ")


def test_an_error_holds_no_text_of_the_file() -> None:
    """Whatever is wrong, the message is made of our words and numbers."""
    for body in (
        b'{"transcript":[{"start_time":1,"end_time":2,"text":"card 4111" "x"}]}',
        b'{"status":["card 4111"]}',
        b'{"card 4111":oh}',
    ):
        error = refused(body)
        assert "4111" not in f"{error} {error.fields} {error.args}"
        assert error.__cause__ is None
