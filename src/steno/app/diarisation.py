"""Building ``diarisation``: a source of segments, the machine that keeps them, exports."""

from __future__ import annotations

import asyncio
import math
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steno.adapters.platform_http import NotificationsApi
from steno.adapters.store_sqlite.timeline import TimelineReader
from steno.app.capability import Capability, RunOptions, Shared, make_spine
from steno.app.exports import ExportRequest, export_once, is_appended, request_of, require_export
from steno.app.platform import (
    Platform,
    dialer_of,
    endpoints_of,
    first_token,
    hosts_of,
    notifications_feed,
    open_platform,
    timing,
    utc_us,
)
from steno.app.redactor import make_redactor
from steno.config import Config, OAuthShape, SegmentSource
from steno.core.failover import FailoverPolicy
from steno.core.records import Draft
from steno.diarisation.roster import (
    Attribution,
    LabelAttribution,
    RecordedAttribution,
    RosterAttribution,
    RosterSettings,
)
from steno.diarisation.roster_service import RosterService
from steno.diarisation.segments import SegmentPipeline, SegmentSettings
from steno.feeds.event_socket import EventSocketFeed, EventSocketSettings, StreamSettings
from steno.ports import LiveFeed, Telemetry
from steno.spine.service import SpineService
from steno.wire.oauth import Feature

if TYPE_CHECKING:
    from steno.feeds.recorded import RecordedFeed

JOURNAL = "diarisation"
TOKEN_MARGIN_S = 120.0
"""The document renews its token two minutes early."""

Work = Callable[[], Coroutine[Any, Any, None]]


async def open_diarisation(shared: Shared, stack: AsyncExitStack) -> Capability:
    """Build the capability; ``stack`` closes what it opens.

    Raises:
        ConfigError, AuthError: It can never work as it is set up.
    """
    config, run = shared.config, shared.run
    request = run.export or (request_of(config) if config.diarisation.out else None)
    if request is not None:
        require_export(config, request)
    timeline = stack.enter_context(TimelineReader(shared.state.database))
    attribution = _attribution(config, run)
    pipeline = SegmentPipeline(
        _segment_settings(config, replayable=bool(run.events)),
        make_redactor(config),
        attribution,
        latest=timeline.latest,
        knows=timeline.knows,
    )
    spine = make_spine(shared, pipeline, journal=JOURNAL, finished="segments")
    background: list[Work] = []
    feed: LiveFeed
    rosters = recorded = None
    if run.events:
        feed = recorded = _recorded_feed(shared, stack, attribution)
    else:
        platform = await _open_platform(shared, stack)
        background += [manager.run for manager in platform.managers]
        if isinstance(attribution, RosterAttribution):
            rosters = _rosters(shared, platform, attribution, pipeline, spine)
            background.append(rosters.run)
        feed = _live_feed(config, platform, shared.telemetry, rosters)
        await first_token(platform, shared.stop, shared.telemetry)
    if request is not None and (exports := _exports(shared, request)) is not None:
        background.append(exports)

    def trouble() -> str:
        return "" if getattr(feed, "connected", 1) else "not connected"

    return Capability(
        "diarisation",
        spine,
        (feed,),
        trouble,
        details=lambda: _details(pipeline, recorded),
        closing=_last_rosters(rosters) if rosters is not None else None,
        background=tuple(background),
    )


def _details(pipeline: SegmentPipeline, recorded: RecordedFeed | None) -> dict[str, Any]:
    """Return the facts for the closing summary."""
    facts: dict[str, Any] = {
        "audited": dict(pipeline.audited),
        "repeats": pipeline.repeats,
        "corrected": pipeline.corrected,
        "causes": [
            {"conversation": cause.conversation, "reason": cause.reason}
            for cause in pipeline.causes()
        ],
    }
    if recorded is not None:
        progress = recorded.progress
        facts["recorded"] = {
            "messages": progress.messages,
            "ignored": progress.ignored,
            "malformed": progress.malformed,
            "damaged": progress.damaged_files,
        }
    return facts


def _segment_settings(config: Config, *, replayable: bool) -> SegmentSettings:
    """Return the machine's settings.

    Args:
        replayable: The input can be read again: nothing open is journalled, and segments settle
            by the conversation's own clock.
    """
    wanted = config.diarisation
    return SegmentSettings(
        source=JOURNAL,
        host_group=hosts_of(config).api.authority,
        audit_confidence=wanted.audit_confidence,
        settle_s=math.inf if replayable else wanted.settle_s,
        horizon_s=wanted.horizon_s if replayable else None,
        hold_s=config.redaction.hold_s,
        journal_s=math.inf if replayable else 0.05,
    )


def _attribution(config: Config, run: RunOptions) -> Attribution:
    wanted = config.diarisation
    rosters = RosterSettings(names=wanted.names, roster_s=wanted.roster_s)
    if run.events:
        return RecordedAttribution(rosters)
    if wanted.source is SegmentSource.NOTIFICATIONS:
        return RosterAttribution(rosters)
    return LabelAttribution()


# --- sources ---------------------------------------------------------------------------------


async def _open_platform(shared: Shared, stack: AsyncExitStack) -> Platform:
    return await open_platform(
        shared.config,
        stack,
        tokens_dir=shared.state.tokens,
        telemetry=shared.telemetry,
        features=(Feature.DIARISE,),
        shape=OAuthShape.FORM,
        margin_s=TOKEN_MARGIN_S,
    )


def _live_feed(
    config: Config, platform: Platform, telemetry: Telemetry, rosters: RosterService | None
) -> LiveFeed:
    wanted, live = config.diarisation, config.live
    if wanted.source is SegmentSource.NOTIFICATIONS:
        return notifications_feed(
            config,
            platform,
            telemetry,
            conversations=wanted.conversations,
            queues=wanted.queues,
            users=wanted.users,
            watcher=rosters,
        )
    return EventSocketFeed(
        endpoints_of(platform),
        dialer=dialer_of(config),
        timing=timing(),
        telemetry=telemetry,
        request_id=lambda: str(uuid.uuid4()),
        conversations=wanted.conversations,
        settings=EventSocketSettings(
            path=wanted.path,
            events=wanted.events,
            subscribe=wanted.subscribe,
            answer_limit_s=live.handshake_timeout_s,
            stream=StreamSettings(
                ping_interval_s=live.ping_interval_s,
                pong_limit_s=live.pong_timeout_s,
                handshake_limit_s=live.handshake_timeout_s,
                max_message_bytes=live.max_message_bytes,
                failover=FailoverPolicy(
                    backoff_first_s=wanted.backoff_first_s,
                    backoff_max_s=wanted.backoff_max_s,
                    jitter=0.0,
                    jitter_s=wanted.jitter_s,
                    throttled_factor=2.0,
                    tries=live.tries_before_failover,
                    hold_s=live.failback_after_s,
                ),
            ),
        ),
    )


def _recorded_feed(shared: Shared, stack: AsyncExitStack, attribution: Attribution) -> RecordedFeed:
    from steno.adapters.recorded_events import RecordedEvents
    from steno.feeds.recorded import Progress, RecordedFeed, RecordedSettings

    config, run = shared.config, shared.run
    reader = RecordedEvents(
        [None if one == "-" else Path(one) for one in run.events],
        max_message_bytes=config.live.max_message_bytes,
    )
    stack.callback(reader.close)

    def told(progress: Progress) -> None:
        if run.on_progress is not None:
            run.on_progress(progress.done_bytes, progress.total_bytes or 0)

    return RecordedFeed(
        reader,
        timing=timing(),
        telemetry=shared.telemetry,
        settings=RecordedSettings(
            conversations=config.diarisation.conversations,
            events=config.diarisation.events,
            max_message_bytes=config.live.max_message_bytes,
        ),
        on_progress=told,
        on_roster=attribution.seen if isinstance(attribution, RecordedAttribution) else None,
    )


# --- who spoke -------------------------------------------------------------------------------


def _rosters(
    shared: Shared,
    platform: Platform,
    attribution: RosterAttribution,
    pipeline: SegmentPipeline,
    spine: SpineService,
) -> RosterService:
    def emit(drafts: list[Draft]) -> None:
        for draft in drafts:
            pipeline.adopt(draft)
        spine.changed()

    return RosterService(
        attribution,
        NotificationsApi(platform.primary.http),
        timeline=lambda: TimelineReader(shared.state.database),
        emit=emit,
        telemetry=shared.telemetry,
        clock=time.monotonic,
        utc_us=utc_us,
        draw=random.random,
    )


def _last_rosters(rosters: RosterService) -> Callable[[float], Awaitable[bool]]:
    async def finish(timeout_s: float) -> bool:
        return await rosters.finish(timeout_s=timeout_s)

    return finish


# --- exports while running -------------------------------------------------------------------


def _exports(shared: Shared, request: ExportRequest) -> Work | None:
    """Return the work of exporting while running: when asked for, and at an interval."""
    config, run = shared.config, shared.run
    follows = config.diarisation.follow
    if request.out == "-" or "-" in run.events or (follows and is_appended(request)):
        return None
    asked = run.export_now or asyncio.Event()
    interval_s = config.diarisation.interval_s if follows else None

    async def work() -> None:
        while True:
            try:
                async with asyncio.timeout(interval_s):
                    await asked.wait()
            except TimeoutError:
                pass
            asked.clear()
            await export_once(shared.state.database, request, shared.telemetry)

    return work
