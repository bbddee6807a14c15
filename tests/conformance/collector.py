"""A small collector of speaker segments, independent of the product: what "perfect" means.

It keeps for each slot the final with the latest end, then the greatest confidence; it masks
planted secrets because it was told them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from steno_sim.ledger import Truth
from steno_sim.pieces import Secret

JSON = dict[str, Any]  # Any: JSON
AUDITED = 0.5


def finals_of_events(messages: Iterable[JSON]) -> list[JSON]:
    """Give the segments of event-socket messages, one of each slot."""
    slots: dict[tuple[str, str, float], JSON] = {}
    for message in messages:
        body = message.get("data", message)
        for told in body["transcripts"]:
            speaker = told.get("speaker", "")
            one = _exported(
                body["conversationId"],
                speaker,
                told["text"],
                told["start"],
                told["end"],
                told["confidence"],
            )
            if told["isFinal"]:
                _keep(slots, (body["conversationId"], speaker, told["start"]), one)
    return list(slots.values())


def finals_of_topics(messages: Iterable[JSON], conversations: dict[str, JSON]) -> list[JSON]:
    """Give the segments of notifications; speakers by the conversations as REST tells them."""
    slots: dict[tuple[str, str, float], JSON] = {}
    for message in messages:
        body = message["eventBody"]
        for told in body.get("transcripts", []):
            best = told["alternatives"][0]
            call = conversations[body["conversationId"]]
            start_ms = body["transcriptionStartTimeMs"] + best["offsetMs"]
            zero_ms = _ms(call["startTime"])
            one = _exported(
                call["id"],
                _speaker(call, told["channel"], start_ms),
                best["decoratedTranscript"],
                (start_ms - zero_ms) / 1000,
                (start_ms - zero_ms + best["durationMs"]) / 1000,
                best["confidence"],
            )
            if told["isFinal"]:
                _keep(slots, (call["id"], told["utteranceId"], 0.0), one)
    return list(slots.values())


def _exported(
    conversation: str, speaker: str, text: str, start_s: float, end_s: float, confidence: float
) -> JSON:
    return {
        "conversation_id": conversation,
        "speaker": speaker,
        "text": text,
        "start_seconds": start_s,
        "end_seconds": end_s,
        "confidence": confidence,
        "is_final": True,
        "timestamp": "2026-03-04T09:15:27.412Z",
    }


def _keep(slots: dict[Any, JSON], slot: Any, one: JSON) -> None:
    before = slots.get(slot)
    if before is None or _rank(one) > _rank(before):
        slots[slot] = one


def _rank(one: JSON) -> tuple[float, float]:
    return one["end_seconds"], one["confidence"]


def _speaker(call: JSON, channel: str, at_ms: int) -> str:
    if channel == "EXTERNAL":
        return "customer"
    if channel != "INTERNAL":
        return ""
    users: list[str] = []
    found = ""
    for person in call["participants"]:
        on = _ms(person["startTime"]) <= at_ms
        if person["purpose"] == "ivr" and on:
            found = "system"
        if person["purpose"] == "agent":
            users += [person["userId"]] if person["userId"] not in users else []
            number = users.index(person["userId"]) + 1
            if on:
                found = "agent" if number == 1 else f"agent-{number}"
    return found


def _ms(stamp: str) -> int:
    return round(datetime.fromisoformat(stamp).timestamp() * 1000)


def export_of(found: Sequence[JSON], truth: Truth, *, min_confidence: float = 0.85) -> bytes:
    """Give the export: judged, filtered, masked, in order of time."""
    secrets = {c.id: [s for u in c.utterances for s in u.secrets] for c in truth.conversations}
    kept = [
        one | {"text": _masked(one["text"], secrets[one["conversation_id"]])}
        for one in found
        if one["speaker"] and one["confidence"] >= max(AUDITED, min_confidence)
    ]
    kept.sort(key=lambda one: (one["conversation_id"], one["start_seconds"]))
    return json.dumps({"totalSegments": len(kept), "segments": kept}).encode()


def _masked(text: str, secrets: Iterable[Secret]) -> str:
    for secret in secrets:
        text = text.replace(secret.text, f"[{secret.kind.upper()}]")
    return text
