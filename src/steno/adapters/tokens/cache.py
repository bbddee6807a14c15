"""A token shared between the processes of one machine: a sealed file under a lock.

The file is 0600 in a folder of ours, written aside and renamed into place, and sealed with a key
made from the client's own secret: who reads the state directory alone gets no token, and who
starts with another secret does not go on with the old token.

Age is measured on the machine's uptime clock while it has not been restarted, so that setting
the wall clock makes no token valid or invalid. After a restart, or between machines, the wall
clock is all there is; a token from the future is not used.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from steno.core.hosts import Host
from steno.core.secret import Secret
from steno.ports import Telemetry
from steno.wire.oauth import Grant, Proof, Shape, sealing_secret

_MAGIC: Final = b"STK1"
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_MAX_FILE_BYTES: Final = 64 * 1024
_LOCK_POLL_S: Final = 0.03
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def uptime_s() -> float:
    """Return seconds of the machine's uptime, the time it slept included where that is known."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Clock(NamedTuple):
    """The two clocks that tokens live by: uptime, and UTC seconds since the epoch."""

    uptime: Callable[[], float] = uptime_s
    unix: Callable[[], float] = time.time


class Kept(NamedTuple):
    """A token and the uptime at which it was given."""

    grant: Grant
    issued_at: float


class _Stored(msgspec.Struct):
    token: str
    life_s: float
    scopes: list[str] | None
    issued_unix_s: float
    issued_uptime_s: float
    boot: str


_decoder = msgspec.json.Decoder(_Stored)


class TokenCache:
    """The file and its lock. Nothing here ever fails a caller: without cache there is OAuth.

    Args:
        folder: Made with mode 0700 when it is not there.
        identity: What the token is for: host, client, scopes. Hashed into the file name.
        secret: Seals the content; an empty one turns the cache off.
        telemetry: One warning when the cache cannot be used.
        clock: The clocks.
    """

    def __init__(
        self,
        folder: Path,
        *,
        identity: str,
        secret: Secret,
        telemetry: Telemetry,
        clock: Clock | None = None,
    ) -> None:
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        self._folder = folder
        self._path = folder / f"{name}.token"
        self._lock_path = folder / f"{name}.lock"
        self._name = name.encode()
        self._secret = secret
        self._telemetry = telemetry
        self._clock = clock or Clock()
        self._boot = _boot_id()
        self._warned = False

    @property
    def path(self) -> Path:
        """The token's file."""
        return self._path

    @asynccontextmanager
    async def locked(self, limit_s: float) -> AsyncIterator[bool]:
        """Hold the lock between processes; yields False when it could not be had.

        It is asked for again and again rather than waited for in a thread: a thread cannot be
        cancelled. A holder that was stopped keeps others for ``limit_s``, no longer.
        """
        descriptor = self._open_lock()
        held = False
        try:
            if descriptor is not None:
                held = await _lock(descriptor, limit_s)
                if not held:
                    self._warn("locked")
            yield held
        finally:
            if descriptor is not None:
                os.close(descriptor)  # gives the lock up too

    def read(self) -> Kept | None:
        """Return the token in the file; None if there is none that can be trusted."""
        if not self._secret:
            return None
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.ENOENT:
                self._warn("unreadable")
            return None
        with os.fdopen(descriptor, "rb") as stream:
            if not _is_private(os.fstat(stream.fileno())):
                self._warn("open_to_others")
                return None
            sealed = stream.read(_MAX_FILE_BYTES)
        stored = self._opened(sealed)
        return None if stored is None else self._dated(stored)

    def write(self, kept: Kept) -> None:
        """Put a token into the file, for the other processes.

        Not fsync'ed: after a power cut a torn file does not open, and OAuth is asked again.
        """
        if not self._secret:
            return
        age_s = self._clock.uptime() - kept.issued_at
        stored = _Stored(
            token=kept.grant.token,
            life_s=kept.grant.expires_in_s,
            scopes=None if kept.grant.scopes is None else sorted(kept.grant.scopes),
            issued_unix_s=self._clock.unix() - age_s,
            issued_uptime_s=kept.issued_at,
            boot=self._boot,
        )
        aside = self._path.with_suffix(f".{os.getpid()}.new")
        try:
            aside.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(aside, flags, 0o600), "wb") as stream:
                stream.write(self._sealed(msgspec.json.encode(stored)))
            aside.replace(self._path)
        except OSError:
            self._warn("unwritable")
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)

    def _open_lock(self) -> int | None:
        if not self._secret:
            return None
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self._folder.stat()
            if found.st_uid != os.geteuid() or found.st_mode & 0o022:
                self._warn("folder_open_to_others")
                return None
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            return os.open(self._lock_path, flags, 0o600)
        except OSError:
            self._warn("unwritable")
            return None

    def _dated(self, stored: _Stored) -> Kept | None:
        uptime = self._clock.uptime()
        if self._boot and stored.boot == self._boot:
            age_s = uptime - stored.issued_uptime_s
        else:
            age_s = self._clock.unix() - stored.issued_unix_s
        if not 0 <= age_s < stored.life_s:
            return None
        scopes = None if stored.scopes is None else frozenset(stored.scopes)
        return Kept(Grant(stored.token, stored.life_s, scopes), uptime - age_s)

    def _sealed(self, plain: bytes) -> bytes:
        salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
        return _MAGIC + salt + nonce + AESGCM(self._key(salt)).encrypt(nonce, plain, self._name)

    def _opened(self, sealed: bytes) -> _Stored | None:
        start = len(_MAGIC) + _SALT_BYTES
        salt, nonce = sealed[len(_MAGIC) : start], sealed[start : start + _NONCE_BYTES]
        if sealed[: len(_MAGIC)] != _MAGIC or len(nonce) != _NONCE_BYTES:
            return None
        try:
            plain = AESGCM(self._key(salt)).decrypt(
                nonce, sealed[start + _NONCE_BYTES :], self._name
            )
            return _decoder.decode(plain)
        except (InvalidTag, msgspec.MsgspecError):  # another secret, or damaged
            return None

    def _key(self, salt: bytes) -> bytes:
        hkdf = HKDF(SHA256(), 32, salt, b"steno token cache")
        return hkdf.derive(self._secret.reveal().encode())

    def _warn(self, cause: str) -> None:
        if not self._warned:
            self._warned = True
            self._telemetry.warning("token.cache_unusable", cause=cause)


def shared_cache(
    folder: Path,
    host: Host,
    shape: Shape,
    client_id: str,
    proof: Proof,
    *,
    scopes: Sequence[str] = (),
    telemetry: Telemetry,
) -> TokenCache:
    """Return the cache of one client at one host, for ``TokenManager``.

    Args:
        folder: ``tokens`` in the state directory.
        host: The token endpoint's host.
        shape: How it is asked.
        client_id: The OAuth client.
        proof: Seals the file: who logs in otherwise cannot read it.
        scopes: Asked for; another set is another file.
        telemetry: One warning when the cache cannot be used.
    """
    return TokenCache(
        folder,
        identity="\n".join((host.http_base, shape, client_id, *sorted(scopes))),
        secret=sealing_secret(proof),
        telemetry=telemetry,
    )


async def _lock(descriptor: int, limit_s: float) -> bool:
    now = asyncio.get_running_loop().time
    end = now() + limit_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if now() >= end:
                return False
        except OSError:  # a file system without locks
            return False
        else:
            return True
        await asyncio.sleep(_LOCK_POLL_S)


def _is_private(found: os.stat_result) -> bool:
    return (
        stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    )


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
