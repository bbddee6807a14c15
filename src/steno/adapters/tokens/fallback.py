"""Tokens for the backup region: its own, or the primary's while its OAuth does not answer."""

from __future__ import annotations

import asyncio
from typing import Final

from steno.core.timing import CircuitBreaker
from steno.errors import AuthError, TransportError
from steno.ports import Telemetry, TokenSource

PATIENCE_S: Final = 2.0
"""Time for the backup's OAuth: a failover is to be over within 5 s."""

REST_S: Final = 60.0


class FallbackTokens:
    """Asks the backup host's own OAuth; where that fails, gives the primary's token.

    After a failure the backup's OAuth is left alone for a minute, so that reconnects in a row do
    not each wait for it.

    Args:
        backup: Tokens of the backup host.
        primary: Tokens of the primary host.
        telemetry: One warning for each failure.
        patience_s: Seconds given to the backup's OAuth.
    """

    def __init__(
        self,
        backup: TokenSource,
        primary: TokenSource,
        *,
        telemetry: Telemetry,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._backup = backup
        self._primary = primary
        self._telemetry = telemetry
        self._patience_s = patience_s
        self._breaker = CircuitBreaker(failures=1, open_s=REST_S)

    async def token(self, *, refused: str = "") -> str:
        """Return a token for the backup host; see ``ports.TokenSource``.

        Raises:
            AuthError, TransportError: The primary's OAuth could not help either.
        """
        now = asyncio.get_running_loop().time
        if self._breaker.allow(now()):
            try:
                async with asyncio.timeout(self._patience_s):
                    token = await self._backup.token(refused=refused)
            except (AuthError, TransportError, TimeoutError) as error:
                self._breaker.failed(now())
                self._telemetry.warning(
                    "token.primary_reused", error=type(error).__name__, retry_s=REST_S
                )
            else:
                self._breaker.succeeded(now())
                return token
        return await self._primary.token(refused=refused)
