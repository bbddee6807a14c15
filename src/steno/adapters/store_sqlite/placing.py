"""Which revision of a key is on its conversation's timeline.

Of a key the timeline has the newest revision. Its row says so in ``placed``: the number of its
kind. A revision without a place takes its key off: then the row that was on the timeline has
there a number below 0 (``withdrawn``), which remembers that revision, as an older one may still
come. All other rows of the key have NULL.

The revisions of a key that have a place lie side by side in the index over (conversation, slot),
so the one on the timeline is found by one look at a page that the insertion needs anyway. An
index of its own over the keys doubled what a place costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from steno.adapters.store_sqlite.rows import slot_of
from steno.core.records import Kind
from steno.errors import StorageError

KIND_NUMBERS: Final[dict[Kind, int]] = {
    Kind.SEGMENT: 0,  # 0 and 1 take no room in a row
    Kind.SEGMENT_AUDIT: 1,
    Kind.SENTENCE: 2,
    Kind.JOB: 3,
    Kind.ARCHIVE: 4,
    Kind.GAP: 5,
    Kind.LANGUAGE_CHANGED: 6,
    Kind.RECONCILED: 7,
}
"""``placed`` of a record on the timeline. Stored: a number is never changed."""

MAX_REVISION: Final = (1 << 20) - 1
"""Of a draft with a place: so far the revisions of a key reach in the index."""

Key = bytes | str


def withdrawn(revision: int) -> int:
    """Return ``placed`` of a row whose key has been taken off by a revision without a place."""
    return -1 - revision


def placed_slot(key: Key, revision: int) -> int:
    """Return the place in the index of a draft that has a place on the timeline.

    Revision 0 lies where it would without, the others beside it, away from the ends of the range.

    Raises:
        StorageError: The revision is out of bounds.
    """
    if not 0 <= revision <= MAX_REVISION:
        raise StorageError("a record on a timeline has an impossible revision")
    base = slot_of(key, 0)
    return base + revision if base < 0 else base - revision


def slots(key: Key) -> tuple[int, int]:
    """Return the lowest and the highest ``placed_slot`` of a key."""
    base = slot_of(key, 0)
    return (base, base + MAX_REVISION) if base < 0 else (base - MAX_REVISION, base)


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A draft that may change what the timeline has of its key.

    Attributes:
        row: Which of the rows to insert it is.
        number: Of its kind; None for a draft without a place, which takes the key off.
    """

    conversation: int
    key: Key
    revision: int
    row: int
    number: int | None


class Head(msgspec.Struct, frozen=True, gc=False):
    """The stored row of a key that has ``placed``."""

    position: int
    revision: int
    placed: int


class Placing(msgspec.Struct, frozen=True, gc=False):
    """What is to be written: ``placed`` of rows to insert, and of stored rows by position."""

    rows: dict[int, int | None]
    stored: dict[int, int | None]


def place(claims: Sequence[Claim], heads: Mapping[tuple[int, Key], Head]) -> Placing:
    """Decide for each claim in turn.

    Args:
        claims: In order of commit.
        heads: What is stored, by (conversation, key).
    """
    done = Placing({}, {})
    tops: dict[tuple[int, Key], _Top] = {
        name: _Top(head.revision if head.placed >= 0 else -1 - head.placed, head.position, None)
        for name, head in heads.items()
    }
    for claim in claims:
        name = (claim.conversation, claim.key)
        top = tops.get(name)
        if top is not None and claim.revision <= top.revision:
            continue  # late
        if claim.number is not None:
            if top is not None:
                top.write(done, None)
            done.rows[claim.row] = claim.number
            tops[name] = _Top(claim.revision, None, claim.row)
        elif top is not None:
            top.write(done, withdrawn(claim.revision))
            top.revision = claim.revision
    return done


class _Top(msgspec.Struct, gc=False):
    """The newest revision known of a key, and the row that has ``placed`` for it."""

    revision: int
    position: int | None
    row: int | None

    def write(self, done: Placing, placed: int | None) -> None:
        if self.position is not None:
            done.stored[self.position] = placed
        elif self.row is not None:
            done.rows[self.row] = placed
