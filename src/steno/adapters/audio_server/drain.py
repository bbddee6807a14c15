"""Ends a connection so that the peer gets to read our last words.

Closing a socket with unread bytes in it makes the kernel send a reset, which can overtake a
refusal or a close frame on its way. So what still arrives is read and thrown away until the
peer is quiet or gone, within a limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

QUIET_S: Final = 0.05
_SCRATCH: Final = bytearray(65_536)  # never read: what is thrown away may share a place


class Drain(asyncio.BufferedProtocol):
    """Takes a transport over for its last moments.

    Args:
        transport: Whatever must be said has been written to it.
        limit_s: After that it is cut off.
        on_lost: Called when it is gone.
    """

    def __init__(
        self, transport: asyncio.Transport, limit_s: float, on_lost: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._on_lost = on_lost
        self._quiet = True
        self._limit = self._loop.call_later(limit_s, transport.abort)
        self._look: asyncio.TimerHandle | None = self._loop.call_later(QUIET_S, self._looked)
        transport.set_protocol(self)
        read_on(transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return where nothing is kept (asyncio calls this)."""
        return _SCRATCH

    def buffer_updated(self, nbytes: int) -> None:
        """Throw away (asyncio calls this)."""
        self._quiet = False

    def eof_received(self) -> bool:
        """Let the transport close (asyncio calls this)."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that it is over (asyncio calls this)."""
        self._limit.cancel()
        if self._look is not None:
            self._look.cancel()
        self._on_lost()

    def _looked(self) -> None:
        if self._quiet:
            self._look = None
            self._transport.close()
            return
        self._quiet = True
        self._look = self._loop.call_later(QUIET_S, self._looked)


def read_on(transport: asyncio.Transport) -> None:
    """Resume reading, unless the transport is at its end, where loops differ about raising."""
    if not transport.is_closing():
        try:
            transport.resume_reading()
        except RuntimeError:
            pass
