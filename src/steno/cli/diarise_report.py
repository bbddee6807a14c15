"""``steno diarise report``: who talked how long, in turns, over each other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from steno.cli.common import (
    ConfigOption,
    ExitCode,
    JsonOption,
    LogLevelOption,
    Output,
    Progress,
    StateDirOption,
    load_settings,
)

if TYPE_CHECKING:
    from steno.diarisation.report import ConversationReport, Overview
    from steno.ports import Timeline

OrderName = Literal[
    "name",
    "start",
    "duration",
    "segments",
    "silence",
    "overlap",
    "interruptions",
    "confidence",
    "audit",
]


class Wanted(msgspec.Struct, frozen=True):
    """What to report on, and how.

    Attributes:
        conversations: Only these; empty for all.
        since_us: Only conversations with something stored since, UTC microseconds.
        pause_us: Longest pause within a turn.
        draw: Keep what the pictures need; with the text where ``with_text``.
    """

    conversations: tuple[str, ...]
    since_us: int
    min_confidence: float
    pause_us: int
    draw: bool
    with_text: bool


def report(
    conversation: Annotated[
        list[str] | None,
        typer.Option(help="Only this conversation; repeat for more.", metavar="ID"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Only conversations with a segment stored since (RFC 3339, or a date).",
            metavar="TIME",
            show_default=False,
        ),
    ] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            help="Leave out segments below this confidence (0.85 unless set).",
            min=0.0,
            max=1.0,
            show_default=False,
        ),
    ] = None,
    turns_pause: Annotated[
        float,
        typer.Option(help="A longer pause ends a turn, in seconds.", metavar="S", min=0.0),
    ] = 2.0,
    order: Annotated[
        OrderName,
        typer.Option(
            help="How conversations are listed: the largest first, of confidence the smallest."
        ),
    ] = "name",
    full: Annotated[
        int,
        typer.Option(
            help="So many conversations, the first in that order, are shown in full, on the page "
            "with a picture each; the others have a row in the table.",
            min=0,
            max=1000,
        ),
    ] = 20,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write a page with timeline pictures here; - is standard output.",
            metavar="FILE",
        ),
    ] = None,
    with_text: Annotated[
        bool,
        typer.Option("--with-text", help="--html: what was said, when a bar is pointed at."),
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Show who talked how long, in turns and over each other, and how long nobody did.

    Reads what was collected, also beside a running gateway. Without --html the figures are
    printed as tables. The page holds everything it needs and asks for no network; only its owner
    may read it. With --json there is one object with all conversations, by name; times are
    seconds. Conversations that have nothing but segments that never entered the result are told
    with the likely cause.

    Example: steno diarise report --order silence --html report.html

    Exit codes: 1 a conversation's records are damaged, 5 no segment met the threshold.
    """
    from steno.adapters.state_dir import StateDir
    from steno.adapters.store_sqlite.timeline import TimelineReader
    from steno.diarisation.report import Order, Overview

    if json and html is not None and str(html) == "-":
        raise typer.BadParameter("standard output holds one of both", param_hint="--html")
    if with_text and html is None:
        raise typer.BadParameter("only together with --html", param_hint="--with-text")
    settings = load_settings(
        config,
        state_dir=state_dir,
        log_level=log_level,
        overrides={"diarisation.min_confidence": min_confidence},
    )
    wanted = Wanted(
        conversations=tuple(dict.fromkeys(conversation or ())),
        since_us=instant_us(since),
        min_confidence=settings.diarisation.min_confidence,
        pause_us=round(turns_pause * 1_000_000),
        draw=html is not None,
        with_text=with_text,
    )
    out = Output(json=json)
    overview = Overview(Order(order), full=full)
    with TimelineReader(StateDir(settings.state_dir).database) as timeline:
        damaged = _gather(timeline, wanted, overview, out)
    if html is not None:
        _write(html, _page(overview, wanted))
    _tell(overview, out, html=html)
    if damaged:
        raise typer.Exit(ExitCode.FAILED)
    if not overview.totals.segments:
        threshold = f"no segment met the confidence threshold {wanted.min_confidence:g}"
        out.note(threshold if overview.totals.conversations else "no such conversation is stored")
        raise typer.Exit(ExitCode.NOTHING_FOUND)


def instant_us(text: str | None) -> int:
    """Return UTC microseconds of an RFC 3339 time or a date; a time without a zone is UTC.

    Raises:
        typer.BadParameter: It is none.
    """
    if text is None:
        return 0
    try:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return max(0, int(at.timestamp() * 1e6))
    except (ValueError, OverflowError):
        raise typer.BadParameter("not an RFC 3339 time", param_hint="--since") from None


def _gather(timeline: Timeline, wanted: Wanted, overview: Overview, out: Output) -> int:
    """Take in one conversation after the other; return how many are damaged."""
    from steno.core.records import Kind
    from steno.diarisation.picture import Sketch
    from steno.diarisation.report import report_on
    from steno.errors import IntegrityError

    progress = Progress("analysed", unit="conversations")
    stream = _JsonStream(out)
    damaged = done = 0
    for name in _names(timeline, wanted):
        sketch = Sketch(with_text=wanted.with_text)
        try:
            one = report_on(
                name,
                timeline.read(name, Kind.SEGMENT),
                timeline.read(name, Kind.SEGMENT_AUDIT),
                min_confidence=wanted.min_confidence,
                pause_us=wanted.pause_us,
                sketch=sketch if wanted.draw else None,
            )
        except IntegrityError as error:
            damaged += 1
            out.note(f"steno: conversation {name} is left out: {error}")
            continue
        overview.add(one, sketch)
        stream.add(one)
        done += 1
        progress.show(done, 0)
    progress.end()
    stream.end(overview, damaged)
    return damaged


def _names(timeline: Timeline, wanted: Wanted) -> Iterator[str]:
    """Conversations with segments, or with nothing but an audit, in order of their names."""
    from heapq import merge
    from itertools import groupby

    from steno.core.records import Kind

    def of_kind(kind: Kind) -> Iterator[str]:
        for one in sorted(wanted.conversations) or (None,):
            for entry in timeline.conversations(kind, since_us=wanted.since_us, conversation=one):
                yield entry.conversation

    for name, _ in groupby(merge(of_kind(Kind.SEGMENT), of_kind(Kind.SEGMENT_AUDIT))):
        yield name


class _JsonStream:
    """Writes one object, conversation by conversation, where ``--json`` was given."""

    def __init__(self, out: Output) -> None:
        self._on = out.json
        self._before = '{"conversations":['

    def add(self, one: ConversationReport) -> None:
        """Write a conversation."""
        if self._on:
            print(self._before, msgspec.json.encode(one).decode(), sep="", end="")
            self._before = ","

    def end(self, overview: Overview, damaged: int) -> None:
        """Write what comes after the conversations."""
        if self._on:
            opening = "" if self._before == "," else self._before
            totals = msgspec.json.encode(overview.totals).decode()
            print(f'{opening}],"totals":{totals},"damaged":{damaged}}}', flush=True)


def _page(overview: Overview, wanted: Wanted) -> Iterator[str]:
    from steno.diarisation.page import page

    remarks = [
        f"Segments with a confidence of {wanted.min_confidence:g} or more; "
        f"a pause of more than {wanted.pause_us / 1e6:g} s ends a turn."
    ]
    now_us = int(datetime.now(UTC).timestamp() * 1e6)
    return page(overview, made_us=now_us, remarks=remarks)


def _write(path: Path, pieces: Iterator[str]) -> None:
    """Write a file whole or not at all; it may quote what was said, so it is its owner's alone.

    Raises:
        ConfigError, StorageError: It cannot be written there.
    """
    import sys

    from steno.adapters.exports import replace_file

    if str(path) == "-":
        sys.stdout.writelines(pieces)
        return
    replace_file(path, (piece.encode("utf-8", "replace") for piece in pieces), setting="--html")


def _tell(overview: Overview, out: Output, *, html: Path | None) -> None:
    import shutil

    from steno.diarisation.tables import text_report, totals_line

    if html is not None:
        out.note(f"{html}: {totals_line(overview.totals)}")
        for one in overview.in_full():
            if one.report.likely_cause:
                name = one.report.figures.conversation
                out.note(f"conversation {name}: {one.report.likely_cause}")
    elif not out.json:
        width = shutil.get_terminal_size((0, 0)).columns or None
        for line in text_report(overview, width=width):
            out.line(line)
