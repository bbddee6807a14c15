"""What a server session tells, what limits it, and which of the offered media it takes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from steno.wire.audiohook import messages as m


class Limits(msgspec.Struct, frozen=True):
    """Times and amounts of a session.

    Attributes:
        open_s: ``open`` is expected so long after the connection.
        answer_s: ``accept`` is expected so long after ``open``: the client waits 5 s.
        hold_s: Without a ping for so long after ``opened``, sending begins all the same.
        silence_s: Without ping or audio for so long, the client is taken for dead.
        flush_s: ``closed`` is sent so long after ``close`` at the latest: the client waits 10 s.
        force_s: The socket is given up so long after ``closed`` or ``disconnect``.
        drift_ms: A difference to the client's position above this is told.
        messages_per_s, burst: What the platform takes of us.
        partials_per_s: Events with partials.
        finals: Results that may wait.
    """

    open_s: float = 5.0
    answer_s: float = 4.5
    hold_s: float = 5.0
    silence_s: float = 30.0
    flush_s: float = 7.0
    force_s: float = 10.0
    drift_ms: int = 250
    messages_per_s: float = 5.0
    burst: float = 25.0
    partials_per_s: float = 2.0
    finals: int = 200


class OpenAsked(msgspec.Struct, frozen=True, gc=False):
    """The client has sent ``open``: answer with ``accept`` or ``disconnect`` at once."""

    parameters: m.OpenParameters


class AudioPaused(msgspec.Struct, frozen=True, gc=False):
    """No audio until ``AudioResumed``; ``asked`` by us, or else by the platform. May repeat."""

    at_samples: int
    asked: bool


class AudioResumed(msgspec.Struct, frozen=True, gc=False):
    """Audio goes on at ``to_samples``; what lies between was not sent."""

    from_samples: int
    to_samples: int


class AudioDiscarded(msgspec.Struct, frozen=True, gc=False):
    """The client dropped audio; equal positions where it told of a loss that was none."""

    from_samples: int
    to_samples: int


class LanguageUpdated(msgspec.Struct, frozen=True, gc=False):
    """The conversation's language changed at this position."""

    language: str
    at_samples: int


class ClientErrored(msgspec.Struct, frozen=True, gc=False):
    """The client saw a problem; the session goes on."""

    code: int


class Drifted(msgspec.Struct, frozen=True, gc=False):
    """The client's clock and ours have come apart; told once until they agree again."""

    drift_ms: int


class ResultsDropped(msgspec.Struct, frozen=True, gc=False):
    """So many finals found the queue full."""

    number: int


class CloseAsked(msgspec.Struct, frozen=True, gc=False):
    """The client closes: send what results are left, then call ``closed``."""

    reason: m.CloseReason


class ProtocolBroken(msgspec.Struct, frozen=True, gc=False):
    """The client broke a rule, or kept silent; ``disconnect`` is out. ``cause`` is ours."""

    cause: str


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The session is over; the last event.

    Attributes:
        clean: ``closed`` was sent, or the client went on its own after it.
        give_up: The client did not close the socket in time: let go of it.
    """

    clean: bool
    give_up: bool


ServerEvent = (
    OpenAsked
    | AudioPaused
    | AudioResumed
    | AudioDiscarded
    | LanguageUpdated
    | ClientErrored
    | Drifted
    | ResultsDropped
    | CloseAsked
    | ProtocolBroken
    | Ended
)


def choose_media(
    offers: Sequence[m.MediaItem],
    *,
    formats: Sequence[m.MediaFormat] = (m.MediaFormat.PCMU, m.MediaFormat.L16),
) -> m.MediaItem | None:
    """Return the offer to take, unchanged: the first of two channels, else the first; or None."""
    usable = [offer for offer in offers if offer.format in formats]
    return next((one for one in usable if len(one.channels) == 2), usable[0] if usable else None)
