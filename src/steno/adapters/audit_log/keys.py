"""The key that signs the audit log, and the public keys beside the log.

The private key is a PEM file for its owner only (PKCS #8), made at first use, complete or not at
all. The public keys lie beside the log as PEM, one after the other: when the private key was
replaced, the older public keys stay. Both can be read with other tools (``openssl pkey``).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from steno.adapters.durable_files import sync_folder, write_all
from steno.core.audit_chain import Signer
from steno.errors import ConfigError, IntegrityError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_END = b"-----END PUBLIC KEY-----"
_MAX_KEY_BYTES = 4096
_MAX_PUBLIC_BYTES = 1 << 20


def load_signer(path: Path) -> Signer:
    """Return the signer of a key file, which is made when there is none.

    Raises:
        ConfigError: Others can use the file, or it belongs to somebody else.
        IntegrityError: It is no Ed25519 key.
        OSError: It cannot be read or made.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not path.exists():
        _make(path)
    try:
        key = load_pem_private_key(_read_private(path), password=None)
    except (ValueError, TypeError) as exc:
        raise _no_key(path) from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path)
    return Signer(key.public_key().public_bytes_raw(), key.sign)


def publish(path: Path, public_key: bytes) -> None:
    """Let a public key stand in the file beside the log, after those of before.

    Raises:
        IntegrityError: The file holds something else.
        OSError: It cannot be written.
    """
    known = read_public_keys(path) if path.exists() else []
    if public_key in known:
        return
    draft = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        _write_new(draft, b"".join(map(_pem, [*known, public_key])))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def read_public_keys(path: Path) -> list[bytes]:
    """Return the Ed25519 public keys of a PEM file, 32 bytes each.

    Raises:
        IntegrityError: It holds none, or something else too.
        OSError: It cannot be read.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    with path.open("rb") as file:
        *blocks, rest = file.read(_MAX_PUBLIC_BYTES).split(_END)
    keys: list[Ed25519PublicKey] = []
    for block in blocks:
        try:
            key = load_pem_public_key(block.strip() + _END + b"\n")
        except ValueError:
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise IntegrityError("a public key of the file is no Ed25519 key")
        keys.append(key)
    if not keys or rest.strip():
        raise IntegrityError("the file does not hold Ed25519 public keys (PEM)")
    return [key.public_bytes_raw() for key in keys]


def _make(path: Path) -> None:
    """Put a new key in place in one step; the first of two that do so at once wins."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    made = Ed25519PrivateKey.generate()
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        _write_new(draft, pem)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename it never replaces a key in use
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def _write_new(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_private(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)  # of the open file: what is checked is what is read
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
            raise ConfigError(
                "the audit log's key can be used by others",
                setting="state_dir",
                fix="Make it readable for its owner only (chmod 600); if it may have been copied, "
                "replace it.",
                mode=oct(stat.S_IMODE(found.st_mode)),
            )
        if found.st_uid != os.geteuid():
            raise ConfigError(
                "the audit log's key belongs to another user",
                setting="state_dir",
                fix="Run as its owner, or use another state directory.",
                owner_uid=found.st_uid,
            )
        return os.read(fd, _MAX_KEY_BYTES)
    finally:
        os.close(fd)


def _no_key(path: Path) -> IntegrityError:
    return IntegrityError(
        "the audit log's key file holds no Ed25519 key",
        fix=f"Put {path.name} back from a copy; without one, move it away: a new key is made.",
    )


def _pem(public_key: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = Ed25519PublicKey.from_public_bytes(public_key)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
