"""Who the other end is: the socket's address, or what a trusted proxy says it is."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from steno.adapters.audio_server.settings import Network

_MAX_HOPS = 32

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxies:
    """The proxies that are believed."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)

    def trusts(self, address: str) -> bool:
        """Tell whether an address is one of a trusted proxy's."""
        found = _address(address)
        return found is not None and self._holds(found)

    def admits(self, address: str, *, tls: bool) -> bool:
        """Tell whether a connection may be served: with proxies that do TLS, who comes past
        them unencrypted is turned away; this machine itself may.
        """
        found = _address(address)
        if tls or not self._trusted or found is None:
            return True
        return found.is_loopback or self._holds(found)

    def caller(self, address: str, forwarded_for: Sequence[str]) -> str:
        """Return the address of who called: the last one named by ``X-Forwarded-For`` that is
        not a trusted proxy itself. What stands further left, the caller may have invented.
        """
        current = _address(address)
        if current is None:
            return address
        named = [item for value in forwarded_for for item in value.split(",")]
        for item in reversed(named[-_MAX_HOPS:]):
            if not self._holds(current):
                break
            before = _address(_without_port(item.strip()))
            if before is None:
                break
            current = before
        return str(current)

    def secure(self, address: str, forwarded_proto: Sequence[str]) -> bool:
        """Tell whether a trusted proxy says that the caller came over TLS."""
        if not forwarded_proto or not self.trusts(address):
            return False
        return forwarded_proto[-1].rpartition(",")[2].strip().lower() in ("https", "wss")

    def _holds(self, address: Address) -> bool:
        return any(address.version == net.version and address in net for net in self._trusted)


def _address(text: str) -> Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return mapped if isinstance(mapped, ipaddress.IPv4Address) else found


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
