"""``steno erase``: delete everything kept of a conversation."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from steno.cli.common import (
    ConfigOption,
    JsonOption,
    LogLevelOption,
    Output,
    StateDirOption,
    load_settings,
)


def erase(
    conversation: Annotated[str, typer.Argument(metavar="ID", help="Conversation id.")],
    vacuum: Annotated[
        bool,
        typer.Option(
            "--vacuum", help="Rewrite the whole database too; deleted bytes are zeroed anyway."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Delete everything kept of a conversation, and say where copies lie beyond our reach.

    Records in every state, dead letters, open windows and recordings go; what arrives of the
    conversation later is not stored again. Works beside a running gateway. Copies that consumers
    have acknowledged are counted by destination: they must be erased there.

    Example: steno erase 3f1c2b7a-0d5e-4a53-9a4e-2f0a6f1f7c11 --yes --json
    """
    import msgspec

    from steno.adapters.state_dir import StateDir
    from steno.adapters.store_sqlite import erase as erase_stored
    from steno.adapters.store_sqlite import writing
    from steno.core.ids import is_id

    if not is_id(conversation):
        raise typer.BadParameter("not a conversation id", param_hint="ID")
    settings = load_settings(config, state_dir=state_dir, log_level=log_level)
    if not yes and not typer.confirm("Erase everything kept of it?", err=True):
        raise typer.Exit(2)
    at_us = int(datetime.now(UTC).timestamp() * 1_000_000)
    with writing(StateDir(settings.state_dir).database) as db:
        erased = erase_stored(db, conversation, at_us=at_us, vacuum=vacuum)
    recordings = _erase_recordings(
        [settings.media.recordings, *StateDir(settings.state_dir).recordings_folders()],
        conversation,
    )
    out = Output(json=json)
    if json:
        out.result({**msgspec.structs.asdict(erased), "recordings": recordings})
    out.line(
        f"erased {erased.records} records ({erased.undelivered} not delivered, "
        f"{erased.dead} dead letters) and {erased.windows} open windows"
    )
    if recordings:
        out.line(f"erased {recordings} files of recordings")
    for name, count in erased.delivered.items():
        out.line(f"beyond our reach: {count} records delivered to {name}")


def _erase_recordings(folders: Iterable[Path | None], conversation: str) -> int:
    """Delete a conversation's recordings and their peaks; return the number of files."""
    from steno.adapters.call_recorder import erase_recordings

    known = {folder.resolve() for folder in folders if folder is not None}
    return sum(erase_recordings(folder, conversation) for folder in known)
