"""Why nothing of a conversation is in the result: the likely cause, from what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from steno.diarisation.conversation import Conversation


class Cause(NamedTuple):
    """A conversation without a segment that names a speaker, and the likely cause.

    Attributes:
        finals, speakerless, partials: Messages of each kind.
        reason: ``no_speaker_labels`` (the source does not tell speakers apart),
            ``no_participants`` (it names channels, and nobody was found for them) or
            ``no_finals`` (only partials came).
    """

    conversation: str
    finals: int
    speakerless: int
    partials: int
    reason: str


class Causes:
    """The causes of conversations that are no longer in memory, the newest of them.

    Args:
        most: Conversations kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[str, Cause] = {}
        self._forgot = False

    def forget(self, state: Conversation) -> None:
        """Take note of a conversation that is dropped from memory."""
        self._forgot = True
        cause = cause_of(state)
        if cause is None:
            return
        self._kept[state.name] = cause
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]

    def resume(self, state: Conversation) -> None:
        """Let a conversation that is heard of again go on counting."""
        cause = self._kept.pop(state.name, None)
        if cause is not None:
            _, state.finals, state.speakerless, state.pieces, _ = cause
        elif state.more and self._forgot:
            state.named = True  # it has records, and would have a cause

    def all(self, states: Iterable[Conversation]) -> list[Cause]:
        """Return the causes kept and those of conversations in memory."""
        found = dict(self._kept)
        for state in states:
            cause = cause_of(state)
            if cause is not None:
                found[state.name] = cause
        return list(found.values())


def cause_of(state: Conversation) -> Cause | None:
    """Return why no final of a conversation named a speaker; None when one did, or none came."""
    if state.named:
        return None
    if state.speakerless:
        reason = "no_participants" if state.has_ids else "no_speaker_labels"
    elif state.pieces and not state.finals:
        reason = "no_finals"
    else:
        return None
    return Cause(state.name, state.finals, state.speakerless, state.pieces, reason)
