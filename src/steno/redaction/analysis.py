"""One look at a text: its secrets, its unfinished end, and what it is about."""

from __future__ import annotations

import re
from typing import NamedTuple

from steno.redaction import addresses, checksums, ibans, marks, masking, verdicts
from steno.redaction.context import NOTHING, Context, of_run, of_sentence
from steno.redaction.entities import Entity, Span
from steno.redaction.meanings import meanings
from steno.redaction.numbers import Run, find_runs
from steno.redaction.spoken import Table, Topic
from steno.redaction.tokens import MIXED, PLAIN, SIGN, Scan, Token, first_piece, scan, take
from steno.redaction.verdicts import Surroundings

_COMPLETE_DIGITS = 10
_LINK_WORDS = 3
_SEES_BACK = 13
"""Tokens before a number which can say something of it."""

_SHORT = 4
_CURRENCIES = frozenset("$€£¥")
_HOST_SAID = re.compile(r"\bat\s[\w-]+\s?\.\s?\w", re.IGNORECASE)


class Open(NamedTuple):
    """A number or address that may go on behind the end of the text.

    Attributes:
        start: Its first character.
        hold: It is harmless so far and may become a secret: worth waiting for.
        complete: It is a whole secret as it stands.
    """

    start: int
    hold: bool
    complete: bool


class Analysis(NamedTuple):
    """What is known of a text.

    Attributes:
        spans: What to mask if nothing follows, tidy and in order.
        open: The unfinished end, if any.
        about: The topic of the text, for the sentences after it.
        apart: Nothing said before it would change what is found in it, unless a number
            goes on at its very beginning.
    """

    spans: list[Span]
    open: Open | None
    about: Context
    apart: bool = False


def analyse(
    text: str, table: Table, regions: tuple[str, ...], hint: Context, *, always: bool = False
) -> Analysis:
    """Find the spans of normalised ``text``.

    Args:
        hint: The topic of earlier sentences.
        regions: Regions whose phone numbers count as such, most likely first.
        always: Go on where no word can be part of a secret.
    """
    written: list[Span] = []
    signs = text.count("@") + text.count("＠")
    if signs:
        written = addresses.find_written(text)
    # A sign that belongs to no address is a "at" said, whose address may reach far.
    spoken = hint.topic == Topic.EMAIL or len(written) < signs
    known = meanings(table.code)
    found = scan(text, known, whole=spoken or hint.topic == Topic.IBAN)
    tokens, seen = found.tokens, found.seen
    if "[" in text:
        for match in masking.MASKED.finditer(text):
            take(tokens, match.start(), match.end())
    about = of_sentence(tokens, found.telling, table) if found.telling else NOTHING
    if not (
        always
        or seen & marks.SECRET
        or signs
        or Topic.EMAIL in (about.topic, hint.topic)
        or (seen & marks.AT and seen & marks.DOT and _HOST_SAID.search(text))
    ):
        return Analysis([], None, about, apart=not seen & (marks.NUMBER | marks.FAR))
    spans = written
    _take_all(tokens, spans)
    if found.whole:
        ending = _with_spoken(found, spans, text, table, regions, hint, about)
    elif seen & marks.NUMBER:
        if seen & marks.COUNTRY:
            spans += _take_all(tokens, ibans.find(tokens, table, expected=False))
        ending = _numbers(found, spans, table, regions, hint) or _announced(tokens, table)
    else:
        ending = None
    near = seen & marks.NUMBER and found.numbers[0] < _SEES_BACK
    tidied = masking.tidy(spans, text) if spans else spans
    return Analysis(tidied, ending, about, apart=not (found.whole or near))


def ends_number(text: str, table: Table) -> bool:
    """Whether the first word of normalised ``text`` goes on with no number said before it."""
    known = meanings(table.code)
    word, kind, bits = first_piece(text, known)
    return not bits and kind in (PLAIN, MIXED) and word not in known.inside


def _with_spoken(
    found: Scan,
    spans: list[Span],
    text: str,
    table: Table,
    regions: tuple[str, ...],
    hint: Context,
    about: Context,
) -> Open | None:
    """Add the spans of a text in which an address or IBAN may be said; its unfinished end."""
    tokens = found.tokens
    said = {token.text for token in tokens}
    wanted = hint.topic == Topic.EMAIL or bool(found.seen & marks.EMAIL)
    if not table.at_signs.isdisjoint(said):
        spans += _take_all(tokens, addresses.find_spoken(tokens, table, expected=wanted))
    expected = Topic.IBAN in (about.topic, hint.topic)
    spans += _take_all(tokens, ibans.find(tokens, table, expected=expected))
    ending = _numbers(found, spans, table, regions, hint)
    likely = wanted or not addresses.ADDRESS_WORDS.isdisjoint(said)
    beginning = None
    if likely or not table.at_signs.isdisjoint(said):
        beginning = addresses.beginning(tokens, table, expected=likely, announced=wanted)
    address = _open_address(tokens, table, about, hint, beginning)
    if address is None:
        return ending or _announced(tokens, table)
    beginning, hold = address
    if beginning.sure:
        spans.append(Span(beginning.start, _text_end(tokens), Entity.EMAIL))
    start = beginning.start if ending is None else min(beginning.start, ending.start)
    return Open(start, hold or (ending is not None and ending.hold), complete=False)


def _numbers(
    found: Scan, spans: list[Span], table: Table, regions: tuple[str, ...], hint: Context
) -> Open | None:
    """Add the spans of numbers to ``spans``; the number which may go on behind the end."""
    tokens = found.tokens
    ending: Open | None = None
    for run in find_runs(tokens, found.numbers, table):
        if not run.open and len(run.digits) < verdicts.LEAST_DIGITS:
            continue  # most numbers there are: prices, days, counts
        surroundings = _surroundings(tokens, run, table, regions, hint)
        now = verdicts.judge(run, surroundings, final=False)
        last = now if now or not run.open else verdicts.judge(run, surroundings, final=True)
        spans += [_span(tokens, run, verdict) for verdict in last]
        if run.open:
            complete = bool(now) and len(run.digits) >= _COMPLETE_DIGITS
            hold = not now and verdicts.may_grow(run, surroundings)
            ending = Open(run.start, hold, complete)
    return ending


def _announced(tokens: list[Token], table: Table) -> Open | None:
    """The end of a text in a word such as "double", which announces a digit."""
    word = _last_word(tokens)
    if word is not None and word.text in table.multipliers:
        return Open(word.start, hold=False, complete=False)
    return None


def _take_all(tokens: list[Token], spans: list[Span]) -> list[Span]:
    for span in spans:
        take(tokens, span.start, span.end)
    return spans


def _open_address(
    tokens: list[Token],
    table: Table,
    about: Context,
    hint: Context,
    beginning: addresses.Beginning | None,
) -> tuple[addresses.Beginning, bool] | None:
    """The address at the end, and whether it is worth waiting for its rest."""
    if beginning is None:
        return None
    if beginning.sure:
        return beginning, True
    # A plain word may be a name ("my e-mail is john smith"): wait only where one was announced.
    words = [token for token in tokens if token.kind == PLAIN]
    before = [token for token in words if token.start < beginning.start][-_LINK_WORDS:]
    announced = any(table.topics.get(token.text) == Topic.EMAIL for token in before)
    answered = hint.topic == Topic.EMAIL and about.topic == Topic.NONE and len(words) <= _SHORT
    return beginning, announced or answered


def _surroundings(
    tokens: list[Token], run: Run, table: Table, regions: tuple[str, ...], hint: Context
) -> Surroundings:
    before = _neighbour(tokens, run.first, -1)
    after = _neighbour(tokens, run.last, 1)
    ending = False
    for token in tokens[max(0, run.first - 5) : run.first]:
        if token.marks & marks.ENDING:
            ending = True
    return Surroundings(
        code=table.code,
        regions=regions,
        unit_follows=after in table.units or after in _CURRENCIES,
        time_before=before in table.time_words,
        ending_before=ending,
        context=of_run(tokens, run.first, run.last, table, hint),
    )


def _neighbour(tokens: list[Token], index: int, step: int) -> str:
    """The word beside a run, over a hyphen ("2-year")."""
    index += step
    if 0 <= index < len(tokens) and tokens[index].text in ("-", "("):
        index += step
    return tokens[index].text if 0 <= index < len(tokens) else ""


def _span(tokens: list[Token], run: Run, verdict: verdicts.Verdict) -> Span:
    elements = run.elements
    whole = verdict.first == 0
    start = run.start if whole else tokens[elements[verdict.first].first].start
    end = tokens[elements[verdict.last].last].end
    if verdict.last == len(elements) - 1:
        end = run.end
    return Span(start, end, verdict.entity)


def _last_word(tokens: list[Token]) -> Token | None:
    return next((token for token in reversed(tokens) if token.kind != SIGN), None)


def _text_end(tokens: list[Token]) -> int:
    last = len(tokens) - 1
    while last > 0 and tokens[last].kind == SIGN:
        last -= 1
    return tokens[last].end


def regions_for(code: str, default: str) -> tuple[str, ...]:
    """Regions to try for a language, the deployment's own first."""
    own = checksums.REGIONS[code]
    return (default, *(region for region in own if region != default))
