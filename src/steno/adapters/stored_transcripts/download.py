"""One transcript through its links: fresh ones where one has ended, and on from the same place.

The places are kept by ``wire.ranged_download``; this moves bytes and decides when to stop.
Fresh links in a row that bring no data are bounded, and so are connections; one that brings
data begins both counts anew.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from steno.adapters.stored_transcripts.limits import FetchLimits
from steno.adapters.stored_transcripts.links import LinkStore, StoreAnswer
from steno.core.secret import Secret
from steno.core.timing import SteppedBackoff
from steno.errors import (
    ObjectMissing,
    PeerUnavailable,
    ProtocolError,
    StenoError,
    TimedOut,
    TransportError,
)
from steno.ports import Telemetry
from steno.ports.archive import FetchProgress
from steno.wire.gunzip import Gunzip
from steno.wire.ranged_download import GivenOut, Meaning, RangedDownload, meaning_of

_FIX_REFUSED: Final = (
    "Check this machine's clock, and whether the store lets its network address in."
)

FreshLink = Callable[[], Awaitable[Secret]]
"""Asks the platform for a link; its errors end the download."""


@dataclass(slots=True)
class _Try:
    """What a try came to: the body is through, or why not."""

    is_over: bool = False
    link_ended: bool = False
    status: int = 0
    failure: StenoError | None = None
    wait_s: float = 0.0


@dataclass(slots=True)
class _Place:
    """Where a download is."""

    stored: RangedDownload = field(default_factory=RangedDownload)
    given: GivenOut = field(default_factory=GivenOut)
    unpack: Gunzip = field(default_factory=Gunzip)
    furthest: int = 0

    def begin_again(self) -> None:
        self.unpack = Gunzip()
        self.given.begin_again()

    def take(self, data: bytes) -> None:
        self.stored.take(data)
        self.furthest = max(self.furthest, self.stored.received)


class Downloads:
    """Downloads through links.

    Args:
        store: Opens links.
        limits: How often to try.
        telemetry: Told of fresh links and of what was continued.
        draw: A number in [0, 1) for the jitter.
    """

    def __init__(
        self,
        store: LinkStore,
        *,
        limits: FetchLimits,
        telemetry: Telemetry,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._limits = limits
        self._telemetry = telemetry
        self._draw = draw

    async def blocks(
        self,
        conversation: str,
        link: Secret,
        fresh: FreshLink,
        progress: FetchProgress | None,
    ) -> AsyncGenerator[bytes, None]:
        """Give a transcript's bytes, unpacked, each once.

        Args:
            conversation: For logs.
            link: The first link; one just asked for.
            fresh: Asks for another.
            progress: Told of stored bytes, and how many there are.

        Raises:
            IntegrityError: Length or check sum differ, or the file changed under way.
            ObjectMissing: The store has no such file.
            ProtocolError: The store refuses every fresh link, or leads where it may not.
            TransportError: As ``LinkStore.open``, after the last try.
        """
        place = _Place()
        first_s = self._limits.retry_first_s
        backoff = SteppedBackoff(first_s, self._limits.retry_most_s, jitter_s=first_s / 2)
        links = breaks = 0  # in a row, without data: fresh links used up, connections broken
        while True:
            made, before = _Try(), place.furthest
            answer = await self._opened(link, place, made)
            try:
                while answer is not None and (data := await _next(answer, place, made)):
                    place.take(data)
                    if progress is not None:
                        progress(place.furthest, place.stored.total)
                    for piece in place.unpack.feed(data):
                        if block := place.given.take(piece):
                            yield block
            finally:
                if answer is not None:
                    answer.close()
            if made.is_over:
                break
            if self._brought(place.furthest - before, made):
                links = breaks = 0
                backoff.reset()
            elif made.link_ended:
                links += 1
            else:
                breaks += 1
            if max(links, breaks) > self._limits.renewals:
                raise _given_up(made, place, links + breaks)
            is_expected = made.link_ended and links <= 1
            wait_s = 0.0 if is_expected else backoff.next_delay(self._draw())
            await asyncio.sleep(max(wait_s, made.wait_s))
            if made.link_ended:
                link = await fresh()
            self._tell(conversation, made, links + breaks)
        for piece in place.unpack.end():
            if block := place.given.take(piece):
                yield block
        place.given.end()
        place.stored.verify()

    async def _opened(self, link: Secret, place: _Place, made: _Try) -> StoreAnswer | None:
        """Return an answer whose body goes on at the place; None with ``made`` saying why not."""
        try:
            answer = await self._store.open(link, place.stored.ask())
        except TransportError as error:
            made.failure = error
            return None
        has_body = False
        try:
            has_body = _understood(answer, place, made)
        finally:
            if not has_body:
                answer.close()
        return answer if has_body else None

    def _brought(self, news: int, made: _Try) -> bool:
        """Tell whether a try brought data; a trickle is none."""
        is_trickle = isinstance(made.failure, TimedOut) and news < self._store.trickle_bytes
        return news > 0 and not is_trickle

    def _tell(self, conversation: str, made: _Try, tries: int) -> None:
        failure = made.failure
        self._telemetry.info(
            "archive.link_renewed" if made.link_ended else "archive.download_continued",
            conversation=conversation,
            attempts=tries,
            status=made.status or None,
            error_class=None if failure is None else failure.error_class,
        )


def _understood(answer: StoreAnswer, place: _Place, made: _Try) -> bool:
    """Tell whether an answer has the body that is wanted; if not, ``made`` says why.

    Raises:
        IntegrityError, RemoteProtocolError, ObjectMissing, ProtocolError: No try can help.
    """
    made.status = answer.status
    match meaning_of(answer.status):
        case Meaning.BODY:
            try:
                begins = place.stored.answered(answer.status, answer.headers)
            except TransportError as error:
                made.failure = error
                return False
            if begins and place.stored.beginnings > 1:
                place.begin_again()
            return True
        case Meaning.NO_MORE:
            made.is_over = place.stored.no_more(answer.headers)
            made.failure = TransportError("the store has not the part asked for")
        case Meaning.ENDED:
            made.link_ended = True
            # No AuthError: our credentials are not asked here, and other files may be let out.
            made.failure = ProtocolError(
                "the store refuses every fresh link", fix=_FIX_REFUSED, status=answer.status
            )
        case Meaning.BUSY:
            made.wait_s = answer.retry_after_s or 0.0
            made.failure = PeerUnavailable("the store is unavailable", status=answer.status)
        case Meaning.MISSING:
            raise ObjectMissing("the store has no such transcript", status=answer.status)
        case Meaning.REFUSED | Meaning.REDIRECT:
            raise ProtocolError("the store refused the request", status=answer.status)
    return False


async def _next(answer: StoreAnswer, place: _Place, made: _Try) -> bytes:
    """Return what comes next; nothing where the body is over, or broke as ``made`` says."""
    try:
        data = await answer.read()
    except TransportError as error:
        made.failure = error
        return b""
    if not data:
        made.is_over = place.stored.is_whole
        made.failure = TransportError("the download ended too early")
    return data


def _given_up(made: _Try, place: _Place, tries: int) -> StenoError:
    failure = made.failure or TransportError("the download broke")
    failure.fields |= {"tries": tries, "received": place.furthest}
    return failure
