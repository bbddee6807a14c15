"""Transcript stream: addresses, decoding of every kind of message, and liveness."""

from __future__ import annotations

import hashlib
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from steno.core.transcript import Fragment
from steno.ports import Quarantined
from steno.wire.transcript_stream import (
    IGNORED,
    Decoder,
    Liveness,
    Ping,
    PongLate,
    PongSeen,
    stream_url,
)

CONVERSATION = "c9a8b7d6-e5f4-3210-9876-543210fedcba"
PUBLISHED = {
    "event": "TRANSCRIPT_UPDATE",
    "conversationId": CONVERSATION,
    "participantId": "p1a2b3c4-d5e6-7890-1234-567890abcdef",
    "transcript": "The weather today is",
    "confidence": 0.78,
    "isFinal": False,
    "language": "en-US",
    "timestamp": "2024-01-15T10:30:00Z",
}
SECRET = "4111 1111 1111 1111"


def encoded(**changes: object) -> bytes:
    message = PUBLISHED | changes
    return json.dumps({k: v for k, v in message.items() if v is not ...}).encode()


def decoded(data: bytes) -> object:
    return Decoder(max_bytes=100_000).decode(data, now=7.5, utc_us=42)


def cause_of(data: bytes) -> str:
    result = decoded(data)
    assert isinstance(result, Quarantined), result
    assert result.sha256 == hashlib.sha256(data).hexdigest()
    assert (result.size_bytes, result.at_us) == (len(data), 42)
    return result.cause


def test_published_message_is_a_fragment() -> None:
    """The documents' example message fills every field a stream fragment has."""
    assert decoded(encoded()) == Fragment(
        conversation=CONVERSATION,
        lane="p1a2b3c4-d5e6-7890-1234-567890abcdef",
        text="The weather today is",  # type: ignore[arg-type]
        confidence=0.78,
        is_final=False,
        language="en-US",
        at_us=1_705_314_600_000_000,
        received_s=7.5,
    )


@pytest.mark.parametrize(
    ("timestamp", "at_us"),
    [
        ("2024-01-15T10:30:00.123456789Z", 1_705_314_600_123_457),
        ("2024-01-15T10:30:00.1Z", 1_705_314_600_100_000),
        ("2024-01-15T11:30:00+01:00", 1_705_314_600_000_000),
        ("2024-01-15T05:00:00.5-05:30", 1_705_314_600_500_000),
        ("2024-01-15t10:30:00z", 1_705_314_600_000_000),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_timestamps_are_read_to_the_microsecond(timestamp: str, at_us: int) -> None:
    """RFC 3339 with any offset and up to nine fractional digits, to the nearest microsecond."""
    fragment = decoded(encoded(timestamp=timestamp))
    assert isinstance(fragment, Fragment)
    assert fragment.at_us == at_us


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"confidence": 1.01}, "confidence"),
        ({"confidence": -0.01}, "confidence"),
        ({"confidence": float("nan")}, "invalid-json"),
        ({"confidence": float("inf")}, "invalid-json"),
        ({"confidence": "0.9"}, "confidence"),
        ({"confidence": None}, "confidence"),
        ({"isFinal": 1}, "isFinal"),
        ({"isFinal": "true"}, "isFinal"),
        ({"transcript": 5}, "transcript"),
        ({"transcript": None}, "transcript"),
        ({"transcript": ["x"]}, "transcript"),
        ({"conversationId": ""}, "id"),
        ({"conversationId": 7}, "conversationId"),
        ({"conversationId": "../../etc"}, "id"),
        ({"conversationId": "-x"}, "id"),
        ({"conversationId": "x" * 129}, "id"),
        ({"conversationId": "x\n"}, "id"),
        ({"participantId": ""}, "id"),
        ({"participantId": "a/b"}, "id"),
        ({"participantId": "é"}, "id"),
        ({"language": ""}, "language"),
        ({"language": "en US"}, "language"),
        ({"language": 1}, "language"),
        ({"timestamp": "2024-01-15T10:30:00"}, "timestamp"),
        ({"timestamp": "2024-01-15"}, "timestamp"),
        ({"timestamp": "2024-13-15T10:30:00Z"}, "timestamp"),
        ({"timestamp": "1969-12-31T23:59:59Z"}, "timestamp"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"timestamp": 1705314600}, "timestamp"),
        ({"event": 3}, "shape"),
        ({"event": ...}, "shape"),
        ({"timestamp": ...}, "missing-key"),
        ({"confidence": ...}, "missing-key"),
        ({"participantId": ...}, "missing-key"),
    ],
)
def test_altered_fields_are_quarantined_with_their_cause(
    changes: dict[str, object], cause: str
) -> None:
    """A message with a wrong, missing or impossible value is kept out, and its cause is told."""
    assert cause_of(encoded(**changes)) == cause


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "invalid-json"),
        (b"hello", "invalid-json"),
        (b"null", "shape"),
        (b"[]", "shape"),
        (b'"TRANSCRIPT_UPDATE"', "shape"),
        (encoded() + b"{}", "invalid-json"),
        (encoded().replace(b"today", b"\xff"), "invalid-json"),
        (encoded().replace(b"today", b"\xed\xa0\x80"), "invalid-json"),
        (encoded().replace(b"today", rb"\ud800"), "invalid-json"),
        (encoded().replace(b"today", b"\x00"), "invalid-json"),
        (
            encoded().replace(b'"event"', b'"x":' + b"[" * 40_000 + b"]" * 40_000 + b',"event"'),
            "deep-nesting",
        ),
        (encoded(transcript="x" * 100_000), "oversize"),
    ],
)
def test_bytes_that_are_no_message_are_quarantined(data: bytes, cause: str) -> None:
    """Broken JSON, wrong encodings, deep nesting and giant messages have causes of their own."""
    assert cause_of(data) == cause


@pytest.mark.parametrize("length", range(len(encoded())))
def test_truncated_at_every_length_is_quarantined(length: int) -> None:
    """A frame cut off anywhere is malformed, never a fragment and never an exception."""
    assert isinstance(decoded(encoded()[:length]), Quarantined)


@pytest.mark.parametrize(
    "extra",
    [
        b'"conversationId":"other",',
        b'"conversationId" : "other",',
        b'"conversation\\u0049d":"other",',
        b'"transcript":"x",',
        b'"confidence":1,',
    ],
)
def test_a_repeated_key_is_quarantined(extra: bytes) -> None:
    """Which of two values counts is undefined in JSON, so a message with both is malformed."""
    assert cause_of(b"{" + extra + encoded()[1:]) == "repeated-key"


@pytest.mark.parametrize(
    "data",
    [
        encoded(transcript='she said "conversationId" \\ "x"'),
        encoded(channel="external", words=[{"word": "a"}, {"word": "a"}]),
        encoded(note='a "quoted" note'),
        b'{"note":"1","note":"2",' + encoded()[1:],
        encoded(transcript=""),
        encoded(confidence=1),
    ],
)
def test_unknown_keys_and_quotes_in_the_text_do_no_harm(data: bytes) -> None:
    """Keys we do not know are ignored, and words that look like keys are words."""
    fragment = decoded(data)
    assert isinstance(fragment, Fragment)
    assert fragment.text == json.loads(data)["transcript"]


@pytest.mark.parametrize(
    "data", [b'{"event":"HEARTBEAT"}', encoded(event="SESSION_ENDED"), b'{"event":""}']
)
def test_other_events_are_ignored(data: bytes) -> None:
    """An event that is not TRANSCRIPT_UPDATE owes us no field and is no fault."""
    assert decoded(data) is IGNORED


def test_nothing_of_the_content_is_kept() -> None:
    """A quarantine note holds a hash, a size and a cause, whatever was in the message."""
    for changes in ({"confidence": 2}, {"conversationId": SECRET}, {"language": SECRET}):
        assert "4111" not in repr(decoded(encoded(transcript=SECRET, **changes)))
    assert "4111" not in repr(decoded(encoded(transcript=SECRET)[:-1]))


def test_ids_are_shared_objects() -> None:
    """One conversation's fragments carry the same id object: comparing them is one pointer."""
    decoder = Decoder()
    one = decoder.decode(encoded(), now=0.0, utc_us=0)
    two = decoder.decode(encoded(), now=0.0, utc_us=0)
    assert isinstance(one, Fragment)
    assert isinstance(two, Fragment)
    assert one.conversation is two.conversation
    assert one.lane is two.lane


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(data=st.binary(max_size=400) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_a_verdict(data: bytes) -> None:
    """No input raises: it is a fragment, a quarantine note or ignored."""
    assert decoded(data) is IGNORED or isinstance(decoded(data), Fragment | Quarantined)


@given(changes=st.dictionaries(st.sampled_from(sorted(PUBLISHED)), JSON, max_size=3))
def test_any_values_give_a_verdict(changes: dict[str, object]) -> None:
    """No value in any field raises, and a fragment keeps the promises of its type."""
    result = decoded(encoded(**changes))
    if isinstance(result, Fragment):
        assert 0.0 <= result.confidence <= 1.0
        assert result.at_us >= 0
        assert result.conversation
    else:
        assert result is IGNORED or isinstance(result, Quarantined)


@given(token=st.text(min_size=1), conversation=st.sampled_from(["", "abc:1.2_3-4"]))
def test_address_carries_token_and_conversation(token: str, conversation: str) -> None:
    """Whatever the token holds, it arrives as one query value, and nothing else changes."""
    if any("\ud800" <= char <= "\udfff" for char in token):
        return
    url = urlsplit(stream_url("wss://host.example:8443/", token, conversation))
    assert (url.scheme, url.netloc) == ("wss", "host.example:8443")
    assert url.path == "/api/v2/conversations/transcripts/stream"
    wanted = {"access_token": [token]}
    if conversation:
        wanted["conversationId"] = [conversation]
    assert parse_qs(url.query, keep_blank_values=True) == wanted


# --- liveness --------------------------------------------------------------------------------


def pinged(machine: Liveness, at: float) -> bytes:
    machine.on_deadline(at)
    [ping] = machine.to_send()
    assert isinstance(ping, Ping)
    return ping.payload


def test_a_ping_every_interval_and_its_pong() -> None:
    """A ping goes out every 30 s after the last pong, and its latency is told."""
    machine = Liveness(100.0)
    assert machine.next_deadline() == 130.0
    payload = pinged(machine, 130.0)
    machine.receive_pong(payload, now=131.5)
    assert machine.events() == [PongSeen(1.5)]
    assert machine.next_deadline() == 161.5
    assert machine.whole_at == 131.5


def test_a_pong_later_than_the_limit_is_no_pong() -> None:
    """After 15 s without a pong the connection is given up, once, data or no data."""
    machine = Liveness(0.0)
    payload = pinged(machine, 30.0)
    machine.receive_messages(now=40.0)
    assert machine.next_deadline() == 45.0
    machine.on_deadline(45.0)
    assert machine.events() == [PongLate()]
    machine.receive_pong(payload, now=46.0)
    machine.on_deadline(99.0)
    assert machine.events() == []
    assert machine.next_deadline() is None
    assert machine.whole_at == 40.0


def test_a_pong_of_another_ping_answers_nothing() -> None:
    """Unsolicited and stale pongs do not prove that the last ping arrived."""
    machine = Liveness(0.0)
    machine.receive_pong(b"steno-1", now=5.0)
    first = pinged(machine, 30.0)
    machine.receive_pong(first, now=31.0)
    machine.events()
    pinged(machine, 61.0)
    machine.receive_pong(first, now=62.0)
    assert machine.events() == []
    assert machine.next_deadline() == 76.0


def test_our_own_back_pressure_is_not_the_peers_silence() -> None:
    """While we do not read, no pong can reach us, so nothing is held against the peer."""
    machine = Liveness(0.0)
    payload = pinged(machine, 30.0)
    machine.pause()
    assert machine.next_deadline() is None
    machine.on_deadline(500.0)
    machine.resume(now=500.0)
    assert machine.next_deadline() == 515.0
    machine.receive_pong(payload, now=501.0)
    assert machine.next_deadline() == 531.0
    assert machine.events() == [PongSeen(471.0)]


class LivenessRules(RuleBasedStateMachine):
    """Any order of calls leaves a legal state."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.machine = Liveness(0.0)
        self.sent: list[bytes] = []
        self.dead = 0

    @rule(step=st.floats(0, 60))
    def time_passes(self, step: float) -> None:
        self.now += step
        self.machine.on_deadline(self.now)
        self.sent += [ping.payload for ping in self.machine.to_send()]

    @rule(pick=st.integers(0, 3), noise=st.binary(max_size=3))
    def pong(self, pick: int, noise: bytes) -> None:
        payload = self.sent[-pick] if 0 < pick <= len(self.sent) else noise
        self.machine.receive_pong(payload, now=self.now)

    @rule()
    def pause(self) -> None:
        self.machine.pause()

    @rule()
    def resume(self) -> None:
        self.machine.resume(now=self.now)

    @invariant()
    def given_up_at_most_once(self) -> None:
        self.dead += sum(isinstance(event, PongLate) for event in self.machine.events())
        assert self.dead <= 1

    @invariant()
    def deadlines_do_not_lie_in_the_past(self) -> None:
        self.machine.on_deadline(self.now)
        self.sent += [ping.payload for ping in self.machine.to_send()]
        deadline = self.machine.next_deadline()
        assert deadline is None or deadline > self.now
        assert self.machine.whole_at <= self.now


TestLivenessRules = LivenessRules.TestCase
