"""What the audio server is told, and whether it may listen that way at all."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import msgspec

from steno.core.addresses import split_address
from steno.errors import ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to listen, and the limits that keep one peer from harming the others.

    Attributes:
        listen: ``host:port``; port 0 takes a free one, an empty host means all interfaces.
        tls_cert: PEM chain; read again when it changes.
        tls_key: Its private key.
        behind_proxy: Networks of proxies that do TLS for us and whose ``X-Forwarded-For`` and
            ``X-Forwarded-Proto`` are believed.
        paths: Where upgrades are taken; any other path is 404. Empty: the router says.
        max_connections: Open connections, those being decided about included.
        max_per_peer: The same for one address; 0 for no limit of its own.
        max_upgrading: Connections that have not been accepted yet; beyond it a new one is
            dropped unheard.
        handshake_s: From accepting TCP to a complete request, TLS apart, which has as long.
        decision_s: How long the router may think.
        close_s: How long a closing handshake and what is still to be sent may take.
        unsent_limit_bytes: A peer that leaves more than this untaken is let go.
        receive_buffer_bytes: The kernel's buffer of one connection, and so about the most that
            is read at once.
        tick_s: Step of the reading rhythm.
        backlog: Connections the kernel holds before we take them.
    """

    listen: str = "127.0.0.1:8080"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    behind_proxy: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    max_connections: int = 2000
    max_per_peer: int = 0
    max_upgrading: int = 1024
    handshake_s: float = 5.0
    decision_s: float = 6.0
    close_s: float = 2.0
    unsent_limit_bytes: int = 1_048_576
    receive_buffer_bytes: int = 131_072
    tick_s: float = 0.02
    backlog: int = 1024


def checked_address(settings: ServerSettings) -> tuple[str, int]:
    """Return host and port to listen on.

    Raises:
        ConfigError: Not an address; half of a certificate; or calls would cross a network in
            plain text.
    """
    host, port = split_address(settings.listen, setting="media.listen")
    if (settings.tls_cert is None) != (settings.tls_key is None):
        missing = "tls_key" if settings.tls_key is None else "tls_cert"
        raise ConfigError(
            "a certificate and its key belong together",
            setting=f"media.{missing}",
            fix="Give both, or neither.",
        )
    encrypted = settings.tls_cert is not None or bool(settings.behind_proxy)
    if not encrypted and not _is_loopback(host):
        raise ConfigError(
            "call audio would be taken unencrypted beyond this machine",
            setting="media.listen",
            fix="Set media.tls_cert and media.tls_key, or media.behind_proxy to the addresses "
            "of the proxy that does TLS.",
        )
    return host, port


def networks(entries: tuple[str, ...], *, setting: str) -> tuple[Network, ...]:
    """Return addresses and networks parsed.

    Raises:
        ConfigError: An entry is neither.
    """
    try:
        return tuple(ipaddress.ip_network(entry, strict=False) for entry in entries)
    except ValueError:
        raise ConfigError(
            "an entry is neither an address nor a network",
            setting=setting,
            fix="Write 10.0.0.0/8 or 192.0.2.7.",
        ) from None


def _is_loopback(host: str) -> bool:
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
