"""Repair of live delivery: what gaps cost is delivered from the stored transcript.

For each conversation that a gap concerns: find its transcript, pass it through redaction, hold it
against what was delivered (``reconcile``), and commit the segments that are missing as sentences
of ``origin: backfill``, together with the record that counts them. Keys follow from where a
segment stands in the transcript, so a repair that was killed, or is repeated, doubles nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, ParamSpec, Protocol, TypeVar

import msgspec

from steno.archive.gap_book import GapBook
from steno.archive.reconcile import MARGIN_US, Heard, Judged, Span, Verdict, judge
from steno.archive.redacted import WITHHELD
from steno.archive.stored_reading import MAX_SEGMENTS, Reading, Taken
from steno.core.records import (
    Draft,
    Kind,
    Origin,
    ReconciledPayload,
    Record,
    SentencePayload,
    record_key,
)
from steno.errors import (
    AuthError,
    ConfigError,
    IntegrityError,
    ObjectMissing,
    StenoError,
    StorageError,
)
from steno.ports import Commit, Delivered, DeliveryHistory, Telemetry
from steno.ports.archive import FoundTranscript, Nothing, NoTranscript, TranscriptSource

SOURCE: Final = "archive"

_encode = msgspec.json.Encoder().encode
_read_sentence = msgspec.json.Decoder(SentencePayload).decode
_read_reconciled = msgspec.json.Decoder(ReconciledPayload).decode


class Records(Protocol):
    """The outbox."""

    def submit(self, commit: Commit) -> asyncio.Future[list[Record]]:
        """Queue a commit; the future is done when it is durable."""


class Outcome(StrEnum):
    """What became of a conversation."""

    REPAIRED = "repaired"
    """Everything in its transcript has been delivered, live or by a repair."""
    PARTLY = "partly"
    """Something is missing still."""
    KNOWN = "known"
    """An earlier repair has delivered everything, and no gap is newer."""
    MISSING = "missing"
    """There is no transcript of it."""
    IN_WORK = "in_work"
    """Its transcript is not ready: the next repair may have it."""
    PURGED = "purged"
    """Part of what was delivered is no longer stored: nobody can tell what is missing."""
    FAILED = "failed"


GOOD: Final = frozenset({Outcome.REPAIRED, Outcome.KNOWN})


class Result(msgspec.Struct, frozen=True):
    """What a repair did for one conversation.

    Attributes:
        filled: Sentences filled in by this repair; ``counts.backfilled`` counts all.
        counts: The content of its record; None where there is none.
        error, detail: Class and text of an error of ours.
    """

    conversation: str
    outcome: Outcome
    filled: int = 0
    counts: ReconciledPayload | None = None
    error: str = ""
    detail: str = ""


@dataclass(slots=True)
class Tally:
    """What a run came to."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    expected: int = 0
    delivered_live: int = 0
    backfilled: int = 0
    missing: int = 0
    filled: int = 0

    @property
    def ratio(self) -> float | None:
        """Share of what was expected that has been delivered; None where nothing was."""
        return (self.expected - self.missing) / self.expected if self.expected else None

    def add(self, result: Result) -> None:
        """Count a conversation."""
        self.outcomes[result.outcome] += 1
        if result.error:
            self.errors[result.error] += 1
        self.filled += result.filled
        if result.counts is not None:
            self.expected += result.counts.expected
            self.delivered_live += result.counts.delivered_live
            self.backfilled += result.counts.backfilled
            self.missing += result.counts.missing


# --- the service -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the service works with.

    Attributes:
        history: Read off the loop, one call at a time.
        reading: Begins to read a transcript.
        host_group: Part of every key, the same as live delivery's.
        live_source: What sentences are filled in for, where nothing was heard.
        language: Of conversations of which nobody knows it.
        records: None stores nothing: a trial.
        wall_us: UTC microseconds.
    """

    source: TranscriptSource
    history: DeliveryHistory
    reading: Callable[[FoundTranscript, str], Reading]
    telemetry: Telemetry
    host_group: str
    live_source: str
    language: str
    wall_us: Callable[[], int]
    records: Records | None = None
    on_result: Callable[[Result], None] = lambda result: None


class RepairService:
    """Repairs conversations.

    Args:
        everything: Also what is missing outside every gap is filled in.
        settle_us: A conversation heard more recently goes on, perhaps: not now.
    """

    def __init__(
        self, around: Surroundings, *, everything: bool = False, settle_us: int = 0
    ) -> None:
        self._around = around
        self._everything = everything
        self._settle_us = settle_us
        self._reads = asyncio.Lock()
        self.tally = Tally()

    async def gaps(self, *, down_since_us: int = 0) -> GapBook:
        """Return the gaps that are stored.

        Args:
            down_since_us: Nobody has followed since; the next who does will store that gap.

        Raises:
            StorageError: They cannot be read.
        """
        now_us = self._around.wall_us()
        history = self._around.history
        async with self._reads:
            return await off_loop(
                lambda: GapBook(history.gaps(), now_us=now_us, down_since_us=down_since_us)
            )

    async def concerned(self, book: GapBook, from_us: int, to_us: int) -> list[str]:
        """Return the conversations that gaps in a time concern, as far as anything was heard.

        Raises:
            StorageError: They cannot be read.
        """
        names = dict.fromkeys(book.named(from_us, to_us))
        for _, around in book.everywhere(from_us, to_us):
            names.update(dict.fromkeys(await self.heard(around.from_us, around.to_us)))
        return list(names)

    async def heard(self, from_us: int, to_us: int) -> list[str]:
        """Return the conversations heard in a time.

        Raises:
            StorageError: They cannot be read.
        """
        async with self._reads:
            return await off_loop(self._around.history.heard, from_us, to_us)

    async def run(
        self,
        conversations: AsyncIterator[str],
        book: GapBook,
        stop: asyncio.Event,
        *,
        concurrency: int = 1,
        again: bool = False,
    ) -> Tally:
        """Repair conversations, or those begun before ``stop`` is set.

        Args:
            again: Also those that an earlier repair has finished.

        Raises:
            AuthError, ConfigError, StorageError: Nothing can go on.
            StenoError: The conversations cannot be found.
        """
        taking = asyncio.Lock()
        source = aiter(conversations)

        async def worker() -> None:
            while not stop.is_set():
                async with taking:
                    if (conversation := await anext(source, None)) is None:
                        return
                self._tell(await self.repair(conversation, book, again=again))

        workers = [asyncio.create_task(worker(), name="repair") for _ in range(concurrency)]
        stopping = asyncio.create_task(stop.wait(), name="stop")
        working = asyncio.create_task(_all(workers), name="repair")
        try:
            ends: set[asyncio.Task[object]] = {working, stopping}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (stopping, working, *workers):
                task.cancel()
            await asyncio.gather(stopping, working, *workers, return_exceptions=True)
        return self.tally

    def _tell(self, result: Result) -> None:
        self.tally.add(result)
        telemetry = self._around.telemetry
        if result.outcome not in GOOD:
            telemetry.warning(
                "repair.not_repaired",
                conversation=result.conversation,
                outcome=result.outcome.value,
                error_class=result.error,
                lost=result.counts.missing if result.counts is not None else 0,
            )
        self._around.on_result(result)

    async def repair(self, conversation: str, book: GapBook, *, again: bool = False) -> Result:
        """Repair one conversation.

        Raises:
            AuthError, ConfigError, StorageError: Nothing can go on.
        """
        around = self._around
        try:
            async with self._reads:
                had = await off_loop(around.history.delivered, conversation)
            before = _before(had)
            if not again and before is not None and self._is_done(conversation, had, before, book):
                return Result(conversation, Outcome.KNOWN, counts=before)
            if not had.whole:
                return Result(conversation, Outcome.PURGED)
            if had.last_us + self._settle_us > around.wall_us():
                return Result(conversation, Outcome.IN_WORK)
            found = await around.source.find(conversation)
            if isinstance(found, NoTranscript):
                return await self._without(conversation, had, before, found.reason)
            taken, unreadable = await self._read(found, _language(had) or around.language)
            return await self._filled(conversation, had, before, taken, unreadable, book)
        except (AuthError, ConfigError):
            raise
        except (IntegrityError, ObjectMissing) as error:
            return Result(conversation, Outcome.FAILED, error=type(error).__name__,
                          detail=str(error))  # fmt: skip
        except StorageError:
            raise
        except StenoError as error:
            return Result(conversation, Outcome.FAILED, error=type(error).__name__,
                          detail=str(error))  # fmt: skip

    def _is_done(
        self, conversation: str, had: Delivered, before: ReconciledPayload, book: GapBook
    ) -> bool:
        """Tell whether an earlier repair left nothing to do, and nothing came since."""
        if before.missing or before.transcript:
            return False
        newest_us = max(had.last_us, book.newest_us(conversation), book.newest_us(""))
        return newest_us <= had.reconciled_us

    async def _read(
        self, found: Sequence[FoundTranscript], language: str
    ) -> tuple[list[Taken], int]:
        taken: list[Taken] = []
        unreadable = 0
        for one in found:
            reading = await off_loop(self._around.reading, one, language)
            blocks = self._around.source.download(one)
            try:
                async for block in blocks:
                    await off_loop(reading.feed, block)
            finally:
                if (closing := getattr(blocks, "aclose", None)) is not None:
                    await closing()
            segments, fields = await off_loop(reading.finish, language)
            taken += segments
            unreadable += fields.bad
            if len(taken) > MAX_SEGMENTS:
                raise IntegrityError(
                    "a stored transcript is too long to repair", limit=MAX_SEGMENTS
                )
        return taken, unreadable

    async def _filled(
        self,
        conversation: str,
        had: Delivered,
        before: ReconciledPayload | None,
        taken: list[Taken],
        unreadable: int,
        book: GapBook,
    ) -> Result:
        spans = book.spans(conversation)
        verdicts = await off_loop(_verdicts, had.sentences, taken, spans)
        # What was filled in may have another name now: a transcript can be made anew.
        earlier = await off_loop(_verdicts, had.backfilled, taken, ())
        drafts: list[Draft] = []
        filled = {record.key for record in had.backfilled}
        live = backfilled = outside = 0
        for one, judged, known in zip(taken, verdicts, earlier, strict=True):
            key = record_key(self._around.host_group, conversation, one.said.lane, one.name)
            if key in filled:
                backfilled += 1
            elif judged.verdict is Verdict.DELIVERED:
                live += 1
            elif had.backfilled and known.verdict is Verdict.DELIVERED:
                backfilled += 1
            elif one.said.text == WITHHELD:
                continue
            elif judged.verdict is Verdict.OUTSIDE and not self._everything:
                outside += 1
            else:
                drafts.append(self._sentence(conversation, had, one, judged, key))
        backfilled += len(drafts)
        expected = len(taken) + unreadable
        counts = ReconciledPayload(
            expected,
            live,
            backfilled,
            missing=expected - live - backfilled,
            ratio=round((live + backfilled) / expected, 6) if expected else None,
            outside=outside,
            unreadable=unreadable,
            gaps=_concerning(spans, verdicts),
        )
        return await self._commit(conversation, had, before, counts, drafts)

    async def _without(
        self,
        conversation: str,
        had: Delivered,
        before: ReconciledPayload | None,
        reason: Nothing,
    ) -> Result:
        if reason is Nothing.IN_WORK:
            return Result(conversation, Outcome.IN_WORK)
        is_silent = reason is Nothing.EMPTY and not had.sentences and not had.backfilled
        word = "" if is_silent else reason.value  # nothing was said, and nothing was heard
        counts = ReconciledPayload(0, 0, 0, 0, None, transcript=word)
        return await self._commit(conversation, had, before, counts, [])

    async def _commit(
        self,
        conversation: str,
        had: Delivered,
        before: ReconciledPayload | None,
        counts: ReconciledPayload,
        drafts: list[Draft],
    ) -> Result:
        """Store what is filled in and its count, together; nothing where nothing is new."""
        outcome = Outcome.PARTLY if counts.missing else Outcome.REPAIRED
        if counts.transcript:
            outcome = Outcome.MISSING
        result = Result(conversation, outcome, len(drafts), counts)
        records = self._around.records
        if records is None or (not drafts and _same(before, counts)):
            return result
        name = "reconciled"
        revision = had.reconciled.revision + 1 if had.reconciled is not None else 0
        drafts.append(
            Draft(
                Kind.RECONCILED,
                SOURCE,
                conversation,
                "",
                name,
                revision,
                record_key(self._around.host_group, conversation, "", name),
                Origin.BACKFILL,
                self._around.wall_us(),
                _encode(counts),
            )
        )
        # An end in the middle must not leave it open whether this is stored.
        stored = await asyncio.shield(records.submit(Commit(drafts)))
        if not stored:  # it was erased: nothing of it is taken in again
            return Result(conversation, Outcome.PURGED)
        self._count(conversation, counts, before, result.filled)
        return result

    def _count(
        self,
        conversation: str,
        counts: ReconciledPayload,
        before: ReconciledPayload | None,
        filled: int,
    ) -> None:
        telemetry = self._around.telemetry
        old = before or ReconciledPayload(0, 0, 0, 0, None)
        live = max(0, counts.delivered_live - old.delivered_live)
        missing = max(0, counts.missing - old.missing)
        telemetry.counter("steno_reconciled_segments_total", outcome="delivered_live")(live)
        telemetry.counter("steno_reconciled_segments_total", outcome="backfilled")(filled)
        telemetry.counter("steno_reconciled_segments_total", outcome="missing")(missing)
        if counts.ratio is not None:
            telemetry.gauge("steno_reconciled_ratio")(counts.ratio)
        telemetry.info(
            "repair.reconciled",
            conversation=conversation,
            count=counts.expected,
            records=filled,
            lost=counts.missing,
        )

    def _sentence(
        self, conversation: str, had: Delivered, one: Taken, judged: Judged, key: str
    ) -> Draft:
        payload = SentencePayload(
            one.said.lane,
            one.said.text,
            one.language,
            one.confidence,
            judged.started_us,
            judged.ended_us,
            judged.ended_us,
            one.said.role,
        )
        return Draft(
            Kind.SENTENCE,
            had.sentences[-1].source if had.sentences else self._around.live_source,
            conversation,
            one.said.lane,
            one.name,
            0,
            key,
            Origin.BACKFILL,
            judged.ended_us,
            _encode(payload),
        )


async def _all(workers: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.gather(*workers)


# --- what is compared ------------------------------------------------------------------------


def _verdicts(
    records: Sequence[Record], taken: Sequence[Taken], spans: Sequence[Span]
) -> list[Judged]:
    heard = [_heard(record) for record in records]
    said = [one.said for one in taken]
    # Years after 1970 the platform's times are dates; the document's count from a start.
    dated = bool(said) and min(one.started_us for one in said) > 10**15
    return judge(said, heard, spans, dated=dated)


def _heard(record: Record) -> Heard:
    payload = _sentence_of(record)
    started_us = payload.started_us or payload.completed_us
    return Heard(
        record.lane,
        payload.role,
        payload.text,
        started_us,
        max(started_us, payload.ended_us),
        record.origin is Origin.LIVE,
    )


def _sentence_of(record: Record) -> SentencePayload:
    try:
        return _read_sentence(record.payload)
    except msgspec.MsgspecError:
        raise IntegrityError("a stored sentence cannot be read") from None


def _before(had: Delivered) -> ReconciledPayload | None:
    if had.reconciled is None:
        return None
    try:
        return _read_reconciled(had.reconciled.payload)
    except msgspec.MsgspecError:
        return None


def _language(had: Delivered) -> str:
    """Return the language that most of what was delivered is in."""
    tags = Counter(_sentence_of(record).language for record in had.sentences)
    return tags.most_common(1)[0][0] if tags else ""


def _concerning(spans: Sequence[Span], verdicts: Sequence[Judged]) -> int:
    """Return how many gaps lie in the time of a conversation."""
    times = [one for one in verdicts if one.ended_us]
    if not times:
        return 0
    first = min(one.started_us for one in times) - MARGIN_US
    last = max(one.ended_us for one in times) + MARGIN_US
    return sum(one.from_us <= last and one.to_us >= first for one in spans)


def _same(before: ReconciledPayload | None, counts: ReconciledPayload) -> bool:
    """Tell whether counts say nothing new; how gaps are told apart is no news."""
    if before is None:
        return False
    return msgspec.structs.replace(before, gaps=0) == msgspec.structs.replace(counts, gaps=0)


_T = TypeVar("_T")
_P = ParamSpec("_P")


async def off_loop(call: Callable[_P, _T], *args: _P.args, **more: _P.kwargs) -> _T:
    """Call from a thread; when cancelled, end only after it has."""
    working = asyncio.ensure_future(asyncio.to_thread(call, *args, **more))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        if not working.cancelled():
            working.exception()
        raise
