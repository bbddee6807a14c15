"""The part of a connection before it is a WebSocket: one HTTP request, one decision.

WAITING for the head → DECIDING (the router may await) → handed over, or ANSWERED with a
refusal. Each step has a deadline, and reading stops while one is being decided about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, Protocol, cast

import msgspec

from steno.adapters.audio_server.drain import Drain
from steno.adapters.audio_server.peers import Proxies
from steno.adapters.audio_server.request import (
    MAX_HEAD_BYTES,
    Head,
    Offer,
    check_upgrade,
    parse_head,
)
from steno.ports.audio_server import Accept, Refuse, UpgradeRequest

Decision = Accept | Refuse

_END: Final = b"\r\n\r\n"
_RETRY: Final = (("Retry-After", "5"),)
_INTERNAL: Final = Refuse(500, "internal")


class Opening(msgspec.Struct, frozen=True):
    """An upgrade that was accepted."""

    transport: asyncio.Transport
    peer: str
    key: str
    early: bytes
    subprotocol: str
    accept: Accept


class Gate(Protocol):
    """What the upgrade needs of its server."""

    proxies: Proxies

    @property
    def handshake_s(self) -> float:
        """Time for the request."""

    @property
    def decision_s(self) -> float:
        """Time for the decision."""

    @property
    def close_s(self) -> float:
        """Time for an end."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths there are; empty: the router says."""

    def entered(self, upgrade: Upgrade) -> bool:
        """Take note of a new connection; False when there is no room to hear it."""

    def left(self, upgrade: Upgrade) -> None:
        """Forget it: refused, lost, or handed over."""

    def reserve(self, peer: str) -> Refuse | None:
        """Keep a place for a connection, or say why there is none."""

    def release(self, peer: str) -> None:
        """Give a place back."""

    def decide(self, request: UpgradeRequest) -> Decision | Awaitable[Decision]:
        """Ask the router; its exceptions become a refusal."""

    def spawn(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Run something as a task of the server's."""

    def handler_failed(self, error: Exception) -> None:
        """Report an exception of the router's."""

    def open(self, opening: Opening) -> None:
        """Make it a WebSocket connection; the reserved place is taken."""

    def refused(self, refusal: Refuse) -> None:
        """Count and log a refusal."""


class Upgrade(asyncio.BufferedProtocol):
    """Reads one request and answers it; made for each TCP connection."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(MAX_HEAD_BYTES)
        self._filled = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._reserved: str | None = None
        self._answered = False
        self._since = 0.0

    # --- what asyncio calls ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock (asyncio calls this, after TLS)."""
        self._transport = cast("asyncio.Transport", transport)
        if not self._gate.entered(self):
            self._answered = True
            self._transport.abort()
            return
        self._timer = self._loop.call_later(self._gate.handshake_s, self.drop)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to (asyncio calls this)."""
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take in what was read (asyncio calls this)."""
        searched = max(0, self._filled - len(_END) + 1)
        self._filled += nbytes
        if self._answered or self._transport is None:
            return
        end = self._buffer.find(_END, searched, self._filled)
        if end >= 0:
            self._transport.pause_reading()
            self._take_head(end + len(_END))
        elif self._buffer[0] < 0x21:
            self.drop()  # no method begins like that: TLS spoken to a plain port, mostly
        elif self._filled == MAX_HEAD_BYTES:
            self._transport.pause_reading()
            self._refuse(Refuse(431, "head_too_long"))

    def eof_received(self) -> bool:
        """Let the transport close (asyncio calls this)."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything (asyncio calls this)."""
        self._finish()

    @property
    def is_silent(self) -> bool:
        """Whether it has not said what it wants yet."""
        return not self._answered and not self._since

    def drop(self) -> None:
        """Let go of the connection without a word."""
        self._answered = True
        if self._transport is not None:
            self._transport.abort()

    def refuse_now(self, refusal: Refuse) -> None:
        """Refuse before anything was asked: the server ends."""
        if not self._answered:
            self._refuse(refusal)

    # --- deciding ----------------------------------------------------------------------------

    def _take_head(self, end: int) -> None:
        self._since = self._loop.time()
        self._cancel_timer()
        head = parse_head(bytes(self._buffer[:end]))
        if isinstance(head, Refuse):
            self._refuse(head)
            return
        if self._gate.paths and head.path not in self._gate.paths:
            self._refuse(Refuse(404, "unknown_path"))
            return
        offer = check_upgrade(head)
        request = self._request(head)
        if isinstance(offer, Refuse):
            self._refuse(offer)
        elif request is None:
            self._refuse(Refuse(403, "past_the_proxy"))
        elif (full := self._gate.reserve(request.peer)) is not None:
            self._refuse(full)
        else:
            self._reserved = request.peer
            self._decide(request, offer, bytes(self._buffer[end : self._filled]))

    def _request(self, head: Head) -> UpgradeRequest | None:
        """Return what the router gets; None when the caller may not come this way."""
        assert self._transport is not None
        name = self._transport.get_extra_info("peername")
        address = str(name[0]) if isinstance(name, tuple) else ""
        tls = self._transport.get_extra_info("ssl_object") is not None
        proxies = self._gate.proxies
        if not proxies.admits(address, tls=tls):
            return None
        return UpgradeRequest(
            target=head.target,
            path=head.path,
            headers=head.headers,
            peer=proxies.caller(address, head.values("x-forwarded-for")),
            secure=tls or proxies.secure(address, head.values("x-forwarded-proto")),
        )

    def _decide(self, request: UpgradeRequest, offer: Offer, early: bytes) -> None:
        decision = self._gate.decide(request)
        if isinstance(decision, Accept | Refuse):
            self._settle(decision, offer, early)
            return

        async def wait() -> None:
            self._settle(await self._awaited(decision), offer, early)

        self._task = self._gate.spawn(wait)

    async def _awaited(self, decision: Awaitable[Decision]) -> Decision:
        try:
            async with asyncio.timeout(self._gate.decision_s):
                return await decision
        except TimeoutError:
            return Refuse(503, "decision_timeout", headers=_RETRY)
        except Exception as exc:  # noqa: BLE001 - whatever the router raises is its own
            self._gate.handler_failed(exc)
            return _INTERNAL

    def _settle(self, decision: Decision, offer: Offer, early: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self._answered:
            return
        if isinstance(decision, Refuse):
            self._refuse(decision)
            return
        agreed = decision.subprotocol if decision.subprotocol in offer.subprotocols else ""
        peer, self._reserved = self._reserved or "", None  # the connection has the place now
        self._finish()
        self._gate.open(Opening(transport, peer, offer.key, early, agreed, decision))

    # --- answering ---------------------------------------------------------------------------

    def _refuse(self, refusal: Refuse) -> None:
        """Answer, not before the delay since the request: how long the decision took is nobody's
        business.
        """
        self._answered = True
        self._cancel_timer()
        self._gate.refused(refusal)
        wait_s = self._since + refusal.delay_s - self._loop.time() if refusal.delay_s else 0.0
        if wait_s > 0:
            self._timer = self._loop.call_later(wait_s, self._answer, refusal)
        else:
            self._answer(refusal)

    def _answer(self, refusal: Refuse) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._cancel_timer()
        transport.write(_response(refusal))
        Drain(transport, self._gate.close_s, self._finish)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish(self) -> None:
        """Leave the server's books; a decision nobody waits for any more is given up."""
        self._answered = True
        self._cancel_timer()
        self._transport = None
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._task = None
        if self._reserved is not None:
            self._gate.release(self._reserved)
            self._reserved = None
        self._gate.left(self)


def _response(refusal: Refuse) -> bytes:
    body = msgspec.json.encode({"error": refusal.reason})
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
        *refusal.headers,
    ]
    names = {name.lower() for name, _ in refusal.headers}
    if refusal.status == 401 and "www-authenticate" not in names:
        headers.append(("WWW-Authenticate", "Bearer"))
    status = HTTPStatus(refusal.status)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
