"""Summing up a transcript while it passes."""

from __future__ import annotations

import itertools
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.archive.criteria import roles_of
from steno.archive.summary import Summing, TranscriptSummary, with_analysis
from steno.core.stored import Participant, Segment
from steno.core.transcript import RawText, Role

PEOPLE = (
    Participant("p-agent", "", "agent"),
    Participant("p-customer", "", "Customer"),
    Participant("p-ivr", "", "ivr"),
    Participant("p-odd", "", "translator"),
)
ROLES = roles_of(PEOPLE)
SPEAKERS = [person.id for person in PEOPLE] + ["p-stranger", ""]

seconds = st.floats(0, 5000, allow_nan=False)


@st.composite
def turns(draw: st.DrawFn) -> list[Segment]:
    """Segments in any order."""
    count = draw(st.integers(0, 30))
    return [
        Segment(
            start := draw(seconds),
            start + draw(st.floats(0, 60)),
            RawText("x"),
            draw(st.sampled_from(SPEAKERS)),
            draw(st.one_of(st.none(), st.floats(0, 1))),
        )
        for _ in range(count)
    ]


def summed(segments: list[Segment], cuts: list[int]) -> Summing:
    """Add segments in portions."""
    summing = Summing()
    at = 0
    for cut in [*sorted(cuts), len(segments)]:
        summing.add(segments[at:cut])
        at = max(at, cut)
    return summing


def test_the_keys_and_their_order_are_the_document_s() -> None:
    """Programs that read the document's summary read ours."""
    keys = list(msgspec.to_builtins(TranscriptSummary("c", 1.0, 1, 1, 0, 0.5, "t", "l")))
    assert keys == [
        "interaction_id",
        "total_duration_seconds",
        "total_turns",
        "agent_turns",
        "customer_turns",
        "avg_confidence",
        "archived_at",
        "storage_location",
    ]


@given(segments=turns(), cuts=st.lists(st.integers(0, 30), max_size=4))
def test_the_summary_is_that_of_the_whole_list(segments: list[Segment], cuts: list[int]) -> None:
    """However it is cut into batches."""
    summary = summed(segments, cuts).summary("c", ROLES)
    told = [one.confidence for one in segments if one.confidence is not None]
    assert summary.total_turns == len(segments)
    assert summary.total_duration_seconds == max((one.end_time for one in segments), default=0.0)
    assert summary.agent_turns == sum(one.speaker_id == "p-agent" for one in segments)
    assert summary.customer_turns == sum(one.speaker_id == "p-customer" for one in segments)
    assert summary.avg_confidence == pytest.approx(math.fsum(told) / len(told) if told else 0.0)


@given(segments=turns(), cuts=st.lists(st.integers(0, 30), max_size=4))
def test_shares_are_those_of_the_roles(segments: list[Segment], cuts: list[int]) -> None:
    """Whoever has no role we know is counted as unknown, and not left out."""
    analysis = summed(segments, cuts).analysis(ROLES)
    assert sum(share.turns for share in analysis.roles.values()) == len(segments)
    strange = {"p-odd", "p-stranger", ""}
    assert analysis.roles["unknown"].turns == sum(one.speaker_id in strange for one in segments)
    talk = math.fsum(one.end_time - one.start_time for one in segments)
    for role in Role:
        own = [one for one in segments if ROLES.get(one.speaker_id, Role.UNKNOWN) is role]
        said = math.fsum(one.end_time - one.start_time for one in own)
        share = analysis.roles[role.value]
        assert share.talk_seconds == pytest.approx(said, abs=1e-3)
        assert share.talk_share == pytest.approx(said / talk if talk else 0.0, abs=1e-4)
        told = [one.confidence for one in own if one.confidence is not None]
        mean = math.fsum(told) / len(told) if told else None
        assert share.avg_confidence == (None if mean is None else pytest.approx(mean, abs=1e-4))


def _by_sweep(segments: list[Segment]) -> tuple[float, float]:
    """Return overlap and silence by looking at every instant between two bounds."""
    bounds = sorted({0.0, *(b for one in segments for b in (one.start_time, one.end_time))})
    overlap = spoken = 0.0
    for left, right in itertools.pairwise(bounds):
        active = sum(one.start_time <= left and one.end_time >= right for one in segments)
        overlap += max(0, active - 1) * (right - left)
        spoken += (right - left) if active else 0.0
    last = max((one.end_time for one in segments), default=0.0)
    return overlap, last - spoken


@given(segments=turns(), cuts=st.lists(st.integers(0, 30), max_size=4))
def test_overlap_and_silence_of_ordered_turns_are_exact(
    segments: list[Segment], cuts: list[int]
) -> None:
    """Compared with a sweep over all instants."""
    ordered = sorted(segments, key=lambda one: one.start_time)
    analysis = summed(ordered, cuts).analysis(ROLES)
    overlap, silence = _by_sweep(ordered)
    assert analysis.in_order
    assert analysis.overlap_seconds == pytest.approx(overlap, abs=2e-3)
    assert analysis.silence_seconds == pytest.approx(silence, abs=2e-3)


def test_overlap_of_turns_out_of_order_is_not_guessed() -> None:
    """It would need all turns at once."""
    late = [Segment(5.0, 6.0, RawText("b")), Segment(1.0, 2.0, RawText("a"))]
    for cuts in ([], [1]):
        analysis = summed(late, cuts).analysis({})
        assert (analysis.in_order, analysis.overlap_seconds, analysis.silence_seconds) == (
            False,
            None,
            None,
        )


def test_the_average_of_nothing_is_zero() -> None:
    """As in the document, and no division by it."""
    assert Summing().summary("c", {}).avg_confidence == 0.0
    assert Summing().summary("c", {}).total_duration_seconds == 0.0


def test_the_analysis_stands_under_a_key_of_its_own() -> None:
    """The summary's keys stay as they are."""
    summing = Summing()
    summing.add([Segment(0.0, 1.0, RawText("a"), "p-agent", 0.5)])
    body = msgspec.json.decode(with_analysis(summing.summary("c", ROLES), summing.analysis(ROLES)))
    assert list(body)[-1] == "analysis"
    assert body["analysis"]["roles"]["agent"]["talk_share"] == 1.0
    assert "analysis" not in msgspec.json.decode(with_analysis(summing.summary("c", ROLES), None))
