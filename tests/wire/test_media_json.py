"""The JSON form of call audio: envelopes, lanes, gaps, resuming, the connection's life."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.audio import Encoding
from steno.core.sequence import Hole
from steno.errors import LocalProtocolError
from steno.wire.media_json import (
    EPOCH_BURST,
    MAX_LANES,
    MAX_SKIPPED_KEPT,
    AudioRun,
    Began,
    Close,
    CloseReason,
    Ending,
    HoldState,
    MediaJsonSession,
    Ping,
    SkipReason,
    State,
    instant_us,
)

CONVERSATION = "0b9d7a44-2c5e-4f10-8e3b-6a1c9d5e7f22"
PARTICIPANT = "c4e8f1a6-93b2-4d07-b5c8-1e2f3a4b5c6d"
UTC_US = 1_705_314_600_000_000
FRAME = 160  # samples, and bytes of PCMU: 20 ms


def audio_of(number: int, size: int = FRAME) -> bytes:
    """Return a frame's bytes; every frame has its own."""
    return (number.to_bytes(4, "big") * size)[:size]


def envelope(number: int, **changes: Any) -> bytes:  # Any: fields are broken with anything
    """Return a message as the document shows it; a value of ``...`` takes the key away."""
    fields: dict[str, Any] = {
        "conversationId": CONVERSATION,
        "participantId": PARTICIPANT,
        "audio": base64.b64encode(audio_of(number)).decode(),
        "format": "PCMU",
        "sampleRate": 8000,
        "sequenceNumber": number,
        "timestamp": "2024-01-15T10:30:00.020Z",
    }
    fields |= changes
    return json.dumps({k: v for k, v in fields.items() if v is not ...}).encode()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def session(**options: Any) -> MediaJsonSession:  # Any: passed on
    return MediaJsonSession(0.0, **options)


def taken(machine: MediaJsonSession, *messages: bytes, now: float = 1.0) -> list[AudioRun]:
    return machine.receive_texts(messages, now=now, now_us=UTC_US)


def heard(runs: list[AudioRun]) -> dict[str, bytes]:
    """Return the audio of each participant."""
    sound: dict[str, bytes] = defaultdict(bytes)
    for run in runs:
        sound[run.participant] += run.audio
    return dict(sound)


# --- runs ------------------------------------------------------------------------------------


def test_frames_in_order_become_one_run() -> None:
    """A batch in order is one run with the bytes, the format as spelled, and both numbers."""
    machine = session()
    [run] = taken(machine, *[envelope(n, format="audio/x-mulaw") for n in range(10)])
    assert run.audio == b"".join(audio_of(n) for n in range(10))
    assert (run.conversation, run.participant, run.lane) == (CONVERSATION, PARTICIPANT, 0)
    assert (run.format, run.encoding, run.rate_hz) == ("audio/x-mulaw", Encoding.PCMU, 8000)
    assert (run.first_sequence, run.last_sequence, run.frames) == (0, 9, 10)
    assert (run.began, run.epoch, run.start_samples, run.missing) == (Began.FIRST, 0, 0, ())
    assert (run.at_us, run.received_us) == (UTC_US + 20_000, UTC_US)
    [run] = taken(machine, envelope(10, format="audio/x-mulaw"))
    assert (run.began, run.epoch, run.start_samples) == (Began.CONTINUED, 0, 10 * FRAME)


@pytest.mark.parametrize(
    ("spelling", "rate_hz", "encoding", "sample_bytes"),
    [
        ("PCMU", 8000, Encoding.PCMU, 1),
        ("pcma", 8000, Encoding.PCMA, 1),
        ("L16", 16000, Encoding.L16, 2),
        ("ULAW", 48000, Encoding.PCMU, 1),
    ],
)
def test_positions_count_samples(
    spelling: str, rate_hz: int, encoding: Encoding, sample_bytes: int
) -> None:
    """A position is in samples of the lane's rate, whatever a sample's size."""
    machine = session()
    for number in range(3):
        sound = b64(bytes(400 * sample_bytes))
        [run] = taken(machine, envelope(number, audio=sound, format=spelling, sampleRate=rate_hz))
        assert run.start_samples == 400 * number
        assert run.encoding is encoding


def test_hole_is_told_and_counted_into_the_position() -> None:
    """Missing frames stand before the run they precede; they are as long as their neighbours."""
    machine = session()
    first, second = taken(machine, *[envelope(n) for n in (4, 5, 9, 10)])
    assert (first.first_sequence, first.last_sequence, first.missing) == (4, 5, ())
    assert (second.first_sequence, second.last_sequence) == (9, 10)
    assert second.missing == (Hole(6, 8),)
    assert second.gap_samples == 3 * FRAME
    assert second.start_samples == 5 * FRAME
    assert second.epoch == first.epoch
    assert machine.counters.missing_frames == 3


def test_repeats_and_stragglers_are_dropped() -> None:
    """What came before and what comes too late is counted, not heard twice."""
    machine = session()
    runs = taken(machine, *[envelope(n) for n in (0, 1, 1, 0, 4, 2, 5)])
    assert heard(runs) == {PARTICIPANT: b"".join(audio_of(n) for n in (0, 1, 4, 5))}
    counters = machine.counters
    assert (counters.repeated_frames, counters.late_frames, counters.missing_frames) == (2, 1, 2)
    assert counters.skipped_total == 0


def test_numbering_that_begins_anew_begins_an_epoch() -> None:
    """Numbers far below the last belong to another numbering; its audio is taken."""
    machine = session()
    first, second = taken(machine, *[envelope(n) for n in (900, 901, 0, 1)])
    assert (first.epoch, second.epoch, second.began) == (0, 1, Began.NUMBERING)
    assert second.start_samples == 2 * FRAME
    assert second.missing == ()


def test_participants_and_conversations_are_lanes_of_their_own() -> None:
    """Frames of several in one batch give a run each, numbers and positions apart."""
    machine = session()
    batch = [
        envelope(n, participantId=who, conversationId=conversation)
        for n in range(4)
        for who, conversation in (("a", "one"), ("b", "one"), ("a", "two"))
    ]
    runs = taken(machine, *batch)
    assert [(r.lane, r.participant, r.conversation, r.frames) for r in runs] == [
        (0, "a", "one", 4),
        (1, "b", "one", 4),
        (2, "a", "two", 4),
    ]
    assert machine.counters.missing_frames == machine.counters.repeated_frames == 0


def test_lanes_of_a_connection_are_bounded() -> None:
    """More participants than a call has are skipped; those heard before go on."""
    machine = session()
    taken(machine, *[envelope(0, participantId=f"p{n}") for n in range(MAX_LANES + 3)])
    assert machine.counters.skipped == {SkipReason.LANES: 3}
    [run] = taken(machine, envelope(1, participantId="p0"))
    assert run.last_sequence == 1


def test_change_of_format_begins_an_epoch_on_the_same_clock() -> None:
    """Another rate or encoding wants a new stream; positions go on in the new rate."""
    machine = session()
    wide = {"audio": b64(bytes(640)), "format": "L16", "sampleRate": 16000}
    old, new = taken(machine, envelope(0), envelope(1), envelope(2, **wide))
    assert (old.rate_hz, old.epoch) == (8000, 0)
    assert (new.rate_hz, new.epoch, new.began, new.encoding) == (
        16000,
        1,
        Began.FORMAT,
        Encoding.L16,
    )
    assert new.start_samples == 2 * FRAME * 2


def test_unsteady_peer_is_heard_again_when_it_settles() -> None:
    """Formats that change with every frame are cut off after a burst; a second later one more
    epoch may begin.
    """
    machine = session()
    flicker = [envelope(n, format=("PCMU", "PCMA")[n % 2]) for n in range(60)]
    runs = taken(machine, *flicker)
    assert max(run.epoch for run in runs) == EPOCH_BURST
    assert machine.counters.skipped[SkipReason.UNSTEADY] > 20
    [run] = taken(machine, envelope(60, format="PCMA"), envelope(61, format="PCMA"), now=3.0)
    assert run.frames == 2


def test_unsteady_numbering_is_cut_off_too() -> None:
    """Numbers that jump with every frame begin no more epochs than there is credit for."""
    machine = session()
    runs = taken(machine, *[envelope(n % 2 * 1_000_000 + n) for n in range(60)])
    assert len(runs) == EPOCH_BURST + 1
    assert machine.counters.skipped == {SkipReason.UNSTEADY: 60 - len(runs)}
    [run] = taken(machine, envelope(5), envelope(6), now=2.5)
    assert (run.first_sequence, run.frames, run.began) == (5, 2, Began.NUMBERING)


def test_long_and_short_frames_are_taken_and_counted() -> None:
    """Frames are said to be 20 to 50 ms; others are used, up to a second."""
    machine = session()
    sizes = (160, 400, 80, 8000, 160)
    runs = taken(machine, *[envelope(n, audio=b64(bytes(s))) for n, s in enumerate(sizes)])
    assert sum(len(run.audio) for run in runs) == sum(sizes)
    assert machine.counters.unusual_frames == 2


# --- what cannot be used ---------------------------------------------------------------------

BROKEN = [
    ({"audio": "not base64!"}, SkipReason.BASE64),
    ({"audio": "QUI"}, SkipReason.BASE64),
    ({"audio": "QU-_"}, SkipReason.BASE64),
    ({"audio": None}, SkipReason.BASE64),
    ({"audio": ...}, SkipReason.SHAPE),
    ({"audio": ""}, SkipReason.EMPTY),
    ({"audio": b64(bytes(8001))}, SkipReason.OVERSIZED),
    ({"audio": b64(bytes(321)), "format": "L16"}, SkipReason.ODD),
    ({"format": "opus"}, SkipReason.FORMAT),
    ({"format": 7}, SkipReason.FORMAT),
    ({"format": "PCMU;" + "x" * 80}, SkipReason.FORMAT),
    ({"format": "PCMU;\x00"}, SkipReason.FORMAT),
    ({"format": ...}, SkipReason.SHAPE),
    ({"sampleRate": 7999}, SkipReason.RATE),
    ({"sampleRate": 48001}, SkipReason.RATE),
    ({"sampleRate": "8000"}, SkipReason.RATE),
    ({"sampleRate": 10**30}, SkipReason.RATE),
    ({"sequenceNumber": -1}, SkipReason.SEQUENCE),
    ({"sequenceNumber": 2**31}, SkipReason.SEQUENCE),
    ({"sequenceNumber": 1.5}, SkipReason.SEQUENCE),
    ({"sequenceNumber": ...}, SkipReason.SHAPE),
    ({"conversationId": "../etc"}, SkipReason.ID),
    ({"conversationId": 1}, SkipReason.ID),
    ({"participantId": ""}, SkipReason.ID),
    ({"participantId": "x" * 129}, SkipReason.ID),
    ({"participantId": ...}, SkipReason.SHAPE),
]


@pytest.mark.parametrize(("changes", "reason"), BROKEN)
def test_broken_envelope_costs_itself_alone(
    changes: dict[str, Any],  # Any: fields are broken with anything
    reason: SkipReason,
) -> None:
    """One bad message between good ones is skipped for its reason, and the good ones are heard."""
    machine = session()
    runs = taken(machine, envelope(0), envelope(1, **changes), envelope(1), envelope(2))
    assert heard(runs) == {PARTICIPANT: b"".join(audio_of(n) for n in range(3))}
    assert machine.counters.skipped == {reason: 1}
    assert [one.reason for one in machine.skipped()] == [reason]
    assert machine.skipped() == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", SkipReason.JSON),
        (b"{", SkipReason.JSON),
        (b"\xff\xfe", SkipReason.JSON),
        (b"[]", SkipReason.SHAPE),
        (b"null", SkipReason.SHAPE),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", SkipReason.DEEP),
        (envelope(1) + b"," + envelope(2), SkipReason.JSON),
        (envelope(1).replace(b"PCMU", b"P\xffMU"), SkipReason.JSON),
    ],
)
def test_what_is_no_envelope_is_skipped(message: bytes, reason: SkipReason) -> None:
    """No JSON, no object, too deep, not UTF-8: counted, and the call lives."""
    machine = session()
    assert taken(machine, message) == []
    assert machine.counters.skipped == {reason: 1}
    assert len(taken(machine, envelope(0))) == 1


def test_envelope_cut_at_every_length_is_skipped() -> None:
    """No beginning of a message is a message."""
    whole = envelope(0)
    machine = session()
    for length in range(len(whole)):
        assert taken(machine, whole[:length]) == []
    assert machine.counters.skipped_total == len(whole)


def test_unknown_fields_are_no_fault() -> None:
    """A newer peer may say more than we know."""
    [run] = taken(session(), envelope(0, channel="external", extra={"deep": [1]}))
    assert run.frames == 1


def test_binary_messages_are_skipped() -> None:
    """This form has no binary messages; one does not end a call."""
    machine = session()
    machine.receive_binary(b"\x00" * 320)
    assert machine.counters.skipped == {SkipReason.BINARY: 1}
    assert machine.state is State.OPEN


def test_what_is_kept_of_skipped_messages_is_bounded_and_tells_nothing() -> None:
    """A note holds reason, size and hash; its text shows no more, and notes do not pile up."""
    machine = session()
    canary = b'{"conversationId":"canary'
    taken(machine, *[canary] * 100)
    notes = machine.skipped()
    assert len(notes) == MAX_SKIPPED_KEPT
    assert machine.counters.skipped_total == 100
    assert notes[0].sha256 == hashlib.sha256(canary).hexdigest()
    assert notes[0].size_bytes == len(canary)
    assert "canary" not in repr(notes)


def test_text_of_a_run_shows_no_audio_and_no_id() -> None:
    """Runs end up in tracebacks: their text has counts only."""
    [run] = taken(session(), envelope(0x41414141 % 1000))
    assert CONVERSATION not in repr(run)
    assert PARTICIPANT not in repr(run)
    assert repr(run) == "AudioRun(lane=0, frames=1, bytes=160)"


@pytest.mark.parametrize(
    ("value", "at_us"),
    [
        (b'"2024-01-15T10:30:00Z"', UTC_US),
        (b'"2024-01-15T12:30:00.5+02:00"', UTC_US + 500_000),
        (b'"2024-01-15T10:30:00.123456789Z"', UTC_US + 123_456),
        (b"1705314600000", UTC_US),
        (b"1705314600000.5", UTC_US + 500),
        (b'"2024-01-15T10:30:00"', None),
        (b"1705314600", None),
        (b'"yesterday"', None),
        (b'"1960-01-01T00:00:00Z"', None),
        (b'"0001-01-01T00:00:00+14:00"', None),
        (b"null", None),
        (b"{}", None),
        (b"", None),
        (b"1e400", None),
    ],
)
def test_time_is_read_where_it_can_be(value: bytes, at_us: int | None) -> None:
    """A time nobody can read is no reason to lose audio."""
    assert instant_us(value) == at_us
    message = envelope(0, timestamp=...)[:-1]
    if value:
        message += b',"timestamp":' + value
    [run] = taken(session(), message + b"}")
    assert run.at_us == at_us


# --- properties ------------------------------------------------------------------------------

MESSAGES = st.one_of(
    st.builds(
        envelope,
        st.integers(0, 30),
        participantId=st.sampled_from(["a", "b", "c"]),
    ),
    st.builds(
        envelope,
        st.integers(0, 2**31),
        participantId=st.sampled_from([*"abcdefghij", "", "/"]),
        format=st.sampled_from(["PCMU", "PCMA", "L16", "opus"]),
        sampleRate=st.sampled_from([8000, 16000, 7]),
        audio=st.binary(max_size=40).map(b64),
    ),
    st.binary(max_size=60),
)


@given(
    messages=st.lists(MESSAGES, max_size=50),
    cuts=st.lists(st.integers(1, 12), max_size=50),
)
def test_batches_give_what_single_messages_give(messages: list[bytes], cuts: list[int]) -> None:
    """How messages are gathered changes neither the audio of a lane nor what is counted."""
    one, many = session(), session()
    singly = [run for message in messages for run in taken(one, message)]
    together: list[AudioRun] = []
    rest = list(messages)
    for size in [*cuts, max(len(rest), 1)]:
        batch, rest = rest[:size], rest[size:]
        together += taken(many, *batch)
    assert heard(singly) == heard(together)
    assert one.counters == many.counters
    keys = {(run.lane, run.epoch, run.last_sequence) for run in together}
    assert keys <= {(run.lane, run.epoch, run.last_sequence) for run in singly}


@given(messages=st.lists(MESSAGES, max_size=60))
def test_runs_of_a_lane_fit_together(messages: list[bytes]) -> None:
    """Every message is accounted for; in a lane numbers rise within an epoch, epochs are counted
    one by one, and each run starts where the one before it ended plus the gap.
    """
    machine = session()
    last: dict[int, AudioRun] = {}
    for run in taken(machine, *messages):
        before = last.get(run.lane)
        if before is None:
            assert (run.epoch, run.began) == (0, Began.FIRST)
        else:
            assert run.epoch - before.epoch == (run.began is not Began.CONTINUED)
            if run.epoch == before.epoch:
                assert run.first_sequence > before.last_sequence
                assert run.rate_hz == before.rate_hz
                ended = before.start_samples + len(before.audio) // _sample_bytes(before)
                assert run.start_samples == ended + run.gap_samples
        missing = sum(hole.count for hole in run.missing)
        assert run.last_sequence - run.first_sequence + 1 == run.frames
        assert (missing > 0) == (run.gap_samples > 0)
        last[run.lane] = run
    counters = machine.counters
    assert (
        counters.frames + counters.repeated_frames + counters.late_frames + counters.skipped_total
        == len(messages)
    )


def _sample_bytes(run: AudioRun) -> int:
    return 2 if run.encoding is Encoding.L16 else 1


# --- a call that comes back ------------------------------------------------------------------


def lost(machine: MediaJsonSession, *, now: float) -> dict[tuple[str, ...], HoldState]:
    """Break the connection and return what is held of it."""
    assert machine.receive_closed(1006) is Ending.LOST
    return {(held.conversation, held.participant): held for held in machine.hold(now)}


def test_conversation_goes_on_over_a_new_connection() -> None:
    """The epoch, the numbers and the position go on; frames lost in between are missing."""
    machine = session()
    taken(machine, *[envelope(n) for n in range(10)], now=5.0)
    held = lost(machine, now=6.0)
    assert held[CONVERSATION, PARTICIPANT].last_sequence == 9

    asked: list[str] = []

    def resume(conversation: str, participant: str) -> HoldState | None:
        asked.append(participant)
        return held.pop((conversation, participant), None)

    again = session(resume=resume)
    [run] = taken(again, envelope(12), envelope(13), now=6.1)
    assert (run.epoch, run.began, run.missing) == (0, Began.RESUMED, (Hole(10, 11),))
    assert run.start_samples == 12 * FRAME
    [run] = taken(again, envelope(14), now=6.2)
    assert run.began is Began.CONTINUED
    taken(again, envelope(0, participantId="another"), now=6.3)
    assert asked == [PARTICIPANT, "another"]


def test_overlap_after_a_reconnect_is_not_heard_twice() -> None:
    """A caller that repeats its last frames on the new connection doubles no audio."""
    machine = session()
    taken(machine, *[envelope(n) for n in range(10)])
    held = lost(machine, now=2.0)
    again = session(resume=lambda *whose: held.pop(whose, None))
    [run] = taken(again, *[envelope(n) for n in range(7, 12)])
    assert (run.first_sequence, run.last_sequence, run.began) == (10, 11, Began.RESUMED)
    assert again.counters.repeated_frames == 3


def test_time_away_is_the_gap_where_numbers_begin_again() -> None:
    """Numbers from 0 tell nothing of what was lost: the clock jumps by the time away."""
    machine = session()
    taken(machine, *[envelope(n) for n in range(10)], now=5.0)
    held = lost(machine, now=6.0)
    again = session(resume=lambda *whose: held.pop(whose, None))
    [run] = taken(again, envelope(0), envelope(1), now=7.5)
    assert (run.epoch, run.began, run.missing) == (1, Began.NUMBERING, ())
    assert run.gap_samples == int(2.5 * 8000)
    assert run.start_samples == 10 * FRAME + run.gap_samples


def test_another_conversation_takes_nothing_of_what_is_held() -> None:
    """Held state is asked for by its owner, and what is not held begins at the start."""
    machine = session()
    taken(machine, envelope(5))
    held = lost(machine, now=2.0)
    again = session(resume=lambda *whose: held.pop(whose, None))
    [run] = taken(again, envelope(5, conversationId="other"))
    assert (run.began, run.start_samples) == (Began.FIRST, 0)
    assert (CONVERSATION, PARTICIPANT) in held


def test_participants_of_one_connection_may_come_back_apart() -> None:
    """Each is asked for by itself: a connection takes over what it brings audio of, no more."""
    machine = session()
    taken(machine, envelope(0), envelope(0, participantId="agent"))
    held = lost(machine, now=2.0)
    again = session(resume=lambda *whose: held.pop(whose, None))
    [run] = taken(again, envelope(1))
    assert (run.began, list(held)) == (Began.RESUMED, [(CONVERSATION, "agent")])
    other = session(resume=lambda *whose: held.pop(whose, None))
    [run] = taken(other, envelope(1, participantId="agent"))
    assert (run.began, run.start_samples) == (Began.RESUMED, FRAME)


def test_state_is_given_out_once_and_only_after_the_end() -> None:
    """Two sessions never share a lane."""
    machine = session()
    taken(machine, envelope(0))
    with pytest.raises(LocalProtocolError):
        machine.hold(1.0)
    machine.receive_closed(1006)
    assert len(machine.hold(1.0)) == 1
    assert machine.hold(1.0) == []


# --- the connection's life -------------------------------------------------------------------


def test_pings_are_sent_in_their_rhythm() -> None:
    """A ping is due every interval, whether audio flows or not."""
    machine = session(ping_interval_s=20.0, idle_s=60.0)
    assert machine.next_deadline() == 20.0
    machine.on_deadline(19.9)
    assert machine.to_send() == []
    machine.on_deadline(20.0)
    taken(machine, envelope(0), now=39.0)
    machine.on_deadline(40.5)
    assert machine.to_send() == [Ping(b"steno-1"), Ping(b"steno-2")]
    assert machine.next_deadline() == 60.5


def test_idle_connection_is_closed() -> None:
    """Nothing usable for the limit: closed with 1001, so that a caller with audio comes back."""
    machine = session(ping_interval_s=20.0, idle_s=30.0)
    taken(machine, envelope(0), now=10.0)
    taken(machine, b"rubbish", now=39.0)
    taken(machine, envelope(0), now=39.5)
    machine.on_deadline(39.9)
    assert machine.to_send() == [Ping(b"steno-1")]
    machine.on_deadline(40.0)
    assert machine.to_send() == [Close(1001, "idle")]
    assert machine.state is State.CLOSING
    assert machine.next_deadline() is None
    assert machine.receive_closed(1001) is Ending.LOST


@pytest.mark.parametrize(
    ("reason", "code", "ending"),
    [
        (CloseReason.SHUTDOWN, 1001, Ending.OVER),
        (CloseReason.BUSY, 1013, Ending.LOST),
        (CloseReason.FAILED, 1011, Ending.LOST),
        (CloseReason.IDLE, 1001, Ending.LOST),
    ],
)
def test_our_close_has_its_code(reason: CloseReason, code: int, ending: Ending) -> None:
    """Each reason has one code; asking twice closes once; only a shutdown is the end for good."""
    machine = session()
    machine.close(reason)
    machine.close(CloseReason.SHUTDOWN)
    machine.on_deadline(10_000.0)
    assert machine.to_send() == [Close(code, reason.value)]
    assert machine.receive_closed(1000) is ending


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        (1000, Ending.OVER),
        (1001, Ending.OVER),
        (1006, Ending.LOST),
        (1011, Ending.LOST),
        (1005, Ending.LOST),
    ],
)
def test_peers_close_code_tells_whether_it_comes_back(code: int, ending: Ending) -> None:
    """1000 and 1001 are the expected ends; anything else keeps the conversation's state."""
    assert session().receive_closed(code) is ending


def test_audio_on_its_way_during_a_close_is_heard() -> None:
    """The peer sent it before it read our close; after the end there is nothing to read."""
    machine = session()
    machine.close(CloseReason.SHUTDOWN)
    assert len(taken(machine, envelope(0))) == 1
    machine.receive_closed(1001)
    with pytest.raises(LocalProtocolError):
        taken(machine, envelope(1))
