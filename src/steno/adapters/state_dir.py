"""The state directory: where everything durable lies, and who owns it.

One process at a time owns it, by a lock that the kernel takes back however the process ends.
Reading commands need no lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from steno.errors import ConfigError, StorageError

VARIABLE = "STENO_STATE_DIR"
_PID_BYTES = 32


def default_state_dir(environment: Mapping[str, str]) -> Path:
    """Return ``$XDG_STATE_HOME/steno``, or ``~/.local/state/steno``.

    A relative ``XDG_STATE_HOME`` is ignored.

    Source: XDG Base Directory Specification.
    """
    base = environment.get("XDG_STATE_HOME", "")
    if not base or not Path(base).is_absolute():
        base = str(Path(environment.get("HOME") or str(Path.home())) / ".local" / "state")
    return Path(base) / "steno"


class StateDir:
    """Paths of the state directory, and the owner's lock.

    Making the object touches nothing: ``prepare`` makes the directory, ``lock`` takes it.

    Args:
        root: The directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock_fd: int | None = None

    @property
    def database(self) -> Path:
        """The store of records."""
        return self.root / "steno.db"

    @property
    def journal_key(self) -> Path:
        """The key of the journal of open windows."""
        return self.root / "journal.key"

    @property
    def tokens(self) -> Path:
        """Cached access tokens, one file per credentials and host."""
        return self.root / "tokens"

    @property
    def audit_log(self) -> Path:
        """The audit log, where the settings name no other place."""
        return self.root / "transcription_audit.jsonl"

    @property
    def webhook_secret(self) -> Path:
        """The secret that webhooks of jobs are signed with, where the settings give none."""
        return self.root / "webhook.secret"

    @property
    def jobs(self) -> Path:
        """The store of transcription jobs."""
        return self.root / "jobs.db"

    @property
    def recordings_note(self) -> Path:
        """Folders that calls were ever recorded to: whoever erases must know them."""
        return self.root / "recordings.json"

    def note_recordings(self, folder: Path) -> None:
        """Remember a folder that calls are recorded to.

        Raises:
            ConfigError: It cannot be noted; then nothing must be recorded there.
        """
        known = self.recordings_folders()
        if (folder := folder.resolve()) in known:
            return
        note = self.recordings_note
        draft = note.with_suffix(".new")
        try:
            draft.write_text(json.dumps([str(each) for each in (*known, folder)]))
            draft.chmod(0o600)
            draft.replace(note)
        except OSError as exc:
            raise ConfigError(
                "the state directory cannot be written",
                setting="state_dir",
                cause=type(exc).__name__,
            ) from exc

    def recordings_folders(self) -> tuple[Path, ...]:
        """Return the folders that calls were ever recorded to.

        Raises:
            ConfigError: The note cannot be read.
        """
        try:
            return tuple(Path(each) for each in json.loads(self.recordings_note.read_text()))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError) as exc:
            raise ConfigError(
                "the note of folders with recordings cannot be read",
                setting="state_dir",
                fix="Repair recordings.json: a JSON list of folders.",
                cause=type(exc).__name__,
            ) from None

    @property
    def lock_file(self) -> Path:
        """Holds the owner's pid while it runs."""
        return self.root / "owner.lock"

    def prepare(self) -> None:
        """Make the directory and its folders, for this user only.

        A directory that others may read is closed to them; one of another user is refused.

        Raises:
            ConfigError: It cannot be made or used.
        """
        try:
            for folder in (self.root, self.tokens):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._close_to_others(folder)
        except OSError as exc:
            raise ConfigError(
                "the state directory cannot be made",
                setting="state_dir",
                fix=f"Choose another one with --state-dir or {VARIABLE}.",
                cause=type(exc).__name__,
            ) from exc

    def _close_to_others(self, folder: Path) -> None:
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise ConfigError(
                "the state directory belongs to another user",
                setting="state_dir",
                fix="Run as its owner, or choose another one with --state-dir.",
                owner_uid=found.st_uid,
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)

    def lock(self) -> None:
        """Become the owner until ``unlock`` or the end of the process.

        Raises:
            StorageError: Another process owns it; ``pid`` names it.
            ConfigError: The directory cannot be used.
        """
        if self._lock_fd is not None:
            return
        self.prepare()
        try:
            fd = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise ConfigError(
                "the state directory cannot be written",
                setting="state_dir",
                cause=type(exc).__name__,
            ) from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            pid = _pid(fd)
            os.close(fd)
            if not isinstance(exc, BlockingIOError):
                raise StorageError(
                    "the state directory cannot be locked", cause=type(exc).__name__
                ) from exc
            raise StorageError(
                "another process is using the state directory",
                fix="Stop it, or give this one its own with --state-dir.",
                pid=pid,
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock_fd = fd

    def unlock(self) -> None:
        """Let go of the directory. The file stays: removing it would let two locks exist."""
        if self._lock_fd is not None:
            os.ftruncate(self._lock_fd, 0)
            os.close(self._lock_fd)
            self._lock_fd = None

    def owner_pid(self) -> int | None:
        """Return the pid of the process that owns the directory now; None if nobody does."""
        if self._lock_fd is not None:
            return os.getpid()
        try:
            fd = os.open(self.lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            # Shared: two who only ask do not take each other for the owner.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return _pid(fd)
        finally:
            os.close(fd)
        return None

    def __enter__(self) -> StateDir:
        self.lock()
        return self

    def __exit__(self, *exc: object) -> None:
        self.unlock()


def _pid(fd: int) -> int | None:
    text = os.pread(fd, _PID_BYTES, 0).decode("ascii", "replace").strip()
    return int(text) if text.isdigit() else None
