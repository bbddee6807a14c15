"""Drafts of what does not enter the result: one for each piece, whatever the order."""

from __future__ import annotations

import json

import msgspec
import pytest

from diarisation.segment_helpers import S, final
from steno.core.records import AuditReason, Draft, Kind
from steno.core.transcript import Fragment
from steno.diarisation.drafts import DraftMaker, audit_name, bounded
from steno.diarisation.roster import Who
from steno.diarisation.slots import LAST_US

PIECE = final(1, 2, "well", confidence=0.2)


def audit(fragment: Fragment, reason: AuditReason = AuditReason.LOW_CONFIDENCE) -> Draft:
    name = audit_name(reason, fragment)
    maker = DraftMaker("diarisation", "host")
    return maker.audit(fragment, name, reason, Who("a"), fragment.text, {})


def test_the_same_piece_has_the_same_key() -> None:
    """However often it comes and whenever: the store drops repeats of a key."""
    again = msgspec.structs.replace(PIECE, at_us=PIECE.at_us + S, received_s=9.0)
    assert audit(again).key == audit(PIECE).key
    assert audit(PIECE).kind is Kind.SEGMENT_AUDIT


@pytest.mark.parametrize(
    "change",
    [
        {"text": "hm"},
        {"started_us": PIECE.started_us + 1},
        {"ended_us": PIECE.ended_us + 1},
        {"confidence": 0.3},
        {"language": "de-DE"},
        {"lane": "speaker_7"},
    ],
)
def test_pieces_that_differ_are_records_of_their_own(change: dict[str, object]) -> None:
    """Else the first to come would hide the others, and the audit depend on the order."""
    assert audit(msgspec.structs.replace(PIECE, **change)).key != audit(PIECE).key


def test_one_piece_may_be_there_for_two_reasons() -> None:
    """Each is told."""
    assert audit(PIECE, AuditReason.NEVER_FINAL).key != audit(PIECE).key


def test_absurd_times_are_bounded() -> None:
    """Every store and reader can hold them, and the place is on the timeline."""
    absurd = bounded(msgspec.structs.replace(PIECE, started_us=-(1 << 70), ended_us=1 << 70))
    draft = audit(absurd, AuditReason.BAD_TIMES)
    told = json.loads(draft.payload)["segment"]
    assert (told["started_us"], told["ended_us"]) == (-LAST_US, LAST_US)
    assert draft.place_us == 0
    assert bounded(PIECE) is PIECE
