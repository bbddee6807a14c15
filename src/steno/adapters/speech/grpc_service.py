"""The speech service as all streams see it: its connections, and what it offers.

While the service is away nobody but the dialler here touches it. Streams of a connection are
limited by the peer (proxies allow a hundred or so), so there may be several; one that takes no
more calls, because the peer says so or because our credentials were replaced, ends with its last
call.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from steno.adapters.grpc_channel import GrpcSettings, Metadata, call_metadata, files_stamp
from steno.adapters.speech.grpc_codec import STENO_PATH
from steno.adapters.speech.grpc_link import Link, dial, tls_context
from steno.core.timing import Backoff
from steno.errors import ConfigError, ConnectFailed, TimedOut
from steno.ports import Telemetry
from steno.wire import grpc_wire
from steno.wire.grpc_wire import CallEnded
from steno.wire.speech_stream import Limits

Contract = Literal["steno.v1", "transcription"]

ALIVE_TICK_S: Final = 1.0
MAX_DIAL_S: Final = 2.0
"""One process dials once for all its streams, so it can do so often."""
CLOSE_LIMIT_S: Final = 0.25
MAX_LINKS: Final = 32
DIALLER_FAILED_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechServiceSettings:
    """Everything about one speech service.

    Attributes:
        grpc: How it is reached; its ``service`` is not looked at, ``service`` here is.
        service: ``auto`` asks for ``steno.v1`` once for each connection, and speaks the
            document's ``transcription`` where that is not offered.
        limits: Times of a stream.
        budget_bytes: Audio that all streams together may hold.
        flush_s: How long what is to be sent is gathered.
    """

    grpc: GrpcSettings = field(default_factory=GrpcSettings)
    service: Literal["auto", "steno.v1", "transcription"] = "auto"
    limits: Limits = field(default_factory=Limits)
    budget_bytes: int = 512 * 1024 * 1024
    flush_s: float = 0.02


class SpeechService:
    """Holds the connections. Used on one loop only.

    Args:
        on_ready: There is a connection that takes calls, and what it offers is known.
        on_away: No connection could be made; with the cause.
        on_lost: The last connection is gone; its calls know it already.
        on_room: Calls without room may have some again.
        is_wanted: Tells whether anybody needs a connection.

    Raises:
        ConfigError: A certificate, key or token file cannot be read.
    """

    def __init__(
        self,
        settings: SpeechServiceSettings,
        *,
        telemetry: Telemetry,
        clock: Callable[[], float],
        draw: Callable[[], float],
        on_ready: Callable[[], None],
        on_away: Callable[[str], None],
        on_lost: Callable[[str], None],
        on_room: Callable[[], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._draw = draw
        self._on_ready = on_ready
        self._on_away = on_away
        self._on_last_lost = on_lost
        self._on_room = on_room
        self._is_wanted = is_wanted
        self.metadata: Metadata = call_metadata(settings.grpc)
        self._context: ssl.SSLContext | None = tls_context(settings.grpc)
        self._stamp = files_stamp(settings.grpc)
        self.contract: Contract | None = None
        """What is spoken on the present connections; None while there is none."""
        self._told_contract: Contract | None = None
        self.links: list[Link] = []
        self._dialler: asyncio.Task[None] | None = None
        limits = settings.limits
        self._backoff = Backoff(limits.first_s, min(limits.cap_s, MAX_DIAL_S))
        self.has_worked = True
        """Something came of the last connection, so the next is tried at once."""
        self._keepalive_s = settings.grpc.keepalive_s
        self._alive_timer: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()
        self._is_closed = False

    def link(self) -> Link | None:
        """Return a connection for one more call; dials when there is none."""
        for link in self.links:
            if link.can_open:
                return link if self.contract is not None else None
        if self._dialler is None and len(self.links) < MAX_LINKS and not self._is_closed:
            self._dialler = asyncio.get_running_loop().create_task(self._dial())
            self._dialler.add_done_callback(self._on_dialled)
        return None

    def flush(self) -> None:
        """Write what has gathered on every connection."""
        for link in self.links:
            link.flush()

    def falls_back(self) -> bool:
        """Speak the document's contract from now on, where that was left open."""
        if self._settings.service == "auto" and self.contract == "steno.v1":
            self._found("transcription")
            return True
        return False

    def reread(self) -> bool:
        """Read files of ours that were replaced; what is under way goes on as it is.

        Returns whether there was something new. Half replaced files are read again next time.
        """
        stamp = files_stamp(self._settings.grpc)
        if stamp == self._stamp:
            return False
        try:
            self.metadata = call_metadata(self._settings.grpc)
            self._context = tls_context(self._settings.grpc)
        except ConfigError:
            return False
        self._stamp = stamp
        for link in self.links:
            link.retire()
        return True

    async def close(self) -> None:
        """Let go of the connections; calls that are left end."""
        self._is_closed = True
        if self._dialler is not None:
            self._dialler.cancel()
            await asyncio.gather(self._dialler, return_exceptions=True)
        if self._alive_timer is not None:
            self._alive_timer.cancel()
        for link in list(self.links):
            link.close()
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                while self.links:
                    self._gone.clear()
                    await self._gone.wait()
        except TimeoutError:  # TLS waits for the peer's goodbye, which need not come
            for link in list(self.links):
                link.abort("Closed")

    # --- dialling ----------------------------------------------------------------------------

    async def _dial(self) -> None:
        """Connect, however long it takes, and ask what is offered."""
        if self.has_worked:
            self.has_worked = False
            self._backoff.reset()
        else:  # it took a connection and nothing came of it: not at once again
            await asyncio.sleep(self._backoff.next_delay(self._draw()))
        while not self._is_closed:
            try:
                await self._connect()
            except (ConnectFailed, TimedOut) as error:
                cause = str(error.fields.get("cause") or error.error_class)
                self._on_away(cause)
                is_refused = cause == "AuthError" and not self.reread()
                delay_s = self._backoff.next_delay(self._draw())
                await asyncio.sleep(self._settings.limits.refused_s if is_refused else delay_s)
            else:
                return

    async def _connect(self) -> None:
        """Raise ``ConnectFailed`` or ``TimedOut`` when there is no working connection after it."""
        self.reread()
        link = await dial(
            self._settings.grpc,
            context=self._context,
            on_room=self._on_room,
            on_lost=self._on_lost,
            clock=self._clock,
        )
        self.links.append(link)
        if self._alive_timer is None:
            self._on_alive()
        if self.contract is None:
            try:
                self._found(await self._offered(link))
            except BaseException:
                link.close()
                raise

    def _on_dialled(self, dialler: asyncio.Task[None]) -> None:
        self._dialler = None
        if dialler.cancelled() or self._is_closed:
            return
        loop = asyncio.get_running_loop()
        failure = dialler.exception()
        if failure is not None:  # a bug of ours: told, and tried again
            context = {"message": "the speech service's dialler failed", "exception": failure}
            loop.call_exception_handler(context)
            loop.call_later(DIALLER_FAILED_S, self.link)
        elif self.links and self.contract is not None:
            self._on_ready()
        elif self._is_wanted():  # lost again already
            self.link()

    async def _offered(self, link: Link) -> Contract:
        """Ask with an empty call whether ``steno.v1`` is there."""
        if self._settings.service != "auto":
            return self._settings.service
        question = _Question(asyncio.get_running_loop().create_future())
        call = link.open(STENO_PATH, self.metadata, question)
        link.end(call)
        link.flush()
        try:
            async with asyncio.timeout(self._settings.grpc.deadline_s):
                code = await question.answer
        except TimeoutError as exc:
            link.reset(call)
            raise TimedOut from exc
        match code:
            case grpc_wire.UNIMPLEMENTED:
                return "transcription"
            case grpc_wire.UNAVAILABLE | grpc_wire.CANCELLED:
                raise ConnectFailed(cause="PeerUnavailable")
            case grpc_wire.RESOURCE_EXHAUSTED:
                raise ConnectFailed(cause="RateLimited")
            case grpc_wire.UNAUTHENTICATED | grpc_wire.PERMISSION_DENIED:
                raise ConnectFailed(cause="AuthError")
            case _:  # taken, even if it had more to say than yes to an empty stream
                return "steno.v1"

    def _found(self, contract: Contract) -> None:
        self.contract = contract
        if self._told_contract != contract:
            self._told_contract = contract
            self._telemetry.info("speech.contract_found", state=contract)

    # --- being connected ---------------------------------------------------------------------

    def _on_lost(self, link: Link, cause: str) -> None:
        if link.was_calmed:
            self._keepalive_s *= 2
        if link not in self.links:
            return
        self.links.remove(link)
        if self._is_closed:
            self._gone.set()
            return
        if not self.links:
            if self._settings.service == "auto":
                self.contract = None
            self._on_last_lost(cause)
        if self._is_wanted():
            self.link()

    def _on_alive(self) -> None:
        self._alive_timer = None
        if not self.links or self._is_closed:
            return
        now = self._clock()
        limit_s = self._settings.grpc.keepalive_timeout_s
        for link in list(self.links):
            link.keep_alive(now, every_s=self._keepalive_s, limit_s=limit_s)
            if link.is_leaving and not link.calls:
                link.close()
        every_s = min(ALIVE_TICK_S, self._keepalive_s / 2, limit_s / 2)
        self._alive_timer = asyncio.get_running_loop().call_later(every_s, self._on_alive)


class _Question:
    """Handler of the empty call: done with the code, or with OK at the first sign of a service."""

    def __init__(self, answer: asyncio.Future[int]) -> None:
        self.answer = answer

    def on_message(self, message: bytes) -> None:
        """It talks ``steno.v1``."""
        del message
        self._answered(grpc_wire.OK)

    def on_end(self, ended: CallEnded) -> None:
        """That is the answer."""
        self._answered(ended.code)

    def _answered(self, code: int) -> None:
        if not self.answer.done():
            self.answer.set_result(code)
