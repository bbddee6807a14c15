"""Batch download requests: their items, and how far they are. Pure: ``now`` is monotonic seconds.

An item asks for a conversation or one of its recordings, and becomes a result for each file
once it is looked into; ``expectedResultCount`` grows with that.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec

from steno_sim.pieces import stable_id
from steno_sim.recordings.catalogue import Catalogue, File, Recording
from steno_sim.recordings.settings import MediaSettings

MAX_ITEMS = 100
MAX_BATCHES = 10_000


class Item(msgspec.Struct, frozen=True):
    """What is asked for: a conversation, or one of its recordings."""

    conversationId: str  # noqa: N815 - the wire's own name
    recordingId: str | None = None  # noqa: N815 - the wire's own name


class Result(msgspec.Struct, frozen=True):
    """One file, or why there is none; ready from ``ready_s`` on."""

    conversation: str
    recording_id: str
    ready_s: float
    recording: Recording | None = None
    file: File | None = None
    error: str = ""


class Batch(msgspec.Struct):
    """One request; ``parts`` has the results of each item, ``issued`` when each got its address."""

    id: str
    client: str
    parts: list[list[Result]]
    names_status: bool
    issued: dict[int, float]


class BatchBook:
    """The batch requests of one platform, the newest ``MAX_BATCHES``."""

    def __init__(self, settings: MediaSettings, catalogue: Catalogue) -> None:
        self.submitted = 0
        self._settings = settings
        self._catalogue = catalogue
        self._batches: dict[str, Batch] = {}
        self._dice = random.Random("batches")  # noqa: S311  # nothing secret

    def submit(self, items: list[Item], *, client: str, now: float) -> Batch:
        """Accept a request of 1 to ``MAX_ITEMS`` items."""
        self.submitted += 1
        settings, dice = self._settings, self._dice
        parts, ready = [], now
        for item in items:
            ready += dice.uniform(*settings.item_s) / settings.clock
            parts.append(self._results(item, ready))
        names_status = dice.random() >= settings.missing_status
        batch = Batch(stable_id("batch", self.submitted), client, parts, names_status, {})
        self._batches[batch.id] = batch
        if len(self._batches) > MAX_BATCHES:
            self._batches.pop(next(iter(self._batches)))
        return batch

    def get(self, batch_id: str) -> Batch | None:
        """Give a request, or None."""
        return self._batches.get(batch_id)

    def _results(self, item: Item, ready: float) -> list[Result]:
        found = self._catalogue.of_conversation(item.conversationId)
        if item.recordingId:
            found = [r for r in found if r.id == item.recordingId]
        if not found:
            return [self._refused(item, item.recordingId or "", ready, "Recording not found")]
        results = []
        for recording in found:
            if recording.failing:
                text = "Recording could not be exported"
                results.append(self._refused(item, recording.id, ready, text))
            elif recording.archived:
                text = "Recording is archived"
                results.append(self._refused(item, recording.id, ready, text))
            else:
                results += [
                    Result(item.conversationId, recording.id, ready, recording, file)
                    for file in recording.files()
                ]
        return results

    @staticmethod
    def _refused(item: Item, recording: str, ready: float, error: str) -> Result:
        return Result(item.conversationId, recording, ready, error=error)


def status_of(batch: Batch, now: float) -> tuple[list[Result], dict[str, Any]]:
    """Give the results that are ready, and the counts and status of a request."""
    ready = [r for part in batch.parts for r in part if r.ready_s <= now]
    # An item counts as one result until it has been looked into.
    expected = sum(len(part) if part[0].ready_s <= now else 1 for part in batch.parts)
    failed = sum(bool(r.error) for r in ready)
    told: dict[str, Any] = {
        "jobId": batch.id,
        "expectedResultCount": expected,
        "resultCount": len(ready),
        "errorCount": failed,
    }
    if batch.names_status:
        done = all(part[0].ready_s <= now for part in batch.parts)
        told["status"] = "Completed" if done else "InProgress"
    return ready, told
