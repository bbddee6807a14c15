"""Reads the head of an upgrade request (RFC 9112, RFC 6455 section 4.2.1), strictly.

Whatever two readers of a request could understand differently is refused, so that a proxy in
front of us and we ourselves never disagree about where it ends or what it says. What comes out
is a value or a refusal; nothing is raised.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import Final

import msgspec

from steno.ports.audio_server import Refuse

MAX_HEAD_BYTES: Final = 16_384
MAX_HEADERS: Final = 100

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET: Final = re.compile(rb"/[!-\"$-~]*")  # origin form, no fragment
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(:[0-9]{1,5})?")
_ONCE: Final = (
    "authorization", "content-length", "origin", "sec-websocket-key", "sec-websocket-version",
)  # fmt: skip


class Head(msgspec.Struct, frozen=True):
    """A request's head: method, target, and headers with names in lower case, in order."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def values(self, name: str) -> list[str]:
        """Return all values of a header, in order."""
        return [value for key, value in self.headers if key == name]

    def tokens(self, name: str) -> list[str]:
        """Return the elements of a header which is a list, as written."""
        return [item.strip() for value in self.values(name) for item in value.split(",")]


class Offer(msgspec.Struct, frozen=True):
    """What a valid upgrade brings along: its key, and the subprotocols it would speak."""

    key: str
    subprotocols: tuple[str, ...]


def parse_head(data: bytes) -> Head | Refuse:
    """Return the head that ``data`` is, from the request line to the empty line's end."""
    lines = data[:-4].split(b"\r\n")
    if len(lines) - 1 > MAX_HEADERS:
        return Refuse(431, "too_many_headers")
    start = lines[0].split(b" ")
    if len(start) != 3 or not _TOKEN.fullmatch(start[0]) or not _TARGET.fullmatch(start[1]):
        return Refuse(400, "bad_request_line")
    if start[2] != b"HTTP/1.1":
        return Refuse(505 if start[2] == b"HTTP/1.0" else 400, "http_version")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        # No space before the colon, no folded line: both fail as a name.
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            return Refuse(400, "bad_header")
        headers.append((name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")))
    head = Head(start[0].decode("ascii"), start[1].decode("ascii"), tuple(headers))
    return _framing_refused(head) or head


def _framing_refused(head: Head) -> Refuse | None:
    """Refuse what would make the request's end, or its addressee, a matter of opinion."""
    hosts = head.values("host")
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        return Refuse(400, "bad_host")
    if head.values("transfer-encoding"):
        return Refuse(400, "body_refused")
    if any(len(head.values(name)) > 1 for name in _ONCE):
        return Refuse(400, "repeated_header")
    if any(length != "0" for length in head.values("content-length")):
        return Refuse(400, "body_refused")
    return None


def check_upgrade(head: Head) -> Offer | Refuse:
    """Tell whether the request is a WebSocket upgrade as RFC 6455, 4.2.1 wants it."""
    if head.method != "GET":
        return Refuse(405, "method", headers=(("Allow", "GET"),))
    asked = "websocket" in map(str.lower, head.tokens("upgrade"))
    if not asked or "upgrade" not in map(str.lower, head.tokens("connection")):
        return Refuse(426, "not_an_upgrade", headers=(("Upgrade", "websocket"),))
    if head.values("sec-websocket-version") != ["13"]:
        wanted = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
        return Refuse(426, "websocket_version", headers=wanted)
    keys = head.values("sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        return Refuse(400, "bad_key")
    return Offer(keys[0], tuple(name for name in head.tokens("sec-websocket-protocol") if name))


def _is_key(text: str) -> bool:
    try:
        return len(b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
