"""What fetches stored transcripts, wired to a platform on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from conformance.scripted_http import FixedToken, Noted
from conformance.sim_peers import Peer
from steno.adapters.platform_http import HttpClient, PlatformHttp
from steno.adapters.stored_transcripts import (
    DetailsFinder,
    DocumentTranscripts,
    FetchLimits,
    LinkStore,
    PacedCalls,
    PlatformTranscripts,
)
from steno.core.hosts import Host, parse_host
from steno.ports import TokenSource
from steno.ports.archive import FoundTranscript, NoTranscript, TranscriptSource
from steno_sim.oauth import DEFAULT_CLIENT_ID
from steno_sim.server import Simulator

QUICK = FetchLimits(
    poll_s=0.03,
    poll_most_s=0.06,
    poll_limit_s=0.6,
    renewals=5,
    retry_first_s=0.01,
    retry_most_s=0.02,
)


@dataclass
class SimToken:
    """Signs in at the simulator; again after a refusal."""

    peer: Peer
    client: str = DEFAULT_CLIENT_ID
    refused: list[str] = field(default_factory=list)

    async def token(self, *, refused: str = "") -> str:
        """See ``ports.TokenSource``."""
        if refused:
            self.refused.append(refused)
        if refused or not self.peer.token:
            await self.peer.sign_in(self.client)
        return self.peer.token


@dataclass
class FetchRig:
    """Both sources and the finder over one platform."""

    document: DocumentTranscripts
    platform: PlatformTranscripts
    by_recording: PlatformTranscripts
    finder: DetailsFinder
    telemetry: Noted
    calls: PacedCalls


@asynccontextmanager
async def fetch_rig(
    host: Host,
    tokens: TokenSource | None = None,
    *,
    limits: FetchLimits = QUICK,
    per_minute: float = 1_000_000.0,
    patience_s: float = 5.0,
    retry_first_s: float = 0.01,
) -> AsyncIterator[FetchRig]:
    """Wire everything while the block runs; what was logged holds no link afterwards."""
    telemetry = Noted()
    async with HttpClient() as exchange, LinkStore(host, stall_s=5.0) as store:
        http = PlatformHttp(
            host,
            tokens or FixedToken("planted-token"),
            exchange=exchange,
            telemetry=telemetry,
        )
        calls = PacedCalls(
            http,
            per_minute=per_minute,
            telemetry=telemetry,
            patience_s=patience_s,
            retry_first_s=retry_first_s,
        )
        document = DocumentTranscripts(calls, store, limits=limits, telemetry=telemetry)
        yield FetchRig(
            document,
            PlatformTranscripts(calls, store, limits=limits, telemetry=telemetry),
            PlatformTranscripts(
                calls, store, limits=limits, telemetry=telemetry, by_recording=True
            ),
            DetailsFinder(calls, poll_s=0.03, job_limit_s=2.0),
            telemetry,
            calls,
        )
        document.close()
    assert "http://" not in telemetry.text()
    assert "planted" not in telemetry.text()


@asynccontextmanager
async def sim_rig(
    sim: Simulator, *, client: str = DEFAULT_CLIENT_ID, limits: FetchLimits = QUICK
) -> AsyncIterator[FetchRig]:
    """Wire everything to a simulator."""
    async with aiohttp.ClientSession() as session:
        tokens = SimToken(Peer(sim, session), client)
        async with fetch_rig(parse_host(sim.url, setting="host"), tokens, limits=limits) as rig:
            yield rig


async def fetched(source: TranscriptSource, found: FoundTranscript) -> bytes:
    """Download one transcript."""
    return b"".join([block async for block in source.download(found)])


async def all_of(source: TranscriptSource, conversation: str) -> list[bytes]:
    """Find a conversation's transcripts and download them."""
    found = await source.find(conversation)
    assert not isinstance(found, NoTranscript), found
    return [await fetched(source, one) for one in found]
