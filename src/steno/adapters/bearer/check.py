"""Asks the service that issued a token whether it is good.

Answers are kept for a while by the token's digest, and one token is asked about once however
many calls bring it at the same time. The number of questions on their way is bounded, so that
invented tokens cannot become a flood on somebody else.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final

import msgspec

from steno.adapters.bearer.fetching import LIMIT_S, MAX_BYTES
from steno.adapters.bearer.scopes import named
from steno.adapters.bearer.signed import GOOD, NO_SCOPE, REFUSED, UNAVAILABLE
from steno.errors import StenoError
from steno.ports import Telemetry
from steno.ports.audio_server import TokenVerdict
from steno.wire.http import HttpExchange, HttpRequest

GOOD_S: Final = 60.0
BAD_S: Final = 5.0
UNKNOWN_S: Final = 1.0
MAX_KEPT: Final = 4096
MAX_ASKING: Final = 64
_LOG_EVERY_S: Final = 10.0
_FORBIDDEN: Final = TokenVerdict(403, "token_refused")

_decode: Final = msgspec.json.Decoder(dict[str, object]).decode


class CheckCall:
    """Verifies tokens by a call.

    Args:
        url: Answers 200 for a good token sent as ``Authorization: Bearer``, 401 or 403 for one
            that is not; anything else is no verdict.
        exchange: Carries the request; must not follow redirects with a token in hand.
        telemetry: Logs when there is no verdict.
        scope: Must be among the scopes the answer names, if it names any; empty: not looked at.
        clock: Monotonic seconds; the loop's by default.
    """

    def __init__(
        self,
        url: str,
        exchange: HttpExchange,
        telemetry: Telemetry,
        *,
        scope: str = "",
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._url = url
        self._exchange = exchange
        self._telemetry = telemetry
        self._scope = scope
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._kept: OrderedDict[bytes, tuple[TokenVerdict, float]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Future[None]] = {}
        self._logged_at = float("-inf")

    def verify(self, token: str) -> TokenVerdict | Awaitable[TokenVerdict]:
        """Verify; awaits unless the verdict is at hand."""
        digest = sha256(token.encode()).digest()
        return self._known(digest) or self._ask(token, digest)

    def _known(self, digest: bytes) -> TokenVerdict | None:
        kept = self._kept.get(digest)
        if kept is None:
            return None
        verdict, until = kept
        if self._clock() >= until:
            del self._kept[digest]
            return None
        return verdict

    async def _ask(self, token: str, digest: bytes) -> TokenVerdict:
        while (asked := self._asking.get(digest)) is not None:
            await asyncio.wait([asked])
            known = self._known(digest)
            if known is not None:
                return known
            # The one who asked was cancelled: its turn is ours.
        if len(self._asking) >= MAX_ASKING:
            return UNAVAILABLE
        done = self._asking[digest] = asyncio.get_running_loop().create_future()
        try:
            verdict, keep_s = await self._call(token)
            self._keep(digest, verdict, keep_s)
            return verdict
        finally:
            del self._asking[digest]
            done.set_result(None)

    async def _call(self, token: str) -> tuple[TokenVerdict, float]:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        request = HttpRequest("GET", self._url, headers)
        try:
            answer = await self._exchange.send(request, limit_s=LIMIT_S, max_bytes=MAX_BYTES)
        except StenoError as error:
            self._log(error.error_class, 0)
            return UNAVAILABLE, UNKNOWN_S
        match answer.status:
            case 200:
                good = self._has_scope(answer.body)
                return (GOOD, GOOD_S) if good else (NO_SCOPE, BAD_S)
            case 401:
                return REFUSED, BAD_S
            case 403:
                return _FORBIDDEN, BAD_S
            case status:
                self._log("", status)
                return UNAVAILABLE, UNKNOWN_S

    def _has_scope(self, body: bytes) -> bool:
        if not self._scope:
            return True
        try:
            scopes = named(_decode(body))
        except msgspec.MsgspecError:
            return True  # 200 is the verdict; this answer does not speak of scopes
        return scopes is None or self._scope in scopes

    def _keep(self, digest: bytes, verdict: TokenVerdict, keep_s: float) -> None:
        self._kept[digest] = (verdict, self._clock() + keep_s)
        self._kept.move_to_end(digest)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def _log(self, error_class: str, status: int) -> None:
        now = self._clock()
        if now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            self._telemetry.warning(
                "media.token_check_failed",
                error_class=error_class or None,
                status=status or None,
            )
