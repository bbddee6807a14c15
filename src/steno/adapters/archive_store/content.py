"""Content on its way in and out: hashed as it is and as it is stored, compressed by option."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from steno.errors import ConfigError, IntegrityError

if TYPE_CHECKING:
    import zstandard

Piece = bytes | bytearray | memoryview

ZSTD: Final = "zstd"
BLOCK: Final = 1024 * 1024

_LEVEL: Final = 3
_MAX_WINDOW: Final = 8 * 1024 * 1024
"""Memory that an archived object may make its reader take; level 3 asks for 2 MB."""


class Sums(NamedTuple):
    """What content came to: sizes in bytes, SHA-256 in lower-case hex.

    ``size`` and ``sha256`` are of what is stored, the other two of the content itself.
    """

    size: int
    sha256: str
    content_size: int
    content_sha256: str


class Encoder:
    """Turns content into what is stored, and keeps both sums.

    Raises:
        ConfigError: The encoding is none that we write.
    """

    def __init__(self, encoding: str) -> None:
        self._plain = hashlib.sha256()
        self._stored = self._plain
        self._zstd = None
        if encoding:
            self._zstd = _compressor(encoding)
            self._stored = hashlib.sha256()
        self._plain_size = self._stored_size = 0

    def encode(self, data: Piece) -> Piece:
        """Return what is to be stored for more content; perhaps nothing yet."""
        self._plain.update(data)
        self._plain_size += len(data)
        return data if self._zstd is None else self._count(self._zstd.compress(data))

    def end(self) -> bytes:
        """Return the rest, after the last content."""
        return b"" if self._zstd is None else self._count(self._zstd.flush())

    def sums(self) -> Sums:
        """Return the sums, after the end."""
        plain = self._plain.hexdigest()
        if self._zstd is None:
            return Sums(self._plain_size, plain, self._plain_size, plain)
        return Sums(self._stored_size, self._stored.hexdigest(), self._plain_size, plain)

    def _count(self, stored: bytes) -> bytes:
        self._stored.update(stored)
        self._stored_size += len(stored)
        return stored


class Decoder:
    """Turns what is stored back into content, and keeps both sums.

    Raises:
        IntegrityError: The encoding is none that we know.
    """

    def __init__(self, encoding: str) -> None:
        if encoding not in ("", ZSTD):
            raise IntegrityError("the archived object is encoded in a way we do not know")
        self._encoding = encoding
        self._stored, self._plain = hashlib.sha256(), hashlib.sha256()
        self._stored_size = self._plain_size = 0

    def decode(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Return content, in pieces of a megabyte or so; valid until the next is taken.

        Raises:
            IntegrityError: It is not what the encoding says.
        """
        if not self._encoding:
            for piece in pieces:
                self._stored.update(piece)
                self._stored_size += len(piece)
                yield piece
            self._plain, self._plain_size = self._stored, self._stored_size
            return
        for plain in _decompressed(self._counted(pieces)):
            self._plain.update(plain)
            self._plain_size += len(plain)
            yield plain

    def sums(self) -> Sums:
        """Return the sums, after the last piece."""
        return Sums(
            self._stored_size, self._stored.hexdigest(), self._plain_size, self._plain.hexdigest()
        )

    def _counted(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            self._stored.update(piece)
            self._stored_size += len(piece)
            yield piece


def sums_of(pieces: Iterator[Piece], encoding: str) -> Sums:
    """Read to the end and return what it came to.

    Raises:
        IntegrityError: It is not what the encoding says.
    """
    decoder = Decoder(encoding)
    for _ in decoder.decode(pieces):
        pass
    return decoder.sums()


def stored_sums(pieces: Iterator[Piece]) -> tuple[int, str]:
    """Return size and SHA-256 of what is stored, as it is."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest()


def _compressor(encoding: str) -> zstandard.ZstdCompressionObj:
    import zstandard

    if encoding != ZSTD:
        raise ConfigError("the archive knows no such encoding", setting="archive.compress")
    return zstandard.ZstdCompressor(level=_LEVEL).compressobj()


def _decompressed(pieces: Iterator[Piece]) -> Iterator[bytes]:
    """Decompress with bounded memory: a small piece may hold gigabytes."""
    import zstandard

    reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(
        _Joined(pieces),  # type: ignore[arg-type]  # read is all it needs
        read_across_frames=True,
    )
    try:
        while plain := reader.read(BLOCK):
            yield plain
    except zstandard.ZstdError:
        raise IntegrityError("the archived object cannot be decompressed") from None


class _Joined:
    """A file to read from, made of pieces."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self._rest: Piece = b""

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = bytes(piece)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)
