"""Files of the audit log: their names and order, the head note, and reading beside a writer.

Beside ``transcription_audit.jsonl`` lie its older files,
``transcription_audit-<first line's number>-<UTC>.jsonl``: their names sort by number, whatever
clocks did. The head note lies in the state directory. It has two
places of fixed size, written in turn, so that one is whole whenever the process ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from steno.core.audit_chain import MAX_LINE_BYTES, Head, read_head_note
from steno.errors import IntegrityError, ObjectMissing, StorageError

_PLACE_BYTES: Final = 1024
_PLACES: Final = 2
_TRIES: Final = 20


class AuditPlaces(msgspec.Struct, frozen=True):
    """Where the parts of one log lie.

    Attributes:
        log: The file that is written now.
        public_keys: PEM beside it.
        key: The private key.
        head: The head note.
    """

    log: Path
    public_keys: Path
    key: Path
    head: Path

    @classmethod
    def of(cls, state_root: Path, log: Path | None = None) -> AuditPlaces:
        """Return the places for a state directory.

        Args:
            state_root: The state directory.
            log: Another place than ``transcription_audit.jsonl`` there; its head note has a
                name of its own.
        """
        usual = state_root / "transcription_audit.jsonl"
        path = usual if log is None else Path(os.path.abspath(log))
        tail = ""
        if log is not None and path != Path(os.path.abspath(usual)):
            tail = f"-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"
        return cls(
            log=path,
            public_keys=path.with_name(f"{path.name}.pub"),
            key=state_root / "audit.key",
            head=state_root / f"audit{tail}.head",
        )


def rotated_files(log: Path) -> list[Path]:
    """Return the older files of a log, oldest first."""
    name = re.compile(rf"{re.escape(log.stem)}-[0-9]{{12}}-[0-9TZ]{{16}}{re.escape(log.suffix)}")
    try:
        return sorted(each for each in log.parent.iterdir() if name.fullmatch(each.name))
    except FileNotFoundError:
        return []


def rotated_name(log: Path, first_seq: int, at: datetime) -> Path:
    """Return what the file that is written now will be called."""
    return log.with_name(f"{log.stem}-{first_seq:012d}-{_utc(at)}{log.suffix}")


def aside_name(log: Path, seq: int, at: datetime, number: int) -> Path:
    """Return a name for bytes that were found after line ``seq``."""
    return log.with_name(f"{log.stem}-unfinished-{seq:012d}-{_utc(at)}-{number}.bin")


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


# --- head note -----------------------------------------------------------------------------------


def read_head(path: Path) -> Head:
    """Return the head note.

    Raises:
        ObjectMissing: There is none.
        IntegrityError: It is damaged.
        OSError: It cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ObjectMissing("the audit log has no head note") from None
    try:
        return _newest(fd)[0]
    finally:
        os.close(fd)


def _newest(fd: int) -> tuple[Head, int]:
    data = os.pread(fd, _PLACES * _PLACE_BYTES, 0)
    found: list[tuple[Head, int]] = []
    for place in range(_PLACES):
        note = read_head_note(
            data[place * _PLACE_BYTES : (place + 1) * _PLACE_BYTES].rstrip(b" \n")
        )
        if note is not None:
            found.append((note, place))
    if not found:
        raise IntegrityError("the audit log's head note is damaged", size_bytes=len(data))
    # Of one line twice, the later: it says whether the writer ended, or began again.
    return max(found, key=lambda one: (one[0].seq, one[0].revision))


class HeadFile:
    """The head note as its writer holds it: locked, so that there is one writer.

    Args:
        path: Made when it is missing.

    Raises:
        StorageError: Another process writes the log.
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(self._fd)
            if isinstance(exc, BlockingIOError):
                raise StorageError("another process writes the audit log") from None
            raise
        self._next = 0

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever written here."""
        return os.fstat(self._fd).st_size == 0

    def read(self) -> Head:
        """Return the newest note.

        Raises:
            IntegrityError: It is damaged.
        """
        note, place = _newest(self._fd)
        self._next = (place + 1) % _PLACES
        return note

    def write(self, note: bytes) -> None:
        """Replace the older note; durable on return.

        Raises:
            OSError: It may or may not be there.
        """
        padded = note.ljust(_PLACE_BYTES - 1) + b"\n"
        write_at(self._fd, padded, self._next * _PLACE_BYTES)
        os.fdatasync(self._fd)
        self._next = (self._next + 1) % _PLACES

    def close(self) -> None:
        """Let another write."""
        os.close(self._fd)


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of the data, in as many writes as it takes."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written


# --- reading -------------------------------------------------------------------------------------


class Snapshot(msgspec.Struct, frozen=True):
    """A log at one moment: its head note and its files, oldest first, with their lines.

    ``head`` is None where there is none, and ``head_damaged`` tells that from a damaged one.
    ``exact`` is False if a writer was too quick for note and files to be of one moment.
    """

    head: Head | None
    head_damaged: bool
    files: tuple[tuple[Path, Iterator[bytes]], ...]
    exact: bool


@contextmanager
def taken_snapshot(places: AuditPlaces) -> Iterator[Snapshot]:
    """Open all files of a log as they are now, beside a writer that may go on.

    Raises:
        OSError: A file cannot be read.
    """
    for left in reversed(range(_TRIES)):
        with ExitStack() as stack:
            before = _peek(places.head)
            opened = _opened(places.log, stack)
            exact = before == _peek(places.head)
            if not exact and left:
                continue
            head, damaged = before
            files = tuple((path, _bounded(file, size)) for path, file, size in opened)
            yield Snapshot(head, damaged, files, exact)
            return


def _peek(path: Path) -> tuple[Head | None, bool]:
    try:
        return read_head(path), False
    except ObjectMissing:
        return None, False
    except IntegrityError:
        return None, True


def _opened(log: Path, stack: ExitStack) -> list[tuple[Path, BinaryIO, int]]:
    """Open the files: the one in use first, so that a rotation meanwhile hides none."""
    found: list[tuple[Path, BinaryIO, int]] = []
    inodes: set[int] = set()
    try:
        current = stack.enter_context(log.open("rb"))
    except FileNotFoundError:
        current = None
    if current is not None:
        inodes.add(os.fstat(current.fileno()).st_ino)
    for path in rotated_files(log):
        file = stack.enter_context(path.open("rb"))
        status = os.fstat(file.fileno())
        if status.st_ino not in inodes:
            inodes.add(status.st_ino)
            found.append((path, file, status.st_size))
    if current is not None:
        found.append((log, current, os.fstat(current.fileno()).st_size))
    return found


def file_lines(path: Path) -> Iterator[bytes]:
    """Return the lines of one file; of a longer line than there can be, pieces.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        yield from _bounded(file, os.fstat(file.fileno()).st_size)


def _bounded(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (line := file.readline(min(size, MAX_LINE_BYTES + 2))):
        size -= len(line)
        yield line
