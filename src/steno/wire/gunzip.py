"""Unpacks gzip as it arrives, in bounded memory, and passes on what is not packed.

Packed data are told by their first bytes and not by a header: a store may keep a ``.gz`` file
and say nothing, pack for the way, or both. Two layers are unpacked at most. The state survives
a broken connection: what comes next continues where the last byte was.

Source: RFC 1952 (members one after the other are one file; zeros may follow as padding).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from steno.errors import IntegrityError, RemoteProtocolError

PIECE_BYTES: Final = 1 << 20
"""Longest piece given out."""
MAX_BYTES: Final = 16 << 30
"""Most that one transcript may unpack to; an hour of speech with its words is a few MB."""
MAX_RATIO: Final = 500
"""Most bytes out of one byte in, beyond ``GRACE_BYTES``. Transcripts reach about 30."""
GRACE_BYTES: Final = 64 << 20

_MAGIC: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = 31  # zlib: 15 bits, with gzip's header and check sum
_LAYERS: Final = 2


class Gunzip:
    """Gives the content of what is fed.

    Args:
        max_bytes: Most given out.
        max_ratio: Most given out for each byte fed, beyond ``grace_bytes``.
        grace_bytes: Given out whatever the ratio.
    """

    def __init__(
        self,
        *,
        max_bytes: int = MAX_BYTES,
        max_ratio: int = MAX_RATIO,
        grace_bytes: int = GRACE_BYTES,
    ) -> None:
        self._layers = [_Layer() for _ in range(_LAYERS)]
        self._max_bytes = max_bytes
        self._max_ratio = max_ratio
        self._grace_bytes = grace_bytes
        self._in = 0
        self._out = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give what ``data`` unpacks to, piece by piece; stop early and the rest is lost.

        Raises:
            IntegrityError: The packed data are damaged.
            RemoteProtocolError: They unpack to more than is taken.
        """
        self._in += len(data)
        for piece in self._layers[0].feed(data):
            yield from self._counted(self._layers[1].feed(piece))

    def end(self) -> Iterator[bytes]:
        """Give what was held back.

        Raises:
            IntegrityError: The packed data end in the middle.
        """
        for piece in self._layers[0].end():
            yield from self._counted(self._layers[1].feed(piece))
        yield from self._counted(self._layers[1].end())

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._out += len(piece)
            if self._out > self._max_bytes:
                raise RemoteProtocolError("the transcript is too long", limit=self._max_bytes)
            if self._out > max(self._grace_bytes, self._in * self._max_ratio):
                raise RemoteProtocolError(
                    "the transcript is packed beyond measure", limit=self._max_ratio
                )
            yield piece


class _Layer:
    """One layer: undecided until two bytes are there, then plain or packed to its end."""

    __slots__ = ("_held", "_is_over", "_undecided", "_unpack")

    def __init__(self) -> None:
        self._undecided = True
        self._held = b""
        self._unpack: zlib._Decompress | None = None
        self._is_over = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._undecided:
            data, self._held = self._held + data, b""
            if len(data) < len(_MAGIC) and _MAGIC.startswith(data):
                self._held = data
                return
            self._undecided = False
            if data.startswith(_MAGIC):
                self._unpack = zlib.decompressobj(_GZIP_WINDOW)
        if self._unpack is not None:
            yield from self._unpacked(data)
        elif data:
            yield data

    def end(self) -> Iterator[bytes]:
        if self._unpack is not None and not self._is_over:
            raise IntegrityError("the packed transcript ends in the middle")
        if self._undecided and self._held:
            yield self._held

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._is_over:  # padding, or another member
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._unpack, self._is_over = zlib.decompressobj(_GZIP_WINDOW), False
            yield from self._member(data)
            data = self._unpack.unused_data if self._unpack is not None else b""

    def _member(self, data: bytes) -> Iterator[bytes]:
        unpack = self._unpack
        assert unpack is not None
        while True:
            piece = _step(unpack, data)
            if piece:
                yield piece
            data = unpack.unconsumed_tail
            if unpack.eof:
                self._is_over = True
                return
            if not data and len(piece) < PIECE_BYTES:
                return


def _step(unpack: zlib._Decompress, data: bytes) -> bytes:
    try:
        return unpack.decompress(data, PIECE_BYTES)
    except zlib.error:
        raise IntegrityError("the packed transcript is damaged") from None
