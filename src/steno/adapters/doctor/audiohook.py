"""Calling an AudioHook server from outside, as the platform does, and telling step by step.

Three connections: the connection probe exactly as the platform makes it; a session of a little
silence with pings, under the probe's null ids so that no conversation comes of it; and, where a
secret is given, an unsigned upgrade, which must be refused.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
import uuid
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from steno.adapters.doctor.findings import Area, Finding, fail, ok, warn
from steno.adapters.doctor.platform import check_reach
from steno.core.hosts import Host, is_loopback
from steno.errors import ConfigError
from steno.wire.audiohook import messages as m
from steno.wire.audiohook.client import (
    Accepted,
    Asked,
    ClientSession,
    ClientState,
    DisconnectAsked,
    Ponged,
    SessionOver,
    Timers,
    Violated,
)
from steno.wire.audiohook.signature import Upgrade, sign

LIMIT_S: Final = 15.0
TALK_FRAMES: Final = 5
FRAME_S: Final = 0.2
SIGNED_FOR_S: Final = 10
USER_AGENT: Final = "GenesysCloud-AudioHook-Client"
OFFERS: Final = tuple(
    m.MediaItem("audio", m.MediaFormat.PCMU, channels, 8000)
    for channels in (
        (m.Channel.EXTERNAL, m.Channel.INTERNAL),
        (m.Channel.EXTERNAL,),
        (m.Channel.INTERNAL,),
    )
)
"""What the platform offers, best first."""

_SILENCE: Final = {m.MediaFormat.PCMU: b"\xff", m.MediaFormat.L16: b"\x00"}


class AudioHookTarget(msgspec.Struct, frozen=True):
    """The server, and who we say we are.

    Attributes:
        url: As typed into the integration, ``wss://host/path``.
        key: API key; empty sends none.
        secret: Client secret, decoded; empty signs nothing. ``repr`` shows neither.
    """

    url: str
    key: str = ""
    secret: bytes = b""

    @property
    def host(self) -> Host:
        """Where the address leads.

        Raises:
            ConfigError: It is no ``ws://`` or ``wss://`` address.
        """
        parts = urlsplit(self.url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("ws", "wss") or not parts.hostname or port == -1:
            raise ConfigError(
                "not a WebSocket address", setting="URL", fix="Write wss://host/path."
            )
        return Host(parts.hostname, port, secure=parts.scheme == "wss")

    def headers(self, session: str, organization: str) -> dict[str, str]:
        """Return the headers of an upgrade, signed where there is a secret."""
        parts = urlsplit(self.url)
        path = parts.path or "/"
        upgrade = Upgrade(
            target=f"{path}?{parts.query}" if parts.query else path,
            authority=self.host.authority.lower(),
            organization=organization,
            session=session,
            correlation=str(uuid.uuid4()),
            key_id=self.key,
        )
        now = int(time.time())
        signature = sign(
            upgrade,
            self.secret,
            nonce=secrets.token_urlsafe(24),
            created=now,
            expires=now + SIGNED_FOR_S,
        )
        return {
            "User-Agent": USER_AGENT,
            "Audiohook-Organization-Id": upgrade.organization,
            "Audiohook-Session-Id": upgrade.session,
            "Audiohook-Correlation-Id": upgrade.correlation,
            **({"X-API-KEY": self.key} if self.key else {}),
            **(dict(signature) if self.secret else {}),
        }

    def __repr__(self) -> str:
        return f"AudioHookTarget(host={str(self.host)!r})"


class _Talk(m.OpenParameters, frozen=True):
    """The probe's ``open`` for a session that is not closed at once."""

    @property
    def is_probe(self) -> bool:
        return False


async def check_audiohook(target: AudioHookTarget, *, tls: ssl.SSLContext) -> list[Finding]:
    """Call the server; the findings are in the order of the steps.

    Raises:
        ConfigError: The address is no ``ws://`` or ``wss://`` address.
    """
    host = target.host
    reached = await check_reach(host, tls=tls)
    findings = [reached]
    if reached.verdict == "fail":
        return findings
    if not host.secure and not is_loopback(host.name):
        fix = "Put it behind TLS with a certificate of a public authority"
        findings.append(fail("address", "plain ws://: Genesys dials wss:// only", fix, Area.REACH))
    probe = _Conversation("probe", target, m.OpenParameters, tls)
    findings += await probe.findings()
    if probe.is_sound:
        findings += await _Conversation("session", target, _Talk, tls).findings()
        if target.secret:
            findings.append(await _unsigned(target, tls))
    return findings


class _Conversation:
    """One connection, and what is found on it."""

    def __init__(
        self,
        name: str,
        target: AudioHookTarget,
        kind: type[m.OpenParameters],
        tls: ssl.SSLContext,
    ) -> None:
        self._name = name
        self._target = target
        self._tls = tls
        self._found: list[Finding] = []
        self._pongs_us: list[int] = []
        self._session, organization = str(uuid.uuid4()), str(uuid.uuid4())
        self._headers = target.headers(self._session, organization)
        self._open = kind(
            organization_id=organization,
            conversation_id=m.NULL_UUID,
            participant=m.Participant(m.NULL_UUID, "", "", ""),
            media=OFFERS,
            language="en-US",
            supported_languages=True,
        )
        self.is_sound = False
        self.is_refused = False

    async def findings(self) -> list[Finding]:
        """Connect, talk, hang up."""
        began = time.perf_counter()
        try:
            async with (
                asyncio.timeout(LIMIT_S + TALK_FRAMES * FRAME_S),
                aiohttp.ClientSession(trust_env=False) as client,
                client.ws_connect(
                    self._target.url,
                    headers=self._headers,
                    ssl=self._tls if self._target.host.secure else True,
                    timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
                ) as socket,
            ):
                self._tell(True, "upgrade", f"101 after {_ms(time.perf_counter() - began)}")
                await self._talk(socket)
        except aiohttp.WSServerHandshakeError as error:
            self.is_refused = error.status in (401, 403)
            self._refused(error.status)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            what = f"the connection failed ({type(error).__name__})"
            fix = "Look at the server, and at proxies before it"
            self._found.append(fail(self._check("connection"), what, fix, Area.REACH))
        return self._found

    async def _talk(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        timers = Timers(first_ping_s=FRAME_S)
        machine = ClientSession(self._session, self._open, now=time.monotonic(), timers=timers)
        self._asked_at = time.monotonic()
        machine.start(time.monotonic())
        frames, next_frame = 0, float("inf")
        over = False
        while not over:
            for frame in machine.to_send():
                await (
                    socket.send_str(frame.data.decode())
                    if frame.is_text
                    else socket.send_bytes(frame.data)
                )
            deadline = min(machine.next_deadline() or next_frame, next_frame)
            await self._receive(socket, machine, deadline)
            now = time.monotonic()
            machine.on_deadline(now)
            if next_frame == float("inf") and machine.state is ClientState.OPEN:
                next_frame = now
            if machine.state is ClientState.OPEN and now >= next_frame:
                if frames == TALK_FRAMES:
                    machine.close(m.CloseReason.END, now)
                    self._asked_at = now
                elif machine.media is not None:
                    size = int(machine.media.rate * FRAME_S) * machine.media.frame_bytes
                    machine.send_audio(size // len(_silence(machine)) * _silence(machine), now)
                frames, next_frame = frames + 1, next_frame + FRAME_S
            elif machine.state is not ClientState.OPEN:
                next_frame = float("inf")
            for event in machine.events():
                over = self._take(event, time.monotonic()) or over

    async def _receive(
        self, socket: aiohttp.ClientWebSocketResponse, machine: ClientSession, deadline: float
    ) -> None:
        """Hand the machine the next message, if one comes before the deadline."""
        try:
            async with asyncio.timeout(min(max(0.0, deadline - time.monotonic()), LIMIT_S)):
                message = await socket.receive()
        except TimeoutError:
            return
        if message.type is aiohttp.WSMsgType.TEXT:
            machine.receive_text(message.data.encode(), time.monotonic())
        elif message.type is aiohttp.WSMsgType.BINARY:
            machine.receive_binary(message.data, time.monotonic())
        elif message.type in _ENDS:
            machine.receive_end(time.monotonic())

    def _take(self, event: object, now: float) -> bool:
        """Tell what an event means; True for the last one."""
        match event:
            case Accepted():
                self._accepted(event, now)
            case Ponged(rtt_us=rtt_us):
                self._pongs_us.append(rtt_us)
            case Asked(what=what):
                fix = "Fine, if the server means it"
                self._found.append(warn(self._check(what), "asked for", fix, Area.REACH))
            case DisconnectAsked(reason=reason):
                self.is_refused = reason is m.DisconnectReason.UNAUTHORIZED
                self._disconnected(reason)
            case Violated(code=code, cause=cause):
                self._tell(False, f"rule ({code})", cause, "Mend the server: Genesys counts this")
            case SessionOver(clean=clean):
                self._over(clean, now)
                return True
            case _:
                pass
        return False

    def _accepted(self, event: Accepted, now: float) -> None:
        media = event.media
        what = f"after {_ms(now - self._asked_at)}"
        self._tell(True, "opened", f"{what}, of 5 s")
        if media is None:
            fix = "Fine for a probe; a call without audio is of no use"
            self._found.append(warn(self._check("media"), "none chosen", fix, Area.REACH))
        else:
            channels = " and ".join(media.channels)
            self._tell(True, "media", f"{media.format.value}, {media.rate} Hz, {channels}")
        languages = event.parameters.supported_languages or ()
        self._tell(True, "languages", " ".join(languages) or "none told")
        self._asked_at = now

    def _over(self, clean: bool, now: float) -> None:
        if self._pongs_us:
            times = ", ".join(_ms(rtt_us / 1_000_000) for rtt_us in self._pongs_us)
            self._tell(True, "pong", f"after {times}")
        elif self._name == "session":
            self._tell(False, "pong", "none came", "Answer each ping at once, before anything else")
        if clean:
            self._tell(True, "closed", f"after {_ms(now - self._asked_at)}, of 10 s")
        self.is_sound = clean

    def _refused(self, status: int) -> None:
        what = f"answered {status}"
        if status in (401, 403):
            fix = "Check API key and client secret; a captured request: steno doctor signature"
            self._found.append(fail(self._check("upgrade"), what, fix, Area.AUTH))
        else:
            fix = "Check the path; a proxy may not pass WebSockets; redirects are not followed"
            self._found.append(fail(self._check("upgrade"), what, fix, Area.REACH))

    def _disconnected(self, reason: m.DisconnectReason) -> None:
        check, what = self._check("disconnect"), f"the server ended it: {reason.value}"
        if reason is m.DisconnectReason.UNAUTHORIZED:
            fix = "Check API key and client secret; a captured request: steno doctor signature"
            self._found.append(fail(check, what, fix, Area.AUTH))
        else:
            self._found.append(fail(check, what, "Look at the server's log", Area.MACHINE))

    def _check(self, step: str) -> str:
        return f"{self._name}: {step}"

    def _tell(self, good: bool, step: str, what: str, fix: str = "") -> None:
        check = self._check(step)
        self._found.append(
            ok(check, what, Area.REACH) if good else fail(check, what, fix, Area.MACHINE)
        )


_ENDS: Final = (
    aiohttp.WSMsgType.CLOSE,
    aiohttp.WSMsgType.CLOSED,
    aiohttp.WSMsgType.CLOSING,
    aiohttp.WSMsgType.ERROR,
)


def _silence(machine: ClientSession) -> bytes:
    return _SILENCE[m.MediaFormat.PCMU if machine.media is None else machine.media.format]


async def _unsigned(target: AudioHookTarget, tls: ssl.SSLContext) -> Finding:
    """Look whether the same key without a signature is refused."""
    check = "unsigned upgrade"
    bare = _Conversation(check, msgspec.structs.replace(target, secret=b""), m.OpenParameters, tls)
    await bare.findings()
    if bare.is_refused:
        return ok(check, "refused", Area.AUTH)
    fix = "Require a signature of every key that has a secret"
    return fail(check, "not refused", fix, Area.AUTH)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
