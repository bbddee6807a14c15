"""The gaps of live delivery: which conversations they concern, and when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from steno.archive.reconcile import Span
from steno.ports import KnownGap

AROUND_US: Final = 300_000_000
"""A conversation heard so shortly before or after a gap of its whole source may have lost by it;
live delivery counts a conversation as active for as long."""
QUARANTINE_AROUND_US: Final = 30_000_000
"""The same where only one message was lost."""
MAX_SPANS: Final = 100_000
"""Of one conversation, before those that touch are made one."""


class GapBook:
    """The gaps of live delivery, by conversation; those that touch are one.

    Args:
        gaps: Every stored revision, in the order of commit.
        now_us: An open gap reaches up to now.
        down_since_us: One that is not stored yet begins here; 0 for none.
    """

    def __init__(self, gaps: Iterable[KnownGap], *, now_us: int, down_since_us: int = 0) -> None:
        self._spans: dict[str, list[Span]] = {}
        self._newest_us: dict[str, int] = {}
        self._lone: list[Span] = []
        """Of single messages that could not be read, of nobody known."""
        self.count = 0
        opened: dict[str, KnownGap] = {}
        for gap in gaps:
            known = opened.pop(gap.key, None)
            self.count += known is None
            if gap.to_us:
                self._add(gap, gap.to_us)
            else:
                opened[gap.key] = gap
        for gap in opened.values():
            self._add(gap, max(now_us, gap.from_us))
        if down_since_us:
            self.count += 1
            self._spans.setdefault("", []).append(Span(down_since_us, now_us))
        self._unite()

    def _add(self, gap: KnownGap, to_us: int) -> None:
        span = Span(gap.from_us, to_us)
        name = gap.conversation
        is_lone = not name and gap.cause == "quarantine"
        spans = self._lone if is_lone else self._spans.setdefault(name, [])
        spans.append(span)
        self._newest_us[name] = max(gap.committed_us, self._newest_us.get(name, 0))
        if len(spans) > 2 * MAX_SPANS:
            spans[:] = united(spans)

    def _unite(self) -> None:
        for spans in self._spans.values():
            spans[:] = united(spans)
        self._lone[:] = united(self._lone)

    def named(self, from_us: int, to_us: int) -> list[str]:
        """Return the conversations that have gaps of their own in a time."""
        return [
            name
            for name, spans in self._spans.items()
            if name and any(one.from_us < to_us and one.to_us >= from_us for one in spans)
        ]

    def everywhere(self, from_us: int, to_us: int) -> list[tuple[Span, Span]]:
        """Return gaps of a whole source in a time, each with the time around that counts."""
        found = [(one, AROUND_US) for one in self._spans.get("", ())]
        found += [(one, QUARANTINE_AROUND_US) for one in self._lone]
        return [
            (one, Span(one.from_us - margin, one.to_us + margin))
            for one, margin in found
            if one.from_us < to_us and one.to_us >= from_us
        ]

    def spans(self, conversation: str) -> list[Span]:
        """Return every gap that can concern a conversation."""
        everywhere = self._spans.get("", []) + self._lone
        return united([*self._spans.get(conversation, ()), *everywhere])

    def newest_us(self, conversation: str) -> int:
        """Return when the last gap of a conversation's own was stored."""
        return self._newest_us.get(conversation, 0)


def united(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order, those that touch or overlap made one."""
    made: list[Span] = []
    for span in sorted(spans):
        if made and span.from_us <= made[-1].to_us:
            made[-1] = Span(made[-1].from_us, max(made[-1].to_us, span.to_us))
        else:
            made.append(span)
    return made
