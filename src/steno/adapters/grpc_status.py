"""What a gRPC status says about a record, about the peer, or about us.

The table is the whole policy, and a test walks through every status code there is. A status
that blames the peer or our credentials never costs a record an attempt; one that blames the
record never stops the records of other conversations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import grpc

from steno.core.timing import parse_retry_after
from steno.errors import SinkUnavailable

MAX_DETAILS_BYTES: Final = 8192


class Blame(StrEnum):
    """Whose fault a failed call is, which decides what happens to the record."""

    NOBODY = "nobody"  # the consumer has the record already: as good as an acknowledgement
    PEER = "peer"  # not now; the record keeps its attempts
    CREDENTIALS = "credentials"  # about us: the record waits until an operator has acted
    RECORD_NOW = "record_now"  # this record, perhaps not next time: bounded attempts
    RECORD = "record"  # this record, for ever: dead letter


_Code = grpc.StatusCode

# INTERNAL, UNKNOWN and DATA_LOSS are what servers answer when their handler raised: it may be
# the record that trips it, so its attempts are counted and it cannot block the lane for ever.
POLICY: Final[dict[grpc.StatusCode, tuple[Blame, str]]] = {
    _Code.OK: (Blame.PEER, "StreamEnded"),  # only as the end of a stream that still owed acks
    _Code.CANCELLED: (Blame.PEER, "PeerUnavailable"),
    _Code.UNKNOWN: (Blame.RECORD_NOW, "ConsumerFailed"),
    _Code.INVALID_ARGUMENT: (Blame.RECORD, "ConsumerRefused"),
    _Code.DEADLINE_EXCEEDED: (Blame.PEER, "TimedOut"),
    _Code.NOT_FOUND: (Blame.RECORD, "ConsumerRefused"),
    _Code.ALREADY_EXISTS: (Blame.NOBODY, ""),
    _Code.PERMISSION_DENIED: (Blame.CREDENTIALS, "AuthError"),
    _Code.RESOURCE_EXHAUSTED: (Blame.PEER, "RateLimited"),
    _Code.FAILED_PRECONDITION: (Blame.RECORD, "ConsumerRefused"),
    _Code.ABORTED: (Blame.RECORD_NOW, "ConsumerAborted"),
    _Code.OUT_OF_RANGE: (Blame.RECORD, "ConsumerRefused"),
    _Code.UNIMPLEMENTED: (Blame.PEER, "NotOffered"),
    _Code.INTERNAL: (Blame.RECORD_NOW, "ConsumerFailed"),
    _Code.UNAVAILABLE: (Blame.PEER, "PeerUnavailable"),
    _Code.DATA_LOSS: (Blame.RECORD_NOW, "ConsumerFailed"),
    _Code.UNAUTHENTICATED: (Blame.CREDENTIALS, "AuthError"),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A failed call judged; ``reason`` is a class of ours, never the peer's words."""

    blame: Blame
    reason: str
    retry_after_s: float | None = None
    code: str = ""

    def as_error(self) -> SinkUnavailable:
        """Return the error for a call of which nothing is known."""
        return SinkUnavailable(
            cause=self.reason, retry_after_s=self.retry_after_s, code=self.code or None
        )


TIMED_OUT = Verdict(Blame.PEER, "TimedOut", code="ACK_DEADLINE")
CLOSED = Verdict(Blame.PEER, "SinkClosed")
PROTOCOL_BROKEN = Verdict(Blame.PEER, "RemoteProtocolError")


def judge(error: grpc.aio.AioRpcError) -> Verdict:
    """Judge a failed call by its status and by the wait the peer asks for."""
    code = error.code()
    blame, reason = POLICY[code]
    wait_s = None
    if blame in (Blame.PEER, Blame.RECORD_NOW):
        wait_s = retry_after_s(error.trailing_metadata() or ())
    return Verdict(blame, reason, wait_s, code.name)


def retry_after_s(metadata: Iterable[tuple[str, str | bytes]]) -> float | None:
    """Return the wait in seconds that trailing metadata ask for, bounded; None without one.

    Understood: ``retry-after`` in seconds or as a date, ``grpc-retry-pushback-ms``, and a
    ``google.rpc.RetryInfo`` in ``grpc-status-details-bin``.
    """
    for name, value in metadata:
        found: float | None = None
        match name:
            case "retry-after":
                found = parse_retry_after(_text(value), datetime.now(UTC))
            case "grpc-retry-pushback-ms":
                found = _in_seconds(_text(value))
            case "grpc-status-details-bin" if isinstance(value, bytes):
                found = _retry_info_s(value)
        if found is not None:
            return found
    return None


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _in_seconds(milliseconds: str) -> float | None:
    if not (milliseconds.isascii() and milliseconds.isdigit() and len(milliseconds) < 12):
        return None
    return parse_retry_after(str(int(milliseconds) / 1000), datetime.now(UTC))


def _retry_info_s(status: bytes) -> float | None:
    """Read ``google.rpc.Status`` (details = 3) → ``Any`` → ``RetryInfo`` → ``Duration``.

    Read by hand: the messages live in a package of their own which nothing else needs.
    """
    if len(status) > MAX_DETAILS_BYTES:
        return None
    try:
        for detail in _fields(status).get(3, []):
            any_fields = _fields(_as_bytes(detail))
            if not _as_bytes(any_fields[1][0]).endswith(b"/google.rpc.RetryInfo"):
                continue
            duration = _fields(_as_bytes(_fields(_as_bytes(any_fields[2][0]))[1][0]))
            seconds, nanos = duration.get(1, [0])[0], duration.get(2, [0])[0]
            if isinstance(seconds, int) and isinstance(nanos, int) and seconds < 1 << 40:
                return parse_retry_after(f"{seconds}.{nanos % 10**9:09d}", datetime.now(UTC))
    except (IndexError, KeyError, TypeError):
        return None  # malformed details ask for nothing
    return None


def _fields(message: bytes) -> dict[int, list[int | bytes]]:
    """Split a protobuf message into its varint and length-delimited fields."""
    found: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value: int | bytes
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
            case 2:
                size, at = _varint(message, at)
                if at + size > len(message):
                    raise IndexError
                value, at = message[at : at + size], at + size
            case 1:
                at += 8
                continue
            case 5:
                at += 4
                continue
            case _:
                raise IndexError
        found.setdefault(tag >> 3, []).append(value)
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise IndexError


def _as_bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError
    return value
