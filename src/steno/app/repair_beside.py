"""Repair in the background of live delivery."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import msgspec

from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite import SqliteStore
from steno.adapters.store_sqlite.history import HistoryReader
from steno.app.archive_conversations import Source, open_source
from steno.app.repair import LIVE_SOURCES, service_of, unheard
from steno.archive.gap_book import GapBook
from steno.archive.reconcile import FOREVER_US
from steno.archive.repair import GOOD, Outcome, RepairService, off_loop
from steno.config import Config
from steno.core.records import GapPayload, Kind, Record
from steno.observability import LogTelemetry

MAX_TRIES: Final = 8
MAX_WAITING: Final = 10_000
RETRY_MOST_S: Final = 3600.0


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
        """Beginning of the oldest gap that conversations have not been chosen for."""
        self._waiting: dict[str, _Waiting] = {}
        self._given_up: dict[str, None] = {}
        self._gap = msgspec.json.Decoder(GapPayload)
        self._changed = asyncio.Event()
        store.on_committed(self._committed)

    def _committed(self, records: list[Record]) -> None:
        for record in records:
            if record.kind is not Kind.GAP or record.source not in LIVE_SOURCES:
                continue
            gap = self._gap.decode(record.payload)
            if gap.to_us:
                self._since_us = min(self._since_us, gap.from_us)
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
                service = service_of(
                    self._config,
                    source,
                    history,
                    self._telemetry,
                    records=self._store,
                    settle_us=int(self._after_s * 1e6),
                )
            if self._due_s is not None and self._due_s <= now():
                await self._collect(service, source)
            due = [name for name, one in self._waiting.items() if one.at_s <= now()]
            book = await service.gaps() if due else None
            for name in due:
                if book is not None:
                    await self._one(service, name, book)

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
        since_us, self._since_us, self._due_s = self._since_us, FOREVER_US, None
        try:
            names, found = await self._found(service, source, since_us)
        except BaseException:
            self._since_us = min(self._since_us, since_us)
            raise
        at_s = asyncio.get_running_loop().time()
        for name in [*names, *found]:
            if name not in self._given_up and len(self._waiting) < MAX_WAITING:
                self._waiting.setdefault(name, _Waiting(at_s))

    async def _found(
        self, service: RepairService, source: Source, since_us: int
    ) -> tuple[list[str], list[str]]:
        book = await service.gaps()
        names = await service.concerned(book, since_us, FOREVER_US)
        seen = set(names)
        found = [
            name async for name in unheard(self._config, source, book, since_us, FOREVER_US, seen)
        ]
        return names, found

    async def _one(self, service: RepairService, name: str, book: GapBook) -> None:
        """Repair a conversation, or let it wait again.

        Raises:
            AuthError, ConfigError, StorageError: It is not this conversation that fails.
        """
        waiting = self._waiting[name]
        result = await service.repair(name, book)
        outcome, error = result.outcome, result.error
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
