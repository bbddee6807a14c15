"""Carries archiving out: finds a conversation's transcripts, passes them, archives and tells.

Each transcript stands by itself: what goes wrong with one is told and the rest goes on, unless
credentials or the disk fail, which nobody else could get past either.

A kill costs the transcripts under way and nothing else: an object is shown whole or not at all,
with its manifest behind it. The next run asks the archive first; what is complete there is not
fetched again, and its summary is the one of the run that archived it. Where something is to be
listed of it, it is read back from the archive, so the listing is the same.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

import msgspec

from steno.archive.passage import Passage, Passed
from steno.archive.redacted import SegmentRedaction
from steno.archive.sound import Outside
from steno.archive.summary import with_analysis
from steno.core.records import Draft, Record
from steno.core.stored import BadElement
from steno.errors import (
    AuthError,
    ConfigError,
    IntegrityError,
    PreconditionFailed,
    StenoError,
    StorageFull,
)
from steno.ports import Commit, Telemetry
from steno.ports.archive import (
    Archived,
    ArchiveStore,
    ArchiveWriter,
    FoundTranscript,
    Manifest,
    NewItem,
    NoTranscript,
    TranscriptSource,
    WriteOutcome,
)


class Outcome(StrEnum):
    """What became of a transcript, or of a conversation without one."""

    WRITTEN = "written"
    SAME = "same"
    """It was archived before and fetched again: no difference."""
    KNOWN = "known"
    """It was archived before and not fetched again."""
    PASSED = "passed"
    """It was read; nothing was to be archived."""
    CONFLICT = "conflict"
    """Another content is archived under its key."""
    MISSING = "missing"
    EMPTY = "empty"
    IN_WORK = "in_work"
    LEGACY = "legacy"
    """The platform has it in a form of older days that cannot be read."""
    FAILED = "failed"


GOOD = frozenset({Outcome.WRITTEN, Outcome.SAME, Outcome.KNOWN, Outcome.PASSED})


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is told of one transcript.

    Attributes:
        summary: The document's summary as JSON, with the analysis under ``analysis``.
        bad, bad_segments: Segments that could not be read: how many, and the first ones.
        truncated_at: Byte at which it breaks off, where that was accepted.
        outside_audio: Segments that do not lie in the audio; None without audio.
        error: Class of what went wrong; ``detail`` the sentence for people.
    """

    conversation: str
    outcome: Outcome
    communication: str = ""
    summary: msgspec.Raw = msgspec.Raw(b"")
    bad: int = 0
    bad_segments: tuple[BadElement, ...] = ()
    entities: dict[str, int] = {}
    withheld: int = 0
    truncated_at: int | None = None
    outside_audio: Outside | None = None
    error: str = ""
    detail: str = ""


class Extra(Protocol):
    """Something made of a transcript beside the archive: a listing's file, a picture."""

    def commit(self, passed: Passed) -> None:
        """Put it in its place. Blocks."""

    def abort(self) -> None:
        """Nothing comes of it; harmless after ``commit``."""


@dataclass(slots=True)
class Work:
    """What one transcript is passed through; made by ``Workshop.begin``.

    Attributes:
        outside: Tells which segments lie outside the audio, where that is at hand.
    """

    passage: Passage
    extras: Sequence[Extra] = ()
    redaction: SegmentRedaction | None = None
    outside: Callable[[], Outside | None] = lambda: None

    def commit(self, passed: Passed) -> None:
        """Put everything in its place. Blocks."""
        for extra in self.extras:
            extra.commit(passed)

    def give_up(self) -> None:
        """Nothing more comes of it; harmless after ``commit``."""
        self.passage.close()
        for extra in self.extras:
            extra.abort()

    def redacted(self) -> tuple[dict[str, int], int]:
        """Return entities removed and segments withheld."""
        if self.redaction is None:
            return {}, 0
        return self.redaction.entities, self.redaction.withheld


class Workshop(Protocol):
    """Builds what a transcript goes through. Calls block."""

    def begin(
        self, found: FoundTranscript, payload: Callable[[bytes], object] | None, *, again: bool
    ) -> Work:
        """Set up one transcript's pass.

        Args:
            again: It is read back from the archive: redaction and filter were there before.
        """

    def item(self, found: FoundTranscript) -> NewItem:
        """Return what it is archived as."""

    @property
    def lists(self) -> bool:
        """Something is made of transcripts that are archived already, too."""

    @property
    def analyses(self) -> bool:
        """Summaries have the analysis with them."""


class Records(Protocol):
    """The outbox."""

    def submit(self, commit: Commit) -> asyncio.Future[list[Record]]:
        """Queue a commit; the future is done when it is durable."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the service works with.

    Attributes:
        store: None archives nothing.
        one_each: A conversation has one transcript, so one that is archived is not asked for.
        draft: Makes the record of an archived transcript; None makes no records.
        on_result: Told of each transcript.
        on_bytes: Told of bytes received.
    """

    source: TranscriptSource
    workshop: Workshop
    telemetry: Telemetry
    now: Callable[[], str]
    store: ArchiveStore | None = None
    one_each: bool = False
    records: Records | None = None
    draft: Callable[[Result, Manifest], Draft] | None = None
    on_result: Callable[[Result], None] = lambda result: None
    on_bytes: Callable[[int], None] = lambda received: None


@dataclass(slots=True)
class Tally:
    """What a run came to."""

    conversations: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    turns: int = 0
    bad: int = 0
    received: int = 0

    @property
    def good(self) -> int:
        """Transcripts that are where they were wanted."""
        return sum(self.outcomes[outcome] for outcome in GOOD)


class ArchiveService:
    """Archives conversations, several side by side.

    Args:
        concurrency: Conversations at once.
        again: What is archived already is fetched again and compared.
    """

    def __init__(self, around: Surroundings, *, concurrency: int = 4, again: bool = False) -> None:
        self._around = around
        self._concurrency = concurrency
        self._again = again
        self.tally = Tally()

    async def run(self, conversations: AsyncIterator[str], stop: asyncio.Event) -> Tally:
        """Archive every conversation, or those begun before ``stop`` is set.

        Raises:
            AuthError, StorageFull, ConfigError: Nothing can go on.
            StenoError: The conversations themselves cannot be found.
        """
        taking = asyncio.Lock()
        source = aiter(conversations)
        fatal: list[StenoError] = []

        async def worker() -> None:
            while not stop.is_set() and not fatal:
                async with taking:
                    if (conversation := await anext(source, None)) is None:
                        return
                try:
                    await self._conversation(conversation)
                except (AuthError, StorageFull, ConfigError) as error:
                    fatal.append(error)

        stopping = asyncio.create_task(_set(stop), name="stop")
        workers = [asyncio.create_task(worker(), name="archive") for _ in range(self._concurrency)]
        working = asyncio.create_task(_all(workers), name="archive")
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (stopping, working, *workers):
                task.cancel()
            await asyncio.gather(stopping, working, *workers, return_exceptions=True)
        if fatal:
            raise fatal[0]
        return self.tally

    # --- one conversation --------------------------------------------------------------------

    async def _conversation(self, conversation: str) -> None:
        self.tally.conversations += 1
        around, whole = self._around, FoundTranscript(conversation)
        found: Sequence[FoundTranscript] | NoTranscript = ()
        try:
            known = await self._known(whole) if around.one_each else None
            if known is None:
                found = await around.source.find(conversation)
        except (AuthError, StorageFull, ConfigError):
            raise
        except Exception as error:  # noqa: BLE001  # one conversation must not take the others
            self._tell(_failed(conversation, "", error))
            return
        if known is not None:
            self._tell(known)
        if isinstance(found, NoTranscript):
            self._tell(Result(conversation, Outcome(found.reason.value)))
            return
        for one in found:
            await self._one(one)

    async def _one(self, found: FoundTranscript) -> None:
        """Archive one transcript and tell of it.

        Raises:
            AuthError, StorageFull, ConfigError: Nothing can go on.
        """
        try:
            result = await self._transcript(found)
        except (AuthError, StorageFull, ConfigError):
            raise
        except Exception as error:  # noqa: BLE001  # one conversation must not take the others
            result = _failed(found.conversation, found.communication, error)
        self._tell(result)

    async def _transcript(self, found: FoundTranscript) -> Result:
        around = self._around
        if around.store is None:
            return await self._passed(
                found, around.source.download(found, self._progress()), None, ""
            )
        if not around.one_each:  # else it was asked for before the platform was
            known = await self._known(found)
            if known is not None:
                return known
        item = await _blocking(around.workshop.item, found)
        writer = await _opening(partial(around.store.writer, item), lambda one: one.abort())
        location = around.store.url_of(item.key)
        blocks = around.source.download(found, self._progress())
        return await self._passed(found, blocks, writer, location)

    def _progress(self) -> Callable[[int, int | None], None]:
        before = 0

        def progress(received: int, total: int | None) -> None:
            nonlocal before
            self._around.on_bytes(received - before)
            self.tally.received += received - before
            before = received

        return progress

    async def _passed(
        self,
        found: FoundTranscript,
        blocks: AsyncIterator[bytes],
        writer: ArchiveWriter | None,
        location: str,
    ) -> Result:
        async with AsyncExitStack() as stack:
            undo = await stack.enter_async_context(AsyncExitStack())
            if writer is not None:
                undo.push_async_callback(_blocking, writer.abort)  # it may ask the store
            payload = writer.write if writer is not None else None
            begin = partial(self._around.workshop.begin, found, payload, again=False)
            work = await _opening(begin, lambda one: one.give_up())
            stack.callback(work.give_up)
            closing = getattr(blocks, "aclose", None)
            if closing is not None:
                stack.push_async_callback(closing)
            async for block in blocks:
                await _blocking(work.passage.feed, block)
            passed = await _blocking(work.passage.finish)
            require_same(passed, found)
            undo.pop_all()  # from here on the writer ends by finish
            return await self._finished(found, work, passed, writer, location)

    async def _finished(
        self,
        found: FoundTranscript,
        work: Work,
        passed: Passed,
        writer: ArchiveWriter | None,
        location: str,
    ) -> Result:
        around = self._around
        if writer is None:
            await _blocking(work.commit, passed)
            return self._result(found, work, passed, Outcome.PASSED, b"")
        summary = summary_bytes(
            passed,
            found.conversation,
            analyses=around.workshop.analyses,
            archived_at=around.now(),
            storage_location=location,
        )
        archived: Archived = await _blocking(writer.finish, summary)
        await _blocking(work.commit, passed)
        outcome = Outcome.WRITTEN if archived.outcome is WriteOutcome.WRITTEN else Outcome.SAME
        kept = bytes(archived.manifest.summary) or summary
        result = self._result(found, work, passed, outcome, kept)
        await self._record(result, archived.manifest)
        return result

    def _result(
        self,
        found: FoundTranscript,
        work: Work,
        passed: Passed,
        outcome: Outcome,
        summary: bytes,
    ) -> Result:
        entities, withheld = work.redacted()
        if not summary:
            summary = summary_bytes(
                passed, found.conversation, analyses=self._around.workshop.analyses
            )
        self.tally.turns += passed.summing.turns
        self.tally.bad += passed.fields.bad
        return Result(
            found.conversation,
            outcome,
            found.communication,
            summary=msgspec.Raw(summary),
            bad=passed.fields.bad,
            bad_segments=passed.bad,
            entities=entities,
            withheld=withheld,
            truncated_at=passed.truncated_at,
            outside_audio=work.outside(),
        )

    async def _known(self, found: FoundTranscript) -> Result | None:
        """Return the result of what is archived already; None where it is not."""
        around = self._around
        if around.store is None or self._again:
            return None
        item = await _blocking(around.workshop.item, found)
        held = await _blocking(around.store.manifest, item.key, conversation=found.conversation)
        if held is None or held.state != "complete" or held.made_with != item.made_with:
            return None
        return await self._listed(found, held)

    async def _listed(self, found: FoundTranscript, held: Manifest) -> Result:
        """Tell of what is archived already; list it from there if it is to be listed."""
        around = self._around
        if around.workshop.lists and around.store is not None:
            store, key = around.store, held.key
            work = await _blocking(around.workshop.begin, found, None, again=True)
            try:
                await _blocking(_reread, work, store, key)
            finally:
                work.give_up()
        result = Result(
            found.conversation,
            Outcome.KNOWN,
            found.communication,
            summary=msgspec.Raw(bytes(held.summary)),
        )
        await self._record(result, held)
        return result

    async def _record(self, result: Result, manifest: Manifest) -> None:
        """Store the record of an archived transcript; one that is known changes nothing."""
        if self._around.records is not None and self._around.draft is not None:
            await self._around.records.submit(Commit((self._around.draft(result, manifest),)))

    def _tell(self, result: Result) -> None:
        self.tally.outcomes[result.outcome] += 1
        if result.error:
            self.tally.errors[result.error] += 1
        self._around.telemetry.counter("steno_archive_transcripts_total", outcome=result.outcome)(1)
        if result.outcome not in GOOD:
            self._around.telemetry.warning(
                "archive.not_archived",
                conversation=result.conversation,
                outcome=result.outcome.value,
                error_class=result.error,
            )
        self._around.on_result(result)


_T = TypeVar("_T")
_P = ParamSpec("_P")


async def _blocking(call: Callable[_P, _T], *args: _P.args, **more: _P.kwargs) -> _T:
    """Call from a thread; when cancelled, end only after it has.

    So nothing that a thread still works on is given up under its hands.
    """
    working = asyncio.ensure_future(asyncio.to_thread(call, *args, **more))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        if not working.cancelled():
            working.exception()  # whoever gave up does not want to know
        raise


async def _opening(call: Callable[[], _T], undo: Callable[[_T], None]) -> _T:
    """Open something from a thread; when cancelled meanwhile, undo it."""
    opened: list[_T] = []
    try:
        await _blocking(lambda: opened.append(call()))
    except asyncio.CancelledError:
        for one in opened:
            await _blocking(undo, one)
        raise
    return opened[0]


async def _set(stop: asyncio.Event) -> None:
    await stop.wait()


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


def summary_bytes(
    passed: Passed,
    conversation: str,
    *,
    analyses: bool,
    archived_at: str = "",
    storage_location: str = "",
) -> bytes:
    """Return a pass's summary as JSON."""
    summary = passed.summing.summary(
        conversation, passed.roles, archived_at=archived_at, storage_location=storage_location
    )
    return with_analysis(summary, passed.summing.analysis(passed.roles) if analyses else None)


def require_same(passed: Passed, found: FoundTranscript) -> None:
    """Refuse a transcript that names another conversation than the one it is to be archived as.

    Raises:
        IntegrityError: It does.
    """
    named = passed.fields.conversation
    if named and named.lower() != found.conversation.lower():
        raise IntegrityError("the transcript is of another conversation than was named")


def run_blocking(work: Work, blocks: Iterator[bytes]) -> Passed:
    """Pass a transcript without an event loop; the caller ends writer and extras."""
    for block in blocks:
        work.passage.feed(block)
    return work.passage.finish()


def _reread(work: Work, store: ArchiveStore, key: str) -> None:
    work.commit(run_blocking(work, store.read(key)))


def _failed(conversation: str, communication: str, error: Exception) -> Result:
    """Return the result of an error; the words of one that is not ours may quote its input."""
    outcome = Outcome.CONFLICT if isinstance(error, PreconditionFailed) else Outcome.FAILED
    return Result(
        conversation,
        outcome,
        communication,
        error=type(error).__name__,
        detail=str(error) if isinstance(error, StenoError) else "internal error",
    )
