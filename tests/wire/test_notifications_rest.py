"""Channel answers: strict about what is needed, deaf to the rest, silent about the address."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.errors import LocalProtocolError, RemoteProtocolError
from steno.wire.notifications_rest import (
    MAX_TOPICS_PER_CHANNEL,
    SubscriptionState,
    decode_channel,
    decode_subscriptions,
    decode_topics,
    encode_topics,
)

CHANNEL = {
    "id": "streaming-0-abc",
    "connectUri": "wss://streaming.mypurecloud.de/channels/streaming-0-abc",
    "expires": "2026-01-02T00:00:00.500Z",
    "unknown": {"kept": "out"},
}
DECODERS = [decode_channel, decode_subscriptions, decode_topics]


def test_channel_is_read() -> None:
    """Unknown fields are ignored; the time is UTC microseconds."""
    channel = decode_channel(json.dumps(CHANNEL).encode())
    assert channel.id == CHANNEL["id"]
    assert channel.expires_at_us == 1_767_312_000_500_000
    assert "streaming" not in repr(channel)


def test_plain_address_is_taken_on_loopback_only() -> None:
    """The simulator's ``ws://``; nobody else's."""
    local = CHANNEL | {"connectUri": "ws://127.0.0.1:8080/channels/x"}
    assert decode_channel(json.dumps(local).encode()).connect_uri.startswith("ws://127")
    with pytest.raises(RemoteProtocolError):
        decode_channel(json.dumps(CHANNEL | {"connectUri": "ws://10.0.0.1/x"}).encode())


def test_cut_channels_are_errors() -> None:
    """Cut anywhere, it is no channel."""
    body = json.dumps(CHANNEL).encode()
    for size in range(len(body)):
        with pytest.raises(RemoteProtocolError) as caught:
            decode_channel(body[:size])
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("decode", DECODERS)
@given(body=st.binary(max_size=200))
def test_any_bytes_are_read_or_a_documented_error(decode: object, body: bytes) -> None:
    """Nothing else comes out."""
    assert callable(decode)
    try:
        decode(body)
    except RemoteProtocolError:
        pass


def test_topic_without_a_state_is_permitted() -> None:
    """The state comes with ``ignoreErrors`` only."""
    body = json.dumps({"entities": [{"id": "v2.a"}, {"id": "v2.b", "state": "Rejected"}]}).encode()
    assert decode_subscriptions(body) == [
        SubscriptionState("v2.a", True),
        SubscriptionState("v2.b", False),
    ]


def test_topics_are_written_as_objects() -> None:
    """As many as a channel holds, combined ones too."""
    topics = ["v2.users.a?presence&conversations", "v2.conversations.b.transcription"]
    assert json.loads(encode_topics(topics)) == [{"id": topic} for topic in topics]
    assert encode_topics(f"v2.{n}" for n in range(MAX_TOPICS_PER_CHANNEL))
    with pytest.raises(LocalProtocolError):
        encode_topics(f"v2.{n}" for n in range(MAX_TOPICS_PER_CHANNEL + 1))
    with pytest.raises(LocalProtocolError):
        encode_topics(['v2"'])
