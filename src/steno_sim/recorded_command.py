"""``steno-sim events``: recorded events as JSON lines, without a server.

``steno-sim score``: an export of segments held against the truth of a run.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, NoReturn

import typer

EXAMPLE = """Write recorded events, one JSON object a line, as they come on the wire.

Example, a scenario with its truth, and ten million segments for a measurement:

\b
    steno-sim events --scenario diarisation --out events.jsonl --truth truth.json
    steno-sim events --conversations 100000 --segments 100 --out big.jsonl

With --segments the conversations are made up, and the last line on stderr tells as JSON what
is to come out of them. Otherwise the scenario's are written, repeated under ids of their own
where --conversations asks for more.
"""
SCORE_EXAMPLE = """Compare an export of speaker segments (the JSON form) with the truth of a run.

Example:

\b
    curl -s http://127.0.0.1:9080/_sim/truth > truth.json
    steno-sim score export.json --truth truth.json

Prints the counts as JSON; the exit code is 0 when the export is perfect, else 1.
"""


def events(
    scenario: Annotated[
        str, typer.Option(help="A packaged scenario or a TOML or JSON file.")
    ] = "diarisation",
    out: Annotated[str, typer.Option(help="File to write; - is standard output.")] = "-",
    source: Annotated[
        Literal["event-socket", "notifications"], typer.Option(help="Whose events.")
    ] = "event-socket",
    conversations: Annotated[
        int, typer.Option(min=0, help="Number of conversations; 0 as the scenario has it, or 1.")
    ] = 0,
    segments: Annotated[
        int, typer.Option(min=0, help="Made-up conversations of so many segments each.")
    ] = 0,
    seed: Annotated[int | None, typer.Option(help="Another run of the same.")] = None,
    partials: Annotated[
        int, typer.Option(min=0, max=50, help="With --segments: partials of each.")
    ] = 1,
    at_once: Annotated[
        int, typer.Option(min=1, help="With --segments: conversations in progress at a time.")
    ] = 50,
    event_form: Annotated[
        Literal["wrapped", "bare", "mixed"], typer.Option(help="Event socket: form of events.")
    ] = "wrapped",
    truth: Annotated[
        Path | None, typer.Option(help="Scenarios: write the truth of a full run there, as JSON.")
    ] = None,
) -> None:
    """Write recorded events; see the command's own help."""
    import msgspec

    from steno_sim.bulk import Bulk

    if segments:
        if truth is not None:
            _fail("--truth needs a scenario, not --segments")
        bulk = Bulk(
            conversations or 1,
            segments,
            seed=seed or 0,
            source=source,
            form=event_form,
            partials=partials,
            at_once=at_once,
        )
        begun = time.perf_counter()
        _write(out, bulk.chunks())
        told = msgspec.to_builtins(bulk.counts) | {"took_s": time.perf_counter() - begun}
        typer.echo(msgspec.json.encode(told).decode(), err=True)
        return
    from steno_sim.recorded import of_scenario, truth_of
    from steno_sim.scenario import ScenarioError, load
    from steno_sim.script import build

    try:
        script = build(load(scenario), seed=seed, conversations=conversations)
    except ScenarioError as error:
        _fail(str(error))
    _write(out, (line + b"\n" for line in of_scenario(script, source, form=event_form)))
    if truth is not None:
        truth.write_bytes(msgspec.json.encode(truth_of(script, source)))


def score(
    export: Annotated[Path, typer.Argument(help="The export: a JSON file.")],
    truth: Annotated[Path, typer.Option(help="The truth: a JSON file of GET /_sim/truth.")],
    source: Annotated[
        Literal["event-socket", "notifications"], typer.Option(help="Where it was collected.")
    ] = "event-socket",
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="The export's threshold.")
    ] = 0.85,
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="Seconds by which times may be off.")
    ] = None,
) -> None:
    """Score an export; see the command's own help."""
    import msgspec

    from steno_sim.ledger import Truth
    from steno_sim.segments_score import score_export

    try:
        known = msgspec.json.decode(truth.read_bytes(), type=Truth)
        found = score_export(
            known,
            export.read_bytes(),
            family="event" if source == "event-socket" else "topic",
            min_confidence=min_confidence,
            tolerance_s=tolerance,
        )
    except (OSError, msgspec.MsgspecError) as error:
        _fail(str(error))
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    if not found.perfect:
        raise typer.Exit(1)


def _write(out: str, chunks: Iterable[bytes]) -> None:
    try:
        if out == "-":
            _copy(chunks, sys.stdout.buffer)
            return
        with Path(out).open("wb", buffering=1 << 20) as file:
            _copy(chunks, file)
    except BrokenPipeError:
        # The reader has enough; what is left goes nowhere, so that the exit flushes quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _fail(f"{out}: {error.strerror}")


def _copy(chunks: Iterable[bytes], file: BinaryIO) -> None:
    for chunk in chunks:
        file.write(chunk)
    file.flush()


def _fail(message: str) -> NoReturn:
    typer.echo(f"steno-sim: {message}", err=True)
    raise typer.Exit(2)
