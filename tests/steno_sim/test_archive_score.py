"""Holding archived transcripts against what was stored."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from steno_sim.archive.library import File, Library, Truth
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.archive_score import ArchiveScore, score_listing, score_payload
from steno_sim.world import World

CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"


def stored() -> tuple[dict[str, Any], Truth]:
    """Give a document as it is stored, and its truth."""
    library = Library(World("quiet"), ArchiveSettings(turns=(120, 120), language="en-US"))
    found = library.find(CALL)
    assert found is not None
    file = File(CALL, "document")
    body = msgspec.json.decode(b"".join(library.make(found, file).body.read()))
    return body, library.truth(found, file)


def payload(body: dict[str, Any]) -> bytes:
    return msgspec.json.encode({k: body[k] for k in ("transcript", "participants")})


def lines(turns: list[dict[str, Any]], truth: Truth) -> list[dict[str, Any]]:
    return [
        {
            "start_sample": round(turn["start_time"] * 48_000),
            "end_sample": round(turn["end_time"] * 48_000),
            "role": said.role,
            "segment": turn,
        }
        for turn, said in zip(turns, truth.turns, strict=True)
    ]


def told(each: list[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in each)


def test_a_faithful_archive_is_perfect() -> None:
    """As a payload, and as a listing."""
    body, truth = stored()
    found = score_payload([truth], payload(body))
    assert found == ArchiveScore(expected=120, right=120)
    listed = score_listing([truth], told(lines(body["transcript"], truth)))
    assert listed.perfect
    assert listed.right == 120


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (lambda t: t.pop(7), {"missing": 1}),
        (lambda t: t.insert(7, dict(t[3])), {"extra": 1, "disordered": 0}),
        (lambda t: t.insert(9, t[9] | {"text": "Nobody", "start_time": 0.1}), {"extra": 1}),
        (lambda t: t[5].update(text="Something else."), {"wrong": 1}),
        (lambda t: t[5].update(start_time=t[5]["start_time"] + 0.5), {"wrong": 1}),
        (lambda t: t[5].update(confidence=0.5), {"wrong": 1}),
        (lambda t: t[5].update(speaker_id=CALL), {"wrong": 1}),
        (lambda t: t.insert(20, t.pop(10)), {"disordered": 1}),
    ],
)
def test_each_fault_counts_once(change: Any, counts: dict[str, int]) -> None:
    """Nothing else is counted beside it, and no detail quotes a text."""
    body, truth = stored()
    change(body["transcript"])
    found = score_payload([truth], payload(body))
    kinds = ("missing", "extra", "wrong", "disordered", "leaked")
    assert {k: getattr(found, k) for k in kinds} == dict.fromkeys(kinds, 0) | counts
    assert not found.perfect
    assert found.details
    assert not any(turn.text in line for line in found.details for turn in truth.turns)


def test_secrets_count_as_leaked_where_redaction_was_asked_for() -> None:
    """A mask in place of each is right; one left in its place is a leak."""
    body, truth = stored()
    planted = [(n, s.text) for n, turn in enumerate(truth.turns) for s in turn.secrets]
    assert len(planted) > 5
    assert score_payload([truth], payload(body), redacted=True).leaked == len(planted)
    for number, secret in planted[1:]:
        turn = body["transcript"][number]
        turn["text"] = turn["text"].replace(secret, "[NUMBER]")
    found = score_payload([truth], payload(body), redacted=True)
    assert (found.leaked, found.wrong, found.right) == (1, 0, 120)


def test_a_mask_over_what_was_no_secret_is_wrong() -> None:
    """Redaction must not eat the rest."""
    body, truth = stored()
    clean = next(n for n, turn in enumerate(truth.turns) if not turn.secrets)
    body["transcript"][clean]["text"] = "[NAME]"
    found = score_payload([truth], payload(body), redacted=True)
    assert found.wrong == 1


def test_participants_and_roles_are_compared() -> None:
    """Another list of participants, a wrong role, a sample beside the nearest."""
    body, truth = stored()
    listed = lines(body["transcript"], truth)
    listed[3]["role"] = "unknown" if listed[3]["role"] != "unknown" else "agent"
    listed[9]["end_sample"] += 1
    found = score_listing([truth], told(listed))
    assert found.wrong == 2
    body["participants"].reverse()
    assert score_payload([truth], payload(body)).wrong_participants


def test_a_filtered_listing_is_held_against_what_was_asked_for() -> None:
    """Roles and a least confidence."""
    body, truth = stored()
    listed = lines(body["transcript"], truth)
    kept = [
        line for line in listed if line["role"] == "agent" and line["segment"]["confidence"] >= 0.9
    ]
    found = score_listing([truth], told(kept), only=["agent"], min_confidence=0.9)
    assert found.perfect
    assert 0 < found.expected < 120
    assert not score_listing([truth], told(listed), only=["agent"]).perfect


def test_what_cannot_be_read_is_not_expected() -> None:
    """Bad turns of a file are nobody's to archive; the platform's purposes name speakers."""
    settings = ArchiveSettings(turns=(60, 60), bad=1.0)
    library = Library(World("quiet"), settings)
    found = library.find(CALL)
    assert found is not None
    truth = library.truth(found, File(CALL, "platform"))
    good = [turn for turn in truth.turns if not turn.bad]
    segments = [
        {
            "start_time": turn.start_ms / 1000,
            "end_time": turn.end_ms / 1000,
            "text": turn.spoken,
            "speaker_id": {"agent": "internal", "customer": "external"}.get(turn.role, turn.role),
            "confidence": turn.confidence,
        }
        for turn in good
    ]
    data = msgspec.json.encode({"transcript": segments, "participants": []})
    assert score_payload([truth], data) == ArchiveScore(expected=len(good), right=len(good))
    assert len(good) == 57


def test_what_is_not_told_must_not_be_invented() -> None:
    """Turns without a speaker and a confidence are right when they have none."""
    library = Library(World("quiet"), ArchiveSettings(turns=(80, 80), sparse=0.3))
    found = library.find(CALL)
    assert found is not None
    file = File(CALL, "document")
    truth = library.truth(found, file)
    body = msgspec.json.decode(b"".join(library.make(found, file).body.read()))
    bare = [turn for turn in body["transcript"] if "confidence" not in turn]
    assert 8 < len(bare) < 50
    assert not any("speaker_id" in turn for turn in bare)
    assert score_payload([truth], payload(body)).perfect
    bare[0]["confidence"] = 0.0
    bare[1]["speaker_id"] = CALL
    assert score_payload([truth], payload(body)).wrong == 2


def test_what_is_no_payload_is_refused() -> None:
    """Not scored as if it were empty."""
    _, truth = stored()
    with pytest.raises(msgspec.MsgspecError):
        score_payload([truth], b'{"transcript": 7}')
