"""The score of an export finds each planted error, and nothing in a perfect export."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from conformance.collector import export_of, finals_of_events
from steno_sim import scenario
from steno_sim.ledger import Truth
from steno_sim.recorded import of_scenario, truth_of
from steno_sim.script import build
from steno_sim.segments_score import SegmentsScore, audited, score_export

Edit = Callable[[list[dict[str, Any]]], object]


@pytest.fixture(scope="module")
def run() -> tuple[Truth, list[dict[str, Any]]]:
    """Give the truth of the packaged scenario, and a perfect collector's export."""
    script = build(scenario.load("diarisation"))
    truth = truth_of(script, "event-socket")
    found = finals_of_events(map(json.loads, of_scenario(script, "event-socket")))
    segments: list[dict[str, Any]] = json.loads(export_of(found, truth))["segments"]
    return truth, segments


def scored(run: tuple[Truth, list[dict[str, Any]]], edit: Edit | None = None) -> SegmentsScore:
    truth, segments = run
    changed = [dict(one) for one in segments]
    if edit is not None:
        edit(changed)
    body = {"totalSegments": len(changed), "segments": changed}
    return score_export(truth, json.dumps(body).encode())


def test_a_perfect_export_is_perfect(run: tuple[Truth, list[dict[str, Any]]]) -> None:
    """Everything expected, once, as it should be."""
    score = scored(run)
    assert score.expected == score.right == len(run[1]) > 50
    assert score.perfect
    assert score.details == []


def set_(place: int, **fields: Any) -> Edit:
    return lambda segments: segments[place].update(fields)


def move(segments: list[dict[str, Any]]) -> None:
    """Put the first segment of a conversation after its second."""
    segments[0], segments[1] = segments[1], segments[0]


def invent(segments: list[dict[str, Any]]) -> None:
    segments.append(segments[-1] | {"text": "Nobody said this.", "start_seconds": 500.0})


def other_conversation(segments: list[dict[str, Any]]) -> None:
    segments.append(segments[0] | {"conversation_id": "nobody"})


@pytest.mark.parametrize(
    ("edit", "error", "count"),
    [
        (lambda s: s.pop(3), "missing", 1),
        (lambda s: s.clear(), "missing", 0),
        (invent, "extra", 1),
        (other_conversation, "extra", 1),
        (lambda s: s.insert(4, dict(s[3])), "repeated", 1),
        (set_(2, speaker="speaker_7"), "wrong_speaker", 1),
        (set_(2, speaker=""), "wrong_speaker", 1),
        (lambda s: s[2].update(end_seconds=s[2]["end_seconds"] + 0.4), "wrong_times", 1),
        (lambda s: s[2].update(start_seconds=s[2]["start_seconds"] + 0.01), "wrong_times", 1),
        (set_(2, text="Something else was heard."), "wrong_text", 1),
        (lambda s: s[2].update(text="[NAME] " + s[2]["text"]), "wrong_text", 1),
        (set_(2, confidence=0.5), "wrong_confidence", 1),
        (move, "disordered", 1),
        (set_(2, is_final=False), "misshaped", 1),
        (set_(2, timestamp="yesterday"), "misshaped", 1),
        (set_(2, timestamp="2026-03-04T09:15:27"), "misshaped", 1),
    ],
)
def test_each_planted_error_is_found_and_counted_once(
    run: tuple[Truth, list[dict[str, Any]]], edit: Edit, error: str, count: int
) -> None:
    """One error, one count, in its own column."""
    score = scored(run, edit)
    errors = {
        name: getattr(score, name)
        for name in msgspec.structs.asdict(score)
        if name not in ("expected", "right", "details")
    }
    assert errors.pop(error) == (count or score.expected)
    assert not any(errors.values())
    assert not score.perfect
    assert score.details[0].startswith(error)


def test_secrets_in_the_open_are_leaks(run: tuple[Truth, list[dict[str, Any]]]) -> None:
    """Whole numbers and each part of one that was read over two segments."""
    truth, _ = run
    secrets = truth.secrets()
    assert len([s for s in secrets if s.group]) == 2
    said = {s.text: c.id for c in truth.conversations for u in c.utterances for s in u.secrets}

    def unmask(segments: list[dict[str, Any]]) -> None:
        for secret, conversation in said.items():
            for one in segments:
                if one["conversation_id"] == conversation and "[" in one["text"]:
                    one["text"] += f" {secret}"

    assert scored(run, unmask).leaked == len(secrets) >= 8
    assert "415" not in " ".join(scored(run, unmask).details)


def test_segments_for_the_audit_are_extra(run: tuple[Truth, list[dict[str, Any]]]) -> None:
    """Faint ones and those that name nobody do not belong into an export."""
    truth, segments = run
    found = finals_of_events(
        map(json.loads, of_scenario(build(scenario.load("diarisation")), "event-socket"))
    )
    faint = [one for one in found if one["confidence"] < 0.5]
    nameless = [one for one in found if not one["speaker"]]
    assert faint
    assert nameless
    assert audited(truth) == {
        "low_confidence": len(faint),
        "no_speaker": len(nameless),
        "never_final": 1,
    }
    score = scored((truth, segments + faint))
    assert score.extra == len(faint)


def test_the_older_final_of_two_is_wrong(run: tuple[Truth, list[dict[str, Any]]]) -> None:
    """Where a final was corrected, its first version is not right any more."""
    truth, _ = run
    corrected = [s for c in truth.conversations for s in c.segments if len(s.versions) == 2]
    assert corrected
    first, last = corrected[0].versions

    def older(changed: list[dict[str, Any]]) -> None:
        for one in changed:
            if one["text"] == last.text:
                one.update(text=first.text, end_seconds=first.end_s, confidence=first.confidence)

    score = scored(run, older)
    assert (score.wrong_text, score.wrong_times, score.wrong_confidence) == (1, 1, 1)


def test_a_lower_threshold_expects_the_unsure_ones(
    run: tuple[Truth, list[dict[str, Any]]],
) -> None:
    """From 0.5 up they are in the result."""
    truth, _ = run
    script = build(scenario.load("diarisation"))
    found = finals_of_events(map(json.loads, of_scenario(script, "event-socket")))
    export = export_of(found, truth, min_confidence=0.5)
    score = score_export(truth, export, min_confidence=0.5)
    assert score.perfect
    assert score.expected > scored(run).expected
    assert not score_export(truth, export).perfect


def test_only_the_documents_shape_is_read(run: tuple[Truth, list[dict[str, Any]]]) -> None:
    """A missing or unknown key is an error, a wrong total a count."""
    truth, segments = run
    with pytest.raises(msgspec.ValidationError):
        score_export(truth, b'{"segments": []}')
    body = {"totalSegments": 1, "segments": [segments[0] | {"role": "agent"}]}
    with pytest.raises(msgspec.ValidationError):
        score_export(truth, json.dumps(body))
    body = {"totalSegments": 0, "segments": segments}
    score = score_export(truth, json.dumps(body))
    assert (score.misshaped, score.perfect) == (1, False)
