"""Event socket: decoding of good, bad and mixed events."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.transcript import Fragment, Role
from steno.ports import Quarantined
from steno.wire.event_socket import MAX_ITEMS, MAX_LABEL_CHARS, SOURCE, Decoder
from steno.wire.transcript_stream import IGNORED

TYPE = "conversation.transcription.update"
CONVERSATION = "c9a8b7d6-e5f4-3210-9876-543210fedcba"
SECRET = "4111 1111 1111 1111"
ITEM: dict[str, Any] = {
    "speaker": "agent_1",
    "text": "Thank you for calling, how can I help you today?",
    "start": 12.5,
    "end": 14.25,
    "confidence": 0.93,
    "isFinal": True,
}


def item(**changes: object) -> dict[str, object]:
    return {key: value for key, value in (ITEM | changes).items() if value is not ...}


def body(*items: object, **changes: object) -> dict[str, object]:
    made: dict[str, object] = {
        "eventType": TYPE,
        "conversationId": CONVERSATION,
        "transcripts": list(items) or [item()],
    }
    return {key: value for key, value in (made | changes).items() if value is not ...}


def enveloped(*items: object, **changes: object) -> dict[str, object]:
    return {"type": TYPE, "data": body(*items, eventType=..., **changes)}


def decoded(message: object, *, decoder: Decoder | None = None) -> list[Any]:
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    found = (decoder or Decoder(max_bytes=300_000)).decode(data, now=7.5, utc_us=42)
    assert found
    return list(found)


def causes(message: object) -> list[str]:
    return [one.cause for one in decoded(message) if isinstance(one, Quarantined)]


# --- events that are in order --------------------------------------------------------------------


EXPECTED = Fragment(
    conversation=CONVERSATION,
    lane="agent_1",
    text=ITEM["text"],
    confidence=0.93,
    is_final=True,
    language="",
    at_us=42,
    started_us=12_500_000,
    ended_us=14_250_000,
    role=Role.AGENT,
    received_s=7.5,
)


@pytest.mark.parametrize(
    "message",
    [
        body(),
        enveloped(),
        {"type": TYPE, "data": body()},
        {"type": TYPE, "eventType": TYPE, "data": body()},
        {"data": body()},
        {"type": TYPE} | body(eventType=...),
        {"type": TYPE} | body(),
        body(data=None),
        {"type": TYPE, "data": body(), "id": "m-1", "conversationId": "beside"},
        enveloped(item(words=[{"text": "Thank", "start": 12.5, "end": 12.8}], id="s-1")),
    ],
    ids=[
        "bare", "enveloped", "both", "thrice", "name-inside", "bare-by-type", "bare-twice",
        "null-data", "beside", "extras",
    ],
)  # fmt: skip
def test_both_forms_give_the_same_fragment(message: object) -> None:
    """In its envelope or bare, with more beside what we know, an event says one thing."""
    assert decoded(message) == [EXPECTED]


def test_one_fragment_for_each_item_in_their_order() -> None:
    """Items of one event stay in order, each with its own bounds."""
    items = [item(text=f"t{n}", start=n / 10, end=n / 10 + 0.05) for n in range(20)]
    found = decoded(enveloped(*items))
    assert [one.text for one in found] == [f"t{n}" for n in range(20)]
    assert [one.started_us for one in found] == [n * 100_000 for n in range(20)]


@pytest.mark.parametrize(
    ("start", "us"),
    [(0, 0), (-0.0, 0), (0.0000004, 0), (0.0000006, 1), (3, 3_000_000), (0.1 + 0.2, 300_000),
     (86_400.123456, 86_400_123_456), (1_705_314_600.5, 1_705_314_600_500_000)],
)  # fmt: skip
def test_times_are_read_to_the_microsecond(start: float, us: int) -> None:
    """Seconds, whole or not, to the nearest microsecond, on the conversation's own clock."""
    [found] = decoded(body(item(start=start, end=start)))
    assert (found.started_us, found.ended_us, found.zero_us) == (us, us, 0)


def test_an_end_before_its_start_is_told_as_it_stands() -> None:
    """Whether that is a segment is not decided here."""
    [found] = decoded(body(item(start=9.0, end=8.0)))
    assert (found.started_us, found.ended_us) == (9_000_000, 8_000_000)


@pytest.mark.parametrize(
    ("speaker", "lane", "role"),
    [
        ("agent_1", "agent_1", Role.AGENT),
        ("AGENT", "AGENT", Role.AGENT),
        ("Customer 2", "Customer 2", Role.CUSTOMER),
        ("customer", "customer", Role.CUSTOMER),
        ("system-12", "system-12", Role.SYSTEM),
        ("agent1", "agent1", Role.AGENT),
        ("  spk_0 \t", "spk_0", Role.UNKNOWN),
        ("agentina", "agentina", Role.UNKNOWN),
        ("agent_x", "agent_x", Role.UNKNOWN),
        ("reagent", "reagent", Role.UNKNOWN),
        ("Zoë", "Zoë", Role.UNKNOWN),
        ("é" * MAX_LABEL_CHARS, "é" * MAX_LABEL_CHARS, Role.UNKNOWN),
        ("", "", Role.UNKNOWN),
        ("   ", "", Role.UNKNOWN),
        (None, "", Role.UNKNOWN),
        (..., "", Role.UNKNOWN),
    ],
)
def test_labels_are_lanes(speaker: object, lane: str, role: Role) -> None:
    """The label without the space around it; a role only where it plainly says one."""
    for message in (enveloped(item(speaker=speaker)), body(item(speaker=speaker, extra="x"))):
        [found] = decoded(message)
        assert (found.lane, found.role) == (lane, role)


def test_an_id_and_a_label_are_one_object_each() -> None:
    """Tables downstream compare by identity first."""
    decoder = Decoder()
    one, two = decoded(body(), decoder=decoder), decoded(body(), decoder=decoder)
    assert one[0].conversation is two[0].conversation
    assert one[0].lane is two[0].lane


def test_known_ids_and_labels_are_bounded() -> None:
    """Any number of conversations and labels decode; memory is not theirs to grow."""
    decoder = Decoder()
    for number in range(25_000):
        message = b'{"eventType":"%s","conversationId":"c-%d","transcripts":[{"speaker":"s%d"' % (
            TYPE.encode(), number, number,
        )  # fmt: skip
        message += b',"text":"t","start":0,"end":1,"confidence":1,"isFinal":true}]}'
        [found] = decoder.decode(message, now=0.0, utc_us=0)
        assert isinstance(found, Fragment)
        assert found.lane == f"s{number}"
    assert len(decoder._ids) <= 20_000
    assert len(decoder._labels) <= 4096


@pytest.mark.parametrize(
    "text", ['say "no" twice', "back\\slash", "tab\tnew\nline", "naïve 你好 😀", "", '{"text":"x"}']
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_texts_come_through_whole(text: str, ascii_only: bool) -> None:
    """However JSON writes it, a text is the same text."""
    data = json.dumps(enveloped(item(text=text)), ensure_ascii=ascii_only).encode()
    [found] = decoded(data)
    assert found.text == text


# --- others' events ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        {"type": "subscribed", "events": [TYPE]},
        {"type": "error", "status": 403},
        {"type": "ping"},
        {"type": "conversation.updated", "data": {"conversationId": 7}},
        {"type": "conversation.updated", "data": body(item(start=-1), eventType=...)},
        {"type": "other", "data": [1, 2]},
        {"type": "other", "data": "text"},
        {"eventType": "other"},
        {"eventType": "other", "transcripts": "none"},
        {"type": "other", "data": {"eventType": "another"}},
        body(transcripts=None),
        body(transcripts=[]),
    ],
)
def test_other_events_and_empty_ones_are_ignored(message: object) -> None:
    """What is not ours, whatever its shape, is no fault; nor is an event without segments."""
    assert decoded(message) == [IGNORED]


def test_only_configured_types_are_taken() -> None:
    """The list of event types is the whole of what is taken."""
    decoder = Decoder(("a.b", "c.d"))
    assert decoded(body(eventType="c.d"), decoder=decoder)[0].text == ITEM["text"]
    assert decoded(body(), decoder=decoder) == [IGNORED]


# --- events out of order -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"start": -0.001}, "start"),
        ({"start": math.nan}, "start"),
        ({"start": math.inf}, "start"),
        ({"start": 1e10}, "start"),
        ({"start": 10**400}, "start"),
        ({"start": "1.5"}, "start"),
        ({"start": True}, "start"),
        ({"start": None}, "start"),
        ({"start": ...}, "start"),
        ({"end": -1}, "end"),
        ({"end": math.nan}, "end"),
        ({"end": -math.inf}, "end"),
        ({"end": []}, "end"),
        ({"end": ...}, "end"),
        ({"confidence": 1.01}, "confidence"),
        ({"confidence": -0.01}, "confidence"),
        ({"confidence": math.nan}, "confidence"),
        ({"confidence": "0.9"}, "confidence"),
        ({"confidence": False}, "confidence"),
        ({"confidence": None}, "confidence"),
        ({"confidence": ...}, "confidence"),
        ({"text": 5}, "text"),
        ({"text": None}, "text"),
        ({"text": ["x"]}, "text"),
        ({"text": ...}, "text"),
        ({"text": "half \ud83d pair"}, "text"),
        ({"isFinal": 1}, "isFinal"),
        ({"isFinal": "true"}, "isFinal"),
        ({"isFinal": None}, "isFinal"),
        ({"isFinal": ...}, "isFinal"),
        ({"speaker": 1}, "speaker"),
        ({"speaker": ["agent"]}, "speaker"),
        ({"speaker": "a\x00b"}, "speaker"),
        ({"speaker": "a\x1b[31mb"}, "speaker"),
        ({"speaker": "a\x85b"}, "speaker"),
        ({"speaker": "a\u202eb"}, "speaker"),
        ({"speaker": "a\ud83db"}, "speaker"),
        ({"speaker": "x" * (MAX_LABEL_CHARS + 1)}, "speaker"),
    ],
)
@pytest.mark.parametrize("form", [body, enveloped])
def test_a_bad_item_is_kept_out_by_itself(
    changes: dict[str, object], cause: str, form: Any
) -> None:
    """The others of its event go on; its note names the field, and quotes nothing."""
    bad = item(**{"text": SECRET} | changes)
    data = json.dumps(form(item(text="before"), bad, item(text="after"))).encode()
    before, note, after = decoded(data)
    assert (before.text, after.text) == ("before", "after")
    digest = hashlib.sha256(data + b"#1").hexdigest()
    assert note == Quarantined(SOURCE, digest, len(data), cause, 42)


@pytest.mark.parametrize("bad", [None, 7, "text", [], [item()]])
def test_an_item_that_is_no_object_is_kept_out(bad: object) -> None:
    """Anything but an object is no segment."""
    found = decoded(body(bad, item()))
    assert [getattr(one, "cause", "") for one in found] == ["item", ""]


def test_bad_items_of_one_event_have_notes_of_their_own() -> None:
    """Two bad segments are two facts, told apart by their hash."""
    notes = decoded(body(item(start=-1), item(start=-1)))
    assert len({note.sha256 for note in notes}) == 2


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (b"", "invalid-json"),
        (b"hello", "invalid-json"),
        (b"\xff\xfe", "invalid-json"),
        (json.dumps(body()).encode("utf-16"), "invalid-json"),
        (json.dumps(body())[:-1].encode(), "invalid-json"),
        (json.dumps(body()).encode() + b"{}", "invalid-json"),
        (json.dumps(body(item(text="TEXT"))).encode().replace(b"TEXT", b"\xff"), "invalid-json"),
        (b'{"eventType":' + b"9" * 5000 + b"}", "invalid-json"),
        (b"null", "shape"),
        (b"[]", "shape"),
        (b"7", "shape"),
        ({}, "shape"),
        ({"type": 7}, "shape"),
        ({"type": ["x"]}, "shape"),
        ({"conversationId": CONVERSATION, "transcripts": []}, "shape"),
        ({"type": TYPE, "data": body(eventType="conversation.other")}, "eventType"),
        ({"type": "conversation.other", "data": body()}, "eventType"),
        (body(type="conversation.other"), "eventType"),
        ({"type": TYPE, "data": []}, "data"),
        ({"type": TYPE, "data": "text"}, "data"),
        ({"type": TYPE}, "conversationId"),
        ({"type": TYPE, "data": {}}, "conversationId"),
        (body(conversationId=...), "conversationId"),
        (body(conversationId=7), "conversationId"),
        (body(conversationId=""), "conversationId"),
        (body(conversationId="../../etc"), "conversationId"),
        (body(conversationId="x" * 129), "conversationId"),
        (body(conversationId="x\n"), "conversationId"),
        (body(transcripts=...), "transcripts"),
        (body(transcripts={}), "transcripts"),
        (body(transcripts="x"), "transcripts"),
        (body(*[item(text="")] * (MAX_ITEMS + 1)), "items"),
        (enveloped() | {"transcripts": [item()]}, "shape"),
        (b"[" * 100_000, "deep-nesting"),
        (b'{"type":"%s","data":' % TYPE.encode() + b'{"a":' * 50_000, "deep-nesting"),
        (b" " * 300_001, "oversize"),
    ],
)  # fmt: skip
def test_events_out_of_order_are_kept_out_whole(message: object, cause: str) -> None:
    """What cannot be told apart is dropped as one, with its cause."""
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    [note] = decoded(data)
    assert note == Quarantined(SOURCE, hashlib.sha256(data).hexdigest(), len(data), cause, 42)


def test_the_largest_event_is_taken() -> None:
    """The bound on items is inclusive."""
    assert len(decoded(body(*[item(text="")] * MAX_ITEMS))) == MAX_ITEMS


# --- repeated keys -------------------------------------------------------------------------------


def repeated(message: dict[str, object], key: str, second: object) -> bytes:
    """Return the message with a key said twice, where it stands first."""
    found = json.dumps(message)
    place = found.index(f'"{key}"')
    return f"{found[:place]}{json.dumps(key)}: {json.dumps(second)}, {found[place:]}".encode()


@pytest.mark.parametrize("key", ["eventType", "conversationId", "transcripts"])
def test_an_event_that_says_a_key_twice_is_kept_out(key: str) -> None:
    """Which of two values counts differs between parsers, so neither does."""
    for second in (body()[key], "x", None, []):
        assert causes(repeated(body(), key, second)) == ["repeated-key"]
        assert causes(repeated({"type": TYPE, "data": body()}, key, second)) == ["repeated-key"]


@pytest.mark.parametrize("key", ["type", "data"])
def test_an_envelope_that_says_a_key_twice_is_kept_out(key: str) -> None:
    """The same of the envelope."""
    assert causes(repeated(enveloped(), key, enveloped()[key])) == ["repeated-key"]


@pytest.mark.parametrize("key", list(ITEM))
@pytest.mark.parametrize("more", [{}, {"id": "extra"}])
def test_an_item_that_says_a_key_twice_is_kept_out_by_itself(
    key: str, more: dict[str, object]
) -> None:
    """Only the segment in doubt is dropped."""
    for second in (ITEM[key], None, "x"):
        data = repeated(body(item(text="a", **more), item(text="b", **more)), key, second)
        found = decoded(data)
        assert [getattr(one, "cause", "") for one in found] == ["repeated-key", ""]
        assert found[1].text == "b"


def test_a_key_spelt_with_escapes_is_the_same_key() -> None:
    """A reader of raw bytes would not see it twice."""
    data = json.dumps(body()).replace('"text"', '"text": "x", "te\\u0078t"').encode()
    assert causes(data) == ["repeated-key"]


def test_our_keys_inside_of_others_objects_are_theirs() -> None:
    """Words with bounds of their own repeat our keys in objects that are not ours."""
    words = [{"text": "a", "start": 1, "end": 2}, {"text": "b", "start": 2, "end": 3}]
    assert [one.text for one in decoded(body(item(text="x", words=words)))] == ["x"]
    twice = json.dumps(body(item(text="x", more={"text": 1}))).replace(
        '{"text": 1}', '{"text": 1, "text": 2}'
    )
    assert [one.text for one in decoded(twice.encode())] == ["x"]


# --- any input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [body(item(), item(speaker=None)), enveloped(item(), item())])
def test_an_event_cut_anywhere_is_malformed(message: object) -> None:
    """No beginning of an event passes for one."""
    data = json.dumps(message).encode()
    decoder = Decoder()
    for length in range(len(data)):
        [note] = decoder.decode(data[:length], now=0.0, utc_us=0)
        assert isinstance(note, Quarantined)
        assert note.cause == "invalid-json"


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_an_altered_byte_never_raises(place: int, byte: int) -> None:
    """A flipped byte gives a fragment, a note or nothing of interest, each well formed."""
    data = bytearray(json.dumps(enveloped(item(), item(speaker="customer"))).encode())
    data[place % len(data)] = byte
    check(bytes(data))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([TYPE, CONVERSATION, "agent", ""]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [*ITEM, "type", "data", "eventType", "conversationId", "transcripts", "x"]
            ),
            inner,
            max_size=8,
        )
    ),
    max_leaves=25,
)
ITEMS = st.fixed_dictionaries(
    {
        "text": st.text() | JSON,
        "start": st.floats() | JSON,
        "end": st.floats(0, 100) | JSON,
        "confidence": st.floats(0, 1) | JSON,
        "isFinal": st.booleans() | JSON,
    },
    optional={"speaker": st.text() | JSON, "words": JSON},
)


@given(data=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_and_any_json_are_decoded_or_told(data: bytes) -> None:
    """Nothing raises."""
    check(data)


@given(items=st.lists(ITEMS | JSON, max_size=5), bare=st.booleans(), extra=st.booleans())
def test_the_quick_way_and_the_slow_way_agree(items: list[Any], bare: bool, extra: bool) -> None:
    """What is plainly in order means what a second look would find; one answer for each item."""
    message = (body if bare else enveloped)(transcripts=items)
    if extra:
        message["extra"] = "x"
    data = json.dumps(message).encode()
    decoder = Decoder()
    found = check(data, decoder)
    assert found == decoder._slowly(data, 1.0, 2)
    assert len(found) == max(1, len(items))


def check(data: bytes, decoder: Decoder | None = None) -> list[Any]:
    found = (decoder or Decoder()).decode(data, now=1.0, utc_us=2)
    assert found
    for one in found:
        if isinstance(one, Fragment):
            assert 0 <= one.started_us < 2**53
            assert 0 <= one.ended_us < 2**53
            assert 0.0 <= one.confidence <= 1.0
            assert one.lane == one.lane.strip()
            assert len(one.lane) <= MAX_LABEL_CHARS
            one.text.encode()
        else:
            assert one is IGNORED or isinstance(one, Quarantined)
    return list(found)
