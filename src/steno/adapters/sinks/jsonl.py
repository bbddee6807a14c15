"""JSON lines into a file of one's own, or to standard output.

A record is acknowledged after the fsync of its line. The file always ends with a whole line:
what a killed process left unfinished is cut off at the next start, and a write that failed is
taken back, so that a record tried again is not written twice.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec

from steno.adapters.durable_files import sync_folder
from steno.adapters.sinks.appending import STDOUT, AppendedFile, AppendedStdout
from steno.adapters.sinks.encoding import to_json
from steno.core.records import Kind, Record
from steno.errors import ConfigError, IntegrityError, SinkUnavailable, StorageError
from steno.ports import Ack, BatchShape, Outcome, Reject

ALL_KINDS: Final = frozenset(Kind)
REMEMBERED: Final = 8192  # record ids known to be in the file: more than can be in flight
_ACK: Final = Ack()


class _Written(msgspec.Struct):
    """The id of a line that is read back."""

    id: str


def utc_now() -> datetime:
    """Return the time that names rotated files and starts a new day."""
    return datetime.now(UTC)


class JsonLinesSink:
    """Appends records to a file.

    Args:
        path: The file, or ``-`` for standard output. Made with mode 0600.
        max_bytes: A file of this size is put aside under a name with the time in it; 0 never.
        daily: Begin a new file with each UTC day.
        clock: Wall-clock time, aware, in UTC.

    Raises:
        ConfigError: The path cannot be a file of ours.
    """

    def __init__(
        self,
        path: str,
        *,
        name: str = "jsonl",
        kinds: frozenset[Kind] = ALL_KINDS,
        max_bytes: int = 0,
        daily: bool = False,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if not path or "\0" in path:
            raise ConfigError("the file has no usable name", setting="path")
        self._file: _Target = (
            _Stdout() if path == STDOUT else _File(Path(path), max_bytes, daily, clock)
        )
        self._name = name
        self._kinds = kinds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jsonl-sink")
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
        """Large batches, one fsync each; the next one is encoded while the first is written."""
        return BatchShape(512, False, 2)

    async def deliver(self, records: Sequence[Record]) -> list[Outcome]:
        """Write the records and return once they are durable.

        Raises:
            SinkUnavailable: The file cannot be written; it is as it was before.
        """
        if self._closed:
            raise SinkUnavailable(cause="SinkClosed")
        outcomes: list[Outcome] = []
        lines: dict[str, bytes] = {}
        for record in records:
            try:
                lines[record.id] = to_json(record) + b"\n"
            except IntegrityError:
                outcomes.append(Reject("IntegrityError"))
            else:
                outcomes.append(_ACK)
        try:
            # A write cannot be interrupted: when our caller is cancelled, it still ends whole.
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.append, lines)
        except StorageError as error:
            errno = error.fields.get("errno")
            raise SinkUnavailable(error.summary, cause=error.error_class, errno=errno) from None
        return outcomes

    async def close(self) -> None:
        """Close the file after what is being written."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._file.close)
        self._thread.shutdown()


class _Target(Protocol):
    """Where lines go; called from one thread."""

    def append(self, lines: dict[str, bytes]) -> None:
        """Write lines that are not there yet, durably; the keys are the records' ids."""

    def close(self) -> None:
        """Let go of the file."""


class _Stdout(AppendedStdout):
    def append(self, lines: dict[str, bytes]) -> None:
        self.write(b"".join(lines.values()))

    def close(self) -> None:
        """Leave standard output open; it is not ours."""


class _File(AppendedFile):
    def __init__(
        self, path: Path, max_bytes: int, daily: bool, clock: Callable[[], datetime]
    ) -> None:
        super().__init__(path)
        self._max_bytes = max_bytes
        self._daily = daily
        self._clock = clock
        self._day: date | None = None
        self._known: dict[str, None] = {}

    def append(self, lines: dict[str, bytes]) -> None:
        try:
            if not self.is_open:
                self.open()
            fresh = {name: line for name, line in lines.items() if name not in self._known}
            data = b"".join(fresh.values())
            if not data:
                return
            self._rotate_if_due(len(data))
            self.write(data)
        except OSError as exc:
            raise StorageError("the file cannot be written", errno=exc.errno) from exc
        self._remember(fresh)

    def open(self) -> bytes:
        """Open, and remember the last ids."""
        lines = super().open()
        written = datetime.fromtimestamp(os.fstat(self._fd).st_mtime, UTC).date()
        self._day = written if self._size else self._clock().date()
        decode = msgspec.json.Decoder(_Written).decode
        for line in lines.split(b"\n")[-REMEMBERED - 1 :]:
            try:
                self._remember({decode(line).id: b""})
            except msgspec.MsgspecError:
                continue  # not a line of ours; it stays as it is
        return lines

    def _remember(self, lines: dict[str, bytes]) -> None:
        known = self._known
        for name in lines:
            known[name] = None
        while len(known) > REMEMBERED:
            del known[next(iter(known))]

    def _rotate_if_due(self, more_bytes: int) -> None:
        today = self._clock().date()
        is_full = self._max_bytes > 0 and self._size + more_bytes > self._max_bytes
        is_new_day = self._daily and today != self._day
        if self._size and (is_full or is_new_day):
            self._put_aside()
            self.open()
        self._day = today

    def _put_aside(self) -> None:
        """Rename the file; ``link`` never replaces one that is there, as ``rename`` would."""
        at = self._clock().strftime("%Y%m%dT%H%M%S")
        for number in range(1000):
            suffix = f"-{number}" if number else ""
            aside = self._path.with_name(f"{self._path.stem}-{at}Z{suffix}{self._path.suffix}")
            try:
                os.link(self._path, aside, follow_symlinks=False)
            except FileExistsError:
                continue
            os.unlink(self._path)
            sync_folder(self._path.parent)
            self.close()
            return
        raise StorageError("no free name for the full file")
