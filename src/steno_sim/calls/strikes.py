"""How faults come about: as acts of a plan, and as messages that break a rule."""

from __future__ import annotations

from typing import Any

from steno_sim.calls.audio import RATE_HZ
from steno_sim.calls.client import Client
from steno_sim.calls.faults import CallFault, End, expected
from steno_sim.calls.plan import Act, CallPlan, fresh_id

OVERSIZED_CHARS = 200_000

_STRIKES = frozenset(
    {
        CallFault.OPEN_TWICE,
        CallFault.WRONG_SEQUENCE,
        CallFault.REPEATED_SEQUENCE,
        CallFault.AHEAD_OF_SERVER,
        CallFault.OTHER_SESSION,
        CallFault.UNKNOWN_TYPE,
        CallFault.MISSING_PARAMETERS,
        CallFault.MALFORMED_POSITION,
        CallFault.POSITION_BACK,
        CallFault.ODD_FRAME,
        CallFault.DROP,
        CallFault.DROP_AND_CONTINUE,
        CallFault.HALF_OPEN,
        CallFault.SLOW_READER,
        CallFault.MALFORMED_JSON,
        CallFault.OVERSIZED,
        CallFault.BAD_BASE64,
        CallFault.MISSING_FIELD,
        CallFault.WRONG_FORMAT,
        CallFault.BINARY,
    }
)


def acts(plan: CallPlan) -> list[Act]:
    """Give a plan's acts with those of its fault, in the order of their time."""
    length_ms = plan.sound.length * 1000 // RATE_HZ
    at = [length_ms * part // 4 for part in (1, 2, 3)]
    match plan.fault:
        case CallFault.PAUSES:
            made = [Act(a, "pause", for_ms=ms) for a, ms in zip(at, (300, 2000, 300), strict=True)]
        case CallFault.DISCARDS:
            made = [Act(a, "discard", for_ms=length_ms // 10) for a in at]
        case CallFault.NEEDLESS_DISCARD:
            made = [Act(at[1], "discard_nothing", for_ms=500)]
        case CallFault.UPDATES:
            spoken = ("fr-FR", plan.language or "en-US", "es-ES", plan.language or "en-US")
            made = [
                Act(length_ms * part // 5, "update", language=language)
                for part, language in enumerate(spoken, start=1)
            ]
        case CallFault.CLIENT_ERROR:
            made = [Act(at[1], "error")]
        case CallFault.BURST:
            made = [Act(a, "late", for_ms=1000) for a in at]
        case fault if fault in _STRIKES:
            made = [Act(at[1], "strike")]
        case _:
            made = []
    return sorted([*plan.acts, *made], key=lambda act: act.at_ms)


def is_tolerant(fault: CallFault | None) -> bool:
    """Tell whether the server may end the session because of the fault."""
    return fault is not None and expected(fault, "audiohook") != {End.COMPLETED}


def strike(client: Client, fault: CallFault, *, now: float) -> None:
    """Say the wrong thing; nothing for faults that are not messages."""
    match fault:
        case CallFault.OPEN_TWICE:
            client.say("open", client.opening.parameters(), now=now)
        case CallFault.MALFORMED_JSON:
            client.say_raw('{"version":"2","id":"' + client.opening.session[:13], now=now)
        case _:
            message = client.build("update", {"language": client.opening.language or "en-US"})
            if _spoil(message, fault):
                client.updates += 1
                client.say_raw(message, now=now)
            else:
                client.seq -= 1


def _spoil(message: dict[str, Any], fault: CallFault) -> bool:
    """Make a message wrong; False when the fault is of another kind."""
    match fault:
        case CallFault.WRONG_SEQUENCE:
            message["seq"] += 3
        case CallFault.REPEATED_SEQUENCE:
            message["seq"] -= 1
        case CallFault.AHEAD_OF_SERVER:
            message["serverseq"] += 100
        case CallFault.OTHER_SESSION:
            message["id"] = fresh_id()
        case CallFault.UNKNOWN_TYPE:
            message["type"] = "weather"
        case CallFault.MISSING_PARAMETERS:
            del message["parameters"]
        case CallFault.MALFORMED_POSITION:
            message["position"] = "PT1M5S"
        case CallFault.POSITION_BACK:
            message["position"] = "PT0S"
        case CallFault.OVERSIZED:
            message["parameters"]["padding"] = "x" * OVERSIZED_CHARS
        case _:
            return False
    return True
