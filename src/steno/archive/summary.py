"""The summary of a transcript, added up while it passes.

Sums are kept by speaker, because participants may come behind the segments; roles are put in at
the end. Times are added a batch at a time, in arrays: at the sizes stored transcripts have, a loop
over segments would cost more than reading them.

``TranscriptSummary`` has the document's keys. ``Analysis`` is what else is computed in the pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Final

import msgspec
import numpy as np

from steno.archive.align import Seconds
from steno.core.stored import Segment
from steno.core.transcript import Role

MAX_SPEAKERS: Final = 10_000
"""Speakers told apart; segments of any further one count as of nobody."""

_start, _end = attrgetter("start_time"), attrgetter("end_time")
_confidence, _speaker = attrgetter("confidence"), attrgetter("speaker_id")
_encode = msgspec.json.Encoder().encode


class TranscriptSummary(msgspec.Struct, frozen=True):
    """The document's summary, in its keys and order.

    Attributes:
        total_duration_seconds: End of the segment that ends last.
        avg_confidence: Over the segments that tell one; 0.0 where none does.
        archived_at: RFC 3339 UTC; empty where nothing is archived.
        storage_location: Address of the object; empty likewise.
    """

    interaction_id: str
    total_duration_seconds: float
    total_turns: int
    agent_turns: int
    customer_turns: int
    avg_confidence: float
    archived_at: str = ""
    storage_location: str = ""


class RoleShare(msgspec.Struct, frozen=True):
    """What one role's turns add up to.

    Attributes:
        talk_share: Of the time of all roles' turns together, 0..1; 0.0 where nobody speaks.
        avg_confidence: None where no turn tells one.
    """

    turns: int
    talk_seconds: float
    talk_share: float
    avg_confidence: float | None


class Analysis(msgspec.Struct, frozen=True):
    """What is computed beside the summary.

    Attributes:
        overlap_seconds: Time of turns during which an earlier turn was still going on.
        silence_seconds: Time up to the last end in which nobody speaks.
        in_order: Turns came by their start. Where they did not, overlap and silence are None:
            to know them, all turns would have to be kept.
    """

    roles: dict[str, RoleShare]
    speakers: int
    turns_without_confidence: int
    overlap_seconds: float | None
    silence_seconds: float | None
    in_order: bool


class Summing:
    """Adds up one transcript's segments."""

    __slots__ = (
        "_confidence",
        "_count",
        "_covered",
        "_in_order",
        "_last_end",
        "_last_start",
        "_overlap",
        "_speakers",
        "_spoken",
        "_talk",
        "_told",
        "turns",
    )

    def __init__(self) -> None:
        self.turns = 0
        self._speakers: dict[str, int] = {}
        self._count = np.zeros(8, np.int64)
        self._talk = np.zeros(8)
        self._confidence = np.zeros(8)
        self._told = np.zeros(8, np.int64)
        self._last_end = 0.0
        self._last_start = float("-inf")
        self._covered = 0.0  # up to where somebody has spoken
        self._spoken = 0.0
        self._overlap = 0.0
        self._in_order = True

    def add(self, segments: Sequence[Segment]) -> tuple[Seconds, Seconds]:
        """Add segments; return their starts and ends, for whoever needs them too."""
        count = len(segments)
        starts = np.fromiter(map(_start, segments), np.float64, count)
        ends = np.fromiter(map(_end, segments), np.float64, count)
        if not count:
            return starts, ends
        self.turns += count
        self._last_end = max(self._last_end, float(ends.max()))
        speakers = self._numbers(segments)
        size = len(self._speakers) + 1
        self._grow(size)
        lengths = np.maximum(ends - starts, 0.0)
        self._count[:size] += np.bincount(speakers, minlength=size)
        self._talk[:size] += np.bincount(speakers, weights=lengths, minlength=size)
        self._add_confidence(segments, speakers, size)
        self._add_cover(starts, ends, lengths)
        return starts, ends

    def _numbers(self, segments: Sequence[Segment]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return each segment's speaker as a number; 0 for those beyond the limit."""
        known = self._speakers
        names = list(map(_speaker, segments))
        try:
            return np.fromiter(map(known.__getitem__, names), np.int64, len(names))
        except KeyError:
            for name in names:
                if name not in known and len(known) < MAX_SPEAKERS:
                    known[name] = len(known) + 1
        return np.fromiter((known.get(name, 0) for name in names), np.int64, len(names))

    def _grow(self, size: int) -> None:
        if size > len(self._count):
            more = max(size, 2 * len(self._count)) - len(self._count)
            self._count, self._talk = np.pad(self._count, (0, more)), np.pad(self._talk, (0, more))
            self._confidence = np.pad(self._confidence, (0, more))
            self._told = np.pad(self._told, (0, more))

    def _add_confidence(self, segments: Sequence[Segment], speakers: np.ndarray, size: int) -> None:
        told = np.fromiter(map(_confidence, segments), np.float64, len(segments))
        untold = np.isnan(told)  # numpy's reading of None; the parser lets no other NaN pass
        if untold.any():
            told, speakers = told[~untold], speakers[~untold]
        self._confidence[:size] += np.bincount(speakers, weights=told, minlength=size)
        self._told[:size] += np.bincount(speakers, minlength=size)

    def _add_cover(self, starts: Seconds, ends: Seconds, lengths: Seconds) -> None:
        if not self._in_order:
            return
        if starts[0] < self._last_start or (np.diff(starts) < 0).any():
            self._in_order = False
            return
        self._last_start = float(starts[-1])
        covered = np.maximum.accumulate(np.concatenate(([self._covered], ends)))
        fresh = np.maximum(ends - np.maximum(starts, covered[:-1]), 0.0)
        self._spoken += float(fresh.sum())
        self._overlap += float(lengths.sum() - fresh.sum())
        self._covered = float(covered[-1])

    def summary(
        self,
        conversation: str,
        roles: Mapping[str, Role],
        *,
        archived_at: str = "",
        storage_location: str = "",
    ) -> TranscriptSummary:
        """Return the document's summary."""
        turns = self._by_role(self._count, roles)
        told = int(self._told.sum())
        return TranscriptSummary(
            interaction_id=conversation,
            total_duration_seconds=self._last_end,
            total_turns=self.turns,
            agent_turns=int(turns[Role.AGENT]),
            customer_turns=int(turns[Role.CUSTOMER]),
            avg_confidence=float(self._confidence.sum()) / told if told else 0.0,
            archived_at=archived_at,
            storage_location=storage_location,
        )

    def analysis(self, roles: Mapping[str, Role]) -> Analysis:
        """Return what else was added up."""
        turns, talk = self._by_role(self._count, roles), self._by_role(self._talk, roles)
        confidence, told = self._by_role(self._confidence, roles), self._by_role(self._told, roles)
        whole = sum(talk.values())
        return Analysis(
            roles={
                role.value: RoleShare(
                    turns=int(turns[role]),
                    talk_seconds=round(talk[role], 3),
                    talk_share=round(talk[role] / whole, 4) if whole else 0.0,
                    avg_confidence=round(confidence[role] / told[role], 4) if told[role] else None,
                )
                for role in Role
            },
            speakers=len(self._speakers),
            turns_without_confidence=self.turns - int(self._told.sum()),
            overlap_seconds=round(self._overlap, 3) if self._in_order else None,
            silence_seconds=(
                round(max(0.0, self._last_end - self._spoken), 3) if self._in_order else None
            ),
            in_order=self._in_order,
        )

    def _by_role(self, sums: np.ndarray, roles: Mapping[str, Role]) -> dict[Role, float]:
        found = dict.fromkeys(Role, 0.0)
        found[Role.UNKNOWN] += float(sums[0])
        for speaker, number in self._speakers.items():
            found[roles.get(speaker, Role.UNKNOWN)] += float(sums[number])
        return found


def with_analysis(summary: TranscriptSummary, analysis: Analysis | None) -> bytes:
    """Return a summary as JSON, the analysis under a key of its own."""
    if analysis is None:
        return _encode(summary)
    return _encode(msgspec.structs.asdict(summary) | {"analysis": analysis})
