"""OAuth 2.0 client credentials as both families use them: clients, tokens, refusals.

Client authentication: HTTP Basic, form fields, or a signed JWT (RFC 7523, section 2.2).
Tokens are opaque, or shaped like a JWT with scopes inside. They really expire. Everything
takes ``now`` (monotonic seconds) and, where a JWT carries dates, ``wall`` (epoch seconds).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import unquote_plus

import msgspec

DEFAULT_CLIENT_ID = "steno-demo"
DEFAULT_CLIENT_SECRET = "steno-demo-secret"  # noqa: S105 - a simulator's public default
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALL_SCOPES = [
    "analytics:read",
    "conversation:transcript:read",
    "conversation:transcript:write",
    "interaction:read",
    "media:read",
    "media:websocket:read",
    "recordings:download",
    "transcription:read",
    "transcription:write",
    "websocket:connect",
]
ALL_PERMISSIONS = [
    "analytics:conversationDetail:view",
    "conversation:communication:view",
    "conversation:transcription:view",
    "recording:recording:view",
    "routing:queue:view",
    "routing:transcriptionSettings:view",
    "speechAndTextAnalytics:data:view",
]
MAX_TOKENS = 10_000


class Client(msgspec.Struct, frozen=True):
    """An OAuth client: tutorial scopes, real permissions, and how it may authenticate.

    ``public_key`` is a PEM of the RSA or P-256 key whose private half signs assertions.
    """

    id: str = DEFAULT_CLIENT_ID
    secret: str = DEFAULT_CLIENT_SECRET
    scopes: list[str] = msgspec.field(default_factory=lambda: list(ALL_SCOPES))
    permissions: list[str] = msgspec.field(default_factory=lambda: list(ALL_PERMISSIONS))
    public_key: str = ""


class Token(msgspec.Struct):
    """An access token and what it is good for; ``expires`` in monotonic seconds."""

    value: str
    client: Client
    scopes: frozenset[str]
    expires: float
    revoked: bool = False
    window_start: float = 0.0
    window_count: int = 0

    def alive(self, now: float) -> bool:
        """Tell whether it still opens doors."""
        return not self.revoked and now < self.expires


class OAuthRefusal(Exception):
    """A token request is refused: HTTP status, error code, and words for the developer."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.description = description

    def body(self) -> dict[str, str]:
        """Give the JSON body; both spellings of the description are in use."""
        return {
            "error": self.error,
            "description": self.description,
            "error_description": self.description,
        }


class TokenService:
    """Issues and checks the tokens of one region.

    Args:
        clients: Who may ask. One default client when empty.
        expires_in_s: Life of a token.
        jwt_tokens: Tokens are JWT-shaped and carry their scopes.
        answer_scopes: The answer names the scopes.
    """

    def __init__(
        self,
        clients: list[Client] | None = None,
        *,
        expires_in_s: float = 3600.0,
        jwt_tokens: bool = False,
        answer_scopes: bool = True,
    ) -> None:
        self.clients = {c.id: c for c in clients or [Client()]}
        self.expires_in_s = expires_in_s
        self.jwt_tokens = jwt_tokens
        self.answer_scopes = answer_scopes
        self.issued = 0
        self.refused = 0
        self._tokens: dict[str, Token] = {}
        self._seen_assertions: dict[str, float] = {}
        self._signing_key = secrets.token_bytes(32)

    def grant(
        self,
        *,
        authorization: str,
        form: Mapping[str, str],
        audiences: frozenset[str],
        now: float,
        wall: float,
    ) -> dict[str, str | int]:
        """Give the JSON answer of a token request.

        Args:
            authorization: The Authorization header, or "".
            form: Form fields and query parameters together.
            audiences: URLs that an assertion may be meant for.
            now: Monotonic seconds.
            wall: Epoch seconds, for the dates in JWTs.

        Raises:
            OAuthRefusal: The request is wrong, or the client is.
        """
        try:
            return self._grant(authorization, form, audiences, now, wall)
        except OAuthRefusal:
            self.refused += 1
            raise

    def _grant(
        self,
        authorization: str,
        form: Mapping[str, str],
        audiences: frozenset[str],
        now: float,
        wall: float,
    ) -> dict[str, str | int]:
        grant_type = form.get("grant_type", "")
        if not grant_type:
            raise OAuthRefusal(400, "invalid_request", "grant_type is missing")
        if grant_type != "client_credentials":
            raise OAuthRefusal(400, "unsupported_grant_type", "only client_credentials is served")
        client = self._authenticate(authorization, form, audiences, wall)
        wanted = frozenset(form.get("scope", "").split()) or frozenset(client.scopes)
        if not wanted <= frozenset(client.scopes):
            raise OAuthRefusal(400, "invalid_scope", "a scope was asked that the client lacks")
        token = self._issue(client, wanted, now=now, wall=wall)
        answer: dict[str, str | int] = {
            "access_token": token.value,
            "token_type": "bearer",
            "expires_in": max(1, round(self.expires_in_s)),
        }
        if self.answer_scopes:
            answer["scope"] = " ".join(sorted(wanted))
        return answer

    def _issue(self, client: Client, scopes: frozenset[str], *, now: float, wall: float) -> Token:
        if len(self._tokens) >= MAX_TOKENS:
            self._tokens = {v: t for v, t in self._tokens.items() if t.alive(now)}
            while len(self._tokens) >= MAX_TOKENS:
                self._tokens.pop(next(iter(self._tokens)))
        value = secrets.token_urlsafe(32)
        if self.jwt_tokens:
            value = self._jwt(client, scopes, wall)
        token = Token(value, client, scopes, now + self.expires_in_s)
        self._tokens[value] = token
        self.issued += 1
        return token

    def _jwt(self, client: Client, scopes: frozenset[str], wall: float) -> str:
        claims = {
            "iss": "steno-sim",
            "sub": client.id,
            "iat": int(wall),
            "exp": int(wall + self.expires_in_s),
            "scope": " ".join(sorted(scopes)),
            "jti": secrets.token_hex(8),
        }
        head = _b64(msgspec.json.encode({"alg": "HS256", "typ": "JWT"}))
        signed = f"{head}.{_b64(msgspec.json.encode(claims))}"
        return f"{signed}.{_b64(hmac.digest(self._signing_key, signed.encode(), 'sha256'))}"

    def find(self, value: str, *, now: float) -> Token | None:
        """Give the live token of that value, or None."""
        token = self._tokens.get(value)
        return token if token is not None and token.alive(now) else None

    def revoke_all(self) -> None:
        """End every token given out so far."""
        for token in self._tokens.values():
            token.revoked = True

    def _authenticate(
        self, authorization: str, form: Mapping[str, str], audiences: frozenset[str], wall: float
    ) -> Client:
        if form.get("client_assertion_type"):
            return self._by_assertion(form, audiences, wall)
        if authorization[:6].lower() == "basic ":
            client_id, secret = _basic(authorization[6:])
        else:
            client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        if not client_id:
            raise OAuthRefusal(400, "invalid_request", "client credentials are missing")
        client = self.clients.get(client_id)
        expected = client.secret if client is not None else ""
        same = hmac.compare_digest(expected.encode(), secret.encode())
        if client is None or not expected or not same:
            raise OAuthRefusal(401, "invalid_client", "client authentication failed")
        return client

    def _by_assertion(
        self, form: Mapping[str, str], audiences: frozenset[str], wall: float
    ) -> Client:
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise OAuthRefusal(400, "invalid_request", "unknown client_assertion_type")
        header, claims, signed, signature = _open_jwt(form.get("client_assertion", ""))
        client = self.clients.get(str(claims.get("sub", "")))
        if client is None or not client.public_key or claims.get("iss") != client.id:
            raise OAuthRefusal(401, "invalid_client", "nobody known signed this assertion")
        if form.get("client_id", client.id) != client.id:
            raise OAuthRefusal(401, "invalid_client", "client_id and assertion differ")
        if not _verified(client.public_key, str(header.get("alg", "")), signed, signature):
            raise OAuthRefusal(401, "invalid_client", "the assertion's signature does not verify")
        self._check_claims(claims, audiences, wall)
        return client

    def _check_claims(
        self, claims: dict[str, object], audiences: frozenset[str], wall: float
    ) -> None:
        expires, audience = claims.get("exp"), claims.get("aud")
        if not isinstance(expires, int | float) or not wall < expires <= wall + 3600:
            raise OAuthRefusal(401, "invalid_client", "the assertion has expired or lives too long")
        meant = audience if isinstance(audience, list) else [audience]
        if not audiences.intersection(str(a).rstrip("/") for a in meant):
            raise OAuthRefusal(401, "invalid_client", "the assertion is meant for somebody else")
        name = claims.get("jti")
        if not isinstance(name, str) or not name:
            raise OAuthRefusal(401, "invalid_client", "the assertion has no jti")
        self._seen_assertions = {n: e for n, e in self._seen_assertions.items() if e > wall}
        if name in self._seen_assertions:
            raise OAuthRefusal(401, "invalid_client", "the assertion was used before")
        self._seen_assertions[name] = float(expires)


def _basic(text: str) -> tuple[str, str]:
    try:
        client_id, colon, secret = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise OAuthRefusal(400, "invalid_request", "the Basic header cannot be read") from None
    if not colon:
        raise OAuthRefusal(400, "invalid_request", "the Basic header has no colon")
    # RFC 6749, 2.3.1: both parts are form-encoded; plain values decode to themselves
    # unless they hold a plus sign or a percent sign, so those are left as they stand.
    if "%" in client_id + secret and "+" not in client_id + secret:
        return unquote_plus(client_id), unquote_plus(secret)
    return client_id, secret


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _open_jwt(text: str) -> tuple[dict[str, object], dict[str, object], bytes, bytes]:
    """Give header, claims, the signed bytes and the signature of a compact JWT."""
    parts = text.split(".")
    if len(parts) != 3:
        raise OAuthRefusal(400, "invalid_request", "client_assertion is not a signed JWT")
    try:
        header = msgspec.json.decode(_unb64(parts[0]), type=dict[str, object])
        claims = msgspec.json.decode(_unb64(parts[1]), type=dict[str, object])
        signature = _unb64(parts[2])
    except (ValueError, msgspec.MsgspecError):
        raise OAuthRefusal(400, "invalid_request", "client_assertion cannot be read") from None
    return header, claims, f"{parts[0]}.{parts[1]}".encode(), signature


def _verified(public_key: str, algorithm: str, signed: bytes, signature: bytes) -> bool:
    """Tell whether the signature is that key's; RS256 and ES256."""
    # Imported here: it costs 60 ms, and few runs use assertions.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    key = serialization.load_pem_public_key(public_key.encode())
    try:
        if algorithm == "RS256" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            return True
        if algorithm == "ES256" and isinstance(key, ec.EllipticCurvePublicKey):
            if len(signature) != 64:
                return False
            r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
            key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
            return True
    except InvalidSignature:
        return False
    return False
