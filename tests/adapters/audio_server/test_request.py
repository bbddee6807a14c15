"""Request heads: what two readers could understand differently is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.audio_rig import head
from steno.adapters.audio_server.request import Head, Offer, check_upgrade, parse_head
from steno.ports.audio_server import Refuse


def request(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def test_a_head_is_taken_apart() -> None:
    """Names in lower case, values as sent, order and repetition kept."""
    found = parse_head(request("GET /a?b=c HTTP/1.1", "Host: h:80", "X-A:  1\t", "x-a: é"))
    assert found == Head("GET", "/a?b=c", (("host", "h:80"), ("x-a", "1"), ("x-a", "é")))
    assert isinstance(found, Head)
    assert (found.path, found.values("x-a")) == ("/a", ["1", "é"])


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("GET  / HTTP/1.1", "Host: h"), 400),
        (("GET / HTTP/1.1 ", "Host: h"), 400),
        (("GET /", "Host: h"), 400),
        (("GET http://h/ HTTP/1.1", "Host: h"), 400),
        (("GET h HTTP/1.1", "Host: h"), 400),
        (("GET /#x HTTP/1.1", "Host: h"), 400),
        (("GET /é HTTP/1.1", "Host: h"), 400),
        (("GET /\t HTTP/1.1", "Host: h"), 400),
        (("G(T / HTTP/1.1", "Host: h"), 400),
        (("GET / HTTP/1.0", "Host: h"), 505),
        (("GET / HTTP/2", "Host: h"), 400),
        (("PRI * HTTP/2.0",), 400),
        (("GET / HTTP/1.1",), 400),
        (("GET / HTTP/1.1", "Host:"), 400),
        (("GET / HTTP/1.1", "Host: h", "Host: h"), 400),
        (("GET / HTTP/1.1", "Host: h/x"), 400),
        (("GET / HTTP/1.1", "Host: a b"), 400),
        (("GET / HTTP/1.1", "Host : h"), 400),
        (("GET / HTTP/1.1", "Host: h", " folded: x"), 400),
        (("GET / HTTP/1.1", "Host: h", "X: a", "\tb"), 400),
        (("GET / HTTP/1.1", "Host: h", "no colon"), 400),
        (("GET / HTTP/1.1", "Host: h", ": x"), 400),
        (("GET / HTTP/1.1", "Host: h", "X: a\x00b"), 400),
        (("GET / HTTP/1.1", "Host: h", "X: a\nY: b"), 400),
        (("GET / HTTP/1.1", "Host: h", "X: a\rY: b"), 400),
        (("GET / HTTP/1.1", "Host: h", "X: \x7f"), 400),
        (("GET / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked"), 400),
        (("GET / HTTP/1.1", "Host: h", "Transfer-Encoding: identity"), 400),
        (("GET / HTTP/1.1", "Host: h", "Content-Length: 5"), 400),
        (("GET / HTTP/1.1", "Host: h", "Content-Length: +0"), 400),
        (("GET / HTTP/1.1", "Host: h", "Content-Length: 0", "Content-Length: 0"), 400),
        (("GET / HTTP/1.1", "Host: h", "Authorization: a", "authorization: b"), 400),
        (("GET / HTTP/1.1", "Host: h", "Origin: a", "Origin: b"), 400),
        (("GET / HTTP/1.1", "Host: h", *(f"X-{n}: y" for n in range(100))), 431),
    ],
)
def test_a_head_with_two_meanings_is_refused(lines: tuple[str, ...], status: int) -> None:
    """Refused with a status and a word of ours."""
    found = parse_head(request(*lines))
    assert isinstance(found, Refuse)
    assert found.status == status


@given(data=st.binary(max_size=200))
def test_any_bytes_give_a_head_or_a_refusal(data: bytes) -> None:
    """Nothing is raised, and a refusal quotes nothing."""
    for whole in (data + b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\n" + data + b"\r\n\r\n"):
        found = parse_head(whole)
        if isinstance(found, Refuse):
            assert found.reason.replace("_", "").isalpha()
        else:
            assert len(found.values("host")) == 1
            assert not any(c in value for _, value in found.headers for c in "\r\n\0")


@given(cut=st.integers(0, 300), byte=st.integers(0, 255))
def test_an_altered_upgrade_is_an_offer_or_a_refusal(cut: int, byte: int) -> None:
    """One byte changed anywhere raises nothing."""
    data = bytearray(head("Sec-WebSocket-Protocol: media-api"))
    data[cut % (len(data) - 4)] = byte
    found = parse_head(bytes(data))
    if isinstance(found, Head):
        assert isinstance(check_upgrade(found), Offer | Refuse)


def test_an_upgrade_offers_its_subprotocols() -> None:
    """A list may be one header or several."""
    lines = ("Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Protocol: c")
    found = parse_head(head(*lines))
    assert isinstance(found, Head)
    offer = check_upgrade(found)
    assert isinstance(offer, Offer)
    assert offer.subprotocols == ("a", "b", "c")


@pytest.mark.parametrize(
    ("without", "instead", "status"),
    [
        ("Upgrade", (), 426),
        ("Upgrade", ("Upgrade: h2c",), 426),
        ("Connection", (), 426),
        ("Connection", ("Connection: keep-alive",), 426),
        ("Sec-WebSocket-Version", (), 426),
        ("Sec-WebSocket-Version", ("Sec-WebSocket-Version: 8",), 426),
        ("Sec-WebSocket-Key", (), 400),
        ("Sec-WebSocket-Key", ("Sec-WebSocket-Key: abc",), 400),
        ("Sec-WebSocket-Key", ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAA!==",), 400),
        ("Sec-WebSocket-Key", ("Sec-WebSocket-Key: é",), 400),
    ],
)
def test_what_is_no_upgrade_is_refused(without: str, instead: tuple[str, ...], status: int) -> None:
    """RFC 6455, 4.2.1 and 4.4: the version we speak is named."""
    found = parse_head(head(*instead, without=(without,)))
    assert isinstance(found, Head)
    refusal = check_upgrade(found)
    assert isinstance(refusal, Refuse)
    assert refusal.status == status
    if without == "Sec-WebSocket-Version":
        assert ("Sec-WebSocket-Version", "13") in refusal.headers
