"""Where an export goes. Each target shows the whole of it or nothing.

A file is written beside its place under a name of its own, made durable, and renamed. An object
is put in parts, and the store shows it when the last one is there; parts of a put that failed
may stay in the bucket, unseen, until its life-cycle rule for them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import unquote, urlsplit

from steno.adapters.durable_files import sync_folder, write_all
from steno.adapters.path_template import PathTemplate
from steno.errors import (
    AuthError,
    ConfigError,
    ObjectMissing,
    PeerUnavailable,
    StenoError,
    StorageError,
    StorageFull,
)

if TYPE_CHECKING:
    from steno.adapters.object_store import StoreSettings

STDOUT: Final = "-"
PART_BYTES: Final = 8 * 1024 * 1024
"""Of one part of an object: S3 takes ten thousand of them, 80 GB."""
PARTS_AT_ONCE: Final = 4

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class ReaderGone(Exception):
    """Nobody reads our standard output any more."""


class Target(Protocol):
    """Takes files whole, each of one conversation or all in one."""

    @property
    def is_per_conversation(self) -> bool:
        """Every conversation has a file of its own."""

    @property
    def is_shown_at_once(self) -> bool:
        """What is written cannot be taken back."""

    def write(self, conversation: str, chunks: Iterator[bytes]) -> int:
        """Write one file; return its size.

        An error of ``chunks`` passes through, and nothing is changed.

        Raises:
            StorageError, AuthError, TransportError: It cannot be written.
            IntegrityError: The conversation's id is not acceptable.
        """


def target_of(out: str, store: StoreSettings | None) -> Target:
    """Return the target that a path or address names.

    Raises:
        ConfigError: It names none.
    """
    if out == STDOUT:
        return StdoutTarget()
    if "://" not in out:
        return FileTarget(PathTemplate(out))
    parts = urlsplit(out)
    if parts.query or parts.fragment or not parts.path.strip("/") or out.endswith("/"):
        raise ConfigError(
            "the address names no file or object", setting="out", fix="Write s3://bucket/name."
        )
    path = unquote(parts.path)
    if any(part in (".", "..") for part in path.split("/")) or not path.isprintable():
        raise ConfigError("the name is not acceptable", setting="out")
    if parts.scheme == "file":
        # Through the library it would be readable by others for a moment, and not durable.
        if parts.netloc:
            raise ConfigError("write file:///folder/name", setting="out")
        return FileTarget(PathTemplate(path), make_folders=True)
    return ObjectTarget(f"{parts.scheme}://{parts.netloc}", PathTemplate(path.strip("/")), store)


def require_target(out: str, store: StoreSettings | None = None, *, replaced: bool = True) -> None:
    """Find out, as far as it shows, that nothing can be written there: before the work.

    Args:
        replaced: A file that is there is replaced; else it is appended to, whatever it is.

    Raises:
        ConfigError: It names no target, its folder is not there or not ours to write in, or what
            is there is no file.
    """
    target = target_of(out, store)
    if isinstance(target, FileTarget):
        target.require(replaced=replaced)


class FileTarget:
    """Files, with mode 0600.

    Beside the file ``name`` lies ``.name.part`` while it is written, locked: two exports to one
    file never mix, and what a killed one left behind is used again by the next.

    Args:
        make_folders: All that are missing; else those with an id in their names.
    """

    is_shown_at_once = False

    def __init__(self, template: PathTemplate, *, make_folders: bool = False) -> None:
        self._template = template
        self._makes_all = make_folders

    @property
    def is_per_conversation(self) -> bool:
        """The path has a placeholder."""
        return self._template.is_per_conversation

    def require(self, *, replaced: bool) -> None:
        """See ``require_target``."""
        if not self._makes_all:
            _must_be_folder(self._template.fixed_folder)
        if replaced and not self.is_per_conversation:
            _must_be_file(Path(self._template.text))

    def write(self, conversation: str, chunks: Iterator[bytes]) -> int:
        """Write one file and put it in its place."""
        place = Path(self._template.fill(conversation))
        try:
            if self._makes_all:
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._template.make_folders(place)
            return _replace(place, chunks)
        except OSError as exc:
            raise _failed(exc, "the export cannot be written") from exc


class StdoutTarget:
    """Standard output, which is not ours to close."""

    is_per_conversation = False
    is_shown_at_once = True

    def write(self, conversation: str, chunks: Iterator[bytes]) -> int:
        """Write as it comes.

        Raises:
            ReaderGone: The reader has gone away.
        """
        size = 0
        try:
            sys.stdout.flush()
            fd = sys.stdout.fileno()
            for chunk in chunks:
                write_all(fd, chunk)
                size += len(chunk)
        except BrokenPipeError:
            raise ReaderGone from None
        except (OSError, ValueError) as exc:  # ValueError: closed, or not a real file
            raise _failed(exc, "standard output cannot be written") from exc
        return size


class ObjectTarget:
    """Objects of one bucket, put in parts through ``obstore``.

    Raises:
        ConfigError: The address or an option is not acceptable.
    """

    is_shown_at_once = False

    def __init__(self, bucket: str, template: PathTemplate, settings: StoreSettings | None) -> None:
        from steno.adapters.object_store import StoreSettings, open_store

        self._store, _, _ = open_store(replace(settings or StoreSettings(url=""), url=bucket))
        self._template = template

    @property
    def is_per_conversation(self) -> bool:
        """The key has a placeholder."""
        return self._template.is_per_conversation

    def write(self, conversation: str, chunks: Iterator[bytes]) -> int:
        """Put one object."""
        import obstore
        from obstore import exceptions as failures

        key = self._template.fill(conversation)
        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            try:
                for chunk in chunks:
                    size += len(chunk)
                    yield chunk
            except OSError as exc:  # not the store's
                raise _failed(exc, "the export cannot be written") from exc

        try:
            obstore.put(
                self._store,
                key,
                counted(),
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        except (failures.BaseError, OSError) as exc:
            # The library's words may quote an address or credentials.
            raise _store_failed(exc) from None
        return size


def replace_file(place: Path, chunks: Iterator[bytes], *, setting: str) -> int:
    """Write one file, with mode 0600, and put it in its place in one step; return its size.

    Args:
        setting: What named the place, for errors.

    Raises:
        ConfigError: What is there is no file, or its folder not there or not ours to write in.
        StorageError: It cannot be written; what was there stays.
    """
    _must_be_folder(place.parent, setting)
    _must_be_file(place, setting)
    try:
        return _replace(place, chunks)
    except OSError as exc:
        raise _failed(exc, "the file cannot be written") from exc


def _replace(place: Path, chunks: Iterator[bytes]) -> int:
    """Write beside the place, and rename; the folder is made durable last."""
    _must_be_file(place)
    _must_be_whole(place)
    part = place.with_name(f".{place.name}.part")
    fd = _locked(part)
    try:
        size = 0
        for chunk in chunks:
            write_all(fd, chunk)
            size += len(chunk)
        os.fsync(fd)
        os.rename(part, place)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    finally:
        os.close(fd)
    sync_folder(place.parent)
    return size


def _locked(part: Path) -> int:
    """Return the open, empty, locked file; whoever holds it may rename or unlink it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
        fd = os.open(part, flags, 0o600)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise StorageError("the file beside the export is not ours")
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StorageError("another process writes this export") from None
            if _is_still(part, found):
                os.fchmod(fd, 0o600)
                os.ftruncate(fd, 0)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its last holder renamed it between our open and our lock


def _is_still(part: Path, opened: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(part), opened)
    except FileNotFoundError:
        return False


def _must_be_folder(folder: Path, setting: str = "out") -> None:
    if os.access(folder, os.W_OK | os.X_OK):
        return
    there = folder.is_dir()
    raise ConfigError(
        "the folder is not ours to write in" if there else "the folder is not there",
        setting=setting,
        fix="Choose another." if there else "Make it, or name another.",
    )


def _must_be_file(place: Path, setting: str = "out") -> None:
    """A rename would replace a device, a pipe or a link, not write to it."""
    try:
        mode = os.lstat(place).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise ConfigError(
            "what is there is not a regular file", setting=setting, fix="Use - for standard output."
        )


def _must_be_whole(place: Path) -> None:
    """Whoever appends to a file holds its lock, and would go on in the one that is replaced."""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, PermissionError):
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StorageError(
            "the file is being appended to", fix="Name another, or end what follows there."
        ) from None
    finally:
        os.close(fd)


def _failed(exc: Exception, summary: str) -> StenoError:
    number = getattr(exc, "errno", None)
    if number in _FULL:
        return StorageFull("no space is left for the export", errno=number)
    return StorageError(summary, errno=number)


def _store_failed(exc: Exception) -> StenoError:
    from steno.adapters.object_store import reason_of

    # The library raises the built-in error, not its own, for what is not found.
    reason = "ObjectMissing" if isinstance(exc, FileNotFoundError) else reason_of(exc)
    if reason == "AuthError":
        return AuthError("the object store refused our credentials")
    if reason == "ObjectMissing":
        return ObjectMissing("there is no such bucket")
    if reason == "PeerUnavailable":
        return PeerUnavailable("the object store is unavailable")
    return StorageError("the object cannot be written", cause=reason)
