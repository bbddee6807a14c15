"""Whether an ``Authorization`` header opens the JSON form.

Static tokens come first; then a token which looks like a JWT is verified with the issuer's keys
if there are any; whatever else goes to the check call. One of them decides alone: a JWT that its
issuer's keys do not vouch for is not tried elsewhere. With nothing configured nothing is good.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable
from hashlib import sha256
from typing import Final

from steno.adapters.bearer.check import CheckCall
from steno.adapters.bearer.signed import GOOD, REFUSED, SignedTokens
from steno.core.secret import Secret
from steno.ports.audio_server import TokenVerdict

MAX_TOKEN_CHARS: Final = 8192
_CREDENTIALS: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")
_NO_TOKEN: Final = TokenVerdict(401, "no_token")


class StaticTokens:
    """Tokens known beforehand, several while one is being replaced; only digests are kept."""

    def __init__(self, tokens: Secret) -> None:
        listed = [token for token in re.split(r"[,\s]+", tokens.reveal()) if token]
        self._digests = tuple(sha256(token.encode()).digest() for token in listed)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def holds(self, token: str) -> bool:
        """Tell whether a token is among them, in a time that says nothing about them."""
        digest = sha256(token.encode()).digest()
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(digest, known)
        return found


class BearerVerifier:
    """See ``steno.ports.audio_server.TokenVerifier``."""

    def __init__(
        self,
        *,
        static: StaticTokens | None = None,
        signed: SignedTokens | None = None,
        check: CheckCall | None = None,
    ) -> None:
        self._static = static
        self._signed = signed
        self._check = check

    def verify(self, header: str) -> TokenVerdict | Awaitable[TokenVerdict]:
        """Verify; what is decided by this process alone is not awaited."""
        found = _CREDENTIALS.fullmatch(header) if len(header) <= MAX_TOKEN_CHARS else None
        if found is None:
            return REFUSED if header else _NO_TOKEN
        token = found.group(1)
        if self._static is not None and self._static.holds(token):
            return GOOD
        if self._signed is not None and self._signed.recognises(token):
            return self._signed.verify(token)
        if self._check is not None:
            return self._check.verify(token)
        return REFUSED
