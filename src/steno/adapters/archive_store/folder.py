"""An archive in a local folder: files that appear whole or not at all.

A file is written under a name of its own in ``.uploads``, made durable, read back, and only then
linked to its place, which fails where something is: the file system decides between two writers,
and needs no claims for it. What a killed writer left in ``.uploads`` is not locked any more, and
goes when the next one begins. Folders are for their owner only (0700), files too (0600).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from steno.adapters.archive_store.content import BLOCK, Encoder, Piece, stored_sums
from steno.adapters.archive_store.keys import UPLOADS
from steno.adapters.archive_store.place import (
    MAX_MANIFEST_BYTES,
    Listed,
    compared,
    finished_manifest,
    keep_manifest,
    os_failure,
)
from steno.adapters.durable_files import sync_folder, write_all
from steno.errors import IntegrityError, ObjectMissing, StorageError
from steno.ports.archive import Archived, Manifest, NewItem, WriteOutcome

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS})
_ABANDONED_S: Final = 60.0
_TURN: Final = "turn"
_GATHERED: Final = 256 * 1024


class Folder:
    """A folder of archived files.

    Args:
        root: Made when the first file is written.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._swept = False
        self._lock = threading.Lock()

    def url_of(self, key: str) -> str:
        """Return ``file:///folder/key``."""
        return (self._root / key).as_uri()

    def writer(self, item: NewItem) -> FolderWriter:
        """Begin a file."""
        return FolderWriter(self, item)

    def create(self, name: str, data: bytes) -> bool:
        """Put something small, durably."""
        part = self.part()
        try:
            part.write(data)
            part.make_durable()
            return self.link(part, name)
        finally:
            part.remove()

    def small(self, name: str) -> bytes | None:
        """Return something small."""
        try:
            with (self._root / name).open("rb") as file:
                data = file.read(MAX_MANIFEST_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise os_failure(error, "the archive's folder cannot be read") from None
        if len(data) > MAX_MANIFEST_BYTES:
            raise IntegrityError("a manifest is too large")
        return data

    def size(self, name: str) -> int | None:
        """Return a file's size."""
        try:
            found = os.lstat(self._root / name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise os_failure(error, "the archive's folder cannot be read") from None
        if not stat.S_ISREG(found.st_mode):
            raise StorageError("what lies in the archive's folder is no regular file")
        return found.st_size

    def pieces(self, name: str) -> Iterator[Piece]:
        """Return a file's content, through one buffer."""
        try:
            fd = os.open(self._root / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectMissing("there is no such archived object") from None
        except OSError as error:
            raise os_failure(error, "the archived file cannot be read") from None
        return _blocks(fd)

    def names(self, folder: str) -> Iterator[Listed]:
        """Return all below a folder, in order. One folder's names are held at a time."""
        try:
            yield from self._names(self._root / folder, folder)
        except OSError as error:
            raise os_failure(error, "the archive's folder cannot be read") from None

    def delete(self, name: str) -> bool:
        """Delete a file, and the folders it leaves empty."""
        path = self._root / name
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise os_failure(error, "an archived file cannot be deleted") from None
        folder = path.parent
        with contextlib.suppress(OSError):  # not empty
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent
        with contextlib.suppress(FileNotFoundError):  # somebody else's deletion emptied it
            sync_folder(folder)
        return True

    def part(self) -> Part:
        """Return a new file without a place yet, empty and locked.

        Raises:
            StorageFull, StorageError: It cannot be made.
        """
        try:
            folder = self._root / UPLOADS
            self._make_folders(folder)
            self._sweep(folder)
            return Part(folder / f"{secrets.token_hex(8)}.part")
        except OSError as error:
            raise os_failure(error, "the archive's folder cannot be written") from None

    def link(self, part: Part, name: str) -> bool:
        """Give a file its place, durably; False when there is something."""
        place = self._root / name
        try:
            for _ in range(8):
                self._make_folders(place.parent)
                try:
                    _put_in_place(part.path, place)
                except FileNotFoundError:
                    continue  # an erasure took the folder away, empty as it was
                sync_folder(place.parent)
                return True
        except FileExistsError:
            return False
        except OSError as error:
            raise os_failure(error, "the archive's folder cannot be written") from None
        raise StorageError("the archive's folder disappears under the writer")

    def _make_folders(self, folder: Path) -> None:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for one in reversed(missing):
            with contextlib.suppress(FileExistsError):
                one.mkdir(mode=0o700)
            sync_folder(one.parent)

    def _sweep(self, folder: Path) -> None:
        """Remove what killed writers left behind, once."""
        with self._lock:
            if self._swept:
                return
            self._swept = True
        for entry in os.scandir(folder):
            if not entry.name.endswith(".part"):
                continue
            # Younger ones may be between their creation and their lock.
            with contextlib.suppress(OSError):
                if time.time() - entry.stat().st_mtime > _ABANDONED_S:
                    _remove_unlocked(entry.path)

    def _names(self, path: Path, name: str) -> Iterator[Listed]:
        try:
            entries = sorted(os.scandir(path), key=_sorted_as_whole_names)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            below = f"{name}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from self._names(path / entry.name, below)
                continue
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                yield Listed(below, found.st_size, found.st_mtime_ns // 1000)


class Part:
    """A file that has no place yet; whoever holds it open has it locked.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(path, flags, 0o600)
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, data: Piece) -> None:
        """Write all of it."""
        try:
            write_all(self._fd, data)  # type: ignore[arg-type]  # a view is as good as bytes
        except OSError as error:
            raise os_failure(error, "the archive's folder cannot be written") from None

    def make_durable(self) -> None:
        """Have it all on the disk."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise os_failure(error, "the archive's folder cannot be written") from None

    def pieces(self) -> Iterator[Piece]:
        """Return what the file holds, through one buffer: once durable, from the disk itself."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with contextlib.suppress(OSError):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            return _blocks(fd)
        except OSError as error:
            raise os_failure(error, "the archived file cannot be read back") from None

    def remove(self) -> None:
        """Take its first name away; a place it was given stays."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            os.close(self._fd)
            self._fd = -1


class FolderWriter:
    """One file being written. Where there is one already, content is only hashed."""

    def __init__(self, folder: Folder, item: NewItem) -> None:
        self._folder = folder
        self._item = item
        self._encoder = Encoder(item.content_encoding)
        self._gathered = bytearray()
        self._part = folder.part() if folder.size(item.key) is None else None
        self._ended = False

    def write(self, data: bytes) -> None:
        """Add content; small pieces are gathered first."""
        if len(data) >= _GATHERED and not self._gathered:
            self._put(data)
            return
        self._gathered += data
        if len(self._gathered) >= _GATHERED:
            self._flush()

    def finish(self, summary: bytes) -> Archived:
        """Make it durable, read it back, give it its place, put the manifest beside it."""
        self._end()
        try:
            self._flush()
            rest = self._encoder.end()
            if rest and self._part is not None:
                self._part.write(rest)
            manifest = finished_manifest(self._item, self._encoder.sums(), summary)
            if self._part is not None and self._placed(self._part, manifest):
                kept = keep_manifest(self._folder, manifest, ours=True)
                return Archived(WriteOutcome.WRITTEN, self._folder.url_of(self._item.key), kept)
            kept = compared(self._folder, self._item, manifest)
            return Archived(WriteOutcome.SAME, self._folder.url_of(self._item.key), kept)
        finally:
            self._drop()

    def abort(self) -> None:
        """Leave nothing behind."""
        if not self._ended:
            self._end()
            self._drop()

    def _placed(self, part: Part, manifest: Manifest) -> bool:
        part.make_durable()
        if stored_sums(part.pieces()) != (manifest.size, manifest.sha256):
            raise IntegrityError("what was read back is not what was written")
        return self._folder.link(part, self._item.key)

    def _put(self, data: Piece) -> None:
        stored = self._encoder.encode(data)
        if self._part is not None and stored:
            self._part.write(stored)

    def _flush(self) -> None:
        if self._gathered:
            gathered, self._gathered = self._gathered, bytearray()
            self._put(memoryview(gathered))

    def _end(self) -> None:
        if self._ended:
            raise StorageError("the writer was ended before")
        self._ended = True

    def _drop(self) -> None:
        if self._part is not None:
            self._part.remove()


def _sorted_as_whole_names(entry: os.DirEntry[str]) -> str:
    return f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name


def _blocks(fd: int) -> Iterator[Piece]:
    """Read a file to its end and close it."""
    try:
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        buffer = memoryview(bytearray(BLOCK))
        while count := os.readv(fd, [buffer]):
            yield buffer[:count]
    except OSError as error:
        raise os_failure(error, "the archived file cannot be read") from None
    finally:
        os.close(fd)


def _put_in_place(part: Path, place: Path) -> None:
    try:
        os.link(part, place, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        return
    # A file system without links: writers take turns, and a rename is whole.
    with (part.parent / _TURN).open("wb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if os.path.lexists(place):
            raise FileExistsError(errno.EEXIST, "there is a file")
        os.rename(part, place)


def _remove_unlocked(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    finally:
        os.close(fd)
