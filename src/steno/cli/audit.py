"""``steno audit``: is the audit log whole, what does it say, which key signs it.

All of it works beside a running gateway, and writes nothing.
"""

from __future__ import annotations

import os
import re
from itertools import chain
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
    StateDirOption,
    load_settings,
)

if TYPE_CHECKING:
    from steno.adapters.audit_log import AuditPlaces, Snapshot
    from steno.core.audit_chain import EntryLine
    from steno.core.audit_verify import Anchor, Finding, Findings

app = typer.Typer(
    help="Verify or show the audit log of transcription jobs.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

_HASH = re.compile(r"[0-9a-f]{64}")
_ROTATED = re.compile(r"-[0-9]{12}-[0-9]{8}T[0-9]{6}Z\Z")
_COLUMNS = ("line", "time", "event", "recording", "transcript", "status", "words", "webhook")


class _Trust(msgspec.Struct):
    """Keys that may have signed: whole, or by fingerprint alone."""

    keys: list[bytes]
    fingerprints: list[str]


@app.command("verify")
def verify(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE…]",
            help="Files of one log, oldest first. Without any: the log of the state directory.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="FILE|FINGERPRINT",
            help="Public key (PEM) or its fingerprint, known from elsewhere; repeat for more. "
            "Without: the state directory's, or what lies beside the files.",
            show_default=False,
        ),
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            "--expect",
            metavar="SEQ:HASH",
            help="A line that must be there, as an earlier verification gave it.",
            show_default=False,
        ),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(
            "--after",
            metavar="SEQ:HASH",
            help="The last line of older files that are kept elsewhere.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Find out whether the log is whole and as it was written; if not, say where.

    Exits 1 when anything was found, with a line for each finding; 5 when there is no log.

    Example: steno audit verify --key transcription_audit.jsonl.pub --expect 1042:5f1c…
    """
    from steno.adapters.audit_log import taken_snapshot

    anchors = [_anchor(text, "--expect") for text in expect or ()]
    begin = _anchor(after, "--after") if after is not None else None
    trust = _trusted(key) if key else None
    out = Output(json=json)
    if files:
        found = _verify_files(files, trust or _beside(files), anchors, begin)
    else:
        places = _places(config, state_dir, log_level)
        with taken_snapshot(places) as snapshot:
            if not snapshot.files and snapshot.head is None and not snapshot.head_damaged:
                out.note("steno: there is no audit log")
                raise typer.Exit(ExitCode.NOTHING_FOUND)
            found = _verify_snapshot(snapshot, places, trust, anchors, begin)
    _tell(out, found)
    if not found.sound:
        raise typer.Exit(ExitCode.FAILED)


@app.command("show")
def show(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE…]",
            help="Files of one log, oldest first. Without any: the log of the state directory.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="So many of the last.")] = 20,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Show the last entries, oldest first. This does not verify them.

    Exits 5 when there is none.

    Example: steno audit show --limit 50
    """
    from collections import deque
    from contextlib import ExitStack

    from steno.adapters.audit_log import file_lines, taken_snapshot
    from steno.core.audit_chain import EntryLine, decode_line

    last: deque[EntryLine] = deque(maxlen=limit)
    unreadable = 0
    with ExitStack() as stack:
        if files:
            _require_files(files)
            sources = [file_lines(path) for path in files]
        else:
            places = _places(config, state_dir, log_level)
            snapshot = stack.enter_context(taken_snapshot(places))
            sources = [lines for _, lines in snapshot.files]
        for raw in chain.from_iterable(sources):
            line = decode_line(raw.rstrip(b"\n"))
            unreadable += line is None
            if isinstance(line, EntryLine):
                last.append(line)
    out = Output(json=json)
    if unreadable:
        out.note(f"{unreadable} lines cannot be read: steno audit verify tells which")
    if json:
        out.result(list(last))
    if not last:
        out.note("steno: there are no entries")
        raise typer.Exit(ExitCode.NOTHING_FOUND)
    for row in _aligned([_COLUMNS, *map(_row, last)]):
        out.line(row)


@app.command("key")
def key(
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Show the fingerprint of the key that signs the log, to be kept elsewhere.

    Exits 5 when there is none yet.

    Example: steno audit key
    """
    from steno.adapters.audit_log import read_head
    from steno.errors import ObjectMissing

    places = _places(config, state_dir, log_level)
    out = Output(json=json)
    try:
        head = read_head(places.head)
    except ObjectMissing:
        out.note("steno: there is no audit log, and so no key")
        raise typer.Exit(ExitCode.NOTHING_FOUND) from None
    if json:
        out.result({"fingerprint": head.key_id, "public_key": str(places.public_keys)})
    out.line(head.key_id)
    out.line(f"public key: {places.public_keys}")


def _places(
    config: Path | None,
    state_dir: Path | None,
    log_level: LogLevel | None,
) -> AuditPlaces:
    """Return where the log of the settings lies."""
    from steno.adapters.audit_log import AuditPlaces

    settings = load_settings(config, state_dir=state_dir, log_level=log_level)
    return AuditPlaces.of(settings.state_dir, settings.transcribe.audit_log)


def _require_files(files: list[Path]) -> None:
    for path in files:
        if not path.is_file():
            raise typer.BadParameter("there is no such file", param_hint=str(path))
        if not os.access(path, os.R_OK):
            raise typer.BadParameter("this file is not ours to read", param_hint=str(path))


def _verify_files(
    files: list[Path], trust: _Trust, anchors: list[Anchor], after: Anchor | None
) -> Findings:
    from steno.adapters.audit_log import file_lines
    from steno.core.audit_verify import verify as verified

    _require_files(files)
    return verified(
        ((str(path), file_lines(path)) for path in files),
        keys=trust.keys,
        fingerprints=trust.fingerprints,
        anchors=anchors,
        after=after,
    )


def _verify_snapshot(
    snapshot: Snapshot,
    places: AuditPlaces,
    given: _Trust | None,
    anchors: list[Anchor],
    after: Anchor | None,
) -> Findings:
    """Verify the state directory's log against its head note too."""
    from steno.core.audit_chain import MAX_UNACKNOWLEDGED
    from steno.core.audit_verify import Anchor, Finding
    from steno.core.audit_verify import verify as verified

    head, about_head = snapshot.head, None
    trust = given or (
        _Trust([bytes.fromhex(head.public_key)], []) if head else _published(places.public_keys)
    )
    if head is None:
        words = "damaged" if snapshot.head_damaged else "missing"
        about_head = f"the head note is {words}: newer lines may have been taken away"
    elif not _is_trusted(head.key_id, trust):
        about_head = "the head note is signed with a key that was not given"
    else:
        bound = 0 if head.closed else MAX_UNACKNOWLEDGED
        most = bound if snapshot.exact else None
        anchors = [*anchors, Anchor(head.seq, head.hash, "the head note", most)]
    found = verified(
        ((str(path), lines) for path, lines in snapshot.files),
        keys=trust.keys,
        fingerprints=trust.fingerprints,
        anchors=anchors,
        after=after,
    )
    extra = [Finding(str(places.head), 0, about_head)] if about_head else []
    if head is not None and not _is_trusted(head.key_id, _published(places.public_keys)):
        what = "it does not hold the key that signs the log"
        extra.append(Finding(str(places.public_keys), 0, what))
    return msgspec.structs.replace(found, findings=(*found.findings, *extra))


def _trusted(given: list[str]) -> _Trust:
    """Return the keys of ``--key``."""
    from steno.adapters.audit_log import read_public_keys
    from steno.errors import IntegrityError

    trust = _Trust([], [])
    for text in given:
        bare = text.lower().removeprefix("sha256:").replace(":", "")
        if _HASH.fullmatch(bare):
            trust.fingerprints.append(bare)
            continue
        try:
            trust.keys += read_public_keys(Path(text))
        except (OSError, IntegrityError):
            raise typer.BadParameter(
                "a file with Ed25519 public keys (PEM), or a fingerprint of 64 hex digits",
                param_hint="--key",
            ) from None
    return trust


def _beside(files: list[Path]) -> _Trust:
    """Return the keys that lie beside the files."""
    last = files[-1]
    stem = _ROTATED.sub("", last.stem)
    trust = _published(last.with_name(f"{stem}{last.suffix}.pub"))
    if not trust.keys:
        raise typer.BadParameter(
            "no public key lies beside the files: give one", param_hint="--key"
        )
    return trust


def _published(path: Path) -> _Trust:
    from steno.adapters.audit_log import read_public_keys
    from steno.errors import IntegrityError

    try:
        return _Trust(read_public_keys(path), [])
    except (OSError, IntegrityError):
        return _Trust([], [])


def _is_trusted(key_id: str, trust: _Trust) -> bool:
    from steno.core.audit_chain import fingerprint

    return key_id in trust.fingerprints or key_id in map(fingerprint, trust.keys)


def _anchor(text: str, option: str) -> Anchor:
    from steno.core.audit_verify import Anchor

    number, _, digest = text.partition(":")
    if not (number.isascii() and number.isdigit() and len(number) < 16) or not _HASH.fullmatch(
        digest
    ):
        raise typer.BadParameter("a line's number, a colon, its hash", param_hint=option)
    return Anchor(int(number), digest, option)


def _tell(out: Output, found: Findings) -> None:
    if out.json:
        out.result({"sound": found.sound, **msgspec.structs.asdict(found)})
        return
    for finding in found.findings:
        out.line(_told(finding))
    if found.more:
        out.line(f"and {found.more} more findings")
    for note in found.notes:
        out.line(f"note: {_told(note)}")
    word = "sound" if found.sound else "TAMPERED"
    out.line(
        f"{word}: {found.entries} entries, {found.lines} lines in {found.files} files, "
        f"{found.checkpoints} checkpoints, sealed to line {found.sealed_seq}"
    )
    for name in found.keys:
        out.line(f"signed with {name}")
    if found.lines and found.sound:
        out.line(f"to expect next time: {found.last_seq}:{found.last_hash}")


def _told(finding: Finding) -> str:
    place = f"{finding.file}:{finding.line}" if finding.line else finding.file
    return f"{place}: {finding.what}" if place else finding.what


def _row(line: EntryLine) -> tuple[str, ...]:
    status = f"{line.status}: {line.error}" if line.error else line.status
    return (
        str(line.seq),
        line.timestamp,
        line.event,
        line.recording_id,
        line.transcript_id or "-",
        status,
        str(line.metrics.total_words),
        line.webhook_status,
    )


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
