"""Scripts of answers are read step by step."""

from __future__ import annotations

import pytest

from steno_sim.webhooks.script import OK, Step, parse_script, step_of


def test_a_script_is_a_line_of_steps() -> None:
    """Statuses with waits, words with amounts, repeats, addresses."""
    found = parse_script("503*2, 429:5,redirect:http://127.0.0.1:1/x,redirect307:/y,timeout:2,huge")
    assert found == [
        Step("status", 503),
        Step("status", 503),
        Step("status", 429, 5),
        Step("redirect", 302, location="http://127.0.0.1:1/x"),
        Step("redirect", 307, location="/y"),
        Step("timeout", amount=2),
        Step("huge"),
    ]


@pytest.mark.parametrize(
    "text", ["", "199", "600", "503*", "later", "timeout:soon", "redirect", "reset:1", "200,,200"]
)
def test_what_is_no_step_is_refused_by_its_number(text: str) -> None:
    """The message has the number of the step."""
    with pytest.raises(ValueError, match="step"):
        parse_script(text)


def test_the_last_step_stays() -> None:
    """And an empty script answers 200."""
    script = parse_script("503,410")
    assert [step_of(script, n).status for n in range(4)] == [503, 410, 410, 410]
    assert step_of([], 0) == OK
