"""Whose queues and users a conversation came to: what live topics would have told of it.

Source: Genesys Cloud, Conversations API (``GET /api/v2/conversations/{id}``).
"""

from __future__ import annotations

import msgspec

from steno.errors import RemoteProtocolError

_MAX_PARTICIPANTS = 1000


class _Participant(msgspec.Struct, rename="camel"):
    queue_id: str | None = None
    user_id: str | None = None
    queue: _Entity | None = None
    user: _Entity | None = None


class _Entity(msgspec.Struct):
    id: str | None = None


class _Body(msgspec.Struct):
    participants: list[_Participant] = []


_read = msgspec.json.Decoder(_Body).decode


def owners(body: bytes) -> tuple[frozenset[str], frozenset[str]]:
    """Return the ids of queues and of users that took part in a conversation.

    Raises:
        RemoteProtocolError: The answer is no conversation.
    """
    try:
        people = _read(body).participants[:_MAX_PARTICIPANTS]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RemoteProtocolError("a conversation cannot be read", size_bytes=len(body)) from None
    queues = {one.queue_id or (one.queue.id if one.queue else "") for one in people}
    users = {one.user_id or (one.user.id if one.user else "") for one in people}
    return frozenset(q for q in queues if q), frozenset(u for u in users if u)
