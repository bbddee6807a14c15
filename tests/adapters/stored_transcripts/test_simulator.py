"""Fetching from the simulated platform, in both shapes, through all its troubles."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import msgspec
import pytest

from conformance.fetch_rig import QUICK, all_of, fetched, sim_rig
from steno.core.stored import FieldsRead
from steno.errors import AuthError, IntegrityError, ProtocolError
from steno.ports.archive import Nothing, NoTranscript
from steno.wire.stored_transcripts import parse_stored
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.oauth import Client
from steno_sim.server import Simulator

CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
BEGAN_US = 1_767_571_200_000_000  # 2026-01-05


def simulator(clients: list[Client] | None = None, **archive: Any) -> Simulator:
    return Simulator("quiet", clients=clients, archive=ArchiveSettings(**archive))


def segments_of(data: bytes) -> int:
    told = parse_stored(data)[-1]
    assert isinstance(told, FieldsRead)
    return told.segments


@pytest.mark.parametrize("inline", [0, 10_000_000])
async def test_a_document_is_fetched_inline_or_through_its_link(inline: int) -> None:
    """Every turn there is."""
    async with simulator(inline_bytes=inline) as sim, sim_rig(sim) as rig:
        (data,) = await all_of(rig.document, CALL)
        assert segments_of(data) == sim.archive.truth(CALL)[0].count


async def test_the_platforms_files_are_fetched_leg_by_leg() -> None:
    """And recording by recording."""
    async with simulator(legs=(2, 2), parts=(2, 2)) as sim, sim_rig(sim) as rig:
        truths = sim.archive.truth(CALL, "platform")
        by_leg = await all_of(rig.platform, CALL)
        by_part = await all_of(rig.by_recording, CALL)
        assert [segments_of(data) for data in by_part] == [truth.count for truth in truths]
        assert by_leg == by_part[::2]


TROUBLES: list[dict[str, Any]] = [
    {"url_ttl_s": 0.15, "expiry": "cut", "rate": 600_000},
    {"url_ttl_s": 0.15, "expiry": "cut", "rate": 600_000, "expired_status": 410},
    {"cut": 0.5},
    {"cut": 0.5, "range": False},
    {"cut": 0.5, "etag": False},
    {"unavailable": 0.5},
    {"gzip": True, "cut": 0.4},
    {"redirects": 3, "cut": 0.4},
    {"length": "none", "cut": 0.3},
    {"errors": 0.2, "lost": 0.1, "throttled": 0.2, "throttle_s": 0.02},
    {"queued_s": (0.1, 0.1), "processing_s": (0.1, 0.1)},
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: "-".join(trouble)[:40])
@pytest.mark.parametrize("shape", ["document", "platform"])
async def test_trouble_changes_nothing_of_what_is_fetched(
    shape: str, trouble: dict[str, Any]
) -> None:
    """Ends of links, breaks, refusals, limits: the same bytes in the end."""
    size: dict[str, Any] = {"size": "300KB", "inline_bytes": 0}
    async with simulator(**size) as sim, sim_rig(sim) as rig:
        (calm,) = await all_of(getattr(rig, shape), CALL)
    limits = msgspec.structs.replace(QUICK, renewals=20, poll_limit_s=5.0, missing_s=5.0)
    async with simulator(**size, **trouble) as sim, sim_rig(sim, limits=limits) as rig:
        (data,) = await all_of(getattr(rig, shape), CALL)
        stats = sim.archive.stats()
    assert hashlib.sha256(data).digest() == hashlib.sha256(calm).digest()
    if "url_ttl_s" in trouble:
        assert stats["links"] > 1  # type: ignore[operator]  # a count


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ({"failed": 1.0}, Nothing.FAILED),
        ({"never": 1.0}, Nothing.IN_WORK),
        ({"missing": 1.0}, Nothing.MISSING),
        ({"empty": 1.0, "inline_bytes": 1_000_000}, Nothing.EMPTY),
        ({"legacy": 1.0, "legacy_form": "list"}, Nothing.LEGACY),
        ({"legacy": 1.0, "legacy_form": "camel"}, Nothing.LEGACY),
        ({"legacy": 1.0, "legacy_form": "nested"}, Nothing.LEGACY),
    ],
)
async def test_documents_without_a_transcript_say_why(
    trouble: dict[str, Any], reason: Nothing
) -> None:
    """Each in its own word."""
    async with simulator(**trouble) as sim, sim_rig(sim) as rig:
        assert await rig.document.find(CALL) == NoTranscript(CALL, reason)


async def test_old_answers_without_status_are_taken() -> None:
    """They have turns, and so are done."""
    async with simulator(legacy=1.0, legacy_form="no_status") as sim, sim_rig(sim) as rig:
        assert len(await all_of(rig.document, CALL)) == 1


@pytest.mark.parametrize("length", ["long"])
async def test_a_length_that_is_not_the_files_is_found(length: Any) -> None:
    """By what the store says of its end."""
    async with simulator(size="1MB", inline_bytes=0, length=length) as sim, sim_rig(sim) as rig:
        with pytest.raises(IntegrityError):
            await all_of(rig.document, CALL)


async def test_rights_that_are_missing_are_named() -> None:
    """Scopes of one family, permissions of the other."""
    rights = ["recording:recording:view", "conversation:communication:view"]
    poor = Client("poor", scopes=["interaction:read"], permissions=rights)
    async with simulator([poor]) as sim, sim_rig(sim, client="poor") as rig:
        for source, named in ((rig.document, "media:read"), (rig.platform, "Analytics:data:view")):
            with pytest.raises(AuthError, match=named):
                await source.find(CALL)
        with pytest.raises(AuthError, match="conversationDetail"):
            _ = [one async for one in rig.finder.conversations(BEGAN_US, BEGAN_US + 1)]


async def test_a_conversation_that_is_not_ours_fails_alone() -> None:
    """A batch goes on with the others."""
    async with simulator(forbidden=1.0) as sim, sim_rig(sim) as rig:
        for source in (rig.document, rig.platform):
            with pytest.raises(ProtocolError) as caught:
                await source.find(CALL)
            assert caught.value.fields["status"] == 403


@pytest.mark.parametrize("lag_s", [0.0, 1e9])
async def test_all_calls_of_a_month_are_found_once(lag_s: float) -> None:
    """By jobs, or by the query where jobs know nothing yet; chats are none."""
    async with (
        simulator(
            conversations=250, page=40, chats=0.2, lag_s=lag_s, job_queued_s=0.05, job_failed=0.3
        ) as sim,
        sim_rig(sim) as rig,
    ):
        end_us = BEGAN_US + 15 * 86_400_000_000
        found = Counter(
            [one async for one in rig.finder.conversations(BEGAN_US + 1_000_000, end_us)]
        )
        listed = sim.archive.listing()
    wanted = {
        one["id"]
        for one in listed
        if not one["chat"] and BEGAN_US + 1_000_000 <= one["begins_ms"] * 1000 < end_us
    }
    assert set(found) == wanted
    assert set(found.values()) == {1}
    assert len(wanted) > 50


@pytest.mark.soak
async def test_two_hundred_megabytes_of_the_simulator_through_ends_of_links() -> None:
    """Ten links and more, each byte sent once."""
    async with (
        simulator(
            size="200MB", inline_bytes=0, url_ttl_s=0.5, expiry="cut", rate=30_000_000
        ) as sim,
        sim_rig(sim) as rig,
    ):
        found = await rig.document.find(CALL)
        assert not isinstance(found, NoTranscript)
        digest, size = hashlib.sha256(), 0
        async for block in rig.document.download(found[0]):
            digest.update(block)
            size += len(block)
        stats = sim.archive.stats()
    async with simulator(size="200MB", inline_bytes=0) as sim, sim_rig(sim) as rig:
        assert hashlib.sha256(await fetched(rig.document, found[0])).digest() == digest.digest()
    assert stats["links"] > 10  # type: ignore[operator]  # a count
    assert size >= 200_000_000
