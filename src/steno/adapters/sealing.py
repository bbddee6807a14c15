"""Encryption of what must outlive a kill and must not be readable on disk.

AES-256-GCM with a random 96-bit nonce before the ciphertext; the context is authenticated with
it, so a blob does not open under another name. The key is a file for its owner only, made once
and complete or not at all.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from steno.adapters.durable_files import sync_folder
from steno.errors import ConfigError, IntegrityError, StorageError

KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
_FORMAT = b"\x01"


class AesGcmSealer:
    """``ports.Sealer`` with one key.

    Args:
        key: 32 random bytes.

    Raises:
        ValueError: The key has another length.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("the key has 32 bytes")
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes, *, context: str) -> bytes:
        """Encrypt; ``context`` is authenticated with it."""
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Decrypt.

        Raises:
            IntegrityError: Wrong key or context, or damaged.
        """
        if len(sealed) < 1 + _NONCE_BYTES + _TAG_BYTES or sealed[:1] != _FORMAT:
            raise IntegrityError("sealed data are damaged", size_bytes=len(sealed))
        nonce, box = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, box, context.encode())
        except InvalidTag:
            raise IntegrityError(
                "sealed data do not open: another key or context, or damaged",
                size_bytes=len(sealed),
            ) from None


def load_sealer(path: Path) -> AesGcmSealer:
    """Return a sealer with the key of a file, which is made when there is none.

    Raises:
        ConfigError: The file can be read by others or belongs to somebody else.
        StorageError: It cannot be read or made.
        IntegrityError: It is no key.
    """
    try:
        if not path.exists():
            _make(path)
        return AesGcmSealer(_read(path))
    except OSError as exc:
        raise StorageError("the key file cannot be used", cause=type(exc).__name__) from exc


def _make(path: Path) -> None:
    """Put a new key in place in one step; the first of two that do so at once wins."""
    draft = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(fd, secrets.token_bytes(KEY_BYTES))
            os.fsync(fd)
        finally:
            os.close(fd)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename it never replaces a key in use
    finally:
        draft.unlink()
    sync_folder(path.parent)


def _read(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)  # of the open file: what is checked is what is read
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
            raise ConfigError(
                "the key file can be used by others",
                setting="state_dir",
                fix="Make it readable for its owner only (chmod 600), or remove it if it may "
                "have been copied: open sentences of the last run are then lost.",
                mode=oct(stat.S_IMODE(found.st_mode)),
            )
        if found.st_uid != os.geteuid():
            raise ConfigError(
                "the key file belongs to another user",
                setting="state_dir",
                fix="Run as its owner, or use another state directory.",
                owner_uid=found.st_uid,
            )
        key = os.read(fd, KEY_BYTES + 1)
    finally:
        os.close(fd)
    if len(key) != KEY_BYTES:
        raise IntegrityError(
            "the key file is damaged",
            fix="Remove it: open sentences of the last run are then lost.",
            size_bytes=found.st_size,
        )
    return key
