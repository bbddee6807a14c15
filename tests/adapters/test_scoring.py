"""Error rates against references: by hand, and against counting."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.adapters.scoring import (
    ConversationScore,
    Document,
    Options,
    Piece,
    Scores,
    score,
)

pytest.importorskip("meeteval", reason="pip install 'steno[score]' (needs a C++ compiler)")

S = 1_000_000
Spoken = tuple[str, float, float, str]


def document(*spoken: Spoken, name: str = "c") -> Document:
    return Document(
        {
            name: [
                Piece(who, round(start * S), round(end * S), text)
                for who, start, end, text in spoken
            ]
        }
    )


def compared(
    reference: Document, hypothesis: Document, *, collar_s: float = 0, **options: bool
) -> Scores:
    return score([reference], hypothesis, Options(round(collar_s * S), **options))


def only(scores: Scores) -> ConversationScore:
    (one,) = scores.conversations
    return one


REFERENCE = document(("a", 0, 10, "one two three"), ("b", 8, 14, "four five"))


def test_a_record_against_itself_has_no_error() -> None:
    """Whatever the speakers are called."""
    renamed = document(("x", 0, 10, "one two three"), ("y", 8, 14, "four five"))
    for hypothesis in (REFERENCE, renamed):
        found = compared(REFERENCE, hypothesis)
        assert found.speakers is not None
        assert found.words is not None
        assert (found.speakers.der, found.words.cp_wer) == (0, 0)
        assert (found.speakers.scored_s, found.words.words) == (16, 5)


def test_der_by_hand() -> None:
    """Missed 2 s of a and 1 s of b, 3 s invented after the end, 2 s of b given to x, of 16 s."""
    hypothesis = document(("x", 2, 11, ""), ("x", 12, 13, ""), ("y", 11, 12, ""), ("y", 14, 17, ""))
    found = only(compared(REFERENCE, hypothesis)).speakers
    assert found is not None
    # 8–10: both speak and x alone is heard: 2 s of b are missed as well.
    assert (found.missed_s, found.false_alarm_s, found.confusion_s) == (2 + 2 + 1, 3, 2)
    assert found.der == 10 / 16


def test_the_collar_leaves_out_both_sides_of_each_boundary_of_the_reference() -> None:
    """A boundary that is off by less than the collar costs nothing."""
    hypothesis = document(("x", 0.2, 9.8, ""), ("y", 8.2, 14.2, ""))
    exact, kind = compared(REFERENCE, hypothesis), compared(REFERENCE, hypothesis, collar_s=0.25)
    assert exact.speakers is not None
    assert kind.speakers is not None
    assert exact.speakers.der == pytest.approx((0.2 + 0.2 + 0.2 + 0.2) / 16)
    assert (kind.speakers.der, kind.speakers.scored_s) == (0, 16 - 0.25 * (1 + 3 + 3 + 1))


def test_overlap_is_scored_unless_it_is_left_out() -> None:
    """Two people speak from 8 to 10; the hypothesis has one of them there."""
    hypothesis = document(("x", 0, 10, ""), ("y", 10, 14, ""))
    scored = only(compared(REFERENCE, hypothesis)).speakers
    skipped = only(compared(REFERENCE, hypothesis, score_overlap=False)).speakers
    assert scored is not None
    assert skipped is not None
    assert (scored.missed_s, scored.scored_s) == (2, 16)
    assert (skipped.missed_s, skipped.scored_s) == (0, 12)


def test_cp_wer_by_hand() -> None:
    """A word with the wrong speaker is lost here and too much there."""
    hypothesis = document(("x", 0, 10, "one two"), ("y", 8, 14, "three four nine"))
    found = only(compared(REFERENCE, hypothesis)).words
    assert found is not None
    # a: "three" deleted; b: "three" inserted, "five" became "nine".
    assert (found.deletions, found.insertions, found.substitutions) == (1, 1, 1)
    assert found.cp_wer == 3 / 5


def test_words_count_in_order_of_time_and_without_spelling() -> None:
    """Pieces in any order; case, punctuation and apostrophes do not count, unless verbatim."""
    reference = document(("a", 0, 1, "Don’t worry,"), ("a", 2, 3, "Be happy!"))
    hypothesis = document(("x", 2, 3, "be happy"), ("x", 0, 1, "don't worry"))
    found = compared(reference, hypothesis).words
    assert found is not None
    assert found.cp_wer == 0
    strict = compared(reference, hypothesis, verbatim=True).words
    assert strict is not None
    assert strict.substitutions == 4


def test_a_conversation_that_is_not_there_is_missed_altogether() -> None:
    """And one without a reference is not scored; sums are over all conversations."""
    reference = Document({**REFERENCE.pieces, "gone": REFERENCE.pieces["c"]})
    hypothesis = Document({**REFERENCE.pieces, "new": REFERENCE.pieces["c"]})
    found = compared(reference, hypothesis)
    assert [(one.conversation, one.found) for one in found.conversations] == [
        ("c", True),
        ("gone", False),
    ]
    assert (found.not_found, found.unreferenced) == (1, 1)
    assert found.speakers is not None
    assert found.words is not None
    assert (found.speakers.der, found.words.cp_wer) == (0.5, 0.5)


def test_too_many_speakers_for_cp_wer_are_told() -> None:
    """The library takes them for a mistake; the DER is there all the same."""
    many = document(*((f"s{n}", n, n + 1, "word") for n in range(30)))
    found = compared(many, many)
    assert only(found).problem == "too many speakers for cpWER"
    assert only(found).words is None
    assert found.words is None
    assert found.speakers is not None
    assert found.speakers.der == 0


def test_nothing_scored_has_no_rate() -> None:
    """Neither silence nor a collar that covers all is divided by."""
    found = compared(document(), document())
    assert only(found).speakers is not None
    assert found.speakers is not None
    assert found.speakers.der is None
    assert found.words is not None
    assert found.words.cp_wer is None


def test_rttm_gives_the_speakers_and_another_form_the_words() -> None:
    """Each reference gives what it has; a form without words is not compared by words."""
    times = Document({"c": [Piece("a", 0, 10 * S, None)]}, has_words=False)
    words = Document({"c": [Piece("a", None, None, "one two")]}, has_times=False)
    both = document(("x", 0, 5, "one two"))
    found = only(score([times, words], both, Options(0)))
    assert found.speakers is not None
    assert found.words is not None
    assert (found.speakers.der, found.words.cp_wer) == (0.5, 0)
    assert only(score([words], both, Options(0))).speakers is None
    assert only(score([times], times, Options(0))).words is None


# --- against counting --------------------------------------------------------------------------

pieces = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.integers(1, 6)), max_size=8
)


def counted(
    reference: Sequence[tuple[str, int, int]],
    hypothesis: Sequence[tuple[str, int, int]],
    collar: int,
    score_overlap: bool,
) -> tuple[int, int, int, int]:
    """The definition, unit by unit, with every mapping of speakers tried."""

    def at(spoken: Sequence[tuple[str, int, int]], unit: int) -> set[str]:
        return {who for who, start, length in spoken if start <= unit < start + length}

    def near(unit: int) -> bool:
        bounds = [one for _, start, length in reference for one in (start, start + length)]
        return any(bound - collar <= unit < bound + collar for bound in bounds)

    frames = [
        (at(reference, unit), at(hypothesis, unit))
        for unit in range(30)
        if not near(unit) and (score_overlap or len(at(reference, unit)) < 2)
    ]
    targets = [*"abc", "", "", ""]
    best = max(
        sum(len({mapping[one] for one in claimed} & heard) for heard, claimed in frames)
        for mapping in (
            dict(zip("abc", order, strict=True)) for order in itertools.permutations(targets, 3)
        )
    )
    return (
        sum(len(heard) for heard, _ in frames),
        sum(max(0, len(heard) - len(claimed)) for heard, claimed in frames),
        sum(max(0, len(claimed) - len(heard)) for heard, claimed in frames),
        sum(min(len(heard), len(claimed)) for heard, claimed in frames) - best,
    )


@given(reference=pieces, hypothesis=pieces, collar=st.integers(0, 2), overlap=st.booleans())
def test_der_is_that_of_counting(
    reference: list[tuple[str, int, int]],
    hypothesis: list[tuple[str, int, int]],
    collar: int,
    overlap: bool,
) -> None:
    """Every part of it, under the best of all mappings."""
    one, other = (
        document(*((who, start, start + length, "") for who, start, length in spoken))
        for spoken in (reference, hypothesis)
    )
    found = compared(one, other, collar_s=collar, score_overlap=overlap).speakers
    assert found is not None
    assert (
        found.scored_s,
        found.missed_s,
        found.false_alarm_s,
        found.confusion_s,
    ) == counted(reference, hypothesis, collar, overlap)
