"""The HTML page: well-formed, escaped, accessible, and asking for nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.diarisation.analysis import analyse
from steno.diarisation.page import ORDERED, page
from steno.diarisation.picture import Sketch
from steno.diarisation.report import ConversationReport, Order, Overview
from steno.diarisation.views import SegmentView

S = 1_000_000
VOID = {"meta", "link", "br", "img", "input", "hr", "base"}


class Reader(HTMLParser):
    """Reads strictly: every element is closed where it must be; keeps what a test asks about."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), "an attribute twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def said(self) -> str:
        return "".join(text for tag, text in self.texts if tag != "style")


def conversation(
    name: str, *, speaker: str = "agent", text: str = "", person: str = ""
) -> tuple[ConversationReport, Sketch]:
    views = [
        SegmentView(name, speaker, text, 0, 2 * S, 0.9, True, 0, zero_us=10**15, name=person),
        SegmentView(name, "customer", text, S, 4 * S, 0.8, True, 0, zero_us=10**15),
    ]
    sketch = Sketch(with_text=True)
    figures = analyse(name, sketch.watch(views))
    return ConversationReport(figures, 1, {"no_speaker": 3}, ""), sketch


def html(overview: Overview, *remarks: str) -> str:
    return "".join(page(overview, made_us=10**15, remarks=remarks))


def of(*found: tuple[ConversationReport, Sketch], full: int = 20) -> str:
    overview = Overview(full=full)
    for report, sketch in found:
        overview.add(report, sketch)
    return html(overview, "A remark.")


def test_the_page_is_well_formed_and_names_itself() -> None:
    """One title, one heading, a language, an encoding; ids are unique and links lead somewhere."""
    read = Reader(of(conversation("c1"), conversation("c2")))
    assert read.all("html") == [{"lang": "en"}]
    assert read.all("meta")[0] == {"charset": "utf-8"}
    assert len(read.all("h1")) == 1
    ids = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    links = [attrs["href"] for attrs in read.all("a")]
    assert links == ["#c0", "#c1"]
    assert all(link is not None and link[1:] in ids for link in links)
    named = " ".join(attrs.get("aria-labelledby") or "" for _, attrs in read.tags).split()
    assert set(named) <= set(ids)


def test_nothing_is_fetched_and_nothing_runs() -> None:
    """No address but that of SVG's own name space; no script, and a policy that forbids both."""
    text = of(conversation("c1", text="see https://example.com/x.js"))
    read = Reader(text)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & {
        tag for tag, _ in read.tags
    }
    attributes = [(name, value or "") for _, attrs in read.tags for name, value in attrs.items()]
    assert not [name for name, _ in attributes if name.startswith("on")]
    for name, value in attributes:
        assert name not in {"src", "srcset", "action", "xlink:href", "style"}
        assert name != "href" or value.startswith("#")
        assert "://" not in value or name == "xmlns"
    (style,) = [data for tag, data in read.texts if tag == "style"]
    assert not re.search(r"url\(|@import|@font-face|//", style)


def test_the_policy_allows_this_style_sheet_alone() -> None:
    """By its hash, which is that of the text between the tags."""
    read = Reader(of(conversation("c1")))
    (policy,) = [
        attrs["content"] or ""
        for attrs in read.all("meta")
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    (style,) = [data for tag, data in read.texts if tag == "style"]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")


def test_dark_and_light_are_the_readers_choice() -> None:
    """By media query; every colour of the light theme has one in the dark."""
    text = of(conversation("c1"))
    light, dark = text.split("@media (prefers-color-scheme:dark)")
    names = set(re.findall(r"(--\w+):#", light))
    assert names
    assert names == set(re.findall(r"(--\w+):#", dark))


def test_tables_have_headers_and_captions() -> None:
    """Each column and each row is headed for those who hear the page."""
    read = Reader(of(conversation("c1"), conversation("c2")))
    heads = read.all("th")
    assert {attrs["scope"] for attrs in heads} == {"col", "row"}
    assert sum(attrs["scope"] == "row" for attrs in heads) == 2 + 2 * 2
    assert len(read.all("caption")) == len(read.all("table")) == 3


def test_pictures_are_xml_with_title_and_description() -> None:
    """Each picture parses by itself."""
    pictures = re.findall(r"<svg.*?</svg>", of(conversation("c1"), conversation("c2")), re.DOTALL)
    assert len(pictures) == 2
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        assert [child.tag.rpartition("}")[2] for child in root][:2] == ["title", "desc"]


def test_only_the_first_have_pictures() -> None:
    """The rest has its row in the table, without a link."""
    read = Reader(of(*(conversation(f"c{number}") for number in range(4)), full=2))
    assert len(read.all("svg")) == 2
    assert len(read.all("a")) == 2
    assert "The first 2 are shown in full below." in read.said()
    assert all(f"c{number}" in read.said() for number in range(4))


def test_what_is_not_in_the_result_is_told() -> None:
    """The audit by reason, and the likely cause of a conversation without a segment."""
    nothing = ConversationReport(analyse("c9", []), 0, {"no_speaker": 7}, "diarisation is off")
    said = Reader(of(conversation("c1"), (nothing, Sketch()))).said()
    assert "Not in the result: 3 no speaker, 1 below the confidence asked for." in said
    assert "No segment. Likely cause: diarisation is off." in said


@pytest.mark.parametrize("order", Order)
def test_every_order_is_told(order: Order) -> None:
    """The table says how it is sorted."""
    overview = Overview(order)
    overview.add(*conversation("c1"))
    assert f"Conversations, {ORDERED[order]}." in Reader(html(overview)).said()


NASTY = '</title></text><script>alert("1")</script>&amp;\x00\x1b]]>"\'<'


@given(text=st.one_of(st.just(NASTY), st.text(max_size=40)))
def test_whatever_people_are_called_and_say_stays_text(text: str) -> None:
    """Labels, names, ids and words neither make elements nor lose characters that may be shown."""
    plain = Reader(of(conversation("c1", text="words", person="Ada")))
    read = Reader(of(conversation(text, speaker=f"x{text}", text=text, person=f"y{text}")))
    assert {tag for tag, _ in read.tags} == {tag for tag, _ in plain.tags}
    allowed = "".join(
        "\ufffd" if (ord(one) < 32 and one not in "\t\n") or 127 <= ord(one) < 160 else one
        for one in text
    )
    if not set(text) & set("\r\ufffe\uffff"):
        assert f"x{allowed}" in read.said()
