"""Header compression of HTTP/2, as far as a client of one service needs it.

``encode`` writes every field as a literal without indexing: requests of ours are a few hundred
bytes once in the life of a stream, so there is no table to keep in step with the peer.
``Decoder`` understands everything a server may send. It raises ``RemoteProtocolError`` for what
cannot be decoded; the connection is then of no more use, because the tables have parted.

Source: RFC 7541. Numbers in comments are its sections.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from steno.errors import RemoteProtocolError

Header = tuple[bytes, bytes]

MAX_TABLE_BYTES: Final = 4096
"""The dynamic table as every connection starts with it; we never ask for another size."""

MAX_LIST_BYTES: Final = 32 * 1024
"""Decoded size of one header list, counted as in 4.1, beyond which we do not go on."""

_ENTRY_BYTES: Final = 32
_COMPRESSION: Final = "the peer's headers cannot be decoded"

# Appendix A; positions from 1.
_STATIC: Final[tuple[Header, ...]] = tuple(
    (name.encode(), value.encode())
    for name, _, value in (
        line.partition(" ")
        for line in (
            ":authority", ":method GET", ":method POST", ":path /", ":path /index.html",
            ":scheme http", ":scheme https", ":status 200", ":status 204", ":status 206",
            ":status 304", ":status 400", ":status 404", ":status 500", "accept-charset",
            "accept-encoding gzip, deflate", "accept-language", "accept-ranges", "accept",
            "access-control-allow-origin", "age", "allow", "authorization", "cache-control",
            "content-disposition", "content-encoding", "content-language", "content-length",
            "content-location", "content-range", "content-type", "cookie", "date", "etag",
            "expect", "expires", "from", "host", "if-match", "if-modified-since",
            "if-none-match", "if-range", "if-unmodified-since", "last-modified", "link",
            "location", "max-forwards", "proxy-authenticate", "proxy-authorization", "range",
            "referer", "refresh", "retry-after", "server", "set-cookie",
            "strict-transport-security", "transfer-encoding", "user-agent", "vary", "via",
            "www-authenticate",
        )
    )
)  # fmt: skip

# Appendix B: the length of each symbol's code. The code is canonical (codes of one length count
# upwards in the order of the symbols), so the lengths say it all. The last symbol is EOS.
_CODE_LENGTHS: Final = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
)  # fmt: skip
_EOS: Final = 256


def _huffman_table() -> dict[tuple[int, int], int]:
    """Return the symbol of each (length, code)."""
    table: dict[tuple[int, int], int] = {}
    code = length = 0
    for symbol in sorted(range(len(_CODE_LENGTHS)), key=lambda symbol: _CODE_LENGTHS[symbol]):
        code <<= _CODE_LENGTHS[symbol] - length
        length = _CODE_LENGTHS[symbol]
        table[length, code] = symbol
        code += 1
    return table


_HUFFMAN: Final = _huffman_table()


def encode(headers: Iterable[Header]) -> bytes:
    """Return the headers as literals without indexing and without Huffman code (6.2.2)."""
    out = bytearray()
    for name, value in headers:
        out.append(0)
        _put_string(out, name)
        _put_string(out, value)
    return bytes(out)


def _put_string(out: bytearray, text: bytes) -> None:
    length = len(text)
    if length < 127:
        out.append(length)
    else:  # 5.1, prefix of seven bits
        out.append(127)
        length -= 127
        while length >= 128:
            out.append(length & 127 | 128)
            length >>= 7
        out.append(length)
    out += text


class Decoder:
    """Decodes the header blocks of one connection, in the order they come in."""

    __slots__ = ("_limit", "_size", "_table")

    def __init__(self) -> None:
        self._table: deque[Header] = deque()
        self._size = 0
        self._limit = MAX_TABLE_BYTES

    def decode(self, block: bytes) -> list[Header]:
        """Return the fields of a complete block.

        Raises:
            RemoteProtocolError: It is malformed, or larger than ``MAX_LIST_BYTES``.
        """
        headers: list[Header] = []
        at = total = 0
        try:
            while at < len(block):
                first = block[at]
                if first & 0xE0 == 0x20:  # 6.3; only in front of the fields
                    size, at = _integer(block, at, 5)
                    if headers or size > MAX_TABLE_BYTES:
                        raise RemoteProtocolError(_COMPRESSION)
                    self._limit = size
                    self._evict(0)
                    continue
                if first & 0x80:  # 6.1
                    index, at = _integer(block, at, 7)
                    header = self._entry(index)
                else:  # 6.2; 01 is kept in the table, 0000 and 0001 are not
                    is_kept = bool(first & 0x40)
                    index, at = _integer(block, at, 6 if is_kept else 4)
                    if index:
                        name = self._entry(index)[0]
                    else:
                        name, at = _string(block, at)
                    value, at = _string(block, at)
                    header = (name, value)
                    if is_kept:
                        self._keep(header)
                total += len(header[0]) + len(header[1]) + _ENTRY_BYTES
                if total > MAX_LIST_BYTES:
                    raise RemoteProtocolError("the peer's headers are too large")
                headers.append(header)
        except IndexError:
            raise RemoteProtocolError(_COMPRESSION) from None
        return headers

    def _entry(self, index: int) -> Header:
        if index < 1:
            raise RemoteProtocolError(_COMPRESSION)
        if index <= len(_STATIC):
            return _STATIC[index - 1]
        return self._table[index - len(_STATIC) - 1]

    def _keep(self, header: Header) -> None:
        size = len(header[0]) + len(header[1]) + _ENTRY_BYTES
        self._evict(size)
        if size <= self._limit:  # 4.4: one that is too large only empties the table
            self._table.appendleft(header)
            self._size += size

    def _evict(self, coming: int) -> None:
        while self._table and self._size + coming > self._limit:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + _ENTRY_BYTES


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """Read an integer with a prefix of so many bits (5.1)."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while shift <= 21:  # anything longer is beyond every limit there is
        byte = block[at]
        at += 1
        value += (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise RemoteProtocolError(_COMPRESSION)


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    is_huffman = block[at] & 0x80
    length, at = _integer(block, at, 7)
    end = at + length
    if end > len(block):
        raise RemoteProtocolError(_COMPRESSION)
    text = block[at:end]
    return (_unhuffman(text) if is_huffman else text), end


def _unhuffman(text: bytes) -> bytes:
    """Decode Huffman code (5.2); what fills the last byte is the beginning of EOS, all ones."""
    out = bytearray()
    code = length = 0
    for byte in text:
        for shift in range(7, -1, -1):
            code = code << 1 | byte >> shift & 1
            length += 1
            symbol = _HUFFMAN.get((length, code))
            if symbol is not None:
                if symbol == _EOS:
                    raise RemoteProtocolError(_COMPRESSION)
                out.append(symbol)
                code = length = 0
            elif length > 30:
                raise RemoteProtocolError(_COMPRESSION)
    if length > 7 or code != (1 << length) - 1:
        raise RemoteProtocolError(_COMPRESSION)
    return bytes(out)
