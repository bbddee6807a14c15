"""Frames that cannot be read between good ones: counted, set aside, and the stream lives."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import get_args

import pytest

from faults.gateway_oracle import Witness, newest, read_lines, searched
from faults.gateway_rig import load, rig, until
from steno_sim.faults import Form

EACH = 1
NOT_QUARANTINED = {"unknown_event", "huge", "bad_times"}  # the last: event sockets only


@pytest.mark.timeout(60)
async def test_malformed_frames_of_every_kind(tmp_path: Path) -> None:
    """Each is counted with a gap record that holds no content; every good sentence arrives."""
    forms = [form for form in get_args(Form) if form not in NOT_QUARANTINED]
    async with rig(tmp_path, load()) as one:
        witness = Witness(one.sim.world)
        for number, form in enumerate(forms, start=1):
            await one.heard(10)
            one.sim.inject(kind="malformed", form=form, times=EACH)
            while await one.gateway.metric("steno_quarantined_total") < number * EACH:
                await asyncio.sleep(0.05)
        one.sim.inject(kind="malformed", form="unknown_event", times=EACH)
        while await one.gateway.metric("steno_feed_ignored_total") < EACH:
            await asyncio.sleep(0.05)
        await one.heard(10)
        pages = [(await one.gateway.page("/metrics"))[1]]
        assert one.sim.region.upgrades == 1, "the stream lived"
        assert await one.gateway.metric("steno_quarantined_total") == EACH * len(forms)
        await one.drained()
        verdict = one.verdict(witness, pages=pages)
        leaks = searched(one.files(), pages, canaries=["never said"], tokens=[])
    verdict.kept()
    assert not leaks
    assert not verdict.in_gap
    gaps = [line.payload for line in newest(read_lines(one.consumer.file)) if line.kind == "gap"]
    assert {gap["cause"] for gap in gaps} == {"quarantine"}
    assert len(gaps) == EACH * len(forms)
    assert all(gap["sha256"] and gap["size_bytes"] for gap in gaps)
    assert len(one.gateway.events("live.quarantined", ever=True)) <= EACH * len(forms)


@pytest.mark.timeout(60)
async def test_a_giant_frame_closes_the_socket_and_no_more(tmp_path: Path) -> None:
    """Beyond the limit: refused with 1009 before it fills memory, connected again."""
    async with rig(tmp_path, load()) as one:
        witness = Witness(one.sim.world)
        await one.heard(20)
        before_kb = one.gateway.rss_kb()
        one.sim.inject(kind="malformed", form="huge")
        await until(lambda: one.sim.region.upgrades == 2, "another socket", limit_s=10)
        await one.heard(20)
        assert one.gateway.rss_kb() < before_kb + 30_000
        await one.drained()
        verdict = one.verdict(witness)
    verdict.kept()
    assert one.gateway.events("live.disconnected", ever=True)[0]["close_code"] == 1009


@pytest.mark.timeout(60)
async def test_a_flood_of_malformed_frames_is_summed_up(tmp_path: Path) -> None:
    """Thousands in a second: counted each, logged and stored a few, good sentences arrive."""
    async with rig(tmp_path, load()) as one:
        witness = Witness(one.sim.world)
        await one.heard(20)
        one.sim.inject(kind="malformed", form="invalid_json", times=5000)
        while await one.gateway.metric("steno_quarantined_total") < 5000:
            await asyncio.sleep(0.05)
        await one.heard(20)
        await one.drained()
        verdict = one.verdict(witness)
    verdict.kept()
    assert not verdict.in_gap
    assert len(one.gateway.events("live.quarantined", ever=True)) < 500
    gaps = [line for line in newest(read_lines(one.consumer.file)) if line.kind == "gap"]
    assert len(gaps) < 500
