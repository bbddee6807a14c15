"""What the gateway knows of a capability: its spine, its sources and how it is doing."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from steno.adapters.sealing import load_sealer
from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite import SqliteStore
from steno.app.platform import utc_us
from steno.app.redactor import make_redactor
from steno.config import Config
from steno.core.language import LanguageRule
from steno.ports import LiveFeed, ModelSwitcher, Telemetry
from steno.spine.machine import Machine
from steno.spine.pipeline import Pipeline, PipelineSettings
from steno.spine.service import SpineService, SpineSettings

if TYPE_CHECKING:
    from steno.app.exports import ExportRequest


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What one run is told beside the settings.

    Attributes:
        on_listening: Told the address of the audio server, ``host:port``.
        events: Files of recorded events (``-``: standard input) in place of a live source.
        on_progress: Told bytes read, and bytes in all (0: nobody knows), of recorded events.
        export: What is exported while running, in place of what the settings say.
        export_now: Set by whoever wants an export in between; cleared when it is begun.
    """

    on_listening: Callable[[str], None] | None = None
    events: tuple[str, ...] = ()
    on_progress: Callable[[int, int], None] | None = None
    export: ExportRequest | None = None
    export_now: asyncio.Event | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """What every capability is built from."""

    config: Config
    state: StateDir
    store: SqliteStore
    telemetry: Telemetry
    stop: asyncio.Event
    run: RunOptions = field(default_factory=RunOptions)


@dataclass(frozen=True, slots=True)
class Capability:
    """A capability, ready to run.

    Attributes:
        trouble: Why it is not ready to work; empty when it is.
        counts: Totals of its own for the closing summary.
        closing: Work after the feeds have ended and what was open is stored, within a number of
            seconds; what it adds is committed too.
        details: Facts for the closing summary that are no totals, under the capability's name.
        background: Work beside the feeds, cancelled at the end.
    """

    name: str
    spine: SpineService
    feeds: Sequence[LiveFeed]
    trouble: Callable[[], str]
    counts: Callable[[], dict[str, int]] = dict
    details: Callable[[], dict[str, Any]] | None = None
    closing: Callable[[float], Awaitable[object]] | None = None
    background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = field(default=())

    async def finish(self, *, timeout_s: float) -> bool:
        """Commit everything that is left; False when time was up before that."""
        finished = await self.spine.finish(timeout_s=timeout_s)
        if self.closing is None:
            return finished
        await self.closing(timeout_s)
        return await self.spine.finish(timeout_s=timeout_s) and finished


def make_pipeline(
    config: Config, host_group: str, *, source: str, follows_language: bool = True
) -> Pipeline:
    """Build the pipeline of a source."""
    language = config.language
    return Pipeline(
        PipelineSettings(
            source=source,
            host_group=host_group,
            window_s=config.live.window_s,
            hold_s=config.redaction.hold_s,
            language=LanguageRule(
                initial=language.initial,
                threshold=language.threshold,
                min_evidence=language.min_evidence,
                cooldown_s=language.cooldown_s,
            ),
            follows_language=follows_language,
        ),
        make_redactor(config),
    )


def make_spine(
    shared: Shared,
    pipeline: Machine,
    *,
    switcher: ModelSwitcher | None = None,
    journal: str = "",
    finished: Literal["sentences", "segments"] = "sentences",
) -> SpineService:
    """Build the service that commits what a pipeline decides."""
    return SpineService(
        pipeline,
        store=shared.store,
        sealer=load_sealer(shared.state.journal_key),
        switcher=switcher,
        telemetry=shared.telemetry,
        settings=SpineSettings(
            commit_s=shared.config.store.group_commit_ms / 1000,
            journal=journal,
            finished=finished,
        ),
        clock=time.monotonic,
        utc_us=utc_us,
        draw=random.random,
    )
