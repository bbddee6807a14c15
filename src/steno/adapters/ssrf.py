"""Keeps requests to addresses from outside away from our own networks.

The check happens where the connection is made: a name is resolved once, every address it has is
checked, and only those are connected to. A last check stands at the socket itself, so neither an
address written as a name, nor a second resolution, nor a future code path gets around it.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from steno.errors import ConfigError

MAX_URL_CHARS: Final = 2048

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Beside what ``is_global`` refuses: carriers of an inner IPv4 address, whose routers would
# deliver to it, and ranges that versions of the standard library judge differently.
_REFUSED: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48",
        "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16",
        "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip

PRIVATE: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "::1", "fc00::/7")
)
"""What ``allow_private`` means: an operator's own networks and this machine, nothing else."""

# A host that is an address in one of the old notations: 2130706433, 0177.0.0.1, 0x7f.1
_NUMERIC_HOST: Final = re.compile(r"(0[xX][0-9a-fA-F]*|\d+)(\.(0[xX][0-9a-fA-F]*|\d+)){0,3}\.?")


class AddressForbidden(OSError):
    """Connecting to this address is not permitted. An OSError, as aiohttp expects of sockets."""


class EgressRules:
    """Which addresses may be connected to: public ones, and what is allow-listed.

    Args:
        allow: Networks or addresses permitted besides (``10.1.0.0/16``, ``127.0.0.1``, …).

    Raises:
        ConfigError: An entry is not a network.
    """

    def __init__(self, allow: Iterable[str | Network] = ()) -> None:
        self._allowed = tuple(_network(entry) for entry in allow)

    def permits(self, address: str) -> bool:
        """Tell whether a literal address may be connected to; False for anything else."""
        if "%" in address:  # a zone id: the meaning depends on this machine's interfaces
            return False
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if any(found.version == net.version and found in net for net in self._allowed):
            return True
        return _is_public(found)

    def check_url(
        self,
        text: str,
        *,
        allow_http: bool = False,
        setting: str = "url",
        max_chars: int = MAX_URL_CHARS,
    ) -> URL:
        """Return a URL that may be configured; names are checked again at connect time.

        Args:
            allow_http: Plain http beyond allow-listed addresses, too.
            max_chars: Longest URL taken; presigned ones are long.

        Raises:
            ConfigError: Scheme, host, or form is not permitted. The URL itself is not in the
                error, it may carry a secret.
        """
        url = _parsed(text, setting, max_chars)
        host = url.host or ""
        authority = re.split(r"[/?#]", text.partition("://")[2], maxsplit=1)[0]
        if url.user is not None or url.password is not None or "@" in authority:
            raise ConfigError("credentials in a URL are refused", setting=setting)
        if not host or "%" in host or "\\" in text:
            raise ConfigError("the URL's host is not acceptable", setting=setting)
        is_literal = _is_literal(host)
        if not is_literal and _NUMERIC_HOST.fullmatch(host):
            raise ConfigError(
                "the URL's host is an address in disguise",
                setting=setting,
                fix="Write IPv4 addresses as four decimal numbers.",
            )
        if is_literal and not self.permits(host):
            raise self._refused(setting)
        is_loopback_name = host.rstrip(".").lower() == "localhost"
        if is_loopback_name and not (self.permits("127.0.0.1") and self.permits("::1")):
            raise self._refused(setting)
        is_listed = is_loopback_name or (is_literal and not EgressRules().permits(host))
        if url.scheme != "https" and not (url.scheme == "http" and (allow_http or is_listed)):
            raise ConfigError(
                "the URL must be https", setting=setting, fix="Plain http needs an allow-list."
            )
        return url

    @staticmethod
    def _refused(setting: str) -> ConfigError:
        return ConfigError(
            "the URL leads into a private network",
            setting=setting,
            fix="Allow-list the address if that is meant.",
        )

    def connector(
        self,
        *,
        limit: int = 100,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> aiohttp.TCPConnector:
        """Return a connector of aiohttp that connects to permitted addresses only.

        Use it with ``allow_redirects=False`` and ``trust_env=False``: a redirect would be
        checked too, a proxy would connect on our behalf unchecked.

        Args:
            limit: Most connections in use.
            resolver: Finds the addresses of names, which are then checked; the system's if None.
            tls: Whose certificates are trusted; the system's authorities if None.
        """
        return aiohttp.TCPConnector(
            ssl=True if tls is None else tls,
            resolver=CheckedResolver(self, resolver),
            socket_factory=self._socket,
            use_dns_cache=False,
            limit=limit,
        )

    def _socket(
        self, info: tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, object]
    ) -> socket.socket:
        """Make the socket for an address that is about to be connected to."""
        family, kind, proto, _, address = info
        host = address[0] if isinstance(address, tuple) else ""
        if not self.permits(str(host)):
            raise AddressForbidden("address not permitted")
        return socket.socket(family, kind, proto)


class CheckedResolver(AbstractResolver):
    """Resolves a name once and refuses it when any of its addresses is forbidden.

    All of them, not only the bad one: a name that points both outside and inside is an attack
    or a mistake, and neither should succeed now and then.
    """

    def __init__(self, rules: EgressRules, inner: AbstractResolver | None = None) -> None:
        self._rules = rules
        self._inner = inner or aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            AddressForbidden: One of them is not permitted.
            OSError: The name does not resolve.
        """
        found = await self._inner.resolve(host, port, family)
        if not all(self._rules.permits(entry["host"]) for entry in found):
            raise AddressForbidden("the name resolves to an address that is not permitted")
        return found

    async def close(self) -> None:
        """Let go of the inner resolver."""
        await self._inner.close()


def forbids(error: BaseException) -> bool:
    """Tell whether a failed connection was refused by these rules."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, AddressForbidden):
            return True
        inner = getattr(seen, "os_error", None)
        seen = inner if isinstance(inner, BaseException) else seen.__cause__
    return False


def _parsed(text: str, setting: str, max_chars: int) -> URL:
    if not text.isprintable() or " " in text or len(text) > max_chars:
        raise ConfigError("the URL has characters that do not belong there", setting=setting)
    try:
        url = URL(text)
        _ = url.port
    except ValueError:
        raise ConfigError("the URL cannot be read", setting=setting) from None
    return url


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_public(address: Address) -> bool:
    if any(address.version == net.version and address in net for net in _REFUSED):
        return False
    return address.is_global and not address.is_multicast


def _network(entry: str | Network) -> Network:
    if not isinstance(entry, str):
        return entry
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        raise ConfigError("an allow-list entry is not a network", setting="allow") from None


def rules_for(*, allow_private: bool, allow: Sequence[str] = ()) -> EgressRules:
    """Return the rules of one destination."""
    return EgressRules([*(PRIVATE if allow_private else ()), *allow])
