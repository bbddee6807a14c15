"""JSON Web Tokens, verified with published keys (RFC 7519, RFC 8725).

The key decides the algorithm, never the token: a token names its key, and its header must then
say what that key is published for.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

import jwt
import msgspec

from steno.adapters.bearer.keys import KeySet, PublishedKey
from steno.adapters.bearer.scopes import granted
from steno.errors import PeerUnavailable
from steno.ports.audio_server import TokenVerdict

LEEWAY_S: Final = 10.0

GOOD: Final = TokenVerdict()
REFUSED: Final = TokenVerdict(401, "token_refused")
EXPIRED: Final = TokenVerdict(401, "token_expired")
NO_SCOPE: Final = TokenVerdict(403, "scope_missing")
UNAVAILABLE: Final = TokenVerdict(503, "verification_unavailable")


class TokenRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a token must say. ``exp`` it must always have.

    Attributes:
        issuer: ``iss``; empty: not looked at.
        audience: ``aud``; empty: not looked at.
        scope: Granted in ``scope`` or ``scp``; empty: none needed.
    """

    issuer: str = ""
    audience: str = ""
    scope: str = ""


class SignedTokens:
    """Verifies JWTs."""

    def __init__(self, keys: KeySet, rules: TokenRules) -> None:
        self._keys = keys
        self._rules = rules

    @staticmethod
    def recognises(token: str) -> bool:
        """Tell whether a token has the form of a JWT."""
        return token.count(".") == 2 and token.startswith("eyJ")

    def verify(self, token: str) -> TokenVerdict | Awaitable[TokenVerdict]:
        """Verify; awaits only when the key has to be fetched."""
        header = _header(token)
        if header is None:
            return REFUSED
        algorithm, kid = header
        key = self._keys.fresh(kid)
        if key is not None:
            return self._judge(token, algorithm, key)
        return self._verify_later(token, algorithm, kid)

    async def _verify_later(self, token: str, algorithm: str, kid: str) -> TokenVerdict:
        try:
            key = await self._keys.find(kid)
        except PeerUnavailable:
            return UNAVAILABLE
        return REFUSED if key is None else self._judge(token, algorithm, key)

    def _judge(self, token: str, algorithm: str, key: PublishedKey) -> TokenVerdict:
        if algorithm != key.algorithm:
            return REFUSED
        rules = self._rules
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                issuer=rules.issuer or None,
                audience=rules.audience or None,
                leeway=LEEWAY_S,
                options={
                    "require": ["exp"],
                    "verify_iss": bool(rules.issuer),
                    "verify_aud": bool(rules.audience),
                },
            )
        except jwt.ExpiredSignatureError:
            return EXPIRED
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return REFUSED
        if rules.scope and not granted(claims, rules.scope):
            return NO_SCOPE
        return GOOD


def _header(token: str) -> tuple[str, str] | None:
    """Return algorithm and key id a token names; None for one we would not understand."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    algorithm, kid = header.get("alg"), header.get("kid", "")
    if not isinstance(algorithm, str) or not isinstance(kid, str):
        return None
    # An extension that must be understood is not (RFC 7515, 4.1.11).
    return None if "crit" in header else (algorithm, kid)
