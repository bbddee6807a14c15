"""Host settings: which are taken, what follows from them, and no plain text beyond loopback."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.hosts import REGIONS, Host, parse_host, real_hosts, region_of, tutorial_hosts
from steno.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "http", "ws"),
    [
        ("myorg.mygen.com", "https://myorg.mygen.com", "wss://myorg.mygen.com"),
        ("MyOrg.MyGen.com", "https://myorg.mygen.com", "wss://myorg.mygen.com"),
        ("myorg.mygen.com:8443", "https://myorg.mygen.com:8443", "wss://myorg.mygen.com:8443"),
        ("https://myorg.mygen.com/", "https://myorg.mygen.com", "wss://myorg.mygen.com"),
        ("wss://myorg.mygen.com", "https://myorg.mygen.com", "wss://myorg.mygen.com"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080", "ws://127.0.0.1:8080"),
        ("ws://127.0.0.1:8080", "http://127.0.0.1:8080", "ws://127.0.0.1:8080"),
        ("http://localhost:8080", "http://localhost:8080", "ws://localhost:8080"),
        ("localhost", "http://localhost", "ws://localhost"),
        ("https://127.0.0.1:8443", "https://127.0.0.1:8443", "wss://127.0.0.1:8443"),
        ("ws://[::1]:9", "http://[::1]:9", "ws://[::1]:9"),
        ("10.1.2.3", "https://10.1.2.3", "wss://10.1.2.3"),
        (" myorg.mygen.com. ", "https://myorg.mygen.com", "wss://myorg.mygen.com"),
    ],
)
def test_accepted_forms_give_both_bases(text: str, http: str, ws: str) -> None:
    """A name means TLS; a loopback host without a scheme means plain, as the simulator is."""
    host = parse_host(text, setting="platform.host")
    assert (host.http_base, host.ws_base) == (http, ws)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "http://myorg.mygen.com",
        "ws://10.1.2.3:80",
        "http://127.0.0.1.evil.example",
        "ftp://localhost",
        "https://user:pw@myorg.mygen.com",
        "user@myorg.mygen.com",
        "myorg.mygen.com/api",
        "myorg.mygen.com?x=1",
        "myorg.mygen.com#x",
        "myorg.mygen.com:0",
        "myorg.mygen.com:65536",
        "myorg.mygen.com:",
        "-bad.example",
        "bad-.example",
        "a..b",
        "999.1.1.1",
        "127.1",
        "::1",
        "[127.0.0.1]",
        "[::1",
        "bücher.example",
        "a b",
        "a\nb",
        "a" * 64,
        ".".join(["a" * 60] * 5),
    ],
)
def test_anything_else_is_an_error_that_names_the_setting(text: str) -> None:
    """No user name, path, query, unknown scheme, plain text beyond loopback, or no host."""
    with pytest.raises(ConfigError) as caught:
        parse_host(text, setting="platform.host", origin="GENESYS_HOST")
    assert "platform.host" in str(caught.value)
    assert "GENESYS_HOST" in str(caught.value)
    assert "pw" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_host_or_a_config_error(text: str) -> None:
    """And what is accepted can be read again from its own address."""
    try:
        host = parse_host(text, setting="x")
    except ConfigError:
        return
    assert parse_host(host.http_base, setting="x") == host
    assert parse_host(host.ws_base, setting="x") == host
    assert host.secure or host.is_loopback


def test_the_schemes_port_is_known() -> None:
    """Where no port is given, it is the scheme's."""
    assert Host("a.example").tcp_port == 443
    assert Host("localhost", None, secure=False).tcp_port == 80
    assert Host("a.example", 8443).tcp_port == 8443


@pytest.mark.parametrize(
    "text", ["mypurecloud.de", "api.mypurecloud.de", "https://api.mypurecloud.de", "eu-central-1"]
)
def test_real_family_has_three_hosts_of_one_domain(text: str) -> None:
    """A leading ``api.`` is removed, and the region's AWS name is understood."""
    hosts = real_hosts(text, setting="platform.environment")
    assert hosts.api.http_base == "https://api.mypurecloud.de"
    assert hosts.login.http_base == "https://login.mypurecloud.de"
    assert hosts.streaming.ws_base == "wss://streaming.mypurecloud.de"


def test_loopback_stands_for_all_three() -> None:
    """The simulator serves everything on one port."""
    hosts = real_hosts("127.0.0.1:8080", setting="x")
    assert hosts.api == hosts.login == hosts.streaming == Host("127.0.0.1", 8080, secure=False)


@pytest.mark.parametrize("text", ["eu-central-9", "com", "10.0.0.1"])
def test_what_is_no_domain_is_refused_for_the_real_family(text: str) -> None:
    """``api.`` before an address or a single word leads nowhere."""
    with pytest.raises(ConfigError):
        real_hosts(text, setting="platform.environment")


def test_tutorial_family_takes_the_host_as_it_stands() -> None:
    """One host for everything, ``api.`` included."""
    hosts = tutorial_hosts("api.mypurecloud.com", setting="x")
    assert {hosts.api.name, hosts.login.name, hosts.streaming.name} == {"api.mypurecloud.com"}


@pytest.mark.parametrize(("region", "domain"), sorted(REGIONS.items()))
def test_every_region_is_found_by_its_hosts(region: str, domain: str) -> None:
    """Name to domain, and back from any of its hosts."""
    assert real_hosts(region, setting="x").api.name == f"api.{domain}"
    assert region_of(Host(f"api.{domain}")) == region
    assert region_of(Host(f"not{domain}")) == ""
