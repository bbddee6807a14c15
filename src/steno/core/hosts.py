"""Host settings: what a host may look like, and which addresses follow from it.

A host is written as ``name``, ``name:port``, ``https://…`` or ``wss://…`` (TLS), or, for
loopback only, ``http://…`` or ``ws://…`` (plain). A loopback name or address without a scheme
is plain too: nothing on this machine has a certificate for it, and the simulator is reached
that way (``127.0.0.1:8080``). ``https://127.0.0.1:8443`` asks for TLS there.

Plain text beyond loopback is refused: tokens and transcripts would cross the network readable.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from steno.errors import ConfigError

REGIONS: Final = MappingProxyType(
    {
        "us-east-1": "mypurecloud.com",
        "us-east-2": "use2.us-gov-pure.cloud",
        "us-west-2": "usw2.pure.cloud",
        "ca-central-1": "cac1.pure.cloud",
        "mx-central-1": "mxc1.pure.cloud",
        "sa-east-1": "sae1.pure.cloud",
        "eu-west-1": "mypurecloud.ie",
        "eu-west-2": "euw2.pure.cloud",
        "eu-central-1": "mypurecloud.de",
        "eu-central-2": "euc2.pure.cloud",
        "eusc-de-east-1": "edee1.eusc-pure.cloud",
        "me-central-1": "mec1.pure.cloud",
        "ap-south-1": "aps1.pure.cloud",
        "ap-southeast-1": "apse1.pure.cloud",
        "ap-southeast-2": "mypurecloud.com.au",
        "ap-northeast-1": "mypurecloud.jp",
        "ap-northeast-2": "apne2.pure.cloud",
        "ap-northeast-3": "apne3.pure.cloud",
    }
)
"""The platform's domains by AWS region: a help, not a limit. Any domain may be set."""

_SCHEMES: Final = {"http": False, "ws": False, "https": True, "wss": True}
_SETTING = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://)?"
    r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_FIX = "Give a name, name:port, https://name or wss://name; http:// and ws:// are for loopback"


@dataclass(frozen=True, slots=True)
class Host:
    """A peer's name, port and whether TLS is spoken with it.

    Attributes:
        name: Lower-case DNS name, or an IP address (IPv6 without brackets).
        port: None where the scheme's own port is meant.
        secure: TLS is spoken; False on loopback only.
    """

    name: str
    port: int | None = None
    secure: bool = True

    @property
    def authority(self) -> str:
        """Name and port as they stand in an address."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"

    @property
    def http_base(self) -> str:
        """``https://…`` (or ``http://…`` on loopback), without a slash at the end."""
        return f"{'https' if self.secure else 'http'}://{self.authority}"

    @property
    def ws_base(self) -> str:
        """``wss://…`` (or ``ws://…`` on loopback), without a slash at the end."""
        return f"{'wss' if self.secure else 'ws'}://{self.authority}"

    @property
    def tcp_port(self) -> int:
        """The port to connect to, the scheme's own one included."""
        return self.port if self.port is not None else (443 if self.secure else 80)

    @property
    def is_loopback(self) -> bool:
        """The host is this machine."""
        return is_loopback(self.name)

    def __str__(self) -> str:
        return self.authority


@dataclass(frozen=True, slots=True)
class PlatformHosts:
    """Where one organisation's services live.

    Attributes:
        api: REST calls; of the tutorial family also OAuth and the transcript stream.
        login: OAuth of the real family.
        streaming: WebSocket of the notification channels of the real family.
    """

    api: Host
    login: Host
    streaming: Host


def is_loopback(name: str) -> bool:
    """Tell whether a name or an address means this machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def parse_host(text: str, *, setting: str, origin: str = "") -> Host:
    """Read a host setting.

    Args:
        text: As described at the top of this module. A slash at the end is forgiven; a path, a
            query or a user name is not, since it would be dropped silently or end up in logs.
        setting: The setting's name, for the error.
        origin: Where the setting came from, for the error.

    Raises:
        ConfigError: The text is no host, or asks for plain text beyond loopback. The text
            itself is not quoted: it may hold a password.
    """

    def wrong(summary: str, fix: str = _FIX) -> ConfigError:
        return ConfigError(summary, setting=setting, origin=origin, fix=fix)

    if not text.strip():
        raise wrong("the host is empty")
    found = _SETTING.fullmatch(text.strip())
    if found is None:
        if "@" in text:
            raise wrong("a host takes no user name or password", "Set the credentials on their own")
        raise wrong("this is not a host, or it has a path")
    scheme = (found["scheme"] or "").lower()
    if scheme and scheme not in _SCHEMES:
        raise wrong("the host has an unknown scheme")
    name = found["name"].strip("[]").lower().rstrip(".")
    if not _is_name(name, bracketed=found["name"].startswith("[")):
        raise wrong("this is not a host name")
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65536:
        raise wrong("the port is not between 1 and 65535")
    loopback = is_loopback(name)
    secure = _SCHEMES[scheme] if scheme else not loopback
    if not secure and not loopback:
        raise wrong("plain http:// or ws:// is for loopback only", "Use https:// or wss://")
    return Host(name, port, secure)


def tutorial_hosts(text: str, *, setting: str, origin: str = "") -> PlatformHosts:
    """Return the hosts of the tutorial family: one host, as it stands, for everything.

    Raises:
        ConfigError: See ``parse_host``.
    """
    host = parse_host(text, setting=setting, origin=origin)
    return PlatformHosts(host, host, host)


def real_hosts(text: str, *, setting: str, origin: str = "") -> PlatformHosts:
    """Return the hosts of a real organisation: ``api.``, ``login.`` and ``streaming.`` of its
    region's domain.

    Args:
        text: The domain; a leading ``api.`` is removed, and an AWS region name stands for its
            domain. A loopback host stands for all three, as the simulator serves them on one
            port. A port other than the scheme's own makes no sense elsewhere, but is kept.
        setting: The setting's name, for the error.
        origin: Where the setting came from, for the error.

    Raises:
        ConfigError: See ``parse_host``.
    """
    known = REGIONS.get(text.strip().lower(), text)
    host = parse_host(known, setting=setting, origin=origin)
    if host.is_loopback:
        return PlatformHosts(host, host, host)
    domain = host.name.removeprefix("api.")
    if "." not in domain or domain.replace(".", "").isdigit():
        raise ConfigError(
            "this is not the domain of a region",
            setting=setting,
            origin=origin,
            fix="Give a domain such as mypurecloud.de, or an AWS region such as eu-central-1",
        )
    api, login, streaming = (
        Host(f"{service}.{domain}", host.port, host.secure)
        for service in ("api", "login", "streaming")
    )
    return PlatformHosts(api, login, streaming)


def region_of(host: Host) -> str:
    """Return the AWS region whose domain the host belongs to; empty when the table has none."""
    for region, domain in REGIONS.items():
        if host.name == domain or host.name.endswith(f".{domain}"):
            return region
    return ""


def _is_name(name: str, *, bracketed: bool) -> bool:
    if bracketed or ":" in name:
        try:
            return bracketed and ipaddress.ip_address(name).version == 6
        except ValueError:
            return False
    if name.replace(".", "").isdigit():  # all digits: an IPv4 address or nothing
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            return False
        return True
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split("."))
