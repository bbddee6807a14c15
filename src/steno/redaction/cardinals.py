"""Reading number words: "forty two", "quatre-vingt-dix-sept", "treinta y cinco".

Where a sequence can be read in two ways ("sixty twelve", "twenty four one") the reading most
people mean is taken; what is made of it needs the count of digits more than each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from steno.redaction.spoken import Form, Number, Table
from steno.redaction.tokens import PLAIN, Token

_VINGT = ("vingt", "vingts")
_TAKES_TEENS = ("soixante",)


class Reading(NamedTuple):
    """A number read from words.

    ``last`` is the index of its last token; ``large`` says it was built with hundreds or
    more; ``single`` that it is one digit.
    """

    value: int
    last: int
    large: bool = False
    single: bool = False


_Part = Callable[[list[Token], int, Table], Reading | None]


def read(tokens: list[Token], index: int, table: Table) -> Reading | None:
    """The longest number said from ``index`` on, or None where no number word stands."""
    head = _below_thousand(tokens, index, table)
    if head is None:
        scale = _number(tokens, index, table)
        if scale is None or scale.form not in (Form.THOUSAND, Form.MILLION):
            return None
        head = Reading(1, index - 1)
    last = head.last
    total, large = head.value, head.large
    for form in (Form.MILLION, Form.THOUSAND):
        following = _after(tokens, last, table)
        scale = _number(tokens, following, table)
        if scale is None or scale.form != form:
            continue
        total *= scale.value
        last, large = following, True
        rest = _rest(tokens, last, table, _below_thousand)
        if rest is not None:
            total, last = total + rest.value, rest.last
    return Reading(total, last, large, head.single and not large)


def _below_thousand(tokens: list[Token], index: int, table: Table) -> Reading | None:
    number = _number(tokens, index, table)
    if number is None:
        return None
    if number.form == Form.FULL:
        return Reading(number.value, index, large=True)
    if number.form in (Form.HUNDRED, Form.HUNDREDS):
        return _with_rest(tokens, Reading(number.value, index), table)
    small = _below_hundred(tokens, index, table)
    if small is None or small.value == 0:
        return small
    following = _after(tokens, small.last, table)
    scale = _number(tokens, following, table)
    if scale is not None and scale.form == Form.HUNDRED:
        return _with_rest(tokens, Reading(small.value * 100, following), table)
    return small


def _with_rest(tokens: list[Token], head: Reading, table: Table) -> Reading:
    rest = _rest(tokens, head.last, table, _below_hundred)
    if rest is None or rest.value == 0:
        return Reading(head.value, head.last, large=True)
    if rest.single and _digit_at(tokens, _after(tokens, rest.last, table), table) is not None:
        # "eight hundred five five five": dictation goes on behind the hundred.
        return Reading(head.value, head.last, large=True)
    return Reading(head.value + rest.value, rest.last, large=True)


def _rest(tokens: list[Token], last: int, table: Table, part: _Part) -> Reading | None:
    following = _after(tokens, last, table)
    if following < len(tokens) and tokens[following].text in table.joins:
        following = _after(tokens, following, table)
    return part(tokens, following, table)


def _below_hundred(tokens: list[Token], index: int, table: Table) -> Reading | None:
    number = _number(tokens, index, table)
    if number is None or number.form > Form.WHOLE:
        return None
    if number.form == Form.TENS:
        return _tens(tokens, index, number, table)
    if number.form == Form.TEEN:
        return _teen(tokens, index, number, table)
    if number.form == Form.WHOLE:
        return Reading(number.value, index)
    following = _after(tokens, index, table)
    if number.value == 4 and _word(tokens, following) in _VINGT:
        tail = _tail_of_tens(tokens, following, table, teens=True)
        if tail is not None:
            return Reading(80 + tail.value, tail.last)
        return Reading(80, following)
    if _word(tokens, following) == "und":
        tens = _number(tokens, _after(tokens, following, table), table)
        if tens is not None and tens.form == Form.TENS and number.value:
            return Reading(number.value + tens.value, _after(tokens, following, table))
    return Reading(number.value, index, single=True)


def _teen(tokens: list[Token], index: int, number: Number, table: Table) -> Reading:
    if tokens[index].text == "dix":
        following = _after(tokens, index, table)
        unit = _digit_at(tokens, following, table)
        if unit is not None and unit >= 7:
            return Reading(10 + unit, following)
    return Reading(number.value, index)


def _tens(tokens: list[Token], index: int, number: Number, table: Table) -> Reading:
    if table.code == "de" and tokens[index].text.endswith(("zig", "ßig")):
        return Reading(number.value, index)  # German says the unit first.
    teens = tokens[index].text in _TAKES_TEENS
    tail = _tail_of_tens(tokens, index, table, teens=teens)
    if tail is None:
        return Reading(number.value, index)
    return Reading(number.value + tail.value, tail.last)


def _tail_of_tens(tokens: list[Token], index: int, table: Table, *, teens: bool) -> Reading | None:
    """What follows the tens: a unit, for French sixty and eighty also a teen."""
    following = _after(tokens, index, table)
    if _word(tokens, following) in ("y", "et"):
        following = _after(tokens, following, table)
    number = _number(tokens, following, table)
    if number is None:
        return None
    if teens and number.form == Form.TEEN:
        return _teen(tokens, following, number, table)
    unit = _digit_at(tokens, following, table)
    if not unit:
        return None
    if unit == 4 and _word(tokens, _after(tokens, following, table)) in _VINGT:
        return None
    return Reading(unit, following)


def _digit_at(tokens: list[Token], index: int, table: Table) -> int | None:
    number = _number(tokens, index, table)
    return number.value if number is not None and number.form == Form.UNIT else None


def _number(tokens: list[Token], index: int, table: Table) -> Number | None:
    if 0 <= index < len(tokens) and tokens[index].kind == PLAIN:
        return table.numbers.get(tokens[index].text)
    return None


def _word(tokens: list[Token], index: int) -> str:
    return tokens[index].text if index < len(tokens) else ""


def _after(tokens: list[Token], index: int, table: Table) -> int:
    """The token after ``index``, over one hyphen inside a compound ("soixante-quinze")."""
    following = index + 1
    if (
        following + 1 < len(tokens)
        and tokens[following].text == "-"
        and tokens[following].start == tokens[index].end
    ):
        following += 1
    return following
