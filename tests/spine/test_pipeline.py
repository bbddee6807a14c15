"""The live pipeline: what becomes a record, what is journalled, and what a gap says."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steno.core.language import LanguageRule
from steno.core.records import Draft, GapCause, Kind
from steno.core.transcript import Fragment, RawText
from steno.errors import RedactionError
from steno.ports import (
    ConversationEnded,
    FeedDown,
    FeedUp,
    LanguageHeard,
    Missing,
    Quarantined,
)
from steno.redaction.entities import Span
from steno.redaction.redactor import Redactor
from steno.spine.gaps import GAPS
from steno.spine.pipeline import Pipeline, PipelineSettings

S = 1_000_000
REDACTOR = Redactor()
SETTINGS = PipelineSettings(
    source="transcript-stream", host_group="primary.example.com", journal_s=0.0
)


def pipeline(**changes: object) -> Pipeline:
    return Pipeline(msgspec.structs.replace(SETTINGS, **changes), REDACTOR)


def frag(
    at_s: float,
    text: str,
    *,
    final: bool = False,
    conversation: str = "c1",
    lane: str = "p1",
    language: str = "en-US",
    confidence: float = 0.9,
) -> Fragment:
    return Fragment(conversation, lane, RawText(text), confidence, final, language, int(at_s * S))


def say(target: Pipeline, *fragments: Fragment, now: float | None = None) -> None:
    for fragment in fragments:
        at = fragment.at_us / S if now is None else now
        target.fragment(fragment, now=at, now_us=int(at * S))


def texts(drafts: list[Draft]) -> list[str]:
    return [json.loads(d.payload)["text"] for d in drafts if d.kind is Kind.SENTENCE]


def gaps(drafts: list[Draft]) -> list[dict[str, object]]:
    return [json.loads(d.payload) for d in drafts if d.kind is Kind.GAP]


def test_a_finished_sentence_becomes_a_redacted_draft() -> None:
    """Its payload holds the masked text, its own times, language, and what was removed."""
    target = pipeline()
    say(target, frag(1, "please call me at"), frag(2, "415-555-0123 today", final=True))
    drafts, windows = target.take(2.0)
    (draft,) = drafts
    payload = json.loads(draft.payload)
    assert payload["text"] == "please call me at [REDACTED] today"
    assert payload["entities"] == {"phone": 1}
    assert (payload["started_us"], payload["completed_us"]) == (1 * S, 2 * S)
    assert (draft.conversation, draft.lane, draft.revision) == ("c1", "p1", 0)
    assert draft.at_us == 2 * S
    assert windows == {}


def test_the_key_is_the_same_from_both_regions_and_after_a_restart() -> None:
    """It is made of host group, conversation, lane and utterance, and of nothing else."""
    keys = set()
    for _ in range(2):
        target = pipeline()
        say(target, frag(1, "good morning", final=True))
        keys.add(target.take(1.0)[0][0].key)
    assert len(keys) == 1
    other = pipeline(host_group="another.example.com")
    say(other, frag(1, "good morning", final=True))
    assert other.take(1.0)[0][0].key not in keys


def test_an_open_window_is_in_the_journal_until_the_commit_that_holds_its_sentence() -> None:
    """One take holds the snapshot, the take with the record also deletes it."""
    target = pipeline()
    say(target, frag(1, "I would like"))
    drafts, windows = target.take(1.0)
    assert drafts == []
    assert windows["c1"] is not None
    say(target, frag(2, "to pay", final=True))
    drafts, windows = target.take(2.0)
    assert texts(drafts) == ["I would like to pay"]
    assert windows == {"c1": None}
    assert not target.dirty


WORDS = st.lists(
    st.sampled_from(["alfa", "bravo", "coca", "delta", "echo", "fox", "golf"]),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(words=WORDS, every=st.integers(1, 4), takes=st.sets(st.integers(0, 11)))
def test_a_kill_between_commits_loses_nothing_that_was_taken(
    words: list[str], every: int, takes: set[int]
) -> None:
    """Restarted from the journal after every commit, the records hold each word once."""
    fragments = [
        frag(1 + i / 10, f"{word}{i}", final=(i + 1) % every == 0) for i, word in enumerate(words)
    ]
    journal: dict[str, bytes] = {}
    records: dict[tuple[str, int], str] = {}
    target = pipeline()

    def commit(now: float) -> None:
        drafts, windows = target.take(now)
        for draft in drafts:
            records[draft.key, draft.revision] = json.loads(draft.payload)["text"]
        for name, snapshot in windows.items():
            if snapshot is None:
                journal.pop(name, None)
            else:
                journal[name] = snapshot

    for i, fragment in enumerate(fragments):
        say(target, fragment)
        if i in takes:
            commit(fragment.at_us / S)
            target = pipeline()
            for name, snapshot in journal.items():
                target.restore(name, snapshot, now=fragment.at_us / S, now_us=fragment.at_us)
    target.flush(100.0)
    commit(100.0)
    said = sorted(word for text in records.values() for word in text.split())
    assert said == sorted(fragment.text for fragment in fragments)


def test_a_window_that_closes_soon_never_reaches_the_journal() -> None:
    """Only a change that has become ``journal_s`` old is written; what is given out is at once."""
    target = pipeline(journal_s=0.05)
    say(target, frag(1, "I would like"), now=10.0)
    assert target.take(10.04) == ([], {})
    assert target.dirty
    say(target, frag(2, "to pay", final=True), now=10.045)
    drafts, windows = target.take(10.045)
    assert (texts(drafts), windows) == (["I would like to pay"], {})
    assert not target.dirty
    say(target, frag(3, "and then"), now=11.0)
    assert target.take(11.05)[1].keys() == {"c1"}


def test_a_failed_commit_is_put_back_in_front() -> None:
    """Its drafts come first, and the snapshot is made anew with what has happened since."""
    target = pipeline()
    say(target, frag(1, "tulips", final=True), frag(2, "roses and"))
    drafts, windows = target.take(2.0)
    say(target, frag(3, "lilies", final=True))
    target.put_back(drafts, windows)
    again, windows = target.take(3.0)
    assert texts(again) == ["tulips", "roses and lilies"]
    assert windows == {"c1": None}


def test_a_restored_window_that_was_never_put_back_is_still_deleted() -> None:
    """A delete that failed is tried again."""
    target = pipeline()
    say(target, frag(1, "roses and"))
    target.take(1.0)
    say(target, frag(2, "lilies", final=True))
    drafts, windows = target.take(2.0)
    assert windows == {"c1": None}
    target.put_back(drafts, windows)
    assert target.take(2.0)[1] == {"c1": None}


def test_the_timer_closes_windows_of_all_conversations_that_are_due() -> None:
    """Each at its own time, whatever else happens."""
    target = pipeline(window_s=5.0)
    say(target, frag(1, "first words", conversation="a"), frag(2, "later words", conversation="b"))
    assert target.next_deadline() == 6.0
    target.on_deadline(6.0)
    assert texts(target.take(6.0)[0]) == ["first words"]
    assert target.next_deadline() == 7.0
    target.on_deadline(7.0)
    assert texts(target.take(7.0)[0]) == ["later words"]


def test_the_journal_forgets_a_window_the_timer_closed_once_its_memory_is_over() -> None:
    """The entry stays while a growing partial may still come, and then goes by itself."""
    target = pipeline(window_s=5.0)
    say(target, frag(1, "first words"))
    target.take(1.0)
    target.on_deadline(6.0)
    assert target.take(6.0)[1]["c1"] is not None
    deadline = target.next_deadline()
    assert deadline is not None
    target.on_deadline(deadline)
    assert target.take(deadline)[1] == {"c1": None}


def test_a_number_spoken_over_two_sentences_never_gets_out() -> None:
    """The first half is held until the second decides, also across a commit and a restart."""
    target = pipeline()
    say(target, frag(1, "my card number is four one one one one one one one", final=True))
    drafts, windows = target.take(1.0)
    assert not any("four one" in text for text in texts(drafts))
    snapshot = windows["c1"]
    assert snapshot is not None
    second = pipeline()
    second.restore("c1", snapshot, now=2.0, now_us=2 * S)
    say(second, frag(3, "one one one one one one one one", final=True))
    second.flush(4.0)
    said = " ".join(texts(second.take(4.0)[0]))
    assert "one one" not in said
    assert "[REDACTED]" in said


class Broken:
    """A custom recogniser that fails."""

    name = "broken"

    def find(self, text: str, *, language: str) -> list[Span]:
        raise ValueError(f"cannot parse {text}")


def test_a_sentence_that_cannot_be_redacted_is_withheld_and_reported() -> None:
    """No text leaves; a gap with its bounds and the error's class does."""
    target = Pipeline(SETTINGS, Redactor(recognisers=[Broken()]))
    say(target, frag(1, "call 415-555-0123 now", final=True))
    target.flush(2.0)
    drafts, _ = target.take(2.0)
    assert texts(drafts) == []
    assert target.withheld == 1
    (gap,) = gaps(drafts)
    assert gap["cause"] == GapCause.QUARANTINE
    assert gap["detail"] == "RedactionError"
    assert not any(b"415" in draft.payload for draft in drafts)


def test_a_disconnect_is_a_gap_of_the_feed_and_of_each_active_conversation() -> None:
    """Opened at the last sign of life, closed when the feed is back, under one key each."""
    target = pipeline()
    say(target, frag(100, "hello", final=True), frag(100, "hi", final=True, conversation="c2"))
    target.take(100.0)
    target.feed_down(FeedDown("f", "h", "disconnect", 101 * S, 102 * S, close_code=1006))
    opened, _ = target.take(102.0)
    assert sorted(draft.conversation for draft in opened) == ["", "c1", "c2"]
    assert all(gap["from_us"] == 101 * S and "to_us" not in gap for gap in gaps(opened))
    target.feed_down(FeedDown("f", "h", "disconnect", 102 * S, 103 * S))
    assert target.take(103.0)[0] == []
    target.feed_up(FeedUp("f", "h", 105 * S))
    closed, _ = target.take(105.0)
    assert {draft.key for draft in closed} == {draft.key for draft in opened}
    assert all(draft.revision == 1 for draft in closed)
    assert all(gap["to_us"] == 105 * S for gap in gaps(closed))


def test_the_time_without_a_process_is_a_gap_closed_by_the_first_feed() -> None:
    """From the last sign of life of the process before to the first connection of this one."""
    target = pipeline()
    target.open_gap("", GapCause.PROCESS_DOWN, 50 * S, 60 * S, ["", "c9"])
    target.feed_up(FeedUp("f", "h", 61 * S))
    drafts, _ = target.take(61.0)
    assert [draft.revision for draft in drafts] == [0, 0, 1, 1]
    assert gaps(drafts)[-1]["to_us"] == 61 * S


def test_a_gap_left_open_by_a_kill_is_closed_by_the_next_process() -> None:
    """Open gaps are journalled with their records, and leave the journal when they close."""
    first = pipeline()
    first.feed_down(FeedDown("f", "h", "disconnect", 101 * S, 102 * S))
    opened, windows = first.take(102.0)
    snapshot = windows[GAPS]
    assert snapshot is not None
    second = pipeline()
    second.restore(GAPS, snapshot, now=0.0, now_us=200 * S)
    second.feed_up(FeedUp("f", "h", 205 * S))
    closed, windows = second.take(1.0)
    assert [(draft.key, draft.revision) for draft in closed] == [(opened[0].key, 1)]
    assert windows == {GAPS: None}


def test_malformed_messages_are_recorded_by_hash_and_a_flood_is_summed_up() -> None:
    """Size, hash and cause are kept; so many a second, and how many more there were."""
    target = pipeline(quarantines_per_s=2)
    for i in range(5):
        target.quarantined(Quarantined("s", f"{i:064x}", 7, "json", 10 * S + i), now=1.0)
    target.quarantined(Quarantined("s", "f" * 64, 7, "json", 12 * S), now=2.5)
    found = gaps(target.take(3.0)[0])
    assert len(found) == 3
    assert found[0]["size_bytes"] == 7
    assert found[-1]["detail"] == "json (+3)"


def test_equal_malformed_messages_of_one_read_are_records_of_their_own() -> None:
    """Same time, same hash, and still two keys: none is taken for a repeat."""
    target = pipeline()
    for _ in range(3):
        target.quarantined(Quarantined("s", "a" * 64, 7, "json", 10 * S), now=1.0)
    assert len({draft.key for draft in target.take(2.0)[0]}) == 3


def test_a_steady_other_language_asks_for_a_switch_and_is_recorded_once_made() -> None:
    """The record names both languages and whether the platform was told."""
    target = pipeline(language=LanguageRule(recent=4, min_evidence=2))
    for i in range(4):
        say(target, frag(i, f"hola {i}", language="es-ES", confidence=0.95, final=True))
    ((conversation, wanted),) = target.switches
    target.take(4.0)
    target.switch_made(conversation, wanted, applied=True, now=5.0, now_us=5 * S)
    (draft,) = target.take(5.0)[0]
    payload = json.loads(draft.payload)
    assert draft.kind is Kind.LANGUAGE_CHANGED
    assert (payload["previous"], payload["language"]) == ("en-US", "es-ES")
    assert payload["applied"] is True


def test_the_end_of_a_conversation_gives_out_its_last_words() -> None:
    """Nobody waits for the window of a call that is over."""
    target = pipeline()
    say(target, frag(1, "good bye"))
    target.ended(ConversationEnded("c1", 2 * S), now=2.0)
    assert texts(target.take(2.0)[0]) == ["good bye"]


def test_idle_conversations_are_forgotten_and_their_number_is_bounded() -> None:
    """What is idle goes; beyond the bound the one idle for longest gives out what it has."""
    target = pipeline(max_conversations=2, idle_s=60.0)
    say(target, frag(1, "hello", conversation="a"))
    say(target, frag(2, "good", conversation="b"), frag(3, "morning", conversation="c"))
    assert target.conversations == 2
    assert texts(target.take(3.0)[0]) == ["hello"]
    target.flush(4.0)
    target.take(4.0)
    target.on_deadline(30.0)
    target.take(30.0)
    assert target.evict(100.0) == 2
    assert target.conversations == 0


def test_a_conversation_that_was_forgotten_goes_on_in_its_language() -> None:
    """The model was switched once; after a long silence it is not switched again."""
    target = pipeline(language=LanguageRule(recent=2, min_evidence=2), idle_s=60.0)
    say(target, *(frag(i, "hola amigo", language="es-ES", final=True) for i in range(2)))
    ((conversation, wanted),) = target.switches
    target.switch_made(conversation, wanted, applied=True, now=2.0, now_us=2 * S)
    target.take(2.0)
    assert target.evict(100.0) == 1
    target.switches.clear()
    say(target, *(frag(200 + i, "sigo aquí", language="es-ES", final=True) for i in range(4)))
    assert target.switches == []


def test_a_damaged_journal_entry_is_refused_without_its_content() -> None:
    """The caller is told, and nothing of the bytes is in the message."""
    with pytest.raises(RedactionError) as caught:
        pipeline().restore("c1", b"\xffsecret", now=0.0, now_us=0)
    assert "secret" not in str(caught.value)


def test_a_missing_interval_is_a_closed_gap_with_its_samples() -> None:
    """What will not come is recorded once, on the lane's own clock."""
    target = pipeline()
    event = Missing("c1", "p1", "sequence", 5 * S, 6 * S, 7 * S, 8000, 16000, "50 frames")
    target.missing(event)
    (draft,) = target.drafts
    payload = json.loads(draft.payload)
    assert (draft.kind, draft.conversation, draft.lane) == (Kind.GAP, "c1", "p1")
    assert (payload["from_samples"], payload["to_samples"]) == (8000, 16000)
    assert payload["to_us"] == 6 * S
    assert payload["closed_at_us"] == 7 * S


def test_languages_told_apart_elsewhere_are_recorded_and_never_switched() -> None:
    """A source whose language is identified from its audio asks for no switch of a model."""
    target = pipeline(follows_language=False)
    say(target, *(frag(at, "hola", final=True, language="es-ES") for at in range(1, 6)))
    assert target.switches == []
    target.language_heard(LanguageHeard("c1", "p1", "en-US", "es-ES", 0.93, 4, 9 * S))
    payload = json.loads(target.drafts[-1].payload)
    assert target.drafts[-1].kind is Kind.LANGUAGE_CHANGED
    assert (payload["previous"], payload["language"]) == ("en-US", "es-ES")
