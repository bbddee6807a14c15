"""Lost, silent and throttled event sockets: waited out as documented, and owned up to."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, get_args

import pytest

from faults.diarise_rig import Collecting, collecting
from faults.gateway_oracle import newest, read_lines
from faults.gateway_rig import load, until
from steno_sim.faults import Form
from steno_sim.region import RegionSettings

LOAD = load(conversations=4, rate=60)
NOT_QUARANTINED = {"unknown_event", "huge", "bad_times"}


async def refusals(one: Collecting, count: int) -> list[float]:
    """Note when each of so many upgrades is refused, seconds."""
    found: list[float] = []
    while len(found) < count:
        goal = len(found) + 1
        await until(lambda goal=goal: one.sim.region.refused_upgrades >= goal, "a try")  # type: ignore[misc]
        found.append(time.monotonic())
    return found


@pytest.mark.timeout(60)
async def test_after_429_each_wait_is_twice_the_one_before_and_doubled(tmp_path: Path) -> None:
    """Scaled down ten times, 0.2 s to 1 s: 0.4, 0.8, 1, 1 s and up to 0.05 s more; no storm."""
    settings = {"STENO_DIARISATION_BACKOFF_MAX_S": "1"}
    async with collecting(tmp_path, LOAD, settings=settings) as one:
        await one.heard(5)
        one.sim.inject(kind="refuse", status=429, times=5)
        began = time.monotonic()
        one.sim.inject(kind="drop", code=1012)
        tries = await refusals(one, 5)
        await one.collector.connected(count=2)
        assert one.sim.region.refused_upgrades == 5
        failed = one.collector.events("live.dial_failed")
        assert {event["error_class"] for event in failed} == {"RateLimited"}
        assert {event["status"] for event in failed} == {429}
        await one.heard(5)
        verdict = await one.stopped()
    waits = [after - before for before, after in zip([began, *tries], tries, strict=False)]
    assert 0.19 < waits[0] < 0.6, "the first try is an ordinary one"
    for wait, least in zip(waits[1:], (0.8, 1.0, 1.0, 1.0), strict=True):
        assert least - 0.02 < wait < least + 0.4, waits
    verdict.kept()


@pytest.mark.timeout(60)
async def test_retry_after_is_obeyed(tmp_path: Path) -> None:
    """A wish longer than our own wait is granted; the next try comes after it and succeeds."""
    async with collecting(tmp_path, LOAD) as one:
        await one.heard(5)
        one.sim.inject(kind="refuse", status=429, retry_after_s=3, times=1)
        one.sim.inject(kind="drop", code=1012)
        (refused,) = await refusals(one, 1)
        await one.collector.connected(count=2)
        assert 2.9 < time.monotonic() - refused < 4.5
        assert one.sim.region.refused_upgrades == 1
        verdict = await one.stopped()
    verdict.kept()


@pytest.mark.timeout(60)
async def test_a_limit_of_upgrades_is_not_run_into_again_and_again(tmp_path: Path) -> None:
    """A platform that allows two upgrades in four seconds, and drops: its wish is waited for."""
    region = RegionSettings(event_upgrades=2, rate_window_s=4)
    async with collecting(tmp_path, LOAD, region=region) as one:
        for count in (2, 3):
            await one.heard(3)
            one.sim.inject(kind="drop", code=1012)
            await one.collector.connected(count=count)
        assert one.sim.region.refused_upgrades <= 1
        verdict = await one.stopped()
    verdict.kept()


@pytest.mark.timeout(60)
async def test_silence_is_noticed_by_the_ping(tmp_path: Path) -> None:
    """Half-open: no frame, no pong, no close. Another socket, and a gap for the time between."""
    settings = {"STENO_LIVE_PING_INTERVAL_S": "0.4", "STENO_LIVE_PONG_TIMEOUT_S": "0.6"}
    async with collecting(tmp_path, LOAD, settings=settings) as one:
        await one.heard(10)
        began_us, began = time.time_ns() // 1000, time.monotonic()
        one.sim.inject(kind="silence", target="event")
        await one.collector.connected(count=2)
        assert time.monotonic() - began < 5
        down = one.collector.events("live.disconnected")[0]
        assert down["cause"] == "disconnect"
        await one.heard(10)
        verdict = await one.stopped()
        whole = [gap for gap in one.collector.gaps() if not gap.conversation]
    verdict.kept()
    assert not verdict.in_gap, "what reached us before the silence was heard"
    assert len(whole) == 1
    assert began_us - 1_000_000 < whole[0].from_us < began_us + 1_000_000
    assert whole[0].to_us < 1 << 62, "the gap was closed"


@pytest.mark.timeout(60)
async def test_any_close_we_did_not_ask_for_is_survived(tmp_path: Path) -> None:
    """Close codes, a FIN, a reset, and the region away for a moment: all of it is in gaps."""
    faults: list[dict[str, Any]] = [{"code": 1000}, {"code": 1011}, {}, {"reset": True}]
    settings = {"STENO_DIARISATION_BACKOFF_MAX_S": "0.3"}
    async with collecting(tmp_path, LOAD, settings=settings) as one:
        for count, fault in enumerate(faults, start=2):
            await one.heard(5)
            one.sim.inject(kind="drop", **fault)
            await one.collector.connected(count=count)
        one.sim.inject(kind="region_down", for_s=1)
        await one.collector.connected(count=len(faults) + 2)
        await one.heard(5)
        verdict = await one.stopped()
    verdict.kept()
    assert len(verdict.in_gap) < 20


@pytest.mark.timeout(60)
async def test_malformed_events_of_every_form_between_good_ones(tmp_path: Path) -> None:
    """Each is counted, and a gap record has its size and hash, never its content."""
    forms = [form for form in get_args(Form) if form not in NOT_QUARANTINED]
    audit = tmp_path / "audit.jsonl"
    async with collecting(tmp_path, LOAD, options=("--audit", str(audit))) as one:
        for form in forms:
            await one.heard(2)
            one.sim.inject(kind="malformed", form=form, target="event", times=1)
        one.sim.inject(kind="malformed", form="unknown_event", target="event", times=1)
        await one.heard(5)
        assert await one.collector.metric("steno_quarantined_total") == len(forms)
        assert await one.collector.metric("steno_feed_ignored_total") == 1
        page = (await one.collector.page("/metrics"))[1]
        assert not any(b"never said" in path.read_bytes() for path in one.files())
        one.sim.inject(kind="malformed", form="bad_times", target="event", times=1)
        await one.heard(5)
        assert one.sim.region.upgrades == 1, "the socket lived"
        verdict = await one.stopped()
        verdict.leaks += one.leaks(page)
    verdict.kept()
    gaps = [x.payload for x in newest(read_lines(one.collector.records)) if x.kind == "gap"]
    assert len(gaps) == len(forms)
    assert {gap["cause"] for gap in gaps} == {"quarantine"}
    assert all(gap["sha256"] and gap["size_bytes"] for gap in gaps)
    assert b'"bad_times"' in audit.read_bytes(), "speech that ends before it starts is audited"


@pytest.mark.timeout(60)
async def test_a_giant_event_costs_the_socket_and_no_more(tmp_path: Path) -> None:
    """Beyond the limit: closed with 1009 before it fills memory, connected again."""
    async with collecting(tmp_path, LOAD) as one:
        await one.heard(10)
        before_kb = one.collector.rss_kb()
        one.sim.inject(kind="malformed", form="huge", target="event")
        await one.collector.connected(count=2)
        await one.heard(5)
        assert one.collector.rss_kb() < before_kb + 30_000
        assert one.collector.events("live.disconnected")[0]["close_code"] == 1009
        verdict = await one.stopped()
    verdict.kept()
