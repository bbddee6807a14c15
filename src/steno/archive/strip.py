"""Who speaks when, kept small enough to be drawn: for each speaker, the parts of the time with
speech in them.

Segments come in batches and only marks are kept. When the conversation outgrows the marks, pairs
become one and a mark stands for twice the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from steno.archive.align import Seconds
from steno.core.stored import Segment
from steno.core.transcript import Role

MARKS: Final = 4096
FIRST_MARK_S: Final = 0.1
MAX_SPEAKERS: Final = 64
"""Speakers told apart; further ones are drawn as unknown."""

ROLES: Final = (Role.CUSTOMER, Role.AGENT, Role.SYSTEM, Role.UNKNOWN)
"""From the top of a picture to its bottom."""

Marks = npt.NDArray[np.bool_]


class Strip:
    """Marks of a conversation's turns (an ``Observer`` of the pass)."""

    def __init__(self) -> None:
        self.mark_s = FIRST_MARK_S
        self.end_s = 0.0
        self.turns = 0
        self._speakers: dict[str, Marks] = {}
        self._roles: dict[Role, Marks] = {}

    def add(
        self, segments: Sequence[Segment], starts: Seconds, ends: Seconds, roles: Mapping[str, Role]
    ) -> None:
        """Take a batch of segments."""
        del roles
        if not segments:
            return
        self.turns += len(segments)
        self.end_s = max(self.end_s, float(ends.max()))
        while self.end_s > self.mark_s * MARKS:
            self._halve()
        first = np.clip(np.floor(starts / self.mark_s), 0, MARKS - 1).astype(np.int64)
        behind = np.clip(np.ceil(ends / self.mark_s), 0, MARKS).astype(np.int64)
        behind = np.maximum(behind, first + 1)
        speakers = [self._told_apart(segment.speaker_id) for segment in segments]
        for name in set(speakers):
            chosen = np.fromiter((one == name for one in speakers), np.bool_, len(speakers))
            steps = np.zeros(MARKS + 1, np.int64)
            np.add.at(steps, first[chosen], 1)
            np.add.at(steps, behind[chosen], -1)
            self._speakers[name] |= np.cumsum(steps[:-1]) > 0

    def finish(self, roles: Mapping[str, Role]) -> None:
        """Give each speaker's marks to its role."""
        for name, marks in self._speakers.items():
            role = roles.get(name, Role.UNKNOWN)
            known = self._roles.get(role)
            self._roles[role] = marks if known is None else known | marks

    def _told_apart(self, name: str) -> str:
        """Return under which name a speaker's marks are kept."""
        if name not in self._speakers:
            if len(self._speakers) >= MAX_SPEAKERS:
                name = ""
            self._speakers.setdefault(name, np.zeros(MARKS, np.bool_))
        return name

    def _halve(self) -> None:
        self.mark_s *= 2
        for name, marks in self._speakers.items():
            halved = np.zeros(MARKS, np.bool_)
            halved[: MARKS // 2] = marks.reshape(-1, 2).any(axis=1)
            self._speakers[name] = halved

    def columns(self, count: int, seconds: float) -> dict[Role, Marks]:
        """Return for each role that speaks in which of ``count`` equal parts of a time it does."""
        found: dict[Role, Marks] = {}
        for role in ROLES:
            marks = self._roles.get(role)
            if marks is None:
                continue
            columns = np.zeros(count, np.bool_)
            places = np.flatnonzero(marks)
            if len(places) and seconds > 0:
                first = np.clip(
                    (places * self.mark_s / seconds * count).astype(np.int64), 0, count - 1
                )
                last = np.ceil((places + 1) * self.mark_s / seconds * count).astype(np.int64) - 1
                last = np.clip(last, first, count - 1)
                steps = np.zeros(count + 1, np.int64)
                np.add.at(steps, first, 1)
                np.add.at(steps, last + 1, -1)
                columns = np.cumsum(steps[:-1]) > 0
            found[role] = columns
        return found

    def bars(self, count: int, seconds: float) -> dict[Role, list[tuple[int, int]]]:
        """Return the same as runs: first column and the one behind the last."""
        return {role: _runs(columns) for role, columns in self.columns(count, seconds).items()}


def _runs(columns: Marks) -> list[tuple[int, int]]:
    padded = np.concatenate(([False], columns, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1]).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))
