"""The packaged calls from the simulator to an export, by both sources, held against the truth."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from faults.diarise_rig import Source, collecting
from steno_sim.region import RegionSettings
from steno_sim.scenario import Call, Diarisation, Scenario, Turn
from steno_sim.segments_score import audited

SPEED = 40.0


@pytest.mark.timeout(60)
@pytest.mark.parametrize("source", ["event-socket", "notifications"])
async def test_every_segment_is_exported_once_as_it_was_said(
    tmp_path: Path, source: Source
) -> None:
    """Ctrl-C right after the last event: a perfect export, and what is not in it is told why."""
    audit = tmp_path / "audit.jsonl"
    options = ("--audit", str(audit), "--json")
    async with collecting(tmp_path, source=source, speed=SPEED, options=options) as one:
        await one.sim.finished()
        pages = [(await one.collector.page(path))[1] for path in ("/metrics", "/readyz")]
        assert await one.collector.interrupted() == 0
        score, truth = one.score(), one.sim.truth()
        assert score.perfect, (score, one.collector.said())
        assert score.expected >= 60
        assert not one.leaks(*pages)
    assert one.collector.events("gateway.stopped")[0]["state"] == "drained"
    assert not one.collector.gaps()

    wanted = audited(truth, family="event" if source == "event-socket" else "topic")
    del wanted["never_final"]  # event socket: nobody says that a call is over, it may yet come
    lines = [json.loads(line) for line in audit.read_bytes().splitlines()]
    reasons = [line["payload"]["reason"] for line in lines]
    reasons = [reason for reason in reasons if reason != "never_final"]
    assert {line["kind"] for line in lines} == {"segment_audit"}
    assert {reason: reasons.count(reason) for reason in set(reasons)} == wanted

    totals = json.loads(one.collector.out.read_text())
    assert totals["audited"].items() >= wanted.items()
    assert totals["export"]["segments"] == score.expected
    undiarised = truth.conversations[6].id
    assert [cause["conversation"] for cause in totals["causes"]] == [undiarised]
    assert f"conversation {undiarised}: " in one.collector.said()


@pytest.mark.timeout(60)
async def test_a_final_that_comes_after_the_call_is_no_matter_for_the_audit(tmp_path: Path) -> None:
    """What got its final late is in the result; the audit has only what never got one."""
    audit = tmp_path / "audit.jsonl"
    turns = [
        Turn(who="agent", say="Good morning, how may I help you?", blemishes=["never_final"]),
        Turn(who="customer", say="I have a question about my bill.", blemishes=["late"]),
    ]
    scenario = Scenario(
        title="late",
        lead_in_s=4.0,
        diarisation=Diarisation(late_s=2.0),
        conversations=[Call(turns=turns)],
    )
    async with collecting(
        tmp_path, scenario, source="notifications", speed=4, options=("--audit", str(audit))
    ) as one:
        await one.sim.finished()
        assert await one.collector.interrupted() == 0
        assert one.score().perfect
    lines = [json.loads(line) for line in audit.read_bytes().splitlines()]
    assert [line["payload"]["segment"]["speaker"] for line in lines] == ["agent"]


@pytest.mark.timeout(60)
async def test_events_may_come_unasked_and_without_an_envelope(tmp_path: Path) -> None:
    """``diarisation.subscribe`` off: nothing is asked for; both forms of an event are taken."""
    settings = {"STENO_DIARISATION_SUBSCRIBE": "false"}
    region = RegionSettings(events_unasked=True, event_form="mixed")
    async with collecting(
        tmp_path, speed=SPEED, conversations=2, region=region, settings=settings
    ) as one:
        await one.sim.finished()
        assert await one.collector.interrupted() == 0
        assert one.score().perfect


@pytest.mark.timeout(60)
async def test_a_second_run_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    """Stopped in the middle and started again with the same state: one export of both."""
    async with collecting(tmp_path, speed=20, conversations=2) as one:
        await one.heard(8)
        assert await one.collector.interrupted() == 0
        first = json.loads(one.collector.export.read_bytes())
        one.collector.start()
        await one.collector.connected()
        await one.sim.finished()
        assert await one.collector.interrupted() == 0
        second = json.loads(one.collector.export.read_bytes())
        score = one.score()
    assert 0 < first["totalSegments"] < second["totalSegments"]
    earlier = {(s["conversation_id"], s["start_seconds"], s["speaker"]) for s in first["segments"]}
    later = {(s["conversation_id"], s["start_seconds"], s["speaker"]) for s in second["segments"]}
    assert earlier <= later
    assert (score.missing, score.extra, score.repeated, score.leaked) == (0, 0, 0, 0), score


@pytest.mark.timeout(60)
async def test_transfers_are_mapped_to_who_was_on_the_line(tmp_path: Path) -> None:
    """Channels and participants: agent, agent-2 with names and user ids, customer, menu."""
    async with collecting(
        tmp_path, source="notifications", speed=15, conversations=3, out="segments.jsonl"
    ) as one:
        await one.sim.finished()
        assert await one.collector.interrupted() == 0
        truth = one.sim.truth()
    lines = [json.loads(line) for line in one.collector.export.read_bytes().splitlines()]
    moved, menu = truth.conversations[1], truth.conversations[2]
    named = {
        (line["speaker"], line["name"], line["user_id"])
        for line in lines
        if line["conversation_id"] == moved.id
    }
    users = {segment.channel_speaker: segment.user for segment in moved.segments}
    assert named == {
        ("agent", "Anna", users["agent"]),
        ("agent-2", "Ben", users["agent-2"]),
        ("customer", "Customer", ""),
    }
    assert {l["speaker"] for l in lines if l["conversation_id"] == menu.id} == {  # noqa: E741
        "system", "customer", "agent",
    }  # fmt: skip
    assert all(line["participant"] and line["communication"] for line in lines)


@pytest.mark.timeout(90)
async def test_scored_against_the_truth_the_error_rate_is_zero(tmp_path: Path) -> None:
    """``score`` with an RTTM and the words of what was said: DER 0, cpWER 0 but for the masks."""
    async with collecting(tmp_path, speed=SPEED, conversations=4) as one:
        await one.sim.finished()
        assert await one.collector.interrupted() == 0
        truth = one.sim.truth()
        reference = tmp_path / "truth.rttm"
        rows = []
        for conversation in truth.conversations:
            for segment in conversation.segments:
                final = segment.known("event")
                if final is not None and segment.verdict("event") == "result":
                    rows.append(
                        f"SPEAKER {conversation.id} 1 {final.start_s:.3f} "
                        f"{final.end_s - final.start_s:.3f} <NA> <NA> {segment.speaker} <NA> <NA>"
                    )
        reference.write_text("\n".join(rows) + "\n")
        code, out, said = await one.collector.run(
            "diarise", "score", str(reference), "--collar", "0", "--json"
        )
        assert code == 0, said
        speakers = json.loads(out)["speakers"]
        assert speakers["der"] < 1e-4
        assert speakers["scored_s"] > 100
        # A wrong reference is told apart: all by one speaker.
        reference.write_text(re.sub(r"<NA> <NA> \S+ <NA>", "<NA> <NA> one <NA>", "\n".join(rows)))
        code, out, said = await one.collector.run(
            "diarise", "score", str(reference), "--collar", "0", "--json"
        )
        assert code == 0, said
        assert json.loads(out)["speakers"]["der"] > 0.2


@pytest.mark.timeout(90)
async def test_the_report_shows_what_was_collected(tmp_path: Path) -> None:
    """Table, JSON and page, beside a collector that still runs."""
    page = tmp_path / "report.html"
    async with collecting(tmp_path, speed=SPEED, conversations=2) as one:
        await one.sim.finished()
        ids = [plan.id for plan in one.sim.world.script.plans]
        await one.settled()
        table, machine, html = await asyncio.gather(
            one.collector.run("diarise", "report"),
            one.collector.run("diarise", "report", "--json"),
            one.collector.run("diarise", "report", "--html", str(page)),
        )
        assert [code for code, _, _ in (table, machine, html)] == [0, 0, 0], (table, machine, html)
        assert await one.collector.interrupted() == 0
        score = one.score()
        assert score.perfect
    assert all(name in table[1].decode() for name in ids)
    told = json.loads(machine[1])
    assert {one["figures"]["conversation"] for one in told["conversations"]} == set(ids)
    assert told["totals"]["segments"] == score.expected
    text = page.read_text()
    assert "<svg" in text
    assert not re.search(r"(?:src|href)=.https?:", text)
