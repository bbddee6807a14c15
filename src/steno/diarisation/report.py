"""A report over many conversations: what it holds, and in which order.

Conversations come in one by one. Of each a short row is kept, and of the first few in the order
asked for everything, so the number of conversations does not matter to memory: 10^4 rows are
some ten megabytes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from steno.core.records import AuditReason, Record
from steno.diarisation.analysis import DEFAULT_PAUSE_US, ConversationFigures, analyse
from steno.diarisation.picture import Sketch
from steno.diarisation.views import views
from steno.errors import IntegrityError

MAX_ROWS: Final = 50_000
"""Conversations listed; of more than these only the totals are told."""

DEFAULT_FULL: Final = 20
"""Conversations shown in full, with a picture each on the page."""

CAUSES: Final[dict[AuditReason, str]] = {
    AuditReason.NO_SPEAKER: (
        "the transcription provider does not tell speakers, or diarisation is off for this language"
    ),
    AuditReason.NEVER_FINAL: "only partials came: finals never arrived",
    AuditReason.LOW_CONFIDENCE: "the source itself is unsure of every segment",
    AuditReason.BAD_TIMES: "the source sends times that cannot be",
}
"""Why a conversation may have no segment, by what the audit says most often."""

BELOW: Final = "every segment is below the confidence asked for"


class Order(StrEnum):
    """In which order conversations are listed. Numbers: the largest first."""

    NAME = "name"
    START = "start"
    DURATION = "duration"
    SEGMENTS = "segments"
    SILENCE = "silence"
    OVERLAP = "overlap"
    INTERRUPTIONS = "interruptions"
    CONFIDENCE = "confidence"
    AUDIT = "audit"


class ConversationReport(msgspec.Struct, frozen=True):
    """A conversation's part of the report.

    Attributes:
        figures: Of the segments that met the confidence asked for.
        below: Segments left out because they did not.
        audit: Segments that never entered the result, by ``AuditReason``.
        likely_cause: Why there is no segment, in words of ours; empty where there is one.
    """

    figures: ConversationFigures
    below: int
    audit: dict[str, int]
    likely_cause: str


class Totals(msgspec.Struct, frozen=True):
    """Sums over every conversation of the report."""

    conversations: int = 0
    without_segments: int = 0
    segments: int = 0
    below: int = 0
    words: int = 0
    duration_s: float = 0.0
    speech_s: float = 0.0
    silence_s: float = 0.0
    overlap_s: float = 0.0
    interruptions: int = 0
    audit: dict[str, int] = {}

    def plus(self, one: ConversationReport) -> Totals:
        """Return the sums with one more conversation in them."""
        figures = one.figures
        return Totals(
            conversations=self.conversations + 1,
            without_segments=self.without_segments + (not figures.segments),
            segments=self.segments + figures.segments,
            below=self.below + one.below,
            words=self.words + figures.words,
            duration_s=self.duration_s + figures.duration_s,
            speech_s=self.speech_s + figures.speech_s,
            silence_s=self.silence_s + figures.silence_s,
            overlap_s=self.overlap_s + figures.overlap_s,
            interruptions=self.interruptions + figures.interruptions,
            audit={
                reason: self.audit.get(reason, 0) + one.audit.get(reason, 0)
                for reason in sorted(self.audit.keys() | one.audit.keys())
            },
        )


class Row(msgspec.Struct, frozen=True, gc=False):
    """A conversation in the overview. ``started_us`` is UTC, or 0 where nobody knows it."""

    conversation: str
    started_us: int
    duration_s: float
    speakers: int
    segments: int
    turns: int
    silence_s: float
    longest_silence_s: float
    overlap_s: float
    overlap_share: float
    interruptions: int
    mean_confidence: float | None
    audited: int
    below: int


class Full(NamedTuple):
    """A conversation shown in full."""

    report: ConversationReport
    sketch: Sketch


class _Ranked(NamedTuple):
    """Something of a conversation, ordered by the key asked for and then by its id."""

    key: float
    conversation: str
    value: Row | Full


def report_on(
    conversation: str,
    records: Iterable[Record],
    audited: Iterable[Record],
    *,
    min_confidence: float,
    pause_us: int = DEFAULT_PAUSE_US,
    sketch: Sketch | None = None,
) -> ConversationReport:
    """Return a conversation's part, in one pass over its records.

    Args:
        records: Its ``segment`` records by place.
        audited: Its ``segment_audit`` records in any order.
        sketch: Draws the segments in passing.

    Raises:
        IntegrityError: A record is not of its kind.
    """
    read = 0

    def counted() -> Iterator[Record]:
        nonlocal read
        for record in records:
            read += 1
            yield record

    found = views(counted(), min_confidence=min_confidence)
    figures = analyse(
        conversation, found if sketch is None else sketch.watch(found), pause_us=pause_us
    )
    counts = count_reasons(audited)
    cause = "" if figures.segments else BELOW if read else likely_cause(counts)
    return ConversationReport(figures, read - figures.segments, counts, cause)


def count_reasons(audited: Iterable[Record]) -> dict[str, int]:
    """Return how many segments did not enter the result, by ``AuditReason``.

    Raises:
        IntegrityError: A record is no ``segment_audit`` record.
    """
    counts: dict[str, int] = {}
    for record in audited:
        try:
            reason = _decode_audit(record.payload).reason
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Without the cause: it quotes what could not be decoded.
            raise IntegrityError("not an audit record", record=record.id) from None
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items()))


class _AuditedReason(msgspec.Struct, frozen=True, gc=False):
    """Only what is counted of a ``SegmentAuditPayload``."""

    reason: AuditReason


_decode_audit = msgspec.json.Decoder(_AuditedReason).decode


def likely_cause(counts: dict[str, int]) -> str:
    """Return why a conversation has no segment with a speaker, or nothing when nobody can say.

    The reason that the audit gives most often decides; of equals the one listed first in
    ``CAUSES``.

    Args:
        counts: Segments not in the result, by ``AuditReason``.
    """
    found = max(CAUSES, key=lambda reason: counts.get(reason, 0))
    return CAUSES[found] if counts.get(found) else ""


class Overview:
    """Gathers conversations in the order asked for.

    Args:
        full: How many conversations, the first in that order, are kept in full.
    """

    def __init__(self, order: Order = Order.NAME, *, full: int = DEFAULT_FULL) -> None:
        self.order = order
        self.totals = Totals()
        self._most_full = full
        self._rows: list[_Ranked] = []
        self._full: list[_Ranked] = []

    def add(self, report: ConversationReport, sketch: Sketch) -> None:
        """Take in a conversation."""
        self.totals = self.totals.plus(report)
        row = _row(report)
        key = _KEYS[self.order](row)
        _keep(self._rows, _Ranked(key, row.conversation, row), MAX_ROWS)
        _keep(self._full, _Ranked(key, row.conversation, Full(report, sketch)), self._most_full)

    def rows(self) -> list[Row]:
        """Return the rows in order."""
        return [one.value for one in self._rows if isinstance(one.value, Row)]

    def in_full(self) -> list[Full]:
        """Return the conversations to be shown in full, in order."""
        return [one.value for one in self._full if isinstance(one.value, Full)]

    @property
    def not_listed(self) -> int:
        """How many conversations are in the totals only."""
        return self.totals.conversations - len(self._rows)


def _keep(ranked: list[_Ranked], one: _Ranked, most: int) -> None:
    if len(ranked) >= most and (not most or one[:2] >= ranked[-1][:2]):
        return
    insort(ranked, one, key=lambda entry: entry[:2])
    del ranked[most:]


def _row(report: ConversationReport) -> Row:
    figures = report.figures
    return Row(
        conversation=figures.conversation,
        started_us=figures.zero_us + round(figures.start_s * 1e6) if figures.zero_us else 0,
        duration_s=figures.duration_s,
        speakers=len(figures.speakers),
        segments=figures.segments,
        turns=figures.turns,
        silence_s=figures.silence_s,
        longest_silence_s=figures.longest_silence_s,
        overlap_s=figures.overlap_s,
        overlap_share=figures.overlap_share,
        interruptions=figures.interruptions,
        mean_confidence=figures.mean_confidence,
        audited=sum(report.audit.values()),
        below=report.below,
    )


_KEYS: Final[dict[Order, Callable[[Row], float]]] = {
    Order.NAME: lambda row: 0,
    Order.START: lambda row: row.started_us,
    Order.DURATION: lambda row: -row.duration_s,
    Order.SEGMENTS: lambda row: -row.segments,
    Order.SILENCE: lambda row: -row.silence_s,
    Order.OVERLAP: lambda row: -row.overlap_s,
    Order.INTERRUPTIONS: lambda row: -row.interruptions,
    # The least sure first: they are what one looks for.
    Order.CONFIDENCE: lambda row: 2.0 if row.mean_confidence is None else row.mean_confidence,
    Order.AUDIT: lambda row: -(row.audited + row.below),
}
