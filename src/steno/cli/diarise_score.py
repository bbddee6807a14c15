"""``steno diarise score``: how far what was collected is from a reference."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steno.cli.common import (
    ConfigOption,
    ExitCode,
    JsonOption,
    LogLevelOption,
    Output,
    StateDirOption,
    load_settings,
)

if TYPE_CHECKING:
    from steno.adapters.scoring import ConversationScore, Document, Options, Scores


def score(
    reference: Annotated[
        list[Path],
        typer.Argument(
            metavar="REFERENCE...",
            help="RTTM for speakers (DER); STM, SegLST or an export of ours (json, jsonl) for "
            "words (cpWER), and for speakers where no RTTM is given.",
        ),
    ],
    hypothesis: Annotated[
        Path | None,
        typer.Option(
            help="An export to be scored (json, jsonl, rttm); else what is stored.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    conversation: Annotated[
        list[str] | None,
        typer.Option(help="Only this conversation; repeat for more.", metavar="ID"),
    ] = None,
    collar: Annotated[
        float,
        typer.Option(
            help="DER: seconds left out on either side of a start or end in the reference.",
            metavar="S",
            min=0.0,
            max=60.0,
        ),
    ] = 0.25,
    skip_overlap: Annotated[
        bool,
        typer.Option("--skip-overlap", help="DER: leave out the time in which several speak."),
    ] = False,
    verbatim: Annotated[
        bool,
        typer.Option("--verbatim", help="cpWER: case and punctuation count."),
    ] = False,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            help="Of what is stored, leave out segments below this (0.85 unless set).",
            min=0.0,
            max=1.0,
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Compare speaker segments with a reference: DER and cpWER, by conversation and in all.

    DER is the share of the reference's speech that is missed, invented or given to the wrong
    speaker; cpWER the share of its words that are wrong or said by the wrong speaker. Labels of
    speakers need not agree: the best mapping counts. A conversation that the hypothesis does not
    have is missed altogether. Needs the extra: pip install 'steno[score]'.

    Example: steno diarise score reference.rttm reference.stm --hypothesis segments.json

    Exit codes: 1 a conversation could not be scored, 5 none of the references was found.
    """
    from steno.adapters.scoring import Options, read_document, require_scoring
    from steno.adapters.scoring import score as compare

    require_scoring()
    settings = load_settings(
        config,
        state_dir=state_dir,
        log_level=log_level,
        overrides={"diarisation.min_confidence": min_confidence},
    )
    references = [_only(read_document(one, setting="REFERENCE"), conversation) for one in reference]
    if hypothesis is not None:
        found = _only(read_document(hypothesis, setting="--hypothesis"), conversation)
    else:
        names = sorted({name for one in references for name in one.pieces})
        found = _stored(names, settings.state_dir, settings.diarisation.min_confidence)
    options = Options(round(collar * 1e6), not skip_overlap, verbatim)
    scores = compare(references, found, options)
    _tell(scores, options, Output(json=json))


def _only(document: Document, conversations: Iterable[str] | None) -> Document:
    from msgspec.structs import replace

    if not conversations:
        return document
    wanted = set(conversations)
    pieces = {name: found for name, found in document.pieces.items() if name in wanted}
    return replace(document, pieces=pieces)


def _stored(names: Iterable[str], state_dir: Path, min_confidence: float) -> Document:
    """Read the segments of the references' conversations from the store."""
    from steno.adapters.scoring import Document, Piece
    from steno.adapters.state_dir import StateDir
    from steno.adapters.store_sqlite.timeline import TimelineReader
    from steno.core.records import Kind
    from steno.diarisation.views import views

    pieces: dict[str, list[Piece]] = {}
    with TimelineReader(StateDir(state_dir).database) as timeline:
        for name in names:
            segments = views(timeline.read(name, Kind.SEGMENT), min_confidence=min_confidence)
            found = [Piece(one.speaker, one.start_us, one.end_us, one.text) for one in segments]
            if found:
                pieces[name] = found
    return Document(pieces)


def _tell(scores: Scores, options: Options, out: Output) -> None:
    import msgspec

    from steno.core.tables import number_of

    if not scores.conversations:
        out.note("the references hold no segment, or none of what was asked for")
    if scores.unreferenced:
        out.note(
            f"without a reference, not scored: {number_of(scores.unreferenced, 'conversation')}"
        )
    if scores.not_found:
        out.note(f"of the references, not found: {number_of(scores.not_found, 'conversation')}")
    for one in scores.conversations:
        if one.problem:
            out.note(f"conversation {one.conversation}: {one.problem}")
    if out.json:
        out.result({**msgspec.structs.asdict(scores), "options": options})
    elif scores.conversations:
        for line in _table(scores):
            out.line(line)
    if all(not one.found for one in scores.conversations):
        raise typer.Exit(ExitCode.NOTHING_FOUND)
    if any(one.problem for one in scores.conversations):
        raise typer.Exit(ExitCode.FAILED)


def _table(scores: Scores) -> Iterable[str]:
    from steno.adapters.scoring import ConversationScore
    from steno.core.tables import NONE, Column, seconds, table

    def column(
        head: str, text: Callable[[ConversationScore], str], rank: int = 0
    ) -> Column[ConversationScore]:
        return Column(head, "", text, rank=rank)

    def of_speakers(head: str, name: str, rank: int) -> Column[ConversationScore]:
        return column(
            head,
            lambda one: NONE if one.speakers is None else seconds(getattr(one.speakers, name)),
            rank,
        )

    def of_words(head: str, name: str, rank: int) -> Column[ConversationScore]:
        return column(
            head, lambda one: NONE if one.words is None else str(getattr(one.words, name)), rank
        )

    columns = [
        Column[ConversationScore]("Conversation", "", lambda one: one.conversation, number=False),
        column("DER", lambda one: _rate(one.speakers.der if one.speakers else None)),
        of_speakers("Missed", "missed_s", 1),
        of_speakers("False alarm", "false_alarm_s", 1),
        of_speakers("Confusion", "confusion_s", 1),
        of_speakers("Scored", "scored_s", 2),
        column("cpWER", lambda one: _rate(one.words.cp_wer if one.words else None)),
        of_words("Ins.", "insertions", 3),
        of_words("Del.", "deletions", 3),
        of_words("Sub.", "substitutions", 3),
        of_words("Words", "words", 2),
    ]
    overall = ConversationScore("all", True, scores.speakers, scores.words)
    width = shutil.get_terminal_size((0, 0)).columns or None
    return table(columns, [*scores.conversations, overall], width=width)


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"
