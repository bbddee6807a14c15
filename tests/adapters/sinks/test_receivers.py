"""Which receivers may be called, how many calls at once, and which are gone."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from steno.adapters.sinks.receivers import (
    GoneEndpoints,
    HostSlots,
    ReceiverRules,
    SharedLookups,
)
from steno.errors import ConfigError

HOST = ("https", "a.example", 443)


def test_an_allow_list_has_networks_and_names() -> None:
    """Networks are for literal addresses, names for what they resolve to."""
    rules = ReceiverRules(["10.1.0.0/16", "fd00::/8", "Hooks.Corp.example."])
    assert rules.networks == ("10.1.0.0/16", "fd00::/8")
    assert not rules.check("http://10.1.2.3/").is_listed
    assert rules.check("https://HOOKS.corp.example./x").is_listed
    assert not rules.check("https://hooks.corp.example.evil.example/").is_listed
    with pytest.raises(ConfigError):
        rules.check("http://10.2.0.1/")


@pytest.mark.parametrize(
    "entry", ["", " ", "10.0.0.0/33", "http://a.example/", "a.example:80", "*.example", "1.2.3",
              "2130706433", "0x7f.1", "a b", "user@a.example"]
)  # fmt: skip
def test_an_entry_that_is_neither_is_refused(entry: str) -> None:
    """A mistake in an allow-list is told at the start."""
    with pytest.raises(ConfigError):
        ReceiverRules([entry])


def test_a_listed_name_opens_private_networks_only() -> None:
    """Not link-local, shared, multicast or carrier addresses."""
    rules = ReceiverRules(["hooks.corp.example"])
    for address in ("10.0.0.1", "192.168.1.1", "127.0.0.1", "fd00::1", "8.8.8.8"):
        assert rules.listed.permits(address)
    for address in ("169.254.169.254", "100.64.0.1", "224.0.0.1", "::ffff:10.0.0.1", "fe80::1"):
        assert not rules.listed.permits(address)
    assert not rules.public.permits("10.0.0.1")


def test_a_refused_address_is_not_repeated() -> None:
    """It may hold a secret."""
    for url in ("http://127.0.0.1/canary", "nonsense-canary", "http://a@canary.example/"):
        with pytest.raises(ConfigError) as caught:
            ReceiverRules().check(url)
        assert "canary" not in str(caught.value)


def test_hosts_are_told_apart_by_scheme_and_port() -> None:
    """Paths and queries share their host's limits."""
    rules = ReceiverRules()
    one = rules.check("https://A.example/one?x=1").host
    assert one == rules.check("https://a.example:443/two").host == HOST
    assert one != rules.check("https://a.example:444/").host
    assert one != rules.check("http://a.example/").host


async def test_slots_bound_a_host_and_are_forgotten_with_it() -> None:
    """So many at once, so many waiting, the others not now; nothing stays of a quiet host."""
    slots = HostSlots(2, 1, 0.05)
    assert await slots.enter(HOST)
    assert await slots.enter(HOST)
    waiting = asyncio.ensure_future(slots.enter(HOST))
    await asyncio.sleep(0)
    assert not await slots.enter(HOST)  # at once: nobody else may wait
    slots.leave(HOST)
    assert await waiting
    assert not await slots.enter(HOST)  # waited, in vain
    slots.leave(HOST)
    slots.leave(HOST)
    assert len(slots) == 0


async def test_who_is_cancelled_while_waiting_leaves_no_trace() -> None:
    """The next one gets the turn."""
    slots = HostSlots(1, 1, 5.0)
    assert await slots.enter(HOST)
    waiting = asyncio.ensure_future(slots.enter(HOST))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    slots.leave(HOST)
    assert len(slots) == 0
    assert await slots.enter(HOST)
    slots.leave(HOST)


def test_gone_endpoints_are_remembered_within_a_bound() -> None:
    """The oldest is forgotten first; the address itself is not kept."""
    gone = GoneEndpoints(capacity=2)
    one, two, three = (URL(f"https://a.example/canary/{n}") for n in range(3))
    assert gone.add(one)
    assert not gone.add(one)
    assert gone.add(two)
    assert gone.add(three)
    assert one not in gone
    assert two in gone
    assert "canary" not in repr(vars(gone))


class Slow(AbstractResolver):
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.error: OSError | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return []

    async def close(self) -> None:
        pass


async def test_a_name_is_looked_up_once_for_all_who_wait() -> None:
    """Also for those who come after the first has given up; another name is another lookup."""
    inner = Slow()
    lookups = SharedLookups(inner)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await lookups.resolve("a.example", 443)
    others = [asyncio.ensure_future(lookups.resolve(f"{n}.example", 443)) for n in "aab"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert inner.asked == ["a.example", "b.example"]
    inner.gate.set()
    assert await asyncio.gather(*others) == [[], [], []]
    await lookups.resolve("a.example", 443)
    assert inner.asked == ["a.example", "b.example", "a.example"]  # nothing is kept
    await lookups.close()


async def test_a_failed_lookup_fails_for_all_who_wait_and_is_tried_again() -> None:
    """An error is no answer to keep."""
    inner = Slow()
    inner.error = OSError("no such name")
    inner.gate.set()
    lookups = SharedLookups(inner)
    for _ in range(2):
        with pytest.raises(OSError, match="no such name"):
            await lookups.resolve("a.example")
    assert len(inner.asked) == 2
    await lookups.close()


async def test_closing_waits_for_no_lookup() -> None:
    """Who still asks gets an error, not a cancellation."""
    lookups = SharedLookups(Slow())
    asking = asyncio.ensure_future(lookups.resolve("a.example"))
    await asyncio.sleep(0)
    await lookups.close()
    with pytest.raises(OSError, match="given up"):
        await asking
