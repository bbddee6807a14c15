"""Transcripts of the real platform: legs of a conversation, a link for each.

The customer's legs are asked first, the others where none of those has a transcript. A leg
without one answers 404, and so does one whose transcript is not ready: after a conversation that
has just ended (or goes on) the legs are asked again, with growing waits.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Final

from steno.adapters.stored_transcripts.calls import PacedCalls
from steno.adapters.stored_transcripts.download import Downloads
from steno.adapters.stored_transcripts.fresh import FreshLinks
from steno.adapters.stored_transcripts.limits import FetchLimits
from steno.adapters.stored_transcripts.links import LinkStore
from steno.core.secret import Secret
from steno.core.stored import StoredShape
from steno.errors import AuthError, ObjectMissing, ProtocolError
from steno.ports import Telemetry
from steno.ports.archive import FetchProgress, FoundTranscript, Nothing, NoTranscript
from steno.wire.participants import decode_roster
from steno.wire.transcript_links import (
    FIX_CONVERSATION,
    FIX_LINK,
    FIX_LINKS,
    Legs,
    RecordedLink,
    conversation_path,
    decode_link,
    decode_links,
    details_path,
    legs_of,
    legs_of_details,
    link_path,
)

_POLL_GROWTH: Final = 1.5
_MISSING: Final = frozenset({404, 410})


class PlatformTranscripts:
    """Implements ``ports.archive.TranscriptSource``.

    Args:
        calls: Of the platform.
        store: Opens links.
        limits: Waits and tries.
        telemetry: Told of fresh links.
        by_recording: One transcript for each recording of a leg, instead of one for the leg.
        draw: A number in [0, 1) for the jitter.
        wall_us: UTC microseconds, to tell what ended recently.
    """

    def __init__(
        self,
        calls: PacedCalls,
        store: LinkStore,
        *,
        limits: FetchLimits,
        telemetry: Telemetry,
        by_recording: bool = False,
        draw: Callable[[], float] = random.random,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._calls = calls
        self._limits = limits
        self._by_recording = by_recording
        self._wall_us = wall_us
        self._downloads = Downloads(store, limits=limits, telemetry=telemetry, draw=draw)
        self._links = FreshLinks(time.monotonic)

    async def find(self, conversation: str) -> Sequence[FoundTranscript] | NoTranscript:
        """See ``TranscriptSource.find``; several legs have several transcripts.

        Raises:
            LocalProtocolError: ``conversation`` is no id.
            AuthError, TransportError, RemoteProtocolError: See the port.
        """
        now = asyncio.get_running_loop().time
        began, wait_s = now(), self._limits.poll_s
        found: dict[str, list[FoundTranscript]] = {}
        while True:
            legs = await self._legs(conversation)
            if legs is None:
                return NoTranscript(conversation, Nothing.MISSING)
            await self._ask(conversation, legs.customers, found)
            if not found:
                await self._ask(conversation, legs.others, found)
            patience_s = self._patience_s(legs)
            is_whole = bool(found) and all(leg in found for leg in legs.customers)
            if is_whole or now() - began + wait_s > patience_s:
                break
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * _POLL_GROWTH, max(self._limits.poll_most_s, self._limits.poll_s))
        if found:
            return [one for leg in found.values() for one in leg]
        return NoTranscript(conversation, Nothing.MISSING if legs.ended_us else Nothing.IN_WORK)

    async def download(
        self, found: FoundTranscript, progress: FetchProgress | None = None
    ) -> AsyncIterator[bytes]:
        """See ``TranscriptSource.download``.

        Raises:
            IntegrityError, ObjectMissing, AuthError, TransportError, RemoteProtocolError: See
                the port.
        """

        async def fresh() -> Secret:
            links = await self._links_of(
                found.conversation, found.communication, bool(found.recording)
            )
            for one in links:
                if one.recording == found.recording:
                    return one.link
            raise ObjectMissing("the platform has no link to the transcript any more")

        link = self._links.take(found) or await fresh()
        blocks = self._downloads.blocks(found.conversation, link, fresh, progress)
        async with aclosing(blocks):  # a reader who leaves closes the connection at once
            async for block in blocks:
                yield block

    def _patience_s(self, legs: Legs) -> float:
        """Return how long a transcript may still come."""
        limits = self._limits
        if not legs.ended_us:
            return limits.poll_limit_s
        ago_s = max(0.0, (self._wall_us() - legs.ended_us) / 1e6)
        return max(limits.missing_s, min(limits.recent_s - ago_s, limits.poll_limit_s))

    async def _legs(self, conversation: str) -> Legs | None:
        """Return a conversation's legs; analytics still knows those the other call has dropped.

        Raises:
            AuthError: A call is not permitted, and the other knows no such conversation.
        """
        refused: AuthError | ProtocolError | None = None
        for action, path, read in _LEG_CALLS:
            try:
                answer = await self._calls.call(
                    "GET",
                    path(conversation),
                    action=action,
                    accept=_MISSING,
                    fix=FIX_CONVERSATION,
                    is_of_one=True,
                )
            except (AuthError, ProtocolError) as error:
                if error.fields.get("status") not in (401, 403):
                    raise
                refused = refused or error
                continue
            if answer.ok:
                return read(answer.body)
        if refused is not None:
            raise refused
        return None

    async def _ask(
        self, conversation: str, legs: Sequence[str], found: dict[str, list[FoundTranscript]]
    ) -> None:
        """Ask for the links of legs that have none yet, and keep them for their downloads."""
        for leg in legs:
            if leg in found:
                continue
            try:
                links = await self._links_of(conversation, leg, self._by_recording)
            except ObjectMissing:
                continue
            for one in links:
                made = FoundTranscript(conversation, leg, one.recording, StoredShape.PLATFORM)
                self._links.keep(made, one.link)
                found.setdefault(leg, []).append(made)

    async def _links_of(
        self, conversation: str, leg: str, by_recording: bool
    ) -> list[RecordedLink]:
        """Return a leg's links.

        Raises:
            ObjectMissing: It has none, or none yet.
        """
        answer = await self._calls.call(
            "GET",
            link_path(conversation, leg, by_recording=by_recording),
            action="ask for a transcript's link",
            fix=FIX_LINKS if by_recording else FIX_LINK,
            is_of_one=True,
        )
        return (
            decode_links(answer.body)
            if by_recording
            else [RecordedLink("", decode_link(answer.body))]
        )


def _roster_legs(body: bytes) -> Legs:
    return legs_of(decode_roster(body))


_LEG_CALLS: Final = (
    ("read a conversation", conversation_path, _roster_legs),
    ("read a conversation's details", details_path, legs_of_details),
)
