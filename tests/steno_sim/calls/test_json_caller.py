"""The JSON-form caller: its envelopes, its faults, and what it finds in wrong servers."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from conformance.call_servers import TOKEN, Envelopes
from steno_sim.calls.audio import encode, tone
from steno_sim.calls.faults import FAULTS, CallFault, End, expected
from steno_sim.calls.json_caller import JsonCaller
from steno_sim.calls.plan import Act, CallPlan
from steno_sim.calls.results import CallResult

SOUND = tone(600)
PLAN = CallPlan(
    sound=SOUND, participants=("customer-1", "agent-1"), frame_ms=20, speed=8.0, patience_s=0.1
)


async def call(server: Envelopes, plan: CallPlan = PLAN, **changes: Any) -> CallResult:
    async with server.running():
        return await JsonCaller(server.url, replace(plan, **changes), token=TOKEN).run()


def joined(server: Envelopes, participant: str) -> bytes:
    return b"".join(audio for _, audio in server.lanes[participant])


async def test_envelopes_are_those_of_the_form() -> None:
    """Seven fields of their types, numbered for each participant, with rising times."""
    server = Envelopes()
    result = await call(server)
    assert (result.violations, result.end) == ([], End.COMPLETED)
    first = server.envelopes[0]
    assert {name: type(value) for name, value in first.items()} == {
        "conversationId": str,
        "participantId": str,
        "audio": str,
        "format": str,
        "sampleRate": int,
        "sequenceNumber": int,
        "timestamp": str,
    }
    assert (first["format"], first["sampleRate"]) == ("PCMU", 8000)
    for participant in PLAN.participants:
        assert [number for number, _ in server.lanes[participant]] == list(range(30))
    assert joined(server, "agent-1") == encode(SOUND.picked((1,)), "PCMU")
    stamps = [
        datetime.fromisoformat(e["timestamp"])
        for e in server.envelopes
        if e["participantId"] == "agent-1"
    ]
    steps = {round((b - a).total_seconds() * 1000) for a, b in pairwise(stamps)}
    assert steps == {20}


async def test_longer_frames_and_l16() -> None:
    """50 ms are the most the form has."""
    server = Envelopes()
    await call(server, PLAN.offered("L16"), frame_ms=50, speed=0.0)
    assert joined(server, "customer-1") == encode(SOUND.picked((0,)), "L16")
    assert len(server.lanes["customer-1"]) == 12
    with pytest.raises(ValueError, match="20 to 50"):
        JsonCaller("ws://127.0.0.1:9/", replace(PLAN, frame_ms=60), token=TOKEN)


async def test_a_dropped_call_goes_on_with_its_numbers() -> None:
    """A second connection, and no number twice."""
    server = Envelopes()
    result = await call(server, fault=CallFault.DROP_AND_CONTINUE)
    assert [session.end for session in result.sessions] == [End.ABANDONED, End.COMPLETED]
    numbers = [number for number, _ in server.lanes["agent-1"]]
    assert len(numbers) == len(set(numbers))
    assert (server.connections, max(numbers)) == (2, 29)


@pytest.mark.parametrize(
    ("fault", "numbers"),
    [
        (CallFault.HOLES, [n for n in range(30) if n % 10 != 9]),
        (CallFault.REPEATS, sorted([*range(30), 9, 19, 29])),
        (
            CallFault.DISORDER,
            [*range(9), 10, 9, *range(11, 19), 20, 19, *range(21, 29), 29],
        ),
    ],
)
async def test_numbers_go_wrong_on_demand(fault: CallFault, numbers: list[int]) -> None:
    """Holes, repeats, and neighbours that changed places."""
    server = Envelopes()
    assert (await call(server, fault=fault, speed=0.0)).ok
    assert [number for number, _ in server.lanes["agent-1"]] == numbers


async def test_a_pause_leaves_no_hole() -> None:
    """The numbers go on where they stood; a discard leaves numbers out."""
    server = Envelopes()
    await call(server, acts=(Act(200, "pause", for_ms=100), Act(300, "discard", for_ms=100)))
    numbers = [number for number, _ in server.lanes["agent-1"]]
    assert numbers == [*range(15), *range(20, 30)]


JSON_FAULTS = [fault for fault, text in FAULTS.items() if text.family != "audiohook"]
SPOILT = {
    CallFault.BAD_BASE64,
    CallFault.MISSING_FIELD,
    CallFault.WRONG_FORMAT,
    CallFault.MALFORMED_JSON,
    CallFault.OVERSIZED,
    CallFault.BINARY,
}


@pytest.mark.parametrize("fault", JSON_FAULTS)
async def test_a_correct_server_meets_every_fault(fault: CallFault) -> None:
    """Refusals at the upgrade; a bad envelope costs itself alone."""
    server = Envelopes()
    result = await call(server, fault=fault)
    assert result.violations == []
    assert result.end in expected(fault, "json")
    assert server.bad == (fault in SPOILT)


@pytest.mark.parametrize(
    ("wrong", "fault", "rule"),
    [
        ("trusting", CallFault.WRONG_TOKEN, "fault.accepted"),
        ("trusting", CallFault.NO_TOKEN, "fault.accepted"),
        ("trusting", CallFault.WRONG_ORIGIN, "fault.accepted"),
        ("touchy", CallFault.BAD_BASE64, "fault.fatal"),
        ("no_subprotocol", None, "upgrade.subprotocol"),
        ("hangs_up", None, "socket.ended"),
    ],
)
async def test_a_wrong_server_is_found_out(wrong: str, fault: CallFault | None, rule: str) -> None:
    """By the name of the rule it breaks."""
    result = await call(Envelopes(wrong=wrong), fault=fault)
    assert rule in [violation.rule for violation in result.violations]
