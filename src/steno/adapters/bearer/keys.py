"""The published keys of a token issuer (JWKS, RFC 7517), kept and refreshed.

Keys are fetched when the first token comes, again when a token names a key we do not have, and
when they have grown old: a key the issuer withdrew stops being good within the hour. Fetching
is single-flight and rare, whatever callers send: an unknown key id costs at most one request in
half a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from steno.adapters.bearer.fetching import LIMIT_S, MAX_BYTES
from steno.errors import PeerUnavailable, RemoteProtocolError, StenoError
from steno.ports import Telemetry
from steno.wire.http import HttpExchange, HttpRequest

ALGORITHMS: Final = frozenset({"RS256", "PS256", "ES256"})
REFRESH_S: Final = 30.0
RETRY_S: Final = 2.0
FRESH_S: Final = 3600.0
_MAX_KEYS: Final = 64
_MIN_RSA_BITS: Final = 2048


class PublishedKey(NamedTuple):
    """A public key and the one algorithm it may be used with."""

    algorithm: str
    key: RSAPublicKey | EllipticCurvePublicKey


class _Jwk(msgspec.Struct):
    kty: str
    kid: str = ""
    use: str = "sig"
    alg: str = ""
    key_ops: list[str] = msgspec.field(default_factory=lambda: ["verify"])
    n: str = ""
    e: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""


class _Jwks(msgspec.Struct):
    keys: list[msgspec.Raw]


_decode_set = msgspec.json.Decoder(_Jwks).decode
_decode_key = msgspec.json.Decoder(_Jwk).decode


def parse_keys(body: bytes) -> dict[str, PublishedKey]:
    """Return the usable keys of a JWKS by their id.

    A key that is for something else, weak, symmetric or malformed is left out: one such key in
    the set does not make the others useless. Where an id is there twice, neither is usable.

    Raises:
        RemoteProtocolError: This is no JWKS.
    """
    try:
        listed = _decode_set(body).keys[:_MAX_KEYS]
    except msgspec.MsgspecError:
        raise RemoteProtocolError("the answer is no key set") from None
    keys: dict[str, PublishedKey] = {}
    doubled = set()
    for raw in listed:
        try:
            jwk = _decode_key(raw)
        except msgspec.MsgspecError:
            continue
        found = _usable(jwk)
        if found is not None:
            if jwk.kid in keys:
                doubled.add(jwk.kid)
            keys[jwk.kid] = found
    return {kid: key for kid, key in keys.items() if kid not in doubled}


def _usable(jwk: _Jwk) -> PublishedKey | None:
    if jwk.use != "sig" or "verify" not in jwk.key_ops:
        return None
    algorithm = jwk.alg or {"RSA": "RS256", "EC": "ES256"}.get(jwk.kty, "")
    if algorithm not in ALGORITHMS:
        return None
    fields = {"kty": jwk.kty, "n": jwk.n, "e": jwk.e, "crv": jwk.crv, "x": jwk.x, "y": jwk.y}
    try:
        key = jwt.PyJWK({name: value for name, value in fields.items() if value}, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if algorithm == "ES256":
        good = isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    else:
        good = isinstance(key, RSAPublicKey) and key.key_size >= _MIN_RSA_BITS
    return PublishedKey(algorithm, key) if good else None


class KeySet:
    """The keys of one address.

    Args:
        url: Of the JWKS.
        exchange: Carries the request.
        telemetry: Logs what became of it.
        clock: Monotonic seconds; the loop's by default.
        refresh_s: Keys are not fetched more often than this, because of unknown ids.
    """

    def __init__(
        self,
        url: str,
        exchange: HttpExchange,
        telemetry: Telemetry,
        *,
        clock: Callable[[], float] | None = None,
        refresh_s: float = REFRESH_S,
    ) -> None:
        self._request = HttpRequest("GET", url, {"Accept": "application/json"})
        self._exchange = exchange
        self._telemetry = telemetry
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._refresh_s = refresh_s
        self._keys: dict[str, PublishedKey] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._is_down = False
        self._lock = asyncio.Lock()

    def fresh(self, kid: str) -> PublishedKey | None:
        """Return a key if it is at hand and not old; without an id, the only key there is."""
        if self._clock() - self._fetched_at > FRESH_S:
            return None
        return self._find(kid)

    def _find(self, kid: str) -> PublishedKey | None:
        if not kid and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    async def find(self, kid: str) -> PublishedKey | None:
        """Return a key, fetching the set if that may help; None when it is not published.

        Raises:
            PeerUnavailable: There are no keys at all, and none could be had.
        """
        async with self._lock:  # who waited here finds what the one before has fetched
            found = self.fresh(kid)
            if found is None and self._may_try():
                await self._fetch()
                found = self._find(kid)
            elif found is None:
                found = self._find(kid)
        if found is None and not self._keys:
            raise PeerUnavailable("the keys of the token issuer cannot be had")
        return found

    def _may_try(self) -> bool:
        wait_s = RETRY_S if self._is_down else self._refresh_s
        return self._clock() - self._tried_at >= wait_s

    async def _fetch(self) -> None:
        self._tried_at = self._clock()
        self._is_down = True  # until we know better: this try may be cancelled
        try:
            answer = await self._exchange.send(self._request, limit_s=LIMIT_S, max_bytes=MAX_BYTES)
            if answer.status != 200:
                raise PeerUnavailable(status=answer.status)
            keys = parse_keys(answer.body)
        except StenoError as error:
            # Keys we have stay good: an issuer's outage does not lock everybody out.
            self._telemetry.warning("media.token_keys_missing", error_class=error.error_class)
            return
        self._is_down = False
        self._keys = keys
        self._fetched_at = self._clock()
        self._telemetry.info("media.token_keys_read", count=len(keys))
