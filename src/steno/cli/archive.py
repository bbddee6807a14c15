"""``steno archive``: stored transcripts fetched, aligned, filtered, archived and summed up."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    run_async,
    whole_lines,
)
from steno.cli.diarise_report import instant_us
from steno.core.transcript import Role

if TYPE_CHECKING:
    import asyncio

    from steno.app.archive import ArchiveOptions
    from steno.app.archive_conversations import Wanted
    from steno.archive.criteria import Criteria
    from steno.archive.service import Result
    from steno.config import Config
    from steno.observability import LogTelemetry

_MAX_ROWS = 50
"""Rows of the table for people; ``--json`` has all."""
_MAX_BAD = 20
_MAX_LINE_BYTES = 1024


def archive(
    conversations: Annotated[
        list[str] | None,
        typer.Argument(help="Conversation ids. Also GENESYS_CONVERSATION_ID.", show_default=False),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A transcript that is here already, of either shape; - is standard input.",
            show_default=False,
        ),
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Conversation ids, one a line; - is standard input.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Conversations that began since (RFC 3339, or a date).",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="And before; now when not given.", show_default=False),
    ] = None,
    conversation: Annotated[
        str,
        typer.Option(metavar="ID", help="Whose transcript --file is, where it does not say."),
    ] = "",
    to: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="Archive there: s3://bucket/prefix, gs://, az://, or a folder. "
            "[default: s3://genesys-transcript-archive]",
            show_default=False,
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An S3-compatible service.", show_default=False),
    ] = None,
    no_archive: Annotated[
        bool, typer.Option("--no-archive", help="Only list and sum up; archive nothing.")
    ] = False,
    original: Annotated[
        bool, typer.Option("--original", help="Archive the source's own bytes, as they came.")
    ] = False,
    redact: Annotated[
        bool | None,
        typer.Option(
            "--redact/--no-redact",
            help="Remove personal data from what is archived and listed.",
            show_default=False,
        ),
    ] = None,
    compress: Annotated[
        bool | None,
        typer.Option("--zstd/--no-zstd", help="Archive compressed.", show_default=False),
    ] = None,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="Archive segments as a table, too, by date.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="List segments there, as JSON lines with sample positions; - is standard output. "
            "{conversation} makes a file of each.",
            show_default=False,
        ),
    ] = None,
    role: Annotated[
        list[Role] | None, typer.Option(help="List this role only; repeat for more.")
    ] = None,
    participant: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="List this participant only; repeat for more."),
    ] = None,
    interaction: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="List this conversation only; repeat for more."),
    ] = None,
    after: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="List what is said after.", show_default=False),
    ] = None,
    before: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="List what is said before.", show_default=False),
    ] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="List what is at least so sure.", show_default=False),
    ] = None,
    archive_filtered: Annotated[
        bool,
        typer.Option(
            "--archive-filtered", help="Archive and sum up, too, only what would be listed."
        ),
    ] = False,
    sample_rate: Annotated[
        int | None,
        typer.Option(min=1, help="Samples a second of the positions (48000).", show_default=False),
    ] = None,
    analysis: Annotated[
        bool,
        typer.Option("--analysis", help="Add talk shares, overlap, silence to the summary."),
    ] = False,
    audio: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The conversation's audio: levels of segments, and which lie outside it.",
            show_default=False,
        ),
    ] = None,
    picture: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Draw who speaks when: .svg or .png.", show_default=False
        ),
    ] = None,
    peaks: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Peaks of --audio, for players.", show_default=False),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="A page of all, with pictures.", show_default=False),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="A segment that cannot be read fails its transcript.")
    ] = False,
    keep_truncated: Annotated[
        bool,
        typer.Option("--keep-truncated", help="Keep what is complete of a file that breaks off."),
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Fetch what is archived already, and compare.")
    ] = False,
    concurrency: Annotated[
        int | None, typer.Option(help="Conversations side by side.", show_default=False)
    ] = None,
    host: Annotated[str | None, typer.Option(help="Platform host.", show_default=False)] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Archive stored transcripts, each once, with its summary.

    Example: steno archive 7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01 --to ./archive --role agent

    What is archived already is not fetched again, so a batch that was cut off goes on where it
    was. One conversation's summary is written to standard output; of several, a table, or with
    --json a line for each and one with totals. With a filter, segments are listed on standard
    output unless --out says where.

    Exit codes: 0 all archived, 1 some failed, 2 usage, 3 authentication, 4 the platform could not
    be reached for any, 5 there were no transcripts, 130 interrupted.
    """
    settings = load_settings(
        config,
        state_dir=state_dir,
        log_level=log_level or ("warning" if sys.stderr.isatty() else None),
        overrides={
            "platform.host": host,
            "archive.url": to,
            "archive.endpoint": endpoint,
            "archive.redact": redact,
            "archive.compress": compress,
            "archive.sample_rate": sample_rate,
            "archive.concurrency": concurrency,
        },
    )
    from steno.app.archive import ArchiveOptions, require_options
    from steno.app.archive_extras import ExtraOptions, require_extras
    from steno.config import require_archive

    criteria = _criteria(role, participant, interaction, after, before, min_confidence)
    if out is None:
        out = "-" if criteria.restricts and not archive_filtered else ""
    told = _Told(Output(json=json), listed=out == "-")
    options = ArchiveOptions(
        archives=not no_archive,
        out=out,
        criteria=criteria,
        kept_filtered=archive_filtered,
        original=original,
        analyses=analysis,
        strict=strict,
        keep_truncated=keep_truncated,
        again=again,
        on_result=told.take if file is not None else told.each,
        on_bytes=told.on_bytes,
        extras=ExtraOptions(audio or "", picture or "", peaks or "", report or "", parquet),
    )
    require_options(settings, options)
    alone = len(conversations or settings.archive.conversations) == 1 and not (ids or since)
    require_extras(options.extras, several=file is None and not alone)
    if file is not None:
        _refuse_mixture(conversations, ids, since)
        raise typer.Exit(_file(settings, file, conversation, options, told))
    with contextlib.ExitStack() as stack:
        require_archive(settings)
        wanted = _wanted(settings, conversations, ids, (since, until), stack, told)
        code = run_async(lambda stop: _conversations(settings, wanted, options, stop, told))
    raise typer.Exit(code)


def _criteria(
    role: list[Role] | None,
    participant: list[str] | None,
    interaction: list[str] | None,
    after: float | None,
    before: float | None,
    min_confidence: float | None,
) -> Criteria:
    from steno.archive.criteria import Criteria

    return Criteria(
        roles=frozenset(role or ()),
        participants=frozenset(participant or ()),
        interactions=frozenset(interaction or ()),
        from_s=after,
        to_s=before,
        min_confidence=min_confidence,
    )


# --- one file --------------------------------------------------------------------------------


def _refuse_mixture(conversations: list[str] | None, ids: str | None, since: str | None) -> None:
    from steno.errors import ConfigError

    if conversations or ids or since:
        raise ConfigError(
            "a local transcript is archived by itself",
            setting="--file",
            fix="Name conversations in a call of their own.",
        )


def _file(
    settings: Config, file: str, conversation: str, options: ArchiveOptions, told: _Told
) -> ExitCode:
    from steno.app.archive import archive_file
    from steno.cli.common import harden

    harden()
    if file != "-":
        with contextlib.suppress(OSError):
            told.total = Path(file).stat().st_size
    try:
        archive_file(
            settings,
            file,
            options,
            conversation=conversation,
            stdin=sys.stdin.buffer,
            telemetry=_telemetry_of(settings),
        )
    finally:
        told.progress.end()
    return told.end(alone=True)


def _telemetry_of(settings: Config) -> LogTelemetry | None:
    """Return what a remote store is told about; a folder tells nothing, and starts quicker."""
    url = settings.archive.url
    if "://" not in url or url.startswith("file:"):
        return None
    from steno.cli.common import make_telemetry

    return make_telemetry(settings)


# --- conversations ---------------------------------------------------------------------------


def _wanted(
    settings: Config,
    conversations: list[str] | None,
    ids: str | None,
    span: tuple[str | None, str | None],
    stack: contextlib.ExitStack,
    told: _Told,
) -> Wanted:
    from steno.app.archive_conversations import Wanted
    from steno.errors import ConfigError

    given: Iterable[str] = conversations or ()
    total = told.arguments = len(conversations or ())
    if ids is not None:
        lines = _lines_of(ids)
        total = total + lines if lines else 0
        given = chain(given, _read_ids(ids, stack))
    since, until = span
    if until is not None and since is None:
        raise ConfigError("a range has a beginning", setting="--since", fix="Add --since TIME.")
    if not conversations and ids is None and since is None:
        given = settings.archive.conversations
        total = len(settings.archive.conversations)
        if not given:
            raise ConfigError(
                "nothing says what to archive",
                setting="CONVERSATIONS",
                fix="Name conversations, --ids, --since, --file, or set GENESYS_CONVERSATION_ID.",
            )
    if total != 1 or since is not None:
        told.expect(total if since is None else 0)
    from_us, to_us = instant_us(since), 0
    if since is not None:
        to_us = instant_us(until) if until is not None else time.time_ns() // 1000
        if to_us <= from_us:
            raise ConfigError("the range ends before it begins", setting="--until")
    return Wanted(given, from_us, to_us, told.bad_id)


def _lines_of(path: str) -> int:
    """Return how many lines a file has; 0 where that is not to be known before it is read."""
    if path == "-" or not Path(path).is_file():
        return 0
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return sum(1 for line in whole_lines(file, _MAX_LINE_BYTES) if line.strip())
    return 0


def _read_ids(path: str, stack: contextlib.ExitStack) -> Iterator[str]:
    from steno.errors import ConfigError

    try:
        source = sys.stdin.buffer if path == "-" else stack.enter_context(open(path, "rb"))  # noqa: SIM115
    except OSError as exc:
        raise ConfigError(
            "the file cannot be read", setting="--ids", cause=type(exc).__name__
        ) from None
    return (line.decode("utf-8", "replace") for line in whole_lines(source, _MAX_LINE_BYTES))


async def _conversations(
    settings: Config,
    wanted: Wanted,
    options: ArchiveOptions,
    stop: asyncio.Event,
    told: _Told,
) -> ExitCode:
    from steno.app.archive_conversations import archive_conversations
    from steno.cli.common import make_telemetry

    try:
        done = await archive_conversations(
            settings, wanted, options, stop=stop, telemetry=make_telemetry(settings)
        )
    finally:
        told.progress.end()
    single = done.tally.conversations == 1 and told.count == 1
    return told.end(alone=single, stopped=stop.is_set(), bad_ids=done.bad_ids)


# --- what is told ----------------------------------------------------------------------------


class _Told:
    """Tells results: one summary as it is, several as a table, all as JSON lines.

    Args:
        listed: Segments are listed on standard output: everything else goes to standard error.
    """

    def __init__(self, output: Output, *, listed: bool) -> None:
        self._output = output
        self._listed = listed
        self._rows: list[tuple[str, ...]] = []
        self._last: Result | None = None
        self._counts: dict[str, int] = {}
        self._errors: dict[str, int] = {}
        self._bad_ids = 0
        self._received = 0
        self._counts_each = False
        self.total = 0
        self.arguments = 0
        self.progress = Progress("read", unit="MB", scale=1e-6)

    def expect(self, conversations: int) -> None:
        """Count conversations in place of bytes; 0 when nobody knows how many there are."""
        self._counts_each = True
        self.total = conversations
        self.progress = Progress("archived", unit="conversations")

    def on_bytes(self, received: int) -> None:
        """Count bytes and draw."""
        self._received += received
        if not self._counts_each:
            self.progress.show(self._received, self.total)

    def take(self, result: Result) -> None:
        """Take one transcript's result."""
        self._last = result
        outcome = result.outcome.value
        self._counts[outcome] = self._counts.get(outcome, 0) + 1
        if result.error:
            self._errors[result.error] = self._errors.get(result.error, 0) + 1
        for bad in result.bad_segments[:_MAX_BAD]:
            self._output.note(
                f"{result.conversation}: segment {bad.index} at byte {bad.offset} cannot be read:"
                f" {bad.field}"
            )
        if result.bad > _MAX_BAD:
            self._output.note(f"{result.conversation}: {result.bad} segments cannot be read")
        if result.truncated_at is not None:
            self._output.note(
                f"{result.conversation}: breaks off at byte {result.truncated_at};"
                " what was complete is kept"
            )
        outside = result.outside_audio
        if outside is not None and outside.count:
            places = ", ".join(map(str, outside.first[:_MAX_BAD]))
            more = " and more" if outside.count > _MAX_BAD else ""
            self._output.note(
                f"{result.conversation}: {outside.count} segments lie outside the audio:"
                f" {places}{more}"
            )
        if result.error:
            self._output.note(f"{result.conversation}: {result.detail}")
        if len(self._rows) < _MAX_ROWS:
            self._rows.append(_row(result))
        if self._counts_each:
            self.progress.show(self.count + self._bad_ids, self.total)

    def each(self, result: Result) -> None:
        """Take one of many; under ``--json`` its line is written once it is not the only one."""
        if self._output.json and not self._listed:
            if self._last is not None and self.count == 1:
                self._output.result(line_of(self._last))
            if self.count:
                self._output.result(line_of(result))
        self.take(result)

    def bad_id(self, line: int) -> None:
        """Tell what is no id by its place, arguments before lines; never what stands there."""
        self._bad_ids += 1
        if self._bad_ids <= _MAX_BAD:
            behind = line - self.arguments
            where = f"line {behind} of the ids" if behind > 0 else f"argument {line}"
            self._output.note(f"{where}: not an id")

    @property
    def count(self) -> int:
        """Transcripts told so far."""
        return sum(self._counts.values())

    def end(self, *, alone: bool, stopped: bool = False, bad_ids: int = 0) -> ExitCode:
        """Write the summary or the table; return the exit code."""
        code = exit_code_of(self._counts, self._errors)
        if bad_ids and code in (ExitCode.DONE, ExitCode.NOTHING_FOUND):
            code = ExitCode.FAILED if self._counts else ExitCode.USAGE
        if stopped:
            code = ExitCode.INTERRUPTED
        if alone and self._last is not None:
            self._alone(self._last, code)
        else:
            self._many(code, bad_ids)
        return code

    def _alone(self, result: Result, code: ExitCode) -> None:
        import msgspec

        if not result.summary:
            if not result.detail:  # else it was told
                self._output.note(f"{result.conversation}: {_WORDS[result.outcome.value]}")
            if self._output.json:
                self._output.result(line_of(result) | {"exit_code": int(code)})
            return
        summary = bytes(result.summary)
        text = summary if self._output.json else msgspec.json.format(summary, indent=2)
        if self._listed:
            self._output.note(text.decode())
        else:
            _print(text.decode())

    def _many(self, code: ExitCode, bad_ids: int) -> None:
        totals = {
            "bad_ids": bad_ids,
            "outcomes": dict(sorted(self._counts.items())),
            "errors": dict(sorted(self._errors.items())),
            "bytes": self._received,
            "exit_code": int(code),
        }
        if self._output.json and not self._listed:
            if self._last is not None and self.count == 1:
                self._output.result(line_of(self._last))
            self._output.result({"totals": totals})
            return
        if not self._rows:
            self._output.note("nothing was archived")
            return
        for line in table_of(self._rows, self._counts):
            self._output.note(line)


def _print(text: str) -> None:
    """Write to standard output.

    Raises:
        StorageError: It takes nothing more, as on a full disk.
    """
    from steno.errors import StorageError

    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        with open(os.devnull, "wb") as nowhere:  # or what is buffered fails once more at the end
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise StorageError("standard output cannot be written", errno=exc.errno) from None


_AWAY = {"ConnectFailed", "PeerUnavailable", "RateLimited", "TimedOut", "TransportError"}
"""Errors of somebody who could not be reached."""

_WORDS = {
    "written": "archived",
    "same": "archived before, the same",
    "known": "archived before",
    "passed": "read",
    "conflict": "another content is archived under its key",
    "missing": "the platform has no transcript of it",
    "empty": "its transcript is empty",
    "in_work": "its transcript is still in work",
    "legacy": "its transcript has a form of older days that cannot be read",
    "failed": "failed",
}


def line_of(result: Result) -> dict[str, Any]:
    """Return a result as ``--json`` tells it."""
    import msgspec

    line: dict[str, Any] = {"conversation": result.conversation, "outcome": result.outcome.value}
    if result.communication:
        line["communication"] = result.communication
    line["summary"] = msgspec.json.decode(bytes(result.summary)) if result.summary else None
    if result.outside_audio is not None:
        line["outside_audio"] = msgspec.to_builtins(result.outside_audio)
    for name in ("bad", "entities", "withheld", "truncated_at", "error"):
        if value := getattr(result, name):
            line[name] = value
    return line


def exit_code_of(counts: dict[str, int], errors: dict[str, int] | None = None) -> ExitCode:
    """Return the documented exit code for outcomes, and the classes of errors with them."""
    good = sum(counts.get(name, 0) for name in ("written", "same", "known", "passed"))
    nothing = sum(counts.get(name, 0) for name in ("missing", "empty"))
    rest = sum(counts.values()) - good - nothing
    if rest and not good and errors and sum(errors.values()) == rest and errors.keys() <= _AWAY:
        return ExitCode.UNREACHABLE
    if rest:
        return ExitCode.FAILED
    return ExitCode.DONE if good else ExitCode.NOTHING_FOUND


def table_of(rows: list[tuple[str, ...]], counts: dict[str, int]) -> list[str]:
    """Return the table for people: first rows, then totals."""
    head = ("conversation", "outcome", "seconds", "turns", "agent", "customer", "confidence")
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, *rows]
    ]
    more = sum(counts.values()) - len(rows)
    if more > 0:
        lines.append(f"and {more} more")
    lines.append(", ".join(f"{count} {_WORDS[name]}" for name, count in sorted(counts.items())))
    return lines


def _row(result: Result) -> tuple[str, ...]:
    import msgspec

    name = result.conversation + (f" {result.communication}" if result.communication else "")
    if not result.summary:
        return (name, _WORDS[result.outcome.value], "", "", "", "", "")
    summary = msgspec.json.decode(bytes(result.summary))
    return (
        name,
        _WORDS[result.outcome.value],
        f"{summary['total_duration_seconds']:.1f}",
        str(summary["total_turns"]),
        str(summary["agent_turns"]),
        str(summary["customer_turns"]),
        f"{summary['avg_confidence']:.3f}",
    )
