"""Ids: the grammar shuts out paths and control characters, and ours sort by time."""

from __future__ import annotations

import uuid
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.ids import UUID7_RANDOM_BITS, is_id, is_uuid, quoted, uuid7

ids = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")


@pytest.mark.parametrize("text", ["a", "0", "c9a8b7d6-e5f4-3210-9876-543210fedcba", "a" * 128])
def test_ids_of_the_platform_are_accepted(text: str) -> None:
    """UUIDs and plain names pass."""
    assert is_id(text)


@pytest.mark.parametrize(
    "text", ["", ".", "..", "-a", "a/b", "a\n", "a b", "a%2f", "a" * 129, "é", "a?b", "a#b", "a\0"]
)
def test_anything_that_could_bend_an_address_is_refused(text: str) -> None:
    """Separators, control characters, leading dots and long texts do not pass."""
    assert not is_id(text)


@given(ids)
def test_quoting_gives_one_segment_and_can_be_undone(text: str) -> None:
    """A quoted id holds no separator and decodes to itself."""
    encoded = quoted(text)
    assert not set(encoded) & set("/:?#&")
    assert unquote(encoded) == text


def test_recording_ids_are_uuids() -> None:
    """Only the usual written form counts."""
    assert is_uuid("C9A8B7D6-e5f4-3210-9876-543210fedcba")
    assert not is_uuid("c9a8b7d6e5f432109876543210fedcba")
    assert not is_uuid("recording-1")


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**UUID7_RANDOM_BITS - 1))
def test_uuid7_is_well_formed_and_carries_its_time(ms: int, bits: int) -> None:
    """Version, variant and time are where RFC 9562 puts them."""
    made = uuid.UUID(uuid7(ms, bits))
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == ms
    assert ((made.int >> 64) & 0xFFF) << 62 | made.int & (2**62 - 1) == bits


@given(st.integers(0, 2**48 - 2), st.integers(0, 2**74 - 1), st.integers(0, 2**74 - 1))
def test_uuid7_sorts_by_time(ms: int, one: int, two: int) -> None:
    """A later millisecond sorts later, whatever the random part."""
    assert uuid7(ms, one) < uuid7(ms + 1, two)


@pytest.mark.parametrize(("ms", "bits"), [(-1, 0), (2**48, 0), (0, -1), (0, 2**74)])
def test_uuid7_refuses_what_does_not_fit(ms: int, bits: int) -> None:
    """Nothing is cut silently."""
    with pytest.raises(ValueError):
        uuid7(ms, bits)
