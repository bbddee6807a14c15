"""Who speaks when, drawn."""

from __future__ import annotations

import struct
import time
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.archive.page import MAX_PICTURES, Gathered, Shown, page
from steno.archive.picture import COLUMNS, png, svg
from steno.archive.sound import QUIETEST_DB, Sound
from steno.archive.strip import MARKS, MAX_SPEAKERS, Strip
from steno.archive.summary import Summing
from steno.core.stored import Segment
from steno.core.transcript import RawText, Role

WHO = {"a": Role.AGENT, "c": Role.CUSTOMER}


def strip_of(*turns: tuple[float, float, str]) -> Strip:
    """Return the strip of turns, taken in one by one."""
    strip = Strip()
    for start, end, who in turns:
        segment = Segment(start, end, RawText("x"), who)
        strip.add([segment], np.array([start]), np.array([end]), {})
    strip.finish(WHO)
    return strip


def test_bars_stand_where_their_roles_speak() -> None:
    """In columns of the whole time; a stranger has a lane of his own."""
    strip = strip_of((0.0, 2.5, "a"), (5.0, 10.0, "c"), (7.5, 10.0, "?"))
    assert strip.bars(100, 10.0) == {
        Role.CUSTOMER: [(50, 100)],
        Role.AGENT: [(0, 25)],
        Role.UNKNOWN: [(75, 100)],
    }


@given(
    turns=st.lists(
        st.tuples(st.floats(0, 20_000), st.floats(0, 50), st.sampled_from("ac?")), max_size=20
    )
)
def test_no_turn_is_too_short_or_too_late_to_be_seen(turns: list[tuple[float, float, str]]) -> None:
    """However long the conversation grows behind it; silence stays where nobody speaks."""
    strip = strip_of(*((start, start + length, who) for start, length, who in turns))
    if not turns:
        return
    end = strip.end_s
    columns = strip.columns(MARKS, strip.mark_s * MARKS)
    for start, length, who in turns:
        lane = columns[WHO.get(who, Role.UNKNOWN)]
        for at in (start, start + length / 2):  # a bound between two marks may be in either
            mark = int(at / strip.mark_s)
            assert lane[max(0, mark - 1) : mark + 2].any()
    for role, lane in columns.items():
        for place in np.flatnonzero(lane).tolist():
            left, right = place * strip.mark_s, (place + 1) * strip.mark_s
            assert any(
                WHO.get(who, Role.UNKNOWN) is role
                and start - strip.mark_s <= right
                and start + length + strip.mark_s >= left
                for start, length, who in turns
            )
    assert end <= strip.mark_s * MARKS


def sound_of(seconds: float) -> Sound:
    """Return some audio."""
    sound = Sound(8000)
    sound.feed([(np.sin(np.arange(round(seconds * 8000)) / 9) * 20_000).astype(np.int16)])
    return sound


@pytest.mark.parametrize("sound", [None, sound_of(8.0)])
def test_the_svg_is_xml_with_words_for_those_who_cannot_see_it(sound: Sound | None) -> None:
    """Title and description; no address, no script."""
    strip = strip_of((0.0, 2.5, "a"), (5.0, 10.0, "c"))
    text = "".join(svg(strip, sound, title='Call <1> & "2"'))
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{space}title") == 'Call <1> & "2"'
    assert "2 turns" in (root.findtext(f"{space}desc") or "")
    assert len(root.findall(f".//{space}rect")) == 2
    assert bool(root.findall(f".//{space}path")) is (sound is not None)
    assert "script" not in text
    assert text.count("http") == 1


def decoded(data: bytes) -> np.ndarray:
    """Return the pixels of a PNG, every checksum verified."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        (check,) = struct.unpack(">I", data[at + 8 + size : at + 12 + size])
        assert check == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + size
    width, height, depth, form = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, form) == (8, 2)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:].reshape(height, width, 3)


def test_the_png_shows_who_speaks_when() -> None:
    """Customer above, agent below; the waveform in the colour of who speaks."""
    strip = strip_of((0.0, 4.0, "a"), (4.0, 8.0, "c"))
    pixels = decoded(png(strip, sound_of(8.0)))
    assert pixels.shape == (120 + 2 * 22, COLUMNS, 3)
    agent, customer = [9, 105, 218], [188, 76, 0]
    assert pixels[60, 10].tolist() == agent
    assert pixels[60, COLUMNS - 10].tolist() == customer
    assert pixels[120 + 10, COLUMNS - 10].tolist() == customer
    assert pixels[120 + 10, 10].tolist() == [255, 255, 255]
    assert pixels[120 + 22 + 10, 10].tolist() == agent
    assert decoded(png(strip_of(), None)).shape[1] == COLUMNS


def test_of_many_speakers_the_first_are_told_apart() -> None:
    """All others are drawn as unknown; memory and time do not grow with their number."""
    count = 5000
    names = ["a", *(f"speaker {n}" for n in range(count - 2)), "c"]
    segments = [Segment(float(n), n + 1.0, RawText("x"), name) for n, name in enumerate(names)]
    starts = np.arange(count, dtype=np.float64)
    strip = Strip()
    began = time.process_time()
    strip.add(segments, starts, starts + 1, {})
    assert time.process_time() - began < 1.0
    strip.finish(WHO | {"": Role.SYSTEM})
    assert len(strip._speakers) == MAX_SPEAKERS + 1
    assert strip.turns == count
    bars = strip.bars(count, float(count))
    assert Role.CUSTOMER not in bars
    assert bars[Role.AGENT][0][0] == 0
    assert bars[Role.SYSTEM][-1][1] == count


def shown(name: str, strip: Strip | None, sound: Sound | None = None) -> Shown:
    """Return one conversation of a page."""
    summing = Summing()
    summing.add([Segment(0.0, 2.0, RawText("secret words"), "a", 0.5)])
    return Shown(
        summing.summary(name, WHO), summing.analysis(WHO), "written", strip=strip, sound=sound
    )


def test_a_page_keeps_of_audio_what_it_draws() -> None:
    """Levels of hundredths of a second are megabytes an hour, of every conversation."""
    sound = Sound(8000)
    sound.feed([np.full(80_000, 1000, np.int16)])
    drawn = list(svg(strip_of((0.0, 2.0, "a")), sound, title="t"))
    assert sound.energies(np.zeros(1), np.ones(1)) != [QUIETEST_DB]
    gathered = Gathered()
    gathered.add(shown("call", strip_of((0.0, 2.0, "a")), sound))
    assert sound.energies(np.zeros(1), np.ones(1)) == [QUIETEST_DB]
    assert list(svg(strip_of((0.0, 2.0, "a")), sound, title="t")) == drawn


def test_the_page_has_every_conversation_and_no_words_of_any() -> None:
    """Pictures of the first; ids are escaped; nothing is fetched from anywhere."""
    gathered = Gathered()
    for number in range(MAX_PICTURES + 2):
        gathered.add(shown(f"<call-{number}>", strip_of((0.0, 2.0, "a"))))
    text = "".join(page(gathered, made_us=1))
    assert text.count("<svg") == MAX_PICTURES
    assert f"&lt;call-{MAX_PICTURES + 1}&gt;" in text
    assert "<call-" not in text
    assert "secret" not in text
    for word in ("http:", "https:", "<script", "src="):
        assert word not in text.replace("http-equiv", "")
