"""Playing the spoken calls to an AudioHook server, and what they said in truth."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steno_sim.calls.client import Timers
from steno_sim.calls.fleet import Fleet, FleetReport
from steno_sim.calls.plan import CallPlan
from steno_sim.calls.results import CallResult
from steno_sim.calls.scoring import SpokenTruth
from steno_sim.calls.voices import SpokenCall, channels

INTERNAL = "internal"
"""Participant of the agent's channel: AudioHook tells the customer's id alone."""


@dataclass(frozen=True, slots=True)
class PlayReport:
    """The played calls: what became of each, and what it said."""

    fleet: FleetReport
    truths: list[SpokenTruth]

    @property
    def results(self) -> list[CallResult]:
        """What became of each call, in the order given."""
        return self.fleet.results

    @property
    def ok(self) -> bool:
        """True when the server broke no rule."""
        return self.fleet.ok

    def summary(self) -> dict[str, Any]:
        """Give the counts of ``fleet.summarise``."""
        return self.fleet.summary()


def plan_of(call: SpokenCall, **changes: Any) -> CallPlan:
    """Give the plan that plays a spoken call; ``changes`` are fields of the plan."""
    known: dict[str, Any] = {"name": call.name, "language": call.language}
    return CallPlan(sound=call.sound(), channels=channels(), **(known | changes))


def truth_of(call: SpokenCall, plan: CallPlan) -> SpokenTruth:
    """Give what a plan of a spoken call says, under the names a consumer knows it by."""
    first, *others = plan.channels
    names = {first: plan.participants[0]} | dict.fromkeys(others, INTERNAL)
    return SpokenTruth(call.name, plan.conversation, names, call.turns)


async def play_calls(
    url: str,
    calls: Sequence[SpokenCall],
    *,
    api_key: str,
    secret: str = "",
    speed: float = 1.0,
    frame_ms: int = 200,
    ramp_s: float = 0.0,
    at_once: int = 0,
    keep_log: bool = False,
    timers: Timers | None = None,
    context: ssl.SSLContext | None = None,
) -> PlayReport:
    """Play spoken calls side by side, each as a conversation of its own, to their ends.

    Args:
        url: Address of the AudioHook server.
        calls: ``voices.spoken_calls()``, or some of them; one may come more than once.
        api_key: Value of X-API-KEY.
        secret: Client secret, base64; empty sends no signature.
        speed: Multiple of real time; 0 is flat out.
        frame_ms: Audio in one frame, 20..1000.
        ramp_s: The calls begin evenly spread over so long.
        at_once: So many calls at the same time, the others wait; 0 is all.
        keep_log: Keep every message in ``results[n].sessions[0].log``.
        timers: Other waiting times than the platform's.
        context: TLS trust for ``wss://``.

    Raises:
        SecretError: The secret is not base64.
    """
    sounds = {call.name: call.sound() for call in calls}
    plans = [
        CallPlan(
            sound=sounds[call.name],
            channels=channels(),
            name=call.name,
            language=call.language,
            speed=speed,
            frame_ms=frame_ms,
            keep_log=keep_log,
        )
        for call in calls
    ]
    fleet = Fleet(
        url,
        plans,
        api_key=api_key,
        secret=secret,
        ramp_s=ramp_s,
        at_once=at_once,
        timers=timers,
        context=context,
    )
    report = await fleet.run()
    truths = [truth_of(call, plan) for call, plan in zip(calls, plans, strict=True)]
    return PlayReport(report, truths)
