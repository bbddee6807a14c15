"""Judging a run of digits: which entity it is, or that it stays.

Three kinds of evidence, the strongest first: check digits and fixed formats; what the words
around say; the way it was said. Nobody dictates seven digits one by one who means a
quantity, while a number written in digits alone needs a format or a context.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from steno.redaction import checksums
from steno.redaction.context import Context
from steno.redaction.entities import Entity
from steno.redaction.numbers import Element, Run
from steno.redaction.spoken import Topic

_DICTATED_SECRET = 7
"""Digits said one after the other which are a secret without any context."""

LEAST_DIGITS = 3
"""Fewer digits than these are no secret in any context."""

_DICTATED_UNFINISHED = 5
"""The same for a number that breaks off at the end of the text."""

_LONG = 13
_BY_TOPIC = {
    Topic.CALL: Entity.PHONE,
    Topic.PHONE: Entity.PHONE,
    Topic.CARD: Entity.CARD,
    Topic.SSN: Entity.SSN,
    Topic.ACCOUNT: Entity.NUMBER,
    Topic.IBAN: Entity.IBAN,
    Topic.CODE: Entity.CARD,
}
_LEAST_STRONG = {
    Topic.CALL: 7,
    Topic.PHONE: 4,
    Topic.CARD: 4,
    Topic.SSN: 4,
    Topic.ACCOUNT: 5,
    Topic.IBAN: 4,
    Topic.CODE: 3,
    Topic.EMAIL: 7,
}
_LEAST_WEAK = {
    Topic.CALL: 6,
    Topic.PHONE: 6,
    Topic.CARD: 6,
    Topic.SSN: 4,
    Topic.ACCOUNT: 6,
    Topic.IBAN: 6,
    Topic.CODE: 3,
    Topic.EMAIL: 7,
}
_PHONE_SHAPES = {
    "en": re.compile(r"1? ?3 3 4|5 6|3 4 4|4 3 [34]|3 4 3"),
    "es": re.compile(r"(?:2 )?(?:3 3 3|3 2 2 2|2 3 2 2|2 4 4|3 3 4)"),
    "fr": re.compile(r"(?:2 )?[12] 2 2 2 2"),
    "de": re.compile(r"(?:2 )?[2-5] [3-9](?: \d)*"),
}
_LOCAL = re.compile(r"3 4")
_YEAR = re.compile(r"(?:19|20)\d\d")
_TIGHT = frozenset(("", " ", "-", ".", "–", " - ", "/", ") ", ")", ")-", "‑", "‐"))
_PHONE_LENGTHS = range(7, 16)


class Surroundings(NamedTuple):
    """What a verdict needs to know beside the run itself.

    Attributes:
        code: Language code of the lexicon in use.
        regions: Regions whose phone numbers count.
        unit_follows: A unit ("euros") stands right behind the run.
        time_before: A word such as "in", "at", "since" stands right before.
        ending_before: "ending in", "last four" stands before.
        context: What the words around say.
    """

    code: str
    regions: tuple[str, ...]
    unit_follows: bool
    time_before: bool
    ending_before: bool
    context: Context


class Verdict(NamedTuple):
    """The entity of elements ``first`` to ``last`` of a run (both inclusive)."""

    entity: Entity
    first: int
    last: int


def judge(run: Run, about: Surroundings, *, final: bool) -> list[Verdict]:
    """The entities in ``run``, in order; most often one or none.

    Args:
        final: Nothing will follow: a number which breaks off is judged as it stands, and
            masked when in doubt.
    """
    card = _card(run)
    if card is not None:
        return _around(run, card, about, final=final)
    count = len(run.elements)
    shaped = _by_shape(run, about)
    if shaped is not None:
        return [Verdict(shaped, 0, count - 1)]
    if about.unit_follows and len(run.elements[-1].digits) < _DICTATED_SECRET:
        # "… two dollars": the last number is a quantity; what is before it is judged alone.
        count -= 1
    if count == 0:
        return []
    entity = _entity(_slice(run, 0, count), about, final=final)
    if entity is not None:
        return [Verdict(entity, 0, count - 1)]
    return _windows(run, about)


def _around(run: Run, card: Verdict, about: Surroundings, *, final: bool) -> list[Verdict]:
    """A card, and what stands before and after it in the same run."""
    before = run.elements[: card.first]
    after = run.elements[card.last + 1 :]
    if any(not element.written or element.single for element in before + after):
        # Dictated digits have no groups: the check digit may fit by chance, so take all.
        return [Verdict(Entity.CARD, 0, len(run.elements) - 1)]
    found = [card]
    if before:
        found = [*judge(_slice(run, 0, card.first), about, final=final), card]
    if after:
        rest = _slice(run, card.last + 1, len(run.elements))
        found += [
            Verdict(v.entity, v.first + card.last + 1, v.last + card.last + 1)
            for v in judge(rest, about, final=final)
        ]
    return found


def _windows(run: Run, about: Surroundings) -> list[Verdict]:
    """Numbers of a known form inside a longer row of written groups."""
    count = len(run.elements)
    found: list[Verdict] = []
    if count < 3 or count > 40:
        return found
    first = 0
    while first < count:
        size = 0
        for last in range(first, min(count, first + 6)):
            size += len(run.elements[last].digits)
            if size > 15 or (first == 0 and last == count - 1):
                break
            part = _slice(run, first, last + 1)
            entity = _by_shape(part, about) if size >= 9 and last > first else None
            if entity is not None:
                found.append(Verdict(entity, first, last))
                first = last
                break
        first += 1
    return found


def _slice(run: Run, first: int, stop: int) -> Run:
    return Run(
        run.elements[first:stop],
        plus=run.plus and first == 0,
        open=run.open and stop == len(run.elements),
        gaps=run.gaps[first : stop - 1],
    )


def _entity(run: Run, about: Surroundings, *, final: bool) -> Entity | None:
    context = about.context
    if context.topic == Topic.KEEP or _is_amount(run) or _is_year(run, about):
        return None
    if context.suspicious:
        return _by_context(run, about, final=final)
    return _by_dictation(run, final=final)


def _apart(run: Run, gap: int) -> bool:
    """Whether the run begins or ends at a gap, or it is more than a blank or hyphen."""
    return not 0 <= gap < len(run.gaps) or run.gaps[gap] not in _TIGHT


def _card(run: Run) -> Verdict | None:
    """A card number among whole elements: the entire run, else one of a known issuer."""
    elements = run.elements
    lengths = [len(element.digits) for element in elements]
    total = sum(lengths)
    if total < checksums.MIN_CARD:
        return None
    digits = "".join(element.digits for element in elements)
    if checksums.is_card(digits):
        return Verdict(Entity.CARD, 0, len(elements) - 1)
    at = 0
    for first, length in enumerate(lengths):
        size = 0
        for last in range(first, len(elements)):
            size += lengths[last]
            if size > checksums.MAX_CARD:
                break
            part = digits[at : at + size]
            # Between signs or words of its own, or in one piece, a number needs no known issuer.
            whole = first == last or (_apart(run, first - 1) and _apart(run, last))
            if checksums.is_card(part) and (whole or checksums.has_issuer(part)):
                return Verdict(Entity.CARD, first, last)
        at += length
    return None


def _by_shape(run: Run, about: Surroundings) -> Entity | None:
    """Entities which their written form gives away, whatever the words around say."""
    elements, digits = run.elements, run.digits
    count = len(digits)
    if run.plus and 8 <= count <= 15:
        return Entity.PHONE
    kept = about.context.topic == Topic.KEEP
    if not all(element.written for element in elements):
        return None
    groups = " ".join(str(len(element.digits)) for element in elements)
    tight = _tight(run)
    if groups == "3 2 4" and tight and checksums.is_ssn(digits) and not kept:
        return Entity.SSN
    if groups == "4 4 4 4" and tight and not kept:
        return Entity.CARD
    if count not in _PHONE_LENGTHS or _is_amount(run):
        return None
    shape = _PHONE_SHAPES[about.code]
    if shape.fullmatch(groups) or (tight and groups in ("3 3 4", "1 3 3 4")):
        if tight and not kept and count >= 9:
            return Entity.PHONE
        return Entity.PHONE if _valid(digits, about) else None
    if kept:
        return None
    if _LOCAL.fullmatch(groups) and run.gaps == ["-"]:
        return Entity.PHONE
    if count >= 9 and (len(elements) > 1 or digits[0] != "1") and len(elements) <= 6:
        if len(elements) == 1 and about.context.topic == Topic.NONE and not _leads(digits, about):
            return None
        return Entity.PHONE if _valid(digits, about) else None
    return None


def _leads(digits: str, about: Surroundings) -> bool:
    """Whether an unbroken group of digits looks dialled: a trunk zero, or a US number."""
    return digits[0] == "0" or len(digits) == 10 or (about.code == "es" and len(digits) == 9)


def _valid(digits: str, about: Surroundings) -> bool:
    if digits.startswith("00"):
        return checksums.is_phone("+" + digits[2:], about.regions)
    return checksums.is_phone(digits, about.regions)


def _by_context(run: Run, about: Surroundings, *, final: bool) -> Entity | None:
    elements, digits = run.elements, run.digits
    context = about.context
    topic = context.topic
    # The answer to a question may be another number ("I paid 1250"): what was asked for is
    # dictated, or long.
    singles = sum(len(element.digits) for element in elements if element.single)
    strong = context.strong and (not context.hinted or 2 * singles >= len(digits))
    least = (_LEAST_STRONG if strong else _LEAST_WEAK)[topic]
    if final and run.open and strong:
        least = min(least, 3)
    count = len(digits)
    if count < least:
        return None
    if topic in (Topic.CARD, Topic.PHONE) and about.ending_before and count <= 4:
        # The last digits of a card may be shown (PCI DSS 3.4); of a phone they are no number.
        return None if topic == Topic.CARD else Entity.PHONE
    if len(elements) == 1 and elements[0].large and count < _DICTATED_SECRET:
        return None  # "four thousand": a quantity in spite of the words around.
    if count < _DICTATED_SECRET and _is_clock(elements, about):
        return None
    if topic == Topic.EMAIL:
        return _by_dictation(run, final=final)
    if topic == Topic.CARD and checksums.is_ssn(digits) and len(elements) == 3:
        return Entity.SSN
    return _BY_TOPIC[topic]


def _by_dictation(run: Run, *, final: bool) -> Entity | None:
    """A number without any context: the way it was said decides."""
    elements, digits = run.elements, run.digits
    count = len(digits)
    singles = sum(len(element.digits) for element in elements if element.single)
    written = sum(len(element.digits) for element in elements if element.written)
    if len(elements) < 3 or any(e.large and len(e.digits) > 3 for e in elements):
        return None
    if count >= _DICTATED_SECRET:
        if written == count and singles < count // 2:
            return Entity.CARD if _LONG <= count <= 19 and _tight(run) else None
        if all(len(e.digits) > 1 and e.digits.endswith("0") for e in elements):
            return None  # "twenty, thirty, forty": counting
        if _is_spoken_date(elements):
            return None
        return _kind_by_length(digits)
    if final and run.open and count >= _DICTATED_UNFINISHED and singles >= count - 1:
        return Entity.NUMBER
    return None


def _kind_by_length(digits: str) -> Entity:
    count = len(digits)
    if _LONG <= count <= 19:
        return Entity.CARD
    if count > 19:
        return Entity.NUMBER
    return Entity.PHONE


def _tight(run: Run) -> bool:
    """The groups belong together as written: no commas or words between them."""
    return all(gap in _TIGHT for gap in run.gaps)


def _is_amount(run: Run) -> bool:
    """Decimals ("3.14", "1,299.50"), thousands ("1.250.000"), IP addresses."""
    elements = run.elements
    if run.plus or not run.gaps or not all(element.written for element in elements):
        return False
    sizes = [len(element.digits) for element in elements]
    gaps = set(run.gaps)
    if len(elements) == 2 and gaps <= {".", ","}:
        return True
    if gaps == {"."} and len(elements) == 4:
        return all(len(e.digits) < 4 and int(e.digits) < 256 for e in elements)
    thousands = sizes[0] <= 3 and all(size == 3 for size in sizes[1:])
    if gaps in ({","}, {"."}) and thousands:
        return sizes[0] < 3 or gaps == {","}
    decimals = thousands or (sizes[0] <= 3 and all(size == 3 for size in sizes[1:-1]))
    return len(gaps) == 2 and gaps == {".", ","} and run.gaps.count(run.gaps[-1]) == 1 and decimals


def _is_year(run: Run, about: Surroundings) -> bool:
    """Whether it is "2019" or "nineteen eighty four", and not behind "number is"."""
    elements = run.elements
    if not _YEAR.fullmatch(run.digits):
        return False
    paired = len(elements) <= 2 and not any(element.single for element in elements)
    if not paired:
        return False
    return about.time_before or not (about.context.strong and run.open)


def _is_clock(elements: list[Element], about: Surroundings) -> bool:
    """Whether it can be a time of day, as in "call me at five thirty"."""
    if not about.time_before or len(elements) > 2:
        return False
    if any(len(element.digits) > 2 for element in elements):
        return False
    hour = int(elements[0].digits or "0")
    return hour <= 24 and (len(elements) == 1 or int(elements[1].digits) < 60)


def _is_spoken_date(elements: list[Element]) -> bool:
    """Whether it is day, month and year ("twelve five nineteen eighty four"), no more."""
    values = [element.digits for element in elements]
    year = ""
    while values and len(year) < 4:
        year = values.pop() + year
    if not _YEAR.fullmatch(year) or len(values) != 2 or any(len(v) > 2 for v in values):
        return False
    first, second = (int(value) for value in values)
    return 1 <= first <= 31 and 1 <= second <= 31 and min(first, second) <= 12


def may_grow(run: Run, about: Surroundings) -> bool:
    """Whether an open, so far harmless run may become a secret and is worth waiting for."""
    if not run.open or about.unit_follows or about.context.topic == Topic.KEEP:
        return False
    elements = run.elements
    digits = run.digits
    if len(elements) == 1 and elements[0].weak:
        return False
    if _is_amount(run) or _is_year(run, about):
        return False
    if about.context.suspicious and about.context.topic != Topic.EMAIL:
        return not (len(digits) < 5 and _is_clock(elements, about))
    if len(elements) == 1 and (elements[0].large or (elements[0].single and len(digits) == 1)):
        return False
    if len(elements) == 2 and "d" in run.gaps[0]:
        return False  # "three dot five": a decimal or a version
    if digits[0] == "0" and len(elements) >= 2:
        return True  # "zéro six …": no quantity begins with a zero
    singles = sum(len(element.digits) for element in elements if element.single)
    if singles >= 2 and singles * 2 >= len(digits):
        return True
    if about.time_before and _is_clock(elements, about):
        return False
    return len(digits) >= 4 and not all(element.large for element in elements)
