"""Building the repair of live delivery: once by a command, or in the background of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import msgspec

from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite import SqliteStore
from steno.adapters.store_sqlite.history import HistoryReader
from steno.app.archive_conversations import Source, open_source
from steno.app.gateway import open_delivery
from steno.app.platform import utc_us
from steno.app.redactor import make_redactor
from steno.archive.reconcile import FOREVER_US
from steno.archive.redacted import SegmentRedaction
from steno.archive.repair import (
    GOOD,
    GapBook,
    Outcome,
    Reading,
    Records,
    RepairService,
    Result,
    Surroundings,
    Tally,
    off_loop,
)
from steno.config import Config, Family
from steno.config import Source as LiveSource
from steno.core.ids import is_id
from steno.core.records import GapPayload, Kind, Record
from steno.errors import StenoError
from steno.observability import LogTelemetry
from steno.ports.archive import FoundTranscript
from steno.wire.followed import owners
from steno.wire.stored_transcripts import TranscriptParser
from steno.wire.transcript_links import FIX_CONVERSATION, conversation_path

LIVE_SOURCES: Final = tuple(source.value for source in LiveSource)
LOOK_BACK_US: Final = 3_600_000_000
"""A conversation that nobody heard may have begun so long before the gap."""
MAX_TRIES: Final = 8
MAX_WAITING: Final = 10_000
RETRY_MOST_S: Final = 3600.0
_NOT_THERE: Final = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be repaired.

    Attributes:
        ids: These conversations; those that gaps concern where there are none.
        from_us, to_us: Gaps in this time, UTC microseconds.
        everything: Fill in also what no gap explains; with a time, look at every conversation
            heard in it.
        dry_run: Only tell; nothing is stored or delivered.
        on_bad: Told of an argument that is no id, by its number from 1.
    """

    ids: Sequence[str] = ()
    from_us: int = 0
    to_us: int = FOREVER_US
    everything: bool = False
    dry_run: bool = False
    on_bad: Callable[[int], None] = lambda line: None


@dataclass(slots=True)
class Repaired:
    """What a run came to."""

    tally: Tally = field(default_factory=Tally)
    gaps: int = 0
    bad_ids: int = 0
    drained: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing any more."""
        return not self.tally.missing and not any(
            count for outcome, count in self.tally.outcomes.items() if outcome not in GOOD
        )


async def repair(
    config: Config,
    wanted: Wanted,
    *,
    stop: asyncio.Event,
    telemetry: LogTelemetry,
    on_result: Callable[[Result], None],
) -> Repaired:
    """Fill in what gaps cost, and deliver it.

    Raises:
        ConfigError, AuthError: It can never work as it is set up.
        StorageError: Another process uses the state directory, or the store fails.
        StenoError: The platform cannot be asked for conversations.
    """
    async with AsyncExitStack() as stack:
        state = StateDir(config.state_dir)
        state.prepare()
        stack.enter_context(state)
        if not state.database.exists():
            return Repaired()
        delivery = None
        if not wanted.dry_run:
            delivery = await open_delivery(config, state, stack, telemetry=telemetry, features=())
        history = stack.enter_context(HistoryReader(state.database, LIVE_SOURCES))
        source = await open_source(config, state, stack, telemetry)
        service = _service(
            config,
            source,
            history,
            telemetry,
            records=delivery.store if delivery is not None else None,
            everything=wanted.everything,
            on_result=on_result,
        )
        # One that was killed, and has not run since, has stored no gap yet.
        killed = delivery is not None and not delivery.store.report.clean_shutdown
        down_since_us = delivery.store.report.last_alive_us if delivery and killed else 0
        book = await service.gaps(down_since_us=down_since_us)
        chosen = _Chosen(config, wanted, service, book, source)
        tally = await service.run(
            chosen.all(),
            book,
            stop,
            concurrency=config.archive.concurrency,
            again=bool(wanted.ids) or wanted.everything,
        )
        drained = True
        if delivery is not None:
            drained = await delivery.drain(0.0 if stop.is_set() else config.delivery.drain_s)
        return Repaired(tally, book.count, chosen.bad, drained)


def _service(
    config: Config,
    source: Source,
    history: HistoryReader,
    telemetry: LogTelemetry,
    *,
    records: Records | None,
    everything: bool = False,
    settle_us: int = 0,
    on_result: Callable[[Result], None] = lambda result: None,
) -> RepairService:
    redactor = make_redactor(config)

    def reading(found: FoundTranscript, language: str) -> Reading:
        redaction = SegmentRedaction(redactor, language=language)
        return Reading(found, TranscriptParser(raw=False), redaction)

    return RepairService(
        Surroundings(
            source=source.transcripts,
            history=history,
            reading=reading,
            telemetry=telemetry,
            host_group=source.host_group,
            live_source=config.live.source.value,
            language=config.language.initial,
            wall_us=utc_us,
            records=records,
            on_result=on_result,
        ),
        everything=everything,
        settle_us=settle_us,
    )


class _Chosen:
    """The conversations that a run is for, each once."""

    def __init__(
        self,
        config: Config,
        wanted: Wanted,
        service: RepairService,
        book: GapBook,
        source: Source,
    ) -> None:
        self._config = config
        self._wanted = wanted
        self._service = service
        self._book = book
        self._source = source
        self.bad = 0

    async def all(self) -> AsyncIterator[str]:
        """Yield them."""
        wanted, seen = self._wanted, set[str]()
        if wanted.ids:
            for number, name in enumerate(wanted.ids, start=1):
                if not is_id(name):
                    self.bad += 1
                    wanted.on_bad(number)
                elif name not in seen:
                    seen.add(name)
                    yield name
            return
        names = await self._service.concerned(self._book, wanted.from_us, wanted.to_us)
        if wanted.everything and wanted.from_us:
            names += await self._service.heard(wanted.from_us, min(wanted.to_us, utc_us()))
        for name in names:
            if name not in seen:
                seen.add(name)
                yield name
        async for name in unheard(
            self._config, self._source, self._book, wanted.from_us, wanted.to_us, seen
        ):
            yield name


async def unheard(
    config: Config,
    source: Source,
    book: GapBook,
    from_us: int,
    to_us: int,
    seen: set[str],
) -> AsyncIterator[str]:
    """Yield followed conversations that may lie wholly inside a gap, and add them to ``seen``.

    The platform is asked for them, where it is the real one; of its answer only those count that
    live delivery would have followed.

    Raises:
        AuthError, TransportError, RemoteProtocolError: The platform cannot be asked.
    """
    spans = [
        one
        for one, around in book.everywhere(from_us, to_us)
        if around.to_us - around.from_us and one.to_us > one.from_us
    ]
    if not spans:
        return
    for name in config.live.conversations:
        if name not in seen:
            seen.add(name)
            yield name
    asks = config.live.queues or config.live.users
    if config.platform.family is not Family.GENESYS_CLOUD or not asks:
        return
    for span in spans:
        begins_us = max(0, span.from_us - LOOK_BACK_US)
        async for name in source.finder.conversations(begins_us, span.to_us):
            if name in seen:
                continue
            seen.add(name)
            if await _is_followed(config, source, name):
                yield name


async def _is_followed(config: Config, source: Source, conversation: str) -> bool:
    answer = await source.calls.call(
        "GET",
        conversation_path(conversation),
        action="read a conversation",
        accept=_NOT_THERE,
        fix=FIX_CONVERSATION,
    )
    if not answer.ok:
        return False
    queues, users = owners(answer.body)
    return bool(queues & set(config.live.queues) or users & set(config.live.users))


# --- in the background -----------------------------------------------------------------------


@dataclass(slots=True)
class _Waiting:
    """A conversation to repair: when, in seconds of the loop, and how often it was tried."""

    at_s: float
    tries: int = 0


class AutomaticRepair:
    """Repairs beside live delivery, one conversation at a time; it never fails the gateway.

    A gap that is closed makes its conversations wait ``archive.repair_after_s``; so do gaps that
    an earlier process left. A conversation that was heard since, or whose transcript is not
    ready, waits again, twice as long each time; after ``MAX_TRIES`` it is left to ``steno repair``.
    """

    def __init__(
        self, config: Config, state: StateDir, store: SqliteStore, telemetry: LogTelemetry
    ) -> None:
        archive = config.archive
        # Waiting is done here, where it holds up nobody else.
        self._config = msgspec.structs.replace(
            config,
            archive=msgspec.structs.replace(
                archive, poll_limit_s=min(archive.poll_limit_s, 2 * archive.poll_s), missing_s=0.0
            ),
        )
        self._state = state
        self._store = store
        self._telemetry = telemetry
        self._after_s = archive.repair_after_s
        self._due_s: float | None = 0.0
        self._since_us = 0
        self._waiting: dict[str, _Waiting] = {}
        self._given_up: dict[str, None] = {}
        self._gap = msgspec.json.Decoder(GapPayload)
        self._changed = asyncio.Event()
        store.on_committed(self._committed)

    def _committed(self, records: list[Record]) -> None:
        for record in records:
            if record.kind is not Kind.GAP or record.source not in LIVE_SOURCES:
                continue
            if self._gap.decode(record.payload).to_us:
                if self._due_s is None:
                    self._due_s = asyncio.get_running_loop().time() + self._after_s
                self._given_up.pop(record.conversation, None)
                self._changed.set()

    async def run(self) -> None:
        """Repair until cancelled."""
        pause_s = self._after_s
        while True:
            try:
                async with AsyncExitStack() as stack:
                    await self._follow(stack)
            except Exception as error:  # noqa: BLE001  # live delivery goes on whatever happens
                self._telemetry.warning(
                    "repair.failed",
                    error_class=getattr(error, "error_class", type(error).__name__),
                    retry_s=round(pause_s, 3),
                )
                if self._due_s is None:
                    self._due_s = 0.0
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_MOST_S)

    async def _follow(self, stack: AsyncExitStack) -> None:
        now = asyncio.get_running_loop().time
        history: HistoryReader = await off_loop(HistoryReader, self._state.database, LIVE_SOURCES)
        stack.callback(history.close)
        service: RepairService | None = None
        source: Source | None = None
        while True:
            await self._until_due()
            if service is None or source is None:
                source = await open_source(self._config, self._state, stack, self._telemetry)
                service = _service(
                    self._config,
                    source,
                    history,
                    self._telemetry,
                    records=self._store,
                    settle_us=int(self._after_s * 1e6),
                )
            if self._due_s is not None and self._due_s <= now():
                await self._collect(service, source)
            for name in [n for n, one in self._waiting.items() if one.at_s <= now()]:
                await self._one(service, name)

    async def _until_due(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            self._changed.clear()
            times = [one.at_s for one in self._waiting.values()]
            if self._due_s is not None:
                times.append(self._due_s)
            wait_s = min(times) - now() if times else None
            if wait_s is not None and wait_s <= 0:
                return
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def _collect(self, service: RepairService, source: Source) -> None:
        """Let the conversations wait that gaps concern."""
        began_us, self._due_s = utc_us(), None
        book = await service.gaps()
        names: Iterable[str] = await service.concerned(book, self._since_us, FOREVER_US)
        seen = set(names)
        found = [
            name
            async for name in unheard(self._config, source, book, self._since_us, FOREVER_US, seen)
        ]
        at_s = asyncio.get_running_loop().time()
        for name in [*names, *found]:
            if name not in self._given_up and len(self._waiting) < MAX_WAITING:
                self._waiting.setdefault(name, _Waiting(at_s))
        # Gaps that closed while this went on are told by the next call.
        self._since_us = began_us - int(self._after_s * 2e6)

    async def _one(self, service: RepairService, name: str) -> None:
        """Repair a conversation, or let it wait again."""
        waiting = self._waiting[name]
        try:
            result = await service.repair(name, await service.gaps())
            outcome, error = result.outcome, result.error
        except StenoError as exc:
            outcome, error = Outcome.FAILED, exc.error_class
        if outcome in GOOD or outcome is Outcome.PURGED or outcome is Outcome.PARTLY:
            del self._waiting[name]
            return
        waiting.tries += 1
        delay_s = min(self._after_s * 2**waiting.tries, RETRY_MOST_S)
        waiting.at_s = asyncio.get_running_loop().time() + delay_s
        is_last = waiting.tries >= MAX_TRIES
        self._telemetry.info(
            "repair.postponed",
            conversation=name,
            outcome=outcome.value,
            error_class=error,
            attempts=waiting.tries,
            retry_s=0.0 if is_last else round(delay_s, 3),
        )
        if is_last:
            del self._waiting[name]
            self._given_up[name] = None
            if len(self._given_up) > MAX_WAITING:
                del self._given_up[next(iter(self._given_up))]
