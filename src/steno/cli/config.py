"""``steno config``: check or show the settings."""

from __future__ import annotations

from typing import Annotated

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

app = typer.Typer(
    help="Check or show the settings.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.command("check")
def check(
    config: ConfigOption = None,
    live: Annotated[
        bool, typer.Option("--live", help="Also ask for what `steno live` cannot do without.")
    ] = False,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Read the settings as a command would, and name everything that is wrong with them.

    Exits 0 when they are sound, else 2 with one line for each problem.

    Example: steno config check --config steno.toml --live
    """
    from steno.config import require_live

    settings = load_settings(config, state_dir=state_dir, log_level=log_level)
    if live:
        require_live(settings)
    out = Output(json=json)
    if json:
        out.result({"ok": True, "exit_code": ExitCode.DONE})
    out.line("The settings are sound.")


@app.command("show")
def show(
    config: ConfigOption = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not a default.")] = False,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Show the effective settings and where each one came from, secrets hidden.

    Example: steno config show --changed
    """
    import msgspec

    from steno import config as settings_package

    settings = load_settings(config, state_dir=state_dir, log_level=log_level)
    rows = settings_package.show(settings)
    if changed:
        rows = {name: row for name, row in rows.items() if row["origin"] != "default"}
    out = Output(json=json)
    if json:
        out.result(rows)
        return
    width = max((len(name) for name in rows), default=0)
    for name, row in rows.items():
        value = msgspec.json.encode(row["value"]).decode()
        out.line(f"{name:<{width}} = {value}  # {row['origin']}")
