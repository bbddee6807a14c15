"""Any order, duplication and cutting of the same events gives the same segments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from conformance.fuzz_examples import examples
from diarisation.segment_helpers import FOREVER, T0, Run, final, partial, uttered
from steno.core.transcript import Fragment
from steno.ports import ConversationEnded

RAW = re.compile(rb"555-01|4111|1111|bob\.lee|four one|one four|five five|oh one")

PLAIN = ["good morning", "thank you so much", "let me have a look", "that is right", ""]
# Each kind of secret in words of its own: what differs in the secret alone is one version.
WITH_SECRETS = [
    "please call 415-555-0123 today please",
    "please call 212-555-0188 today please",
    "it is 4111 1111 1111 1111 as I said",
    "write to bob.lee@example.com if you like",
]

# A number said over several segments, with somebody else between.
DICTATION = [
    final(10, 11, "my number is four one five"),
    final(11, 11.5, "mhm", speaker="speaker_1"),
    final(12, 13, "five five five oh"),
    final(13, 14, "okay", speaker="speaker_1"),
    final(15, 16, "one four two, thanks"),
]


@st.composite
def segments(draw: st.DrawFn, *, partials: bool) -> Fragment:
    """A final or a partial of one of few slots, so that many are versions of one another."""
    text = draw(st.sampled_from(PLAIN + WITH_SECRETS))
    start = draw(st.sampled_from([30, 30.0004, 33, 36]))
    end = start + draw(st.sampled_from([1, 2]))
    confidence = draw(st.sampled_from([0.3, 0.6, 0.9, 0.95]))
    number = draw(st.sampled_from([1, 1, 2]))
    is_final = not partials or draw(st.booleans())
    if draw(st.booleans()):
        return uttered(
            start,
            end,
            text,
            utterance=draw(st.sampled_from(["u1", "u2"])),
            event_s=draw(st.sampled_from([50, 60])),
            lane=draw(st.sampled_from(["call-1/external", "call-1/internal"])),
            confidence=confidence,
            is_final=is_final,
            conversation=f"n{number}",
        )
    return final(
        start,
        draw(st.sampled_from([end, end, end, start - 1])),
        text,
        speaker=draw(st.sampled_from(["speaker_0", "speaker_1", "", "415-555-0142"])),
        confidence=confidence,
        conversation=f"c{number}",
        at_us=T0 + draw(st.integers(0, 3)),
        is_final=is_final,
        language=draw(st.sampled_from(["en-US", ""])),
    )


def without_secrets(run: Run) -> bool:
    """Whether no draft tells anything that was to be redacted."""
    return not any(RAW.search(draft.payload) for draft in run.drafts)


@dataclass
class Plan:
    """Events in an order, with the time between them and the commits."""

    events: Sequence[Fragment]
    pauses: Sequence[float] = field(default_factory=tuple)
    commits: Sequence[int] = field(default_factory=tuple)

    def run(self, **changes: object) -> Run:
        """All come within the settling window; then their conversations end."""
        run = Run(**changes)
        pauses = list(self.pauses) + [0.0] * len(self.events)
        scale = 1.9 / max(1.0, sum(pauses[: len(self.events)]))
        for index, event in enumerate(self.events):
            run.hear(event, at=run.now + pauses[index] * scale)
            if index in self.commits:
                run.commit()
        run.wait_until(50.0)
        run.commit()
        for name in ("c1", "c2", "n1", "n2"):
            run.pipeline.ended(ConversationEnded(name, T0), now=run.now)
        run.finish()
        return run


@settings(max_examples=examples(150), deadline=None)
@given(
    others=st.lists(segments(partials=True), max_size=8),
    dictated=st.booleans(),
    repeats=st.lists(st.integers(0, 12), max_size=4),
    pauses=st.lists(st.floats(0, 1), max_size=16),
    commits=st.lists(st.integers(0, 16), max_size=4),
    data=st.data(),
)
def test_what_comes_within_the_settling_window_may_come_in_any_order(
    others: list[Fragment],
    dictated: bool,
    repeats: list[int],
    pauses: list[float],
    commits: list[int],
    data: st.DataObject,
) -> None:
    """Also numbers that run over segments, repeats, versions, partials and the audit."""
    events = (DICTATION if dictated else []) + others
    again = events + [events[i] for i in repeats if i < len(events)]
    expected = Plan(events).run()
    shuffled = Plan(data.draw(st.permutations(again)), pauses, commits).run()
    assert shuffled.store.result() == expected.store.result()
    assert without_secrets(expected)
    assert without_secrets(shuffled)


@settings(max_examples=examples(60), deadline=None)
@given(others=st.lists(segments(partials=True), max_size=8), data=st.data())
def test_recorded_input_may_be_out_of_order_within_the_horizon(
    others: list[Fragment], data: st.DataObject
) -> None:
    """Read at any speed, with nothing but its own clock, it gives what live input gives."""
    events = DICTATION + others
    expected = Plan(events).run()
    shuffled = data.draw(st.permutations(events))
    recorded = Plan(shuffled).run(settle_s=FOREVER, horizon_s=60.0, journal_s=FOREVER)
    assert recorded.store.result() == expected.store.result()
    assert recorded.store.journal == {}


@dataclass
class Limits:
    """Settings that make the machine forget, settle and give up at any moment."""

    settle_s: float = 2.0
    horizon_s: float | None = None
    max_slots_per_conversation: int = 2048
    max_remembered: int = 200_000
    max_conversations: int = 100_000
    max_waiting: int = 1024
    max_waiting_in_all: int = 100_000
    journal_s: float = 0.0


LIMITS = st.builds(
    Limits,
    settle_s=st.sampled_from([0.0, 0.5, 2.0, FOREVER]),
    horizon_s=st.sampled_from([None, 1.0, 10.0]),
    max_slots_per_conversation=st.sampled_from([0, 1, 3, 2048]),
    max_remembered=st.sampled_from([0, 1, 3, 200_000]),
    max_conversations=st.sampled_from([1, 2, 100]),
    max_waiting=st.sampled_from([1, 3, 1024]),
    max_waiting_in_all=st.sampled_from([1, 100]),
)
STEPS = st.lists(
    st.sampled_from(["wait", "commit", "fail", "restart", "evict", "end", "flush"]), max_size=20
)


def judged(run: Run) -> dict[str, str]:
    """Segments, and the audit but for partials: when those are given up is a matter of time."""
    found = run.store.result()
    return {key: payload for key, payload in found.items() if '"never_final"' not in payload}


@settings(max_examples=examples(250), deadline=None)
@given(
    events=st.lists(segments(partials=True), min_size=1, max_size=10),
    repeats=st.lists(st.integers(0, 9), max_size=4),
    limits=LIMITS,
    steps=STEPS,
    waits=st.lists(st.sampled_from([0.1, 1.0, 3.0, 70.0, 400.0]), min_size=20, max_size=20),
    data=st.data(),
)
def test_forgetting_restarting_and_settling_at_any_time_change_nothing(
    events: list[Fragment],
    repeats: list[int],
    limits: Limits,
    steps: list[str],
    waits: list[float],
    data: st.DataObject,
) -> None:
    """Where every secret lies within one segment, the same segments and the same audit result."""
    expected = judged(Plan(events).run())
    run = Run(**vars(limits))
    heard = data.draw(st.permutations(events + [events[i] for i in repeats if i < len(events)]))
    todo: list[Fragment | str] = data.draw(st.permutations([*heard, *steps]))
    for number, step in enumerate(todo):
        take(run, step, waits[number % len(waits)])
    run.pipeline.flush(run.now)
    run.commit()
    assert judged(run) == expected
    assert without_secrets(run)


def take(run: Run, step: Fragment | str, wait_s: float) -> None:
    """Do one thing that may happen at any time."""
    if isinstance(step, Fragment):
        run.hear(step)
    elif step == "wait":
        run.wait_until(run.now + wait_s)
    elif step == "commit":
        run.commit()
    elif step == "fail":
        run.commit(fails=True)
    elif step == "restart":
        run.commit()
        run.kill()
    elif step == "evict":
        run.pipeline.evict(run.now + 1000.0)
    elif step == "end":
        for name in ("c1", "n1"):
            run.pipeline.ended(ConversationEnded(name, T0), now=run.now)
    else:
        run.pipeline.flush(run.now)


@settings(max_examples=examples(100), deadline=None)
@given(
    events=st.lists(segments(partials=False), min_size=1, max_size=8),
    kill_at=st.integers(0, 8),
    commits=st.sets(st.integers(0, 8)),
    journal_s=st.sampled_from([0.0, 0.05, 1.0]),
    pause_s=st.sampled_from([0.01, 0.3, 3.0]),
)
@example(events=[final(30, 31)], kill_at=1, commits={0}, journal_s=0.0, pause_s=0.01)
def test_a_kill_loses_nothing_that_a_commit_has_seen(
    events: list[Fragment],
    kill_at: int,
    commits: set[int],
    journal_s: float,
    pause_s: float,
) -> None:
    """What the journal or the store holds is in the result; the source repeats the rest."""
    expected = judged(Plan(events).run())
    run = Run(journal_s=journal_s)
    seen = 0
    for index, event in enumerate(events):
        if index == kill_at:
            run.kill()
            for lost in events[seen:index]:
                run.hear(lost)
        run.hear(event)
        if index in commits and journal_s == 0.0:
            run.commit()
            seen = index + 1
        run.wait_until(run.now + pause_s)
    if kill_at >= len(events):
        run.kill()
        run.hear(*events[seen:])
    run.wait_until(run.now + 100.0)
    run.finish()
    assert judged(run) == expected
    assert without_secrets(run)


@settings(max_examples=examples(100), deadline=None)
@given(
    others=st.lists(segments(partials=True), max_size=8),
    horizon_s=st.sampled_from([1.0, 10.0, 60.0]),
    kills=st.lists(st.integers(0, 13), max_size=3),
    commits=st.sets(st.integers(0, 13)),
    data=st.data(),
)
def test_recorded_input_that_is_read_again_after_a_kill_ends_like_one_that_was_not(
    others: list[Fragment],
    horizon_s: float,
    kills: list[int],
    commits: set[int],
    data: st.DataObject,
) -> None:
    """Without a journal: revisions and texts that hang on their neighbours included."""
    events = data.draw(st.permutations(DICTATION + others))
    changes = {"settle_s": FOREVER, "horizon_s": horizon_s, "journal_s": FOREVER}
    whole = Run(**changes)
    whole.hear(*events)
    whole.finish()
    again = Run(**changes)
    for kill_at in kills:
        for index, event in enumerate(events[:kill_at]):
            again.hear(event)
            if index in commits:
                again.commit()
        again.kill()
    again.hear(*events)
    again.finish()
    assert again.store.result() == whole.store.result()
    newest = {key: record.revision for key, record in whole.store.newest.items()}
    assert {key: record.revision for key, record in again.store.newest.items()} == newest
    again.kill()
    before = len(again.drafts)
    again.hear(*events)
    again.finish()
    found = [draft.key for draft in again.drafts[before:] if draft.revision]
    assert found == []
    assert again.store.result() == whole.store.result()


@settings(max_examples=examples(100), deadline=None)
@given(
    steps=st.lists(st.sampled_from(["wait", "commit", "fail", "restart", "flush"]), max_size=10),
    late=st.permutations(DICTATION),
    repeats=st.permutations(DICTATION),
)
def test_a_number_over_segments_stays_hidden_whatever_is_repeated_or_restarted(
    steps: list[str], late: list[Fragment], repeats: list[Fragment]
) -> None:
    """Once it was found, neither repeats nor corrections show a piece of it."""
    run = Run()
    run.hear(*late)
    run.wait_until(10.0)
    run.commit()
    assert without_secrets(run)
    corrected = [final(12, 13.5, "five five five oh yes"), partial(12, 13, "five five five")]
    todo: list[Fragment | str] = [*steps, *repeats, *steps[::-1], *corrected, *steps]
    for step in todo:
        take(run, step, 70.0)
    run.finish()
    assert without_secrets(run)
