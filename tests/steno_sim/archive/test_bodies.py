"""Files that are made while they are read."""

from __future__ import annotations

import json
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from steno_sim.archive.bodies import Body, Element, Fixed, Run
from steno_sim.archive.layouts import PlatformIds, Style, document, platform
from steno_sim.archive.said import Talk, make_talk

CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
IDS = PlatformIds(CALL, CALL, CALL, 1_767_600_000_000, 1_767_600_000_500)
STYLES = st.builds(
    Style,
    order=st.sampled_from(["first", "last", "mixed"]),
    pretty=st.booleans(),
    ascii=st.booleans(),
    extra=st.booleans(),
    words=st.booleans(),
    analytics=st.booleans(),
)


def talk(count: int, language: str = "fr-FR") -> Talk:
    return make_talk(
        0,
        CALL,
        "0/0/0",
        language=language,
        count=count,
        starts_ms=IDS.starts_ms,
        unknown=0.2,
        sparse=0.2,
    )


def whole(body: Body) -> bytes:
    return b"".join(body.read())


@given(
    numbers=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 500)), min_size=1, max_size=40),
    count=st.integers(1, 300),
    width=st.integers(0, 5000),
    data=st.data(),
)
def test_any_range_is_a_piece_of_the_whole(
    numbers: list[tuple[int, int]], count: int, width: int, data: st.DataObject
) -> None:
    """However numbers grow in digits from round to round, sizes and offsets are right."""
    text = "é" * width
    pattern = [Element(f',{{"n":%d,"t":"{text}"}}', (n,), (s,)) for n, s in numbers]
    run = Run(pattern, b",", count=count)
    body = Body([Fixed(b"["), run, Fixed(b"]")])
    raw = whole(body)
    assert len(raw) == body.size
    found = [each["n"] for each in json.loads(raw)]
    size = len(numbers)
    assert found == [numbers[k % size][0] + k // size * numbers[k % size][1] for k in range(count)]
    start = data.draw(st.integers(0, body.size))
    end = data.draw(st.integers(start, body.size + 3))
    assert b"".join(body.read(start, end)) == raw[start:end]


@given(style=STYLES, count=st.integers(0, 12))
def test_a_document_is_json_that_says_its_turns(style: Style, count: int) -> None:
    """In every order and spacing."""
    said = talk(5)
    body, made = document(said, CALL, style, count=count)
    told = json.loads(whole(body))
    assert made == count == len(told["transcript"])
    for turn, known in zip(told["transcript"], said.told(count), strict=True):
        assert (turn["text"], turn.get("speaker_id", "")) == (known.text, known.speaker)
        assert turn.get("confidence") == known.confidence
        assert round(turn["start_time"] * 1000) == known.start_ms
        assert round(turn["end_time"] * 1000) == known.end_ms


@given(style=STYLES, counts=st.lists(st.integers(0, 7), min_size=1, max_size=3))
def test_a_platform_file_is_json_that_says_its_phrases(style: Style, counts: list[int]) -> None:
    """Each transcript its own, of no phrase or more than a round of them."""
    said = [talk(3, language) for language in ("de-DE", "es-ES", "en-US")[: len(counts)]]
    body, made = platform(said, IDS, style, counts=counts)
    told = json.loads(whole(body))
    assert made == counts
    for transcript, each, count in zip(told["transcripts"], said, counts, strict=True):
        assert len(transcript["phrases"]) == count
        for phrase, known in zip(transcript["phrases"], each.told(count), strict=True):
            assert (phrase["phraseIndex"], phrase["decoratedText"]) == (known.index, known.text)
            assert phrase["startTimeMs"] == known.at_ms
            assert ("words" in phrase) == style.words
    ends = [t.end_ms(n) for t, n in zip(said, counts, strict=True)]
    assert told["duration"]["milliseconds"] == max(ends)


def test_the_order_of_keys_is_that_of_the_style() -> None:
    """Participants stand before the turns, or behind them."""
    for order, before in (("first", True), ("last", False), ("mixed", False)):
        raw = whole(document(talk(3), CALL, Style(order=order), count=3)[0])  # type: ignore[arg-type]  # each is one
        assert (raw.index(b'"participants"') < raw.index(b'"transcript"')) == before
    firsts = {next(iter(t)) for t in json.loads(raw)["transcript"]}
    assert len(firsts) == 3


def test_a_size_is_met_and_the_end_is_found_without_the_beginning() -> None:
    """A gigabyte is laid out and its last bytes come at once."""
    said = talk(2048)
    for body in (
        document(said, CALL, Style(), size=1_000_000_000)[0],
        platform([said], IDS, Style(), size=1_000_000_000)[0],
    ):
        assert 0 <= body.size - 1_000_000_000 < 20_000
        assert b"".join(body.read(body.size - 2)) in (b"]}", b'"}')
        middle = b"".join(body.read(500_000_000, 500_000_000 + 100_000))
        assert len(middle) == 100_000


def test_a_long_file_is_never_held() -> None:
    """Reading 20 MB costs no more than what one round of its turns does."""
    body, _ = document(talk(200), CALL, Style(), size=20_000_000)
    tracemalloc.start()
    assert sum(len(piece) for piece in body.read()) == body.size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
