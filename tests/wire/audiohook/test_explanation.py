"""Captured upgrades are explained: which component differs, and the likely cause."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from steno.errors import RemoteProtocolError
from steno.wire.audiohook import Rules, Upgrade, decode_secret, explain, parse_capture, sign
from steno.wire.audiohook.signature import COMPONENTS, signature_base

SECRET = "aW52ZW50ZWQtc2hhcmVkLXNlY3JldC1mb3ItdGVzdHM="
RIGHT = Upgrade(
    "/audiohook?tenant=blue",
    "stt.example.org",
    "5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01",
    "0b9d7a44-2c5e-4f10-8e3b-6a1c9d5e7f22",
    "c4e8f1a6-93b2-4d07-b5c8-1e2f3a4b5c6d",
    "ZGVtby1hcGkta2V5LTAx",
)
CREATED = 1_767_225_600


def capture(
    *,
    signed: Upgrade = RIGHT,
    secret: bytes | None = None,
    host: str = "stt.example.org",
    target: str = "/audiohook?tenant=blue",
    extra: str = "",
    end: str = "",
) -> str:
    """Return the text of an upgrade whose signature was made in some way."""
    key = decode_secret(SECRET) if secret is None else secret
    headers = dict(
        sign(signed, key, nonce="bm9uY2UtMDAwMS1hYmNkZWY", created=CREATED, expires=CREATED + 10)
    )
    if end:
        text = headers["signature-input"].removeprefix("sig1=")
        base = signature_base(COMPONENTS, signed.values(), text) + end
        digest = hmac.new(key, base.encode(), hashlib.sha256).digest()
        headers["signature"] = f"sig1=:{base64.b64encode(digest).decode()}:"
    return (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
        f"Audiohook-Organization-Id: {RIGHT.organization}\r\n"
        f"Audiohook-Session-Id: {RIGHT.session}\r\n"
        f"Audiohook-Correlation-Id: {RIGHT.correlation}\r\n"
        f"X-API-KEY: {RIGHT.key_id}\r\n{extra}"
        f"Signature-Input: {headers['signature-input']}\r\n"
        f"Signature: {headers['signature']}\r\n\r\n"
    )


def changed(**fields: str) -> Upgrade:
    return Upgrade(**{**{name: getattr(RIGHT, name) for name in RIGHT.__struct_fields__}, **fields})


def wrong(text: str, secret: str = SECRET, **options: object) -> dict[str, str]:
    """Return what differs, by check."""
    found = explain(parse_capture(text), secret, **options)  # type: ignore[arg-type]
    assert found.matches == all(one.ok for one in found.findings if one.check != "created")
    shown = repr(found)
    for hidden in (SECRET, RIGHT.key_id, "invented-shared-secret"):
        assert hidden not in shown
    return {one.check: one.text for one in found.findings if not one.ok}


def test_a_good_capture_verifies() -> None:
    """All checks pass, and the base is shown with the key hidden."""
    found = explain(parse_capture(capture()), SECRET, utc_s=CREATED + 1)
    assert found.matches
    assert found.base_lines[0] == '"@request-target": /audiohook?tenant=blue'
    assert found.base_lines[5] == '"x-api-key": [hidden]'
    assert 'keyid="[hidden]"' in found.base_lines[-1]
    assert found.signed_lines == ()


@pytest.mark.parametrize(
    ("text", "check", "words"),
    [
        (capture(secret=SECRET.encode()), "secret", "not base64-decoded"),
        (capture(secret=SECRET.encode() + b"\n"), "secret", "line feed"),
        (capture(signed=changed(target=f"get {RIGHT.target}")), "@request-target", "method"),
        (capture(signed=changed(target="/audiohook")), "@request-target", "without the query"),
        (capture(signed=changed(target="/audiohook/?tenant=blue")), "@request-target", "slash"),
        (
            capture(signed=changed(target=f"wss://{RIGHT.authority}{RIGHT.target}")),
            "@request-target",
            "whole URL",
        ),
        (
            capture(target="/x?tenant=blue", extra="X-Original-URI: /audiohook?tenant=blue\r\n"),
            "@request-target",
            "proxy rewrites",
        ),
        (
            capture(host="10.0.0.7:8080", extra="X-Forwarded-Host: stt.example.org\r\n"),
            "@authority",
            "proxy changes Host",
        ),
        (
            capture(host="10.0.0.7", extra="Forwarded: for=1.2.3.4;host=stt.example.org\r\n"),
            "@authority",
            "proxy changes Host",
        ),
        (
            capture(signed=changed(authority="stt.example.org:443"), host="stt.example.org:443"),
            "@authority",
            "default port",
        ),
        (
            capture(host="stt.example.org:8443"),
            "@authority",
            "without the port",
        ),
        (
            capture(signed=changed(session=RIGHT.correlation, correlation=RIGHT.session)),
            "audiohook-session-id",
            "exchanged",
        ),
        (capture(end="\n"), "base", "line feed"),
    ],
)
def test_known_mistakes_are_recognised(text: str, check: str, words: str) -> None:
    """The component that differs is named, alone, with the cause."""
    found = wrong(text)
    assert list(found) == [check]
    assert words in found[check]


def test_two_mistakes_at_once_are_recognised() -> None:
    """A proxy in front and an undecoded secret: both are told."""
    text = capture(host="10.0.0.7", secret=SECRET.encode())
    assert set(wrong(text, authorities=("stt.example.org",))) == {"@authority", "secret"}


def test_how_the_signer_built_the_base_is_shown() -> None:
    """The two bases can be laid side by side."""
    found = explain(parse_capture(capture(signed=changed(target="/audiohook"))), SECRET)
    assert found.base_lines[0] != found.signed_lines[0] == '"@request-target": /audiohook'
    assert found.base_lines[1:] == found.signed_lines[1:]


def test_a_path_that_a_proxy_rewrote_is_found_among_candidates() -> None:
    """Paths under which callers may know the server are tried."""
    text = capture(target="/inner?tenant=blue")
    assert set(wrong(text, paths=("/audiohook",))) == {"@request-target"}
    assert not wrong(text, rules=Rules(path="/audiohook"))


def test_another_secret_is_told_as_unexplained() -> None:
    """What no mistake explains is the secret, or a change that the request does not show."""
    assert "No known mistake" in wrong(capture(), secret="b3RoZXI=")["signature"]
    assert "No known mistake" in wrong(capture(), secret="not base64!")["signature"]
    assert "No known mistake" in wrong(capture(), secret="")["signature"]


def test_a_clock_that_is_off_is_told() -> None:
    """Age is looked at when the time of the capture is known."""
    assert "wrong" in wrong(capture(), utc_s=CREATED - 60)["created"]
    assert "held up" in wrong(capture(), utc_s=CREATED + 60)["created"]
    assert not wrong(capture(), utc_s=CREATED + 5)


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        ("X-API-KEY", "X-Other", "x-api-key"),
        ("Signature: ", "Other: ", "signature"),
        ("Audiohook-Session-Id: 0b", "Audiohook-Session-Id: zz", "audiohook-session-id"),
        (';alg="hmac-sha256"', ';alg="rsa"', "profile"),
        ('"@authority" ', "", "profile"),
    ],
)
def test_what_is_missing_or_out_of_form_is_told(old: str, new: str, check: str) -> None:
    """Before anything is computed, headers and their form are looked at."""
    assert check in wrong(capture().replace(old, new))


@pytest.mark.parametrize("text", ["", "POST / HTTP/1.1", "GET /\r\n", "GET / HTTP/1.1\r\nno colon"])
def test_what_is_no_request_is_an_error(text: str) -> None:
    """A capture begins with its request line."""
    with pytest.raises(RemoteProtocolError):
        parse_capture(text)
