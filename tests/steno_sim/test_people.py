"""Who takes part in a conversation: menu, queue, agents, transfers."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from conformance.sim_peers import peer, until_quiet
from steno_sim.people import NEVER, entity
from steno_sim.pieces import Script, named_id
from steno_sim.scenario import Call, Scenario, Turn
from steno_sim.script import build
from steno_sim.server import Simulator

CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
QUEUE = "c0ffee00-51b3-4b0e-8a44-0f6e2b7c9d01"


def transferred(**turn: Any) -> Script:
    turns = [
        Turn(who="ivr", say="Please wait for a colleague."),
        Turn(who="agent", say="Hello, this is Anna."),
        Turn(who="agent", say="Hello, this is Ben.", agent="ben", **turn),
    ]
    return build(Scenario(conversations=[Call(id=CALL, queue=QUEUE, agent="anna", turns=turns)]))


def test_menu_queue_and_agents_follow_one_another() -> None:
    """Each joins when the one before leaves; who spoke was on the line."""
    script = transferred(after_s=2.0)
    people = script.people(0)
    assert [p.purpose for p in people] == ["customer", "ivr", "acd", "agent", "agent"]
    customer, menu, queue, anna, ben = people
    said = script.utterances(0)
    assert menu.left_us == queue.joined_us == said[0].end_us
    assert queue.left_us == anna.joined_us <= said[1].start_us
    assert said[1].end_us <= anna.left_us < ben.joined_us < said[2].start_us
    assert customer.left_us == ben.left_us
    assert [u.participant for u in said] == [menu.id, anna.id, ben.id]
    assert [(p.name, p.user) for p in (anna, ben)] == [
        ("Anna", named_id("user", "anna")),
        ("Ben", named_id("user", "ben")),
    ]
    assert len(customer.legs) == 1


def test_a_warm_transfer_has_both_agents_on_the_line() -> None:
    """Who talks over the other has joined before the other leaves."""
    *_, anna, ben = transferred(after_s=-0.5).people(0)
    assert ben.joined_us < anna.left_us


def test_a_transfer_may_give_the_customer_a_new_communication() -> None:
    """The first call ends, the second begins; the agent's change is apart from it."""
    script = transferred(leg=2)
    one, two = script.people(0)[0].legs
    assert one.id != two.id
    assert one.disconnected_us < two.connected_us < script.utterances(0)[2].start_us
    assert [s.communication for s in script.segments(0)] == [one.id, one.id, two.id]


@given(at_us=st.integers(-10, 30_000_000))
def test_nobody_is_told_before_joining_or_after_leaving(at_us: int) -> None:
    """At any moment: who has joined is there, who has left has an end, nobody else does."""
    people = transferred(leg=2, after_s=2.0).people(0)
    told = entity(CALL, people, at_us, str)["participants"]
    assert [p["id"] for p in told] == [p.id for p in people if p.joined_us <= at_us]
    for shown, person in zip(told, people, strict=False):
        assert ("endTime" in shown) == (NEVER < person.left_us <= at_us)
        assert [c["id"] for c in shown["calls"]] == [
            leg.id for leg in person.legs if leg.connected_us <= at_us
        ]
        for call in shown["calls"]:
            assert (call["state"] == "disconnected") == ("disconnectedTime" in call)


async def test_topics_and_rest_tell_the_same_people() -> None:
    """Queue and agents hear of every change; REST tells the conversation as it stands."""
    topics = [
        f"v2.routing.queues.{QUEUE}.conversations",
        f"v2.users.{named_id('user', 'ben')}.conversations",
    ]
    turns = [
        Turn(who="agent", say="Hello, this is Anna."),
        Turn(who="customer", say="Hello."),
        Turn(who="agent", say="Hello, this is Ben.", agent="ben"),
    ]
    call = Call(id=CALL, queue=QUEUE, agent="anna", turns=turns)
    async with (
        Simulator(Scenario(conversations=[call]), speed=20, wait_for_sockets=1) as sim,
        peer(sim) as client,
        client.listen(await client.channel(*topics)) as ws,
    ):
        seen = [json.loads(await ws.recv())["eventBody"] for _ in range(2)]
        early = (await client.call("GET", f"/api/v2/conversations/{CALL}")).json
        await sim.finished()
        events = await until_quiet(ws)
        late = (await client.call("GET", f"/api/v2/conversations/{CALL}")).json
    assert [len(b["participants"]) for b in seen] == [2, 3]
    assert [p["purpose"] for p in early["participants"]] == ["customer", "acd", "agent"]
    assert "endTime" not in early
    bodies: dict[str, list[Any]] = {t: [] for t in topics}
    for event in events:
        bodies[event["topicName"]].append(event["eventBody"])
    # Anna leaves, Ben joins, the call ends; Ben's own topic begins when he joins.
    assert [len(b["participants"]) for b in bodies[topics[0]]] == [3, 4, 4]
    assert [len(b["participants"]) for b in bodies[topics[1]]] == [4, 4]
    anna = bodies[topics[0]][0]["participants"][2]
    assert anna["calls"][0]["disconnectType"] == "transfer"
    assert bodies[topics[0]][-1]["participants"] == late["participants"]
    assert late["endTime"] == max(p["endTime"] for p in late["participants"])
    assert late["startTime"] == late["participants"][0]["startTime"]
