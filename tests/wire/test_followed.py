"""Whose a conversation was: queues and users of its participants."""

from __future__ import annotations

import pytest

from steno.errors import RemoteProtocolError
from steno.wire.followed import owners


def test_queues_and_users_are_read_in_either_form() -> None:
    """As an id, or as an entity; participants without either are no matter."""
    body = (
        b'{"id":"c","participants":[{"queueId":"q1"},{"userId":"u1","queue":{"id":"q2"}},'
        b'{"user":{"id":"u2"},"queueId":null},{"purpose":"customer"}]}'
    )
    assert owners(body) == (frozenset({"q1", "q2"}), frozenset({"u1", "u2"}))


@pytest.mark.parametrize("body", [b"", b"[]", b'{"participants":7}', b"\xff", b"[" * 100_000])
def test_what_is_no_conversation_is_refused_without_a_quotation(body: bytes) -> None:
    """Only its size is told."""
    with pytest.raises(RemoteProtocolError) as caught:
        owners(body)
    assert caught.value.fields["size_bytes"] == len(body)
