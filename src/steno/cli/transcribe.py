"""``steno transcribe``: one recording or a hundred thousand, each a durable job."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    make_telemetry,
    run_async,
    whole_lines,
)
from steno.cli.jobs_report import require_page, write_run_page

if TYPE_CHECKING:
    from steno.app.recordings import Outcome, TranscribeOptions
    from steno.config import Config
    from steno.ports.jobs import TranscriptionRequest
    from steno.recordings.requests import Line, RequestRules

_MAX_TOLD = 100
_MAX_REFERENCE_BYTES = 64 << 20


def transcribe(
    recordings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="Recordings. Also RECORDING_ID."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            help="Ids on lines, CSV with a header, or JSON lines; - is standard input.",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        Literal["service", "audio", "transcript"] | None,
        typer.Option(
            help="Who transcribes: the platform's service; our recogniser, given the audio; "
            "nobody, as the platform has a transcript. The last two take CONVERSATION/ID.",
            show_default=False,
        ),
    ] = None,
    stt: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Speech service of --engine audio.", show_default=False
        ),
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="What is spoken, e.g. en-US.", show_default=False)
    ] = None,
    format: Annotated[  # the option's name
        Literal["text", "srt", "vtt", "json"] | None,
        typer.Option("--format", help="Form of the transcripts.", show_default=False),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(
            help="Address told of each end. Also WEBHOOK_URL, which `ps` does not show.",
            metavar="URL",
            show_default=False,
        ),
    ] = None,
    speaker_diarization: Annotated[bool, typer.Option(help="Tell speakers apart.")] = True,
    word_confidence: Annotated[bool, typer.Option(help="Ask for each word's confidence.")] = True,
    timestamps: Annotated[bool, typer.Option(help="Ask for each word's times.")] = True,
    concurrency: Annotated[
        int | None, typer.Option(help="Calls side by side, at most 32.", show_default=False)
    ] = None,
    per_minute: Annotated[
        float | None, typer.Option(help="Calls begun in a minute.", show_default=False)
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="File of the transcript; {recording} stands for the id. - is standard output.",
            show_default=False,
        ),
    ] = None,
    preflight: Annotated[
        bool | None,
        typer.Option(
            "--preflight/--no-preflight",
            help="Ask for each recording before its job is submitted.",
            show_default=False,
        ),
    ] = None,
    strict_words: Annotated[
        bool | None,
        typer.Option(
            "--strict-words/--skip-words",
            help="A word that cannot be read fails its job.",
            show_default=False,
        ),
    ] = None,
    no_redact: Annotated[
        bool, typer.Option("--no-redact", help="Leave personal data in what is written and sent.")
    ] = False,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What was really said, in plain text: true error rates of one recording.",
            show_default=False,
        ),
    ] = None,
    deadline_s: Annotated[
        float | None,
        typer.Option(help="From submission to the end of a job, seconds.", show_default=False),
    ] = None,
    batch: Annotated[
        str, typer.Option(metavar="NAME", help="Name by which `steno jobs` finds these jobs.")
    ] = "",
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="At the end, write an HTML page about the jobs of this run (of its batch) here.",
            show_default=False,
        ),
    ] = None,
    again: Annotated[
        Literal["failed", "all"] | None,
        typer.Option(
            help="Do once more what has ended: what failed or was cancelled, or all.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Platform host.", show_default=False)] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Transcribe recordings, each by a job that survives restarts.

    Example: steno transcribe --file recordings.csv --out 'transcripts/{recording}.txt'

    The same input goes on where it was: what has ended is not done again (--again), what was
    submitted is not submitted twice. Jobs that an earlier run left are carried out as well, and
    written where that run said; without any input, only those. One recording without --out is
    written to standard output.
    Webhooks are signed (Standard Webhooks); those whose next attempt is later than this command
    waits are sent by the next one, or by `steno outbox deliver`.

    Exit codes: 0 all completed, 1 some failed, were cancelled or are paused, or a line of the
    input was bad, 2 usage, 3 authentication, 4 the service could not be reached, 130 interrupted.
    """
    settings = load_settings(
        config,
        state_dir=state_dir,
        log_level=log_level or ("warning" if sys.stderr.isatty() else None),
        overrides={
            "platform.host": host,
            "speech.address": stt,
            "transcribe.engine": engine,
            "transcribe.language": language,
            "transcribe.format": format,
            "transcribe.concurrency": concurrency,
            "transcribe.per_minute": per_minute,
            "transcribe.preflight": preflight,
            "transcribe.strict_words": strict_words,
            "transcribe.deadline_s": deadline_s,
        },
    )
    from steno.app.recordings import TranscribeOptions, require_out, rules_of
    from steno.config import require_transcribe
    from steno.ports.jobs import TranscriptionRequest

    require_transcribe(settings)
    told = Output(json=json)
    wanted = settings.transcribe
    defaults = TranscriptionRequest(
        "",
        wanted.language,
        wanted.format,
        speaker_diarization,
        word_confidence,
        timestamps,
        wanted.webhook.reveal() if webhook is None else webhook,
    )
    ids = list(recordings or (() if file else wanted.recordings))
    if out is None:
        out = "-" if len(ids) == 1 and not file and not json else ""
    _require_one(ids, file, out, reference)
    require_out(out)
    if report is not None:
        require_page(report, setting="--report")
    progress = Progress("ended", unit="jobs")
    options = TranscribeOptions(
        batch=batch,
        out=out,
        redact=not no_redact,
        again=again,
        engine=wanted.engine,
        reference=_text_of(reference),
        on_line=_Lines(told).take,
        on_changed=lambda tally, total: progress.show(tally.ended, total),
    )
    with contextlib.ExitStack() as stack:
        lines = _lines(ids, file, rules_of(settings), defaults, stack)
        code = run_async(lambda stop: _run(settings, lines, options, stop, told, progress, report))
    raise typer.Exit(code)


async def _run(
    settings: Config,
    lines: Iterable[Line],
    options: TranscribeOptions,
    stop: Any,  # Any: asyncio.Event, imported only when run
    told: Output,
    progress: Progress,
    report: Path | None,
) -> ExitCode:
    from steno.adapters.state_dir import StateDir
    from steno.app.recordings import transcribe as carry_out

    began_us = time.time_ns() // 1000
    try:
        outcome = await carry_out(
            settings,
            lines,
            stop=stop,
            telemetry=make_telemetry(settings),
            options=options,
        )
    finally:
        progress.end()
    if outcome.added.webhooks and not settings.transcribe.webhook_secret:
        path = StateDir(settings.state_dir).webhook_secret
        told.note(f"webhooks are signed with the secret in {path}: their receivers need it")
    if outcome.webhooks_waiting:
        told.note("webhooks wait: run `steno transcribe` or `steno outbox deliver` for them later")
    code = exit_code_of(outcome, stopped=stop.is_set())
    summary = summary_of(outcome, code)
    if told.json:
        told.result(summary)
    else:
        for line in table_of(summary):  # not where transcripts may go
            told.note(line)
    if report is not None:
        write_run_page(
            report,
            StateDir(settings.state_dir).jobs,
            setting="--report",
            batch=options.batch,
            ids=outcome.added.ids,
            since_us=began_us,
        )
    return code


# --- input -----------------------------------------------------------------------------------


def _require_one(ids: list[str], file: str | None, out: str, reference: Path | None) -> None:
    from steno.app.recordings import is_per_recording
    from steno.errors import ConfigError

    alone = len(ids) == 1 and not file
    if reference is not None:
        if not alone:
            raise ConfigError(
                "a reference is of one recording", setting="--reference", fix="Name that one."
            )
        from steno.adapters.error_rates import require_error_rates

        require_error_rates()
    if out not in ("", "-") and not alone and (ids or file) and not is_per_recording(out):
        raise ConfigError(
            "several transcripts would be written over one another",
            setting="--out",
            fix="Write {recording} where the id shall be.",
        )


def _text_of(reference: Path | None) -> str | None:
    from steno.errors import ConfigError

    if reference is None:
        return None
    try:
        with reference.open("rb") as file:
            data = file.read(_MAX_REFERENCE_BYTES + 1)
        if len(data) > _MAX_REFERENCE_BYTES:
            raise ConfigError("the reference is too long", setting="--reference")
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            "the reference cannot be read",
            setting="--reference",
            fix="Give a text file in UTF-8.",
            cause=type(exc).__name__,
        ) from None


def _lines(
    ids: list[str],
    file: str | None,
    rules: RequestRules,
    defaults: TranscriptionRequest,
    stack: contextlib.ExitStack,
) -> Iterator[Line]:
    from steno.errors import ConfigError
    from steno.recordings.requests import MAX_LINE_BYTES, read_arguments, read_requests

    found = read_arguments(ids, rules, defaults)
    if file is None:
        return found
    try:
        source = sys.stdin.buffer if file == "-" else stack.enter_context(open(file, "rb"))  # noqa: SIM115
    except OSError as exc:
        raise ConfigError(
            "the file cannot be read", setting="--file", cause=type(exc).__name__
        ) from None
    return chain(found, read_requests(whole_lines(source, MAX_LINE_BYTES), rules, defaults))


class _Lines:
    """Tells lines that are no job, the first hundred one by one."""

    def __init__(self, told: Output) -> None:
        self._told = told
        self._count = 0

    def take(self, line: Line) -> None:
        """Tell one."""
        from steno.recordings.requests import BadLine, GoodLine

        if isinstance(line, BadLine):
            texts = [str(problem) for problem in line.problems]
        elif isinstance(line, GoodLine):
            texts = [f"{line.place} {line.line}: {warning}" for warning in line.warnings]
        else:
            texts = [f"{line.place} {line.line}: asked for by {line.place} {line.first} already"]
        for text in texts:
            self._count += 1
            if self._count <= _MAX_TOLD:
                self._told.note(text)
            elif self._count == _MAX_TOLD + 1:
                self._told.note("and so on: further lines are counted, not told")


# --- summary ---------------------------------------------------------------------------------


def exit_code_of(outcome: Outcome, *, stopped: bool) -> ExitCode:
    """Return the documented exit code of a run."""
    tally, added = outcome.tally, outcome.added
    completed = tally.states["completed"] + added.known.get("completed", 0)
    if stopped:
        return ExitCode.INTERRUPTED
    if added.bad and not added.ids and not tally.ended:
        return ExitCode.USAGE
    unreachable = sum(
        tally.reasons[reason] for reason in ("unreachable", "timed_out", "unavailable")
    )
    if not completed and unreachable and unreachable == tally.states["failed"]:
        return ExitCode.UNREACHABLE
    failed = tally.states["failed"] + tally.states["cancelled"] + added.bad
    earlier = added.known.get("failed", 0) + added.known.get("cancelled", 0)
    return ExitCode.FAILED if failed or earlier or added.paused else ExitCode.DONE


def summary_of(outcome: Outcome, code: ExitCode) -> dict[str, Any]:
    """Return what ``--json`` tells at the end; counts, figures and remedies."""
    from steno.core.quality import ESTIMATE_LABEL
    from steno.recordings.job import REMEDIES, Reason

    tally, added = outcome.tally, outcome.added
    known = [reason for reason in Reason if tally.reasons[reason.value]]
    summary: dict[str, Any] = {
        "jobs": {"new": added.new, "known": dict(sorted(added.known.items()))},
        "bad_lines": added.bad,
        "ended": {state: tally.states[state] for state in ("completed", "failed", "cancelled")},
        "left": outcome.left,
        "failures": [
            {
                "reason": reason.value,
                "count": tally.reasons[reason.value],
                "remedy": REMEDIES[reason],
            }
            for reason in known
        ],
        "mean_latency_seconds": (
            round(tally.latency_s / tally.latencies, 2) if tally.latencies else None
        ),
        "total_words": tally.words,
        "mean_word_error_rate": (
            round(tally.estimate / tally.estimates, 4) if tally.estimates else None
        ),
        "word_error_rate_is": ESTIMATE_LABEL,
        "calls": outcome.calls,
        "seconds": round(outcome.seconds, 3),
        "drained": outcome.drained,
        "webhooks_waiting": outcome.webhooks_waiting,
        "exit_code": int(code),
    }
    if outcome.rates is not None:
        summary["against_reference"] = outcome.rates
    return summary


def table_of(summary: dict[str, Any]) -> list[str]:
    """Return the summary for people."""
    ended = summary["ended"]
    rows = [(state, str(ended[state])) for state in ended]
    rows += [(f"{state} before", str(count)) for state, count in summary["jobs"]["known"].items()]
    for name, label in (
        ("left", "left for later"),
        ("bad_lines", "bad lines"),
        ("webhooks_waiting", "webhooks waiting"),
    ):
        if summary[name]:
            rows.append((label, str(summary[name])))
    latency, rate = summary["mean_latency_seconds"], summary["mean_word_error_rate"]
    rows.append(("mean latency", "-" if latency is None else f"{latency:.2f} s"))
    rows.append(("words", str(summary["total_words"])))
    rows.append(
        ("mean word error rate", "-" if rate is None else f"{rate:.4f}, an {_estimate(summary)}")
    )
    if (true := summary.get("against_reference")) is not None:
        rows.append(("word error rate", f"{_rate(true['words'])}, against the reference"))
        rows.append(("character error rate", f"{_rate(true['characters'])}, the same"))
    rows.append(("calls", f"{summary['calls']} in {summary['seconds']:.1f} s"))
    width = max(len(label) for label, _ in rows)
    return [
        *(f"{label:<{width}}  {value}" for label, value in rows),
        *(
            f"{failure['count']} failed: {failure['reason']}. {failure['remedy']}"
            for failure in summary["failures"]
        ),
    ]


def _estimate(summary: dict[str, Any]) -> str:
    return str(summary["word_error_rate_is"])


def _rate(errors: dict[str, Any]) -> str:
    return "-" if errors["rate"] is None else f"{errors['rate']:.4f}"
