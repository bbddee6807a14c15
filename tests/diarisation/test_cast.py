"""Who spoke, after the channel and the participants of a conversation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.diarisation.cast import Cast, Who
from steno.wire.participants import Call, Participant, Roster

S = 1_000_000
T0 = 1_772_615_700 * S
CUSTOMER_CALL = "call-customer"
INSIDE, OUTSIDE = f"{CUSTOMER_CALL}/internal", f"{CUSTOMER_CALL}/external"


def person(
    name: str,
    purpose: str,
    start_s: float | None = None,
    end_s: float | None = None,
    *,
    user: str = "",
    state: str = "",
    call: str = "",
    joined_s: float | None = None,
    left_s: float | None = None,
    listening: bool = False,
) -> Participant:
    """Give a participant with one call; times in seconds from the conversation's start."""
    connected = 0 if start_s is None else T0 + int(start_s * S)
    disconnected = 0 if end_s is None else T0 + int(end_s * S)
    state = state or ("disconnected" if disconnected else "connected")
    return Participant(
        name,
        purpose,
        name.title(),
        user or (f"user-{name}" if purpose == "agent" else ""),
        (Call(call or f"call-{name}", state, connected, disconnected),),
        joined_us=0 if joined_s is None else T0 + int(joined_s * S),
        left_us=0 if left_s is None else T0 + int(left_s * S),
        listening=listening,
    )


CUSTOMER = person("customer", "customer", 0)
IVR = person("ivr", "ivr", 0, 10)
ACD = person("acd", "acd", 10, 20)
ANNA = person("anna", "agent", 20, 60)
BEN = person("ben", "agent", 60)


def cast(*people: Participant, names: bool = True) -> Cast:
    return Cast(Roster("conversation", people, started_us=T0), names=names)


def spoke(there: Cast, start_s: float, end_s: float, lane: str = INSIDE) -> tuple[str, str, str]:
    """Give speaker, role and participant of an utterance."""
    who = there.who(lane, T0 + int(start_s * S), T0 + int(end_s * S))
    return who.speaker, str(who.role), who.participant


WHOLE = cast(CUSTOMER, IVR, ACD, ANNA, BEN)


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [
        (2, 4, ("system", "system", "ivr")),
        (12, 14, ("system", "system", "acd")),
        (19, 20.5, ("system", "system", "acd")),
        (19.5, 23, ("agent", "agent", "anna")),
        (30, 35, ("agent", "agent", "anna")),
        (58, 61, ("agent", "agent", "anna")),
        (59, 62, ("agent-2", "agent", "ben")),
        (60, 60, ("agent-2", "agent", "ben")),
        (500, 501, ("agent-2", "agent", "ben")),
    ],
)
def test_inside_is_who_was_on_the_line_longest(
    start_s: float, end_s: float, expected: tuple[str, str, str]
) -> None:
    """Prompts, then an agent, then the one it was transferred to."""
    assert spoke(WHOLE, start_s, end_s) == expected


def test_prompts_that_stay_on_the_line_speak_where_no_agent_is_there_for_half_of_it() -> None:
    """The queue's participant may outlast the agent's coming."""
    there = cast(CUSTOMER, person("acd", "acd", 10, 40), ANNA)
    assert spoke(there, 18, 23) == ("agent", "agent", "anna")
    assert spoke(there, 18, 22) == ("agent", "agent", "anna")
    assert spoke(there, 18, 21) == ("system", "system", "acd")


def test_order_of_participants_does_not_matter() -> None:
    """The platform lists them as it likes."""
    turned = cast(BEN, ANNA, ACD, IVR, CUSTOMER)
    for start_s in range(0, 100, 3):
        for lane in (INSIDE, OUTSIDE):
            assert spoke(turned, start_s, start_s + 2, lane) == spoke(
                WHOLE, start_s, start_s + 2, lane
            )


def test_outside_is_the_customer_whatever_the_time() -> None:
    """Also while an agent talks and before anybody was connected."""
    for start_s in (-5, 3, 30, 1000):
        assert spoke(WHOLE, start_s, start_s + 1, OUTSIDE) == ("customer", "customer", "customer")


def test_two_customers_are_told_apart_by_their_communications() -> None:
    """Labels follow the time of connection, and not the order in the body."""
    there = cast(person("third", "external", 30), CUSTOMER, ANNA)
    assert spoke(there, 40, 41, "call-third/external")[::2] == ("customer-2", "third")
    assert spoke(there, 40, 41, "call-customer/external")[::2] == ("customer", "customer")


def test_unknown_communication_with_two_customers_names_nobody() -> None:
    """Unless only one of them was there: unknown rather than wrong."""
    there = cast(CUSTOMER, person("third", "external", 30))
    assert spoke(there, 40, 41, "call-else/external") == ("customer", "customer", "")
    assert spoke(there, 10, 11, "call-else/external") == ("customer", "customer", "customer")


def test_outside_among_staff_is_nobody() -> None:
    """A call of two agents has no customer: the channel's prior would be wrong."""
    there = cast(ANNA, BEN)
    assert spoke(there, 30, 31, "call-anna/external") == ("", "unknown", "")


def test_communication_of_an_agent_does_not_swap_the_two() -> None:
    """The outside of an agent's leg is the only customer, its inside the agent."""
    there = cast(CUSTOMER, ANNA)
    assert spoke(there, 30, 31, "call-anna/external")[2] == "customer"
    assert spoke(there, 30, 31, "call-anna/internal")[2] == "anna"


def test_conference_of_agents_names_the_role_only() -> None:
    """Two agents who were there alike: agent, and no participant."""
    there = cast(CUSTOMER, person("anna", "agent", 20), person("ben", "agent", 30))
    assert spoke(there, 40, 45) == ("agent", "agent", "")
    assert spoke(there, 25, 33) == ("agent", "agent", "anna")


def test_supervisor_who_listens_is_not_heard() -> None:
    """No conference comes of monitoring."""
    there = cast(CUSTOMER, ANNA, person("boss", "agent", 20, listening=True))
    assert spoke(there, 30, 31)[2] == "anna"


def test_agent_who_is_transferred_back_is_the_same_person() -> None:
    """One user, two participants: one label, and the participant of that time."""
    back = person("anna-again", "agent", 80, user="user-anna")
    there = cast(CUSTOMER, ANNA, person("ben", "agent", 60, 80), back)
    assert spoke(there, 30, 31)[::2] == ("agent", "anna")
    assert spoke(there, 70, 71)[::2] == ("agent-2", "ben")
    assert spoke(there, 90, 91)[::2] == ("agent", "anna-again")


def test_agent_who_does_not_answer_is_not_heard() -> None:
    """Neither while it rings nor afterwards, and it takes no label from who answered."""
    ringing = person("carl", "agent", state="alerting", joined_s=12)
    missed = person("carl", "agent", state="disconnected", joined_s=12, left_s=18)
    for carl in (ringing, missed):
        there = cast(CUSTOMER, ACD, carl, ANNA)
        assert spoke(there, 13, 15) == ("system", "system", "acd")
        assert spoke(there, 30, 31) == ("agent", "agent", "anna")


def test_clocks_apart_by_a_moment_do_not_matter() -> None:
    """Words shortly before the agent was connected, and nobody else there, are the agent's."""
    there = cast(CUSTOMER, ANNA)
    assert spoke(there, 18.5, 19.5)[2] == "anna"
    assert spoke(there, 10, 11) == ("agent", "agent", "")


def test_missing_times_leave_a_single_agent() -> None:
    """One agent and no other: who else. With two of them nobody is named."""
    unsure = person("carl", "agent", state="disconnected")
    assert spoke(cast(CUSTOMER, unsure), 30, 31) == ("agent", "agent", "carl")
    unsure = person("carl", "agent", state="disconnected", joined_s=20, left_s=50)
    assert spoke(cast(CUSTOMER, unsure), 30, 31) == ("agent", "agent", "carl")
    other = person("dora", "agent", state="disconnected", joined_s=20, left_s=50)
    assert spoke(cast(CUSTOMER, unsure, other), 30, 31) == ("agent", "agent", "")


def test_end_of_a_call_is_taken_from_where_it_is_told() -> None:
    """From the call, else the participant, else the conversation."""
    left = Participant(
        "anna", "agent", user_id="u", calls=(Call("c", "disconnected", T0),), left_us=T0 + 10 * S
    )
    assert spoke(cast(left, BEN), 40, 41) == ("agent", "agent", "")
    assert spoke(cast(left, BEN), 70, 71)[2] == "ben"


def test_utterance_without_times_is_named_when_only_one_can_be_it() -> None:
    """0 means that nobody knows when it was."""
    alone = Cast(Roster("c", (CUSTOMER, ANNA)))
    assert alone.who(INSIDE, 0, 0).participant == "anna"
    for people in ((CUSTOMER, ANNA, BEN), (CUSTOMER, IVR, ANNA)):
        assert Cast(Roster("c", people)).who(INSIDE, 0, 0) == Who("agent", "agent")


@pytest.mark.parametrize("channel", ["both", "unknown", "nonsense"])
def test_channel_that_says_nothing_names_nobody(channel: str) -> None:
    """Unless a single participant could be heard."""
    lane = f"{CUSTOMER_CALL}/{channel}"
    assert spoke(WHOLE, 30, 31, lane) == ("", "unknown", "")
    assert spoke(cast(CUSTOMER, ANNA), 5, 6, lane) == ("customer", "customer", "customer")
    assert spoke(cast(CUSTOMER, person("x", "hologram", 0)), 5, 6, lane) == ("", "unknown", "")


def test_empty_roster_leaves_the_channel() -> None:
    """And the conversation's start, which it still tells."""
    empty = cast()
    assert empty.who(INSIDE, T0, T0) == Who("agent", "agent", zero_us=T0)
    assert empty.who(OUTSIDE, T0, T0) == Who("customer", "customer", zero_us=T0)


def test_names_and_user_ids_are_given_only_when_wanted() -> None:
    """Participants are named by their ids all the same, and told apart by their users."""
    told = WHOLE.who(INSIDE, T0 + 30 * S, T0 + 31 * S)
    assert told == Who("agent", "agent", "anna", "user-anna", "Anna", T0)
    kept = cast(CUSTOMER, ANNA, BEN, names=False).who(INSIDE, T0 + 70 * S, T0 + 71 * S)
    assert kept == Who("agent-2", "agent", "ben", zero_us=T0)


def test_calls_known_from_elsewhere_are_used() -> None:
    """A topic may tell of participants without their communications."""
    flat = Participant("third", "external", calls=(Call("", "connected", T0 + 30 * S),))
    there = Cast(Roster("c", (CUSTOMER, flat)), communications={"call-third": "third"})
    assert there.who("call-third/external", T0 + 40 * S, T0 + 41 * S).participant == "third"


# --- properties --------------------------------------------------------------------------------

people_strategy = st.lists(
    st.tuples(
        st.sampled_from(["agent", "customer", "ivr", "acd", "external", "user", "odd"]),
        st.integers(0, 100),  # connected
        st.integers(1, 60),  # for so long
        st.booleans(),  # still there
        st.integers(0, 3),  # user
    ),
    max_size=8,
)


def made(rows: list[tuple[str, int, int, bool, int]], *, after_s: int = 0) -> list[Participant]:
    return [
        person(
            f"p{after_s}-{number}",
            purpose,
            after_s + start_s,
            None if up else after_s + start_s + length_s,
            user=f"u{user}" if user and purpose == "agent" else f"solo-{after_s}-{number}",
        )
        for number, (purpose, start_s, length_s, up, user) in enumerate(rows)
    ]


@given(early=people_strategy, late=people_strategy, data=st.data())
def test_those_who_come_later_rename_nobody(
    early: list[tuple[str, int, int, bool, int]],
    late: list[tuple[str, int, int, bool, int]],
    data: st.DataObject,
) -> None:
    """A roster that is complete up to a moment gives speech up to it the same label for ever."""
    first = made(early)
    grown = data.draw(st.permutations(first + made(late, after_s=200)))
    before, after = cast(*first), cast(*grown)
    for start_s in range(0, 190, 7):
        for lane in (INSIDE, *(f"{one.calls[0].id}/external" for one in first)):
            now, later = (
                spoke(before, start_s, start_s + 3, lane),
                spoke(after, start_s, start_s + 3, lane),
            )
            if now[2]:  # with a second customer, "the only one" may be nobody any more
                assert later[:2] == now[:2]
                assert later[2] in (now[2], "")


@given(rows=people_strategy, start_s=st.integers(-5, 170), length_s=st.integers(0, 30))
def test_channel_and_role_never_contradict_each_other(
    rows: list[tuple[str, int, int, bool, int]], start_s: int, length_s: int
) -> None:
    """The outside is never an agent and the inside never a customer: the two are not swapped."""
    there = cast(*made(rows))
    for one in [*made(rows), CUSTOMER]:
        call = one.calls[0].id
        inside = spoke(there, start_s, start_s + length_s, f"{call}/internal")
        outside = spoke(there, start_s, start_s + length_s, f"{call}/external")
        assert inside[1] in ("agent", "system")
        assert outside[1] in ("customer", "unknown")
        assert (outside[0] == "") == (outside[1] == "unknown")
