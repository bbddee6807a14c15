"""``steno archived``: what is archived, fetched back, and whether it is still what it was."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from steno.cli.common import (
    ConfigOption,
    ExitCode,
    JsonOption,
    LogLevel,
    LogLevelOption,
    Output,
    Progress,
    StateDirOption,
    harden,
    load_settings,
)

if TYPE_CHECKING:
    from steno.adapters.archive_store import Archive
    from steno.ports.archive import Manifest, Verdict

app = typer.Typer(
    help="List, get back or verify archived transcripts.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

ToOption = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="WHERE",
        help="The archive: s3://bucket/prefix, gs://, az://, or a folder. Without: archive.url.",
        show_default=False,
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint", metavar="URL", help="An S3-compatible service.", show_default=False),
]

_NO_MANIFEST = "there is no manifest of it"
_DAMAGED_MANIFEST = "its manifest is damaged"


class _Checked(msgspec.Struct):
    """What a verification came to, as ``--json`` tells it."""

    sound: bool = True
    checked: int = 0
    size_bytes: int = 0
    damaged: list[dict[str, str]] = []


@app.command("list")
def list_(
    conversation: Annotated[
        str | None,
        typer.Option("--conversation", metavar="ID", help="Of one alone.", show_default=False),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Archived since (RFC 3339, or a date).", show_default=False
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="And before.", show_default=False)
    ] = None,
    to: ToOption = None,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """List what is archived. With --json each manifest is a line, the summary in it.

    Exits 5 when nothing is, 1 when a manifest is damaged.

    Example: steno archived list --since 2026-01-01 --to s3://my-archive --json
    """
    begin, end = _instant_us(since, "--since"), _instant_us(until, "--until")
    archive = _opened(config, state_dir, log_level, to, endpoint)
    out = Output(json=json)
    damaged: list[str] = []
    count = 0
    for manifest in archive.manifests(
        conversation=_checked_id(conversation), since_us=begin or 0, on_damaged=damaged.append
    ):
        at = _instant_us(manifest.archived_at, "archived_at", lenient=True) or 0
        if (begin is not None and at < begin) or (end is not None and at >= end):
            continue
        count += 1
        if json:
            out.result(manifest)
        out.line(f"{manifest.archived_at}  {manifest.size:>12,}  {manifest.key}")
    for key in damaged:
        out.note(f"steno: {key}: {_DAMAGED_MANIFEST}")
    if damaged:
        raise typer.Exit(ExitCode.FAILED)
    if not count:
        out.note("steno: nothing is archived there")
        raise typer.Exit(ExitCode.NOTHING_FOUND)


@app.command("get")
def get(
    what: Annotated[str, typer.Argument(metavar="KEY|CONVERSATION", help="As `list` shows it.")],
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="Write it there; - is standard output.")
    ] = "-",
    to: ToOption = None,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Get an archived transcript back, decompressed, and compare it with its manifest meanwhile.

    A file appears whole and sound, or not at all; on standard output damage shows only at the end,
    by exit code 1. Exits 5 when there is no such transcript.

    Example: steno archived get 3f1c2b7a-0d5e-4a53-9a4e-2f0a6f1f7c11 --out transcript.json
    """
    from steno.adapters.exports.targets import STDOUT, ReaderGone, require_target, target_of

    if json and out == STDOUT:
        raise typer.BadParameter("--json needs a file to write to", param_hint="--out")
    require_target(out)
    archive = _opened(config, state_dir, log_level, to, endpoint)
    say = Output(json=json)
    found = [one for one in _found(archive, what) if one.content_type == "application/json"]
    found = found or list(_found(archive, what))
    if not found:
        say.note("steno: no such transcript is archived there")
        raise typer.Exit(ExitCode.NOTHING_FOUND)
    if len(found) > 1:
        keys = "\n  ".join(one.key for one in found)
        raise typer.BadParameter(f"it has several, name one:\n  {keys}", param_hint="KEY")
    (manifest,) = found
    try:
        target_of(out, None).write(manifest.conversation, archive.read_by(manifest))
    except ReaderGone:
        raise typer.Exit(ExitCode.FAILED) from None
    if json:
        say.result({"key": manifest.key, "url": archive.url_of(manifest.key), "out": out})


@app.command("verify")
def verify(
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY|CONVERSATION…]", help="As `list` shows them.", show_default=False
        ),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Everything that is archived.")] = False,
    to: ToOption = None,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Read archived objects and compare them with their manifests.

    Exits 1 when any is damaged or missing, and says which; 5 when there was nothing to verify.

    Example: steno archived verify --all --to ./archive
    """
    if bool(keys) == all_:
        raise typer.BadParameter("name keys, or give --all", param_hint="KEY")
    archive = _opened(config, state_dir, log_level, to, endpoint)
    out = Output(json=json)
    done = _Checked()
    progress = Progress("verified", unit="MB", scale=1e-6)
    for verdict in _verdicts(archive, keys or []):
        done.checked += 1
        done.size_bytes += verdict.size
        if verdict.problem:
            done.sound = False
            done.damaged.append({"key": verdict.key, "problem": verdict.problem})
            progress.end()
            out.line(f"DAMAGED {verdict.key}: {verdict.problem}")
        progress.show(done.size_bytes, 0)
    progress.end()
    if json:
        out.result(done)
    if not done.checked:
        out.note("steno: nothing is archived there")
        raise typer.Exit(ExitCode.NOTHING_FOUND)
    whole = done.checked - len(done.damaged)
    out.line(f"{whole} sound, {len(done.damaged)} damaged, {done.size_bytes:,} bytes read")
    if not done.sound:
        raise typer.Exit(ExitCode.FAILED)


def _opened(
    config: Path | None,
    state_dir: Path | None,
    log_level: LogLevel | None,
    to: str | None,
    endpoint: str | None,
) -> Archive:
    harden()
    overrides = {"archive.url": to, "archive.endpoint": endpoint}
    from steno.app.archive_place import place_of

    return place_of(
        load_settings(config, state_dir=state_dir, log_level=log_level, overrides=overrides)
    )


def _found(archive: Archive, what: str) -> Iterator[Manifest]:
    """Return what a key names, or all of a conversation."""
    from steno.core.ids import is_id

    if is_id(what):
        yield from archive.manifests(conversation=what)
    else:
        found = archive.manifest(what)
        if found is not None:
            yield found


def _verdicts(archive: Archive, keys: list[str]) -> Iterator[Verdict]:
    from steno.errors import IntegrityError
    from steno.ports.archive import Verdict

    damaged: list[str] = []
    if not keys:
        for manifest in archive.manifests(on_damaged=damaged.append):
            yield archive.verify(manifest)
    for what in keys:
        try:
            found = list(_found(archive, what))
        except IntegrityError:
            damaged.append(what)
            continue
        yield from map(archive.verify, found)
        if not found:
            yield Verdict(what, _NO_MANIFEST)
    yield from (Verdict(key, _DAMAGED_MANIFEST) for key in damaged)


def _checked_id(text: str | None) -> str:
    from steno.core.ids import is_id

    if text is not None and not is_id(text):
        raise typer.BadParameter("not a conversation id", param_hint="--conversation")
    return text or ""


def _instant_us(text: str | None, option: str, *, lenient: bool = False) -> int | None:
    """Return UTC microseconds of an RFC 3339 time or a date; without a zone it is UTC."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return int(at.timestamp() * 1e6)
    except (ValueError, OverflowError):
        if lenient:
            return None
        raise typer.BadParameter("not an RFC 3339 time", param_hint=option) from None
