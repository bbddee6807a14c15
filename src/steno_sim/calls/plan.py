"""What a call does: its sound, who takes part, what happens on the way, how fast it runs."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

from steno_sim.calls.audio import RATE_HZ, Format, Sound
from steno_sim.calls.client import USUAL_OFFERS, Offer
from steno_sim.calls.faults import CallFault

ORGANISATION = "5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01"
"""The simulated organisation."""
CHANNELS = ("external", "internal")


Doing = Literal[
    "pause", "discard", "discard_nothing", "update", "error", "reconnect", "late", "strike"
]


@dataclass(frozen=True, slots=True)
class Act:
    """Something that happens in a call, once so much of its sound was sent.

    ============== ==========================================================================
    do             effect
    ============== ==========================================================================
    pause          the platform pauses by itself for ``for_ms`` (a secure pause)
    discard        ``for_ms`` of audio are dropped, and said to be
    discard_nothing  the same is said, but nothing is dropped
    update         the language becomes ``language``
    error          the client complains; the call goes on
    reconnect      ``close`` with reason ``reconnect``; a new session continues
    late           nothing is sent for ``for_ms``, then what was due comes at once
    strike         the plan's fault
    ============== ==========================================================================
    """

    at_ms: int
    do: Doing
    for_ms: int = 0
    language: str = ""


def fresh_id() -> str:
    """Give a new random UUID."""
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """One call, for either caller.

    Attributes:
        sound: What is heard, one row for each of ``channels``.
        channels: Names of the sound's channels.
        name: For people and reports.
        participants: Participant id of each channel. AudioHook tells the first one only.
        offers: Media in the order of preference; a channel the sound lacks is silent.
        speed: Multiple of real time; 0 is flat out.
        frame_ms: Audio in one frame: 20..1000 for AudioHook, 20..50 for the JSON form.
        clock_runs: While paused, the stream clock and the sound go on unheard (a live source);
            False: both stand still (a file).
        probe: A connection probe: null conversation, closed at once.
        acts: What the platform does on the way.
        fault: One thing done wrong; it adds its own acts.
        patience_s: How long a fault that only waits does so, and how long a call that the
            server has paused outlives its sound.
    """

    sound: Sound
    channels: tuple[str, ...] = CHANNELS
    name: str = ""
    conversation: str = field(default_factory=fresh_id)
    organisation: str = ORGANISATION
    participants: tuple[str, ...] = ()
    language: str | None = "en-US"
    ask_languages: bool = False
    custom: dict[str, Any] | None = None
    offers: tuple[Offer, ...] = USUAL_OFFERS
    speed: float = 1.0
    frame_ms: int = 200
    clock_runs: bool = False
    probe: bool = False
    acts: tuple[Act, ...] = ()
    fault: CallFault | None = None
    patience_s: float = 3.0
    keep_log: bool = True

    def __post_init__(self) -> None:
        if len(self.channels) != self.sound.channels:
            raise ValueError("a plan names every channel of its sound")
        if not 20 <= self.frame_ms <= 1000:
            raise ValueError("frame_ms must lie in 20..1000")
        if self.speed < 0:
            raise ValueError("speed must not be negative")
        if not self.participants:
            made = tuple(fresh_id() for _ in self.channels)
            object.__setattr__(self, "participants", made)

    @property
    def frame_samples(self) -> int:
        """Samples of one frame."""
        return self.frame_ms * RATE_HZ // 1000

    @property
    def length_s(self) -> float:
        """How long the sound lasts at this speed."""
        return self.sound.length / RATE_HZ / self.speed if self.speed else 0.0

    def wall_s(self, ms: float) -> float:
        """Give how long so much of the call takes at this speed."""
        return ms / 1000 / self.speed if self.speed else 0.0

    def offered(self, form: Format) -> CallPlan:
        """Give the same plan with the usual offers in another format."""
        from dataclasses import replace

        return replace(self, offers=tuple(Offer(o.channels, form) for o in USUAL_OFFERS))

    def heard(self, channels: tuple[str, ...]) -> Sound:
        """Give the sound of the named channels, silent where the call has none."""
        import numpy as np

        rows = [
            self.sound.samples[self.channels.index(name)]
            if name in self.channels
            else np.zeros(self.sound.length, dtype=np.int16)
            for name in channels
        ]
        return Sound(np.stack(rows))
