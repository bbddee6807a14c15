"""The report as one HTML page: readable without network, script, font or image from anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from steno.core.page import clean, definitions, document, html_table, paragraph
from steno.core.tables import clock, moment
from steno.diarisation.picture import svg
from steno.diarisation.report import Full, Order, Overview
from steno.diarisation.tables import (
    OVERVIEW,
    SPEAKERS,
    left_out,
    summary,
    totals_line,
)

ORDERED: Final[dict[Order, str]] = {
    Order.NAME: "by id",
    Order.START: "the earliest first",
    Order.DURATION: "the longest first",
    Order.SEGMENTS: "most segments first",
    Order.SILENCE: "most silence first",
    Order.OVERLAP: "most overlap first",
    Order.INTERRUPTIONS: "most interruptions first",
    Order.CONFIDENCE: "the least sure first",
    Order.AUDIT: "most segments left out first",
}

_STYLE: Final = """
svg .both{fill:var(--warn);fill-opacity:.22;stroke:var(--warn);stroke-opacity:.5}
svg .quiet{fill:var(--quiet)}
"""


def page(overview: Overview, *, made_us: int, remarks: Sequence[str] = ()) -> Iterator[str]:
    """Yield the page in pieces.

    Args:
        made_us: When, UTC microseconds.
        remarks: Sentences about what was asked for (the threshold, the pause of a turn).
    """
    yield from document("Who said what, when", _body(overview, made_us, remarks), style=_STYLE)


def _body(overview: Overview, made_us: int, remarks: Sequence[str]) -> Iterator[str]:
    full = overview.in_full()
    linked = {one.report.figures.conversation: f"c{number}" for number, one in enumerate(full)}
    yield paragraph(totals_line(overview.totals))
    for remark in [f"Made {moment(made_us)} UTC.", *remarks]:
        yield paragraph(remark, kind="soft")
    yield from _overview(overview, linked)
    for number, one in enumerate(full):
        yield from _conversation(one, number)


def _overview(overview: Overview, linked: dict[str, str]) -> Iterator[str]:
    rows = overview.rows()
    caption = f"Conversations, {ORDERED[overview.order]}."
    if len(linked) < len(rows):
        caption += f" The first {len(linked)} are shown in full below."
    if overview.not_listed:
        caption += f" {overview.not_listed} more are in the sums only."
    idents = (linked.get(row.conversation) for row in rows)
    yield from html_table(OVERVIEW, rows, caption=caption, links=idents)


def _conversation(full: Full, number: int) -> Iterator[str]:
    report, ident = full.report, f"c{number}"
    figures = report.figures
    yield (
        f'<section id="{ident}" aria-labelledby="{ident}-h">\n'
        f'<h2 id="{ident}-h">Conversation {clean(figures.conversation)}</h2>\n'
    )
    if report.likely_cause:
        yield paragraph(f"No segment. Likely cause: {report.likely_cause}.", kind="remark")
    else:
        yield from _figures(full, ident)
    if missing := left_out(report):
        yield paragraph(f"Not in the result: {', '.join(missing)}.", kind="soft")
    yield "</section>\n"


def _figures(full: Full, ident: str) -> Iterator[str]:
    figures = full.report.figures
    if figures.zero_us:
        started = moment(figures.zero_us + round(figures.start_s * 1e6))
        yield paragraph(f"From {started} UTC.", kind="soft")
    yield definitions(summary(figures))
    yield f'<div class="wide" role="group" tabindex="0" aria-labelledby="{ident}-t">\n'
    description = (
        f"A lane for each of {len(full.sketch.lanes)} speakers, with a bar where the speaker is "
        f"heard; red bands where people overlap, {clock(figures.overlap_s)} in all; grey marks "
        f"where nobody speaks, {clock(figures.silence_s)} in all. The table below has the figures."
    )
    yield from svg(
        full.sketch,
        ident=ident,
        title=f"Timeline of conversation {figures.conversation}",
        description=description,
    )
    yield "</div>\n"
    if full.sketch.left_out:
        yield paragraph(f"{full.sketch.left_out} more speakers are not drawn.", kind="soft")
    yield from html_table(
        SPEAKERS, figures.speakers, caption="Speakers, in order of their first word."
    )
