"""A lane's stream to a speech service: resume without gap or doubled text, and what is shed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.replay import Budget
from steno.core.transcript import RawText
from steno.errors import RemoteProtocolError
from steno.ports.speech import (
    AudioChunk,
    AudioShed,
    Hypothesis,
    SpeechWord,
    StreamChanged,
    StreamSpec,
    StreamState,
)
from steno.wire.speech_stream import Limits, Move, Pace, SpeechStreamMachine, State

SPEC = StreamSpec("conversation", "participant", "PCMU", 8000)
CHUNK = 800  # samples: 100 ms
UP = StreamChanged(StreamState.UP)
OVER = StreamChanged(StreamState.OVER)


def machine(**limits: float) -> SpeechStreamMachine:
    return SpeechStreamMachine(SPEC, limits=Limits(**limits), budget=Budget(1 << 30))


def chunk(number: int) -> AudioChunk:
    audio = number.to_bytes(2, "big") * (CHUNK // 2)
    return AudioChunk(audio, number, "en-US", number * CHUNK)


def push(stream: SpeechStreamMachine, *numbers: int, now: float = 0.0) -> None:
    for number in numbers:
        stream.push(chunk(number), now=now)


def written(stream: SpeechStreamMachine) -> list[int]:
    """Write all that waits; returns the number of every chunk inside the messages."""
    numbers = []
    while (sent := stream.next_audio()) is not None:
        inside = [sent.audio[at : at + 2] for at in range(0, len(sent.audio), CHUNK)]
        numbers += [int.from_bytes(number, "big") for number in inside]
        assert numbers[-1] == sent.sequence_number
    return numbers


def away(cause: str) -> StreamChanged:
    return StreamChanged(StreamState.AWAY, cause)


def final(text: str, through: int, **fields: object) -> Hypothesis:
    return Hypothesis(through, RawText(text), True, "1", **fields)  # type: ignore[arg-type] # by name


# --- calls -----------------------------------------------------------------------------------


def test_goes_on_behind_the_last_acknowledged_number() -> None:
    """After a break what was not answered for is written again, then what came meanwhile."""
    stream = machine()
    assert stream.on_deadline(0.0) is Move.OPEN
    stream.opened(now=0.0)
    push(stream, 0, 1, 2)
    assert written(stream) == [0, 1, 2]
    stream.on_result(0, "one", 0.9)
    stream.broke("PeerUnavailable", now=1.0, draw=0.5)
    push(stream, 3)
    assert written(stream) == []
    assert stream.resume_from == 1
    assert stream.on_deadline(1.05) is Move.NOTHING
    assert stream.on_deadline(1.2) is Move.OPEN
    stream.opened(now=1.2)
    assert written(stream) == [1, 2, 3]
    assert stream.resent == 2
    stream.on_result(3, "two three four", None)
    assert stream.events() == [
        UP,
        Hypothesis(0, RawText("one"), True, "s0", "", 0.9, 1.0, 0, 800),
        away("PeerUnavailable"),
        UP,
        Hypothesis(3, RawText("two three four"), True, "s3", "", None, 1.0, 800, 3200),
    ]


def test_a_call_that_lasts_is_up_though_nothing_came_of_it() -> None:
    """Some services say nothing before the first words."""
    stream = machine(settle_s=1.0)
    stream.opened(now=5.0)
    assert stream.next_deadline() == 6.0
    assert stream.events() == []
    assert stream.on_deadline(6.0) is Move.NOTHING
    assert stream.events() == [UP]
    assert stream.next_deadline() is None


def test_an_end_is_a_refusal_until_something_came_or_the_call_is_old() -> None:
    """A loaded service refuses late, when the call counts as up already."""
    stream = machine(settle_s=1.0)
    stream.opened(now=0.0)
    assert stream.is_unproven(0.5)
    stream.on_deadline(1.0)
    assert stream.state is State.OPEN
    assert stream.is_unproven(9.9)
    assert not stream.is_unproven(10.0)
    stream.confirmed()
    assert not stream.is_unproven(2.0)
    stream.broke("PeerUnavailable", now=3.0, draw=0.0)
    stream.opened(now=4.0)
    assert stream.is_unproven(4.0)
    stream.push(chunk(0), now=4.0)
    stream.next_audio()
    stream.on_acknowledged(0)
    assert not stream.is_unproven(4.1)


def test_an_outage_is_told_once_for_each_cause() -> None:
    """Trying again and failing the same way is not news."""
    stream = machine()
    for cause in ("PeerUnavailable", "PeerUnavailable", "AuthError"):
        stream.opened(now=0.0)
        stream.broke(cause, now=0.0, draw=0.0)
    assert stream.events() == [away("PeerUnavailable"), away("AuthError")]


@pytest.mark.parametrize(
    ("pace", "retry_after_s", "least", "most"),
    [
        (Pace.SOON, None, 0.1, 0.2),
        (Pace.BUSY, None, 1.0, 1.2),
        (Pace.BUSY, 7.0, 7.0, 7.7),
        (Pace.SLOWLY, None, 30.0, 33.0),
    ],
)
@pytest.mark.parametrize("draw", [0.0, 0.999])
def test_the_delay_fits_the_reason(
    pace: Pace, retry_after_s: float | None, least: float, most: float, draw: float
) -> None:
    """A busy service gets more time, its own wish is a lower bound, a refusal waits long."""
    stream = machine()
    stream.opened(now=0.0)
    stream.broke("x", now=0.0, draw=draw, pace=pace, retry_after_s=retry_after_s)
    deadline = stream.next_deadline()
    assert deadline is not None
    assert least <= deadline <= most


def test_delays_grow_until_something_comes_of_a_call() -> None:
    """An answer is a success; being taken is not."""
    stream = machine(first_s=0.1, cap_s=5.0)
    delays = []
    now = 0.0
    for _ in range(12):
        stream.opened(now=now)
        stream.broke("x", now=now, draw=0.9)
        delays.append((stream.next_deadline() or 0.0) - now)
        now += delays[-1]
    assert delays[0] < 0.2
    assert 5.0 <= delays[-1] <= 5.1
    stream.opened(now=now)
    push(stream, 0)
    written(stream)
    stream.on_result(0, "", None)
    stream.broke("x", now=now, draw=0.9)
    assert (stream.next_deadline() or 0.0) - now < 0.2


def test_ending_early_is_a_break() -> None:
    """OK before our half-close is no end: audio is still coming."""
    stream = machine()
    stream.opened(now=0.0)
    push(stream, 0)
    written(stream)
    stream.peer_ended(now=0.0, draw=0.0)
    assert stream.state is State.WAITING
    assert stream.events() == [away("StreamEnded")]
    stream.opened(now=1.0)
    assert written(stream) == [0]


def test_audio_that_cannot_be_written_breaks_the_call_in_the_end() -> None:
    """Slow is no fault; standing still for ``stall_s`` is."""
    stream = machine(stall_s=15.0)
    stream.opened(now=0.0)
    push(stream, 0)
    stream.blocked(now=1.0)
    stream.blocked(now=9.0)
    assert stream.on_deadline(15.9) is Move.NOTHING
    written(stream)
    assert stream.next_deadline() is None
    push(stream, 1)
    stream.blocked(now=20.0)
    assert stream.on_deadline(35.0) is Move.BREAK


# --- joining ---------------------------------------------------------------------------------


def test_chunks_that_wait_are_joined_up_to_a_second() -> None:
    """One message carries them, numbered as the last frame in it."""
    stream = machine(merge_s=0.5)
    stream.opened(now=0.0)
    push(stream, *range(7))
    sent = stream.next_audio()
    assert sent is not None
    assert (sent.sequence_number, sent.start_samples, len(sent.audio)) == (4, 0, 5 * CHUNK)
    assert written(stream) == [5, 6]


def test_nothing_is_joined_across_a_gap_or_a_change_of_language() -> None:
    """Positions inside a message run on, and a message has one language."""
    stream = machine()
    stream.opened(now=0.0)
    audio = bytes(CHUNK)
    stream.push(AudioChunk(audio, 0, "en-US", 0), now=0.0)
    stream.push(AudioChunk(audio, 1, "es-ES", CHUNK), now=0.0)
    stream.push(AudioChunk(audio, 3, "es-ES", 3 * CHUNK), now=0.0)
    sent = [stream.next_audio() for _ in range(3)]
    assert [one.sequence_number for one in sent if one] == [0, 1, 3]


# --- shedding --------------------------------------------------------------------------------


def test_sheds_the_oldest_while_the_service_is_away() -> None:
    """One event for the whole run, when it is over; the rest goes on."""
    stream = machine(buffer_s=0.3)
    push(stream, *range(6))
    assert stream.pressure == 1.0
    assert stream.events() == []
    stream.opened(now=1.0)
    assert stream.events() == [AudioShed(0, 3 * CHUNK, 0, 2)]
    assert written(stream) == [3, 4, 5]
    assert stream.shed_bytes == 3 * CHUNK


def test_what_goes_on_being_shed_is_told_now_and_then() -> None:
    """Nobody has to wait for the end of the outage."""
    stream = machine(buffer_s=0.1, shed_report_s=5.0)
    stream.opened(now=0.0)
    stream.broke("x", now=0.0, draw=0.0, pace=Pace.SLOWLY)
    push(stream, 0, 1, now=1.0)
    assert stream.next_deadline() == 6.0
    stream.on_deadline(6.0)
    push(stream, 2, now=7.0)
    stream.on_deadline(12.0)
    shed = [event for event in stream.events() if isinstance(event, AudioShed)]
    assert shed == [AudioShed(0, CHUNK, 0, 0), AudioShed(CHUNK, 2 * CHUNK, 1, 1)]


def test_what_is_shed_on_both_sides_of_heard_audio_is_told_apart() -> None:
    """A service that remembers the call before may answer for audio not sent again yet."""
    stream = machine()
    stream.opened(now=0.0)
    push(stream, 0, 1, 2)
    written(stream)
    stream.broke("x", now=0.0, draw=0.0)
    stream.opened(now=1.0)
    stream.give_up_oldest(now=1.0)
    stream.on_result(1, "one", None)
    stream.give_up_oldest(now=1.0)
    push(stream, 3)
    assert written(stream) == [3]
    shed = [event for event in stream.events() if isinstance(event, AudioShed)]
    assert shed == [AudioShed(0, CHUNK, 0, 0), AudioShed(2 * CHUNK, 3 * CHUNK, 2, 2)]


def test_a_service_that_never_acknowledges_loses_nothing_while_it_is_healthy() -> None:
    """Written audio leaves the buffer silently; when the call breaks it is out of reach."""
    stream = machine(buffer_s=0.3)
    stream.opened(now=0.0)
    for number in range(10):
        push(stream, number)
        assert written(stream) == [number]
        assert stream.pressure == 0.0
    stream.confirmed()
    assert stream.events() == [UP]
    stream.broke("PeerUnavailable", now=1.0, draw=0.0)
    stream.opened(now=2.0)
    assert stream.events() == [away("PeerUnavailable"), AudioShed(0, 7 * CHUNK, 0, 6)]
    assert written(stream) == [7, 8, 9]


# --- answers ---------------------------------------------------------------------------------


def test_what_is_written_through_is_held_like_anything_written() -> None:
    """It comes again after a break; and a buffer that is full lets go of its oldest."""
    stream = machine(buffer_s=0.2)
    assert not stream.may_write_through  # no call
    stream.opened(now=0.0)
    stream.confirmed()
    push(stream, 0)
    assert not stream.may_write_through  # it would overtake
    assert written(stream) == [0]
    for number in (1, 2):
        assert stream.may_write_through
        stream.wrote_through(chunk(number))
    assert stream.held_bytes == 2 * CHUNK
    stream.broke("x", now=1.0, draw=0.0)
    assert not stream.may_write_through
    stream.opened(now=2.0)
    assert written(stream) == [1, 2]
    stream.finish(now=3.0)
    assert not stream.may_write_through


def test_a_repeated_result_is_dropped() -> None:
    """At or below the acknowledged number, after a resume or not."""
    stream = machine()
    stream.opened(now=0.0)
    push(stream, 0, 1)
    written(stream)
    stream.on_result(1, "text", None)
    stream.on_result(1, "text", None)
    stream.on_result(0, "older", None)
    stream.broke("x", now=0.0, draw=0.0)
    stream.opened(now=0.0)
    stream.on_result(1, "other", None)
    assert [event.text for event in stream.events() if isinstance(event, Hypothesis)] == ["text"]
    assert stream.repeats == 3


def test_more_text_for_the_same_number_on_one_call_is_no_repeat() -> None:
    """Two sentences may end in one chunk; each has a name of its own."""
    stream = machine()
    stream.opened(now=0.0)
    push(stream, 0)
    written(stream)
    stream.on_result(0, "one", None)
    stream.on_result(0, "two", None)
    heard = [event for event in stream.events() if isinstance(event, Hypothesis)]
    assert [(one.text, one.utterance, one.end_samples) for one in heard] == [
        ("one", "s0", CHUNK),
        ("two", "s0.1", CHUNK),
    ]


@pytest.mark.parametrize("kind", ["result", "final", "acknowledged"])
def test_an_answer_beyond_what_was_sent_breaks_the_contract(kind: str) -> None:
    """Nobody can have heard it."""
    stream = machine()
    stream.opened(now=0.0)
    push(stream, 0, 1)
    stream.next_audio()
    answers = {
        "result": lambda: stream.on_result(2, "text", None),
        "final": lambda: stream.on_hypothesis(final("text", 2)),
        "acknowledged": lambda: stream.on_acknowledged(2),
    }
    with pytest.raises(RemoteProtocolError):
        answers[kind]()
    assert stream.events() == []


def test_partials_and_final_of_an_utterance_share_a_name_across_a_break() -> None:
    """The first utterance of the next call covers the same audio as the one that was open."""
    stream = machine()
    stream.opened(now=0.0)
    push(stream, 0, 1)
    written(stream)
    stream.on_hypothesis(Hypothesis(-1, RawText("he"), False, "7"))
    stream.on_hypothesis(Hypothesis(-1, RawText("hello"), False, "7"))
    stream.broke("x", now=0.0, draw=0.0)
    stream.opened(now=1.0)
    written(stream)
    stream.on_hypothesis(Hypothesis(1, RawText("hello you"), True, "1"))
    stream.on_hypothesis(Hypothesis(-1, RawText("next"), False, "2"))
    heard = [event for event in stream.events() if isinstance(event, Hypothesis)]
    assert [(one.text, one.utterance, one.through) for one in heard] == [
        ("he", "u1", -1),
        ("hello", "u1", -1),
        ("hello you", "u1", 1),
        ("next", "u2", -1),
    ]


def test_words_heard_before_the_break_are_taken_out_of_the_next_final() -> None:
    """The chunk in which a final ended is sent again; its words are not heard twice."""
    stream = machine()
    stream.opened(now=0.0)
    push(stream, 0, 1, 2)
    written(stream)
    words = (SpeechWord(RawText("one"), 0, 700), SpeechWord(RawText("two"), 800, 1200))
    stream.on_hypothesis(final("one two", 0, end_samples=1200, words=words))
    stream.broke("x", now=0.0, draw=0.0)
    stream.opened(now=1.0)
    assert written(stream) == [1, 2]
    again = (SpeechWord(RawText("two"), 810, 1210), SpeechWord(RawText("three"), 1300, 2000))
    stream.on_hypothesis(final("two three", 2, start_samples=810, end_samples=2000, words=again))
    heard = [event for event in stream.events() if isinstance(event, Hypothesis)]
    assert [(one.text, one.start_samples) for one in heard] == [("one two", 0), ("three", 1300)]


def test_an_acknowledgement_without_text_is_passed_on() -> None:
    """Silence is answered for too; one that goes back says nothing."""
    stream = machine()
    stream.opened(now=0.0)
    push(stream, 0, 1)
    written(stream)
    stream.on_acknowledged(1)
    stream.on_acknowledged(0)
    assert stream.held_bytes == 0
    heard = [event for event in stream.events() if isinstance(event, Hypothesis)]
    assert heard == [Hypothesis(1, RawText(""), True, "a1", start_samples=0, end_samples=2 * CHUNK)]


# --- the end ---------------------------------------------------------------------------------


def test_half_closes_behind_the_last_audio_and_is_over_with_the_service_s_end() -> None:
    """Results still come in between."""
    stream = machine()
    stream.opened(now=0.0)
    push(stream, 0)
    stream.finish(now=0.0)
    push(stream, 1)  # ignored: no audio follows
    assert not stream.wants_end
    assert written(stream) == [0]
    assert stream.wants_end
    stream.end_sent()
    assert not stream.wants_end
    stream.on_result(0, "text", None)
    stream.peer_ended(now=1.0, draw=0.0)
    assert stream.events()[-1] == OVER
    assert stream.next_deadline() is None


def test_a_break_while_finishing_is_resumed() -> None:
    """Unless everything was answered for already."""
    stream = machine()
    stream.opened(now=0.0)
    push(stream, 0)
    written(stream)
    stream.finish(now=0.0)
    stream.end_sent()
    stream.broke("x", now=0.0, draw=0.0)
    stream.opened(now=1.0)
    assert written(stream) == [0]
    assert stream.wants_end
    stream.end_sent()
    stream.on_result(0, "text", None)
    stream.broke("x", now=1.0, draw=0.0)
    assert stream.events()[-1] == OVER


def test_finishing_has_a_limit() -> None:
    """What was never answered for while the service was away is shed, then it is over."""
    stream = machine(finish_s=30.0)
    push(stream, 0, 1)
    stream.finish(now=10.0)
    assert stream.on_deadline(40.0) is Move.OVER
    assert stream.events() == [
        AudioShed(0, 2 * CHUNK, 0, 1),
        StreamChanged(StreamState.OVER, "TimedOut"),
    ]


def test_an_utterance_that_never_came_to_its_end_is_taken_back() -> None:
    """A partial is not left on the screen for ever."""
    stream = machine()
    stream.opened(now=0.0)
    push(stream, 0)
    written(stream)
    stream.on_hypothesis(Hypothesis(-1, RawText("hel"), False, "1"))
    stream.finish(now=0.0)
    stream.end_sent()
    stream.peer_ended(now=0.0, draw=0.0)
    assert stream.events()[-2:] == [Hypothesis(-1, RawText(""), True, "u1"), OVER]


def test_finish_without_audio_is_over_at_once() -> None:
    """Nobody has to be asked about nothing."""
    stream = machine()
    stream.finish(now=0.0)
    assert stream.events() == [OVER]


def test_nothing_follows_an_abort() -> None:
    """Not even what was on its way to the listener."""
    budget = Budget(1 << 20)
    stream = SpeechStreamMachine(SPEC, limits=Limits(), budget=budget)
    stream.opened(now=0.0)
    push(stream, 0)
    stream.confirmed()
    stream.abort()
    push(stream, 1)
    stream.broke("x", now=0.0, draw=0.0)
    stream.finish(now=0.0)
    assert stream.events() == []
    assert budget.held == 0


# --- every order of events -------------------------------------------------------------------

STEP = st.one_of(
    st.tuples(
        st.sampled_from(["push", "through", "open", "break", "write", "shed", "finish"]),
        st.just(0),
    ),
    st.tuples(st.sampled_from(["answer", "repeat", "wait"]), st.integers(0, 5)),
)


class Service:
    """What the other end sees of one call, and what became of each chunk in the end."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.acked: set[int] = set()
        self.shed: set[int] = set()
        self.through = -1


@given(steps=st.lists(STEP, max_size=80), buffer_chunks=st.integers(1, 8))
def test_every_chunk_is_acknowledged_held_or_shed_once(
    steps: list[tuple[str, int]], buffer_chunks: int
) -> None:
    """Each call carries a run without holes from its resume point, and no text comes twice."""
    stream = machine(buffer_s=buffer_chunks / 10, finish_s=1e9)
    service = Service()
    now, number = 0.0, 0
    heard: list[Hypothesis] = []
    finished = False

    def drain() -> None:
        for event in stream.events():
            if isinstance(event, AudioShed):
                numbers = set(range(event.from_sequence, event.to_sequence + 1))
                assert (event.from_samples, event.to_samples) == (
                    event.from_sequence * CHUNK,
                    (event.to_sequence + 1) * CHUNK,
                )
                assert not numbers & service.shed
                assert not numbers & service.acked
                service.shed |= numbers
            elif isinstance(event, Hypothesis) and event.text:
                heard.append(event)

    for step, value in steps:
        now += 0.5
        if step == "push" and not finished:
            push(stream, number, now=now)
            number += 1
        elif step == "through" and stream.is_writable:
            service.calls[-1] += written(stream)
            stream.confirmed()
            if not stream.may_write_through:
                continue
            stream.wrote_through(chunk(number))
            service.calls[-1].append(number)
            number += 1
        elif step == "open" and stream.state is State.WAITING:
            stream.opened(now=now)
            service.calls.append([])
        elif step == "break" and stream.is_writable:
            stream.broke("x", now=now, draw=0.5)
        elif step == "write" and stream.is_writable:
            sent = stream.next_audio()
            if sent is not None:
                first = sent.start_samples // CHUNK
                service.calls[-1] += range(first, sent.sequence_number + 1)
        elif step == "shed":
            stream.give_up_oldest(now=now)
        elif step == "answer" and stream.is_writable and service.calls[-1]:
            # Any number of this call; ``value`` behind the newest.
            through = service.calls[-1][max(0, len(service.calls[-1]) - 1 - value)]
            if through > service.through:
                covered = set(range(service.through + 1, through + 1)) - service.shed
                service.acked |= covered
                service.through = through
            stream.on_result(through, f"text {through}", None)
        elif step == "repeat" and stream.is_writable and service.through >= 0:
            before = len(heard)
            stream.on_result(max(0, service.through - value), f"text {service.through}", None)
            drain()
            assert len(heard) == before or service.calls[-1] == []
        elif step == "finish":
            stream.finish(now=now)
            finished = True
        else:
            stream.on_deadline(now)
        drain()
        if stream.state is State.OVER:
            break

    if stream.state is not State.OVER:
        # A break and an end bring out what was let go and what is merged.
        if stream.is_writable:
            stream.broke("x", now=now, draw=0.5)
        if stream.state is State.WAITING:
            stream.opened(now=now)
        drain()
        held = written(stream)
        assert set(held).isdisjoint(service.acked | service.shed)
        assert set(held) | service.acked | service.shed == set(range(number))
    for call in service.calls:
        for before, after in pairwise(call):
            skipped = set(range(before + 1, after))
            assert after > before
            assert skipped <= service.shed | service.acked
    throughs = [event.through for event in heard]
    assert throughs == sorted(set(throughs))
    ends = [(event.start_samples, event.end_samples) for event in heard]
    assert all(first[1] <= then[0] for first, then in pairwise(ends))
