"""The report: what is gathered, in which order, and why a conversation has no segment."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.records import (
    AuditReason,
    Kind,
    Origin,
    Record,
    SegmentAuditPayload,
    SegmentPayload,
    record_key,
)
from steno.diarisation import report as reports
from steno.diarisation.analysis import analyse
from steno.diarisation.picture import Sketch
from steno.diarisation.report import (
    BELOW,
    CAUSES,
    ConversationReport,
    Order,
    Overview,
    count_reasons,
    likely_cause,
    report_on,
)
from steno.diarisation.views import SegmentView
from steno.errors import IntegrityError

S = 1_000_000


def payload(speaker: str, start_s: float, end_s: float, confidence: float = 0.9) -> SegmentPayload:
    return SegmentPayload(
        speaker=speaker,
        text="well then",
        started_us=round(start_s * S),
        ended_us=round(end_s * S),
        confidence=confidence,
        at_us=1,
    )


def record(number: int, body: SegmentPayload | SegmentAuditPayload) -> Record:
    kind = Kind.SEGMENT if isinstance(body, SegmentPayload) else Kind.SEGMENT_AUDIT
    return Record(
        id=f"0197c0de-0000-7000-8000-{number:012}",
        kind=kind,
        source="event-socket",
        conversation="c",
        lane="",
        utterance=str(number),
        revision=0,
        key=record_key("host", "c", "", str(number)),
        seq=number,
        prev_seq=number - 1,
        origin=Origin.LIVE,
        at_us=number,
        payload=msgspec.json.encode(body),
    )


def audited(*reasons: AuditReason) -> list[Record]:
    return [
        record(number, SegmentAuditPayload(reason, payload("", 0, 1)))
        for number, reason in enumerate(reasons, 1)
    ]


def a_report(
    name: str, *, end_s: float = 1, gap_s: float = 0, audit: int = 0
) -> ConversationReport:
    """A conversation of two segments of one speaker with silence between them."""
    views = [
        SegmentView(name, "a", "", start, end, 0.9, True, 0)
        for start, end in ((0, S), (S + round(gap_s * S), S + round((gap_s + end_s) * S)))
    ]
    return ConversationReport(analyse(name, views), 0, {"no_speaker": audit} if audit else {}, "")


def test_a_conversation_is_reported_in_one_pass() -> None:
    """Figures of what met the confidence; the rest is counted, and the pictures get the same."""
    records = [
        record(1, payload("a", 0, 2)),
        record(2, payload("b", 2, 3, confidence=0.6)),
        record(3, payload("b", 4, 5)),
    ]
    sketch = Sketch()
    found = report_on(
        "c",
        iter(records),
        iter(audited(AuditReason.NO_SPEAKER, AuditReason.NO_SPEAKER, AuditReason.BAD_TIMES)),
        min_confidence=0.85,
        sketch=sketch,
    )
    assert (found.figures.segments, found.figures.silence_s, found.below) == (2, 2, 1)
    assert found.audit == {"bad_times": 1, "no_speaker": 2}
    assert found.likely_cause == ""
    assert {name: len(bars) for name, bars in sketch.lanes.items()} == {"a": 1, "b": 1}


def test_a_conversation_without_a_segment_has_a_likely_cause() -> None:
    """Nothing met the confidence asked for, or what the audit says most often."""
    below = report_on("c", [record(1, payload("a", 0, 2, 0.6))], [], min_confidence=0.85)
    assert (below.below, below.likely_cause) == (1, BELOW)
    nobody = report_on("c", [], audited(AuditReason.NO_SPEAKER), min_confidence=0.85)
    assert "does not tell speakers, or diarisation is off" in nobody.likely_cause
    partial = report_on(
        "c",
        [],
        audited(AuditReason.NEVER_FINAL, AuditReason.NO_SPEAKER, AuditReason.NEVER_FINAL),
        min_confidence=0.85,
    )
    assert "finals never arrived" in partial.likely_cause
    assert report_on("c", [], [], min_confidence=0.85).likely_cause == ""


def test_every_audit_reason_has_a_cause() -> None:
    """A new reason must be given its words."""
    assert set(CAUSES) == set(AuditReason)
    assert all(likely_cause({reason: 1}) == CAUSES[reason] for reason in AuditReason)


def test_a_damaged_audit_record_is_one_error_without_its_text() -> None:
    """What could not be decoded is not quoted."""
    broken = msgspec.structs.replace(audited(AuditReason.NO_SPEAKER)[0], payload=b'{"re secret')
    with pytest.raises(IntegrityError, match="not an audit record") as caught:
        count_reasons([broken])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("order", "names"),
    [
        (Order.NAME, ["a", "b", "c"]),
        (Order.DURATION, ["b", "c", "a"]),
        (Order.SILENCE, ["c", "b", "a"]),
        (Order.AUDIT, ["a", "b", "c"]),
    ],
)
def test_rows_come_in_the_order_asked_for(order: Order, names: list[str]) -> None:
    """Numbers with the largest first, equals by name; what is in full is first in that order."""
    overview = Overview(order, full=2)
    given_ = [
        a_report("b", end_s=9, gap_s=1),
        a_report("c", end_s=5, gap_s=4),
        a_report("a", end_s=2, audit=3),
    ]
    for one in given_:
        overview.add(one, Sketch())
    assert [row.conversation for row in overview.rows()] == names
    assert [one.report.figures.conversation for one in overview.in_full()] == names[:2]


@given(order=st.sampled_from(Order), names=st.permutations("abcdef"), full=st.integers(0, 7))
def test_the_order_of_arrival_does_not_matter(order: Order, names: list[str], full: int) -> None:
    """Whatever comes first, the same rows come out in the same order."""
    one, other = Overview(order, full=full), Overview(order, full=full)
    for name in names:
        one.add(a_report(name, gap_s=ord(name) % 3), Sketch())
    for name in sorted(names):
        other.add(a_report(name, gap_s=ord(name) % 3), Sketch())
    assert one.rows() == other.rows()
    assert [found.report for found in one.in_full()] == [found.report for found in other.in_full()]
    assert len(one.in_full()) == min(full, len(names))


def test_more_conversations_than_are_listed_are_in_the_totals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The table ends somewhere; nothing is lost from the sums."""
    monkeypatch.setattr(reports, "MAX_ROWS", 3)
    overview = Overview(full=1)
    for number in range(5):
        overview.add(a_report(f"c{number}", gap_s=1, audit=2), Sketch())
    assert (len(overview.rows()), overview.not_listed) == (3, 2)
    totals = overview.totals
    assert (totals.conversations, totals.segments, totals.silence_s) == (5, 10, 5)
    assert totals.audit == {"no_speaker": 10}


def test_reports_are_json() -> None:
    """What a program reads has every figure by its name, in seconds."""
    (found,) = msgspec.json.decode(msgspec.json.encode([a_report("c", gap_s=2)]))
    assert found["figures"]["longest_silence_s"] == 2
    assert found["figures"]["speakers"][0]["first_response_s"] is None
    assert found["likely_cause"] == ""
