"""Header compression: the standard's own examples, and everything that is malformed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.errors import RemoteProtocolError
from steno.wire.hpack import MAX_LIST_BYTES, Decoder, encode

# RFC 7541, C.6: three responses on one connection, Huffman code. The examples are made with a
# table of 256 bytes, which a size update in front of the first brings about here.
RESPONSES = (
    (
        "3fe101" "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff"
        "6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        [
            (b":status", b"302"),
            (b"cache-control", b"private"),
            (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
            (b"location", b"https://www.example.com"),
        ],
    ),
    (
        "4883640effc1c0bf",
        [
            (b":status", b"307"),
            (b"cache-control", b"private"),
            (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
            (b"location", b"https://www.example.com"),
        ],
    ),
    (
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335"
        "dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        [
            (b":status", b"200"),
            (b"cache-control", b"private"),
            (b"date", b"Mon, 21 Oct 2013 20:13:22 GMT"),
            (b"location", b"https://www.example.com"),
            (b"content-encoding", b"gzip"),
            (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
        ],
    ),
)  # fmt: skip


def test_the_standard_s_examples_are_understood() -> None:
    """Static and dynamic table, eviction, Huffman code; in order on one connection."""
    decoder = Decoder()
    for block, headers in RESPONSES:
        assert decoder.decode(bytes.fromhex(block)) == headers


HEADERS = st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), max_size=8)


@given(HEADERS)
def test_what_is_encoded_is_decoded(headers: list[tuple[bytes, bytes]]) -> None:
    """Lengths below, at and above the prefix of seven bits included."""
    assert Decoder().decode(encode(headers)) == headers


@pytest.mark.parametrize(
    "block",
    [
        "80",  # index 0
        "be",  # behind the tables
        "bf80",
        "40",  # cut short
        "4085",
        "0001",
        "ffffffffffffff",  # an integer without end
        "883fe101",  # a size update behind a field
        "3fe21f",  # a table larger than we offered
        "0082ffff00",  # Huffman code that is only padding, too long
        "0081fe00",  # padding that is not ones
        "0084ffffffff00",  # EOS
    ],
)
def test_malformed_blocks_end_the_connection(block: str) -> None:
    """The tables of both ends have parted."""
    with pytest.raises(RemoteProtocolError):
        Decoder().decode(bytes.fromhex(block))


def test_a_small_block_cannot_become_a_large_list() -> None:
    """Many references to one large entry are refused before they are made."""
    decoder = Decoder()
    entry = b"\x40\x01x\x7f\x81\x0f" + bytes(2048)
    decoder.decode(entry)
    with pytest.raises(RemoteProtocolError):
        decoder.decode(b"\xbe" * (MAX_LIST_BYTES // 2048 + 1))


@given(st.binary(max_size=200))
def test_any_bytes_give_headers_or_the_one_error(block: bytes) -> None:
    """Never another exception."""
    try:
        Decoder().decode(block)
    except RemoteProtocolError:
        pass
