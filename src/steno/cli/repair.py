"""``steno repair``: what live delivery has missed in its gaps, from stored transcripts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steno.cli.common import (
    ConfigOption,
    ExitCode,
    JsonOption,
    LogLevelOption,
    Output,
    StateDirOption,
    load_settings,
    make_telemetry,
    run_async,
)
from steno.cli.diarise_report import instant_us

if TYPE_CHECKING:
    import asyncio

    from steno.app.repair import Repaired, Wanted
    from steno.archive.repair import Result
    from steno.config import Config

_MAX_ROWS = 50
_WORDS = {
    "repaired": "whole",
    "partly": "something is missing",
    "known": "repaired before",
    "missing": "the platform has no transcript of it",
    "in_work": "its transcript is not ready",
    "purged": "part of what was delivered is no longer stored",
    "failed": "failed",
}


def repair(
    conversations: Annotated[
        list[str] | None,
        typer.Argument(
            help="Conversation ids; those that gaps concern when there are none.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Gaps since (RFC 3339, or a date).", show_default=False),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Gaps that began before.", show_default=False),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--everything",
            help="Fill in also what no gap explains; with --since, look at every conversation "
            "heard since.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be filled in.")
    ] = False,
    host: Annotated[str | None, typer.Option(help="Platform host.", show_default=False)] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Deliver what was missed in gaps of live delivery, from the platform's stored transcripts.

    Example: steno repair --since 2026-01-15

    Each conversation is held against its transcript. Segments that were not delivered, in a time
    that a gap record names, are delivered with the origin `backfill`, and a record `reconciled`
    counts them. It can be repeated and interrupted: nothing is filled in twice. `steno live` must
    not run on the same state directory; it can do the same itself (`archive.repair`).

    Exit codes: 0 everything is there, 1 something is still missing, 2 usage, 3 authentication,
    4 the platform could not be reached, 5 there are no gaps, 130 interrupted.
    """
    settings = load_settings(
        config,
        state_dir=state_dir,
        log_level=log_level or ("warning" if sys.stderr.isatty() else None),
        overrides={"platform.host": host},
    )
    from steno.app.repair import Wanted
    from steno.archive.reconcile import FOREVER_US
    from steno.config import require_archive
    from steno.errors import ConfigError

    require_archive(settings)
    out = Output(json=json)
    from_us = instant_us(since) if since is not None else 0
    to_us = instant_us(until) if until is not None else FOREVER_US
    if to_us <= from_us:
        raise ConfigError("the range ends before it begins", setting="--until")
    wanted = Wanted(
        tuple(conversations or ()),
        from_us,
        to_us,
        everything=everything,
        dry_run=dry_run,
        on_bad=lambda number: out.note(f"argument {number} is no conversation id"),
    )
    raise typer.Exit(run_async(lambda stop: _repaired(settings, wanted, out, stop)))


async def _repaired(settings: Config, wanted: Wanted, out: Output, stop: asyncio.Event) -> ExitCode:
    from steno.app.repair import repair as repair_now

    told = _Told(out)
    done = await repair_now(
        settings,
        wanted,
        stop=stop,
        telemetry=make_telemetry(settings),
        on_result=told.take,
    )
    code = exit_code_of(done, stopped=stop.is_set())
    told.end(done, code, dry_run=wanted.dry_run)
    return code


class _Told:
    """Tells of each conversation as it comes, and of all at the end."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._rows = 0

    def take(self, result: Result) -> None:
        """Take one conversation's result."""
        if self._out.json:
            self._out.result(line_of(result))
            return
        self._rows += 1
        if self._rows <= _MAX_ROWS or result.error:
            counts = result.counts
            told = ""
            if counts is not None and counts.expected:
                told = (
                    f": {counts.expected} segments, {counts.delivered_live} live, "
                    f"{counts.backfilled} filled in ({result.filled} now), "
                    f"{counts.missing} missing"
                )
            self._out.line(f"{result.conversation}  {_WORDS[result.outcome.value]}{told}")
        if result.error:
            self._out.note(f"{result.conversation}: {result.detail}")
        if counts_outside := (result.counts.outside if result.counts is not None else 0):
            self._out.note(
                f"{result.conversation}: {counts_outside} are missing outside every gap; "
                "--everything fills them in"
            )

    def end(self, done: Repaired, code: ExitCode, *, dry_run: bool) -> None:
        """Write the totals."""
        tally = done.tally
        totals = {
            "gaps": done.gaps,
            "bad_ids": done.bad_ids,
            "outcomes": {k.value: n for k, n in sorted(tally.outcomes.items())},
            "errors": dict(sorted(tally.errors.items())),
            "expected": tally.expected,
            "delivered_live": tally.delivered_live,
            "backfilled": tally.backfilled,
            "missing": tally.missing,
            "ratio": round(tally.ratio, 6) if tally.ratio is not None else None,
            "filled": tally.filled,
            "drained": done.drained,
            "dry_run": dry_run,
            "exit_code": int(code),
        }
        if self._out.json:
            self._out.result({"totals": totals})
            return
        if not sum(tally.outcomes.values()):
            self._out.note("there is nothing to repair: no gap concerns a conversation")
            return
        ratio = f"{100 * tally.ratio:.2f} %" if tally.ratio is not None else "nothing to compare"
        would = "would be filled in" if dry_run else "filled in now"
        self._out.line(
            f"{done.gaps} gaps, {sum(tally.outcomes.values())} conversations, "
            f"{tally.expected} segments, {tally.filled} {would}, {tally.missing} missing: {ratio}"
        )
        if not done.drained:
            self._out.note("not everything could be delivered yet; it waits in the outbox")


def line_of(result: Result) -> dict[str, Any]:  # Any: facts of several types
    """Return a result as ``--json`` tells it."""
    line: dict[str, Any] = {
        "conversation": result.conversation,
        "outcome": result.outcome.value,
        "filled": result.filled,
    }
    if (counts := result.counts) is not None:
        line |= {
            "expected": counts.expected,
            "delivered_live": counts.delivered_live,
            "backfilled": counts.backfilled,
            "missing": counts.missing,
            "outside": counts.outside,
            "unreadable": counts.unreadable,
            "ratio": counts.ratio,
        }
    if result.error:
        line["error"] = result.error
    return line


def exit_code_of(done: Repaired, *, stopped: bool = False) -> ExitCode:
    """Return the documented exit code of a run."""
    if stopped:
        return ExitCode.INTERRUPTED
    if done.bad_ids:
        return ExitCode.USAGE if not done.tally.outcomes else ExitCode.FAILED
    if not done.tally.outcomes:
        return ExitCode.NOTHING_FOUND
    return ExitCode.DONE if done.is_whole else ExitCode.FAILED
