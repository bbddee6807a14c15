"""Opening a WebSocket as the platform does: no redirects, no proxy, no compression."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

USER_AGENT = "GenesysCloud-AudioHook-Client"
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 3.0


class Refused(Exception):
    """The upgrade was answered with an HTTP status; 0 when no answer came at all."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}" if status else "no connection")
        self.status = status


class _Connect(connect):
    """Takes a redirect for the refusal it is."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def dial(
    url: str,
    headers: Mapping[str, str],
    *,
    subprotocols: Sequence[str] = (),
    origin: str = "",
    context: ssl.SSLContext | None = None,
) -> ClientConnection:
    """Connect.

    Raises:
        Refused: The server refused, or could not be reached.
    """
    named = [Subprotocol(name) for name in subprotocols]
    more = {**headers, **({"Origin": origin} if origin else {})}
    try:
        return await _Connect(
            url,
            additional_headers=more,
            user_agent_header=USER_AGENT,
            subprotocols=named or None,
            compression=None,
            ping_interval=None,
            max_size=None,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            proxy=None,
            ssl=context,
        )
    except InvalidStatus as exc:
        raise Refused(exc.response.status_code) from None
    except (OSError, WebSocketException, EOFError) as exc:
        raise Refused(0) from exc


def authority(url: str) -> str:
    """Give the Host that is sent for a URL: lower case, default port left out."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    default = 443 if parts.scheme == "wss" else 80
    return host if parts.port in (None, default) else f"{host}:{parts.port}"


def target(url: str) -> str:
    """Give path and query as on the request line."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
