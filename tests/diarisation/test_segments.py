"""The machine of segments: what becomes a record, in which order, and what goes to the audit."""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec
import pytest

from diarisation.segment_helpers import FOREVER, REDACTOR, T0, Run, S, final, partial, uttered
from steno.core.records import Draft, GapCause, Kind, record_key
from steno.core.transcript import Fragment
from steno.diarisation.roster import LabelAttribution, Who
from steno.diarisation.segments import LISTENS, SegmentPipeline
from steno.errors import RedactionError
from steno.ports import ConversationEnded, FeedDown, FeedUp, Missing, Quarantined
from steno.redaction.entities import Span
from steno.redaction.redactor import Redactor
from steno.spine.gaps import GAPS


def texts(drafts: Iterable[Draft]) -> list[str]:
    """Texts of segments in the order they were given out."""
    return [json.loads(d.payload)["text"] for d in drafts if d.kind is Kind.SEGMENT]


def gaps(drafts: Iterable[Draft]) -> list[dict[str, object]]:
    return [json.loads(d.payload) for d in drafts if d.kind is Kind.GAP]


# --- what a segment's record is ------------------------------------------------------------------


def test_a_final_of_the_event_socket_becomes_a_record_named_by_speaker_and_start() -> None:
    """Key of host group, conversation, label and start in ms; placed by its start."""
    run = Run()
    run.hear(final(1.2345, 2.5, "please call 415-555-0123 today", at_us=T0 + 7))
    run.wait_until(2.0)
    (draft,) = run.commit()
    payload = json.loads(draft.payload)
    assert (draft.kind, draft.lane, draft.utterance) == (Kind.SEGMENT, "speaker_0", "s1234")
    assert draft.key == record_key("primary.example.com", "c1", "speaker_0", "s1234")
    assert (draft.revision, draft.at_us, draft.place_us) == (0, T0 + 7, 1_234_500)
    assert payload["text"] == "please call [REDACTED] today"
    assert payload["entities"] == {"phone": 1}
    assert (payload["speaker"], payload["confidence"]) == ("speaker_0", 0.9)
    assert (payload["started_us"], payload["ended_us"]) == (1_234_500, 2_500_000)
    assert payload["language"] == "en-US"
    assert run.pipeline.entities == {"phone": 1}


def test_a_final_of_a_notification_is_named_by_lane_and_utterance() -> None:
    """Who spoke comes from the attribution; the communication is the lane's first half."""
    run = Run()
    run.attribution.names["call-1/external"] = Who("customer", "customer", "p1", "u9", "Ada", T0)
    run.hear(uttered(1, 2, utterance="u1"))
    run.wait_until(2.0)
    (draft,) = run.commit()
    payload = json.loads(draft.payload)
    assert (draft.lane, draft.utterance) == ("call-1/external", "u1")
    assert (payload["speaker"], payload["role"]) == ("customer", "customer")
    assert (payload["participant"], payload["user_id"], payload["name"]) == ("p1", "u9", "Ada")
    assert (payload["communication"], payload["zero_us"]) == ("call-1", T0)


def test_labels_are_told_as_the_attribution_of_labels_tells_them() -> None:
    """A plain label says the role; one that had to be hidden stays hidden."""
    run = Run()
    run.pipeline = SegmentPipeline(
        run.settings,
        REDACTOR,
        LabelAttribution(),
        latest=run.store.latest,
        knows=run.store.knows,
    )
    run.hear(final(1, 2, speaker="agent_1"), final(3, 4, speaker="415-555-0123"))
    run.finish()
    agent, hidden = run.store.payloads()
    assert (agent["speaker"], agent["role"]) == ("agent_1", "agent")
    assert hidden["speaker"].startswith("speaker-")


def test_partials_never_become_records() -> None:
    """Only a final persists; the partials before it leave nothing."""
    run = Run()
    run.hear(partial(1, 2, "good"), partial(1, 3, "good mor"), final(1, 4, "good morning"))
    run.wait_until(5.0)
    assert run.finish().texts() == ["good morning"]
    assert run.store.audits() == []


# --- which of several finals counts --------------------------------------------------------------


def test_of_several_finals_of_a_slot_the_longest_and_then_the_surest_counts() -> None:
    """While they wait, the better one takes the place; when they come makes no difference."""
    versions = [final(1, 3, "a"), final(1, 4, "b", confidence=0.8), final(1, 4, "c")]
    for order in (versions, versions[::-1], versions[1:] + versions[:1]):
        run = Run()
        run.hear(*order)
        run.wait_until(2.0)
        (draft,) = run.commit()
        assert (texts([draft]), draft.revision) == (["c"], 0)


def test_receipt_takes_no_part_in_the_order_of_the_event_socket() -> None:
    """A repeat that is received again later is a repeat."""
    run = Run()
    run.hear(final(1, 3, "b", at_us=T0), final(1, 3, "a", at_us=T0 + 5 * S))
    run.wait_until(2.0)
    run.hear(final(1, 3, "b", at_us=T0 + 9 * S))
    assert run.finish().texts() == ["b"]
    assert run.pipeline.repeats == 2


def test_the_newest_event_of_an_utterance_counts() -> None:
    """A notification's own time comes first in its order, before end and confidence."""
    run = Run()
    run.hear(uttered(1, 3, "new", event_s=9, confidence=0.6), uttered(1, 4, "old", event_s=8))
    assert run.finish().texts() == ["new"]


def test_a_better_final_that_comes_late_goes_out_one_revision_higher() -> None:
    """Under the same key; a worse one or a repeat is dropped and counted."""
    run = Run()
    run.hear(final(1, 3, "good mor"))
    run.wait_until(2.0)
    (first,) = run.commit()
    run.hear(final(1, 3, "good mor"), final(1, 2.5, "good"), final(1, 4, "good morning"))
    run.wait_until(4.0)
    (second,) = run.commit()
    assert second.key == first.key
    assert (first.revision, second.revision) == (0, 1)
    assert texts([second]) == ["good morning"]
    assert (run.pipeline.repeats, run.pipeline.corrected, run.pipeline.finished) == (2, 1, 2)


def test_a_correction_goes_above_a_revision_that_somebody_else_made() -> None:
    """The store's newest revision counts: who spoke may have been corrected meanwhile."""
    run = Run()
    run.hear(final(1, 3, "good mor"))
    run.wait_until(2.0)
    (first,) = run.commit()
    run.store.commit([msgspec.structs.replace(first, revision=4)], {})
    run.hear(final(1, 4, "good morning"))
    run.wait_until(4.0)
    assert [draft.revision for draft in run.commit()] == [5]


def test_a_revision_that_somebody_else_makes_is_adopted_unless_ours_has_overtaken_it() -> None:
    """Whichever is on its way first, no two drafts have one revision."""
    run = Run()
    run.hear(final(1, 3, "good mor"))
    run.wait_until(2.0)
    (first,) = run.commit()
    again = msgspec.structs.replace(first, revision=1)
    run.hear(final(1, 4, "good morning"))
    run.pipeline.adopt(again)
    run.wait_until(4.0)
    run.pipeline.adopt(again)
    drafts = run.commit()
    assert [(draft.revision, *texts([draft])) for draft in drafts] == [
        (1, "good mor"),
        (2, "good morning"),
    ]


def test_a_segment_that_comes_while_a_version_is_on_its_way_is_compared_with_that() -> None:
    """Equal but for the text: the draft not stored yet tells which is greater."""
    for committed in (False, True):
        run = Run()
        run.hear(final(1, 3, "bravo"))
        run.wait_until(2.0)
        if committed:
            run.commit()
        run.hear(final(1, 3, "alfa"), final(1, 3, "coca"))
        run.wait_until(4.0)
        assert run.finish().texts() == ["coca"]
        assert run.pipeline.repeats == 1


# --- order and settling --------------------------------------------------------------------------


def test_segments_go_out_in_their_place_whatever_the_order_of_arrival() -> None:
    """When the first one's wait is over, what is placed before it goes with it, in order."""
    run = Run()
    run.hear(final(8, 9, "third"), at=0.0)
    run.hear(final(4, 5, "second"), at=0.5)
    run.hear(final(1, 2, "first"), at=1.0)
    run.hear(final(9, 10, "fourth"), at=1.5)
    run.wait_until(2.0)
    assert texts(run.commit()) == ["first", "second", "third"]
    run.wait_until(3.5)
    assert texts(run.commit()) == ["fourth"]


def test_a_number_running_over_segments_is_found_when_they_come_out_of_order() -> None:
    """Redaction sees them in their place, also with somebody else between."""
    run = Run()
    run.hear(
        final(5, 6, "one four two, thanks"),
        final(4, 5, "mhm", speaker="speaker_1"),
        final(3, 4, "five five five oh"),
        final(1, 2, "it's four one five"),
    )
    run.wait_until(2.0)
    store = run.finish()
    assert store.texts() == ["it's [REDACTED]", "[REDACTED]", "mhm", "[REDACTED], thanks"]


def test_what_redaction_holds_goes_out_when_the_hold_is_over() -> None:
    """A number that may go on waits for its rest, and no longer than ``hold_s``."""
    run = Run(hold_s=5.0)
    run.hear(final(1, 2, "it's four one five"))
    run.wait_until(2.0)
    assert run.commit() == []
    assert run.pipeline.open_windows == 1
    run.wait_until(7.0)
    assert texts(run.commit()) == ["it's four one five"]
    assert run.pipeline.open_windows == 0


def test_a_correction_of_a_held_segment_is_a_revision_of_it() -> None:
    """The one that is held goes out first."""
    run = Run()
    run.hear(final(1, 2, "it's four one five"), at=0.0)
    run.hear(final(1, 3, "it's four one five okay"), at=3.0)
    run.wait_until(20.0)
    drafts = run.commit()
    assert [draft.revision for draft in drafts] == [0, 1]
    assert texts(drafts)[-1] == "it's four one five okay"


def test_recorded_input_waits_by_the_conversations_own_clock() -> None:
    """A final goes when speech is ``horizon_s`` past its end, whatever the time is."""
    run = Run(settle_s=FOREVER, horizon_s=60.0, journal_s=FOREVER)
    run.hear(final(10, 12, "second"), final(1, 2, "first"), final(71, 72, "third"))
    run.wait_until(10_000.0)
    assert texts(run.commit()) == ["first", "second"]
    run.hear(partial(140, 150, "mhm", speaker="speaker_1"))
    assert texts(run.commit()) == ["third"]


def test_a_long_segment_does_not_hold_up_the_horizon_for_ever() -> None:
    """What is placed before one whose time is over goes with it, finished or not."""
    run = Run(settle_s=FOREVER, horizon_s=10.0)
    run.hear(final(0, 1000, "a long one"), final(5, 6, "a short one"))
    assert texts(run.commit()) == ["a long one", "a short one"]


def test_recorded_input_is_redacted_by_its_own_time_and_not_by_ours() -> None:
    """However slowly it is read, a number that runs over segments is found."""
    run = Run(settle_s=FOREVER, horizon_s=1.0, journal_s=FOREVER)
    run.hear(final(1, 2, "it's four one five"), final(3, 4, "mhm", speaker="speaker_1"), at=0.0)
    run.hear(final(5, 6, "five five five oh"), at=500.0)
    run.hear(final(7, 8, "one four two, thanks"), at=9000.0)
    run.hear(final(200, 201, "five five oh", speaker="speaker_0"), at=9001.0)
    assert run.finish().texts() == [
        "it's [REDACTED]",
        "mhm",
        "[REDACTED]",
        "[REDACTED], thanks",
        "five five oh",
    ]


def test_recorded_input_that_is_journalled_leaves_the_journal_when_it_is_idle() -> None:
    """Its own time stands still, so ours has to decide."""
    run = Run(settle_s=FOREVER, horizon_s=1.0, journal_s=0.0)
    run.hear(final(1, 2, "call 415-555-0123"), final(8, 9, "okay", speaker="speaker_1"))
    run.commit()
    assert run.store.journal.keys() == {"c1"}
    run.pipeline.evict(1000.0)
    run.commit()
    assert run.store.journal == {}
    assert run.pipeline.evict(1000.0) == 1


def test_the_end_of_a_conversation_settles_it() -> None:
    """Nobody waits for what may still be said in a call that is over."""
    run = Run()
    run.hear(final(1, 2, "good bye"), final(3, 4, "it's four one five"))
    run.pipeline.ended(ConversationEnded("c1", T0), now=0.5)
    assert texts(run.commit()) == ["good bye", "it's four one five"]
    run.hear(final(5, 6, "still here"), at=1.0)
    run.wait_until(3.0)
    assert texts(run.commit()) == ["still here"]


def test_too_many_waiting_finals_wait_no_longer() -> None:
    """Memory is bounded, in each conversation and over all: there the one idle longest gives."""
    run = Run(max_waiting=3)
    run.hear(*(final(i, i + 1, f"word {i}x") for i in range(5)))
    assert len(texts(run.commit())) == 4
    run = Run(max_waiting_in_all=3)
    run.hear(*(final(i, i + 1, "word", conversation=f"c{i}") for i in range(5)))
    assert [draft.conversation for draft in run.commit()] == ["c0", "c1"]


# --- who spoke -----------------------------------------------------------------------------------


def test_a_segment_waits_to_learn_who_spoke_and_nothing_overtakes_it() -> None:
    """The attribution is asked again until it knows."""
    run = Run()
    lane = "call-1/internal"
    run.attribution.unknown.add(lane)
    run.hear(uttered(1, 2, "hello", lane=lane), uttered(3, 4, "hi", utterance="u2"))
    run.wait_until(3.0)
    assert run.commit() == []
    run.attribution.unknown.clear()
    run.attribution.names[lane] = Who("agent", "agent")
    run.wait_until(3.6)
    assert texts(run.commit()) == ["hello", "hi"]


def test_a_segment_goes_with_the_fallback_when_the_roster_does_not_come() -> None:
    """After ``roster_wait_s`` more, or at once when the process ends."""
    for stops in (False, True):
        run = Run(roster_wait_s=10.0)
        run.attribution.unknown.add("call-1/external")
        run.hear(uttered(1, 2))
        run.wait_until(11.0)
        assert run.commit() == []
        if stops:
            run.pipeline.flush(run.now)
        else:
            run.wait_until(12.5)
        assert texts(run.commit()) == ["good morning"]


def test_an_ended_call_waits_for_its_roster_all_the_same() -> None:
    """A short call may be over before its participants are known."""
    run = Run()
    run.attribution.unknown.add("call-1/external")
    run.hear(uttered(1, 2))
    run.pipeline.ended(ConversationEnded("c1", T0), now=0.1)
    run.wait_until(1.9)
    assert run.commit() == []
    run.attribution.unknown.clear()
    run.wait_until(3.0)
    assert texts(run.commit()) == ["good morning"]


def test_a_participant_nobody_can_name_goes_to_the_audit() -> None:
    """An attribution without a speaker is no speaker."""
    run = Run()
    run.attribution.names["call-1/unknown"] = Who("")
    run.hear(uttered(1, 2, "hello", lane="call-1/unknown"))
    run.wait_until(2.0)
    run.commit()
    assert run.store.audits() == [("no_speaker", "hello")]
    assert run.store.texts() == []


# --- audit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fragment", "reason"),
    [
        (final(1, 2, confidence=0.49), "low_confidence"),
        (final(1, 2, confidence=float("nan")), "low_confidence"),
        (final(1, 2, speaker=""), "no_speaker"),
        (final(1, 2, speaker="", confidence=0.1), "no_speaker"),
        (final(2, 1), "bad_times"),
        (final(-1, 1), "bad_times"),
        (final(1, 1 + 25 * 3600), "bad_times"),
        (final(1e12, 1e12 + 1), "bad_times"),
        (msgspec.structs.replace(uttered(1, 2), started_us=0, ended_us=0), "bad_times"),
    ],
)
def test_what_does_not_enter_the_result_goes_to_the_audit_once(
    fragment: Fragment, reason: str
) -> None:
    """With its reason, at its place, and a repeat makes no second record."""
    run = Run()
    run.hear(fragment, fragment)
    run.wait_until(5.0)
    (draft,) = run.commit()
    assert draft.kind is Kind.SEGMENT_AUDIT
    assert json.loads(draft.payload)["reason"] == reason
    assert draft.place_us is not None
    assert 0 <= draft.place_us <= 1 << 53
    assert run.pipeline.audited == {reason: 1}
    run.kill()
    run.hear(fragment)
    assert [again.key for again in run.commit()] == [draft.key]


def test_the_threshold_itself_is_enough() -> None:
    """Below 0.5 is low; 0.5 is not."""
    run = Run()
    run.hear(final(1, 2, confidence=0.5))
    assert run.finish().texts() == ["good morning"]


def test_a_final_in_the_audit_does_not_compete() -> None:
    """A longer one of low confidence leaves the good one in its place."""
    run = Run()
    run.hear(final(1, 2, "good"), final(1, 9, "bad", confidence=0.2))
    assert run.finish().texts() == ["good"]
    assert run.store.audits() == [("low_confidence", "bad")]


def test_audit_texts_are_redacted_more_strictly_than_others() -> None:
    """They have no neighbours: a piece of a number is a number."""
    run = Run()
    run.hear(
        final(1, 2, "call 415-555-0123 now", confidence=0.1),
        final(3, 4, "five five five oh", confidence=0.1),
        final(5, 6, "hello there", confidence=0.1),
    )
    assert run.finish().audits() == [
        ("low_confidence", "[REDACTED]"),
        ("low_confidence", "call [REDACTED] now"),
        ("low_confidence", "hello there"),
    ]


def test_a_partial_without_its_final_goes_to_the_audit_when_its_conversation_ends() -> None:
    """Only the newest of its slot, and not as a final."""
    run = Run()
    run.hear(partial(1, 2, "good"), partial(1, 3, "good mor"))
    run.pipeline.ended(ConversationEnded("c1", T0), now=1.0)
    run.wait_until(60.9)
    run.commit()
    assert run.store.audits() == []
    run.wait_until(61.0)
    run.commit()
    assert run.store.audits() == [("never_final", "good mor")]
    (payload,) = run.store.payloads(Kind.SEGMENT_AUDIT)
    assert payload["segment"]["is_final"] is False


def test_a_final_that_comes_after_the_end_keeps_its_partial_out_of_the_audit() -> None:
    """Transcripts are late; what never came is told when the process stops, at the latest."""
    run = Run()
    run.hear(partial(1, 2, "good"), partial(5, 6, "and"))
    run.pipeline.ended(ConversationEnded("c1", T0), now=1.0)
    run.hear(final(1, 3, "good morning"), at=30.0)
    assert run.finish().audits() == [("never_final", "and")]


def test_the_end_of_one_communication_leaves_the_partials_of_another() -> None:
    """A transferred call goes on."""
    run = Run()
    run.hear(
        uttered(1, 2, "first", utterance="u1", lane="call-1/external", is_final=False),
        uttered(3, 4, "second", utterance="u2", lane="call-2/external", is_final=False),
    )
    run.pipeline.ended(ConversationEnded("c1", T0, "call-1"), now=1.0)
    run.wait_until(61.0)
    run.commit()
    assert run.store.audits() == [("never_final", "first")]
    run.pipeline.ended(ConversationEnded("c1", T0), now=62.0)
    run.wait_until(122.0)
    run.commit()
    assert len(run.store.audits()) == 2


def test_partials_stay_in_the_journal_when_the_process_stops() -> None:
    """Their final may come after the restart; it has not failed to come."""
    run = Run(journal_s=0.05)
    run.hear(partial(1, 2, "good"), partial(3, 4, "and"))
    run.finish()
    assert run.store.audits() == []
    run.kill()
    run.hear(final(1, 2, "good morning"))
    run.wait_until(400.0)
    run.commit()
    assert run.pipeline.evict(400.0) == 0
    run.commit()
    assert run.store.audits() == [("never_final", "and")]
    assert run.pipeline.evict(400.0) == 1
    assert run.store.journal == {}


def test_without_a_journal_partials_go_to_the_audit_when_the_process_stops() -> None:
    """Recorded input has come to its end."""
    run = Run(settle_s=FOREVER, horizon_s=60.0, journal_s=FOREVER)
    run.hear(partial(1, 2, "good"))
    assert run.pipeline.dirty is False
    assert run.finish().audits() == [("never_final", "good")]
    assert run.store.journal == {}


def test_a_partial_whose_final_is_only_in_the_store_is_not_reported() -> None:
    """It came before the restart."""
    run = Run()
    run.hear(final(1, 2, "good morning"))
    run.wait_until(2.0)
    run.finish()
    run.store.journal.clear()
    run.kill()
    run.hear(partial(1, 1.5, "good"))
    run.pipeline.ended(ConversationEnded("c1", T0), now=run.now)
    run.commit()
    assert run.store.audits() == []


def test_too_many_partials_are_given_up_from_the_first() -> None:
    """Memory is bounded, and what is given up is seen in the audit."""
    run = Run(max_partials=2)
    run.hear(*(partial(i, i + 1, f"word {i}x") for i in range(3)))
    run.commit()
    assert run.store.audits() == [("never_final", "word 0x")]


def test_a_source_without_partials_leaves_nothing_for_partials_behind_their_final() -> None:
    """After many finals without one; the first partial changes that, and its slot is known."""
    run = Run(settle_s=0.0, journal_s=FOREVER, max_slots_per_conversation=10)
    for i in range(LISTENS):
        run.hear(final(i, i + 1, "x"))
        run.pipeline.on_deadline(0.0)
        run.pipeline.take(0.0)
    run.hear(final(20_000, 20_010), final(30_000, 30_010))
    run.hear(partial(20_000, 20_009), partial(30_001, 30_002, "late"))
    run.hear(final(40_000, 40_010), partial(40_001, 40_002, "late, too"))
    run.finish()
    assert run.store.audits() == [("never_final", "late")]


# --- memory --------------------------------------------------------------------------------------


def test_the_store_is_asked_about_what_memory_has_dropped() -> None:
    """Beyond the limit the least recently touched goes; repeats and corrections still work."""
    run = Run(max_slots_per_conversation=2)
    for i in range(6):
        run.hear(final(i, i + 1, f"word {i}x"))
        run.wait_until(run.now + 2.0)
        run.commit()
    run.commit()
    assert run.pipeline.remembered <= 4
    asked = run.store.looked_up
    run.hear(final(0, 1, "word 0x"), final(1, 2.5, "word 1x and more"))
    assert run.store.looked_up > asked
    run.wait_until(run.now + 2.0)
    assert [(d.revision, *texts([d])) for d in run.commit()] == [(1, "word 1x and more")]


def test_a_slot_whose_record_is_gone_from_the_store_starts_anew() -> None:
    """Retention has erased it; a repeat in this process is still known as one."""
    run = Run(max_slots_per_conversation=1)
    run.hear(final(1, 2), final(3, 4), final(5, 6, "last"))
    run.wait_until(2.0)
    run.commit()
    run.commit()
    run.hear(final(7, 8, "more"))
    run.wait_until(4.0)
    run.commit()
    run.store.newest.clear()
    run.hear(final(1, 2), final(7, 8, "more"))
    run.wait_until(6.0)
    assert [(d.utterance, d.revision) for d in run.commit()] == [("s1000", 0)]


def test_a_conversation_that_was_never_seen_asks_the_store_nothing() -> None:
    """One question at first sight, none for its segments."""
    run = Run()
    for i in range(20):
        run.hear(final(i, i + 1))
    run.finish()
    assert run.store.looked_up == 0


def test_nothing_is_forgotten_whose_draft_is_not_stored() -> None:
    """With no memory to speak of, a correction still gets the next revision."""
    run = Run(max_slots_per_conversation=0, max_remembered=0, max_conversations=1, settle_s=0.0)
    run.hear(final(1, 2, "good"))
    run.wait_until(0.0)
    run.hear(final(1, 2, "elsewhere", conversation="c2"))  # c1 has to go
    run.hear(final(1, 3, "good morning"))
    run.wait_until(1.0)
    drafts = run.commit(fails=True) or run.commit()
    assert [(d.conversation, d.revision) for d in drafts] == [("c1", 0), ("c2", 0), ("c1", 1)]


def test_conversations_with_nothing_open_go_first_when_memory_is_full() -> None:
    """Those heard of the longest ago; one that has something open keeps that."""
    run = Run(max_remembered=8, journal_s=FOREVER)
    run.hear(partial(1, 2, "still", conversation="open"))
    for i in range(12):
        run.hear(final(1, 2, conversation=f"c{i}"), at=float(i))
        run.wait_until(i + 0.5)
        run.commit()
    run.wait_until(20.0)
    run.commit()
    assert run.pipeline.remembered <= 9
    assert "c0" in run.attribution.forgotten
    assert "open" not in run.attribution.forgotten
    assert run.pipeline.open_windows == 1


def test_idle_conversations_are_closed_and_forgotten() -> None:
    """What they have open goes out; their number is bounded, too."""
    run = Run(settle_s=FOREVER, horizon_s=60.0, journal_s=FOREVER, idle_s=300.0)
    run.hear(final(1, 2, "good"), partial(3, 4, "and"))
    assert run.pipeline.evict(299.0) == 0
    assert run.pipeline.evict(301.0) == 1
    assert texts(run.commit()) == ["good"]
    assert run.store.audits() == [("never_final", "and")]
    assert run.pipeline.conversations == 0
    run = Run(max_conversations=2)
    run.hear(final(1, 2, "a", conversation="a"), at=1.0)
    run.hear(final(1, 2, "b", conversation="b"), at=2.0)
    run.hear(final(1, 2, "c", conversation="c"), at=2.5)
    assert run.pipeline.conversations == 2
    assert texts(run.commit()) == ["a"]


def test_a_store_that_cannot_be_read_makes_segments_wait() -> None:
    """Nothing is lost for it; when it can be read again they go."""
    run = Run()
    run.hear(final(1, 2, "good mor"))
    run.wait_until(2.0)
    run.finish()
    run.store.journal.clear()
    run.kill()
    run.store.broken = True
    run.hear(final(1, 3, "good morning"))
    run.wait_until(run.now + 3.0)
    assert texts(run.commit()) == []
    run.store.broken = False
    run.wait_until(run.now + 1.0)
    assert [(d.revision, *texts([d])) for d in run.commit()] == [(1, "good morning")]


# --- redaction -----------------------------------------------------------------------------------


def test_a_repeat_after_a_restart_does_not_show_what_its_neighbours_hid() -> None:
    """A piece of a number, alone, would be harmless: it is taken for the repeat it is."""
    run = Run()
    said = [final(1, 2, "it's four one five"), final(3, 4, "five five five oh one four two")]
    run.hear(*said)
    run.wait_until(3.0)
    assert run.finish().texts() == ["it's [REDACTED]", "[REDACTED]"]
    run.store.journal.clear()
    run.kill()
    run.hear(*said)
    run.wait_until(run.now + 100.0)
    assert run.commit() == []


def test_recorded_input_that_is_read_again_keeps_numbers_that_a_kill_cut() -> None:
    """What is stored goes through redaction once more, and out no more."""
    run = Run(settle_s=FOREVER, horizon_s=1.0, journal_s=FOREVER)
    said = [
        final(1, 2, "my number is four one five"),
        final(3, 4, "five five five oh"),
        final(5, 6, "one four two, thanks"),
        final(60, 61, "good bye", speaker="speaker_1"),
        final(3, 4.5, "five five five oh okay"),
    ]
    run.hear(*said[:4])
    whole = texts(run.commit())
    assert whole == ["my number is [REDACTED]", "[REDACTED]", "[REDACTED], thanks"]
    for number in (1, 2):
        again = Run(settle_s=FOREVER, horizon_s=1.0, journal_s=FOREVER)
        again.store.commit(run.drafts[:number], {})
        again.pipeline = again.fresh()
        again.hear(*said)
        assert texts(again.commit())[: 3 - number] == whole[number:]
        again.finish()
        again.kill()
        again.hear(*said)
        assert again.finish().records == again.store.records
        assert again.commit() == []
        assert len(again.store.records) == 5


def test_a_correction_with_fewer_masks_than_before_loses_all_its_numbers() -> None:
    """They may have been masked for their neighbours' sake; what is no correction keeps them."""
    run = Run()
    run.hear(final(1, 2, "call 415-555-0123 and say four one five to him"))
    run.wait_until(2.0)
    run.hear(
        final(1, 3, "so say four one five to him"),
        final(5, 6, "just say four one five to him"),
    )
    run.wait_until(10.0)
    assert run.finish().texts() == [
        "so say [REDACTED] to him",
        "just say four one five to him",
    ]


def test_a_late_correction_does_not_show_what_its_neighbours_hid() -> None:
    """Whether this process gave the segment out, or one before it did."""
    for restarts in (False, True):
        run = Run()
        run.hear(final(1, 2, "it's four one five"), final(3, 4, "five five five oh one four two"))
        run.wait_until(3.0)
        run.finish()
        run.store.journal.clear()
        if restarts:
            run.kill()
        run.wait_until(1000.0)
        run.hear(final(1, 2.5, "so it's four one five"))
        run.wait_until(1100.0)
        run.commit()
        assert run.store.texts() == ["so it's [REDACTED]", "[REDACTED]"]


class Broken:
    """A custom recogniser that fails at one word."""

    name = "broken"

    def find(self, text: str, *, language: str) -> list[Span]:
        if "tulip" in text:
            raise ValueError(f"cannot parse {text}")
        return []


def test_a_segment_that_cannot_be_redacted_is_withheld_and_the_others_go_on() -> None:
    """No text leaves; a gap with its bounds and the error's class does."""
    run = Run()
    run.redactor = Redactor(recognisers=[Broken()])
    run.pipeline = run.fresh()
    run.hear(
        final(1, 2, "before"),
        final(3, 4, "tulip 415-555-0123"),
        final(5, 6, "behind"),
        final(7, 8, "tulip too", confidence=0.1),
    )
    run.finish()
    assert run.store.texts() == ["before", "behind"]
    assert run.pipeline.withheld == 2
    found = gaps(run.drafts)
    assert [gap["detail"] for gap in found] == ["RedactionError"] * 2
    assert {(gap["from_us"], gap["to_us"]) for gap in found} == {(3 * S, 4 * S), (7 * S, 8 * S)}
    assert not any(b"tulip" in draft.payload for draft in run.drafts)


@pytest.mark.parametrize("label", ["+1 415 555 0123", "4111 1111 1111 1111", "bob@example.com"])
def test_a_label_that_holds_a_secret_is_replaced_by_a_hash_of_it(label: str) -> None:
    """The same in one conversation, another in the next; in the key as in the payload."""
    run = Run()
    run.hear(
        final(1, 2, speaker=label),
        final(3, 4, speaker=label),
        final(1, 2, speaker=label, conversation="c2"),
        final(5, 6, speaker=label, confidence=0.1),
    )
    run.finish()
    lanes = {(draft.conversation, draft.lane) for draft in run.drafts}
    assert len(lanes) == 2
    assert len({lane for _, lane in lanes}) == 2
    for draft in run.drafts:
        assert draft.lane.startswith("speaker-")
        assert len(draft.lane) == len("speaker-") + 4
        assert label.encode() not in draft.payload
        payload = json.loads(draft.payload)
        assert payload.get("segment", payload)["speaker"] == draft.lane
        assert draft.key == record_key(
            "primary.example.com", draft.conversation, draft.lane, draft.utterance
        )


@pytest.mark.parametrize("label", ["speaker_0", "Agent 12", "agent-2", "SPEAKER 7", "José"])
def test_an_ordinary_label_stays(label: str) -> None:
    """Numbers that count speakers are no secrets."""
    run = Run()
    run.hear(final(1, 2, speaker=label))
    run.finish()
    assert [draft.lane for draft in run.drafts] == [label]


def test_a_piece_that_failed_is_reported_without_its_label() -> None:
    """The gap names a label that may be shown."""
    run = Run()
    run.pipeline.failed(final(1, 2, speaker="415-555-0123"), "KeyError")
    (draft,) = run.commit()
    (gap,) = gaps([draft])
    assert gap["detail"] == "KeyError"
    assert str(gap["lane"]).startswith("speaker-")
    assert "415" not in draft.utterance


# --- the journal ---------------------------------------------------------------------------------


def test_a_waiting_final_is_in_the_journal_until_the_commit_that_holds_its_record() -> None:
    """One take holds the snapshot, the take with the record also deletes it."""
    run = Run()
    run.hear(final(1, 2, "good morning"))
    drafts, windows = run.pipeline.take(0.0)
    assert drafts == []
    assert windows["c1"] is not None
    run.wait_until(2.0)
    drafts, windows = run.pipeline.take(2.0)
    assert texts(drafts) == ["good morning"]
    assert windows == {"c1": None}
    assert not run.pipeline.dirty


def test_what_goes_out_soon_never_reaches_the_journal() -> None:
    """Only a change that has become ``journal_s`` old is written."""
    run = Run(settle_s=0.02, journal_s=0.05)
    run.hear(final(1, 2, "good morning"), at=10.0)
    assert run.commit() == []
    assert run.store.journal == {}
    assert run.pipeline.dirty
    run.wait_until(10.02)
    assert texts(run.commit()) == ["good morning"]
    assert run.store.journal == {}
    assert not run.pipeline.dirty


def test_a_restart_goes_on_with_what_waited_and_its_age() -> None:
    """A final waits the rest of its time; a number that is held stays one."""
    run = Run()
    run.hear(final(1, 2, "it's four one five"), at=0.0)
    run.wait_until(2.5)
    run.hear(final(3, 4, "five five five oh"), at=3.0)
    run.wait_until(4.0)
    run.commit()
    run.now = 1000.0  # another clock
    run.kill()
    run.wait_until(1000.9)
    assert run.commit() == []
    run.hear(final(5, 6, "one four two, thanks"), at=1001.0)
    run.wait_until(1004.0)
    assert run.finish().texts() == ["it's [REDACTED]", "[REDACTED]", "[REDACTED], thanks"]


def test_a_failed_commit_is_put_back_in_front() -> None:
    """Its drafts come first, and the snapshot is made anew with what has happened since."""
    run = Run()
    run.hear(final(1, 2, "tulips"), at=0.0)
    run.commit()
    run.wait_until(2.0)
    drafts, windows = run.pipeline.take(2.0)
    assert windows == {"c1": None}
    run.hear(final(3, 4, "roses"))
    run.pipeline.put_back(drafts, windows)
    run.wait_until(4.0)
    drafts, windows = run.pipeline.take(4.0)
    assert texts(drafts) == ["tulips", "roses"]
    assert windows == {"c1": None}


def test_the_journal_forgets_a_number_once_its_memory_is_over() -> None:
    """Until then a restart could let the rest of it pass."""
    run = Run()
    run.hear(final(1, 2, "call 415-555-0123"))
    run.wait_until(8.0)
    run.commit()
    assert run.store.journal.keys() == {"c1"}
    run.wait_until(100.0)
    run.commit()
    assert run.store.journal == {}


def test_a_damaged_journal_entry_is_refused_without_its_content() -> None:
    """The caller is told, and nothing of the bytes is in the message."""
    run = Run()
    with pytest.raises(RedactionError) as caught:
        run.pipeline.restore("c1", b"\xffsecret", now=0.0, now_us=0)
    assert "secret" not in str(caught.value)
    assert run.pipeline.conversations == 0


def test_a_conversation_dropped_for_want_of_room_leaves_the_journal() -> None:
    """Also when the commit that deletes it fails once."""
    run = Run(max_conversations=1)
    run.hear(final(1, 2, "good", conversation="a"), at=0.0)
    run.commit()
    run.hear(final(1, 2, "good", conversation="b"), at=1.0)
    run.commit(fails=True)
    run.commit()
    assert run.store.journal.keys() == {"b"}


# --- gaps ----------------------------------------------------------------------------------------


def test_a_disconnect_is_a_gap_of_the_feed_and_of_each_active_conversation() -> None:
    """Journalled while it is open, and closed when the feed is back, also after a restart."""
    run = Run()
    run.hear(final(1, 2, at_us=T0), final(1, 2, conversation="c2", at_us=T0 - 600 * S))
    run.wait_until(3.0)
    run.commit()
    run.pipeline.feed_down(FeedDown("f", "h", "disconnect", T0 + S, T0 + 2 * S))
    run.pipeline.feed_down(FeedDown("f", "h", "disconnect", T0 + S, T0 + 3 * S))
    opened = run.commit()
    assert sorted(draft.conversation for draft in opened) == ["", "c1"]
    assert GAPS in run.store.journal
    run.kill()
    run.pipeline.feed_up(FeedUp("f", "h", T0 + 5 * S))
    closed = run.commit()
    assert {draft.key for draft in closed} == {draft.key for draft in opened}
    assert all(gap["to_us"] == T0 + 5 * S for gap in gaps(closed))
    assert GAPS not in run.store.journal


def test_what_could_not_be_read_or_will_not_come_is_recorded() -> None:
    """As the live spine does it."""
    run = Run()
    run.pipeline.quarantined(Quarantined("s", "a" * 64, 7, "json", T0), now=0.0)
    run.pipeline.missing(Missing("c1", "p1", "sequence", T0, T0 + S, T0 + S))
    run.pipeline.open_gap("", GapCause.PROCESS_DOWN, T0, T0 + S, ["", "c9"])
    assert [gap["cause"] for gap in gaps(run.commit())] == [
        "quarantine",
        "sequence",
        "process_down",
        "process_down",
    ]


# --- summaries -----------------------------------------------------------------------------------


def test_a_conversation_without_speakers_is_reported_with_its_likely_cause() -> None:
    """No labels, nobody for a channel, partials only; one speaker named is enough."""
    run = Run()
    run.attribution.names["call-1/unknown"] = Who("")
    run.hear(
        final(1, 2, speaker="", conversation="a"),
        final(3, 4, speaker="", conversation="a"),
        partial(5, 6, speaker="", conversation="a"),
        uttered(1, 2, lane="call-1/unknown", conversation="b"),
        partial(1, 2, conversation="c"),
        partial(1, 3, conversation="c"),
        final(1, 2, speaker="", conversation="d"),
        final(3, 4, confidence=0.1, conversation="d"),
        final(1, 2, conversation="e"),
    )
    run.wait_until(3.0)
    assert set(run.pipeline.causes()) == {
        ("a", 2, 2, 1, "no_speaker_labels"),
        ("b", 1, 1, 0, "no_participants"),
        ("c", 0, 0, 2, "no_finals"),
    }
    assert run.pipeline.speakerless["a"] == (2, 2, 1)


def test_causes_outlive_their_conversations_within_a_bound() -> None:
    """The newest are kept; one that is heard of again goes on counting."""
    run = Run(journal_s=FOREVER, max_causes=2, idle_s=10.0)
    for i in range(3):
        run.hear(final(1, 2, speaker="", conversation=f"c{i}"))
    run.hear(final(1, 2, conversation="named"))
    run.wait_until(5.0)
    run.commit()
    assert run.pipeline.evict(100.0) == 4
    assert [cause.conversation for cause in run.pipeline.causes()] == ["c1", "c2"]
    run.hear(final(3, 4, speaker="", conversation="c2"), final(3, 4, "", conversation="c1"))
    run.hear(final(5, 6, speaker="", conversation="named"))
    assert [cause[:3] for cause in run.pipeline.causes()] == [("c2", 2, 2)]


def test_the_speakers_of_a_source_are_asked_for_when_they_are_heard() -> None:
    """The attribution hears of every piece, partial or final, and is told who is forgotten."""
    run = Run(journal_s=FOREVER)
    run.hear(partial(1, 2), final(1, 2), final(1, 2))
    assert run.attribution.pieces == 3
    run.wait_until(3.0)
    run.commit()
    run.pipeline.evict(1000.0)
    assert run.attribution.forgotten == ["c1"]


def test_a_mask_with_labels_is_compared_like_any_other() -> None:
    """Texts are compared as redaction leaves them, in this process and after a restart."""
    for restarts in (False, True):
        run = Run()
        run.redactor = Redactor(mask="label")
        run.pipeline = run.fresh()
        run.hear(final(1, 2, "call 415-555-0123 now please"))
        run.wait_until(2.0)
        run.commit()
        if restarts:
            run.kill()
        run.hear(final(1, 2, "call 415-555-0199 now please"), final(1, 2, "call me now please"))
        run.wait_until(20.0)
        assert run.finish().texts() == ["call me now please"]
    assert REDACTOR is not run.redactor
