"""Recorded events from files and standard input, packed with gzip or not.

``RecordedEvents`` reads one input after the other in blocks, unpacks, and cuts into messages
(``wire.recorded_events``). One block, what it unpacks to, and one message are in memory.
A pipe is waited for in a way that ``close`` can end: a thread that sits in ``read`` could not
be stopped.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from steno.errors import ConfigError, StorageError
from steno.ports.recorded import Batch, Unreadable
from steno.wire.recorded_events import MAX_MESSAGE_BYTES, Cutter, Form

BLOCK_BYTES = 256 * 1024

_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31  # zlib: 15 bits, with gzip's header and check sum
_STRANGE = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"PK\x03\x04": "zip",
    b"PAR1": "Parquet",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_MAGIC_BYTES = max(map(len, _STRANGE))


class RecordedEvents:
    """Reads inputs in order; an ``EventReader``.

    Args:
        paths: Files, named pipes or devices; None stands for standard input.
        max_message_bytes: Longer messages are passed over and told as unreadable.
        form: How messages follow one another.
        block_bytes: Read, and unpacked, at a time.

    Raises:
        ConfigError: An input is missing, a folder, or may not be read.
    """

    def __init__(
        self,
        paths: Sequence[Path | None],
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        form: Form = Form.AUTO,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._max_bytes = max_message_bytes
        self._form = form
        self._block_bytes = block_bytes
        self._lock = threading.Lock()
        self._closing = False
        self._done = 0
        self._inputs: list[_Input] = []
        self._wake_read, self._wake_write = os.pipe()
        try:
            for number, path in enumerate(paths, 1):
                self._inputs.append(_Input(path, number, self._wake_read))
        except BaseException:
            self.close()
            raise
        sizes = [one.size_bytes for one in self._inputs]
        self._total = None if None in sizes else sum(size or 0 for size in sizes)
        self._batches = self._all()

    @property
    def total_bytes(self) -> int | None:
        """Size of all inputs as stored; None when one is a pipe."""
        return self._total

    def read(self) -> Batch | None:
        """Return what comes next, waiting for it; None at the end, or after ``close``.

        Raises:
            ConfigError: The input is packed or encoded in a way that is not read.
            StorageError: Reading failed.
        """
        with self._lock:
            return None if self._closing else next(self._batches, None)

    def close(self) -> None:
        """Let a ``read`` that waits return, and let go of the files. Safe from any thread."""
        if self._closing:
            return
        self._closing = True
        os.close(self._wake_write)  # whoever waits for a pipe sees this one's end
        with self._lock:
            for one in self._inputs:
                one.close()
            os.close(self._wake_read)

    def _all(self) -> Iterator[Batch]:
        for one in self._inputs:
            for batch in self._batches_of(one):
                yield msgspec.structs.replace(batch, file=one.number, done_bytes=self._done)
            one.close()

    def _batches_of(self, one: _Input) -> Iterator[Batch]:
        cutter = Cutter(max_bytes=self._max_bytes, form=self._form)
        damage: Unreadable | None = None
        for block in self._unpacked(one):
            if isinstance(block, Unreadable):
                damage = block
                break
            batch = cutter.receive(block)
            if batch is not None:
                yield batch
            if self._closing:
                return
        last = cutter.end()
        if last is not None:
            yield last
        if damage is not None:
            yield Batch(unreadable=(damage,))

    def _unpacked(self, one: _Input) -> Iterator[bytes | Unreadable]:
        head = b""
        while len(head) < _MAGIC_BYTES and (block := self._block(one)):
            head += block
        for magic, name in _STRANGE.items():
            if head.startswith(magic):
                raise ConfigError(
                    f"recorded events in {name} are not read",
                    setting="input",
                    fix="Give UTF-8 text, plain or packed with gzip; or unpack it into a pipe.",
                    file=one.number,
                )
        blocks = self._blocks(one, head)
        return self._gunzipped(blocks) if head.startswith(_GZIP) else blocks

    def _blocks(self, one: _Input, head: bytes) -> Iterator[bytes]:
        while head:
            yield head
            head = self._block(one)

    def _block(self, one: _Input) -> bytes:
        block = b"" if self._closing else one.read(self._block_bytes)
        self._done += len(block)
        return block

    def _gunzipped(self, blocks: Iterator[bytes]) -> Iterator[bytes | Unreadable]:
        """Yield what is packed, of all members; at damage, one note instead of the rest."""
        unpack = zlib.decompressobj(_GZIP_WINDOW)
        unpacked = 0
        for packed in blocks:
            rest, more = packed, False
            while rest or more:
                if unpack.eof:
                    rest = rest.lstrip(b"\0")  # padding of tapes and block devices
                    if not rest:
                        break
                    unpack = zlib.decompressobj(_GZIP_WINDOW)
                try:
                    data = unpack.decompress(rest, self._block_bytes)
                except zlib.error:
                    yield Unreadable(0, unpacked, 0, "", "damaged")
                    return
                unpacked += len(data)
                if data:
                    yield data
                # A full piece: there may be more inside, even when nothing is left to put in.
                more = len(data) == self._block_bytes and not unpack.eof
                rest = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
        if not unpack.eof and not self._closing:
            yield Unreadable(0, unpacked, 0, "", "truncated")


class _Input:
    """One file, or standard input."""

    def __init__(self, path: Path | None, number: int, wake: int) -> None:
        self.number = number
        self._wake = wake
        self._owned = path is not None
        self._fd = -1
        try:
            # A named pipe would block here until somebody writes; it is waited for in ``read``.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
            self._fd = sys.stdin.fileno() if path is None else os.open(path, flags)
            facts = os.fstat(self._fd)
        except (OSError, ValueError) as exc:  # ValueError: standard input is closed
            self.close()
            reason = os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else "closed"
            raise ConfigError(
                f"recorded events cannot be opened: {reason.lower()}", setting="input", file=number
            ) from None
        if stat.S_ISDIR(facts.st_mode):
            self.close()
            raise ConfigError(
                "recorded events are in a file, and this is a folder", setting="input", file=number
            )
        self._is_regular = stat.S_ISREG(facts.st_mode)
        self.size_bytes = facts.st_size if self._is_regular else None

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, waiting for the first; nothing at the end."""
        try:
            while True:
                if not self._is_regular and not self._wait():
                    return b""
                try:
                    return os.read(self._fd, size)
                except BlockingIOError:
                    continue
        except OSError as exc:
            raise StorageError(
                "recorded events cannot be read", file=self.number, errno=exc.errno
            ) from exc

    def _wait(self) -> bool:
        """Return True when there is something to read, or the end; False after ``close``."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(self._fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        return self._wake not in ready

    def close(self) -> None:
        """Let go of the file; standard input is not ours to close."""
        if self._owned and self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
