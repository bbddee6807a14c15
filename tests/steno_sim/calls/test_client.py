"""The client machine: no server, however wrong, makes it break its own side of the protocol."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from steno_sim.calls.client import TYPES, Client, Opening, State, duration
from steno_sim.calls.entities import check_transcript, is_uuid, seconds
from steno_sim.calls.rules import RULES

SESSION = "0b9d7a44-2c5e-4f10-8e3b-6a1c9d5e7f22"
OPENING = Opening(
    organisation="5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01",
    session=SESSION,
    conversation="7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01",
    participant="3c6d1b22-9e4f-4a5b-8d70-1f2e3d4c5b6a",
    ask_languages=True,
)
MEDIA = {"type": "audio", "format": "PCMU", "channels": ["external", "internal"], "rate": 8000}

anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(0, 9), st.text(max_size=8)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "data", "id", "channelId", "isFinal", "offset", "alternatives",
                 "interpretations", "tokens", "confidence", "languages", "media", "reason",
                 "entities", "supportedLanguages", "startPaused", "discardTo"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip
parameters = st.one_of(
    st.just({}),
    st.just({"media": [MEDIA], "supportedLanguages": []}),
    st.just({"reason": "error"}),
    st.just({"entities": [{"type": "transcript", "data": {}}]}),
    anything,
)
steps = st.one_of(
    st.tuples(st.just("message"), st.sampled_from(sorted(TYPES)), parameters),
    st.tuples(st.just("text"), st.text(max_size=20), st.none()),
    st.tuples(st.just("envelope"), anything, st.none()),
    st.tuples(st.just("wait"), st.floats(0.0, 6.0), st.none()),
    st.tuples(
        st.just("do"),
        st.sampled_from(
            ["pause", "resume", "audio", "discard", "update", "close", "binary", "end"]
        ),
        st.none(),
    ),
)


def act(client: Client, what: str, now: float) -> None:
    match what:
        case "pause":
            client.pause_self(now=now)
        case "resume":
            client.resume_self(now=now)
        case "audio" if client.may_send_audio:
            client.audio_sent(1600, 3200, now=now)
        case "discard" if client.state is State.OPEN:
            client.discard(800, now=now)
        case "update" if client.state is State.OPEN:
            client.update("fr-FR", now=now)
        case "close":
            client.close(now=now)
        case "binary":
            client.receive_binary(3, now=now)
        case "end":
            client.socket_ended(1006, now=now)
        case _:
            pass


@given(opened=st.booleans(), script=st.lists(steps, max_size=25))
def test_the_client_stays_correct_whatever_the_server_says(
    opened: bool, script: list[tuple[str, Any, Any]]
) -> None:
    """Its numbers have no hole, its positions never fall, after close comes at most an error."""
    client, now, server_seq = Client(OPENING, now=0.0, clock_runs=True), 0.0, 0
    client.open(now=0.0)
    said = [json.loads(text) for text in client.to_send()]
    first_words = [("message", "opened", {"media": [MEDIA], "supportedLanguages": []})]
    for kind, first, second in [*(first_words if opened else []), *script]:
        if kind == "message":
            server_seq += 1
            message = {"version": "2", "id": SESSION, "type": first, "seq": server_seq}
            message |= {"clientseq": client.seq, "parameters": second}
            client.receive_text(json.dumps(message), now=now)
        elif kind == "text":
            client.receive_text(first, now=now)
        elif kind == "envelope":
            client.receive_text(json.dumps(first), now=now)
        elif kind == "wait":
            now += first
            client.on_deadline(now)
        else:
            act(client, first, now)
        said += map(json.loads, client.to_send())
    assert [message["seq"] for message in said] == list(range(1, len(said) + 1))
    positions = [seconds(message["position"]) for message in said]
    assert None not in positions
    assert positions == sorted(p for p in positions if p is not None)
    kinds = [message["type"] for message in said]
    assert kinds[0] == "open"
    if "close" in kinds:
        assert kinds.count("close") == 1
        assert set(kinds[kinds.index("close") + 1 :]) <= {"error"}
    assert {violation.rule for violation in client.violations} <= set(RULES)


@given(data=anything)
def test_any_entity_is_judged(data: object) -> None:
    """Findings, not exceptions, and only of known rules."""
    found: list[str] = []
    check_transcript(data, channels=2, sent_s=1.0, report=lambda rule, _detail: found.append(rule))
    assert set(found) <= set(RULES)
    assert found


@given(samples=st.integers(0, 10**9))
def test_durations_are_plain_decimals(samples: int) -> None:
    """No exponent, and exact to the sample."""
    text = duration(samples)
    assert re.fullmatch(r"PT(?:\d*\.)?\d+S", text)
    assert round((seconds(text) or 0.0) * 8000) == samples


def test_forms() -> None:
    """Durations in seconds alone; UUIDs of the versions the platform knows."""
    assert [seconds(t) for t in ("PT0S", "PT.5S", "PT12.34S")] == [0.0, 0.5, 12.34]
    bad = ("PT1M", "PT-1S", "PT1e-05S", "1S", "PT1.S", "PT1S\n", 1)
    assert [seconds(text) for text in bad] == [None] * len(bad)
    assert is_uuid(str(uuid.uuid4()))
    assert is_uuid(str(uuid.UUID(int=0)))
    assert not is_uuid("0b9d7a44-2c5e-7f10-8e3b-6a1c9d5e7f22")
    assert not is_uuid(str(uuid.uuid4()).replace("-", ""))
