"""Rosters kept for conversations: what is fetched when, how long speech waits, what is said."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.records import Kind, Origin, Record, SegmentPayload
from steno.core.transcript import Fragment, RawText, Role
from steno.diarisation.cast import Cast, Who
from steno.diarisation.reattribution import reattributed
from steno.diarisation.roster import LabelAttribution, RosterAttribution, RosterSettings
from steno.errors import IntegrityError
from steno.wire.participants import Call, Participant, Roster

S = 1_000_000
T0 = 1_772_615_700 * S
NOW = 1000.0  # monotonic seconds at T0
SETTINGS = RosterSettings(roster_s=60, early_s=10, wait_s=15)


def person(
    name: str, purpose: str, start_s: float, end_s: float | None = None, *, call: str = ""
) -> Participant:
    return Participant(
        name,
        purpose,
        name.title(),
        f"user-{name}" if purpose == "agent" else "",
        (
            Call(
                call or f"call-{name}",
                "connected" if end_s is None else "disconnected",
                T0 + int(start_s * S),
                0 if end_s is None else T0 + int(end_s * S),
            ),
        ),
    )


CUSTOMER = person("customer", "customer", 0, call="call")


def roster(*people: Participant, conversation: str = "c") -> Roster:
    return Roster(conversation, (CUSTOMER, *people), started_us=T0)


def inside(start_s: float, *, conversation: str = "c", lane: str = "call/internal") -> Fragment:
    """Give a second of speech, ``start_s`` after the conversation's start."""
    started_us = T0 + int(start_s * S) if start_s >= 0 else 0
    return Fragment(
        conversation,
        lane,
        RawText("x"),
        0.9,
        True,
        "en",
        started_us,
        started_us=started_us,
        ended_us=started_us + S if started_us else 0,
    )


def outside(start_s: float, *, call: str = "call", conversation: str = "c") -> Fragment:
    return inside(start_s, conversation=conversation, lane=f"{call}/external")


class Heard:
    """An attribution whose clock is the conversation's: second 0 is ``T0``."""

    def __init__(self, settings: RosterSettings = SETTINGS) -> None:
        self.machine = RosterAttribution(settings)

    def hear(self, fragment: Fragment, at_s: float) -> None:
        self.machine.heard(fragment, now=NOW + at_s)

    def who(self, fragment: Fragment, at_s: float) -> Who | None:
        return self.machine.who(fragment, now=NOW + at_s)

    def fetch(self, at_s: float, limit: int = 1) -> list[str]:
        return self.machine.to_fetch(NOW + at_s, limit=limit)

    def take(self, told: Roster, at_s: float, *, final: bool = False) -> None:
        self.machine.take(
            told.conversation, told, now=NOW + at_s, utc_us=T0 + int(at_s * S), final=final
        )

    def seen(self, told: Roster, at_s: float) -> None:
        self.machine.seen(told, now=NOW + at_s, utc_us=T0 + int(at_s * S))

    def failed(self, at_s: float, retry_after_s: float | None, conversation: str = "c") -> None:
        self.machine.failed(conversation, now=NOW + at_s, retry_after_s=retry_after_s)


def named(who: Who | None) -> tuple[str, str]:
    assert who is not None
    return who.speaker, who.participant


# --- labels that come with the speech ----------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "role"),
    [
        ("agent", "agent"),
        ("Agent_1", "agent"),
        ("customer 2", "customer"),
        ("SYSTEM", "system"),
        ("speaker_0", "unknown"),
        ("agents", "unknown"),
        ("my agent", "unknown"),
        ("", "unknown"),
    ],
)
def test_label_is_the_speaker_and_its_role_only_where_it_is_plain(label: str, role: str) -> None:
    """Nothing is guessed of ``speaker_0``; there is nothing to wait for."""
    fragment = inside(1, lane=label)
    attribution = LabelAttribution()
    attribution.heard(fragment, now=0.0)
    assert attribution.who(fragment, now=0.0) == attribution.fallback(fragment) == Who(label, role)


def test_role_the_source_tells_goes_before_the_label() -> None:
    """Where both speak the source knows better."""
    told = msgspec.structs.replace(inside(1, lane="agent"), role=Role.CUSTOMER, zero_us=T0)
    assert LabelAttribution().who(told, now=0.0) == Who("agent", "customer", zero_us=T0)


# --- what is fetched ---------------------------------------------------------------------------


def test_first_words_want_a_roster_once() -> None:
    """It is asked for, and not again while it is on its way."""
    there = Heard()
    for start_s in range(5):
        there.hear(inside(start_s), start_s)
    assert there.fetch(5, limit=10) == ["c"]
    there.hear(inside(6), 6)
    assert there.fetch(6, limit=10) == []


def test_lost_fetch_is_asked_for_again() -> None:
    """A worker that never reports does not leave a conversation without names for ever."""
    there = Heard()
    there.hear(inside(0), 0)
    assert there.fetch(0) == ["c"]
    assert there.machine.next_fetch() == pytest.approx(NOW + 120)
    assert there.fetch(119) == []
    assert there.fetch(121) == ["c"]


def test_new_communication_wants_a_roster_once() -> None:
    """The roster may still not know it; then it is not asked for with every word."""
    there = Heard()
    there.hear(outside(0), 0)
    there.fetch(0)
    there.take(roster(), 1)
    there.hear(outside(2), 2)
    assert there.fetch(2) == []
    there.hear(outside(3, call="other"), 3)
    assert there.fetch(3) == ["c"]
    there.take(roster(), 4)
    there.hear(outside(5, call="other"), 5)
    assert there.fetch(5) == []


def test_agent_who_goes_on_talking_wants_a_roster_at_the_interval() -> None:
    """A transfer shows nowhere else when no queue is followed; the customer alone never asks."""
    there = Heard()
    there.hear(inside(0), 0)
    there.fetch(0)
    there.take(roster(person("anna", "agent", 0)), 1)
    for start_s in range(2, 61):
        there.hear(inside(start_s), start_s)
        there.hear(outside(start_s + 1000), start_s)
    assert there.fetch(61) == []
    there.hear(outside(62), 62)
    assert there.fetch(62) == []
    there.hear(inside(62), 62)
    assert there.fetch(62) == ["c"]


def test_prompts_alone_are_looked_at_sooner_and_then_less_often() -> None:
    """An agent is about to come; a long queue must not eat the rate."""
    there = Heard()
    asked = []
    for start_s in range(400):
        there.hear(inside(start_s), start_s)
        if there.fetch(start_s):
            asked.append(start_s)
            there.take(roster(person("acd", "acd", 0)), start_s)
    assert asked == [0, 11, 32, 73, 134, 195, 256, 317, 378]


def test_old_words_want_nothing() -> None:
    """Speech the roster already covers is settled, however late it comes."""
    there = Heard()
    there.hear(inside(0), 0)
    there.fetch(0)
    there.take(roster(person("anna", "agent", 0)), 200)
    there.hear(inside(100), 400)
    assert there.fetch(400) == []


def test_most_urgent_comes_first() -> None:
    """A conversation without any roster goes before one whose roster is old."""
    there = Heard()
    there.hear(inside(0, conversation="old"), 0)
    there.fetch(0)
    there.take(roster(person("anna", "agent", 0), conversation="old"), 0)
    there.hear(inside(100, conversation="old"), 100)
    there.hear(inside(0, conversation="new-1"), 101)
    there.hear(inside(0, conversation="new-2"), 102)
    assert there.fetch(103, limit=2) == ["new-1", "new-2"]
    assert there.fetch(103, limit=2) == ["old"]


def test_hold_keeps_everything_back() -> None:
    """The platform said: not before then."""
    there = Heard()
    there.machine.hold(NOW + 50)
    there.hear(inside(0), 0)
    assert there.fetch(49) == []
    assert there.machine.next_fetch() == NOW + 50
    assert there.fetch(50) == ["c"]


def test_failure_is_tried_again_and_then_left_until_somebody_speaks() -> None:
    """Three tries; after the interval the next words want it again."""
    there = Heard()
    there.hear(inside(0), 0)
    at_s = 0.0
    for _ in range(3):
        assert there.fetch(at_s) == ["c"]
        there.failed(at_s, 5)
        assert there.fetch(at_s + 4) == []
        at_s += 5
    there.hear(inside(20), 20)
    assert there.fetch(20) == []
    there.hear(inside(71), 71)
    assert there.fetch(71) == ["c"]


def test_conversations_are_bounded() -> None:
    """Who was not heard for longest goes, with what was wanted for it."""
    there = Heard(RosterSettings(max_conversations=3))
    for number in range(5):
        there.hear(inside(0, conversation=f"c{number}"), number)
        there.hear(inside(0, conversation="c0"), number)
    assert there.machine.conversations == 3
    assert there.fetch(9, limit=9) == ["c0", "c3", "c4"]
    there.machine.forget("c0")
    assert there.machine.conversations == 2


# --- how long speech waits ---------------------------------------------------------------------


def test_speech_waits_for_its_first_roster_and_no_longer_than_the_limit() -> None:
    """Then the channel decides."""
    there = Heard()
    there.hear(inside(0), 0)
    assert there.who(inside(0), 14.9) is None
    assert there.who(inside(0), 15) == Who("agent", "agent")
    assert there.who(outside(0), 15) == Who("customer", "customer")
    assert there.who(inside(0, lane="call/both"), 15) == Who("")
    there.take(roster(person("anna", "agent", 0)), 16)
    assert named(there.who(inside(0), 16)) == ("agent", "anna")


def test_speech_does_not_wait_for_what_will_not_come_in_time() -> None:
    """A refusal, a long limit of the rate: nothing is gained by waiting."""
    there = Heard()
    there.hear(inside(0), 0)
    there.fetch(0)
    there.machine.hold(NOW + 300)
    assert there.who(inside(0), 1) == Who("agent", "agent")
    there = Heard()
    there.hear(inside(0), 0)
    there.fetch(0)
    there.failed(1, None)
    assert there.who(inside(0), 1) == Who("agent", "agent")


def test_words_after_the_roster_wait_for_the_newer_one_that_is_on_its_way() -> None:
    """The agent may have changed; older words and the customer's do not wait."""
    there = Heard()
    there.hear(inside(0), 0)
    there.take(roster(person("anna", "agent", 0)), 1)
    there.hear(inside(70), 70)
    assert there.who(inside(70), 71) is None
    assert named(there.who(inside(0.5), 71)) == ("agent", "anna")
    assert named(there.who(outside(70), 71)) == ("customer", "customer")
    there.take(roster(person("anna", "agent", 0, 65), person("ben", "agent", 65)), 72)
    assert named(there.who(inside(70), 72)) == ("agent-2", "ben")
    assert named(there.who(inside(3), 72)) == ("agent", "anna")


def test_restored_speech_is_heard_when_it_is_asked_about() -> None:
    """After a restart nobody calls ``heard`` for it again."""
    there = Heard()
    assert there.who(inside(0), 0) is None
    assert there.fetch(0) == ["c"]


def test_fallback_says_what_is_known_without_waiting() -> None:
    """The process ends."""
    there = Heard()
    there.hear(inside(0), 0)
    assert there.machine.fallback(inside(0)) == Who("agent", "agent")
    there.take(roster(person("anna", "agent", 0)), 1)
    there.hear(inside(90), 90)
    assert named(there.machine.fallback(inside(90))) == ("agent", "anna")


# --- rosters from topics -----------------------------------------------------------------------


def test_topic_tells_of_a_transfer_for_free() -> None:
    """Nothing is fetched for words it covers."""
    there = Heard()
    there.hear(inside(0), 0)
    there.fetch(0)
    there.take(roster(person("anna", "agent", 0)), 1)
    there.seen(roster(person("anna", "agent", 0, 65), person("ben", "agent", 65)), 66)
    there.hear(inside(70), 70)
    assert there.fetch(70) == []
    assert named(there.who(inside(70), 70)) == ("agent-2", "ben")


def test_flat_topic_does_not_forget_communications_nor_the_start() -> None:
    """It has no calls' ids and no start of the conversation."""
    there = Heard()
    third = person("third", "external", 5)
    there.hear(inside(0), 0)
    there.take(roster(third), 6)
    flat = [
        msgspec.structs.replace(one, calls=(msgspec.structs.replace(one.calls[0], id=""),))
        for one in (CUSTOMER, third, person("anna", "agent", 8))
    ]
    there.seen(Roster("c", tuple(flat)), 9)
    who = there.who(outside(10, call="call-third"), 10)
    assert named(who) == ("customer-2", "third")
    assert who is not None
    assert who.zero_us == T0
    assert named(there.who(inside(10), 10)) == ("agent", "anna")


def test_topic_alone_does_not_end_the_wait_for_the_first_roster() -> None:
    """The conversation's start comes from the REST API; without it after the limit."""
    there = Heard()
    there.hear(inside(0), 0)
    there.seen(Roster("c", (CUSTOMER, person("anna", "agent", 0))), 1)
    assert there.who(inside(0), 2) is None
    assert named(there.who(inside(0), 16)) == ("agent", "anna")


def test_topic_of_a_conversation_nobody_hears_is_not_kept() -> None:
    """A queue tells of many."""
    there = Heard()
    there.seen(roster(), 1)
    assert there.machine.conversations == 0


def test_answer_asked_for_before_a_topic_does_not_undo_it() -> None:
    """The newer of the two counts, in whichever order they are taken in."""
    there = Heard()
    there.hear(inside(0), 0)
    there.seen(roster(person("anna", "agent", 0, 5)), 6)
    there.take(roster(person("anna", "agent", 0)), 4)
    assert named(there.who(inside(30), 30)) == ("agent", "")


# --- the end -----------------------------------------------------------------------------------

FINAL = roster(
    person("ivr", "ivr", 0, 5),
    person("anna", "agent", 5, 60),
    person("ben", "agent", 60, 100),
    person("third", "external", 70, 100),
)
BEFORE = [
    roster(),
    roster(person("ivr", "ivr", 0)),
    roster(person("ivr", "ivr", 0, 5), person("anna", "agent", 5)),
    roster(person("ben", "agent", 60), person("anna", "agent", 5)),
]
LANES = ["call/internal", "call/external", "call-third/external", "call/both"]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["hear", "take", "seen", "failed", "fetch", "who"]),
            st.integers(0, 100),
            st.sampled_from(BEFORE),
            st.sampled_from(LANES),
        ),
        max_size=30,
    )
)
def test_after_the_last_roster_the_way_there_does_not_matter(
    steps: list[tuple[str, int, Roster, str]],
) -> None:
    """Any order of rosters, words and failures ends in the same attribution."""
    there = Heard()
    for at_s, (step, start_s, told, lane) in enumerate(steps):
        if step == "hear":
            there.hear(inside(start_s, lane=lane), at_s)
        elif step == "take":
            there.take(told, start_s)
        elif step == "seen":
            there.seen(told, start_s)
        elif step == "failed":
            there.failed(at_s, None)
        elif step == "fetch":
            there.fetch(at_s)
        else:
            there.who(inside(start_s, lane=lane), at_s)
    there.take(FINAL, 200, final=True)
    told_apart = Cast(FINAL)
    for start_s in range(0, 110, 9):
        for lane in LANES:
            said = inside(start_s, lane=lane)
            expected = told_apart.who(lane, said.started_us, said.ended_us)
            assert there.who(said, 201) == there.machine.fallback(said) == expected


def stored(payload: SegmentPayload, lane: str = "call/internal", revision: int = 0) -> Record:
    return Record(
        "id", Kind.SEGMENT, "notifications", "c", lane, "u", revision, "key", 7, 6, Origin.LIVE,
        T0, msgspec.json.encode(payload),
    )  # fmt: skip


SEGMENT = SegmentPayload(
    "agent", "[redacted] words", T0 + 70 * S, T0 + 71 * S, 0.9, T0 + 80 * S, T0,
    role="agent", participant="anna", user_id="user-anna", name="Anna", communication="call",
    entities={"phone": 1},
)  # fmt: skip


def test_segment_of_somebody_else_gets_a_revision_with_the_same_words() -> None:
    """Only who it was changes; its place, key, times and text do not."""
    draft = reattributed(stored(SEGMENT, revision=3), Cast(FINAL))
    assert draft is not None
    assert (draft.revision, draft.key, draft.place_us) == (4, "key", SEGMENT.started_us)
    assert (draft.kind, draft.conversation, draft.lane) == (Kind.SEGMENT, "c", "call/internal")
    assert msgspec.json.decode(draft.payload, type=SegmentPayload) == msgspec.structs.replace(
        SEGMENT, speaker="agent-2", participant="ben", user_id="user-ben", name="Ben"
    )


def test_segment_that_is_right_is_left_alone() -> None:
    """Done again, the second pass finds nothing."""
    draft = reattributed(stored(SEGMENT), Cast(FINAL))
    assert draft is not None
    assert (
        reattributed(stored(msgspec.json.decode(draft.payload, type=SegmentPayload)), Cast(FINAL))
        is None
    )


def test_segment_keeps_a_speaker() -> None:
    """Where participants contradict the channel its own word stands; a record has a speaker."""
    staff = Cast(Roster("c", (person("anna", "agent", 0, call="call"), person("ben", "agent", 0))))
    draft = reattributed(stored(SEGMENT, "call/external"), staff)
    assert draft is not None
    told = msgspec.json.decode(draft.payload, type=SegmentPayload)
    assert (told.speaker, told.role, told.participant, told.zero_us) == (
        "customer",
        "customer",
        "",
        T0,
    )
    assert reattributed(stored(SEGMENT, "call/both"), Cast(FINAL)) is None


def test_segment_that_cannot_be_read_is_an_error_without_its_words() -> None:
    """It names the record and nothing else."""
    broken = msgspec.structs.replace(stored(SEGMENT), payload=b'{"text": "secret words"')
    with pytest.raises(IntegrityError) as damaged:
        reattributed(broken, Cast(FINAL))
    assert "secret" not in str(damaged.value)
