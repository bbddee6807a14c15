"""OAuth: the three requests as the documents write them, strict answers, scopes by feature."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.hosts import Host
from steno.core.secret import Secret
from steno.errors import ConfigError, RemoteProtocolError
from steno.wire.oauth import (
    OPTIONAL,
    PERMISSIONS,
    SCOPES,
    Feature,
    JwtConfig,
    ReadyProof,
    ScopeReport,
    SecretProof,
    Shape,
    SignedProof,
    check_scopes,
    decode_grant,
    decode_jwt_config,
    is_jwt,
    token_request,
    wanted_scopes,
)

HOST = Host("myorg.mygen.com")
SECRET = SecretProof(Secret("s3/+cret"))
BASIC = "Basic " + base64.b64encode(b"id:s3/+cret").decode()


def jwt(payload: object) -> str:
    """Write an unsigned token with a payload."""
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, payload, "sig"))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def answer(**fields: object) -> bytes:
    """Write a token endpoint's answer, with the fields of a good one where not given."""
    good = {"access_token": "abc", "token_type": "Bearer", "expires_in": 3600}
    return json.dumps({k: v for k, v in (good | fields).items() if v is not ...}).encode()


def form_of(body: bytes | None) -> dict[str, str]:
    """Read a form."""
    assert body is not None
    return {key: values[0] for key, values in parse_qs(body.decode()).items()}


def test_query_shape_is_that_of_the_first_document() -> None:
    """Grant type in the query, id and secret as Basic, no body."""
    request = token_request(HOST, Shape.QUERY, "id", SECRET)
    assert request.method == "POST"
    assert request.url == "https://myorg.mygen.com/api/v2/oauth/token?grant_type=client_credentials"
    assert request.headers["Authorization"] == BASIC
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert request.body == b""


def test_form_shape_is_that_of_the_later_documents() -> None:
    """Everything in the form at ``/oauth/token``; JSON is asked for."""
    request = token_request(HOST, Shape.FORM, "id", SECRET, scopes=("a:b", "c:d"))
    assert request.url == "https://myorg.mygen.com/oauth/token"
    assert request.headers["Accept"] == "application/json"
    assert "Authorization" not in request.headers
    assert form_of(request.body) == {
        "grant_type": "client_credentials",
        "client_id": "id",
        "client_secret": "s3/+cret",
        "scope": "a:b c:d",
    }


def test_basic_shape_is_that_of_the_platform() -> None:
    """Grant type in the form, id and secret as Basic; no scope unless asked for."""
    request = token_request(Host("login.mypurecloud.de"), Shape.BASIC, "id", SECRET)
    assert request.url == "https://login.mypurecloud.de/oauth/token"
    assert request.headers["Authorization"] == BASIC
    assert form_of(request.body) == {"grant_type": "client_credentials"}


@pytest.mark.parametrize("shape", list(Shape))
def test_signed_assertion_takes_the_place_of_the_secret(shape: Shape) -> None:
    """RFC 7523: issuer and subject are the client, the audience is the endpoint, life is short."""
    signed: list[bytes] = []

    def sign(data: bytes) -> bytes:
        signed.append(data)
        return b"signature"

    proof = SignedProof(sign, Secret("key"), JwtConfig(kid="key-1"))
    request = token_request(HOST, shape, "id", proof, now_unix_s=1_800_000_000, assertion_id="once")
    form = form_of(request.body)
    assert "Authorization" not in request.headers
    assert form["client_assertion_type"].endswith(":jwt-bearer")
    assert "client_assertion" not in urlsplit(request.url).query
    header, claims, signature = (
        base64.urlsafe_b64decode(part + "==") for part in form["client_assertion"].split(".")
    )
    assert json.loads(header) == {"alg": "RS256", "typ": "JWT", "kid": "key-1"}
    assert json.loads(claims) == {
        "iss": "id",
        "sub": "id",
        "aud": request.url.partition("?")[0],
        "iat": 1_800_000_000,
        "exp": 1_800_000_300,
        "jti": "once",
    }
    assert signature == b"signature"
    assert signed[0].decode() == form["client_assertion"].rpartition(".")[0]


def test_ready_assertion_is_sent_as_it_is() -> None:
    """Somebody else has signed; the client id may be in it alone."""
    request = token_request(HOST, Shape.BASIC, "", ReadyProof(Secret(jwt({}))))
    form = form_of(request.body)
    assert form["client_assertion"] == jwt({})
    assert "client_id" not in form


def test_requests_do_not_show_secrets() -> None:
    """Neither secret nor Basic header is in a repr."""
    for shape in Shape:
        shown = repr(token_request(HOST, shape, "id", SECRET))
        assert "s3" not in shown
        assert BASIC not in shown


def test_jwt_settings_say_how_to_sign() -> None:
    """Known keys are taken, the rest has defaults."""
    config = decode_jwt_config('{"iss":"a","aud":"b","alg":"ES256"}', setting="x")
    assert config == JwtConfig(iss="a", aud="b", alg="ES256")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"alg":"none"}',
        '{"alg":"HS256"}',
        '{"secret":1}',
        '{"lifetime_s":0}',
        "\ud800",
    ],
)
def test_bad_jwt_settings_are_errors_that_quote_nothing(text: str) -> None:
    """Unknown keys, weak algorithms and senseless lives are refused."""
    with pytest.raises(ConfigError) as caught:
        decode_jwt_config(text.encode("utf-8", "surrogatepass"), setting="platform.jwt_config")
    assert "platform.jwt_config" in str(caught.value)
    assert caught.value.__cause__ is None


def test_jwts_are_known_by_their_form() -> None:
    """Three parts, the first one JSON."""
    assert is_jwt(jwt({"a": 1}))
    assert not is_jwt('{"iss":"a"}')
    assert not is_jwt("/etc/steno/jwt.json")
    assert not is_jwt("eyJa.b")


@pytest.mark.parametrize("scope", ["a:b c:d", ["a:b", "c:d"]])
def test_scopes_come_as_text_or_list(scope: object) -> None:
    """Both forms mean the same."""
    grant = decode_grant(answer(scope=scope))
    assert grant.scopes == frozenset({"a:b", "c:d"})
    assert grant.token == "abc"
    assert grant.expires_in_s == 3600


@pytest.mark.parametrize("claim", ["scope", "scp"])
def test_scopes_come_from_a_jwt_when_the_answer_is_silent(claim: str) -> None:
    """The payload of a token that is a JWT tells them too; the answer's own word goes first."""
    token = jwt({claim: "a:b"})
    assert decode_grant(answer(access_token=token)).scopes == frozenset({"a:b"})
    assert decode_grant(answer(access_token=token, scope="c:d")).scopes == frozenset({"c:d"})


def test_jwt_can_only_shorten_a_life() -> None:
    """The token's own end counts when it comes earlier, measured from its own issue."""
    early, late = jwt({"iat": 100, "exp": 700}), jwt({"iat": 100, "exp": 90_000})
    assert decode_grant(answer(access_token=early)).expires_in_s == 600
    assert decode_grant(answer(access_token=late)).expires_in_s == 3600
    assert decode_grant(answer(access_token=jwt({"iat": 700, "exp": 100}))).expires_in_s == 3600


@pytest.mark.parametrize("token", ["a.b.c", "a..c", "é", jwt([1]), jwt("x"), jwt({"exp": "x"})])
def test_tokens_that_only_look_like_jwts_are_opaque(token: str) -> None:
    """What cannot be read as a payload tells nothing; it is an error only if it is no token."""
    if token.isascii():
        assert decode_grant(answer(access_token=token)).scopes is None
    else:
        with pytest.raises(RemoteProtocolError):
            decode_grant(answer(access_token=token))


@pytest.mark.parametrize("scope", ["", [], None, "   "])
def test_silence_about_scopes_is_not_an_empty_set(scope: object) -> None:
    """An empty scope says nothing: clients with roles get one too."""
    assert decode_grant(answer(scope=scope)).scopes is None


@pytest.mark.parametrize(
    "fields",
    [
        {"access_token": ...},
        {"access_token": ""},
        {"access_token": "a b"},
        {"access_token": "a\r\nX: y"},
        {"access_token": 5},
        {"expires_in": ...},
        {"expires_in": None},
        {"expires_in": 0},
        {"expires_in": -5},
        {"expires_in": True},
        {"expires_in": "3600"},
        {"expires_in": 10**12},
        {"expires_in": 10**400},
        {"expires_in": 1.5},
        {"token_type": "mac"},
        {"scope": 7},
    ],
)
def test_bad_answers_are_errors_that_quote_nothing(fields: dict[str, object]) -> None:
    """A missing, negative or absurd life is not guessed, and nothing of the body is repeated."""
    marked = {"access_token": "planted-token"} | fields
    with pytest.raises(RemoteProtocolError) as caught:
        decode_grant(answer(**marked))
    assert "planted" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_grant_or_a_documented_error(body: bytes) -> None:
    """Nothing else can come out."""
    try:
        decode_grant(body)
    except RemoteProtocolError:
        pass


def test_truncated_answers_are_errors() -> None:
    """A good answer cut anywhere is no answer."""
    body = answer(scope="a:b")
    for size in range(len(body)):
        with pytest.raises(RemoteProtocolError):
            decode_grant(body[:size])


def test_grant_does_not_show_its_token() -> None:
    """Not in a repr."""
    assert "abc" not in repr(decode_grant(answer()))


def test_every_feature_has_scopes_and_permissions() -> None:
    """The tables are complete."""
    assert set(SCOPES) == set(PERMISSIONS) == set(Feature)


@pytest.mark.parametrize("feature", sorted(set(Feature) - OPTIONAL))
def test_each_scope_of_a_feature_is_needed(feature: Feature) -> None:
    """Taking any one away is reported; all of them are enough."""
    needed = SCOPES[feature]
    assert check_scopes(needed, [feature]) == ScopeReport()
    for scope in needed:
        assert check_scopes(needed - {scope}, [feature]).missing == (scope,)


def test_missing_write_scope_only_degrades() -> None:
    """The model switch is switched off without it; following goes on."""
    report = check_scopes(frozenset({"conversation:transcript:read"}), [Feature.LIVE, *OPTIONAL])
    assert report == ScopeReport(degraded=("conversation:transcript:write",))


def test_more_than_needed_is_told() -> None:
    """What nothing enabled needs is excess."""
    granted = frozenset({"conversation:transcript:read", "recordings:download"})
    assert check_scopes(granted, [Feature.LIVE]).excess == ("recordings:download",)
    assert check_scopes(None, list(Feature)) == ScopeReport()
    assert wanted_scopes([Feature.DIARISE]) == ("conversation:transcript:read", "websocket:connect")
