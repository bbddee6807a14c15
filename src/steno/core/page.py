"""A report as one HTML page: readable without network, script, font or image from anywhere.

What is shared by every page: the style sheet with its two themes, the policy that allows that
sheet and nothing else, tables. Pictures are SVG inside the page.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final, TypeVar

from steno.core.tables import Column

T = TypeVar("T")

COLOURS: Final = 6
"""Classes ``c0`` to ``c5`` of what is drawn; ``warn`` and ``rest`` beside them."""

STYLE: Final = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;
--warn:#cf222e;--quiet:#8c959f;--k0:#0969da;--k1:#bc4c00;--k2:#1a7f37;--k3:#8250df;--k4:#9a6700;
--k5:#bf3989}
@media (prefers-color-scheme:dark){:root{--paper:#0d1117;--ink:#e6edf3;--soft:#9198a1;
--line:#3d444d;--warn:#ff7b72;--quiet:#656c76;--k0:#58a6ff;--k1:#f0883e;--k2:#3fb950;
--k3:#bc8cff;--k4:#d29922;--k5:#f778ba}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem;max-width:84rem;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:0 0 .25rem}
h2{font-size:1.1rem;margin:2.5rem 0 .25rem;overflow-wrap:anywhere}
p{margin:.25rem 0}
a{color:var(--k0)}
.soft{color:var(--soft)}
.remark{border-left:4px solid var(--warn);padding-left:.75rem}
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
svg .warn{fill:var(--warn)}svg .rest{fill:var(--quiet)}
svg .c0{fill:var(--k0)}svg .c1{fill:var(--k1)}svg .c2{fill:var(--k2)}svg .c3{fill:var(--k3)}
svg .c4{fill:var(--k4)}svg .c5{fill:var(--k5)}
@media print{body{max-width:none;padding:0}.wide{overflow:visible}
svg{max-width:100%;height:auto}}
"""
"""Sheet of every page. Colours are variables, each with a value for light and for dark."""


def document(title: str, body: Iterable[str], *, style: str = "") -> Iterator[str]:
    """Yield a page in pieces: head, ``<h1>`` with the title, body.

    Args:
        body: HTML, clean already.
        style: Rules of this page alone, after those of ``STYLE``; without an address in them.
    """
    sheet = STYLE + style
    digest = b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{clean(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{clean(title)}</title>\n<style>{sheet}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{clean(title)}</h1>\n"
    )
    yield from body
    yield "</main>\n</body>\n</html>\n"


def paragraph(text: str, *, kind: str = "") -> str:
    """Return a paragraph of plain text.

    Args:
        kind: Class of it: ``soft`` for what is said by the way, ``remark`` for a warning.
    """
    return f'<p class="{kind}">{clean(text)}</p>\n' if kind else f"<p>{clean(text)}</p>\n"


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names and values as a list that takes as few lines as it can."""
    inner = "".join(
        f"<div><dt>{clean(name)}</dt><dd>{clean(value)}</dd></div>" for name, value in pairs
    )
    return f"<dl>{inner}</dl>\n"


def html_table(
    columns: Sequence[Column[T]],
    rows: Iterable[T],
    *,
    caption: str,
    links: Iterable[str | None] | None = None,
) -> Iterator[str]:
    """Yield a table whose first column heads its rows. It scrolls by itself where it is wide.

    Args:
        links: For each row the id of its section in the page, or None.
    """
    # By keyboard too: hence the tabindex.
    yield f'<div class="wide" role="group" tabindex="0" aria-label="{clean(caption)}">\n'
    yield f"<table>\n<caption>{clean(caption)}</caption>\n<thead><tr>"
    for column in columns:
        style = "" if column.number else ' class="text"'
        yield f'<th scope="col"{style} title="{clean(column.tip)}">{clean(column.head)}</th>'
    yield "</tr></thead>\n<tbody>\n"
    idents = iter(links) if links is not None else iter(())
    for row in rows:
        head, *cells = (clean(column.text(row)) for column in columns)
        ident = next(idents, None)
        named = f"<bdi>{head}</bdi>" if ident is None else f'<a href="#{ident}">{head}</a>'
        yield f'<tr><th scope="row">{named}</th>'
        for column, cell in zip(columns[1:], cells, strict=True):
            yield (
                f"<td>{cell}</td>" if column.number else f'<td class="text"><bdi>{cell}</bdi></td>'
            )
        yield "</tr>\n"
    yield "</tbody>\n</table>\n</div>\n"


def clean(text: str) -> str:
    """Escape text for HTML and XML; what XML cannot hold becomes U+FFFD."""
    return escape("".join(one if _allowed(one) else "\ufffd" for one in text), quote=True)


def _allowed(one: str) -> bool:
    return (one >= " " and not "\x7f" <= one <= "\x9f" and not "\ud800" <= one <= "\udfff"
            and one not in "\ufffe\uffff") or one in "\t\n"  # fmt: skip
