"""Which participant of a conversation spoke, from its participants and their calls."""

from __future__ import annotations

from typing import Protocol

import msgspec

from steno.core.transcript import Fragment


class Who(msgspec.Struct, frozen=True, gc=False):
    """Who speaks in a piece of speech.

    Attributes:
        speaker: Label, local to the conversation; empty when nobody can be named.
        role: ``core.transcript.Role``'s word.
        zero_us: Start of the conversation where it is known, UTC microseconds; else 0.
    """

    speaker: str
    role: str = "unknown"
    participant: str = ""
    user_id: str = ""
    name: str = ""
    zero_us: int = 0


class Attribution(Protocol):
    """Tells who spoke. No I/O: what it needs is brought to it."""

    def heard(self, fragment: Fragment, *, now: float) -> None:
        """Take note of a piece of speech, when it arrives."""

    def who(self, fragment: Fragment, *, now: float) -> Who | None:
        """Return who spoke; None while it is worth waiting for the answer.

        A caller that cannot wait any longer (the process ends) takes ``fallback``.
        """

    def fallback(self, fragment: Fragment) -> Who:
        """Return the best that can be said without waiting."""

    def forget(self, conversation: str) -> None:
        """Drop what is known of a conversation."""
