"""Reading an upgrade request out of what a tool printed: tcpdump, a proxy's log, ``curl -v``."""

from __future__ import annotations

import re
import textwrap
from typing import Final

from steno.errors import ConfigError, RemoteProtocolError
from steno.ports.audio_server import UpgradeRequest
from steno.wire.audiohook.explanation import parse_capture

MAX_BYTES: Final = 65_536
"""Of a captured text that is looked at; a request head is a few kilobytes."""

_REQUEST_LINE: Final = re.compile(r"\bGET \S+ HTTP/\d(?:\.\d)?\s*$")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*:")
_SENT: Final = re.compile(r"> ?")
_ASIDE: Final = re.compile(r"[*<{}] ?")


def read_captured(data: bytes) -> UpgradeRequest:
    """Return the first upgrade request in a captured text.

    What stands before the request line is skipped (tcpdump prints packet headers there), of
    ``curl -v`` only the lines marked ``>`` are read, and a value folded over lines is joined. The
    head ends at an empty line, or at the end of the text. Genesys dials over TLS, so the request
    counts as secure: a port 443 in it is the default one.

    Raises:
        ConfigError: There is no request line of a GET, or a line is no header.
    """
    lines = data[:MAX_BYTES].decode("utf-8", "replace").splitlines()
    if any(_SENT.match(line) and _REQUEST_LINE.search(line) for line in lines):
        lines = [_SENT.sub("", line, count=1) for line in lines if not _ASIDE.match(line)]
    else:
        lines = textwrap.dedent("\n".join(lines)).split("\n")
    for number, line in enumerate(lines):
        found = _REQUEST_LINE.search(line)
        if found is not None:
            return _parsed([found[0].rstrip(), *_unfolded(lines[number + 1 :])])
    raise ConfigError(
        "no request line of an upgrade found",
        fix="Give the head of the request as text, from its line GET … HTTP/1.1 on.",
        setting="captured request",
    )


def _unfolded(lines: list[str]) -> list[str]:
    """Return header lines up to the empty one, continuation lines joined by one space.

    Raises:
        ConfigError: A line is neither.
    """
    head: list[str] = []
    for line in lines:
        if not line.strip():
            break
        if line[0] in " \t" and head:  # obsolete folding, RFC 9112 5.2
            head[-1] = f"{head[-1].rstrip()} {line.strip()}"
        elif _HEADER.match(line):
            head.append(line)
        else:
            raise _unreadable("a line of the captured request is no header")
    return head


def _parsed(lines: list[str]) -> UpgradeRequest:
    try:
        return parse_capture("\n".join(lines))
    except RemoteProtocolError as error:
        raise _unreadable(error.summary) from error


def _unreadable(summary: str) -> ConfigError:
    return ConfigError(
        summary,
        fix="Give the head exactly as it was sent, one header a line, nothing wrapped.",
        setting="captured request",
    )
