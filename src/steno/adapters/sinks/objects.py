"""Records as JSON-lines objects in S3, GCS, Azure, a folder or memory.

The key of an object follows from its first record alone, and an object is only ever created,
never replaced. So a put that is repeated, because its answer was lost, finds its own work: what
the object already holds is acknowledged, and what it lacks goes into an object of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec
import obstore
from obstore import exceptions as failures

from steno.adapters.object_store import StoreSettings, open_store, reason_of
from steno.adapters.sinks.encoding import to_json
from steno.core.ids import is_id, quoted
from steno.core.records import Kind, Record
from steno.errors import IntegrityError, SinkUnavailable
from steno.ports import Ack, BatchShape, Outcome, Reject

ALL_KINDS: Final = frozenset(Kind)
MAX_OBJECT_BYTES: Final = 64 * 1024 * 1024  # read back to compare; ours are far smaller

_ACK: Final = Ack()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectsSettings(StoreSettings):
    """One bucket or folder, and how much goes into it at once.

    Attributes:
        max_records: Records of one object.
    """

    max_records: int = 500
    max_in_flight: int = 8


class _Line(msgspec.Struct):
    id: str


class ObjectsSink:
    """Writes records as objects.

    Raises:
        ConfigError: The URL or an option is not acceptable.
    """

    def __init__(
        self,
        settings: ObjectsSettings,
        *,
        name: str = "objects",
        kinds: frozenset[Kind] = ALL_KINDS,
    ) -> None:
        self._settings = settings
        self._store, self._prefix, self._folder = open_store(settings)
        self._name = name
        self._kinds = kinds
        self._closed = False

    @property
    def name(self) -> str:
        """Destination name."""
        return self._name

    @property
    def kinds(self) -> frozenset[Kind]:
        """Kinds written."""
        return self._kinds

    @property
    def shape(self) -> BatchShape:
        """Many records of one conversation in one object; conversations side by side."""
        return BatchShape(self._settings.max_records, True, self._settings.max_in_flight)

    async def deliver(self, records: Sequence[Record]) -> list[Outcome]:
        """Write the records; each run of one kind, day and conversation is an object.

        Raises:
            SinkUnavailable: The store cannot be written now. Field ``cause``.
        """
        if self._closed:
            raise SinkUnavailable(cause="SinkClosed")
        outcomes: list[Outcome] = [_ACK] * len(records)
        lines: list[tuple[int, Record, bytes]] = []
        for place, record in enumerate(records):
            try:
                if not is_id(record.id):
                    raise IntegrityError("a record's id is not acceptable")
                lines.append((place, record, to_json(record) + b"\n"))
            except IntegrityError:
                outcomes[place] = Reject("IntegrityError")
        for folder, run in groupby(lines, key=lambda line: folder_of(line[1])):
            await self._write(folder, list(run), outcomes)
        return outcomes

    async def close(self) -> None:
        """Take nothing more; the library holds no connection that needs closing."""
        self._closed = True

    async def _write(
        self, folder: str, run: list[tuple[int, Record, bytes]], outcomes: list[Outcome]
    ) -> None:
        while run:
            key = f"{self._prefix}{folder}/{quoted(run[0][1].id)}.jsonl"
            data = b"".join(line for _, _, line in run)
            if await self._create(key, data):
                return
            existing = await self._read(key)
            if existing == data:
                return  # an earlier try, whose answer was lost
            run = self._what_it_lacks(existing, run, outcomes)

    def _what_it_lacks(
        self,
        existing: bytes,
        run: list[tuple[int, Record, bytes]],
        outcomes: list[Outcome],
    ) -> list[tuple[int, Record, bytes]]:
        """Return the records an earlier try did not include; settle the others."""
        stored = _by_id(existing)
        lacking = []
        for place, record, line in run:
            found = stored.get(record.id)
            if found == line:
                continue
            if found is not None or record is run[0][1]:
                # The key is this record's, and something else is stored there.
                outcomes[place] = Reject("PreconditionFailed")
                continue
            lacking.append((place, record, line))
        return lacking

    async def _create(self, key: str, data: bytes) -> bool:
        """Create an object; False when there is one of that name."""
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                await obstore.put_async(self._store, key, data, mode="create")
                if self._folder is not None:
                    await asyncio.to_thread(_make_durable, self._folder, key)
        except (failures.AlreadyExistsError, failures.PreconditionError):
            return False
        except TimeoutError:
            raise SinkUnavailable(cause="TimedOut") from None
        except (failures.BaseError, OSError) as error:
            raise SinkUnavailable(cause=reason_of(error)) from None
        return True

    async def _read(self, key: str) -> bytes:
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                found = await obstore.get_async(self._store, key)
                if found.meta["size"] > MAX_OBJECT_BYTES:
                    return b""
                return bytes(await found.bytes_async())
        except TimeoutError:
            raise SinkUnavailable(cause="TimedOut") from None
        except (failures.BaseError, OSError) as error:
            raise SinkUnavailable(cause=reason_of(error)) from None


def folder_of(record: Record) -> str:
    """Return ``kind/yyyy/mm/dd/{hash}``: nothing a peer named appears in it.

    The hash is that of the conversation: its objects are found together, and spread evenly.
    """
    day = (_EPOCH + timedelta(microseconds=record.at_us)).strftime("%Y/%m/%d")
    spread = hashlib.sha256(record.conversation.encode()).hexdigest()[:8]
    return f"{record.kind.value}/{day}/{spread}"


def _by_id(data: bytes) -> dict[str, bytes]:
    decode = msgspec.json.Decoder(_Line).decode
    found: dict[str, bytes] = {}
    for line in data.splitlines(keepends=True):
        try:
            found[decode(line).id] = line
        except msgspec.MsgspecError:
            continue  # not ours
    return found


def _make_durable(folder: Path, key: str) -> None:
    """Fsync an object in a local folder and the folders that lead to it; nobody else reads it."""
    path = folder / key
    for one in (path, *path.parents):
        fd = os.open(one, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(fd, 0o600 if one == path else 0o700)
            os.fsync(fd)
        finally:
            os.close(fd)
        if one == folder:
            return
