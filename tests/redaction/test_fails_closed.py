"""Whatever goes wrong, no text passes and none is told."""

from __future__ import annotations

import traceback
from collections.abc import Iterable

import pytest

from redaction.redaction_helpers import sentence
from steno.core.transcript import RawText
from steno.errors import ConfigError, RedactionError
from steno.redaction import Carry, Redactor, Span

SECRET = "blue harvest"


class Broken:
    """A recogniser which fails with the text in its message."""

    def find(self, text: str, *, language: str) -> Iterable[Span]:
        if "harvest" in text:
            raise ValueError(f"cannot read {text} in {language}")
        return []


class Codename:
    """A recogniser which knows one name."""

    def find(self, text: str, *, language: str) -> Iterable[Span]:
        at = text.find(SECRET)
        return [Span(at, at + len(SECRET), "codename")] if at >= 0 else []


class Careless:
    """A recogniser whose spans lie outside of the text."""

    def find(self, text: str, *, language: str) -> Iterable[Span]:
        return [Span(0, len(text) + 5, "codename")]


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error.__context__)


@pytest.mark.parametrize("recogniser", [Broken(), Careless()])
def test_a_failing_recogniser_withholds_the_text_and_the_error_does_not_tell_it(
    recogniser: Broken | Careless,
) -> None:
    with pytest.raises(RedactionError) as caught:
        Redactor(recognisers=[recogniser]).redact(RawText(SECRET), language="en")
    assert "harvest" not in _told(caught.value)
    assert caught.value.fields == {"cause": "ValueError"}


def test_a_failure_in_a_conversation_withholds_that_sentence_only() -> None:
    carry = Carry(Redactor(recognisers=[Broken()]))
    assert [out.text for out in carry.push(sentence("hello"), now=0)] == ["hello"]
    with pytest.raises(RedactionError) as caught:
        carry.push(sentence(SECRET), now=1)
    assert "harvest" not in _told(caught.value)
    assert [out.text for out in carry.push(sentence("bye"), now=2)] == ["bye"]
    assert not carry.holding


def test_text_that_cannot_be_encoded_is_withheld() -> None:
    with pytest.raises(RedactionError):
        Redactor().redact(RawText("call \ud800 415-555-0142"), language="en")


def test_a_region_nobody_phones_from_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"redaction\.default_region"):
        Redactor(default_region="XX")


def test_a_custom_recogniser_adds_its_own_entity() -> None:
    redactor = Redactor(mask="label", recognisers=[Codename()])
    result = redactor.redact(RawText(f"a {SECRET} b, 415-555-0142"), language="en")
    assert result.text == "a [CODENAME] b, [PHONE]"
    assert result.entities == {"codename": 1, "phone": 1}
