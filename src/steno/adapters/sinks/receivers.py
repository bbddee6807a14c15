"""The receivers of jobs' webhooks: which may be called, how many calls at once, which are gone.

Their addresses come with requests, from whoever may ask for a transcription. So each is checked
like a stranger's, one that is slow cannot take the calls of the others, and a name whose servers
do not answer takes one thread at most.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import Final, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from steno.adapters.ssrf import PRIVATE, EgressRules
from steno.errors import ConfigError

MAX_GONE: Final = 4096

_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\.?")
_NUMERIC: Final = re.compile(r"[0-9.]+|0[xX][0-9a-fA-F.xX]*")


class Receiver(NamedTuple):
    """A checked address. ``is_listed`` says that its name is allow-listed."""

    url: URL
    is_listed: bool

    @property
    def host(self) -> tuple[str, str, int]:
        """What shares its limits: scheme, host and port."""
        return self.url.scheme, (self.url.raw_host or "").lower(), self.url.port or 0


class ReceiverRules:
    """Which receivers may be called.

    Public addresses may, by https and by http. The networks of an operator or of this machine
    may when they are allow-listed, or under a name that is. A name on the list does not open
    addresses of other kinds (link-local, shared, multicast, carriers of IPv4): those need to be
    listed as networks.

    Args:
        allow: Networks, addresses (``10.1.0.0/16``) and host names (``hooks.corp.example``).

    Raises:
        ConfigError: An entry is neither.
    """

    def __init__(self, allow: Iterable[str] = ()) -> None:
        networks: list[str] = []
        hosts: set[str] = set()
        for entry in allow:
            if _is_network(entry):
                networks.append(entry)
            elif _NAME.fullmatch(entry) and not _NUMERIC.fullmatch(entry):
                hosts.add(entry.rstrip(".").lower())
            else:
                raise ConfigError(
                    "an allow-list entry is neither a network nor a host name",
                    setting="allow",
                    fix="Write 10.1.0.0/16, 10.1.2.3 or hooks.corp.example.",
                )
        self.networks = tuple(networks)
        """The entries that are networks or addresses."""
        self.public = EgressRules(networks)
        """For names and addresses in general."""
        self.listed = EgressRules([*PRIVATE, *networks])
        """For the host names of the allow-list."""
        self.hosts = frozenset(hosts)
        """The entries that are names."""

    def check(self, address: str) -> Receiver:
        """Return the receiver at an address; names are checked again where they are connected to.

        Raises:
            ConfigError: It may not be called. The address is not in the error.
        """
        is_listed = _host_of(address) in self.hosts
        rules = self.listed if is_listed else self.public
        return Receiver(rules.check_url(address, allow_http=True, setting="webhook"), is_listed)


class HostSlots:
    """Bounds the calls to one host, so that the others find room.

    Args:
        active: Calls to a host at once.
        waiting: Calls that may wait for their turn; further ones have to come back later.
        wait_s: How long.
    """

    def __init__(self, active: int, waiting: int, wait_s: float) -> None:
        self._active = active
        self._most = active + waiting
        self._wait_s = wait_s
        self._hosts: dict[tuple[str, str, int], _Host] = {}

    async def enter(self, key: tuple[str, str, int]) -> bool:
        """Wait for a turn; True obliges to ``leave``, False means that there is none for now."""
        host = self._hosts.get(key)
        if host is None:
            host = self._hosts[key] = _Host(self._active)
        if host.users >= self._most:
            return False
        host.users += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await host.turns.acquire()
        except TimeoutError:
            self._drop(key, host)
            return False
        except asyncio.CancelledError:
            self._drop(key, host)
            raise
        return True

    def leave(self, key: tuple[str, str, int]) -> None:
        """Let the next one in."""
        host = self._hosts[key]
        host.turns.release()
        self._drop(key, host)

    def __len__(self) -> int:
        """Return how many hosts are being called."""
        return len(self._hosts)

    def _drop(self, key: tuple[str, str, int], host: _Host) -> None:
        host.users -= 1
        if not host.users:
            del self._hosts[key]


class _Host:
    __slots__ = ("turns", "users")

    def __init__(self, active: int) -> None:
        self.turns = asyncio.Semaphore(active)
        self.users = 0


class GoneEndpoints:
    """Remembers addresses that answered 410, by their hash.

    Until the process ends, or so many others are gone that the oldest is forgotten: then it is
    called once more, and says so again.
    """

    def __init__(self, capacity: int = MAX_GONE) -> None:
        self._capacity = capacity
        self._digests: dict[bytes, None] = {}

    def add(self, url: URL) -> bool:
        """Remember an address; True if it was not known."""
        digest = _digest(url)
        if digest in self._digests:
            return False
        self._digests[digest] = None
        if len(self._digests) > self._capacity:
            del self._digests[next(iter(self._digests))]
        return True

    def __contains__(self, url: URL) -> bool:
        return _digest(url) in self._digests


class SharedLookups(AbstractResolver):
    """Looks a name up once for all who ask at the same time, and keeps nothing.

    A lookup runs in a thread that cannot be stopped. Its askers give up at their deadlines;
    those who come while it still runs wait for the same one.
    """

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self._inner = inner
        self._running: dict[tuple[str, int, int], asyncio.Task[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name, unchecked.

        Raises:
            OSError: The name does not resolve.
        """
        if self._inner is None:
            self._inner = aiohttp.ThreadedResolver()
        key = (host, port, int(family))
        task = self._running.get(key)
        if task is None:
            task = asyncio.ensure_future(self._inner.resolve(host, port, family))
            self._running[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            asker = asyncio.current_task()
            if task.cancelled() and not (asker is not None and asker.cancelling()):
                raise OSError("the lookup was given up") from None  # by ``close``
            raise

    async def close(self) -> None:
        """Wait for nobody; what still runs is given up."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._inner is not None:
            await self._inner.close()

    def _ended(self, key: tuple[str, int, int], task: asyncio.Task[list[ResolveResult]]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # taken note of: all who asked may have given up


def _digest(url: URL) -> bytes:
    return hashlib.sha256(str(url).encode()).digest()


def _host_of(address: str) -> str:
    try:
        return (URL(address).raw_host or "").rstrip(".").lower()
    except ValueError:
        return ""  # the check that follows refuses it, with its reason


def _is_network(entry: str) -> bool:
    try:
        ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return True
