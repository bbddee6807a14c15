"""The one writer of an audit log: chains lines, makes them durable, rotates, recovers.

The order of every write is: the lines, fsync; the head note, fsync; then it counts. So the head
note never tells of a line that is not there, and what lies beyond it when the log is opened was
never acknowledged: it is put into a file of its own, and a line says so. To take it in instead
would let anyone add entries to a log at rest and have them sealed by the next start.

A log that ends before its head note's line is not opened: going on would hide the loss.

Everything here blocks; ``AuditLog`` calls it in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn

from steno.adapters.audit_log.files import (
    AuditPlaces,
    HeadFile,
    aside_name,
    rotated_files,
    rotated_name,
    write_at,
)
from steno.adapters.audit_log.keys import load_signer, publish, read_public_keys
from steno.adapters.durable_files import sync_folder
from steno.core.audit_chain import (
    MAX_UNSEALED,
    AuditEntry,
    Checkpoint,
    Head,
    Signer,
    Tip,
    checkpoint_line,
    decode_line,
    entry_line,
    fingerprint,
    head_note,
    key_line,
    line_hash,
    recovered_line,
)
from steno.core.audit_verify import split_lines
from steno.errors import IntegrityError, StorageError, StorageFull
from steno.ports import Telemetry

DEFAULT_MAX_BYTES: Final = 16 << 20
DEFAULT_CHECKPOINT_EVERY: Final = 250
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MAX_NAMES: Final = 1000


class ChainWriter:
    """Writes one log; made by ``open``.

    Args:
        places: Where its parts lie.
        clock: The time, aware.
        telemetry: Told of a recovery.
        checkpoint_every: A checkpoint follows so many lines at the latest, 1 to ``MAX_UNSEALED``.
        max_bytes: A file that has grown to this is put away before the next write.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        places: AuditPlaces,
        *,
        clock: Callable[[], datetime],
        telemetry: Telemetry,
        checkpoint_every: int = DEFAULT_CHECKPOINT_EVERY,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        if not 1 <= checkpoint_every <= MAX_UNSEALED or max_bytes < 1:
            raise ValueError(f"checkpoint_every is 1 to {MAX_UNSEALED}, max_bytes at least 1")
        self._places = places
        self._clock = clock
        self._telemetry = telemetry
        self._every = checkpoint_every
        self._max_bytes = max_bytes
        self._tip = Tip()
        self._fd = -1
        self._offset = 0
        self._first_seq = 1
        self._revision = 0
        self._stale = False
        self._broken = False
        self._head: HeadFile | None = None
        self._signer: Signer | None = None

    @property
    def tip(self) -> Tip:
        """The last line that counts."""
        return self._tip

    @property
    def key_id(self) -> str:
        """Fingerprint of the key that signs."""
        return self._key.key_id

    # --- opening ---

    def open(self) -> None:
        """Take the log, and put right what a kill left.

        Raises:
            StorageError: Another process writes it, or it cannot be used.
            StorageFull: There is no room.
            IntegrityError: It is not as its writer left it.
            ConfigError: The key file can be used by others.
        """
        places = self._places
        try:
            for folder in (places.key.parent, places.head.parent, places.log.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._head = HeadFile(places.head)
            self._signer = load_signer(places.key)
            publish(places.public_keys, self._signer.public_key)
            self._load()
        except OSError as exc:
            self._let_go()
            raise _storage_error(exc) from exc
        except BaseException:
            self._let_go()
            raise

    def _load(self) -> None:
        head = self._read_head()
        log, older = self._places.log, rotated_files(self._places.log)
        if older and log.exists() and older[-1].samefile(log):
            log.unlink()  # a rotation was cut off between its two steps
        is_new = not log.exists()
        self._close_file()
        self._fd = os.open(log, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if is_new:
            sync_folder(log.parent)
        data = _read_all(self._fd)
        self._offset, last = self._acknowledged(data, older, head)
        sealed = head.seq == 0 or isinstance(decode_line(last), Checkpoint)
        self._tip = Tip(head.seq, head.hash, head.count, 0 if sealed else 1)
        self._first_seq = self._first_of(data[: self._offset])
        rest = data[self._offset :]
        if rest:
            self._set_aside(rest)
        self._stale = False
        self._write_head(closed=False)  # before any line: after a closed note there are none
        self._begin(head, rest)

    def _read_head(self) -> Head:
        assert self._head is not None
        log = self._places.log
        is_first = not rotated_files(log) and not (log.exists() and log.stat().st_size)
        if self._head.is_new and not is_first:
            raise IntegrityError(
                "the audit log has lost its head note",
                fix="Verify it (steno audit verify) and keep it as evidence; to begin a new "
                "log, move its files away.",
            )
        try:
            head = self._head.read()
        except IntegrityError:
            if not is_first:
                raise
            self._tip = Tip()  # new, or killed while the very first note was written
            self._write_head(closed=False)
            sync_folder(self._places.head.parent)
            head = self._head.read()
        known = {fingerprint(key) for key in read_public_keys(self._places.public_keys)}
        if head.key_id not in known:
            raise IntegrityError("the audit log's head note is signed with an unknown key")
        self._revision = head.revision
        return head

    def _acknowledged(self, data: bytes, older: list[Path], head: Head) -> tuple[int, bytes]:
        """Return where in the file the acknowledged lines end, and the last of them."""
        offset = 0
        for raw in split_lines(data):
            offset += len(raw)
            if raw.endswith(b"\n") and line_hash(raw[:-1]) == head.hash:
                return offset, raw[:-1]
        if head.seq == 0:
            return 0, b""
        if older:  # killed in a rotation: nothing of the new file was acknowledged
            *_, last = split_lines(older[-1].read_bytes()) or [b""]
            if last.endswith(b"\n") and line_hash(last[:-1]) == head.hash:
                return 0, last[:-1]
        raise IntegrityError(
            "the audit log has lost lines that its head note tells of",
            fix="Verify it (steno audit verify) and keep it as evidence, or put it back from a "
            "copy; to begin a new log, move its files and the head note away.",
            line=head.seq,
        )

    def _first_of(self, data: bytes) -> int:
        for raw in split_lines(data):
            line = decode_line(raw.rstrip(b"\n"))
            return line.seq if line is not None else self._tip.seq
        return self._tip.seq + 1

    def _set_aside(self, rest: bytes) -> None:
        now = self._clock()
        for number in range(_MAX_NAMES):
            path = aside_name(self._places.log, self._tip.seq, now, number)
            with contextlib.suppress(FileExistsError):
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                break
        else:
            raise OSError(errno.EEXIST, "too many unfinished writes")
        try:
            write_at(fd, rest, 0)
            os.fsync(fd)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(fd)
        sync_folder(path.parent)
        os.ftruncate(self._fd, self._offset)
        os.fdatasync(self._fd)
        self._telemetry.warning("audit.recovered", size_bytes=len(rest))

    def _begin(self, head: Head, set_aside: bytes) -> None:
        """Make the log ready for entries: its key, what was recovered, all sealed."""
        if self._offset and head.key_id != self.key_id:
            self._rotate()
        lines, tip = self._file_start() if not self._offset else ([], self._tip)
        if set_aside:
            tip, line = recovered_line(tip, set_aside, at=self._clock())
            lines.append(line)
        if tip.unsealed:
            tip, line = checkpoint_line(tip, self._key, at=self._clock())
            lines.append(line)
        if lines:
            self._commit(lines, tip)

    # --- writing ---

    def write(self, entries: Sequence[AuditEntry]) -> list[int]:
        """Append entries; return their numbers once all are durable.

        Raises:
            StorageFull: There is no room: none of them was acknowledged, and the next call tries
                anew.
            StorageError: The disk failed; the writer must be made anew.
            IntegrityError: The log was changed meanwhile.
            ValueError: An entry is not of the log's grammar; none was written.
        """
        self._make_ready()
        if self._offset >= self._max_bytes:
            self._rotate_safely()
        tip, lines, numbers = self._tip, [], []
        for entry in entries:
            tip, line = entry_line(tip, entry, at=self._clock())
            lines.append(line)
            numbers.append(tip.seq)
            if tip.unsealed >= self._every:
                tip, line = checkpoint_line(tip, self._key, at=self._clock())
                lines.append(line)
        self._commit(lines, tip)
        return numbers

    def seal(self) -> None:
        """Write a checkpoint if there is something new.

        Raises:
            StorageError: As of ``write``.
        """
        if self._tip.unsealed:
            self._make_ready()
        if self._tip.unsealed:
            tip, line = checkpoint_line(self._tip, self._key, at=self._clock())
            self._commit([line], tip)

    def close(self) -> None:
        """Seal the log and let go of it.

        Raises:
            StorageError: It could not be sealed; what was acknowledged is there all the same.
        """
        try:
            if self._head is not None and not self._broken:
                self.seal()
                self._make_ready()
                self._write_head(closed=True)
        except OSError as exc:
            raise _storage_error(exc) from exc
        finally:
            self._let_go()

    @property
    def _key(self) -> Signer:
        assert self._signer is not None, "open first"
        return self._signer

    def _make_ready(self) -> None:
        if self._broken or self._head is None:
            raise StorageError("the audit log is closed or its disk failed")
        if self._stale or not self._is_as_left():
            try:
                self._load()
            except OSError as exc:
                self._fail(exc)

    def _is_as_left(self) -> bool:
        """Tell whether the file has its name and size still; somebody may move or cut it."""
        try:
            named, held = os.stat(self._places.log), os.fstat(self._fd)
        except OSError:
            return False
        return os.path.samestat(named, held) and held.st_size == self._offset

    def _commit(self, lines: list[bytes], tip: Tip) -> None:
        data = b"".join(lines)
        if not data:
            return
        try:
            write_at(self._fd, data, self._offset)
            os.fdatasync(self._fd)
        except OSError as exc:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._offset)
            self._fail(exc)
        before, self._tip = self._tip, tip
        try:
            self._write_head(closed=False)
        except OSError as exc:
            self._tip = before
            self._fail(exc)
        self._offset += len(data)

    def _write_head(self, *, closed: bool) -> None:
        assert self._head is not None
        self._revision += 1
        at, revision = self._clock(), self._revision
        self._head.write(head_note(self._tip, self._key, at=at, revision=revision, closed=closed))

    def _fail(self, exc: OSError) -> NoReturn:
        """Say what an error means from now on.

        Without room, the files are read again before the next write. After any other error it
        cannot be known what the disk holds: the kernel may have dropped what it failed to write,
        and would not say so a second time.
        """
        self._stale = True
        self._broken = self._broken or exc.errno not in _FULL
        raise _storage_error(exc) from exc

    # --- files ---

    def _file_start(self) -> tuple[list[bytes], Tip]:
        now = self._clock()
        self._first_seq = self._tip.seq + 1
        tip, key = key_line(self._tip, self._key.public_key, at=now)
        tip, checkpoint = checkpoint_line(tip, self._key, at=now)
        return [key, checkpoint], tip

    def _rotate_safely(self) -> None:
        try:
            self._rotate()
            self._commit(*self._file_start())
        except OSError as exc:
            self._fail(exc)

    def _rotate(self) -> None:
        """Seal the file, put it away under its name, and make an empty one."""
        self.seal()
        log = self._places.log
        os.link(log, rotated_name(log, self._first_seq, self._clock()))  # never replaces a file
        log.unlink()
        self._close_file()
        self._fd = os.open(log, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._offset = 0
        sync_folder(log.parent)

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _let_go(self) -> None:
        self._close_file()
        if self._head is not None:
            self._head.close()
            self._head = None


def _storage_error(exc: OSError) -> StorageError:
    if exc.errno in _FULL:
        return StorageFull("there is no room for the audit log", errno=exc.errno)
    return StorageError("the audit log cannot be written", errno=exc.errno)


def _read_all(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    pieces, at = [], 0
    while at < size and (piece := os.pread(fd, size - at, at)):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)
