"""The shape of a language's table, and the merged lexicon redaction works with.

Each language states its own words. The lexicon used for a sentence is that of its language
with the number words of the other languages added behind: language tags lag behind the
speaker (the feed says ``en-US`` until it has switched), and a Spanish phone number under an
English tag is still a phone number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Form(IntEnum):
    """How a number word combines with those beside it."""

    UNIT = 1  # 0-9
    TEEN = 2  # 10-19
    TENS = 3  # 20, 30 … 90: may take a unit
    WHOLE = 4  # 21-99 said as one word
    HUNDREDS = 5  # a finished multiple of 100: may take what is below 100
    HUNDRED = 6  # the word "hundred"
    THOUSAND = 7
    MILLION = 8
    FULL = 9  # 101 and more said as one word: takes nothing


class Topic(IntEnum):
    """What the words around a number say it is."""

    NONE = 0
    KEEP = 1  # an order, a price, a date … : stays
    CALL = 2  # "call me at": perhaps a phone number, perhaps a time
    PHONE = 3
    CARD = 4
    SSN = 5
    ACCOUNT = 6
    IBAN = 7
    CODE = 8  # a card's verification code
    EMAIL = 9


@dataclass(frozen=True, slots=True)
class Number:
    """A number word's value and form."""

    value: int
    form: Form


@dataclass(frozen=True, slots=True)
class Table:
    """One language's words, all in lower case.

    Attributes:
        numbers: Number words.
        not_numbers: Number words of other languages which are ordinary words here.
        weak: Number words which are mostly articles or pronouns ("one", "un").
        multipliers: "double", "triple" before a digit.
        fillers: Words which may stand inside a dictated number.
        soft: Homophones of digits ("to", "for"), bridged between two single digits only.
        joins: "and" inside a number.
        ors: Words between alternatives; they end a number.
        units: Words after a quantity.
        time_words: Words before a time of day or a year.
        topics: Words which say what a number is.
        number_words: "number" itself, which makes a topic strong.
        mine: Possessives: "my number" is a phone number.
        ending: Words before the last digits of something.
        at, dots: E-mail words.
        joiners: Words for characters inside an address (underscore, dash).
        email_words: The topic words of e-mail, filled in by ``merge``.
        telling: Words ``context.topic_at`` has something to say on, filled in by ``merge``.
        at_signs: E-mail words and signs for "at", filled in by ``merge``.
        stops: Words which are never part of an address said without "dot".
    """

    code: str
    numbers: Mapping[str, Number]
    not_numbers: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()
    multipliers: Mapping[str, int] = field(default_factory=dict)
    fillers: frozenset[str] = frozenset()
    soft: frozenset[str] = frozenset()
    joins: frozenset[str] = frozenset()
    ors: frozenset[str] = frozenset()
    units: frozenset[str] = frozenset()
    time_words: frozenset[str] = frozenset()
    topics: Mapping[str, Topic] = field(default_factory=dict)
    number_words: frozenset[str] = frozenset()
    mine: frozenset[str] = frozenset()
    ending: frozenset[str] = frozenset()
    at: frozenset[str] = frozenset()
    dots: frozenset[str] = frozenset()
    joiners: frozenset[str] = frozenset()
    stops: frozenset[str] = frozenset()
    email_words: frozenset[str] = frozenset()
    telling: frozenset[str] = frozenset()
    at_signs: frozenset[str] = frozenset()


def words(text: str) -> frozenset[str]:
    """The words of ``text`` as a set."""
    return frozenset(text.split())


def digits(*groups: str) -> dict[str, Number]:
    """Number words from groups in the order of their values, ``a/b`` for two spellings.

    Args:
        groups: Words for 0-9, for 10-19, and for 20, 30 … 90, in that order.
    """
    table: dict[str, Number] = {}
    units, teens, tens = (group.split() for group in groups)
    for value, spellings in enumerate(units):
        table |= {word: Number(value, Form.UNIT) for word in spellings.split("/")}
    for value, spellings in enumerate(teens, 10):
        table |= {word: Number(value, Form.TEEN) for word in spellings.split("/")}
    for index, spellings in enumerate(tens, 2):
        table |= {word: Number(10 * index, Form.TENS) for word in spellings.split("/")}
    return table


def topics(by_topic: Mapping[Topic, str]) -> dict[str, Topic]:
    """A word-to-topic table from the words of each topic."""
    return {word: topic for topic, text in by_topic.items() for word in text.split()}


def merge(own: Table, others: Iterable[Table]) -> Table:
    """``own`` with the words of ``others`` behind it; its own meaning of a word wins."""
    numbers = dict(own.numbers)
    multipliers = dict(own.multipliers)
    by_topic = dict(own.topics)
    grown = {name: set(getattr(own, name)) for name in _SETS}
    # An ordinary word here must not become special because another language has it: "is",
    # "on", "me" stay what they are. Only long topic words are shared for that reason.
    for table in others:
        for word, number in table.numbers.items():
            if word not in own.not_numbers:
                numbers.setdefault(word, number)
        for word, factor in table.multipliers.items():
            multipliers.setdefault(word, factor)
        for word, topic in table.topics.items():
            if len(word) > 3 and word not in own.stops:
                by_topic.setdefault(word, topic)
        for name, grown_set in grown.items():
            grown_set |= getattr(table, name) - own.ors - own.not_numbers
    return Table(
        code=own.code,
        numbers=MappingProxyType(numbers),
        not_numbers=own.not_numbers,
        weak=own.weak,
        multipliers=MappingProxyType(multipliers),
        soft=own.soft,
        ors=own.ors,
        topics=MappingProxyType(by_topic),
        stops=own.stops,
        email_words=frozenset(word for word, topic in by_topic.items() if topic == Topic.EMAIL),
        telling=frozenset(by_topic) | grown["number_words"] | {"code"},
        at_signs=frozenset(grown["at"] | {"@", "＠"}),
        **{name: frozenset(grown_set) for name, grown_set in grown.items()},
    )


_SETS = (
    "fillers",
    "joins",
    "units",
    "time_words",
    "number_words",
    "mine",
    "ending",
    "at",
    "dots",
    "joiners",
)
