"""Conversations of a time range: history by a details job, recent time by the query."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from steno.adapters.stored_transcripts.calls import PacedCalls
from steno.core.ids import is_uuid
from steno.errors import ObjectMissing, PeerUnavailable, RemoteProtocolError, StenoError, TimedOut
from steno.wire.conversation_details import (
    AVAILABILITY_PATH,
    JOB_SPAN_US,
    JOBS_PATH,
    MAX_PAGE_BYTES,
    OVER,
    QUERY_PATH,
    QUERY_SPAN_US,
    JobState,
    Page,
    decode_availability,
    decode_job,
    decode_page,
    decode_state,
    job_body,
    job_path,
    query_body,
    results_query,
    spans,
)
from steno.wire.transcript_links import FIX_DETAILS

OVERLAP_US: Final = 2 * 3600 * 1_000_000
"""Recent time begins so long before the jobs' data end: what went on then may be missing there."""
MAX_REMEMBERED: Final = 200_000
"""Ids remembered to leave out what is listed again; repeats are never further apart."""
MAX_PAGES: Final = 100_000
JOB_TRIES: Final = 3
JOB_LIMIT_S: Final = 3600.0
PAGE_LIMIT_S: Final = 60.0
_FORGET_LIMIT_S: Final = 5.0


class DetailsFinder:
    """Implements ``ports.archive.ConversationFinder``.

    Args:
        calls: Of the platform.
        poll_s: Between two questions for a job's state.
        job_limit_s: Longest time a job may take.
    """

    def __init__(
        self, calls: PacedCalls, *, poll_s: float = 5.0, job_limit_s: float = JOB_LIMIT_S
    ) -> None:
        self._calls = calls
        self._poll_s = poll_s
        self._job_limit_s = job_limit_s

    async def conversations(self, from_us: int, to_us: int) -> AsyncGenerator[str, None]:
        """Return ids of voice conversations that began in the range, each once, oldest first.

        Raises:
            AuthError: Naming the permission.
            TransportError: The platform is not reached, or a job takes too long.
            RemoteProtocolError: A job failed, or an answer cannot be read.
        """
        seen = _Seen()
        available_us = await self._available_us()
        job_end_us = min(to_us, available_us)
        for began_us, end_us in spans(from_us, job_end_us, JOB_SPAN_US):
            async with aclosing(self._by_job(began_us, end_us)) as pages:
                async for page in pages:
                    for one in _new(page, seen, from_us, to_us):
                        yield one
        recent_us = max(from_us, available_us - OVERLAP_US) if available_us < to_us else to_us
        for began_us, end_us in spans(recent_us, to_us, QUERY_SPAN_US):
            async with aclosing(self._by_query(began_us, end_us)) as pages:
                async for page in pages:
                    for one in _new(page, seen, from_us, to_us):
                        yield one

    async def _available_us(self) -> int:
        """Return until when jobs know everything; 0 where the platform does not tell."""
        try:
            answer = await self._calls.call(
                "GET", AVAILABILITY_PATH, action="ask how far details reach", fix=FIX_DETAILS
            )
        except ObjectMissing:
            return 0
        return decode_availability(answer.body)

    async def _by_job(self, from_us: int, to_us: int) -> AsyncGenerator[Page, None]:
        job = await self._finished(from_us, to_us)
        try:
            cursor = ""
            for _ in range(MAX_PAGES):
                page = await self._results(job, cursor)
                yield page
                if not page.cursor:
                    return
                if page.cursor == cursor:
                    raise RemoteProtocolError("a details job gives the same page again")
                cursor = page.cursor
            raise RemoteProtocolError("a details job has too many pages", limit=MAX_PAGES)
        finally:
            await self._forget(job)

    async def _finished(self, from_us: int, to_us: int) -> str:
        """Return a job that has results; one that came to nothing is asked for again."""
        tries = 0
        while True:
            tries += 1
            answer = await self._calls.call(
                "POST",
                JOBS_PATH,
                action="start a details job",
                body=job_body(from_us, to_us),
                fix=FIX_DETAILS,
            )
            job = decode_job(answer.body)
            is_done = False
            try:
                state = await self._over(job)
                is_done = state is JobState.FULFILLED
            finally:
                if not is_done:
                    await self._forget(job)
            if is_done:
                return job
            if tries == JOB_TRIES:
                raise PeerUnavailable("the platform's details jobs come to nothing", state=state)

    async def _over(self, job: str) -> JobState:
        """Return how a job ended."""
        now = asyncio.get_running_loop().time
        end = now() + self._job_limit_s
        while True:
            answer = await self._calls.call(
                "GET", job_path(job), action="ask for a details job", fix=FIX_DETAILS
            )
            state = decode_state(answer.body)
            if state is JobState.FULFILLED or state in OVER:
                return state
            if now() + self._poll_s > end:
                raise TimedOut("a details job takes too long", state=state)
            await asyncio.sleep(self._poll_s)

    async def _results(self, job: str, cursor: str) -> Page:
        answer = await self._calls.call(
            "GET",
            f"{job_path(job)}/results",
            action="read a details job's results",
            query=results_query(cursor),
            fix=FIX_DETAILS,
            limit_s=PAGE_LIMIT_S,
            max_bytes=MAX_PAGE_BYTES,
        )
        return decode_page(answer.body)

    async def _forget(self, job: str) -> None:
        """Delete a job: the platform keeps few of them. It is no loss if that fails."""
        try:
            async with asyncio.timeout(_FORGET_LIMIT_S):
                await self._calls.call(
                    "DELETE", job_path(job), action="delete a details job", patience_s=0.0
                )
        except (StenoError, TimeoutError):
            pass

    async def _by_query(self, from_us: int, to_us: int) -> AsyncGenerator[Page, None]:
        listed = 0
        for number in range(1, MAX_PAGES):
            answer = await self._calls.call(
                "POST",
                QUERY_PATH,
                action="query conversation details",
                body=query_body(from_us, to_us, number),
                fix=FIX_DETAILS,
                limit_s=PAGE_LIMIT_S,
                max_bytes=MAX_PAGE_BYTES,
            )
            page = decode_page(answer.body)
            yield page
            listed += page.count
            # The platform may give smaller pages than were asked for, and say no total.
            if not page.count or (page.total is not None and listed >= page.total):
                return


class _Seen:
    """Ids given out, the newest ones; UUIDs as numbers, which take a third of the memory."""

    def __init__(self) -> None:
        self._ids: OrderedDict[int | str, None] = OrderedDict()

    def is_new(self, conversation: str) -> bool:
        key = int(conversation.replace("-", ""), 16) if is_uuid(conversation) else conversation
        if key in self._ids:
            self._ids.move_to_end(key)
            return False
        self._ids[key] = None
        if len(self._ids) > MAX_REMEMBERED:
            self._ids.popitem(last=False)
        return True


def _new(page: Page, seen: _Seen, from_us: int, to_us: int) -> list[str]:
    """Return a page's conversations that began in the range, have voice, and are new.

    Where a page does not tell when one began, the range that was asked for is trusted.
    """
    return [
        one.id
        for one in page.conversations
        if one.has_voice
        and (not one.began_us or from_us <= one.began_us < to_us)
        and seen.is_new(one.id)
    ]
