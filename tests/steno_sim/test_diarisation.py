"""Blemishes of segments, and the packaged scenario, over real sockets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conformance.collector import export_of, finals_of_events, finals_of_topics
from conformance.sim_peers import Peer, peer, until_quiet
from steno_sim import scenario
from steno_sim.pieces import Script
from steno_sim.region import RegionSettings
from steno_sim.scenario import BlemishKind, Call, Diarisation, Noise, Scenario, Turn
from steno_sim.script import build
from steno_sim.segments_score import score_export
from steno_sim.server import Simulator
from steno_sim.wire import transcription_topic

SAID = "We have looked at the tracking page again."


def one(*blemishes: BlemishKind, **options: Any) -> Script:
    turns = [Turn(who="agent", say=SAID, blemishes=list(blemishes))]
    turns += [Turn(who="customer", say="Thank you very much.")] * 2
    return build(Scenario(conversations=[Call(turns=turns)], **options))


def talk(count: int = 200, **shares: Any) -> Script:
    """A conversation of so many turns with shares of blemishes."""
    turns = [Turn(who=("agent", "customer")[n % 2], say=f"{SAID} {n}.") for n in range(count)]
    return build(Scenario(conversations=[Call(turns=turns)], diarisation=Diarisation(**shares)))


def test_a_segment_that_names_nobody() -> None:
    """No label on the event socket, an unknown channel on the topics."""
    segment = one("no_speaker").segments(0)[0]
    assert (segment.speaker, segment.channel_speaker) == ("", "")
    pieces = [p for p in one("no_speaker").pieces() if p.utterance == 0]
    assert {(p.speaker, p.channel) for p in pieces} == {("", "UNKNOWN")}


@pytest.mark.parametrize(("kind", "least", "most"), [("faint", 0, 0.5), ("unsure", 0.5, 0.85)])
def test_confidence_lies_where_it_was_asked_for(
    kind: BlemishKind, least: float, most: float
) -> None:
    """Faint is below 0.5, unsure from there to 0.85."""
    confidence = one(kind).segments(0)[0].versions[0].confidence
    assert least < confidence < most


def test_a_final_that_never_comes() -> None:
    """All words come, none of them final."""
    script = one("never_final", "late", "corrected")
    assert script.segments(0)[0].versions == []
    pieces = [p for p in script.pieces() if p.utterance == 0]
    assert not any(p.final for p in pieces)
    assert script.whole(pieces[-1]) == SAID


def test_a_corrected_final_is_longer_and_surer() -> None:
    """Whatever order a collector has, the second of the two is the greater."""
    first, last = one("corrected").segments(0)[0].versions
    assert first.start_s == last.start_s
    assert last.text == SAID
    assert last.text.startswith(first.text)
    assert (last.end_s, last.confidence) > (first.end_s, first.confidence)
    assert last.confidence > first.confidence
    assert last.key == first.key + 1


def test_a_late_final_comes_after_what_was_said_next() -> None:
    """Its times are those of the speech all the same."""
    script = one("late", diarisation=Diarisation(late_s=60.0))
    finals = [p for p in script.pieces() if p.final]
    assert [p.utterance for p in finals] == [1, 2, 0]
    assert script.segments(0)[0].end_s < script.segments(0)[1].start_s


def test_shares_are_met_and_repeat() -> None:
    """About the share that was asked for; the same for the same seed."""
    script = talk(no_speaker=0.2, faint=0.2, overlaps=0.3, corrected=0.1, never_final=0.1)
    kinds = [set(s.blemishes) for s in script.segments(0)]
    for kind, share in (("no_speaker", 0.2), ("faint", 0.2), ("never_final", 0.1)):
        assert share / 2 < sum(kind in k for k in kinds) / 200 < share * 2
    assert 0.3 < sum(s.overlapped for s in script.segments(0)) / 200 < 0.9
    again = talk(no_speaker=0.2, faint=0.2, overlaps=0.3, corrected=0.1, never_final=0.1)
    assert again.segments(0) == script.segments(0)
    assert not any(s.blemishes or s.overlapped for s in talk().segments(0))


def test_a_conversation_without_diarisation_names_nobody() -> None:
    """Every segment; both sides are one channel."""
    script = build(
        Scenario(
            conversations=[Call(turns=[Turn(who="agent", say=SAID)])],
            diarisation=Diarisation(undiarised=1.0),
        )
    )
    assert {s.speaker for s in script.segments(0)} == {""}
    assert {p.channel for p in script.pieces() if p.key >= 0} == {"BOTH"}


def test_labels_are_local_and_follow_the_first_words() -> None:
    """Numbers by first speech, or roles; a second agent and a second voice have their own."""
    turns = [
        Turn(who="customer", say="Hello."),
        Turn(who="agent", say="Hello."),
        Turn(who="agent", say="Hello.", agent="ben"),
        Turn(who="customer", say="Hello.", voice="son"),
        Turn(who="customer", say="Hello."),
    ]
    call = Call(turns=turns, agent="anna")
    numbers = build(Scenario(conversations=[call, call]))
    for number in (0, 1):
        labels = [s.speaker for s in numbers.segments(number)]
        assert labels == ["speaker_0", "speaker_1", "speaker_2", "speaker_3", "speaker_0"]
    roles = build(Scenario(conversations=[call], diarisation=Diarisation(labels="roles")))
    labels = [s.speaker for s in roles.segments(0)]
    assert labels == ["customer", "agent", "agent-2", "customer-2", "customer"]
    channels = [s.channel_speaker for s in roles.segments(0)]
    assert channels == ["customer", "agent", "agent-2", "customer", "customer"]


def test_the_packaged_scenario_has_every_blemish() -> None:
    """Six to ten calls, two languages, transfers, a menu, three speakers, split secrets."""
    script = build(scenario.load("diarisation"))
    segments = [s for p in script.plans for s in script.segments(p.number)]
    assert 6 <= len(script.plans) <= 10
    blemishes = {b for s in segments for b in s.blemishes}
    assert blemishes == {
        "no_speaker",
        "faint",
        "unsure",
        "never_final",
        "corrected",
        "late",
        "joined",
        "undiarised",
    }
    assert any(s.overlapped for s in segments)
    assert {"system", "agent", "agent-2", "customer"} <= {s.channel_speaker for s in segments}
    assert any(len(p.communications) > 1 for p in script.plans)
    assert any(
        len({s.speaker for s in script.segments(p.number)}) == 3 and len(p.agents) == 1
        for p in script.plans
    )
    said = [u for p in script.plans for u in script.utterances(p.number)]
    assert {u.language[:2] for u in said} == {"en", "es"}
    secrets = [s for u in said for s in u.secrets]
    assert {s.kind for s in secrets} == {"phone", "card", "email", "ssn", "iban"}
    split = {u.number for u in said for s in u.secrets if s.group}
    assert len(split) == 2
    last_s = max(p.due_us for p in script.pieces()) / 1e6
    assert 150 < last_s < 250


async def test_a_collector_of_the_event_socket_gets_all_of_it() -> None:
    """A perfect collector's export is perfect, in mixed forms and with several in an event."""
    settings = RegionSettings(event_form="mixed")
    async with (
        Simulator("diarisation", speed=0, wait_for_sockets=1, settings=settings) as sim,
        peer(sim) as client,
        client.events() as ws,
    ):
        await sim.finished()
        messages = await until_quiet(ws)
        truth = sim.truth()
    assert sim.stats()["missed"] == 0
    assert any(len(m.get("data", m)["transcripts"]) > 1 for m in messages)
    assert any("speaker" not in t for m in messages for t in m.get("data", m)["transcripts"])
    score = score_export(truth, export_of(finals_of_events(messages), truth))
    assert score.perfect, score.details


async def follow_topics(sim: Simulator, client: Peer) -> tuple[list[Any], dict[str, Any]]:
    topics = [transcription_topic(p.id) for p in sim.world.script.plans]
    async with client.listen(await client.channel(*topics)) as ws:
        await sim.finished()
        messages = await until_quiet(ws)
    calls = {}
    for plan in sim.world.script.plans:
        calls[plan.id] = (await client.call("GET", f"/api/v2/conversations/{plan.id}")).json
    return messages, calls


async def test_a_collector_of_notifications_gets_all_of_it() -> None:
    """Speakers by channel and by the agent on the line; times by the clock of the playback."""
    async with (
        Simulator("diarisation", speed=200, wait_for_sockets=1) as sim,
        peer(sim) as client,
    ):
        messages, calls = await follow_topics(sim, client)
        truth = sim.truth()
    found = finals_of_topics(messages, calls)
    labels = {one["speaker"] for one in found}
    assert labels == {"agent", "agent-2", "customer", "system", ""}
    score = score_export(truth, export_of(found, truth), family="topic")
    assert score.perfect, score.details


async def test_what_was_missed_is_not_expected() -> None:
    """The truth follows what was delivered: an export of it is perfect, however little it is."""
    async with (
        Simulator("diarisation", speed=0, wait_for_sockets=1) as sim,
        peer(sim) as client,
        client.events() as ws,
    ):
        sim.inject(kind="drop", after=90, target="event")
        await sim.finished()
        messages = await until_quiet(ws, quiet_s=1.0)
        truth = sim.truth()
    found = finals_of_events(messages)
    score = score_export(truth, export_of(found, truth))
    assert score.perfect, score.details
    assert 5 < score.expected < 50


async def test_the_stream_has_no_corrections() -> None:
    """One final of each utterance, with all its words."""
    turns = [Turn(who="agent", say=SAID, blemishes=["corrected"])]
    spec = Scenario(conversations=[Call(turns=turns)], noise=Noise())
    async with (
        Simulator(spec, speed=0, wait_for_sockets=1) as sim,
        peer(sim) as client,
        client.stream() as ws,
    ):
        await sim.finished()
        finals = [m["transcript"] for m in await until_quiet(ws) if m["isFinal"]]
        truth = sim.truth()
    assert finals == [SAID]
    assert truth.conversations[0].utterances[0].stream == "whole"


async def test_the_truth_of_segments_is_told_over_http() -> None:
    """Another process reads the same truth."""
    async with Simulator("diarisation", speed=0) as sim, peer(sim) as client:
        await sim.finished()
        body = json.loads((await client.call("GET", "/_sim/truth")).raw)
        segments = [s for c in body["conversations"] for s in c["segments"]]
    assert len(segments) > 60
    assert any("{phone#1:" in s["marked"] for s in segments)
    assert body["speed"] == 0
