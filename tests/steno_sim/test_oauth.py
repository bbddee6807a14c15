"""Tokens are given to clients that prove who they are, and really expire."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from steno_sim.oauth import (
    ALL_SCOPES,
    ASSERTION_TYPE,
    MAX_TOKENS,
    Client,
    OAuthRefusal,
    TokenService,
)

URL = "https://login.example/oauth/token"
GRANT = {"grant_type": "client_credentials"}
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def basic(client_id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


def ask(
    service: TokenService,
    form: dict[str, str] | None = None,
    authorization: str = "",
    *,
    now: float = 0.0,
) -> dict[str, Any]:
    return service.grant(
        authorization=authorization,
        form=GRANT if form is None else form,
        audiences=frozenset({URL}),
        now=now,
        wall=time.time(),
    )


def refused(
    service: TokenService, form: dict[str, str], authorization: str = ""
) -> tuple[int, str]:
    with pytest.raises(OAuthRefusal) as caught:
        ask(service, form, authorization)
    body = caught.value.body()
    assert body["error"] == caught.value.error
    assert body["description"] == body["error_description"]
    return caught.value.status, caught.value.error


@pytest.fixture
def service() -> TokenService:
    return TokenService([Client(id="a", secret="s:e")])


def test_basic_and_form_credentials_are_taken(service: TokenService) -> None:
    """Both ways of RFC 6749, 2.3.1, with a secret that holds a colon."""
    one = ask(service, authorization=basic("a", "s:e"))
    two = ask(service, GRANT | {"client_id": "a", "client_secret": "s:e"})
    assert one["token_type"] == "bearer"
    assert one["expires_in"] == 3600
    assert set(str(one["scope"]).split()) == set(ALL_SCOPES)
    assert one["access_token"] != two["access_token"]
    assert service.issued == 2


@pytest.mark.parametrize(
    ("form", "authorization", "status", "error"),
    [
        ({}, basic("a", "s:e"), 400, "invalid_request"),
        ({"grant_type": "password"}, basic("a", "s:e"), 400, "unsupported_grant_type"),
        (GRANT, "", 400, "invalid_request"),
        (GRANT, "Basic !!!", 400, "invalid_request"),
        (GRANT, basic("a", "wrong"), 401, "invalid_client"),
        (GRANT, basic("b", "s:e"), 401, "invalid_client"),
        (GRANT | {"client_id": "a"}, "", 401, "invalid_client"),
        (GRANT | {"scope": "launch:missiles"}, basic("a", "s:e"), 400, "invalid_scope"),
        (GRANT | {"client_assertion_type": "x"}, "", 400, "invalid_request"),
    ],
)
def test_refusals(
    service: TokenService, form: dict[str, str], authorization: str, status: int, error: str
) -> None:
    """Each kind of wrong request has its status and code."""
    assert refused(service, form, authorization) == (status, error)
    assert service.refused == 1


def test_a_client_without_secret_never_signs_in_by_secret() -> None:
    """An empty secret is no secret."""
    service = TokenService([Client(id="a", secret="")])
    assert refused(service, GRANT, basic("a", "")) == (401, "invalid_client")


def test_tokens_expire_and_are_revoked(service: TokenService) -> None:
    """A token opens doors until its time, or until it is revoked."""
    value = str(ask(service, authorization=basic("a", "s:e"), now=100.0)["access_token"])
    assert service.find(value, now=3699.0) is not None
    assert service.find(value, now=3700.0) is None
    again = str(ask(service, authorization=basic("a", "s:e"))["access_token"])
    service.revoke_all()
    assert service.find(again, now=0.0) is None
    assert service.find("never given", now=0.0) is None


def test_asked_scopes_bind_the_token(service: TokenService) -> None:
    """A token has the scopes that were asked for, no more."""
    form = GRANT | {"scope": "websocket:connect"}
    value = str(ask(service, form, basic("a", "s:e"))["access_token"])
    token = service.find(value, now=0.0)
    assert token is not None
    assert token.scopes == {"websocket:connect"}


def test_jwt_tokens_carry_their_scopes() -> None:
    """JWT-shaped tokens name scopes and expiry; the answer can be without scopes."""
    service = TokenService([Client(id="a", secret="b")], jwt_tokens=True, answer_scopes=False)
    answer = ask(service, authorization=basic("a", "b"))
    assert "scope" not in answer
    middle = str(answer["access_token"]).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(middle + "=="))
    assert set(claims["scope"].split()) == set(ALL_SCOPES)
    assert claims["exp"] - claims["iat"] == 3600


def test_memory_of_tokens_is_bounded() -> None:
    """The oldest token goes when too many are alive."""
    service = TokenService([Client(id="a", secret="b")])
    first = str(ask(service, authorization=basic("a", "b"))["access_token"])
    for _ in range(MAX_TOKENS):
        ask(service, authorization=basic("a", "b"))
    assert service.find(first, now=0.0) is None


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def assertion(algorithm: str, **changes: Any) -> str:
    claims = {"iss": "k", "sub": "k", "aud": URL, "exp": time.time() + 60, "jti": "1"} | changes
    signed = f"{b64(json.dumps({'alg': algorithm}).encode())}.{b64(json.dumps(claims).encode())}"
    if algorithm == "ES256":
        r, s = decode_dss_signature(EC_KEY.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32) + s.to_bytes(32)
    else:
        signature = RSA_KEY.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{b64(signature)}"


def keyed(algorithm: str) -> TokenService:
    key = EC_KEY.public_key() if algorithm == "ES256" else RSA_KEY.public_key()
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return TokenService([Client(id="k", secret="", public_key=pem.decode())])


def with_assertion(text: str) -> dict[str, str]:
    return GRANT | {"client_assertion_type": ASSERTION_TYPE, "client_assertion": text}


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_signed_assertion_proves_a_client(algorithm: str) -> None:
    """RFC 7523: a JWT by the client's key, for this endpoint, once."""
    service = keyed(algorithm)
    form = with_assertion(assertion(algorithm))
    assert ask(service, form)["access_token"]
    assert refused(service, form) == (401, "invalid_client")  # the same jti again


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://elsewhere/oauth/token"},
        {"exp": 1.0},
        {"exp": "soon"},
        {"exp": 9e12},
        {"jti": ""},
        {"iss": "x"},
        {"sub": "x"},
    ],
)
def test_claims_are_checked(changes: dict[str, Any]) -> None:
    """Who, for whom, until when, and once."""
    form = with_assertion(assertion("RS256", **changes))
    assert refused(keyed("RS256"), form) == (401, "invalid_client")


def test_signatures_are_checked() -> None:
    """A changed claim, another key's algorithm, or no JWT at all is refused."""
    head, _, signature = assertion("RS256").split(".")
    _, other, _ = assertion("RS256", jti="2").split(".")
    changed = f"{head}.{other}.{signature}"
    assert refused(keyed("RS256"), with_assertion(changed)) == (401, "invalid_client")
    crossed = with_assertion(assertion("ES256"))
    assert refused(keyed("RS256"), crossed) == (401, "invalid_client")
    for bad in ("", "a.b", "a.b.c", "!.!.!"):
        assert refused(keyed("RS256"), with_assertion(bad)) == (400, "invalid_request")
