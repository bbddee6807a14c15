"""Lines of a listing: one JSON object for each segment that meets the criteria."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from steno.archive.align import DEFAULT_RATE, Seconds, positions
from steno.archive.criteria import Criteria
from steno.core.stored import Segment
from steno.core.transcript import Role

_encode_lines = msgspec.json.Encoder().encode_lines

Energies = Callable[[Seconds, Seconds], Sequence[float | None]]
"""Returns the mean level of each interval of seconds in dBFS; None outside the audio."""


class ListedSegment(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One line of a listing.

    Attributes:
        start_sample, end_sample: First sample, and the one behind the last.
        energy_db: Mean level in dBFS, where the audio is at hand.
        communication: Which of the conversation's transcripts, where it has several.
    """

    interaction_id: str
    start_sample: int
    end_sample: int
    role: str
    segment: Segment
    energy_db: float | None = None
    communication: str = ""


class Listing:
    """Turns segments into lines.

    Args:
        write: Takes whole lines.
        rate: Samples per second that positions count in.
        energies: Levels of the audio; None without it.

    Attributes:
        listed: Lines so far.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        *,
        conversation: str = "",
        communication: str = "",
        criteria: Criteria | None = None,
        rate: int = DEFAULT_RATE,
        energies: Energies | None = None,
    ) -> None:
        self._write = write
        self._criteria = criteria or Criteria()
        self._rate = rate
        self._energies = energies
        self.conversation = conversation
        self._communication = communication
        self.listed = 0

    def add(
        self, segments: Sequence[Segment], starts: Seconds, ends: Seconds, roles: Mapping[str, Role]
    ) -> None:
        """List those that meet the criteria."""
        conversation, criteria = self.conversation, self._criteria
        if not criteria.takes(conversation):
            return
        first, last = positions(starts, ends, self._rate)
        levels: Sequence[float | None] = (
            self._energies(starts, ends) if self._energies else [None] * len(segments)
        )
        lines = []
        for segment, one, other, level in zip(
            segments, first.tolist(), last.tolist(), levels, strict=True
        ):
            role = roles.get(segment.speaker_id, Role.UNKNOWN)
            if criteria.meets(segment, role):
                lines.append(
                    ListedSegment(
                        conversation, one, other, role.value, segment, level, self._communication
                    )
                )
        if lines:
            self.listed += len(lines)
            self._write(_encode_lines(lines))
