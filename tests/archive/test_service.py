"""What the service asks of a store and its writers, and in which order."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from steno.app.archive import ArchiveOptions, Shop
from steno.app.archive_place import place_of
from steno.archive.service import ArchiveService, Outcome, Result, Surroundings
from steno.config import load
from steno.core.records import Draft, Kind, Origin
from steno.errors import PreconditionFailed, StorageFull
from steno.observability import LogTelemetry
from steno.ports import Commit
from steno.ports.archive import (
    Archived,
    FetchProgress,
    FoundTranscript,
    Manifest,
    NewItem,
    Verdict,
    WriteOutcome,
)

TURN = {"start_time": 0, "end_time": 1, "text": "hi", "speaker_id": "a", "confidence": 0.5}
BODY = json.dumps({"transcript": [TURN], "participants": []}).encode()


class Source:
    """One transcript of every conversation; in ``broken`` it ends too early."""

    async def find(self, conversation: str) -> list[FoundTranscript]:
        """Return it."""
        return [FoundTranscript(conversation)]

    async def download(
        self, found: FoundTranscript, progress: FetchProgress | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Give it out."""
        del progress
        yield BODY[:-9] if found.conversation == "broken" else BODY


@dataclass
class Shelf:
    """A store that remembers what is asked of it, and of its writers.

    Attributes:
        held: The manifest of every key.
        refusal: What ``finish`` raises.
        may_write: Writing lasts until it is set.
    """

    held: Manifest | None = None
    outcome: WriteOutcome = WriteOutcome.WRITTEN
    refusal: Exception | None = None
    may_write: threading.Event = field(default_factory=threading.Event)
    calls: list[str] = field(default_factory=list)
    in_write: threading.Event = field(default_factory=threading.Event)

    def url_of(self, key: str) -> str:
        """Return an address."""
        return f"file:///{key}"

    def writer(self, item: NewItem) -> Shelf:
        """Begin an object."""
        del item
        return self

    def manifest(self, key: str, *, conversation: str = "") -> Manifest | None:
        """Return what is held."""
        del key, conversation
        return self.held

    def manifests(self, *, conversation: str = "", since_us: int = 0) -> Iterator[Manifest]:
        """Nobody asks."""
        raise AssertionError

    def read(self, key: str) -> Iterator[bytes]:
        """Nobody asks."""
        raise AssertionError

    def verify(self, manifest: Manifest) -> Verdict:
        """Nobody asks."""
        raise AssertionError

    def erase(self, conversation: str) -> int:
        """Nobody asks."""
        raise AssertionError

    def write(self, data: bytes) -> None:
        """Take content, which may last."""
        del data
        self.in_write.set()
        assert self.may_write.wait(10)
        self.calls.append("written")

    def finish(self, summary: bytes) -> Archived:
        """End well, or as is told."""
        self.calls.append("finished")
        if self.refusal is not None:
            raise self.refusal
        there = self.held or Manifest(1, "k", "complete", "c", summary=msgspec.Raw(summary))
        return Archived(self.outcome, "file:///k", there)

    def abort(self) -> None:
        """End otherwise."""
        self.calls.append("aborted")


class Bench:
    """A service over a shelf."""

    def __init__(self, folder: Path, shelf: Shelf) -> None:
        config = load(None, {"HOME": str(folder)}, {"archive.url": str(folder / "archive")})
        self.results: list[Result] = []
        self.commits: list[Commit] = []
        self.stop = asyncio.Event()
        shelf.may_write.set()
        self.around = Surroundings(
            source=Source(),
            workshop=Shop(config, ArchiveOptions(), place_of(config)),
            telemetry=LogTelemetry(level="error"),
            now=lambda: "2026-01-05T10:00:00Z",
            store=shelf,
            records=self,
            draft=draft,
            on_result=self.results.append,
        )

    def submit(self, commit: Commit) -> asyncio.Future[list[Any]]:  # Any: Record
        """Take a record."""
        self.commits.append(commit)
        done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        done.set_result([])
        return done

    async def archive(self, *names: str) -> list[Outcome]:
        """Archive conversations, one after the other."""

        async def ids() -> AsyncGenerator[str, None]:
            for name in names:
                yield name

        await ArchiveService(self.around, concurrency=1).run(ids(), self.stop)
        return [one.outcome for one in self.results]


def draft(result: Result, manifest: Manifest) -> Draft:
    """Return a record."""
    return Draft(
        Kind.ARCHIVE,
        "archive",
        result.conversation,
        "",
        manifest.key,
        0,
        "k",
        Origin.BACKFILL,
        0,
        b"",
    )


def held(state: str = "complete") -> Manifest:
    """Return the manifest of another run."""
    summary = msgspec.Raw(b'{"interaction_id":"of then"}')
    return Manifest(1, "k", state, "conv-1", made_with="document", summary=summary)


async def test_a_writer_that_has_finished_is_not_aborted(tmp_path: Path) -> None:
    """Whichever way it finished."""
    shelf = Shelf()
    assert await Bench(tmp_path, shelf).archive("conv-1") == [Outcome.WRITTEN]
    assert shelf.calls[-1] == "finished"
    shelf = Shelf(refusal=PreconditionFailed())
    assert await Bench(tmp_path, shelf).archive("conv-1") == [Outcome.CONFLICT]
    assert shelf.calls[-1] == "finished"


async def test_a_writer_whose_transcript_fails_is_aborted(tmp_path: Path) -> None:
    """And the next conversation goes on."""
    shelf = Shelf()
    outcomes = await Bench(tmp_path, shelf).archive("broken", "conv-1")
    assert outcomes == [Outcome.FAILED, Outcome.WRITTEN]
    assert shelf.calls.count("aborted") == shelf.calls.count("finished") == 1
    assert shelf.calls.index("aborted") < shelf.calls.index("finished")


async def test_nothing_is_given_up_under_a_threads_hands(tmp_path: Path) -> None:
    """Stopped in the middle of a write, the writer is aborted after it."""
    shelf = Shelf()
    bench = Bench(tmp_path, shelf)
    shelf.may_write.clear()
    going = asyncio.create_task(bench.archive("conv-1"))
    await asyncio.to_thread(shelf.in_write.wait, 10)
    bench.stop.set()
    asyncio.get_running_loop().call_later(0.05, shelf.may_write.set)
    await going
    assert shelf.calls[-1] == "aborted"
    assert set(shelf.calls) == {"written", "aborted"}


async def test_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    """Nobody else could get past it."""
    shelf = Shelf(refusal=StorageFull())
    with pytest.raises(StorageFull):
        await Bench(tmp_path, shelf).archive("conv-1", "conv-2")
    assert shelf.calls.count("finished") == 1


async def test_a_claim_is_not_an_archived_transcript(tmp_path: Path) -> None:
    """Somebody began it and may be dead."""
    shelf = Shelf(held=held("claimed"))
    assert await Bench(tmp_path, shelf).archive("conv-1") == [Outcome.WRITTEN]


async def test_the_summary_of_what_was_there_is_the_one_that_counts(tmp_path: Path) -> None:
    """Known or the same: it says when and where it was archived."""
    for shelf, outcome in (
        (Shelf(held=held()), Outcome.KNOWN),
        (Shelf(held=msgspec.structs.replace(held(), made_with="x")), Outcome.SAME),
    ):
        shelf.outcome = WriteOutcome.SAME
        bench = Bench(tmp_path, shelf)
        assert await bench.archive("conv-1") == [outcome]
        assert json.loads(bytes(bench.results[0].summary)) == {"interaction_id": "of then"}


async def test_what_is_known_is_recorded_once_more(tmp_path: Path) -> None:
    """A kill between archive and outbox loses no record; one that is there has the same key."""
    bench = Bench(tmp_path, Shelf(held=held()))
    await bench.archive("conv-1")
    (commit,) = bench.commits
    assert [one.kind for one in commit.drafts] == [Kind.ARCHIVE]
