"""The report as one HTML page: readable without network, script, font or image from anywhere."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

from steno.diarisation.picture import clean, clock, svg
from steno.diarisation.report import Full, Order, Overview
from steno.diarisation.tables import (
    OVERVIEW,
    SPEAKERS,
    Column,
    left_out,
    moment,
    summary,
    totals_line,
)

T = TypeVar("T")

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
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;
--both:#cf222e;--quiet:#8c959f;--k0:#0969da;--k1:#bc4c00;--k2:#1a7f37;--k3:#8250df;--k4:#9a6700;
--k5:#bf3989}
@media (prefers-color-scheme:dark){:root{--paper:#0d1117;--ink:#e6edf3;--soft:#9198a1;
--line:#3d444d;--both:#ff7b72;--quiet:#656c76;--k0:#58a6ff;--k1:#f0883e;--k2:#3fb950;
--k3:#bc8cff;--k4:#d29922;--k5:#f778ba}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem;max-width:84rem;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:0 0 .25rem}
h2{font-size:1.1rem;margin:2.5rem 0 .25rem;overflow-wrap:anywhere}
p{margin:.25rem 0}
a{color:var(--k0)}
.soft{color:var(--soft)}
.cause{border-left:4px solid var(--both);padding-left:.75rem}
.wide{overflow-x:auto;margin:.75rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding:.25rem 0}
th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:right;
white-space:nowrap}
th.text,td.text,tbody th{text-align:left}
tbody th{font-weight:600}
dl{display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;margin:.5rem 0}
dl div{display:flex;gap:.4rem}
dt,dd{white-space:nowrap}
dt{color:var(--soft)}
dd{margin:0;font-weight:600}
svg{display:block}
svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
svg .time{fill:var(--soft);text-anchor:middle}
svg .tick{stroke:var(--line);stroke-width:1}
svg .both{fill:var(--both);fill-opacity:.22;stroke:var(--both);stroke-opacity:.5}
svg .quiet{fill:var(--quiet)}
svg .c0{fill:var(--k0)}svg .c1{fill:var(--k1)}svg .c2{fill:var(--k2)}svg .c3{fill:var(--k3)}
svg .c4{fill:var(--k4)}svg .c5{fill:var(--k5)}
@media print{body{max-width:none;padding:0}.wide{overflow:visible}
svg{max-width:100%;height:auto}}
"""

_POLICY: Final = (
    "default-src 'none'; style-src 'sha256-"
    + b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'"
)


def page(overview: Overview, *, made_us: int, remarks: Sequence[str] = ()) -> Iterator[str]:
    """Yield the page in pieces.

    Args:
        made_us: When, UTC microseconds.
        remarks: Sentences about what was asked for (the threshold, the pause of a turn).
    """
    full = overview.in_full()
    linked = {one.report.figures.conversation: number for number, one in enumerate(full)}
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{clean(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>Who said what, when</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        "<h1>Who said what, when</h1>\n"
        f"<p>{clean(totals_line(overview.totals))}</p>\n"
    )
    for remark in [f"Made {moment(made_us)} UTC.", *remarks]:
        yield f'<p class="soft">{clean(remark)}</p>\n'
    yield from _overview(overview, linked)
    for number, one in enumerate(full):
        yield from _conversation(one, number)
    yield "</main>\n</body>\n</html>\n"


def _overview(overview: Overview, linked: dict[str, int]) -> Iterator[str]:
    rows = overview.rows()
    caption = f"Conversations, {ORDERED[overview.order]}."
    if len(linked) < len(rows):
        caption += f" The first {len(linked)} are shown in full below."
    if overview.not_listed:
        caption += f" {overview.not_listed} more are in the sums only."
    keys = (linked.get(row.conversation) for row in rows)
    yield from _table(OVERVIEW, rows, caption=caption, links=keys)


def _conversation(full: Full, number: int) -> Iterator[str]:
    report, ident = full.report, f"c{number}"
    figures = report.figures
    yield (
        f'<section id="{ident}" aria-labelledby="{ident}-h">\n'
        f'<h2 id="{ident}-h">Conversation {clean(figures.conversation)}</h2>\n'
    )
    if report.likely_cause:
        yield f'<p class="cause">No segment. Likely cause: {clean(report.likely_cause)}.</p>\n'
    else:
        yield from _figures(full, ident)
    if missing := left_out(report):
        yield f'<p class="soft">Not in the result: {clean(", ".join(missing))}.</p>\n'
    yield "</section>\n"


def _figures(full: Full, ident: str) -> Iterator[str]:
    figures = full.report.figures
    if figures.zero_us:
        started = moment(figures.zero_us + round(figures.start_s * 1e6))
        yield f'<p class="soft">From {started} UTC.</p>\n'
    yield "<dl>"
    for name, value in summary(figures):
        yield f"<div><dt>{clean(name)}</dt><dd>{clean(value)}</dd></div>"
    yield f'</dl>\n<div class="wide" role="group" tabindex="0" aria-labelledby="{ident}-t">\n'
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
        yield f'<p class="soft">{full.sketch.left_out} more speakers are not drawn.</p>\n'
    yield from _table(SPEAKERS, figures.speakers, caption="Speakers, in order of their first word.")


def _table(
    columns: Sequence[Column[T]],
    rows: Iterable[T],
    *,
    caption: str,
    links: Iterable[int | None] | None = None,
) -> Iterator[str]:
    """Yield a table whose first column heads its rows.

    Args:
        links: For each row the number of its section, or None.
    """
    # Wide tables scroll by themselves, by keyboard too.
    yield f'<div class="wide" role="group" tabindex="0" aria-label="{clean(caption)}">\n'
    yield f"<table>\n<caption>{clean(caption)}</caption>\n<thead><tr>"
    for column in columns:
        style = "" if column.number else ' class="text"'
        yield f'<th scope="col"{style} title="{clean(column.tip)}">{clean(column.head)}</th>'
    yield "</tr></thead>\n<tbody>\n"
    numbers = iter(links) if links is not None else iter(())
    for row in rows:
        head, *cells = (clean(column.text(row)) for column in columns)
        number = next(numbers, None)
        named = f"<bdi>{head}</bdi>" if number is None else f'<a href="#c{number}">{head}</a>'
        yield f'<tr><th scope="row">{named}</th>'
        for column, cell in zip(columns[1:], cells, strict=True):
            yield (
                f"<td>{cell}</td>" if column.number else f'<td class="text"><bdi>{cell}</bdi></td>'
            )
        yield "</tr>\n"
    yield "</tbody>\n</table>\n</div>\n"
