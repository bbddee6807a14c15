"""Records as rows: keys, checksums, and the way back with everything verified."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import Any, Final

from steno.core.records import Draft, Kind, Origin, Record
from steno.delivery.ids import record_id
from steno.errors import IntegrityError

Value = None | int | float | bytes | str

COLUMNS: Final = (
    "position, tail, conversation, slot, kind, source, lane, utterance, revision, key, seq,"
    " prev_seq, origin, at_us, wanted, crc, payload"
)
WIDTH: Final = 17

PLACED_COLUMNS: Final = COLUMNS + ", place_us, placed"
PLACED_WIDTH: Final = WIDTH + 2

SELECTED: Final = (
    "r.position, r.tail, c.name, r.kind, r.source, r.lane, r.utterance, r.revision, r.key,"
    " r.seq, r.prev_seq, r.origin, r.at_us, r.crc, r.payload, r.place_us"
)
"""What ``decoded`` wants, from ``records r JOIN conversations c``."""
SELECTED_WIDTH: Final = 16

SELECTED_V1: Final = SELECTED.replace("r.place_us", "NULL")
"""The same, from a store of version 1, whose records have no place."""

_KINDS: Final = {str(kind): kind for kind in Kind}
_ORIGINS: Final = {str(origin): origin for origin in Origin}
_KEY_BYTES: Final = 32
_MIX: Final = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: revisions of a key spread over the range
_MASK: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63


def key_value(key: str) -> bytes | str:
    """Return how a record key is kept: half the size where it is a SHA-256 in hex."""
    if len(key) == 2 * _KEY_BYTES:
        try:
            raw = bytes.fromhex(key)
        except ValueError:
            return key
        # fromhex also takes capitals and blanks; only what comes back the same is kept short.
        return raw if raw.hex() == key else key
    return key


def slot_of(key: bytes | str, revision: int) -> int:
    """Return the 64-bit place of (key, revision) within its conversation, signed."""
    raw = key if isinstance(key, bytes) else hashlib.sha256(key.encode()).digest()
    value = (int.from_bytes(raw[:8], "big") + revision * _MIX) & _MASK
    return value - (1 << 64) if value & _SIGN else value


def next_slot(slot: int) -> int:
    """Return the place to try when another key has taken ``slot``."""
    return slot + 1 if slot < _SIGN - 1 else -_SIGN


def checksum(record: Record, place_us: int | None) -> int:
    """Return the CRC-32 over every field of a record, and over its place if it has one."""
    head = (
        f"{record.id}\x1f{record.kind}\x1f{record.source}\x1f{record.conversation}"
        f"\x1f{record.lane}\x1f{record.utterance}\x1f{record.revision}\x1f{record.key}"
        f"\x1f{record.seq}\x1f{record.prev_seq}\x1f{record.origin}\x1f{record.at_us}"
    )
    if place_us is not None:
        head = f"{head}\x1f{place_us}"
    return zlib.crc32(record.payload, zlib.crc32(head.encode()))


def committed(draft: Draft, position: int, tail: int, seq: int) -> Record:
    """Return the record that a draft becomes at its place."""
    return Record(
        record_id(position, tail),
        draft.kind,
        draft.source,
        draft.conversation,
        draft.lane,
        draft.utterance,
        draft.revision,
        draft.key,
        seq,
        seq - 1,
        draft.origin,
        draft.at_us,
        draft.payload,
        draft.received_s,
    )


def decoded(row: Sequence[Any]) -> Record:  # Any: SQLite's values, checked here
    """Return the record of a row of ``SELECTED``.

    Raises:
        IntegrityError: The row is not what was written.
    """
    (
        position,
        tail,
        conversation,
        kind,
        source,
        lane,
        utterance,
        revision,
        key,
        seq,
        prev_seq,
        origin,
        at_us,
        crc,
        payload,
        place_us,
    ) = row
    try:
        record = Record(
            record_id(position, tail),
            _KINDS[kind],
            source,
            conversation,
            lane,
            utterance,
            revision,
            key.hex() if isinstance(key, bytes) else key,
            seq,
            prev_seq,
            _ORIGINS[origin],
            at_us,
            payload,
        )
        if checksum(record, place_us) == crc:
            return record
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    raise IntegrityError("a stored record is damaged", position=position)
