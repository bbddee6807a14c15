"""Tells whether an audio file is all there, which the decoder does not: it plays what it finds.

A WAV file says how long its sound is. One that was written while it was recorded says nothing
(0 or all ones) and is taken as it is. An Ogg file is a row of pages, each with its length; a file
that ends inside of one was broken off.

Sources: RIFF WAVE (chunks), RF64 (EBU Tech 3306); RFC 3533 (Ogg pages).
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, Final

_UNKNOWN: Final = frozenset({0, 0x7FFF_FFFF, 0x7FFF_F000, 0xFFFF_FFFF, 0xFFFF_F000})
"""Lengths that programs write which do not know it yet."""

_MAX_CHUNKS: Final = 1000
_OGG: Final = b"OggS"
_PAGE_HEAD: Final = 27
_PAGE_TYPE: Final = 5
_LONGEST_PAGE: Final = _PAGE_HEAD + 255 + 255 * 255


def is_broken_off(file: BinaryIO) -> bool:
    """Tell whether a WAV or Ogg file ends before its time; False for other kinds.

    Reads heads only, and of an Ogg file the last pages. The position of ``file`` is moved.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    kind = file.read(12)
    if kind[:4] in (b"RIFF", b"RIFX") and kind[8:] == b"WAVE":
        return _is_short_wav(file, size, ">I" if kind[:4] == b"RIFX" else "<I")
    if kind[:4] == _OGG:
        return _is_short_ogg(file, size)
    return False


def _is_short_wav(file: BinaryIO, size: int, length: str) -> bool:
    at = 12
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return True  # no sound at all
        (told,) = struct.unpack(length, head[4:])
        if head[:4] == b"data":
            return told not in _UNKNOWN and at + 8 + told > size
        at += 8 + told + (told & 1)
    return True


def _is_short_ogg(file: BinaryIO, size: int) -> bool:
    """Look at the last page that begins: the file must end where it does."""
    start = max(0, size - 2 * _LONGEST_PAGE)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(_OGG)
    while at >= 0:
        head = tail[at : at + _PAGE_HEAD]
        if len(head) < _PAGE_HEAD:
            return True
        lengths = tail[at + _PAGE_HEAD : at + _PAGE_HEAD + head[-1]]
        end = at + _PAGE_HEAD + head[-1] + sum(lengths)
        if head[4] == 0 and head[_PAGE_TYPE] < 8:
            return len(lengths) < head[-1] or end != len(tail)
        at = tail.rfind(_OGG, 0, at)  # the four letters stood in the sound
    return True
