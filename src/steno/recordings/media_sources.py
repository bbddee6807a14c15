"""Ways to the files of a recording: batch download, or media in a format that is asked for.

Both may be asked again and again: an order whose answer was lost is another order, and a format
that was asked for twice is made once.

Source: Genesys Cloud API: batch download of recordings, recordings of a conversation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from steno.errors import ObjectMissing, TimedOut
from steno.ports.jobs import TranscriptionRequest
from steno.wire.batch_download import BatchState, FileState, Link, RecordingMedia
from steno.wire.http import RateBudget

QUIET_S = 5.0
"""An order without a status is done when nothing was added to it for so long."""

ORDER_LIMIT_S: Final = 30.0
"""Time of an order that replaces one whose links ended."""

NO_MEDIA: Final = "NONE"
"""The format that has no files: what is known of a recording."""

_GONE: Final = {
    FileState.ARCHIVED: "recording.archived",
    FileState.DELETED: "recording.deleted",
    FileState.ERROR: "recording.damaged",
}
_COMING: Final = frozenset({FileState.RESTORING, FileState.UPLOADING})

Turn = Callable[[], Awaitable[None]]
"""Waits for a turn: every call beyond the first of a job's step takes one."""


class Platform(Protocol):
    """The platform's calls for recordings. Each may raise what ``JobApi`` may."""

    @property
    def rate(self) -> RateBudget | None:
        """What the platform last said of our rate."""

    async def ready(self) -> None:
        """Have a token in hand."""

    async def order(self, conversation_id: str, recording_id: str, *, limit_s: float) -> str:
        """Order the batch download of a recording; return the order's id."""

    async def batch(self, batch_id: str) -> BatchState:
        """Return how an order stands."""

    async def recording(
        self, conversation_id: str, recording_id: str, *, form: str
    ) -> RecordingMedia:
        """Return a recording, with links to its files unless ``form`` is ``NONE``."""

    async def transcript(self, conversation_id: str, communication_id: str) -> Link | None:
        """Return where the transcript of a communication is; None where there is none."""


class Media(msgspec.Struct, frozen=True):
    """The files of a recording, at least one, and its start (UTC microseconds, 0: not told)."""

    links: tuple[Link, ...]
    started_us: int


class Pending(msgspec.Struct, frozen=True):
    """Not there yet; ``wait_s`` is when to ask again, None where nobody said."""

    wait_s: float | None = None


class MediaSource(Protocol):
    """A way to the files of a recording."""

    async def order(self, request: TranscriptionRequest, *, key: str, limit_s: float) -> str:
        """Ask for the files; return the id by which they are asked after."""

    async def media(self, order_id: str, request: TranscriptionRequest) -> Media | Pending:
        """Return the files with fresh links, or that they are not there yet.

        Raises:
            ObjectMissing: There will be none.
        """

    async def renew(self, order_id: str, request: TranscriptionRequest) -> Media | Pending:
        """Return the files after their links ended."""

    def forget(self, order_id: str) -> None:
        """Nobody will ask after it any more."""


class BatchSource:
    """Recordings by batch download, in the codec in which they were made.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, platform: Platform, *, turn: Turn, clock: Callable[[], float]) -> None:
        self._platform = platform
        self._turn = turn
        self._clock = clock
        self._full_since: dict[str, tuple[int, float]] = {}
        self._orders: dict[str, str] = {}  # newer orders for ids whose links had ended
        self._links: dict[str, tuple[Link, ...]] = {}

    async def order(self, request: TranscriptionRequest, *, key: str, limit_s: float) -> str:
        """Order the recording; see ``MediaSource``."""
        del key  # a repeated order is another order, and costs nothing
        return await self._platform.order(
            request.conversation_id, request.recording_id, limit_s=limit_s
        )

    async def media(self, order_id: str, request: TranscriptionRequest) -> Media | Pending:
        """See ``MediaSource``."""
        state = await self._platform.batch(self._orders.get(order_id, order_id))
        if not self._is_done(order_id, state):
            return Pending()
        results = [one for one in state.results if one.recording_id in ("", request.recording_id)]
        if any(one.link is None for one in results):
            raise _no_export("recording.refused")
        # One file can be told more than once.
        links = tuple(dict.fromkeys(one.link for one in results if one.link is not None))
        if not links:
            raise _no_export("recording.withheld")
        self._links[order_id] = links
        await self._turn()
        return Media(links, await _started_us(self._platform, request))

    async def renew(self, order_id: str, request: TranscriptionRequest) -> Media | Pending:
        """Look once more, and order anew where the same links come again."""
        ended = self._links.get(order_id)
        await self._turn()
        found = await self.media(order_id, request)
        if not isinstance(found, Media) or found.links != ended:
            return found
        await self._turn()
        self._full_since.pop(order_id, None)
        self._orders[order_id] = await self._platform.order(
            request.conversation_id, request.recording_id, limit_s=ORDER_LIMIT_S
        )
        return Pending()

    def forget(self, order_id: str) -> None:
        """See ``MediaSource``."""
        for known in (self._full_since, self._orders, self._links):
            known.pop(order_id, None)

    def _is_done(self, order_id: str, state: BatchState) -> bool:
        if state.is_named_done:
            return True
        if not state.is_full:
            self._full_since.pop(order_id, None)
            return False
        now = self._clock()
        count, since = self._full_since.setdefault(order_id, (state.ready, now))
        if count != state.ready:
            self._full_since[order_id] = (state.ready, now)
            return False
        return now - since >= QUIET_S


class FormatSource:
    """Recordings in a format that the platform makes of them when it is first asked.

    Args:
        form: The platform's name of the format.
    """

    def __init__(self, platform: Platform, *, form: str) -> None:
        self._platform = platform
        self._form = form

    async def order(self, request: TranscriptionRequest, *, key: str, limit_s: float) -> str:
        """Ask for the format, so that it is being made; see ``MediaSource``."""
        try:
            async with asyncio.timeout(limit_s):
                await self._recording(request)
        except TimeoutError:
            raise TimedOut(action="look at a recording") from None
        return key

    async def media(self, order_id: str, request: TranscriptionRequest) -> Media | Pending:
        """See ``MediaSource``. Each answer has fresh links."""
        del order_id
        found = await self._recording(request)
        if found.is_pending:
            return Pending(found.wait_s)
        if found.links:
            return Media(found.links, found.started_us)
        if found.file_state in _COMING:
            return Pending()
        raise _no_export(_GONE.get(found.file_state, "recording.no_media"))

    async def renew(self, order_id: str, request: TranscriptionRequest) -> Media | Pending:
        """See ``MediaSource``."""
        return await self.media(order_id, request)

    def forget(self, order_id: str) -> None:
        """Nothing is remembered."""

    async def _recording(self, request: TranscriptionRequest) -> RecordingMedia:
        return await self._platform.recording(
            request.conversation_id, request.recording_id, form=self._form
        )


async def _started_us(platform: Platform, request: TranscriptionRequest) -> int:
    """Return when a recording began; 0 where the platform does not say."""
    try:
        found = await platform.recording(
            request.conversation_id, request.recording_id, form=NO_MEDIA
        )
    except ObjectMissing:
        return 0
    return found.started_us


def _no_export(code: str) -> ObjectMissing:
    return ObjectMissing(
        "the platform does not hand the recording out", reason="export_failed", code=code
    )
