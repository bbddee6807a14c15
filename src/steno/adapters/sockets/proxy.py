"""HTTP proxies for WebSocket connections: which one to use, and the CONNECT tunnel through it."""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from steno.core.hosts import is_loopback
from steno.core.secret import Secret
from steno.errors import AuthError, ConfigError, ConnectFailed

MAX_ANSWER_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. ``credentials`` is ``user:password``, empty for none."""

    host: str
    port: int
    secure: bool
    credentials: Secret = field(default_factory=lambda: Secret(""))


def proxy_for(setting: str, *, secure: bool, host: str) -> Proxy | None:
    """Return the proxy for a host; None for a direct connection.

    Args:
        setting: ``env``, ``none`` or a proxy's address.
        secure: The address is ``wss``.
        host: Of the platform, looked up in ``NO_PROXY``; this machine itself needs no proxy
            that only the environment names.

    Raises:
        ConfigError: Not an ``http://`` or ``https://`` address.
    """
    if setting == "none":
        return None
    if setting != "env":
        return _parsed(setting)
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    wanted = ("wss", "https", "all") if secure else ("ws", "http", "all")
    address = next((proxies[name] for name in wanted if proxies.get(name)), "")
    return _parsed(address) if address else None


def _parsed(address: str) -> Proxy:
    # The address may hold a password: no error quotes it.
    try:
        url = urlsplit(address if "://" in address else f"http://{address}")
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ConfigError(
            "not a proxy address we can use",
            setting="proxy",
            fix="Use http://host:port or https://host:port; SOCKS is not supported.",
        )
    user = ""
    if url.username is not None:
        user = f"{unquote(url.username)}:{unquote(url.password or '')}"
    default = 443 if url.scheme == "https" else 80
    return Proxy(url.hostname, port or default, url.scheme == "https", Secret(user))


async def tunnel(
    proxy: Proxy,
    host: str,
    port: int,
    *,
    proxy_tls: ssl.SSLContext,
    tls: ssl.SSLContext | None,
    protocol: asyncio.Protocol,
) -> None:
    """Connect ``protocol`` to ``host`` through the proxy, with TLS to the host if given.

    Raises:
        AuthError: The proxy wants other credentials (407).
        ConnectFailed: The proxy refused or hung up.
        OSError, ssl.SSLError: No way to the proxy, or TLS failed.
    """
    loop = asyncio.get_running_loop()
    transport, answer = await loop.create_connection(
        _Answer,
        proxy.host,
        proxy.port,
        ssl=proxy_tls if proxy.secure else None,
        server_hostname=proxy.host if proxy.secure else None,
    )
    try:
        transport.write(_connect_request(proxy, host, port))
        _check(await answer.head, host)
        if tls is not None:
            upgraded = await loop.start_tls(transport, protocol, tls, server_hostname=host)
            if upgraded is None:
                raise ConnectFailed("the proxy hung up", host=host)
            transport = upgraded
        else:
            transport.set_protocol(protocol)
    except BaseException:
        transport.abort()
        raise
    protocol.connection_made(transport)


class _Answer(asyncio.Protocol):
    """Collects the head of the proxy's answer."""

    def __init__(self) -> None:
        self.head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._got = bytearray()

    def data_received(self, data: bytes) -> None:
        self._got += data
        end = self._got.find(b"\r\n\r\n")
        if self.head.done():
            return
        if end >= 0:
            self.head.set_result(bytes(self._got[:end]))
        elif len(self._got) > MAX_ANSWER_BYTES:
            self.head.set_result(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.head.done():
            self.head.set_result(b"")


def _connect_request(proxy: Proxy, host: str, port: int) -> bytes:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.credentials:
        basic = base64.b64encode(proxy.credentials.reveal().encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {basic}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _check(head: bytes, host: str) -> None:
    parts = head.split(b"\r\n", 1)[0].split(b" ", 2)
    status = parts[1].decode("ascii", "replace") if len(parts) > 1 else ""
    if not status.isdigit():
        raise ConnectFailed("the proxy hung up or does not speak HTTP", host=host)
    if status == "407":
        raise AuthError(
            "the proxy refused our credentials",
            fix="Put user and password into the proxy's address.",
            host=host,
            status=407,
        )
    if not status.startswith("2"):
        raise ConnectFailed("the proxy refused the tunnel", host=host, status=int(status[:3]))
