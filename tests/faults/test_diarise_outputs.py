"""Every way in which segments leave: at the end, in between, while they come, and beside it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import signal
from pathlib import Path
from typing import Any

import polars
import pytest

from faults.diarise_rig import Collector, collecting, talk
from faults.gateway_oracle import read_lines
from faults.gateway_rig import ConsumerProcess, until
from steno_sim.scenario import Call, Scenario, Turn

SPEED = 30.0


def newest(lines: list[dict[str, Any]]) -> dict[str, tuple[object, ...]]:
    """Give speaker, text and times of the newest revision by key."""
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        known = found.get(line["key"])
        if known is None or int(line["revision"]) > int(known["revision"]):
            found[line["key"]] = line
    return {
        key: (one["speaker"], one["text"], float(one["start_seconds"]), float(one["end_seconds"]))
        for key, one in found.items()
    }


def cues(text: str) -> dict[str, tuple[str, str]]:
    """Give times and words of WebVTT cues; the newest of each key, without the revision."""
    found: dict[str, tuple[str, str]] = {}
    for block in text.split("\n\n")[1:]:
        lines = block.strip().split("\n")
        if len(lines) == 3:
            found[lines[0].rpartition(".")[0]] = (lines[1], lines[2])
    return found


@pytest.mark.timeout(90)
async def test_a_following_export_grows_and_ends_as_the_export_would(tmp_path: Path) -> None:
    """JSON lines, CSV and VTT are appended to; JSON is replaced whole, and never half there."""
    async with collecting(
        tmp_path,
        speed=12,
        conversations=2,
        start=False,
        options=("--follow", "--interval-s", "1"),
    ) as one:
        ids = [plan.id for plan in one.sim.world.script.plans]
        followers = {
            name: Collector(tmp_path / name, one.sim, out=out, options=("--follow",))
            for name, out in (("jsonl", "s.jsonl"), ("csv", "s.csv"), ("vtt", "{conversation}.vtt"))
        }
        try:
            for name, follower in followers.items():
                (tmp_path / name).mkdir()
                follower.start()
            one.collector.start()
            for process in (one.collector, *followers.values()):
                await process.connected()
            whole = one.collector.export
            await until(whole.exists, "the first JSON export")
            first, inode = json.loads(whole.read_bytes()), whole.stat().st_ino
            growing = followers["jsonl"].export
            await until(lambda: growing.exists() and growing.stat().st_size, "the first lines")
            early = growing.read_bytes()
            assert not one.sim.world.stats()["finished"], "while it runs"
            for _ in range(100):
                json.loads(whole.read_bytes())  # whole at any moment
                await asyncio.sleep(0.01)
            await one.sim.finished()
            assert await one.collector.interrupted() == 0
            assert whole.stat().st_ino != inode
            assert json.loads(whole.read_bytes())["totalSegments"] > first["totalSegments"]
            score = one.score()
            assert (score.extra, score.repeated, score.leaked, score.wrong_text) == (0, 0, 0, 0)
            for follower in followers.values():
                assert await follower.interrupted() == 0
            assert growing.read_bytes().startswith(early)
            lines = [json.loads(line) for line in growing.read_bytes().splitlines()]
            stored = await followers["jsonl"].exported("jsonl")
            assert newest(lines) == newest([json.loads(x) for x in stored.splitlines()])
            assert len(lines) > 10
            rows = list(csv.DictReader(io.StringIO(followers["csv"].export.read_text())))
            stored = await followers["csv"].exported("csv")
            assert newest(rows) == newest(list(csv.DictReader(io.StringIO(stored.decode()))))
            for name in ids:
                told = cues((tmp_path / "vtt" / f"{name}.vtt").read_text())
                stored = await followers["vtt"].exported("vtt", "--conversation", name)
                assert stored.startswith(b"WEBVTT")
                blocks = [b.strip().split("\n") for b in stored.decode().split("\n\n")[1:]]
                assert sorted(told.values()) == sorted((b[-2], b[-1]) for b in blocks if b[-1])
            assert not one.leaks()
        finally:
            for follower in followers.values():
                follower.end()


@pytest.mark.timeout(60)
async def test_sigusr1_exports_in_between(tmp_path: Path) -> None:
    """The export of what there is; it goes on, and the one at the end has everything."""
    async with collecting(tmp_path, speed=20, conversations=2) as one:
        await one.heard(5)
        assert not one.collector.export.exists()
        one.collector.signal(signal.SIGUSR1)
        told = await one.collector.event("diarisation.exported")
        between = json.loads(one.collector.export.read_bytes())
        assert between["totalSegments"] == told["count"] > 0
        await one.sim.finished()
        assert await one.collector.interrupted() == 0
        assert one.score().perfect
        assert json.loads(one.collector.export.read_bytes())["totalSegments"] > told["count"]


@pytest.mark.timeout(60)
async def test_nothing_above_the_threshold_is_an_outcome_of_its_own(tmp_path: Path) -> None:
    """Exit code 5, the threshold in a line, and no empty file where the export would be."""
    scenario = talk(("agent", "Good morning to you."), ("customer", "Good morning."))
    async with collecting(
        tmp_path, scenario, speed=5, options=("--min-confidence", "1.0", "--json")
    ) as one:
        await one.sim.finished()
        assert await one.collector.interrupted() == 5
        assert "no segment met the confidence threshold 1\n" in one.collector.said()
        assert not one.collector.export.exists()
        totals = json.loads(one.collector.out.read_text())
        assert (totals["export"]["segments"], totals["segments"]) == (0, 2)
        code, out, said = await one.collector.run("diarise", "export", "--min-confidence", "1")
        assert (code, out) == (5, b"")
        assert "no segment met the confidence threshold 1" in said
        assert json.loads(await one.collector.exported("json"))["totalSegments"] == 2


@pytest.mark.timeout(60)
async def test_a_provider_without_speakers_is_the_likely_cause(tmp_path: Path) -> None:
    """No label in any segment: exit code 5, the conversation and its cause, the audit's counts."""
    turns = [Turn(who="agent", say="Good morning to you."), Turn(who="customer", say="Hello.")]
    scenario = Scenario(title="dumb", conversations=[Call(turns=turns, diarised=False)])
    async with collecting(tmp_path, scenario, speed=5) as one:
        await one.sim.finished()
        assert await one.collector.interrupted() == 5
        name = one.sim.world.script.plans[0].id
        said = one.collector.said()
    assert f"conversation {name}: no segment names a speaker: the transcription provider" in said
    assert "not in the result: no_speaker 2" in said
    assert not one.collector.export.exists()


@pytest.mark.timeout(60)
async def test_turns_are_merged_on_request(tmp_path: Path) -> None:
    """Segments of one speaker with a small pause become one; the stored ones stay."""
    scenario = talk(
        ("agent", "Good morning."), ("agent", "How may I help?"), ("customer", "Not at all.")
    )
    async with collecting(tmp_path, scenario, speed=5, options=("--turns", "2")) as one:
        await one.sim.finished()
        assert await one.collector.interrupted() == 0
        merged = json.loads(one.collector.export.read_bytes())["segments"]
        plain = json.loads(await one.collector.exported("json"))["segments"]
        short = json.loads(await one.collector.exported("json", "--turns", "0.1"))["segments"]
    assert [s["text"] for s in merged] == ["Good morning. How may I help?", "Not at all."]
    assert merged[0]["start_seconds"] == plain[0]["start_seconds"]
    assert merged[0]["end_seconds"] == plain[1]["end_seconds"]
    assert len(plain) == len(short) == 3


@pytest.mark.timeout(90)
async def test_every_format_can_be_exported_beside_a_running_collector(tmp_path: Path) -> None:
    """The same segments in each; one file for each conversation where the path asks for it."""
    async with collecting(tmp_path, speed=40, conversations=2, out="-") as one:
        await one.sim.finished()
        await one.settled()
        ids = [plan.id for plan in one.sim.world.script.plans]
        table = tmp_path / "s.parquet"
        texts = ("json", "jsonl", "csv", "rttm")
        done = await asyncio.gather(*(one.collector.exported(name) for name in texts))
        found = dict(zip(texts, done, strict=True))
        for name in ("srt", "vtt"):
            (tmp_path / name).mkdir()
        split = [
            one.collector.run(
                "diarise", "export", "--out", str(tmp_path / name / "{conversation}") + f".{name}"
            )
            for name in ("srt", "vtt")
        ]
        whole = one.collector.run("diarise", "export", "--out", str(table), "--json")
        assert [code for code, _, _ in await asyncio.gather(*split, whole)] == [0, 0, 0]
        code, _, said = await one.collector.run("diarise", "export", "--format", "srt")
        assert code == 2, "two conversations are no subtitles"
        assert "{conversation}" in said
        assert one.score(found["json"]).perfect
        assert await one.collector.interrupted() == 0
        assert one.collector.out.read_bytes() == found["json"], "standard output has the export"
    expected = json.loads(found["json"])["totalSegments"]
    lines = [json.loads(line) for line in found["jsonl"].splitlines()]
    assert len(lines) == expected
    rows = list(csv.DictReader(io.StringIO(found["csv"].decode())))
    assert newest(rows) == newest(lines)
    assert found["rttm"].count(b"SPEAKER ") == expected
    assert newest(polars.read_parquet(table).to_dicts()) == newest(lines)
    for name in ("srt", "vtt"):
        files = {path.stem: path.read_text() for path in (tmp_path / name).iterdir()}
        assert set(files) == set(ids)
        assert sum(text.count(" --> ") for text in files.values()) == expected


@pytest.mark.timeout(30)
@pytest.mark.parametrize("options", [(), ("--follow", "--format", "jsonl")])
async def test_an_export_that_cannot_be_written_is_told_at_the_start(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """A mistyped folder costs no night: exit code 2 before anything is asked of the platform."""
    async with collecting(tmp_path, start=False, out="typo/segments.json", options=options) as one:
        one.collector.start()
        assert await one.collector.ended() == 2
        assert "the folder is not there" in one.collector.said().splitlines()[-1]
        assert not one.sim.region.requests
        code, _, said = await one.collector.run(
            "diarise", "export", "--out", str(one.collector.export)
        )
        assert code == 2
        assert "the folder is not there" in said


@pytest.mark.timeout(60)
async def test_consumers_get_segments_while_they_come(tmp_path: Path) -> None:
    """``--records`` and ``--grpc``: in order, once, and long before the export."""
    consumer = ConsumerProcess(tmp_path)
    consumer.start()
    try:
        await consumer.listening()
        async with collecting(
            tmp_path, speed=20, conversations=2, options=("--grpc", consumer.address)
        ) as one:
            await until(lambda: consumer.lines() >= 5, "segments at the consumer")
            assert one.collector.lines() > 0
            assert not one.sim.world.stats()["finished"], "while it runs"
            await one.sim.finished()
            assert await one.collector.interrupted() == 0
            assert one.score().perfect
            stored = await one.collector.exported("jsonl", "--min-confidence", "0")
            assert await consumer.stop() == 0
            assert not one.leaks()
    finally:
        consumer.end()
    received, written = read_lines(consumer.file), read_lines(one.collector.records)
    names = [(line.key, line.revision) for line in received]
    assert len(set(names)) == len(names)
    assert sorted(names) == sorted((line.key, line.revision) for line in written)
    assert {json.loads(line)["key"] for line in stored.splitlines()} == {n[0] for n in names}
    last: dict[str, int] = {}
    for line in received:
        assert line.seq > last.get(line.conversation, 0)
        last[line.conversation] = line.seq
