"""Pages that ask nobody for anything and run nothing, whatever is written in them."""

from __future__ import annotations

import base64
import hashlib
import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from steno.core.page import clean, definitions, document, html_table, paragraph
from steno.core.tables import Column

COLUMNS = (
    Column[tuple[str, str, int]]("Id", "Its id", lambda one: one[0], number=False),
    Column[tuple[str, str, int]]("Why", "The reason", lambda one: one[1], number=False),
    Column[tuple[str, str, int]]("Count", "How many", lambda one: str(one[2])),
)


def parsed(html: str) -> ElementTree.Element:
    """The page has no void element but ``meta``, so that it is XML but for these."""
    return ElementTree.fromstring(re.sub(r"<!DOCTYPE html>|<meta [^>]*>", "", html))


def test_a_page_allows_its_own_sheet_and_nothing_else() -> None:
    """The policy has the hash of the text between the tags, a page's own rules included."""
    text = "".join(document("Title", ["<p>body</p>"], style=".own{color:red}\n"))
    sheet = text.partition("<style>")[2].partition("</style>")[0]
    assert sheet.endswith(".own{color:red}\n")
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1] == clean(
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"url\(|@import|@font-face|//", sheet)


def test_both_themes_have_every_colour() -> None:
    """What one defines the other does, too, and whatever is used is defined."""
    text = "".join(document("Title", []))
    light, dark = text.split("@media (prefers-color-scheme:dark)")
    names = set(re.findall(r"(--\w+):#", light))
    assert names == set(re.findall(r"(--\w+):#", dark))
    assert set(re.findall(r"var\((--\w+)\)", text)) <= names


def test_a_table_has_heads_for_columns_and_rows() -> None:
    """A caption, a scope for every head, a link where a row has a section."""
    rows = [("a", "late", 3), ("b", "lost", 4)]
    root = parsed("".join(html_table(COLUMNS, rows, caption="Failures", links=["s0", None])))
    assert root.attrib["aria-label"] == "Failures"
    assert root.findtext("table/caption") == "Failures"
    assert [one.get("scope") for one in root.iter("th")] == ["col"] * 3 + ["row"] * 2
    assert [one.attrib for one in root.iter("a")] == [{"href": "#s0"}]
    assert ["".join(one.itertext()) for one in root.iter("td")] == ["late", "3", "lost", "4"]


@given(text=st.text(max_size=60))
def test_whatever_is_written_stays_text(text: str) -> None:
    """In the title, a paragraph, a list and a table; nothing of it becomes an element."""
    body = [paragraph(text), paragraph(text, kind="soft"), definitions([(text, text)])]
    body += html_table(COLUMNS, [(text, text, 1)], caption=text)
    root = parsed("".join(document(text, body)))
    assert {one.tag for one in root.iter()} <= {
        "html", "head", "title", "style", "body", "main", "h1", "p", "dl", "div", "dt", "dd",
        "table", "caption", "thead", "tbody", "tr", "th", "td", "bdi",
    }  # fmt: skip
    assert len(list(root.iter("tr"))) == 2
