"""Event socket: its address and its subscription."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.errors import AuthError, PeerUnavailable, RateLimited, StenoError
from steno.wire.event_subscription import (
    State,
    Subscription,
    error_of,
    socket_headers,
    socket_url,
)
from steno.wire.refusals import Refusal

TYPE = "conversation.transcription.update"
CONVERSATION = "c9a8b7d6-e5f4-3210-9876-543210fedcba"
SECRET = "4111 1111 1111 1111"


def event(text: str, speaker: str = "agent_1") -> bytes:
    item = {"speaker": speaker, "text": text, "start": 1, "end": 2, "confidence": 1}
    data = {"conversationId": CONVERSATION, "transcripts": [item | {"isFinal": True}]}
    return json.dumps({"type": TYPE, "data": data}).encode()


# --- address and headers -------------------------------------------------------------------------


def test_the_token_is_in_a_header_and_not_in_the_address() -> None:
    """Addresses end up in the logs of everything between; headers do not."""
    assert socket_url("wss://api.example.com:8443/") == (
        "wss://api.example.com:8443/api/v2/websocket"
    )
    assert socket_url("wss://h", "/other") == "wss://h/other"
    headers = dict(socket_headers("tok", "r-1"))
    assert headers == {
        "Authorization": "Bearer tok",
        "Accept": "application/json",
        "X-Request-Id": "r-1",
    }
    assert "X-Request-Id" not in dict(socket_headers("tok"))


# --- subscription --------------------------------------------------------------------------------


def asked() -> Subscription:
    machine = Subscription((TYPE,), limit_s=15.0)
    machine.opened(now=100.0)
    return machine


def test_a_subscription_is_asked_once() -> None:
    """After the upgrade one question goes out, with the event types in it."""
    machine = asked()
    [question] = machine.to_send()
    assert json.loads(question) == {"type": "subscribe", "events": [TYPE]}
    machine.opened(now=101.0)
    assert machine.to_send() == []
    assert (machine.state, machine.next_deadline()) == (State.ASKED, 115.0)


def test_an_answer_before_the_question_changes_nothing() -> None:
    """The socket counts as subscribed only by what was asked on it."""
    machine = Subscription((TYPE,))
    assert machine.receive_message(b'{"type":"subscribed"}')
    assert machine.receive_message(b'{"type":"error","status":403}')
    assert (machine.state, machine.refusal) == (State.IDLE, None)
    machine.opened(now=100.0)
    assert machine.state is State.ASKED


def test_subscribed_is_the_answer() -> None:
    """Whatever else the answer holds, and however often it comes."""
    machine = asked()
    assert machine.receive_message(b'{"type":"subscribed","events":["x"],"id":7}')
    assert machine.subscribed
    assert machine.next_deadline() is None
    assert machine.receive_message(b'{"type":"subscribed"}')
    assert machine.subscribed


def test_nothing_to_ask_is_subscribed_at_once() -> None:
    """Where events come unasked, no question is sent and no answer awaited."""
    machine = Subscription(())
    machine.opened(now=0.0)
    assert (machine.subscribed, machine.to_send(), machine.next_deadline()) == (True, [], None)


def test_an_error_is_kept_by_its_facts() -> None:
    """Status, code and id are kept; the words that quote us are not."""
    machine = asked()
    answer = {"type": "error", "status": 403, "code": "missing.permissions"}
    answer |= {"message": f"no {SECRET}", "contextId": "ctx-1"}
    assert machine.receive_message(json.dumps(answer).encode())
    assert machine.state is State.REFUSED
    assert machine.refusal == Refusal(403, "missing.permissions", "ctx-1")
    assert SECRET not in str(error_of(machine.refusal, host="h"))
    assert machine.receive_message(b'{"type":"subscribed"}')
    assert machine.state is State.REFUSED


def test_an_error_ends_a_subscription_that_was_good() -> None:
    """A right that is withdrawn is told by the same message, later."""
    machine = asked()
    machine.receive_message(b'{"type":"subscribed"}')
    assert machine.receive_message(b'{"type":"error","status":401}')
    assert machine.refusal == Refusal(401)


def test_no_answer_in_time_is_silence() -> None:
    """At the limit, and not before; what comes after it changes nothing."""
    machine = asked()
    machine.on_deadline(114.9)
    assert machine.state is State.ASKED
    machine.on_deadline(115.0)
    assert (machine.state, machine.next_deadline()) == (State.SILENT, None)
    machine.receive_message(b'{"type":"subscribed"}')
    machine.receive_message(b'{"type":"error","status":403}')
    assert (machine.state, machine.refusal) == (State.SILENT, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b'"error"',
        b'{"type":"ping"}',
        b'{"type":["error"]}',
        b'{"kind":"error"}',
        b'{"type":"error"',
        b'{"type":"\xff","x":"error"}',
        event(text='he said "error" and "subscribed"'),
        event(text="error", speaker="subscribed"),
        b'{"type":"error","pad":"' + b"x" * 20_000 + b'"}',
    ],
)
def test_what_is_no_answer_settles_nothing(data: bytes) -> None:
    """Events, other messages and rubbish leave the question open."""
    machine = asked()
    assert not machine.receive_message(data)
    assert machine.state is State.ASKED


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, AuthError),
        (401, AuthError),
        (403, AuthError),
        (404, AuthError),
        (408, PeerUnavailable),
        (429, RateLimited),
        (500, PeerUnavailable),
        (503, PeerUnavailable),
        (0, PeerUnavailable),
    ],
)
def test_refusals_are_typed(status: int, kind: type[StenoError]) -> None:
    """What asking again can change is retryable; what only the operator can change is not."""
    error = error_of(Refusal(status, "x.y", "id-1"), host="h")
    assert type(error) is kind
    wanted = {"status": status or None, "code": "x.y", "correlation_id": "id-1", "host": "h"}
    assert error.fields.items() >= wanted.items()


MESSAGES = st.sampled_from(
    [b'{"type":"subscribed"}', b'{"type":"error","status":403}', b"rubbish", b'{"type":"x"}']
) | st.binary(max_size=40)
STEPS = st.tuples(st.just("message"), MESSAGES) | st.tuples(
    st.sampled_from(["opened", "time"]), st.just(b"")
)


@given(steps=st.lists(STEPS, max_size=12), events=st.sampled_from([(), (TYPE,)]))
def test_any_order_of_steps_is_a_legal_life(
    steps: list[tuple[str, bytes]], events: tuple[str, ...]
) -> None:
    """At most one question; an end is an end; a deadline only while an answer is awaited."""
    machine, now, questions, seen = Subscription(events), 0.0, 0, [State.IDLE]
    for what, data in steps:
        now += 10.0
        if what == "message":
            machine.receive_message(data)
        elif what == "opened":
            machine.opened(now=now)
        else:
            machine.on_deadline(now)
        questions += len(machine.to_send())
        seen.append(machine.state)
        assert (machine.next_deadline() is not None) == (machine.state is State.ASKED)
        assert (machine.refusal is not None) == (machine.state is State.REFUSED)
    assert questions <= 1
    for last in (State.REFUSED, State.SILENT):
        if last in seen:
            assert set(seen[seen.index(last) :]) == {last}
