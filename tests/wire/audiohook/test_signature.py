"""Signatures: the published vectors, every way to tamper, replay, bounds."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.fuzz_examples import examples
from steno.core.secret import Secret
from steno.errors import ConfigError
from steno.ports.audio_server import UpgradeRequest
from steno.wire.audiohook import (
    Keyring,
    NonceCache,
    Rules,
    Upgrade,
    Verdict,
    decode_secret,
    sign,
    verify,
)
from steno.wire.audiohook.signature import COMPONENTS, signature_base
from wire.audiohook.pair import VECTORS

Json = dict[str, Any]  # Any: JSON
Headers = list[tuple[str, str]]
SIGNED: list[Json] = json.loads((VECTORS / "signatures.json").read_text())
SECOND = SIGNED[1]
AT = float(SECOND["created"]) + 2


def upgrade(vector: Json = SECOND) -> Upgrade:
    names = ("target", "authority", "organization", "session", "correlation", "key")
    return Upgrade(*(vector[name] for name in names))


def signed_headers(vector: Json = SECOND, **changes: Any) -> Headers:  # Any: fields of a vector
    vector = {**vector, **changes}
    told = upgrade(vector)
    return [
        ("host", told.authority),
        ("audiohook-organization-id", told.organization),
        ("audiohook-session-id", told.session),
        ("audiohook-correlation-id", told.correlation),
        ("x-api-key", told.key_id),
        *sign(
            told,
            decode_secret(vector["secret"]),
            nonce=vector["nonce"],
            created=vector["created"],
            expires=vector["expires"],
        ),
    ]


def request(headers: Headers, *, target: str = SECOND["target"]) -> UpgradeRequest:
    return UpgradeRequest(target, target.partition("?")[0], tuple(headers), "192.0.2.1", True)


def check(
    headers: Headers,
    *,
    target: str = SECOND["target"],
    utc_s: float = AT,
    rules: Rules | None = None,
    keys: dict[str, str] | None = None,
) -> Verdict:
    """Verify with a cache of its own."""
    keyring = Keyring({SECOND["key"]: SECOND["secret"]} if keys is None else keys)
    nonces = NonceCache(60.0)
    return verify(
        request(headers, target=target), keyring, nonces, utc_s=utc_s, now=0.0, rules=rules
    )


def changed(headers: Headers, name: str, value: str | None) -> Headers:
    """Return headers with one replaced, or left out."""
    return [
        (key, old if key != name else value or "")
        for key, old in headers
        if key != name or value is not None
    ]


@pytest.mark.parametrize("vector", SIGNED)
def test_the_vectors_are_signed_and_accepted(vector: Json) -> None:
    """The signature comes out as published, and verifies while it is fresh."""
    headers = signed_headers(vector)
    assert dict(headers)["signature"] == f"sig1=:{vector['signature']}:"
    verdict = check(
        headers,
        target=vector["target"],
        utc_s=vector["created"] + 5,
        keys={vector["key"]: vector["secret"]},
    )
    assert verdict == Verdict(
        True, "signed", vector["organization"], vector["session"], vector["correlation"]
    )


def edit(old: str, new: str) -> Any:  # Any: a function of headers
    """Return an edit of the Signature-Input alone."""

    def apply(headers: Headers) -> Headers:
        text = dict(headers)["signature-input"]
        assert old in text
        return changed(headers, "signature-input", text.replace(old, new, 1))

    return apply


def put(name: str, value: str | None) -> Any:  # Any: a function of headers
    return lambda headers: changed(headers, name, value)


def twice(name: str) -> Any:  # Any: a function of headers
    return lambda headers: [*headers, (name, dict(headers)[name])]


OTHER_ID = "c4e8f1a6-93b2-4d07-b5c8-1e2f3a4b5c6e"
BOTH_FIRST = '"@request-target" "@authority"'
BOTH_TURNED = '"@authority" "@request-target"'
TAMPERED: list[tuple[str, Any, str]] = [
    ("another organization", put("audiohook-organization-id", OTHER_ID), "mismatch"),
    ("another session", put("audiohook-session-id", OTHER_ID), "mismatch"),
    ("another correlation", put("audiohook-correlation-id", OTHER_ID), "mismatch"),
    ("another host", put("host", "evil.example.org"), "mismatch"),
    ("another key", put("x-api-key", "b3RoZXI"), "keyid"),
    ("another keyid", edit(SECOND["key"], "b3RoZXI"), "keyid"),
    ("no organization", put("audiohook-organization-id", None), "organization-id"),
    ("no session", put("audiohook-session-id", None), "session-id"),
    ("no correlation", put("audiohook-correlation-id", None), "correlation-id"),
    ("no key", put("x-api-key", None), "api-key"),
    ("a session that is no uuid", put("audiohook-session-id", "x"), "session-id"),
    ("two sessions", twice("audiohook-session-id"), "session-id"),
    ("two keys", twice("x-api-key"), "api-key"),
    ("two inputs", twice("signature-input"), "input-repeated"),
    ("two signature headers", twice("signature"), "signature-repeated"),
    ("no input", put("signature-input", None), "input-repeated"),
    ("no signature", put("signature", None), "signature-repeated"),
    ("an empty signature", put("signature", "sig1=::"), "mismatch"),
    ("a short signature", put("signature", "sig1=:YWJj:"), "mismatch"),
    ("a signature as text", put("signature", 'sig1="YWJj"'), "signature-form"),
    ("two signatures", put("signature", "sig1=:YWJj:, sig2=:YWJj:"), "signature-form"),
    ("two inputs in one header", edit("sig1=(", "sig0=(), sig1=("), "input-form"),
    ("another label", edit("sig1=", "sig2="), "label"),
    ("another algorithm", edit("hmac-sha256", "hmac-sha1"), "algorithm"),
    ("a component left out", edit('"@authority" ', ""), "component-missing"),
    ("a component twice", edit('"@authority"', '"@authority" "@authority"'), "component-repeated"),
    ("an unknown component", edit('"@authority"', '"@authority" "@method"'), "component-unknown"),
    ("a header that is not there", edit(")", ' "via")'), "component-unknown"),
    ("the parameters as component", edit(")", ' "@signature-params")'), "component-unknown"),
    ("the signature as component", edit(")", ' "signature")'), "component-unknown"),
    ("a component with parameters", edit('"x-api-key"', '"x-api-key";sf'), "component-parameters"),
    ("components in another case", edit('"x-api-key"', '"X-API-KEY"'), "component-missing"),
    ("another order", edit(BOTH_FIRST, BOTH_TURNED), "mismatch"),
    ("an unknown parameter", edit(";alg", ';tag="x";alg'), "parameter-unknown"),
    ("a parameter twice", edit(";alg", ";created=1;alg"), "parameter-repeated"),
    ("a flag", edit(";alg", ";created;alg"), "input-form"),
    ("time as text", edit("created=1767225600", 'created="1767225600"'), "parameter-form"),
    ("time as decimal", edit("created=1767225600", "created=1767225600.0"), "parameter-form"),
    ("time below zero", edit("created=1767225600", "created=-1"), "parameter-form"),
    ("a fresher time", edit("created=1767225600", "created=1767225601"), "mismatch"),
    ("a longer life", edit("expires=1767225610", "expires=1767299999"), "mismatch"),
    ("no time", edit(";created=1767225600", ""), "created-missing"),
    ("no nonce", edit(f';nonce="{SECOND["nonce"]}"', ""), "nonce"),
    ("a short nonce", edit(SECOND["nonce"], "c2hvcnQ"), "nonce"),
    ("another nonce", edit("bm9uY2Ut", "bm9uY2Ux"), "mismatch"),
    ("a nonce of megabytes", edit(SECOND["nonce"], "A" * 5000), "input-form"),
    ("more behind the end", edit("expires=1767225610", "expires=1767225610;"), "input-form"),
    ("letters beyond ASCII", put("host", "st\u00fct.example.org"), "not-ascii"),
]


@pytest.mark.parametrize(
    ("tamper", "reason"), [one[1:] for one in TAMPERED], ids=[one[0] for one in TAMPERED]
)
def test_a_tampered_request_is_refused(tamper: Any, reason: str) -> None:
    """Each way to tamper has its word, and none is accepted."""
    verdict = check(tamper(signed_headers()))
    assert (verdict.accepted, verdict.reason) == (False, reason)


def test_the_target_is_signed_with_its_query() -> None:
    """Another path or query than signed is refused."""
    for target in ("/audiohook/live", "/audiohook/live?tenant=red", "/other?tenant=blue"):
        assert check(signed_headers(), target=target).reason == "mismatch"


def test_bits_to_spare_do_not_make_a_second_spelling() -> None:
    """Base64 of 32 bytes has two bits that say nothing: they must be zero."""
    told = dict(signed_headers())["signature"]
    assert told.endswith("C30=:")
    assert check(put("signature", told.replace("C30=", "C31="))(signed_headers())).reason == (
        "signature-form"
    )


def test_more_components_are_allowed_and_looked_at() -> None:
    """The six are needed; a further header is part of what is signed."""
    names = (*COMPONENTS, "user-agent")
    listed = " ".join(f'"{name}"' for name in names)
    text = (
        f'({listed});keyid="{SECOND["key"]}";nonce="{SECOND["nonce"]}";created={SECOND["created"]}'
    )
    values = {**upgrade().values(), "user-agent": "a, b"}
    base = signature_base(names, values, text).encode()
    digest = hmac.new(decode_secret(SECOND["secret"]), base, hashlib.sha256).digest()
    headers = [one for one in signed_headers() if not one[0].startswith("signature")]
    headers += [
        ("signature-input", f"sig1={text}"),
        ("signature", f"sig1=:{base64.b64encode(digest).decode()}:"),
        ("user-agent", " a "),
        ("user-agent", "b"),
    ]
    assert check(headers).accepted
    assert check(changed(headers, "user-agent", "c")).reason == "mismatch"


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        (-3.0, "signed"),
        (-3.5, "created-ahead"),
        (0.0, "signed"),
        (13.0, "signed"),
        (13.5, "too-old"),
        (1e9, "too-old"),
    ],
)
def test_a_signature_is_good_for_its_time(seconds: float, reason: str) -> None:
    """Ten seconds of age and three of skew on either side."""
    assert check(signed_headers(), utc_s=SECOND["created"] + seconds).reason == reason


def test_a_signature_that_expires_early_is_refused() -> None:
    """``expires`` binds within the age, with the skew."""
    headers = signed_headers(expires=SECOND["created"] + 1)
    assert check(headers, utc_s=SECOND["created"] + 4).accepted
    assert check(headers, utc_s=SECOND["created"] + 4.5).reason == "expired"


def test_signatures_from_before_the_start_are_refused_when_wanted() -> None:
    """A replay cannot pass a cache that a restart has emptied."""
    rules = Rules(created_from=SECOND["created"] + 1)
    assert check(signed_headers(), rules=rules).reason == "before-start"


def test_the_public_address_counts_behind_a_proxy() -> None:
    """Host and path as the caller dialled them, whatever the proxy made of them."""
    headers = put("host", "10.0.0.7:8080")(signed_headers())
    rules = Rules(authority="STT.example.org:8443", path="/audiohook/live")
    assert check(headers, target="/internal?tenant=blue", rules=rules).accepted
    assert check(headers, target="/internal?tenant=blue").reason == "mismatch"


def test_the_default_port_is_left_out() -> None:
    """Callers sign without :443; a Host header may have it."""
    headers = signed_headers(authority="stt.example.org")
    assert check(put("host", "STT.example.org:443")(headers)).accepted
    assert check(put("host", "stt.example.org:80")(headers)).reason == "mismatch"
    assert check(headers, rules=Rules(authority="stt.example.org:443")).accepted


def test_an_unknown_key_is_refused_like_a_wrong_signature() -> None:
    """The work is done with a key that nobody has."""
    assert check(signed_headers(), keys={}).reason == "unknown-key"


def test_unsigned_requests_pass_for_keys_without_a_secret_alone() -> None:
    """Not for others, and a signature that cannot be verified never passes."""
    bare = [one for one in signed_headers() if not one[0].startswith("signature")]
    assert check(bare).reason == "unsigned"
    assert not check(bare).accepted
    assert check(bare, keys={}).reason == "unsigned"
    assert check(bare, keys={SECOND["key"]: ""}).accepted
    assert check(signed_headers(), keys={SECOND["key"]: ""}).reason == "key-without-secret"


def test_a_replayed_upgrade_is_refused() -> None:
    """A nonce is good once, for as long as its signature could be."""
    keyring, nonces = Keyring({SECOND["key"]: SECOND["secret"]}), NonceCache(32.0)
    once = request(signed_headers())
    assert verify(once, keyring, nonces, utc_s=AT, now=0.0).accepted
    for now in (0.0, 10.0, 31.9):
        assert verify(once, keyring, nonces, utc_s=AT, now=now).reason == "replay"
    assert len(nonces) == 1


def test_refused_requests_do_not_fill_the_cache() -> None:
    """Only who knows the secret takes room; a wrong signature does not burn a nonce either."""
    keyring, nonces = Keyring({SECOND["key"]: SECOND["secret"]}), NonceCache(32.0)
    wrong = request(put("host", "x")(signed_headers()))
    assert verify(wrong, keyring, nonces, utc_s=AT, now=0.0).reason == "mismatch"
    assert len(nonces) == 0
    assert verify(request(signed_headers()), keyring, nonces, utc_s=AT, now=0.0).accepted


def test_a_full_cache_refuses_and_forgets_nothing_early() -> None:
    """The oldest goes when its time is over, and not before."""
    nonces = NonceCache(10.0, capacity=2)
    assert [nonces.claim("key", one, 0.0) for one in ("a", "b", "c")] == ["", "", "nonces-full"]
    assert nonces.claim("key", "a", 9.9) == "replay"
    assert nonces.claim("other", "a", 9.9) == "nonces-full"
    assert nonces.claim("key", "c", 10.0) == ""
    assert len(nonces) == 1


def test_nonces_are_kept_twice_as_long_as_needed() -> None:
    """A signature is valid for its age and the skew on both sides."""
    assert Rules().keep_nonces_s == 32.0


@pytest.mark.parametrize("text", ["not json", "[]", '{"key": 1}', '{"k": "***"}', '{"k y": ""}'])
def test_keys_out_of_form_are_a_configuration_error(text: str) -> None:
    """The error names the setting and shows nothing of it."""
    with pytest.raises(ConfigError) as caught:
        Keyring.parse(Secret(text))
    assert caught.value.setting == "media.audiohook_keys"
    assert "***" not in str(caught.value)


def test_keys_show_nothing() -> None:
    """Neither key nor secret is in a ``repr``."""
    keyring = Keyring.parse(Secret(json.dumps({SECOND["key"]: SECOND["secret"]})))
    assert len(keyring) == 1
    assert SECOND["key"] not in repr(keyring)
    assert len(Keyring.parse(Secret(""))) == 0


@settings(max_examples=examples(300))
@given(
    st.integers(0, 6),
    st.lists(
        st.tuples(st.integers(0, 600), st.sampled_from(("put", "drop", "insert")), st.characters()),
        min_size=1,
        max_size=4,
    ),
)
def test_no_mutation_of_a_signed_request_is_accepted(
    place: int, moves: list[tuple[int, str, str]]
) -> None:
    """Whatever changes in a header that is looked at, the request is refused with a word."""
    headers = signed_headers()
    name, text = headers[place]
    mutated = list(text)
    for at, move, letter in moves:
        at %= len(mutated) + 1
        mutated[at : at + (move != "insert")] = [] if move == "drop" else [letter]
    value = "".join(mutated)
    headers[place] = (name, value)
    verdict = check(headers)
    same = value.strip() == text or (name == "host" and value.strip().lower() == text)
    assert verdict.accepted == same
    assert verdict.reason.replace("-", "").isalpha()
