"""Building the archiving of the platform's conversations: source, place, records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

import msgspec

from steno.adapters.platform_http import trusted_tls
from steno.adapters.state_dir import StateDir
from steno.adapters.stored_transcripts import (
    DetailsFinder,
    DocumentTranscripts,
    FetchLimits,
    LinkStore,
    PacedCalls,
    PlatformTranscripts,
)
from steno.app.archive import ArchiveOptions, Shop, require_options, rfc3339_now
from steno.app.archive_place import place_of
from steno.app.gateway import open_delivery
from steno.app.platform import hosts_of, open_platform, utc_us
from steno.archive.service import ArchiveService, Result, Surroundings, Tally
from steno.config import Config, Family, OAuthShape
from steno.core.ids import is_id
from steno.core.records import ArchivePayload, Draft, Kind, Origin, record_key
from steno.observability import LogTelemetry
from steno.ports.archive import Manifest, TranscriptSource
from steno.wire.oauth import Feature

SOURCE = "archive"
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which conversations: ids, or those that began in a range of time.

    Attributes:
        ids: Read as they are needed; those that are no ids are told and left out.
        from_us, to_us: UTC microseconds; no range where ``to_us`` is 0.
        on_bad: Told of a line that is no id, by its number from 1.
    """

    ids: Iterable[str] = ()
    from_us: int = 0
    to_us: int = 0
    on_bad: Callable[[int], None] = lambda line: None


@dataclass(frozen=True, slots=True)
class Archiving:
    """What a run came to; ``bad_ids`` were no ids."""

    tally: Tally
    bad_ids: int
    drained: bool


@dataclass(frozen=True, slots=True)
class Source:
    """The platform's stored transcripts, open."""

    transcripts: TranscriptSource
    finder: DetailsFinder
    host_group: str
    calls: PacedCalls


async def open_source(
    config: Config,
    state: StateDir,
    stack: AsyncExitStack,
    telemetry: LogTelemetry,
) -> Source:
    """Open the platform's stored transcripts; ``stack`` closes them.

    Raises:
        ConfigError: A credential, host or network is not acceptable.
    """
    wanted = config.archive
    platform = await open_platform(
        config,
        stack,
        tokens_dir=state.tokens,
        telemetry=telemetry,
        features=(Feature.ARCHIVE,),
        shape=OAuthShape.FORM,
    )
    for manager in platform.managers:
        _beside(stack, manager.run)
    group = hosts_of(config).api
    calls = PacedCalls(
        platform.primary.http,
        per_minute=wanted.per_minute,
        patience_s=wanted.patience_s,
        telemetry=telemetry,
    )
    links = await stack.enter_async_context(
        LinkStore(
            group,
            allow=wanted.link_allow,
            tls=trusted_tls(config.platform.ca_file),
            proxy=config.platform.proxy or None,
        )
    )
    limits = FetchLimits(
        poll_s=wanted.poll_s,
        poll_limit_s=wanted.poll_limit_s,
        missing_s=wanted.missing_s,
        renewals=wanted.renewals,
    )
    transcripts: TranscriptSource
    if config.platform.family is Family.GENESYS_CLOUD:
        transcripts = PlatformTranscripts(
            calls,
            links,
            limits=limits,
            telemetry=telemetry,
            by_recording=wanted.per_recording,
        )
    else:
        transcripts = DocumentTranscripts(calls, links, limits=limits, telemetry=telemetry)
        stack.callback(transcripts.close)
    return Source(transcripts, DetailsFinder(calls, poll_s=wanted.poll_s), group.authority, calls)


async def archive_conversations(
    config: Config,
    wanted: Wanted,
    options: ArchiveOptions,
    *,
    stop: asyncio.Event,
    telemetry: LogTelemetry,
) -> Archiving:
    """Archive conversations, and store a record of each for the destinations.

    Raises:
        ConfigError, AuthError: It can never work as it is set up.
        StenoError: The conversations of a range cannot be found, or the disk is full.
    """
    require_options(config, options)
    async with AsyncExitStack() as stack:
        state = StateDir(config.state_dir)
        state.prepare()
        stack.enter_context(state)
        source = await open_source(config, state, stack, telemetry)
        place = await asyncio.to_thread(place_of, config, telemetry) if options.archives else None
        # No capability by name: without a destination, records stay in the store.
        delivery = await open_delivery(config, state, stack, telemetry=telemetry, features=())
        shop = Shop(config, options, place)
        stack.callback(shop.give_up)
        service = ArchiveService(
            Surroundings(
                source=source.transcripts,
                workshop=shop,
                telemetry=telemetry,
                now=rfc3339_now,
                store=place,
                one_each=config.platform.family is not Family.GENESYS_CLOUD,
                records=delivery.store,
                draft=drafts_of(source.host_group, place.url_of) if place is not None else None,
                on_result=shop.tell,
                on_bytes=options.on_bytes,
            ),
            concurrency=config.archive.concurrency,
            again=options.again,
        )
        ids = _Ids(wanted, source.finder)
        async with aclosing(ids.all()) as names:  # a details job is deleted while we are signed in
            tally = await service.run(names, stop)
        if not stop.is_set():
            await asyncio.to_thread(shop.close)
        drained = await delivery.drain(0.0 if stop.is_set() else config.delivery.drain_s)
        return Archiving(tally, ids.bad, drained)


class _Ids:
    """Conversation ids from wherever they are wanted; each once, as far as ids are given."""

    def __init__(self, wanted: Wanted, finder: DetailsFinder) -> None:
        self._wanted = wanted
        self._finder = finder
        self.bad = 0

    async def all(self) -> AsyncGenerator[str, None]:
        """Yield them."""
        seen: set[str] = set()
        for line, text in enumerate(self._wanted.ids, start=1):
            name = text.strip()
            if not name or name in seen:
                continue
            if not is_id(name):
                self.bad += 1
                self._wanted.on_bad(line)
                continue
            seen.add(name)
            yield name
        if self._wanted.to_us:
            wanted = self._wanted
            found = self._finder.conversations(wanted.from_us, wanted.to_us)
            async with aclosing(found):
                async for name in found:
                    if name not in seen:
                        yield name


def drafts_of(host_group: str, url_of: Callable[[str], str]) -> Callable[[Result, Manifest], Draft]:
    """Return what makes the record of an archived transcript.

    Its key is of the object's content: what is archived once is told once, however often a batch
    is begun again.
    """

    def draft(result: Result, manifest: Manifest) -> Draft:
        payload = ArchivePayload(
            summary=msgspec.json.decode(bytes(result.summary), type=dict[str, object]),
            key=manifest.key,
            url=url_of(manifest.key),
            size=manifest.size,
            sha256=manifest.sha256,
            communication=result.communication,
            made_with=manifest.made_with,
            content_encoding=manifest.content_encoding,
        )
        name = f"archive:{manifest.sha256}"
        return Draft(
            Kind.ARCHIVE,
            SOURCE,
            result.conversation,
            result.communication,
            name,
            0,
            record_key(host_group, result.conversation, result.communication, name),
            Origin.BACKFILL,
            utc_us(),
            _encode(payload),
        )

    return draft


def _beside(stack: AsyncExitStack, work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run something beside everything else until the stack is closed."""
    task = asyncio.create_task(work(), name="tokens")

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)
