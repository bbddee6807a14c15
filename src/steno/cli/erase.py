"""``steno erase``: delete everything kept of a conversation, or of a transcribed recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
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
    from steno.adapters.state_dir import StateDir
    from steno.adapters.store_sqlite import Erased
    from steno.config import Config
    from steno.errors import StenoError


def erase(
    conversation: Annotated[
        str,
        typer.Argument(metavar="ID", help="Id of a conversation, or of a transcribed recording."),
    ],
    vacuum: Annotated[
        bool,
        typer.Option(
            "--vacuum", help="Rewrite the whole database too; deleted bytes are zeroed anyway."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    archive: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="Where transcripts are archived, should the settings not say (archive.url).",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Delete everything kept of a conversation, and say where copies lie beyond our reach.

    Records in every state, dead letters, open windows, recordings, archived transcripts and
    transcription jobs go; what arrives of the conversation later is not stored again. Works beside
    a running gateway. Copies that consumers have acknowledged are counted by destination: they
    must be erased there. Exits 1 when the archive could not be reached; the rest is erased then.

    Example: steno erase 3f1c2b7a-0d5e-4a53-9a4e-2f0a6f1f7c11 --yes --json
    """
    import msgspec

    from steno.adapters.job_store import delete_jobs, jobs_about
    from steno.adapters.state_dir import StateDir
    from steno.core.ids import is_id
    from steno.errors import StenoError

    if not is_id(conversation):
        raise typer.BadParameter("not a conversation id", param_hint="ID")
    settings = load_settings(
        config,
        state_dir=state_dir,
        log_level=log_level,
        overrides={"archive.url": archive},
    )
    if not yes and not typer.confirm("Erase everything kept of it?", err=True):
        raise typer.Exit(2)
    state = StateDir(settings.state_dir)
    jobs = jobs_about(state.jobs, conversation)
    names = dict.fromkeys([conversation, *(job.request.recording_id for job in jobs)])
    erased = _erase_records(settings, state, tuple(names), vacuum=vacuum, has_jobs=bool(jobs))
    # Last: they tell which records are the conversation's, should this be run again.
    delete_jobs(state.jobs, [job.id for job in jobs])
    files = sorted(
        {job.out.replace("{recording}", job.request.recording_id) for job in jobs} - {""}
    )
    recordings = _erase_recordings(
        [settings.media.recordings, *state.recordings_folders()],
        conversation,
    )
    archived = _erase_archived(settings, conversation)
    out = Output(json=json)
    if json:
        whole = {
            **msgspec.structs.asdict(erased),
            "recordings": recordings,
            "archived": archived if isinstance(archived, int) else None,
            "jobs": len(jobs),
            "transcripts": files,
        }
        if isinstance(archived, StenoError):
            whole["archive_error"] = archived.error_class
        out.result(whole)
    out.line(
        f"erased {erased.records} records ({erased.undelivered} not delivered, "
        f"{erased.dead} dead letters) and {erased.windows} open windows"
    )
    if recordings:
        out.line(f"erased {recordings} files of recordings")
    if jobs:
        out.line(f"erased {len(jobs)} transcription jobs")
    for name in files:
        out.line(f"beyond our reach: a transcript written to {name}")
    for name, count in erased.delivered.items():
        out.line(f"beyond our reach: {count} records delivered to {name}")
    if archived is None:
        out.line("no archive was looked into: archive.url is not set, nor --archive given")
    elif isinstance(archived, StenoError):
        out.note(f"steno: the archive could not be erased: {archived}")
        raise typer.Exit(ExitCode.FAILED)
    else:
        out.line(f"erased {archived} archived objects")


def _erase_records(
    settings: Config, state: StateDir, names: Sequence[str], *, vacuum: bool, has_jobs: bool
) -> Erased:
    """Delete the records of a conversation, which comes first, and of its transcribed recordings.

    Raises:
        ObjectMissing: There is no outbox, and nothing else that could have anything of it.
        StorageError: Not all was erased.
    """
    from steno.adapters.store_sqlite import Erased, erase, writing
    from steno.errors import ObjectMissing

    at_us = int(datetime.now(UTC).timestamp() * 1_000_000)
    total = Erased(names[0], 0, 0, 0, 0, {}, False)
    try:
        with writing(state.database) as db:
            for name in names:
                one = erase(db, name, at_us=at_us, vacuum=vacuum and name == names[-1])
                total = Erased(
                    total.conversation,
                    total.records + one.records,
                    total.undelivered + one.undelivered,
                    total.dead + one.dead,
                    total.windows + one.windows,
                    dict(Counter(total.delivered) + Counter(one.delivered)),
                    one.vacuumed,
                )
    except ObjectMissing:
        # Whoever only archives has no outbox.
        if not has_jobs and not _names_archive(settings):
            raise
    return total


def _erase_archived(settings: Config, conversation: str) -> int | StenoError | None:
    """Delete what is archived of a conversation.

    Returns:
        The number of objects; why it could not be done; None where no archive was named: the
        default is the tutorial's bucket, which may be anybody's.
    """
    from steno.app.archive_place import place_of
    from steno.errors import StenoError

    if not _names_archive(settings):
        return None
    try:
        return place_of(settings).erase(conversation)
    except StenoError as error:
        return error


def _names_archive(settings: Config) -> bool:
    """Tell whether somebody said where transcripts are archived."""
    return "archive.url" in settings.origins


def _erase_recordings(folders: Iterable[Path | None], conversation: str) -> int:
    """Delete a conversation's recordings and their peaks; return the number of files."""
    from steno.adapters.call_recorder import erase_recordings

    known = {folder.resolve() for folder in folders if folder is not None}
    return sum(erase_recordings(folder, conversation) for folder in known)
