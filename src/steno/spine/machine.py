"""What the spine's service drives: a machine that turns feed events into drafts of records.

``pipeline.Pipeline`` finishes sentences; a capability with other work brings its own.
"""

from __future__ import annotations

from typing import Protocol

from steno.core.language import SwitchWanted
from steno.core.records import Draft, GapCause
from steno.core.transcript import Fragment
from steno.ports import (
    ConversationEnded,
    FeedDown,
    FeedUp,
    LanguageHeard,
    Missing,
    Quarantined,
)


class Machine(Protocol):
    """Decides without I/O. ``now`` is monotonic seconds, ``now_us`` UTC microseconds.

    Attributes:
        drafts: Finished and not yet taken.
        switches: Language switches wanted; the service empties it.
        finished: Finished since the start, for the counter.
        withheld: Pieces given up because working on them failed.
        entities: Spans redacted since the start, by entity.
    """

    drafts: list[Draft]
    switches: list[tuple[str, SwitchWanted]]
    finished: int
    withheld: int
    entities: dict[str, int]

    def fragment(self, fragment: Fragment, *, now: float, now_us: int) -> None:
        """Take in a piece of speech."""

    def failed(self, fragment: Fragment, cause: str) -> None:
        """Note that ``fragment`` raised; ``cause`` is the error's class."""

    def ended(self, event: ConversationEnded, *, now: float) -> None:
        """Give out what is open of a conversation that is over."""

    def feed_down(self, event: FeedDown) -> None:
        """Open a gap."""

    def feed_up(self, event: FeedUp) -> None:
        """Close the feed's gaps."""

    def open_gap(
        self, feed: str, cause: GapCause, since_us: int, at_us: int, conversations: list[str]
    ) -> None:
        """Open a gap of the time when nobody listened."""

    def quarantined(self, event: Quarantined, *, now: float) -> None:
        """Record a message that could not be read."""

    def missing(self, event: Missing) -> None:
        """Record an interval that will not come."""

    def language_heard(self, event: LanguageHeard) -> None:
        """Record a change of language."""

    def switch_made(
        self, conversation: str, wanted: SwitchWanted, *, applied: bool, now: float, now_us: int
    ) -> None:
        """Record a switch of the platform's model."""

    def switch_failed(self, conversation: str, *, now: float, retry_after_s: float) -> None:
        """Note that a switch failed."""

    def next_deadline(self) -> float | None:
        """Return when ``on_deadline`` is due."""

    def on_deadline(self, now: float) -> None:
        """Do what is due."""

    def flush(self, now: float) -> None:
        """Give out everything that is open: the process ends."""

    def take(self, now: float) -> tuple[list[Draft], dict[str, bytes | None]]:
        """Return the drafts, and the journal's snapshots (not sealed), that are due."""

    def put_back(self, drafts: list[Draft], windows: dict[str, bytes | None]) -> None:
        """Take back what could not be committed; it comes first in the next ``take``."""

    def restore(self, conversation: str, snapshot: bytes, *, now: float, now_us: int) -> None:
        """Go on from a snapshot.

        Raises:
            RedactionError: It cannot be read.
        """

    def evict(self, now: float) -> int:
        """Forget what has been idle for long; return how many conversations."""

    @property
    def dirty(self) -> bool:
        """Whether ``take`` would return anything, now or a little later."""

    @property
    def conversations(self) -> int:
        """Conversations held in memory."""

    @property
    def open_windows(self) -> int:
        """Pieces that have not been given out."""
