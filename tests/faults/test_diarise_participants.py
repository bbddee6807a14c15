"""The real platform's source: who spoke, from channel and participants, whatever these say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faults.diarise_rig import collecting
from steno_sim.scenario import Call, Scenario, Turn
from steno_sim.script import build

TRANSFER = Scenario(
    title="transfer",
    lead_in_s=4.0,
    conversations=[
        Call(
            agent="zenobia",
            turns=[
                Turn(who="agent", say="Good morning, how may I help you?"),
                Turn(who="customer", say="I have a question about my bill."),
                Turn(who="agent", say="Then you need the accounts department."),
                Turn(who="agent", agent="ptolemy", say="Hello, accounts here.", after_s=2.0),
                Turn(who="customer", say="Hello, it is about my bill."),
            ],
        )
    ],
)
NAMES = (b"Zenobia", b"Ptolemy")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("status", "told"),
    [
        (403, ["diarisation.rosters_refused"]),
        (404, []),  # not known yet: asked again, and nobody is woken
        (429, ["diarisation.rosters_unavailable"]),
    ],
)
async def test_without_participants_speakers_are_those_of_the_channels(
    tmp_path: Path, status: int, told: list[str]
) -> None:
    """Refused, unknown or throttled: every segment is there as agent or customer; told once."""
    name = build(TRANSFER).plans[0].id  # followed by its id: no topic tells who takes part
    async with collecting(
        tmp_path,
        TRANSFER,
        source="notifications",
        start=False,
        speed=4,
        out="s.jsonl",
        follows_queues=False,
        options=("--conversation", name),
    ) as one:
        one.sim.inject(
            kind="answer",
            path="/api/v2/conversations/*",
            method="GET",
            status=status,
            retry_after_s=0.5,
            times=1000,
        )
        one.collector.start()
        await one.sim.finished()
        assert await one.collector.interrupted() == 0
        asked = one.sim.region.requests[f"GET /api/v2/conversations/{{id}} {status}"]
        said = [json.loads(x) for x in one.collector.said().splitlines() if x.startswith("{")]
    lines = [json.loads(line) for line in one.collector.export.read_bytes().splitlines()]
    assert len(lines) == 5
    assert {line["speaker"] for line in lines} == {"agent", "customer"}
    assert not any(line["name"] or line["user_id"] for line in lines)
    assert [x["event"] for x in said if x["level"] in ("warning", "error")] == told
    assert 1 <= asked < 20, "no storm"


@pytest.mark.timeout(60)
async def test_names_can_be_kept_out_of_everything(tmp_path: Path) -> None:
    """``diarisation.names`` off: agents are told apart, and no file, log or page names them."""
    settings = {"STENO_DIARISATION_NAMES": "false"}
    async with collecting(
        tmp_path, TRANSFER, source="notifications", speed=4, out="s.jsonl", settings=settings
    ) as one:
        await one.sim.finished()
        page = (await one.collector.page("/metrics"))[1].encode()
        assert await one.collector.interrupted() == 0
        segments = one.sim.truth().conversations[0].segments
        users = [segment.user.encode() for segment in segments if segment.user]
        code, html, _ = await one.collector.run("diarise", "report", "--html", "-")
        assert code == 0
        for path in one.files():
            data = path.read_bytes()
            assert not any(name in data for name in (*NAMES, *users)), path.name
        assert not any(name in html + page for name in (*NAMES, *users))
    lines = [json.loads(line) for line in one.collector.export.read_bytes().splitlines()]
    assert [line["speaker"] for line in lines] == [
        "agent", "customer", "agent", "agent-2", "customer",
    ]  # fmt: skip


@pytest.mark.timeout(60)
async def test_names_are_kept_where_they_are_wanted(tmp_path: Path) -> None:
    """The same call with names: who took over is told by name and user id, and logs are silent."""
    async with collecting(
        tmp_path, TRANSFER, source="notifications", speed=4, out="s.jsonl"
    ) as one:
        await one.sim.finished()
        assert await one.collector.interrupted() == 0
        segments = one.sim.truth().conversations[0].segments
        log = one.collector.log.read_bytes()
    lines = [json.loads(line) for line in one.collector.export.read_bytes().splitlines()]
    assert [(line["speaker"], line["name"], line["user_id"]) for line in lines] == [
        (said.channel_speaker, name, said.user)
        for said, name in zip(
            segments, ("Zenobia", "Customer", "Zenobia", "Ptolemy", "Customer"), strict=True
        )
    ]
    assert not any(name in log for name in NAMES)
