"""Runs: numbers said or written one after the other, read as one string of digits.

"four one five, uh, double five 5" is one run of the elements 4, 1, 5, 55 and 5. A run says
nothing about secrecy; ``verdicts`` judges it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from steno.redaction import cardinals
from steno.redaction.spoken import TABLES, Form, Table
from steno.redaction.tokens import NUMERIC, PLAIN, SIGN, TAKEN, Token

_SIGNS_INSIDE = frozenset("-–—.,/()+·…;!?*#\"'‐‑¿¡")
_MAX_FILLERS = 4
_MAX_SIGNS = 6
_COMBINING = frozenset(
    word
    for table in TABLES.values()
    for word, number in table.numbers.items()
    if number.form in (Form.HUNDRED, Form.THOUSAND, Form.MILLION)
) | {"vingt", "vingts", "und", "-"}
"""Words (and the hyphen) which make something else of a digit before them."""

_SOFT_FROM = 2
"""Digits a run must have before "to" and "for" are taken for misheard digits."""


@dataclass(slots=True)
class Element:
    """One number of a run.

    Attributes:
        first, last: Indices of its tokens, both inclusive.
        digits: Its value as digits ("42", "007" when written so).
        written: It stands in digits in the text.
        single: One digit, or one digit said double or triple: dictation.
        large: Said with "hundred" or "thousand": rather a quantity.
        weak: An article or pronoun as likely as a number ("one").
    """

    first: int
    last: int
    digits: str
    written: bool = False
    single: bool = False
    large: bool = False
    weak: bool = False


@dataclass(slots=True)
class Run:
    """Elements with nothing but signs and fillers between them.

    Attributes:
        start, end: Characters, a leading plus or parenthesis included.
        plus: Said or written with a leading plus.
        open: Nothing but signs and fillers follows up to the end of the text.
        gaps: What stands between the elements, signs only; "w" is a filler, "d" a "dot".
    """

    elements: list[Element]
    start: int = 0
    end: int = 0
    plus: bool = False
    open: bool = False
    gaps: list[str] = field(default_factory=list)

    @property
    def digits(self) -> str:
        """All digits of the run."""
        return "".join(element.digits for element in self.elements)

    @property
    def first(self) -> int:
        """Index of its first token."""
        return self.elements[0].first

    @property
    def last(self) -> int:
        """Index of its last token, inclusive."""
        return self.elements[-1].last


def find_runs(tokens: list[Token], numbers: Iterable[int], table: Table) -> list[Run]:
    """Every run of ``tokens``, in order; ``numbers`` are the indices where one may begin."""
    runs: list[Run] = []
    behind = 0
    for index in numbers:
        if index < behind:
            continue
        element = _element(tokens, index, table)
        if element is None:
            continue
        run = _grow(tokens, element, table)
        _extent(tokens, run)
        runs.append(run)
        behind = run.last + 1
    return runs


def _grow(tokens: list[Token], element: Element, table: Table) -> Run:
    run = Run([element])
    while True:
        position, gap, soft = _gap(tokens, run.last + 1, table)
        if position == len(tokens):
            run.open = True
            return run
        following = _element(tokens, position, table) if position >= 0 else None
        if following is None:
            return run
        if soft and not (
            run.elements[-1].single and following.single and len(run.digits) >= _SOFT_FROM
        ):
            return run
        run.elements.append(following)
        run.gaps.append(gap)


def _gap(tokens: list[Token], index: int, table: Table) -> tuple[int, str, bool]:
    """Where the next element may begin: (token index or -1, signs, a soft word is inside)."""
    fillers = signs = 0
    gap: list[str] = []
    soft = False
    start = index
    for position in range(index, len(tokens)):
        token = tokens[position]
        word = token.text
        if token.kind == TAKEN:
            return -1, "", False
        if (position > start and token.start > tokens[position - 1].end) or (
            position == start and position and token.start > tokens[position - 1].end
        ):
            gap.append(" ")
        if token.kind == SIGN:
            signs += 1
            if word not in _SIGNS_INSIDE or signs > _MAX_SIGNS:
                return -1, "", False
            gap.append(word)
        elif token.kind == NUMERIC or word in table.numbers or word in table.multipliers:
            # A multiplier at the very end ("double") announces more.
            if word in table.multipliers and ends_with(tokens, position):
                return len(tokens), "", False
            return position, "".join(gap), soft
        elif word in table.fillers or word in table.joins or word in table.soft:
            fillers += 1
            soft = soft or word in table.soft
            if fillers > _MAX_FILLERS:
                return -1, "", False
            gap.append("d" if word in table.dots else "w")
        else:
            return -1, "", False
    return len(tokens), "", False


def ends_with(tokens: list[Token], index: int) -> bool:
    """Whether nothing but signs follows the token at ``index``."""
    return all(token.kind == SIGN for token in tokens[index + 1 :])


def _extent(tokens: list[Token], run: Run) -> None:
    run.start = tokens[run.first].start
    run.end = tokens[run.last].end
    index = run.first - 1
    while index >= 0 and tokens[index].text in ("+", "(", "plus", "más", "mas"):
        plus = tokens[index].text != "("
        if plus and tokens[index].kind == PLAIN and len(run.digits) < 8:
            break
        run.plus = run.plus or plus
        run.start = tokens[index].start
        index -= 1
    # A closing parenthesis belongs to the number when the opening one does.
    after = run.last + 1
    if after < len(tokens) and tokens[after].text == ")" and tokens[run.first - 1].text == "(":
        run.end = tokens[after].end


def _element(tokens: list[Token], index: int, table: Table) -> Element | None:
    token = tokens[index]
    if token.kind == NUMERIC:
        return _written(tokens, index, table)
    if token.kind != PLAIN:
        return None
    factor = table.multipliers.get(token.text)
    if factor is not None:
        return _multiplied(tokens, index, factor, table)
    if token.text not in table.numbers:
        return None
    return _cardinal(tokens, index, table)


def _written(tokens: list[Token], index: int, table: Table) -> Element:
    text = tokens[index].text
    if not text.isascii():
        text = "".join(str(int(c)) for c in text)
    element = Element(index, index, text, written=True, single=len(text) == 1)
    scale = _scale(tokens, index + 1, table)
    if scale is not None and len(text) <= 6:
        element.last = index + 1
        element.large = True
        element.single = False
        element.digits = str(int(text) * scale)
    return element


def _multiplied(tokens: list[Token], index: int, factor: int, table: Table) -> Element | None:
    last = index + 1
    # "double." "five": the sentence may have been cut between the two.
    while last < len(tokens) and tokens[last].kind == SIGN and tokens[last].text in ".,-…":
        last += 1
    if last >= len(tokens):
        return None
    token = tokens[last]
    number = table.numbers.get(token.text)
    if token.kind == NUMERIC and len(token.text) <= 2:
        digits = "".join(str(int(c)) for c in token.text)
    elif token.kind == PLAIN and number and number.form <= Form.WHOLE:
        digits = str(number.value)
    else:
        return None
    return Element(index, last, digits * factor, single=True)


def _cardinal(tokens: list[Token], index: int, table: Table) -> Element | None:
    number = table.numbers[tokens[index].text]
    following = tokens[index + 1].text if index + 1 < len(tokens) else ""
    if number.form == Form.UNIT and following not in _COMBINING:
        weak = tokens[index].text in table.weak
        return Element(index, index, str(number.value), single=True, weak=weak)
    if number.form == Form.TENS and table.code != "de":
        # "forty two" and nothing that makes more of it: no need to try every reading.
        unit = table.numbers.get(following)
        behind = tokens[index + 2].text if index + 2 < len(tokens) else ""
        if (
            unit is not None
            and unit.form == Form.UNIT
            and unit.value
            and tokens[index + 1].kind == PLAIN
            and behind not in _COMBINING
        ):
            return Element(index, index + 1, str(number.value + unit.value))
    reading = cardinals.read(tokens, index, table)
    if reading is None:
        return None
    return Element(
        index,
        reading.last,
        str(reading.value)[:24],
        single=reading.single,
        large=reading.large,
        weak=reading.last == index and tokens[index].text in table.weak,
    )


def _scale(tokens: list[Token], index: int, table: Table) -> int | None:
    """The factor of a "hundred", "thousand" or "million" at ``index``."""
    if index >= len(tokens) or tokens[index].kind != PLAIN:
        return None
    number = table.numbers.get(tokens[index].text)
    if number is None or number.form not in (Form.HUNDRED, Form.THOUSAND, Form.MILLION):
        return None
    return number.value
