"""The place of a download: what is asked next, and what answers mean for it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.errors import IntegrityError, RemoteProtocolError, TransportError
from steno.wire.ranged_download import GivenOut, Meaning, RangedDownload, meaning_of

TAG = {"etag": '"t"'}


def begun(headers: dict[str, str] = TAG, received: int = 40) -> RangedDownload:
    place = RangedDownload()
    place.ask()
    assert place.answered(200, {"content-length": "100"} | headers)
    place.take(b"x" * received)
    return place


def part(start: int, total: int | str, **headers: str) -> dict[str, str]:
    return {"content-range": f"bytes {start}-{99}/{total}"} | TAG | headers


def test_a_range_is_asked_for_behind_what_came_and_with_the_validator() -> None:
    """A store then gives the part of the same file, or all of another."""
    place = begun()
    assert place.ask() == {"Accept-Encoding": "gzip", "Range": "bytes=40-", "If-Range": '"t"'}
    assert not place.answered(206, part(40, 100))
    place.take(b"x" * 60)
    assert place.is_whole
    place.verify()


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"etag": 'W/"weak"'}, None),
        ({"etag": '"x"'}, '"x"'),
        ({"etag": "bare"}, None),
        ({"etag": '"a\x01b"'}, None),
        (
            {
                "last-modified": "Sat, 21 Nov 2026 10:00:00 GMT",
                "date": "Sat, 21 Nov 2026 10:01:00 GMT",
            },
            "Sat, 21 Nov 2026 10:00:00 GMT",
        ),
        (
            {
                "last-modified": "Sat, 21 Nov 2026 10:00:00 GMT",
                "date": "Sat, 21 Nov 2026 10:00:59 GMT",
            },
            None,
        ),
        ({"last-modified": "yesterday", "date": "Sat, 21 Nov 2026 10:00:59 GMT"}, None),
        ({"last-modified": "Sat, 21 Nov 2026 10:00:00 GMT"}, None),
    ],
)
def test_only_strong_validators_ask_for_ranges(
    headers: dict[str, str], validator: str | None
) -> None:
    """Weak ones say nothing of bytes; a date needs to be a minute old."""
    assert begun(headers).ask().get("If-Range") == validator


def test_a_whole_answer_begins_anew() -> None:
    """The store does not know ranges, or the validator did not fit."""
    place = begun()
    place.ask()
    assert place.answered(200, {"content-length": "100"} | TAG)
    assert (place.received, place.beginnings) == (0, 2)


@pytest.mark.parametrize(
    "headers",
    [part(0, 100), part(39, 100), part(41, 100), {"content-range": "bytes 40-99"} | TAG, TAG],
)
def test_another_part_than_asked_for_is_not_taken(headers: dict[str, str]) -> None:
    """It is tried again, as a whole."""
    place = begun()
    place.ask()
    with pytest.raises(TransportError):
        place.answered(206, headers)
    assert "Range" not in place.ask()


def test_a_part_that_nobody_asked_for_is_not_taken() -> None:
    """At the very beginning."""
    place = RangedDownload()
    place.ask()
    with pytest.raises(TransportError):
        place.answered(206, part(0, 100))


def test_a_part_that_is_packed_otherwise_is_not_taken() -> None:
    """The state of unpacking could not go on."""
    place = begun()
    place.ask()
    with pytest.raises(TransportError):
        place.answered(206, part(40, 100, **{"content-encoding": "gzip"}))


def test_another_form_of_the_file_begins_again_under_its_own_tag() -> None:
    """Packed and plain have tags and lengths of their own; the content is compared elsewhere."""
    place = begun()
    place.ask()
    packed = {"content-encoding": "gzip", "etag": '"t-gzip"', "content-length": "30"}
    assert place.answered(200, packed)
    place.take(b"x" * 10)
    assert place.ask()["If-Range"] == '"t-gzip"'
    assert place.total == 30


@pytest.mark.parametrize("headers", [part(40, 101), part(40, 100) | {"etag": '"u"'}])
def test_a_part_of_another_file_is_damage(headers: dict[str, str]) -> None:
    """By its length or its tag."""
    place = begun()
    place.ask()
    with pytest.raises(IntegrityError):
        place.answered(206, headers)


def test_no_more_is_the_end_only_where_the_length_fits() -> None:
    """A 416 tells the file's length."""
    place = begun(received=100)
    place.ask()
    assert place.no_more({"content-range": "bytes */100"})
    with pytest.raises(IntegrityError):
        place.no_more({"content-range": "bytes */120"})
    short = begun(received=40)
    short.ask()
    with pytest.raises(IntegrityError):
        short.no_more({"content-range": "bytes */40"})
    assert not short.no_more({})
    assert "Range" not in short.ask()


@pytest.mark.parametrize("coding", ["br", "zstd", "deflate", "gzip, gzip", "x" * 500])
def test_unknown_packing_is_refused(coding: str) -> None:
    """Unread."""
    place = RangedDownload()
    place.ask()
    with pytest.raises(RemoteProtocolError):
        place.answered(200, {"content-encoding": coding})


@pytest.mark.parametrize("length", ["-5", "1e9", "", "9" * 30, "\u0663"])
def test_lengths_that_are_none_are_not_held_against_it(length: str) -> None:
    """The transfer has an end of its own."""
    place = RangedDownload()
    place.ask()
    place.answered(200, {"content-length": length})
    assert place.total is None
    assert place.is_whole


def test_every_status_means_something() -> None:
    """Those of the platform's documents, and the rest by their class."""
    assert [meaning_of(status) for status in (200, 206, 403, 410, 404, 416, 503, 302)] == [
        Meaning.BODY,
        Meaning.BODY,
        Meaning.ENDED,
        Meaning.ENDED,
        Meaning.MISSING,
        Meaning.NO_MORE,
        Meaning.BUSY,
        Meaning.REDIRECT,
    ]
    assert meaning_of(599) is Meaning.BUSY
    assert meaning_of(402) is meaning_of(304) is meaning_of(204) is Meaning.REFUSED


@given(st.lists(st.text("abcdef", min_size=1, max_size=8), min_size=1, max_size=8), st.data())
def test_content_is_given_once_however_often_it_begins_again(
    pieces: list[str], drawn: st.DataObject
) -> None:
    """Cut anywhere, again and again."""
    data = "".join(pieces).encode()
    given_out = GivenOut()
    out = b""
    for _ in range(drawn.draw(st.integers(0, 3))):
        for byte in data[: drawn.draw(st.integers(0, len(data)))]:
            out += given_out.take(bytes([byte]))
        given_out.begin_again()
    for piece in pieces:
        out += given_out.take(piece.encode())
    given_out.end()
    assert out == data
    assert given_out.size == len(data)


def test_content_that_differs_or_ends_sooner_is_another() -> None:
    """Found before one new byte is given out."""
    given_out = GivenOut()
    given_out.take(b"hello world")
    given_out.begin_again()
    assert given_out.take(b"hello") == b""
    with pytest.raises(IntegrityError):
        given_out.end()
    with pytest.raises(IntegrityError):
        given_out.take(b" wOrld and more")


def test_a_sum_is_held_against_all_stored_bytes() -> None:
    """Over parts, too."""
    data = b"x" * 100
    place = begun(TAG | {"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="})
    place.ask()
    place.answered(206, part(40, 100))
    place.take(data[40:])
    with pytest.raises(IntegrityError, match="check sum"):
        place.verify()
    assert hashlib.md5(data).digest() != bytes(16)
