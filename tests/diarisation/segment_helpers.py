"""A machine of segments with a store in memory, for its tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import inf
from typing import Any

import msgspec

from steno.core.records import Draft, Kind, Record
from steno.core.transcript import Fragment, RawText, Role
from steno.diarisation.roster import Who
from steno.diarisation.segments import SegmentPipeline, SegmentSettings
from steno.errors import StorageError
from steno.redaction.redactor import Redactor

S = 1_000_000
T0 = 1_700_000_000 * S
REDACTOR = Redactor()
SETTINGS = SegmentSettings(
    source="event-socket", host_group="primary.example.com", settle_s=2.0, journal_s=0.0
)


class FixedAttribution:
    """The lane is the speaker, unless ``names`` says otherwise or somebody has to wait."""

    def __init__(self) -> None:
        self.names: dict[str, Who] = {}
        self.unknown: set[str] = set()
        self.pieces = 0
        self.forgotten: list[str] = []

    def heard(self, fragment: Fragment, *, now: float) -> None:
        self.pieces += 1

    def who(self, fragment: Fragment, *, now: float) -> Who | None:
        return None if fragment.lane in self.unknown else self.fallback(fragment)

    def fallback(self, fragment: Fragment) -> Who:
        return self.names.get(fragment.lane, Who(fragment.lane))

    def forget(self, conversation: str) -> None:
        self.forgotten.append(conversation)


class MemoryStore:
    """What was committed: records in order, the newest of each key, and the journal."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.newest: dict[str, Record] = {}
        self.places: dict[str, int | None] = {}
        self.journal: dict[str, bytes] = {}
        self.looked_up = 0
        self.broken = False

    def commit(self, drafts: Iterable[Draft], windows: dict[str, bytes | None]) -> None:
        for draft in drafts:
            if any(r.key == draft.key and r.revision == draft.revision for r in self.records):
                continue
            record = Record(
                id=str(len(self.records)),
                kind=draft.kind,
                source=draft.source,
                conversation=draft.conversation,
                lane=draft.lane,
                utterance=draft.utterance,
                revision=draft.revision,
                key=draft.key,
                seq=len(self.records) + 1,
                prev_seq=len(self.records),
                origin=draft.origin,
                at_us=draft.at_us,
                payload=draft.payload,
            )
            self.records.append(record)
            before = self.newest.get(draft.key)
            if before is None or before.revision < draft.revision:
                self.newest[draft.key] = record
                self.places[draft.key] = draft.place_us
        for name, snapshot in windows.items():
            if snapshot is None:
                self.journal.pop(name, None)
            else:
                self.journal[name] = snapshot

    def latest(self, conversation: str, key: str) -> Record | None:
        self.looked_up += 1
        if self.broken:
            raise StorageError("reading failed")
        record = self.newest.get(key)
        return record if record is not None and record.conversation == conversation else None

    def knows(self, conversation: str) -> bool:
        if self.broken:
            raise StorageError("reading failed")
        return any(record.conversation == conversation for record in self.records)

    def payloads(self, kind: Kind = Kind.SEGMENT) -> list[dict[str, Any]]:  # Any: decoded JSON
        return [json.loads(r.payload) for r in self.newest.values() if r.kind is kind]

    def texts(self) -> list[str]:
        """Of the newest revisions, in order of their place."""
        found = sorted(self.payloads(), key=lambda each: (each["started_us"], each["speaker"]))
        return [each["text"] for each in found]

    def audits(self) -> list[tuple[str, str]]:
        """Reason and text."""
        found = self.payloads(Kind.SEGMENT_AUDIT)
        return sorted((each["reason"], each["segment"]["text"]) for each in found)

    def result(self, *kinds: Kind) -> dict[str, str]:
        """The newest payload of every key, without the time of receipt."""
        found: dict[str, str] = {}
        for key, record in self.newest.items():
            if record.kind not in (kinds or (Kind.SEGMENT, Kind.SEGMENT_AUDIT)):
                continue
            payload = json.loads(record.payload)
            payload.get("segment", payload).pop("at_us")
            found[key] = json.dumps(payload, sort_keys=True)
        return found


class Run:
    """A machine, its store, and a clock that tests move."""

    def __init__(self, **changes: object) -> None:
        self.settings = msgspec.structs.replace(SETTINGS, **changes)
        self.store = MemoryStore()
        self.attribution = FixedAttribution()
        self.redactor = REDACTOR
        self.drafts: list[Draft] = []
        self.now = 0.0
        self.pipeline = self.fresh()

    def fresh(self) -> SegmentPipeline:
        return SegmentPipeline(
            self.settings,
            self.redactor,
            self.attribution,
            latest=self.store.latest,
            knows=self.store.knows,
        )

    def hear(self, *fragments: Fragment, at: float | None = None) -> None:
        """Take pieces in, and do on the way what is due."""
        if at is not None:
            self.wait_until(at)
        for each in fragments:
            self.pipeline.fragment(each, now=self.now, now_us=each.at_us)

    def wait_until(self, at: float) -> None:
        """Do everything that is due up to then."""
        while (due := self.pipeline.next_deadline()) is not None and due <= at:
            self.now = max(self.now, due)
            self.pipeline.on_deadline(self.now)
        self.now = max(self.now, at)

    def commit(self, *, fails: bool = False) -> list[Draft]:
        drafts, windows = self.pipeline.take(self.now)
        if fails:
            self.pipeline.put_back(drafts, windows)
            return []
        self.drafts += drafts
        self.store.commit(drafts, windows)
        return drafts

    def kill(self) -> None:
        """Go on in a new process with what is on disk."""
        self.pipeline = self.fresh()
        for name, snapshot in self.store.journal.items():
            self.pipeline.restore(name, snapshot, now=self.now, now_us=T0)

    def finish(self) -> MemoryStore:
        """Stop: give out and commit everything."""
        self.pipeline.flush(self.now)
        self.commit()
        return self.store


def final(
    start_s: float,
    end_s: float,
    text: str = "good morning",
    *,
    speaker: str = "speaker_0",
    confidence: float = 0.9,
    conversation: str = "c1",
    at_us: int = T0,
    is_final: bool = True,
    language: str = "en-US",
) -> Fragment:
    """A segment as the event socket sends it."""
    return Fragment(
        conversation,
        speaker,
        RawText(text),
        confidence,
        is_final,
        language,
        at_us,
        started_us=round(start_s * S),
        ended_us=round(end_s * S),
    )


def partial(start_s: float, end_s: float, text: str = "good", **more: Any) -> Fragment:
    """A piece that may change; ``more`` as for ``final`` (Any: passed on)."""
    return final(start_s, end_s, text, is_final=False, **more)


def uttered(
    start_s: float,
    end_s: float,
    text: str = "good morning",
    *,
    utterance: str = "u1",
    event_s: float | None = None,
    lane: str = "call-1/external",
    confidence: float = 0.9,
    is_final: bool = True,
    conversation: str = "c1",
) -> Fragment:
    """A segment as a notification tells it, seconds from the start of the call."""
    return Fragment(
        conversation,
        lane,
        RawText(text),
        confidence,
        is_final,
        "en-US",
        T0 + round((end_s if event_s is None else event_s) * S),
        utterance,
        T0 + round(start_s * S),
        T0 + round(end_s * S),
        Role.CUSTOMER,
        zero_us=T0,
    )


FOREVER = inf
