"""The ``steno`` command: a table of commands, each imported only when it is called.

``steno --help`` must answer at once (well under 150 ms of CPU), so this module imports nothing
but typer; the names and one-line descriptions of the commands stand here, everything else in
the command's own module.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperGroup


class Lazy(NamedTuple):
    """Where a command lives and what it is for, in a line."""

    module: str
    attribute: str
    text: str


COMMANDS: Final[dict[str, Lazy]] = {
    "live": Lazy("live", "live", "Follow live transcripts and deliver sentences."),
    "media": Lazy("media", "media", "Serve call audio: AudioHook and the JSON form."),
    "diarise": Lazy("diarise", "app", "Collect speaker segments: who said what, when."),
    "transcribe": Lazy(
        "transcribe", "transcribe", "Transcribe recordings: durable jobs, any number."
    ),
    "archive": Lazy("archive", "archive", "Archive stored transcripts, aligned and summed up."),
    "archived": Lazy("archived", "app", "List, get back or verify archived transcripts."),
    "repair": Lazy("repair", "repair", "Fill in what live delivery has missed in its gaps."),
    "jobs": Lazy("jobs", "app", "List, show, pause, resume, cancel or purge transcription jobs."),
    "audit": Lazy("audit", "app", "Verify the audit log of transcription jobs, or show its key."),
    "run": Lazy("live", "run", "Run everything the configuration enables, in one process."),
    "stt": Lazy("stt", "stt", "Serve speech-to-text over gRPC."),
    "consume": Lazy("consume", "consume", "Run a reference gRPC consumer; writes JSON lines."),
    "redact": Lazy("redact", "redact", "Remove personal data from text, stdin to stdout."),
    "outbox": Lazy("outbox", "app", "Look at, deliver, redrive or purge stored records."),
    "erase": Lazy("erase", "erase", "Delete everything kept of a conversation."),
    "config": Lazy("config", "app", "Check or show the settings."),
    "doctor": Lazy("doctor", "app", "Test reachability, credentials, permissions and clock."),
    "demo": Lazy(
        "demo", "demo", "Simulator, gateway and consumer on this machine; ends by itself."
    ),
}


class LazyGroup(TyperGroup):
    """A group whose listing needs no command's module."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # Any: click is private in typer
        """Return the command that is really called, importing its module."""
        name, placeholder, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            return name, load_command(name), rest
        return name, placeholder, rest


def load_command(name: str) -> Any:  # Any: click's command class is private in typer
    """Import a command's module and return the command, or the group of that name."""
    lazy = COMMANDS[name]
    found = getattr(import_module(f"steno.cli.{lazy.module}"), lazy.attribute)
    if isinstance(found, typer.Typer):
        group = typer.main.get_command(found)
        group.name = name
        return group
    single = typer.Typer(**_STYLE)
    single.command(name)(found)
    return typer.main.get_command(single)


_STYLE: Final[dict[str, Any]] = {  # Any: keyword arguments of typer of several types
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "add_completion": False,
}


def _version(wanted: bool) -> None:
    if wanted:
        from steno import __version__

        sys.stdout.write(f"steno {__version__}\n")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Steno: live transcripts in, clean redacted sentences out, stored before sent.

    Exit codes: 0 done, 1 failed work, 2 usage or configuration, 3 authentication, 4 platform
    unreachable, 5 nothing met the criteria, 130 interrupted.
    """


def make_app() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        name="steno",
        cls=LazyGroup,
        no_args_is_help=True,
        **{**_STYLE, "add_completion": True},
    )
    app.callback()(_root)
    for name, lazy in COMMANDS.items():

        def placeholder() -> None:
            """Stand in the listing."""

        app.command(name, help=lazy.text)(placeholder)
    return app


def main() -> None:
    """Run the command line; an error of ours becomes one line and its exit code."""
    try:
        make_app()()
    except Exception as error:  # noqa: BLE001  # the last boundary: nothing prints a traceback
        from steno.cli.common import report

        sys.exit(report(error, json="--json" in sys.argv))
    except KeyboardInterrupt:
        sys.exit(130)
