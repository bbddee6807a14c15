"""Sentences from fragments: the same text once, whatever way the fragments arrive."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.assembly import MEMORY_S, Assembler, UtteranceState
from steno.core.transcript import Fragment, RawText, Role, Sentence

S = 1_000_000  # microseconds in a second


def frag(
    at_s: float,
    text: str,
    *,
    final: bool = False,
    lane: str = "p1",
    confidence: float = 0.9,
    language: str = "en-US",
    utterance: str = "",
) -> Fragment:
    return Fragment(
        "c1",
        lane,
        RawText(text),
        confidence,
        final,
        language,
        int(at_s * S),
        utterance,
        role=Role.CUSTOMER,
    )


class Reader:
    """Keeps the newest revision of each sentence, as a consumer does."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Sentence] = {}
        self.count = 0

    def take(self, sentences: list[Sentence]) -> None:
        for sentence in sentences:
            key = (sentence.lane, sentence.utterance)
            before = self.kept.get(key)
            expected = 0 if before is None else before.revision + 1
            assert sentence.revision == expected, "revisions count up from 0 without repeats"
            self.kept[key] = sentence
            self.count += 1

    def texts(self, lane: str = "p1") -> list[str]:
        def place(utterance: str) -> tuple[int, int]:
            window, _, index = utterance.rpartition(".")
            return int(window), int(index)

        ordered = sorted((k for k in self.kept if k[0] == lane), key=lambda k: place(k[1]))
        return [self.kept[key].text for key in ordered]


def run(fragments: list[Fragment], *, step_s: float = 0.01) -> Reader:
    assembler, reader = Assembler("c1"), Reader()
    now = 0.0
    for fragment in fragments:
        now += step_s
        reader.take(assembler.add(fragment, now=now))
    reader.take(assembler.flush(now))
    return reader


def test_increments_are_joined_at_the_final() -> None:
    """Fragments that do not repeat the one before are parts of one sentence."""
    reader = run([frag(1, "the weather"), frag(2, "is rather"), frag(3, "better", final=True)])
    assert reader.texts() == ["the weather is rather better"]


def test_a_growing_partial_replaces_what_it_grew_from() -> None:
    """A fragment that begins with the last partial, or with everything so far, replaces it."""
    grown = [frag(1, "the"), frag(2, "the weather"), frag(3, "The weather is fine", final=True)]
    assert run(grown).texts() == ["The weather is fine"]
    mixed = [frag(1, "the weather"), frag(2, "is"), frag(3, "is fine"), frag(4, "and dry")]
    assert run(mixed).texts() == ["the weather is fine and dry"]
    whole = [frag(1, "the weather"), frag(2, "is"), frag(3, "The weather is fine.", final=True)]
    assert run(whole).texts() == ["The weather is fine."]


def test_a_sentence_end_inside_the_window_gives_the_sentence_at_once() -> None:
    """What is complete leaves; what follows it stays until its own end."""
    assembler = Assembler("c1")
    assert assembler.add(frag(1, "I called"), now=1.0) == []
    out = assembler.add(frag(2, "on Monday. The line"), now=2.0)
    assert [each.text for each in out] == ["I called on Monday."]
    assert assembler.open_windows == 1
    out = assembler.add(frag(3, "was busy", final=True), now=3.0)
    assert [(each.text, each.utterance) for each in out] == [("The line was busy", f"{1 * S}.1")]
    assert assembler.open_windows == 0


def test_a_partial_that_grows_past_a_sentence_end_is_not_repeated() -> None:
    """The part that was given out is recognised, punctuation changed or not."""
    reader = run(
        [
            frag(1, "Hello there. I"),
            frag(2, "Hello there. I am"),
            frag(3, "Hello there, I am fine.", final=True),
        ]
    )
    assert reader.texts() == ["Hello there.", "I am fine."]


def test_words_that_come_late_revise_the_sentence_they_belong_to() -> None:
    """The same sentence under the same key, with the next revision, words in their place."""
    reader = run([frag(1, "I have"), frag(3, "questions", final=True), frag(2, "four")])
    assert reader.texts() == ["I have four questions"]
    assert reader.kept["p1", f"{1 * S}.0"].revision == 1


def test_the_window_closes_by_its_own_timer() -> None:
    """No later fragment is needed, and the timer counts from the window's first words."""
    assembler = Assembler("c1", window_s=5.0)
    assembler.add(frag(1, "are you"), now=100.0)
    assembler.add(frag(4, "still there"), now=103.0)
    assert assembler.next_deadline() == 105.0
    assert assembler.on_deadline(104.99) == []
    out = assembler.on_deadline(105.0)
    assert [each.text for each in out] == ["are you still there"]
    assert assembler.next_deadline() is None


def test_a_partial_that_goes_on_growing_after_the_timer_adds_only_its_new_words() -> None:
    """Everything said appears once, though the source repeats it from the start."""
    assembler, reader = Assembler("c1"), Reader()
    reader.take(assembler.add(frag(1, "my order"), now=1.0))
    reader.take(assembler.on_deadline(6.0))
    reader.take(assembler.add(frag(7, "my order is late"), now=7.0))
    reader.take(assembler.add(frag(8, "my order is late again", final=True), now=8.0))
    assert reader.texts() == ["my order", "is late again"]
    late = reader.kept["p1", f"{1 * S}.1"]
    assert late.started_us >= 1 * S
    assert late.completed_us == 8 * S


def test_repeats_change_nothing() -> None:
    """A fragment that comes again, soon or late, is dropped."""
    said = [frag(1, "good"), frag(2, "morning", final=True), frag(3, "bye", final=True)]
    reader = run([said[0], said[0], said[1], said[1], said[0], said[2], said[1]])
    assert reader.texts() == ["good morning", "bye"]
    assert reader.count == 2


def test_equal_sentences_at_equal_times_are_both_kept() -> None:
    """Sources that count in whole seconds may end two utterances within one."""
    reader = run(
        [frag(1, "yes", final=True), frag(1, "no", final=True), frag(2, "yes", final=True)]
    )
    assert reader.texts() == ["yes", "no", "yes"]


def test_participants_do_not_mix() -> None:
    """Each lane has windows of its own."""
    reader = run(
        [frag(1, "how are"), frag(1, "fine", lane="p2"), frag(2, "you", final=True)],
    )
    assert reader.texts("p1") == ["how are you"]
    assert reader.texts("p2") == ["fine"]


def test_a_sentence_has_the_time_confidence_and_language_of_its_own_parts() -> None:
    """Weighted by length over the parts it covers, and by nothing beyond."""
    assembler = Assembler("c1")
    assembler.add(frag(1, "aaaa", confidence=0.5), now=1)
    out = assembler.add(frag(2, "bbbb.", confidence=1.0), now=2)
    out += assembler.add(
        frag(3, "Hola amigo mio", confidence=0.8, language="es-ES", final=True), now=3
    )
    first, second = out
    assert first.confidence == pytest.approx((4 * 0.5 + 5 * 1.0) / 9)
    assert (first.started_us, first.ended_us, first.completed_us) == (1 * S, 2 * S, 2 * S)
    assert (second.language, second.confidence) == ("es-ES", 0.8)
    assert (second.started_us, second.completed_us) == (3 * S, 3 * S)
    assert second.role is Role.CUSTOMER


def test_named_utterances_are_replaced_by_name() -> None:
    """Where the source names its utterances its last word counts, and a late partial does not."""
    assembler, reader = Assembler("c1"), Reader()
    for fragment in [
        frag(1, "the wether", utterance="u1"),
        frag(2, "hello", utterance="u2", final=True),
        frag(3, "the weather is fine", utterance="u1", final=True),
        frag(2, "the weather", utterance="u1"),
        frag(3, "the weather is fine", utterance="u1", final=True),
    ]:
        reader.take(assembler.add(fragment, now=1.0))
    assert {key[1]: each.text for key, each in reader.kept.items()} == {
        "u2.0": "hello",
        "u1.0": "the weather is fine",
    }
    assert reader.count == 2


def test_a_named_final_that_changes_later_is_a_revision() -> None:
    """Corrected by the source: same key, next revision."""
    assembler, reader = Assembler("c1"), Reader()
    reader.take(assembler.add(frag(1, "I have for", utterance="u", final=True), now=1.0))
    reader.take(assembler.add(frag(2, "I have four", utterance="u", final=True), now=1.5))
    assert reader.kept["p1", "u.0"].text == "I have four"
    assert reader.kept["p1", "u.0"].revision == 1


WORDS = st.lists(
    st.sampled_from(["alfa", "bravo", "coca", "delta", "echo", "fox", "golf", "hotel", "india"]),
    min_size=1,
    max_size=7,
    unique=True,
)


@given(words=WORDS, order=st.randoms(use_true_random=False), growing=st.booleans())
def test_any_order_and_repetition_of_an_utterance_gives_the_same_text(
    words: list[str], order: object, growing: bool
) -> None:
    """Shuffled and doubled, increments or growing partials: the newest revisions are the text."""
    texts = [" ".join(words[: i + 1]) if growing else word for i, word in enumerate(words)]
    fragments = [frag(1 + i / 10, text, final=i == len(texts) - 1) for i, text in enumerate(texts)]
    shuffled = fragments + fragments
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    reader = run(shuffled)
    assert " ".join(reader.texts()) == " ".join(words)


@given(
    turns=st.lists(WORDS, min_size=1, max_size=6),
    swaps=st.lists(st.integers(0, 40), max_size=12),
    repeats=st.lists(st.integers(0, 40), max_size=6),
)
def test_neighbours_swapped_across_utterances_lose_and_double_nothing(
    turns: list[list[str]], swaps: list[int], repeats: list[int]
) -> None:
    """Local disorder, as networks make it, over several utterances: every word once."""
    fragments = []
    for t, words in enumerate(turns):
        for i, word in enumerate(words):
            fragments.append(frag(t * 2 + i / 10, f"{word}{t}", final=i == len(words) - 1))
    expected = sorted(fragment.text for fragment in fragments)
    mixed = list(fragments)
    for at in swaps:
        if at + 1 < len(mixed):
            mixed[at], mixed[at + 1] = mixed[at + 1], mixed[at]
    for at in repeats:
        if at < len(mixed):
            mixed.append(mixed[at])
    reader = run(mixed)
    said = sorted(word for text in reader.texts() for word in text.split())
    assert said == expected


@given(words=WORDS, cut=st.integers(0, 7), growing=st.booleans())
def test_a_restart_goes_on_with_the_sentence(words: list[str], cut: int, growing: bool) -> None:
    """Snapshot and restore between any two fragments change nothing."""
    texts = [" ".join(words[: i + 1]) if growing else word for i, word in enumerate(words)]
    fragments = [frag(1 + i / 10, text, final=i == len(texts) - 1) for i, text in enumerate(texts)]
    first, reader = Assembler("c1"), Reader()
    for fragment in fragments[:cut]:
        reader.take(first.add(fragment, now=1.0))
    encoded = msgspec.msgpack.encode(first.snapshot(1.0))
    second = Assembler("c1")
    second.restore(msgspec.msgpack.decode(encoded, type=list[UtteranceState]), now=50.0)
    for fragment in fragments[cut:]:
        reader.take(second.add(fragment, now=50.0))
    reader.take(second.flush(50.0))
    assert " ".join(reader.texts()) == " ".join(words)


def test_a_restored_window_waits_only_for_what_it_had_left() -> None:
    """Three seconds waited before the kill leave two after it."""
    first = Assembler("c1", window_s=5.0)
    first.add(frag(1, "half a"), now=10.0)
    second = Assembler("c1", window_s=5.0)
    second.restore(first.snapshot(13.0), now=100.0)
    assert second.next_deadline() == pytest.approx(102.0)
    assert [each.text for each in second.on_deadline(102.0)] == ["half a"]


def test_nothing_is_journalled_once_everything_is_final() -> None:
    """The snapshot ends with the window, and with the memory of one the timer closed."""
    assembler = Assembler("c1")
    assembler.add(frag(1, "hello"), now=1.0)
    assert assembler.unfinished(1.0)
    assembler.add(frag(2, "hello there", final=True), now=2.0)
    assert not assembler.unfinished(2.0)
    assert assembler.snapshot(2.0) == []
    assembler.add(frag(3, "and"), now=3.0)
    assembler.on_deadline(8.0)
    assert assembler.unfinished(8.0)
    assert not assembler.unfinished(8.1 + MEMORY_S)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 20),
            st.text(max_size=12),
            st.booleans(),
            st.sampled_from(["", "u1", "u2"]),
        ),
        max_size=40,
    )
)
def test_any_fragments_give_sentences_and_never_an_error(
    fragments: list[tuple[int, str, bool, str]],
) -> None:
    """Empty texts, equal times, stray finals: sentences are never empty and revisions count."""
    reader = run(
        [frag(at, text, final=final, utterance=name) for at, text, final, name in fragments]
    )
    assert all(each.text.strip() for each in reader.kept.values())


def test_memory_of_a_long_conversation_is_bounded() -> None:
    """Ten thousand utterances later the assembler remembers only the last few."""
    assembler = Assembler("c1")
    for i in range(10_000):
        assembler.add(frag(i, f"word{i}", final=True), now=i * 0.1)
    lane = assembler._lanes["p1"]
    assert len(lane.recent) <= 110


def test_a_quiet_conversation_keeps_only_what_is_open() -> None:
    """Finished utterances go, words that wait stay, and the text goes on as before."""
    assembler, reader = Assembler("c1"), Reader()
    reader.take(assembler.add(frag(1, "hello", final=True), now=1.0))
    reader.take(assembler.add(frag(2, "I would", lane="p2"), now=2.0))
    assembler.forget(2.0 + MEMORY_S + 1.0)
    assert set(assembler._lanes) == {"p2"}
    reader.take(assembler.add(frag(3, "like", final=True, lane="p2"), now=20.0))
    reader.take(assembler.add(frag(4, "bye", final=True), now=20.0))
    assert (reader.texts(), reader.texts("p2")) == (["hello", "bye"], ["I would like"])
