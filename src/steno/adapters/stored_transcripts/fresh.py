"""Links that were just asked for, kept for the moment until they are used."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from steno.core.secret import Secret
from steno.ports.archive import FoundTranscript

FRESH_S: Final = 30.0
"""A link so young is as good as one asked for now; theirs last ten minutes and more."""

MAX_KEPT: Final = 64


class FreshLinks:
    """The newest links, each given out once, in memory only.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: OrderedDict[FoundTranscript, tuple[Secret, float]] = OrderedDict()

    def keep(self, found: FoundTranscript, link: Secret) -> None:
        """Keep a link; of too many the oldest goes."""
        self._kept[found] = (link, self._clock())
        self._kept.move_to_end(found)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def take(self, found: FoundTranscript) -> Secret | None:
        """Return a link that is fresh; None where another has to be asked for."""
        link, at = self._kept.pop(found, (None, 0.0))
        return link if link is not None and self._clock() - at <= FRESH_S else None
