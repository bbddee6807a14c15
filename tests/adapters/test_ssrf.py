"""Requests to configured endpoints reach permitted addresses only, checked where they connect."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from steno.adapters.ssrf import (
    AddressForbidden,
    CheckedResolver,
    EgressRules,
    forbids,
    rules_for,
)
from steno.errors import ConfigError

FORBIDDEN = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255",
    "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1",
    "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.1.1.1", "240.0.0.1",
    "255.255.255.255", "192.88.99.1",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "2002:7f00:1::", "2002:808:808::1",
    "2001::1", "2001:db8::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1",
    "ff02::1", "100::1", "3fff::1", "5f00::1",
]  # fmt: skip
PERMITTED = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"]

# Names of the trade: decimal, octal and hexadecimal forms, parts left out, credentials, zones.
TRICKS = [
    "https://2130706433/", "https://017700000001/", "https://0x7f000001/", "https://127.1/",
    "https://0177.0.0.1/", "https://0x7f.0.0.1/", "https://127.0.1/", "https://1/",
    "https://localhost/", "https://LOCALHOST./", "https://127.0.0.1:8443/", "https://[::1]/",
    "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://[fe80::1%25eth0]/",
    "https://good.example@127.0.0.1/", "https://user:pw@good.example/", "https://@good.example/",
    "https://good.example\\@127.0.0.1/", "https://169.254.169.254/latest/meta-data/",
    "https:///path", "https://", "ftp://good.example/", "file:///etc/passwd", "gopher://x/",
    "http://good.example/", "https://good.example:99999/", "https://good.example/\r\nX: y",
    "https://good example/", "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/",
    "https://１２７.０.０.１/", "https://127。0。0。1/", "https://0/", "javascript:alert(1)", "",
]  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
def test_special_addresses_are_refused(address: str) -> None:
    """Loopback, private, shared, link-local, multicast, embedded IPv4 and reserved ranges."""
    assert not EgressRules().permits(address)


@pytest.mark.parametrize("address", PERMITTED)
def test_public_addresses_are_permitted(address: str) -> None:
    """The guard does not refuse the world."""
    assert EgressRules().permits(address)


@given(address=st.ip_addresses(v=4))
def test_embedded_forms_never_get_further_than_the_address(
    address: ipaddress.IPv4Address,
) -> None:
    """No IPv6 notation of an IPv4 address is permitted, whatever the address."""
    packed = int(address)
    for carrier in ("::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "::"):
        assert not EgressRules().permits(str(ipaddress.IPv6Address(carrier) + packed))
    six_to_four = (0x2002 << 112) + (packed << 80)
    assert not EgressRules().permits(str(ipaddress.IPv6Address(six_to_four)))


def test_the_standard_library_and_the_table_agree() -> None:
    """Whatever is not global is refused, on every version of the library."""
    rules = EgressRules()
    for first in range(256):
        for second in (0, 64, 88, 100, 168, 254):
            address = ipaddress.ip_address(f"{first}.{second}.99.1")
            if rules.permits(str(address)):
                assert address.is_global
                assert not address.is_multicast


@pytest.mark.parametrize("text", ["", "name", "127.0.0.1 ", "8.8.8.8/32", "010.1.1.1", "8.8.8"])
def test_what_is_not_an_address_is_refused(text: str) -> None:
    """Only literal addresses can be permitted."""
    assert not EgressRules().permits(text)


@pytest.mark.parametrize("url", TRICKS)
def test_urls_that_are_refused_when_configured(url: str) -> None:
    """Each trick is a configuration error which does not repeat the URL."""
    with pytest.raises(ConfigError) as caught:
        EgressRules().check_url(url)
    assert "169.254" not in str(caught.value)
    assert "user:pw" not in str(caught.value)


def test_urls_that_are_accepted() -> None:
    """Public names and addresses over https; plain http by name of the allow-list or on wish."""
    rules = EgressRules()
    assert rules.check_url("https://hooks.good.example:8443/a?b=c").host == "hooks.good.example"
    assert rules.check_url("https://8.8.8.8/").host == "8.8.8.8"
    assert rules.check_url("https://1password.example/").host == "1password.example"
    assert rules.check_url("http://good.example/", allow_http=True).scheme == "http"
    listed = EgressRules(["127.0.0.1"])
    assert listed.check_url("http://127.0.0.1:8080/").port == 8080
    with pytest.raises(ConfigError):
        listed.check_url("https://127.0.0.2/")
    assert rules_for(allow_private=True).check_url("http://localhost:1/").host == "localhost"
    with pytest.raises(ConfigError):
        rules_for(allow_private=True).check_url("http://169.254.169.254/")


def test_an_allow_list_of_nonsense_is_refused() -> None:
    """An entry must be an address or a network."""
    with pytest.raises(ConfigError):
        EgressRules(["everything"])


class Names(AbstractResolver):
    """A resolver whose answers are scripted; each resolution takes the next."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answer
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["2606:4700::1111", "::1"]]
)
async def test_one_forbidden_address_refuses_the_name(addresses: list[str]) -> None:
    """A name that points outside and inside is refused, whichever address would be tried."""
    with pytest.raises(AddressForbidden):
        await CheckedResolver(EgressRules(), Names(addresses)).resolve("name.example", 443)


class Canary:
    """A listener on loopback that must see nothing."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    """Listen on loopback and count who comes."""
    seen = Canary()

    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        await reader.readline()
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(on_connect, "127.0.0.1", 0)
    seen.port = server.sockets[0].getsockname()[1]
    async with server:
        yield seen


def session_of(rules: EgressRules, names: AbstractResolver | None = None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=rules.connector(resolver=names), trust_env=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "localhost", "127.1"])
async def test_not_one_byte_reaches_loopback(canary: Canary, host: str) -> None:
    """Even where a URL was not checked before, the connection itself is refused."""
    async with session_of(EgressRules()) as session:
        with pytest.raises(aiohttp.ClientError) as caught:
            await session.get(f"http://{host}:{canary.port}/")
    # Some notations aiohttp refuses by itself, in some versions.
    assert forbids(caught.value) or isinstance(caught.value, aiohttp.InvalidURL)
    assert canary.connections == 0


async def test_both_checks_are_in_place() -> None:
    """Name and socket are checked each by itself, so that one alone would hold."""
    connector = EgressRules().connector()
    assert isinstance(connector._resolver, CheckedResolver)
    with pytest.raises(AddressForbidden):
        await connector._resolver.resolve("localhost", 443)
    factory = connector._socket_factory
    assert factory is not None
    with pytest.raises(AddressForbidden):
        factory((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 443)))
    await connector.close()


async def test_a_resolver_that_is_given_is_checked_as_well() -> None:
    """Whoever finds the addresses, the rules decide."""
    connector = EgressRules().connector(resolver=Names(["10.0.0.1"]))
    with pytest.raises(AddressForbidden):
        await connector._resolver.resolve("name.example", 443)
    await connector.close()


async def test_rebinding_is_refused(canary: Canary) -> None:
    """A name that is public when checked and private when used again stays out."""
    names = Names(["8.8.8.8"], ["127.0.0.1"])
    async with session_of(EgressRules(), names) as session:
        assert (await CheckedResolver(EgressRules(), names).resolve("rebind.example"))[0]
        with pytest.raises(aiohttp.ClientError) as caught:
            await session.get(f"http://rebind.example:{canary.port}/")
    assert forbids(caught.value)
    assert canary.connections == 0
    assert names.asked == 2


async def test_the_checked_address_is_the_one_connected_to(canary: Canary) -> None:
    """A name is resolved once for a connection; there is no second look."""
    names = Names(["127.0.0.1"], ["10.9.9.9"])
    async with (
        session_of(EgressRules(["127.0.0.1"]), names) as session,
        session.get(f"http://name.example:{canary.port}/") as response,
    ):
        assert response.status == 204
    assert (canary.connections, names.asked) == (1, 1)


def test_long_urls_are_taken_where_they_are_meant() -> None:
    """Presigned ones carry a token of a thousand characters and more."""
    url = "https://store.example/" + "x" * 4000
    with pytest.raises(ConfigError):
        EgressRules().check_url(url)
    assert str(EgressRules().check_url(url, max_chars=8000)) == url
