"""One look at a text: its secrets, its unfinished end, and what it is about."""

from __future__ import annotations

from typing import NamedTuple

from steno.redaction import addresses, checksums, ibans, masking, verdicts
from steno.redaction.context import Context, of_run, of_sentence
from steno.redaction.entities import Entity, Span
from steno.redaction.numbers import Run, find_runs
from steno.redaction.spoken import Table, Topic
from steno.redaction.tokens import PLAIN, SIGN, Token, take, tokenise
from steno.redaction.verdicts import Surroundings

_COMPLETE_DIGITS = 10
_LINK_WORDS = 3
_SHORT = 4
_CURRENCIES = frozenset("$€£¥")


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
    """

    spans: list[Span]
    open: Open | None
    about: Context


def analyse(text: str, table: Table, regions: tuple[str, ...], hint: Context) -> Analysis:
    """Find the spans of normalised ``text``.

    Args:
        hint: The topic of earlier sentences.
        regions: Regions whose phone numbers count as such, most likely first.
    """
    tokens = tokenise(text)
    said = {token.text for token in tokens}
    if "[" in text:
        for match in masking.MASKED.finditer(text):
            take(tokens, match.start(), match.end())
    about = of_sentence(tokens, table)
    wanted = hint.topic == Topic.EMAIL or not table.email_words.isdisjoint(said)
    spans = _addresses_and_ibans(text, tokens, said, table, about, hint, wanted=wanted)
    ending: Open | None = None
    for run in find_runs(tokens, table):
        surroundings = _surroundings(tokens, run, table, regions, hint)
        now = verdicts.judge(run, surroundings, final=False)
        last = now if now or not run.open else verdicts.judge(run, surroundings, final=True)
        spans += [_span(tokens, run, verdict) for verdict in last]
        if run.open:
            complete = bool(now) and len(run.digits) >= _COMPLETE_DIGITS
            hold = not now and verdicts.may_grow(run, surroundings)
            ending = Open(run.start, hold, complete)
    likely = wanted or not _ADDRESS_WORDS.isdisjoint(said)
    beginning = None
    if likely or not table.at_signs.isdisjoint(said):
        beginning = addresses.beginning(tokens, table, expected=likely, announced=wanted)
    address = _open_address(tokens, table, about, hint, beginning)
    if address is not None:
        beginning, hold = address
        if beginning.sure:
            spans.append(Span(beginning.start, _text_end(tokens), Entity.EMAIL))
        start = beginning.start if ending is None else min(beginning.start, ending.start)
        ending = Open(start, hold or (ending is not None and ending.hold), complete=False)
    elif ending is None:
        word = _last_word(tokens)
        if word is not None and word.text in table.multipliers:
            ending = Open(word.start, hold=False, complete=False)
    return Analysis(masking.tidy(spans, text), ending, about)


def _addresses_and_ibans(
    text: str,
    tokens: list[Token],
    said: set[str],
    table: Table,
    about: Context,
    hint: Context,
    *,
    wanted: bool,
) -> list[Span]:
    spans: list[Span] = []
    if "@" in text or "＠" in text:
        spans += addresses.find_written(text)
        _take_all(tokens, spans)
    spoken: list[Span] = []
    if not table.at_signs.isdisjoint(said):
        spoken = addresses.find_spoken(tokens, table, expected=wanted)
        _take_all(tokens, spoken)
    expected = Topic.IBAN in (about.topic, hint.topic)
    found = ibans.find(tokens, table, expected=expected)
    _take_all(tokens, found)
    return spans + spoken + found


def _take_all(tokens: list[Token], spans: list[Span]) -> None:
    for span in spans:
        take(tokens, span.start, span.end)


_ADDRESS_WORDS = frozenset(
    (
        *("dot", "underscore", "arroba", "guion", "guión", "arobase", "tiret"),
        *("klammeraffe", "unterstrich", "bindestrich"),
    )
)


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
    ending = any(token.text in table.ending for token in tokens[max(0, run.first - 5) : run.first])
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
