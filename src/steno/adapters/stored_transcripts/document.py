"""Transcripts in the tutorial's shape: one answer for a conversation, inline or with a link.

The answer may be hundreds of MB long when the transcript is inline, so it is parsed as it comes
and spooled beside; what was spooled is given out by the download that follows.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from steno.adapters.stored_transcripts.calls import PacedCalls
from steno.adapters.stored_transcripts.download import Downloads
from steno.adapters.stored_transcripts.fresh import FreshLinks
from steno.adapters.stored_transcripts.limits import DOUBT_POLLS, FetchLimits
from steno.adapters.stored_transcripts.links import LinkStore
from steno.adapters.stored_transcripts.spool import Spool
from steno.core.secret import Secret
from steno.core.stored import FieldsRead, StoredShape
from steno.errors import ObjectMissing, RemoteProtocolError
from steno.ports import Telemetry
from steno.ports.archive import FetchProgress, FoundTranscript, Nothing, NoTranscript
from steno.wire.stored_transcripts import TranscriptParser
from steno.wire.transcript_links import (
    FIX_DOCUMENT,
    Standing,
    checked_link,
    document_path,
    standing_of,
)

MAX_INLINE_BYTES: Final = 4 << 30
INLINE_LIMIT_S: Final = 3600.0
MAX_KEPT: Final = 64
"""Inline bodies waiting for their download; of more the oldest goes, and is asked for again."""

_ACTION: Final = "ask for a stored transcript"
_OVER: Final = {
    Standing.EMPTY: Nothing.EMPTY,
    Standing.FAILED: Nothing.FAILED,
    Standing.LEGACY: Nothing.LEGACY,
}


@dataclass(slots=True)
class _Told:
    """What an answer said, and its body where that is the transcript."""

    standing: Standing
    link: Secret | None = None
    body: Spool | None = None
    shape: StoredShape = StoredShape.DOCUMENT


@dataclass(slots=True)
class _Inline:
    """Parses and spools an answer (``wire.http.AnswerSink``)."""

    spool_dir: Path | None
    spool: Spool = field(init=False)
    parser: TranscriptParser = field(init=False)
    is_list: bool | None = None

    def __post_init__(self) -> None:
        self.spool = Spool(self.spool_dir)

    async def begin(self) -> None:
        self.spool.close()
        self.spool = Spool(self.spool_dir)
        self.parser = TranscriptParser(raw=False)
        self.is_list = None

    async def take(self, piece: bytes) -> None:
        if self.is_list is None and (start := piece.lstrip()[:1]):
            self.is_list = start == b"["
        if not self.is_list:
            self.parser.feed(piece)
            await self.spool.add(piece)

    def fields(self) -> FieldsRead:
        """Return what stood at the top.

        Raises:
            RemoteProtocolError: The answer is cut off, or no such answer.
        """
        parts = self.parser.end()
        last = parts[-1] if parts else None
        if not isinstance(last, FieldsRead):
            raise RemoteProtocolError("the platform's answer has no end")
        return last


class DocumentTranscripts:
    """Implements ``ports.archive.TranscriptSource``.

    Args:
        calls: Of the platform.
        store: Opens links.
        limits: Waits and tries.
        telemetry: Told of fresh links.
        spool_dir: Where long inline answers wait, unlinked; the system's place if None.
        draw: A number in [0, 1) for the jitter.
    """

    def __init__(
        self,
        calls: PacedCalls,
        store: LinkStore,
        *,
        limits: FetchLimits,
        telemetry: Telemetry,
        spool_dir: Path | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._calls = calls
        self._limits = limits
        self._spool_dir = spool_dir
        self._downloads = Downloads(store, limits=limits, telemetry=telemetry, draw=draw)
        self._links = FreshLinks(time.monotonic)
        self._bodies: OrderedDict[str, Spool] = OrderedDict()

    def close(self) -> None:
        """Let go of the bodies that nobody has downloaded."""
        while self._bodies:
            self._bodies.popitem()[1].close()

    async def find(self, conversation: str) -> Sequence[FoundTranscript] | NoTranscript:
        """See ``TranscriptSource.find``: in work is asked again every ``poll_s``.

        An answer that is empty and does not say that it is done is asked for a few times more.

        Raises:
            LocalProtocolError: ``conversation`` is no id.
            AuthError, TransportError, RemoteProtocolError: See the port.
        """
        now = asyncio.get_running_loop().time
        end = now() + self._limits.poll_limit_s
        doubts = 0
        while True:
            try:
                told = await self._ask(conversation)
            except ObjectMissing:
                return NoTranscript(conversation, Nothing.MISSING)
            if told.standing in _OVER:
                return NoTranscript(conversation, _OVER[told.standing])
            if told.standing in (Standing.LINKED, Standing.INLINE):
                return [self._kept(conversation, told)]
            doubts += told.standing is Standing.DOUBTFUL
            if doubts > DOUBT_POLLS:
                return NoTranscript(conversation, Nothing.EMPTY)
            if now() + self._limits.poll_s > end:
                is_empty = told.standing is Standing.DOUBTFUL
                return NoTranscript(conversation, Nothing.EMPTY if is_empty else Nothing.IN_WORK)
            await asyncio.sleep(self._limits.poll_s)

    async def download(
        self, found: FoundTranscript, progress: FetchProgress | None = None
    ) -> AsyncIterator[bytes]:
        """See ``TranscriptSource.download``.

        Raises:
            IntegrityError, ObjectMissing, AuthError, TransportError, RemoteProtocolError: See
                the port.
            StorageError: A spooled body cannot be read.
        """
        link, body = self._links.take(found), self._bodies.pop(found.conversation, None)
        if link is None and body is None:
            told = await self._ask(found.conversation)
            link, body = told.link, told.body
        if body is not None:
            try:
                received = 0
                async for block in body.blocks():
                    received += len(block)
                    if progress is not None:
                        progress(received, body.size)
                    yield block
            finally:
                body.close()
            return
        if link is None:
            raise ObjectMissing("the platform has no finished transcript any more")

        async def fresh() -> Secret:
            told = await self._ask(found.conversation)
            if told.body is not None:
                told.body.close()
            if told.link is None:
                raise ObjectMissing("the platform has no link to the transcript any more")
            return told.link

        blocks = self._downloads.blocks(found.conversation, link, fresh, progress)
        async with aclosing(blocks):  # a reader who leaves closes the connection at once
            async for block in blocks:
                yield block

    def _kept(self, conversation: str, told: _Told) -> FoundTranscript:
        found = FoundTranscript(conversation, shape=told.shape)
        if told.link is not None:
            self._links.keep(found, told.link)
        if told.body is not None:
            old = self._bodies.pop(conversation, None)
            if old is not None:
                old.close()
            self._bodies[conversation] = told.body
            while len(self._bodies) > MAX_KEPT:
                self._bodies.popitem(last=False)[1].close()
        return found

    async def _ask(self, conversation: str) -> _Told:
        """Return what the platform says now; the caller owns the body in it.

        Raises:
            ObjectMissing: It knows nothing of it.
        """
        inline = _Inline(self._spool_dir)
        is_wanted = False
        try:
            answer = await self._calls.call(
                "GET",
                document_path(conversation),
                action=_ACTION,
                fix=FIX_DOCUMENT,
                limit_s=INLINE_LIMIT_S,
                max_bytes=MAX_INLINE_BYTES,
                into=inline,
                is_of_one=True,
            )
            if inline.is_list:
                return _Told(Standing.LEGACY)
            if not inline.spool.size:
                raise ObjectMissing("the platform has no transcript of this", status=answer.status)
            told = inline.fields()
            standing = standing_of(told)
            if standing is Standing.LINKED:
                return _Told(standing, link=checked_link(told.download_url))
            is_wanted = standing is Standing.INLINE
            return _Told(standing, body=inline.spool if is_wanted else None, shape=told.shape)
        finally:
            if not is_wanted:
                inline.spool.close()
