"""Who takes part in a conversation, as the platform describes it.

Three shapes are read, because three places tell of participants:

``GET /api/v2/conversations/{id}``            start and end, participants with their ``calls[]``
topics ``….conversations`` of queues, users   the same without the conversation's own times
topics ``….conversations.calls``              flat: a participant *is* a call; no call ids

Times that are missing or cannot be read are 0 (nobody knows), which the reader of a roster has
to expect anyway. Everything else that is not as documented refuses the whole body: a roster
with a hole would name the wrong person.

Source: Genesys Cloud, Conversations API (Conversation, Participant, Call) and the conversation
topics' schemas.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from steno.core.ids import is_id
from steno.errors import RemoteProtocolError

MAX_PARTICIPANTS = 1000
MAX_CALLS = 100
"""Of one participant."""
MAX_NAME_CHARS = 128

OVER = frozenset({"disconnected", "terminated"})
"""States of a call that is over, or that never was answered."""

_MAX_US = 253_402_300_800_000_000  # year 10000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,31}")
# Control characters, line separators and marks that turn the reading direction.
_UNSEEN = re.compile(r"[\x00-\x20\x7f-\xa0\u2028-\u202e\u2066-\u2069]+")
_DIGIT = re.compile(r"[0-9]")
_NUMBER_DIGITS = 6

Time = str | int | float | None
"""Only text is read as a time; the rest is tolerated and tells nothing."""


class Call(msgspec.Struct, frozen=True, gc=False):
    """One leg of a participant.

    Attributes:
        id: The communication id; empty where the body is flat.
        state: Lower case: ``connected``, ``alerting``, ``disconnected``, …; empty: not told.
        connected_us, disconnected_us: UTC microseconds; 0 where nobody knows, or not yet.
    """

    id: str
    state: str = ""
    connected_us: int = 0
    disconnected_us: int = 0


class Participant(msgspec.Struct, frozen=True, gc=False):
    """One participant. Whoever is transferred back is a participant once more.

    Attributes:
        purpose: Lower case: ``customer``, ``external``, ``agent``, ``user``, ``ivr``, ``acd``, …
        name: Without control characters; empty where it is a phone number.
        joined_us, left_us: The participant's own times, UTC microseconds; 0: not known. One who
            never answered has them too, so they are weaker than those of its calls.
        listening: A supervisor who hears the call (monitors, coaches) and is not heard in it.
    """

    id: str
    purpose: str = ""
    name: str = ""
    user_id: str = ""
    calls: tuple[Call, ...] = ()
    joined_us: int = 0
    left_us: int = 0
    listening: bool = False

    def __repr__(self) -> str:
        return f"Participant(id={self.id!r}, purpose={self.purpose!r})"


class Roster(msgspec.Struct, frozen=True, gc=False):
    """The participants of a conversation at one moment.

    Attributes:
        started_us, ended_us: The conversation's own times, UTC microseconds; 0: not told.
    """

    conversation: str
    participants: tuple[Participant, ...] = ()
    started_us: int = 0
    ended_us: int = 0

    @property
    def over(self) -> bool:
        """Every call there was is over."""
        calls = [call for one in self.participants for call in one.calls]
        return bool(calls) and all(call.state in OVER for call in calls)


class _Call(msgspec.Struct, rename="camel"):
    id: str | None = None
    state: str | None = None
    connected_time: Time = None
    disconnected_time: Time = None


class _User(msgspec.Struct):
    id: str | None = None


class _Participant(msgspec.Struct, rename="camel"):
    id: str
    purpose: str | None = None
    name: str | None = None
    user_id: str | None = None
    user: _User | None = None
    state: str | None = None
    start_time: Time = None
    connected_time: Time = None
    end_time: Time = None
    calls: Annotated[list[_Call], msgspec.Meta(max_length=MAX_CALLS)] | None = None
    monitored_participant_id: str | None = None
    coached_participant_id: str | None = None
    barged_participant_id: str | None = None


class _Conversation(msgspec.Struct, rename="camel"):
    id: str
    start_time: Time = None
    end_time: Time = None
    participants: (
        Annotated[list[_Participant], msgspec.Meta(max_length=MAX_PARTICIPANTS)] | None
    ) = None


_decode = msgspec.json.Decoder(_Conversation).decode


def decode_roster(body: bytes) -> Roster:
    """Read a conversation as the REST API or a topic describes it.

    Raises:
        RemoteProtocolError: Not a documented shape, an id that is none, or too many
            participants. The error holds nothing of the body.
    """
    try:
        conversation = _decode(body)
    # Deep nesting in a field that is skipped is a RecursionError.
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _malformed(body) from None
    people = tuple(_participant(one) for one in conversation.participants or ())
    ids = (conversation.id, *(one.id for one in people))
    if not all(is_id(one) for one in ids) or len(set(ids[1:])) != len(people):
        raise _malformed(body)
    return Roster(conversation.id, people, _us(conversation.start_time), _us(conversation.end_time))


def _participant(told: _Participant) -> Participant:
    joined_us = _us(told.connected_time) or _us(told.start_time)
    left_us = _us(told.end_time)
    calls: tuple[Call, ...] = tuple(_call(call) for call in told.calls or ())
    if told.calls is None and told.state is not None:  # flat: the participant is its call
        state = _word(told.state)
        connected_us = _us(told.connected_time)
        calls = (Call("", state, connected_us, left_us if state in OVER else 0),)
    user_id = told.user_id or (told.user.id if told.user is not None else None) or ""
    return Participant(
        id=told.id,
        purpose=_word(told.purpose),
        name=_name(told.name),
        user_id=user_id if is_id(user_id) else "",
        calls=calls,
        joined_us=joined_us,
        left_us=left_us,
        listening=bool(told.monitored_participant_id or told.coached_participant_id)
        and not told.barged_participant_id,
    )


def _call(told: _Call) -> Call:
    identity = told.id or ""
    return Call(
        identity if is_id(identity) else "",
        _word(told.state),
        _us(told.connected_time),
        _us(told.disconnected_time),
    )


def _word(text: str | None) -> str:
    word = (text or "").lower()
    return word if _WORD.fullmatch(word) is not None else ""


def _name(text: str | None) -> str:
    """Return a name fit for a caption; a caller's number is no name."""
    name = _UNSEEN.sub(" ", (text or "")[: 4 * MAX_NAME_CHARS]).strip()[:MAX_NAME_CHARS].rstrip()
    return "" if len(_DIGIT.findall(name)) >= _NUMBER_DIGITS else name


def _us(told: Time) -> int:
    """Return UTC microseconds; 0 for what is no instant after 1970."""
    if not isinstance(told, str):
        return 0
    try:
        at = datetime.fromisoformat(told)
        lapse = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        return 0
    told_us = (lapse.days * 86_400 + lapse.seconds) * 1_000_000 + lapse.microseconds
    return told_us if 0 < told_us < _MAX_US else 0


def _malformed(body: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(
        "the platform's answer has not the documented shape", what="conversation", size=len(body)
    )
