"""Unpacking: however it is cut, whatever it is, within bounds."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.errors import IntegrityError, RemoteProtocolError
from steno.wire.gunzip import PIECE_BYTES, Gunzip


def unpacked(data: bytes, cuts: list[int], **limits: int) -> bytes:
    unpack = Gunzip(**limits)
    out, at = [], 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        out += list(unpack.feed(data[at:cut]))
        at = cut
    out += list(unpack.end())
    assert all(0 < len(piece) <= max(PIECE_BYTES, len(data)) for piece in out)
    return b"".join(out)


def exhaust(unpack: Gunzip, data: bytes) -> None:
    for _ in unpack.feed(data):
        pass


CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@given(st.binary(max_size=300).filter(lambda data: not data.startswith(b"\x1f\x8b")), CUTS)
def test_what_is_not_packed_comes_as_it_is(data: bytes, cuts: list[int]) -> None:
    """However it is cut, the first byte of the mark alone included."""
    assert unpacked(data, cuts) == data


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=3), CUTS, st.integers(0, 9))
def test_members_one_after_the_other_are_one_file(
    parts: list[bytes], cuts: list[int], zeros: int
) -> None:
    """Zeros may follow as padding."""
    whole = b"".join(parts)
    if whole.startswith(b"\x1f\x8b"):
        return
    data = b"".join(gzip.compress(part, mtime=0) for part in parts) + bytes(zeros)
    assert unpacked(data, cuts) == whole


@given(st.binary(min_size=1, max_size=300), CUTS)
def test_two_layers_are_unpacked(data: bytes, cuts: list[int]) -> None:
    """A packed file that was packed for the way."""
    if data.startswith(b"\x1f\x8b"):
        return
    assert unpacked(gzip.compress(gzip.compress(data)), cuts) == data


@given(st.binary(min_size=20, max_size=300), st.data(), CUTS)
def test_a_packed_file_cut_anywhere_is_damaged(
    data: bytes, drawn: st.DataObject, cuts: list[int]
) -> None:
    """Down to its last byte; shorter than its mark it is something else."""
    whole = gzip.compress(data, mtime=0)
    part = whole[: drawn.draw(st.integers(2, len(whole) - 1))]
    with pytest.raises(IntegrityError):
        unpacked(part, cuts)


@given(st.binary(min_size=20, max_size=300), st.data())
def test_a_changed_byte_never_passes_for_the_content(data: bytes, drawn: st.DataObject) -> None:
    """The check sum of the content is held against it; header fields alone may differ."""
    whole = bytearray(gzip.compress(data, mtime=0))
    at = drawn.draw(st.integers(10, len(whole) - 1))
    whole[at] ^= 1 << drawn.draw(st.integers(0, 7))
    try:
        assert unpacked(bytes(whole), []) == data
    except IntegrityError:
        pass


def test_garbage_behind_a_member_is_damage() -> None:
    """It is no padding."""
    with pytest.raises(IntegrityError):
        unpacked(gzip.compress(b"x" * 100) + b"\0\0garbage", [])


def test_bombs_are_put_out_in_little_memory() -> None:
    """A file of zeros is 1000 times as long as it is packed."""
    bomb = gzip.compress(bytes(64 << 20))
    tracemalloc.start()
    unpack = Gunzip(grace_bytes=8 << 20)
    with pytest.raises(RemoteProtocolError, match="packed beyond measure"):
        exhaust(unpack, bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_length_is_bounded_whatever_the_ratio() -> None:
    """Also of what is not packed."""
    with pytest.raises(RemoteProtocolError, match="too long"):
        unpacked(b"x" * 1001, [], max_bytes=1000)
    assert unpacked(b"x" * 1000, [], max_bytes=1000) == b"x" * 1000
