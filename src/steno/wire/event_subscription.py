"""The tutorials' event socket: its address and its subscription.

After the upgrade we say what we want:

    {"type":"subscribe","events":["conversation.transcription.update"]}

and are answered ``{"type":"subscribed",…}`` or ``{"type":"error","status":403,…}``.
``Subscription`` follows the question and its answer. Its states:

    idle --opened--> asked --"subscribed"--> subscribed --"error"--> refused
    idle --opened, nothing to be asked--> subscribed
                     asked --"error"--> refused
                     asked --no answer in time--> silent

Sources: the tutorials' diarisation document; RFC 6750, 2.1 (bearer header).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from steno.errors import AuthError, PeerUnavailable, RateLimited, StenoError
from steno.wire.refusals import MAX_REFUSAL_BYTES, Refusal, read_refusal

PATH = "/api/v2/websocket"
EVENTS = ("conversation.transcription.update",)
READ_SCOPE = "conversation:transcript:read"
CONNECT_SCOPE = "websocket:connect"
REQUEST_ID = "X-Request-Id"

ANSWER_LIMIT_S = 15.0
"""A subscription that has no answer by then will have none."""


def socket_url(ws_base: str, path: str = PATH) -> str:
    """Return the address; it carries no credential.

    Args:
        ws_base: ``wss://host[:port]``.
        path: With its leading slash.
    """
    return f"{ws_base.rstrip('/')}{path}"


def socket_headers(token: str, request_id: str = "") -> tuple[tuple[str, str], ...]:
    """Return the headers of the upgrade, the token in one of them.

    Args:
        token: Access token.
        request_id: By which both sides find this call again; empty sends none.
    """
    headers = (("Authorization", f"Bearer {token}"), ("Accept", "application/json"))
    return (*headers, (REQUEST_ID, request_id)) if request_id else headers


class State(StrEnum):
    """How far a subscription is; see the top of the file."""

    IDLE = "idle"
    ASKED = "asked"
    SUBSCRIBED = "subscribed"
    REFUSED = "refused"
    SILENT = "silent"


_MOVES: Final = {
    State.IDLE: frozenset({State.ASKED, State.SUBSCRIBED}),
    State.ASKED: frozenset({State.SUBSCRIBED, State.REFUSED, State.SILENT}),
    State.SUBSCRIBED: frozenset({State.REFUSED}),
    State.REFUSED: frozenset[State](),
    State.SILENT: frozenset[State](),
}


class _Answer(msgspec.Struct, gc=False):
    type: str


_answer = msgspec.json.Decoder(_Answer).decode


class Subscription:
    """Follows one connection's subscription. Times are monotonic seconds.

    Args:
        events: Event types to ask for; none means that events come unasked.
        limit_s: How long an answer may take.
    """

    def __init__(self, events: Sequence[str] = EVENTS, *, limit_s: float = ANSWER_LIMIT_S) -> None:
        self._events = tuple(events)
        self._limit_s = limit_s
        self._deadline: float | None = None
        self._to_send: list[str] = []
        self.state = State.IDLE
        self.refusal: Refusal | None = None
        """What the error said, once there was one."""

    @property
    def subscribed(self) -> bool:
        """Events come from here on."""
        return self.state is State.SUBSCRIBED

    def opened(self, *, now: float) -> None:
        """Take note that the connection is open: ask, where there is anything to be asked."""
        if self.state is not State.IDLE:
            return
        if not self._events:
            self._move(State.SUBSCRIBED)
            return
        self._move(State.ASKED)
        self._deadline = now + self._limit_s
        question = {"type": "subscribe", "events": self._events}
        self._to_send.append(msgspec.json.encode(question).decode())

    def receive_message(self, data: bytes) -> bool:
        """Look at a message that is no event; True when it is an answer.

        An error counts at any time: after ``subscribed`` it ends the subscription. What comes
        before the question, or after the end, changes nothing.
        """
        kind = _kind_of(data)
        if kind == "subscribed":
            if self.state is State.ASKED:
                self._move(State.SUBSCRIBED)
            return True
        if kind != "error":
            return False
        if State.REFUSED in _MOVES[self.state]:
            self.refusal = read_refusal(data)
            self._move(State.REFUSED)
        return True

    def next_deadline(self) -> float | None:
        """Return when ``on_deadline`` wants to be called; None: no answer is awaited."""
        return self._deadline

    def on_deadline(self, now: float) -> None:
        """Give up waiting for an answer, when it is time."""
        if self._deadline is not None and now >= self._deadline:
            self._move(State.SILENT)

    def to_send(self) -> list[str]:
        """Return the texts to be sent, oldest first."""
        wanted, self._to_send = self._to_send, []
        return wanted

    def _move(self, to: State) -> None:
        assert to in _MOVES[self.state]
        self.state = to
        self._deadline = None


def _kind_of(data: bytes) -> str:
    """Return the message's type where it may be an answer: those are short and plain."""
    if len(data) > MAX_REFUSAL_BYTES or (b'"error"' not in data and b'"subscribed"' not in data):
        return ""
    try:
        return _answer(data).type
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""


def error_of(refusal: Refusal, *, host: str) -> StenoError:
    """Return the error of ours for a refused subscription.

    ``AuthError`` for 400 to 499, ``RateLimited`` for 429, else ``PeerUnavailable``: the same
    question may be answered otherwise later.
    """
    facts: dict[str, Any] = {  # the constructors name other parameters before the free fields
        "host": host,
        "action": "subscription",
        "status": refusal.status or None,
        "code": refusal.code or None,
        "correlation_id": refusal.correlation_id or None,
    }
    if refusal.status == 429:
        return RateLimited(**facts)
    if refusal.status == 408 or not 400 <= refusal.status < 500:
        return PeerUnavailable("the host did not take the subscription", **facts)
    return AuthError("the subscription was refused", **facts)
