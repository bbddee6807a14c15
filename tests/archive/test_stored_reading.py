"""Reading transcripts for repair: lanes as live delivery has them, lasting names, no secrets."""

from __future__ import annotations

import json

import pytest

from steno.archive import stored_reading
from steno.archive.redacted import SegmentRedaction
from steno.archive.stored_reading import Reading, Taken
from steno.errors import IntegrityError, RemoteProtocolError
from steno.ports.archive import FoundTranscript
from steno.redaction import Redactor
from steno.wire.stored_transcripts import TranscriptParser

CUSTOMER = "11111111-2222-4333-8444-555555555555"


def read(body: dict[str, object], *, communication: str = "", recording: str = "",
         step: int = 37) -> list[Taken]:  # fmt: skip
    """Read a file in small pieces."""
    found = FoundTranscript("c", communication, recording)
    reading = Reading(found, TranscriptParser(raw=False), SegmentRedaction(Redactor()))
    data = json.dumps(body).encode()
    for at in range(0, len(data), step):
        reading.feed(data[at : at + step])
    return reading.finish("en-GB")[0]


def document(*turns: tuple[float, str]) -> dict[str, object]:
    """Return a document with these turns of the customer, participants last."""
    return {
        "conversation": "c",
        "transcript": [
            {"start_time": at, "end_time": at + 1, "text": text, "speaker_id": CUSTOMER,
             "confidence": 0.5}
            for at, text in turns
        ],
        "participants": [{"id": CUSTOMER, "name": "Nora", "role": "customer"}],
    }  # fmt: skip


def test_a_documents_segments_have_the_lane_of_the_live_stream() -> None:
    """The participant's id; times count from the conversation's start."""
    (one,) = read(document((2.5, "hello there")))
    assert (one.said.lane, one.said.role) == (CUSTOMER, "customer")
    assert (one.said.started_us, one.said.ended_us) == (2_500_000, 3_500_000)
    assert (one.name, one.confidence, one.language) == ("backfill..2500", 0.5, "en-GB")


def test_a_platforms_segments_have_the_lane_of_the_topics() -> None:
    """Communication and purpose; times are dates, the language is the file's."""
    phrase = {
        "participantPurpose": "external",
        "text": "hello there",
        "startTimeMs": 1_700_000_002_500,
        "offset": {"milliseconds": 2500},
        "duration": {"milliseconds": 1000},
    }
    body = {
        "conversationId": "c",
        "communicationId": "leg",
        "startTime": 1_700_000_000_000,
        "transcripts": [{"language": "es-us", "phrases": [phrase]}],
    }
    (one,) = read(body, communication="leg")
    assert (one.said.lane, one.said.role) == ("leg/external", "customer")
    assert one.said.started_us == 1_700_000_002_500_000
    assert (one.name, one.language) == ("backfill.leg.2500", "es-us")
    assert one.confidence == 1.0


def test_names_stay_and_never_repeat() -> None:
    """However the file is cut into pieces; the same moment of the same speaker is counted."""
    body = document((1, "yes"), (1, "no"), (2, "yes"), (1, "well"))
    names = [one.name for one in read(body)]
    assert names == ["backfill..1000", "backfill..1000.1", "backfill..2000", "backfill..1000.2"]
    assert names == [one.name for one in read(body, step=10_000)]


def test_a_secret_said_over_two_segments_is_in_neither() -> None:
    """Redaction has seen everything that comes out."""
    taken = read(document((1, "my number is 415 555"), (3, "0142 thank you")))
    assert "0142" not in " ".join(one.said.text for one in taken)
    assert "555" not in " ".join(one.said.text for one in taken)


def test_a_truncated_file_is_no_transcript() -> None:
    """What is not there must not look as if it had not been said."""
    reading = Reading(
        FoundTranscript("c"), TranscriptParser(raw=False), SegmentRedaction(Redactor())
    )
    reading.feed(json.dumps(document((1, "yes"), (2, "no"))).encode()[:-20])
    with pytest.raises(RemoteProtocolError):
        reading.finish("en")


def test_what_cannot_be_held_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory has a limit."""
    monkeypatch.setattr(stored_reading, "MAX_SEGMENTS", 10)
    with pytest.raises(IntegrityError):
        read(document(*((n, f"words {n}") for n in range(50))))
