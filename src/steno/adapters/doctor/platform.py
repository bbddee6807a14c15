"""Checks of the platform: way, clock, credentials, rights, transcription settings, stream."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Protocol
from urllib.parse import urlencode

import msgspec

from steno.adapters.doctor.findings import Area, Finding, fail, failed_by, ok, warn
from steno.core.hosts import Host, region_of
from steno.errors import AuthError, ObjectMissing, StenoError
from steno.wire.event_subscription import socket_headers, socket_url
from steno.wire.http import HttpAnswer, HttpExchange, HttpRequest
from steno.wire.notifications_rest import ChannelInfo, SubscriptionState
from steno.wire.oauth import PERMISSIONS, Feature, ScopeReport

LIMIT_S: Final = 10.0
SKEW_WARN_S: Final = 5.0
SKEW_FAIL_S: Final = 300.0
SHORT_LIFE_S: Final = 600.0
NO_CONVERSATION: Final = "00000000-0000-4000-8000-000000000000"
"""A well-formed id that no conversation has, to ask for rights without touching anything."""


class Tokens(Protocol):
    """What of a token manager the checks look at."""

    async def token(self, *, refused: str = "") -> str:
        """Return a token."""

    @property
    def scopes(self) -> frozenset[str] | None:
        """Scopes of the token held."""

    @property
    def report(self) -> ScopeReport:
        """How they compare with what is enabled."""

    @property
    def expires_in_s(self) -> float:
        """Seconds the token has left."""


class ChannelCalls(Protocol):
    """The notification calls that show whether rights are missing."""

    async def create_channel(self) -> ChannelInfo:
        """Make a channel."""

    async def subscribe(
        self, channel_id: str, topics: Sequence[str], *, replace: bool = False
    ) -> list[SubscriptionState]:
        """Subscribe to topics."""

    async def delete_subscriptions(self, channel_id: str) -> None:
        """Remove them."""


class Getter(Protocol):
    """A REST call with a token, as ``PlatformHttp.request`` makes it."""

    async def request(self, method: str, path: str, *, action: str) -> HttpAnswer:
        """Call and return the answer."""


class _Settings(msgspec.Struct):
    transcription: str | None = None


# --- way and clock ---------------------------------------------------------------------------


async def check_reach(host: Host, *, tls: ssl.SSLContext, limit_s: float = LIMIT_S) -> Finding:
    """Look the name up, connect, and shake hands over TLS; tell the first that fails."""
    check = f"way to {host}"
    region = f", region {region_of(host)}" if region_of(host) else ""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limit_s):
            await loop.getaddrinfo(host.name, host.tcp_port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return fail(check, "the name is not found", "Check the host and DNS", Area.REACH)
    try:
        async with asyncio.timeout(limit_s):
            _, writer = await asyncio.open_connection(
                host.name, host.tcp_port, ssl=tls if host.secure else None
            )
    except ssl.SSLCertVerificationError:
        fix = "Check clock and host name, or name the authority by platform.ca_file"
        return fail(check, "its certificate is not trusted", fix, Area.REACH)
    except ssl.SSLError:
        return fail(check, "it does not speak TLS", "Check host and port", Area.REACH)
    except (OSError, TimeoutError) as error:
        what = f"no connection ({type(error).__name__})"
        return fail(check, what, "Check firewall, port and platform.proxy", Area.REACH)
    writer.close()
    try:
        async with asyncio.timeout(1.0):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        pass  # it answered; how it says goodbye does not matter
    return ok(check, f"{'TLS' if host.secure else 'plain'} connection{region}", Area.REACH)


async def check_clock(
    host: Host, exchange: HttpExchange, *, now: Callable[[], datetime]
) -> Finding:
    """Compare the clock with the ``Date`` of an answer, whatever its status.

    The header has whole seconds, so a second either way means nothing.
    """
    check = f"clock against {host}"
    before = now()
    try:
        answer = await exchange.send(HttpRequest("HEAD", f"{host.http_base}/"), limit_s=LIMIT_S)
    except StenoError as error:
        return failed_by(check, error, area=Area.REACH)
    after = now()
    peer = _http_date(answer.headers.get("date"))
    if peer is None:
        return warn(check, "the answer has no date", "Compare the clock yourself", Area.MACHINE)
    middle = before + (after - before) / 2
    skew_s = (middle - peer - timedelta(seconds=0.5)).total_seconds()
    what = f"{abs(skew_s):.1f} s {'ahead' if skew_s > 0 else 'behind'}"
    fix = "Synchronise the clock (chrony, systemd-timesyncd)"
    if abs(skew_s) > SKEW_FAIL_S:
        return fail(check, what, fix, Area.MACHINE)
    if abs(skew_s) > SKEW_WARN_S + (after - before).total_seconds():
        return warn(check, what, fix, Area.MACHINE)
    return ok(check, what, Area.MACHINE)


# --- credentials and rights ------------------------------------------------------------------


async def check_token(
    host: Host, tokens: Tokens, *, backup: bool = False
) -> tuple[list[Finding], bool]:
    """Fetch a token and look at its life and scopes; return the findings and whether there is one.

    Args:
        host: The token endpoint's host, for the report.
        tokens: A manager without cache, so that the credentials are really tried.
        backup: A failure is a warning: the primary's token is used there.
    """
    check = f"token from {host}"
    try:
        await tokens.token()
    except StenoError as error:
        if backup:
            what = f"no token of its own ({error.error_class})"
            return [warn(check, what, "The primary's token is used there", Area.AUTH)], False
        return [failed_by(check, error)], False
    scopes = tokens.scopes
    told = "the answer tells no scopes" if scopes is None else f"scopes {' '.join(sorted(scopes))}"
    findings = [ok(check, f"expires in {tokens.expires_in_s:.0f} s; {told}", Area.AUTH)]
    if tokens.expires_in_s < SHORT_LIFE_S:
        fix = "A longer life of the OAuth client's tokens saves requests"
        findings.append(warn(check, "it lives less than 10 minutes", fix, Area.AUTH))
    report = tokens.report
    if report.degraded:
        what = f"lacks {' '.join(report.degraded)}: the language model is not switched"
        findings.append(warn(check, what, "Grant it to the OAuth client", Area.AUTH))
    if report.excess:
        what = f"may do more than needed: {' '.join(report.excess)}"
        findings.append(warn(check, what, "Take the scopes from the OAuth client", Area.AUTH))
    return findings, True


async def check_live_permissions(channels: ChannelCalls, *, conversation: str = "") -> Finding:
    """Subscribe a new channel to a transcription topic and see whether rights are missing.

    Args:
        channels: The calls.
        conversation: A conversation of the settings; else an id that nobody has is taken.
    """
    check = "live transcription permission"
    wanted = " or ".join(sorted(PERMISSIONS[Feature.LIVE][0]))
    topic = f"v2.conversations.{conversation or NO_CONVERSATION}.transcription"
    try:
        channel = await channels.create_channel()
        states = await channels.subscribe(channel.id, [topic])
        await channels.delete_subscriptions(channel.id)
    except StenoError as error:
        return failed_by(check, error)
    refused = [state for state in states if not state.permitted]
    missing = sorted({one for state in refused for one in state.missing_permissions})
    if missing:
        fix = f"Give a role of the client: {', '.join(missing)}"
        return fail(check, "the topic is refused", fix, Area.AUTH)
    if refused:
        fix = f"Check that a role of the client has {wanted}"
        return warn(check, "the topic is refused, no permission is named", fix, Area.AUTH)
    return ok(check, f"the client has {wanted}", Area.AUTH)


async def check_settings(api: Getter) -> Finding:
    """Look whether the organisation transcribes at all (real platform)."""
    check = "transcription setting of the organisation"
    try:
        answer = await api.request(
            "GET", "/api/v2/routing/settings/transcription", action="read transcription settings"
        )
        setting = msgspec.json.decode(answer.body, type=_Settings).transcription
    except (AuthError, ObjectMissing):
        fix = "Give a role of the client: routing:transcriptionSettings:view"
        return warn(check, "it may not be read", fix, Area.AUTH)
    except StenoError as error:
        return failed_by(check, error)
    except msgspec.MsgspecError:
        setting = None
    known = {"disabled", "enabledglobally", "enabledqueueflow"}
    if setting is None or setting.lower() not in known:
        return warn(check, "it is not understood", "Look at it in the administration", Area.AUTH)
    if setting.lower() == "disabled":
        fix = "Turn voice transcription on for the organisation, or for queues and flows"
        return fail(check, "transcription is off", fix, Area.CONFIG)
    where = "everywhere" if setting.lower() == "enabledglobally" else "for chosen queues and flows"
    return ok(check, f"transcription is on {where}", Area.AUTH)


# --- the stream ------------------------------------------------------------------------------


async def check_stream_upgrade(
    host: Host,
    token: str,
    *,
    tls: ssl.SSLContext,
    conversation: str = "",
    proxy: str | None = None,
    limit_s: float = 15.0,
) -> Finding:
    """Open the transcript stream as ``steno live`` does, and close it at once."""
    query = {"access_token": token} | ({"conversationId": conversation} if conversation else {})
    check = f"transcript stream at {host}"
    agreed = await _upgraded(
        check,
        f"{host.ws_base}/api/v2/conversations/transcripts/stream?{urlencode(query)}",
        {"Accept": "application/json"},
        scope="conversation:transcript:read",
        protocol="v2",
        tls=tls if host.secure else None,
        proxy=proxy,
        limit_s=limit_s,
    )
    if isinstance(agreed, Finding):
        return agreed
    if agreed != "v2":
        fix = "Check that the host is the platform's"
        return warn(check, "opened, but subprotocol v2 was not agreed", fix, Area.REACH)
    return ok(check, "opened with subprotocol v2", Area.AUTH)


async def check_event_socket(
    host: Host,
    token: str,
    *,
    tls: ssl.SSLContext,
    path: str,
    proxy: str | None = None,
    limit_s: float = 15.0,
) -> Finding:
    """Open the event socket as ``steno diarise`` does, without a subscription; close it at once."""
    check = f"event socket at {host}"
    agreed = await _upgraded(
        check,
        socket_url(host.ws_base, path),
        dict(socket_headers(token)),
        scope="websocket:connect",
        tls=tls if host.secure else None,
        proxy=proxy,
        limit_s=limit_s,
    )
    return agreed if isinstance(agreed, Finding) else ok(check, "opened", Area.AUTH)


async def _upgraded(
    check: str,
    address: str,
    headers: Mapping[str, str],
    *,
    scope: str,
    tls: ssl.SSLContext | None,
    proxy: str | None,
    limit_s: float,
    protocol: str = "",
) -> str | Finding | None:
    """Return the subprotocol agreed on, or why the socket does not open."""
    import aiohttp

    try:
        async with (
            asyncio.timeout(limit_s),
            aiohttp.ClientSession(trust_env=False) as session,
            session.ws_connect(
                address,
                protocols=(protocol,) if protocol else (),
                headers=headers,
                ssl=tls or True,
                proxy=proxy,
                timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
            ) as stream,
        ):
            return stream.protocol
    except aiohttp.WSServerHandshakeError as error:
        return _refused_upgrade(check, error.status, scope)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        what = f"no upgrade ({type(error).__name__})"
        return fail(check, what, "Check host, proxy and firewall for WebSockets", Area.REACH)


def _refused_upgrade(check: str, status: int, scope: str) -> Finding:
    what = f"the upgrade was answered {status}"
    if status == 401:
        return fail(check, what, "Check that token and host belong together", Area.AUTH)
    if status == 403:
        return fail(check, what, f"Grant the OAuth client {scope}", Area.AUTH)
    return fail(check, what, "Check the host; a proxy may not pass WebSockets", Area.REACH)


def _http_date(text: str | None) -> datetime | None:
    try:
        at = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return at if at.tzinfo is not None else None
