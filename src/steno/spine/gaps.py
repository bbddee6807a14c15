"""The gaps of one source: opened, closed, kept through a restart, and written as records.

A gap's life: ``open`` writes it without an end; ``feed_up`` of its feed writes it again, one
revision higher, with its end. What is open is part of the journal, so that the first feed after
a restart closes it. A quarantined message, or an interval that will never come, is a gap whose
bounds are known at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from steno.core.records import Draft, GapCause, GapPayload, Kind, Origin, record_key
from steno.errors import RedactionError
from steno.ports import FeedUp, Missing, Quarantined

GAPS = "!gaps"
"""Journal key of the gaps that are open; no conversation's id begins so."""


class OpenGap(msgspec.Struct, frozen=True, gc=False):
    """A gap record that waits for its end."""

    conversation: str
    utterance: str
    revision: int
    payload: GapPayload


class GapLedger:
    """Open gaps by feed.

    Args:
        source: Name of the source, in every record.
        host_group: Part of every key.
        write: Takes the drafts.
        quarantines_per_s: Quarantine records per second; more are summed up in the next.
    """

    def __init__(
        self,
        source: str,
        host_group: str,
        write: Callable[[Draft], None],
        *,
        quarantines_per_s: int = 10,
    ) -> None:
        self._source = source
        self._host_group = host_group
        self._write = write
        self._quarantines_per_s = quarantines_per_s
        self._open: dict[str, list[OpenGap]] = {}
        self._encode = msgspec.json.Encoder().encode
        self._snapshot = msgspec.msgpack.Encoder().encode
        self._second = 0.0
        self._in_second = 0
        self._name = ""
        self._number = 0
        self._suppressed = 0
        self.changed = False
        """Whether ``snapshot`` differs from what was last journalled."""

    def is_open(self, feed: str) -> bool:
        """Tell whether a feed's gap is open."""
        return feed in self._open

    def open(
        self, feed: str, cause: GapCause, since_us: int, at_us: int, conversations: Iterable[str]
    ) -> None:
        """Record an open gap for a feed and each conversation; ``feed_up`` will close it."""
        gaps = self._open.setdefault(feed, [])
        self.changed = True
        for conversation in conversations:
            gap = OpenGap(
                conversation,
                f"gap.{feed or self._source}.{since_us}",
                0,
                GapPayload(
                    source=self._source,
                    cause=cause,
                    from_us=since_us,
                    opened_at_us=at_us,
                    conversation=conversation,
                ),
            )
            gaps.append(gap)
            self._write_gap(gap, at_us)

    def feed_up(self, event: FeedUp) -> None:
        """Close the feed's gaps, and those of the time before this process."""
        for feed in (event.feed, ""):
            for gap in self._open.pop(feed, ()):
                self.changed = True
                payload = msgspec.structs.replace(
                    gap.payload, to_us=event.at_us, closed_at_us=event.at_us
                )
                closed = OpenGap(gap.conversation, gap.utterance, gap.revision + 1, payload)
                self._write_gap(closed, event.at_us)

    def quarantined(self, event: Quarantined, *, now: float) -> None:
        """Record that a message could not be read; a flood of them is summed up."""
        if now - self._second >= 1.0:
            self._second, self._in_second = now, 0
        self._in_second += 1
        if self._in_second > self._quarantines_per_s:
            self._suppressed += 1
            return
        detail = f"{event.cause}" + (f" (+{self._suppressed})" if self._suppressed else "")
        self._suppressed = 0
        payload = GapPayload(
            source=self._source,
            cause=GapCause.QUARANTINE,
            from_us=event.at_us,
            to_us=event.at_us,
            opened_at_us=event.at_us,
            closed_at_us=event.at_us,
            size_bytes=event.size_bytes,
            sha256=event.sha256,
            detail=detail,
        )
        # Equal frames of one read have one time and one hash: the number keeps their keys apart.
        name = f"quarantine.{event.at_us}.{event.sha256[:16]}"
        if name == self._name:
            self._number += 1
        else:
            self._name, self._number = name, 0
        utterance = f"{name}.{self._number}" if self._number else name
        self._write_gap(OpenGap("", utterance, 0, payload), event.at_us)

    def missing(self, event: Missing) -> None:
        """Record an interval of a lane that will not come; it is over already."""
        payload = GapPayload(
            source=self._source,
            cause=GapCause(event.cause),
            from_us=event.from_us,
            to_us=event.to_us,
            opened_at_us=event.at_us,
            closed_at_us=event.at_us,
            conversation=event.conversation,
            lane=event.lane,
            from_samples=event.from_samples,
            to_samples=event.to_samples,
            detail=event.detail,
        )
        utterance = f"{event.cause}.{event.from_us}.{event.from_samples}"
        self._draft(event.conversation, event.lane, utterance, 0, event.at_us, payload)

    def withheld(
        self,
        conversation: str,
        lane: str,
        utterance: str,
        cause: str,
        *,
        from_us: int,
        to_us: int,
        at_us: int,
    ) -> None:
        """Record words that go nowhere because working on them failed; ``cause`` is a class."""
        payload = GapPayload(
            source=self._source,
            cause=GapCause.QUARANTINE,
            from_us=from_us,
            to_us=to_us,
            opened_at_us=at_us,
            closed_at_us=at_us,
            conversation=conversation,
            lane=lane,
            detail=cause,
        )
        gap = OpenGap(conversation, f"withheld.{lane}.{utterance}", 0, payload)
        self._write_gap(gap, at_us)

    # -- journal --------------------------------------------------------------------------

    def snapshot(self) -> bytes | None:
        """Return what is open, for the journal; None when nothing is."""
        self.changed = False
        gaps = [gap for each in self._open.values() for gap in each]
        return self._snapshot(gaps) if gaps else None

    def restore(self, snapshot: bytes) -> None:
        """Take over the gaps that an earlier process left open; the first feed closes them.

        Raises:
            RedactionError: The journal cannot be read.
        """
        try:
            gaps = msgspec.msgpack.decode(snapshot, type=list[OpenGap])
        except msgspec.MsgspecError:
            raise RedactionError("the journal of open gaps is damaged") from None
        self._open.setdefault("", []).extend(gaps)

    # -- inside ---------------------------------------------------------------------------

    def _write_gap(self, gap: OpenGap, at_us: int) -> None:
        self._draft(gap.conversation, "", gap.utterance, gap.revision, at_us, gap.payload)

    def _draft(
        self,
        conversation: str,
        lane: str,
        utterance: str,
        revision: int,
        at_us: int,
        payload: GapPayload,
    ) -> None:
        self._write(
            Draft(
                Kind.GAP,
                self._source,
                conversation,
                lane,
                utterance,
                revision,
                record_key(self._host_group, conversation, lane, utterance),
                Origin.LIVE,
                at_us,
                self._encode(payload),
            )
        )
