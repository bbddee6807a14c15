"""JSON answers of the REST API: bodies, error bodies, and who may ask.

Source: the platform's error body (message, code, status, contextId, …) and its rate limit
headers ``inin-ratelimit-*`` and ``ININ-Correlation-Id``.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from typing import Any

import msgspec
from aiohttp import web

from steno_sim.oauth import Token
from steno_sim.region import Region

CORRELATION = web.RequestKey("correlation", str)
RATE_HEADERS: web.RequestKey[dict[str, str]] = web.RequestKey("rate_headers", dict)

_CODES = {
    400: "bad.request",
    401: "bad.credentials",
    403: "not.authorized",
    404: "not.found",
    405: "method.not.allowed",
    413: "request.entity.too.large",
    415: "unsupported.media.type",
    422: "unprocessable.entity",
    429: "too.many.requests",
    500: "internal.server.error",
    502: "bad.gateway",
    503: "service.unavailable",
    504: "request.timeout",
}


def code_of(status: int) -> str:
    """Give the machine code that commonly goes with a status."""
    return _CODES.get(status, "internal.server.error")


class LostAnswer(Exception):
    """The connection is reset in place of an answer."""


class ApiRefusal(Exception):
    """A REST call is answered with an error body; ``field`` is the body's key that is wrong."""

    def __init__(
        self,
        status: int,
        code: str = "",
        message: str = "",
        *,
        retry_after_s: float = 0.0,
        params: dict[str, str] | None = None,
        field: str = "",
    ) -> None:
        super().__init__(status)
        self.status = status
        self.code = code or code_of(status)
        self.message = message or f"The request was refused with status {status}"
        self.retry_after_s = retry_after_s
        self.params = params or {}
        self.field = field


def json_answer(
    body: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Give a JSON response."""
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers=headers,
    )


def error_answer(refusal: ApiRefusal, *, context: str) -> web.Response:
    """Give the platform's error body, with ``Retry-After`` where a wait is asked for."""
    body: dict[str, Any] = {
        "message": refusal.message,
        "code": refusal.code,
        "status": refusal.status,
        "contextId": context,
        "details": [{"errorCode": refusal.code, "fieldName": refusal.field}]
        if refusal.field
        else [],
        "errors": [],
    }
    if refusal.params:
        body["messageParams"] = refusal.params
    headers = {}
    if refusal.retry_after_s:
        headers["Retry-After"] = str(math.ceil(refusal.retry_after_s))
    if refusal.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="genesys"'
    return json_answer(body, status=refusal.status, headers=headers)


def new_correlation() -> str:
    """Give a fresh correlation id."""
    return str(uuid.uuid4())


def bearer(request: web.Request, *, header_only: bool = False) -> str:
    """Give the bearer token of a request: the header's, else the query's, else ""."""
    header = request.headers.get("Authorization", "")
    if header[:7].lower() == "bearer ":
        return header[7:].strip()
    return "" if header_only else request.query.get("access_token", "")


def require_token(request: web.Request, region: Region, *, header_only: bool = False) -> Token:
    """Give the live token that a request carries, and count it against its rate limit.

    Raises:
        ApiRefusal: 401 without a live token, 429 above the limit.
    """
    value = bearer(request, header_only=header_only)
    now = asyncio.get_running_loop().time()
    if not value:
        raise ApiRefusal(401, "authentication.required", "No authentication bearer token specified")
    token = region.tokens.find(value, now=now)
    if token is None:
        raise ApiRefusal(401, "bad.credentials", "Invalid login credentials.")
    _count(request, region, token, now)
    return token


def require_scope(token: Token, scope: str) -> None:
    """Refuse with 403 a token that lacks a scope (tutorial family)."""
    if scope not in token.scopes:
        raise ApiRefusal(
            403,
            "missing.permissions",
            f"Unable to perform the requested action. You are missing the scope: {scope}",
            params={"permissions": scope},
        )


def require_permission(token: Token, permission: str) -> None:
    """Refuse with 403 a client whose roles lack a permission (real platform)."""
    if permission not in token.client.permissions:
        raise ApiRefusal(
            403,
            "missing.permissions",
            "Unable to perform the requested action. "
            f"You are missing the following permission(s): {permission}",
            params={"permissions": permission},
        )


def _count(request: web.Request, region: Region, token: Token, now: float) -> None:
    settings = region.settings
    if not settings.rate_limit:
        return
    if now - token.window_start >= settings.rate_window_s:
        token.window_start, token.window_count = now, 0
    token.window_count += 1
    reset = max(1, math.ceil(token.window_start + settings.rate_window_s - now))
    request[RATE_HEADERS] = {
        "inin-ratelimit-count": str(token.window_count),
        "inin-ratelimit-allowed": str(settings.rate_limit),
        "inin-ratelimit-reset": str(reset),
    }
    if token.window_count > settings.rate_limit:
        raise ApiRefusal(
            429,
            "too.many.requests",
            f"Rate limit exceeded the maximum of {settings.rate_limit} requests "
            f"within {settings.rate_window_s:g} seconds",
            retry_after_s=reset,
        )
