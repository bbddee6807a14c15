"""Redaction of what stands alone: texts without neighbours, speaker labels."""

from __future__ import annotations

import pytest

from diarisation.segment_helpers import REDACTOR, final
from steno.core.transcript import RawText
from steno.diarisation.caution import MAX_LABELS, Labels, may_be, redact_strictly
from steno.errors import RedactionError
from steno.redaction.entities import Span
from steno.redaction.redactor import Redactor

LABELS = Redactor(mask="label")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("good morning", "good morning"),
        ("two of us will come", "two of us will come"),
        ("call 415-555-0123 now", "call [PHONE] now"),
        ("it's four one five", "it's [NUMBER]"),
        ("five five five oh", "[NUMBER]"),
        ("it's four one", "it's [NUMBER]"),
        ("my code is 4", "my code is [NUMBER]"),
        ("4111 1111", "[NUMBER]"),
        ("one four two, thanks", "[NUMBER], thanks"),
        ("oh one seven three and that is my mobile", "[NUMBER] and that is my mobile"),
        ("0173 belongs to my phone", "[NUMBER] belongs to my phone"),
        ("write to bob.lee@example.com please", "write to [EMAIL] please"),
        ("  much   space ", "much space"),
    ],
)
def test_whatever_may_be_part_of_a_number_is_removed(text: str, left: str) -> None:
    """However short: its rest may be in a segment that is not looked at."""
    redacted = redact_strictly(LABELS, RawText(text), language="en-US")
    assert redacted.text == left
    assert sum(redacted.entities.values()) == redacted.text.count("[")


def test_strict_redaction_fails_closed_and_without_the_text() -> None:
    """As all redaction does."""

    class Broken:
        name = "broken"

        def find(self, text: str, *, language: str) -> list[Span]:
            raise ValueError(text)

    redactor = Redactor(recognisers=[Broken()])
    with pytest.raises(RedactionError) as caught:
        redact_strictly(redactor, RawText("tulip 415"), language="en-US")
    assert "tulip" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("raw", "redacted", "possible"),
    [
        ("it's four one five", "it's [REDACTED]", True),
        ("four one five, okay", "[REDACTED], okay", True),
        ("a 1 b 2 c", "a [PHONE] b [CARD] c", True),
        ("it's four one five", "it is [REDACTED]", False),
        ("good morning", "good morning", True),
        ("good (morning)*", "good (morning)*", True),
        ("good morning", "good evening", False),
    ],
)
def test_a_redacted_text_is_known_by_what_is_left_of_it(
    raw: str, redacted: str, possible: bool
) -> None:
    """The masks may stand for anything."""
    assert may_be(raw, redacted) is possible


def test_a_label_is_hidden_in_each_conversation_under_another_name() -> None:
    """So that nobody is followed from one to the next by it."""
    labels = Labels(REDACTOR)
    one = labels.relabelled(final(1, 2, speaker="415-555-0123"))
    other = labels.relabelled(final(1, 2, speaker="415-555-0123", conversation="c2"))
    assert one.lane != other.lane
    assert labels.relabelled(final(9, 10, speaker="415-555-0123")).lane == one.lane


@pytest.mark.parametrize("label", ["x" * 129, "a\nb", "a\x1fb"])
def test_a_label_that_is_no_name_is_hidden(label: str) -> None:
    """Too long, or with signs that are none to be shown."""
    assert Labels(REDACTOR).relabelled(final(1, 2, speaker=label)).lane.startswith("speaker-")


def test_labels_remembered_are_bounded() -> None:
    """They come from the peer."""
    labels = Labels(REDACTOR)
    for i in range(MAX_LABELS + 10):
        labels.relabelled(final(1, 2, speaker=f"name {i:x}"))
    assert len(labels.shown) <= MAX_LABELS
