"""Cutting recorded events: whatever the form and however the bytes come, each message once."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.ports.recorded import Batch, Unreadable
from steno.wire.recorded_events import HEAD_BYTES, Cutter, Form, form_of

LIMIT = 400

# Brackets, quotes, backslashes and line breaks inside of strings are what cutting could trip over.
texts = st.text(st.sampled_from('ab {}[]":,\\\n\r\tä\u2028'), max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
events = st.dictionaries(texts, values, min_size=1, max_size=4)
many = st.lists(events, min_size=1, max_size=8)


def cut(
    data: bytes, *sizes: int, form: Form = Form.AUTO, limit: int = 1 << 20
) -> tuple[list[bytes], list[tuple[int, int]], list[Unreadable]]:
    """Return messages, places and what was unreadable, of data given in pieces."""
    cutter = Cutter(max_bytes=limit, form=form)
    batches: list[Batch | None] = []
    at = 0
    for size in sizes:
        batches.append(cutter.receive(data[at : at + size]))
        at += size
    batches += [cutter.receive(data[at:]), cutter.end()]
    messages: list[bytes] = []
    places: list[tuple[int, int]] = []
    notes: list[Unreadable] = []
    for batch in batches:
        if batch is not None:
            messages += batch.messages
            places += [batch.place(index) for index in range(len(batch.messages))]
            notes += batch.unreadable
    return messages, places, notes


def spread(found: list[dict[str, object]], style: str) -> bytes:
    """Return events in one of the forms they come in."""
    if style == "lines":
        return b"".join(json.dumps(one).encode() + b"\n" for one in found)
    if style == "crlf":
        return b"".join(json.dumps(one).encode() + b"\r\n" for one in found)
    if style == "array":
        return json.dumps(found).encode()
    if style == "pretty array":
        return json.dumps(found, indent=2, ensure_ascii=False).encode()
    if style == "flat array":
        return json.dumps(found, indent=0).encode()
    if style == "pretty":
        return b"\n".join(json.dumps(one, indent=4).encode() for one in found)
    if style == "sequence":
        return b"".join(b"\x1e" + json.dumps(one).encode() + b"\n" for one in found)
    return b"".join(json.dumps(one).encode() for one in found)


STYLES = ("lines", "crlf", "array", "pretty array", "flat array", "pretty", "sequence", "packed")


@given(many, st.sampled_from(STYLES), st.lists(st.integers(1, 60), max_size=12), st.booleans())
def test_every_event_comes_out_once_in_any_form_however_the_bytes_are_cut(
    found: list[dict[str, object]], style: str, sizes: list[int], bom: bool
) -> None:
    """The form is found out, and places point at the messages."""
    data = (b"\xef\xbb\xbf" if bom else b"") + spread(found, style)
    messages, places, notes = cut(data, *sizes)
    assert not notes
    read = [(m, p) for m, p in zip(messages, places, strict=True) if m.strip()]
    assert [json.loads(message) for message, _ in read] == found
    for message, (line, offset) in read:
        assert data[offset : offset + len(message)] == message
        assert line == data.count(b"\n", 0, offset) + 1


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=8), st.sampled_from(Form))
def test_any_bytes_are_cut_the_same_way_whatever_pieces_they_come_in(
    data: bytes, sizes: list[int], form: Form
) -> None:
    """No input raises, and where a read happens to end changes nothing."""
    assert cut(data, *sizes, form=form, limit=60) == cut(data, form=form, limit=60)


@given(st.text(st.sampled_from('{}[]",\\\na '), max_size=120), st.lists(st.integers(1, 9)))
def test_any_brackets_are_cut_the_same_way_whatever_pieces_they_come_in(
    text: str, sizes: list[int]
) -> None:
    """The same of input that is nearly JSON."""
    data = text.encode()
    for form in (Form.LINES, Form.VALUES):
        assert cut(data, *sizes, form=form, limit=20) == cut(data, form=form, limit=20)


@pytest.mark.parametrize("style", ["lines", "array", "pretty array", "packed"])
@pytest.mark.parametrize("piece", [7, 100, 10_000])
def test_a_message_beyond_the_limit_is_passed_over_with_its_hash(style: str, piece: int) -> None:
    """Its neighbours are read, and it is told by place, size and hash."""
    giant: dict[str, object] = {"text": 'x{"' * 300, "more": [1, [2]]}
    data = spread([{"n": 1}, giant, {"n": 2}], style)
    messages, _, notes = cut(data, *[piece] * (len(data) // piece), limit=LIMIT)
    assert [json.loads(one) for one in messages if one.strip()] == [{"n": 1}, {"n": 2}]
    (note,) = notes
    stretch = data[note.offset : note.offset + note.size_bytes]
    assert json.loads(stretch) == giant
    assert note.sha256 == hashlib.sha256(stretch).hexdigest()
    assert (note.cause, note.line) == ("oversize", data.count(b"\n", 0, note.offset) + 1)


def test_a_giant_message_is_never_held_in_memory() -> None:
    """What a cutter keeps of it stays below the limit and one block."""
    for form in (Form.LINES, Form.VALUES):
        cutter = Cutter(max_bytes=LIMIT, form=form)
        cutter.receive(b'{"text":"')
        for _ in range(50):
            cutter.receive(b"x" * 1000)
            kept = vars(cutter._cutter)
            assert sum(len(v) for v in kept.values() if isinstance(v, bytes)) <= LIMIT + 1000
        last = cutter.end()
        assert last is not None
        assert last.unreadable[0].size_bytes == 50_009


def test_a_bad_line_costs_itself_alone() -> None:
    """Lines are not judged here: a decoder gets each as it is."""
    data = b'{"a":1}\n{"b":"\n}}}}\n{"c":[}\n\n{"d":4}'
    messages, places, notes = cut(data)
    assert messages == data.split(b"\n")
    assert [line for line, _ in places] == [1, 2, 3, 4, 5, 6]
    assert not notes


def test_a_log_that_begins_in_the_middle_of_a_line_is_still_lines() -> None:
    """A rotated file's first line is damaged; the next ones say what it is."""
    assert form_of(b'xt":"a"}]}\n{"a":1}\n', at_end=False) is Form.LINES
    assert form_of(b'{"a":"unfinished\n{"a":1}\n', at_end=False) is Form.LINES


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b"", Form.LINES),
        (b"\n \n", Form.LINES),
        (b"no json\n", Form.LINES),
        (b'{"a":1}', Form.LINES),
        (b'{"a":1}{"a":2}\n{"a":3}\n', Form.VALUES),
        (b'{\n  "a": [\n    {"b": 1}\n  ]\n}\n', Form.VALUES),
        (b'\n\n  [{"a":1}]', Form.VALUES),
    ],
)
def test_the_form_is_told_by_the_beginning(head: bytes, form: Form) -> None:
    """One whole object on a line is JSON lines; all else that begins with a bracket is values."""
    assert form_of(head, at_end=True) is form


def test_a_first_line_is_enough_to_begin_with() -> None:
    """A pipe that is written to slowly is read as it is written."""
    cutter = Cutter()
    batch = cutter.receive(b'{"a":1}\n')
    assert batch is not None
    assert batch.messages == [b'{"a":1}']


def test_a_beginning_without_end_is_not_waited_for_forever() -> None:
    """After so many bytes the form is settled."""
    assert form_of(b'{"a":"' + b"x" * HEAD_BYTES, at_end=False) is Form.VALUES


@pytest.mark.parametrize(
    "broken", ['{"a": "unfinished\n  }', '{"a": "x" }}', "null", '{"a": 1} and so on']
)
def test_a_broken_element_of_an_array_costs_itself_alone(broken: str) -> None:
    """Reading goes on at the next line that begins like an element."""
    whole = '{\n    "n": 1,\n    "deep": [\n      {"x": 2}\n    ]\n  }'
    data = f"[\n  {whole},\n  {broken},\n  {whole}\n]\n".encode()
    messages, _, notes = cut(data, form=Form.VALUES)
    read = [json.loads(one) for one in messages if one.count(b'"n"')]
    assert read == [{"n": 1, "deep": [{"x": 2}]}] * 2
    assert [(note.cause, note.line) for note in notes] == [("invalid-json", 8)]


def test_the_inside_of_a_broken_element_is_no_message() -> None:
    """What begins like a value further to the right belongs to the one that is broken."""
    whole = '{\n    "n": 1\n  }'
    broken = '{\n    "a": "unfinished\n    "deep": [\n      {"x": 2}\n    ]\n  }'
    messages, _, notes = cut(
        f"[\n  {whole},\n  {broken},\n  {whole}\n]\n".encode(), form=Form.VALUES
    )
    assert [json.loads(one) for one in messages] == [{"n": 1}] * 2
    assert [note.cause for note in notes] == ["invalid-json"]


def test_a_value_that_does_not_end_is_unreadable() -> None:
    """It is told where it began."""
    messages, _, (note,) = cut(b'[{"a":1},\n{"b":2')
    assert messages == [b'{"a":1}']
    assert (note.cause, note.line, note.offset, note.size_bytes) == ("unfinished", 2, 10, 6)


def test_nesting_has_no_limit_but_the_messages_size() -> None:
    """Brackets are counted; nothing recurses."""
    deep = b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    messages, _, notes = cut(b"[" + deep + b"," + deep + b"]", 30_000, 30_000)
    assert messages == [deep, deep]
    assert not notes
