"""Building the repair of live delivery: once by a command, or in the background of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite.history import HistoryReader
from steno.app.archive_conversations import Source, open_source
from steno.app.gateway import open_delivery
from steno.app.platform import utc_us
from steno.app.redactor import make_redactor
from steno.archive.gap_book import GapBook
from steno.archive.reconcile import FOREVER_US
from steno.archive.redacted import SegmentRedaction
from steno.archive.repair import (
    GOOD,
    Records,
    RepairService,
    Result,
    Surroundings,
    Tally,
)
from steno.archive.stored_reading import Reading
from steno.config import Config, Family
from steno.config import Source as LiveSource
from steno.core.ids import is_id
from steno.observability import LogTelemetry
from steno.ports.archive import FoundTranscript
from steno.wire.followed import owners
from steno.wire.stored_transcripts import TranscriptParser
from steno.wire.transcript_links import FIX_CONVERSATION, conversation_path

LIVE_SOURCES: Final = tuple(source.value for source in LiveSource)
LOOK_BACK_US: Final = 3_600_000_000
"""A conversation that nobody heard may have begun so long before the gap."""
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
        service = service_of(
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


def service_of(
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
    """Build the service; it owns nothing that has to be closed."""
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
