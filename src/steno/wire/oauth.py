"""OAuth client credentials: requests written, answers read, scopes compared. Pure.

Three shapes of request are spoken, after the two wire families:

- ``QUERY``: the tutorial's ``/api/v2/oauth/token?grant_type=client_credentials``, Basic;
- ``FORM``: the tutorial's ``/oauth/token``, everything in the form;
- ``BASIC``: the real platform's ``/oauth/token``, grant type in the form, Basic.

With a private key instead of a secret, a signed assertion takes the place of the secret in the
two ``/oauth/token`` shapes (RFC 7523). Signing needs a library, so it is a function passed in.

Source: Genesys Cloud, client credentials grant; RFC 6749, 2.3.1 and 4.4; RFC 7523, 2.2 and 3.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final
from urllib.parse import urlencode

import msgspec

from steno.core.hosts import Host
from steno.core.secret import Secret
from steno.errors import ConfigError, RemoteProtocolError
from steno.wire.http import HttpRequest

MAX_LIFE_S = 366 * 86_400
"""A longer life than this is no life the platform gives: the answer is taken as broken."""

ASSERTION_LIFE_S = 300
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_MAX_JWT_PART_CHARS = 16_384


# --- requests --------------------------------------------------------------------------------


class Shape(StrEnum):
    """How the token endpoint is asked."""

    QUERY = "query"
    FORM = "form"
    BASIC = "basic"


class JwtConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Claims and header of a client assertion, as ``GENESYS_JWT_CONFIG`` gives them.

    Attributes:
        iss: Issuer; the client id where not given.
        sub: Subject; the client id where not given.
        aud: Audience; the token endpoint's address where not given.
        kid: Id of the key, for the header.
        alg: Signature algorithm.
        lifetime_s: Life of an assertion in seconds.
    """

    iss: str = ""
    sub: str = ""
    aud: str = ""
    kid: str = ""
    alg: str = "RS256"
    lifetime_s: int = ASSERTION_LIFE_S


ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)

Sign = Callable[[bytes], bytes]
"""Signs bytes with the client's private key, in the form JWS wants."""


@dataclass(frozen=True, slots=True)
class SecretProof:
    """The client proves itself by its secret."""

    secret: Secret


@dataclass(frozen=True, slots=True)
class SignedProof:
    """The client proves itself by assertions that it signs, a new one each time.

    ``key`` is the private key or a digest of it; it seals the token cache and is sent nowhere.
    """

    sign: Sign = field(repr=False)
    key: Secret
    config: JwtConfig = field(default_factory=JwtConfig)


@dataclass(frozen=True, slots=True)
class ReadyProof:
    """The client proves itself by one assertion that somebody else has signed."""

    assertion: Secret


Proof = SecretProof | SignedProof | ReadyProof


def sealing_secret(proof: Proof) -> Secret:
    """Return what only a holder of the credentials knows, for sealing the token cache."""
    match proof:
        case SecretProof(secret):
            return secret
        case SignedProof(key=key):
            return key
        case ReadyProof(assertion):
            return assertion


def decode_jwt_config(text: str | bytes, *, setting: str) -> JwtConfig:
    """Read the JSON of ``GENESYS_JWT_CONFIG``.

    Raises:
        ConfigError: No such JSON, an unknown key or algorithm, or a life not in 1..3600 s. The
            content is not quoted.
    """
    fix = "Give JSON with any of iss, sub, aud, kid, alg, lifetime_s"
    try:
        config = msgspec.json.decode(text, type=JwtConfig)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ConfigError("the JWT settings cannot be read", setting=setting, fix=fix) from None
    if config.alg not in ALGORITHMS:
        raise ConfigError(
            "the JWT algorithm is not supported",
            setting=setting,
            fix=f"Use one of {', '.join(sorted(ALGORITHMS))}",
        )
    if not 1 <= config.lifetime_s <= 3600:
        raise ConfigError("lifetime_s is not between 1 and 3600", setting=setting)
    return config


def token_url(host: Host, shape: Shape) -> str:
    """Return the address of the token endpoint, without its query."""
    path = "/api/v2/oauth/token" if shape is Shape.QUERY else "/oauth/token"
    return f"{host.http_base}{path}"


def token_request(
    host: Host,
    shape: Shape,
    client_id: str,
    proof: Proof,
    *,
    scopes: Iterable[str] = (),
    now_unix_s: int = 0,
    assertion_id: str = "",
) -> HttpRequest:
    """Return the request for a token.

    Args:
        host: The token endpoint's host.
        shape: How it is asked.
        client_id: The OAuth client.
        proof: Its secret, or what signs its assertions.
        scopes: Asked for in the form when there are any.
        now_unix_s: UTC seconds since the epoch, for an assertion.
        assertion_id: A fresh unguessable id, for an assertion.
    """
    address = token_url(host, shape)
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    form = {"grant_type": "client_credentials"}
    if wanted := " ".join(scopes):
        form["scope"] = wanted
    if isinstance(proof, SecretProof):
        secret = proof.secret.reveal()
        if shape is Shape.FORM:
            form |= {"client_id": client_id, "client_secret": secret}
        else:
            headers["Authorization"] = _basic(client_id, secret)
        if shape is Shape.QUERY:
            return HttpRequest("POST", f"{address}?{urlencode(form)}", headers, b"")
        return HttpRequest("POST", address, headers, urlencode(form).encode())
    if client_id:
        form["client_id"] = client_id
    form["client_assertion_type"] = ASSERTION_TYPE
    form["client_assertion"] = (
        proof.assertion.reveal()
        if isinstance(proof, ReadyProof)
        else client_assertion(
            proof, client_id, address, now_unix_s=now_unix_s, assertion_id=assertion_id
        )
    )
    # In the QUERY shape too the assertion goes into the form: an address ends up in access logs.
    query = "?grant_type=client_credentials" if shape is Shape.QUERY else ""
    return HttpRequest("POST", f"{address}{query}", headers, urlencode(form).encode())


def client_assertion(
    proof: SignedProof,
    client_id: str,
    audience: str,
    *,
    now_unix_s: int,
    assertion_id: str,
) -> str:
    """Return a signed JWT by which the client proves itself. Source: RFC 7523, 3."""
    config = proof.config
    header = {"alg": config.alg, "typ": "JWT"} | ({"kid": config.kid} if config.kid else {})
    claims = {
        "iss": config.iss or client_id,
        "sub": config.sub or client_id,
        "aud": config.aud or audience,
        "iat": now_unix_s,
        "exp": now_unix_s + config.lifetime_s,
        "jti": assertion_id,
    }
    signed = b".".join(_b64url(msgspec.json.encode(part)) for part in (header, claims))
    return b".".join((signed, _b64url(proof.sign(signed)))).decode("ascii")


def is_jwt(text: str) -> bool:
    """Tell whether ``text`` has the form of a signed JWT: three parts, a JSON header first."""
    return text.startswith("eyJ") and _JWT.fullmatch(text) is not None


# --- answers ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grant:
    """An access token and what is known of it.

    Attributes:
        token: A secret; not in ``repr``.
        expires_in_s: Its life from the moment it was given.
        scopes: What it may do; None where the answer does not tell.
    """

    token: str = field(repr=False)
    expires_in_s: float
    scopes: frozenset[str] | None = None


class _Answer(msgspec.Struct):
    access_token: str
    expires_in: int
    token_type: str | None = None
    scope: str | list[str] | None = None


class _JwtPayload(msgspec.Struct):
    scope: str | list[str] | None = None
    scp: str | list[str] | None = None
    iat: int | float | None = None
    exp: int | float | None = None


_answer_decoder = msgspec.json.Decoder(_Answer)
_payload_decoder = msgspec.json.Decoder(_JwtPayload)


def decode_grant(body: bytes) -> Grant:
    """Read the token endpoint's answer of status 200.

    Scopes come from ``scope``, else from the payload of a token that is a JWT. The payload is
    not verified: the platform checks its own tokens, we only want to warn early. It can make
    the life shorter, never longer.

    Raises:
        RemoteProtocolError: No token, a token type other than Bearer, no life, or a life that
            is not between 1 s and a year. Nothing of the body is quoted.
    """
    try:
        answer = _answer_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _bad_grant("it lacks access_token or expires_in, or is no JSON") from None
    if _TOKEN.fullmatch(answer.access_token) is None:
        raise _bad_grant("access_token is not a token")
    if (answer.token_type or "bearer").lower() != "bearer":
        raise _bad_grant("token_type is not Bearer")
    if not 1 <= answer.expires_in <= MAX_LIFE_S:
        raise _bad_grant("expires_in is not between 1 s and a year")
    scopes = _scopes(answer.scope)
    life_s = float(answer.expires_in)
    payload = _jwt_payload(answer.access_token)
    if payload is not None:
        scopes = scopes or _scopes(payload.scope) or _scopes(payload.scp)
        if payload.exp is not None and payload.iat is not None:
            own_s = float(payload.exp) - float(payload.iat)
            life_s = min(life_s, own_s) if own_s >= 1 else life_s
    return Grant(answer.access_token, life_s, scopes)


def _jwt_payload(token: str) -> _JwtPayload | None:
    parts = token.split(".")
    if len(parts) != 3 or len(parts[1]) > _MAX_JWT_PART_CHARS:
        return None
    try:
        text = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return _payload_decoder.decode(text)
    except (binascii.Error, ValueError):  # msgspec's errors and UnicodeDecodeError are among them
        return None


def _scopes(value: str | list[str] | None) -> frozenset[str] | None:
    """Return the scopes; None where nothing is said: some servers send an empty ``scope`` to
    clients which have roles instead.
    """
    words = value.split() if isinstance(value, str) else value or []
    return frozenset(word for word in words if _SCOPE.fullmatch(word)) or None


def _bad_grant(reason: str) -> RemoteProtocolError:
    return RemoteProtocolError("the token endpoint's answer cannot be used", reason=reason)


# --- scopes and permissions ------------------------------------------------------------------


class Feature(StrEnum):
    """What needs rights at the platform."""

    LIVE = "live"
    LIVE_SWITCH = "live_switch"
    MEDIA = "media"
    DIARISE = "diarise"
    TRANSCRIBE = "transcribe"
    ARCHIVE = "archive"


SCOPES: Final[Mapping[Feature, frozenset[str]]] = MappingProxyType(
    {
        Feature.LIVE: frozenset({"conversation:transcript:read"}),
        Feature.LIVE_SWITCH: frozenset({"conversation:transcript:write"}),
        Feature.MEDIA: frozenset({"media:websocket:read"}),
        Feature.DIARISE: frozenset({"conversation:transcript:read", "websocket:connect"}),
        Feature.TRANSCRIBE: frozenset(
            {"recordings:download", "transcription:read", "transcription:write"}
        ),
        Feature.ARCHIVE: frozenset({"interaction:read", "media:read", "analytics:read"}),
    }
)
"""Scopes of the tutorial family by feature."""

OPTIONAL: Final = frozenset({Feature.LIVE_SWITCH})
"""Features whose missing scopes only switch them off, with one warning."""

PERMISSIONS: Final[Mapping[Feature, tuple[frozenset[str], ...]]] = MappingProxyType(
    {
        Feature.LIVE: (frozenset({"conversation:transcription:view"}),),
        Feature.LIVE_SWITCH: (),
        Feature.MEDIA: (),
        Feature.DIARISE: (frozenset({"conversation:transcription:view"}),),
        Feature.TRANSCRIBE: (
            frozenset({"recording:recording:view", "recording:recordingSegment:view"}),
        ),
        Feature.ARCHIVE: (
            frozenset({"recording:recording:view"}),
            frozenset({"speechAndTextAnalytics:data:view"}),
            frozenset({"analytics:conversationDetail:view"}),
        ),
    }
)
"""Permissions of the real platform by feature: of each set, one is enough; all sets count.

A client-credentials client has roles, not scopes, so these show only when a call is tried.
"""


class ScopeReport(msgspec.Struct, frozen=True, gc=False):
    """How the scopes given compare with those needed; all empty where none were told.

    Attributes:
        missing: Needed by a feature that cannot work without.
        degraded: Needed only by features which are switched off without.
        excess: Given, needed by nothing that is enabled: more than a leaked token should do.
    """

    missing: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()
    excess: tuple[str, ...] = ()


def wanted_scopes(features: Iterable[Feature]) -> tuple[str, ...]:
    """Return the scopes of the tutorial family that ``features`` need, sorted."""
    return tuple(sorted({scope for feature in features for scope in SCOPES[feature]}))


def check_scopes(granted: frozenset[str] | None, features: Iterable[Feature]) -> ScopeReport:
    """Compare the scopes a token carries with what the enabled features need.

    ``granted`` of None (the answer did not tell) is accepted: the platform decides call by call.
    """
    if granted is None:
        return ScopeReport()
    enabled = frozenset(features)
    needed = set(wanted_scopes(enabled - OPTIONAL))
    optional = set(wanted_scopes(enabled & OPTIONAL)) - needed
    return ScopeReport(
        missing=tuple(sorted(needed - granted)),
        degraded=tuple(sorted(optional - granted)),
        excess=tuple(sorted(granted - needed - optional)),
    )


def _basic(client_id: str, secret: str) -> str:
    """Encode as Basic, unquoted: RFC 6749 asks for form encoding first, but neither the
    documents nor the platform do it, so a secret with ``/`` or ``+`` would be refused.
    """
    return f"Basic {base64.b64encode(f'{client_id}:{secret}'.encode()).decode('ascii')}"


def _b64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
