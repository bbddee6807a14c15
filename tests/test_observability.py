"""Logs, metrics and health: one event one line, nothing but the vocabulary, pages on loopback."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.observability import (
    Health,
    LogTelemetry,
    TelemetryRefused,
    serve_health,
    watch_loop,
)
from steno.observability.telemetry import MAX_SERIES, OVERFLOW
from steno.observability.vocabulary import BUCKETS_S, EVENTS, FIELDS, METRICS, full_name

SOURCE = Path(__file__).resolve().parent.parent / "src" / "steno"
CANARY = "four one five 555 0142"


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def sample(telemetry: LogTelemetry, name: str) -> str:
    text = telemetry.exposition().decode()
    return next(line for line in text.splitlines() if line.startswith(name)).rpartition(" ")[2]


# --- logs -------------------------------------------------------------------------------------


def test_an_event_is_one_json_line_with_time_and_level() -> None:
    """The story is told in lines a machine can read."""
    stream = io.StringIO()
    LogTelemetry(stream=stream).warning("live.connected", count=3, host="a.example")
    (line,) = lines(stream)
    assert line["event"] == "live.connected"
    assert (line["level"], line["count"], line["host"]) == ("warning", 3, "a.example")
    assert str(line["at"]).endswith("Z")


def test_events_below_the_level_are_not_written() -> None:
    """Level `warning` keeps the story to itself."""
    stream = io.StringIO()
    telemetry = LogTelemetry(stream=stream, level="warning")
    telemetry.info("live.connected")
    telemetry.debug("live.connected")
    telemetry.error("live.failed")
    assert [line["event"] for line in lines(stream)] == ["live.failed"]


def test_a_field_that_is_not_on_the_allow_list_is_dropped_and_counted() -> None:
    """A slip of ours never prints what a caller said."""
    stream = io.StringIO()
    telemetry = LogTelemetry(stream=stream)
    telemetry.info("live.connected", transcript=CANARY, count=1)
    assert CANARY not in stream.getvalue()
    assert lines(stream)[0]["count"] == 1
    assert sample(telemetry, "steno_telemetry_refused_total") == "1.0"


def test_strict_mode_refuses_instead() -> None:
    """Tests find the slip at the place where it is made."""
    telemetry = LogTelemetry(stream=io.StringIO(), strict=True)
    with pytest.raises(TelemetryRefused, match="transcript"):
        telemetry.info("live.connected", transcript="x")
    with pytest.raises(TelemetryRefused):
        telemetry.info("Not an event name")
    with pytest.raises(TelemetryRefused):
        telemetry.counter("steno_invented_total")
    with pytest.raises(TelemetryRefused):
        telemetry.gauge("steno_fragments_total")
    with pytest.raises(TelemetryRefused):
        telemetry.counter("steno_fragments_total", conversation="id")


@given(value=st.text(max_size=400), form=st.sampled_from(["json", "console"]))
def test_no_value_leaves_its_line_or_drives_a_terminal(value: str, form: str) -> None:
    """CR, LF, U+2028, ANSI escapes and C1 controls are written out, never sent."""
    stream = io.StringIO()
    LogTelemetry(stream=stream, form="json" if form == "json" else "console").info(
        "live.connected", host=value
    )
    text = stream.getvalue()
    assert len(text.splitlines()) == 1
    assert text.rstrip("\n").isprintable()


def test_a_librarys_words_are_withheld() -> None:
    """Only the logger's name, the place and the exception's class are kept."""
    stream = io.StringIO()
    telemetry = LogTelemetry(stream=stream)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        telemetry.capture_library_logs()
        telemetry.capture_library_logs()
        try:
            raise ValueError(CANARY)
        except ValueError:
            logging.getLogger("somelib").exception("frame was %s", CANARY)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    (line,) = lines(stream)
    assert CANARY not in stream.getvalue()
    assert (line["library"], line["error"], line["level"]) == ("somelib", "ValueError", "error")


def test_what_a_thread_raises_is_told_by_its_class_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python's own hook would print the text."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    stream = io.StringIO()
    LogTelemetry(stream=stream).capture_stray_errors()

    def fail() -> None:
        raise LookupError(CANARY)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    (line,) = lines(stream)
    assert (line["event"], line["error"]) == ("process.stray_error", "LookupError")
    assert CANARY not in stream.getvalue()


# --- metrics ----------------------------------------------------------------------------------


def test_bound_handles_count_set_and_observe() -> None:
    """A handle is made once and is the same for the same labels."""
    telemetry = LogTelemetry(stream=io.StringIO(), strict=True)
    add = telemetry.counter("steno_redactions_total", entity="phone")
    add(2)
    telemetry.counter("steno_redactions_total", entity="phone")(1)
    telemetry.gauge("steno_open_windows")(7)
    telemetry.histogram("steno_source_to_stored_seconds")(0.003)
    assert sample(telemetry, 'steno_redactions_total{entity="phone"}') == "3.0"
    assert sample(telemetry, "steno_open_windows") == "7.0"
    assert sample(telemetry, 'steno_source_to_stored_seconds_bucket{le="0.005"}') == "1.0"
    assert sample(telemetry, 'steno_source_to_stored_seconds_bucket{le="0.0025"}') == "0.0"


def test_buckets_reach_from_a_millisecond_to_a_minute() -> None:
    """The histogram shows both a fast store and a consumer that was away."""
    assert (BUCKETS_S[0], BUCKETS_S[-1]) == (0.001, 60.0)
    assert list(BUCKETS_S) == sorted(BUCKETS_S)


def test_two_processes_worth_of_telemetry_do_not_share_metrics() -> None:
    """Each has a registry of its own, so tests and embedders do not collide."""
    first, second = LogTelemetry(stream=io.StringIO()), LogTelemetry(stream=io.StringIO())
    first.gauge("steno_open_windows")(1)
    second.gauge("steno_open_windows")(2)
    assert sample(first, "steno_open_windows") == "1.0"


def test_a_label_that_runs_away_ends_in_one_series() -> None:
    """Memory and scrapes stay bounded whatever a label is filled with."""
    telemetry = LogTelemetry(stream=io.StringIO())
    for number in range(MAX_SERIES + 50):
        telemetry.counter("steno_redactions_total", entity=f"e{number}")(1)
    text = telemetry.exposition().decode()
    series = [line for line in text.splitlines() if line.startswith("steno_redactions_total{")]
    assert len(series) == MAX_SERIES + 1
    assert sample(telemetry, f'steno_redactions_total{{entity="{OVERFLOW}"}}') == "50.0"


def test_an_unknown_metric_costs_nothing_in_production() -> None:
    """A slip of ours must not stop transcripts."""
    LogTelemetry(stream=io.StringIO()).counter("steno_invented_total")(1)


# --- the source keeps to the vocabulary -------------------------------------------------------


EVENT = re.compile(f"({'|'.join(sorted({name.partition('.')[0] for name in EVENTS}))})\\.[a-z_]+")


def calls() -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield place, method, first argument and keywords of each telemetry call in the source."""
    methods = {"debug", "info", "warning", "error", "counter", "gauge", "histogram"}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            first = node.args[0]
            if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
                continue
            keywords = [word.arg or "**" for word in node.keywords]
            where = f"{path.name}:{node.lineno}"
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if isinstance(node.func, ast.Attribute) and name in methods:
                yield where, name, first.value, keywords
            elif name in {"tell", "_warn"} and EVENT.fullmatch(first.value):
                # A method bound to a name first, to choose the level: ``tell("token.…")``, and
                # one that warns now and then: ``self._warn("media.…")``.
                yield where, "info", first.value, keywords


def test_every_event_and_field_in_the_source_is_documented() -> None:
    """An operator can look up each line, and no field escapes the allow-list."""
    used = [call for call in calls() if call[1] in {"debug", "info", "warning", "error"}]
    unknown = [(where, event) for where, _, event, _ in used if event not in EVENTS]
    fields = [
        (where, name)
        for where, _, _, words in used
        for name in words
        if name not in FIELDS and name != "**"
    ]
    assert unknown == []
    assert fields == []


def test_every_metric_in_the_source_is_documented_and_the_other_way_round() -> None:
    """The metrics page neither misses one nor promises one."""
    used = [call for call in calls() if call[1] in {"counter", "gauge", "histogram"}]
    for where, kind, short, labels in used:
        name = full_name(kind, short)
        assert name in METRICS, where
        assert METRICS[name].kind == kind, where
        assert set(METRICS[name].labels) == set(labels) or "**" in labels, where
    bound = {full_name(kind, short) for _, kind, short, _ in used}
    assert set(METRICS) - bound == {"steno_telemetry_refused_total"}


def test_every_event_on_the_page_is_logged_somewhere() -> None:
    """The page does not promise an event that never comes."""
    said = {
        node.value
        for path in SOURCE.rglob("*.py")
        if path.name != "vocabulary.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(EVENTS) - said == set()


def test_a_short_name_is_served_in_full() -> None:
    """Prefix and unit are the same everywhere, whoever binds the metric."""
    telemetry = LogTelemetry(stream=io.StringIO(), strict=True)
    telemetry.counter("delivery_acked", destination="crm")(4)
    assert sample(telemetry, 'steno_delivery_acked_total{destination="crm"}') == "4.0"


# --- health -----------------------------------------------------------------------------------


async def fetched(address: tuple[str, int], path: str) -> tuple[int, str]:
    url = f"http://{address[0]}:{address[1]}{path}"
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_readiness_follows_the_components() -> None:
    """Ready when all are well and at least one has spoken; the reason is told."""
    telemetry, health = LogTelemetry(stream=io.StringIO()), Health()
    async with serve_health(telemetry, health, host="127.0.0.1", port=0) as address:
        assert (await fetched(address, "/healthz"))[0] == 200
        assert (await fetched(address, "/readyz"))[0] == 503
        health.set("store", True)
        assert (await fetched(address, "/readyz"))[0] == 200
        health.set("feed", False, "connecting")
        status, text = await fetched(address, "/readyz")
        assert status == 503
        assert json.loads(text)["components"]["feed"] == {"ok": False, "reason": "connecting"}
        health.forget("feed")
        assert (await fetched(address, "/readyz"))[0] == 200


async def test_metrics_are_served_in_prometheus_text() -> None:
    """The scrape finds our metrics and the process's own."""
    telemetry = LogTelemetry(stream=io.StringIO())
    telemetry.counter("steno_fragments_total")(5)
    async with serve_health(telemetry, Health(), host="127.0.0.1", port=0) as address:
        status, text = await fetched(address, "/metrics")
    assert status == 200
    assert "steno_fragments_total 5.0" in text
    assert "process_resident_memory_bytes" in text


async def test_a_busy_port_is_a_warning_and_the_next_one_is_taken() -> None:
    """A second instance on the machine still starts."""
    stream = io.StringIO()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        busy = int(other.getsockname()[1])
        telemetry = LogTelemetry(stream=stream, strict=True)
        async with serve_health(telemetry, Health(), host="127.0.0.1", port=busy) as address:
            assert address[1] != busy
            assert (await fetched(address, "/healthz"))[0] == 200
    warning = next(line for line in lines(stream) if line["event"] == "health.port_busy")
    assert (warning["port"], warning["taken"]) == (busy, address[1])


class Watched(io.StringIO):
    """A stream that tells when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = asyncio.Event()

    def write(self, text: str) -> int:
        self.written.set()
        return super().write(text)


async def test_a_stalled_loop_is_measured_and_told() -> None:
    """Lag is a gauge; a stall of more than a second is a warning."""
    stream = Watched()
    telemetry = LogTelemetry(stream=stream, strict=True)
    async with asyncio.timeout(10):
        watch = asyncio.create_task(watch_loop(telemetry, interval_s=0.01))
        await asyncio.sleep(0)
        threading.Event().wait(1.2)  # the stall itself: the whole thread stands still
        await stream.written.wait()
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
    assert lines(stream)[0]["event"] == "loop.stalled"
