"""Rosters: what the platform tells of participants, in its three shapes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.errors import RemoteProtocolError
from steno.wire.participants import (
    MAX_CALLS,
    MAX_NAME_CHARS,
    MAX_PARTICIPANTS,
    Call,
    Participant,
    Roster,
    decode_roster,
)

START_US = 1_772_615_700_120_000

# Shaped after the vendor's models Conversation, Participant and Call; ids and names are invented.
CONVERSATION: dict[str, Any] = {  # Any: JSON
    "id": "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01",
    "startTime": "2026-03-04T09:15:00.120Z",
    "endTime": "2026-03-04T09:16:00.120Z",
    "address": "tel:+15550100",
    "recordingState": "none",
    "participants": [
        {
            "id": "p-customer",
            "startTime": "2026-03-04T09:15:00.120Z",
            "connectedTime": "2026-03-04T09:15:00.220Z",
            "endTime": "2026-03-04T09:16:00.120Z",
            "name": "Ada Quarterly",
            "purpose": "customer",
            "attributes": {"anything": "goes"},
            "calls": [
                {
                    "id": "a90e4f33-7c21-4f6d-b1d8-3e5c7a9b2d10",
                    "state": "terminated",
                    "direction": "inbound",
                    "connectedTime": "2026-03-04T09:15:00.320Z",
                    "disconnectedTime": "2026-03-04T09:16:00.120Z",
                    "segments": [{"type": "Interact"}],
                }
            ],
        },
        {
            "id": "p-agent",
            "userId": "u-1",
            "name": "Bo Line",
            "purpose": "Agent",
            "calls": [{"id": "c-agent", "state": "connected"}],
            "chats": [],
        },
    ],
}


def encoded(body: object) -> bytes:
    return json.dumps(body).encode()


def test_everything_that_is_needed_is_read_and_the_rest_left() -> None:
    """Ids, purposes, names, calls with their times in UTC microseconds."""
    assert decode_roster(encoded(CONVERSATION)) == Roster(
        CONVERSATION["id"],
        (
            Participant(
                "p-customer",
                "customer",
                "Ada Quarterly",
                calls=(
                    Call(
                        "a90e4f33-7c21-4f6d-b1d8-3e5c7a9b2d10",
                        "terminated",
                        START_US + 200_000,
                        START_US + 60_000_000,
                    ),
                ),
                joined_us=START_US + 100_000,
                left_us=START_US + 60_000_000,
            ),
            Participant(
                "p-agent", "agent", "Bo Line", "u-1", calls=(Call("c-agent", "connected"),)
            ),
        ),
        START_US,
        START_US + 60_000_000,
    )


def test_flat_topic_makes_each_participant_its_call() -> None:
    """Topics of calls alone have the state, the times and the user at the participant."""
    body = {
        "id": "c-1",
        "participants": [
            {
                "id": "p-1",
                "purpose": "agent",
                "state": "disconnected",
                "connectedTime": "2026-03-04T09:15:00.120Z",
                "endTime": "2026-03-04T09:15:01.120Z",
                "user": {"id": "u-1", "selfUri": "/api/v2/users/u-1"},
            }
        ],
    }
    (one,) = decode_roster(encoded(body)).participants
    assert one.user_id == "u-1"
    assert one.calls == (Call("", "disconnected", START_US, START_US + 1_000_000),)


@pytest.mark.parametrize(
    ("states", "over"),
    [(["disconnected", "terminated"], True), (["disconnected", "connected"], False), ([], False)],
)
def test_roster_is_over_when_every_call_is(states: list[str], over: bool) -> None:
    """A conversation without any call is not over: nothing is known of it."""
    people = tuple(
        Participant(f"p{n}", calls=(Call(f"c{n}", state),)) for n, state in enumerate(states)
    )
    assert Roster("c", people).over is over


@pytest.mark.parametrize(
    "time", [None, "", "yesterday", 1_772_615_700, 1.5, "9999-12-31T23:59:59-23:59", "1969-01-01"]
)
def test_time_that_cannot_be_read_is_not_known(time: object) -> None:
    """It is 0; a wrong time would name a wrong person."""
    body = {"id": "c", "startTime": time, "participants": [{"id": "p", "connectedTime": time}]}
    roster = decode_roster(encoded(body))
    assert (roster.started_us, roster.participants[0].joined_us) == (0, 0)


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("  Ada\n\tQuarterly\x00 ", "Ada Quarterly"),
        ("Ada\u202e yreuQ\u2028", "Ada yreuQ"),
        ("علی\u200cرضا", "علی\u200cرضا"),
        ("x" * 1000, "x" * MAX_NAME_CHARS),
        ("+1 (555) 0100", ""),
        ("tel:+15550100", ""),
        ("Agent 007", "Agent 007"),
        (None, ""),
    ],
)
def test_name_is_fit_for_a_caption_and_is_no_number(told: str | None, kept: str) -> None:
    """One line, no marks that turn the text round, limited; a caller's number is not a name."""
    body = {"id": "c", "participants": [{"id": "p", "name": told}]}
    assert decode_roster(encoded(body)).participants[0].name == kept


def test_supervisor_who_listens_is_told_from_one_who_joins_in() -> None:
    """Monitoring and coaching is listening; barging in is speaking."""
    people = [
        {"id": "a", "monitoredParticipantId": "x"},
        {"id": "b", "coachedParticipantId": "x"},
        {"id": "c", "monitoredParticipantId": "x", "bargedParticipantId": "x"},
        {"id": "d"},
    ]
    roster = decode_roster(encoded({"id": "c", "participants": people}))
    assert [one.listening for one in roster.participants] == [True, True, False, False]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"id":5}',
        b'{"id":"../x"}',
        b'{"id":"c","participants":{}}',
        b'{"id":"c","participants":[{}]}',
        b'{"id":"c","participants":[{"id":""}]}',
        b'{"id":"c","participants":[{"id":"p"},{"id":"p"}]}',
        b'{"id":"c","participants":[{"id":"p","calls":[5]}]}',
        b'{"id":"c","x":' + b"[" * 100_000,
        b'{"id":"c","participants":[{"id":"p","name":"\xff"}]}',
        encoded({"id": "c", "participants": [{"id": f"p{n}"} for n in range(1001)]}),
        encoded({"id": "c", "participants": [{"id": "p", "calls": [{}] * (MAX_CALLS + 1)}]}),
    ],
)
def test_what_is_not_documented_is_refused_without_its_content(body: bytes) -> None:
    """One error of ours; a roster with a hole would name the wrong person."""
    assert MAX_PARTICIPANTS == 1000
    with pytest.raises(RemoteProtocolError) as refused:
        decode_roster(body)
    assert refused.value.fields["size"] == len(body)
    assert refused.value.__context__ is None or refused.value.__suppress_context__


def test_every_cut_is_refused() -> None:
    """A body that ends early is never half a roster."""
    whole = encoded(CONVERSATION)
    for size in range(len(whole)):
        with pytest.raises(RemoteProtocolError):
            decode_roster(whole[:size])


@given(st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["id", "participants", "calls", "purpose", "startTime", "user", "state"]),
        inner,
        max_size=5,
    ),
    max_leaves=20,
))  # fmt: skip
def test_any_json_gives_a_roster_or_the_error(body: object) -> None:
    """Nothing else comes out."""
    try:
        roster = decode_roster(encoded(body))
    except RemoteProtocolError:
        return
    assert roster.conversation


def test_representation_holds_no_name() -> None:
    """Rosters may stand in a log of a bug."""
    roster = decode_roster(encoded(CONVERSATION))
    assert "Quarterly" not in repr(roster)
    assert "p-customer" in repr(roster)
