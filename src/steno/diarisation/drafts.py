"""Drafts of segment records and of audit records."""

from __future__ import annotations

from zlib import crc32

import msgspec

from steno.core.records import (
    AuditReason,
    Draft,
    Kind,
    Origin,
    SegmentAuditPayload,
    SegmentPayload,
    record_key,
)
from steno.core.transcript import Fragment
from steno.diarisation.roster import Who
from steno.diarisation.slots import LAST_US


class DraftMaker:
    """Makes the drafts of one source.

    Args:
        host_group: Part of every key.
    """

    def __init__(self, source: str, host_group: str) -> None:
        self._source = source
        self._host_group = host_group
        self._encode = msgspec.json.Encoder().encode

    def segment(
        self,
        fragment: Fragment,
        utterance: str,
        revision: int,
        who: Who,
        text: str,
        entities: dict[str, int],
    ) -> Draft:
        """Return a segment's draft; ``text`` is redacted."""
        return Draft(
            Kind.SEGMENT,
            self._source,
            fragment.conversation,
            fragment.lane,
            utterance,
            revision,
            record_key(self._host_group, fragment.conversation, fragment.lane, utterance),
            Origin.LIVE,
            fragment.at_us,
            self._encode(_payload(fragment, who, text, entities)),
            fragment.received_s,
            fragment.started_us,
        )

    def audit(
        self,
        fragment: Fragment,
        name: str,
        reason: AuditReason,
        who: Who,
        text: str,
        entities: dict[str, int],
    ) -> Draft:
        """Return the draft of a piece that does not enter the result; ``text`` is redacted.

        Args:
            fragment: Its times within bounds.
            name: ``audit_name``. Pieces that differ in anything else are records of their own,
                so that the audit too is the same in any order.
        """
        kinds = sorted(entities.items())
        rest = f"{fragment.started_us}.{fragment.ended_us}.{fragment.language}.{kinds}.{text}"
        utterance = f"{name}.{crc32(rest.encode()):08x}"
        payload = SegmentAuditPayload(reason, _payload(fragment, who, text, entities))
        return Draft(
            Kind.SEGMENT_AUDIT,
            self._source,
            fragment.conversation,
            fragment.lane,
            utterance,
            0,
            record_key(self._host_group, fragment.conversation, fragment.lane, utterance),
            Origin.LIVE,
            fragment.at_us,
            self._encode(payload),
            fragment.received_s,
            max(0, fragment.started_us),
        )


def bounded(fragment: Fragment) -> Fragment:
    """Return a fragment whose times, however absurd, every store and reader can hold."""
    started_us, ended_us = _bounded(fragment.started_us), _bounded(fragment.ended_us)
    if (started_us, ended_us) == (fragment.started_us, fragment.ended_us):
        return fragment
    return msgspec.structs.replace(fragment, started_us=started_us, ended_us=ended_us)


def audit_name(reason: AuditReason, fragment: Fragment) -> str:
    """Return what a piece and its repeats are called in the audit."""
    start_ms, end_ms = fragment.started_us // 1000, fragment.ended_us // 1000
    name = f"audit.{reason}.{start_ms}.{end_ms}.{fragment.confidence!r}"
    return f"{name}.{fragment.utterance}" if fragment.utterance else name


def _bounded(us: int) -> int:
    return min(max(us, -LAST_US), LAST_US)


def _payload(fragment: Fragment, who: Who, text: str, entities: dict[str, int]) -> SegmentPayload:
    return SegmentPayload(
        who.speaker,
        text,
        fragment.started_us,
        fragment.ended_us,
        fragment.confidence,
        fragment.at_us,
        who.zero_us,
        fragment.is_final,
        who.role,
        fragment.language,
        who.participant,
        who.user_id,
        who.name,
        fragment.lane.partition("/")[0] if fragment.utterance else "",
        entities,
    )
