"""The page over jobs: asks nobody for anything, has a table under every chart, tells ids only."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from recordings.test_report import NONE, completed, job, reported
from steno.core.quality import Metrics
from steno.core.tables import cells_wide
from steno.ports.jobs import JobState
from steno.recordings.job import REMEDIES, Reason
from steno.recordings.page import every, page
from steno.recordings.report import JobsReport
from steno.recordings.report_tables import text_report

SVG = "{http://www.w3.org/2000/svg}"
MADE_US = 1_800_000_100_000_000
HOOK = "https://user:planted@hooks.example.com/planted?token=planted"


def everything() -> JobsReport:
    return reported(
        *(completed(n, 3.0 + n, n / 100, 10 * n) for n in range(1, 30)),
        (job(40, JobState.COMPLETED, webhook=HOOK), Metrics(5.0, None, 0)),
        (job(41, JobState.FAILED, reason="forbidden", code="not.allowed"), NONE),
        (job(42, JobState.FAILED, reason="service_failed", language="fr-FR"), NONE),
        (job(43, JobState.CANCELLED), NONE),
        (job(44, JobState.IN_DOUBT, paused_us=MADE_US), NONE),
    )


def html(report: JobsReport, *remarks: str) -> str:
    return "".join(page(report, made_us=MADE_US, remarks=remarks))


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.sub(r"<!DOCTYPE html>|<meta [^>]*>", "", text))


def test_nothing_is_fetched_and_nothing_runs() -> None:
    """No script, no address but that of SVG's name space, no link out of the page."""
    text = html(everything())
    root = parsed(text)
    tags = {one.tag for one in root.iter()}
    assert not tags & {"script", "link", "img", "iframe", "object", "form"}
    for one in root.iter():
        assert not [name for name in one.attrib if name.startswith("on") or name == "src"]
        assert one.get("href", "#").startswith("#")
    assert re.findall(r'[^"]*://[^"]*', text) == ["http://www.w3.org/2000/svg"] * 6
    assert "default-src &#x27;none&#x27;" in text


def test_every_chart_has_its_table_in_the_same_section() -> None:
    """Told by title and description, and in figures below."""
    root = parsed(html(everything()))
    charts = 0
    for section in root.iter("section"):
        drawn = list(section.iter(f"{SVG}svg"))
        charts += len(drawn)
        if drawn:
            assert list(section.iter("table"))
            assert drawn[0].attrib["role"] == "img"
            assert drawn[0].find(f"{SVG}desc") is not None
    assert charts == 6
    idents = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(idents) == len(set(idents))


def test_the_page_tells_ends_failures_and_remedies() -> None:
    """In words that can be searched for."""
    told = " ".join("".join(parsed(html(everything(), "Batch march.")).itertext()).split())
    assert "34 jobs, 30 completed, 2 failed, 1 cancelled, 1 in_doubt".replace("_", " ") in told
    assert "1 job not ended, 1 of them paused" in told
    assert REMEDIES[Reason.FORBIDDEN] in told
    assert "not.allowed (1)" in told
    assert "an estimate (1 - mean confidence)" in told
    assert "Batch march." in told
    assert "fr-FR" in told


def test_of_a_webhook_only_the_host_is_on_the_page() -> None:
    """Neither path, query nor user."""
    text = html(everything())
    assert "hooks.example.com" in text
    assert "planted" not in text


def test_a_report_of_nothing_is_a_page_too() -> None:
    """Without sections that would be empty."""
    root = parsed(html(reported()))
    assert [one.text for one in root.iter("h2")] == ["How jobs ended", "Confidence", "Latency"]


@pytest.mark.parametrize("width", [48, 80, 120, None])
def test_the_report_fits_the_terminal(width: int | None) -> None:
    """Lines are no wider, and have the ends, the reasons with remedies, and the slowest."""
    lines = list(text_report(everything(), width=width))
    assert lines[0] == "34 jobs, 30 completed, 2 failed, 1 cancelled, 1 in doubt"
    if width is not None:
        assert all(cells_wide(line) <= width for line in lines[1:])
    told = " ".join(" ".join(lines).split())
    assert REMEDIES[Reason.FORBIDDEN] in told
    assert "webhook at hooks.example.com: 1 job" in told
    assert "planted" not in told


@pytest.mark.parametrize(
    ("width_s", "told"),
    [(1, "1 second"), (15, "15 seconds"), (900, "15 minutes"), (10_800, "3 hours"),
     (86_400, "1 day"), (1_209_600, "2 weeks")],
)  # fmt: skip
def test_widths_are_told_in_words(width_s: int, told: str) -> None:
    """In the largest unit that divides them."""
    assert every(width_s) == told
