"""Recorded events: what the sockets would have written, without a socket."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from conformance.collector import export_of, finals_of_events, finals_of_topics
from conformance.sim_peers import peer, until_quiet
from steno_sim import scenario
from steno_sim.bulk import Bulk
from steno_sim.recorded import Source, of_scenario, truth_of
from steno_sim.script import build
from steno_sim.segments_score import score_export
from steno_sim.server import Simulator

SOURCES: tuple[Source, ...] = ("event-socket", "notifications")


async def test_a_recording_is_what_the_socket_writes() -> None:
    """The same events in the same order, byte for byte."""
    async with (
        Simulator("diarisation", speed=0, wait_for_sockets=1) as sim,
        peer(sim) as client,
        client.events() as ws,
    ):
        await sim.finished()
        messages = await until_quiet(ws)
    script = build(scenario.load("diarisation"))
    assert [json.loads(line) for line in of_scenario(script, "event-socket")] == messages


@pytest.mark.parametrize("source", SOURCES)
def test_a_recording_repeats_and_is_scored(source: Source) -> None:
    """The same bytes again; a perfect collector of them exports what the truth says."""
    script = build(scenario.load("diarisation"), seed=5)
    lines = list(of_scenario(script, source))
    assert lines == list(of_scenario(build(scenario.load("diarisation"), seed=5), source))
    messages = [json.loads(line) for line in lines]
    truth = truth_of(script, source)
    if source == "event-socket":
        found = finals_of_events(messages)
    else:
        calls: dict[str, Any] = {}
        starts = {c.id: c.start_us for c in truth.conversations}
        for body in (m["eventBody"] for m in messages):
            if "participants" in body:
                calls[body["id"]] = body | {"startTime": body["participants"][0]["startTime"]}
        assert len(starts) == len(calls)
        found = finals_of_topics(messages, calls)
    family = "event" if source == "event-socket" else "topic"
    score = score_export(truth, export_of(found, truth), family=family)  # type: ignore[arg-type]
    assert score.perfect, score.details


@pytest.mark.parametrize("source", SOURCES)
def test_bulk_counts_what_it_writes(source: Source) -> None:
    """What an independent reader finds in the lines is what the counts say."""
    bulk = Bulk(7, 300, source=source, at_once=3, partials=2, seed=9)
    lines = b"".join(bulk.chunks()).splitlines()
    again = Bulk(7, 300, source=source, at_once=3, partials=2, seed=9)
    assert b"".join(again.chunks()).splitlines() == lines
    counts = bulk.counts
    assert len(lines) == counts.events
    said = list(transcripts(lines))
    slots: dict[tuple[str, str], dict[str, Any]] = {}
    for one in said:
        before = slots.get(one["slot"], {"final": False, "end": -1.0})
        if (one["final"], one["end"]) > (before["final"], before["end"]):
            slots[one["slot"]] = one
    verdicts = Counter(verdict(one) for one in slots.values())
    assert len(slots) == counts.segments == 2100
    assert verdicts == {
        "result": counts.result,
        "unsure": counts.unsure,
        "low_confidence": counts.low_confidence,
        "no_speaker": counts.no_speaker,
        "never_final": counts.never_final,
    }
    assert min(verdicts.values()) > 0
    finals = Counter(json.dumps(o, sort_keys=True) for o in said if o["final"])
    assert sum(n - 1 for n in finals.values()) == counts.repeated > 0
    versions = Counter(tuple(json.loads(told)["slot"]) for told in finals)
    assert sum(n == 2 for n in versions.values()) == counts.corrected > 0
    assert sum("415-555-0142" in o["text"] for o in slots.values()) == counts.secrets > 0


def transcripts(lines: list[bytes]) -> Any:
    for line in lines:
        message = json.loads(line)
        if "topicName" not in message:
            body = message["data"]
            told = body["transcripts"][0]
            yield {
                "slot": (body["conversationId"], f"{told['start']:.3f}"),
                "speaker": told["speaker"],
                "text": told["text"],
                "end": told["end"],
                "confidence": told["confidence"],
                "final": told["isFinal"],
            }
        for told in message.get("eventBody", {}).get("transcripts", []):
            best = told["alternatives"][0]
            yield {
                "slot": (message["eventBody"]["conversationId"], told["utteranceId"]),
                "speaker": "" if told["channel"] == "UNKNOWN" else told["channel"],
                "text": best["decoratedTranscript"],
                "end": (best["offsetMs"] + best["durationMs"]) / 1000,
                "confidence": best["confidence"],
                "final": told["isFinal"],
            }


def verdict(one: dict[str, Any]) -> str:
    if not one["final"]:
        return "never_final"
    if not one["speaker"]:
        return "no_speaker"
    if one["confidence"] < 0.5:
        return "low_confidence"
    return "result" if one["confidence"] >= 0.85 else "unsure"


def sim(*options: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "steno_sim.cli", *options],
        capture_output=True,
        timeout=30,
        env={"PYTHONPATH": ":".join(sys.path)},
    )


def test_the_commands_write_and_score(tmp_path: Path) -> None:
    """Events and score, as a shell uses them; exit codes tell."""
    out, truth, export = (tmp_path / n for n in ("e.jsonl", "t.json", "x.json"))
    made = sim("events", "--out", str(out), "--truth", str(truth))
    assert made.returncode == 0, made.stderr
    messages = [json.loads(line) for line in out.read_bytes().splitlines()]
    script = build(scenario.load("diarisation"))
    export.write_bytes(export_of(finals_of_events(messages), truth_of(script, "event-socket")))
    scored = sim("score", str(export), "--truth", str(truth))
    assert (scored.returncode, json.loads(scored.stdout)["missing"]) == (0, 0)
    export.write_text('{"totalSegments": 0, "segments": []}')
    scored = sim("score", str(export), "--truth", str(truth))
    assert scored.returncode == 1
    assert json.loads(scored.stdout)["missing"] > 50
    bulk = sim("events", "--conversations", "2", "--segments", "10", "--partials", "0")
    assert len(bulk.stdout.splitlines()) == json.loads(bulk.stderr)["events"] >= 19
    assert sim("events", "--scenario", "nonesuch").returncode == 2
    assert sim("events", "--segments", "1", "--truth", str(truth)).returncode == 2
