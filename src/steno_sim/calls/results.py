"""What became of a call."""

from __future__ import annotations

from typing import Any

import msgspec

from steno_sim.calls.client import Entity
from steno_sim.calls.faults import CallFault, End, Family
from steno_sim.calls.rules import Violation


class SessionResult(msgspec.Struct, frozen=True):
    """One connection.

    Attributes:
        end: How it ended.
        status: HTTP status of a refusal; 0 otherwise.
        opened_ms: From ``open`` to ``opened``; None when it never came.
        closed_ms: From ``close`` to ``closed``.
        close_code: WebSocket close code; 0 without a socket.
        media: The selected medium as it stood in ``opened``; None for no audio.
        rtts_ms: Round trips of the pings, in order.
        position_ms: Stream position at the end.
        disconnected: Reason of the server's ``disconnect``, or "".
        log: The messages of both sides; audio as counts of frames and bytes alone.
    """

    session: str
    end: End
    status: int = 0
    opened_ms: float | None = None
    closed_ms: float | None = None
    close_code: int = 0
    media: dict[str, Any] | None = None
    languages: list[str] | None = None
    rtts_ms: list[float] = []
    entities: list[Entity] = []
    violations: list[Violation] = []
    position_ms: int = 0
    frames: int = 0
    audio_bytes: int = 0
    disconnected: str = ""
    log: list[dict[str, Any]] = []


class CallResult(msgspec.Struct, frozen=True):
    """One call: its connections in order, and what was found against the server."""

    name: str
    family: Family
    conversation: str
    participants: dict[str, str]
    fault: CallFault | None
    sessions: list[SessionResult]
    violations: list[Violation]

    @property
    def ok(self) -> bool:
        """True when no rule was broken."""
        return not self.violations

    @property
    def end(self) -> End:
        """How the last connection ended."""
        return self.sessions[-1].end

    @property
    def entities(self) -> list[Entity]:
        """All results, in the order in which they came."""
        return [entity for session in self.sessions for entity in session.entities]
