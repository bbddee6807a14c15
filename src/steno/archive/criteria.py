"""Which segments are listed: by role, participant, interaction, time and confidence.

Speakers that the file does not name a role for are a class of their own, ``unknown``: a filter
for agents never takes them for agents, and nobody has to guess why turns are missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from steno.core.stored import Participant, Segment, role_of
from steno.core.transcript import Role

_ordered = msgspec.json.Encoder(order="deterministic").encode


class Criteria(msgspec.Struct, frozen=True):
    """What a listed segment has to meet; what is empty or None does not restrict.

    Attributes:
        roles: Any of these.
        participants: Ids; any of these.
        interactions: Conversation ids; any of these.
        from_s, to_s: The segment overlaps this range of seconds; an empty segment lies in it.
        min_confidence: At least so much; a segment that tells none does not meet it.
    """

    roles: frozenset[Role] = frozenset()
    participants: frozenset[str] = frozenset()
    interactions: frozenset[str] = frozenset()
    from_s: float | None = None
    to_s: float | None = None
    min_confidence: float | None = None

    @property
    def restricts(self) -> bool:
        """Some segment may be left out."""
        return self != Criteria()

    @property
    def digest(self) -> str:
        """Twelve hex digits that differ where criteria do, and tell nothing of them."""
        return hashlib.sha256(_ordered(self)).hexdigest()[:12]

    def takes(self, conversation: str) -> bool:
        """Tell whether anything of a conversation can be listed."""
        return not self.interactions or conversation in self.interactions

    def meets(self, segment: Segment, role: Role) -> bool:
        """Tell whether a segment of a conversation that is taken is listed."""
        if self.roles and role not in self.roles:
            return False
        if self.participants and segment.speaker_id not in self.participants:
            return False
        if self.min_confidence is not None and (
            segment.confidence is None or segment.confidence < self.min_confidence
        ):
            return False
        start, end = segment.start_time, segment.end_time
        if self.to_s is not None and start >= self.to_s:
            return False
        return self.from_s is None or end > self.from_s or start >= self.from_s


def roles_of(participants: Iterable[Participant]) -> Mapping[str, Role]:
    """Return the role of each participant; of an id that comes twice, the first known one."""
    roles: dict[str, Role] = {}
    for participant in participants:
        role = role_of(participant.role)
        if roles.get(participant.id, Role.UNKNOWN) is Role.UNKNOWN:
            roles[participant.id] = role
    return roles
