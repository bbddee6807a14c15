"""Notification messages, liveness, channel life and subscriptions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.transcript import Fragment, Role
from steno.errors import ConfigError
from steno.ports import ConversationEnded, Quarantined
from steno.wire.notifications import (
    IGNORED,
    PING,
    ChannelLife,
    Decoder,
    Discovered,
    Heartbeat,
    JsonPong,
    Liveness,
    Ongoing,
    SocketClosing,
    Subscriptions,
    queue_topic,
    transcription_topic,
    user_topic,
)

CONVERSATION = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
COMMUNICATION = "a90e4f33-7c21-4f6d-b1d8-3e5c7a9b2d10"
UTTERANCE = "e1c5a7b9-0d24-4e68-9f13-7b2d4c6e8a05"
START_MS = 1_772_615_700_120

# The invented example of the platform's reference (Notifications, transcription topic).
EXAMPLE: dict[str, Any] = {  # Any: JSON
    "topicName": f"v2.conversations.{CONVERSATION}.transcription",
    "version": "2",
    "metadata": {"CorrelationId": "2f1b6c0e-9b7a-4d39-8c2f-55d0a1e3b702"},
    "eventBody": {
        "eventTime": "2026-03-04T09:15:27.412Z",
        "organizationId": "5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01",
        "conversationId": CONVERSATION,
        "communicationId": COMMUNICATION,
        "sessionStartTimeMs": START_MS,
        "transcriptionStartTimeMs": START_MS,
        "transcripts": [
            {
                "utteranceId": UTTERANCE,
                "isFinal": True,
                "channel": "EXTERNAL",
                "engineProvider": "GENESYS",
                "engineId": "r2d2",
                "dialect": "en-US",
                "alternatives": [
                    {
                        "confidence": 0.91,
                        "offsetMs": 21480,
                        "durationMs": 1240,
                        "transcript": "i need two tickets",
                        "decoratedTranscript": "I need 2 tickets.",
                        "words": [
                            {"confidence": 0.94, "offsetMs": 21480, "durationMs": 160, "word": "i"}
                        ],
                    }
                ],
            }
        ],
        "status": {"offsetMs": 21480, "status": "SESSION_ONGOING"},
    },
}


def example() -> dict[str, Any]:  # Any: JSON
    copy: dict[str, Any] = json.loads(json.dumps(EXAMPLE))
    return copy


def body(**changes: object) -> bytes:
    message = example()
    message["eventBody"] |= changes
    return encoded(message)


def transcript(**changes: object) -> dict[str, Any]:  # Any: JSON
    one: dict[str, Any] = example()["eventBody"]["transcripts"][0]
    return one | changes


def alternative(**changes: object) -> dict[str, Any]:  # Any: JSON
    return transcript(alternatives=[transcript()["alternatives"][0] | changes])


def encoded(message: object) -> bytes:
    return json.dumps(message).encode()


def decoded(data: bytes) -> list[object]:
    return list(Decoder(max_bytes=100_000).decode(data, now=7.5, utc_us=42))


def test_the_example_is_a_fragment() -> None:
    """Every field of a fragment is filled from the documented message."""
    assert decoded(encoded(EXAMPLE)) == [
        Fragment(
            conversation=CONVERSATION,
            lane=f"{COMMUNICATION}/external",
            text="I need 2 tickets.",  # type: ignore[arg-type]
            confidence=0.91,
            is_final=True,
            language="en-US",
            at_us=1_772_615_727_412_000,
            utterance=UTTERANCE,
            started_us=(START_MS + 21_480) * 1000,
            ended_us=(START_MS + 22_720) * 1000,
            role=Role.CUSTOMER,
            received_s=7.5,
            zero_us=START_MS * 1000,
        )
    ]


@pytest.mark.parametrize(
    ("channel", "lane", "role"),
    [
        ("EXTERNAL", "external", Role.CUSTOMER),
        ("INTERNAL", "internal", Role.AGENT),
        ("BOTH", "both", Role.UNKNOWN),
        ("UNKNOWN", "unknown", Role.UNKNOWN),
        ("NEW/../THING", "unknown", Role.UNKNOWN),
        (None, "unknown", Role.UNKNOWN),
    ],
)
def test_channels_are_lanes_and_roles(channel: str | None, lane: str, role: Role) -> None:
    """The communication and its channel make the lane; a channel nobody knows is unknown."""
    [fragment] = decoded(body(transcripts=[transcript(channel=channel)]))
    assert isinstance(fragment, Fragment)
    assert (fragment.lane, fragment.role) == (f"{COMMUNICATION}/{lane}", role)


def test_the_plain_form_serves_where_there_is_no_display_form() -> None:
    """DecoratedTranscript is better; transcript is good enough; neither is nothing."""
    [fragment] = decoded(body(transcripts=[alternative(decoratedTranscript=None)]))
    assert isinstance(fragment, Fragment)
    assert fragment.text == "i need two tickets"
    neither = alternative(decoratedTranscript=None, transcript=None)
    assert decoded(body(transcripts=[neither])) == [IGNORED]


@pytest.mark.parametrize("alternatives", [None, []])
def test_an_utterance_without_alternatives_is_skipped(alternatives: list[Any] | None) -> None:
    """The first alternative is not taken for granted; the message's others are not lost."""
    bare = transcript(alternatives=alternatives, utteranceId="u-0")
    first, second = decoded(body(transcripts=[bare, transcript()]))
    assert first is IGNORED
    assert isinstance(second, Fragment)


def test_missing_times_are_not_invented() -> None:
    """Without offsets there are no bounds; without eventTime the time of reading is taken."""
    message = body(
        transcripts=[alternative(offsetMs=None)], eventTime=None, transcriptionStartTimeMs=None
    )
    [fragment] = decoded(message)
    assert isinstance(fragment, Fragment)
    assert (fragment.started_us, fragment.ended_us, fragment.at_us) == (0, 0, 42)
    [fragment] = decoded(body(transcriptionStartTimeMs=None))
    assert isinstance(fragment, Fragment)
    assert fragment.started_us == (START_MS + 21_480) * 1000


def test_status_messages() -> None:
    """A session goes on, or ends; the end comes after the words of the same message."""
    assert decoded(body(transcripts=None)) == [Ongoing(CONVERSATION)]
    ended = {"offsetMs": 1, "status": "SESSION_ENDED"}
    fragment, end = decoded(body(status=ended))
    assert isinstance(fragment, Fragment)
    assert end == ConversationEnded(CONVERSATION, 1_772_615_727_412_000, COMMUNICATION)
    [end] = decoded(body(transcripts=[], status=ended))
    assert isinstance(end, ConversationEnded)


def test_late_utterances_are_as_good_as_any() -> None:
    """An utterance after SESSION_ENDED is a fragment like every other."""
    decoder = Decoder()
    decoder.decode(body(transcripts=None, status={"status": "SESSION_ENDED"}), now=0.0, utc_us=0)
    [late] = decoder.decode(encoded(EXAMPLE), now=1.0, utc_us=1)
    assert isinstance(late, Fragment)


def test_repeats_are_dropped_and_revisions_are_not() -> None:
    """The same words of the same utterance come once; a partial, its final and other words do."""
    decoder = Decoder(remembered=3)

    def give(**changes: object) -> object:
        [one] = decoder.decode(body(transcripts=[transcript(**changes)]), now=0.0, utc_us=0)
        return one

    assert isinstance(give(isFinal=False), Fragment)
    assert give(isFinal=False) is IGNORED
    assert isinstance(give(isFinal=True), Fragment)
    assert give(isFinal=True) is IGNORED
    assert isinstance(give(**alternative(decoratedTranscript="I need two")), Fragment)
    assert isinstance(give(channel="INTERNAL"), Fragment)
    assert decoder.repeats == 2
    assert isinstance(give(isFinal=False), Fragment)  # memory is bounded: the oldest is forgotten


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"topicName": "channel.metadata", "eventBody": {"message": "WebSocket Heartbeat"}},
         Heartbeat()),
        ({"topicName": "channel.metadata", "eventBody": {"message": "pong"}}, JsonPong()),
        ({"topicName": "v2.system.socket_closing", "eventBody": {"message": "x"}},
         SocketClosing()),
        ({"topicName": "v2.users.x.presence", "eventBody": {}}, IGNORED),
        ({"topicName": "v2.something.new", "eventBody": 5, "surprise": []}, IGNORED),
        ({"result": "200", "status": "subscribed", "correlationId": "x"}, IGNORED),
    ],
)  # fmt: skip
def test_control_traffic_and_strangers(message: object, expected: object) -> None:
    """Heartbeats, pongs and notices are told apart; unknown topics and fields are no fault."""
    assert decoded(encoded(message)) == [expected]


def call(*states: str | None) -> dict[str, object]:
    return {"purpose": "customer", "calls": [{"id": "c", "state": state} for state in states]}


@pytest.mark.parametrize(
    ("topic", "people", "expected"),
    [
        (queue_topic("q-1"), [call("connected")], Discovered("c-1", ended=False)),
        (user_topic("u-1"), [call("alerting", None)], Discovered("c-1", ended=False)),
        (queue_topic("q-1"), [call("disconnected"), call("connected")], Discovered("c-1", False)),
        (queue_topic("q-1"), [call("disconnected"), call("terminated")], Discovered("c-1", True)),
        (queue_topic("q-1"), None, Discovered("c-1", ended=False)),
        ("v2.routing.queues.q.conversations", [call("connected")], Discovered("c-1", False)),
        ("v2.routing.queues.q.conversations", [{"purpose": "customer", "chats": []}], IGNORED),
        ("v2.users.u.conversations", [], IGNORED),
    ],
)
def test_conversations_are_discovered(topic: str, people: object, expected: object) -> None:
    """Calls of queues and users are found, and their end; chats have nothing to transcribe."""
    message = {"topicName": topic, "eventBody": {"id": "c-1", "participants": people}}
    assert decoded(encoded(message)) == [expected]


def test_flat_topic_tells_of_the_end_too() -> None:
    """Topics of calls alone have a participant's state beside its id, and no list of calls."""
    for states, ended in ((["connected", "disconnected"], False), (["terminated"] * 2, True)):
        people = [{"id": f"p{n}", "state": state} for n, state in enumerate(states)]
        message = {
            "topicName": queue_topic("q-1"),
            "eventBody": {"id": "c-1", "participants": people},
        }
        assert decoded(encoded(message)) == [Discovered("c-1", ended)]


@pytest.mark.parametrize("rosters", [False, True])
def test_participants_are_read_when_they_are_asked_for(rosters: bool) -> None:
    """Where they cannot be read, the conversation is discovered all the same."""
    decoder = Decoder(rosters=rosters)
    for identity, readable in (("p-1", True), ("../p", False)):
        person = {"id": identity, "purpose": "agent", "calls": [{"id": "k", "state": "connected"}]}
        message = {
            "topicName": queue_topic("q-1"),
            "eventBody": {"id": "c-1", "participants": [person]},
        }
        [found] = decoder.decode(encoded(message), now=0.0, utc_us=1)
        assert isinstance(found, Discovered)
        roster = found.roster
        assert (roster is not None) == (rosters and readable)
        if roster is not None:
            assert [one.purpose for one in roster.participants] == ["agent"]


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "invalid-json"),
        (b"[]", "shape"),
        (b"{}", "shape"),
        (b'{"topicName":5}', "shape"),
        (encoded({"topicName": transcription_topic("x")}), "invalid-json"),
        (encoded({"topicName": transcription_topic("x"), "eventBody": []}), "shape"),
        (body(conversationId="../x"), "id"),
        (body(conversationId="another"), "conversation"),
        (body(communicationId=""), "id"),
        (body(communicationId=None), "shape"),
        (body(eventTime="yesterday"), "eventTime"),
        (body(eventTime="2026-03-04T09:15:27"), "eventTime"),
        (body(transcriptionStartTimeMs=-1), "shape"),
        (body(transcriptionStartTimeMs=10**18), "shape"),
        (body(transcripts={}), "shape"),
        (body(transcripts=[transcript(utteranceId="a b")]), "id"),
        (body(transcripts=[transcript(isFinal="yes")]), "shape"),
        (body(transcripts=[transcript(dialect="en US")]), "dialect"),
        (body(transcripts=[alternative(confidence=1.5)]), "shape"),
        (body(transcripts=[alternative(offsetMs=-5)]), "shape"),
        (body(transcripts=[alternative(transcript=5)]), "shape"),
        (body(note="x" * 100_000), "oversize"),
        (encoded({"topicName": queue_topic("q"), "eventBody": {"id": "a/b"}}), "id"),
        (b'{"topicName":"v2.x","eventBody":' + b"[" * 40_000 + b"]" * 40_000 + b"}",
         "deep-nesting"),
    ],
)  # fmt: skip
def test_malformed_messages_are_quarantined(data: bytes, cause: str) -> None:
    """What is not as documented is kept out, with its cause and without its content."""
    [note] = decoded(data)
    assert isinstance(note, Quarantined)
    assert (note.cause, note.size_bytes, note.source) == (cause, len(data), "notifications")


@pytest.mark.parametrize("length", range(0, len(encoded(EXAMPLE)), 3))
def test_truncated_messages_are_quarantined(length: int) -> None:
    """A frame cut off anywhere is malformed."""
    [note] = decoded(encoded(EXAMPLE)[:length])
    assert isinstance(note, Quarantined)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TOPICS = st.sampled_from(
    [transcription_topic(CONVERSATION), queue_topic("q"), "channel.metadata", "v2.x"]
)


@given(
    data=st.binary(max_size=300)
    | st.builds(
        lambda topic, value: encoded({"topicName": topic, "eventBody": value}), TOPICS, JSON
    )
    | st.builds(
        lambda key, value: body(**{key: value}), st.sampled_from(sorted(EXAMPLE["eventBody"])), JSON
    )
    | st.builds(
        lambda key, value: body(transcripts=[transcript(**{key: value})]),
        st.sampled_from(sorted(EXAMPLE["eventBody"]["transcripts"][0])),
        JSON,
    )
)
def test_any_bytes_give_a_verdict(data: bytes) -> None:
    """No message raises, and every message says something."""
    assert decoded(data)


# --- liveness --------------------------------------------------------------------------------


def test_silence_leads_to_a_ping_and_its_silence_to_the_end() -> None:
    """35 s without a message: a JSON ping; 5 s without an answer: the socket is given up."""
    machine = Liveness(0.0)
    machine.receive_messages(now=10.0)
    assert machine.next_deadline() == 45.0
    machine.on_deadline(44.9)
    assert machine.to_send() == []
    machine.on_deadline(45.0)
    assert machine.to_send() == [PING]
    assert machine.next_deadline() == 50.0
    machine.on_deadline(50.0)
    assert machine.dead
    assert machine.next_deadline() is None
    assert machine.whole_at == 10.0


def test_any_message_answers_the_ping() -> None:
    """Whatever arrives proves that the socket is alive."""
    machine = Liveness(0.0)
    machine.on_deadline(35.0)
    machine.receive_messages(now=36.0)
    machine.on_deadline(40.0)
    assert not machine.dead
    assert machine.next_deadline() == 71.0


def test_nothing_is_judged_while_we_do_not_read() -> None:
    """Our own back-pressure is not the platform's silence."""
    machine = Liveness(0.0)
    machine.pause()
    machine.on_deadline(1000.0)
    assert machine.next_deadline() is None
    machine.resume(now=1000.0)
    assert machine.next_deadline() == 1035.0


# --- channel life and subscriptions --------------------------------------------------------------


@given(lasts_s=st.floats(0, 10**6), draw=st.floats(0, 1, exclude_max=True))
def test_a_channel_is_replaced_before_its_end(lasts_s: float, draw: float) -> None:
    """After about 23 hours of 24, or the same share of a shorter life; never after its end."""
    life = ChannelLife(1000.0, lasts_s=lasts_s, draw=draw)
    whole_s = lasts_s if 0 < lasts_s < 86_400 else 86_400.0
    assert 1000 + 0.9 * whole_s <= life.rollover_at <= 1000 + 0.96 * whole_s
    assert not life.due(999.0)
    assert life.due(life.rollover_at)


def test_a_channel_is_replaced_when_its_token_is() -> None:
    """Delivery ends with the token that made the channel, so a new token means a new channel."""
    life = ChannelLife(0.0, token="one")
    life.receive_token("one", now=10.0)
    assert not life.due(10.0)
    life.receive_token("two", now=20.0)
    assert life.due(20.0)
    unknown = ChannelLife(0.0)
    unknown.receive_token("two", now=20.0)
    assert not unknown.due(20.0)


def test_topics_fill_channels_one_after_the_other() -> None:
    """1000 topics a channel, as few channels as possible, and room is used again."""
    places = Subscriptions(topics=2, channels=2)
    assert [places.add(topic) for topic in ("a", "b", "c", "a")] == [0, 0, 1, 0]
    assert places.on(0) == ["a", "b"]
    assert places.remove("a") == 0
    assert places.remove("a") is None
    assert places.add("d") == 0
    assert places.add("e") == 1
    with pytest.raises(ConfigError, match="more topics"):
        places.add("f")
    assert len(places) == 4
    assert places.channels_used == 2
    assert places.on(7) == []


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=200))
def test_no_channel_is_ever_overfull(steps: list[tuple[bool, int]]) -> None:
    """However topics come and go, limits hold and every topic is on exactly one channel."""
    places = Subscriptions(topics=5, channels=4)
    wanted: set[str] = set()
    for adds, number in steps:
        topic = f"t{number}"
        if not adds:
            places.remove(topic)
            wanted.discard(topic)
        elif topic in wanted or len(wanted) < 20:
            places.add(topic)
            wanted.add(topic)
    channels = [places.on(index) for index in range(4)]
    assert all(len(channel) <= 5 for channel in channels)
    assert sorted(topic for channel in channels for topic in channel) == sorted(wanted)
