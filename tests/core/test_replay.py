"""The replay buffer: what is held, what leaves under which name, and that bytes add up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steno.core.replay import MAX_MARKS, Budget, Replay, Span
from steno.ports.speech import AudioChunk


def chunk(number: int, *, samples: int = 160) -> AudioChunk:
    return AudioChunk(bytes(samples), number, "en-US", number * samples)


def replay(*numbers: int, budget: Budget | None = None) -> Replay[AudioChunk]:
    made: Replay[AudioChunk] = Replay(sample_bytes=1, budget=budget or Budget(1 << 20))
    for number in numbers:
        made.push(chunk(number))
    return made


def test_an_acknowledgement_lets_go_of_all_up_to_its_number() -> None:
    """And tells the audio it covers, from the first chunk's beginning to the last one's end."""
    held = replay(0, 1, 2, 3)
    for _ in range(3):
        held.take()
    assert held.acknowledge(1) == Span(0, 320, 0, 1)
    assert held.acknowledge(1) is None
    assert held.acknowledge(2) == Span(320, 480, 2, 2)
    assert held.next_waiting == chunk(3)
    assert held.held_bytes == held.waiting_bytes == 160


def test_a_break_makes_everything_wait_again_in_order() -> None:
    """What was written and not acknowledged comes before what had not been written."""
    held = replay(0, 1, 2)
    held.take()
    held.take()
    held.acknowledge(0)
    assert held.rewind() is None
    assert [held.take().sequence_number for _ in range(2)] == [1, 2]
    assert held.sent_through == 2


def test_audio_let_go_while_healthy_is_out_of_reach_after_a_break() -> None:
    """Its span is told once; an acknowledgement before the break settles it instead."""
    held = replay(0, 1, 2, 3)
    for _ in range(3):
        held.take()
    assert held.let_go()
    assert held.let_go()
    assert held.acknowledge(0) == Span(0, 160, 0, 0)
    assert held.has_unanswered
    assert held.rewind() == Span(160, 320, 1, 1)
    assert held.rewind() is None
    assert not replay(0).let_go()


def test_a_shed_chunk_begins_behind_the_one_before() -> None:
    """Numbers of a chunk are its frames': from the one after the last chunk's to its own."""
    held = replay(9, 19)
    held.take()
    held.acknowledge(9)
    assert held.shed() == Span(19 * 160, 20 * 160, 10, 19)


def test_marks_of_a_recogniser_that_never_acknowledges_are_bounded() -> None:
    """The oldest are joined; their span stays whole."""
    held = replay(*range(MAX_MARKS + 50))
    for _ in range(MAX_MARKS + 50):
        held.take()
        held.let_go()
    assert len(held._let_go) == MAX_MARKS
    assert held.rewind() == Span(0, (MAX_MARKS + 50) * 160, 0, MAX_MARKS + 49)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["push", "push_written"]), st.integers(1, 400)),
        st.tuples(st.sampled_from(["take", "let_go", "shed", "rewind"]), st.just(0)),
        st.tuples(st.just("acknowledge"), st.integers(0, 40)),
    ),
    max_size=60,
)


@given(STEPS)
def test_bytes_add_up_whatever_happens(steps: list[tuple[str, int]]) -> None:
    """Held and waiting bytes are those of the chunks, and the budget's are the sum of both."""
    budget = Budget(1 << 20)
    other = replay(0, 1, budget=budget)
    held = replay(budget=budget)
    number = 0
    for step, value in steps:
        if step == "push" or (step == "push_written" and held.next_waiting is None):
            getattr(held, step)(chunk(number, samples=value))
            number += 1
        elif step == "acknowledge":
            held.acknowledge(value)
        elif step in ("take", "shed"):
            if held.next_waiting is not None:
                getattr(held, step)()
        elif step != "push_written":
            getattr(held, step)()
        waiting = sum(len(one.audio) for one in held._waiting)
        assert held.waiting_bytes == waiting
        assert held.held_bytes == waiting + sum(len(one.audio) for one in held._written)
        assert budget.held == held.held_bytes + other.held_bytes
        assert budget.waiting == held.waiting_bytes + other.waiting_bytes
    held.clear()
    other.clear()
    assert (budget.held, budget.waiting) == (0, 0)
