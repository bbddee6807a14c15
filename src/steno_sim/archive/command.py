"""``steno-sim transcript``: a stored transcript as a file, of any size.

``steno-sim archive-score``: an archived transcript held against what was stored.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, NoReturn

import typer

EXAMPLE = """Write a stored transcript of any size, in either layout.

Example, 300 MB for a measurement, and a small one with what it says:

\b
    steno-sim transcript --size 300MB > big.json
    steno-sim transcript --size 20KB --shape platform --pretty --truth truth.json

The same options give the same bytes; nothing is held in memory.
"""
SCORE_EXAMPLE = """Hold an archived transcript against what was stored.

Example:

\b
    curl -s "http://127.0.0.1:9080/_sim/stored?conversation=$ID" > truth.json
    steno-sim archive-score archived/transcripts/$ID.json --truth truth.json

Prints the counts as JSON; the exit code is 0 when everything is right, else 1.
"""
_CONVERSATION = "5e900000-0000-4000-8000-000000000001"
_TURNS_IN_TRUTH = 1_000_000


def transcript(
    size: Annotated[str, typer.Option(help="Bytes, such as 300MB (powers of ten).")] = "1MB",
    shape: Annotated[
        Literal["document", "platform"], typer.Option(help="Whose layout.")
    ] = "document",
    order: Annotated[
        Literal["first", "last", "mixed"],
        typer.Option(help="Participants first or last; mixed: last, keys of turns in any order."),
    ] = "first",
    pretty: Annotated[bool, typer.Option("--pretty", help="Indented over many lines.")] = False,
    ascii_only: Annotated[bool, typer.Option("--ascii", help="Other letters as escapes.")] = False,
    extra: Annotated[bool, typer.Option("--extra", help="With keys that nobody knows.")] = False,
    words: Annotated[
        bool, typer.Option("--words/--no-words", help="Platform: with the words of phrases.")
    ] = True,
    runs: Annotated[int, typer.Option(min=1, max=20, help="Platform: transcripts in it.")] = 1,
    language: Annotated[
        Literal["mixed", "en-US", "es-ES", "fr-FR", "de-DE"], typer.Option(help="Spoken in it.")
    ] = "mixed",
    seed: Annotated[int, typer.Option(help="Another one.")] = 0,
    conversation: Annotated[str, typer.Option(help="Its conversation's id.")] = _CONVERSATION,
    out: Annotated[str, typer.Option(help="File to write; - is standard output.")] = "-",
    truth: Annotated[
        Path | None, typer.Option(help="Write what it says there, as JSON (up to a million turns).")
    ] = None,
) -> None:
    """Write a transcript; see the command's own help."""
    import msgspec

    from steno_sim.archive.library import File, Library
    from steno_sim.archive.settings import ArchiveSettings
    from steno_sim.world import World

    try:
        settings = ArchiveSettings(
            seed=seed,
            conversations=0,
            size=size,
            language=language,
            order=order,
            pretty=pretty,
            ascii=ascii_only,
            extra=extra,
            words=words,
            runs=(runs, runs),
        )
    except ValueError as error:
        _fail(str(error))
    library, file = Library(World("quiet"), settings), File(conversation, shape)
    found = library.find(conversation)
    if found is None or not settings.size_bytes:
        _fail("--conversation is a UUID, and --size above 0")
    _write(out, library.make(found, file).body.read())
    if truth is not None:
        told = library.truth(found, file, most=_TURNS_IN_TRUTH)
        truth.write_bytes(msgspec.json.encode([told]))


def archive_score(
    archived: Annotated[Path, typer.Argument(help="The payload, or the listing.")],
    truth: Annotated[Path, typer.Option(help="What was stored: GET /_sim/stored, a JSON file.")],
    listing: Annotated[
        bool, typer.Option("--listing", help="It is a listing of JSON lines.")
    ] = False,
    redacted: Annotated[
        bool, typer.Option("--redacted", help="Personal data was to be removed.")
    ] = False,
    role: Annotated[
        list[str] | None, typer.Option(help="Roles that were asked for; repeat. Default: all.")
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="The least confidence that was asked for.")
    ] = 0.0,
    rate: Annotated[int, typer.Option(min=1, help="Samples per second of a listing.")] = 48_000,
) -> None:
    """Score an archived transcript; see the command's own help."""
    import msgspec

    from steno_sim.archive.library import Truth
    from steno_sim.archive_score import score_listing, score_payload

    only, least = role or [], min_confidence
    try:
        known = msgspec.json.decode(truth.read_bytes(), type=list[Truth])
        data = archived.read_bytes()
        if listing:
            found = score_listing(
                known, data, redacted=redacted, rate=rate, only=only, min_confidence=least
            )
        else:
            found = score_payload(known, data, redacted=redacted, only=only, min_confidence=least)
    except (OSError, msgspec.MsgspecError) as error:
        _fail(str(error))
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    if not found.perfect:
        raise typer.Exit(1)


def _write(out: str, pieces: Iterable[bytes]) -> None:
    try:
        if out == "-":
            _copy(pieces, sys.stdout.buffer)
            return
        with Path(out).open("wb") as file:
            _copy(pieces, file)
    except BrokenPipeError:
        # The reader has enough; what is left goes nowhere, so that the exit flushes quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _fail(f"{out}: {error.strerror}")


def _copy(pieces: Iterable[bytes], file: BinaryIO) -> None:
    for piece in pieces:
        file.write(piece)
    file.flush()


def _fail(message: str) -> NoReturn:
    typer.echo(f"steno-sim: {message}", err=True)
    raise typer.Exit(2)
