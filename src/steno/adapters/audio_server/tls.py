"""The server's certificate, exchanged without a restart."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from steno.errors import ConfigError

_Stamp = tuple[tuple[int, int, int], ...]


class Certificates:
    """A TLS context whose certificate follows its files.

    Connections made before a change keep theirs. A replacement takes effect as a whole: a new
    chain whose key has not arrived yet is not used.

    Raises:
        ConfigError: The files cannot be read, or do not belong together.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._files = (cert, key)
        self._stamp = self._stamped()
        self._current = self._load()
        self.context = self._load()
        # The listening socket keeps this context; each handshake is sent on to the newest.
        self.context.sni_callback = self._choose

    def refresh(self) -> bool:
        """Read the files if they have changed; True when there is a new certificate. Blocks.

        Raises:
            ConfigError: They cannot be used; the old certificate stays until they change again.
        """
        stamp = self._stamped()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self._current = self._load()
        return True

    def _choose(self, connection: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        connection.context = self._current

    def _stamped(self) -> _Stamp:
        try:
            found = [os.stat(path) for path in self._files]
        except OSError:
            return ()
        return tuple((entry.st_mtime_ns, entry.st_ino, entry.st_size) for entry in found)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(["http/1.1"])
        try:
            # A passphrase would be asked for on the terminal: refused instead.
            context.load_cert_chain(*self._files, password=_no_passphrase)
        except (OSError, ValueError):
            raise ConfigError(
                "the TLS certificate or its key cannot be used",
                setting="media.tls_cert",
                fix="Give a PEM chain, leaf first, and its unencrypted key.",
            ) from None
        return context


def _no_passphrase() -> str:
    return ""
