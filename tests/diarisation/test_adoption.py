"""Revisions that say who spoke, beside those of the machine itself: no two get one number."""

from __future__ import annotations

import json

import msgspec

from diarisation.segment_helpers import Run, uttered
from steno.core.records import Draft, Kind, Record


def reattributed(record: Record, speaker: str) -> Draft:
    """What the last roster makes of a stored segment: the same words, somebody else's."""
    payload = json.loads(record.payload) | {"speaker": speaker}
    return Draft(
        record.kind,
        record.source,
        record.conversation,
        record.lane,
        record.utterance,
        record.revision + 1,
        record.key,
        record.origin,
        record.at_us,
        msgspec.json.encode(payload),
        place_us=payload["started_us"],
    )


def stored(run: Run) -> Record:
    """The only segment of the store."""
    (record,) = (r for r in run.store.newest.values() if r.kind is Kind.SEGMENT)
    return record


def settled() -> Run:
    """A run with one stored segment."""
    run = Run()
    run.hear(uttered(1, 2, "good morning", event_s=2.0))
    run.wait_until(2.0)
    run.commit()
    return run


def test_an_adopted_revision_is_committed_and_the_next_correction_goes_above_it() -> None:
    """0: as heard; 1: somebody else's; 2: other words."""
    run = settled()
    run.pipeline.adopt(reattributed(stored(run), "agent-2"))
    run.commit()
    assert json.loads(stored(run).payload)["speaker"] == "agent-2"
    run.hear(uttered(1, 2, "good evening", event_s=3.0))
    run.wait_until(10.0)
    run.commit()
    assert stored(run).revision == 2
    assert json.loads(stored(run).payload)["text"] == "good evening"


def test_a_correction_goes_above_an_adopted_revision_that_is_not_stored_yet() -> None:
    """Both are drafts of one commit: the later one has the higher number, and counts."""
    run = settled()
    run.pipeline.adopt(reattributed(stored(run), "agent-2"))
    run.hear(uttered(1, 2, "good evening", event_s=3.0))
    run.wait_until(10.0)
    assert [draft.revision for draft in run.commit()] == [1, 2]
    assert json.loads(stored(run).payload)["text"] == "good evening"


def test_a_correction_goes_above_an_adopted_revision_whose_commit_failed() -> None:
    """It is put back, and still comes first."""
    run = settled()
    run.pipeline.adopt(reattributed(stored(run), "agent-2"))
    run.commit(fails=True)
    run.hear(uttered(1, 2, "good evening", event_s=3.0))
    run.wait_until(10.0)
    assert [draft.revision for draft in run.commit()] == [1, 2]


def test_an_adopted_revision_that_a_correction_has_overtaken_is_dropped() -> None:
    """The correction has its number already; adopted as well it would push out the words."""
    run = settled()
    late = reattributed(stored(run), "agent-2")
    run.hear(uttered(1, 2, "good evening", event_s=3.0))
    run.wait_until(10.0)
    run.pipeline.adopt(late)
    assert [draft.revision for draft in run.commit()] == [1]
    assert json.loads(stored(run).payload)["text"] == "good evening"
