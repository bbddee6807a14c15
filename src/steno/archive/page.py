"""Summaries of conversations as one HTML page, the waveform of each with it; no network needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from steno.archive.picture import svg
from steno.archive.sound import Outside, Sound
from steno.archive.strip import Strip
from steno.archive.summary import Analysis, RoleShare, TranscriptSummary
from steno.core.page import clean, definitions, document, html_table, paragraph
from steno.core.tables import Column, clock, confidence, moment, number_of, percent

MAX_PICTURES: Final = 50
"""Conversations shown with a picture; of the others there is the row of the table."""
MAX_ROWS: Final = 5000


class Shown(msgspec.Struct, frozen=True):
    """A conversation on the page. ``strip`` is None where no picture is kept of it."""

    summary: TranscriptSummary
    analysis: Analysis
    outcome: str
    communication: str = ""
    strip: Strip | None = None
    sound: Sound | None = None
    outside: Outside | None = None


class Gathered:
    """Conversations for a page, in bounded memory: rows up to a limit, pictures of the first."""

    def __init__(self) -> None:
        self.rows: list[Shown] = []
        self.more = 0
        self._pictures = 0

    def add(self, shown: Shown) -> None:
        """Take a conversation in."""
        if len(self.rows) >= MAX_ROWS:
            self.more += 1
            return
        if self._pictures >= MAX_PICTURES:
            shown = msgspec.structs.replace(shown, strip=None, sound=None)
        elif shown.sound is not None:
            shown.sound.forget_levels()
        self._pictures += shown.strip is not None
        self.rows.append(shown)


def page(gathered: Gathered, *, made_us: int) -> Iterator[str]:
    """Yield the page in pieces."""
    yield from document("Archived conversations", _body(gathered, made_us))


_COLUMNS: Final[tuple[Column[Shown], ...]] = (
    Column("conversation", "Its id.", lambda row: _name(row), number=False),
    Column("outcome", "What became of it.", lambda row: row.outcome, number=False),
    Column(
        "length", "End of the last turn.", lambda row: clock(row.summary.total_duration_seconds)
    ),
    Column("turns", "All turns.", lambda row: str(row.summary.total_turns)),
    Column("agent", "Turns of agents.", lambda row: str(row.summary.agent_turns)),
    Column("customer", "Turns of customers.", lambda row: str(row.summary.customer_turns)),
    Column(
        "confidence",
        "Mean of the turns that tell one.",
        lambda row: confidence(row.summary.avg_confidence),
    ),
    Column("overlap", "Time of turns in which another went on.", lambda row: _time(row, "overlap")),
    Column("silence", "Time in which nobody speaks.", lambda row: _time(row, "silence")),
)


def _name(row: Shown) -> str:
    name = row.summary.interaction_id
    return f"{name} {row.communication}" if row.communication else name


def _time(row: Shown, which: str) -> str:
    analysis = row.analysis
    value = analysis.overlap_seconds if which == "overlap" else analysis.silence_seconds
    return "–" if value is None else clock(value)


def _body(gathered: Gathered, made_us: int) -> Iterator[str]:
    rows = gathered.rows
    turns = sum(row.summary.total_turns for row in rows)
    length = sum(row.summary.total_duration_seconds for row in rows)
    yield paragraph(
        f"{number_of(len(rows), 'transcript')}, {number_of(turns, 'turn')}, {clock(length)} in all."
    )
    yield paragraph(f"Made {moment(made_us)} UTC.", kind="soft")
    idents = [f"t{n}" if row.strip is not None else None for n, row in enumerate(rows)]
    caption = "Transcripts."
    if gathered.more:
        caption += f" {gathered.more} more are not listed."
    yield from html_table(_COLUMNS, rows, caption=caption, links=idents)
    for ident, row in zip(idents, rows, strict=True):
        if ident is not None and row.strip is not None:
            yield from _conversation(row, row.strip, ident)


def _conversation(row: Shown, strip: Strip, ident: str) -> Iterator[str]:
    yield (
        f'<section id="{ident}" aria-labelledby="{ident}-h">\n'
        f'<h2 id="{ident}-h">{clean(_name(row))}</h2>\n'
    )
    yield definitions(_facts(row))
    yield '<div class="wide" role="group" tabindex="0" aria-label="Who speaks when">\n'
    yield from svg(strip, row.sound, title="Who speaks when", alone=False)
    yield "</div>\n"
    yield from html_table(
        _ROLES,
        [(role, share) for role, share in row.analysis.roles.items() if share.turns],
        caption="By role.",
    )
    yield "</section>\n"


_ROLES: Final[tuple[Column[tuple[str, RoleShare]], ...]] = (
    Column("role", "Who speaks.", lambda row: row[0], number=False),
    Column("turns", "Turns.", lambda row: str(row[1].turns)),
    Column("talk", "Time of its turns.", lambda row: clock(row[1].talk_seconds)),
    Column("share", "Of all time spoken.", lambda row: percent(row[1].talk_share)),
    Column(
        "confidence",
        "Mean of the turns that tell one.",
        lambda row: confidence(row[1].avg_confidence),
    ),
)


def _facts(row: Shown) -> Sequence[tuple[str, str]]:
    facts = [("outcome", row.outcome), ("length", clock(row.summary.total_duration_seconds))]
    if row.summary.archived_at:
        facts.append(("archived", row.summary.archived_at))
    if row.summary.storage_location:
        facts.append(("at", row.summary.storage_location))
    if row.outside is not None and row.outside.count:
        facts.append(("outside the audio", number_of(row.outside.count, "segment")))
    return facts
