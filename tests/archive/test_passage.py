"""One pass over a stored transcript."""

from __future__ import annotations

import json
import tempfile
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.archive import redacted
from steno.archive.align import bounds_of
from steno.archive.criteria import Criteria
from steno.archive.listing import Listing
from steno.archive.passage import Passage, PassageSettings, Passed
from steno.archive.redacted import SegmentRedaction
from steno.core.transcript import Role
from steno.errors import RemoteProtocolError
from steno.redaction.redactor import Redactor
from steno.wire.stored_transcripts import TranscriptParser

PEOPLE = [
    {"id": "a", "name": "Ann", "role": "agent"},
    {"id": "c", "name": "Carl", "role": "customer"},
    {"id": "s", "name": "", "role": "system"},
]

segments = st.lists(
    st.fixed_dictionaries(
        {
            "start_time": st.floats(0, 1000).map(lambda x: round(x, 3)),
            "end_time": st.floats(1000, 2000).map(lambda x: round(x, 3)),
            "text": st.text(st.characters(codec="utf-8", exclude_characters='{}[]"'), max_size=12),
            "speaker_id": st.sampled_from(["a", "c", "s", "stranger", ""]),
            "confidence": st.floats(0, 1).map(lambda x: round(x, 4)),
        },
        optional={"channel": st.integers(0, 3)},
    ),
    max_size=12,
)


class Run:
    """A pass with everything it wrote; counts the spools it opened."""

    def __init__(self, **more: Any) -> None:  # Any: passed on
        self.payload: list[bytes] = []
        self.lines: list[bytes] = []
        self.spools: list[IO[bytes]] = []
        criteria = more.pop("criteria", None)
        listing = None
        if more.pop("lists", True):
            listing = Listing(
                self.lines.append, conversation="conv-1", criteria=criteria, rate=8000
            )
        self.passage = Passage(
            TranscriptParser(),
            conversation="conv-1",
            payload=self.payload.append,
            listing=listing,
            spool=self._spool,
            **more,
        )

    def _spool(self) -> IO[bytes]:
        self.spools.append(tempfile.TemporaryFile())  # noqa: SIM115  # the pass closes it
        return self.spools[-1]

    def over(self, body: bytes, step: int = 1 << 20) -> Passed:
        """Pass a whole body in portions."""
        try:
            for at in range(0, len(body), step):
                self.passage.feed(body[at : at + step])
            return self.passage.finish()
        finally:
            self.passage.close()

    @property
    def archived(self) -> Any:  # Any: JSON
        """The payload, decoded."""
        return json.loads(b"".join(self.payload))

    @property
    def listed(self) -> list[Any]:  # Any: JSON
        """The listing, decoded."""
        return [json.loads(line) for line in b"".join(self.lines).splitlines()]


def body_of(turns: list[dict[str, Any]], *, people_first: bool, indent: int | None = None) -> bytes:
    """Write a file of the document's shape."""
    parts = {"participants": PEOPLE, "transcript": turns}
    order = ["participants", "transcript"] if people_first else ["transcript", "participants"]
    whole = {"conversation": "conv-1", **{key: parts[key] for key in order}}
    return json.dumps(whole, indent=indent, ensure_ascii=False).encode()


def role_of(turn: dict[str, Any]) -> str:
    """Return the role of a turn's speaker."""
    return next((p["role"] for p in PEOPLE if p["id"] == turn["speaker_id"]), "unknown")


shapes = given(
    turns=segments,
    people_first=st.booleans(),
    indent=st.sampled_from([None, 2]),
    step=st.integers(1, 300),
)


@shapes
def test_the_payload_holds_what_the_file_holds(
    turns: list[dict[str, Any]], people_first: bool, indent: int | None, step: int
) -> None:
    """In the document's two keys, unknown fields of a segment included, whatever the cuts."""
    run = Run()
    run.over(body_of(turns, people_first=people_first, indent=indent), step)
    assert run.archived == {"transcript": turns, "participants": PEOPLE}
    assert list(run.archived) == ["transcript", "participants"]


@shapes
def test_a_listing_has_positions_and_roles(
    turns: list[dict[str, Any]], people_first: bool, indent: int | None, step: int
) -> None:
    """Also where participants come last; only then does anything wait in a spool."""
    run = Run()
    run.over(body_of(turns, people_first=people_first, indent=indent), step)
    assert len(run.listed) == len(turns)
    for line, turn in zip(run.listed, turns, strict=True):
        first, last = bounds_of(turn["start_time"], turn["end_time"], 8000)
        assert (line["start_sample"], line["end_sample"]) == (first, last)
        assert line["role"] == role_of(turn)
        assert line["interaction_id"] == "conv-1"
        known = {key: turn[key] for key in turn if key != "channel"}
        assert line["segment"] == known
    assert len(run.spools) == int(bool(turns) and not people_first)
    assert all(spool.closed for spool in run.spools)


@shapes
def test_a_filter_rules_the_listing_and_nothing_else(
    turns: list[dict[str, Any]], people_first: bool, indent: int | None, step: int
) -> None:
    """Archive and summary hold everything."""
    run = Run(criteria=Criteria(roles=frozenset({Role.AGENT})))
    passed = run.over(body_of(turns, people_first=people_first, indent=indent), step)
    assert len(run.listed) == sum(role_of(turn) == "agent" for turn in turns)
    assert {line["segment"]["speaker_id"] for line in run.listed} <= {"a"}
    assert run.archived["transcript"] == turns
    assert passed.summing.turns == len(turns)


@shapes
def test_what_is_archived_can_be_filtered_if_asked(
    turns: list[dict[str, Any]], people_first: bool, indent: int | None, step: int
) -> None:
    """Then summary, archive and listing all hold the same."""
    kept = Criteria(roles=frozenset({Role.CUSTOMER}), to_s=500.0)
    run = Run(settings=PassageSettings(kept=kept))
    passed = run.over(body_of(turns, people_first=people_first, indent=indent), step)
    expected = [t for t in turns if role_of(t) == "customer" and t["start_time"] < 500.0]
    assert [t["text"] for t in run.archived["transcript"]] == [t["text"] for t in expected]
    assert passed.summing.turns == len(expected) == len(run.listed)


@pytest.mark.parametrize("people_first", [True, False])
def test_a_filter_by_time_alone_holds_for_archive_and_listing_alike(people_first: bool) -> None:
    """It needs no roles, so nothing of it waits for them."""
    turns = [
        {"start_time": t, "end_time": t + 1.0, "text": str(t), "speaker_id": "a"}
        for t in (0.0, 10.0, 20.0)
    ]
    run = Run(settings=PassageSettings(kept=Criteria(from_s=5.0, to_s=15.0)))
    passed = run.over(body_of(turns, people_first=people_first))
    assert [t["text"] for t in run.archived["transcript"]] == ["10.0"]
    assert [line["segment"]["text"] for line in run.listed] == ["10.0"]
    assert passed.summing.turns == 1


def number_turns() -> list[dict[str, Any]]:
    """A card number over two turns of one speaker, another's word between."""
    said = [
        ("c", "my card number is four one one one one one one one"),
        ("a", "okay"),
        ("c", "one one one one one one one one"),
        ("a", "thank you"),
    ]
    return [
        {"start_time": float(n), "end_time": n + 0.5, "text": text, "speaker_id": who}
        for n, (who, text) in enumerate(said)
    ]


@pytest.mark.parametrize("people_first", [True, False])
def test_redaction_reaches_archive_and_listing(people_first: bool) -> None:
    """Also a number that is said over two turns; nobody else's words change."""
    run = Run(redaction=SegmentRedaction(Redactor()))
    run.over(body_of(number_turns(), people_first=people_first), 7)
    whole = b"".join(run.payload) + b"".join(run.lines)
    assert b"one" not in whole
    assert [t["text"] for t in run.archived["transcript"]][1::2] == ["okay", "thank you"]
    assert len(run.archived["transcript"]) == len(run.listed) == 4


class Watching:
    """An observer that keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, float, str]] = []
        self.roles: list[str] = []

    def add(
        self, batch: Any, starts: Any, ends: Any, roles: Any
    ) -> None:  # Any: as the pass has it
        """Keep text, start, and role as far as it is known."""
        del ends
        for segment, start in zip(batch, starts, strict=True):
            role = roles.get(segment.speaker_id, Role.UNKNOWN)
            self.seen.append((segment.text, float(start), role.value))

    def finish(self, roles: Any) -> None:  # Any: likewise
        """Keep the speakers that have a role."""
        self.roles = sorted(roles)


@pytest.mark.parametrize("people_first", [True, False])
@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("kept", [None, Criteria(roles=frozenset({Role.CUSTOMER}))])
def test_observers_see_what_is_archived_once(
    people_first: bool, early: bool, kept: Criteria | None
) -> None:
    """In its order, whoever waits for roles; with roles where they ask for them."""
    watching = Watching()
    settings = PassageSettings(kept=kept, roles_early=early)
    run = Run(observers=[watching], settings=settings, lists=False)
    run.over(body_of(number_turns(), people_first=people_first))
    archived = [(turn["text"], turn["start_time"]) for turn in run.archived["transcript"]]
    assert [one[:2] for one in watching.seen] == archived
    assert len(archived) == (4 if kept is None else 2)
    assert watching.roles == ["a", "c", "s"]
    if early:
        roles = [role_of(turn) for turn in run.archived["transcript"]]
        assert [one[2] for one in watching.seen] == roles


def test_what_is_held_at_the_end_is_not_lost() -> None:
    """A number that may go on is held until the transcript is over."""
    run = Run(redaction=SegmentRedaction(Redactor()))
    passed = run.over(body_of(number_turns()[:1], people_first=True))
    assert len(run.archived["transcript"]) == len(run.listed) == passed.summing.turns == 1


def test_numbers_in_names_and_labels_are_redacted_too() -> None:
    """A participant may be named by a telephone number."""
    people = [
        {"id": "+14155550142", "name": "call 415-555-0142", "role": "customer"},
        {"id": "x", "name": "", "role": "transfer to 415-555-0142"},
    ]
    turns = [{"start_time": 0, "end_time": 1, "text": "hello", "speaker_id": "+14155550142"}]
    body = json.dumps({"participants": people, "transcript": turns}).encode()
    run = Run(redaction=SegmentRedaction(Redactor()))
    run.over(body)
    assert b"0142" not in b"".join(run.payload) + b"".join(run.lines)
    assert run.listed[0]["role"] == "customer"
    assert run.archived["participants"][0]["id"] == run.archived["transcript"][0]["speaker_id"]


def test_numbers_of_very_many_speakers_are_redacted_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those beyond the limit are one lane, and of one label; what is kept does not grow."""
    monkeypatch.setattr(redacted, "MAX_SPEAKERS", 3)
    numbers = [f"+1415555{n:04}" for n in range(100, 120)]
    turns = [
        {"start_time": 0, "end_time": 1, "text": f"my number is {name}", "speaker_id": name}
        for name in numbers
    ]
    redaction = SegmentRedaction(Redactor())
    run = Run(redaction=redaction)
    run.over(json.dumps({"participants": [], "transcript": turns}).encode())
    whole = b"".join(run.payload) + b"".join(run.lines)
    assert not any(name[-4:].encode() in whole for name in numbers)
    labels = [line["segment"]["speaker_id"] for line in run.listed]
    assert labels == ["speaker-1", "speaker-2", "speaker-3", *["speaker-4"] * 17]
    assert len(redaction._labels) == len(redaction._lanes) == 3


def test_the_source_s_own_bytes_are_archived_where_they_are_wanted() -> None:
    """To the byte."""
    body = body_of(number_turns(), people_first=True, indent=1)
    run = Run(as_it_came=True)
    run.over(body, 11)
    assert b"".join(run.payload) == body


def test_a_bad_segment_is_told_and_left_out_or_fails_the_whole() -> None:
    """As the caller chooses; field and place are named, the content is not."""
    turns = number_turns()
    turns[1] = {"start_time": "soon", "end_time": 2, "text": "secret words", "speaker_id": "a"}
    body = body_of(turns, people_first=True)
    run = Run()
    passed = run.over(body)
    assert passed.fields.bad == 1
    assert [bad.index for bad in passed.bad] == [1]
    assert len(run.archived["transcript"]) == 3
    with pytest.raises(RemoteProtocolError) as caught:
        Run(settings=PassageSettings(strict=True)).over(body)
    assert caught.value.fields["index"] == 1
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("step", [1, 64, 1 << 20])
def test_a_truncated_file_keeps_what_is_complete_only_if_told_so(step: int) -> None:
    """Otherwise it names the byte."""
    body = body_of(number_turns(), people_first=True)
    cut = body[: body.index(b"thank")]
    with pytest.raises(RemoteProtocolError) as caught:
        Run().over(cut, step)
    assert caught.value.fields["offset"] == len(cut)
    run = Run(settings=PassageSettings(keep_truncated=True))
    with pytest.raises(RemoteProtocolError):  # what is not to be altered is whole or nothing
        Run(as_it_came=True, settings=PassageSettings(keep_truncated=True)).over(cut, step)
    passed = run.over(cut, step)
    assert passed.truncated_at == len(cut)
    assert len(run.archived["transcript"]) == len(run.listed) == passed.summing.turns == 3


@pytest.mark.parametrize("step", [5, 1 << 20])
def test_what_stands_behind_a_fault_is_not_looked_at(step: int) -> None:
    """However whole it looks: nobody knows what is between."""
    body = body_of(number_turns(), people_first=True)
    at = body.index(b'{"start_time": 2.0')
    run = Run(settings=PassageSettings(keep_truncated=True))
    passed = run.over(body[:at] + b"@" + body[at:], step)
    assert passed.truncated_at == at
    assert len(run.archived["transcript"]) == passed.fields.segments == 2


def test_no_transcript_at_all_is_an_empty_one() -> None:
    """Whether that is an error is for the caller, who sees which it was."""
    run = Run()
    passed = run.over(b'{"conversation":"conv-1","transcript":[]}')
    assert run.archived == {"transcript": [], "participants": []}
    assert passed.fields.has_transcript
    assert not Run().over(b'{"status":"queued"}').fields.has_transcript
