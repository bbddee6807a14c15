"""A download that goes on after its connection broke or its link ended. Pure.

``RangedDownload`` keeps the place in the stored bytes: which part to ask for next, what an answer
means, and in the end whether length and check sums are right. ``GivenOut`` keeps the place in
the content, for stores that can only begin again: what was given before is left out, after it
was found to be the same.

    asking ── 200 ──▶ from the start: everything before is void, what was given is left out
       │ ──── 206 ──▶ goes on, if range, length and validator are those asked for
       │ ──── 416 ──▶ there is no more: done, or the file is another one
       └ 403, 410 ──▶ the link has ended: the caller asks for a fresh one

A range is asked for only with a validator (``If-Range``), so that a store gives the part of the
same file or all of the other one; without a validator the download begins again.

Source: RFC 9110, 13.1.5 (If-Range), 14 (Range); RFC 9530; Amazon S3, GetObject.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final, Protocol

from steno.errors import IntegrityError, RemoteProtocolError, TransportError

STRONG_DATE_S: Final = 60.0
"""A date of change is a validator once the answer is so much younger (RFC 9110, 8.8.2.2)."""

_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_UNMET: Final = re.compile(r"bytes \*/([0-9]{1,18})")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_MD5_TAG: Final = re.compile(r'"([0-9a-f]{32})"')
_MAX_HEADER_CHARS: Final = 1024
_PLAIN: Final = frozenset({"", "identity", "aws-chunked", "gzip", "x-gzip"})
"""Codings that can be read. ``aws-chunked`` is a leftover of an upload and changes nothing."""

Headers = Mapping[str, str]
"""Of an answer, names in lower case."""


class Meaning(StrEnum):
    """What a store's status means for a download."""

    BODY = "body"
    NO_MORE = "no_more"
    ENDED = "ended"
    """The link has ended, or is refused: a fresh one may do."""
    MISSING = "missing"
    REDIRECT = "redirect"
    BUSY = "busy"
    REFUSED = "refused"


_MEANINGS: Final[Mapping[int, Meaning]] = {
    200: Meaning.BODY,
    206: Meaning.BODY,
    301: Meaning.REDIRECT,
    302: Meaning.REDIRECT,
    303: Meaning.REDIRECT,
    307: Meaning.REDIRECT,
    308: Meaning.REDIRECT,
    400: Meaning.ENDED,  # S3 answers so where the credentials behind a link have ended
    401: Meaning.ENDED,
    403: Meaning.ENDED,
    404: Meaning.MISSING,
    408: Meaning.BUSY,
    410: Meaning.ENDED,
    416: Meaning.NO_MORE,
    425: Meaning.BUSY,
    429: Meaning.BUSY,
}


def meaning_of(status: int) -> Meaning:
    """Return what a status means."""
    return _MEANINGS.get(status, Meaning.BUSY if status >= 500 else Meaning.REFUSED)


# --- the stored bytes ------------------------------------------------------------------------


class RangedDownload:
    """The place in the stored bytes.

    Attributes:
        received: Stored bytes taken since the last beginning.
        total: Their number in all; None where it is not known.
        beginnings: How often they were begun.
    """

    def __init__(self) -> None:
        self.received = 0
        self.total: int | None = None
        self.beginnings = 0
        self._validator = ""
        self._tag = ""
        self._coding = ""
        self._checks: tuple[_Check, ...] = ()
        self._whole_only = False
        self._asked_from = 0

    def ask(self) -> dict[str, str]:
        """Return the headers of the next request."""
        headers = {"Accept-Encoding": "gzip"}
        self._asked_from = 0
        if self.received and self._validator and not self._whole_only:
            self._asked_from = self.received
            headers |= {"Range": f"bytes={self.received}-", "If-Range": self._validator}
        return headers

    def answered(self, status: int, headers: Headers) -> bool:
        """Take note of an answer whose body is about to come.

        Returns:
            Whether the stored bytes begin anew.

        Raises:
            IntegrityError: It is another file now.
            RemoteProtocolError: It is packed in a way that cannot be read.
            TransportError: Another part than the one asked for: begin again.
        """
        coding = headers.get("content-encoding", "").strip().lower()
        if coding not in _PLAIN:
            raise RemoteProtocolError("the transcript is packed in a way that cannot be read")
        if coding != self._coding and self.beginnings:
            if status == 206:
                self._whole_only = True
                raise TransportError("the store packs parts in another way than the whole")
            self._tag, self.total = "", None  # another form of it: only its content can compare
        tag = _strong_tag(headers)
        if tag and self._tag and tag != self._tag:
            raise IntegrityError("the stored transcript changed during the download", what="etag")
        if status == 206:
            self._goes_on(headers)
            return False
        self._same_length(_length(headers))
        self.beginnings += 1
        self.received = 0
        self._tag = tag
        self._coding = coding
        self._validator = tag or _strong_date(headers)
        self._checks = _checks_of(headers)
        return True

    def _goes_on(self, headers: Headers) -> None:
        found = _RANGE.fullmatch(headers.get("content-range", ""))
        if found is None or int(found[1]) != self._asked_from or not self._asked_from:
            self._whole_only = True
            raise TransportError("the store gave another part than the one asked for")
        self._same_length(None if found[3] == "*" else int(found[3]))

    def _same_length(self, total: int | None) -> None:
        if total is None:
            return
        if self.total is not None and total != self.total:
            raise IntegrityError("the stored transcript changed during the download", what="length")
        self.total = total

    def take(self, data: bytes) -> None:
        """Count stored bytes that came."""
        self.received += len(data)
        for check in self._checks:
            check.update(data)

    def no_more(self, headers: Headers) -> bool:
        """Tell whether an answer that there is nothing more means that all is there.

        Raises:
            IntegrityError: It is another file now.
        """
        found = _UNMET.fullmatch(headers.get("content-range", ""))
        if found is None or not self._asked_from:
            self._whole_only = True
            return False
        if int(found[1]) != self.received or self.total not in (None, self.received):
            raise IntegrityError("the stored transcript changed during the download", what="length")
        return True

    @property
    def is_whole(self) -> bool:
        """A body that has ended was the last: the length told has come, or none was told."""
        return self.total is None or self.received >= self.total

    def verify(self) -> None:
        """Compare length and check sums with what the store told.

        Raises:
            IntegrityError: They differ.
        """
        if self.total is not None and self.received != self.total:
            raise IntegrityError(
                "the transcript has not its length", size=self.received, expected=self.total
            )
        for check in self._checks:
            if check.value() != check.expected:
                raise IntegrityError(
                    "the transcript has not its check sum", what=check.name, size=self.received
                )


# --- the content -----------------------------------------------------------------------------


class GivenOut:
    """The place in the content: what was given out is not given out again."""

    def __init__(self) -> None:
        self.size = 0
        self._digest = hashlib.sha256()
        self._again: hashlib._Hash | None = None
        self._left = 0

    def begin_again(self) -> None:
        """The content comes from its start once more."""
        self._left = self.size
        self._again = hashlib.sha256() if self.size else None

    def take(self, piece: bytes) -> bytes:
        """Return the part of a piece that is new, and count it as given out.

        Raises:
            IntegrityError: What came before is not what was given out.
        """
        if self._again is not None:
            known, piece = piece[: self._left], piece[self._left :]
            self._again.update(known)
            self._left -= len(known)
            if self._left:
                return b""
            if self._again.digest() != self._digest.digest():
                raise IntegrityError(
                    "the stored transcript changed during the download", what="content"
                )
            self._again = None
        self._digest.update(piece)
        self.size += len(piece)
        return piece

    def end(self) -> None:
        """Nothing more comes.

        Raises:
            IntegrityError: It ended before what was given out already.
        """
        if self._again is not None:
            raise IntegrityError("the stored transcript changed during the download", what="length")


# --- headers ---------------------------------------------------------------------------------


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class _Check:
    """One check sum over the stored bytes."""

    def __init__(self, name: str, made: _Hash, expected: bytes) -> None:
        self.name = name
        self.expected = expected
        self._made = made
        self.update = made.update

    def value(self) -> bytes:
        return self._made.digest()


def _md5() -> _Hash:
    return hashlib.md5(usedforsecurity=False)


def _sha1() -> _Hash:
    return hashlib.sha1(usedforsecurity=False)


_BASE64: Final[Mapping[str, tuple[str, Callable[[], _Hash], int]]] = {
    "x-amz-checksum-sha256": ("sha256", hashlib.sha256, 32),
    "x-amz-checksum-sha1": ("sha1", _sha1, 20),
    "x-amz-checksum-crc32": ("crc32", _Crc32, 4),
    "content-md5": ("md5", _md5, 16),
}


def _checks_of(headers: Headers) -> tuple[_Check, ...]:
    """Return the check sums an answer tells of its stored bytes, each once.

    A sum of parts (``…-3``) is none of the whole and has not the size of one. An ETag is an MD5
    only where Amazon's rules say so: not of objects encrypted by a key service or a customer.
    """
    checks: dict[str, _Check] = {}
    for header, (name, made, size) in _BASE64.items():
        told = _decoded(headers.get(header, ""))
        if len(told) == size:
            checks[name] = _Check(name, made(), told)
    for word in headers.get("x-goog-hash", "")[:_MAX_HEADER_CHARS].split(","):
        algorithm, _, text = word.strip().partition("=")
        told = _decoded(text)
        if algorithm == "md5" and len(told) == 16:
            checks["md5"] = _Check("md5", _md5(), told)
    if not checks and (tag := _MD5_TAG.fullmatch(headers.get("etag", ""))) and _is_s3(headers):
        checks["md5"] = _Check("md5", _md5(), bytes.fromhex(tag[1]))
    return tuple(checks.values())


def _is_s3(headers: Headers) -> bool:
    encryption = headers.get("x-amz-server-side-encryption", "AES256")
    return (
        ("x-amz-request-id" in headers or "x-amz-id-2" in headers)
        and encryption == "AES256"
        and "x-amz-server-side-encryption-customer-algorithm" not in headers
    )


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True) if len(text) <= _MAX_HEADER_CHARS else b""
    except ValueError:
        return b""


def _length(headers: Headers) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if _LENGTH.fullmatch(text) else None


def _strong_tag(headers: Headers) -> str:
    tag = headers.get("etag", "")
    fits = 2 < len(tag) <= _MAX_HEADER_CHARS and tag.isascii() and tag.isprintable()
    return tag if fits and tag[0] == tag[-1] == '"' else ""


def _strong_date(headers: Headers) -> str:
    told = headers.get("last-modified", "")
    changed, sent = _instant(told), _instant(headers.get("date", ""))
    if changed is None or sent is None or (sent - changed).total_seconds() < STRONG_DATE_S:
        return ""
    return told


def _instant(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text[:64])
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return at if at.tzinfo is not None else None
