"""Who the other end is, and who may come unencrypted."""

from __future__ import annotations

import pytest

from steno.adapters.audio_server.peers import Proxies
from steno.adapters.audio_server.settings import networks

PROXIES = Proxies(networks(("10.0.0.0/8", "fd00::/8"), setting="x"))


@pytest.mark.parametrize(
    ("address", "tls", "admitted"),
    [
        ("10.1.2.3", False, True),
        ("::ffff:10.1.2.3", False, True),
        ("fd00::1", False, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("192.0.2.1", False, False),
        ("192.0.2.1", True, True),
    ],
)
def test_who_comes_past_the_proxies_unencrypted_is_turned_away(
    address: str, tls: bool, admitted: bool
) -> None:
    """With proxies that do TLS, plain text is theirs and this machine's alone."""
    assert PROXIES.admits(address, tls=tls) is admitted
    assert Proxies(()).admits(address, tls=tls)


def test_a_chain_of_proxies_ends_at_the_first_that_is_not_trusted() -> None:
    """However long the header is, only so much of it is read."""
    assert PROXIES.caller("10.0.0.1", ["6.6.6.6, 192.0.2.1, 10.0.0.2, 10.0.0.3"]) == "192.0.2.1"
    assert PROXIES.caller("192.0.2.9", ["192.0.2.1"]) == "192.0.2.9"
    assert PROXIES.caller("10.0.0.1", ["6.6.6.6"] + ["10.0.0.2"] * 50) == "10.0.0.2"
