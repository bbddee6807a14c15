"""Write the reference pages that are made from the code; ``--check`` tells which are stale.

Commands come from ``--help``, settings from the structs, metrics, events and fields from the
vocabulary, errors from the error tree, the simulator from its modules. A page's introduction is
written here, beside what it introduces, so the pages in ``docs/reference`` that this makes are
never edited by hand.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from steno import errors
from steno.cli.common import ExitCode, exit_code
from steno.cli.main import COMMANDS, load_command, make_app
from steno.config.showing import reference
from steno.observability.vocabulary import BUCKETS_S, EVENTS, FIELDS, METRICS
from steno_sim import (
    archive_score,
    bulk,
    control,
    event_socket,
    faults,
    oauth,
    recorded,
    scenario,
    segments_score,
)
from steno_sim.archive import finding as archive_finding
from steno_sim.archive import service as archive_service
from steno_sim.archive import settings as archive_settings
from steno_sim.archive import store as archive_store
from steno_sim.calls.faults import FAULTS
from steno_sim.calls.rules import RULES
from steno_sim.cli import app as simulator
from steno_sim.recordings import platform, service, store
from steno_sim.recordings import settings as recordings_settings
from steno_sim.webhooks import receiver, script

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
WIDTH = 96
NOTE = "<!-- Made by tools/reference.py (`make docs`). Do not edit. -->\n"


def cli() -> Iterator[str]:
    """Yield the page of commands, each with its help as it is printed."""
    yield "# Commands\n"
    yield (
        "Every command takes `--help`; those that read settings take `--config`, `--state-dir` "
        "and `--log-level` too, and `--json` for machine output on standard output (everything "
        "for people goes to standard error). Exit codes are on the page of "
        "[errors](errors.md#exit-codes).\n"
    )
    yield from _help("steno", typer.main.get_command(make_app()))
    for name in COMMANDS:
        yield from _help(f"steno {name}", load_command(name))
    yield from _help("steno-sim", typer.main.get_command(simulator))


def _help(title: str, command: Any) -> Iterator[str]:  # Any: click is private in typer
    context = command.context_class(command, info_name=title, terminal_width=WIDTH)
    yield f"## `{title}`\n"
    yield f"```text\n{command.get_help(context).rstrip()}\n```\n"
    if title != "steno":
        for name, inner in getattr(command, "commands", {}).items():
            yield from _help(f"{title} {name}", inner)


def settings() -> Iterator[str]:
    """Yield the page of settings."""
    yield "# Settings\n"
    yield (
        "One TOML file, found by `--config`, `STENO_CONFIG`, or at "
        "`$XDG_CONFIG_HOME/steno/steno.toml`. An option wins over a `STENO_…` variable, that over "
        "the variables of the tutorials, those over the file. An unknown key is an error. In a "
        "variable an array is written with commas, an array of tables as JSON.\n"
    )
    yield (
        "A secret never stands in the file: give it by its variable, or by the key with `_file` "
        "added (`client_secret_file`, or `STENO_PLATFORM_CLIENT_SECRET_FILE`), naming a file "
        "that others cannot read. The secret of a destination has the variable "
        "`STENO_DELIVERY_<NAME>_<KEY>`, for example `STENO_DELIVERY_MY_HOOK_SECRET`. A relative "
        "path in the file (`…_file`, `state_dir`, the `path` of JSON lines) is relative to the "
        "file.\n"
    )
    yield "`steno config show` prints the effective values and where each came from.\n"
    for table in reference():
        yield f"## `{table.title}`\n"
        yield f"{table.text}\n"
        named = any(row.variables for row in table.rows)
        yield _row(["Key", "Type", "Default", "Unit", "Meaning", *(["Variables"] if named else [])])
        yield _row(["---"] * (6 if named else 5))
        for row in table.rows:
            default = f"`{row.default}`" if row.default else ""
            cells = [f"`{row.key}`", row.kind, default, row.unit, row.text]
            if named:
                cells.append(" ".join(f"`{name}`" for name in row.variables))
            yield _row(cells)
        yield "\n"


def metrics() -> Iterator[str]:
    """Yield the page of metrics."""
    yield "# Metrics\n"
    bounds = ", ".join(f"{bound:g}" for bound in BUCKETS_S)
    yield (
        "Served as Prometheus text at `/metrics` (`observability.listen`). Labels have few values "
        "and never an id. Histograms are in seconds with the bounds "
        f"{bounds}. The process's own `process_…` and `python_…` metrics are there too.\n"
    )
    yield _row(["Metric", "Type", "Labels", "Meaning"])
    yield _row(["---"] * 4)
    for name, metric in sorted(METRICS.items()):
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield _row([f"`{name}`", metric.kind, labels, metric.text])


def events() -> Iterator[str]:
    """Yield the page of log events and fields."""
    yield "# Log events\n"
    yield (
        "One event is one line of JSON on standard error: `event`, `level`, `at` (UTC) and fields "
        "from the list below. Nothing a caller said, no number, name, token or signed address "
        "is ever in one; what libraries log is kept without its words. Level `error` wakes "
        "somebody, `warning` is read tomorrow, `info` tells the story.\n"
    )
    yield "## Events\n"
    yield _row(["Event", "Meaning"])
    yield _row(["---"] * 2)
    for name, text in sorted(EVENTS.items()):
        yield _row([f"`{name}`", text])
    yield "\n## Fields\n"
    yield _row(["Field", "Meaning"])
    yield _row(["---"] * 2)
    for name, text in sorted(FIELDS.items()):
        yield _row([f"`{name}`", text])


EXIT_TEXTS = {
    ExitCode.DONE: "Done. A command that follows or serves ends so after SIGINT or SIGTERM.",
    ExitCode.FAILED: "The work failed.",
    ExitCode.USAGE: "Wrong usage or configuration.",
    ExitCode.AUTHENTICATION: "The platform or the consumer refused our credentials.",
    ExitCode.UNREACHABLE: "The platform could not be reached.",
    ExitCode.NOTHING_FOUND: "Nothing met the criteria.",
    ExitCode.INTERRUPTED: "Interrupted, or ended at once by a second signal.",
}


def error_pages() -> Iterator[str]:
    """Yield the page of exit codes and errors."""
    yield "# Errors and exit codes\n"
    yield "## Exit codes\n"
    yield _row(["Code", "Meaning"])
    yield _row(["---"] * 2)
    for code in ExitCode:
        yield _row([str(code.value), EXIT_TEXTS[code]])
    yield "\n## Errors\n"
    yield (
        "A command that fails writes one line to standard error, under `--json` a JSON object "
        "with `class`, `message`, `fix`, `fields` and `retryable`. Messages are built from facts "
        "of ours and never quote a peer.\n"
    )
    yield _row(["Class", "Below", "Tried again", "Exit code", "Meaning"])
    yield _row(["---"] * 5)
    for cls in _tree(errors.StenoError):
        text = (inspect.getdoc(cls) or "").splitlines()[0]
        code = exit_code(cls.__new__(cls))
        retried = "yes" if cls.retryable else ""
        above = cls.__bases__[0].__name__
        below = "" if above == "Exception" else f"`{above}`"
        yield _row([f"`{cls.__name__}`", below, retried, str(code.value), text])


def _tree(cls: type[errors.StenoError]) -> Iterator[type[errors.StenoError]]:
    yield cls
    for inner in cls.__subclasses__():
        if inner.__module__ == errors.__name__:
            yield from _tree(inner)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


SIMULATOR_PARTS = (
    ("Scenarios", scenario),
    ("Event socket", event_socket),
    ("Faults", faults),
    ("Control", control),
    ("Recorded events", recorded),
    ("Recorded events in bulk", bulk),
    ("Score of an export", segments_score),
    ("Transcription jobs", service),
    ("Recordings and downloads", platform),
    ("Presigned addresses", store),
    ("Settings of jobs and recordings", recordings_settings),
    ("Stored transcripts", archive_service),
    ("Store of transcripts", archive_store),
    ("Finding conversations", archive_finding),
    ("Settings of stored transcripts", archive_settings),
    ("Scoring archived transcripts", archive_score),
    ("Webhook receiver", receiver),
    ("Answers of the webhook receiver", script),
)


def simulator_page() -> Iterator[str]:
    """Yield the page of the simulator: what its modules say of files, faults and control."""
    yield "# Simulator\n"
    yield (
        "`steno-sim` serves both families on one port: the tutorials' OAuth, transcript stream, "
        "event socket and language switch, and the real platform's OAuth, notification channels "
        "with their limits and topics, and conversations with their participants. "
        "Its options are on the page of [commands](commands.md#steno-sim); a walk through it is "
        "[develop against the simulator](../tutorials/develop-against-the-simulator.md). The "
        f"client is `{oauth.DEFAULT_CLIENT_ID}` with the secret `{oauth.DEFAULT_CLIENT_SECRET}`, "
        "unless `--client` names others. At the start it prints the ids of its queues, for "
        "`steno live --source notifications --queue ID`. `steno-sim events` writes events to a "
        "file without serving anything, and `steno-sim score` holds an export of speaker segments "
        "against the truth of a run. Transcription jobs and the platform's recordings are served "
        "always; `--recordings N` prints ids for `steno transcribe`, and `steno-sim webhooks` "
        "receives webhooks and checks who signed them. So are stored transcripts, of any size with "
        "`--archive size=1GB`; `steno-sim transcript` writes one to a file, and `steno-sim "
        "archive-score` holds an archived one against what was stored.\n"
    )
    for title, module in SIMULATOR_PARTS:
        yield f"## {title}\n"
        yield f"```text\n{inspect.getdoc(module)}\n```\n"
    yield from _calls()


def _calls() -> Iterator[str]:
    """Yield what the simulated calls check, and what they do wrong on demand."""
    yield "## Calls\n"
    yield (
        "[`steno-sim call`](commands.md#steno-sim-call) is the platform's end of a live call: it "
        "dials a server by AudioHook or the JSON form, plays sound, and holds the server to the "
        "protocol; [test with simulated calls](../how-to/test-with-simulated-calls.md) shows how. "
        "In Python: `steno_sim.calls.playing.play_calls`, `steno_sim.calls.fleet.Fleet`, "
        "`steno_sim.calls.audiohook.AudioHookCaller` and `steno_sim.calls.json_caller.JsonCaller`."
        "\n"
    )
    yield "### Rules a server is held to\n"
    yield _row(["Rule", "Demands"])
    yield _row(["---"] * 2)
    for name, text in RULES.items():
        yield _row([f"`{name}`", text])
    yield "\n### Faults of calls\n"
    yield "The call may end so; any other end breaks `fault.accepted` or `fault.fatal`.\n"
    yield _row(["Fault", "Form", "What the caller does", "May end"])
    yield _row(["---"] * 4)
    for fault, known in FAULTS.items():
        ends = ", ".join(sorted(known.expected))
        yield _row([f"`{fault}`", known.family, known.text, ends])


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "commands.md": cli,
    "settings.md": settings,
    "metrics.md": metrics,
    "log-events.md": events,
    "errors.md": error_pages,
    "simulator.md": simulator_page,
}


def main() -> int:
    """Write the pages, or compare; 1 when one is stale."""
    stale = []
    for name, page in PAGES.items():
        text = NOTE + "\n".join(page()).rstrip() + "\n"
        target = FOLDER / name
        if target.is_file() and target.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            FOLDER.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    if "--check" not in sys.argv:
        return 0
    for name in stale:
        print(f"stale: docs/reference/{name}; run `make docs`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
