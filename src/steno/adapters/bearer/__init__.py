"""Bearer tokens of callers: whether they open the JSON form, and from which origins."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Protocol

from steno.adapters.bearer.check import CheckCall
from steno.adapters.bearer.fetching import Fetcher, checked_url
from steno.adapters.bearer.keys import KeySet
from steno.adapters.bearer.origins import origin_allowed
from steno.adapters.bearer.signed import SignedTokens, TokenRules
from steno.adapters.bearer.verifier import BearerVerifier, StaticTokens
from steno.core.secret import Secret
from steno.ports import Telemetry
from steno.wire.http import HttpExchange

__all__ = ["BearerOptions", "BearerVerifier", "make_verifier", "origin_allowed"]


class BearerOptions(Protocol):
    """The settings read here (the group ``media``)."""

    @property
    def bearer_tokens(self) -> Secret:
        """Static tokens, separated by commas or spaces."""

    @property
    def bearer_jwks_url(self) -> str:
        """Where the keys of JWTs are published."""

    @property
    def bearer_issuer(self) -> str:
        """``iss`` a JWT must have; empty: any."""

    @property
    def bearer_audience(self) -> str:
        """``aud`` a JWT must have; empty: any."""

    @property
    def bearer_scope(self) -> str:
        """Scope that must be granted; empty: none."""

    @property
    def bearer_check_url(self) -> str:
        """Address that tells whether a token is good."""


async def make_verifier(
    options: BearerOptions,
    stack: AsyncExitStack,
    telemetry: Telemetry,
    *,
    exchange: HttpExchange | None = None,
) -> BearerVerifier | None:
    """Return a verifier as configured; None when nothing is, and so no token could be good.

    Args:
        options: What is configured.
        stack: Closes the connections that are opened here.
        telemetry: Logs failures of the services asked.
        exchange: Carries requests, e.g. through a proxy; a client of its own by default.

    Raises:
        ConfigError: An address is not https, and not http on this machine.
    """
    static = StaticTokens(options.bearer_tokens)
    keys_url = checked_url(options.bearer_jwks_url, setting="media.bearer_jwks_url")
    check_url = checked_url(options.bearer_check_url, setting="media.bearer_check_url")
    if not (static or keys_url or check_url):
        return None
    if exchange is None and (keys_url or check_url):
        exchange = await stack.enter_async_context(Fetcher())
    signed, check = None, None
    if keys_url and exchange is not None:
        rules = TokenRules(
            issuer=options.bearer_issuer,
            audience=options.bearer_audience,
            scope=options.bearer_scope,
        )
        signed = SignedTokens(KeySet(keys_url, exchange, telemetry), rules)
    if check_url and exchange is not None:
        check = CheckCall(check_url, exchange, telemetry, scope=options.bearer_scope)
    return BearerVerifier(static=static, signed=signed, check=check)
